//! The proxy dies before and after every durable write, every send and every answer, one place
//! after the other, while shops do what passes that place.
//!
//! A place that no scene reaches fails the test, so the list in the binary and this table of
//! scenes cannot part. `KILLS=N` adds rounds over all places in another order, each dying at a
//! later passing, until half of N is reached; the other half are random kills.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use interlock_tests::house::{House, Plan, built};
use interlock_tests::report;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::autopsy::Coroner;
use crate::scenes::{self, Scene, Stage};
use crate::shop::{self, Deal, Street};
use crate::{Closing, SETTLES, any_fault, mutants, number, say, verdict};

/// The build that can die.
pub const BINARY: &str = "interlock-failpoints";
/// Names the place in which it dies.
pub const PLACE: &str = "INTERLOCK_FAILPOINT";
/// How long shops may need to pass a place.
const PATIENCE: Duration = Duration::from_secs(20);
/// As long in a round that need not prove it again.
const HASTE: Duration = Duration::from_secs(5);
/// Shops on the stage.
const SHOPS: u64 = 3;

#[test]
fn the_proxy_may_die_at_every_write_every_send_and_every_answer() {
    let seed = number("SEED").unwrap_or_else(rand::random);
    let places = places();
    let kills = number("KILLS").map_or(0, |n| usize::try_from(n / 2).expect("a small number"));
    say(format_args!("failpoints: SEED={seed}, {} places", places.len()));
    let begun = Instant::now();
    let (mut on_the_clock, of_the_clock): (Vec<String>, Vec<String>) =
        places.iter().cloned().partition(|place| !place.starts_with("setting.clock"));
    // A node on an empty disk starts once.
    on_the_clock.sort_by_key(|place| !place.starts_with("start."));
    let (mut run, clock, caught) = std::thread::scope(|scope| {
        let clock = scope.spawn(|| Run::of(&of_the_clock, &of_the_clock, seed.wrapping_add(1)));
        let caught = scope.spawn(mutants::hunt_all);
        let schedule = schedule(&on_the_clock, kills.saturating_sub(of_the_clock.len()), seed);
        let run = Run::of(&on_the_clock, &schedule, seed);
        (run, clock.join().expect("the clock's house"), caught.join().expect("the hunt"))
    });
    run.add(clock);
    let survivors = caught.iter().filter(|m| m["killed"] != true).map(Value::to_string);
    run.wrong.extend(survivors.map(|m| format!("a mutant survives: {m}")));
    run.leave(seed, begun, &caught);
    assert!(run.wrong.is_empty(), "{} wrong:\n{}", run.wrong.len(), run.wrong.join("\n"));
}

#[test]
fn the_binary_that_ships_has_no_place_to_die_at() {
    let binary = std::fs::read(built("interlock")).expect("the binary is built");
    let armed = std::fs::read(built(BINARY)).expect("built by `cargo xtask test`");
    let has = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    for text in [PLACE, mutants::MUTANT, "commit.submitted"] {
        assert!(has(&armed, text), "the other build has it: {text}");
        assert!(!has(&binary, text), "{text}");
    }
}

/// Every place on both of its sides, as the binary lists them.
fn places() -> Vec<String> {
    let list = Command::new(built(BINARY)).arg("failpoints").output().expect("it runs");
    let list = String::from_utf8(list.stdout).expect("names");
    let places = list.lines().flat_map(|name| [".before", ".after"].map(|s| format!("{name}{s}")));
    places.collect()
}

/// All places at their first passing, and then again, later in their lives and out of order.
fn schedule(places: &[String], kills: usize, seed: u64) -> Vec<String> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut all = places.to_vec();
    // The key of a node is made once.
    let mut again = places.to_vec();
    again.retain(|place| !place.starts_with("start.ids_key"));
    while all.len() < kills {
        again.shuffle(&mut chance);
        let wanted = again.iter().take(kills - all.len());
        all.extend(wanted.map(|place| match place.starts_with("start.") {
            true => format!("{place}:1"),
            false => format!("{place}:{}", chance.random_range(1..6)),
        }));
    }
    all
}

/// What shops must do to pass a place, and what providers do meanwhile.
fn needs(point: &str) -> (Scene, Vec<Value>) {
    let unheard = || vec![fault("*", "authorize", "charge_then_drop")];
    match point {
        "commit.lost" => {
            let refused = ["alipay-main", "checkout-eu", "checkout-us"];
            (Scene::Sale, refused.map(|a| fault(a, "authorize", "refuse")).into())
        }
        "commit.looked" | "send.inquire" | "answer.inquire" => (Scene::Sale, unheard()),
        "commit.due" => {
            let mut deaf = unheard();
            deaf.push(fault("*", "inquire", "error_before"));
            (Scene::Sale, deaf)
        }
        "commit.noticed" => (Scene::Code, Vec::new()),
        "commit.capture" | "send.capture" | "answer.capture" | "told.capture" => {
            (Scene::Capture, Vec::new())
        }
        "commit.cancel" | "send.void" | "answer.void" | "told.cancel" => (Scene::Void, Vec::new()),
        "send.close" | "answer.close" => (Scene::Close, Vec::new()),
        "commit.switch" | "told.switch" => (Scene::Switch, Vec::new()),
        "commit.refund" | "send.refund" | "answer.refund" | "told.refund" => {
            (Scene::Refund, Vec::new())
        }
        "send.inquire_operation" | "answer.inquire_operation" => {
            (Scene::Refund, vec![fault("*", "refund", "charge_then_drop")])
        }
        "commit.refresh" => (Scene::Refresh, Vec::new()),
        "commit.confirm" | "send.continue" | "answer.continue" | "told.confirm" => {
            (Scene::Confirm, Vec::new())
        }
        "commit.operator" | "told.operator" => (
            Scene::Operator,
            vec![
                fault("checkout-eu", "authorize", "charge_then_drop"),
                fault("checkout-eu", "inquire", "error_before"),
                fault("checkout-eu", "notify", "notify_lose"),
            ],
        ),
        "notice.no_money" => (Scene::NoMoney, Vec::new()),
        "notice.unknown" => (Scene::Stranger, Vec::new()),
        "notice.unchanged" | "told.notification" => (Scene::Card, Vec::new()),
        "setting.clock" => (Scene::Calm, Vec::new()),
        "commit.heard" | "journal.sync" => (Scene::Any, Vec::new()),
        _ => (Scene::Sale, Vec::new()),
    }
}

/// A fault that lasts until it is lifted.
fn fault(account: &str, operation: &str, fault: &str) -> Value {
    json!({ "account": account, "operation": operation, "fault": fault, "for_ms": 600_000 })
}

/// Whether a place is passed only by a start that finds something open.
fn recovers(point: &str) -> bool {
    matches!(point, "start.recovery" | "commit.recovered")
}

/// One house and all its deaths.
#[derive(Default)]
struct Run {
    fired: BTreeMap<String, u32>,
    kills: u32,
    restarts: u32,
    restart_ms: u128,
    counts: Option<verdict::Counts>,
    payments: usize,
    refunds: usize,
    sent: usize,
    told: usize,
    wrong: Vec<String>,
}

impl Run {
    /// Dies at each place of the schedule, settles and judges; `all` must have fired.
    fn of(all: &[String], schedule: &[String], seed: u64) -> Self {
        let mut house = House::prepared(Plan {
            offer_expiry: Some(("8s", "1s")),
            challenges: true,
            account_lines: "auto_refund = { per_hour_count = 100000 }",
            ..Plan::default()
        });
        let (street, stop) = (Street::of(&house), AtomicBool::new(false));
        let stage = Stage::new(Scene::Sale);
        let mut coroner = Coroner::default();
        let mut run = Self::default();
        let mut chance = StdRng::seed_from_u64(seed);
        let mut deals: Vec<Deal> = std::thread::scope(|scope| {
            let shops: Vec<_> = (0..SHOPS)
                .map(|n| {
                    let (street, stage, stop) = (&street, &stage, &stop);
                    scope.spawn(move || scenes::play(street, seed.wrapping_add(n), stage, stop))
                })
                .collect();
            let closing = Closing(&stop);
            for place in schedule {
                run.die(&mut house, &street, &stage, &mut coroner, place, &mut chance);
            }
            let begun = Instant::now();
            house.spawn_proxy_as(BINARY, &[]);
            assert!(house.is_ready_within(PATIENCE), "it starts again\n{}", house.log());
            run.restart_ms = begun.elapsed().as_millis();
            run.restarts += 1;
            drop(closing);
            shops.into_iter().flat_map(|s| s.join().expect("a shop's book")).collect()
        });
        shop::ask_again(&street, &mut deals);
        shop::cancel_open_codes(&street);
        let (counts, wrong) = verdict::judge(&house, &street, &deals, SETTLES);
        say(format_args!("failpoints: {counts}"));
        house.kill_proxy();
        coroner.look(&house, &street);
        (run.payments, run.refunds) = (counts.payments, counts.refunds);
        (run.sent, run.told) = (coroner.sent, coroner.told);
        run.counts = Some(counts);
        run.wrong.extend(coroner.wrong.into_iter().chain(wrong));
        let never = all.iter().filter(|place| !run.fired.contains_key(*place));
        let never: Vec<String> =
            never.map(|p| format!("no scene reaches this place: {p}")).collect();
        run.wrong.extend(never);
        run
    }

    fn die(
        &mut self,
        house: &mut House,
        street: &Street,
        stage: &Stage,
        coroner: &mut Coroner,
        place: &str,
        chance: &mut StdRng,
    ) {
        let name = place.split(':').next().expect("a name");
        let (point, _) = name.rsplit_once('.').expect("a side");
        if recovers(point) {
            self.leave_something_open(house, street, stage, coroner);
        }
        let (scene, faults) = needs(point);
        for fault in faults {
            house.fault_with(fault);
        }
        if place != name {
            // The first round proves that every place is reached; later ones may be disturbed.
            house.fault_with(any_fault(chance));
        }
        *stage.lock().expect("no shop panics on the stage") = scene;
        let begun = Instant::now();
        house.spawn_proxy_as(BINARY, &[(PLACE, place)]);
        let fired = house.is_killed_within(if place == name { PATIENCE } else { HASTE });
        let took = begun.elapsed().as_millis();
        if fired {
            *self.fired.entry(name.to_owned()).or_default() += 1;
        } else {
            house.kill_proxy();
        }
        self.kills += 1;
        self.restarts += 1;
        house.lift_faults();
        let wrong = coroner.wrong.len();
        coroner.look(house, street);
        let verdict = match (fired, coroner.wrong.len() - wrong) {
            (true, 0) => String::new(),
            (false, _) => " was not passed".into(),
            (true, n) => format!(": {n} wrong"),
        };
        say(format_args!("failpoints: {:4} {place} {took} ms{verdict}", self.kills));
    }

    /// Kills while a provider is silent, so that the next start finds something to recover.
    fn leave_something_open(
        &mut self,
        house: &mut House,
        street: &Street,
        stage: &Stage,
        coroner: &mut Coroner,
    ) {
        house.fault("*", "authorize", "hang");
        *stage.lock().expect("no shop panics on the stage") = Scene::Sale;
        house.spawn_proxy_as(BINARY, &[]);
        let news = format!("/requests?since={}", coroner.seen);
        house.wait_until("a payment is on its way", PATIENCE, |h| {
            let requests = h.control("GET", &news, None).json;
            requests.as_array().into_iter().flatten().any(|r| r["operation"] == "authorize")
        });
        house.kill_proxy();
        self.kills += 1;
        self.restarts += 1;
        house.lift_faults();
        coroner.look(house, street);
    }

    fn add(&mut self, other: Self) {
        self.fired.extend(other.fired);
        self.kills += other.kills;
        self.restarts += other.restarts;
        self.payments += other.payments;
        self.refunds += other.refunds;
        self.sent += other.sent;
        self.told += other.told;
        self.wrong.extend(other.wrong);
    }

    fn leave(&self, seed: u64, begun: Instant, mutants: &[Value]) {
        let on = |side: &str| self.fired.keys().filter(|place| place.ends_with(side)).count();
        let counts = json!({
            "seconds": begun.elapsed().as_secs_f64(),
            "violations": self.wrong.len(),
            "found": self.wrong,
            "seed": seed,
            "kills": self.kills,
            "restarts": self.restarts,
            "failpoints": places().len() / 2,
            "fired_before": on(".before"),
            "fired_after": on(".after"),
            "payments": self.payments,
            "refunds": self.refunds,
            "sends_found_in_the_journal": self.sent,
            "words_found_in_the_journal": self.told,
            "restart_ms": u64::try_from(self.restart_ms).unwrap_or(u64::MAX),
            "mutants": mutants,
        });
        report::leave("kills_failpoints", &counts);
        say(format_args!("failpoints: {counts}"));
    }
}
