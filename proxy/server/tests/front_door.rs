//! The merchants' door, knocked at by clients that are slow, rude, hostile or many.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use interlock::front_door::{
    Door, DoorTls, FrontDoor, Handler, Limits, Request, Response, Running, TlsFiles, TlsOptions,
    serve,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};

#[tokio::test]
async fn a_request_arrives_whole_and_is_answered() {
    let house = House::open(Limits::default()).await;
    let mut client = house.knock().await;
    let head = "POST /echo?a=b HTTP/1.1\r\nHost: x\r\nX-One: 1\r\n";
    client.say(&format!("{head}Content-Length: 5\r\n\r\nhello")).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, "POST /echo a=b 1 hello");
    assert_eq!(answer.field("connection"), Some("keep-alive"));
    let id = answer.field("request-id").unwrap();
    assert!(id.starts_with("req_") && id.len() == 30, "{id}");
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let house = House::open(Limits::default()).await;
    let mut client = house.knock().await;
    for _ in 0..100 {
        client.say("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!(house.front.counts().requests, 100);
    assert_eq!(house.front.counts().connections, 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let house = House::open(Limits::default()).await;
    let mut client = house.knock().await;
    let three: String = ["a", "bb", "ccc"]
        .map(|body| {
            let length = body.len();
            format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}\r\n")
        })
        .concat();
    client.say(&three).await;
    for body in ["a", "bb", "ccc"] {
        assert_eq!(client.answer().await.body, format!("POST /echo - - {body}"));
    }
}

#[tokio::test]
async fn a_chunked_body_is_put_together() {
    let house = House::open(Limits::default()).await;
    let mut client = house.knock().await;
    client.say("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for part in ["3\r\nabc\r\n", "2\r\nde\r\n0\r\n\r\n"] {
        tokio::time::sleep(Duration::from_millis(5)).await;
        client.say(part).await;
    }
    assert_eq!(client.answer().await.body, "POST /echo - - abcde");
    client.say("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200, "the connection is still in step");
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_however_it_is_framed() {
    let house = House::open(Limits { body: 10, ..Limits::default() }).await;
    for framed in [
        "Content-Length: 11\r\n\r\n01234567890",
        "Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n6\r\n012345\r\n0\r\n\r\n",
    ] {
        let mut client = house.knock().await;
        client.say(&format!("POST /echo HTTP/1.1\r\nHost: x\r\n{framed}")).await;
        client.refused(413, "payload_too_large").await;
    }
    assert_eq!(house.handled(), 0);
    let mut client = house.knock().await;
    client.say("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789").await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_client_still_sending_a_refused_body_reads_the_refusal() {
    let house = House::open(Limits { body: 10, ..Limits::default() }).await;
    let mut client = house.knock().await;
    client.say("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n").await;
    client.say(&"x".repeat(500_000)).await;
    client.refused(413, "payload_too_large").await;
}

#[tokio::test]
async fn heads_above_the_limits_are_refused() {
    let house = House::open(Limits::default()).await;
    let many: String = (0..65).map(|n| format!("X-{n}: 1\r\n")).collect();
    for (head, status, code) in [
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(5000)), 414, "uri_too_long"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"), 431, "headers_too_large"),
        (
            format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(17_000)),
            431,
            "headers_too_large",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "a".repeat(17_000)),
            431,
            "headers_too_large",
        ),
    ] {
        let mut client = house.knock().await;
        client.say(&head).await;
        client.refused(status, code).await;
    }
    assert_eq!(house.handled(), 0);
}

#[tokio::test]
async fn smuggled_requests_are_refused_and_their_connection_closed() {
    let hidden = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let post = "POST /echo HTTP/1.1\r\nHost: x\r\n";
    let post_10 = "POST /echo HTTP/1.0\r\nHost: x\r\n";
    let end = "\r\n0\r\n\r\n";
    let attempts = [
        format!("{post}Content-Length: 4\r\n{chunked}{end}{hidden}"),
        format!("{post}{chunked}Content-Length: 5\r\n{end}{hidden}"),
        format!("{post}Content-Length: 0\r\nContent-Length: 40\r\n\r\n{hidden}"),
        format!("POST /echo HTTP/1.1\nHost: x\nContent-Length: 0\n\n{hidden}"),
        format!("{post}X: y\nContent-Length: 0\r\n\r\n{hidden}"),
        format!("{post_10}{chunked}{end}{hidden}"),
        format!("{post}Transfer-Encoding: chunked, identity\r\n{end}{hidden}"),
        format!("{post}Transfer-Encoding : chunked\r\n{end}{hidden}"),
        format!("{post}Content-Length: +5\r\n\r\n01234{hidden}"),
        format!("{post}{chunked}\r\nzz\r\n\r\n{hidden}"),
        format!("{post}{chunked}\r\n-1\r\n\r\n{hidden}"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\x16\x03\x01\x02\x00\x01\x00\x01\n".to_owned(),
    ];
    let house = House::open(Limits::default()).await;
    for attempt in &attempts {
        let mut client = house.knock().await;
        client.say(attempt).await;
        client.refused(400, "invalid_request").await;
    }
    assert_eq!(house.handled(), 0);
}

#[tokio::test]
async fn an_upgrade_is_not_taken_up() {
    let house = House::open(Limits::default()).await;
    let mut client = house.knock().await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: h2c\r\n";
    client.say(&format!("GET /echo HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n")).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_slow_head_and_a_slow_body_are_cut_off() {
    let read_timeout = Duration::from_millis(150);
    let house = House::open(Limits { read_timeout, ..Limits::default() }).await;
    for beginning in [
        "GET /echo HTTP/1.1\r\nHost: x\r\nX-",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n",
    ] {
        let began = Instant::now();
        let (mut read, mut write) = house.knock().await.stream.into_split();
        write.write_all(beginning.as_bytes()).await.unwrap();
        let drip = tokio::spawn(async move {
            while write.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let mut told = Vec::new();
        let _ = read.read_to_end(&mut told).await;
        let told = String::from_utf8_lossy(&told);
        assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
        assert!(told.contains("\"code\":\"request_timeout\""));
        assert!(began.elapsed() < Duration::from_secs(2));
        drip.await.unwrap();
    }
    assert_eq!(house.handled(), 0);
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let short = Duration::from_millis(60);
    let house = House::open(Limits { read_timeout: short, keepalive: short, ..Limits::default() });
    let house = house.await;
    let mut client = house.knock().await;
    assert_eq!(client.rest().await, "");
    let mut client = house.knock().await;
    client.say("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_merchant_who_hangs_up_does_not_stop_the_handler() {
    let house = House::open(Limits::default()).await;
    let mut client = house.knock().await;
    client.say("POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
    house.until(|handler| handler.begun.load(Ordering::SeqCst) == 1).await;
    client.stream.set_zero_linger().unwrap();
    drop(client);
    house.handler.gate.add_permits(1);
    house.until(|handler| handler.ended.load(Ordering::SeqCst) == 1).await;
    let front = &house.front;
    wait(|| front.counts().inflight == 0 && front.counts().connections == 0).await;
}

#[tokio::test]
async fn a_handler_that_panics_costs_one_answer() {
    let house = House::open(Limits::default()).await;
    let mut client = house.knock().await;
    client.say("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 500);
    assert!(answer.body.contains("\"code\":\"internal\"") && answer.body.contains("same_key"));
    client.say("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!((house.front.counts().panics, house.front.counts().inflight), (1, 0));
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_500() {
    let house = House::open(Limits::default()).await;
    let mut client = house.knock().await;
    client.say("GET /bad-answer HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 500);
}

#[tokio::test]
async fn requests_above_the_limit_in_flight_are_told_to_come_back() {
    let house = House::open(Limits { inflight: 1, ..Limits::default() }).await;
    let mut first = house.knock().await;
    first.say("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    house.until(|handler| handler.begun.load(Ordering::SeqCst) == 1).await;
    let mut second = house.knock().await;
    second.say("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = second.answer().await;
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    assert!(answer.body.contains("\"code\":\"overloaded\""));
    house.handler.gate.add_permits(1);
    assert_eq!(first.answer().await.status, 200);
    second.say("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(second.answer().await.status, 200, "and on the same connection");
}

#[tokio::test]
async fn connections_above_the_limit_are_refused() {
    let house = House::open(Limits { connections: 1, ..Limits::default() }).await;
    let mut first = house.knock().await;
    first.say("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(first.answer().await.status, 200);
    let mut second = house.knock().await;
    second.refused(503, "overloaded").await;
    drop(first);
    let front = &house.front;
    wait(|| front.counts().connections == 0).await;
    let mut third = house.knock().await;
    third.say("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(third.answer().await.status, 200);
}

#[tokio::test]
async fn an_address_that_calls_too_often_is_limited() {
    let house = House::open(Limits { rate_per_address: 5, ..Limits::default() }).await;
    let mut statuses = Vec::new();
    for _ in 0..12 {
        let mut client = house.knock().await;
        client.say("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").await;
        statuses.push(client.answer().await.status);
    }
    assert_eq!(statuses[..5], [200; 5]);
    assert!(statuses[5..].contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn head_and_http_1_0_are_answered_as_they_should_be() {
    let house = House::open(Limits::default()).await;
    let mut client = house.knock().await;
    client.say("HEAD /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let told = client.rest().await;
    assert!(told.contains("Content-Length: ") && told.ends_with("\r\n\r\n"), "{told}");
    let mut client = house.knock().await;
    client.say("GET /echo HTTP/1.0\r\n\r\n").await;
    assert!(client.rest().await.ends_with("GET /echo - - "));
}

#[tokio::test]
async fn a_client_that_expects_it_is_told_to_continue() {
    let house = House::open(Limits::default()).await;
    let mut client = house.knock().await;
    let head = "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n";
    client.say(&format!("{head}Content-Length: 2\r\n\r\n")).await;
    assert_eq!(client.answer().await.status, 100);
    client.say("ok").await;
    assert_eq!(client.answer().await.body, "POST /echo - - ok");
}

#[tokio::test]
async fn a_stream_is_sent_part_by_part() {
    let house = House::open(Limits::default()).await;
    let mut client = house.knock().await;
    client.say("GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let told = client.rest().await;
    assert!(told.contains("Transfer-Encoding: chunked"), "{told}");
    assert!(told.ends_with("5\r\nfirst\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_at_once_are_all_answered() {
    let house = House::open(Limits { rate_per_address: 0, ..Limits::default() }).await;
    let address = house.address;
    let clients: Vec<_> = (0..1000)
        .map(|n| {
            tokio::spawn(async move {
                let mut client = Client { stream: TcpStream::connect(address).await.unwrap() };
                for _ in 0..3 {
                    let body = format!("body-{n}");
                    let length = body.len();
                    let head = "POST /echo HTTP/1.1\r\nHost: x\r\n";
                    client.say(&format!("{head}Content-Length: {length}\r\n\r\n{body}")).await;
                    assert_eq!(client.answer().await.body, format!("POST /echo - - {body}"));
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(house.handled(), 3000);
}

#[tokio::test]
async fn a_stop_lets_requests_in_flight_finish_and_closes_the_rest() {
    let house = House::open(Limits::default()).await;
    let mut idle = house.knock().await;
    idle.say("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(idle.answer().await.status, 200);
    let mut busy = house.knock().await;
    busy.say("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    house.until(|handler| handler.begun.load(Ordering::SeqCst) == 1).await;

    let handler = house.handler.clone();
    // The drain comes last: by then both requests were handled to their end.
    let drain = async move { assert_eq!(handler.ended.load(Ordering::SeqCst), 2) };
    let began = Instant::now();
    let stop = tokio::spawn(house.running.stop(Duration::from_secs(5), drain));
    assert_eq!(idle.rest().await, "");
    wait_async(async || TcpStream::connect(house.address).await.is_err()).await;
    assert!(!stop.is_finished());
    house.handler.gate.add_permits(1);
    let answer = busy.answer().await;
    assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
    let stopped = stop.await.unwrap();
    assert_eq!((stopped.unfinished, stopped.drained), (0, true));
    assert!(began.elapsed() < Duration::from_secs(2), "nothing is waited for once all is done");
}

#[tokio::test]
async fn a_stop_does_not_wait_longer_than_told() {
    let house = House::open(Limits::default()).await;
    let mut busy = house.knock().await;
    busy.say("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    house.until(|handler| handler.begun.load(Ordering::SeqCst) == 1).await;
    let stopped = house.running.stop(Duration::from_millis(50), std::future::pending()).await;
    assert_eq!((stopped.unfinished, stopped.drained), (1, false));
}

#[tokio::test]
async fn doors_open_and_close_again_in_one_process() {
    for _ in 0..3 {
        let house = House::open(Limits::default()).await;
        let mut client = house.knock().await;
        client.say("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
        let stopped = house.running.stop(Duration::from_secs(5), async {}).await;
        assert_eq!((stopped.unfinished, stopped.drained), (0, true));
        assert!(TcpStream::connect(house.address).await.is_err());
    }
}

#[test]
fn a_process_told_to_terminate_answers_drains_and_leaves_at_once() {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "serve_until_told", "--ignored", "--nocapture"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut told = || lines.next().unwrap().unwrap();
    let address: SocketAddr = told().strip_prefix("open ").unwrap().parse().unwrap();
    let mut client = std::net::TcpStream::connect(address).unwrap();
    client.write_all(b"GET /pause HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(told(), "handling");
    let began = Instant::now();
    let killed = std::process::Command::new("kill").arg(child.id().to_string()).status();
    assert!(killed.unwrap().success());
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(told(), "draining");
    assert_eq!(told(), "Stopped { unfinished: 0, drained: true }");
    assert!(child.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
#[ignore = "the other process of the test above"]
fn serve_until_told() {
    struct Pausing;
    #[async_trait]
    impl Handler for Pausing {
        async fn handle(&self, _: Request) -> Response {
            eprintln!("handling");
            tokio::time::sleep(Duration::from_millis(300)).await;
            Response::text(200, "done")
        }
    }
    let start = async {
        let front = FrontDoor::new(Arc::new(Pausing), Limits::default());
        let door = Door::bind("127.0.0.1:0".parse().unwrap(), front)?;
        eprintln!("open {}", door.address()?);
        Ok::<_, std::io::Error>((vec![door], async { eprintln!("draining") }))
    };
    let stopped = serve(1, Duration::from_secs(10), start).unwrap();
    eprintln!("{stopped:?}");
}

#[tokio::test]
async fn a_door_speaks_tls_and_refuses_files_that_it_cannot_use() {
    use tokio_rustls::rustls::{self, pki_types::ServerName};
    let made = rcgen::generate_simple_self_signed(vec!["door.example".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let files = TlsFiles {
        certificate: write("c.pem", made.cert.pem()),
        key: write("k.pem", made.signing_key.serialize_pem()),
    };
    let options = |files: &TlsFiles| TlsOptions {
        certificates: vec![files.clone()],
        client_ca: None,
        handshake_timeout: Duration::from_secs(5),
        handshakes: 4,
    };
    let door = || {
        let front = FrontDoor::new(Arc::new(Echo::default()), Limits::default());
        Door::bind("127.0.0.1:0".parse().unwrap(), front).unwrap()
    };
    let wrong = TlsFiles { key: write("w.pem", "nonsense".to_owned()), ..files.clone() };
    let other = rcgen::KeyPair::generate().unwrap();
    let foreign = TlsFiles { key: write("o.pem", other.serialize_pem()), ..files.clone() };
    for (unusable, why) in [(&wrong, "no private key"), (&foreign, "of no use for")] {
        let told = DoorTls::load(options(unusable)).err().unwrap().to_string();
        assert!(told.contains(why) && told.contains(".pem"), "{told}");
    }
    let tls = DoorTls::load(options(&files)).unwrap();
    let running = Running::open(vec![door().with_tls(tls)]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let plain = TcpStream::connect(running.addresses()[0]).await.unwrap();
    let name = ServerName::try_from("door.example").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, plain).await.unwrap();
    stream.write_all(b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut told = String::new();
    let _ = stream.read_to_string(&mut told).await;
    assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a judgement"]
async fn measure_an_idle_connection() {
    let resident = || -> usize {
        let told = std::fs::read_to_string("/proc/self/statm").unwrap();
        told.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let house = House::open(Limits { rate_per_address: 0, ..Limits::default() }).await;
    let mut clients = Vec::new();
    let mut before = 0;
    for n in 0..1100 {
        if n == 100 {
            before = resident();
        }
        let mut client = house.knock().await;
        client.ask("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").await;
        clients.push(client);
    }
    eprintln!("{} bytes per idle connection, both ends", (resident() - before) / 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a judgement"]
async fn measure_a_trivial_handler() {
    let house = House::open(Limits { rate_per_address: 0, ..Limits::default() }).await;
    let request = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    let mut client = house.knock().await;
    let began = Instant::now();
    for _ in 0..20_000 {
        client.ask(request).await;
    }
    eprintln!("{:?} per request, one client in a row", began.elapsed() / 20_000);
    let began = Instant::now();
    let address = house.address;
    let clients: Vec<_> = (0..32)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Client { stream: TcpStream::connect(address).await.unwrap() };
                for _ in 0..2_000 {
                    client.ask(request).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    eprintln!("{:?} per request, 32 clients, client's work included", began.elapsed() / 64_000);
}

#[derive(Default)]
struct Echo {
    begun: AtomicUsize,
    ended: AtomicUsize,
    gate: Gate,
}

struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Gate {
        Gate(Semaphore::new(0))
    }
}

impl std::ops::Deref for Gate {
    type Target = Semaphore;

    fn deref(&self) -> &Semaphore {
        &self.0
    }
}

#[async_trait]
impl Handler for Echo {
    async fn handle(&self, request: Request) -> Response {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let response = match request.path.as_str() {
            "/panic" => panic!("as asked"),
            "/bad-answer" => Response {
                headers: vec![("X-Bad", "a\r\nb: c".to_owned())],
                ..Response::text(200, "")
            },
            "/slow" => {
                self.gate.acquire().await.unwrap().forget();
                Response::text(200, "slow")
            }
            "/stream" => {
                let (send, parts) = mpsc::channel(4);
                for part in ["one", "two"] {
                    send.send(Bytes::from_static(part.as_bytes())).await.unwrap();
                }
                Response { stream: Some(parts), ..Response::text(200, "first") }
            }
            _ => {
                let one = request.headers.get("x-one").map_or("-", |value| value.to_str().unwrap());
                let query = request.query.as_deref().unwrap_or("-");
                let body = String::from_utf8_lossy(&request.body);
                let told = format!("{} {} {query} {one} {body}", request.method, request.path);
                assert!(request.peer.is_some());
                Response::text(200, told)
            }
        };
        self.ended.fetch_add(1, Ordering::SeqCst);
        response
    }
}

struct House {
    address: SocketAddr,
    front: FrontDoor,
    handler: Arc<Echo>,
    running: Running,
}

impl House {
    async fn open(limits: Limits) -> House {
        let handler = Arc::new(Echo::default());
        let front = FrontDoor::new(handler.clone(), limits);
        let door = Door::bind("127.0.0.1:0".parse().unwrap(), front.clone()).unwrap();
        let running = Running::open(vec![door]).unwrap();
        House { address: running.addresses()[0], front, handler, running }
    }

    async fn knock(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap() }
    }

    fn handled(&self) -> usize {
        self.handler.begun.load(Ordering::SeqCst)
    }

    async fn until(&self, condition: impl Fn(&Echo) -> bool) {
        wait(|| condition(&self.handler)).await;
    }
}

struct Client {
    stream: TcpStream,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (told, value) = line.split_once(": ")?;
            told.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Client {
    async fn say(&mut self, text: &str) {
        // A door that has refused may have closed already.
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// One write and one read, for measuring.
    async fn ask(&mut self, text: &str) {
        self.say(text).await;
        let count = self.stream.read(&mut [0; 1024]).await.unwrap();
        assert!(count > 100);
    }

    /// Reads exactly one answer with a length.
    async fn answer(&mut self) -> Answer {
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            let byte = tokio::time::timeout(Duration::from_secs(10), self.stream.read_u8());
            read.push(byte.await.expect("an answer in time").expect("an answer"));
        }
        let head = String::from_utf8(read).unwrap();
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.field("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.unwrap();
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    /// Everything until the door closes.
    async fn rest(&mut self) -> String {
        let mut told = Vec::new();
        let reading = self.stream.read_to_end(&mut told);
        let read = tokio::time::timeout(Duration::from_secs(10), reading).await;
        read.expect("the door closes in time").expect("the door closes in peace");
        String::from_utf8(told).unwrap()
    }

    /// One problem document, and then nothing more.
    async fn refused(&mut self, status: u16, code: &str) {
        let answer = self.answer().await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert_eq!(answer.field("content-type"), Some("application/problem+json"));
        assert!(answer.body.contains(&format!("\"code\":\"{code}\"")), "{}", answer.body);
        assert!(answer.body.contains(answer.field("request-id").unwrap()));
        assert_eq!(answer.field("connection"), Some("close"));
        assert_eq!(self.rest().await, "");
    }
}

async fn wait(condition: impl Fn() -> bool) {
    wait_async(async || condition()).await;
}

async fn wait_async(condition: impl AsyncFn() -> bool) {
    for _ in 0..3000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came to be");
}
