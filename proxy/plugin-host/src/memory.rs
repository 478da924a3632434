//! Keeps what is in memory out of files: no core dump, and no swap where the system lets us.

use std::mem;

/// Neither this process nor what it starts leaves a core dump.
pub fn dump_nothing() {
    // 0 forbids files alone: a pipe in `core_pattern` would be given everything. 1 forbids both
    // (core(5)).
    limit(libc::RLIMIT_CORE, 1);
}

/// Keeps this process's memory out of the swap where that is allowed: `RLIMIT_MEMLOCK` is
/// unlimited, or may be made so. Returns whether it is. Memory that was locked is not given back to
/// the system while the process runs.
pub fn swap_nothing() -> bool {
    // A bound that is reached would make later allocations fail, so it is all or nothing. A limit
    // that can't be raised stays as it is.
    limit(libc::RLIMIT_MEMLOCK, libc::RLIM_INFINITY);
    if soft_limit(libc::RLIMIT_MEMLOCK) != Some(libc::RLIM_INFINITY) {
        return false;
    }
    // Pages are locked as they are touched: what is only reserved costs nothing.
    // SAFETY: takes flags alone.
    unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) == 0 }
}

/// Sets both limits; one that can't be set protects less.
pub(super) fn limit(what: libc::__rlimit_resource_t, most: u64) {
    let limits = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: a whole struct that lives for the call.
    let _ = unsafe { libc::setrlimit(what, &raw const limits) };
}

fn soft_limit(what: libc::__rlimit_resource_t) -> Option<u64> {
    // SAFETY: all zero is a valid `rlimit`.
    let mut limits: libc::rlimit = unsafe { mem::zeroed() };
    // SAFETY: a whole struct that lives for the call.
    (unsafe { libc::getrlimit(what, &raw mut limits) } == 0).then_some(limits.rlim_cur)
}
