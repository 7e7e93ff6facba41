//! Processes observed from outside: CPU time, memory, CPU affinity, and servers started for a
//! measurement.
//!
//! Reads `/proc` and runs `taskset` (util-linux), which parses lists of CPUs and pins a server
//! before it starts. A [`ServerProcess`] is killed when its owner drops it. Linux only.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{self, Signal};
use nix::unistd::{Pid, geteuid};

use super::address::{Address, Stream};
use super::client::Client;
use super::failure::Failure;
use super::tls::ServerTls;

/// Nanoseconds per tick of `/proc/PID/stat`; Linux always reports 100 ticks per second.
const TICK_NS: u64 = 10_000_000;
const START_TIMEOUT: Duration = Duration::from_secs(20);
const START_POLL_INTERVAL: Duration = Duration::from_micros(100);
/// Longest time of a clean stop. It covers the writing of a large memory to a disk.
const STOP_TIMEOUT: Duration = Duration::from_secs(600);
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Returns the CPU time of a process, all threads together, in nanoseconds.
pub fn cpu_ns(pid: u32) -> Result<u64, Failure> {
    let reading = || Failure::io(format!("reading the CPU time of process {pid}"));
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).map_err(reading())? {
        let path = task.map_err(reading())?.path().join("schedstat");
        match fs::read_to_string(path) {
            Ok(text) => sum += first_number(&text).unwrap_or(0),
            Err(_) => return cpu_ns_by_ticks(pid).map_err(reading()),
        }
    }
    Ok(sum)
}

/// Returns the time that the living threads of a process have waited for a CPU, summed, in
/// nanoseconds. `None` if the process has ended.
pub fn cpu_wait_ns(pid: u32) -> Option<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        sum += text.split_whitespace().nth(1)?.parse::<u64>().ok()?;
    }
    Some(sum)
}

/// Returns the CPU time of this process in nanoseconds, at a resolution of 10 ms. Includes threads
/// that have ended.
pub fn own_cpu_ns() -> Result<u64, Failure> {
    cpu_ns_by_ticks(std::process::id()).map_err(Failure::io("reading the generator's CPU time"))
}

fn cpu_ns_by_ticks(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields = after_name.split_whitespace().skip(11).take(2);
    Ok(fields
        .filter_map(|field| field.parse::<u64>().ok())
        .sum::<u64>()
        * TICK_NS)
}

/// Returns the resident memory of a process in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64, Failure> {
    let exact = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    let text = exact.or_else(|_| fs::read_to_string(format!("/proc/{pid}/status")));
    let text = text.map_err(Failure::io(format!("reading the memory of process {pid}")))?;
    let line = text.lines().find_map(|line| {
        line.strip_prefix("Rss:")
            .or_else(|| line.strip_prefix("VmRSS:"))
    });
    let kib = line.and_then(first_number);
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| Failure::Usage(format!("process {pid} has no resident memory")))
}

/// Returns the resident memory of a process and its peak since the start, in bytes. Cheap, but
/// accurate only to some dozens of pages. `None` for a process that has ended, even if its parent
/// has not waited for it yet.
pub fn resident_and_peak(pid: u32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let bytes = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(first_number(rest)? * 1024)
    };
    Some((bytes("VmRSS:")?, bytes("VmHWM:")?))
}

/// Kills a process. The caller must have started it and not waited for it yet, so that the ID is
/// not reused.
pub fn kill(pid: u32) {
    let Ok(pid) = i32::try_from(pid) else {
        return;
    };
    // An error means that the process has ended already.
    let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// Makes the process the kernel's first victim when the machine runs out of memory.
pub fn prefer_as_oom_victim(pid: u32) -> Result<(), Failure> {
    let offering = Failure::io(format!("setting oom_score_adj of process {pid}"));
    fs::write(format!("/proc/{pid}/oom_score_adj"), "1000").map_err(offering)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Pins all threads of this process to the given CPUs, in the syntax of `taskset -c`.
pub fn pin_self(cpus: &str) -> Result<(), Failure> {
    let pid = std::process::id().to_string();
    let output = Command::new("taskset")
        .args(["-a", "-c", "-p", cpus, &pid])
        .output()
        .map_err(Failure::io("running taskset (of util-linux)"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_string();
    Err(Failure::Usage(format!("taskset: {why}")))
}

/// Raises the limit of open files of this process and its future children, unless it is higher
/// already.
pub fn raise_file_limit(files: u64) -> Result<(), Failure> {
    let raise = || {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, soft.max(files), hard.max(files))
    };
    let raising = Failure::io(format!("raising the limit of open files to {files}"));
    raise().map_err(|errno| raising(errno.into()))
}

/// Parameters for starting a server.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Path of the program. It must accept memcached's options.
    pub binary: PathBuf,
    /// Number of worker threads (`-t`).
    pub threads: usize,
    /// Memory limit in MiB (`-m`).
    pub memory_mib: u64,
    /// Maximum number of connections (`-c`).
    pub connections: usize,
    /// Listen on a unix socket instead of a TCP port.
    pub unix_socket: bool,
    /// TLS of the TCP port.
    pub tls: Option<ServerTls>,
    /// CPUs to pin the server to, in the syntax of `taskset -c`.
    pub cpus: Option<String>,
    /// Value of `-l` if the server listens on a TCP port.
    pub listen: String,
    /// Additional options.
    pub extra: Vec<String>,
    /// Names and values of environment variables, in addition to those of this process.
    pub environment: Vec<(String, String)>,
}

impl Launch {
    /// Returns parameters with a single worker, 1 GiB, and a port on 127.0.0.1.
    pub fn new(binary: &Path) -> Self {
        Launch {
            binary: binary.to_path_buf(),
            threads: 1,
            memory_mib: 1024,
            connections: 4096,
            unix_socket: false,
            tls: None,
            cpus: None,
            listen: "127.0.0.1".to_string(),
            extra: Vec::new(),
            environment: Vec::new(),
        }
    }

    fn command(&self, address: &Address) -> Command {
        let mut command = pinned(&self.binary, self.cpus.as_deref());
        match address {
            Address::Tcp(address) | Address::Tls(address, _) => {
                command.args(["-l", &self.listen, "-U", "0"]);
                command.args(["-p", &address.port().to_string()]);
            }
            Address::Unix(path) => {
                command.arg("-s").arg(path);
            }
        }
        command.args(["-t", &self.threads.to_string()]);
        command.args(["-m", &self.memory_mib.to_string()]);
        command.args(["-c", &self.connections.to_string()]);
        if geteuid().is_root() {
            command.args(["-u", "root"]);
        }
        if let Some(tls) = &self.tls {
            command.args(tls.flags());
        }
        command.args(&self.extra);
        let variables = self.environment.iter();
        command.envs(variables.map(|(name, value)| (name, value)));
        command
    }
}

/// Returns a command that runs a program pinned to the given CPUs, in the syntax of `taskset -c`.
/// `None` does not pin it.
fn pinned(binary: &Path, cpus: Option<&str>) -> Command {
    let Some(cpus) = cpus else {
        return Command::new(binary);
    };
    let mut command = Command::new("taskset");
    command.args(["-c", cpus]).arg(binary);
    command
}

/// Returns whether this reply to `version` shows that the server is up. With `-Y`, the server
/// refuses clients that are not authenticated.
fn is_version_reply(line: &str) -> bool {
    line.starts_with("VERSION") || line.starts_with("CLIENT_ERROR unauthenticated")
}

/// A running server, killed when dropped.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    /// Address of the server.
    pub address: Address,
    /// Time from the start of the process to its first reply.
    pub start_time: Duration,
}

impl ServerProcess {
    /// Starts a server and waits for its first reply.
    pub fn start(launch: &Launch) -> Result<Self, Failure> {
        let mut address = free_address(launch.unix_socket)?;
        if let Some(tls) = &launch.tls {
            address = address.over_tls(tls.client.clone())?;
        }
        let name = launch.binary.display().to_string();
        Self::spawn(&name, launch.command(&address), address)
    }

    /// Starts a server that listens at `address` by the given command, and waits for its first
    /// reply.
    fn spawn(name: &str, mut command: Command, address: Address) -> Result<Self, Failure> {
        let starting = Failure::io(format!("starting {name}"));
        let begun = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut server = ServerProcess {
            child: child.map_err(starting)?,
            address,
            start_time: Duration::ZERO,
        };
        loop {
            let reply = Client::connect(&server.address, false)
                .and_then(|mut client| client.command("version"));
            if reply.as_ref().is_ok_and(|line| is_version_reply(line)) {
                server.start_time = begun.elapsed();
                return Ok(server);
            }
            let ended = server
                .child
                .try_wait()
                .map_err(Failure::io("watching a server"))?;
            if let Some(status) = ended {
                return Err(Failure::Server(format!("{name} ended at once: {status}")));
            }
            if begun.elapsed() > START_TIMEOUT {
                let why = reply
                    .err()
                    .map_or(String::new(), |error| format!(": {error}"));
                return Err(Failure::Server(format!("{name} does not reply{why}")));
            }
            thread::sleep(START_POLL_INTERVAL);
        }
    }

    /// Returns the process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal that ends the process, and returns the time until it has ended. Fails if it
    /// reports a failure.
    pub fn stop(mut self, signal: Signal) -> Result<Duration, Failure> {
        let pid = Pid::from_raw(self.pid().cast_signed());
        let begun = Instant::now();
        let sent = signal::kill(pid, signal);
        sent.map_err(|errno| Failure::io("stopping a server")(errno.into()))?;
        loop {
            let ended = self.child.try_wait();
            match ended.map_err(Failure::io("watching a server"))? {
                Some(status) if status.success() => return Ok(begun.elapsed()),
                Some(status) => return Err(Failure::Server(format!("stopped with {status}"))),
                None if begun.elapsed() > STOP_TIMEOUT => {
                    return Err(Failure::Server(format!("does not end at {signal}")));
                }
                None => thread::sleep(STOP_POLL_INTERVAL),
            }
        }
    }

    /// Returns the TLS version and cipher suite of a new connection; `None` without TLS.
    pub fn negotiated(&self) -> Result<Option<String>, Failure> {
        let connecting = Failure::io(format!("connecting to {}", self.address));
        let stream = Stream::connect(&self.address).map_err(connecting)?;
        Ok(stream.negotiated())
    }

    /// Opens a connection to the server.
    pub fn client(&self) -> Result<Client, Failure> {
        Client::connect(&self.address, false)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Errors mean that the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Address::Unix(path) = &self.address {
            let _ = fs::remove_file(path);
        }
    }
}

/// Returns an unused address. Another process may bind the port before the server does. The server
/// then fails to start and reports that.
fn free_address(unix_socket: bool) -> Result<Address, Failure> {
    let finding = || Failure::io("looking for a free port");
    let listener = TcpListener::bind("127.0.0.1:0").map_err(finding())?;
    let address = listener.local_addr().map_err(finding())?;
    if !unix_socket {
        return Ok(Address::Tcp(address));
    }
    let name = format!(
        "rustcached-bench-{}-{}.sock",
        std::process::id(),
        address.port()
    );
    Ok(Address::Unix(std::env::temp_dir().join(name)))
}

#[cfg(test)]
mod tests {
    use super::{cpu_ns, cpu_ns_by_ticks, kill, resident_and_peak, resident_bytes};
    use std::process::{Child, Command};

    #[test]
    fn a_busy_process_is_seen_to_use_cpu_and_memory() {
        // Measure another process: the threads of this process change meanwhile.
        let busy = Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn();
        let mut busy = Guard(busy.expect("a shell is installed"));
        let pid = busy.0.id();
        let before = cpu_ns(pid).unwrap();
        while cpu_ns(pid).unwrap() == before || cpu_ns_by_ticks(pid).unwrap() == 0 {
            assert!(busy.0.try_wait().unwrap().is_none(), "it goes on");
        }
        assert!(resident_bytes(pid).unwrap() > 100_000);
        let (resident, peak) = resident_and_peak(pid).unwrap();
        assert!(resident > 100_000 && peak >= resident);
        assert!(resident_and_peak(u32::MAX).is_none());
    }

    struct Guard(Child);

    impl Drop for Guard {
        fn drop(&mut self) {
            kill(self.0.id());
            let _ = self.0.wait();
        }
    }
}
