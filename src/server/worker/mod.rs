//! A worker: one thread with one event loop and its share of the connections.

mod client_memory;
pub(super) mod event_loop;
pub(super) mod handle;
mod input;
mod parking;
mod proxy;
mod queues;
mod timeouts;
mod turns;
