//! `interlock case`: differences between the journal and the providers' statements.

use std::process::ExitCode;

use clap::Subcommand;
use interlock_plugin_api::{Currency, format_units};
use serde_json::{Value, json};

use super::client::{Server, list_of};
use super::output;
use crate::setup::iso_exponent;

/// What can be done with cases.
#[derive(Subcommand)]
pub enum Command {
    /// List cases, as they were opened.
    List {
        /// Only those of this account.
        #[arg(long)]
        account: Option<String>,
        /// Only those of this day, like 2026-11-29.
        #[arg(long)]
        date: Option<String>,
        /// Those that are closed, too.
        #[arg(long)]
        all: bool,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        server: Server,
    },
    /// Show one case with its timeline.
    Show {
        /// The case's id.
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// Close a case that somebody has looked at. It is written into its timeline.
    Close {
        /// The case's id.
        id: String,
        /// Why it is settled.
        #[arg(long)]
        reason: String,
        /// Who says so.
        #[arg(long, env = "USER")]
        operator: String,
        #[command(flatten)]
        server: Server,
    },
}

/// Runs one of them.
pub fn run(command: Command) -> ExitCode {
    let done = match command {
        Command::List { account, date, all, limit, server } => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &limit.to_string());
            for (name, value) in [("account", account), ("date", date)] {
                if let Some(value) = value {
                    query.append_pair(name, &value);
                }
            }
            if !all {
                query.append_pair("open", "true");
            }
            server.get(&format!("cases?{}", query.finish()), |body| {
                let cases = list_of(body, "data");
                table(&cases);
                for id in list_of(body, "unreadable").iter().filter_map(Value::as_str) {
                    let why = "can't be read: its row is not what was written";
                    output::line(format_args!("{id}  {why}"));
                }
                if cases.is_empty() {
                    output::line(format_args!("no case"));
                }
            })
        }
        Command::Show { id, server } => server.get(&format!("cases/{id}"), show),
        Command::Close { id, reason, operator, server } => {
            let body = json!({ "reason": reason, "operator": operator });
            server.post(&format!("cases/{id}/close"), &body, show)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => ExitCode::from(code),
    }
}

/// A case in cells: id, open, kind, payment, number, provider's number, their amount, ours,
/// currency, status, time.
pub fn cells(case: &Value) -> [String; 11] {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (theirs, ours) = (&case["theirs"], &case["ours"]);
    let currency = [&theirs["currency"], &ours["currency"]].into_iter().find(|c| c.is_string());
    let currency = currency.map(text).unwrap_or_default();
    let amount = |value: &Value| match value.as_i64() {
        Some(amount) => amount.to_string(),
        None => String::new(),
    };
    let number = [&theirs["operation"], &theirs["number"], &ours["id"]];
    let number = number.into_iter().find(|n| n.is_string()).map(text).unwrap_or_default();
    let theirs_ref = [&theirs["operation_ref"], &theirs["provider_ref"]];
    let reference = theirs_ref.into_iter().find(|n| n.is_string()).map(text).unwrap_or_default();
    [
        text(&case["id"]),
        if case["open"] == true { "open" } else { "closed" }.to_owned(),
        text(&case["kind"]),
        text(&case["payment"]),
        number,
        reference,
        amount(&theirs["amount"]),
        amount(&ours["amount"]),
        currency,
        text(&ours["status"]),
        text(if theirs["at"].is_string() { &theirs["at"] } else { &case["opened"] }),
    ]
}

/// Cases for people: one line each.
pub fn table(cases: &[Value]) {
    for case in cases {
        let [id, open, kind, payment, number, reference, theirs, ours, currency, ..] = cells(case);
        let [theirs, ours] = [theirs, ours].map(|minor| decimal(&minor, &currency));
        let amounts = match (theirs, ours) {
            (None, ours) => format!("ours {} {currency}", ours.as_deref().unwrap_or("?")),
            (Some(theirs), None) => format!("theirs {theirs} {currency}"),
            (Some(theirs), Some(ours)) => format!("theirs {theirs}, ours {ours} {currency}"),
        };
        let payment = if payment.is_empty() { "no payment" } else { &payment };
        output::line(format_args!(
            "{id}  {open:<6}  {kind:<17}  {payment}  {amounts}  {number}  {reference}"
        ));
    }
}

/// Minor units as people write them.
fn decimal(minor: &str, currency: &str) -> Option<String> {
    let amount: i64 = minor.parse().ok()?;
    Some(format_units(amount, iso_exponent(Currency::parse(currency)?)?))
}

fn show(case: &Value) {
    table(std::slice::from_ref(case));
    for entry in list_of(case, "timeline") {
        let of = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
        output::line(format_args!("  {}  {:<14}  {}", of("at"), of("actor"), of("what")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_people_write_them() {
        for (minor, currency, written) in [
            ("1234", "CNY", Some("12.34")),
            ("-5", "EUR", Some("-0.05")),
            ("500", "JPY", Some("500")),
            ("1", "KWD", Some("0.001")),
            ("", "EUR", None),
        ] {
            assert_eq!(decimal(minor, currency).as_deref(), written);
        }
    }
}
