//! A list of users and passwords from a file of `user:password` lines. A check
//! takes constant time: it compares all entries to their last byte.

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use crate::files::{self, FileState};
use crate::limits::{AUTH_FILE_ENTRIES_MAX, PASSWORD_LINE_MAX_BYTES, SASL_FILE_ENTRIES_MAX};

/// Format of a password file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordFormat {
    /// memcached's file for text clients (`-Y`): few entries, each line is an
    /// entry, and a password may contain colons.
    AuthFile,
    /// memcached's file for SASL (`MEMCACHED_SASL_PWDB`): many entries, and empty
    /// lines are skipped. Each colon may end the password: the text before it
    /// is accepted as well as the whole.
    Sasl,
}

/// Error of a password file. Names lines by their number, never their content.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be read.
    Read(PathBuf, io::Error),
    /// The line with this number is not of the form `user:password`.
    Malformed(PathBuf, usize),
    /// The line with this number is longer than memcached accepts.
    TooLong(PathBuf, usize),
    /// The file has more entries than this maximum.
    TooMany(PathBuf, usize),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => {
                write!(
                    f,
                    "could not read the password file {}: {error}{}",
                    path.display(),
                    files::remedy(path, error)
                )
            }
            Self::Malformed(path, line) => {
                let path = path.display();
                write!(f, "password file {path}: line {line} is not user:password")
            }
            Self::TooLong(path, line) => {
                let (path, most) = (path.display(), PASSWORD_LINE_MAX_BYTES);
                write!(
                    f,
                    "password file {path}: line {line} is longer than {most} bytes"
                )
            }
            Self::TooMany(path, most) => {
                let path = path.display();
                write!(f, "password file {path}: more than {most} entries")
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// A list of users and passwords.
pub struct Passwords {
    path: PathBuf,
    format: PasswordFormat,
    list: RwLock<Arc<List>>,
}

struct List {
    entries: Vec<Entry>,
    /// Identity of the file's content when it was read.
    state: Option<FileState>,
}

struct Entry {
    user: Box<[u8]>,
    password: Box<[u8]>,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Passwords({} entries)", self.len())
    }
}

impl Passwords {
    /// Loads a file.
    ///
    /// # Errors
    /// The file cannot be read or is malformed.
    pub fn load(path: &Path, format: PasswordFormat) -> Result<Self, LoadError> {
        Ok(Self {
            path: path.to_path_buf(),
            format,
            list: RwLock::new(Arc::new(read_list(path, format)?)),
        })
    }

    /// Creates an empty list, until [`Self::reload`] or [`Self::refresh`] reads the
    /// file.
    pub fn empty(path: &Path, format: PasswordFormat) -> Self {
        let list = List {
            entries: Vec::new(),
            state: None,
        };
        Self {
            path: path.to_path_buf(),
            format,
            list: RwLock::new(Arc::new(list)),
        }
    }

    /// Loads the file again.
    ///
    /// # Errors
    /// The file cannot be read or is malformed. The list is unchanged then.
    pub fn reload(&self) -> Result<(), LoadError> {
        let list = Arc::new(read_list(&self.path, self.format)?);
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = list;
        Ok(())
    }

    /// Loads the file again if it has changed.
    ///
    /// # Errors
    /// The file cannot be read or is malformed. The list is unchanged then.
    pub fn refresh(&self) -> Result<(), LoadError> {
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) => return Err(LoadError::Read(self.path.clone(), error)),
        };
        if self.list().state == Some(FileState::of(&metadata)) {
            return Ok(());
        }
        self.reload()
    }

    /// Returns whether the password belongs to the user.
    #[must_use]
    pub fn verify(&self, user: &[u8], password: &[u8]) -> bool {
        let list = self.list();
        let mut found = false;
        for entry in &list.entries {
            let same_user = constant_time_eq(&entry.user, user);
            let same_password = constant_time_eq(&entry.password, password);
            found |= same_user & same_password;
        }
        black_box(found)
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.list().entries.len()
    }

    /// Returns whether the list is empty: no login succeeds then.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn list(&self) -> Arc<List> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Compares in constant time: one step for each byte of the longest permitted
/// line, without an early exit.
fn constant_time_eq(known: &[u8], given: &[u8]) -> bool {
    let mut different = usize::from(known.len() != given.len());
    for at in 0..PASSWORD_LINE_MAX_BYTES {
        let known = known.get(at).copied().unwrap_or_default();
        let given = given.get(at).copied().unwrap_or_default();
        different |= usize::from(black_box(known ^ given));
        #[cfg(test)]
        tests::STEPS.set(tests::STEPS.get() + 1);
    }
    different == 0
}

fn read_list(path: &Path, format: PasswordFormat) -> Result<List, LoadError> {
    let failed = |error| LoadError::Read(path.to_path_buf(), error);
    let file = files::open(path).map_err(failed)?;
    let state = file.metadata().ok().as_ref().map(FileState::of);
    // No valid file is longer, and a wrong path must not fill memory.
    let most_bytes = (format.entries_max() + 1) * (PASSWORD_LINE_MAX_BYTES + 1);
    let mut text = Vec::new();
    file.take(most_bytes as u64)
        .read_to_end(&mut text)
        .map_err(failed)?;
    let entries = parse(&text, format).map_err(|error| error.in_file(path, format))?;
    Ok(List { entries, state })
}

impl PasswordFormat {
    fn entries_max(self) -> usize {
        match self {
            Self::AuthFile => AUTH_FILE_ENTRIES_MAX,
            Self::Sasl => SASL_FILE_ENTRIES_MAX,
        }
    }
}

/// Error of a text, with the number of its line.
#[derive(Debug, PartialEq, Eq)]
enum ParseError {
    Malformed(usize),
    TooLong(usize),
    TooMany,
}

impl ParseError {
    fn in_file(self, path: &Path, format: PasswordFormat) -> LoadError {
        let path = path.to_path_buf();
        match self {
            Self::Malformed(line) => LoadError::Malformed(path, line),
            Self::TooLong(line) => LoadError::TooLong(path, line),
            Self::TooMany => LoadError::TooMany(path, format.entries_max()),
        }
    }
}

fn parse(text: &[u8], format: PasswordFormat) -> Result<Vec<Entry>, ParseError> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let mut entries = Vec::new();
    if text.is_empty() {
        return Ok(entries);
    }
    let mut lines = 0;
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        let end = line.iter().position(|byte| *byte == b'\r');
        let line = &line[..end.unwrap_or(line.len())];
        if line.is_empty() && format == PasswordFormat::Sasl {
            continue;
        }
        if line.len() > PASSWORD_LINE_MAX_BYTES {
            return Err(ParseError::TooLong(number));
        }
        lines += 1;
        if lines > format.entries_max() {
            return Err(ParseError::TooMany);
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let Some(colon) = colon.filter(|_| !line.contains(&0)) else {
            return Err(ParseError::Malformed(number));
        };
        let (user, password) = (&line[..colon], &line[colon + 1..]);
        entries.push(Entry::new(user, password));
        if format == PasswordFormat::Sasl {
            let ends = password.iter().enumerate();
            let ends = ends.filter(|(_, byte)| **byte == b':');
            entries.extend(ends.map(|(end, _)| Entry::new(user, &password[..end])));
        }
    }
    Ok(entries)
}

impl Entry {
    fn new(user: &[u8], password: &[u8]) -> Self {
        Self {
            user: user.into(),
            password: password.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{List, PASSWORD_LINE_MAX_BYTES, ParseError, PasswordFormat, Passwords, parse};
    use std::cell::Cell;
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, RwLock};

    fn of(text: &str, format: PasswordFormat) -> Passwords {
        let entries = parse(text.as_bytes(), format).unwrap();
        let list = List {
            entries,
            state: None,
        };
        Passwords {
            path: PathBuf::new(),
            format,
            list: RwLock::new(Arc::new(list)),
        }
    }

    fn fault(text: &str, format: PasswordFormat) -> Option<ParseError> {
        parse(text.as_bytes(), format).err()
    }

    #[test]
    fn a_password_is_all_behind_the_first_colon() {
        let list = of(
            "one:pa:ss\ntwo:word\r\nthree:last",
            PasswordFormat::AuthFile,
        );
        assert!(list.verify(b"one", b"pa:ss"));
        assert!(list.verify(b"two", b"word"));
        assert!(list.verify(b"three", b"last"));
        for (user, password) in [
            ("one", "pa"),
            ("one", "word"),
            ("two", "wor"),
            ("two", "word\r"),
            ("two", "word\0"),
            ("", ""),
            ("three", ""),
            ("three", "lastx"),
        ] {
            assert!(!list.verify(user.as_bytes(), password.as_bytes()), "{user}");
        }
    }

    thread_local! {
        /// Number of bytes that this thread compared.
        pub(super) static STEPS: Cell<usize> = const { Cell::new(0) };
    }

    /// The number of compared bytes does not depend on the entry, on how much of
    /// it is right, or on whether it exists.
    #[test]
    fn cve_2026_47783_and_47784_users_and_passwords_cannot_be_timed() {
        let lines: String = (100..164)
            .map(|number| format!("{number}{}:{}\n", "u".repeat(100), "p".repeat(100)))
            .collect();
        let list = of(&lines, PasswordFormat::Sasl);
        let (user, password) = ("u".repeat(100), "p".repeat(100));
        let steps = |user: &str, password: &str| {
            let before = STEPS.get();
            let found = list.verify(user.as_bytes(), password.as_bytes());
            (found, STEPS.get() - before)
        };
        let (found, all) = steps(&format!("100{user}"), &password);
        assert!(found && all == 64 * 2 * PASSWORD_LINE_MAX_BYTES);
        assert_eq!(steps(&format!("163{user}"), &password), (true, all));
        for (user, password) in [
            (format!("100{user}"), format!("{}x", &password[1..])),
            (format!("100{user}"), format!("x{}", &password[1..])),
            (format!("100{user}"), String::new()),
            (format!("163{}", &user[1..]), password.clone()),
            ("nobody".to_owned(), password),
        ] {
            assert_eq!(steps(&user, &password), (false, all), "{user}");
        }
    }

    #[test]
    fn what_is_longer_than_any_entry_matches_none() {
        let long = "x".repeat(300);
        let list = of("user:pass\n", PasswordFormat::AuthFile);
        assert!(!list.verify(long.as_bytes(), b"pass"));
        assert!(!list.verify(b"user", long.as_bytes()));
    }

    #[test]
    fn in_a_file_for_sasl_a_colon_may_end_the_password() {
        let list = of("\nuser:pass:/home:more\n\n", PasswordFormat::Sasl);
        for password in ["pass", "pass:/home", "pass:/home:more"] {
            assert!(list.verify(b"user", password.as_bytes()), "{password}");
        }
        for password in ["pas", "pass:", "pass:/hom"] {
            assert!(!list.verify(b"user", password.as_bytes()), "{password}");
        }
    }

    #[test]
    fn faults_are_told_by_line() {
        let long = format!("a:b\nuser:{}\n", "p".repeat(251));
        let as_long_as_possible = format!("user:{}\n", "p".repeat(250));
        let nine = "user:pass\n".repeat(9);
        assert_eq!(
            fault(&long, PasswordFormat::AuthFile),
            Some(ParseError::TooLong(2))
        );
        assert_eq!(
            fault(&long, PasswordFormat::Sasl),
            Some(ParseError::TooLong(2))
        );
        assert_eq!(fault(&as_long_as_possible, PasswordFormat::AuthFile), None);
        assert_eq!(
            fault(&nine, PasswordFormat::AuthFile),
            Some(ParseError::TooMany)
        );
        assert_eq!(fault(&nine, PasswordFormat::Sasl), None);
        assert_eq!(fault(&nine[..80], PasswordFormat::AuthFile), None);
        assert_eq!(
            fault("a:b\nno colon\n", PasswordFormat::AuthFile),
            Some(ParseError::Malformed(2))
        );
        assert_eq!(
            fault("a:b\n\nc:d\n", PasswordFormat::AuthFile),
            Some(ParseError::Malformed(2))
        );
        assert_eq!(
            fault("a\0:b\n", PasswordFormat::Sasl),
            Some(ParseError::Malformed(1))
        );
        assert_eq!(fault("", PasswordFormat::AuthFile), None);
    }

    #[test]
    fn nothing_of_it_is_shown() {
        let list = of("someone:secret\n", PasswordFormat::AuthFile);
        assert_eq!(format!("{list:?}"), "Passwords(1 entries)");
        let fault = ParseError::Malformed(3).in_file(Path::new("/etc/users"), PasswordFormat::Sasl);
        let text = fault.to_string();
        assert_eq!(
            text,
            "password file /etc/users: line 3 is not user:password"
        );
    }

    #[test]
    fn a_file_is_read_again_when_it_changes_and_kept_when_it_breaks() {
        let path = std::env::temp_dir().join(format!("rustcached-auth-{}", std::process::id()));
        std::fs::write(&path, "a:1\n").unwrap();
        let list = Passwords::load(&path, PasswordFormat::AuthFile).unwrap();
        std::fs::write(&path, "a:22\nb:3\n").unwrap();
        assert!(list.verify(b"a", b"1"));
        list.refresh().unwrap();
        assert!(list.verify(b"a", b"22") && !list.verify(b"a", b"1"));
        std::fs::write(&path, "broken").unwrap();
        assert!(list.reload().is_err());
        assert!(list.verify(b"b", b"3"));
        std::fs::remove_file(&path).unwrap();
        assert!(list.refresh().is_err());
        assert!(list.verify(b"b", b"3"));
    }
}
