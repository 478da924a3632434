//! The account's settings: who the merchant is, and which protocols and keys it takes.

use interlock_plugin_api::Fault;
use serde_json::Value;

use crate::roots::Roots;
use crate::token::Protocol;

const KEYS: &str = "/paymentmethodtoken/keys.json";
const TEST_KEYS: &str = "/paymentmethodtoken/test/keys.json";
/// Whom Google's test environment signs for, whoever asks.
const TEST_RECIPIENT: &str = "merchant:12345678901234567890";
const RECIPIENT_BYTES_MAX: usize = 256;

/// What a token is judged by.
pub(crate) struct Settings {
    /// Whom tokens must be signed for.
    pub(crate) recipient_id: String,
    /// Which merchant of a gateway they must be made for, if any.
    pub(crate) gateway_merchant_id: Option<String>,
    /// Which protocols are taken: any other would be a downgrade.
    pub(crate) protocols: Vec<Protocol>,
    /// Stand in when Google's can't be read.
    pub(crate) root_keys: Option<Roots>,
    test: bool,
}

impl Settings {
    /// Reads an account's configuration.
    pub(crate) fn read(config: &Value) -> Result<Self, Fault> {
        if !(config.is_object() || config.is_null()) {
            return Err(Fault::config("the configuration is not an object"));
        }
        let text = |name: &str, wrong: &'static str| match config.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.trim())),
            Some(_) => Err(Fault::config(wrong)),
        };
        let test = match config.get("test") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(test)) => *test,
            Some(_) => return Err(Fault::config("`test` must be true or false")),
        };
        let merchant = text("merchant_id", "`merchant_id` must be a text")?;
        let recipient = text("recipient_id", "`recipient_id` must be a text")?;
        let recipient_id = match (merchant, recipient) {
            (Some(_), Some(_)) => {
                return Err(Fault::config("give `merchant_id` or `recipient_id`, not both"));
            }
            (Some(merchant), None) => format!("merchant:{merchant}"),
            (None, Some(recipient)) => recipient.to_owned(),
            (None, None) if test => TEST_RECIPIENT.to_owned(),
            (None, None) => return Err(Fault::config("`merchant_id` is missing")),
        };
        if recipient_id.len() > RECIPIENT_BYTES_MAX {
            return Err(Fault::config("`merchant_id` or `recipient_id` is too long"));
        }
        let gateway = text("gateway_merchant_id", "`gateway_merchant_id` must be a text")?;
        let pinned = text("root_keys", "`root_keys` must be a text")?.map(|keys| {
            Roots::pinned(keys).ok_or(Fault::config("`root_keys` is not a file of public keys"))
        });
        Ok(Self {
            recipient_id,
            gateway_merchant_id: gateway.map(str::to_owned),
            protocols: protocols(text("protocols", "`protocols` must be a text")?)?,
            root_keys: pinned.transpose()?,
            test,
        })
    }

    /// Where Google publishes its keys.
    pub(crate) fn keys_path(&self) -> &'static str {
        if self.test { TEST_KEYS } else { KEYS }
    }
}

fn protocols(given: Option<&str>) -> Result<Vec<Protocol>, Fault> {
    const UNKNOWN: Fault =
        Fault::config("`protocols` names `ECv1`, `ECv2` and `ECv2SigningOnly`, between commas");
    let names = given.unwrap_or(Protocol::EcV2.name()).split(',');
    names.map(|name| Protocol::of(name.trim()).ok_or(UNKNOWN)).collect()
}
