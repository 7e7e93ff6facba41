//! A row of the table of options: a flag, or a word of `-o`. It has the names,
//! the accepted values, the effect, the help text, and the lines of
//! `stats settings` that report the option. The rows are in `flags` and `words`.

use std::path::PathBuf;

use clap::builder::OsStringValueParser;
use clap::{Arg, ArgAction};

use super::draft::Draft;
use super::error::{CliError, Missing};
use super::report::{Current, Report, Source};
use crate::config::{Config, TlsSettings};

/// Most lines of `stats settings` that report one option.
const REPORTS_MAX: usize = 2;

/// An option.
pub(super) struct Row {
    /// Letter of a flag; `None` for words and for flags that memcached does not
    /// have.
    pub(super) short: Option<char>,
    /// Long name of a flag, without the dashes; or the word.
    pub(super) name: &'static str,
    /// Values that the option accepts.
    pub(super) rule: Rule,
    /// Name of the value in the help text.
    pub(super) value: &'static str,
    /// Help text; empty for words that are only listed.
    pub(super) help: &'static str,
    /// The default as the help text shows it.
    default: Option<fn(&Config) -> String>,
    /// Effect on the settings.
    pub(super) effect: Effect,
    /// Nothing in this server depends on the option: a notice says so.
    pub(super) ignored: bool,
    /// Lines of `stats settings`.
    pub(super) reports: [Option<Report>; REPORTS_MAX],
}

/// Kind of value of an option.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// No value. The value of a word is ignored, as in memcached.
    Nothing,
    /// No value, but one given as `--flag=text` is ignored.
    Level,
    /// A number. Text behind it is ignored with a notice.
    Integer,
    /// A number of bytes with an optional k, m or g.
    Size,
    /// A decimal fraction.
    Decimal,
    /// A number in this range.
    Range(i64, i64),
    /// A number in this range, or no value, which is 1.
    RangeOrNothing(i64, i64),
    /// A fraction above 0 and up to this maximum.
    Fraction(f64),
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A text, which may be empty.
    Text,
    /// A path.
    Path,
}

/// Effect of an option, by type of its value.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    /// None: nothing depends on the option, or it requests what is always on.
    Nothing,
    /// Of an option without a value.
    Switch(fn(&mut Draft)),
    /// Of a number.
    Number(fn(&mut Draft, i64)),
    /// Of a number that may be invalid.
    TryNumber(fn(&mut Draft, i64) -> Result<(), CliError>),
    /// Of a fraction, or of a number that may be written as one.
    Fraction(fn(&mut Draft, f64)),
    /// Of a fraction that may be invalid.
    TryFraction(fn(&mut Draft, f64) -> Result<(), CliError>),
    /// Of a text or a choice.
    Text(fn(&mut Draft, &str)),
    /// Of a text that may be invalid.
    TryText(fn(&mut Draft, &str) -> Result<(), CliError>),
    /// Of a path.
    Path(fn(&mut Draft, PathBuf)),
    /// Requests a feature of memcached that is not implemented.
    Unavailable(Missing),
}

/// Creates a flag of memcached.
pub(super) const fn flag(short: char, name: &'static str) -> Row {
    Row {
        short: Some(short),
        ..word(name)
    }
}

/// Creates a flag that memcached does not have. It has no letter: memcached may use
/// any letter in the future.
pub(super) const fn own_flag(name: &'static str) -> Row {
    word(name)
}

/// Creates a word.
pub(super) const fn word(name: &'static str) -> Row {
    Row {
        short: None,
        name,
        rule: Rule::Nothing,
        value: "",
        help: "",
        default: None,
        effect: Effect::Nothing,
        ignored: false,
        reports: [None; REPORTS_MAX],
    }
}

impl Row {
    /// Sets the kind of value, and its name in the help text.
    pub(super) const fn takes(mut self, value: &'static str, rule: Rule) -> Self {
        self.value = value;
        self.rule = rule;
        self
    }

    /// Sets the help text.
    pub(super) const fn help(mut self, help: &'static str) -> Self {
        self.help = help;
        self
    }

    /// Adds a default to the help text.
    pub(super) const fn default(mut self, default: fn(&Config) -> String) -> Self {
        self.default = Some(default);
        self
    }

    /// Sets the effect.
    pub(super) const fn sets(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    /// Lets a notice say that the option has no effect.
    pub(super) const fn ignored(mut self) -> Self {
        self.ignored = true;
        self
    }

    /// Reports the option by a line of `stats settings`.
    pub(super) const fn reports(
        self,
        name: &'static str,
        value: fn(&Current<'_>) -> String,
    ) -> Self {
        self.report(name, Source::Always(value))
    }

    /// Reports the option by a line of `stats settings` if TLS is on.
    pub(super) const fn reports_tls(
        self,
        name: &'static str,
        value: fn(&TlsSettings) -> String,
    ) -> Self {
        self.report(name, Source::WithTls(value))
    }

    const fn report(mut self, name: &'static str, value: Source) -> Self {
        let slot = match self.reports {
            [None, _] => 0,
            [_, None] => 1,
            _ => panic!("REPORTS_MAX is too low"),
        };
        self.reports[slot] = Some(Report { name, value });
        self
    }

    /// Returns the name of a flag in messages.
    pub(super) fn written(&self) -> String {
        match self.short {
            Some(short) => format!("-{short} (--{})", self.name),
            None => format!("--{}", self.name),
        }
    }

    /// Returns the default as the help text shows it.
    pub(super) fn default_of(&self, defaults: &Config) -> Option<String> {
        self.default.map(|default| default(defaults))
    }

    /// Converts a flag for clap.
    pub(super) fn arg(&self, defaults: &Config) -> Arg {
        let help = match self.default_of(defaults) {
            Some(default) => format!("{} [default: {default}]", self.help),
            None => self.help.to_owned(),
        };
        let arg = Arg::new(self.name)
            .short(self.short)
            .long(self.name)
            .help(help)
            .hide(matches!(self.effect, Effect::Unavailable(_)));
        if matches!(self.rule, Rule::Nothing) {
            return arg.action(ArgAction::SetTrue);
        }
        let arg = arg
            .action(ArgAction::Append)
            .value_parser(OsStringValueParser::new())
            .value_name(self.value);
        match self.rule {
            Rule::Level => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value(""),
            _ => arg.allow_hyphen_values(true),
        }
    }
}
