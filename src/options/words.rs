//! The words of `-o`, and the parser of `-o a,b=c`. Words that tune mechanisms
//! which this server does not have are accepted with a notice, if memcached
//! accepts their value.

use std::ffi::OsStr;
use std::time::Duration;

use super::draft::Draft;
use super::error::{CliError, Missing};
use super::report::yes_no;
use super::row::Effect::{Fraction, Number, Switch, Text, Unavailable};
use super::row::{Effect, Row, Rule, word};
use crate::config::{Eviction, KeyFormat, Objective, TlsVersion};

/// Families of words with a common prefix. Without a flash file, the other `ext_`
/// words have no effect in memcached either.
pub(super) const FAMILIES: &[Row] = &[
    word("proxy_").sets(Unavailable(Missing::Proxy)),
    word("ext_").ignored(),
];

const SIZE: Rule = Rule::Range(0, u32::MAX as i64);
const SECONDS_MAX: i64 = i32::MAX as i64;
const READ_BUF_MEM_LIMIT: Effect = Number(|draft, mebibytes| {
    draft.config.read_buf_mem_limit = (mebibytes as usize).saturating_mul(1 << 20);
});

/// All words, in the order of the help text, which lists words without a text of
/// their own last.
pub(super) const WORDS: &[Row] = &[
    word("maxconns_fast")
        .help("at the connection limit turn newcomers away at once (default)")
        .sets(Switch(|draft| draft.config.maxconns_fast = true))
        .reports("maxconns_fast", |now| yes_no(now.config.maxconns_fast)),
    word("no_maxconns_fast")
        .help("at the connection limit let newcomers wait")
        .sets(Switch(|draft| draft.config.maxconns_fast = false)),
    word("idle_timeout")
        .takes("num", Rule::Range(0, SECONDS_MAX))
        .help("close connections idle for this many seconds; 0, the default, is never")
        .sets(Number(|draft, seconds| {
            let timeout = Duration::from_secs(seconds as u64);
            draft.config.idle_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
        }))
        .reports("idle_timeout", |now| {
            let timeout = now.config.idle_timeout.unwrap_or_default();
            timeout.as_secs().to_string()
        }),
    word("ttl_jitter")
        .takes("num", Rule::Range(0, 90))
        .help(
            "shorten each TTL by up to this percentage, which depends on the key, so that items \
             stored together do not expire together; 0, the default, is off",
        )
        .sets(Number(|draft, percent| {
            draft.config.ttl_jitter = percent as u8
        })),
    word("bare_dumps")
        .help("begin key dumps without the line OK, as before memcached 1.6.43")
        .sets(Switch(|draft| draft.config.bare_dumps = true)),
    word("hashpower")
        .takes("num", Rule::Range(12, 32))
        .help("initial hash power, 12 to 32; only reported: the index grows with the items")
        .sets(Number(|draft, power| draft.config.hashpower = power as u32))
        .reports("hashpower_init", |now| now.config.hashpower.to_string()),
    // The last two are older names.
    word("eviction")
        .takes(
            "word",
            Rule::Choice(&["clock", "frequency", "frequency_size", "blind", "size"]),
        )
        .help(
            "eviction policy: clock (recency), frequency (recency and frequency) or \
             frequency_size (the same by size, the default)",
        )
        .sets(Text(|draft, name| {
            draft.config.eviction = match name {
                "clock" => Eviction::Clock,
                "frequency" | "blind" => Eviction::Frequency,
                _ => Eviction::default(),
            }
        })),
    word("objective")
        .takes("word", Rule::Choice(&["hits", "balanced", "bytes"]))
        .help(
            "objective of eviction=frequency_size: hits (most requests served), bytes (most \
             bytes served) or balanced (the default)",
        )
        .sets(Text(|draft, name| {
            draft.objective = Some(match name {
                "hits" => Objective::Hits,
                "bytes" => Objective::Bytes,
                _ => Objective::Balanced,
            })
        }))
        .reports("objective", |now| {
            let objective = now.config.eviction.objective();
            objective.map_or("none", Objective::name).to_owned()
        }),
    word("no_latency")
        .help("record no latencies of commands")
        .sets(Switch(|draft| draft.config.observe.latency = false)),
    word("no_hotkeys")
        .help("do not sample the most requested keys and prefixes")
        .sets(Switch(|draft| draft.config.observe.hot_keys = false)),
    word("no_prefixes")
        .help("do not count the busiest key prefixes")
        .sets(Switch(|draft| draft.config.observe.prefixes = false)),
    word("mrc")
        .help("predict the hit ratio of other sizes of memory (stats mrc)")
        .sets(Switch(|draft| draft.config.observe.curve = true)),
    word("invalidate_keys")
        .help("deleting the key @prefix/<prefix> or @tag/<tag> invalidates its items")
        .sets(Switch(|draft| draft.config.invalidate_keys = true)),
    word("ssl_chain_cert")
        .takes("text", Rule::Text)
        .help("file with the certificate and those up to its issuer, in PEM")
        .sets(Text(|draft, path| draft.tls.chain = Some(path.into())))
        .reports_tls("ssl_chain_cert", |tls| tls.chain.display().to_string()),
    word("ssl_key")
        .takes("text", Rule::Text)
        .help("file with the private key, if it is not in that one")
        .sets(Text(|draft, path| {
            draft.tls.words().key = Some(path.into())
        }))
        .reports_tls("ssl_key", |tls| {
            tls.key.as_ref().unwrap_or(&tls.chain).display().to_string()
        }),
    word("ssl_keyformat")
        .takes("num", Rule::Range(1, 2))
        .help("how the key is written: 1 is PEM (default), 2 is DER")
        .sets(Number(|draft, format| {
            draft.tls.words().key_format = match format {
                1 => KeyFormat::Pem,
                _ => KeyFormat::Der,
            }
        }))
        .reports_tls("ssl_keyformat", |tls| match tls.key_format {
            KeyFormat::Pem => "1".to_owned(),
            KeyFormat::Der => "2".to_owned(),
        }),
    word("ssl_verify_mode")
        .takes("num", Rule::Range(0, 3))
        .help(
            "clients' certificates: 0 ignored (default), 1 checked if sent, \
             2 and 3 demanded",
        )
        .sets(Number(|draft, mode| {
            draft.tls.words().verify_mode = mode as u8
        }))
        .reports_tls("ssl_verify_mode", |tls| {
            // memcached prints OpenSSL's bit mask.
            let mask = [0, 1, 3, 7].get(usize::from(tls.verify_mode));
            mask.unwrap_or(&0).to_string()
        }),
    word("ssl_ca_cert")
        .takes("text", Rule::Text)
        .help("file with the authorities to check them with, in PEM")
        .sets(Text(|draft, path| draft.tls.words().ca = Some(path.into())))
        .reports_tls("ssl_ca_cert", |tls| {
            let path = tls.ca.as_ref().map(|path| path.display().to_string());
            path.unwrap_or_else(|| "NULL".to_owned())
        }),
    word("ssl_min_version")
        .takes("num", Rule::Range(0, 3))
        .help("oldest version spoken: 2 is TLS 1.2 (default), 3 is TLS 1.3")
        .sets(Number(|draft, version| {
            draft.tls.min_version = Some(version)
        }))
        .reports_tls("ssl_min_version", |tls| match tls.min_version {
            TlsVersion::V12 => "tlsv1.2".to_owned(),
            TlsVersion::V13 => "tlsv1.3".to_owned(),
        }),
    word("ssl_session_cache")
        .help("let clients resume sessions")
        .sets(Switch(|draft| draft.tls.words().session_cache = true))
        .reports_tls("ssl_session_cache", |tls| yes_no(tls.session_cache)),
    word("ssl_wbuf_size")
        .takes("num", Rule::Range(1, 65536))
        .help("kilobytes of output a connection encrypts ahead (default: 16)")
        .sets(Number(|draft, kib| {
            draft.tls.words().write_buffer = kib as usize * 1024
        }))
        .reports_tls("ssl_wbuf_size", |tls| tls.write_buffer.to_string()),
    word("ssl_ciphers")
        .takes("text", Rule::Text)
        .sets(Text(|draft, list| {
            draft.tls.words().ciphers = Some(list.to_owned())
        }))
        .reports_tls("ssl_ciphers", |tls| {
            tls.ciphers.clone().unwrap_or_else(|| "NULL".to_owned())
        }),
    word("ssl_kernel_tls")
        .sets(Switch(|draft| draft.tls.words().kernel = true))
        .reports_tls("ssl_kernel_tls", |tls| yes_no(tls.kernel)),
    word("no_modern")
        .help(
            "the defaults of memcached 1.4: no_maxconns_fast, no_lru_crawler, \
             no_lru_maintainer, no_slab_reassign",
        )
        .sets(Switch(|draft| {
            draft.config.maxconns_fast = false;
            let tunables = &mut draft.config.tunables;
            tunables.automove = 0;
            tunables.reassign = false;
            tunables.segmented = false;
            tunables.crawler = false;
            tunables.maintainer = false;
        })),
    word("no_drop_privileges")
        .help("install no system call filter (default)")
        .sets(Switch(|draft| draft.process.drop_privileges = false)),
    word("drop_privileges")
        .help("install a filter that permits only the system calls it needs")
        .sets(Switch(|draft| draft.process.drop_privileges = true)),
    word("ext_path").sets(Unavailable(Missing::Flash)),
    // What these words ask for is always on.
    word("modern"),
    word("relaxed_privileges"),
    word("inline_ascii_resp").reports("inline_ascii_response", |_| "no".to_owned()),
    word("no_inline_ascii_resp"),
    word("no_chunked_items"),
    word("hash_algorithm")
        .takes("word", Rule::Choice(&["jenkins", "murmur3", "xxh3"]))
        .ignored()
        .reports("hash_algorithm", |now| now.hash_name.to_owned()),
    word("hot_lru_pct")
        .takes("num", Rule::Range(1, 79))
        .ignored()
        .sets(Fraction(|draft, part| {
            draft.config.tunables.queue_percents[0] = part as u32
        }))
        .reports("hot_lru_pct", |now| {
            now.tunables.queue_percents[0].to_string()
        }),
    word("hot_max_factor")
        .takes("num", Rule::Fraction(f64::MAX))
        .ignored()
        .sets(Fraction(|draft, age| {
            draft.config.tunables.queue_factors[0] = age
        }))
        .reports("hot_max_factor", |now| {
            format!("{:.2}", now.tunables.queue_factors[0])
        }),
    word("lru_crawler")
        .help("sweep out dead items and permit key dumps (default)")
        .sets(Switch(|draft| draft.config.tunables.crawler = true))
        .reports("lru_crawler", |now| yes_no(now.tunables.crawler)),
    word("lru_crawler_sleep")
        .takes("num", Rule::Range(0, 1_000_000))
        .help("pause of a sweep that is asked for, in microseconds (default 100)")
        .sets(Number(|draft, pause| {
            draft.config.tunables.crawler_sleep_us = pause as u32
        }))
        .reports("lru_crawler_sleep", |now| {
            now.tunables.crawler_sleep_us.to_string()
        }),
    word("lru_crawler_tocrawl")
        .takes("num", SIZE)
        .help("items of a class that such a sweep looks at (default 0, all)")
        .sets(Number(|draft, items| {
            draft.config.tunables.crawler_items = items as u32
        }))
        .reports("lru_crawler_tocrawl", |now| {
            now.tunables.crawler_items.to_string()
        }),
    word("lru_maintainer")
        .ignored()
        .sets(Switch(|draft| {
            draft.config.tunables.maintainer = true;
            draft.config.tunables.segmented = true;
        }))
        .reports("lru_maintainer_thread", |now| {
            yes_no(now.tunables.maintainer)
        })
        .reports("lru_segmented", |now| yes_no(now.tunables.segmented)),
    word("meta_response_old").ignored(),
    word("no_hashexpand").ignored(),
    word("no_lru_crawler")
        .help("neither sweep out dead items nor permit key dumps")
        .sets(Switch(|draft| draft.config.tunables.crawler = false)),
    word("no_lru_maintainer").ignored().sets(Switch(|draft| {
        draft.config.tunables.maintainer = false;
        draft.config.tunables.segmented = false;
    })),
    word("no_slab_automove")
        .ignored()
        .sets(Switch(|draft| draft.config.tunables.automove = 0)),
    word("no_slab_reassign")
        .help("refuse slabs reassign")
        .sets(Switch(|draft| draft.config.tunables.reassign = false)),
    word("read_buf_mem_limit")
        .takes("num", SIZE)
        .help(
            "lower --client-memory-limit to this many megabytes and refuse retrievals near \
             it (default 0: no)",
        )
        .sets(READ_BUF_MEM_LIMIT)
        .reports("read_buf_mem_limit", |now| {
            now.config.read_buf_mem_limit.to_string()
        }),
    word("resp_obj_mem_limit")
        .takes("num", SIZE)
        .help("older name of read_buf_mem_limit")
        .sets(READ_BUF_MEM_LIMIT),
    word("slab_automove")
        .takes("num", Rule::RangeOrNothing(0, 2))
        .ignored()
        .sets(Fraction(|draft, level| {
            draft.config.tunables.automove = level as u32
        }))
        .reports("slab_automove", |now| now.tunables.automove.to_string()),
    word("slab_automove_freeratio")
        .takes("num", Rule::Fraction(1.0))
        .ignored(),
    word("slab_automove_ratio")
        .takes("num", Rule::Fraction(1.0))
        .ignored()
        .sets(Fraction(|draft, ratio| {
            draft.config.tunables.automove_ratio = ratio
        }))
        .reports("slab_automove_ratio", |now| {
            format!("{:.2}", now.tunables.automove_ratio)
        }),
    word("slab_automove_window")
        .takes("num", Rule::Range(3, 1800))
        .ignored()
        .sets(Fraction(|draft, window| {
            draft.config.tunables.automove_window = window as u32
        }))
        .reports("slab_automove_window", |now| {
            now.tunables.automove_window.to_string()
        }),
    word("slab_chunk_max")
        .takes("num", SIZE)
        .ignored()
        .reports("slab_chunk_max", |now| now.chunk_max.to_string()),
    word("slab_reassign")
        .help("permit slabs reassign (default)")
        .sets(Switch(|draft| draft.config.tunables.reassign = true))
        .reports("slab_reassign", |now| yes_no(now.tunables.reassign)),
    word("slab_sizes").takes("text", Rule::Text).ignored(),
    word("sock_cookie_id").takes("num", SIZE).ignored(),
    word("tail_repair_time")
        .takes("num", Rule::Range(10, SECONDS_MAX))
        .ignored()
        .reports("tail_repair_time", |_| "0".to_owned()),
    word("temporary_ttl")
        .takes("num", Rule::Range(i32::MIN as i64, SECONDS_MAX))
        .ignored()
        .sets(Fraction(|draft, seconds| {
            draft.config.tunables.temporary = true;
            draft.config.tunables.temporary_ttl = seconds as u32;
        }))
        .reports("temp_lru", |now| yes_no(now.tunables.temporary))
        .reports("temporary_ttl", |now| {
            now.tunables.temporary_ttl.to_string()
        }),
    word("track_sizes")
        .ignored()
        .reports("track_sizes", |_| "yes".to_owned()),
    word("warm_lru_pct")
        .takes("num", Rule::Range(1, 79))
        .ignored()
        .sets(Fraction(|draft, part| {
            draft.config.tunables.queue_percents[1] = part as u32
        }))
        .reports("warm_lru_pct", |now| {
            now.tunables.queue_percents[1].to_string()
        }),
    word("warm_max_factor")
        .takes("num", Rule::Fraction(f64::MAX))
        .ignored()
        .sets(Fraction(|draft, age| {
            draft.config.tunables.queue_factors[1] = age
        }))
        .reports("warm_max_factor", |now| {
            format!("{:.2}", now.tunables.queue_factors[1])
        }),
    word("watcher_logbuf_size")
        .takes("num", SIZE)
        .ignored()
        .reports("watcher_logbuf_size", |_| "262144".to_owned()),
    word("worker_logbuf_size")
        .takes("num", SIZE)
        .ignored()
        .reports("worker_logbuf_size", |_| "65536".to_owned()),
];

/// Applies the value of one `-o`.
///
/// # Errors
///
/// The first word that is unknown, unavailable or has an invalid value.
pub(super) fn apply(draft: &mut Draft, list: &str) -> Result<(), CliError> {
    let items = list.split(',').map(str::trim);
    for item in items.filter(|item| !item.is_empty()) {
        let (name, value) = match item.split_once('=') {
            Some((name, value)) => (name.trim(), Some(OsStr::new(value.trim()))),
            None => (item, None),
        };
        let word = WORDS.iter().find(|word| word.name == name);
        let family = || FAMILIES.iter().find(|family| name.starts_with(family.name));
        let unknown = || CliError::UnknownWord(name.to_owned());
        let row = word.or_else(family).ok_or_else(unknown)?;
        row.apply(draft, &format!("-o {name}"), value)?;
    }
    Ok(())
}
