//! Where one account's provider lives: scheme, host, base path and the authority it must prove.
//!
//! pingora verifies nothing when the server name is empty, and leaves the CA out of its pool key;
//! so an endpoint always has a server name, and its pool key names the account and its CA.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::TcpKeepalive;
use pingora::tls::RootCertStore;
use pingora::upstreams::peer::{HttpPeer, Tracer};
use pingora::utils::tls::{WrappedX509, parse_x509};
use pingora::{ErrorType, OrErr};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::names::Names;
use super::{Failure, reason};

/// A provider's base URL as one account uses it; cheap to clone.
#[derive(Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

struct Inner {
    tls: bool,
    host: Host,
    port: u16,
    /// As written in `Host`: brackets around IPv6, the port only when it is not the scheme's.
    authority: String,
    /// Without its last slash; empty for the root.
    prefix: String,
    authorities: Option<Arc<[WrappedX509]>>,
    group_key: u64,
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
}

impl fmt::Display for EndpointError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointError::NotAnUrl(url) => write!(out, "base url is not http or https: {url}"),
            EndpointError::Surplus(url) => {
                write!(out, "base url has a user, query or fragment: {url}")
            }
            EndpointError::BadCa(why) => write!(out, "pinned ca cannot be used: {why}"),
        }
    }
}

impl std::error::Error for EndpointError {}

impl Endpoint {
    /// `base_url` may have a path, before which every request's path is put. With `ca_pem` only
    /// these authorities are trusted, else the platform's. Accounts never share connections.
    pub fn new(
        account: &str,
        base_url: &str,
        ca_pem: Option<&[u8]>,
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
        let authorities = ca_pem.map(read_authorities).transpose()?;
        let mut hasher = DefaultHasher::new();
        (account, tls, &authority, ca_pem).hash(&mut hasher);
        Ok(Endpoint {
            inner: Arc::new(Inner {
                tls,
                host,
                port,
                authority,
                prefix: url.path().trim_end_matches('/').to_owned(),
                authorities,
                group_key: hasher.finish(),
                allowed: |_| true,
            }),
        })
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
            authorities: i.authorities.clone(),
            group_key: i.group_key,
            allowed,
        };
        Endpoint { inner: Arc::new(inner) }
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
        peer.options.ca = self.inner.authorities.clone();
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
