//! A covering array: worlds in which every two levels of all factors meet at least once.

use std::collections::BTreeSet;

use interlock_plugin_api::{
    Close, Concurrency, Contract, IdempotencyClass, Inquiry, NotFound, OfferExpiry,
};

use super::{World, cancel, capture, refund, switch};
use crate::declarations::{HOUR, MINUTE, asked, barcode, card, closes, moves, nothing, qr};

/// Every factor and its levels.
pub const FACTORS: [(&str, &[&str]); 12] = [
    ("class", &["strong", "success_only", "none"]),
    ("copies", &["excluded", "undeclared"]),
    ("decides", &["prompt", "asynchronous"]),
    ("key_life", &["24h", "10min"]),
    ("inquiry", &["believed", "unbelieved", "none"]),
    ("op_inquiry", &["believed", "unbelieved", "none"]),
    (
        "close",
        &["none", "once", "repeatable", "refunds", "refunds_again", "tombstone", "all", "young"],
    ),
    ("expiry", &["enforced", "none"]),
    ("method", &["barcode", "qr", "card"]),
    ("capture", &["automatic", "manual"]),
    ("nodes", &["1", "2"]),
    ("wishes", &["none", "cancel", "money", "switch", "both"]),
];

/// One level of each factor.
pub type Row = [usize; FACTORS.len()];

const NONE: usize = usize::MAX;

fn level(row: &Row, factor: &str) -> &'static str {
    let n = FACTORS.iter().position(|(name, _)| *name == factor).expect("a factor");
    if row[n] == NONE { "" } else { FACTORS[n].1[row[n]] }
}

/// What a configuration check would refuse: a code that nothing ends (G6).
fn refused(row: &Row) -> bool {
    let shows = level(row, "method") == "qr" || level(row, "wishes") == "switch";
    let endless = level(row, "close") == "none"
        && (level(row, "expiry") == "none" || level(row, "inquiry") == "none");
    shows && endless
}

/// Rows so that every two levels that may meet do meet; greedy, and always the same.
pub fn covering() -> Vec<Row> {
    let mut open = pairs();
    let mut rows = Vec::new();
    while let Some(&(f, l, g, m)) = open.first() {
        let mut row = [NONE; FACTORS.len()];
        (row[f], row[g]) = (l, m);
        // The scarcest factor first: what has most levels is hardest to place.
        let mut order: Vec<usize> = (0..FACTORS.len()).filter(|n| row[*n] == NONE).collect();
        order.sort_by_key(|n| std::cmp::Reverse(FACTORS[*n].1.len()));
        for n in order {
            let best = (0..FACTORS[n].1.len()).filter_map(|l| {
                let mut tried = row;
                tried[n] = l;
                if refused(&tried) {
                    return None;
                }
                let gain = covered(&tried).filter(|p| open.contains(p)).count();
                // What was seldom taken, so that the last rows are not all alike.
                let taken = rows.iter().filter(|row: &&Row| row[n] == l).count();
                Some((gain, std::cmp::Reverse((taken, l))))
            });
            let Some((_, std::cmp::Reverse((_, l)))) = best.max() else { break };
            row[n] = l;
        }
        if row.contains(&NONE) {
            // These two never meet in a world that a check would admit.
            open.remove(&(f, l, g, m));
            continue;
        }
        covered(&row).collect::<Vec<_>>().iter().for_each(|p| {
            open.remove(p);
        });
        rows.push(row);
    }
    rows
}

type Pair = (usize, usize, usize, usize);

fn pairs() -> BTreeSet<Pair> {
    let levels = |f: usize| 0..FACTORS[f].1.len();
    let factors = 0..FACTORS.len();
    let two = factors.clone().flat_map(|f| factors.clone().skip(f + 1).map(move |g| (f, g)));
    two.flat_map(|(f, g)| levels(f).flat_map(move |l| levels(g).map(move |m| (f, l, g, m))))
        .collect()
}

fn covered(row: &Row) -> impl Iterator<Item = Pair> + '_ {
    (0..FACTORS.len()).flat_map(move |f| {
        (f + 1..FACTORS.len())
            .filter(move |g| row[f] != NONE && row[*g] != NONE)
            .map(move |g| (f, row[f], g, row[g]))
    })
}

/// The contract of a row.
pub fn contract(row: &Row) -> Contract {
    let class = match level(row, "class") {
        "strong" => IdempotencyClass::Strong,
        "success_only" => IdempotencyClass::SuccessOnly,
        _ => IdempotencyClass::None,
    };
    let copies = match level(row, "copies") {
        "excluded" => Concurrency::Excluded,
        _ => Concurrency::Undeclared,
    };
    let life = if level(row, "key_life") == "24h" { 24 * HOUR } else { 10 * MINUTE };
    let inquiry = |factor| match level(row, factor) {
        "believed" => asked(NotFound::AfterFence),
        "unbelieved" => asked(NotFound::Undeclared),
        _ => Inquiry::default(),
    };
    let expiry = OfferExpiry { after_ms: 30 * MINUTE, margin_ms: MINUTE };
    Contract {
        moves: moves(class, copies, level(row, "decides") == "prompt", life),
        inquiry: inquiry("inquiry"),
        operation_inquiry: inquiry("op_inquiry"),
        close: close(level(row, "close")).map(closes).unwrap_or_default(),
        offer_expiry: (level(row, "expiry") == "enforced").then_some(expiry),
        ..nothing()
    }
}

fn close(name: &str) -> Option<Close> {
    let once = Close::default();
    Some(match name {
        "once" => once,
        "repeatable" => Close { repeatable: true, ..once },
        "refunds" => Close { may_refund: true, ..once },
        "refunds_again" => Close { may_refund: true, repeatable: true, ..once },
        "tombstone" => Close { tombstone: true, ..once },
        "all" => Close { may_refund: true, tombstone: true, repeatable: true, ..once },
        "young" => Close { min_age_ms: 2 * MINUTE, repeatable: true, ..once },
        _ => return None,
    })
}

/// The world of a row, before anything may go wrong.
pub fn world(row: &Row) -> World {
    let name = FACTORS.iter().map(|(f, _)| level(row, f)).collect::<Vec<_>>().join(" ");
    let every = ["one", "two", "three"];
    let method = match level(row, "method") {
        "barcode" => barcode(),
        "qr" => qr(),
        _ => card(&every),
    };
    let other = if level(row, "method") == "qr" { barcode() } else { qr() };
    let mut world = World::new(name, &contract(row), method);
    let manual = level(row, "capture") == "manual";
    if manual {
        world = world.manual();
    }
    if level(row, "nodes") == "2" {
        world = world.twice();
    }
    let money = if manual {
        vec![capture("x", Some(2_000)), capture("y", None), refund("r", Some(1_000))]
    } else {
        vec![refund("r", Some(1_000)), refund("r", Some(1_000)), refund("q", None)]
    };
    let wishes = match level(row, "wishes") {
        "cancel" => vec![cancel()],
        "money" => money,
        "switch" => vec![switch(other)],
        "both" => vec![cancel(), money[0].clone()],
        _ => Vec::new(),
    };
    let shows = level(row, "method") == "qr" || level(row, "wishes") == "switch";
    let visits = u8::from(shows);
    world.wishing(wishes).shoppers(visits, visits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_two_levels_that_may_meet_do_meet() {
        let rows = covering();
        let seen: BTreeSet<Pair> =
            rows.iter().flat_map(|row| covered(row).collect::<Vec<_>>()).collect();
        assert_eq!(pairs().difference(&seen).count(), 0);
        assert!(rows.iter().all(|row| !refused(row)));
    }
}
