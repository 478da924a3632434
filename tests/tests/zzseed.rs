//! Temporary.
use interlock_tests::house::{House, barcode, fresh, qr, tokens};
use serde_json::json;
use std::time::Duration;
#[test]
fn seed() {
    let mut house = House::start();
    house.pay(&qr(100));
    let p = house.pay(&tokens(500, "EUR"));
    house.post("/v1/refunds", &fresh("r"), &json!({"payment": p["id"], "amount": 5}));
    house.fault("checkout-us", "*", "refuse");
    house.pay(&tokens(500, "USD"));
    house.lift_faults();
    house.fault("checkout-us", "authorize", "charge_then_drop");
    let d = house.pay(&tokens(501, "USD"));
    house.pay(&barcode(300, "01"));
    std::thread::sleep(Duration::from_millis(500));
    let _ = d;
    house.stop_proxy();
    let _ = std::fs::remove_dir_all("/tmp/seedjournal");
    std::process::Command::new("cp")
        .args(["-r"])
        .arg(house.dir.path().join("data"))
        .arg("/tmp/seedjournal")
        .status()
        .unwrap();
}
