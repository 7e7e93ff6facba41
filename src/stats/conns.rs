//! Table of open connections by descriptor, for `stats conns`.
//!
//! The owning worker writes the entry of a connection, the server those of its
//! listeners; any thread may read. A read that races with a write may mix two
//! connections of the same descriptor. Entries are only reported, so this is
//! harmless.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Entries allocated together, on first use of one of their descriptors.
const BLOCK: usize = 256;
/// Most distinct local addresses. Connections have few.
const LOCALS_MAX: usize = 256;

/// Table of open connections and listeners, indexed by descriptor.
#[derive(Debug)]
pub struct ConnTable {
    blocks: Box<[OnceLock<Box<[Entry; BLOCK]>>]>,
    locals: Mutex<Vec<String>>,
}

#[derive(Debug, Default)]
struct Entry {
    /// The peer's address, IPv4 mapped to IPv6.
    peer: [AtomicU64; 2],
    /// From the highest bit: the peer's port, the index of the local address,
    /// the state.
    packed: AtomicU64,
    /// Second of the last command.
    active: AtomicU32,
}

/// State of a connection, as `stats conns` reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnState {
    /// A listener.
    Listening = 1,
    /// Waiting for a command.
    Waiting = 2,
    /// Executing a command.
    Parsing = 3,
    /// Sending output that the client is slow to read.
    Sending = 5,
    /// Sending events to a watcher.
    Watching = 6,
    /// Nothing was received yet.
    New = 7,
    /// Receiving a value.
    Receiving = 8,
    /// Skipping the value of a refused command.
    Swallowing = 9,
    /// A UDP socket.
    Datagrams = 10,
}

/// Entry of one connection or listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conn {
    /// Address of the peer; `None` for a unix socket or a listener.
    pub peer: Option<SocketAddr>,
    /// Local address as text.
    pub local: String,
    /// Current state.
    pub state: ConnState,
    /// Second of the last command, on the server's clock.
    pub active: u32,
}

const STATE_MASK: u64 = 0xff;
const LOCAL_SHIFT: u32 = 8;
const LOCAL_MASK: u64 = 0xffff;
const PORT_SHIFT: u32 = 48;

impl ConnState {
    /// Returns memcached's name of the closest state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Listening => "conn_listening",
            Self::Waiting | Self::Datagrams => "conn_read",
            Self::Parsing => "conn_parse_cmd",
            Self::Sending => "conn_mwrite",
            Self::Watching => "conn_watch",
            Self::New => "conn_new_cmd",
            Self::Receiving => "conn_nread",
            Self::Swallowing => "conn_swallow",
        }
    }

    fn from_packed(packed: u64) -> Option<Self> {
        let all = [
            Self::Listening,
            Self::Waiting,
            Self::Parsing,
            Self::Sending,
            Self::Watching,
            Self::New,
            Self::Receiving,
            Self::Swallowing,
            Self::Datagrams,
        ];
        all.into_iter()
            .find(|state| *state as u64 == packed & STATE_MASK)
    }
}

impl ConnTable {
    /// Creates a table for descriptors below `descriptors`, rounded up to whole
    /// blocks. Greater ones are not recorded.
    pub fn new(descriptors: usize) -> Self {
        let blocks = descriptors.div_ceil(BLOCK);
        Self {
            blocks: (0..blocks).map(|_| OnceLock::new()).collect(),
            locals: Mutex::new(Vec::new()),
        }
    }

    /// Records a connection or a listener with the descriptor `fd`.
    pub fn open(&self, fd: i32, conn: &Conn) {
        let Some(entry) = self.entry_or_allocate(fd) else {
            return;
        };
        let address = match conn.peer.map(|peer| peer.ip()) {
            Some(IpAddr::V4(ip)) => ip.to_ipv6_mapped(),
            Some(IpAddr::V6(ip)) => ip,
            None => Ipv6Addr::UNSPECIFIED,
        };
        let bits = u128::from(address);
        entry.peer[0].store((bits >> 64) as u64, Ordering::Relaxed);
        entry.peer[1].store(bits as u64, Ordering::Relaxed);
        entry.active.store(conn.active, Ordering::Relaxed);
        let port = conn.peer.map_or(0, |peer| peer.port());
        let local = self.local_index(&conn.local) as u64;
        let packed = u64::from(port) << PORT_SHIFT | local << LOCAL_SHIFT | conn.state as u64;
        entry.packed.store(packed, Ordering::Relaxed);
    }

    /// Records the second of a connection's last command.
    pub fn record_command(&self, fd: i32, second: u32) {
        if let Some(entry) = self.entry(fd) {
            entry.active.store(second, Ordering::Relaxed);
        }
    }

    /// Records a connection's state.
    pub fn set_state(&self, fd: i32, state: ConnState) {
        if let Some(entry) = self.entry(fd) {
            let packed = entry.packed.load(Ordering::Relaxed) & !STATE_MASK;
            entry.packed.store(packed | state as u64, Ordering::Relaxed);
        }
    }

    /// Removes the entry of a closed connection.
    pub fn close(&self, fd: i32) {
        if let Some(entry) = self.entry(fd) {
            entry.packed.store(0, Ordering::Relaxed);
        }
    }

    /// Returns the entry of `fd`; `None` if it is not open.
    pub fn get(&self, fd: i32) -> Option<Conn> {
        let entry = self.entry(fd)?;
        let packed = entry.packed.load(Ordering::Relaxed);
        let state = ConnState::from_packed(packed)?;
        let [high, low] = [0, 1].map(|half: usize| entry.peer[half].load(Ordering::Relaxed));
        let ip = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
        let peer = SocketAddr::new(ip.to_canonical(), (packed >> PORT_SHIFT) as u16);
        let locals = self.locals.lock().unwrap_or_else(PoisonError::into_inner);
        let local = locals.get((packed >> LOCAL_SHIFT & LOCAL_MASK) as usize);
        Some(Conn {
            peer: (peer.port() != 0).then_some(peer),
            local: local.cloned().unwrap_or_default(),
            state,
            active: entry.active.load(Ordering::Relaxed),
        })
    }

    /// Returns the entries from descriptor `first` on, in ascending order.
    pub fn from(&self, first: i32) -> impl Iterator<Item = (i32, Conn)> {
        let first = usize::try_from(first).unwrap_or(0);
        (first / BLOCK..self.blocks.len())
            .filter(|block| self.blocks[*block].get().is_some())
            .flat_map(move |block| first.max(block * BLOCK)..(block + 1) * BLOCK)
            .filter_map(|fd| Some((fd as i32, self.get(fd as i32)?)))
    }

    fn entry(&self, fd: i32) -> Option<&Entry> {
        let fd = usize::try_from(fd).ok()?;
        Some(&self.blocks.get(fd / BLOCK)?.get()?[fd % BLOCK])
    }

    fn entry_or_allocate(&self, fd: i32) -> Option<&Entry> {
        let index = usize::try_from(fd).ok()?;
        let empty = || Box::new(std::array::from_fn(|_| Entry::default()));
        self.blocks.get(index / BLOCK)?.get_or_init(empty);
        self.entry(fd)
    }

    fn local_index(&self, local: &str) -> usize {
        let mut locals = self.locals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = locals.iter().position(|known| known == local) {
            return index;
        }
        if locals.len() < LOCALS_MAX {
            locals.push(local.to_owned());
        }
        locals.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::{Conn, ConnState, ConnTable};

    #[test]
    fn connections_come_and_go() {
        let table = ConnTable::new(1000);
        let conn = |peer: Option<&str>, local: &str| Conn {
            peer: peer.map(|peer| peer.parse().unwrap()),
            local: local.to_owned(),
            state: ConnState::Waiting,
            active: 5,
        };
        let four = conn(Some("127.0.0.1:4000"), "tcp:127.0.0.1:11211");
        let six = conn(Some("[fe80::1]:65535"), "tcp6:[fe80::2]:11211");
        let unix = conn(None, "unix:/run/socket");
        table.open(7, &four);
        table.open(900, &six);
        table.open(901, &unix);
        table.open(5000, &four);
        let all = |table: &ConnTable| table.from(0).collect::<Vec<_>>();
        let want = [(7, four.clone()), (900, six), (901, unix)];
        assert_eq!(all(&table), want);
        assert_eq!(table.from(8).collect::<Vec<_>>(), want[1..]);
        assert_eq!(table.from(902).next(), None);
        table.close(900);
        table.close(901);
        table.set_state(7, ConnState::Sending);
        table.record_command(7, 9);
        let changed = Conn {
            state: ConnState::Sending,
            active: 9,
            ..four
        };
        assert_eq!(all(&table), [(7, changed)]);
    }
}
