//! Processes as the kernel sees them: pinned to a core, their CPU time, their memory.

use std::fs;

use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Where contenders run.
pub const CONTENDER_CPU: usize = 0;
/// Where the generator and the provider run.
pub const LOAD_CPU: usize = 1;

/// Pins this thread, and what it starts later, to one core, where there is one.
pub fn pin_to(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    let _ = sched_setaffinity(None, &set);
}

/// A thousand idle connections need a file each, at both ends.
pub fn many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// CPU time of a process with all its threads and its children's so far, ns.
pub fn cpu_ns(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |thread: fs::DirEntry| -> u64 {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let own = text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        own + children.map(cpu_ns).sum::<u64>()
    };
    threads.map(of).sum()
}

/// Memory of a process: resident and proportional, KiB.
pub fn memory_kib(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    (line("Rss:").unwrap_or(0), line("Pss:").unwrap_or(0))
}
