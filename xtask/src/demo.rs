//! `cargo xtask demo`: payments through the proxy while its providers break, and the verdict.
//!
//! The verdict trusts nobody's word about money: it holds the sandbox's ledgers, which are
//! written when money moves, against what the merchant was told.

mod book;
mod chance;
mod client;
mod hook;
mod script;
mod stage;
mod stories;
mod table;
mod verdict;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::ground::{Ground, Progress, need_c_tools};
use book::Book;
use chance::Chance;
use client::Client;
use hook::Hook;
use script::Break;
use stage::{ADMIN, API_KEY, CONTROL, PROXY, Stage, WEBHOOK_PORT};
use stories::{Plan, Shop};
use table::{Scene, Table};
use verdict::{Ledgers, Verdict};

/// So many payments live at once; the next ones wait, and the shop is late.
const STORIES_LIMIT: usize = 512;
const STORY_STACK: usize = 256 << 10;
/// After the last fault, so long until every payment must have its true answer.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_millis(500);
const DRAW_EVERY: Duration = Duration::from_millis(250);

/// What `cargo xtask demo` is asked for.
#[derive(clap::Args)]
pub struct Wish {
    /// Keep the sandbox and the proxy running afterwards, until Ctrl-C
    #[arg(long)]
    stay: bool,
    /// Print the verdict as one line of JSON, last
    #[arg(long)]
    json: bool,
    /// The same seed sends the same payments
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long payments are sent
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(5..=3600))]
    seconds: u64,
    /// Payments in a second
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=500))]
    rate: u64,
}

/// Runs the demo; answers whether the verdict is `ok`.
///
/// # Errors
/// When it did not come to a verdict.
pub fn run(ground: &Ground, progress: &Progress, wish: &Wish) -> Result<bool, String> {
    let stopped = Arc::new(AtomicBool::new(false));
    let hand = stopped.clone();
    // Nothing is ended here: the main thread sees the flag and drops the stage.
    ctrlc::set_handler(move || hand.store(true, Ordering::SeqCst))
        .map_err(|why| format!("could not watch for Ctrl-C: {why}"))?;
    stage::free_ports()?;
    need_c_tools(progress)?;
    let mut build = ground.cargo();
    build.args(["build", "-p", "interlock", "-p", "interlock-sandbox"]);
    for plugin in stage::PLUGINS {
        build.args(["-p", &format!("interlock-plugin-{plugin}")]);
    }
    progress.run("build the proxy, its plugins and the sandbox", &mut build)?;
    let hook = Hook::start(WEBHOOK_PORT)?;
    let mut stage = Stage::start(ground, progress, wish.seed)?;
    let mut demo = Demo::new(stopped, wish, hook);
    demo.traffic(&mut stage)?;
    demo.settle(&mut stage)?;
    let verdict = demo.judge()?;
    let complaints = demo.shop.with_book(|book| book.complaints().clone());
    println!("{}", verdict.text(&complaints));
    if wish.stay {
        println!("{STAY}");
    }
    if wish.json {
        println!("{}", verdict.json());
    }
    while wish.stay && !demo.is_stopped() {
        stage.check()?;
        thread::sleep(Duration::from_millis(100));
    }
    Ok(verdict.ok())
}

const STAY: &str = r#"
Everything keeps running until Ctrl-C. In another terminal:

# a payment
curl -s http://127.0.0.1:8080/v1/payments -H 'Authorization: Bearer demo_key' \
  -H "Idempotency-Key: $RANDOM" -H 'Content-Type: application/json' \
  -d '{"amount":4900,"currency":"EUR","method":{"type":"card",
       "tokens":{"checkout-eu":"src_a","checkout-us":"src_b"}}}'
# break its account for a minute, then send the payment again: it goes through checkout-us
curl -s http://127.0.0.1:9900/faults \
  -d '{"account":"checkout-eu","operation":"*","fault":"refuse","for_ms":60000}'
# what stands broken, and mend it
curl -s http://127.0.0.1:9900/faults
curl -s -X DELETE http://127.0.0.1:9900/faults
# where the money is
curl -s http://127.0.0.1:9900/ledger
# what the proxy thinks of its accounts
curl -s http://127.0.0.1:9700/metrics | grep interlock_breaker_state
"#;

struct Demo {
    shop: Arc<Shop>,
    admin: Client,
    hook: Hook,
    stopped: Arc<AtomicBool>,
    living: Arc<AtomicUsize>,
    asking: Arc<AtomicUsize>,
    ledgers: Ledgers,
    table: Table,
    seed: u64,
    rate: u64,
    seconds: u64,
}

impl Demo {
    fn new(stopped: Arc<AtomicBool>, wish: &Wish, hook: Hook) -> Self {
        let shop = Shop {
            proxy: Client::new(PROXY, Some(API_KEY)),
            control: Client::new(CONTROL, None),
            book: Mutex::new(Book::default()),
        };
        Self {
            shop: Arc::new(shop),
            admin: Client::new(ADMIN, None),
            hook,
            stopped,
            living: Arc::default(),
            asking: Arc::default(),
            ledgers: Ledgers::default(),
            table: Table::new(),
            seed: wish.seed,
            rate: wish.rate,
            seconds: wish.seconds,
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Sends payments at the rate while the script breaks one account after another.
    fn traffic(&mut self, stage: &mut Stage) -> Result<(), String> {
        let mut chance = Chance::new(self.seed);
        let mut script = script::script(self.seconds).into_iter().peekable();
        let whole = Duration::from_secs(self.seconds);
        let began = Instant::now();
        let (mut sent, mut drawn, mut asked) = (0, began, began);
        while began.elapsed() < whole {
            if self.is_stopped() {
                return Err("stopped".into());
            }
            let at_ms = began.elapsed().as_millis() as u64;
            while let Some(fault) = script.next_if(|fault| fault.at_ms <= at_ms) {
                self.break_account(&fault)?;
            }
            let due = at_ms * self.rate / 1000;
            while sent < due && self.living.load(Ordering::SeqCst) < STORIES_LIMIT {
                // The seed is the run: `fresh_home` emptied the journal, so no key is reused.
                self.begin(Plan::draw(&mut chance, sent, self.seed))?;
                sent += 1;
            }
            if asked.elapsed() >= ASK_EVERY {
                asked = Instant::now();
                stage.check()?;
                self.ask_unsettled()?;
            }
            if drawn.elapsed() >= DRAW_EVERY {
                drawn = Instant::now();
                let gone = began.elapsed().as_secs_f64();
                let phase = format!("{gone:.0} s of {} s", self.seconds);
                self.draw(gone / self.seconds as f64, phase)?;
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn break_account(&self, fault: &Break) -> Result<(), String> {
        let answer = self.shop.control.post("/faults", None, &fault.order())?;
        if answer.status == 200 { Ok(()) } else { Err(format!("POST /faults: {}", answer.body)) }
    }

    fn begin(&self, plan: Plan) -> Result<(), String> {
        let living = Living::one_more(&self.living);
        let shop = self.shop.clone();
        let story = thread::Builder::new().name("story".into()).stack_size(STORY_STACK);
        let begun = story.spawn(move || {
            let _living = living;
            shop.live(&plan);
        });
        begun.map(drop).map_err(|why| format!("could not start a thread: {why}"))
    }

    /// Asks again for everything that has no true answer yet, in the background; not while an
    /// earlier round is still asking.
    fn ask_unsettled(&self) -> Result<(), String> {
        if self.asking.load(Ordering::SeqCst) > 0 {
            return Ok(());
        }
        let unsettled = self.shop.with_book(|book| book.unsettled());
        let askers = 8_usize.min(unsettled.len());
        for first in 0..askers {
            let numbers: Vec<usize> =
                unsettled.iter().copied().skip(first).step_by(askers).take(100).collect();
            let (shop, asking) = (self.shop.clone(), Living::one_more(&self.asking));
            let asker = thread::Builder::new().name("asker".into()).stack_size(STORY_STACK);
            let begun = asker.spawn(move || {
                let _asking = asking;
                numbers.iter().for_each(|n| shop.ask(*n));
            });
            begun.map_err(|why| format!("could not start a thread: {why}"))?;
        }
        Ok(())
    }

    /// Mends everything and waits until every payment has its true answer, or the time is up.
    fn settle(&mut self, stage: &mut Stage) -> Result<(), String> {
        self.shop.control.delete("/faults")?;
        let began = Instant::now();
        loop {
            if self.is_stopped() {
                return Err("stopped".into());
            }
            stage.check()?;
            self.ask_unsettled()?;
            let owed = self.shop.with_book(|book| book.unsettled().len());
            let living = self.living.load(Ordering::SeqCst);
            let untold = self.untold();
            let gone = began.elapsed();
            let phase = format!(
                "all mended; {owed} answers and {untold} webhooks are owed, {:.0} s",
                gone.as_secs_f64()
            );
            self.draw(1.0, phase)?;
            if (owed + living == 0 && untold == 0) || gone >= SETTLE_WITHIN {
                break;
            }
            thread::sleep(ASK_EVERY);
        }
        // What was accepted is executed within moments; only then are the ledgers at rest.
        thread::sleep(Duration::from_secs(1));
        self.table.leave();
        Ok(())
    }

    /// Payments with an end of which no message came yet.
    fn untold(&self) -> u64 {
        self.shop.with_book(|book| self.hook.with(|heard| heard.untold(book)))
    }

    fn draw(&mut self, progress: f64, phase: String) -> Result<(), String> {
        self.read_ledgers()?;
        let faults = self.shop.control.get("/faults").map_or(Value::Null, |answer| answer.body);
        let metrics = self.admin.text("/metrics").unwrap_or_default();
        let ledgers = &self.ledgers;
        let mut scene = self.shop.with_book(|book| Scene {
            charges_per_payment: ledgers.charges_per_payment(book),
            ..Scene::of(book, &faults, &metrics)
        });
        (scene.progress, scene.phase) = (progress, phase);
        scene.webhooks = self.hook.with(|heard| heard.messages());
        self.table.show(&scene);
        Ok(())
    }

    fn read_ledgers(&mut self) -> Result<(), String> {
        let since = format!("/ledger?since={}", self.ledgers.last_seq());
        let answer = self.shop.control.get(&since)?;
        self.ledgers.add(&answer.body)
    }

    /// Asks for every payment once more, reads the ledgers from the start, and judges.
    fn judge(&self) -> Result<Verdict, String> {
        let accepted = self.shop.with_book(|book| {
            let known = |n: &usize| book.payments()[*n].id.is_some();
            (0..book.payments().len()).filter(known).collect::<Vec<_>>()
        });
        thread::scope(|scope| {
            for first in 0..8 {
                let (shop, accepted) = (&self.shop, &accepted);
                scope.spawn(move || {
                    accepted.iter().skip(first).step_by(8).for_each(|n| shop.ask(*n));
                });
            }
        });
        let mut ledgers = Ledgers::default();
        ledgers.add(&self.shop.control.get("/ledger")?.body)?;
        Ok(self.shop.with_book(|book| {
            let verdict = Verdict::of(book, &ledgers);
            self.hook.with(|heard| verdict.heard(heard, book))
        }))
    }
}

/// Counts a thread as long as it lives, however it ends.
struct Living(Arc<AtomicUsize>);

impl Living {
    fn one_more(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
