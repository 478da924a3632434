//! Decrypts a token: the key that was agreed on (EC_v1) or sent along (RSA_v1), then AES in GCM.

use aes::{Aes128, Aes256};
use aes_gcm::aead::consts::U16;
use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::{AesGcm, Nonce, Tag};
use interlock_plugin_api::Host;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::refusal::{No, Refusal};
use crate::token::{Key, Token, point};

const TAG_LENGTH: usize = 16;
/// Of the key derivation (NIST SP 800-56A, as Apple fills it in): the counter before the secret,
/// and behind it the algorithm with its length and party U.
const COUNTER: [u8; 4] = [0, 0, 0, 1];
const OTHER: &[u8] = b"\x0did-aes256-GCMApple";

/// The text of a token whose signature was verified, with the account's key of this name.
pub(crate) fn open(
    host: &dyn Host,
    key: &'static str,
    merchant_id: &str,
    token: &Token,
) -> Result<Zeroizing<Vec<u8>>, No> {
    match &token.key {
        Key::Ephemeral(spki) => {
            let point = point(spki).ok_or(Refusal::NotDecrypted)?;
            let shared = host.establish(key, "ecdh-p256", point)?.ok_or(Refusal::NotDecrypted)?;
            let key = derived(&Zeroizing::new(shared), merchant_id);
            decrypted::<AesGcm<Aes256, U16>>(&key[..], &token.data)
        }
        Key::Wrapped(wrapped) => {
            let given = host.establish(key, "rsa-oaep-sha256", wrapped)?;
            let given = Zeroizing::new(given.ok_or(Refusal::NotDecrypted)?);
            decrypted::<AesGcm<Aes128, U16>>(&given, &token.data)
        }
    }
}

/// Party V is the digest of the merchant's identifier, so a token that was made for another
/// merchant with the same key does not open.
fn derived(shared: &[u8], merchant_id: &str) -> Zeroizing<[u8; 32]> {
    let mut digest = Sha256::new()
        .chain_update(COUNTER)
        .chain_update(shared)
        .chain_update(OTHER)
        .chain_update(Sha256::digest(merchant_id))
        .finalize();
    let key = Zeroizing::new(digest.into());
    digest.zeroize();
    key
}

/// The nonce is 16 zeros: every key is used once.
fn decrypted<C>(key: &[u8], data: &[u8]) -> Result<Zeroizing<Vec<u8>>, No>
where
    C: KeyInit + AeadInPlace<NonceSize = U16, TagSize = U16>,
{
    let cipher = C::new_from_slice(key).map_err(|_| Refusal::NotDecrypted)?;
    let split = data.len().checked_sub(TAG_LENGTH).ok_or(Refusal::NotDecrypted)?;
    let (sealed, tag) = data.split_at(split);
    let mut text = Zeroizing::new(sealed.to_vec());
    let opened = cipher.decrypt_in_place_detached(
        &Nonce::<U16>::default(),
        b"",
        &mut text,
        Tag::<U16>::from_slice(tag),
    );
    opened.map_err(|_| Refusal::NotDecrypted)?;
    Ok(text)
}
