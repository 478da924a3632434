//! The document of the merchants' API against what the API does: by our own eyes, and by those of
//! `schemathesis`, which invents requests from the document and judges every answer by it.
//!
//! `cargo xtask test` installs it; `INTERLOCK_SKIP_PEERS=1` leaves that part out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use interlock_tests::house::{House, barcode, network_token, qr, tokens};
use serde_json::{Value, json};

/// Requests that schemathesis invents for each operation and phase.
const EXAMPLES: &str = "10";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,\
                      missing_required_header,ignored_auth";

#[test]
fn answers_have_the_members_that_the_document_gives_them() {
    let house = House::start();
    let url = format!("{}/openapi.json", house.api);
    let document = house.send("GET", &url, &[("Authorization", "none")], None);
    assert_eq!(document.status, 200, "nobody needs a key to read it");
    let committed = root().join("proxy/server/openapi.json");
    assert_eq!(document.body, std::fs::read(committed).unwrap(), "it is the committed one");
    let members = |name: &str| keys(&document["components"]["schemas"][name]["properties"]);
    let mut body = network_token(4_900, "EUR");
    body["metadata"] = json!({ "cart": "88" });
    let paid = house.pay(&body);
    let shown = house.pay(&qr(700));
    let declined = house.pay(&barcode(700, "04"));
    assert_eq!(declined["status"], "failed");
    assert!(declined["failure"].is_object() && shown["next_action"].is_object());
    for payment in [&paid, &shown, &declined] {
        assert_eq!(keys(&payment.json), members("Payment"));
        assert_eq!(keys(&payment["attempts"][0]), members("Attempt"));
    }
    let id = paid["id"].as_str().unwrap();
    let refund = house.post("/v1/refunds", "r1", &json!({ "payment": id, "amount": 100 }));
    assert_eq!(keys(&refund.json), members("Refund"), "{}", refund.json);
    for (path, name) in [
        ("/v1/payments?limit=1".to_owned(), "PaymentList"),
        (format!("/v1/refunds?payment={id}"), "RefundList"),
        (format!("/v1/payments/{id}/timeline"), "Timeline"),
    ] {
        assert_eq!(keys(&house.get(&path).json), members(name), "{path}");
    }
    let timeline = house.get(&format!("/v1/payments/{id}/timeline"));
    assert_eq!(keys(&timeline["data"][0]), members("Event"));
    let problem = &document["components"]["schemas"]["Problem"];
    let needed: BTreeSet<String> =
        problem["required"].as_array().unwrap().iter().map(text).collect();
    let nobody = json!({ "amount": 1, "currency": "JPY", "method": tokens(1, "JPY")["method"] });
    for answer in [
        house.get("/v1/payments/pay_x"),
        house.post("/v1/payments", "k1", &json!({ "amount": 0 })),
        house.post("/v1/payments", "k2", &nobody),
        house.post(&format!("/v1/payments/{id}/cancel"), "k3", &json!({})),
    ] {
        assert!(answer.status >= 400, "{}", answer.json);
        assert!(needed.is_subset(&keys(&answer.json)), "{}", answer.json);
        let documented = members("Problem");
        let mut unknown = keys(&answer.json);
        unknown.retain(|key| !documented.contains(key));
        assert!(unknown.is_empty(), "the document lacks {unknown:?}");
    }
}

#[test]
fn schemathesis_finds_no_server_error_and_no_answer_beside_the_document() {
    let Some(schemathesis) = schemathesis() else { return };
    let house = House::start();
    let ran = Command::new(&schemathesis)
        .arg("--no-color")
        .arg("--config-file")
        .arg(root().join("tests/peers/schemathesis.toml"))
        .args(["run", &format!("{}/openapi.json", house.api)])
        .args(["--header", "Authorization: Bearer test_key_1"])
        // Shoppers of invented codes never come: nobody waits for them. One worker, because Python
        // 3.11 loses count of its depth when several threads read source at once.
        .args(["--header", "Prefer: wait=0", "--workers", "1"])
        .args(["--checks", CHECKS, "--max-examples", EXAMPLES])
        .args(["--phases", "examples,coverage,fuzzing,stateful", "--seed", "7", "--no-shrink"])
        .args(["--request-timeout", "40", "--suppress-health-check", "all", "--warnings", "off"])
        .current_dir(house.dir.path())
        .output()
        .unwrap_or_else(|why| panic!("{} could not be started: {why}", schemathesis.display()));
    let out = String::from_utf8_lossy(&ran.stdout);
    let error = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "schemathesis is not satisfied:\n{out}\n{error}");
    assert!(out.contains("No issues found"), "{out}");
    // What one answer names is asked for by the next request.
    assert!(out.contains("Stateful (in"), "{out}");
    assert!(house.journalled() >= 2, "it made the payments of the examples:\n{out}");
}

/// The program that `cargo xtask test` installs; `None` leaves the test out, and says why.
fn schemathesis() -> Option<PathBuf> {
    if std::env::var_os("INTERLOCK_SKIP_PEERS").is_some() {
        eprintln!("left out: INTERLOCK_SKIP_PEERS is set");
        return None;
    }
    // This test lies in target/PROFILE/deps.
    let home = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("peers/python");
    let program = home.join("bin/schemathesis");
    if !home.join("installed.txt").exists() {
        eprintln!("left out: no schemathesis; `cargo xtask test` installs it into target/peers");
        return None;
    }
    assert!(program.exists(), "delete {} and run `cargo xtask test`", home.display());
    Some(program)
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
