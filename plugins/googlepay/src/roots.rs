//! Google's published keys: which of them may vouch for a token now, and which may not any more.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::token::Protocol;

const BYTES_MAX: usize = 64 * 1024;
const KEYS_MAX: usize = 64;
/// SubjectPublicKeyInfo (RFC 5480) of an uncompressed point on P-256, up to the point itself.
const P256_HEAD: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
const P256_SPKI_BYTES: usize = 91;

/// The keys of one file.
pub(crate) struct Roots {
    keys: Vec<Root>,
    /// They are the account's own, and may be older than those in force.
    pub(crate) pinned: bool,
}

/// One of them.
pub(crate) struct Root {
    protocol: Protocol,
    expires_ms: Option<i64>,
    /// The key in PEM, as the host takes it.
    pub(crate) pem: String,
}

/// Whether a root key may vouch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may.
    InForce,
    /// Its time is over.
    Expired,
    /// It has no end, and for this protocol it must have one.
    Endless,
}

#[derive(Deserialize)]
struct File {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    key_value: String,
    protocol_version: String,
    #[serde(default)]
    key_expiration: Option<String>,
}

impl Roots {
    /// What Google answered; `None` when no key can be read in it.
    pub(crate) fn fetched(body: &[u8]) -> Option<Self> {
        Self::read(body, false)
    }

    /// What the account's configuration holds.
    pub(crate) fn pinned(text: &str) -> Option<Self> {
        Self::read(text.as_bytes(), true)
    }

    /// A key that can't be read is left out: it vouches for nothing, and those beside it do.
    fn read(body: &[u8], pinned: bool) -> Option<Self> {
        if body.len() > BYTES_MAX {
            return None;
        }
        let file: File = serde_json::from_slice(body).ok()?;
        if file.keys.len() > KEYS_MAX {
            return None;
        }
        let keys: Vec<Root> = file.keys.into_iter().filter_map(Root::read).collect();
        (!keys.is_empty()).then_some(Self { keys, pinned })
    }

    /// Those of a protocol, with what each is good for at this moment.
    pub(crate) fn of(&self, p: Protocol, now_ms: i64) -> impl Iterator<Item = (&Root, Standing)> {
        let of_it = self.keys.iter().filter(move |root| root.protocol == p);
        of_it.map(move |root| (root, root.standing(now_ms)))
    }
}

impl Root {
    fn read(entry: Value) -> Option<Self> {
        let entry: Entry = serde_json::from_value(entry).ok()?;
        let expires_ms = entry.key_expiration.as_deref().map(millis);
        Some(Self {
            protocol: Protocol::of(&entry.protocol_version)?,
            // One that can't be read is no end, and not none.
            expires_ms: match expires_ms {
                None => None,
                Some(ms) => Some(ms?),
            },
            pem: pem_of(&entry.key_value)?,
        })
    }

    fn standing(&self, now_ms: i64) -> Standing {
        match (self.expires_ms, self.protocol) {
            (Some(end), _) if end <= now_ms => Standing::Expired,
            (Some(_), _) | (None, Protocol::EcV1) => Standing::InForce,
            (None, Protocol::EcV2 | Protocol::EcV2SigningOnly) => Standing::Endless,
        }
    }
}

/// A moment as Google writes it: milliseconds since the epoch, in a string.
pub(crate) fn millis(text: &str) -> Option<i64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// A public key on P-256, given as SubjectPublicKeyInfo in base64.
pub(crate) fn pem_of(base64: &str) -> Option<String> {
    let der = STANDARD.decode(base64).ok()?;
    if der.len() != P256_SPKI_BYTES || !der.starts_with(&P256_HEAD) {
        return None;
    }
    let (first, second) = base64.split_at(64);
    Some(format!("-----BEGIN PUBLIC KEY-----\n{first}\n{second}\n-----END PUBLIC KEY-----\n"))
}
