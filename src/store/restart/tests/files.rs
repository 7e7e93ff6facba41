//! Tests of what lies at the path of a memory file, and of its blocks on the
//! disk.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::sync::Arc;

use nix::sys::stat::Mode;

use super::{Contents, LIMIT, MOMENT, NOW, TestFile, both, contents, fill, parallel, put, works};
use crate::config::Eviction;
use crate::store::memory::classes::PAGE_BYTES;
use crate::store::memory::file::DATA_OFFSET;
use crate::store::restart::format::{MAGIC, SUPERBLOCK_BYTES, Superblock, VERSION, read_directory};
use crate::store::restart::{EmptyReason, Opened};
use crate::store::{ItemSpec, Options, Store};

/// Bytes of a block of a file, and those that are counted as one.
const BLOCK_BYTES: usize = 4096;
const COUNTED_BYTES: u64 = 512;

fn disk_bytes(file: &TestFile) -> u64 {
    fs::metadata(&file.path).unwrap().blocks() * COUNTED_BYTES
}

#[test]
fn an_empty_store_is_restored() {
    for file in both() {
        let (store, _) = file.open();
        file.stop(&store, NOW);
        drop(store);
        let (store, result) = file.open();
        assert_eq!(result.unwrap().kept, 0);
        works(&store);
    }
}

#[test]
fn a_named_pipe_is_left_alone() {
    for file in both() {
        nix::unistd::mkfifo(&file.path, Mode::S_IRWXU).unwrap();
        let (store, result) = file.open();
        assert!(matches!(result, Err(EmptyReason::Foreign)), "{result:?}");
        works(&store);
    }
}

#[test]
fn a_link_in_the_place_of_the_part_is_not_followed() {
    let [other, file] = both();
    fs::write(&other.path, "somebody's notes").unwrap();
    let part = TestFile {
        path: format!("{}.part", file.path.display()).into(),
        is_arena: false,
    };
    symlink(&other.path, &part.path).unwrap();
    let before = file.filled();
    assert_eq!(fs::read(&other.path).unwrap(), b"somebody's notes");
    assert_eq!(file.open().1.unwrap().kept, before.len() as u64);
}

#[test]
fn nothing_is_counted_if_the_file_cannot_be_removed() {
    let file = TestFile::new(false);
    file.filled();
    let opened = Opened::saved(&file.path, None, MOMENT);
    let options = Options {
        max_memory: LIMIT,
        evict: true,
        max_item_size: 1 << 20,
        eviction: Eviction::default(),
        cas: true,
        delimiter: b':',
    };
    let missing = file.path.with_extension("missing");
    let (stats, events) = (Arc::default(), Arc::default());
    let (store, result) = Store::open(
        options,
        stats,
        events,
        opened,
        Some(&missing),
        NOW,
        &parallel,
    );
    assert!(
        matches!(result, Err(EmptyReason::Unreadable(_))),
        "{result:?}"
    );
    works(&store);
}

#[test]
fn the_hole_of_a_sparse_file_is_no_directory() {
    let file = TestFile::new(false);
    let sparse = File::create_new(&file.path).unwrap();
    let directory: u64 = 1 << 42;
    // Longer than the records would be. All of them are zero.
    sparse.set_len(directory + (1 << 38)).unwrap();
    for pages in [(directory - DATA_OFFSET) / PAGE_BYTES as u64, 1 << 33] {
        let superblock = Superblock {
            directory,
            pages,
            ..Superblock::default()
        };
        let file = OpenOptions::new().read(true).open(&file.path).unwrap();
        let result = read_directory(&file, &superblock);
        assert!(matches!(result, Err(EmptyReason::Damaged("directory"))));
    }
}

/// Copies a file as `cp --sparse=always` does, without the blocks that are zero.
pub(super) fn make_sparse(file: &TestFile) {
    let mut bytes = Vec::new();
    File::open(&file.path)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    let copy = File::create(&file.path).unwrap();
    copy.set_len(bytes.len() as u64).unwrap();
    for (number, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            let place = (number * BLOCK_BYTES) as u64;
            copy.write_all_at(block, place).unwrap();
        }
    }
}

#[test]
fn pages_in_use_have_blocks_and_others_have_none() {
    let file = TestFile::new(true);
    let (store, _) = file.open();
    // A page of each of these has blocks that nothing was written to.
    let mut local = store.local();
    for len in (40..4000).step_by(16) {
        let key = format!("{len}");
        put(&store, &mut local, &ItemSpec::new(key.as_bytes(), len));
    }
    file.stop(&store, NOW);
    let used = store.page_bytes() as u64;
    drop(store);
    make_sparse(&file);
    assert!(disk_bytes(&file) < used, "it is a sparse file");
    // Blocks in pages that are not in use.
    let end = fs::metadata(&file.path).unwrap().len();
    let unused = OpenOptions::new().write(true).open(&file.path).unwrap();
    let unused_bytes = 4 << 20;
    let start = DATA_OFFSET + 512 * PAGE_BYTES as u64 - unused_bytes;
    assert!(start > DATA_OFFSET + used && start + unused_bytes < end);
    unused
        .write_all_at(&vec![1; unused_bytes as usize], start)
        .unwrap();
    let (store, result) = file.open();
    assert_eq!(result.unwrap().dropped.total(), 0);
    let used = store.page_bytes() as u64;
    let bytes = disk_bytes(&file);
    // The superblock, and what the file system needs for itself.
    let others = 256 << 10;
    assert!((used..used + others).contains(&bytes), "{bytes} of {used}");
    works(&store);
}

#[test]
fn a_file_of_another_version_empties_the_store() {
    for version in [0, VERSION - 1, VERSION + 1, u32::MAX] {
        for file in both() {
            file.filled();
            let mut bytes = fs::read(&file.path).unwrap();
            bytes[MAGIC.len()..][..4].copy_from_slice(&version.to_le_bytes());
            let end = SUPERBLOCK_BYTES - 4;
            let crc = crc32fast::hash(&bytes[..end]);
            bytes[end..SUPERBLOCK_BYTES].copy_from_slice(&crc.to_le_bytes());
            fs::write(&file.path, bytes).unwrap();
            let (store, result) = file.open();
            let reason = result.expect_err("another version");
            assert!(matches!(reason, EmptyReason::Version(found) if found == version));
            let mut local = store.local();
            assert_eq!(contents(&store, NOW), Contents::new());
            fill(&store, &mut local);
            let before = contents(&store, NOW);
            // The stop replaces the file.
            file.stop(&store, NOW);
            drop(store);
            assert_eq!(file.open().1.unwrap().kept, before.len() as u64);
        }
    }
}

#[test]
fn two_servers_do_not_share_a_file() {
    for file in both() {
        let before = file.filled();
        let (first, result) = file.open();
        assert_eq!(result.unwrap().kept, before.len() as u64);
        for _ in 0..2 {
            let (second, result) = file.open();
            assert!(matches!(result, Err(EmptyReason::InUse)), "{result:?}");
            assert!(!second.has_file() && (file.is_arena || !second.may_save()));
            works(&second);
        }
        file.stop(&first, NOW);
        // The first one has not ended yet.
        let (_second, result) = file.open();
        assert!(matches!(result, Err(EmptyReason::InUse)), "{result:?}");
        drop(first);
        assert_eq!(file.open().1.unwrap().kept, before.len() as u64);
    }
}
