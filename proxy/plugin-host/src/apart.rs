//! A plugin in a process of its own, for one account: what it breaks is its own process.
//!
//! The process gets the library's checked bytes and one end of a socket, nothing else: no
//! environment, no other file. A crash, an exit or a call that does not come back costs the one
//! operation that was under way; the next one starts a new process, after a wait that grows with
//! each failure. Keys stay here: the process asks, and gets a signature.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use interlock_plugin_api::abi;

use super::call::Sink;
use super::frame::{self, Frame, Kind};
use super::services::Table;

/// The first wait after a failure; it doubles with each that follows, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The program that runs a plugin in a process of its own: it must call [`super::serve`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// Why a call gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The process ended, and how.
    Died(String),
    /// The call did not come back.
    TimedOut,
    /// It failed a moment ago; nothing was run.
    Resting,
    /// Enough callers wait already; nothing was run.
    Busy,
}

/// One account's process, and what it takes to start another one.
pub(super) struct Apart {
    opening: Opening,
    table: Arc<Table>,
    line: Mutex<Line>,
    waiting: AtomicUsize,
}

/// What a process is started with.
pub(super) struct Opening {
    pub program: Program,
    /// The library's bytes, sealed.
    pub library: Arc<File>,
    /// The library's name, for messages.
    pub file: String,
    /// The account's settings, JSON.
    pub config: String,
    /// A call takes at most this long.
    pub hard: Duration,
    /// So many callers may wait for their turn.
    pub waiting_max: usize,
}

struct Line {
    running: Option<Running>,
    failures: u32,
    not_before: Option<Instant>,
}

struct Running {
    socket: UnixStream,
    process: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It is gone already, or goes now; either way it is waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Apart {
    /// Starts a process and opens the plugin in it: its code and its output.
    pub(super) fn open(opening: Opening, table: Arc<Table>) -> Result<(Self, i32, Sink), Trouble> {
        let line = Line { running: None, failures: 0, not_before: None };
        let apart = Self { opening, table, line: Mutex::new(line), waiting: AtomicUsize::new(0) };
        let (running, rc, sink) = apart.start()?;
        if rc == abi::OK {
            lock(&apart.line).running = Some(running);
        }
        Ok((apart, rc, sink))
    }

    /// Runs one step.
    pub(super) fn step(&self, parts: [&[u8]; 3]) -> Result<(i32, Sink), Trouble> {
        if self.waiting.fetch_add(1, Ordering::AcqRel) > self.opening.waiting_max {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(Trouble::Busy);
        }
        let mut line = lock(&self.line);
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        if line.not_before.is_some_and(|at| Instant::now() < at) {
            return Err(Trouble::Resting);
        }
        let done = self.run(&mut line, parts);
        match &done {
            Ok(_) => (line.failures, line.not_before) = (0, None),
            Err(_) => {
                line.running = None;
                let wait = FIRST_WAIT.saturating_mul(1 << line.failures.min(16)).min(LONGEST_WAIT);
                line.not_before = Some(Instant::now() + wait);
                line.failures = line.failures.saturating_add(1);
            }
        }
        done
    }

    fn run(&self, line: &mut Line, parts: [&[u8]; 3]) -> Result<(i32, Sink), Trouble> {
        if line.running.is_none() {
            let (running, rc, sink) = self.start()?;
            if rc != abi::OK {
                // It opened before with the same settings, so this is its own trouble.
                let why = sink.error_text();
                return Err(Trouble::Died(format!("it does not open again, {why}")));
            }
            line.running = Some(running);
        }
        let Some(running) = &mut line.running else { return Err(Trouble::Resting) };
        self.ask(running, Kind::Step, &parts)
    }

    fn start(&self) -> Result<(Running, i32, Sink), Trouble> {
        let cant =
            |e: io::Error| Trouble::Died(format!("its process can't be started, {}", e.kind()));
        let Opening { program, library, file, config, hard, .. } = &self.opening;
        let (socket, theirs) = UnixStream::pair().map_err(cant)?;
        socket.set_read_timeout(Some(*hard)).map_err(cant)?;
        socket.set_write_timeout(Some(*hard)).map_err(cant)?;
        let library = library.try_clone().map_err(cant)?;
        let process = Command::new(&program.path)
            .args(&program.args)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(library))
            .stderr(Stdio::null())
            .spawn()
            .map_err(cant)?;
        let mut running = Running { socket, process };
        let opened = self.ask(&mut running, Kind::Open, &[config.as_bytes(), file.as_bytes()]);
        let (rc, sink) = opened?;
        Ok((running, rc, sink))
    }

    /// Asks, does what the process asks in between, and gives its answer.
    fn ask(
        &self,
        running: &mut Running,
        kind: Kind,
        parts: &[&[u8]],
    ) -> Result<(i32, Sink), Trouble> {
        let until = Instant::now() + self.opening.hard;
        let answer = frame::write(&mut running.socket, kind, 0, parts)
            .and_then(|()| self.answer(&mut running.socket, until));
        answer.map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Trouble::TimedOut,
            _ => Trouble::Died(how(&mut running.process, &e)),
        })
    }

    fn answer(&self, socket: &mut UnixStream, until: Instant) -> io::Result<(i32, Sink)> {
        loop {
            let mut frame = frame::read(&mut Until { socket, until })?;
            match frame.kind {
                Kind::Result => {
                    let over = match frame.part(4) {
                        b"" => None,
                        b"meta" => Some("meta"),
                        b"state" => Some("state"),
                        b"body" => Some("body"),
                        b"error" => Some("error"),
                        _ => Some("part"),
                    };
                    let mut part =
                        |n| frame.parts.get_mut(n).map(std::mem::take).unwrap_or_default();
                    let (meta, state, body, error) = (part(0), part(1), part(2), part(3));
                    return Ok((frame.code, Sink { meta, state, body, error, over }));
                }
                Kind::Service if Instant::now() < until => {
                    let (code, bytes) = self.serve(&frame);
                    frame::write(socket, Kind::Reply, code, &[&bytes])?;
                }
                Kind::Service => return Err(io::ErrorKind::TimedOut.into()),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    /// What only the proxy can do.
    fn serve(&self, asked: &Frame) -> (i32, Vec<u8>) {
        let services = self.table.services();
        let given = |result: Result<Vec<u8>, i32>| match result {
            Ok(bytes) => (abi::OK, bytes),
            Err(code) => (code, Vec::new()),
        };
        let perhaps = |result: Result<Option<Vec<u8>>, i32>| match result {
            Ok(Some(bytes)) => (1, bytes),
            Ok(None) => (0, Vec::new()),
            Err(code) => (code, Vec::new()),
        };
        match asked.code {
            frame::MAC => given(services.mac(asked.part(0), asked.part(1))),
            frame::SIGN => given(services.sign(asked.part(0), asked.part(1), asked.part(2))),
            frame::VERIFY => {
                let [key, algorithm, data, signature] = [0, 1, 2, 3].map(|n| asked.part(n));
                match services.verify(key, algorithm, data, signature) {
                    Ok(good) => (i32::from(good), Vec::new()),
                    Err(code) => (code, Vec::new()),
                }
            }
            frame::UNSEAL => {
                let sealed = [1, 2, 3, 4].map(|n| asked.part(n));
                perhaps(services.unseal(asked.part(0), sealed))
            }
            frame::PUBLIC_KEY => given(services.public_key(asked.part(0))),
            frame::ESTABLISH => {
                perhaps(services.establish(asked.part(0), asked.part(1), asked.part(2)))
            }
            frame::LOG => {
                let level = asked.part(0).try_into().map_or(abi::E_INPUT, i32::from_le_bytes);
                services.log(level, asked.part(1));
                (abi::OK, Vec::new())
            }
            _ => (abi::E_UNSUPPORTED, Vec::new()),
        }
    }
}

/// A socket that is read until a moment: the socket's own time-out begins anew with every byte.
struct Until<'a> {
    socket: &'a mut UnixStream,
    until: Instant,
}

impl Read for Until<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if Instant::now() >= self.until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.read(into)
    }
}

/// How a process ended, in words.
fn how(process: &mut Child, e: &io::Error) -> String {
    if e.kind() == io::ErrorKind::InvalidData {
        return "its process said what can't be read".to_owned();
    }
    // The socket is closed a moment before the process can be waited for.
    let until = Instant::now() + Duration::from_millis(200);
    loop {
        match process.try_wait() {
            Ok(Some(status)) => {
                return match (status.signal(), status.code()) {
                    (Some(libc::SIGSYS), _) => {
                        "its process was ended, because it called what it may not".to_owned()
                    }
                    (Some(signal), _) => format!("its process was ended by signal {signal}"),
                    (None, code) => format!("its process exited with code {}", code.unwrap_or(-1)),
                };
            }
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
            _ => return format!("its process does not answer, {}", e.kind()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn who_sends_a_byte_at_a_time_gains_no_time() {
        let (mut socket, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&[0; 64]).unwrap();
        let mut bounded = Until { socket: &mut socket, until: Instant::now() };
        let late = bounded.read_exact(&mut [0; 1]).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        bounded.until += Duration::from_secs(60);
        bounded.read_exact(&mut [0; 64]).unwrap();
    }
}
