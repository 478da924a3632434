//! An account's secrets, held where a plugin can use them by name and never see them.
//!
//! Each is checked for its shape when the account is opened, so that a wrong key is a message at
//! the start and not a failed payment. No error, log line or `Debug` form holds a value.

use std::collections::BTreeMap;
use std::fmt;

use interlock_plugin_api::{Manifest, SecretKind};
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use ring::hmac;
use ring::signature::RsaKeyPair;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::keys;

/// The secrets of one account, by the name under which its plugin uses them.
#[derive(Default)]
pub struct Secrets {
    by_name: BTreeMap<String, Secret>,
}

/// A secret in the form in which it is used.
pub(super) enum Secret {
    Header(SecretString),
    Mac(hmac::Key),
    RsaPrivate(Box<RsaKeyPair>),
    /// PKCS#1 DER.
    RsaPublic(Vec<u8>),
    Aead(Box<LessSafeKey>),
    EcKeyAgreement(Box<p256::SecretKey>),
    RsaKeyTransport(Box<rsa::RsaPrivateKey>),
}

/// A secret that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretError {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secret can't be used, {}: {}", self.problem, self.name)
    }
}

impl std::error::Error for SecretError {}

impl Secrets {
    /// Checks an account's secrets against what the manifest declares.
    ///
    /// # Errors
    /// The first secret that is not declared, missing, given twice or of a wrong shape.
    pub fn of(
        manifest: &Manifest,
        pairs: Vec<(String, SecretString)>,
    ) -> Result<Self, SecretError> {
        Self::checked(&manifest.secrets, &manifest.optional_secrets, pairs)
    }

    /// As [`Secrets::of`], where none may be left out.
    ///
    /// # Errors
    /// As [`Secrets::of`].
    pub fn from_pairs(
        declared: &BTreeMap<String, SecretKind>,
        pairs: Vec<(String, SecretString)>,
    ) -> Result<Self, SecretError> {
        Self::checked(declared, &[], pairs)
    }

    fn checked(
        declared: &BTreeMap<String, SecretKind>,
        optional: &[String],
        pairs: Vec<(String, SecretString)>,
    ) -> Result<Self, SecretError> {
        let mut by_name = BTreeMap::new();
        for (name, value) in pairs {
            let fail = |problem| SecretError { name: name.clone(), problem };
            let kind =
                declared.get(&name).ok_or(fail("the plugin does not use one of this name"))?;
            let secret = shape(*kind, &value).map_err(fail)?;
            if by_name.insert(name.clone(), secret).is_some() {
                return Err(fail("it is given twice"));
            }
        }
        let missing = |name: &&String| !by_name.contains_key(*name) && !optional.contains(name);
        match declared.keys().find(missing) {
            Some(name) => Err(SecretError { name: name.clone(), problem: "it is missing" }),
            None => Ok(Self { by_name }),
        }
    }

    /// A secret that may be put into a header, by its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.by_name.get(name) {
            Some(Secret::Header(value)) => Some(value.expose_secret()),
            _ => None,
        }
    }

    /// Replaces every `{secret:NAME}` in a header's value; the result is wiped when dropped.
    ///
    /// # Errors
    /// A placeholder that has no end, or names no secret of the kind `header`.
    pub fn substitute(&self, value: &str) -> Result<Zeroizing<String>, SecretError> {
        const OPEN: &str = "{secret:";
        let longest = self.by_name.keys().filter_map(|name| self.header(name)).map(str::len).max();
        let places = value.matches(OPEN).count();
        // Reserved at once: growing would leave copies of the secret behind.
        let mut out = Zeroizing::new(String::with_capacity(
            value.len() + places * longest.unwrap_or_default(),
        ));
        let mut rest = value;
        while let Some((before, after)) = rest.split_once(OPEN) {
            let fail = |name: &str, problem| SecretError { name: name.into(), problem };
            let (name, after) =
                after.split_once('}').ok_or(fail("?", "its placeholder has no end"))?;
            let secret = self.header(name);
            out.push_str(before);
            out.push_str(secret.ok_or(fail(name, "no secret for headers has this name"))?);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Secret> {
        self.by_name.get(name)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

fn shape(kind: SecretKind, value: &SecretString) -> Result<Secret, &'static str> {
    let text = value.expose_secret();
    if text.is_empty() {
        return Err("it is empty");
    }
    match kind {
        SecretKind::Header if !text.bytes().all(|b| (0x20..0x7f).contains(&b)) => {
            Err("a header can't hold its characters (a line end, perhaps)")
        }
        SecretKind::Header if text.trim() != text => Err("it begins or ends with a space"),
        SecretKind::Header => Ok(Secret::Header(value.clone())),
        SecretKind::Mac => Ok(Secret::Mac(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()))),
        SecretKind::MacHex => {
            let bytes = hex::decode(text).map_err(|_| "it is not hexadecimal")?;
            Ok(Secret::Mac(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
        }
        SecretKind::RsaPrivate => {
            keys::rsa_private(text).map(|pair| Secret::RsaPrivate(Box::new(pair)))
        }
        SecretKind::RsaPublic => keys::rsa_public(text).map(Secret::RsaPublic),
        SecretKind::Aead => {
            let key = UnboundKey::new(&AES_256_GCM, text.as_bytes());
            let key = key.map_err(|_| "it does not have 32 characters")?;
            Ok(Secret::Aead(Box::new(LessSafeKey::new(key))))
        }
        SecretKind::EcKeyAgreement => {
            keys::ec_private(text).map(|key| Secret::EcKeyAgreement(Box::new(key)))
        }
        SecretKind::RsaKeyTransport => {
            keys::rsa_transport(text).map(|key| Secret::RsaKeyTransport(Box::new(key)))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_is_replaced_wherever_it_stands() {
        let secrets = secrets(&[("key", SecretKind::Header, "sk_1"), ("m", SecretKind::Mac, "x")]);
        let put = |value| secrets.unwrap_ref().substitute(value).map(|s| s.to_string());
        assert_eq!(put("Bearer {secret:key}"), Ok("Bearer sk_1".into()));
        assert_eq!(put("{secret:key}{secret:key}!"), Ok("sk_1sk_1!".into()));
        assert_eq!(put("plain {x}"), Ok("plain {x}".into()));
        assert_eq!(put("{secret:m}").unwrap_err().name, "m");
        assert_eq!(put("{secret:other}").unwrap_err().name, "other");
        assert!(put("{secret:key").is_err());
        assert_eq!(format!("{:?}", secrets.unwrap_ref()), r#"{"key", "m"}"#);
    }

    #[test]
    fn a_wrong_secret_is_named_and_its_value_is_not() {
        for (kind, value, problem) in [
            (SecretKind::Header, "hush\n", "a line end"),
            (SecretKind::Header, " hush", "a space"),
            (SecretKind::Mac, "", "empty"),
            (SecretKind::MacHex, "hush", "not hexadecimal"),
            (SecretKind::RsaPrivate, "hush", "not PEM"),
            (SecretKind::RsaPrivate, "-----BEGIN PRIVATE KEY-----\nhush", "no matching end"),
            (
                SecretKind::RsaPrivate,
                "-----BEGIN PRIVATE KEY-----\nhush!\n-----END PRIVATE KEY-----",
                "not base64",
            ),
            (
                SecretKind::RsaPrivate,
                "-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----",
                "not a sound RSA private key",
            ),
            (
                SecretKind::EcKeyAgreement,
                "-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----",
                "not a private key on the curve P-256",
            ),
            (
                SecretKind::RsaKeyTransport,
                "-----BEGIN RSA PRIVATE KEY-----\nhush\n-----END RSA PRIVATE KEY-----",
                "not a sound RSA private key",
            ),
            (
                SecretKind::RsaPublic,
                "-----BEGIN PUBLIC KEY-----\nhush\n-----END PUBLIC KEY-----",
                "not an RSA public key",
            ),
            (
                SecretKind::RsaPublic,
                "-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----",
                "private key",
            ),
        ] {
            let error = secrets(&[("name", kind, value)]).0.unwrap_err();
            let text = error.to_string();
            assert!(text.contains(problem) && text.ends_with(": name"), "{text}");
            assert!(!text.contains("hush"), "{text}");
        }
    }

    #[test]
    fn an_account_gives_each_declared_secret_once_and_no_other() {
        let declared = BTreeMap::from([("a".to_owned(), SecretKind::Mac)]);
        let open = |names: &[&str]| {
            let pairs = names.iter().map(|n| (n.to_string(), SecretString::from("v"))).collect();
            Secrets::from_pairs(&declared, pairs).map_err(|e| e.to_string())
        };
        assert!(open(&["a"]).is_ok());
        assert_eq!(open(&[]).unwrap_err(), "secret can't be used, it is missing: a");
        assert!(open(&["a", "a"]).unwrap_err().contains("given twice"));
        assert!(open(&["a", "b"]).unwrap_err().contains("does not use"));
    }

    struct Opened(Result<Secrets, SecretError>);

    impl Opened {
        fn unwrap_ref(&self) -> &Secrets {
            self.0.as_ref().unwrap()
        }
    }

    fn secrets(list: &[(&str, SecretKind, &str)]) -> Opened {
        let declared = list.iter().map(|(n, k, _)| (n.to_string(), *k)).collect();
        let pairs = list.iter().map(|(n, _, v)| (n.to_string(), SecretString::from(*v))).collect();
        Opened(Secrets::from_pairs(&declared, pairs))
    }
}
