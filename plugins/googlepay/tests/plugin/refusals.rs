//! Every defect is refused, for its own reason and with its class.

use super::*;
use wallet_tokens::google::{Defect, Part, token_with};

/// The reason for a defect of a token in the newest protocol.
fn reason(defect: Defect) -> (Class, &'static str) {
    use Class::{Config, Expired, Verification};
    match defect {
        Defect::WrongRoot => (Verification, "wrong_root"),
        Defect::ExpiredRoot => (Expired, "expired_root"),
        Defect::RootWithoutExpiration => (Verification, "root_without_expiration"),
        Defect::ExpiredIntermediate => (Expired, "expired_intermediate"),
        // Who signed, and for whom, is one signature: it does not say which of them is wrong.
        Defect::WrongMessageKey | Defect::WrongRecipient => (Verification, "bad_signature"),
        Defect::DowngradedVersion => (Verification, "protocol_not_allowed"),
        Defect::SigningOnlyAsEcv2 => (Verification, "wrong_root"),
        Defect::UnknownVersion => (Verification, "unknown_protocol"),
        Defect::ExtraMember => (Verification, "unexpected_member"),
        Defect::MissingMember => (Verification, "missing_member"),
        Defect::ExtraMessageMember => (Verification, "unexpected_message_member"),
        Defect::MissingMessageMember => (Verification, "missing_message_member"),
        Defect::FlippedBit(Part::Signature | Part::Message) => (Verification, "bad_signature"),
        Defect::FlippedBit(Part::Intermediate | Part::IntermediateSignature) => {
            (Verification, "wrong_root")
        }
        // A tag that fits no key is all that is seen of a key that is not ours.
        Defect::BadTag | Defect::OtherMerchantKey => (Config, "no_key_fits"),
        Defect::BadEphemeralKey => (Verification, "bad_ephemeral_key"),
        Defect::ExpiredMessage => (Expired, "expired_message"),
        Defect::OtherGatewayMerchant => (Verification, "other_gateway_merchant"),
        Defect::OtherPaymentMethod => (Verification, "unsupported_payment_method"),
        Defect::OtherAuthMethod => (Verification, "unsupported_auth_method"),
        Defect::MissingCryptogram => (Verification, "missing_cryptogram"),
        Defect::MissingMessageId | Defect::UnreadablePayload => (Verification, "malformed_payload"),
    }
}

fn merchant(protocols: &str) -> GooglePay {
    account(json!({
        "recipient_id": RECIPIENT, "gateway_merchant_id": "gm", "protocols": protocols,
    }))
}

#[test]
fn every_defect_is_refused_for_its_own_reason() {
    let plugin = merchant("ECv2");
    for defect in Defect::ALL {
        let gateway_merchant_id = Some("gm");
        let wish = Wish { defect: Some(*defect), gateway_merchant_id, ..wish() };
        let (class, word) = refused(open(&plugin, token(&keys(), &wish).token).unwrap());
        assert_eq!((class, word.as_str()), reason(*defect), "{}", defect.word());
    }
}

#[test]
fn every_defect_is_refused_in_the_other_protocols_too() {
    let plugin = merchant(ALL_PROTOCOLS);
    for protocol in Protocol::ALL {
        for defect in Defect::ALL.iter().filter(|defect| defect.fits(protocol)) {
            let gateway_merchant_id = Some("gm");
            let wish = Wish { protocol, defect: Some(*defect), gateway_merchant_id, ..wish() };
            let word = refused_for(open(&plugin, token(&keys(), &wish).token));
            match defect {
                // A root key signs the whole message, so only its signature can be wrong.
                Defect::WrongRoot | Defect::DowngradedVersion
                    if protocol == Protocol::EcV1 || *defect == Defect::DowngradedVersion =>
                {
                    assert_eq!(word, "bad_signature", "{protocol:?} {}", defect.word());
                }
                _ => assert_eq!(word, reason(*defect).1, "{protocol:?} {}", defect.word()),
            }
        }
    }
}

#[test]
fn a_protocol_is_taken_only_where_it_is_named() {
    for protocol in Protocol::ALL {
        let token = token(&keys(), &Wish { protocol, ..wish() }).token;
        let newest = account(json!({ "recipient_id": RECIPIENT }));
        let done = open(&newest, token.clone());
        match protocol {
            Protocol::EcV2 => assert!(done.unwrap().opened.is_some()),
            _ => assert_eq!(refused_for(done), "protocol_not_allowed"),
        }
        let only = account(json!({ "recipient_id": RECIPIENT, "protocols": protocol.name() }));
        assert!(open(&only, token).unwrap().opened.is_some());
    }
}

#[test]
fn a_gateways_merchant_is_demanded_by_either_side() {
    let of = |merchant| token(&keys(), &Wish { gateway_merchant_id: merchant, ..wish() }).token;
    let named = merchant("ECv2");
    assert!(open(&named, of(Some("gm"))).unwrap().opened.is_some());
    assert_eq!(refused_for(open(&named, of(None))), "other_gateway_merchant");
    assert_eq!(refused_for(open(&plain(), of(Some("gm")))), "other_gateway_merchant");
}

#[test]
fn a_moment_that_is_an_end_is_over() {
    let keys = keys();
    let token = token(&keys, &wish()).token;
    let week_ms = 7 * 24 * 3_600_000;
    let at =
        |now_ms| open_at(&plain(), &host(&keys), token.clone(), &keys_json(&keys, NOW_MS), now_ms);
    assert!(at(NOW_MS + week_ms - 1).unwrap().opened.is_some());
    assert_eq!(
        refused(at(NOW_MS + week_ms).unwrap()),
        (Class::Expired, "expired_intermediate".into())
    );
    let only_root = Wish { protocol: Protocol::EcV1, ..wish() };
    let token = wallet_tokens::google::token(&keys, &only_root).token;
    let done = open_at(&plain(), &host(&keys), token, &keys_json(&keys, NOW_MS), NOW_MS + week_ms);
    assert_eq!(refused(done.unwrap()), (Class::Expired, "expired_message".into()));
}

#[test]
fn members_have_their_forms_and_bounds() {
    let good = token(&keys(), &wish()).token;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut token = good.clone();
        change(&mut token);
        refused_for(open(&plain(), token))
    };
    let long = "x".repeat(17 * 1024);
    assert_eq!(with(&|t| *t = json!([])), "malformed_token");
    assert_eq!(with(&|t| *t = "{".into()), "malformed_token");
    assert_eq!(with(&|t| *t = Value::Null), "malformed_token");
    assert_eq!(with(&|t| *t = json!({})), "missing_member");
    assert_eq!(with(&|t| t["protocolVersion"] = 2.into()), "malformed_token");
    assert_eq!(with(&|t| t["signature"] = "no base64".into()), "malformed_token");
    assert_eq!(with(&|t| t["signature"] = json!(null)), "malformed_token");
    assert_eq!(with(&|t| t["signedMessage"] = json!({})), "malformed_token");
    assert_eq!(with(&|t| t["signedMessage"] = long.as_str().into()), "malformed_token");
    let key = "intermediateSigningKey";
    assert_eq!(with(&|t| t[key] = "x".into()), "malformed_token");
    assert_eq!(with(&|t| t[key]["more"] = "x".into()), "unexpected_member");
    assert_eq!(with(&|t| t[key] = json!({ "signedKey": "x" })), "missing_member");
    assert_eq!(with(&|t| t[key]["signatures"] = json!([])), "malformed_token");
    assert_eq!(with(&|t| t[key]["signatures"] = json!(vec!["MEUC"; 9])), "malformed_token");
    assert_eq!(with(&|t| t[key]["signedKey"] = long.as_str().into()), "malformed_token");
}

#[test]
fn a_payload_has_its_forms_and_bounds() {
    let with = |change: &dyn Fn(&mut Value)| {
        let made = token_with(&keys(), &wish(), |payload| change(payload));
        refused_for(open(&plain(), made.token))
    };
    let details = "paymentMethodDetails";
    for pan in ["", "4111", "41111111111111112222", "4111 1111 1111 1111", "٤111111111111111"] {
        assert_eq!(with(&|p| p[details]["pan"] = pan.into()), "malformed_payload", "{pan}");
    }
    assert_eq!(with(&|p| p[details]["expirationMonth"] = 13.into()), "malformed_payload");
    assert_eq!(with(&|p| p[details]["expirationYear"] = 35.into()), "malformed_payload");
    assert_eq!(with(&|p| p[details]["cryptogram"] = "!".into()), "malformed_payload");
    assert_eq!(with(&|p| p[details]["cryptogram"] = "".into()), "missing_cryptogram");
    assert_eq!(with(&|p| p[details]["eciIndicator"] = "five".into()), "malformed_payload");
    assert_eq!(with(&|p| p["messageId"] = "".into()), "malformed_payload");
    assert_eq!(with(&|p| p["messageId"] = "a b".into()), "malformed_payload");
    assert_eq!(with(&|p| p["messageId"] = "x".repeat(1025).into()), "malformed_payload");
    assert_eq!(with(&|p| p["messageExpiration"] = "soon".into()), "malformed_payload");
    assert_eq!(with(&|p| p["messageExpiration"] = "-1".into()), "malformed_payload");
    assert_eq!(with(&|p| p[details] = Value::Null), "malformed_payload");
}

#[test]
fn another_wallets_token_is_no_question_for_this_plugin() {
    let (plugin, host) = (plain(), host(&keys()));
    let token = token(&keys(), &wish()).token;
    let credential = Credential::EncryptedWalletToken { wallet: "apple_pay".into(), token };
    for credential in [None, Some(credential)] {
        let asked = Request { credential, ..request(4_900, "EUR", 2) };
        assert!(Drive::new(&plugin, &host, Operation::OpenToken, asked).start().is_err());
    }
}
