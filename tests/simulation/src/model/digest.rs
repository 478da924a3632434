//! A payment, a fact or a request as one number, for telling states apart.
//!
//! Every field is named, so a new one does not compile before somebody has decided whether it makes
//! two states different. What never differs within one world is left out.

use std::hash::{DefaultHasher, Hash, Hasher};

use interlock_engine::{
    Attempt, AttemptState, Exchange, Offer, Operation, Payment, Stamp, Track, Unconfirmed,
};
use interlock_plugin_api::Fact;

/// One number for whatever `f` puts in.
pub fn digest(f: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut h = DefaultHasher::new();
    f(&mut h);
    h.finish()
}

/// A payment's durable version.
pub fn payment(p: &Payment, h: &mut impl Hasher) {
    let Payment {
        id: _,
        merchant: _,
        key: _,
        ver,
        created_ms,
        money: _,
        capture: _,
        method,
        merchant_ref: _,
        description: _,
        return_url: _,
        customer: _,
        metadata: _,
        route: _,
        failover_until_ms,
        attempts,
        operations,
        cancel_requested,
        switch,
        settled,
        restored,
        seq: _,
    } = p;
    (ver, created_ms, &method.flow, failover_until_ms, cancel_requested).hash(h);
    switch.as_ref().map(|m| &m.flow).hash(h);
    (settled.map(|s| s as u8), restored).hash(h);
    attempts.len().hash(h);
    attempts.iter().for_each(|a| attempt(a, h));
    operations.iter().for_each(|o| operation(o, h));
}

fn attempt(a: &Attempt, h: &mut impl Hasher) {
    let Attempt {
        id: _,
        account,
        op_id,
        method: _,
        flow,
        started_ms,
        state,
        track: its,
        provider_ref,
        offer,
        order_seen,
        unconfirmed,
        refund_due_ver,
        loser,
        manual,
        alert,
        payer_amount: _,
        captured_ms: _,
        second_charge_of,
        outside,
    } = a;
    (account, op_id, flow, started_ms, provider_ref, order_seen, refund_due_ver).hash(h);
    (loser, manual, alert, second_charge_of).hash(h);
    std::mem::discriminant(state).hash(h);
    match state {
        AttemptState::Closing { why } => (*why as u8).hash(h),
        AttemptState::Success { captured } => captured.hash(h),
        AttemptState::Failed { reason, class, provider_code, advice: _ } => {
            (*reason as u8, class, provider_code).hash(h);
        }
        AttemptState::RefundDue { authorized } => authorized.hash(h),
        _ => {}
    }
    track(its, h);
    if let Some(Offer { action: _, made_ms, made }) = offer {
        (made_ms, made).hash(h);
    }
    outside.iter().for_each(|its| fact(its, h));
    if let Some(Unconfirmed { fact: its, ver }) = unconfirmed {
        ver.hash(h);
        fact(its, h);
    }
}

fn operation(o: &Operation, h: &mut impl Hasher) {
    let Operation {
        id: _,
        kind,
        attempt,
        amount,
        origin,
        key: _,
        reason: _,
        // Told to the merchant; nothing is decided by it.
        created_ms: _,
        op_id,
        operation_ref,
        state,
        track: its,
        failed_ver,
        done_ver,
        done_ms: _,
        accepted,
        again,
        manual,
        provider_code,
        denied,
    } = o;
    (kind, attempt, amount, *origin as u8, op_id, operation_ref).hash(h);
    (*state as u8, failed_ver, done_ver, accepted, again, manual, provider_code).hash(h);
    denied.hash(h);
    track(its, h);
}

fn track(t: &Track, h: &mut impl Hasher) {
    let Track { exchanges, fence, tries, since_ms, next_ms } = t;
    (fence, tries, since_ms, next_ms, exchanges.len()).hash(h);
    exchanges.iter().for_each(|x| exchange(x, h));
}

fn exchange(x: &Exchange, h: &mut impl Hasher) {
    let Exchange {
        // Made of the op_id, the kind and the place in the track.
        id: _,
        kind,
        purpose: _,
        effect,
        op_id: _,
        identity: _,
        plugin: _,
        plugin_version: _,
        state_version,
        continuation: _,
        digest: _,
        made_ms: _,
        entropy: _,
        made_ver,
        sends,
        first_send_by_ms,
        last_send_by: Stamp { wall_ms, boot, mono_ms },
        reply,
        answered_ver,
        by_shopper,
        after_window,
        order_seen,
    } = x;
    (kind, effect, state_version, made_ver, sends, first_send_by_ms).hash(h);
    (wall_ms, boot, mono_ms, answered_ver, after_window, order_seen).hash(h);
    by_shopper.hash(h);
    match reply {
        interlock_engine::Reply::Open => 0,
        interlock_engine::Reply::NotSent => 1,
        interlock_engine::Reply::Lost => 2,
        interlock_engine::Reply::Answered { server_error, may_follow } => {
            3 + u8::from(*server_error) + 2 * u8::from(*may_follow)
        }
    }
    .hash(h);
}

/// What a provider says.
pub fn fact(f: &Fact, h: &mut impl Hasher) {
    let Fact {
        what,
        scope,
        op_id,
        amount,
        payer_amount: _,
        provider_ref,
        operation_ref,
        class,
        provider_code,
        advice: _,
        action,
    } = f;
    (what, *scope as u8, op_id, amount.map(|m| m.amount), provider_ref, operation_ref).hash(h);
    (class, provider_code, action.is_some()).hash(h);
}
