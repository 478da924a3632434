//! What an owner of a breaker may choose, and which choices are refused.
//!
//! Every default is a number that a payment route can live with (two to six providers, calls of
//! about a second). [`Settings::check`] refuses what could never work, so that a wrong file is
//! found when it is loaded and not when a provider is sick.

use std::error::Error;
use std::fmt;

/// The most buckets that a window may have. Every record adds them up, so they stay few.
pub const MAX_BUCKETS: u32 = 128;

/// The most probes that a half-open breaker may be told to admit.
pub const MAX_HALF_OPEN_PERMITS: u32 = 128;

/// How a breaker judges, how long it stays open and how it is probed. All times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// How far back the rates look. Must be a multiple of `buckets`. Default 10,000.
    pub window_ms: u64,
    /// In how many steps the window slides: it covers between `window_ms - window_ms / buckets`
    /// and `window_ms`. 1 to [`MAX_BUCKETS`], default 10.
    pub buckets: u32,
    /// No rate is judged on fewer calls than this in the window. At least 1, default 20.
    pub minimum_calls: u32,
    /// Share of failed calls that trips, reached or passed. Above 0 and at most 1, default 0.5.
    pub failure_rate: f64,
    /// Failures in a row that trip; local and remote ones have a count each. At least 1
    /// (`u32::MAX` switches the rule off), default 5.
    pub consecutive_failures: u32,
    /// A call that took this long or longer is slow; `None` (the default) never measures.
    pub slow_call_ms: Option<u64>,
    /// Share of slow calls that trips, reached or passed. Above 0 and at most 1, default 0.5.
    pub slow_rate: f64,
    /// How long the first opening lasts before jitter; every further one in a series lasts twice
    /// as long as the one before. At least 1, default 5,000.
    pub open_ms: u64,
    /// What the doubling never passes. At least `open_ms`, default 300,000.
    pub open_max_ms: u64,
    /// The largest share that chance may cut off an opening, 0 to 1, default 0.5: an opening of
    /// 5 s lasts between 2.5 s and 5 s. Chance only shortens, so the cap stays a cap and nodes
    /// that have reached it still do not probe in step.
    pub jitter: f64,
    /// Where chance comes from: the cut is a hash of this seed and the generation, so a run can
    /// be replayed and a look sees the same end as the call that follows it. Give every breaker
    /// of every node its own seed (a hash of node and account), or they draw the same cuts.
    /// Default 0.
    pub seed: u64,
    /// How many probes one half-open phase may judge, those in flight included.
    /// 1 to [`MAX_HALF_OPEN_PERMITS`], default 3.
    pub half_open_permits: u32,
    /// How many of them must pass for the breaker to close; it opens again as soon as that many
    /// cannot pass any more. 1 to `half_open_permits`, default 2.
    pub half_open_needed: u32,
    /// A probe that is still out after this long opens the breaker again, so that a hung call
    /// cannot hold it half-open for ever. At least 1, default 30,000.
    pub half_open_max_wait_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window_ms: 10_000,
            buckets: 10,
            minimum_calls: 20,
            failure_rate: 0.5,
            consecutive_failures: 5,
            slow_call_ms: None,
            slow_rate: 0.5,
            open_ms: 5_000,
            open_max_ms: 300_000,
            jitter: 0.5,
            seed: 0,
            half_open_permits: 3,
            half_open_needed: 2,
            half_open_max_wait_ms: 30_000,
        }
    }
}

impl Settings {
    /// Says whether a breaker can run on these settings; the first fault found is the answer.
    pub fn check(&self) -> Result<(), SettingsError> {
        at_least_one("window_ms", self.window_ms)?;
        between_one_and("buckets", self.buckets, MAX_BUCKETS)?;
        if !self.window_ms.is_multiple_of(u64::from(self.buckets)) {
            return Err(SettingsError::UnevenBuckets {
                window_ms: self.window_ms,
                buckets: self.buckets,
            });
        }
        at_least_one("minimum_calls", u64::from(self.minimum_calls))?;
        share("failure_rate", self.failure_rate, false)?;
        at_least_one("consecutive_failures", u64::from(self.consecutive_failures))?;
        at_least_one("slow_call_ms", self.slow_call_ms.unwrap_or(1))?;
        share("slow_rate", self.slow_rate, false)?;
        at_least_one("open_ms", self.open_ms)?;
        if self.open_max_ms < self.open_ms {
            return Err(SettingsError::CapBelowOpenTime {
                open_ms: self.open_ms,
                open_max_ms: self.open_max_ms,
            });
        }
        share("jitter", self.jitter, true)?;
        between_one_and("half_open_permits", self.half_open_permits, MAX_HALF_OPEN_PERMITS)?;
        between_one_and("half_open_needed", self.half_open_needed, self.half_open_permits)?;
        at_least_one("half_open_max_wait_ms", self.half_open_max_wait_ms)
    }

    /// How long an opening lasts: `earlier` openings came before it in its series.
    pub(crate) fn open_time_ms(&self, earlier: u32, generation: u64) -> u64 {
        let doubled = 1_u64.checked_shl(earlier).unwrap_or(u64::MAX);
        let full = self.open_ms.saturating_mul(doubled).min(self.open_max_ms);
        let cut = full as f64 * self.jitter * draw(self.seed, generation);
        full.saturating_sub(cut as u64).max(1)
    }

    pub(crate) fn is_slow(&self, elapsed_ms: u64) -> bool {
        self.slow_call_ms.is_some_and(|limit_ms| elapsed_ms >= limit_ms)
    }
}

/// Why settings were refused. The key is the field's name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SettingsError {
    /// A number that must be at least one is zero.
    Zero {
        /// The field.
        key: &'static str,
    },
    /// A number is larger than it may be.
    TooLarge {
        /// The field.
        key: &'static str,
        /// What it holds.
        value: u32,
        /// What it may hold at most.
        max: u32,
    },
    /// A share is not a number between 0 and 1; rates must also be above 0.
    NotAShare {
        /// The field.
        key: &'static str,
        /// What it holds.
        value: f64,
    },
    /// The window cannot be cut into whole milliseconds.
    UnevenBuckets {
        /// The window.
        window_ms: u64,
        /// Into how many buckets it was to be cut.
        buckets: u32,
    },
    /// The cap of the open time is below its first step.
    CapBelowOpenTime {
        /// The first step.
        open_ms: u64,
        /// The cap.
        open_max_ms: u64,
    },
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Zero { key } => write!(f, "{key} must be at least 1: 0"),
            Self::TooLarge { key, value, max } => {
                write!(f, "{key} must be at most {max}: {value}")
            }
            Self::NotAShare { key: "jitter", value } => {
                write!(f, "jitter must be between 0 and 1: {value}")
            }
            Self::NotAShare { key, value } => {
                write!(f, "{key} must be above 0 and at most 1: {value}")
            }
            Self::UnevenBuckets { window_ms, buckets } => {
                write!(f, "window_ms must be a multiple of buckets ({buckets}): {window_ms}")
            }
            Self::CapBelowOpenTime { open_ms, open_max_ms } => {
                write!(f, "open_max_ms must be at least open_ms ({open_ms}): {open_max_ms}")
            }
        }
    }
}

impl Error for SettingsError {}

fn at_least_one(key: &'static str, value: u64) -> Result<(), SettingsError> {
    if value == 0 { Err(SettingsError::Zero { key }) } else { Ok(()) }
}

fn between_one_and(key: &'static str, value: u32, max: u32) -> Result<(), SettingsError> {
    at_least_one(key, u64::from(value))?;
    if value > max { Err(SettingsError::TooLarge { key, value, max }) } else { Ok(()) }
}

fn share(key: &'static str, value: f64, zero_allowed: bool) -> Result<(), SettingsError> {
    // Written so that NaN, which compares as false, is refused.
    let good = (value > 0.0 || (zero_allowed && value == 0.0)) && value <= 1.0;
    if good { Ok(()) } else { Err(SettingsError::NotAShare { key, value }) }
}

/// A number in `0.0..1.0` that depends on nothing but its two arguments (SplitMix64's finisher).
fn draw(seed: u64, generation: u64) -> f64 {
    let mut z = seed.wrapping_add(generation.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    // The top 53 bits are what a double holds exactly.
    (z >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_their_own_check() {
        assert_eq!(Settings::default().check(), Ok(()));
    }

    #[test]
    fn every_setting_that_could_never_work_is_refused_by_its_name() {
        let good = Settings::default();
        let cases = [
            (Settings { window_ms: 0, ..good }, "window_ms must be at least 1: 0"),
            (Settings { buckets: 0, ..good }, "buckets must be at least 1: 0"),
            (Settings { buckets: 129, ..good }, "buckets must be at most 128: 129"),
            (Settings { buckets: 3, ..good }, "window_ms must be a multiple of buckets (3): 10000"),
            (Settings { minimum_calls: 0, ..good }, "minimum_calls must be at least 1: 0"),
            (
                Settings { failure_rate: 0.0, ..good },
                "failure_rate must be above 0 and at most 1: 0",
            ),
            (
                Settings { failure_rate: f64::NAN, ..good },
                "failure_rate must be above 0 and at most 1: NaN",
            ),
            (
                Settings { consecutive_failures: 0, ..good },
                "consecutive_failures must be at least 1: 0",
            ),
            (Settings { slow_call_ms: Some(0), ..good }, "slow_call_ms must be at least 1: 0"),
            (Settings { slow_rate: 1.1, ..good }, "slow_rate must be above 0 and at most 1: 1.1"),
            (Settings { open_ms: 0, ..good }, "open_ms must be at least 1: 0"),
            (
                Settings { open_max_ms: 4_999, ..good },
                "open_max_ms must be at least open_ms (5000): 4999",
            ),
            (Settings { jitter: -0.1, ..good }, "jitter must be between 0 and 1: -0.1"),
            (Settings { half_open_permits: 0, ..good }, "half_open_permits must be at least 1: 0"),
            (
                Settings { half_open_permits: 129, ..good },
                "half_open_permits must be at most 128: 129",
            ),
            (Settings { half_open_needed: 0, ..good }, "half_open_needed must be at least 1: 0"),
            (Settings { half_open_needed: 4, ..good }, "half_open_needed must be at most 3: 4"),
            (
                Settings { half_open_max_wait_ms: 0, ..good },
                "half_open_max_wait_ms must be at least 1: 0",
            ),
        ];
        for (settings, message) in cases {
            assert_eq!(settings.check().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn the_open_time_doubles_up_to_its_cap() {
        let settings = Settings { jitter: 0.0, ..Settings::default() };
        let times: Vec<u64> = (0..8).map(|earlier| settings.open_time_ms(earlier, 1)).collect();
        assert_eq!(times, [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]);
        assert_eq!(settings.open_time_ms(63, 1), 300_000);
        assert_eq!(settings.open_time_ms(u32::MAX, 1), 300_000);
    }

    #[test]
    fn chance_cuts_between_nothing_and_its_share_and_uses_the_whole_range() {
        let settings = Settings::default();
        let times: Vec<u64> = (0..10_000).map(|g| settings.open_time_ms(0, g)).collect();
        let (low, high) = (*times.iter().min().unwrap(), *times.iter().max().unwrap());
        assert!((2_500..2_520).contains(&low), "{low}");
        assert!((4_980..=5_000).contains(&high), "{high}");
        let mean = times.iter().sum::<u64>() / 10_000;
        assert!((3_700..3_800).contains(&mean), "{mean}");
    }

    #[test]
    fn the_cut_is_the_same_for_the_same_seed_and_another_for_another() {
        let one = Settings { seed: 1, ..Settings::default() };
        let two = Settings { seed: 2, ..Settings::default() };
        assert_eq!(one.open_time_ms(3, 9), one.open_time_ms(3, 9));
        assert_ne!(one.open_time_ms(3, 9), two.open_time_ms(3, 9));
    }

    #[test]
    fn full_jitter_still_opens_for_a_moment() {
        let settings = Settings { open_ms: 1, jitter: 1.0, ..Settings::default() };
        assert!((0..1_000).all(|g| settings.open_time_ms(0, g) == 1));
    }
}
