//! The processes of a house: the proxy, the sandbox and the command line. A test ends what it
//! started, by pid.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::House;

impl House {
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

    pub(super) fn spawn(&self, binary: &str, arguments: &[&str], env: &[(&str, &str)]) -> Child {
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

fn terminate(pid: libc::pid_t) {
    let status = Command::new("kill").args(["-TERM", &pid.to_string()]).status();
    assert!(status.is_ok_and(|s| s.success()), "SIGTERM is sent");
}
