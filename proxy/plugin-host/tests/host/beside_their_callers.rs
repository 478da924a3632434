//! Quick calls run on their caller's thread, and a hang there blocks nobody.

use std::sync::Arc;

use interlock_plugin_host::*;

use crate::stage::{assert_quarantined, envelope, open, step, until};

/// Runs on a thread of a runtime of two, of which one is to spare.
fn on_two_threads(work: impl Future<Output = ()> + Send + 'static) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::spawn(work).await }).unwrap();
    // A thread may be stuck for good.
    runtime.shutdown_background();
}

fn host() -> Arc<PluginHost> {
    PluginHost::new(Options { workers: 1, hard_ms: 250, beside: 1, ..Options::default() })
}

#[test]
fn a_call_that_hangs_leaves_everybody_else_a_thread() {
    on_two_threads(async {
        let host = host();
        let good = open(&host, "beside-good", "echo.c");
        let bad = open(&host, "beside-bad", "script.c");
        let stuck = tokio::spawn({
            let bad = bad.clone();
            async move { step(&bad, b"H").await }
        });
        until(|| bad.generation().counters().calls == 2).await;
        // It is not given up yet, and the runtime goes on.
        assert!(step(&good, b"x").await.is_ok());
        assert_eq!(bad.generation().quarantine(), None);
        assert_eq!(stuck.await.unwrap(), Err(StepError::TimedOut));
        assert_quarantined(&bad, QuarantineReason::TimedOut).await;
        // The pool's own thread was not the one.
        let pool = host.pool();
        assert_eq!((pool.workers, pool.running, pool.abandoned), (1, 0, 1));
        for _ in 0..100 {
            assert!(step(&good, b"x").await.is_ok());
        }
        assert!(host.healthy());
    });
}

#[test]
fn a_thread_that_comes_back_late_is_used_again() {
    on_two_threads(async {
        let host = host();
        let good = open(&host, "back-good", "echo.c");
        for _ in 0..2 {
            let late = open(&host, "back-late", "script.c");
            assert_eq!(step(&late, b"L").await, Err(StepError::TimedOut));
            until(|| host.pool().abandoned == 0).await;
        }
        assert!(step(&good, b"x").await.is_ok());
        assert!(host.healthy());
    });
}

#[test]
fn hundreds_of_calls_at_once_each_get_their_own_answer() {
    on_two_threads(async {
        let host = host();
        let instance = open(&host, "beside-parallel", "echo.c");
        let steps = (0..400_u32).map(|i| {
            let instance = instance.clone();
            tokio::spawn(async move {
                let body = i.to_be_bytes();
                let out = instance.step(&envelope(), b"", &body).await.unwrap();
                assert_eq!(out.body, body);
            })
        });
        for step in steps.collect::<Vec<_>>() {
            step.await.unwrap();
        }
        assert_eq!(instance.generation().counters().calls, 401);
    });
}
