//! What each of WeChat Pay's error codes means for the money, and for whom.
//!
//! Errors are not signed. Only a code that the documents of that very operation give for a request
//! that moved nothing is a refusal, with its own HTTP status; the same codes are the manifest's
//! `proof_codes`. All others, and every code that is not here, leave the outcome in doubt. The
//! spelling drifts between the generations of the documents, so underscores are not compared.

use interlock_plugin_api::{Advice, Class, Fact, What};
use serde::Deserialize;

use crate::wire::{Purpose, object};

/// More than any documented code has.
const CODE_MAX: usize = 64;
/// The orders whose documented set of codes is confirmed.
const CREATE: &[Purpose] = &[Purpose::Native, Purpose::Jsapi, Purpose::App, Purpose::H5];
/// Everything that is signed and moves something: a request whose signature is wrong does not.
const SIGNED: &[Purpose] = &[
    Purpose::Native,
    Purpose::Jsapi,
    Purpose::App,
    Purpose::H5,
    Purpose::Codepay,
    Purpose::Refund,
];
const NOWHERE: &[Purpose] = &[];

/// The fact of an answer that is an error.
pub fn fact(purpose: Purpose, status: u16, body: &[u8]) -> Fact {
    let Some(code) = code(body) else { return Fact::unanswered(status) };
    let said = |what| Fact { provider_code: Some(code.clone()), ..Fact::new(what) };
    match (purpose, status, bare(&code).as_str()) {
        (Purpose::Query, 404, "ORDERNOTEXIST") => return said(What::NotFound),
        (Purpose::RefundQuery, 404, "RESOURCENOTEXISTS") => return said(What::NotFound),
        (Purpose::Close | Purpose::Reverse, 404, "ORDERNOTEXIST") => {
            return said(What::ClosedNothingFound);
        }
        // The merchant's balance: asked for again under the same number once there is money.
        (Purpose::Refund, 403, "NOTENOUGH") => {
            return Fact { class: Some(Class::AccountRestricted), ..said(What::Pending) };
        }
        _ => {}
    }
    let row = ROWS.iter().find(|row| bare(row.code) == bare(&code));
    let refused = row.is_some_and(|row| row.refuses(purpose, status, &code));
    let class = match row {
        _ if status >= 500 => Class::ProviderDown,
        Some(row) => row.class,
        None if status == 429 => Class::RateLimited,
        None => Class::Unmapped,
    };
    let what = if refused { What::Declined } else { What::Unknown };
    Fact { class: Some(class), advice: row.and_then(|row| row.advice), ..said(what) }
}

/// The code of an error, as WeChat Pay spells it. What has another form than all codes might be
/// anything, such as the shopper's own data, and is not told.
pub fn code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Error {
        code: String,
    }
    object::<Error>(body).map(|error| error.code).filter(|code| is_word(code))
}

/// Whether this has the form of WeChat Pay's words.
pub fn is_word(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_uppercase() || b == b'_';
    (1..=CODE_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// A code without its underscores.
pub fn bare(code: &str) -> String {
    code.replace('_', "")
}

struct Row {
    code: &'static str,
    /// Where it is a refusal, and with which status.
    refuses: (&'static [Purpose], u16),
    class: Class,
    advice: Option<Advice>,
}

impl Row {
    /// Only in the two spellings that are `proof_codes`: a third one is not known.
    fn refuses(&self, purpose: Purpose, status: u16, code: &str) -> bool {
        let (purposes, with) = self.refuses;
        let spelled = code == self.code || code == bare(self.code);
        spelled && status == with && purposes.contains(&purpose)
    }
}

const fn refusal(
    code: &'static str,
    purposes: &'static [Purpose],
    status: u16,
    class: Class,
    advice: Option<Advice>,
) -> Row {
    Row { code, refuses: (purposes, status), class, advice }
}

const fn doubt(code: &'static str, class: Class, advice: Option<Advice>) -> Row {
    Row { code, refuses: (NOWHERE, 0), class, advice }
}

const ROWS: &[Row] = &[
    // Documented for these very requests, before anything is done.
    refusal("APPID_MCHID_NOT_MATCH", CREATE, 400, Class::Config, None),
    refusal("MCH_NOT_EXISTS", CREATE, 400, Class::Config, None),
    refusal("NO_AUTH", CREATE, 403, Class::Config, None),
    refusal("FREQUENCY_LIMITED", CREATE, 429, Class::RateLimited, Some(Advice::Retry)),
    refusal("SIGN_ERROR", SIGNED, 401, Class::Config, None),
    // Not confirmed to be the same code.
    doubt("RATELIMIT_EXCEEDED", Class::RateLimited, Some(Advice::Retry)),
    // A request that we built wrongly. Nothing promises that an earlier copy was refused too.
    doubt("PARAM_ERROR", Class::Config, None),
    doubt("INVALID_REQUEST", Class::Config, None),
    doubt("OPENID_MISMATCH", Class::Config, None),
    doubt("INVALID_TRANSACTIONID", Class::Config, None),
    doubt("REQUEST_BLOCKED", Class::Config, None),
    // The number is in use already, or at its end.
    doubt("OUT_TRADE_NO_USED", Class::Duplicate, None),
    doubt("ORDER_PAID", Class::Duplicate, None),
    doubt("ORDER_CLOSED", Class::Duplicate, None),
    doubt("ORDER_REVERSED", Class::Duplicate, None),
    // The table of payments by code is partly of an older page: none of it proves anything.
    doubt("NOT_ENOUGH", Class::User, Some(Advice::CheckBalance)),
    doubt("AUTH_CODE_EXPIRED", Class::User, Some(Advice::Rescan)),
    doubt("AUTH_CODE_EXPIRE", Class::User, Some(Advice::Rescan)),
    doubt("AUTH_CODE_ERROR", Class::User, Some(Advice::Rescan)),
    doubt("AUTH_CODE_INVALID", Class::User, Some(Advice::Rescan)),
    doubt("NOT_SUPPORT_CARD", Class::User, Some(Advice::OtherMethod)),
    doubt("NOT_SUPORT_CARD", Class::User, Some(Advice::OtherMethod)),
    doubt("TRADE_ERROR", Class::DeclinedSoft, Some(Advice::OtherMethod)),
    doubt("ACCOUNT_ERROR", Class::DeclinedHard, Some(Advice::OtherMethod)),
    doubt("USER_ACCOUNT_ABNORMAL", Class::DeclinedHard, None),
    doubt("RULE_LIMIT", Class::DeclinedHard, Some(Advice::OtherMethod)),
    doubt("BUYER_MISMATCH", Class::DeclinedHard, Some(Advice::OtherMethod)),
    // WeChat Pay itself can't tell.
    doubt("SYSTEM_ERROR", Class::ProviderDown, None),
    doubt("BANK_ERROR", Class::ProviderDown, None),
];

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::collections::BTreeSet;

    use interlock_plugin_api::Manifest;

    use super::*;

    #[test]
    fn the_manifest_proves_exactly_what_the_table_refuses() {
        let manifest = Manifest::parse(include_bytes!("../manifest.json")).unwrap();
        let declared: BTreeSet<String> = manifest.contract.proof_codes.iter().cloned().collect();
        let refused = ROWS.iter().filter(|row| !row.refuses.0.is_empty());
        let both: BTreeSet<String> =
            refused.flat_map(|row| [row.code.to_owned(), bare(row.code)]).collect();
        assert_eq!(declared, both);
        assert_eq!(declared.len(), manifest.contract.proof_codes.len(), "a code is listed twice");
        assert!(declared.iter().all(|code| !code.contains('*')));
    }

    #[test]
    fn no_code_has_two_meanings() {
        let mut seen = BTreeSet::new();
        for row in ROWS {
            assert!(seen.insert(bare(row.code)), "{}", row.code);
            assert!(is_word(row.code));
        }
    }

    #[test]
    fn what_does_not_look_like_a_code_is_not_told() {
        let said = |text: &str| fact(Purpose::Codepay, 400, text.as_bytes()).provider_code.unwrap();
        assert_eq!(said(r#"{"code":"BRAND_NEW"}"#), "BRAND_NEW");
        for text in [r#"{"code":"134567890123456789"}"#, r#"{"code":""}"#, r#"{"code":"oUpF8uMu"}"#]
        {
            assert_eq!(said(text), "http_400");
        }
    }
}
