//! Counts what happens at the edge to the providers, for metrics and for tests that prove reuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use pingora::upstreams::peer::Tracing;

use super::reason;

/// What was counted since start; gauges are of this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamCounts {
    /// Connections opened, TLS handshake included.
    pub connects: u64,
    /// Exchanges begun on a pooled connection.
    pub reuses: u64,
    /// Provider sockets open.
    pub open: usize,
    /// Exchanges on the wire.
    pub busy: usize,
    /// Open sockets that carry nothing.
    pub idle: usize,
    /// Lost exchanges by reason, every reason of [`reason::ALL`] in that order.
    pub lost: Vec<(&'static str, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    connects: AtomicU64,
    reuses: AtomicU64,
    open: AtomicI64,
    busy: AtomicI64,
    lost: [AtomicU64; reason::ALL.len()],
}

impl Counters {
    pub(super) fn connected(&self) {
        self.connects.fetch_add(1, Relaxed);
    }

    pub(super) fn reused(&self) {
        self.reuses.fetch_add(1, Relaxed);
    }

    pub(super) fn lost(&self, reason: &'static str) {
        if let Some(at) = reason::ALL.iter().position(|known| *known == reason) {
            self.lost[at].fetch_add(1, Relaxed);
        }
    }

    /// One exchange on the wire, until the guard is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Relaxed);
        Busy(self.clone())
    }

    pub(super) fn read(&self) -> UpstreamCounts {
        let open = self.open.load(Relaxed).max(0) as usize;
        let busy = self.busy.load(Relaxed).max(0) as usize;
        let lost = reason::ALL.iter().zip(&self.lost);
        UpstreamCounts {
            connects: self.connects.load(Relaxed),
            reuses: self.reuses.load(Relaxed),
            open,
            busy,
            idle: open.saturating_sub(busy),
            lost: lost.map(|(reason, count)| (*reason, count.load(Relaxed))).collect(),
        }
    }
}

pub(super) struct Busy(Arc<Counters>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Relaxed);
    }
}

/// Told by pingora when a provider socket opens and closes.
#[derive(Debug)]
pub(super) struct OpenSockets(Arc<Counters>);

impl OpenSockets {
    pub(super) fn of(counters: &Arc<Counters>) -> OpenSockets {
        OpenSockets(counters.clone())
    }
}

impl Tracing for OpenSockets {
    fn on_connected(&self) {
        self.0.open.fetch_add(1, Relaxed);
    }

    fn on_disconnected(&self) {
        self.0.open.fetch_sub(1, Relaxed);
    }

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(OpenSockets(self.0.clone()))
    }
}
