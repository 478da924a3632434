//! What each room costs alone, without sockets or disk: `cargo bench -p interlock-bench`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;

use divan::Bencher;
use interlock_circuit_breaker::{Breaker, Settings, Verdict};
use interlock_engine::gates::{FailoverBudget, GateSettings, Gates, Group, Rate};
use interlock_engine::{
    AccountPolicy, Candidate, CurrencyRule, Draft, Failover, Hand, Input, Ladder, MerchantPolicy,
    Method, Mint, Outcome, Policy, Prepared, RouteMatch, RoutePolicy, Stamp, Strategy, Submission,
    World, decide, route,
};
use interlock_plugin_api::testkit::{Drive, TestHost, request};
use interlock_plugin_api::{
    Acts, CaptureMode, Contract, Credential, CredentialForm, Currency, Customer, Effect, Inquiry,
    MethodSupport, Money, Operation, Provider as _,
};
use ring::rand::SystemRandom;

const NOW: Stamp = Stamp { wall_ms: 1_764_000_000_000, boot: 1, mono_ms: 60_000 };
const ACCOUNTS: [&str; 3] = ["a", "b", "c"];

fn main() {
    divan::main();
}

fn eur() -> Currency {
    Currency::parse("EUR").expect("three letters")
}

fn account(name: &str) -> AccountPolicy {
    let contract = Contract {
        sends: Vec::new(),
        moves: BTreeMap::new(),
        inquiry: Inquiry::default(),
        operation_inquiry: Inquiry::default(),
        close: BTreeMap::new(),
        offer_expiry: None,
        offer_expiry_flows: Vec::new(),
        by_shopper: Vec::new(),
        returning: Vec::new(),
        approving: Vec::new(),
        late_window_ms: 1_200_000,
        proof_codes: Vec::new(),
    };
    AccountPolicy {
        name: name.into(),
        plugin: "p".into(),
        plugin_version: "1.0.0".into(),
        state_version: 1,
        continues: vec![1],
        identity: format!("{name}-1"),
        methods: vec![MethodSupport {
            kind: "card".into(),
            flow: "token".into(),
            credential: CredentialForm::AccountToken,
            capture: vec![CaptureMode::Automatic],
            acts: Acts::Never,
            needs: None,
        }],
        operations: vec![Operation::Authorize, Operation::Inquire],
        currencies: BTreeMap::from([(
            eur(),
            CurrencyRule { iso_exponent: 2, provider_exponent: 2, multiple_of: 1 },
        )]),
        countries: Vec::new(),
        contract,
        timeout_ms: 10_000,
        failure_domain: None,
    }
}

fn policy() -> Policy {
    let candidates = ACCOUNTS.map(|name| Candidate { account: name.into(), weight: 1 }).into();
    Policy {
        routes: vec![RoutePolicy {
            name: "all".into(),
            matches: RouteMatch::default(),
            candidates,
            strategy: Strategy::Priority,
            failover: Failover::NotSent,
            deadline_ms: 25_000,
            attempts_max: 3,
        }],
        accounts: ACCOUNTS.map(|name| (name.to_owned(), account(name))).into(),
        merchants: BTreeMap::from([("shop".to_owned(), MerchantPolicy::default())]),
        ladder: Ladder::default(),
    }
}

fn gates(limit: Option<Rate>) -> Gates {
    let settings = GateSettings {
        breaker: Settings::default(),
        limit,
        in_flight: 300,
        methods: vec!["card".into()],
        refunds_per_hour: 20,
        refunded_per_hour: None,
        failure_domain: None,
        hang_after_ms: 2_500,
        slow_start_ms: 30_000,
        adaptive_limit: true,
        conversion: None,
        probes: false,
    };
    let accounts = ACCOUNTS.map(|name| (name.to_owned(), settings.clone())).into();
    Gates::new(accounts, BTreeMap::new(), FailoverBudget::default()).expect("valid settings")
}

fn submission() -> Submission {
    Submission {
        merchant: "shop".into(),
        key: "k1".into(),
        money: Money::new(4_900, eur()),
        capture: CaptureMode::Automatic,
        method: Method {
            kind: "card".into(),
            flow: "token".into(),
            form: CredentialForm::AccountToken,
            token_accounts: ACCOUNTS.map(str::to_owned).into(),
        },
        accept: Vec::new(),
        merchant_ref: Some("order-1".into()),
        another: false,
        description: None,
        return_url: None,
        customer: Customer::default(),
        metadata: BTreeMap::new(),
    }
}

struct Numbers;

impl Mint for Numbers {
    fn mint(&self, parts: &[&str]) -> String {
        format!("{:026}", parts.iter().map(|p| p.len()).sum::<usize>())
    }
}

fn world<'a>(policy: &'a Policy, gates: &'a Gates) -> World<'a> {
    World {
        now: NOW,
        policy,
        health: gates,
        mint: &Numbers,
        draw: 0.5,
        sending: false,
        credential: true,
        details: false,
        order: None,
        stated: None,
    }
}

#[divan::bench]
fn breaker_permit_and_result(bencher: Bencher) {
    let breaker = Arc::new(Breaker::new(Settings::default()).expect("valid settings"));
    bencher.bench(|| {
        if let Ok(permit) = breaker.try_acquire(black_box(1_000)) {
            permit.record(1_000, Verdict::Success, 100);
        }
    });
}

#[divan::bench]
fn gates_reserve_and_settle(bencher: Bencher) {
    let gates = gates(None);
    bencher.bench(|| {
        if let Ok(place) = gates.reserve("a", "card", Group::Payments, black_box(NOW)) {
            place.settle(NOW, Verdict::Success, 100);
        }
    });
}

#[divan::bench]
fn gates_reserve_under_a_limit(bencher: Bencher) {
    let count = NonZeroU32::new(1_000_000).expect("not zero");
    let gates = gates(Some(Rate { count, per_ms: 1, burst: count }));
    bencher.bench(|| {
        if let Ok(place) = gates.reserve("a", "card", Group::Payments, black_box(NOW)) {
            place.settle(NOW, Verdict::Success, 100);
        }
    });
}

#[divan::bench]
fn route_three_candidates(bencher: Bencher) {
    let (policy, gates, submission) = (policy(), gates(None), submission());
    let world = world(&policy, &gates);
    let shape = route::Shape {
        merchant: &submission.merchant,
        money: submission.money,
        capture: submission.capture,
        method: &submission.method,
        customer: &submission.customer,
        metadata: &submission.metadata,
    };
    bencher.bench(|| {
        let route = route::route_of(&policy, black_box(&shape)).expect("it matches");
        route::choose(route, &shape, &[], &[], &world)
    });
}

#[divan::bench]
fn engine_decides_a_new_payment(bencher: Bencher) {
    let (policy, gates) = (policy(), gates(None));
    let world = world(&policy, &gates);
    let input = Input::Submitted(submission());
    bencher.bench(|| {
        let mut hand = Hand::default();
        loop {
            match decide(None, black_box(&input), &world, &hand) {
                Outcome::Need(call) => {
                    let draft = Draft {
                        purpose: "pay".into(),
                        effect: Effect::Move,
                        continuation: String::new(),
                        digest: "d".into(),
                        made_ms: 0,
                        entropy: "e".into(),
                        said: None,
                    };
                    hand.prepared.push(Prepared { call: *call, draft });
                }
                outcome => break outcome,
            }
        }
    });
}

#[divan::bench]
fn checkout_builds_a_payment(bencher: Bencher) {
    let plugin = checkout::Checkout::open(&serde_json::json!({})).expect("no settings");
    let host = TestHost::default();
    let mut payment = request(4_900, "EUR", 2);
    payment.method = "card".into();
    payment.flow = "token".into();
    payment.credential = Some(Credential::AccountToken { token: "src_bench".into() });
    bencher.bench(|| Drive::new(&plugin, &host, Operation::Authorize, payment.clone()).start());
}

/// The price of a provider that wants every request signed by RSA, 2048 bits.
#[divan::bench]
fn rsa_signature(bencher: Bencher) {
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2_048).expect("a key");
    let der = rsa::pkcs8::EncodePrivateKey::to_pkcs8_der(&key).expect("PKCS#8");
    let key = ring::signature::RsaKeyPair::from_pkcs8(der.as_bytes()).expect("a key");
    let rng = SystemRandom::new();
    let mut signature = vec![0; key.public().modulus_len()];
    bencher.bench_local(|| {
        key.sign(&ring::signature::RSA_PKCS1_SHA256, &rng, b"bytes", &mut signature)
    });
}
