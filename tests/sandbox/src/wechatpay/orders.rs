//! The orders and refunds of one WeChat Pay account: pure rules, without sockets or keys.
//!
//! A number (`out_trade_no`) is used for ever: the same parameters give a fresh offer of the same
//! order, other parameters are refused. A barcode is charged once, whatever comes again. A refund
//! is only accepted at first; it ends later, and only then does money move. What the rules decide
//! goes out through [`Effects`]: movements for the ledger, facts to notify.

use std::collections::{HashMap, HashSet};

use super::bills::{Entry, Line};
use super::order::{Barcode, Fate, Order, Refund, State, Terms, Way, Wish};
use super::wire::Refused;
use crate::alipay::Act;
use crate::faults::Operation;
use crate::ledger::{Kind, Move};
use crate::moment;

/// So many orders, offers, refunds and lines of bills fit into one account.
pub const ORDERS_LIMIT: usize = 4_000_000;

/// One order can be refunded in so many parts.
pub const REFUNDS_LIMIT: usize = 50;

const CURRENCY: &str = "CNY";
const COUPON: i64 = 1;

const NO_ORDER: Refused = Refused::new(404, "ORDER_NOT_EXIST", "订单不存在");
const USED: Refused = Refused::new(403, "OUT_TRADE_NO_USED", "商户订单号重复");
const PAID: Refused = Refused::new(400, "ORDER_PAID", "该订单已支付");
const CLOSED: Refused = Refused::new(400, "ORDER_CLOSED", "该订单已关闭");
const REVERSED: Refused = Refused::new(400, "ORDER_REVERSED", "该订单已撤销");
const NO_REFUND: Refused = Refused::new(404, "RESOURCE_NOT_EXISTS", "退款单不存在");

/// How long things live, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// A `code_url` or `prepay_id`.
    pub offer_expiry_ms: i64,
    /// An `h5_url`.
    pub h5_expiry_ms: i64,
    /// An unpaid order without `time_expire`.
    pub order_expiry_ms: i64,
    /// An unpaid barcode order.
    pub revoke_ms: i64,
    /// A younger barcode order cannot be reversed.
    pub reverse_after_ms: i64,
    /// A younger order cannot be closed.
    pub close_after_ms: i64,
}

/// Something to notify: how it was in that moment.
#[derive(Debug, Clone)]
pub struct Fact {
    /// The order.
    pub order: Order,
    /// Set when it tells of a refund.
    pub refund: Option<Refund>,
}

impl Fact {
    /// Which operation brought it about.
    pub fn cause(&self) -> Operation {
        if self.refund.is_some() { Operation::Refund } else { Operation::Authorize }
    }
}

/// What a call changed outside the orders.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the ledger.
    pub moves: Vec<Move>,
    /// To notify.
    pub facts: Vec<Fact>,
}

/// All orders of one account.
pub struct Orders {
    rules: Rules,
    serial: u64,
    orders: HashMap<String, Order>,
    by_transaction: HashMap<String, String>,
    /// Offers, also old ones: the order's number, and when it was made.
    offers: HashMap<String, (String, i64)>,
    refunds: HashMap<String, Refund>,
    /// Refunds that met an empty purse.
    turned_away: HashSet<String>,
    entries: Vec<Entry>,
}

impl Orders {
    /// No orders yet; `serial` is where the numbers begin, so that two runs differ.
    pub fn new(rules: Rules, serial: u64) -> Self {
        Self {
            rules,
            serial,
            orders: HashMap::new(),
            by_transaction: HashMap::new(),
            offers: HashMap::new(),
            refunds: HashMap::new(),
            turned_away: HashSet::new(),
            entries: Vec::new(),
        }
    }

    /// Forgets everything; numbers go on.
    pub fn clear(&mut self) {
        *self = Self::new(self.rules, self.serial);
    }

    /// Whether there is no room for more.
    pub fn is_full(&self) -> bool {
        let held = self.orders.len() + self.offers.len() + self.refunds.len();
        held + self.turned_away.len() + self.entries.len() >= ORDERS_LIMIT
    }

    /// Makes an order, or finds the one with the same parameters; answers a fresh offer.
    ///
    /// # Errors
    /// The number is used for something else, or is over.
    pub fn create(&mut self, terms: Terms, now: i64) -> Result<String, Refused> {
        let (number, way) = (terms.out_trade_no.clone(), terms.way);
        match self.current(&number, now) {
            None => self.begin(terms, now),
            Some(order) => {
                let same = order.terms.fingerprint == terms.fingerprint
                    && order.terms.way == terms.way
                    && order.terms.sub_mchid == terms.sub_mchid;
                if !same || !order.state.is_open() {
                    return Err(USED);
                }
            }
        }
        let serial = self.next();
        let offer = match way {
            Way::Native => format!("weixin://wxpay/bizpayurl?pr={serial:020}zz"),
            Way::H5 => format!(
                "https://wx.tenpay.com/cgi-bin/mmpayweb-bin/checkmweb?\
                 prepay_id=wx{}{serial:026}&package={}",
                moment::beijing_day(now),
                serial % 4_000_000_000
            ),
            Way::Jsapi | Way::App | Way::Codepay => {
                format!("wx{}{serial:026}", moment::beijing_day(now))
            }
        };
        self.offers.insert(offer.clone(), (number.clone(), now));
        self.order(&number).offer_ms = now;
        Ok(offer)
    }

    /// Charges a barcode, once. Answers the order, and whether this call made it.
    ///
    /// # Errors
    /// The barcode's own refusal, or that the number is used up.
    pub fn pay(
        &mut self,
        terms: Terms,
        barcode: Barcode,
        now: i64,
        fx: &mut Effects,
    ) -> Result<(Order, bool), Refused> {
        let number = terms.out_trade_no.clone();
        let known = self.current(&number, now).cloned();
        if let Some(order) = &known {
            match order.state {
                _ if order.terms.way != Way::Codepay => return Err(USED),
                _ if order.terms.sub_mchid != terms.sub_mchid => return Err(USED),
                State::Success | State::Refund => return Err(PAID),
                State::Revoked => return Err(REVERSED),
                State::Closed => return Err(CLOSED),
                // Another barcode on the same number could be a second shopper.
                State::UserPaying | State::PayError => return Ok((order.clone(), false)),
                State::NotPay if order.terms.fingerprint != terms.fingerprint => return Err(USED),
                State::NotPay => {}
            }
        }
        if let Barcode::Unreadable(why) = barcode {
            return Err(why);
        }
        if known.is_none() {
            self.begin(terms, now);
        }
        match barcode {
            Barcode::Refuses(why) | Barcode::Unreadable(why) => return Err(why),
            Barcode::Asks => self.order(&number).state = State::UserPaying,
            Barcode::Pays => self.settle(&number, State::Success, now, fx),
            Barcode::PaysWithCoupon => {
                let order = self.order(&number);
                order.coupon = COUPON.min(order.terms.amount - 1);
                self.settle(&number, State::Success, now, fx);
            }
            Barcode::Fails { charged: true } => {
                self.settle(&number, State::PayError, now, fx);
            }
            Barcode::Fails { charged: false } => self.order(&number).state = State::PayError,
        }
        Ok((self.orders[&number].clone(), known.is_none()))
    }

    /// The order by the merchant's number.
    ///
    /// # Errors
    /// There is none, or it belongs to another sub-merchant.
    pub fn query(&mut self, number: &str, sub: Option<&str>, now: i64) -> Result<Order, Refused> {
        let order = self.current(number, now).filter(|o| o.terms.sub_mchid.as_deref() == sub);
        order.cloned().ok_or(NO_ORDER)
    }

    /// The order by WeChat Pay's number.
    ///
    /// # Errors
    /// As `query`.
    pub fn query_by_id(&mut self, id: &str, sub: Option<&str>, now: i64) -> Result<Order, Refused> {
        let number = self.by_transaction.get(id).cloned().ok_or(NO_ORDER)?;
        self.query(&number, sub, now)
    }

    /// Closes an unpaid order; one that is closed stays so.
    ///
    /// # Errors
    /// It was paid, is a barcode order, or is too young.
    pub fn close(&mut self, number: &str, sub: Option<&str>, now: i64) -> Result<(), Refused> {
        let order = self.query(number, sub, now)?;
        if order.terms.way == Way::Codepay {
            return Err(invalid("付款码订单请调用撤销接口"));
        }
        if order.state.is_paid() {
            return Err(PAID);
        }
        if order.state.is_open() && now < order.made_ms + self.rules.close_after_ms {
            return Err(invalid("订单生成后不能马上调用关单接口"));
        }
        self.order(number).state = State::Closed;
        Ok(())
    }

    /// Undoes a barcode order: what was taken goes back. A repeated one changes nothing.
    ///
    /// # Errors
    /// It is no barcode order, is too young, or was refunded.
    pub fn reverse(
        &mut self,
        number: &str,
        sub: Option<&str>,
        now: i64,
        fx: &mut Effects,
    ) -> Result<(), Refused> {
        let order = self.query(number, sub, now)?;
        if order.terms.way != Way::Codepay {
            return Err(invalid("非付款码订单不支持撤销"));
        }
        if order.state == State::Revoked {
            return Ok(());
        }
        if now < order.made_ms + self.rules.reverse_after_ms {
            return Err(invalid("请在支付15秒后再调用撤销接口"));
        }
        if order.state == State::Refund {
            return Err(Refused::new(403, "TRADE_ERROR", "订单已退款，不能撤销"));
        }
        self.order(number).state = State::Revoked;
        if order.paid.is_some() {
            let amount = order.terms.amount;
            fx.moves.push(movement(&order, number, Kind::Reverse, amount));
            self.book(now, number, Line::Reversal);
        }
        Ok(())
    }

    /// Accepts a refund, or finds the one that was accepted. Answers the order too, and whether
    /// the refund is new; [`Self::end_refund`] must follow then.
    ///
    /// # Errors
    /// There is no such order, it is not paid, the amounts do not fit, or the purse is empty.
    pub fn refund(&mut self, wish: Wish, now: i64) -> Result<(Order, Refund, bool), Refused> {
        let lost = Refused::new(404, "RESOURCE_NOT_EXISTS", "订单不存在");
        let sub = wish.sub_mchid.as_deref();
        let order = match (&wish.transaction_id, &wish.out_trade_no) {
            (Some(id), _) => self.query_by_id(id, sub, now),
            (None, Some(number)) => self.query(number, sub, now),
            (None, None) => Err(lost),
        };
        let order = order.map_err(|_| lost)?;
        let number = order.terms.out_trade_no.clone();
        if wish.total != order.terms.amount {
            return Err(invalid("订单金额或退款金额与之前请求不一致，请核实后再试"));
        }
        if let Some(earlier) = self.refunds.get(&wish.out_refund_no) {
            if earlier.amount != wish.amount || earlier.out_trade_no != number {
                return Err(invalid("订单金额或退款金额与之前请求不一致，请核实后再试"));
            }
            return Ok((order, earlier.clone(), false));
        }
        if !order.state.is_paid() {
            return Err(invalid("订单未支付，不能退款"));
        }
        if wish.amount > order.terms.amount - order.refunded {
            return Err(invalid("订单已全额退款或退款金额大于可退金额"));
        }
        if order.refunds >= REFUNDS_LIMIT {
            return Err(invalid("部分退款次数超过50次"));
        }
        if wish.short_at_first && self.turned_away.insert(wish.out_refund_no.clone()) {
            return Err(Refused::new(403, "NOT_ENOUGH", "基本账户余额不足，请充值后重新发起"));
        }
        let refund = Refund {
            refund_id: format!(
                "5030{}{:017}",
                moment::beijing_day(now),
                self.next() % 10_u64.pow(17)
            ),
            out_refund_no: wish.out_refund_no.clone(),
            out_trade_no: number.clone(),
            amount: wish.amount,
            notify_url: wish.notify_url,
            made_ms: now,
            ended_ms: None,
            fate: wish.fate,
        };
        self.refunds.insert(wish.out_refund_no, refund.clone());
        let order = self.order(&number);
        order.state = State::Refund;
        order.refunded += refund.amount;
        order.refunds += 1;
        Ok((order.clone(), refund, true))
    }

    /// The refund ends as it must. Does nothing when it ended before, or was forgotten.
    pub fn end_refund(&mut self, refund: &Refund, now: i64, fx: &mut Effects) -> Option<Refund> {
        let held = self.refunds.get_mut(&refund.out_refund_no)?;
        if held.ended_ms.is_some() || held.refund_id != refund.refund_id {
            return None;
        }
        held.ended_ms = Some(now);
        let held = held.clone();
        let number = held.out_trade_no.clone();
        if held.fate == Fate::Closed {
            self.order(&number).refunded -= held.amount;
        }
        let order = self.order(&number).clone();
        if held.fate == Fate::Success {
            fx.moves.push(movement(&order, &held.out_refund_no, Kind::Refund, held.amount));
            self.book(now, &number, Line::Refund(held.out_refund_no.clone()));
        }
        fx.facts.push(Fact { order, refund: Some(held.clone()) });
        Some(held)
    }

    /// The refund with this number, and its order.
    ///
    /// # Errors
    /// There is none, or it belongs to another sub-merchant.
    pub fn query_refund(
        &mut self,
        out_refund_no: &str,
        sub: Option<&str>,
        now: i64,
    ) -> Result<(Order, Refund), Refused> {
        let refund = self.refunds.get(out_refund_no).cloned().ok_or(NO_REFUND)?;
        let order = self.query(&refund.out_trade_no, sub, now).map_err(|_| NO_REFUND)?;
        Ok((order, refund))
    }

    /// The shopper who was asked approves, if that order still waits for it.
    pub fn approve(&mut self, number: &str, made_ms: i64, now: i64, fx: &mut Effects) {
        let waits = self.current(number, now).is_some_and(|order| {
            order.made_ms == made_ms && order.state == State::UserPaying && !order.left_alone
        });
        if waits {
            self.settle(number, State::Success, now, fx);
        }
    }

    /// The number of the order behind an offer that is still good.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    pub fn number_of(&self, offer: &str, now: i64) -> Result<String, &'static str> {
        let (number, made_ms) = self.offers.get(offer).ok_or("no such offer")?;
        let order = self.orders.get(number).ok_or("no such offer")?;
        if now >= made_ms + self.life_ms(order.terms.way) {
            return Err("the offer has expired");
        }
        Ok(number.clone())
    }

    /// The shopper acts on a number. Answers the order.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn act(
        &mut self,
        number: &str,
        act: Act,
        now: i64,
        fx: &mut Effects,
    ) -> Result<Order, &'static str> {
        let Some(order) = self.current(number, now).cloned() else {
            return Err("no order with this number");
        };
        let by_barcode = order.terms.way == Way::Codepay;
        match order.state {
            State::Closed | State::Revoked => return Err("the order is closed"),
            State::Success | State::Refund => return Err("the order is already paid"),
            State::PayError => return Err("the payment has failed"),
            State::NotPay if by_barcode => return Err("nobody asked the shopper"),
            State::NotPay | State::UserPaying => {}
        }
        if !by_barcode && now >= order.offer_ms + self.life_ms(order.terms.way) {
            return Err("the offer has expired");
        }
        match (act, by_barcode) {
            (Act::Pay, _) => self.settle(number, State::Success, now, fx),
            (Act::Scan, _) => self.order(number).state = State::UserPaying,
            (Act::Fail, true) => self.order(number).state = State::PayError,
            (Act::Abandon, true) => self.order(number).left_alone = true,
            // Another try is always possible.
            (Act::Fail | Act::Abandon, false) => self.order(number).state = State::NotPay,
        }
        Ok(self.orders[number].clone())
    }

    /// A payment that the merchant's own systems never asked for.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn charge_elsewhere(
        &mut self,
        terms: Terms,
        now: i64,
        fx: &mut Effects,
    ) -> Result<Order, &'static str> {
        let number = terms.out_trade_no.clone();
        if self.orders.contains_key(&number) {
            return Err("the number is used");
        }
        self.begin(terms, now);
        self.settle(&number, State::Success, now, fx);
        Ok(self.orders[&number].clone())
    }

    /// A refund that the merchant's own systems never asked for; it ends at once.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn refund_elsewhere(
        &mut self,
        number: &str,
        amount: i64,
        now: i64,
        fx: &mut Effects,
    ) -> Result<Refund, &'static str> {
        let order = self.current(number, now).ok_or("no order with this number")?;
        let wish = Wish {
            out_trade_no: Some(number.into()),
            transaction_id: None,
            amount,
            total: order.terms.amount,
            sub_mchid: order.terms.sub_mchid.clone(),
            out_refund_no: format!("portal{}", self.next()),
            notify_url: None,
            fate: Fate::Success,
            short_at_first: false,
        };
        let (_, refund, _) = self.refund(wish, now).map_err(|refused| refused.message)?;
        Ok(self.end_refund(&refund, now, fx).unwrap_or(refund))
    }

    /// The bill's lines from `from_ms` to before `to_ms`, with their orders and refunds.
    pub fn entries(
        &self,
        from_ms: i64,
        to_ms: i64,
    ) -> impl Iterator<Item = (&Entry, &Order, Option<&Refund>)> {
        let day = self.entries.iter().filter(move |e| (from_ms..to_ms).contains(&e.at_ms));
        day.filter_map(|entry| {
            let refund = match &entry.line {
                Line::Refund(no) => self.refunds.get(no),
                Line::Payment | Line::Reversal => None,
            };
            Some((entry, self.orders.get(&entry.number)?, refund))
        })
    }

    fn current(&mut self, number: &str, now: i64) -> Option<&Order> {
        let order = self.orders.get_mut(number)?;
        if order.state.is_open() {
            let by_barcode = order.terms.way == Way::Codepay;
            let (life_ms, over) = if by_barcode {
                (self.rules.revoke_ms, State::Revoked)
            } else {
                (self.rules.order_expiry_ms, State::Closed)
            };
            let ends_ms = order.terms.expires_ms.filter(|_| !by_barcode);
            if now >= ends_ms.unwrap_or(order.made_ms + life_ms) {
                order.state = over;
            }
        }
        Some(order)
    }

    fn life_ms(&self, way: Way) -> i64 {
        if way == Way::H5 { self.rules.h5_expiry_ms } else { self.rules.offer_expiry_ms }
    }

    fn order(&mut self, number: &str) -> &mut Order {
        self.orders.get_mut(number).expect("only called for an order that was found or has begun")
    }

    fn book(&mut self, at_ms: i64, number: &str, line: Line) {
        self.entries.push(Entry { at_ms, number: number.into(), line });
    }

    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn begin(&mut self, terms: Terms, now: i64) {
        let order = Order::new(terms, now);
        self.orders.insert(order.terms.out_trade_no.clone(), order);
    }

    /// Takes the money and leaves the order in `state`.
    fn settle(&mut self, number: &str, state: State, now: i64, fx: &mut Effects) {
        let serial = self.next() % 10_u64.pow(14);
        let id = format!("420000{}{serial:014}", moment::beijing_day(now));
        self.by_transaction.insert(id.clone(), number.into());
        let order = self.order(number);
        (order.state, order.paid) = (state, Some((now, id)));
        let order = order.clone();
        let amount = order.terms.amount;
        fx.moves.push(movement(&order, number, Kind::Charge, amount));
        self.book(now, number, Line::Payment);
        // A barcode's merchant holds the answer in hand; nobody tells him again.
        if order.terms.way != Way::Codepay {
            fx.facts.push(Fact { order, refund: None });
        }
    }
}

fn invalid(message: &'static str) -> Refused {
    Refused::new(400, "INVALID_REQUEST", message)
}

fn movement(order: &Order, op_id: &str, kind: Kind, amount: i64) -> Move {
    Move {
        op_id: op_id.into(),
        provider_ref: order.transaction_id().unwrap_or_default().into(),
        reference: order.terms.out_trade_no.clone(),
        kind,
        amount,
        currency: CURRENCY.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: [u8; 32] = [7; 32];

    #[test]
    fn a_number_is_offered_again_for_the_same_parameters_until_it_is_over() {
        let (mut orders, mut fx) = account();
        let first = orders.create(native("n", 100), 0).unwrap();
        let second = orders.create(native("n", 100), 1).unwrap();
        assert_ne!(first, second);
        let changed = Terms { fingerprint: CODE, ..native("n", 100) };
        assert_eq!(orders.create(changed, 1), Err(USED));
        let elsewhere = Terms { way: Way::App, ..native("n", 100) };
        assert_eq!(orders.create(elsewhere, 1), Err(USED));
        assert_eq!(orders.number_of(&first, 99), Ok("n".into()), "the old one is still good");
        assert!(orders.number_of(&first, 100).is_err());
        assert!(orders.number_of(&second, 100).is_ok());
        orders.act("n", Act::Pay, 50, &mut fx).unwrap();
        assert_eq!(orders.create(native("n", 100), 51), Err(USED));
        assert_eq!(sums(&fx), [(Kind::Charge, 100)]);
        assert_eq!(fx.facts.len(), 1);
    }

    #[test]
    fn an_unpaid_order_ends_at_its_time_and_a_barcode_is_revoked() {
        let (mut orders, mut fx) = account();
        orders.create(native("n", 100), 0).unwrap();
        let timed = Terms { expires_ms: Some(500), ..native("timed", 100) };
        orders.create(timed, 0).unwrap();
        let state = |orders: &mut Orders, n: &str, now| orders.query(n, None, now).unwrap().state;
        assert_eq!(state(&mut orders, "timed", 499), State::NotPay);
        assert_eq!(state(&mut orders, "timed", 500), State::Closed);
        assert_eq!(state(&mut orders, "n", 999), State::NotPay);
        assert_eq!(state(&mut orders, "n", 1_000), State::Closed);
        orders.pay(code("c", 100), Barcode::Asks, 0, &mut fx).unwrap();
        orders.pay(code("failed", 100), Barcode::Fails { charged: false }, 0, &mut fx).unwrap();
        assert_eq!(state(&mut orders, "c", 44), State::UserPaying);
        assert_eq!(state(&mut orders, "c", 45), State::Revoked);
        assert_eq!(state(&mut orders, "failed", 999), State::PayError, "only a reverse ends it");
        orders.approve("c", 0, 46, &mut fx);
        assert_eq!(sums(&fx), []);
    }

    #[test]
    fn an_asked_shopper_approves_once_unless_he_walked_away() {
        let (mut orders, mut fx) = account();
        for number in ["c", "left"] {
            orders.pay(code(number, 100), Barcode::Asks, 0, &mut fx).unwrap();
        }
        orders.act("left", Act::Abandon, 1, &mut fx).unwrap();
        for number in ["c", "c", "left", "nobody"] {
            orders.approve(number, 0, 2, &mut fx);
        }
        assert_eq!(sums(&fx), [(Kind::Charge, 100)]);
        assert!(fx.facts.is_empty(), "nobody is told of a barcode");
    }

    #[test]
    fn a_barcode_is_never_charged_twice() {
        let (mut orders, mut fx) = account();
        let charged = Barcode::Fails { charged: true };
        orders.pay(code("c", 100), charged, 0, &mut fx).unwrap();
        for barcode in [charged, Barcode::Pays, Barcode::Asks] {
            let (order, begun) = orders.pay(code("c", 100), barcode, 1, &mut fx).unwrap();
            assert_eq!((order.state, begun), (State::PayError, false));
        }
        assert_eq!(orders.reverse("c", None, 9, &mut fx).unwrap_err().code, "INVALID_REQUEST");
        orders.reverse("c", None, 10, &mut fx).unwrap();
        orders.reverse("c", None, 11, &mut fx).unwrap();
        let again = orders.pay(code("c", 100), Barcode::Pays, 12, &mut fx);
        assert_eq!(again.unwrap_err(), REVERSED);
        assert_eq!(sums(&fx), [(Kind::Charge, 100), (Kind::Reverse, 100)]);
    }

    #[test]
    fn a_coupon_never_pays_all_of_it() {
        let (mut orders, mut fx) = account();
        let mut coupon = |number, fen| {
            orders.pay(code(number, fen), Barcode::PaysWithCoupon, 0, &mut fx).unwrap().0.coupon
        };
        assert_eq!((coupon("a", 100), coupon("b", 1)), (1, 0));
    }

    #[test]
    fn refunds_move_when_they_end_and_never_more_than_was_paid() {
        let (mut orders, mut fx) = account();
        orders.pay(code("c", 100), Barcode::Pays, 0, &mut fx).unwrap();
        let (_, first, begun) = orders.refund(wish("r1", 60, Fate::Success), 1).unwrap();
        assert!(begun);
        let (_, same, begun) = orders.refund(wish("r1", 60, Fate::Success), 2).unwrap();
        assert_eq!((same.refund_id == first.refund_id, begun), (true, false));
        assert!(orders.refund(wish("r1", 61, Fate::Success), 2).is_err());
        assert!(orders.refund(wish("r2", 41, Fate::Success), 2).is_err());
        assert_eq!(sums(&fx).len(), 1);
        assert!(orders.end_refund(&first, 3, &mut fx).is_some());
        assert!(orders.end_refund(&first, 4, &mut fx).is_none(), "it ends once");
        let (_, closed, _) = orders.refund(wish("r3", 40, Fate::Closed), 5).unwrap();
        orders.end_refund(&closed, 6, &mut fx);
        let (_, abnormal, _) = orders.refund(wish("r4", 40, Fate::Abnormal), 7).unwrap();
        orders.end_refund(&abnormal, 8, &mut fx);
        assert!(orders.refund(wish("r5", 1, Fate::Success), 9).is_err());
        assert_eq!(sums(&fx), [(Kind::Charge, 100), (Kind::Refund, 60)]);
        let told: Vec<&str> =
            fx.facts.iter().flat_map(|f| f.refund.as_ref()).map(Refund::status).collect();
        assert_eq!(told, ["SUCCESS", "CLOSED", "ABNORMAL"]);
        let reversed = orders.reverse("c", None, 20, &mut fx).unwrap_err();
        assert_eq!(reversed.code, "TRADE_ERROR");
    }

    #[test]
    fn an_order_is_refunded_in_fifty_parts_at_most() {
        let (mut orders, mut fx) = account();
        orders.pay(code("c", 100), Barcode::Pays, 0, &mut fx).unwrap();
        for n in 0..REFUNDS_LIMIT {
            orders.refund(wish(&format!("r{n}"), 1, Fate::Success), 1).unwrap();
        }
        assert!(orders.refund(wish("more", 1, Fate::Success), 1).is_err());
        assert!(orders.refund(wish("r0", 1, Fate::Success), 1).is_ok(), "an old one is asked for");
    }

    #[test]
    fn an_empty_purse_refuses_the_first_try_of_a_number_only() {
        let (mut orders, mut fx) = account();
        orders.pay(code("c", 100), Barcode::Pays, 0, &mut fx).unwrap();
        let short = |no| Wish { short_at_first: true, ..wish(no, 10, Fate::Success) };
        assert_eq!(orders.refund(short("r1"), 1).unwrap_err().code, "NOT_ENOUGH");
        assert_eq!(orders.refund(short("r2"), 1).unwrap_err().code, "NOT_ENOUGH");
        assert!(orders.refund(short("r1"), 2).is_ok());
    }

    #[test]
    fn a_young_order_cannot_be_closed_where_that_is_the_rule() {
        let (mut orders, mut fx) = account();
        orders.rules.close_after_ms = 300;
        orders.create(native("n", 100), 0).unwrap();
        assert_eq!(orders.close("n", None, 299).unwrap_err().code, "INVALID_REQUEST");
        assert_eq!(orders.close("n", None, 300), Ok(()));
        assert!(orders.act("n", Act::Pay, 301, &mut fx).is_err());
        assert_eq!(orders.close("n", Some("1900000109"), 301), Err(NO_ORDER));
    }

    #[test]
    fn a_reset_forgets_orders_and_no_number_comes_twice() {
        let (mut orders, mut fx) = account();
        let id = |orders: &mut Orders, fx: &mut Effects| {
            let (order, _) = orders.pay(code("c", 100), Barcode::Pays, 0, fx).unwrap();
            order.transaction_id().unwrap().to_owned()
        };
        let first = id(&mut orders, &mut fx);
        orders.clear();
        let second = id(&mut orders, &mut fx);
        assert_ne!(first, second);
        assert_eq!((first.len(), orders.query_by_id(&first, None, 1).is_err()), (28, true));
    }

    fn account() -> (Orders, Effects) {
        let rules = Rules {
            offer_expiry_ms: 100,
            h5_expiry_ms: 50,
            order_expiry_ms: 1_000,
            revoke_ms: 45,
            reverse_after_ms: 10,
            close_after_ms: 0,
        };
        (Orders::new(rules, 0), Effects::default())
    }

    fn native(number: &str, amount: i64) -> Terms {
        Terms::of_the_portal(number.into(), amount)
    }

    fn code(number: &str, amount: i64) -> Terms {
        Terms { way: Way::Codepay, fingerprint: CODE, ..native(number, amount) }
    }

    fn wish(no: &str, amount: i64, fate: Fate) -> Wish {
        Wish {
            out_trade_no: Some("c".into()),
            transaction_id: None,
            out_refund_no: no.into(),
            amount,
            total: 100,
            sub_mchid: None,
            notify_url: None,
            fate,
            short_at_first: false,
        }
    }

    fn sums(fx: &Effects) -> Vec<(Kind, i64)> {
        fx.moves.iter().map(|m| (m.kind, m.amount)).collect()
    }
}
