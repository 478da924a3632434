//! How PayPal's webhooks are signed: a certificate that anybody can fetch, and a CRC of the body.
//!
//! The certificate names the real host, although nobody listens there: whoever verifies takes the
//! path of `PAYPAL-CERT-URL` to the endpoint that it is configured with. The authority and the
//! certificate come from their keys alone, so that both are the same after every start.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use ring::digest;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::wire::{fresh_uuid, second};
use crate::courier::{Notice, Seal};
use crate::faults::Operation;
use crate::keys::{self, KeyError, Signer};

const CERTS: &str = "https://api.sandbox.paypal.com/v1/notifications/certs/";
const ALGORITHM: &str = "SHA256withRSA";

/// Signs webhooks, and knows its own signatures again.
pub struct Stamp {
    signer: Signer,
    webhook_id: String,
    /// `CERT-` and what follows.
    cert_id: String,
    /// The certificate and its authority's, as PEM.
    chain: String,
}

/// What a stamp is made of.
pub struct Blank<'a> {
    /// PEM; signs webhooks.
    pub private_key: &'a str,
    /// PEM; signs the certificate.
    pub ca_private_key: &'a str,
    /// Whom the certificate is for.
    pub name: &'a str,
    /// The webhook's id.
    pub webhook_id: &'a str,
}

/// The body of a request to verify a signature, with the event's raw text.
#[derive(Deserialize)]
struct Postback<'a> {
    auth_algo: String,
    cert_url: String,
    transmission_id: String,
    transmission_sig: String,
    transmission_time: String,
    webhook_id: String,
    #[serde(borrow)]
    webhook_event: &'a RawValue,
}

impl Stamp {
    /// Makes the certificate.
    ///
    /// # Errors
    /// A key is unreadable, or the name cannot be written into a certificate.
    pub fn make(blank: &Blank<'_>) -> Result<Self, KeyError> {
        let signer = Signer::read(blank.private_key)?;
        let (ca, ca_pem) = authority(blank.ca_private_key)?;
        let key = key_pair(blank.private_key)?;
        let params = CertificateParams::new(vec![blank.name.to_owned()]);
        let mut params = params.map_err(not_made)?;
        let mark = digest::digest(&digest::SHA256, blank.name.as_bytes());
        params.serial_number = Some(SerialNumber::from(mark.as_ref()[..8].to_vec()));
        params.not_before = date_time_ymd(2024, 1, 1);
        params.not_after = date_time_ymd(2049, 12, 31);
        params.distinguished_name.push(DnType::CommonName, blank.name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &ca).map_err(not_made)?;
        let print = hex::encode(digest::digest(&digest::SHA256, certificate.der()));
        Ok(Self {
            signer,
            webhook_id: blank.webhook_id.into(),
            cert_id: format!("CERT-{}-{}-{}", &print[..8], &print[8..16], &print[16..24]),
            chain: format!("{}{ca_pem}", certificate.pem()),
        })
    }

    /// The PEM chain of the certificate with this id.
    pub fn chain(&self, cert_id: &str) -> Option<&str> {
        (cert_id == self.cert_id).then_some(&self.chain)
    }

    /// The webhook with this body, ready to go.
    pub fn notice(&self, (url, cause): (&str, Operation), body: String, now: i64) -> Notice {
        let (id, time) = (fresh_uuid(), second(now));
        let signature = self.sign(&id, &time, body.as_bytes());
        Notice {
            url: url.into(),
            cause,
            content_type: "application/json",
            headers: vec![
                ("PAYPAL-TRANSMISSION-ID", id),
                ("PAYPAL-TRANSMISSION-TIME", time),
                ("PAYPAL-CERT-URL", self.cert_url()),
                ("PAYPAL-AUTH-ALGO", ALGORITHM.into()),
                ("PAYPAL-AUTH-VERSION", "v2".into()),
            ],
            body,
            seal: Seal::Header("PAYPAL-TRANSMISSION-SIG", signature),
            wants: None,
        }
    }

    /// Whether the postback names a webhook that was signed here; `None` when a member is missing.
    pub fn verifies(&self, body: &[u8]) -> Option<bool> {
        let asked: Postback<'_> = serde_json::from_slice(body).ok()?;
        let event = asked.webhook_event.get().as_bytes();
        // The scheme has one signature for each content.
        let own = self.sign(&asked.transmission_id, &asked.transmission_time, event);
        Some(
            asked.auth_algo == ALGORITHM
                && asked.cert_url == self.cert_url()
                && asked.webhook_id == self.webhook_id
                && asked.transmission_sig == own,
        )
    }

    fn sign(&self, id: &str, time: &str, body: &[u8]) -> String {
        let sum = crc32fast::hash(body);
        self.signer.sign(format!("{id}|{time}|{}|{sum}", self.webhook_id).as_bytes())
    }

    fn cert_url(&self) -> String {
        format!("{CERTS}{}", self.cert_id)
    }
}

/// The certificate of the authority with this private key, as PEM. It is the same every time.
///
/// # Errors
/// The key is unreadable.
pub fn ca_pem(private_pem: &str) -> Result<String, KeyError> {
    authority(private_pem).map(|(_, pem)| pem)
}

/// Writes the pairs `webhook` and `webhook_ca` into `folder`, and beside them `webhook_ca.pem`,
/// the certificate that a verifier must trust. Pairs that are there stay; answers how many were
/// made.
///
/// # Errors
/// `NotMade`, `NotWritten`, and `Unreadable` for a pair that was there.
pub fn write_webhook_keys(folder: &Path) -> Result<usize, KeyError> {
    let made = keys::write_pairs(folder, &["webhook", "webhook_ca"])?;
    let not_written = |e: std::io::Error| KeyError::NotWritten(e.to_string());
    let private = fs::read_to_string(folder.join("webhook_ca_private.pem")).map_err(not_written)?;
    fs::write(folder.join("webhook_ca.pem"), ca_pem(&private)?).map_err(not_written)?;
    Ok(made)
}

fn authority(private_pem: &str) -> Result<(Issuer<'static, KeyPair>, String), KeyError> {
    let key = key_pair(private_pem)?;
    let mut params = CertificateParams::new(Vec::new()).map_err(not_made)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.serial_number = Some(SerialNumber::from(1_u64));
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    params.distinguished_name.push(DnType::CommonName, "Interlock Sandbox Webhook Authority");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pem = params.self_signed(&key).map_err(not_made)?.pem();
    Ok((Issuer::new(params, key), pem))
}

fn key_pair(private_pem: &str) -> Result<KeyPair, KeyError> {
    let der = keys::private_der(private_pem).ok_or(KeyError::Unreadable("webhook key"))?;
    KeyPair::try_from(der.as_bytes()).map_err(not_made)
}

fn not_made(why: rcgen::Error) -> KeyError {
    KeyError::NotMade(why.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use serde_json::json;

    use super::*;
    use crate::keys::{FreshPair, Verifier, fresh_pair};

    #[test]
    fn the_sum_is_an_unsigned_decimal_of_the_raw_bytes() {
        // The check value of CRC-32.
        assert_eq!(crc32fast::hash(b"123456789"), 3_421_780_262);
        let notice = stamp("id").notice(("", Operation::Refund), "{\"a\": 1}".into(), 1_000);
        let header =
            |name: &str| notice.headers.iter().find(|(n, _)| *n == name).unwrap().1.clone();
        let sum = crc32fast::hash(b"{\"a\": 1}");
        let content = format!("{}|1970-01-01T00:00:01Z|id|{sum}", header("PAYPAL-TRANSMISSION-ID"));
        let Seal::Header(_, signature) = &notice.seal else { unreachable!() };
        let key = Verifier::read(&pairs().0.public_pem).unwrap();
        assert!(key.verifies(content.as_bytes(), signature));
    }

    #[test]
    fn a_postback_is_verified_over_the_raw_event_and_all_its_members() {
        let stamp = stamp("id");
        let event = "{\"b\": 1,  \"a\":\"\u{e9}\"}";
        let notice = stamp.notice(("", Operation::Refund), event.into(), 1_000);
        let Seal::Header(_, signature) = &notice.seal else { unreachable!() };
        let mut asked = json!({
            "auth_algo": "SHA256withRSA",
            "cert_url": stamp.cert_url(),
            "transmission_id": notice.headers[0].1,
            "transmission_sig": signature,
            "transmission_time": notice.headers[1].1,
            "webhook_id": "id",
        });
        let text = |asked: &serde_json::Value, event: &str| {
            let mut text = asked.to_string();
            text.truncate(text.len() - 1);
            format!("{text},\"webhook_event\": {event} }}")
        };
        assert_eq!(stamp.verifies(text(&asked, event).as_bytes()), Some(true));
        let other = event.replace("  ", " ");
        assert_eq!(stamp.verifies(text(&asked, &other).as_bytes()), Some(false), "other bytes");
        assert_eq!(stamp.verifies(asked.to_string().as_bytes()), None, "no event");
        let names = ["auth_algo", "cert_url", "transmission_id", "transmission_time", "webhook_id"];
        for name in names {
            let kept = std::mem::replace(&mut asked[name], "other".into());
            assert_eq!(stamp.verifies(text(&asked, event).as_bytes()), Some(false), "{name}");
            asked[name] = kept;
        }
    }

    #[test]
    fn the_authority_and_the_certificate_stay_the_same() {
        let key = &pairs().1.private_pem;
        assert_eq!(ca_pem(key).unwrap(), ca_pem(key).unwrap());
        let (one, two) = (stamp("id"), stamp("id"));
        assert_eq!(one.chain(&one.cert_id), two.chain(&one.cert_id));
        assert!(one.chain(&one.cert_id).unwrap().ends_with(&ca_pem(key).unwrap()));
        assert_eq!(one.chain("CERT-other"), None);
    }

    fn pairs() -> &'static (FreshPair, FreshPair) {
        static PAIRS: OnceLock<(FreshPair, FreshPair)> = OnceLock::new();
        PAIRS.get_or_init(|| (fresh_pair().unwrap(), fresh_pair().unwrap()))
    }

    fn stamp(webhook_id: &str) -> Stamp {
        let (own, ca) = pairs();
        let blank = Blank {
            private_key: &own.private_pem,
            ca_private_key: &ca.private_pem,
            name: "messageverificationcerts.sandbox.paypal.com",
            webhook_id,
        };
        Stamp::make(&blank).unwrap()
    }
}
