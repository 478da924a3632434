//! Access tokens: who gets one, and who may ask with it.
//!
//! The token call answers errors in another shape than every other call, and so does a token that
//! is not known or not good any more.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::wire::{fresh, fresh_uuid, plain};
use crate::desk::{Answer, Inbound};

const TOKENS_LIMIT: usize = 10_000;
const SCOPE: &str = "https://uri.paypal.com/services/checkout \
     https://uri.paypal.com/services/reporting/search/read openid";

/// The tokens that were given, and when each ends, in milliseconds since the epoch.
#[derive(Debug, Default)]
pub struct Tokens {
    live: HashMap<String, i64>,
}

impl Tokens {
    /// Answers a request for a token that lives for `life_ms` from `now` on.
    pub fn give(
        &mut self,
        inbound: &Inbound,
        (client_id, secret): (&str, &str),
        (now, life_ms): (i64, i64),
    ) -> Answer {
        let basic = inbound.header("authorization").and_then(|a| a.strip_prefix("Basic "));
        let pair = basic.and_then(|text| STANDARD.decode(text).ok());
        if pair != Some(format!("{client_id}:{secret}").into_bytes()) {
            return told(401, "invalid_client", "Client Authentication failed");
        }
        let mut form = form_urlencoded::parse(&inbound.body);
        match form.find(|(name, _)| name == "grant_type").map(|(_, value)| value) {
            Some(grant) if grant == "client_credentials" => {}
            Some(_) => return told(400, "unsupported_grant_type", "Grant Type is not supported"),
            None => return told(400, "invalid_request", "Grant Type is missing"),
        }
        let token = format!("A21AA{}{}", fresh(), fresh());
        self.make_room(now);
        self.live.insert(token.clone(), now.saturating_add(life_ms));
        let body = json!({
            "scope": SCOPE,
            "access_token": token,
            "token_type": "Bearer",
            "app_id": "APP-SANDBOX",
            "expires_in": life_ms / 1000,
            "nonce": format!("{now}-{}", fresh_uuid()),
        });
        Answer::json(200, body.to_string())
    }

    /// Lets a request with a live token in.
    ///
    /// # Errors
    /// The answer to any other.
    pub fn admit(&self, inbound: &Inbound, now: i64) -> Result<(), Answer> {
        let bearer = inbound.header("authorization").and_then(|a| a.strip_prefix("Bearer "));
        let Some(token) = bearer else {
            return Err(plain(
                401,
                "AUTHENTICATION_FAILURE",
                "Authentication failed due to missing authorization header, or invalid \
                 authentication credentials.",
            ));
        };
        if self.live.get(token).is_some_and(|ends| now < *ends) {
            return Ok(());
        }
        Err(told(401, "invalid_token", "Token signature verification failed"))
    }

    /// Drops what has ended; when all are good, the one that ends first.
    fn make_room(&mut self, now: i64) {
        if self.live.len() < TOKENS_LIMIT {
            return;
        }
        self.live.retain(|_, ends| now < *ends);
        if self.live.len() >= TOKENS_LIMIT {
            let first = self.live.iter().min_by_key(|(_, ends)| **ends).map(|(t, _)| t.clone());
            first.and_then(|token| self.live.remove(&token));
        }
    }
}

fn told(status: u16, error: &str, description: &str) -> Answer {
    let body = json!({ "error": error, "error_description": description });
    let mut answer = Answer::json(status, body.to_string());
    let scheme = format!("Bearer error=\"{error}\"");
    answer.headers.extend((status == 401).then_some(("www-authenticate", scheme)));
    answer
}
