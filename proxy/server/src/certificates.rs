//! Keeps the certificates of the doors fresh while they are open: looks at their files now and
//! then, and at once when told by SIGHUP.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::{Instant, sleep_until};

use crate::front_door::{DoorTls, Reload};
use crate::metrics::Metrics;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A door's name, for logs and metrics, with its TLS.
pub type Named = (&'static str, Arc<DoorTls>);

/// Watches for as long as the process lives.
pub async fn watch(doors: Vec<Named>, metrics: Arc<Metrics>, mut hangup: Signal) {
    doors.iter().for_each(|door| tell(door, &metrics));
    loop {
        let forced = tokio::select! {
            Some(()) = hangup.recv() => true,
            () = sleep_until(Instant::now() + LOOK_EVERY) => false,
        };
        for door in &doors {
            let tls = Arc::clone(&door.1);
            let looked = tokio::task::spawn_blocking(move || tls.reload(forced)).await;
            match looked {
                Ok(Reload::Loaded) => {
                    metrics.tls_reloaded("loaded");
                    tracing::info!(door = door.0, "new certificates are in use");
                }
                Ok(Reload::Kept(why)) => {
                    metrics.tls_reloaded("kept");
                    let door = door.0;
                    tracing::error!(door, %why, "new certificates can't be used; the old stay");
                }
                Ok(Reload::Unchanged) | Err(_) => {}
            }
            tell(door, &metrics);
        }
    }
}

fn tell((door, tls): &Named, metrics: &Metrics) {
    metrics.tls(door, &tls.expiries(), tls.failed());
}
