//! Who may speak to the server: lists of users with their passwords, and
//! authentication as functions of bytes. Knows no connection and no wire
//! form; never shows a user's name or password to a log, not even on an
//! error. Loaded by the server when it starts, asked by it and its commands.

mod passwords;
mod sasl;

pub use crate::auth::passwords::{Form, LoadError, Passwords};
pub use crate::auth::sasl::{Attempt, MECHANISMS, Sasl};
