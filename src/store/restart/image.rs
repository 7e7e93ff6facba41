//! Opening and validation of memory files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::store::memory::classes::PAGE_BYTES;
use crate::store::memory::file::{DATA_OFFSET, LockedFile, SaveLock, punch_hole};
use crate::store::memory::pool::EXTENT_BYTES;
use crate::store::restart::format::{
    PageRecord, Superblock, read_directory, read_superblock, write_superblock,
};
use crate::store::restart::report::EmptyReason;
use crate::time::{Clock, Expiry, Moment, Now};

/// Largest reading with which a server's clock goes on, in milliseconds: 8 years.
/// Expiry times count eighths of a second in 32 bits, which end after 17 years.
const CLOCK_MAX_MS: u64 = 8 * 365 * 24 * 3600 * 1000;

/// Largest number of extents in an arena: those of 128 TiB, the address space of
/// a process. A sparse file can be longer.
const EXTENTS_MAX: u64 = (1 << 47) / EXTENT_BYTES as u64;

/// A memory file that the last server left behind, validated except for its
/// pages.
#[derive(Debug)]
pub struct Image {
    pub(super) file: File,
    pub(super) superblock: Superblock,
    pub(super) records: Vec<PageRecord>,
    /// Time since the last stop.
    pub(super) away: Duration,
    /// The file is memory without a name, which is of no use afterwards.
    pub(super) is_memory: bool,
}

/// Result of opening a memory file.
#[derive(Debug)]
pub struct Opened {
    /// The items of the last server, or the reason why there are none.
    pub image: Result<Image, EmptyReason>,
    /// The file that is to hold the pages (`-e`), if it can be used.
    pub(super) arena: Option<LockedFile>,
    pub(super) save_lock: SaveLock,
}

impl Opened {
    /// Opens the file of `-e`, and creates it if it does not exist. The file is
    /// locked until the process ends, so that no other server uses it. `max_gap`
    /// is the longest time since the last stop, `now` a reading of the clocks.
    pub fn arena(path: &Path, max_gap: Option<Duration>, now: Moment) -> Self {
        let unusable = Self::unusable;
        let file = match open_locked(path) {
            Ok(file) => file,
            Err(reason) => return unusable(reason),
        };
        Self::in_arena(file, max_gap, now).unwrap_or_else(unusable)
    }

    /// Opens what the last server has handed over, and nobody else uses: its memory
    /// file, or memory to which it has moved its items
    /// ([`Store::transfer`](crate::store::Store::transfer)). `max_gap` and `now` as in
    /// [`Opened::arena`].
    pub fn handed(file: File, max_gap: Option<Duration>, now: Moment) -> Self {
        let has_name = file.metadata().is_ok_and(|metadata| metadata.nlink() > 0);
        if !has_name {
            let image = Image::read(file, false, max_gap, now);
            return Self::without_arena(image.map(|image| Image {
                is_memory: true,
                ..image
            }));
        }
        let file = LockedFile::lock(file).map_err(EmptyReason::Unreadable);
        let opened = file.and_then(|file| Self::in_arena(file, max_gap, now));
        opened.unwrap_or_else(|reason| Self::without_arena(Err(reason)))
    }

    fn without_arena(image: Result<Image, EmptyReason>) -> Self {
        Self {
            image,
            arena: None,
            save_lock: SaveLock::AtStop,
        }
    }

    /// Uses a file as arena.
    ///
    /// # Errors
    /// The file must be left alone.
    fn in_arena(
        file: LockedFile,
        max_gap: Option<Duration>,
        now: Moment,
    ) -> Result<Self, EmptyReason> {
        let image = file
            .file()
            .try_clone()
            .map_err(EmptyReason::Unreadable)
            .and_then(|file| Image::read(file, true, max_gap, now));
        match image {
            Err(reason) if !reason.permits_overwriting() => Err(reason),
            image => Ok(Self {
                image,
                arena: Some(file),
                save_lock: SaveLock::AtStop,
            }),
        }
    }

    /// Opens the file of `--save-path`, if it exists. Locks the file of its name
    /// with `.lock` until the process ends: servers that share a path would take
    /// and replace each other's items.
    pub fn saved(path: &Path, max_gap: Option<Duration>, now: Moment) -> Self {
        let lock = match lock_save_path(path) {
            Ok(lock) => lock,
            Err(reason) => return Self::unusable(reason),
        };
        let image = match open_regular(path, OpenOptions::new().read(true)) {
            Ok(file) => Image::read(file, false, max_gap, now),
            Err(EmptyReason::Unreadable(error)) if error.kind() == ErrorKind::NotFound => {
                Err(EmptyReason::New)
            }
            Err(reason) => Err(reason),
        };
        Self {
            image,
            arena: None,
            save_lock: SaveLock::Held(lock),
        }
    }

    fn unusable(reason: EmptyReason) -> Self {
        Self {
            image: Err(reason),
            arena: None,
            save_lock: SaveLock::Refused,
        }
    }

    /// Returns the server's clock: that of the last server goes on.
    pub fn clock(&self) -> Clock {
        match &self.image {
            Ok(image) => Clock::resume(image.now()),
            Err(_) => Clock::start(),
        }
    }

    /// Returns the time of the delayed flush that was pending at the last stop.
    pub fn flush_at(&self) -> Expiry {
        let image = self.image.as_ref();
        image.map_or(Expiry::NEVER, |image| Expiry(image.superblock.flush_at))
    }
}

impl Image {
    /// Reads superblock and directory, and validates them.
    fn read(
        file: File,
        is_arena: bool,
        max_gap: Option<Duration>,
        now: Moment,
    ) -> Result<Self, EmptyReason> {
        let superblock = read_superblock(&file)?;
        if superblock.is_arena != is_arena {
            return Err(EmptyReason::OtherKind);
        }
        let away = now.since(&superblock.moment);
        let away = Duration::from_millis(away.ok_or(EmptyReason::ClockWentBack)?);
        if max_gap.is_some_and(|max_gap| away > max_gap) {
            return Err(EmptyReason::Gap(away));
        }
        let clock_ms = superblock.clock_ms.checked_add(away.as_millis() as u64);
        if clock_ms.is_none_or(|clock_ms| clock_ms > CLOCK_MAX_MS) {
            return Err(EmptyReason::ClockEnds);
        }
        if is_arena {
            let extents = Some(superblock.extents).filter(|extents| *extents <= EXTENTS_MAX);
            let bytes = extents.and_then(|extents| extents.checked_mul(EXTENT_BYTES as u64));
            if bytes.and_then(|bytes| bytes.checked_add(DATA_OFFSET)) != Some(superblock.directory)
            {
                return Err(EmptyReason::Damaged("superblock"));
            }
        }
        let records = read_directory(&file, &superblock)?;
        Ok(Self {
            file,
            superblock,
            records,
            away,
            is_memory: false,
        })
    }

    /// Makes sure that the items do not come back after a crash, if the image is to be
    /// read: `saved` is the path of its file. From here on, nothing fails that has
    /// counted items.
    pub(super) fn begin_reading(&self, saved: Option<&Path>) -> Result<(), EmptyReason> {
        let begun = match saved {
            _ if self.is_memory => write_superblock(&self.file, &Superblock::default()),
            // The open file stays readable.
            Some(path) if !self.superblock.is_arena => fs::remove_file(path),
            _ => Ok(()),
        };
        begun.map_err(EmptyReason::Unreadable)
    }

    /// Returns the memory of a page that was read to the system, if the file is
    /// memory.
    pub(super) fn release(&self, record: &PageRecord) {
        if self.is_memory {
            let range = record.offset..record.offset + PAGE_BYTES as u64;
            // Without it, the memory is held until all pages are read.
            let _ = punch_hole(&self.file, range);
        }
    }

    /// Returns the reading of the server's clock at the start.
    fn now(&self) -> Now {
        let away = self.away.as_millis() as u64;
        Now::from_millis(self.superblock.clock_ms.saturating_add(away))
    }
}

/// Opens a regular file. Does not wait for the writer of a named pipe.
fn open_regular(path: &Path, options: &mut OpenOptions) -> Result<File, EmptyReason> {
    let file = options.custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(EmptyReason::Unreadable)?;
    match file.metadata().map_err(EmptyReason::Unreadable)?.is_file() {
        true => Ok(file),
        false => Err(EmptyReason::Foreign),
    }
}

/// Opens a regular file for reading and writing, and locks it.
fn open_locked(path: &Path) -> Result<LockedFile, EmptyReason> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = open_regular(path, options.mode(0o600))?;
    LockedFile::lock(file).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => EmptyReason::InUse,
        _ => EmptyReason::Unreadable(error),
    })
}

/// Creates memory without a name, which can be handed to another process.
///
/// # Errors
/// The system refuses it.
pub fn new_memory() -> io::Result<File> {
    Ok(memfd_create("rustcached", MemfdFlags::CLOEXEC)?.into())
}

/// Locks a file of `--save-path`: a file of its name with `.lock`, because the
/// file itself comes and goes.
///
/// # Errors
/// Another server holds the lock, or the file cannot be created.
pub(super) fn lock_save_path(path: &Path) -> Result<LockedFile, EmptyReason> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    open_locked(Path::new(&name))
}

/// Fails if there is a file at `path` that is not of rustcached: a stop must not
/// replace it.
///
/// # Errors
/// The file is of somebody else, or cannot be read.
pub(super) fn check_replaceable(path: &Path) -> io::Result<()> {
    let found = open_regular(path, OpenOptions::new().read(true));
    let reason = match found.and_then(|file| read_superblock(&file)) {
        Err(EmptyReason::Unreadable(error)) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(reason) if !reason.permits_overwriting() => reason,
        _ => return Ok(()),
    };
    Err(io::Error::other(reason.to_string()))
}

/// Marks a memory file unclean, and removes what follows its first `data_bytes`
/// bytes of pages.
///
/// # Errors
/// The file cannot be written.
pub(super) fn begin_use(file: &File, data_bytes: u64) -> io::Result<()> {
    write_superblock(file, &Superblock::default())?;
    file.set_len(DATA_OFFSET + data_bytes)
}
