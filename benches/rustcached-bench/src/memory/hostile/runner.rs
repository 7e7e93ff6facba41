//! Runs the plan of a scene against a server.
//!
//! Starts the server under a watchdog, fills it, runs the attack for a fixed time, and measures
//! well-behaved clients beside it. A single thread serves all connections. Its own pauses are
//! reported, as they cannot be distinguished from pauses of the server.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::address::Address;
use crate::batch_client::BatchClient;
use crate::client::Client;
use crate::failure::Failure;
use crate::latency::{Latency, latency_histogram};
use crate::memory::hostile::connections::HostileConnections;
use crate::memory::hostile::datagrams::Datagrams;
use crate::memory::hostile::paced_client::{Churn, Gets, PacedClient, Sets, Traffic};
use crate::memory::hostile::plan::{ExtraLoad, ITEM_BYTES, ITEMS, Plan, Resources, Scene};
use crate::memory::hostile::result::{ClientResults, SceneResult, Settings};
use crate::memory::watchdog::{ServerState, Watchdog};
use crate::process::{ServerProcess, cpu_wait_ns, resident_and_peak};
use crate::random::Random;
use crate::servers::Side;

const MIB: u64 = 1 << 20;
/// Connections of the server in addition to the hostile connections.
const SPARE_CONNECTIONS: usize = 200;
/// Key length of the initial fill in bytes.
const KEY_LENGTH: usize = 20;
/// Size of the initial fill in percent of the memory limit.
const FILL_PERCENT: u64 = 110;
const GET_EVERY: Duration = Duration::from_millis(1);
const SET_EVERY: Duration = Duration::from_millis(20);
const CHURN_EVERY: Duration = Duration::from_millis(2);
const TRAFFIC_EVERY: Duration = Duration::from_millis(2);
/// Sleep of the thread when no socket was ready.
const IDLE: Duration = Duration::from_micros(20);
/// Maximum duration of a scene, as a multiple of its time, if the server is slow to accept.
const OVERTIME: u32 = 3;
/// Share of the scene's time in which the datagrams are sent.
const DATAGRAMS_PART: f64 = 0.7;

/// Runs a scene against a side.
pub(super) fn run(
    settings: &Settings<'_>,
    scene: &Scene,
    side: Side,
) -> Result<SceneResult, Failure> {
    let folder = TempFolder::make()?;
    let resources = Resources {
        folder: folder.0.clone(),
        second: free_port()?,
    };
    let plan = (scene.plan)(&resources)?;
    let server = start(settings, &plan, side)?;
    let address = tcp_address(&server)?;
    // Declared after the server, so that it is dropped first.
    let watchdog = Watchdog::new(server.pid(), settings.watchdog_bytes)?;
    let mut control = logged_in(&server.address, plan.login)?;
    fill(&server, &mut control, settings, &plan)
        .map_err(|failure| with_server_state(failure, &watchdog))?;
    let mut attack = Attack::begin(settings, &resources, plan, address)?;
    let base_bytes = resident_and_peak(server.pid()).map_or(0, |(resident, _)| resident);
    let open_before = control.stat("curr_connections")?;
    let began = Instant::now();
    let waited_before = cpu_wait_ns(server.pid());
    let watched = attack.run(settings.time, &watchdog);
    let waited = cpu_wait_ns(server.pid()).zip(waited_before);
    let waited = waited.map(|(after, before)| after.saturating_sub(before) as f64);
    let waited = waited.map(|ns| ns / began.elapsed().as_nanos() as f64);
    let open_after = match watchdog.state() {
        ServerState::Alive => control.stat("curr_connections").ok(),
        _ => None,
    };
    let opened = attack.connections.opened();
    watched?;
    Ok(SceneResult {
        scene: scene.name,
        server: side.name(),
        connections: opened,
        cut: open_after.map(|after| (open_before + opened as u64).saturating_sub(after)),
        base_bytes,
        peak_bytes: watchdog.peak(),
        bound_bytes: settings.bound_bytes,
        state: watchdog.state(),
        generator_us: Latency::of(&attack.meter.lateness),
        cpu_wait: waited.unwrap_or(0.0),
        clients: attack.finish(),
    })
}

fn start(settings: &Settings<'_>, plan: &Plan, side: Side) -> Result<ServerProcess, Failure> {
    let mut launch = settings.servers.launch(side, settings.memory_mib)?;
    launch.connections = plan.connections() + SPARE_CONNECTIONS;
    launch.listen = plan.listen.to_string();
    launch.environment.clone_from(&plan.environment);
    launch.extra.extend(plan.flags.iter().cloned());
    if side == Side::Ours {
        launch.extra.extend(plan.ours_flags.iter().cloned());
    }
    ServerProcess::start(&launch)
}

fn tcp_address(server: &ServerProcess) -> Result<SocketAddr, Failure> {
    match &server.address {
        Address::Tcp(address) => Ok(*address),
        Address::Unix(_) | Address::Tls(..) => Err(Failure::Usage(
            "hostile scenes use TCP; leave out --unix and --tls".to_string(),
        )),
    }
}

/// Returns an address of 127.0.0.1 that was free at the time of the call.
fn free_port() -> Result<SocketAddr, Failure> {
    let finding = || Failure::io("looking for a free port");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(finding())?;
    listener.local_addr().map_err(finding())
}

fn logged_in(address: &Address, login: &str) -> Result<Client, Failure> {
    let mut client = Client::connect(address, true)?;
    if login.is_empty() {
        return Ok(client);
    }
    match client.command(login)?.as_str() {
        "STORED" => Ok(client),
        reply => Err(Failure::Server(format!("login: {reply}"))),
    }
}

/// Fills the server beyond its memory limit, then stores the items that scenes request.
fn fill(
    server: &ServerProcess,
    control: &mut Client,
    settings: &Settings<'_>,
    plan: &Plan,
) -> Result<(), Failure> {
    let client = logged_in(&server.address, plan.login)?;
    let mut batch_client = BatchClient::new(client, KEY_LENGTH, plan.fill.1.max(ITEM_BYTES));
    let wanted = settings.memory_mib * MIB * FILL_PERCENT / 100;
    let (mut key, mut sent, mut random) = (0, 0, Random::new(3));
    let span = (plan.fill.1 - plan.fill.0) as u64 + 1;
    while sent < wanted {
        let size = plan.fill.0 + random.below(span) as usize;
        batch_client.set(key, size, 0)?;
        key += 1;
        sent += size as u64;
    }
    batch_client.flush()?;
    let value = "v".repeat(ITEM_BYTES);
    for key in 0..ITEMS {
        control.command(&format!("set k{key} 0 0 {ITEM_BYTES}\r\n{value}"))?;
    }
    (plan.warm_up)(control)
}

/// Adds the state of the server's process to the failure of the fill.
fn with_server_state(failure: Failure, watchdog: &Watchdog) -> Failure {
    let peak = watchdog.peak() / MIB;
    let what = match watchdog.state() {
        ServerState::Alive => return failure,
        ServerState::Killed => format!("killed by the watchdog at {peak} MiB, before the attack"),
        ServerState::Ended => format!("ended before the attack: {failure}"),
    };
    Failure::Server(what)
}

/// A folder that is removed with its files when dropped.
struct TempFolder(PathBuf);

impl TempFolder {
    fn make() -> Result<Self, Failure> {
        let name = format!("rustcached-bench-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let making = Failure::io(format!("making {}", path.display()));
        fs::create_dir_all(&path).map_err(making)?;
        Ok(TempFolder(path))
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        // A folder that cannot be removed does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The additional activity beside the attackers.
enum ExtraClient {
    None,
    Churn(PacedClient<Churn>),
    Traffic(PacedClient<Traffic>),
    Datagrams(Datagrams),
}

/// Measures the lateness of the generator: the latency that a get per millisecond would have with a
/// server that replies immediately.
struct LatenessMeter {
    due: Instant,
    lateness: Histogram<u64>,
}

impl LatenessMeter {
    fn new() -> Self {
        LatenessMeter {
            due: Instant::now(),
            lateness: latency_histogram(),
        }
    }

    /// Records a turn.
    fn note(&mut self) {
        let now = Instant::now();
        while self.due <= now {
            let late = (now - self.due).as_nanos().max(1) as u64;
            self.lateness.saturating_record(late);
            self.due += GET_EVERY;
        }
    }
}

struct Attack {
    connections: HostileConnections,
    extra_client: ExtraClient,
    gets: PacedClient<Gets>,
    sets: PacedClient<Sets>,
    meter: LatenessMeter,
}

impl Attack {
    fn begin(
        settings: &Settings<'_>,
        resources: &Resources,
        plan: Plan,
        address: SocketAddr,
    ) -> Result<Self, Failure> {
        let login = plan.login;
        let extra_client = match plan.extra_load {
            None => ExtraClient::None,
            Some(ExtraLoad::Churn) => ExtraClient::Churn(PacedClient::connect(
                address,
                login,
                CHURN_EVERY,
                Churn::default(),
            )?),
            Some(ExtraLoad::Traffic) => ExtraClient::Traffic(PacedClient::connect(
                address,
                login,
                TRAFFIC_EVERY,
                Traffic::default(),
            )?),
            Some(ExtraLoad::Datagrams) => {
                let within = settings.time.mul_f64(DATAGRAMS_PART);
                ExtraClient::Datagrams(Datagrams::new(resources.second, within)?)
            }
        };
        let target = if plan.attack_second {
            resources.second
        } else {
            address
        };
        Ok(Attack {
            connections: HostileConnections::new(target, plan.groups)?,
            extra_client,
            gets: PacedClient::connect(address, login, GET_EVERY, Gets::new())?,
            sets: PacedClient::connect(address, login, SET_EVERY, Sets::default())?,
            meter: LatenessMeter::new(),
        })
    }

    /// Attacks for `time`, longer if not all connections are open by then. Ends early if the server
    /// has died.
    fn run(&mut self, time: Duration, watchdog: &Watchdog) -> Result<(), Failure> {
        let begun = Instant::now();
        self.meter = LatenessMeter::new();
        while watchdog.state() == ServerState::Alive {
            let most = if self.connections.is_complete() {
                time
            } else {
                time * OVERTIME
            };
            if begun.elapsed() >= most {
                break;
            }
            if !self.turn()? {
                self.sleep();
            }
        }
        Ok(())
    }

    /// Serves all connections once. Returns whether anything happened.
    fn turn(&mut self) -> Result<bool, Failure> {
        self.meter.note();
        let mut happened = self.gets.turn() | self.sets.turn();
        happened |= match &mut self.extra_client {
            ExtraClient::None => false,
            ExtraClient::Churn(churn) => churn.turn(),
            ExtraClient::Traffic(traffic) => traffic.turn(),
            ExtraClient::Datagrams(datagrams) => datagrams.turn(),
        };
        happened |= self.gets.turn();
        Ok(happened | self.connections.turn()?)
    }

    /// Sleeps briefly, unless a get is due earlier.
    fn sleep(&self) {
        let due = self
            .gets
            .idle_until()
            .map(|due| due.saturating_duration_since(Instant::now()));
        thread::sleep(due.unwrap_or(IDLE).min(IDLE));
    }

    fn finish(self) -> ClientResults {
        ClientResults {
            gets: self.gets.finish(),
            sets: self.sets.finish(),
            extra_load: match self.extra_client {
                ExtraClient::None | ExtraClient::Datagrams(_) => None,
                ExtraClient::Churn(churn) => Some(churn.finish()),
                ExtraClient::Traffic(traffic) => Some(traffic.finish()),
            },
        }
    }
}
