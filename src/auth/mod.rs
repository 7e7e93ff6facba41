//! Authentication: lists of users and passwords, and their verification. Knows no
//! connections and no protocol. Names and passwords never appear in a log or an
//! error. The server loads the lists at its start.

mod passwords;
mod sasl;

pub use crate::auth::passwords::{LoadError, PasswordFormat, Passwords};
pub use crate::auth::sasl::{Attempt, MECHANISMS, Sasl};
