//! One account at work: reads a request, meets the fault dial, lets the fake execute, answers.
//!
//! The order is the whole point. What a fault says about money ("not executed", "executed, then
//! lost") is true here because execution is one synchronous step between two awaits: a client
//! that leaves can lose the answer, never half of the execution.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response, body::Incoming};
use serde::Deserialize;
use serde_json::Value;
use tokio_rustls::TlsAcceptor;

use crate::adyen::Adyen;
use crate::alipay::{Act, Alipay};
use crate::apple_pay::ApplePay;
use crate::checkout::{Checkout, Outcome};
use crate::config::Identity;
use crate::desk::{Answer, Bend, Call, Decline, Desk, Inbound, clipped};
use crate::door::Cut;
use crate::faults::{FaultDial, FaultKind, Met};
use crate::google_pay::GooglePay;
use crate::moment;
use crate::paypal::Paypal;
use crate::requests::{Received, Requests};
use crate::stripe::Stripe;
use crate::wechatpay::Wechatpay;

const BODY_LIMIT: usize = 1 << 20;
const READ_PATIENCE: Duration = Duration::from_secs(30);

/// The fake behind an account.
pub enum Fake {
    /// Adyen.
    Adyen(Arc<Adyen>),
    /// Alipay.
    Alipay(Arc<Alipay>),
    /// Apple Pay.
    ApplePay(Arc<ApplePay>),
    /// Checkout.com.
    Checkout(Arc<Checkout>),
    /// Google Pay.
    Googlepay(Arc<GooglePay>),
    /// PayPal.
    Paypal(Arc<Paypal>),
    /// Stripe.
    Stripe(Arc<Stripe>),
    /// WeChat Pay.
    Wechatpay(Arc<Wechatpay>),
}

/// What somebody does at the provider's own pages.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortalAct {
    /// The account's name.
    pub account: String,
    /// What he does.
    pub act: Portal,
    /// Whom it is done to: a key, a reference, or the provider's own name.
    pub op_id: Option<String>,
    /// Minor units; all that is left when absent.
    pub amount: Option<i64>,
    /// ISO 4217.
    pub currency: Option<String>,
    /// Who signs from now on.
    pub identity: Option<Identity>,
}

/// A way in which money moves without a request of the merchant's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Portal {
    /// A payer pays.
    Charge,
    /// The merchant gives back.
    Refund,
    /// The provider takes back.
    Reverse,
    /// The payer complains.
    Dispute,
    /// A rotation of keys turns.
    SignsWith,
    /// Every access token ends.
    Revoke,
    /// The merchant takes the file of the day's report.
    Statement,
}

/// One account.
pub struct Account {
    fake: Fake,
    dial: Arc<FaultDial>,
    requests: Arc<Requests>,
    latency_ms: u64,
    late_ms: u64,
}

impl Account {
    /// An account over `fake`.
    pub fn new(
        fake: Fake,
        dial: Arc<FaultDial>,
        requests: Arc<Requests>,
        (latency_ms, late_ms): (u64, u64),
    ) -> Self {
        Self { fake, dial, requests, latency_ms, late_ms }
    }

    /// The account's name.
    pub fn name(&self) -> &Arc<str> {
        &self.desk().account
    }

    /// Names, ledger and courier.
    pub fn desk(&self) -> &Desk {
        match &self.fake {
            Fake::Adyen(adyen) => adyen.desk(),
            Fake::Alipay(alipay) => alipay.desk(),
            Fake::ApplePay(apple) => apple.desk(),
            Fake::Checkout(checkout) => checkout.desk(),
            Fake::Googlepay(googlepay) => googlepay.desk(),
            Fake::Paypal(paypal) => paypal.desk(),
            Fake::Stripe(stripe) => stripe.desk(),
            Fake::Wechatpay(wechatpay) => wechatpay.desk(),
        }
    }

    /// Forgets everything that happened.
    pub fn reset(&self) {
        match &self.fake {
            Fake::Adyen(adyen) => adyen.reset(),
            Fake::Alipay(alipay) => alipay.reset(),
            // It keeps nothing.
            Fake::ApplePay(_) => {}
            Fake::Checkout(checkout) => checkout.reset(),
            // It keeps nothing but its keys.
            Fake::Googlepay(_) => {}
            Fake::Paypal(paypal) => paypal.reset(),
            Fake::Stripe(stripe) => stripe.reset(),
            Fake::Wechatpay(wechatpay) => wechatpay.reset(),
        }
    }

    /// The shopper acts: `act` is `pay`, `scan`, `fail` or `abandon`.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn act(
        &self,
        op_id: Option<&str>,
        qr: Option<&str>,
        order: Option<&str>,
        act: Act,
    ) -> Result<Value, &'static str> {
        let outcome = match act {
            Act::Pay => Outcome::Passed,
            Act::Fail => Outcome::Failed,
            Act::Abandon => Outcome::Left,
            Act::Scan
                if matches!(self.fake, Fake::Adyen(_) | Fake::Checkout(_) | Fake::Stripe(_)) =>
            {
                return Err("there is nothing to scan at this provider");
            }
            Act::Scan => Outcome::Left,
        };
        match &self.fake {
            Fake::Adyen(adyen) => adyen.act(op_id.ok_or("no op_id")?, outcome),
            Fake::Alipay(alipay) => alipay.act(op_id, qr, order, act),
            Fake::ApplePay(_) => Err("a wallet takes no money"),
            Fake::Checkout(checkout) => checkout.act(op_id.ok_or("no op_id")?, outcome),
            Fake::Googlepay(_) => Err("nobody pays at a wallet"),
            Fake::Paypal(paypal) => paypal.act(op_id, order, outcome),
            Fake::Stripe(stripe) => stripe.act(op_id.ok_or("no op_id")?, outcome),
            Fake::Wechatpay(wechatpay) => wechatpay.act(op_id, qr.or(order), act),
        }
    }

    /// Somebody moves money at the provider's own pages.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn portal(&self, act: &PortalAct) -> Result<Value, &'static str> {
        match &self.fake {
            Fake::Alipay(alipay) => alipay.portal(act),
            Fake::Paypal(paypal) => paypal.portal(act),
            Fake::Wechatpay(wechatpay) => wechatpay.portal(act),
            Fake::Stripe(stripe) => stripe.portal(act),
            Fake::Adyen(_) | Fake::ApplePay(_) | Fake::Checkout(_) | Fake::Googlepay(_) => {
                Err("this provider has no portal here")
            }
        }
    }

    /// The Google Pay behind it, if that is what it is.
    pub fn google_pay(&self) -> Option<&GooglePay> {
        match &self.fake {
            Fake::Googlepay(googlepay) => Some(googlepay),
            _ => None,
        }
    }

    /// The Apple Pay behind it, if that is what it is.
    pub fn apple_pay(&self) -> Option<&ApplePay> {
        match &self.fake {
            Fake::ApplePay(apple) => Some(apple),
            _ => None,
        }
    }

    /// Makes the handshakes of an account that speaks TLS.
    pub fn acceptor(&self) -> Option<&TlsAcceptor> {
        match &self.fake {
            Fake::ApplePay(apple) => Some(apple.acceptor()),
            _ => None,
        }
    }

    /// Answers one request, or says that the connection is to be reset.
    ///
    /// # Errors
    /// `Cut`, when a fault wants the connection reset or the request never arrived in full.
    pub async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Cut> {
        let inbound = match receive(request).await {
            Arrived::Whole(inbound) => inbound,
            Arrived::TooLarge => return Ok(respond(Answer::empty(413))),
            Arrived::Broken => return Err(Cut),
        };
        let call = self.recognise(&inbound);
        let met = self.dial.meet_request(self.name(), call.operation, Instant::now());
        let seq = self.requests.open(self.record(&inbound, &call, met.as_ref()));
        let answer = self.treat(&inbound, &call, met).await?;
        self.requests.answered(seq, answer.status);
        Ok(respond(answer))
    }

    async fn treat(&self, inbound: &Inbound, call: &Call, met: Option<Met>) -> Result<Answer, Cut> {
        let kind = met.as_ref().map(|met| met.kind);
        match kind {
            Some(FaultKind::Refuse | FaultKind::ResetAfterRead) => return Err(Cut),
            Some(FaultKind::Hang) => {
                if let Some(met) = met {
                    met.over().await;
                }
                return Err(Cut);
            }
            Some(FaultKind::ErrorBefore) => return Ok(self.failure()),
            Some(FaultKind::RateLimited) => return Ok(self.limited(call)),
            _ if self.is_full() => return Ok(self.failure()),
            _ => {}
        }
        let mut busy_ms = self.latency_ms;
        if kind == Some(FaultKind::Slow) {
            let asked_ms = met.as_ref().map_or(0, |met| met.ms);
            busy_ms += if asked_ms == 0 { self.late_ms } else { asked_ms };
        }
        let bend = Bend {
            decline: match kind {
                Some(FaultKind::DeclineSoft) => Some(Decline::Soft),
                Some(FaultKind::DeclineHard) => Some(Decline::Hard),
                _ => None,
            },
            wrong_signature: kind == Some(FaultKind::BadSignature),
            fails: kind == Some(FaultKind::ErrorAfter),
            busy_ms,
        };
        let answer = match &self.fake {
            Fake::Adyen(adyen) => adyen.execute(inbound, bend),
            Fake::Alipay(alipay) => alipay.execute(inbound, bend),
            Fake::ApplePay(apple) => apple.execute(inbound),
            Fake::Checkout(checkout) => checkout.execute(inbound, bend),
            Fake::Googlepay(googlepay) => googlepay.execute(inbound),
            Fake::Paypal(paypal) => paypal.execute(inbound, bend),
            Fake::Stripe(stripe) => stripe.execute(inbound, bend),
            Fake::Wechatpay(wechatpay) => wechatpay.execute(inbound, bend),
        };
        if busy_ms > 0 {
            tokio::time::sleep(Duration::from_millis(busy_ms)).await;
        }
        match kind {
            Some(FaultKind::ErrorAfter) => Ok(self.failure()),
            Some(FaultKind::ChargeThenDrop) => Err(Cut),
            Some(FaultKind::Garbage) => Ok(self.garbage(call)),
            Some(FaultKind::BadSignature) => Ok(self.unsigned(answer)),
            _ => Ok(answer),
        }
    }

    fn recognise(&self, inbound: &Inbound) -> Call {
        match &self.fake {
            Fake::Adyen(adyen) => adyen.recognise(inbound),
            Fake::Alipay(alipay) => alipay.recognise(inbound),
            Fake::ApplePay(apple) => apple.recognise(inbound),
            Fake::Checkout(checkout) => checkout.recognise(inbound),
            Fake::Googlepay(googlepay) => googlepay.recognise(inbound),
            Fake::Paypal(paypal) => paypal.recognise(inbound),
            Fake::Stripe(stripe) => stripe.recognise(inbound),
            Fake::Wechatpay(wechatpay) => wechatpay.recognise(inbound),
        }
    }

    fn record(&self, inbound: &Inbound, call: &Call, met: Option<&Met>) -> Received {
        Received {
            seq: 0,
            at: moment::now_ms(),
            account: self.name().clone(),
            provider: self.desk().provider,
            operation: call.operation,
            method: inbound.method.clone(),
            path: clipped(&inbound.path, 200),
            call: call.name.clone(),
            op_id: call.op_id.clone(),
            duplicate: false,
            answered: None,
            fault: met.map(|met| met.id.clone()),
        }
    }

    fn is_full(&self) -> bool {
        self.desk().ledger.is_full()
            || match &self.fake {
                Fake::Adyen(adyen) => adyen.is_full(),
                Fake::Alipay(alipay) => alipay.is_full(),
                Fake::ApplePay(_) => false,
                Fake::Checkout(checkout) => checkout.is_full(),
                Fake::Googlepay(_) => false,
                Fake::Paypal(paypal) => paypal.is_full(),
                Fake::Stripe(stripe) => stripe.is_full(),
                Fake::Wechatpay(wechatpay) => wechatpay.is_full(),
            }
    }

    fn failure(&self) -> Answer {
        match &self.fake {
            Fake::Paypal(paypal) => paypal.failure(),
            Fake::ApplePay(apple) => apple.failure(),
            Fake::Alipay(_) => Answer::html(502, "<html><body>502 Bad Gateway</body></html>"),
            Fake::Adyen(_) | Fake::Checkout(_) | Fake::Googlepay(_) => Answer::empty(500),
            Fake::Stripe(stripe) => stripe.failure(),
            Fake::Wechatpay(wechatpay) => wechatpay.failure(),
        }
    }

    fn limited(&self, call: &Call) -> Answer {
        match &self.fake {
            Fake::Adyen(adyen) => adyen.limited(),
            Fake::Alipay(alipay) => alipay.limited(call),
            Fake::ApplePay(apple) => apple.limited(),
            Fake::Checkout(checkout) => checkout.limited(),
            Fake::Googlepay(_) => Answer::empty(429),
            Fake::Paypal(paypal) => paypal.limited(),
            Fake::Stripe(stripe) => stripe.limited(),
            Fake::Wechatpay(wechatpay) => wechatpay.limited(),
        }
    }

    fn garbage(&self, call: &Call) -> Answer {
        match &self.fake {
            Fake::Adyen(_) => Answer::json(200, "{\"pspReference\":\"\u{fffd}"),
            Fake::Alipay(alipay) => alipay.garbage(call),
            Fake::ApplePay(_) => Answer::json(200, "{\"epochTimestamp\":\u{fffd}"),
            Fake::Checkout(_) => Answer::json(200, "{\"id\":\"pay_\u{fffd}"),
            Fake::Googlepay(_) => Answer::json(200, "{\"keys\":[\u{fffd}"),
            Fake::Paypal(_) => Answer::json(200, "{\"id\":\"\u{fffd}"),
            Fake::Stripe(_) => Answer::json(200, "{\"id\":\"pi_\u{fffd}"),
            Fake::Wechatpay(wechatpay) => wechatpay.garbage(),
        }
    }

    /// Who signs no answers: there the answer loses its second half.
    fn unsigned(&self, mut answer: Answer) -> Answer {
        if !matches!(self.fake, Fake::Alipay(_) | Fake::Wechatpay(_)) {
            answer.body.truncate(answer.body.len() / 2);
        }
        answer
    }
}

enum Arrived {
    Whole(Inbound),
    TooLarge,
    Broken,
}

async fn receive(request: Request<Incoming>) -> Arrived {
    let (head, body) = request.into_parts();
    let read = Limited::new(body, BODY_LIMIT).collect();
    let body = match tokio::time::timeout(READ_PATIENCE, read).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return Arrived::TooLarge;
        }
        Ok(Err(_)) | Err(_) => return Arrived::Broken,
    };
    Arrived::Whole(Inbound {
        method: head.method.as_str().into(),
        path: head.uri.path().into(),
        query: head.uri.query().unwrap_or_default().into(),
        headers: head.headers,
        body,
    })
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    if let Ok(status) = answer.status.try_into() {
        *response.status_mut() = status;
    }
    if !answer.content_type.is_empty() {
        let value = hyper::header::HeaderValue::from_static(answer.content_type);
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, value);
    }
    for (name, value) in answer.headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
