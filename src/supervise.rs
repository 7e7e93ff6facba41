//! A panic of a supervised thread ends the process, with a message on
//! standard error and exit code 70 (`EX_SOFTWARE` of sysexits), so that a
//! supervisor starts it anew. A server that has lost a thread serves some of
//! its clients and hangs the others, which is worse than none.
//!
//! It is done in the panic hook, before the stack unwinds: no lock of the
//! panicking thread is released with half a change under it, and no other
//! thread sees the consequences. Threads of other origin, those of an embedder
//! or of a test, keep the hook they had.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::io;
use std::panic::{self, PanicHookInfo};
use std::process;
use std::sync::Once;
use std::thread::{self, JoinHandle};

use crate::limits::LAST_WORDS_MAX_WAIT;
use crate::logging::{Stream, write_within};

/// Exit code of the process after a panic: `EX_SOFTWARE` of sysexits.
pub const EX_SOFTWARE: u8 = 70;

thread_local! {
    static SUPERVISED: Cell<bool> = const { Cell::new(false) };
}

/// Starts a supervised thread.
///
/// # Errors
/// The system has no thread to give.
pub fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    install_hook();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        SUPERVISED.set(true);
        run();
    })
}

/// Supervises the calling thread from now on.
pub fn this_thread() {
    install_hook();
    SUPERVISED.set(true);
}

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

/// Says why, for no longer than [`LAST_WORDS_MAX_WAIT`], and ends.
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
    // Another thread may be stuck in a write to the same pipe: not here.
    write_within(Stream::Error, text, LAST_WORDS_MAX_WAIT);
    process::exit(EX_SOFTWARE.into());
}
