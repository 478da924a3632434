//! The door of one account: its listener, its connections, and how both are broken on purpose.
//!
//! A refused connection must be refused by the kernel, and a reset must be a real RST, because a
//! client's safety hangs on what its socket layer can prove. So the listener is really closed and
//! opened again, and a cut connection is closed with a zero linger time.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_rustls::TlsAcceptor;

use crate::account::Account;
use crate::faults::FaultDial;

const BACKLOG: u32 = 1024;
const CONNECTIONS_LIMIT: usize = 8_192;
const REOPEN_WAIT: Duration = Duration::from_millis(20);
/// A door that closes by the count of requests lets the answers under way out first.
const LAST_ANSWERS: Duration = Duration::from_millis(20);
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// Asks a door to look at the dial; it answers when it has acted.
pub type Look = oneshot::Sender<()>;

/// Binds `address` so that it can be bound again right after it was closed.
///
/// # Errors
/// The operating system's.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A handler's word that the connection is to be reset and nothing answered.
#[derive(Debug)]
pub struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is cut on purpose")
    }
}

impl std::error::Error for Cut {}

/// The door of one account.
pub struct Door {
    address: SocketAddr,
    account: Arc<Account>,
    dial: Arc<FaultDial>,
    looks: mpsc::Receiver<Look>,
    reset: watch::Sender<u64>,
    places: Arc<Semaphore>,
}

impl Door {
    /// A door for `account`, whose listener is bound to `address`.
    pub fn new(
        address: SocketAddr,
        account: Arc<Account>,
        dial: Arc<FaultDial>,
        looks: mpsc::Receiver<Look>,
    ) -> Self {
        let places = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
        Self { address, account, dial, looks, reset: watch::Sender::new(0), places }
    }

    /// Serves until the sandbox is dropped.
    pub async fn run(mut self, listener: TcpListener) -> Infallible {
        let mut listener = Some(listener);
        let mut turns = self.dial.turns();
        let mut asked: Vec<Look> = Vec::new();
        loop {
            let refusal = self.dial.refusal(self.account.name(), Instant::now());
            let mut reopen = None;
            if refusal.closed && listener.take().is_some() {
                if asked.is_empty() {
                    tokio::time::sleep(LAST_ANSWERS).await;
                }
                self.reset.send_modify(|count| *count += 1);
            } else if !refusal.closed && listener.is_none() {
                // Until it works: the port is ours by configuration, not by possession.
                listener = bind(self.address).ok();
                reopen = listener.is_none().then(|| Instant::now() + REOPEN_WAIT);
            }
            if reopen.is_none() {
                for look in asked.drain(..) {
                    // Whoever asked may have left.
                    let _ = look.send(());
                }
            }
            let wake = [refusal.until, reopen].into_iter().flatten().min();
            tokio::select! {
                accepted = accept(listener.as_ref()) => {
                    if let Ok(stream) = accepted {
                        self.admit(stream, refusal.chance);
                    }
                }
                _ = turns.changed() => {}
                () = sleep_until(wake) => {}
                Some(look) = self.looks.recv() => asked.push(look),
            }
        }
    }

    fn admit(&self, stream: TcpStream, chance: f64) {
        let unlucky = chance > 0.0 && self.dial.roll(chance);
        let place = self.places.clone().try_acquire_owned().ok();
        let (Some(place), false) = (place, unlucky) else {
            // Nothing to do about a socket that is gone already.
            let _ = stream.set_zero_linger();
            return;
        };
        let _ = stream.set_nodelay(true);
        let connection = serve(stream, self.account.clone(), self.reset.subscribe());
        tokio::spawn(async move {
            connection.await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, account: Arc<Account>, reset: watch::Receiver<u64>) {
    let cut = Arc::new(AtomicBool::new(false));
    let stream = CutStream { stream, cut: cut.clone() };
    let Some(acceptor) = account.acceptor().cloned() else {
        return talk(stream, account, cut, reset).await;
    };
    if let Some(stream) = handshake(&acceptor, stream, &cut, reset.clone()).await {
        talk(stream, account, cut, reset).await;
    }
}

/// Nothing, of a client that is not whom the account wants, or comes while the door is closed.
async fn handshake(
    acceptor: &TlsAcceptor,
    stream: CutStream,
    cut: &AtomicBool,
    mut reset: watch::Receiver<u64>,
) -> Option<tokio_rustls::server::TlsStream<CutStream>> {
    tokio::select! {
        done = tokio::time::timeout(HANDSHAKE_PATIENCE, acceptor.accept(stream)) => done.ok()?.ok(),
        _ = reset.changed() => {
            cut.store(true, Ordering::Release);
            None
        }
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    account: Arc<Account>,
    cut: Arc<AtomicBool>,
    mut reset: watch::Receiver<u64>,
) {
    let io = TokioIo::new(stream);
    let by_handler = cut.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let account = account.clone();
        let cut = by_handler.clone();
        async move {
            let answer: Result<Response<Full<Bytes>>, Cut> = account.answer(request).await;
            if answer.is_err() {
                cut.store(true, Ordering::Release);
            }
            answer
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(60));
    let mut connection = pin!(builder.serve_connection(io, service));
    tokio::select! {
        // A client that breaks the protocol or leaves is no event of ours.
        _ = connection.as_mut() => {}
        _ = reset.changed() => cut.store(true, Ordering::Release),
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        None => std::future::pending().await,
        Some(listener) => match listener.accept().await {
            Ok((stream, _)) => Ok(stream),
            Err(error) => {
                // Out of descriptors, most likely: give connections time to end.
                tokio::time::sleep(REOPEN_WAIT).await;
                Err(error)
            }
        },
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        None => std::future::pending().await,
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
    }
}

/// A stream whose end is an RST when it was cut.
struct CutStream {
    stream: TcpStream,
    cut: Arc<AtomicBool>,
}

impl Drop for CutStream {
    fn drop(&mut self) {
        if self.cut.load(Ordering::Acquire) {
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for CutStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        // TLS would say goodbye before the reset.
        if self.cut.load(Ordering::Acquire) {
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A shutdown before a reset would say "ended well" first.
        if self.cut.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.cut.load(Ordering::Acquire) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
