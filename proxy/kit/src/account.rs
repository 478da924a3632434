//! The account that a plugin is opened for while it is judged: `fixtures/account.toml`.
//!
//! Secrets that the file does not give are made here, each of its kind. They are the same in every
//! run, so that signatures in fixtures stay good, and they are looked for in everything that the
//! plugin puts out.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use interlock_plugin_api::{Manifest, SecretKind};
use interlock_plugin_host::{FetchedKey, Instance, SecretError, Secrets};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

/// A pair for tests alone: it is published with the source.
const PRIVATE: &str = include_str!("keys/private.pem");
const PRIVATE_EC: &str = include_str!("keys/private-ec.pem");
const PUBLIC: &str = include_str!("keys/public.pem");
const ANOTHER_PUBLIC: &str = include_str!("keys/another-public.pem");

/// An account for tests.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Account {
    /// The plain settings.
    pub config: serde_json::Map<String, Value>,
    /// Secrets by name; what is absent is made.
    pub secrets: BTreeMap<String, String>,
    /// Keys of keyrings, as `RING/ID`: public keys or certificates, PEM. `kit` stands for the
    /// kit's own.
    pub keys: BTreeMap<String, String>,
    /// Credentials by form, where a provider's have a form that the kit's own have not.
    pub credentials: BTreeMap<String, serde_json::Map<String, Value>>,
}

/// An account file that can't be read.
#[derive(Debug)]
pub struct AccountError(String);

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fixtures/account.toml can't be used: {}", self.0)
    }
}

impl std::error::Error for AccountError {}

impl Account {
    /// Reads `account.toml` of the fixtures' folder; without one the account has no settings.
    ///
    /// # Errors
    /// [`AccountError`] says what is wrong.
    pub fn read(fixtures: &Path) -> Result<Self, AccountError> {
        let path = fixtures.join("account.toml");
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&path).map_err(|e| AccountError(e.kind().to_string()))?;
        toml::from_str(&text).map_err(|e| AccountError(e.message().to_owned()))
    }

    /// The settings as the plugin is given them.
    pub fn settings(&self) -> Value {
        Value::Object(self.config.clone())
    }

    /// Every secret that the manifest declares.
    ///
    /// # Errors
    /// One of the file's is not declared or of another shape.
    pub fn secrets(&self, manifest: &Manifest) -> Result<Secrets, SecretError> {
        let mut pairs: BTreeMap<String, String> = self.secrets.clone();
        for (name, kind) in &manifest.secrets {
            pairs.entry(name.clone()).or_insert_with(|| made(name, *kind));
        }
        held(manifest, pairs)
    }

    /// Puts the keys of keyrings where the plugin finds them.
    ///
    /// # Errors
    /// What is wrong with one of them, and which.
    pub fn give_keys(&self, to: &Instance) -> Result<(), String> {
        self.put_keys(to, PUBLIC)
    }

    /// As [`Account::give_keys`], each with another key in its place.
    ///
    /// # Errors
    /// As [`Account::give_keys`].
    pub fn give_other_keys(&self, to: &Instance) -> Result<(), String> {
        let other = |name: &String| (name.clone(), "kit".to_owned());
        let keys = self.keys.keys().map(other).collect();
        Self { keys, ..Self::default() }.put_keys(to, ANOTHER_PUBLIC)
    }

    fn put_keys(&self, to: &Instance, own: &str) -> Result<(), String> {
        for (name, pem) in &self.keys {
            let key = FetchedKey::read(if pem == "kit" { own } else { pem });
            let key = key.map_err(|why| format!("key can't be used, {why}: {name}"))?;
            let (ring, id) = name.split_once('/').unwrap_or((name, ""));
            if !to.keyrings().put(ring, id, key) {
                return Err(format!("no keyring takes a key of this name: {name}"));
            }
        }
        Ok(())
    }

    /// The same account after every key was replaced.
    ///
    /// # Errors
    /// As [`Account::secrets`].
    pub fn other_secrets(&self, manifest: &Manifest) -> Result<Secrets, SecretError> {
        let other = manifest.secrets.iter().map(|(name, kind)| {
            let value = match kind {
                SecretKind::RsaPublic => ANOTHER_PUBLIC.to_owned(),
                kind => made(&format!("another-{name}"), *kind),
            };
            (name.clone(), value)
        });
        held(manifest, other.collect())
    }
}

fn held(manifest: &Manifest, pairs: BTreeMap<String, String>) -> Result<Secrets, SecretError> {
    let pairs = pairs.into_iter().map(|(name, value)| (name, SecretString::from(value)));
    Secrets::of(manifest, pairs.collect())
}

/// The secret of an account that gives none.
pub(crate) fn made(name: &str, kind: SecretKind) -> String {
    match kind {
        SecretKind::Header | SecretKind::Mac => format!("kit-{name}-0123456789"),
        SecretKind::MacHex => hex::encode(format!("kit-{name}-0123456789")),
        SecretKind::RsaPrivate => PRIVATE.to_owned(),
        SecretKind::RsaPublic => PUBLIC.to_owned(),
        SecretKind::Aead => {
            let name = format!("kit-{name}-");
            format!("{name:0<32.32}")
        }
        SecretKind::EcKeyAgreement => PRIVATE_EC.to_owned(),
        SecretKind::RsaKeyTransport => PRIVATE.to_owned(),
    }
}
