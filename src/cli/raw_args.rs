//! The arguments as typed, before anything is checked against anything
//! else. `flags` and `suboptions` fill it in; `validate` empties it. Numbers are
//! numbers here, but may still be out of range.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::error::CliError;
use super::flag::{Effect, Flag};
use super::flags::{self, FLAGS};
use super::number;
use super::tls::TypedTls;
use crate::config::Knobs;

/// A text to print instead of serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// `-h`
    Help,
    /// `-i`
    License,
    /// `-V`
    Version,
}

/// The arguments as typed; `None` and empty mean that the option was not given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RawArgs {
    pub(super) ask: Option<Ask>,
    pub(super) port: Option<i64>,
    pub(super) udp_port: Option<i64>,
    pub(super) udp_reply_limit: Option<i64>,
    pub(super) client_memory_limit: Option<i64>,
    /// `-o read_buf_mem_limit`, in MiB; 0 sets none.
    pub(super) read_buf_mem_limit: usize,
    pub(super) unix_socket: Option<PathBuf>,
    pub(super) unix_mask: Option<u32>,
    /// Each `-l` as typed, with its commas.
    pub(super) listen: Vec<String>,
    pub(super) protocol: Option<String>,
    pub(super) shutdown_command: bool,
    pub(super) daemonize: bool,
    pub(super) core_dumps: bool,
    pub(super) user: Option<String>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) memory_mib: Option<i64>,
    pub(super) no_evictions: bool,
    pub(super) connections: Option<i64>,
    pub(super) lock_memory: bool,
    pub(super) verbosity: u32,
    pub(super) growth_factor: Option<f64>,
    pub(super) chunk_size: Option<i64>,
    pub(super) delimiter: Option<String>,
    pub(super) threads: Option<i64>,
    pub(super) requests_per_event: Option<i64>,
    pub(super) no_cas: bool,
    pub(super) backlog: Option<i64>,
    pub(super) item_size: Option<i64>,
    pub(super) no_flush: bool,
    pub(super) no_dump: bool,
    pub(super) no_watch: bool,
    pub(super) sasl: bool,
    pub(super) napi_ids: Option<i64>,
    pub(super) maxconns_fast: Option<bool>,
    pub(super) hashpower: Option<i64>,
    /// Key dumps begin without OK.
    pub(super) bare_dumps: bool,
    /// Which of the kinds of eviction.
    pub(super) eviction: Option<i64>,
    /// What words set that only `stats settings` tells, or the crawler obeys.
    pub(super) knobs: Knobs,
    pub(super) idle_timeout_seconds: Option<i64>,
    pub(super) tls: TypedTls,
    pub(super) drop_privileges: bool,
    pub(super) auth_file: Option<PathBuf>,
    /// Lines about what was accepted and does nothing.
    pub(super) notices: Vec<String>,
}

impl RawArgs {
    /// Splits the arguments, the program's name first, and records each.
    pub(super) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, CliError> {
        let mut matches = flags::command()
            .try_get_matches_from(args)
            .map_err(|error| syntax(&error))?;
        let mut raw = Self::default();
        for flag in FLAGS {
            for value in given(&mut matches, flag) {
                raw.apply(flag, value)?;
            }
        }
        for extra in matches.remove_many(flags::EXTRA).into_iter().flatten() {
            let extra: OsString = extra;
            raw.note(format!("argument {extra:?} is not an option; ignored"));
        }
        Ok(raw)
    }

    /// Keeps a line for the operator, once.
    pub(super) fn note(&mut self, line: String) {
        if !self.notices.contains(&line) {
            self.notices.push(line);
        }
    }

    fn apply(&mut self, flag: &Flag, value: OsString) -> Result<(), CliError> {
        match flag.effect {
            Effect::Switch(set) | Effect::Level(set) => set(self),
            Effect::Number(set) => {
                let number = self.number(&flag.written(), &value, number::integer)?;
                set(self, number);
            }
            Effect::Size(set) => {
                let number = self.number(&flag.written(), &value, number::size)?;
                set(self, number);
            }
            Effect::Text(set) => set(self, text(flag, &value)?)?,
            Effect::Path(set) => set(self, PathBuf::from(trim(value))),
            Effect::Unavailable(missing) => {
                let option = flag.written();
                return Err(CliError::Unavailable { option, missing });
            }
        }
        Ok(())
    }

    fn number(
        &mut self,
        option: &str,
        value: &OsStr,
        read: fn(&str) -> Option<number::Read<i64>>,
    ) -> Result<i64, CliError> {
        let text = value.to_string_lossy();
        let number = read(&text).ok_or_else(|| CliError::NotANumber {
            option: option.to_owned(),
            text: text.clone().into_owned(),
        })?;
        if number.trailing {
            let value = number.value;
            self.note(format!("{option}: {text:?} is read as {value}"));
        }
        Ok(number.value)
    }
}

/// What a flag was given, in order; a switch that is on counts as one empty
/// text.
fn given(matches: &mut ArgMatches, flag: &Flag) -> Vec<OsString> {
    if flag.is_switch() {
        let times = usize::from(matches.get_flag(flag.long));
        return vec![OsString::new(); times];
    }
    let values = matches.remove_many(flag.long);
    values.into_iter().flatten().collect()
}

/// The value as text, its blanks kept: the delimiter may be one.
fn text<'a>(flag: &Flag, value: &'a OsStr) -> Result<&'a str, CliError> {
    value.to_str().ok_or_else(|| CliError::NotText {
        option: flag.written(),
    })
}

/// Takes blanks off the front: `"-s /run/x"` may come as one argument.
fn trim(value: OsString) -> OsString {
    OsString::from_vec(value.as_bytes().trim_ascii_start().to_vec())
}

/// One line for what clap has to say in several.
fn syntax(error: &clap::Error) -> CliError {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        _ => "?".to_owned(),
    };
    let option = context(ContextKind::InvalidArg);
    CliError::Syntax(match error.kind() {
        ErrorKind::UnknownArgument => format!("unrecognized option '{option}'"),
        ErrorKind::InvalidValue => format!("option '{option}' requires an argument"),
        ErrorKind::TooManyValues => format!("option '{option}' doesn't allow an argument"),
        _ => error
            .to_string()
            .lines()
            .next()
            .unwrap_or("bad command line")
            .trim_start_matches("error: ")
            .to_owned(),
    })
}
