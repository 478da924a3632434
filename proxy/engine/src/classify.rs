//! What one exchange says about the provider's health, which is not what it says about the money:
//! a decline is a working provider, an unknown outcome is a failing one.

use interlock_circuit_breaker::Verdict;
use interlock_plugin_api::{Class, Fact, What};

use crate::input::Sent;

/// What an answer means for the account's breaker, and for how long the provider asked for
/// patience, ms.
pub fn answered(status: u16, facts: &[Fact]) -> (Verdict, Option<u64>) {
    let class = facts.iter().find_map(|f| f.class);
    if status == 429 || class == Some(Class::RateLimited) {
        return (Verdict::Ignored, Some(RATE_LIMIT_PAUSE_MS));
    }
    if status >= 500 {
        return (Verdict::RemoteFailure, None);
    }
    let unknown = facts.is_empty() || facts.iter().any(|f| f.what == What::Unknown);
    let verdict = match class {
        Some(Class::ProviderDown) => Verdict::RemoteFailure,
        Some(Class::AccountRestricted | Class::Config | Class::Maintenance) => Verdict::Ignored,
        Some(Class::Duplicate) => Verdict::Success,
        Some(Class::Unmapped) | None if unknown => Verdict::RemoteFailure,
        _ if facts.iter().any(|f| f.what == What::Declined) => Verdict::BusinessDecline,
        _ => Verdict::Success,
    };
    (verdict, None)
}

/// Whether the plugin could read an answer; `None` where the provider is ill and nothing is meant.
pub fn read(status: u16, facts: &[Fact]) -> Option<bool> {
    if status >= 500 || status == 429 {
        return None;
    }
    let unmapped = facts.iter().any(|f| f.class == Some(Class::Unmapped));
    Some(!facts.is_empty() && !unmapped)
}

/// Whether the provider says that the account itself is restricted.
pub fn restricts(facts: &[Fact]) -> bool {
    facts.iter().any(|f| f.class == Some(Class::AccountRestricted))
}

/// Whether the provider refuses how we are set up.
pub fn misconfigured(facts: &[Fact]) -> bool {
    facts.iter().any(|f| f.class == Some(Class::Config))
}

/// What a missing answer means for the account's breaker.
pub fn lost(sent: Sent, ours: bool) -> Verdict {
    match (sent, ours) {
        // We never tried: nothing is said about the provider.
        (_, true) => Verdict::Ignored,
        (Sent::No, false) => Verdict::LocalFailure,
        (Sent::Maybe, false) => Verdict::RemoteFailure,
    }
}

/// Without a Retry-After this long is polite, ms.
const RATE_LIMIT_PAUSE_MS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decline_is_a_working_provider_and_an_unknown_outcome_is_not() {
        let declined = [Fact::declined(Class::DeclinedSoft, "20005")];
        assert_eq!(answered(201, &declined).0, Verdict::BusinessDecline);
        assert_eq!(answered(200, &[Fact::new(What::Captured)]).0, Verdict::Success);
        assert_eq!(answered(200, &[Fact::unknown("?")]).0, Verdict::RemoteFailure);
        assert_eq!(answered(502, &[Fact::new(What::Captured)]).0, Verdict::RemoteFailure);
        assert_eq!(answered(200, &[]).0, Verdict::RemoteFailure);
    }

    #[test]
    fn too_many_requests_ask_for_patience_and_are_no_failure() {
        let (verdict, pause) = answered(429, &[Fact::declined(Class::RateLimited, "429")]);
        assert_eq!(verdict, Verdict::Ignored);
        assert!(pause.is_some());
    }

    #[test]
    fn what_we_did_not_send_is_not_the_providers_fault() {
        assert_eq!(lost(Sent::No, true), Verdict::Ignored);
        assert_eq!(lost(Sent::No, false), Verdict::LocalFailure);
        assert_eq!(lost(Sent::Maybe, false), Verdict::RemoteFailure);
    }
}
