//! The files of reports: their records, however they are cut, and what is no whole report.

use interlock_plugin_api::testkit::{Drive, TestHost};
use interlock_plugin_api::{
    CaptureMode, Event, Fault, FaultKind, LineKind, LineState, Next, Operation, Period, Request,
    StatementLine, StatementPart,
};

use crate::peer::{self, CAPTURE, CHANGE, ORDER, PAYMENT, REFUND, payment};

/// Of a settlement report.
const COLUMNS: &str = "\"CH\",\"Transaction ID\",\"Invoice ID\",\"PayPal Reference ID\",\
    \"PayPal Reference ID Type\",\"Transaction Event Code\",\"Transaction Initiation Date\",\
    \"Transaction Completion Date\",\"Transaction  Debit or Credit\",\"Gross Transaction Amount\",\
    \"Gross Transaction Currency\",\"Fee Debit or Credit\",\"Fee Amount\",\"Fee Currency\",\
    \"Custom Field\",\"Consumer ID\",\"Payment Tracking ID\",\"Store ID\"";
const HEAD: &str = "\u{feff}\"RH\",2026/11/30 02:44:19 -0800,\"A\",\"MERCHANT\",009,\n\"FH\",01\n";
const SECTION: &str =
    "\"SH\",2026/11/29 00:00:00 -0800,2026/11/29 23:59:59 -0800,\"MERCHANT\",\"\"\n";
const SECTION_END: &str = "\"SF\",\"EUR\",4900,1234,30,220\n\"SC\",2\n";
const END: &str = "\"RF\",\"EUR\",4900,1234,30,220\n\"RC\",2\n\"FF\",2\n";
/// When the report's day begins.
const DAY_MS: i64 = 1_795_939_200_000;

/// A row with some columns by their names.
fn row(values: &[(&str, &str)]) -> String {
    let usual = [
        ("CH", "\"SB\""),
        ("Transaction ID", CAPTURE),
        ("Invoice ID", PAYMENT),
        ("PayPal Reference ID", ORDER),
        ("PayPal Reference ID Type", "\"ODR\""),
        ("Transaction Event Code", "\"T0006\""),
        ("Transaction Initiation Date", "2026/11/29 02:30:00 -0800"),
        ("Transaction  Debit or Credit", "\"CR\""),
        ("Gross Transaction Amount", "4900"),
        ("Gross Transaction Currency", "\"EUR\""),
        ("Fee Debit or Credit", "\"DR\""),
        ("Fee Amount", "220"),
        ("Fee Currency", "\"EUR\""),
        ("Custom Field", PAYMENT),
    ];
    let columns = COLUMNS.split(',').map(|name| {
        let name = name.trim_matches('"');
        let find = |list: &[(&str, &str)]| {
            list.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        };
        find(values).or_else(|| find(&usual)).unwrap_or_else(|| "\"\"".into())
    });
    columns.collect::<Vec<_>>().join(",") + "\n"
}

fn refund() -> String {
    row(&[
        ("Transaction ID", REFUND),
        ("Invoice ID", "\"\""),
        ("PayPal Reference ID", CAPTURE),
        ("PayPal Reference ID Type", "\"TXN\""),
        ("Transaction Event Code", "T1107"),
        ("Transaction  Debit or Credit", "DR"),
        ("Gross Transaction Amount", "1234"),
        ("Fee Debit or Credit", "CR"),
        ("Fee Amount", "30"),
        ("Custom Field", &format!("\"{CHANGE}:{CAPTURE}\"")),
    ])
}

fn report(rows: &[String]) -> String {
    format!("{HEAD}{SECTION}{COLUMNS}\n{}{SECTION_END}{END}", rows.concat())
}

fn request(date: &str) -> Request {
    let period = Some(Period { date: date.into() });
    Request { period, ..payment(CaptureMode::Automatic) }
}

fn parts_of(date: &str, pieces: &[&str]) -> Result<Vec<StatementPart>, Fault> {
    let (plugin, host) = (peer::provider(), TestHost::default());
    let mut drive = Drive::new(&plugin, &host, Operation::ReadStatement, request(date));
    let mut parts = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        let event = Event::Piece { last: n + 1 == pieces.len() };
        let part = drive.step(event, piece.as_bytes())?.done().statement.unwrap();
        assert!(part.file.is_none() && !part.more);
        parts.push(part);
    }
    Ok(parts)
}

fn read(pieces: &[&str]) -> Result<Vec<StatementLine>, Fault> {
    let parts = parts_of("2026-11-29", pieces)?;
    Ok(parts.into_iter().flat_map(|part| part.lines).collect())
}

fn one(values: &[(&str, &str)]) -> StatementLine {
    let mut lines = read(&[&report(&[row(values)])]).unwrap();
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

#[test]
fn a_payment_and_a_refund_are_told_with_every_number() {
    let lines = read(&[&report(&[row(&[]), refund()])]).unwrap();
    let [charge, refund] = &lines[..] else { unreachable!("{lines:?}") };
    assert_eq!((charge.kind, charge.state), (LineKind::Charge, LineState::Done));
    assert_eq!(charge.at_ms, Some(1_795_948_200_000));
    assert_eq!(charge.number.as_deref(), Some(PAYMENT));
    assert_eq!(charge.provider_ref.as_deref(), Some(ORDER));
    assert_eq!(charge.operation_ref.as_deref(), Some(CAPTURE));
    assert_eq!((charge.amount.to_string(), charge.operation.as_deref()), ("4900 EUR".into(), None));
    assert_eq!(charge.fee.unwrap().to_string(), "220 EUR");
    assert_eq!((refund.kind, refund.state), (LineKind::Refund, LineState::Done));
    assert_eq!((refund.number.as_deref(), refund.provider_ref.as_deref()), (Some(CHANGE), None));
    assert_eq!(refund.operation.as_deref(), Some(CHANGE));
    assert_eq!(refund.operation_ref.as_deref(), Some(REFUND));
    assert_eq!(refund.amount.to_string(), "1234 EUR");
    assert_eq!(refund.fee.unwrap().to_string(), "-30 EUR");
}

#[test]
fn a_file_covers_the_day_that_its_section_names() {
    let whole = report(&[row(&[])]);
    let parts = parts_of("2026-11-29", &[&whole]).unwrap();
    let covers = parts[0].covers.unwrap();
    assert_eq!((covers.from_ms, covers.until_ms), (DAY_MS, DAY_MS + 86_400_000));
    for date in ["2026-11-28", "2026-11-30"] {
        let fault = parts_of(date, &[&whole]).unwrap_err();
        assert!(fault.text.contains("another day"), "{}", fault.text);
    }
}

#[test]
fn an_amount_is_hundredths_of_any_currency() {
    let of = |digits: &str, currency: &str| {
        let amount = ("Gross Transaction Amount", digits);
        read(&[&report(&[row(&[amount, ("Gross Transaction Currency", currency)])])])
            .map(|lines| lines[0].amount.to_string())
    };
    assert_eq!(of("15000", "JPY").unwrap(), "150 JPY");
    assert_eq!(of("15000", "HUF").unwrap(), "150 HUF");
    assert_eq!(of("15000", "USD").unwrap(), "15000 USD");
    assert_eq!(of("0", "USD").unwrap(), "0 USD");
    for (digits, currency) in
        [("150", "JPY"), ("150.00", "EUR"), ("-1", "EUR"), ("", "EUR"), ("+1", "EUR"), ("1", "€")]
    {
        assert!(of(digits, currency).is_err(), "{digits} {currency}");
    }
}

#[test]
fn what_a_line_is_follows_from_its_code_and_its_direction() {
    let direction = "Transaction  Debit or Credit";
    for (code, way, kind) in [
        ("T0006", "CR", LineKind::Charge),
        ("T0000", "CR", LineKind::Charge),
        ("T0006", "DR", LineKind::Other),
        ("T1107", "DR", LineKind::Refund),
        ("T1107", "CR", LineKind::Other),
        ("T1106", "DR", LineKind::Chargeback),
        ("T1201", "DR", LineKind::Chargeback),
        ("T0400", "DR", LineKind::Other),
        ("T9999", "CR", LineKind::Other),
        ("", "CR", LineKind::Other),
    ] {
        let line = one(&[("Transaction Event Code", code), (direction, way)]);
        assert_eq!((line.kind, line.state), (kind, LineState::Done), "{code} {way}");
    }
    for way in ["", "XX"] {
        assert!(read(&[&report(&[row(&[(direction, way)])])]).is_err(), "{way}");
    }
    let nothing = one(&[(direction, ""), ("Gross Transaction Amount", "0"), ("Fee Amount", "")]);
    assert_eq!((nothing.amount.amount, nothing.fee), (0, None));
}

#[test]
fn a_transaction_report_says_what_became_of_it() {
    for (letter, state) in [
        ("S", LineState::Done),
        ("P", LineState::Pending),
        ("D", LineState::Failed),
        ("V", LineState::Unknown),
        ("", LineState::Unknown),
    ] {
        let whole = report(&[row(&[("Store ID", letter)])]);
        let whole = whole.replace("\"Store ID\"", "\"Transactional Status\"");
        assert_eq!(read(&[&whole]).unwrap()[0].state, state, "{letter}");
    }
}

#[test]
fn a_text_may_hold_delimiters_quotes_and_line_ends() {
    let plain = one(&[]);
    for text in ["\"a,b\"", "\"say \"\"yes\"\", please\"", "\"one\ntwo\"", "\"\"\"\"", "\"\n\""] {
        assert_eq!(one(&[("Consumer ID", text)]), plain, "{text}");
    }
    let tabs = report(&[row(&[("Consumer ID", "\"a b\"")]), refund()]).replace(',', "\t");
    assert_eq!(read(&[&tabs]).unwrap(), read(&[&report(&[row(&[]), refund()])]).unwrap());
}

#[test]
fn the_lines_are_the_same_however_the_file_is_cut_between_them() {
    let whole = report(&[row(&[]), refund(), row(&[("Consumer ID", "\"one\n\ntwo\"")])]);
    let expected = read(&[&whole]).unwrap();
    assert_eq!(expected.len(), 3);
    let ends: Vec<usize> = whole.match_indices('\n').map(|(at, _)| at + 1).collect();
    for first in &ends {
        for second in ends.iter().filter(|second| *second >= first) {
            let pieces = [&whole[..*first], &whole[*first..*second], &whole[*second..]];
            assert_eq!(read(&pieces).unwrap(), expected, "{first} {second}");
        }
    }
    assert_eq!(read(&[&whole.replace('\n', "\r\n")]).unwrap(), expected);
    assert_eq!(read(&[whole.trim_end()]).unwrap(), expected);
    assert_eq!(read(&[&whole, "", "\n"]).unwrap(), expected);
}

#[test]
fn columns_are_found_by_their_names() {
    let turn = |line: &str| {
        let (kind, rest) = line.split_once(',').unwrap();
        let mut fields: Vec<&str> = rest.trim_end().split(',').collect();
        fields.reverse();
        format!("{kind},{}\n", fields.join(","))
    };
    let whole = report(&[row(&[]), refund()]);
    let turned: String = whole
        .split_inclusive('\n')
        .map(|line| match line.starts_with("\"CH\"") || line.starts_with("\"SB\"") {
            true => turn(line),
            false => line.to_owned(),
        })
        .collect();
    assert_ne!(turned, whole);
    assert_eq!(read(&[&turned]).unwrap(), read(&[&whole]).unwrap());
}

#[test]
fn several_sections_of_one_account_and_day_are_one_report() {
    let section = format!("{SECTION}{COLUMNS}\n{}{SECTION_END}", row(&[]));
    let whole = format!("{HEAD}{section}{section}{END}");
    assert_eq!(read(&[&whole]).unwrap().len(), 2);
    for (name, other) in [
        ("MERCHANT\",\"\"", "OTHER\",\"\""),
        ("23:59:59", "22:59:59"),
        ("00:00:00 -0800", "00:00:00 -0700"),
    ] {
        let two = format!("{HEAD}{section}{}{END}", section.replace(name, other));
        assert!(read(&[&two]).unwrap_err().text.contains("several"), "{other}");
    }
}

#[test]
fn a_file_that_is_no_whole_report_is_refused() {
    let good = report(&[row(&[]), refund()]);
    assert_eq!(read(&[&report(&[])]).unwrap(), [], "a day without a payment");
    let line = row(&[]);
    let shorter = line.rsplit_once(',').unwrap().0.to_owned() + "\n";
    let missing = |name: &str| good.replacen(name, "Something else", 1);
    let lines: Vec<&str> = good.split_inclusive('\n').collect();
    for (n, _) in lines.iter().enumerate().take(lines.len() - 3) {
        let cut = lines[..=n].concat();
        assert!(read(&[&cut]).unwrap_err().text.contains("before its footer"), "{cut}");
    }
    for bad in [
        String::new(),
        "<html></html>\n".into(),
        "\"Date\",\"Time\",\"TimeZone\",\"Name\"\n".into(),
        missing("Transaction ID"),
        missing("Custom Field"),
        missing("Gross Transaction Amount"),
        good.replace(COLUMNS, ""),
        good.replace(SECTION, ""),
        good.replace(HEAD, ""),
        good.replace("2026/11/29 23:59:59", "29.11.2026"),
        report(&[shorter]),
        report(&["\"ZZ\",1,2\n".into()]),
        report(&[row(&[("Consumer ID", "\"never ends")])]),
        format!("{good}{}", row(&[])),
        format!("{good}{SECTION}"),
    ] {
        assert_eq!(read(&[&bad]).unwrap_err().kind, FaultKind::Input, "{bad}");
    }
    let (plugin, host) = (peer::provider(), TestHost::default());
    let mut drive = Drive::new(&plugin, &host, Operation::ReadStatement, request("2026-11-29"));
    let fault = drive.step(Event::Piece { last: true }, b"\xff\xfe\"\0R\0").unwrap_err();
    assert!(fault.text.contains("UTF-8"), "{}", fault.text);
    assert_eq!(drive.start().unwrap_err().kind, FaultKind::Input);
    assert!(parts_of("29.11.2026", &[&good]).is_err());
}

#[test]
fn a_whole_piece_of_refunds_fits_into_an_effect() {
    const PIECE: usize = 64 * 1024;
    let refund = refund();
    let mut piece = String::new();
    while piece.len() + refund.len() <= PIECE {
        piece.push_str(&refund);
    }
    let (plugin, host) = (peer::provider(), TestHost::default());
    let mut drive = Drive::new(&plugin, &host, Operation::ReadStatement, request("2026-11-29"));
    let head = format!("{HEAD}{SECTION}{COLUMNS}\n");
    drive.step(Event::Piece { last: false }, head.as_bytes()).unwrap().done();
    let done = drive.step(Event::Piece { last: false }, piece.as_bytes()).unwrap().done();
    let effect = serde_json::to_vec(&Next::Done(done)).unwrap();
    assert!(effect.len() <= 256 * 1024, "{}", effect.len());
}
