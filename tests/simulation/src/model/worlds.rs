//! What is searched: one world for every combination of promises, methods, wishes and nodes.
//!
//! Each world is a contract, a way to pay, what the merchant will want, and how much may go wrong.
//! [`table`] makes worlds in which every two levels of all declarations meet (a covering array),
//! and adds those that are about one rule alone.

mod cover;
mod people;
mod special;

use std::collections::BTreeMap;
use std::sync::Arc;

use interlock_engine::{
    AccountPolicy, Failover, Input, Ladder, MerchantPolicy, Method, Policy, Request, Submission,
};
use interlock_plugin_api::{CaptureMode, Contract, CredentialForm, Effect};

use super::calm::Rests;
use super::node::Node;
use super::search::Level;
use super::sights::Sights;
use super::state::{Books, FAULTS, Fault, Left, State};
use crate::declarations::{
    AMOUNT, HOUR, MINUTE, SECOND, SHOP, TIMEOUT, WINDOW, account, policy, submission,
};
use crate::provider::{Mood, Provider};

/// How much of each kind may go wrong where nothing else is said.
const USUAL: [u8; FAULTS] = {
    let mut of = [0; FAULTS];
    (of[Fault::Loss as usize], of[Fault::Late as usize], of[Fault::Whim as usize]) = (4, 4, 4);
    (of[Fault::Twice as usize], of[Fault::Crash as usize], of[Fault::Race as usize]) = (1, 2, 2);
    of[Fault::Unbuilt as usize] = 1;
    of
};

/// One world.
#[derive(Clone, Debug)]
pub struct World {
    /// Its name in reports.
    pub name: String,
    /// The configuration.
    pub policy: Policy,
    /// The same with a version of the plugins that continues none of the old.
    pub newer: Policy,
    /// Names, by their index.
    pub accounts: Vec<String>,
    /// What the merchant asks for.
    pub submission: Submission,
    /// What he may wish afterwards, each once.
    pub wishes: Vec<Wish>,
    /// How many nodes.
    pub nodes: u8,
    /// What may go wrong.
    pub left: Left,
    /// Providers send notifications.
    pub notices: bool,
    /// A plugin needs two requests to take money, and the first has this effect.
    pub two_steps: Option<Effect>,
    /// A restarted node may bring newer plugins.
    pub upgrades: bool,
    /// Two live charges are no mistake of ours: an instant switch, or a provider that lies.
    pub excused: bool,
    /// The new method of a switch is shown at once.
    pub instant_switch: bool,
    /// A success after `failed` is kept.
    pub accepts_late: bool,
    /// Captured later, by a request.
    pub manual: bool,
    /// The providers do not keep their word.
    pub liar: bool,
    /// Minor units.
    pub amount: i64,
    /// W, ms.
    pub late_window_ms: u64,
    /// How long a socket waits, ms.
    pub timeout_ms: u64,
    /// Where the providers are really worse than declared: their true contract.
    pub truth: Option<Contract>,
    /// The unsafe rules that it was made for, by their names.
    pub about: Vec<&'static str>,
    /// From one in so many states the way to rest is walked.
    pub sample: u64,
    /// From where it was walked.
    pub rests: Arc<Rests>,
    /// What was seen on the way.
    pub sights: Arc<Sights>,
}

/// Every world.
pub fn table() -> Vec<World> {
    let covering = cover::covering();
    let scenes = special::special().into_iter().chain(people::people());
    scenes.chain(covering.iter().map(cover::world)).collect()
}

/// What a merchant may wish once.
#[derive(Clone, Debug)]
pub struct Wish {
    request: Option<Request>,
}

impl Wish {
    /// What it is to the engine.
    pub fn input(&self) -> Input {
        self.request.clone().map_or(Input::Refresh, Input::Merchant)
    }

    /// It brings what the shopper came back with.
    pub fn brings_details(&self) -> bool {
        matches!(&self.request, Some(Request::Confirm { details: true, .. }))
    }

    /// It brings the shopper's credential to the node that gets it.
    pub fn brings_credential(&self) -> bool {
        matches!(&self.request, Some(Request::Switch { method, .. })
            if method.form != CredentialForm::None)
    }
}

/// Take no money.
pub fn cancel() -> Wish {
    Wish { request: Some(Request::Cancel { key: "c".into() }) }
}

/// Take so much, or all that is left.
pub fn capture(key: &str, amount: Option<i64>) -> Wish {
    Wish { request: Some(Request::Capture { key: key.into(), amount }) }
}

/// Give so much back, or all that is left.
pub fn refund(key: &str, amount: Option<i64>) -> Wish {
    Wish { request: Some(Request::Refund { key: key.into(), amount, reason: None }) }
}

/// The shopper is back, and this is the key under which it is told.
pub fn confirm(key: &str) -> Wish {
    Wish { request: Some(Request::Confirm { key: key.into(), details: true }) }
}

/// Offer another method.
pub fn switch(method: Method) -> Wish {
    Wish { request: Some(Request::Switch { key: "s".into(), method }) }
}

/// Somebody waits for news.
pub fn refresh() -> Wish {
    Wish { request: None }
}

impl World {
    /// Two accounts under this contract, one node, and nothing that goes wrong.
    pub fn new(name: impl Into<String>, contract: &Contract, method: Method) -> Self {
        Self::over(name, &[contract, contract], method)
    }

    /// Accounts under these contracts, in this order.
    pub fn over(name: impl Into<String>, contracts: &[&Contract], method: Method) -> Self {
        let names = ["one", "two", "three"];
        let resolvable = contracts.iter().all(|c| c.can_resolve(&method.flow));
        let accounts: Vec<AccountPolicy> =
            contracts.iter().zip(names).map(|(c, name)| account(name, (*c).clone())).collect();
        let mut policy = policy(accounts);
        policy.ladder = Ladder {
            steps_ms: [20 * SECOND, 2 * MINUTE, 30 * MINUTE].into(),
            give_up_ms: 2 * HOUR,
            patience_ms: MINUTE,
            offer_steps_ms: [10 * MINUTE, 30 * MINUTE].into(),
        };
        if !resolvable {
            policy.routes[0].failover = Failover::NotSent;
        }
        let window = contracts.iter().map(|c| c.late_window_ms).max().unwrap_or(WINDOW);
        let mut world = Self {
            name: name.into(),
            newer: policy.clone(),
            policy,
            accounts: names[..contracts.len()].iter().map(|n| (*n).to_owned()).collect(),
            submission: submission("k", method, CaptureMode::Automatic),
            wishes: Vec::new(),
            nodes: 1,
            left: Left { of: USUAL, ..Left::nothing() },
            notices: true,
            two_steps: None,
            upgrades: false,
            excused: false,
            instant_switch: false,
            accepts_late: false,
            manual: false,
            liar: false,
            amount: AMOUNT,
            late_window_ms: window,
            timeout_ms: TIMEOUT,
            truth: None,
            about: Vec::new(),
            sample: 32,
            rests: Arc::default(),
            sights: Arc::default(),
        };
        world.renew();
        world
    }

    fn renew(&mut self) {
        self.newer = self.policy.clone();
        for account in self.newer.accounts.values_mut() {
            account.plugin_version = "2.0.0".into();
            (account.state_version, account.continues) = (2, vec![2]);
        }
    }

    /// Captured by a request.
    pub fn manual(mut self) -> Self {
        self.manual = true;
        self.submission.capture = CaptureMode::Manual;
        self
    }

    /// What the merchant may wish.
    pub fn wishing(mut self, wishes: impl Into<Vec<Wish>>) -> Self {
        self.wishes = wishes.into();
        self
    }

    /// Two nodes over one store.
    pub fn twice(mut self) -> Self {
        self.nodes = 2;
        self
    }

    /// What may go wrong, and how often each.
    pub fn faults(mut self, kinds: &[(Fault, u8)]) -> Self {
        self.left.of = [0; FAULTS];
        for (kind, n) in kinds {
            self.left.of[*kind as usize] = *n;
        }
        self
    }

    /// How much more often the clock moves.
    pub fn longer(mut self, ticks: u8) -> Self {
        self.left.ticks = ticks;
        self
    }

    /// What shoppers do with a code.
    pub fn shoppers(mut self, scans: u8, pays: u8) -> Self {
        (self.left.scans, self.left.pays) = (scans, pays);
        self
    }

    /// How often money is given back in a provider's portal.
    pub fn portals(mut self, portals: u8) -> Self {
        self.left.portals = portals;
        self
    }

    /// How often an operator speaks before he is asked.
    pub fn verdicts(mut self, verdicts: u8) -> Self {
        self.left.verdicts = verdicts;
        self
    }

    /// A restarted node may bring newer plugins.
    pub fn upgrading(mut self) -> Self {
        self.upgrades = true;
        self
    }

    /// A plugin needs two requests to take money, and the first has this effect.
    pub fn stepping(mut self, first: Effect) -> Self {
        self.two_steps = Some(first);
        self
    }

    /// Providers take what they declined.
    pub fn lying(mut self) -> Self {
        self.liar = true;
        self.excused = true;
        self
    }

    /// The unsafe rules that it shows.
    pub fn about(mut self, mutants: &[&'static str]) -> Self {
        self.about = mutants.to_vec();
        self
    }

    /// Providers tell nothing by themselves.
    pub fn silent(mut self) -> Self {
        self.notices = false;
        self
    }

    /// The merchant's own rules.
    pub fn rules(mut self, rules: MerchantPolicy) -> Self {
        self.policy.merchants = BTreeMap::from([(SHOP.to_owned(), rules)]);
        self.instant_switch = rules.instant_switch;
        self.excused |= rules.instant_switch;
        self.accepts_late = rules.accept_late_ms.is_some();
        self.renew();
        self
    }

    /// Two nodes, and every kind of fault.
    pub fn is_crowded(&self) -> bool {
        self.nodes > 1 && self.left.of == USUAL
    }

    /// It is about some kinds of faults alone.
    pub fn is_scene(&self) -> bool {
        self.left.of != USUAL
    }

    /// The same world with so much that may go wrong, and an empty shelf.
    pub fn at(&self, level: Level) -> Self {
        let Level { faults, ticks, visits, rare } = level;
        let mut world = self.clone();
        world.rests = Arc::default();
        world.sights = Arc::default();
        world.left.all = faults;
        world.left.ticks = ticks.saturating_add(self.left.ticks);
        world.left.visits = if self.nodes > 1 { visits } else { 0 };
        if !rare && self.left.of == USUAL {
            for kind in [Fault::Twice, Fault::Race, Fault::Unbuilt] {
                world.left.of[kind as usize] = 0;
            }
        }
        world
    }

    /// Before anything has happened.
    pub fn first(&self) -> State {
        let mood = Mood { manual: self.manual, liar: self.liar, moody: true };
        let books = self.accounts.iter().map(|name| {
            let declared = &self.policy.accounts[name].contract;
            let contract = Arc::new(self.truth.as_ref().unwrap_or(declared).clone());
            Arc::new(Books::new(Provider::new(contract, self.amount, mood)))
        });
        State {
            row: None,
            books: books.collect(),
            wire: Vec::new(),
            nodes: (0..self.nodes).map(Node::first).collect(),
            now: 1_000,
            laters: Vec::new(),
            denied: Vec::new(),
            wishes: (1 << self.wishes.len()) - 1,
            left: self.left,
            broken: None,
        }
    }

    /// An account's place.
    pub fn account_index(&self, name: &str) -> u8 {
        self.accounts.iter().position(|a| a == name).map_or(u8::MAX, |n| n as u8)
    }

    /// Whether a provider takes a second copy of this request for the first.
    pub fn serialises(&self, it: &super::state::Sending) -> bool {
        use interlock_engine::ExchangeKind;
        use interlock_plugin_api::{Concurrency, IdempotencyClass};
        let name = &self.accounts[usize::from(it.account)];
        let purpose = match it.kind {
            ExchangeKind::Authorize => "pay",
            kind => kind.as_str(),
        };
        let rule = self.policy.accounts[name].contract.move_rule(purpose);
        !it.offer
            && !it.opens
            && rule.class == IdempotencyClass::Strong
            && rule.concurrency == Concurrency::Excluded
    }
}
