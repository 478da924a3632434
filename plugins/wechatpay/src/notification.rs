//! Verifies and reads what WeChat Pay posts to us: signed as answers are, and sealed.
//!
//! It probes with false signatures, which must be refused. Whatever is answered with 200 or 204 is
//! not told again, so what is signed and not understood is answered with an error.

use interlock_plugin_api::{Ack, Cx, Done, Event, Fact, HostError};
use serde::Deserialize;

use crate::account::WeChatPay;
use crate::answers::{self, Refund, Trade, text};
use crate::certificates::Encrypted;
use crate::wire::{self, object};

#[derive(Deserialize)]
struct Notice {
    id: String,
    event_type: String,
    resource: Resource,
}

#[derive(Deserialize)]
struct Resource {
    original_type: String,
    #[serde(flatten)]
    sealed: Encrypted,
}

/// What the notification in `cx.body` says.
///
/// # Errors
/// Only the host's own: it has no key to verify or to open with.
pub fn read(account: &WeChatPay, cx: &Cx<'_>, e: &Event) -> Result<Done, HostError> {
    if !wire::is_signed(account, cx, e)? {
        return Ok(refused());
    }
    let notice = object::<Notice>(cx.body).filter(|notice| !notice.id.is_empty());
    let opened = match &notice {
        Some(notice) => notice.resource.sealed.opened(cx)?,
        None => None,
    };
    let (Some(notice), Some(opened)) = (notice, opened) else { return Ok(not_understood()) };
    Ok(match notice.says(account, &opened) {
        Ok(fact) => Done {
            facts: vec![fact],
            verified: true,
            event_id: Some(notice.id),
            ack: Some(ack(204, "")),
            ..Done::default()
        },
        Err(no) => no(),
    })
}

/// A fact, or what is answered instead of one.
type Says = Result<Fact, fn() -> Done>;

/// It is not WeChat Pay's, or it is about another merchant.
fn refused() -> Done {
    Done { ack: Some(ack(401, r#"{"code":"FAIL","message":"not verified"}"#)), ..Done::default() }
}

/// It is not of a documented form. Without an id, so that it counts once it is understood.
fn not_understood() -> Done {
    let ack = ack(500, r#"{"code":"FAIL","message":"not understood"}"#);
    Done { verified: true, ack: Some(ack), ..Done::default() }
}

fn ack(status: u16, body: &str) -> Ack {
    Ack { status, content_type: "application/json".into(), body: body.into() }
}

impl Notice {
    fn says(&self, account: &WeChatPay, opened: &[u8]) -> Says {
        match (self.resource.original_type.as_str(), self.event_type.split_once('.')) {
            ("transaction", Some(("TRANSACTION", _))) => paid(account, opened),
            ("refund", Some(("REFUND", _))) => refunded(account, opened),
            _ => Err(not_understood),
        }
    }
}

fn paid(account: &WeChatPay, opened: &[u8]) -> Says {
    let Some(trade) = object::<Trade>(opened) else { return Err(not_understood) };
    if !trade.is_of(account, true) {
        return Err(refused);
    }
    let Some(number) = text(&trade.out_trade_no) else { return Err(not_understood) };
    // Only successes are documented to be told; any other word makes the host ask.
    let fact = match text(&trade.trade_state) {
        Some("SUCCESS") => trade.paid(),
        word => answers::undecided(word.unwrap_or("no_trade_state")),
    };
    Ok(trade.numbered(fact).about(number))
}

fn refunded(account: &WeChatPay, opened: &[u8]) -> Says {
    let Some(refund) = object::<Refund>(opened) else { return Err(not_understood) };
    if !refund.is_of(account, true) {
        return Err(refused);
    }
    let Some(number) = text(&refund.out_refund_no) else { return Err(not_understood) };
    // Its amount names no currency, and WeChat Pay knows one only.
    Ok(refund.fact(text(&refund.refund_status), Some("CNY")).about(number))
}
