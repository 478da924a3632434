//! The named reasons of everything that is not done: why an account is skipped, why an input is
//! refused. The same words stand in log, metric, timeline and API.

/// Why an account is not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Skip {
    /// It is not configured, or its plugin is not loaded.
    NotLoaded,
    /// It does not take this method, flow or credential.
    Method,
    /// It does not take this currency.
    Currency,
    /// It does not take customers of this country.
    Country,
    /// The amount has no exact form in the provider's units.
    AmountNotRepresentable,
    /// There is no stored token for it.
    NoToken,
    /// The shopper's credential is no longer in memory.
    CredentialGone,
    /// The one-time cryptogram may have been used.
    CryptogramSpent,
    /// It was tried already.
    AlreadyTried,
    /// An account that fails together with it was tried already.
    FailureDomain,
    /// There is no way out of an unknown outcome, so it takes no part in failover.
    NoWayOut,
    /// Its breaker is open.
    BreakerOpen,
    /// Its breaker lets only a few probes through.
    BreakerHalfOpen,
    /// An operator drained it, or its provider restricted it.
    Drained,
    /// An operator opened its breaker.
    Tripped,
    /// Its payments are sent and not answered.
    Hanging,
    /// Its breaker has just closed: it is tried last for a share of the payments.
    SlowStart,
    /// An account that fails together with it is in an outage: it is tried last.
    DomainDown,
    /// Too few of its offers are paid: it is tried last.
    LowConversion,
    /// Announced maintenance.
    Maintenance,
    /// Its rate limit is used up.
    RateLimited,
    /// Too many requests are in flight.
    InFlight,
    /// The budget of second tries is used up.
    FailoverBudget,
    /// Its plugin is quarantined.
    Quarantined,
    /// Its plugin could not build the request.
    NotPrepared,
    /// It did not answer a question that comes before the request.
    Unreachable,
}

impl Skip {
    /// The word in log, metric, timeline and API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotLoaded => "not_loaded",
            Self::Method => "method",
            Self::Currency => "currency",
            Self::Country => "country",
            Self::AmountNotRepresentable => "amount_not_representable",
            Self::NoToken => "no_token",
            Self::CredentialGone => "credential_gone",
            Self::CryptogramSpent => "cryptogram_spent",
            Self::AlreadyTried => "already_tried",
            Self::FailureDomain => "failure_domain",
            Self::NoWayOut => "no_way_out",
            Self::BreakerOpen => "breaker_open",
            Self::BreakerHalfOpen => "breaker_half_open",
            Self::Drained => "drained",
            Self::Tripped => "tripped",
            Self::Hanging => "hanging",
            Self::SlowStart => "slow_start",
            Self::DomainDown => "domain_down",
            Self::LowConversion => "low_conversion",
            Self::Maintenance => "maintenance",
            Self::RateLimited => "rate_limited",
            Self::InFlight => "in_flight",
            Self::FailoverBudget => "failover_budget",
            Self::Quarantined => "quarantined",
            Self::NotPrepared => "not_prepared",
            Self::Unreachable => "unreachable",
        }
    }

    /// The reason as a person reads it.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::NotLoaded => "its plugin is not loaded, or it is not configured",
            Self::Method => "it does not take this method, flow or credential",
            Self::Currency => "it does not take this currency",
            Self::Country => "it does not take customers of this country",
            Self::AmountNotRepresentable => "the amount has no exact form in its units",
            Self::NoToken => "there is no stored token for it",
            Self::CredentialGone => "the shopper's credential is no longer in memory",
            Self::CryptogramSpent => "the one-time cryptogram may have been used",
            Self::AlreadyTried => "it was tried already",
            Self::FailureDomain => "it fails together with an account that was tried",
            Self::NoWayOut => "an unknown outcome there could never be settled",
            Self::BreakerOpen => "its breaker is open",
            Self::BreakerHalfOpen => "its breaker lets only probes through",
            Self::Drained => "it is drained, by hand or by its provider",
            Self::Tripped => "an operator opened its breaker",
            Self::Hanging => "its payments are sent and not answered",
            Self::SlowStart => "its breaker has just closed",
            Self::DomainDown => "an account that fails together with it is in an outage",
            Self::LowConversion => "too few of its offers are paid",
            Self::Maintenance => "announced maintenance",
            Self::RateLimited => "its rate limit is used up",
            Self::InFlight => "too many requests are under way there",
            Self::FailoverBudget => "the budget of second tries is used up",
            Self::Quarantined => "its plugin is quarantined",
            Self::NotPrepared => "its plugin could not build the request",
            Self::Unreachable => "it did not answer a question that comes before the request",
        }
    }
}

/// Why an input is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No route matches, or no account can take it now.
    NoAccountAvailable {
        /// The route, if one matched.
        route: Option<String>,
        /// Each account and its reason.
        skips: Skips,
    },
    /// The order has a live payment.
    OrderHasLivePayment {
        /// Its id.
        payment: String,
    },
    /// The payment's state does not admit it.
    InvalidState {
        /// Why, in words.
        why: &'static str,
    },
    /// A field's value can't be accepted.
    Unprocessable {
        /// The field.
        param: &'static str,
        /// Why, in words.
        why: &'static str,
    },
    /// The subject does not exist.
    NotFound,
}

/// Why each account was not tried.
pub type Skips = Vec<(String, Skip)>;
