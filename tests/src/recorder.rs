//! A small server that stands where providers send their notifications, takes each of them and
//! keeps it, so that a test can deliver it when, how often and as altered as it wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::house::{Answer, House};

/// One notification as a provider sent it.
#[derive(Clone, Debug)]
pub struct Notification {
    /// `/v1/notifications/ACCOUNT`.
    pub path: String,
    /// `Content-Type` and the signature's field, where there is one.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

impl Notification {
    /// Delivers it to a house's proxy.
    pub fn deliver(&self, house: &House) -> Answer {
        let mut headers: Vec<(&str, &str)> =
            self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        // A provider has no key of ours.
        headers.push(("Authorization", ""));
        let url = format!("{}{}", house.api, self.path);
        house.send("POST", &url, &headers, Some(&self.body))
    }

    /// Whether its body holds this text.
    pub fn tells(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(text)
    }
}

/// The server. It serves until the process ends.
pub struct Recorder {
    /// `http://127.0.0.1:PORT`, for [`crate::house::Plan::notify`].
    pub url: String,
    kept: Arc<Mutex<Vec<Notification>>>,
}

impl Recorder {
    /// A server on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let kept: Arc<Mutex<Vec<Notification>>> = Arc::default();
        let shelf = Arc::clone(&kept);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shelf = Arc::clone(&shelf);
                std::thread::spawn(move || serve(&stream, &shelf));
            }
        });
        Self { url, kept }
    }

    /// Everything that came so far.
    pub fn all(&self) -> Vec<Notification> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for one notification that holds all these texts.
    pub fn wait_for(&self, texts: &[&str]) -> Notification {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let wanted = |n: &&Notification| texts.iter().all(|text| n.tells(text));
            if let Some(found) = self.all().iter().find(wanted) {
                return found.clone();
            }
            assert!(Instant::now() < end, "no notification holds {texts:?}: {:?}", self.all());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Requests of one connection; each is taken as its provider wants it.
fn serve(stream: &TcpStream, shelf: &Mutex<Vec<Notification>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let path = line.split(' ').nth(1)?.to_owned();
        let (mut headers, mut length) = (Vec::new(), 0);
        loop {
            let mut field = String::new();
            reader.read_line(&mut field).ok()?;
            let Some((name, value)) = field.trim_end().split_once(':') else { break };
            let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
            match name.as_str() {
                "content-length" => length = value.parse().ok()?,
                "content-type" | "cko-signature" => headers.push((name, value)),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let notification = Notification { path, headers, body };
        let word = if notification.tells("notificationItems") { "[accepted]" } else { "success" };
        shelf.lock().unwrap_or_else(PoisonError::into_inner).push(notification);
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{word}", word.len());
        writer.write_all(answer.as_bytes()).ok()?;
    }
}
