//! Description of a flag: names, help text, default, and effect on the raw
//! arguments. The flags are listed in `flags`.

use std::path::PathBuf;

use clap::builder::OsStringValueParser;
use clap::{Arg, ArgAction};

use super::error::{CliError, Missing};
use super::raw_args::RawArgs;
use crate::config::Config;

/// A command-line flag.
pub(super) struct Flag {
    /// Letter of the flag; `None` for options that memcached does not have.
    pub(super) short: Option<char>,
    /// Long name, without the dashes.
    pub(super) long: &'static str,
    /// Name of the value in the help text; empty for switches.
    value: &'static str,
    help: &'static str,
    /// The default as the help text shows it.
    default: Option<fn(&Config) -> String>,
    /// Kind of value, and the function that records it.
    pub(super) effect: Effect,
}

/// Kind of value of a flag, and the function that records it.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    /// Takes no value.
    Switch(fn(&mut RawArgs)),
    /// Takes no value, but ignores one given as `--flag=text`.
    Level(fn(&mut RawArgs)),
    /// Takes a number.
    Number(fn(&mut RawArgs, i64)),
    /// Takes a number of bytes with an optional k, m or g.
    Size(fn(&mut RawArgs, i64)),
    /// Takes text.
    Text(fn(&mut RawArgs, &str) -> Result<(), CliError>),
    /// Takes a path.
    Path(fn(&mut RawArgs, PathBuf)),
    /// Requests a feature of memcached that is not implemented.
    Unavailable(Missing),
}

impl Flag {
    /// Returns the name of the flag in messages.
    pub(super) fn written(&self) -> String {
        match self.short {
            Some(short) => format!("-{short} (--{})", self.long),
            None => format!("--{}", self.long),
        }
    }

    /// Returns whether the flag takes no value.
    pub(super) fn is_switch(&self) -> bool {
        self.value.is_empty() && !matches!(self.effect, Effect::Level(_))
    }

    /// Creates a flag without a default. `value` is empty for switches.
    pub(super) const fn new(
        short: char,
        long: &'static str,
        value: &'static str,
        help: &'static str,
        effect: Effect,
    ) -> Self {
        Self {
            short: Some(short),
            long,
            value,
            help,
            default: None,
            effect,
        }
    }

    /// Creates a flag without a letter, for options that memcached does not have:
    /// memcached may use any letter in the future.
    pub(super) const fn own(
        long: &'static str,
        value: &'static str,
        help: &'static str,
        effect: Effect,
    ) -> Self {
        Self {
            short: None,
            long,
            value,
            help,
            default: None,
            effect,
        }
    }

    /// Adds a default to the help text.
    pub(super) const fn default(mut self, default: fn(&Config) -> String) -> Self {
        self.default = Some(default);
        self
    }

    /// Converts the flag for clap.
    pub(super) fn arg(&self, defaults: &Config) -> Arg {
        let help = match self.default {
            Some(default) => format!("{} [default: {}]", self.help, default(defaults)),
            None => self.help.to_owned(),
        };
        let arg = Arg::new(self.long)
            .short(self.short)
            .long(self.long)
            .help(help)
            .hide(matches!(self.effect, Effect::Unavailable(_)));
        if self.is_switch() {
            return arg.action(ArgAction::SetTrue);
        }
        let arg = arg
            .action(ArgAction::Append)
            .value_parser(OsStringValueParser::new());
        match self.effect {
            Effect::Level(_) => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("")
                .value_name("ignored"),
            _ => arg.value_name(self.value).allow_hyphen_values(true),
        }
    }
}
