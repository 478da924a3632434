//! One order of WeChat Pay, and one refund: what they are made of, and their words on the wire.

use super::wire::Refused;

/// How the shopper is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A QR that the shopper scans.
    Native,
    /// Inside WeChat.
    Jsapi,
    /// Another app.
    App,
    /// A browser on the telephone.
    H5,
    /// The merchant scans the shopper.
    Codepay,
}

impl Way {
    /// WeChat Pay's `trade_type`.
    pub fn trade_type(self) -> &'static str {
        match self {
            Self::Native => "NATIVE",
            Self::Jsapi => "JSAPI",
            Self::App => "APP",
            Self::H5 => "MWEB",
            Self::Codepay => "MICROPAY",
        }
    }
}

/// What a merchant wants to be paid.
#[derive(Debug, Clone)]
pub struct Terms {
    /// How.
    pub way: Way,
    /// The merchant's number.
    pub out_trade_no: String,
    /// Fen.
    pub amount: i64,
    /// What is bought.
    pub description: String,
    /// Handed back as it came.
    pub attach: String,
    /// Where to tell of it.
    pub notify_url: Option<String>,
    /// When it ends, in milliseconds since the epoch.
    pub expires_ms: Option<i64>,
    /// Who pays, when the merchant knows.
    pub openid: Option<String>,
    /// For whom a partner asks.
    pub sub_mchid: Option<String>,
    /// Of the whole body: the same parameters have the same.
    pub fingerprint: [u8; 32],
}

impl Terms {
    /// Of a payment that was made at the portal.
    pub fn of_the_portal(out_trade_no: String, amount: i64) -> Self {
        Self {
            way: Way::Native,
            out_trade_no,
            amount,
            description: "portal".into(),
            attach: String::new(),
            notify_url: None,
            expires_ms: None,
            openid: None,
            sub_mchid: None,
            // No request has it, so that none finds this order its own.
            fingerprint: [0; 32],
        }
    }
}

/// What becomes of a barcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barcode {
    /// Paid at once.
    Pays,
    /// Paid at once, a part of it by a coupon.
    PaysWithCoupon,
    /// The shopper must type the password first.
    Asks,
    /// Refused; the order is there and unpaid.
    Refuses(Refused),
    /// Refused before there is an order.
    Unreadable(Refused),
    /// It failed, and nobody can see whether money moved.
    Fails {
        /// Whether it did.
        charged: bool,
    },
}

/// The state of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody has begun to pay.
    NotPay,
    /// The shopper is at it.
    UserPaying,
    /// Paid.
    Success,
    /// Paid, and a refund was accepted.
    Refund,
    /// Never paid.
    Closed,
    /// A barcode order that was reversed.
    Revoked,
    /// A barcode order that failed; money may have moved.
    PayError,
}

impl State {
    /// WeChat Pay's word and its sentence.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::NotPay => ("NOTPAY", "订单未支付"),
            Self::UserPaying => ("USERPAYING", "需要用户输入支付密码"),
            Self::Success => ("SUCCESS", "支付成功"),
            Self::Refund => ("REFUND", "订单发生过退款，退款详情请查询退款单"),
            Self::Closed => ("CLOSED", "订单已关闭"),
            Self::Revoked => ("REVOKED", "订单已撤销"),
            Self::PayError => ("PAYERROR", "支付失败，请撤销订单重新支付"),
        }
    }

    /// Whether it can still be paid.
    pub fn is_open(self) -> bool {
        matches!(self, Self::NotPay | Self::UserPaying)
    }

    /// Whether money was taken and can be refunded.
    pub fn is_paid(self) -> bool {
        matches!(self, Self::Success | Self::Refund)
    }
}

/// One order.
#[derive(Debug, Clone)]
pub struct Order {
    /// What is to be paid.
    pub terms: Terms,
    /// Its state.
    pub state: State,
    /// Milliseconds since the epoch.
    pub made_ms: i64,
    /// When money was taken, and WeChat Pay's number for that, 28 digits.
    pub paid: Option<(i64, String)>,
    /// Fen that a coupon paid.
    pub coupon: i64,
    /// Fen of refunds that were accepted and did not fail.
    pub refunded: i64,
    /// When the newest offer was made, in milliseconds since the epoch.
    pub offer_ms: i64,
    /// How many refunds were accepted.
    pub refunds: usize,
    /// The shopper was asked and walked away.
    pub left_alone: bool,
}

impl Order {
    /// An order of which nothing has happened yet.
    pub fn new(terms: Terms, now: i64) -> Self {
        Self {
            terms,
            state: State::NotPay,
            made_ms: now,
            paid: None,
            coupon: 0,
            refunded: 0,
            offer_ms: now,
            refunds: 0,
            left_alone: false,
        }
    }

    /// WeChat Pay's number, while money was taken.
    pub fn transaction_id(&self) -> Option<&str> {
        self.paid.as_ref().map(|(_, id)| id.as_str())
    }
}

/// How a refund ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The shopper has the money.
    Success,
    /// The shopper's account cannot take it; the merchant must act.
    Abnormal,
    /// It came to nothing.
    Closed,
}

/// What a merchant wants to give back.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The merchant's number of the order.
    pub out_trade_no: Option<String>,
    /// WeChat Pay's number of the order.
    pub transaction_id: Option<String>,
    /// The merchant's number of the refund.
    pub out_refund_no: String,
    /// Fen.
    pub amount: i64,
    /// Fen of the whole order.
    pub total: i64,
    /// For whom a partner asks.
    pub sub_mchid: Option<String>,
    /// Where to tell of it.
    pub notify_url: Option<String>,
    /// How it will end.
    pub fate: Fate,
    /// Whether the merchant's purse is empty at the first try.
    pub short_at_first: bool,
}

/// One refund.
#[derive(Debug, Clone)]
pub struct Refund {
    /// WeChat Pay's number, 29 digits.
    pub refund_id: String,
    /// The merchant's number.
    pub out_refund_no: String,
    /// The merchant's number of the order.
    pub out_trade_no: String,
    /// Fen.
    pub amount: i64,
    /// Where to tell of it, if not where the order says.
    pub notify_url: Option<String>,
    /// Milliseconds since the epoch.
    pub made_ms: i64,
    /// When it ended.
    pub ended_ms: Option<i64>,
    /// How it ends.
    pub fate: Fate,
}

impl Refund {
    /// WeChat Pay's word.
    pub fn status(&self) -> &'static str {
        match (self.ended_ms, self.fate) {
            (None, _) => "PROCESSING",
            (Some(_), Fate::Success) => "SUCCESS",
            (Some(_), Fate::Abnormal) => "ABNORMAL",
            (Some(_), Fate::Closed) => "CLOSED",
        }
    }
}
