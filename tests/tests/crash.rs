//! The proxy is killed again and again in the middle of its work, and nobody loses or pays twice.
//!
//! Two witnesses judge: what the merchants were told, in the order in which they heard it, and the
//! providers' own ledgers. A failed run prints its seed; `SEED=N` deals the same cards again,
//! though never the same instants.

#[path = "crash/moments.rs"]
mod moments;
#[path = "crash/shop.rs"]
mod shop;
#[path = "crash/verdict.rs"]
mod verdict;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use interlock_tests::house::{ACCOUNTS, House, Plan};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use shop::Street;

/// How often the proxy is killed; `KILLS=N` for a longer run.
const KILLS: u32 = 32;
/// Shops that trade at the same time.
const SHOPS: u64 = 8;
/// How long doubts may last once every provider is well: offers of 8 s expire meanwhile.
const SETTLES: Duration = Duration::from_secs(60);

#[test]
fn nothing_is_lost_and_nothing_is_paid_twice_however_often_the_proxy_is_killed() {
    let seed = number("SEED").unwrap_or_else(rand::random);
    let kills = number("KILLS").map_or(KILLS, |n| u32::try_from(n).expect("a small number"));
    say(format_args!("SEED={seed} KILLS={kills}"));
    let begun = Instant::now();
    let mut house = House::with(Plan {
        offer_expiry: Some(("8s", "1s")),
        account_lines: "auto_refund = { per_hour_count = 100000 }",
        ..Plan::default()
    });
    let stop = AtomicBool::new(false);
    let street = Street::of(&house);
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
        let restarts = kill_and_restart(&mut house, kills, seed.wrapping_add(2_000));
        drop(closing);
        let books = shops.into_iter().map(|s| s.join().expect("a shop's book"));
        (books.flatten().collect::<Vec<_>>(), restarts)
    });
    house.lift_faults();
    let traded = begun.elapsed();
    shop::ask_again(&street, &mut deals);
    shop::cancel_open_codes(&street);
    let counts = verdict::check(&house, &street, &deals, SETTLES);
    say(format_args!(
        "{kills} kills and {restarts} more during recovery in {traded:.1?}, settled after {:.1?}; \
         {counts} (SEED={seed})",
        begun.elapsed(),
    ));
}

/// Closes the shops, also when the test fails before its end.
struct Closing<'a>(&'a AtomicBool);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Kills while the shops trade, sometimes again while the new process still recovers.
fn kill_and_restart(house: &mut House, kills: u32, seed: u64) -> u32 {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut during_recovery = 0;
    for _ in 0..kills {
        std::thread::sleep(Duration::from_millis(chance.random_range(200..1_000)));
        assert!(house.proxy_is_alive(), "the proxy ended by itself\n{}", house.log());
        house.kill_proxy();
        if chance.random_bool(0.25) {
            house.spawn_proxy();
            std::thread::sleep(Duration::from_millis(chance.random_range(5..120)));
            house.kill_proxy();
            during_recovery += 1;
        }
        house.start_proxy();
    }
    during_recovery
}

/// Breaks accounts at random; a fault lasts a moment, and several may stand at once.
fn turn_the_dial(street: &Street, seed: u64, stop: &AtomicBool) {
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
    let mut chance = StdRng::seed_from_u64(seed);
    while !stop.load(Ordering::Acquire) {
        let (account, _) = ACCOUNTS[chance.random_range(0..ACCOUNTS.len())];
        let fault = FAULTS[chance.random_range(0..FAULTS.len())];
        let operation = match fault {
            fault if fault.starts_with("notify") => "notify",
            _ => OPERATIONS[chance.random_range(0..OPERATIONS.len())],
        };
        street.control(
            "/faults",
            &json!({
                "account": account, "operation": operation, "fault": fault,
                "probability": chance.random_range(0.3..1.0),
                "for_ms": chance.random_range(200..1_500), "ms": chance.random_range(100..2_000),
            }),
        );
        std::thread::sleep(Duration::from_millis(chance.random_range(50..250)));
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Figures of the run, also when it passes.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("crash: {line}\n"));
}
