//! What a hostile scene consists of.
//!
//! A scene makes a [`Plan`]: how the server is started, what it holds, which connections attack it
//! and which well-behaved clients work beside them. The runner in `stage` carries any plan out, so
//! that scenes are data.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::client::Client;
use crate::failure::Failure;
use crate::memory::hostile::script::Script;

/// Items named `k0` to `k999` that every scene finds in the server.
pub(super) const ITEMS: u32 = 1000;
/// Bytes of their values.
pub(super) const ITEM_BYTES: usize = 10_000;

/// A hostile scene.
#[derive(Debug)]
pub struct Scene {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    /// One line for `--help`.
    pub help: &'static str,
    /// Makes its plan.
    pub(super) plan: fn(&Site) -> Result<Plan, Failure>,
}

/// What a plan may depend on.
#[derive(Debug)]
pub(super) struct Site {
    /// A folder for files that the server reads; removed after the scene.
    pub(super) folder: PathBuf,
    /// A free address for a second listener, TCP or UDP.
    pub(super) second: SocketAddr,
}

/// What a connection does with answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It leaves them in the socket.
    Never,
    /// It takes a few kilobytes now and then.
    Slowly,
    /// It takes all, at once.
    All,
}

/// How a connection uses TLS.
#[derive(Clone, Debug)]
pub(super) enum Security {
    /// Not at all.
    Clear,
    /// The script goes through records.
    Records(Arc<ClientConfig>),
    /// The handshake is carried out, then the script goes into the socket as it is.
    RawAfterHandshake(Arc<ClientConfig>),
}

/// Connections of one kind.
pub(super) struct Group {
    /// How many.
    pub(super) count: usize,
    /// What connection number `0..count` sends.
    pub(super) script: Box<dyn Fn(usize) -> Script>,
    /// What it does with answers.
    pub(super) reading: Reading,
    /// How it uses TLS.
    pub(super) security: Security,
}

impl Group {
    /// Connections in the clear that never read.
    pub(super) fn new(count: usize, script: impl Fn(usize) -> Script + 'static) -> Self {
        Group {
            count,
            script: Box::new(script),
            reading: Reading::Never,
            security: Security::Clear,
        }
    }

    /// Connections that take turns with these requests: number `i` sends `kinds[i % n]`.
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

/// Clients beside the attackers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// Overwrites and deletes the items `big0` to `big{N - 1}`, and evicts by new items of that size.
    Churn,
    /// Small gets, sets and deletes, which make events.
    Traffic,
    /// Datagrams to the second address.
    Datagrams,
}

/// A scene, ready to be carried out.
#[derive(Debug)]
pub(super) struct Plan {
    /// Flags of both servers.
    pub(super) flags: Vec<String>,
    /// Flags of our server besides.
    pub(super) ours_flags: Vec<String>,
    /// Environment of both servers.
    pub(super) environment: Vec<(String, String)>,
    /// `-l` of the listener for well-behaved clients.
    pub(super) listen: &'static str,
    /// Attackers come to [`Site::second`] rather than to that listener.
    pub(super) attack_second: bool,
    /// A request by which well-behaved clients log in; the answer is `STORED`.
    pub(super) login: &'static str,
    /// Least and greatest size of the values that fill the server at first.
    pub(super) fill: (usize, usize),
    /// What is done before the attack.
    pub(super) warm_up: fn(&mut Client) -> Result<(), Failure>,
    /// The attackers.
    pub(super) groups: Vec<Group>,
    /// Who is active besides.
    pub(super) beside: Option<Beside>,
}

impl Plan {
    /// A plan with attackers alone.
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
            beside: None,
        }
    }

    /// Attacking connections.
    pub(super) fn connections(&self) -> usize {
        self.groups.iter().map(|group| group.count).sum()
    }
}

/// Flags from words.
pub(super) fn flags(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}
