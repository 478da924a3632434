//! What PayPal's issues mean for the money, and for whom.
//!
//! An issue is a refusal only where PayPal documents it for this very request, with this very
//! status; the same issues are the manifest's `proof_codes`. Every other one, and every issue that
//! is not here, leaves the outcome in doubt, so that an inquiry follows.

use interlock_plugin_api::{Advice, Class, Fact, What};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use Purpose::{Capture, Create, Hold, Refund, Take, Void};

/// The payee's balance does not suffice: not refunded, and to be asked again.
const NO_FUNDS: &str = "REFUND_FAILED_INSUFFICIENT_FUNDS";
const NOT_FOUND: &str = "RESOURCE_NOT_FOUND";
/// More than any documented issue has.
const CODE_MAX: usize = 64;

/// A kind of request, as far as the meaning of an issue depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A new order.
    Create,
    /// The capture of an approved order.
    Take,
    /// The authorization of an approved order.
    Hold,
    /// The capture of an authorization.
    Capture,
    /// The void of an authorization.
    Void,
    /// The refund of a capture.
    Refund,
    /// Whatever only asks.
    Ask,
}

/// What PayPal says when it refuses.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Refusal {
    name: Option<String>,
    /// Where a token was refused there is this and nothing else.
    error: Option<String>,
    details: Vec<Detail>,
    /// Where the shopper can be sent.
    pub links: Vec<Link>,
}

#[derive(Deserialize)]
struct Detail {
    issue: Option<String>,
}

/// One entry of `links`.
#[derive(Deserialize)]
pub(crate) struct Link {
    /// Where.
    pub href: String,
    /// What for.
    pub rel: String,
}

/// Reads a JSON object; anything else, an array of the fields' values too, is unreadable.
pub(crate) fn object<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let opens = body.trim_ascii_start().first() == Some(&b'{');
    opens.then(|| serde_json::from_slice(body).ok()).flatten()
}

/// What an answer that is no success says of the request, with the refusal itself.
pub(crate) fn refused(purpose: Purpose, status: u16, body: &[u8]) -> (Fact, Refusal) {
    let readable = (400..500).contains(&status);
    let Some(refusal) = readable.then(|| object::<Refusal>(body)).flatten() else {
        return (Fact::unanswered(status), Refusal::default());
    };
    let fact = match refusal.code() {
        Some(code) => judged(purpose, status, &refusal, code),
        None => Fact::unanswered(status),
    };
    (fact, refusal)
}

/// What an answer to a question says that has no result.
pub(crate) fn unasked(status: u16, body: &[u8]) -> Fact {
    let (fact, refusal) = refused(Purpose::Ask, status, body);
    match (status, refusal.name.as_deref()) {
        (404, Some(NOT_FOUND)) => Fact { what: What::NotFound, class: None, ..fact },
        _ => fact,
    }
}

impl Refusal {
    /// The first issue, else the name.
    fn code(&self) -> Option<&str> {
        let name = self.name.as_deref().or(self.error.as_deref());
        let code = match self.details.first() {
            Some(detail) => detail.issue.as_deref(),
            None => name,
        };
        code.filter(|code| is_word(code))
    }

    /// It speaks of one thing, and its name is that of its status.
    fn is_consistent(&self, status: u16, code: &str) -> bool {
        let name = match status {
            401 => "AUTHENTICATION_FAILURE",
            403 => "NOT_AUTHORIZED",
            422 => "UNPROCESSABLE_ENTITY",
            429 => "RATE_LIMIT_REACHED",
            _ => return false,
        };
        let one = self.details.iter().all(|detail| detail.issue.as_deref() == Some(code));
        one && self.name.as_deref() == Some(name)
    }
}

/// Whether a text can be reported as a code.
pub(crate) fn is_word(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=CODE_MAX).contains(&text.len()) && text.bytes().all(plain)
}

fn judged(purpose: Purpose, status: u16, refusal: &Refusal, code: &str) -> Fact {
    let consistent = refusal.is_consistent(status, code);
    let named = |row: &&Row| row.issues.split_whitespace().any(|issue| issue == code);
    let of_it = |row: &&Row| row.status == status && row.of.contains(&purpose);
    let mut rows = REFUSALS.iter().filter(named).peekable();
    let known = rows.peek().map(|row| row.class);
    if let Some(row) = rows.find(of_it).filter(|_| consistent) {
        return Fact { advice: row.advice, ..Fact::declined(row.class, code) };
    }
    if consistent && status == 422 && purpose == Refund && code == NO_FUNDS {
        let waits = Fact { what: What::Pending, ..Fact::unknown(code) };
        return Fact { class: Some(Class::AccountRestricted), ..waits };
    }
    let listed = DOUBTS
        .iter()
        .find(|(_, issues)| issues.split_whitespace().any(|issue| issue == code))
        .map(|(class, _)| *class);
    // What is wrong with the account is worth an alarm whatever was asked.
    let account = known.filter(|c| matches!(c, Class::Config | Class::AccountRestricted));
    let class = listed.or(account).or(Fact::unanswered(status).class);
    Fact { class, ..Fact::unknown(code) }
}

struct Row {
    class: Class,
    advice: Option<Advice>,
    status: u16,
    of: &'static [Purpose],
    issues: &'static str,
}

const fn row(
    class: Class,
    advice: Option<Advice>,
    (status, of): (u16, &'static [Purpose]),
    issues: &'static str,
) -> Row {
    Row { class, advice, status, of, issues }
}

/// Every request that an issue at the gate may refuse.
const ALL: &[Purpose] = &[Create, Take, Hold, Capture, Void, Refund];
const PAYING: &[Purpose] = &[Create, Take, Hold];
const OTHER: Option<Advice> = Some(Advice::OtherMethod);

/// What certainly moved no money, by status and request.
const REFUSALS: &[Row] = &[
    // At the gate.
    row(Class::RateLimited, Some(Advice::Retry), (429, ALL), "RATE_LIMIT_REACHED"),
    row(Class::AccountRestricted, OTHER, (401, ALL), "AUTHENTICATION_FAILURE"),
    // The merchant's account.
    row(
        Class::AccountRestricted,
        OTHER,
        (401, &[Create, Take, Hold, Void, Refund]),
        "INVALID_ACCOUNT_STATUS",
    ),
    row(
        Class::AccountRestricted,
        OTHER,
        (403, &[Take, Hold, Capture, Void, Refund]),
        "PERMISSION_DENIED",
    ),
    row(
        Class::AccountRestricted,
        OTHER,
        (422, &[Create, Capture, Refund]),
        "PAYEE_ACCOUNT_LOCKED_OR_CLOSED PAYEE_ACCOUNT_RESTRICTED",
    ),
    row(Class::AccountRestricted, OTHER, (422, PAYING), "TRANSACTION_RECEIVING_LIMIT_EXCEEDED"),
    row(
        Class::Config,
        OTHER,
        (403, &[Take, Hold]),
        "NOT_ELIGIBLE_FOR_TOKEN_PROCESSING PERMISSION_DENIED_FOR_DONATION_ITEMS",
    ),
    row(Class::Config, OTHER, (403, &[Create, Take]), "NOT_ENABLED_FOR_CARD_PROCESSING"),
    row(Class::Config, OTHER, (422, &[Create, Take]), "NOT_ENABLED_FOR_CARD_PROCESSING"),
    row(
        Class::Config,
        OTHER,
        (422, PAYING),
        "AUTH_CAPTURE_NOT_ENABLED NOT_ELIGIBLE_FOR_PAYPAL_TRANSACTION_ID_PROCESSING
         NOT_ELIGIBLE_FOR_PNREF_PROCESSING",
    ),
    row(
        Class::Config,
        OTHER,
        (422, &[Create]),
        "NOT_ENABLED_FOR_APPLE_PAY NOT_ENABLED_FOR_GOOGLE_PAY NOT_ENABLED_TO_VAULT_PAYMENT_SOURCE
         PAYEE_ACCOUNT_INVALID PAYEE_FX_RATE_ID_CURRENCY_MISMATCH PAYEE_PRICING_TIER_ID_NOT_ENABLED
         PLATFORM_FEES_NOT_SUPPORTED SHIPPING_TYPE_NOT_SUPPORTED_FOR_CLIENT",
    ),
    row(
        Class::Config,
        OTHER,
        (422, &[Take]),
        "NOT_ENABLED_FOR_BANK_PROCESSING PAYEE_NOT_ENABLED_FOR_BANK_PROCESSING
         PAYEE_NOT_ENABLED_FOR_CARD_PROCESSING SETUP_ERROR_FOR_BANK",
    ),
    row(Class::Config, OTHER, (422, &[Hold]), "SAVE_ORDER_NOT_SUPPORTED"),
    row(Class::Config, None, (422, &[Refund]), "PLATFORM_FEE_NOT_ENABLED REFUND_IS_RESTRICTED"),
    // The shopper may choose something else.
    row(
        Class::DeclinedSoft,
        OTHER,
        (422, &[Create]),
        "ALIAS_DECLINED_BY_PROCESSOR PAYMENT_SOURCE_CANNOT_BE_USED
         PAYMENT_SOURCE_DECLINED_BY_PROCESSOR PAYMENT_SOURCE_INFO_CANNOT_BE_VERIFIED",
    ),
    row(Class::DeclinedSoft, OTHER, (422, &[Create, Hold]), "TOKEN_EXPIRED"),
    row(Class::DeclinedSoft, OTHER, (422, &[Create, Take]), "INSTRUMENT_DECLINED"),
    row(Class::DeclinedSoft, OTHER, (422, &[Take]), "REDIRECT_PAYER_FOR_ALTERNATE_FUNDING"),
    row(Class::DeclinedSoft, OTHER, (422, &[Take, Hold]), "CARD_BRAND_NOT_SUPPORTED"),
    row(Class::DeclinedSoft, OTHER, (422, PAYING), "MAX_NUMBER_OF_PAYMENT_ATTEMPTS_EXCEEDED"),
    row(Class::User, Some(Advice::CheckBalance), (422, PAYING), "TRANSACTION_LIMIT_EXCEEDED"),
    row(Class::User, Some(Advice::FixData), (422, &[Create]), "CARD_EXPIRED"),
    row(Class::User, Some(Advice::FixData), (422, &[Take, Hold]), "REFERENCED_CARD_EXPIRED"),
    // Nobody can change it.
    row(
        Class::DeclinedHard,
        OTHER,
        (422, PAYING),
        "AGREEMENT_ALREADY_CANCELLED BILLING_AGREEMENT_NOT_FOUND DOMESTIC_TRANSACTION_REQUIRED
         PAYEE_BLOCKED_TRANSACTION PAYER_ACCOUNT_RESTRICTED
         PREVIOUS_TRANSACTION_REFERENCE_HAS_CHARGEBACK",
    ),
    row(
        Class::DeclinedHard,
        OTHER,
        (422, &[Create, Take]),
        "COMPLIANCE_VIOLATION TRANSACTION_BLOCKED_BY_PAYEE",
    ),
    row(Class::DeclinedHard, OTHER, (422, &[Take, Hold]), "DECLINED_DUE_TO_RELATED_TXN"),
    row(
        Class::DeclinedHard,
        OTHER,
        (422, &[Create, Take, Hold, Capture, Refund]),
        "PAYER_ACCOUNT_LOCKED_OR_CLOSED",
    ),
    row(
        Class::DeclinedHard,
        OTHER,
        (422, &[Create, Take, Hold, Capture]),
        "PAYER_CANNOT_PAY TRANSACTION_REFUSED",
    ),
    row(Class::DeclinedHard, None, (422, &[Capture]), "AUTHORIZATION_DENIED"),
    row(
        Class::DeclinedHard,
        None,
        (422, &[Refund]),
        "REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK TRANSACTION_DISPUTED",
    ),
    // It is too late.
    row(Class::Expired, Some(Advice::Retry), (422, PAYING), "PAYEE_FX_RATE_ID_EXPIRED"),
    row(
        Class::Expired,
        Some(Advice::Retry),
        (422, &[Take, Hold]),
        "PAYPAL_TRANSACTION_ID_EXPIRED PNREF_EXPIRED",
    ),
    row(Class::Expired, Some(Advice::Retry), (422, &[Hold]), "ORDER_EXPIRED"),
    row(Class::Expired, None, (422, &[Capture]), "AUTHORIZATION_EXPIRED"),
    row(Class::Expired, None, (422, &[Refund]), "REFUND_TIME_LIMIT_EXCEEDED"),
];

/// What proves nothing, and why it was said.
const DOUBTS: &[(Class, &str)] = &[
    // Our own earlier copy, as far as we know: done, or still under way.
    (
        Class::Duplicate,
        "AUTHORIZATION_ALREADY_CAPTURED AUTHORIZATION_VOIDED CAPTURE_FULLY_REFUNDED
         DUPLICATE_INVOICE_ID ORDER_ALREADY_AUTHORIZED ORDER_ALREADY_CAPTURED
         ORDER_COMPLETED_OR_VOIDED ORDER_COMPLETION_IN_PROGRESS PREVIOUSLY_CAPTURED
         PREVIOUSLY_VOIDED PREVIOUS_REQUEST_IN_PROGRESS",
    ),
    // The shopper has something to do first.
    (Class::Verification, "CONSENT_NEEDED ORDER_NOT_APPROVED PAYER_ACTION_REQUIRED"),
    (Class::MerchantAction, NO_FUNDS),
    // A request that we built wrongly. Nothing promises that an earlier copy was refused too.
    (
        Class::Config,
        "ACTION_DOES_NOT_MATCH_INTENT AMOUNT_CANNOT_BE_SPECIFIED AMOUNT_MISMATCH
         APPLE_PAY_AMOUNT_MISMATCH AUTHORIZATION_AMOUNT_EXCEEDED AUTHORIZATION_CURRENCY_MISMATCH
         AUTH_CAPTURE_CURRENCY_MISMATCH BANK_NOT_SUPPORTED_FOR_VERIFICATION
         BILLING_ADDRESS_INVALID BILLING_AGREEMENT_ID_MISMATCH
         BLIK_ONE_CLICK_MISSING_REQUIRED_PARAMETER CANCEL_URL_REQUIRED CANNOT_BE_NEGATIVE
         CANNOT_BE_VOIDED CANNOT_BE_ZERO_OR_NEGATIVE CARD_EXPIRY_REQUIRED CARD_NUMBER_REQUIRED
         CITY_REQUIRED CRYPTOGRAM_REQUIRED CURRENCY_MISMATCH CURRENCY_NOT_SUPPORTED_FOR_BANK
         DECIMALS_NOT_SUPPORTED DECIMAL_PRECISION DONATION_ITEMS_NOT_SUPPORTED
         DUPLICATE_REFERENCE_ID EMV_DATA_REQUIRED GOOGLE_PAY_GATEWAY_MERCHANT_ID_MISMATCH
         IBAN_COUNTRY_NOT_SUPPORTED INCOMPATIBLE_PARAMETER_VALUE INVALID_ARRAY_MAX_ITEMS
         INVALID_ARRAY_MIN_ITEMS INVALID_COUNTRY_CODE INVALID_CURRENCY_CODE INVALID_EXPIRY_DATE
         INVALID_FX_RATE_ID INVALID_GOOGLE_PAY_TOKEN INVALID_IBAN INVALID_PARAMETER_SYNTAX
         INVALID_PARAMETER_VALUE INVALID_PAYEE_PRICING_TIER_ID INVALID_PAYER_ID
         INVALID_PICKUP_ADDRESS INVALID_PLATFORM_FEES_ACCOUNT INVALID_PLATFORM_FEES_AMOUNT
         INVALID_PREVIOUS_TRANSACTION_REFERENCE INVALID_SECURITY_CODE_LENGTH
         INVALID_STRING_LENGTH INVALID_STRING_MAX_LENGTH ITEM_TOTAL_MISMATCH ITEM_TOTAL_REQUIRED
         MALFORMED_REQUEST_JSON MAX_AUTHORIZATION_COUNT_EXCEEDED MAX_CAPTURE_AMOUNT_EXCEEDED
         MAX_CAPTURE_COUNT_EXCEEDED MAX_NUMBER_OF_REFUNDS_EXCEEDED MAX_VALUE_EXCEEDED
         MERCHANT_INITIATED_WITH_AUTHENTICATION_RESULTS
         MERCHANT_INITIATED_WITH_MULTIPLE_PURCHASE_UNITS MERCHANT_INITIATED_WITH_SECURITY_CODE
         MISMATCHED_VAULT_ID_TO_PAYMENT_SOURCE MISSING_CRYPTOGRAM MISSING_PICKUP_ADDRESS
         MISSING_PREVIOUS_REFERENCE MISSING_REQUIRED_PARAMETER MULTIPLE_ITEM_CATEGORIES
         MULTIPLE_SHIPPING_ADDRESS_NOT_SUPPORTED MULTIPLE_SHIPPING_OPTION_SELECTED
         MULTIPLE_SHIPPING_TYPE_NOT_SUPPORTED MULTI_CURRENCY_ORDER NOT_SUPPORTED
         ONE_OF_PARAMETERS_REQUIRED ONLY_ONE_BANK_SOURCE_ALLOWED ORDER_CANNOT_BE_SAVED
         ORDER_COMPLETE_ON_PAYMENT_APPROVAL PARTIAL_REFUND_NOT_ALLOWED PAYMENT_SOURCE_MISMATCH
         PAYMENT_SOURCE_NOT_SUPPORTED PAYMENT_TYPE_NOT_SUPPORTED_FOR_INTENT
         PAYPAL_REQUEST_ID_REQUIRED PLATFORM_FEE_EXCEEDED
         PLATFORM_FEE_PAYEE_CANNOT_BE_SAME_AS_PAYER POSTAL_CODE_REQUIRED
         PREFERRED_PAYMENT_SOURCE_MISMATCH PREFERRED_SHIPPING_OPTION_AMOUNT_MISMATCH
         PREVIOUS_TRANSACTION_REFERENCE_VOIDED REFERENCE_ID_REQUIRED REFUND_AMOUNT_EXCEEDED
         REFUND_AMOUNT_TOO_LOW REFUND_CAPTURE_CURRENCY_MISMATCH REFUND_NOT_ALLOWED
         REQUIRED_PARAMETER_FOR_CUSTOMER_INITIATED_PAYMENT RETURN_URL_REQUIRED
         SHIPPING_ADDRESS_INVALID SHIPPING_OPTIONS_NOT_SUPPORTED SHIPPING_OPTION_NOT_SELECTED
         TAX_TOTAL_MISMATCH TAX_TOTAL_REQUIRED UNSUPPORTED_INTENT
         UNSUPPORTED_INTENT_FOR_PAYMENT_SOURCE UNSUPPORTED_PAYMENT_INSTRUCTION
         UNSUPPORTED_PROCESSING_INSTRUCTION UNSUPPORTED_SHIPPING_TYPE VAULT_INSTRUCTION_DUPLICATED
         VAULT_INSTRUCTION_REQUIRED",
    ),
];

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::collections::BTreeSet;

    use interlock_plugin_api::Manifest;

    use super::*;

    #[test]
    fn the_manifest_proves_exactly_what_the_table_and_the_statuses_refuse() {
        let manifest = Manifest::parse(include_bytes!("../manifest.json")).unwrap();
        let proofs = &manifest.contract.proof_codes;
        let declared: BTreeSet<&str> = proofs.iter().map(String::as_str).collect();
        let listed = REFUSALS.iter().flat_map(|row| row.issues.split_whitespace());
        let refused: BTreeSet<&str> = listed.chain(["DECLINED", "FAILED", "DENIED"]).collect();
        assert_eq!(declared, refused);
        assert_eq!(declared.len(), proofs.len(), "no code is declared twice");
    }

    #[test]
    fn no_issue_means_two_things() {
        let mut seen = BTreeSet::new();
        for row in REFUSALS {
            for issue in row.issues.split_whitespace() {
                assert!(seen.insert((issue, row.status)), "{issue}");
            }
        }
        for issue in DOUBTS.iter().flat_map(|(_, issues)| issues.split_whitespace()) {
            assert!(seen.iter().all(|(refused, _)| *refused != issue), "{issue}");
        }
    }

    #[test]
    fn a_code_is_one_plain_word() {
        let code = |body: &str| {
            let (fact, _) = refused(Purpose::Take, 422, body.as_bytes());
            fact.provider_code.unwrap()
        };
        assert_eq!(code(r#"{"details":[{"issue":"A_1"}],"name":"B"}"#), "A_1");
        assert_eq!(code(r#"{"details":[],"name":"B"}"#), "B");
        assert_eq!(code(r#"{"error":"invalid_token"}"#), "invalid_token");
        for none in ["{}", "[]", "", r#"{"details":[{}],"name":"B"}"#, r#"{"name":"a b"}"#] {
            assert_eq!(code(none), "http_422", "{none}");
        }
    }
}
