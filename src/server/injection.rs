//! Panics that tests inject into a running server's threads. Only the process
//! that embeds the server can ask for one; no client can.

use crate::server::threads::Server;

/// The thread that is to panic.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The first worker.
    Worker,
    /// The acceptor.
    Acceptor,
    /// The upkeep thread.
    Upkeep,
    /// The thread that serves watchers.
    Watchers,
    /// The thread that writes log lines.
    Stderr,
}

impl Server {
    /// Makes a thread panic as soon as it looks for orders.
    #[doc(hidden)]
    pub fn inject_panic(&self, victim: Victim) {
        match victim {
            Victim::Worker => self.workers[0].inject_panic(),
            Victim::Acceptor => self.acceptor.inject_panic(),
            Victim::Watchers => self.watcher_inbox.inject_panic(),
            Victim::Stderr => self.stderr.inject_panic(),
            Victim::Upkeep => {
                if let Some(upkeep) = &self.upkeep {
                    // Fails only if it has ended.
                    let _ = upkeep.try_send(());
                }
            }
        }
    }
}
