//! Thousands of payments through two nodes, bad networks and fake providers, by seed.
//!
//! The oracle believes only the providers' books and what the merchant was told first. A failure
//! prints the seed of its payment; `SEED=n cargo test -p interlock-engine walk` repeats that one,
//! `PAYMENTS=n` sets how many are walked.

use std::collections::BTreeMap;

use interlock_engine::{
    Input, Ladder, MerchantPolicy, Method, OperationState, Origin, Payment, Policy, Request,
    Settled, status,
};
use interlock_plugin_api::{
    CaptureMode, Close, Concurrency, Contract, IdempotencyClass, Inquiry, NotFound, OfferExpiry,
};

use crate::ledger::Provider;
use crate::nodes::{CALM, Event, Street, WINDOW, resting};
use crate::table::{
    AMOUNT, Board, HOUR, MINUTE, account, asked, barcode_method, bare, moves, policy, qr_method,
    submission, token_method,
};

/// How many payments are walked by default.
const PAYMENTS: u64 = 200_000;
/// Policies over which the payments are spread.
const POLICIES: u64 = 512;

/// Random numbers from a seed (splitmix64).
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def0)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Default)]
struct Score {
    payments: u64,
    turns: u64,
    faults: u64,
    manual: u64,
    succeeded: u64,
    failed: u64,
    canceled: u64,
    holding: u64,
    attempts: u64,
    operations: u64,
    given_back: u64,
}

#[test]
fn whatever_happens_one_charge_at_most_is_kept_and_the_merchant_was_told_the_truth() {
    let number = |name: &str| std::env::var(name).ok().and_then(|s| s.parse::<u64>().ok());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PAYMENTS").unwrap_or(PAYMENTS),
    };
    let policies: Vec<Policy> = (0..POLICIES).map(random_policy).collect();
    let board = Board::default();
    let began = std::time::Instant::now();
    let mut score = Score::default();
    let mut broken = Vec::new();
    for seed in seeds {
        broken.extend(walk(seed, &policies, &board, &mut score));
        if broken.len() > 20 {
            break;
        }
    }
    println!(
        "{} payments, {} turns, {} faults in {:?}: {} succeeded, {} held, {} failed, {} canceled, \
         {} wait for an operator; {} attempts, {} operations, {} given back",
        score.payments,
        score.turns,
        score.faults,
        began.elapsed(),
        score.succeeded,
        score.holding,
        score.failed,
        score.canceled,
        score.manual,
        score.attempts,
        score.operations,
        score.given_back,
    );
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// One payment from its request to its rest; what went wrong.
fn walk(seed: u64, policies: &[Policy], board: &Board, score: &mut Score) -> Vec<String> {
    let mut dice = Dice::new(seed);
    let policy = &policies[(seed % POLICIES) as usize];
    let liar = dice.one_in(25);
    let manual = dice.one_in(4);
    let method = any_method(&mut dice);
    let providers: BTreeMap<String, Provider> = policy
        .accounts
        .iter()
        .map(|(n, a)| (n.clone(), Provider::new(a.contract.clone(), AMOUNT, manual, liar)))
        .collect();
    let mut street = Street::new(policy, board, dice.clone(), providers);
    street.excused = liar || policy.merchants["shop"].instant_switch;
    let mut asked = submission(method);
    asked.key = format!("k{seed}");
    asked.capture = if manual { CaptureMode::Manual } else { CaptureMode::Automatic };
    street.at(1_000, Event::Anyone(Input::Submitted(asked)));
    street.trace = std::env::var_os("SEED").is_some();
    plan(&mut street, &mut dice, manual);
    street.run(4_000);
    score.add(&street);
    let mut broken = std::mem::take(&mut street.broken);
    judge(&street, manual, &mut broken);
    broken.into_iter().map(|why| format!("SEED={seed}: {why}")).collect()
}

/// What merchants, machines and clocks will do.
fn plan(street: &mut Street<'_>, dice: &mut Dice, manual: bool) {
    let some = |dice: &mut Dice| {
        let within = [2_000, 60_000, CALM][dice.below(3) as usize];
        1_001 + dice.below(within)
    };
    if dice.one_in(5) {
        let request = Request::Cancel { key: "c".into() };
        street.at(some(dice), Event::Anyone(Input::Merchant(request)));
    }
    if dice.one_in(6) {
        let method = any_method(dice);
        let request = Request::Switch { key: "s".into(), method };
        street.at(some(dice), Event::Anyone(Input::Merchant(request)));
    }
    for n in 0..dice.below(3) {
        let amount = [None, Some(AMOUNT), Some(1_000)][dice.below(3) as usize];
        let request = Request::Refund { key: format!("r{n}"), amount, reason: None };
        let at = some(dice);
        street.at(at, Event::Anyone(Input::Merchant(request.clone())));
        if dice.one_in(3) {
            street.at(at + dice.below(50), Event::Anyone(Input::Merchant(request)));
        }
    }
    for n in 0..if manual { 1 + dice.below(3) } else { 0 } {
        let amount = [None, Some(AMOUNT), Some(2_000)][dice.below(3) as usize];
        let request = Request::Capture { key: format!("x{n}"), amount };
        street.at(some(dice), Event::Anyone(Input::Merchant(request)));
    }
    for _ in 0..dice.below(3) {
        let node = dice.below(2) as usize;
        street.at(some(dice), Event::Crash(node));
    }
    if dice.one_in(4) {
        let ms = dice.below(2 * HOUR) as i64 - HOUR as i64;
        let node = dice.below(2) as usize;
        street.at(some(dice), Event::Jump(node, ms));
    }
    if dice.one_in(2) {
        street.at(some(dice), Event::Anyone(Input::Refresh));
    }
}

/// The oracle: the providers' books against what the merchant was told.
fn judge(street: &Street<'_>, manual: bool, broken: &mut Vec<String>) {
    let Some(p) = &street.payment else { return };
    let waits = p.attempts.iter().any(|a| a.manual) || p.operations.iter().any(|o| o.manual);
    if waits && resting(p) {
        // What the provider definitely refuses again and again is an operator's to know.
        let undone = |s| matches!(s, OperationState::Rejected | OperationState::Reversed);
        let refused = p.operations.iter().filter(|o| undone(o.state)).count() >= 3;
        if !street.excused && !refused && p.attempts.iter().all(|a| can_be_resolved(street, a)) {
            broken.push(format!("an operator is asked what could be known: {}", story(p)));
        }
        return;
    }
    let (live, net, held) = street.providers.values().fold((0, 0, 0), |(l, n, h), provider| {
        (l + provider.live(), n + provider.net(), h + provider.held())
    });
    let open = p.attempts.iter().any(|a| !a.is_over() && !a.state.is_success())
        || p.operations.iter().any(|o| o.state.is_open());
    if open {
        broken.push(format!("open for ever: {}", story(p)));
        return;
    }
    let refunds: i64 = p.refunded();
    let expected = match p.settled {
        Some(Settled::Succeeded) => p.captured() - refunds,
        _ => 0,
    };
    if net != expected {
        broken.push(format!("net {net}, told {expected}: {}", story(p)));
    }
    match p.settled {
        Some(Settled::Succeeded) => {}
        Some(_) if live == 0 => {}
        Some(told) => broken.push(format!("told {told:?}, {live} live: {}", story(p))),
        None => {
            let holding = manual && held == 1 && status::status(p).0.as_str() == "requires_capture";
            if !holding {
                broken.push(format!("never told: {}", story(p)));
            }
        }
    }
}

/// Whether asking alone ends every doubt of an attempt and of its operations.
fn can_be_resolved(street: &Street<'_>, a: &interlock_engine::Attempt) -> bool {
    let contract = &street.policy.accounts[&a.account].contract;
    let asks = |i: Inquiry| i.not_found == NotFound::AfterFence && i.by_our_reference;
    asks(contract.inquiry)
        && asks(contract.operation_inquiry)
        && (a.offer.is_none() || contract.offer_expiry.is_some())
}

/// A payment in one line.
fn story(p: &Payment) -> String {
    let attempts: Vec<String> = p
        .attempts
        .iter()
        .map(|a| {
            format!(
                "{}:{}/{}{}",
                a.account,
                a.flow,
                a.state.as_str(),
                if a.unconfirmed.is_some() { "?" } else { "" }
            )
        })
        .collect();
    let operations: Vec<String> = p
        .operations
        .iter()
        .map(|o| format!("{} {} {}", o.kind.as_str(), o.amount, o.state.as_str()))
        .collect();
    format!("{:?} [{}] [{}]", p.settled, attempts.join(", "), operations.join(", "))
}

impl Score {
    fn add(&mut self, street: &Street<'_>) {
        self.payments += 1;
        self.turns += street.turns;
        self.faults += street.faults;
        let Some(p) = &street.payment else { return };
        self.attempts += p.attempts.len() as u64;
        self.operations += p.operations.len() as u64;
        let ours = |o: &&interlock_engine::Operation| {
            o.origin == Origin::Resolver && o.state == OperationState::Done
        };
        self.given_back += p.operations.iter().filter(ours).count() as u64;
        match p.settled {
            Some(Settled::Succeeded) => self.succeeded += 1,
            Some(Settled::Failed) => self.failed += 1,
            Some(Settled::Canceled) => self.canceled += 1,
            None => self.holding += 1,
        }
        self.manual += u64::from(resting(p));
    }
}

fn any_method(dice: &mut Dice) -> Method {
    match dice.below(3) {
        0 => barcode_method(),
        1 => qr_method(),
        _ => token_method(&["one", "two", "three"]),
    }
}

/// Three accounts whose providers promise anything from much to nothing.
fn random_policy(seed: u64) -> Policy {
    let mut dice = Dice::new(seed ^ 0xabcd_ef00);
    let accounts =
        ["one", "two", "three"].map(|name| account(name, random_contract(&mut dice))).into();
    let mut policy = policy(accounts);
    policy.routes[0].deadline_ms = 2 * HOUR;
    if dice.one_in(40) {
        let rule = MerchantPolicy { instant_switch: true, ..MerchantPolicy::default() };
        policy.merchants.insert("shop".into(), rule);
    }
    let second = 1_000;
    policy.ladder = Ladder {
        steps_ms: [1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800].map(|s| s * second).into(),
        give_up_ms: 6 * HOUR,
        patience_ms: MINUTE,
        offer_steps_ms: [5, 30, 120, 600].map(|s| s * second).into(),
    };
    policy
}

fn random_contract(dice: &mut Dice) -> Contract {
    let class = [IdempotencyClass::Strong, IdempotencyClass::SuccessOnly, IdempotencyClass::None]
        [[0, 0, 1, 1, 2][dice.below(5) as usize]];
    let side = [Concurrency::Excluded, Concurrency::Undeclared][dice.below(2) as usize];
    let belief = [NotFound::AfterFence, NotFound::Undeclared][dice.below(2) as usize];
    let mut rules = moves(class, side);
    let prompt = dice.one_in(2);
    for rule in rules.values_mut() {
        rule.never_asynchronous = prompt;
        rule.key_life_ms = if dice.one_in(3) { 10 * MINUTE } else { 24 * HOUR };
    }
    let inquiry = if dice.one_in(6) { Inquiry::default() } else { asked(belief) };
    let mut close = BTreeMap::new();
    if dice.one_in(2) {
        close.insert(
            "*".to_owned(),
            Close {
                may_refund: dice.one_in(2),
                tombstone: dice.one_in(3),
                repeatable: dice.one_in(2),
                min_age_ms: if dice.one_in(4) { 2 * MINUTE } else { 0 },
                ..Close::default()
            },
        );
    }
    let expiry = OfferExpiry { after_ms: 30 * MINUTE, margin_ms: MINUTE };
    Contract {
        moves: rules,
        inquiry,
        operation_inquiry: if dice.one_in(6) { Inquiry::default() } else { asked(belief) },
        offer_expiry: (close.is_empty() || dice.one_in(2)).then_some(expiry),
        close,
        late_window_ms: WINDOW,
        ..bare()
    }
}
