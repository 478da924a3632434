//! What providers tell us by themselves: verified by the plugin, applied once, acknowledged only
//! when it is durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use interlock_engine::Input;
use interlock_journal::NoticeRow;
use interlock_plugin_api::{Ack, Fact};
use ring::digest;

use crate::calls::Notification;
use crate::driver::{Beside, DriveError, Driver, Moved};
use crate::failpoint::{self, Side};
use crate::front_door::{Request, Response};
use crate::setup::{OpenAccount, Setup};

/// `POST /v1/notifications/{account}`.
pub async fn handle(driver: &Arc<Driver>, account: &str, request: &Request) -> Response {
    if request.method != http::Method::POST {
        return Response::text(405, "use POST");
    }
    // An account that is only tried out may be spoken of already.
    let setup = driver.in_force.all().find(|setup| setup.get(account).is_some());
    let Some((setup, open)) = setup.and_then(|s| Some((Arc::clone(&s), s.get(account)?.clone())))
    else {
        let known = driver.setup().disabled.contains_key(account);
        // A known account whose plugin is disabled will be back; an unknown one will not.
        return Response::text(if known { 503 } else { 404 }, "account does not serve");
    };
    let headers = request
        .headers
        .iter()
        .filter_map(|(n, v)| Some((n.as_str().to_owned(), v.to_str().ok()?.to_owned())))
        .collect();
    let read = driver.caller().read_notification(&open, headers, request.body.clone()).await;
    let notice = match read {
        Ok(notice) => notice,
        Err(reason) => {
            tracing::warn!(account, reason, "notification could not be read");
            driver.metrics.notified(account, "unreadable");
            return Response::text(503, "notification could not be read");
        }
    };
    if !notice.verified {
        tracing::warn!(account, "notification with a bad signature");
        driver.metrics.notified(account, "bad_signature");
        return acknowledge(notice.ack, 401);
    }
    let digest = digest::digest(&digest::SHA256, &request.body).as_ref().to_vec();
    match apply(driver, &setup, &open, &notice, digest).await {
        Ok(Applied::Now | Applied::Before) => {
            driver.metrics.notified(account, "applied");
            acknowledge(notice.ack, 200)
        }
        Ok(Applied::Unknown) => {
            tracing::warn!(account, "notification about a payment that is not ours");
            driver.metrics.notified(account, "unknown");
            Response::text(404, "no such payment")
        }
        // It is told again, after the payment has heard its provider.
        Err(DriveError::Restoring) => Response::text(503, "not applied yet"),
        Err(error) => {
            tracing::error!(account, %error, "notification was not applied");
            driver.metrics.notified(account, "failed");
            Response::text(503, "not applied yet")
        }
    }
}

enum Applied {
    Now,
    Before,
    Unknown,
}

async fn apply(
    driver: &Arc<Driver>,
    setup: &Arc<Setup>,
    open: &OpenAccount,
    notice: &Notification,
    digest: Vec<u8>,
) -> Result<Applied, DriveError> {
    let (account, state_version) = (open.name.as_str(), open.manifest().state_version);
    let event_id = notice.event_id.clone().unwrap_or_else(|| hex::encode(&digest));
    // One body may speak of several payments, each of which takes it in by itself, and perhaps only
    // some of them before the process dies: so each remembers it under an id of its own.
    let several = notice.facts.len() > 1;
    let row = |payment: Option<String>, applied: bool| NoticeRow {
        account: account.to_owned(),
        event_id: match &payment {
            Some(payment) if several => format!("{event_id} {payment}"),
            _ => event_id.clone(),
        },
        payment,
        digest: digest.clone(),
        at_ms: driver.clock.now().wall_ms,
        applied,
    };
    if notice.facts.is_empty() {
        // Verified, and nothing that concerns money.
        failpoint::pass("notice.no_money", Side::Before);
        driver.store.keep_notice(row(None, true)).await?;
        failpoint::pass("notice.no_money", Side::After);
        return Ok(Applied::Now);
    }
    let mut by_payment: BTreeMap<String, Vec<Fact>> = BTreeMap::new();
    let mut unknown = false;
    for fact in &notice.facts {
        let names = [&fact.op_id, &fact.operation_ref, &fact.provider_ref];
        match driver.named(account, &names).await? {
            Some(payment) => by_payment.entry(payment).or_default().push(fact.clone()),
            None => unknown = true,
        }
    }
    if by_payment.is_empty() {
        failpoint::pass("notice.unknown", Side::Before);
        driver.store.keep_notice(row(None, false)).await?;
        failpoint::pass("notice.unknown", Side::After);
        return Ok(Applied::Unknown);
    }
    let mut applied = Applied::Before;
    for (payment, facts) in by_payment {
        let kept = Some(row(Some(payment.clone()), true));
        let read_by = Some(Arc::clone(setup));
        let beside = Beside { notice: kept, read_by, ..Beside::default() };
        let input = Input::Noticed { account: account.to_owned(), state_version, facts };
        match driver.put(&payment, input, beside).await? {
            Moved::NoticeSeen => {}
            // Its account may be configured again when the provider repeats it.
            Moved::Refused(_) => unknown = true,
            _ => applied = Applied::Now,
        }
    }
    // What found nobody is told again.
    Ok(if unknown { Applied::Unknown } else { applied })
}

fn acknowledge(ack: Option<Ack>, otherwise: u16) -> Response {
    match ack {
        Some(ack) => Response {
            headers: vec![("Content-Type", ack.content_type)],
            ..Response::text(ack.status, ack.body)
        },
        None => Response::text(otherwise, ""),
    }
}
