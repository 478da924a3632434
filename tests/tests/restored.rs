//! `run --restored`: the disk was lost, and an earlier copy of the journal takes its place. What
//! came after the copy is known to the providers alone, so the sandbox's ledgers judge.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use interlock_tests::house::{Answer, House, barcode, qr};
use interlock_tests::ledger;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);
const WECHAT: [&str; 2] = ["wechat-main", "wechat-backup"];
/// It answers neither by our numbers nor with statements.
const UNASKED: &str = "adyen-eu";

/// A house, and a copy of its journal as it was at some time.
struct Shop {
    house: House,
    copy: PathBuf,
}

impl Shop {
    /// Opens, and lets things happen before the copy is made.
    fn open() -> Self {
        let house = House::start();
        let copy = house.dir.path().join("copy");
        Self { house, copy }
    }

    /// The journal is copied while nobody writes it.
    fn back_up(&mut self) {
        self.house.stop_proxy();
        put(&self.house.dir.path().join("data"), &self.copy);
        self.house.start_proxy();
    }

    /// The process dies, its disk with it, and the copy takes its place.
    fn lose_the_disk(&mut self) {
        self.house.kill_proxy();
        let data = self.house.dir.path().join("data");
        fs::remove_dir_all(&data).expect("the disk is lost");
        put(&self.copy, &data);
    }

    fn start(&mut self, unasked: &[&str]) {
        let mut arguments = vec!["--restored"];
        arguments.extend(unasked.iter().flat_map(|account| ["--unasked", account]));
        self.house.spawn_proxy_told(&arguments);
    }

    fn restore(&mut self, unasked: &[&str]) {
        self.start(unasked);
        assert!(self.house.is_ready_within(SOON), "{}", self.house.log());
    }

    fn net(&self, payment: &Answer) -> i64 {
        ledger::of_payment(&ledger::net(&self.house.ledger()), &payment.json)
    }

    fn charges(&self, payment: &Answer) -> usize {
        ledger::charges(&self.house.ledger(), &payment.json)
    }

    /// Nobody gets a new payment at an account.
    fn drain(&self, account: &str) {
        let body = json!({ "reason": "it is elsewhere", "operator": "night" });
        let path = format!("/admin/v1/accounts/{account}/drain");
        let drained = self.house.operate("POST", &path, Some(&body));
        assert_eq!(drained.status, 200, "{drained:?}");
    }
}

fn put(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let at = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => put(&entry.path(), &at),
            false => drop(fs::copy(entry.path(), at).expect("copied")),
        }
    }
}

fn by_wechat(amount: i64) -> Value {
    json!({
        "amount": amount, "currency": "CNY",
        "method": { "type": "wechat_pay", "flow": "barcode", "auth_code": "131234567890123401" },
    })
}

fn number(payment: &Answer) -> String {
    let last = payment["attempts"].as_array().and_then(|a| a.last()).expect("an attempt");
    last["op_id"].as_str().expect("a text").to_owned()
}

fn id(answer: &Answer) -> String {
    answer["id"].as_str().expect("an id").to_owned()
}

#[test]
fn what_the_backup_does_not_know_is_known_again_and_charged_once() {
    let mut shop = Shop::open();
    let kept = shop.house.pay_with_key("kept", &barcode(1_500, "01"));
    assert_eq!(kept["status"], "succeeded", "{kept:?}");
    let shown = shop.house.pay_with_key("shown", &qr(1_900));
    assert_eq!(shown["status"], "requires_action", "{shown:?}");
    shop.back_up();

    // After the backup: the code is paid, some of the first is given back, and somebody pays.
    shop.house.shopper("alipay-main", &number(&shown), "pay");
    let paid = shop.house.wait_for(&id(&shown), SOON, |p| p["status"] == "succeeded");
    assert_eq!(paid["status"], "succeeded");
    let refund = json!({ "payment": kept["id"], "amount": 100 });
    let refunded = shop.house.post("/v1/refunds", "back", &refund);
    assert_eq!(refunded.status, 201, "{refunded:?}");
    let lost = shop.house.pay_with_key("lost", &by_wechat(2_300));
    assert_eq!((&lost["status"], shop.charges(&lost)), (&json!("succeeded"), 1), "{lost:?}");
    shop.lose_the_disk();

    shop.restore(&[UNASKED]);
    // Statements tell what was taken: where nobody paid there is none before tomorrow, and there
    // our numbers are asked for; PayPal can't be asked.
    shop.house.wait_until("statements reach over the gap", 3 * SOON, |h| {
        let told = h.operate("GET", "/admin/v1/status", None);
        let accounts = told["restoration"]["accounts"].as_array().cloned().unwrap_or_default();
        let covered =
            |name: &str| accounts.iter().any(|a| a["account"] == name && a["covered"] == true);
        ["alipay-main", "wechat-main", "paypal-main"].into_iter().all(covered)
    });
    let paid = shop.house.wait_for(&id(&shown), SOON, |p| p["status"] == "succeeded");
    assert_eq!((shop.charges(&paid), shop.net(&paid)), (1, 1_900));
    // Where it was taken would take it once more under its number; elsewhere nobody would notice.
    shop.drain(lost["attempts"][0]["account"].as_str().expect("a name"));
    let again = shop.house.pay_with_key("lost", &by_wechat(2_300));
    assert_eq!((again.status, &again["id"]), (201, &lost["id"]), "{again:?}");
    assert_eq!(again["status"], "succeeded", "{again:?}");
    assert_eq!((shop.charges(&again), shop.net(&again)), (1, 2_300));
    let refunded = shop.house.post("/v1/refunds", "back", &refund);
    assert_eq!(refunded.status, 201, "{refunded:?}");
    let path = format!("/v1/refunds/{}", id(&refunded));
    shop.house.wait_until("it is given back", SOON, |h| h.get(&path)["status"] == "succeeded");
    let kept = shop.house.payment(&id(&kept));
    assert_eq!((shop.net(&kept), &kept["amount_refunded"]), (1_400, &json!(100)), "{kept:?}");

    // A key that nobody has seen is new, and a second start needs no flag and no wait.
    let new = shop.house.pay_with_key("new", &by_wechat(700));
    assert_eq!((&new["status"], shop.charges(&new)), (&json!("succeeded"), 1), "{new:?}");
    shop.house.stop_proxy();
    shop.house.start_proxy();
    let again = shop.house.pay_with_key("lost", &by_wechat(2_300));
    assert_eq!((&again["id"], shop.charges(&again)), (&lost["id"], 1), "{again:?}");
}

#[test]
fn a_second_attempt_that_the_backup_never_saw_is_known_again() {
    let mut shop = Shop::open();
    shop.house.fault("alipay-main", "authorize", "hang");
    let doubt = shop.house.pay_within(&barcode(1_700, "02"), 1);
    assert_eq!(doubt["status"], "processing", "{doubt:?}");
    // The copy is of a moment, as a snapshot's is.
    shop.house.signal_proxy("STOP");
    put(&shop.house.dir.path().join("data"), &shop.copy);
    shop.house.signal_proxy("CONT");
    let paid = shop.house.wait_for(&id(&doubt), 2 * SOON, |p| p["status"] == "succeeded");
    assert_eq!((&paid["account"], shop.charges(&paid)), (&json!("alipay-backup"), 1));
    shop.house.lift_faults();
    shop.lose_the_disk();

    shop.restore(&[UNASKED, "paypal-main"]);
    let known = shop.house.wait_for(&id(&doubt), SOON, |p| p["status"] == "succeeded");
    assert_eq!(known["account"], "alipay-backup", "{known:?}");
    let attempts = known["attempts"].as_array().expect("attempts");
    assert_eq!((attempts.len(), &attempts[1]["op_id"]), (2, &paid["attempts"][1]["op_id"]));
    assert_eq!((shop.charges(&known), shop.net(&known)), (1, 1_700));
}

#[test]
fn nothing_goes_on_before_it_is_known_what_happened() {
    let mut shop = Shop::open();
    shop.house.pay(&by_wechat(100));
    shop.back_up();
    let lost = shop.house.pay_with_key("lost", &by_wechat(900));
    shop.lose_the_disk();
    for account in WECHAT {
        shop.house.fault(account, "inquire", "hang");
    }

    let refused = shop.house.cli_code(&["run", "--config", "interlock.toml", "--restored"]);
    assert_eq!(refused.0, Some(1), "{}", refused.1);
    assert!(refused.1.contains("--unasked adyen-eu"), "{}", refused.1);

    shop.start(&[UNASKED, "paypal-main"]);
    let url = format!("{}/livez", shop.house.admin);
    shop.house.wait_until("it lives", SOON, |h| {
        h.try_send("GET", &url, &[], None).is_some_and(|a| a.status == 200)
    });
    let early = shop.house.pay_with_key("lost", &by_wechat(900));
    assert_eq!((early.status, &early["code"]), (503, &json!("restoring")), "{early:?}");
    assert_eq!(early.header("retry-after"), Some("30"));
    let told = shop.house.cli(&["status", "--config", "interlock.toml"]).1;
    assert!(told.contains("NOT READY") && told.contains("restored from a backup"), "{told}");
    // Whoever restarts it in the middle does not have to say it again.
    shop.house.kill_proxy();
    shop.house.spawn_proxy();
    assert!(shop.house.is_ready_within(SOON), "{}", shop.house.log());

    // Nobody is taken for new whose provider does not answer.
    let unknown = shop.house.pay_with_key("lost", &by_wechat(900));
    assert_eq!((unknown.status, &unknown["code"]), (503, &json!("restoring")), "{unknown:?}");
    let why = unknown["detail"].as_str().expect("a text");
    assert!(WECHAT.iter().any(|account| why.contains(account)), "{why}");
    shop.house.lift_faults();
    let again = shop.house.pay_with_key("lost", &by_wechat(900));
    assert_eq!((&again["id"], &again["status"]), (&lost["id"], &json!("succeeded")), "{again:?}");
    assert_eq!((shop.charges(&again), shop.net(&again)), (1, 900));
}
