//! Reads what WeChat Pay says about the money.
//!
//! A signature proves that WeChat Pay wrote the answer just now, not that it is the answer to our
//! question, so every definite fact also needs our own number in it, and a payment its amount.
//! What does not fit together is a doubt.

use interlock_plugin_api::{
    Advice, Class, Currency, Cx, Event, Fact, Fault, Money, Original, Request, What,
};
use serde::Deserialize;

use crate::account::WeChatPay;
use crate::wire::{self, Purpose, object};
use crate::{codes, offers};

/// The fact of an answer to the request of this purpose.
///
/// # Errors
/// Only the host's own: it has no key to verify or to sign with.
pub fn fact(
    account: &WeChatPay,
    cx: &Cx<'_>,
    e: &Event,
    purpose: Purpose,
    r: &Request,
) -> Result<Fact, Fault> {
    let Event::Response { status, .. } = e else {
        return Err(Fault::input("this event is no answer"));
    };
    if *status >= 400 {
        return Ok(codes::fact(purpose, *status, cx.body));
    }
    if !wire::is_signed(account, cx, e)? {
        return Ok(Fact::unknown("unverified_answer"));
    }
    match (purpose, *status) {
        (Purpose::Native | Purpose::Jsapi | Purpose::App | Purpose::H5, 200) => {
            offers::made(account, cx, purpose)
        }
        (Purpose::Codepay, 200 | 202) | (Purpose::Query, 200) => Ok(trade(account, cx, purpose, r)),
        (Purpose::Close, 204) if cx.body.is_empty() => Ok(Fact::new(What::ClosedUnpaid).of_key()),
        (Purpose::Refund | Purpose::RefundQuery, 200) => Ok(refund(account, cx, r)),
        _ => Ok(Fact::unanswered(*status)),
    }
}

/// Our number of the payment that is paid or asked about.
pub fn number(r: &Request) -> &str {
    r.original.as_ref().map_or(&r.op_id, |original: &Original| &original.op_id)
}

pub fn coded(what: What, code: impl Into<String>) -> Fact {
    Fact { provider_code: Some(code.into()), ..Fact::new(what) }
}

/// A word of WeChat Pay's that settles nothing.
pub fn undecided(word: &str) -> Fact {
    match word {
        "PAYERROR" => Fact {
            class: Some(Class::DeclinedSoft),
            advice: Some(Advice::OtherMethod),
            ..Fact::unknown(word)
        },
        "NOTPAY" => Fact { class: Some(Class::User), ..Fact::unknown(word) },
        _ if codes::is_word(word) => Fact::unknown(word),
        _ => Fact::unknown("unknown_word"),
    }
}

/// A text that is there and not empty.
pub fn text(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// An order, as answers and notifications show it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Trade {
    pub out_trade_no: Option<String>,
    transaction_id: Option<String>,
    pub trade_state: Option<String>,
    success_time: Option<String>,
    amount: Amount,
    appid: Option<String>,
    mchid: Option<String>,
    sp_appid: Option<String>,
    sp_mchid: Option<String>,
    sub_appid: Option<String>,
    sub_mchid: Option<String>,
    /// Of an error that came with a good status.
    code: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Amount {
    total: Option<i64>,
    payer_total: Option<i64>,
    currency: Option<String>,
    payer_currency: Option<String>,
    refund: Option<i64>,
}

impl Trade {
    /// Whether it names this account; `all` when it must.
    pub fn is_of(&self, account: &WeChatPay, all: bool) -> bool {
        is_of(account, all, |name| match name {
            "appid" => text(&self.appid),
            "mchid" => text(&self.mchid),
            "sp_appid" => text(&self.sp_appid),
            "sp_mchid" => text(&self.sp_mchid),
            "sub_appid" => text(&self.sub_appid),
            _ => text(&self.sub_mchid),
        })
    }

    /// A payment without its amount could be anybody's, and is not reported as paid.
    pub fn paid(&self) -> Fact {
        let Some(amount) = self.amount.of(self.amount.total) else {
            return Fact::unknown("no_amount");
        };
        let payer = Amount::in_currency(
            self.amount.payer_total,
            text(&self.amount.payer_currency).or(text(&self.amount.currency)),
        );
        let fact = Fact::new(What::Captured).of_key().with_amount(amount);
        self.numbered(fact.with_payer_amount(payer.filter(|payer| *payer != amount)))
    }

    /// The same fact with WeChat Pay's number of the payment.
    pub fn numbered(&self, fact: Fact) -> Fact {
        match text(&self.transaction_id) {
            Some(id) => fact.with_provider_ref(id),
            None => fact,
        }
    }

    /// A closed order was never paid. One that shows a payment all the same contradicts itself.
    fn closed(&self) -> Fact {
        if text(&self.success_time).is_some() || self.payer_total() > 0 {
            return undecided("CLOSED");
        }
        coded(What::ClosedUnpaid, "CLOSED").of_key()
    }

    /// A reversed order was closed, or, if it had been paid, given back.
    fn reversed(&self) -> Fact {
        let number = text(&self.transaction_id).is_some();
        let paid = text(&self.success_time).is_some() || (number && self.payer_total() > 0);
        if !paid && self.payer_total() > 0 {
            return undecided("REVOKED");
        }
        let what = if paid { What::ClosedRefunded } else { What::ClosedUnpaid };
        coded(what, "REVOKED").of_key()
    }

    fn payer_total(&self) -> i64 {
        self.amount.payer_total.unwrap_or(0)
    }
}

impl Amount {
    fn of(&self, units: Option<i64>) -> Option<Money> {
        Self::in_currency(units, text(&self.currency))
    }

    fn in_currency(units: Option<i64>, currency: Option<&str>) -> Option<Money> {
        Some(Money::new(units.filter(|units| *units >= 0)?, Currency::parse(currency?)?))
    }
}

/// Whether what is named by these names is this account. What `all` does not demand may be absent.
fn is_of<'a>(account: &WeChatPay, all: bool, named: impl Fn(&str) -> Option<&'a str>) -> bool {
    let must = account.merchant();
    let same = |(name, ours): (&str, &str)| match named(name) {
        Some(theirs) => theirs == ours,
        None => !(all && must.contains_key(name)),
    };
    account.merchant_and_app().into_iter().all(same)
}

/// What an order's state says, to whoever paid or asked; nothing else is believed after a reverse.
fn trade(account: &WeChatPay, cx: &Cx<'_>, purpose: Purpose, r: &Request) -> Fact {
    let Some(order) = object::<Trade>(cx.body) else { return Fact::unknown("unreadable_answer") };
    let named = text(&order.out_trade_no);
    if named.is_some_and(|named| named != number(r)) {
        return Fact::unknown("another_order");
    }
    if !order.is_of(account, false) {
        return Fact::unknown("another_account");
    }
    // A payment by code that waits for a password may be answered with nothing but that word.
    let word = text(&order.trade_state).or(text(&order.code)).unwrap_or("no_trade_state");
    let asks = purpose == Purpose::Query;
    match word {
        "USERPAYING" if !asks => return order.numbered(coded(What::Pending, word)),
        _ if named.is_none() => return Fact::unknown("no_order_named"),
        _ if text(&order.code).is_some() => return undecided(word),
        _ => {}
    }
    order.numbered(match word {
        "SUCCESS" => order.paid(),
        // It was paid. How much went back is not said here, so it is no refund of all.
        "REFUND" if asks => Fact { provider_code: Some(word.into()), ..order.paid() },
        "USERPAYING" | "ACCEPT" => coded(What::Pending, word),
        "NOTPAY" if asks && r.flow != "barcode" => coded(What::Action, word),
        "CLOSED" if asks => order.closed(),
        "REVOKED" if asks => order.reversed(),
        _ => undecided(word),
    })
}

/// What the query after a reverse says of the reverse.
pub fn after_reverse(fact: Fact) -> Fact {
    let reversed = fact.provider_code.as_deref() == Some("REVOKED");
    match fact.what {
        What::ClosedUnpaid | What::ClosedRefunded if reversed => fact,
        What::Unknown => fact,
        _ => Fact {
            what: What::Unknown,
            amount: None,
            payer_amount: None,
            class: Some(Class::ProviderDown),
            provider_code: fact.provider_code.or_else(|| Some("SUCCESS".into())),
            ..fact
        },
    }
}

/// A refund, as answers and notifications show it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Refund {
    pub out_refund_no: Option<String>,
    refund_id: Option<String>,
    out_trade_no: Option<String>,
    transaction_id: Option<String>,
    status: Option<String>,
    /// What a notification calls its status.
    pub refund_status: Option<String>,
    amount: Amount,
    mchid: Option<String>,
    sp_mchid: Option<String>,
    sub_mchid: Option<String>,
}

impl Refund {
    /// Whether it names this account; `all` when it must.
    pub fn is_of(&self, account: &WeChatPay, all: bool) -> bool {
        is_of(account, all, |name| match name {
            "mchid" => text(&self.mchid),
            "sp_mchid" => text(&self.sp_mchid),
            "sub_mchid" => text(&self.sub_mchid),
            _ => None,
        })
    }

    /// What a status says; `currency` where the amount names none.
    pub fn fact(&self, status: Option<&str>, currency: Option<&str>) -> Fact {
        let currency = text(&self.amount.currency).or(currency);
        let fact = match (status, Amount::in_currency(self.amount.refund, currency)) {
            (Some("SUCCESS"), Some(amount)) => {
                Fact::new(What::Refunded).of_key().with_amount(amount)
            }
            (Some("SUCCESS"), None) => Fact::unknown("no_amount"),
            (Some("PROCESSING"), _) => coded(What::Pending, "PROCESSING"),
            // The merchant must tell WeChat Pay where the money goes.
            (Some("ABNORMAL"), _) => {
                Fact { class: Some(Class::MerchantAction), ..coded(What::Pending, "ABNORMAL") }
            }
            // The refund was closed: nothing went back.
            (Some("CLOSED"), _) => coded(What::Failed, "CLOSED"),
            (word, _) => undecided(word.unwrap_or("no_refund_status")),
        };
        let fact = match text(&self.refund_id) {
            Some(id) => fact.with_operation_ref(id),
            None => fact,
        };
        match text(&self.transaction_id) {
            Some(id) => fact.with_provider_ref(id),
            None => fact,
        }
    }
}

fn refund(account: &WeChatPay, cx: &Cx<'_>, r: &Request) -> Fact {
    let Some(refund) = object::<Refund>(cx.body) else { return Fact::unknown("unreadable_answer") };
    if text(&refund.out_refund_no) != Some(&r.op_id) {
        return Fact::unknown("another_refund");
    }
    if text(&refund.out_trade_no) != Some(number(r)) {
        return Fact::unknown("another_order");
    }
    if !refund.is_of(account, false) {
        return Fact::unknown("another_account");
    }
    refund.fact(text(&refund.status), None)
}
