//! What the provider's codes mean: response codes of declines, and HTTP statuses without a result.
//!
//! Only what the provider documents may move a payment on to somebody else, so a code that is
//! known from hearsay stops there, whatever it is said to mean. An HTTP status is never proof: the
//! provider remembers nothing under the key of a request that it did not answer with 2xx.

use interlock_plugin_api::{Advice, Class, Fact, What};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Reads a JSON object; anything else, an array of the fields' values too, is unreadable.
pub(crate) fn object<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let opens = body.trim_ascii_start().first() == Some(&b'{');
    opens.then(|| serde_json::from_slice(body).ok()).flatten()
}

/// What a response code says, by its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// 10xxx.
    Approved,
    /// 20xxx, 30xxx, 40xxx and 50xxx.
    Refused(Class, Advice),
}

/// Reads a response code; `None` is no code of a documented group.
pub(crate) fn meaning(code: &str) -> Option<Meaning> {
    if code.len() != 5 || !code.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if let Some((_, class, advice)) = DECLINES.iter().find(|(known, _, _)| *known == code) {
        return Some(Meaning::Refused(*class, *advice));
    }
    match &code[..2] {
        "10" => Some(Meaning::Approved),
        "20" | "30" | "50" => Some(Meaning::Refused(Class::DeclinedHard, Advice::OtherMethod)),
        "40" => Some(Meaning::Refused(Class::DeclinedFraud, Advice::OtherMethod)),
        _ => None,
    }
}

/// The codes that differ from their group. The 20xxx group is called soft by the provider, but it
/// holds fraud, expiry and wrong numbers, so it says nothing about failover and an unlisted one is
/// a hard decline.
///
/// 20001, 20088 (refer to issuer, processing error) are read in published integrations; 20068,
/// 20091 and 20096 (timeout, issuer unavailable, malfunction) are general knowledge only, so they
/// stop at [`Class::DeclinedHard`] though they sound soft.
const DECLINES: &[(&str, Class, Advice)] = &[
    // The shopper or the data.
    ("20014", Class::User, Advice::FixData),
    ("20051", Class::User, Advice::CheckBalance),
    ("20054", Class::User, Advice::FixData),
    ("20061", Class::User, Advice::CheckBalance),
    ("20078", Class::User, Advice::ContactBank),
    ("20100", Class::User, Advice::FixData),
    ("40104", Class::User, Advice::FixData),
    ("40108", Class::User, Advice::FixData),
    ("40111", Class::User, Advice::FixData),
    // The issuer may say yes another time, or to another processor.
    ("20001", Class::DeclinedSoft, Advice::ContactBank),
    ("20005", Class::DeclinedSoft, Advice::ContactBank),
    ("20088", Class::DeclinedSoft, Advice::Retry),
    // Hearsay: see above.
    ("20068", Class::DeclinedHard, Advice::Retry),
    ("20091", Class::DeclinedHard, Advice::Retry),
    ("20096", Class::DeclinedHard, Advice::Retry),
    // Stop: not permitted, restricted, the card's lifecycle, the issuer's policy.
    ("20057", Class::DeclinedHard, Advice::OtherMethod),
    ("20062", Class::DeclinedHard, Advice::OtherMethod),
    ("20179", Class::DeclinedHard, Advice::OtherMethod),
    ("20182", Class::DeclinedHard, Advice::OtherMethod),
    // Stop: suspected fraud, security, pick up the card.
    ("20059", Class::DeclinedFraud, Advice::OtherMethod),
    ("20183", Class::DeclinedFraud, Advice::OtherMethod),
    ("30004", Class::DeclinedFraud, Advice::OtherMethod),
    // The shopper must verify, or failed to.
    ("20150", Class::Verification, Advice::Verify),
    ("20151", Class::Verification, Advice::Verify),
    ("20152", Class::Verification, Advice::Verify),
    ("20153", Class::Verification, Advice::Verify),
    ("20154", Class::Verification, Advice::Verify),
    // We sent something that the provider can't use.
    ("20006", Class::Config, Advice::OtherMethod),
];

/// What an answer to a move says when its status carries no result.
///
/// Only 429 is a refusal, because the provider itself calls a repeat of it safe; whether that is
/// proof is the account's contract to say. The 401 and 422 that look just as harmless are nowhere
/// documented to come before the execution.
pub(crate) fn unanswered_move(status: u16, body: &[u8]) -> Fact {
    match status {
        422 if says_request_invalid(body) => {
            classed(Fact::unknown("422:request_invalid"), Class::User)
        }
        429 => Fact { what: What::Declined, ..unanswered_read(status) },
        _ => unanswered_read(status),
    }
}

/// What an answer to a read says when its status carries no result: nothing about the money.
pub(crate) fn unanswered_read(status: u16) -> Fact {
    let class = match status {
        401 => Class::AccountRestricted,
        409 => Class::Duplicate,
        429 => Class::RateLimited,
        500..=599 => Class::ProviderDown,
        _ => Class::Unmapped,
    };
    classed(Fact::unknown(status.to_string()), class)
}

pub(crate) fn classed(fact: Fact, class: Class) -> Fact {
    Fact { class: Some(class), ..fact }
}

fn says_request_invalid(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Refusal {
        error_type: String,
    }
    object::<Refusal>(body).is_some_and(|r| r.error_type == "request_invalid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_code_has_its_class() {
        let rows: &[(Class, &[&str])] = &[
            (
                Class::User,
                &["20014", "20054", "20051", "20061", "20078", "20100", "40104", "40108", "40111"],
            ),
            (Class::DeclinedSoft, &["20005", "20001", "20088"]),
            (Class::DeclinedHard, &["20057", "20062", "20179", "20182", "20999", "30001", "50001"]),
            (Class::DeclinedHard, &["20068", "20091", "20096"]),
            (Class::DeclinedFraud, &["20059", "20183", "30004", "40101", "40201"]),
            (Class::Verification, &["20150", "20151", "20152", "20153", "20154"]),
            (Class::Config, &["20006"]),
        ];
        for (class, codes) in rows {
            for code in *codes {
                let Some(Meaning::Refused(found, _)) = meaning(code) else {
                    unreachable!("{code} is a refusal")
                };
                assert_eq!(found, *class, "{code}");
            }
        }
    }

    #[test]
    fn approvals_are_one_group_and_other_groups_mean_nothing() {
        for code in ["10000", "10100", "10200"] {
            assert_eq!(meaning(code), Some(Meaning::Approved));
        }
        for code in ["", "2005", "200051", "2000x", "00000", "60000", "99999", "２0005", " 20005"]
        {
            assert_eq!(meaning(code), None, "{code:?}");
        }
    }

    #[test]
    fn no_code_is_listed_twice() {
        let mut codes: Vec<&str> = DECLINES.iter().map(|(code, _, _)| *code).collect();
        codes.sort_unstable();
        let all = codes.len();
        codes.dedup();
        assert_eq!(codes.len(), all);
    }

    #[test]
    fn only_a_rate_limit_of_a_move_reads_as_a_refusal() {
        for status in 100..600u16 {
            let fact = unanswered_move(status, b"");
            let what = if status == 429 { What::Declined } else { What::Unknown };
            assert_eq!((fact.what, fact.provider_code), (what, Some(status.to_string())));
            assert_eq!(unanswered_read(status).what, What::Unknown, "{status}");
        }
    }

    #[test]
    fn a_validation_error_is_told_from_every_other_422() {
        let code = |body: &[u8]| unanswered_move(422, body).provider_code;
        let invalid = br#"{"request_id":"r","error_type":"request_invalid","error_codes":["x"]}"#;
        assert_eq!(code(invalid).as_deref(), Some("422:request_invalid"));
        assert_eq!(unanswered_move(422, invalid).class, Some(Class::User));
        let others: [&[u8]; 4] =
            [b"", b"<html>", br#"{"error_type":"processing_error"}"#, br#"["request_invalid"]"#];
        for other in others {
            assert_eq!(code(other).as_deref(), Some("422"));
        }
    }
}
