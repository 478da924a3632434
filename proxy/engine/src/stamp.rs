//! A moment, as far as it may be believed.

use serde::{Deserialize, Serialize};

/// A moment as one process saw it. Waits that protect money count only `mono_ms` of one `boot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Unix ms; the later of the wall clock and the durable high-water mark.
    pub wall_ms: i64,
    /// Names one run of one process.
    pub boot: u64,
    /// Monotonic ms since that process started.
    pub mono_ms: u64,
}

impl Stamp {
    /// The moment `ms` later.
    pub fn plus(self, ms: u64) -> Self {
        let wall_ms = self.wall_ms.saturating_add_unsigned(ms);
        Self { wall_ms, mono_ms: self.mono_ms.saturating_add(ms), ..self }
    }

    /// Whether this process itself saw `ms` pass since `then`. A moment of another process proves
    /// nothing (SAFETY G10).
    pub fn saw_pass(self, then: Stamp, ms: u64) -> bool {
        self.boot == then.boot && self.mono_ms >= then.mono_ms.saturating_add(ms)
    }
}
