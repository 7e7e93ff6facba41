//! Defaults, and the effect of each flag on the settings.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{config, error, settings, wildcards};
use crate::config::{
    AdminSettings, Config, Eviction, HandedOver, Listener, LogFormat, Observe, Process,
    ProtocolMode, RestartSettings, Tunables,
};
use crate::options::{Invocation, parse};

#[test]
fn defaults_are_memcached_s() {
    let (config, process) = settings(&[]);
    let expected = Config {
        listeners: wildcards(11211),
        handed_over: HandedOver {
            alone: true,
            ..HandedOver::default()
        },
        ..Config::default()
    };
    assert_eq!(config, expected);
    assert_eq!(process, Process::default());
    assert_eq!(config.max_memory, 64 << 20);
    assert_eq!(config.max_item_size, 1 << 20);
    assert_eq!((config.max_connections, config.threads), (1024, 4));
    assert_eq!((config.backlog, config.requests_per_event), (1024, 20));
    assert_eq!((config.chunk_size, config.growth_factor), (48, 1.25));
    assert!(config.maxconns_fast && config.evict && config.cas);
    assert!(config.flush && config.dump && config.watch && !config.shutdown_command);
}

#[test]
fn flags_do_what_they_say() {
    let yes = settings(&[
        "-dkrMCFXWA",
        "-vv",
        "-u",
        "nobody",
        "-P",
        "/run/a.pid",
        "-m",
        "100",
        "-c",
        "2000",
        "-t",
        "2",
        "-b",
        "77",
        "-R",
        "5",
        "--client-memory-limit",
        "20",
        "-I",
        "4M",
        "-D",
        "/x",
        "-n",
        "64",
        "-f",
        "1.5",
        "-v",
        "-B",
        "ascii",
        "-e",
        "/dev/shm/items",
        "--cluster-file=/etc/servers",
        "--take-over=/run/next",
        "--restart-max-gap=90",
        "--drain-timeout",
        "1.5",
        "-o",
        "idle_timeout=5,hashpower=20,no_maxconns_fast,lru_crawler_sleep=9,no_lru_crawler",
    ]);
    let listeners = wildcards(11211).into_iter().map(|listener| Listener {
        protocol: ProtocolMode::Ascii,
        ..listener
    });
    let expected = Config {
        listeners: listeners.collect(),
        tls: None,
        auth_file: None,
        cluster_file: Some("/etc/servers".into()),
        handed_over: HandedOver {
            protocol: ProtocolMode::Ascii,
            tls: None,
            alone: true,
        },
        threads: 2,
        max_connections: 2000,
        maxconns_fast: false,
        backlog: 77,
        requests_per_event: 5,
        max_memory: 100 << 20,
        max_item_size: 4 << 20,
        evict: false,
        eviction: Eviction::default(),
        cas: false,
        prefix_delimiter: b'/',
        prefix_limits: Vec::new(),
        ttl_jitter: 0,
        detail: true,
        flush: false,
        invalidate_keys: false,
        dump: false,
        bare_dumps: false,
        watch: false,
        shutdown_command: true,
        sasl: None,
        udp: Vec::new(),
        admin: AdminSettings::default(),
        observe: Observe::default(),
        log_format: LogFormat::Text,
        log_file: None,
        restart: RestartSettings {
            memory_file: Some("/dev/shm/items".into()),
            save_path: None,
            take_over: Some("/run/next".into()),
            fd_store: false,
            max_gap: Some(Duration::from_secs(90)),
            drain_timeout: Duration::from_millis(1500),
        },
        udp_reply_limit: 64 * 1024,
        client_memory_limit: 20 << 20,
        read_buf_mem_limit: 0,
        idle_timeout: Some(Duration::from_secs(5)),
        verbosity: 3,
        hashpower: 20,
        chunk_size: 64,
        growth_factor: 1.5,
        port_file: None,
        tunables: Tunables {
            crawler_sleep_us: 9,
            crawler: false,
            ..Tunables::default()
        },
    };
    assert_eq!(yes.0, expected);
    let process = Process {
        daemonize: true,
        user: Some("nobody".to_owned()),
        pid_file: Some(PathBuf::from("/run/a.pid")),
        lock_memory: true,
        core_dumps: true,
        drop_privileges: false,
        warnings: Vec::new(),
        notices: Vec::new(),
    };
    assert_eq!(yes.1, process);
}

#[test]
fn numbers_may_share_an_argument_with_their_flag() {
    assert_eq!(config(&["-m 8192"]).max_memory, 8192 << 20);
    assert_eq!(config(&["--memory-limit= 8192 "]).max_memory, 8192 << 20);
    assert_eq!(config(&["-I 2m", "-c 5", "-t 3"]).max_item_size, 2 << 20);
    assert_eq!(config(&["-dm64", "-p-1"]).listeners, wildcards(0));
    assert_eq!(config(&["-p", "-1"]).listeners, wildcards(0));
    assert_eq!(config(&["-b", "-1"]).backlog, -1);
    let (_, process) = settings(&["-u memcache", "-P /run/x.pid"]);
    assert_eq!(process.user.as_deref(), Some("memcache"));
    assert_eq!(process.pid_file.as_deref(), Some(Path::new("/run/x.pid")));
}

#[test]
fn the_last_of_repeated_flags_counts_and_switches_may_repeat() {
    let config = config(&["-m", "10", "-t", "1", "-CC", "-C", "-m", "20"]);
    assert_eq!((config.max_memory, config.threads), (20 << 20, 1));
    assert!(!config.cas);
    let config = self::config(&["-t", "0", "-D", "", "-t", "4", "-D", "/"]);
    assert_eq!((config.threads, config.prefix_delimiter), (4, b'/'));
    assert_eq!(error(&["-t", "4", "-t", "0"]), error(&["-t", "0"]));
}

#[test]
fn verbosity_counts() {
    let cases: &[(&[&str], u32)] = &[
        (&["-v"], 1),
        (&["-vv"], 2),
        (&["-vvv"], 3),
        (&["-v", "-v"], 2),
        (&["--verbose", "-v"], 2),
        (&["--verbose=3"], 1),
        (&["--verb"], 1),
        (&["-vdv"], 2),
        (&["-vvm", "64", "-v"], 3),
    ];
    for (args, level) in cases {
        assert_eq!(config(args).verbosity, *level, "{args:?}");
    }
    assert!(settings(&["-vdv"]).1.daemonize);
}

#[test]
fn item_sizes_take_suffixes() {
    let cases = [
        ("1024", 1024),
        ("1k", 1024),
        ("2K", 2048),
        ("1m", 1 << 20),
        ("8M", 8 << 20),
        ("1048577", (1 << 20) + 1),
        ("1024m", 1 << 30),
        ("1g", 1 << 30),
        (" 3m ", 3 << 20),
    ];
    for (text, bytes) in cases {
        let config = config(&["-m", "4096", "-I", text]);
        assert_eq!(config.max_item_size, bytes, "{text}");
    }
}

#[test]
fn text_behind_a_number_is_told_not_refused() {
    let (config, process) = settings(&["-m", "64MB", "-p", "1x", "-I", "5000kb", "-m", "64MB"]);
    assert_eq!(config.max_memory, 64 << 20);
    assert_eq!(
        process.warnings,
        [
            "warning: -p (--port): \"1x\" is read as 1",
            "warning: -m (--memory-limit): \"64MB\" is read as 64",
            "warning: -I (--max-item-size): \"5000kb\" is read as 5000",
        ]
    );
    assert!(process.notices.is_empty());
}

#[test]
fn what_means_nothing_here_is_told_once() {
    let (_, process) = settings(&[
        "-o",
        "slab_sizes=64-128,lru_maintainer",
        "-o",
        "slab_sizes=64-128",
        "-L",
    ]);
    assert_eq!(
        process.notices,
        [
            "-L (--enable-largepages) has no effect",
            "-o slab_sizes has no effect",
            "-o lru_maintainer has no effect",
        ]
    );
    let (_, process) = settings(&["-N", "2", "-t", "100", "stray", ""]);
    assert_eq!(process.notices.len(), 4, "{:?}", process.notices);
    assert!(
        settings(&["-o", "modern,no_drop_privileges"])
            .1
            .notices
            .is_empty()
    );
}

#[test]
fn the_connection_limit_word_takes_the_last_wish() {
    assert!(!config(&["-o", "no_modern"]).maxconns_fast);
    let tunables = config(&["-o", "no_modern,lru_crawler"]).tunables;
    assert!(tunables.crawler && !tunables.maintainer && !tunables.reassign && !tunables.segmented);
    assert!(!config(&["-o", "maxconns_fast,no_maxconns_fast"]).maxconns_fast);
    assert!(config(&["-o", "no_modern", "-o", "maxconns_fast"]).maxconns_fast);
    assert_eq!(config(&["-o", "idle_timeout=0"]).idle_timeout, None);
}

#[test]
fn port_file_comes_from_the_environment() {
    let run = |value: &'static str| {
        let env =
            move |name: &str| (name == "MEMCACHED_PORT_FILENAME").then(|| OsString::from(value));
        match parse(["rustcached".into()], &env, Path::new("")) {
            Ok(Invocation::Run(settings)) => settings.0.port_file,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(run("/run/ports"), Some(PathBuf::from("/run/ports")));
    assert_eq!(run(""), None);
}

#[test]
fn client_memory_follows_the_memory_limit() {
    let limit = |arguments: &[&str]| {
        let config = settings(arguments).0;
        (
            config.client_memory_limit >> 20,
            config.read_buf_mem_limit > 0,
        )
    };
    assert_eq!(limit(&[]), (64, false));
    assert_eq!(limit(&["-m", "4096"]), (1024, false));
    assert_eq!(
        limit(&["-m", "4096", "--client-memory-limit=1"]),
        (1, false)
    );
    assert_eq!(limit(&["-o", "read_buf_mem_limit=3"]), (3, true));
    assert_eq!(limit(&["-o", "resp_obj_mem_limit=5"]), (5, true));
    assert_eq!(limit(&["-o", "read_buf_mem_limit=0"]), (64, false));
}

#[test]
fn keys_invalidate_only_if_asked_to() {
    assert!(!config(&[]).invalidate_keys);
    assert!(config(&["-o", "invalidate_keys"]).invalidate_keys);
}
