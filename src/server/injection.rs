//! Panics that tests inject into the threads of a running server. Only the
//! process that embeds the server can inject them, never a client.

use crate::server::threads::Server;

/// Thread that panics.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanicTarget {
    /// The first worker.
    Worker,
    /// The acceptor.
    Acceptor,
    /// The upkeep thread.
    Upkeep,
    /// The log thread, which serves watchers.
    Watchers,
    /// The thread that writes log lines.
    Stderr,
}

impl Server {
    /// Makes a thread panic at its next check for orders.
    #[doc(hidden)]
    pub fn inject_panic(&self, victim: PanicTarget) {
        match victim {
            PanicTarget::Worker => self.running.workers[0].inject_panic(),
            PanicTarget::Acceptor => {
                self.running
                    .acceptor
                    .iter()
                    .for_each(|it| it.inject_panic());
            }
            PanicTarget::Watchers => {
                let inbox = self.running.watcher_inbox.iter();
                inbox.for_each(|it| it.inject_panic());
            }
            PanicTarget::Stderr => {
                let thread = self.log_thread.iter();
                thread.for_each(|it| it.handle.inject_panic());
            }
            PanicTarget::Upkeep => {
                if let Some(upkeep) = &self.running.upkeep {
                    // Sending fails only if the thread has ended.
                    let _ = upkeep.try_send(());
                }
            }
        }
    }
}
