//! Common options and steps of all comparisons of two servers.
//!
//! Defines the two sides, how they are started, and which CPUs they and the generator use. A side
//! that cannot be measured becomes a row with the reason, and does not end the comparison.

use std::path::PathBuf;

use serde::Serialize;

use super::failure::Failure;
use super::process::{Launch, ServerProcess, pin_self};
use super::tls::TlsServerOptions;

/// The two servers and their environment.
#[derive(Clone, Debug, clap::Args)]
pub struct ServersOptions {
    /// The server under test: a program that accepts memcached's options
    #[arg(long, value_name = "PATH")]
    pub ours: PathBuf,
    /// The reference server
    #[arg(long, value_name = "PATH", default_value = "/usr/bin/memcached")]
    pub theirs: PathBuf,
    /// Worker threads of each server
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Servers")]
    pub threads: usize,
    /// Additional option for the server under test, such as --ours-flag=--shards=1024; may be
    /// repeated
    #[arg(
        long,
        value_name = "FLAG",
        allow_hyphen_values = true,
        help_heading = "Servers"
    )]
    pub ours_flag: Vec<String>,
    /// Additional option for the reference server; may be repeated
    #[arg(
        long,
        value_name = "FLAG",
        allow_hyphen_values = true,
        help_heading = "Servers"
    )]
    pub theirs_flag: Vec<String>,
    /// Use unix sockets instead of TCP on 127.0.0.1
    #[arg(long, conflicts_with = "tls", help_heading = "Servers")]
    pub unix: bool,
    /// CPUs of the servers, in the syntax of taskset -c
    #[arg(
        long,
        value_name = "LIST",
        default_value = "0",
        help_heading = "Servers"
    )]
    pub server_cpus: String,
    /// CPUs of the generator, in the syntax of taskset -c
    #[arg(
        long,
        value_name = "LIST",
        default_value = "1",
        help_heading = "Servers"
    )]
    pub load_cpus: String,
    /// Do not pin the servers and the generator to CPUs
    #[arg(long, help_heading = "Servers")]
    pub no_pin: bool,
    /// TLS of both servers
    #[command(flatten)]
    pub tls: TlsServerOptions,
}

/// A side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The reference server.
    Theirs,
    /// The server under test.
    Ours,
}

impl Side {
    /// Both sides in column order.
    pub const BOTH: [Side; 2] = [Side::Theirs, Side::Ours];

    /// Returns the order of the sides in a round, which alternates.
    pub fn order(round: usize) -> [Side; 2] {
        match round % 2 {
            0 => [Side::Theirs, Side::Ours],
            _ => [Side::Ours, Side::Theirs],
        }
    }

    /// Returns the column index of the side.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Returns the name of the side in tables.
    pub fn name(self) -> &'static str {
        match self {
            Side::Theirs => "theirs",
            Side::Ours => "ours",
        }
    }
}

impl ServersOptions {
    /// Pins the generator to its CPUs.
    pub fn pin(&self) -> Result<(), Failure> {
        if self.no_pin {
            return Ok(());
        }
        pin_self(&self.load_cpus)
    }

    /// Returns the parameters for starting a side with this memory limit. Fails if there is no
    /// certificate for TLS.
    pub fn launch(&self, side: Side, memory_mib: u64) -> Result<Launch, Failure> {
        let (binary, flags) = match side {
            Side::Theirs => (&self.theirs, &self.theirs_flag),
            Side::Ours => (&self.ours, &self.ours_flag),
        };
        Ok(Launch {
            threads: self.threads,
            memory_mib,
            unix_socket: self.unix,
            cpus: (!self.no_pin).then(|| self.server_cpus.clone()),
            extra: flags.clone(),
            tls: self.tls.prepare(false)?,
            ..Launch::new(binary)
        })
    }

    /// Starts a side and waits for its first reply.
    pub fn start(&self, side: Side, memory_mib: u64) -> Result<ServerProcess, Failure> {
        ServerProcess::start(&self.launch(side, memory_mib)?)
    }

    /// Returns a line that describes the comparison.
    pub fn describe(&self) -> String {
        let place = match self.no_pin {
            true => "not pinned".to_string(),
            false => format!(
                "servers on CPU {}, load on CPU {}",
                self.server_cpus, self.load_cpus
            ),
        };
        let transport = match (self.unix, self.tls.is_on()) {
            (true, _) => "unix sockets",
            (false, false) => "TCP on 127.0.0.1",
            (false, true) => "TLS on 127.0.0.1",
        };
        format!(
            "ours {}, theirs {}; {} worker(s) each, {place}, {transport}\n",
            self.ours.display(),
            self.theirs.display(),
            self.threads
        )
    }
}
