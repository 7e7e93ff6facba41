//! Text and meta command lines, and text answers.

pub mod ascii_auth;
pub mod encode;
mod fast_path;
pub mod parse;
pub mod reply;
