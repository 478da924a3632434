//! What the host does for a plugin while it runs: log lines, and keys by name.
//!
//! The C table's `ctx` points to one account's [`Services`]. A key never crosses the boundary: the
//! plugin names it, and gets a MAC, a signature or a yes or no. Every callback may come from any
//! thread, checks its pointers, and lets no panic out.

use std::ffi::{CStr, c_char, c_void};
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use interlock_plugin_api::Manifest;
use interlock_plugin_api::abi::{
    self, AeadExtension, Bytes, EstablishExtension, HostTable, Out, SignExtension, VerifyExtension,
};
use p256::ecdh::diffie_hellman;
use p256::pkcs8::EncodePublicKey;
use ring::aead::{Aad, Nonce};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey};
use rsa::Oaep;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::call::printable;
use super::keyring::Keyrings;
use super::keys;
use super::secrets::{Secret, Secrets};

/// A plugin's log line is cut to this many bytes.
const LINE_BYTES_MAX: usize = 200;
/// An instance's log lines a second.
const LINES_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).expect("not zero");
/// The most that is signed, verified or digested in one call.
const DATA_BYTES_MAX: usize = 2 * 1024 * 1024;

static SIGN: SignExtension = SignExtension { struct_size: size_of::<SignExtension>() as u32, sign };
static VERIFY: VerifyExtension =
    VerifyExtension { struct_size: size_of::<VerifyExtension>() as u32, verify };
static AEAD: AeadExtension =
    AeadExtension { struct_size: size_of::<AeadExtension>() as u32, unseal };
static ESTABLISH: EstablishExtension = EstablishExtension {
    struct_size: size_of::<EstablishExtension>() as u32,
    public_key,
    establish,
};

/// One account's services.
pub(super) struct Services {
    plugin: String,
    account: String,
    secrets: Secrets,
    keyrings: Keyrings,
    lines: DefaultDirectRateLimiter,
    suppressed: AtomicU64,
}

/// The C table together with what its `ctx` points to.
pub(super) struct Table {
    table: HostTable,
    services: Arc<Services>,
}

// SAFETY: the table is immutable, and its `ctx` points to `Services`, which is Sync.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Table {
    pub(super) fn new(manifest: &Manifest, account: &str, secrets: Secrets) -> Arc<Self> {
        let services = Arc::new(Services {
            plugin: manifest.id.clone(),
            account: account.into(),
            secrets,
            keyrings: Keyrings::new(manifest),
            lines: RateLimiter::direct(Quota::per_second(LINES_PER_SECOND)),
            suppressed: AtomicU64::new(0),
        });
        let table = HostTable {
            struct_size: size_of::<HostTable>() as u32,
            abi_major: abi::ABI_MAJOR,
            abi_minor: abi::ABI_MINOR,
            ctx: Arc::as_ptr(&services).cast_mut().cast(),
            log,
            mac,
            get_extension,
        };
        Arc::new(Self { table, services })
    }

    /// The address that a plugin is given; it lives as long as the table.
    pub(super) fn as_ptr(self: &Arc<Self>) -> *const HostTable {
        // SAFETY: projects to a field without making a reference.
        unsafe { &raw const (*Arc::as_ptr(self)).table }
    }

    pub(super) fn secrets(&self) -> &Secrets {
        &self.services.secrets
    }

    pub(super) fn keyrings(&self) -> &Keyrings {
        &self.services.keyrings
    }

    /// For a plugin that asks from a process of its own.
    pub(super) fn services(&self) -> &Services {
        &self.services
    }
}

impl Services {
    pub(super) fn log(&self, level: i32, message: &[u8]) {
        if self.lines.check().is_err() {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let suppressed = self.suppressed.swap(0, Ordering::Relaxed);
        let (plugin, account) = (self.plugin.as_str(), self.account.as_str());
        // The line may hold what a shopper typed, so only a debug log shows it.
        match level {
            ..=1 => tracing::error!(plugin, account, suppressed, "plugin reports an error"),
            2 => tracing::warn!(plugin, account, suppressed, "plugin reports a warning"),
            3 => tracing::info!(plugin, account, suppressed, "plugin reports"),
            _ => {}
        }
        let line = printable(message, LINE_BYTES_MAX);
        if level > 4 {
            tracing::trace!(plugin, account, level, line, "plugin line");
        } else {
            tracing::debug!(plugin, account, level, line, "plugin line");
        }
    }

    pub(super) fn mac(&self, key: &[u8], data: &[u8]) -> Result<Vec<u8>, i32> {
        match self.key(key)? {
            Secret::Mac(key) => Ok(hmac::sign(key, data).as_ref().to_vec()),
            _ => Err(abi::E_UNSUPPORTED),
        }
    }

    pub(super) fn sign(&self, key: &[u8], algorithm: &[u8], data: &[u8]) -> Result<Vec<u8>, i32> {
        let (Secret::RsaPrivate(pair), b"rsa-sha256-pkcs1") = (self.key(key)?, algorithm) else {
            return Err(abi::E_UNSUPPORTED);
        };
        let mut signature = vec![0; pair.public().modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), data, &mut signature)
            .map_err(|_| abi::E_INTERNAL)?;
        Ok(signature)
    }

    pub(super) fn verify(
        &self,
        key: &[u8],
        alg: &[u8],
        data: &[u8],
        signature: &[u8],
    ) -> Result<bool, i32> {
        let rsa = |key: &[u8]| {
            let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
            key.verify(data, signature).is_ok()
        };
        if alg == b"rsa-sha256-pkcs1"
            && let Ok(name) = std::str::from_utf8(key)
        {
            if name.starts_with("-----BEGIN") {
                return keys::rsa_public(name).map(|key| rsa(&key)).map_err(|_| abi::E_INPUT);
            }
            if let Some(good) = self.keyrings.verify(name, rsa) {
                return Ok(good);
            }
        }
        if matches!(alg, b"ecdsa-sha256" | b"ecdsa-sha384") {
            let pem = std::str::from_utf8(key).map_err(|_| abi::E_INPUT)?;
            let (point, how) = keys::ec_public(pem, alg).map_err(|_| abi::E_INPUT)?;
            return Ok(UnparsedPublicKey::new(how, point).verify(data, signature).is_ok());
        }
        match (self.key(key)?, alg) {
            (Secret::Mac(key), b"hmac-sha256") => Ok(hmac::verify(key, data, signature).is_ok()),
            (Secret::RsaPublic(key), b"rsa-sha256-pkcs1") => Ok(rsa(key)),
            _ => Err(abi::E_UNSUPPORTED),
        }
    }

    /// `None` when it is not authentic.
    pub(super) fn unseal(&self, key: &[u8], sealed: [&[u8]; 4]) -> Result<Option<Vec<u8>>, i32> {
        let [algorithm, nonce, associated, ciphertext] = sealed;
        let (Secret::Aead(key), b"aes-256-gcm") = (self.key(key)?, algorithm) else {
            return Err(abi::E_UNSUPPORTED);
        };
        let Ok(nonce) = Nonce::try_assume_unique_for_key(nonce) else { return Ok(None) };
        let mut text = ciphertext.to_vec();
        let opened = key.open_in_place(nonce, Aad::from(associated), &mut text);
        let Ok(len) = opened.map(|text| text.len()) else { return Ok(None) };
        text.truncate(len);
        Ok(Some(text))
    }

    pub(super) fn public_key(&self, key: &[u8]) -> Result<Vec<u8>, i32> {
        let spki = match self.key(key)? {
            Secret::EcKeyAgreement(key) => key.public_key().to_public_key_der(),
            Secret::RsaKeyTransport(key) => key.to_public_key().to_public_key_der(),
            _ => return Err(abi::E_UNSUPPORTED),
        };
        spki.map(|der| der.as_bytes().to_vec()).map_err(|_| abi::E_INTERNAL)
    }

    /// `None` when no peer would have sent it.
    pub(super) fn establish(
        &self,
        key: &[u8],
        algorithm: &[u8],
        peer: &[u8],
    ) -> Result<Option<Vec<u8>>, i32> {
        match (self.key(key)?, algorithm) {
            (Secret::EcKeyAgreement(key), b"ecdh-p256") => {
                let point = p256::PublicKey::from_sec1_bytes(peer);
                let Some(point) = point.ok().filter(|_| peer.len() == 65) else { return Ok(None) };
                let secret = diffie_hellman(key.to_nonzero_scalar(), point.as_affine());
                Ok(Some(secret.raw_secret_bytes().to_vec()))
            }
            // Not blinded: a plugin verifies who encrypted a key before it asks, so that nobody
            // can choose what is decrypted here and measure how long it takes.
            (Secret::RsaKeyTransport(key), b"rsa-oaep-sha256") => {
                Ok(key.decrypt(Oaep::new::<Sha256>(), peer).ok())
            }
            _ => Err(abi::E_UNSUPPORTED),
        }
    }

    fn key(&self, name: &[u8]) -> Result<&Secret, i32> {
        let name = std::str::from_utf8(name).map_err(|_| abi::E_CONFIG)?;
        self.secrets.get(name).ok_or(abi::E_CONFIG)
    }
}

extern "C" fn log(ctx: *mut c_void, level: i32, message: Bytes) {
    fenced(|| {
        let (services, message) = (services(ctx)?, borrowed(message)?);
        services.log(level, message);
        Ok(abi::OK)
    });
}

extern "C" fn mac(ctx: *mut c_void, key: Bytes, data: Bytes, out: *const Out) -> i32 {
    fenced(|| {
        let (key, data) = (borrowed(key)?, borrowed(data)?);
        Ok(give(out, &services(ctx)?.mac(key, data)?))
    })
}

extern "C" fn sign(
    ctx: *mut c_void,
    key: Bytes,
    algorithm: Bytes,
    data: Bytes,
    out: *const Out,
) -> i32 {
    fenced(|| {
        let (key, algorithm, data) = (borrowed(key)?, borrowed(algorithm)?, borrowed(data)?);
        Ok(give(out, &services(ctx)?.sign(key, algorithm, data)?))
    })
}

extern "C" fn verify(
    ctx: *mut c_void,
    key: Bytes,
    algorithm: Bytes,
    data: Bytes,
    signature: Bytes,
) -> i32 {
    fenced(|| {
        let (key, algorithm) = (borrowed(key)?, borrowed(algorithm)?);
        let (data, signature) = (borrowed(data)?, borrowed(signature)?);
        services(ctx)?.verify(key, algorithm, data, signature).map(i32::from)
    })
}

extern "C" fn unseal(
    ctx: *mut c_void,
    key: Bytes,
    algorithm: Bytes,
    nonce: Bytes,
    associated: Bytes,
    ciphertext: Bytes,
    out: *const Out,
) -> i32 {
    fenced(|| {
        let (key, algorithm, nonce) = (borrowed(key)?, borrowed(algorithm)?, borrowed(nonce)?);
        let (associated, ciphertext) = (borrowed(associated)?, borrowed(ciphertext)?);
        let opened = services(ctx)?.unseal(key, [algorithm, nonce, associated, ciphertext])?;
        Ok(give_if(out, opened))
    })
}

extern "C" fn public_key(ctx: *mut c_void, key: Bytes, out: *const Out) -> i32 {
    fenced(|| Ok(give(out, &services(ctx)?.public_key(borrowed(key)?)?)))
}

extern "C" fn establish(
    ctx: *mut c_void,
    key: Bytes,
    algorithm: Bytes,
    peer: Bytes,
    out: *const Out,
) -> i32 {
    fenced(|| {
        let (key, algorithm, peer) = (borrowed(key)?, borrowed(algorithm)?, borrowed(peer)?);
        Ok(give_if(out, services(ctx)?.establish(key, algorithm, peer)?))
    })
}

extern "C" fn get_extension(_: *mut c_void, id: *const c_char) -> *const c_void {
    if id.is_null() {
        return std::ptr::null();
    }
    // SAFETY: the ABI gives ids as strings that end in a zero byte.
    match unsafe { CStr::from_ptr(id) } {
        id if id == abi::SIGN_EXTENSION => (&raw const SIGN).cast(),
        id if id == abi::VERIFY_EXTENSION => (&raw const VERIFY).cast(),
        id if id == abi::AEAD_EXTENSION => (&raw const AEAD).cast(),
        id if id == abi::ESTABLISH_EXTENSION => (&raw const ESTABLISH).cast(),
        _ => std::ptr::null(),
    }
}

/// No panic leaves a callback.
pub(super) fn fenced(body: impl FnOnce() -> Result<i32, i32>) -> i32 {
    catch_unwind(AssertUnwindSafe(body)).map_or(abi::E_INTERNAL, |rc| rc.unwrap_or_else(|e| e))
}

fn services<'a>(ctx: *mut c_void) -> Result<&'a Services, i32> {
    // SAFETY: the plugin hands back the table's `ctx`, whose `Services` live as long as any call
    // of the instance; null is refused.
    unsafe { ctx.cast::<Services>().as_ref() }.ok_or(abi::E_INPUT)
}

fn borrowed<'a>(bytes: Bytes) -> Result<&'a [u8], i32> {
    if bytes.len > DATA_BYTES_MAX {
        return Err(abi::E_LIMIT);
    }
    // SAFETY: the plugin lends the slice for this call; a null pointer gives an empty one.
    Ok(unsafe { bytes.get() })
}

/// 1 with the bytes, 0 without any.
fn give_if(out: *const Out, bytes: Option<Vec<u8>>) -> i32 {
    let Some(bytes) = bytes.map(Zeroizing::new) else { return 0 };
    match give(out, &bytes) {
        abi::OK => 1,
        rc => rc,
    }
}

fn give(out: *const Out, bytes: &[u8]) -> i32 {
    // SAFETY: the plugin lends its `out` for this call; null is refused.
    match unsafe { out.as_ref() } {
        Some(out) => (out.put)(out.ctx, abi::PART_META, bytes.as_ptr(), bytes.len()),
        None => abi::E_INPUT,
    }
}
