//! One statement taken through: its lines compared as they come, what is only ours looked for at
//! its end.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use interlock_engine::{AccountPolicy, Input, Payment, status};
use interlock_journal::{EventRow, NoticeRow, Store};
use interlock_plugin_api::{
    Covers, Fact, LineKind, LineState, Money, StatementLine, StatementPart,
};
use ring::digest;
use serde::Serialize;

use super::books::{self, Compared, Difference, Kind};
use super::cases::{self, Found, Ours};
use super::reader::Hears;
use crate::driver::{Beside, Driver};
use crate::setup::{OpenAccount, Setup};

/// With more differences it is the statement of something else.
const DIFFERENCES_MAX: usize = 10_000;
/// More is no statement of a day; of each line that agrees 16 bytes are kept.
const LINES_MAX: u64 = 5_000_000;
/// So many lines are looked up side by side.
const SIDE_BY_SIDE: usize = 32;
/// What was told to the engine may need an inquiry before it is believed.
const BELIEF: Duration = Duration::from_secs(5);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Events of one page.
const PAGE: usize = 5_000;
/// Two clocks may differ by so much, ms.
const SKEW_MS: i64 = 5 * 60_000;
/// The journal's times may run backwards by so much when a clock is set, ms.
const CLOCK_MS: i64 = 3_600_000;

/// On whose word the engine is told what a statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The provider's, which was asked itself.
    Provider,
    /// An operator's, who says where the file is from.
    Operator {
        /// Who.
        name: String,
        /// Why it is true.
        reason: String,
    },
    /// Nobody's: the provider is asked about the payment, and what it says then counts.
    Nobody,
}

/// Where a run stands.
#[derive(Clone, Debug, Serialize)]
pub struct Tally {
    /// `running`, `done` or `failed`.
    pub status: &'static str,
    /// Lines that were read.
    pub lines: u64,
    /// Bytes of its file, unpacked; 0 where there is none.
    pub bytes: u64,
    /// Lines on which both books agree.
    pub agrees: u64,
    /// Lines that the provider has not decided.
    pub pending: u64,
    /// Charges under numbers that no row has, of which it is not said that money moved or not.
    pub undecided: u64,
    /// Lines about something else than shoppers' money.
    pub ignored: u64,
    /// Differences that a person has settled.
    pub settled: u64,
    /// The others, by kind.
    pub differences: BTreeMap<Kind, u64>,
    /// Differences that the engine has taken in.
    pub booked: u64,
    /// Money that we moved at an edge of the statement's time: it may stand in a neighbour's.
    pub at_the_edges: u64,
    /// What the statement covers, Unix ms.
    pub covers: Option<Covers>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Tally {
    fn begun() -> Self {
        Self {
            status: "running",
            lines: 0,
            bytes: 0,
            agrees: 0,
            pending: 0,
            undecided: 0,
            ignored: 0,
            settled: 0,
            differences: BTreeMap::new(),
            booked: 0,
            at_the_edges: 0,
            covers: None,
            error: None,
        }
    }

    /// All differences.
    pub fn differ(&self) -> u64 {
        self.differences.values().sum()
    }
}

/// A run, as others see it.
pub struct Run {
    /// Its id.
    pub id: String,
    /// The account.
    pub account: String,
    /// The provider's day.
    pub date: String,
    /// When it began, Unix ms.
    pub started_ms: i64,
    /// On whose word.
    pub word: Word,
    tally: Mutex<Tally>,
}

impl Run {
    /// A run that begins.
    pub fn new(
        id: String,
        (account, date): (&str, &str),
        started_ms: i64,
        word: Word,
    ) -> Arc<Self> {
        let (account, date) = (account.to_owned(), date.to_owned());
        Arc::new(Self { id, account, date, started_ms, word, tally: Mutex::new(Tally::begun()) })
    }

    /// Where it stands.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has not ended.
    pub fn is_running(&self) -> bool {
        self.tally().status == "running"
    }

    /// How it ended, the first time that it is said.
    pub fn end(&self, ended: Result<(), String>) {
        let mut tally = self.tally();
        if tally.status != "running" {
            return;
        }
        match ended {
            Ok(()) => tally.status = "done",
            Err(why) => (tally.status, tally.error) = ("failed", Some(why)),
        }
    }
}

/// The journal beside one statement.
pub struct Comparison {
    driver: Arc<Driver>,
    /// The configuration whose plugin reads the lines; it decides what they become, too.
    setup: Arc<Setup>,
    open: Arc<OpenAccount>,
    run: Arc<Run>,
    /// Ids of what the statement has, 16 bytes each.
    met: HashSet<[u8; 16]>,
    cases: BTreeSet<String>,
    /// What the engine was told and has not taken in yet.
    told: Vec<(StatementLine, Difference, String)>,
}

#[async_trait]
impl Hears for Comparison {
    fn bytes(&mut self, count: usize) {
        self.run.tally().bytes += count as u64;
    }

    /// Compares the lines of a part.
    async fn part(&mut self, part: StatementPart) -> Result<(), String> {
        if let Some(covers) = part.covers {
            self.run.tally().covers.get_or_insert(covers);
        }
        if self.run.tally().lines + part.lines.len() as u64 > LINES_MAX {
            return Err(format!("the statement has more than {LINES_MAX} lines"));
        }
        for lines in part.lines.chunks(SIDE_BY_SIDE) {
            let looks: Vec<_> = lines
                .iter()
                .map(|line| {
                    let (driver, account) = (Arc::clone(&self.driver), self.open.name.clone());
                    let line = line.clone();
                    tokio::spawn(async move { payment_of(&driver, &account, &line).await })
                })
                .collect();
            for (line, look) in lines.iter().zip(looks) {
                let payment = look.await.map_err(|e| e.to_string())??;
                self.line(line, payment).await?;
            }
        }
        Ok(())
    }
}

impl Comparison {
    /// Begins with nothing met.
    pub fn new(
        driver: Arc<Driver>,
        setup: Arc<Setup>,
        open: Arc<OpenAccount>,
        run: Arc<Run>,
    ) -> Self {
        let (met, cases, told) = (HashSet::new(), BTreeSet::new(), Vec::new());
        Self { driver, setup, open, run, met, cases, told }
    }

    /// The account that the statement is of.
    pub fn account(&self) -> &Arc<OpenAccount> {
        &self.open
    }

    async fn line(&mut self, line: &StatementLine, payment: Option<Payment>) -> Result<(), String> {
        self.run.tally().lines += 1;
        let failed = line.state == LineState::Failed;
        let open = matches!(line.state, LineState::Pending | LineState::Unknown);
        if open && line.kind == LineKind::Charge && payment.is_none() {
            self.run.tally().undecided += 1;
        }
        match (line.kind, line.state) {
            (LineKind::Other, _) | (_, LineState::Unknown) => {
                self.run.tally().ignored += 1;
                return Ok(());
            }
            (_, LineState::Pending) => {
                self.run.tally().pending += 1;
                return Ok(());
            }
            (_, LineState::Done | LineState::Failed) => {}
        }
        let Some(payment) = payment else {
            if failed {
                self.run.tally().agrees += 1;
                return Ok(());
            }
            return self.differs(line, Difference::of(Kind::OnlyTheirs), None, None).await;
        };
        let policy = self.policy()?;
        match books::compare(&payment, policy, line, failed) {
            Compared::Agrees(ids) => {
                self.run.tally().agrees += 1;
                self.meet(&ids);
                Ok(())
            }
            Compared::Differs(mut difference) => {
                self.meet(&difference.met);
                let Some(news) = difference.news.take() else {
                    return self.differs(line, difference, Some(payment), None).await;
                };
                self.tell(line, &payment, news).await?;
                if self.told.len() + self.cases.len() >= DIFFERENCES_MAX {
                    return Err(too_many());
                }
                self.told.push((line.clone(), difference, payment.id));
                Ok(())
            }
        }
    }

    /// Tells the engine what the provider says. The same line is told once, in whichever run. On
    /// nobody's word nothing is told, and the provider is asked about the payment.
    async fn tell(
        &self,
        line: &StatementLine,
        payment: &Payment,
        news: Fact,
    ) -> Result<(), String> {
        if self.run.word == Word::Nobody {
            let put = self.driver.put(&payment.id, Input::Refresh, Beside::default()).await;
            return put.map(|_| ()).map_err(|e| e.to_string());
        }
        let told = serde_json::to_vec(&(&self.run.date, line)).map_err(|e| e.to_string())?;
        let told = digest::digest(&digest::SHA256, &told).as_ref().to_vec();
        let notice = NoticeRow {
            account: self.open.name.clone(),
            event_id: format!("statement {} {}", self.run.date, hex::encode(&told)),
            payment: Some(payment.id.clone()),
            digest: told,
            at_ms: self.now_ms(),
            applied: true,
        };
        let input = Input::Noticed {
            account: self.open.name.clone(),
            state_version: self.open.manifest().state_version,
            facts: vec![news],
        };
        let read_by = Some(Arc::clone(&self.setup));
        let beside = Beside { notice: Some(notice), read_by, ..Beside::default() };
        let put = self.driver.put(&payment.id, input, beside).await;
        put.map(|_| ()).map_err(|e| e.to_string())
    }

    /// The statement is over: what was told is looked at again, and what it lacks is found.
    ///
    /// # Errors
    /// The journal failed, or there are too many differences.
    pub async fn end(mut self) -> Result<(), String> {
        self.believed().await?;
        let covers = self.run.tally().covers;
        let Some(mut covers) = covers else { return Ok(()) };
        // What is later than the statement itself can't be in it.
        let whole = covers;
        covers.until_ms = covers.until_ms.min(self.run.started_ms.saturating_add(SKEW_MS));
        self.only_ours(covers).await?;
        let (account, date) = (self.open.name.as_str(), self.run.date.as_str());
        let store = &*self.driver.store;
        let closed = cases::close_others(store, (account, date), whole, &self.cases, self.now_ms());
        closed.await.map_err(|e| e.to_string())
    }

    async fn believed(&mut self) -> Result<(), String> {
        let by = tokio::time::Instant::now() + BELIEF;
        let mut told = std::mem::take(&mut self.told);
        loop {
            let last = tokio::time::Instant::now() >= by;
            let mut left = Vec::new();
            for (line, difference, id) in told {
                let now = self.driver.payment(&id).await.map_err(|e| e.to_string())?;
                let Some(now) = now else { continue };
                match books::compare(&now, self.policy()?, &line, false) {
                    Compared::Agrees(ids) => {
                        self.meet(&ids);
                        let booked = self.booked(&now);
                        self.differs(&line, difference, Some(now), Some(booked)).await?;
                    }
                    Compared::Differs(_) if last => {
                        self.differs(&line, difference, Some(now), None).await?;
                    }
                    Compared::Differs(_) => left.push((line, difference, id)),
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            told = left;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// In words: on whose word it was booked, and what the payment is now.
    fn booked(&self, p: &Payment) -> String {
        let is_now = format!("the payment is now {}", status_word(p));
        match &self.run.word {
            Word::Provider => format!("booked: {is_now}"),
            Word::Operator { name, reason } => format!("booked by {name}: {reason}; {is_now}"),
            Word::Nobody => format!("confirmed by the provider: {is_now}"),
        }
    }

    /// What the journal says was moved in the statement's time and no line has told of.
    async fn only_ours(&mut self, covers: Covers) -> Result<(), String> {
        let from_ms = covers.from_ms.saturating_sub(CLOCK_MS);
        let store = &*self.driver.store;
        let mut after = position_while(store, |event| event.at_ms < from_ms).await?;
        let mut seen = HashSet::new();
        loop {
            let page = self.driver.store.events(after, PAGE).await.map_err(|e| e.to_string())?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = *last;
            for (_, event) in page {
                if event.at_ms > covers.until_ms.saturating_add(CLOCK_MS) {
                    return Ok(());
                }
                if seen.insert(mark(&event.payment)) {
                    self.missing_of(&event.payment, covers).await?;
                }
            }
        }
    }

    async fn missing_of(&mut self, payment: &str, covers: Covers) -> Result<(), String> {
        let found = self.driver.payment(payment).await.map_err(|e| e.to_string())?;
        let Some(p) = found else { return Ok(()) };
        for moved in books::moved(&p, &self.open.name) {
            let (after_ms, known_ms) = (moved.after_ms - SKEW_MS, moved.known_ms + SKEW_MS);
            let beside = known_ms < covers.from_ms || after_ms >= covers.until_ms;
            if beside || self.met.contains(&mark(&moved.id)) {
                continue;
            }
            if after_ms < covers.from_ms || known_ms >= covers.until_ms {
                self.run.tally().at_the_edges += 1;
                continue;
            }
            let ours = ours(&p, moved.id, Some(moved.amount));
            self.write(moved.kind, Some(&p), None, Some(ours), None).await?;
        }
        Ok(())
    }

    async fn differs(
        &mut self,
        line: &StatementLine,
        difference: Difference,
        payment: Option<Payment>,
        booked: Option<String>,
    ) -> Result<(), String> {
        let ours = payment.as_ref().map(|p| ours(p, p.id.clone(), difference.ours));
        let line = Some(line.clone());
        self.write(difference.kind, payment.as_ref(), line, ours, booked).await
    }

    async fn write(
        &mut self,
        kind: Kind,
        payment: Option<&Payment>,
        theirs: Option<StatementLine>,
        ours: Option<Ours>,
        booked: Option<String>,
    ) -> Result<(), String> {
        if self.cases.len() >= DIFFERENCES_MAX {
            return Err(too_many());
        }
        let is_booked = booked.is_some();
        let found = Found {
            account: self.open.name.clone(),
            date: self.run.date.clone(),
            kind,
            payment: payment.map(|p| p.id.clone()),
            theirs,
            ours,
            covers: self.run.tally().covers,
            booked,
        };
        let found = cases::found(&*self.driver.store, &found, self.now_ms()).await;
        let (id, settled) = found.map_err(|e| e.to_string())?;
        self.cases.insert(id);
        let mut tally = self.run.tally();
        if settled {
            tally.settled += 1;
            return Ok(());
        }
        *tally.differences.entry(kind).or_default() += 1;
        tally.booked += u64::from(is_booked);
        Ok(())
    }

    fn meet(&mut self, ids: &[String]) {
        self.met.extend(ids.iter().map(|id| mark(id)));
    }

    fn policy(&self) -> Result<&AccountPolicy, String> {
        let policy = self.setup.policy.accounts.get(&self.open.name);
        policy.ok_or_else(|| "the account is not in force any more".to_owned())
    }

    fn now_ms(&self) -> i64 {
        self.driver.clock.now().wall_ms
    }
}

/// The last position of the journal's events up to which this is true of them, as far as it is
/// true of all before one that it is true of.
///
/// # Errors
/// The journal failed.
pub async fn position_while(
    store: &dyn Store,
    is_true: impl Fn(&EventRow) -> bool + Send,
) -> Result<u64, String> {
    let goes_on = async |after: u64| {
        let found = store.events(after, 1).await.map_err(|e| e.to_string())?;
        Ok::<_, String>(found.first().is_some_and(|(_, event)| is_true(event)))
    };
    let (mut low, mut high) = (0, 1);
    while goes_on(high).await? {
        (low, high) = (high, high * 2);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if goes_on(middle).await? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn too_many() -> String {
    format!("more than {DIFFERENCES_MAX} differences: is it the statement of this account and day?")
}

/// The payment that a line's numbers lead to.
async fn payment_of(
    driver: &Driver,
    account: &str,
    line: &StatementLine,
) -> Result<Option<Payment>, String> {
    let numbers = [&line.number, &line.provider_ref, &line.operation, &line.operation_ref];
    let found = driver.named(account, &numbers).await.map_err(|e| e.to_string())?;
    match found {
        Some(id) => driver.payment(&id).await.map_err(|e| e.to_string()),
        None => Ok(None),
    }
}

fn ours(p: &Payment, id: String, amount: Option<i64>) -> Ours {
    let Money { currency, .. } = p.money;
    Ours { id, amount, currency: currency.as_str().to_owned(), status: status_word(p).to_owned() }
}

fn status_word(p: &Payment) -> &'static str {
    status::status(p).0.as_str()
}

fn mark(id: &str) -> [u8; 16] {
    let digest = digest::digest(&digest::SHA256, id.as_bytes());
    let mut mark = [0; 16];
    mark.copy_from_slice(&digest.as_ref()[..16]);
    mark
}
