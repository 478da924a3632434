//! The control: nginx, HAProxy and Envoy in front of the same two accounts as Interlock, under the
//! same faults, judged by the same ledgers.
//!
//! A promise that nobody ever breaks proves nothing. So the same judge looks at proxies that were
//! told to hide failures: it must find second charges there, and none at Interlock. The general
//! proxies do what they are told, and were never told what a payment is; their careful forms show
//! the failures instead, and leave it to the merchant to find out whether money moved.
//!
//! `cargo xtask control` installs the proxies, gives the matrix its full size and writes the table
//! into the README; `cargo xtask test` runs a smaller one.

#[path = "control/faults.rs"]
mod faults;
#[path = "control/judge.rs"]
mod judge;
#[path = "control/merchant.rs"]
mod merchant;
#[path = "control/proxies.rs"]
mod proxies;
#[path = "control/stage.rs"]
mod stage;

use std::io::Write;
use std::time::{Duration, Instant};

use interlock_tests::house::{House, Plan};
use interlock_tests::report;
use serde_json::{Value, json};

use faults::{FAULTS, Fault};
use judge::{AMOUNT, Said, Sale, Verdict};
use merchant::{Line, Shop, Trade};
use proxies::{PROXIES, Program, Proxy};
use stage::{ACCOUNTS, KEY, Stage};

const INSTALL: &str = "run `cargo xtask control` or `cargo xtask test` once, which installs it, \
                       or set INTERLOCK_SKIP_PEERS=1 to leave this test out";
/// Once the account is well again, so long until Interlock must know everything.
const SETTLES: Duration = Duration::from_secs(60);

/// One cell of the matrix.
#[derive(Clone)]
struct Cell {
    peer: String,
    setting: &'static str,
    hides: bool,
    fault: Fault,
    verdict: Verdict,
    began_well: bool,
}

#[test]
fn proxies_that_hide_failures_charge_twice_where_interlock_never_does() {
    if std::env::var_os("INTERLOCK_SKIP_PEERS").is_some() {
        say("left out: INTERLOCK_SKIP_PEERS is set");
        return;
    }
    let versions = versions();
    let begun = Instant::now();
    let cells = matrix(size());
    let found = complaints(&cells);
    let ours: Vec<&Cell> = cells.iter().filter(|cell| cell.peer == "Interlock").collect();
    let violations: usize = ours.iter().map(|cell| cell.verdict.violations()).sum();
    let theirs = cells.iter().filter(|cell| cell.hides);
    report::leave(
        "control",
        &json!({
            "seconds": begun.elapsed().as_secs_f64(),
            "violations": violations,
            "found": found,
            "payments": cells.iter().map(|cell| cell.verdict.payments).sum::<usize>(),
            "interlock_payments": ours.iter().map(|cell| cell.verdict.payments).sum::<usize>(),
            "peers_charged_twice": theirs.map(|cell| cell.verdict.charged_twice).sum::<usize>(),
            "faults": FAULTS.map(Fault::name),
            "versions": versions,
            "cells": cells.iter().map(Cell::json).collect::<Vec<_>>(),
        }),
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The programs that are installed and their versions; fails with what to run.
fn versions() -> Value {
    let of = |program: Program| {
        let path = program.find();
        assert!(path.is_some(), "{} is missing: {INSTALL}", program.name());
        let version = path.map(|path| program.version(&path)).unwrap_or_default();
        (program.name().to_owned(), Value::String(version))
    };
    Value::Object([Program::Nginx, Program::HaProxy, Program::Envoy].map(of).into_iter().collect())
}

/// A size that fits a run of all tests, or, by `INTERLOCK_CONTROL=full`, that of the table.
fn size() -> Trade {
    if std::env::var("INTERLOCK_CONTROL").is_ok_and(|size| size == "full") {
        // So that the fault outlasts what the proxies leave an account alone for.
        let pause = Duration::from_millis(600);
        return Trade { before: 24, during: 216, tills: 12, pause };
    }
    Trade { before: 12, during: 48, tills: 12, pause: Duration::from_millis(20) }
}

/// Every peer under every fault, all peers at once: they share nothing but the machine.
fn matrix(trade: Trade) -> Vec<Cell> {
    std::thread::scope(|scope| {
        let proxies: Vec<_> =
            PROXIES.into_iter().map(|proxy| scope.spawn(move || at_proxy(proxy, trade))).collect();
        let halves: Vec<_> = FAULTS
            .chunks(3)
            .map(|faults| {
                let cells = faults.iter().map(move |fault| at_interlock(*fault, trade));
                scope.spawn(move || cells.collect::<Vec<_>>())
            })
            .collect();
        let all = proxies.into_iter().chain(halves);
        all.flat_map(|thread| thread.join().expect("a row of the matrix")).collect()
    })
}

fn at_proxy(proxy: Proxy, trade: Trade) -> Vec<Cell> {
    let stage = Stage::start();
    let line = Line::new();
    let cells = FAULTS.into_iter().map(|fault| {
        stage.reset();
        // Nothing that it remembers of the fault before.
        let running = proxy.start(&stage.upstreams);
        let pay = |name| merchant::pay_provider(&line, &running.url, KEY, &ACCOUNTS, name);
        let mut began_well = false;
        let book = trade.run(pay, "order", |book| {
            began_well = is_well(book);
            fault.orders(ACCOUNTS[0]).iter().for_each(|order| stage.fault(order));
        });
        stage.lift_faults();
        drop(running);
        let verdict = Verdict::of(&book, &stage.ledger());
        let cell = Cell {
            peer: proxy.name(),
            setting: proxy.setting(),
            hides: proxy.hides(),
            fault,
            verdict,
            began_well,
        };
        cell.tell();
        cell
    });
    cells.collect()
}

fn at_interlock(fault: Fault, trade: Trade) -> Cell {
    let house = House::with(Plan { timeout: "1s", breaker: "\"default\"", ..Plan::default() });
    let line = Line::new();
    let shop = Shop { line: &line, api: &house.api };
    let mut began_well = false;
    let mut book = trade.run(
        |name| shop.pay(name),
        "order",
        |book| {
            began_well = is_well(book);
            for order in fault.orders("checkout-eu") {
                house.fault_with(order);
            }
        },
    );
    house.lift_faults();
    let end = Instant::now() + SETTLES;
    shop.ask_again(&mut book, end);
    // Money that is being given back is not kept.
    let verdict = loop {
        let verdict = Verdict::of(&book, &house.ledger());
        if verdict.violations() == 0 || Instant::now() > end {
            break verdict;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let cell = Cell {
        peer: "Interlock".to_owned(),
        setting: "failover = \"proven\"",
        hides: false,
        fault,
        verdict,
        began_well,
    };
    cell.tell();
    cell
}

/// Whether the peer did its work while both accounts were well; a busy machine may delay some.
fn is_well(book: &[Sale]) -> bool {
    2 * book.iter().filter(|sale| sale.said == Said::Paid).count() >= book.len()
}

/// Everything that is not as it must be, one sentence each.
fn complaints(cells: &[Cell]) -> Vec<String> {
    let mut found = Vec::new();
    for cell in cells {
        let Cell { peer, fault, verdict, .. } = cell;
        let place = format!("{peer}, {}", fault.name());
        if !cell.began_well {
            found.push(format!("{place}: most payments failed before the fault began"));
        }
        if peer == "Interlock" && verdict.violations() > 0 {
            found.push(format!("{place}: the promise is broken: {verdict}"));
        }
        if peer == "Interlock" && *fault == Fault::Refused && verdict.failures > 0 {
            found.push(format!("{place}: nothing was sent, yet the merchant saw: {verdict}"));
        }
        if cell.hides && fault.always_charges() && verdict.charged_twice == 0 {
            found.push(format!("{place}: the judge is blind, it saw no second charge: {verdict}"));
        }
    }
    // Half of these were charged, by chance, and some proxies soon leave the account alone.
    for fault in [Fault::Hang, Fault::Reset] {
        let theirs = cells.iter().filter(|cell| cell.hides && cell.fault == fault);
        if theirs.map(|cell| cell.verdict.charged_twice).sum::<usize>() == 0 {
            found.push(format!("{}: the judge saw no second charge at any peer", fault.name()));
        }
    }
    found
}

impl Cell {
    fn json(&self) -> Value {
        json!({
            "peer": self.peer,
            "setting": self.setting,
            "fault": self.fault.name(),
            "payments": self.verdict.payments,
            "failures": self.verdict.failures,
            "charged_twice": self.verdict.charged_twice,
            "forgotten": self.verdict.forgotten,
            "answered_later": self.verdict.later,
        })
    }

    fn tell(&self) {
        say(&format!("{}, {}: {}", self.peer, self.fault.name(), self.verdict));
    }
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "control: {line}");
}

#[test]
fn a_broken_promise_and_a_blind_judge_are_complained_of() {
    let cell = |peer: &str, fault, charged_twice| Cell {
        peer: peer.to_owned(),
        setting: "",
        hides: peer != "Interlock",
        fault,
        verdict: Verdict { payments: 60, failures: 1, charged_twice, ..Verdict::default() },
        began_well: true,
    };
    let good = [
        cell("Interlock", Fault::Hang, 0),
        cell("nginx", Fault::Hang, 1),
        cell("nginx", Fault::Reset, 1),
        cell("nginx", Fault::ChargeThenDrop, 1),
    ];
    assert_eq!(complaints(&good), Vec::<String>::new());
    for (n, bad, word) in [
        (0, cell("Interlock", Fault::Hang, 1), "promise"),
        (0, cell("Interlock", Fault::Refused, 0), "nothing was sent"),
        (1, cell("nginx", Fault::Hang, 0), "no second charge"),
        (3, cell("nginx", Fault::ChargeThenDrop, 0), "blind"),
        (0, Cell { began_well: false, ..cell("Interlock", Fault::Hang, 0) }, "before the fault"),
    ] {
        let mut cells = good.clone();
        cells[n] = bad;
        let found = complaints(&cells);
        assert!(found.len() == 1 && found[0].contains(word), "{word}: {found:?}");
    }
}

#[test]
fn the_judge_sees_a_second_charge_and_forgotten_money() {
    let sale = |name: &str, said| Sale {
        reference: name.to_owned(),
        id: None,
        said,
        later: false,
        entries: ACCOUNTS.map(|account| (account.to_owned(), name.to_owned())).to_vec(),
    };
    let moved = |account: &str, name: &str, kind: &str| {
        json!({ "account": account, "reference": name, "op_id": name, "kind": kind,
                "amount": AMOUNT })
    };
    let [a, b] = ACCOUNTS;
    let book = [
        sale("once", Said::Paid),
        sale("twice", Said::Paid),
        sale("given-back", Said::Paid),
        sale("told-failed", Said::Failed),
        sale("never-told", Said::Nothing),
        sale("not-charged", Said::Failed),
        sale("not-charged-but-paid", Said::Paid),
    ];
    let ledger = [
        moved(a, "once", "charge"),
        moved(a, "twice", "charge"),
        moved(b, "twice", "charge"),
        moved(a, "given-back", "charge"),
        moved(b, "given-back", "charge"),
        moved(a, "given-back", "refund"),
        moved(a, "told-failed", "charge"),
        moved(b, "never-told", "charge"),
        moved(b, "of-no-payment", "charge"),
    ];
    let verdict = Verdict::of(&book, &ledger);
    let expected =
        Verdict { payments: 7, failures: 3, charged_twice: 1, forgotten: 3, unpaid: 1, later: 0 };
    assert_eq!(verdict, expected);
    assert_eq!(verdict.violations(), 5);
}
