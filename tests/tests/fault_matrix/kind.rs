//! The kinds of payments that a matrix crosses with faults: how each is made, and at which of its
//! accounts the faults stand.
//!
//! The fault stands at the first account of a kind's route alone, so the second one shows whether,
//! and when, a payment may go on.

use crate::cell::Operation;
use interlock_tests::house::{barcode, network_token, qr, stored, tokens};
use serde_json::{Value, json};

/// Every cell pays this, minor units.
pub const AMOUNT: i64 = 1_000;
/// Every cell that refunds gives this back, minor units.
pub const REFUND: i64 = 400;

/// A payment by one method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The code on the shopper's screen.
    Barcode,
    /// As `Barcode`, but a switch to a code that we show ends it, not a cancel.
    BarcodeSwitch,
    /// A code that we show.
    Qr,
    /// As `Qr`, but a switch to the shopper's own code ends it, not a cancel.
    QrSwitch,
    /// A decrypted network token, captured at once or by us.
    Token(Capture),
    /// A stored token at each account.
    Stored(Capture),
    /// As `Token`, at the processor that can't be asked first.
    AdyenToken(Capture),
    /// As `Stored`, there first.
    AdyenStored(Capture),
    /// As `Token`, at the processor that tokenizes first and whose silence proves nothing.
    StripeToken(Capture),
    /// As `Stored`, there first.
    StripeStored(Capture),
    /// The code on the shopper's screen, in a wallet whose refusals prove little.
    WechatBarcode,
    /// A code that we show, in the same wallet.
    WechatQr,
    /// A page on which the shopper approves, and that we go on with.
    Paypal(Capture),
}

/// When a card is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capture {
    /// By the provider, at once.
    Automatic,
    /// By us, later.
    Manual,
}

use Capture::{Automatic, Manual};

/// All kinds whose providers can be asked.
pub const ALL: [Kind; 6] = [
    Kind::Barcode,
    Kind::Qr,
    Kind::Token(Automatic),
    Kind::Token(Manual),
    Kind::Stored(Automatic),
    Kind::Stored(Manual),
];
/// Wallets beside them.
pub const WALLETS: [Kind; 2] = [Kind::WechatBarcode, Kind::WechatQr];
/// What has one account only, and is approved before it is paid.
pub const APPROVED: [Kind; 2] = [Kind::Paypal(Automatic), Kind::Paypal(Manual)];
/// All kinds whose first provider can't be asked.
pub const ADYEN: [Kind; 4] = [
    Kind::AdyenToken(Automatic),
    Kind::AdyenToken(Manual),
    Kind::AdyenStored(Automatic),
    Kind::AdyenStored(Manual),
];
/// All kinds whose first provider can be asked, and never proves an absence.
pub const STRIPE: [Kind; 4] = [
    Kind::StripeToken(Automatic),
    Kind::StripeToken(Manual),
    Kind::StripeStored(Automatic),
    Kind::StripeStored(Manual),
];
/// Those that are held first.
pub const MANUAL: [Kind; 7] = [
    Kind::Token(Manual),
    Kind::Stored(Manual),
    Kind::AdyenToken(Manual),
    Kind::AdyenStored(Manual),
    Kind::StripeToken(Manual),
    Kind::StripeStored(Manual),
    Kind::Paypal(Manual),
];
/// Those that are open and can be closed.
pub const CLOSABLE: [Kind; 6] = [
    Kind::Barcode,
    Kind::BarcodeSwitch,
    Kind::Qr,
    Kind::QrSwitch,
    Kind::WechatBarcode,
    Kind::WechatQr,
];
/// One for each way in which only a notification brings news at once.
pub const NOTIFIED: [Kind; 9] = [
    Kind::Barcode,
    Kind::Qr,
    Kind::Token(Manual),
    Kind::Stored(Automatic),
    Kind::AdyenToken(Manual),
    Kind::AdyenStored(Automatic),
    Kind::StripeToken(Manual),
    Kind::StripeStored(Automatic),
    Kind::WechatQr,
];

impl Kind {
    /// The word in the table.
    pub fn word(self) -> &'static str {
        match self {
            Self::Barcode => "barcode",
            Self::BarcodeSwitch => "barcode-switch",
            Self::Qr => "qr",
            Self::QrSwitch => "qr-switch",
            Self::Token(Automatic) => "token",
            Self::Token(Manual) => "token-manual",
            Self::Stored(Automatic) => "stored",
            Self::Stored(Manual) => "stored-manual",
            Self::AdyenToken(Automatic) => "adyen-token",
            Self::AdyenToken(Manual) => "adyen-token-manual",
            Self::AdyenStored(Automatic) => "adyen-stored",
            Self::AdyenStored(Manual) => "adyen-stored-manual",
            Self::StripeToken(Automatic) => "stripe-token",
            Self::StripeToken(Manual) => "stripe-token-manual",
            Self::StripeStored(Automatic) => "stripe-stored",
            Self::StripeStored(Manual) => "stripe-stored-manual",
            Self::WechatBarcode => "wechat-barcode",
            Self::WechatQr => "wechat-qr",
            Self::Paypal(Automatic) => "paypal",
            Self::Paypal(Manual) => "paypal-manual",
        }
    }

    /// Whether it is a card.
    pub fn is_card(self) -> bool {
        matches!(self, Self::Token(_) | Self::Stored(_)) || self.is_adyen() || self.is_stripe()
    }

    /// Whether its first provider's silence proves nothing.
    pub fn is_stripe(self) -> bool {
        matches!(self, Self::StripeToken(_) | Self::StripeStored(_))
    }

    /// Whether its first provider can't be asked.
    pub fn is_adyen(self) -> bool {
        matches!(self, Self::AdyenToken(_) | Self::AdyenStored(_))
    }

    /// Whether it is an automatic payment by a stored token.
    pub fn is_stored(self) -> bool {
        matches!(
            self,
            Self::Stored(Automatic) | Self::AdyenStored(Automatic) | Self::StripeStored(Automatic)
        )
    }

    /// Whether it shows a code.
    pub fn is_qr(self) -> bool {
        matches!(self, Self::Qr | Self::QrSwitch | Self::WechatQr)
    }

    /// Whether the shopper shows the code.
    pub fn is_barcode(self) -> bool {
        matches!(self, Self::Barcode | Self::BarcodeSwitch | Self::WechatBarcode)
    }

    /// Whether the provider is asked about the payment before this is done with it.
    pub fn looks_first(self, operation: Operation) -> bool {
        self.is_approved() && matches!(operation, Operation::Refund | Operation::Capture)
    }

    /// Whether the shopper approves it first.
    pub fn is_approved(self) -> bool {
        matches!(self, Self::Paypal(_))
    }

    /// The method that it is switched to, if it is.
    pub fn switches_to(self) -> Option<Value> {
        match self {
            Self::BarcodeSwitch => Some(Self::Qr.body("01")["method"].clone()),
            Self::QrSwitch => Some(Self::Barcode.body("01")["method"].clone()),
            _ => None,
        }
    }

    /// Whether we capture it.
    pub fn is_manual(self) -> bool {
        MANUAL.contains(&self)
    }

    /// The account where faults stand.
    pub fn first(self) -> &'static str {
        match self {
            _ if self.is_adyen() => "adyen-eu",
            _ if self.is_stripe() => "stripe-eu",
            _ if self.is_card() => "checkout-eu",
            Self::WechatBarcode | Self::WechatQr => "wechat-main",
            Self::Paypal(_) => "paypal-main",
            _ => "alipay-main",
        }
    }

    /// The account that comes next.
    pub fn second(self) -> &'static str {
        match self {
            _ if self.is_card() => "checkout-us",
            Self::WechatBarcode | Self::WechatQr => "wechat-backup",
            Self::Paypal(_) => "nobody",
            _ => "alipay-backup",
        }
    }

    /// The request that makes it. A barcode's `ending` chooses what the shopper does.
    pub fn body(self, ending: &str) -> Value {
        let mut body = match self {
            Self::Barcode | Self::BarcodeSwitch => barcode(AMOUNT, ending),
            Self::Qr | Self::QrSwitch => qr(AMOUNT),
            Self::Token(_) => network_token(AMOUNT, "EUR"),
            Self::Stored(_) => tokens(AMOUNT, "EUR"),
            Self::AdyenToken(_) => network_token(AMOUNT, "GBP"),
            Self::AdyenStored(_) => stored(AMOUNT, "GBP", "M5STORED"),
            Self::StripeToken(_) => network_token(AMOUNT, "SEK"),
            Self::StripeStored(_) => json!({
                "amount": AMOUNT, "currency": "SEK",
                "method": { "type": "card", "tokens": {
                    "stripe-eu": "pm_stored", "checkout-us": "src_stored_us",
                } },
            }),
            Self::WechatBarcode => wechat(json!({
                "flow": "barcode", "auth_code": format!("1312345678901234{ending}"),
            })),
            Self::WechatQr => wechat(json!({ "flow": "qr" })),
            Self::Paypal(_) => json!({
                "amount": AMOUNT, "currency": "EUR", "return_url": "https://shop.example/back",
                "method": { "type": "paypal", "flow": "redirect" },
            }),
        };
        if self.is_manual() {
            body["capture"] = json!("manual");
        }
        body
    }
}

fn wechat(mut method: Value) -> Value {
    method["type"] = "wechat_pay".into();
    json!({ "amount": AMOUNT, "currency": "CNY", "method": method })
}
