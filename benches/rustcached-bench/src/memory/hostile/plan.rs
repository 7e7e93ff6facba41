//! The definition of a hostile scene.
//!
//! A scene creates a [`Plan`]: how the server is started, what it holds, which connections attack
//! it, and which well-behaved clients run beside them. `runner` runs any plan, so scenes are data.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::tls::TlsClient;

use crate::client::Client;
use crate::failure::Failure;
use crate::memory::hostile::script::Script;

/// Number of items, `k0` to `k999`, that every scene finds in the server.
pub(super) const ITEMS: u32 = 1000;
/// Value size of these items in bytes.
pub(super) const ITEM_BYTES: usize = 10_000;

/// A hostile scene.
#[derive(Debug)]
pub struct Scene {
    /// Name on the command line and in tables.
    pub name: &'static str,
    /// Description for `--help`, a single line.
    pub help: &'static str,
    /// Creates the plan.
    pub(super) plan: fn(&Resources) -> Result<Plan, Failure>,
}

/// Resources that a plan may use.
#[derive(Debug)]
pub(super) struct Resources {
    /// Folder for files that the server reads; removed after the scene.
    pub(super) folder: PathBuf,
    /// A free address for a second listener, TCP or UDP.
    pub(super) second: SocketAddr,
}

/// How a hostile connection handles replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Leaves them in the socket.
    Never,
    /// Reads a few kilobytes at intervals.
    Slowly,
    /// Reads everything at once.
    All,
}

/// How a hostile connection uses TLS.
#[derive(Clone, Debug)]
pub(super) enum Security {
    /// Not at all.
    Clear,
    /// Sends the script encrypted, in TLS records.
    Records(TlsClient),
    /// Completes the handshake, then sends the script unencrypted.
    RawAfterHandshake(TlsClient),
}

/// Connections of the same kind.
pub(super) struct Group {
    /// Number of connections.
    pub(super) count: usize,
    /// Returns the script of connection number `0..count`.
    pub(super) script: Box<dyn Fn(usize) -> Script>,
    /// How the connections handle replies.
    pub(super) reading: Reading,
    /// How the connections use TLS.
    pub(super) security: Security,
}

impl Group {
    /// Creates a group of connections without TLS that never read.
    pub(super) fn new(count: usize, script: impl Fn(usize) -> Script + 'static) -> Self {
        Group {
            count,
            script: Box::new(script),
            reading: Reading::Never,
            security: Security::Clear,
        }
    }

    /// Creates a group in which connection `i` sends `kinds[i % n]`.
    pub(super) fn in_turn(count: usize, kinds: Vec<Script>) -> Self {
        Group::new(count, move |index| kinds[index % kinds.len()].clone())
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("count", &self.count)
            .field("reading", &self.reading)
            .finish_non_exhaustive()
    }
}

/// Additional activity beside the attackers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtraLoad {
    /// Overwrites and deletes the items `big0` to `big{N - 1}`, and evicts items by new ones of
    /// that size.
    Churn,
    /// Small gets, sets and deletes, which cause log events for watchers.
    Traffic,
    /// Datagrams to the second address.
    Datagrams,
}

/// The parameters of a scene.
#[derive(Debug)]
pub(super) struct Plan {
    /// Options of both servers.
    pub(super) flags: Vec<String>,
    /// Additional options of the server under test.
    pub(super) ours_flags: Vec<String>,
    /// Environment variables of both servers.
    pub(super) environment: Vec<(String, String)>,
    /// Value of `-l` of the listener for well-behaved clients.
    pub(super) listen: &'static str,
    /// Attackers connect to [`Resources::second`] instead of that listener.
    pub(super) attack_second: bool,
    /// Login request of well-behaved clients, answered by `STORED`; empty for none.
    pub(super) login: &'static str,
    /// Smallest and largest value size of the initial fill, in bytes.
    pub(super) fill: (usize, usize),
    /// Runs before the attack, for instance to change settings of the server.
    pub(super) warm_up: fn(&mut Client) -> Result<(), Failure>,
    /// The attackers.
    pub(super) groups: Vec<Group>,
    /// Additional activity during the attack.
    pub(super) extra_load: Option<ExtraLoad>,
}

impl Plan {
    /// Creates a plan with attackers only.
    pub(super) fn new(groups: Vec<Group>) -> Self {
        Plan {
            flags: Vec::new(),
            ours_flags: Vec::new(),
            environment: Vec::new(),
            listen: "127.0.0.1",
            attack_second: false,
            login: "",
            fill: (1000, 20_000),
            warm_up: |_| Ok(()),
            groups,
            extra_load: None,
        }
    }

    /// Returns the number of hostile connections.
    pub(super) fn connections(&self) -> usize {
        self.groups.iter().map(|group| group.count).sum()
    }
}

/// Creates a list of options.
pub(super) fn flags(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}
