//! What a plugin may say about money: facts, and nothing else.
//!
//! A fact says what the provider said. What follows from it (a failover, a refund, a wait) is the
//! engine's business. Enumerations are open toward the host only: a word that this build does not
//! know reads as [`What::Unknown`] or [`Class::Unmapped`], never as a decline.

use serde::{Deserialize, Serialize};

use crate::Money;

/// One thing that the provider said about one of our operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What happened to the money.
    pub what: What,
    /// Whether it is true of the request just sent only, or of its idempotency key.
    #[serde(default)]
    pub scope: Scope,
    /// Our own number of the operation that it speaks of; `None` is the one that was asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op_id: Option<String>,
    /// The order's amount in the provider's minor units, as the provider echoed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Money>,
    /// What the shopper himself paid of it, where coupons or subsidies paid the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer_amount: Option<Money>,
    /// The provider's number of the payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_ref: Option<String>,
    /// The provider's number of the capture, void or refund.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_ref: Option<String>,
    /// Why, from a closed list that routing understands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// The provider's own code, never text with the shopper's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_code: Option<String>,
    /// What the shopper can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<Advice>,
    /// For [`What::Action`]: what to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
}

impl Fact {
    /// A fact with nothing but its verb, about the request just sent.
    pub fn new(what: What) -> Self {
        Self {
            what,
            scope: Scope::Send,
            op_id: None,
            amount: None,
            payer_amount: None,
            provider_ref: None,
            operation_ref: None,
            class: None,
            provider_code: None,
            advice: None,
            action: None,
        }
    }

    /// A decline with its class and the provider's code.
    pub fn declined(class: Class, provider_code: impl Into<String>) -> Self {
        Self {
            class: Some(class),
            provider_code: Some(provider_code.into()),
            ..Self::new(What::Declined)
        }
    }

    /// An outcome that can't be told, with the provider's code if there was one.
    pub fn unknown(provider_code: impl Into<String>) -> Self {
        Self {
            class: Some(Class::Unmapped),
            provider_code: Some(provider_code.into()),
            ..Self::new(What::Unknown)
        }
    }

    /// The same fact, of the idempotency key instead of this one request.
    ///
    /// ```
    /// use interlock_plugin_api::{Class, Fact, Scope};
    /// // The provider executes a key once and answers every copy with that one's outcome.
    /// let fact = Fact::declined(Class::DeclinedSoft, "do_not_honour").of_key();
    /// assert_eq!(fact.scope, Scope::Key);
    /// ```
    pub fn of_key(self) -> Self {
        Self { scope: Scope::Key, ..self }
    }

    /// The same fact with the order's amount as the provider echoed it.
    pub fn with_amount(self, amount: Money) -> Self {
        Self { amount: Some(amount), ..self }
    }

    /// The same fact with what the shopper himself paid, where that is less.
    pub fn with_payer_amount(self, amount: Option<Money>) -> Self {
        Self { payer_amount: amount, ..self }
    }

    /// The same fact with the provider's number of the payment.
    pub fn with_provider_ref(self, reference: impl Into<String>) -> Self {
        Self { provider_ref: Some(reference.into()), ..self }
    }

    /// The same fact with the provider's number of the operation.
    pub fn with_operation_ref(self, reference: impl Into<String>) -> Self {
        Self { operation_ref: Some(reference.into()), ..self }
    }

    /// The same fact about the operation with this number of ours.
    pub fn about(self, op_id: impl Into<String>) -> Self {
        Self { op_id: Some(op_id.into()), ..self }
    }

    /// The same fact with advice for the shopper.
    pub fn with_advice(self, advice: Advice) -> Self {
        Self { advice: Some(advice), ..self }
    }
}

/// The verb of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The provider holds the amount for us; nothing is captured.
    Authorized,
    /// The money is ours (of a capture operation: it is done).
    Captured,
    /// The shopper must act; what to show is in `action`.
    Action,
    /// The shopper has done his part; the provider waits for our `continue`.
    Approved,
    /// The provider accepted and will decide later.
    Pending,
    /// The provider refused; no money moved by this request.
    Declined,
    /// An inquiry found nothing under our number.
    NotFound,
    /// A close ended something that nobody had paid.
    ClosedUnpaid,
    /// A close found it paid and gave the money back.
    ClosedRefunded,
    /// A close found nothing to close.
    ClosedNothingFound,
    /// An authorization was released by a void, or it lapsed at the provider.
    Voided,
    /// An offer can no longer be paid, says the provider.
    Expired,
    /// A refund is done.
    Refunded,
    /// An operation that had been accepted failed afterwards (a refund that bounced).
    Failed,
    /// The provider answered, and what it means for the money can't be told.
    #[serde(other)]
    Unknown,
}

/// How far a fact reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// True of this one request: says nothing of another copy of it.
    #[default]
    Send,
    /// The provider's remembered, true result of the key.
    Key,
}

/// Why, as far as routing and breakers must know it. SAFETY section 3 says what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Class {
    /// Do not honour, issuer unavailable, try later.
    #[serde(rename = "declined.soft")]
    DeclinedSoft,
    /// A refusal that another provider would only repeat.
    #[serde(rename = "declined.hard")]
    DeclinedHard,
    /// Fraud, lost or stolen.
    #[serde(rename = "declined.fraud")]
    DeclinedFraud,
    /// The shopper or the data: balance, limits, a code that expired.
    #[serde(rename = "user")]
    User,
    /// The shopper must verify, or failed to.
    #[serde(rename = "verification")]
    Verification,
    /// Our configuration or contract with the provider.
    #[serde(rename = "config")]
    Config,
    /// The account is frozen, capped or refused (401, 403).
    #[serde(rename = "account_restricted")]
    AccountRestricted,
    /// Too many requests.
    #[serde(rename = "rate_limited")]
    RateLimited,
    /// The provider failed.
    #[serde(rename = "provider_down")]
    ProviderDown,
    /// The provider says that it is under maintenance.
    #[serde(rename = "maintenance")]
    Maintenance,
    /// The provider already has one under this number.
    #[serde(rename = "duplicate")]
    Duplicate,
    /// An offer or an authorization lapsed.
    #[serde(rename = "expired")]
    Expired,
    /// The merchant must do something at the provider before it can go on.
    #[serde(rename = "merchant_action")]
    MerchantAction,
    /// The provider does not do this.
    #[serde(rename = "not_supported")]
    NotSupported,
    /// A code that the plugin does not know.
    #[serde(rename = "unmapped", other)]
    Unmapped,
}

impl Class {
    /// The word of the closed list, as it is written in JSON, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeclinedSoft => "declined.soft",
            Self::DeclinedHard => "declined.hard",
            Self::DeclinedFraud => "declined.fraud",
            Self::User => "user",
            Self::Verification => "verification",
            Self::Config => "config",
            Self::AccountRestricted => "account_restricted",
            Self::RateLimited => "rate_limited",
            Self::ProviderDown => "provider_down",
            Self::Maintenance => "maintenance",
            Self::Duplicate => "duplicate",
            Self::Expired => "expired",
            Self::MerchantAction => "merchant_action",
            Self::NotSupported => "not_supported",
            Self::Unmapped => "unmapped",
        }
    }
}

/// What the shopper can do about a failure; the checkout page turns it into its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    /// Try again in a moment.
    Retry,
    /// Choose another way to pay.
    OtherMethod,
    /// Check the balance or the card's limits.
    CheckBalance,
    /// Ask the bank.
    ContactBank,
    /// Show a new payment code.
    Rescan,
    /// Finish the wallet's identity check.
    Verify,
    /// Correct what was entered.
    FixData,
    /// Wait for the outcome.
    #[serde(other)]
    Wait,
}

/// What to show to a shopper who must act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// `qr_code`, `redirect`, `sdk`, `open_wallet` or `three_d_secure`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The payload of that type: `qr_code`, `url`, `params` or `uri`.
    #[serde(flatten)]
    pub payload: serde_json::Map<String, serde_json::Value>,
    /// When it stops being payable, as far as the provider said, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_not_known_reads_as_unknown_and_never_as_a_decline() {
        let fact: Fact = serde_json::from_str(
            r#"{"what":"vanished","class":"brand_new","advice":"dance","later":1}"#,
        )
        .expect("receivers ignore what they do not know");
        assert_eq!(fact.what, What::Unknown);
        assert_eq!(fact.class, Some(Class::Unmapped));
        assert_eq!(fact.advice, Some(Advice::Wait));
        assert_eq!(fact.scope, Scope::Send);
    }

    #[test]
    fn every_class_is_written_as_its_own_word() {
        for class in [Class::DeclinedSoft, Class::User, Class::AccountRestricted, Class::Unmapped] {
            let json = serde_json::to_value(class).expect("serializable");
            assert_eq!(json, class.as_str());
        }
    }
}
