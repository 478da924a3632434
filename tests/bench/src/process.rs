//! Processes as the kernel sees them: pinned to a core, their CPU time, their memory.

use std::fs;
use std::mem::{size_of, zeroed};

/// Where contenders run.
pub const CONTENDER_CPU: usize = 0;
/// Where the generator and the provider run.
pub const LOAD_CPU: usize = 1;

/// Pins this thread, and what it starts later, to one core.
pub fn pin_to(cpu: usize) {
    // SAFETY: a zeroed `cpu_set_t` is a valid empty set, and the kernel only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

/// A thousand idle connections need a file each, at both ends.
pub fn many_files() {
    // SAFETY: both calls get a valid `rlimit` of this stack.
    unsafe {
        let mut limit: libc::rlimit = zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// CPU time of a process with all its threads so far, ns.
pub fn cpu_ns(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |thread: fs::DirEntry| -> Option<u64> {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    threads.filter_map(of).sum()
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
