//! `interlock explain`: who would be tried for a payment, in which order, and why others not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use interlock_engine::Stamp;
use interlock_plugin_api::{CaptureMode, CredentialForm};
use serde_json::{Value, json};

use super::client::{Code, NO, Server, list_of};
use super::{offline, output};
use crate::explain::{
    CustomerAsked, Given, MethodAsked, Question, Surroundings, amount_in_words, answer,
    words_of_amount,
};

const FORMS: &str =
    "none|auth_code|open_id|network_token|card|encrypted_wallet_token|account_token";

/// The payment that is asked about.
#[derive(Args)]
pub struct Asked {
    /// How much: 49.00EUR.
    #[arg(long)]
    amount: String,
    /// How the shopper pays: card, or another method type of the API.
    #[arg(long)]
    method: String,
    /// The flow; without it, the one that most accounts take.
    #[arg(long)]
    flow: Option<String>,
    /// The credential; without it, the one that most accounts take.
    #[arg(long, value_parser = form, value_name = FORMS)]
    credential: Option<CredentialForm>,
    /// An account that a stored token is for; without it, all are.
    #[arg(long, value_name = "ACCOUNT")]
    token_for: Vec<String>,
    /// The money is taken later, by a capture.
    #[arg(long)]
    manual_capture: bool,
    /// The customer's country: two letters.
    #[arg(long)]
    country: Option<String>,
    /// The merchant who asks.
    #[arg(long)]
    merchant: Option<String>,
    /// One of the merchant's notes: key=value.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// The random number, 0 to 1, that chooses among weighted accounts.
    #[arg(long, default_value_t = 0.0)]
    draw: f64,
    /// Ask the configuration alone, as if all accounts were well.
    #[arg(long, requires = "config")]
    offline: bool,
    /// With --offline: where the plugins are, if not where the configuration says.
    #[arg(long, value_name = "FOLDER", requires = "offline")]
    plugins: Option<PathBuf>,
    #[command(flatten)]
    server: Server,
}

/// Exit 0 when an account would be tried, 1 when none.
pub fn run(asked: &Asked) -> ExitCode {
    let question = match question(asked) {
        Ok(question) => question,
        Err(why) => {
            output::error(&why);
            return ExitCode::from(2);
        }
    };
    let told = if asked.offline { alone(asked, &question) } else { online(asked, &question) };
    match told {
        Err(code) => ExitCode::from(code),
        Ok(told) => {
            if asked.server.json {
                output::json(&told);
            } else {
                show(&told, asked.offline);
            }
            let tried = list_of(&told, "candidates").iter().any(|c| !c["rank"].is_null());
            if tried { ExitCode::SUCCESS } else { ExitCode::from(NO) }
        }
    }
}

fn question(asked: &Asked) -> Result<Question, String> {
    let (amount, currency) = amount_in_words(&asked.amount)
        .map_err(|fault| format!("--{}: {}", fault.param, fault.detail))?;
    Ok(Question {
        amount,
        currency,
        method: MethodAsked {
            kind: asked.method.clone(),
            flow: asked.flow.clone(),
            credential: asked.credential,
            accounts: asked.token_for.clone(),
        },
        capture: asked.manual_capture.then_some(CaptureMode::Manual),
        customer: CustomerAsked { country: asked.country.clone() },
        merchant: asked.merchant.clone(),
        metadata: asked.metadata.iter().cloned().collect::<BTreeMap<_, _>>(),
        draw: asked.draw,
    })
}

fn online(asked: &Asked, question: &Question) -> Result<Value, Code> {
    let body = serde_json::to_value(question).unwrap_or_default();
    asked.server.tell("explain", &body)
}

fn alone(asked: &Asked, question: &Question) -> Result<Value, Code> {
    let config = asked.server.config.as_deref().ok_or(2)?;
    let drawing = offline::drawing(config, asked.plugins.as_deref())?;
    let around = Surroundings {
        policy: &drawing.policy,
        health: &Given { maintenance: drawing.maintenance.clone(), ..Given::default() },
        now: Stamp { wall_ms: jiff::Timestamp::now().as_millisecond(), boot: 0, mono_ms: 0 },
        places: &drawing.places,
        beside: &|_, _| Value::Null,
    };
    answer(question, &around).map_err(|fault| {
        output::error(&format!("{}: {}", fault.param, fault.detail));
        NO
    })
}

fn show(told: &Value, offline: bool) {
    let text = |key: &str| told[key].as_str().unwrap_or("-").to_owned();
    let amount = told["amount"].as_i64().unwrap_or(0);
    let amount = words_of_amount(amount, told["currency"].as_str().unwrap_or(""));
    let method = &told["method"];
    let of = |key: &str| method[key].as_str().unwrap_or("-").to_owned();
    let assumed = if method["assumed"] == true { ", as most accounts take it" } else { "" };
    output::line(format_args!(
        "payment    {amount} · {} {} ({}){assumed}",
        of("type"),
        of("flow"),
        of("credential")
    ));
    if told["route"].is_null() {
        output::line(format_args!("route      none: no route takes this payment"));
    } else {
        let by = list_of(told, "matched_by").iter().map(matched).collect::<Vec<_>>().join(", ");
        let by = if by.is_empty() { "every payment".into() } else { format!("matched by {by}") };
        output::line(format_args!("route      {}  {by}  {}", text("route"), text("place")));
        let draw = told["draw"].as_f64().unwrap_or(0.0);
        let drawn =
            if told["strategy"] == "weighted" { format!(" · draw {draw}") } else { "".into() };
        output::line(format_args!(
            "failover   {} · at most {} accounts{drawn}",
            text("failover"),
            told["attempts_max"]
        ));
    }
    let candidates = list_of(told, "candidates");
    let name = |c: &Value| c["account"].as_str().unwrap_or("-").to_owned();
    let width = candidates.iter().map(|c| name(c).len()).max().unwrap_or(0);
    for c in &candidates {
        let share = c["share"].as_f64().map(|s| format!("{:.0} %", s * 100.0)).unwrap_or_default();
        let rank = c["rank"].as_u64().map_or("-".into(), |rank| rank.to_string());
        output::line(format_args!(
            "{rank}  {:<width$}  {share:>5}  {}",
            name(c),
            stands(c, offline)
        ));
    }
    if offline {
        output::line(format_args!("offline    as if every account were well"));
    }
    for r in list_of(told, "refused") {
        let of = |key: &str| r[key].as_str().unwrap_or("-").to_owned();
        let by: Vec<String> =
            list_of(&r, "by").iter().filter_map(|k| k.as_str().map(str::to_owned)).collect();
        let (route, place) = (of("route"), of("place"));
        output::line(format_args!("not        {route}, because of {}  {place}", by.join(", ")));
    }
}

fn matched(by: &Value) -> String {
    let value = match &by["value"] {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    format!("{}={value}", by["key"].as_str().unwrap_or("-"))
}

fn stands(c: &Value, offline: bool) -> String {
    let mut health = if offline { String::new() } else { health(&c["health"]) };
    if let Some(words) = c["demoted_words"].as_str() {
        health += &format!(" · after the others: {words}");
    }
    match (c["reason"].as_str(), c["rank"].as_u64()) {
        (None, Some(1)) => format!("would be tried first  {health}").trim_end().to_owned(),
        (None, _) => format!("next in turn          {health}").trim_end().to_owned(),
        (Some(reason), _) => {
            let when = if c["after_failover"] == true { "not after those" } else { "skipped" };
            // Who set it by hand, with which token, and why says more than the word.
            let by_hand = matches!(reason, "drained" | "tripped");
            let who = c["health"]["why"].as_str().filter(|_| by_hand);
            let words = who.or(c["words"].as_str()).unwrap_or("-");
            format!("{when}: {reason} · {words}")
        }
    }
}

/// `closed · 99.2 % · p95 410 ms · 38/200 per s`: what is known of it.
fn health(h: &Value) -> String {
    let mut parts = Vec::new();
    parts.extend(h["breaker"]["state"].as_str().map(str::to_owned));
    parts.extend(h["success"].as_f64().map(|s| format!("{:.1} %", s * 100.0)));
    parts.extend(h["p95_ms"].as_u64().map(|ms| format!("p95 {ms} ms")));
    if let (Some(used), Some(limit)) =
        (h["limit"]["used_per_second"].as_u64(), h["limit"]["per_second"].as_f64())
    {
        parts.push(format!("{used}/{limit} per s"));
    }
    parts.join(" · ")
}

fn form(text: &str) -> Result<CredentialForm, String> {
    serde_json::from_value(json!(text)).map_err(|_| "no such form of a credential".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
