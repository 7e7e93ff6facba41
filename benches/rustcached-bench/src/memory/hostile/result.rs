//! Settings and results of a scene.

use std::time::Duration;

use crate::latency::Latency;
use crate::memory::hostile::paced_client::ClientResult;
use crate::memory::watchdog::ServerState;
use crate::servers::ServersOptions;

/// Settings of all scenes of a run.
pub(super) struct Settings<'a> {
    pub(super) servers: &'a ServersOptions,
    pub(super) memory_mib: u64,
    pub(super) time: Duration,
    pub(super) watchdog_bytes: u64,
    pub(super) bound_bytes: u64,
}

/// Results of a scene on a server.
pub(super) struct SceneResult {
    pub(super) scene: &'static str,
    pub(super) server: &'static str,
    pub(super) connections: usize,
    /// Connections closed by the server, `None` if the server has died.
    pub(super) cut: Option<u64>,
    pub(super) base_bytes: u64,
    pub(super) peak_bytes: u64,
    pub(super) bound_bytes: u64,
    pub(super) state: ServerState,
    /// Lateness of the generator's own turns.
    pub(super) generator_us: Latency,
    /// Share of the time that the server's threads waited for a CPU.
    pub(super) cpu_wait: f64,
    pub(super) clients: ClientResults,
}

/// Results of the well-behaved clients.
#[derive(Debug)]
pub(super) struct ClientResults {
    /// Gets, one per millisecond.
    pub(super) gets: ClientResult,
    /// Small sets, at a lower rate.
    pub(super) sets: ClientResult,
    /// The client beside the attackers, if any.
    pub(super) extra_load: Option<ClientResult>,
}
