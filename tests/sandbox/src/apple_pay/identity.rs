//! Who shows which certificate: the server's, the merchant's, and the files that hold them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use wallet_tokens::apple::{Authority, ProcessingKey};

use crate::keys::{KeyError, fresh_pair, write_private};

/// TLS with a certificate of ours, for clients that show one of the merchant's authority.
pub(super) fn acceptor(
    certificate: &str,
    key: &str,
    identity_ca: &str,
) -> Result<TlsAcceptor, KeyError> {
    let unfit = |which: &'static str| move |_| KeyError::Unfit(which);
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
        .map_err(unfit("server_certificate is no certificate in PEM"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(unfit("server_private_key is no private key in PEM"))?;
    let authority = CertificateDer::from_pem_slice(identity_ca.as_bytes())
        .map_err(unfit("identity_ca is no certificate in PEM"))?;
    let mut roots = RootCertStore::empty();
    roots.add(authority).map_err(|_| KeyError::Unfit("identity_ca is no authority"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|_| KeyError::Unfit("identity_ca verifies no client"))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| KeyError::Unfit("no version of TLS"))?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate], key)
        .map_err(|_| KeyError::Unfit("server_private_key is not that of server_certificate"))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Writes into `folder` what sandbox and proxy need for one Apple Pay account: the server's
/// certificate and whom to trust for it (`server*.pem`), the merchant's identity (`identity*.pem`),
/// the authority of tokens (`authority_private.pem`, `root.pem`) and the keys that they are
/// encrypted to (`*processing_private.pem`). What is there stays. Answers how many groups were
/// made.
///
/// # Errors
/// `NotMade` and `NotWritten`.
pub fn write_keys(folder: &Path) -> Result<usize, KeyError> {
    fs::create_dir_all(folder).map_err(not_written)?;
    let mut made = 0;
    if !folder.join("authority_private.pem").exists() {
        let authority = Authority::seeded(rand::random());
        fs::write(folder.join("root.pem"), authority.root_pem()).map_err(not_written)?;
        let keys = authority.to_pem();
        write_private(&folder.join("authority_private.pem"), &keys).map_err(not_written)?;
        made += 1;
    }
    for (name, fresh) in [
        ("processing_private.pem", ProcessingKey::seeded as fn(u64) -> ProcessingKey),
        ("previous_processing_private.pem", ProcessingKey::seeded),
        ("rsa_processing_private.pem", ProcessingKey::seeded_rsa),
    ] {
        let path = folder.join(name);
        if !path.exists() {
            write_private(&path, &fresh(rand::random()).to_pem()).map_err(not_written)?;
            made += 1;
        }
    }
    // The names under which a proxy on the same machine calls the sandbox.
    let server = ["localhost", "127.0.0.1"];
    made += usize::from(write_certified(folder, "server", &server)?);
    made += usize::from(write_certified(folder, "identity", &[])?);
    Ok(made)
}

/// Writes `NAME.pem`, `NAME_private.pem` and `NAME_ca.pem`; answers whether they were made now. A
/// server has names and a client has none.
fn write_certified(folder: &Path, name: &str, names: &[&str]) -> Result<bool, KeyError> {
    let private = folder.join(format!("{name}_private.pem"));
    if private.exists() {
        return Ok(false);
    }
    let mut ca = CertificateParams::new(Vec::new()).map_err(not_made)?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, format!("Sandbox {name} authority"));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_key = KeyPair::generate().map_err(not_made)?;
    let ca_pem = ca.self_signed(&ca_key).map_err(not_made)?.pem();
    let issuer = Issuer::new(ca, ca_key);

    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(not_made)?;
    params.distinguished_name.push(DnType::CommonName, format!("Sandbox {name}"));
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![if name == "server" {
        ExtendedKeyUsagePurpose::ServerAuth
    } else {
        ExtendedKeyUsagePurpose::ClientAuth
    }];
    // Apple certifies RSA keys of merchants.
    let key_pem = fresh_pair()?.private_pem;
    let key = KeyPair::from_pem(&key_pem).map_err(not_made)?;
    let certificate = params.signed_by(&key, &issuer).map_err(not_made)?.pem();
    fs::write(folder.join(format!("{name}_ca.pem")), ca_pem).map_err(not_written)?;
    fs::write(folder.join(format!("{name}.pem")), certificate).map_err(not_written)?;
    write_private(&private, &key_pem).map_err(not_written)?;
    Ok(true)
}

fn not_made(why: rcgen::Error) -> KeyError {
    KeyError::NotMade(why.to_string())
}

fn not_written(why: std::io::Error) -> KeyError {
    KeyError::NotWritten(why.to_string())
}
