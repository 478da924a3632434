//! What is true now, on one page: accounts with their breakers in words, the last five minutes,
//! payments and doubts, the journal.

use interlock_circuit_breaker::{Reason, Snapshot};
use interlock_engine::Stamp;
use interlock_engine::gates::{AccountState, Group, Hold};
use interlock_journal::Health;
use serde_json::{Value, json};

use super::guard::who;
use super::{Admin, Answered};
use crate::front_door::Response;
use crate::merchant_api::{Problem, answer};
use crate::recent::{Lately, WINDOW_MS};
use crate::setup::Setup;

impl Admin {
    /// `GET /admin/v1/status`.
    pub(super) async fn status(&self) -> Answered {
        let stats = self.driver.store.stats().await;
        let stats = stats.map_err(|e| Problem::of_failure(&e.into()))?;
        let now = self.driver.clock.now();
        let oldest_ms = stats.oldest_in_doubt_ms.map(|at| now.wall_ms.saturating_sub(at));
        let setup = self.driver.setup();
        let door = self.merchants_door.counts();
        let house = setup.recent.house(now.mono_ms);
        let in_time = (house.answered > 0).then(|| house.in_time as f64 / house.answered as f64);
        let body = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "generation": setup.generation,
            "reload": self.reload_told(),
            "canary": self.canary_told(),
            "up_ms": now.mono_ms,
            "ready": self.readiness().status == 200,
            "restoration": self.restoration.as_ref().map(|restoration| restoration.told()),
            "journal": {
                "health": match self.driver.store.health() {
                    Health::Writable => "writable",
                    Health::LowDisk => "low_disk",
                    Health::Failed(_) => "failed",
                },
                "payments": stats.payments, "open": stats.open, "bytes": stats.bytes,
                "sync_p50_us": stats.sync_p50_us, "sync_p99_us": stats.sync_p99_us,
            },
            "in_doubt": {
                "payments": stats.in_doubt, "amounts": stats.in_doubt_amounts,
                "oldest_ms": oldest_ms,
            },
            "recent": {
                "window_ms": WINDOW_MS, "payments": house.begun, "per_second": house.per_second,
                "answered": house.answered, "answered_in_time": in_time,
            },
            "door": {
                "connections": door.connections, "in_flight": door.inflight,
                "requests": door.requests, "refused": door.refused,
            },
            "accounts": self.account_list(),
        });
        Ok(Response::json(200, body.to_string()))
    }
}

/// How an account is doing: its breaker (of one method, or the sickest), the last five minutes,
/// its limits and how much of them is used. Null for one that does not serve.
pub(super) fn now_of(setup: &Setup, now: Stamp, account: &str, method: Option<&str>) -> Value {
    let Some(state) = setup.gates.state(account, now) else { return Value::Null };
    let lately = setup.recent.account(account, now.mono_ms);
    let limit = setup.limits.get(account).map(|rate| {
        json!({
            "rate": rate.to_string(), "per_second": rate.per_second(),
            "used_per_second": lately.used_per_second,
        })
    });
    json!({
        "breaker": sickest(&state, method).map(|(method, group, b)| breaker(method, group, b)),
        "why": why(&state, method, &lately),
        "window_ms": WINDOW_MS, "calls": lately.calls, "failed": lately.failed,
        "success": lately.success(), "p50_ms": lately.p50_ms, "p95_ms": lately.p95_ms,
        "in_flight": state.in_flight.iter().map(|(_, now, _)| now).sum::<u32>(),
        "in_flight_max": state.in_flight[0].2,
        "limit": limit,
    })
}

type One<'a> = (&'a str, Group, &'a Snapshot);

/// The breaker that keeps most away; of equals, the one of payments.
fn sickest<'a>(state: &'a AccountState, method: Option<&str>) -> Option<One<'a>> {
    let rank = |b: &Snapshot| match b.state.as_str() {
        "forced_open" => 4,
        "open" => 3,
        "half_open" => 2,
        "closed" => 0,
        _ => 1,
    };
    let of_method = |m: &str| method.is_none_or(|method| method == m);
    let all = state.breakers.iter().filter(|(m, ..)| of_method(m));
    let all = all.filter(|(_, group, _)| method.is_none() || *group == Group::Payments);
    let all = all.map(|(method, group, b)| (method.as_str(), *group, b));
    all.min_by_key(|(_, group, b)| (-rank(b), *group))
}

fn breaker(method: &str, group: Group, b: &Snapshot) -> Value {
    json!({
        "state": b.state.as_str(), "method": method, "group": group.as_str(),
        "for_ms": b.opened_for_ms, "retry_after_ms": b.retry_after_ms,
        "reason": b.reason.map(Reason::as_str),
    })
}

/// Why an account is not all well, as a sentence without its subject; `None` when it is.
fn why(state: &AccountState, method: Option<&str>, lately: &Lately) -> Option<String> {
    if state.quarantined {
        return Some("its plugin is quarantined".into());
    }
    if let Some(hold) = &state.drained {
        return Some(format!("drained by {}: {}", setter(hold), hold.reason));
    }
    if let Some(until) = state.maintenance_until_ms {
        return Some(format!("announced maintenance until {}", answer::time(until)));
    }
    let alarms: Vec<String> =
        state.alarms.iter().map(|alarm| alarm.as_str().replace('_', " ")).collect();
    let alarm = (!alarms.is_empty()).then(|| format!("alarm: {}", alarms.join(", ")));
    let trips = state.trips.iter().filter(|(m, ..)| method.is_none_or(|method| method == m));
    if let Some((_, _, hold)) = trips.into_iter().next() {
        return Some(format!("breaker opened by {}: {}", setter(hold), hold.reason));
    }
    let Some((method, group, b)) = sickest(state, method) else { return alarm };
    let Some(cause) = b.cause.or(b.reason).map(in_words) else { return alarm };
    let whose = format!("{method} {}", group.as_str());
    let failed = match (lately.failed, lately.unreached) {
        (0, _) => String::new(),
        (failed, unreached) => format!(
            "; in 5 min {failed} of {} calls failed, {unreached} of them never sent",
            lately.calls
        ),
    };
    let alarm = alarm.map(|alarm| format!("; {alarm}")).unwrap_or_default();
    Some(format!("{whose}: {cause}{failed}{alarm}"))
}

fn setter(hold: &Hold) -> String {
    who(&hold.by, hold.token.as_deref())
}

fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::ConsecutiveFailures => "too many failures in a row",
        Reason::ConsecutiveLocalFailures => "not reached too often in a row",
        Reason::FailureRate => "too many calls failed",
        Reason::SlowRate => "too many calls were slow",
        Reason::OpenTimeOver => "its time is over, probes may pass",
        Reason::ProbeFailed => "the probes failed",
        Reason::ProbesPassed => "the probes passed",
        Reason::ProbeWaitOver => "a probe did not come back in time",
        Reason::Forced => "set by an operator",
        Reason::Released => "given back to its rules",
    }
}
