//! Worlds of people beside the payment: an operator who does not wait until he is asked, and
//! somebody who gives money back in a provider's portal.

use interlock_engine::MerchantPolicy;
use interlock_plugin_api::{Close, Concurrency, Contract, IdempotencyClass, Inquiry};

use super::super::state::Fault::{Crash, Late, Loss, Race, Whim};
use super::special::{by_card, fenced, honest, with_close};
use super::{World, cancel, capture, refresh, refund, switch};
use crate::declarations::{HOUR, barcode, qr};

use Concurrency::{Excluded, Undeclared};
use IdempotencyClass::{None as Forgetful, Strong, SuccessOnly};

/// All of them.
pub fn people() -> Vec<World> {
    [portals(), operators()].concat()
}

/// Refunds that nobody asked us for.
fn portals() -> Vec<World> {
    let strong = honest(Strong, Excluded);
    let plain = honest(SuccessOnly, Excluded);
    let dumb = Contract { inquiry: Inquiry::default(), ..plain.clone() };
    vec![
        World::new("a refund in the portal", &strong, barcode())
            .faults(&[(Late, 1), (Loss, 1)])
            .portals(1),
        World::new("refunds in the portal, and one of ours", &strong, barcode())
            .faults(&[(Late, 1), (Loss, 1), (Whim, 1)])
            .wishing([refund("r", Some(1_000))])
            .portals(1),
        World::new("two refunds in the portal", &strong, barcode()).faults(&[(Late, 1)]).portals(2),
        World::new("a refund in the portal of what is in doubt", &plain, barcode())
            .faults(&[(Late, 2), (Loss, 2)])
            .wishing([cancel(), refresh()])
            .silent()
            .portals(1),
        World::new("a refund in the portal, and nobody to ask", &dumb, by_card())
            .faults(&[(Late, 1), (Loss, 1)])
            .wishing([refund("r", None)])
            .portals(1),
        World::new("a refund in the portal of what was captured", &strong, barcode())
            .manual()
            .faults(&[(Late, 1), (Loss, 1)])
            .wishing([capture("x", Some(2_000)), refund("r", None)])
            .portals(1),
        World::new("a refund in the portal at two nodes", &plain, barcode())
            .twice()
            .faults(&[(Race, 1), (Crash, 1), (Late, 1)])
            .portals(1),
    ]
}

/// Verdicts that may turn out to be wrong.
fn operators() -> Vec<World> {
    let strong = honest(Strong, Excluded);
    let plain = honest(SuccessOnly, Excluded);
    let refunding = Close { may_refund: true, repeatable: true, ..Close::default() };
    let giving = with_close(honest(Forgetful, Undeclared), refunding);
    let dumb = Contract { inquiry: Inquiry::default(), ..giving.clone() };
    let late = MerchantPolicy { accept_late_ms: Some(HOUR), instant_switch: false };
    let hurry = [(Late, 2), (Loss, 2), (Whim, 1)];
    vec![
        World::new("an operator in a hurry", &strong, barcode()).faults(&hurry).verdicts(1),
        World::new("an operator in a hurry, and a cancel", &plain, barcode())
            .faults(&hurry)
            .wishing([cancel()])
            .verdicts(1),
        World::new("an operator in a hurry, and nobody to ask", &fenced(), by_card())
            .faults(&hurry)
            .verdicts(1),
        World::new("an operator and a close that gives back", &giving, barcode())
            .faults(&[(Late, 2), (Loss, 1)])
            .verdicts(1),
        World::new("an operator, and a close that nobody can ask about", &dumb, barcode())
            .faults(&[(Late, 2), (Loss, 1)])
            .verdicts(1),
        World::new("an operator and refunds", &strong, barcode())
            .faults(&[(Late, 1), (Loss, 1), (Whim, 1)])
            .wishing([refund("r", Some(1_000)), refund("q", None)])
            .verdicts(1),
        World::new("an operator, captures and a void", &strong, barcode())
            .manual()
            .faults(&[(Late, 1), (Loss, 1)])
            .wishing([capture("x", Some(2_000)), cancel(), capture("y", None)])
            .verdicts(1),
        World::new("an operator and a code", &with_close(strong.clone(), Close::default()), qr())
            .faults(&[(Late, 1), (Loss, 1)])
            .wishing([switch(qr()), cancel()])
            .shoppers(1, 1)
            .verdicts(1),
        World::new("an operator, and a merchant who keeps it", &strong, barcode())
            .faults(&hurry)
            .wishing([refund("r", Some(1_000))])
            .rules(late)
            .verdicts(1),
        World::new("an operator at two nodes", &plain, barcode())
            .twice()
            .faults(&[(Late, 1), (Race, 1), (Crash, 1)])
            .verdicts(1),
    ]
}
