//! Command line: standard streams and exit codes.

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rustcached"))
        .args(args)
        .output()
        .expect("the binary runs")
}

#[test]
fn texts_go_to_standard_output_with_success() {
    for (args, part) in [
        (["-h"], "--unix-socket"),
        (["--help"], "no_drop_privileges"),
        (["-V"], "(memcached 1.6.45)"),
        (["-i"], "MIT License"),
    ] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(text.contains(part), "{args:?}: {text}");
    }
}

#[test]
fn errors_are_one_line_on_standard_error() {
    for (args, code) in [
        (["-t0"], 1),
        (["--nosuch"], 1),
        (["-I1023"], 64),
        (["-oext_path=/x"], 64),
        (["-lnosuch.invalid"], 71),
    ] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(text.lines().count(), 1, "{args:?}: {text}");
    }
}
