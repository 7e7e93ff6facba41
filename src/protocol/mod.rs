//! The wire protocols: parses bytes to requests and encodes replies to bytes.
//!
//! Pure functions: no sockets, no clock, no counters, no unsafe code, no
//! allocation per key. Parsing a byte slice has three outcomes: a request and
//! its length, incomplete input, or a malformed line with memcached's error.

pub mod binary;
pub mod cas;
pub mod meta;
pub mod number;
pub mod proxy;
pub mod request;
mod scan;
pub mod text;
pub mod tokens;
pub mod udp;
pub mod verb;
