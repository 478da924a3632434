//! Carries notifications to the merchant's side, again and again until they are taken, and lets
//! the fault dial lose, delay, double, reorder or spoil them.
//!
//! A notification meets at most one fault, once, when it leaves; so a lost one is lost for good
//! and a doubled one arrives twice with the same id.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};

use crate::faults::{FaultDial, FaultKind, Operation};

/// A notification is sent at most this often.
pub const DELIVERIES_LIMIT: u32 = 8;

const PENDING_LIMIT: usize = 100_000;
const AT_ONCE: usize = 256;
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_WAIT_MS: u64 = 30_000;

/// Where a notification's signature goes.
#[derive(Debug, Clone)]
pub enum Seal {
    /// Into the form body, as `sign`.
    Form(String),
    /// Into this header.
    Header(&'static str, String),
    /// Into the body, where this text stands.
    Within(&'static str, String),
    /// Into a header, perhaps after a false one that must be refused.
    Probed(Probed),
}

/// A signature in a header, and a false one that tries whether anybody looks.
#[derive(Debug, Clone)]
pub struct Probed {
    /// The header.
    pub header: &'static str,
    /// The good signature.
    pub signature: String,
    /// The false one.
    pub probe: String,
    /// Whether the false one always goes first, not only when the dial spoils the signature.
    pub always: bool,
}

/// One notification, ready to go.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Where to.
    pub url: String,
    /// The operation that it tells of.
    pub cause: Operation,
    /// The content type.
    pub content_type: &'static str,
    /// More headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body, without a signature.
    pub body: String,
    /// The signature.
    pub seal: Seal,
    /// The only body that counts as taken; otherwise any 2xx does.
    pub wants: Option<&'static str>,
}

/// One account's courier. Clones share everything.
#[derive(Clone)]
pub struct Courier {
    inner: Arc<Inner>,
}

struct Inner {
    account: Arc<str>,
    dial: Arc<FaultDial>,
    client: reqwest::Client,
    delay_ms: u64,
    retry_ms: u64,
    late_ms: u64,
    epoch: AtomicU64,
    pending: AtomicUsize,
    dropped: AtomicU64,
    probes_refused: AtomicU64,
    probes_taken: AtomicU64,
    at_once: Semaphore,
    left: Notify,
}

impl Courier {
    /// A courier for `account`; see the configuration for the times.
    pub fn new(
        account: Arc<str>,
        dial: Arc<FaultDial>,
        client: reqwest::Client,
        (delay_ms, retry_ms, late_ms): (u64, u64, u64),
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                account,
                dial,
                client,
                delay_ms,
                retry_ms,
                late_ms,
                epoch: AtomicU64::new(0),
                pending: AtomicUsize::new(0),
                dropped: AtomicU64::new(0),
                probes_refused: AtomicU64::new(0),
                probes_taken: AtomicU64::new(0),
                at_once: Semaphore::new(AT_ONCE),
                left: Notify::new(),
            }),
        }
    }

    /// Takes `notice` and returns at once. When too many are pending it is dropped and counted.
    pub fn send(&self, notice: Notice) {
        let inner = self.inner.clone();
        if inner.pending.fetch_add(1, Ordering::AcqRel) >= PENDING_LIMIT {
            inner.pending.fetch_sub(1, Ordering::AcqRel);
            inner.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let epoch = inner.epoch.load(Ordering::Acquire);
        tokio::spawn(async move {
            inner.carry(notice, epoch).await;
            inner.pending.fetch_sub(1, Ordering::AcqRel);
        });
    }

    /// Forgets what is pending.
    pub fn forget(&self) {
        self.inner.epoch.fetch_add(1, Ordering::AcqRel);
        self.inner.probes_refused.store(0, Ordering::Relaxed);
        self.inner.probes_taken.store(0, Ordering::Relaxed);
        self.inner.left.notify_waiters();
    }

    /// How many false signatures were refused, as they must be, and how many were taken.
    pub fn probes(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.inner.probes_refused), read(&self.inner.probes_taken))
    }

    /// How many are pending, and how many were dropped for want of room.
    pub fn load(&self) -> (usize, u64) {
        (self.inner.pending.load(Ordering::Acquire), self.inner.dropped.load(Ordering::Relaxed))
    }
}

impl Inner {
    async fn carry(&self, mut notice: Notice, epoch: u64) {
        let met = self.dial.meet_notice(&self.account, notice.cause, Instant::now());
        let wait = |ms: u64| Duration::from_millis(if ms == 0 { self.late_ms } else { ms });
        tokio::time::sleep(Duration::from_millis(self.delay_ms)).await;
        let mut times = 1;
        let mut probes = notice.seal.always_probes();
        match met.as_ref().map(|met| (met.kind, met.ms)) {
            Some((FaultKind::NotifyLose, _)) => return,
            Some((FaultKind::NotifyDelay | FaultKind::Slow, ms)) => {
                tokio::time::sleep(wait(ms)).await;
            }
            Some((FaultKind::NotifyReorder, ms)) => {
                let younger_left = self.left.notified();
                // Nobody may come after; then it leaves late instead of never.
                let _ = tokio::time::timeout(wait(ms), younger_left).await;
            }
            Some((FaultKind::NotifyDuplicate, _)) => times = 2,
            Some((FaultKind::BadSignature, _)) => {
                probes |= matches!(notice.seal, Seal::Probed(_));
                notice.seal.spoil();
            }
            _ => {}
        }
        if probes {
            self.probe(&notice, epoch).await;
        }
        for _ in 0..times {
            self.deliver(&notice, epoch).await;
        }
    }

    /// Sends `notice` once with the false signature and counts what became of it. Nobody who
    /// gives no answer is counted.
    async fn probe(&self, notice: &Notice, epoch: u64) {
        let Seal::Probed(probed) = &notice.seal else {
            return;
        };
        if self.epoch.load(Ordering::Acquire) != epoch {
            return;
        }
        let seal = Seal::Header(probed.header, probed.probe.clone());
        let answered = {
            let _place = self.at_once.acquire().await;
            self.post(&Notice { seal, ..notice.clone() }).await
        };
        match answered {
            Some(true) => self.probes_taken.fetch_add(1, Ordering::Relaxed),
            Some(false) => self.probes_refused.fetch_add(1, Ordering::Relaxed),
            None => 0,
        };
    }

    async fn deliver(&self, notice: &Notice, epoch: u64) {
        for attempt in 0..DELIVERIES_LIMIT {
            if self.epoch.load(Ordering::Acquire) != epoch {
                return;
            }
            let taken = {
                let _place = self.at_once.acquire().await;
                self.post(notice).await
            };
            self.left.notify_waiters();
            if taken == Some(true) {
                return;
            }
            let wait_ms = self.retry_ms.saturating_mul(1 << attempt).min(LONGEST_WAIT_MS);
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    /// Whether it was taken; `None` when nobody answered.
    async fn post(&self, notice: &Notice) -> Option<bool> {
        let mut request = self
            .client
            .post(&notice.url)
            .timeout(PATIENCE)
            .header("content-type", notice.content_type);
        for (name, value) in &notice.headers {
            request = request.header(*name, value);
        }
        let mut body = notice.body.clone();
        match &notice.seal {
            Seal::Header(name, signature) => request = request.header(*name, signature),
            Seal::Probed(probed) => request = request.header(probed.header, &probed.signature),
            Seal::Form(signature) => {
                let mut pair = form_urlencoded::Serializer::new(String::new());
                pair.append_pair("sign", signature);
                body = format!("{body}&{}", pair.finish());
            }
            Seal::Within(place, signature) => body = body.replacen(place, signature, 1),
        }
        let answer = request.body(body).send().await.ok()?;
        let Some(wanted) = notice.wants else {
            return Some(answer.status().is_success());
        };
        // An acknowledgement is one word; anything long is none, and is not read.
        let short = answer.content_length().is_none_or(|length| length <= 64);
        let fits = answer.status() == 200 && short;
        Some(fits && answer.text().await.is_ok_and(|body| body == wanted))
    }
}

impl Seal {
    fn always_probes(&self) -> bool {
        matches!(self, Self::Probed(probed) if probed.always)
    }

    /// Makes the signature false; one with a probe stays good, since its probe is the false one.
    fn spoil(&mut self) {
        let (Self::Form(signature) | Self::Header(_, signature) | Self::Within(_, signature)) =
            self
        else {
            return;
        };
        let first = if signature.starts_with('0') { "1" } else { "0" };
        signature.replace_range(..1, first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_with_a_probe_stays_good() {
        let probed = |always| Probed {
            header: "x-signature",
            signature: "good".into(),
            probe: "false".into(),
            always,
        };
        let mut seal = Seal::Probed(probed(true));
        seal.spoil();
        let Seal::Probed(kept) = &seal else { unreachable!() };
        assert_eq!(kept.signature, "good");
        assert!(seal.always_probes() && !Seal::Probed(probed(false)).always_probes());
    }

    #[test]
    fn a_spoiled_seal_differs_and_keeps_its_length() {
        for text in ["0a", "fb", "A="] {
            let mut seal = Seal::Form(text.into());
            seal.spoil();
            let Seal::Form(spoiled) = seal else { unreachable!() };
            assert_ne!(spoiled, text);
            assert_eq!(spoiled.len(), text.len());
        }
    }
}
