//! WeChat Pay's platform certificates: sealed under the APIv3 key, which alone makes them be
//! believed, and one of them must have signed the very answer that brings them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::{Cx, Done, Event, Fault, HostError, ProviderKey, Sealed};
use serde::Deserialize;

use crate::account::{WeChatPay, is_serial};
use crate::wire;

/// The host's name of the APIv3 key.
const API_V3_KEY: &str = "api_v3_key";

#[derive(Deserialize)]
struct Listed {
    data: Vec<Certificate>,
}

#[derive(Deserialize)]
struct Certificate {
    serial_no: String,
    encrypt_certificate: Encrypted,
}

/// Something sealed under the APIv3 key.
#[derive(Deserialize)]
pub struct Encrypted {
    algorithm: String,
    nonce: String,
    associated_data: Option<String>,
    ciphertext: String,
}

impl Encrypted {
    /// What was sealed; `None` when it was not sealed so.
    pub fn opened(&self, cx: &Cx<'_>) -> Result<Option<Vec<u8>>, HostError> {
        let (Ok(ciphertext), "AEAD_AES_256_GCM") =
            (BASE64.decode(&self.ciphertext), self.algorithm.as_str())
        else {
            return Ok(None);
        };
        let sealed = Sealed {
            algorithm: "aes-256-gcm",
            nonce: self.nonce.as_bytes(),
            associated: self.associated_data.as_deref().unwrap_or_default().as_bytes(),
            ciphertext: &ciphertext,
        };
        cx.host.unseal(API_V3_KEY, &sealed)
    }
}

/// The certificates of an answer.
pub fn read(account: &WeChatPay, cx: &Cx<'_>, e: &Event) -> Result<Done, Fault> {
    let listed: Listed =
        wire::object(cx.body).ok_or(Fault::input("the certificates can't be read"))?;
    let mut keys = Vec::new();
    for certificate in listed.data {
        let opened = certificate.encrypt_certificate.opened(cx)?;
        let pem = opened.and_then(|pem| String::from_utf8(pem).ok());
        // What another key sealed is nobody's.
        if let Some(pem) = pem.filter(|_| is_serial(&certificate.serial_no)) {
            keys.push(ProviderKey { id: certificate.serial_no, pem });
        }
    }
    let serial = e.header("wechatpay-serial");
    let good = match keys.iter().find(|key| Some(key.id.as_str()) == serial) {
        Some(key) if key.pem.starts_with("-----BEGIN") => wire::is_signed_by(&key.pem, cx, e)?,
        Some(_) => false,
        None => wire::is_signed(account, cx, e)?,
    };
    match good {
        true => Ok(Done { keys, ..Done::default() }),
        false => Err(Fault::input("none of the certificates signed the answer that brings them")),
    }
}
