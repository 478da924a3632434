//! Reads orders, and what came of them: authorizations, captures and refunds.
//!
//! An order is believed only if it is the one that was asked for, with our number and our amount in
//! it. Its own status says how far the shopper came; once it is completed only its captures and its
//! authorization say what became of the money. A word that is not listed is a doubt.

use interlock_plugin_api::{
    Action, Advice, CaptureMode, Class, Currency, Fact, Fault, Money, Original, Request, What,
    is_path_segment, parse_units,
};
use serde::Deserialize;
use serde_json::Map;

use crate::codes::{self, Link, is_word};

/// Where a shopper is sent: to approve, to do what is missing, to choose something else.
const DOORS: [&str; 3] = ["approve", "payer-action", "redirect"];
/// Longer links are not shown to a shopper.
const LINK_MAX: usize = 2_048;

/// Why an answer says nothing of what was asked.
pub(crate) type Doubt = Box<Fact>;

/// An order.
#[derive(Deserialize)]
pub(crate) struct Order {
    pub id: String,
    pub status: String,
    intent: Option<String>,
    #[serde(default)]
    purchase_units: Vec<Unit>,
    #[serde(default)]
    links: Vec<Link>,
}

/// What an order is about; ours have one.
#[derive(Deserialize)]
pub(crate) struct Unit {
    pub custom_id: Option<String>,
    amount: Option<Amount>,
    #[serde(default)]
    pub payments: Payments,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Payments {
    pub authorizations: Vec<Resource>,
    pub captures: Vec<Resource>,
    pub refunds: Vec<Resource>,
}

/// A sum as PayPal writes it.
#[derive(Deserialize)]
pub(crate) struct Amount {
    currency_code: String,
    value: String,
}

/// An authorization, a capture or a refund.
#[derive(Deserialize)]
pub(crate) struct Resource {
    pub id: String,
    pub status: String,
    amount: Option<Amount>,
    pub custom_id: Option<String>,
    pub invoice_id: Option<String>,
    status_details: Option<Details>,
    #[serde(default)]
    supplementary_data: Supplement,
    #[serde(default)]
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Details {
    reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Supplement {
    related_ids: Related,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Related {
    order_id: Option<String>,
}

/// PayPal's own decimals, the same as the manifest's.
pub(crate) fn exponent(currency: Currency) -> u8 {
    if matches!(currency.as_str(), "HUF" | "JPY" | "TWD") { 0 } else { 2 }
}

impl Amount {
    /// The sum with its sign apart, for reports show what left as negative.
    pub(crate) fn signed(&self) -> Option<(bool, Money)> {
        let currency = Currency::parse(&self.currency_code)?;
        let (minus, text) = match self.value.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, self.value.as_str()),
        };
        let units = parse_units(text, exponent(currency)).ok()?;
        Some((minus, Money::new(units, currency)))
    }

    fn money(&self) -> Option<Money> {
        self.signed().filter(|(minus, money)| !minus && money.amount > 0).map(|(_, money)| money)
    }
}

impl Order {
    /// The order in an answer with this status.
    pub(crate) fn read(status: u16, body: &[u8], r: &Request) -> Result<Self, Doubt> {
        if !matches!(status, 200 | 201) {
            return Err(codes::unasked(status, body).into());
        }
        let order: Self = codes::object(body).ok_or_else(|| doubt("unreadable"))?;
        let asked = r.original.as_ref().and_then(|original| original.provider_ref.as_deref());
        if Some(order.id.as_str()) == asked { Ok(order) } else { Err(doubt("other_order")) }
    }

    /// What it is about, if that is this payment.
    pub(crate) fn unit(&self, number: &str, amount: Money, r: &Request) -> Result<&Unit, Doubt> {
        let [unit] = &self.purchase_units[..] else { return Err(doubt("other_units")) };
        if unit.custom_id.as_deref() != Some(number) {
            return Err(doubt("other_number"));
        }
        if unit.amount.as_ref().and_then(Amount::money) != Some(amount) {
            return Err(doubt("other_amount"));
        }
        if self.intent.as_deref().is_some_and(|theirs| theirs != intent(r.capture)) {
            return Err(doubt("other_intent"));
        }
        Ok(unit)
    }

    /// What it is about, if that is the payment that an operation belongs to.
    pub(crate) fn ours(&self, r: &Request) -> Result<&Unit, Doubt> {
        let original = original(r).map_err(|_| doubt("no_payment"))?;
        self.unit(&original.op_id, original.amount, r)
    }

    /// Our number in it, if it is about one thing.
    pub(crate) fn only_number(&self) -> Option<&str> {
        let [unit] = &self.purchase_units[..] else { return None };
        unit.custom_id.as_deref()
    }

    /// Whether only its representation is missing: PayPal answers with less unless it is asked.
    pub(crate) fn is_minimal(&self) -> bool {
        self.purchase_units.is_empty()
    }

    /// What became of the payment.
    pub(crate) fn fact(&self, r: &Request) -> Fact {
        let unit = match self.ours(r) {
            Ok(unit) => unit,
            Err(doubt) => return *doubt,
        };
        let said = |what| coded(what, &self.status);
        let paid = &unit.payments;
        let fact = match self.status.as_str() {
            "COMPLETED" => paid.fact(r),
            "VOIDED" if !paid.is_empty() => paid.fact(r),
            _ if !paid.is_empty() => Fact::unknown("disagreement"),
            "CREATED" | "SAVED" | "PAYER_ACTION_REQUIRED" => said(What::Action),
            "APPROVED" => said(What::Approved),
            "VOIDED" => said(What::ClosedUnpaid).of_key(),
            _ => Fact::unknown("unlisted_status"),
        };
        fact.with_provider_ref(&self.id)
    }

    /// The answer to an inquiry. A completed order whose payment was refused can't be paid again;
    /// and what was given back in full is told beside what was taken.
    pub(crate) fn facts(&self, r: &Request) -> Vec<Fact> {
        let fact = self.fact(r);
        match fact.what {
            What::Declined => vec![Fact { what: What::ClosedUnpaid, advice: None, ..fact }],
            What::Captured if self.is_given_back() => {
                let refunded = Fact::new(What::Refunded).with_provider_ref(&self.id);
                vec![fact, refunded]
            }
            _ => vec![fact],
        }
    }

    fn is_given_back(&self) -> bool {
        self.purchase_units.iter().all(|unit| {
            let paid = &unit.payments;
            let all = paid.captures.iter().all(|capture| capture.status == "REFUNDED");
            all && paid.refunds.iter().all(|refund| refund.status == "COMPLETED")
        })
    }

    /// Where the shopper is to be sent while the order waits for him.
    pub(crate) fn door(&self) -> Option<Action> {
        let waits = matches!(self.status.as_str(), "CREATED" | "SAVED" | "PAYER_ACTION_REQUIRED");
        door(&self.links).filter(|_| waits)
    }
}

impl Payments {
    fn is_empty(&self) -> bool {
        self.authorizations.is_empty() && self.captures.is_empty()
    }

    /// The one authorization. A renewed one is another, and which is meant can't be told.
    pub(crate) fn authorization(&self) -> Option<&Resource> {
        match &self.authorizations[..] {
            [one] if is_path_segment(&one.id) => Some(one),
            _ => None,
        }
    }

    fn fact(&self, r: &Request) -> Fact {
        let mut taken: Option<Money> = None;
        let (mut pending, mut refused) = (None, None);
        for capture in &self.captures {
            match capture.status.as_str() {
                "COMPLETED" | "PARTIALLY_REFUNDED" | "REFUNDED" => {
                    let Some(money) = capture.money() else { return Fact::unknown("no_amount") };
                    let sum = taken.map_or(Some(money), |sum| added(sum, money));
                    let Some(sum) = sum else { return Fact::unknown("other_amount") };
                    taken = Some(sum);
                }
                "PENDING" => pending = Some(capture),
                "DECLINED" | "FAILED" => refused = Some(capture),
                _ => return Fact::unknown("unlisted_status"),
            }
        }
        let automatic = r.capture == CaptureMode::Automatic;
        match (taken, pending, refused) {
            // All of an automatic payment is taken at once.
            (Some(sum), _, _) if automatic && sum != r.amount => Fact::unknown("other_amount"),
            (Some(sum), _, _) => Fact::new(What::Captured).with_amount(sum).of_key(),
            (None, Some(capture), _) => coded(What::Pending, capture.reason()),
            (None, None, Some(capture)) if automatic => capture.refused(),
            (None, None, None) if automatic => Fact::unknown("no_capture"),
            (None, None, _) => match self.authorization() {
                Some(authorization) => authorization.held(r),
                None => Fact::unknown("no_authorization"),
            },
        }
    }
}

impl Resource {
    pub(crate) fn money(&self) -> Option<Money> {
        self.amount.as_ref()?.money()
    }

    /// Why it waits, in PayPal's word.
    pub(crate) fn reason(&self) -> &str {
        let reason = self.status_details.as_ref().and_then(|details| details.reason.as_deref());
        reason.filter(|reason| is_word(reason)).unwrap_or(&self.status)
    }

    /// A refusal that is the stored result: the resource itself says so.
    fn refused(&self) -> Fact {
        let fact = Fact::declined(Class::DeclinedSoft, self.status.as_str());
        fact.with_advice(Advice::OtherMethod).of_key()
    }

    /// The order that it belongs to.
    pub(crate) fn order(&self) -> Option<&str> {
        let order = self.supplementary_data.related_ids.order_id.as_deref();
        order.filter(|id| is_path_segment(id))
    }

    /// The number of what it was made from, by its link upwards.
    pub(crate) fn parent(&self) -> Option<&str> {
        let up = self.links.iter().find(|link| link.rel == "up")?;
        up.href.rsplit('/').next()
    }

    fn held(&self, r: &Request) -> Fact {
        match self.status.as_str() {
            "CREATED" => match self.money() {
                Some(money) if money == r.amount => {
                    Fact::new(What::Authorized).with_amount(money).of_key()
                }
                Some(_) => Fact::unknown("other_amount"),
                None => Fact::unknown("no_amount"),
            },
            "PENDING" => coded(What::Pending, self.reason()),
            "DENIED" => self.refused(),
            "VOIDED" => coded(What::Voided, &self.status).of_key(),
            // Captured, and no capture is shown; or a word that is known from hearsay alone.
            _ => Fact::unknown("unlisted_status"),
        }
    }

    /// What it says as the capture of an authorization, of this amount.
    pub(crate) fn capture(&self, amount: Money) -> Fact {
        let fact = match self.status.as_str() {
            "COMPLETED" | "PARTIALLY_REFUNDED" | "REFUNDED" => self.moved(What::Captured, amount),
            "PENDING" => coded(What::Pending, self.reason()),
            "DECLINED" | "FAILED" => self.refused(),
            _ => Fact::unknown("unlisted_status"),
        };
        fact.with_operation_ref(&self.id)
    }

    /// What it says as a refund, of this amount.
    pub(crate) fn refund(&self, amount: Money) -> Fact {
        let fact = match self.status.as_str() {
            "COMPLETED" => self.moved(What::Refunded, amount),
            "PENDING" => coded(What::Pending, self.reason()),
            "FAILED" | "CANCELLED" => {
                let failed = coded(What::Failed, &self.status).of_key();
                Fact { class: Some(Class::DeclinedHard), ..failed }
            }
            _ => Fact::unknown("unlisted_status"),
        };
        fact.with_operation_ref(&self.id)
    }

    fn moved(&self, what: What, amount: Money) -> Fact {
        match self.money() {
            Some(money) if money == amount => Fact::new(what).with_amount(money).of_key(),
            Some(_) => Fact::unknown("other_amount"),
            None => Fact::unknown("no_amount"),
        }
    }
}

pub(crate) fn doubt(code: &str) -> Doubt {
    Fact::unknown(code).into()
}

/// The authorize that the operation belongs to.
pub(crate) fn original(r: &Request) -> Result<&Original, Fault> {
    r.original.as_ref().ok_or(Fault::input("the operation names no payment"))
}

/// PayPal's word for when the money is taken.
pub(crate) fn intent(capture: CaptureMode) -> &'static str {
    match capture {
        CaptureMode::Automatic => "CAPTURE",
        CaptureMode::Manual => "AUTHORIZE",
    }
}

pub(crate) fn coded(what: What, code: &str) -> Fact {
    Fact { provider_code: Some(code.into()), ..Fact::new(what) }
}

/// The first link on which a shopper goes on.
pub(crate) fn door(links: &[Link]) -> Option<Action> {
    let named = |rel: &str| links.iter().find(|link| link.rel == rel);
    let href = &DOORS.iter().find_map(|rel| named(rel))?.href;
    is_showable(href).then(|| Action {
        kind: "redirect".into(),
        payload: Map::from_iter([("url".into(), href.as_str().into())]),
        expires_ms: None,
    })
}

fn added(sum: Money, more: Money) -> Option<Money> {
    let units = sum.amount.checked_add(more.amount)?;
    (sum.currency == more.currency).then(|| Money::new(units, sum.currency))
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use interlock_plugin_api::Manifest;

    use super::*;

    #[test]
    fn the_decimals_are_the_manifests() {
        let manifest = Manifest::parse(include_bytes!("../manifest.json")).unwrap();
        for (currency, decimals) in &manifest.currencies {
            assert_eq!(exponent(*currency), *decimals, "{currency}");
        }
    }

    #[test]
    fn only_what_leads_to_a_page_is_shown() {
        for good in ["https://www.paypal.com/checkoutnow?token=5O1", "http://127.0.0.1:9/x"] {
            assert!(is_showable(good), "{good}");
        }
        for bad in
            ["", "javascript:alert(1)", "http://www.paypal.com/", "https://a b", "https://a\n"]
        {
            assert!(!is_showable(bad), "{bad}");
        }
        assert!(!is_showable(&format!("https://a/{}", "x".repeat(LINK_MAX))));
    }
}
