//! Rotation: of the merchant's keys, of Google's, and what stands in when Google can't be asked.

use super::*;
use interlock_plugin_api::TransportLoss;

const WEEK_MS: i64 = 7 * 24 * 3_600_000;

#[test]
fn the_merchants_previous_key_opens_until_it_is_taken_away() {
    let (old, new) = (keys(), keys().with_merchant_of(&Keys::from_seed("next")));
    let both = TestHost::default()
        .with_agreement("encryption_key", &new.merchant_pkcs8())
        .with_agreement("previous_encryption_key", &old.merchant_pkcs8());
    let published = keys_json(&old, NOW_MS);
    let with = |host: &TestHost, keys: &Keys| {
        open_at(&plain(), host, token(keys, &wish()).token, &published, NOW_MS)
    };
    assert!(with(&both, &old).unwrap().opened.is_some());
    assert!(with(&both, &new).unwrap().opened.is_some());
    assert_eq!(refused(with(&host(&new), &old).unwrap()), (Class::Config, "no_key_fits".into()));
    let previous =
        TestHost::default().with_agreement("previous_encryption_key", &old.merchant_pkcs8());
    assert!(with(&previous, &old).unwrap().opened.is_some());
    assert_eq!(
        refused(with(&TestHost::default(), &old).unwrap()),
        (Class::Config, "no_key_fits".into())
    );
}

#[test]
fn a_key_that_needs_none_is_not_asked_for() {
    let wish = Wish { protocol: Protocol::EcV2SigningOnly, ..wish() };
    let published = keys_json(&keys(), NOW_MS);
    let token = token(&keys(), &wish).token;
    let done = open_at(&plain(), &TestHost::default(), token, &published, NOW_MS);
    assert!(done.unwrap().opened.is_some());
}

#[test]
fn googles_next_root_key_counts_as_soon_as_it_is_published() {
    let (old, new) = (keys(), keys().with_root_of(&Keys::from_seed("next")));
    let with = |keys: &Keys, published: &str| {
        open_at(&plain(), &host(&old), token(keys, &wish()).token, published, NOW_MS)
    };
    let entries = |keys: &Keys| -> Vec<Value> {
        let file: Value = serde_json::from_str(&keys_json(keys, NOW_MS)).unwrap();
        file["keys"].as_array().unwrap().clone()
    };
    let both = [entries(&old), entries(&new)].concat();
    let both = json!({ "keys": both }).to_string();
    for keys in [&old, &new] {
        assert!(with(keys, &both).unwrap().opened.is_some());
    }
    assert_eq!(refused_for(with(&new, &keys_json(&old, NOW_MS))), "wrong_root");
    assert_eq!(refused_for(with(&old, &keys_json(&new, NOW_MS))), "wrong_root");
}

#[test]
fn a_key_that_cannot_be_read_stands_beside_those_that_can() {
    let mut file: Value = serde_json::from_str(&keys_json(&keys(), NOW_MS)).unwrap();
    let entries = file["keys"].as_array_mut().unwrap();
    let good = entries[0]["keyValue"].clone();
    for odd in [
        json!(7),
        json!({ "protocolVersion": "ECv2" }),
        json!({ "protocolVersion": "ECv3", "keyValue": good, "keyExpiration": "9" }),
        json!({ "protocolVersion": "ECv2", "keyValue": "AAAA", "keyExpiration": "9" }),
        json!({ "protocolVersion": "ECv2", "keyValue": good, "keyExpiration": "never" }),
    ] {
        entries.insert(0, odd);
    }
    let made = token(&keys(), &wish()).token;
    let done = open_at(&plain(), &host(&keys()), made, &file.to_string(), NOW_MS);
    assert!(done.unwrap().opened.is_some());
}

#[test]
fn a_protocol_without_a_root_key_is_refused() {
    let mut file: Value = serde_json::from_str(&keys_json(&keys(), NOW_MS)).unwrap();
    file["keys"].as_array_mut().unwrap().retain(|key| key["protocolVersion"] == "ECv1");
    let made = token(&keys(), &wish()).token;
    let done = open_at(&plain(), &host(&keys()), made, &file.to_string(), NOW_MS);
    assert_eq!(refused_for(done), "no_root_key");
}

/// What Google says instead of its keys.
fn silences() -> Vec<(u16, String)> {
    let good = keys_json(&keys(), NOW_MS);
    vec![
        (500, String::new()),
        (404, good.clone()),
        (304, String::new()),
        (200, String::new()),
        (200, "<html>".into()),
        (200, json!({ "keys": [] }).to_string()),
        (200, json!({ "keys": "x" }).to_string()),
        (200, good[..good.len() / 2].to_owned()),
        (200, format!("{good}{}", " ".repeat(65 * 1024))),
    ]
}

fn begun<'a>(plugin: &'a GooglePay, host: &'a TestHost, by: &Keys) -> Drive<'a, GooglePay> {
    let asked = paid_with(token(by, &wish()).token);
    let mut drive = Drive::new(plugin, host, Operation::OpenToken, asked);
    drive.start().unwrap().sent();
    drive
}

#[test]
fn without_keys_there_is_no_verdict() {
    let (plugin, host) = (plain(), host(&keys()));
    for (status, body) in silences() {
        let said = begun(&plugin, &host, &keys()).answer(status, body.as_bytes());
        assert!(said.is_err(), "{status}: {body}");
    }
    for lost in [TransportLoss::NotSent, TransportLoss::MaybeSent] {
        assert!(begun(&plugin, &host, &keys()).lost(lost).is_err());
    }
}

#[test]
fn the_accounts_own_keys_stand_in_when_googles_cannot_be_read() {
    let pinned = keys_json(&keys(), NOW_MS);
    let plugin = account(json!({ "recipient_id": RECIPIENT, "root_keys": pinned }));
    let host = host(&keys());
    for (status, body) in silences() {
        let said = begun(&plugin, &host, &keys()).answer(status, body.as_bytes());
        assert!(said.unwrap().done().opened.is_some(), "{status}: {body}");
    }
    let mut lost = begun(&plugin, &host, &keys());
    assert!(lost.lost(TransportLoss::NotSent).unwrap().done().opened.is_some());
    let stranger = keys().with_root_of(&Keys::from_seed("next"));
    let mut lost = begun(&plugin, &host, &stranger);
    assert_eq!(refused(lost.lost(TransportLoss::NotSent).unwrap().done()).1, "wrong_root");
}

#[test]
fn what_was_fetched_is_the_truth_whatever_the_account_holds() {
    let old = keys();
    let plugin =
        account(json!({ "recipient_id": RECIPIENT, "root_keys": keys_json(&old, NOW_MS) }));
    let new = keys().with_root_of(&Keys::from_seed("next"));
    let made = token(&old, &wish()).token;
    let done = open_at(&plugin, &host(&old), made, &keys_json(&new, NOW_MS), NOW_MS);
    assert_eq!(refused_for(done), "wrong_root");
}

#[test]
fn own_keys_that_are_all_over_are_no_verdict() {
    let long_ago = NOW_MS - 20 * 365 * 24 * 3_600_000;
    let pinned = keys_json(&keys(), long_ago);
    let plugin = account(json!({ "recipient_id": RECIPIENT, "root_keys": pinned }));
    let host = host(&keys());
    assert!(begun(&plugin, &host, &keys()).lost(TransportLoss::NotSent).is_err());
    let fetched = open_at(&plugin, &host, token(&keys(), &wish()).token, &pinned, NOW_MS + WEEK_MS);
    assert_eq!(refused(fetched.unwrap()), (Class::Expired, "expired_root".into()));
}

#[test]
fn a_question_that_was_not_asked_is_a_fault() {
    let (plugin, host) = (plain(), host(&keys()));
    let asked = paid_with(token(&keys(), &wish()).token);
    let mut early = Drive::new(&plugin, &host, Operation::OpenToken, asked);
    assert!(early.answer(200, keys_json(&keys(), NOW_MS).as_bytes()).is_err());
    assert!(begun(&plugin, &host, &keys()).start().is_err());
}
