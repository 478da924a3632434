//! What can't be compared says why.

use interlock_tests::house::House;

use crate::CONFIG;

const ACCOUNT: &str = "wechat-main";

#[test]
fn what_can_not_be_compared_says_why() {
    let house = House::start();
    for (account, date, why) in [
        ("nobody", "2026-11-29", "no such account"),
        (ACCOUNT, "29.11.2026", "use a day like"),
        ("checkout-eu", "2026-11-29", "gets no statements"),
    ] {
        let arguments = ["reconcile", "--account", account, "--date", date, "--config", CONFIG];
        let (code, out) = house.cli_code(&arguments);
        assert!(code == Some(1) && out.contains(why), "{code:?}: {out}");
    }
    let arguments = ["reconcile", "--account", ACCOUNT, "--date", "2020-02-29", "--config", CONFIG];
    let (code, out) = house.cli_code(&arguments);
    assert!(code == Some(0) && out.contains("0 lines"), "nobody paid on that day: {out}");
}
