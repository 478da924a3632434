//! What a search has seen, so that a search that finds nothing wrong is known to have looked.

use std::sync::atomic::{AtomicU64, Ordering};

use interlock_engine::{
    AttemptState, ExchangeKind, FailReason, OperationState, Origin, Payment, Settled,
};

/// Everything that some world must reach.
pub const SIGHTS: [&str; 43] = [
    "an attempt that is started",
    "an attempt that waits for the shopper",
    "an attempt that is pending",
    "an attempt that is ambiguous",
    "an attempt that is fenced",
    "an attempt that is closing",
    "an attempt that succeeded",
    "an attempt that failed",
    "an attempt that is reversed",
    "an attempt that is to be given back",
    "an attempt that is given back",
    "told succeeded",
    "told failed",
    "told canceled",
    "a capture started",
    "a capture in doubt",
    "a capture done",
    "a capture refused",
    "a void started",
    "a void in doubt",
    "a void done",
    "a void refused",
    "a refund started",
    "a refund in doubt",
    "a refund done",
    "a refund refused",
    "a refund undone",
    "a refund that is pending",
    "a refund of ours",
    "a success that waits for its confirmation",
    "a loser",
    "an operator",
    "a second attempt",
    "a third attempt",
    "a payment sent more than once",
    "an operation sent more than once",
    "a further request of one operation",
    "a request that a newer plugin built",
    "a close after the late window",
    "a close of an order that was seen",
    "a second close",
    "a refund in the portal",
    "an attempt that an operator denied",
];

/// One bit for each.
#[derive(Debug, Default)]
pub struct Sights(AtomicU64);

impl Sights {
    /// Looks at a version.
    pub fn see(&self, p: &Payment) {
        let seen = of(p);
        // Most versions show nothing new, and a write would make other threads wait.
        if seen & !self.0.load(Ordering::Relaxed) != 0 {
            self.0.fetch_or(seen, Ordering::Relaxed);
        }
    }

    /// What was seen.
    pub fn all(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The names of what is missing.
pub fn missing(seen: u64) -> Vec<&'static str> {
    let unseen = SIGHTS.iter().enumerate().filter(|(n, _)| seen >> n & 1 == 0);
    unseen.map(|(_, name)| *name).collect()
}

fn of(p: &Payment) -> u64 {
    let mut seen = 0;
    let mut see = |n: usize, yes: bool| seen |= u64::from(yes) << n;
    const WORDS: [&str; 11] = [
        "started",
        "action",
        "pending",
        "ambiguous",
        "fenced",
        "closing",
        "success",
        "failed",
        "reversed",
        "refund_due",
        "refunded",
    ];
    for a in &p.attempts {
        see(WORDS.iter().position(|w| *w == a.state.as_str()).unwrap_or(63), true);
        see(29, a.unconfirmed.is_some());
        see(30, a.loser);
        see(31, a.manual);
        see(34, a.track.moved() > 1);
        let denied = matches!(a.state, AttemptState::Failed { reason: FailReason::Operator, .. });
        see(42, denied);
        see(36, a.track.takers().count() > 1);
        see(37, a.track.exchanges.iter().any(|x| x.state_version > 1));
        see(38, a.track.exchanges.iter().any(|x| x.after_window));
        see(39, a.track.exchanges.iter().any(|x| x.order_seen));
        see(40, a.track.of(ExchangeKind::Close).count() > 1);
    }
    see(11, p.settled == Some(Settled::Succeeded));
    see(12, p.settled == Some(Settled::Failed));
    see(13, p.settled == Some(Settled::Canceled));
    for o in &p.operations {
        let first = match o.kind {
            ExchangeKind::Capture => 14,
            ExchangeKind::Void => 18,
            _ => 22,
        };
        match o.state {
            OperationState::Started => see(first, true),
            OperationState::Ambiguous | OperationState::Fenced => see(first + 1, true),
            OperationState::Done => see(first + 2, true),
            OperationState::Rejected => see(first + 3, true),
            OperationState::Reversed => see(26, o.kind == ExchangeKind::Refund),
            OperationState::Pending => see(27, o.kind == ExchangeKind::Refund),
        }
        see(41, o.kind == ExchangeKind::Refund && o.origin == Origin::External);
        see(28, o.kind == ExchangeKind::Refund && o.origin == Origin::Resolver);
        see(31, o.manual);
        see(37, o.track.exchanges.iter().any(|x| x.state_version > 1));
        see(35, o.track.moved() > 1);
    }
    let tries = p.attempts.iter().filter(|a| a.second_charge_of.is_none()).count();
    see(32, tries > 1);
    see(33, tries > 2);
    seen
}
