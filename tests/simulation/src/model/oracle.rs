//! What must be true, whatever happens: the providers' books against what the merchant was told.
//!
//! Nothing here asks the engine what it thinks of itself. What a version says is checked when it
//! becomes durable, what moves money is checked when it moves, and where nothing is under way any
//! more the books must agree with what was told (SAFETY 2.12).

use interlock_engine::{
    AttemptState, ExchangeKind, OperationState, Origin, Payment, Settled, status,
};

use super::state::State;
use super::worlds::World;
use crate::rest;

/// What a version that is about to be durable must not be.
pub fn commit(world: &World, s: &State, next: &Payment, due: bool) -> Option<String> {
    let before = s.payment();
    if next.ver != s.ver() + 1 {
        return Some(format!("I9: version {} follows {}", next.ver, s.ver()));
    }
    let told = before.and_then(|p| p.settled);
    let recovered = (Some(Settled::Failed), Some(Settled::Succeeded));
    let may_recover = world.accepts_late && (told, next.settled) == recovered;
    if told.is_some() && told != next.settled && !may_recover {
        return Some(format!("I9: told {told:?}, then {:?}", next.settled));
    }
    if told.is_none()
        && let Some(now) = next.settled
        && let Some(why) = first_told(world, s, now)
    {
        return Some(why);
    }
    if next.attempts.iter().filter(|a| a.state.is_success()).count() > 1 {
        return Some("I7: two attempts hold the money".into());
    }
    if let Some(before) = before
        && let Some(why) = new_attempt(world, before, next)
    {
        return Some(why);
    }
    let open = (0..next.attempts.len()).any(|i| attempt_open(next, i))
        || next.operations.iter().any(|o| o.state.is_open());
    if open && !due {
        return Some("I10: something is open and nobody will look".into());
    }
    sums(next).or_else(|| crossed(next)).or_else(|| keys(next))
}

/// I2, I3: what is told first is true at that moment.
fn first_told(world: &World, s: &State, told: Settled) -> Option<String> {
    let live: usize = s.books.iter().map(|b| b.provider.live()).sum();
    let outside = s.books.iter().any(|b| b.provider.outside > 0);
    let good = match told {
        Settled::Succeeded => live == 1 || outside,
        _ => live == 0,
    };
    let bounced = s.books.iter().any(|b| b.provider.bounced);
    let rule = if told == Settled::Succeeded { "I2" } else { "I3" };
    (!good && !bounced && !world.excused && !s.was_denied())
        .then(|| format!("{rule}: told {told:?} with {live} live charges"))
}

/// I6, and that after a cancel nobody is asked who was not asked before.
fn new_attempt(world: &World, before: &Payment, next: &Payment) -> Option<String> {
    let tries = |p: &Payment| p.attempts.iter().filter(|a| a.second_charge_of.is_none()).count();
    if tries(next) <= tries(before) || world.instant_switch {
        return None;
    }
    if before.cancel_requested {
        return Some("another account is asked after a cancel".into());
    }
    let last = next.attempts.iter().rposition(|a| a.second_charge_of.is_none())?;
    let others = next.attempts.iter().enumerate().filter(|(n, _)| *n != last);
    let open = others.map(|(_, a)| a).find(|a| !a.is_over());
    open.map(|a| format!("I6: another account is tried while one is {}", a.state.as_str()))
}

fn attempt_open(p: &Payment, i: usize) -> bool {
    match p.attempts[i].state {
        AttemptState::Success { captured: true } => false,
        AttemptState::Success { captured: false } => p.cancel_requested && p.settled.is_none(),
        _ => !p.attempts[i].is_over(),
    }
}

/// I11, as the row has it.
fn sums(p: &Payment) -> Option<String> {
    for i in 0..p.attempts.len() {
        let of = |kind, origin: Option<Origin>| -> i64 {
            p.operations
                .iter()
                .filter(|o| o.attempt == i && o.kind == kind)
                .filter(|o| matches!(o.state, OperationState::Done | OperationState::Pending))
                .filter(|o| origin.is_none_or(|origin| o.origin == origin))
                .map(|o| o.amount)
                .sum()
        };
        if of(ExchangeKind::Capture, None) > p.money.amount {
            return Some("I11: more is captured than was authorized".into());
        }
        if of(ExchangeKind::Refund, Some(Origin::Merchant)) > p.money.amount {
            return Some("I11: more is refunded than was captured".into());
        }
    }
    None
}

/// I11: no capture while a void is unsettled, and the other way round.
fn crossed(p: &Payment) -> Option<String> {
    let open = |i: usize, kind| {
        // What is fenced is only asked about.
        let moving = |s: OperationState| s.is_open() && s != OperationState::Fenced;
        p.operations.iter().any(|o| o.attempt == i && o.kind == kind && moving(o.state))
    };
    let crossed = |i: &usize| open(*i, ExchangeKind::Capture) && open(*i, ExchangeKind::Void);
    let both = (0..p.attempts.len()).find(crossed);
    both.map(|_| "I11: a capture and a void are under way at once".into())
}

/// I8: one key, one operation.
fn keys(p: &Payment) -> Option<String> {
    let keyed =
        || p.operations.iter().enumerate().filter_map(|(n, o)| Some((n, o.kind, o.key.as_ref()?)));
    let twice = keyed().any(|(n, kind, key)| {
        keyed().any(|(m, other, same)| m < n && (kind, key) == (other, same))
    });
    twice.then(|| "I8: one key made two operations".into())
}

/// What money must not do, at the moment it moves; `made` charges were in the books before.
pub fn books(world: &World, s: &State, made: usize) -> Option<String> {
    let providers = || s.books.iter().map(|b| &b.provider);
    for charge in providers().flat_map(|p| p.charges()) {
        if charge.void && charge.taken > charge.given_back {
            return Some("I11: an authorization was captured and voided".into());
        }
        if charge.taken > world.amount || charge.given_back > charge.taken {
            return Some("I11: the books hold more than was paid".into());
        }
    }
    let excused = world.excused || s.was_denied();
    if providers().map(|p| p.made()).sum::<usize>() <= made || excused {
        return None;
    }
    let live: usize = providers().map(|p| p.live()).sum();
    if live > 1 {
        return Some(format!("I1: {live} live charges at once"));
    }
    match s.payment().and_then(|p| p.settled) {
        Some(told @ (Settled::Failed | Settled::Canceled)) => {
            Some(format!("I3: charged after it was told {told:?}"))
        }
        _ => None,
    }
}

/// At rest: the books agree with what was told.
pub fn at_rest(world: &World, s: &State) -> Option<String> {
    let p = s.payment()?;
    if rest::waits_for_operator(p) {
        return needless_operator(world, s, p);
    }
    let providers = || s.books.iter().map(|b| &b.provider);
    if rest::is_open(p) {
        return Some("no way out: open for ever".into());
    }
    let net: i64 = providers().map(|p| p.net()).sum();
    let expected = rest::told_net(p);
    if net != expected {
        return Some(format!("I1: at rest the books hold {net}, and {expected} was told"));
    }
    let live: usize = providers().map(|p| p.live()).sum();
    match p.settled {
        Some(Settled::Succeeded) => None,
        Some(_) if live == 0 => None,
        Some(told) => Some(format!("I3: told {told:?}, and {live} charges are live at rest")),
        None => {
            let held: usize = providers().map(|p| p.held()).sum();
            let holds = world.manual && held == 1;
            let waits = status::status(p).0 == status::Status::RequiresCapture;
            (!(holds && waits)).then(|| "no way out: never told".into())
        }
    }
}

/// An operator is asked only where the contracts leave no other way.
fn needless_operator(world: &World, s: &State, p: &Payment) -> Option<String> {
    // What an unloaded version of a plugin began nobody can finish.
    let excused = world.excused || world.upgrades || s.was_denied();
    let in_vain = !excused && rest::asks_in_vain(p, &world.policy);
    in_vain.then(|| "no way out: an operator is asked what could be known".into())
}
