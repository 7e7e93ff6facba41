//! Configuration files and the environment.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use super::wildcards;
use crate::config::{Config, Process};
use crate::limits::{CONFIG_FILE_MAX_BYTES, CONFIG_INCLUDES_MAX};
use crate::options::flags::FLAGS;
use crate::options::row::Rule;
use crate::options::{CliError, Invocation, parse};

/// A folder with configuration files.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Self {
        static CREATED: AtomicUsize = AtomicUsize::new(0);
        let (id, number) = (std::process::id(), CREATED.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(format!("rustcached-options-{id}-{number}"));
        fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }

    /// Writes a file and returns its path.
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("writable");
        path.to_str().expect("plain").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read(
    args: &[&str],
    variables: &'static [(&'static str, &'static str)],
) -> Result<(Config, Process), CliError> {
    let args = std::iter::once("rustcached").chain(args.iter().copied());
    let env = |name: &str| {
        let found = variables.iter().find(|(its, _)| *its == name);
        found.map(|(_, value)| OsString::from(value))
    };
    match parse(args.map(OsString::from), &env, Path::new(""))? {
        Invocation::Run(settings) => Ok(*settings),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_path_of_a_daemon_is_completed() {
    let paths = FLAGS.iter().filter(|flag| matches!(flag.rule, Rule::Path));
    let flags = paths.filter(|flag| flag.name != "config");
    let flags = flags.map(|flag| vec![format!("--{}=x", flag.name)]);
    let others = [
        vec!["-l", "unix:x"],
        vec!["--admin-listen", "unix:x"],
        vec!["-Z", "-o", "ssl_chain_cert=x,ssl_key=y,ssl_ca_cert=z"],
    ];
    let others = others.map(|words| words.iter().map(|word| (*word).to_owned()).collect());
    for words in flags.chain(others) {
        let of = |directory: &str, daemon: bool| {
            let args = std::iter::once("rustcached".to_owned()).chain(words.clone());
            let args = args
                .chain(daemon.then(|| "-d".to_owned()))
                .map(OsString::from);
            let parsed = parse(args, &|_| None, Path::new(directory));
            format!("{parsed:?}")
        };
        assert_eq!(of("/there", false), of("", false), "{words:?}");
        let completed = of("/there", true);
        let relative = [r#""x""#, r#""y""#, r#""z""#];
        for path in relative.iter().filter(|path| of("", true).contains(**path)) {
            assert!(!completed.contains(path), "{words:?}: {completed}");
        }
        assert!(
            completed.contains(r#""/there/x""#),
            "{words:?}: {completed}"
        );
    }
}

fn of_file(text: &str) -> Result<(Config, Process), CliError> {
    let folder = Folder::create();
    let path = folder.write("conf", text);
    read(&["--config", &path], &[])
}

/// Reads a file and returns the message for its fault, without the folder.
fn fault(text: &str) -> String {
    let error = of_file(text).expect_err("an invalid file").to_string();
    error.rsplit_once("/conf").expect("a place").1.to_owned()
}

#[test]
fn long_names_flags_and_words_are_options() {
    let (config, process) = of_file(
        "# A comment.\n\
         memory-limit 1024\n\
         \tthreads = 8   # of 16\n\
         conn-limit=77\n\
         listen-backlog =512\n\
         verbose 2\n\
         disable-cas\n\
         disable-watch yes\n\
         disable-dumping no\n\
         idle_timeout 60\n\
         no_maxconns_fast\n\
         extended eviction=clock,bare_dumps\n\
         auth-file \"/etc/our passwords\"\n\
         prefix-delimiter '#'\n\
         -I 2m -R 9\n\
         daemon\n",
    )
    .expect("valid");
    assert_eq!(config.max_memory, 1 << 30);
    let numbers = (config.threads, config.max_connections, config.backlog);
    assert_eq!(numbers, (8, 77, 512));
    assert_eq!(config.verbosity, 2);
    assert!(!config.cas && !config.watch && config.dump && !config.maxconns_fast);
    let idle = config.idle_timeout.expect("set");
    assert_eq!(idle.as_secs(), 60);
    assert!(config.bare_dumps && process.daemonize);
    assert_eq!(config.auth_file, Some("/etc/our passwords".into()));
    assert_eq!(config.prefix_delimiter, b'#');
    assert_eq!(
        (config.max_item_size, config.requests_per_event),
        (2 << 20, 9)
    );
}

#[test]
fn debian_s_file_of_memcached_is_understood() {
    let (config, process) = of_file(
        "# Run memcached as a daemon.\n-d\n\nlogfile /var/log/memcached.log\n\n# -v\n\
         -m 64\n-p 11212\n-u memcache\n-l 127.0.0.1\n-l ::1\n# -c 1024\n\
         -P /var/run/memcached/memcached.pid\n",
    )
    .expect("valid");
    assert!(!process.daemonize);
    assert_eq!(process.user.as_deref(), Some("memcache"));
    let pid_file = process.pid_file.expect("named");
    assert_eq!(pid_file, PathBuf::from("/var/run/memcached/memcached.pid"));
    assert_eq!(config.listeners.len(), 2);
    assert_eq!((config.max_memory, config.log_file), (64 << 20, None));
    let notices = process.notices.join("\n");
    assert!(
        notices.contains("logfile") && notices.contains("-d"),
        "{notices}"
    );
}

#[test]
fn faults_have_file_and_line() {
    let cases = [
        (
            "\nthread 4\nbogus 7\n",
            ":3: unrecognized option 'bogus' (see --help)",
        ),
        ("threads\n", ":1: option 'threads' requires an argument"),
        (
            "threads four\n",
            ":1: -t (--threads) takes a number, not \"four\"",
        ),
        (
            "# x\nthreads 0\n",
            ":2: Number of threads must be greater than 0",
        ),
        (
            "disable-cas maybe\n",
            ":1: -C (--disable-cas) takes yes or no, not \"maybe\"",
        ),
        (
            "verbose 9\n",
            ":1: -v (--verbose) takes yes or no, not \"9\"",
        ),
        (
            "-m 64 rest\n",
            ":1: argument \"rest\" is not an option (see --help)",
        ),
        ("-q\n", ":1: unrecognized option '-q' (see --help)"),
        ("user \"me\n", ":1: a quote has no end (see --help)"),
        (
            "config /etc/x\n",
            ":1: unrecognized option 'config' (see --help)",
        ),
        (
            "-V\n",
            ":1: --help, -i, -V and --check-config belong on the command line (see --help)",
        ),
        (
            "version\n",
            ":1: unrecognized option 'version' (see --help)",
        ),
        (
            "ext_path=/x:1g\n",
            ":1: -o ext_path: this server has no flash storage; leave the option out",
        ),
        ("idle_timeout x\n", ":1: "),
    ];
    for (text, want) in cases {
        let text = text.replace("thread 4\n", "threads 4\n");
        let got = fault(&text);
        assert!(got.starts_with(want), "{text:?}: {got}");
    }
    let missing = read(&["--config=/nowhere/conf"], &[]).expect_err("no file");
    assert!(
        missing
            .to_string()
            .starts_with("cannot read /nowhere/conf: ")
    );
    assert_eq!(missing.exit_code(), 1);
}

#[test]
fn files_include_others_to_a_limit() {
    let folder = Folder::create();
    let main = folder.write("main", "include rest/one\nthreads 3\n");
    fs::create_dir_all(folder.0.join("rest")).expect("a folder");
    folder.write("rest/one", "include two\nthreads 2\nmemory-limit 100\n");
    folder.write("rest/two", "memory-limit 50\nconn-limit 5\n");
    let (config, _) = read(&["--config", &main], &[]).expect("valid");
    let numbers = (config.threads, config.max_memory, config.max_connections);
    assert_eq!(numbers, (3, 100 << 20, 5));
    let endless = folder.write("endless", "include endless\n");
    let error = read(&["--config", &endless], &[]).expect_err("endless");
    let want = format!("more than {CONFIG_INCLUDES_MAX} files include each other");
    assert!(error.to_string().contains(&want), "{error}");
    folder.write("rest/two", "threads x\n");
    let error = read(&["--config", &main], &[]).expect_err("invalid");
    assert!(error.to_string().contains("rest/two:1: "), "{error}");
}

#[test]
fn arguments_override_the_environment_which_overrides_the_file() {
    let folder = Folder::create();
    let path = folder.write("conf", "threads 2\nconn-limit 20\nmemory-limit 20\n");
    let variables = &[
        ("RUSTCACHED_CONN_LIMIT", "30"),
        ("RUSTCACHED_MEMORY_LIMIT", "30"),
    ];
    let (config, _) = read(&["--config", &path, "-m", "40"], variables).expect("valid");
    let numbers = (config.threads, config.max_connections, config.max_memory);
    assert_eq!(numbers, (2, 30, 40 << 20));
}

#[test]
fn the_environment_sets_flags() {
    let variables = &[
        ("RUSTCACHED_DISABLE_CAS", "yes"),
        ("RUSTCACHED_DISABLE_WATCH", "no"),
        ("RUSTCACHED_EXTENDED", "bare_dumps"),
        ("RUSTCACHED_VERBOSE", "1"),
        // Container engines set it for a service named rustcached.
        ("RUSTCACHED_PORT", "tcp://10.0.0.1:11211"),
    ];
    let (config, _) = read(&[], variables).expect("valid");
    assert!(!config.cas && config.watch && config.bare_dumps);
    assert_eq!((config.verbosity, config.listeners), (1, wildcards(11211)));
    let error = read(&[], &[("RUSTCACHED_THREADS", "many")]).expect_err("invalid");
    let want = "RUSTCACHED_THREADS: -t (--threads) takes a number, not \"many\"";
    assert_eq!(error.to_string(), want);
    let error = read(&[], &[("RUSTCACHED_THREADS", "0")]).expect_err("invalid");
    assert!(
        error.to_string().starts_with("RUSTCACHED_THREADS: "),
        "{error}"
    );
    let folder = Folder::create();
    let path: &'static str = folder.write("conf", "threads 7\n").leak();
    let variables: &'static [_] = vec![("RUSTCACHED_CONFIG", path)].leak();
    assert_eq!(read(&[], variables).expect("valid").0.threads, 7);
}

#[test]
fn check_config_checks() {
    let check = |args: &[&str]| parse(args.iter().map(OsString::from), &|_| None, Path::new(""));
    let checked = check(&["rustcached", "--check-config", "-m", "10"]);
    assert!(
        matches!(checked, Ok(Invocation::Check(settings)) if settings.0.max_memory == 10 << 20)
    );
    assert!(check(&["rustcached", "--check-config", "-m", "x"]).is_err());
}

#[test]
fn an_empty_variable_and_those_of_images_are_ignored() {
    let variables = &[
        ("RUSTCACHED_CONFIG", ""),
        ("RUSTCACHED_THREADS", ""),
        ("RUSTCACHED_DISABLE_CAS", ""),
        ("RUSTCACHED_VERSION", "1.2.3"),
        ("RUSTCACHED_HELP", "https://example.org"),
        ("RUSTCACHED_CHECK_CONFIG", "yes"),
        ("RUSTCACHED_DISABLE_WATCH", "1"),
        ("RUSTCACHED_DISABLE_DUMPING", "0"),
    ];
    let (config, _) = read(&[], variables).expect("valid");
    assert!(config.cas && !config.watch && config.dump);
    assert_eq!(config.threads, Config::default().threads);
}

#[test]
fn a_byte_order_mark_is_ignored() {
    let (config, _) = of_file("\u{feff}threads 3\r\nlisten\t127.0.0.1\r\n").expect("valid");
    assert_eq!(config.threads, 3);
}

#[test]
fn a_file_that_is_too_long_or_a_pipe_is_refused() {
    let most = usize::try_from(CONFIG_FILE_MAX_BYTES).expect("small");
    assert!(of_file(&"#".repeat(most)).is_ok());
    let error = of_file(&"#".repeat(most + 1)).expect_err("too long");
    assert!(error.to_string().contains("longer than"), "{error}");
    let error = read(&["--config", "/dev/zero"], &[]).expect_err("no end");
    assert!(error.to_string().contains("longer than"), "{error}");
    let folder = Folder::create();
    let mode = nix::sys::stat::Mode::S_IRUSR;
    nix::unistd::mkfifo(&folder.0.join("pipe"), mode).expect("created");
    let main = folder.write("main", "include pipe\n");
    let error = read(&["--config", &main], &[]).expect_err("a pipe");
    assert!(error.to_string().contains("a pipe"), "{error}");
}

#[test]
fn what_belongs_on_the_command_line_or_has_no_value_is_a_fault() {
    let cases = [
        ("--config other", "--config belongs"),
        ("-m 10 --config=other", "--config belongs"),
        ("--check-config", "--check-config belong"),
        ("-V", "belong on the command line"),
        ("user", "option 'user' requires an argument"),
        (
            "unix-socket \"\"",
            "option 'unix-socket' requires an argument",
        ),
        ("include", "include takes a file"),
    ];
    for (line, want) in cases {
        let error = of_file(line).expect_err(line);
        assert!(error.to_string().contains(want), "{line}: {error}");
    }
}
