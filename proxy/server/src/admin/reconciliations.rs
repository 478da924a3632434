//! Statements beside the journal, and the cases that come of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_engine::Policy;
use interlock_journal::{CaseQuery, CaseRow};
use interlock_plugin_api::Money;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, Answered, EVIDENCE_MAX, LIST_MAX, guard};
use crate::front_door::{Request, Response};
use crate::merchant_api::{Problem, answer};
use crate::reconcile::{self, PIECE_BYTES_MAX, Refused, Run, Word};

/// What a person wants to have compared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    account: String,
    /// The provider's day, `2026-11-29`.
    date: String,
    /// The statement comes in pieces, instead of from the provider.
    #[serde(default)]
    file: bool,
    /// What such a file says is booked on this word, without asking the provider.
    book: Option<ByHand>,
}

/// A piece of a file: whole lines.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PieceBody {
    /// Base64 (RFC 4648) of at most 64 KiB.
    piece: String,
    /// Nothing follows.
    last: bool,
}

/// Who says something, and why it is true.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByHand {
    reason: String,
    operator: String,
}

impl ByHand {
    fn check(&self) -> Result<(), Problem> {
        for (param, text) in [("reason", &self.reason), ("operator", &self.operator)] {
            if text.trim().is_empty() || text.chars().count() > EVIDENCE_MAX {
                let detail = format!("must be 1 to {EVIDENCE_MAX} characters");
                return Err(Problem::unprocessable(param, detail));
            }
        }
        Ok(())
    }
}

impl Admin {
    pub(super) fn reconcile(&self, request: &Request) -> Answered {
        let wanted: Wanted = serde_json::from_slice(&request.body)
            .map_err(|_| Problem::invalid("body", "expected account, date, maybe file and book"))?;
        let (account, date) = (wanted.account.as_str(), wanted.date.as_str());
        let word = match &wanted.book {
            None => Word::Nobody,
            Some(_) if !wanted.file => {
                let detail = "only a file is booked by hand: the provider's own word counts itself";
                return Err(Problem::unprocessable("book", detail));
            }
            Some(book) => {
                book.check()?;
                let name = guard::who(&book.operator, request.token.as_deref());
                tracing::warn!(account, date, name, "a statement's file is booked by hand");
                Word::Operator { name, reason: book.reason.clone() }
            }
        };
        let begun = match wanted.file {
            true => self.reconciler.receive(account, date, word),
            false => self.reconciler.download(account, date),
        };
        let run = begun.map_err(|refused| match refused {
            Refused::NoAccount => Problem::unprocessable("account", "no such account serves"),
            Refused::Wrong(param, detail) => Problem::unprocessable(param, detail),
            Refused::Busy(id) => {
                let detail = format!("a statement of this account is being read: {id}");
                Problem::unprocessable("account", detail)
            }
        })?;
        tracing::info!(account, date, token = request.token.as_deref(), "reconciliation begins");
        Ok(Response::json(201, shown(&run).to_string()))
    }

    pub(super) async fn piece(&self, id: &str, request: &Request) -> Answered {
        let body: PieceBody = serde_json::from_slice(&request.body)
            .map_err(|_| Problem::invalid("body", "expected piece and last"))?;
        let piece = BASE64.decode(&body.piece).ok();
        let piece = piece.filter(|piece| piece.len() <= PIECE_BYTES_MAX).ok_or_else(|| {
            Problem::unprocessable("piece", format!("base64 of at most {PIECE_BYTES_MAX} bytes"))
        })?;
        let run = self.reconciler.piece(id, piece.into(), body.last).await;
        let run = run.ok_or_else(|| Problem::not_found("reconciliation that takes a file"))?;
        Ok(Response::json(200, shown(&run).to_string()))
    }

    pub(super) fn reconciliation(&self, id: &str) -> Answered {
        let run = self.reconciler.run(id).ok_or_else(|| Problem::not_found("reconciliation"))?;
        Ok(Response::json(200, shown(&run).to_string()))
    }

    pub(super) fn reconciliations(&self) -> Response {
        let data: Vec<Value> = self.reconciler.all().iter().map(|run| shown(run)).collect();
        Response::json(200, json!({ "object": "list", "data": data }).to_string())
    }

    pub(super) async fn cases(&self, request: &Request) -> Answered {
        let mut wanted = CaseQuery { limit: 100, ..CaseQuery::default() };
        let query = request.query.as_deref().unwrap_or("");
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "account" => wanted.account = Some(value.into_owned()),
                "date" => wanted.date = Some(value.into_owned()),
                "open" => wanted.open = Some(value == "true"),
                "after" => wanted.after = value.parse().unwrap_or(0),
                "limit" => wanted.limit = value.parse().unwrap_or(100).clamp(1, LIST_MAX),
                _ => return Err(Problem::invalid("query", "unknown parameter")),
            }
        }
        let found = self.driver.store.cases(wanted).await;
        let found = found.map_err(|e| Problem::of_failure(&e.into()))?;
        found.damaged.iter().for_each(|_| self.driver.metrics.unreadable());
        let setup = self.driver.setup();
        let data: Vec<Value> = found.rows.iter().map(|row| case(&setup.policy, row)).collect();
        let body = json!({
            "object": "list", "data": data, "unreadable": found.damaged, "next": found.next,
        });
        Ok(Response::json(200, body.to_string()))
    }

    pub(super) async fn case(&self, id: &str) -> Answered {
        let row = self.driver.store.case(id).await.map_err(|e| Problem::of_failure(&e.into()))?;
        let row = row.ok_or_else(|| Problem::not_found("case"))?;
        Ok(Response::json(200, case(&self.driver.setup().policy, &row).to_string()))
    }

    pub(super) async fn close_case(&self, id: &str, request: &Request) -> Answered {
        let body: ByHand = serde_json::from_slice(&request.body)
            .map_err(|_| Problem::invalid("body", "expected reason and operator"))?;
        body.check()?;
        let actor = guard::who(&body.operator, request.token.as_deref());
        let (store, now_ms) = (&*self.driver.store, self.driver.clock.now().wall_ms);
        let closed = reconcile::close_case(store, id, now_ms, &actor, &body.reason).await;
        let closed = closed.map_err(|e| Problem::of_failure(&e.into()))?;
        if closed {
            tracing::warn!(id, actor, "a case is closed by hand");
        }
        self.case(id).await
    }
}

fn shown(run: &Run) -> Value {
    let tally = run.tally();
    let covers = tally.covers.map(|covers| {
        json!({ "from": answer::time(covers.from_ms), "until": answer::time(covers.until_ms) })
    });
    json!({
        "object": "reconciliation", "id": run.id, "account": run.account, "date": run.date,
        "status": tally.status, "started": answer::time(run.started_ms),
        "lines": tally.lines, "bytes": tally.bytes, "agrees": tally.agrees,
        "pending": tally.pending, "ignored": tally.ignored, "settled": tally.settled,
        "differences": tally.differences,
        "differ": tally.differ(), "booked": tally.booked, "at_the_edges": tally.at_the_edges,
        "covers": covers, "error": tally.error,
    })
}

/// A case; amounts in minor units of ISO 4217, null when the account's own are not known any more.
fn case(policy: &Policy, row: &CaseRow) -> Value {
    let body = reconcile::read_case(&row.body);
    let account = policy.accounts.get(&row.account);
    let theirs = body.theirs.map(|line| {
        let Money { currency, amount } = line.amount;
        let amount = account.and_then(|account| account.iso_amount(currency, amount));
        json!({
            "at": line.at_ms.map(answer::time), "number": line.number,
            "provider_ref": line.provider_ref, "operation": line.operation,
            "operation_ref": line.operation_ref, "amount": amount,
            "currency": currency, "state": line.state,
        })
    });
    let timeline: Vec<Value> = body
        .timeline
        .iter()
        .map(|e| json!({ "at": answer::time(e.at_ms), "actor": e.actor, "what": e.what }))
        .collect();
    json!({
        "object": "case", "id": row.id, "account": row.account, "date": row.date,
        "kind": row.kind, "open": row.open, "payment": row.payment,
        "opened": answer::time(row.opened_ms), "changed": answer::time(row.changed_ms),
        "theirs": theirs, "ours": body.ours, "timeline": timeline,
    })
}
