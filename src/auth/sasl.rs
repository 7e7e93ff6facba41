//! SASL with the mechanism PLAIN (RFC 4616), and the file of its users. Keeps no
//! state of failed attempts.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::auth::passwords::{LoadError, PasswordFormat, Passwords};
use crate::files;

/// Names of the mechanisms, separated by spaces.
pub const MECHANISMS: &str = "PLAIN";

/// Default paths of the configuration file. The first that exists is used.
const CONF_PATHS: [&str; 2] = ["/etc/sasl/memcached.conf", "/etc/sasl2/memcached.conf"];

/// Name of the configuration file in its directory.
const CONF_NAME: &str = "memcached.conf";

/// Maximum size of a configuration file in bytes.
const CONF_MAX_BYTES: u64 = 64 * 1024;

/// Result of an attempt to authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The client is authenticated.
    Accepted,
    /// User or password is wrong.
    Refused,
    /// The mechanism is selected; the client must send its message.
    Continue,
}

/// The users of SASL.
#[derive(Debug)]
pub struct Sasl {
    users: Option<Passwords>,
}

impl Sasl {
    /// Loads the users from `users` (`MEMCACHED_SASL_PWDB`), or else from the file
    /// that the configuration `conf` names. Without either, no login succeeds.
    ///
    /// Like memcached, which opens the file at each attempt, this accepts a missing
    /// or malformed file: the list is empty until a later attempt finds a valid
    /// file. The error is returned with the list.
    pub fn load(users: Option<&Path>, conf: Option<&Path>) -> (Self, Option<LoadError>) {
        let path = match users {
            Some(path) => Some(path.to_path_buf()),
            None => find_user_file(conf),
        };
        let Some(path) = path else {
            return (Self { users: None }, None);
        };
        let users = Passwords::empty(&path, PasswordFormat::Sasl);
        let error = users.reload().err();
        (Self { users: Some(users) }, error)
    }

    /// Returns whether there are users.
    pub fn has_users(&self) -> bool {
        self.users.as_ref().is_some_and(|users| !users.is_empty())
    }

    /// Begins an attempt, with the message if the client included it.
    #[must_use]
    pub fn start(&self, mechanism: &[u8], message: &[u8]) -> Attempt {
        if !mechanism.eq_ignore_ascii_case(MECHANISMS.as_bytes()) {
            return Attempt::Refused;
        }
        if message.is_empty() {
            return Attempt::Continue;
        }
        self.verify_plain(message)
    }

    /// Continues an attempt.
    #[must_use]
    pub fn step(&self, message: &[u8]) -> Attempt {
        self.verify_plain(message)
    }

    fn verify_plain(&self, message: &[u8]) -> Attempt {
        let Some((user, password)) = parse_plain(message) else {
            return Attempt::Refused;
        };
        let Some(users) = &self.users else {
            return Attempt::Refused;
        };
        // memcached reads the file at every attempt, so a change applies at
        // once. If the file cannot be read, the users stay as they are.
        let _ = users.refresh();
        match users.verify(user, password) {
            true => Attempt::Accepted,
            false => Attempt::Refused,
        }
    }
}

/// Returns user and password of a PLAIN message. It consists of the
/// authorization identity, the user and the password, separated by NUL. The
/// identity must be empty or the user's own.
fn parse_plain(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = message.split(|byte| *byte == 0);
    let (identity, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    let rightful = identity.is_empty() || identity == user;
    let whole = parts.next().is_none() && !user.is_empty();
    (rightful && whole).then_some((user, password))
}

/// Returns the file of users that the configuration names (`sasldb_path`).
fn find_user_file(conf: Option<&Path>) -> Option<PathBuf> {
    let path = match conf {
        Some(path) if path.is_dir() => path.join(CONF_NAME),
        Some(path) => path.to_path_buf(),
        None => CONF_PATHS
            .iter()
            .map(PathBuf::from)
            .find(|path| path.is_file())?,
    };
    let mut text = Vec::new();
    let file = files::open(&path).ok()?;
    file.take(CONF_MAX_BYTES).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("sasldb_path:"))
        .map(|path| PathBuf::from(path.trim()))
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::{Attempt, Sasl, parse_plain};

    #[test]
    fn a_message_has_an_identity_a_user_and_a_password() {
        let pair = |message: &'static [u8]| parse_plain(message);
        assert_eq!(pair(b"\0user\0pass"), Some((&b"user"[..], &b"pass"[..])));
        assert_eq!(
            pair(b"user\0user\0pass"),
            Some((&b"user"[..], &b"pass"[..]))
        );
        assert_eq!(pair(b"\0user\0"), Some((&b"user"[..], &b""[..])));
        for wrong in [
            &b""[..],
            b"\0",
            b"user",
            b"\0user",
            b"\0\0pass",
            b"other\0user\0pass",
            b"\0user\0pass\0",
            b"\0user\0pa\0ss",
        ] {
            assert_eq!(parse_plain(wrong), None, "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn users_come_from_either_file_and_change_with_it() {
        let name = format!("rustcached-sasl-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let users = folder.join("users");
        std::fs::write(&users, "user:pass\n").unwrap();
        let conf = format!("mech_list: plain\nsasldb_path: {}\n", users.display());
        std::fs::write(folder.join("memcached.conf"), conf).unwrap();
        let (direct, error) = Sasl::load(Some(&users), None);
        assert!(error.is_none());
        let (by_conf, error) = Sasl::load(None, Some(&folder));
        assert!(error.is_none());
        for sasl in [&direct, &by_conf] {
            assert!(sasl.has_users());
            assert_eq!(sasl.start(b"PLAIN", b"\0user\0pass"), Attempt::Accepted);
            assert_eq!(sasl.start(b"plain", b""), Attempt::Continue);
            assert_eq!(sasl.step(b"\0user\0pass"), Attempt::Accepted);
            assert_eq!(sasl.step(b"\0user\0wrong"), Attempt::Refused);
            assert_eq!(sasl.start(b"LOGIN", b"\0user\0pass"), Attempt::Refused);
        }
        std::fs::write(&users, "user:newpass\n").unwrap();
        assert_eq!(direct.step(b"\0user\0pass"), Attempt::Refused);
        assert_eq!(direct.step(b"\0user\0newpass"), Attempt::Accepted);
        let (nobody, error) = Sasl::load(None, Some(&folder.join("none")));
        assert!(!nobody.has_users() && error.is_none());
        assert_eq!(nobody.step(b"\0user\0newpass"), Attempt::Refused);
        let late = folder.join("late");
        let (missing, error) = Sasl::load(Some(&late), None);
        assert!(!missing.has_users() && error.is_some());
        assert_eq!(missing.step(b"\0user\0pass"), Attempt::Refused);
        std::fs::write(&late, "user:pass\n").unwrap();
        assert_eq!(missing.step(b"\0user\0pass"), Attempt::Accepted);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
