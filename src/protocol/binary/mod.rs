//! The binary protocol (doc/protocol-binary.txt): packets to requests, and
//! answers to packets. The second spelling of the same requests.

pub mod encode;

/// Bytes of the header that every packet begins with.
pub const HEADER_BYTES: usize = 24;
