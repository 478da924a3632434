//! What a shopper can do about a failure: a word for the checkout page, and what the page may say
//! in English and Chinese. Both stand in every answer, because an answer is kept under its key and
//! repeated byte for byte to whoever asks in whatever language.

use interlock_plugin_api::Advice;
use serde_json::{Value, json};

/// The advice after a refund that was refused.
pub const ASK_THE_SHOP: &str = "contact_merchant";

/// The word of an advice.
pub fn word(advice: Advice) -> Value {
    serde_json::to_value(advice).unwrap_or(Value::Null)
}

/// What a page may say.
pub fn text(advice: Advice) -> Value {
    let (en, zh) = match advice {
        Advice::Retry => {
            ("The payment was not completed. Please try again.", "支付未完成，请重试。")
        }
        Advice::OtherMethod => (
            "The payment was not completed. Please choose another way to pay.",
            "支付未完成，请更换其他支付方式。",
        ),
        Advice::CheckBalance => (
            "The payment was not completed. Please check your balance or limit.",
            "支付未完成，请检查余额或限额。",
        ),
        Advice::ContactBank => (
            "The payment was not completed. Please contact your bank, or pay another way.",
            "支付未完成，请联系您的银行，或更换支付方式。",
        ),
        Advice::Rescan => (
            "The payment was not completed. Please show a new payment code.",
            "支付未完成，请刷新付款码后重试。",
        ),
        Advice::Verify => (
            "The payment was not completed. Please finish the identity check in your wallet.",
            "支付未完成，请先在钱包中完成身份验证。",
        ),
        Advice::FixData => (
            "The payment was not completed. Please check what you entered.",
            "支付未完成，请检查填写的信息。",
        ),
        Advice::Wait => ("Please wait before you try again.", "请稍候再试。"),
    };
    json!({ "en": en, "zh": zh })
}

/// What a page may say of a refund that was refused.
pub fn of_refund() -> Value {
    json!({
        "en": "The refund was refused. Please contact the shop.",
        "zh": "退款被拒绝，请联系商家。",
    })
}
