//! Sockets: TCP, TLS over TCP, unix domain, and UDP.

pub(super) mod stream;
pub(super) mod tls;
pub(super) mod udp;
