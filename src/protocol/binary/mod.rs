//! The binary protocol (doc/protocol-binary.txt): parses packets to requests;
//! `encode` encodes replies.
//!
//! Which mistakes get a reply, with which status, and which close the
//! connection follows memcached 1.6.45. After an unknown opcode, parsing
//! resumes at the end of the packet as its header gives it.

pub mod encode;
pub mod header;
pub mod packet;
pub mod parse;
