//! Splits the command line and applies each argument.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::builder::OsStringValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command};

use super::config_file::ELSEWHERE;
use super::draft::{Ask, Draft};
use super::error::CliError;
use super::flags::FLAGS;
use super::row::{Row, Rule};
use crate::config::Config;

/// Name of the flag that names the configuration file.
const CONFIG: &str = "config";

/// Argument behind `--help` that asks for every option. The flag takes no value, as
/// in memcached.
const ALL: &str = "all";

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
    /// Applies the options of the configuration file, then those of the
    /// environment, then the arguments, of which the first is the program's name.
    /// A relative path of the file begins at `directory`.
    pub(super) fn read(
        args: impl IntoIterator<Item = OsString>,
        env: &dyn Fn(&str) -> Option<OsString>,
        directory: &Path,
    ) -> Result<Self, CliError> {
        let mut matches = command()
            .try_get_matches_from(args)
            .map_err(|error| syntax(&error))?;
        let mut draft = Self {
            directory: directory.to_owned(),
            ..Self::default()
        };
        let named = matches.get_many(CONFIG).and_then(Iterator::last);
        // An empty variable is one that is not set, as scripts write it.
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        if let Some(path) = named.cloned().or_else(|| env(&variable(CONFIG))) {
            draft.read_file(Path::new(&path), 0)?;
        }
        // Container images have variables such as RUSTCACHED_VERSION.
        let flags = FLAGS.iter().filter(|flag| !ELSEWHERE.contains(&flag.name));
        for flag in flags {
            let name = variable(flag.name);
            let Some(value) = env(&name).filter(|value| !is_of_container(value)) else {
                continue;
            };
            let apply = |draft: &mut Self| {
                let option = flag.name.to_owned();
                let value = value.to_str().ok_or(CliError::NotText { option })?;
                draft.read_arguments(flag.arguments(value)?, true)
            };
            apply(&mut draft).map_err(|fault| fault.at(name.clone()))?;
            draft.place_late_faults(|| name.clone());
        }
        draft.apply_all(&mut matches, false)?;
        Ok(draft)
    }

    /// Applies arguments, without the program's name. If they are `strict`, all
    /// must be options.
    pub(super) fn read_arguments(
        &mut self,
        arguments: Vec<OsString>,
        strict: bool,
    ) -> Result<(), CliError> {
        let arguments = std::iter::once("rustcached".into()).chain(arguments);
        let mut matches = command()
            .try_get_matches_from(arguments)
            .map_err(|error| syntax(&error))?;
        if strict && matches.contains_id(CONFIG) {
            let text = "--config belongs on the command line".to_owned();
            return Err(CliError::Syntax(text));
        }
        self.apply_all(&mut matches, strict)
    }

    /// Applies arguments in the order of the table.
    fn apply_all(&mut self, matches: &mut ArgMatches, strict: bool) -> Result<(), CliError> {
        for flag in FLAGS {
            for value in given(matches, flag) {
                flag.apply(self, &flag.written(), Some(&value))?;
            }
        }
        for extra in matches.remove_many(EXTRA).into_iter().flatten() {
            let extra: OsString = extra;
            if extra == ALL && self.ask == Some(Ask::Help) {
                self.ask = Some(Ask::HelpAll);
                continue;
            }
            let text = format!("argument {extra:?} is not an option");
            if strict {
                return Err(CliError::Syntax(text));
            }
            self.note(format!("{text}; ignored"));
        }
        Ok(())
    }
}

/// Returns the variable of the environment that sets a flag.
pub(super) fn variable(flag: &str) -> String {
    format!("RUSTCACHED_{}", flag.to_uppercase().replace('-', "_"))
}

/// Returns whether a variable is one that container engines set for a service of
/// this name, such as `RUSTCACHED_PORT=tcp://10.0.0.1:11211`.
fn is_of_container(value: &OsStr) -> bool {
    let value = value.as_encoded_bytes();
    value.starts_with(b"tcp://") || value.starts_with(b"udp://")
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
