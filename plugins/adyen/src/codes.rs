//! What the provider's words mean: refusal reasons, and HTTP statuses without a result.
//!
//! The numbers up to 22 are the provider's own; those above are known from hearsay, so what they
//! are said to mean never moves a payment on to somebody else, however soft it sounds. A number
//! that is not listed means nothing. An HTTP status is never proof, and neither is the header that
//! permits a re-send: it says what may be sent, not what happened.

use interlock_plugin_api::{Advice, Class, Event, Fact, What};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The header with which the provider permits that the same request is sent again.
const TRANSIENT: &str = "transient-error";
const BUSY: &str = "704";
const STORE_DOWN: &str = "703";

/// Reads a JSON object; anything else, an array of the fields' values too, is unreadable.
pub(crate) fn object<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let opens = body.trim_ascii_start().first() == Some(&b'{');
    opens.then(|| serde_json::from_slice(body).ok()).flatten()
}

/// Why a payment was refused, by its `refusalReasonCode`; `None` is no number of the list.
pub(crate) fn refusal(code: &str) -> Option<(Class, Advice)> {
    let row = REFUSALS.iter().find(|(known, _, _)| *known == code);
    row.map(|(_, class, advice)| (*class, *advice))
}

const REFUSALS: &[(&str, Class, Advice)] = &[
    // The issuer may say yes another time, or to another acquirer. 4 and 9 are faults behind the
    // provider, but the network may have seen the cryptogram, so they are declines all the same.
    ("2", Class::DeclinedSoft, Advice::ContactBank),
    ("3", Class::DeclinedSoft, Advice::ContactBank),
    ("4", Class::DeclinedSoft, Advice::Retry),
    ("9", Class::DeclinedSoft, Advice::Retry),
    ("18", Class::DeclinedSoft, Advice::ContactBank),
    // The shopper or the data.
    ("6", Class::User, Advice::FixData),
    ("7", Class::User, Advice::FixData),
    ("8", Class::User, Advice::FixData),
    ("12", Class::User, Advice::CheckBalance),
    ("15", Class::User, Advice::Retry),
    ("16", Class::User, Advice::Retry),
    ("17", Class::User, Advice::FixData),
    ("21", Class::User, Advice::FixData),
    // The shopper must verify, or failed to.
    ("11", Class::Verification, Advice::Verify),
    // Stop.
    ("5", Class::DeclinedHard, Advice::OtherMethod),
    ("10", Class::DeclinedHard, Advice::OtherMethod),
    ("14", Class::DeclinedFraud, Advice::OtherMethod),
    ("20", Class::DeclinedFraud, Advice::OtherMethod),
    ("22", Class::DeclinedFraud, Advice::OtherMethod),
    // Hearsay from here on: see above.
    ("23", Class::DeclinedHard, Advice::OtherMethod),
    ("24", Class::User, Advice::FixData),
    ("25", Class::DeclinedHard, Advice::OtherMethod),
    ("26", Class::DeclinedHard, Advice::OtherMethod),
    ("27", Class::DeclinedHard, Advice::ContactBank),
    ("28", Class::User, Advice::CheckBalance),
    ("29", Class::User, Advice::CheckBalance),
    ("31", Class::DeclinedFraud, Advice::OtherMethod),
    ("32", Class::User, Advice::FixData),
    ("38", Class::Verification, Advice::Verify),
    ("39", Class::Verification, Advice::Verify),
    ("42", Class::Verification, Advice::Verify),
    ("46", Class::DeclinedHard, Advice::OtherMethod),
];

/// What an answer says when its status carries no result.
///
/// Two of them read as refusals, because the provider says of both that the request was not taken
/// in; whether that is proof is the account's contract to say. A code with `transient-error:` in
/// front came with the header that permits a re-send; the manifest lists these.
pub(crate) fn unanswered(status: u16, e: &Event, body: &[u8]) -> Fact {
    let error = object::<ErrorBody>(body).and_then(|e| e.error_code).filter(|c| is_code(c));
    let error = error.as_deref();
    let permits = e.header(TRANSIENT).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let code = match (permits, error) {
        (true, Some(error)) => format!("transient-error:{error}"),
        (true, None) => format!("transient-error:http-{status}"),
        (false, Some(error)) if (400..500).contains(&status) => format!("{status}:{error}"),
        (false, _) => status.to_string(),
    };
    let doubt = |class| Fact { class: Some(class), ..Fact::unknown(code.clone()) };
    match (status, error) {
        (409 | 422, Some(BUSY)) => doubt(Class::Duplicate),
        (503, Some(STORE_DOWN)) if permits => {
            Fact::declined(Class::ProviderDown, code).with_advice(Advice::Retry)
        }
        (429, _) => Fact::declined(Class::RateLimited, "429").with_advice(Advice::Retry),
        (401 | 403, _) => doubt(Class::AccountRestricted),
        (400 | 422, _) => doubt(Class::User),
        (500.., _) => doubt(Class::ProviderDown),
        _ => doubt(Class::Unmapped),
    }
}

pub(crate) fn coded(what: What, code: impl Into<String>) -> Fact {
    Fact { provider_code: Some(code.into()), ..Fact::new(what) }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody {
    error_code: Option<String>,
}

/// Error codes are short numbers, of which the newer ones have two parts.
fn is_code(code: &str) -> bool {
    (1..=8).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_is_listed_twice() {
        let mut codes: Vec<&str> = REFUSALS.iter().map(|(code, _, _)| *code).collect();
        let all = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), all);
    }

    #[test]
    fn hearsay_never_moves_a_payment_on() {
        for (code, class, _) in REFUSALS {
            let number: u16 = code.parse().expect("a number");
            let stops = !matches!(class, Class::DeclinedSoft);
            assert!(stops || number <= 22, "{code}");
            // What was refused by an issuer was not refused at the gate.
            let gate = [Class::RateLimited, Class::ProviderDown, Class::NotSupported];
            assert!(!gate.contains(class), "{code}");
        }
    }

    #[test]
    fn a_number_that_is_not_listed_means_nothing() {
        for code in ["0", "1", "13", "19", "30", "02", "2 ", "", "-2", "２", "999"] {
            assert_eq!(refusal(code), None, "{code:?}");
        }
    }
}
