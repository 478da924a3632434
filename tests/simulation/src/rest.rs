//! When a payment is at rest, and what must be true then, for both judges of the engine.

use interlock_engine::{ExchangeKind, OperationState, Payment, Policy, Settled};
use interlock_plugin_api::{Inquiry, NotFound};

/// Something is open at the providers or with us.
pub fn is_open(p: &Payment) -> bool {
    p.attempts.iter().any(|a| !a.is_over() && !a.state.is_success())
        || p.operations.iter().any(|o| o.state.is_open())
}

/// Everything that is open waits for an operator, and something does.
pub fn waits_for_operator(p: &Payment) -> bool {
    let attempts = p.attempts.iter().all(|a| a.is_over() || a.state.is_success() || a.manual);
    let operations = p.operations.iter().all(|o| !o.state.is_open() || o.manual);
    let waits = p.attempts.iter().any(|a| a.manual) || p.operations.iter().any(|o| o.manual);
    attempts && operations && waits
}

/// An operator is asked although asking the providers alone would end every doubt. What a provider
/// definitely refuses again and again is an operator's to know, and so is whether a lost return
/// of the shopper will still come while his challenge stays open.
pub fn asks_in_vain(p: &Payment, policy: &Policy) -> bool {
    let undone = |s| matches!(s, OperationState::Rejected | OperationState::Reversed);
    let refused = p.operations.iter().filter(|o| undone(o.state)).count() >= 3;
    let could_be_known = p.attempts.iter().all(|a| {
        let contract = &policy.accounts[&a.account].contract;
        let asks = |i: Inquiry| i.not_found == NotFound::AfterFence && i.by_our_reference;
        asks(contract.inquiry)
            && asks(contract.operation_inquiry)
            && (a.offer.is_none() || contract.offer_expiry.is_some())
            && a.track.of(ExchangeKind::Continue).next().is_none()
    });
    !refused && could_be_known
}

/// What the merchant was told that he keeps, minor units.
pub fn told_net(p: &Payment) -> i64 {
    match p.settled {
        Some(Settled::Succeeded) => p.captured() - p.refunded(),
        _ => 0,
    }
}
