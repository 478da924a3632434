//! `interlock account`: how the providers are doing, and what may be done to them by hand.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Server, list_of};
use super::{output, reload};
use crate::admin::guard;

/// Who does something, why, and where.
#[derive(clap::Args)]
pub struct Act {
    /// The account's name.
    name: String,
    /// Why; it is written into the trail.
    #[arg(long)]
    reason: String,
    /// Who you are.
    #[arg(long, env = "USER")]
    operator: String,
    #[command(flatten)]
    server: Server,
}

/// What can be done with accounts.
#[derive(Subcommand)]
pub enum Command {
    /// List the accounts.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Show one account: breakers, shares, conversion, what is set by hand.
    Show {
        /// The account's name.
        name: String,
        #[command(flatten)]
        server: Server,
    },
    /// Stop new payments; refunds, captures, inquiries and notifications go on.
    Drain {
        #[command(flatten)]
        act: Act,
        /// For how long, such as `30m`; without it until `resume`.
        #[arg(long = "for", value_name = "DURATION", value_parser = reload::duration)]
        duration: Option<u64>,
    },
    /// End everything that was set by hand.
    Resume {
        #[command(flatten)]
        act: Act,
    },
    /// Open breakers by hand: nothing new passes, not even a probe.
    Trip {
        #[command(flatten)]
        act: Act,
        /// For how long, such as `30m`; without it until `resume`.
        #[arg(long = "for", value_name = "DURATION", value_parser = reload::duration)]
        duration: Option<u64>,
        /// Only breakers of this method.
        #[arg(long)]
        method: Option<String>,
        /// Only breakers of this group.
        #[arg(long, value_parser = ["payments", "operations", "inquiries"])]
        group: Option<String>,
    },
    /// Ask the provider whether it is well, now. It moves no money.
    Probe {
        /// The account's name.
        name: String,
        #[command(flatten)]
        server: Server,
    },
    /// Who drained, resumed or tripped what, and why; the newest first.
    Audit {
        #[command(flatten)]
        server: Server,
    },
}

/// Runs one of them.
pub fn run(command: Command) -> ExitCode {
    let done = match command {
        Command::List { server } => server.get("accounts", list),
        Command::Show { name, server } => server.get(&format!("accounts/{name}"), show),
        Command::Drain { act, duration } => act.send("drain", duration, None, None),
        Command::Resume { act } => act.send("resume", None, None, None),
        Command::Trip { act, duration, method, group } => act.send("trip", duration, method, group),
        Command::Probe { name, server } => probe(&server, &name),
        Command::Audit { server } => server.get("audit", audit),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => ExitCode::from(code),
    }
}

impl Act {
    fn send(
        &self,
        verb: &str,
        for_ms: Option<u64>,
        method: Option<String>,
        group: Option<String>,
    ) -> Result<(), u8> {
        let mut body = json!({ "reason": self.reason, "operator": self.operator });
        let members = [
            ("for_ms", for_ms.map(Value::from)),
            ("method", method.map(Value::from)),
            ("group", group.map(Value::from)),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        let path = format!("accounts/{}/{verb}", self.name);
        self.server.post(&path, &body, |account| acted(verb, account))
    }
}

/// What is true after a deed, and how to undo it.
fn acted(verb: &str, account: &Value) {
    let name = account["name"].as_str().unwrap_or("-");
    let until = |hold: &Value| match hold["until"].as_str() {
        Some(until) => format!("until {until}"),
        None => "until it is resumed".to_owned(),
    };
    let in_flight = account["in_flight"].as_u64().unwrap_or(0);
    let undo = format!("Undo: interlock account resume {name}");
    match verb {
        "drain" => output::line(format_args!(
            "{name} takes no new payments {}, {in_flight} in flight. {undo}",
            until(&account["drained"])
        )),
        "trip" => {
            let trips = list_of(account, "trips");
            let count = trips.len();
            let end = trips.first().map_or_else(String::new, until);
            output::line(format_args!("{name}: {count} breakers are held open {end}. {undo}"));
        }
        _ => {
            let serves = account["serves"].as_bool() == Some(true);
            let reason = account["reason"].as_str().unwrap_or("-");
            let told = if serves { "serves".to_owned() } else { format!("does not: {reason}") };
            output::line(format_args!("{name}: nothing is set by hand any more; it {told}"));
        }
    }
}

fn probe(server: &Server, name: &str) -> Result<(), u8> {
    let mut well = false;
    server.post(&format!("accounts/{name}/probe"), &json!({}), |found| {
        well = found["well"].as_bool() == Some(true);
        let word = if well { "is well" } else { "is not well" };
        let http = match found["http"].as_u64() {
            Some(0) | None => "no answer".to_owned(),
            Some(status) => format!("HTTP {status}"),
        };
        let ms = found["elapsed_ms"].as_u64().unwrap_or(0);
        let verdict = found["verdict"].as_str().unwrap_or("-");
        output::line(format_args!("{name} {word}: {http} in {ms} ms ({verdict})"));
    })
}

fn list(body: &Value) {
    output::line(format_args!(
        "{:<20} {:<12} {:<24} {:>9}  ALARMS",
        "ACCOUNT", "PLUGIN", "SERVES", "IN FLIGHT"
    ));
    for a in list_of(body, "accounts") {
        let text = |key: &str| a[key].as_str().unwrap_or("-").to_owned();
        let serves = match a["serves"].as_bool() {
            Some(true) => "yes".to_owned(),
            _ => format!("no: {}", text("reason")),
        };
        let alarms = list_of(&a, "alarms");
        let alarms: Vec<&str> = alarms.iter().filter_map(Value::as_str).collect();
        output::line(format_args!(
            "{:<20} {:<12} {serves:<24} {:>9}  {}",
            text("name"),
            text("plugin"),
            a["in_flight"].as_u64().unwrap_or(0),
            alarms.join(", ")
        ));
    }
}

fn show(a: &Value) {
    let text = |key: &str| a[key].as_str().unwrap_or("-").to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    output::line(format_args!("account    {}", text("name")));
    let serves = a["serves"].as_bool() == Some(true);
    let why = if serves { "yes".to_owned() } else { format!("no: {}", text("reason")) };
    output::line(format_args!("serves     {why}"));
    output::line(format_args!("plugin     {} {}", text("plugin"), text("plugin_version")));
    for share in list_of(a, "shares") {
        let group = share["group"].as_str().unwrap_or("-");
        let (now, max) = (number(&share["now"]), number(&share["max"]));
        output::line(format_args!("in flight  {group}: {now} of {max}"));
    }
    let pace = a["pace"].as_f64().unwrap_or(1.0);
    if pace < 1.0 {
        let percent = pace * 100.0;
        output::line(format_args!("pace       {percent:.0} % since the provider said too many"));
    }
    if let Some(hold) = a["drained"].as_object() {
        output::line(format_args!("drained    {}", held(&Value::Object(hold.clone()))));
    }
    for trip in list_of(a, "trips") {
        let of = |key: &str| trip[key].as_str().unwrap_or("-").to_owned();
        let told = held(&trip);
        output::line(format_args!("tripped    {} {}: {told}", of("method"), of("group")));
    }
    if let Some(until) = a["maintenance_until"].as_str() {
        output::line(format_args!("maintenance until {until}"));
    }
    for b in list_of(a, "breakers") {
        let of = |key: &str| b[key].as_str().unwrap_or("-").to_owned();
        let (calls, failed) = (number(&b["calls"]), number(&b["failed"]));
        let reason = b["reason"].as_str().map(|r| format!(" ({r})")).unwrap_or_default();
        let state = of("state");
        if state != "closed" || calls > 0 {
            output::line(format_args!(
                "breaker    {} {}: {state}{reason}, {failed} of {calls} failed",
                of("method"),
                of("group")
            ));
        }
    }
    for c in list_of(a, "conversion") {
        let method = c["method"].as_str().unwrap_or("-");
        let (created, paid) = (number(&c["created"]), number(&c["paid"]));
        let usual = c["baseline"].as_f64().map(|b| format!(", usual {:.0} %", b * 100.0));
        let low = if c["low"].as_bool() == Some(true) { ": LOW, tried last" } else { "" };
        output::line(format_args!(
            "paid       {method}: {paid} of {created}{}{low}",
            usual.unwrap_or_default()
        ));
    }
    for alarm in list_of(a, "alarms") {
        output::line(format_args!("ALARM      {}", alarm.as_str().unwrap_or("-")));
    }
}

fn held(hold: &Value) -> String {
    let of = |key: &str| hold[key].as_str().unwrap_or("-");
    let until = hold["until"].as_str().map(|u| format!(" until {u}")).unwrap_or_default();
    format!("{} by {} since {}{until}", of("reason"), who(hold), of("since"))
}

/// Who set it, and with which token of the admin door.
fn who(deed: &Value) -> String {
    guard::who(deed["operator"].as_str().unwrap_or("-"), deed["token"].as_str())
}

fn audit(body: &Value) {
    let lines = list_of(body, "data");
    for line in &lines {
        let of = |key: &str| line[key].as_str().unwrap_or("-");
        let until = line["until"].as_str().map(|u| format!(" until {u}")).unwrap_or_default();
        output::line(format_args!(
            "{}  {:<12} {:<7} {}{until}: {}",
            of("at"),
            who(line),
            of("action"),
            of("account"),
            of("reason")
        ));
    }
    if lines.is_empty() {
        output::line(format_args!("nobody has set anything by hand"));
    }
}
