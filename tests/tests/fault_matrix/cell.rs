//! One cell of the matrix: a payment brought to where a fault meets it, the fault, and the end.
//!
//! A round is one operation under one fault. All kinds of the round run side by side in one house,
//! because the fault stands for all of them: made without it, hurt by it, then healed.

use std::time::{Duration, Instant};

use interlock_tests::house::{Answer, House, Plan, fresh};
use serde_json::{Value, json};

use crate::kind::{self, Kind, REFUND};
use crate::record::Faults;

/// Nothing that ends by itself takes longer, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// What stands still is watched for so long: longer than timeout, late window and two looks.
const WATCH: Duration = Duration::from_millis(3_500);

/// What the fault hurts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Authorize,
    /// As `Authorize`, in a house whose accounts do not declare that "not found" may be believed.
    AuthorizeUndeclared,
    Capture,
    Refund,
    Void,
    Close,
    /// An authorization that was lost on its way, and the inquiries after it.
    InquireLost,
    /// An authorization whose answer was lost (for a QR: a payment whose notification was lost),
    /// and the inquiries after it.
    InquireCharged,
    /// What the provider tells by itself.
    Notify,
    /// What follows the shopper's approval.
    Continue,
}

use Operation::{
    Authorize, AuthorizeUndeclared, Capture, Close, Continue, InquireCharged, InquireLost, Notify,
    Refund, Void,
};

/// Every fault of a request.
pub const FAULTS: [&str; 12] = [
    "refuse",
    "reset_after_read",
    "hang",
    "slow",
    "error_before",
    "error_after",
    "charge_then_drop",
    "garbage",
    "bad_signature",
    "decline_soft",
    "decline_hard",
    // Last: the provider's wish for patience outlives its round.
    "rate_limited",
];
/// Every fault of a notification.
pub const NOTIFY_FAULTS: [&str; 6] =
    ["notify_lose", "notify_delay", "notify_duplicate", "notify_reorder", "bad_signature", "slow"];

impl Operation {
    /// The word in the table.
    pub fn word(self) -> &'static str {
        match self {
            Authorize => "authorize",
            AuthorizeUndeclared => "authorize-undeclared",
            Capture => "capture",
            Refund => "refund",
            Void => "void",
            Close => "close",
            InquireLost => "inquire-lost",
            InquireCharged => "inquire-charged",
            Notify => "notify",
            Continue => "continue",
        }
    }

    /// The word on the fault dial.
    fn dial(self) -> &'static str {
        match self {
            InquireLost | InquireCharged => "inquire",
            AuthorizeUndeclared => "authorize",
            other => other.word(),
        }
    }

    /// The house that it needs.
    pub fn plan(self) -> Plan {
        // One cell's 429 must not slow down the next.
        let account_lines = "adaptive_limit = false";
        Plan { not_found: self != AuthorizeUndeclared, account_lines, ..Plan::default() }
    }

    /// How long what stands still is watched.
    fn watch(self) -> Duration {
        // A void that is proven not made is made anew a few times; the fault lifts before the last.
        if self == Void { Duration::from_secs(2) } else { WATCH }
    }

    /// The kinds that know this operation.
    pub fn kinds(self) -> Vec<Kind> {
        match self {
            Authorize | Refund => {
                let cards = [&kind::ALL[..], &kind::ADYEN, &kind::STRIPE].concat();
                [&cards[..], &kind::WALLETS, &kind::APPROVED].concat()
            }
            AuthorizeUndeclared | InquireCharged => {
                [&kind::ALL[..], &kind::STRIPE, &kind::WALLETS].concat()
            }
            // An offer that was never shown is not asked about: the next one is shown at once.
            InquireLost => {
                let all = [&kind::ALL[..], &kind::STRIPE, &kind::WALLETS].concat();
                all.into_iter().filter(|k| !k.is_qr()).collect()
            }
            Continue => kind::APPROVED.to_vec(),
            Capture | Void => kind::MANUAL.to_vec(),
            Close => kind::CLOSABLE.to_vec(),
            Notify => kind::NOTIFIED.to_vec(),
        }
    }

    /// The faults that it can meet.
    pub fn faults(self) -> Vec<&'static str> {
        match self {
            InquireLost | InquireCharged => {
                FAULTS.into_iter().filter(|f| !f.starts_with("decline")).collect()
            }
            Notify => NOTIFY_FAULTS.to_vec(),
            _ => FAULTS.to_vec(),
        }
    }
}

/// How long a cell is to be watched: what is expected of it decides, and what happens is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Nothing ends it while the fault stands.
    pub stands: bool,
    /// Nothing ends it even when the fault is lifted.
    pub stays: bool,
}

/// A cell after its end.
#[derive(Debug)]
pub struct Run {
    pub operation: Operation,
    pub fault: &'static str,
    pub kind: Kind,
    /// Whether it ended only once the fault was lifted.
    pub lifted: bool,
    /// The payment at the end.
    pub payment: Answer,
    /// The refund at the end.
    pub refund: Option<Answer>,
}

/// One operation under one fault, for every kind that knows it.
pub fn round(
    house: &House,
    operation: Operation,
    fault: &'static str,
    watch: &(dyn Fn(Kind) -> Watch + Sync),
    faults: &mut Faults,
) -> Vec<Run> {
    let mut kinds = operation.kinds();
    // It looks at the order first, so without a connection the wish itself is refused, with 503.
    kinds.retain(|kind| !(kind.looks_first(operation) && fault == "refuse"));
    let set_up = side_by_side(&kinds, |kind| set_up(house, operation, *kind));
    let begun = hurt(house, operation, fault, &kinds, &set_up, faults);
    let acted = side_by_side(&begun, |case| {
        let long = if watch(case.kind).stands { operation.watch() } else { PATIENCE };
        until_end(house, operation, case, long)
    });
    house.lift_faults();
    if fault == "refuse" && kinds.iter().any(|kind| kind.is_approved()) {
        // An access token that could not be fetched is not asked for again within a second.
        std::thread::sleep(Duration::from_millis(1_100));
    }
    let indices: Vec<usize> = (0..begun.len()).collect();
    side_by_side(&indices, |n| {
        let case = &begun[*n];
        let mut ended = acted[*n];
        let lifted = !ended;
        if !ended {
            let long = if watch(case.kind).stays { WATCH } else { PATIENCE };
            ended = until_end(house, operation, case, long);
        }
        let shown = house.payment(&case.payment);
        if ended && shown["status"] == "requires_action" {
            // A page that was only shown is approved, and paid by us.
            match case.kind.is_approved() {
                true => approve(house, &shown),
                false => pay_by_qr(house, &shown),
            }
        }
        let refund = case.refund.as_ref().map(|id| house.get(&format!("/v1/refunds/{id}")));
        let payment = house.payment(&case.payment);
        Run { operation, fault, kind: case.kind, lifted: lifted && ended, payment, refund }
    })
}

/// A payment that the fault has met.
struct Case {
    kind: Kind,
    payment: String,
    refund: Option<String>,
}

/// Brings a payment to where the operation can be asked for; `None` where asking makes it.
fn set_up(house: &House, operation: Operation, kind: Kind) -> Option<String> {
    let makes = matches!(operation, Authorize | AuthorizeUndeclared | InquireLost)
        || (operation == InquireCharged && !kind.is_qr());
    if makes {
        return None;
    }
    let waits = matches!(operation, Close | Notify) && kind.is_barcode();
    let id = id_of(&post(house, "/v1/payments", &kind.body(if waits { "02" } else { "01" }), 1));
    let is = |word: &'static str| move |p: &Answer| p["status"] == word;
    if kind.is_approved() {
        let p = house.wait_for(&id, PATIENCE, is("requires_action"));
        if operation == Continue {
            return Some(id);
        }
        act(house, &p, "pay");
    }
    if waits {
        let p = house.wait_for(&id, PATIENCE, |p| p["attempts"][0]["state"] == "pending");
        act(house, &p, "abandon");
        return Some(id);
    }
    if kind.is_qr() {
        let p = house.wait_for(&id, PATIENCE, is("requires_action"));
        match operation {
            // Nobody can close what was never scanned; that has a test of its own.
            Close => act(house, &p, "scan"),
            Refund => pay_by_qr(house, &p),
            _ => {}
        }
        return Some(id);
    }
    if kind.is_manual() {
        house.wait_for(&id, PATIENCE, is("requires_capture"));
        if operation == Refund {
            let captured = post(house, &format!("/v1/payments/{id}/capture"), &json!({}), 20);
            assert_eq!(captured["status"], "succeeded", "{captured:?}");
        }
        return Some(id);
    }
    let p = house.wait_for(&id, PATIENCE, is("succeeded"));
    if kind.is_adyen() {
        // Nobody can ask whether it is captured: ten times as long as it takes there.
        std::thread::sleep(Duration::from_millis(300));
    } else if kind.is_card() && !kind.is_stripe() {
        settled(house, &p);
    }
    Some(id)
}

/// Turns the dial and asks for the operation, for all kinds at once.
fn hurt(
    house: &House,
    operation: Operation,
    fault: &'static str,
    kinds: &[Kind],
    set_up: &[Option<String>],
    faults: &mut Faults,
) -> Vec<Case> {
    let mut dial = |operation: &str, fault: &'static str, ms: u64| {
        let mut accounts: Vec<&str> = kinds.iter().map(|k| k.first()).collect();
        accounts.sort_unstable();
        accounts.dedup();
        for account in accounts {
            let id = house.fault_with(json!({
                "account": account, "operation": operation, "fault": fault, "ms": ms,
                "for_ms": 600_000,
            }));
            faults.insert(id.as_str().expect("an id").to_owned(), fault);
        }
    };
    let late = !operation.word().starts_with("inquire");
    // Slow is slower than the timeout, but a delayed notification comes within the patience.
    let ms = if fault == "slow" { 2_500 } else { 1_000 };
    if late || fault != "refuse" {
        dial(operation.dial(), fault, ms);
    }
    match operation {
        // A refused connection can't lose an authorization, so it waits until all are there.
        InquireLost if fault == "refuse" => dial("authorize", "hang", 0),
        InquireCharged if fault == "refuse" => dial("authorize", "slow", 60_000),
        InquireLost => dial("authorize", "reset_after_read", 0),
        InquireCharged => dial("authorize", "charge_then_drop", 0),
        _ => {}
    }
    if operation == InquireCharged {
        dial("notify", "notify_lose", 0);
    }
    let before = arrived(house, kinds);
    let cases: Vec<(Kind, Option<String>)> =
        kinds.iter().copied().zip(set_up.iter().cloned()).collect();
    let begun = side_by_side(&cases, |(kind, id)| begin(house, operation, *kind, id.as_deref()));
    if !late && fault == "refuse" {
        let sent = begun.iter().filter(|c| !c.kind.is_qr()).count();
        house.wait_until("all authorizations arrived", PATIENCE, |h| {
            arrived(h, kinds) >= before + sent
        });
        dial("inquire", "refuse", 0);
    }
    begun
}

fn arrived(house: &House, kinds: &[Kind]) -> usize {
    let mut accounts: Vec<&str> = kinds.iter().map(|k| k.first()).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let sum = |account: &str| {
        house.requests(account).iter().filter(|r| r["operation"] == "authorize").count()
    };
    accounts.into_iter().map(sum).sum()
}

/// Asks for the operation, without waiting for what becomes of it.
fn begin(house: &House, operation: Operation, kind: Kind, known: Option<&str>) -> Case {
    let Some(id) = known else {
        let made = pay(house, kind);
        return Case { kind, payment: id_of(&made), refund: None };
    };
    let on = |verb: &str| format!("/v1/payments/{id}/{verb}");
    let wished = match operation {
        Refund => Some(refund(house, id)),
        Notify if kind.is_stored() => Some(refund(house, id)),
        Capture => Some(post(house, &on("capture"), &json!({}), 0)),
        Notify if kind.is_manual() => Some(post(house, &on("capture"), &json!({}), 0)),
        Void => Some(post(house, &on("cancel"), &json!({}), 0)),
        Close => Some(match kind.switches_to() {
            Some(method) => post(house, &on("switch"), &json!({ "method": method }), 0),
            None => post(house, &on("cancel"), &json!({}), 0),
        }),
        Authorize | AuthorizeUndeclared | InquireLost | InquireCharged | Notify | Continue => None,
    };
    if let Some(answer) = &wished {
        assert!(answer.status < 300, "{operation:?} {kind:?}: {answer:?}");
    } else {
        act(house, &house.payment(id), "pay");
    }
    let refund = wished.filter(|a| a["object"] == "refund").map(|a| id_of(&a));
    Case { kind, payment: id.to_owned(), refund }
}

fn refund(house: &House, id: &str) -> Answer {
    post(house, "/v1/refunds", &json!({ "payment": id, "amount": REFUND }), 0)
}

/// A new payment. Where the account has no deputy, the 429 of a neighbour's payment may pause it
/// before this one is there; the merchant is told to come again, and does.
fn pay(house: &House, kind: Kind) -> Answer {
    let end = Instant::now() + PATIENCE;
    loop {
        let made = post(house, "/v1/payments", &kind.body("01"), 0);
        let paused = made["accounts"][kind.first()] == "rate_limited";
        if made.status != 503 || !paused || Instant::now() > end {
            return made;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Watches until the operation has its end; whether it came.
fn until_end(house: &House, operation: Operation, case: &Case, long: Duration) -> bool {
    let end = Instant::now() + long;
    loop {
        if has_ended(house, operation, case) {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn has_ended(house: &House, operation: Operation, case: &Case) -> bool {
    if let Some(id) = &case.refund {
        return house.get(&format!("/v1/refunds/{id}"))["status"] != "processing";
    }
    let path = if operation == InquireCharged { "?refresh=true" } else { "" };
    let p = house.payment(&format!("{}{path}", case.payment));
    match p["status"].as_str() {
        Some("succeeded" | "failed" | "canceled") => true,
        Some("requires_capture") => !matches!(operation, Notify),
        Some("requires_action") if operation == Continue => {
            house.requests(case.kind.first()).iter().any(|r| {
                r["operation"] == "continue"
                    && p["attempts"][0]["provider_ref"].as_str().is_some_and(|order| {
                        r["path"].as_str().is_some_and(|at| at.contains(order))
                    })
            })
        }
        Some("requires_action") => {
            matches!(operation, Authorize | AuthorizeUndeclared) || case.kind == Kind::BarcodeSwitch
        }
        _ => false,
    }
}

/// The provider captures by itself a moment after its answer, and only then gives back.
fn settled(house: &House, payment: &Answer) {
    let account = payment["account"].as_str().expect("an account");
    let reference = payment["provider_ref"].as_str().expect("a reference");
    let config = std::fs::read_to_string(house.dir.path().join("sandbox.toml")).expect("a file");
    let section = config.split(&format!("[accounts.{account}]")).nth(1).expect("the account");
    let setting = |name: &str| {
        let line = section.lines().find(|l| l.starts_with(name)).expect("the setting");
        line.split('"').nth(1).expect("a text").to_owned()
    };
    let url = format!("http://{}/payments/{reference}", setting("listen"));
    let bearer = format!("Bearer {}", setting("secret_key"));
    house.wait_until("the provider has captured", PATIENCE, |h| {
        h.send("GET", &url, &[("Authorization", &bearer)], None)["status"] == "Captured"
    });
}

/// The shopper approves what he is shown, and we go on.
fn approve(house: &House, payment: &Answer) {
    act(house, payment, "pay");
    let id = payment["id"].as_str().expect("an id");
    let over = |p: &Answer| p["status"] == "succeeded" || p["status"] == "requires_capture";
    house.wait_for(id, PATIENCE, over);
}

/// The shopper scans the code that stands now and pays, and we hear of it.
pub fn pay_by_qr(house: &House, payment: &Answer) {
    act(house, payment, "pay");
    let id = payment["id"].as_str().expect("an id");
    house.wait_for(id, PATIENCE, |p| p["status"] == "succeeded");
}

/// The shopper acts at the last attempt.
pub fn act(house: &House, payment: &Answer, act: &str) {
    let last = payment["attempts"].as_array().and_then(|a| a.last()).expect("an attempt");
    let name = |key: &str| last[key].as_str().expect("a text").to_owned();
    let acted = house.shopper(&name("account"), &name("op_id"), act);
    assert!(acted.status < 300, "{act}: {acted:?}");
}

/// POST with a fresh key, waiting `wait` seconds at most.
pub fn post(house: &House, path: &str, body: &Value, wait: u32) -> Answer {
    let (key, wait) = (fresh("key"), format!("wait={wait}"));
    let headers = [("Idempotency-Key", key.as_str()), ("Prefer", wait.as_str())];
    let url = format!("{}{path}", house.api);
    house.send("POST", &url, &headers, Some(body.to_string().as_bytes()))
}

/// The id of what was answered.
pub fn id_of(answer: &Answer) -> String {
    assert!(answer.status < 300, "{answer:?}");
    answer["id"].as_str().expect("an id").to_owned()
}

/// Runs `work` for every item at once, in order of the items.
pub fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(move || work(item))).collect();
        threads.into_iter().map(|t| t.join().expect("the cell ran")).collect()
    })
}
