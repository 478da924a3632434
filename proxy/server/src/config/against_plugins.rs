//! Checks a configuration against the manifests of its plugins, still without sending a byte.
//!
//! What only the plugin knows is checked here: the names of its settings and secrets, whether an
//! unknown outcome has a way out, and whether a route can reach anybody. The two safety rules are
//! SAFETY.md 2.5 G6 (what a shopper can still pay must be able to end) and G7 (without a way out of
//! unknown there is no failover).

use std::collections::{BTreeMap, BTreeSet};

use interlock_plugin_api::{
    Acts, Contract, ContractError, CredentialForm, FieldSchema, Kind, Manifest, MethodSupport,
    Operation, SecretKind,
};

use super::account::{SHORTEST_LATE_WINDOW_MS, is_loopback, short_late_window};
use super::diagnostic::{Diagnostic, nearest};
use super::words::format_duration;
use super::{Account, Config, Failover, Isolation, Route, Secret};
use crate::wallets;

/// The plugin's contract with everything that the account's operator promises beyond it.
///
/// # Errors
/// A promise that contradicts the plugin; [`check_account`] reports it with its place.
pub fn strengthened(account: &Account, manifest: &Manifest) -> Result<Contract, ContractError> {
    let mut contract = manifest.contract.clone();
    contract.strengthen(&account.contract)?;
    if let Some(late_window_ms) = account.late_window_ms {
        contract.late_window_ms = late_window_ms;
    }
    Ok(contract)
}

/// Everything that is wrong with one account in the eyes of its plugin.
pub fn check_account(account: &Account, manifest: &Manifest) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    check_settings(account, manifest, &mut found);
    check_secrets(account, manifest, &mut found);
    check_endpoints(account, manifest, &mut found);
    if manifest.kind == Kind::Wallet && account.isolation == Some(Isolation::InProcess) {
        let text = format!("account `{}` opens wallets inside the proxy", account.name);
        let finding = Diagnostic::error("C059", text)
            .help("remove `isolation`")
            .note("card data is opened in a process of its own, always");
        found.push(account.origin.point(finding, "isolation"));
    }
    match strengthened(account, manifest) {
        Ok(contract) => check_ways_out(account, manifest, &contract, &mut found),
        Err(why) => {
            let (key, text) = match why {
                ContractError::NoReason(key) => (key, format!("`{key}` has no reason")),
                ContractError::Weaker(key) => (key, why.to_string()),
                ContractError::NoClose => ("tombstone", why.to_string()),
            };
            let text = format!("account `{}` cannot strengthen its contract: {text}", account.name);
            let finding = Diagnostic::error("C057", text).help(format!("remove `contract.{key}`"));
            found.push(account.origin.point(finding, &format!("contract.{key}")));
        }
    }
    found.sort_by_key(|d| (d.line, d.column, d.code));
    found
}

/// Everything that is wrong with the routes in the eyes of the plugins, by account. Accounts
/// without a manifest (their plugin did not load) are passed over.
pub fn check_routes(config: &Config, manifests: &BTreeMap<String, Manifest>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for route in &config.routes {
        let known: Vec<(&Account, &Manifest)> = route
            .candidates
            .iter()
            .filter_map(|c| Some((config.accounts.get(&c.to)?, manifests.get(&c.to)?)))
            .collect();
        for (account, manifest) in &known {
            check_candidate(route, account, manifest, &mut found);
        }
        if known.len() == route.candidates.len() {
            check_coverage(route, &known, &mut found);
        }
        if manifests.len() == config.accounts.len() {
            check_openers(route, &known, manifests, &mut found);
        }
    }
    found.sort_by_key(|d| (d.line, d.column, d.code));
    found
}

fn check_settings(account: &Account, manifest: &Manifest, found: &mut Vec<Diagnostic>) {
    for (name, value) in &account.config {
        let key = format!("config.{name}");
        match manifest.config.get(name) {
            None => found.push(unknown(account, manifest, "setting", &key, manifest.config.keys())),
            Some(schema) if !has_kind(value, schema) => {
                let text = format!(
                    "setting `{name}` of account `{}` must be {}",
                    account.name,
                    article(&schema.kind)
                );
                let finding = Diagnostic::error("C053", text).note(schema.help.clone());
                found.push(account.origin.point(finding, &key));
            }
            Some(_) => {}
        }
    }
    for (name, schema) in &manifest.config {
        if schema.required && !account.config.contains_key(name) {
            let text = format!("account `{}` lacks the setting `{name}`", account.name);
            let help = format!("write `config = {{ {name} = ... }}`");
            let finding = Diagnostic::error("C052", text).help(help).note(schema.help.clone());
            found.push(account.origin.point(finding, "config"));
        }
    }
}

fn has_kind(value: &serde_json::Value, schema: &FieldSchema) -> bool {
    match schema.kind.as_str() {
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => value.is_string(),
    }
}

fn article(kind: &str) -> &'static str {
    match kind {
        "boolean" => "`true` or `false`",
        "integer" => "a whole number",
        _ => "a text",
    }
}

fn check_secrets(account: &Account, manifest: &Manifest, found: &mut Vec<Diagnostic>) {
    for (name, secret) in &account.secrets {
        let key = format!("secrets.{name}");
        let Some(kind) = manifest.secrets.get(name) else {
            found.push(unknown(account, manifest, "secret", &key, manifest.secrets.keys()));
            continue;
        };
        if let Some(expected) = wrong_shape(*kind, secret) {
            let text = format!("secret `{name}` of account `{}` is not {expected}", account.name);
            found.push(account.origin.point(Diagnostic::error("C062", text), &key));
        }
    }
    for name in manifest.secrets.keys().filter(|name| !manifest.optional_secrets.contains(name)) {
        if !account.secrets.contains_key(name) {
            let text = format!("account `{}` lacks the secret `{name}`", account.name);
            let help = format!("write `secrets = {{ {name} = \"${{file:PATH}}\" }}`");
            let finding = Diagnostic::error("C055", text).help(help);
            found.push(account.origin.point(finding, "secrets"));
        }
    }
}

/// What the secret should have been, when its form shows that it is not.
fn wrong_shape(kind: SecretKind, secret: &Secret) -> Option<&'static str> {
    let pem = |labels: &[&str]| {
        let text = secret.expose().trim_start();
        labels.iter().any(|label| text.starts_with(&format!("-----BEGIN {label}-----")))
    };
    match kind {
        SecretKind::Header => {
            let one_line = secret.expose().bytes().all(|b| b.is_ascii_graphic() || b == b' ');
            (!one_line).then_some("fit for a header: one line of visible ASCII characters")
        }
        SecretKind::Mac => None,
        SecretKind::MacHex => {
            let digits = secret.expose();
            let whole =
                digits.len().is_multiple_of(2) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            (!whole).then_some("a key in hexadecimal")
        }
        SecretKind::EcKeyAgreement => (!pem(&["PRIVATE KEY", "EC PRIVATE KEY"]))
            .then_some("a PEM private key: `-----BEGIN PRIVATE KEY-----`"),
        SecretKind::RsaPrivate | SecretKind::RsaKeyTransport => {
            (!pem(&["PRIVATE KEY", "RSA PRIVATE KEY"]))
                .then_some("a PEM private key: `-----BEGIN PRIVATE KEY-----`")
        }
        SecretKind::RsaPublic => (!pem(&["PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"]))
            .then_some("a PEM public key: `-----BEGIN PUBLIC KEY-----`"),
        SecretKind::Aead => (secret.expose().len() != 32).then_some("a key of 32 characters"),
    }
}

fn check_endpoints(account: &Account, manifest: &Manifest, found: &mut Vec<Diagnostic>) {
    for name in account.endpoints.keys() {
        if !manifest.hosts.contains_key(name) {
            let key = format!("endpoints.{name}");
            found.push(unknown(account, manifest, "endpoint", &key, manifest.hosts.keys()));
        }
    }
    let Some(late_window_ms) = account.late_window_ms else { return };
    // An endpoint that the account does not replace is the provider's production address.
    let mut addresses =
        manifest.hosts.iter().map(|(name, url)| account.endpoints.get(name).unwrap_or(url));
    if late_window_ms < SHORTEST_LATE_WINDOW_MS && !addresses.all(|url| is_loopback(url)) {
        found.push(account.origin.point(short_late_window(&account.name), "late_window"));
    } else if late_window_ms < manifest.contract.late_window_ms {
        let theirs = format_duration(manifest.contract.late_window_ms);
        let ours = format_duration(late_window_ms);
        let text =
            format!("account `{}` shortens the late window from {theirs} to {ours}", account.name);
        let finding = Diagnostic::warning("C063", text)
            .note("you promise that no request arrives later than this after it was sent");
        found.push(account.origin.point(finding, "late_window"));
    }
}

fn check_ways_out(
    account: &Account,
    manifest: &Manifest,
    contract: &Contract,
    found: &mut Vec<Diagnostic>,
) {
    let confirmable = contract.inquiry.possible() || manifest.offers(Operation::ParseNotification);
    for flow in flows(taken(account, manifest)) {
        let shown = taken(account, manifest).any(|m| m.flow == flow && acts(account, m));
        if shown && !contract.ends(flow, confirmable) {
            let text = format!(
                "account `{}`: what flow `{flow}` shows to a shopper can never end",
                account.name
            );
            let finding = Diagnostic::error("C058", text)
                .help(
                    "use a plugin that declares a close or an expiry for it, or declare \
                     `contract.offer_expiry` with the reason",
                )
                .note("an offer that cannot end can be paid after another one was paid");
            found.push(account.origin.point(finding, "plugin"));
        }
        if manifest.kind == Kind::Processor && !contract.can_resolve(flow) {
            let text = format!(
                "account `{}`: an unknown outcome of flow `{flow}` waits for an operator",
                account.name
            );
            let finding = Diagnostic::warning("C061", text)
                .note("the plugin declares no strong key, no inquiry and no close for it");
            found.push(account.origin.point(finding, "plugin"));
        }
    }
}

fn flows<'a>(methods: impl Iterator<Item = &'a MethodSupport>) -> BTreeSet<&'a str> {
    methods.map(|m| m.flow.as_str()).collect()
}

/// The methods of a plugin that an account takes, by its settings.
pub fn taken<'a>(
    account: &'a Account,
    manifest: &'a Manifest,
) -> impl Iterator<Item = &'a MethodSupport> {
    manifest.methods.iter().filter(|method| method.taken_by(&account.config))
}

/// The ways in which an account is paid by wallets whose tokens are opened here: as a card.
pub fn taken_opened<'a>(
    account: &'a Account,
    manifest: &'a Manifest,
    wallets: &'a BTreeSet<String>,
) -> impl Iterator<Item = MethodSupport> {
    taken(account, manifest).flat_map(move |method| {
        let opened = wallets.iter().filter(|wallet| as_opened(wallet, method));
        opened.map(|wallet| MethodSupport { kind: wallet.clone(), ..method.clone() })
    })
}

fn acts(account: &Account, method: &MethodSupport) -> bool {
    match &method.acts {
        Acts::Always => true,
        Acts::Never => false,
        Acts::If(flag) => {
            account.config.get(flag).and_then(serde_json::Value::as_bool) == Some(true)
        }
    }
}

fn check_candidate(
    route: &Route,
    account: &Account,
    manifest: &Manifest,
    found: &mut Vec<Diagnostic>,
) {
    let key = format!("candidates.{}", account.name);
    let never = |why: String| {
        let text = format!("route `{}` can never use account `{}`", route.name, account.name);
        let finding = Diagnostic::error("C064", text).label(why);
        route.origin.point(finding.help("remove the candidate, or widen `match`"), &key)
    };
    if manifest.kind == Kind::Wallet {
        found.push(never(format!("plugin `{}` opens wallets and takes no money", manifest.id)));
        return;
    }
    let matches = &route.matches;
    let takes_a_method = taken(account, manifest).any(|m| route_takes(route, m));
    if !takes_a_method {
        let off = unset(route, account, manifest).map(|flag| format!(" without `{flag} = true`"));
        let off = off.unwrap_or_default();
        found.push(never(format!("it takes none of the methods{off}: {}", wanted(route))));
    }
    let currencies = matches.currency.iter();
    if !matches.currency.is_empty()
        && !currencies.clone().any(|c| manifest.currencies.contains_key(c))
    {
        let list: Vec<&str> = currencies.map(|c| c.as_str()).collect();
        found.push(never(format!("it takes none of the currencies: {}", list.join(", "))));
    }
    let somewhere = |c: &String| manifest.countries.contains(c);
    if !matches.country.is_empty()
        && !manifest.countries.is_empty()
        && !matches.country.iter().any(somewhere)
    {
        let list = matches.country.join(", ");
        found.push(never(format!("it takes customers of none of the countries: {list}")));
    }
    if route.failover != Failover::None && route.candidates.len() > 1 {
        check_failover(route, account, manifest, found);
    }
}

fn check_failover(
    route: &Route,
    account: &Account,
    manifest: &Manifest,
    found: &mut Vec<Diagnostic>,
) {
    let Ok(contract) = strengthened(account, manifest) else { return };
    let routed = flows(taken(account, manifest).filter(|m| route_takes(route, m)));
    if let Some(flow) = routed.into_iter().find(|flow| !contract.can_resolve(flow)) {
        let text = format!(
            "route `{}` cannot fail over from account `{}`: flow `{flow}` has no way out of an \
             unknown outcome",
            route.name, account.name
        );
        let finding = Diagnostic::error("C060", text)
            .help("write `failover = \"none\"` for this route, or remove the candidate")
            .note("the plugin declares no strong key, no inquiry and no close for it");
        found.push(route.origin.point(finding, &format!("candidates.{}", account.name)));
    }
}

/// What a route takes only once it is opened, and nobody opens.
fn check_openers(
    route: &Route,
    known: &[(&Account, &Manifest)],
    manifests: &BTreeMap<String, Manifest>,
    found: &mut Vec<Diagnostic>,
) {
    let opened = wallets::opened_here(manifests.values());
    for word in &route.matches.method {
        let own = |m: &MethodSupport| m.kind == *word;
        let methods: Vec<&MethodSupport> =
            known.iter().flat_map(|(account, manifest)| taken(account, manifest)).collect();
        let as_card = methods.iter().any(|m| as_opened(word, m));
        if as_card && !methods.iter().any(|m| own(m)) && !opened.contains(word) {
            let text =
                format!("route `{}` takes `{word}`, and no account opens its tokens", route.name);
            let finding = Diagnostic::warning("C067", text)
                .help("add an account of a plugin that opens them")
                .note("its candidates take what is inside, as a card");
            found.push(route.origin.point(finding, "match.method"));
        }
    }
}

/// What a route takes and none of its accounts can.
fn check_coverage(route: &Route, known: &[(&Account, &Manifest)], found: &mut Vec<Diagnostic>) {
    let mut nobody = |key: &str, what: String| {
        let text = format!("route `{}` takes {what}, and none of its candidates does", route.name);
        let finding = Diagnostic::warning("C065", text)
            .help("add a candidate that does, or leave it to another route");
        found.push(route.origin.point(finding, key));
    };
    for currency in &route.matches.currency {
        if !known.iter().any(|(_, m)| m.currencies.contains_key(currency)) {
            nobody("match.currency", format!("currency {currency}"));
        }
    }
    for word in &route.matches.method {
        let takes = |m: &MethodSupport| serves(word, m);
        if !known.iter().any(|(account, manifest)| taken(account, manifest).any(takes)) {
            nobody("match.method", format!("method `{word}`"));
        }
    }
    for flow in &route.matches.flow {
        let takes = |m: &MethodSupport| m.flow == *flow;
        if !known.iter().any(|(account, manifest)| taken(account, manifest).any(takes)) {
            nobody("match.flow", format!("flow `{flow}`"));
        }
    }
    for country in &route.matches.country {
        let takes = |m: &Manifest| m.countries.is_empty() || m.countries.contains(country);
        if !known.iter().any(|(_, manifest)| takes(manifest)) {
            nobody("match.country", format!("country {country}"));
        }
    }
}

fn route_takes(route: &Route, method: &MethodSupport) -> bool {
    let matches = &route.matches;
    let by_method = matches.method.is_empty() || matches.method.iter().any(|w| serves(w, method));
    by_method && (matches.flow.is_empty() || matches.flow.contains(&method.flow))
}

/// The setting that an account lacks to take one of a route's methods.
fn unset<'a>(route: &Route, account: &Account, manifest: &'a Manifest) -> Option<&'a str> {
    let off = |m: &&MethodSupport| route_takes(route, m) && !m.taken_by(&account.config);
    manifest.methods.iter().find(off).and_then(|method| method.needs.as_deref())
}

/// A wallet's token that is opened here goes on as a card's network token; Google's may also hold
/// a card's own number.
fn serves(word: &str, method: &MethodSupport) -> bool {
    word == "any" || word == method.kind || as_opened(word, method)
}

fn as_opened(wallet: &str, method: &MethodSupport) -> bool {
    let opened = match method.credential {
        CredentialForm::NetworkToken => matches!(wallet, "apple_pay" | "google_pay"),
        CredentialForm::Card => wallet == "google_pay",
        _ => false,
    };
    opened && method.kind == "card"
}

fn wanted(route: &Route) -> String {
    let words = route.matches.method.iter().chain(&route.matches.flow);
    words.map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn unknown<'a>(
    account: &Account,
    manifest: &Manifest,
    what: &str,
    key: &str,
    known: impl Iterator<Item = &'a String>,
) -> Diagnostic {
    let code = match what {
        "setting" => "C051",
        "secret" => "C054",
        _ => "C056",
    };
    let name = key.split_once('.').map_or(key, |(_, name)| name);
    let text = format!("plugin `{}` knows no {what} `{name}`", manifest.id);
    let known: Vec<&str> = known.map(String::as_str).collect();
    let help = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("it has no {what}s"),
        None => format!("it knows: {}", known.join(", ")),
    };
    account.origin.point(Diagnostic::error(code, text).help(help), key)
}
