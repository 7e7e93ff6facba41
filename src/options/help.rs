//! The texts of `-h`, `-V` and `-i`. The help text is generated from the tables
//! of `flags` and `words`, so it contains no option that is not implemented:
//! test suites written for memcached search it for features to test.

use clap::{Arg, ArgAction, Command};

use super::read_args;
use super::row::Effect;
use super::words::WORDS;
use crate::config::COMPATIBLE_VERSION;

/// Maximum width of the help text in columns; a narrower terminal reduces it.
const WIDTH_MAX: usize = 100;

const TEMPLATE: &str = "\
{before-help}{usage-heading} {usage}

{all-args}{after-help}
";

const ENVIRONMENT: &str = "\
Environment:
  MEMCACHED_PORT_FILENAME  file that receives the ports that were bound
  MEMCACHED_SASL_PWDB      file of user:password lines for -S
  SASL_CONF_PATH           file or directory of SASL settings, whose sasldb_path names that file
  RUSTCACHED_THREADS       value of --threads; each long option has such a variable
";

/// Returns the help text (`-h`).
pub(super) fn help() -> String {
    described().render_help().to_string()
}

/// Returns the command line with all texts, for the help text, the man page and
/// completions.
pub(super) fn described() -> Command {
    read_args::command()
        // The value is accepted and ignored; see `Rule::Level`.
        .mut_arg("verbose", without_value)
        .before_help(format!(
            "{}\nA cache server, compatible with memcached {COMPATIBLE_VERSION}.",
            version_line()
        ))
        .override_usage("rustcached [options]")
        .after_help(format!("{}\n{ENVIRONMENT}", words()))
        .help_template(TEMPLATE)
        .max_term_width(WIDTH_MAX)
}

/// Returns the part of the help text about words.
fn words() -> String {
    let mut text = String::from("Extended options (-o):\n");
    for word in WORDS.iter().filter(|word| !word.help.is_empty()) {
        let name = match word.value {
            "" => word.name.to_owned(),
            value => format!("{}=<{value}>", word.name),
        };
        text.push_str(&format!("  {name:<24} {}\n", word.help));
    }
    text.push_str("  Accepted, without effect:\n");
    let ignored = WORDS
        .iter()
        .filter(|word| word.help.is_empty() && !matches!(word.effect, Effect::Unavailable(_)));
    let mut line = String::new();
    for word in ignored {
        if line.len() + word.name.len() > 70 {
            text.push_str(&format!("   {line}\n"));
            line.clear();
        }
        line.push(' ');
        line.push_str(word.name);
    }
    text.push_str(&format!("   {line}\n"));
    text
}

/// Converts the flag to a switch without a value.
fn without_value(arg: Arg) -> Arg {
    Arg::new("verbose")
        .long("verbose")
        .short(arg.get_short())
        .help(arg.get_help().cloned().unwrap_or_default())
        .display_order(arg.get_display_order())
        .action(ArgAction::SetTrue)
}

/// Returns this server's version, then the memcached version that scripts
/// search for (`-V`).
pub(super) fn version() -> String {
    format!("{} (memcached {COMPATIBLE_VERSION})\n", version_line())
}

/// Returns the licence (`-i`).
pub(super) fn license() -> String {
    format!("{}\n\n{}", version_line(), include_str!("../../LICENSE"))
}

fn version_line() -> String {
    format!("rustcached {}", env!("CARGO_PKG_VERSION"))
}
