//! CAS values of more than 48 bits, which the header of an item does not hold:
//! those that clients give, and those that the server counts up to.

use std::fs;
use std::path::Path;

use test_support::TempDir;
use test_support::binary::{BinaryClient, Frame, opcode, status};
use test_support::client::{Address, Client};
use test_support::program::Program;
use test_support::server::Server;

use crate::restart::stop;

/// The first CAS value that a header does not hold.
const WIDE: u64 = 1 << 48;

fn get(key: &str) -> Frame {
    Frame::new(opcode::GET).key(key)
}

fn set(key: &str, value: &str, cas: u64) -> Frame {
    Frame::store(opcode::SET, key, value).cas(cas)
}

fn shown(key: &str, value: &str, cas: u64) -> String {
    let len = value.len();
    format!("VALUE {key} 0 {len} {cas}\r\n{value}\r\nEND\r\n")
}

#[test]
fn a_cas_value_of_a_client_is_the_same_in_all_protocols() {
    let server = Server::start();
    let mut text = server.client();
    let mut binary = BinaryClient::connect(&server.address());
    for cas in [WIDE - 1, WIDE, WIDE + 1, 1 << 63, u64::MAX] {
        let give = |text: &mut Client, tail: &str| {
            text.ask(
                format!("ms k 1 E{cas} c\r\na\r\n"),
                format!("HD c{cas}\r\n"),
            );
            text.ask(format!("mg k c{tail}\r\n"), format!("HD c{cas}\r\n"));
            text.ask("gets k\r\n", shown("k", "a", cas));
        };
        give(&mut text, "");
        assert_eq!(binary.ask(&get("k")).cas, cas);
        // The part that a header would hold, and its neighbours.
        for other in [(cas % WIDE).max(1), cas - 1] {
            if other == cas {
                continue;
            }
            text.ask(format!("cas k 0 0 1 {other}\r\nb\r\n"), "EXISTS\r\n");
            text.ask(format!("ms k 1 C{other}\r\nb\r\n"), "EX\r\n");
            binary.refused(
                &set("k", "b", other),
                status::EXISTS,
                "Data exists for key.",
            );
        }
        text.ask(format!("cas k 0 0 1 {cas}\r\nb\r\n"), "STORED\r\n");
        give(&mut text, "");
        text.ask(format!("ms k 1 C{cas}\r\nb\r\n"), "HD\r\n");
        give(&mut text, "");
        let counted = binary.done(&set("k", "b", cas));
        assert!(counted < 1000, "{counted}");
        text.ask("gets k\r\n", shown("k", "b", counted));
    }
}

/// Replaces the last CAS value given in a memory file.
fn set_last_cas(file: &Path, cas: u64) {
    const CAS_OFFSET: usize = 104;
    const SUPERBLOCK: usize = 256;
    let mut bytes = fs::read(file).expect("the file is there");
    bytes[CAS_OFFSET..][..8].copy_from_slice(&cas.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..SUPERBLOCK - 4]);
    bytes[SUPERBLOCK - 4..SUPERBLOCK].copy_from_slice(&crc.to_le_bytes());
    fs::write(file, bytes).expect("the file is written");
}

fn start(file: &Path) -> (Program, Address) {
    let option = format!("--save-path={}", file.display());
    Program::start(&[&option, "-m", "64"])
}

#[test]
fn counting_passes_48_bits() {
    let folder = TempDir::create();
    let file = folder.path("items");
    let (program, address) = start(&file);
    let mut text = Client::connect(&address);
    let large = "x".repeat(50_000);
    for (key, value) in [("a", "1"), ("n", "5"), ("s", "1"), ("large", &large[..])] {
        let len = value.len();
        text.ask(format!("set {key} 0 0 {len}\r\n{value}\r\n"), "STORED\r\n");
    }
    stop(program, "TERM");
    set_last_cas(&file, WIDE - 2);
    let (program, address) = start(&file);
    let mut text = Client::connect(&address);
    let mut binary = BinaryClient::connect(&address);
    text.ask("gets a\r\n", shown("a", "1", 2));
    text.ask("ms b 1 c\r\n1\r\n", format!("HD c{}\r\n", WIDE - 1));
    text.ask("ms c 1 c\r\n1\r\n", format!("HD c{WIDE}\r\n"));
    text.ask("gets b\r\n", shown("b", "1", WIDE - 1));
    text.ask("gets c\r\n", shown("c", "1", WIDE));
    assert_eq!(binary.ask(&get("c")).cas, WIDE);
    text.ask(format!("cas c 0 0 1 {WIDE}\r\n2\r\n"), "STORED\r\n");
    text.ask("mg c v c\r\n", format!("VA 1 c{}\r\n2\r\n", WIDE + 1));
    binary.refused(&set("c", "3", 1), status::EXISTS, "Data exists for key.");
    assert_eq!(binary.done(&set("c", "3", WIDE + 1)), WIDE + 2);
    // Items from before, changed in place or replaced.
    text.ask("ma n c v\r\n", format!("VA 1 c{}\r\n6\r\n", WIDE + 3));
    text.ask("incr n 1\r\n", "7\r\n");
    text.ask("append a 0 0 1\r\n2\r\n", "STORED\r\n");
    text.ask("append large 0 0 1\r\ny\r\n", "STORED\r\n");
    text.ask("md s I\r\n", "HD\r\n");
    text.ask("mg s v c\r\n", format!("VA 1 c{} X W\r\n1\r\n", WIDE + 7));
    text.ask("touch b 1000\r\n", "TOUCHED\r\n");
    stop(program, "TERM");
    let (_program, address) = start(&file);
    let mut text = Client::connect(&address);
    text.ask("gets n\r\n", shown("n", "7", WIDE + 4));
    text.ask("gets a\r\n", shown("a", "12", WIDE + 5));
    text.ask(
        "gets large\r\n",
        shown("large", &format!("{large}y"), WIDE + 6),
    );
    text.ask("gets b\r\n", shown("b", "1", WIDE - 1));
    text.ask("ms d 1 c\r\n1\r\n", format!("HD c{}\r\n", WIDE + 8));
}
