//! The texts of `-h`, `-V` and `-i`. The help texts are generated from the tables
//! of `flags` and `words`, so they contain no option that is not implemented:
//! test suites written for memcached search them for features to test.

use super::flags::FLAGS;
use super::groups::{GROUPS, Group};
use super::row::{Effect, Row, Rule};
use super::words::WORDS;
use crate::config::{COMPATIBLE_VERSION, Config};

/// Width of the help texts in columns.
const WIDTH: usize = 80;

/// Column at which the texts of options begin.
const COLUMN: usize = 33;

const ENVIRONMENT: &str = "\
Environment:
  MEMCACHED_PORT_FILENAME  file that receives the ports that were bound
  MEMCACHED_SASL_PWDB      file of user:password lines for -S
  SASL_CONF_PATH           file or directory of SASL settings, whose sasldb_path
                           names that file
  RUSTCACHED_THREADS       value of --threads; each long option has such a
                           variable
";

/// Returns the short help text (`-h`): the most used options.
pub(super) fn help() -> String {
    let mut text = head();
    for group in GROUPS {
        let listed = group
            .options
            .iter()
            .filter(|listed| !listed.brief.is_empty());
        let rows = listed.filter_map(|listed| Some((row(listed.name)?, listed.brief)));
        push_group(&mut text, group, rows);
    }
    text.push_str("\n--help all lists every option, with more about each.\n");
    text
}

/// Returns the long help text (`--help all`): every option.
pub(super) fn help_all() -> String {
    let mut text = head();
    for group in GROUPS {
        let rows = group.options.iter().filter_map(|listed| row(listed.name));
        push_group(&mut text, group, rows.map(|row| (row, row.help)));
    }
    text.push_str("\nWords of -o that are accepted, without effect:\n");
    let ignored: Vec<&str> = ignored_words().map(|word| word.name).collect();
    push_wrapped(&mut text, 2, &ignored.join(" "));
    text.push('\n');
    text.push_str(ENVIRONMENT);
    text
}

/// Returns the command line with all texts, for the man page and completions.
#[cfg(test)]
pub(super) fn described() -> clap::Command {
    // The value is accepted and ignored; see `Rule::Level`.
    super::read_args::command().mut_arg("verbose", without_value)
}

/// Returns the words without help text of their own.
pub(super) fn ignored_words() -> impl Iterator<Item = &'static Row> {
    let is_there = |word: &&Row| !matches!(word.effect, Effect::Unavailable(_));
    WORDS
        .iter()
        .filter(|word| word.help.is_empty())
        .filter(is_there)
}

fn head() -> String {
    format!(
        "{}\nA cache server, compatible with memcached {COMPATIBLE_VERSION}.\n\n\
         Usage: rustcached [options]\n",
        version_line()
    )
}

/// Returns the flag or the word of this name. A test finds names that are in no
/// table.
fn row(name: &str) -> Option<&'static Row> {
    FLAGS.iter().chain(WORDS).find(|row| row.name == name)
}

/// Adds a group of options, each with its text.
fn push_group<'a>(
    text: &mut String,
    group: &Group,
    rows: impl Iterator<Item = (&'a Row, &'a str)>,
) {
    let defaults = Config::default();
    let mut rows = rows.peekable();
    if rows.peek().is_some() {
        text.push_str(&format!("\n{}:\n", group.title));
    }
    for (row, about) in rows {
        let name = shown(row);
        text.push_str(&name);
        // Two spaces keep a name and its text apart.
        if name.len() + 2 > COLUMN {
            text.push('\n');
        } else {
            text.push_str(&" ".repeat(COLUMN - name.len()));
        }
        let mut about = about.to_owned();
        // Texts of words begin with a small letter.
        if let Some(first) = about.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        if let Some(default) = row.default_of(&defaults) {
            about.push_str(&format!(" (default: {default})"));
        }
        let mut wrapped = String::new();
        push_wrapped(&mut wrapped, COLUMN, &about);
        let first = if text.ends_with('\n') { 0 } else { COLUMN };
        text.push_str(&wrapped[first..]);
    }
}

/// Returns an option as the help text names it, indented.
fn shown(row: &Row) -> String {
    let is_word = WORDS.iter().any(|word| word.name == row.name);
    let name = match row.short {
        _ if is_word => format!("  -o {}", row.name),
        Some(short) => format!("  -{short}, --{}", row.name),
        None => format!("      --{}", row.name),
    };
    match row.rule {
        Rule::Nothing | Rule::Level => name,
        _ => format!("{name}=<{}>", row.value),
    }
}

/// Adds words in lines of at most [`WIDTH`] columns that are indented so far.
fn push_wrapped(text: &mut String, indent: usize, words: &str) {
    let mut line = String::new();
    for word in words.split_whitespace() {
        if !line.is_empty() && indent + line.len() + 1 + word.len() > WIDTH {
            text.push_str(&format!("{:indent$}{line}\n", ""));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    text.push_str(&format!("{:indent$}{line}\n", ""));
}

/// Converts the flag to a switch without a value.
#[cfg(test)]
fn without_value(arg: clap::Arg) -> clap::Arg {
    clap::Arg::new("verbose")
        .long("verbose")
        .short(arg.get_short())
        .help(arg.get_help().cloned().unwrap_or_default())
        .display_order(arg.get_display_order())
        .action(clap::ArgAction::SetTrue)
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
