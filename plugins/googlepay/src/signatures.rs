//! Who signed a token: Google's root keys, by an intermediate key or by themselves, for this
//! recipient.
//!
//! Every signature covers the protocol's name, so a token can't be passed off as one of another
//! protocol, and the recipient's, so one that was made for somebody else is refused.

use interlock_plugin_api::{Cx, Fault};
use serde::Deserialize;

use crate::refusal::{Refusal, Stop};
use crate::roots::{Roots, Standing, millis, pem_of};
use crate::token::Token;

const SENDER: &str = "Google";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignedKey {
    key_value: String,
    key_expiration: String,
}

/// Whether the token's message was signed for `recipient` by whom Google vouches for.
pub(crate) fn check(
    cx: &Cx<'_>,
    token: &Token,
    roots: &Roots,
    recipient: &str,
) -> Result<(), Stop> {
    let version = token.protocol.name();
    let message = lv(&[SENDER, recipient, version, &token.signed_message]);
    let signature = std::slice::from_ref(&token.signature);
    let Some(intermediate) = &token.intermediate else {
        return by_root(cx, token, roots, &message, signature, Refusal::BadSignature);
    };
    let vouched = lv(&[SENDER, version, &intermediate.signed_key]);
    by_root(cx, token, roots, &vouched, &intermediate.signatures, Refusal::WrongRoot)?;
    let key: SignedKey = serde_json::from_str(&intermediate.signed_key)
        .map_err(|_| Refusal::MalformedIntermediate)?;
    let expires_ms = millis(&key.key_expiration).ok_or(Refusal::MalformedIntermediate)?;
    let pem = pem_of(&key.key_value).ok_or(Refusal::MalformedIntermediate)?;
    if expires_ms <= cx.now_ms {
        return Err(Refusal::ExpiredIntermediate.into());
    }
    match verified(cx, &pem, &message, signature)? {
        true => Ok(()),
        false => Err(Refusal::BadSignature.into()),
    }
}

/// Any root key in force, any of the signatures. A key that may not vouch is tried too, after all
/// the others and for the reason alone.
fn by_root(
    cx: &Cx<'_>,
    token: &Token,
    roots: &Roots,
    data: &[u8],
    signatures: &[Vec<u8>],
    otherwise: Refusal,
) -> Result<(), Stop> {
    let of_it = || roots.of(token.protocol, cx.now_ms);
    for (root, _) in of_it().filter(|(_, standing)| *standing == Standing::InForce) {
        if verified(cx, &root.pem, data, signatures)? {
            return Ok(());
        }
    }
    if roots.pinned && of_it().all(|(_, standing)| standing != Standing::InForce) {
        return Err(Fault::config("no key of `root_keys` is good any more").into());
    }
    let mut none = true;
    for (root, standing) in of_it() {
        none = false;
        let reason = match standing {
            Standing::InForce => continue,
            Standing::Expired => Refusal::ExpiredRoot,
            Standing::Endless => Refusal::RootWithoutExpiration,
        };
        if verified(cx, &root.pem, data, signatures)? {
            return Err(reason.into());
        }
    }
    Err(if none { Refusal::NoRootKey } else { otherwise }.into())
}

fn verified(cx: &Cx<'_>, pem: &str, data: &[u8], signatures: &[Vec<u8>]) -> Result<bool, Stop> {
    for signature in signatures {
        if cx.host.verify(pem, "ecdsa-sha256", data, signature)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Each part after its length in bytes, four of them, the lowest first.
fn lv(parts: &[&str]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len() + 4).sum());
    for part in parts {
        let len = u32::try_from(part.len()).expect("every part is bounded");
        out.extend(len.to_le_bytes());
        out.extend(part.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_counts_bytes_and_not_characters() {
        assert_eq!(lv(&["a", "é"]), b"\x01\0\0\0a\x02\0\0\0\xc3\xa9");
    }
}
