//! Splits the command line and applies each argument.

use std::ffi::OsString;

use clap::builder::OsStringValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command};

use super::draft::Draft;
use super::error::CliError;
use super::flags::FLAGS;
use super::row::{Row, Rule};
use crate::config::Config;

/// Name under which clap keeps arguments that are not options.
const EXTRA: &str = "extra";

/// Returns the command line for clap.
pub(super) fn command() -> Command {
    let defaults = Config::default();
    Command::new("rustcached")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(true)
        .args_override_self(true)
        .args(FLAGS.iter().map(|flag| flag.arg(&defaults)))
        .mut_arg("napi-ids", |arg| arg.alias("napi_ids"))
        // memcached ignores arguments that are not options. Start scripts with
        // an empty variable rely on it.
        .arg(
            Arg::new(EXTRA)
                .num_args(0..)
                .value_parser(OsStringValueParser::new())
                .hide(true),
        )
}

impl Draft {
    /// Splits the arguments, of which the first is the program's name, and
    /// applies each, in the order of the table.
    pub(super) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Self, CliError> {
        let mut matches = command()
            .try_get_matches_from(args)
            .map_err(|error| syntax(&error))?;
        let mut draft = Self::default();
        for flag in FLAGS {
            for value in given(&mut matches, flag) {
                flag.apply(&mut draft, &flag.written(), Some(&value))?;
            }
        }
        for extra in matches.remove_many(EXTRA).into_iter().flatten() {
            let extra: OsString = extra;
            draft.note(format!("argument {extra:?} is not an option; ignored"));
        }
        Ok(draft)
    }
}

/// Returns the values of a flag in order; one empty text for a switch that is
/// given.
fn given(matches: &mut ArgMatches, flag: &Row) -> Vec<OsString> {
    if matches!(flag.rule, Rule::Nothing) {
        let times = usize::from(matches.get_flag(flag.name));
        return vec![OsString::new(); times];
    }
    let values = matches.remove_many(flag.name);
    values.into_iter().flatten().collect()
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
