//! `POST /admin/v1/reload`: another configuration while payments go on, and what becomes of a
//! canary.

use serde::Deserialize;
use serde_json::{Value, json};

use super::guard::who;
use super::{Admin, Answered, EVIDENCE_MAX};
use crate::config::{self, Diagnostic};
use crate::front_door::{Request, Response};
use crate::merchant_api::{Problem, answer, read_body};
use crate::reload::{CanaryWish, Kept, Reloaded};
use crate::setup::Tally;

/// How long a canary is looked at when nobody says so, ms.
const CANARY_FOR_MS: u64 = 600_000;
/// The longest that it may be asked for, ms.
const CANARY_MAX_MS: u64 = 7 * 24 * 3_600_000;

/// Who wants it, and how.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadBody {
    /// Who.
    operator: String,
    /// A part of the new payments first.
    #[serde(default)]
    canary: Option<CanaryBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CanaryBody {
    /// More than 0 and less than 1.
    share: f64,
    /// For at least so long, ms.
    #[serde(default)]
    for_ms: Option<u64>,
}

impl Admin {
    /// Takes up the configuration file as it is now.
    pub(super) async fn reload(&self, request: &Request) -> Answered {
        let body: ReloadBody = read_body(&request.body)?;
        let by = by(&body.operator, request)?;
        let canary = body.canary.map(|canary| {
            if !(canary.share > 0.0 && canary.share < 1.0) {
                let detail = "must be more than 0 and less than 1";
                return Err(Problem::unprocessable("canary.share", detail));
            }
            let for_ms = canary.for_ms.unwrap_or(CANARY_FOR_MS);
            if !(1..=CANARY_MAX_MS).contains(&for_ms) {
                let detail = format!("must be 1 to {CANARY_MAX_MS}");
                return Err(Problem::unprocessable("canary.for_ms", detail));
            }
            Ok(CanaryWish { share: canary.share, for_ms })
        });
        let done = self.reloader.reload(canary.transpose()?, Some(by)).await;
        let done = done.map_err(|kept| self.not_done(&kept))?;
        Ok(Response::json(200, reloaded(&done).to_string()))
    }

    /// Puts the canary into force for all.
    pub(super) async fn promote(&self, request: &Request) -> Answered {
        let body: ReloadBody = read_body(&request.body)?;
        let by = by(&body.operator, request)?;
        let done = self.reloader.promote(Some(by), "by hand").await;
        let generation = done.map_err(|kept| self.not_done(&kept))?;
        let body = json!({ "generation": generation, "result": "promoted" });
        Ok(Response::json(200, body.to_string()))
    }

    /// Ends the canary.
    pub(super) async fn roll_back(&self, request: &Request) -> Answered {
        let body: ReloadBody = read_body(&request.body)?;
        let by = by(&body.operator, request)?;
        let done = self.reloader.roll_back(Some(by)).await;
        let generation = done.map_err(|kept| self.not_done(&kept))?;
        let body = json!({ "generation": generation, "result": "rolled_back" });
        Ok(Response::json(200, body.to_string()))
    }

    fn not_done(&self, kept: &Kept) -> Problem {
        let running = self.driver.setup().generation;
        let found: &[Diagnostic] = match kept {
            Kept::Findings(found) => found,
            Kept::Canary | Kept::NoCanary => &[],
        };
        let errors: Vec<Diagnostic> = found.iter().filter(|d| d.is_error()).cloned().collect();
        let detail = format!("{}; generation {running} goes on", kept.why());
        Problem::not_reloaded(!found.is_empty(), detail)
            .with("generation", running)
            .with("findings", serde_json::to_value(found).unwrap_or_default())
            .with("rendered", config::render(&errors, false))
    }

    /// What became of the last reload; null when there was none.
    pub(super) fn reload_told(&self) -> Value {
        let Some(told) = self.driver.in_force.told() else { return Value::Null };
        json!({
            "at": answer::time(told.at_ms), "result": told.result, "generation": told.generation,
            "by": told.by, "why": told.why,
        })
    }

    /// The canary under way; null when there is none.
    pub(super) fn canary_told(&self) -> Value {
        let Some(canary) = self.driver.in_force.canary() else { return Value::Null };
        let now = self.driver.clock.now();
        let for_ms = now.mono_ms.saturating_sub(canary.began.mono_ms);
        let tally = |t: Tally| json!({ "exchanges": t.all, "bad": t.bad });
        let accounts: Vec<Value> = canary
            .tallies()
            .into_iter()
            .map(|(name, (before, canary))| {
                json!({ "name": name, "canary": tally(canary), "before": tally(before) })
            })
            .collect();
        json!({
            "generation": canary.setup.generation, "share": canary.share,
            "since": answer::time(canary.began.wall_ms),
            "left_ms": canary.for_ms.saturating_sub(for_ms), "accounts": accounts,
        })
    }
}

fn by(operator: &str, request: &Request) -> Result<String, Problem> {
    if operator.trim().is_empty() || operator.chars().count() > EVIDENCE_MAX {
        let detail = format!("must be 1 to {EVIDENCE_MAX} characters");
        return Err(Problem::unprocessable("operator", detail));
    }
    Ok(who(operator, request.token.as_deref()))
}

fn reloaded(done: &Reloaded) -> Value {
    json!({
        "generation": done.generation,
        "result": if done.as_canary { "canary" } else { "loaded" },
        "accounts": {
            "added": done.accounts.added, "changed": done.accounts.changed,
            "kept": done.accounts.kept, "removed": done.accounts.removed,
        },
        "warnings": done.warnings, "needs_restart": done.needs_restart,
    })
}
