//! Damaged tokens and files of keys. Half of them meet a host that holds every signature for good,
//! so that what lies behind the signatures is damaged too.

use super::*;

const TOKENS: &str = "tests/corpora/tokens-googlepay";
const FILES: &str = "tests/corpora/keys-googlepay";

#[test]
fn damaged_tokens_are_refused_or_are_what_they_were() {
    let (plugin, published) = (plain(), keys_json(&keys(), NOW_MS));
    let (strict, trusting) = (host(&keys()), host(&keys()).believing());
    let cases = mutator::each(&[TOKENS], 400, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let opened = |host| {
            let done = open_at(&plugin, host, text.into(), &published, NOW_MS).unwrap();
            assert_eq!(done.opened.is_some(), done.facts.is_empty());
            done.opened
        };
        if let Some(opened) = opened(&strict) {
            let Credential::NetworkToken { number, .. } = opened.credential else {
                unreachable!("a card out of a network token");
            };
            assert_eq!(
                (number.as_str(), opened.token_id.as_str()),
                (DEVICE_NUMBER, wish().message_id)
            );
        }
        opened(&trusting);
    });
    assert!(cases > 1_000);
}

#[test]
fn damaged_keys_vouch_for_nobody_else() {
    let (plugin, host) = (plain(), host(&keys()));
    let good = token(&keys(), &wish()).token;
    let stranger = keys().with_root_of(&Keys::from_seed("stranger"));
    let bad = token(&stranger, &wish()).token;
    let cases = mutator::each(&[FILES], 400, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        // It may be opened, refused, or not judged.
        let _ = open_at(&plugin, &host, good.clone(), text, NOW_MS);
        let judged = open_at(&plugin, &host, bad.clone(), text, NOW_MS);
        assert!(judged.is_err() || judged.unwrap().opened.is_none());
    });
    assert!(cases > 400);
}
