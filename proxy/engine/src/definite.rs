//! When a "no" may be believed, and when something may be sent again: the rules G1 to G12.
//!
//! Everything here is a question without a side effect. An answer is `true` only when the rule
//! proves it; whatever is not proven stays a doubt.

use interlock_plugin_api::{
    Concurrency, CredentialForm, Effect, Fact, IdempotencyClass, MoveRule, NotFound, Scope, What,
};

use crate::exchange::{Exchange, ExchangeKind, Reply, Track};
use crate::input::Asked;
use crate::mutant::{self, Mutant};
use crate::payment::Attempt;
use crate::policy::AccountPolicy;
use crate::stamp::Stamp;

/// More than two clocks in one cluster may differ, ms.
pub(crate) const SKEW_MS: u64 = 60_000;

/// What a fact is worth when it came with this HTTP status: a "no" without a listed proof code,
/// anything on a 5xx, is an unknown outcome (G8).
pub(crate) fn believe(fact: &Fact, status: u16, account: &AccountPolicy) -> Fact {
    let proven = fact.provider_code.as_deref().is_some_and(|c| account.contract.proves(c));
    let negative = fact.what == What::Declined;
    let honest = if negative { proven } else { status < 500 };
    if honest { fact.clone() } else { Fact { what: What::Unknown, ..fact.clone() } }
}

/// Whether the plugin that read an answer knows what the plugin that sent it meant (G9). Only the
/// plugin in force is known to continue others.
pub(crate) fn reads(reader: u32, exchange: &Exchange, account: &AccountPolicy) -> bool {
    let continues =
        reader == account.state_version && account.continues.contains(&exchange.state_version);
    reader == exchange.state_version || continues || mutant::on(Mutant::TrustAnyVersion)
}

/// Whether an amount that the provider echoed is ours; no echo is no contradiction.
pub(crate) fn same_amount(fact: &Fact, money: i64, a: &AccountPolicy, of: &crate::Payment) -> bool {
    fact.amount.is_none_or(|theirs| {
        theirs.currency == of.currency()
            && a.provider_amount(theirs.currency, money) == Some(theirs.amount)
    })
}

/// Whether a decline ends an attempt or an operation (G2, G3): after one send at most, or as the
/// key's own result from a provider that remembers everything. What was only offered and never
/// shown can't be paid, so it does not count.
pub(crate) fn declined(fact: &Fact, track: &Track, account: &AccountPolicy) -> bool {
    let key = fact.scope == Scope::Key || mutant::on(Mutant::SendScopeAsKey);
    let trusting = mutant::on(Mutant::TrustDeclineAfterResend);
    track.moved() <= 1 || (strong(track, account) && key) || trusting
}

/// Whether a definite refusal is the payment's end at the provider, although something was shown:
/// what began as a mere offer, and what nobody says so of, can still be paid.
pub(crate) fn refusal_ends(track: &Track, account: &AccountPolicy) -> bool {
    let ends = |x: &Exchange| {
        x.effect == Effect::Move && account.contract.move_rule(&x.purpose).refusal_final
    };
    let mut sent = track.takers().filter(|x| x.sends > 0).peekable();
    sent.peek().is_some() && sent.all(ends)
}

/// Whether this one request is disproved by its own answer, whatever the others do.
pub(crate) fn one_declined(fact: &Fact, x: &Exchange, account: &AccountPolicy) -> bool {
    let rule = account.contract.move_rule(&x.purpose);
    x.sends <= 1 || (rule.class == IdempotencyClass::Strong && fact.scope == Scope::Key)
}

/// Whether nothing that could take money can still be on the wire, as this process saw it (G10).
pub(crate) fn window_over(track: &Track, now: Stamp, account: &AccountPolicy) -> bool {
    let window = account.contract.late_window_ms;
    let over = |x: &Exchange| {
        let by_wall = now.wall_ms >= x.last_send_by.plus(window).wall_ms;
        let by_first = now.wall_ms >= x.first_send_by_ms.saturating_add_unsigned(window);
        now.saw_pass(x.last_send_by, window)
            || (by_wall && mutant::on(Mutant::WallClockProves))
            || (by_first && mutant::on(Mutant::ResendAfterFence))
    };
    track.takers().filter(|x| x.sends > 0).all(over)
}

/// Whether an inquiry was asked behind the fence and after the late window (G4).
pub(crate) fn asked_behind_fence(track: &Track, asked: &Asked, account: &AccountPolicy) -> bool {
    track.fence.is_some_and(|ver| asked.ver >= ver) && window_over(track, asked.at, account)
}

/// Whether "not found" ends an attempt or an operation.
pub(crate) fn not_found(
    belief: NotFound,
    track: &Track,
    asked: &Asked,
    account: &AccountPolicy,
) -> bool {
    let proven = belief == NotFound::AfterFence && asked_behind_fence(track, asked, account);
    proven || mutant::on(Mutant::TrustNotFound)
}

/// Whether "closed, nobody had paid" ends an attempt (T11). `answered` is the close that says so;
/// an inquiry that says so must have been asked when no copy could arrive any more.
pub(crate) fn closed_unpaid(
    attempt: &Attempt,
    answered: Option<&Exchange>,
    asked: Option<&Asked>,
    account: &AccountPolicy,
) -> bool {
    let late = answered.is_some_and(|x| x.after_window)
        || asked.is_some_and(|asked| asked_behind_fence(&attempt.track, asked, account));
    tombstone(attempt, account)
        || strong(&attempt.track, account)
        || one_copy(attempt)
        || (late && every_open_close(attempt, |x| x.after_window))
        || mutant::on(Mutant::CloseAcrossResend)
}

/// Whether "nothing to close" ends an attempt (T11).
pub(crate) fn nothing_found(
    attempt: &Attempt,
    answered: Option<&Exchange>,
    account: &AccountPolicy,
) -> bool {
    let all =
        |rule: fn(&Exchange) -> bool| answered.is_some_and(rule) && every_open_close(attempt, rule);
    let one = strong(&attempt.track, account)
        || one_copy(attempt)
        || mutant::on(Mutant::CloseAcrossResend);
    tombstone(attempt, account) || (all(|x| x.order_seen) && one) || all(|x| x.after_window)
}

/// Whether an early close could prove anything: across a re-send that is not remembered only one
/// that is sent behind the fence and after the late window does.
pub(crate) fn early_close_proves(attempt: &Attempt, account: &AccountPolicy) -> bool {
    tombstone(attempt, account)
        || strong(&attempt.track, account)
        || one_copy(attempt)
        || mutant::on(Mutant::CloseAcrossResend)
}

/// Whether an inquiry may clear a success that a close may have given back: it was asked after
/// every close was answered or too old to arrive, and no close was journalled since (learn 2). An
/// answer that does not say what the close did is none.
pub(crate) fn confirms(attempt: &Attempt, asked: &Asked, account: &AccountPolicy) -> bool {
    if mutant::on(Mutant::SuccessDuringClose) {
        return true;
    }
    let later_than_waiting = attempt.unconfirmed.as_ref().is_none_or(|u| asked.ver >= u.ver);
    later_than_waiting
        && attempt.track.of(ExchangeKind::Close).filter(|x| x.sends > 0).all(|x| {
            let answered = x.answered_ver.is_some_and(|ver| ver <= asked.ver);
            let too_old = asked.at.saw_pass(x.last_send_by, account.contract.late_window_ms);
            x.made_ver <= asked.ver && (answered || too_old)
        })
}

/// Whether an exchange may be sent again (T7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resend {
    /// At once.
    Now,
    /// When this process has seen this much more time pass, ms.
    After(u64),
    /// When the shopper comes back with his details: this process has lost them.
    IfBrought,
    /// Not any more.
    Never,
}

/// What decides a re-send besides the exchange.
pub(crate) struct ResendCase<'a> {
    pub account: &'a AccountPolicy,
    pub track: &'a Track,
    pub now: Stamp,
    pub form: CredentialForm,
    pub credential: bool,
    /// What the shopper brought back is in memory.
    pub details: bool,
    /// Its money would not be kept.
    pub loser: bool,
    /// The provider was heard to accept it and to decide later.
    pub accepted: bool,
    /// What is shown to the shopper goes on by our `continue`.
    pub challenges: bool,
}

/// Whether an answer permits that the same request is sent again, by its provider codes (G12).
/// That is no proof of anything, so it never lets another account be tried.
pub(crate) fn may_follow(x: &Exchange, facts: &[Fact], account: &AccountPolicy) -> bool {
    let rule = account.contract.move_rule(&x.purpose);
    facts.iter().filter_map(|f| f.provider_code.as_deref()).any(|code| rule.may_follow(code))
}

/// T7 for one exchange.
pub(crate) fn resend(x: &Exchange, case: &ResendCase<'_>) -> Resend {
    let contract = &case.account.contract;
    let rule: MoveRule = contract.move_rule(&x.purpose);
    let admitted = match rule.class {
        IdempotencyClass::Strong => true,
        IdempotencyClass::SuccessOnly => {
            // A copy that is not recognised opens a second challenge: the shopper may pass both.
            let opens = case.challenges && x.kind == ExchangeKind::Authorize;
            let prompt = rule.never_asynchronous && !case.accepted && !opens;
            prompt || mutant::on(Mutant::ResendAccepted)
        }
        IdempotencyClass::None => mutant::on(Mutant::ResendWithoutIdempotency),
    };
    let returns = x.kind == ExchangeKind::Continue;
    let in_hand =
        if returns { case.details } else { case.form == CredentialForm::None || case.credential };
    let last_by = case
        .now
        .wall_ms
        .saturating_add_unsigned(case.account.timeout_ms + contract.late_window_ms + SKEW_MS);
    let key_lives = last_by < x.first_send_by_ms.saturating_add_unsigned(rule.key_life_ms);
    let key_lives = key_lives || mutant::on(Mutant::ResendWithoutIdempotency);
    let barred = matches!(x.reply, Reply::Answered { may_follow: false, .. })
        && rule.resend_after_silence_only
        && !mutant::on(Mutant::ResendUnpermitted);
    if x.sends == 0 {
        // Nothing of it ever left, so it is a first send.
        let wanted = in_hand && !case.loser && case.track.fence.is_none();
        return if wanted { Resend::Now } else { Resend::Never };
    }
    let unfenced = case.track.fence.is_none() || mutant::on(Mutant::ResendAfterFence);
    if !admitted
        || !(in_hand || returns)
        || !key_lives
        || x.effect != Effect::Move
        || case.loser
        || !unfenced
        || (case.track.was_closed() && !mutant::on(Mutant::ResendAfterFence))
        || barred
        || x.identity != case.account.identity
        || !case.account.continues.contains(&x.state_version)
    {
        return Resend::Never;
    }
    if !in_hand {
        return Resend::IfBrought;
    }
    let side_by_side =
        rule.concurrency == Concurrency::Excluded || mutant::on(Mutant::ResendInFlight);
    let window = if side_by_side { 0 } else { contract.late_window_ms };
    let wait = window.max(rule.resend_after_ms);
    if wait == 0 || case.now.saw_pass(x.last_send_by, wait) {
        return Resend::Now;
    }
    let seen = if case.now.boot == x.last_send_by.boot {
        case.now.mono_ms.saturating_sub(x.last_send_by.mono_ms)
    } else {
        0
    };
    Resend::After(wait.saturating_sub(seen).max(1))
}

/// Whether the provider remembers the true result of everything that was sent.
pub(crate) fn strong(track: &Track, account: &AccountPolicy) -> bool {
    let mut takers = track.takers().peekable();
    takers.peek().is_some()
        && takers.all(|x| account.contract.move_rule(&x.purpose).class == IdempotencyClass::Strong)
}

/// Whether no other copy can reach the provider: what the shopper carries he may carry again.
fn one_copy(attempt: &Attempt) -> bool {
    attempt.sends() <= 1 && attempt.track.takers().all(|x| !x.by_shopper)
}

fn tombstone(attempt: &Attempt, account: &AccountPolicy) -> bool {
    account.contract.close_of(&attempt.flow).is_some_and(|c| c.tombstone)
}

fn every_open_close(attempt: &Attempt, rule: fn(&Exchange) -> bool) -> bool {
    attempt.track.open_closes().all(rule)
}
