//! The generator: requests that are bytes already, in a closed loop for the cost at saturation and
//! in an open one, by a schedule that waits for nobody, for latency.

use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// Where a message's body lies, once all of it is there.
pub struct Message {
    /// The status of an answer; 0 of a request.
    pub status: u16,
    /// Its body in the buffer; what follows is the next message.
    pub body: Range<usize>,
}

impl Message {
    /// A whole request, or none yet.
    pub fn request(buffer: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        let head = request.parse(buffer).ok()?;
        whole(buffer, 0, head, request.headers)
    }

    /// A whole answer, or none yet.
    pub fn answer(buffer: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut headers);
        let head = answer.parse(buffer).ok()?;
        let status = answer.code.unwrap_or(0);
        let chunked =
            answer.headers.iter().any(|h| h.name.eq_ignore_ascii_case("transfer-encoding"));
        if chunked && head.is_complete() {
            // One of the peers chunks; the end is the last chunk's.
            let begin = head.unwrap();
            let end = find(&buffer[begin..], b"0\r\n\r\n")? + begin + 5;
            return Some(Self { status, body: begin..end });
        }
        whole(buffer, status, head, answer.headers)
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn whole(
    buffer: &[u8],
    status: u16,
    head: httparse::Status<usize>,
    headers: &[httparse::Header<'_>],
) -> Option<Message> {
    let httparse::Status::Complete(begin) = head else { return None };
    let length = headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
    let length = length.map_or(Some(0), |h| std::str::from_utf8(h.value).ok()?.parse().ok())?;
    let end = begin.checked_add(length)?;
    (end <= buffer.len()).then_some(Message { status, body: begin..end })
}

/// Where requests go, and what they are.
#[derive(Clone)]
pub struct Target {
    /// The address.
    pub address: SocketAddr,
    /// The bytes of the request of this number.
    pub request: Rc<dyn Fn(u64) -> Vec<u8>>,
    /// What every answer must be.
    pub status: u16,
}

/// What came of one run.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// How many were answered as they must be.
    pub answered: u64,
    /// How many were refused with 503.
    pub refused: u64,
    /// How many were answered otherwise, or not at all.
    pub failed: u64,
    /// Latencies of those that were, ns, sorted; from the intended start in an open loop.
    pub latencies: Vec<u64>,
}

impl Heard {
    /// A latency that this share of the requests did not exceed, us.
    pub fn percentile_us(&self, share: f64) -> f64 {
        let Some(last) = self.latencies.len().checked_sub(1) else { return f64::NAN };
        self.latencies[(last as f64 * share).round() as usize] as f64 / 1_000.0
    }
}

/// One keep-alive connection.
struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Line {
    async fn open(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Self { stream, buffer: Vec::with_capacity(4_096) })
    }

    /// The status of the answer; `None` when the connection is gone.
    async fn ask(&mut self, request: &[u8]) -> Option<u16> {
        self.stream.write_all(request).await.ok()?;
        loop {
            if let Some(answer) = Message::answer(&self.buffer) {
                self.buffer.drain(..answer.body.end);
                return Some(answer.status);
            }
            if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }
}

/// As many requests as `lines` connections can make one after the other.
pub async fn closed(target: &Target, lines: u64, lasts: Duration) -> Heard {
    let until = Instant::now() + lasts;
    together(target, lines, |target, n| async move {
        let mut heard = Heard::default();
        let Some(mut line) = Line::open(target.address).await else { return heard };
        let mut number = n;
        while Instant::now() < until {
            let begun = Instant::now();
            if !note(&mut heard, &target, &mut line, number, begun).await {
                break;
            }
            number += lines;
        }
        heard
    })
    .await
}

/// `rate` requests per second by a schedule, over `lines` connections.
pub async fn open(target: &Target, lines: u64, rate: u64, lasts: Duration) -> Heard {
    let begin = Instant::now() + Duration::from_millis(50);
    let count = rate * u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX) / 1_000;
    together(target, lines, |target, n| async move {
        let mut heard = Heard::default();
        let Some(mut line) = Line::open(target.address).await else { return heard };
        let mut number = n;
        while number < count {
            let due = begin + Duration::from_nanos(number * 1_000_000_000 / rate);
            // A timer would be a millisecond late, and an idle core later still: this one turns.
            while Instant::now() < due {
                tokio::task::yield_now().await;
            }
            if !note(&mut heard, &target, &mut line, number, due).await {
                break;
            }
            number += lines;
        }
        heard
    })
    .await
}

async fn note(
    heard: &mut Heard,
    target: &Target,
    line: &mut Line,
    number: u64,
    begun: Instant,
) -> bool {
    let status = line.ask(&(target.request)(number)).await;
    if status == Some(target.status) {
        heard.answered += 1;
        let ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        heard.latencies.push(ns);
    } else if status == Some(503) {
        heard.refused += 1;
    } else {
        heard.failed += 1;
    }
    status.is_some()
}

async fn together<F>(target: &Target, lines: u64, work: impl Fn(Target, u64) -> F) -> Heard
where
    F: Future<Output = Heard> + 'static,
{
    let local = LocalSet::new();
    let tasks: Vec<_> = (0..lines).map(|n| local.spawn_local(work(target.clone(), n))).collect();
    let mut all = Heard::default();
    local
        .run_until(async {
            for task in tasks {
                let Ok(heard) = task.await else { continue };
                all.answered += heard.answered;
                all.refused += heard.refused;
                all.failed += heard.failed;
                all.latencies.extend(heard.latencies);
            }
        })
        .await;
    all.latencies.sort_unstable();
    all
}

/// Opens connections, asks once on each, and keeps them.
pub async fn idle(target: &Target, count: u64) -> Result<Vec<impl Sized>, String> {
    let mut lines = Vec::new();
    for n in 0..count {
        let mut line = Line::open(target.address).await.ok_or("a connection was refused")?;
        let status = line.ask(&(target.request)(n)).await;
        if status != Some(target.status) {
            return Err(format!("an idle connection's request was answered {status:?}"));
        }
        lines.push(line);
    }
    Ok(lines)
}
