//! PayPal (Orders v2, Payments v2): a shopper approves an order on PayPal's page, and only then is
//! it captured or authorized, by us.
//!
//! PayPal's number of a payment is the order's, for as long as it is spoken of. Captures and
//! authorizations have numbers of their own, so whatever is done with them begins with a look at
//! the order. `requests` builds, `order` and `answers` read, `codes` says what refusals mean,
//! `notification` verifies what is posted to us, `statement` reads the report of a day
//! page by page and `report` from a file, `transaction` is a line of either.

mod answers;
mod codes;
mod notification;
mod order;
mod report;
mod requests;
mod statement;
mod transaction;

use interlock_plugin_api::{
    CaptureMode, Class, Cx, Event, Fact, Fault, Operation, Provider, Request, Step, StepResult,
    TransportLoss, What, export_provider, is_path_segment,
};
use serde::{Deserialize, Serialize};

use answers::Continued;
use codes::Purpose;
use order::{Doubt, Order};
use report::Reading;
use statement::Pages;

const UNASKED: Fault = Fault::input("this event was not asked for");
/// Characters of a brand's name.
const BRAND_MAX: usize = 127;
/// Numbers of orders have so many characters.
const ORDER_DIGITS: usize = 17;

/// One account at PayPal.
#[derive(Debug)]
pub struct Paypal {
    settings: Settings,
}

/// The account's plain settings.
#[derive(Debug, Deserialize)]
struct Settings {
    webhook_id: Option<String>,
    #[serde(default)]
    verify: Verify,
    #[serde(default)]
    form: Form,
    brand_name: Option<String>,
    cancel_url: Option<String>,
    #[serde(default)]
    sandbox: bool,
}

/// Who verifies the signatures of notifications.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verify {
    /// The host, with PayPal's certificate.
    #[default]
    Offline,
    /// PayPal itself.
    Postback,
}

/// How an order asks for the page on which it is approved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    /// Without a payment source; the link is `approve`.
    #[default]
    Approve,
    /// With PayPal as the source; the link is `payer-action`.
    PayerAction,
}

/// What is kept between two steps.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum State {
    /// Nothing was sent.
    #[default]
    Begun,
    /// The one request of the operation is on the wire.
    Asked,
    /// The order is asked for.
    Order,
    /// What is done with this authorization or capture is on the wire.
    Changing(String),
    /// The order is asked where the shopper is to go, after this issue.
    Sent(String),
    /// PayPal is asked whether it signed what says this.
    Verifying(notification::Told),
    /// So far is a report read.
    Report(Pages),
    /// So far is a report's file read.
    File(Reading),
}

impl Provider for Paypal {
    type State = State;

    const MANIFEST: &'static str = include_str!("../manifest.json");

    fn open(config: &serde_json::Value) -> Result<Self, Fault> {
        let settings = Settings::deserialize(config)
            .map_err(|_| Fault::config("a setting is of another type or no known word"))?;
        let fits = |text: &Option<String>, good: fn(&str) -> bool| text.as_deref().is_none_or(good);
        if !fits(&settings.webhook_id, is_path_segment) {
            return Err(Fault::config("`webhook_id` is no id of a webhook"));
        }
        let named = |name: &str| {
            !name.trim().is_empty()
                && name.chars().count() <= BRAND_MAX
                && !name.contains(char::is_control)
        };
        if !fits(&settings.brand_name, named) {
            return Err(Fault::config("`brand_name` is empty or longer than 127 characters"));
        }
        if !fits(&settings.cancel_url, |url| url.starts_with("https://")) {
            return Err(Fault::config("`cancel_url` must begin with https://"));
        }
        Ok(Self { settings })
    }

    fn authorize(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        match (s, e) {
            (State::Begun, Event::Start) => {
                let (send, body) = requests::create(&self.settings, r)?;
                Ok(Step::send(send, body, State::Asked))
            }
            (State::Asked, e) => said(e, |status| answers::offered(status, cx.body, r)),
            _ => Err(UNASKED),
        }
    }

    /// The shopper came back. What he brought is not needed: the order says whether he approved.
    fn resume(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        let purpose = match r.capture {
            CaptureMode::Automatic => Purpose::Take,
            CaptureMode::Manual => Purpose::Hold,
        };
        match (s, e) {
            (State::Begun, Event::Start) => {
                let (send, body) = requests::take(r)?;
                Ok(Step::send(send, body, State::Asked))
            }
            (State::Asked, e) => match answered(e)? {
                Ok(status) => match answers::continued(status, cx.body, r, purpose) {
                    Continued::Says(fact) => Ok(Step::done(fact)),
                    Continued::Asks(doubt) => {
                        let issue = doubt.provider_code.unwrap_or_default();
                        Ok(Step::send(requests::order(r)?, Vec::new(), State::Sent(issue)))
                    }
                },
                Err(lost) => Ok(Step::done(lost)),
            },
            (State::Sent(issue), e) => said(e, |status| {
                let doubt =
                    Fact { class: Some(Class::Verification), ..Fact::unknown(issue.as_str()) };
                match Order::read(status, cx.body, r) {
                    Ok(order) => answers::sent_back(&order, r, doubt),
                    Err(_) => doubt,
                }
            }),
            _ => Err(UNASKED),
        }
    }

    fn capture(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        let next = |order: &Order| {
            let id = answers::capturable(order, r)?;
            let changing = State::Changing(id.to_owned());
            Ok(requests::capture(r, id).map(|(send, body)| Step::send(send, body, changing)))
        };
        changes(cx, r, s, e, next, |status, _| answers::captured(status, cx.body, r))
    }

    fn void(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        let next = |order: &Order| {
            let id = answers::authorization(order, r)?;
            Ok(Ok(Step::send(requests::void(id), Vec::new(), State::Changing(id.to_owned()))))
        };
        changes(cx, r, s, e, next, |status, id| answers::voided(status, cx.body, r, id))
    }

    fn refund(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        let next = |order: &Order| {
            let (id, several) = answers::refundable(order, r)?;
            let changing = State::Changing(id.to_owned());
            let request = requests::refund(r, id, several);
            Ok(request.map(|(send, body)| Step::send(send, body, changing)))
        };
        changes(cx, r, s, e, next, |status, _| answers::refunded(status, cx.body, r))
    }

    fn inquire(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        match (s, e) {
            (State::Begun, Event::Start) => ask_order(r),
            (State::Order, e) => Ok(match answered(e)? {
                Ok(status) => match Order::read(status, cx.body, r) {
                    Ok(order) => Step::facts(order.facts(r)),
                    Err(doubt) => Step::done(*doubt),
                },
                Err(lost) => Step::done(lost),
            }),
            _ => Err(UNASKED),
        }
    }

    fn inquire_operation(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        let Some((op, reference)) = &r.target else {
            return Err(Fault::input("the question names no operation"));
        };
        let place = match op {
            Operation::Capture => "captures",
            Operation::Refund => "refunds",
            Operation::Void => "authorizations",
            _ => return Err(Fault::UNSUPPORTED),
        };
        let known = reference.as_deref().filter(|_| *op != Operation::Void);
        match (s, e) {
            (State::Begun, Event::Start) => match known {
                Some(id) if is_path_segment(id) => {
                    let send = requests::get(format!("/v2/payments/{place}/{id}"));
                    Ok(Step::send(send, Vec::new(), State::Asked))
                }
                Some(_) => Err(Fault::input("the operation's number has an impossible form")),
                None => ask_order(r),
            },
            (State::Asked, e) => {
                said(e, |status| answers::asked(*op, known.unwrap_or_default(), status, cx.body, r))
            }
            (State::Order, e) => said(e, |status| match Order::read(status, cx.body, r) {
                Ok(order) => answers::found(*op, &order, r),
                // That the whole order is not there says nothing of a part of it.
                Err(doubt) => unclear(*doubt),
            }),
            _ => Err(UNASKED),
        }
    }

    fn parse_notification(&self, cx: &Cx<'_>, s: State, e: &Event) -> StepResult<Self> {
        match (s, e) {
            (State::Begun, Event::Notification { .. }) => notification::read(&self.settings, cx, e),
            (State::Verifying(told), Event::Response { status, .. }) => {
                notification::verified(told, *status, cx.body)
            }
            (State::Verifying(_), Event::Transport { .. }) => {
                Err(Fault::input("nobody said whether the notification is PayPal's"))
            }
            _ => Err(UNASKED),
        }
    }

    fn fetch_keys(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        match (s, e) {
            (State::Begun, Event::Start) => {
                Ok(Step::send(notification::certificate(r)?, Vec::new(), State::Asked))
            }
            (State::Asked, Event::Response { status, .. }) => {
                Ok(Step::end(notification::keys(r, *status, cx.body)))
            }
            (State::Asked, Event::Transport { .. }) => {
                Err(Fault::input("the certificate did not come"))
            }
            _ => Err(UNASKED),
        }
    }

    fn download_statement(
        &self,
        cx: &Cx<'_>,
        r: &Request,
        s: State,
        e: &Event,
    ) -> StepResult<Self> {
        match (s, e) {
            (State::Begun, Event::Start) => Pages::FIRST.ask(r),
            (State::Report(pages), Event::Start) => pages.ask(r),
            (State::Report(pages), Event::Response { status, .. }) => pages.read(cx, r, *status),
            (State::Report(_), Event::Transport { .. }) => {
                Err(Fault::input("the report did not come"))
            }
            _ => Err(UNASKED),
        }
    }

    fn read_statement(&self, cx: &Cx<'_>, r: &Request, s: State, e: &Event) -> StepResult<Self> {
        let mut reading = match (s, e) {
            (State::Begun, Event::Piece { .. }) => Reading::default(),
            (State::File(reading), Event::Piece { .. }) => reading,
            _ => return Err(Fault::input("only a piece of a report can be read")),
        };
        let last = matches!(e, Event::Piece { last: true });
        let part = reading.piece(r, cx.body, last)?;
        Ok(Step::part(part, State::File(reading)))
    }

    /// A question about an order that nobody has: "no such order" shows life.
    fn probe(&self, cx: &Cx<'_>, s: State, e: &Event) -> StepResult<Self> {
        match (s, e) {
            (State::Begun, Event::Start) => {
                let digits = cx.entropy.chars().filter(char::is_ascii_alphanumeric);
                let nobodys: String = digits.take(ORDER_DIGITS).collect();
                let nobodys = nobodys.to_ascii_uppercase();
                let send = requests::get(format!("/v2/checkout/orders/{nobodys}"));
                Ok(Step::send(send, Vec::new(), State::Asked))
            }
            (State::Asked, e) => said(e, |status| codes::unasked(status, cx.body)),
            _ => Err(UNASKED),
        }
    }
}

/// What is done with a part of an order: first the order is read, then the part is changed.
fn changes(
    cx: &Cx<'_>,
    r: &Request,
    s: State,
    e: &Event,
    next: impl FnOnce(&Order) -> Result<StepResult<Paypal>, Doubt>,
    read: impl FnOnce(u16, &str) -> Fact,
) -> StepResult<Paypal> {
    match (s, e) {
        (State::Begun, Event::Start) => ask_order(r),
        (State::Order, e) => {
            let order = match answered(e)? {
                Ok(status) => Order::read(status, cx.body, r),
                Err(lost) => Err(lost.into()),
            };
            // Without it nothing was sent that changes anything, and nothing will be.
            let step = order.and_then(|order| next(&order));
            step.unwrap_or_else(|doubt| Ok(Step::done(unclear(*doubt))))
        }
        (State::Changing(id), e) => said(e, |status| read(status, &id)),
        _ => Err(UNASKED),
    }
}

fn ask_order(r: &Request) -> StepResult<Paypal> {
    Ok(Step::send(requests::order(r)?, Vec::new(), State::Order))
}

/// The end of an operation by its answer.
fn said(e: &Event, read: impl FnOnce(u16) -> Fact) -> StepResult<Paypal> {
    Ok(Step::done(match answered(e)? {
        Ok(status) => read(status),
        Err(lost) => lost,
    }))
}

/// The status of the answer, or what is to be said when none came: nothing about the money,
/// because what the socket proved is the host's to know.
fn answered(e: &Event) -> Result<Result<u16, Fact>, Fault> {
    match e {
        Event::Response { status, .. } => Ok(Ok(*status)),
        Event::Transport { outcome, .. } => {
            let lost = Fact::unknown(match outcome {
                TransportLoss::NotSent => "not_sent",
                TransportLoss::MaybeSent => "no_answer",
            });
            Ok(Err(Fact { class: Some(Class::ProviderDown), ..lost }))
        }
        Event::Start | Event::Notification { .. } | Event::Piece { .. } => Err(UNASKED),
    }
}

/// The same words as a doubt.
fn unclear(fact: Fact) -> Fact {
    Fact { what: What::Unknown, class: fact.class.or(Some(Class::Unmapped)), ..fact }
}

export_provider!(Paypal);
