//! Answers that are the same for everybody, kept for as long as their own headers allow (RFC 9111).
//!
//! Only what a manifest declares as `cached` comes here: a `GET` that reads, such as a provider's
//! published keys. The store is this process's own and small. When the provider can't be asked, an
//! answer that is stale by no more than a day is better than none (RFC 5861, `stale-if-error`),
//! unless its headers forbid it; it is told in the log.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::{Request, Response};
use http_cache_semantics::{BeforeRequest, CacheOptions, CachePolicy};
use interlock_plugin_api::Send;

use super::{Gone, path_and_query};
use crate::setup::OpenAccount;
use crate::upstream::Incoming;

/// So many answers are kept.
const ANSWERS_MAX: usize = 64;
/// A longer one is not, bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// For so long after its end an answer stands in for one that can't be fetched.
const STALE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// While one stands in, the provider is asked again only so often.
const REST: Duration = Duration::from_secs(10);

/// The answers.
#[derive(Default)]
pub(super) struct Answers {
    kept: Mutex<BTreeMap<Key, Kept>>,
}

/// Which answer: of an account as it is configured now, at an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    account: String,
    seal: String,
    endpoint: String,
    target: String,
}

struct Kept {
    policy: CachePolicy,
    answer: Incoming,
    fresh_until: SystemTime,
    /// Until then it stands in without a question.
    rests_until: Option<SystemTime>,
}

/// What the store has.
enum Found {
    Fresh(Incoming),
    /// Its time is over; the flag says that the provider need not be asked at this moment.
    Stale(Incoming, bool),
    Nothing,
}

impl Key {
    /// The place of what a request asks for.
    pub(super) fn of(account: &OpenAccount, send: &Send) -> Self {
        Self {
            account: account.name.clone(),
            seal: account.seal().to_owned(),
            endpoint: send.endpoint.clone(),
            target: path_and_query(send),
        }
    }
}

impl Answers {
    /// The answer to a request: from the store, or by `fetch`, which is not begun where it is not
    /// needed.
    pub(super) async fn answer(
        &self,
        key: Key,
        headers: &[(String, String)],
        now: impl Fn() -> SystemTime,
        fetch: impl Future<Output = Result<Incoming, Gone>>,
    ) -> Result<Incoming, Gone> {
        let Some(request) = request(&key, headers) else { return fetch.await };
        let stale = match self.find(&key, &request, now()) {
            Found::Fresh(answer) | Found::Stale(answer, true) => return Ok(answer),
            Found::Stale(answer, false) => Some(answer),
            Found::Nothing => None,
        };
        let fetched = fetch.await;
        let failed = match &fetched {
            Ok(answer) if answer.status == 200 => {
                self.keep(key, &request, answer, now());
                return fetched;
            }
            Ok(answer) if answer.status < 500 => return fetched,
            Ok(_) => "server_error",
            Err((_, reason, _)) => reason,
        };
        let Some(stale) = stale else { return fetched };
        let (account, endpoint) = (&key.account, &key.endpoint);
        tracing::warn!(account, endpoint, reason = failed, "a stale answer is used");
        self.rest(&key, now());
        Ok(stale)
    }

    /// Keeps an answer no longer, because nobody could make anything of it.
    pub(super) fn forget(&self, key: &Key) {
        self.kept().remove(key);
    }

    fn find(&self, key: &Key, request: &Request<()>, now: SystemTime) -> Found {
        let kept = self.kept();
        let Some(kept) = kept.get(key) else { return Found::Nothing };
        match kept.policy.before_request(request, now) {
            BeforeRequest::Fresh(_) => Found::Fresh(kept.answer.clone()),
            BeforeRequest::Stale { matches, .. } => {
                let over = now.duration_since(kept.fresh_until).unwrap_or_default();
                let usable = matches && kept.may_be_stale() && over <= STALE_MAX;
                if !usable {
                    return Found::Nothing;
                }
                Found::Stale(kept.answer.clone(), kept.rests_until.is_some_and(|end| now < end))
            }
        }
    }

    fn keep(&self, key: Key, request: &Request<()>, answer: &Incoming, now: SystemTime) {
        let mut kept = self.kept();
        kept.remove(&key);
        let Some(response) = response(answer) else { return };
        let options =
            CacheOptions { shared: false, cache_heuristic: 0.0, ..CacheOptions::default() };
        let policy = CachePolicy::new_options(request, &response, now, options);
        let life = policy.time_to_live(now);
        let small = answer.body.len() <= ANSWER_BYTES_MAX && countable(answer);
        if !policy.is_storable() || life.is_zero() || !small {
            return;
        }
        if kept.len() >= ANSWERS_MAX {
            let first = kept.iter().min_by_key(|(_, kept)| kept.fresh_until);
            let first = first.map(|(key, _)| key.clone());
            first.and_then(|key| kept.remove(&key));
        }
        let fresh_until = now.checked_add(life).unwrap_or(now);
        let answer = answer.clone();
        kept.insert(key, Kept { policy, answer, fresh_until, rests_until: None });
    }

    fn rest(&self, key: &Key, now: SystemTime) {
        if let Some(kept) = self.kept().get_mut(key) {
            kept.rests_until = Some(now + REST);
        }
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<Key, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn may_be_stale(&self) -> bool {
        let directives = self.answer.headers.iter().filter(|(name, _)| name == "cache-control");
        !directives.flat_map(|(_, value)| value.split(',')).any(|directive| {
            matches!(directive.trim().to_ascii_lowercase().as_str(), "must-revalidate" | "no-cache")
        })
    }
}

/// Whether the age that an answer says it has can be added to: RFC 9111, section 1.2.2.
fn countable(answer: &Incoming) -> bool {
    let age = answer.headers.iter().filter(|(name, _)| name == "age");
    age.into_iter().all(|(_, value)| value.trim().parse::<i32>().is_ok())
}

/// The question as the rules of caching see it; `None` when it is no HTTP.
fn request(key: &Key, headers: &[(String, String)]) -> Option<Request<()>> {
    let mut request = Request::get(&key.target);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.body(()).ok()
}

fn response(answer: &Incoming) -> Option<Response<()>> {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    response.body(()).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::cell::Cell;

    use bytes::Bytes;
    use interlock_engine::Sent;

    use super::*;
    use crate::upstream::reason;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn an_answer_is_asked_for_once_while_it_is_fresh() {
        let shop = Shop::default();
        assert_eq!(shop.ask(0, good("max-age=3600", "one")).await, Ok("one".into()));
        assert_eq!(shop.ask(3_599, good("max-age=3600", "two")).await, Ok("one".into()));
        assert_eq!(shop.asked.get(), 1);
        assert_eq!(shop.ask(3_600, good("max-age=60", "three")).await, Ok("three".into()));
        assert_eq!(shop.ask(3_659, good("", "four")).await, Ok("three".into()));
        assert_eq!(shop.ask(3_660, good("", "four")).await, Ok("four".into()));
        assert_eq!(shop.asked.get(), 3);
    }

    #[tokio::test]
    async fn only_what_says_so_is_kept() {
        for cache in ["", "no-store, max-age=60", "no-cache", "max-age=0", "max-age=x"] {
            let shop = Shop::default();
            shop.ask(0, good(cache, "one")).await.unwrap();
            assert_eq!(shop.ask(1, good(cache, "two")).await, Ok("two".into()), "{cache}");
        }
        let shop = Shop::default();
        let long = "x".repeat(ANSWER_BYTES_MAX + 1);
        shop.ask(0, good("max-age=60", &long)).await.unwrap();
        assert_eq!(shop.ask(1, good("max-age=60", "two")).await, Ok("two".into()));
    }

    #[tokio::test]
    async fn no_other_status_than_200_is_kept() {
        for status in [203, 204, 301, 304, 400, 404, 410, 500, 503] {
            let shop = Shop::default();
            let odd = Incoming { status, ..good("max-age=60", "odd").unwrap() };
            assert_eq!(shop.ask(0, Ok(odd)).await, Ok("odd".into()));
            assert_eq!(shop.ask(1, good("max-age=60", "two")).await, Ok("two".into()), "{status}");
        }
    }

    #[tokio::test]
    async fn a_stale_answer_stands_in_for_a_day_and_the_provider_is_asked_now_and_then() {
        let shop = Shop::default();
        shop.ask(0, good("max-age=3600", "one")).await.unwrap();
        let day_s = 24 * 3_600;
        assert_eq!(shop.ask(3_600, lost()).await, Ok("one".into()));
        assert_eq!(
            (shop.ask(3_609, good("", "two")).await, shop.asked.get()),
            (Ok("one".into()), 2)
        );
        let error = Incoming { status: 503, ..good("", "down").unwrap() };
        assert_eq!((shop.ask(3_610, Ok(error)).await, shop.asked.get()), (Ok("one".into()), 3));
        assert_eq!(shop.ask(3_600 + day_s, lost()).await, Ok("one".into()));
        assert_eq!(shop.ask(3_601 + day_s, lost()).await, Err(reason::TIMEOUT));
    }

    #[tokio::test]
    async fn a_stale_answer_gives_way_to_what_the_provider_says() {
        let shop = Shop::default();
        shop.ask(0, good("max-age=60", "one")).await.unwrap();
        let gone = Incoming { status: 404, ..good("", "gone").unwrap() };
        assert_eq!(shop.ask(61, Ok(gone)).await, Ok("gone".into()));
        assert_eq!(shop.ask(62, good("max-age=60", "two")).await, Ok("two".into()));
        let shop = Shop::default();
        shop.ask(0, good("max-age=60, must-revalidate", "one")).await.unwrap();
        assert_eq!(shop.ask(61, lost()).await, Err(reason::TIMEOUT));
    }

    #[tokio::test]
    async fn what_nobody_could_read_is_asked_for_again() {
        let shop = Shop::default();
        shop.ask(0, good("max-age=60", "<html>")).await.unwrap();
        shop.answers.forget(&key("a", "1", "keys", "/other"));
        assert_eq!(shop.ask(1, good("max-age=60", "two")).await, Ok("<html>".into()));
        shop.answers.forget(&key("a", "1", "keys", "/keys.json"));
        assert_eq!(shop.ask(2, good("max-age=60", "two")).await, Ok("two".into()));
    }

    #[tokio::test]
    async fn the_age_that_an_answer_has_already_counts() {
        let shop = Shop::default();
        let mut aged = good("max-age=3600", "one").unwrap();
        aged.headers.push(("age".into(), "3000".into()));
        shop.ask(0, Ok(aged)).await.unwrap();
        assert_eq!(shop.ask(599, good("", "two")).await, Ok("one".into()));
        assert_eq!(shop.ask(601, good("", "two")).await, Ok("two".into()));
    }

    #[tokio::test]
    async fn an_age_or_a_life_without_bounds_is_no_panic() {
        let forever = u64::MAX.to_string();
        let shop = Shop::default();
        let mut aged = good(&format!("max-age={forever}"), "one").unwrap();
        aged.headers.push(("age".into(), forever.clone()));
        shop.ask(0, Ok(aged)).await.unwrap();
        assert_eq!(shop.ask(1, good(&format!("max-age={forever}"), "two")).await, Ok("two".into()));
        assert_eq!(shop.ask(900_000, good("", "three")).await, Ok("two".into()));
    }

    #[tokio::test]
    async fn nothing_is_shared_between_accounts_addresses_and_configurations() {
        let answers = Answers::default();
        let at = || SystemTime::UNIX_EPOCH + 400_000 * HOUR;
        let keys = [
            key("a", "1", "keys", "/k"),
            key("b", "1", "keys", "/k"),
            key("a", "2", "keys", "/k"),
            key("a", "1", "other", "/k"),
            key("a", "1", "keys", "/k?x=1"),
        ];
        for (n, key) in keys.iter().enumerate() {
            let own = good("max-age=60", &n.to_string());
            let answer = answers.answer(key.clone(), &[], at, async { own }).await.unwrap();
            assert_eq!(answer.body, n.to_string());
        }
        for (n, key) in keys.into_iter().enumerate() {
            let answer = answers.answer(key, &[], at, async { lost() }).await.unwrap();
            assert_eq!(answer.body, n.to_string());
        }
    }

    #[tokio::test]
    async fn the_store_is_bounded_and_what_ends_first_goes_first() {
        let answers = Answers::default();
        let at = || SystemTime::UNIX_EPOCH + 400_000 * HOUR;
        for n in 0..=ANSWERS_MAX {
            let key = key("a", "1", "keys", &format!("/{n}"));
            let life = if n == 7 { 10 } else { 60 + n };
            let own = good(&format!("max-age={life}"), "own");
            answers.answer(key, &[], at, async { own }).await.unwrap();
        }
        assert_eq!(answers.kept().len(), ANSWERS_MAX);
        assert!(!answers.kept().contains_key(&key("a", "1", "keys", "/7")));
        assert!(answers.kept().contains_key(&key("a", "1", "keys", "/0")));
    }

    /// One request, asked again and again at seconds of a day.
    #[derive(Default)]
    struct Shop {
        answers: Answers,
        asked: Cell<u32>,
    }

    impl Shop {
        async fn ask(
            &self,
            second: u64,
            reply: Result<Incoming, Gone>,
        ) -> Result<String, &'static str> {
            let at = || SystemTime::UNIX_EPOCH + 400_000 * HOUR + Duration::from_secs(second);
            let fetch = async {
                self.asked.set(self.asked.get() + 1);
                reply
            };
            let accept = [("accept".to_owned(), "application/json".to_owned())];
            let key = key("a", "1", "keys", "/keys.json");
            let answer = self.answers.answer(key, &accept, at, fetch).await;
            answer
                .map(|answer| String::from_utf8(answer.body.to_vec()).unwrap())
                .map_err(|(_, why, _)| why)
        }
    }

    fn key(account: &str, seal: &str, endpoint: &str, target: &str) -> Key {
        Key {
            account: account.into(),
            seal: seal.into(),
            endpoint: endpoint.into(),
            target: target.into(),
        }
    }

    fn good(cache: &str, body: &str) -> Result<Incoming, Gone> {
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        if !cache.is_empty() {
            headers.push(("cache-control".into(), cache.into()));
        }
        Ok(Incoming {
            status: 200,
            headers,
            body: Bytes::from(body.to_owned()),
            elapsed: Duration::ZERO,
            connect_elapsed: None,
            reused: false,
        })
    }

    fn lost() -> Result<Incoming, Gone> {
        Err((Sent::Maybe, reason::TIMEOUT, 0))
    }
}
