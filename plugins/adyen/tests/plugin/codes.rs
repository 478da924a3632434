//! Every code and word of the provider sheet, where it is at hand, against the plugin's own table.

use std::collections::BTreeMap;
use std::path::Path;

use adyen::Adyen;
use interlock_plugin_api::{Class, Currency, Manifest, Operation, Provider, What};
use serde_json::json;

use crate::{answer, authorised, payment, refused, with};

fn sheet() -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/providers/adyen.md");
    std::fs::read_to_string(path).ok()
}

/// The line of the sheet that begins with this word.
fn line_of<'a>(sheet: &'a str, begins: &str) -> &'a str {
    sheet.lines().find(|line| line.starts_with(begins)).expect("the sheet has this line")
}

/// The numbers of each group of the line on refusals: `group: 5 Blocked Card, 28/29 limits; ...`.
fn groups(line: &str) -> BTreeMap<String, Vec<u16>> {
    let after = line.split_once("): ").expect("a list").1;
    let list = after.split(" 0 with ").next().expect("a list");
    let mut groups: BTreeMap<String, Vec<u16>> = BTreeMap::new();
    let mut name = String::new();
    for part in list.split(['.', ',', ';']).map(str::trim).filter(|part| !part.is_empty()) {
        let part = match part.split_once(": ") {
            Some((group, rest)) if !group.contains(' ') || group.ends_with("fault") => {
                name = group.to_owned();
                rest
            }
            _ => part,
        };
        let numbers = part.split([' ', '/']).map_while(|word| word.parse::<u16>().ok());
        groups.entry(name.clone()).or_default().extend(numbers);
    }
    groups
}

#[test]
fn every_refusal_of_the_sheet_maps_as_it_says() {
    let Some(sheet) = sheet() else { return };
    let groups = groups(line_of(&sheet, "refusalReasonCode"));
    let allowed: &[(&str, &[Class])] = &[
        ("hard", &[Class::DeclinedHard, Class::DeclinedFraud]),
        ("user/data", &[Class::User]),
        // What the sheet calls soft and is hearsay, or the shopper's balance, stops.
        ("soft", &[Class::DeclinedSoft, Class::DeclinedHard, Class::User]),
        ("provider fault", &[Class::DeclinedSoft]),
        ("verification", &[Class::Verification]),
        ("canceled", &[Class::User]),
    ];
    let manifest = Manifest::parse(Adyen::MANIFEST.as_bytes()).unwrap();
    let mut rows = 0;
    for (group, classes) in allowed {
        for number in groups.get(*group).expect("the sheet has this group") {
            let fact = answer(Operation::Authorize, payment(), 200, &refused(&number.to_string()));
            assert_eq!(fact.what, What::Declined, "{group} {number}");
            let class = fact.class.unwrap();
            assert!(classes.contains(&class), "{group} {number}: {class:?}");
            // The sheet confirms the numbers up to 22 alone.
            assert!(*number <= 22 || class != Class::DeclinedSoft, "{number}");
            assert!(fact.advice.is_some(), "a shopper is told what to do: {number}");
            assert!(manifest.contract.proves(fact.provider_code.as_deref().unwrap()), "{number}");
            rows += 1;
        }
    }
    assert!(rows >= 30, "the sheet was read: {rows} {groups:?}");
    let listed: Vec<u16> = groups.values().flatten().copied().collect();
    for number in (0..100u16).filter(|n| !listed.contains(n)) {
        let fact = answer(Operation::Authorize, payment(), 200, &refused(&number.to_string()));
        assert_eq!(fact.what, What::Unknown, "not in the sheet: {number}");
    }
}

#[test]
fn every_result_of_the_sheet_is_read_as_it_says() {
    let Some(sheet) = sheet() else { return };
    let line = line_of(&sheet, "resultCode -> canonical");
    let read = |result: &str| {
        let action = json!({ "type": "redirect", "url": "https://acs.example/" });
        let body = with(with(authorised(), "resultCode", json!(result)), "action", action);
        answer(Operation::Authorize, payment(), 200, &body).what
    };
    let mut seen = 0;
    for part in line.split(';') {
        let Some((words, canonical)) = part.split_once("->") else { continue };
        let words = words.rsplit(": ").next().unwrap_or(words);
        for word in words.split(',').map(str::trim) {
            let plain = word.bytes().all(|b| b.is_ascii_alphanumeric()) && !word.is_empty();
            if !plain || word == "canonical" {
                continue;
            }
            let expected: &[What] = match canonical.trim_start() {
                c if c.starts_with("succeeded") => &[What::Captured],
                c if c.starts_with("failed but") || word == "Error" => &[What::Unknown],
                c if c.starts_with("failed") || c.starts_with("canceled") => &[What::Declined],
                c if c.starts_with("processing") => &[What::Pending],
                c if c.starts_with("requires_action") => &[What::Action],
                // All of the amount as a part of it contradicts itself.
                c if c.starts_with("authorized") => &[What::Unknown],
                _ => &[What::Unknown],
            };
            let what = read(word);
            assert!(expected.contains(&what), "{word} -> {canonical}: {what:?}");
            seen += 1;
        }
    }
    assert!(seen >= 12, "the sheet was read: {seen}");
}

#[test]
fn the_sheets_own_units_are_the_manifests() {
    let Some(sheet) = sheet() else { return };
    assert!(sheet.contains("# Adyen Checkout"), "the sheet was read");
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/providers/README.md");
    let Ok(readme) = std::fs::read_to_string(readme) else { return };
    let line = readme.lines().find(|line| line.contains("Amounts are not ISO")).unwrap();
    assert!(line.contains("CLP 2 decimals, CVE 0"), "{line}");
    let manifest = Manifest::parse(Adyen::MANIFEST.as_bytes()).unwrap();
    let exponent = |code: &str| manifest.currencies.get(&Currency::parse(code)?).copied();
    assert_eq!((exponent("CLP"), exponent("CVE")), (Some(2), Some(0)));
    // Not confirmed by the provider: not taken.
    assert_eq!((exponent("ISK"), exponent("IDR")), (None, None));
}
