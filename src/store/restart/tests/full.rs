//! Tests of a full file system: a small one in memory. They mount it, which
//! needs root, and are run by `.ci/run`.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use super::files::make_sparse;
use super::{LIMIT, NOW, TestFile, contents, put, works};
use crate::store::{ItemSpec, Local, Store};

/// Bytes of the file system.
const SIZE_BYTES: usize = 4 << 20;

/// A file system that is unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(name: &str) -> Self {
        let name = format!("rustcached-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        let size = format!("size={SIZE_BYTES}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path);
        assert!(mount.status().unwrap().success(), "mounting needs root");
        Self(path)
    }

    fn file(&self) -> TestFile {
        TestFile {
            path: self.0.join("memory"),
            is_arena: true,
        }
    }

    /// Writes to another file until there is no room.
    fn fill_up(&self) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Mappings of dropped stores stay until the process ends.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

/// Stores `count` values of different sizes.
fn store_many(store: &Store, local: &mut Local, count: usize) {
    for number in 0..count {
        let key = format!("key-{number}");
        let len = match number % 40 {
            0 => 50_000,
            _ => number * 37 % 2000,
        };
        put(store, local, &ItemSpec::new(key.as_bytes(), len));
    }
}

#[test]
#[ignore = "mounts a file system, which needs root"]
fn items_are_evicted_and_most_are_there_after_a_restart() {
    let mounted = Mounted::new("evicting");
    let file = mounted.file();
    let (store, _) = file.open();
    let mut local = store.local();
    store_many(&store, &mut local, 5000);
    assert!(store.stats().snapshot().evictions > 100);
    assert!((SIZE_BYTES * 3 / 4..SIZE_BYTES).contains(&store.page_bytes()));
    store.audit(&mut local);
    let before = contents(&store, NOW);
    mounted.fill_up();
    file.stop(&store, NOW);
    drop(store);
    let (store, result) = file.open();
    let restored = result.unwrap();
    let lost = before.len() - restored.kept as usize;
    assert!(lost <= before.len() / 10, "{restored:?}");
    assert!(
        contents(&store, NOW)
            .iter()
            .all(|(key, seen)| before[key] == *seen)
    );
    let mut local = store.local();
    store_many(&store, &mut local, 5000);
    store.audit(&mut local);
}

#[test]
#[ignore = "mounts a file system, which needs root"]
fn pages_without_blocks_are_not_loaded() {
    let mounted = Mounted::new("sparse");
    let file = mounted.file();
    let (store, _) = file.open();
    let mut local = store.local();
    for len in (40..4000).step_by(16) {
        let key = format!("{len}");
        put(&store, &mut local, &ItemSpec::new(key.as_bytes(), len));
    }
    file.stop(&store, NOW);
    drop(store);
    make_sparse(&file);
    mounted.fill_up();
    let (store, result) = file.open_with(LIMIT, 0, None);
    let restored = result.unwrap();
    assert!(restored.dropped.over_limit > 0, "{restored:?}");
    works(&store);
}
