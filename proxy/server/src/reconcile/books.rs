//! One line of a statement beside what we know: it agrees, or in which way it does not.
//!
//! Nothing here decides about money. What the provider says and we do not know becomes a fact, as
//! a notification would have brought it; the engine takes it in, or does not.

use interlock_engine::{AccountPolicy, Attempt, AttemptState, ExchangeKind, Operation};
use interlock_engine::{OperationState, Payment};
use interlock_plugin_api::{Fact, LineKind, StatementLine, What};
use serde::{Deserialize, Serialize};

/// How two books differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The provider took money under a number that is none of ours.
    OnlyTheirs,
    /// A shopper has paid, and we did not know it.
    NotCredited,
    /// The same charge or refund with another amount.
    AmountDiffers,
    /// Given back, and not by us: in the provider's portal.
    RefundNotOurs,
    /// A refund of ours is done, and we did not know it.
    RefundNotBooked,
    /// The provider or a bank took it back.
    TakenBack,
    /// We say that it was taken, and the statement lacks it.
    OnlyOurs,
    /// We say that it was given back, and the statement lacks it.
    RefundOnlyOurs,
    /// The provider says that it failed, and we that it is done.
    StateDiffers,
}

impl Kind {
    /// The word in the API, in tables and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnlyTheirs => "only_theirs",
            Self::NotCredited => "not_credited",
            Self::AmountDiffers => "amount_differs",
            Self::RefundNotOurs => "refund_not_ours",
            Self::RefundNotBooked => "refund_not_booked",
            Self::TakenBack => "taken_back",
            Self::OnlyOurs => "only_ours",
            Self::RefundOnlyOurs => "refund_only_ours",
            Self::StateDiffers => "state_differs",
        }
    }
}

/// What comparing a line came to.
#[derive(Debug, PartialEq)]
pub enum Compared {
    /// We know it; the ids of what was met.
    Agrees(Vec<String>),
    /// We do not, or not so.
    Differs(Difference),
}

/// A line that does not agree.
#[derive(Debug, PartialEq)]
pub struct Difference {
    /// In which way.
    pub kind: Kind,
    /// What we say of it, minor units of ISO 4217.
    pub ours: Option<i64>,
    /// The ids of what was met all the same: it is not missing.
    pub met: Vec<String>,
    /// What the engine should hear.
    pub news: Option<Fact>,
}

impl Difference {
    /// A difference that only a person can resolve.
    pub fn of(kind: Kind) -> Self {
        Self { kind, ours: None, met: Vec::new(), news: None }
    }
}

/// Compares a line that says that something is done, or that it failed, with the payment that its
/// numbers lead to.
pub fn compare(
    p: &Payment,
    account: &AccountPolicy,
    line: &StatementLine,
    failed: bool,
) -> Compared {
    let Some(i) = attempt_of(p, account, line) else {
        return Compared::Differs(Difference::of(Kind::OnlyTheirs));
    };
    let same_currency = line.amount.currency == p.currency();
    let amount = account.iso_amount(line.amount.currency, line.amount.amount);
    let Some(amount) = amount.filter(|_| same_currency) else {
        let met = vec![p.attempts[i].id.clone()];
        let ours = Some(p.money.amount);
        return Compared::Differs(Difference { ours, met, ..Difference::of(Kind::AmountDiffers) });
    };
    match line.kind {
        LineKind::Charge => charge(p, i, line, amount, failed),
        _ => given_back(p, i, line, amount, failed),
    }
}

/// The attempt that a line is about; the provider's own number tells two of one number of ours
/// apart.
fn attempt_of(p: &Payment, account: &AccountPolicy, line: &StatementLine) -> Option<usize> {
    let at = |a: &Attempt| a.account == account.name;
    let theirs = |a: &Attempt| a.provider_ref.is_some() && a.provider_ref == line.provider_ref;
    let ours = |a: &Attempt| Some(&a.op_id) == line.number.as_ref();
    let find = |is: &dyn Fn(&Attempt) -> bool| p.attempts.iter().position(|a| at(a) && is(a));
    let by_operation = || {
        let named = [&line.operation, &line.operation_ref].into_iter().flatten();
        let n = named.filter_map(|number| p.operation_of(number)).next()?;
        Some(p.operations[n].attempt).filter(|i| p.attempts.get(*i).is_some_and(at))
    };
    find(&theirs).or_else(|| find(&ours)).or_else(by_operation)
}

fn charge(p: &Payment, i: usize, line: &StatementLine, amount: i64, failed: bool) -> Compared {
    let a = &p.attempts[i];
    let taken =
        a.state.took() || matches!(a.state, AttemptState::Refunded | AttemptState::Reversed);
    match (failed, taken) {
        (true, false) => return Compared::Agrees(Vec::new()),
        (true, true) => {
            let ours = Some(p.captured_by(i));
            let met = vec![a.id.clone()];
            return Compared::Differs(Difference {
                ours,
                met,
                ..Difference::of(Kind::StateDiffers)
            });
        }
        (false, false) => {
            let mut fact =
                Fact::new(What::Captured).with_amount(line.amount).about(a.op_id.clone());
            fact.provider_ref.clone_from(&line.provider_ref);
            let news = Some(fact);
            return Compared::Differs(Difference { news, ..Difference::of(Kind::NotCredited) });
        }
        (false, true) => {}
    }
    let mut met = vec![a.id.clone()];
    let captures = || done(p, i, ExchangeKind::Capture);
    if let Some(capture) = captures().find(|o| o.amount == amount || is_named(o, line)) {
        met.push(capture.id.clone());
        if capture.amount == amount {
            return Compared::Agrees(met);
        }
    }
    let whole = match p.captured_by(i) {
        0 => p.money.amount,
        captured => captured,
    };
    if amount == whole {
        met.extend(captures().map(|o| o.id.clone()));
        return Compared::Agrees(met);
    }
    let ours = Some(whole);
    Compared::Differs(Difference { ours, met, ..Difference::of(Kind::AmountDiffers) })
}

fn given_back(p: &Payment, i: usize, line: &StatementLine, amount: i64, failed: bool) -> Compared {
    let a = &p.attempts[i];
    let of_it = |o: &&Operation| o.attempt == i && o.kind != ExchangeKind::Capture;
    let named = p.operations.iter().filter(of_it).find(|o| is_named(o, line));
    let mut fact = Fact::new(What::Refunded).with_amount(line.amount);
    fact.provider_ref = line.provider_ref.clone().or_else(|| a.provider_ref.clone());
    fact.operation_ref.clone_from(&line.operation_ref);
    if let Some(o) = named {
        let met = vec![o.id.clone()];
        let ours = Some(o.amount);
        let differs = |kind| Difference { ours, met: met.clone(), ..Difference::of(kind) };
        return match (failed, o.state == OperationState::Done) {
            (true, true) => Compared::Differs(differs(Kind::StateDiffers)),
            (true, false) => Compared::Agrees(met),
            (false, _) if o.amount != amount => Compared::Differs(differs(Kind::AmountDiffers)),
            (false, true) => Compared::Agrees(met),
            (false, false) => {
                fact.op_id = Some(o.op_id.clone());
                let news = Some(fact);
                Compared::Differs(Difference { news, ..differs(Kind::RefundNotBooked) })
            }
        };
    }
    if failed {
        return Compared::Agrees(Vec::new());
    }
    let gone = matches!(a.state, AttemptState::Reversed | AttemptState::Refunded);
    let unnamed = line.operation.is_none() && line.operation_ref.is_none();
    if gone && amount == p.money.amount {
        return Compared::Agrees(vec![a.id.clone()]);
    }
    // Without a number of its own it may be any refund of this amount.
    let same = p.operations.iter().filter(of_it);
    let mut same = same.filter(|o| o.state == OperationState::Done && o.amount == amount);
    if let Some(o) = same.next().filter(|_| unnamed) {
        return Compared::Agrees(vec![o.id.clone()]);
    }
    // Where the provider's number leads to the charge, ours is the refund's own: a merchant whose
    // refund was lost with a disk asks for it again under that number.
    let leads = a.provider_ref.is_some() && a.provider_ref == fact.provider_ref;
    let own = line.operation.clone().filter(|_| leads);
    fact.op_id = Some(own.unwrap_or_else(|| a.op_id.clone()));
    let kind = match line.kind {
        LineKind::Chargeback => Kind::TakenBack,
        _ => Kind::RefundNotOurs,
    };
    Compared::Differs(Difference { news: Some(fact), ..Difference::of(kind) })
}

fn done(p: &Payment, i: usize, kind: ExchangeKind) -> impl Iterator<Item = &Operation> {
    let is =
        move |o: &&Operation| o.attempt == i && o.kind == kind && o.state == OperationState::Done;
    p.operations.iter().filter(is)
}

fn is_named(o: &Operation, line: &StatementLine) -> bool {
    line.operation.as_ref() == Some(&o.op_id)
        || (o.operation_ref.is_some() && o.operation_ref == line.operation_ref)
}

/// Money that we say was moved at an account.
#[derive(Debug, PartialEq, Eq)]
pub struct Moved {
    /// What says so: an attempt's or an operation's id.
    pub id: String,
    /// The difference that it is, if a statement lacks it.
    pub kind: Kind,
    /// Minor units.
    pub amount: i64,
    /// It was moved after this, Unix ms.
    pub after_ms: i64,
    /// And before this.
    pub known_ms: i64,
}

/// What we say was moved at an account for a payment, and when that was known.
pub fn moved(p: &Payment, account: &str) -> Vec<Moved> {
    let mut all = Vec::new();
    for (i, a) in p.attempts.iter().enumerate().filter(|(_, a)| a.account == account) {
        let captures = done(p, i, ExchangeKind::Capture);
        let by_request: Vec<Moved> =
            captures.filter_map(|o| operation(o, Kind::OnlyOurs)).collect();
        let by_itself = a.captured_ms.filter(|_| by_request.is_empty()).map(|known_ms| Moved {
            id: a.id.clone(),
            kind: Kind::OnlyOurs,
            amount: p.money.amount,
            after_ms: a.started_ms,
            known_ms,
        });
        all.extend(by_request);
        all.extend(by_itself);
        let refunds = done(p, i, ExchangeKind::Refund);
        all.extend(refunds.filter_map(|o| operation(o, Kind::RefundOnlyOurs)));
    }
    all
}

fn operation(o: &Operation, kind: Kind) -> Option<Moved> {
    let (id, amount, after_ms) = (o.id.clone(), o.amount, o.created_ms);
    Some(Moved { id, kind, amount, after_ms, known_ms: o.done_ms? })
}
