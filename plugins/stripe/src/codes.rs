//! What the provider's words mean: errors, decline codes, and statuses without a result.
//!
//! A status alone is never proof. What proves that nothing moved is the provider's own error under
//! the status that it documents for it, in words that the manifest lists. Why a card was declined
//! is told by `decline_code`; one that is not listed is a decline all the same, because
//! `card_declined` says so, but it moves no payment on to anybody else.

use interlock_plugin_api::{Advice, Class, Fact};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::intent::Intent;

/// The error that `decline_code` explains.
const DECLINED: &str = "card_declined";
/// An issuer's word for a copy of something that it has seen: the first one may be ours.
const DUPLICATE: &str = "duplicate_transaction";

/// Reads a JSON object; anything else, an array of the fields' values too, is unreadable.
pub(crate) fn object<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let opens = body.trim_ascii_start().first() == Some(&b'{');
    opens.then(|| serde_json::from_slice(body).ok()).flatten()
}

/// The provider's own error.
#[derive(Deserialize)]
pub(crate) struct Error {
    #[serde(rename = "type")]
    pub kind: String,
    pub code: Option<String>,
    pub decline_code: Option<String>,
    pub payment_intent: Option<Intent>,
}

impl Error {
    /// The error in a body, if it is one of the provider's.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Wrapped {
            error: Error,
        }
        object::<Wrapped>(body).map(|wrapped| wrapped.error)
    }

    /// The status with the error's word, where it is a plain one.
    pub(crate) fn word(&self, status: u16) -> String {
        let word = self.code.as_deref().unwrap_or(&self.kind);
        if is_word(word) { format!("{status}:{word}") } else { status.to_string() }
    }
}

/// A refusal: the code as it is told, and what it means.
pub(crate) struct Refusal {
    pub code: String,
    pub class: Class,
    pub advice: Advice,
}

/// Why a payment was refused; `None` is no refusal of the list.
pub(crate) fn refusal(code: Option<&str>, decline_code: Option<&str>) -> Option<Refusal> {
    let code = code?;
    let listed = |table: &[(&str, Class, Advice)], word: &str| {
        table
            .iter()
            .find(|(known, _, _)| *known == word)
            .map(|(_, class, advice)| (*class, *advice))
    };
    let why = decline_code.and_then(|word| Some((word, listed(DECLINES, word)?)));
    if decline_code == Some(DUPLICATE) {
        return None;
    }
    if code != DECLINED {
        let (class, advice) = listed(ERRORS, code)?;
        // What the issuer says besides may only make it stricter.
        let strict = why.filter(|(_, (strict, _))| *strict != Class::DeclinedSoft);
        let (class, advice) = match (class, strict) {
            (Class::DeclinedSoft, Some((_, stricter))) => stricter,
            _ => (class, advice),
        };
        return Some(Refusal { code: code.to_owned(), class, advice });
    }
    Some(match why {
        Some((word, (class, advice))) => {
            Refusal { code: format!("{DECLINED}:{word}"), class, advice }
        }
        None => Refusal {
            code: DECLINED.to_owned(),
            class: Class::DeclinedHard,
            advice: Advice::OtherMethod,
        },
    })
}

/// Errors that are refusals of the card by themselves.
const ERRORS: &[(&str, Class, Advice)] = &[
    ("expired_card", Class::User, Advice::FixData),
    ("incorrect_address", Class::User, Advice::FixData),
    ("incorrect_cvc", Class::User, Advice::FixData),
    ("incorrect_number", Class::User, Advice::FixData),
    ("incorrect_zip", Class::User, Advice::FixData),
    ("invalid_cvc", Class::User, Advice::FixData),
    ("invalid_expiry_month", Class::User, Advice::FixData),
    ("invalid_expiry_year", Class::User, Advice::FixData),
    ("invalid_number", Class::User, Advice::FixData),
    ("insufficient_funds", Class::User, Advice::CheckBalance),
    ("processing_error", Class::DeclinedSoft, Advice::Retry),
    ("card_decline_rate_limit_exceeded", Class::DeclinedHard, Advice::OtherMethod),
    ("authentication_required", Class::Verification, Advice::Verify),
    ("payment_intent_authentication_failure", Class::Verification, Advice::Verify),
];

/// Why the issuer, or the provider in its place, declined.
const DECLINES: &[(&str, Class, Advice)] = &[
    // The issuer may say yes another time, or to another processor.
    ("approve_with_id", Class::DeclinedSoft, Advice::Retry),
    ("do_not_honor", Class::DeclinedSoft, Advice::ContactBank),
    ("generic_decline", Class::DeclinedSoft, Advice::ContactBank),
    ("issuer_not_available", Class::DeclinedSoft, Advice::Retry),
    ("no_action_taken", Class::DeclinedSoft, Advice::ContactBank),
    ("processing_error", Class::DeclinedSoft, Advice::Retry),
    ("reenter_transaction", Class::DeclinedSoft, Advice::Retry),
    ("try_again_later", Class::DeclinedSoft, Advice::Retry),
    // The shopper's balance or limits: soft by the provider's word, but no processor changes it.
    ("card_velocity_exceeded", Class::User, Advice::CheckBalance),
    ("insufficient_funds", Class::User, Advice::CheckBalance),
    ("withdrawal_count_limit_exceeded", Class::User, Advice::CheckBalance),
    // The data.
    ("expired_card", Class::User, Advice::FixData),
    ("incorrect_address", Class::User, Advice::FixData),
    ("incorrect_cvc", Class::User, Advice::FixData),
    ("incorrect_number", Class::User, Advice::FixData),
    ("incorrect_zip", Class::User, Advice::FixData),
    ("invalid_cvc", Class::User, Advice::FixData),
    ("invalid_expiry_month", Class::User, Advice::FixData),
    ("invalid_expiry_year", Class::User, Advice::FixData),
    ("invalid_number", Class::User, Advice::FixData),
    ("invalid_amount", Class::User, Advice::CheckBalance),
    // The shopper must verify, or failed to.
    ("authentication_not_handled", Class::Verification, Advice::Verify),
    ("authentication_required", Class::Verification, Advice::Verify),
    // Stop: the card or the account does not do this.
    ("call_issuer", Class::DeclinedHard, Advice::ContactBank),
    ("card_not_supported", Class::DeclinedHard, Advice::OtherMethod),
    ("currency_not_supported", Class::DeclinedHard, Advice::OtherMethod),
    ("do_not_try_again", Class::DeclinedHard, Advice::ContactBank),
    ("invalid_account", Class::DeclinedHard, Advice::ContactBank),
    ("new_account_information_available", Class::DeclinedHard, Advice::ContactBank),
    ("not_permitted", Class::DeclinedHard, Advice::ContactBank),
    ("restricted_card", Class::DeclinedHard, Advice::OtherMethod),
    ("revocation_of_all_authorizations", Class::DeclinedHard, Advice::ContactBank),
    ("revocation_of_authorization", Class::DeclinedHard, Advice::ContactBank),
    ("security_violation", Class::DeclinedHard, Advice::ContactBank),
    ("service_not_allowed", Class::DeclinedHard, Advice::ContactBank),
    ("stop_payment_order", Class::DeclinedHard, Advice::ContactBank),
    ("transaction_not_allowed", Class::DeclinedHard, Advice::ContactBank),
    // Stop: fraud, lost or stolen. Nobody is told which.
    ("fraudulent", Class::DeclinedFraud, Advice::OtherMethod),
    ("highest_risk_level", Class::DeclinedFraud, Advice::OtherMethod),
    ("lost_card", Class::DeclinedFraud, Advice::OtherMethod),
    ("merchant_blacklist", Class::DeclinedFraud, Advice::OtherMethod),
    ("pickup_card", Class::DeclinedFraud, Advice::OtherMethod),
    ("stolen_card", Class::DeclinedFraud, Advice::OtherMethod),
];

/// Errors of 400 and 404 that name a parameter which can't be used: nothing was begun.
const INVALID: &[&str] = &[
    "amount_too_large",
    "amount_too_small",
    "parameter_invalid_empty",
    "parameter_invalid_integer",
    "parameter_invalid_string_blank",
    "parameter_invalid_string_empty",
    "parameter_missing",
    "parameter_unknown",
    "parameters_exclusive",
    "resource_missing",
];

/// What an error without a result says of the request that it answers, and of no copy of it.
pub(crate) fn unexecuted(status: u16, error: &Error) -> Fact {
    let word = error.word(status);
    let invalid = error.kind == "invalid_request_error";
    match (status, error.code.as_deref()) {
        (429, Some("rate_limit")) => {
            Fact::declined(Class::RateLimited, word).with_advice(Advice::Retry)
        }
        (401, None) if invalid => {
            Fact::declined(Class::AccountRestricted, word).with_advice(Advice::OtherMethod)
        }
        (400 | 404, Some(code)) if invalid && INVALID.contains(&code) => {
            Fact::declined(Class::User, word).with_advice(Advice::FixData)
        }
        (409, _) | (400, Some("payment_intent_unexpected_state")) => {
            classed(Fact::unknown(word), Class::Duplicate)
        }
        (400, _) if error.kind == "idempotency_error" => {
            classed(Fact::unknown(word), Class::Duplicate)
        }
        (400 | 402 | 404, _) => classed(Fact::unknown(word), Class::User),
        _ => Fact { provider_code: Some(word), ..Fact::unanswered(status) },
    }
}

pub(crate) fn classed(fact: Fact, class: Class) -> Fact {
    Fact { class: Some(class), ..fact }
}

/// The provider's words are lower case letters and `_`.
pub(crate) fn is_word(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_is_listed_twice() {
        for table in [ERRORS, DECLINES] {
            let mut codes: Vec<&str> = table.iter().map(|(code, _, _)| *code).collect();
            let all = codes.len();
            codes.sort_unstable();
            codes.dedup();
            assert_eq!(codes.len(), all);
        }
    }

    #[test]
    fn an_unlisted_reason_is_a_decline_that_stops() {
        for why in [None, Some("a_new_reason"), Some("4000000000004917"), Some("")] {
            let refusal = refusal(Some("card_declined"), why).expect("the card was declined");
            assert_eq!((refusal.code.as_str(), refusal.class), (DECLINED, Class::DeclinedHard));
        }
    }

    #[test]
    fn an_error_that_is_not_listed_refuses_nothing() {
        for code in
            [None, Some(""), Some("api_error"), Some("insufficient"), Some("card_declined ")]
        {
            assert!(refusal(code, Some("insufficient_funds")).is_none(), "{code:?}");
        }
        assert!(refusal(Some("card_declined"), Some("duplicate_transaction")).is_none());
    }

    #[test]
    fn what_the_issuer_says_besides_only_makes_it_stricter() {
        let class = |code, why| refusal(Some(code), Some(why)).map(|refusal| refusal.class);
        assert_eq!(class("processing_error", "stolen_card"), Some(Class::DeclinedFraud));
        assert_eq!(class("processing_error", "try_again_later"), Some(Class::DeclinedSoft));
        assert_eq!(class("expired_card", "try_again_later"), Some(Class::User));
    }
}
