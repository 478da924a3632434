//! What will happen to a world besides the payments: who asks for what, what breaks and when; and
//! the policies over which worlds are spread.

use std::sync::Arc;

use interlock_engine::{MerchantPolicy, Method, Policy, Request};
use interlock_plugin_api::{
    CaptureMode, Close, Concurrency, Contract, IdempotencyClass, Inquiry, NotFound, OfferExpiry,
};

use super::node::Node;
use super::oracle::Case;
use super::steps::Steps;
use super::weather::Climate;
use super::{CALM, Event, Unsafe, World};
use crate::declarations::{
    AMOUNT, CHALLENGE, HOUR, MINUTE, PAGE, SHOP, account, asked, barcode, card, challenged, closes,
    creating, final_refusals, moves, nothing, page, policy, qr, strict, submission,
};
use crate::dice::Dice;
use crate::provider::{Mood, Provider};

/// The accounts of every policy, in the order of its route.
const ACCOUNTS: [&str; 3] = ["one", "two", "three"];

/// Configurations, each with two versions of its plugins.
pub struct Policies {
    all: Vec<Rules>,
}

struct Rules {
    versions: [Policy; 2],
    contracts: Vec<Arc<Contract>>,
    /// By version, then by account.
    steps: [[Steps; 3]; 2],
}

impl Policies {
    /// So many of them; each promises anything from much to nothing.
    pub fn new(count: u64) -> Self {
        Self { all: (0..count).map(random_rules).collect() }
    }

    /// The configuration of a world, with one version of its plugins.
    pub(super) fn of(&self, seed: u64, version: usize) -> &Policy {
        &self.rules(seed).versions[version]
    }

    /// How many requests the plugin of an account needs.
    pub(super) fn steps(&self, seed: u64, version: usize, account: &str) -> Steps {
        let place = ACCOUNTS.iter().position(|name| *name == account);
        place.map_or_else(Steps::default, |n| self.rules(seed).steps[version][n])
    }

    fn rules(&self, seed: u64) -> &Rules {
        &self.all[(seed % self.all.len() as u64) as usize]
    }
}

impl World<'_> {
    pub(super) fn plan(&mut self, payments: u32) {
        if self.unsafe_driver == Unsafe::AcknowledgeBeforeDurable {
            self.store.acknowledge_early();
        }
        let nodes = 1 + self.dice.index(2);
        self.boots = nodes as u64;
        self.nodes = (1..=self.boots).map(|boot| Node::new(boot, payments)).collect();
        self.climate = Climate::draw(&mut self.dice);
        for case in 0..payments {
            self.plan_case(case);
        }
        self.plan_loss_of_disk();
        for node in 0..nodes {
            for _ in 0..self.dice.below(2) {
                let at = some_time(&mut self.dice);
                let death = self.death();
                self.at(at, Event::Crash(node, death));
            }
            if self.dice.one_in(4) {
                let ms = self.dice.below(2 * HOUR) as i64 - HOUR as i64;
                let at = some_time(&mut self.dice);
                self.at(at, Event::Jump(node, ms));
            }
            if self.dice.one_in(4) {
                let at = some_time(&mut self.dice);
                self.at(at, Event::Reload(node));
            }
        }
    }

    fn plan_case(&mut self, case: u32) {
        let rule = self.policies.rules(self.seed).versions[0].merchants[SHOP];
        let liar = self.dice.one_in(if rule.accept_late_ms.is_some() { 8 } else { 40 });
        let manual = self.dice.one_in(5);
        let method = any_method(&mut self.dice);
        let capture = if manual { CaptureMode::Manual } else { CaptureMode::Automatic };
        let mood = Mood { manual, liar, moody: true };
        let rules = self.policies.rules(self.seed);
        let providers =
            rules.contracts.iter().map(|c| Provider::new(Arc::clone(c), AMOUNT, mood)).collect();
        let mut asked = submission(&format!("k{case}"), method, capture);
        // Now and then the shopper pays one order twice, in two windows.
        let order = match case.checked_sub(1).map(|before| self.cases[before as usize].order) {
            Some(Some(order)) if self.dice.one_in(2) => Some(order),
            _ => self.dice.one_in(12).then_some(u64::from(case)),
        };
        asked.merchant_ref = order.map(|order| format!("order-{order}"));
        let returns = if asked.method.flow == CHALLENGE { 3 } else { 0 };
        let wishes = wishes(&mut self.dice, manual, returns);
        let times: Vec<u64> = wishes.iter().map(|_| some_time(&mut self.dice)).collect();
        let accounts = ACCOUNTS.iter().map(|name| (*name).into()).collect();
        let began = 1_000 + self.dice.below(20_000);
        self.at(began, Event::Submit(case, 0));
        for (wish, at) in times.into_iter().enumerate() {
            self.at(began + at, Event::Wish(case, wish));
            if self.dice.one_in(4) {
                let again = began + at + self.dice.below(3_000);
                self.at(again, Event::Wish(case, wish));
            }
        }
        if self.dice.one_in(6) {
            let at = began + some_time(&mut self.dice);
            self.at(at, Event::Refresh(case));
        }
        for _ in 0..if self.dice.one_in(16) { 1 + self.dice.below(2) } else { 0 } {
            let at = began + some_time(&mut self.dice);
            self.at(at, Event::Portal(case));
        }
        if self.dice.one_in(12) {
            let at = began + some_time(&mut self.dice);
            self.at(at, Event::Speak(case));
        }
        self.at(CALM + 4 * HOUR, Event::Operator(case, 0));
        self.score.payments += 1;
        let mut case = Case::new(asked, providers, accounts, wishes);
        case.order = order;
        case.lied_to = liar;
        case.excused = liar || rule.instant_switch;
        case.accept_late_ms = rule.accept_late_ms;
        self.cases.push(case);
    }
}

/// Soon, a little later, or any time before the calm.
fn some_time(dice: &mut Dice) -> u64 {
    let within = dice.of(&[2_000, 60_000, CALM]);
    1 + dice.below(within)
}

/// What a merchant will want; `returns` is how often at most his shopper comes back.
fn wishes(dice: &mut Dice, manual: bool, returns: u64) -> Vec<Request> {
    let mut wishes = Vec::new();
    for n in 0..if returns > 0 { dice.below(returns + 1) } else { 0 } {
        wishes.push(Request::Confirm { key: format!("y{n}"), details: true });
    }
    if dice.one_in(12) {
        wishes.push(Request::Cancel { key: "c".into() });
    }
    if dice.one_in(12) {
        wishes.push(Request::Switch { key: "s".into(), method: any_method(dice) });
    }
    let refunds = if dice.one_in(4) { 1 + dice.below(2) } else { 0 };
    for n in 0..refunds {
        let amount = dice.of(&[None, Some(AMOUNT), Some(1_000)]);
        wishes.push(Request::Refund { key: format!("r{n}"), amount, reason: None });
    }
    for n in 0..if manual { 1 + dice.below(3) } else { 0 } {
        let amount = dice.of(&[None, Some(AMOUNT), Some(2_000)]);
        wishes.push(Request::Capture { key: format!("x{n}"), amount });
    }
    wishes
}

fn any_method(dice: &mut Dice) -> Method {
    match dice.below(8) {
        0..=1 => barcode(),
        2 => qr(),
        3 => page(),
        4..=5 => challenged(&ACCOUNTS),
        _ => card(&ACCOUNTS),
    }
}

fn random_rules(seed: u64) -> Rules {
    let mut dice = Dice::new(seed ^ 0xabcd_ef00);
    let mut own = Dice::new(seed ^ 0x5eed_0f57);
    let stepping = own.one_in(4);
    let mut contract = || {
        let contract = random_contract(&mut dice);
        let contract = if own.one_in(3) { strict(contract) } else { contract };
        let contract = if own.one_in(2) { final_refusals(contract) } else { contract };
        if stepping && own.one_in(2) { creating(contract) } else { contract }
    };
    let accounts: Vec<_> = ACCOUNTS.iter().map(|name| account(name, contract())).collect();
    let contracts = accounts.iter().map(|a| Arc::new(a.contract.clone())).collect();
    let mut first = policy(accounts);
    let late = own.one_in(6).then(|| own.of(&[5 * MINUTE, HOUR, 24 * HOUR]));
    let rule = MerchantPolicy { instant_switch: dice.one_in(40), accept_late_ms: late };
    first.merchants.insert(SHOP.into(), rule);
    let mut second = first.clone();
    for account in second.accounts.values_mut() {
        account.state_version = 2;
        account.continues = if dice.one_in(2) { vec![1, 2] } else { vec![2] };
        account.plugin_version = "2.0.0".into();
    }
    let [mut old, mut new] = [[Steps::default(); 3]; 2];
    for (old, new) in old.iter_mut().zip(&mut new).filter(|_| stepping) {
        *old = Steps::draw(&mut own);
        *new = if own.one_in(3) { Steps::draw(&mut own) } else { *old };
    }
    let steps = [old, new];
    Rules { versions: [first, second], contracts, steps }
}

fn random_contract(dice: &mut Dice) -> Contract {
    use IdempotencyClass::{None, Strong, SuccessOnly};
    let class = dice.of(&[Strong, Strong, Strong, SuccessOnly, SuccessOnly, SuccessOnly, None]);
    let side = dice.of(&[Concurrency::Excluded, Concurrency::Undeclared]);
    let belief = dice.of(&[NotFound::AfterFence, NotFound::Undeclared]);
    let life = if dice.one_in(3) { 10 * MINUTE } else { 24 * HOUR };
    let inquiry = if dice.one_in(6) { Inquiry::default() } else { asked(belief) };
    let close = dice.one_in(2).then(|| Close {
        may_refund: dice.one_in(2),
        tombstone: dice.one_in(3),
        repeatable: dice.one_in(2),
        min_age_ms: if dice.one_in(4) { 2 * MINUTE } else { 0 },
        ..Close::default()
    });
    let expiry = OfferExpiry { after_ms: 30 * MINUTE, margin_ms: MINUTE };
    Contract {
        moves: moves(class, side, dice.one_in(2), life),
        inquiry,
        operation_inquiry: if dice.one_in(6) { Inquiry::default() } else { asked(belief) },
        offer_expiry: (close.is_none() || dice.one_in(2)).then_some(expiry),
        close: close.map(closes).unwrap_or_default(),
        by_shopper: vec![PAGE.into()],
        approving: if dice.one_in(2) { vec![CHALLENGE.into()] } else { Vec::new() },
        ..nothing()
    }
}
