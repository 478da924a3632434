//! Policies, clocks, numbers and health that a test can set.

use std::collections::BTreeMap;

use interlock_engine::{
    AccountPolicy, Call, Candidate, CurrencyRule, Draft, ExchangeKind, Failover, Health, Ladder,
    MerchantPolicy, Method, Mint, Policy, RouteMatch, RoutePolicy, Skip, Stamp, Strategy,
    Submission,
};
use interlock_plugin_api::{
    Acts, CaptureMode, Close, Concurrency, Contract, CredentialForm, Currency, Customer, Effect,
    IdempotencyClass, Inquiry, MethodSupport, Money, MoveRule, NotFound, OfferExpiry, Operation,
};

pub const MINUTE: u64 = 60_000;
pub const HOUR: u64 = 60 * MINUTE;
/// W of every account on the table.
pub const W: u64 = 20 * MINUTE;
/// How long one exchange may take.
pub const TIMEOUT: u64 = 10_000;
pub const AMOUNT: i64 = 4_900;

pub fn cny() -> Currency {
    Currency::parse("CNY").unwrap()
}

/// Money, as the providers here write it: with ISO's exponent.
pub fn money(amount: i64) -> Money {
    Money::new(amount, cny())
}

/// What a provider promises about its keys.
pub fn moves(class: IdempotencyClass, concurrency: Concurrency) -> BTreeMap<String, MoveRule> {
    let rule = MoveRule { class, concurrency, key_life_ms: 24 * HOUR, ..MoveRule::default() };
    ["pay", "continue", "capture", "void", "refund"]
        .into_iter()
        .map(|p| (p.to_owned(), rule.clone()))
        .collect()
}

pub fn asked(not_found: NotFound) -> Inquiry {
    Inquiry { by_our_reference: true, by_provider_reference: true, not_found }
}

pub fn bare() -> Contract {
    Contract {
        sends: Vec::new(),
        moves: BTreeMap::new(),
        inquiry: Inquiry::default(),
        operation_inquiry: Inquiry::default(),
        close: BTreeMap::new(),
        offer_expiry: None,
        offer_expiry_flows: Vec::new(),
        returning: Vec::new(),
        approving: Vec::new(),
        by_shopper: Vec::new(),
        late_window_ms: W,
        proof_codes: vec!["proof.*".into()],
    }
}

/// A wallet's terminal payment: strong keys, side by side undeclared, a close that may refund.
pub fn barcode() -> Contract {
    let close = Close { may_refund: true, repeatable: true, ..Close::default() };
    Contract {
        moves: moves(IdempotencyClass::Strong, Concurrency::Undeclared),
        inquiry: asked(NotFound::AfterFence),
        operation_inquiry: asked(NotFound::AfterFence),
        close: BTreeMap::from([("*".to_owned(), close)]),
        ..bare()
    }
}

/// A wallet's code on the screen: an offer, a close that does not refund, the provider's expiry.
pub fn code() -> Contract {
    let close = Close { repeatable: true, ..Close::default() };
    Contract {
        close: BTreeMap::from([("*".to_owned(), close)]),
        offer_expiry: Some(OfferExpiry { after_ms: 2 * HOUR, margin_ms: 10 * MINUTE }),
        ..barcode()
    }
}

/// A card processor: only a success is remembered, copies are serialised, no close.
pub fn card(not_found: NotFound) -> Contract {
    Contract {
        moves: moves(IdempotencyClass::SuccessOnly, Concurrency::Excluded),
        inquiry: asked(not_found),
        operation_inquiry: asked(not_found),
        ..bare()
    }
}

/// The same, where nothing is ever accepted asynchronously: it may be re-sent.
pub fn prompt_card() -> Contract {
    let mut contract = card(NotFound::AfterFence);
    contract.moves.values_mut().for_each(|rule| rule.never_asynchronous = true);
    contract
}

pub fn account(name: &str, contract: Contract) -> AccountPolicy {
    let both = vec![CaptureMode::Automatic, CaptureMode::Manual];
    let takes = |kind: &str, flow: &str, credential| MethodSupport {
        kind: kind.into(),
        flow: flow.into(),
        credential,
        capture: both.clone(),
        acts: Acts::Never,
        needs: None,
    };
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
            takes("card", "token", CredentialForm::NetworkToken),
            takes("card", "token", CredentialForm::AccountToken),
        ],
        operations: vec![
            Operation::Authorize,
            Operation::Capture,
            Operation::Void,
            Operation::Refund,
            Operation::Inquire,
            Operation::InquireOperation,
            Operation::Close,
        ],
        currencies: BTreeMap::from([(
            cny(),
            CurrencyRule { iso_exponent: 2, provider_exponent: 2, multiple_of: 1 },
        )]),
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
            deadline_ms: 4 * HOUR,
            attempts_max: 3,
        }],
        accounts: accounts.into_iter().map(|a| (a.name.clone(), a)).collect(),
        merchants: BTreeMap::from([("shop".to_owned(), MerchantPolicy::default())]),
        ladder: Ladder::default(),
    }
}

pub fn method(kind: &str, flow: &str, form: CredentialForm) -> Method {
    Method { kind: kind.into(), flow: flow.into(), form, token_accounts: Vec::new() }
}

pub fn barcode_method() -> Method {
    method("wallet", "barcode", CredentialForm::AuthCode)
}

pub fn qr_method() -> Method {
    method("wallet", "qr", CredentialForm::None)
}

/// A stored token that these accounts hold.
pub fn token_method(accounts: &[&str]) -> Method {
    let token_accounts = accounts.iter().map(|a| (*a).to_owned()).collect();
    Method { token_accounts, ..method("card", "token", CredentialForm::AccountToken) }
}

pub fn submission(method: Method) -> Submission {
    Submission {
        merchant: "shop".into(),
        key: "k1".into(),
        money: money(AMOUNT),
        capture: CaptureMode::Automatic,
        method,
        accept: Vec::new(),
        merchant_ref: Some("order-1".into()),
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
        ExchangeKind::Authorize => ("pay", Effect::Move),
        kind => (kind.as_str(), Effect::Move),
    };
    let again = call.again.as_ref();
    Draft {
        purpose: purpose.into(),
        effect,
        continuation: String::new(),
        digest: format!("{}/{}", call.op_id, call.kind.as_str()),
        made_ms: again.map_or(0, |a| a.made_ms),
        entropy: again.map_or_else(|| "e".into(), |a| a.entropy.clone()),
        said: None,
    }
}

/// Numbers by a hash of their parts (FNV-1a, two rounds).
pub struct Numbers;

impl Mint for Numbers {
    fn mint(&self, parts: &[&str]) -> String {
        const PRIME: u128 = 0x0100_0000_0000_0000_0000_013b;
        let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        for part in parts {
            for byte in part.bytes().chain([0xff]) {
                hash = (hash ^ u128::from(byte)).wrapping_mul(PRIME);
            }
        }
        const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        (0..26).map(|n| char::from(DIGITS[((hash >> (n * 4 + 3)) & 31) as usize])).collect()
    }
}

/// Health that a test sets.
#[derive(Default)]
pub struct Board {
    pub skips: BTreeMap<String, Skip>,
    /// Per mille of an account's calls that fail.
    pub failing: BTreeMap<String, u32>,
    pub doubts: BTreeMap<String, Skip>,
    pub no_budget: bool,
    pub no_refunds: bool,
}

impl Health for Board {
    fn admits(&self, account: &str, _: &str, _: Stamp) -> Result<(), Skip> {
        self.skips.get(account).map_or(Ok(()), |skip| Err(*skip))
    }

    fn failing_permille(&self, account: &str, _: &str, _: Stamp) -> u32 {
        self.failing.get(account).copied().unwrap_or(0)
    }

    fn demotes(&self, account: &str, _: &str, _: f64, _: Stamp) -> Option<Skip> {
        self.doubts.get(account).copied()
    }

    fn failover_budget(&self, _: &str, _: Stamp) -> bool {
        !self.no_budget
    }

    fn refund_cap(&self, _: &str, _: i64, _: Stamp) -> bool {
        !self.no_refunds
    }
}
