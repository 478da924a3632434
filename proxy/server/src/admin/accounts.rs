//! Accounts at the operators' door: how they are doing, and what may be done to them by hand.

use interlock_engine::gates::{AccountState, Group, Hold};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Answered, EVIDENCE_MAX, overview};
use crate::front_door::{Request, Response};
use crate::health::{Deed, Wish};
use crate::merchant_api::{Problem, answer};
use crate::setup::OpenAccount;

/// The longest that something set by hand may last, ms: whoever means for ever leaves it out.
const HOLD_MAX_MS: u64 = 366 * 24 * 3_600_000;

/// Why an operator does something, and for how long.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActBody {
    /// Why.
    reason: String,
    /// Who.
    operator: String,
    /// For how long, ms; without it until somebody ends it.
    #[serde(default)]
    for_ms: Option<u64>,
    /// Only breakers of this method.
    #[serde(default)]
    method: Option<String>,
    /// Only breakers of this group.
    #[serde(default)]
    group: Option<String>,
}

impl Admin {
    pub(super) fn accounts(&self) -> Response {
        Response::json(200, json!({ "accounts": self.account_list() }).to_string())
    }

    pub(super) fn account(&self, name: &str) -> Answered {
        let all = self.account_list();
        let account = all.into_iter().find(|a| a["name"] == name);
        let account = account.ok_or_else(|| Problem::not_found("account"))?;
        Ok(Response::json(200, account.to_string()))
    }

    pub(super) fn account_list(&self) -> Vec<Value> {
        let now = self.driver.clock.now();
        let setup = self.driver.setup();
        let open = setup.open.iter().filter_map(|(name, account)| {
            let mut told = shown(name, account, &setup.gates.state(name, now)?);
            told["now"] = overview::now_of(&setup, now, name, None);
            Some(told)
        });
        let disabled = setup.disabled.iter().map(|(name, reason)| {
            json!({ "name": name, "serves": false, "reason": reason, "breakers": [] })
        });
        open.chain(disabled).collect()
    }

    /// Drains, resumes or trips an account. It is durable before it is told.
    pub(super) async fn act(&self, name: &str, verb: &str, request: &Request) -> Answered {
        let expected = "expected reason, operator, and maybe for_ms, method, group";
        let body: ActBody = serde_json::from_slice(&request.body)
            .map_err(|_| Problem::invalid("body", expected))?;
        for (param, text) in [("reason", &body.reason), ("operator", &body.operator)] {
            if text.trim().is_empty() || text.chars().count() > EVIDENCE_MAX {
                let detail = format!("must be 1 to {EVIDENCE_MAX} characters");
                return Err(Problem::unprocessable(param, detail));
            }
        }
        if body.for_ms.is_some_and(|ms| ms == 0 || ms > HOLD_MAX_MS) {
            let detail = format!("must be 1 to {HOLD_MAX_MS}");
            return Err(Problem::unprocessable("for_ms", detail));
        }
        let group = body.group.as_deref().map(|word| {
            let words = Group::ALL.map(Group::as_str).join(", ");
            Group::of_str(word)
                .ok_or_else(|| Problem::unprocessable("group", format!("use one of: {words}")))
        });
        let group = group.transpose()?;
        if verb != "trip" && (body.method.is_some() || group.is_some()) {
            let detail = "only `trip` takes a method or a group";
            return Err(Problem::unprocessable("method", detail));
        }
        let now = self.driver.clock.now();
        let hold = Hold {
            reason: body.reason,
            by: body.operator,
            token: request.token.clone(),
            since_ms: now.wall_ms,
            until_ms: body.for_ms.map(|ms| now.plus(ms).wall_ms),
        };
        let wish = match verb {
            "drain" => Wish::Drain,
            "resume" => Wish::Resume,
            "trip" => Wish::Trip { method: body.method, group },
            _ => return Err(Problem::not_found("resource")),
        };
        if !self.driver.setup().open.contains_key(name) {
            return Err(Problem::not_found("account that serves"));
        }
        let deed = Deed { account: name.to_owned(), wish, hold };
        if !self.health.act(deed, now).await.map_err(|e| Problem::of_failure(&e))? {
            let detail = "the account has no such method";
            return Err(Problem::unprocessable("method", detail));
        }
        self.account(name)
    }

    /// Asks the provider whether it is well, now.
    pub(super) async fn probe(&self, name: &str) -> Answered {
        let account = self.driver.setup().get(name).cloned();
        let account = account.ok_or_else(|| Problem::not_found("account that serves"))?;
        let Some(probed) = self.health.probe(&account).await else {
            let detail = "its plugin has no probe; its breaker is tried out by payments";
            return Err(Problem::unprocessable("account", detail));
        };
        let body = json!({
            "name": name, "well": probed.well(), "verdict": probed.verdict.as_str(),
            "http": probed.http, "elapsed_ms": probed.elapsed_ms,
        });
        Ok(Response::json(200, body.to_string()))
    }

    pub(super) async fn audit(&self) -> Response {
        let lines: Vec<Value> = self
            .health
            .audit()
            .await
            .iter()
            .rev()
            .map(|line| {
                json!({
                    "at": answer::time(line.hold.since_ms), "operator": line.hold.by,
                    "token": line.hold.token,
                    "action": line.wish.as_str(), "account": line.account,
                    "reason": line.hold.reason,
                    "until": line.hold.until_ms.map(answer::time),
                    "method": line.wish.method(), "group": line.wish.group(),
                })
            })
            .collect();
        Response::json(200, json!({ "object": "list", "data": lines }).to_string())
    }
}

/// One account as an operator sees it.
fn shown(name: &str, account: &OpenAccount, state: &AccountState) -> Value {
    let generation = account.instance.generation();
    let quarantine = generation.quarantine().map(|q| q.reason.as_str());
    let breakers: Vec<Value> = state
        .breakers
        .iter()
        .map(|(method, group, b)| {
            json!({
                "method": method, "group": group.as_str(), "state": b.state.as_str(),
                "reason": b.reason.map(|r| r.as_str()),
                "retry_after_ms": b.retry_after_ms,
                "calls": b.window.total, "failed": b.window.failed, "trips": b.trips,
            })
        })
        .collect();
    let conversion: Vec<Value> = state
        .conversion
        .iter()
        .filter(|(_, c)| c.created > 0 || c.baseline.is_some())
        .map(|(method, c)| {
            json!({
                "method": method, "created": c.created, "paid": c.paid,
                "baseline": c.baseline, "low": c.low,
            })
        })
        .collect();
    let shares: Vec<Value> = state
        .in_flight
        .iter()
        .map(|(group, now, max)| json!({ "group": group.as_str(), "now": now, "max": max }))
        .collect();
    let trips: Vec<Value> = state
        .trips
        .iter()
        .map(|(method, group, hold)| {
            let mut shown = held(hold);
            shown["method"] = method.as_str().into();
            shown["group"] = group.as_str().into();
            shown
        })
        .collect();
    let in_maintenance = state.maintenance_until_ms.is_some();
    let reason = quarantine
        .or(state.drained.is_some().then_some("drained"))
        .or(in_maintenance.then_some("maintenance"));
    let (_, in_flight, in_flight_max) = state.in_flight[0];
    json!({
        "name": name,
        "serves": reason.is_none(),
        "reason": reason,
        "plugin": generation.manifest().id, "plugin_version": generation.version(),
        "plugin_file": generation.file(),
        "in_flight": in_flight, "in_flight_max": in_flight_max,
        "oldest_in_flight_ms": state.oldest_in_flight_ms,
        "shares": shares,
        "drained": state.drained.as_ref().map(held),
        "trips": trips,
        "maintenance_until": state.maintenance_until_ms.map(answer::time),
        "paused_ms": state.paused_ms,
        "pace": 1.0 / f64::from(1_u32 << state.pace_halved),
        "conversion": conversion,
        "unread_share": state.unread_share,
        "notification_lag_ms": state.notification_lag_ms,
        "alarms": state.alarms.iter().map(|alarm| alarm.as_str()).collect::<Vec<_>>(),
        "breakers": breakers,
    })
}

fn held(hold: &Hold) -> Value {
    json!({
        "reason": hold.reason, "operator": hold.by, "token": hold.token,
        "since": answer::time(hold.since_ms), "until": hold.until_ms.map(answer::time),
    })
}
