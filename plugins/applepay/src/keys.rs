//! Which of the account's keys a token is encrypted to.
//!
//! A key that is being replaced stays beside the new one, because tokens under it are still on
//! their way. The private halves are the host's; a token names the digest of the public one.

use interlock_plugin_api::{Fault, Host, HostError};
use sha2::{Digest, Sha256};

use crate::refusal::{No, Refusal};
use crate::token::{Key, Token};

const EC: [&str; 2] = ["processing_key", "previous_processing_key"];
const RSA: [&str; 2] = ["rsa_processing_key", "previous_rsa_processing_key"];

/// The name of the key that fits.
pub(crate) fn fitting(host: &dyn Host, token: &Token) -> Result<&'static str, No> {
    let kind = match token.key {
        Key::Ephemeral(_) => EC,
        Key::Wrapped(_) => RSA,
    };
    let mut any = false;
    for name in EC.into_iter().chain(RSA) {
        let public = match host.public_key(name) {
            Ok(public) => public,
            Err(HostError::NoSuchKey) => continue,
            Err(error) => return Err(error.into()),
        };
        any = true;
        if kind.contains(&name) && *Sha256::digest(public) == token.public_key_hash {
            return Ok(name);
        }
    }
    if any {
        return Err(Refusal::NoKeyFits.into());
    }
    Err(Fault::config("the account has no processing key").into())
}
