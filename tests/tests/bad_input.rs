//! Whatever is wrong with a request is told as a documented problem, and leaves no trace: nothing
//! journalled, nothing sent, no value echoed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use interlock_tests::house::{Answer, House, barcode, fresh, network_token, qr, tokens};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// Every code that API.md and the doors name, with its status.
const CODES: [(&str, u16); 18] = [
    ("invalid_request", 400),
    ("idempotency_key_missing", 400),
    ("unauthorized", 401),
    ("forbidden", 403),
    ("not_found", 404),
    ("method_not_allowed", 405),
    ("request_timeout", 408),
    ("order_has_live_payment", 409),
    ("invalid_state", 409),
    ("payload_too_large", 413),
    ("uri_too_long", 414),
    ("unsupported_media_type", 415),
    ("idempotency_key_reused", 422),
    ("unprocessable", 422),
    ("rate_limited", 429),
    ("headers_too_large", 431),
    ("no_account_available", 503),
    ("storage_full", 503),
];

/// A problem is whole: RFC 9457's members, ours, and nothing that contradicts the status line.
fn whole(answer: &Answer, instance: &str, what: &str) -> &'static str {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
    let text = |member: &str| {
        let found = answer[member].as_str().unwrap_or("");
        assert!(!found.is_empty(), "{what}: no `{member}` in {}", answer.json);
        found.to_owned()
    };
    let code = text("code");
    let known = CODES.iter().find(|(c, _)| *c == code);
    let (word, status) = known.unwrap_or_else(|| unreachable!("{what}: code {code}"));
    assert_eq!(answer.status, *status, "{what}: {}", answer.json);
    // API.md gives this member of `invalid_state` to the payment's status.
    let (number, word_of_payment) = (answer["status"].as_u64(), answer["status"].as_str());
    match code.as_str() {
        "invalid_state" => assert!(word_of_payment.is_some(), "{what}: {}", answer.json),
        _ => assert_eq!(number, Some(u64::from(*status)), "{what}: {}", answer.json),
    }
    assert_eq!(text("type"), format!("https://interlock.dev/problems/{}", code.replace('_', "-")));
    assert_eq!(text("instance"), instance, "{what}");
    assert!(text("request_id").starts_with("req_"), "{what}");
    assert_eq!(answer.header("request-id"), answer["request_id"].as_str(), "{what}");
    let (_, _) = (text("title"), text("detail"));
    let retry = text("retry");
    let after = retry.strip_prefix("after:").and_then(|s| s.parse::<u64>().ok());
    assert!(retry == "never" || retry == "same_key" || after.is_some(), "{what}: {retry}");
    assert_eq!(answer.header("retry-after").is_some(), retry != "never", "{what}");
    let param = matches!(code.as_str(), "invalid_request" | "unprocessable");
    assert_eq!(answer["param"].is_string(), param, "{what}: {}", answer.json);
    word
}

fn post(house: &House, body: &[u8]) -> Answer {
    let key = fresh("bad");
    let url = format!("{}/v1/payments", house.api);
    house.send("POST", &url, &[("Idempotency-Key", key.as_str())], Some(body))
}

fn refused(house: &House, body: &[u8], code: &str, param: &str) {
    let answer = post(house, body);
    let what = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
    assert_eq!(whole(&answer, "/v1/payments", &what), code, "{what}: {}", answer.json);
    assert_eq!(answer["param"], param, "{what}: {}", answer.json);
}

/// The good body with one member replaced; the path is `a.b`.
fn with(mut body: Value, path: &str, value: Value) -> Vec<u8> {
    let pointer = format!("/{}", path.replace('.', "/"));
    match body.pointer_mut(&pointer) {
        Some(place) => *place = value,
        None => body[path] = value,
    }
    body.to_string().into_bytes()
}

fn nothing_happened(house: &House) {
    assert_eq!((house.journalled(), house.sent()), (0, 0), "nothing journalled, nothing sent");
    assert!(house.ledger().is_empty());
}

#[test]
fn a_payment_that_cannot_be_read_or_accepted_is_refused_with_its_member() {
    let house = House::start();
    for text in ["", "{", "[]", "null", "1", "\"x\"", "{}{}", "{\"amount\":1,}", "\u{feff}{}"] {
        let answer = post(&house, text.as_bytes());
        assert_eq!(whole(&answer, "/v1/payments", text), "invalid_request");
    }
    let good = || tokens(1_000, "EUR");
    for (value, code) in [
        (json!(0), "unprocessable"),
        (json!(-1), "unprocessable"),
        (json!(i64::MIN), "unprocessable"),
        (json!(u64::MAX), "invalid_request"),
        (json!(10.5), "invalid_request"),
        (json!(10.0), "invalid_request"),
        (json!(1e3), "invalid_request"),
        (json!("1000"), "invalid_request"),
        (json!(true), "invalid_request"),
        (json!([1]), "invalid_request"),
        (json!({ "value": 1 }), "invalid_request"),
        (Value::Null, "invalid_request"),
    ] {
        refused(&house, &with(good(), "amount", value), code, "amount");
    }
    let text = good().to_string();
    for digits in ["99999999999999999999999999", "1e400", "-1e400", "0x10", "01", "+1", "NaN"] {
        let body = text.replacen("\"amount\":1000", &format!("\"amount\":{digits}"), 1);
        let answer = post(&house, body.as_bytes());
        assert_eq!(whole(&answer, "/v1/payments", digits), "invalid_request");
    }
    for value in ["", "EURO", "EU", "XXX", "ZZZ", "XAU", "978", "E R", "€", "EUR\0"] {
        refused(&house, &with(good(), "currency", json!(value)), "unprocessable", "currency");
    }
    refused(&house, &with(good(), "currency", json!(978)), "invalid_request", "currency");
    for (path, value, code) in [
        ("capture", json!("later"), "unprocessable"),
        ("capture", json!(1), "invalid_request"),
        ("merchant_ref", json!(""), "unprocessable"),
        ("merchant_ref", json!("x".repeat(65)), "unprocessable"),
        ("merchant_ref", json!("a\nb"), "unprocessable"),
        ("merchant_ref", json!(7), "invalid_request"),
        ("description", json!("x".repeat(501)), "unprocessable"),
        ("return_url", json!("javascript:alert(1)"), "unprocessable"),
        ("return_url", json!("ftp://a"), "unprocessable"),
        ("another", json!("yes"), "invalid_request"),
        ("metadata", json!([]), "invalid_request"),
        ("metadata", json!({ "x".repeat(65): "y" }), "unprocessable"),
        ("customer", json!("c_1"), "invalid_request"),
        ("method", json!("card"), "invalid_request"),
        ("method", json!([]), "invalid_request"),
    ] {
        refused(&house, &with(good(), path, value), code, path);
    }
    refused(&house, &with(good(), "metadata", json!({ "a": 1 })), "invalid_request", "metadata.a");
    let country = json!({ "country": "DEU" });
    refused(&house, &with(good(), "customer", country), "unprocessable", "customer.country");
    let unknown = json!({ "name": "x" });
    let answer = post(&house, &with(good(), "customer", unknown));
    assert_eq!(whole(&answer, "/v1/payments", "customer.name"), "invalid_request");
    // An unknown member could be a misspelt one that matters.
    for name in ["amonut", "Amount", "capture_mode", "x"] {
        let answer = post(&house, &with(good(), name, json!(1)));
        assert_eq!(whole(&answer, "/v1/payments", name), "invalid_request", "{name}");
    }
    let twice = text.replacen('{', "{\"amount\":1,", 1);
    assert_eq!(whole(&post(&house, twice.as_bytes()), "/v1/payments", "twice"), "invalid_request");
    for (method, code, param) in [
        (json!({}), "invalid_request", "method.type"),
        (json!({ "type": 1 }), "invalid_request", "method.type"),
        (json!({ "type": "cash" }), "unprocessable", "method.type"),
        (json!({ "type": "alipay" }), "invalid_request", "method.flow"),
        (json!({ "type": "alipay", "flow": "fax" }), "unprocessable", "method.flow"),
        (json!({ "type": "alipay", "flow": "barcode" }), "invalid_request", "method.auth_code"),
        (json!({ "type": "alipay", "flow": "qr", "extra": 1 }), "invalid_request", "method"),
        (json!({ "type": "card" }), "unprocessable", "method"),
        (json!({ "type": "card", "tokens": {} }), "unprocessable", "method.tokens"),
        (json!({ "type": "card", "tokens": [] }), "invalid_request", "method.tokens"),
        (
            json!({ "type": "card", "tokens": { "checkout-eu": 7 } }),
            "invalid_request",
            "method.tokens",
        ),
    ] {
        refused(&house, &with(good(), "method", method), code, param);
    }
    nothing_happened(&house);
}

#[test]
fn what_a_shopper_pays_with_is_never_echoed() {
    let house = House::start();
    let mut told = Vec::new();
    for number in ["4242424242424242x", "424242424242 4242", "4242", "42424242424242424242"] {
        let body = with(network_token(900, "EUR"), "method.network_token.number", json!(number));
        refused(&house, &body, "unprocessable", "method.network_token.number");
        told.push(post(&house, &body));
    }
    for (path, value) in [
        ("method.network_token.number", json!(4_242_424_242_424_242_u64)),
        ("method.network_token.number", json!({ "pan": "4242424242424242" })),
        ("method.network_token.expiry_month", json!("4242424242424242")),
        ("method.network_token.expiry_month", json!(13)),
        ("method.network_token.cryptogram", json!("4242424242424242".repeat(40))),
        ("method.network_token.eci", json!("4242424242424242")),
        ("method.network_token.source", json!("4242424242424242")),
        ("method.network_token", json!("4242424242424242")),
        ("method.type", json!("4242424242424242")),
        ("currency", json!("4242424242424242")),
        ("amount", json!("4242424242424242")),
        ("4242424242424242", json!(1)),
    ] {
        told.push(post(&house, &with(network_token(900, "EUR"), path, value)));
    }
    for code in ["4242424242424242x", "42424242", "４２４２４２４２４２４２４２４２"]
    {
        told.push(post(&house, &with(barcode(900, "01"), "method.auth_code", json!(code))));
    }
    // A broken document that holds a number somewhere.
    let text =
        network_token(900, "EUR").to_string().replace("4111111111111111", "4242424242424242");
    for cut in [10, 60, 120, text.len() - 1] {
        told.push(post(&house, &text.as_bytes()[..cut]));
    }
    let method = json!({ "type": "card", "network_token": { "number": "4242424242424242" },
        "4242424242424242": 1 });
    told.push(post(&house, &with(tokens(9, "EUR"), "method", method)));
    for answer in &told {
        whole(answer, "/v1/payments", "secret");
        let text = String::from_utf8_lossy(&answer.body);
        assert!(!text.contains("42424242") && !text.contains("４２４２"), "{text}");
        let headers = format!("{:?}", answer.headers);
        assert!(!headers.contains("42424242"), "{headers}");
    }
    assert!(!house.log().contains("42424242"), "not in the log either");
    nothing_happened(&house);
}

#[test]
fn headers_are_judged_before_the_body_is() {
    let house = House::start();
    let url = format!("{}/v1/payments", house.api);
    let body = tokens(1_000, "EUR").to_string();
    let send = |headers: &[(&str, &str)]| house.send("POST", &url, headers, Some(body.as_bytes()));
    let code = |answer: &Answer, what: &str| whole(answer, "/v1/payments", what);

    let key = fresh("bad");
    for authorization in [
        "Bearer",
        "Bearer wrong",
        "Bearer test_key_1x",
        "Bearer test_key_",
        "test_key_1",
        "Basic dGVzdF9rZXlfMTo=",
        "Bearer TEST_KEY_1",
        "Bearer test_key_1, Bearer other_key_2",
    ] {
        let headers = [("Authorization", authorization), ("Idempotency-Key", key.as_str())];
        let answer = send(&headers);
        assert_eq!(code(&answer, authorization), "unauthorized");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert!(!String::from_utf8_lossy(&answer.body).contains("test_key"));
    }
    assert_eq!(
        code(&send(&[("Authorization", ""), ("Idempotency-Key", &key)]), "none"),
        "unauthorized"
    );
    assert_eq!(code(&send(&[]), "no key"), "idempotency_key_missing");
    let long = "k".repeat(256);
    for odd in [long.as_str(), "\"", "\"\"", "a\"b", "\"a", "a\\b", "\"a\\\"b\""] {
        let answer = send(&[("Idempotency-Key", odd)]);
        assert_eq!(code(&answer, odd), "invalid_request", "{odd}");
        assert_eq!(answer["param"], "Idempotency-Key", "{odd}");
    }
    let answer = send(&[("Idempotency-Key", "one"), ("Idempotency-Key", "two")]);
    assert_eq!(code(&answer, "two keys"), "invalid_request");
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "json",
        "text/json",
        "multipart/form-data; boundary=x",
    ] {
        let answer = send(&[("Idempotency-Key", &fresh("bad")), ("Content-Type", kind)]);
        assert_eq!(code(&answer, kind), "unsupported_media_type", "{kind}");
    }
    nothing_happened(&house);
    let longest = "k".repeat(255);
    for (kind, key) in
        [("application/json; charset=utf-8", longest.as_str()), ("Application/JSON", "k k")]
    {
        let answer = send(&[("Idempotency-Key", key), ("Content-Type", kind)]);
        assert_eq!(answer.status, 201, "{kind}: {answer:?}");
    }
}

#[test]
fn sizes_and_depths_are_bounded() {
    let house = House::start();
    let key = fresh("bad");
    let url = format!("{}/v1/payments", house.api);
    let headers = [("Idempotency-Key", key.as_str())];
    for megabytes in [2, 16] {
        let mut body = tokens(1_000, "EUR");
        body["description"] = "x".repeat(megabytes << 20).into();
        let text = body.to_string();
        // A client that goes on sending may see its connection closed instead of the answer.
        if let Some(answer) = house.try_send("POST", &url, &headers, Some(text.as_bytes())) {
            assert_eq!(whole(&answer, "/v1/payments", "huge"), "payload_too_large");
            assert_eq!(answer["retry"], "never");
        }
    }
    // Told before a byte of the body was sent.
    let head = format!(
        "POST /v1/payments HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test_key_1\r\n\
         Idempotency-Key: {key}\r\nContent-Type: application/json\r\n\
         Content-Length: 99999999999\r\n\r\n"
    );
    let answer = raw(&house, head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("\"payload_too_large\""), "{answer}");
    assert!(answer.contains("\"request_id\":\"req_"), "{answer}");
    let chunked = format!(
        "POST /v1/payments HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test_key_1\r\n\
         Idempotency-Key: {key}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{}",
        format!("10000\r\n{}\r\n", "x".repeat(0x10000)).repeat(40)
    );
    let answer = raw(&house, chunked.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("\"instance\":\"/v1/payments\""), "{answer}");

    for depth in [100, 200, 10_000, 100_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nest = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let text = format!(
                "{{\"amount\":1,\"currency\":\"EUR\",\
                 \"method\":{{\"type\":\"card\",\"tokens\":{nest}}}}}"
            );
            let answer = post(&house, text.as_bytes());
            assert!(answer.status == 400 || answer.status == 413, "{depth}: {answer:?}");
            let answer = post(&house, nest.as_bytes());
            assert!(answer.status == 400 || answer.status == 413, "{depth}: {answer:?}");
        }
    }
    let mut text = tokens(1, "EUR").to_string().into_bytes();
    let place = text.windows(3).position(|w| w == b"EUR").unwrap();
    for bad in [b"\xff\xfe\xfd", b"\xc3\x28\x41", b"\xed\xa0\x80"] {
        text[place..place + 3].copy_from_slice(bad);
        let answer = post(&house, &text);
        assert_eq!(whole(&answer, "/v1/payments", "not UTF-8"), "invalid_request");
    }
    let answer = post(&house, br#"{"amount":1,"currency":"\ud800UR","method":{}}"#);
    assert_eq!(whole(&answer, "/v1/payments", "half a surrogate"), "invalid_request");
    let long = format!("/v1/payments/{}", "x".repeat(100_000));
    let answer = raw(&house, format!("GET {long} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 414 ") || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    nothing_happened(&house);
    assert_eq!(house.pay(&qr(100)).status, 201, "and the house still serves");
}

#[test]
fn unknown_paths_verbs_ids_and_queries_are_told() {
    let house = House::start();
    let ask = |verb: &str, path: &str| {
        let key = fresh("bad");
        let url = format!("{}{path}", house.api);
        let body = matches!(verb, "POST" | "PUT" | "PATCH").then_some(&b"{}"[..]);
        house.send(verb, &url, &[("Idempotency-Key", key.as_str())], body)
    };
    let missing = "/v1/payments/pay_00000000000000000000000000";
    for (verb, path) in [
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v2/payments"),
        ("GET", "/v1/payment"),
        ("GET", "/admin/v1/status"),
        ("GET", "/metrics"),
        ("GET", missing),
        ("GET", &format!("{missing}/timeline")),
        ("GET", "/v1/payments/..%2f..%2fetc%2fpasswd"),
        ("GET", "/v1/payments/%00"),
        ("POST", &format!("{missing}/capture")),
        ("POST", &format!("{missing}/cancel")),
        ("POST", &format!("{missing}/explode")),
        ("GET", "/v1/refunds/ref_00000000000000000000000000"),
        ("GET", "/v1/refunds?payment=pay_x"),
    ] {
        let answer = ask(verb, path);
        let instance = path.split('?').next().unwrap();
        assert_eq!(whole(&answer, instance, path), "not_found", "{verb} {path}");
    }
    for (verb, path) in [
        ("DELETE", "/v1/payments"),
        ("PUT", "/v1/payments"),
        ("PATCH", "/v1/refunds"),
        ("DELETE", missing),
        ("POST", missing),
    ] {
        let answer = ask(verb, path);
        assert_eq!(whole(&answer, path, path), "method_not_allowed", "{verb} {path}");
        assert!(answer.header("allow").is_some(), "RFC 9110, 15.5.6: {verb} {path}");
    }
    for (query, param) in [
        ("cursor=x", "cursor"),
        ("cursor=1.", "cursor"),
        ("cursor=.pay_x", "cursor"),
        ("cursor=99999999999999999999.pay_x", "cursor"),
        ("cursor=%00%ff", "cursor"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("created_after=yesterday", "created_after"),
        ("created_after=2026-13-01T00:00:00Z", "created_after"),
        ("status=paid", "status"),
    ] {
        let answer = ask("GET", &format!("/v1/payments?{query}"));
        assert_eq!(whole(&answer, "/v1/payments", query), "invalid_request", "{query}");
        assert_eq!(answer["param"], param, "{query}");
    }
    let answer = ask("GET", "/v1/payments?colour=red");
    assert_eq!(whole(&answer, "/v1/payments", "colour"), "invalid_request");
    let answer = ask("GET", "/v1/refunds");
    assert_eq!(whole(&answer, "/v1/refunds", "no payment"), "invalid_request");
    for head in ["TRACE / HTTP/1.1", "CONNECT x:1 HTTP/1.1", "GET / HTTP/1.1 x", "G\0T / HTTP/1.1"]
    {
        let answer = raw(&house, format!("{head}\r\nHost: x\r\n\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5"), "{answer}");
    }
    nothing_happened(&house);
}

#[test]
fn refunds_and_wishes_are_judged_as_strictly() {
    let house = House::start();
    let paid = house.pay(&barcode(1_000, "01"));
    let (id, sent) = (paid["id"].as_str().unwrap(), house.sent());
    let ask = |path: &str, body: Value| {
        let answer = house.post(path, &fresh("bad"), &body);
        let code = whole(&answer, path, &format!("{path} {body}"));
        (code, answer["param"].clone())
    };
    for (body, code, param) in [
        (json!({}), "invalid_request", "body"),
        (json!({ "payment": 7 }), "invalid_request", "payment"),
        (json!({ "payment": id, "amount": "1" }), "invalid_request", "amount"),
        (json!({ "payment": id, "amount": 1.5 }), "invalid_request", "amount"),
        (json!({ "payment": id, "amount": 0 }), "unprocessable", "amount"),
        (json!({ "payment": id, "amount": -5 }), "unprocessable", "amount"),
        (json!({ "payment": id, "amount": 1_001 }), "unprocessable", "amount"),
        (json!({ "payment": id, "amount": i64::MAX }), "unprocessable", "amount"),
    ] {
        assert_eq!(ask("/v1/refunds", body.clone()), (code, json!(param)), "{body}");
    }
    assert_eq!(ask("/v1/refunds", json!({ "payment": id, "colour": 1 })).0, "invalid_request");
    assert_eq!(ask("/v1/refunds", json!({ "payment": "pay_x" })).0, "not_found");
    let at = |verb: &str| format!("/v1/payments/{id}/{verb}");
    assert_eq!(ask(&at("capture"), json!({ "amount": "1" })).0, "invalid_request");
    assert_eq!(ask(&at("capture"), json!({ "sum": 1 })).0, "invalid_request");
    assert_eq!(ask(&at("capture"), json!({ "amount": 1 })).0, "invalid_state");
    assert_eq!(ask(&at("cancel"), json!({ "why": "x" })).0, "invalid_request");
    assert_eq!(ask(&at("cancel"), json!({})).0, "invalid_state");
    assert_eq!(ask(&at("switch"), json!({})).0, "invalid_request");
    assert_eq!(ask(&at("switch"), json!({ "method": { "type": "cash" } })).0, "unprocessable");
    let switch = json!({ "method": { "type": "alipay", "flow": "qr" } });
    assert_eq!(ask(&at("switch"), switch).0, "invalid_state");
    for path in ["/v1/refunds".to_owned(), at("capture"), at("cancel"), at("switch")] {
        let url = format!("{}{path}", house.api);
        let answer = house.send("POST", &url, &[], Some(b"{}"));
        assert_eq!(whole(&answer, &path, "no key"), "idempotency_key_missing");
    }
    assert_eq!(house.sent(), sent, "nothing was sent");
    assert_eq!(house.payment(id)["amount_refunded"], 0);
    assert_eq!(house.ledger().len(), 1);
}

#[test]
fn a_thousand_mutations_of_good_bodies_are_paid_or_refused_and_never_both() {
    let house = House::start();
    let seed = 20_261_124;
    let mut chance = StdRng::seed_from_u64(seed);
    let good = [tokens(1_000, "EUR"), network_token(1_000, "USD"), barcode(1_000, "01"), qr(1_000)];
    let good: Vec<Vec<u8>> = good.iter().map(|b| b.to_string().into_bytes()).collect();
    let (mut accepted, mut journalled, mut sent) = (0, 0, 0);
    for n in 0..1_000 {
        let mut body = good.choose(&mut chance).unwrap().clone();
        for _ in 0..chance.random_range(1..4) {
            mutate(&mut body, &mut chance);
        }
        let what = format!("seed {seed}, mutation {n}: {}", String::from_utf8_lossy(&body));
        let answer = post(&house, &body);
        match answer.status {
            201 | 202 => {
                accepted += 1;
                assert!(answer["id"].as_str().is_some_and(|id| id.starts_with("pay_")), "{what}");
            }
            _ => {
                let code = whole(&answer, "/v1/payments", &what);
                assert!(
                    ["invalid_request", "unprocessable", "no_account_available"].contains(&code),
                    "{what}: {code}"
                );
            }
        }
        // Looked at in pieces, because each look costs two requests.
        if n % 50 == 49 {
            assert_eq!(house.journalled(), accepted, "{what}");
            assert!(house.sent() >= sent && house.journalled() >= journalled);
            (journalled, sent) = (accepted, house.sent());
        }
    }
    assert!((1..900).contains(&accepted), "the mutations are neither harmless nor hopeless");
}

/// One byte replaced, removed, doubled or moved, or a piece cut out.
fn mutate(body: &mut Vec<u8>, chance: &mut StdRng) {
    const ODD: &[u8] = b"\"\\{}[]:,0-9.eE \0\xff\x80null";
    let at = chance.random_range(0..body.len().max(1)).min(body.len().saturating_sub(1));
    if body.is_empty() {
        return;
    }
    match chance.random_range(0..6) {
        0 => body[at] = *ODD.choose(chance).expect("bytes"),
        1 => {
            body.remove(at);
        }
        2 => body.insert(at, body[at]),
        3 => body[at] ^= 1 << chance.random_range(0..8),
        4 => {
            let to = (at + chance.random_range(1..8)).min(body.len());
            body.drain(at..to);
        }
        _ => body.truncate(body.len() - chance.random_range(0..body.len().min(4))),
    }
}

/// What the door answers to bytes that no HTTP client sends.
fn raw(house: &House, request: &[u8]) -> String {
    let address = house.api.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).expect("the door is open");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    // The door may refuse before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut piece = [0; 4_096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..count]);
        if answer.ends_with(b"}") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}
