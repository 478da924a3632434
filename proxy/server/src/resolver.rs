//! Comes back to every payment whose time has come, and at the start to every open one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use interlock_engine::Input;
use tokio::sync::Semaphore;

use crate::driver::{Beside, Driver};
use crate::failpoint::{self, Side};

/// How often the due index is read, ms.
const TICK_MS: u64 = 100;
/// How many payments are looked at in one tick.
const BATCH: usize = 512;
/// How many open payments are read at once at the start.
const PAGE: usize = 10_000;
/// How many are worked on at once.
const AT_ONCE: usize = 64;
/// How often the clock's high-water mark is made durable, ms.
const HIGH_WATER_MS: u64 = 10_000;
/// The name of the clock's high-water mark in the journal.
pub const HIGH_WATER: &str = "clock_high_water_ms";

/// Puts every open payment through recovery before the doors open: whatever was on the wire
/// belongs to a dead process.
///
/// # Errors
/// The journal can't be read.
pub async fn recover(driver: &Arc<Driver>) -> Result<usize, crate::driver::DriveError> {
    let mut seen = BTreeSet::new();
    let mut after = None;
    loop {
        let page = driver.store.open(after, PAGE).await?;
        // What was recovered already may be due later now, and come again.
        let fresh: Vec<String> = page
            .iter()
            .map(|due| &due.payment)
            .filter(|id| seen.insert((*id).clone()))
            .cloned()
            .collect();
        after = page.into_iter().next_back();
        if after.is_none() {
            return Ok(seen.len());
        }
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let mut tasks = tokio::task::JoinSet::new();
        for id in fresh {
            let (driver, permits) = (Arc::clone(driver), Arc::clone(&permits));
            tasks.spawn(async move {
                let _permit = permits.acquire_owned().await;
                if let Err(error) = driver.put(&id, Input::Recovered, Beside::default()).await {
                    tracing::error!(payment = id, %error, "payment was not recovered yet");
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// Runs until the process ends.
pub async fn run(driver: Arc<Driver>) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut marked_at_ms = 0;
    loop {
        tick.tick().await;
        let now = driver.clock.now();
        driver.publish_health(now);
        if now.mono_ms >= marked_at_ms + HIGH_WATER_MS {
            marked_at_ms = now.mono_ms;
            driver.credentials.forget_old(now);
            driver.details.forget_old(now);
            let mark = now.wall_ms.to_string().into_bytes();
            failpoint::pass("setting.clock", Side::Before);
            if let Err(error) = driver.store.settings_put(HIGH_WATER, mark).await {
                tracing::warn!(%error, "clock's high-water mark is not durable");
            }
            failpoint::pass("setting.clock", Side::After);
            tell_old_doubts(&driver, now.wall_ms).await;
        }
        let due = match driver.store.due(now.wall_ms.saturating_add(1), BATCH).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "due payments can't be read");
                continue;
            }
        };
        let mut tasks = tokio::task::JoinSet::new();
        for due in due {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let driver = Arc::clone(&driver);
            tasks.spawn(async move {
                let id = due.payment;
                if let Err(error) = driver.put(&id, Input::Due, Beside::default()).await {
                    tracing::error!(payment = id, %error, "payment was not looked at");
                }
                drop(permit);
            });
        }
        // One look at a time for each payment: the index is read again only when all are through.
        while tasks.join_next().await.is_some() {}
    }
}

/// What nobody knows for so long is for an operator to look at.
async fn tell_old_doubts(driver: &Driver, now_ms: i64) {
    let Ok(stats) = driver.store.stats().await else { return };
    let Some(oldest) = stats.oldest_in_doubt_ms else { return };
    let age_ms = now_ms.saturating_sub(oldest).max(0).unsigned_abs();
    if age_ms >= driver.setup().alert_after_ms {
        let (payments, age_s) = (stats.in_doubt, age_ms / 1_000);
        tracing::warn!(
            payments,
            age_s,
            "payments are in doubt: `interlock payment list --in-doubt`"
        );
    }
}
