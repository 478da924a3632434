//! How long the last minutes' syncs took: two small histograms that take turns.
//!
//! Buckets grow by a quarter, so a quantile is exact to that; a histogram since the start would
//! hide an hour of a slow disk behind a week of a fast one.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Buckets of 1 us * 1.25^n: the last holds everything above a minute.
const BUCKETS: usize = 80;
const TURN: Duration = Duration::from_secs(60);

/// Sync durations of this minute and the one before.
pub(super) struct SyncTimes(Mutex<Turns>);

struct Turns {
    now: [u32; BUCKETS],
    before: [u32; BUCKETS],
    began: Instant,
}

impl SyncTimes {
    pub(super) fn new() -> Self {
        let turns = Turns { now: [0; BUCKETS], before: [0; BUCKETS], began: Instant::now() };
        Self(Mutex::new(turns))
    }

    pub(super) fn record(&self, took: Duration) {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.began.elapsed() >= TURN {
            turns.before = turns.now;
            turns.now = [0; BUCKETS];
            turns.began = Instant::now();
        }
        let bucket = &mut turns.now[bucket_of(took)];
        *bucket = bucket.saturating_add(1);
    }

    /// Microseconds that `percent` of the syncs did not exceed by more than a quarter; 0 when
    /// there was none.
    pub(super) fn quantile_us(&self, percent: u64) -> u64 {
        let turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = || turns.now.iter().zip(&turns.before);
        let count = |(now, before): (&u32, &u32)| u64::from(*now) + u64::from(*before);
        let total: u64 = counts().map(count).sum();
        let rank = (total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (index, pair) in counts().enumerate() {
            seen += count(pair);
            if seen >= rank {
                return upper_us(index);
            }
        }
        0
    }
}

fn bucket_of(took: Duration) -> usize {
    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    (0..BUCKETS).find(|&index| us <= upper_us(index)).unwrap_or(BUCKETS - 1)
}

fn upper_us(index: usize) -> u64 {
    1.25_f64.powi(i32::try_from(index).unwrap_or(i32::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_measured_is_zero() {
        assert_eq!(SyncTimes::new().quantile_us(99), 0);
    }

    #[test]
    fn a_quantile_is_exact_to_a_quarter() {
        let times = SyncTimes::new();
        for us in 1..=1000 {
            times.record(Duration::from_micros(us));
        }
        for (percent, exact) in [(50, 500.0), (99, 990.0)] {
            let heard = times.quantile_us(percent) as f64;
            assert!(heard >= exact * 0.99 && heard <= exact * 1.26, "{percent}: {heard}");
        }
    }

    #[test]
    fn a_sync_of_an_hour_is_counted_in_the_last_bucket() {
        let times = SyncTimes::new();
        times.record(Duration::from_secs(3600));
        assert!(times.quantile_us(50) > 40_000_000);
    }
}
