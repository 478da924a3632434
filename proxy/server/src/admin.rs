//! The operators' door, on loopback: probes, metrics, what is true of accounts and payments, and
//! the few things that a person may do about a payment in doubt.
//!
//! A sick provider never makes the proxy unready: that would take the whole checkout away.

mod accounts;
mod explain;
pub mod guard;
mod overview;
mod reconciliations;
mod reload;
mod webhooks;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use http::Method as Verb;
use interlock_engine::{ExchangeKind, Input, OperationState, Payment, Subject, Verdict, status};
use interlock_journal::{Health as JournalHealth, ListQuery};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::driver::{Beside, Driver, Moved, decode};
use crate::front_door::{FrontDoor, Handler, Request, Response};
use crate::health::Health;
use crate::merchant_api::{Problem, answer};
use crate::reconcile::Reconciler;
use crate::reload::Reloader;
use crate::restoration::Restoration;
use crate::setup::Setup;
use interlock_plugin_host::PluginHost;

/// Rows of one list.
const LIST_MAX: usize = 500;
/// Lines of one timeline.
const TIMELINE_MAX: usize = 10_000;
/// Pages of doubts that one scrape counts.
const DOUBT_PAGES_MAX: usize = 20;
/// Characters of a person's evidence.
const EVIDENCE_MAX: usize = 500;

/// The operators' door: a look into every room.
pub struct Admin {
    /// Puts what operators decide through the engine.
    pub driver: Arc<Driver>,
    /// What was set by hand.
    pub health: Arc<Health>,
    /// The plugins.
    pub host: Arc<PluginHost>,
    /// Takes up another configuration.
    pub reloader: Arc<Reloader>,
    /// Statements beside the journal.
    pub reconciler: Arc<Reconciler>,
    /// Of a journal that was restored.
    pub restoration: Option<Arc<Restoration>>,
    /// Its counts are shown.
    pub merchants_door: FrontDoor,
}

#[async_trait]
impl Handler for Admin {
    async fn handle(&self, request: Request) -> Response {
        let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        let answered = match (&request.method, &parts[..]) {
            (&Verb::GET, ["livez" | "startupz"]) => Ok(Response::text(200, "ok")),
            (&Verb::GET, ["readyz"]) => Ok(self.readiness()),
            (&Verb::GET, ["metrics"]) => self.metrics().await,
            (&Verb::GET, ["admin", "v1", "status"]) => self.status().await,
            (&Verb::GET, ["admin", "v1", "accounts"]) => Ok(self.accounts()),
            (&Verb::POST, ["admin", "v1", "explain"]) => self.explain(&request),
            (&Verb::GET, ["admin", "v1", "plugins"]) => Ok(self.plugins()),
            (&Verb::GET, ["admin", "v1", "accounts", name]) => self.account(name),
            (&Verb::POST, ["admin", "v1", "accounts", name, "probe"]) => self.probe(name).await,
            (&Verb::POST, ["admin", "v1", "accounts", name, verb]) => {
                self.act(name, verb, &request).await
            }
            (&Verb::POST, ["admin", "v1", "reload"]) => self.reload(&request).await,
            (&Verb::POST, ["admin", "v1", "reload", "promote"]) => self.promote(&request).await,
            (&Verb::POST, ["admin", "v1", "reload", "roll-back"]) => self.roll_back(&request).await,
            (&Verb::GET, ["admin", "v1", "audit"]) => Ok(self.audit().await),
            (&Verb::GET, ["admin", "v1", "payments"]) => self.list(&request).await,
            (&Verb::GET, ["admin", "v1", "payments", id]) => self.show(id).await,
            (&Verb::GET, ["admin", "v1", "payments", id, "timeline"]) => self.timeline(id).await,
            (&Verb::POST, ["admin", "v1", "payments", id, "recheck"]) => self.recheck(id).await,
            (&Verb::POST, ["admin", "v1", "payments", id, "resolve"]) => {
                self.resolve(id, &request).await
            }
            (&Verb::POST, ["admin", "v1", "reconciliations"]) => self.reconcile(&request),
            (&Verb::GET, ["admin", "v1", "reconciliations"]) => Ok(self.reconciliations()),
            (&Verb::GET, ["admin", "v1", "reconciliations", id]) => self.reconciliation(id),
            (&Verb::POST, ["admin", "v1", "reconciliations", id, "pieces"]) => {
                self.piece(id, &request).await
            }
            (&Verb::GET, ["admin", "v1", "cases"]) => self.cases(&request).await,
            (&Verb::GET, ["admin", "v1", "cases", id]) => self.case(id).await,
            (&Verb::POST, ["admin", "v1", "cases", id, "close"]) => {
                self.close_case(id, &request).await
            }
            (&Verb::GET, ["admin", "v1", "webhooks"]) => self.webhooks(&request).await,
            (&Verb::POST, ["admin", "v1", "webhooks", id, "redeliver"]) => {
                self.redeliver(id, &request).await
            }
            (&Verb::POST, ["admin", "v1", "webhooks", merchant, "resume"]) => {
                self.resume_webhook(merchant, &request).await
            }
            _ => Err(Problem::not_found("resource")),
        };
        answered.unwrap_or_else(|p| p.response(&request.path, &request.request_id))
    }
}

type Answered = Result<Response, Problem>;

/// What a person says about a payment in doubt.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResolveBody {
    /// `succeeded`: the money moved; `failed`: none did.
    outcome: String,
    /// Why this is true.
    reason: String,
    /// Who says so.
    operator: String,
    /// The provider's number, when the money moved.
    #[serde(default)]
    provider_ref: Option<String>,
    /// The attempt's or operation's id, when more than one is in doubt.
    #[serde(default)]
    subject: Option<String>,
}

impl Admin {
    fn readiness(&self) -> Response {
        let reason = match self.driver.store.health() {
            JournalHealth::Failed(reason) => Some(format!("journal failed: {reason}")),
            _ if self.restoration.as_ref().is_some_and(|r| !r.is_open()) => {
                Some("the journal is being restored".to_owned())
            }
            _ if !self.host.healthy() => Some("plugin threads are stuck".to_owned()),
            // With little disk new payments are refused one by one, and outcomes still pass.
            _ => None,
        };
        match reason {
            None => Response::text(200, "ready"),
            Some(reason) => Response::text(503, reason),
        }
    }

    async fn metrics(&self) -> Answered {
        let now = self.driver.clock.now();
        let metrics = &self.driver.metrics;
        let setup = self.driver.setup();
        for (name, account) in &setup.open {
            if let Some(state) = setup.gates.state(name, now) {
                metrics.gate(name, &state);
            }
            let generation = account.instance.generation();
            let id = generation.manifest().id.as_str();
            metrics.account(name, Some((id, generation.version(), generation.abi())));
            metrics.panics(id, generation.number(), generation.counters().panics);
        }
        for name in setup.disabled.keys() {
            metrics.account(name, None);
        }
        let stats = self.driver.store.stats().await;
        let stats = stats.map_err(|e| Problem::of_failure(&e.into()))?;
        let doubts = self.doubts_by_account(stats.in_doubt).await?;
        metrics.journal(&stats, &doubts, now.wall_ms);
        let headers = vec![("Content-Type", "text/plain; version=0.0.4".to_owned())];
        Ok(Response { headers, ..Response::text(200, metrics.text()) })
    }

    async fn doubts_by_account(&self, any: u64) -> Result<BTreeMap<String, i64>, Problem> {
        let mut counts: BTreeMap<String, i64> =
            self.driver.setup().open.keys().map(|name| (name.clone(), 0)).collect();
        let mut query = ListQuery { in_doubt: Some(true), limit: LIST_MAX, ..ListQuery::default() };
        for _ in 0..if any == 0 { 0 } else { DOUBT_PAGES_MAX } {
            let page = self.driver.store.list(query.clone()).await;
            let page = page.map_err(|e| Problem::of_failure(&e.into()))?;
            // Whose doubts they are nobody can say, so they are missed here, but not silently.
            page.damaged.iter().for_each(|_| self.driver.metrics.unreadable());
            for account in page.rows.iter().filter_map(|row| row.account.as_ref()) {
                if let Some(count) = counts.get_mut(account) {
                    *count += 1;
                }
            }
            match page.next {
                Some(next) => query.cursor = Some(next),
                None => break,
            }
        }
        Ok(counts)
    }

    fn plugins(&self) -> Response {
        let in_force = &self.driver.in_force;
        let canary = in_force.canary().map(|canary| Arc::clone(&canary.setup));
        let setup = self.driver.setup();
        let plugins: Vec<Value> = self
            .host
            .generations()
            .iter()
            .map(|g| {
                let of = |setup: &Setup| -> Vec<String> {
                    let accounts = setup.open.values();
                    let accounts =
                        accounts.filter(|a| a.instance.generation().number() == g.number());
                    accounts.map(|a| a.name.clone()).collect()
                };
                let loaded_ms = g.since().elapsed().as_millis();
                let (major, minor) = g.abi();
                let c = g.counters();
                json!({
                    "name": g.manifest().id, "version": g.version(), "file": g.file(),
                    "abi": format!("{major}.{minor}"), "sha256": hex::encode(g.sha256()),
                    "generation": g.number(),
                    "loaded_ms": u64::try_from(loaded_ms).unwrap_or(u64::MAX),
                    "accounts": of(&setup),
                    "canary_accounts": canary.as_deref().map(of).unwrap_or_default(),
                    "quarantine": g.quarantine().map(|q| q.reason.as_str()),
                    "calls": c.calls, "panics": c.panics, "timeouts": c.timeouts,
                    "soft_overruns": c.soft_overruns, "faults": c.faults, "deaths": c.deaths,
                    "isolation": if g.is_apart() { "process" } else { "in-process" },
                })
            })
            .collect();
        Response::json(200, json!({ "plugins": plugins }).to_string())
    }

    async fn list(&self, request: &Request) -> Answered {
        let mut list = ListQuery { limit: 100, ..ListQuery::default() };
        let query = request.query.as_deref().unwrap_or("");
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "in_doubt" => list.in_doubt = Some(value == "true"),
                "status" => list.status = Some(value.into_owned()),
                "account" => list.account = Some(value.into_owned()),
                "merchant_ref" => list.merchant_ref = Some(value.into_owned()),
                "limit" => list.limit = value.parse().unwrap_or(100).clamp(1, LIST_MAX),
                _ => return Err(Problem::invalid("query", "unknown parameter")),
            }
        }
        let page = self.driver.store.list(list).await;
        let page = page.map_err(|e| Problem::of_failure(&e.into()))?;
        let now_ms = self.driver.clock.now().wall_ms;
        let (payments, unreadable) = self.driver.readable(&page);
        let data: Vec<Value> =
            payments.iter().map(|(p, due_at_ms)| self.summary(p, *due_at_ms, now_ms)).collect();
        let body = json!({
            "object": "list", "data": data, "unreadable": unreadable,
            "has_more": page.next.is_some(),
        });
        Ok(Response::json(200, body.to_string()))
    }

    fn summary(&self, p: &Payment, due_at_ms: Option<i64>, now_ms: i64) -> Value {
        let mut body = answer::payment(p, &self.driver.setup().policy);
        if let Value::Object(members) = &mut body {
            members.insert("merchant".into(), p.merchant.as_str().into());
            members.insert("in_doubt".into(), status::in_doubt(p).into());
            members.insert("age_ms".into(), (now_ms - p.created_ms).into());
            members.insert("next_look_in_ms".into(), due_at_ms.map(|at| at - now_ms).into());
            let doubts: Vec<Value> = doubts(p)
                .into_iter()
                .map(|(_, id, what)| json!({ "subject": id, "what": what }))
                .collect();
            members.insert("doubts".into(), doubts.into());
        }
        body
    }

    async fn show(&self, id: &str) -> Answered {
        let row = self.driver.store.payment(id).await;
        let row = row.map_err(|e| Problem::of_failure(&e.into()))?;
        let row = row.ok_or_else(|| Problem::not_found("payment"))?;
        let p = decode(id, &row.body).map_err(|e| Problem::of_failure(&e))?;
        let now_ms = self.driver.clock.now().wall_ms;
        let mut body = self.summary(&p, row.due_at_ms, now_ms);
        if let Value::Object(members) = &mut body {
            let operations: Vec<Value> = p
                .operations
                .iter()
                .map(|o| {
                    json!({
                        "id": o.id, "kind": o.kind.as_str(), "amount": o.amount,
                        "state": o.state.as_str(), "origin": o.origin, "op_id": o.op_id,
                        "provider_ref": o.operation_ref, "manual": o.manual,
                    })
                })
                .collect();
            members.insert("operations".into(), operations.into());
            members.insert("version".into(), p.ver.into());
        }
        Ok(Response::json(200, body.to_string()))
    }

    async fn timeline(&self, id: &str) -> Answered {
        let rows = self.driver.store.timeline(id, 0, TIMELINE_MAX).await;
        let rows = rows.map_err(|e| Problem::of_failure(&e.into()))?;
        if rows.is_empty() {
            return Err(Problem::not_found("payment"));
        }
        let data: Vec<Value> = rows.iter().map(answer::event).collect();
        let body = json!({ "object": "list", "payment": id, "data": data });
        Ok(Response::json(200, body.to_string()))
    }

    async fn recheck(&self, id: &str) -> Answered {
        let moved = self.driver.put(id, Input::Refresh, Beside::default()).await;
        match moved.map_err(|e| Problem::of_failure(&e))? {
            Moved::Refused(refusal) => Err(Problem::of_refusal(&refusal, None)),
            moved => {
                let asked = matches!(moved, Moved::To(_));
                Ok(Response::json(202, json!({ "payment": id, "asked": asked }).to_string()))
            }
        }
    }

    async fn resolve(&self, id: &str, request: &Request) -> Answered {
        let body: ResolveBody = serde_json::from_slice(&request.body).map_err(|_| {
            let detail = "expected outcome, reason, operator, and maybe provider_ref, subject";
            Problem::invalid("body", detail)
        })?;
        let moved = match body.outcome.as_str() {
            "succeeded" => true,
            "failed" => false,
            _ => return Err(Problem::unprocessable("outcome", "use `succeeded` or `failed`")),
        };
        for (param, text) in [("reason", &body.reason), ("operator", &body.operator)] {
            if text.trim().is_empty() || text.chars().count() > EVIDENCE_MAX {
                let detail = format!("must be 1 to {EVIDENCE_MAX} characters");
                return Err(Problem::unprocessable(param, detail));
            }
        }
        if moved && body.provider_ref.as_deref().is_none_or(|r| r.trim().is_empty()) {
            let detail = "give the provider's number of the payment as evidence";
            return Err(Problem::unprocessable("provider_ref", detail));
        }
        let p = self.driver.payment(id).await.map_err(|e| Problem::of_failure(&e))?;
        let p = p.ok_or_else(|| Problem::not_found("payment"))?;
        let open = doubts(&p);
        let wanted = body.subject.as_deref();
        let mut chosen = open.iter().filter(|(_, id, _)| wanted.is_none_or(|w| w == id));
        let (Some((subject, ..)), None) = (chosen.next(), chosen.next()) else {
            let detail = if open.is_empty() {
                "nothing of this payment is in doubt"
            } else {
                "more than one part is in doubt: name it as `subject`"
            };
            return Err(Problem::unprocessable("subject", detail));
        };
        let verdict = Verdict {
            subject: *subject,
            moved,
            provider_ref: body.provider_ref,
            evidence: body.reason,
            operator: guard::who(&body.operator, request.token.as_deref()),
        };
        let input = Input::Operator(verdict);
        let moved = self.driver.put(id, input, Beside::default()).await;
        match moved.map_err(|e| Problem::of_failure(&e))? {
            Moved::Refused(refusal) => Err(Problem::of_refusal(&refusal, None)),
            _ => self.show(id).await,
        }
    }
}

/// What a person may resolve: attempts and operations that are open, by their ids.
fn doubts(p: &Payment) -> Vec<(Subject, String, String)> {
    let attempts = p.attempts.iter().enumerate().filter(|(_, a)| {
        !a.state.is_over() && !a.state.is_success() && a.state.as_str() != "started"
    });
    let operations = p
        .operations
        .iter()
        .enumerate()
        .filter(|(_, o)| o.state.is_open() && o.state != OperationState::Started);
    let attempt_words =
        |a: &interlock_engine::Attempt| format!("{} at {}", a.state.as_str(), a.account);
    let operation_words =
        |kind: ExchangeKind, state: OperationState| format!("{} {}", kind.as_str(), state.as_str());
    attempts
        .map(|(n, a)| (Subject::Attempt(n), a.id.clone(), attempt_words(a)))
        .chain(
            operations.map(|(n, o)| {
                (Subject::Operation(n), o.id.clone(), operation_words(o.kind, o.state))
            }),
        )
        .collect()
}
