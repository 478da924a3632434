//! The telephone of a shopper: makes tokens for the account's merchant, good or with one defect.

use serde::Deserialize;
use serde_json::{Value, json};
use wallet_tokens::apple::{Authority, Defect, Payment, ProcessingKey, knows_currency, make};

use crate::config::ApplePayConfig;
use crate::keys::KeyError;
use crate::moment;

/// The token that a test wants: the body of `POST /wallets/apple_pay/tokens`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenOrder {
    /// The account's name.
    pub account: String,
    /// Minor units of ISO 4217.
    pub amount: i64,
    /// Three letters.
    pub currency: String,
    /// What is wrong with it.
    pub defect: Option<String>,
    /// When it is made, Unix ms; now, when absent.
    pub now_ms: Option<i64>,
    /// Which key it is encrypted to.
    #[serde(default)]
    pub key: Recipient,
    /// The device's account number; drawn when absent.
    pub number: Option<String>,
    /// Decides everything that is drawn, so that a token can be made twice.
    pub seed: Option<u64>,
}

/// A key of the merchant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipient {
    /// `processing_private_key`: EC_v1.
    #[default]
    Current,
    /// `previous_processing_private_key`: EC_v1.
    Previous,
    /// `rsa_processing_private_key`: RSA_v1.
    Rsa,
}

pub(super) struct Telephone {
    authority: Authority,
    current: ProcessingKey,
    previous: Option<ProcessingKey>,
    rsa: Option<ProcessingKey>,
}

impl Telephone {
    pub(super) fn new(config: &ApplePayConfig) -> Result<Self, KeyError> {
        let key = |pem: &String, rsa: bool| {
            let key = ProcessingKey::from_pem(pem).ok();
            key.filter(|key| matches!(key, ProcessingKey::Rsa(_)) == rsa)
                .ok_or(KeyError::Unfit("a processing key is not PKCS#8 of its kind"))
        };
        let previous = config.previous_processing_private_key.as_ref();
        let rsa = config.rsa_processing_private_key.as_ref();
        Ok(Self {
            authority: Authority::from_pem(&config.authority_private_key)
                .map_err(|_| KeyError::Unfit("authority_private_key is not the four keys"))?,
            current: key(&config.processing_private_key, false)?,
            previous: previous.map(|pem| key(pem, false)).transpose()?,
            rsa: rsa.map(|pem| key(pem, true)).transpose()?,
        })
    }

    pub(super) fn token(&self, merchant: &str, order: &TokenOrder) -> Result<Value, String> {
        let key = match order.key {
            Recipient::Current => Some(&self.current),
            Recipient::Previous => self.previous.as_ref(),
            Recipient::Rsa => self.rsa.as_ref(),
        };
        let key = key.ok_or("the account has no key of this name")?;
        let word = order.defect.as_deref();
        let defect: Option<Defect> =
            word.map(str::parse).transpose().map_err(|why| format!("{why}"))?;
        if !knows_currency(&order.currency) {
            return Err(format!("no currency of ISO 4217: {}", order.currency));
        }
        let now_ms = order.now_ms.unwrap_or_else(moment::now_ms);
        // The times that a signature can tell, in two digits of the year.
        if !(1_600_000_000_000..2_500_000_000_000).contains(&now_ms) {
            return Err("now_ms is not between 2020 and 2049".into());
        }
        let seed = order.seed.unwrap_or_else(rand::random);
        let payment = Payment {
            number: order.number.clone(),
            ..Payment::new(order.amount, &order.currency, now_ms, seed)
        };
        let made = make(&self.authority, merchant, key, &payment, defect);
        Ok(json!({ "token": made.token, "inside": made.inside, "seed": seed }))
    }
}
