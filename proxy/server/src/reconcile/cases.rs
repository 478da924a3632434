//! Every difference is a case: found once, found again, booked, closed, each with its time.

use interlock_journal::{CaseQuery, CaseRow, Store, StoreError};
use interlock_plugin_api::{Covers, StatementLine};
use ring::digest;
use serde::{Deserialize, Serialize};

use super::books::Kind;

/// Entries of one timeline; of a longer one the middle goes.
const TIMELINE_MAX: usize = 64;
/// How often a case is read again after somebody else has written it.
const RACES_MAX: usize = 8;
/// Who finds and books.
const RECONCILIATION: &str = "reconciliation";

/// What a case holds beside its row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// The provider's line, in its minor units; none when it is missing.
    pub theirs: Option<StatementLine>,
    /// What we say.
    pub ours: Option<Ours>,
    /// What the statement covers in which it was found last.
    #[serde(default)]
    pub covers: Option<Covers>,
    /// A person closed it: it stays closed when it is found again.
    #[serde(default)]
    pub settled: bool,
    /// What became of it.
    pub timeline: Vec<Entry>,
}

/// Our side of a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ours {
    /// The attempt's or operation's id, or the payment's.
    pub id: String,
    /// Minor units of ISO 4217.
    pub amount: Option<i64>,
    /// Its currency.
    pub currency: String,
    /// The payment's status.
    pub status: String,
}

/// One entry of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Unix ms.
    pub at_ms: i64,
    /// Who.
    pub actor: String,
    /// What.
    pub what: String,
}

/// A difference as a run has found it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The account.
    pub account: String,
    /// The provider's day.
    pub date: String,
    /// In which way the books differ.
    pub kind: Kind,
    /// The payment, if one is known.
    pub payment: Option<String>,
    /// The provider's line.
    pub theirs: Option<StatementLine>,
    /// Our side.
    pub ours: Option<Ours>,
    /// What the statement covers.
    pub covers: Option<Covers>,
    /// What the engine made of it, if it took it in: then nobody needs to look.
    pub booked: Option<String>,
}

impl Found {
    /// The same difference is the same case, in every run.
    pub fn id(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut add = |part: Option<&str>| {
            context.update(part.unwrap_or("\u{0}").as_bytes());
            context.update(&[0]);
        };
        for part in [self.account.as_str(), &self.date, self.kind.as_str()] {
            add(Some(part));
        }
        match &self.theirs {
            Some(line) => {
                for part in [&line.number, &line.provider_ref, &line.operation, &line.operation_ref]
                {
                    add(part.as_deref());
                }
            }
            None => add(self.ours.as_ref().map(|ours| ours.id.as_str())),
        }
        let digest = hex::encode(context.finish());
        format!("case_{}", digest.get(..26).unwrap_or_default())
    }
}

/// Writes down a difference; the case's id, and whether a person has settled it already.
///
/// # Errors
/// The journal's.
pub async fn found(
    store: &dyn Store,
    found: &Found,
    now_ms: i64,
) -> Result<(String, bool), StoreError> {
    let id = found.id();
    for _ in 0..RACES_MAX {
        let before = store.case(&id).await?;
        let mut body = before.as_ref().map_or_else(Body::default, |row| read(&row.body));
        body.theirs.clone_from(&found.theirs);
        body.ours.clone_from(&found.ours);
        body.covers = found.covers;
        let what = if before.is_some() { "found again" } else { "found" };
        let mut say = |what: &str| {
            let (actor, what) = (RECONCILIATION.to_owned(), what.to_owned());
            push(&mut body, Entry { at_ms: now_ms, actor, what });
        };
        say(what);
        if let Some(booked) = &found.booked {
            say(booked);
        }
        let row = CaseRow {
            id: id.clone(),
            ver: before.as_ref().map_or(1, |row| row.ver + 1),
            account: found.account.clone(),
            date: found.date.clone(),
            kind: found.kind.as_str().to_owned(),
            open: found.booked.is_none() && !body.settled,
            payment: found.payment.clone(),
            opened_ms: before.as_ref().map_or(now_ms, |row| row.opened_ms),
            changed_ms: now_ms,
            body: write(&body),
        };
        if store.case_put(row).await? {
            return Ok((id, body.settled));
        }
    }
    Err(StoreError::Busy)
}

/// Closes a case; false when it is not there or closed already.
///
/// # Errors
/// The journal's.
pub async fn close(
    store: &dyn Store,
    id: &str,
    now_ms: i64,
    actor: &str,
    why: &str,
) -> Result<bool, StoreError> {
    for _ in 0..RACES_MAX {
        let Some(row) = store.case(id).await?.filter(|row| row.open) else { return Ok(false) };
        let mut body = read(&row.body);
        body.settled |= actor != RECONCILIATION;
        let what = format!("closed: {why}");
        push(&mut body, Entry { at_ms: now_ms, actor: actor.to_owned(), what });
        let (ver, body) = (row.ver + 1, write(&body));
        let next = CaseRow { ver, open: false, changed_ms: now_ms, body, ..row };
        if store.case_put(next).await? {
            return Ok(true);
        }
    }
    Err(StoreError::Busy)
}

/// Closes the open cases of a day that a run over the whole of it has not found any more. Of two
/// statements of one date, which may be days of two time zones, only one that covers all of the
/// other knows better.
///
/// # Errors
/// The journal's.
pub async fn close_others(
    store: &dyn Store,
    (account, date): (&str, &str),
    covers: Covers,
    still: &std::collections::BTreeSet<String>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let (account, date) = (Some(account.to_owned()), Some(date.to_owned()));
    let mut query = CaseQuery { account, date, open: Some(true), after: 0, limit: 500 };
    loop {
        let page = store.cases(query.clone()).await?;
        let knows_better = |row: &&CaseRow| {
            let within =
                |of: Covers| covers.from_ms <= of.from_ms && of.until_ms <= covers.until_ms;
            !still.contains(&row.id) && read(&row.body).covers.is_none_or(within)
        };
        for row in page.rows.iter().filter(knows_better) {
            close(store, &row.id, now_ms, RECONCILIATION, "both books agree now").await?;
        }
        match page.next {
            Some(next) => query.after = next,
            None => return Ok(()),
        }
    }
}

/// The body of a row; one that can't be read is empty, and the row still says what it is about.
pub fn read(body: &[u8]) -> Body {
    serde_json::from_slice(body).unwrap_or_default()
}

fn write(body: &Body) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}

fn push(body: &mut Body, entry: Entry) {
    if body.timeline.len() >= TIMELINE_MAX {
        body.timeline.remove(TIMELINE_MAX / 2);
    }
    body.timeline.push(entry);
}
