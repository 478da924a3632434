//! The fake of Apple's endpoint for merchants' sessions, and of the telephones that make tokens.
//!
//! Apple knows a merchant by the certificate that the client shows in the handshake, so the account
//! speaks TLS alone, and a client without one of the right authority never sends a request. Tokens
//! are made at the control plane, because no merchant's server ever asks Apple for one.

mod identity;
mod telephone;

use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::config::ApplePayConfig;
use crate::desk::{Answer, Call, Desk, Inbound};
use crate::faults::Operation;
use crate::keys::KeyError;
use crate::moment;

pub use identity::write_keys;
use telephone::Telephone;
pub use telephone::TokenOrder;

const PATHS: [&str; 2] = ["/paymentservices/paymentSession", "/paymentservices/startSession"];
const DISPLAY_NAME_LENGTH: usize = 64;
/// What published answers show, whatever the documents say of five minutes.
const SHOWN_LIFE_MS: i64 = 3_600_000;

/// One merchant at Apple.
pub struct ApplePay {
    desk: Desk,
    config: ApplePayConfig,
    acceptor: TlsAcceptor,
    telephone: Telephone,
}

/// What a request for a session must hold, and nothing else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Ask {
    merchant_identifier: String,
    display_name: String,
    initiative: String,
    initiative_context: String,
}

impl ApplePay {
    /// An account whose `config` holds PEM and no paths.
    ///
    /// # Errors
    /// A key or certificate cannot be used.
    pub fn new(desk: Desk, config: ApplePayConfig) -> Result<Self, KeyError> {
        let acceptor = identity::acceptor(
            &config.server_certificate,
            &config.server_private_key,
            &config.identity_ca,
        )?;
        let telephone = Telephone::new(&config)?;
        Ok(Self { desk, config, acceptor, telephone })
    }

    /// Makes the handshake of every connection.
    pub fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// What `inbound` asks for.
    pub fn recognise(&self, inbound: &Inbound) -> Call {
        let known = PATHS.contains(&inbound.path.as_str());
        let name = inbound.path.rsplit('/').next().filter(|_| known).unwrap_or_default();
        Call { operation: Operation::Inquire, name: name.into(), op_id: None }
    }

    /// Answers a request for a session with a new one.
    pub fn execute(&self, inbound: &Inbound) -> Answer {
        if !PATHS.contains(&inbound.path.as_str()) {
            return refused(404, "Not Found");
        }
        if inbound.method != "POST" || !inbound.query.is_empty() {
            return refused(405, "Method Not Allowed");
        }
        let json =
            inbound.header("content-type").is_some_and(|t| t.starts_with("application/json"));
        let ask: Ask = match serde_json::from_slice(&inbound.body) {
            Ok(ask) if json => ask,
            _ => return refused(400, "the body has other members than the four"),
        };
        let named = (1..=DISPLAY_NAME_LENGTH).contains(&ask.display_name.chars().count());
        if !named || ask.initiative != "web" {
            return refused(400, "displayName or initiative is wrong");
        }
        if ask.merchant_identifier != self.config.merchant_id {
            return refused(417, "Payment Services Exception merchantId is not known");
        }
        let domains = &self.config.domains;
        if !domains.is_empty() && !domains.contains(&ask.initiative_context) {
            return refused(417, "Payment Services Exception domain is not registered");
        }
        Answer::json(200, session(&ask, moment::now_ms()).to_string())
    }

    /// The answer to a client that asks too often.
    pub fn limited(&self) -> Answer {
        refused(429, "Too Many Requests")
    }

    /// The answer of an endpoint that failed.
    pub fn failure(&self) -> Answer {
        refused(503, "Service Unavailable")
    }

    /// A token as a telephone makes it, and what is inside.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn token(&self, order: &TokenOrder) -> Result<Value, String> {
        self.telephone.token(&self.config.merchant_id, order)
    }

    /// See [`Desk`].
    pub fn desk(&self) -> &Desk {
        &self.desk
    }
}

/// Nobody but the wallet may look into it; the members are those of published answers.
fn session(ask: &Ask, now_ms: i64) -> Value {
    let merchant = hex::encode_upper(digest(&SHA256, ask.merchant_identifier.as_bytes()));
    let id = hex::encode_upper(rand::random::<[u8; 32]>());
    let signature = hex::encode(rand::random::<[u8; 32]>());
    json!({
        "epochTimestamp": now_ms,
        "expiresAt": now_ms + SHOWN_LIFE_MS,
        "merchantSessionIdentifier": format!("SSH{id}_{merchant}"),
        "nonce": hex::encode(rand::random::<[u8; 4]>()),
        "merchantIdentifier": merchant,
        "domainName": ask.initiative_context,
        "displayName": ask.display_name,
        "signature": format!("308006092a864886f70d010702{signature}"),
        "operationalAnalyticsIdentifier": format!("{}:{merchant}", ask.display_name),
        "retries": 0,
        "pspId": merchant,
    })
}

fn refused(status: u16, why: &str) -> Answer {
    let body = json!({ "statusMessage": why, "statusCode": status.to_string() });
    Answer::json(status, body.to_string())
}
