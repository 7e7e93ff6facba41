//! Meta commands (doc/protocol.txt, "Meta Commands").

pub mod encode;
pub mod key;
pub mod request;
