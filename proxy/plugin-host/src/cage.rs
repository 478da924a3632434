//! Where a plugin may compute and nothing else.
//!
//! A thread that is judged: what is not on the list is not carried out, the call answers "not
//! permitted", and its name is remembered. A process that serves: what is not on the list ends it.
//! Either cage holds for good.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicI64, Ordering};
use std::{io, mem, ptr};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Memory, locks, signals' ends, random bytes (maps are seeded by them), and the kit's own diary.
const ALLOWED: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_pwrite64,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
];

const NAMES: &[(i64, &str)] = &[
    (libc::SYS_openat, "openat (opens a file)"),
    (libc::SYS_socket, "socket (opens a connection)"),
    (libc::SYS_connect, "connect (opens a connection)"),
    (libc::SYS_clone, "clone (starts a thread or a process)"),
    (libc::SYS_clone3, "clone3 (starts a thread or a process)"),
    (libc::SYS_execve, "execve (starts a program)"),
    (libc::SYS_read, "read"),
    (libc::SYS_write, "write (prints something)"),
    (libc::SYS_writev, "writev (prints something)"),
    (libc::SYS_clock_nanosleep, "clock_nanosleep (sleeps)"),
    (libc::SYS_nanosleep, "nanosleep (sleeps)"),
    (libc::SYS_rt_sigaction, "rt_sigaction (installs a signal handler)"),
    (libc::SYS_getpid, "getpid"),
    (libc::SYS_kill, "kill (sends a signal)"),
    (libc::SYS_tgkill, "tgkill (sends a signal)"),
    (libc::SYS_statx, "statx (looks for a file)"),
];

static TRAPPED: AtomicI64 = AtomicI64::new(-1);

/// Puts this whole process into a cage from which it reaches only one socket.
///
/// # Errors
/// The system has no seccomp filters.
pub(super) fn enter_process(socket: i32) -> io::Result<()> {
    let only = || {
        let socket = u64::try_from(socket).map_err(io::Error::other)?;
        let at = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, socket);
        let rule = at.and_then(|condition| SeccompRule::new(vec![condition]));
        rule.map_err(io::Error::other)
    };
    let mut rules: BTreeMap<i64, Vec<_>> = ALLOWED.iter().map(|nr| (*nr, Vec::new())).collect();
    for nr in [libc::SYS_read, libc::SYS_write, libc::SYS_recvfrom, libc::SYS_sendto] {
        rules.insert(nr, vec![only()?]);
    }
    // An abort is a signal to oneself.
    let own = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        u64::from(std::process::id()),
    );
    let own = own.and_then(|condition| SeccompRule::new(vec![condition]));
    rules.insert(libc::SYS_tgkill, vec![own.map_err(io::Error::other)?]);
    rules.insert(libc::SYS_getpid, Vec::new());
    rules.insert(libc::SYS_gettid, Vec::new());
    // Who sleeps there delays nobody else.
    rules.insert(libc::SYS_clock_nanosleep, Vec::new());
    rules.insert(libc::SYS_nanosleep, Vec::new());
    // A call that never comes back ends the process, also when nobody is left to end it.
    rules.insert(libc::SYS_setitimer, Vec::new());
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_alarm, Vec::new());
    let filter = filter(rules, SeccompAction::KillProcess)?;
    seccompiler::apply_filter_all_threads(&filter).map_err(io::Error::other)
}

fn filter(rules: BTreeMap<i64, Vec<SeccompRule>>, other: SeccompAction) -> io::Result<BpfProgram> {
    let arch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, other, SeccompAction::Allow, arch);
    filter.and_then(TryInto::try_into).map_err(io::Error::other)
}

/// Puts this thread into the cage.
///
/// # Errors
/// The system has no seccomp filters.
pub fn enter() -> io::Result<()> {
    listen()?;
    let rules: BTreeMap<i64, Vec<_>> = ALLOWED.iter().map(|nr| (*nr, Vec::new())).collect();
    let program = filter(rules, SeccompAction::Trap)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}
/// The first call since the last look that was not carried out.
pub fn trapped() -> Option<String> {
    let nr = TRAPPED.swap(-1, Ordering::Relaxed);
    let known = NAMES.iter().find(|(number, _)| *number == nr).map(|(_, name)| (*name).to_owned());
    (nr >= 0).then(|| known.unwrap_or_else(|| format!("system call {nr}")))
}

fn listen() -> io::Result<()> {
    // SAFETY: all zero is a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = on_trap as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: a handler of the right form that only touches an atomic and its own context.
    match unsafe { libc::sigaction(libc::SIGSYS, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Remembers the call's number, and answers it with "not permitted".
extern "C" fn on_trap(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives a whole `siginfo_t`; of a SIGSYS it holds an address (8 bytes) and
    // the number after the three leading integers, which are padded to 16 bytes.
    let nr = unsafe { *info.cast::<u8>().add(24).cast::<c_int>() };
    let _ = TRAPPED.compare_exchange(-1, nr.into(), Ordering::Relaxed, Ordering::Relaxed);
    // SAFETY: the kernel gives the context that the thread goes on with.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    #[cfg(target_arch = "x86_64")]
    {
        context.uc_mcontext.gregs[libc::REG_RAX as usize] = -i64::from(libc::EPERM);
    }
    #[cfg(target_arch = "aarch64")]
    {
        context.uc_mcontext.regs[0] = (-i64::from(libc::EPERM)) as u64;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_computing_is_refused_and_named() {
        let seen = std::thread::spawn(|| {
            enter().unwrap();
            let sum: u64 = vec![1u64; 100_000].iter().sum();
            assert_eq!((sum, trapped()), (100_000, None));
            let opened = std::fs::File::open("/etc/hostname");
            let first = (opened.is_err(), trapped());
            let bound = std::net::UdpSocket::bind("127.0.0.1:0");
            let second = (bound.is_err(), trapped());
            (first, second)
        });
        let (first, second) = seen.join().unwrap();
        assert_eq!(first, (true, Some("openat (opens a file)".to_owned())));
        assert_eq!(second, (true, Some("socket (opens a connection)".to_owned())));
    }
}
