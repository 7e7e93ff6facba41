//! The file that holds the item memory (`-e`). Its extents are mapped shared, so
//! that the pages stay in the file when the process ends.
//!
//! A page's blocks are allocated before it is touched. On a full file system, a
//! write to a mapped page without blocks would end the process with SIGBUS.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr::{NonNull, null_mut};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek};
use rustix::fs::{FlockOperation, flock};

/// Offset of the first extent in the file. The superblock lies before it.
pub(in crate::store) const DATA_OFFSET: u64 = 2 << 20;

/// A file that no other server uses. Dropping it releases its lock, also for other
/// processes that have the same open file.
#[derive(Debug)]
pub(in crate::store) struct LockedFile(File);

impl LockedFile {
    /// Locks a file. Succeeds also if it is locked by way of the same open file.
    ///
    /// # Errors
    /// `WouldBlock` if another server uses the file.
    pub(in crate::store) fn lock(file: File) -> io::Result<Self> {
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self(file))
    }

    /// Returns the file.
    pub(in crate::store) fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for LockedFile {
    /// Closing the file would not do: its mappings keep it open.
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// The lock of `--save-path`.
#[derive(Debug, Default)]
pub(in crate::store) enum SaveLock {
    /// It is held until the process ends.
    Held(#[expect(dead_code, reason = "dropping it releases the lock")] LockedFile),
    /// A stop takes it. At the start, the predecessor of a server that takes
    /// over holds it.
    #[default]
    AtStop,
    /// Another server held it at the start.
    Refused,
}

/// A file whose extents are mapped as item memory.
pub(in crate::store) struct MemoryFile {
    file: LockedFile,
    /// Bytes of an extent.
    extent_bytes: usize,
    /// Alignment of a mapped extent, in bytes.
    alignment: usize,
    /// Extents mapped so far: the first ones of the file.
    extents: usize,
}

impl MemoryFile {
    /// Takes over a file. Its length is a whole number of extents after
    /// [`DATA_OFFSET`], or less.
    pub(super) fn new(file: LockedFile, extent_bytes: usize, alignment: usize) -> Self {
        Self {
            file,
            extent_bytes,
            alignment,
            extents: 0,
        }
    }

    /// Returns the file.
    pub(in crate::store) fn file(&self) -> &File {
        self.file.file()
    }

    /// Returns the number of extents mapped so far.
    pub(in crate::store) fn extents(&self) -> usize {
        self.extents
    }

    /// Returns the offset of extent number `extent` in the file.
    pub(super) fn offset_of(&self, extent: usize) -> u64 {
        DATA_OFFSET + (extent * self.extent_bytes) as u64
    }

    /// Maps the next extent. Makes the file longer if the extent is not in it
    /// yet. The address is aligned.
    ///
    /// # Errors
    /// The file cannot grow, or the system has no address space.
    pub(super) fn map_next(&mut self) -> io::Result<NonNull<u8>> {
        let offset = self.offset_of(self.extents);
        let end = offset + self.extent_bytes as u64;
        if self.file().metadata()?.len() < end {
            self.file().set_len(end)?;
        }
        let base = self.reserve()?;
        // SAFETY: replaces a part of a reservation that nothing uses. The
        // mapping is never removed, so its addresses stay valid.
        let mapped = unsafe {
            libc::mmap(
                base.as_ptr().cast(),
                self.extent_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_FIXED,
                self.file().as_raw_fd(),
                offset as libc::off_t,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        self.extents += 1;
        Ok(base)
    }

    /// Allocates blocks for a range of the file.
    ///
    /// # Errors
    /// The file system is full.
    pub(in crate::store) fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        let flags = FallocateFlags::empty();
        let bytes = range.end - range.start;
        fallocate(self.file(), flags, range.start as i64, bytes as i64).map_err(io::Error::from)
    }

    /// Returns the first offset from `start` on that has no blocks, or none that
    /// were written. If the file system cannot say, returns the file's length.
    ///
    /// # Errors
    /// `start` is not in the file.
    pub(super) fn next_hole(&self, start: u64) -> io::Result<u64> {
        match lseek(self.file(), start as i64, Whence::SeekHole) {
            Ok(hole) => Ok(hole as u64),
            Err(Errno::EINVAL) => Ok(self.file().metadata()?.len()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the blocks of a range of the file to the file system. They read as
    /// zeros afterwards.
    ///
    /// # Errors
    /// The file system does not support this.
    pub(in crate::store) fn discard(&self, range: Range<u64>) -> io::Result<()> {
        punch_hole(self.file(), range)
    }

    /// Unmaps an extent.
    ///
    /// # Safety
    /// `base` came from [`MemoryFile::map_next`], and nothing uses the extent
    /// any more.
    #[cfg(fuzzing)]
    pub(super) unsafe fn unmap(&self, base: NonNull<u8>) {
        // SAFETY: as the caller guarantees.
        unsafe { libc::munmap(base.as_ptr().cast(), self.extent_bytes) };
    }

    /// Reserves aligned address space for an extent.
    fn reserve(&self) -> io::Result<NonNull<u8>> {
        let bytes = self.extent_bytes + self.alignment;
        // SAFETY: creates a mapping at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                null_mut(),
                bytes,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let before = start.cast::<u8>().align_offset(self.alignment);
        // SAFETY: both ends lie in the reservation, and nothing uses them.
        unsafe {
            let base = start.cast::<u8>().add(before);
            if before > 0 {
                libc::munmap(start, before);
            }
            libc::munmap(base.add(self.extent_bytes).cast(), self.alignment - before);
            NonNull::new(base).ok_or_else(|| io::Error::other("mapped at address 0"))
        }
    }
}

/// Returns the blocks of a range of a file to the file system. They read as zeros
/// afterwards, and the file stays as long as it is.
///
/// # Errors
/// The file system does not support this.
pub(in crate::store) fn punch_hole(file: &File, range: Range<u64>) -> io::Result<()> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let bytes = range.end - range.start;
    fallocate(file, flags, range.start as i64, bytes as i64).map_err(io::Error::from)
}
