//! Administrative commands `lru`, `lru_crawler`, `slabs`, `extstore` and
//! `watch`, and the statistics that walk the store.
//!
//! Malformed commands get memcached's replies. Settings without a counterpart
//! in this server are stored and reported by `stats settings`, without effect.

use crate::command::admin::dump::KeyDump;
use crate::command::after::StreamedReply;
use crate::command::executor::Executor;
use crate::config::MemoryShare;
use crate::events::Filter;
use crate::limits::{CLASSES_MAX, CRAWLER_SLEEP_MAX_US, ClassId, KEY_MAX_BYTES};
use crate::protocol::number::{strict_i32, strict_u32};
use crate::protocol::tokens::tokens;
use crate::protocol::verb::ControlVerb;
use crate::sync::Ordering;

const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";
const BAD_CLASS: &str = "BADCLASS invalid class id";

/// Reply to an administrative command.
pub(in crate::command) enum AdminReply {
    /// A line, without CRLF.
    Line(&'static str),
    /// A composed line, without CRLF.
    Text(String),
    /// A streamed reply.
    StreamedReply(StreamedReply),
}

impl Executor<'_> {
    /// Executes an administrative command. `output_is_empty` means that the connection
    /// has no unsent output.
    pub(in crate::command) fn operate(
        &mut self,
        verb: ControlVerb,
        line: &[u8],
        output_is_empty: bool,
    ) -> AdminReply {
        let words: Vec<&[u8]> = tokens(line).collect();
        let line_reply = match verb {
            ControlVerb::Watch => return self.watch(&words, output_is_empty),
            ControlVerb::LruCrawler => return self.crawler(&words, output_is_empty),
            ControlVerb::Lru => self.tune_queues(&words),
            ControlVerb::Slabs => self.slabs_command(&words),
            ControlVerb::Extstore => extstore(&words),
            ControlVerb::PrefixLimit => return AdminReply::Text(self.limit_prefix(&words)),
            #[cfg(feature = "debugtime")]
            ControlVerb::DebugTime => self.move_time(&words),
        };
        AdminReply::Line(line_reply.unwrap_or("ERROR"))
    }

    /// `prefix_limit <prefix> <limit>|none` changes the limit of a prefix.
    fn limit_prefix(&self, words: &[&[u8]]) -> String {
        const USAGE: &str =
            "CLIENT_ERROR usage: prefix_limit prefix 1%-100%|megabytes|none [noreply]";
        let (&[prefix, limit] | &[prefix, limit, b"noreply"]) = words else {
            return USAGE.to_owned();
        };
        let share = match limit {
            b"none" => None,
            limit => match MemoryShare::parse(limit) {
                Some(share) => Some(share),
                None => return USAGE.to_owned(),
            },
        };
        match self.store.set_prefix_limit(prefix, share) {
            Ok(()) => "OK".to_owned(),
            Err(bad) => format!("CLIENT_ERROR {bad}"),
        }
    }

    /// Executes the statistics that walk the store; `None` for all others.
    pub(in crate::command) fn walking_stats(&self, line: &[u8]) -> Option<AdminReply> {
        let words: Vec<&[u8]> = tokens(line).collect();
        let group = *words.first()?;
        if group == b"sizes" {
            return Some(AdminReply::StreamedReply(StreamedReply::Dump(
                self.sizes(None),
            )));
        }
        if !matches(group, "cachedump") {
            return None;
        }
        Some(
            self.cachedump_command(&words)
                .unwrap_or_else(AdminReply::Line),
        )
    }

    /// `debugtime <seconds>` moves the server's clock forward. Unlike
    /// memcached's debug build, it cannot move the clock back or stop it.
    #[cfg(feature = "debugtime")]
    fn move_time(&mut self, words: &[&[u8]]) -> Option<&'static str> {
        let seconds = strict_u32(words.first()?)?;
        // TTLs end up to an eighth of a second late, never early.
        let ms = u64::from(seconds) * 1000 + crate::time::EIGHTH_MS;
        let by = std::time::Duration::from_millis(ms);
        self.shared.clock.advance(by);
        // Later commands of the batch must see the new time.
        self.now = self.shared.clock.now();
        self.local.now = self.now;
        Some("OK")
    }

    fn cachedump_command(&self, words: &[&[u8]]) -> Result<AdminReply, &'static str> {
        if !self.shared.config.dump {
            return Err("CLIENT_ERROR stats cachedump not allowed");
        }
        let &[_, class, limit, ..] = words else {
            return Err("CLIENT_ERROR bad command line");
        };
        let (class, limit) = (strict_u32(class), strict_u32(limit));
        let class = class.ok_or(BAD_FORMAT)?;
        let limit = limit.ok_or(BAD_FORMAT)?;
        let class = match class {
            0 => None,
            number => Some(ClassId::new(number).ok_or("CLIENT_ERROR Illegal slab id")?),
        };
        Ok(AdminReply::StreamedReply(StreamedReply::Dump(
            self.cachedump(class, limit.into()),
        )))
    }

    fn watch(&self, words: &[&[u8]], output_is_empty: bool) -> AdminReply {
        if !self.shared.config.watch {
            return AdminReply::Line("CLIENT_ERROR watch commands not allowed");
        }
        if !output_is_empty {
            return AdminReply::Line("ERROR cannot pipeline other commands before watch");
        }
        let Some(filter) = Filter::parse(words.iter().copied()) else {
            return AdminReply::Line("ERROR");
        };
        if !self.shared.events.admit_watcher() {
            return AdminReply::Line("WATCHER_TOO_MANY log watcher limit reached");
        }
        AdminReply::StreamedReply(StreamedReply::Watch(filter))
    }

    fn crawler(&mut self, words: &[&[u8]], output_is_empty: bool) -> AdminReply {
        match *words {
            [word] if matches(word, "enable") => AdminReply::Line(self.switch_crawler(true)),
            [word] if matches(word, "disable") => AdminReply::Line(self.switch_crawler(false)),
            [word, classes] if matches(word, "crawl") => AdminReply::Line(self.crawl(classes)),
            [word, classes] | [word, classes, _] if matches(word, "metadump") => {
                let refusals = [
                    "ERROR metadump not allowed",
                    "ERROR cannot pipeline other commands before metadump",
                ];
                self.start_dump(
                    KeyDump::Metadump,
                    classes,
                    words.get(2),
                    output_is_empty,
                    refusals,
                )
            }
            [word, classes] | [word, classes, _] if matches(word, "mgdump") => {
                let refusals = [
                    "ERROR key dump not allowed",
                    "ERROR cannot pipeline other commands before mgdump",
                ];
                self.start_dump(
                    KeyDump::Mgdump,
                    classes,
                    words.get(2),
                    output_is_empty,
                    refusals,
                )
            }
            [word, number] if matches(word, "tocrawl") => {
                let mut tunables = self.shared.runtime.tunables();
                AdminReply::Line(strict_u32(number).map_or(BAD_FORMAT, |number| {
                    tunables.crawler_items = number;
                    "OK"
                }))
            }
            [word, number] if matches(word, "sleep") => {
                let mut tunables = self.shared.runtime.tunables();
                AdminReply::Line(match strict_u32(number) {
                    None => BAD_FORMAT,
                    Some(number @ ..=CRAWLER_SLEEP_MAX_US) => {
                        tunables.crawler_sleep_us = number;
                        "OK"
                    }
                    Some(_) => "CLIENT_ERROR sleep must be one second or less",
                })
            }
            _ => AdminReply::Line("ERROR"),
        }
    }

    fn switch_crawler(&self, on: bool) -> &'static str {
        let mut tunables = self.shared.runtime.tunables();
        if on && tunables.crawler {
            return "ERROR failed to start lru crawler thread";
        }
        tunables.crawler = on;
        "OK"
    }

    /// Requests a sweep from the upkeep thread.
    fn crawl(&self, classes: &[u8]) -> &'static str {
        if !self.shared.runtime.tunables().crawler {
            return "CLIENT_ERROR lru crawler disabled";
        }
        let Some(classes) = class_set(classes) else {
            return BAD_CLASS;
        };
        let crawl = &self.shared.runtime.crawl;
        let idle = crawl
            .wanted
            .compare_exchange(0, classes, Ordering::Relaxed, Ordering::Relaxed);
        if idle.is_err() {
            return "BUSY currently processing crawler request";
        }
        crawl.starts.fetch_add(1, Ordering::Relaxed);
        "OK"
    }

    /// Starts a key dump. `refusals` are the replies if dumps are disabled and
    /// if the connection has unsent output.
    fn start_dump(
        &self,
        kind: KeyDump,
        classes: &[u8],
        filter: Option<&&[u8]>,
        output_is_empty: bool,
        refusals: [&'static str; 2],
    ) -> AdminReply {
        if !self.shared.runtime.tunables().crawler {
            return AdminReply::Line("CLIENT_ERROR lru crawler disabled");
        }
        if !self.shared.config.dump {
            return AdminReply::Line(refusals[0]);
        }
        if !output_is_empty {
            return AdminReply::Line(refusals[1]);
        }
        let prefix = match filter.map(|word| word.strip_prefix(b"prefix=")) {
            None => &[],
            Some(Some(prefix)) if prefix.len() <= KEY_MAX_BYTES => prefix,
            Some(_) => return AdminReply::Line("ERROR"),
        };
        let classes = if classes == b"hash" {
            Some(u64::MAX)
        } else {
            class_set(classes)
        };
        let Some(classes) = classes else {
            return AdminReply::Line(BAD_CLASS);
        };
        let starts = &self.shared.runtime.crawl.starts;
        starts.fetch_add(1, Ordering::Relaxed);
        AdminReply::StreamedReply(StreamedReply::Dump(self.key_dump(kind, classes, prefix)))
    }

    /// Executes `lru`; `None` for a malformed command.
    fn tune_queues(&self, words: &[&[u8]]) -> Option<&'static str> {
        let mut tunables = self.shared.runtime.tunables();
        match *words {
            [word, hot, warm, hot_factor, warm_factor, ..] if matches(word, "tune") => {
                let percents = [strict_u32(hot)?, strict_u32(warm)?];
                let factors = [fraction(hot_factor)?, fraction(warm_factor)?];
                if percents[0].saturating_add(percents[1]) > 80 {
                    return Some("ERROR hot and warm pcts must not exceed 80");
                }
                if factors.iter().any(|factor| *factor <= 0.0) {
                    return Some("ERROR hot/warm age factors must be greater than 0");
                }
                tunables.queue_percents = percents;
                tunables.queue_factors = factors;
            }
            [word, mode, ..] if matches(word, "mode") && tunables.maintainer => match mode {
                b"flat" => tunables.segmented = false,
                b"segmented" => tunables.segmented = true,
                _ => return None,
            },
            [word, seconds, ..] if matches(word, "temp_ttl") && tunables.maintainer => {
                let seconds = u32::try_from(strict_i32(seconds)?);
                tunables.temporary = seconds.is_ok();
                tunables.temporary_ttl = seconds.unwrap_or(tunables.temporary_ttl);
            }
            _ => return None,
        }
        Some("OK")
    }

    fn slabs_command(&mut self, words: &[&[u8]]) -> Option<&'static str> {
        match *words {
            [word, _, _]
                if matches(word, "reassign") && !self.shared.runtime.tunables().reassign =>
            {
                Some("CLIENT_ERROR slab reassignment disabled")
            }
            [word, from, to] if matches(word, "reassign") => {
                let (Some(from), Some(to)) = (strict_i32(from), strict_i32(to)) else {
                    return Some(BAD_FORMAT);
                };
                Some(self.reassign(from, to))
            }
            [word, ..] if words.len() >= 2 && matches(word, "automove") => {
                self.automove(&words[1..])
            }
            _ => None,
        }
    }

    /// Takes a page from size class `from`. The next class that needs a page
    /// gets it, whatever `to` is.
    fn reassign(&mut self, from: i32, to: i32) -> &'static str {
        const ANY: i32 = -1;
        let is_class = |number: i32| number == 0 || ClassId::new(number).is_some();
        if from == to {
            return "SAME src and dst class are identical";
        }
        if !(is_class(from) || from == ANY) || !is_class(to) {
            return "BADCLASS invalid src or dst class id";
        }
        let given = match ClassId::new(from) {
            Some(class) => self.store.give_up_page(self.local, class),
            None if from == 0 => self.store.idle_pages() > 0,
            None => ClassId::all().any(|class| {
                i32::from(class.number()) != to && self.store.give_up_page(self.local, class)
            }),
        };
        if given {
            "OK"
        } else {
            "NOSPARE source class has no spare pages"
        }
    }

    fn automove(&self, words: &[&[u8]]) -> Option<&'static str> {
        let mut tunables = self.shared.runtime.tunables();
        let (word, value) = (*words.first()?, words.get(1).copied());
        if matches(word, "ratio") {
            tunables.automove_ratio = fraction(value?)?;
        } else if matches(word, "freeratio") {
            fraction(value?)?;
        } else if matches(word, "window") {
            match value.and_then(strict_u32) {
                Some(window @ 3..=1800) => tunables.automove_window = window,
                Some(_) => return Some("CLIENT_ERROR automove window too low or too high"),
                None => return Some(BAD_FORMAT),
            }
        } else {
            match strict_u32(word) {
                None => return Some(BAD_FORMAT),
                Some(level @ 0..=2) => tunables.automove = level,
                Some(_) => return None,
            }
        }
        Some("OK")
    }
}

/// Executes `extstore`. There is no flash storage here; settings are accepted
/// as memcached accepts them without it.
fn extstore(words: &[&[u8]]) -> Option<&'static str> {
    const NUMBERS: [&str; 8] = [
        "item_size",
        "item_age",
        "low_ttl",
        "recache_rate",
        "compact_under",
        "drop_under",
        "max_sleep",
        "drop_unread",
    ];
    match *words {
        [word, class, limit, ..] if matches(word, "free_memchunks") => {
            strict_u32(limit)?;
            (strict_u32(class)? as usize <= CLASSES_MAX).then_some("OK")
        }
        [word, value, ..] if matches(word, "max_frag") => fraction(value).map(|_| "OK"),
        [word, value, ..] if NUMBERS.iter().any(|name| matches(word, name)) => {
            strict_u32(value).map(|_| "OK")
        }
        _ => None,
    }
}

/// As in memcached, words may be abbreviated. A NUL ends the word, which must
/// then be complete.
fn matches(word: &[u8], name: &str) -> bool {
    match memchr::memchr(0, word) {
        Some(end) => word[..end] == *name.as_bytes(),
        None => name.as_bytes().starts_with(word),
    }
}

/// Parses a number like the C library: white space or NUL ends it.
fn fraction(token: &[u8]) -> Option<f64> {
    const LONGEST: usize = 31;
    let text = std::str::from_utf8(token).ok()?.trim_ascii_start();
    let end = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, 0 | 0x0b);
    let digits = text
        .split(|letter| u8::try_from(letter).is_ok_and(end))
        .next()?;
    let number: f64 = digits.parse().ok().filter(|_| token.len() <= LONGEST)?;
    number.is_finite().then_some(number)
}

/// Parses `all` or ids separated by commas into a bit set, class 1 in the
/// lowest bit. `None` for invalid ids or none.
fn class_set(word: &[u8]) -> Option<u64> {
    if word == b"all" {
        return Some(u64::MAX);
    }
    let mut set = 0;
    for id in word.split(|byte| *byte == b',').filter(|id| !id.is_empty()) {
        set |= 1 << ClassId::new(strict_u32(id)?)?.index();
    }
    Some(set).filter(|set| *set != 0)
}

#[cfg(test)]
mod tests {
    use super::{class_set, extstore};

    #[test]
    fn classes_are_listed() {
        assert_eq!(class_set(b"all"), Some(u64::MAX));
        assert_eq!(class_set(b"1,3,,63"), Some(1 | 4 | 1 << 62));
        for wrong in [&b"0"[..], b"64", b"x", b",", b"1,x", b"-1"] {
            assert_eq!(class_set(wrong), None);
        }
    }

    #[test]
    fn flash_settings_are_taken() {
        let ask = |line: &str| {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            extstore(&words).is_some()
        };
        assert!(ask("item_size 5") && ask("max_frag 0.5") && ask("free_memchunks 5 1"));
        assert!(!ask("item_size") && !ask("item_size x") && !ask("nonsense 5"));
        assert!(!ask("free_memchunks 64 1"));
    }
}
