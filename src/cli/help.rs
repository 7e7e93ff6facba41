//! The texts that are printed instead of serving: help, version, licence.
//! The help comes from the tables of `flags` and `words`, so an option that
//! this server lacks cannot be in it: test suites written for memcached look
//! there for what they may try.

use clap::{Arg, ArgAction};

use super::flags;
use super::suboptions;
use crate::config::COMPATIBLE_VERSION;

/// Columns of the help text at most; a narrower terminal gets less.
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

/// The help text (`-h`).
pub(super) fn help() -> String {
    flags::command()
        // Takes a text only to put up with it; see `flag::Effect::Level`.
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

/// The same flag as a plain switch.
fn without_value(arg: Arg) -> Arg {
    Arg::new("verbose")
        .long("verbose")
        .short(arg.get_short())
        .help(arg.get_help().cloned().unwrap_or_default())
        .display_order(arg.get_display_order())
        .action(ArgAction::SetTrue)
}

/// Our version, then the one scripts look for (`-V`).
pub(super) fn version() -> String {
    format!("{} (memcached {COMPATIBLE_VERSION})\n", version_line())
}

/// The licence (`-i`).
pub(super) fn license() -> String {
    format!("{}\n\n{}", version_line(), include_str!("../../LICENSE"))
}

fn version_line() -> String {
    format!("rustcached {}", env!("CARGO_PKG_VERSION"))
}
