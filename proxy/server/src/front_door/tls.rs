//! TLS of a door: certificates by name, replaced while it is open, and who the client is.
//!
//! The handshake is made here and not in pingora's listener, so that it is bounded: it has its own
//! time, only so many are under way at once, and a client that fails one costs a counter and not a
//! line of the log. Everything that the files say is one immutable set; [`DoorTls::reload`] builds
//! the next one beside it and swaps it in whole, or keeps the old one when the new files can't be
//! used. Connections that are open keep what they began with.
//!
//! A client certificate proves a merchant by its public key and not by a name in it. Whoever may
//! sign for `client_ca` decides which names a certificate carries, and names are read in several
//! ways (common name, alternative names, wildcards); a key is one value, survives a renewal, and is
//! compared as a whole. The chain to `client_ca` is demanded all the same.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::listeners::{ALPN, TlsAccept};
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as Socket;
use pingora::protocols::tls::TlsRef;
use pingora::tls::sign::CertifiedKey;
use pingora::tls::{
    ClientCertVerifier, ClientHello, CryptoProvider, ResolvesServerCert, RootCertStore,
    WebPkiClientVerifier,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::access::Hash;

/// Certificates are small; a larger file is not one.
const FILE_MAX: u64 = 1 << 20;

/// PEM files of one certificate chain and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// How a door speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// One or more; the first serves clients that name no host, or one that none of them names.
    pub certificates: Vec<TlsFiles>,
    /// Authorities whose certificates clients may show; without it none is asked for.
    pub client_ca: Option<PathBuf>,
    /// From the accepted connection to the end of its handshake.
    pub handshake_timeout: Duration,
    /// Handshakes under way at once; one more waits for its turn within its time.
    pub handshakes: usize,
}

/// Why files can't be used: which one, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

/// What came of a look at the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reload {
    /// They are as they were.
    Unchanged,
    /// New connections get the new ones.
    Loaded,
    /// They can't be used, so the old ones stay.
    Kept(TlsError),
}

/// The TLS of one door; shared by its connections.
pub struct DoorTls {
    options: TlsOptions,
    current: RwLock<Arc<Loaded>>,
    /// What the files looked like when they were last read, used or not.
    seen: Mutex<Vec<Look>>,
    under_way: Semaphore,
    failed: AtomicU64,
}

/// One set of files, ready for use.
struct Loaded {
    acceptor: Acceptor,
    expiries: Vec<(String, i64)>,
}

/// What a file system says of one file; a rename over it changes its number.
type Look = Option<(SystemTime, u64, u64)>;

impl DoorTls {
    /// Reads the files. Blocks on the disk.
    ///
    /// # Errors
    /// Which file can't be used, and why.
    pub fn load(options: TlsOptions) -> Result<Arc<DoorTls>, TlsError> {
        let seen = looks(&options);
        let loaded = Loaded::read(&options)?;
        Ok(Arc::new(DoorTls {
            under_way: Semaphore::new(options.handshakes.max(1)),
            current: RwLock::new(Arc::new(loaded)),
            seen: Mutex::new(seen),
            failed: AtomicU64::new(0),
            options,
        }))
    }

    /// Reads the files again if one of them has changed, or if it is `forced`. Blocks on the disk.
    pub fn reload(&self, forced: bool) -> Reload {
        let looks = looks(&self.options);
        {
            let mut seen = self.seen.lock().expect("nothing panics while it is held");
            if !forced && *seen == looks {
                return Reload::Unchanged;
            }
            *seen = looks;
        }
        let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now_s = now_s.map_or(0, |since| since.as_secs().cast_signed());
        let loaded = Loaded::read(&self.options).and_then(|loaded| {
            match loaded.expiries.iter().find(|(_, not_after_s)| *not_after_s <= now_s) {
                Some((name, _)) => Err(TlsError(format!("the certificate has expired: {name}"))),
                None => Ok(loaded),
            }
        });
        match loaded {
            Ok(loaded) => {
                *self.current.write().expect("nothing panics while it is held") = Arc::new(loaded);
                Reload::Loaded
            }
            Err(why) => Reload::Kept(why),
        }
    }

    /// When the certificates in use expire: the file and the time, s since 1970.
    pub fn expiries(&self) -> Vec<(String, i64)> {
        self.loaded().expiries.clone()
    }

    /// Handshakes that failed, or were not done in time.
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// Makes the handshake; `None` when the client did not, in its time. The socket is closed then.
    pub(super) async fn accept(&self, stream: Stream) -> Option<Stream> {
        let socket = stream.into_any().downcast::<Socket>().ok()?;
        let handshake = async {
            let _turn = self.under_way.acquire().await.ok()?;
            let loaded = self.loaded();
            loaded.acceptor.tls_handshake(*socket).await.ok()
        };
        let accepted = timeout(self.options.handshake_timeout, handshake).await.ok().flatten();
        if accepted.is_none() {
            self.failed.fetch_add(1, Relaxed);
        }
        accepted.map(|stream| Box::new(stream) as Stream)
    }

    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.current.read().expect("nothing panics while it is held"))
    }
}

impl Loaded {
    fn read(options: &TlsOptions) -> Result<Loaded, TlsError> {
        pingora::tls::install_default_crypto_provider();
        let provider = CryptoProvider::get_default()
            .ok_or_else(|| TlsError("no cryptography is installed".to_owned()))?;
        let mut chosen = ByName { named: Vec::new(), first: None };
        let mut expiries = Vec::new();
        for files in &options.certificates {
            let (key, names, not_after_s) = read_certificate(files, provider)?;
            expiries.push((files.certificate.display().to_string(), not_after_s));
            chosen.first.get_or_insert_with(|| Arc::clone(&key));
            chosen.named.push((names, key));
        }
        if chosen.first.is_none() {
            return Err(TlsError("no certificate is named".to_owned()));
        }
        let failed = |e: Box<pingora::Error>| TlsError(e.to_string());
        let mut settings = TlsSettings::with_callbacks(Box::new(Identify)).map_err(failed)?;
        settings.set_cert_resolver(Arc::new(chosen));
        settings.set_alpn(ALPN::H1);
        if let Some(path) = &options.client_ca {
            settings.set_client_cert_verifier(read_client_ca(path, provider)?);
        }
        Ok(Loaded { acceptor: settings.build(), expiries })
    }
}

/// Notes who the client is, where the HTTP side finds it: in the digest of the connection.
struct Identify;

#[async_trait]
impl TlsAccept for Identify {
    async fn handshake_complete_callback(
        &self,
        tls: &TlsRef,
    ) -> Option<Arc<dyn std::any::Any + Send + Sync>> {
        let key = Hash::of_certificate(tls.peer_certificate_der()?)?;
        Some(Arc::new(key))
    }
}

/// Chooses a certificate by the host that the client names.
#[derive(Debug)]
struct ByName {
    named: Vec<(Vec<String>, Arc<CertifiedKey>)>,
    first: Option<Arc<CertifiedKey>>,
}

impl ByName {
    fn choose(&self, host: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let host = host.map(str::to_ascii_lowercase);
        let parent = host.as_deref().and_then(|host| host.split_once('.')).map(|(_, rest)| rest);
        let exact = |name: &String| Some(name.as_str()) == host.as_deref();
        let wild = |name: &String| parent.is_some() && name.strip_prefix("*.") == parent;
        let having = |wanted: &dyn Fn(&String) -> bool| {
            let found = self.named.iter().find(|(names, _)| names.iter().any(wanted));
            found.map(|(_, key)| key)
        };
        having(&exact).or_else(|| having(&wild)).or(self.first.as_ref())
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name()).cloned()
    }
}

type Certificate = (Arc<CertifiedKey>, Vec<String>, i64);

fn read_certificate(files: &TlsFiles, provider: &CryptoProvider) -> Result<Certificate, TlsError> {
    let chain = read_chain(&files.certificate)?;
    let at = |why: &str, path: &Path| TlsError(format!("{why}: {}", path.display()));
    let leaf = chain.first().ok_or_else(|| at("no certificate in it", &files.certificate))?;
    let (_, parsed) = X509Certificate::from_der(leaf)
        .map_err(|_| at("not an X.509 certificate", &files.certificate))?;
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|found| &found.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(host) => Some(host.to_ascii_lowercase()),
        _ => None,
    });
    let (names, not_after_s) = (names.collect(), parsed.validity().not_after.timestamp());
    let pem = read_file(&files.key)?;
    let key =
        PrivateKeyDer::from_pem_slice(&pem).map_err(|_| at("no private key in it", &files.key))?;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(|e| {
        at(&format!("the key is of no use for {} ({e})", files.certificate.display()), &files.key)
    })?;
    Ok((Arc::new(key), names, not_after_s))
}

fn read_client_ca(
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = |why: String| TlsError(format!("{why}: {}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path)? {
        roots.add(certificate).map_err(|e| unusable(e.to_string()))?;
    }
    // Who shows none may still prove itself by a key.
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .allow_unauthenticated()
        .build()
        .map_err(|e| unusable(e.to_string()))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read_file(path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    read.map_err(|e| TlsError(format!("not PEM ({e}): {}", path.display())))
}

fn read_file(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, TlsError> {
    use std::io::Read;

    let unread = |e: std::io::Error| TlsError(format!("{}: {}", e.kind(), path.display()));
    let file = std::fs::File::open(path).map_err(unread)?;
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    file.take(FILE_MAX).read_to_end(&mut bytes).map_err(unread)?;
    Ok(bytes)
}

fn looks(options: &TlsOptions) -> Vec<Look> {
    use std::os::unix::fs::MetadataExt;

    let certificates = options.certificates.iter();
    let paths = certificates.flat_map(|files| [&files.certificate, &files.key]);
    let look = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len(), found.ino()))
    };
    paths.chain(&options.client_ca).map(look).collect()
}
