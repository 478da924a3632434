//! Memory: idle, with a thousand idle connections, and under load for a while.

use std::time::{Duration, Instant};

use crate::Wish;
use crate::contenders::{Contender, Field};
use crate::load;
use crate::process::memory_kib;

/// Idle connections.
const IDLE_LINES: u64 = 1_000;
/// Payments per second while memory is watched.
const SOAK_RATE: u64 = 500;

/// One contender's memory, KiB.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Who.
    pub contender: Contender,
    /// Resident after the start.
    pub idle_rss: u64,
    /// Proportional after the start.
    pub idle_pss: u64,
    /// Resident with idle connections.
    pub lines_rss: u64,
    /// Proportional for each of them.
    pub per_line: f64,
}

/// Memory over time under load.
#[derive(Clone, Debug, Default)]
pub struct Soak {
    /// Seconds since the start, and resident KiB.
    pub samples: Vec<(f64, u64)>,
    /// Payments that were answered.
    pub payments: u64,
}

impl Soak {
    /// How much it grew in the second half, KiB for each 1,000 payments.
    pub fn growth(&self) -> f64 {
        let half = self.samples.len() / 2;
        let (Some(from), Some(to)) = (self.samples.get(half), self.samples.last()) else {
            return f64::NAN;
        };
        let payments = self.payments as f64 / 2.0;
        (to.1 as f64 - from.1 as f64) / (payments / 1_000.0)
    }
}

/// Measures everybody's idle connections, and Interlock under load.
pub async fn run(wish: &Wish, field: &Field) -> Result<(Vec<Memory>, Soak), String> {
    let mut all = Vec::new();
    for contender in field.contenders().filter(|c| !matches!(c, Contender::Direct)) {
        let running = field.start(contender)?;
        let pid = running.pid.unwrap_or_default();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (idle_rss, idle_pss) = memory_kib(pid);
        let lines = load::idle(&running.target, IDLE_LINES).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (lines_rss, lines_pss) = memory_kib(pid);
        drop(lines);
        let per_line = lines_pss.saturating_sub(idle_pss) as f64 / IDLE_LINES as f64;
        all.push(Memory { contender, idle_rss, idle_pss, lines_rss, per_line });
        eprintln!("memory of {}", contender.name());
    }
    Ok((all, soak(wish, field).await?))
}

async fn soak(wish: &Wish, field: &Field) -> Result<Soak, String> {
    let seconds = wish.soak.unwrap_or(if wish.quick { 20 } else { 600 });
    let running = field.start(Contender::Durable)?;
    let pid = running.pid.unwrap_or_default();
    let begun = Instant::now();
    let mut soak = Soak::default();
    let lasts = Duration::from_secs(seconds);
    let step = Duration::from_secs((seconds / 60).max(1));
    while begun.elapsed() < lasts {
        let heard = load::open(&running.target, 32, SOAK_RATE, step).await;
        soak.payments += heard.answered;
        soak.samples.push((begun.elapsed().as_secs_f64(), memory_kib(pid).0));
    }
    Ok(soak)
}
