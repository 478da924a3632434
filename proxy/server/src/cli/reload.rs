//! `interlock reload`: the running proxy takes up its configuration file and plugins as they are
//! now, at once or for a share of the new payments first.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::client::{Code, Server, list_of};
use super::output;
use crate::config::parse_duration;

/// How it is done.
#[derive(clap::Args)]
pub struct Wanted {
    /// A share of the new payments tries it out first, such as `10%`; it is promoted when its time
    /// is over, and rolled back when it fails where the generation before it does not.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    canary: Option<f64>,
    /// For how long the canary is looked at at least [default: 10m].
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, requires = "canary")]
    duration: Option<u64>,
    /// End the canary now: all payments go with it.
    #[arg(long, conflicts_with = "canary")]
    promote: bool,
    /// End the canary now: no payment goes with it any more.
    #[arg(long, conflicts_with_all = ["canary", "promote"])]
    roll_back: bool,
    /// Who you are.
    #[arg(long, env = "USER")]
    operator: String,
    #[command(flatten)]
    server: Server,
}

/// Exit 0 when it is in force or tried out, 1 when what ran before goes on.
pub fn run(wanted: &Wanted) -> ExitCode {
    match ask(wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => ExitCode::from(code),
    }
}

fn ask(wanted: &Wanted) -> Result<(), Code> {
    let mut body = json!({ "operator": wanted.operator });
    let path = match (wanted.promote, wanted.roll_back) {
        (true, _) => "reload/promote",
        (_, true) => "reload/roll-back",
        _ => "reload",
    };
    if let Some(share) = wanted.canary {
        body["canary"] = json!({ "share": share });
        if let Some(for_ms) = wanted.duration {
            body["canary"]["for_ms"] = for_ms.into();
        }
    }
    wanted.server.post(path, &body, |told| show(told, wanted.canary))
}

fn show(told: &Value, share: Option<f64>) {
    let generation = &told["generation"];
    match told["result"].as_str().unwrap_or("-") {
        "canary" => {
            let percent = share.unwrap_or(0.0) * 100.0;
            output::line(format_args!(
                "generation {generation} tries out {percent} % of the new payments; \
                 `interlock status` shows how it does"
            ));
        }
        "rolled_back" => output::line(format_args!(
            "the canary was rolled back; generation {generation} is in force"
        )),
        _ => output::line(format_args!("generation {generation} is in force")),
    }
    for (key, word) in
        [("added", "new"), ("changed", "opened again"), ("kept", "as before"), ("removed", "gone")]
    {
        let names = list_of(&told["accounts"], key);
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        if !names.is_empty() {
            output::line(format_args!("  {word:<13}{}", names.join(", ")));
        }
    }
    // What has a place in the file is the business of `check`; the rest is true only now.
    let warnings = list_of(told, "warnings");
    let (of_the_file, now): (Vec<Value>, Vec<Value>) =
        warnings.into_iter().partition(|warning| warning["file"] != "");
    for warning in now {
        let text = |key: &str| warning[key].as_str().unwrap_or("-").to_owned();
        let note = warning["note"].as_str().map(|note| format!("; {note}")).unwrap_or_default();
        output::line(format_args!("  warning {}  {}{note}", text("code"), text("message")));
    }
    if !of_the_file.is_empty() {
        let count = of_the_file.len();
        output::line(format_args!("  {count} warnings in the file; `interlock check` shows them"));
    }
    let keys = list_of(told, "needs_restart");
    let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
    if !keys.is_empty() {
        output::line(format_args!("  read only at a start, so not changed: {}", keys.join(", ")));
    }
}

fn share(text: &str) -> Result<f64, String> {
    let told = "write a share such as `10%`, more than 0 % and less than 100 %";
    let (number, whole) = match text.strip_suffix('%') {
        Some(number) => (number.trim(), 100.0),
        None => (text, 1.0),
    };
    let share: f64 = number.parse().map_err(|_| told.to_owned())?;
    let share = share / whole;
    if share > 0.0 && share < 1.0 { Ok(share) } else { Err(told.to_owned()) }
}

/// A duration of an argument, ms.
pub(super) fn duration(text: &str) -> Result<u64, String> {
    parse_duration(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_part_of_all() {
        assert_eq!(share("10%"), Ok(0.1));
        assert_eq!(share("0.5 %").map(|s| (s * 1_000.0).round()), Ok(5.0));
        assert_eq!(share("0.25"), Ok(0.25));
        for wrong in ["0%", "100%", "1", "-5%", "ten", "NaN", "inf"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }
}
