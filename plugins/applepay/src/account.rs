//! The account's settings: which merchant, under which root, and how old a token may be.

use der::DecodePem;
use interlock_plugin_api::Fault;
use serde::Deserialize;
use serde_json::Value;
use x509_cert::Certificate;

use crate::chain::{self, is_authority};
use crate::refusal::{No, Refusal};
use crate::session;

/// Apple speaks of a few minutes.
const MAX_AGE_S: u32 = 300;
const MAX_AGE_LIMIT_S: u32 = 86_400;
const MERCHANT_ID_LENGTH: usize = 255;
const ROOT_LENGTH: usize = 8 * 1024;

/// One merchant's settings.
pub(crate) struct Account {
    /// `merchant.com.example`.
    pub(crate) merchant_id: String,
    /// What the wallet's sheet calls the shop, where a page does not say.
    pub(crate) display_name: Option<String>,
    /// Where every chain must end.
    pub(crate) root: Certificate,
    max_age_ms: i64,
}

#[derive(Deserialize)]
struct Settings {
    merchant_id: String,
    root_certificate: String,
    #[serde(default)]
    display_name: Option<String>,
    #[serde(default = "max_age_s")]
    max_age: u32,
}

fn max_age_s() -> u32 {
    MAX_AGE_S
}

impl Account {
    pub(crate) fn read(config: &Value) -> Result<Self, Fault> {
        let settings = Settings::deserialize(config).map_err(|_| {
            Fault::config("needs `merchant_id` and `root_certificate`, and `max_age` in seconds")
        })?;
        let id = &settings.merchant_id;
        if !(1..=MERCHANT_ID_LENGTH).contains(&id.len())
            || !id.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(Fault::config("`merchant_id` is none, such as `merchant.com.example`"));
        }
        if settings.display_name.as_deref().is_some_and(|name| !session::is_display_name(name)) {
            return Err(Fault::config("`display_name` has more than 64 characters, or none"));
        }
        if !(1..=MAX_AGE_LIMIT_S).contains(&settings.max_age) {
            return Err(Fault::config("`max_age` is not between 1 and 86400 seconds"));
        }
        Ok(Self {
            merchant_id: settings.merchant_id,
            display_name: settings.display_name,
            root: root(&settings.root_certificate)?,
            max_age_ms: i64::from(settings.max_age) * 1_000,
        })
    }

    /// Refuses what was signed too long before it arrived, or after it.
    pub(crate) fn judge_age(&self, signed_ms: i64, arrived_ms: i64) -> Result<(), No> {
        let age_ms = arrived_ms.saturating_sub(signed_ms);
        if age_ms > self.max_age_ms {
            return Err(Refusal::Stale.into());
        }
        if age_ms < -self.max_age_ms {
            return Err(Refusal::Future.into());
        }
        Ok(())
    }
}

fn root(pem: &str) -> Result<Certificate, Fault> {
    let fits = pem.len() <= ROOT_LENGTH;
    let read = fits.then(|| Certificate::from_pem(pem.trim()).ok()).flatten();
    let root = read.ok_or(Fault::config("`root_certificate` is not one certificate in PEM"))?;
    let usable = is_authority(&root) && chain::public_pem(&root).is_some();
    usable.then_some(root).ok_or(Fault::config("`root_certificate` is not that of an authority"))
}
