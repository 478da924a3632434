//! Where one account's provider lives: scheme, host, base path and the authority it must prove.
//!
//! pingora verifies nothing when the server name is empty, and leaves the CA out of its pool key;
//! so an endpoint always has a server name, and its pool key names the account and all that a
//! connection of it has proved.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pingora::protocols::{Stream, TcpKeepalive};
use pingora::tls::sign::CertifiedKey;
use pingora::tls::{CryptoProvider, RootCertStore};
use pingora::upstreams::peer::{HttpPeer, Tracer};
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora::{ErrorType, OrErr};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::names::Names;
use super::{Failure, reason};
use crate::access::Hash;

/// How long a site that could not be reached comes after its neighbours.
const SET_ASIDE: Duration = Duration::from_secs(10);
/// A provider has one certificate in use at each site, for a time two.
const LEAVES_KEPT: usize = 64;

/// A provider's base URL as one account uses it; cheap to clone. It may have further sites: other
/// doors of the same system, tried in the connect phase alone.
#[derive(Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
    others: Arc<[Endpoint]>,
}

/// What a connection must prove, and how we prove ourselves. All of it is checked when it is made.
#[derive(Clone, Default)]
pub struct Trust {
    ca: Option<Arc<[WrappedX509]>>,
    client: Option<Arc<CertKey>>,
    pins: Vec<Hash>,
    /// Stands for all of it in the key of the pool.
    key: u64,
}

impl Trust {
    /// With `ca_pem` only these authorities are trusted, else the platform's. `client` is our own
    /// chain and private key, PEM. With `pins`, the provider's certificate must have one of these
    /// public keys besides.
    pub fn new(
        ca_pem: Option<&[u8]>,
        client: Option<(&[u8], &[u8])>,
        pins: &[Hash],
    ) -> Result<Trust, EndpointError> {
        let mut hasher = DefaultHasher::new();
        (ca_pem, client, pins.iter().map(Hash::bytes).collect::<Vec<_>>()).hash(&mut hasher);
        Ok(Trust {
            ca: ca_pem.map(read_authorities).transpose()?,
            client: client.map(|(chain, key)| read_client(chain, key)).transpose()?,
            pins: pins.to_vec(),
            key: hasher.finish(),
        })
    }

    /// Tells two of them apart.
    pub fn key(&self) -> u64 {
        self.key
    }
}

struct Inner {
    tls: bool,
    host: Host,
    port: u16,
    /// As written in `Host`: brackets around IPv6, the port only when it is not the scheme's.
    authority: String,
    /// Without its last slash; empty for the root.
    prefix: String,
    trust: Trust,
    group_key: u64,
    /// SHA-256 of certificates whose public key is pinned.
    leaves: Mutex<HashSet<Vec<u8>>>,
    set_aside_until: Mutex<Option<Instant>>,
    /// Which addresses may be connected to.
    allowed: fn(IpAddr) -> bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Literal(IpAddr),
    Name(String),
}

/// Why a base URL or its pinned CA is refused. The configuration is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointError {
    /// Not `http://` or `https://` with a host.
    NotAnUrl(String),
    /// User, query or fragment have no place in a base URL.
    Surplus(String),
    /// The CA holds no PEM certificate, or one that cannot be read.
    BadCa(String),
    /// Our own certificate and key can't be used together.
    BadClient(String),
}

impl fmt::Display for EndpointError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointError::NotAnUrl(url) => write!(out, "base url is not http or https: {url}"),
            EndpointError::Surplus(url) => {
                write!(out, "base url has a user, query or fragment: {url}")
            }
            EndpointError::BadCa(why) => write!(out, "pinned ca cannot be used: {why}"),
            EndpointError::BadClient(why) => {
                write!(out, "client certificate cannot be used: {why}")
            }
        }
    }
}

impl std::error::Error for EndpointError {}

impl Endpoint {
    /// As [`Endpoint::trusting`], with authorities alone.
    pub fn new(
        account: &str,
        base_url: &str,
        ca_pem: Option<&[u8]>,
    ) -> Result<Endpoint, EndpointError> {
        Endpoint::trusting(account, base_url, &Trust::new(ca_pem, None, &[])?)
    }

    /// `base_url` may have a path, before which every request's path is put. Accounts never share
    /// connections.
    pub fn trusting(
        account: &str,
        base_url: &str,
        trust: &Trust,
    ) -> Result<Endpoint, EndpointError> {
        let not_an_url = || EndpointError::NotAnUrl(base_url.to_owned());
        if base_url.contains(['@', '?', '#']) {
            return Err(EndpointError::Surplus(base_url.to_owned()));
        }
        let url: http::Uri = base_url.parse().map_err(|_| not_an_url())?;
        let tls = match url.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(not_an_url()),
        };
        let written = url.host().filter(|host| !host.is_empty()).ok_or_else(not_an_url)?;
        let bare = written.trim_start_matches('[').trim_end_matches(']');
        let host = match bare.parse::<IpAddr>() {
            Ok(address) => Host::Literal(address),
            Err(_) => Host::Name(bare.to_ascii_lowercase()),
        };
        let usual = if tls { 443 } else { 80 };
        let port = url.port_u16().unwrap_or(usual);
        let authority =
            if port == usual { written.to_owned() } else { format!("{written}:{port}") };
        let mut hasher = DefaultHasher::new();
        (account, tls, &authority, trust.key).hash(&mut hasher);
        Ok(Endpoint {
            inner: Arc::new(Inner {
                tls,
                host,
                port,
                authority,
                prefix: url.path().trim_end_matches('/').to_owned(),
                trust: trust.clone(),
                group_key: hasher.finish(),
                leaves: Mutex::default(),
                set_aside_until: Mutex::default(),
                allowed: |_| true,
            }),
            others: Arc::default(),
        })
    }

    /// The same with further sites, in the order in which they are tried.
    pub fn with_others(self, others: Vec<Endpoint>) -> Endpoint {
        Endpoint { others: others.into(), ..self }
    }

    /// Every site, in the order in which they are to be tried now: those that could not be reached
    /// a moment ago come last.
    pub(super) fn sites(&self) -> Vec<&Endpoint> {
        let mut sites: Vec<&Endpoint> = std::iter::once(self).chain(&*self.others).collect();
        let now = Instant::now();
        sites.sort_by_key(|site| {
            let until = *site.inner.set_aside_until.lock().expect("nothing panics meanwhile");
            until.is_some_and(|until| until > now)
        });
        sites
    }

    /// Notes whether a connection could be opened.
    pub fn reached(&self, reached: bool) {
        let until = (!reached).then(|| Instant::now() + SET_ASIDE);
        *self.inner.set_aside_until.lock().expect("nothing panics meanwhile") = until;
    }

    /// Whether the other end has a public key that is pinned, if any is.
    pub(super) fn is_pinned(&self, stream: &Stream) -> bool {
        if self.inner.trust.pins.is_empty() {
            return true;
        }
        let leaf = stream.get_ssl().and_then(|tls| tls.peer_certificate_der());
        let Some(leaf) = leaf else { return false };
        let key = Hash::of_certificate(leaf);
        let pinned = key.is_some_and(|key| self.inner.trust.pins.contains(&key));
        if pinned {
            let digest = ring::digest::digest(&ring::digest::SHA256, leaf);
            let mut leaves = self.inner.leaves.lock().expect("nothing panics meanwhile");
            if leaves.len() >= LEAVES_KEPT {
                leaves.clear();
            }
            leaves.insert(digest.as_ref().to_vec());
        }
        pinned
    }

    /// Whether a certificate with this SHA-256 is known to have a pinned key; true without pins.
    pub(super) fn knows_leaf(&self, digest: &[u8]) -> bool {
        let leaves = self.inner.leaves.lock().expect("nothing panics meanwhile");
        self.inner.trust.pins.is_empty() || leaves.contains(digest)
    }

    /// The same, connecting only to addresses that are allowed: each is judged when its name was
    /// resolved, and what was judged is what is connected to.
    pub fn only_to(self, allowed: fn(IpAddr) -> bool) -> Endpoint {
        let i = &*self.inner;
        let inner = Inner {
            tls: i.tls,
            host: i.host.clone(),
            port: i.port,
            authority: i.authority.clone(),
            prefix: i.prefix.clone(),
            trust: i.trust.clone(),
            group_key: i.group_key,
            allowed,
            leaves: Mutex::default(),
            set_aside_until: Mutex::default(),
        };
        Endpoint { inner: Arc::new(inner), others: self.others.clone() }
    }

    /// As it stands in `Host`.
    pub fn authority(&self) -> &str {
        &self.inner.authority
    }

    /// The base path, before which every request's path is put; empty for the root.
    pub fn prefix(&self) -> &str {
        &self.inner.prefix
    }

    pub(super) async fn addresses(&self, names: &Names) -> Result<Vec<SocketAddr>, Failure> {
        let mut addresses = match &self.inner.host {
            Host::Literal(address) => vec![SocketAddr::new(*address, self.inner.port)],
            Host::Name(name) => names.resolve(name, self.inner.port).await?,
        };
        addresses.retain(|address| (self.inner.allowed)(address.ip()));
        if addresses.is_empty() {
            return Err(Failure::not_sent(reason::ADDRESS_REFUSED));
        }
        Ok(addresses)
    }

    pub(super) fn peer(
        &self,
        address: SocketAddr,
        user_timeout: Duration,
        tracer: Tracer,
    ) -> HttpPeer {
        let server_name = match &self.inner.host {
            Host::Literal(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        };
        let mut peer = HttpPeer::new(address, self.inner.tls, server_name);
        peer.group_key = self.inner.group_key;
        peer.options.ca = self.inner.trust.ca.clone();
        peer.client_cert_key = self.inner.trust.client.clone();
        peer.options.tracer = Some(tracer);
        peer.options.tcp_keepalive = Some(TcpKeepalive {
            idle: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            count: 3,
            user_timeout,
        });
        peer.options.upstream_tcp_sock_tweak_hook = Some(Arc::new(|socket| {
            socket.set_zero_linger().or_err(ErrorType::SocketError, "SO_LINGER 0")
        }));
        peer
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.inner.tls { "https" } else { "http" };
        write!(out, "{scheme}://{}{}", self.inner.authority, self.inner.prefix)
    }
}

/// Our own chain and key. Pingora uses them at each handshake, and panics on those that it can't.
fn read_client(chain: &[u8], key: &[u8]) -> Result<Arc<CertKey>, EndpointError> {
    let bad = |why: &str| EndpointError::BadClient(why.to_owned());
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let certificates = certificates.map_err(|_| bad("the certificate is not PEM"))?;
    if certificates.is_empty() {
        return Err(bad("no certificate is in it"));
    }
    if certificates.iter().any(|der| x509_parser::parse_x509_certificate(der).is_err()) {
        return Err(bad("a certificate can't be read"));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| bad("no private key is in it"))?;
    let bytes = key.secret_der().to_vec();
    // The form is guessed from the bytes again later.
    PrivateKeyDer::try_from(bytes.clone()).map_err(|_| bad("the key can't be read"))?;
    pingora::tls::install_default_crypto_provider();
    let provider = CryptoProvider::get_default().ok_or_else(|| bad("no cryptography"))?;
    CertifiedKey::from_der(certificates.clone(), key, provider)
        .map_err(|e| EndpointError::BadClient(e.to_string()))?;
    let certificates = certificates.iter().map(|der| der.to_vec()).collect();
    Ok(Arc::new(CertKey::new(certificates, bytes)))
}

fn read_authorities(pem: &[u8]) -> Result<Arc<[WrappedX509]>, EndpointError> {
    let mut authorities = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| EndpointError::BadCa(error.to_string()))?;
        // Both readings happen again at every handshake, where pingora panics or fails.
        let mut store = RootCertStore::empty();
        store.add(certificate.clone()).map_err(|error| EndpointError::BadCa(error.to_string()))?;
        x509_parser::parse_x509_certificate(&certificate)
            .map_err(|error| EndpointError::BadCa(error.to_string()))?;
        authorities.push(WrappedX509::new(certificate.to_vec(), parse_x509));
    }
    if authorities.is_empty() {
        return Err(EndpointError::BadCa("no certificate in it".to_owned()));
    }
    Ok(authorities.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_taken_apart_once() {
        let endpoint = Endpoint::new("a", "https://Api.Example:8443/v1/", None).unwrap();
        assert_eq!(endpoint.authority(), "Api.Example:8443");
        assert_eq!(endpoint.prefix(), "/v1");
        assert_eq!(endpoint.inner.host, Host::Name("api.example".to_owned()));
        let endpoint = Endpoint::new("a", "http://[::1]:9", None).unwrap();
        assert_eq!(endpoint.authority(), "[::1]:9");
        assert_eq!(endpoint.inner.host, Host::Literal("::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_base_url_is_refused() {
        for url in ["", "api.example", "ftp://x", "https://", "/v1", "http://a b"] {
            assert!(
                matches!(Endpoint::new("a", url, None), Err(EndpointError::NotAnUrl(_))),
                "{url}"
            );
        }
        for url in ["https://u:p@x", "https://x?q=1", "https://x/#f"] {
            assert!(
                matches!(Endpoint::new("a", url, None), Err(EndpointError::Surplus(_))),
                "{url}"
            );
        }
    }

    #[test]
    fn a_ca_that_holds_no_certificate_is_refused() {
        for pem in [&b""[..], b"nonsense", PRIVATE, GARBLED] {
            let refused = Endpoint::new("a", "https://x", Some(pem));
            assert!(matches!(refused, Err(EndpointError::BadCa(_))), "{refused:?}");
        }
    }

    #[test]
    fn two_accounts_never_share_a_connection() {
        let key = |account, url| Endpoint::new(account, url, None).unwrap().inner.group_key;
        assert_ne!(key("a", "https://x"), key("b", "https://x"));
        assert_ne!(key("a", "https://x"), key("a", "http://x"));
        assert_eq!(key("a", "https://x"), key("a", "https://x/v2"));
    }

    const PRIVATE: &[u8] = b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    const GARBLED: &[u8] = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
}
