//! Two servers side by side: the options and steps that all comparisons share.
//!
//! Owns who the two sides are, how they are started and where they and the generator run. A side
//! that cannot be measured becomes a row that says why, never the end of the comparison.

use std::path::PathBuf;

use serde::Serialize;

use super::failure::Failure;
use super::process::{Launch, ServerProcess, pin_self};

/// The two servers and their surroundings.
#[derive(Clone, Debug, clap::Args)]
pub struct VersusOptions {
    /// The server that is judged: a binary that takes memcached's flags
    #[arg(long, value_name = "PATH")]
    pub ours: PathBuf,
    /// The server it is judged by
    #[arg(long, value_name = "PATH", default_value = "/usr/bin/memcached")]
    pub theirs: PathBuf,
    /// Worker threads of each server
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Servers")]
    pub threads: usize,
    /// Another flag for our server, such as --ours-flag=--shards=1024; may be repeated
    #[arg(
        long,
        value_name = "FLAG",
        allow_hyphen_values = true,
        help_heading = "Servers"
    )]
    pub ours_flag: Vec<String>,
    /// Another flag for their server; may be repeated
    #[arg(
        long,
        value_name = "FLAG",
        allow_hyphen_values = true,
        help_heading = "Servers"
    )]
    pub theirs_flag: Vec<String>,
    /// Talk over unix sockets rather than over TCP on 127.0.0.1
    #[arg(long, help_heading = "Servers")]
    pub unix: bool,
    /// CPUs of the servers, as taskset takes them
    #[arg(
        long,
        value_name = "LIST",
        default_value = "0",
        help_heading = "Servers"
    )]
    pub server_cpus: String,
    /// CPUs of the generator
    #[arg(
        long,
        value_name = "LIST",
        default_value = "1",
        help_heading = "Servers"
    )]
    pub load_cpus: String,
    /// Leave servers and generator to the scheduler
    #[arg(long, help_heading = "Servers")]
    pub no_pin: bool,
}

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// What is judged by.
    Theirs,
    /// What is judged.
    Ours,
}

impl Side {
    /// Both, in the order of columns.
    pub const BOTH: [Side; 2] = [Side::Theirs, Side::Ours];

    /// The order in a round: each side goes first every other time.
    pub fn order(round: usize) -> [Side; 2] {
        match round % 2 {
            0 => [Side::Theirs, Side::Ours],
            _ => [Side::Ours, Side::Theirs],
        }
    }

    /// Its place among columns.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Side::Theirs => "theirs",
            Side::Ours => "ours",
        }
    }
}

impl VersusOptions {
    /// Keeps the generator on its CPUs.
    pub fn pin(&self) -> Result<(), Failure> {
        if self.no_pin {
            return Ok(());
        }
        pin_self(&self.load_cpus)
    }

    /// Where servers run, if anywhere in particular.
    pub fn cpus(&self) -> Option<&str> {
        (!self.no_pin).then_some(self.server_cpus.as_str())
    }

    /// How a side is started, with this much memory.
    pub fn launch(&self, side: Side, memory_mib: u64) -> Launch {
        let (binary, flags) = match side {
            Side::Theirs => (&self.theirs, &self.theirs_flag),
            Side::Ours => (&self.ours, &self.ours_flag),
        };
        Launch {
            threads: self.threads,
            memory_mib,
            unix_socket: self.unix,
            cpus: self.cpus().map(String::from),
            extra: flags.clone(),
            ..Launch::new(binary)
        }
    }

    /// Starts a side.
    pub fn start(&self, side: Side, memory_mib: u64) -> Result<ServerProcess, Failure> {
        ServerProcess::start(&self.launch(side, memory_mib))
    }

    /// A line about what is compared with what.
    pub fn describe(&self) -> String {
        let place = match self.no_pin {
            true => "not pinned".to_string(),
            false => format!(
                "servers on CPU {}, load on CPU {}",
                self.server_cpus, self.load_cpus
            ),
        };
        let transport = if self.unix {
            "unix sockets"
        } else {
            "TCP on 127.0.0.1"
        };
        format!(
            "ours {}, theirs {}; {} worker(s) each, {place}, {transport}\n",
            self.ours.display(),
            self.theirs.display(),
            self.threads
        )
    }
}
