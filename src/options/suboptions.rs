//! Every word of `-o` as data, and the parser of `-o a,b=c`. Words that tune
//! mechanisms which this server does not have are accepted with a notice, if
//! memcached accepts their value.

use super::error::{CliError, Missing};
use super::number;
use super::raw_args::RawArgs;
use crate::config::{Eviction, Tunables};

/// A word of `-o`.
pub(super) struct Word {
    /// Name, without the value.
    pub(super) name: &'static str,
    /// Values that the word accepts.
    pub(super) rule: Rule,
    /// Effect of the word on the arguments.
    pub(super) effect: Effect,
    /// Line of the help text; empty for words that are only listed.
    help: &'static str,
}

/// The values of `eviction`, in the order of [`EVICTION_KINDS`].
const EVICTIONS: [&str; 5] = ["clock", "frequency", "frequency_size", "blind", "size"];
/// The policies that these values select.
pub(super) const EVICTION_KINDS: [Eviction; 5] = [
    Eviction::Clock,
    Eviction::Frequency,
    Eviction::FrequencySize,
    // Older names.
    Eviction::Frequency,
    Eviction::FrequencySize,
];

/// Kind of value of a word. The value of a word that takes none is ignored, as
/// in memcached.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// No value.
    Nothing,
    /// A number in this range.
    Number(i64, i64),
    /// A number in this range, or no value.
    MaybeNumber(i64, i64),
    /// A fraction above 0 and up to this maximum.
    Fraction(f64),
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A text that is not empty.
    Text,
    /// A text, which may be empty.
    Anything,
}

/// Effect of a word.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    /// No effect; adds a notice.
    Ignored,
    /// No effect; adds a notice and changes what `stats settings` reports. The
    /// number is the value.
    ReportOnly(fn(&mut Tunables, f64)),
    /// No effect and no notice: the requested behaviour is always on.
    AlwaysOn,
    /// Sets a value; the number is the word's value, or 0 without one.
    Set(fn(&mut RawArgs, i64)),
    /// Sets a text.
    SetText(fn(&mut RawArgs, &str)),
    /// Requests a feature of memcached that is not implemented.
    Unavailable(Missing),
}

/// Applies the value of one `-o`.
///
/// # Errors
///
/// The first word that is unknown, unavailable or has an invalid value.
pub(super) fn apply(raw: &mut RawArgs, list: &str) -> Result<(), CliError> {
    let items = list.split(',').map(str::trim);
    for item in items.filter(|item| !item.is_empty()) {
        let (name, value) = match item.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (item, None),
        };
        let (rule, effect) = find(name)?;
        if let Effect::Unavailable(missing) = effect {
            let option = format!("-o {name}");
            return Err(CliError::Unavailable { option, missing });
        }
        let number = check(name, rule, value)?;
        match effect {
            Effect::Ignored => raw.note(format!("-o {name} has no effect")),
            Effect::ReportOnly(tell) => {
                raw.note(format!("-o {name} has no effect"));
                let fraction = value.and_then(number::fraction);
                tell(&mut raw.tunables, fraction.unwrap_or(number as f64));
            }
            Effect::Set(set) => set(raw, number),
            Effect::SetText(set) => set(raw, value.unwrap_or_default()),
            Effect::AlwaysOn | Effect::Unavailable(_) => {}
        }
    }
    Ok(())
}

/// Returns the part of the help text about words.
pub(super) fn help() -> String {
    let mut text = String::from("Extended options (-o):\n");
    for word in WORDS.iter().filter(|word| !word.help.is_empty()) {
        let name = match word.rule {
            Rule::Nothing => word.name.to_owned(),
            Rule::Choice(_) => format!("{}=<word>", word.name),
            Rule::Text => format!("{}=<text>", word.name),
            _ => format!("{}=<num>", word.name),
        };
        text.push_str(&format!("  {name:<24} {}\n", word.help));
    }
    text.push_str("  Accepted, without effect:\n");
    let ignored = WORDS
        .iter()
        .filter(|word| word.help.is_empty() && !matches!(word.effect, Effect::Unavailable(_)));
    let mut line = String::new();
    for word in ignored {
        if line.len() + word.name.len() > 70 {
            text.push_str(&format!("   {line}\n"));
            line.clear();
        }
        line.push(' ');
        line.push_str(word.name);
    }
    text.push_str(&format!("   {line}\n"));
    text
}

/// Returns the row of a word. Families of words that are not implemented have
/// one row for all.
fn find(name: &str) -> Result<(Rule, Effect), CliError> {
    if let Some(word) = WORDS.iter().find(|word| word.name == name) {
        return Ok((word.rule, word.effect));
    }
    FAMILIES
        .iter()
        .find(|(prefix, _)| name.starts_with(prefix))
        .map(|(_, effect)| (Rule::Anything, *effect))
        .ok_or_else(|| CliError::UnknownWord(name.to_owned()))
}

/// Validates a value. Returns its number, the index of a choice, or 0 if there is
/// no number.
fn check(name: &str, rule: Rule, value: Option<&str>) -> Result<i64, CliError> {
    let missing = || CliError::BadValue(format!("Missing {name} argument"));
    match rule {
        Rule::Nothing | Rule::Anything => Ok(0),
        Rule::MaybeNumber(min, max) => value.map_or(Ok(1), |text| numeric(name, text, min, max)),
        Rule::Number(min, max) => numeric(name, value.ok_or_else(missing)?, min, max),
        Rule::Fraction(max) => fraction(name, value.ok_or_else(missing)?, max),
        Rule::Choice(choices) => choice(name, value.ok_or_else(missing)?, choices),
        Rule::Text => value.map(|_| 0).ok_or_else(missing),
    }
}

fn numeric(name: &str, text: &str, min: i64, max: i64) -> Result<i64, CliError> {
    let number = number::integer(text).ok_or_else(|| not_a_number(name, text))?;
    if (min..=max).contains(&number.value) {
        return Ok(number.value);
    }
    let wanted = format!("{name} must be between {min} and {max}");
    Err(CliError::BadValue(wanted))
}

fn fraction(name: &str, text: &str, max: f64) -> Result<i64, CliError> {
    let number = number::fraction(text).ok_or_else(|| not_a_number(name, text))?;
    if number > 0.0 && number <= max {
        return Ok(0);
    }
    let wanted = format!("{name} must be above 0 and at most {max}");
    Err(CliError::BadValue(wanted))
}

fn choice(name: &str, text: &str, choices: &[&str]) -> Result<i64, CliError> {
    if let Some(index) = choices.iter().position(|choice| *choice == text) {
        return Ok(index as i64);
    }
    let wanted = format!("{name} must be one of {}", choices.join(", "));
    Err(CliError::BadValue(wanted))
}

fn not_a_number(name: &str, text: &str) -> CliError {
    CliError::NotANumber {
        option: format!("-o {name}"),
        text: text.to_owned(),
    }
}

const fn ignored(name: &'static str, rule: Rule) -> Word {
    Word {
        name,
        rule,
        effect: Effect::Ignored,
        help: "",
    }
}

const fn report_only(name: &'static str, rule: Rule, tell: fn(&mut Tunables, f64)) -> Word {
    Word {
        name,
        rule,
        effect: Effect::ReportOnly(tell),
        help: "",
    }
}

const fn granted(name: &'static str) -> Word {
    Word {
        name,
        rule: Rule::Nothing,
        effect: Effect::AlwaysOn,
        help: "",
    }
}

const fn unavailable(name: &'static str, missing: Missing) -> Word {
    Word {
        name,
        rule: Rule::Anything,
        effect: Effect::Unavailable(missing),
        help: "",
    }
}

/// Families of words with a common prefix and effect. Without a flash file, the
/// other `ext_` words have no effect in memcached either.
pub(super) const FAMILIES: &[(&str, Effect)] = &[
    ("proxy_", Effect::Unavailable(Missing::Proxy)),
    ("ext_", Effect::Ignored),
];

const ANY_SIZE: Rule = Rule::Number(0, u32::MAX as i64);

/// All words; those with an effect come first.
pub(super) const WORDS: &[Word] = &[
    Word {
        name: "maxconns_fast",
        rule: Rule::Nothing,
        effect: Effect::Set(|raw, _| raw.maxconns_fast = Some(true)),
        help: "at the connection limit turn newcomers away at once (default)",
    },
    Word {
        name: "no_maxconns_fast",
        rule: Rule::Nothing,
        effect: Effect::Set(|raw, _| raw.maxconns_fast = Some(false)),
        help: "at the connection limit let newcomers wait",
    },
    Word {
        name: "idle_timeout",
        rule: Rule::Number(0, i32::MAX as i64),
        effect: Effect::Set(|raw, seconds| raw.idle_timeout_seconds = Some(seconds)),
        help: "close connections idle for this many seconds; 0, the default, is never",
    },
    Word {
        name: "bare_dumps",
        rule: Rule::Nothing,
        effect: Effect::Set(|raw, _| raw.bare_dumps = true),
        help: "begin key dumps without the line OK, as before memcached 1.6.43",
    },
    Word {
        name: "hashpower",
        rule: Rule::Number(12, 32),
        effect: Effect::Set(|raw, power| raw.hashpower = Some(power)),
        help: "initial hash power, 12 to 32; only reported: the index grows with the items",
    },
    Word {
        name: "eviction",
        rule: Rule::Choice(&EVICTIONS),
        effect: Effect::Set(|raw, index| raw.eviction = Some(index)),
        help: "eviction policy: clock (recency), frequency (recency and frequency) or\n\
               \x20                          frequency_size (the same by size, the default)",
    },
    Word {
        name: "no_latency",
        rule: Rule::Nothing,
        effect: Effect::Set(|raw, _| raw.observe.latency = false),
        help: "record no latencies of commands",
    },
    Word {
        name: "no_hotkeys",
        rule: Rule::Nothing,
        effect: Effect::Set(|raw, _| raw.observe.hot_keys = false),
        help: "do not sample the most requested keys and prefixes",
    },
    Word {
        name: "no_prefixes",
        rule: Rule::Nothing,
        effect: Effect::Set(|raw, _| raw.observe.prefixes = false),
        help: "do not count the busiest key prefixes",
    },
    Word {
        name: "mrc",
        rule: Rule::Nothing,
        effect: Effect::Set(|raw, _| raw.observe.curve = true),
        help: "predict the hit ratio of other sizes of memory (stats mrc)",
    },
    Word {
        name: "ssl_chain_cert",
        rule: Rule::Text,
        effect: Effect::SetText(|raw, path| raw.tls.chain = Some(path.into())),
        help: "file with the certificate and those up to its issuer, in PEM",
    },
    Word {
        name: "ssl_key",
        rule: Rule::Text,
        effect: Effect::SetText(|raw, path| raw.tls.key = Some(path.into())),
        help: "file with the private key, if it is not in that one",
    },
    Word {
        name: "ssl_keyformat",
        rule: Rule::Number(1, 2),
        effect: Effect::Set(|raw, format| raw.tls.key_format = Some(format)),
        help: "how the key is written: 1 is PEM (default), 2 is DER",
    },
    Word {
        name: "ssl_verify_mode",
        rule: Rule::Number(0, 3),
        effect: Effect::Set(|raw, mode| raw.tls.verify_mode = Some(mode)),
        help: "clients' certificates: 0 ignored (default), 1 checked if sent,\n\
               \x20                          2 and 3 demanded",
    },
    Word {
        name: "ssl_ca_cert",
        rule: Rule::Text,
        effect: Effect::SetText(|raw, path| raw.tls.ca = Some(path.into())),
        help: "file with the authorities to check them with, in PEM",
    },
    Word {
        name: "ssl_min_version",
        rule: Rule::Number(0, 3),
        effect: Effect::Set(|raw, version| raw.tls.min_version = Some(version)),
        help: "oldest version spoken: 2 is TLS 1.2 (default), 3 is TLS 1.3",
    },
    Word {
        name: "ssl_session_cache",
        rule: Rule::Nothing,
        effect: Effect::Set(|raw, _| raw.tls.session_cache = true),
        help: "let clients resume sessions",
    },
    Word {
        name: "ssl_wbuf_size",
        rule: Rule::Number(1, 65536),
        effect: Effect::Set(|raw, kib| raw.tls.write_buffer_kib = Some(kib)),
        help: "kilobytes of output a connection encrypts ahead (default: 16)",
    },
    Word {
        name: "ssl_ciphers",
        rule: Rule::Text,
        effect: Effect::SetText(|raw, list| raw.tls.ciphers = Some(list.to_owned())),
        help: "",
    },
    Word {
        name: "ssl_kernel_tls",
        rule: Rule::Nothing,
        effect: Effect::Set(|raw, _| raw.tls.kernel = true),
        help: "",
    },
    Word {
        name: "no_modern",
        rule: Rule::Nothing,
        effect: Effect::Set(|raw, _| {
            raw.maxconns_fast = Some(false);
            raw.tunables.automove = 0;
            raw.tunables.reassign = false;
            raw.tunables.segmented = false;
            raw.tunables.crawler = false;
            raw.tunables.maintainer = false;
        }),
        help: "the defaults of memcached 1.4: no_maxconns_fast, no_lru_crawler, \
               no_lru_maintainer, no_slab_reassign",
    },
    Word {
        name: "no_drop_privileges",
        rule: Rule::Nothing,
        effect: Effect::Set(|raw, _| raw.drop_privileges = false),
        help: "install no system call filter (default)",
    },
    Word {
        name: "drop_privileges",
        rule: Rule::Nothing,
        effect: Effect::Set(|raw, _| raw.drop_privileges = true),
        help: "install a filter that permits only the system calls it needs",
    },
    unavailable("ext_path", Missing::Flash),
    granted("modern"),
    granted("relaxed_privileges"),
    granted("inline_ascii_resp"),
    granted("no_inline_ascii_resp"),
    granted("no_chunked_items"),
    ignored(
        "hash_algorithm",
        Rule::Choice(&["jenkins", "murmur3", "xxh3"]),
    ),
    report_only("hot_lru_pct", Rule::Number(1, 79), |tunables, part| {
        tunables.queue_percents[0] = part as u32;
    }),
    report_only(
        "hot_max_factor",
        Rule::Fraction(f64::MAX),
        |tunables, age| {
            tunables.queue_factors[0] = age;
        },
    ),
    Word {
        name: "lru_crawler",
        rule: Rule::Nothing,
        effect: Effect::Set(|raw, _| raw.tunables.crawler = true),
        help: "sweep out dead items and permit key dumps (default)",
    },
    Word {
        name: "lru_crawler_sleep",
        rule: Rule::Number(0, 1_000_000),
        effect: Effect::Set(|raw, number| raw.tunables.crawler_sleep_us = number as u32),
        help: "pause of a sweep that is asked for, in microseconds (default 100)",
    },
    Word {
        name: "lru_crawler_tocrawl",
        rule: ANY_SIZE,
        effect: Effect::Set(|raw, number| raw.tunables.crawler_items = number as u32),
        help: "items of a class that such a sweep looks at (default 0, all)",
    },
    report_only("lru_maintainer", Rule::Nothing, |tunables, _| {
        tunables.maintainer = true;
        tunables.segmented = true;
    }),
    ignored("meta_response_old", Rule::Nothing),
    ignored("no_hashexpand", Rule::Nothing),
    Word {
        name: "no_lru_crawler",
        rule: Rule::Nothing,
        effect: Effect::Set(|raw, _| raw.tunables.crawler = false),
        help: "neither sweep out dead items nor permit key dumps",
    },
    report_only("no_lru_maintainer", Rule::Nothing, |tunables, _| {
        tunables.maintainer = false;
        tunables.segmented = false;
    }),
    report_only("no_slab_automove", Rule::Nothing, |tunables, _| {
        tunables.automove = 0;
    }),
    Word {
        name: "no_slab_reassign",
        rule: Rule::Nothing,
        effect: Effect::Set(|raw, _| raw.tunables.reassign = false),
        help: "refuse slabs reassign",
    },
    Word {
        name: "read_buf_mem_limit",
        rule: ANY_SIZE,
        effect: Effect::Set(|raw, number| raw.read_buf_mem_limit = number as usize),
        help: "lower --client-memory-limit to this many megabytes and refuse retrievals near \
               it (default 0: no)",
    },
    Word {
        name: "resp_obj_mem_limit",
        rule: ANY_SIZE,
        effect: Effect::Set(|raw, number| raw.read_buf_mem_limit = number as usize),
        help: "older name of read_buf_mem_limit",
    },
    report_only(
        "slab_automove",
        Rule::MaybeNumber(0, 2),
        |tunables, level| {
            tunables.automove = level as u32;
        },
    ),
    ignored("slab_automove_freeratio", Rule::Fraction(1.0)),
    report_only(
        "slab_automove_ratio",
        Rule::Fraction(1.0),
        |tunables, ratio| {
            tunables.automove_ratio = ratio;
        },
    ),
    report_only(
        "slab_automove_window",
        Rule::Number(3, 1800),
        |tunables, window| tunables.automove_window = window as u32,
    ),
    ignored("slab_chunk_max", ANY_SIZE),
    Word {
        name: "slab_reassign",
        rule: Rule::Nothing,
        effect: Effect::Set(|raw, _| raw.tunables.reassign = true),
        help: "permit slabs reassign (default)",
    },
    ignored("slab_sizes", Rule::Text),
    ignored("sock_cookie_id", ANY_SIZE),
    ignored("tail_repair_time", Rule::Number(10, i32::MAX as i64)),
    report_only(
        "temporary_ttl",
        Rule::Number(i32::MIN as i64, i32::MAX as i64),
        |tunables, seconds| {
            tunables.temporary = true;
            tunables.temporary_ttl = seconds as u32;
        },
    ),
    ignored("track_sizes", Rule::Nothing),
    report_only("warm_lru_pct", Rule::Number(1, 79), |tunables, part| {
        tunables.queue_percents[1] = part as u32;
    }),
    report_only(
        "warm_max_factor",
        Rule::Fraction(f64::MAX),
        |tunables, age| {
            tunables.queue_factors[1] = age;
        },
    ),
    ignored("watcher_logbuf_size", ANY_SIZE),
    ignored("worker_logbuf_size", ANY_SIZE),
];
