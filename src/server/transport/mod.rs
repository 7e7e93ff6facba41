//! Sockets: TCP, unix domain, TLS over either, and UDP.

pub(super) mod stream;
pub(super) mod tls;
pub(super) mod udp;
