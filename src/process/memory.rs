//! The memory that this process may use: that of the machine, and the limits of the
//! control groups (containers, services) that it is in. Read once, for a warning at
//! the start.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::sysinfo::sysinfo;
use rustcached::config::Config;

use crate::process::error::ProcessError;

/// Memory of a server without items and clients, rounded up.
const BASE_BYTES: u64 = 24 << 20;
/// Part of the memory that `-m` may have if clients get a quarter of `-m`, which is
/// their default, and item memory exceeds `-m` by a tenth.
const SHARE: (u64, u64) = (20, 27);
/// Multiple of the machine's memory above which `-m` is a mistake, such as a number of
/// bytes. The tables of such a store could not be allocated.
const ABSURD: u64 = 100;
/// Where control groups are mounted.
const GROUPS: &str = "sys/fs/cgroup";

/// Memory that the process may use.
#[derive(Debug, PartialEq, Eq)]
struct Available {
    bytes: u64,
    source: Source,
}

/// What limits the memory.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// The memory of the machine.
    Machine,
    /// This file of a control group.
    Group(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => out.write_str("the machine has"),
            Self::Group(file) => write!(
                out,
                "the limit of the container or service ({}) is",
                file.display()
            ),
        }
    }
}

/// Returns the memory of the machine as the system call `sysinfo` reports it.
pub(super) fn installed() -> Option<u64> {
    sysinfo().ok().map(|info| info.ram_total())
}

/// Returns a warning if `-m` is more than the memory that the process may use, as the
/// files below `root` have it: `/`, or a copy of it for tests.
///
/// `installed` is the memory of the machine. `/proc/meminfo` precedes it, because some
/// containers have one of their own. Services may have none (`ProcSubset=pid`).
///
/// # Errors
/// `-m` is absurd on this machine.
pub(super) fn check(
    root: &Path,
    installed: Option<u64>,
    config: &Config,
) -> Result<Option<String>, ProcessError> {
    let limit = config.max_memory as u64;
    let machine = machine(root).or(installed);
    match machine {
        Some(machine) if limit / ABSURD > machine => Err(ProcessError::Memory {
            megabytes: limit >> 20,
            machine: machine >> 20,
        }),
        _ => Ok(warning(root, machine, limit)),
    }
}

fn warning(root: &Path, machine: Option<u64>, limit: u64) -> Option<String> {
    let available = available(root, machine)?;
    let needed = limit.saturating_add(BASE_BYTES);
    if needed <= available.bytes {
        return None;
    }
    let (needed, has) = (needed >> 20, available.bytes >> 20);
    let (part, whole) = SHARE;
    let fitting = (available.bytes.saturating_sub(BASE_BYTES) / whole * part) >> 20;
    let lower = match fitting {
        0 => "raise that limit".to_owned(),
        _ => format!("lower -m, to {fitting} for room for clients, or raise that limit"),
    };
    Some(format!(
        "warning: -m {} needs {needed} MiB, and {} {has} MiB: the kernel may kill the server; \
         {lower}",
        limit >> 20,
        available.source,
    ))
}

/// Returns the least of all limits and of the memory of the machine; `None` if none is
/// known.
fn available(root: &Path, machine: Option<u64>) -> Option<Available> {
    let machine = machine.map(|bytes| Available {
        bytes,
        source: Source::Machine,
    });
    let groups = group_files(root).into_iter().filter_map(|file| {
        // Without a limit, it says "max".
        let bytes = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
        let shown = file.strip_prefix(root).unwrap_or(&file);
        Some(Available {
            bytes,
            source: Source::Group(Path::new("/").join(shown)),
        })
    });
    machine.into_iter().chain(groups).min_by_key(|it| it.bytes)
}

/// Returns the memory of the machine in bytes, as `/proc/meminfo` has it.
fn machine(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Returns the files that may have a limit: of the process's group and of those above
/// it, in the hierarchies of version 2 and of version 1.
///
/// In a container, the group's path may be that of the host, and its files then are at
/// the top of the hierarchy.
fn group_files(root: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut files = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (top, file) = match controllers {
            "" => ("", "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                ("memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        let is_inside = |path: &&Path| !path.components().any(|part| part.as_os_str() == "..");
        for group in path.ancestors().filter(is_inside) {
            files.push(root.join(GROUPS).join(top).join(group).join(file));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::{Available, Source, available, check, installed, machine, warning};
    use rustcached::config::Config;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// A copy of the files of the kernel, removed when dropped.
    struct Root(PathBuf);

    impl Root {
        fn with(name: &str, files: &[(&str, &str)]) -> Self {
            let name = format!("rustcached-memory-{}-{name}", std::process::id());
            let root = Self(std::env::temp_dir().join(name));
            for (file, text) in files {
                let path = root.0.join(file);
                let folder = path.parent().expect("a folder");
                fs::create_dir_all(folder).expect("a scratch directory");
                fs::write(path, text).expect("writable");
            }
            root
        }

        fn available(&self) -> Option<(u64, String)> {
            let Available { bytes, source } = available(&self.0, machine(&self.0))?;
            let source = match source {
                Source::Machine => "machine".to_owned(),
                Source::Group(path) => path.display().to_string(),
            };
            Some((bytes, source))
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:       4194304 kB\nMemFree:         100 kB\n",
    );

    #[test]
    fn the_least_limit_of_all_groups_counts() {
        let root = Root::with(
            "v2",
            &[
                MEMINFO,
                ("proc/self/cgroup", "0::/system.slice/x.service\n"),
                ("sys/fs/cgroup/memory.max", "max\n"),
                ("sys/fs/cgroup/system.slice/memory.max", "1073741824\n"),
                ("sys/fs/cgroup/system.slice/x.service/memory.max", "max\n"),
            ],
        );
        let file = "/sys/fs/cgroup/system.slice/memory.max".to_owned();
        assert_eq!(root.available(), Some((1 << 30, file)));
    }

    #[test]
    fn in_a_container_the_limit_is_at_the_top() {
        for (name, group) in [
            ("own", "0::/\n"),
            ("host", "0::/docker/0123abc\n"),
            ("above", "0::/../other\n"),
        ] {
            let files = [
                MEMINFO,
                ("proc/self/cgroup", group),
                ("sys/fs/cgroup/memory.max", "536870912\n"),
                ("sys/fs/other/memory.max", "1\n"),
            ];
            let root = Root::with(name, &files);
            let file = "/sys/fs/cgroup/memory.max".to_owned();
            assert_eq!(root.available(), Some((512 << 20, file)), "{name}");
        }
    }

    #[test]
    fn version_1_has_files_of_its_own() {
        let groups = "9:cpu,cpuacct:/a\n4:memory:/a/b\n0::/a\n";
        let root = Root::with(
            "v1",
            &[
                MEMINFO,
                ("proc/self/cgroup", groups),
                (
                    "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
                (
                    "sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                    "268435456\n",
                ),
            ],
        );
        let file = "/sys/fs/cgroup/memory/a/memory.limit_in_bytes".to_owned();
        assert_eq!(root.available(), Some((256 << 20, file)));
    }

    #[test]
    fn without_groups_the_machine_counts_and_without_files_nothing() {
        let root = Root::with("machine", &[MEMINFO]);
        assert_eq!(root.available(), Some((4 << 30, "machine".to_owned())));
        let empty = Root::with("empty", &[("proc/meminfo", "MemTotal: many\n")]);
        assert_eq!(empty.available(), None);
        assert_eq!(warning(&empty.0, None, u64::MAX), None);
    }

    #[test]
    fn a_hidden_file_is_replaced_by_the_system_call() {
        let root = Root::with("hidden", &[("proc/self/cgroup", "0::/\n")]);
        let config = Config {
            max_memory: 8192 << 20,
            ..Config::default()
        };
        let text = check(&root.0, Some(4096 << 20), &config).expect("not absurd");
        assert!(text.is_some_and(|text| text.contains("the machine has 4096 MiB")));
        assert!(installed().is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn a_warning_names_both_figures_and_what_to_do() {
        let root = Root::with(
            "warning",
            &[
                MEMINFO,
                ("proc/self/cgroup", "0::/\n"),
                ("sys/fs/cgroup/memory.max", "536870912\n"),
            ],
        );
        let of = |root: &Path, mib: u64| warning(root, machine(root), mib << 20);
        assert_eq!(of(&root.0, 488), None);
        let text = of(&root.0, 489).expect("a warning");
        assert_eq!(
            text,
            "warning: -m 489 needs 513 MiB, and the limit of the container or service \
             (/sys/fs/cgroup/memory.max) is 512 MiB: the kernel may kill the server; lower -m, to \
             361 for room for clients, or raise that limit"
        );
        let machine = Root::with("warning-machine", &[MEMINFO]);
        let text = of(&machine.0, 8192).expect("a warning");
        assert!(text.contains("-m 8192 needs 8216 MiB, and the machine has 4096 MiB"));
        let tiny = [("proc/meminfo", "MemTotal: 20000 kB\n")];
        let text = of(&Root::with("tiny", &tiny).0, 64).expect("a warning");
        assert!(text.ends_with("raise that limit") && !text.contains("lower"));
    }

    #[test]
    fn bytes_in_place_of_megabytes_are_refused() {
        let root = Root::with("absurd", &[MEMINFO]);
        let of = |mib: usize| {
            let config = Config {
                max_memory: mib << 20,
                ..Config::default()
            };
            check(&root.0, None, &config)
        };
        assert!(matches!(of(409_600), Ok(Some(_))));
        let error = of(409_701).expect_err("more than a hundred times as much");
        assert_eq!(error.exit_code(), 64);
        let text = error.to_string();
        assert!(
            text.contains("409701") && text.contains("4096 MiB"),
            "{text}"
        );
    }
}
