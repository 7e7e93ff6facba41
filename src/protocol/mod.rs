//! The wire: bytes to requests and answers to bytes. Pure: no sockets, no
//! clock, no counters, no unsafe, no allocation per key. Every input is a
//! byte slice; parsing it has three outcomes: a request and the bytes used,
//! "more bytes", or a malformed line with the error that memcached gives.

pub mod binary;
pub mod meta;
pub mod number;
pub mod request;
mod scan;
pub mod text;
pub mod tokens;
pub mod udp;
pub mod verb;
