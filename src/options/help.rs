//! The texts of `-h`, `-V` and `-i`. The help text is generated from the tables
//! of `flags` and `suboptions`, so it contains no option that is not implemented:
//! test suites written for memcached search it for features to test.

use clap::{Arg, ArgAction};

use super::flags;
use super::suboptions;
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
";

/// Returns the help text (`-h`).
pub(super) fn help() -> String {
    flags::command()
        // The value is accepted and ignored; see `flag::Effect::Level`.
        .mut_arg("verbose", without_value)
        .before_help(format!(
            "{}\nA cache server, compatible with memcached {COMPATIBLE_VERSION}.",
            version_line()
        ))
        .override_usage("rustcached [options]")
        .after_help(format!("{}\n{ENVIRONMENT}", suboptions::help()))
        .help_template(TEMPLATE)
        .max_term_width(WIDTH_MAX)
        .render_help()
        .to_string()
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
