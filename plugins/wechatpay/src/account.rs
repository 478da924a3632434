//! One account: its settings, who it is to WeChat Pay, and whose signatures it believes.

use std::collections::BTreeMap;

use interlock_plugin_api::Fault;
use serde::Deserialize;

use crate::wire::Purpose;

/// The host's name of the current key of WeChat Pay.
const PUBLIC_KEY: &str = "wechatpay_public_key";
/// And of the one that follows it.
const NEXT_PUBLIC_KEY: &str = "next_wechatpay_public_key";
/// The ring of platform certificates.
pub const RING: &str = "platform";
/// How long an order may live, s.
const OFFER_SECONDS: std::ops::RangeInclusive<i64> = 60..=7_776_000;

/// One account at WeChat Pay.
#[derive(Debug, Deserialize)]
pub struct WeChatPay {
    #[serde(default)]
    pub(crate) appid: String,
    #[serde(default)]
    pub(crate) mchid: String,
    #[serde(default)]
    pub(crate) serial_no: String,
    pub(crate) public_key_id: Option<String>,
    next_public_key_id: Option<String>,
    #[serde(default)]
    platform_certificates: bool,
    pub(crate) sub_mchid: Option<String>,
    sub_appid: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) offer_seconds: Option<i64>,
    #[serde(default = "store_id")]
    pub(crate) store_id: String,
    #[serde(default = "h5_type")]
    pub(crate) h5_type: String,
    pub(crate) h5_app_name: Option<String>,
    pub(crate) h5_url: Option<String>,
    #[serde(default)]
    pub(crate) statement: Statement,
}

/// Which bill of a day is downloaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Statement {
    /// Orders and refunds.
    #[default]
    Trade,
    /// What flowed through the merchant's account.
    FundFlow,
}

impl Statement {
    /// How it is asked for.
    pub(crate) fn purpose(self) -> Purpose {
        match self {
            Self::Trade => Purpose::Bill,
            Self::FundFlow => Purpose::FundFlow,
        }
    }
}

fn store_id() -> String {
    "0001".into()
}

fn h5_type() -> String {
    "Wap".into()
}

impl WeChatPay {
    /// Reads the account's settings.
    pub(crate) fn read(config: &serde_json::Value) -> Result<Self, Fault> {
        let account = Self::deserialize(config)
            .map_err(|_| Fault::config("a setting is of another type or no known word"))?;
        let fits = |s: &Option<String>, good: fn(&str) -> bool| s.as_deref().is_none_or(good);
        let named = |s: &str| !s.trim().is_empty();
        let checks = [
            (is_id(&account.appid), "`appid` is required, letters and digits"),
            (is_mchid(&account.mchid), "`mchid` is required, digits"),
            (is_serial(&account.serial_no), "`serial_no` is required, upper case hexadecimal"),
            (fits(&account.public_key_id, is_key_id), "`public_key_id` is no PUB_KEY_ID_..."),
            (
                fits(&account.next_public_key_id, is_key_id),
                "`next_public_key_id` is no PUB_KEY_ID_...",
            ),
            (
                account.public_key_id.is_some() || account.platform_certificates,
                "neither `public_key_id` nor `platform_certificates` is set, so no answer could \
                 be believed",
            ),
            (fits(&account.sub_mchid, is_mchid), "`sub_mchid` is not of digits"),
            (fits(&account.sub_appid, is_id), "`sub_appid` is not of letters and digits"),
            (
                account.sub_appid.is_none() || account.sub_mchid.is_some(),
                "`sub_appid` means nothing without `sub_mchid`",
            ),
            (fits(&account.description, named), "`description` is empty"),
            (
                account.offer_seconds.is_none_or(|s| OFFER_SECONDS.contains(&s)),
                "`offer_seconds` is not from 60 to 7776000",
            ),
            (named(&account.store_id), "`store_id` is empty"),
            (named(&account.h5_type), "`h5_type` is empty"),
            (
                account.sub_mchid.is_none() || account.statement == Statement::Trade,
                "`statement` is `fund_flow`, which a partner gets of its own account only, not of \
                 `sub_mchid`",
            ),
        ];
        match checks.into_iter().find(|(good, _)| !good) {
            Some((_, problem)) => Err(Fault::config(problem)),
            None => Ok(account),
        }
    }

    /// Where its orders are.
    pub(crate) fn orders(&self) -> &'static str {
        match self.sub_mchid {
            Some(_) => "/v3/pay/partner/transactions",
            None => "/v3/pay/transactions",
        }
    }

    /// Who asks, by WeChat Pay's names.
    pub(crate) fn merchant(&self) -> BTreeMap<&'static str, &str> {
        match &self.sub_mchid {
            Some(sub) => BTreeMap::from([("sp_mchid", self.mchid.as_str()), ("sub_mchid", sub)]),
            None => BTreeMap::from([("mchid", self.mchid.as_str())]),
        }
    }

    /// Who asks, and for which application.
    pub(crate) fn merchant_and_app(&self) -> BTreeMap<&'static str, &str> {
        let mut merchant = self.merchant();
        let app = if self.sub_mchid.is_some() { "sp_appid" } else { "appid" };
        merchant.insert(app, &self.appid);
        merchant.extend(self.sub_appid.as_deref().map(|app| ("sub_appid", app)));
        merchant
    }

    /// The application that the shopper uses.
    pub(crate) fn shoppers_appid(&self) -> &str {
        self.sub_appid.as_deref().unwrap_or(&self.appid)
    }

    /// WeChat Pay's name of an openid of that application.
    pub(crate) fn openid(&self) -> &'static str {
        match (&self.sub_mchid, &self.sub_appid) {
            (None, _) => "openid",
            (Some(_), None) => "sp_openid",
            (Some(_), Some(_)) => "sub_openid",
        }
    }

    /// The host's name of the key with this serial number, if its signatures are believed.
    pub(crate) fn key_of(&self, serial: &str) -> Option<String> {
        let is = |id: &Option<String>| id.as_deref() == Some(serial);
        if is(&self.public_key_id) {
            Some(PUBLIC_KEY.into())
        } else if is(&self.next_public_key_id) {
            Some(NEXT_PUBLIC_KEY.into())
        } else if self.platform_certificates && is_serial(serial) {
            Some(format!("{RING}/{serial}"))
        } else {
            None
        }
    }

    /// The secrets without which no answer could be verified.
    pub(crate) fn needed_keys(&self) -> impl Iterator<Item = &'static str> {
        let current = self.public_key_id.as_ref().map(|_| PUBLIC_KEY);
        let next = self.next_public_key_id.as_ref().map(|_| NEXT_PUBLIC_KEY);
        current.into_iter().chain(next)
    }
}

fn is_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn is_mchid(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether this can be the serial number of a certificate.
pub(crate) fn is_serial(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(hex)
}

fn is_key_id(text: &str) -> bool {
    text.strip_prefix("PUB_KEY_ID_").is_some_and(|rest| {
        (1..=64).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}
