//! Every world, deeper and deeper, until it has grown large enough for the size that was asked for.
//!
//! A level is a number of faults and of moves of the clock; within it a world is searched whole.
//! How deep a world is searched depends only on how many states its last level had, so the same
//! engine gives the same figures on any machine.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::sights;
use super::state::State;
use super::step::Action;
use super::worlds::{World, table};

/// Worlds that are searched side by side.
const THREADS: usize = 2;

/// No way is told in more lines than this.
const LINES_MAX: usize = 60;

/// How much is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Some seconds, in a build that is not optimised.
    Quick,
    /// With every change: under a minute on two cores.
    Change,
    /// More than a hundred million states.
    Long,
}

/// How much may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Faults in all.
    pub faults: u8,
    /// Moves of the clock.
    pub ticks: u8,
    /// How often the second node is the one that looks, hears or is asked.
    pub visits: u8,
    /// Faults of every kind, not only those of the network, of providers and of the power.
    pub rare: bool,
}

const fn level(faults: u8, ticks: u8, visits: u8, rare: bool) -> Level {
    Level { faults, ticks, visits, rare }
}

/// What is searched, one after the other.
pub const LEVELS: [Level; 10] = [
    level(0, 2, 0, false),
    level(0, 3, 1, false),
    level(1, 3, 1, false),
    level(1, 3, 1, true),
    level(1, 4, 2, true),
    level(2, 4, 2, true),
    level(2, 5, 3, true),
    level(3, 5, 3, true),
    level(3, 6, 4, true),
    level(4, 6, 4, true),
];

impl Size {
    /// A world that had fewer states than this is searched at the next level too.
    fn small(self) -> usize {
        match self {
            Self::Quick => 150,
            Self::Change => 9_000,
            Self::Long => 200_000,
        }
    }

    /// A level with more states than this is cut off, and said to be.
    fn most(self) -> usize {
        match self {
            Self::Quick => 100_000,
            Self::Change => 3_000_000,
            Self::Long => 40_000_000,
        }
    }
}

/// One world, searched.
#[derive(Clone, Debug)]
pub struct Explored {
    /// Its name.
    pub world: String,
    /// The deepest level.
    pub level: Level,
    /// Steps that were taken.
    pub states: u64,
    /// States that differ.
    pub unique: u64,
    /// The longest way.
    pub depth: u64,
    /// How long it took.
    pub seconds: f64,
    /// From how many states it was shown that the payment comes to rest.
    pub rests: u64,
    /// Every state of the level was visited.
    pub exhausted: bool,
    /// What was seen, one bit each.
    pub sights: u64,
    /// What is wrong, and the way to it, one step a line.
    pub violation: Option<String>,
}

/// All worlds, searched.
#[derive(Clone, Debug, Default)]
pub struct Searched {
    /// Steps that were taken.
    pub states: u64,
    /// States that differ.
    pub unique: u64,
    /// The longest way.
    pub depth: u64,
    /// From how many states it was shown that the payment comes to rest.
    pub rests: u64,
    /// How long it took.
    pub seconds: f64,
    /// How many worlds there are.
    pub worlds: u64,
    /// How many of them were cut off.
    pub not_exhausted: u64,
    /// What no world has shown, though some world must.
    pub unseen: Vec<&'static str>,
    /// What is wrong, with its world and the way to it.
    pub violations: Vec<String>,
    /// Each world.
    pub by_world: Vec<Explored>,
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.first()]
    }

    fn actions(&self, s: &State, out: &mut Vec<Action>) {
        self.actions_of(s, out);
    }

    fn next_state(&self, s: &State, action: Action) -> Option<State> {
        self.step(s, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no rule is broken", |_, s: &State| s.broken.is_none()),
            Property::always("there is a way out", |w: &World, s: &State| w.way_out(s).is_none()),
        ]
    }
}

/// Searches every world, two at a time, and tells of each.
pub fn search(size: Size, tell: &mut dyn FnMut(String)) -> Searched {
    let began = Instant::now();
    let worlds = table();
    let next = AtomicUsize::new(0);
    let (done, explored) = mpsc::channel();
    let mut all = Searched::default();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let (done, worlds, next) = (done.clone(), &worlds, &next);
            scope.spawn(move || {
                while let Some(world) = worlds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if done.send(deepen(world, size)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        for world in explored {
            tell(world.to_string());
            all.add(world);
        }
    });
    let seen = all.by_world.iter().fold(0, |seen, world| seen | world.sights);
    all.unseen = sights::missing(seen);
    all.seconds = began.elapsed().as_secs_f64();
    all
}

impl Searched {
    fn add(&mut self, world: Explored) {
        self.states += world.states;
        self.unique += world.unique;
        self.rests += world.rests;
        self.depth = self.depth.max(world.depth);
        self.worlds += 1;
        self.not_exhausted += u64::from(!world.exhausted);
        self.violations.extend(world.violation.clone());
        self.by_world.push(world);
    }
}

/// One world at ever deeper levels, while it is small.
fn deepen(world: &World, size: Size) -> Explored {
    let began = Instant::now();
    let mut last = explore(&world.at(LEVELS[0]), LEVELS[0], size.most());
    for level in &LEVELS[1..] {
        // A scene of a few kinds of faults is nothing without one of them.
        let small = if world.is_scene() { size.small().max(600) } else { size.small() };
        let grown = last.violation.is_some() || last.unique > small as u64;
        // With every kind of fault, two nodes are too many for some seconds.
        let crowded = size == Size::Quick && level.faults > 0 && world.is_crowded();
        if grown || crowded || !last.exhausted {
            break;
        }
        last = explore(&world.at(*level), *level, size.most());
    }
    last.seconds = began.elapsed().as_secs_f64();
    last
}

/// Searches one world whole, as it stands.
pub fn explore(world: &World, level: Level, most: usize) -> Explored {
    let began = Instant::now();
    let checker = world
        .clone()
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .target_state_count(4 * most)
        .spawn_dfs()
        .join();
    let (states, unique) = (checker.state_count(), checker.unique_state_count());
    let violated = !checker.discoveries().is_empty();
    Explored {
        world: world.name.clone(),
        level,
        states: states as u64,
        unique: unique as u64,
        depth: checker.max_depth() as u64,
        rests: checker.model().rests(),
        seconds: began.elapsed().as_secs_f64(),
        exhausted: violated || states < 4 * most,
        sights: checker.model().sights.all(),
        violation: violated.then(|| shortest(world, &checker)),
    }
}

/// The shortest way to what is wrong, in words.
fn shortest(world: &World, found: &impl Checker<World>) -> String {
    let again = world
        .clone()
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .target_state_count(2_000_000)
        .spawn_bfs()
        .join();
    let ways = again.discoveries();
    let ways = if ways.is_empty() { found.discoveries() } else { ways };
    let way = ways.into_values().min_by_key(|way| way.clone().into_vec().len());
    let Some(way) = way else { return "the way was lost".into() };
    let mut lines = Vec::new();
    let mut state = world.first();
    for action in way.into_actions() {
        let Some(next) = world.step(&state, action) else { break };
        lines.push(world.tell(&state, action, &next));
        state = next;
    }
    let why = state.broken.as_deref().map(str::to_owned);
    let why = why.or_else(|| {
        lines.push("and if nothing goes wrong any more:".into());
        world.walk(&state, &mut |before, action, after| {
            if lines.len() < LINES_MAX {
                lines.push(world.tell(before, action, after));
            }
        })
    });
    let why = why.unwrap_or_default();
    format!("{why}\n  in the world: {}\n  {}", world.name, lines.join("\n  "))
}

impl std::fmt::Display for Explored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Level { faults, ticks, visits, .. } = self.level;
        write!(
            f,
            "{:>9} unique {:>9} steps, depth {:>2}, {:>6.2} s, {faults} faults {ticks} ticks \
             {visits} visits: {}",
            self.unique, self.states, self.depth, self.seconds, self.world
        )?;
        if !self.exhausted {
            f.write_str(" (not exhausted)")?;
        }
        if let Some(violation) = &self.violation {
            write!(f, "\n  VIOLATED: {violation}")?;
        }
        Ok(())
    }
}
