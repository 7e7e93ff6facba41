//! Back-pressure on the memory that clients make a worker hold.
//!
//! The worker parks the state of stalled connections, accounts for incomplete
//! input, and closes connections that exceed the limits or were cut by another
//! thread.

use crate::server::connection::state::Connection;
use crate::server::worker::event_loop::Worker;
use crate::sync::Ordering;

/// Most cut connections closed per turn of the loop.
const CLOSES_MAX: usize = 64;

impl Worker {
    /// Adapts buffer sizes to the memory that clients hold, and closes
    /// connections that other threads cut. Call it at the start of each turn.
    #[inline]
    pub(in crate::server) fn adapt_to_pressure(&mut self) {
        if self.memory.tight_checked != self.context.now.millis() {
            self.adapt();
        }
        if self.context.stalled.needs_attention(self.context.worker) {
            self.close_freed();
            self.memory.grown = true;
        }
    }

    /// Computes `tight`, and has the limits enforced at least once a second
    /// while the worker holds memory for clients.
    fn adapt(&mut self) {
        let now = self.context.now;
        self.memory.tight_checked = now.millis();
        self.memory.tight = self.context.stalled.is_tight();
        self.context.out.set_tight(self.memory.tight);
        if self.memory.is_held() && self.memory.enforced != now.second() {
            self.memory.enforced = now.second();
            self.memory.grown = true;
        }
    }

    /// Unparks a connection's state before the connection is served. Returns
    /// false if another thread freed the state; the connection is closed then.
    #[inline]
    pub(in crate::server) fn unpark(&mut self, token: usize) -> bool {
        match self.connections.get(token) {
            Some(connection) => !connection.parked || self.unpark_held(token),
            None => false,
        }
    }

    fn unpark_held(&mut self, token: usize) -> bool {
        let Some(connection) = self.connections.get_mut(token) else {
            return false;
        };
        match self.context.stalled.unpark(self.context.worker, token) {
            Some(parked) => {
                self.memory.parked -= 1;
                connection.resume(parked);
                true
            }
            None => {
                self.close(token, "error");
                false
            }
        }
    }

    /// Parks a connection's unsent output and half-received value, and accounts
    /// for the input it keeps. Call it after each turn of the connection.
    #[inline]
    pub(in crate::server) fn park(&mut self, token: usize) {
        if let Some(connection) = self.connections.get(token)
            && (connection.is_stalled() || connection.input_bytes() != connection.kept)
        {
            self.park_held(token);
        }
    }

    fn park_held(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        let (stalled, worker) = (&self.context.stalled, self.context.worker);
        let input_bytes = connection.input_bytes();
        if input_bytes != connection.kept {
            self.memory.grown |= input_bytes > connection.kept;
            self.memory.input_bytes = self.memory.input_bytes - connection.kept + input_bytes;
            connection.kept = input_bytes;
            stalled.set_input_bytes(worker, self.memory.input_bytes);
        }
        if let Some(parked) = connection.park() {
            let waiting = !connection.queued;
            stalled.park(worker, token, parked, connection.progressed, waiting);
            self.memory.parked += 1;
            self.memory.grown = true;
        }
    }

    /// Removes a connection that leaves the worker from queues and accounts,
    /// and frees its parked state.
    pub(in crate::server) fn forget(&mut self, token: usize, connection: &Connection) {
        if connection.queued {
            self.queues.remove(token);
        }
        let worker = self.context.worker;
        let context = &mut self.context;
        if connection.kept > 0 {
            self.memory.input_bytes -= connection.kept;
            let bytes = self.memory.input_bytes;
            context.stalled.set_input_bytes(worker, bytes);
        }
        if connection.parked {
            self.memory.parked -= 1;
            if let Some(parked) = context.stalled.unpark(worker, token) {
                parked.dispose(&context.store, &mut context.local);
            }
        }
    }

    /// Enforces the limits of client memory if this worker's share has grown.
    /// May close connections of this worker and free parked state of others.
    #[inline]
    pub(in crate::server) fn enforce_limits(&mut self) {
        if std::mem::take(&mut self.memory.grown) {
            self.enforce();
        }
    }

    fn enforce(&mut self) {
        let context = &mut self.context;
        let (stalled, store, local) = (&context.stalled, &context.store, &mut context.local);
        let excess = stalled.enforce_limit(store, local, context.worker);
        stalled.enforce_item_share(store, local, context.now);
        if excess > 0 {
            self.cut_input(excess);
        }
    }

    /// Closes connections with incomplete input until `excess` bytes are freed.
    /// The largest product of bytes and stall time goes first.
    fn cut_input(&mut self, excess: usize) {
        let now = self.context.now.millis();
        let mut keeping: Vec<(u128, usize, usize)> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.kept > 0)
            .map(|(token, connection)| {
                let age = now.saturating_sub(connection.progressed);
                let weight = connection.kept as u128 * u128::from(age + 1);
                (weight, token, connection.kept)
            })
            .collect();
        keeping.sort_unstable_by(|a, b| b.cmp(a));
        let mut freed = 0;
        for (_, token, bytes) in keeping {
            if freed >= excess {
                return;
            }
            freed += bytes;
            let cut = &self.context.stalled.cut_input;
            cut.fetch_add(1, Ordering::Relaxed);
            self.close(token, "error");
        }
    }

    /// Closes connections whose parked state was freed by another thread.
    fn close_freed(&mut self) {
        let (stalled, worker) = (&self.context.stalled, self.context.worker);
        let parked = self.connections.iter().filter(|(_, c)| c.parked);
        let cut = parked.filter(|(token, _)| !stalled.is_parked(worker, *token));
        let cut: Vec<usize> = cut.map(|(token, _)| token).take(CLOSES_MAX).collect();
        if cut.len() == CLOSES_MAX {
            stalled.wake_worker(worker);
        }
        for token in cut {
            self.close(token, "error");
        }
    }
}
