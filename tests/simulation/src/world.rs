//! One evening of a shop, by its seed: nodes, one store, a bad network, providers, people.
//!
//! The engine is the real one and decides everything; what the server does around it (turns,
//! commits, effects, recovery) is done here in the same order, on a clock that the world owns. A
//! node decides on what is durable and commits by compare-and-swap; effects follow only a sync
//! that returned, and a crash loses whatever was in memory. All that can go wrong does, by the
//! dice, most of all around the sync.

mod desk;
mod node;
mod oracle;
mod people;
mod plan;
mod restore;
mod steps;
mod weather;
mod wire;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use interlock_engine::{Asked, Effect, Input, Payment, Stamp, Subject};
use interlock_plugin_api::Fact;

use crate::declarations::MINUTE;
use crate::dice::{Dice, Fold};
use crate::provider::Later;
use crate::store::{Backup, Rows, Simulated};

pub use node::Unsafe;
pub use oracle::Case;
pub use plan::Policies;

/// Faults are lifted then, ms of the world's clock.
const CALM: u64 = 40 * MINUTE;
/// A world that has not come to rest after so many events never will.
const EVENTS_MAX: u64 = 200_000;
/// The wall clock at the world's beginning, Unix ms.
const EPOCH: i64 = 1_800_000_000_000;

/// What happened, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Evenings.
    pub worlds: u64,
    /// Payments that were asked for.
    pub payments: u64,
    /// Decisions of the engine.
    pub turns: u64,
    /// Transactions that became durable.
    pub commits: u64,
    /// Everything that went wrong, by the kinds below.
    pub faults: u64,
    /// Processes killed.
    pub kills: u64,
    /// Kills and power cuts while a commit was under way.
    pub aimed: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Journals that were restored from a backup.
    pub restores: u64,
    /// Syncs that failed.
    pub failed_syncs: u64,
    /// Requests and answers that never arrived.
    pub lost: u64,
    /// Requests, answers and notices that came late.
    pub late: u64,
    /// Requests of which no byte left.
    pub not_sent: u64,
    /// Providers that failed, refused at the gate, lagged or bounced.
    pub providers: u64,
    /// Notices lost or doubled.
    pub notices: u64,
    /// Plugins that could not build, or were replaced, or misread.
    pub plugins: u64,
    /// Clock jumps.
    pub jumps: u64,
    /// Merchants who hung up or asked twice.
    pub hangups: u64,
    /// Lost races for a version.
    pub races: u64,
    /// Payments that succeeded.
    pub succeeded: u64,
    /// Payments that failed.
    pub failed: u64,
    /// Payments that were canceled.
    pub canceled: u64,
    /// Payments that are only authorized at the end.
    pub holding: u64,
    /// Payments that were refused before anything was sent.
    pub refused: u64,
    /// Payments of which an operator was asked.
    pub operators: u64,
    /// Charges that were given back because they must not be kept.
    pub given_back: u64,
    /// Second requests of one operation.
    pub went_on: u64,
    /// Accounts that a breaker, a limit or an operator kept from being tried.
    pub skipped: u64,
    /// Accounts that had no place left when one was to be reserved.
    pub unreserved: u64,
    /// Second tries for which there was no budget.
    pub over_budget: u64,
    /// Payments that nobody could take when they were asked for.
    pub no_account: u64,
    /// Payments that nobody else could take when the first could not.
    pub stranded: u64,
    /// Refunds of ours that waited under a cap.
    pub capped: u64,
    /// Payments that were told failed and are kept by the merchant's rule.
    pub recovered: u64,
    /// Refunds that were made in a provider's portal.
    pub portal: u64,
    /// Verdicts that operators gave before they were asked.
    pub verdicts: u64,
    /// Payments in which such a verdict turned out to be wrong.
    pub denied: u64,
}

/// The rows of the simulated store: pointers and small numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShopRows;

impl Rows for ShopRows {
    type Id = u32;
    type Name = u64;
    type Payment = Rc<Payment>;
    type Key = Option<Rc<str>>;
    type Answer = ();
    type Notice = ();
    type Event = ();
    type Message = ();
    type Told = ();
    type Setting = i64;
}

/// Names one run of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    node: usize,
    boot: u64,
}

/// Someone waits for this commit.
#[derive(Debug)]
struct Pending {
    run: Run,
    case: u32,
    input: Input,
    beside: Beside,
    follow: Option<Follow>,
}

/// What a decision says, once its version is durable.
#[derive(Debug)]
struct Follow {
    due_ms: Option<i64>,
    effects: Vec<Effect>,
    row: Rc<Payment>,
}

/// What is written in the same transaction as a decision.
#[derive(Clone, Copy, Debug, Default)]
struct Beside {
    key: Option<u64>,
    notice: Option<u64>,
    tries: u32,
}

/// One thing that will happen.
#[derive(Debug)]
enum Event {
    /// Something reaches a node, if it is still the same run of it; how often it was tried.
    Reach(Run, u32, Box<Input>, u32),
    /// The store's sync ends.
    Synced(u64),
    /// The store is opened again.
    Reopen(u64),
    /// A request reaches the provider.
    Arrive(Box<wire::Wire>),
    /// A socket gives up.
    TimeOut(Run, u64),
    /// An answer reaches its socket.
    Answer(Run, u64, u16, Vec<Fact>),
    /// An inquiry reaches the provider.
    Ask(Run, u32, Subject, Asked),
    /// A provider does by itself what it said it would.
    Later(u32, usize, Box<Later>),
    /// A notification comes; it is told again until somebody acknowledges it.
    Notice(u32, usize, Box<Fact>, u64),
    /// Somebody must look.
    Due(u32, u64),
    /// A node dies.
    Crash(usize, Death),
    /// A node starts.
    Rise(usize),
    /// The journal is copied.
    Backup,
    /// The disk is lost, and the copy takes its place.
    LoseDisk,
    /// The only node, started then, has the providers' statements.
    RiseRestored(u64),
    /// A wall clock jumps, ms.
    Jump(usize, i64),
    /// A node loads the other version of its plugins.
    Reload(usize),
    /// A merchant asks to be paid, for the n-th time.
    Submit(u32, u32),
    /// A merchant asks for one of the things that he wants.
    Wish(u32, usize),
    /// Somebody waits for news.
    Refresh(u32),
    /// A shopper scans or pays a code.
    Shopper(u32, usize, bool),
    /// An operator looks at what is left to him.
    Operator(u32, u32),
    /// An operator speaks before he is asked.
    Speak(u32),
    /// Somebody gives money back in a provider's portal.
    Portal(u32),
}

/// How a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    Kill,
    Power,
}

/// One evening.
pub struct World<'p> {
    seed: u64,
    dice: Dice,
    now: u64,
    heap: BinaryHeap<Reverse<(u64, u32, u32)>>,
    events: Vec<Option<Event>>,
    free: Vec<u32>,
    sequence: u32,
    policies: &'p Policies,
    nodes: Vec<node::Node>,
    /// One store for all nodes, as a database is; with a single node it lives and dies with it.
    store: Simulated<ShopRows, Box<Pending>>,
    store_run: u64,
    backup: Option<Backup<ShopRows>>,
    /// The node waits for the providers' statements.
    restoring: bool,
    /// Not every payment has heard them durably yet: whoever starts begins again.
    unrestored: bool,
    cases: Vec<Case>,
    boots: u64,
    sockets: u64,
    notices: u64,
    climate: weather::Climate,
    unsafe_driver: Unsafe,
    /// What happened, in numbers.
    pub score: Score,
    /// Promises that were broken, in words.
    pub broken: Vec<String>,
    fold: Fold,
    trace: Option<Vec<String>>,
}

impl<'p> World<'p> {
    /// The evening of this seed, with so many payments.
    pub fn new(seed: u64, payments: u32, policies: &'p Policies, unsafe_driver: Unsafe) -> Self {
        let mut world = Self {
            seed,
            dice: Dice::new(seed),
            now: 1_000,
            heap: BinaryHeap::with_capacity(256),
            events: Vec::with_capacity(256),
            free: Vec::new(),
            sequence: 0,
            policies,
            nodes: Vec::new(),
            store: Simulated::default(),
            store_run: 0,
            backup: None,
            restoring: false,
            unrestored: false,
            cases: Vec::new(),
            boots: 0,
            sockets: 0,
            notices: 0,
            climate: weather::Climate::default(),
            unsafe_driver,
            score: Score { worlds: 1, ..Score::default() },
            broken: Vec::new(),
            fold: Fold::default(),
            trace: None,
        };
        world.plan(payments);
        world
    }

    /// Keeps a line for everything that happens.
    pub fn tracing(mut self) -> Self {
        self.trace = Some(Vec::new());
        self
    }

    /// Lets the evening happen until nothing is left to happen, and judges it. The fold of all
    /// that happened is the same whenever the seed is.
    pub fn run(&mut self) -> u64 {
        let mut happened = 0;
        while let Some(Reverse((at, _, slot))) = self.heap.pop() {
            happened += 1;
            if happened > EVENTS_MAX || self.broken.len() > 5 {
                self.blame(0, "it never comes to rest");
                break;
            }
            self.now = at;
            let event = self.events[slot as usize].take().expect("each event happens once");
            self.free.push(slot);
            self.happen(event);
        }
        self.judge();
        self.fold.value()
    }

    /// The lines of a traced evening.
    pub fn lines(&self) -> &[String] {
        self.trace.as_deref().unwrap_or_default()
    }

    fn at(&mut self, at: u64, event: Event) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() as u32 - 1
        });
        self.events[slot as usize] = Some(event);
        self.sequence += 1;
        self.heap.push(Reverse((at.max(self.now), self.sequence, slot)));
    }

    fn calm(&self) -> bool {
        self.now >= CALM
    }

    fn happen(&mut self, event: Event) {
        self.fold.take(self.now);
        if let Some(lines) = &mut self.trace
            && !matches!(event, Event::Synced(_))
        {
            lines.push(format!("{:>10} {event:?}", self.now));
        }
        match event {
            Event::Reach(run, case, input, tries) => {
                if self.alive(run) {
                    self.put(run.node, case, *input, Beside { tries, ..Beside::default() });
                }
            }
            Event::Synced(run) => self.synced(run),
            Event::Reopen(run) => self.reopen_store(run),
            Event::Arrive(wire) => self.arrive(*wire),
            Event::TimeOut(run, socket) => self.time_out(run, socket),
            Event::Answer(run, socket, status, facts) => self.answer(run, socket, status, facts),
            Event::Ask(run, case, subject, asked) => self.ask(run, case, subject, asked),
            Event::Later(case, account, later) => self.later(case, account, &later),
            Event::Notice(case, account, fact, id) => self.notice(case, account, fact, id),
            Event::Due(case, ver) => self.due(case, ver),
            Event::Crash(node, death) => self.crash(node, death),
            Event::Rise(node) => self.rise(node),
            Event::Backup => self.back_up(),
            Event::LoseDisk => self.lose_disk(),
            Event::RiseRestored(started) => self.rise_restored(started),
            Event::Jump(node, ms) => {
                self.fault(|s| &mut s.jumps);
                self.nodes[node].skew_ms += ms;
            }
            Event::Reload(node) => {
                self.fault(|s| &mut s.plugins);
                self.nodes[node].version ^= 1;
            }
            Event::Submit(case, tries) => self.submit(case, tries),
            Event::Wish(case, wish) => self.wish(case, wish),
            Event::Refresh(case) => self.anyone(case, Input::Refresh, Beside::default()),
            Event::Shopper(case, offer, pays) => self.shopper(case, offer, pays),
            Event::Operator(case, looks) => self.operator(case, looks),
            Event::Speak(case) => self.speak(case),
            Event::Portal(case) => self.portal(case),
        }
    }

    fn fault(&mut self, kind: impl FnOnce(&mut Score) -> &mut u64) {
        self.score.faults += 1;
        *kind(&mut self.score) += 1;
    }

    /// What a node's clocks say.
    fn stamp(&mut self, node: usize) -> Stamp {
        let (now, n) = (self.now, &mut self.nodes[node]);
        n.high_ms = n.wall(now);
        n.seen_ms = now;
        Stamp { wall_ms: n.high_ms, boot: n.boot, mono_ms: now - n.started_ms }
    }

    fn alive(&self, run: Run) -> bool {
        let node = &self.nodes[run.node];
        node.up && node.boot == run.boot
    }

    /// The durable version of a payment.
    fn row(&self, case: u32) -> Option<&Rc<Payment>> {
        self.store.book()?.payment(&case).map(|version| &version.row)
    }

    fn blame(&mut self, case: u32, why: impl Into<String>) {
        let (seed, now) = (self.seed, self.now);
        let story = self.row(case).map(|p| oracle::story(p)).unwrap_or_default();
        let why = format!("SEED={seed} case {case} at {now}: {}{story}", why.into());
        if let Some(lines) = &mut self.trace {
            lines.push(format!("  BROKEN {why}"));
        }
        self.broken.push(why);
    }
}

impl std::ops::AddAssign for Score {
    fn add_assign(&mut self, other: Self) {
        let Self {
            worlds,
            payments,
            turns,
            commits,
            faults,
            kills,
            aimed,
            power_cuts,
            restores,
            failed_syncs,
            lost,
            late,
            not_sent,
            providers,
            notices,
            plugins,
            jumps,
            hangups,
            races,
            succeeded,
            failed,
            canceled,
            holding,
            refused,
            operators,
            given_back,
            went_on,
            skipped,
            unreserved,
            over_budget,
            no_account,
            stranded,
            capped,
            recovered,
            portal,
            verdicts,
            denied,
        } = other;
        self.worlds += worlds;
        self.payments += payments;
        self.turns += turns;
        self.commits += commits;
        self.faults += faults;
        self.kills += kills;
        self.aimed += aimed;
        self.power_cuts += power_cuts;
        self.restores += restores;
        self.failed_syncs += failed_syncs;
        self.lost += lost;
        self.late += late;
        self.not_sent += not_sent;
        self.providers += providers;
        self.notices += notices;
        self.plugins += plugins;
        self.jumps += jumps;
        self.hangups += hangups;
        self.races += races;
        self.succeeded += succeeded;
        self.failed += failed;
        self.canceled += canceled;
        self.holding += holding;
        self.refused += refused;
        self.operators += operators;
        self.given_back += given_back;
        self.went_on += went_on;
        self.skipped += skipped;
        self.unreserved += unreserved;
        self.over_budget += over_budget;
        self.no_account += no_account;
        self.stranded += stranded;
        self.capped += capped;
        self.recovered += recovered;
        self.portal += portal;
        self.verdicts += verdicts;
        self.denied += denied;
    }
}
