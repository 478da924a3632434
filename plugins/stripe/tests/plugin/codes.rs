//! Every code and word of the provider sheet, where it is at hand, against the plugin's own table.

use std::path::Path;

use interlock_plugin_api::{Class, Currency, Manifest, Operation, Provider, What};
use stripe::Stripe;

use crate::{answer, code, intent, payment, refused};

fn sheet(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/providers").join(name);
    std::fs::read_to_string(path).ok()
}

/// The words of the line of the sheet's failure classes that begins so.
fn words<'a>(sheet: &'a str, begins: &str) -> Vec<&'a str> {
    let classes = sheet.split("**Failure classes**").nth(1).expect("the sheet has classes");
    let line = classes.lines().find(|line| line.trim().starts_with(begins));
    let list = line.expect("the sheet has this line").split_once(':').expect("a list").1;
    let list = list.split(". ").next().expect("a list");
    let word = |w: &&str| w.len() > 2 && w.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    list.split(['/', ',', ' ', '.', '*', ';']).map(str::trim).filter(word).collect()
}

#[test]
fn every_decline_code_of_the_sheet_has_its_class() {
    let Some(sheet) = sheet("stripe.md") else { return };
    let manifest = Manifest::parse(Stripe::MANIFEST.as_bytes()).unwrap();
    let rows: [(&str, &[Class], &[&str]); 3] = [
        // What the sheet calls soft may stop, where no other processor could do better.
        (
            "soft decline",
            &[Class::DeclinedSoft, Class::DeclinedHard, Class::User],
            &["insufficient_funds", "do_not_honor", "try_again_later"],
        ),
        (
            "hard",
            &[Class::DeclinedHard, Class::DeclinedFraud],
            &["lost_card", "restricted_card", "highest_risk_level"],
        ),
        ("verification", &[Class::Verification], &["authentication_required"]),
    ];
    let mut seen = 0;
    for (begins, classes, some) in rows {
        let words = words(&sheet, begins);
        assert!(some.iter().all(|word| words.contains(word)), "{begins}: {words:?}");
        for word in words {
            let no_code = ["status", "requires_action", "revocation_of_"];
            if no_code.contains(&word) {
                continue;
            }
            let body = refused("card_declined", Some(word));
            let fact = answer(Operation::Authorize, payment(), 402, &body);
            let listed = format!("card_declined:{word}");
            assert_eq!(code(&fact), (What::Declined, Some(listed.as_str())), "{begins}");
            assert!(classes.contains(&fact.class.unwrap()), "{begins} {word}: {:?}", fact.class);
            assert!(fact.advice.is_some() && manifest.contract.proves(&listed), "{word}");
            seen += 1;
        }
    }
    assert!(seen >= 25, "the sheet was read: {seen}");
}

#[test]
fn lost_stolen_and_fraudulent_never_move_on_and_are_told_apart_by_nobody() {
    let advice = |word| {
        let body = refused("card_declined", Some(word));
        let fact = answer(Operation::Authorize, payment(), 402, &body);
        assert_eq!(fact.class, Some(Class::DeclinedFraud), "{word}");
        fact.advice
    };
    let first = advice("fraudulent");
    assert!(["lost_card", "stolen_card", "pickup_card"].map(advice).iter().all(|a| *a == first));
}

#[test]
fn every_status_of_the_sheet_is_read_as_it_says() {
    let Some(sheet) = sheet("stripe.md") else { return };
    let line = sheet.lines().find(|line| line.starts_with("**Status -> canonical**")).unwrap();
    for (part, what) in [
        ("succeeded->succeeded", What::Captured),
        ("processing->processing", What::Pending),
        ("requires_action->requires_action", What::Action),
        ("canceled->canceled", What::Declined),
        ("`last_payment_error` present -> failed", What::Declined),
    ] {
        assert!(line.contains(part), "{part}: {line}");
        let status = part.split("->").next().unwrap();
        let status = if status.contains('`') { "requires_payment_method" } else { status };
        let fact = answer(Operation::Authorize, payment(), 200, &intent(status));
        assert_eq!(fact.what, what, "{part}");
    }
    assert!(line.contains("anything else->unknown"));
}

#[test]
fn the_sheets_own_units_are_the_manifests() {
    let Some(readme) = sheet("README.md") else { return };
    let line = readme.lines().find(|line| line.contains("Amounts are not ISO")).unwrap();
    assert!(line.contains("Stripe: CLP zero-decimal"), "{line}");
    let manifest = Manifest::parse(Stripe::MANIFEST.as_bytes()).unwrap();
    let exponent = |code: &str| manifest.currencies.get(&Currency::parse(code)?).copied();
    assert_eq!(exponent("CLP"), Some(0));
    // The sheet and public lists contradict each other, so it is not taken.
    assert!(line.contains("UGX") && exponent("UGX").is_none());
}
