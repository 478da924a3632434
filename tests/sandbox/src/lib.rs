//! Stateful fakes of the providers' own protocols, with a ledger, a request log and a fault dial.
//!
//! The sandbox is the independent oracle of every load and failover test: it shares no code with
//! the proxy, speaks Alipay's v1 gateway, Checkout.com's NAS API, Adyen's Checkout API, PayPal's
//! Orders and Payments, Stripe's PaymentIntents and WeChat Pay's APIv3 on the wire, and writes down
//! every movement of money in the moment it happens, whatever the caller is answered. It plays
//! Apple Pay and Google Pay too, which move none: their endpoints, and the shopper's device.
//!
//! One account is one port, because some faults live in the socket.
//!
//! # Configuration
//! ```toml
//! [control]
//! listen = "127.0.0.1:9900"
//! seed = 0
//!
//! [accounts.alipay-main]
//! provider = "alipay"
//! listen = "127.0.0.1:9911"
//! app_id = "2021000000000001"
//! seller_id = "2088000000000002"
//! app_public_key = "keys/alipay-main/app_public.pem"
//! gateway_private_key = "keys/alipay-main/gateway_private.pem"
//!
//! [accounts.checkout-main]
//! provider = "checkout"
//! listen = "127.0.0.1:9921"
//! secret_key = "sk_sbox_demo"
//! webhook_key = "demo"
//! processing_channel = "pc_demo"
//! notify_url = "http://127.0.0.1:8080/v1/notifications/checkout-main"
//!
//! [accounts.applepay-main]
//! provider = "applepay"
//! listen = "127.0.0.1:9971"
//! merchant_id = "merchant.example.demo"
//! server_certificate = "keys/applepay-main/server.pem"
//! server_private_key = "keys/applepay-main/server_private.pem"
//! identity_ca = "keys/applepay-main/identity_ca.pem"
//! authority_private_key = "keys/applepay-main/authority_private.pem"
//! processing_private_key = "keys/applepay-main/processing_private.pem"
//!
//! [accounts.adyen-main]
//! provider = "adyen"
//! listen = "127.0.0.1:9931"
//! api_key = "AQE_demo"
//! merchant_account = "DemoShop"
//! hmac_key = "64656d6f"
//! notify_url = "http://127.0.0.1:8080/v1/notifications/adyen-main"
//!
//! [accounts.googlepay-main]
//! provider = "googlepay"
//! listen = "127.0.0.1:9971"
//! root_private_key = "keys/googlepay-main/root_private.pem"
//! intermediate_private_key = "keys/googlepay-main/intermediate_private.pem"
//! merchant_private_key = "keys/googlepay-main/merchant_private.pem"
//!
//! [accounts.paypal-main]
//! provider = "paypal"
//! listen = "127.0.0.1:9941"
//! client_id = "demo"
//! client_secret = "demo-secret"
//! webhook_id = "9DEMO"
//! webhook_private_key = "keys/paypal-main/webhook_private.pem"
//! webhook_ca_private_key = "keys/paypal-main/webhook_ca_private.pem"
//! notify_url = "http://127.0.0.1:8080/v1/notifications/paypal-main"
//!
//! [accounts.stripe-main]
//! provider = "stripe"
//! listen = "127.0.0.1:9961"
//! secret_key = "sk_test_demo"
//! webhook_key = "whsec_demo"
//! notify_url = "http://127.0.0.1:8080/v1/notifications/stripe-main"
//!
//! [accounts.wechatpay-main]
//! provider = "wechatpay"
//! listen = "127.0.0.1:9951"
//! mchid = "1900000001"
//! appid = "wxd678efh567hg6787"
//! merchant_serial = "3775B6A45ACD588826D15E583A95F5DD00000001"
//! merchant_public_key = "keys/wechatpay-main/app_public.pem"
//! api_v3_key = "demo0demo0demo0demo0demo0demo000"
//! platform_private_key = "keys/wechatpay-main/gateway_private.pem"
//! public_key_id = "PUB_KEY_ID_0119000000012026010100000001"
//! ```
//! All options are in [`AlipayConfig`], [`ApplePayConfig`], [`CheckoutConfig`], [`AdyenConfig`],
//! [`GooglepayConfig`], [`PaypalConfig`], [`StripeConfig`] and [`WechatpayConfig`].
//! `interlock-sandbox keys DIR NAME` makes fresh key pairs; with `--webhooks` those of a PayPal
//! account, and `webhook_ca.pem`, the authority that a verifier of its webhooks must trust; with
//! `--apple-pay` those of an Apple Pay account, with `server_ca.pem` and `root.pem` to trust and
//! `identity.pem` to show; with `--google-pay` those of a Google and of a merchant.
//!
//! # How a test chooses what the customer does
//! Alipay, the last two digits of the `auth_code` (16 to 24 digits, starting 25 to 30):
//!
//! | ends | outcome |
//! |---|---|
//! | 02 | 10003; paid by `/customers/act`, or by itself after `approve_ms` |
//! | 03 | `ACQ.BUYER_BALANCE_NOT_ENOUGH` |
//! | 04 | `ACQ.PAYMENT_REQUEST_HAS_RISK` |
//! | 05 | `ACQ.PAYMENT_AUTH_CODE_INVALID` |
//! | 06 | paid, but answered 20000 the first time |
//! | 01, other | paid |
//!
//! A declined barcode leaves no trade. A QR is paid by `/customers/act`; only `qr_expiry_ms`
//! ends it, not `timeout_express` or `time_expire`, of which no provider text says more.
//!
//! Checkout.com, the last four digits of a network token's or a card's number: 0001, 0005, 0014,
//! 0051, 0054, 0057, 0059, 0061, 0062, 0063, 0068, 0088, 0091, 0096, 0154, 0179, 0182 and 0183
//! decline with `2` and these digits; 9990 has no 3-D Secure and is never challenged. A token or
//! source id that contains `_decline_NNNNN` declines with NNNNN; `_not_enrolled` is never
//! challenged. A cryptogram used before, at any card processor of the sandbox, declines with 20063.
//!
//! Adyen: the same last four digits refuse, with Adyen's own numbers. A stored token that contains
//! `_decline_NN` is refused with NN; `_pending` is decided later, by `/customers/act` or by itself
//! after `decide_ms`; `_error` breaks off on the way to the issuer and takes nothing; `_store_down`
//! meets 703 at the first try of each key; `_not_enrolled` is never challenged. A wallet's blob is
//! always paid. After a challenge `/customers/act` answers the `redirect_result` that the shopper
//! brings back; nothing moves before it comes to `/payments/details`.
//!
//! PayPal, what the payer does, by `/customers/act` with the order's id, one of the merchant's
//! names for it (request id of the create, `custom_id`, `invoice_id`), or the address of its page:
//! `pay` approves; `fail` approves with an instrument that is declined at the capture, until he
//! approves again; `abandon` leaves the order as it is. With `magic_amounts`, the last two digits
//! of a captured amount, in minor units:
//!
//! | ends | outcome |
//! |---|---|
//! | 11 | `PENDING` (`PENDING_REVIEW`), completed after `decide_ms` |
//! | 12 | the same, denied after `decide_ms` |
//! | 13 | 201 with `DECLINED` |
//! | 14 | `PENDING` (`ECHECK`), decided by `pay` or `fail` only |
//! | other | completed |
//!
//! The header `PayPal-Mock-Response` names an issue that is answered instead, as in PayPal's own
//! sandbox.
//!
//! Stripe: a `pm_...` or `tok_...` that contains `_decline_WHY` is declined with that
//! `decline_code`; `_authenticate` wants 3-D Secure, `_processing` is decided later, by
//! `/customers/act` or by itself after `decide_ms`, `_missing` is not known. A decrypted token's
//! last four digits decline as at Checkout.com, in Stripe's words, and a cryptogram that was used
//! before with `fraudulent`. After a challenge nothing moves before the payment is confirmed again,
//! where it was made so.
//!
//! WeChat Pay, the last two digits of the `auth_code` (18 digits, starting 10 to 15):
//!
//! | ends | outcome |
//! |---|---|
//! | 02 | `USERPAYING` with 200; paid by `/customers/act`, or by itself after `approve_ms` |
//! | 12 | the same in the older form: 202 with the code `USERPAYING` |
//! | 03 | `NOT_ENOUGH`; the order is there and unpaid |
//! | 05 | `AUTH_CODE_EXPIRED`; there is no order |
//! | 06 | paid, but answered `SYSTEM_ERROR` the first time |
//! | 07 | `PAYERROR`, and paid all the same: only a reverse gives it back |
//! | 08 | `PAYERROR`, and not paid |
//! | 09 | paid, one fen of it by a coupon |
//! | 01, other | paid |
//!
//! A `code_url`, `prepay_id` or `h5_url` is paid by `/customers/act`, by `op_id`, `qr_code` or
//! `order`; old ones stay good until they expire. A refund whose `reason` is `abnormal` or `closed`
//! ends so; one with `not_enough` meets `NOT_ENOUGH` at the first try of its number.
//!
//! # Tokens of wallets
//! `POST /wallets/apple_pay/tokens` plays the shopper's telephone: `{account, amount, currency}`,
//! the amount in minor units, and perhaps `defect` (a word of [`wallet_tokens::apple::Defect`]),
//! `now_ms`, `key` (`current`, `previous`, `rsa`), `number` and `seed`. `POST
//! /wallets/google_pay/tokens` is what Google Pay hands to a page: `{account, auth_method,
//! protocol, number, defect, now_ms}`, of which only `account` must be there; `defect` is a word of
//! [`wallet_tokens::google::Defect`]. Both answer the `token`, and under `inside` the test data
//! that must come out of it.
//!
//! # What nobody asked for
//! `POST /portal` plays who moves money past the merchant's requests: `{account, act, op_id,
//! amount, currency}`, amounts in minor units. At PayPal `charge` is a payment on its own pages,
//! `refund` one by the merchant's clerk, `reverse` takes back what is left of a capture, `dispute`
//! is a complaint, after which a `reverse` is a chargeback; all of them send webhooks; `revoke`
//! ends every access token, and `statement` answers with the `file` of today's settlement report.
//! At Alipay and WeChat Pay `charge` pays the number `op_id`, `refund` gives back of it, and nobody
//! is told; at Stripe `refund` is made at the dashboard, and told; at WeChat Pay `signs_with` with
//! `identity` (`current`, `next`, `public_key`) turns a rotation. Bills also cover today.
//!
//! # Which call is which operation
//! Alipay: precreate, pay, page.pay, wap.pay are `authorize`; close and cancel are `close`; refund
//! is `refund`; both queries, a bill and its file are `inquire`. Checkout.com: payments, captures,
//! voids and refunds are what they say, reversals are `close`, every GET is `inquire`. Adyen:
//! payments are `authorize`, details `continue`, captures `capture`, cancels `void`, refunds and
//! reversals `refund`, a cancel by reference `close`. PayPal: a new order is `authorize`, its
//! capture and authorization are `continue`, captures and renewals of a hold `capture`, voids and
//! refunds what they say; all else, the token too, is `inquire`. Stripe: a new payment is
//! `authorize`, a confirmation `continue`, a cancel `void`; tokens and every GET `inquire`. WeChat
//! Pay: native, jsapi, app, h5 and codepay are `authorize`, close and reverse `close`, refunds
//! `refund`, every GET `inquire`. Apple Pay: a session is `inquire`. `notify` is what the fakes
//! send. A `notify_*` fault on another operation meets the notifications of that operation; on `*`
//! it meets all.
//!
//! # Faults
//! - `refuse`: the listener is closed and open connections are reset, for all operations, since a
//!   socket cannot know the operation; it begins after `after_n` requests of the named one. With
//!   a probability below 1, each new connection is reset before it is read.
//! - `reset_after_read`: read in full, not executed, TCP reset.
//! - `hang`: read in full, not executed, no answer; when the fault ends, TCP reset.
//! - `slow`: executed at once, answered `ms` later; a copy with the same `Cko-Idempotency-Key`
//!   meets 409 meanwhile, one with the same `Idempotency-Key` 422 with 704, one with the same
//!   `PayPal-Request-Id` 409, or 422 with `ORDER_COMPLETION_IN_PROGRESS`; at Stripe it is 409 with
//!   `idempotency_key_in_use`.
//! - `error_before`: not executed; Alipay 502 with HTML, Checkout.com and Adyen 500, PayPal 500
//!   with `INTERNAL_SERVER_ERROR`, Stripe 500 with `api_error`, which no key keeps, WeChat Pay 500
//!   with `SYSTEM_ERROR`, not signed, Apple Pay 503.
//! - `error_after`: executed, then the same; Checkout.com does not keep the key, as it says; Adyen
//!   and PayPal keep it; Stripe keeps the 500 itself, and answers it to every copy.
//! - `charge_then_drop`: executed, TCP reset; Checkout.com, Adyen, PayPal and Stripe keep the key.
//! - `garbage`: executed, 200 with an unreadable body; WeChat Pay's signature fits nothing.
//! - `bad_signature`: executed; Alipay and WeChat Pay sign other content. The others sign no
//!   answers: the body is cut in half. On `notify` and `*`: the notification's signature does not
//!   fit; WeChat Pay's goes once with `WECHATPAY/SIGNTEST/`, which `/healthz` counts as refused or
//!   taken, and then with the good one. `probe_signatures` does so every time.
//! - `decline_soft`, `decline_hard`: Alipay pay and precreate `ACQ.PAYMENT_FAIL` and
//!   `ACQ.PAYMENT_REQUEST_HAS_RISK`; Checkout.com payments 20005 and 20059 (the cryptogram is
//!   spent), its steps accepted and later declined, or 403; Adyen refuses with 2 and 20, and its
//!   changes in the same two ways; PayPal 422: orders `COMPLIANCE_VIOLATION`, their capture and
//!   authorization `INSTRUMENT_DECLINED` (the order stays usable) and `TRANSACTION_REFUSED`,
//!   captures of a hold `AUTHORIZATION_DENIED` and `TRANSACTION_REFUSED`, refunds
//!   `REFUND_FAILED_INSUFFICIENT_FUNDS` and `REFUND_NOT_ALLOWED`, voids `CANNOT_BE_VOIDED`; WeChat
//!   Pay codepay `NOT_ENOUGH` and `RULE_LIMIT`, other orders `TRADE_ERROR` and `RULE_LIMIT`, none
//!   of which leaves an order, refunds `NOT_ENOUGH` and `USER_ACCOUNT_ABNORMAL`, close and reverse
//!   `TRADE_ERROR`; Stripe 402 with `do_not_honor` and `fraudulent`, refunds that fail later and
//!   `refund_disputed_payment`, captures and cancels 400. Inquiries are never declined.
//! - `rate_limited`: not executed; Alipay 40005, the others 429.
//! - `notify_lose`: lost for good. `notify_delay`: `ms` later. `notify_duplicate`: twice with the
//!   same id. `notify_reorder`: after the account's next one, at most `ms` later.
//!
//! `ms` = 0 means the account's `late_ms`. `for_ms` absent or 0 means until the fault is deleted.
//!
//! # The ledger
//! `GET /ledger` is a plain array. Net money of a payment = charge + authorize - refund - void -
//! reverse, joined by `reference` (or `provider_ref`); a `capture` only moves what a hold counted
//! already, and a final partial capture voids the rest. Checkout.com and Adyen with automatic
//! capture count as `charge` in the moment of the authorization. At Adyen the `reference` is the
//! key of the payment's own request; at PayPal that of the request for the order, else its
//! `custom_id`, else its id: approval moves nothing, and a pending capture is no money. At WeChat
//! Pay it is the order's number, a refund counts when it becomes `SUCCESS` and not when it is
//! accepted, and a coupon's part counts as paid.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

pub mod account;
pub mod adyen;
pub mod alipay;
pub mod apple_pay;
pub mod checkout;
pub mod config;
pub mod control;
pub mod courier;
pub mod desk;
pub mod door;
pub mod faults;
pub mod google_pay;
pub mod issuer;
pub mod keys;
pub mod ledger;
pub mod moment;
pub mod paypal;
pub mod requests;
pub mod stripe;
pub mod wechatpay;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use config::{
    AccountConfig, AdyenConfig, AlipayConfig, ApplePayConfig, CheckoutConfig, Config, ConfigError,
    GooglepayConfig, PaypalConfig, StripeConfig, WechatpayConfig,
};

use account::{Account, Fake};
use adyen::Adyen;
use alipay::Alipay;
use apple_pay::ApplePay;
use checkout::Checkout;
use control::Control;
use courier::Courier;
use desk::Desk;
use door::Door;
use faults::FaultDial;
use google_pay::GooglePay;
use issuer::Issuer;
use keys::{KeyError, Signer, Verifier};
use ledger::Ledger;
use paypal::Paypal;
use requests::Requests;
use stripe::Stripe;
use wallet_tokens::google::{KeyError as WalletKeyError, Keys};
use wechatpay::Wechatpay;

/// A running sandbox. Dropping it closes every listener.
pub struct Sandbox {
    control: SocketAddr,
    accounts: BTreeMap<String, SocketAddr>,
    ledger: Arc<Ledger>,
    tasks: JoinSet<()>,
}

/// Why a sandbox did not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration cannot be used.
    Config(ConfigError),
    /// A key of this account cannot be used.
    Key(String, KeyError),
    /// This address cannot be bound.
    Bind(SocketAddr, std::io::Error),
    /// The client for notifications cannot be made.
    Client(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(why) => why.fmt(f),
            Self::Key(account, why) => write!(f, "account {account}: {why}"),
            Self::Bind(address, why) => write!(f, "could not listen on {address}: {why}"),
            Self::Client(why) => write!(f, "could not make the notification client: {why}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<ConfigError> for StartError {
    fn from(why: ConfigError) -> Self {
        Self::Config(why)
    }
}

impl Sandbox {
    /// Starts every fake and the control plane; all of them listen when this returns. Port 0
    /// takes a free one.
    ///
    /// # Errors
    /// Any [`StartError`]; nothing listens then.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let parts = Parts {
            ledger: Arc::default(),
            requests: Arc::default(),
            dial: Arc::new(FaultDial::new(config.control.seed)),
            issuer: Arc::default(),
            client: reqwest::Client::builder()
                .no_proxy()
                .pool_max_idle_per_host(64)
                .build()
                .map_err(|e| StartError::Client(e.to_string()))?,
        };
        let mut tasks = JoinSet::new();
        let mut doors = BTreeMap::new();
        let mut addresses = BTreeMap::new();
        for (name, account) in &config.accounts {
            let (listener, address) = listen(account.listen())?;
            let account = Arc::new(parts.account(&config, name, account, address)?);
            let (ask, looks) = mpsc::channel(16);
            let door = Door::new(address, account.clone(), parts.dial.clone(), looks);
            tasks.spawn(async move {
                door.run(listener).await;
            });
            doors.insert(name.clone(), (account, ask));
            addresses.insert(name.clone(), address);
        }
        let (listener, control) = listen(config.control.listen)?;
        let routes = control::routes(Arc::new(Control {
            accounts: doors,
            ledger: parts.ledger.clone(),
            requests: parts.requests.clone(),
            dial: parts.dial.clone(),
            seed: config.control.seed,
        }));
        tasks.spawn(async move {
            // It serves until the task is dropped.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { control, accounts: addresses, ledger: parts.ledger, tasks })
    }

    /// Where the control plane listens.
    pub fn control(&self) -> SocketAddr {
        self.control
    }

    /// Where each account listens, by name.
    pub fn accounts(&self) -> &BTreeMap<String, SocketAddr> {
        &self.accounts
    }

    /// The ledger, for tests in the same process.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Serves until the process ends.
    pub async fn serve(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

struct Parts {
    ledger: Arc<Ledger>,
    requests: Arc<Requests>,
    dial: Arc<FaultDial>,
    issuer: Arc<Issuer>,
    client: reqwest::Client,
}

impl Parts {
    fn account(
        &self,
        config: &Config,
        name: &str,
        account: &AccountConfig,
        address: SocketAddr,
    ) -> Result<Account, StartError> {
        let name: Arc<str> = name.into();
        let (provider, notify, answers) = match account {
            AccountConfig::Adyen(a) => (
                "adyen",
                (a.notify_delay_ms, a.notify_retry_ms, a.late_ms),
                (a.latency_ms, a.late_ms),
            ),
            AccountConfig::Alipay(a) => (
                "alipay",
                (a.notify_delay_ms, a.notify_retry_ms, a.late_ms),
                (a.latency_ms, a.late_ms),
            ),
            // It notifies nobody.
            AccountConfig::Applepay(a) => ("applepay", (0, 0, 0), (a.latency_ms, a.late_ms)),
            AccountConfig::Checkout(c) => (
                "checkout",
                (c.notify_delay_ms, c.notify_retry_ms, c.late_ms),
                (c.latency_ms, c.late_ms),
            ),
            AccountConfig::Googlepay(g) => {
                ("googlepay", (0, 250, g.late_ms), (g.latency_ms, g.late_ms))
            }
            AccountConfig::Paypal(p) => (
                "paypal",
                (p.notify_delay_ms, p.notify_retry_ms, p.late_ms),
                (p.latency_ms, p.late_ms),
            ),
            AccountConfig::Stripe(s) => (
                "stripe",
                (s.notify_delay_ms, s.notify_retry_ms, s.late_ms),
                (s.latency_ms, s.late_ms),
            ),
            AccountConfig::Wechatpay(w) => (
                "wechatpay",
                (w.notify_delay_ms, w.notify_retry_ms, w.late_ms),
                (w.latency_ms, w.late_ms),
            ),
        };
        let courier = Courier::new(name.clone(), self.dial.clone(), self.client.clone(), notify);
        let desk = Desk { account: name.clone(), provider, ledger: self.ledger.clone(), courier };
        let base = format!("http://{address}");
        let issuer = self.issuer.clone();
        let fake = match account {
            AccountConfig::Adyen(adyen) => {
                let made = Adyen::new(desk, adyen.clone(), base, issuer);
                Fake::Adyen(Arc::new(made.map_err(|why| StartError::Key(name.to_string(), why))?))
            }
            AccountConfig::Alipay(alipay) => {
                let bad = |why| StartError::Key(name.to_string(), why);
                let app_key = Verifier::read(&config.key_text(&alipay.app_public_key)?);
                let gateway_key = Signer::read(&config.key_text(&alipay.gateway_private_key)?);
                let (app_key, gateway_key) = (app_key.map_err(bad)?, gateway_key.map_err(bad)?);
                if let Some(public) = &alipay.gateway_public_key {
                    let public = Verifier::read(&config.key_text(public)?).map_err(bad)?;
                    if !public.verifies(b"pair", &gateway_key.sign(b"pair")) {
                        return Err(bad(KeyError::Unreadable(
                            "gateway_public_key is of another pair",
                        )));
                    }
                }
                let made = Alipay::new(desk, alipay.clone(), base, app_key, gateway_key);
                Fake::Alipay(Arc::new(made))
            }
            AccountConfig::Applepay(apple) => {
                let made = ApplePay::new(desk, apple.read(config)?);
                Fake::ApplePay(Arc::new(
                    made.map_err(|why| StartError::Key(name.to_string(), why))?,
                ))
            }
            AccountConfig::Checkout(checkout) => {
                Fake::Checkout(Arc::new(Checkout::new(desk, checkout.clone(), base, issuer)))
            }
            AccountConfig::Googlepay(googlepay) => {
                let root = config.key_text(&googlepay.root_private_key)?;
                let intermediate = config.key_text(&googlepay.intermediate_private_key)?;
                let merchant = config.key_text(&googlepay.merchant_private_key)?;
                let keys = Keys::from_pem(&root, &intermediate, &merchant);
                let bad = |why: WalletKeyError| {
                    StartError::Key(name.to_string(), KeyError::NotOnP256(why.0))
                };
                let made = GooglePay::new(desk, googlepay.clone(), keys.map_err(bad)?);
                Fake::Googlepay(Arc::new(made))
            }
            AccountConfig::Paypal(paypal) => {
                let own = config.key_text(&paypal.webhook_private_key)?;
                let ca = config.key_text(&paypal.webhook_ca_private_key)?;
                let made = Paypal::new(desk, paypal.clone(), base, (&own, &ca));
                Fake::Paypal(Arc::new(made.map_err(|why| StartError::Key(name.to_string(), why))?))
            }
            AccountConfig::Stripe(stripe) => {
                Fake::Stripe(Arc::new(Stripe::new(desk, stripe.clone(), base, issuer)))
            }
            AccountConfig::Wechatpay(wechatpay) => {
                Fake::Wechatpay(Arc::new(self.wechatpay(config, wechatpay, desk, base)?))
            }
        };
        Ok(Account::new(fake, self.dial.clone(), self.requests.clone(), answers))
    }

    fn wechatpay(
        &self,
        config: &Config,
        wechatpay: &WechatpayConfig,
        desk: Desk,
        base: String,
    ) -> Result<Wechatpay, StartError> {
        let account = desk.account.clone();
        let bad = |why| StartError::Key(account.to_string(), why);
        let signer = |value: &String| -> Result<Signer, StartError> {
            Signer::read(&config.key_text(value)?).map_err(bad)
        };
        let merchant_key = Verifier::read(&config.key_text(&wechatpay.merchant_public_key)?);
        let keys = wechatpay::Keys {
            current: signer(&wechatpay.platform_private_key)?,
            next: wechatpay.next_platform_private_key.as_ref().map(signer).transpose()?,
            public: wechatpay.public_key_private_key.as_ref().map(signer).transpose()?,
        };
        let merchant_key = merchant_key.map_err(bad)?;
        Wechatpay::new(desk, wechatpay.clone(), base, merchant_key, keys).map_err(bad)
    }
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = door::bind(address).and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|why| StartError::Bind(address, why))
}

impl AccountConfig {
    /// Where this account listens.
    pub fn listen(&self) -> SocketAddr {
        match self {
            Self::Adyen(adyen) => adyen.listen,
            Self::Alipay(alipay) => alipay.listen,
            Self::Applepay(apple) => apple.listen,
            Self::Checkout(checkout) => checkout.listen,
            Self::Googlepay(googlepay) => googlepay.listen,
            Self::Paypal(paypal) => paypal.listen,
            Self::Stripe(stripe) => stripe.listen,
            Self::Wechatpay(wechatpay) => wechatpay.listen,
        }
    }
}
