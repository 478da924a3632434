//! Where a payment would go, told without sending or writing anything: for the admin API, for the
//! command line without a server, and for routing cases in files.
//!
//! The walk is the engine's ([`interlock_engine::explain`]); this room reads the question and
//! writes the answer. What is not asked precisely is completed from what the accounts take, and
//! the answer says so.

use std::collections::{BTreeMap, BTreeSet};

use interlock_engine::explain::{Candidate, Explanation, Standing, explain};
use interlock_engine::route::Shape;
use interlock_engine::{
    Failover, Health, Method, Mint, Policy, RoutePolicy, Skip, Stamp, Strategy, World,
};
use interlock_plugin_api::{
    CaptureMode, CredentialForm, Currency, Customer, Money, MoneyError, format_units, parse_units,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::config::Window;
use crate::setup::iso_exponent;

/// A payment, as far as routing looks at it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// ISO minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// How the shopper pays: a method type, or more of it.
    #[serde(deserialize_with = "name_or_more")]
    pub method: MethodAsked,
    /// When the money is taken; automatic by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<CaptureMode>,
    /// Who pays.
    #[serde(default)]
    pub customer: CustomerAsked,
    /// Who asks; a name of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merchant: Option<String>,
    /// The merchant's notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The random number, 0 to 1, that chooses among weighted accounts; 0 by default.
    #[serde(default)]
    pub draw: f64,
}

/// How the shopper pays. What is left out is completed with what most accounts take.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodAsked {
    /// The API's method type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// The form of the credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialForm>,
    /// The accounts that a stored token is for; without them, all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<String>,
}

fn name_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<MethodAsked, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a method type, or an object with `type`")]
    enum Written {
        Name(String),
        More(MethodAsked),
    }
    Ok(match Written::deserialize(from)? {
        Written::Name(kind) => MethodAsked { kind, ..MethodAsked::default() },
        Written::More(method) => method,
    })
}

/// Who pays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomerAsked {
    /// Two letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
}

/// A member of the question that can't be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The member.
    pub param: &'static str,
    /// What to write.
    pub detail: String,
}

impl Fault {
    fn new(param: &'static str, detail: impl Into<String>) -> Self {
        Self { param, detail: detail.into() }
    }
}

/// What is known around the question.
pub struct Surroundings<'a> {
    /// The configuration.
    pub policy: &'a Policy,
    /// How accounts are doing.
    pub health: &'a dyn Health,
    /// Now.
    pub now: Stamp,
    /// Each route's line in the configuration.
    pub places: &'a BTreeMap<String, String>,
    /// What else is known of an account and a method of it.
    pub beside: &'a dyn Fn(&str, &str) -> Value,
}

/// Answers a question as JSON: `route`, `matched_by`, `candidates` in order, `refused` routes.
///
/// # Errors
/// The member that can't be used.
pub fn answer(question: &Question, around: &Surroundings<'_>) -> Result<Value, Fault> {
    let money = money(question)?;
    let customer = Customer { country: country(question)?, ..Customer::default() };
    if !(0.0..=1.0).contains(&question.draw) {
        return Err(Fault::new("draw", "must be from 0 to 1"));
    }
    let merchant = match &question.merchant {
        Some(name) if !around.policy.merchants.contains_key(name) => {
            let known: Vec<&str> = around.policy.merchants.keys().map(String::as_str).collect();
            return Err(Fault::new("merchant", format!("known: {}", known.join(", "))));
        }
        Some(name) => name.as_str(),
        None => "",
    };
    let method = method(&question.method, around.policy)?;
    let shape = Shape {
        merchant,
        money,
        capture: question.capture.unwrap_or(CaptureMode::Automatic),
        method: &method,
        customer: &customer,
        metadata: &question.metadata,
    };
    let world = World {
        now: around.now,
        policy: around.policy,
        health: around.health,
        mint: &NoNumbers,
        draw: question.draw,
        sending: false,
        credential: true,
        details: false,
        order: None,
        stated: None,
    };
    Ok(told(question, &shape, &explain(&shape, &world), around))
}

fn told(
    question: &Question,
    shape: &Shape<'_>,
    explanation: &Explanation<'_>,
    around: &Surroundings<'_>,
) -> Value {
    let place = |route: &RoutePolicy| around.places.get(&route.name);
    let refused: Vec<Value> = explanation
        .refused
        .iter()
        .map(|(r, by)| json!({ "route": r.name, "place": place(r), "by": by }))
        .collect();
    let matched = explanation.matched.as_ref();
    let route = matched.map(|m| m.route);
    let by: Vec<Value> = matched
        .iter()
        .flat_map(|m| &m.by)
        .map(|key| json!({ "key": key, "value": value_of(key, shape) }))
        .collect();
    let candidates: Vec<Value> = matched
        .iter()
        .flat_map(|m| &m.candidates)
        .map(|c| candidate(c, (around.beside)(c.account, &shape.method.kind)))
        .collect();
    let asked = &question.method;
    let assumed = asked.flow.is_none() || asked.credential.is_none();
    json!({
        "amount": shape.money.amount, "currency": shape.money.currency,
        "method": {
            "type": shape.method.kind, "flow": shape.method.flow,
            "credential": shape.method.form, "assumed": assumed,
        },
        "draw": question.draw,
        "route": route.map(|r| r.name.as_str()),
        "place": route.and_then(place),
        "matched_by": by,
        "strategy": route.map(|r| match r.strategy {
            Strategy::Priority => "priority",
            Strategy::Weighted => "weighted",
        }),
        "failover": route.map(|r| match r.failover {
            Failover::Proven => "proven",
            Failover::NotSent => "not_sent",
            Failover::None => "none",
        }),
        "attempts_max": route.map(|r| r.attempts_max),
        "candidates": candidates,
        "refused": refused,
    })
}

fn candidate(c: &Candidate<'_>, beside: Value) -> Value {
    let (rank, after) = match c.standing {
        Standing::Rank(rank) => (Some(rank), false),
        Standing::Skipped(_) => (None, false),
        Standing::SkippedAfter(_) | Standing::Spare | Standing::Beyond => (None, true),
    };
    let words = match c.standing {
        Standing::Rank(_) => None,
        Standing::Skipped(skip) | Standing::SkippedAfter(skip) => Some(skip.in_words()),
        Standing::Spare => Some("only in the place of those before it: the route never fails over"),
        Standing::Beyond => Some("the route tries no more accounts for one payment"),
    };
    json!({
        "account": c.account, "rank": rank, "reason": c.standing.reason(), "words": words,
        "after_failover": after, "share": c.share, "health": beside,
        "demoted": c.demoted.map(Skip::as_str), "demoted_words": c.demoted.map(Skip::in_words),
    })
}

/// The payment's value of a key that a route is matched by.
fn value_of(key: &str, shape: &Shape<'_>) -> Value {
    match key {
        "method" => shape.method.kind.as_str().into(),
        "flow" => shape.method.flow.as_str().into(),
        "currency" => shape.money.currency.as_str().into(),
        "country" => shape.customer.country.as_deref().into(),
        "merchant" => shape.merchant.into(),
        "amount" => shape.money.amount.into(),
        _ => json!(shape.metadata),
    }
}

/// An amount in words, such as `49.00 EUR` or `500JPY`, in minor units with its currency.
///
/// # Errors
/// What to write.
pub fn amount_in_words(text: &str) -> Result<(i64, String), Fault> {
    let form = || Fault::new("amount", "write the amount and its currency, such as `49.00 EUR`");
    let text = text.trim();
    let code =
        text.len().checked_sub(3).filter(|at| text.is_char_boundary(*at)).ok_or_else(form)?;
    let (digits, code) = text.split_at(code);
    let (currency, exponent) = currency(code)?;
    let amount = parse_units(digits.trim(), exponent).map_err(|why| match why {
        MoneyError::NotExact => {
            Fault::new("amount", format!("{currency} has {exponent} decimal places"))
        }
        _ => form(),
    })?;
    Ok((amount, currency.as_str().to_owned()))
}

/// Minor units as a person writes them: `49.00 EUR`.
pub fn words_of_amount(amount: i64, code: &str) -> String {
    let exponent = Currency::parse(code).and_then(iso_exponent).unwrap_or(0);
    format!("{} {code}", format_units(amount, exponent))
}

fn currency(code: &str) -> Result<(Currency, u8), Fault> {
    let known = Currency::parse(code).and_then(|c| Some((c, iso_exponent(c)?)));
    known.ok_or(Fault::new("currency", "not a currency of ISO 4217 with minor units"))
}

fn money(question: &Question) -> Result<Money, Fault> {
    if question.amount < 1 {
        return Err(Fault::new("amount", "must be at least 1 minor unit"));
    }
    Ok(Money::new(question.amount, currency(&question.currency)?.0))
}

fn country(question: &Question) -> Result<Option<String>, Fault> {
    let Some(country) = &question.customer.country else { return Ok(None) };
    let country = country.to_ascii_uppercase();
    if country.len() != 2 || !country.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err(Fault::new("customer.country", "must be two letters (ISO 3166-1)"));
    }
    Ok(Some(country))
}

/// Completes a method with the flow and the credential that most accounts take.
fn method(asked: &MethodAsked, policy: &Policy) -> Result<Method, Fault> {
    if asked.kind.is_empty() {
        return Err(Fault::new("method.type", "name a method, such as `card`"));
    }
    let mut taken: BTreeMap<(&str, CredentialForm), BTreeSet<&str>> = BTreeMap::new();
    for account in policy.accounts.values() {
        for m in account.methods.iter().filter(|m| {
            m.kind == asked.kind
                && asked.flow.as_ref().is_none_or(|flow| *flow == m.flow)
                && asked.credential.is_none_or(|form| form == m.credential)
        }) {
            taken.entry((&m.flow, m.credential)).or_default().insert(&account.name);
        }
    }
    // Of two that equally many take, the one that needs less of the shopper.
    let most = taken.iter().rev().max_by_key(|(_, accounts)| accounts.len()).map(|(key, _)| *key);
    let flow = asked.flow.as_deref().or(most.map(|(flow, _)| flow)).unwrap_or("");
    let form = asked.credential.or(most.map(|(_, form)| form)).unwrap_or(CredentialForm::None);
    let token_accounts = match (form, asked.accounts.is_empty()) {
        (CredentialForm::AccountToken | CredentialForm::EncryptedWalletToken, true) => {
            policy.accounts.keys().cloned().collect()
        }
        _ => asked.accounts.clone(),
    };
    Ok(Method { kind: asked.kind.clone(), flow: flow.to_owned(), form, token_accounts })
}

/// Nothing is numbered, because nothing is made.
struct NoNumbers;

impl Mint for NoNumbers {
    fn mint(&self, _: &[&str]) -> String {
        String::new()
    }
}

/// Health that is given, not observed: everything is well but what is named.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Accounts that are skipped, with the reason.
    pub skips: BTreeMap<String, Skip>,
    /// Accounts that are tried after the others, with the reason.
    pub doubts: BTreeMap<String, Skip>,
    /// When accounts are not used.
    pub maintenance: BTreeMap<String, Vec<Window>>,
}

impl Health for Given {
    fn admits(&self, account: &str, _: &str, now: Stamp) -> Result<(), Skip> {
        let (from, until) = (now.wall_ms, now.wall_ms.saturating_add(1));
        let windows = self.maintenance.get(account);
        if windows.into_iter().flatten().any(|w| !w.between(from, until).is_empty()) {
            return Err(Skip::Maintenance);
        }
        self.skips.get(account).map_or(Ok(()), |skip| Err(*skip))
    }

    fn demotes(&self, account: &str, _: &str, _: f64, _: Stamp) -> Option<Skip> {
        self.doubts.get(account).copied()
    }

    fn failover_budget(&self, _: &str, _: Stamp) -> bool {
        true
    }

    fn refund_cap(&self, _: &str, _: i64, _: Stamp) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly_and_written_back() {
        for (text, amount, code, back) in [
            ("49.00EUR", 4_900, "EUR", "49.00 EUR"),
            (" 49.5 EUR", 4_950, "EUR", "49.50 EUR"),
            ("49 eur", 4_900, "EUR", "49.00 EUR"),
            ("500JPY", 500, "JPY", "500 JPY"),
            ("1.234 KWD", 1_234, "KWD", "1.234 KWD"),
            ("0.01 CNY", 1, "CNY", "0.01 CNY"),
        ] {
            let read = amount_in_words(text).expect(text);
            assert_eq!(read, (amount, code.to_owned()), "{text}");
            assert_eq!(words_of_amount(read.0, &read.1), back);
        }
        for text in ["", "EUR", "49", "49.001 EUR", "1.5 JPY", "-1 EUR", "4,9 EUR", "9 XXQ", "€EU"]
        {
            assert!(amount_in_words(text).is_err(), "{text}");
        }
    }
}
