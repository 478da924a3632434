//! TLS at the doors of the binary: certificates by name, replaced while it runs, and merchants
//! known by theirs.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use interlock_tests::house::{House, Plan, fresh, qr, tokens};
use interlock_tests::pki::{Authority, Client, Connection, Issued, one_answer};
use interlock_tests::raw;

const SOON: Duration = Duration::from_secs(20);
const TWO: &str = "tls = { certificates = [{ certificate = \"a.pem\", key = \"a.key\" }, \
                   { certificate = \"b.pem\", key = \"b.key\" }], handshake_timeout = \"1s\", \
                   handshakes = 1 }";

/// A house whose merchants' door has the certificates `a` and `b`.
fn house(authority: &Authority, plan: Plan) -> House {
    let mut house = House::prepared(plan);
    authority.issue(&["a.example", "*.wild.example"]).write(house.dir.path(), "a");
    authority.issue(&["b.example"]).write(house.dir.path(), "b");
    house.start_proxy();
    house
}

fn payment(key: Option<&str>) -> String {
    let body = tokens(1_000, "EUR").to_string();
    let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    format!(
        "POST /v1/payments HTTP/1.1\r\nHost: x\r\n{key}Idempotency-Key: {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        fresh("tls"),
        body.len()
    )
}

fn leaf(stream: &Connection) -> Vec<u8> {
    stream.conn.peer_certificates().expect("shown")[0].to_vec()
}

fn served(folder: &Path, name: &str) -> Vec<u8> {
    let read = |ending: &str| fs::read_to_string(folder.join(format!("{name}.{ending}")));
    let issued = Issued { certificate: read("pem").expect("read"), key: String::new() };
    issued.der()
}

#[test]
fn merchants_pay_over_tls_and_the_name_chooses_the_certificate() {
    let authority = Authority::default();
    let house = house(&authority, Plan { server_lines: TWO, ..Plan::default() });
    for version in ["1.2", "1.3"] {
        let client = Client { version: Some(version), ..Client::trusting(&authority) };
        let request = payment(Some("test_key_1"));
        let told = client.ask(&house.api, "a.example", request.as_bytes()).expect("answered");
        assert_eq!(told.statuses(), [201], "{version}: {}", told.text);
        assert!(told.text.contains("\"status\":\"succeeded\""), "{version}: {}", told.text);
    }
    for (host, file) in
        [("a.example", "a"), ("B.example", "b"), ("x.wild.example", "a"), ("b.example", "b")]
    {
        let stream = Client::trusting(&authority).connect(&house.api, host).expect("trusted");
        assert!(leaf(&stream) == served(house.dir.path(), file), "{host}");
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    }
    let stranger = Client::trusting(&authority).connect(&house.api, "c.example");
    assert!(stranger.is_err(), "no certificate is for that name");
    let two = Client { offers: vec!["h2"], ..Client::trusting(&authority) };
    assert!(two.connect(&house.api, "a.example").is_err(), "HTTP/2 is not spoken");
    let both = Client { offers: vec!["h2", "http/1.1"], ..Client::trusting(&authority) };
    assert!(both.connect(&house.api, "a.example").is_ok());
    // Plain HTTP gets no HTTP back.
    let told = raw::say(&house.api, payment(Some("test_key_1")).as_bytes());
    assert!(told.closed && told.statuses().is_empty(), "{told:?}");
    assert_eq!(house.journalled(), 2);
}

#[test]
fn a_client_that_does_not_finish_its_handshake_is_cut_off_and_holds_nobody_up_for_long() {
    let authority = Authority::default();
    let house = house(&authority, Plan { server_lines: TWO, ..Plan::default() });
    let began = Instant::now();
    let silent = raw::knock(&house.api);
    std::thread::sleep(Duration::from_millis(300));
    // The only place is taken by the silent one; the next waits for its turn.
    let client = Client::trusting(&authority);
    let told = client.ask(&house.api, "a.example", payment(Some("test_key_1")).as_bytes());
    assert_eq!(told.expect("its turn came").statuses(), [201]);
    let told = raw::heard(silent, began);
    assert!(told.closed && told.text.is_empty(), "{told:?}");
    assert!(told.elapsed >= Duration::from_millis(900), "{told:?}");
    assert!(told.elapsed < Duration::from_secs(5), "{told:?}");
    house.wait_until("it is counted", SOON, |h| {
        h.metric("interlock_tls_handshake_failures_total", &[("door", "merchants")]) >= 1.0
    });
    assert!(!house.log().contains("ERROR"), "a rude client is no error of ours");
}

#[test]
fn new_certificates_are_used_without_a_restart_and_bad_ones_are_not() {
    let authority = Authority::default();
    let house = house(&authority, Plan { server_lines: TWO, ..Plan::default() });
    let folder = house.dir.path();
    let client = Client::trusting(&authority);
    let connect = || client.connect(&house.api, "a.example").expect("trusted");
    let reloads = |result| house.metric("interlock_tls_reload_total", &[("result", result)]);
    let first = served(folder, "a");
    let mut open = connect();
    assert!(leaf(&open) == first);

    // A renewal that the watcher finds.
    authority.issue(&["a.example"]).write(folder, "a");
    house.wait_until("the new one is served", SOON, |_| leaf(&connect()) == served(folder, "a"));
    assert!(reloads("loaded") >= 1.0);
    // The old connection goes on.
    open.write_all(b"GET /v1/payments HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
    assert!(one_answer(&mut open).expect("an answer").starts_with("HTTP/1.1 401 "));

    // What can't be used is said, and not used.
    let good = served(folder, "a");
    let of_another = authority.issue(&["a.example"]);
    let expired = authority.issue_expired("a.example");
    let cases = [
        ("a.pem", of_another.certificate.clone()),
        ("a.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()),
        ("a.pem", String::new()),
    ];
    let mut kept = reloads("kept");
    for (file, content) in cases {
        fs::write(folder.join(file), content).expect("written");
        house.signal_proxy("HUP");
        house.wait_until("it is judged", SOON, |_| reloads("kept") > kept);
        kept = reloads("kept");
        assert!(leaf(&connect()) == good, "the old one stays");
    }
    expired.write(folder, "a");
    house.signal_proxy("HUP");
    house.wait_until("it is judged", SOON, |h| h.log().contains("the certificate has expired"));
    assert!(leaf(&connect()) == good, "the old one stays");
    assert!(house.log().contains("new certificates can't be used"));
    fs::remove_file(folder.join("a.key")).expect("removed");
    house.signal_proxy("HUP");
    house.wait_until("it is judged", SOON, |_| reloads("kept") > kept + 1.0);
    assert!(leaf(&connect()) == good, "the old one stays");

    // And at once, when told.
    let last = authority.issue(&["a.example"]);
    last.write(folder, "a");
    house.signal_proxy("HUP");
    house.wait_until("the last one is served", SOON, |_| leaf(&connect()) == last.der());
    let certificate = [("door", "merchants")];
    let not_after = house.metric("interlock_tls_not_after_seconds", &certificate);
    assert!(not_after > 1.0e9, "{not_after}");
}

#[test]
fn a_hangup_without_certificates_ends_nothing() {
    let mut house = House::start();
    house.signal_proxy("HUP");
    house.wait_until("it is said", SOON, |h| h.log().contains("configuration is taken up"));
    assert!(house.proxy_is_alive());
}

#[test]
fn a_certificate_proves_a_merchant_on_both_ways_in() {
    let (authority, clients) = (Authority::default(), Authority::new("of clients"));
    let [known, native, unknown] = [(); 3].map(|()| clients.issue(&[]));
    let mut house = House::prepared(Plan {
        server_lines: "tls = { certificates = [{ certificate = \"a.pem\", key = \"a.key\" }], \
                       client_ca = \"clients.pem\" }",
        ..Plan::default()
    });
    let folder = house.dir.path().to_owned();
    authority.issue(&["a.example"]).write(&folder, "a");
    fs::write(folder.join("clients.pem"), &clients.pem).expect("written");
    let mut pins = Vec::new();
    for (name, issued) in [("known", &known), ("native", &native)] {
        issued.write(&folder, name);
        let (done, pin) = house.cli(&["tls", "pin", &format!("{name}.pem")]);
        assert!(done, "{pin}");
        pins.push(pin.trim().to_owned());
    }
    let path = folder.join("interlock.toml");
    let text = fs::read_to_string(&path).expect("read");
    let merchant = format!(
        "\n[merchants.certified.keys.till]\nclient_cert = \"{}\"\n\
         [merchants.certified.keys.sdk]\nclient_cert = \"{}\"\nscopes = [\"native\"]\n",
        pins[0], pins[1]
    );
    fs::write(&path, text + &merchant).expect("written");
    house.start_proxy();

    let ask = |client: &Client, request: &str| {
        client.ask(&house.api, "a.example", request.as_bytes()).map(|told| told.text)
    };
    let plain = Client::trusting(&authority);
    let showing = |issued: &Issued| Client::trusting(&authority).showing(issued);
    let native_of = |path: &str| {
        format!(
            "GET /native/checkout-us/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \
             sk_test_secret_3\r\nConnection: close\r\n\r\n"
        )
    };
    let status = |told: std::io::Result<String>| {
        let told = told.expect("an answer");
        told.get(9..12).and_then(|s| s.parse::<u16>().ok()).expect("a status")
    };
    // The unified API.
    assert_eq!(status(ask(&showing(&known), &payment(None))), 201);
    assert_eq!(status(ask(&plain, &payment(None))), 401, "nothing is shown");
    assert_eq!(status(ask(&plain, &payment(Some("test_key_1")))), 201, "a key is as good");
    assert_eq!(status(ask(&showing(&unknown), &payment(None))), 401, "signed, and nobody's");
    assert_eq!(status(ask(&showing(&unknown), &payment(Some("test_key_1")))), 201);
    assert_eq!(status(ask(&showing(&known), &payment(Some("wrong_key")))), 401, "a key decides");
    let told = ask(&showing(&native), &payment(None)).expect("an answer");
    assert!(told.starts_with("HTTP/1.1 403 ") && told.contains("payments:write"), "{told}");
    // The native way.
    let sent = house.sent();
    let told = ask(&showing(&native), &native_of("payments/pay_none")).expect("an answer");
    assert!(told.starts_with("HTTP/1.1 404 "), "the provider's own answer: {told}");
    assert_eq!(house.sent(), sent + 1);
    assert_eq!(status(ask(&showing(&known), &native_of("payments/x"))), 404);
    let sent = house.sent();
    assert_eq!(status(ask(&plain, &native_of("payments/x"))), 401);
    assert_eq!(status(ask(&showing(&unknown), &native_of("payments/x"))), 401);
    // A stranger's certificate does not pass the handshake at all.
    let forged = Authority::new("of strangers").issue(&[]);
    assert!(ask(&showing(&forged), &payment(Some("test_key_1"))).is_err());
    assert_eq!(house.sent(), sent, "nothing of these was sent on");
    assert_eq!(house.journalled(), 3);
}

#[test]
fn the_admin_door_speaks_tls_to_the_command_line() {
    let authority = Authority::default();
    let mut house = House::prepared(Plan {
        tail: "\n[admin.tls]\ncertificates = [{ certificate = \"a.pem\", key = \"a.key\" }]\n",
        ..Plan::default()
    });
    let folder = house.dir.path().to_owned();
    authority.issue(&["127.0.0.1"]).write(&folder, "a");
    fs::write(folder.join("ca.pem"), &authority.pem).expect("written");
    house.spawn_proxy();
    house.wait_until("the merchants' door is open", SOON, |h| {
        h.try_send("GET", &format!("{}/v1/payments", h.api), &[], None).is_some()
    });
    assert_eq!(house.pay(&qr(100)).status, 201);
    let listed = house.cli(&["payment", "list", "--config", "interlock.toml", "--ca", "ca.pem"]);
    assert!(listed.0 && listed.1.contains("alipay-main"), "{}", listed.1);
    let (code, told) = house.cli_code(&["payment", "list", "--config", "interlock.toml"]);
    assert_eq!(code, Some(3), "an authority that is not trusted: {told}");
    let checked = house.cli(&["check", "--config", "interlock.toml"]);
    assert!(checked.0, "{}", checked.1);
    fs::write(folder.join("a.key"), "nonsense").expect("written");
    let (code, told) = house.cli_code(&["check", "--config", "interlock.toml"]);
    assert!(code == Some(1) && told.contains("a.key") && told.contains("C071"), "{told}");
}
