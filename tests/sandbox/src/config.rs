//! The configuration file of the sandbox, and the keys that it names.
//!
//! Unknown members are errors, because a misspelt option of a test oracle would be believed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Everything that one sandbox needs to start.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The control plane.
    #[serde(default)]
    pub control: ControlConfig,
    /// One fake for each account, by name.
    pub accounts: BTreeMap<String, AccountConfig>,
    /// The folder that relative paths begin at: where the file lies.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// `[control]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlConfig {
    /// Where the control plane listens.
    #[serde(default = "control_listen")]
    pub listen: SocketAddr,
    /// The seed of the fault dial's chance.
    #[serde(default)]
    pub seed: u64,
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self { listen: control_listen(), seed: 0 }
    }
}

/// `[accounts.NAME]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "provider", rename_all = "snake_case")]
pub enum AccountConfig {
    /// Adyen Checkout, v72.
    Adyen(AdyenConfig),
    /// The v1 gateway of Alipay, RSA2.
    Alipay(AlipayConfig),
    /// Checkout.com, NAS.
    Checkout(CheckoutConfig),
    /// PayPal, Orders v2 and Payments v2.
    Paypal(PaypalConfig),
}

/// `[accounts.NAME]` with `provider = "adyen"`. Times are milliseconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdyenConfig {
    /// Where this account listens.
    pub listen: SocketAddr,
    /// Which every request must carry as `X-API-Key`.
    pub api_key: String,
    /// Which every request must name.
    pub merchant_account: String,
    /// Signs notifications: in hexadecimal, as the provider shows it.
    pub hmac_key: String,
    /// Where notifications go; none are sent without it.
    #[serde(default)]
    pub notify_url: Option<String>,
    /// Between an event and its notification.
    #[serde(default = "notify_delay_ms")]
    pub notify_delay_ms: u64,
    /// Before the second delivery of a notification; doubles each time.
    #[serde(default = "notify_retry_ms")]
    pub notify_retry_ms: u64,
    /// What `slow` and `notify_delay` wait when their order says 0.
    #[serde(default = "late_ms")]
    pub late_ms: u64,
    /// Every answer takes so long; execution is at once, copies meet 704 until it is over.
    #[serde(default)]
    pub latency_ms: u64,
    /// Between the acceptance of a change, or the authorization of an automatic payment, and the
    /// moment in which it is made, or captured.
    #[serde(default = "action_ms")]
    pub action_ms: u64,
    /// When a pending payment is authorised by itself; 0 means never.
    #[serde(default = "approve_ms")]
    pub decide_ms: u64,
    /// When a challenge that nobody brought back is refused; 0 means never.
    #[serde(default)]
    pub challenge_ms: u64,
    /// How long an idempotency key is remembered.
    #[serde(default = "week_ms")]
    pub key_life_ms: u64,
}

/// `[accounts.NAME]` with `provider = "alipay"`. Times are milliseconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlipayConfig {
    /// Where this account listens.
    pub listen: SocketAddr,
    /// The application's id, which every request must carry.
    pub app_id: String,
    /// The seller's user id, 2088 and 12 digits, in answers and notifications.
    pub seller_id: String,
    /// Verifies requests: PEM, or the path of one.
    pub app_public_key: String,
    /// Signs answers and notifications: PEM, or the path of one.
    pub gateway_private_key: String,
    /// When given, must be the public half of `gateway_private_key`.
    #[serde(default)]
    pub gateway_public_key: Option<String>,
    /// For requests that name no `notify_url`.
    #[serde(default)]
    pub notify_url: Option<String>,
    /// Between an event and its notification.
    #[serde(default = "notify_delay_ms")]
    pub notify_delay_ms: u64,
    /// Before the second delivery of a notification; doubles each time.
    #[serde(default = "notify_retry_ms")]
    pub notify_retry_ms: u64,
    /// What `slow` and `notify_delay` wait when their order says 0.
    #[serde(default = "late_ms")]
    pub late_ms: u64,
    /// Every answer takes so long; execution is at once.
    #[serde(default)]
    pub latency_ms: u64,
    /// How long a QR can be scanned; 2 h at Alipay.
    #[serde(default = "qr_expiry_ms")]
    pub qr_expiry_ms: u64,
    /// When a pending barcode payment is approved by itself; 0 means never.
    #[serde(default = "approve_ms")]
    pub approve_ms: u64,
    /// When an unpaid trade closes by itself; 3 h at Alipay.
    #[serde(default = "trade_timeout_ms")]
    pub trade_timeout_ms: u64,
    /// Whether a cancel of an unknown number makes a later pay or scan of it refused.
    #[serde(default)]
    pub tombstone: bool,
    /// How far a request's timestamp may be from Beijing time; 0 means any.
    #[serde(default = "timestamp_tolerance_ms")]
    pub timestamp_tolerance_ms: u64,
}

/// `[accounts.NAME]` with `provider = "checkout"`. Times are milliseconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckoutConfig {
    /// Where this account listens.
    pub listen: SocketAddr,
    /// `sk_...`, which every request must carry as a bearer.
    pub secret_key: String,
    /// Signs webhooks.
    pub webhook_key: String,
    /// When given, every payment must name it.
    #[serde(default)]
    pub processing_channel: Option<String>,
    /// Where webhooks go; none are sent without it.
    #[serde(default)]
    pub notify_url: Option<String>,
    /// Between an event and its webhook.
    #[serde(default = "notify_delay_ms")]
    pub notify_delay_ms: u64,
    /// Before the second delivery of a webhook; doubles each time.
    #[serde(default = "notify_retry_ms")]
    pub notify_retry_ms: u64,
    /// What `slow` and `notify_delay` wait when their order says 0.
    #[serde(default = "late_ms")]
    pub late_ms: u64,
    /// Every answer takes so long; execution is at once, copies meet 409 until it is over.
    #[serde(default)]
    pub latency_ms: u64,
    /// Between the acceptance of a capture, void, refund or reversal and its execution.
    #[serde(default = "action_ms")]
    pub action_ms: u64,
    /// How long an idempotency key is remembered.
    #[serde(default = "key_life_ms")]
    pub key_life_ms: u64,
    /// How long a new payment is missing from the list by reference.
    #[serde(default)]
    pub list_delay_ms: u64,
}

/// `[accounts.NAME]` with `provider = "paypal"`. Times are milliseconds, but for the token's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaypalConfig {
    /// Where this account listens.
    pub listen: SocketAddr,
    /// Who may ask for tokens.
    pub client_id: String,
    /// His secret.
    pub client_secret: String,
    /// The webhook's id, which is signed with every webhook.
    pub webhook_id: String,
    /// Signs webhooks: PEM, or the path of one.
    pub webhook_private_key: String,
    /// Signs the certificate that webhooks are verified with: PEM, or the path of one.
    pub webhook_ca_private_key: String,
    /// Whom that certificate is for.
    #[serde(default = "webhook_cn")]
    pub webhook_cn: String,
    /// Where webhooks go; none are sent without it.
    #[serde(default)]
    pub notify_url: Option<String>,
    /// Between an event and its webhook.
    #[serde(default = "notify_delay_ms")]
    pub notify_delay_ms: u64,
    /// Before the second delivery of a webhook; doubles each time.
    #[serde(default = "notify_retry_ms")]
    pub notify_retry_ms: u64,
    /// What `slow` and `notify_delay` wait when their order says 0.
    #[serde(default = "late_ms")]
    pub late_ms: u64,
    /// Every answer takes so long; execution is at once, copies are refused until it is over.
    #[serde(default)]
    pub latency_ms: u64,
    /// How long an access token is good, in seconds.
    #[serde(default = "token_life_s")]
    pub token_life_s: u64,
    /// When a capture that is looked at is decided by itself; 0 means never.
    #[serde(default = "approve_ms")]
    pub decide_ms: u64,
    /// How long a request id of an order is remembered.
    #[serde(default = "order_key_life_ms")]
    pub order_key_life_ms: u64,
    /// How long a request id of a capture of a hold, a renewal or a refund is remembered.
    #[serde(default = "payment_key_life_ms")]
    pub payment_key_life_ms: u64,
    /// How long a transaction is missing from the report.
    #[serde(default)]
    pub report_delay_ms: u64,
    /// Whether an invoice can be paid only once.
    #[serde(default)]
    pub duplicate_invoice_id: bool,
    /// Whether the last two digits of an amount choose what becomes of a capture.
    #[serde(default)]
    pub magic_amounts: bool,
}

fn control_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9900))
}
fn notify_delay_ms() -> u64 {
    20
}
fn notify_retry_ms() -> u64 {
    250
}
fn late_ms() -> u64 {
    2_000
}
fn qr_expiry_ms() -> u64 {
    2 * 3_600_000
}
fn approve_ms() -> u64 {
    2_000
}
fn trade_timeout_ms() -> u64 {
    3 * 3_600_000
}
fn timestamp_tolerance_ms() -> u64 {
    15 * 60_000
}
fn action_ms() -> u64 {
    30
}
fn key_life_ms() -> u64 {
    24 * 3_600_000
}
fn week_ms() -> u64 {
    7 * 24 * 3_600_000
}

fn webhook_cn() -> String {
    "messageverificationcerts.sandbox.paypal.com".into()
}
fn token_life_s() -> u64 {
    32_400
}
fn order_key_life_ms() -> u64 {
    6 * 3_600_000
}
fn payment_key_life_ms() -> u64 {
    45 * 24 * 3_600_000
}

/// Why a configuration is refused.
#[derive(Debug)]
pub enum ConfigError {
    /// A file could not be read.
    Unread(PathBuf, std::io::Error),
    /// The text is not what this file says it must be.
    Invalid(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unread(path, why) => write!(f, "could not read {}: {why}", path.display()),
            Self::Invalid(why) => write!(f, "invalid configuration: {why}"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the file at `path`; relative paths inside begin at its folder.
    ///
    /// # Errors
    /// `Unread` and `Invalid`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|e| ConfigError::Unread(path.into(), e))?;
        Self::parse(&text, path.parent().unwrap_or(Path::new(".")))
    }

    /// Reads `text`; relative paths inside begin at `folder`.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, ConfigError> {
        let mut config: Self =
            toml::from_str(text).map_err(|e| ConfigError::Invalid(e.to_string()))?;
        config.folder = folder.into();
        if config.accounts.is_empty() {
            return Err(ConfigError::Invalid("no account".into()));
        }
        let fits = |name: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !name.is_empty() && name.chars().all(plain)
        };
        match config.accounts.keys().find(|name| !fits(name)) {
            Some(name) => Err(ConfigError::Invalid(format!("account name: {name}"))),
            None => Ok(config),
        }
    }

    /// The key that `value` is or points to.
    ///
    /// # Errors
    /// `Unread` when it looks like a path and no file is there.
    pub fn key_text(&self, value: &str) -> Result<String, ConfigError> {
        let value = value.trim();
        let is_path = !value.starts_with("-----") && value.len() < 300;
        if !is_path {
            return Ok(value.into());
        }
        let path = self.folder.join(value);
        fs::read_to_string(&path).map_err(|e| ConfigError::Unread(path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_option_is_an_error_that_names_it() {
        let text = r#"
            [accounts.c]
            provider = "checkout"
            listen = "127.0.0.1:0"
            secret_key = "sk_x"
            webhook_key = "w"
            acton_ms = 3
        "#;
        let error = Config::parse(text, Path::new(".")).unwrap_err().to_string();
        assert!(error.contains("acton_ms"), "{error}");
    }

    #[test]
    fn defaults_are_those_of_the_providers() {
        let text = r#"
            [accounts.a]
            provider = "alipay"
            listen = "127.0.0.1:0"
            app_id = "1"
            seller_id = "2"
            app_public_key = "a.pem"
            gateway_private_key = "b.pem"
        "#;
        let config = Config::parse(text, Path::new("/nowhere")).unwrap();
        let AccountConfig::Alipay(alipay) = &config.accounts["a"] else { unreachable!() };
        assert_eq!(alipay.qr_expiry_ms, 7_200_000);
        assert!(!alipay.tombstone);
        assert!(config.key_text("a.pem").unwrap_err().to_string().contains("/nowhere/a.pem"));
    }
}
