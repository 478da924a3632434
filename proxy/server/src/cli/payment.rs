//! `interlock payment`: where a customer's money is, and what may safely be done about it.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Server, list_of};
use super::output;

/// What can be done with payments.
#[derive(Subcommand)]
pub enum Command {
    /// Show one payment.
    Show {
        /// The payment's id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// What happened to one payment, in order.
    Timeline {
        /// The payment's id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// List payments, newest first.
    List {
        /// Only those whose outcome is unknown.
        #[arg(long)]
        in_doubt: bool,
        /// Only those of this account.
        #[arg(long)]
        account: Option<String>,
        /// Only those with this status.
        #[arg(long)]
        status: Option<String>,
        /// Only those of this order.
        #[arg(long)]
        merchant_ref: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        server: Server,
    },
    /// Ask the provider again, now.
    Recheck {
        /// The payment's id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// Say what became of a payment in doubt, with evidence. It is written into the timeline.
    Resolve {
        /// The payment's id.
        id: String,
        /// `succeeded`: the money moved; `failed`: none did.
        #[arg(long, value_parser = ["succeeded", "failed"])]
        outcome: String,
        /// The evidence: where you looked and what you saw.
        #[arg(long)]
        reason: String,
        /// The provider's number of the payment; needed when the money moved.
        #[arg(long)]
        provider_ref: Option<String>,
        /// The attempt's or operation's id, when more than one is in doubt.
        #[arg(long)]
        subject: Option<String>,
        /// Who you are.
        #[arg(long, env = "USER")]
        operator: String,
        #[command(flatten)]
        server: Server,
    },
}

/// Runs one of them.
pub fn run(command: Command) -> ExitCode {
    let done = match command {
        Command::Show { id, server } => server.get(&format!("payments/{id}"), show),
        Command::Timeline { id, server } => {
            server.get(&format!("payments/{id}/timeline"), timeline)
        }
        Command::List { in_doubt, account, status, merchant_ref, limit, server } => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &limit.to_string());
            if in_doubt {
                query.append_pair("in_doubt", "true");
            }
            for (name, value) in
                [("account", account), ("status", status), ("merchant_ref", merchant_ref)]
            {
                if let Some(value) = value {
                    query.append_pair(name, &value);
                }
            }
            server.get(&format!("payments?{}", query.finish()), list)
        }
        Command::Recheck { id, server } => {
            server.post(&format!("payments/{id}/recheck"), &json!({}), |v| {
                let asked = v["asked"].as_bool() == Some(true);
                let told = if asked { "the provider is being asked" } else { "nothing to ask" };
                output::line(format_args!("{}: {told}", v["payment"].as_str().unwrap_or("-")));
            })
        }
        Command::Resolve { id, outcome, reason, provider_ref, subject, operator, server } => {
            let body = json!({
                "outcome": outcome, "reason": reason, "provider_ref": provider_ref,
                "subject": subject, "operator": operator,
            });
            server.post(&format!("payments/{id}/resolve"), &body, show)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => ExitCode::from(code),
    }
}

fn show(p: &Value) {
    let text = |key: &str| p[key].as_str().unwrap_or("-").to_owned();
    let number = |key: &str| p[key].as_i64().unwrap_or(0);
    let reason = p["status_reason"].as_str().map(|r| format!(" ({r})")).unwrap_or_default();
    output::line(format_args!("payment   {}", text("id")));
    output::line(format_args!("status    {}{reason}", text("status")));
    output::line(format_args!(
        "amount    {} minor units of {} · captured {} · refunded {}",
        number("amount"),
        text("currency"),
        number("amount_captured"),
        number("amount_refunded")
    ));
    output::line(format_args!("merchant  {} · order {}", text("merchant"), text("merchant_ref")));
    output::line(format_args!("route     {} · failover {}", text("route"), text("failover")));
    for a in list_of(p, "attempts") {
        let of = |key: &str| a[key].as_str().unwrap_or("-").to_owned();
        let why = a["reason"].as_str().map(|r| format!(" ({r})")).unwrap_or_default();
        output::line(format_args!(
            "attempt   {} · {} · {}{why} · our number {} · theirs {}",
            of("id"),
            of("account"),
            of("state"),
            of("op_id"),
            of("provider_ref")
        ));
    }
    for o in list_of(p, "operations") {
        let of = |key: &str| o[key].as_str().unwrap_or("-").to_owned();
        let amount = o["amount"].as_i64().unwrap_or(0);
        output::line(format_args!(
            "{:<9} {} · {amount} · {} · asked by {}",
            of("kind"),
            of("id"),
            of("state"),
            of("origin")
        ));
    }
    if p["in_doubt"].as_bool() == Some(true) {
        let soon = p["next_look_in_ms"].as_i64().unwrap_or(0).max(0) / 1_000;
        output::line(format_args!("in doubt  next look in {soon} s; another account is not tried"));
        for d in list_of(p, "doubts") {
            let of = |key: &str| d[key].as_str().unwrap_or("-").to_owned();
            output::line(format_args!("          {}: {}", of("subject"), of("what")));
        }
    }
}

fn timeline(body: &Value) {
    output::line(format_args!("{:>4}  {:<24}  {:<16}  WHAT", "#", "TIME", "WHO"));
    for e in list_of(body, "data") {
        let of = |key: &str| e[key].as_str().unwrap_or("-").to_owned();
        let why = e["reason"].as_str().map(|r| format!(" ({r})")).unwrap_or_default();
        let seq = e["seq"].as_u64().unwrap_or(0);
        output::line(format_args!(
            "{seq:>4}  {:<24}  {:<16}  {}{why}",
            of("at"),
            of("actor"),
            of("what")
        ));
    }
}

fn list(body: &Value) {
    let rows = list_of(body, "data");
    for p in &rows {
        let text = |key: &str| p[key].as_str().unwrap_or("-").to_owned();
        let reason = p["status_reason"].as_str().map(|r| format!(" ({r})")).unwrap_or_default();
        let amount = p["amount"].as_i64().unwrap_or(0);
        let age = p["age_ms"].as_i64().unwrap_or(0) / 1_000;
        output::line(format_args!(
            "{}  {amount:>10} {}  {:<16}  {:>6} s  {}{reason}",
            text("id"),
            text("currency"),
            text("account"),
            age,
            text("status")
        ));
    }
    let unreadable = list_of(body, "unreadable");
    for id in unreadable.iter().filter_map(Value::as_str) {
        output::line(format_args!("{id}  CAN'T BE READ: its row is not what was written"));
    }
    if rows.is_empty() && unreadable.is_empty() {
        output::line(format_args!("no payments"));
    } else if body["has_more"].as_bool() == Some(true) {
        output::line(format_args!("more: raise --limit or narrow the list"));
    }
}
