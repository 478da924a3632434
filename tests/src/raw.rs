//! Bytes on a socket, as a client writes them who keeps to no rule, and what comes back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The longest that a test waits for a connection to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came back until the connection ended.
#[derive(Debug)]
pub struct Told {
    /// All answers, as text.
    pub text: String,
    /// The server closed the connection; else the patience was over.
    pub closed: bool,
    /// From the first byte that was written.
    pub elapsed: Duration,
}

impl Told {
    /// The status of every answer, in order.
    pub fn statuses(&self) -> Vec<u16> {
        let heads = self.text.split("HTTP/1.1 ").skip(1);
        heads.filter_map(|head| head.get(..3)?.parse().ok()).collect()
    }
}

/// Writes `bytes` and reads until the server closes the connection, or for 20 s. `address` may be
/// an URL of the house.
pub fn say(address: &str, bytes: &[u8]) -> Told {
    let mut stream = knock(address);
    let began = Instant::now();
    // A server that has refused may reset the connection while the rest is still written.
    let _ = stream.write_all(bytes);
    heard(stream, began)
}

/// A connection on which a read waits for 20 s at most.
pub fn knock(address: &str) -> TcpStream {
    let address = address.trim_start_matches("http://");
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

/// Reads what is left.
pub fn heard(mut stream: impl Read, began: Instant) -> Told {
    let mut told = Vec::new();
    let closed = match stream.read_to_end(&mut told) {
        Ok(_) => true,
        Err(e) => {
            !matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        }
    };
    let text = String::from_utf8_lossy(&told).into_owned();
    Told { text, closed, elapsed: began.elapsed() }
}
