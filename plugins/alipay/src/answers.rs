//! Reads what a verified answer says about the money.
//!
//! A signature proves that Alipay wrote the answer, not that it is the answer to our question, so
//! every definite fact also needs our own number in it, and a payment its amount. What does not
//! fit together is a doubt.

use interlock_plugin_api::{Action, Currency, Cx, Fact, Money, Request, What, parse_units};

use crate::codes;
use crate::gateway::{Node, Purpose};

/// How long a code can be scanned at most, whatever was asked for.
const QR_LIFE_MS: i64 = 2 * 60 * 60 * 1000;
const NOT_THERE: [&str; 2] = ["ACQ.TRADE_NOT_EXIST", "TRADE_NOT_EXIST"];

/// The fact of an answer about the trade of this number.
pub fn fact(cx: &Cx<'_>, purpose: Purpose, r: &Request, number: &str, node: &Node) -> Fact {
    let named = node.text("out_trade_no");
    if named.is_some_and(|named| named != number) {
        return Fact::unknown("another_trade");
    }
    let done = node.outer() == "10000" && node.text("sub_code").is_none();
    let asks = purpose == Purpose::Pay && node.outer() == "10003";
    if !done && !asks {
        return refused(purpose, node);
    }
    if named.is_none() {
        return Fact::unknown("no_trade_named");
    }
    let fact = match purpose {
        Purpose::Pay if asks => coded(What::Pending, "10003"),
        Purpose::Pay => paid(node),
        Purpose::Precreate => offered(cx, node),
        Purpose::Query => status(r, node),
        Purpose::Close => Fact::new(What::ClosedUnpaid).of_key(),
        Purpose::Cancel => canceled(node),
        Purpose::Refund => refunded(r, node),
        Purpose::RefundQuery => refund_status(r, node),
        Purpose::Bill => Fact::unknown("no_trade"),
    };
    match node.text("trade_no") {
        Some(trade_no) => fact.with_provider_ref(trade_no),
        None => fact,
    }
}

/// What the answer to a probe says: a business code of a system in trouble is no sign of life.
pub fn sign_of_life(node: Node) -> Fact {
    match refused(Purpose::Query, &node) {
        not_there @ Fact { what: What::NotFound, .. } => not_there,
        other if node.outer() == "10000" => Fact { what: What::NotFound, ..other },
        trouble => trouble,
    }
}

/// The amount of a member in yuan, with the currency that the answer names, if any.
pub fn money(text: Option<&str>, currency: Option<&str>) -> Option<Money> {
    let amount = parse_units(text?, 2).ok()?;
    Some(Money::new(amount, Currency::parse(currency.unwrap_or("CNY"))?))
}

fn refused(purpose: Purpose, node: &Node) -> Fact {
    let code = node.provider_code();
    if node.outer() == "40004" && NOT_THERE.contains(&code.as_str()) {
        match purpose {
            Purpose::Query | Purpose::RefundQuery => return coded(What::NotFound, code),
            Purpose::Close | Purpose::Cancel => return coded(What::ClosedNothingFound, code),
            Purpose::Pay | Purpose::Precreate | Purpose::Refund | Purpose::Bill => {}
        }
    }
    codes::fact(purpose, node)
}

fn coded(what: What, code: impl Into<String>) -> Fact {
    Fact { provider_code: Some(code.into()), ..Fact::new(what) }
}

/// A payment without its amount could be anybody's, and is not reported as paid.
fn paid(node: &Node) -> Fact {
    match money(node.text("total_amount"), node.text("trans_currency")) {
        Some(amount) => Fact::new(What::Captured).of_key().with_amount(amount),
        None => Fact::unknown("no_amount"),
    }
}

fn offered(cx: &Cx<'_>, node: &Node) -> Fact {
    let Some(qr_code) = node.text("qr_code") else { return Fact::unknown("no_qr_code") };
    let action = Action {
        kind: "qr_code".into(),
        payload: serde_json::Map::from_iter([("qr_code".into(), qr_code.into())]),
        expires_ms: Some(cx.made_ms.saturating_add(QR_LIFE_MS)),
    };
    Fact { action: Some(action), ..Fact::new(What::Action) }
}

fn status(r: &Request, node: &Node) -> Fact {
    match node.text("trade_status") {
        Some("TRADE_SUCCESS" | "TRADE_FINISHED") => paid(node),
        // A trade exists only once a shopper scanned; until it is paid the code stays payable.
        Some("WAIT_BUYER_PAY") if r.flow != "barcode" => coded(What::Action, "WAIT_BUYER_PAY"),
        Some("WAIT_BUYER_PAY") => coded(What::Pending, "WAIT_BUYER_PAY"),
        Some("TRADE_CLOSED") => closed(node),
        Some(_) => Fact::unknown("unknown_trade_status"),
        None => Fact::unknown("no_trade_status"),
    }
}

/// `TRADE_CLOSED` is said of a trade that nobody paid and of one that was given back in full. The
/// day of payment tells them apart; without it, any other trace of money leaves a doubt.
fn closed(node: &Node) -> Fact {
    let moved = ["receipt_amount", "buyer_pay_amount", "refund_fee", "gmt_refund"]
        .iter()
        .filter_map(|name| node.text(name))
        .any(|text| parse_units(text, 2) != Ok(0));
    if node.text("send_pay_date").is_some() {
        coded(What::ClosedRefunded, "TRADE_CLOSED").of_key()
    } else if moved {
        Fact::unknown("TRADE_CLOSED")
    } else {
        coded(What::ClosedUnpaid, "TRADE_CLOSED").of_key()
    }
}

fn canceled(node: &Node) -> Fact {
    let again = node.text("retry_flag");
    match node.text("action") {
        _ if again == Some("Y") => Fact::unknown("retry_flag:Y"),
        Some("close") => Fact::new(What::ClosedUnpaid).of_key(),
        Some("refund") => Fact::new(What::ClosedRefunded).of_key(),
        Some(_) => Fact::unknown("unknown_action"),
        // Only a trade that was found has a number, and only the flag says that the call is over.
        None if again == Some("N") && node.text("trade_no").is_none() => {
            Fact::new(What::ClosedNothingFound)
        }
        None => Fact::unknown("no_action"),
    }
}

/// `refund_fee` is the sum of all refunds of the trade, so it is no echo of this one's amount; but
/// it can't be less.
fn refunded(r: &Request, node: &Node) -> Fact {
    let sum = node.text("refund_fee").map(|fee| parse_units(fee, 2));
    if sum.is_some_and(|sum| sum.map_or(true, |sum| sum < r.amount.amount)) {
        return Fact::unknown("refund_fee_too_low");
    }
    match node.text("fund_change") {
        Some("Y") => Fact::new(What::Refunded).of_key(),
        // A replay moved nothing by itself. Whether the first one did is for a refund query.
        Some("N") => coded(What::Pending, "fund_change:N"),
        _ => Fact::unknown("no_fund_change"),
    }
}

/// Without a status a refund is not done yet. Only an answer that names our refund says that
/// Alipay knows of it; one that does not is also what a refund that never arrived gets.
fn refund_status(r: &Request, node: &Node) -> Fact {
    if node.text("out_request_no") != Some(&r.op_id) {
        return Fact::unknown("no_refund_named");
    }
    match (node.text("refund_status"), money(node.text("refund_amount"), None)) {
        (Some("REFUND_SUCCESS"), Some(amount)) => {
            Fact::new(What::Refunded).of_key().with_amount(amount)
        }
        (Some("REFUND_SUCCESS"), None) => Fact::unknown("no_amount"),
        (Some(_), _) => Fact::unknown("unknown_refund_status"),
        (None, _) => coded(What::Pending, "no_refund_status"),
    }
}
