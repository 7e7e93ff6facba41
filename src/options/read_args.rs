//! Splits the command line and records each argument.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::error::CliError;
use super::flag::{Effect, Flag};
use super::flags::{self, FLAGS};
use super::number;
use super::raw_args::RawArgs;

impl RawArgs {
    /// Splits the arguments, of which the first is the program's name, and
    /// records each.
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

/// Returns the values of a flag in order; one empty text for a switch that is
/// given.
fn given(matches: &mut ArgMatches, flag: &Flag) -> Vec<OsString> {
    if flag.is_switch() {
        let times = usize::from(matches.get_flag(flag.long));
        return vec![OsString::new(); times];
    }
    let values = matches.remove_many(flag.long);
    values.into_iter().flatten().collect()
}

/// Returns the value as text with its spaces: the delimiter may be a space.
fn text<'a>(flag: &Flag, value: &'a OsStr) -> Result<&'a str, CliError> {
    value.to_str().ok_or_else(|| CliError::NotText {
        option: flag.written(),
    })
}

/// Removes leading spaces: `"-s /run/x"` may arrive as one argument.
fn trim(value: OsString) -> OsString {
    OsString::from_vec(value.as_bytes().trim_ascii_start().to_vec())
}

/// Converts clap's error of several lines into one line.
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
