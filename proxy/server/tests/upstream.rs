//! The edge to the providers, against servers that misbehave in every way a provider does.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use interlock::upstream::{
    Endpoint, Incoming, Lost, Outgoing, Sent, Upstream, UpstreamOptions, reason,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn a_whole_answer_comes_back_with_its_headers() {
    let provider = Provider::answering(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nX-Req: 7\r\n\
          Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    )
    .await;
    let answer = send(&upstream(), &provider, post()).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (201, &b"abcde"[..]));
    assert!(answer.headers.contains(&("x-req".to_owned(), "7".to_owned())));
    assert!(answer.connect_elapsed.is_some() && !answer.reused);
    assert_eq!(provider.requests(), ["POST /v1/pay HTTP/1.1"]);
}

#[tokio::test]
async fn a_refused_connection_is_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let lost = to(&upstream(), address, post()).await.unwrap_err();
    assert_eq!(told(&lost), (Sent::NotSent, reason::CONNECT_REFUSED));
}

#[tokio::test]
async fn a_name_without_address_is_not_sent() {
    let endpoint = Endpoint::new("a", "http://no-such-host.invalid", None).unwrap();
    let mut outgoing = post();
    outgoing.connect_timeout = Duration::from_secs(3);
    let lost = upstream().send(&endpoint, outgoing).await.unwrap_err();
    assert_eq!(told(&lost), (Sent::NotSent, reason::DNS));
}

#[tokio::test]
async fn a_name_is_resolved_here() {
    let provider = Provider::answering(OK).await;
    let url = format!("http://localhost:{}", provider.address.port());
    let endpoint = Endpoint::new("a", &url, None).unwrap();
    assert_eq!(upstream().send(&endpoint, post()).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_provider_that_closes_before_it_reads_leaves_us_in_doubt() {
    let provider = Provider::new(|stream, _| async move { drop(stream) }).await;
    let lost = send(&upstream(), &provider, post()).await.unwrap_err();
    assert_eq!(lost.sent, Sent::MaybeSent);
    let words = [reason::CLOSED_WITHOUT_ANSWER, reason::RESET, reason::WRITE_FAILED];
    assert!(words.contains(&lost.reason), "{lost:?}");
}

#[tokio::test]
async fn a_provider_that_closes_after_it_read_leaves_us_in_doubt() {
    let provider = Provider::new(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
    })
    .await;
    let lost = send(&upstream(), &provider, post()).await.unwrap_err();
    assert_eq!(told(&lost), (Sent::MaybeSent, reason::CLOSED_WITHOUT_ANSWER));
}

#[tokio::test]
async fn a_reset_leaves_us_in_doubt() {
    let provider = Provider::new(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    let lost = send(&upstream(), &provider, post()).await.unwrap_err();
    assert_eq!(told(&lost), (Sent::MaybeSent, reason::RESET));
}

#[tokio::test]
async fn a_hang_ends_at_the_deadline_with_the_socket_closed() {
    let provider = Provider::new(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        seen.end_of(&mut stream).await;
    })
    .await;
    let upstream = upstream();
    let mut outgoing = post();
    outgoing.deadline = Instant::now() + Duration::from_millis(150);
    let lost = send(&upstream, &provider, outgoing).await.unwrap_err();
    assert_eq!(told(&lost), (Sent::MaybeSent, reason::TIMEOUT));
    assert_eq!(upstream.counts().open, 0, "the socket is closed before the loss is told");
    assert!(lost.elapsed < Duration::from_secs(2));
    assert_eq!(provider.seen.ended().await, "reset");
}

#[tokio::test]
async fn a_dropped_exchange_closes_its_socket() {
    let provider = Provider::new(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        seen.end_of(&mut stream).await;
    })
    .await;
    let upstream = upstream();
    let mut sending = Box::pin(send(&upstream, &provider, post()));
    tokio::select! {
        _ = &mut sending => unreachable!("nobody answers"),
        _ = provider.seen.until(1) => {}
    }
    assert_eq!(upstream.counts().open, 1);
    drop(sending);
    assert_eq!(upstream.counts().open, 0);
    assert_eq!(provider.seen.ended().await, "reset");
}

#[tokio::test]
async fn an_answer_that_is_not_whole_is_unreadable() {
    let halves: [&[u8]; 6] = [
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"<html>not http</html>\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
    ];
    for half in halves {
        let provider = Provider::answering_and_closing(half).await;
        let lost = send(&upstream(), &provider, post()).await.unwrap_err();
        let shown = String::from_utf8_lossy(half);
        assert_eq!(told(&lost), (Sent::MaybeSent, reason::UNREADABLE), "{shown}");
    }
}

#[tokio::test]
async fn an_answer_above_the_limit_is_cut_off() {
    let answers: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n01234567890",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
          8\r\n01234567\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n01234567890",
    ];
    for answer in answers {
        let provider = Provider::answering_and_closing(answer).await;
        let mut outgoing = post();
        outgoing.body_limit = 10;
        let lost = send(&upstream(), &provider, outgoing).await.unwrap_err();
        assert_eq!(told(&lost), (Sent::MaybeSent, reason::ANSWER_TOO_LARGE));
    }
}

#[tokio::test]
async fn a_body_that_drips_ends_at_the_deadline() {
    let provider = Provider::new(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await;
        while stream.write_all(b".").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let mut outgoing = post();
    outgoing.deadline = Instant::now() + Duration::from_millis(200);
    let lost = send(&upstream(), &provider, outgoing).await.unwrap_err();
    assert_eq!(told(&lost), (Sent::MaybeSent, reason::TIMEOUT));
    assert!(lost.elapsed < Duration::from_secs(2));
}

#[tokio::test]
async fn a_pooled_connection_that_died_is_replaced_before_anything_is_written() {
    // Answers one request on each connection, says keep-alive, and closes all the same.
    let provider = Provider::answering_and_closing(OK).await;
    let upstream = upstream();
    for round in 1..=20 {
        let answer = send(&upstream, &provider, post()).await.unwrap();
        assert!(!answer.reused);
        // The provider's close is on its way; pingora's watcher takes it out of the pool.
        until(|| upstream.counts().open == 0).await;
        assert_eq!(provider.requests().len(), round, "no request was sent twice");
    }
}

#[tokio::test]
async fn a_pooled_connection_that_dies_under_a_post_leaves_us_in_doubt_and_is_not_sent_again() {
    let provider = Provider::new(second_request_is_cut_off).await;
    let upstream = upstream();
    assert!(send(&upstream, &provider, post()).await.is_ok());
    let lost = send(&upstream, &provider, post()).await.unwrap_err();
    assert_eq!(told(&lost), (Sent::MaybeSent, reason::CLOSED_WITHOUT_ANSWER));
    assert_eq!(provider.requests().len(), 2);
}

#[tokio::test]
async fn a_read_is_sent_again_on_a_fresh_connection() {
    let provider = Provider::new(second_request_is_cut_off).await;
    let upstream = upstream();
    let read = || Outgoing { method: "GET".to_owned(), retry_read: true, ..post() };
    assert!(send(&upstream, &provider, read()).await.is_ok());
    let answer = send(&upstream, &provider, read()).await.unwrap();
    assert!(!answer.reused);
    assert_eq!(provider.requests().len(), 3);
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_spoil_a_pooled_connection() {
    let provider = Provider::new(|mut stream, seen| async move {
        read_request(&mut stream, &seen).await;
        let _ = stream.write_all(&[OK, OK].concat()).await;
        seen.end_of(&mut stream).await;
    })
    .await;
    let upstream = upstream();
    for _ in 0..2 {
        assert!(!send(&upstream, &provider, post()).await.unwrap().reused);
    }
}

#[tokio::test]
async fn a_thousand_requests_in_a_row_use_one_connection() {
    let provider = Provider::answering(OK).await;
    let upstream = upstream();
    for _ in 0..1000 {
        send(&upstream, &provider, post()).await.unwrap();
    }
    let counts = upstream.counts();
    assert_eq!((counts.connects, counts.reuses, counts.open), (1, 999, 1));
    assert_eq!(upstream.idle(), 1);
    assert_eq!(provider.requests().len(), 1000);
}

#[tokio::test]
async fn accounts_do_not_share_connections() {
    let provider = Provider::answering(OK).await;
    let upstream = upstream();
    for account in ["a", "b"] {
        let url = format!("http://{}", provider.address);
        let endpoint = Endpoint::new(account, &url, None).unwrap();
        assert!(!upstream.send(&endpoint, post()).await.unwrap().reused);
    }
}

#[tokio::test]
async fn a_request_whose_time_has_passed_is_not_sent() {
    let provider = Provider::answering(OK).await;
    let upstream = upstream();
    send(&upstream, &provider, post()).await.unwrap();
    let mut outgoing = post();
    outgoing.last_send_by = Instant::now() - Duration::from_millis(1);
    let lost = send(&upstream, &provider, outgoing).await.unwrap_err();
    assert_eq!(told(&lost), (Sent::NotSent, reason::TOO_LATE));
    assert_eq!(provider.requests().len(), 1);
}

#[tokio::test]
async fn a_handshake_that_outlasts_the_last_moment_sends_nothing() {
    // Accepts, and never answers the TLS hello: the budget ends in the connect phase.
    let provider = Provider::new(|mut stream, seen| async move {
        seen.end_of(&mut stream).await;
    })
    .await;
    let url = format!("https://{}", provider.address);
    let endpoint = Endpoint::new("a", &url, None).unwrap();
    let mut outgoing = post();
    outgoing.connect_timeout = Duration::from_millis(100);
    let lost = upstream().send(&endpoint, outgoing).await.unwrap_err();
    assert_eq!(told(&lost), (Sent::NotSent, reason::CONNECT_TIMEOUT));
}

#[tokio::test]
async fn a_handshake_during_which_the_last_moment_passes_sends_nothing() {
    let ours = Authority::new();
    let acceptor = ours.acceptor("localhost");
    let provider = Provider::new(move |stream, seen| {
        let acceptor = acceptor.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(150)).await;
            let stream = acceptor.accept(stream).await.unwrap();
            serve(stream, seen, OK, false).await;
        }
    })
    .await;
    let url = format!("https://localhost:{}", provider.address.port());
    let endpoint = Endpoint::new("a", &url, Some(ours.pem().as_bytes())).unwrap();
    let mut outgoing = post();
    outgoing.last_send_by = Instant::now() + Duration::from_millis(50);
    let lost = upstream().send(&endpoint, outgoing).await.unwrap_err();
    assert_eq!(told(&lost), (Sent::NotSent, reason::TOO_LATE));
    assert_eq!(provider.requests(), [""; 0]);
}

#[tokio::test]
async fn tls_is_verified_against_the_pinned_authority_and_the_name() {
    let ours = Authority::new();
    let provider = Provider::tls(&ours, "localhost").await;
    let port = provider.address.port();
    let upstream = upstream();
    let try_it = |url: String, authority: Option<String>| {
        let pem = authority.as_ref().map(String::as_bytes);
        let endpoint = Endpoint::new("a", &url, pem).unwrap();
        let upstream = upstream.clone();
        async move { upstream.send(&endpoint, post()).await }
    };
    let good = format!("https://localhost:{port}");
    let answer = try_it(good.clone(), Some(ours.pem())).await.unwrap();
    assert_eq!((answer.status, answer.reused), (200, false));
    assert!(try_it(good.clone(), Some(ours.pem())).await.unwrap().reused, "pooled over tls");

    let stranger = Authority::new();
    for (url, authority) in [
        (good.clone(), Some(stranger.pem())),
        (good, None),
        (format!("https://127.0.0.1:{port}"), Some(ours.pem())),
    ] {
        let lost = try_it(url, authority).await.unwrap_err();
        assert_eq!(told(&lost), (Sent::NotSent, reason::TLS));
    }
    assert_eq!(provider.requests().len(), 2, "a provider that cannot prove itself saw nothing");
}

#[tokio::test]
async fn a_tls_provider_that_cuts_the_answer_is_unreadable() {
    let ours = Authority::new();
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let provider = Provider::tls_answering(&ours, "localhost", half, true).await;
    let url = format!("https://localhost:{}", provider.address.port());
    let endpoint = Endpoint::new("a", &url, Some(ours.pem().as_bytes())).unwrap();
    let lost = upstream().send(&endpoint, post()).await.unwrap_err();
    assert_eq!(told(&lost), (Sent::MaybeSent, reason::UNREADABLE));
}

#[tokio::test]
async fn plain_text_where_tls_was_expected_is_not_sent() {
    let provider = Provider::new(|mut stream, seen| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        seen.end_of(&mut stream).await;
    })
    .await;
    let url = format!("https://{}", provider.address);
    let endpoint = Endpoint::new("a", &url, None).unwrap();
    let lost = upstream().send(&endpoint, post()).await.unwrap_err();
    assert_eq!(told(&lost), (Sent::NotSent, reason::TLS));
}

#[tokio::test]
async fn losses_are_counted_by_reason() {
    let upstream = upstream();
    let provider = Provider::new(second_request_is_cut_off).await;
    send(&upstream, &provider, post()).await.unwrap();
    send(&upstream, &provider, post()).await.unwrap_err();
    let lost: u64 = upstream.counts().lost.iter().map(|(_, count)| count).sum();
    assert_eq!(lost, 1);
    assert!(upstream.counts().lost.contains(&(reason::CLOSED_WITHOUT_ANSWER, 1)));
}

#[tokio::test]
async fn a_large_body_arrives_whole() {
    let provider = Provider::answering(OK).await;
    let mut outgoing = post();
    outgoing.body = Bytes::from(vec![b'x'; 3 << 20]);
    assert_eq!(send(&upstream(), &provider, outgoing).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a judgement"]
async fn measure_an_exchange() {
    let provider = Provider::answering(OK).await;
    let upstream = upstream();
    let endpoint = Endpoint::new("a", &format!("http://{}", provider.address), None).unwrap();
    for _ in 0..500 {
        upstream.send(&endpoint, post()).await.unwrap();
    }
    let began = Instant::now();
    for _ in 0..20_000 {
        upstream.send(&endpoint, post()).await.unwrap();
    }
    eprintln!("{:?} per exchange, in a row", began.elapsed() / 20_000);
}

/// Answers the first request of each connection, and closes on the second.
async fn second_request_is_cut_off(mut stream: TcpStream, seen: Arc<Seen>) {
    read_request(&mut stream, &seen).await;
    let _ = stream.write_all(OK).await;
    read_request(&mut stream, &seen).await;
}

fn upstream() -> Upstream {
    Upstream::new(UpstreamOptions::default())
}

fn post() -> Outgoing {
    Outgoing {
        method: "POST".to_owned(),
        path_and_query: "/v1/pay".to_owned(),
        headers: vec![("Idempotency-Key".to_owned(), "k".to_owned())],
        body: Bytes::from_static(b"{\"amount\":1}"),
        connect_timeout: Duration::from_secs(2),
        deadline: Instant::now() + Duration::from_secs(10),
        last_send_by: Instant::now() + Duration::from_secs(10),
        body_limit: 1 << 20,
        cut_body: false,
        retry_read: false,
        spill: None,
    }
}

async fn send(
    upstream: &Upstream,
    provider: &Provider,
    outgoing: Outgoing,
) -> Result<Incoming, Lost> {
    to(upstream, provider.address, outgoing).await
}

async fn to(
    upstream: &Upstream,
    address: SocketAddr,
    outgoing: Outgoing,
) -> Result<Incoming, Lost> {
    let endpoint = Endpoint::new("a", &format!("http://{address}"), None).unwrap();
    upstream.send(&endpoint, outgoing).await
}

fn told(lost: &Lost) -> (Sent, &'static str) {
    (lost.sent, lost.reason)
}

async fn until(condition: impl Fn() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came to be");
}

/// A server on loopback that does what its script says, and remembers the request lines.
struct Provider {
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    lines: std::sync::Mutex<Vec<String>>,
    ended: std::sync::Mutex<Option<&'static str>>,
    connections: AtomicU32,
}

impl Provider {
    async fn new<F: Future<Output = ()> + Send + 'static>(
        script: impl Fn(TcpStream, Arc<Seen>) -> F + Send + Sync + 'static,
    ) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let provider = Provider { address, seen: seen.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                seen.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(stream, seen.clone()));
            }
        });
        provider
    }

    async fn answering(answer: &'static [u8]) -> Provider {
        Provider::new(move |stream, seen| serve(stream, seen, answer, false)).await
    }

    async fn answering_and_closing(answer: &'static [u8]) -> Provider {
        Provider::new(move |stream, seen| serve(stream, seen, answer, true)).await
    }

    async fn tls(authority: &Authority, name: &str) -> Provider {
        Provider::tls_answering(authority, name, OK, false).await
    }

    async fn tls_answering(
        authority: &Authority,
        name: &str,
        answer: &'static [u8],
        close: bool,
    ) -> Provider {
        let acceptor = authority.acceptor(name);
        Provider::new(move |stream, seen| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, seen, answer, close).await;
                }
            }
        })
        .await
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lines.lock().unwrap().clone()
    }
}

impl Seen {
    /// Notes how the client ended the connection.
    async fn end_of(&self, stream: &mut TcpStream) {
        let end = loop {
            match stream.read(&mut [0; 1024]).await {
                Ok(0) => break "closed",
                Ok(_) => {}
                Err(_) => break "reset",
            }
        };
        *self.ended.lock().unwrap() = Some(end);
    }

    async fn ended(&self) -> &'static str {
        until(|| self.ended.lock().unwrap().is_some()).await;
        self.ended.lock().unwrap().unwrap()
    }

    async fn until(&self, requests: usize) {
        until(|| self.lines.lock().unwrap().len() == requests).await;
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: Arc<Seen>,
    answer: &'static [u8],
    close: bool,
) {
    while read_request(&mut stream, &seen).await {
        if stream.write_all(answer).await.is_err() || close {
            return;
        }
        let _ = stream.flush().await;
    }
}

/// Reads one request with its body; false at the end of the connection.
async fn read_request(stream: &mut (impl AsyncRead + Unpin), seen: &Seen) -> bool {
    let mut read = Vec::new();
    let mut part = vec![0; 65536];
    loop {
        let Ok(count @ 1..) = stream.read(&mut part).await else {
            return false;
        };
        read.extend_from_slice(&part[..count]);
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .map_or(0, |length| length.parse::<usize>().unwrap());
        if read.len() >= end + 4 + length {
            seen.lines.lock().unwrap().push(head.lines().next().unwrap().to_owned());
            return true;
        }
    }
}

/// A certificate authority made for one test.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: rcgen::Issuer::new(params, key), pem }
    }

    fn pem(&self) -> String {
        self.pem.clone()
    }

    fn acceptor(&self, name: &str) -> tokio_rustls::TlsAcceptor {
        use tokio_rustls::rustls::{self, pki_types::PrivateKeyDer};
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    }
}
