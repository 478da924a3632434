//! One running house for one test: the real proxy, the real plugins and the sandbox, on ports of
//! their own and in a folder of its own.
//!
//! The binaries are built by cargo before the tests run; a test ends what it started, by pid, even
//! when it fails.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The accounts of every house that its routes of CNY, EUR and USD reach: name and provider.
pub const ACCOUNTS: [(&str, &str); 4] = [
    ("alipay-main", "alipay"),
    ("alipay-backup", "alipay"),
    ("checkout-eu", "checkout"),
    ("checkout-us", "checkout"),
];
/// All accounts of every house: those, the one that its routes of GBP and CHF share with them, and
/// wallets with routes of their own.
pub const ALL: [(&str, &str); 8] = [
    ACCOUNTS[0],
    ACCOUNTS[1],
    ACCOUNTS[2],
    ACCOUNTS[3],
    ("adyen-eu", "adyen"),
    ("wechat-main", "wechatpay"),
    ("wechat-backup", "wechatpay"),
    ("paypal-main", "paypal"),
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
    /// Whether Adyen asks for 3-D Secure where nothing proves the shopper.
    pub challenges: bool,
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
        for name in
            ["libadyen.so", "libalipay.so", "libcheckout.so", "libpaypal.so", "libwechatpay.so"]
        {
            fs::copy(built(name), plugins.join(name)).expect("the plugin is built");
        }
        let ports = free_ports(2 + 1 + ALL.len());
        let at = |n: usize| format!("127.0.0.1:{}", ports[n]);
        let mut house = Self {
            api: format!("http://{}", at(0)),
            admin: format!("http://{}", at(1)),
            control: format!("http://{}", at(2)),
            dir,
            sandbox: None,
            proxy: None,
            agent: agent(),
        };
        house.write_keys();
        let accounts: Vec<String> = (0..ALL.len()).map(|n| at(3 + n)).collect();
        let root = house.dir.path();
        fs::write(root.join("sandbox.toml"), sandbox_config(&plan, &at(2), &accounts, &at(0)))
            .expect("sandbox.toml");
        fs::write(root.join("interlock.toml"), config(&plan, &at(0), &at(1), &accounts))
            .expect("interlock.toml");
        house.sandbox = Some(house.spawn("interlock-sandbox", &["--config", "sandbox.toml"], &[]));
        house.wait_until("the sandbox answers", Duration::from_secs(20), |h| {
            h.try_get(&format!("{}/healthz", h.control)).is_some()
        });
        let pinned = house.cli(&["plugin", "pin", "--config", "interlock.toml"]);
        assert!(pinned.0, "plugins are pinned: {}", pinned.1);
        house
    }

    /// Starts the proxy and waits until it is ready.
    pub fn start_proxy(&mut self) {
        self.spawn_proxy();
        self.wait_until("the proxy is ready", Duration::from_secs(20), |h| {
            h.try_get(&format!("{}/readyz", h.admin)).is_some_and(|a| a.status == 200)
        });
    }

    /// Starts the proxy and waits for nothing.
    pub fn spawn_proxy(&mut self) {
        self.spawn_proxy_as("interlock", &[]);
    }

    /// Starts another build of the proxy, with more in its environment, and waits for nothing.
    pub fn spawn_proxy_as(&mut self, binary: &str, env: &[(&str, &str)]) {
        let run = ["run", "--config", "interlock.toml"];
        self.proxy = Some(self.spawn(binary, &run, env));
    }

    /// Starts the proxy with more arguments than usual, and waits for nothing.
    pub fn spawn_proxy_told(&mut self, arguments: &[&str]) {
        let run = [&["run", "--config", "interlock.toml"], arguments].concat();
        self.proxy = Some(self.spawn("interlock", &run, &[]));
    }

    /// Waits until the proxy is ready; false when it died before, or was not ready in time.
    pub fn is_ready_within(&mut self, within: Duration) -> bool {
        let end = Instant::now() + within;
        let url = format!("{}/readyz", self.admin);
        while self.proxy_is_alive() && Instant::now() < end {
            if self.try_get(&url).is_some_and(|a| a.status == 200) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Sends a signal to the proxy while others use the house: `KILL`, `TERM`.
    pub fn signal_proxy(&self, name: &str) {
        let pid = self.proxy_pid().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.is_ok_and(|s| s.success()), "{name} is sent");
    }

    /// Waits for the proxy to end by itself; the exit code, or `None` when it still runs.
    pub fn wait_exit(&mut self, within: Duration) -> Option<Option<i32>> {
        let end = Instant::now() + within;
        while self.proxy_is_alive() {
            if Instant::now() > end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = self.proxy.take().expect("the proxy ran").wait().expect("reaped");
        Some(status.code())
    }

    /// Waits for a death by `kill -9` that is not this house's doing, and reaps; whether it came.
    pub fn is_killed_within(&mut self, within: Duration) -> bool {
        let end = Instant::now() + within;
        let Some(proxy) = &mut self.proxy else { return false };
        loop {
            if let Some(status) = proxy.try_wait().expect("a status") {
                self.proxy = None;
                let signal = std::os::unix::process::ExitStatusExt::signal(&status);
                assert_eq!(signal, Some(libc::SIGKILL), "it died otherwise: {}", self.log());
                return true;
            }
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// `kill -9`.
    pub fn kill_proxy(&mut self) {
        if let Some(mut proxy) = self.proxy.take() {
            proxy.kill().expect("killed");
            proxy.wait().expect("reaped");
        }
    }

    /// SIGTERM; gives the exit code and how long it took.
    pub fn stop_proxy(&mut self) -> (Option<i32>, Duration) {
        let Some(mut proxy) = self.proxy.take() else { return (None, Duration::ZERO) };
        let begun = Instant::now();
        let pid = libc::pid_t::try_from(proxy.id()).expect("a pid");
        // A signal to a child that this house started and has not reaped.
        terminate(pid);
        let status = proxy.wait().expect("reaped");
        (status.code(), begun.elapsed())
    }

    /// Whether the proxy's process is alive.
    pub fn proxy_is_alive(&mut self) -> bool {
        self.proxy.as_mut().is_some_and(|p| p.try_wait().expect("a status").is_none())
    }

    /// The proxy's process id.
    pub fn proxy_pid(&self) -> u32 {
        self.proxy.as_ref().expect("the proxy runs").id()
    }

    /// Runs the command line in the house's folder; success, and both outputs.
    pub fn cli(&self, arguments: &[&str]) -> (bool, String) {
        let (code, out) = self.cli_code(arguments);
        (code == Some(0), out)
    }

    /// Runs the command line; its exit code, and both outputs.
    pub fn cli_code(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let out = Command::new(built("interlock"))
            .args(arguments)
            .current_dir(self.dir.path())
            .env("NO_COLOR", "1")
            .output()
            .expect("interlock runs");
        let text = [out.stdout, out.stderr].concat();
        (out.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    /// What the proxy wrote to its log.
    pub fn log(&self) -> String {
        let mut text = String::new();
        for name in ["interlock.log", "interlock-sandbox.log"] {
            if let Ok(found) = fs::read_to_string(self.dir.path().join(name)) {
                text.push_str(&found);
            }
        }
        text
    }

    /// Makes a payment with a fresh key and waits up to 30 s for its end.
    pub fn pay(&self, body: &Value) -> Answer {
        self.pay_with_key(&fresh("key"), body)
    }

    /// Makes a payment with this key.
    pub fn pay_with_key(&self, key: &str, body: &Value) -> Answer {
        self.post("/v1/payments", key, body)
    }

    /// Makes a payment with a fresh key and waits so many seconds for its end.
    pub fn pay_within(&self, body: &Value, seconds: u32) -> Answer {
        self.post_within("/v1/payments", &fresh("key"), body, seconds)
    }

    /// POST to the merchant API.
    pub fn post(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.post_within(path, key, body, 30)
    }

    /// POST to the merchant API that waits so many seconds for an end.
    pub fn post_within(&self, path: &str, key: &str, body: &Value, seconds: u32) -> Answer {
        let wait = format!("wait={seconds}");
        let headers = [("Idempotency-Key", key), ("Prefer", wait.as_str())];
        let url = format!("{}{path}", self.api);
        self.send("POST", &url, &headers, Some(body.to_string().as_bytes()))
    }

    /// GET of the merchant API.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", &format!("{}{path}", self.api), &[], None)
    }

    /// The payment as it stands.
    pub fn payment(&self, id: &str) -> Answer {
        self.get(&format!("/v1/payments/{id}"))
    }

    /// Waits until a payment is as wanted.
    pub fn wait_for(&self, id: &str, within: Duration, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let end = Instant::now() + within;
        loop {
            let answer = self.payment(id);
            if wanted(&answer) {
                return answer;
            }
            if Instant::now() > end {
                let timeline = self.get(&format!("/v1/payments/{id}/timeline"));
                unreachable!("{id} did not become as wanted: {answer:?}\n{:#}", timeline.json);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Any request with the merchant's key; `Authorization` in `headers` replaces it.
    pub fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        self.try_send(method, url, headers, body).expect("an answer")
    }

    /// As [`House::send`]; `None` when no answer came.
    pub fn try_send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Option<Answer> {
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        let given = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !given("authorization") {
            request = request.header("Authorization", "Bearer test_key_1");
        }
        if body.is_some() && !given("content-type") {
            request = request.header("Content-Type", "application/json");
        }
        for (name, value) in headers.iter().filter(|(_, v)| !v.is_empty()) {
            request = request.header(*name, *value);
        }
        let request = request.body(body.unwrap_or_default().to_vec()).expect("a request");
        let mut answer = self.agent.run(request).ok()?;
        let headers = answer
            .headers()
            .iter()
            .map(|(n, v)| (n.as_str().to_owned(), v.to_str().unwrap_or("").to_owned()))
            .collect();
        let status = answer.status().as_u16();
        // The books of a long run are longer than what an agent reads by itself.
        let body = answer.body_mut().with_config().limit(1 << 30).read_to_vec().ok()?;
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Some(Answer { status, headers, json, body })
    }

    /// Turns the fault dial; the fault lasts until it is lifted.
    pub fn fault(&self, account: &str, operation: &str, fault: &str) -> Value {
        self.fault_with(json!({
            "account": account, "operation": operation, "fault": fault, "for_ms": 600_000,
        }))
    }

    /// Turns the fault dial with every member given.
    pub fn fault_with(&self, fault: Value) -> Value {
        let answer = self.control("POST", "/faults", Some(&fault));
        assert!(answer.status < 300, "fault is taken: {answer:?}");
        answer.json["id"].clone()
    }

    /// Lifts every fault.
    pub fn lift_faults(&self) {
        let answer = self.control("DELETE", "/faults", None);
        assert!(answer.status < 300, "faults are lifted: {answer:?}");
    }

    /// The shopper acts: `pay`, `abandon` or `fail`, at the account and op_id of an attempt.
    pub fn shopper(&self, account: &str, op_id: &str, act: &str) -> Answer {
        let body = json!({ "account": account, "op_id": op_id, "act": act });
        self.control("POST", "/customers/act", Some(&body))
    }

    /// The shopper scans a code and pays.
    pub fn scan(&self, account: &str, qr_code: &str, act: &str) -> Answer {
        let body = json!({ "account": account, "qr_code": qr_code, "act": act });
        self.control("POST", "/customers/act", Some(&body))
    }

    /// Every movement of money, in order.
    pub fn ledger(&self) -> Vec<Value> {
        self.control("GET", "/ledger", None).json.as_array().cloned().unwrap_or_default()
    }

    /// Every request that an account received, in order.
    pub fn requests(&self, account: &str) -> Vec<Value> {
        let path = format!("/requests?account={account}");
        self.control("GET", &path, None).json.as_array().cloned().unwrap_or_default()
    }

    /// A request to the sandbox's control.
    pub fn control(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string);
        let url = format!("{}{path}", self.control);
        self.send(method, &url, &[], body.as_deref().map(str::as_bytes))
    }

    /// A request to the operators' door; a change without a body sends an empty object, because
    /// that door takes changes as JSON only.
    pub fn operate(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let empty = (method == "POST").then(|| json!({}));
        let body = body.or(empty.as_ref()).map(Value::to_string);
        self.send(method, &format!("{}{path}", self.admin), &[], body.as_deref().map(str::as_bytes))
    }

    /// How many payments the journal holds.
    pub fn journalled(&self) -> u64 {
        let status = self.operate("GET", "/admin/v1/status", None);
        status["journal"]["payments"].as_u64().expect("the journal counts payments")
    }

    /// How many requests all providers received.
    pub fn sent(&self) -> usize {
        self.control("GET", "/requests", None).json.as_array().map_or(0, Vec::len)
    }

    /// How many requests that make a payment the providers received. Payments in progress may be
    /// asked about at any time, so a test that has some counts these.
    pub fn payments_sent(&self) -> usize {
        let all = self.control("GET", "/requests", None).json;
        let makes = |r: &&Value| r["operation"] == "authorize";
        all.as_array().map_or(0, |list| list.iter().filter(makes).count())
    }

    /// What Prometheus reads.
    pub fn metrics(&self) -> String {
        let answer = self.operate("GET", "/metrics", None);
        String::from_utf8(answer.body).expect("metrics are text")
    }

    /// The sum of a metric's lines that carry all these labels.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let carries = |line: &str| {
            labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")))
        };
        let text = self.metrics();
        let ours = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let value = |line: &str| line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok());
        ours.filter(|line| carries(line)).filter_map(value).sum()
    }

    /// Waits for something, or fails with its name and the log.
    pub fn wait_until(&self, what: &str, within: Duration, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + within;
        while !done(self) {
            assert!(Instant::now() < end, "timed out: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn try_get(&self, url: &str) -> Option<Answer> {
        self.try_send("GET", url, &[], None)
    }

    fn spawn(&self, binary: &str, arguments: &[&str], env: &[(&str, &str)]) -> Child {
        let name = binary.trim_end_matches("-failpoints");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join(format!("{name}.log")))
            .expect("a log");
        Command::new(built(binary))
            .args(arguments)
            .current_dir(self.dir.path())
            .env("NO_COLOR", "1")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the binary is built")
    }

    /// RSA keys take seconds to make, so one set serves every house of a test run. It is held in
    /// memory: nobody drops a static, and a folder in one would be left behind.
    fn write_keys(&self) {
        static KEYS: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
        let made = KEYS.get_or_init(|| {
            let dir = tempfile::tempdir().expect("a folder");
            let keys = |names: &[&str]| {
                let status = Command::new(built("interlock-sandbox"))
                    .arg("keys")
                    .arg(dir.path())
                    .args(names)
                    .stdout(Stdio::null())
                    .status()
                    .expect("the sandbox is built");
                assert!(status.success(), "keys are made");
            };
            keys(&["alipay-main", "alipay-backup"]);
            // The same pairs elsewhere: nobody there knows of the others.
            let at = |name: &str| dir.path().join(name);
            copy_files(&at("alipay-main"), &at("wechat-main"));
            copy_files(&at("alipay-backup"), &at("wechat-backup"));
            fs::create_dir(at("paypal-main")).expect("a folder");
            for (from, to) in [("app", "webhook_ca"), ("gateway", "webhook")] {
                for half in ["private", "public"] {
                    let from = at("alipay-main").join(format!("{from}_{half}.pem"));
                    fs::copy(from, at("paypal-main").join(format!("{to}_{half}.pem")))
                        .expect("a key is copied");
                }
            }
            keys(&["--webhooks", "paypal-main"]);
            accounts_keys(dir.path())
        });
        for (name, pem) in made {
            let path = self.dir.path().join("keys").join(name);
            fs::create_dir_all(path.parent().expect("a folder above")).expect("a folder");
            fs::write(path, pem).expect("a key is written");
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

/// Sends the same kind of request from so many threads at once; answers in their order.
pub fn at_once(count: usize, ask: impl Fn(usize) -> Answer + Sync) -> Vec<Answer> {
    let start = std::sync::Barrier::new(count);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|n| {
                let (start, ask) = (&start, &ask);
                scope.spawn(move || {
                    start.wait();
                    ask(n)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("a thread answers")).collect()
    })
}

/// A name that no other call of this process gives.
pub fn fresh(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{n}", std::process::id())
}

/// A payment by QR code.
pub fn qr(amount: i64) -> Value {
    json!({ "amount": amount, "currency": "CNY", "method": { "type": "alipay", "flow": "qr" } })
}

/// A payment by the code on the shopper's screen; the last two digits choose what happens.
pub fn barcode(amount: i64, ending: &str) -> Value {
    let auth_code = format!("2812345678901234{ending}");
    json!({
        "amount": amount, "currency": "CNY",
        "method": { "type": "alipay", "flow": "barcode", "auth_code": auth_code },
    })
}

/// A payment by a decrypted network token with a cryptogram of its own.
pub fn network_token(amount: i64, currency: &str) -> Value {
    json!({
        "amount": amount, "currency": currency,
        "method": { "type": "card", "network_token": {
            "number": "4111111111111111", "expiry_month": 12, "expiry_year": 2031,
            "cryptogram": fresh("AgAAAcryptogram"), "eci": "05", "source": "apple_pay",
        } },
    })
}

/// A payment by stored tokens at both accounts of one processor.
pub fn tokens(amount: i64, currency: &str) -> Value {
    json!({
        "amount": amount, "currency": currency,
        "method": { "type": "card", "tokens": {
            "checkout-eu": "src_stored_eu", "checkout-us": "src_stored_us",
        } },
    })
}

/// A payment by stored tokens at two processors, for a shopper whom the merchant names.
pub fn stored(amount: i64, currency: &str, adyen: &str) -> Value {
    json!({
        "amount": amount, "currency": currency, "customer": { "id": "shopper-7" },
        "method": { "type": "card", "tokens": {
            "adyen-eu": adyen, "checkout-us": "src_stored_us",
        } },
    })
}

/// The path of a binary or library that cargo built beside this test.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let profile = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let path = profile.join(name);
    assert!(path.exists(), "not built, run `cargo xtask test`: {name}");
    path
}

/// Below the range from which outgoing connections get their ports: what another house connects
/// from can't take a port between this look and its use. No port is given twice by one process,
/// and two processes begin at different places.
pub fn free_ports(count: usize) -> Vec<u16> {
    const FIRST: u32 = 10_240;
    const COUNT: u32 = 22_000;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let begin = std::process::id().wrapping_mul(7_919) % COUNT;
    let mut ports = Vec::with_capacity(count);
    while ports.len() < count {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(n < u64::from(COUNT), "no port is free");
        let offset = (u64::from(begin) + n) % u64::from(COUNT);
        let port = FIRST + u32::try_from(offset).expect("below COUNT");
        let port = u16::try_from(port).expect("below 32768");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
    }
    ports
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .max_idle_connections(256)
        .max_idle_connections_per_host(128)
        .build()
        .into()
}

fn sandbox_config(plan: &Plan, control: &str, accounts: &[String], api: &str) -> String {
    let mut text = format!("[control]\nlisten = \"{control}\"\n");
    let notify = plan.notify.clone().unwrap_or_else(|| format!("http://{api}"));
    for (n, ((name, provider), listen)) in ALL.iter().zip(accounts).enumerate() {
        text += &format!("\n[accounts.{name}]\nprovider = \"{provider}\"\nlisten = \"{listen}\"\n");
        text += plan.sandbox_lines;
        text += "\n";
        if *provider == "alipay" {
            text += &format!(
                "app_id = \"202100000000000{n}\"\nseller_id = \"208800000000000{n}\"\n\
                 app_public_key = \"keys/{name}/app_public.pem\"\n\
                 gateway_private_key = \"keys/{name}/gateway_private.pem\"\n\
                 gateway_public_key = \"keys/{name}/gateway_public.pem\"\n"
            );
            if let Some((after, _)) = plan.offer_expiry {
                text += &format!("qr_expiry_ms = {}\n", whole_seconds(after) * 1_000);
            }
        } else if *provider == "adyen" {
            let hmac_key = hmac_key(n);
            // It notifies of refusals, too; a busy machine must not let that overtake the answer.
            text += "notify_delay_ms = 100\n";
            text += &format!(
                "api_key = \"AQE_test_secret_{n}\"\nmerchant_account = \"TestShop\"\n\
                 hmac_key = \"{hmac_key}\"\n\
                 notify_url = \"{notify}/v1/notifications/{name}\"\n"
            );
            if let (true, Some((after, _))) = (plan.challenges, plan.offer_expiry) {
                text += &format!("challenge_ms = {}\n", whole_seconds(after) * 1_000);
            }
        } else if *provider == "wechatpay" {
            text += &format!(
                "mchid = \"190000000{n}\"\nappid = \"wx00000000000000{n}\"\n\
                 merchant_serial = \"{MERCHANT_SERIAL}\"\napi_v3_key = \"{API_V3_KEY}\"\n\
                 merchant_public_key = \"keys/{name}/app_public.pem\"\n\
                 platform_private_key = \"keys/{name}/gateway_private.pem\"\n\
                 reverse_after_ms = 0\n"
            );
            if let Some((after, _)) = plan.offer_expiry {
                text += &format!("offer_expiry_ms = {}\n", whole_seconds(after) * 1_000);
            }
            // One account knows the public key, the other the certificates.
            text += &match *name {
                "wechat-main" => format!("public_key_id = \"{PUBLIC_KEY_ID}\"\n"),
                _ => {
                    "next_platform_private_key = \"keys/wechat-main/gateway_private.pem\"\n".into()
                }
            };
        } else if *provider == "paypal" {
            text += &format!(
                "client_id = \"paypal_test_id\"\nclient_secret = \"paypal_test_secret\"\n\
                 webhook_id = \"9TEST\"\nmagic_amounts = true\n\
                 webhook_private_key = \"keys/{name}/webhook_private.pem\"\n\
                 webhook_ca_private_key = \"keys/{name}/webhook_ca_private.pem\"\n\
                 notify_url = \"{notify}/v1/notifications/{name}\"\n"
            );
        } else {
            text += &format!(
                "secret_key = \"sk_test_secret_{n}\"\nwebhook_key = \"whk_test_secret_{n}\"\n\
                 notify_url = \"{notify}/v1/notifications/{name}\"\n"
            );
        }
    }
    text
}

fn whole_seconds(text: &str) -> u64 {
    text.trim_end_matches('s').parse().expect("whole seconds")
}

fn config(plan: &Plan, api: &str, admin: &str, accounts: &[String]) -> String {
    let data_dir = plan.data_dir.clone().unwrap_or_else(|| PathBuf::from("data"));
    let public = plan.notify.clone().unwrap_or_else(|| format!("http://{api}"));
    let mut text = format!(
        "[server]\nlisten = \"{api}\"\nadmin = \"{admin}\"\npublic_url = \"{public}\"\n\
         data_dir = \"{}\"\nplugins_dir = \"plugins\"\nplugins_lock = \"plugins.lock\"\n\
         workers = 2\ndrain = \"20s\"\nshed_after = \"never\"\n{}\n\n\
         [merchants.test]\napi_key = \"test_key_1\"\n{}\n\n\
         [merchants.other]\napi_key = \"other_key_2\"\n",
        data_dir.display(),
        plan.server_lines,
        plan.merchant_lines
    );
    for (n, ((name, provider), address)) in ALL.iter().zip(accounts).enumerate() {
        text += &format!(
            "\n[accounts.{name}]\nplugin = \"{provider}\"\nisolation = \"in-process\"\n\
             timeout = \"{}\"\nlate_window = \"{}\"\nbreaker = {}\n{}\n",
            plan.timeout, plan.late_window, plan.breaker, plan.account_lines
        );
        if *provider == "alipay" {
            let pages = plan.offer_expiry.map(|(after, _)| {
                format!(", pages = true, page_seconds = {}", whole_seconds(after))
            });
            let pages = pages.unwrap_or_default();
            text += &format!(
                "endpoints = {{ gateway = \"http://{address}\", \
                 bills = \"http://{address}\" }}\n\
                 config = {{ app_id = \"202100000000000{n}\"{pages} }}\n\
                 [accounts.{name}.secrets]\n\
                 app_private_key = \"${{file:keys/{name}/app_private.pem}}\"\n\
                 alipay_public_key = \"${{file:keys/{name}/gateway_public.pem}}\"\n"
            );
        } else if *provider == "adyen" {
            let (challenges, hmac_key) = (plan.challenges, hmac_key(n));
            text += &format!(
                "endpoints = {{ api = \"http://{address}/v72\" }}\n\
                 config = {{ merchant_account = \"TestShop\", three_d_secure = {challenges}, \
                 return_url = \"https://shop.example/back\" }}\n\
                 [accounts.{name}.secrets]\n\
                 api_key = \"AQE_test_secret_{n}\"\nhmac_key = \"{hmac_key}\"\n"
            );
        } else if *provider == "wechatpay" {
            let public = *name == "wechat-main";
            let (config, secret) = if public {
                let key = format!(
                    "wechatpay_public_key = \"${{file:keys/{name}/gateway_public.pem}}\"\n"
                );
                (format!("public_key_id = \"{PUBLIC_KEY_ID}\""), key)
            } else {
                ("platform_certificates = true".to_owned(), String::new())
            };
            text += &format!(
                "endpoints = {{ api = \"http://{address}\" }}\n\
                 config = {{ mchid = \"190000000{n}\", appid = \"wx00000000000000{n}\", \
                 serial_no = \"{MERCHANT_SERIAL}\", {config} }}\n\
                 [accounts.{name}.secrets]\n\
                 merchant_private_key = \"${{file:keys/{name}/app_private.pem}}\"\n\
                 api_v3_key = \"{API_V3_KEY}\"\n{secret}"
            );
        } else if *provider == "paypal" {
            text += &format!(
                "endpoints = {{ api = \"http://{address}\" }}\n\
                 ca = \"keys/{name}/webhook_ca.pem\"\n\
                 config = {{ webhook_id = \"9TEST\", sandbox = true }}\n\
                 [accounts.{name}.secrets]\n\
                 client_id = \"paypal_test_id\"\nclient_secret = \"paypal_test_secret\"\n"
            );
        } else {
            text += &format!(
                "endpoints = {{ api = \"http://{address}\" }}\n\
                 [accounts.{name}.secrets]\n\
                 secret_key = \"sk_test_secret_{n}\"\nwebhook_key = \"whk_test_secret_{n}\"\n"
            );
        }
        let reason = "the sandbox executes at once or never";
        let mut contract = String::new();
        // There is nothing to find where nobody can ask.
        if *provider == "wechatpay" {
            contract += &format!("close_after = {{ value = \"0s\", reason = \"{reason}\" }}\n");
        }
        if plan.not_found && *provider != "adyen" {
            contract +=
                &format!("not_found = {{ value = \"after_fence\", reason = \"{reason}\" }}\n");
        }
        if *provider == "adyen" {
            if plan.proof_codes {
                contract += "proof_codes = { value = [\"429\", \"transient-error:703\"], \
                             reason = \"the sandbox executes nothing then\" }\n";
            }
            if plan.challenges {
                contract += "offer_expiry = { value = { after = \"1h\", margin = \"1m\" }, \
                             reason = \"nobody but us can finish a challenge\" }\n";
            }
        } else if *provider == "checkout" {
            contract += "proof_codes = { value = [\"429\"], reason = \"copies get 409\" }\n";
        } else if let (Some((after, margin)), false) = (plan.offer_expiry, *provider == "paypal") {
            contract += &format!(
                "offer_expiry = {{ value = {{ after = \"{after}\", margin = \"{margin}\" }}, \
                 reason = \"the sandbox enforces it\" }}\n"
            );
        }
        text += &format!("[accounts.{name}.contract]\n{contract}");
    }
    for (name, rule, candidates) in [
        ("alipay", "method = \"alipay\", currency = \"CNY\"", "\"alipay-main\", \"alipay-backup\""),
        ("cards-eu", "method = \"card\", currency = \"EUR\"", "\"checkout-eu\", \"checkout-us\""),
        ("cards-us", "method = \"card\", currency = \"USD\"", "\"checkout-us\", \"checkout-eu\""),
        (
            "cards-uk",
            "method = \"card\", currency = [\"GBP\", \"CLP\", \"CVE\"]",
            "\"adyen-eu\", \"checkout-us\"",
        ),
        ("cards-ch", "method = \"card\", currency = \"CHF\"", "\"checkout-us\", \"adyen-eu\""),
        ("wallets", "method = [\"apple_pay\", \"google_pay\"]", "\"adyen-eu\""),
        ("wechat", "method = \"wechat_pay\"", "\"wechat-main\", \"wechat-backup\""),
        ("paypal", "method = \"paypal\"", "\"paypal-main\""),
    ] {
        text += &format!(
            "\n[[routes]]\nname = \"{name}\"\nmatch = {{ {rule} }}\n\
             candidates = [{candidates}]\n{}\n",
            plan.route_lines
        );
    }
    text + "\n[inquiry]\nrecheck = [\"200ms\", \"300ms\", \"500ms\", \"1s\"]\n" + plan.tail
}

/// The key of an account's notifications, in hexadecimal as the provider shows it.
fn hmac_key(n: usize) -> String {
    let key = format!("hmac_test_secret_{n}");
    key.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map_while(Result::ok) {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

/// The files in the folders of accounts, by their path below `root`.
fn accounts_keys(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let inside = |folder: &Path| {
        let entries = fs::read_dir(folder).expect("a folder").map_while(Result::ok);
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let files = inside(root).into_iter().flat_map(|account| inside(&account));
    files
        .map(|path| {
            let name = path.strip_prefix(root).expect("below it").to_owned();
            (name, fs::read(path).expect("a key"))
        })
        .collect()
}

fn terminate(pid: libc::pid_t) {
    let status = Command::new("kill").args(["-TERM", &pid.to_string()]).status();
    assert!(status.is_ok_and(|s| s.success()), "SIGTERM is sent");
}
