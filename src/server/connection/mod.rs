//! One connection: its state, and serving its input, on any transport.
//! Datagrams are served here as well.

pub(super) mod ascii_auth;
pub(super) mod batch;
pub(super) mod budget;
pub(super) mod context;
pub(super) mod datagram;
pub(super) mod log;
pub(super) mod outcome;
pub(super) mod sasl_guard;
pub(super) mod serve;
pub(super) mod state;
pub(super) mod timing;
