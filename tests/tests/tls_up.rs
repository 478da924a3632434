//! TLS to the providers: a pinned authority, our own certificate, a pinned public key, and a
//! second site that is tried while connecting. A terminator with mutual TLS stands before the
//! sandbox; what it lets through is the sandbox's to count.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use interlock_tests::house::{Answer, House, Plan, free_ports, fresh, tokens};
use interlock_tests::ledger;
use interlock_tests::pki::{Authority, Issued};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

const ACCOUNT: &str = "checkout-us";

/// Speaks TLS with whoever shows a certificate of `clients`, and plain text with the sandbox.
struct Terminator {
    address: SocketAddr,
    /// Connections whose client proved itself.
    admitted: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl Terminator {
    fn start(issued: &Issued, clients: &Authority, target: String) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(clients.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&provider),
        );
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(builder.build().unwrap())
            .with_single_cert(vec![CertificateDer::from(issued.der())], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let admitted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&admitted);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, target) = (acceptor.clone(), target.clone());
                let counter = Arc::clone(&counter);
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    counter.fetch_add(1, Ordering::SeqCst);
                    let Ok(mut plain) = tokio::net::TcpStream::connect(target).await else {
                        return;
                    };
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut plain).await;
                });
            }
        });
        Self { address, admitted, _runtime: runtime }
    }

    fn admitted(&self) -> usize {
        self.admitted.load(Ordering::SeqCst)
    }
}

/// The house, where one account speaks TLS; `lines` gives more lines of it and its endpoints.
fn house(lines: impl Fn(&Terminator, &House) -> String) -> (House, Terminator) {
    let mut house = House::prepared(Plan::default());
    let folder = house.dir.path().to_owned();
    let (providers, ours) = (Authority::new("of providers"), Authority::new("of ours"));
    let provider = providers.issue(&["localhost"]);
    provider.write(&folder, "provider");
    ours.issue(&[]).write(&folder, "us");
    fs::write(folder.join("providers.pem"), &providers.pem).unwrap();
    let path = folder.join("interlock.toml");
    let text = fs::read_to_string(&path).unwrap();
    let section = format!("[accounts.{ACCOUNT}]\n");
    let from = text.find(&section).unwrap();
    let line = text[from..].lines().find(|line| line.starts_with("endpoints")).unwrap().to_owned();
    let target = line.split('"').nth(1).unwrap().trim_start_matches("http://").to_owned();
    let terminator = Terminator::start(&provider, &ours, target);
    let (before, after) = text.split_at(from);
    let after = after.replacen(&line, &lines(&terminator, &house), 1);
    fs::write(&path, before.to_owned() + &after).unwrap();
    house.start_proxy();
    (house, terminator)
}

fn pin(house: &House, certificate: &str) -> String {
    let (done, pin) = house.cli(&["tls", "pin", certificate]);
    assert!(done, "{pin}");
    pin.trim().to_owned()
}

const OURS: &str = "ca = \"providers.pem\"\nclient_cert = \"us.pem\"\nclient_key = \"us.key\"\n";

fn native(house: &House, key: &str) -> Answer {
    let body = json!({
        "source": {
            "type": "network_token", "token": "4900000000001111", "token_type": "applepay",
            "expiry_month": "12", "expiry_year": 2099, "cryptogram": key, "eci": "05",
        },
        "amount": 4_900, "currency": "EUR", "reference": key,
    });
    let headers = [
        ("X-Interlock-Key", "test_key_1"),
        ("Authorization", "Bearer sk_test_secret_3"),
        ("Cko-Idempotency-Key", key),
    ];
    let url = format!("{}/native/{ACCOUNT}/payments", house.api);
    house.send("POST", &url, &headers, Some(body.to_string().as_bytes()))
}

fn received(house: &House) -> usize {
    house.requests(ACCOUNT).len()
}

#[test]
fn both_ways_out_prove_themselves_and_ask_for_the_pinned_key() {
    let (house, terminator) = house(|terminator, house| {
        let port = terminator.address.port();
        let pin = pin(house, "provider.pem");
        format!("endpoints = {{ api = \"https://localhost:{port}\" }}\n{OURS}spki = \"{pin}\"")
    });
    for _ in 0..2 {
        let paid = native(&house, &fresh("native"));
        assert_eq!(paid.status, 201, "{paid:?}");
    }
    for _ in 0..3 {
        let paid = house.pay(&tokens(1_000, "USD"));
        assert_eq!((&paid["status"], &paid["account"]), (&json!("succeeded"), &json!(ACCOUNT)));
    }
    // One to look at the key, which ends as soon as it was seen; one for each way out.
    assert!((2..=3).contains(&terminator.admitted()), "{}", terminator.admitted());
    assert_eq!(received(&house), 5);
}

#[test]
fn a_provider_with_another_key_than_the_pinned_one_receives_nothing() {
    let (house, _terminator) = house(|terminator, house| {
        let port = terminator.address.port();
        let wrong = pin(house, "us.pem");
        format!("endpoints = {{ api = \"https://localhost:{port}\" }}\n{OURS}spki = [\"{wrong}\"]")
    });
    let lost = native(&house, &fresh("native"));
    assert_eq!((lost.status, &lost["sent"]), (502, &json!("no")), "{lost:?}");
    let paid = house.pay(&tokens(1_000, "USD"));
    assert_eq!(paid["status"], "succeeded", "{paid:?}");
    assert_eq!(paid["account"], "checkout-eu", "not sent is proven, so the next is tried");
    assert_eq!(received(&house), 0);
    let losses = [("account", ACCOUNT), ("reason", "tls")];
    assert_eq!(house.metric("interlock_unanswered_total", &losses), 2.0);
}

#[test]
fn an_authority_that_is_not_the_pinned_one_receives_nothing() {
    let (house, _terminator) = house(|terminator, _| {
        let port = terminator.address.port();
        let lines = OURS.replace("providers.pem", "us.pem");
        format!("endpoints = {{ api = \"https://localhost:{port}\" }}\n{lines}")
    });
    let lost = native(&house, &fresh("native"));
    assert_eq!((lost.status, &lost["code"]), (502, &json!("provider_unreachable")), "{lost:?}");
    assert_eq!(received(&house), 0);
}

#[test]
fn files_that_are_no_pair_disable_the_account_and_say_so() {
    let (house, _terminator) = house(|terminator, _| {
        let port = terminator.address.port();
        let lines = OURS.replace("us.key", "provider.key");
        format!("endpoints = {{ api = \"https://localhost:{port}\" }}\n{lines}")
    });
    let accounts = house.operate("GET", "/admin/v1/accounts", None);
    let list = accounts["accounts"].as_array().unwrap();
    let account = list.iter().find(|account| account["name"] == ACCOUNT).unwrap();
    let reason = account["reason"].as_str().unwrap();
    assert!(reason.contains("client certificate cannot be used"), "{reason}");
    assert_eq!(house.pay(&tokens(1_000, "USD"))["account"], "checkout-eu");
}

#[test]
fn a_second_site_is_tried_while_connecting_and_never_after() {
    let closed = free_ports(1)[0];
    let (house, terminator) = house(|terminator, _| {
        let port = terminator.address.port();
        let sites = format!("[\"https://127.0.0.1:{closed}\", \"https://localhost:{port}\"]");
        format!("endpoints = {{ api = {sites} }}\n{OURS}")
    });
    for n in 1..=3 {
        let paid = native(&house, &fresh("native"));
        assert_eq!(paid.status, 201, "{paid:?}");
        let paid = house.pay(&tokens(1_000, "USD"));
        assert_eq!((&paid["status"], &paid["account"]), (&json!("succeeded"), &json!(ACCOUNT)));
        assert_eq!(ledger::charges(&house.ledger(), &paid.json), 1);
        assert_eq!(received(&house), 2 * n);
    }
    assert!(terminator.admitted() >= 1);
    let lost = house.metric("interlock_unanswered_total", &[("account", ACCOUNT)]);
    assert_eq!(lost, 0.0, "a site that is down is no loss while another is up");
    // After a byte left, the other site is nobody's: one copy, and the truth about it.
    for (fault, charged) in [("charge_then_drop", 1), ("reset_after_read", 0)] {
        let (sent, before) = (received(&house), house.ledger().len());
        house.fault_with(json!({ "account": ACCOUNT, "operation": "authorize", "fault": fault }));
        let lost = native(&house, &fresh("native"));
        assert_eq!((lost.status, &lost["code"]), (502, &json!("outcome_unknown")), "{lost:?}");
        assert_eq!(lost["sent"], "maybe");
        house.lift_faults();
        assert_eq!((received(&house), house.ledger().len()), (sent + 1, before + charged));
    }
}
