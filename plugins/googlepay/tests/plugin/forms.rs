//! What comes out of good tokens, in each protocol and in both forms.

use super::*;
use wallet_tokens::google::token_with;

#[test]
fn the_keys_are_asked_for_first_and_nothing_else_is_sent() {
    let host = host(&keys());
    for (config, path) in [
        (json!({ "merchant_id": "1" }), "/paymentmethodtoken/keys.json"),
        (json!({ "merchant_id": "1", "test": true }), "/paymentmethodtoken/test/keys.json"),
    ] {
        let plugin = account(config);
        let asked = paid_with(token(&keys(), &wish()).token);
        let mut drive = Drive::new(&plugin, &host, Operation::OpenToken, asked);
        let (send, body) = drive.start().unwrap().sent();
        assert_eq!((send.method.as_str(), send.endpoint.as_str()), ("GET", "keys"));
        assert_eq!((send.path.as_str(), body.len()), (path, 0));
        let manifest = interlock_plugin_api::Manifest::parse(GooglePay::MANIFEST.as_bytes());
        let contract = manifest.unwrap().contract;
        assert!(contract.rule("GET", path, &[]).unwrap().cached);
    }
}

#[test]
fn a_network_token_comes_out_of_every_protocol() {
    for protocol in Protocol::ALL {
        let made = token(&keys(), &Wish { protocol, ..wish() });
        let opened = opened(open(&plain(), made.token).unwrap());
        assert_eq!((opened.token_id.as_str(), opened.amount), (wish().message_id, None));
        let Credential::NetworkToken { number, cryptogram, eci, source, .. } = &opened.credential
        else {
            unreachable!("{protocol:?}");
        };
        assert_eq!((number, cryptogram), (&made.number, &made.cryptogram));
        assert_eq!((eci.as_deref(), source.as_str()), (Some("05"), "google_pay"));
        let shown = serde_json::to_value(&opened.credential).unwrap();
        assert_eq!((&shown["expiry_month"], &shown["expiry_year"]), (&json!(12), &json!(2035)));
    }
}

#[test]
fn a_card_number_is_a_card_even_if_a_cryptogram_stands_beside_it() {
    let wish = Wish { auth_method: AuthMethod::PanOnly, number: CARD_NUMBER, ..wish() };
    let beside = |payload: &mut Value| {
        payload["paymentMethodDetails"]["cryptogram"] = "AAAAAA==".into();
        payload["paymentMethodDetails"]["eciIndicator"] = "05".into();
    };
    for made in [token(&keys(), &wish), token_with(&keys(), &wish, beside)] {
        let opened = opened(open(&plain(), made.token).unwrap());
        let Credential::Card { number, source, .. } = opened.credential else {
            unreachable!("a network token");
        };
        assert_eq!((number.as_str(), source.as_str()), (CARD_NUMBER, "google_pay"));
    }
}

#[test]
fn a_token_may_come_as_a_string_that_holds_it() {
    let text = token(&keys(), &wish()).token.to_string();
    assert!(open(&plain(), text.into()).unwrap().opened.is_some());
}

#[test]
fn what_google_adds_to_a_payload_is_not_in_the_way_and_an_eci_may_be_missing() {
    let made = token_with(&keys(), &wish(), |payload| {
        payload["paymentMethodDetails"]["assuranceDetails"] =
            json!({ "cardHolderAuthenticated": true });
        payload["paymentMethodDetails"]["eciIndicator"] = Value::Null;
    });
    let Credential::NetworkToken { eci, .. } =
        opened(open(&plain(), made.token).unwrap()).credential
    else {
        unreachable!("a card");
    };
    assert_eq!(eci, None);
}

#[test]
fn what_is_signed_is_counted_in_bytes() {
    let plugin =
        account(json!({ "recipient_id": "gateway:Zürich-東京", "gateway_merchant_id": "Müller" }));
    let wish =
        Wish {
            recipient_id: "gateway:Zürich-東京", gateway_merchant_id: Some("Müller"), ..wish()
        };
    assert!(open(&plugin, token(&keys(), &wish).token).unwrap().opened.is_some());
    let signing = account(json!({
        "recipient_id": "gateway:Zürich-東京", "gateway_merchant_id": "Müller",
        "protocols": "ECv2SigningOnly",
    }));
    let wish = Wish { protocol: Protocol::EcV2SigningOnly, ..wish };
    assert!(open(&signing, token(&keys(), &wish).token).unwrap().opened.is_some());
}

#[test]
fn a_number_that_is_too_long_for_us_is_told_by_its_digest() {
    let id = |message_id: &str| {
        opened(open(&plain(), token(&keys(), &Wish { message_id, ..wish() }).token).unwrap())
            .token_id
    };
    let longest = "x".repeat(128);
    assert_eq!(id(&longest), longest);
    let (one, other) = (format!("{longest}1"), format!("{longest}2"));
    assert_eq!(id(&one), id(&one));
    assert_ne!(id(&one), id(&other));
    assert_eq!(id(&one).len(), 71);
}

#[test]
fn nothing_of_a_shopper_is_shown_by_debug() {
    let made = token(&keys(), &wish());
    let done = open(&plain(), made.token).unwrap();
    let shown = format!("{done:?}");
    assert!(!shown.contains(&made.number), "{shown}");
    assert!(!shown.contains(made.cryptogram.as_deref().unwrap()), "{shown}");
}
