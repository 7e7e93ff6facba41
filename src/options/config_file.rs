//! Configuration files (`--config`). A line has one option: its long name and its
//! value, or flags as on the command line.
//!
//! ```text
//! # A comment.
//! memory-limit 1024
//! listen = 127.0.0.1, [::1]
//! enable-ssl
//! idle_timeout 60
//! include /etc/rustcached.d/local.conf
//! -m 64
//! ```
//!
//! The last form is that of Debian's `/etc/memcached.conf`. Its line `logfile` and
//! its flag `-d` are ignored as there, where a script reads the file.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::Path;

use super::draft::Draft;
use super::error::CliError;
use super::flags::FLAGS;
use super::row::{Row, Rule};
use super::words::WORDS;
use crate::files;
use crate::limits::{CONFIG_FILE_MAX_BYTES, CONFIG_INCLUDES_MAX};

/// Options that make no sense in a file.
pub(super) const ELSEWHERE: [&str; 5] = ["config", "check-config", "help", "license", "version"];

impl Draft {
    /// Applies the options of a file. `depth` is the number of files that include
    /// it.
    ///
    /// # Errors
    /// The file cannot be read, or the first invalid line, with its place.
    pub(super) fn read_file(&mut self, path: &Path, depth: usize) -> Result<(), CliError> {
        let name = path.display();
        let text = read_text(&self.directory.join(path)).map_err(|error| {
            let remedy = files::remedy(path, &error);
            CliError::BadValue(format!("cannot read {name}: {error}{remedy}"))
        })?;
        // Editors of other systems begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        for (number, line) in text.lines().enumerate() {
            let place = || format!("{name}:{}", number + 1);
            self.read_line(line, path, depth)
                .map_err(|error| error.at(place()))?;
            self.place_late_faults(place);
        }
        Ok(())
    }

    fn read_line(&mut self, line: &str, file: &Path, depth: usize) -> Result<(), CliError> {
        let words = split(line)?;
        let Some(first) = words.first() else {
            return Ok(());
        };
        if first.starts_with('-') {
            let is_ignored = |word: &&String| !matches!(word.as_str(), "-d" | "-h");
            let flags: Vec<OsString> = words.iter().filter(is_ignored).map(Into::into).collect();
            if flags.len() < words.len() {
                self.note("-d and -h are ignored in a configuration file".to_owned());
            }
            return self.read_flags(flags);
        }
        let (name, value) = name_and_value(&words);
        match name {
            "logfile" => {
                self.note("logfile is ignored; use log-file".to_owned());
                Ok(())
            }
            "include" if depth >= CONFIG_INCLUDES_MAX => {
                let text = format!("more than {CONFIG_INCLUDES_MAX} files include each other");
                Err(CliError::BadValue(text))
            }
            "include" if value.is_empty() => {
                Err(CliError::Syntax("include takes a file".to_owned()))
            }
            "include" => {
                // A relative path begins where the file is.
                let folder = file.parent().unwrap_or(Path::new(""));
                self.read_file(&folder.join(value), depth + 1)
            }
            _ => self.read_named(name, &value),
        }
    }

    /// Applies an option that is given by its long name.
    fn read_named(&mut self, name: &str, value: &str) -> Result<(), CliError> {
        if let Some(word) = WORDS.iter().find(|word| word.name == name) {
            let value = match value {
                "" => String::new(),
                value => format!("={value}"),
            };
            return self.read_flags(vec!["-o".into(), format!("{}{value}", word.name).into()]);
        }
        let flag = FLAGS.iter().find(|flag| flag.name == name);
        let flag = flag.filter(|flag| !ELSEWHERE.contains(&flag.name));
        let flag = flag.ok_or_else(|| CliError::Syntax(format!("unrecognized option '{name}'")))?;
        self.read_flags(flag.arguments(value)?)
    }

    /// Applies flags as on the command line.
    fn read_flags(&mut self, flags: Vec<OsString>) -> Result<(), CliError> {
        let ask = self.ask;
        self.read_arguments(flags, true)?;
        if self.ask != ask {
            let text = "--help, -i, -V and --check-config belong on the command line".to_owned();
            return Err(CliError::Syntax(text));
        }
        Ok(())
    }
}

impl Row {
    /// Returns the arguments that give this flag a value. A switch takes yes or no,
    /// or nothing, which is yes; `verbose` also a number.
    pub(super) fn arguments(&self, value: &str) -> Result<Vec<OsString>, CliError> {
        let switch = OsString::from(format!("--{}", self.name));
        let times = match (self.rule, value) {
            (Rule::Nothing, "1") => 1,
            (Rule::Nothing, "0") => 0,
            (Rule::Nothing | Rule::Level, "" | "yes" | "on" | "true") => 1,
            (Rule::Nothing | Rule::Level, "no" | "off" | "false") => 0,
            (Rule::Level, value) if value.parse().is_ok_and(|level: usize| level <= 3) => {
                value.parse().unwrap_or(0)
            }
            (Rule::Nothing | Rule::Level, value) => {
                let text = format!("{} takes yes or no, not {value:?}", self.written());
                return Err(CliError::BadValue(text));
            }
            (_, "") => {
                let text = format!("option '{}' requires an argument", self.name);
                return Err(CliError::Syntax(text));
            }
            _ => return Ok(vec![format!("--{}={value}", self.name).into()]),
        };
        Ok(vec![switch; times])
    }
}

/// Reads a file of at most [`CONFIG_FILE_MAX_BYTES`].
fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let most = CONFIG_FILE_MAX_BYTES + 1;
    files::open(path)?.take(most).read_to_string(&mut text)?;
    if text.len() as u64 == most {
        let text = format!("it is longer than {CONFIG_FILE_MAX_BYTES} bytes");
        return Err(io::Error::other(text));
    }
    Ok(text)
}

/// Returns the name of an option, and its value, which may follow `=`.
fn name_and_value(words: &[String]) -> (&str, String) {
    let (name, first) = match words[0].split_once('=') {
        Some((name, first)) => (name, Some(first)),
        None => (&words[0][..], None),
    };
    let mut rest: Vec<&str> = words[1..].iter().map(String::as_str).collect();
    match first {
        Some("") | None => {}
        Some(first) => rest.insert(0, first),
    }
    if first.is_none() && rest.first() == Some(&"=") {
        rest.remove(0);
    } else if first.is_none()
        && let Some(value) = rest.first().and_then(|word| word.strip_prefix('='))
    {
        rest[0] = value;
    }
    (name, rest.join(" "))
}

/// Splits a line into words. Quotes keep spaces; `#` at the start of a word begins
/// a comment.
fn split(line: &str) -> Result<Vec<String>, CliError> {
    let mut words: Vec<String> = Vec::new();
    let mut characters = line.chars().peekable();
    while let Some(next) = characters.next_if(|next| next.is_whitespace()).or_else(|| {
        let next = characters.peek().copied();
        next.filter(|next| *next != '#')
    }) {
        if next.is_whitespace() {
            continue;
        }
        let mut word = String::new();
        while let Some(next) = characters.next_if(|next| !next.is_whitespace()) {
            if !matches!(next, '"' | '\'') {
                word.push(next);
                continue;
            }
            loop {
                match characters.next() {
                    Some(end) if end == next => break,
                    Some(quoted) => word.push(quoted),
                    None => return Err(CliError::Syntax("a quote has no end".to_owned())),
                }
            }
        }
        words.push(word);
    }
    Ok(words)
}
