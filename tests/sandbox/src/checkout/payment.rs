//! One payment of the Checkout.com fake: its sums, its status, and its JSON on the wire.
//!
//! The sums are the truth; status, balances and links are read from them, so that an inquiry, a
//! webhook and the answer to a request can never disagree.

use serde_json::{Value, json};

use crate::faults::Operation;
use crate::ledger::{Kind, Move};
use crate::moment;

/// The response code of an approval.
pub const APPROVED: &str = "10000";

/// What a merchant wants, validated.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// Whether it is captured by itself.
    pub capture: bool,
    /// The merchant's reference; may be empty.
    pub reference: String,
    /// The idempotency key, else the reference.
    pub op_id: String,
    /// Whether the shopper must pass 3-D Secure first.
    pub challenge: bool,
    /// Sent back with webhooks.
    pub metadata: Value,
    /// What the answer says of the source; no number in it.
    pub source: Value,
}

/// A payment's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 3-D Secure is open.
    Pending,
    /// Held.
    Authorized,
    /// The issuer said no.
    Declined,
    /// The shopper left.
    Expired,
    /// A part of the hold was taken.
    PartiallyCaptured,
    /// Taken.
    Captured,
    /// The hold was let go.
    Voided,
    /// A part was given back.
    PartiallyRefunded,
    /// All was given back.
    Refunded,
}

impl Status {
    /// The provider's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Authorized => "Authorized",
            Self::Declined => "Declined",
            Self::Expired => "Expired",
            Self::PartiallyCaptured => "Partially Captured",
            Self::Captured => "Captured",
            Self::Voided => "Voided",
            Self::PartiallyRefunded => "Partially Refunded",
            Self::Refunded => "Refunded",
        }
    }
}

/// One entry of a payment's list of actions.
#[derive(Debug, Clone)]
pub(super) struct Action {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) amount: i64,
    pub(super) code: String,
    pub(super) reference: String,
    pub(super) at_ms: i64,
}

/// One payment.
#[derive(Debug, Clone)]
pub struct Payment {
    /// `pay_...`
    pub id: String,
    /// `sid_...`, the open 3-D Secure session.
    pub session: String,
    /// Its status.
    pub status: Status,
    /// What the merchant wanted.
    pub wish: Wish,
    /// When it was made, milliseconds since the epoch.
    pub made_ms: i64,
    pub(super) code: String,
    pub(super) captured: i64,
    pub(super) voided: i64,
    pub(super) refunded: i64,
    pub(super) reversed: bool,
    pub(super) capture_reserved: i64,
    pub(super) refund_reserved: i64,
    pub(super) undo_reserved: bool,
    pub(super) settle_open: bool,
    pub(super) actions: Vec<Action>,
}

impl Payment {
    /// Whether the issuer approved.
    pub fn approved(&self) -> bool {
        !matches!(self.status, Status::Pending | Status::Declined | Status::Expired)
    }

    pub(super) fn held(&self) -> i64 {
        if !self.approved() || self.wish.capture {
            return 0;
        }
        self.wish.amount - self.captured - self.voided
    }

    /// The JSON of the payment, as the inquiry shows it.
    pub fn show(&self, base: &str) -> Value {
        let mut shown = json!({
            "id": self.id,
            "requested_on": moment::rfc3339(self.made_ms),
            "source": self.wish.source,
            "amount": self.wish.amount,
            "currency": self.wish.currency,
            "payment_type": "Regular",
            "reference": self.wish.reference,
            "approved": self.approved(),
            "status": self.status.word(),
            "balances": self.balances(),
            "metadata": self.wish.metadata,
            "_links": self.links(base),
        });
        if let Some(last) = self.actions.last() {
            shown["actions"] = self
                .actions
                .iter()
                .map(|a| {
                    json!({
                        "id": a.id, "type": a.kind, "response_code": a.code,
                        "response_summary": summary(&a.code),
                    })
                })
                .collect();
            shown["processed_on"] = moment::rfc3339(last.at_ms).into();
        }
        shown
    }

    /// The JSON that answers the request which made the payment.
    pub fn receipt(&self, base: &str) -> Value {
        if self.status == Status::Pending {
            return json!({
                "id": self.id,
                "status": "Pending",
                "reference": self.wish.reference,
                "3ds": { "downgraded": false, "enrolled": "Y" },
                "_links": self.links(base),
            });
        }
        let mut receipt = self.show(base);
        receipt["action_id"] = self.actions.first().map(|a| a.id.clone()).into();
        receipt["auth_code"] = auth_code(&self.id).into();
        receipt["response_code"] = self.code.clone().into();
        receipt["response_summary"] = summary(&self.code).into();
        receipt["risk"] = json!({ "flagged": false });
        receipt
    }

    /// The list of actions, latest first.
    pub fn list_actions(&self) -> Value {
        let show = |a: &Action| {
            json!({
                "id": a.id,
                "type": a.kind,
                "processed_on": moment::rfc3339(a.at_ms),
                "amount": a.amount,
                "approved": a.code == APPROVED,
                "auth_code": auth_code(&a.id),
                "response_code": a.code,
                "response_summary": summary(&a.code),
                "reference": a.reference,
            })
        };
        self.actions.iter().rev().map(show).collect()
    }

    fn balances(&self) -> Value {
        let authorized = if self.approved() { self.wish.amount } else { 0 };
        json!({
            "total_authorized": authorized,
            "total_voided": self.voided,
            "available_to_void": self.held(),
            "total_captured": self.captured,
            "available_to_capture": self.held() - self.capture_reserved,
            "total_refunded": self.refunded,
            "available_to_refund": self.captured - self.refunded - self.refund_reserved,
        })
    }

    fn links(&self, base: &str) -> Value {
        let own = format!("{base}/payments/{}", self.id);
        let mut links = json!({
            "self": { "href": own },
            "actions": { "href": format!("{own}/actions") },
        });
        if self.status == Status::Pending {
            let href = format!("{base}/sessions-interceptor/{}", self.session);
            links["redirect"] = json!({ "href": href });
        }
        links
    }

    pub(super) fn event(&self, kind: &'static str, cause: Operation, action: &Action) -> Event {
        Event {
            cause,
            kind,
            data: json!({
                "id": self.id,
                "action_id": action.id,
                "reference": self.wish.reference,
                "action_reference": action.reference,
                "amount": action.amount,
                "currency": self.wish.currency,
                "processed_on": moment::rfc3339(action.at_ms),
                "response_code": action.code,
                "response_summary": summary(&action.code),
                "balances": self.balances(),
                "metadata": self.wish.metadata,
            }),
        }
    }

    pub(super) fn movement(&self, kind: Kind, amount: i64, op_id: &str) -> Move {
        let reference = &self.wish.reference;
        Move {
            op_id: op_id.into(),
            provider_ref: self.id.clone(),
            reference: if reference.is_empty() { &self.id } else { reference }.clone(),
            kind,
            amount,
            currency: self.wish.currency.clone(),
        }
    }
}

/// A webhook to send.
#[derive(Debug, Clone)]
pub struct Event {
    /// The operation that it tells of.
    pub cause: Operation,
    /// `payment_approved` and so on.
    pub kind: &'static str,
    /// The `data` member.
    pub data: Value,
}

/// The status that the sums of an approved payment say.
pub(super) fn status_of(payment: &Payment) -> Status {
    let total = payment.wish.amount;
    match payment {
        p if p.refunded > 0 && p.refunded == p.captured => Status::Refunded,
        p if p.refunded > 0 => Status::PartiallyRefunded,
        p if p.captured == 0 && p.voided == total => Status::Voided,
        p if p.captured == 0 => Status::Authorized,
        p if p.captured == total => Status::Captured,
        _ => Status::PartiallyCaptured,
    }
}

/// Notes an action over the whole amount.
pub(super) fn action(
    payment: &mut Payment,
    id: String,
    kind: &'static str,
    code: &str,
    now: i64,
) -> Action {
    let done = Action {
        id,
        kind,
        amount: payment.wish.amount,
        code: code.into(),
        reference: payment.wish.reference.clone(),
        at_ms: now,
    };
    payment.actions.push(done.clone());
    done
}

/// `prefix_` and 26 random lower-case characters, as the provider's ids look.
pub fn fresh(prefix: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut bits: u128 = rand::random();
    let mut id = format!("{prefix}_");
    for _ in 0..26 {
        id.push(char::from(ALPHABET[(bits % 32) as usize]));
        bits /= 32;
    }
    id
}

fn auth_code(id: &str) -> String {
    let sum = id.bytes().fold(7_u64, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(b)));
    format!("{:06}", sum % 1_000_000)
}

fn summary(code: &str) -> &'static str {
    match code {
        APPROVED => "Approved",
        "20005" => "Declined - Do Not Honour",
        "20051" => "Insufficient funds",
        "20054" => "Expired card",
        "20059" => "Suspected fraud",
        "20063" => "Security violation",
        "20150" => "Card not 3D Secure enabled",
        "20153" => "3D Secure system malfunction",
        "20154" => "3D Secure authentication required",
        _ => "Declined",
    }
}
