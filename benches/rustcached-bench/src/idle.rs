//! `idle`: a server's memory per idle connection.
//!
//! Opens many connections and divides the growth of the server's resident memory by their number:
//! first after opening them, then after each has stored and fetched an item. Kernel buffers are not
//! included.

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::address::Stream;
use super::failure::Failure;
use super::process::{ServerProcess, raise_file_limit, resident_bytes};
use super::report::{OutputOptions, Table};
use super::versus::{Side, VersusOptions};

/// Open files in addition to the connections.
const SPARE_FILES: usize = 200;
const PATIENCE: Duration = Duration::from_secs(20);

/// Options of `idle`.
#[derive(Clone, Debug, clap::Args)]
pub struct IdleOptions {
    /// The servers
    #[command(flatten)]
    pub versus: VersusOptions,
    /// Number of connections to open
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub connections: usize,
    /// Memory limit of each server in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    pub memory: u64,
    /// Output files
    #[command(flatten)]
    pub output: OutputOptions,
}

#[derive(Clone, Debug, Serialize)]
struct Idle {
    server: &'static str,
    connections: usize,
    empty_bytes: u64,
    opened_bytes: u64,
    used_bytes: u64,
}

/// Measures both servers and returns the text to print.
pub fn idle(options: &IdleOptions) -> Result<String, Failure> {
    raise_file_limit((options.connections + SPARE_FILES) as u64)?;
    options.versus.pin()?;
    let mut table = Table::new(&[
        "server",
        "connections",
        "RSS empty, KiB",
        "opened, KiB",
        "used, KiB",
        "bytes per idle connection",
        "after set and get",
    ]);
    let mut found = Vec::new();
    for side in Side::BOTH {
        match measure(options, side) {
            Ok(idle) => {
                table.push(row(&idle));
                found.push(idle);
            }
            Err(failure) => {
                table.push_failed(vec![format!("{}: {failure}", side.name())]);
            }
        }
    }
    let text = options.versus.describe() + &table.to_text();
    options.output.write(&text, &table, &found)?;
    Ok(text)
}

fn row(idle: &Idle) -> Vec<String> {
    let each = |bytes: u64| {
        let growth = bytes as f64 - idle.empty_bytes as f64;
        format!("{:.0}", growth / idle.connections.max(1) as f64)
    };
    let mut row = vec![idle.server.to_string(), idle.connections.to_string()];
    let sizes = [idle.empty_bytes, idle.opened_bytes, idle.used_bytes];
    row.extend(sizes.map(|bytes| (bytes / 1024).to_string()));
    row.extend([each(idle.opened_bytes), each(idle.used_bytes)]);
    row
}

fn measure(options: &IdleOptions, side: Side) -> Result<Idle, Failure> {
    let mut launch = options.versus.launch(side, options.memory);
    launch.connections = options.connections + SPARE_FILES;
    let server = ServerProcess::start(&launch)?;
    let mut control = server.client()?;
    for (request, answer) in EXCHANGES {
        let mut stream = Stream::connect(&server.address).map_err(Failure::io("connecting"))?;
        exchange(&mut stream, request, answer)?;
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
        if begun.elapsed() > PATIENCE {
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
        for (request, answer) in EXCHANGES {
            exchange(stream, request, answer)?;
        }
    }
    Ok(Idle {
        server: side.name(),
        connections: streams.len(),
        empty_bytes,
        opened_bytes,
        used_bytes: resident_bytes(server.pid())?,
    })
}

/// Requests that each connection sends once, with the ends of their replies.
const EXCHANGES: [(&[u8], &[u8]); 2] = [
    (b"set idle 0 0 5\r\nhello\r\n", b"STORED\r\n"),
    (b"get idle\r\n", b"END\r\n"),
];

fn exchange(stream: &mut Stream, request: &[u8], end: &[u8]) -> Result<(), Failure> {
    stream
        .write_all(request)
        .map_err(Failure::io("writing to the server"))?;
    let (mut answer, mut buffer) = (Vec::new(), [0u8; 256]);
    let begun = Instant::now();
    while !answer.ends_with(end) {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(Failure::Server("closed a connection".to_string())),
            Ok(n) => answer.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            Err(error) => return Err(Failure::io("reading from the server")(error)),
        }
        if begun.elapsed() > PATIENCE {
            return Err(Failure::Server("does not answer".to_string()));
        }
    }
    Ok(())
}
