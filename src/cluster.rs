//! The list of servers that clients ask for with `config get cluster`, the auto
//! discovery of Amazon ElastiCache, and the file that it comes from
//! (`--cluster-file`).
//!
//! The text of a list is a line with the version number, then servers of the form
//! `host|ip|port`, separated by spaces or newlines. `#` begins a comment. Clients
//! get the form of ElastiCache: the version, and all servers on a second line.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::files::{self, FileState};
use crate::limits::{CLUSTER_HOST_MAX_BYTES, CLUSTER_LIST_MAX_BYTES, CLUSTER_NODES_MAX};

/// A list of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeList {
    /// Version number. Clients ignore a list whose version is not above that of
    /// theirs.
    pub version: u64,
    /// Number of servers.
    pub nodes: usize,
    /// Client flags of the list, which `config set` gives it; 0 from a file.
    pub flags: u32,
    /// The list as clients get it.
    pub text: Box<str>,
}

/// Fault of a list. Lines count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListError {
    /// The list has more than [`CLUSTER_LIST_MAX_BYTES`].
    TooLong,
    /// The list has more than [`CLUSTER_NODES_MAX`] servers.
    TooMany,
    /// There is no server.
    NoNode,
    /// The first line that is not empty is no version number.
    Version(usize),
    /// A server of this line is not of the form `host|ip|port`.
    Node(usize),
    /// A server of this line was listed before.
    Twice(usize),
}

/// Error of a cluster file.
#[derive(Debug)]
pub enum ClusterError {
    /// The file cannot be read.
    Read(PathBuf, io::Error),
    /// The list in the file is faulty.
    List(PathBuf, ListError),
}

/// A list that has replaced another one. Its text is a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    nodes: usize,
    version: u64,
    before: u64,
}

/// The current list, and its file.
#[derive(Debug)]
pub struct Cluster {
    path: PathBuf,
    list: RwLock<Arc<NodeList>>,
    watched: Mutex<Watched>,
}

/// States of the file; `None` if it cannot be examined.
#[derive(Debug, Default)]
struct Watched {
    /// State when the file was last read, successfully or not.
    read: Option<FileState>,
    /// State at the last check.
    seen: Option<FileState>,
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "more than {CLUSTER_LIST_MAX_BYTES} bytes"),
            Self::TooMany => write!(f, "more than {CLUSTER_NODES_MAX} servers"),
            Self::NoNode => f.write_str("no server is listed"),
            Self::Version(line) => write!(f, "line {line} is not a version number"),
            Self::Node(line) => write!(f, "line {line} is not host|ip|port"),
            Self::Twice(line) => write!(f, "line {line} lists a server again"),
        }
    }
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => {
                let (path, remedy) = (path.display(), files::remedy(path, error));
                write!(f, "could not read the cluster file {path}: {error}{remedy}")
            }
            Self::List(path, error) => write!(f, "cluster file {}: {error}", path.display()),
        }
    }
}

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            nodes,
            version,
            before,
        } = self;
        write!(
            f,
            "the list of servers has version {version} and length {nodes} now"
        )?;
        if version <= before {
            write!(
                f,
                "; clients that have version {before} keep their list until the number is higher"
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for ListError {}

impl std::error::Error for ClusterError {}

impl Cluster {
    /// Loads a file.
    ///
    /// # Errors
    /// The file cannot be read or its list is faulty.
    pub fn load(path: &Path) -> Result<Self, ClusterError> {
        let (list, state) = read(path);
        Ok(Self {
            path: path.to_path_buf(),
            list: RwLock::new(Arc::new(list?)),
            watched: Mutex::new(Watched {
                read: state,
                seen: state,
            }),
        })
    }

    /// Returns the current list.
    pub fn list(&self) -> Arc<NodeList> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the list, until the file is read again.
    ///
    /// # Errors
    /// The list is faulty. Nothing is changed then.
    pub fn set(&self, text: &[u8], flags: u32) -> Result<Replaced, ListError> {
        let list = NodeList {
            flags,
            ..NodeList::parse(text)?
        };
        Ok(self.replace(list))
    }

    /// Reads the file again. Returns `None` if its list is the current one.
    ///
    /// # Errors
    /// The file cannot be read or its list is faulty. The list is unchanged then.
    pub fn reload(&self) -> Result<Option<Replaced>, ClusterError> {
        let (list, state) = read(&self.path);
        (self.watched().read, self.watched().seen) = (state, state);
        let list = list?;
        Ok((*self.list() != list).then(|| self.replace(list)))
    }

    /// Reads the file again if it has changed since it was last read and has not
    /// changed since the last call, so that a file is not read while it is being
    /// written. Returns `None` if there is nothing new.
    ///
    /// # Errors
    /// As for [`Cluster::reload`], once for each change.
    pub fn refresh(&self) -> Result<Option<Replaced>, ClusterError> {
        let state = state_of(&self.path);
        let is_due = {
            let mut watched = self.watched();
            let is_stable = watched.seen == state;
            watched.seen = state;
            is_stable && watched.read != state
        };
        match is_due {
            true => self.reload(),
            false => Ok(None),
        }
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, list: NodeList) -> Replaced {
        let (nodes, version) = (list.nodes, list.version);
        let mut current = self.list.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, Arc::new(list)).version;
        Replaced {
            nodes,
            version,
            before,
        }
    }
}

fn state_of(path: &Path) -> Option<FileState> {
    fs::metadata(path).ok().as_ref().map(FileState::of)
}

/// Reads a file. Also returns its state as of then, or before if it cannot be opened.
fn read(path: &Path) -> (Result<NodeList, ClusterError>, Option<FileState>) {
    let failed = |error| ClusterError::Read(path.to_path_buf(), error);
    // Without it, a file that exists but cannot be opened would look changed for ever.
    let mut state = state_of(path);
    let mut read_text = || -> io::Result<Vec<u8>> {
        let file = files::open(path)?;
        state = Some(FileState::of(&file.metadata()?));
        let mut text = Vec::new();
        // One byte more, to recognize a list that is too long.
        file.take(CLUSTER_LIST_MAX_BYTES as u64 + 1)
            .read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read_text().map_err(failed);
    let list = text.and_then(|text| {
        NodeList::parse(&text).map_err(|error| ClusterError::List(path.to_path_buf(), error))
    });
    (list, state)
}

impl NodeList {
    /// Parses the text of a list.
    ///
    /// # Errors
    /// The list is faulty.
    pub fn parse(text: &[u8]) -> Result<Self, ListError> {
        if text.len() > CLUSTER_LIST_MAX_BYTES {
            return Err(ListError::TooLong);
        }
        let lines = text.split(|byte| *byte == b'\n').zip(1..);
        let mut version = None;
        let mut nodes = Vec::new();
        let mut known = HashSet::new();
        let mut last = 0;
        for (line, number) in lines {
            last = number;
            let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
            if version.is_none() {
                let line = line.trim_ascii();
                if !line.is_empty() {
                    version = Some(parse_version(line).ok_or(ListError::Version(number))?);
                }
                continue;
            }
            for word in line.split(u8::is_ascii_whitespace) {
                if word.is_empty() {
                    continue;
                }
                let (node, place) = parse_node(word).ok_or(ListError::Node(number))?;
                if !known.insert(place) {
                    return Err(ListError::Twice(number));
                }
                if nodes.len() == CLUSTER_NODES_MAX {
                    return Err(ListError::TooMany);
                }
                nodes.push(node);
            }
        }
        let version = version.ok_or(ListError::Version(last))?;
        if nodes.is_empty() {
            return Err(ListError::NoNode);
        }
        Ok(Self {
            version,
            nodes: nodes.len(),
            flags: 0,
            text: format!("{version}\n{}\n", nodes.join(" ")).into(),
        })
    }
}

/// Parses a version number, which clients keep in a signed integer.
fn parse_version(line: &[u8]) -> Option<u64> {
    let digits = line.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(line).ok().filter(|_| digits)?.parse();
    number.ok().filter(|number| i64::try_from(*number).is_ok())
}

/// Parses `host|ip|port`; the address may be missing. Returns the server, and its
/// host and port.
fn parse_node(word: &[u8]) -> Option<(&str, (&str, u16))> {
    let word = std::str::from_utf8(word).ok()?;
    let mut fields = word.split('|');
    let (host, ip, port) = (fields.next()?, fields.next()?, fields.next()?);
    let is_name = |letter: u8| letter.is_ascii_alphanumeric() || b"-._:".contains(&letter);
    let is_host = (1..=CLUSTER_HOST_MAX_BYTES).contains(&host.len()) && host.bytes().all(is_name);
    let is_ip = ip.is_empty() || ip.parse::<IpAddr>().is_ok();
    let digits = port.bytes().all(|letter| letter.is_ascii_digit());
    let port = port.parse().ok().filter(|port| *port != 0 && digits)?;
    (fields.next().is_none() && is_host && is_ip).then_some((word, (host, port)))
}

#[cfg(test)]
mod tests {
    use super::{Cluster, ClusterError, ListError, NodeList};
    use crate::limits::{CLUSTER_HOST_MAX_BYTES, CLUSTER_LIST_MAX_BYTES, CLUSTER_NODES_MAX};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    fn text(list: &str) -> Result<String, ListError> {
        NodeList::parse(list.as_bytes()).map(|list| list.text.into())
    }

    #[test]
    fn the_list_is_written_as_clients_expect_it() {
        let want = "12\na.example|10.0.0.1|11211 b|::1|1 c_3||65535\n";
        for list in [
            want,
            "12\na.example|10.0.0.1|11211 b|::1|1 c_3||65535",
            "12\r\na.example|10.0.0.1|11211\r\nb|::1|1\r\nc_3||65535\r\n\r\n",
            "# ours\n\n 012 # up\n\ta.example|10.0.0.1|11211#x|\n# b\nb|::1|1  c_3||65535\n\n",
        ] {
            assert_eq!(text(list).as_deref(), Ok(want), "{list:?}");
        }
        let list = NodeList::parse(want.as_bytes()).expect("valid");
        assert_eq!((list.version, list.nodes, list.flags), (12, 3, 0));
        assert!(text("9223372036854775807\na||1").is_ok());
    }

    #[test]
    fn faults_are_reported_by_line() {
        for (list, fault) in [
            ("", ListError::Version(1)),
            ("# none\n\n", ListError::Version(3)),
            ("a|1.2.3.4|1\n", ListError::Version(1)),
            ("\n1 a|1.2.3.4|1\n", ListError::Version(2)),
            ("-1\na||1\n", ListError::Version(1)),
            ("+1\na||1\n", ListError::Version(1)),
            ("9223372036854775808\na||1\n", ListError::Version(1)),
            ("1\n", ListError::NoNode),
            ("1\n# a|1.2.3.4|1\n", ListError::NoNode),
            ("1\na|1.2.3.4|1\nb:1\n", ListError::Node(3)),
            ("1\n|1.2.3.4|1\n", ListError::Node(2)),
            ("1\na|1.2.3.4|\n", ListError::Node(2)),
            ("1\na|1.2.3.4|0\n", ListError::Node(2)),
            ("1\na|1.2.3.4|+1\n", ListError::Node(2)),
            ("1\na|1.2.3.4|65536\n", ListError::Node(2)),
            ("1\na|1.2.3.4|1|2\n", ListError::Node(2)),
            ("1\na|1.2.3|1\n", ListError::Node(2)),
            ("1\na\0|1.2.3.4|1\n", ListError::Node(2)),
            ("1\na|1.2.3.4|1 a|1.2.3.5|1\n", ListError::Twice(2)),
        ] {
            assert_eq!(text(list), Err(fault), "{list:?}");
        }
        let latin = NodeList::parse(b"1\n\xe4|1.2.3.4|1\n");
        assert_eq!(latin, Err(ListError::Node(2)));
        assert!(text("1\na|1.2.3.4|1 a|1.2.3.4|2 b|1.2.3.4|1\n").is_ok());
    }

    #[test]
    fn lists_are_bounded() {
        let list = |nodes: usize| {
            let nodes = (0..nodes).map(|number| format!("n{number}||1\n"));
            format!("1\n{}", nodes.collect::<String>())
        };
        assert!(text(&list(CLUSTER_NODES_MAX)).is_ok());
        assert_eq!(text(&list(CLUSTER_NODES_MAX + 1)), Err(ListError::TooMany));
        let padded = |len: usize| format!("{:1$}", "1\na||1", len);
        assert!(text(&padded(CLUSTER_LIST_MAX_BYTES)).is_ok());
        let long = padded(CLUSTER_LIST_MAX_BYTES + 1);
        assert_eq!(text(&long), Err(ListError::TooLong));
        let host = |len| format!("1\n{}||1", "h".repeat(len));
        assert!(text(&host(CLUSTER_HOST_MAX_BYTES)).is_ok());
        let long = host(CLUSTER_HOST_MAX_BYTES + 1);
        assert_eq!(text(&long), Err(ListError::Node(2)));
    }

    fn scratch(name: &str) -> PathBuf {
        let name = format!("rustcached-cluster-{name}-{}", std::process::id());
        std::env::temp_dir().join(name)
    }

    #[test]
    fn a_changed_file_is_read_once_it_is_stable_and_kept_when_it_breaks() {
        let path = scratch("changes");
        fs::write(&path, "1\na||1\n").expect("writable");
        let cluster = Cluster::load(&path).expect("valid");
        let version = || cluster.list().version;
        let nothing = |cluster: &Cluster| cluster.refresh().expect("no error").is_none();
        assert!(nothing(&cluster));
        fs::write(&path, "22\na||1\nb||1\n").expect("writable");
        assert!(nothing(&cluster) && version() == 1, "it has just changed");
        let replaced = cluster.refresh().expect("valid").expect("a new list");
        let said = "the list of servers has version 22 and length 2 now";
        assert_eq!((replaced.to_string().as_str(), version()), (said, 22));
        assert!(nothing(&cluster));
        // An error is reported once.
        fs::write(&path, "333\nbroken\n").expect("writable");
        assert!(nothing(&cluster));
        let error = cluster.refresh().expect_err("faulty").to_string();
        assert!(error.ends_with(": line 2 is not host|ip|port"), "{error}");
        assert!(nothing(&cluster) && nothing(&cluster) && version() == 22);
        fs::remove_file(&path).expect("removable");
        assert!(nothing(&cluster));
        assert!(matches!(cluster.refresh(), Err(ClusterError::Read(..))));
        assert!(nothing(&cluster) && version() == 22);
        // A request reads the file whether it has changed or not.
        assert!(matches!(cluster.reload(), Err(ClusterError::Read(..))));
        fs::write(&path, "22\na||1\nb||1\n").expect("writable");
        assert_eq!(cluster.reload().expect("valid"), None);
        let set = cluster.set(b"5\nc||1", 7).expect("valid").to_string();
        assert!(set.contains("length 1 now; clients that have version 22 keep"));
        assert_eq!(cluster.list().flags, 7);
        assert_eq!(cluster.set(b"6\nc", 0), Err(ListError::Node(2)));
        assert!(nothing(&cluster) && version() == 5);
        assert!(cluster.reload().expect("valid").is_some() && version() == 22);
        fs::remove_file(&path).expect("removable");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_reported_once() {
        let path = scratch("unopened");
        fs::write(&path, "1\na||1\n").expect("writable");
        let cluster = Cluster::load(&path).expect("valid");
        fs::remove_file(&path).expect("removable");
        let mode = nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR;
        nix::unistd::mkfifo(&path, mode).expect("created");
        let errors = || (0..9).filter(|_| cluster.refresh().is_err()).count();
        assert_eq!(errors(), 1);
        // Another try follows once access to it changes.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("permitted");
        assert_eq!(errors(), 1);
        fs::remove_file(&path).expect("removable");
        assert_eq!(errors(), 1);
        fs::write(&path, "2\na||1\n").expect("writable");
        assert_eq!(errors(), 0);
        assert_eq!(cluster.list().version, 2);
        fs::remove_file(&path).expect("removable");
    }

    #[test]
    fn a_pipe_and_an_endless_file_are_refused() {
        let pipe = scratch("pipe");
        let mode = nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR;
        nix::unistd::mkfifo(&pipe, mode).expect("created");
        let error = Cluster::load(&pipe).expect_err("a pipe").to_string();
        assert!(error.ends_with("it is a pipe, not a file"), "{error}");
        fs::remove_file(&pipe).expect("removable");
        let error = Cluster::load("/dev/zero".as_ref()).expect_err("endless");
        assert!(error.to_string().ends_with("more than 32766 bytes"));
        let error = Cluster::load("/".as_ref()).expect_err("a directory");
        assert!(
            error.to_string().ends_with("; name a file in it"),
            "{error}"
        );
    }
}
