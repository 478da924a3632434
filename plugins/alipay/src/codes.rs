//! What each of Alipay's codes means for the money, and for whom.
//!
//! Only a code that is known to come before any money moves is a refusal, and only for the kind
//! of request that it was documented for; the same codes are the manifest's `proof_codes`. All
//! others, and every code that is not here, leave the outcome in doubt, so that an inquiry
//! follows.

use interlock_plugin_api::{Advice, Class, Fact, What};

use crate::gateway::{Node, Purpose};
use Verdict::{Doubt, Refused, Waits};

/// The fact of an answer that is not a success.
pub fn fact(purpose: Purpose, node: &Node) -> Fact {
    let code = node.provider_code();
    match judge(purpose, node.outer(), &code) {
        Refused(class, advice) => Fact { advice, ..Fact::declined(class, code) },
        Waits(class) => Fact { what: What::Pending, ..doubt(class, code) },
        Doubt(class) => doubt(class, code),
    }
}

fn doubt(class: Class, code: String) -> Fact {
    Fact { class: Some(class), ..Fact::unknown(code) }
}

fn judge(purpose: Purpose, outer: &str, code: &str) -> Verdict {
    let Some(row) = ROWS.iter().find(|row| row.codes.contains(&code)) else {
        return Doubt(Class::Unmapped);
    };
    // A business code under another outer code contradicts itself.
    let consistent = !code.starts_with("ACQ.") || outer == "40004";
    match row.verdict {
        Refused(..) | Waits(_) if consistent && row.about.covers(purpose) => row.verdict,
        // What is wrong with the account is worth an alarm whatever was asked.
        Refused(class @ (Class::Config | Class::AccountRestricted), _) => Doubt(class),
        Refused(class, _) if row.about == About::Anything => Doubt(class),
        Refused(..) => Doubt(Class::Unmapped),
        Waits(class) | Doubt(class) => Doubt(class),
    }
}

#[derive(Clone, Copy)]
enum Verdict {
    /// Money certainly did not move by this request.
    Refused(Class, Option<Advice>),
    /// Not done, and to be asked again under the same number.
    Waits(Class),
    /// It may have moved.
    Doubt(Class),
}

/// Which requests a refusal was documented for.
#[derive(Clone, Copy, PartialEq)]
enum About {
    Anything,
    Paying,
    Refunding,
}

impl About {
    /// Whether the code settles a request of this purpose. What only asks or ends something is
    /// never settled by a refusal: that it could not be done says nothing of the payment.
    fn covers(self, purpose: Purpose) -> bool {
        let pays = matches!(purpose, Purpose::Pay | Purpose::Precreate);
        match self {
            Self::Anything => pays || purpose == Purpose::Refund,
            Self::Paying => pays,
            Self::Refunding => purpose == Purpose::Refund,
        }
    }
}

struct Row {
    about: About,
    verdict: Verdict,
    codes: &'static [&'static str],
}

const fn row(about: About, verdict: Verdict, codes: &'static [&'static str]) -> Row {
    Row { about, verdict, codes }
}

const ROWS: &[Row] = &[
    // Turned away at the gate, before the request reached the business.
    row(
        About::Anything,
        Refused(Class::Config, None),
        &[
            "20001:aop.invalid-auth-token",
            "20001:aop.auth-token-time-out",
            "20001:aop.invalid-app-auth-token",
            "20001:aop.invalid-app-auth-token-no-api",
            "20001:aop.app-auth-token-time-out",
            "20001:aop.no-product-reg-by-partner",
            "40002:isv.invalid-signature",
            "40002:isv.invalid-signature-type",
            "40002:isv.invalid-app-id",
            "40002:isv.missing-signature-config",
            "40006:isv.insufficient-isv-permissions",
            "40006:isv.insufficient-user-permissions",
        ],
    ),
    row(
        About::Anything,
        Refused(Class::RateLimited, Some(Advice::Retry)),
        &["40005:isv.app-call-limited", "40005:isv.method-call-limited"],
    ),
    // The seller's contract does not allow this payment.
    row(
        About::Paying,
        Refused(Class::Config, Some(Advice::OtherMethod)),
        &[
            "ACQ.ACCESS_FORBIDDEN",
            "ACQ.PARTNER_ERROR",
            "ACQ.MERCHANT_AGREEMENT_INVALID",
            "ACQ.MERCHANT_AGREEMENT_NOT_EXIST",
            "ACQ.INVALID_RECEIVE_ACCOUNT",
            "ACQ.INVALID_STORE_ID",
            "ACQ.SELLER_NOT_EXIST",
            "ACQ.UN_SUPPORT_TRADE_SCENE",
            "ACQ.CURRENCY_NOT_SUPPORT",
            "ACQ.SECONDARY_MERCHANT_ID_INVALID",
            "ACQ.SECONDARY_MERCHANT_ID_BLANK",
            "ACQ.SECONDARY_MERCHANT_NOT_MATCH",
            "ACQ.SECONDARY_MERCHANT_ALIPAY_ACCOUNT_INVALID",
            "ACQ.SUB_MERCHANT_CREATE_FAIL",
            "ACQ.SUB_MERCHANT_TYPE_INVALID",
        ],
    ),
    // The seller is blocked, or has reached a limit.
    row(
        About::Paying,
        Refused(Class::AccountRestricted, Some(Advice::OtherMethod)),
        &[
            "ACQ.SELLER_BEEN_BLOCKED",
            "ACQ.MERCHANT_STATUS_NOT_NORMAL",
            "ACQ.MERCHANT_PERM_RECEIPT_SUSPEND_LIMIT",
            "ACQ.SECONDARY_MERCHANT_STATUS_ERROR",
            "ACQ.BEYOND_PAY_RESTRICTION",
            "ACQ.BEYOND_PER_RECEIPT_RESTRICTION",
            "ACQ.BEYOND_PER_RECEIPT_DAY_RESTRICTION",
            "ACQ.BEYOND_PER_RECEIPT_SINGLE_RESTRICTION",
            "ACQ.MERCHANT_PERM_RECEIPT_DAY_LIMIT",
            "ACQ.MERCHANT_PERM_RECEIPT_SINGLE_LIMIT",
            "ACQ.PRODUCT_AMOUNT_LIMIT_ERROR",
            "ACQ.RESTRICTED_MERCHANT_INDUSTRY",
        ],
    ),
    // The buyer can change something: the funds, a setting, the code on the screen.
    row(
        About::Paying,
        Refused(Class::User, Some(Advice::CheckBalance)),
        &[
            "ACQ.BUYER_BALANCE_NOT_ENOUGH",
            "ACQ.BUYER_BANKCARD_BALANCE_NOT_ENOUGH",
            "ACQ.BUYER_PAYMENT_AMOUNT_DAY_LIMIT_ERROR",
            "ACQ.BUYER_PAYMENT_AMOUNT_MONTH_LIMIT_ERROR",
        ],
    ),
    row(
        About::Paying,
        Refused(Class::User, Some(Advice::OtherMethod)),
        &[
            "ACQ.ERROR_BALANCE_PAYMENT_DISABLE",
            "ACQ.NO_PAYMENT_INSTRUMENTS_AVAILABLE",
            "ACQ.MOBILE_PAYMENT_SWITCH_OFF",
            "ACQ.USER_FACE_PAYMENT_SWITCH_OFF",
            "ACQ.NOT_SUPPORT_PAYMENT_INST",
        ],
    ),
    row(
        About::Paying,
        Refused(Class::User, Some(Advice::Rescan)),
        &["ACQ.PAYMENT_AUTH_CODE_INVALID", "ACQ.PULL_MOBILE_CASHIER_FAIL", "ACQ.CERT_EXPIRED"],
    ),
    row(
        About::Paying,
        Refused(Class::DeclinedSoft, Some(Advice::OtherMethod)),
        &["ACQ.PAYMENT_FAIL"],
    ),
    row(
        About::Paying,
        Refused(Class::Verification, Some(Advice::Verify)),
        &[
            "ACQ.ERROR_BUYER_CERTIFY_LEVEL_LIMIT",
            "ACQ.NOT_CERTIFIED_USER",
            "ACQ.AGREEMENT_NOT_EXIST",
            "ACQ.AGREEMENT_INVALID",
            "ACQ.AGREEMENT_STATUS_NOT_NORMAL",
            "ACQ.ZM_AUTH_AMOUNT_EXCEED",
        ],
    ),
    // The buyer can change nothing.
    row(
        About::Paying,
        Refused(Class::DeclinedFraud, Some(Advice::OtherMethod)),
        &["ACQ.PAYMENT_REQUEST_HAS_RISK"],
    ),
    row(
        About::Paying,
        Refused(Class::DeclinedHard, Some(Advice::OtherMethod)),
        &[
            "ACQ.BUYER_ENABLE_STATUS_FORBID",
            "ACQ.BUYER_SELLER_EQUAL",
            "ACQ.BUYER_NOT_EXIST",
            "ACQ.BUYER_NOT_MAINLAND_CERT",
            "ACQ.PAYER_UNMATCHED",
            "ACQ.USER_LOGONID_DUP",
        ],
    ),
    // A refund that this trade, or this amount, does not allow.
    row(
        About::Refunding,
        Refused(Class::User, None),
        &[
            "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL",
            "ACQ.REFUND_FEE_ERROR",
            "ACQ.REASON_TRADE_REFUND_FEE_ERR",
            "ACQ.NOT_ALLOW_PARTIAL_REFUND",
            "ACQ.TRADE_NOT_ALLOW_REFUND",
            "ACQ.TRADE_STATUS_ERROR",
            "ACQ.REASON_TRADE_STATUS_INVALID",
            "ACQ.ONLINE_TRADE_VOUCHER_NOT_ALLOW_REFUND",
            "ACQ.ALLOC_AMOUNT_VALIDATE_ERROR",
        ],
    ),
    row(
        About::Refunding,
        Refused(Class::DeclinedHard, None),
        &[
            "ACQ.BUYER_ERROR",
            "ACQ.CUSTOMER_VALIDATE_ERROR",
            "ACQ.REASON_TRADE_BEEN_FREEZEN",
            "ACQ.REFUND_ACCOUNT_NOT_EXIST",
            "ACQ.REFUND_ROYALTY_PAYEE_ACCOUNT_NOT_EXIST",
        ],
    ),
    row(About::Refunding, Waits(Class::AccountRestricted), &["ACQ.SELLER_BALANCE_NOT_ENOUGH"]),
    // Alipay itself can't tell. AQC is a misspelling that it really sends.
    row(
        About::Anything,
        Doubt(Class::ProviderDown),
        &[
            "20000:isp.unknow-error",
            "20000:aop.unknow-error",
            "ACQ.SYSTEM_ERROR",
            "AOP.SYSTEM_ERROR",
            "AQC.SYSTEM_ERROR",
            "ACQ.REFUND_CHARGE_ERROR",
            "ACQ.ENTERPRISE_PAY_BIZ_ERROR",
        ],
    ),
    // The number is in use already: by our own earlier copy, as far as we know.
    row(
        About::Anything,
        Doubt(Class::Duplicate),
        &[
            "ACQ.TRADE_HAS_SUCCESS",
            "ACQ.TRADE_HAS_FINISHED",
            "ACQ.TRADE_HAS_CLOSE",
            "ACQ.CONTEXT_INCONSISTENT",
            "ACQ.TRADE_BUYER_NOT_MATCH",
            "ACQ.DISCORDANT_REPEAT_REQUEST",
        ],
    ),
    // A request that we built wrongly. Nothing promises that an earlier copy was refused too.
    row(
        About::Anything,
        Doubt(Class::Config),
        &[
            "40001:isv.missing-method",
            "40001:isv.missing-signature",
            "40001:isv.missing-signature-type",
            "40001:isv.missing-app-id",
            "40001:isv.missing-timestamp",
            "40001:isv.missing-version",
            "40002:isv.invalid-parameter",
            "40002:isv.invalid-method",
            "40002:isv.invalid-format",
            "40002:isv.invalid-timestamp",
            "40002:isv.invalid-charset",
            "ACQ.INVALID_PARAMETER",
            "ACQ.EXIST_FORBIDDEN_WORD",
            "ACQ.TOTAL_FEE_EXCEED",
            "ACQ.AMOUNT_OR_CURRENCY_ERROR",
            "ACQ.AUTH_TOKEN_IS_NOT_EXIST",
            "ACQ.NOW_TIME_AFTER_EXPIRE_TIME_ERROR",
            "ACQ.RISK_MERCHANT_IP_NOT_EXIST",
            "ACQ.SUB_GOODS_SIZE_MAX_COUNT",
            "ACQ.REQUEST_AMOUNT_EXCEED",
            "ACQ.TRADE_SETTLE_ERROR",
        ],
    ),
    // A cancel that came too late: only a refund can give the money back.
    row(
        About::Anything,
        Doubt(Class::NotSupported),
        &["ACQ.CANCEL_NOT_ALLOWED", "ACQ.TRADE_CANCEL_TIME_OUT"],
    ),
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
        let declared: BTreeSet<&str> =
            manifest.contract.proof_codes.iter().map(String::as_str).collect();
        let refused: BTreeSet<&str> = ROWS
            .iter()
            .filter(|row| matches!(row.verdict, Refused(..)))
            .flat_map(|row| row.codes.iter().copied())
            .collect();
        assert_eq!(declared, refused);
        assert_eq!(declared.len(), manifest.contract.proof_codes.len(), "a code is listed twice");
        assert!(declared.iter().all(|code| !code.contains('*')));
    }

    #[test]
    fn no_code_has_two_meanings() {
        let mut seen = BTreeSet::new();
        for code in ROWS.iter().flat_map(|row| row.codes) {
            assert!(seen.insert(code), "{code}");
        }
    }

    #[test]
    fn a_refusal_settles_only_what_it_was_documented_for() {
        let refuses = |purpose, outer, code| matches!(judge(purpose, outer, code), Refused(..));
        assert!(refuses(Purpose::Pay, "40004", "ACQ.PAYMENT_FAIL"));
        assert!(!refuses(Purpose::Pay, "20000", "ACQ.PAYMENT_FAIL"));
        assert!(!refuses(Purpose::Refund, "40004", "ACQ.PAYMENT_FAIL"));
        assert!(!refuses(Purpose::Query, "40004", "ACQ.PAYMENT_FAIL"));
        assert!(!refuses(Purpose::Pay, "40004", "ACQ.TRADE_STATUS_ERROR"));
        assert!(refuses(Purpose::Refund, "40004", "ACQ.TRADE_STATUS_ERROR"));
        for purpose in [Purpose::Query, Purpose::Close, Purpose::Cancel, Purpose::RefundQuery] {
            for code in ROWS.iter().flat_map(|row| row.codes) {
                let outer = code.split_once(':').map_or("40004", |(outer, _)| outer);
                assert!(matches!(judge(purpose, outer, code), Doubt(_)), "{purpose:?} {code}");
            }
        }
    }
}
