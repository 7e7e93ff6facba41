//! Runs the server as a program, for tests of the command line, exit codes,
//! signals, descriptors and resident memory.

use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;

use crate::client::{Address, Client};
use crate::{TempDir, wait_until};

/// Path of the server's program, which cargo builds next to the folder of the
/// test programs.
pub fn server_program() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| {
        let test = std::env::current_exe().expect("the path of this program");
        let folder = test.ancestors().nth(2).expect("a folder above its own");
        let path = folder.join("rustcached");
        path.to_str().expect("a plain path").to_owned()
    });
    &PATH
}

/// A running `rustcached`, killed when dropped.
pub struct Program {
    child: Child,
    directory: TempDir,
}

/// Exit status and output of a program that has ended.
pub struct Ended {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

impl Program {
    /// Starts the program with exactly these options; its environment names a
    /// port file. If the tests run as root, the options must name a user.
    pub fn spawn(options: &[&str]) -> Self {
        Self::spawn_command(Command::new(server_program()).args(options))
    }

    /// Starts the program as [`Program::spawn`] does, with additional
    /// environment variables.
    pub fn spawn_in(options: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(server_program());
        command.args(options).envs(environment.iter().copied());
        Self::spawn_command(&mut command)
    }

    /// Starts the program by the given command.
    pub fn spawn_command(command: &mut Command) -> Self {
        Self::spawn_with(command, Stdio::null(), Stdio::piped())
    }

    /// Starts the program by the given command, with these for standard input
    /// and standard output.
    pub fn spawn_with(command: &mut Command, input: Stdio, output: Stdio) -> Self {
        Self::launch(command, input, output, Stdio::piped())
    }

    /// Starts the program as [`Program::start`] does, with this for standard
    /// error.
    pub fn start_with_errors(options: &[&str], errors: Stdio) -> (Self, Address) {
        let mut command = Command::new(server_program());
        command.args(on_free_port(options));
        let program = Self::launch(&mut command, Stdio::null(), Stdio::piped(), errors);
        let address = program.address();
        (program, address)
    }

    /// Starts the program by the given command, with these for its standard
    /// streams.
    pub fn launch(command: &mut Command, input: Stdio, output: Stdio, errors: Stdio) -> Self {
        let directory = TempDir::create();
        // The server must be able to write the port file after it has changed
        // its user.
        let everybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(directory.path(""), everybody).expect("it is our own");
        let child = command
            .env("MEMCACHED_PORT_FILENAME", directory.path("ports"))
            .stdin(input)
            .stdout(output)
            .stderr(errors)
            .spawn()
            .expect("the program can be executed");
        Self { child, directory }
    }

    /// Starts the program as [`Program::start`] does, with additional
    /// environment variables.
    pub fn start_with_env(options: &[&str], variables: &[(&str, &str)]) -> (Self, Address) {
        let program = Self::spawn_command(
            Command::new(server_program())
                .args(on_free_port(options))
                .envs(variables.iter().copied()),
        );
        let address = program.address();
        (program, address)
    }

    /// Starts the program on a free loopback port and waits for the port file.
    pub fn start(options: &[&str]) -> (Self, Address) {
        let program = Self::spawn(&on_free_port(options));
        let address = program.address();
        (program, address)
    }

    /// Waits for the port file and returns the first TCP address.
    pub fn address(&self) -> Address {
        let port = self.port();
        Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Waits for the port file and returns the first TCP port.
    pub fn port(&self) -> u16 {
        self.port_of("TCP INET: ")
    }

    /// Waits for the port file and returns the first UDP port.
    pub fn udp_port(&self) -> u16 {
        self.port_of("UDP INET: ")
    }

    fn port_of(&self, kind: &str) -> u16 {
        let path = self.directory.path("ports");
        wait_until("the port file names a port", || {
            let text = std::fs::read_to_string(&path).ok()?;
            let complete = text.rsplit_once('\n')?.0;
            complete
                .lines()
                .find_map(|line| line.strip_prefix(kind))
                .map(|port| port.parse().expect("the port is a number"))
        })
    }

    /// Waits for the port file and returns its contents.
    pub fn port_file(&self) -> String {
        let path = self.directory.path("ports");
        wait_until("there is a port file", || {
            std::fs::read_to_string(&path).ok()
        })
    }

    /// Returns all TCP ports in the port file, `None` if it does not exist yet.
    pub fn ports(&self) -> Option<Vec<u16>> {
        let text = std::fs::read_to_string(self.directory.path("ports")).ok()?;
        let port = |line: &str| line.rsplit_once(": ")?.1.parse().ok();
        text.lines().map(port).collect()
    }

    /// Returns the process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the field `name` of `/proc/PID/task/*/status` for each thread.
    /// Leaves out threads that end meanwhile.
    pub fn thread_statuses(&self, name: &str) -> Vec<String> {
        let path = format!("/proc/{}/task", self.child.id());
        let entries = std::fs::read_dir(path).expect("a running process has threads");
        let entries = entries.map(|entry| entry.expect("an entry can be read"));
        let statuses = entries.filter_map(|thread| {
            let text = std::fs::read_to_string(thread.path().join("status")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|line| line.strip_prefix(':'));
            Some(value.expect("the line is there").trim().to_owned())
        });
        statuses.collect()
    }

    /// Returns the resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).expect("a running process has a status");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.expect("a process has resident memory").trim();
        let number = kilobytes.trim_end_matches(" kB").parse::<u64>();
        number.expect("kilobytes are a number") * 1024
    }

    /// Returns whether the process has not exited yet.
    pub fn is_running(&mut self) -> bool {
        let status = self.child.try_wait().expect("a child can be waited for");
        status.is_none()
    }

    /// Limits the number of files that the running program may have open. Lower
    /// limits before the start are raised by the program if it may.
    pub fn limit_open_files(&self, limit: u32) {
        let process = self.child.id().to_string();
        let status = Command::new("prlimit")
            .args(["--pid", &process, &format!("--nofile={limit}:{limit}")])
            .status()
            .expect("prlimit can be executed");
        assert!(status.success(), "prlimit --nofile={limit}");
    }

    /// Sends a signal by name (`TERM`, `INT`, …) with `kill`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .expect("kill can be executed");
        assert!(status.success(), "kill -s {name}");
    }

    /// Waits until the program ends. Returns its exit status and output.
    pub fn wait(mut self) -> Ended {
        let status = wait_until("the program ends", || {
            self.child.try_wait().expect("a child can be waited for")
        });
        let mut ended = Ended {
            status,
            output: String::new(),
            errors: String::new(),
        };
        if let Some(stdout) = self.child.stdout.take() {
            ended.output = read_all(stdout);
        }
        if let Some(stderr) = self.child.stderr.take() {
            ended.errors = read_all(stderr);
        }
        ended
    }

    /// Asserts that the program is running and answers a new connection.
    pub fn assert_answers(&mut self, address: &Address) {
        assert!(self.is_running(), "the program has ended");
        Client::connect(address).ask("", "");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Errors mean that the child has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(mut pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).expect("a pipe can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Prepends options for a free loopback port. Names a user as well, since the
/// tests may run as root.
pub fn on_free_port<'a>(options: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["-l", "127.0.0.1", "-p", "-1", "-u", "root"];
    all.extend_from_slice(options);
    all
}
