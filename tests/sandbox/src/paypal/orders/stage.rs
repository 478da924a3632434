//! Orders as the tests of these rooms find them.

use super::{Asked, Effects, Orders, Rules};
use crate::ledger::Kind;
use crate::paypal::wire::Issue;
use crate::paypal::wish::{Intent, Want, Wish};

pub const NOW: i64 = 1_700_000_000_000;

pub fn wish(intent: Intent, amount: i64) -> Wish {
    Wish {
        intent,
        amount,
        currency: "EUR".into(),
        reference_id: "default".into(),
        custom_id: None,
        invoice_id: Some("invoice".into()),
        description: None,
        payer_acts: false,
        return_url: None,
        cancel_url: None,
        op_id: Some("create".into()),
    }
}

pub fn order(intent: Intent, amount: i64) -> (Orders, String) {
    let mut orders = Orders::new(Rules::default());
    let id = orders.create(wish(intent, amount), NOW);
    (orders, id)
}

pub fn held(amount: i64) -> (Orders, String) {
    let (mut orders, id) = order(Intent::Authorize, amount);
    approve(&mut orders, &id, false);
    orders.authorize(&id, asked(), &mut Effects::default()).unwrap();
    let hold = orders.get(&id).unwrap().authorization.as_ref().unwrap().id.clone();
    (orders, hold)
}

pub fn asked() -> Asked<'static> {
    Asked { op_id: Some("k"), declined: None, now: NOW }
}

pub fn want(amount: i64, last: bool) -> Want {
    Want { amount: Some((amount, "EUR".into())), last, ..Want::default() }
}

pub fn approve(orders: &mut Orders, id: &str, hollow: bool) {
    orders.approve(id, hollow, NOW, &mut Effects::default()).unwrap();
}

pub fn capture(orders: &mut Orders, id: &str) -> Result<Vec<(Kind, i64)>, Issue> {
    let mut fx = Effects::default();
    orders.capture_order(id, asked(), &mut fx)?;
    Ok(moves(&fx))
}

pub fn moves(fx: &Effects) -> Vec<(Kind, i64)> {
    fx.moves.iter().map(|m| (m.kind, m.amount)).collect()
}
