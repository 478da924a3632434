//! What the engine does not keep yet: cases in which the judges have found it wrong, each switched
//! off by one constant, so that everything else can be shown. Whoever mends a rule sets its
//! constant to `true` and sees; when none is left, this file goes.

use interlock_engine::{
    AttemptState, ExchangeKind, OperationState, Origin, Payment, Request, Settled, Subject, Verdict,
};
use interlock_plugin_api::{Fact, What};

use crate::operator::Denied;
use crate::provider::{Charge, Provider};

/// A refund in the portal is heard while it can't be booked yet: before the success or the capture
/// is known, beside an open refund of ours, before the bounce of one of ours.
const PORTAL_THAT_DOES_NOT_FIT_YET: bool = true;
/// A part of what must be given back is given back in the portal.
const PART_OF_WHAT_MUST_GO_BACK: bool = true;
/// What is given back was only held at first, and we may not know yet that it was taken.
const PORTAL_OF_WHAT_WAS_HELD: bool = true;
/// A refund in the portal is told under our number of the payment, beside the provider's own.
pub const PORTAL_UNDER_OUR_NUMBER: bool = true;
/// An operator says that the money moved while a close that may give it back is unanswered.
const YES_BESIDE_A_CLOSE: bool = true;
/// An operator says that what must not be kept was not given back, or that a part was not captured.
const NO_TO_A_GIVE_BACK_OR_A_PART: bool = true;
/// After an operator denied a capture or refund the merchant asks for another, or cancels.
const ANOTHER_AFTER_A_NO: bool = true;

/// A refund that nobody asked us for: nobody would ask about it, so it is told until it is heard.
pub fn is_outside(fact: &Fact) -> bool {
    fact.what == What::Refunded && fact.operation_ref.is_some()
}

/// Whether a notice may come now; one that may not comes later.
pub fn may_hear(p: &Payment, fact: &Fact) -> bool {
    if !is_outside(fact) {
        return true;
    }
    let named = [&fact.provider_ref, &fact.op_id];
    let attempt = named.into_iter().flatten().find_map(|r| p.attempt_of(r));
    // What names nothing that is durable is not acknowledged.
    let Some(i) = attempt else { return false };
    PORTAL_THAT_DOES_NOT_FIT_YET || fits(p, i, fact)
}

/// Whether what was given back outside can be booked, or concerns nothing that is kept.
fn fits(p: &Payment, i: usize, fact: &Fact) -> bool {
    let a = &p.attempts[i];
    let amount = fact.amount.map_or(p.money.amount, |m| m.amount);
    // Of what is said to have failed it would be forgotten, and the late success is still to come.
    if a.is_over() || matches!(a.state, AttemptState::RefundDue { .. }) {
        return !matches!(a.state, AttemptState::Failed { .. });
    }
    if !a.state.is_success() {
        let one = a.sends() <= 1 && a.unconfirmed.is_none();
        return amount == p.money.amount && one;
    }
    let open = p.operations.iter().any(|o| o.attempt == i && o.state.is_open());
    let refunded = p.sum(ExchangeKind::Refund, i, OperationState::counts);
    !open && amount <= p.captured_by(i) - refunded
}

/// Whether anything may be given back in the portal now.
pub fn may_give_back(p: &Payment, op_id: &str, provider: &Provider) -> bool {
    let held = |c: &Charge| c.once_held && c.taken > c.given_back;
    let held = provider.order(op_id).is_some_and(|o| o.charges.iter().any(held));
    let known = AttemptState::Success { captured: true };
    let known = p.attempts.iter().any(|a| a.op_id == op_id && a.state == known);
    PORTAL_OF_WHAT_WAS_HELD || known || !held
}

/// Whether somebody may give back a part in the portal now.
pub fn may_give_a_part(p: &Payment) -> bool {
    PART_OF_WHAT_MUST_GO_BACK || p.settled == Some(Settled::Succeeded)
}

/// Whether an operator may say so now.
pub fn may_say(p: &Payment, verdict: &Verdict, provider: &Provider) -> bool {
    let i = match verdict.subject {
        Subject::Attempt(i) => i,
        Subject::Operation(n) => {
            let o = &p.operations[n];
            let part = o.kind == ExchangeKind::Capture && o.amount < p.money.amount;
            let denied = !verdict.moved && (part || o.origin == Origin::Resolver);
            return NO_TO_A_GIVE_BACK_OR_A_PART || !denied;
        }
    };
    let refunds = provider.contract.close_of("*").is_some_and(|c| c.may_refund);
    let closing = refunds && p.attempts[i].track.open_closes().next().is_some();
    YES_BESIDE_A_CLOSE || !(verdict.moved && closing)
}

/// Whether a merchant may ask for this now.
pub fn may_ask(p: &Payment, request: &Request, denied: &[Denied]) -> bool {
    let kind = match request {
        Request::Capture { .. } => ExchangeKind::Capture,
        Request::Refund { .. } => ExchangeKind::Refund,
        Request::Cancel { .. } => ExchangeKind::Capture,
        Request::Switch { .. } => return true,
    };
    let no = |op_id: &str| denied.iter().any(|d| d.op_id == op_id);
    ANOTHER_AFTER_A_NO || !p.operations.iter().any(|o| o.kind == kind && no(&o.op_id))
}
