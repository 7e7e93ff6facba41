//! The binary protocol (doc/protocol-binary.txt): packets to requests, and
//! answers to packets. The second spelling of the same requests. Which
//! mistakes are answered, with which status, and after which the connection
//! ends, is memcached 1.6.45's doing and part of the contract; what follows
//! an answered mistake is found where its packet ends, as its length says.

pub mod encode;
pub mod header;
pub mod packet;
pub mod parse;
