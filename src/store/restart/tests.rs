//! Tests of stopping and starting again: what is kept, and what damage does.

mod crafted;
mod files;
mod full;
mod invalidated;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::config::Eviction;
use crate::stats::Restored;
use crate::store::item::layout::STALE;
use crate::store::memory::classes::{PAGE_BYTES, PAGE_HEADER_BYTES};
use crate::store::memory::file::DATA_OFFSET;
use crate::store::restart::format::{SUPERBLOCK_BYTES, read_directory, read_superblock};
use crate::store::restart::{EmptyReason, Opened, StopState};
use crate::store::{ItemSpec, Local, Options, Store, Tags, Walk};
use crate::time::{Expiry, Moment, Now};

const NOW: Now = Now::from_millis(1_000_000);
const MOMENT: Moment = Moment {
    unix_ms: 1_700_000_000_000,
    boot_ms: 5_000_000,
    boot_id: 77,
};
const LIMIT: usize = 64 << 20;
/// Tags of the items of [`fill`].
const TAGS: [&[u8]; 5] = [b"one", b"two", b"three", b"four", b"five"];

/// A memory file that is removed when dropped.
struct TestFile {
    path: PathBuf,
    is_arena: bool,
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(format!("{}.lock", self.path.display()));
    }
}

/// Everything that a client or an operator can see of an item, and its stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    value: Vec<u8>,
    flags: u32,
    cas: u64,
    expiry: u32,
    age: u32,
    bits: [bool; 4],
    tags: Tags,
    birth: u64,
    stamp: u16,
}

type Contents = BTreeMap<Vec<u8>, Seen>;

fn both() -> [TestFile; 2] {
    [true, false].map(TestFile::new)
}

/// Runs the work on the calling thread and on another one.
fn parallel(work: &(dyn Fn() + Sync)) {
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
}

fn later(seconds: u64) -> Moment {
    Moment {
        unix_ms: MOMENT.unix_ms + seconds * 1000,
        boot_ms: MOMENT.boot_ms + seconds * 1000,
        ..MOMENT
    }
}

impl TestFile {
    fn new(is_arena: bool) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rustcached-restart-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_file(&path);
        Self { path, is_arena }
    }

    /// Opens the file `seconds` after the stop, with a limit of `max_memory`.
    fn open_with(
        &self,
        max_memory: usize,
        seconds: u64,
        max_gap: Option<Duration>,
    ) -> (Store, Result<Restored, EmptyReason>) {
        self.open_as(max_memory, true, seconds, max_gap)
    }

    fn open_as(
        &self,
        max_memory: usize,
        evict: bool,
        seconds: u64,
        max_gap: Option<Duration>,
    ) -> (Store, Result<Restored, EmptyReason>) {
        let now = later(seconds);
        let opened = if self.is_arena {
            Opened::arena(&self.path, max_gap, now)
        } else {
            Opened::saved(&self.path, max_gap, now)
        };
        let options = Options {
            max_memory,
            evict,
            max_item_size: 1 << 30,
            eviction: Eviction::default(),
            cas: true,
            delimiter: b':',
        };
        let clock = opened.clock().now();
        let saved = (!self.is_arena).then_some(&*self.path);
        let (stats, events) = (Arc::default(), Arc::default());
        Store::open(options, stats, events, opened, saved, clock, &parallel)
    }

    fn open(&self) -> (Store, Result<Restored, EmptyReason>) {
        self.open_with(LIMIT, 0, None)
    }

    fn stop(&self, store: &Store, now: Now) {
        let state = StopState {
            now,
            moment: MOMENT,
            flush_at: Expiry::NEVER,
        };
        if self.is_arena {
            store.seal(state, &parallel).unwrap();
        } else {
            let mut last = (0, store.page_bytes().min(1) as u64);
            let progress = |done, total| last = (done, total);
            store.save(&self.path, state, &parallel, progress).unwrap();
            assert_eq!(last.0, last.1);
        }
    }

    /// Fills a new store, stops, and returns what was in it.
    fn filled(&self) -> Contents {
        let (store, result) = self.open();
        assert!(matches!(result, Err(EmptyReason::New)), "{result:?}");
        let mut local = store.local();
        fill(&store, &mut local);
        let before = contents(&store, NOW);
        self.stop(&store, NOW);
        before
    }
}

/// Stores items of all kinds: of many sizes, with and without optional fields,
/// chained, stale and fetched ones.
fn fill(store: &Store, local: &mut Local) {
    for number in 0..3000_usize {
        let len = match number % 50 {
            0 => number * 40,
            1 => 40_000 + number,
            _ => number % 700,
        };
        let key = format!("key-{number}");
        let spec = ItemSpec {
            flags: (number % 3) as u32 * 77,
            expiry: match number % 4 {
                0 => Expiry::from_protocol(1000 + number as i32, NOW),
                _ => Expiry::NEVER,
            },
            with_expiry_field: number % 8 == 1,
            with_birth_field: number % 11 == 3,
            tags: Some(&store.tags(TAGS.iter().copied().take(number % 6))),
            ..ItemSpec::new(key.as_bytes(), len)
        };
        put(store, local, &spec);
        let key = store.hashed(key.as_bytes());
        let cas = store.next_cas();
        store.edit(local, &key, NOW, |entry| {
            if number % 5 == 0 {
                entry.bump(Now::from_millis(NOW.millis() - 3000));
            }
            if number % 7 == 0 {
                entry.item().unwrap().set_bits(STALE, 0);
            }
            let item = entry.item().unwrap();
            let birth = if item.has_birth_field() {
                item.birth()
            } else {
                cas
            };
            item.set_birth(cas, birth);
        });
    }
    // Free chunks in between, and an item that was never linked.
    for number in (0..3000).step_by(9) {
        remove(store, local, &format!("key-{number}"));
    }
}

fn put(store: &Store, local: &mut Local, spec: &ItemSpec<'_>) {
    let value: Vec<u8> = (0..spec.value_len)
        .map(|index| (index * 31 + spec.value_len) as u8)
        .collect();
    let key = store.hashed(spec.key);
    let pieces = std::iter::once(&value[..]);
    let new = store.new_filled(local, &key, spec, NOW, pieces).unwrap();
    store.edit(local, &key, NOW, |entry| entry.put(new, 1));
}

fn remove(store: &Store, local: &mut Local, key: &str) {
    let key = store.hashed(key.as_bytes());
    store.edit(local, &key, NOW, |entry| entry.remove());
}

fn contents(store: &Store, now: Now) -> Contents {
    let mut contents = Contents::new();
    let (mut walk, mut hashes) = (Walk::default(), Vec::new());
    while store.walk(&mut walk, now, |item| {
        let seen = Seen {
            value: item.pieces().flatten().copied().collect(),
            flags: item.flags(),
            cas: item.cas(),
            expiry: item.expiry().0,
            age: item.age(now),
            bits: [
                item.is_fetched(),
                item.is_stale(),
                item.is_token_sent(),
                item.is_key_binary(),
            ],
            tags: item.tags(),
            birth: item.birth(),
            stamp: 0,
        };
        hashes.push(item.key().to_vec());
        contents.insert(item.key().to_vec(), seen);
    }) {}
    for key in hashes {
        let key = store.hashed(&key);
        let shard = store.map.read(key.hash);
        let stamp = shard.find(&key).unwrap().stamp();
        contents.get_mut(key.key).unwrap().stamp = stamp.0;
    }
    contents
}

/// Asserts that the store works, and that no chunk is lost: after everything is
/// removed, no page is in use.
fn works(store: &Store) {
    let mut local = store.local();
    fill(store, &mut local);
    store.audit(&mut local);
    let keys: Vec<_> = contents(store, NOW).into_keys().collect();
    for key in keys {
        remove(store, &mut local, std::str::from_utf8(&key).unwrap());
    }
    store.memory.flush(&mut local.magazines);
    assert_eq!(store.memory.pool().pages_in_use(), 0, "chunks are lost");
    let sum = store.stats().snapshot();
    assert_eq!((sum.items, sum.item_bytes), (0, 0));
}

#[test]
fn everything_is_there_afterwards() {
    for file in both() {
        let before = file.filled();
        assert!(before.len() > 2000);
        let (store, result) = file.open();
        let restored = result.unwrap();
        assert_eq!(restored.kept, before.len() as u64);
        assert_eq!(restored.dropped.total(), 0);
        assert_eq!(store.stats().snapshot().items, before.len() as u64);
        let after = contents(&store, NOW);
        assert!(before == after, "the contents differ");
        let highest = before.values().map(|seen| seen.cas).max().unwrap();
        assert!(store.next_cas() > highest);
        // And once more, by the second server.
        file.stop(&store, NOW);
        drop(store);
        let (store, result) = file.open();
        assert_eq!(result.unwrap().kept, before.len() as u64);
        assert!(before == contents(&store, NOW), "the contents differ");
        works(&store);
    }
}

#[test]
fn nothing_is_there_after_an_unclean_stop() {
    for file in both() {
        file.filled();
        drop(file.open());
        let (store, result) = file.open();
        match file.is_arena {
            true => assert!(matches!(result, Err(EmptyReason::Unclean)), "{result:?}"),
            false => assert!(matches!(result, Err(EmptyReason::New)), "{result:?}"),
        }
        assert_eq!(contents(&store, NOW), Contents::new());
        works(&store);
    }
}

#[test]
fn time_away_is_time() {
    for file in both() {
        let before = file.filled();
        let (store, result) = file.open_with(LIMIT, 2500, None);
        let restored = result.unwrap();
        assert_eq!(restored.away, Duration::from_secs(2500));
        let now = Now::from_millis(NOW.millis() + 2_500_000);
        let alive = |seen: &Seen| !Expiry(seen.expiry).is_over(now);
        let expired = before.values().filter(|seen| !alive(seen)).count();
        assert!(expired > 100);
        assert_eq!(restored.dropped.expired, expired as u64);
        let after = contents(&store, now);
        assert_eq!(after.len(), before.len() - expired);
        for (key, seen) in after {
            let wanted = Seen {
                age: before[&key].age + 2500,
                ..before[&key].clone()
            };
            assert_eq!(seen, wanted);
        }
    }
}

#[test]
fn a_long_time_away_drops_everything() {
    for file in both() {
        file.filled();
        let max_gap = Some(Duration::from_secs(60));
        let (store, result) = file.open_with(LIMIT, 61, max_gap);
        assert!(matches!(result, Err(EmptyReason::Gap(_))), "{result:?}");
        works(&store);
    }
}

#[test]
fn clocks_decide_how_long_it_was() {
    let earlier = MOMENT;
    let set_back = Moment {
        unix_ms: earlier.unix_ms - 1_000_000,
        ..later(10)
    };
    assert_eq!(
        set_back.since(&earlier),
        Some(10_000),
        "the system's clock is not asked"
    );
    let rebooted = Moment {
        boot_id: 78,
        boot_ms: 5000,
        ..later(70)
    };
    assert_eq!(rebooted.since(&earlier), Some(70_000));
    let rebooted_and_set_back = Moment {
        boot_id: 78,
        ..set_back
    };
    assert_eq!(rebooted_and_set_back.since(&earlier), None);
    let unknown = Moment {
        boot_id: 0,
        ..later(5)
    };
    assert_eq!(
        unknown.since(&Moment {
            boot_id: 0,
            ..earlier
        }),
        Some(5000)
    );
    assert!(
        Moment::now()
            .since(&Moment::now())
            .is_none_or(|away| away == 0)
    );
}

#[test]
fn flushed_items_stay_away() {
    for file in both() {
        let (store, _) = file.open();
        let mut local = store.local();
        fill(&store, &mut local);
        let flushed = contents(&store, NOW).len() as u64;
        store.flush_all(&mut local);
        put(&store, &mut local, &ItemSpec::new(b"after", 5));
        file.stop(&store, NOW);
        drop(store);
        let (store, result) = file.open();
        let restored = result.unwrap();
        assert_eq!((restored.kept, restored.dropped.flushed), (1, flushed));
        assert!(contents(&store, NOW).contains_key(&b"after"[..]));
        works(&store);
    }
}

#[test]
fn a_lower_limit_is_kept() {
    for file in both() {
        let before = file.filled();
        let limit = 4 << 20;
        let (store, result) = file.open_with(limit, 0, None);
        let restored = result.unwrap();
        assert_eq!(
            restored.kept + restored.dropped.total(),
            before.len() as u64
        );
        assert!(
            restored.kept > 100 && restored.dropped.over_limit > 100,
            "{restored:?}"
        );
        assert!(store.page_bytes() + store.index_bytes() <= limit);
        for (key, seen) in contents(&store, NOW) {
            assert_eq!(seen, before[&key]);
        }
    }
}

#[test]
fn without_eviction_every_item_stays_beyond_a_lower_limit() {
    for file in both() {
        let before = file.filled();
        let limit = 4 << 20;
        let (store, result) = file.open_as(limit, false, 0, None);
        let restored = result.unwrap();
        assert_eq!(restored.kept, before.len() as u64);
        assert_eq!(restored.dropped.total(), 0);
        assert!(store.page_bytes() > limit);
        assert!(before == contents(&store, NOW), "the contents differ");
        // Nothing new is stored until there is room.
        let mut local = store.local();
        let spec = ItemSpec::new(b"new", 100_000);
        let key = store.hashed(spec.key);
        let value = vec![0; spec.value_len];
        let mut store_new = || {
            let pieces = std::iter::once(&value[..]);
            let new = store.new_filled(&mut local, &key, &spec, NOW, pieces);
            let is_stored = new.is_ok();
            store.edit(&mut local, &key, NOW, |entry| {
                new.into_iter().for_each(|new| entry.put(new, 1));
            });
            is_stored
        };
        assert!(!store_new());
        store.set_memory_limit(LIMIT);
        assert!(store_new());
        store.memory.flush(&mut local.magazines);
        works(&store);
    }
}

#[test]
fn a_flipped_byte_of_the_superblock_empties_the_store() {
    for file in both() {
        let before = file.filled();
        let good = fs::read(&file.path).unwrap();
        for at in 0..SUPERBLOCK_BYTES {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&file.path, &bad).unwrap();
            let (store, result) = file.open();
            let reason = result.expect_err("one byte is wrong");
            assert!(
                matches!(
                    reason,
                    EmptyReason::Damaged(_) | EmptyReason::Foreign | EmptyReason::Version(_)
                ),
                "{at}: {reason:?}"
            );
            assert_eq!(store.stats().snapshot().items, 0);
        }
        fs::write(&file.path, &good).unwrap();
        assert_eq!(file.open().1.unwrap().kept, before.len() as u64);
    }
}

#[test]
fn a_cut_file_empties_the_store() {
    for file in both() {
        file.filled();
        let good = fs::read(&file.path).unwrap();
        let pages = (good.len() - DATA_OFFSET as usize) / PAGE_BYTES;
        let ends = (0..pages).map(|page| DATA_OFFSET as usize + page * PAGE_BYTES);
        for end in ends.chain([0, 1, SUPERBLOCK_BYTES, good.len() - 1]) {
            fs::write(&file.path, &good[..end]).unwrap();
            let (store, result) = file.open();
            assert!(result.is_err(), "{end} of {}", good.len());
            assert_eq!(store.stats().snapshot().items, 0);
        }
    }
}

/// Damages a byte of each page. Only items with a part in this page are lost.
#[test]
fn a_damaged_page_costs_its_own_items_only() {
    for file in both() {
        let before = file.filled();
        let good = fs::read(&file.path).unwrap();
        let records = {
            let file = fs::File::open(&file.path).unwrap();
            let superblock = read_superblock(&file).unwrap();
            read_directory(&file, &superblock).unwrap()
        };
        for (number, record) in records.iter().enumerate().step_by(7) {
            fs::write(&file.path, &good).unwrap();
            let damaged = OpenOptions::new().write(true).open(&file.path).unwrap();
            let at = record.offset + (PAGE_HEADER_BYTES + number * 13 % 32) as u64;
            damaged.write_all_at(&[!good[at as usize]], at).unwrap();
            let (store, result) = file.open();
            let restored = result.unwrap();
            let after = contents(&store, NOW);
            assert!(after.iter().all(|(key, seen)| *seen == before[key]));
            assert_eq!(after.len() as u64, restored.kept);
            assert_eq!(
                restored.kept + restored.dropped.damaged,
                before.len() as u64
            );
            assert!(restored.dropped.damaged >= u64::from(record.items).min(1));
            if number % 70 == 0 {
                works(&store);
            }
        }
    }
}

#[test]
fn foreign_files_are_left_alone() {
    for file in both() {
        fs::write(&file.path, "somebody's notes").unwrap();
        let (store, result) = file.open();
        assert!(matches!(result, Err(EmptyReason::Foreign)), "{result:?}");
        works(&store);
        drop(store);
        assert_eq!(fs::read(&file.path).unwrap(), b"somebody's notes");
    }
    let [arena, saved] = both();
    arena.filled();
    fs::rename(&arena.path, &saved.path).unwrap();
    let (_store, result) = saved.open();
    assert!(matches!(result, Err(EmptyReason::OtherKind)), "{result:?}");
}

#[test]
fn a_full_disk_leaves_no_half_file() {
    let file = TestFile::new(false);
    let (store, _) = file.open();
    put(&store, &mut store.local(), &ItemSpec::new(b"key", 5));
    let state = StopState {
        now: NOW,
        moment: MOMENT,
        flush_at: Expiry::NEVER,
    };
    let missing = file.path.join("not a folder");
    assert!(store.save(&missing, state, &parallel, |_, _| ()).is_err());
    assert!(!file.path.exists());
}
