//! WeChat Pay's APIv3: orders and their offers, barcodes, refunds, and who may ask.

mod bills;
mod notices;
mod stage;

use serde_json::{Value, json};

use stage::{
    APPID, KEY_ID, MCHID, SERIAL, Shop, authorization, barcode, message, order, refund_of,
};

const PAID: &str = "130000000000000001";

#[tokio::test]
async fn a_qr_is_offered_again_scanned_paid_and_used_up() {
    let shop = Shop::with("").await;
    let body = order("order-1", &shop.hook);
    let (status, first) = shop.create("native", body.clone()).await;
    assert_eq!(status, 200, "{first}");
    let first = first["code_url"].as_str().unwrap().to_owned();
    assert!(first.starts_with("weixin://wxpay/bizpayurl?pr="), "{first}");
    let (_, second) = shop.create("native", body.clone()).await;
    assert_ne!(second["code_url"], first, "the same parameters give a fresh one");
    let mut other = body.clone();
    other["amount"]["total"] = 1235.into();
    let native = "/v3/pay/transactions/native";
    assert_eq!(shop.refused(403, "POST", native, other).await, "OUT_TRADE_NO_USED");
    assert_eq!(shop.state("order-1").await, "NOTPAY");

    assert_eq!(
        shop.act(json!({ "qr_code": first, "act": "scan" })).await.1["status"],
        "USERPAYING"
    );
    assert_eq!(shop.state("order-1").await, "USERPAYING");
    assert_eq!(shop.act(json!({ "qr_code": first, "act": "fail" })).await.1["status"], "NOTPAY");
    let (status, paid) = shop.act(json!({ "qr_code": first, "act": "pay" })).await;
    assert_eq!((status, &paid["status"]), (200, &json!("SUCCESS")));
    assert_eq!(shop.act(json!({ "op_id": "order-1", "act": "pay" })).await.0, 409);

    let query = shop.query("order-1").await;
    let id = query["transaction_id"].as_str().unwrap();
    assert!(id.len() == 28 && id.bytes().all(|b| b.is_ascii_digit()), "{id}");
    assert_eq!(query["amount"]["payer_total"], 1234);
    assert_eq!((&query["trade_type"], &query["appid"]), (&json!("NATIVE"), &json!(APPID)));
    assert!(query["success_time"].as_str().unwrap().ends_with("+08:00"));
    let by_id = format!("/v3/pay/transactions/id/{id}?mchid={MCHID}");
    assert_eq!(shop.call("GET", &by_id, Value::Null).await, (200, query));

    assert_eq!(shop.refused(403, "POST", native, body).await, "OUT_TRADE_NO_USED");
    let (status, closed) = shop.close("order-1").await;
    assert_eq!((status, &closed["code"]), (400, &json!("ORDER_PAID")));
    assert_eq!(shop.ledger().await, ["charge 1234 order-1"]);
}

#[tokio::test]
async fn a_closed_order_takes_no_money_and_its_number_is_gone() {
    let shop = Shop::with("").await;
    let number = "or|der*2";
    shop.create("native", order(number, &shop.hook)).await;
    let target = "/v3/pay/transactions/out-trade-no/or%7Cder%2A2/close";
    let reply = shop.reply("POST", target, json!({ "mchid": MCHID })).await;
    assert_eq!((reply.status, reply.body.len()), (204, 0));
    assert!(reply.is_signed_by("platform"), "an empty body is signed too");
    assert_eq!(shop.close("or%7Cder*2").await.0, 204, "closed stays closed");
    assert_eq!(shop.state("or%7Cder*2").await, "CLOSED");
    assert_eq!(shop.act(json!({ "op_id": number, "act": "pay" })).await.0, 409);
    let again = shop.create("native", order(number, &shop.hook)).await;
    assert_eq!(again.1["code"], "OUT_TRADE_NO_USED");
    assert_eq!(shop.close("nobody").await.1["code"], "ORDER_NOT_EXIST");
    assert!(shop.ledger().await.is_empty());
}

#[tokio::test]
async fn every_offer_is_paid_by_what_the_shopper_was_given() {
    let shop = Shop::with("").await;
    for (way, name, wrap) in
        [("jsapi", "prepay_id", "prepay_id="), ("app", "prepay_id", ""), ("h5", "h5_url", "")]
    {
        let number = format!("order-{way}");
        let (status, made) = shop.create(way, order(&number, &shop.hook)).await;
        assert_eq!(status, 200, "{made}");
        let mut offer = format!("{wrap}{}", made[name].as_str().unwrap());
        if way == "h5" {
            offer += "&redirect_url=https%3A%2F%2Fshop.example";
        }
        let (status, paid) = shop.act(json!({ "order": offer, "act": "pay" })).await;
        assert_eq!((status, &paid["op_id"]), (200, &json!(number)));
        assert_eq!(shop.query(&number).await["payer"]["openid"], "o-shopper");
    }
    assert_eq!(shop.ledger().await.len(), 3);
}

#[tokio::test]
async fn offers_and_orders_end() {
    let shop = Shop::with("offer_expiry_ms = 0\norder_expiry_ms = 60000").await;
    let (_, made) = shop.create("native", order("order-1", &shop.hook)).await;
    let pay = json!({ "qr_code": made["code_url"], "act": "pay" });
    assert_eq!(shop.act(pay).await.1["error"], "the offer has expired");
    assert_eq!(shop.state("order-1").await, "NOTPAY");
    let short = Shop::with("order_expiry_ms = 0\nuserpaying_revoke_ms = 0").await;
    short.create("native", order("order-1", &short.hook)).await;
    assert_eq!(short.state("order-1").await, "CLOSED");
    short.pay("code-02", "130000000000000002").await;
    assert_eq!(short.state("code-02").await, "REVOKED", "unpaid barcodes are revoked");
    assert!(short.ledger().await.is_empty());
}

#[tokio::test]
async fn a_barcode_is_charged_once_whatever_comes_again() {
    let shop = Shop::with("").await;
    let (status, paid) = shop.pay("code-01", PAID).await;
    assert_eq!((status, &paid["trade_state"]), (200, &json!("SUCCESS")));
    assert_eq!(paid["trade_type"], "MICROPAY");
    for code in [PAID, "130000000000000099"] {
        let (status, again) = shop.pay("code-01", code).await;
        assert_eq!((status, &again["code"]), (400, &json!("ORDER_PAID")));
    }
    let (status, doubt) = shop.pay("code-06", "140000000000000006").await;
    assert_eq!((status, &doubt["code"]), (500, &json!("SYSTEM_ERROR")));
    assert_eq!(shop.state("code-06").await, "SUCCESS");
    let (_, again) = shop.pay("code-06", "140000000000000006").await;
    assert_eq!(again["code"], "ORDER_PAID");
    let (_, coupon) = shop.pay("code-09", "150000000000000009").await;
    assert_eq!(coupon["amount"]["payer_total"], 1233);
    assert_eq!(coupon["promotion_detail"][0]["amount"], 1);
    let charges = ["charge 1234 code-01", "charge 1234 code-06", "charge 1234 code-09"];
    assert_eq!(shop.ledger().await, charges);
    assert_eq!(shop.close("code-01").await.1["code"], "INVALID_REQUEST");
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(shop.hook.told().is_empty(), "nobody is notified of a barcode");
}

#[tokio::test]
async fn a_barcode_is_declined_or_waits_for_the_shopper() {
    let shop = Shop::with("approve_ms = 0").await;
    let poor = shop.pay("code-03", "130000000000000003").await;
    assert_eq!((poor.0, &poor.1["code"]), (403, &json!("NOT_ENOUGH")));
    assert_eq!(shop.state("code-03").await, "NOTPAY");
    let other = shop.pay("code-03", PAID).await;
    assert_eq!(other.1["code"], "OUT_TRADE_NO_USED", "another barcode needs another number");
    let old = shop.pay("code-05", "130000000000000005").await;
    assert_eq!((old.0, &old.1["code"]), (400, &json!("AUTH_CODE_EXPIRED")));
    let target = format!("/v3/pay/transactions/out-trade-no/code-05?mchid={MCHID}");
    assert_eq!(shop.refused(404, "GET", &target, Value::Null).await, "ORDER_NOT_EXIST");

    let asks = shop.pay("code-02", "130000000000000002").await;
    assert_eq!(asks, (200, json!({ "trade_state": "USERPAYING" })));
    assert_eq!(shop.pay("code-02", PAID).await, asks, "never a second shopper");
    assert_eq!(shop.ledger().await.len(), 0);
    let act = async |act: &str| shop.act(json!({ "op_id": "code-02", "act": act })).await;
    assert_eq!(act("pay").await.1["status"], "SUCCESS");
    let older = shop.pay("code-12", "130000000000000012").await;
    assert_eq!((older.0, &older.1["code"]), (202, &json!("USERPAYING")));
    assert_eq!(shop.state("code-12").await, "USERPAYING");
    shop.act(json!({ "op_id": "code-12", "act": "fail" })).await;
    assert_eq!(shop.state("code-12").await, "PAYERROR");
    assert_eq!(shop.ledger().await, ["charge 1234 code-02"]);
}

#[tokio::test]
async fn an_asked_shopper_approves_by_himself() {
    let shop = Shop::with("approve_ms = 5").await;
    shop.pay("code-02", "130000000000000002").await;
    for _ in 0..1_000 {
        if shop.state("code-02").await == "SUCCESS" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(shop.ledger().await, ["charge 1234 code-02"]);
}

#[tokio::test]
async fn a_reverse_gives_back_what_a_failed_barcode_took() {
    let shop = Shop::with("reverse_after_ms = 0").await;
    for (number, code) in [("code-07", "130000000000000007"), ("code-08", "130000000000000008")] {
        let (status, failed) = shop.pay(number, code).await;
        assert_eq!((status, &failed["trade_state"]), (200, &json!("PAYERROR")));
        assert_eq!(failed["transaction_id"], Value::Null, "nobody can tell them apart");
        assert_eq!(shop.pay(number, code).await.1["trade_state"], "PAYERROR");
    }
    assert_eq!(shop.ledger().await, ["charge 1234 code-07"]);
    for number in ["code-07", "code-08", "code-07"] {
        let (status, undone) = shop.reverse(number).await;
        assert_eq!((status, &undone["out_trade_no"]), (200, &json!(number)));
        assert_eq!(shop.state(number).await, "REVOKED");
    }
    assert_eq!(shop.pay("code-08", PAID).await.1["code"], "ORDER_REVERSED");
    assert_eq!(shop.ledger().await, ["charge 1234 code-07", "reverse 1234 code-07"]);
    shop.create("native", order("order-1", &shop.hook)).await;
    assert_eq!(shop.reverse("order-1").await.1["code"], "INVALID_REQUEST");

    let slow = Shop::with("").await;
    slow.pay("code-01", PAID).await;
    assert_eq!(slow.reverse("code-01").await.1["code"], "INVALID_REQUEST", "younger than 15 s");
}

#[tokio::test]
async fn a_refund_is_accepted_first_and_moves_once() {
    let shop = Shop::with("refund_ms = 40").await;
    shop.pay("code-01", PAID).await;
    let (status, accepted) = shop.refund(refund_of("code-01", "r@1", 234)).await;
    assert_eq!((status, &accepted["status"]), (200, &json!("PROCESSING")));
    assert_eq!(shop.ledger().await.len(), 1, "accepted is not moved");
    assert_eq!(shop.state("code-01").await, "REFUND");
    let (_, again) = shop.refund(refund_of("code-01", "r@1", 234)).await;
    assert_eq!(again["refund_id"], accepted["refund_id"]);
    let done = shop.refund_becomes("r%401", "SUCCESS").await;
    assert_eq!((&done["amount"]["refund"], &done["channel"]), (&json!(234), &json!("ORIGINAL")));
    assert!(done["success_time"].is_string() && done["transaction_id"].is_string());
    let (_, again) = shop.refund(refund_of("code-01", "r@1", 234)).await;
    assert_eq!(again["status"], "SUCCESS");
    for wrong in [
        refund_of("code-01", "r@1", 235),
        refund_of("code-01", "r@2", 1001),
        json!({
            "out_trade_no": "code-01", "out_refund_no": "r@3",
            "amount": { "refund": 1, "total": 1233, "currency": "CNY" },
        }),
    ] {
        let (status, refused) = shop.refund(wrong).await;
        assert_eq!((status, &refused["code"]), (400, &json!("INVALID_REQUEST")));
    }
    let (status, lost) = shop.refund(refund_of("nobody-1", "r@4", 1)).await;
    assert_eq!((status, &lost["code"]), (404, &json!("RESOURCE_NOT_EXISTS")));
    let target = "/v3/refund/domestic/refunds/r@4";
    assert_eq!(shop.refused(404, "GET", target, Value::Null).await, "RESOURCE_NOT_EXISTS");
    assert_eq!(shop.ledger().await, ["charge 1234 code-01", "refund 234 code-01"]);
}

#[tokio::test]
async fn the_reason_of_a_refund_chooses_its_end() {
    let shop = Shop::with("refund_ms = 0").await;
    shop.pay("code-01", PAID).await;
    let asked = async |no: &str, fen: i64, reason: &str| {
        let mut body = refund_of("code-01", no, fen);
        body["reason"] = reason.into();
        body["notify_url"] = shop.hook.url().into();
        shop.refund(body).await
    };
    assert_eq!(asked("closed-1", 1234, "closed").await.1["status"], "CLOSED");
    assert_eq!(asked("abnormal-1", 1000, "abnormal").await.1["status"], "ABNORMAL");
    let (status, short) = asked("short-1", 100, "not_enough").await;
    assert_eq!((status, &short["code"]), (403, &json!("NOT_ENOUGH")));
    assert_eq!(asked("short-1", 100, "not_enough").await.1["status"], "SUCCESS");
    let (status, _) = asked("rest-1", 135, "").await;
    assert_eq!(status, 400, "what is abnormal is not free again");
    assert_eq!(shop.ledger().await, ["charge 1234 code-01", "refund 100 code-01"]);
    let told = shop.hook.wait(3).await;
    let mut events: Vec<String> =
        told.iter().map(|t| t.json()["event_type"].as_str().unwrap().to_owned()).collect();
    events.sort_unstable();
    assert_eq!(events, ["REFUND.ABNORMAL", "REFUND.CLOSED", "REFUND.SUCCESS"]);
}

#[tokio::test]
async fn altered_late_foreign_and_nameless_requests_are_refused_and_move_nothing() {
    let shop = Shop::with("").await;
    let target = "/v3/pay/transactions/codepay";
    let body = barcode("code-01", PAID);
    let now = interlock_sandbox::moment::now_ms() / 1_000;
    let good = authorization("POST", target, &body.to_string(), now);
    let send = async |header: String, body: String| {
        let request = shop.client.post(shop.url(target)).header("accept", "application/json");
        Shop::send(request.header("authorization", header).body(body)).await
    };
    let late = authorization("POST", target, &body.to_string(), now - 400);
    let altered = body.to_string().replace("1234", "1235");
    for (header, body) in [
        (good.clone(), altered),
        (late, body.to_string()),
        (good.replace(SERIAL, "00"), body.to_string()),
        (good.replace(MCHID, "1900000002"), body.to_string()),
        (good.replace("WECHATPAY2-", ""), body.to_string()),
        (String::new(), body.to_string()),
        (authorization("POST", "/v3/other", &body.to_string(), now), body.to_string()),
    ] {
        let reply = send(header.clone(), body).await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (401, Some("SIGN_ERROR")));
        assert!(!reply.headers.contains_key("wechatpay-signature"), "{header}");
    }
    let nameless = reqwest::Client::builder().no_proxy().build().unwrap();
    let nameless = nameless.post(shop.url(target)).header("authorization", &good);
    let reply = Shop::send(nameless.body(body.to_string())).await;
    assert_eq!((reply.status, reply.json()["code"].as_str()), (400, Some("PARAM_ERROR")));
    let picky = shop.client.post(shop.url(target)).header("authorization", &good);
    let reply = Shop::send(picky.header("accept", "text/html").body(body.to_string())).await;
    assert_eq!(reply.json()["detail"]["field"], "Accept");
    assert!(shop.ledger().await.is_empty());
    assert_eq!(send(good, body.to_string()).await.status, 200, "the original is well");
}

#[tokio::test]
async fn parameters_that_cannot_be_are_named() {
    let shop = Shop::with("").await;
    let soon = interlock_sandbox::moment::rfc3339(interlock_sandbox::moment::now_ms() + 30_000);
    for (way, field, value, code) in [
        ("native", "/out_trade_no", json!("short"), "PARAM_ERROR"),
        ("native", "/out_trade_no", json!("no spaces here"), "PARAM_ERROR"),
        ("native", "/notify_url", Value::Null, "PARAM_ERROR"),
        ("native", "/notify_url", json!("https://shop.example/?a=b"), "PARAM_ERROR"),
        ("native", "/amount/total", json!(0), "PARAM_ERROR"),
        ("native", "/amount/total", json!(1.5), "PARAM_ERROR"),
        ("native", "/amount/total", json!("1234"), "PARAM_ERROR"),
        ("native", "/amount/currency", json!("USD"), "PARAM_ERROR"),
        ("native", "/description", json!("茶".repeat(128)), "PARAM_ERROR"),
        ("native", "/appid", json!("wx0"), "APPID_MCHID_NOT_MATCH"),
        ("native", "/mchid", json!("1900000002"), "MCH_NOT_EXISTS"),
        ("native", "/time_expire", json!(soon), "PARAM_ERROR"),
        ("native", "/time_expire", json!("tomorrow"), "PARAM_ERROR"),
        ("jsapi", "/payer/openid", Value::Null, "PARAM_ERROR"),
        ("h5", "/scene_info/h5_info/type", Value::Null, "PARAM_ERROR"),
        ("codepay", "/scene_info/store_info", Value::Null, "PARAM_ERROR"),
        ("codepay", "/payer/auth_code", json!("160000000000000001"), "PARAM_ERROR"),
        ("codepay", "/payer/auth_code", json!("13000000000000001"), "PARAM_ERROR"),
    ] {
        let mut body = order("order-1", &shop.hook);
        if way == "codepay" {
            body = barcode("order-1", PAID);
        }
        let (parent, name) = field.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[name] = value.clone();
        let (status, refused) = shop.create(way, body).await;
        assert_eq!((status, &refused["code"]), (400, &json!(code)), "{field} {value}");
        if code == "PARAM_ERROR" {
            assert_eq!(refused["detail"]["field"], field);
        }
    }
    let (status, made) = shop.create("native", order("order-1", &shop.hook)).await;
    assert_eq!(status, 200, "{made}");
}

#[tokio::test]
async fn a_partner_asks_for_its_sub_merchants_only() {
    let shop = Shop::with("sub_mchid = [\"1900000109\", \"1900000110\"]").await;
    let mut body = order("order-1", &shop.hook);
    body["sp_mchid"] = MCHID.into();
    body["sp_appid"] = APPID.into();
    body["sub_mchid"] = "1900000109".into();
    let native = "/v3/pay/partner/transactions/native";
    let (status, made) = shop.call("POST", native, body.clone()).await;
    assert_eq!(status, 200, "{made}");
    shop.act(json!({ "qr_code": made["code_url"], "act": "pay" })).await;
    let at = |sub: &str| {
        format!(
            "/v3/pay/partner/transactions/out-trade-no/order-1?sp_mchid={MCHID}&sub_mchid={sub}"
        )
    };
    let (_, query) = shop.call("GET", &at("1900000109"), Value::Null).await;
    assert_eq!((&query["trade_state"], &query["sp_mchid"]), (&json!("SUCCESS"), &json!(MCHID)));
    assert!(query["payer"]["sp_openid"].is_string());
    let code = shop.refused(404, "GET", &at("1900000110"), Value::Null).await;
    assert_eq!(code, "ORDER_NOT_EXIST", "each sub-merchant sees its own");
    assert_eq!(shop.refused(400, "GET", &at("19"), Value::Null).await, "MCH_NOT_EXISTS");
    let mut refund = refund_of("order-1", "r1", 1234);
    assert_eq!(shop.refund(refund.clone()).await.0, 404);
    refund["sub_mchid"] = "1900000109".into();
    assert_eq!(shop.refund(refund).await.0, 200);

    let alone = Shop::with("").await;
    assert_eq!(alone.refused(403, "POST", native, body).await, "NO_AUTH");
}

#[tokio::test]
async fn faults_do_what_they_say_about_money() {
    let shop = Shop::with("").await;
    let pay = async |number: &str| {
        let body = barcode(number, PAID);
        shop.reply("POST", "/v3/pay/transactions/codepay", body).await
    };
    for (fault, status, code) in [
        ("decline_soft", 403, "NOT_ENOUGH"),
        ("decline_hard", 403, "RULE_LIMIT"),
        ("rate_limited", 429, "FREQUENCY_LIMITED"),
        ("error_before", 500, "SYSTEM_ERROR"),
    ] {
        shop.fault("authorize", fault).await;
        let reply = pay("code-01").await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (status, Some(code)));
        assert!(!reply.headers.contains_key("wechatpay-signature"));
        shop.lift_all().await;
    }
    let target = format!("/v3/pay/transactions/out-trade-no/code-01?mchid={MCHID}");
    assert_eq!(shop.refused(404, "GET", &target, Value::Null).await, "ORDER_NOT_EXIST");
    for (n, fault) in ["error_after", "garbage", "bad_signature"].into_iter().enumerate() {
        shop.fault("authorize", fault).await;
        let reply = pay(&format!("{fault}-1")).await;
        assert_eq!(reply.status, if fault == "error_after" { 500 } else { 200 });
        assert!(!reply.is_signed_by("platform"), "{fault}");
        assert_eq!(reply.json().is_object(), fault != "garbage");
        assert_eq!(shop.ledger().await.len(), n + 1, "{fault} is executed");
        shop.lift_all().await;
    }
    shop.fault("refund", "decline_hard").await;
    let (status, refused) = shop.refund(refund_of("garbage-1", "r1", 1)).await;
    assert_eq!((status, &refused["code"]), (403, &json!("USER_ACCOUNT_ABNORMAL")));
    shop.fault("close", "decline_soft").await;
    assert_eq!(shop.reverse("garbage-1").await.1["code"], "TRADE_ERROR");
    shop.lift_all().await;
    assert_eq!(shop.refund(refund_of("garbage-1", "r1", 1)).await.0, 200);
    let (_, requests) = shop.control("GET", "/requests", Value::Null).await;
    let first = &requests[0];
    assert_eq!((&first["operation"], &first["call"]), (&json!("authorize"), &json!("codepay")));
    assert_eq!((&first["op_id"], &first["answered"]), (&json!("code-01"), &json!(403)));
}

#[tokio::test]
async fn the_portal_moves_money_that_nobody_asked_for() {
    let shop = Shop::with(&format!("notify_url = \"{}\"", "http://127.0.0.1:1/none")).await;
    let charge = json!({ "act": "charge", "op_id": "elsewhere-1", "amount": 500 });
    let (status, made) = shop.portal(charge.clone()).await;
    assert_eq!((status, &made["status"]), (200, &json!("SUCCESS")));
    assert_eq!(shop.portal(charge).await.0, 409, "its number is used");
    assert_eq!(shop.state("elsewhere-1").await, "SUCCESS");
    let refund = json!({ "act": "refund", "op_id": "elsewhere-1", "amount": 200 });
    let (status, made) = shop.portal(refund).await;
    assert_eq!((status, &made["status"]), (200, &json!("SUCCESS")));
    let much = json!({ "act": "refund", "op_id": "elsewhere-1", "amount": 301 });
    assert_eq!(shop.portal(much).await.0, 409);
    assert_eq!(shop.portal(json!({ "act": "charge" })).await.0, 409);
    assert_eq!(shop.ledger().await, ["charge 500 elsewhere-1", "refund 200 elsewhere-1"]);
    let native = order("elsewhere-1", &shop.hook);
    assert_eq!(shop.create("native", native).await.1["code"], "OUT_TRADE_NO_USED");
    let (_, health) = shop.control("GET", "/healthz", Value::Null).await;
    assert_eq!(health["accounts"][stage::ACCOUNT]["notifications_pending"], 0);
}

#[test]
fn the_published_vectors_of_signatures_fit() {
    use interlock_sandbox::keys::Signer;
    let read = |name: &str| -> Option<Value> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors/");
        let text = std::fs::read_to_string(format!("{folder}{name}")).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    if let Some(vector) = read("wechat_rsa_sign.json") {
        let key = Signer::read(&text(&vector["private_key_pem"])).unwrap();
        let signature = key.sign(text(&vector["message"]).as_bytes());
        assert_eq!(signature, text(&vector["signature_b64"]));
    }
    if let Some(vector) = read("wechat_auth_header_format.json") {
        let (at, nonce) = (vector["timestamp"].as_i64().unwrap(), text(&vector["nonce"]));
        for case in vector["cases"].as_array().unwrap() {
            let [method, url, body] = ["method", "url", "body"].map(|name| text(&case[name]));
            assert_eq!(message(&method, &url, &body, at, &nonce), text(&case["message"]));
        }
    }
    if let Some(vector) = read("wechat_aes256gcm.json") {
        let sealed = json!({
            "nonce": vector["nonce"], "associated_data": vector["associated_data"],
            "ciphertext": vector["ciphertext_b64"],
        });
        let opened = stage::opened(&text(&vector["key"]), &sealed);
        assert_eq!(opened, Some(text(&vector["plaintext"])));
    }
}

#[tokio::test]
async fn the_public_key_signs_for_those_who_ask_for_it() {
    let public = &stage::pair("public").private_pem;
    let lines = format!(
        "public_key_id = \"{KEY_ID}\"\npublic_key_private_key = '''{public}'''\n\
         signs_with = \"current\""
    );
    let shop = Shop::with(&lines).await;
    let body = order("order-1", &shop.hook);
    let plain = shop.request("POST", "/v3/pay/transactions/native", &body);
    let asking = plain.try_clone().unwrap().header("wechatpay-serial", KEY_ID);
    let (plain, asking) = (Shop::send(plain).await, Shop::send(asking).await);
    assert!(plain.is_signed_by("platform") && !plain.is_signed_by("public"));
    assert!(asking.is_signed_by("public") && !asking.is_signed_by("platform"));
    assert_eq!(asking.headers["wechatpay-serial"], KEY_ID);
    assert_eq!(shop.portal(json!({ "act": "signs_with", "identity": "next" })).await.0, 409);
    let identity = json!({ "act": "signs_with", "identity": "public_key" });
    assert_eq!(shop.portal(identity).await.0, 200);
    let query = format!("/v3/pay/transactions/out-trade-no/order-1?mchid={MCHID}");
    assert!(shop.reply("GET", &query, Value::Null).await.is_signed_by("public"));
}
