//! A merchant's webhook: a small server that keeps everything that it is told, and answers as a
//! test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// With this status.
    Status(u16),
    /// With this status and a body of so many bytes.
    Long(u16, usize),
    /// With a redirection to itself.
    Redirect,
    /// Never; the connection stays open.
    Hang,
}

/// One message as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Path and query.
    pub target: String,
    /// All fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
    /// The body as JSON.
    pub json: Value,
    /// When it came.
    pub at: Instant,
}

impl Heard {
    /// A field's value.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// The id of the message.
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// The kind of event.
    pub fn kind(&self) -> &str {
        self.json["type"].as_str().unwrap_or_default()
    }
}

/// The server. It serves until the process ends.
pub struct Hook {
    /// `127.0.0.1:PORT`.
    pub address: String,
    desk: Arc<Mutex<Desk>>,
}

struct Desk {
    manner: Manner,
    heard: Vec<Heard>,
}

impl Hook {
    /// A server on a free port that takes everything.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let desk = Arc::new(Mutex::new(Desk { manner: Manner::Status(204), heard: Vec::new() }));
        let shared = Arc::clone(&desk);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let desk = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &desk));
            }
        });
        Self { address, desk }
    }

    /// Answers so from now on.
    pub fn answer(&self, manner: Manner) {
        lock(&self.desk).manner = manner;
    }

    /// Everything that came so far, repetitions included.
    pub fn heard(&self) -> Vec<Heard> {
        lock(&self.desk).heard.clone()
    }

    /// Waits until so many messages have come.
    pub fn wait_for(&self, count: usize) -> Vec<Heard> {
        self.wait_until(&format!("{count} messages"), |heard| heard.len() >= count)
    }

    /// Waits until what was heard is as wanted.
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&[Heard]) -> bool) -> Vec<Heard> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let heard = self.heard();
            if wanted(&heard) {
                return heard;
            }
            assert!(Instant::now() < end, "the hook did not hear {what}: {heard:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Requests of one connection.
fn serve(stream: &TcpStream, desk: &Mutex<Desk>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let target = line.split(' ').nth(1)?.to_owned();
        let (mut headers, mut length) = (Vec::new(), 0);
        loop {
            let mut field = String::new();
            reader.read_line(&mut field).ok()?;
            let Some((name, value)) = field.trim_end().split_once(':') else { break };
            let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
            if name == "content-length" {
                length = value.parse().ok()?;
            }
            headers.push((name, value));
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let at = Instant::now();
        let manner = {
            let mut desk = lock(desk);
            desk.heard.push(Heard { target, headers, body, json, at });
            desk.manner
        };
        let answer = match manner {
            Manner::Status(204) => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            Manner::Status(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"),
            Manner::Long(status, bytes) => {
                let body = "x".repeat(bytes);
                format!("HTTP/1.1 {status} X\r\ncontent-length: {bytes}\r\n\r\n{body}")
            }
            Manner::Redirect => "HTTP/1.1 307 X\r\nlocation: /elsewhere\r\n\
                                 content-length: 0\r\n\r\n"
                .to_owned(),
            Manner::Hang => {
                std::thread::sleep(Duration::from_secs(60));
                return None;
            }
        };
        writer.write_all(answer.as_bytes()).ok()?;
    }
}
