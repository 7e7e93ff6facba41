//! Who may speak to the server: lists of users with their passwords, and
//! authentication as functions of bytes. Knows no connection and no wire
//! form; never shows a user's name or password to a log, not even on an
//! error. Called by the command line, which loads a list, and by the server,
//! which asks it.

mod passwords;

pub use crate::auth::passwords::{Form, LoadError, Passwords};
