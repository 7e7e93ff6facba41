//! Supervised threads: a panic in one ends the process, with a message on
//! standard error and exit code 70 (`EX_SOFTWARE` of `sysexits.h`). The service
//! manager then restarts it. A server that has lost a thread would serve some
//! clients and leave the others hanging, which is worse than no server.
//!
//! The panic hook ends the process before the stack unwinds. No lock is
//! released while its data is half changed, and no other thread sees the
//! consequences. Other threads, such as those of an embedding process or a
//! test, keep the previous hook.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::io;
use std::panic::{self, PanicHookInfo};
use std::process;
use std::sync::Once;
use std::thread::{self, JoinHandle};

use crate::limits::FINAL_MESSAGE_TIMEOUT;
use crate::logging::{Stream, write_within};

/// Exit code of the process after a panic (`EX_SOFTWARE` of `sysexits.h`).
pub const EX_SOFTWARE: u8 = 70;

thread_local! {
    /// Whether the current thread is supervised.
    static SUPERVISED: Cell<bool> = const { Cell::new(false) };
}

/// Starts a supervised thread.
///
/// # Errors
/// The system cannot create a thread.
pub fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    install_hook();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        SUPERVISED.set(true);
        run();
    })
}

/// Runs `work` on up to `threads` supervised threads at the same time, one of
/// which is the calling thread. Returns when all have returned from it. If the
/// system refuses a thread, fewer do the work.
pub fn in_parallel(threads: usize, work: &(dyn Fn() + Sync)) {
    install_hook();
    thread::scope(|scope| {
        for _ in 1..threads {
            let supervised = || {
                SUPERVISED.set(true);
                work();
            };
            if thread::Builder::new()
                .spawn_scoped(scope, supervised)
                .is_err()
            {
                break;
            }
        }
        work();
    });
}

/// Supervises the calling thread from now on.
pub fn this_thread() {
    install_hook();
    SUPERVISED.set(true);
}

/// Installs the panic hook once per process.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let other = panic::take_hook();
        panic::set_hook(Box::new(move |info| match SUPERVISED.get() {
            true => end_process(info),
            false => other(info),
        }));
    });
}

/// Writes the panic message, waits at most [`FINAL_MESSAGE_TIMEOUT`] for it, and
/// ends the process.
fn end_process(info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("without a name");
    let mut text = format!(
        "rustcached: thread '{name}' {info}\nrustcached: exit with code {EX_SOFTWARE} after a \
         panic\n"
    );
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        text.push_str(&backtrace.to_string());
    }
    // Another thread may be stuck in a write to the same pipe, so wait with a
    // timeout.
    write_within(Stream::Error, text, FINAL_MESSAGE_TIMEOUT);
    process::exit(EX_SOFTWARE.into());
}
