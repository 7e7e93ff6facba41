//! Every flag and every `-o` word of memcached 1.6.45 must be accepted or be
//! reported as unavailable.

use std::collections::BTreeSet;

use super::{config, error, invoke, same};
use crate::config::{Eviction, Objective};
use crate::options::draft::LATE;
use crate::options::error::{CliError, Missing};
use crate::options::flags::FLAGS;
use crate::options::row::{Effect, Rule};
use crate::options::words::{FAMILIES, WORDS};

/// Each flag of memcached: letter, long name, a valid value (`None` for
/// switches), and whether its feature is unavailable.
const MEMCACHED_FLAGS: &[(char, &str, Option<&str>, bool)] = &[
    ('a', "unix-mask", Some("0770"), false),
    ('A', "enable-shutdown", None, false),
    ('b', "listen-backlog", Some("512"), false),
    ('B', "protocol", Some("ascii"), false),
    ('c', "conn-limit", Some("77"), false),
    ('C', "disable-cas", None, false),
    ('d', "daemon", None, false),
    ('D', "", Some("/"), false),
    ('e', "memory-file", Some("/run/cache"), false),
    ('f', "slab-growth-factor", Some("1.07"), false),
    ('F', "disable-flush-all", None, false),
    ('h', "help", None, false),
    ('i', "license", None, false),
    ('I', "max-item-size", Some("2m"), false),
    ('k', "lock-memory", None, false),
    ('l', "listen", Some("127.0.0.1:5"), false),
    ('L', "enable-largepages", None, false),
    ('m', "memory-limit", Some("1024"), false),
    ('M', "disable-evictions", None, false),
    ('n', "slab-min-size", Some("96"), false),
    ('N', "napi-ids", Some("2"), false),
    ('o', "extended", Some("modern,hashpower=20"), false),
    ('p', "port", Some("11222"), false),
    ('P', "pidfile", Some("/run/x.pid"), false),
    ('r', "enable-coredumps", None, false),
    ('R', "max-reqs-per-event", Some("40"), false),
    ('s', "unix-socket", Some("/run/x.sock"), false),
    ('S', "enable-sasl", None, false),
    ('t', "threads", Some("8"), false),
    ('u', "user", Some("memcache"), false),
    ('U', "udp-port", Some("0"), false),
    ('v', "verbose", None, false),
    ('V', "version", None, false),
    ('W', "disable-watch", None, false),
    ('X', "disable-dumping", None, false),
    ('Y', "auth-file", Some("/etc/users"), false),
    ('Z', "enable-ssl", None, false),
];

/// Each word of `-o` that memcached accepts, with a valid value.
const MEMCACHED_WORDS: &str = "maxconns_fast no_maxconns_fast hashpower=16 no_hashexpand \
    slab_reassign no_slab_reassign slab_automove slab_automove=2 no_slab_automove \
    slab_automove_ratio=0.8 slab_automove_window=30 slab_automove_freeratio=0.01 \
    tail_repair_time=10 hash_algorithm=jenkins hash_algorithm=murmur3 hash_algorithm=xxh3 \
    lru_crawler no_lru_crawler lru_crawler_sleep=100 lru_crawler_tocrawl=0 lru_maintainer \
    no_lru_maintainer hot_lru_pct=20 warm_lru_pct=40 hot_max_factor=0.2 warm_max_factor=2.0 \
    temporary_ttl=61 idle_timeout=60 watcher_logbuf_size=256 worker_logbuf_size=64 \
    slab_sizes=100-200-300 slab_chunk_max=512 track_sizes inline_ascii_resp \
    no_inline_ascii_resp modern no_modern no_chunked_items no_drop_privileges \
    resp_obj_mem_limit=1 read_buf_mem_limit=1 sock_cookie_id=7 meta_response_old \
    relaxed_privileges ext_page_size=8 ext_wbuf_size=4 ext_threads=1 ext_io_depth=1 \
    ext_item_size=512 ext_item_age=60 ext_low_ttl=0 ext_recache_rate=2000 \
    ext_compact_under=4 ext_drop_under=4 ext_max_frag=0.8 ext_max_sleep=1000000 \
    ext_drop_unread ssl_chain_cert=/c ssl_key=/k ssl_verify_mode=1 ssl_keyformat=1 \
    ssl_ciphers=x ssl_ca_cert=/c ssl_wbuf_size=16 ssl_session_cache ssl_kernel_tls \
    ssl_min_version=2 drop_privileges";

/// Words of unavailable features.
const MISSING_WORDS: &[(&str, Missing)] = &[
    ("ext_path=/d/x:1G", Missing::Flash),
    ("proxy_config=/p.lua", Missing::Proxy),
    ("proxy_arg=1", Missing::Proxy),
];

#[test]
fn every_flag_of_memcached_parses_in_every_spelling() {
    // -Z also requires a certificate: see the tests of `tls`.
    let flags = MEMCACHED_FLAGS.iter().filter(|flag| flag.0 != 'Z');
    for &(short, long, value, missing) in flags {
        let letter = format!("-{short}");
        let name = format!("--{long}");
        let value = value.unwrap_or_default();
        let spellings = if value.is_empty() {
            vec![vec![letter.clone()], vec![name]]
        } else {
            vec![
                vec![letter.clone(), value.to_owned()],
                vec![format!("{letter}{value}")],
                vec![format!("{letter} {value}")],
                vec![name.clone(), value.to_owned()],
                vec![format!("{name}={value}")],
            ]
        };
        let spellings = spellings.into_iter().filter(|words| {
            // -D has no long name in memcached, and a leading space is its value.
            short != 'D' || (!words[0].starts_with("--") && words[0] != "-D /")
        });
        let mut outcomes = BTreeSet::new();
        for words in spellings {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let outcome = invoke(&words);
            let unavailable = matches!(outcome, Err(CliError::Unavailable { .. }));
            assert_eq!(unavailable, missing, "{words:?}: {outcome:?}");
            assert_eq!(outcome.is_ok(), !missing, "{words:?}: {outcome:?}");
            outcomes.insert(format!("{outcome:?}"));
        }
        assert_eq!(
            outcomes.len(),
            1,
            "-{short} differs by spelling: {outcomes:#?}"
        );
    }
}

/// Words that memcached does not have.
const OUR_WORDS: [&str; 9] = [
    "ttl_jitter=10",
    "eviction=frequency",
    "objective=hits",
    "bare_dumps",
    "no_latency",
    "no_hotkeys",
    "no_prefixes",
    "mrc",
    "invalidate_keys",
];

#[test]
fn every_kind_of_eviction_can_be_chosen() {
    let kinds = [
        ("clock", Eviction::Clock),
        ("frequency", Eviction::Frequency),
        ("frequency_size", Eviction::default()),
        ("blind", Eviction::Frequency),
        ("size", Eviction::default()),
    ];
    for (word, kind) in kinds {
        assert_eq!(config(&["-o", &format!("eviction={word}")]).eviction, kind);
    }
    assert_eq!(config(&[]).eviction, Eviction::default());
    assert_eq!(error(&["-o", "eviction=lru"]).exit_code(), 1);
}

#[test]
fn every_objective_can_be_chosen_with_the_policy_that_has_one() {
    let objectives = [
        ("hits", Objective::Hits),
        ("balanced", Objective::Balanced),
        ("bytes", Objective::Bytes),
    ];
    for (name, objective) in objectives {
        assert_eq!(objective.name(), name);
        let word = format!("objective={name}");
        let expected = Eviction::FrequencySize(objective);
        assert_eq!(config(&["-o", &word]).eviction, expected);
        // In either order.
        let both = [
            format!("eviction=size,{word}"),
            format!("{word},eviction=size"),
        ];
        for list in &both {
            assert_eq!(config(&["-o", list]).eviction, expected, "{list}");
        }
        for policy in ["clock", "frequency"] {
            let refused = error(&["-o", &word, "-o", &format!("eviction={policy}")]);
            assert!(refused.to_string().contains("objective"), "{refused}");
            assert_eq!(refused.exit_code(), 1, "{policy}");
        }
    }
    assert_eq!(config(&[]).eviction.objective(), Some(Objective::default()));
    assert_eq!(error(&["-o", "objective=speed"]).exit_code(), 1);
}

#[test]
fn the_tables_agree_with_memcached_s() {
    let theirs: BTreeSet<char> = MEMCACHED_FLAGS.iter().map(|flag| flag.0).collect();
    let ours: BTreeSet<char> = FLAGS.iter().filter_map(|flag| flag.short).collect();
    assert_eq!(ours, theirs);
    let named: BTreeSet<&str> = MEMCACHED_WORDS
        .split_whitespace()
        .chain(MISSING_WORDS.iter().map(|word| word.0))
        .chain(OUR_WORDS)
        .map(|word| word.split('=').next().unwrap_or(word))
        .collect();
    for word in WORDS {
        assert!(named.contains(word.name), "{} is untested", word.name);
    }
    for family in FAMILIES {
        assert!(
            named.iter().any(|word| word.starts_with(family.name)),
            "{}",
            family.name
        );
    }
}

#[test]
fn every_word_parses_alone_repeated_and_in_a_list() {
    let words: Vec<&str> = MEMCACHED_WORDS.split_whitespace().collect();
    for word in &words {
        config(&["-o", word]);
        same(&["-o", word], &[&format!("-o{word}")]);
        same(&["-o", word], &[&format!("-o {word}")]);
        same(&["-o", word], &[&format!("--extended={word}")]);
        same(&["-o", word], &["--extended", word]);
    }
    let list = words.join(",");
    let repeated: Vec<&str> = words.iter().flat_map(|word| ["-o", word]).collect();
    same(&["-o", &list], &repeated);
    for (word, missing) in MISSING_WORDS {
        let error = error(&["-o", word]);
        assert_eq!(error.exit_code(), 64, "{word}");
        match error {
            CliError::Unavailable { missing: found, .. } => assert_eq!(found, *missing),
            other => panic!("{word}: {other:?}"),
        }
    }
}

#[test]
fn every_word_that_needs_a_value_says_so() {
    for word in WORDS {
        let needs = matches!(
            word.rule,
            Rule::Range(..) | Rule::Fraction(_) | Rule::Choice(_) | Rule::Text
        );
        let outcome = invoke(&["-o", word.name]);
        if needs {
            let expected = CliError::BadValue(format!("Missing {} argument", word.name));
            assert_eq!(outcome.expect_err(word.name), expected);
            assert_eq!(expected.exit_code(), 1);
        } else if !matches!(word.effect, Effect::Unavailable(_)) {
            assert!(outcome.is_ok(), "{}: {outcome:?}", word.name);
        }
    }
}

#[test]
fn every_effect_gets_the_kind_of_value_that_its_rule_reads() {
    for row in FLAGS.iter().chain(WORDS).chain(FAMILIES) {
        let fits = match row.effect {
            Effect::Nothing | Effect::Unavailable(_) => true,
            Effect::Switch(_) => matches!(row.rule, Rule::Nothing | Rule::Level),
            Effect::Number(_) | Effect::TryNumber(_) => matches!(
                row.rule,
                Rule::Integer | Rule::Size | Rule::Range(..) | Rule::RangeOrNothing(..)
            ),
            Effect::Fraction(_) | Effect::TryFraction(_) => matches!(
                row.rule,
                Rule::Decimal | Rule::Fraction(_) | Rule::Range(..) | Rule::RangeOrNothing(..)
            ),
            Effect::Text(_) | Effect::TryText(_) => {
                matches!(row.rule, Rule::Text | Rule::Choice(_))
            }
            Effect::Path(_) => matches!(row.rule, Rule::Path),
        };
        assert!(fits, "{}", row.name);
        let valueless = matches!(row.rule, Rule::Nothing);
        assert_eq!(row.value.is_empty(), valueless, "{}", row.name);
    }
}

#[test]
fn late_flags_are_in_the_table() {
    for name in LATE {
        assert!(FLAGS.iter().any(|flag| flag.name == name), "{name}");
    }
}
