//! Rounds: every contender in each, one after the other, in a rotated order.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Wish;
use crate::contenders::{Contender, Field, Running};
use crate::load::{self, Heard};
use crate::process::cpu_ns;

/// Connections in the closed loop.
const CLOSED_LINES: u64 = 32;
/// Connections in the open loop.
const OPEN_LINES: u64 = 64;
/// Requests per second in the open loop: what every contender can carry on one core.
pub const OPEN_RATE: u64 = 1_000;

/// What one contender did in one round.
#[derive(Clone, Debug)]
pub struct Lap {
    /// CPU of its process for each request at saturation, us.
    pub busy_us: f64,
    /// Requests per second at saturation.
    pub per_second: f64,
    /// CPU of its process for each request of the open loop, us.
    pub paced_us: f64,
    /// Latency of the open loop, us: p50, p99, p99.9.
    pub latency_us: [f64; 3],
    /// Requests that were not answered as they must be.
    pub failed: u64,
}

/// By round, by the contender's name.
pub type Rounds = Vec<BTreeMap<&'static str, Lap>>;

/// Measures all rounds.
pub async fn run(wish: &Wish, field: &Field) -> Result<Rounds, String> {
    let (count, seconds) = if wish.quick { (3, 1) } else { (21, 2) };
    let count = wish.rounds.unwrap_or(count);
    let mut running: Vec<Running> =
        field.contenders().map(|c| field.start(c)).collect::<Result<_, _>>()?;
    for one in &running {
        warm_up(one).await?;
    }
    let mut rounds = Rounds::new();
    for number in 0..count {
        running.rotate_left(1);
        let mut round = BTreeMap::new();
        for one in &running {
            round.insert(one.contender.name(), lap(one, Duration::from_secs(seconds)).await);
        }
        eprintln!("round {} of {count}", number + 1);
        rounds.push(round);
    }
    Ok(rounds)
}

/// The first requests open connections and fill caches, and say whether it works at all.
async fn warm_up(one: &Running) -> Result<(), String> {
    let heard = load::closed(&one.target, 4, Duration::from_millis(300)).await;
    if heard.answered == 0 || heard.failed > 0 {
        let (name, Heard { answered, failed, .. }) = (one.contender.name(), heard);
        return Err(format!("{name} does not work: {answered} answered, {failed} failed"));
    }
    Ok(())
}

async fn lap(one: &Running, lasts: Duration) -> Lap {
    let cpu = || one.pid.map_or(0, cpu_ns);
    let each_us = |ns: u64, heard: &Heard| ns as f64 / 1_000.0 / heard.answered.max(1) as f64;
    let before = cpu();
    let busy = load::closed(&one.target, CLOSED_LINES, lasts).await;
    let busy_us = each_us(cpu() - before, &busy);
    let before = cpu();
    let paced = load::open(&one.target, OPEN_LINES, OPEN_RATE, lasts).await;
    let paced_us = each_us(cpu() - before, &paced);
    Lap {
        busy_us,
        per_second: busy.answered as f64 / lasts.as_secs_f64(),
        paced_us,
        latency_us: [0.5, 0.99, 0.999].map(|share| paced.percentile_us(share)),
        failed: busy.failed + paced.failed,
    }
}

/// The median of what each round says of a contender; rounds that say nothing are left out.
pub fn median(rounds: &Rounds, of: impl Fn(&BTreeMap<&'static str, Lap>) -> Option<f64>) -> f64 {
    let mut values: Vec<f64> = rounds.iter().filter_map(of).filter(|v| v.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The quartiles of the same.
pub fn quartiles(
    rounds: &Rounds,
    of: impl Fn(&BTreeMap<&'static str, Lap>) -> Option<f64>,
) -> (f64, f64) {
    let mut values: Vec<f64> = rounds.iter().filter_map(of).filter(|v| v.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let last = values.len().checked_sub(1)?;
        values.get((last as f64 * share).round() as usize).copied()
    };
    (at(0.25).unwrap_or(f64::NAN), at(0.75).unwrap_or(f64::NAN))
}

/// The CPU of one against another, in one round at saturation.
pub fn ratio(round: &BTreeMap<&'static str, Lap>, a: Contender, b: Contender) -> Option<f64> {
    Some(round.get(a.name())?.busy_us / round.get(b.name())?.busy_us)
}
