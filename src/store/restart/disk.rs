//! Large writes and reads ahead, for files on disks (`--save-path`).
//!
//! Pages are written past the page cache where the file system permits it.
//! Through the cache, a save takes as much memory again as the items do while
//! the server still holds them, and was slower. The price: the next start reads
//! from the disk. It asks for pages ahead, so that it does not wait for each.

use std::fs::File;
use std::io::{self, IoSlice, Seek, SeekFrom, Write};

use nix::errno::Errno;
use nix::fcntl::{
    FallocateFlags, FcntlArg, OFlag, PosixFadviseAdvice, fallocate, fcntl, posix_fadvise,
};

use crate::store::memory::classes::PAGE_BYTES;
use crate::store::restart::image::Image;

/// Writes to a new file past the page cache, or through it if the file system
/// demands that.
pub(super) struct PageWriter<'a> {
    file: &'a File,
    is_direct: bool,
}

impl<'a> PageWriter<'a> {
    /// Begins at offset `start`. Allocates the blocks up to `end`, so that they
    /// lie together on the disk and are all there.
    ///
    /// # Errors
    /// The file system is full.
    pub(super) fn new(mut file: &'a File, start: u64, end: u64) -> io::Result<Self> {
        match fallocate(file, FallocateFlags::empty(), 0, end as i64) {
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {}
            Err(error) => return Err(error.into()),
        }
        file.seek(SeekFrom::Start(start))?;
        Ok(Self {
            file,
            is_direct: set_direct(file, true),
        })
    }

    /// Appends pages. Their addresses are multiples of [`PAGE_BYTES`].
    ///
    /// # Errors
    /// They cannot be written.
    pub(super) fn write(&mut self, mut pages: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut file = self.file;
        while !pages.is_empty() {
            match file.write_vectored(pages) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut pages, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The file system has other rules of alignment.
                Err(error) if self.is_direct && error.raw_os_error() == Some(libc::EINVAL) => {
                    self.is_direct = false;
                    set_direct(file, false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What follows the pages has no alignment, and goes through the cache.
impl Drop for PageWriter<'_> {
    fn drop(&mut self) {
        if self.is_direct {
            set_direct(self.file, false);
        }
    }
}

/// Writes past the page cache from now on, or through it. Returns whether that
/// was possible.
fn set_direct(file: &File, direct: bool) -> bool {
    let mut flags = OFlag::empty();
    flags.set(OFlag::O_DIRECT, direct);
    fcntl(file, FcntlArg::F_SETFL(flags)).is_ok()
}

impl Image {
    /// Asks the system to read `count` pages from number `start` on, if they are
    /// to be read. Returns at once.
    pub(super) fn read_ahead(&self, start: usize, count: usize) {
        let records = &self.records[start..];
        let [first, .., last] = &records[..records.len().min(count)] else {
            return;
        };
        let end = last.offset + PAGE_BYTES as u64;
        // No length would stand for the rest of the file.
        if self.superblock.is_arena || end <= first.offset {
            return;
        }
        let bytes = end - first.offset;
        let advice = PosixFadviseAdvice::POSIX_FADV_WILLNEED;
        // Without support for it, the pages are read all the same.
        let _ = posix_fadvise(&self.file, first.offset as i64, bytes as i64, advice);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::{IoSlice, Write};
    use std::os::unix::fs::OpenOptionsExt;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::PageWriter;
    use crate::store::memory::classes::PAGE_BYTES;
    use crate::store::memory::file::DATA_OFFSET;

    fn is_direct(file: &fs::File) -> bool {
        let flags = fcntl(file, FcntlArg::F_GETFL).unwrap();
        OFlag::from_bits_retain(flags).contains(OFlag::O_DIRECT)
    }

    #[test]
    fn pages_are_written_past_the_cache_where_that_is_possible() {
        let name = format!("rustcached-disk-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut file = fs::File::create(&path).unwrap();
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_DIRECT);
        let is_possible = options.open(&path).is_ok();
        let bytes: Vec<u8> = (0..5 * PAGE_BYTES).map(|at| (at / 7) as u8).collect();
        let aligned = bytes.as_ptr().align_offset(PAGE_BYTES);
        // Pages at addresses that direct writes accept, then others.
        for (start, stays_direct) in [(aligned, true), (aligned + 1, false)] {
            let pages = &bytes[start..][..3 * PAGE_BYTES];
            let end = DATA_OFFSET + pages.len() as u64;
            let mut writer = PageWriter::new(&file, DATA_OFFSET, end).unwrap();
            assert_eq!(is_direct(&file), is_possible);
            let (one, others) = pages.split_at(PAGE_BYTES);
            writer.write(&mut [IoSlice::new(one)]).unwrap();
            let mut others: Vec<_> = others.chunks(PAGE_BYTES).map(IoSlice::new).collect();
            writer.write(&mut others).unwrap();
            if stays_direct {
                assert_eq!(is_direct(&file), is_possible);
            }
            drop(writer);
            assert!(!is_direct(&file));
            // What follows has no alignment.
            file.write_all(b"the end").unwrap();
            let written = fs::read(&path).unwrap();
            assert!(written[DATA_OFFSET as usize..].strip_prefix(pages) == Some(b"the end"));
        }
        fs::remove_file(&path).unwrap();
    }
}
