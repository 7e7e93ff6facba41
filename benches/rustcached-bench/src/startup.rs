//! `startup`: the cost of a server before it stores anything: time, memory and idle connections.
//!
//! The time is measured from before the process is created until the reply to `version`,
//! alternating between the servers. Then the resident memory of the empty server is read. At last,
//! one server of each side gets many connections. The growth of its resident memory, divided by
//! their number, is the memory per connection: first after opening them, then after each has stored
//! and fetched an item. Kernel buffers are not included.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::address::Stream;
use super::failure::Failure;
use super::process::{ServerProcess, raise_file_limit, resident_bytes};
use super::report::{OutputOptions, Table, median};
use super::servers::{ServersOptions, Side};

/// Open files in addition to the connections.
const SPARE_FILES: usize = 200;
/// Maximum time for a reply, and for the server to accept all connections.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Requests that each connection sends once, with the ends of their replies.
const EXCHANGES: [(&[u8], &[u8]); 2] = [
    (b"set idle 0 0 5\r\nhello\r\n", b"STORED\r\n"),
    (b"get idle\r\n", b"END\r\n"),
];

/// Options of `startup`.
#[derive(Clone, Debug, clap::Args)]
pub struct StartupOptions {
    /// The servers
    #[command(flatten)]
    pub servers: ServersOptions,
    /// Starts of each server
    #[arg(long, value_name = "N", default_value_t = 21)]
    pub rounds: usize,
    /// Idle connections to open, whose memory is measured; 0 for none
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub connections: usize,
    /// Memory limit of each server in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    pub memory: u64,
    /// Output files
    #[command(flatten)]
    pub output: OutputOptions,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Starts {
    server: &'static str,
    milliseconds: Vec<f64>,
    resident_kib: Vec<f64>,
    connections: Option<ConnectionMemory>,
    error: Option<String>,
}

/// Resident memory of a server with many connections.
#[derive(Clone, Debug, Serialize)]
struct ConnectionMemory {
    connections: usize,
    empty_bytes: u64,
    opened_bytes: u64,
    used_bytes: u64,
}

/// Measures both servers and returns the text to print.
pub fn startup(options: &StartupOptions) -> Result<String, Failure> {
    raise_file_limit((options.connections + SPARE_FILES) as u64)?;
    options.servers.pin()?;
    let mut starts = Side::BOTH.map(|side| Starts {
        server: side.name(),
        ..Starts::default()
    });
    for round in 0..options.rounds {
        for side in Side::order(round) {
            let place = &mut starts[side.index()];
            if let Err(failure) = start_once(options, side, place) {
                place.error.get_or_insert(failure.to_string());
            }
        }
    }
    if options.connections > 0 {
        for side in Side::BOTH {
            let place = &mut starts[side.index()];
            match connection_memory(options, side) {
                Ok(memory) => place.connections = Some(memory),
                Err(failure) => {
                    place.error.get_or_insert(failure.to_string());
                }
            }
        }
    }
    let table = table(&starts);
    let text = options.servers.describe() + &table.to_text();
    options.output.write(&text, &table, &starts)?;
    Ok(text)
}

fn table(starts: &[Starts]) -> Table {
    let mut table = Table::new(&[
        "server",
        "starts",
        "median, ms",
        "min",
        "max",
        "RSS, KiB",
        "connections",
        "RSS opened, KiB",
        "used, KiB",
        "bytes per idle connection",
        "after set and get",
        "remark",
    ]);
    for side in starts {
        let (mut sorted, count) = (side.milliseconds.clone(), side.milliseconds.len());
        sorted.sort_by(f64::total_cmp);
        let ends = [sorted.first(), sorted.last()].map(|ms| ms.copied().unwrap_or(0.0));
        let mut row = vec![side.server.to_string(), count.to_string()];
        row.extend([median(&sorted), ends[0], ends[1]].map(|ms| format!("{ms:.2}")));
        row.push(format!("{:.0}", median(&side.resident_kib)));
        let cells = side.connections.as_ref().map(ConnectionMemory::cells);
        row.extend(cells.unwrap_or_else(|| ["-"; 5].map(String::from)));
        row.push(side.error.clone().unwrap_or_default());
        table.push(row);
    }
    table
}

impl ConnectionMemory {
    fn cells(&self) -> [String; 5] {
        let kib = |bytes: u64| (bytes / 1024).to_string();
        let each = |bytes: u64| {
            let growth = bytes as f64 - self.empty_bytes as f64;
            format!("{:.0}", growth / self.connections.max(1) as f64)
        };
        [
            self.connections.to_string(),
            kib(self.opened_bytes),
            kib(self.used_bytes),
            each(self.opened_bytes),
            each(self.used_bytes),
        ]
    }
}

fn start_once(options: &StartupOptions, side: Side, starts: &mut Starts) -> Result<(), Failure> {
    let server = options.servers.start(side, options.memory)?;
    starts
        .milliseconds
        .push(server.start_time.as_secs_f64() * 1000.0);
    starts
        .resident_kib
        .push(resident_bytes(server.pid())? as f64 / 1024.0);
    Ok(())
}

fn connection_memory(options: &StartupOptions, side: Side) -> Result<ConnectionMemory, Failure> {
    let mut launch = options.servers.launch(side, options.memory)?;
    launch.connections = options.connections + SPARE_FILES;
    let server = ServerProcess::start(&launch)?;
    let mut control = server.client()?;
    for (request, reply) in EXCHANGES {
        let mut stream = Stream::connect(&server.address).map_err(Failure::io("connecting"))?;
        stream.exchange(request, reply, TIMEOUT)?;
    }
    let open_before = control.stat("curr_connections")?;
    let empty_bytes = resident_bytes(server.pid())?;
    let mut streams = Vec::with_capacity(options.connections);
    for _ in 0..options.connections {
        streams.push(Stream::connect(&server.address).map_err(Failure::io("connecting"))?);
    }
    let begun = Instant::now();
    let wanted = (open_before + options.connections as u64).saturating_sub(EXCHANGES.len() as u64);
    while control.stat("curr_connections")? < wanted {
        if begun.elapsed() > TIMEOUT {
            return Err(Failure::Server("does not take all connections".to_string()));
        }
    }
    let opened_bytes = resident_bytes(server.pid())?;
    options.output.progress(&format!(
        "{}: {} connections open",
        side.name(),
        streams.len()
    ));
    for stream in &mut streams {
        for (request, reply) in EXCHANGES {
            stream.exchange(request, reply, TIMEOUT)?;
        }
    }
    Ok(ConnectionMemory {
        connections: streams.len(),
        empty_bytes,
        opened_bytes,
        used_bytes: resident_bytes(server.pid())?,
    })
}
