//! One transaction of a report, however the report is written: what it is, and whose.
//!
//! What a line is follows from its event code, and its sign must agree: what a shopper paid comes
//! in, what went back to him goes out. Whatever is not listed moves no shopper's money as far as
//! can be told.

use interlock_plugin_api::{LineKind, LineState, Money, StatementLine, is_path_segment};

use crate::requests::is_op_id;

/// What a report says of a transaction.
pub(crate) struct Transaction<'a> {
    /// PayPal's number of it.
    pub id: &'a str,
    pub event_code: &'a str,
    /// Money left the account.
    pub goes_out: bool,
    pub amount: Money,
    /// What PayPal keeps; negative when it is given back.
    pub fee: Option<Money>,
    pub state: LineState,
    pub at_ms: Option<i64>,
    /// What it belongs to, and of which kind that is.
    pub reference: Option<&'a str>,
    pub reference_type: Option<&'a str>,
    /// Our marks.
    pub invoice: Option<&'a str>,
    pub custom: Option<&'a str>,
}

impl Transaction<'_> {
    /// The line of a statement.
    pub(crate) fn line(&self) -> StatementLine {
        let out = self.goes_out;
        let kind = match self.event_code {
            "T1107" if out => LineKind::Refund,
            "T1201" if out => LineKind::Chargeback,
            code if code.starts_with("T11") && out => LineKind::Chargeback,
            code if code.starts_with("T00") && !out => LineKind::Charge,
            _ => LineKind::Other,
        };
        let own = |mark: Option<&str>| {
            let number = mark?.split(':').next()?;
            is_op_id(number).then(|| number.to_owned())
        };
        let (mark, invoice) = (own(self.custom), own(self.invoice));
        // A refund of ours has a mark of its own, and one that was made elsewhere the order's;
        // everything else has the order's, and the capture of an authorization its own invoice.
        let (number, operation) = match kind {
            LineKind::Refund => (mark.clone(), mark),
            _ => {
                let operation = invoice.filter(|invoice| Some(invoice) != mark.as_ref());
                (mark, operation)
            }
        };
        let order = self.reference.filter(|_| self.reference_type == Some("ODR"));
        let segment = |id: &&str| is_path_segment(id);
        StatementLine {
            kind,
            state: self.state,
            at_ms: self.at_ms,
            number,
            provider_ref: order.filter(segment).map(str::to_owned),
            operation,
            operation_ref: Some(self.id).filter(segment).map(str::to_owned),
            amount: self.amount,
            fee: self.fee,
        }
    }
}

/// What PayPal's letter says of a transaction.
pub(crate) fn state(letter: &str) -> LineState {
    match letter {
        "S" => LineState::Done,
        "P" => LineState::Pending,
        "D" => LineState::Failed,
        // `V` moved and was taken back; what took it back has a line of its own.
        _ => LineState::Unknown,
    }
}
