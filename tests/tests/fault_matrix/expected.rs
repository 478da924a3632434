//! The table of what is expected, read from the page that people read.
//!
//! A cell without a row fails, a cell with two rows fails, and a row without a cell fails, so the
//! page says neither too little nor too much. A row that begins with `!` tells what comes instead
//! until a fault of ours is repaired; it fails as soon as nothing comes so any more.

use crate::cell::{Operation, Watch};
use crate::kind::Kind;
use crate::record::Row;

const PAGE: &str = include_str!("expected.md");

/// One row of the page.
#[derive(Debug)]
pub struct Expected {
    operations: Vec<String>,
    faults: Vec<String>,
    kinds: Vec<String>,
    /// Not what must come, but what comes until it is repaired.
    pub deviates: bool,
    /// What is to be observed.
    pub row: Row,
    /// The line, for messages.
    pub line: usize,
}

impl Expected {
    /// Whether a cell came to what is expected of it.
    pub fn is_met_by(&self, row: &Row) -> bool {
        let fits = |expected: &str, found: &str| alternatives(expected).any(|e| e == found);
        fits(&self.row.ends, &row.ends)
            && fits(&self.row.status, &row.status)
            && fits(&self.row.attempts, &row.attempts)
            && fits(&self.row.charges, &row.charges)
            && fits(&self.row.net, &row.net)
            && fits(&self.row.again, &row.again)
    }

    /// Whether the row speaks of this cell.
    pub fn covers(&self, operation: Operation, fault: &str, kind: Kind) -> bool {
        let names = |list: &[String], word: &str| list.iter().any(|w| w == word || w == "*");
        names(&self.operations, operation.word())
            && names(&self.faults, fault)
            && names(&self.kinds, kind.word())
    }
}

/// Every row of the page.
pub fn read() -> Vec<Expected> {
    PAGE.lines().enumerate().filter_map(|(n, line)| expected(n + 1, line)).collect()
}

/// How a cell is to be watched.
pub fn watch(rows: &[Expected], operation: Operation, fault: &str, kind: Kind) -> Watch {
    let ends = || {
        let rows = rows.iter().filter(|row| row.covers(operation, fault, kind));
        rows.map(|row| row.row.ends.as_str())
    };
    let says = |word: &str| ends().any(|ends| alternatives(ends).any(|e| e == word));
    Watch { stands: says("after") || says("never"), stays: says("never") }
}

fn alternatives(text: &str) -> impl Iterator<Item = &str> {
    text.split(" or ")
}

fn expected(line: usize, text: &str) -> Option<Expected> {
    let cells: Vec<&str> = text.strip_prefix('|')?.strip_suffix('|')?.split('|').collect();
    let cells: Vec<String> = cells.into_iter().map(|c| c.trim().to_owned()).collect();
    let head = cells.first().is_some_and(|c| c == "operation" || c.starts_with("---"));
    if head {
        return None;
    }
    let [operation, faults, kinds, ends, status, attempts, charges, net, again, why] = &cells[..]
    else {
        unreachable!("a row has ten cells, line {line}");
    };
    assert!(!why.is_empty(), "a row says why, line {line}");
    let list = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    let deviates = operation.starts_with('!');
    Some(Expected {
        operations: list(operation.trim_start_matches('!')),
        deviates,
        faults: list(faults),
        kinds: list(kinds),
        row: Row {
            ends: ends.clone(),
            status: status.clone(),
            attempts: attempts.clone(),
            charges: charges.clone(),
            net: net.clone(),
            again: again.clone(),
        },
        line,
    })
}
