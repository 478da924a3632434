//! Tells merchants what became of their payments: signed messages (Standard Webhooks) from the
//! durable outbox, until they are taken or given up.
//!
//! A message becomes durable in the transaction of the change that it tells, so nothing is lost
//! between the two; it is told at least once and always under the same id. Of one payment the
//! next message waits for the one before. A merchant who does not listen holds up nothing but its
//! own messages: each merchant has a few tries under way at once, and all together have a bound.

mod address;
pub mod message;
mod signature;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use interlock_journal::{Message, Store, StoreError, Told};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{Id, JoinHandle, JoinSet};

use crate::config::{Merchant, Webhook};
use crate::metrics::Metrics;
use crate::node::NodeClock;
use crate::upstream::{Endpoint, Outgoing, Upstream, UpstreamOptions};
pub use signature::Key;

/// Tries under way for one merchant.
const AT_ONCE_FOR_ONE: usize = 16;
/// Tries under way for all.
const AT_ONCE: usize = 128;
/// Connections that are kept idle.
const POOL: usize = 64;
/// Connecting may take this long.
const CONNECT: Duration = Duration::from_secs(5);
/// More of an answer is not read.
const ANSWER_BYTES: usize = 16 << 10;
/// Without a bell the outbox is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The wait after the journal could not be read or written.
const JOURNAL_WAIT: Duration = Duration::from_secs(1);
/// How often the outcome of a try is offered to the journal before the message is told again.
const NOTE_TRIES: u32 = 5;
/// The journal's name for what says that a merchant's webhook is disabled.
const DISABLED: &str = "webhook_disabled";

/// What tells all merchants.
pub struct Webhooks {
    listeners: ArcSwap<Listeners>,
    /// Who tells each of them. A new one begins when the one before it has ended, so that of one
    /// payment the next message still waits for the one before.
    telling: Mutex<BTreeMap<String, JoinHandle<()>>>,
    post: Arc<Post>,
}

/// The merchants' webhooks of one configuration, by merchant.
pub struct Listeners(BTreeMap<String, Arc<Listener>>);

/// What all tries share.
struct Post {
    store: Arc<dyn Store>,
    clock: Arc<NodeClock>,
    metrics: Arc<Metrics>,
    /// A pool of its own: merchants never take a connection from a provider.
    upstream: Upstream,
    places: Semaphore,
}

/// One merchant's webhook.
struct Listener {
    merchant: String,
    /// As it was configured.
    webhook: Webhook,
    endpoint: Endpoint,
    /// Path and query.
    target: String,
    keys: Vec<Key>,
    timeout: Duration,
    retry_ms: Vec<u64>,
    bell: Notify,
    /// Since when it is disabled, Unix ms.
    disabled: Mutex<Option<i64>>,
    /// Another configuration has taken its place.
    replaced: AtomicBool,
}

/// What came of one try.
enum Tried {
    Taken,
    /// The merchant wants to hear nothing any more.
    Gone,
    /// With the named reason.
    Refused(String),
}

impl Webhooks {
    /// Tells nobody yet.
    pub fn new(store: Arc<dyn Store>, clock: Arc<NodeClock>, metrics: Arc<Metrics>) -> Self {
        let options = UpstreamOptions { pool_size: POOL, ..UpstreamOptions::default() };
        let (upstream, places) = (Upstream::new(options), Semaphore::new(AT_ONCE));
        let post = Arc::new(Post { store, clock, metrics, upstream, places });
        let listeners = ArcSwap::from_pointee(Listeners(BTreeMap::new()));
        Self { listeners, telling: Mutex::default(), post }
    }

    /// The webhooks of these merchants, with what the journal knows of them. Nothing of what is in
    /// use is touched.
    ///
    /// # Errors
    /// An address can't be used, or the journal can't be read.
    pub async fn prepare(&self, merchants: &[Merchant]) -> Result<Listeners, String> {
        let known = self.listeners.load();
        let mut listeners = BTreeMap::new();
        for merchant in merchants {
            let Some(webhook) = &merchant.webhook else { continue };
            if let Some(same) = known.0.get(&merchant.name).filter(|l| l.webhook == *webhook) {
                listeners.insert(merchant.name.clone(), Arc::clone(same));
                continue;
            }
            let listener = Listener::open(&merchant.name, webhook)?;
            let kept = self.post.store.settings_get(&listener.setting()).await;
            let kept = kept.map_err(|e| e.to_string())?;
            *listener.disabled() = disabled_since(kept.as_deref(), &listener.endpoint_name());
            listeners.insert(merchant.name.clone(), Arc::new(listener));
        }
        Ok(Listeners(listeners))
    }

    /// Tells these from now on, until the process ends or others take their place.
    pub fn put(&self, listeners: Listeners) {
        let listeners = Arc::new(listeners);
        let before = self.listeners.swap(Arc::clone(&listeners));
        let mut telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        for (merchant, listener) in &before.0 {
            if listeners.0.get(merchant).is_none_or(|now| !Arc::ptr_eq(now, listener)) {
                listener.replaced.store(true, Ordering::Release);
                listener.bell.notify_one();
            }
        }
        for (merchant, listener) in &listeners.0 {
            if before.0.get(merchant).is_some_and(|known| Arc::ptr_eq(known, listener)) {
                continue;
            }
            let earlier = telling.remove(merchant);
            let (post, listener) = (Arc::clone(&self.post), Arc::clone(listener));
            let task = tokio::spawn(async move {
                if let Some(earlier) = earlier {
                    let _ = earlier.await;
                }
                serve(post, listener).await;
            });
            telling.insert(merchant.clone(), task);
        }
    }

    /// Whether a merchant is told anything.
    pub fn tells(&self, merchant: &str) -> bool {
        self.listeners.load().0.contains_key(merchant)
    }

    /// Something is durable that this merchant must be told.
    pub fn ring(&self, merchant: &str) {
        if let Some(listener) = self.listeners.load().0.get(merchant) {
            listener.bell.notify_one();
        }
    }

    /// Every webhook as an operator sees it; an address without path and query, which may be
    /// secrets.
    pub fn endpoints(&self) -> Vec<Value> {
        let shown = |l: &Arc<Listener>| {
            let disabled = l.disabled().map(crate::merchant_api::answer::time);
            json!({
                "merchant": l.merchant, "endpoint": l.endpoint_name(),
                "disabled": disabled.is_some(), "disabled_since": disabled,
                "signatures": l.keys.len(),
            })
        };
        self.listeners.load().0.values().map(shown).collect()
    }

    /// Tells a disabled merchant again; false when it has no webhook.
    ///
    /// # Errors
    /// The journal did not take it, so it stays disabled.
    pub async fn resume(&self, merchant: &str) -> Result<bool, StoreError> {
        let listener = self.listeners.load().0.get(merchant).cloned();
        let Some(listener) = listener else { return Ok(false) };
        self.post.store.settings_put(&listener.setting(), Vec::new()).await?;
        *listener.disabled() = None;
        listener.bell.notify_one();
        tracing::warn!(merchant, "webhook was resumed by hand");
        Ok(true)
    }

    /// Tells a message once more, from now on; it must be the merchant's own, when one is named.
    ///
    /// # Errors
    /// The journal can't be read or written.
    pub async fn again(
        &self,
        id: &str,
        merchant: Option<&str>,
    ) -> Result<Option<Message>, StoreError> {
        let found = self.post.store.message(id).await?;
        let ours = |m: &Message| merchant.is_none_or(|name| name == m.merchant);
        let Some(message) = found.filter(ours) else { return Ok(None) };
        let wanted = Told::Wanted { at_ms: self.post.clock.now().wall_ms };
        self.post.store.outbox_told(&message.row.payment, message.row.seq, wanted).await?;
        self.ring(&message.merchant);
        self.post.store.message(id).await
    }
}

impl Listener {
    fn open(merchant: &str, webhook: &Webhook) -> Result<Self, String> {
        let unusable = || format!("webhook of merchant can't be used: {merchant}");
        let url: http::Uri = webhook.url.parse().map_err(|_| unusable())?;
        let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
            return Err(unusable());
        };
        let base = format!("{scheme}://{authority}");
        let group = format!("webhook of {merchant}");
        let allowed = if webhook.allow_loopback {
            address::is_public_or_loopback
        } else {
            address::is_public
        };
        let endpoint = Endpoint::new(&group, &base, None).map_err(|e| e.to_string())?;
        let keys: Option<Vec<Key>> = webhook.keys.iter().map(|k| Key::parse(k.expose())).collect();
        Ok(Self {
            merchant: merchant.to_owned(),
            webhook: webhook.clone(),
            endpoint: endpoint.only_to(allowed),
            target: url.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
            keys: keys.ok_or_else(unusable)?,
            timeout: Duration::from_millis(webhook.timeout_ms),
            retry_ms: webhook.retry_ms.clone(),
            bell: Notify::new(),
            disabled: Mutex::default(),
            replaced: AtomicBool::new(false),
        })
    }

    fn endpoint_name(&self) -> String {
        format!("{:?}", self.endpoint)
    }

    fn setting(&self) -> String {
        format!("{DISABLED}.{}", self.merchant)
    }

    fn disabled(&self) -> MutexGuard<'_, Option<i64>> {
        self.disabled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a message that failed so often is tried again, drawn between 80 % and 120 % of the
    /// wait so that a crowd spreads; none gives it up.
    fn again_at_ms(&self, tries: u32, now_ms: i64, draw: f64) -> Option<i64> {
        let wait_ms = *self.retry_ms.get(tries as usize)?;
        Some(now_ms.saturating_add((wait_ms as f64 * (0.8 + 0.4 * draw)) as i64))
    }
}

/// What the journal says of a webhook; another address than the one that was gone is not disabled.
fn disabled_since(kept: Option<&[u8]>, endpoint: &str) -> Option<i64> {
    let kept: Value = serde_json::from_slice(kept?).ok()?;
    (kept["endpoint"] == endpoint).then(|| kept["since_ms"].as_i64())?
}

/// Tells one merchant, until the process ends or another configuration takes over; what is under
/// way is ended first.
async fn serve(post: Arc<Post>, listener: Arc<Listener>) {
    let mut tries = JoinSet::new();
    let mut held: HashMap<Id, String> = HashMap::new();
    loop {
        if listener.replaced.load(Ordering::Acquire) {
            while tries.join_next().await.is_some() {}
            return;
        }
        let wait = post.take_up(&listener, &mut tries, &mut held).await;
        tokio::select! {
            () = listener.bell.notified() => {}
            () = tokio::time::sleep(wait) => {}
            Some(done) = tries.join_next_with_id(), if !tries.is_empty() => {
                let id = done.map_or_else(|error| error.id(), |(id, ())| id);
                held.remove(&id);
            }
        }
    }
}

impl Post {
    /// Begins every try that is due and has a place; how long nothing more is due.
    async fn take_up(
        self: &Arc<Self>,
        listener: &Arc<Listener>,
        tries: &mut JoinSet<()>,
        held: &mut HashMap<Id, String>,
    ) -> Duration {
        let free = AT_ONCE_FOR_ONE.saturating_sub(held.len());
        if listener.disabled().is_some() || free == 0 {
            return LOOK_EVERY;
        }
        let now_ms = self.clock.now().wall_ms;
        let merchant = &listener.merchant;
        // What is under way is still due, so as many more are asked for.
        let asked = held.len() + free;
        let due = self.store.deliveries(merchant, now_ms.saturating_add(1), asked).await;
        let next = self.store.next_delivery(merchant, now_ms.saturating_add(1)).await;
        let (due, next) = match (due, next) {
            (Ok(due), Ok(next)) => (due, next),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(merchant, %error, "messages to a merchant can't be read");
                return JOURNAL_WAIT;
            }
        };
        let fresh: Vec<Message> =
            due.into_iter().filter(|m| !held.values().any(|id| *id == m.row.id)).collect();
        for message in fresh.into_iter().take(free) {
            let id = message.row.id.clone();
            let (post, listener) = (Arc::clone(self), Arc::clone(listener));
            let task = tries.spawn(async move { post.tell(&listener, &message).await });
            held.insert(task.id(), id);
        }
        let until = next.map_or(LOOK_EVERY, |at| {
            Duration::from_millis(at.saturating_sub(now_ms).max(1).unsigned_abs())
        });
        until.min(LOOK_EVERY)
    }

    /// One try, and what came of it made durable.
    async fn tell(&self, listener: &Listener, message: &Message) {
        let Ok(_place) = self.places.acquire().await else { return };
        if listener.disabled().is_some() {
            return;
        }
        let (id, merchant) = (&message.row.id, &listener.merchant);
        match self.send(listener, message).await {
            Tried::Taken => {
                self.metrics.told("delivered");
                self.note(message, Told::Delivered).await;
            }
            Tried::Gone => self.disable(listener, id).await,
            Tried::Refused(reason) => {
                let tries = message.delivery.as_ref().map_or(0, |d| d.tries);
                let now_ms = self.clock.now().wall_ms;
                let again_at_ms = listener.again_at_ms(tries, now_ms, fastrand::f64());
                if again_at_ms.is_some() {
                    self.metrics.told("failed");
                    tracing::warn!(merchant, id, tries, reason, "merchant was not told yet");
                } else {
                    self.metrics.told("given_up");
                    tracing::error!(
                        merchant,
                        id,
                        reason,
                        "merchant could not be told: `interlock webhook redeliver {id}`"
                    );
                }
                self.note(message, Told::Failed { again_at_ms, reason }).await;
            }
        }
    }

    async fn send(&self, listener: &Listener, message: &Message) -> Tried {
        let timestamp_s = self.clock.now().wall_ms.div_euclid(1_000);
        let row = &message.row;
        let signed = signature::signatures(&listener.keys, &row.id, timestamp_s, &row.body);
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let deadline = Instant::now() + listener.timeout;
        let outgoing = Outgoing {
            method: "POST".to_owned(),
            path_and_query: listener.target.clone(),
            headers: vec![
                header("Content-Type", "application/json"),
                header("User-Agent", concat!("interlock/", env!("CARGO_PKG_VERSION"))),
                header("webhook-id", &row.id),
                header("webhook-timestamp", &timestamp_s.to_string()),
                header("webhook-signature", &signed),
            ],
            body: Bytes::copy_from_slice(&row.body),
            connect_timeout: CONNECT.min(listener.timeout),
            deadline,
            last_send_by: deadline,
            body_limit: ANSWER_BYTES,
            cut_body: true,
            // To be told twice changes nothing: it is the same id.
            retry_read: true,
            spill: None,
        };
        match self.upstream.send(&listener.endpoint, outgoing).await {
            Ok(answer) if (200..300).contains(&answer.status) => Tried::Taken,
            Ok(answer) if answer.status == 410 => Tried::Gone,
            Ok(answer) => Tried::Refused(format!("status_{}", answer.status)),
            Err(lost) => Tried::Refused(lost.reason.to_owned()),
        }
    }

    /// Nothing more is told until an operator resumes it. What waits keeps its place.
    async fn disable(&self, listener: &Listener, id: &str) {
        self.metrics.told("disabled");
        let merchant = &listener.merchant;
        tracing::error!(
            merchant,
            id,
            "merchant's webhook is gone (410) and disabled: `interlock webhook resume {merchant}`"
        );
        let since_ms = self.clock.now().wall_ms;
        *listener.disabled() = Some(since_ms);
        let kept = json!({ "endpoint": listener.endpoint_name(), "since_ms": since_ms });
        let kept = kept.to_string().into_bytes();
        if let Err(error) = self.store.settings_put(&listener.setting(), kept).await {
            tracing::error!(merchant, %error, "webhook is disabled until the next start only");
        }
    }

    /// What can't be made durable is forgotten, and the message is told again under its id.
    async fn note(&self, message: &Message, told: Told) {
        let (payment, seq) = (&message.row.payment, message.row.seq);
        for _ in 0..NOTE_TRIES {
            match self.store.outbox_told(payment, seq, told.clone()).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(payment, %error, "outcome of a webhook is not durable yet");
                    tokio::time::sleep(JOURNAL_WAIT).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn listener(retry_ms: Vec<u64>) -> Listener {
        let key = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned();
        let webhook = Webhook {
            url: "https://shop.example/hooks/secret-path?k=1".to_owned(),
            keys: vec![Secret::new(key)],
            allow_loopback: false,
            timeout_ms: 20_000,
            retry_ms,
        };
        Listener::open("shop", &webhook).expect("a usable webhook")
    }

    #[test]
    fn a_message_is_tried_by_the_ladder_and_then_given_up() {
        let l = listener(vec![5_000, 300_000]);
        assert_eq!(l.again_at_ms(0, 1_000, 0.5), Some(6_000));
        assert_eq!(l.again_at_ms(0, 1_000, 0.0), Some(5_000));
        assert_eq!(l.again_at_ms(1, 1_000, 1.0), Some(361_000));
        assert_eq!(l.again_at_ms(2, 1_000, 0.5), None);
    }

    #[test]
    fn path_and_query_are_sent_and_not_shown() {
        let l = listener(Vec::new());
        assert_eq!(l.target, "/hooks/secret-path?k=1");
        assert_eq!(l.endpoint_name(), "https://shop.example");
    }

    #[test]
    fn only_the_address_that_was_gone_is_disabled() {
        let kept = br#"{"endpoint":"https://shop.example","since_ms":7}"#;
        assert_eq!(disabled_since(Some(kept), "https://shop.example"), Some(7));
        assert_eq!(disabled_since(Some(kept), "https://new.example"), None);
        assert_eq!(disabled_since(Some(b""), "https://shop.example"), None);
        assert_eq!(disabled_since(None, "https://shop.example"), None);
    }
}
