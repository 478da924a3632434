//! A little of what was seen of accounts is kept in the journal, so that a restart does not forget
//! what is usual, nor end an alarm.

use interlock_engine::Stamp;
use interlock_engine::gates::{Seen, SeenAccount};
use std::collections::BTreeMap;

use super::Health;
use crate::driver::{DriveError, Driver};

/// The name of it in the journal.
const SETTING: &str = "seen_of_accounts";
/// How often it is written, if it has changed, ms.
pub(super) const SEEN_MS: u64 = 10_000;

/// Takes up what the last process had seen. What can't be read is left: nothing here is worth a
/// start that fails.
///
/// # Errors
/// The journal can't be read.
pub(super) async fn take_up(driver: &Driver, now: Stamp) -> Result<(), DriveError> {
    let Some(bytes) = driver.store.settings_get(SETTING).await? else { return Ok(()) };
    match serde_json::from_slice::<Seen>(&bytes) {
        Ok(seen) => driver.setup().gates.take_up(&seen, now),
        Err(error) => tracing::warn!(%error, "what was usual of accounts is learned anew"),
    }
    Ok(())
}

impl Health {
    /// Keeps what was seen, if it is not what was kept last; `kept` is that.
    pub(super) async fn keep_seen(&self, kept: &mut BTreeMap<String, SeenAccount>, now: Stamp) {
        let seen = self.driver.setup().gates.seen(now);
        if seen.accounts == *kept {
            return;
        }
        let bytes = serde_json::to_vec(&seen).expect("it has a JSON form");
        match self.driver.store.settings_put(SETTING, bytes).await {
            Ok(()) => *kept = seen.accounts,
            Err(error) => tracing::warn!(%error, "what was seen of accounts is not durable yet"),
        }
    }

    /// The last word of this process.
    pub async fn stop(&self) {
        self.keep_seen(&mut BTreeMap::new(), self.driver.clock.now()).await;
    }
}
