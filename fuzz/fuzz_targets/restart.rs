//! Fuzzes the loading of memory files (`-e`, `--save-path`).
//!
//! Fills a store, seals it, changes the file and corrects its checksums, so that
//! the changes pass them. Then loads the file and works with the store until
//! memory is short. Nothing may panic, no item may reach beyond its chunks, no
//! chunk may be lost, and the memory limit must be kept.

#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use rustcached::config::Eviction;
use rustcached::stats::Restored;
use rustcached::store::restart::craft::{Crafted, RecordField, SuperblockField};
use rustcached::store::restart::{EmptyReason, Opened, StopState};
use rustcached::store::{Access, Effect, ItemSpec, Local, Name, Options, Store, Walk};
use rustcached::time::{Expiry, Moment, Now};

const KIB: usize = 1024;
/// Memory limits of the first server are 2 to 4 MiB.
const LIMIT: usize = 2048 * KIB;
/// Maximum number of items, changes and operations.
const STEPS_MAX: usize = 64;
/// Maximum bytes of all values that a store is filled with.
const VALUES_MAX_BYTES: usize = 1024 * KIB;
const NOW: Now = Now::from_millis(1_000_000);
const MOMENT: Moment = Moment {
    unix_ms: 1_700_000_000_000,
    boot_ms: 5_000_000,
    boot_id: 77,
};

#[derive(Arbitrary, Debug)]
struct Input {
    is_arena: bool,
    evictions: [u8; 2],
    limits: [u8; 2],
    away_ms: u32,
    flushes: bool,
    invalidates: bool,
    restarts: bool,
    items: Vec<Spec>,
    changes: Vec<Change>,
    cut: Option<u16>,
    operations: Vec<Operation>,
}

#[derive(Arbitrary, Debug)]
struct Spec {
    key: u8,
    len: u16,
    large: bool,
    flags: bool,
    ttl: Option<u16>,
    deleted: bool,
    appended: Option<u16>,
    tags: u8,
    cas: Option<u64>,
}

/// A number that is likely to matter.
#[derive(Arbitrary, Debug)]
enum Number {
    Small(u8),
    Any(u64),
    Bit(u8),
    BelowBit(u8),
    Nearby(i8),
}

/// A chunk in a page.
#[derive(Arbitrary, Debug)]
struct Place {
    page: u8,
    chunk: u16,
}

#[derive(Arbitrary, Debug)]
enum Change {
    Superblock(u8, Number),
    Record(u8, u8, Number),
    RemoveRecord(u8),
    Exchange(u8, u8),
    /// The word of a chunk: its flags in the upper bits, its stamp.
    Word(Place, u8, u16),
    /// Any bytes of a chunk.
    Bytes(Place, u8, [u8; 4]),
    /// Value length, key length, bits.
    Lengths(Place, u16, u8, u8),
    /// Fields of a chained item.
    Chain(Place, u16, u32),
    /// Length of a segment.
    Segment(Place, u16),
    /// The link of a head or of a segment to a chunk.
    Link(Place, Place, u8),
    /// A copy of a chunk.
    Copy(Place, Place),
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Store(Spec),
    Fill(u8, u16),
    Get(u8),
    Limit(u8),
    Sweep,
    Compact,
    Flush,
    Cas,
    Pace,
    Invalidate(u8, bool),
    Lap,
}

fuzz_target!(|input: Input| examine(&input));

fn examine(input: &Input) {
    let path = path();
    let _ = fs::remove_file(&path);
    let (store, result) = open(&path, input, 0);
    assert!(matches!(result, Err(EmptyReason::New)), "{result:?}");
    fill(&store, input);
    stop(&store, &path, input);
    drop(store);
    let mut file = Crafted::read(&path).expect("just written");
    for change in input.changes.iter().take(STEPS_MAX) {
        apply(&mut file, change);
    }
    let cut = input.cut.map_or(0, usize::from);
    file.write(&path, cut).expect("there is room");
    let (store, result) = open(&path, input, 1);
    work(&store, &input.operations);
    let is_usable = match result {
        Err(EmptyReason::Foreign | EmptyReason::OtherKind | EmptyReason::Unreadable(_)) => false,
        Ok(_) | Err(_) => true,
    };
    if is_usable && input.restarts {
        // What was loaded can be saved and loaded again, completely.
        let items = store.audit(&mut store.local());
        stop(&store, &path, input);
        drop(store);
        let (store, result) = open(&path, input, 1);
        let restored = result.expect("nobody has damaged it");
        let damaged = restored.dropped.damaged;
        assert_eq!(damaged, 0, "{restored:?}");
        let loaded = restored.kept + restored.dropped.total();
        // A stop leaves out what was invalidated.
        let invalidates = |operation: &Operation| matches!(operation, Operation::Invalidate(..));
        match input.operations.iter().any(invalidates) {
            true => assert!(loaded <= items, "{restored:?}"),
            false => assert_eq!(loaded, items),
        }
        work(&store, &[]);
        empty(&store);
    } else {
        empty(&store);
    }
    let _ = fs::remove_file(&path);
}

fn path() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let name = format!("rustcached-fuzz-{}", std::process::id());
    match memory.is_dir() {
        true => memory.join(name),
        false => std::env::temp_dir().join(name),
    }
}

fn open(path: &Path, input: &Input, run: usize) -> (Store, Result<Restored, EmptyReason>) {
    let away = if run == 0 { 0 } else { input.away_ms.into() };
    let moment = Moment {
        unix_ms: MOMENT.unix_ms + away,
        boot_ms: MOMENT.boot_ms + away,
        ..MOMENT
    };
    let opened = match input.is_arena {
        true => Opened::arena(path, None, moment),
        false => Opened::saved(path, None, moment),
    };
    let eviction = match input.evictions[run] % 3 {
        0 => Eviction::Clock,
        1 => Eviction::Frequency,
        _ => Eviction::default(),
    };
    let options = Options {
        max_memory: LIMIT + usize::from(input.limits[run]) * 8 * KIB,
        evict: true,
        max_item_size: 1 << 20,
        eviction,
        cas: true,
        delimiter: b':',
    };
    let now = opened.clock().now();
    let saved = (!input.is_arena).then_some(path);
    let (stats, events) = (Arc::default(), Arc::default());
    let (store, result) = Store::open(options, stats, events, opened, saved, now, &|work| work());
    keeps_limit(&store);
    (store, result)
}

fn stop(store: &Store, path: &Path, input: &Input) {
    let state = StopState {
        now: NOW,
        moment: MOMENT,
        flush_at: Expiry::NEVER,
    };
    match input.is_arena {
        true => store.seal(state, &|work| work()).expect("there is room"),
        false => store
            .save(path, state, &|work| work(), |_, _| ())
            .expect("there is room"),
    };
}

fn fill(store: &Store, input: &Input) {
    let mut local = store.local();
    let mut left = VALUES_MAX_BYTES;
    for (number, spec) in input.items.iter().take(STEPS_MAX).enumerate() {
        if input.flushes && number == 3 {
            store.flush_all(&mut local);
        }
        if input.invalidates && number == 5 {
            invalidate(store, &mut local, spec.tags, spec.large);
        }
        put(store, &mut local, spec, &mut left);
    }
    store.audit(&mut local);
}

fn invalidate(store: &Store, local: &mut Local, tag: u8, stale: bool) {
    let effect = match stale {
        true => Effect::MarkStale,
        false => Effect::Delete,
    };
    let tag = [b'a' + tag % 20];
    let done = store.invalidate(local, Name::Tag(&tag), effect);
    assert_eq!(done, Ok(()));
}

/// Stores an item, appends to it and deletes it, as `spec` demands.
fn put(store: &Store, local: &mut Local, spec: &Spec, left: &mut usize) {
    let len = usize::from(spec.len) * if spec.large { 8 } else { 1 };
    let len = len.min(*left);
    *left -= len;
    let name = format!("key-{}", spec.key);
    let key = store.hashed(name.as_bytes());
    let value = vec![b'v'; len];
    let names: Vec<[u8; 1]> = (0..spec.tags % 20).map(|tag| [b'a' + tag]).collect();
    let tags = store.tags(names.iter().map(|name| &name[..]));
    let item = ItemSpec {
        tags: Some(&tags),
        with_birth_field: spec.cas.is_some(),
        flags: spec.flags.into(),
        expiry: spec.ttl.map_or(Expiry::NEVER, |ttl| {
            Expiry::from_protocol(i32::from(ttl), NOW)
        }),
        ..ItemSpec::new(key.key, len)
    };
    let pieces = std::iter::once(&value[..]);
    let Ok(new) = store.new_filled(local, &key, &item, NOW, pieces) else {
        return;
    };
    store.edit(local, &key, NOW, |entry| {
        entry.put_born(new, store.draw(spec.cas));
    });
    if let Some(more) = spec.appended {
        let more = usize::from(more).min(*left);
        *left -= more;
        let value = vec![b'a'; more];
        let pieces = std::iter::once(&value[..]);
        let item = ItemSpec::new(key.key, more);
        if let Ok(new) = store.new_filled(local, &key, &item, NOW, pieces) {
            store.append_in_place(local, &new, NOW, |_| true, None);
            store.discard(local, new);
        }
    }
    if spec.deleted {
        store.edit(local, &key, NOW, |entry| entry.remove());
    }
}

fn apply(file: &mut Crafted, change: &Change) {
    use SuperblockField as Field;
    if let Change::Superblock(field, number) = change {
        let field = [
            Field::IsArena,
            Field::Extents,
            Field::Directory,
            Field::Pages,
            Field::FlushAt,
            Field::Items,
            Field::ClockMs,
            Field::UnixMs,
            Field::BootMs,
            Field::BootId,
            Field::Cas,
            Field::Generation,
            Field::NameSeed,
            Field::Clock,
            Field::Speed,
            Field::Pace,
        ][usize::from(*field) % 16];
        let number = number.near(file.superblock(field));
        file.set_superblock(field, number);
        return;
    }
    let pages = file.pages();
    if pages == 0 {
        return;
    }
    let page = |page: u8| usize::from(page) % pages;
    match change {
        Change::Superblock(..) => {}
        Change::Record(number, field, value) => {
            let field = [
                RecordField::Address,
                RecordField::Offset,
                RecordField::Class,
                RecordField::Bump,
                RecordField::Items,
            ][usize::from(*field) % 5];
            file.set_record(page(*number), field, value.near(0));
        }
        Change::RemoveRecord(number) => file.remove_record(page(*number)),
        Change::Exchange(one, other) => file.exchange(page(*one), page(*other)),
        Change::Word(place, flags, stamp) => {
            let word = u32::from(*flags) << 24 | u32::from(*stamp);
            overwrite(file, place, 0, &word.to_le_bytes());
        }
        Change::Bytes(place, offset, bytes) => {
            overwrite(file, place, (*offset).into(), bytes);
        }
        Change::Lengths(place, value_len, key_len, bits) => {
            overwrite(file, place, 7, &[*key_len, *bits]);
            let fields = (bits >> 4 & 1) + (bits >> 5 & 1);
            let offset = 16 + 4 * usize::from(fields);
            overwrite(file, place, offset, &value_len.to_le_bytes());
        }
        Change::Chain(place, here, value_len) => {
            overwrite(file, place, 24, &u32::from(*here).to_le_bytes());
            overwrite(file, place, 28, &value_len.to_le_bytes());
        }
        Change::Segment(place, len) => {
            overwrite(file, place, 4, &u32::from(*len).to_le_bytes());
        }
        Change::Link(place, target, off) => {
            let (page, chunk) = located(file, target);
            let (_, address) = file.chunk_address(page, chunk);
            let address = match off {
                0..240 => address,
                240 => 0,
                off => address.wrapping_add(u64::from(*off)),
            };
            overwrite(file, place, 16, &address.to_le_bytes());
        }
        Change::Copy(from, to) => {
            let (page, chunk) = located(file, from);
            let Some(bytes) = file.chunk(page, chunk).map(|bytes| bytes.to_vec()) else {
                return;
            };
            overwrite(file, to, 0, &bytes);
        }
    }
}

impl Number {
    fn near(&self, number: u64) -> u64 {
        match *self {
            Self::Small(small) => small.into(),
            Self::Any(any) => any,
            Self::Bit(bit) => 1 << (bit % 64),
            Self::BelowBit(bit) => u64::MAX >> (bit % 64),
            Self::Nearby(by) => number.wrapping_add_signed(by.into()),
        }
    }
}

/// Returns the numbers of the page and the chunk at a place.
fn located(file: &Crafted, place: &Place) -> (usize, usize) {
    let page = usize::from(place.page) % file.pages();
    let (chunks, _) = file.chunk_address(page, 0);
    (page, usize::from(place.chunk) % chunks.max(1))
}

fn overwrite(file: &mut Crafted, place: &Place, offset: usize, bytes: &[u8]) {
    let (page, chunk) = located(file, place);
    if let Some(place) = file
        .chunk(page, chunk)
        .and_then(|chunk| chunk.get_mut(offset..))
    {
        let len = place.len().min(bytes.len());
        place[..len].copy_from_slice(&bytes[..len]);
    }
}

/// Uses a store that was loaded.
fn work(store: &Store, operations: &[Operation]) {
    let mut local = store.local();
    local.now = NOW;
    look(store);
    store.audit(&mut local);
    let mut left = 2 * VALUES_MAX_BYTES;
    for operation in operations.iter().take(STEPS_MAX) {
        match operation {
            Operation::Store(spec) => put(store, &mut local, spec, &mut left),
            Operation::Fill(count, len) => fill_up(store, &mut local, *count, *len),
            Operation::Get(key) => get(store, &mut local, *key),
            Operation::Limit(kib) => {
                store.set_memory_limit(LIMIT / 4 + usize::from(*kib) * 8 * KIB);
                while !store.shrink_to_limit(&mut local) {}
                keeps_limit(store);
            }
            Operation::Sweep => {
                for shard in 0..store.shard_count() {
                    store.sweep_shard(&mut local, shard, NOW);
                }
            }
            Operation::Compact => {
                store.survey();
                store.compact(&mut local);
            }
            Operation::Flush => store.flush_all(&mut local),
            Operation::Invalidate(tag, stale) => invalidate(store, &mut local, *tag, *stale),
            Operation::Lap => {
                if store.begin_lap() {
                    for shard in 0..store.shard_count() {
                        store.sweep_shard(&mut local, shard, NOW);
                    }
                    store.end_lap();
                }
            }
            Operation::Cas => assert_ne!(store.next_cas(), 0),
            Operation::Pace => store.measure_pace(NOW),
        }
    }
    store.audit(&mut local);
    look(store);
}

/// Reads all bytes of all items.
fn look(store: &Store) {
    let mut walk = Walk::default();
    let mut sum = 0_u64;
    while store.walk(&mut walk, NOW, |item| {
        let value = item.pieces().flatten().map(|byte| u64::from(*byte));
        sum += value.sum::<u64>();
        sum += item.key().iter().map(|byte| u64::from(*byte)).sum::<u64>();
        sum += u64::from(item.flags()) + u64::from(item.class().number());
        let len = item.pieces().map(<[u8]>::len).sum::<usize>();
        assert_eq!(len, item.value_len());
        if let Some(value) = item.contiguous_value() {
            assert_eq!(value.len(), len);
        }
    }) {}
    std::hint::black_box(sum);
}

fn fill_up(store: &Store, local: &mut Local, count: u8, len: u16) {
    let value = vec![b'f'; len.into()];
    for number in 0..count {
        let name = format!("new-{number}");
        let key = store.hashed(name.as_bytes());
        let spec = ItemSpec::new(key.key, value.len());
        let pieces = std::iter::once(&value[..]);
        if let Ok(new) = store.new_filled(local, &key, &spec, NOW, pieces) {
            let cas = store.next_cas();
            store.edit(local, &key, NOW, |entry| entry.put(new, cas));
        }
    }
}

fn get(store: &Store, local: &mut Local, key: u8) {
    let name = format!("key-{key}");
    let key = store.hashed(name.as_bytes());
    for _ in 0..40 {
        let _ = store.read_unlocked(local, &key, NOW, |item| {
            let sum = item.pieces().flatten().map(|byte| u64::from(*byte));
            (Access::Counted, sum.sum::<u64>())
        });
    }
}

fn keeps_limit(store: &Store) {
    let used = store.page_bytes() + store.index_bytes();
    let limit = store.memory_limit();
    assert!(
        used <= limit || store.page_bytes() == 0,
        "{used} of {limit}"
    );
}

/// Deletes all items and checks that no page remains in use.
fn empty(store: &Store) {
    let mut local = store.local();
    let (mut keys, mut walk) = (Vec::new(), Walk::default());
    while store.walk(&mut walk, Now::default(), |item| {
        keys.push(item.key().to_vec());
    }) {}
    for key in keys {
        let key = store.hashed(&key);
        store.edit(&mut local, &key, Now::default(), |entry| entry.remove());
    }
    // Flushed items are not shown.
    for shard in 0..store.shard_count() {
        store.sweep_shard(&mut local, shard, NOW);
    }
    let later = Now::from_millis(u64::from(u32::MAX) * 125);
    for shard in 0..store.shard_count() {
        store.sweep_shard(&mut local, shard, later);
    }
    assert_eq!(store.audit(&mut local), 0);
    assert_eq!(store.page_bytes(), 0, "chunks are lost");
}
