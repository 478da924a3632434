//! Accounts, routes and methods of payment, and every promise that a provider may or may not make.

use std::collections::BTreeMap;

use interlock_engine::{
    AccountPolicy, Call, Candidate, CurrencyRule, Draft, Exchange, ExchangeKind, Failover, Health,
    Ladder, MerchantPolicy, Method, Mint, Payment, Policy, Reply, RouteMatch, RoutePolicy, Skip,
    Stamp, Strategy, Submission,
};
use interlock_plugin_api::{
    Acts, CaptureMode, Close, Concurrency, Contract, CredentialForm, Customer, Effect,
    IdempotencyClass, Inquiry, MethodSupport, MoveRule, NotFound, Operation,
};

use crate::provider::{cny, money, shown};

/// ms.
pub const SECOND: u64 = 1_000;
/// ms.
pub const MINUTE: u64 = 60 * SECOND;
/// ms.
pub const HOUR: u64 = 60 * MINUTE;
/// How long one exchange may take, ms.
pub const TIMEOUT: u64 = 10 * SECOND;
/// W: the longest life of a request on the wire, ms. Short, so that much happens within it.
pub const WINDOW: u64 = 90 * SECOND;
/// What every payment is about, minor units.
pub const AMOUNT: i64 = 4_900;
/// The merchant.
pub const SHOP: &str = "shop";

/// A provider that promises nothing at all.
pub fn nothing() -> Contract {
    Contract {
        sends: Vec::new(),
        moves: BTreeMap::new(),
        inquiry: Inquiry::default(),
        operation_inquiry: Inquiry::default(),
        close: BTreeMap::new(),
        offer_expiry: None,
        offer_expiry_flows: Vec::new(),
        returning: vec![CHALLENGE.into()],
        approving: Vec::new(),
        by_shopper: Vec::new(),
        late_window_ms: WINDOW,
        proof_codes: vec!["proof.*".into()],
    }
}

/// What a provider promises about its keys, the same for every kind of move.
pub fn moves(
    class: IdempotencyClass,
    concurrency: Concurrency,
    never_asynchronous: bool,
    key_life_ms: u64,
) -> BTreeMap<String, MoveRule> {
    let rule =
        MoveRule { class, concurrency, key_life_ms, never_asynchronous, ..MoveRule::default() };
    let purposes = ["pay", CONTINUE, "capture", "void", "refund"];
    purposes.into_iter().map(|p| (p.to_owned(), rule.clone())).collect()
}

/// It can be asked about by both numbers.
pub fn asked(not_found: NotFound) -> Inquiry {
    Inquiry { by_our_reference: true, by_provider_reference: true, not_found }
}

/// The same close for every flow.
pub fn closes(close: Close) -> BTreeMap<String, Close> {
    BTreeMap::from([("*".to_owned(), close)])
}

/// An account with this contract that takes every method.
pub fn account(name: &str, contract: Contract) -> AccountPolicy {
    let takes = |kind: &str, flow: &str, credential| MethodSupport {
        kind: kind.into(),
        flow: flow.into(),
        credential,
        capture: vec![CaptureMode::Automatic, CaptureMode::Manual],
        acts: Acts::Never,
        needs: None,
    };
    let rule = CurrencyRule { iso_exponent: 2, provider_exponent: 2, multiple_of: 1 };
    AccountPolicy {
        name: name.into(),
        plugin: name.into(),
        plugin_version: "1.0.0".into(),
        state_version: 1,
        continues: vec![1],
        identity: format!("{name}-1"),
        methods: vec![
            takes("wallet", "barcode", CredentialForm::AuthCode),
            takes("wallet", "qr", CredentialForm::None),
            takes("wallet", PAGE, CredentialForm::None),
            takes("card", "token", CredentialForm::AccountToken),
            takes("card", CHALLENGE, CredentialForm::AccountToken),
        ],
        operations: vec![
            Operation::Authorize,
            Operation::Continue,
            Operation::Capture,
            Operation::Void,
            Operation::Refund,
            Operation::Inquire,
            Operation::InquireOperation,
            Operation::Close,
        ],
        currencies: BTreeMap::from([(cny(), rule)]),
        countries: Vec::new(),
        contract,
        timeout_ms: TIMEOUT,
        failure_domain: None,
    }
}

/// One route over these accounts, in this order.
pub fn policy(accounts: Vec<AccountPolicy>) -> Policy {
    let candidates =
        accounts.iter().map(|a| Candidate { account: a.name.clone(), weight: 1 }).collect();
    Policy {
        routes: vec![RoutePolicy {
            name: "all".into(),
            matches: RouteMatch::default(),
            candidates,
            strategy: Strategy::Priority,
            failover: Failover::Proven,
            deadline_ms: 2 * HOUR,
            attempts_max: 3,
        }],
        merchants: BTreeMap::from([(SHOP.into(), MerchantPolicy::default())]),
        accounts: accounts.into_iter().map(|a| (a.name.clone(), a)).collect(),
        ladder: Ladder {
            steps_ms: [1, 4, 15, 45, 120, 300, 900, 1_800].map(|s| s * SECOND).into(),
            give_up_ms: 2 * HOUR,
            patience_ms: MINUTE,
            offer_steps_ms: [5, 60, 600].map(|s| s * SECOND).into(),
        },
    }
}

/// The code on the shopper's own screen.
pub fn barcode() -> Method {
    method("wallet", "barcode", CredentialForm::AuthCode)
}

/// A code that we show.
pub fn qr() -> Method {
    method("wallet", "qr", CredentialForm::None)
}

/// An offer that the shopper carries to the provider himself.
pub fn page() -> Method {
    method("wallet", PAGE, CredentialForm::None)
}

/// A stored card whose shopper must prove himself, and then comes back.
pub fn challenged(accounts: &[&str]) -> Method {
    Method { flow: CHALLENGE.into(), ..card(accounts) }
}

/// A stored card that these accounts know.
pub fn card(accounts: &[&str]) -> Method {
    let token_accounts = accounts.iter().map(|a| (*a).to_owned()).collect();
    Method { token_accounts, ..method("card", "token", CredentialForm::AccountToken) }
}

fn method(kind: &str, flow: &str, form: CredentialForm) -> Method {
    Method { kind: kind.into(), flow: flow.into(), form, token_accounts: Vec::new() }
}

/// The shop's request to be paid [`AMOUNT`] under this key.
pub fn submission(key: &str, method: Method, capture: CaptureMode) -> Submission {
    Submission {
        merchant: SHOP.into(),
        key: key.into(),
        money: money(AMOUNT),
        capture,
        method,
        accept: Vec::new(),
        merchant_ref: None,
        another: false,
        description: None,
        return_url: None,
        customer: Customer::default(),
        metadata: BTreeMap::new(),
    }
}

/// What a plugin would build for a call: the same for the same number, always.
pub fn draft(call: &Call) -> Draft {
    let (purpose, effect) = match call.kind {
        ExchangeKind::Authorize if call.flow == "qr" => ("offer", Effect::Offer),
        ExchangeKind::Authorize if call.flow == PAGE => ("shown", Effect::Offer),
        ExchangeKind::Authorize => ("pay", Effect::Move),
        kind => (kind.as_str(), Effect::Move),
    };
    let again = call.again.as_ref();
    Draft {
        purpose: purpose.into(),
        effect,
        continuation: String::new(),
        digest: call.op_id.clone(),
        made_ms: again.map_or(0, |a| a.made_ms),
        entropy: again.map_or_else(String::new, |a| a.entropy.clone()),
        said: (call.flow == PAGE && call.kind == ExchangeKind::Authorize).then(shown),
    }
}

/// The purpose of what tells the provider that the shopper is back.
pub const CONTINUE: &str = "continue";
/// The flow whose shopper must come back.
pub const CHALLENGE: &str = "challenge";
/// The flow whose offers the shopper carries to the provider.
pub const PAGE: &str = "page";

/// Only silence, or the provider's own leave, permits another send.
pub fn strict(mut contract: Contract) -> Contract {
    for rule in contract.moves.values_mut() {
        rule.resend_after_silence_only = true;
        rule.resend_codes = vec!["again.*".into()];
    }
    contract
}

/// A refusal of a payment is its end, whatever was shown for it.
pub fn final_refusals(mut contract: Contract) -> Contract {
    contract.moves.values_mut().for_each(|rule| rule.refusal_final = true);
    contract
}

/// The sends of this version that their last answer had not permitted: exchange and number.
pub fn unpermitted(before: &Payment, next: &Payment, policy: &Policy) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    for (was, is) in before.attempts.iter().zip(&next.attempts) {
        let contract = &policy.accounts[&is.account].contract;
        for x in &is.track.exchanges {
            let barred = |was: &Exchange| {
                let no = matches!(was.reply, Reply::Answered { may_follow: false, .. });
                let strict = contract.move_rule(&x.purpose).resend_after_silence_only;
                no && strict && x.sends > was.sends
            };
            if was.track.exchange(&x.id).is_some_and(barred) {
                found.push((x.id.clone(), x.sends));
            }
        }
    }
    found
}

/// What the first of two requests is for.
pub const CREATE: &str = "create";

/// The first request of a call where a plugin needs two: it moves nothing yet.
pub fn opening(built: Draft, effect: Effect) -> Draft {
    let digest = format!("{}/1", built.digest);
    Draft { purpose: CREATE.into(), digest, effect, ..built }
}

/// The same promises about the first of two requests as about a payment.
pub fn creating(contract: Contract) -> Contract {
    let mut moves = contract.moves;
    if let Some(rule) = moves.get("pay").cloned() {
        moves.insert(CREATE.into(), rule);
    }
    Contract { moves, ..contract }
}

/// Numbers by a hash of their parts (FNV-1a), short: uniqueness within one world is enough.
pub struct Numbers;

impl Mint for Numbers {
    fn mint(&self, parts: &[&str]) -> String {
        const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for part in parts {
            for byte in part.bytes().chain([0xff]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        hash ^= hash >> 29;
        (0..12).map(|n| char::from(DIGITS[((hash >> (n * 5)) & 31) as usize])).collect()
    }
}

/// Everybody is well.
#[derive(Clone, Copy, Default)]
pub struct AllWell;

impl Health for AllWell {
    fn admits(&self, _: &str, _: &str, _: Stamp) -> Result<(), Skip> {
        Ok(())
    }

    fn failover_budget(&self, _: &str, _: Stamp) -> bool {
        true
    }

    fn refund_cap(&self, _: &str, _: i64, _: Stamp) -> bool {
        true
    }
}
