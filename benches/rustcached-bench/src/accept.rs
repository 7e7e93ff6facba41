//! `accept`: the cost of a connection. Clients connect, get a key that is missing, and close.
//!
//! Over TLS that includes a handshake, a full one or, with `--resume`, the resumption of an earlier
//! session. The servers are measured in alternating rounds. The main figure is the server's CPU time
//! per connection: the generator, which makes both ends of each connection, may be the limit of
//! their number per second.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use serde::Serialize;
use socket2::{Domain, Socket, Type};

use super::address::Address;
use super::failure::Failure;
use super::process::{ServerProcess, cpu_ns};
use super::report::{OutputOptions, Table, median};
use super::servers::{ServersOptions, Side};
use super::tls;
use super::tls_stream::handshake;

/// The request of a connection, and its reply.
const REQUEST: &[u8] = b"get accept\r\n";
const REPLY: &[u8] = b"END\r\n";
/// Longest wait for a reply.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Source addresses, 127.0.1.1 and up, used in turn. Each has as many ports as connections may wait
/// for their last packets.
const SOURCES: u64 = 200;
/// Time in which the clients run before a round is measured.
const WARMUP: Duration = Duration::from_millis(200);

/// Options of `accept`.
#[derive(Clone, Debug, clap::Args)]
pub struct AcceptOptions {
    /// The servers
    #[command(flatten)]
    pub servers: ServersOptions,
    /// Rounds; results are medians over the rounds
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rounds: usize,
    /// Measured seconds per server and round
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub seconds: f64,
    /// Clients, each with a connection at a time
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub clients: usize,
    /// Resume TLS sessions (-o ssl_session_cache)
    #[arg(long, requires = "tls", help_heading = "TLS")]
    pub resume: bool,
    /// Memory limit of each server in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    pub memory: u64,
    /// Output files
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Results of a round.
#[derive(Clone, Debug, Serialize)]
struct Round {
    connections: u64,
    resumed: u64,
    connections_per_second: f64,
    server_cpu_ns: f64,
    server_busy: f64,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Accepts {
    server: &'static str,
    tls: Option<String>,
    rounds: Vec<Round>,
    error: Option<String>,
}

impl Accepts {
    fn median(&self, figure: fn(&Round) -> f64) -> Option<f64> {
        let values: Vec<f64> = self.rounds.iter().map(figure).collect();
        let complete = self.error.is_none() && !values.is_empty();
        complete.then(|| median(&values))
    }
}

/// Measures both servers and returns the text to print.
pub fn accept(options: &AcceptOptions) -> Result<String, Failure> {
    if options.servers.unix {
        return Err(Failure::Usage("accept: only over TCP".to_string()));
    }
    if options.clients == 0 || options.rounds == 0 {
        return Err(Failure::Usage("clients, rounds: at least 1".to_string()));
    }
    let time = Duration::try_from_secs_f64(options.seconds);
    let time = time.map_err(|error| Failure::Usage(format!("seconds: {error}")))?;
    options.servers.pin()?;
    // Without a certificate there is nothing to measure.
    options.servers.tls.prepare(options.resume)?;
    let running = Side::BOTH.map(|side| start(options, side));
    let mut found = Side::BOTH.map(|side| Accepts {
        server: side.name(),
        ..Accepts::default()
    });
    for (place, server) in found.iter_mut().zip(&running) {
        let negotiated = match server {
            Ok(server) => server.negotiated().map_err(|failure| failure.to_string()),
            Err(failure) => Err(failure.to_string()),
        };
        match negotiated {
            Ok(negotiated) => place.tls = negotiated,
            Err(why) => place.error = Some(why),
        }
    }
    for round in 0..options.rounds {
        for side in Side::order(round) {
            let place = &mut found[side.index()];
            if let (Ok(server), None) = (&running[side.index()], &place.error) {
                match measure(server, options.clients, time) {
                    Ok(round) => place.rounds.push(round),
                    Err(failure) => place.error = Some(failure.to_string()),
                }
            }
        }
        options
            .output
            .progress(&format!("accept round {}", round + 1));
    }
    let table = table(&found);
    let text = options.servers.describe() + &table.to_text() + &ratios(&found);
    options.output.write(&text, &table, &found)?;
    Ok(text)
}

fn start(options: &AcceptOptions, side: Side) -> Result<ServerProcess, Failure> {
    let mut launch = options.servers.launch(side, options.memory)?;
    launch.tls = options.servers.tls.prepare(options.resume)?;
    ServerProcess::start(&launch)
}

fn table(found: &[Accepts]) -> Table {
    let mut table = Table::new(&[
        "server",
        "connections/s",
        "CPU us per connection",
        "min",
        "max",
        "busy",
        "resumed, %",
        "TLS",
        "remark",
    ]);
    for side in found {
        let name = side.server.to_string();
        let remark = side.error.clone().unwrap_or_default();
        let us = |round: &Round| round.server_cpu_ns / 1000.0;
        let figures = side
            .median(|round| round.connections_per_second)
            .zip(side.median(us).zip(side.median(|round| round.server_busy)));
        let Some((rate, (cpu, busy))) = figures else {
            let mut row = vec![name];
            row.resize(table.head.len() - 1, "-".to_string());
            row.push(remark);
            table.push(row);
            continue;
        };
        let each: Vec<f64> = side.rounds.iter().map(us).collect();
        let resumed = side.median(|round| 100.0 * round.resumed as f64 / round.connections as f64);
        table.push(vec![
            name,
            format!("{rate:.0}"),
            format!("{cpu:.1}"),
            format!("{:.1}", each.iter().copied().fold(f64::INFINITY, f64::min)),
            format!("{:.1}", each.iter().copied().fold(0.0, f64::max)),
            format!("{busy:.2}"),
            format!("{:.0}", resumed.unwrap_or(0.0)),
            side.tls.clone().unwrap_or("-".to_string()),
            remark,
        ]);
    }
    table
}

fn ratios([theirs, ours]: &[Accepts; 2]) -> String {
    let ratio = |figure| Some(ours.median(figure)? / theirs.median(figure)?);
    let cpu = ratio(|round| round.server_cpu_ns);
    let rate = ratio(|round| round.connections_per_second);
    cpu.zip(rate).map_or(String::new(), |(cpu, rate)| {
        format!("ours to theirs: CPU time {cpu:.2}, connections per second {rate:.2}\n")
    })
}

/// State shared by the clients of a round.
#[derive(Default)]
struct Clients {
    stopping: AtomicBool,
    connections: AtomicU64,
    resumed: AtomicU64,
    error: Mutex<Option<Failure>>,
}

impl Clients {
    fn run(&self, address: &Address, first: u64) {
        for number in first.. {
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            match connect_once(address, number) {
                Ok(resumed) => {
                    self.connections.fetch_add(1, Ordering::Relaxed);
                    self.resumed
                        .fetch_add(u64::from(resumed), Ordering::Relaxed);
                }
                Err(error) => {
                    self.stopping.store(true, Ordering::Relaxed);
                    let failure = Failure::io(format!("connecting to {address}"))(error);
                    let mut place = self.error.lock().expect("no panic under the lock");
                    place.get_or_insert(failure);
                    return;
                }
            }
        }
    }
}

fn measure(server: &ServerProcess, clients: usize, time: Duration) -> Result<Round, Failure> {
    let shared = Clients::default();
    let counts = || {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&shared.connections), load(&shared.resumed))
    };
    let round = thread::scope(|scope| {
        for client in 0..clients {
            let (shared, address) = (&shared, &server.address);
            scope.spawn(move || shared.run(address, (client * 31) as u64));
        }
        let wait = |time: Duration| {
            let end = Instant::now() + time;
            while Instant::now() < end && !shared.stopping.load(Ordering::Relaxed) {
                let left = end.saturating_duration_since(Instant::now());
                thread::sleep(left.min(Duration::from_millis(50)));
            }
        };
        wait(WARMUP);
        let reading = cpu_ns(server.pid());
        let (begun, before) = (Instant::now(), counts());
        wait(time);
        let (seconds, after) = (begun.elapsed().as_secs_f64(), counts());
        let used = reading.and_then(|before| Ok(cpu_ns(server.pid())?.saturating_sub(before)));
        shared.stopping.store(true, Ordering::Relaxed);
        let connections = after.0 - before.0;
        used.map(|ns| Round {
            connections,
            resumed: after.1 - before.1,
            connections_per_second: connections as f64 / seconds,
            server_cpu_ns: ns as f64 / connections.max(1) as f64,
            server_busy: ns as f64 / 1e9 / seconds,
        })
    })?;
    let error = shared.error.into_inner().expect("no panic under the lock");
    match error {
        Some(failure) => Err(failure),
        None if round.connections == 0 => Err(Failure::Server("does not reply".to_string())),
        None => Ok(round),
    }
}

/// Connects, asks, and closes. Returns whether a TLS session was resumed.
fn connect_once(address: &Address, number: u64) -> io::Result<bool> {
    match address {
        Address::Tcp(address) => {
            let mut socket = connect(*address, number)?;
            exchange(&mut socket)?;
            Ok(false)
        }
        Address::Tls(address, client) => {
            let mut socket = connect(*address, number)?;
            let mut session = handshake(&mut socket, client)?;
            exchange(&mut rustls::Stream::new(&mut session, &mut socket))?;
            tls::close(&mut session, &mut socket);
            Ok(session.handshake_kind() == Some(HandshakeKind::Resumed))
        }
        Address::Unix(_) => Err(ErrorKind::Unsupported.into()),
    }
}

fn connect(address: SocketAddr, number: u64) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.ip() == Ipv4Addr::LOCALHOST {
        let source = Ipv4Addr::new(127, 0, 1, (1 + number % SOURCES) as u8);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.connect(&address.into())?;
    Ok(socket.into())
}

fn exchange(stream: &mut (impl Read + Write)) -> io::Result<()> {
    stream.write_all(REQUEST)?;
    let mut reply = [0; REPLY.len()];
    stream.read_exact(&mut reply)?;
    match reply == REPLY {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "the reply is \"{}\"",
            reply.escape_ascii()
        ))),
    }
}
