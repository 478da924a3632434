//! A circuit breaker that never asks for the time: it decides whether a call to a shaky service
//! may be tried, and learns from how it ended.
//!
//! It is pure (no runtime, no clock, no randomness of its own, no dependency), so a test can
//! drive it through a day in a microsecond, and it keeps its promises under real threads: a
//! half-open breaker admits exactly its permits.
//!
//! ```
//! use std::sync::Arc;
//! use interlock_circuit_breaker::{Breaker, RefusedReason, Settings, State, Verdict};
//!
//! let breaker = Arc::new(Breaker::new(Settings::default())?);
//!
//! // Five failures in a row open it.
//! for now_ms in 0..5 {
//!     let permit = breaker.try_acquire(now_ms)?;
//!     permit.record(now_ms, Verdict::RemoteFailure, 120);
//! }
//! let refused = breaker.try_acquire(10).unwrap_err();
//! assert_eq!(refused.reason, RefusedReason::Open);
//! let retry_after_ms = refused.retry_after_ms.expect("an open breaker knows its end");
//!
//! // When the open time is over, three calls may probe, and two that pass close it.
//! let now_ms = 10 + retry_after_ms;
//! let probes = [(); 3].map(|()| breaker.try_acquire(now_ms));
//! let refused = breaker.try_acquire(now_ms).unwrap_err();
//! assert_eq!(refused.reason, RefusedReason::HalfOpenFull);
//! for probe in probes {
//!     probe?.record(now_ms + 80, Verdict::Success, 80);
//! }
//! assert_eq!(breaker.state(now_ms + 80), State::Closed);
//!
//! let told = breaker.take_transitions(now_ms + 80);
//! let told: Vec<_> = told.iter().map(|transition| transition.reason.as_str()).collect();
//! assert_eq!(told, ["consecutive_failures", "open_time_over", "probes_passed"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Rules
//!
//! * **Closed.** Every call passes. The breaker trips on failures in a row (remote and local ones
//!   counted apart: an answer, even a bad one, ends a row of local failures), on the share of
//!   failures or on the share of slow calls in a sliding window of time. Shares are judged from
//!   [`Settings::minimum_calls`] on. A business decline is a success; [`Verdict::Ignored`] counts
//!   nowhere.
//! * **Open.** Nothing passes. The first opening lasts [`Settings::open_ms`], each further one
//!   of a series twice as long up to [`Settings::open_max_ms`], less a cut by chance. A series
//!   ends when the breaker has been closed for a whole window.
//! * **Half-open.** At most [`Settings::half_open_permits`] probes are out or judged. When
//!   [`Settings::half_open_needed`] have passed it closes; when so many failed or were slow that
//!   this cannot happen any more it opens again, and also when one probe stays out for
//!   [`Settings::half_open_max_wait_ms`]. A cancelled or ignored probe gives its place back.
//!   Without traffic it waits; a quiet hour is not held against anybody.
//! * **By hand.** [`Manual::ForcedOpen`], [`Manual::ForcedClosed`] and [`Manual::Disabled`]
//!   (observe only) last until [`Breaker::release`].
//!
//! A [`Permit`] carries the generation in which it was given out. Every change of state begins a
//! new one, so a call that started before a trip and ends after it neither closes nor opens
//! anything.
//!
//! What time brings about happens when it was due, not when somebody asks: looks
//! ([`Breaker::state`], [`Breaker::would_admit`], [`Breaker::snapshot`]) change nothing and agree
//! with the call that follows them. Only the report of such a change waits for the next call that
//! does change something, or for [`Breaker::take_transitions`].

#![forbid(unsafe_code)]

mod breaker;
mod machine;
mod settings;
mod snapshot;
mod transitions;
mod window;
mod words;

pub use breaker::{Breaker, Permit};
pub use settings::{MAX_BUCKETS, MAX_HALF_OPEN_PERMITS, Settings, SettingsError};
pub use snapshot::Snapshot;
pub use transitions::{MAX_WAITING_TRANSITIONS, Transition};
pub use window::Counts;
pub use words::{Manual, Reason, Refused, RefusedReason, State, Verdict};
