//! Parses text and meta command lines, and encodes text replies.

pub mod ascii_auth;
mod cluster;
pub mod encode;
mod fast_path;
pub mod parse;
pub mod reply;
