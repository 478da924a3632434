//! What was inside a token lives in memory alone: no file, line, metric, answer or core dump holds
//! it, whatever becomes of the payment and of the processes that had it.

use std::fs;
use std::time::Duration;

use interlock_tests::canaries::{Canaries, files};
use interlock_tests::house::{House, Plan};
use serde_json::{Value, json};

use crate::{pay, token};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn nothing_of_a_token_is_in_any_file_line_metric_or_answer() {
    let tail = "\n[telemetry]\nlog = \"trace\"\n";
    let mut house = House::with(Plan { wallets: true, tail, ..Plan::default() });
    let mut canaries = Canaries::default();
    let mut seen: Vec<(String, Vec<u8>)> = Vec::new();
    let mut ids = Vec::new();
    for fault in ["", "refuse", "hang", "error_after", "decline_soft", "garbage", "rate_limited"] {
        if !fault.is_empty() {
            house.fault("adyen-eu", "authorize", fault);
        }
        for wallet in ["apple_pay", "google_pay"] {
            let made = hidden(&house, wallet, json!({}), &mut canaries);
            let answer = pay(&house, wallet, "EUR", &made, 3);
            ids.extend(answer["id"].as_str().map(str::to_owned));
            seen.push((format!("{wallet} {fault}"), answer.body));
        }
        house.lift_faults();
    }
    for (wallet, defect) in [
        ("apple_pay", "wrong_root"),
        ("apple_pay", "flipped_data"),
        ("google_pay", "wrong_root"),
        ("google_pay", "bad_tag"),
    ] {
        let made = hidden(&house, wallet, json!({ "defect": defect }), &mut canaries);
        let answer = pay(&house, wallet, "EUR", &made, 3);
        assert_eq!(answer.status, 422, "{wallet} {defect}: {answer:?}");
        seen.push((format!("{wallet} {defect}"), answer.body));
    }
    // A plugin's process dies with a token in its hands, and the proxy with one in its memory.
    for pid in opened_in(&house) {
        signal(pid, "SEGV");
    }
    let made = hidden(&house, "apple_pay", json!({}), &mut canaries);
    house.wait_until("the wallet's process is there again", SOON, |h| {
        let answer = pay(h, "apple_pay", "EUR", &made, 3);
        answer.status == 201 || answer["reason"] == "replayed"
    });
    house.fault("adyen-eu", "authorize", "hang");
    let made = hidden(&house, "apple_pay", json!({}), &mut canaries);
    assert_eq!(pay(&house, "apple_pay", "EUR", &made, 0).status, 202);
    house.signal_proxy("ABRT");
    assert_eq!(house.wait_exit(SOON), Some(None), "it died of the signal");
    house.lift_faults();
    house.start_proxy();

    assert!(canaries.len() > 30, "{} canaries", canaries.len());
    for path in ["/metrics", "/admin/v1/status", "/admin/v1/accounts", "/admin/v1/plugins"] {
        seen.push((path.to_owned(), house.operate("GET", path, None).body));
    }
    for id in &ids {
        seen.push((format!("payment {id}"), house.payment(id).body));
        seen.push((
            format!("timeline {id}"),
            house.get(&format!("/v1/payments/{id}/timeline")).body,
        ));
    }
    files(&house.dir.path().join("data"), &mut seen);
    seen.push(("the log".to_owned(), fs::read(house.dir.path().join("interlock.log")).unwrap()));
    assert_eq!(house.stop_proxy().0, Some(0));
    files(&house.dir.path().join("data"), &mut seen);
    // The search finds what must be there.
    let known = Canaries::of("id", &ids[0]).search();
    assert!(known.places(&seen).iter().any(|place| place.contains("/data/")), "in a file");
    assert_eq!(canaries.search().leaks(&seen), Vec::<String>::new());
    let cores = fs::read_dir(house.dir.path()).unwrap().map_while(Result::ok);
    let cores: Vec<_> =
        cores.map(|e| e.file_name()).filter(|n| n.to_string_lossy().contains("core")).collect();
    assert!(cores.is_empty(), "{cores:?}");
}

#[test]
fn no_process_that_holds_a_card_may_dump_it_and_its_memory_is_locked_where_that_is_allowed() {
    let house = House::with(Plan { wallets: true, ..Plan::default() });
    let opened = opened_in(&house);
    assert_eq!(opened.len(), 2, "each wallet has a process of its own");
    let of = |pid: u32, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    for pid in opened.iter().copied().chain([house.proxy_pid()]) {
        let limits = of(pid, "limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("1"), "{core}");
        let locked = limits.lines().find(|line| line.starts_with("Max locked memory")).unwrap();
        let allowed = locked.split_whitespace().nth(3) == Some("unlimited");
        let status = of(pid, "status");
        let pages = status.lines().find(|line| line.starts_with("VmLck:")).unwrap();
        let none = pages.split_whitespace().nth(1) == Some("0");
        assert!(!allowed || !none, "{pid} may lock its memory and does not: {pages}");
    }
}

/// A token whose inside is looked for.
fn hidden(house: &House, wallet: &str, more: Value, canaries: &mut Canaries) -> Value {
    let made = token(house, wallet, "EUR", more);
    for what in ["number", "cryptogram"] {
        canaries.add(what, made["inside"][what].as_str().expect("a text"));
    }
    made["token"].clone()
}

/// The processes that wallets' plugins run in.
fn opened_in(house: &House) -> Vec<u32> {
    let parent = house.proxy_pid().to_string();
    let is_child = |pid: &u32| {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        after.split_whitespace().nth(1) == Some(&parent)
    };
    let pids = fs::read_dir("/proc").unwrap().map_while(Result::ok);
    pids.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}

fn signal(pid: u32, name: &str) {
    let arguments = [format!("-{name}"), pid.to_string()];
    let sent = std::process::Command::new("kill").args(arguments).status();
    assert!(sent.is_ok_and(|s| s.success()), "{name} is sent");
}
