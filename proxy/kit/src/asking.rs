//! What the kit asks a plugin: requests made from its manifest, changed by its fixtures.
//!
//! Everything in them is fixed, so that what a plugin sends can be compared byte for byte. A
//! shopper's credentials are recognizable wherever they turn up.

use interlock_plugin_api::{
    CaptureMode, Credential, CredentialForm, Currency, Customer, Envelope, Event, Manifest,
    MethodSupport, Money, Operation, Original, Period, Request, SessionRequest, WantedKeys,
};
use serde_json::Value;

use crate::account::Account;
use crate::fixture::{Fixture, Turn};

/// The time in every example, Unix ms: 2025-11-24T16:00:00Z.
pub const NOW_MS: i64 = 1_764_000_000_000;
/// Our number of every example's operation.
pub const OP_ID: &str = "KIT00000000000000000000000000001";
/// Our number of the payment that a later operation belongs to.
pub const PAYMENT_ID: &str = "KIT00000000000000000000000000000";
const ENTROPY: &str = "00112233445566778899aabbccddeeff";
const TOKEN: &str = "KITtokenCANARY";
/// A number that no issuer gives out, with a good check digit.
const NUMBER: &str = "4000007000000016";
const CRYPTOGRAM: &str = "S0lUQ0FOQVJZQ1JZUFRPR1I=";
const AUTH_CODE: &str = "289900000000000017";

/// An operation that is about to begin.
#[derive(Clone)]
pub struct Asked {
    /// Where it is from.
    pub at: String,
    /// What its first step is given.
    pub envelope: Envelope,
    /// The raw body of a notification.
    pub body: Vec<u8>,
}

/// Makes what a plugin is asked.
pub struct Asking {
    /// The plugin's own word.
    pub manifest: Manifest,
    /// The account of the fixtures.
    pub account: Account,
}

impl Asking {
    /// Every operation that the plugin can be asked to begin: its worked examples, every method in
    /// every way of capture, and what has no example.
    pub fn asked(&self, fixtures: &[Fixture]) -> Vec<Asked> {
        let mut all: Vec<Asked> = fixtures.iter().filter_map(|f| self.of_fixture(f)).collect();
        let settings = &self.account.config;
        for method in self.manifest.methods.iter().filter(|m| m.taken_by(settings)) {
            for capture in &method.capture {
                let at = format!("authorize {} {}", named(method), word(capture));
                let mut request = self.request(Operation::Authorize);
                self.pay_by(&mut request, method);
                request.capture = *capture;
                all.push(self.ask(at, Operation::Authorize, request));
            }
        }
        for op in &self.manifest.operations {
            let shown = all.iter().any(|asked| asked.envelope.op == *op);
            let given = matches!(op, Operation::ParseNotification | Operation::ReadStatement);
            if !shown && !given {
                let at = format!("{} without a fixture", op.as_str());
                all.push(self.ask(at, *op, self.request(*op)));
            }
        }
        all
    }

    /// What a fixture asks.
    pub fn of_fixture(&self, fixture: &Fixture) -> Option<Asked> {
        let op = fixture.operation().ok()?;
        let mut patch = fixture.patch().ok()?;
        let mut request = serde_json::to_value(self.request(op)).ok()?;
        // A credential is replaced whole; its form alone stands for the kit's own of that form.
        if let Some(given) = patch.as_object_mut().and_then(|fields| fields.remove("credential")) {
            request["credential"] = match &given {
                Value::String(_) => {
                    let form = serde_json::from_value(given).ok()?;
                    serde_json::to_value(self.credential(form)).ok()?
                }
                given => given.clone(),
            };
        }
        merge(&mut request, &patch);
        let mut request: Request = serde_json::from_value(request).ok()?;
        request.exponent = self.exponent(request.amount.currency);
        let mut asked = self.ask(fixture.place().to_string(), op, request);
        let first = fixture.turns().ok()?.into_iter().next();
        if let Some(Turn::Event(
            _,
            event @ (Event::Notification { .. } | Event::Piece { .. }),
            body,
        )) = first
        {
            asked.envelope.event = event;
            asked.body = body;
        }
        Some(asked)
    }

    /// An operation about to begin.
    pub fn ask(&self, at: String, op: Operation, request: Request) -> Asked {
        let envelope = Envelope {
            op,
            now_ms: NOW_MS,
            made_ms: NOW_MS,
            entropy: ENTROPY.into(),
            request,
            event: Event::Start,
        };
        Asked { at, envelope, body: Vec::new() }
    }

    /// The request of an operation that no fixture changes.
    pub fn request(&self, op: Operation) -> Request {
        let currency = self.currency();
        let amount = Money::new(4_900, currency);
        let later = matches!(
            op,
            Operation::Continue
                | Operation::Capture
                | Operation::Void
                | Operation::Refund
                | Operation::Inquire
                | Operation::InquireOperation
                | Operation::Close
        );
        let mut request = Request {
            op_id: OP_ID.into(),
            amount,
            exponent: self.exponent(currency),
            capture: CaptureMode::Automatic,
            method: String::new(),
            flow: String::new(),
            credential: None,
            description: Some("Order 7781".into()),
            return_url: Some("https://shop.example/back".into()),
            notify_url: Some("https://pay.shop.example/v1/notifications/kit".into()),
            customer: Customer {
                id: Some("kit-shopper".into()),
                country: self.manifest.countries.first().cloned(),
                ip: Some(std::net::Ipv4Addr::new(203, 0, 113, 7).into()),
            },
            original: None,
            target: None,
            reason: None,
            details: None,
            wanted: None,
            period: None,
            session: None,
        };
        let settings = &self.account.config;
        if let Some(method) = self.manifest.methods.iter().find(|m| m.taken_by(settings)) {
            self.pay_by(&mut request, method);
            request.capture = method.capture.first().copied().unwrap_or(CaptureMode::Automatic);
        }
        if matches!(op, Operation::Inquire | Operation::Close) {
            request.op_id = PAYMENT_ID.into();
        }
        if !matches!(op, Operation::Authorize | Operation::ParseNotification | Operation::Probe) {
            request.credential = None;
        }
        if op == Operation::OpenToken {
            request.credential = self.credential(CredentialForm::EncryptedWalletToken);
        }
        if op == Operation::StartSession {
            request.session = Some(SessionRequest {
                domain: "shop.example".into(),
                display_name: Some("Kit Shop".into()),
                validation_url: None,
            });
        }
        if later {
            let provider_ref = Some("kit_payment_0001".into());
            request.original = Some(Original { op_id: PAYMENT_ID.into(), provider_ref, amount });
        }
        if op == Operation::InquireOperation {
            request.target = Some((Operation::Refund, None));
        }
        if op == Operation::FetchKeys {
            let ring = self.manifest.keyrings.keys().next().cloned().unwrap_or_default();
            request.wanted = Some(WantedKeys { ring, id: Some("KIT-KEY-1".into()) });
        }
        if matches!(op, Operation::DownloadStatement | Operation::ReadStatement) {
            request.period = Some(Period { date: "2025-11-24".into() });
        }
        if op == Operation::Continue {
            request.details = Some(interlock_plugin_api::Details(serde_json::json!({})));
        }
        request
    }

    /// Pays by a method of the manifest.
    fn pay_by(&self, request: &mut Request, method: &MethodSupport) {
        request.method.clone_from(&method.kind);
        request.flow.clone_from(&method.flow);
        request.credential = self.credential(method.credential);
    }

    /// The account's credential of a form, or the kit's own.
    fn credential(&self, form: CredentialForm) -> Option<Credential> {
        let form_word = word(&form);
        let Some(given) = self.account.credentials.get(&form_word) else { return made(form) };
        let mut given = given.clone();
        given.insert("form".into(), form_word.into());
        serde_json::from_value(Value::Object(given)).ok()
    }

    /// The provider's exponent of a currency.
    pub fn exponent(&self, currency: Currency) -> u8 {
        self.manifest.currencies.get(&currency).copied().unwrap_or(2)
    }

    /// A currency that the provider takes, with two decimals and without a rule if there is one.
    fn currency(&self) -> Currency {
        let all = &self.manifest.currencies;
        let plain = all.iter().find(|(c, e)| **e == 2 && !self.manifest.multiples.contains_key(c));
        let found = plain.or_else(|| all.iter().next()).map(|(currency, _)| *currency);
        found.unwrap_or_else(|| Currency::parse("EUR").expect("three letters"))
    }
}

/// The kit's own credential of a form.
fn made(form: CredentialForm) -> Option<Credential> {
    Some(match form {
        CredentialForm::None => return None,
        CredentialForm::AuthCode => Credential::AuthCode { auth_code: AUTH_CODE.into() },
        CredentialForm::OpenId => Credential::OpenId { openid: TOKEN.into() },
        CredentialForm::NetworkToken => Credential::NetworkToken {
            number: NUMBER.into(),
            expiry_month: 7,
            expiry_year: 2031,
            cryptogram: Some(CRYPTOGRAM.into()),
            eci: Some("05".into()),
            source: "apple_pay".into(),
        },
        CredentialForm::Card => Credential::Card {
            number: NUMBER.into(),
            expiry_month: 7,
            expiry_year: 2031,
            source: "google_pay".into(),
        },
        CredentialForm::EncryptedWalletToken => Credential::EncryptedWalletToken {
            wallet: "apple_pay".into(),
            token: serde_json::json!({ "data": TOKEN }),
        },
        CredentialForm::AccountToken => Credential::AccountToken { token: TOKEN.into() },
    })
}

fn named(method: &MethodSupport) -> String {
    format!("{} {} by {}", method.kind, method.flow, word(&method.credential))
}

/// What must not turn up anywhere: the texts of a credential.
pub fn canaries(credential: Option<&Credential>) -> Vec<String> {
    const SHORTEST: usize = 8;
    const PLAIN: [&str; 4] = ["form", "source", "wallet", "eci"];
    fn collect(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::String(text) if text.len() >= SHORTEST => into.push(text.clone()),
            Value::Object(fields) => {
                for (name, value) in fields {
                    if !PLAIN.contains(&name.as_str()) {
                        collect(value, into);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&serde_json::to_value(credential).unwrap_or_default(), &mut found);
    found
}

/// A closed word of the contract, as JSON writes it.
pub fn word(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_value(value).unwrap_or_default();
    text.as_str().unwrap_or("-").to_owned()
}

/// Merges a JSON patch (RFC 7396).
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        into.clone_from(patch);
        return;
    };
    if !into.is_object() {
        *into = Value::Object(serde_json::Map::new());
    }
    let fields = into.as_object_mut().expect("made as one");
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wallet_is_asked_for_a_session_and_given_a_token() {
        let manifest = br#"{
            "schema": 1, "id": "w", "version": "0.1.0", "name": "W", "kind": "wallet",
            "methods": [], "currencies": {}, "operations": ["start_session", "open_token"],
            "hosts": { "api": "https://w.example" }, "contract": { "sends": [] }
        }"#;
        let manifest = Manifest::parse(manifest).unwrap();
        let asks = Asking { manifest, account: Account::default() };
        let asked = asks.asked(&[]);
        let operations: Vec<Operation> = asked.iter().map(|asked| asked.envelope.op).collect();
        assert_eq!(operations, [Operation::StartSession, Operation::OpenToken]);
        let (session, token) = (&asked[0].envelope.request, &asked[1].envelope.request);
        assert_eq!(session.session.as_ref().unwrap().domain, "shop.example");
        assert!(session.credential.is_none() && token.session.is_none());
        let form = token.credential.as_ref().map(Credential::form);
        assert_eq!(form, Some(CredentialForm::EncryptedWalletToken));
    }
}
