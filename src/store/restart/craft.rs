//! Crafted memory files, for tests and the fuzzer: damage with right checksums.

use std::fs;
use std::io;
use std::path::Path;

use crate::store::memory::classes::{
    CLASSES, PAGE_BYTES, PAGE_HEADER_BYTES, chunk_bytes, per_page,
};
use crate::store::restart::format::{
    PageRecord, SUPERBLOCK_BYTES, Superblock, encode_directory, read_directory, read_superblock,
};

/// Longest file that is written, in bytes.
const FILE_MAX_BYTES: usize = 64 << 20;

/// The content of a memory file, to be changed.
pub struct Crafted {
    bytes: Vec<u8>,
    superblock: Superblock,
    records: Vec<PageRecord>,
}

/// A number of the superblock.
#[derive(Clone, Copy, Debug)]
pub enum SuperblockField {
    /// 1 for a file of `-e`, 0 for one of `--save-path`.
    IsArena,
    /// Number of extents.
    Extents,
    /// Offset of the directory.
    Directory,
    /// Number of records.
    Pages,
    /// Time of the delayed flush.
    FlushAt,
    /// Number of items.
    Items,
    /// The server's clock.
    ClockMs,
    /// Milliseconds since 1970.
    UnixMs,
    /// Milliseconds since the machine started.
    BootMs,
    /// Number of the machine's run.
    BootId,
    /// The last CAS value.
    Cas,
    /// The flush generation.
    Generation,
    /// Seed of the hashes of tags.
    NameSeed,
    /// The policy's clock.
    Clock,
    /// The policy's speed.
    Speed,
    /// The policy's pace.
    Pace,
}

/// A number of a directory record.
#[derive(Clone, Copy, Debug)]
pub enum RecordField {
    /// Address in the process that wrote the file.
    Address,
    /// Offset in the file.
    Offset,
    /// Size class.
    Class,
    /// Number of chunks.
    Bump,
    /// Number of items.
    Items,
}

impl Crafted {
    /// Reads a memory file. Returns `None` if it is not valid.
    pub fn read(path: &Path) -> Option<Self> {
        let file = fs::File::open(path).ok()?;
        let superblock = read_superblock(&file).ok()?;
        Some(Self {
            records: read_directory(&file, &superblock).ok()?,
            bytes: fs::read(path).ok()?,
            superblock,
        })
    }

    /// Returns the number of pages.
    pub fn pages(&self) -> usize {
        self.records.len()
    }

    /// Returns a number of the superblock.
    pub fn superblock(&self, field: SuperblockField) -> u64 {
        use SuperblockField as Field;
        let superblock = &self.superblock;
        match field {
            Field::IsArena => superblock.is_arena.into(),
            Field::Extents => superblock.extents,
            Field::Directory => superblock.directory,
            Field::Pages => superblock.pages,
            Field::FlushAt => superblock.flush_at.into(),
            Field::Items => superblock.items,
            Field::ClockMs => superblock.clock_ms,
            Field::UnixMs => superblock.moment.unix_ms,
            Field::BootMs => superblock.moment.boot_ms,
            Field::BootId => superblock.moment.boot_id as u64,
            Field::Cas => superblock.cas,
            Field::Generation => superblock.generation,
            Field::NameSeed => superblock.name_seed,
            Field::Clock => superblock.progress.clock,
            Field::Speed => superblock.progress.speed.into(),
            Field::Pace => superblock.progress.pace.into(),
        }
    }

    /// Changes a number of the superblock. It is cut to its width.
    pub fn set_superblock(&mut self, field: SuperblockField, number: u64) {
        use SuperblockField as Field;
        let superblock = &mut self.superblock;
        match field {
            Field::IsArena => superblock.is_arena = number != 0,
            Field::Extents => superblock.extents = number,
            Field::Directory => superblock.directory = number,
            Field::Pages => superblock.pages = number,
            Field::FlushAt => superblock.flush_at = number as u32,
            Field::Items => superblock.items = number,
            Field::ClockMs => superblock.clock_ms = number,
            Field::UnixMs => superblock.moment.unix_ms = number,
            Field::BootMs => superblock.moment.boot_ms = number,
            Field::BootId => superblock.moment.boot_id = number.into(),
            Field::Cas => superblock.cas = number,
            Field::Generation => superblock.generation = number,
            Field::NameSeed => superblock.name_seed = number,
            Field::Clock => superblock.progress.clock = number,
            Field::Speed => superblock.progress.speed = number as u32,
            Field::Pace => superblock.progress.pace = number as u32,
        }
    }

    /// Changes a number of the record of page number `page`. It is cut to its
    /// width.
    pub fn set_record(&mut self, page: usize, field: RecordField, number: u64) {
        let record = &mut self.records[page];
        match field {
            RecordField::Address => record.address = number,
            RecordField::Offset => record.offset = number,
            RecordField::Class => record.class = number as u16,
            RecordField::Bump => record.bump = number as u16,
            RecordField::Items => record.items = number as u16,
        }
    }

    /// Removes the record of page number `page`.
    pub fn remove_record(&mut self, page: usize) {
        self.records.remove(page);
        self.superblock.pages = self.records.len() as u64;
    }

    /// Exchanges the contents that two records describe.
    pub fn exchange(&mut self, one: usize, other: usize) {
        let address = self.records[one].address;
        self.records[one].address = self.records[other].address;
        self.records[other].address = address;
        self.records.swap(one, other);
    }

    /// Returns the number of chunks of page number `page`, and the address that
    /// chunk number `chunk` had in the process that wrote the file.
    pub fn chunk_address(&self, page: usize, chunk: usize) -> (usize, u64) {
        let record = &self.records[page];
        let bytes = class_bytes(record);
        let offset = (PAGE_HEADER_BYTES + chunk * bytes) as u64;
        (record.bump.into(), record.address.wrapping_add(offset))
    }

    /// Returns the bytes of a chunk; `None` if they do not lie in the file.
    pub fn chunk(&mut self, page: usize, chunk: usize) -> Option<&mut [u8]> {
        let record = &self.records[page];
        let bytes = class_bytes(record);
        let start = usize::try_from(record.offset).ok()?;
        let start = start.checked_add(PAGE_HEADER_BYTES + chunk * bytes)?;
        self.bytes.get_mut(start..start.checked_add(bytes)?)
    }

    /// Corrects all checksums and writes the file, of which `cut` bytes at its
    /// end are left out.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(mut self, path: &Path, cut: usize) -> io::Result<()> {
        for record in &mut self.records {
            let class = usize::from(record.class);
            if class >= CLASSES || usize::from(record.bump) > per_page(class) {
                continue;
            }
            let used = usize::from(record.bump) * chunk_bytes(class);
            let chunks = usize::try_from(record.offset)
                .ok()
                .and_then(|offset| self.bytes.get(offset..)?.get(..PAGE_BYTES))
                .map(|page| &page[PAGE_HEADER_BYTES..][..used]);
            record.crc = crc32fast::hash(chunks.unwrap_or_default());
        }
        let directory = encode_directory(&self.records);
        self.superblock.directory_crc = crc32fast::hash(&directory);
        self.superblock.clean = true;
        if let Ok(start) = usize::try_from(self.superblock.directory)
            && start < FILE_MAX_BYTES
        {
            let end = start + directory.len();
            self.bytes.resize(end.max(SUPERBLOCK_BYTES), 0);
            self.bytes[start..end].copy_from_slice(&directory);
        }
        self.bytes[..SUPERBLOCK_BYTES].copy_from_slice(&self.superblock.encode());
        let kept = self.bytes.len() - cut.min(self.bytes.len());
        fs::write(path, &self.bytes[..kept])
    }
}

/// Returns the bytes of a page's chunks.
fn class_bytes(record: &PageRecord) -> usize {
    chunk_bytes(usize::from(record.class).min(CLASSES - 1))
}
