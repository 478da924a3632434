//! Opens the doors on one runtime, and closes them so that no payment is cut short.
//!
//! Pingora's listening services run here inside a tokio runtime of our own, without pingora's
//! `Server`. `Server` gives every service a runtime of its own (the driver and the resolver would
//! live in another one), after SIGTERM always sleeps its whole grace period (300 s unless told
//! otherwise), idle or not, and then cuts off whatever still runs, ends the process itself, cannot
//! be started twice in one process, and cannot tell the port that it was given. What is wanted is
//! an order: stop accepting, let requests in flight finish, let the caller drain, leave at once.
//! Pingora takes a listener that is bound already through its table of inherited descriptors,
//! which is how the port is known before the first connection.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::time::Duration;

use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::server::Fds;
use pingora::services::Service as _;
use pingora::services::listening::Service;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::FrontDoor;
use super::connection::Doorway;
use super::tls::DoorTls;
use crate::upstream::LOOKUPS_MAX;

/// Pingora's 64 KiB read buffer would make 1,000 idle clients cost 100 MiB. The door reads into
/// its own small buffer, and one write buffer lets head and body of an answer leave together.
const WRITE_BUFFER: usize = 4096;

/// Threads for what blocks: names, which may all hang, and beside them reads of the journal and
/// files, which are few at once. Without a bound a busy runtime would make hundreds, each with
/// memory of its own.
const BLOCKING_THREADS: usize = LOOKUPS_MAX + 16;

/// How long the runtime waits for what is left when everything was drained.
const LAST_MOMENT: Duration = Duration::from_millis(100);

/// A front door with an address. It is listening already; connections wait until it is opened.
pub struct Door {
    listener: TcpListener,
    front: FrontDoor,
    tls: Option<Arc<DoorTls>>,
}

impl Door {
    /// Binds `address`; port 0 lets the system choose.
    pub fn bind(address: SocketAddr, front: FrontDoor) -> io::Result<Door> {
        Ok(Door { listener: TcpListener::bind(address)?, front, tls: None })
    }

    /// Takes a listener that is bound already (socket activation, tests).
    pub fn on(listener: TcpListener, front: FrontDoor) -> Door {
        Door { listener, front, tls: None }
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Speaks TLS 1.2 and 1.3.
    pub fn with_tls(self, tls: Arc<DoorTls>) -> Door {
        Door { tls: Some(tls), ..self }
    }
}

/// How a stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Requests still in flight when the time was over; 0 when all were answered.
    pub unfinished: usize,
    /// The caller's drain came to its end.
    pub drained: bool,
}

/// Doors that are open.
pub struct Running {
    addresses: Vec<SocketAddr>,
    fronts: Vec<FrontDoor>,
    stopping: watch::Sender<bool>,
    services: Vec<JoinHandle<()>>,
}

impl Running {
    /// Opens the doors on the runtime of the caller.
    pub fn open(doors: Vec<Door>) -> io::Result<Running> {
        let (stopping, stop) = watch::channel(false);
        let mut running =
            Running { addresses: Vec::new(), fronts: Vec::new(), stopping, services: Vec::new() };
        for door in doors {
            let address = door.listener.local_addr()?;
            door.listener.set_nonblocking(true)?;
            let name = address.to_string();
            let buffers = L4BufferSettings::default().read(0).write(WRITE_BUFFER);
            let endpoint = ListenerConfig::tcp(name.clone()).l4_buffer(buffers);
            let doorway = Doorway { front: door.front.clone(), tls: door.tls };
            let mut service = Service::new(name.clone(), doorway);
            service.add_listener(endpoint);
            let mut bound = Fds::new();
            bound.add(name, door.listener.into_raw_fd());
            let stop = stop.clone();
            running.services.push(tokio::spawn(async move {
                service.start_service(Some(Arc::new(bound.into())), stop, 1).await;
            }));
            running.addresses.push(address);
            running.fronts.push(door.front);
        }
        Ok(running)
    }

    /// Where each door listens, in the order given.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops accepting, waits for the requests in flight, then for `drain`; `within` bounds all of
    /// it. Idle connections are closed at once.
    pub async fn stop(self, within: Duration, drain: impl Future<Output = ()>) -> Stopped {
        let by = Instant::now() + within;
        self.stopping.send_replace(true);
        for service in self.services {
            // It ends when its listener is closed, which takes no longer than a wake-up.
            let _ = timeout_at(by, service).await;
        }
        for front in &self.fronts {
            let _ = timeout_at(by, front.emptied()).await;
        }
        let drained = timeout_at(by, drain).await.is_ok();
        let unfinished = self.fronts.iter().map(FrontDoor::unfinished).sum();
        Stopped { unfinished, drained }
    }
}

/// Runs doors until SIGTERM or SIGINT, then stops as [`Running::stop`] does; a second signal
/// leaves at once.
///
/// `start` runs on the new runtime, so what it spawns (driver, resolver) shares it with the doors;
/// it gives the doors, and what to wait for at the end.
pub fn serve<D, E>(
    threads: usize,
    drain_within: Duration,
    start: impl Future<Output = Result<(Vec<Door>, D), E>>,
) -> Result<Stopped, E>
where
    D: Future<Output = ()>,
    E: From<io::Error>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_name("interlock")
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()?;
    let stopped = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut told = async || {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        let (doors, drain) = start.await?;
        let running = Running::open(doors)?;
        let fronts = running.fronts.clone();
        tracing::info!(addresses = ?running.addresses(), "open");
        told().await;
        tracing::info!("stopping: no more connections, requests in flight go on");
        tokio::select! {
            stopped = running.stop(drain_within, drain) => Ok(stopped),
            () = told() => {
                let unfinished = fronts.iter().map(FrontDoor::unfinished).sum();
                Ok(Stopped { unfinished, drained: false })
            }
        }
    });
    runtime.shutdown_timeout(LAST_MOMENT);
    stopped
}
