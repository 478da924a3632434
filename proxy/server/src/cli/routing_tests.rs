//! `interlock test`: an operator's tests of routing rules, run without a server.
//!
//! They are cases in files beside the configuration. A case gives a payment, the draw and the
//! health, and expects a route, an order and reasons. Nothing is random and nothing is now, so a
//! case that passes passes everywhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use interlock_engine::{Skip, Stamp};
use interlock_plugin_api::{CaptureMode, CredentialForm};
use serde::Deserialize;
use serde_json::{Value, json};
use toml::Spanned;

use super::client::{Code, NO, list_of};
use super::offline::{Drawing, drawing};
use super::{ConfigFile, output};
use crate::explain::{
    CustomerAsked, Given, MethodAsked, Question, Surroundings, amount_in_words, answer,
};

/// The ending of the files that hold cases.
const ENDING: &str = ".routes.toml";
/// What a case may say of an account besides its breaker.
const STATES: [Skip; 6] = [
    Skip::Drained,
    Skip::Tripped,
    Skip::Hanging,
    Skip::RateLimited,
    Skip::InFlight,
    Skip::Quarantined,
];
/// What puts an account after the others.
const DOUBTS: [Skip; 3] = [Skip::SlowStart, Skip::DomainDown, Skip::LowConversion];

/// Which cases are run.
#[derive(Args)]
pub struct Wanted {
    /// Files that end in .routes.toml, or folders of them; without any, the configuration's folder.
    paths: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
    /// Where the plugins are, if not where the configuration says.
    #[arg(long, value_name = "FOLDER")]
    plugins: Option<PathBuf>,
    /// Write what is found into the files as what is expected.
    #[arg(long)]
    update: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    /// The configuration that the cases are about, beside the file.
    #[serde(default)]
    config: Option<PathBuf>,
    #[serde(default)]
    case: Vec<Spanned<Case>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    given: World,
    payment: Asked,
    #[serde(default)]
    expect: Expected,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct World {
    /// The random number, 0 to 1.
    #[serde(default)]
    draw: f64,
    /// The time, RFC 3339, for maintenance windows; 1970 without it.
    #[serde(default)]
    at: Option<String>,
    /// By account: `open`, `half_open` or `closed`.
    #[serde(default)]
    breaker: BTreeMap<String, String>,
    /// By account: one of [`STATES`] or [`DOUBTS`].
    #[serde(default)]
    account: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    amount: String,
    method: String,
    flow: Option<String>,
    credential: Option<CredentialForm>,
    #[serde(default)]
    token_for: Vec<String>,
    capture: Option<CaptureMode>,
    country: Option<String>,
    merchant: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// What is not named is not looked at.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    route: Option<String>,
    /// No route takes the payment.
    #[serde(default)]
    no_route: bool,
    /// Who is tried in turn.
    order: Option<Vec<String>>,
    /// Accounts that are not tried, and the named reason.
    #[serde(default)]
    skipped: BTreeMap<String, String>,
}

impl Expected {
    fn is_empty(&self) -> bool {
        self.route.is_none() && !self.no_route && self.order.is_none() && self.skipped.is_empty()
    }
}

/// What routing does with a case's payment.
struct Found {
    route: Option<String>,
    order: Vec<String>,
    skipped: BTreeMap<String, String>,
}

/// One thing that is not as expected.
struct Difference {
    what: String,
    expected: String,
    found: String,
}

struct Verdict {
    name: String,
    line: usize,
    differences: Vec<Difference>,
    found: Found,
}

/// Exit 0 when all are as expected, 1 when not, 2 when they can't be run.
pub fn run(wanted: &Wanted) -> ExitCode {
    match all(wanted) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NO),
        Err(code) => ExitCode::from(code),
    }
}

fn all(wanted: &Wanted) -> Result<bool, Code> {
    let files = files(wanted).map_err(|why| {
        output::error(&why);
        2
    })?;
    let (mut told, mut cases, mut failed) = (Vec::new(), 0, 0);
    for file in &files {
        let verdicts = run_file(file, wanted)?;
        cases += verdicts.len();
        failed += verdicts.iter().filter(|v| !v.differences.is_empty()).count();
        if wanted.update {
            update(file, &verdicts).map_err(|why| {
                output::error(&format!("{}: {why}", file.display()));
                2
            })?;
        }
        if wanted.json {
            told.extend(verdicts.iter().map(|v| as_json(file, v)));
        } else {
            show(file, &verdicts);
        }
    }
    let ok = failed == 0 || wanted.update;
    if wanted.json {
        output::json(&json!({ "ok": ok, "cases": cases, "failed": failed, "results": told }));
    } else {
        let end = if wanted.update && failed > 0 { " and written as found" } else { "" };
        output::line(format_args!("test  {cases} cases, {failed} not as expected{end}"));
    }
    Ok(ok)
}

/// The named files, and those of the named folders.
fn files(wanted: &Wanted) -> Result<Vec<PathBuf>, String> {
    let beside = wanted.config.path.parent().unwrap_or(Path::new("")).to_owned();
    let beside = if beside.as_os_str().is_empty() { PathBuf::from(".") } else { beside };
    let places = if wanted.paths.is_empty() { vec![beside] } else { wanted.paths.clone() };
    let mut files = Vec::new();
    for place in places {
        if !place.is_dir() {
            files.push(place);
            continue;
        }
        let entries = std::fs::read_dir(&place);
        let entries = entries.map_err(|e| format!("can't be listed, {e}: {}", place.display()))?;
        let entries = entries.filter_map(|entry| Some(entry.ok()?.path()));
        files.extend(entries.filter(|p| p.to_string_lossy().ends_with(ENDING)));
    }
    files.sort();
    if files.is_empty() {
        return Err(format!("no file ends in {ENDING}"));
    }
    Ok(files)
}

fn run_file(file: &Path, wanted: &Wanted) -> Result<Vec<Verdict>, Code> {
    let unusable = |why: &str| {
        output::error(&format!("{}: {why}", file.display()));
        2
    };
    let text = std::fs::read_to_string(file).map_err(|e| unusable(&e.to_string()))?;
    let cases: CaseFile = toml::from_str(&text).map_err(|e| unusable(&e.to_string()))?;
    let beside = file.parent().unwrap_or(Path::new(""));
    let config = cases.config.as_ref().map(|name| beside.join(name));
    let config = config.as_deref().unwrap_or(&wanted.config.path);
    let drawing = drawing(config, wanted.plugins.as_deref())?;
    let mut verdicts = Vec::with_capacity(cases.case.len());
    for case in &cases.case {
        let line = text[..case.span().start.min(text.len())].matches('\n').count() + 1;
        let case = case.get_ref();
        let found = find(case, &drawing)
            .map_err(|why| unusable(&format!("line {line}, case `{}`: {why}", case.name)))?;
        let differences = differences(&case.expect, &found);
        verdicts.push(Verdict { name: case.name.clone(), line, differences, found });
    }
    Ok(verdicts)
}

fn find(case: &Case, drawing: &Drawing) -> Result<Found, String> {
    let (amount, currency) = amount_in_words(&case.payment.amount).map_err(|f| f.detail)?;
    let asked = &case.payment;
    let question = Question {
        amount,
        currency,
        method: MethodAsked {
            kind: asked.method.clone(),
            flow: asked.flow.clone(),
            credential: asked.credential,
            accounts: asked.token_for.clone(),
        },
        capture: asked.capture,
        customer: CustomerAsked { country: asked.country.clone() },
        merchant: asked.merchant.clone(),
        metadata: asked.metadata.clone(),
        draw: case.given.draw,
    };
    let wall_ms = match &case.given.at {
        None => 0,
        Some(at) => at
            .parse::<jiff::Timestamp>()
            .map_err(|_| "`at` must be RFC 3339, such as \"2030-01-31T22:00:00Z\"")?
            .as_millisecond(),
    };
    let around = Surroundings {
        policy: &drawing.policy,
        health: &health(&case.given, drawing)?,
        now: Stamp { wall_ms, boot: 0, mono_ms: 0 },
        places: &drawing.places,
        beside: &|_, _| Value::Null,
    };
    let told = answer(&question, &around).map_err(|f| format!("{}: {}", f.param, f.detail))?;
    Ok(found(&told))
}

fn health(given: &World, drawing: &Drawing) -> Result<Given, String> {
    let (mut skips, mut doubts) = (BTreeMap::new(), BTreeMap::new());
    let known = |account: &String| match drawing.policy.accounts.contains_key(account) {
        true => Ok(()),
        false => Err(format!("account `{account}` is not defined")),
    };
    for (account, state) in &given.breaker {
        known(account)?;
        match state.as_str() {
            "open" => drop(skips.insert(account.clone(), Skip::BreakerOpen)),
            "half_open" => drop(skips.insert(account.clone(), Skip::BreakerHalfOpen)),
            "closed" => {}
            _ => return Err(format!("a breaker is open, half_open or closed, not `{state}`")),
        }
    }
    for (account, state) in &given.account {
        known(account)?;
        let named = |skip: &Skip| skip.as_str() == state;
        match (STATES.into_iter().find(named), DOUBTS.into_iter().find(named)) {
            (Some(skip), _) => drop(skips.insert(account.clone(), skip)),
            (_, Some(doubt)) => drop(doubts.insert(account.clone(), doubt)),
            _ => {
                let words = STATES.iter().chain(&DOUBTS).map(|s| s.as_str()).collect::<Vec<_>>();
                let words = words.join(", ");
                return Err(format!("an account can be {words}, not `{state}`"));
            }
        }
    }
    Ok(Given { skips, doubts, maintenance: drawing.maintenance.clone() })
}

fn found(told: &Value) -> Found {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let candidates = list_of(told, "candidates");
    let tried = candidates.iter().filter(|c| !c["rank"].is_null());
    let skipped = candidates.iter().filter(|c| c["rank"].is_null());
    Found {
        route: told["route"].as_str().map(str::to_owned),
        order: tried.map(|c| text(&c["account"])).collect(),
        skipped: skipped.map(|c| (text(&c["account"]), text(&c["reason"]))).collect(),
    }
}

fn differences(expected: &Expected, found: &Found) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut differ = |what: &str, expected: String, found: String| {
        if expected != found {
            all.push(Difference { what: what.to_owned(), expected, found });
        }
    };
    if expected.is_empty() {
        differ("expect", "something".into(), "nothing; run with --update to write it".into());
    }
    let route = || found.route.clone().unwrap_or_else(|| "none".into());
    if expected.no_route {
        differ("route", "none".into(), route());
    }
    if let Some(wanted) = &expected.route {
        differ("route", wanted.clone(), route());
    }
    if let Some(order) = &expected.order {
        differ("order", order.join(", "), found.order.join(", "));
    }
    for (account, reason) in &expected.skipped {
        let real = match found.skipped.get(account) {
            Some(reason) => reason.clone(),
            None if found.order.contains(account) => "it is tried".into(),
            None => "it is no candidate".into(),
        };
        differ(&format!("skipped.{account}"), reason.clone(), real);
    }
    all
}

fn show(file: &Path, verdicts: &[Verdict]) {
    output::line(format_args!("{}", file.display()));
    for verdict in verdicts {
        let word = if verdict.differences.is_empty() { "ok  " } else { "FAIL" };
        let place = format!("{}:{}", file.display(), verdict.line);
        let place = if verdict.differences.is_empty() { "" } else { place.as_str() };
        output::line(format_args!("  {word}  {}  {place}", verdict.name));
        for d in &verdict.differences {
            output::line(format_args!("        {}", d.what));
            output::line(format_args!("          expected  {}", d.expected));
            output::line(format_args!("          found     {}", d.found));
        }
    }
}

fn as_json(file: &Path, v: &Verdict) -> Value {
    let differences: Vec<Value> = v
        .differences
        .iter()
        .map(|d| json!({ "what": d.what, "expected": d.expected, "found": d.found }))
        .collect();
    json!({
        "file": file.display().to_string(), "line": v.line, "name": v.name,
        "ok": v.differences.is_empty(), "differences": differences,
        "found": { "route": v.found.route, "order": v.found.order, "skipped": v.found.skipped },
    })
}

/// Writes what was found where it was not expected, and leaves everything else as it stands.
fn update(file: &Path, verdicts: &[Verdict]) -> Result<(), String> {
    if verdicts.iter().all(|v| v.differences.is_empty()) {
        return Ok(());
    }
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    let mut document: toml_edit::DocumentMut =
        text.parse().map_err(|e: toml_edit::TomlError| e.to_string())?;
    let cases = document.get_mut("case").and_then(|c| c.as_array_of_tables_mut());
    let cases = cases.ok_or("write each case as `[[case]]`, so that it can be updated")?;
    for (case, verdict) in cases.iter_mut().zip(verdicts) {
        if !verdict.differences.is_empty() {
            case.insert("expect", toml_edit::value(expectation(&verdict.found)));
        }
    }
    std::fs::write(file, document.to_string()).map_err(|e| e.to_string())
}

fn expectation(found: &Found) -> toml_edit::InlineTable {
    let mut table = toml_edit::InlineTable::new();
    match &found.route {
        None => drop(table.insert("no_route", true.into())),
        Some(route) => {
            table.insert("route", route.as_str().into());
            table.insert("order", found.order.iter().collect::<toml_edit::Array>().into());
        }
    }
    if !found.skipped.is_empty() {
        let skipped = found.skipped.iter().collect::<toml_edit::InlineTable>();
        table.insert("skipped", skipped.into());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Found {
        Found {
            route: Some("cards".into()),
            order: vec!["b".into()],
            skipped: BTreeMap::from([("a".to_owned(), "breaker_open".to_owned())]),
        }
    }

    #[test]
    fn only_what_is_named_is_looked_at() {
        let expect = |text: &str| toml::from_str::<Expected>(text).expect(text);
        for good in [
            "route = 'cards'",
            "order = ['b']",
            "skipped = { a = 'breaker_open' }",
            "route = 'cards'\norder = ['b']\nskipped = { a = 'breaker_open' }",
        ] {
            assert!(differences(&expect(good), &found()).is_empty(), "{good}");
        }
        for (bad, told) in [
            ("", "nothing; run with --update to write it"),
            ("no_route = true", "cards"),
            ("route = 'other'", "cards"),
            ("order = ['a', 'b']", "b"),
            ("skipped = { a = 'drained' }", "breaker_open"),
            ("skipped = { b = 'drained' }", "it is tried"),
            ("skipped = { c = 'drained' }", "it is no candidate"),
        ] {
            let differences = differences(&expect(bad), &found());
            assert_eq!(differences.len(), 1, "{bad}");
            assert_eq!(differences[0].found, told, "{bad}");
        }
    }

    #[test]
    fn an_update_touches_nothing_but_what_is_expected() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("a.routes.toml");
        let text = "# why\n[[case]]\nname = \"x\"  # here\npayment = { amount = \"1 EUR\" }\n\
                    expect = { route = \"old\" }\n\n[[case]]\nname = \"y\"\n";
        std::fs::write(&file, text).expect("written");
        let verdict = |bad: bool| Verdict {
            name: String::new(),
            line: 1,
            differences: bad
                .then(|| Difference {
                    what: String::new(),
                    expected: String::new(),
                    found: String::new(),
                })
                .into_iter()
                .collect(),
            found: found(),
        };
        update(&file, &[verdict(false), verdict(false)]).expect("nothing to do");
        assert_eq!(std::fs::read_to_string(&file).expect("read"), text);
        update(&file, &[verdict(true), verdict(false)]).expect("updated");
        let wanted = "expect = { route = \"cards\", order = [\"b\"], \
                      skipped = { a = \"breaker_open\" } }";
        let expected = text.replace("expect = { route = \"old\" }", wanted);
        assert_eq!(std::fs::read_to_string(&file).expect("read"), expected);
    }
}
