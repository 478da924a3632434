//! The two accounts behind every general proxy: one sandbox, in which either takes the other's key.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use interlock_tests::house::{built, free_ports};
use serde_json::Value;
use tempfile::TempDir;

use crate::merchant::Line;

/// The key of both accounts, so that a request may go to either.
pub const KEY: &str = "sk_test_of_both_accounts";
/// The accounts; the first one is broken.
pub const ACCOUNTS: [&str; 2] = ["account-a", "account-b"];

/// A running sandbox; ends when dropped.
pub struct Stage {
    /// `HOST:PORT` of each account.
    pub upstreams: [String; 2],
    control: String,
    line: Line,
    child: Child,
    _dir: TempDir,
}

impl Stage {
    /// Starts it and waits until it answers; somebody else may have taken one of its ports.
    pub fn start() -> Self {
        (0..5).find_map(|_| Self::try_start()).expect("the sandbox starts and answers")
    }

    fn try_start() -> Option<Self> {
        let ports = free_ports(3);
        let [control, a, b] = [0, 1, 2].map(|n| format!("127.0.0.1:{}", ports[n]));
        let mut text = format!("[control]\nlisten = \"{control}\"\n");
        for (name, address) in ACCOUNTS.iter().zip([&a, &b]) {
            text += &format!(
                "[accounts.{name}]\nprovider = \"checkout\"\nlisten = \"{address}\"\n\
                 secret_key = \"{KEY}\"\nwebhook_key = \"whk_{name}\"\n"
            );
        }
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("sandbox.toml"), text).expect("sandbox.toml");
        let log = fs::File::create(dir.path().join("log")).expect("a log");
        let child = Command::new(built("interlock-sandbox"))
            .args(["--config", "sandbox.toml"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the sandbox starts");
        let control = format!("http://{control}");
        let mut stage = Self { upstreams: [a, b], control, line: Line::new(), child, _dir: dir };
        let end = Instant::now() + Duration::from_secs(20);
        while stage.line.ask("GET", &format!("{}/healthz", stage.control), &[], None).is_none() {
            let ended = stage.child.try_wait().is_ok_and(|status| status.is_some());
            if ended || Instant::now() >= end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(stage)
    }

    /// Forgets everything, and lifts every fault.
    pub fn reset(&self) {
        self.tell("POST", "/reset", None);
    }

    /// Sets a fault.
    pub fn fault(&self, order: &Value) {
        self.tell("POST", "/faults", Some(order));
    }

    /// Lifts every fault.
    pub fn lift_faults(&self) {
        self.tell("DELETE", "/faults", None);
    }

    /// Every movement of money, in order.
    pub fn ledger(&self) -> Vec<Value> {
        self.tell("GET", "/ledger", None).as_array().expect("a ledger").clone()
    }

    fn tell(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let url = format!("{}{path}", self.control);
        let answer = self.line.ask(method, &url, &[], body);
        let (status, json) = answer.expect("the sandbox answers");
        assert!(status < 300, "{method} {path} is taken: {status} {json}");
        json
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
