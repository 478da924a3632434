//! Seals a payload to the merchant, as Google does: ECIES with P-256, HKDF-SHA256, AES in counter
//! mode and HMAC-SHA256.

use aes::cipher::{KeyIvInit, StreamCipher};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ctr::Ctr128BE;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use p256::ecdh::diffie_hellman;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use serde_json::json;
use sha2::Sha256;

use super::{Defect, Keys, Protocol};

/// The text that is signed.
pub(super) fn seal(
    keys: &Keys,
    protocol: Protocol,
    message_id: &str,
    payload: &[u8],
    defect: Option<Defect>,
) -> String {
    let is = |wanted: Defect| defect == Some(wanted);
    let ephemeral = keys.ephemeral(message_id);
    let peer = if is(Defect::OtherMerchantKey) { keys.other_merchant() } else { keys.merchant() };
    let shared = diffie_hellman(ephemeral.to_nonzero_scalar(), peer.as_affine());
    let mut point = ephemeral.public_key().to_encoded_point(false).as_bytes().to_vec();
    let secret = [&point[..], shared.raw_secret_bytes()].concat();
    let mut key = vec![0; if protocol == Protocol::EcV1 { 32 } else { 64 }];
    Hkdf::<Sha256>::new(None, &secret).expand(b"Google", &mut key).expect("a short key");
    let (cipher_key, mac_key) = key.split_at(key.len() / 2);
    let mut text = payload.to_vec();
    encrypt(cipher_key, &mut text);
    let mac = <Hmac<Sha256> as Mac>::new_from_slice(mac_key).expect("HMAC takes any key");
    let mut tag = mac.chain_update(&text).finalize().into_bytes().to_vec();
    if is(Defect::BadTag) {
        tag[0] ^= 1;
    }
    if is(Defect::BadEphemeralKey) {
        point[64] ^= 1;
    }
    let mut message = json!({
        "encryptedMessage": STANDARD.encode(text),
        "ephemeralPublicKey": STANDARD.encode(point),
        "tag": STANDARD.encode(tag),
    });
    if is(Defect::ExtraMessageMember) {
        message["more"] = "x".into();
    }
    if let (true, Some(members)) = (is(Defect::MissingMessageMember), message.as_object_mut()) {
        members.remove("tag");
    }
    message.to_string()
}

fn encrypt(key: &[u8], text: &mut [u8]) {
    let iv = [0; 16];
    if key.len() == 16 {
        let cipher = Ctr128BE::<aes::Aes128>::new_from_slices(key, &iv);
        cipher.expect("a key of 16 bytes").apply_keystream(text);
    } else {
        let cipher = Ctr128BE::<aes::Aes256>::new_from_slices(key, &iv);
        cipher.expect("a key of 32 bytes").apply_keystream(text);
    }
}
