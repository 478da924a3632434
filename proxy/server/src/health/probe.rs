//! Asks providers whether they are well, so that no shopper has to find out.

use std::sync::Arc;

use interlock_circuit_breaker::Verdict;
use interlock_engine::gates::Probe;
use interlock_engine::{Sent, Stamp, classify};
use interlock_plugin_api::Operation;

use super::Health;
use crate::setup::OpenAccount;

/// What a probe found.
#[derive(Clone, Copy, Debug)]
pub struct Probed {
    /// What it says about the provider.
    pub verdict: Verdict,
    /// The status of the answer; 0 when there was none.
    pub http: u16,
    /// How long it took, ms.
    pub elapsed_ms: u64,
}

impl Probed {
    /// Whether the provider is well.
    pub fn well(&self) -> bool {
        matches!(self.verdict, Verdict::Success | Verdict::BusinessDecline)
    }
}

impl Health {
    /// Asks one provider; `None` when its plugin can't.
    pub async fn probe(&self, account: &Arc<OpenAccount>) -> Option<Probed> {
        if !account.manifest().operations.contains(&Operation::Probe) {
            return None;
        }
        let (facts, http, elapsed_ms) = self.driver.caller().probe(account).await;
        let verdict = match http {
            0 => classify::lost(Sent::Maybe, false),
            status => classify::answered(status, &facts).0,
        };
        Some(Probed { verdict, http, elapsed_ms })
    }

    /// Probes every provider whose breaker of payments is half-open, where there is a probe.
    pub(super) fn send_probes(self: &Arc<Self>, now: Stamp) {
        let in_force = self.driver.setup();
        for setup in self.driver.in_force.all() {
            for account in setup.open.values() {
                // A canary's breakers are its own where its account is: without a probe they would
                // stay half-open. Where the account is the same, so are they.
                let same = in_force.get(&account.name).is_some_and(|a| Arc::ptr_eq(a, account));
                let asked = same && !Arc::ptr_eq(&setup, &in_force);
                if asked || !account.manifest().operations.contains(&Operation::Probe) {
                    continue;
                }
                let probes = setup.gates.probes(&account.name, now);
                if !probes.is_empty() {
                    tokio::spawn(Arc::clone(self).try_out(Arc::clone(account), probes));
                }
            }
        }
    }

    async fn try_out(self: Arc<Self>, account: Arc<OpenAccount>, probes: Vec<Probe>) {
        let Some(probed) = self.probe(&account).await else { return };
        let now = self.driver.clock.now();
        for probe in probes {
            probe.settle(now, probed.verdict, probed.elapsed_ms);
        }
        self.driver.publish_health(now);
    }
}
