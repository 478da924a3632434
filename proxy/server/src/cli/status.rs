//! `interlock status`: one screen of truth.
//!
//! The page is a pure function of what the server says, at most a hundred columns wide, and every
//! state is a word before it is a colour.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::client::{Server, list_of};
use super::output;

const COLUMNS: usize = 100;
const NAME: usize = 20;
const BREAKER: usize = 30;
/// How often `--watch` looks.
const EVERY: Duration = Duration::from_secs(1);

/// How it is shown.
#[derive(Args)]
pub struct Look {
    /// Look again every second, until it is stopped.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    server: Server,
}

/// Exit 0 when the proxy answers, 3 when it can't be reached.
pub fn run(look: &Look) -> ExitCode {
    let screen = look.watch && !look.server.json && io::stdout().is_terminal();
    let mut seen = false;
    loop {
        match look.server.ask("status") {
            Ok(told) if look.server.json => output::json(&told),
            Ok(told) => {
                // Home and clear below: a terminal that scrolls back keeps its history.
                let home = if screen { "\x1b[H\x1b[J" } else { "" };
                output::line(format_args!("{home}{}", page(&told, output::colours())));
            }
            // Who watches a restart wants to see its end.
            Err(_) if seen => {}
            Err(code) => return ExitCode::from(code),
        }
        if !look.watch {
            return ExitCode::SUCCESS;
        }
        seen = true;
        std::thread::sleep(EVERY);
    }
}

/// The page, without the last line break.
fn page(told: &Value, colours: bool) -> String {
    let paint = Paint(colours);
    let ready = if told["ready"] == true { paint.good("ready") } else { paint.bad("NOT READY") };
    let mut lines = vec![
        format!(
            "interlock {} · generation {} · up {} · {ready}",
            told["version"].as_str().unwrap_or("-"),
            told["generation"],
            span(told["up_ms"].as_u64())
        ),
        format!(
            "{:<NAME$} {:<BREAKER$} {:>10} {:>8} {:>10} {:>17}",
            "ACCOUNT", "BREAKER", "SUCCESS 5m", "P95", "IN FLIGHT", "LIMIT"
        ),
    ];
    for account in list_of(told, "accounts") {
        lines.push(row(&account, &paint));
        let why = account["now"]["why"].as_str();
        let why = why.or_else(|| account["reason"].as_str().filter(|_| account["now"].is_null()));
        lines.extend(why.map(wrapped).unwrap_or_default());
    }
    lines.push(payments(told, &paint));
    lines.push(journal(told, &paint));
    lines.extend(restoration(told, &paint));
    lines.extend(canary(told));
    lines.extend(not_taken_up(told, &paint));
    lines.join("\n")
}

/// How far a journal that was restored from a backup is.
fn restoration(told: &Value, paint: &Paint) -> Vec<String> {
    let about = &told["restoration"];
    let now = &about["now"];
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let phase = match about["phase"].as_str() {
        None => return Vec::new(),
        Some("waiting") => format!("waits until {} for what is on its way", text(&now["until"])),
        Some("statements") => {
            format!("reads the statement of {} of {}", text(&now["account"]), text(&now["date"]))
        }
        Some("payments") => format!("{} of {} payments were asked about", now["heard"], now["all"]),
        _ if about["covered"] == true => return Vec::new(),
        _ => "open; keys that it does not know are asked for at the providers".to_owned(),
    };
    let backup = text(&about["backup"]);
    let mut lines = vec![paint.bad(&format!("restored from a backup of {backup}: {phase}"))];
    for account in list_of(about, "accounts") {
        let waits = account["statements"] == true && account["unasked"] == false;
        if waits && account["covered"] == false {
            let (name, through) = (text(&account["account"]), text(&account["through"]));
            lines.push(format!("  {name}: its statements reach to {through}"));
        }
    }
    lines
}

fn row(account: &Value, paint: &Paint) -> String {
    let name = cut(account["name"].as_str().unwrap_or("-"), NAME);
    let now = &account["now"];
    if now.is_null() {
        return format!("{name:<NAME$} {}", paint.bad("does not serve"));
    }
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let success = now["success"].as_f64().map_or("-".into(), percent);
    let p95 = now["p95_ms"].as_u64().map_or("-".into(), |ms| span(Some(ms)));
    let limit = match (now["limit"]["used_per_second"].as_u64(), now["limit"]["rate"].as_str()) {
        (Some(used), Some(rate)) => {
            format!("{used} of {}", rate.split(" burst").next().unwrap_or(rate))
        }
        _ => "-".into(),
    };
    let (words, mood) = breaker(account);
    let state = paint.mood(&format!("{:<BREAKER$}", cut(&words, BREAKER)), mood);
    format!(
        "{name:<NAME$} {state} {success:>10} {p95:>8} {:>10} {limit:>17}",
        now["in_flight"].as_u64().unwrap_or(0)
    )
}

#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Good,
    Wary,
    Bad,
}

/// `open 12 s, probe in 18 s`, and how bad that is.
fn breaker(account: &Value) -> (String, Mood) {
    let b = &account["now"]["breaker"];
    let state = b["state"].as_str().unwrap_or("-");
    let mut words = state.replace('_', "-");
    if let Some(ms) = b["for_ms"].as_u64() {
        words += &format!(" {}", span(Some(ms)));
    }
    if let Some(ms) = b["retry_after_ms"].as_u64() {
        words += &format!(", probe in {}", span(Some(ms)));
    }
    let serves = account["serves"] != false;
    if !serves {
        let reason = account["reason"].as_str().filter(|r| r.len() < 12).unwrap_or("stopped");
        return (format!("{reason} · {words}"), Mood::Wary);
    }
    let mood = match state {
        "closed" => Mood::Good,
        "open" | "forced_open" => Mood::Bad,
        _ => Mood::Wary,
    };
    (words, mood)
}

fn payments(told: &Value, paint: &Paint) -> String {
    let lately = &told["recent"];
    let rate = lately["per_second"].as_f64().unwrap_or(0.0);
    let in_time = lately["answered_in_time"].as_f64();
    let in_time = in_time.map(|s| format!(" · {:.1} % answered in time", s * 100.0));
    let doubts = told["in_doubt"]["payments"].as_u64().unwrap_or(0);
    let oldest = told["in_doubt"]["oldest_ms"].as_u64();
    let doubts = match (doubts, oldest) {
        (0, _) => "none in doubt".to_owned(),
        (n, oldest) => paint.bad(&format!("{n} in doubt (oldest {})", span(oldest))),
    };
    format!("PAYMENTS  {rate:.1}/s{} · {doubts}", in_time.unwrap_or_default())
}

/// `CANARY    generation 8 · 10 % of new payments · 9 min left`, and how each account does.
fn canary(told: &Value) -> Vec<String> {
    let canary = &told["canary"];
    let Some(share) = canary["share"].as_f64() else { return Vec::new() };
    let left = match canary["left_ms"].as_u64() {
        Some(0) => "promoted when it has done enough".to_owned(),
        left => format!("{} left", span(left)),
    };
    let generation = &canary["generation"];
    let percent = (share * 1_000.0).round() / 10.0;
    let first = format!("CANARY    generation {generation} · {percent} % of new payments · {left}");
    let accounts = list_of(canary, "accounts").into_iter().map(|account| {
        let name = cut(account["name"].as_str().unwrap_or("-"), NAME);
        let tally = |of: &Value| format!("{} of {} bad", of["bad"], of["exchanges"]);
        let (canary, before) = (tally(&account["canary"]), tally(&account["before"]));
        format!("          {name:<NAME$} {canary}; before it {before}")
    });
    std::iter::once(first).chain(accounts).collect()
}

/// The last reload, when what it wanted is not in force.
fn not_taken_up(told: &Value, paint: &Paint) -> Vec<String> {
    let reload = &told["reload"];
    let what = match reload["result"].as_str() {
        Some("kept") => "was not taken up",
        Some("rolled_back") => "was rolled back",
        _ => return Vec::new(),
    };
    let at = reload["at"].as_str().unwrap_or("-");
    let first = format!("RELOAD    generation {} {what} at {at}", reload["generation"]);
    let why = reload["why"].as_str().map(wrapped).unwrap_or_default();
    std::iter::once(paint.bad(&first)).chain(why).collect()
}

fn journal(told: &Value, paint: &Paint) -> String {
    let journal = &told["journal"];
    let health = journal["health"].as_str().unwrap_or("-").replace('_', " ");
    let mood = if health == "writable" { Mood::Good } else { Mood::Bad };
    let sync = journal["sync_p99_us"].as_u64();
    let sync = sync.map_or("-".into(), |us| format!("{:.1} ms", us as f64 / 1_000.0));
    format!(
        "JOURNAL   {} · sync p99 {sync} · {} open of {}",
        paint.mood(&health, mood),
        journal["open"],
        journal["payments"]
    )
}

/// A time as a person says it, rounded down to two units at most.
pub(super) fn span(ms: Option<u64>) -> String {
    let Some(ms) = ms else { return "-".into() };
    let (s, m, h) = (ms / 1_000, ms / 60_000, ms / 3_600_000);
    match (h, m, s) {
        (0, 0, 0) => format!("{ms} ms"),
        (0, 0, 1..10) => format!("{:.1} s", ms as f64 / 1_000.0),
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {} s", s % 60),
        (h, m, _) if h < 48 => format!("{h} h {} min", m % 60),
        (h, ..) => format!("{} d {} h", h / 24, h % 24),
    }
}

/// A reason under its account, in lines that fit.
fn wrapped(why: &str) -> Vec<String> {
    let mut lines: Vec<String> = vec![format!("{:NAME$} └", "")];
    for word in why.split_whitespace() {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last + 1 + word.chars().count() > COLUMNS {
            lines.push(format!("{:NAME$}  ", ""));
        }
        if let Some(line) = lines.last_mut() {
            line.push(' ');
            line.push_str(&cut(word, COLUMNS - NAME - 4));
        }
    }
    lines
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

struct Paint(bool);

impl Paint {
    fn mood(&self, text: &str, mood: Mood) -> String {
        let code = match mood {
            Mood::Good => 32,
            Mood::Wary => 33,
            Mood::Bad => 31,
        };
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn good(&self, text: &str) -> String {
        self.mood(text, Mood::Good)
    }

    fn bad(&self, text: &str) -> String {
        self.mood(text, Mood::Bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(name: &str, why: Option<&str>) -> Value {
        json!({
            "version": "0.1.0", "generation": 1, "up_ms": 10_800_000, "ready": true,
            "journal": { "health": "writable", "sync_p99_us": 3_100, "open": 2, "payments": 9 },
            "in_doubt": { "payments": 38, "oldest_ms": 26_000 },
            "recent": { "per_second": 24.1, "answered_in_time": 0.988 },
            "accounts": [
                {
                    "name": name, "serves": true, "reason": null,
                    "now": {
                        "breaker": { "state": "open", "for_ms": 12_000, "retry_after_ms": 18_000 },
                        "why": why, "success": 0.613, "p95_ms": 10_000, "in_flight": 0,
                        "limit": { "rate": "200/s burst 50", "used_per_second": 38 },
                    },
                },
                { "name": "lost", "serves": false, "reason": "plugin is not pinned", "now": null },
            ],
        })
    }

    #[test]
    fn a_page_says_what_is_true_in_words() {
        let why = "card payments: too many failures in a row; in 5 min 55 of 142 calls failed";
        let page = page(&told("checkout-eu", Some(why)), false);
        for words in [
            "interlock 0.1.0 · generation 1 · up 3 h 0 min · ready",
            "open 12 s, probe in 18 s",
            "61.3 %",
            "10 s",
            "38 of 200/s",
            "└ card payments: too many failures in a row",
            "lost                 does not serve\n                     └ plugin is not pinned",
            "PAYMENTS  24.1/s · 98.8 % answered in time · 38 in doubt (oldest 26 s)",
            "JOURNAL   writable · sync p99 3.1 ms · 2 open of 9",
        ] {
            assert!(page.contains(words), "`{words}` in:\n{page}");
        }
        assert!(!page.contains('\x1b'));
    }

    #[test]
    fn it_fits_a_hundred_columns_whatever_the_names() {
        let long = "x".repeat(64);
        let why = format!("{long} {long} {} {long}", "y".repeat(300));
        for line in page(&told(&long, Some(&why)), false).lines() {
            assert!(line.chars().count() <= COLUMNS, "{}: {line}", line.chars().count());
        }
    }

    #[test]
    fn colours_change_no_word_and_no_width() {
        let value = told("a", Some("b"));
        let coloured = page(&value, true);
        assert!(coloured.contains("\x1b[31m"));
        let mut plain = coloured;
        for code in ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, page(&value, false));
    }

    #[test]
    fn times_are_said_in_two_units_at_most() {
        for (ms, words) in [
            (380, "380 ms"),
            (1_240, "1.2 s"),
            (26_900, "26 s"),
            (61_000, "1 min 1 s"),
            (11_220_000, "3 h 7 min"),
            (360_000_000, "4 d 4 h"),
        ] {
            assert_eq!(span(Some(ms)), words);
        }
    }
}
