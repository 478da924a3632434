//! Turns a provider's name into addresses without ever holding up the pool: cached, single-flight,
//! and with the last good answer kept for as long as the resolver is ill.
//!
//! An outage of the resolver must not become an outage of payments, so an old answer is better
//! than none; the TLS handshake still proves who answers at the old address.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::{Failure, reason};

/// Names come from the configuration; this only bounds a mistake.
const NAMES_KEPT: usize = 1024;
/// So many lookups may hang: each keeps a thread until the system gives it up, and others need
/// threads, too.
pub(crate) const LOOKUPS_MAX: usize = 32;

type Answer = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
type Lookup = dyn Fn(String, u16) -> Answer + Send + Sync;

pub(super) struct Names {
    lookup: Box<Lookup>,
    ttl: Duration,
    patience: Duration,
    known: Mutex<HashMap<(String, u16), Arc<Name>>>,
}

#[derive(Default)]
struct Name {
    /// The last good answer, and until when it needs no refresh.
    answer: Mutex<Option<(Vec<SocketAddr>, Instant)>>,
    /// Held by the one request that asks the resolver.
    asking: tokio::sync::Mutex<()>,
}

impl Names {
    /// Asks the system's resolver.
    pub(super) fn system(ttl: Duration, patience: Duration) -> Names {
        let resolve = |name: &str, port| Ok((name, port).to_socket_addrs()?.collect());
        Names::asking(bounded(resolve), ttl, patience)
    }

    fn asking(lookup: Box<Lookup>, ttl: Duration, patience: Duration) -> Names {
        Names { lookup, ttl, patience, known: Mutex::default() }
    }

    /// The addresses of `name`; waits for the resolver only `patience` when an old answer exists.
    pub(super) async fn resolve(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let entry = self.entry(name, port);
        if let Some((addresses, fresh_until)) = entry.read() {
            if Instant::now() < fresh_until {
                return Ok(addresses);
            }
            let refreshed = tokio::time::timeout(self.patience, self.refresh(&entry, name, port));
            return match refreshed.await {
                Ok(Ok(addresses)) => Ok(addresses),
                _ => {
                    tracing::warn!(name, "resolver gives no answer, the last good one is used");
                    entry.keep_for(&addresses, self.ttl / 10);
                    Ok(addresses)
                }
            };
        }
        self.refresh(&entry, name, port).await
    }

    async fn refresh(
        &self,
        entry: &Name,
        name: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let _asking = entry.asking.lock().await;
        if let Some((addresses, fresh_until)) = entry.read()
            && Instant::now() < fresh_until
        {
            return Ok(addresses);
        }
        match (self.lookup)(name.to_owned(), port).await {
            Ok(addresses) if !addresses.is_empty() => {
                entry.keep_for(&addresses, self.ttl);
                Ok(addresses)
            }
            _ => Err(Failure::not_sent(reason::DNS)),
        }
    }

    fn entry(&self, name: &str, port: u16) -> Arc<Name> {
        let mut known = self.known.lock().expect("nothing panics while it is held");
        if known.len() >= NAMES_KEPT {
            known.clear();
        }
        known.entry((name.to_owned(), port)).or_default().clone()
    }
}

/// A lookup that blocks, on a thread for it. Who is not waited for any more keeps his place until
/// the system has answered; with no place left there is no answer.
fn bounded(
    resolve: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Copy + Send + Sync + 'static,
) -> Box<Lookup> {
    let places = Arc::new(Semaphore::new(LOOKUPS_MAX));
    Box::new(move |name, port| {
        let place = Arc::clone(&places).try_acquire_owned();
        Box::pin(async move {
            let place = place.map_err(|_| io::Error::other("too many lookups hang"))?;
            let asked = tokio::task::spawn_blocking(move || {
                let found = resolve(&name, port);
                drop(place);
                found
            });
            asked.await.map_err(io::Error::other)?
        })
    })
}

impl Name {
    fn read(&self) -> Option<(Vec<SocketAddr>, Instant)> {
        self.answer.lock().expect("nothing panics while it is held").clone()
    }

    fn keep_for(&self, addresses: &[SocketAddr], time: Duration) {
        let answer = Some((addresses.to_vec(), Instant::now() + time));
        *self.answer.lock().expect("nothing panics while it is held") = answer;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_fresh_answer_is_not_asked_for_again() {
        let asked = Arc::new(AtomicU32::new(0));
        let names = scripted(&asked, Duration::from_secs(30), |_| Some("192.0.2.1:443"));
        for _ in 0..5 {
            assert_eq!(names.resolve("p.example", 443).await.unwrap(), at("192.0.2.1:443"));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_last_good_answer_survives_a_resolver_that_fails() {
        let asked = Arc::new(AtomicU32::new(0));
        let names = scripted(&asked, Duration::ZERO, |n| (n == 0).then_some("192.0.2.1:443"));
        for _ in 0..3 {
            assert_eq!(names.resolve("p.example", 443).await.unwrap(), at("192.0.2.1:443"));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_name_that_never_had_an_address_is_not_sent() {
        let asked = Arc::new(AtomicU32::new(0));
        let names = scripted(&asked, Duration::from_secs(30), |_| None);
        let failure = names.resolve("p.example", 443).await.unwrap_err();
        assert_eq!((failure.sent, failure.reason), (super::super::Sent::NotSent, reason::DNS));
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_holds_up_no_request_that_has_an_old_answer() {
        let calls = AtomicU32::new(0);
        let lookup = move |_, _| -> Answer {
            match calls.fetch_add(1, Ordering::SeqCst) {
                0 => Box::pin(async { Ok(at("192.0.2.1:443")) }),
                _ => Box::pin(std::future::pending()),
            }
        };
        let names = Names::asking(Box::new(lookup), Duration::ZERO, Duration::from_millis(5));
        for _ in 0..2 {
            assert_eq!(names.resolve("p.example", 443).await.unwrap(), at("192.0.2.1:443"));
        }
    }

    fn scripted(
        asked: &Arc<AtomicU32>,
        ttl: Duration,
        answer: fn(u32) -> Option<&'static str>,
    ) -> Names {
        let asked = asked.clone();
        let lookup = move |_, _| -> Answer {
            let answer = answer(asked.fetch_add(1, Ordering::SeqCst));
            Box::pin(async move { answer.map(at).ok_or(io::Error::other("no such name")) })
        };
        Names::asking(Box::new(lookup), ttl, Duration::from_millis(500))
    }

    fn at(address: &str) -> Vec<SocketAddr> {
        vec![address.parse().unwrap()]
    }

    #[tokio::test]
    async fn lookups_that_hang_are_bounded_and_leave_threads_to_others() {
        static HANG: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let hanging = HANG.lock().unwrap();
        let resolve = |name: &str, _| {
            if name == "hangs" {
                drop(HANG.lock());
            }
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1))])
        };
        let lookup = bounded(resolve);
        let mut waiting = Vec::new();
        for _ in 0..LOOKUPS_MAX {
            waiting.push(tokio::spawn(lookup("hangs".into(), 1)));
        }
        // Each has begun.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let full = lookup("well".into(), 1).await.unwrap_err();
        assert_eq!(full.to_string(), "too many lookups hang");
        // Nobody waits for them any more, and they still have their places.
        waiting.drain(..).for_each(|task| task.abort());
        assert!(lookup("well".into(), 1).await.is_err());
        drop(hanging);
        while lookup("well".into(), 1).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
