//! Restarts under a service manager that stores descriptors (`FDSTORE`): the
//! memory of the items waits there for the next start.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use rustix::cmsg_space;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use test_support::client::{Address, Client};
use test_support::program::{Program, server_program};
use test_support::{DEADLINE, TempDir};

use crate::restart::{assert_same_dump, dump, fill, restart_stat};

/// A service manager with one service.
struct Manager {
    directory: TempDir,
    notices: UnixDatagram,
    listener: TcpListener,
}

impl Manager {
    fn create() -> Self {
        let directory = TempDir::create();
        let notices = UnixDatagram::bind(directory.path("notify")).expect("bound");
        notices.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self {
            directory,
            notices,
            listener,
        }
    }

    fn address(&self) -> Address {
        Address::Tcp(self.listener.local_addr().expect("bound"))
    }

    /// Starts the service with its socket, and the stored memory if there is some.
    fn start(&self, stored: Option<OwnedFd>, options: &[&str]) -> Program {
        let listener = self.listener.try_clone().expect("descriptors").into();
        let mut passed = vec![("rustcached.socket", listener)];
        passed.extend(stored.map(|memory| ("rustcached-memory", memory)));
        self.start_with(passed, options)
    }

    /// Starts the service with up to two descriptors and their names.
    fn start_with(&self, passed: Vec<(&str, OwnedFd)>, options: &[&str]) -> Program {
        let names: Vec<&str> = passed.iter().map(|(name, _)| *name).collect();
        let (count, names) = (names.len(), names.join(":"));
        let script = format!(
            "exec 3<&0 4>&1 </dev/null; LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names} \
             exec \"$0\" -u root \"$@\" >/dev/null"
        );
        let mut command = Command::new("sh");
        command
            .args(["-c", &script, server_program()])
            .args(options)
            .env("FDSTORE", "1")
            .env("NOTIFY_SOCKET", self.directory.path("notify"));
        let mut passed = passed.into_iter().map(|(_, descriptor)| descriptor);
        let mut next = || passed.next().map_or_else(Stdio::null, Stdio::from);
        let (first, second) = (next(), next());
        Program::spawn_with(&mut command, first, second)
    }

    /// Receives a notice, and the descriptor that came with it.
    fn notice(&self) -> (String, Option<OwnedFd>) {
        let mut text = [0; 256];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut text)];
        let received = recvmsg(
            &self.notices,
            &mut parts,
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        );
        let len = received.expect("a notice").bytes;
        let descriptor = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let text = String::from_utf8_lossy(&text[..len]);
        (text.trim_end().to_owned(), descriptor)
    }

    fn expect_notice(&self, want: &str) {
        assert_eq!(self.notice().0, want);
    }

    /// Stops the service, and returns the memory that it stores, and its log.
    fn stop(&self, program: Program) -> (Option<OwnedFd>, String) {
        program.signal("TERM");
        self.expect_notice("STOPPING=1");
        let ended = program.wait();
        assert!(ended.status.success(), "{}", ended.errors);
        let (text, memory) = self.notice();
        assert_eq!(text, "FDSTORE=1\nFDNAME=rustcached-memory");
        (memory, ended.errors)
    }
}

#[test]
fn items_wait_at_the_service_manager() {
    let manager = Manager::create();
    let program = manager.start(None, &[]);
    manager.expect_notice("READY=1");
    let mut client = Client::connect(&manager.address());
    fill(&mut client);
    let before = dump(&mut client);
    let (memory, _) = manager.stop(program);
    // A client that connects in between waits for the next server.
    let mut client = Client::connect(&manager.address());
    let program = manager.start(memory, &["-o", "drop_privileges"]);
    manager.expect_notice("FDSTOREREMOVE=1\nFDNAME=rustcached-memory");
    manager.expect_notice("READY=1");
    assert_same_dump(&before, &dump(&mut client));
    let kept = restart_stat(&mut client, "kept");
    assert_eq!(kept, Some(before.len().to_string()));
    let (memory, _) = manager.stop(program);
    let program = manager.start(memory, &[]);
    let mut client = Client::connect(&manager.address());
    assert_same_dump(&before, &dump(&mut client));
    drop(program);
}

#[test]
fn sockets_wait_there_too() {
    let manager = Manager::create();
    let options = ["-l", "127.0.0.1", "-p", "-1"];
    let program = manager.start_with(Vec::new(), &options);
    manager.expect_notice("READY=1");
    let address = program.address();
    Client::connect(&address).ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    let (memory, _) = manager.stop(program);
    let (text, listener) = manager.notice();
    assert_eq!(text, "FDSTORE=1\nFDNAME=rustcached-listener");
    // Nobody serves now, but the connection waits in the queue of the socket.
    let mut early = Client::connect(&address);
    let passed = vec![
        ("rustcached-memory", memory.expect("it is stored")),
        ("rustcached-listener", listener.expect("it is stored")),
    ];
    let program = manager.start_with(passed, &options);
    for name in ["memory", "listener"] {
        manager.expect_notice(&format!("FDSTOREREMOVE=1\nFDNAME=rustcached-{name}"));
    }
    manager.expect_notice("READY=1");
    early.ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
    assert_eq!(format!("{:?}", program.address()), format!("{address:?}"));
    // Where the settings do not name its address any more, it is closed.
    let (memory, _) = manager.stop(program);
    let (_, listener) = manager.notice();
    let passed = vec![
        ("rustcached-memory", memory.expect("it is stored")),
        ("rustcached-listener", listener.expect("it is stored")),
    ];
    let socket = manager.directory.path("clients");
    let unix = format!("unix:{}", socket.display());
    let _program = manager.start_with(passed, &["-l", &unix]);
    for _ in 0..3 {
        manager.notice();
    }
    let mut client = Client::connect(&Address::Unix(socket));
    client.ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
    assert!(Client::try_connect(&address).is_err());
}

#[test]
fn memory_that_was_not_left_cleanly_is_not_used() {
    let manager = Manager::create();
    let program = manager.start(None, &[]);
    manager.expect_notice("READY=1");
    fill(&mut Client::connect(&manager.address()));
    let (memory, _) = manager.stop(program);
    let memory = memory.expect("it is stored");
    let stored = memory.try_clone().expect("descriptors");
    let program = manager.start(Some(stored), &[]);
    Client::connect(&manager.address()).ask("set more 0 0 1\r\nx\r\n", "STORED\r\n");
    program.signal("KILL");
    let _ = program.wait();
    // A manager that has not removed it passes it once more.
    let program = manager.start(Some(memory), &[]);
    let mut client = Client::connect(&manager.address());
    let reason = restart_stat(&mut client, "reason").expect("a reason");
    assert!(reason.contains("did not stop cleanly"), "{reason}");
    client.ask("get more key1\r\n", "END\r\n");
    drop(program);
}

#[test]
fn a_passed_file_that_is_not_memory_starts_an_empty_server() {
    let manager = Manager::create();
    let path = manager.directory.path("file");
    std::fs::write(&path, "mine").expect("writable");
    let file = std::fs::File::options().read(true).write(true).open(&path);
    let program = manager.start(Some(file.expect("it exists").into()), &[]);
    let mut client = Client::connect(&manager.address());
    let reason = restart_stat(&mut client, "reason").expect("a reason");
    assert!(reason.contains("not a memory file"), "{reason}");
    client.ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    assert_eq!(std::fs::read_to_string(&path).expect("readable"), "mine");
    drop(program);
}
