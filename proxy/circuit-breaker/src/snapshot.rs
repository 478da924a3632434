//! What a breaker shows of itself to a console, a metric or a router.
//!
//! Apart from the machine, because these names are a promise to readers and the machine's own
//! fields are not.

use crate::window::Counts;
use crate::words::{Reason, State};

/// What a breaker looks like at one instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Snapshot {
    /// What it is doing.
    pub state: State,
    /// For how long it has been in that state, in ms.
    pub state_for_ms: u64,
    /// Open or half-open: why it opened last. By hand: `forced`. Closed: `None`.
    pub reason: Option<Reason>,
    /// Open or half-open: the rule that made it leave closed, where `reason` may by then be a
    /// failed probe. Otherwise the same as `reason`.
    pub cause: Option<Reason>,
    /// For how long it has not been plain closed, in ms; `None` when it is.
    pub opened_for_ms: Option<u64>,
    /// When probes may pass, in ms from this instant; only while open.
    pub retry_after_ms: Option<u64>,
    /// Calls of the window. Probes are not among them.
    pub window: Counts,
    /// Remote failures in a row up to now.
    pub consecutive_failures: u32,
    /// Local failures in a row up to now.
    pub consecutive_local_failures: u32,
    /// While disabled: the rule that would trip a closed breaker on the counts shown here.
    pub would_trip: Option<Reason>,
    /// While half-open: probes that are out.
    pub probes_out: u32,
    /// While half-open: probes that passed.
    pub probes_passed: u32,
    /// While half-open: probes that failed or were slow.
    pub probes_failed: u32,
    /// Openings without a recovery between them; each doubles the open time.
    pub series: u32,
    /// Openings since the breaker was made, those by hand not counted.
    pub trips: u64,
    /// Grows with every change of state.
    pub generation: u64,
}
