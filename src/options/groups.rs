//! The groups of the help text, with every option that has a help text of its own.

/// Options about one subject.
pub(super) struct Group {
    pub(super) title: &'static str,
    /// Names of flags and words.
    pub(super) options: &'static [Listed],
}

/// An option of a group.
pub(super) struct Listed {
    /// Name of a flag or of a word.
    pub(super) name: &'static str,
    /// Text for the short help; empty if the option is only in the long one.
    pub(super) brief: &'static str,
}

/// Lists an option in both help texts.
const fn both(name: &'static str, brief: &'static str) -> Listed {
    Listed { name, brief }
}

/// Lists an option in the long help text only.
const fn long(name: &'static str) -> Listed {
    Listed { name, brief: "" }
}

/// All groups, in the order of the help texts.
///
/// Test suites and scripts that were written for memcached search its `-h` for SASL,
/// `--enable-ssl`, `--unix-socket` and `no_drop_privileges`, so these are in both.
pub(super) const GROUPS: &[Group] = &[
    Group {
        title: "Memory and items",
        options: &[
            both("memory-limit", "megabytes for items"),
            both("max-item-size", "largest item, such as 500k or 8m"),
            both("disable-evictions", "when memory is full, refuse new items"),
            long("client-memory-limit"),
            long("prefix-limit"),
            long("lock-memory"),
            long("disable-cas"),
            long("eviction"),
            long("objective"),
            long("ttl_jitter"),
            long("lru_crawler"),
            long("no_lru_crawler"),
            long("lru_crawler_sleep"),
            long("lru_crawler_tocrawl"),
            long("slab_reassign"),
            long("no_slab_reassign"),
            long("read_buf_mem_limit"),
            long("resp_obj_mem_limit"),
            long("no_modern"),
        ],
    },
    Group {
        title: "Addresses",
        options: &[
            both("port", "TCP port"),
            both("listen", "host or host:port"),
            both("udp-port", "UDP port; 0 is off"),
            both("unix-socket", "unix socket instead of TCP"),
            both("unix-mask", "permissions of the unix socket"),
            long("protocol"),
            long("udp-reply-limit"),
            long("cluster-file"),
            long("listen-backlog"),
        ],
    },
    Group {
        title: "Threads and connections",
        options: &[
            both("threads", "worker threads"),
            both("conn-limit", "simultaneous connections"),
            both("idle_timeout", "close connections idle for so many seconds"),
            long("max-reqs-per-event"),
            long("maxconns_fast"),
            long("no_maxconns_fast"),
        ],
    },
    Group {
        title: "TLS and authentication",
        options: &[
            both("enable-ssl", "TLS; needs the next two"),
            both("ssl_chain_cert", "certificates in PEM"),
            both("ssl_key", "private key"),
            both("ssl_ca_cert", "authorities that sign clients' certificates"),
            both("enable-sasl", "SASL for binary clients"),
            both("auth-file", "user:password lines for text clients"),
            long("ssl_keyformat"),
            long("ssl_verify_mode"),
            long("ssl_min_version"),
            long("ssl_session_cache"),
            long("ssl_wbuf_size"),
        ],
    },
    Group {
        title: "Restarts",
        options: &[
            both("memory-file", "keep items in this file in /dev/shm"),
            both("save-path", "write items to this file at a clean stop"),
            both("take-over", "take over from the running server"),
            long("restart-max-gap"),
            both("drain-timeout", "at a stop, serve active clients so long"),
        ],
    },
    Group {
        title: "Observation",
        options: &[
            both("admin-listen", "metrics and a live page over HTTP"),
            long("admin-host"),
            long("admin-auth"),
            both("slow-log-ms", "keep commands that took that long"),
            both("log-file", "log lines to this file"),
            long("log-format"),
            both("verbose", "log errors and warnings; -vv also commands"),
            long("prefix-delimiter"),
            long("mrc"),
            long("no_latency"),
            long("no_hotkeys"),
            long("no_prefixes"),
        ],
    },
    Group {
        title: "Permitted commands",
        options: &[
            both("enable-shutdown", "permit \"shutdown\""),
            both("disable-flush-all", "refuse \"flush_all\""),
            both("disable-dumping", "refuse commands that list keys"),
            both("disable-watch", "refuse \"watch\""),
            long("invalidate_keys"),
            long("bare_dumps"),
        ],
    },
    Group {
        title: "Process",
        options: &[
            both("config", "read options from this file"),
            both("check-config", "check options and files, and exit"),
            both("daemon", "run in the background"),
            both("user", "become this user, when started as root"),
            both("pidfile", "keep the process id in this file"),
            both("drop_privileges", "permit only system calls that it needs"),
            both("no_drop_privileges", "permit all (default)"),
            long("enable-coredumps"),
            long("extended"),
            both("help", "this text; --help all: every option"),
            both("version", "the version"),
            long("license"),
        ],
    },
    Group {
        title: "Only reported, or without effect",
        options: &[
            long("hashpower"),
            long("slab-growth-factor"),
            long("slab-min-size"),
            long("enable-largepages"),
            long("napi-ids"),
        ],
    },
];
