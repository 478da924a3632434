//! The model: the engine's own payments and decisions, two providers, one or two nodes and a bad
//! network, searched whole.
//!
//! A state is a durable [`interlock_engine::Payment`], the providers' books, what is on the wire
//! and what each node has in memory; a step calls the engine's own `decide`. Whatever may happen is
//! tried, within a stated number of faults and moves of the clock. What must hold is asked of the
//! providers' books and of what the merchant was told, never of the engine.

mod calm;
mod chance;
mod digest;
mod oracle;
mod state;
mod step;
mod turn;
mod worlds;

use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Property};

use state::State;
use step::Action;
pub use worlds::World;

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
            Property::always("safe", |_, s: &State| s.broken.is_none()),
        ]
    }
}

/// dev
pub fn probe() {
    let n: u8 = std::env::var("N").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let ticks: u8 = std::env::var("T").ok().and_then(|s| s.parse().ok()).unwrap_or(4);
    use state::Fault::*;
    let mut total = 0;
    for (i, row) in worlds::covering().iter().enumerate() {
        let world = worlds::cover_world(row).faults(n, &[(Loss, n), (Late, n), (Twice, n), (Crash, n), (Whim, n), (Race, n), (Unbuilt, 1)]).ticks(ticks);
        let name = world.name.clone();
        let t = Instant::now();
        let c = world.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).timeout(Duration::from_secs(60)).spawn_dfs().join();
        total += c.unique_state_count();
        println!("{i} {name}: {} states {} unique depth {} {:?}", c.state_count(), c.unique_state_count(), c.max_depth(), t.elapsed());
        for (_, path) in c.discoveries() {
            println!("BROKEN {:?}", path.last_state().broken);
            for a in path.into_actions() { println!("   {a:?}"); }
        }
    }
    println!("total {total}");
}
