//! The trades of one Alipay account: pure rules, without sockets, keys or a clock of its own.
//!
//! A number (`out_trade_no`) is used for ever: the same content gives the same trade in its true
//! state, other content is refused. A QR is only an offer; its trade begins with the scan. What
//! the rules decide goes out through [`Effects`]: movements for the ledger, facts to notify.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::faults::Operation;
use crate::ledger::{Kind, Move};
use crate::moment;

/// So many trades and offers fit into one account.
pub const TRADES_LIMIT: usize = 2_000_000;

const CURRENCY: &str = "CNY";

/// How this account differs from others.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How long a QR can be scanned, in milliseconds.
    pub qr_expiry_ms: i64,
    /// When an unpaid trade closes by itself, in milliseconds.
    pub trade_timeout_ms: i64,
    /// Whether cancelling an unknown number uses it up.
    pub tombstone: bool,
}

/// A business refusal: Alipay's sub code.
pub type Refused = &'static str;

/// What a merchant wants to be paid.
#[derive(Debug, Clone)]
pub struct Order {
    /// The merchant's number.
    pub out_trade_no: String,
    /// Fen.
    pub amount: i64,
    /// What is bought.
    pub subject: String,
    /// Where to tell of it.
    pub notify_url: Option<String>,
    /// When it ends, whatever happens; milliseconds since the epoch.
    pub expires_ms: Option<i64>,
}

impl Order {
    /// Of a payment that was made at the portal.
    pub fn of_the_portal(out_trade_no: String, amount: i64) -> Self {
        let subject = "portal".into();
        Self { out_trade_no, amount, subject, notify_url: None, expires_ms: None }
    }
}

/// One movement of money, for the bills.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    /// The merchant's number of the trade.
    pub number: String,
    /// The merchant's number of a refund; empty for a payment and for a cancel.
    pub request: String,
    /// Fen; negative when it went back.
    pub amount: i64,
}

/// What became of a barcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barcode {
    /// Paid at once.
    Pays,
    /// The buyer must type the password first.
    Asks,
    /// Refused.
    Refuses(Refused),
}

/// The state of a trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Waits for the buyer.
    Wait,
    /// Paid, perhaps partly refunded.
    Success,
    /// Never paid, or given back in full.
    Closed,
}

impl Status {
    /// Alipay's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Wait => "WAIT_BUYER_PAY",
            Self::Success => "TRADE_SUCCESS",
            Self::Closed => "TRADE_CLOSED",
        }
    }
}

/// One trade.
#[derive(Debug, Clone)]
pub struct Trade {
    /// Alipay's number, 28 digits.
    pub trade_no: String,
    /// What is to be paid.
    pub order: Order,
    /// Its state.
    pub status: Status,
    /// Milliseconds since the epoch.
    pub made_ms: i64,
    /// When it was paid.
    pub paid_ms: Option<i64>,
    /// When it was closed.
    pub closed_ms: Option<i64>,
    /// Fen given back so far.
    pub refunded: i64,
    by_barcode: bool,
    left_alone: bool,
    refunds: BTreeMap<String, i64>,
}

/// The refund inside a [`Fact`].
#[derive(Debug, Clone)]
pub struct RefundFact {
    /// Fen, cumulative.
    pub fee: i64,
    /// The refund's number.
    pub out_biz_no: String,
    /// Milliseconds since the epoch.
    pub at_ms: i64,
}

/// Something to notify: the trade as it was in that moment.
#[derive(Debug, Clone)]
pub struct Fact {
    /// Which operation brought it about.
    pub cause: Operation,
    /// The trade.
    pub trade: Trade,
    /// Set when it tells of a refund.
    pub refund: Option<RefundFact>,
}

/// What a call changed outside the trades.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the ledger.
    pub moves: Vec<Move>,
    /// To notify.
    pub facts: Vec<Fact>,
}

/// What a cancel did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Canceled {
    /// The trade was unpaid and is closed.
    Close(String),
    /// The trade was paid and is given back.
    Refund(String),
    /// There was no trade.
    Nothing,
}

/// What a refund did.
#[derive(Debug, Clone)]
pub struct Refunded {
    /// The trade afterwards.
    pub trade: Trade,
    /// Whether money moved by this call.
    pub changed: bool,
}

/// What the shopper does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Scans if need be, and pays.
    Pay,
    /// Scans, and has not decided.
    Scan,
    /// Scans if need be, and does not succeed.
    Fail,
    /// Walks away.
    Abandon,
}

struct Offer {
    order: Order,
    qr_code: String,
    made_ms: i64,
}

/// All trades of one account.
pub struct Trades {
    rules: Rules,
    serial: u64,
    trades: HashMap<String, Trade>,
    by_trade_no: HashMap<String, String>,
    offers: HashMap<String, Offer>,
    by_qr: HashMap<String, String>,
    tombstones: HashSet<String>,
    entries: Vec<Entry>,
}

impl Trades {
    /// No trades yet; `serial` is where the numbers begin, so that two runs differ.
    pub fn new(rules: Rules, serial: u64) -> Self {
        Self {
            rules,
            serial,
            trades: HashMap::new(),
            by_trade_no: HashMap::new(),
            offers: HashMap::new(),
            by_qr: HashMap::new(),
            tombstones: HashSet::new(),
            entries: Vec::new(),
        }
    }

    /// Forgets everything; numbers go on.
    pub fn clear(&mut self) {
        *self = Self::new(self.rules, self.serial);
    }

    /// Whether there is no room for another trade.
    pub fn is_full(&self) -> bool {
        self.trades.len() + self.offers.len() + self.tombstones.len() >= TRADES_LIMIT
    }

    /// Makes a QR, or finds the one that is still good. Makes no trade.
    pub fn precreate(
        &mut self,
        order: Order,
        now: i64,
        fx: &mut Effects,
    ) -> Result<String, Refused> {
        if self.tombstones.contains(&order.out_trade_no) {
            return Err("ACQ.TRADE_HAS_CLOSE");
        }
        if let Some(trade) = self.current(&order.out_trade_no, now, fx) {
            agree(&trade.order, &order)?;
            match trade.status {
                Status::Wait => {}
                Status::Success => return Err("ACQ.TRADE_HAS_SUCCESS"),
                Status::Closed => return Err("ACQ.TRADE_HAS_CLOSE"),
            }
        }
        if let Some(offer) = self.offers.get(&order.out_trade_no) {
            agree(&offer.order, &order)?;
            if now < offer.made_ms + self.rules.qr_expiry_ms {
                return Ok(offer.qr_code.clone());
            }
        }
        self.serial += 1;
        let qr_code = format!("https://qr.alipay.com/bax{:019}", self.serial);
        self.by_qr.insert(qr_code.clone(), order.out_trade_no.clone());
        let number = order.out_trade_no.clone();
        let offer = Offer { order, qr_code: qr_code.clone(), made_ms: now };
        if let Some(old) = self.offers.insert(number, offer) {
            self.by_qr.remove(&old.qr_code);
        }
        Ok(qr_code)
    }

    /// Pays by barcode. Answers the trade in its true state, whether it is new or not.
    pub fn pay(
        &mut self,
        order: Order,
        barcode: Barcode,
        now: i64,
        fx: &mut Effects,
    ) -> Result<Trade, Refused> {
        if self.tombstones.contains(&order.out_trade_no) {
            return Err("ACQ.TRADE_HAS_CLOSE");
        }
        if let Some(trade) = self.current(&order.out_trade_no, now, fx) {
            agree(&trade.order, &order)?;
            return match trade.status {
                Status::Closed => Err("ACQ.TRADE_HAS_CLOSE"),
                Status::Wait | Status::Success => Ok(trade.clone()),
            };
        }
        if let Some(offer) = self.offers.get(&order.out_trade_no) {
            agree(&offer.order, &order)?;
        }
        if let Barcode::Refuses(why) = barcode {
            return Err(why);
        }
        let number = order.out_trade_no.clone();
        self.begin(order, true, now);
        if barcode == Barcode::Pays {
            self.settle(&number, now, fx);
        }
        Ok(self.trades[&number].clone())
    }

    /// The shopper opens a page, or the app an order: the trade begins, or goes on. One that was
    /// closed and never paid begins again, unless closing uses a number up here.
    pub fn open(&mut self, order: Order, now: i64, fx: &mut Effects) -> Result<(), Refused> {
        if order.expires_ms.is_some_and(|end| now >= end) {
            return Err("ACQ.TRADE_HAS_CLOSE");
        }
        let number = order.out_trade_no.clone();
        if self.tombstones.contains(&number) {
            return Err("ACQ.TRADE_HAS_CLOSE");
        }
        match self.current(&number, now, fx).cloned() {
            None => self.begin(order, false, now),
            Some(trade) => {
                agree(&trade.order, &order)?;
                match trade.status {
                    Status::Wait => {}
                    Status::Success => return Err("ACQ.TRADE_HAS_SUCCESS"),
                    Status::Closed if trade.paid_ms.is_some() || self.rules.tombstone => {
                        return Err("ACQ.TRADE_HAS_CLOSE");
                    }
                    Status::Closed => {
                        let held = self.trades.get_mut(&number).expect("it was just found");
                        (held.status, held.closed_ms, held.made_ms) = (Status::Wait, None, now);
                    }
                }
            }
        }
        Ok(())
    }

    /// The trade by the merchant's number or Alipay's.
    pub fn query(
        &mut self,
        out_trade_no: Option<&str>,
        trade_no: Option<&str>,
        now: i64,
        fx: &mut Effects,
    ) -> Result<Trade, Refused> {
        let number = self.number(out_trade_no, trade_no)?;
        self.current(&number, now, fx).cloned().ok_or("ACQ.TRADE_NOT_EXIST")
    }

    /// Closes an unpaid trade.
    pub fn close(
        &mut self,
        out_trade_no: Option<&str>,
        trade_no: Option<&str>,
        now: i64,
        fx: &mut Effects,
    ) -> Result<Trade, Refused> {
        let trade = self.query(out_trade_no, trade_no, now, fx)?;
        match trade.status {
            Status::Success | Status::Closed => Err("ACQ.TRADE_STATUS_ERROR"),
            Status::Wait => Ok(self.shut(&trade.order.out_trade_no, Operation::Close, now, fx)),
        }
    }

    /// Undoes whatever there is: closes an unpaid trade, gives a paid one back. A repeated
    /// cancel tells the same again and moves nothing.
    pub fn cancel(
        &mut self,
        out_trade_no: Option<&str>,
        trade_no: Option<&str>,
        now: i64,
        fx: &mut Effects,
    ) -> Result<Canceled, Refused> {
        let number = self.number(out_trade_no, trade_no)?;
        let Some(trade) = self.current(&number, now, fx).cloned() else {
            if self.rules.tombstone {
                self.tombstones.insert(number);
            }
            return Ok(Canceled::Nothing);
        };
        match trade.status {
            Status::Wait => {
                self.shut(&number, Operation::Close, now, fx);
                Ok(Canceled::Close(trade.trade_no))
            }
            Status::Closed if trade.paid_ms.is_none() => Ok(Canceled::Close(trade.trade_no)),
            Status::Closed => Ok(Canceled::Refund(trade.trade_no)),
            Status::Success => {
                let rest = trade.order.amount - trade.refunded;
                let held = self.trades.get_mut(&number).expect("current found it");
                held.refunded = held.order.amount;
                fx.moves.push(movement(held, &number, Kind::Reverse, rest));
                self.enter(&number, "", -rest, now);
                self.shut(&number, Operation::Close, now, fx);
                Ok(Canceled::Refund(trade.trade_no))
            }
        }
    }

    /// Gives `amount` back under `out_request_no`; without one it must be all of it.
    pub fn refund(
        &mut self,
        (out_trade_no, trade_no): (Option<&str>, Option<&str>),
        amount: i64,
        out_request_no: Option<&str>,
        now: i64,
        fx: &mut Effects,
    ) -> Result<Refunded, Refused> {
        let trade = self.query(out_trade_no, trade_no, now, fx)?;
        let number = trade.order.out_trade_no.clone();
        let request = out_request_no.unwrap_or(&number);
        if let Some(earlier) = trade.refunds.get(request) {
            if *earlier != amount {
                return Err("ACQ.DISCORDANT_REPEAT_REQUEST");
            }
            return Ok(Refunded { trade, changed: false });
        }
        if trade.paid_ms.is_none() {
            return Err("ACQ.TRADE_STATUS_ERROR");
        }
        if amount > trade.order.amount - trade.refunded {
            return Err("ACQ.REFUND_AMT_NOT_EQUAL_TOTAL");
        }
        if out_request_no.is_none() && amount != trade.order.amount {
            return Err("ACQ.INVALID_PARAMETER");
        }
        let held = self.trades.get_mut(&number).expect("query found it");
        held.refunded += amount;
        held.refunds.insert(request.into(), amount);
        if held.refunded == held.order.amount {
            held.status = Status::Closed;
            held.closed_ms = Some(now);
        }
        let held = held.clone();
        fx.moves.push(movement(&held, request, Kind::Refund, amount));
        self.enter(&number, request, -amount, now);
        let refund = RefundFact { fee: held.refunded, out_biz_no: request.into(), at_ms: now };
        let trade = held.clone();
        fx.facts.push(Fact { cause: Operation::Refund, trade, refund: Some(refund) });
        Ok(Refunded { trade: held, changed: true })
    }

    /// The amount of one refund, or `None` while there is none under that number.
    pub fn refund_query(
        &mut self,
        (out_trade_no, trade_no): (Option<&str>, Option<&str>),
        out_request_no: &str,
        now: i64,
        fx: &mut Effects,
    ) -> Result<(Trade, Option<i64>), Refused> {
        let trade = self.query(out_trade_no, trade_no, now, fx)?;
        let amount = trade.refunds.get(out_request_no).copied();
        Ok((trade, amount))
    }

    /// The buyer types the password of a pending barcode payment that is still trade `trade_no`.
    pub fn approve(&mut self, out_trade_no: &str, trade_no: &str, now: i64, fx: &mut Effects) {
        let waits = self.current(out_trade_no, now, fx).is_some_and(|trade| {
            trade.trade_no == trade_no && trade.status == Status::Wait && !trade.left_alone
        });
        if waits {
            self.settle(out_trade_no, now, fx);
        }
    }

    /// The merchant's number behind a QR code.
    pub fn number_of_qr(&self, qr_code: &str) -> Option<String> {
        self.by_qr.get(qr_code).cloned()
    }

    /// The shopper acts on a number. Answers the trade, or `None` while there is none.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn act(
        &mut self,
        out_trade_no: &str,
        act: Act,
        now: i64,
        fx: &mut Effects,
    ) -> Result<Option<Trade>, &'static str> {
        if self.current(out_trade_no, now, fx).is_none() {
            let Some(offer) = self.offers.get(out_trade_no) else {
                return Err("no trade and no QR with this number");
            };
            if act == Act::Abandon {
                return Ok(None);
            }
            if self.tombstones.contains(out_trade_no) {
                return Err("the number was cancelled");
            }
            if now >= offer.made_ms + self.rules.qr_expiry_ms {
                return Err("the QR code has expired");
            }
            let order = offer.order.clone();
            self.begin(order, false, now);
        }
        let trade = self.trades.get_mut(out_trade_no).expect("it was there or has begun");
        match (trade.status, act) {
            (Status::Closed, _) => return Err("the trade is closed"),
            (Status::Success, _) => return Err("the trade is already paid"),
            (Status::Wait, Act::Pay) => self.settle(out_trade_no, now, fx),
            (Status::Wait, Act::Scan) => {}
            (Status::Wait, Act::Abandon) => trade.left_alone = true,
            (Status::Wait, Act::Fail) if trade.by_barcode => {
                self.shut(out_trade_no, Operation::Authorize, now, fx);
            }
            // A failed try leaves a scanned QR payable.
            (Status::Wait, Act::Fail) => {}
        }
        Ok(self.trades.get(out_trade_no).cloned())
    }

    /// A payment that the merchant's own systems never asked for.
    ///
    /// # Errors
    /// A sentence that says why it cannot be.
    pub fn charge_elsewhere(
        &mut self,
        order: Order,
        now: i64,
        fx: &mut Effects,
    ) -> Result<Trade, &'static str> {
        let number = order.out_trade_no.clone();
        let offered = self.offers.contains_key(&number) || self.tombstones.contains(&number);
        if offered || self.trades.contains_key(&number) {
            return Err("the number is used");
        }
        self.begin(order, false, now);
        self.settle(&number, now, fx);
        Ok(self.trades[&number].clone())
    }

    /// A refund that the merchant's own systems never asked for: its number, and the trade.
    ///
    /// # Errors
    /// Why it cannot be, as a refund by request is refused.
    pub fn refund_elsewhere(
        &mut self,
        number: &str,
        amount: i64,
        now: i64,
        fx: &mut Effects,
    ) -> Result<(String, Trade), Refused> {
        self.serial += 1;
        let request = format!("portal{}", self.serial);
        let done = self.refund((Some(number), None), amount, Some(&request), now, fx)?;
        Ok((request, done.trade))
    }

    /// What moved from `from_ms` to before `to_ms`, with its trade.
    pub fn entries(&self, from_ms: i64, to_ms: i64) -> impl Iterator<Item = (&Entry, &Trade)> {
        let day = self.entries.iter().filter(move |e| (from_ms..to_ms).contains(&e.at_ms));
        day.filter_map(|entry| Some((entry, self.trades.get(&entry.number)?)))
    }

    fn enter(&mut self, number: &str, request: &str, amount: i64, at_ms: i64) {
        let (number, request) = (number.into(), request.into());
        self.entries.push(Entry { at_ms, number, request, amount });
    }

    fn number(&self, out: Option<&str>, trade_no: Option<&str>) -> Result<String, Refused> {
        match (trade_no, out) {
            (Some(trade_no), _) => {
                self.by_trade_no.get(trade_no).cloned().ok_or("ACQ.TRADE_NOT_EXIST")
            }
            (None, Some(out)) => Ok(out.into()),
            (None, None) => Err("ACQ.INVALID_PARAMETER"),
        }
    }

    fn current(&mut self, number: &str, now: i64, fx: &mut Effects) -> Option<&Trade> {
        let trade = self.trades.get(number)?;
        let end = trade.made_ms + self.rules.trade_timeout_ms;
        let end = trade.order.expires_ms.map_or(end, |its| its.min(end));
        if trade.status == Status::Wait && now >= end {
            self.shut(number, Operation::Authorize, now, fx);
        }
        self.trades.get(number)
    }

    fn begin(&mut self, order: Order, by_barcode: bool, now: i64) {
        self.serial += 1;
        let trade_no = format!("{}{:020}", moment::beijing_day(now), self.serial);
        let number = order.out_trade_no.clone();
        self.by_trade_no.insert(trade_no.clone(), number.clone());
        let trade = Trade {
            trade_no,
            order,
            status: Status::Wait,
            made_ms: now,
            paid_ms: None,
            closed_ms: None,
            refunded: 0,
            by_barcode,
            left_alone: false,
            refunds: BTreeMap::new(),
        };
        self.trades.insert(number, trade);
    }

    fn settle(&mut self, number: &str, now: i64, fx: &mut Effects) {
        let trade = self.trades.get_mut(number).expect("only called for a trade that waits");
        trade.status = Status::Success;
        trade.paid_ms = Some(now);
        fx.moves.push(movement(trade, number, Kind::Charge, trade.order.amount));
        let trade = trade.clone();
        self.enter(number, "", trade.order.amount, now);
        fx.facts.push(Fact { cause: Operation::Authorize, trade, refund: None });
    }

    fn shut(&mut self, number: &str, cause: Operation, now: i64, fx: &mut Effects) -> Trade {
        let trade = self.trades.get_mut(number).expect("only called for a trade that exists");
        trade.status = Status::Closed;
        trade.closed_ms = Some(now);
        let trade = trade.clone();
        fx.facts.push(Fact { cause, trade: trade.clone(), refund: None });
        trade
    }
}

fn agree(held: &Order, order: &Order) -> Result<(), Refused> {
    if held.amount == order.amount && held.subject == order.subject {
        Ok(())
    } else {
        Err("ACQ.CONTEXT_INCONSISTENT")
    }
}

fn movement(trade: &Trade, op_id: &str, kind: Kind, amount: i64) -> Move {
    Move {
        op_id: op_id.into(),
        provider_ref: trade.trade_no.clone(),
        reference: trade.order.out_trade_no.clone(),
        kind,
        amount,
        currency: CURRENCY.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3_600_000;

    #[test]
    fn a_number_is_one_trade_for_ever() {
        let (mut trades, mut fx) = account(false);
        let first = trades.pay(order("n", 100), Barcode::Pays, 0, &mut fx).unwrap();
        let again = trades.pay(order("n", 100), Barcode::Pays, DAY, &mut fx).unwrap();
        assert_eq!(first.trade_no, again.trade_no);
        assert_eq!(first.trade_no.len(), 28);
        let other = trades.pay(order("n", 101), Barcode::Pays, DAY, &mut fx);
        assert_eq!(other.unwrap_err(), "ACQ.CONTEXT_INCONSISTENT");
        assert_eq!(sums(&fx), [(Kind::Charge, 100)]);
    }

    #[test]
    fn a_qr_makes_no_trade_until_it_is_scanned_and_dies_with_its_time() {
        let (mut trades, mut fx) = account(false);
        let qr = trades.precreate(order("n", 100), 0, &mut fx).unwrap();
        assert_eq!(trades.precreate(order("n", 100), 1, &mut fx).unwrap(), qr);
        let unknown = trades.query(Some("n"), None, 1, &mut fx).unwrap_err();
        assert_eq!(unknown, "ACQ.TRADE_NOT_EXIST");
        assert_eq!(trades.number_of_qr(&qr).as_deref(), Some("n"));
        let late = trades.act("n", Act::Pay, 7_200_000, &mut fx).unwrap_err();
        assert_eq!(late, "the QR code has expired");
        let paid = trades.act("n", Act::Pay, 7_199_999, &mut fx).unwrap().unwrap();
        assert_eq!(paid.status, Status::Success);
        assert!(trades.act("n", Act::Pay, 7_199_999, &mut fx).is_err(), "not a second time");
        let again = trades.precreate(order("n", 100), 7_199_999, &mut fx).unwrap_err();
        assert_eq!(again, "ACQ.TRADE_HAS_SUCCESS");
        assert_eq!(sums(&fx), [(Kind::Charge, 100)]);
    }

    #[test]
    fn cancel_closes_gives_back_or_finds_nothing() {
        let (mut trades, mut fx) = account(false);
        let cancel =
            |trades: &mut Trades, fx: &mut Effects, n| trades.cancel(Some(n), None, 5, fx).unwrap();
        assert_eq!(cancel(&mut trades, &mut fx, "none"), Canceled::Nothing);
        trades.pay(order("waits", 100), Barcode::Asks, 0, &mut fx).unwrap();
        assert!(matches!(cancel(&mut trades, &mut fx, "waits"), Canceled::Close(_)));
        trades.pay(order("paid", 100), Barcode::Pays, 0, &mut fx).unwrap();
        trades.refund((Some("paid"), None), 30, Some("r"), 1, &mut fx).unwrap();
        assert!(matches!(cancel(&mut trades, &mut fx, "paid"), Canceled::Refund(_)));
        assert!(matches!(cancel(&mut trades, &mut fx, "paid"), Canceled::Refund(_)));
        assert_eq!(sums(&fx), [(Kind::Charge, 100), (Kind::Refund, 30), (Kind::Reverse, 70)]);
        let used = trades.pay(order("waits", 100), Barcode::Pays, 9, &mut fx).unwrap_err();
        assert_eq!(used, "ACQ.TRADE_HAS_CLOSE");
    }

    #[test]
    fn only_a_tombstone_refuses_what_comes_after_the_cancel_of_nothing() {
        for tombstone in [false, true] {
            let (mut trades, mut fx) = account(tombstone);
            trades.precreate(order("qr", 100), 0, &mut fx).unwrap();
            trades.cancel(Some("qr"), None, 1, &mut fx).unwrap();
            trades.cancel(Some("code"), None, 1, &mut fx).unwrap();
            let scan = trades.act("qr", Act::Pay, 2, &mut fx);
            let pay = trades.pay(order("code", 100), Barcode::Pays, 2, &mut fx);
            assert_eq!((scan.is_err(), pay.is_err()), (tombstone, tombstone));
            assert_eq!(fx.moves.len(), if tombstone { 0 } else { 2 });
        }
    }

    #[test]
    fn refunds_add_up_and_repeat_without_moving_money() {
        let (mut trades, mut fx) = account(false);
        let refund = |trades: &mut Trades, fx: &mut Effects, amount, number| {
            trades.refund((Some("n"), None), amount, number, 5, fx)
        };
        assert_eq!(refund(&mut trades, &mut fx, 1, None).unwrap_err(), "ACQ.TRADE_NOT_EXIST");
        trades.pay(order("n", 100), Barcode::Pays, 0, &mut fx).unwrap();
        assert!(refund(&mut trades, &mut fx, 40, Some("a")).unwrap().changed);
        let repeat = refund(&mut trades, &mut fx, 40, Some("a")).unwrap();
        assert_eq!((repeat.changed, repeat.trade.refunded), (false, 40));
        let other = refund(&mut trades, &mut fx, 41, Some("a")).unwrap_err();
        assert_eq!(other, "ACQ.DISCORDANT_REPEAT_REQUEST");
        let much = refund(&mut trades, &mut fx, 61, Some("b")).unwrap_err();
        assert_eq!(much, "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL");
        let part = refund(&mut trades, &mut fx, 10, None).unwrap_err();
        assert_eq!(part, "ACQ.INVALID_PARAMETER");
        let rest = refund(&mut trades, &mut fx, 60, Some("b")).unwrap();
        assert_eq!((rest.trade.status, rest.trade.refunded), (Status::Closed, 100));
        let asked = trades.refund_query((Some("n"), None), "b", 9, &mut fx).unwrap();
        assert_eq!(asked.1, Some(60));
        assert_eq!(sums(&fx), [(Kind::Charge, 100), (Kind::Refund, 40), (Kind::Refund, 60)]);
    }

    #[test]
    fn close_is_for_unpaid_trades_only() {
        let (mut trades, mut fx) = account(false);
        let close = |trades: &mut Trades, fx: &mut Effects, n| {
            trades.close(Some(n), None, 5, fx).map(|trade| trade.status)
        };
        assert_eq!(close(&mut trades, &mut fx, "n"), Err("ACQ.TRADE_NOT_EXIST"));
        trades.pay(order("n", 100), Barcode::Asks, 0, &mut fx).unwrap();
        assert_eq!(close(&mut trades, &mut fx, "n"), Ok(Status::Closed));
        trades.pay(order("m", 100), Barcode::Pays, 0, &mut fx).unwrap();
        assert_eq!(close(&mut trades, &mut fx, "m"), Err("ACQ.TRADE_STATUS_ERROR"));
    }

    #[test]
    fn a_pending_barcode_is_approved_once_unless_it_was_left_or_closed() {
        let (mut trades, mut fx) = account(false);
        let trade = trades.pay(order("n", 100), Barcode::Asks, 0, &mut fx).unwrap();
        trades.approve("n", &trade.trade_no, 1, &mut fx);
        trades.approve("n", &trade.trade_no, 2, &mut fx);
        let left = trades.pay(order("left", 100), Barcode::Asks, 0, &mut fx).unwrap();
        trades.act("left", Act::Abandon, 1, &mut fx).unwrap();
        trades.approve("left", &left.trade_no, 2, &mut fx);
        assert_eq!(sums(&fx), [(Kind::Charge, 100)]);
        let late = trades.query(Some("left"), None, DAY, &mut fx).unwrap();
        assert_eq!(late.status, Status::Closed, "unpaid trades time out");
    }

    fn account(tombstone: bool) -> (Trades, Effects) {
        let rules = Rules { qr_expiry_ms: 7_200_000, trade_timeout_ms: 10_800_000, tombstone };
        (Trades::new(rules, 0), Effects::default())
    }

    fn order(number: &str, amount: i64) -> Order {
        Order {
            out_trade_no: number.into(),
            amount,
            subject: "tea".into(),
            notify_url: None,
            expires_ms: None,
        }
    }

    fn sums(fx: &Effects) -> Vec<(Kind, i64)> {
        fx.moves.iter().map(|m| (m.kind, m.amount)).collect()
    }
}
