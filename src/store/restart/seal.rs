//! Writing the memory at a clean stop. First, the word of every linked item
//! becomes its eviction stamp: only such items are read again. Then come the
//! checksums, the directory, and last the clean mark.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use arrayvec::ArrayVec;

use crate::store::index::prefetch::prefetch;
use crate::store::item::layout::{Item, word_of};
use crate::store::memory::chunk::{Page, chunk_at, class_of};
use crate::store::memory::classes::PAGE_BYTES;
use crate::store::memory::file::{DATA_OFFSET, MemoryFile, SaveLock};
use crate::store::memory::pool::{EXTENT_BYTES, Pool, UsedPage};
use crate::store::outcome::Condition;
use crate::store::restart::disk::PageWriter;
use crate::store::restart::format::{
    PageRecord, RECORD_BYTES, Superblock, encode_directory, write_superblock,
};
use crate::store::restart::image::{check_replaceable, lock_save_path};
use crate::store::restart::parallel::{Parallel, Turns, chunks_crc};
use crate::store::restart::report::EmptyReason;
use crate::store::state::Store;
use crate::sync::Ordering;
use crate::time::{Expiry, Moment, Now};

/// Shards that a thread seals in one turn.
const SHARDS_PER_TURN: usize = 8;
/// Pages that a thread sums up in one turn.
const PAGES_PER_TURN: usize = 64;
/// Items whose words are prefetched together.
const AHEAD: usize = 16;
/// Pages written in one call.
const PAGES_PER_WRITE: usize = 128;

/// What goes into the superblock apart from the store.
#[derive(Clone, Copy, Debug)]
pub struct StopState {
    /// The server's clock at the stop.
    pub now: Now,
    /// The system's clocks at the same time.
    pub moment: Moment,
    /// Time of the pending delayed flush; [`Expiry::NEVER`] if there is none.
    pub flush_at: Expiry,
}

impl Store {
    /// Returns whether the pages lie in a memory file.
    pub fn has_file(&self) -> bool {
        self.memory.pool().with_file(|_| ()).is_some()
    }

    /// Returns another descriptor of the memory file. `None` without one.
    ///
    /// # Errors
    /// The process has no more descriptors.
    pub fn memory_file(&self) -> io::Result<Option<File>> {
        let file = self.memory.pool().with_file(|file| file.file().try_clone());
        file.transpose()
    }

    /// Returns whether a stop may save to the file (`--save-path`): no other
    /// server had it at the start.
    pub fn may_save(&self) -> bool {
        !matches!(self.save_lock, SaveLock::Refused)
    }

    /// Writes the state of a store in a memory file (`-e`), so that the next
    /// server goes on with its items. Returns the number of items. The store must
    /// not be used afterwards, and no other thread may use it during the call. On
    /// a full file system, a few pages with their items give way to the directory.
    /// Does nothing without a memory file.
    ///
    /// # Errors
    /// The file cannot be written. It then stays marked unclean.
    pub fn seal(&self, state: StopState, parallel: Parallel<'_>) -> io::Result<u64> {
        self.memory.pool().release_all();
        let mut records = self.records(parallel);
        let written = self.memory.pool().with_file(|file| {
            let extents = file.extents() as u64;
            let directory = DATA_OFFSET + extents * EXTENT_BYTES as u64;
            file.file().set_len(directory)?;
            make_room(file, directory, &mut records)?;
            let superblock = Superblock {
                is_arena: true,
                extents,
                directory,
                ..self.superblock(&records, state)
            };
            finish(file.file(), superblock, &records)?;
            Ok(superblock.items)
        });
        written.unwrap_or(Ok(0))
    }

    /// Writes all items to a file (`--save-path`), under a temporary name until
    /// it is complete. Calls `progress` with the bytes written and those to
    /// write. Returns the number of items. The store must not be used afterwards,
    /// and no other thread may use it during the call.
    ///
    /// # Errors
    /// The file cannot be written. A file of that name stays as it is.
    pub fn save(
        &self,
        path: &Path,
        state: StopState,
        parallel: Parallel<'_>,
        mut progress: impl FnMut(u64, u64),
    ) -> io::Result<u64> {
        let _lock = match self.save_lock {
            SaveLock::Held(_) => None,
            SaveLock::AtStop => Some(lock_save_path(path).map_err(to_error)?),
            SaveLock::Refused => return Err(to_error(EmptyReason::InUse)),
        };
        check_replaceable(path)?;
        let mut records = self.records(parallel);
        let part = part_of(path);
        let result = (|| {
            // Removed first: whatever a link of this name points to is not ours.
            match fs::remove_file(&part) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&part)?;
            let superblock = Superblock {
                directory: place_pages(&mut records),
                ..self.superblock(&records, state)
            };
            write_pages(&file, &records, &mut progress)?;
            // Without pages, nothing is written up to there.
            file.set_len(superblock.directory)?;
            finish(&file, superblock, &records)?;
            fs::rename(&part, path)?;
            Ok(superblock.items)
        })();
        if result.is_err() {
            let _ = fs::remove_file(&part);
        }
        result
    }

    /// Moves all items to memory for another process. What is moved is returned to
    /// the system, so that memory is not needed twice. Returns the number of items.
    /// The store must not be used afterwards, nor an item of it, and no other thread
    /// may use it during the call.
    ///
    /// # Errors
    /// The system has no memory. The items are lost then.
    pub fn transfer(
        &self,
        memory: &File,
        state: StopState,
        parallel: Parallel<'_>,
    ) -> io::Result<u64> {
        assert!(!self.has_file(), "the items are in a file");
        let mut records = self.records(parallel);
        let superblock = Superblock {
            directory: place_pages(&mut records),
            ..self.superblock(&records, state)
        };
        // Nothing of an earlier transfer may remain.
        memory.set_len(0)?;
        memory.set_len(superblock.directory)?;
        let fault = Mutex::new(None);
        let turns = Turns::new(records.len(), PAGES_PER_WRITE);
        parallel(&|| {
            while let Some(numbers) = turns.next() {
                for record in &records[numbers] {
                    // SAFETY: a page of this store, which no other thread writes.
                    let bytes = unsafe { page_of(record) };
                    if let Err(error) = memory.write_all_at(bytes, record.offset) {
                        *fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        return;
                    }
                    // SAFETY: nobody uses its items any more. It belongs to a pool
                    // without a file.
                    unsafe { Pool::discard(bytes.as_ptr().cast_mut()) };
                }
            }
        });
        match fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => {
                finish(memory, superblock, &records)?;
                Ok(superblock.items)
            }
        }
    }

    fn superblock(&self, records: &[PageRecord], state: StopState) -> Superblock {
        Superblock {
            clean: true,
            items: records.iter().map(|record| u64::from(record.items)).sum(),
            flush_at: state.flush_at.0,
            clock_ms: state.now.millis(),
            moment: state.moment,
            cas: self.cas.last(),
            generation: self.flush.generation.load(Ordering::Relaxed),
            name_seed: self.invalidations.seed(),
            progress: self.policy.progress(),
            ..Superblock::default()
        }
    }

    /// Seals all items, and returns records of the pages with items.
    fn records(&self, parallel: Parallel<'_>) -> Vec<PageRecord> {
        let turns = Turns::new(self.map.shard_count(), SHARDS_PER_TURN);
        parallel(&|| {
            while let Some(shards) = turns.next() {
                shards.for_each(|shard| self.seal_shard(shard));
            }
        });
        let pages = self.memory.pool().used_pages();
        let records = Mutex::new(Vec::with_capacity(pages.len()));
        let turns = Turns::new(pages.len(), PAGES_PER_TURN);
        parallel(&|| {
            while let Some(numbers) = turns.next() {
                let part: Vec<_> = pages[numbers].iter().filter_map(record_of).collect();
                let mut records = records.lock().unwrap_or_else(PoisonError::into_inner);
                records.extend(part);
            }
        });
        let mut records = records.into_inner().unwrap_or_else(PoisonError::into_inner);
        records.sort_unstable_by_key(|record| record.address);
        records
    }

    /// Returns whether an item is not invalidated. Marks it stale if an
    /// invalidation demands that. No other thread uses the item.
    fn outlives_invalidations(&self, item: Item<'_>) -> bool {
        if !self.invalidations.is_outstanding() {
            return true;
        }
        match self.judge(item) {
            Condition::Live => true,
            Condition::TurnsStale => self.turn_stale(item),
            Condition::Dead(_) => false,
        }
    }

    /// Replaces the words of a shard's items by their stamps, except those of
    /// invalidated items: their invalidations are not kept.
    fn seal_shard(&self, number: usize) {
        let shard = self.map.read_at(number);
        let mut slots = (0..shard.positions()).filter_map(|bucket| shard.slot(bucket));
        loop {
            let batch: ArrayVec<_, AHEAD> = slots.by_ref().take(AHEAD).collect();
            if batch.is_empty() {
                break;
            }
            batch
                .iter()
                .for_each(|slot| prefetch(slot.chunk().as_ptr()));
            for slot in batch {
                let item = shard.item(slot);
                if self.outlives_invalidations(item) {
                    item.word().seal(slot.stamp().0);
                }
            }
        }
    }
}

/// Places the pages one after the other in a file. Returns the offset behind them.
fn place_pages(records: &mut [PageRecord]) -> u64 {
    let mut offset = DATA_OFFSET;
    for record in records {
        record.offset = offset;
        offset += PAGE_BYTES as u64;
    }
    offset
}

/// Returns a page's bytes.
///
/// # Safety
/// The record is of a page in use, which no thread writes while the bytes are used.
unsafe fn page_of(record: &PageRecord) -> &[u8] {
    let page = std::ptr::with_exposed_provenance::<u8>(record.address as usize);
    // SAFETY: as the caller guarantees.
    unsafe { std::slice::from_raw_parts(page, PAGE_BYTES) }
}

/// Writes the pages to their places, which follow one another.
fn write_pages(
    file: &File,
    records: &[PageRecord],
    progress: &mut impl FnMut(u64, u64),
) -> io::Result<()> {
    let total = (records.len() * PAGE_BYTES) as u64;
    let mut writer = PageWriter::new(file, DATA_OFFSET, DATA_OFFSET + total)?;
    let mut written = 0;
    for records in records.chunks(PAGES_PER_WRITE) {
        // SAFETY: pages of the store that is saved, which no other thread writes.
        let pages = records
            .iter()
            .map(|record| IoSlice::new(unsafe { page_of(record) }));
        let mut pages: ArrayVec<_, PAGES_PER_WRITE> = pages.collect();
        writer.write(&mut pages)?;
        written += (records.len() * PAGE_BYTES) as u64;
        progress(written, total);
    }
    Ok(())
}

/// Sums up a page. Returns `None` for a page without items and segments.
fn record_of(used: &UsedPage) -> Option<PageRecord> {
    // SAFETY: a page in use, whose header no other thread writes any more.
    let (class, bump) = unsafe {
        let header = used.page.cast::<Page>().as_ptr();
        let bump = (&raw const (*header).stock.bump).read();
        (class_of(used.page), bump)
    };
    let (mut items, mut segments) = (0, 0);
    for number in 0..usize::from(bump) {
        // SAFETY: the start of a chunk that was handed out before.
        let word = unsafe { word_of(chunk_at(used.page, class, number)) };
        items += u16::from(word.sealed_stamp().is_some());
        segments += usize::from(word.is_segment());
    }
    if items == 0 && segments == 0 {
        return None;
    }
    Some(PageRecord {
        address: used.page.as_ptr().expose_provenance() as u64,
        offset: used.offset,
        crc: chunks_crc(used.page, class, usize::from(bump)),
        class: class as u16,
        bump,
        items,
    })
}

/// Allocates the blocks of the directory. On a full file system, drops pages
/// until there is room.
///
/// # Errors
/// The file system does not support this, or has no room at all.
fn make_room(file: &MemoryFile, start: u64, records: &mut Vec<PageRecord>) -> io::Result<()> {
    while !records.is_empty() {
        let end = start + (records.len() * RECORD_BYTES) as u64;
        match file.allocate(start..end) {
            Err(error) if is_full(&error) => {}
            result => return result,
        }
        if let Some(dropped) = records.pop() {
            file.discard(dropped.offset..dropped.offset + PAGE_BYTES as u64)?;
        }
    }
    Ok(())
}

/// Returns whether an error means that a file system, or the user's share of it,
/// is full.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

/// Writes the directory, and then the superblock with the clean mark.
fn finish(file: &File, mut superblock: Superblock, records: &[PageRecord]) -> io::Result<()> {
    let directory = encode_directory(records);
    superblock.pages = records.len() as u64;
    superblock.directory_crc = crc32fast::hash(&directory);
    file.write_all_at(&directory, superblock.directory)?;
    sync(file)?;
    write_superblock(file, &superblock)?;
    sync(file)
}

/// Writes a file's data to its disk, if it has one.
fn sync(file: &File) -> io::Result<()> {
    match file.sync_data() {
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

fn to_error(reason: EmptyReason) -> io::Error {
    match reason {
        EmptyReason::Unreadable(error) => error,
        reason => io::Error::other(reason.to_string()),
    }
}

/// Returns the name of a file that is being written.
fn part_of(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}
