//! The day's bill: how its file is got, and its lines, however the archive is cut.

use encoding_rs::GBK;
use interlock_plugin_api::testkit::{self, Drive};
use interlock_plugin_api::{
    Effect, Event, Fault, FaultKind, LineKind, LineState, Manifest, Next, Operation, Packing,
    Period, Provider, Request, StatementLine, StatementPart, TransportLoss,
};
use serde_json::{Value, json};

use crate::peer;
use alipay::Alipay;

const METHOD: &str = "alipay.data.dataservice.bill.downloadurl.query";
const URL: &str = "http://dwbillcenter.alipay.com/downloadBillFile.resource?bizType=trade\
    &userId=20881021688175720156&fileType=csv.zip&bizDates=20251124\
    &fileId=%2Ftrade%2F20881021688175720156%2F20251124.csv.zip&timestamp=1764000000&token=b5365bba";

fn asked() -> Request {
    let period = Some(Period { date: "2025-11-24".into() });
    Request { period, ..testkit::request(0, "CNY", 2) }
}

/// When the day's bill is made at the latest: 10:00 Beijing time of the next day.
const MADE_MS: i64 = 1_764_036_000_000;

/// What comes of this raw answer, when the bill is made.
fn got(status: u16, body: &str) -> Result<StatementPart, Fault> {
    got_at(MADE_MS, status, body)
}

fn got_at(now_ms: i64, status: u16, body: &str) -> Result<StatementPart, Fault> {
    let (provider, host) = (peer::provider(), peer::host());
    let mut drive = Drive::new(&provider, &host, Operation::DownloadStatement, asked());
    drive.envelope.now_ms = now_ms;
    drive.start()?.sent();
    Ok(drive.answer(status, body.as_bytes())?.done().statement.unwrap())
}

/// What comes of a signed answer with this node.
fn said(node: &Value) -> Result<StatementPart, Fault> {
    got(200, &peer::sealed(METHOD, &node.to_string()))
}

fn made(url: &str) -> Value {
    json!({ "code": "10000", "msg": "Success", "bill_download_url": url })
}

fn refused(node: &Value) -> FaultKind {
    said(node).unwrap_err().kind
}

#[test]
fn the_bill_of_a_day_is_asked_for() {
    let (provider, host) = (peer::provider(), peer::host());
    let mut drive = Drive::new(&provider, &host, Operation::DownloadStatement, asked());
    let (send, body) = drive.start().unwrap().sent();
    let method = send.query.iter().find(|(name, _)| name == "method").unwrap();
    assert_eq!((send.endpoint.as_str(), method.1.as_str()), ("gateway", METHOD));
    assert!(!send.query.iter().any(|(name, _)| name == "notify_url"));
    let body = form_urlencoded::parse(&body).into_owned().collect::<Vec<_>>();
    let content = r#"{"bill_type":"trade","bill_date":"2025-11-24"}"#;
    assert_eq!(body, [("biz_content".to_owned(), content.to_owned())]);
    let manifest = Manifest::parse(Alipay::MANIFEST.as_bytes()).unwrap();
    let rule = manifest.contract.rule("POST", &send.path, &send.query).unwrap();
    assert_eq!((rule.effect, rule.purpose.as_str()), (Effect::Read, "bill"));
    for date in ["", "20251124", "2025-13-01", "2025-11-24T00", "2025-11-2x"] {
        let request = Request { period: Some(Period { date: date.into() }), ..asked() };
        let mut drive = Drive::new(&provider, &host, Operation::DownloadStatement, request);
        assert_eq!(drive.start().unwrap_err().kind, FaultKind::Input, "{date}");
    }
}

#[test]
fn the_file_is_got_from_its_own_endpoint_without_anything_of_the_accounts() {
    let part = said(&made(URL)).unwrap();
    let file = part.file.unwrap();
    assert_eq!((file.sha1, file.packing), (None, Packing::Zip));
    let send = file.send;
    assert_eq!((send.method.as_str(), send.endpoint.as_str()), ("GET", "bills"));
    assert_eq!(send.path, "/downloadBillFile.resource");
    let named = |name: &str| &send.query.iter().find(|(n, _)| n == name).unwrap().1;
    assert_eq!(named("fileId"), "/trade/20881021688175720156/20251124.csv.zip");
    assert_eq!((send.query.len(), named("token").as_str()), (7, "b5365bba"));
    assert!(send.headers.iter().all(|(name, _)| name == "user-agent"), "{:?}", send.headers);
    let manifest = Manifest::parse(Alipay::MANIFEST.as_bytes()).unwrap();
    assert_eq!(manifest.hosts["bills"], "https://dwbillcenter.alipay.com");
    let rule = manifest.contract.rule("GET", &send.path, &send.query).unwrap();
    assert_eq!((rule.effect, rule.purpose.as_str()), (Effect::Read, "bill_file"));
    for host in ["https://dwbillcenter.alipaydev.com", "http://evil.example", "ftp://x:1@y"] {
        let told = made(&URL.replace("http://dwbillcenter.alipay.com", host));
        assert_eq!(said(&told).unwrap().file.unwrap().send, send, "only the path counts: {host}");
    }
}

#[test]
fn a_file_anywhere_else_is_refused() {
    let at = |target: &str| format!("http://dwbillcenter.alipay.com{target}");
    for url in [
        "/downloadBillFile.resource?token=x".to_owned(),
        at(""),
        at("/gateway.do?method=alipay.trade.refund"),
        at("/downloadBillFile.resource"),
        at("/downloadBillFile.resource?"),
        at("/downloadBillFile.resource/../gateway.do?token=x"),
        at("/downloadBillFile.resource2?token=x"),
        at("//downloadBillFile.resource?token=x"),
        at("/downloadBillFile.resource#x?token=x"),
        at("/downloadBillFile.resource?token=x#y"),
        at("/downloadbillfile.resource?token=x"),
    ] {
        assert_eq!(refused(&made(&url)), FaultKind::Input, "{url}");
    }
    assert_eq!(refused(&json!({ "code": "10000" })), FaultKind::Input);
    assert_eq!(refused(&json!({ "bill_download_url": URL })), FaultKind::Input);
    let mut contradicts = made(URL);
    contradicts["sub_code"] = "ACQ.SYSTEM_ERROR".into();
    assert_eq!(refused(&contradicts), FaultKind::Input);
}

#[test]
fn only_a_verified_answer_brings_a_file_or_says_that_there_is_none() {
    let none = json!({ "code": "40004", "sub_code": "isp.bill_not_exist" });
    for node in [made(URL), none] {
        let signed = peer::sealed(METHOD, &node.to_string());
        assert!(got(200, &signed).is_ok());
        let other = peer::sealed("alipay.trade.query", &node.to_string());
        let bare = json!({ METHOD.replace('.', "_") + "_response": node });
        let gate = json!({ "error_response": node });
        for body in [signed.replacen("code", "c0de", 1), other, bare.to_string(), gate.to_string()]
        {
            assert_eq!(got(200, &body).unwrap_err().kind, FaultKind::Input, "{body}");
        }
        assert_eq!(got(502, &signed).unwrap_err().kind, FaultKind::Input);
    }
    let (provider, host) = (peer::provider(), peer::host());
    let mut drive = Drive::new(&provider, &host, Operation::DownloadStatement, asked());
    drive.start().unwrap().sent();
    assert_eq!(drive.lost(TransportLoss::MaybeSent).unwrap_err().kind, FaultKind::Input);
    let mut drive = Drive::new(&provider, &host, Operation::DownloadStatement, asked());
    let signed = peer::sealed(METHOD, &made(URL).to_string());
    assert_eq!(drive.answer(200, signed.as_bytes()).unwrap_err().kind, FaultKind::Input);
}

#[test]
fn a_day_without_a_bill_is_an_empty_statement() {
    let refusal = |sub_code: &str| json!({ "code": "40004", "sub_code": sub_code });
    let mut empty = made(URL);
    empty["bill_file_code"] = "EMPTY_DATA_WITH_BILL_FILE".into();
    let codes = ["BILL_NOT_EXIST", "ACQ.BILL_NOT_EXIST", "isp.bill_not_exist", "NO_BILL_DATA"];
    for node in codes.map(refusal).into_iter().chain([empty]) {
        let part = said(&node).unwrap();
        assert_eq!((part.lines.len(), part.file, part.more), (0, None, false), "{node}");
        let covers = part.covers.unwrap();
        assert_eq!(covers.from_ms, 1_763_913_600_000, "midnight in Beijing");
        assert_eq!(covers.until_ms - covers.from_ms, 86_400_000);
    }
    for code in ["INVAILID_ARGUMENTS", "SYSTEM_RATE_LIMIT", "BILL_DATE_BEFORE_REGISTRATION", "x"] {
        assert_eq!(refused(&refusal(code)), FaultKind::Input, "{code}");
    }
    let other = json!({ "code": "20000", "sub_code": "isp.bill_not_exist" });
    assert_eq!(refused(&other), FaultKind::Input, "a business code of another outer code");
}

#[test]
fn a_bill_that_is_not_made_yet_is_no_empty_day() {
    const HOUR_MS: i64 = 3_600_000;
    let refusal = json!({ "code": "40004", "sub_code": "isp.bill_not_exist" });
    let refusal = peer::sealed(METHOD, &refusal.to_string());
    for now_ms in [MADE_MS - 1, MADE_MS - 10 * HOUR_MS, MADE_MS - 24 * HOUR_MS] {
        let fault = got_at(now_ms, 200, &refusal).unwrap_err();
        assert!(fault.text.contains("10:00"), "{}", fault.text);
        let file = got_at(now_ms, 200, &peer::sealed(METHOD, &made(URL).to_string()));
        assert!(file.unwrap().file.is_some(), "a bill that is there is read");
    }
    let mut empty = made(URL);
    empty["bill_file_code"] = "EMPTY_DATA_WITH_BILL_FILE".into();
    let part = got_at(MADE_MS - 1, 200, &peer::sealed(METHOD, &empty.to_string())).unwrap();
    assert_eq!((part.lines.len(), part.file), (0, None), "made, and without lines");
}

const HEADER: &str = "支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,门店编号,门店名称,\
    操作员,终端号,对方账户,订单金额（元）,商家实收（元）,支付宝红包（元）,集分宝（元）,支付宝优惠（元）,\
    商家优惠（元）,券核销金额（元）,券名称,商家红包消费金额（元）,卡消费金额（元）,退款批次号/请求号,\
    服务费（元）,分润（元）,备注";
const BEGIN: &str = "#支付宝业务明细查询\r\n#账号：[20881021688175720156]\r\n\
    #起始日期：[2025年11月24日 00:00:00]   终止日期：[2025年11月25日 00:00:00]\r\n\
    #-----------------------------------------业务明细列表----------------------------------------\r\n";
const END: &str =
    "#-----------------------------------------业务明细列表结束------------------\r\n";
const AFTER: &str = "#交易合计：1笔，商家实收共88.88元，商家优惠共0.00元\r\n\
    #退款合计：1笔，商家实收退款共-10.00元，商家优惠退款共0.00元\r\n\
    #导出时间：[2025年11月25日 09:00:00]\r\n";
const SUMS: &str = "#支付宝业务汇总查询\r\n#账号：[20881021688175720156]\r\n\
    #-----------------------------------------业务汇总列表----------------------------------------\r\n\
    门店编号,门店名称,交易订单总笔数,退款订单总笔数,订单金额（元）,商家实收（元）,支付宝优惠（元）,\
    商家优惠（元）,卡消费金额（元）,服务费（元）,分润（元）,实收净额（元）\r\n\
    合计\t,\t,1,1,78.88,78.88,0.00,0.00,0.00,-0.47,0.00,78.41\r\n\
    #----------------------------------------业务汇总列表结束-------------------------------------\r\n\
    #导出时间：[2025年11月25日 09:00:00]\r\n";

/// A row with some columns by their names, padded as Alipay pads.
fn row(values: &[(&str, &str)]) -> String {
    let usual = [
        ("支付宝交易号", "2025112422001400000000000001\t"),
        ("商户订单号", "op1234567890\t"),
        ("业务类型", "交易\t"),
        ("商品名称", "Tea"),
        ("创建时间", "2025-11-24 09:59:50"),
        ("完成时间", "2025-11-24 10:00:00"),
        ("门店名称", "\t"),
        ("对方账户", "*某(137****2600)\t"),
        ("订单金额（元）", "88.88"),
        ("券名称", ""),
        ("商家红包消费金额（元）", "0.00\t"),
        ("退款批次号/请求号", "\t"),
        ("服务费（元）", "-0.53"),
        ("备注", ""),
    ];
    let find = |list: &[(&str, &str)], name: &str| {
        list.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
    };
    let columns = HEADER.split(',').map(|name| {
        let zero = if name.ends_with("（元）") { "0.00" } else { "\t" };
        let value = find(values, name).or_else(|| find(&usual, name));
        value.unwrap_or_else(|| zero.into())
    });
    columns.collect::<Vec<_>>().join(",") + "\r\n"
}

fn refund() -> String {
    row(&[
        ("业务类型", "退款\t"),
        ("完成时间", "2025-11-24 11:00:00"),
        ("订单金额（元）", "-10.00"),
        ("退款批次号/请求号", "refund42\t"),
        ("服务费（元）", "0.06"),
    ])
}

fn details(rows: &[String]) -> String {
    format!("{BEGIN}{HEADER}\r\n{}{END}{AFTER}", rows.concat())
}

fn gbk(text: &str) -> Vec<u8> {
    let (bytes, _, lost) = GBK.encode(text);
    assert!(!lost, "not in GBK: {text}");
    bytes.into_owned()
}

fn read_bytes(pieces: &[Vec<u8>]) -> Result<Vec<StatementLine>, Fault> {
    let (provider, host) = (peer::provider(), peer::host());
    let mut drive = Drive::new(&provider, &host, Operation::ReadStatement, asked());
    let mut lines = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        let event = Event::Piece { last: n + 1 == pieces.len() };
        let part = drive.step(event, piece)?.done().statement.unwrap();
        assert!(part.file.is_none() && !part.more && part.covers.is_some());
        lines.extend(part.lines);
    }
    Ok(lines)
}

fn read(pieces: &[&str]) -> Result<Vec<StatementLine>, Fault> {
    read_bytes(&pieces.iter().map(|piece| gbk(piece)).collect::<Vec<_>>())
}

fn one(values: &[(&str, &str)]) -> StatementLine {
    let mut lines = read(&[&details(&[row(values)])]).unwrap();
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

#[test]
fn a_charge_is_the_order_amount_in_fen_at_beijings_time() {
    let line = one(&[("商家实收（元）", "80.00")]);
    assert_eq!((line.kind, line.state), (LineKind::Charge, LineState::Done));
    assert_eq!(line.amount.to_string(), "8888 CNY");
    assert_eq!(line.fee.unwrap().to_string(), "53 CNY", "what is taken from the seller is kept");
    assert_eq!(line.at_ms, Some(1_763_949_600_000));
    assert_eq!(line.number.as_deref(), Some("op1234567890"));
    assert_eq!(line.provider_ref.as_deref(), Some("2025112422001400000000000001"));
    assert_eq!((line.operation, line.operation_ref), (None, None));
    assert_eq!(one(&[("服务费（元）", "0.53")]), one(&[]), "its sign is not confirmed");
    assert_eq!(one(&[("服务费（元）", "0.00")]).fee.unwrap().amount, 0);
    for untold in ["", "-0.005", "x"] {
        assert_eq!(one(&[("服务费（元）", untold)]).fee, None, "{untold}");
    }
}

#[test]
fn a_refund_is_what_went_back_under_our_number_of_it() {
    let line = read(&[&details(&[refund()])]).unwrap().remove(0);
    assert_eq!((line.kind, line.state), (LineKind::Refund, LineState::Done));
    assert_eq!(line.amount.to_string(), "1000 CNY");
    assert_eq!(line.fee.unwrap().to_string(), "-6 CNY");
    assert_eq!(line.at_ms, Some(1_763_953_200_000));
    assert_eq!(line.number.as_deref(), Some("op1234567890"));
    assert_eq!(line.operation.as_deref(), Some("refund42"));
    assert_eq!(line.operation_ref.as_deref(), Some("refund42"), "Alipay has no other name of it");
    let positive = refund().replace("-10.00", "10.00").replace("0.06", "-0.06");
    assert_eq!(read(&[&details(&[positive])]).unwrap(), [line], "neither are a refund's signs");
    let without = one(&[("业务类型", "退款"), ("订单金额（元）", "-88.88")]);
    let number = (without.operation, without.operation_ref);
    assert_eq!((without.amount.amount, number), (8_888, (None, None)), "a cancel has no number");
}

#[test]
fn what_is_neither_is_something_else_and_not_known_to_be_done() {
    for word in ["转账", "交易退款", "trade"] {
        let line = one(&[("业务类型", word), ("订单金额（元）", "-3.00")]);
        assert_eq!((line.kind, line.state), (LineKind::Other, LineState::Unknown), "{word}");
        assert_eq!(line.amount.to_string(), "300 CNY");
    }
}

#[test]
fn a_comma_in_a_text_moves_no_column() {
    for column in ["商品名称", "门店名称", "券名称", "备注"] {
        for text in ["a,b", ",", ",,,", "满100元,减1元", "a, 1.00", "交易,0.00,x", "\"a, b\""]
        {
            let row = row(&[(column, text), ("退款批次号/请求号", "r1\t")]);
            let lines = read(&[&details(&[row])]);
            assert_eq!(lines.unwrap(), [one(&[])], "{column}: {text}");
        }
    }
    let both = [("商品名称", "Tea, cake"), ("备注", "one, two, three")];
    assert_eq!(one(&both), one(&[]));
    let sly = "x,2025-11-24 09:00:00,2025-11-24 09:00:01";
    assert_eq!(one(&[("商品名称", sly)]), one(&[]));
    let tail = row(&[("订单金额（元）", "1.00"), ("商户订单号", "x")]);
    let (_, tail) = tail.trim_end().split_once("Tea").unwrap();
    assert_eq!(one(&[("商品名称", &format!("x{tail}"))]), one(&[]), "a name like a line's rest");
    let long = ",".repeat(255);
    assert_eq!(one(&[("商品名称", &long)]), one(&[]));
}

#[test]
fn a_line_that_could_say_two_things_is_refused() {
    let doubtful = row(&[("退款批次号/请求号", "12"), ("备注", "1.00,x")]);
    assert_eq!(read(&[&details(&[doubtful])]).unwrap_err().kind, FaultKind::Input);
    let times = "2025-11-24 09:00:00,".repeat(40);
    let zeros = "0.00,".repeat(400);
    let endless = row(&[("商品名称", &times), ("门店名称", &zeros), ("备注", &zeros)]);
    assert_eq!(read(&[&details(&[endless])]).unwrap_err().kind, FaultKind::Input);
}

#[test]
fn the_lines_are_the_same_however_the_archive_is_cut_between_them() {
    let rows = [row(&[]), refund(), row(&[("商品名称", "乌龙茶,点心")]), row(&[("业务类型", "x")])];
    for whole in [SUMS.to_owned() + &details(&rows), details(&rows) + SUMS, details(&rows)] {
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
        assert_eq!(read(&[&whole.replace("\r\n", "\n"), ""]).unwrap(), expected);
    }
}

#[test]
fn details_in_two_files_are_read_one_after_the_other() {
    let whole = details(&[row(&[])]) + SUMS + &details(&[refund()]);
    assert_eq!(read(&[&whole]).unwrap().len(), 2);
}

#[test]
fn columns_are_found_by_their_names() {
    let whole = details(&[row(&[]), refund(), row(&[("备注", "a,b"), ("商品名称", "c,d")])]);
    let turned: String = whole
        .split_inclusive("\r\n")
        .map(|line| {
            let line = line.trim_end_matches("\r\n");
            if line.starts_with('#') {
                return format!("{line}\r\n");
            }
            let mut fields: Vec<&str> = line.split(',').collect();
            fields.reverse();
            fields.join(",") + "\r\n"
        })
        .collect();
    assert_ne!(turned, whole);
    assert_eq!(read(&[&turned]).unwrap(), read(&[&whole]).unwrap());
    let narrow = whole.replace('（', "(").replace('）', ")");
    assert_eq!(read(&[&narrow]).unwrap(), read(&[&whole]).unwrap());
    let newer = whole.replace("备注", "备注,花呗分期数");
    assert!(read(&[&newer]).is_err(), "a line is shorter than its header");
}

#[test]
fn an_archive_that_is_no_whole_bill_is_refused() {
    let good = details(&[row(&[]), refund()]);
    assert_eq!(read(&[&details(&[])]).unwrap(), [], "a list without lines");
    let missing = |name: &str| good.replacen(name, "其他", 1);
    let shorter = row(&[]).rsplit_once(',').unwrap().0.to_owned() + "\r\n";
    let cut = |rows: &str| format!("{BEGIN}{HEADER}\r\n{rows}");
    let header = HEADER.to_owned() + &",x".repeat(40);
    let bad = [
        String::new(),
        "<html></html>\r\n".into(),
        "{}\r\n".into(),
        row(&[]),
        SUMS.into(),
        format!("{HEADER}\r\n{}{END}", row(&[])),
        format!("{BEGIN}{}{END}", row(&[])),
        format!("{BEGIN}{END}"),
        END.into(),
        good.replace(HEADER, &header),
        missing("支付宝交易号"),
        missing("商户订单号"),
        missing("业务类型"),
        missing("完成时间"),
        missing("订单金额（元）"),
        missing("退款批次号/请求号"),
        missing("服务费（元）"),
        good.replace(END, ""),
        cut(&row(&[])),
        cut("") + SUMS,
        cut(&row(&[])) + &details(&[refund()]),
        details(&[refund()]) + &cut(&row(&[])),
        details(&[refund()]) + &row(&[]),
        details(&[shorter]),
        details(&["2025-11-24,no,row\r\n".into()]),
        details(&[row(&[("订单金额（元）", "88.888")])]),
        details(&[row(&[("订单金额（元）", "-1.00")])]),
        details(&[row(&[("订单金额（元）", "")])]),
        details(&[row(&[("业务类型", "退款"), ("订单金额（元）", "--1.00")])]),
        details(&[row(&[("完成时间", "yesterday"), ("商品名称", "a,b")])]),
    ];
    for bad in &bad {
        assert_eq!(read(&[bad]).unwrap_err().kind, FaultKind::Input, "{bad}");
    }
    let (provider, host) = (peer::provider(), peer::host());
    let mut drive = Drive::new(&provider, &host, Operation::ReadStatement, asked());
    assert_eq!(drive.start().unwrap_err().kind, FaultKind::Input);
}

#[test]
fn what_is_not_gbk_is_refused() {
    let whole = gbk(&details(&[row(&[("商品名称", "茶")])]));
    assert!(read_bytes(std::slice::from_ref(&whole)).is_ok());
    let utf8 = details(&[row(&[])]).into_bytes();
    assert_eq!(read_bytes(&[utf8]).unwrap_err().kind, FaultKind::Input);
    let at = whole.windows(2).position(|pair| pair == gbk("茶")).unwrap();
    for bytes in [&b"\xff"[..], b"\x81\x20", b"\xfe\xff"] {
        let mut bad = whole.clone();
        bad.splice(at..at + 2, bytes.iter().copied());
        let fault = read_bytes(&[bad]).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Input);
        assert!(fault.text.contains("GBK"), "{fault}");
    }
}

/// The longest numbers that we make, and amounts of usual size.
fn real(kind: &str) -> String {
    let amount = if kind == "退款" { "-100.00" } else { "100.00" };
    row(&[
        ("商户订单号", &("9".repeat(32) + "\t")),
        ("业务类型", &format!("{kind}\t")),
        ("商品名称", "Order 7781"),
        ("订单金额（元）", amount),
        ("商家实收（元）", amount),
        ("退款批次号/请求号", &("8".repeat(32) + "\t")),
    ])
}

#[test]
fn a_long_piece_of_real_lines_fits_into_an_effect() {
    const PIECE: usize = 192 * 1024;
    const EFFECT: usize = 256 * 1024;
    for kind in ["交易", "退款"] {
        let mut piece = gbk(&format!("{BEGIN}{HEADER}\r\n"));
        let row = gbk(&real(kind));
        while piece.len() + row.len() <= PIECE {
            piece.extend(&row);
        }
        let (provider, host) = (peer::provider(), peer::host());
        let mut drive = Drive::new(&provider, &host, Operation::ReadStatement, asked());
        let done = drive.step(Event::Piece { last: false }, &piece).unwrap().done();
        let lines = done.statement.as_ref().unwrap().lines.len();
        let effect = serde_json::to_vec(&Next::Done(done)).unwrap();
        eprintln!("{kind}: {lines} lines of {} bytes make {}", row.len(), effect.len());
        assert!(lines <= 2_000 && effect.len() <= EFFECT, "{lines}: {}", effect.len());
    }
}
