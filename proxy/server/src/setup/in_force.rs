//! The configuration in force, replaced in one step, and the one that a part of the new payments
//! tries out first.
//!
//! Who needs it takes the whole snapshot and keeps it for what is being done: a turn, an exchange
//! with a provider. So nothing sees half of a reload, and an answer is read by the plugin that
//! built its request, for as long as somebody waits for it.
//!
//! A canary is a second snapshot for a share of the payments that begin while it lasts. Each stays
//! with one of the two, by its number. For each account what comes of both is counted, and the
//! canary ends by itself when the new one fails where the old one does not.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use interlock_engine::Stamp;

use super::Setup;

/// No account is judged by fewer exchanges of the new one.
const JUDGED_MIN: u64 = 10;
/// The new one may fail twice as often as the old one, and this share more.
const TOLERATED: f64 = 0.1;
/// A difference is believed when it is so many times what chance alone makes of it. A provider that
/// fails for a moment meets a few payments of one and none of the other.
const SURE: f64 = 3.0;

/// Which configurations are in force.
pub struct InForce {
    both: ArcSwap<Both>,
    told: Mutex<Option<Told>>,
}

struct Both {
    setup: Arc<Setup>,
    canary: Option<Arc<Canary>>,
}

/// A configuration that is tried out.
pub struct Canary {
    /// The new one.
    pub setup: Arc<Setup>,
    /// Its share of new payments, more than 0 and less than 1.
    pub share: f64,
    /// When it began.
    pub began: Stamp,
    /// How long it lasts at least, ms.
    pub for_ms: u64,
    seen: Mutex<BTreeMap<String, Pair>>,
}

/// What became of the last reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When, Unix ms.
    pub at_ms: i64,
    /// In one word, which is the metric's label too.
    pub result: &'static str,
    /// The generation that was to come.
    pub generation: u64,
    /// Who asked for it; none when it was a signal, or nobody.
    pub by: Option<String>,
    /// Why it was not put into force, or why it was.
    pub why: Option<String>,
}

/// What came of something that was done for a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The provider answered, and the plugin understood it.
    Answer,
    /// The plugin could not read the answer.
    Unread,
    /// The provider refuses our settings.
    Config,
    /// The provider failed, or was not reached.
    Failure,
    /// The plugin built no request.
    Unbuilt,
    /// The provider refuses the account: its credentials, perhaps.
    Restricted,
    /// A breaker opened that is open in the canary alone.
    Tripped,
    /// The plugin may not be called any more.
    Broken,
}

impl Heard {
    /// The word in log and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Unread => "unread_answers",
            Self::Config => "config",
            Self::Failure => "failures",
            Self::Unbuilt => "requests_not_built",
            Self::Restricted => "account_restricted",
            Self::Tripped => "breaker_open",
            Self::Broken => "plugin_quarantined",
        }
    }
}

/// Why a canary was ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// The generation that was tried.
    pub generation: u64,
    /// The account that failed.
    pub account: String,
    /// What failed most.
    pub class: &'static str,
    /// In words.
    pub why: String,
}

/// How an account did in one of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Everything that was heard.
    pub all: u64,
    /// Of these, what was no understood answer.
    pub bad: u64,
}

impl Tally {
    fn share(self) -> f64 {
        self.bad as f64 / self.all.max(1) as f64
    }

    /// Whether it fails more often than the other one, and not by chance (the test of two
    /// proportions). Where the other one has nothing to show, half of all is too much.
    fn is_worse_than(self, other: Self) -> bool {
        let (new, old) = (self.all as f64, other.all as f64);
        if other.all == 0 {
            return self.share() >= 0.5;
        }
        let both = (self.bad + other.bad) as f64 / (new + old);
        let chance = (both * (1.0 - both) * (1.0 / new + 1.0 / old)).sqrt();
        let more = self.share() - other.share();
        more > other.share() + TOLERATED && more >= SURE * chance
    }
}

#[derive(Clone, Default)]
struct Pair {
    old: Tally,
    new: Tally,
    /// What was bad of the new one.
    classes: BTreeMap<&'static str, u64>,
}

impl InForce {
    /// With this configuration alone.
    pub fn new(setup: Arc<Setup>) -> Self {
        let both = ArcSwap::from_pointee(Both { setup, canary: None });
        Self { both, told: Mutex::default() }
    }

    /// The one that is in force; a canary's is not yet.
    pub fn setup(&self) -> Arc<Setup> {
        Arc::clone(&self.both.load().setup)
    }

    /// The one that a payment goes with, by its number and, if it is not new, when it began.
    pub fn of(&self, payment: &str, created_ms: Option<i64>) -> Arc<Setup> {
        let both = self.both.load();
        match &both.canary {
            Some(canary) if canary.takes(payment, created_ms) => Arc::clone(&canary.setup),
            _ => Arc::clone(&both.setup),
        }
    }

    /// The one that is in force, and the one that is tried out.
    pub fn all(&self) -> impl Iterator<Item = Arc<Setup>> {
        let both = self.both.load();
        let canary = both.canary.as_ref().map(|canary| Arc::clone(&canary.setup));
        std::iter::once(Arc::clone(&both.setup)).chain(canary)
    }

    /// What became of the last reload.
    pub fn told(&self) -> Option<Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers it.
    pub fn tell(&self, told: Told) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }

    /// The canary under way.
    pub fn canary(&self) -> Option<Arc<Canary>> {
        self.both.load().canary.clone()
    }

    /// Puts a configuration into force, in one step, and ends a canary.
    pub fn put(&self, setup: Arc<Setup>) {
        self.both.store(Arc::new(Both { setup, canary: None }));
    }

    /// Tries a configuration out.
    pub fn begin_canary(&self, setup: Arc<Setup>, share: f64, began: Stamp, for_ms: u64) {
        let canary = Canary { setup, share, began, for_ms, seen: Mutex::default() };
        let both = Both { setup: self.setup(), canary: Some(Arc::new(canary)) };
        self.both.store(Arc::new(both));
    }

    /// Ends this canary, unless somebody did before: what was in force stays.
    pub fn end(&self, canary: &Arc<Canary>) -> bool {
        self.settle(canary, false)
    }

    /// Puts this canary into force for all, unless it has ended.
    pub fn promote(&self, canary: &Arc<Canary>) -> bool {
        self.settle(canary, true)
    }

    fn settle(&self, canary: &Arc<Canary>, promoted: bool) -> bool {
        let mut settled = false;
        self.both.rcu(|both| {
            settled = both.canary.as_ref().is_some_and(|c| Arc::ptr_eq(c, canary));
            if !settled {
                return Arc::clone(both);
            }
            let setup = if promoted { &canary.setup } else { &both.setup };
            Arc::new(Both { setup: Arc::clone(setup), canary: None })
        });
        settled
    }

    /// Whether this is the one that is in force: not a canary, nor one that has ended.
    pub fn is_in_force(&self, setup: &Arc<Setup>) -> bool {
        Arc::ptr_eq(&self.both.load().setup, setup)
    }

    /// Counts what was heard for a payment of `setup`; says so when that ends the canary.
    pub fn hear(&self, setup: &Arc<Setup>, account: &str, heard: Heard) -> Option<RolledBack> {
        let canary = self.canary()?;
        let new = Arc::ptr_eq(setup, &canary.setup);
        // What an earlier generation still hears says nothing of these two.
        if !(new || self.is_in_force(setup)) {
            return None;
        }
        if heard == Heard::Broken && !(new && self.is_new_plugin(&canary, account)) {
            return None;
        }
        let found = canary.count(account, heard, new)?;
        self.end(&canary).then_some(found)
    }

    /// Whether an account's plugin in the canary is not the one that serves the others, too.
    fn is_new_plugin(&self, canary: &Canary, account: &str) -> bool {
        let both = self.both.load();
        let number = |setup: &Setup| Some(setup.get(account)?.instance.generation().number());
        number(&canary.setup) != number(&both.setup)
    }
}

impl Canary {
    /// Whether a payment goes with the new configuration.
    fn takes(&self, payment: &str, created_ms: Option<i64>) -> bool {
        if created_ms.is_some_and(|created_ms| created_ms < self.began.wall_ms) {
            return false;
        }
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(payment);
        (hash as f64) < self.share * u64::MAX as f64
    }

    /// How each account did: in the old configuration, in the new one.
    pub fn tallies(&self) -> BTreeMap<String, (Tally, Tally)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().map(|(name, pair)| (name.clone(), (pair.old, pair.new))).collect()
    }

    /// Whether it has lasted long enough, and enough of it was heard to say that it is well.
    pub fn is_over(&self, now: Stamp) -> bool {
        let heard: u64 = self.tallies().values().map(|(_, new)| new.all).sum();
        now.mono_ms.saturating_sub(self.began.mono_ms) >= self.for_ms && heard >= JUDGED_MIN
    }

    fn count(&self, account: &str, heard: Heard, new: bool) -> Option<RolledBack> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.contains_key(account) {
            seen.insert(account.to_owned(), Pair::default());
        }
        let pair = seen.get_mut(account)?;
        let bad = heard != Heard::Answer;
        let tally = if new { &mut pair.new } else { &mut pair.old };
        tally.all += 1;
        tally.bad += u64::from(bad);
        if !(new && bad) {
            return None;
        }
        *pair.classes.entry(heard.as_str()).or_default() += 1;
        let why = match heard {
            Heard::Broken => "its plugin broke its word and may not be called any more".to_owned(),
            Heard::Restricted => "the provider refuses it".to_owned(),
            Heard::Tripped => "its breaker opened, and without the canary it is closed".to_owned(),
            _ => {
                if pair.new.all < JUDGED_MIN || !pair.new.is_worse_than(pair.old) {
                    return None;
                }
                format!(
                    "{} of {} exchanges were bad, and {} of {} of the generation before it",
                    pair.new.bad, pair.new.all, pair.old.bad, pair.old.all
                )
            }
        };
        let most = pair.classes.iter().max_by_key(|(_, count)| **count).map(|(class, _)| *class);
        let class = match heard {
            Heard::Broken | Heard::Restricted | Heard::Tripped => heard.as_str(),
            _ => most.unwrap_or(heard.as_str()),
        };
        let generation = self.setup.generation;
        Some(RolledBack { generation, account: account.to_owned(), class, why })
    }
}

#[cfg(test)]
mod tests {
    use interlock_engine::Policy;
    use interlock_engine::gates::{FailoverBudget, Gates};

    use super::*;
    use crate::recent::Recent;

    fn empty(generation: u64) -> Arc<Setup> {
        let gates = Gates::new(BTreeMap::new(), BTreeMap::new(), FailoverBudget::default());
        Arc::new(Setup {
            generation,
            open: BTreeMap::new(),
            disabled: BTreeMap::new(),
            policy: Policy::default(),
            gates: gates.expect("there are none"),
            recent: Recent::new([], None),
            places: BTreeMap::new(),
            limits: BTreeMap::new(),
            merchants: Vec::new(),
            alert_after_ms: 1,
        })
    }

    fn at(ms: u64) -> Stamp {
        Stamp { wall_ms: 1_000_000 + ms as i64, boot: 1, mono_ms: ms }
    }

    fn tried(share: f64) -> (InForce, [Arc<Setup>; 2]) {
        let both = [empty(1), empty(2)];
        let in_force = InForce::new(Arc::clone(&both[0]));
        in_force.begin_canary(Arc::clone(&both[1]), share, at(50), 1_000);
        (in_force, both)
    }

    #[test]
    fn a_share_of_the_new_payments_goes_with_the_canary_and_each_stays_where_it_is() {
        let (in_force, [old, new]) = tried(0.1);
        let ids: Vec<String> = (0..10_000).map(|n| format!("pay_{n:026}")).collect();
        let goes = |id: &String, created| Arc::ptr_eq(&in_force.of(id, created), &new);
        let chosen: Vec<&String> = ids.iter().filter(|id| goes(id, None)).collect();
        assert!((850..1_150).contains(&chosen.len()), "{}", chosen.len());
        assert!(chosen.iter().all(|id| goes(id, Some(at(60).wall_ms))));
        assert!(ids.iter().all(|id| !goes(id, Some(at(49).wall_ms))), "it began before");
        assert!(Arc::ptr_eq(&in_force.setup(), &old));
        let canary = in_force.canary().expect("it is under way");
        assert!(in_force.promote(&canary));
        assert!(ids.iter().all(|id| goes(id, Some(0))));
        assert!(!in_force.end(&canary), "it is settled already");
    }

    #[test]
    fn a_canary_ends_when_it_fails_where_the_others_do_not() {
        let (in_force, [old, new]) = tried(0.5);
        let hear = |setup, heard| in_force.hear(setup, "a", heard);
        // Both fail alike: that is the provider.
        for n in 0..100 {
            let heard = if n % 2 == 0 { Heard::Failure } else { Heard::Answer };
            assert_eq!((hear(&old, heard), hear(&new, heard)), (None, None));
        }
        assert!(!in_force.canary().expect("under way").is_over(at(900)));
        assert!(in_force.canary().expect("under way").is_over(at(1_050)));

        let (in_force, [old, new]) = tried(0.5);
        let hear = |setup, heard| in_force.hear(setup, "a", heard);
        (0..100).for_each(|_| assert_eq!(hear(&old, Heard::Answer), None));
        (0..8).for_each(|_| assert_eq!(hear(&new, Heard::Answer), None));
        assert_eq!(hear(&new, Heard::Unread), None, "too few to say");
        let back = hear(&new, Heard::Unread).expect("two of ten");
        assert_eq!((back.generation, back.class), (2, "unread_answers"));
        assert!(in_force.canary().is_none());
        assert_eq!(hear(&new, Heard::Unread), None, "told once");
        // What the ended one still hears is not held against or for the next.
        assert!(in_force.is_in_force(&old) && !in_force.is_in_force(&new));
        in_force.begin_canary(empty(3), 0.5, at(60), 1_000);
        assert_eq!(hear(&new, Heard::Unread), None);
        assert!(in_force.canary().expect("under way").tallies().is_empty());
    }

    #[test]
    fn a_moment_of_the_provider_is_no_difference_and_a_plugin_that_never_works_is_one() {
        let tally = |bad, all| Tally { all, bad };
        assert!(!tally(4, 33).is_worse_than(tally(0, 8)));
        assert!(!tally(5, 21).is_worse_than(tally(5, 30)));
        assert!(!tally(30, 100).is_worse_than(tally(20, 100)));
        assert!(tally(2, 10).is_worse_than(tally(0, 100)));
        assert!(tally(10, 10).is_worse_than(tally(0, 3)));
        assert!(tally(60, 100).is_worse_than(tally(20, 100)));
        assert!(tally(5, 10).is_worse_than(tally(0, 0)));
        assert!(!tally(4, 10).is_worse_than(tally(0, 0)));
    }

    #[test]
    fn a_refused_account_ends_a_canary_at_once_and_another_account_ends_nothing() {
        let (in_force, [old, new]) = tried(0.5);
        assert_eq!(in_force.hear(&old, "a", Heard::Restricted), None);
        (0..500).for_each(|_| assert_eq!(in_force.hear(&new, "b", Heard::Answer), None));
        let back = in_force.hear(&new, "a", Heard::Restricted).expect("at once");
        assert_eq!(back.class, "account_restricted");
    }
}
