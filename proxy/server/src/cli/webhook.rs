//! `interlock webhook`: what merchants could not be told, and telling it again.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Server, list_of};
use super::output;

/// What can be done with webhooks.
#[derive(Subcommand)]
pub enum Command {
    /// List every webhook, and the events that are not delivered, oldest first.
    List {
        /// Only this merchant's events.
        #[arg(long)]
        merchant: Option<String>,
        /// Only events that are not tried any more.
        #[arg(long)]
        given_up: bool,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        server: Server,
    },
    /// Tell an event again, whatever became of it before.
    Redeliver {
        /// The event's id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// Tell a merchant again whose webhook answered that it is gone.
    Resume {
        /// The merchant's name in the configuration.
        merchant: String,
        #[command(flatten)]
        server: Server,
    },
}

/// Runs one of them.
pub fn run(command: Command) -> ExitCode {
    let done = match command {
        Command::List { merchant, given_up, limit, server } => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &limit.to_string());
            query.append_pair("given_up", &given_up.to_string());
            if let Some(merchant) = merchant {
                query.append_pair("merchant", &merchant);
            }
            server.get(&format!("webhooks?{}", query.finish()), list)
        }
        Command::Redeliver { id, server } => {
            server.post(&format!("webhooks/{id}/redeliver"), &json!({}), |v| {
                let of = |key: &str| v[key].as_str().unwrap_or("-").to_owned();
                output::line(format_args!("{}: {} is told again", of("id"), of("merchant")));
            })
        }
        Command::Resume { merchant, server } => {
            server.post(&format!("webhooks/{merchant}/resume"), &json!({}), |v| {
                let of = |key: &str| v[key].as_str().unwrap_or("-").to_owned();
                output::line(format_args!("{}: the webhook is told again", of("merchant")));
            })
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => ExitCode::from(code),
    }
}

fn list(body: &Value) {
    for e in list_of(body, "endpoints") {
        let of = |key: &str| e[key].as_str().unwrap_or("-").to_owned();
        let state = match e["disabled_since"].as_str() {
            Some(since) => format!("disabled since {since}: it answered that it is gone"),
            None => "open".to_owned(),
        };
        output::line(format_args!("{:<16}  {}  {state}", of("merchant"), of("endpoint")));
    }
    for id in list_of(body, "unreadable").iter().filter_map(Value::as_str) {
        output::line(format_args!("{id}  can't be read: its row is not what was written"));
    }
    let rows = list_of(body, "data");
    for m in &rows {
        let of = |key: &str| m[key].as_str().unwrap_or("-").to_owned();
        let d = &m["delivery"];
        let why = d["reason"].as_str().map(|r| format!(" ({r})")).unwrap_or_default();
        let next = d["next_try"].as_str().map(|at| format!(", next {at}")).unwrap_or_default();
        output::line(format_args!(
            "{}  {:<16}  {:<26}  {}  {}, {} tries{why}{next}",
            of("id"),
            of("merchant"),
            of("type"),
            of("payment"),
            d["state"].as_str().unwrap_or("-"),
            d["tries"].as_u64().unwrap_or(0)
        ));
    }
    if rows.is_empty() {
        output::line(format_args!("no event waits"));
    }
}
