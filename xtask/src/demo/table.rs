//! What a person sees while the demo runs: a table redrawn in place, or plain lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::book::{Book, Status};
use super::stage::ACCOUNTS;

const BAR: usize = 30;
const LINE_EVERY: Duration = Duration::from_secs(4);

/// One look at the whole demo.
#[derive(Debug, Default)]
pub struct Scene {
    /// From 0 to 1.
    pub progress: f64,
    /// What is going on, such as `12 s of 40 s`.
    pub phase: String,
    /// Asked for so far.
    pub asked: usize,
    /// Paid or held, of those that are decided, from 0 to 1.
    pub success: Option<f64>,
    /// Attempts at another account.
    pub failovers: u64,
    /// Undecided now.
    pub in_doubt: usize,
    /// Signed messages that the merchant's webhook heard.
    pub webhooks: u64,
    /// 1.00 is the promise.
    pub charges_per_payment: Option<f64>,
    /// By account: attempts, breaker, faults.
    pub accounts: BTreeMap<String, Row>,
}

/// One account.
#[derive(Debug, Default)]
pub struct Row {
    /// Payments that tried it.
    pub attempts: u64,
    /// The breaker's word, when the metrics say it.
    pub breaker: Option<String>,
    /// What is broken now.
    pub faults: Vec<String>,
}

impl Scene {
    /// Puts together what the merchant knows, what the dial says and what the metrics say.
    pub fn of(book: &Book, faults: &Value, metrics: &str) -> Self {
        let mut scene = Self::default();
        for name in ACCOUNTS {
            scene.accounts.insert(name.into(), Row::default());
        }
        let (mut good, mut bad) = (0_u32, 0_u32);
        for told in book.payments() {
            scene.asked += 1;
            scene.failovers += told.failovers();
            for (account, _) in &told.attempts {
                scene.accounts.entry(account.clone()).or_default().attempts += 1;
            }
            match told.status {
                Status::Succeeded | Status::RequiresCapture => good += 1,
                Status::Failed => bad += 1,
                Status::Processing if told.refused.is_some() => bad += 1,
                Status::Processing if told.id.is_some() => scene.in_doubt += 1,
                _ => {}
            }
        }
        scene.success = (good + bad > 0).then(|| f64::from(good) / f64::from(good + bad));
        for fault in faults.as_array().into_iter().flatten() {
            let word = |name: &str| fault[name].as_str().unwrap_or_default().to_owned();
            let left_s = fault["remaining_ms"].as_u64().unwrap_or(0).div_ceil(1000);
            let text = format!("{} on {} ({left_s} s)", word("fault"), word("operation"));
            scene.accounts.entry(word("account")).or_default().faults.push(text);
        }
        // The proxy knows of doubts before a merchant who still waits for the answer does.
        scene.in_doubt = scene.in_doubt.max(doubts(metrics));
        for (account, state) in breakers(metrics) {
            let breaker = &mut scene.accounts.entry(account).or_default().breaker;
            // An account has one for each method; the one that is not closed is worth seeing.
            if breaker.as_deref().is_none_or(|held| held == "closed") {
                *breaker = Some(state);
            }
        }
        scene
    }

    fn summary(&self) -> String {
        let success = self.success.map_or("-".into(), |share| format!("{:.1} %", share * 100.0));
        let charges = self.charges_per_payment.map_or("-".into(), |n| format!("{n:.2}"));
        format!(
            "{} payments, {success} good, {} failovers, {} in doubt, {charges} charges per \
             payment, {} webhooks",
            self.asked, self.failovers, self.in_doubt, self.webhooks,
        )
    }

    fn broken(&self) -> String {
        let faults = self
            .accounts
            .iter()
            .flat_map(|(name, row)| row.faults.iter().map(move |fault| format!("{name}: {fault}")));
        let faults: Vec<String> = faults.collect();
        if faults.is_empty() { "nothing is broken".into() } else { faults.join("; ") }
    }
}

/// The sum of `interlock_in_doubt{account="a"} 3` of the metrics.
fn doubts(metrics: &str) -> usize {
    let lines = metrics.lines().filter(|line| line.starts_with("interlock_in_doubt{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

/// `interlock_breaker_state{account="a",group="payments",state="open"} 1` of the metrics.
fn breakers(metrics: &str) -> impl Iterator<Item = (String, String)> {
    metrics.lines().filter_map(|line| {
        let labels = line.strip_prefix("interlock_breaker_state{")?.strip_suffix("} 1")?;
        let value = |name: &str| {
            let rest = labels.split(&format!("{name}=\"")).nth(1)?;
            rest.split('"').next().map(str::to_owned)
        };
        let pays = value("group").is_none_or(|group| group == "payments");
        pays.then_some((value("account")?, value("state")?))
    })
}

/// Where the scenes are shown.
pub struct Table {
    redraws: bool,
    coloured: bool,
    drawn: usize,
    last_line: Option<Instant>,
}

impl Table {
    /// Redraws on a terminal, and writes plain lines elsewhere.
    pub fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let redraws = std::io::stdout().is_terminal() && !dumb;
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { redraws, coloured: redraws && !no_colour, drawn: 0, last_line: None }
    }

    /// Shows `scene`, or leaves it out when plain lines would come too fast.
    pub fn show(&mut self, scene: &Scene) {
        if self.redraws {
            self.redraw(scene);
        } else if self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
            self.last_line = Some(Instant::now());
            println!("{}: {}; {}", scene.phase, scene.summary(), scene.broken());
        }
    }

    /// What follows is written below the table.
    pub fn leave(&mut self) {
        self.drawn = 0;
        self.last_line = None;
    }

    fn redraw(&mut self, scene: &Scene) {
        let lines = self.draw(scene);
        // Long lines are cut, not wrapped: a wrapped line would spoil the way back up.
        let mut text = String::from("\x1b[?7l");
        if self.drawn > 0 {
            // Back to the first line of the last drawing.
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        for line in &lines {
            let _ = writeln!(text, "\x1b[2K{line}");
        }
        text += "\x1b[?7h";
        self.drawn = lines.len();
        let mut out = std::io::stdout();
        // A closed terminal ends the demo by its signal, not here.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn draw(&self, scene: &Scene) -> Vec<String> {
        let full = (scene.progress.clamp(0.0, 1.0) * BAR as f64).round() as usize;
        let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR - full));
        let mut lines = vec![
            format!("Interlock demo  {bar}  {}", scene.phase),
            scene.summary(),
            format!("{:<15} {:<10} {:>8}  broken by the sandbox", "account", "breaker", "tried"),
        ];
        for (name, row) in &scene.accounts {
            let breaker = row.breaker.as_deref().unwrap_or("-");
            let colour = match breaker {
                "closed" => "32",
                "open" => "31",
                _ => "33",
            };
            let breaker = self.paint(colour, &format!("{breaker:<10}"));
            let faults = self.paint("31", &row.faults.join(", "));
            lines.push(format!("{name:<15} {breaker} {:>8}  {faults}", row.attempts));
        }
        lines
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.coloured && !text.trim().is_empty() {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_scene_counts_the_book_and_reads_dial_and_metrics() {
        let mut book = Book::default();
        for (status, accounts) in [
            ("succeeded", ["alipay-main", "alipay-backup"].as_slice()),
            ("failed", &["checkout-eu"]),
            ("processing", &["checkout-eu"]),
        ] {
            let n = book.open(100, "CNY");
            let attempts: Vec<Value> = accounts
                .iter()
                .map(|account| json!({ "account": account, "op_id": format!("op{n}") }))
                .collect();
            book.told(n, &json!({ "id": "pay", "status": status, "attempts": attempts }));
        }
        let faults = json!([{ "account": "checkout-eu", "operation": "authorize",
                              "fault": "hang", "remaining_ms": 1_200 }]);
        let metrics = "# TYPE interlock_breaker_state gauge\n\
                       interlock_breaker_state{account=\"checkout-eu\",state=\"closed\"} 0\n\
                       interlock_breaker_state{account=\"checkout-eu\",group=\"inquiries\",\
                       state=\"half_open\"} 1\n\
                       interlock_breaker_state{account=\"checkout-eu\",group=\"payments\",\
                       state=\"open\"} 1\n\
                       interlock_in_doubt{account=\"checkout-eu\"} 4\n";
        let scene = Scene::of(&book, &faults, metrics);
        assert_eq!((scene.asked, scene.failovers, scene.in_doubt), (3, 1, 4));
        assert_eq!(scene.success, Some(0.5));
        let eu = &scene.accounts["checkout-eu"];
        assert_eq!((eu.attempts, eu.breaker.as_deref()), (2, Some("open")));
        assert_eq!(eu.faults, ["hang on authorize (2 s)"]);
        assert!(scene.broken().contains("checkout-eu: hang"));
    }

    #[test]
    fn a_drawing_without_colour_has_no_escapes() {
        let table = Table { redraws: false, coloured: false, drawn: 0, last_line: None };
        let scene = Scene::of(&Book::default(), &json!([]), "");
        let lines = table.draw(&scene);
        assert_eq!(lines.len(), 3 + ACCOUNTS.len());
        assert!(lines.iter().all(|line| !line.contains('\x1b')));
    }
}
