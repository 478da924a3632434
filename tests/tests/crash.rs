//! The proxy is killed again and again in the middle of its work, and nobody loses or pays twice.
//!
//! Three witnesses judge: what the merchants were told, in the order in which they heard it, the
//! providers' own ledgers, and the journal's files in the moment of each death. A failed run prints
//! its seed; `SEED=N` deals the same cards again, though never the same instants.
//!
//! `nothing_is_lost...` kills at random, `the_proxy_may_die...` at every named place, `moments` at
//! moments that are found by looking at the provider. `KILLS=N` is the number of kills of the first
//! two together.

#[path = "crash/autopsy.rs"]
mod autopsy;
#[path = "crash/failpoints.rs"]
mod failpoints;
#[path = "crash/moments.rs"]
mod moments;
#[path = "crash/mutants.rs"]
mod mutants;
#[path = "crash/scenes.rs"]
mod scenes;
#[path = "crash/shop.rs"]
mod shop;
#[path = "crash/verdict.rs"]
mod verdict;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use interlock_tests::house::{ACCOUNTS, House, Plan};
use interlock_tests::report;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use autopsy::Coroner;
use shop::Street;

/// How often the proxy is killed at random.
const KILLS: u32 = 32;
/// Shops that trade at the same time.
const SHOPS: u64 = 8;
/// How long doubts may last once every provider is well: offers of 8 s expire meanwhile.
const SETTLES: Duration = Duration::from_secs(60);

#[test]
fn nothing_is_lost_and_nothing_is_paid_twice_however_often_the_proxy_is_killed() {
    let seed = number("SEED").unwrap_or_else(rand::random);
    let few = std::env::var_os("INTERLOCK_QUICK").map_or(KILLS, |_| KILLS / 4);
    let kills = number("KILLS").map_or(few, |n| u32::try_from(n / 2).expect("a small number"));
    say(format_args!("SEED={seed}, {kills} random kills"));
    let begun = Instant::now();
    let mut house = House::with(Plan {
        offer_expiry: Some(("8s", "1s")),
        account_lines: "auto_refund = { per_hour_count = 100000 }",
        ..Plan::default()
    });
    let stop = AtomicBool::new(false);
    let street = Street::of(&house);
    let mut coroner = Coroner::default();
    let (mut deals, restarts) = std::thread::scope(|scope| {
        let shops: Vec<_> = (0..SHOPS)
            .map(|n| {
                let (street, stop) = (street.clone(), &stop);
                scope.spawn(move || shop::trade(&street, seed.wrapping_add(n), stop))
            })
            .collect();
        let (dial, stopped) = (street.clone(), &stop);
        scope.spawn(move || turn_the_dial(&dial, seed.wrapping_add(1_000), stopped));
        let closing = Closing(&stop);
        let mut chance = StdRng::seed_from_u64(seed.wrapping_add(2_000));
        let restarts = kill_and_restart(&mut house, &street, &mut coroner, kills, &mut chance);
        drop(closing);
        let books = shops.into_iter().map(|s| s.join().expect("a shop's book"));
        (books.flatten().collect::<Vec<_>>(), restarts)
    });
    house.lift_faults();
    let traded = begun.elapsed();
    shop::ask_again(&street, &mut deals);
    shop::cancel_open_codes(&street);
    let (counts, wrong) = verdict::judge(&house, &street, &deals, SETTLES);
    house.kill_proxy();
    coroner.look(&house, &street);
    let wrong: Vec<String> = wrong.into_iter().chain(coroner.wrong).collect();
    say(format_args!("{restarts} starts in {traded:.1?}; {counts} (SEED={seed})"));
    let left = json!({
        "seconds": begun.elapsed().as_secs_f64(), "violations": wrong.len(), "found": wrong,
        "seed": seed, "kills": restarts, "restarts": restarts, "payments": counts.payments,
        "refunds": counts.refunds, "requests_cut": counts.cut,
        "sends_found_in_the_journal": coroner.sent, "words_found_in_the_journal": coroner.told,
    });
    report::leave("kills_random", &left);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Closes the shops, also when the test fails before its end.
struct Closing<'a>(&'a AtomicBool);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Kills while the shops trade, sometimes again while the new process still recovers, sometimes
/// while it drains; gives how often it was killed and started again.
fn kill_and_restart(
    house: &mut House,
    street: &Street,
    coroner: &mut Coroner,
    kills: u32,
    chance: &mut StdRng,
) -> u32 {
    let mut more = 0;
    for n in 0..kills {
        std::thread::sleep(Duration::from_millis(chance.random_range(50..800)));
        assert!(house.proxy_is_alive(), "the proxy ended by itself\n{}", house.log());
        if chance.random_bool(0.15) {
            house.signal_proxy("TERM");
            std::thread::sleep(Duration::from_millis(chance.random_range(0..60)));
        }
        house.kill_proxy();
        coroner.look(house, street);
        if chance.random_bool(0.25) {
            house.spawn_proxy();
            std::thread::sleep(Duration::from_millis(chance.random_range(5..120)));
            house.kill_proxy();
            coroner.look(house, street);
            more += 1;
        }
        house.start_proxy();
        if n % 20 == 19 {
            say(format_args!("{} kills, {} wrong", n + 1 + more, coroner.wrong.len()));
        }
    }
    kills + more
}

/// Breaks accounts at random; a fault lasts a moment, and several may stand at once.
fn turn_the_dial(street: &Street, seed: u64, stop: &AtomicBool) {
    let mut chance = StdRng::seed_from_u64(seed);
    while !stop.load(Ordering::Acquire) {
        street.control("/faults", &any_fault(&mut chance));
        std::thread::sleep(Duration::from_millis(chance.random_range(50..250)));
    }
}

/// One fault of one account, for a moment.
fn any_fault(chance: &mut StdRng) -> Value {
    const FAULTS: [&str; 13] = [
        "refuse",
        "reset_after_read",
        "hang",
        "slow",
        "error_before",
        "error_after",
        "charge_then_drop",
        "garbage",
        "bad_signature",
        "rate_limited",
        "notify_lose",
        "notify_delay",
        "notify_duplicate",
    ];
    const OPERATIONS: [&str; 6] = ["authorize", "capture", "void", "close", "refund", "inquire"];
    let (account, _) = ACCOUNTS[chance.random_range(0..ACCOUNTS.len())];
    let fault = FAULTS[chance.random_range(0..FAULTS.len())];
    let operation = match fault {
        fault if fault.starts_with("notify") => "notify",
        _ => OPERATIONS[chance.random_range(0..OPERATIONS.len())],
    };
    json!({
        "account": account, "operation": operation, "fault": fault,
        "probability": chance.random_range(0.3..1.0),
        "for_ms": chance.random_range(200..1_500), "ms": chance.random_range(100..2_000),
    })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Figures of the run, also when it passes.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("crash: {line}\n"));
}
