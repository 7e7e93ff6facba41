//! Property tests: random commands through the parser and the executor,
//! compared with a model, a map with the same rules. With enough memory the
//! replies must equal the model's. With little memory, a miss is always
//! permitted, but no other difference, and the memory limit must hold.

mod acts;
mod concurrent;
mod session;

use std::cell::Cell;
use std::collections::HashMap;

use proptest::test_runner::{Config as Proptest, TestRunner};

use rustcached::config::Config;
use rustcached::protocol::number::parse_item_value;
use rustcached::shared::Shared;
use rustcached::store::{Options, Store};
use rustcached::time::Now;

use crate::acts::{Act, Verb, acts};
use crate::session::Session;

const KEYS: usize = 12;
const ITEM_MAX: usize = 1 << 20;
const PAGE_BYTES: usize = 32 * 1024;
/// Permitted excess over the memory limit. Growing a part of the index takes
/// memory before items are evicted for it. The limit must hold again at the
/// next command.
const SLACK_BYTES: usize = PAGE_BYTES;

/// An item of the model.
#[derive(Clone, Debug)]
struct Kept {
    value: Vec<u8>,
    flags: u32,
    cas: u64,
    /// Expiry time in milliseconds, `None` for never.
    until: Option<u64>,
    /// Whether it has the tag of its key.
    tagged: bool,
}

/// The store under test, and the model.
struct Pair {
    store: Store,
    shared: Shared,
    session: Session,
    now_ms: u64,
    model: HashMap<usize, Kept>,
    cas: u64,
    /// The memory limit is low: the store may have evicted items of the model.
    may_miss: bool,
    replies: Replies,
}

/// Replies to commands on keys that the model has.
#[derive(Clone, Copy, Debug, Default)]
struct Replies {
    /// Equal to the model's.
    equal: u64,
    /// Misses that the low memory limit excuses.
    missed: u64,
}

fn name(key: usize) -> String {
    let group = key % 3;
    format!("g{group}:key{key:0width$}", width = key * 20 + 1)
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    let byte = |index: usize| (index * 3 + (index >> 8)) as u8 ^ seed;
    (0..len).map(byte).collect()
}

impl Pair {
    /// Names that share a slot of the invalidation table die together, which
    /// the model does not know. In the small table of a low memory limit that
    /// happens in one store of 70.
    fn new(max_memory: usize, may_miss: bool) -> Self {
        std::iter::repeat_with(|| Self::with_any_slots(max_memory, may_miss))
            .find_map(|mut pair| pair.each_name_has_its_own_slot().then_some(pair))
            .expect("an endless iterator")
    }

    /// Stores an item for each name, then invalidates one name after another.
    fn each_name_has_its_own_slot(&mut self) -> bool {
        let names: Vec<_> = (0..3)
            .flat_map(|group| [format!("prefix g{group}:"), format!("tag t{group}")])
            .collect();
        // Only outstanding names are looked up.
        for name in &names {
            self.invalidate_now(name);
        }
        let key = |name: &str| name.rsplit(' ').next().expect("a name").to_owned();
        for name in &names {
            let tags = name.strip_prefix("tag ");
            let tags = tags.map_or_else(String::new, |tag| format!(" P{tag}"));
            let answer = self.ask(&format!("ms {} 1{tags}", key(name)), b"x");
            assert_eq!(answer, b"HD\r\n");
        }
        for (index, name) in names.iter().enumerate() {
            self.invalidate_now(name);
            assert_eq!(self.ask(&format!("mg {}", key(name)), b""), b"EN\r\n");
            let mut others = names[index + 1..].iter();
            if others.any(|other| self.ask(&format!("mg {}", key(other)), b"") != b"HD\r\n") {
                return false;
            }
        }
        self.act(&Act::Lap);
        true
    }

    fn invalidate_now(&mut self, name: &str) {
        let answer = self.ask(&format!("invalidate {name}"), b"");
        assert_eq!(answer, b"INVALIDATED\r\n");
    }

    fn with_any_slots(max_memory: usize, may_miss: bool) -> Self {
        let config = Config {
            max_memory,
            max_item_size: ITEM_MAX,
            invalidate_keys: true,
            ..Config::default()
        };
        let store = Store::new(Options::from(&config));
        Self {
            session: Session::new(&store),
            store,
            shared: Shared::new(config),
            now_ms: 10_000,
            model: HashMap::new(),
            cas: 0,
            may_miss,
            replies: Replies::default(),
        }
    }

    /// Sends a line and its data block, and returns the whole reply.
    fn ask(&mut self, line: &str, block: &[u8]) -> Vec<u8> {
        let now = Now::from_millis(self.now_ms);
        self.session
            .ask(&self.store, &self.shared, now, line, block)
    }

    /// Returns the model's item unless it has expired. Time moves in whole
    /// seconds, so the finer resolution of the store makes no difference.
    fn kept(&mut self, key: usize) -> Option<&mut Kept> {
        let now = self.now_ms;
        if self
            .model
            .get(&key)?
            .until
            .is_some_and(|until| until <= now)
        {
            self.model.remove(&key);
        }
        self.model.get_mut(&key)
    }

    fn until(&self, ttl: i32) -> Option<u64> {
        match ttl {
            0 => None,
            ..0 => Some(self.now_ms),
            // Time and TTLs are whole seconds: the store expires the item at
            // the same time.
            _ => Some(self.now_ms + ttl as u64 * 1000),
        }
    }

    /// Compares a reply with the model's. Returns false if it is `miss`
    /// instead, and removes the item from the model.
    fn agrees(&mut self, key: usize, answer: &[u8], wanted: &[u8], miss: &[u8]) -> bool {
        if answer == wanted {
            self.replies.equal += 1;
            return true;
        }
        let text =
            |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        assert!(
            self.may_miss && answer == miss,
            "key {key}: {} ({}), not {} ({})",
            text(answer),
            answer.len(),
            text(wanted),
            wanted.len(),
        );
        self.replies.missed += 1;
        self.model.remove(&key);
        false
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Store {
                verb,
                key,
                flags,
                ttl,
                len,
                seed,
            } => self.store(verb, key, flags, ttl, bytes(len, seed)),
            Act::Number { key, number, width } => {
                let value = format!("{number:0>width$}").into_bytes();
                self.store(Verb::Set, key, 0, 0, value);
            }
            Act::Count {
                key,
                delta,
                decrement,
            } => self.count(key, delta, decrement),
            Act::Get(key) => self.get(key, None),
            Act::GetAndTouch(key, ttl) => self.get(key, Some(ttl)),
            Act::Touch(key, ttl) => self.touch(key, ttl),
            Act::Delete(key) => self.delete(key),
            Act::Invalidate(key) => self.invalidate(key),
            Act::InvalidateName {
                is_tag,
                group,
                stale,
            } => self.invalidate_name(is_tag, group, stale),
            Act::Lap => {
                let now = Now::from_millis(self.now_ms);
                if self.store.begin_lap() {
                    for shard in 0..self.store.shard_count() {
                        self.store.sweep_shard(&mut self.session.local, shard, now);
                    }
                    self.store.end_lap();
                }
                assert!(!self.store.invalidation_state().is_outstanding);
            }
            Act::Flush => {
                assert_eq!(self.ask("flush_all", b""), b"OK\r\n");
                self.model.clear();
            }
            Act::Advance(ms) => self.now_ms += ms / 1000 * 1000 + 1000,
            Act::Sweep => {
                let now = Now::from_millis(self.now_ms);
                for shard in 0..self.store.shard_count() {
                    self.store.sweep_shard(&mut self.session.local, shard, now);
                }
            }
        }
        let used = self.store.page_bytes() + self.store.index_bytes();
        assert!(
            used <= self.store.memory_limit() + SLACK_BYTES,
            "{used} in use"
        );
    }

    fn store(&mut self, verb: Verb, key: usize, flags: u32, ttl: i32, value: Vec<u8>) {
        let old = self.kept(key).cloned();
        // Half of the plain sets have a tag, and some of these a CAS value.
        if let Verb::Set = verb
            && flags % 2 == 1
        {
            return self.store_tagged(key, flags, ttl, value);
        }
        let (word, cas) = match verb {
            Verb::Set => ("set", None),
            Verb::Add => ("add", None),
            Verb::Replace => ("replace", None),
            Verb::Append => ("append", None),
            Verb::Prepend => ("prepend", None),
            Verb::Cas(right) => {
                let right = if right { 0 } else { 1 << 40 };
                ("cas", Some(old.as_ref().map_or(1, |old| old.cas) + right))
            }
        };
        let cas_word = cas.map_or_else(String::new, |cas| format!(" {cas}"));
        let line = format!(
            "{word} {} {flags} {ttl} {}{cas_word}",
            name(key),
            value.len()
        );
        let answer = self.ask(&line, &value);
        let (wanted, new) = stored(verb, old.as_ref(), flags, self.until(ttl), value);
        let miss: &[u8] = match verb {
            Verb::Cas(_) => b"NOT_FOUND\r\n",
            Verb::Add => b"STORED\r\n",
            _ => b"NOT_STORED\r\n",
        };
        let agreed = self.agrees(key, &answer, wanted, miss);
        if let (true, Some(new)) = (agreed, new) {
            self.model.insert(key, new);
            self.learn_cas(key);
        } else if !agreed {
            // Either an `add` succeeded because the item had been evicted, or
            // an append failed for lack of memory. The model has no item, so
            // remove it from the store.
            self.ask(&format!("delete {}", name(key)), b"");
        }
    }

    /// Stores an item with the tag of its key, whose CAS value may be given.
    fn store_tagged(&mut self, key: usize, flags: u32, ttl: i32, value: Vec<u8>) {
        let given = (flags % 4 == 1).then(|| (1 << 62) + u64::from(flags));
        let cas = given.map_or_else(String::new, |cas| format!(" E{cas}"));
        let line = format!(
            "ms {} {} T{ttl} F{flags} Pt{}{cas}",
            name(key),
            value.len(),
            key % 3
        );
        let until = self.until(ttl);
        let answer = self.ask(&line, &value);
        assert_eq!(answer, b"HD\r\n");
        let kept = Kept {
            value,
            flags,
            cas: given.unwrap_or(0),
            until,
            tagged: true,
        };
        self.model.insert(key, kept);
        if given.is_none() {
            self.learn_cas(key);
        }
    }

    /// Reads the CAS value that the store assigned, which must be new.
    fn learn_cas(&mut self, key: usize) {
        let answer = self.ask(&format!("mg {} c", name(key)), b"");
        let text = String::from_utf8(answer).expect("ASCII");
        let Some(cas) = text.trim_end().strip_prefix("HD c") else {
            let gone = text == "EN\r\n";
            let over = self.kept(key).is_none();
            assert!(gone && (self.may_miss || over), "key {key}: {text}");
            self.model.remove(&key);
            return;
        };
        let cas = cas.split(' ').next().and_then(|cas| cas.parse().ok());
        let cas = cas.expect("a number");
        assert!(cas > self.cas, "{cas} comes after {}", self.cas);
        self.cas = cas;
        self.model.get_mut(&key).expect("just stored").cas = cas;
    }

    fn get(&mut self, key: usize, ttl: Option<i32>) {
        let until = ttl.map(|ttl| self.until(ttl));
        let name = name(key);
        let line = ttl.map_or_else(
            || format!("gets {name}"),
            |ttl| format!("gats {ttl} {name}"),
        );
        let answer = self.ask(&line, b"");
        let Some(kept) = self.kept(key) else {
            assert_eq!(answer, b"END\r\n", "key {key} is gone");
            return;
        };
        let title = format!(
            "VALUE {name} {} {} {}\r\n",
            kept.flags,
            kept.value.len(),
            kept.cas
        );
        kept.until = until.unwrap_or(kept.until);
        let wanted = [title.as_bytes(), &kept.value, b"\r\nEND\r\n"].concat();
        self.agrees(key, &answer, &wanted, b"END\r\n");
    }

    fn touch(&mut self, key: usize, ttl: i32) {
        let until = self.until(ttl);
        let answer = self.ask(&format!("touch {} {ttl}", name(key)), b"");
        match self.kept(key) {
            Some(kept) => {
                kept.until = until;
                self.agrees(key, &answer, b"TOUCHED\r\n", b"NOT_FOUND\r\n");
            }
            None => assert_eq!(answer, b"NOT_FOUND\r\n"),
        }
    }

    fn delete(&mut self, key: usize) {
        let answer = self.ask(&format!("delete {}", name(key)), b"");
        match self.kept(key) {
            Some(_) => {
                self.agrees(key, &answer, b"DELETED\r\n", b"NOT_FOUND\r\n");
                self.model.remove(&key);
            }
            None => assert_eq!(answer, b"NOT_FOUND\r\n"),
        }
    }

    /// Marks a key as stale. The first `mg` afterwards must win the right to
    /// refill it (`W`).
    fn invalidate(&mut self, key: usize) {
        let answer = self.ask(&format!("md {} I", name(key)), b"");
        if self.kept(key).is_none() {
            assert_eq!(answer, b"NF\r\n");
        } else if self.agrees(key, &answer, b"HD\r\n", b"NF\r\n") {
            let answer = self.ask(&format!("mg {}", name(key)), b"");
            assert_eq!(answer, b"HD X W\r\n", "the first to look wins");
            self.learn_cas(key);
        }
    }

    /// Invalidates the keys of a group. Items that become stale have new CAS
    /// values.
    fn invalidate_name(&mut self, is_tag: bool, group: usize, stale: bool) {
        let line = match (is_tag, stale) {
            (false, false) => format!("invalidate prefix g{group}:"),
            (true, false) => format!("invalidate tag t{group}"),
            (false, true) => format!("md @prefix/g{group}: I"),
            (true, true) => format!("md @tag/t{group} I"),
        };
        let wanted: &[u8] = if stale { b"HD\r\n" } else { b"INVALIDATED\r\n" };
        assert_eq!(self.ask(&line, b""), wanted);
        for key in (group..KEYS).step_by(3) {
            let Some(kept) = self.kept(key) else { continue };
            if is_tag && !kept.tagged {
                continue;
            }
            if stale {
                self.learn_cas(key);
            } else {
                self.model.remove(&key);
            }
        }
    }

    fn count(&mut self, key: usize, delta: u64, decrement: bool) {
        let word = if decrement { "decr" } else { "incr" };
        let answer = self.ask(&format!("{word} {} {delta}", name(key)), b"");
        let Some(kept) = self.kept(key) else {
            assert_eq!(answer, b"NOT_FOUND\r\n");
            return;
        };
        // Parsing of numbers is tested with the parser.
        let number = parse_item_value(&kept.value);
        let Some(number) = number else {
            let wanted: &[u8] = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
            self.agrees(key, &answer, wanted, b"NOT_FOUND\r\n");
            return;
        };
        let number = if decrement {
            number.saturating_sub(delta)
        } else {
            number.wrapping_add(delta)
        };
        let digits = number.to_string();
        let width = kept.value.len().max(digits.len());
        let wanted = format!("{digits}\r\n");
        if self.agrees(key, &answer, wanted.as_bytes(), b"NOT_FOUND\r\n") {
            let kept = self.model.get_mut(&key).expect("just looked at");
            kept.value = digits.into_bytes();
            kept.value.resize(width, b' ');
            self.learn_cas(key);
        }
    }
}

/// Returns the model's reply to a storage command and the resulting item.
fn stored(
    verb: Verb,
    old: Option<&Kept>,
    flags: u32,
    until: Option<u64>,
    value: Vec<u8>,
) -> (&'static [u8], Option<Kept>) {
    let fresh = |value| Kept {
        value,
        flags,
        cas: 0,
        until,
        tagged: false,
    };
    let joined = |old: &Kept, value: Vec<u8>| Kept {
        value,
        ..old.clone()
    };
    match (verb, old) {
        (Verb::Set, _) | (Verb::Add, None) | (Verb::Replace | Verb::Cas(true), Some(_)) => {
            (b"STORED\r\n", Some(fresh(value)))
        }
        (Verb::Cas(_), None) => (b"NOT_FOUND\r\n", None),
        (Verb::Cas(false), Some(_)) => (b"EXISTS\r\n", None),
        (Verb::Append, Some(old)) if old.value.len() + value.len() < ITEM_MAX - 500 => {
            let value = [&old.value[..], &value].concat();
            (b"STORED\r\n", Some(joined(old, value)))
        }
        (Verb::Prepend, Some(old)) if old.value.len() + value.len() < ITEM_MAX - 500 => {
            let value = [&value[..], &old.value].concat();
            (b"STORED\r\n", Some(joined(old, value)))
        }
        _ => (b"NOT_STORED\r\n", None),
    }
}

fn check(cases: u32, max_memory: usize, may_miss: bool) {
    let config = Proptest {
        failure_persistence: None,
        ..Proptest::with_cases(cases)
    };
    let evictions = Cell::new(0);
    let replies = Cell::new(Replies::default());
    let run = |acts: Vec<Act>| {
        let mut pair = Pair::new(max_memory, may_miss);
        acts.iter().for_each(|act| pair.act(act));
        for key in 0..KEYS {
            pair.get(key, None);
            pair.delete(key);
        }
        let sum = pair.store.stats().snapshot();
        assert_eq!((sum.items, sum.item_bytes), (0, 0));
        assert!(may_miss || sum.evictions == 0);
        evictions.set(evictions.get() + sum.evictions);
        let before = replies.get();
        replies.set(Replies {
            equal: before.equal + pair.replies.equal,
            missed: before.missed + pair.replies.missed,
        });
        Ok(())
    };
    TestRunner::new(config)
        .run(&acts(), run)
        .expect("no command surprises");
    assert_eq!(evictions.get() > 0, may_miss);
    // A store that always missed would agree with the model as well.
    let Replies { equal, missed } = replies.get();
    assert_eq!(missed > 0, may_miss);
    assert!(missed < equal / 10, "{equal} equal, {missed} missed");
}

#[test]
fn with_enough_memory_the_answers_are_the_models() {
    check(600, 64 << 20, false);
}

#[test]
fn with_hardly_any_memory_a_miss_is_the_worst() {
    check(1000, 1 << 20, true);
}
