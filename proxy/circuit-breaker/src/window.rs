//! Counts calls over the last seconds in a ring of buckets that expire by themselves.
//!
//! Counts are exact and do not depend on the call rate: a bucket knows which slice of time it is
//! for (its epoch), so an old one is neither read nor swept, it is just not of this window any
//! more. Nothing here runs on a timer.

use crate::settings::Settings;

/// What the window holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that were judged: successes (business declines among them) and failures.
    pub total: u64,
    /// How many of them failed, locally or remotely.
    pub failed: u64,
    /// How many of them were slow, whether they failed or not.
    pub slow: u64,
}

impl Counts {
    /// Share of failed calls, 0 to 1; 0 when there were none.
    pub fn failure_rate(&self) -> f64 {
        share(self.failed, self.total)
    }

    /// Share of slow calls, 0 to 1; 0 when there were none.
    pub fn slow_rate(&self) -> f64 {
        share(self.slow, self.total)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Window {
    bucket_ms: u64,
    buckets: Box<[Bucket]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    epoch: u64,
    total: u32,
    failed: u32,
    slow: u32,
}

impl Window {
    /// Needs checked settings: a window of at least one bucket, each at least 1 ms wide.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            bucket_ms: settings.window_ms / u64::from(settings.buckets),
            buckets: vec![Bucket::default(); settings.buckets as usize].into_boxed_slice(),
        }
    }

    pub(crate) fn add(&mut self, now_ms: u64, failed: bool, slow: bool) {
        let epoch = now_ms / self.bucket_ms;
        let place = (epoch % self.buckets.len() as u64) as usize;
        let bucket = &mut self.buckets[place];
        if bucket.epoch != epoch {
            *bucket = Bucket { epoch, ..Bucket::default() };
        }
        bucket.total = bucket.total.saturating_add(1);
        bucket.failed = bucket.failed.saturating_add(u32::from(failed));
        bucket.slow = bucket.slow.saturating_add(u32::from(slow));
    }

    pub(crate) fn counts(&self, now_ms: u64) -> Counts {
        let newest = now_ms / self.bucket_ms;
        let oldest = newest.saturating_sub(self.buckets.len() as u64 - 1);
        let mut counts = Counts::default();
        for bucket in self.buckets.iter().filter(|b| (oldest..=newest).contains(&b.epoch)) {
            counts.total += u64::from(bucket.total);
            counts.failed += u64::from(bucket.failed);
            counts.slow += u64::from(bucket.slow);
        }
        counts
    }

    pub(crate) fn clear(&mut self) {
        self.buckets.fill(Bucket::default());
    }
}

// A quotient of two whole numbers is rounded once, as a literal such as 0.1 is, so 3 of 30
// reaches a threshold of 0.1; multiplying the threshold out would miss it.
fn share(part: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { part as f64 / total as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_leave_the_window_bucket_by_bucket() {
        let mut window = ten_seconds();
        window.add(0, true, false);
        window.add(999, false, true);
        window.add(1_000, false, false);
        assert_eq!(window.counts(9_999), Counts { total: 3, failed: 1, slow: 1 });
        assert_eq!(window.counts(10_000), Counts { total: 1, failed: 0, slow: 0 });
        assert_eq!(window.counts(11_000), Counts::default());
    }

    #[test]
    fn a_bucket_is_used_again_for_its_next_slice_without_old_counts() {
        let mut window = ten_seconds();
        window.add(500, true, true);
        window.add(10_500, false, false);
        assert_eq!(window.counts(10_500), Counts { total: 1, failed: 0, slow: 0 });
    }

    #[test]
    fn a_long_silence_empties_the_window_though_nothing_swept_it() {
        let mut window = ten_seconds();
        for at_ms in (0..10_000).step_by(100) {
            window.add(at_ms, true, false);
        }
        assert_eq!(window.counts(9_999).failed, 100);
        assert_eq!(window.counts(86_400_000), Counts::default());
    }

    #[test]
    fn the_end_of_time_is_counted_like_any_other() {
        let mut window = ten_seconds();
        window.add(u64::MAX, true, false);
        assert_eq!(window.counts(u64::MAX).failed, 1);
        let mut narrow = Window::new(&Settings { window_ms: 1, buckets: 1, ..Settings::default() });
        narrow.add(u64::MAX - 1, true, false);
        assert_eq!(narrow.counts(u64::MAX - 1).failed, 1);
    }

    #[test]
    fn a_threshold_written_in_decimals_is_reached_exactly() {
        for (part, total, threshold) in [(3, 30, 0.1), (7, 10, 0.7), (6, 20, 0.3), (11, 20, 0.55)] {
            assert!(Counts { total, failed: part, slow: 0 }.failure_rate() >= threshold);
            assert!(Counts { total, failed: part - 1, slow: 0 }.failure_rate() < threshold);
        }
    }

    fn ten_seconds() -> Window {
        Window::new(&Settings::default())
    }
}
