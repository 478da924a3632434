//! The control plane: tests read the truth here, turn the fault dial, and play the shopper.
//!
//! A change of the dial is answered only after every door has acted on it, so that a test may
//! rely on a refusal as soon as it has its id.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::account::{Account, PortalAct};
use crate::alipay::Act;
use crate::apple_pay::TokenOrder;
use crate::door::Look;
use crate::faults::{FaultDial, FaultOrder};
use crate::google_pay;
use crate::ledger::{Ledger, Since};
use crate::requests::Requests;

/// Everything that the control plane reaches.
pub struct Control {
    /// By name: the account, and the way to its door.
    pub accounts: BTreeMap<String, (Arc<Account>, mpsc::Sender<Look>)>,
    /// The ledger of all accounts.
    pub ledger: Arc<Ledger>,
    /// What was received.
    pub requests: Arc<Requests>,
    /// The faults.
    pub dial: Arc<FaultDial>,
    /// What a reset begins the chance from.
    pub seed: u64,
}

/// The routes of the control plane.
pub fn routes(control: Arc<Control>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/ledger", get(ledger))
        .route("/net", get(net))
        .route("/requests", get(requests))
        .route("/faults", get(faults).post(set_fault).delete(lift_all))
        .route("/faults/{id}", delete(lift))
        .route("/customers/act", post(act))
        .route("/portal", post(portal))
        .route("/wallets/apple_pay/tokens", post(apple_pay_token))
        .route("/wallets/google_pay/tokens", post(google_pay_token))
        .route("/reset", post(reset))
        .fallback(async || Refused::new(StatusCode::NOT_FOUND, "not_found", "no such path"))
        .with_state(control)
}

impl Control {
    async fn let_doors_act(&self) {
        for (_, door) in self.accounts.values() {
            let (look, acted) = oneshot::channel();
            if door.send(look).await.is_ok() {
                // A door that is gone refuses by itself.
                let _ = acted.await;
            }
        }
    }

    fn known<'a>(&self, account: Option<&'a str>) -> Result<Option<&'a str>, Refused> {
        match account.filter(|name| !name.is_empty()) {
            Some(name) if !self.accounts.contains_key(name) => Err(Refused::unknown(name)),
            account => Ok(account),
        }
    }
}

struct Refused {
    status: StatusCode,
    code: &'static str,
    error: String,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, error: impl Into<String>) -> Self {
        Self { status, code, error: error.into() }
    }

    fn invalid(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", error)
    }

    fn unknown(account: &str) -> Self {
        let error = format!("no such account: {account}");
        Self::new(StatusCode::BAD_REQUEST, "unknown_account", error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = answer(&json!({ "code": self.code, "error": self.error }));
        *response.status_mut() = self.status;
        response
    }
}

fn answer<T: Serialize>(value: &T) -> Response {
    let text = serde_json::to_string(value).unwrap_or_else(|_| "null".into());
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

type Answered = Result<Response, Refused>;
type Shared = State<Arc<Control>>;

#[derive(Deserialize)]
struct Wanted {
    account: Option<String>,
    since: Option<String>,
}

impl Wanted {
    fn since(&self) -> Result<Since, Refused> {
        Since::parse(self.since.as_deref())
            .ok_or_else(|| Refused::invalid("since is a sequence number or an RFC 3339 time"))
    }
}

async fn healthz(State(control): Shared) -> Response {
    let show = |(account, _): &(Arc<Account>, mpsc::Sender<Look>)| {
        let (pending, dropped) = account.desk().courier.load();
        let (probes_refused, probes_taken) = account.desk().courier.probes();
        json!({
            "provider": account.desk().provider,
            "notifications_pending": pending,
            "notifications_dropped": dropped,
            "probes_refused": probes_refused,
            "probes_taken": probes_taken,
        })
    };
    let accounts: BTreeMap<&String, Value> =
        control.accounts.iter().map(|(name, held)| (name, show(held))).collect();
    answer(&json!({ "ok": true, "accounts": accounts }))
}

async fn ledger(State(control): Shared, Query(wanted): Query<Wanted>) -> Answered {
    let account = control.known(wanted.account.as_deref())?;
    Ok(answer(&control.ledger.read(account, wanted.since()?)))
}

async fn net(State(control): Shared, Query(wanted): Query<Wanted>) -> Answered {
    let account = control.known(wanted.account.as_deref())?;
    Ok(answer(&control.ledger.net(account)))
}

async fn requests(State(control): Shared, Query(wanted): Query<Wanted>) -> Answered {
    let account = control.known(wanted.account.as_deref())?;
    Ok(answer(&control.requests.read(account, wanted.since()?)))
}

async fn faults(State(control): Shared) -> Response {
    answer(&control.dial.standing(Instant::now()))
}

async fn set_fault(State(control): Shared, body: Bytes) -> Answered {
    let order: FaultOrder = read(&body)?;
    if order.account != "*" {
        control.known(Some(&order.account))?;
    }
    let id = control.dial.set(order, Instant::now()).map_err(Refused::invalid)?;
    control.let_doors_act().await;
    Ok(answer(&json!({ "id": id })))
}

async fn lift(State(control): Shared, Path(id): Path<String>) -> Answered {
    if !control.dial.lift(&id) {
        let error = format!("no such fault, or it has ended: {id}");
        return Err(Refused::new(StatusCode::NOT_FOUND, "not_found", error));
    }
    control.let_doors_act().await;
    Ok(answer(&json!({ "lifted": 1 })))
}

async fn lift_all(State(control): Shared) -> Response {
    let lifted = control.dial.lift_all();
    control.let_doors_act().await;
    answer(&json!({ "lifted": lifted }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acting {
    account: String,
    op_id: Option<String>,
    qr_code: Option<String>,
    /// A page's address, or an order for an app.
    order: Option<String>,
    act: Acts,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Acts {
    Pay,
    Scan,
    Abandon,
    Fail,
}

async fn act(State(control): Shared, body: Bytes) -> Answered {
    let acting: Acting = read(&body)?;
    let Some((account, _)) = control.accounts.get(&acting.account) else {
        return Err(Refused::unknown(&acting.account));
    };
    let act = match acting.act {
        Acts::Pay => Act::Pay,
        Acts::Scan => Act::Scan,
        Acts::Abandon => Act::Abandon,
        Acts::Fail => Act::Fail,
    };
    let offer = acting.order.as_deref();
    match account.act(acting.op_id.as_deref(), acting.qr_code.as_deref(), offer, act) {
        Ok(done) => Ok(answer(&done)),
        Err(why) => Err(Refused::new(StatusCode::CONFLICT, "refused", why)),
    }
}

async fn portal(State(control): Shared, body: Bytes) -> Answered {
    let act: PortalAct = read(&body)?;
    let Some((account, _)) = control.accounts.get(&act.account) else {
        return Err(Refused::unknown(&act.account));
    };
    let done = account.portal(&act);
    done.map(|done| answer(&done)).map_err(|why| Refused::new(StatusCode::CONFLICT, "refused", why))
}

async fn apple_pay_token(State(control): Shared, body: Bytes) -> Answered {
    let order: TokenOrder = read(&body)?;
    let Some((account, _)) = control.accounts.get(&order.account) else {
        return Err(Refused::unknown(&order.account));
    };
    let Some(fake) = account.apple_pay() else {
        return Err(Refused::invalid(format!("it is no Apple Pay: {}", order.account)));
    };
    fake.token(&order).map(|made| answer(&made)).map_err(Refused::invalid)
}

async fn google_pay_token(State(control): Shared, body: Bytes) -> Answered {
    let wanted: google_pay::Wanted = read(&body)?;
    let Some((account, _)) = control.accounts.get(&wanted.account) else {
        return Err(Refused::unknown(&wanted.account));
    };
    let Some(fake) = account.google_pay() else {
        return Err(Refused::invalid(format!("it is no Google Pay: {}", wanted.account)));
    };
    fake.token(&wanted).map(|made| answer(&made)).map_err(Refused::invalid)
}

async fn reset(State(control): Shared) -> Response {
    control.dial.lift_all();
    control.dial.reseed(control.seed);
    for (account, _) in control.accounts.values() {
        account.reset();
    }
    control.ledger.clear();
    control.requests.clear();
    control.let_doors_act().await;
    answer(&json!({ "ok": true }))
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| Refused::invalid(error.to_string()))
}
