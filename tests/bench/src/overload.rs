//! Twice as many payments as the proxy can make: what becomes of those that it accepts, and how
//! soon it is itself again.

use std::time::Duration;

use crate::Wish;
use crate::contenders::{Contender, Field};
use crate::load::{self, Heard};

/// Connections under overload: more than requests that can wait.
const LINES: u64 = 256;
/// The share of its capacity at which a proxy counts as unloaded.
const UNLOADED: u64 = 10;
/// How long the recovery is watched, one-second steps.
const STEPS: u64 = 10;

/// What came of it.
#[derive(Clone, Debug)]
pub struct Overload {
    /// Payments per second that it can make.
    pub capacity: u64,
    /// p99 at a tenth of that, us.
    pub unloaded_p99_us: f64,
    /// Payments that were accepted under twice that.
    pub accepted: u64,
    /// Payments that were refused, with 503.
    pub refused: u64,
    /// p99 of those accepted in the second half, us.
    pub p99_us: f64,
    /// After so many seconds nothing was refused and p99 was within twice the unloaded one;
    /// `None` when it was not yet.
    pub recovered_s: Option<u64>,
}

/// Measures it.
pub async fn run(wish: &Wish, field: &Field) -> Result<Overload, String> {
    let lasts = Duration::from_secs(if wish.quick { 4 } else { 10 });
    let running = field.start(Contender::Shedding)?;
    let target = &running.target;
    let busy = load::closed(target, 32, lasts).await;
    let capacity = busy.answered / lasts.as_secs();
    let calm_rate = (capacity / UNLOADED).max(1);
    let calm = load::open(target, 32, calm_rate, lasts).await;
    let unloaded_p99_us = calm.percentile_us(0.99);
    let first = load::open(target, LINES, capacity * 2, lasts / 2).await;
    let second = load::open(target, LINES, capacity * 2, lasts / 2).await;
    let mut recovered_s = None;
    for second in 1..=STEPS {
        let after = load::open(target, 32, calm_rate, Duration::from_secs(1)).await;
        let well = after.refused == 0 && after.percentile_us(0.99) <= 2.0 * unloaded_p99_us;
        if well && recovered_s.is_none() {
            recovered_s = Some(second);
        }
    }
    let both = |of: fn(&Heard) -> u64| of(&first) + of(&second);
    Ok(Overload {
        capacity,
        unloaded_p99_us,
        accepted: both(|heard| heard.answered),
        refused: both(|heard| heard.refused),
        p99_us: second.percentile_us(0.99),
        recovered_s,
    })
}
