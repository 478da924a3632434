//! Access tokens: fetched when a header asks for one, kept in memory alone, and fetched anew once
//! when the provider refuses one (RFC 6749, section 4.4).
//!
//! A plugin writes `{token:NAME}` and never sees the value. One fetch is under way at a time; who
//! comes meanwhile waits for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::{Manifest, Send, TokenGrant};
use serde::Deserialize;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::Caller;
use crate::setup::OpenAccount;

/// A token is not used in the last part of its life: it has to arrive, and clocks differ.
const MARGIN: Duration = Duration::from_secs(60);
/// The life of a token that is not told.
const UNTOLD: Duration = Duration::from_secs(300);
/// After a fetch that failed nothing is asked for so long.
const REST: Duration = Duration::from_secs(1);
/// A longer one is none, bytes.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// The tokens of one account.
#[derive(Default)]
pub struct Tokens {
    places: BTreeMap<String, Mutex<Place>>,
}

#[derive(Default)]
struct Place {
    held: Option<Held>,
    failed: Option<Instant>,
    fetches: u64,
}

#[derive(Clone)]
struct Held {
    token: Token,
    until: Instant,
}

/// A token, and which one of its name it is.
#[derive(Clone)]
pub(super) struct Token {
    value: Zeroizing<String>,
    fetch: u64,
}

/// What the provider answers, as far as it matters.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<u64>,
}

impl Tokens {
    /// One place for each token that the manifest declares.
    pub fn new(manifest: &Manifest) -> Self {
        let places = manifest.tokens.keys().map(|name| (name.clone(), Mutex::default()));
        Self { places: places.collect() }
    }
}

impl Token {
    /// A header's value with the token in the place of its name.
    pub(super) fn put_into(&self, value: &str, name: &str) -> String {
        value.replace(&format!("{{token:{name}}}"), &self.value)
    }
}

/// The name of the token that a request's headers ask for.
pub(super) fn wanted(send: &Send) -> Option<&str> {
    send.headers.iter().find_map(|(_, value)| {
        let (_, rest) = value.split_once("{token:")?;
        rest.split_once('}').map(|(name, _)| name)
    })
}

impl Caller {
    /// A token that the provider has not refused: another one than `refused`.
    ///
    /// # Errors
    /// The named reason why there is none; nothing but the question for it was sent.
    pub(super) async fn token(
        &self,
        account: &OpenAccount,
        name: &str,
        refused: Option<&Token>,
    ) -> Result<Token, &'static str> {
        let grant = account.manifest().tokens.get(name).ok_or("no_such_token")?;
        let place = account.tokens.places.get(name).ok_or("no_such_token")?;
        let mut place = place.lock().await;
        let now = Instant::now();
        let good = |held: &&Held| {
            now < held.until && refused.is_none_or(|refused| refused.fetch != held.token.fetch)
        };
        if let Some(held) = place.held.as_ref().filter(good) {
            return Ok(held.token.clone());
        }
        if place.failed.is_some_and(|at| now < at + REST) {
            return Err("no_token");
        }
        place.held = None;
        match self.fetch_token(account, grant).await {
            Ok((value, life)) => {
                place.fetches += 1;
                let token = Token { value, fetch: place.fetches };
                let held = Held { token: token.clone(), until: now + life };
                (place.held, place.failed) = (Some(held), None);
                Ok(token)
            }
            Err(why) => {
                tracing::warn!(account = account.name, token = name, why, "no access token");
                place.failed = Some(Instant::now());
                Err("no_token")
            }
        }
    }

    async fn fetch_token(
        &self,
        account: &OpenAccount,
        grant: &TokenGrant,
    ) -> Result<(Zeroizing<String>, Duration), &'static str> {
        let secret = |name| account.instance.secrets().header(name).ok_or("a secret is missing");
        let (id, password) = (secret(&grant.client_id)?, secret(&grant.client_secret)?);
        let pair = Zeroizing::new(format!("{id}:{password}"));
        let send = Send::to("POST", &grant.endpoint, &grant.path)
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", format!("Basic {}", BASE64.encode(pair.as_bytes())));
        let body = b"grant_type=client_credentials".to_vec();
        let by = Instant::now() + account.timeout;
        let answer = self.wire(account, &send, send.headers.clone(), body, by, true).await;
        let answer = answer.map_err(|(_, reason, _)| reason)?;
        match answer.status {
            200 => {}
            400 | 401 | 403 => return Err("the provider refuses the account's credentials"),
            _ => return Err("the provider gave none"),
        }
        let granted: Granted =
            serde_json::from_slice(&answer.body).map_err(|_| "the answer can't be read")?;
        let token = Zeroizing::new(granted.access_token);
        let fits = (1..=TOKEN_BYTES_MAX).contains(&token.len());
        if !fits || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("a header can't hold what was given");
        }
        let told = granted.expires_in.map_or(UNTOLD, Duration::from_secs);
        Ok((token, told - MARGIN.min(told / 2)))
    }
}
