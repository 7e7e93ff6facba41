//! Text and meta command lines, and text answers.

pub mod ascii_auth;
pub mod encode;
pub mod parse;
mod plain;
