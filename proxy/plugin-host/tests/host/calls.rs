//! Calls: what goes in, what comes out, and what a plugin may not do meanwhile.

use std::time::Duration;

use interlock_plugin_api::{FaultKind, Next};
use interlock_plugin_host::*;

use crate::stage::{assert_quarantined, build, envelope, host, open, secrets, step, until};

#[tokio::test]
async fn sixty_four_steps_at_once_each_get_their_own_answer() {
    let host = host(5000);
    let instance = open(&host, "parallel", "echo.c");
    let steps = (0..64_u32).map(|i| {
        let instance = instance.clone();
        tokio::spawn(async move {
            let (state, body) = (vec![i as u8; 100 + i as usize], vec![!i as u8; 1000]);
            let out = instance.step(&envelope(), &state, &body).await.unwrap();
            assert!(matches!(&out.next, Next::Done(done) if done.facts.is_empty()));
            assert_eq!((out.state, out.body), (state, body));
        })
    });
    for step in steps.collect::<Vec<_>>() {
        step.await.unwrap();
    }
    // One call opened it.
    assert_eq!(instance.generation().counters().calls, 65);
    assert_eq!(instance.account(), "acct");
    assert!(host.healthy());
}

#[tokio::test]
async fn the_largest_input_and_output_pass_and_one_byte_more_does_not() {
    let host = host(5000);
    let instance = open(&host, "caps", "echo.c");
    let (state, body) = (vec![1; 64 * 1024], vec![2; 1024 * 1024]);
    let out = instance.step(&envelope(), &state, &body).await.unwrap();
    assert_eq!((out.state.len(), out.body.len()), (state.len(), body.len()));
    for (state, body) in [(65 * 1024, 0), (0, 1024 * 1024 + 1)] {
        let error = instance.step(&envelope(), &vec![0; state], &vec![0; body]).await;
        assert!(matches!(error, Err(StepError::Fault { kind: FaultKind::Limit, .. })));
    }
    assert_eq!(instance.generation().quarantine(), None);
}

#[tokio::test]
async fn a_fault_is_answered_and_forgiven() {
    let host = host(5000);
    let instance = open(&host, "faults", "script.c");
    let fault = |kind, text: &str| Err(StepError::Fault { kind, text: text.into() });
    assert_eq!(step(&instance, b"F").await, fault(FaultKind::Input, "fixedtext"));
    assert_eq!(step(&instance, b"C").await, fault(FaultKind::Internal, ""));
    // It saw the host's refusal and gave it back.
    assert_eq!(step(&instance, b"1").await, fault(FaultKind::Limit, ""));
    let generation = instance.generation();
    assert_eq!((generation.quarantine(), generation.counters().faults), (None, 3));
    assert!(step(&instance, b"G").await.is_ok(), "a thousand log lines do no harm");
}

#[tokio::test]
async fn a_panic_disables_the_plugin_and_no_other() {
    let host = host(5000);
    let good = open(&host, "panic-good", "echo.c");
    let bad = open(&host, "panic-bad", "script.c");
    assert_eq!(step(&bad, b"P").await, Err(StepError::Panicked));
    assert_quarantined(&bad, QuarantineReason::Panicked).await;
    assert_eq!(bad.generation().counters().panics, 1);
    assert!(step(&good, b"x").await.is_ok() && host.healthy());
}

#[tokio::test]
async fn an_effect_that_cannot_be_read_disables_the_plugin() {
    let host = host(5000);
    for (letter, reason) in [
        (b"J", "a field is missing or unknown, line 1 column 18"),
        (b"N", "it is not JSON, line 1 column 2"),
        (b"E", "it is not JSON, line 1 column 0"),
        (b"2", "more than fits was put into a part, body"),
    ] {
        let name = format!("effect-{}", letter[0]);
        let flag = format!("-DTEST_VERSION=\"{}\"", letter[0]);
        let path = build(&name, "script.c", &[&flag]);
        let generation = host.load(&path, Pin::Unpinned).unwrap();
        let instance = generation.open("acct", &"".into(), secrets()).unwrap();
        let Err(StepError::BadEffect { reason: found }) = step(&instance, letter).await else {
            unreachable!("a bad effect was taken");
        };
        assert_eq!(found, reason);
        assert_quarantined(&instance, QuarantineReason::BadEffect).await;
        assert_eq!(generation.counters().bad_effects, 1);
    }
}

#[tokio::test]
async fn a_slow_call_is_counted_and_answered() {
    let host = PluginHost::new(Options { soft_ms: 10, ..Options::default() });
    let instance = open(&host, "slow", "script.c");
    assert!(step(&instance, b"S").await.is_ok());
    let counters = instance.generation().counters();
    assert_eq!((counters.soft_overruns, counters.timeouts), (1, 0));
    assert!(counters.time_us >= 30_000);
}

#[tokio::test]
async fn a_full_queue_refuses_and_runs_what_it_took() {
    let host = PluginHost::new(Options { workers: 1, queue: 2, ..Options::default() });
    let instance = open(&host, "busy", "script.c");
    let steps: Vec<_> = (0..12)
        .map(|_| {
            let instance = instance.clone();
            tokio::spawn(async move { step(&instance, b"S").await })
        })
        .collect();
    let (mut done, mut busy) = (0, 0);
    for result in steps {
        match result.await.unwrap() {
            Ok(_) => done += 1,
            Err(StepError::Busy) => busy += 1,
            Err(other) => unreachable!("{other}"),
        }
    }
    assert!((2..=3).contains(&done), "{done} were run");
    assert_eq!(done + busy, 12);
    assert_eq!(instance.generation().counters().busy, busy);
    assert!(host.healthy());
}

#[tokio::test]
async fn a_caller_that_is_gone_is_not_worked_for() {
    let host = PluginHost::new(Options { workers: 1, ..Options::default() });
    let instance = open(&host, "gone", "script.c");
    let first = tokio::spawn({
        let instance = instance.clone();
        async move { step(&instance, b"L").await }
    });
    until(|| instance.generation().counters().calls == 2).await;
    for _ in 0..5 {
        let second = step(&instance, b"S");
        let waited = tokio::time::timeout(Duration::from_millis(1), second).await;
        assert!(waited.is_err());
    }
    assert!(first.await.unwrap().is_ok());
    assert!(step(&instance, b"S").await.is_ok());
    assert_eq!(instance.generation().counters().calls, 3);
}
