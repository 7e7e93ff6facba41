//! Regression tests for bugs of other servers in the binary protocol. Each
//! sends the packets to the running program, which must answer or close,
//! survive, and stay in step.

use test_support::binary::{BinaryClient, Frame, opcode, status};
use test_support::client::{Address, Client};
use test_support::program::Program;

const INVALID: &str = "Invalid arguments";
const UNKNOWN: &str = "Unknown command";
const STORING: [u8; 10] = [
    opcode::SET,
    opcode::ADD,
    opcode::REPLACE,
    opcode::SETQ,
    opcode::ADDQ,
    opcode::REPLACEQ,
    opcode::APPEND,
    opcode::PREPEND,
    opcode::APPENDQ,
    opcode::PREPENDQ,
];

fn with_program(test: impl FnOnce(&Address)) {
    let (mut program, address) = Program::start(&["-t", "2"]);
    test(&address);
    assert!(program.is_running());
    BinaryClient::connect(&address).in_step();
}

/// Returns a storage packet with the extras that its opcode requires.
fn storing(code: u8) -> Frame {
    let joins = [
        opcode::APPEND,
        opcode::PREPEND,
        opcode::APPENDQ,
        opcode::PREPENDQ,
    ];
    let frame = Frame::new(code).key("key");
    if joins.contains(&code) {
        frame
    } else {
        frame.extras([0; 8])
    }
}

#[test]
fn cve_2011_4971_body_lengths_that_are_negative_when_signed() {
    with_program(|address| {
        for code in STORING {
            for len in [0xffff_ffff, 0xffff_ff50, 0x8000_0000] {
                let mut client = BinaryClient::connect(address);
                let frame = storing(code).body_len(len);
                client.closed_with(&frame, status::INVALID, "Invalid arguments");
            }
        }
    });
}

#[test]
fn fixed_1_6_42_a_body_above_the_largest_item_ends_the_connection() {
    const LARGEST: u32 = 1 << 30;
    with_program(|address| {
        for code in (0x00..=0x24).chain([0x40, 0xff]) {
            for len in [LARGEST + 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
                let mut client = BinaryClient::connect(address);
                let frame = Frame::new(code).body_len(len);
                client.closed_with(&frame, status::INVALID, "Invalid arguments");
            }
        }
        let mut client = BinaryClient::connect(address);
        let frame = storing(opcode::SET).body_len(LARGEST);
        client.refused(&frame, status::TOO_LARGE, "Too large.");
    });
}

#[test]
fn cve_2016_8704_append_with_key_and_extras_longer_than_the_body() {
    with_program(|address| {
        let codes = [
            opcode::APPEND,
            opcode::PREPEND,
            opcode::APPENDQ,
            opcode::PREPENDQ,
        ];
        for code in codes {
            let frame = Frame::new(code).key("k".repeat(250)).body_len(1);
            BinaryClient::connect(address).closed_with(&frame, status::UNKNOWN, UNKNOWN);
        }
    });
}

#[test]
fn cve_2016_8705_set_with_key_and_extras_longer_than_the_body() {
    with_program(|address| {
        for code in STORING {
            let frame = Frame::new(code).key("k").extras([0; 8]).body_len(8);
            BinaryClient::connect(address).closed_with(&frame, status::UNKNOWN, UNKNOWN);
        }
    });
}

#[test]
fn cve_2016_8706_authentication_with_a_key_longer_than_the_body() {
    with_program(|address| {
        for code in [opcode::SASL_AUTH, opcode::SASL_STEP] {
            let frame = Frame::new(code).key("k".repeat(200)).body_len(32);
            BinaryClient::connect(address).closed_with(&frame, status::UNKNOWN, UNKNOWN);
        }
    });
}

#[test]
fn cve_2017_9951_lengths_compared_with_the_wrong_sign() {
    with_program(|address| {
        for code in [opcode::SET, opcode::ADD, opcode::GET] {
            let frame = Frame::new(code).extras([0; 8]).key_len(0xffff);
            let short = frame.clone().body_len(0x0001_0006);
            BinaryClient::connect(address).closed_with(&short, status::UNKNOWN, UNKNOWN);
            let negative = frame.body_len(0xffff_ffff);
            BinaryClient::connect(address).closed_with(&negative, status::INVALID, INVALID);
        }
    });
}

#[test]
fn cve_2020_10931_extras_of_the_greatest_length() {
    with_program(|address| {
        for code in 0..=u8::MAX {
            let frame = Frame::new(code).extras([0x41; 255]).key("k");
            let mut client = BinaryClient::connect(address);
            client.send(&frame);
            let reply = client.reply().expect("an answer");
            assert!([status::INVALID, status::UNKNOWN].contains(&reply.status));
        }
    });
}

#[test]
fn cve_2013_0179_and_7290_and_7291_keys_are_logged_within_bounds() {
    let (program, address) = Program::start(&["-vv"]);
    let mut client = BinaryClient::connect(&address);
    let odd: Vec<u8> = (1..=250).collect();
    for code in [opcode::GET, opcode::GETKQ, opcode::DELETE, 0x77] {
        client.send(&Frame::new(code).key(&odd));
    }
    for key in [&odd[..], b"\x1b[2J\0"] {
        client.send(&Frame::new(opcode::SETQ).key(key).extras([0; 8]).value("v"));
    }
    client.send(&Frame::new(opcode::QUIT));
    client.0.read_to_close();
    program.signal("TERM");
    let ended = program.wait();
    assert!(ended.status.success());
    assert!(ended.errors.contains(r"\x1b[2J\x00"), "{}", ended.errors);
    let is_plain = |char: char| char == '\n' || (' '..='~').contains(&char);
    assert!(ended.errors.chars().all(is_plain), "{}", ended.errors);
}

#[test]
fn cve_2018_1000127_and_fixed_1_6_43_one_item_in_very_many_answers() {
    with_program(|address| {
        const TIMES: usize = 70_000;
        // Large enough to be sent by reference.
        let value = "v".repeat(16_384);
        let mut client = BinaryClient::connect(address);
        client.done(&Frame::store(opcode::SET, "key", &value));
        let get = Frame::new(opcode::GETKQ).key("key").bytes();
        let wanted = std::thread::scope(|scope| {
            let mut reader = BinaryClient::connect(address);
            let mut replies = 0;
            let mut writer = reader.0.another_end();
            let gets = get.repeat(TIMES);
            scope.spawn(move || writer.send(gets));
            while replies < TIMES {
                let reply = reader.reply().expect("an answer to each");
                assert_eq!((reply.status, reply.value.len()), (status::OK, value.len()));
                replies += 1;
            }
            replies
        });
        assert_eq!(wanted, TIMES);
        client.done(&Frame::new(opcode::DELETE).key("key"));
        assert_eq!(client.get("key"), None);
    });
}

#[test]
fn fixed_1_6_42_a_set_that_fails_leaves_the_stream_in_step() {
    with_program(|address| {
        let mut client = BinaryClient::connect(address);
        for _ in 0..3 {
            let frame = Frame::store(opcode::SETQ, "key", vec![b'v'; 2_000_000]);
            client.refused(&frame, status::TOO_LARGE, "Too large.");
            client.in_step();
        }
    });
}

#[test]
fn fixed_1_6_42_a_set_that_fails_does_no_harm_to_watchers() {
    with_program(|address| {
        let mut watcher = Client::connect(address);
        watcher.send("watch mutations\r\n");
        watcher.expect("OK\r\n");
        let mut client = BinaryClient::connect(address);
        for value in [2_000_000, 1_048_500] {
            let frame = Frame::store(opcode::SET, "failing", vec![b'v'; value]);
            client.ask(&frame);
        }
        let mut absent = Frame::store(opcode::REPLACE, "absent", "v");
        client.refused(&absent, status::NOT_FOUND, "Not found");
        absent = Frame::store(opcode::SET, "absent", "v").cas(1);
        client.refused(&absent, status::NOT_FOUND, "Not found");
        client.done(&Frame::store(opcode::SET, "last", "v"));
        while !watcher.line().contains("key=last ") {}
    });
}

#[test]
fn mc_bug_102_nul_bytes_and_absurd_lengths() {
    with_program(|address| {
        let mut client = BinaryClient::connect(address);
        client.in_step();
        client.0.send([0; 100]);
        client.0.expect_closed("");
        let mut client = BinaryClient::connect(address);
        let absurd = Frame::new(0xff)
            .extras_len(0xff)
            .key_len(0xffff)
            .body_len(0xffff_ffff);
        client.closed_with(&absurd, status::INVALID, INVALID);
    });
}

#[test]
fn memory_is_bounded_while_nobody_reads_the_answers() {
    let (mut program, address) = Program::start(&["-t", "1", "-m", "64"]);
    let mut client = BinaryClient::connect(&address);
    client.done(&Frame::store(opcode::SET, "key", vec![b'v'; 500_000]));
    let before = program.resident_bytes();
    // Send as many gets as the kernel's buffers take while reading no reply.
    client
        .0
        .send_until_blocked(&Frame::new(opcode::GET).key("key").bytes());
    let after = program.resident_bytes();
    assert!(after < before + (16 << 20), "{before} became {after}");
    assert!(program.is_running());
    BinaryClient::connect(&address).in_step();
}

#[test]
fn the_body_of_a_stat_that_dumps_is_not_executed() {
    with_program(|address| {
        let mut client = BinaryClient::connect(address);
        let hidden = Frame::store(opcode::SETQ, "evil", "1").bytes();
        client.send(&Frame::new(opcode::STAT).key("sizes").value(hidden));
        let end = client.reply().expect("the end of the statistics");
        assert_eq!((end.opcode, end.key.len()), (opcode::STAT, 0));
        client.in_step();
        assert_eq!(client.get("evil"), None);
    });
}
