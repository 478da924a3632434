//! One running house for one test: the real proxy, the real plugins and the sandbox, on ports of
//! their own and in a folder of its own.
//!
//! The binaries are built by cargo before the tests run; a test ends what it started, by pid, even
//! when it fails.

mod asking;
mod bodies;
mod control;
mod files;
mod keys;
mod process;
mod wallets;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub use asking::at_once;
pub use bodies::{barcode, fresh, network_token, qr, stored, tokens};
pub use process::{built, free_ports};

/// The accounts of every house that its routes of CNY, EUR and USD reach: name and provider.
pub const ACCOUNTS: [(&str, &str); 4] = [
    ("alipay-main", "alipay"),
    ("alipay-backup", "alipay"),
    ("checkout-eu", "checkout"),
    ("checkout-us", "checkout"),
];
/// All accounts of every house: those, two more processors of cards that share routes of other
/// currencies with them, and wallets with routes of their own.
pub const ALL: [(&str, &str); 9] = [
    ACCOUNTS[0],
    ACCOUNTS[1],
    ACCOUNTS[2],
    ACCOUNTS[3],
    ("adyen-eu", "adyen"),
    ("wechat-main", "wechatpay"),
    ("wechat-backup", "wechatpay"),
    ("paypal-main", "paypal"),
    ("stripe-eu", "stripe"),
];
/// Of WeChat Pay's accounts: seals notifications and certificates.
pub const API_V3_KEY: &str = "test_secret_api_v3_key_012345678";
/// Of them too: names the merchant's certificate.
pub const MERCHANT_SERIAL: &str = "3775B6A45ACD588826D15E583A95F5DD00000001";
/// Names the provider's public key, where it is known by one.
pub const PUBLIC_KEY_ID: &str = "PUB_KEY_ID_0119000000052025";

/// What differs from the usual house.
pub struct Plan {
    /// The late window of every account.
    pub late_window: &'static str,
    /// The timeout of every account.
    pub timeout: &'static str,
    /// Whether accounts declare that "not found" may be believed after the late window.
    pub not_found: bool,
    /// When an offer ends at the provider: `after` and `margin`; the sandbox enforces `after`.
    pub offer_expiry: Option<(&'static str, &'static str)>,
    /// Whether Adyen's account declares what the sandbox refuses without executing it.
    pub proof_codes: bool,
    /// Whether Adyen and Stripe ask for 3-D Secure where it is wanted.
    pub challenges: bool,
    /// Whether it opens Apple Pay and Google Pay tokens, and has routes for what is inside.
    pub wallets: bool,
    /// More lines for every account, such as `in_flight = 5`.
    pub account_lines: &'static str,
    /// More lines for the merchant, such as `limit = "5/s"`.
    pub merchant_lines: &'static str,
    /// More lines for every route, such as `deadline = "5s"`.
    pub route_lines: &'static str,
    /// More lines for `[server]`.
    pub server_lines: &'static str,
    /// Breaker settings.
    pub breaker: &'static str,
    /// More lines for every account of the sandbox.
    pub sandbox_lines: &'static str,
    /// More tables at the end of the configuration.
    pub tail: &'static str,
    /// Where the data directory is, if not in the house's own folder.
    pub data_dir: Option<PathBuf>,
    /// Where the providers send notifications, if not to the proxy: `http://HOST:PORT`.
    pub notify: Option<String>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            late_window: "1s",
            timeout: "1500ms",
            not_found: true,
            offer_expiry: None,
            proof_codes: true,
            challenges: false,
            wallets: false,
            account_lines: "",
            merchant_lines: "",
            route_lines: "",
            server_lines: "",
            breaker: "{ minimum_calls = 1000000, consecutive = 1000000 }",
            sandbox_lines: "",
            tail: "",
            data_dir: None,
            notify: None,
        }
    }
}

/// A running house.
pub struct House {
    /// Its folder: configuration, keys, plugins, journal, logs.
    pub dir: TempDir,
    /// `http://127.0.0.1:PORT` of the merchant API.
    pub api: String,
    /// Of the admin API.
    pub admin: String,
    /// Of the sandbox's control.
    pub control: String,
    sandbox: Option<Child>,
    proxy: Option<Child>,
    agent: ureq::Agent,
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as JSON; null when it is none.
    pub json: Value,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

impl std::ops::Index<&str> for Answer {
    type Output = Value;

    fn index(&self, key: &str) -> &Value {
        &self.json[key]
    }
}

impl House {
    /// The usual house.
    pub fn start() -> Self {
        Self::with(Plan::default())
    }

    /// A house after a plan, with everything running.
    pub fn with(plan: Plan) -> Self {
        let mut house = Self::prepared(plan);
        house.start_proxy();
        house
    }

    /// A house with its sandbox running, its plugins pinned and its proxy not started yet.
    pub fn prepared(plan: Plan) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let plugins = dir.path().join("plugins");
        fs::create_dir(&plugins).expect("a folder for plugins");
        let opened = if plan.wallets { &wallets::WALLETS[..] } else { &[] };
        let mut providers: Vec<&str> = ALL.iter().chain(opened).map(|(_, p)| *p).collect();
        providers.sort_unstable();
        providers.dedup();
        for provider in providers {
            let name = format!("lib{provider}.so");
            fs::copy(built(&name), plugins.join(&name)).expect("the plugin is built");
        }
        let ports = free_ports(2 + 1 + ALL.len() + opened.len());
        let at = |n: usize| format!("127.0.0.1:{}", ports[n]);
        let mut house = Self {
            api: format!("http://{}", at(0)),
            admin: format!("http://{}", at(1)),
            control: format!("http://{}", at(2)),
            dir,
            sandbox: None,
            proxy: None,
            agent: asking::agent(),
        };
        house.write_keys();
        let accounts: Vec<String> = (0..ALL.len()).map(|n| at(3 + n)).collect();
        let root = house.dir.path();
        let mut sandbox = files::sandbox_config(&plan, &at(2), &accounts, &at(0));
        let mut config = files::config(&plan, &at(0), &at(1), &accounts);
        if plan.wallets {
            let wallets = [at(3 + ALL.len()), at(4 + ALL.len())];
            let wallets = [wallets[0].as_str(), &wallets[1]];
            sandbox += &wallets::sandbox(wallets);
            config += &wallets::config(&plan, wallets);
        }
        fs::write(root.join("sandbox.toml"), sandbox).expect("sandbox.toml");
        fs::write(root.join("interlock.toml"), config).expect("interlock.toml");
        house.sandbox = Some(house.spawn("interlock-sandbox", &["--config", "sandbox.toml"], &[]));
        house.wait_until("the sandbox answers", Duration::from_secs(20), |h| {
            h.try_get(&format!("{}/healthz", h.control)).is_some()
        });
        let pinned = house.cli(&["plugin", "pin", "--config", "interlock.toml"]);
        assert!(pinned.0, "plugins are pinned: {}", pinned.1);
        house
    }

    /// Waits for something, or fails with its name and the log.
    pub fn wait_until(&self, what: &str, within: Duration, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + within;
        while !done(self) {
            assert!(Instant::now() < end, "timed out: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for child in [&mut self.proxy, &mut self.sandbox].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let lines = BufReader::new(self.log().as_bytes().take(1 << 20).chain(&b""[..]))
                .lines()
                .map_while(Result::ok)
                .filter(|l| l.contains("ERROR") || l.contains("WARN") || l.contains("panicked"))
                .take(60)
                .collect::<Vec<_>>();
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("--- the house's log ---\n{}\n", lines.join("\n")).as_bytes(),
            );
        }
    }
}
