//! `run --restored`: the journal is a backup, and what came after it is known to the providers
//! alone (SAFETY 2.9).
//!
//! The node waits until nothing that was sent before can arrive any more. Then it takes what the
//! providers have: their statements as far as they are made, and their answers about every payment
//! that the backup left open. Until each of these has heard it, nothing goes through the driver.
//!
//! A payment whose row is gone comes back when its merchant asks with the same key. So a key that
//! the journal does not know is taken for new only when no provider knows its numbers: they are
//! asked, or have given statements that reach over the gap.

mod asking;
mod gather;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use interlock_engine::restored::later_numbers;
use interlock_engine::{Input, Line, Stamp, Statement};
use interlock_journal::Store;
use interlock_plugin_api::Operation;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::driver::{Beside, DriveError, Driver};
use crate::merchant_api::answer;
use crate::reconcile::{Reader, Reconciler, Run, Word, position_while};
use crate::setup::{OpenAccount, Setup};
use asking::Lost;
use gather::Gathering;

/// The name of what is known of a restoration in the journal.
const SETTING: &str = "restoration";
/// Payments that are asked about side by side.
const AT_ONCE: usize = 16;
/// How long a payment that could not hear is let be.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How often it is asked about before what is known then has to do.
const ASKED_MAX: u32 = 3;
/// A provider that has not made its statement yet is asked again after this, and after twice as
/// long each time.
const STATEMENT_AFTER: Duration = Duration::from_secs(5);
/// But not more rarely than so.
const STATEMENT_EVERY: Duration = Duration::from_secs(3_600);
/// How often runs are looked at that have ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// No day on earth begins earlier or later than this beside UTC, hours.
const ZONES_HOURS: i64 = 14;
/// Providers do not answer for more, ms.
const GAP_MAX_MS: i64 = 92 * 24 * 3_600_000;
/// Open payments of one page.
const PAGE: usize = 10_000;

/// What an operator says when he starts a restored journal.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// When the backup was made, Unix ms; the latest moment that the journal knows when absent.
    pub backup_ms: Option<i64>,
    /// Accounts that nobody can ask: he has looked himself.
    pub unasked: Vec<String>,
}

/// What is durable of a restoration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// When the backup was made, Unix ms.
    backup_ms: i64,
    /// When the first process after it began, Unix ms: what was sent before had left by then.
    began_ms: i64,
    /// Every open payment has heard its provider.
    heard: bool,
    /// The accounts of then.
    accounts: BTreeMap<String, Reach>,
}

/// How much of the gap is known at an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reach {
    /// Statements were read without a hole until then, Unix ms.
    through_ms: i64,
    /// Nobody can ask it, and an operator knows that.
    unasked: bool,
    /// It gives statements; what gives none is asked for each key that the journal does not know.
    statements: bool,
}

impl Mark {
    /// Takes over how far a run reaches; true when that is further than before.
    fn reaches(&mut self, run: &Run) -> bool {
        let covers = match &*run.tally() {
            // A file on nobody's word may lack what was taken, and what is not decided yet may
            // still be a charge.
            tally if tally.status == "done" && run.word != Word::Nobody && tally.undecided == 0 => {
                tally.covers
            }
            _ => None,
        };
        let (Some(covers), Some(reach)) = (covers, self.accounts.get_mut(&run.account)) else {
            return false;
        };
        let until_ms = covers.until_ms.min(run.started_ms);
        let further = covers.from_ms <= reach.through_ms && until_ms > reach.through_ms;
        if further {
            reach.through_ms = until_ms;
        }
        further
    }

    fn is_covered(&self, account: &str) -> bool {
        self.accounts.get(account).is_some_and(|reach| reach.through_ms >= self.began_ms)
    }

    /// A statement may still come.
    fn is_owed(&self) -> bool {
        let comes = |reach: &Reach| reach.statements && reach.through_ms < self.began_ms;
        self.accounts.values().any(comes)
    }

    /// No statement is waited for.
    fn all_covered(&self) -> bool {
        let waits = |reach: &Reach| reach.statements && !reach.unasked;
        self.accounts.values().all(|reach| !waits(reach) || reach.through_ms >= self.began_ms)
    }
}

/// Where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Waiting { until_ms: i64 },
    Statements { account: String, date: String },
    Payments { heard: usize, all: usize },
    Open,
}

/// A restoration that goes on, or that has ended and is remembered for unknown keys.
pub struct Restoration {
    driver: Arc<Driver>,
    reader: Reader,
    mark: Mutex<Mark>,
    phase: Mutex<Phase>,
    lost: Mutex<Lost>,
    /// When this process began: nothing was sent by it before.
    since: Stamp,
}

impl Restoration {
    /// Begins when an operator says so, or goes on with one that is not over. Nothing goes through
    /// the driver until it is open.
    ///
    /// # Errors
    /// The journal failed, or there are accounts that nobody can ask.
    pub async fn begin(
        driver: &Arc<Driver>,
        reader: &Reader,
        told: Option<&Told>,
        high_water_ms: i64,
    ) -> Result<Option<Arc<Self>>, String> {
        let kept = driver.store.settings_get(SETTING).await.map_err(|e| e.to_string())?;
        let kept: Option<Mark> = match kept {
            None => None,
            Some(bytes) => Some(serde_json::from_slice(&bytes).map_err(|e| {
                format!("what the journal says of its restoration can't be read: {e}")
            })?),
        };
        let since = Stamp { mono_ms: 0, ..driver.clock.now() };
        let mark = match (told, kept) {
            (None, None) => return Ok(None),
            (None, Some(kept)) => kept,
            (Some(told), kept) => {
                let known_ms = last_event_ms(&*driver.store).await?.max(high_water_ms);
                begun(&driver.setup(), told, kept, known_ms, since)?
            }
        };
        let heard = mark.heard;
        let (reader, phase) = (reader.clone(), if heard { Phase::Open } else { waiting(driver) });
        let driver = Arc::clone(driver);
        let restoration = Self {
            driver,
            reader,
            mark: Mutex::new(mark),
            phase: Mutex::new(phase),
            lost: Mutex::default(),
            since,
        };
        restoration.driver.hold_back(!heard);
        restoration.keep().await.map_err(|e| e.to_string())?;
        restoration.find_lost().await?;
        Ok(Some(Arc::new(restoration)))
    }

    /// Whether payments go on.
    pub fn is_open(&self) -> bool {
        *lock(&self.phase) == Phase::Open
    }

    /// Lets every open payment hear its provider, and opens.
    ///
    /// # Errors
    /// The journal failed.
    pub async fn restore(&self) -> Result<(), DriveError> {
        self.wait().await;
        let open = self.open_payments().await?;
        tracing::warn!(payments = open.len(), "restored: asking the providers");
        let mut lines = self.statements(&open).await;
        let all = open.len();
        self.to(Phase::Payments { heard: 0, all });
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let mut tasks = JoinSet::new();
        for payment in open {
            let stated = lines.remove(&payment).unwrap_or_default();
            let (driver, since) = (Arc::clone(&self.driver), self.since);
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
            tasks.spawn(async move {
                hear(&driver, since, &payment, stated).await;
                drop(permit);
            });
            while tasks.try_join_next().is_some() {
                self.one_more();
            }
        }
        while tasks.join_next().await.is_some() {
            self.one_more();
        }
        lock(&self.mark).heard = true;
        while let Err(error) = self.keep().await {
            tracing::error!(%error, "the end of a restoration is not durable yet");
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        self.to(Phase::Open);
        self.driver.hold_back(false);
        tracing::warn!(payments = all, "restored: open for payments again");
        Ok(())
    }

    /// Reconciles the days of the gap as their statements are made, until they reach over it.
    pub async fn cover(&self, reconciler: &Arc<Reconciler>) {
        if !lock(&self.mark).is_owed() {
            return;
        }
        // When each day may be asked for again, and how long it is let be then.
        let mut rests = HashMap::new();
        while lock(&self.mark).is_owed() {
            self.take_ended(reconciler).await;
            for (account, date) in self.owed() {
                let now = tokio::time::Instant::now();
                let day = (account.clone(), date.clone());
                let (until, wait) = rests.get(&day).copied().unwrap_or((now, STATEMENT_AFTER));
                // One that an operator has begun goes first.
                let busy = |run: &Arc<Run>| run.account == account && run.is_running();
                if now < until || !self.owed().contains(&day) || reconciler.all().iter().any(busy) {
                    continue;
                }
                rests.insert(day.clone(), (now + wait, (2 * wait).min(STATEMENT_EVERY)));
                let before = self.through(&account);
                let Ok(run) = reconciler.download(&account, &date) else { continue };
                while run.is_running() {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                self.take_ended(reconciler).await;
                // A day that was read and reaches no further is over; one that reaches further may
                // be a report that is still being made.
                if run.tally().status == "done" && self.through(&account) == before {
                    rests.insert(day, (now + STATEMENT_EVERY, STATEMENT_EVERY));
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        tracing::warn!("restored: the providers' statements reach over the gap");
    }

    /// For the status.
    pub fn told(&self) -> Value {
        let mark = lock(&self.mark).clone();
        let (phase, more) = match &*lock(&self.phase) {
            Phase::Waiting { until_ms } => ("waiting", json!({ "until": answer::time(*until_ms) })),
            Phase::Statements { account, date } => {
                ("statements", json!({ "account": account, "date": date }))
            }
            Phase::Payments { heard, all } => ("payments", json!({ "heard": heard, "all": all })),
            Phase::Open => ("open", Value::Null),
        };
        let accounts: Vec<Value> = mark
            .accounts
            .iter()
            .map(|(name, reach)| {
                json!({
                    "account": name, "through": answer::time(reach.through_ms),
                    "covered": mark.is_covered(name), "unasked": reach.unasked,
                    "statements": reach.statements,
                })
            })
            .collect();
        json!({
            "phase": phase, "now": more, "backup": answer::time(mark.backup_ms),
            "began": answer::time(mark.began_ms), "covered": mark.all_covered(),
            "accounts": accounts,
        })
    }

    /// Until what was sent before this process began has arrived, or never will.
    async fn wait(&self) {
        let window_ms = window_ms(&self.driver.setup());
        while self.driver.clock.now().mono_ms < window_ms {
            let left = window_ms.saturating_sub(self.driver.clock.now().mono_ms);
            tokio::time::sleep(Duration::from_millis(left.clamp(1, 1_000))).await;
        }
    }

    /// The ids of those that the backup left open.
    async fn open_payments(&self) -> Result<Vec<String>, DriveError> {
        let mut open = Vec::new();
        let mut after = None;
        loop {
            let page = self.driver.store.open(after, PAGE).await?;
            open.extend(page.iter().map(|due| due.payment.clone()));
            after = page.into_iter().next_back();
            if after.is_none() {
                return Ok(open);
            }
        }
    }

    /// What statements say of open payments, as far as the providers have made them.
    async fn statements(&self, open: &[String]) -> HashMap<String, Vec<Line>> {
        let setup = self.driver.setup();
        let mut later = HashMap::new();
        for id in open {
            // One that can't be read now says why when it is to hear.
            let Ok(Some(payment)) = self.driver.payment(id).await else { continue };
            let numbers = later_numbers(&payment, &*self.driver.numbers);
            later.extend(numbers.map(|number| (number, payment.id.clone())));
        }
        let known: HashSet<&str> = open.iter().map(String::as_str).collect();
        let mut lines = HashMap::new();
        for account in setup.open.values() {
            if !account.manifest().offers(Operation::DownloadStatement) {
                continue;
            }
            for date in self.days() {
                let date = date.to_string();
                let (name, id) = (account.name.clone(), format!("restored-{date}"));
                self.to(Phase::Statements { account: name.clone(), date: date.clone() });
                let mut gathering = Gathering::new(&self.driver, account, &known, &later);
                let of = (date.as_str(), id.as_str());
                match self.reader.provider(account, of, &mut gathering).await {
                    Ok(()) => gathering.give(&mut lines),
                    Err(why) => tracing::warn!(account = name, date, why, "no statement yet"),
                }
            }
        }
        lines
    }

    /// The days that may have a part in the gap, wherever they begin.
    fn days(&self) -> Vec<Date> {
        let mark = lock(&self.mark).clone();
        days(mark.backup_ms, mark.began_ms)
    }

    /// Accounts whose statements do not reach over the gap, each with the next day to ask for.
    fn owed(&self) -> Vec<(String, String)> {
        let setup = self.driver.setup();
        let mark = lock(&self.mark).clone();
        let owes = |name: &String| {
            let open = setup.get(name)?;
            let gives = open.manifest().offers(Operation::DownloadStatement);
            let reach = mark.accounts.get(name).filter(|_| gives && !mark.is_covered(name))?;
            let days = days(reach.through_ms, mark.began_ms);
            Some(days.into_iter().map(|day| (name.clone(), day.to_string())).collect::<Vec<_>>())
        };
        mark.accounts.keys().filter_map(owes).flatten().collect()
    }

    fn through(&self, account: &str) -> Option<i64> {
        lock(&self.mark).accounts.get(account).map(|reach| reach.through_ms)
    }

    /// What runs that have ended say of the gap, whoever began them. An account counts as covered
    /// only when what was found there can be looked up: until then its provider is asked.
    async fn take_ended(&self, reconciler: &Reconciler) {
        let mut runs = reconciler.all();
        runs.sort_by_key(|run| run.tally().covers.map(|covers| covers.from_ms));
        let mut mark = lock(&self.mark).clone();
        let mut news = false;
        for run in runs {
            news |= mark.reaches(&run);
        }
        if !news {
            return;
        }
        if let Err(why) = self.find_lost().await {
            tracing::error!(why, "what the statements have found can't be read yet");
            return;
        }
        *lock(&self.mark) = mark;
        if let Err(error) = self.keep().await {
            tracing::error!(%error, "how far the statements reach is not durable yet");
        }
    }

    async fn keep(&self) -> Result<(), DriveError> {
        let bytes = serde_json::to_vec(&*lock(&self.mark)).unwrap_or_default();
        Ok(self.driver.store.settings_put(SETTING, bytes).await?)
    }

    fn to(&self, phase: Phase) {
        *lock(&self.phase) = phase;
    }

    fn one_more(&self) {
        if let Phase::Payments { heard, .. } = &mut *lock(&self.phase) {
            *heard += 1;
        }
    }
}

/// One payment hears what the providers say of it.
async fn hear(driver: &Arc<Driver>, since: Stamp, id: &str, stated: Vec<Line>) {
    let mut lines = stated;
    let setup = driver.setup();
    let payment = loop {
        match driver.payment(id).await {
            Ok(Some(payment)) => break payment,
            Ok(None) => return,
            Err(DriveError::Unreadable(_)) => {
                tracing::error!(payment = id, "can't be read, so it hears nothing");
                return;
            }
            Err(error) => {
                tracing::error!(payment = id, %error, "it can't be read yet");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    };
    for account in setup.open.values() {
        for tries in 1..=ASKED_MAX {
            match asking::ask(driver, &setup, account, &payment).await {
                Ok(heard) => {
                    lines.extend(heard);
                    break;
                }
                Err(why) if tries == ASKED_MAX => {
                    // Its own attempts are asked about again later, and what is late is told.
                    let account = &account.name;
                    tracing::warn!(payment = id, account, why, "the provider can't be asked");
                }
                Err(_) => tokio::time::sleep(AGAIN_AFTER).await,
            }
        }
    }
    let stated = Statement { since, lines };
    loop {
        let beside = Beside { stated: Some(stated.clone()), ..Beside::default() };
        match driver.put(id, Input::Restored, beside).await {
            Ok(_) => return,
            Err(error) => {
                tracing::error!(payment = id, %error, "it has not heard its provider yet");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }
}

/// When the last thing happened that the journal knows, Unix ms; 0 for an empty one.
async fn last_event_ms(store: &dyn Store) -> Result<i64, String> {
    let last = position_while(store, |_| true).await?;
    let found = store.events(last.saturating_sub(1), 2).await.map_err(|e| e.to_string())?;
    Ok(found.last().map_or(0, |(_, event)| event.at_ms))
}

/// A restoration that an operator begins. One whose gap was never covered goes on from there.
fn begun(
    setup: &Setup,
    told: &Told,
    kept: Option<Mark>,
    known_ms: i64,
    since: Stamp,
) -> Result<Mark, String> {
    let names: Vec<&String> = setup.open.keys().chain(setup.disabled.keys()).collect();
    if let Some(name) = told.unasked.iter().find(|name| !names.contains(name)) {
        return Err(format!("there is no account `{name}`"));
    }
    let mut backup_ms = told.backup_ms.unwrap_or(known_ms).min(since.wall_ms);
    let unfinished = kept.filter(|mark| !mark.heard || !mark.all_covered());
    if let Some(unfinished) = &unfinished {
        backup_ms = backup_ms.min(unfinished.backup_ms);
    }
    if since.wall_ms.saturating_sub(backup_ms) > GAP_MAX_MS {
        let at = answer::time(backup_ms);
        return Err(format!(
            "the backup seems to be of {at}, which is too long ago for asking the providers; if it \
             is younger, say so: `interlock run --restored --backup-of TIME`"
        ));
    }
    let nobody: Vec<&str> = names
        .iter()
        .filter(|name| !told.unasked.contains(name))
        .filter(|name| !setup.get(name).is_some_and(can_be_asked))
        .map(|name| name.as_str())
        .collect();
    if !nobody.is_empty() {
        let flags: Vec<String> = nobody.iter().map(|name| format!("--unasked {name}")).collect();
        return Err(format!(
            "what these accounts took since the backup can't be asked for, because they do not \
             serve, or answer neither by our numbers nor with statements: {}. Look at their \
             dashboards, and say that you have: `interlock run --restored {}`",
            nobody.join(", "),
            flags.join(" ")
        ));
    }
    let reach = |name: &String| Reach {
        through_ms: backup_ms,
        unasked: told.unasked.contains(name),
        statements: setup.get(name).is_some_and(gives_statements),
    };
    let accounts = names.into_iter().map(|name| (name.clone(), reach(name))).collect();
    Ok(Mark { backup_ms, began_ms: since.wall_ms, heard: false, accounts })
}

fn can_be_asked(account: &Arc<OpenAccount>) -> bool {
    asking::answers_by_number(account) || gives_statements(account)
}

fn gives_statements(account: &Arc<OpenAccount>) -> bool {
    let manifest = account.manifest();
    [Operation::DownloadStatement, Operation::ReadStatement].iter().any(|op| manifest.offers(*op))
}

fn waiting(driver: &Driver) -> Phase {
    let now = driver.clock.now();
    let left_ms = window_ms(&driver.setup()).saturating_sub(now.mono_ms);
    Phase::Waiting { until_ms: now.wall_ms.saturating_add_unsigned(left_ms) }
}

/// So long may be on its way at most what was sent before.
fn window_ms(setup: &Setup) -> u64 {
    let accounts = setup.policy.accounts.values();
    accounts.map(|a| a.timeout_ms + a.contract.late_window_ms).max().unwrap_or(0)
}

fn days(from_ms: i64, until_ms: i64) -> Vec<Date> {
    let day = |ms: i64, hours: i64| {
        let at = Timestamp::from_millisecond(ms.saturating_add(hours * 3_600_000));
        at.map(|at| Offset::UTC.to_datetime(at).date())
    };
    let (Ok(first), Ok(last)) = (day(from_ms, -ZONES_HOURS), day(until_ms, ZONES_HOURS)) else {
        return Vec::new();
    };
    let mut days = vec![first];
    while let Some(next) = days.last().and_then(|day| day.tomorrow().ok()).filter(|d| *d <= last) {
        days.push(next);
    }
    days
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use interlock_plugin_api::Covers;

    use super::*;

    const DAY_MS: i64 = 24 * 3_600_000;

    #[test]
    fn the_days_of_a_gap_are_those_of_every_zone() {
        // 2026-11-30T20:00Z, which is the next day in Beijing.
        let evening = 1_796_068_800_000;
        let told: Vec<String> =
            days(evening, evening + DAY_MS).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["2026-11-30", "2026-12-01", "2026-12-02"]);
        assert_eq!(days(0, 0).len(), 2);
        assert!(days(i64::MIN, i64::MAX).is_empty(), "no time of this world");
    }

    #[test]
    fn an_account_is_covered_when_nothing_is_missing_before_the_restoration() {
        let reach = |through_ms, unasked| Reach { through_ms, unasked, statements: true };
        let accounts = [("a", reach(9, false)), ("b", reach(10, false)), ("c", reach(0, true))];
        let accounts = accounts.map(|(name, reach)| (name.to_owned(), reach)).into();
        let mut mark = Mark { backup_ms: 0, began_ms: 10, heard: true, accounts };
        assert_eq!(
            ["a", "b", "c", "d"].map(|name| mark.is_covered(name)),
            [false, true, false, false]
        );
        assert!(!mark.all_covered());
        mark.accounts.remove("a");
        assert!(mark.all_covered(), "an operator has looked at the third");
        mark.accounts.insert("e".to_owned(), Reach { statements: false, ..reach(0, false) });
        assert!(mark.all_covered(), "no statement of it will come");
    }

    #[test]
    fn only_a_whole_statement_on_somebodys_word_with_nothing_undecided_reaches() {
        let reach = Reach { through_ms: 5, unasked: false, statements: true };
        let accounts = [("a".to_owned(), reach)].into();
        let begun = Mark { backup_ms: 5, began_ms: 10, heard: true, accounts };
        let reaches = |word: Word, change: fn(&mut crate::reconcile::Tally)| {
            let run = Run::new("rec_1".into(), ("a", "2026-11-30"), 20, word);
            let mut tally = run.tally();
            (tally.status, tally.covers) = ("done", Some(Covers { from_ms: 0, until_ms: 99 }));
            change(&mut tally);
            drop(tally);
            let mut mark = begun.clone();
            (mark.reaches(&run), mark.accounts["a"].through_ms)
        };
        assert_eq!(reaches(Word::Provider, |_| ()), (true, 20), "no further than it was asked");
        assert_eq!(reaches(Word::Nobody, |_| ()), (false, 5));
        assert_eq!(reaches(Word::Provider, |tally| tally.undecided = 1), (false, 5));
        assert_eq!(reaches(Word::Provider, |tally| tally.status = "failed"), (false, 5));
        let later = |tally: &mut crate::reconcile::Tally| {
            tally.covers = Some(Covers { from_ms: 6, until_ms: 99 });
        };
        assert_eq!(reaches(Word::Provider, later), (false, 5), "a hole before it");
    }
}
