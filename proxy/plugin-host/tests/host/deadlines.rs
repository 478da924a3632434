//! Deadlines: a call that hangs costs a thread and its plugin, and nobody else.

use std::time::Instant;

use interlock_plugin_host::*;

use crate::stage::{assert_quarantined, host, open, step, until};

#[tokio::test]
async fn a_plugin_that_hangs_is_given_up_and_its_thread_replaced() {
    let host = host(250);
    let good = open(&host, "hang-good", "echo.c");
    let bad = open(&host, "hang-bad", "script.c");
    let since = Instant::now();
    assert_eq!(step(&bad, b"H").await, Err(StepError::TimedOut));
    let took = since.elapsed();
    assert!((250..3000).contains(&took.as_millis()), "{took:?}");
    assert_quarantined(&bad, QuarantineReason::TimedOut).await;
    assert_eq!(bad.generation().counters().timeouts, 1);
    let pool = host.pool();
    assert_eq!((pool.workers, pool.abandoned), (4, 1));
    assert!(step(&good, b"x").await.is_ok() && host.healthy());
}

#[tokio::test]
async fn the_third_stuck_thread_makes_the_host_unhealthy_but_not_dead() {
    let host = host(250);
    let good = open(&host, "three-good", "echo.c");
    let bad = open(&host, "three-bad", "script.c");
    let stuck = [(); 3].map(|()| {
        let bad = bad.clone();
        tokio::spawn(async move { step(&bad, b"H").await })
    });
    for step in stuck {
        assert_eq!(step.await.unwrap(), Err(StepError::TimedOut));
    }
    let pool = host.pool();
    assert_eq!((pool.workers, pool.abandoned), (3, 3));
    assert!(!host.healthy());
    assert!(step(&good, b"x").await.is_ok());
}

#[tokio::test]
async fn when_every_thread_is_stuck_callers_are_told_at_once() {
    let options = Options { workers: 1, hard_ms: 250, abandoned_max: 0, ..Options::default() };
    let host = PluginHost::new(options);
    let good = open(&host, "dead-good", "echo.c");
    let bad = open(&host, "dead-bad", "script.c");
    let generation = bad.generation().clone();
    let stuck = tokio::spawn(async move { step(&bad, b"H").await });
    until(|| generation.counters().calls == 2).await;
    // It waits behind the stuck call, and is let go with it.
    let waits = tokio::spawn({
        let good = good.clone();
        async move { step(&good, b"x").await }
    });
    assert_eq!(stuck.await.unwrap(), Err(StepError::TimedOut));
    assert_eq!(waits.await.unwrap(), Err(StepError::Busy));
    assert_eq!(step(&good, b"x").await, Err(StepError::Busy));
    assert!(!host.healthy());
}

#[tokio::test]
async fn a_thread_that_comes_back_late_joins_again() {
    let options = Options { workers: 1, hard_ms: 250, abandoned_max: 0, ..Options::default() };
    let host = PluginHost::new(options);
    let good = open(&host, "late-good", "echo.c");
    let bad = open(&host, "late-bad", "script.c");
    assert_eq!(step(&bad, b"L").await, Err(StepError::TimedOut));
    assert!(!host.healthy());
    until(|| host.healthy()).await;
    assert_eq!(host.pool().abandoned, 0);
    assert!(step(&good, b"x").await.is_ok());
    assert_quarantined(&bad, QuarantineReason::TimedOut).await;
}
