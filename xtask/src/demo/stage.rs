//! The programs of a demo: fresh folders, the sandbox, the proxy, and their end.
//!
//! What was started is ended by its own process id when the stage is dropped, also after an
//! error, a panic or Ctrl-C. Each runs in a process group of its own, so that Ctrl-C reaches
//! this program first and the proxy can still be asked to stop.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::client::Client;
use crate::ground::{Ground, Progress};
use crate::rehearsal::{copy, make_folder};

/// The merchant API.
pub const PROXY: &str = "http://127.0.0.1:8080";
/// Probes and metrics of the proxy.
pub const ADMIN: &str = "http://127.0.0.1:9700";
/// The control plane of the sandbox.
pub const CONTROL: &str = "http://127.0.0.1:9900";
/// The merchant of `config/demo.toml`.
pub const API_KEY: &str = "demo_key";
/// The accounts of `config/demo.toml` that take money.
pub const ACCOUNTS: [&str; 9] = [
    "alipay-main",
    "alipay-backup",
    "checkout-eu",
    "checkout-us",
    "adyen-eu",
    "stripe-eu",
    "wechat-main",
    "wechat-backup",
    "paypal-eu",
];

/// The webhook of that merchant.
pub const WEBHOOK_PORT: u16 = 9990;

const PORTS: [u16; 15] = [
    8080,
    9700,
    9900,
    9911,
    9912,
    9921,
    9922,
    9931,
    9941,
    9951,
    9952,
    9961,
    9971,
    9972,
    WEBHOOK_PORT,
];
/// The plugins of its accounts.
pub const PLUGINS: [&str; 8] =
    ["adyen", "alipay", "applepay", "checkout", "googlepay", "paypal", "stripe", "wechatpay"];

/// Longer than the `drain` of `config/demo.toml`.
const STOP_WITHIN: Duration = Duration::from_secs(12);

/// The running programs.
pub struct Stage {
    // Dropped in this order: the proxy stops while the sandbox still answers.
    proxy: Program,
    sandbox: Program,
}

impl Stage {
    /// Prepares the folder of the demo and starts both programs; they answer when this returns.
    ///
    /// # Errors
    /// What a program said last.
    pub fn start(ground: &Ground, progress: &Progress, seed: u64) -> Result<Self, String> {
        let home = fresh_home(ground)?;
        let sandbox = ground.built("interlock-sandbox");
        let proxy = ground.built("interlock");
        let config = ground.root.join("config/demo.toml");
        let keys = home.join("keys");
        let mut making = Command::new(&sandbox);
        making.arg("keys").arg(&keys);
        making.args(["alipay-main", "alipay-backup", "wechat-main", "wechat-backup"]);
        progress.run("make fresh keys for Alipay's and WeChat Pay's accounts", &mut making)?;
        let mut making = Command::new(&sandbox);
        making.arg("keys").arg(&keys).args(["--webhooks", "paypal-eu"]);
        progress.run("make fresh keys for PayPal's webhooks", &mut making)?;
        for (flag, account) in [("--apple-pay", "apple-pay"), ("--google-pay", "google-pay")] {
            let mut making = Command::new(&sandbox);
            making.arg("keys").arg(&keys).args([flag, account]);
            progress.run(&format!("make fresh keys for {account}"), &mut making)?;
        }
        for plugin in PLUGINS {
            let file = format!("lib{plugin}.so");
            copy(&ground.built(&file), &home.join("plugins").join(&file))?;
        }
        let mut pin = Command::new(&proxy);
        pin.args(["plugin", "pin", "--config"]).arg(&config).current_dir(&ground.root);
        progress.run("pin the plugins", &mut pin)?;

        let mut run = Command::new(&sandbox);
        run.arg("--seed").arg(seed.to_string());
        run.arg("--config").arg(ground.root.join("config/sandbox.toml"));
        let mut sandbox = Program::start("the sandbox", run.current_dir(&ground.root), &home)?;
        sandbox.wait_until(&Client::new(CONTROL, None), "/healthz")?;
        let mut run = Command::new(&proxy);
        run.args(["run", "--config"]).arg(&config).current_dir(&ground.root);
        let mut proxy = Program::start("the proxy", &mut run, &home)?;
        proxy.wait_until(&Client::new(ADMIN, None), "/readyz")?;
        progress.say(&format!("the sandbox and the proxy are ready; logs: {}", home.display()));
        Ok(Self { proxy, sandbox })
    }

    /// Whether both still run.
    ///
    /// # Errors
    /// Which one ended, and what it said last.
    pub fn check(&mut self) -> Result<(), String> {
        self.sandbox.check()?;
        self.proxy.check()
    }
}

/// Whether the ports of the demo are free.
///
/// # Errors
/// Which one is taken.
pub fn free_ports() -> Result<(), String> {
    for port in PORTS {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        TcpListener::bind(address).map_err(|why| {
            format!(
                "the demo needs port {port} of this machine ({why}); end what listens there: \
                 `ss -ltnp 'sport = :{port}'` names it"
            )
        })?;
    }
    Ok(())
}

/// `target/demo`, where `config/demo.toml` and `config/sandbox.toml` point to, emptied.
fn fresh_home(ground: &Ground) -> Result<PathBuf, String> {
    let home = ground.root.join("target/demo");
    if home.exists() {
        let removed = fs::remove_dir_all(&home);
        removed.map_err(|why| format!("could not empty {}: {why}", home.display()))?;
    }
    for folder in ["data", "keys", "plugins"] {
        make_folder(&home.join(folder))?;
    }
    Ok(home)
}

/// One running program.
struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    fn start(name: &'static str, command: &mut Command, home: &Path) -> Result<Self, String> {
        let log = home.join(format!("{}.log", name.replace(' ', "-")));
        let not = |why: std::io::Error| format!("could not start {name}: {why}");
        let out = File::create(&log).map_err(not)?;
        let error = out.try_clone().map_err(not)?;
        command.stdin(Stdio::null()).stdout(out).stderr(error).process_group(0);
        let child = command.spawn().map_err(not)?;
        Ok(Self { name, child, log })
    }

    fn wait_until(&mut self, client: &Client, path: &str) -> Result<(), String> {
        let began = Instant::now();
        while client.text(path).is_none() {
            self.check()?;
            if began.elapsed() > Duration::from_secs(30) {
                return Err(format!(
                    "{} is not ready after 30 s\n{}",
                    self.name,
                    self.last_words()
                ));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                Err(format!("{} ended: {status}\n{}", self.name, self.last_words()))
            }
            Err(why) => Err(format!("{} cannot be watched: {why}", self.name)),
        }
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(15)..];
        format!("the end of {}:\n{}", self.log.display(), last.join("\n"))
    }

    fn ended_within(&mut self, limit: Duration) -> bool {
        let began = Instant::now();
        while began.elapsed() < limit {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        if let Ok(Some(pid)) = i32::try_from(self.child.id()).map(Pid::from_raw) {
            // It may have ended in between, which is what is wanted.
            let _ = kill_process(pid, Signal::TERM);
        }
        if !self.ended_within(STOP_WITHIN) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
