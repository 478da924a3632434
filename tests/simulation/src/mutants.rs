//! The hunt: every unsafe rule is switched on, and each layer must notice what it does to money.

use std::time::Duration;

use interlock_engine::mutant::{self, Mutant};

use crate::model;
use crate::simulate::{Wish, simulate};
use crate::world::Unsafe;

/// How long the simulator looks for one mutant.
const WITHIN: Duration = Duration::from_secs(10);

/// What one layer made of one mutant.
pub struct Hunted {
    /// The unsafe rule.
    pub mutant: &'static str,
    /// `L1` or `L2`.
    pub layer: &'static str,
    /// The promise that it broke; none if it survived.
    pub broken: Option<String>,
    /// After how many states or evenings.
    pub after: String,
    /// In what time.
    pub seconds: f64,
}

/// Hunts all of them with both layers, or with one.
pub fn hunt(layer: Option<&str>, tell: &mut dyn FnMut(&Hunted)) -> Vec<Hunted> {
    let wanted = |name: &str| layer.is_none_or(|layer| layer == name);
    // A mutant that makes the engine stop is told in the report, not on the screen.
    std::panic::set_hook(Box::new(|_| {}));
    let mut all = Vec::new();
    let mut keep = |hunted: Hunted| {
        tell(&hunted);
        all.push(hunted);
    };
    for mutant in Mutant::ALL {
        if wanted("L2") {
            mutant::set(Some(mutant));
            keep(by_evenings(mutant.name(), Unsafe::No));
            mutant::set(None);
        }
        // The model has one disk, and it is never lost.
        if wanted("L1") && mutant != Mutant::TrustBackup {
            keep(by_model(mutant));
        }
    }
    if wanted("L2") {
        keep(by_evenings("send_before_durable", Unsafe::SendBeforeDurable));
        keep(by_evenings("acknowledge_before_durable", Unsafe::AcknowledgeBeforeDurable));
    }
    let _ = std::panic::take_hook();
    all
}

fn by_evenings(mutant: &'static str, driver: Unsafe) -> Hunted {
    let wish = Wish { driver, within: WITHIN, first: true, ..Wish::new(0, u64::MAX / 2) };
    let found = simulate(wish, &|_, _| {});
    Hunted {
        mutant,
        layer: "L2",
        broken: found.broken.first().cloned(),
        after: format!("{} evenings, {} payments", found.score.worlds, found.score.payments),
        seconds: found.seconds,
    }
}

fn by_model(mutant: Mutant) -> Hunted {
    let found = model::hunt(mutant);
    Hunted {
        mutant: mutant.name(),
        layer: "L1",
        broken: found.killed,
        after: format!("{} states", found.states),
        seconds: found.seconds,
    }
}
