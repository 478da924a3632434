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
    /// Apple Pay: merchants' sessions.
    Applepay(ApplePayConfig),
    /// Checkout.com, NAS.
    Checkout(CheckoutConfig),
    /// Google Pay: public keys, and tokens.
    Googlepay(GooglepayConfig),
    /// PayPal, Orders v2 and Payments v2.
    Paypal(PaypalConfig),
    /// Stripe, PaymentIntents.
    Stripe(StripeConfig),
    /// WeChat Pay, APIv3.
    Wechatpay(WechatpayConfig),
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
    /// The provider's fee in hundredths of a percent, for the bills.
    #[serde(default = "fee_basis_points")]
    pub fee_basis_points: u32,
    /// How long the address of a bill is good; 30 s at Alipay.
    #[serde(default = "bill_life_ms")]
    pub bill_life_ms: u64,
    /// How far a request's timestamp may be from Beijing time; 0 means any.
    #[serde(default = "timestamp_tolerance_ms")]
    pub timestamp_tolerance_ms: u64,
}

/// `[accounts.NAME]` with `provider = "applepay"`. Times are milliseconds; keys and certificates
/// are PEM, or the path of one. `interlock-sandbox keys DIR --apple-pay NAME` makes them all.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplePayConfig {
    /// Where this account listens, with TLS.
    pub listen: SocketAddr,
    /// Which every request must name, and whom tokens are made for.
    pub merchant_id: String,
    /// The domains that are registered; any, when there are none.
    #[serde(default)]
    pub domains: Vec<String>,
    /// What the server shows.
    pub server_certificate: String,
    /// Its key.
    pub server_private_key: String,
    /// Who certifies the merchant's identity, which every client must show.
    pub identity_ca: String,
    /// The keys of root, intermediate and leaves.
    pub authority_private_key: String,
    /// Whom tokens are encrypted to (EC_v1).
    pub processing_private_key: String,
    /// The one before it.
    #[serde(default)]
    pub previous_processing_private_key: Option<String>,
    /// Whom tokens of RSA_v1 are encrypted to.
    #[serde(default)]
    pub rsa_processing_private_key: Option<String>,
    /// What `slow` waits when its order says 0.
    #[serde(default = "late_ms")]
    pub late_ms: u64,
    /// Every answer takes so long.
    #[serde(default)]
    pub latency_ms: u64,
}

impl ApplePayConfig {
    /// The same with the files' texts in the place of their paths.
    ///
    /// # Errors
    /// As [`Config::key_text`].
    pub fn read(&self, files: &Config) -> Result<Self, ConfigError> {
        let mut own = self.clone();
        let needed = [
            &mut own.server_certificate,
            &mut own.server_private_key,
            &mut own.identity_ca,
            &mut own.authority_private_key,
            &mut own.processing_private_key,
        ];
        let more = [&mut own.previous_processing_private_key, &mut own.rsa_processing_private_key];
        for value in needed.into_iter().chain(more.into_iter().flatten()) {
            *value = files.key_text(value)?;
        }
        Ok(own)
    }
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

/// `[accounts.NAME]` with `provider = "googlepay"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GooglepayConfig {
    /// Where this account listens.
    pub listen: SocketAddr,
    /// Google's root key, on P-256: PEM, or the path of one.
    pub root_private_key: String,
    /// Google's intermediate key: PEM, or the path of one.
    pub intermediate_private_key: String,
    /// What tokens are encrypted to: PEM, or the path of one.
    pub merchant_private_key: String,
    /// Whom tokens are signed for; that of Google's test environment when absent.
    #[serde(default)]
    pub recipient_id: Option<String>,
    /// Which merchant of a gateway tokens are made for.
    #[serde(default)]
    pub gateway_merchant_id: Option<String>,
    /// How long the keys may be kept, in seconds.
    #[serde(default = "max_age_s")]
    pub max_age_s: u64,
    /// What `slow` waits when its order says 0, ms.
    #[serde(default = "late_ms")]
    pub late_ms: u64,
    /// Every answer takes so long, ms.
    #[serde(default)]
    pub latency_ms: u64,
}

/// `[accounts.NAME]` with `provider = "stripe"`. Times are milliseconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StripeConfig {
    /// Where this account listens.
    pub listen: SocketAddr,
    /// `sk_...`, which every request must carry as a bearer.
    pub secret_key: String,
    /// `whsec_...`, which signs events in whole.
    pub webhook_key: String,
    /// Where events go; none are sent without it.
    #[serde(default)]
    pub notify_url: Option<String>,
    /// Between a change and its event.
    #[serde(default = "notify_delay_ms")]
    pub notify_delay_ms: u64,
    /// Before the second delivery of an event; doubles each time.
    #[serde(default = "notify_retry_ms")]
    pub notify_retry_ms: u64,
    /// What `slow` and `notify_delay` wait when their order says 0.
    #[serde(default = "late_ms")]
    pub late_ms: u64,
    /// Every answer takes so long; execution is at once, copies meet 409 until it is over.
    #[serde(default)]
    pub latency_ms: u64,
    /// When a refund that was declined by the dial is told to have failed.
    #[serde(default = "action_ms")]
    pub action_ms: u64,
    /// When a payment that is processing succeeds by itself; 0 means never.
    #[serde(default = "approve_ms")]
    pub decide_ms: u64,
    /// How long an idempotency key is remembered.
    #[serde(default = "key_life_ms")]
    pub key_life_ms: u64,
    /// How long a new payment is missing from the search.
    #[serde(default)]
    pub search_delay_ms: u64,
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

/// `[accounts.NAME]` with `provider = "wechatpay"`. Times are milliseconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WechatpayConfig {
    /// Where this account listens.
    pub listen: SocketAddr,
    /// The merchant, or the service provider of a partner account.
    pub mchid: String,
    /// The application that every order must name.
    pub appid: String,
    /// The merchants that a partner account may ask for; without any, it is no partner.
    #[serde(default)]
    pub sub_mchid: OneOrMany,
    /// The serial number of the merchant's certificate, which every request must name.
    pub merchant_serial: String,
    /// Verifies requests: PEM, or the path of one.
    pub merchant_public_key: String,
    /// Seals notifications and certificates: 32 characters of ASCII.
    pub api_v3_key: String,
    /// Signs answers and notifications: PEM, or the path of one.
    pub platform_private_key: String,
    /// The key that follows it in a rotation; its certificate is listed from the start.
    #[serde(default)]
    pub next_platform_private_key: Option<String>,
    /// `PUB_KEY_ID_...`; with it the account signs as a public key, unless `signs_with` is set.
    #[serde(default)]
    pub public_key_id: Option<String>,
    /// The key of `public_key_id`; `platform_private_key` when absent.
    #[serde(default)]
    pub public_key_private_key: Option<String>,
    /// Who signs when a request does not ask for the public key.
    #[serde(default)]
    pub signs_with: Option<Identity>,
    /// Whether the platform's certificates may be fetched; merchants of the public key alone get
    /// none.
    #[serde(default = "yes")]
    pub certificates: bool,
    /// For refunds and orders that name no `notify_url`.
    #[serde(default)]
    pub notify_url: Option<String>,
    /// Between an event and its notification.
    #[serde(default = "notify_delay_ms")]
    pub notify_delay_ms: u64,
    /// Before the second delivery of a notification; doubles each time.
    #[serde(default = "notify_retry_ms")]
    pub notify_retry_ms: u64,
    /// Whether a false signature, to be refused, goes before every notification.
    #[serde(default)]
    pub probe_signatures: bool,
    /// What `slow` and `notify_delay` wait when their order says 0.
    #[serde(default = "late_ms")]
    pub late_ms: u64,
    /// Every answer takes so long; execution is at once.
    #[serde(default)]
    pub latency_ms: u64,
    /// When a shopper who was asked approves by himself; 0 means never.
    #[serde(default = "approve_ms")]
    pub approve_ms: u64,
    /// A `code_url` or `prepay_id` lives so long; 2 h at WeChat Pay.
    #[serde(default = "qr_expiry_ms")]
    pub offer_expiry_ms: u64,
    /// An `h5_url` lives so long; 5 min at WeChat Pay.
    #[serde(default = "h5_expiry_ms")]
    pub h5_expiry_ms: u64,
    /// When an unpaid order without `time_expire` closes by itself; 7 days at WeChat Pay.
    #[serde(default = "week_ms")]
    pub order_expiry_ms: u64,
    /// When an unpaid barcode order is revoked by itself; 45 s at WeChat Pay.
    #[serde(default = "userpaying_revoke_ms")]
    pub userpaying_revoke_ms: u64,
    /// A younger barcode order cannot be reversed.
    #[serde(default = "reverse_after_ms")]
    pub reverse_after_ms: u64,
    /// A younger order cannot be closed. The provider's 5 minutes are doubtful: 0 by default.
    #[serde(default)]
    pub close_after_ms: u64,
    /// Between the acceptance of a refund and its end.
    #[serde(default = "action_ms")]
    pub refund_ms: u64,
    /// The provider's fee in hundredths of a percent, for the bills.
    #[serde(default = "fee_basis_points")]
    pub fee_basis_points: u32,
    /// How far a request's timestamp may be off; 0 means any.
    #[serde(default = "five_minutes_ms")]
    pub timestamp_tolerance_ms: u64,
}

/// Who signs for WeChat Pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// The certificate of `platform_private_key`.
    Current,
    /// The certificate of `next_platform_private_key`.
    Next,
    /// `public_key_id`.
    PublicKey,
}

/// One text, or a list of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// `"a"`
    One(String),
    /// `["a", "b"]`
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    /// All of them.
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
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
fn max_age_s() -> u64 {
    3_600
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
fn yes() -> bool {
    true
}
fn h5_expiry_ms() -> u64 {
    5 * 60_000
}
fn userpaying_revoke_ms() -> u64 {
    45_000
}
fn reverse_after_ms() -> u64 {
    15_000
}
fn bill_life_ms() -> u64 {
    30_000
}
fn fee_basis_points() -> u32 {
    60
}
fn five_minutes_ms() -> u64 {
    5 * 60_000
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
