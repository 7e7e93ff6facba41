//! Hostile scenes in which clients begin requests and do not complete them.

use std::sync::Arc;

use crate::memory::hostile::plan::{Group, Plan, Reading, Scene, flags};
use crate::memory::hostile::script::{Script, packet_head};

const MANY: usize = 1000;
const MIB: usize = 1 << 20;
/// Bytes by which values are below the maximum item size: room for key, flags and header.
const ITEM_ROOM: usize = 1024;
const SET: u8 = 0x01;
/// Bytes of a line that never ends.
const LINE_BYTES: u64 = 512 * 1024;
const ANNOUNCED: usize = 100 * MIB;
const FEW_BYTES: usize = 1000;
/// Number of connections that create prefixes, gets per round, and rounds per connection.
const PREFIX_MAKERS: usize = 4;
const PREFIX_GETS: u64 = 20;
const PREFIX_ROUNDS: u64 = 12_500;
const IDLE: usize = 10_000;

/// All scenes of this family.
pub(super) const SCENES: [Scene; 7] = [
    Scene {
        name: "half-values",
        help: "1,000 connections send values of 100 KB but for the last byte",
        plan: |_| Ok(half_values(100_000, 99_999)),
    },
    Scene {
        name: "half-values-1m",
        help: "The same with values of nearly 1 MiB, the item limit",
        plan: |_| Ok(half_values(MIB - ITEM_ROOM, MIB - ITEM_ROOM - 1)),
    },
    Scene {
        name: "half-values-100m",
        help: "1,000 connections announce 100 MiB, with -I 128m, and send 1,000 bytes",
        plan: |_| {
            Ok(Plan {
                flags: flags(&["-I", "128m"]),
                ..half_values(ANNOUNCED, FEW_BYTES)
            })
        },
    },
    Scene {
        name: "endless-lines",
        help: "1,000 connections send 512 KiB each without a newline",
        plan: |_| Ok(endless_lines()),
    },
    Scene {
        name: "torn-gets",
        help: "1,000 connections send 2 to 8 KB of a long get",
        plan: |_| Ok(torn_gets()),
    },
    Scene {
        name: "prefixes",
        help: "1,000,000 prefixes of 200 bytes are made while stats detail is on",
        plan: |_| Ok(prefixes()),
    },
    Scene {
        name: "partial",
        help: "10,000 connections send a part of a command each",
        plan: |_| Ok(partial()),
    },
];

/// Returns a plan with incomplete sets in all three protocols: values of `announced` bytes, of
/// which `sent` bytes are sent.
fn half_values(announced: usize, sent: usize) -> Plan {
    let body: Arc<[u8]> = Arc::from(vec![b'x'; 64 * 1024]);
    let script = move |index: usize| {
        let key = format!("half{index}");
        let head = match index % 3 {
            0 => format!("set {key} 0 0 {announced}\r\n").into_bytes(),
            1 => format!("ms {key} {announced}\r\n").into_bytes(),
            _ => packet_head(SET, &[0; 8], key.as_bytes(), announced),
        };
        Script::new(head).then(&body, sent as u64)
    };
    Plan::new(vec![Group::new(MANY, script)])
}

fn endless_lines() -> Plan {
    let kinds: [(&str, &[u8]); 6] = [
        ("", b"a"),
        ("get ", b"kkkkkkkk "),
        ("get ", b"k"),
        ("mg key ", b"O123 "),
        ("gat 0 ", b"kkkkkkkk "),
        ("set key 0 0 ", b"0"),
    ];
    let scripts = kinds.map(|(head, unit)| {
        let body: Arc<[u8]> = Arc::from(unit.repeat(16 * 1024 / unit.len()));
        Script::new(head.as_bytes()).then(&body, LINE_BYTES)
    });
    Plan::new(vec![Group::in_turn(MANY, scripts.to_vec())])
}

fn torn_gets() -> Plan {
    let mut line = b"get".to_vec();
    while line.len() < 8192 {
        line.extend_from_slice(format!(" some-longer-key-{}", line.len()).as_bytes());
    }
    let scripts = (2..=8).map(|kb| Script::new(&line[..kb * 1024]));
    Plan::new(vec![Group::in_turn(MANY, scripts.collect())])
}

fn prefixes() -> Plan {
    let script = |index: usize| {
        let first = index as u64 * PREFIX_ROUNDS;
        Script::generated(first..first + PREFIX_ROUNDS, |round, out| {
            for number in round * PREFIX_GETS..(round + 1) * PREFIX_GETS {
                out.extend_from_slice(format!("get {number:0>200}:k\r\n").as_bytes());
            }
        })
    };
    let makers = Group {
        reading: Reading::All,
        ..Group::new(PREFIX_MAKERS, script)
    };
    Plan {
        warm_up: |client| client.command("stats detail on").map(drop),
        ..Plan::new(vec![makers])
    }
}

fn partial() -> Plan {
    let lines = [
        "g",
        "get",
        "get k",
        "get k0\r",
        "gat 0 k0",
        "mg k0 v ",
        "stats ",
        "incr k0 1",
        "set half 0 0 10\r\nabc",
        "ms half 10\r\nabc",
        "lru_crawler metadump",
        "verbosity",
    ];
    let header = packet_head(SET, &[0; 8], b"half", 10);
    let packets = [&header[..1], &header[..10], &header[..24], &header];
    let parts = lines.iter().map(|line| line.as_bytes()).chain(packets);
    let scripts = parts.map(Script::new).collect();
    Plan::new(vec![Group::in_turn(IDLE, scripts)])
}
