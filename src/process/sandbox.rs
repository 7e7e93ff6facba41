//! The sandbox (`-o drop_privileges`): a seccomp filter of system calls. A call
//! that is not listed fails with `EPERM`; it does not kill the process. `main`
//! installs the filter for all threads once all sockets are bound.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter_all_threads,
};

use crate::process::error::ProcessError;

/// Restricts all threads to the calls in [`PERMITTED`] and
/// [`PERMITTED_ON_THIS_PROCESSOR`], and to sockets of the unix domain. Cannot be
/// undone.
///
/// # Errors
///
/// The kernel has no seccomp filters, or the processor is not supported.
pub(crate) fn enter() -> Result<(), ProcessError> {
    let refused = |error: Error| ProcessError::Sandbox(error.to_string());
    let program = program().map_err(refused)?;
    apply_filter_all_threads(&program).map_err(refused)
}

/// Builds the filter.
fn program() -> Result<BpfProgram, Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = PERMITTED
        .iter()
        .chain(PERMITTED_ON_THIS_PROCESSOR)
        .map(|call| (*call, Vec::new()))
        .collect();
    // Unix sockets only, to notify the service manager.
    rules.insert(
        libc::SYS_socket,
        vec![first_argument(libc::AF_UNIX as u64)?],
    );
    let target: TargetArch = ARCH.try_into()?;
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, denied, SeccompAction::Allow, target)?;
    Ok(BpfProgram::try_from(filter)?)
}

/// Matches a call whose first argument equals `value`.
fn first_argument(value: u64) -> Result<SeccompRule, Error> {
    let is = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?;
    Ok(SeccompRule::new(vec![is])?)
}

/// Calls permitted on every processor, with any arguments.
const PERMITTED: &[i64] = &[
    // Existing sockets, and connections accepted from them.
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_connect,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    // Files: reloading certificates and passwords, removing the pid file.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_close,
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_lseek,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_memfd_create,
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_membarrier,
    libc::SYS_get_mempolicy,
    // Threads of this process. `execve` is absent: no program can be started.
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    libc::SYS_prctl,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Signals, time, random numbers, and statistics of the process.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_prlimit64,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
];

/// Older variants of these calls, which the C library uses on x86-64.
#[cfg(target_arch = "x86_64")]
const PERMITTED_ON_THIS_PROCESSOR: &[i64] = &[
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_time,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const PERMITTED_ON_THIS_PROCESSOR: &[i64] = &[];

#[cfg(test)]
mod tests {
    use super::program;
    use std::io::ErrorKind;
    use std::net::TcpListener;
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;
    use std::thread;

    /// Uses a separate thread, because a filter cannot be removed.
    #[test]
    fn what_is_not_listed_fails_and_the_rest_goes_on() {
        let confined = || {
            let program = program().expect("a filter for this processor");
            seccompiler::apply_filter(&program).expect("a kernel with filters");
            let started = Command::new("/bin/true").status();
            let listening = TcpListener::bind("127.0.0.1:0").map_err(|error| error.kind());
            let telling = UnixDatagram::unbound();
            let memory = vec![1_u8; 10 << 20];
            let file = std::fs::read("/proc/self/stat");
            assert_eq!(listening.err(), Some(ErrorKind::PermissionDenied));
            (
                started.is_err(),
                telling.is_ok(),
                memory.len(),
                file.is_ok(),
            )
        };
        assert!(Command::new("/bin/true").status().is_ok());
        let seen = thread::spawn(confined).join().expect("it survives");
        assert_eq!(seen, (true, true, 10 << 20, true));
        assert!(Command::new("/bin/true").status().is_ok());
    }
}
