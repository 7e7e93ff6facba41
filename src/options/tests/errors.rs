//! Exit codes and messages of invalid command lines.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{config, error};
use crate::limits::PREFIX_LIMITS_MAX;
use crate::options::error::CliError;
use crate::options::{Invocation, parse};

#[test]
fn every_error_has_memcached_s_exit_code() {
    let cases: &[(&[&str], u8)] = &[
        (&["--nosuch"], 1),
        (&["-z"], 1),
        (&["-m"], 1),
        (&["--port"], 1),
        (&["--help=3"], 1),
        (&["-m", "abc"], 1),
        (&["-t", ""], 1),
        (&["-t", "0"], 1),
        (&["-t", "-4"], 1),
        (&["-t", "257"], 1),
        (&["-R", "0"], 1),
        (&["-c", "0"], 1),
        (&["-n", "0"], 1),
        (&["-f", "1"], 1),
        (&["-f", "x"], 1),
        (&["-D", ""], 1),
        (&["-a", "999"], 1),
        (&["-N", "0"], 1),
        (&["-o", "nosuch"], 1),
        (&["-o", "modern,nosuch=1"], 1),
        (&["-o", "hashpower=11"], 1),
        (&["-o", "hashpower=33"], 1),
        (&["-o", "hashpower=x"], 1),
        (&["-o", "idle_timeout=-1"], 1),
        (&["-o", "tail_repair_time=9"], 1),
        (&["-o", "slab_automove=3"], 1),
        (&["-o", "slab_automove_ratio=1.5"], 1),
        (&["-o", "hash_algorithm=md5"], 1),
        (&["-o", "hot_lru_pct=80"], 1),
        (&["-o", "warm_max_factor=0"], 1),
        (&["--restart-max-gap", "-1"], 1),
        (&["--drain-timeout", "soon"], 1),
        (&["-e", "/a", "--save-path", "/b"], 1),
        (&["-N", "5"], 64),
        (&["-B", "nosuch"], 64),
        (&["-S", "-B", "ascii"], 64),
        (&["-S", "-B", "auto"], 64),
        (&["-S", "-l", "proto[ascii]:127.0.0.1"], 64),
        (&["-U", "11211", "-S"], 64),
        (&["-Y", "/x", "-B", "binary"], 64),
        (&["-Y", "/x", "-l", "proto[binary]:127.0.0.1"], 64),
        (&["-S", "-Y", "/x", "-U", "11211"], 64),
        (&["-U", "70000"], 64),
        (&["--udp-reply-limit", "0"], 1),
        (&["--udp-reply-limit", "65m"], 1),
        (&["-I", "1023"], 64),
        (&["-I", "0"], 64),
        (&["-I", "-5"], 64),
        (&["-m", "8192", "-I", "1025m"], 64),
        (&["-m", "0"], 64),
        (&["-m", "-64"], 64),
        (&["-m", "99999999999999"], 64),
        (&["-p", "70000"], 64),
        (&["-p", "-2"], 64),
        (&["--prefix-limit", "user:"], 1),
        (&["--prefix-limit", "user:=0"], 1),
        (&["--prefix-limit", "user:=101%"], 1),
        (&["--prefix-limit", "user:=5m"], 1),
        (&["--prefix-limit", "user=5%"], 1),
        (&["--prefix-limit", "=5%"], 1),
        (&["--prefix-limit", "user:=5% page:=5%"], 1),
        (&["--prefix-limit", "user:=5%,page"], 1),
        (&["--prefix-limit", "user:=5%", "-D", "/"], 1),
        (&["-o", "hot_lru_pct=41"], 64),
        (&["-o", "hot_lru_pct=50,warm_lru_pct=50"], 64),
        (&["-o", "temporary_ttl=5,no_lru_maintainer"], 64),
        (&["-o", "temporary_ttl=5", "-o", "no_modern"], 64),
        (&["-l", "btls:127.0.0.1"], 71),
        (&["-l", "mtls:127.0.0.1"], 71),
        (&["-l", "proto[proxy]:127.0.0.1"], 64),
        (&["-U", "11211", "-l", "proxy:127.0.0.1"], 64),
        (&["--admin-listen", "proxy:127.0.0.1"], 1),
        (&["-l", "proxy:11211"], 71),
        (&["-l", "127.0.0.1:abc"], 71),
        (&["-l", "127.0.0.1:70000"], 71),
        (&["-l", "[::1"], 71),
        (&["-l", "proto[x]:127.0.0.1"], 71),
        (&["-l", "proto[ascii"], 71),
        (&["-l", "tag[123456789]:127.0.0.1"], 71),
        (&["-l", "tag[]:127.0.0.1"], 71),
        (&["-l", "nosuch.invalid"], 71),
    ];
    for (args, code) in cases {
        let error = error(args);
        assert_eq!(error.exit_code(), *code, "{args:?}: {error}");
        let text = error.to_string();
        assert!(
            !text.is_empty() && !text.contains('\n'),
            "{args:?}: {text:?}"
        );
    }
}

#[test]
fn only_so_many_prefixes_have_a_limit() {
    let options: Vec<String> = (0..=PREFIX_LIMITS_MAX)
        .map(|number| format!("--prefix-limit={number}:=1%"))
        .collect();
    let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
    assert_eq!(error(&options).exit_code(), 64);
    // The last one names a prefix again.
    let repeated = "--prefix-limit=0:=2%";
    *options.last_mut().expect("the last one") = repeated;
    assert_eq!(config(&options).prefix_limits.len(), PREFIX_LIMITS_MAX + 1);
}

#[test]
fn late_faults_are_reported_in_order_after_those_of_addresses() {
    let faults: [(&str, &str); 12] = [
        ("-l", "127.0.0.1:abc"),
        ("-t", "0"),
        ("-m", "0"),
        ("--udp-reply-limit", "0"),
        ("--client-memory-limit", "0"),
        ("-c", "0"),
        ("-R", "0"),
        ("-I", "0"),
        ("-D", ""),
        ("-n", "0"),
        ("-f", "1"),
        ("-N", "0"),
    ];
    for (place, (first, bad)) in faults.iter().enumerate() {
        let alone = error(&[first, bad]);
        for (second, worse) in &faults[place + 1..] {
            assert_eq!(error(&[second, worse, first, bad]), alone);
        }
        // A fault of the syntax precedes them all.
        assert_eq!(error(&[first, bad, "-a", "9"]), error(&["-a", "9"]));
    }
}

#[test]
fn errors_name_the_culprit() {
    let cases: &[(&[&str], &str)] = &[
        (&["--nosuch"], "--nosuch"),
        (&["-z"], "-z"),
        (&["-m"], "--memory-limit"),
        (&["--help=3"], "--help"),
        (
            &["-m", "abc"],
            "-m (--memory-limit) takes a number, not \"abc\"",
        ),
        (&["-o", "nosuch"], "Illegal suboption \"nosuch\""),
        (&["-p", "70000"], "Invalid port number 70000"),
        (&["-S", "-B", "auto"], "only the binary protocol"),
        (
            &["-o", "ext_path=/x"],
            "-o ext_path: this server has no flash",
        ),
        (&["-l", "127.0.0.1:abc"], "\"abc\""),
    ];
    for (args, part) in cases {
        let text = error(args).to_string();
        assert!(text.contains(part), "{args:?}: {text}");
    }
}

#[test]
fn text_must_be_utf8_but_paths_need_not() {
    let odd = OsStr::from_bytes(b"/run/\xff");
    let run = |flag: &str| {
        let args = ["rustcached".into(), flag.into(), odd.to_owned()];
        parse(args, &|_| None, Path::new(""))
    };
    let expected = CliError::NotText {
        option: "-u (--user)".to_owned(),
    };
    assert_eq!(run("-u").expect_err("not UTF-8"), expected);
    assert_eq!(expected.exit_code(), 1);
    match run("-P") {
        Ok(Invocation::Run(settings)) => {
            assert_eq!(settings.1.pid_file.as_deref(), Some(Path::new(odd)));
        }
        other => panic!("{other:?}"),
    }
}
