//! The man page and the completions in contrib are generated from the table of
//! options. With `UPDATE_GENERATED=1` in the environment, the tests write them.

use std::fs;
use std::path::Path;

use clap_complete::Shell;
use clap_mangen::Man;

use crate::options::help;
use crate::options::words::WORDS;

/// Compares a file in contrib with what it must be, or writes it.
fn compare(name: &str, wanted: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("contrib")
        .join(name);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, wanted).expect("writable");
    }
    let text = fs::read(&path).unwrap_or_default();
    assert!(
        text == wanted,
        "contrib/{name} is not up to date: run the tests with UPDATE_GENERATED=1"
    );
}

const SYNOPSIS: &str = r".SH SYNOPSIS
.B rustcached
[\fIoptions\fR]
.SH DESCRIPTION
.B rustcached
keeps items in memory and serves them to clients of memcached: over TCP, UDP and unix
sockets, in the text, meta and binary protocols. It takes the options of memcached. The
environment and a file can set them too.
";

const REST: &str = r".SH ENVIRONMENT
.TP
\fBRUSTCACHED_THREADS\fR
Value of \fB\-\-threads\fR; each long option has such a variable. Variables override the
file of \fB\-\-config\fR, and the command line overrides both.
.TP
\fBMEMCACHED_PORT_FILENAME\fR
File that receives the ports that were bound.
.TP
\fBMEMCACHED_SASL_PWDB\fR
File of user:password lines for \fB\-S\fR.
.TP
\fBSASL_CONF_PATH\fR
File or directory of SASL settings, whose \fBsasldb_path\fR names that file.
.SH FILES
.TP
.I /etc/rustcached.conf
Options of the service that the Debian package installs.
.SH SIGNALS
.TP
\fBSIGINT\fR, \fBSIGTERM\fR, \fBSIGUSR1\fR
Stop the server. Items are kept if \fB\-e\fR or \fB\-\-save\-path\fR is given.
.TP
.B SIGHUP
Read the file of \fB\-\-config\fR, certificates and passwords again, and open the log file
anew.
.SH EXIT STATUS
.TP
.B 0
A requested stop, or a successor serves.
.TP
\fB1\fR, \fB64\fR
Invalid options.
.TP
.B 70
A thread has panicked.
.TP
.B 71
An address cannot be listened on, or the system has refused something else.
.SH SEE ALSO
.BR memcached (1)
.PP
.I /usr/share/doc/rustcached/docs/operations.md
";

/// Returns the section of the man page about the words of `-o`.
fn extended_options() -> String {
    let plain = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ").replace('-', r"\-").replace('\'', r"\(aq")
    };
    let mut text = ".SH EXTENDED OPTIONS\nWords of \\fB\\-o\\fR.\n".to_owned();
    for word in WORDS.iter().filter(|word| !word.help.is_empty()) {
        let value = match word.value {
            "" => String::new(),
            value => format!("=\\fI<{value}>\\fR"),
        };
        let help = plain(word.help);
        text.push_str(&format!(".TP\n\\fB{}\\fR{value}\n{help}\n", word.name));
    }
    let ignored: Vec<&str> = help::ignored_words().map(|word| word.name).collect();
    text.push_str(".PP\nAccepted, without effect:\n");
    text.push_str(&format!("{}.\n", ignored.join(", ")));
    text
}

#[test]
fn the_man_page_is_up_to_date() {
    let about = "a cache server that speaks memcached's protocols";
    let man = Man::new(
        help::described()
            .about(about)
            .version(env!("CARGO_PKG_VERSION")),
    )
    .section("1")
    .date("")
    .manual("User Commands");
    let mut page = Vec::new();
    man.render_title(&mut page).expect("memory");
    man.render_name_section(&mut page).expect("memory");
    page.extend_from_slice(SYNOPSIS.as_bytes());
    man.render_options_section(&mut page).expect("memory");
    page.extend_from_slice(extended_options().as_bytes());
    page.extend_from_slice(REST.as_bytes());
    compare("rustcached.1", &page);
}

#[test]
fn completions_are_up_to_date() {
    let shells = [
        (Shell::Bash, "completions/rustcached.bash"),
        (Shell::Zsh, "completions/_rustcached"),
        (Shell::Fish, "completions/rustcached.fish"),
    ];
    for (shell, name) in shells {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut help::described(), "rustcached", &mut text);
        compare(name, &text);
    }
}
