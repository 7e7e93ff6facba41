//! The `rustcached` server: from arguments to settings, process, server and exit
//! code.

mod process;

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::channel::Sender;
use process::{PidFile, ProcessError};
use rustcached::config::{Config, Process};
use rustcached::limits::FINAL_MESSAGE_TIMEOUT;
use rustcached::logging::{Log, Stream, write_line, write_within};
use rustcached::options::{self, Invocation};
use rustcached::server::{
    self, AfterHandover, Inherited, Reloader, Server, StartError, StopRequest,
};
use rustcached::supervise;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// memcached's exit code if it cannot listen (`EX_OSERR`).
const EX_OSERR: u8 = 71;

/// Signals that stop the server.
const STOP_SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGUSR1];

fn main() -> ExitCode {
    supervise::this_thread();
    // Without one, as after its removal, relative paths fail one by one.
    let directory = std::env::current_dir().unwrap_or_default();
    match options::parse(std::env::args_os(), &environment, &directory) {
        Ok(Invocation::Print(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Ok(Invocation::Check(settings)) => {
            let (config, process) = *settings;
            match check(&config, &process) {
                Ok(code) => code,
                Err(error) => fail(&error, error.exit_code()),
            }
        }
        Ok(Invocation::Run(settings)) => {
            let (config, process) = *settings;
            match run(config, &process, directory) {
                Ok(code) => code,
                Err(error) => fail(&error, error.exit_code()),
            }
        }
        Err(error) => fail(&error, error.exit_code()),
    }
}

/// Returns a variable of the environment.
fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Checks the settings and what they name (`--check-config`).
fn check(config: &Config, process: &Process) -> Result<ExitCode, ProcessError> {
    let found = process::check(process, config)?;
    let lines = process.warnings.iter().chain(&process.notices);
    for line in lines.chain(&found) {
        write_line(format_args!("{line}"));
    }
    if let Err(error) = server::check(config) {
        return Ok(fail(&error, error.exit_code()));
    }
    print("the configuration is valid\n");
    Ok(ExitCode::SUCCESS)
}

/// Runs the server until a stop is requested. `directory` is the working directory at
/// the start.
fn run(config: Config, process: &Process, directory: PathBuf) -> Result<ExitCode, ProcessError> {
    for warning in &process.warnings {
        write_line(format_args!("{warning}"));
    }
    if config.verbosity > 0 {
        for notice in &process.notices {
            write_line(format_args!("{notice}"));
        }
    }
    // Before any thread starts: it changes the environment.
    let inherited = match Inherited::take() {
        Ok(inherited) => inherited,
        Err(error) => return Ok(fail(&StartError::Inherited(error), EX_OSERR)),
    };
    process::prepare(process, &config)?;
    let takes_over = config.restart.take_over.is_some();
    let mut pid_path = process.pid_file.as_deref();
    // A server that hands over keeps its pid file until its successor serves.
    let early = pid_path.take_if(|_| !takes_over);
    let _early = early.and_then(|path| pid_file(path, None));
    // Before the server listens: a signal that arrives with the first client
    // must not kill the process.
    let (signals, is_stopping) = match catch_signals() {
        Ok(caught) => caught,
        Err(error) => return Ok(fail(&error, EX_OSERR)),
    };
    let stored = inherited.stored();
    let mut server = match Server::start_with(config, inherited) {
        Ok(server) => server,
        Err(error) => return Ok(fail(&error, error.exit_code())),
    };
    let log = server.log();
    let reloader = server.reloader();
    let watching = watch(signals, server.stopper(), reloader, log.clone(), directory);
    if let Err(error) = watching {
        return Ok(fail(&StartError::Thread(error), EX_OSERR));
    }
    if process.drop_privileges {
        process::sandbox::enter()?;
    }
    let predecessor = server.predecessor();
    if let Some(process) = predecessor
        && is_stopping.load(Ordering::Relaxed)
    {
        // Nobody would serve if the other server ended now as well.
        log.put(format_args!(
            "stopped at the start; process {process} goes on"
        ));
        server.stop();
        return Ok(ExitCode::SUCCESS);
    }
    let late = pid_path.and_then(|path| pid_file(path, predecessor));
    // From here on nothing fails, so the server before this one may end. It leaves
    // the pid file alone, which is no longer its own.
    server.confirm();
    // A blocked standard output must not delay the wait for a stop request.
    write_within(Stream::Output, greeting(&server), FINAL_MESSAGE_TIMEOUT);
    for name in stored {
        // What it has stored is in use now, and of no use to another start.
        let name = NotifyState::FdName(name);
        tell_manager(&log, &[NotifyState::FdStoreRemove, name]);
    }
    tell_manager(&log, &[NotifyState::Ready]);
    loop {
        let successor = match server.wait_for_stop_request() {
            StopRequest::Stop => break,
            StopRequest::HandOver(successor) => successor,
        };
        let process = successor.process().unsigned_abs();
        match server.hand_over(successor) {
            Ok(AfterHandover::GoesOn(same)) => {
                server = *same;
                late.as_ref().map(PidFile::renew);
            }
            Ok(AfterHandover::Done) => {
                tell_manager(&log, &[NotifyState::MainPid(process)]);
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Ok(fail(&error, error.exit_code())),
        }
    }
    tell_manager(&log, &[NotifyState::Stopping]);
    for (name, descriptor) in server.stop() {
        let states = [NotifyState::FdStore, NotifyState::FdName(name)];
        if let Err(error) = sd_notify::notify_with_fds(&states, &[descriptor.as_fd()]) {
            write_line(format_args!(
                "the service manager could not store {name}: {error}"
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Catches the signals that the server handles. The flag is set by those that stop
/// it, also before anything waits for them.
fn catch_signals() -> io::Result<(Signals, Arc<AtomicBool>)> {
    let is_stopping = Arc::new(AtomicBool::new(false));
    for signal in STOP_SIGNALS {
        flag::register(signal, Arc::clone(&is_stopping))?;
    }
    let signals = Signals::new(STOP_SIGNALS.iter().chain([&SIGHUP]))?;
    Ok((signals, is_stopping))
}

/// Converts signals to stop requests. SIGHUP reads the configuration file,
/// certificates and passwords again.
fn watch(
    mut signals: Signals,
    stopper: Sender<StopRequest>,
    mut reloader: Reloader,
    log: Arc<Log>,
    directory: PathBuf,
) -> io::Result<()> {
    let watch = move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                reload(&mut reloader, &log, &directory);
                continue;
            }
            // A full channel means that two stops are already requested.
            let _ = stopper.try_send(StopRequest::Stop);
        }
    };
    supervise::spawn("signals", watch).map(|_| ())
}

fn reload(reloader: &mut Reloader, log: &Log, directory: &Path) {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell_manager(log, &[NotifyState::Reloading, now]);
    }
    // The file of `--config` may have changed.
    match options::parse(std::env::args_os(), &environment, directory) {
        Ok(Invocation::Run(settings)) => reloader.apply(settings.0),
        Ok(_) => {}
        Err(error) => log.put(format_args!("nothing changed: {error}")),
    }
    reloader.reload();
    tell_manager(log, &[NotifyState::Ready]);
}

/// Notifies the service manager, if there is one.
fn tell_manager(log: &Log, states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log.put(format_args!(
            "could not notify the service manager: {error}"
        ));
    }
}

/// Returns the start-up message: version, the addresses that the server listens on,
/// memory limit and threads.
fn greeting(server: &Server) -> String {
    let tcp = server.tcp_addrs().iter().map(ToString::to_string);
    let unix = server.unix_paths().iter();
    let unix = unix.map(|path| path.display().to_string());
    let udp = server.udp_addrs().iter();
    let udp = udp.map(|address| format!("{address} (UDP)"));
    let places: Vec<String> = tcp.chain(udp).chain(unix).collect();
    let places = match &places[..] {
        [] => "no address".to_owned(),
        places => places.join(", "),
    };
    let admin = match &server.admin_urls().join(", ")[..] {
        "" => String::new(),
        urls => format!("; admin page on {urls}"),
    };
    let config = server.config();
    format!(
        "rustcached {} is listening on {places}; memory limit {} MiB, {} threads{admin}\n",
        env!("CARGO_PKG_VERSION"),
        config.max_memory >> 20,
        config.threads,
    )
}

/// Creates the pid file. An error is reported and does not stop the server.
fn pid_file(path: &Path, predecessor: Option<i32>) -> Option<PidFile> {
    PidFile::create(path, predecessor)
        .inspect_err(|error| {
            let path = path.display();
            write_line(format_args!("could not write the pid file {path}: {error}"));
        })
        .ok()
}

/// Prints to a pipe that may be closed (`rustcached -h | head -1`).
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Prints the error, and waits at most [`FINAL_MESSAGE_TIMEOUT`] for a blocked
/// standard error. Returns `code`.
fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    if !write_within(Stream::Error, format!("{error}\n"), FINAL_MESSAGE_TIMEOUT) {
        write_line(format_args!("{error}"));
    }
    ExitCode::from(code)
}
