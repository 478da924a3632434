//! Who calls, and what they may do: keys that are kept as hashes, scopes of merchants, roles of
//! operators.
//!
//! A key is 256 random bits in words, so one SHA-256 hides it as well as any slow hash would, and
//! a request costs no more than that before it is known; slow hashes protect what people make up,
//! and would let strangers spend our time. What is presented is hashed once and compared with
//! every hash that is known, each in constant time: the time tells neither whose key was near nor
//! how near it was. A key that the file holds in clear is hashed when it is read, so the process
//! keeps hashes only.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

/// Every key that this program makes begins so, for those who search logs for leaked ones.
const KEY_PREFIX: &str = "ilk_";
/// How a hash is written.
const HASH_PREFIX: &str = "sha256:";

/// SHA-256 of a key or of a public key, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of a key.
    pub fn of(key: &[u8]) -> Hash {
        let mut hash = Hash([0; 32]);
        hash.0.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, key).as_ref());
        hash
    }

    /// The hash of a certificate's public key (`SubjectPublicKeyInfo`); none when it is no X.509
    /// certificate, DER.
    pub fn of_certificate(der: &[u8]) -> Option<Hash> {
        let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
        Some(Hash::of(parsed.tbs_certificate.subject_pki.raw))
    }

    /// Whether both are the same; takes as long for a near miss as for a far one.
    fn matches(&self, other: &Hash) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Its bytes.
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl FromStr for Hash {
    type Err = ();

    fn from_str(text: &str) -> Result<Hash, ()> {
        let digits = text.strip_prefix(HASH_PREFIX).ok_or(())?;
        let mut hash = Hash([0; 32]);
        hex::decode_to_slice(digits, &mut hash.0).map_err(|_| ())?;
        Ok(hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HASH_PREFIX}{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hash]")
    }
}

/// A new key and its stored form. The key is shown once and kept nowhere.
///
/// # Errors
/// The system gives no random bytes.
pub fn new_key() -> Result<(zeroize::Zeroizing<String>, Hash), ring::error::Unspecified> {
    use ring::rand::SecureRandom;

    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    ring::rand::SystemRandom::new().fill(&mut *bytes)?;
    let text = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(*bytes));
    let hash = Hash::of(text.as_bytes());
    Ok((zeroize::Zeroizing::new(text), hash))
}

/// What proves a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Somebody who knows the key with this hash.
    Key(Hash),
    /// Somebody whose client certificate has the public key with this hash.
    Certificate(Hash),
}

/// One thing that a merchant's program may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Make payments, capture, cancel, switch and confirm them.
    PaymentsWrite,
    /// Read everything but refunds.
    PaymentsRead,
    /// Give money back.
    RefundsWrite,
    /// Read refunds.
    RefundsRead,
    /// Speak with providers through the native way.
    Native,
}

impl Scope {
    /// All of them, with their words in the configuration.
    pub const WORDS: [(&'static str, Scope); 5] = [
        ("payments:write", Scope::PaymentsWrite),
        ("payments:read", Scope::PaymentsRead),
        ("refunds:write", Scope::RefundsWrite),
        ("refunds:read", Scope::RefundsRead),
        ("native", Scope::Native),
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        let found = Scope::WORDS.iter().find(|(_, scope)| *scope == self);
        found.map_or("", |(word, _)| word)
    }

    /// What a request of the payments API needs. A path that is not known yet is a payment's.
    pub fn needed(method: &http::Method, path: &str) -> Scope {
        let reads = matches!(*method, http::Method::GET | http::Method::HEAD);
        match (path.trim_start_matches('/').split('/').nth(1), reads) {
            (Some("refunds"), true) => Scope::RefundsRead,
            (Some("refunds"), false) => Scope::RefundsWrite,
            (_, true) => Scope::PaymentsRead,
            (_, false) => Scope::PaymentsWrite,
        }
    }
}

/// One key of a merchant, or one of its certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Its name in the file, by which logs and operators call it.
    pub name: String,
    /// What proves it.
    pub proof: Proof,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
}

impl Credential {
    /// Whether it may be used for this.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// What an operator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// See everything.
    Look,
    /// Change things, too.
    Act,
}

/// Somebody who may use the operators' door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Its name in the file.
    pub name: String,
    /// Its token's hash.
    pub token: Hash,
    /// What it may do.
    pub role: Role,
}

/// The one among `known` whose key was presented. All are compared.
pub fn holder_of<'k, T>(
    known: impl Iterator<Item = (&'k T, Hash)>,
    presented: &Hash,
) -> Option<&'k T> {
    let mut found = None;
    for (candidate, hash) in known {
        if hash.matches(presented) {
            found = Some(candidate);
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_long_different_each_time_and_found_by_its_hash() {
        let ((one, hash), (two, other)) = (new_key().unwrap(), new_key().unwrap());
        assert!(one.starts_with("ilk_") && one.len() == 47 && *one != *two);
        assert_eq!(Hash::of(one.as_bytes()), hash);
        assert_eq!(hash.to_string().parse::<Hash>(), Ok(hash));
        let known = [("one", hash), ("two", other)];
        let find = |key: &str| {
            let known = known.iter().map(|(name, hash)| (name, *hash));
            holder_of(known, &Hash::of(key.as_bytes())).copied()
        };
        assert_eq!((find(&one), find(&two), find("ilk_")), (Some("one"), Some("two"), None));
        assert_eq!(format!("{hash:?}"), "[hash]");
    }

    #[test]
    fn a_hash_is_read_in_one_form_only() {
        let digits = "0f".repeat(32);
        assert!(format!("sha256:{digits}").parse::<Hash>().is_ok());
        for text in [digits.clone(), format!("sha256:{}", &digits[2..]), "sha256:".into()] {
            assert_eq!(text.parse::<Hash>(), Err(()), "{text}");
        }
    }

    #[test]
    fn what_a_request_needs_follows_from_its_method_and_path() {
        let needed = |method: http::Method, path| Scope::needed(&method, path).as_str();
        assert_eq!(needed(http::Method::POST, "/v1/payments"), "payments:write");
        assert_eq!(needed(http::Method::POST, "/v1/payments/pay_1/capture"), "payments:write");
        assert_eq!(needed(http::Method::GET, "/v1/payments/pay_1/timeline"), "payments:read");
        assert_eq!(needed(http::Method::POST, "/v1/refunds"), "refunds:write");
        assert_eq!(needed(http::Method::GET, "/v1/refunds/op_1"), "refunds:read");
        assert_eq!(needed(http::Method::DELETE, "/v1/anything"), "payments:write");
    }
}
