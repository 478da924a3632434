//! Hunting one unsafe rule: all worlds, level by level, until the oracle sees what it did.

use std::time::Instant;

use interlock_engine::mutant::{self, Mutant};

use super::search::{LEVELS, explore};
use super::worlds::{World, table};

/// Levels that are searched for a mutant.
const LEVELS_MAX: usize = 9;
/// A world that had more states than this is not searched at the next level.
const SMALL: u64 = 60_000;
/// No level of a world is searched further than this.
const MOST: usize = 1_500_000;

/// What became of a hunt.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// What was broken and the way to it; `None` if the mutant survived.
    pub killed: Option<String>,
    /// Steps that were taken.
    pub states: u64,
    /// How long it took.
    pub seconds: f64,
    /// The world in which it was seen.
    pub world: String,
}

/// Switches one unsafe rule on, in the whole process, and searches until something is broken.
pub fn hunt(mutant: Mutant) -> Hunt {
    let began = Instant::now();
    mutant::set(Some(mutant));
    let mut hunt = Hunt { killed: None, states: 0, seconds: 0.0, world: String::new() };
    // Worlds that are about this rule first, as deep as it takes.
    let (about, others): (Vec<World>, Vec<World>) =
        table().into_iter().partition(|w| w.about.contains(&mutant.name()));
    for worlds in [about, others] {
        if hunt.killed.is_none() {
            hunt.go(&worlds);
        }
    }
    mutant::set(None);
    hunt.seconds = began.elapsed().as_secs_f64();
    hunt
}

impl Hunt {
    fn go(&mut self, worlds: &[World]) {
        let mut goes_on = vec![true; worlds.len()];
        for level in &LEVELS[..LEVELS_MAX] {
            for (n, world) in worlds.iter().enumerate() {
                if !goes_on[n] {
                    continue;
                }
                let explored = explore(&world.at(*level), *level, MOST);
                self.states += explored.states;
                goes_on[n] = explored.unique < SMALL;
                if explored.violation.is_some() {
                    self.killed = explored.violation;
                    self.world.clone_from(&world.name);
                    return;
                }
            }
        }
    }
}
