//! `interlock reconcile`: a provider's statement of a day beside the journal.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::{Args, ValueEnum};
use interlock_plugin_api::Packing;
use serde_json::{Value, json};

use super::case::{cells, table};
use super::client::{Code, NO, Server, list_of};
use super::output;
use crate::reconcile::{check_file, packing_of, pieces};

/// How often a run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is compared.
#[derive(Args)]
pub struct Wanted {
    /// The account in the configuration.
    #[arg(long)]
    account: String,
    /// The provider's day, like 2026-11-29.
    #[arg(long)]
    date: String,
    /// The statement's file, plain, gzip or zip; without it, the provider is asked for it.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Book what the file says, on your word. Without it the provider is asked about each payment,
    /// and what it does not confirm is a case.
    #[arg(long, requires = "file", requires = "reason")]
    book: bool,
    /// Why what the file says is true.
    #[arg(long, requires = "book")]
    reason: Option<String>,
    /// Who says so.
    #[arg(long, env = "USER", default_value = "unknown")]
    operator: String,
    /// How differences are printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    server: Server,
}

/// How differences are printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// RFC 4180, with a header.
    Csv,
    /// One document; as `--json`.
    Json,
}

/// Compares; the exit code says whether all matched.
pub fn run(wanted: &Wanted) -> ExitCode {
    match compare(wanted) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NO),
        Err(code) => ExitCode::from(code),
    }
}

fn compare(wanted: &Wanted) -> Result<bool, Code> {
    let server = &wanted.server;
    let packing = wanted.file.as_deref().map(whole).transpose()?;
    let mut asked = json!({
        "account": wanted.account, "date": wanted.date, "file": wanted.file.is_some(),
    });
    if wanted.book {
        asked["book"] = json!({ "reason": wanted.reason, "operator": wanted.operator });
    }
    let begun = server.tell("reconciliations", &asked)?;
    let id = begun["id"].as_str().unwrap_or_default().to_owned();
    let ended = match wanted.file.as_deref().zip(packing) {
        Some((file, packing)) => bring(server, &id, file, packing)?,
        None => watch(server, &id)?,
    };
    output::progress_ends();
    let cases = cases(server, &wanted.account, &wanted.date)?;
    let is_done = ended["status"] == "done";
    match if server.json { Format::Json } else { wanted.format } {
        Format::Json => output::json(&json!({ "reconciliation": ended, "cases": cases })),
        Format::Csv => csv(&cases),
        Format::Table => {
            table(&cases);
            summary(&ended);
            let open = cases.iter().any(|case| case["open"] == true);
            if open && wanted.file.is_some() && !wanted.book {
                output::line(format_args!(
                    "nothing was booked on the word of a file; to do so: --book --reason \"...\""
                ));
            }
        }
    }
    if let Some(why) = ended["error"].as_str() {
        output::error(&format!("not compared to its end: {why}"));
    }
    Ok(is_done && ended["differ"] == 0)
}

/// Watches a run that goes on by itself.
fn watch(server: &Server, id: &str) -> Result<Value, Code> {
    loop {
        let run = server.ask(&format!("reconciliations/{id}"))?;
        if run["status"] != "running" {
            return Ok(run);
        }
        progress(&run);
        std::thread::sleep(LOOK_EVERY);
    }
}

/// How a file is packed, once it is known that all of it can be unpacked.
fn whole(file: &Path) -> Result<Packing, Code> {
    let packing = packing_of(file).map_err(|why| failed(file, &why))?;
    check_file(file, packing, None).map_err(|why| failed(file, &why))?;
    Ok(packing)
}

fn failed(file: &Path, why: &str) -> Code {
    output::progress_ends();
    output::error(&format!("{}: {why}", file.display()));
    NO
}

/// Brings a file, piece by piece.
fn bring(server: &Server, id: &str, file: &Path, packing: Packing) -> Result<Value, Code> {
    let mut ended = Value::Null;
    let mut refused = None;
    let brought = pieces(file, packing, &mut |piece| {
        let body = json!({ "piece": BASE64.encode(&piece.bytes), "last": piece.last });
        match server.tell(&format!("reconciliations/{id}/pieces"), &body) {
            Ok(run) => {
                progress(&run);
                let over = run["status"] != "running";
                ended = run;
                if over && !piece.last { Err(String::new()) } else { Ok(()) }
            }
            Err(code) => {
                refused = Some(code);
                Err(String::new())
            }
        }
    });
    match (refused, brought) {
        (Some(code), _) => Err(code),
        (None, Err(why)) if !why.is_empty() => Err(failed(file, &why)),
        _ => Ok(ended),
    }
}

fn progress(run: &Value) {
    output::progress(&format!(
        "{} lines, {} agree, {} differ",
        run["lines"], run["agrees"], run["differ"]
    ));
}

/// Every case of that day.
fn cases(server: &Server, account: &str, date: &str) -> Result<Vec<Value>, Code> {
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("account", account), ("date", date), ("limit", "500")])
            .append_pair("after", &after.to_string())
            .finish();
        let page = server.ask(&format!("cases?{query}"))?;
        all.extend(list_of(&page, "data"));
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => return Ok(all),
        }
    }
}

fn summary(run: &Value) {
    let number = |key: &str| run[key].as_u64().unwrap_or(0);
    output::line(format_args!(
        "{} lines: {} agree, {} differ ({} booked now), {} settled by hand, {} pending, \
         {} about something else",
        number("lines"),
        number("agrees"),
        number("differ"),
        number("booked"),
        number("settled"),
        number("pending"),
        number("ignored"),
    ));
    if number("at_the_edges") > 0 {
        output::line(format_args!(
            "{} of ours at the edges of the day may stand in a neighbour's statement",
            number("at_the_edges")
        ));
    }
    if run["covers"].is_null() {
        output::line(format_args!(
            "the statement does not say what time it covers, so what it lacks is not known"
        ));
    }
}

fn csv(cases: &[Value]) {
    output::line(format_args!(
        "case,open,kind,payment,number,provider_ref,theirs,ours,currency,status,at"
    ));
    for case in cases {
        let quoted: Vec<String> = cells(case).iter().map(|cell| quote(cell)).collect();
        output::line(format_args!("{}", quoted.join(",")));
    }
}

/// A field of RFC 4180. A text that a spreadsheet would take for a formula is kept a text.
fn quote(cell: &str) -> String {
    let formula =
        cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.parse::<f64>().is_err();
    let cell = if formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains(['"', ',', '\n', '\r']) {
        return format!("\"{}\"", cell.replace('"', "\"\""));
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_a_file_is_one_field_and_no_formula() {
        for (cell, written) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"so\"", "\"say \"\"so\"\"\""),
            ("=1+1", "'=1+1"),
            ("-12.50", "-12.50"),
            ("-x", "'-x"),
        ] {
            assert_eq!(quote(cell), written);
        }
    }
}
