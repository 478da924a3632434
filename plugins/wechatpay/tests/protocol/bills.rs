//! The day's bill: how its file is got, and its lines, however the file is cut.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use interlock_plugin_api::testkit::{self, Drive};
use interlock_plugin_api::{
    Event, Fault, FaultKind, Host, LineKind, LineState, Manifest, Operation, Packing, Period,
    Provider, Request, StatementLine, StatementPart, TransportLoss,
};
use serde_json::{Value, json};
use wechatpay::WeChatPay;

use crate::peer::{self, NUMBER};

const SHA1: &str = "79bb0f45fc4c42234a918000b2668d689e2bde04";
const URL: &str = "https://api.mch.weixin.qq.com/v3/billdownload/file?token=xx0%2BYy-_abc";

fn asked() -> Request {
    let period = Some(Period { date: "2025-11-24".into() });
    Request { period, ..testkit::request(0, "CNY", 2) }
}

/// When the day's bill is made at the latest: 10:00 Beijing time of the next day.
const MADE_MS: i64 = 1_764_036_000_000;

/// What comes of an answer, just when the day is over.
fn got(status: u16, signed: bool, body: &Value) -> Result<StatementPart, Fault> {
    got_at(peer::NOW * 1_000, status, signed, body)
}

fn got_at(now_ms: i64, status: u16, signed: bool, body: &Value) -> Result<StatementPart, Fault> {
    let (provider, host) = (peer::provider(), peer::host());
    let mut drive = Drive::new(&provider, &host, Operation::DownloadStatement, asked());
    drive.envelope.now_ms = now_ms;
    drive.start()?.sent();
    let body = body.to_string().into_bytes();
    let headers = if signed { peer::signed(&body) } else { Vec::new() };
    Ok(peer::answer(&mut drive, status, headers, &body)?.done().statement.unwrap())
}

fn made(url: &str) -> Value {
    json!({ "hash_type": "SHA1", "hash_value": SHA1, "download_url": url })
}

#[test]
fn the_bill_of_a_day_is_asked_for() {
    let (send, body) = peer::start(&peer::config(), Operation::DownloadStatement, asked());
    let query = [("bill_date", "2025-11-24"), ("bill_type", "ALL"), ("tar_type", "GZIP")];
    let query = query.map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!((send.path.as_str(), &send.query[..]), ("/v3/bill/tradebill", &query[..]));
    assert!(body.is_empty());
    let (send, _) = peer::start(&peer::partner(), Operation::DownloadStatement, asked());
    assert!(send.query.contains(&("sub_mchid".to_owned(), "1900000109".to_owned())));
    let (provider, host) = (peer::provider(), peer::host());
    for date in ["", "20251124", "2025-13-01", "2025-11-24T00", "2025-11-2x"] {
        let request = Request { period: Some(Period { date: date.into() }), ..asked() };
        let mut drive = Drive::new(&provider, &host, Operation::DownloadStatement, request);
        assert_eq!(drive.start().unwrap_err().kind, FaultKind::Input, "{date}");
    }
}

#[test]
fn the_file_is_got_with_a_signature_of_its_own() {
    let file = got(200, true, &made(URL)).unwrap().file.unwrap();
    assert_eq!((file.sha1.as_deref(), file.packing), (Some(SHA1), Packing::Gzip));
    assert_eq!((file.send.method.as_str(), file.send.endpoint.as_str()), ("GET", "api"));
    assert_eq!(file.send.path, "/v3/billdownload/file");
    assert_eq!(file.send.query, [("token".to_owned(), "xx0+Yy-_abc".to_owned())]);
    let authorization = &file.send.headers[0].1;
    let part = |name: &str| {
        let rest = authorization.split_once(&format!("{name}=\"")).unwrap().1;
        rest.split_once('"').unwrap().0
    };
    let target = "/v3/billdownload/file?token=xx0%2BYy-_abc";
    let message = format!("GET\n{target}\n1764000000\n{}\n\n", part("nonce_str"));
    let signature = BASE64.decode(part("signature")).unwrap();
    let host = peer::wechat_host();
    assert_eq!(host.verify("merchant", peer::RSA, message.as_bytes(), &signature), Ok(true));
    let manifest = Manifest::parse(WeChatPay::MANIFEST.as_bytes()).unwrap();
    let rule = manifest.contract.rule("GET", &file.send.path, &file.send.query).unwrap();
    assert_eq!(rule.effect, interlock_plugin_api::Effect::Read);
    for host in ["api2.mch.weixin.qq.com", "evil.example"] {
        let told = made(&URL.replace("api.mch.weixin.qq.com", host));
        let send = got(200, true, &told).unwrap().file.unwrap().send;
        assert_eq!(send.endpoint, "api", "only the account's own endpoint is asked: {host}");
    }
}

#[test]
fn a_file_anywhere_else_or_an_answer_that_is_not_verified_is_refused() {
    let refused = |status, signed, body: &Value| got(status, signed, body).unwrap_err().kind;
    assert_eq!(refused(200, false, &made(URL)), FaultKind::Input);
    for url in [
        "/v3/billdownload/file?token=x",
        "https://api.mch.weixin.qq.com",
        "https://api.mch.weixin.qq.com/v3/refund/domestic/refunds?token=x",
        "https://api.mch.weixin.qq.com/v3/billdownload/file/../x?token=x",
        "https://api.mch.weixin.qq.com/v3/billdownload/file?token=x#y",
        "https://api.mch.weixin.qq.com/v3/billdownload/file",
        "",
    ] {
        assert_eq!(refused(200, true, &made(url)), FaultKind::Input, "{url}");
    }
    let mut other = made(URL);
    other["hash_type"] = "MD5".into();
    assert_eq!(refused(200, true, &other), FaultKind::Input);
    assert_eq!(refused(200, true, &json!({})), FaultKind::Input);
    let at = |now_ms, status, code: &str| {
        got_at(now_ms, status, false, &json!({ "code": code, "message": "x" }))
    };
    let code = |status, code: &str| at(MADE_MS, status, code);
    for spelled in ["NO_STATEMENT_EXIST", "NOSTATEMENTEXIST"] {
        for early_ms in [1, 10 * 3_600_000, 24 * 3_600_000] {
            let fault = at(MADE_MS - early_ms, 400, spelled).unwrap_err();
            assert!(fault.text.contains("10:00"), "it can't be made yet: {}", fault.text);
        }
        let part = code(400, spelled).unwrap();
        assert_eq!((part.lines.len(), part.file, part.more), (0, None, false), "nobody paid");
        let covers = part.covers.unwrap();
        assert_eq!(covers.from_ms, 1_763_913_600_000, "midnight in Beijing");
        assert_eq!(covers.until_ms - covers.from_ms, 86_400_000);
    }
    assert!(code(400, "STATEMENT_CREATING").unwrap_err().text.contains("10:00"));
    for (status, word) in [(500, "NO_STATEMENT_EXIST"), (400, "PARAM_ERROR"), (403, "NO_AUTH")] {
        assert_eq!(code(status, word).unwrap_err().kind, FaultKind::Input);
    }
    let (provider, host) = (peer::provider(), peer::host());
    let mut drive = Drive::new(&provider, &host, Operation::DownloadStatement, asked());
    drive.start().unwrap().sent();
    assert_eq!(drive.lost(TransportLoss::MaybeSent).unwrap_err().kind, FaultKind::Input);
}

const HEADER: &str = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,\
    交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,\
    充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注";
const SUMMARY: &str = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,\
    申请退款总金额\r\n`4,`100.00,`10.00,`0.00,`0.50000,`100.00,`10.00\r\n";

/// A row with some columns by their names.
fn row(values: &[(&str, &str)]) -> String {
    let usual = [
        ("交易时间", "2025-11-24 10:00:00"),
        ("特约商户号", "0"),
        ("微信订单号", "4200000000202511240000000001"),
        ("商户订单号", NUMBER),
        ("交易状态", "SUCCESS"),
        ("货币种类", "CNY"),
        ("应结订单金额", "80.00"),
        ("微信退款单号", "0"),
        ("商户退款单号", "0"),
        ("商品名称", "Tea"),
        ("手续费", "0.53000"),
        ("订单金额", "88.88"),
        ("申请退款金额", "0.00"),
    ];
    let find = |list: &[(&str, &str)], name: &str| {
        list.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
    };
    let columns = HEADER.split(',').map(|name| {
        let value = find(values, name).or_else(|| find(&usual, name)).unwrap_or_default();
        format!("`{value}")
    });
    columns.collect::<Vec<_>>().join(",") + "\r\n"
}

fn refund(status: &str) -> String {
    row(&[
        ("交易状态", "REFUND"),
        ("微信退款单号", "50000000382019052709732678859"),
        ("商户退款单号", "refund42"),
        ("退款状态", status),
        ("手续费", "-0.06000"),
        ("订单金额", "0.00"),
        ("申请退款金额", "10.00"),
    ])
}

fn bill(rows: &[String]) -> String {
    format!("\u{feff}{HEADER}\r\n{}{SUMMARY}", rows.concat())
}

fn read_for(config: &Value, pieces: &[&str]) -> Result<Vec<StatementLine>, Fault> {
    let (provider, host) = (WeChatPay::open(config).unwrap(), peer::host());
    let mut drive = Drive::new(&provider, &host, Operation::ReadStatement, asked());
    let mut lines = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        let event = Event::Piece { last: n + 1 == pieces.len() };
        let part = drive.step(event, piece.as_bytes())?.done().statement.unwrap();
        assert!(part.file.is_none() && !part.more);
        lines.extend(part.lines);
    }
    Ok(lines)
}

fn read(pieces: &[&str]) -> Result<Vec<StatementLine>, Fault> {
    read_for(&peer::config(), pieces)
}

fn one(values: &[(&str, &str)]) -> StatementLine {
    let mut lines = read(&[&bill(&[row(values)])]).unwrap();
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

#[test]
fn a_charge_is_the_order_amount_in_fen_at_beijings_time() {
    let line = one(&[]);
    assert_eq!((line.kind, line.state), (LineKind::Charge, LineState::Done));
    assert_eq!(line.amount.to_string(), "8888 CNY");
    assert_eq!(line.fee.unwrap().to_string(), "53 CNY");
    assert_eq!(line.at_ms, Some(1_763_949_600_000));
    assert_eq!(line.number.as_deref(), Some(NUMBER));
    assert_eq!(line.provider_ref.as_deref(), Some("4200000000202511240000000001"));
    assert_eq!((line.operation, line.operation_ref), (None, None));
}

#[test]
fn a_refund_is_what_was_asked_to_go_back() {
    for (word, state) in [
        ("SUCCESS", LineState::Done),
        ("PROCESSING", LineState::Pending),
        ("FAIL", LineState::Failed),
        ("CHANGE", LineState::Failed),
        ("CLOSED", LineState::Failed),
        ("", LineState::Unknown),
        ("BRAND_NEW", LineState::Unknown),
    ] {
        let line = read(&[&bill(&[refund(word)])]).unwrap().remove(0);
        assert_eq!((line.kind, line.state), (LineKind::Refund, state), "{word}");
        assert_eq!(line.amount.to_string(), "1000 CNY");
        assert_eq!(line.fee.unwrap().to_string(), "-6 CNY");
        assert_eq!(line.number.as_deref(), Some(NUMBER));
        assert_eq!(line.operation.as_deref(), Some("refund42"));
        assert_eq!(line.operation_ref.as_deref(), Some("50000000382019052709732678859"));
    }
    let line = one(&[("交易状态", "REVOKED")]);
    assert_eq!((line.kind, line.state), (LineKind::Refund, LineState::Done));
    assert_eq!(line.amount.to_string(), "8888 CNY");
    let line = one(&[("交易状态", "BRAND_NEW")]);
    assert_eq!((line.kind, line.state), (LineKind::Other, LineState::Unknown));
}

#[test]
fn a_comma_or_a_backtick_in_a_products_name_moves_no_column() {
    for name in ["Tea, cake", "Tea,`cake", "`,`,`SUCCESS", ",", ""] {
        assert_eq!(one(&[("商品名称", name)]), one(&[]), "{name}");
    }
    assert_eq!(one(&[("商户数据包", "a,b")]), one(&[]));
}

#[test]
fn the_lines_are_the_same_however_the_file_is_cut_between_them() {
    let rows = [row(&[]), refund("SUCCESS"), row(&[("商品名称", "a,`b")]), refund("PROCESSING")];
    let whole = bill(&rows);
    let expected = read(&[&whole]).unwrap();
    assert_eq!(expected.len(), 4);
    let ends: Vec<usize> = whole.match_indices('\n').map(|(at, _)| at + 1).collect();
    for first in &ends {
        for second in ends.iter().filter(|second| *second >= first) {
            let pieces = [&whole[..*first], &whole[*first..*second], &whole[*second..]];
            assert_eq!(read(&pieces).unwrap(), expected, "{first} {second}");
        }
    }
    let each: Vec<&str> = whole.split_inclusive('\n').collect();
    assert_eq!(read(&each).unwrap(), expected);
    assert_eq!(read(&[&whole.replace("\r\n", "\n")]).unwrap(), expected);
    assert_eq!(read(&[&whole, "", "`anything,`after the summary\n"]).unwrap(), expected);
}

#[test]
fn columns_are_found_by_their_names() {
    let whole = bill(&[row(&[]), refund("SUCCESS")]);
    let turned: String = whole
        .split_inclusive("\r\n")
        .map(|line| {
            let line = line.trim_end();
            if line.contains('总') || line.matches(",`").count() < 20 && line.starts_with('`') {
                return format!("{line}\r\n");
            }
            let bom = if line.starts_with('\u{feff}') { "\u{feff}" } else { "" };
            let mut fields: Vec<&str> = line.trim_start_matches('\u{feff}').split(',').collect();
            fields.reverse();
            format!("{bom}{}\r\n", fields.join(","))
        })
        .collect();
    assert_ne!(turned, whole);
    assert_eq!(read(&[&turned]).unwrap(), read(&[&whole]).unwrap());
}

#[test]
fn a_partner_reads_the_lines_of_its_own_merchant_only() {
    let rows = [row(&[("特约商户号", "1900000109")]), row(&[("特约商户号", "1900000110")])];
    assert_eq!(read_for(&peer::partner(), &[&bill(&rows)]).unwrap().len(), 1);
    assert_eq!(read(&[&bill(&rows)]).unwrap().len(), 2);
}

#[test]
fn a_file_that_is_no_bill_is_refused() {
    let good = bill(&[row(&[])]);
    assert_eq!(read(&[&bill(&[])]).unwrap(), [], "a day without a payment");
    let line = row(&[]);
    let shorter = line.rsplit_once(",`").unwrap().0.to_owned() + "\r\n";
    let missing = |name: &str| good.replacen(name, "其他", 1);
    for bad in [
        String::new(),
        "<html></html>\n".into(),
        "{}\n".into(),
        missing("商户订单号"),
        missing("申请退款金额"),
        missing("退款状态"),
        good.replace(SUMMARY, ""),
        bill(&[shorter]),
        bill(&["2025-11-24 10:00:00,no,backticks\r\n".into()]),
        bill(&[row(&[("订单金额", "88.888")])]),
        bill(&[row(&[("订单金额", "-1")])]),
        bill(&[row(&[("货币种类", "元")])]),
    ] {
        assert_eq!(read(&[&bad]).unwrap_err().kind, FaultKind::Input, "{bad}");
    }
    let (provider, host) = (peer::provider(), peer::host());
    let mut drive = Drive::new(&provider, &host, Operation::ReadStatement, asked());
    let fault = drive.step(Event::Piece { last: true }, b"\xff\xfe").unwrap_err();
    assert_eq!(fault.kind, FaultKind::Input);
    assert_eq!(drive.start().unwrap_err().kind, FaultKind::Input);
}

#[test]
fn a_fee_of_less_than_a_fen_is_not_told() {
    assert_eq!(one(&[("手续费", "0.00500")]).fee, None);
    assert_eq!(one(&[("手续费", "")]).fee, None);
    assert_eq!(one(&[("手续费", "0.00000")]).fee.unwrap().amount, 0);
}

#[test]
fn a_whole_piece_of_real_refunds_fits_into_an_effect() {
    const PIECE: usize = 256 * 1024;
    let refund = row(&[
        ("公众账号ID", "wxd678efh567hg6787"),
        ("商户号", "1900000001"),
        ("用户标识", "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"),
        ("交易类型", "NATIVE"),
        ("付款银行", "OTHERS"),
        ("商户订单号", &"9".repeat(32)),
        ("交易状态", "REFUND"),
        ("应结订单金额", "0.00"),
        ("代金券金额", "0.00"),
        ("微信退款单号", "50000000382019052709732678859"),
        ("商户退款单号", &"8".repeat(32)),
        ("退款金额", "10.00"),
        ("充值券退款金额", "0.00"),
        ("退款类型", "ORIGINAL"),
        ("退款状态", "SUCCESS"),
        ("手续费", "-0.06000"),
        ("费率", "0.60%"),
        ("订单金额", "0.00"),
        ("申请退款金额", "10.00"),
    ]);
    let mut piece = String::new();
    while piece.len() + refund.len() <= PIECE {
        piece.push_str(&refund);
    }
    let (provider, host) = (peer::provider(), peer::host());
    let mut drive = Drive::new(&provider, &host, Operation::ReadStatement, asked());
    drive.step(Event::Piece { last: false }, format!("{HEADER}\r\n").as_bytes()).unwrap().done();
    let done = drive.step(Event::Piece { last: false }, piece.as_bytes()).unwrap().done();
    let effect = serde_json::to_vec(&interlock_plugin_api::Next::Done(done)).unwrap();
    assert!(effect.len() <= 256 * 1024, "{}", effect.len());
}
