//! Format of a memory file: a superblock, the pages, and a directory of the
//! pages in use. `-e` and `--save-path` write the same format. All numbers are
//! little-endian.
//!
//! ```text
//! 0      superblock: magic, version, layout, clean mark, clocks, counters,
//!        place of the directory, CRC-32 of all these
//! 2 MiB  pages of 32 KiB
//! ..     directory: a record per page in use, in ascending order of the
//!        addresses that the pages had in the process that wrote them
//! ```
//!
//! Invalidations are not in the file: their items are left out or marked stale
//! before. Chained items hold addresses of that process. The directory says where the
//! pages lie now. Change [`VERSION`] with every change of the format or of the
//! layout of items, pages or chunks.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::store::evict::policy::Progress;
use crate::store::memory::classes::{
    CLASSES, PAGE_BYTES, PAGE_HEADER_BYTES, chunk_bytes, per_page,
};
use crate::store::memory::file::DATA_OFFSET;
use crate::store::memory::pool::EXTENT_PAGES;
use crate::store::restart::report::EmptyReason;
use crate::time::Moment;

/// First bytes of a memory file.
pub(super) const MAGIC: [u8; 8] = *b"rustcchd";
/// Version of the format.
pub(super) const VERSION: u32 = 4;
/// Value of the clean mark after a clean stop.
const CLEAN: u32 = 0x636C_6E21;
/// Bytes of the superblock.
pub(super) const SUPERBLOCK_BYTES: usize = 256;
/// Bytes of a directory record.
pub(super) const RECORD_BYTES: usize = 32;
/// Bytes of a directory that are read together: a whole number of records.
const DIRECTORY_PART_BYTES: usize = 32 * 1024 * RECORD_BYTES;
/// Largest CAS value that a server goes on from. Counting does not reach it, and
/// it leaves enough values to count on.
const CAS_MAX: u64 = u64::MAX / 2;

/// The superblock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Superblock {
    /// The last stop was clean: everything else is valid.
    pub(super) clean: bool,
    /// The file's pages lie in whole extents (`-e`).
    pub(super) is_arena: bool,
    /// Number of extents in an arena.
    pub(super) extents: u64,
    /// Offset of the directory.
    pub(super) directory: u64,
    /// Number of records in the directory.
    pub(super) pages: u64,
    /// CRC-32 of the directory.
    pub(super) directory_crc: u32,
    /// Time of the delayed flush, encoded as in [`crate::time::Expiry`].
    pub(super) flush_at: u32,
    /// Items in the pages.
    pub(super) items: u64,
    /// The server's clock, in milliseconds.
    pub(super) clock_ms: u64,
    /// The system's clocks at the same time.
    pub(super) moment: Moment,
    /// The last CAS value given.
    pub(super) cas: u64,
    /// The flush generation.
    pub(super) generation: u64,
    /// Seed of the hashes of tags, which items hold.
    pub(super) name_seed: u64,
    /// State of the eviction policy.
    pub(super) progress: Progress,
}

/// Where a page in use lies, and what it was when it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageRecord {
    /// Address in the process that wrote it.
    pub(super) address: u64,
    /// Offset in the file.
    pub(super) offset: u64,
    /// CRC-32 of its chunks.
    pub(super) crc: u32,
    /// Size class.
    pub(super) class: u16,
    /// Number of chunks that were ever handed out.
    pub(super) bump: u16,
    /// Items whose head is in this page.
    pub(super) items: u16,
}

/// Returns a number that changes with the constants that the format depends on.
fn layout() -> u32 {
    let mut crc = crc32fast::Hasher::new();
    let sizes = (0..CLASSES).map(chunk_bytes);
    let others = [
        PAGE_BYTES,
        PAGE_HEADER_BYTES,
        EXTENT_PAGES,
        size_of::<usize>(),
    ];
    for number in others.into_iter().chain(sizes) {
        crc.update(&(number as u64).to_le_bytes());
    }
    crc.finalize()
}

/// Writes numbers one after the other.
struct Encoder(Vec<u8>);

impl Encoder {
    fn u16(&mut self, number: u16) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }
}

/// Reads numbers one after the other; zeros after the end.
struct Decoder<'a>(&'a [u8]);

impl Decoder<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((bytes, rest)) => {
                self.0 = rest;
                *bytes
            }
            None => [0; N],
        }
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

impl Superblock {
    /// Encodes the superblock.
    pub(super) fn encode(&self) -> [u8; SUPERBLOCK_BYTES] {
        let mut out = Encoder(Vec::with_capacity(SUPERBLOCK_BYTES));
        out.0.extend_from_slice(&MAGIC);
        out.u32(VERSION);
        out.u32(layout());
        out.u32(if self.clean { CLEAN } else { 0 });
        out.u32(self.is_arena.into());
        for number in [self.extents, self.directory, self.pages] {
            out.u64(number);
        }
        out.u32(self.directory_crc);
        out.u32(self.flush_at);
        let Moment {
            unix_ms, boot_ms, ..
        } = self.moment;
        for number in [self.items, self.clock_ms, unix_ms, boot_ms] {
            out.u64(number);
        }
        out.0.extend_from_slice(&self.moment.boot_id.to_le_bytes());
        for number in [self.cas, self.generation, self.progress.clock] {
            out.u64(number);
        }
        out.u32(self.progress.speed);
        out.u32(self.progress.pace);
        out.u64(self.name_seed);
        let mut bytes = [0; SUPERBLOCK_BYTES];
        let end = SUPERBLOCK_BYTES - 4;
        bytes[..out.0.len()].copy_from_slice(&out.0);
        let crc = crc32fast::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes the superblock of a clean memory file of this format.
    ///
    /// # Errors
    /// The reason why the file cannot be used.
    pub(super) fn decode(bytes: &[u8; SUPERBLOCK_BYTES]) -> Result<Self, EmptyReason> {
        let end = SUPERBLOCK_BYTES - 4;
        let mut input = Decoder(&bytes[..]);
        if input.take() != MAGIC {
            return Err(EmptyReason::Foreign);
        }
        let version = input.u32();
        if version != VERSION {
            return Err(EmptyReason::Version(version));
        }
        if crc32fast::hash(&bytes[..end]).to_le_bytes() != bytes[end..] {
            return Err(EmptyReason::Damaged("superblock"));
        }
        if input.u32() != layout() {
            return Err(EmptyReason::Layout);
        }
        if input.u32() != CLEAN {
            return Err(EmptyReason::Unclean);
        }
        let is_arena = input.u32() != 0;
        let (extents, directory, pages) = (input.u64(), input.u64(), input.u64());
        let (directory_crc, flush_at) = (input.u32(), input.u32());
        let (items, clock_ms) = (input.u64(), input.u64());
        let moment = Moment {
            unix_ms: input.u64(),
            boot_ms: input.u64(),
            boot_id: u128::from_le_bytes(input.take()),
        };
        let (cas, generation) = (input.u64(), input.u64());
        if cas > CAS_MAX {
            return Err(EmptyReason::Damaged("superblock"));
        }
        let progress = Progress {
            clock: input.u64(),
            speed: input.u32(),
            pace: input.u32(),
        };
        Ok(Self {
            clean: true,
            is_arena,
            extents,
            directory,
            pages,
            directory_crc,
            flush_at,
            items,
            clock_ms,
            moment,
            cas,
            generation,
            name_seed: input.u64(),
            progress,
        })
    }
}

impl PageRecord {
    fn decode(bytes: &[u8]) -> Self {
        let mut input = Decoder(bytes);
        Self {
            address: input.u64(),
            offset: input.u64(),
            crc: input.u32(),
            class: input.u16(),
            bump: input.u16(),
            items: input.u16(),
        }
    }

    /// Returns whether the numbers are possible in a file whose pages end at
    /// `pages_end`.
    fn is_valid(&self, pages_end: u64) -> bool {
        let (page, class) = (PAGE_BYTES as u64, usize::from(self.class));
        self.address.is_multiple_of(page)
            && self.offset >= DATA_OFFSET
            && (self.offset - DATA_OFFSET).is_multiple_of(page)
            && self.offset.saturating_add(page) <= pages_end
            && class < CLASSES
            && usize::from(self.bump) <= per_page(class)
            && self.items <= self.bump
    }
}

/// Encodes a directory.
pub(super) fn encode_directory(records: &[PageRecord]) -> Vec<u8> {
    let mut out = Encoder(Vec::with_capacity(records.len() * RECORD_BYTES));
    for record in records {
        out.u64(record.address);
        out.u64(record.offset);
        out.u32(record.crc);
        out.u16(record.class);
        out.u16(record.bump);
        out.u16(record.items);
        out.0.extend_from_slice(&[0; 6]);
    }
    out.0
}

/// Reads and validates the directory of a file.
///
/// # Errors
/// The reason why the file cannot be used.
pub(super) fn read_directory(
    file: &File,
    superblock: &Superblock,
) -> Result<Vec<PageRecord>, EmptyReason> {
    let damaged = EmptyReason::Damaged("directory");
    let file_bytes = file.metadata().map_err(EmptyReason::unreadable)?.len();
    let bytes = superblock.pages.checked_mul(RECORD_BYTES as u64);
    let end = bytes.and_then(|bytes| bytes.checked_add(superblock.directory));
    let Some(end) = end else {
        return Err(damaged);
    };
    if superblock.directory < DATA_OFFSET || end > file_bytes {
        return Err(EmptyReason::Damaged("length of the file"));
    }
    let mut records: Vec<PageRecord> = Vec::new();
    let mut crc = crc32fast::Hasher::new();
    let mut encoded = vec![0; DIRECTORY_PART_BYTES];
    let (mut place, mut items) = (superblock.directory, 0);
    while place < end {
        let part = (end - place).min(DIRECTORY_PART_BYTES as u64);
        let encoded = &mut encoded[..part as usize];
        file.read_exact_at(encoded, place)
            .map_err(EmptyReason::unreadable)?;
        crc.update(encoded);
        for record in encoded.chunks_exact(RECORD_BYTES).map(PageRecord::decode) {
            let ascends = records
                .last()
                .is_none_or(|last| last.address < record.address);
            // Checked at once: the hole of a sparse file must not be read as
            // any number of records.
            if !ascends || !record.is_valid(superblock.directory) {
                return Err(damaged);
            }
            items += u64::from(record.items);
            records.push(record);
        }
        place += part;
    }
    let mut offsets: Vec<_> = records.iter().map(|record| record.offset).collect();
    offsets.sort_unstable();
    let apart = offsets.is_sorted_by(|a, b| a < b);
    if !apart || items != superblock.items || crc.finalize() != superblock.directory_crc {
        return Err(damaged);
    }
    Ok(records)
}

/// Reads the superblock of a file.
///
/// # Errors
/// The reason why the file cannot be used.
pub(super) fn read_superblock(file: &File) -> Result<Superblock, EmptyReason> {
    let mut bytes = [0; SUPERBLOCK_BYTES];
    let len = file.metadata().map_err(EmptyReason::unreadable)?.len();
    if len == 0 {
        return Err(EmptyReason::New);
    }
    let read = SUPERBLOCK_BYTES.min(len as usize);
    file.read_exact_at(&mut bytes[..read], 0)
        .map_err(EmptyReason::unreadable)?;
    Superblock::decode(&bytes)
}

/// Writes a superblock.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write_superblock(file: &File, superblock: &Superblock) -> io::Result<()> {
    file.write_all_at(&superblock.encode(), 0)
}
