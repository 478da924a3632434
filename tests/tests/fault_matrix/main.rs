//! The fault matrix: every fault, at every operation, of every kind of payment, against the real
//! binary with its real plugins; what must come of each cell is written in `expected.md`.
//!
//! Each operation has a house of its own and the houses run side by side. The rules that hold in
//! every cell (`record`) are judged by the sandbox's ledger and request log, whatever the page
//! says.

mod cell;
mod expected;
mod kind;
mod record;
mod special;

use std::fmt::Write as _;

use interlock_tests::house::House;

use cell::{Operation, Run};
use expected::Expected;
use record::{Books, Faults, Row};

const OPERATIONS: [Operation; 10] = [
    Operation::Authorize,
    Operation::AuthorizeUndeclared,
    Operation::InquireLost,
    Operation::InquireCharged,
    Operation::Refund,
    Operation::Close,
    Operation::Void,
    Operation::Capture,
    Operation::Notify,
    Operation::Continue,
];

#[test]
fn every_fault_in_every_place_ends_as_the_page_says() {
    let page = expected::read();
    let judged = cell::side_by_side(&OPERATIONS, |operation| house_of(*operation, &page));
    let cells: Vec<Cell> = judged.into_iter().flatten().collect();
    let mut wrong = Vec::new();
    for row in &page {
        if !cells.iter().any(|c| c.lines.contains(&row.line)) {
            let says = if row.deviates { "no cell deviates so any more" } else { "no such cell" };
            wrong.push(format!("line {} of the page: {says}", row.line));
        }
    }
    for cell in &cells {
        wrong.extend(cell.wrong.iter().map(|w| format!("{}: {w}", cell.name)));
    }
    assert!(wrong.is_empty(), "{}\n\n{}", table(&cells), wrong.join("\n"));
}

/// A cell that was run and judged.
struct Cell {
    name: String,
    row: Row,
    lines: Vec<usize>,
    wrong: Vec<String>,
}

/// All faults of one operation, one after the other, in one house.
fn house_of(operation: Operation, page: &[Expected]) -> Vec<Cell> {
    let house = House::with(operation.plan());
    let (mut runs, mut faults) = (Vec::new(), Faults::new());
    for fault in operation.faults() {
        let watch = |kind| expected::watch(page, operation, fault, kind);
        runs.extend(cell::round(&house, operation, fault, &watch, &mut faults));
    }
    let books = Books::of_house(&house, faults);
    runs.iter().map(|run| judge(run, &books, page)).collect()
}

fn judge(run: &Run, books: &Books, page: &[Expected]) -> Cell {
    let row = record::row(run, books);
    let mut wrong = record::breaches(run, books);
    let covers = |deviates: bool| -> Vec<&Expected> {
        let rows = page.iter().filter(|e| e.deviates == deviates);
        rows.filter(|e| e.covers(run.operation, run.fault, run.kind)).collect()
    };
    let mut lines: Vec<usize> = covers(false).iter().map(|e| e.line).collect();
    match &covers(false)[..] {
        [] => wrong.push("the page has no row for it".into()),
        [one] if one.is_met_by(&row) => {}
        [one] => match covers(true).iter().find(|known| known.is_met_by(&row)) {
            Some(known) => lines.push(known.line),
            None => {
                wrong.push(format!("line {} expects {:?}\n  observed {row:?}", one.line, one.row));
            }
        },
        _ => wrong.push("the page has more than one row for it".into()),
    }
    let name = record::name(run.operation, run.fault, run.kind.word());
    Cell { name, row, lines, wrong }
}

/// The whole matrix as observed, in the page's form.
fn table(cells: &[Cell]) -> String {
    let mut text = String::new();
    for c in cells {
        let Row { ends, status, attempts, charges, net, again } = &c.row;
        let mark = if c.wrong.is_empty() { "" } else { " <<<" };
        let name = c.name.replace(" × ", " | ");
        let _ = writeln!(
            text,
            "| {name} | {ends} | {status} | {attempts} | {charges} | {net} | {again} |{mark}"
        );
    }
    text
}
