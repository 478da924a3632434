//! `interlock merchant` and `interlock tls`: new keys, and the hashes that stand for them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;

use super::output;
use crate::access::{self, Hash};

/// What can be done for merchants.
#[derive(Subcommand)]
pub enum Merchant {
    /// Print a new key, once, and the hash that the configuration keeps in its place. It serves
    /// merchants and, as a token, operators.
    Key {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What can be done with certificates.
#[derive(Subcommand)]
pub enum Tls {
    /// Print the hash of a certificate's public key, as `client_cert` and `spki` name it.
    Pin {
        /// A PEM file; its first certificate counts.
        certificate: PathBuf,
    },
}

/// Runs one of them.
pub fn merchant(command: &Merchant) -> ExitCode {
    let Merchant::Key { json } = command;
    let Ok((key, hash)) = access::new_key() else {
        output::error(&"the system gives no random bytes");
        return ExitCode::from(1);
    };
    if *json {
        output::json(&json!({ "key": key.as_str(), "hash": hash.to_string() }));
    } else {
        output::line(format_args!("key   {}", key.as_str()));
        output::line(format_args!("hash  {hash}"));
        output::line(format_args!("The key is shown once. Give it to whom it is for; write the"));
        output::line(format_args!("hash into [merchants.NAME.keys.KEY] or [admin.tokens.NAME]."));
    }
    ExitCode::SUCCESS
}

/// Runs one of them.
pub fn tls(command: &Tls) -> ExitCode {
    let Tls::Pin { certificate } = command;
    match pin(certificate) {
        Ok(hash) => {
            output::line(format_args!("{hash}"));
            ExitCode::SUCCESS
        }
        Err(why) => {
            output::error(&format!("{why}: {}", certificate.display()));
            ExitCode::from(1)
        }
    }
}

fn pin(path: &Path) -> Result<Hash, String> {
    let pem = std::fs::read(path).map_err(|e| e.kind().to_string())?;
    let first = CertificateDer::pem_slice_iter(&pem).next();
    let der = first.ok_or("no certificate in it")?.map_err(|e| format!("not PEM, {e}"))?;
    Hash::of_certificate(&der).ok_or_else(|| "not an X.509 certificate".to_owned())
}
