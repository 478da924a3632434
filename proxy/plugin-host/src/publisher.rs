//! Who published a plugin: an ed25519 signature in a file beside the library.
//!
//! The signature covers `interlock-plugin`, the ABI's major version, the plugin's id, its version
//! and the file's sha256, each followed by a zero byte except for the last. So a signature can't be
//! moved to other bytes, another plugin, or an older version under a newer name.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};

use super::elf::Inspection;
use super::keys;

const KEY_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;
/// RFC 8410: SEQUENCE { SEQUENCE { 1.3.101.112 }, BIT STRING of 32 bytes }.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A publisher's public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Publisher([u8; KEY_BYTES]);

impl Publisher {
    /// Reads a public key from PEM, as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_pem(pem: &str) -> Result<Self, &'static str> {
        let (label, der) = keys::block(pem)?;
        match label {
            "PUBLIC KEY" => {}
            "PRIVATE KEY" => return Err("it is a private key, the public one is needed"),
            _ => return Err("it is PEM, but not a public key"),
        }
        let key = der.strip_prefix(&SPKI[..]).and_then(|key| key.try_into().ok());
        key.map(Self).ok_or("it is not an ed25519 key")
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        hex::decode(text).ok()?.try_into().ok().map(Self)
    }

    /// 64 hexadecimal digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// Whether this publisher signed what `of` describes.
    pub fn signed(self, of: &Signed<'_>, signature: &[u8; SIGNATURE_BYTES]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(&of.content(), signature).is_ok()
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publisher({})", self.to_hex())
    }
}

/// What a signature is about.
pub struct Signed<'a> {
    /// The ABI's major version that the plugin was built for.
    pub abi_major: u16,
    /// The plugin's id.
    pub id: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The file's hash.
    pub sha256: [u8; 32],
}

impl<'a> Signed<'a> {
    /// What a signature of this file is about; `None` when its manifest is unreadable without
    /// loading it.
    pub fn of(file: &'a Inspection) -> Option<Self> {
        let manifest = file.manifest.as_ref()?;
        let (id, version) = (manifest.id.as_str(), manifest.version.as_str());
        Some(Self { abi_major: file.abi.0, id, version, sha256: file.sha256 })
    }

    fn content(&self) -> Vec<u8> {
        let abi = self.abi_major.to_string();
        let mut content = Vec::new();
        for part in ["interlock-plugin", &abi, self.id, self.version] {
            content.extend_from_slice(part.as_bytes());
            content.push(0);
        }
        content.extend_from_slice(&self.sha256);
        content
    }

    /// Signs with a private key, PEM (PKCS #8), as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// What is wrong with the key; nothing of it is repeated.
    pub fn sign(&self, private_pem: &str) -> Result<[u8; SIGNATURE_BYTES], &'static str> {
        let (label, der) = keys::block(private_pem)?;
        match label {
            "PRIVATE KEY" => {}
            "PUBLIC KEY" => return Err("it is a public key, the private one is needed"),
            _ => return Err("it is PEM, but not a private key"),
        }
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
            .map_err(|_| "it is not an ed25519 key")?;
        let signature = pair.sign(&self.content());
        signature.as_ref().try_into().map_err(|_| "it made no ed25519 signature")
    }
}

/// The file that holds a library's signature: `libacme.so.sig`, 128 hexadecimal digits.
pub fn signature_file(library: &Path) -> PathBuf {
    let mut name = library.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// The signature beside a library.
///
/// # Errors
/// It is missing, unreadable or not 128 hexadecimal digits.
pub fn read_signature(library: &Path) -> Result<[u8; SIGNATURE_BYTES], &'static str> {
    let text = fs::read_to_string(signature_file(library));
    let text = text.map_err(|_| "its file .sig can't be read")?;
    let bytes = hex::decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or("its file .sig has no 128 hexadecimal digits")
}
