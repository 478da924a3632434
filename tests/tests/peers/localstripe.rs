//! Our plugin at a Stripe that others wrote: `localstripe`, which its author's company tests with.
//!
//! It shares no line and no author with our fake, so it judges what both of ours could have wrong
//! alike: how forms are written, which parameters there are, the forms of numbers, metadata,
//! expanded charges, refunds and their lists, and how events are signed. It keeps no keys, so what
//! comes twice is done twice, and nothing here repeats a request. `bridge` says what it lacks.

use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use interlock_tests::house::{Answer, House, Plan, free_ports, fresh};
use serde_json::{Value, json};

use crate::bridge::Bridge;
use crate::{INSTALL, target};

const SOON: Duration = Duration::from_secs(20);
const KEY: &str = "whsec_localstripe";
/// By itself it listens at every address, and keeps what it knows in a file of its own.
const RUN: &str = "
import logging, sys
from aiohttp import web
from localstripe import server
logging.basicConfig(level=logging.INFO)
server.store.dump_to_disk = lambda: None
web.run_app(server.app, host='127.0.0.1', port=int(sys.argv[1]))
";

#[test]
fn a_stripe_that_others_wrote_takes_payments_and_is_understood() {
    let Some((peer, bridge, house)) = street() else { return };
    let paid = house.pay(&payment("pm_card_visa"));
    assert_eq!(
        (&paid["status"], &paid["amount"]),
        (&json!("succeeded"), &json!(4_900)),
        "{paid:?}"
    );
    let known = peer.asked(&format!("/v1/payment_intents/{}", peer.only("payment_intents")));
    assert_eq!((&known["amount"], &known["currency"]), (&json!(4_900), &json!("pln")));
    assert_eq!(known["payment_method"], "pm_card_visa");
    assert!(known["metadata"]["interlock_attempt"].is_string(), "{known}");

    let back = refund(&house, &paid, 900);
    assert_eq!((&back["status"], &back["amount"]), (&json!("succeeded"), &json!(900)), "{back:?}");
    // Its refund is done, its answer is lost, and the list of refunds tells of it.
    bridge.lose("/v1/refunds");
    let lost = refund(&house, &paid, 1_000);
    assert_eq!(lost["status"], "succeeded", "{lost:?}");
    assert!(bridge.passed().contains(&"GET /v1/refunds".to_owned()), "{:?}", bridge.passed());
    let refunds = peer.asked("/v1/refunds");
    let sums: Vec<_> = refunds["data"].as_array().unwrap().iter().map(|r| &r["amount"]).collect();
    assert_eq!(sums.len(), 2, "{refunds}");
    assert!(sums.contains(&&json!(900)) && sums.contains(&&json!(1_000)), "{refunds}");

    let refused = house.pay(&payment("pm_card_chargeCustomerFail"));
    assert_eq!(refused["status"], "failed", "{refused:?}");
    assert_eq!(refused["failure"]["provider_code"], "card_declined", "{refused:?}");
}

#[test]
fn a_stripe_that_others_wrote_holds_takes_and_lets_go() {
    let Some((peer, bridge, house)) = street() else { return };
    let held = house.pay(&manual());
    assert_eq!(held["status"], "requires_capture", "{held:?}");
    let taken = change(&house, &held, "capture", &json!({ "amount": 1_500 }));
    assert_eq!((&taken["status"], &taken["amount_captured"]), (&json!("succeeded"), &json!(1_500)));
    let known = peer.asked(&format!("/v1/payment_intents/{}", peer.only("payment_intents")));
    assert_eq!(known["status"], "succeeded", "{known}");
    assert!(known["metadata"]["interlock_capture"].is_string(), "{known}");

    // What was done and not told is found by a look at the payment.
    let held = house.pay(&manual());
    bridge.lose("/cancel");
    change(&house, &held, "cancel", &json!({}));
    house.wait_for(held["id"].as_str().unwrap(), SOON, |p| p["status"] == "canceled");
}

#[test]
fn what_a_stripe_that_others_wrote_signs_is_believed() {
    let Some((peer, _bridge, house)) = street() else { return };
    let hear = |name: &str, secret: &str| {
        let url = format!("{}/v1/notifications/localstripe", house.api);
        let body = json!({ "url": url, "secret": secret, "events": ["payment_intent.succeeded"] });
        let path = format!("/_config/webhooks/{name}");
        peer.ask("POST", &path, Some(&body));
    };
    hear("ours", KEY);
    house.pay(&payment("pm_card_visa"));
    peer.says("webhook \"payment_intent.succeeded\" successfully delivered");
    hear("ours", "whsec_another");
    house.pay(&payment("pm_card_visa"));
    peer.says("webhook \"payment_intent.succeeded\" failed with response code 401");
}

/// The other Stripe, the bridge to it, and a house with an account there.
fn street() -> Option<(Peer, Bridge, House)> {
    let peer = Peer::start()?;
    let bridge = Bridge::to(&peer.origin);
    let tail = format!(
        "
[accounts.localstripe]
plugin = \"stripe\"
isolation = \"in-process\"
endpoints = {{ api = \"{}\" }}
[accounts.localstripe.secrets]
secret_key = \"sk_test_localstripe\"
webhook_key = \"{KEY}\"
[[routes]]
name = \"localstripe\"
match = {{ method = \"card\", currency = \"PLN\" }}
candidates = [\"localstripe\"]
",
        bridge.address
    );
    let house = House::with(Plan { tail: Box::leak(tail.into_boxed_str()), ..Plan::default() });
    Some((peer, bridge, house))
}

fn payment(token: &str) -> Value {
    json!({
        "amount": 4_900, "currency": "PLN",
        "method": { "type": "card", "tokens": { "localstripe": token } },
    })
}

fn manual() -> Value {
    let mut body = payment("pm_card_visa");
    body["capture"] = "manual".into();
    body
}

fn refund(house: &House, payment: &Answer, amount: i64) -> Answer {
    let body = json!({ "payment": payment["id"], "amount": amount });
    house.post("/v1/refunds", &fresh("refund"), &body)
}

fn change(house: &House, payment: &Answer, what: &str, body: &Value) -> Answer {
    let path = format!("/v1/payments/{}/{what}", payment["id"].as_str().unwrap());
    house.post(&path, &fresh(what), body)
}

/// The other Stripe's process; ends when dropped.
struct Peer {
    child: Child,
    folder: tempfile::TempDir,
    origin: String,
}

impl Peer {
    /// `None` when these tests are left out.
    fn start() -> Option<Self> {
        let python = python()?;
        let folder = tempfile::tempdir().unwrap();
        let port = free_ports(1)[0];
        let log = File::create(folder.path().join("log")).unwrap();
        let child = Command::new(python)
            .args(["-c", RUN, &port.to_string()])
            .current_dir(folder.path())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let peer = Self { child, folder, origin: format!("http://127.0.0.1:{port}") };
        peer.wait("it listens", |_| TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(peer)
    }

    fn asked(&self, path: &str) -> Value {
        self.ask("GET", path, None)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let agent = ureq::Agent::new_with_defaults();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.origin))
            .header("Authorization", "Bearer sk_test_localstripe")
            .header("Content-Type", "application/json")
            .body(body.map(Value::to_string).unwrap_or_default())
            .unwrap();
        let text = agent.run(request).unwrap().body_mut().read_to_string().unwrap();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The number of the only thing of this kind.
    fn only(&self, kind: &str) -> String {
        let all = self.asked(&format!("/v1/{kind}"));
        assert_eq!(all["data"].as_array().map(Vec::len), Some(1), "{all}");
        all["data"][0]["id"].as_str().unwrap().to_owned()
    }

    /// Waits until its log has this line.
    fn says(&self, line: &str) {
        self.wait(line, |log| log.contains(line));
    }

    fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        let end = Instant::now() + SOON;
        loop {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
            if wanted(&log) {
                return;
            }
            assert!(Instant::now() < end, "the other Stripe: not {what}:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Python that `localstripe` is installed for, or `None` when these tests are left out.
fn python() -> Option<PathBuf> {
    if std::env::var_os("INTERLOCK_SKIP_PEERS").is_some() {
        eprintln!("left out: INTERLOCK_SKIP_PEERS is set");
        return None;
    }
    let home = target().join("peers/python");
    let has = |program: &str| Path::exists(&home.join("bin").join(program));
    assert!(has("localstripe"), "PyPI package localstripe is missing: {INSTALL}");
    Some(home.join("bin/python"))
}
