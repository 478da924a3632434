//! What a payment in an answer says.
//!
//! A payment is believed only when all its parts agree: `status` with `approved`, both with the
//! response code and the balances, and the number with the one that was asked for. Whatever does
//! not agree is an unknown outcome, never a decline.

use interlock_plugin_api::{
    Action, CaptureMode, Class, Currency, Fact, Fault, Money, Request, What,
};
use serde::Deserialize;

use crate::codes::{Meaning, classed, meaning, object, unanswered_move, unanswered_read};
use crate::payments::{is_ref, original};

/// Longer links are not shown to a shopper.
const LINK_MAX: usize = 2048;

/// Reads the answer to `POST /payments`.
///
/// With automatic capture an `Authorized` payment is reported as captured: the provider takes the
/// money by itself, nobody has anything left to do, and a capture that fails afterwards is told by
/// `payment_capture_declined`.
pub(crate) fn read_created(status: u16, body: &[u8], r: &Request) -> Fact {
    if !matches!(status, 201 | 202) {
        return unanswered_move(status, body);
    }
    let Some(payment) = object::<Payment>(body) else { return Fact::unknown("unreadable") };
    if payment.reference.as_deref().is_some_and(|theirs| theirs != r.op_id) {
        return Fact::unknown("other_reference");
    }
    let fact = payment.fact(r.capture);
    // 202 says that nothing is decided yet, so it can't carry a refusal.
    if status == 202 && fact.what == What::Declined {
        return Fact { what: What::Unknown, ..coded(fact, "202:Declined") };
    }
    fact
}

/// Reads the answer to `GET /payments/{id}`.
pub(crate) fn read_got(status: u16, body: &[u8], r: &Request, id: &str) -> Result<Fact, Fault> {
    if status != 200 {
        return Ok(unanswered_read(status));
    }
    let Some(payment) = object::<Payment>(body) else { return Ok(Fact::unknown("unreadable")) };
    if payment.id.as_deref() != Some(id) {
        return Ok(Fact::unknown("other_payment"));
    }
    if payment.reference.as_deref() != Some(original(r)?.op_id.as_str()) {
        return Ok(Fact::unknown("other_reference"));
    }
    Ok(payment.fact(r.capture))
}

/// Reads the answer to a capture, void or refund: accepted at best; the result comes later.
pub(crate) fn read_changed(status: u16, body: &[u8], r: &Request) -> Fact {
    if status != 202 {
        return unanswered_move(status, body);
    }
    let Some(accepted) = object::<Accepted>(body) else { return Fact::unknown("unreadable") };
    if accepted.reference.as_deref().is_some_and(|theirs| theirs != r.op_id) {
        return Fact::unknown("other_reference");
    }
    match accepted.action_id {
        Some(action) if is_ref(&action) => Fact::new(What::Pending).with_operation_ref(action),
        _ => Fact::unknown("no_action_id"),
    }
}

/// The amount and the currency of a success; a success without them can't be compared with ours.
pub(crate) fn money(amount: Option<i64>, currency: Option<&str>) -> Option<Money> {
    let currency = Currency::parse(currency?)?;
    amount.filter(|a| *a > 0).map(|amount| Money::new(amount, currency))
}

pub(crate) fn coded(fact: Fact, code: impl Into<String>) -> Fact {
    Fact { provider_code: Some(code.into()), ..fact }
}

#[derive(Deserialize)]
struct Accepted {
    action_id: Option<String>,
    reference: Option<String>,
}

#[derive(Deserialize)]
struct Payment {
    id: Option<String>,
    status: Option<String>,
    approved: Option<bool>,
    amount: Option<i64>,
    currency: Option<String>,
    reference: Option<String>,
    response_code: Option<String>,
    #[serde(default)]
    balances: Option<Balances>,
    /// Of unstated form, so only looked into for a decline's code.
    #[serde(default)]
    actions: serde_json::Value,
    #[serde(rename = "_links")]
    links: Option<Links>,
}

#[derive(Default, Deserialize)]
struct Balances {
    total_authorized: Option<i64>,
    total_captured: Option<i64>,
}

#[derive(Deserialize)]
struct Links {
    redirect: Option<Link>,
}

#[derive(Deserialize)]
struct Link {
    href: String,
}

impl Payment {
    fn fact(&self, capture: CaptureMode) -> Fact {
        let Some(id) = self.id.as_deref().filter(|id| is_ref(id)) else {
            return Fact::unknown("no_payment_id");
        };
        self.verdict(capture).with_provider_ref(id)
    }

    fn verdict(&self, capture: CaptureMode) -> Fact {
        let status = self.status.as_deref().unwrap_or_default();
        match status {
            "Authorized" => match capture {
                CaptureMode::Automatic => self.success(What::Captured),
                CaptureMode::Manual => self.success(What::Authorized),
            },
            "Captured" | "Paid" | "Partially Refunded" | "Refunded" => self.captured(),
            "Partially Captured" => self.partially_captured(),
            "Pending" | "Requested" | "Authentication Requested" | "Active" | "Retry Scheduled" => {
                self.waiting()
            }
            "Declined" => self.declined(),
            "Canceled" | "Expired" => self.lapsed(),
            "Voided" => self.voided(),
            _ => self.told(Fact::unknown("")),
        }
    }

    fn success(&self, what: What) -> Fact {
        let Some(money) = money(self.amount, self.currency.as_deref()) else {
            return Fact::unknown("no_amount");
        };
        if self.approved != Some(true) || self.refused() {
            return disagreement();
        }
        Fact::new(what).with_amount(money)
    }

    /// What was captured counts, not what was asked for: a capture may have been partial.
    fn captured(&self) -> Fact {
        let fact = self.success(What::Captured);
        match (self.total_captured(), fact.amount) {
            (Some(sum), Some(full)) if 0 < sum && sum <= full.amount => {
                fact.with_amount(Money::new(sum, full.currency))
            }
            (Some(_), Some(_)) => disagreement(),
            (_, _) => fact,
        }
    }

    fn partially_captured(&self) -> Fact {
        let fact = self.captured();
        match (fact.amount, self.amount) {
            (Some(sum), Some(full)) if sum.amount == full => disagreement(),
            (_, _) => fact,
        }
    }

    /// `Retry Scheduled` is here: the provider will try again by itself, so it is no decline.
    fn waiting(&self) -> Fact {
        if self.approved == Some(true) {
            return disagreement();
        }
        let echoed = money(self.amount, self.currency.as_deref());
        let link = self.links.as_ref().and_then(|links| links.redirect.as_ref());
        let fact = match link.filter(|_| self.status.as_deref() == Some("Pending")) {
            Some(link) if !is_showable(&link.href) => return Fact::unknown("unsafe_redirect"),
            Some(link) => Fact { action: Some(challenge(&link.href)), ..Fact::new(What::Action) },
            None => self.told(Fact::new(What::Pending)),
        };
        Fact { amount: echoed, ..fact }
    }

    fn declined(&self) -> Fact {
        if self.approved != Some(false) || self.held() || self.taken() {
            return disagreement();
        }
        let Some(code) = self.response_code.as_deref().or_else(|| self.code_of_actions()) else {
            return self.told(classed(Fact::new(What::Declined), Class::DeclinedHard));
        };
        match meaning(code) {
            Some(Meaning::Refused(class, advice)) => {
                Fact::declined(class, code).with_advice(advice)
            }
            Some(Meaning::Approved) => disagreement(),
            None => Fact::unknown("unreadable_code"),
        }
    }

    /// An authorization that ended without us is void; what never was one moved nothing.
    fn lapsed(&self) -> Fact {
        match self.approved {
            Some(true) if !self.taken() => {
                self.told(classed(Fact::new(What::Voided), Class::Expired))
            }
            Some(false) if !self.held() && !self.taken() => {
                self.told(classed(Fact::new(What::Declined), Class::Expired))
            }
            _ => disagreement(),
        }
    }

    fn voided(&self) -> Fact {
        if self.approved != Some(true) || self.taken() {
            return disagreement();
        }
        Fact::new(What::Voided)
    }

    /// Something was authorized once, by the balances.
    fn held(&self) -> bool {
        self.balances.as_ref().and_then(|b| b.total_authorized).is_some_and(|sum| sum > 0)
    }

    /// Something was captured, by the balances.
    fn taken(&self) -> bool {
        self.total_captured().is_some_and(|sum| sum > 0)
    }

    fn total_captured(&self) -> Option<i64> {
        self.balances.as_ref()?.total_captured
    }

    fn refused(&self) -> bool {
        let code = self.response_code.as_deref();
        code.is_some_and(|code| meaning(code) != Some(Meaning::Approved))
    }

    /// The code of the authorization among the actions, when they name exactly one.
    fn code_of_actions(&self) -> Option<&str> {
        let mut codes = self.actions.as_array()?.iter().filter_map(|action| {
            let kind = action.get("type").and_then(|kind| kind.as_str());
            (kind == Some("Authorization")).then(|| action.get("response_code")?.as_str()).flatten()
        });
        let first = codes.next()?;
        codes.all(|other| other == first).then_some(first)
    }

    /// The status as the code, where it is a plain word.
    fn told(&self, fact: Fact) -> Fact {
        let status = self.status.as_deref().unwrap_or_default();
        let plain = |b: u8| b.is_ascii_alphabetic() || b == b' ';
        let readable = (1..=32).contains(&status.len()) && status.bytes().all(plain);
        coded(fact, format!("status:{}", if readable { status } else { "unreadable" }))
    }
}

/// The parts of an answer contradict each other.
pub(crate) fn disagreement() -> Fact {
    Fact::unknown("disagreement")
}

fn challenge(href: &str) -> Action {
    let mut payload = serde_json::Map::new();
    payload.insert("url".into(), href.into());
    Action { kind: "three_d_secure".into(), payload, expires_ms: None }
}

/// A shopper is sent to https only; a provider on this machine may be plain.
fn is_showable(href: &str) -> bool {
    let local = |host: &str| {
        let rest = href.strip_prefix(host);
        rest.is_some_and(|rest| rest.starts_with(['/', ':']) && !rest.contains('@'))
    };
    let allowed =
        href.starts_with("https://") || local("http://127.0.0.1") || local("http://localhost");
    allowed && href.len() <= LINK_MAX && href.bytes().all(|b| b.is_ascii_graphic())
}
