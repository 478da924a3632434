//! Certificates made for one test, and a client that speaks TLS over a plain socket.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::raw::{self, Told};

/// Somebody who signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub pem: String,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Issued {
    /// The leaf.
    pub certificate: String,
    /// PKCS #8.
    pub key: String,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new("an authority")
    }
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for these names; without any, one that a client shows.
    pub fn issue(&self, names: &[&str]) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("names");
        self.sign(params)
    }

    /// A certificate that ended yesterday.
    pub fn issue_expired(&self, name: &str) -> Issued {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Issued {
        params.distinguished_name.push(DnType::CommonName, "whoever");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Issued { certificate, key: key.serialize_pem() }
    }
}

impl Issued {
    /// Writes both files beside each other: `NAME.pem` and `NAME.key`.
    pub fn write(&self, folder: &Path, name: &str) {
        fs::write(folder.join(format!("{name}.key")), &self.key).expect("written");
        fs::write(folder.join(format!("{name}.pem")), &self.certificate).expect("written");
    }

    /// The certificate as the handshake shows it.
    pub fn der(&self) -> Vec<u8> {
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        der.expect("a certificate").to_vec()
    }

    fn chain_and_key(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        (vec![CertificateDer::from(self.der())], key)
    }
}

/// What a client is ready for.
pub struct Client {
    /// Whom it trusts, PEM.
    pub trusts: String,
    /// What it shows.
    pub shows: Option<Issued>,
    /// Only this version, `1.2` or `1.3`.
    pub version: Option<&'static str>,
    /// What it offers to speak.
    pub offers: Vec<&'static str>,
}

/// A connection after its handshake.
pub type Connection = StreamOwned<ClientConnection, TcpStream>;

impl Client {
    /// Trusts one authority, shows nothing, speaks HTTP/1.1 and what is asked of it.
    pub fn trusting(authority: &Authority) -> Self {
        Self { trusts: authority.pem.clone(), shows: None, version: None, offers: vec!["http/1.1"] }
    }

    /// The same with a certificate.
    pub fn showing(self, issued: &Issued) -> Self {
        Self { shows: Some(issued.clone()), ..self }
    }

    /// Makes the handshake with `host` at `address`.
    ///
    /// # Errors
    /// The server, or its certificate, is not as it should be.
    pub fn connect(&self, address: &str, host: &str) -> io::Result<Connection> {
        let mut roots = RootCertStore::empty();
        let trusted = CertificateDer::from_pem_slice(self.trusts.as_bytes()).expect("an authority");
        roots.add(trusted).expect("an authority");
        let versions: &[&rustls::SupportedProtocolVersion] = match self.version {
            Some("1.2") => &[&rustls::version::TLS12],
            Some(_) => &[&rustls::version::TLS13],
            None => &[&rustls::version::TLS12, &rustls::version::TLS13],
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match &self.shows {
            None => config.with_no_client_auth(),
            Some(issued) => {
                let (chain, key) = issued.chain_and_key();
                config.with_client_auth_cert(chain, key).expect("a certificate of one's own")
            }
        };
        config.alpn_protocols = self.offers.iter().map(|p| p.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(host.to_owned()).expect("a name");
        let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, raw::knock(address));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }

    /// One request, and everything that comes back until the server closes.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn ask(&self, address: &str, host: &str, request: &[u8]) -> io::Result<Told> {
        let mut stream = self.connect(address, host)?;
        let began = Instant::now();
        stream.write_all(request)?;
        let told = raw::heard(&mut stream, began);
        // A refused client certificate of TLS 1.3 is told after the client's own handshake.
        if told.text.is_empty() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(told)
    }
}

/// Reads one answer's head and as much of its body as it tells, on a connection that goes on.
///
/// # Errors
/// The connection ended first.
pub fn one_answer(stream: &mut impl Read) -> io::Result<String> {
    let mut told = Vec::new();
    let mut byte = [0; 1];
    let end = Instant::now() + Duration::from_secs(20);
    while !told.ends_with(b"\r\n\r\n") && Instant::now() < end {
        stream.read_exact(&mut byte)?;
        told.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&told).into_owned();
    let length = head.to_ascii_lowercase().lines().find_map(|line| {
        line.strip_prefix("content-length: ").and_then(|length| length.trim().parse().ok())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(head + &String::from_utf8_lossy(&body))
}
