//! Hostile scenes in which clients request large output and do not read it.

use std::sync::Arc;

use crate::client::Client;
use crate::failure::Failure;
use crate::memory::hostile::paced_client::{BIG_ITEMS, big_size};
use crate::memory::hostile::plan::{ExtraLoad, Group, ITEMS, Plan, Reading, Scene};
use crate::memory::hostile::script::{Script, keys_command, packet};

const FEW: usize = 300;
const MANY: usize = 3000;
/// Keys per `gat` line: memcached accepts long lines only for `get` and `gets`.
const GAT_KEYS: u32 = 250;
const GETQ: u8 = 0x09;
const NOOP: u8 = 0x0a;
const STAT: u8 = 0x10;
/// Number of requests for statistics per connection.
const STATS_TIMES: u64 = 4000;
const PREFIXES: u32 = 20_000;
const DUMPERS: usize = 50;
/// memcached's maximum number of watchers.
const WATCHERS: usize = 20;
/// Gets of large values per slow reader.
const SLOW_GETS: u32 = 100;

/// All scenes of this family.
pub(super) const SCENES: [Scene; 12] = [
    Scene {
        name: "get-300",
        help: "300 connections get 1,000 keys of 10 KB each and never read",
        plan: |_| Ok(get(FEW, "get")),
    },
    Scene {
        name: "get",
        help: "The same with 3,000 connections",
        plan: |_| Ok(get(MANY, "get")),
    },
    Scene {
        name: "gets",
        help: "The same with gets",
        plan: |_| Ok(get(MANY, "gets")),
    },
    Scene {
        name: "gat",
        help: "The same with gat, in lines of 250 keys",
        plan: |_| Ok(multiget(MANY, gat_lines())),
    },
    Scene {
        name: "getq",
        help: "The same with quiet binary gets and a noop",
        plan: |_| Ok(multiget(MANY, getq_packets())),
    },
    Scene {
        name: "mg",
        help: "The same with lines of mg k v",
        plan: |_| Ok(multiget(MANY, mg_lines())),
    },
    Scene {
        name: "old-values",
        help: "300 slow readers of values of 100 KB to 1 MB that are overwritten, deleted and evicted",
        plan: |_| Ok(old_values()),
    },
    Scene {
        name: "stats",
        help: "300 connections pipeline all groups of stats and never read",
        plan: |_| Ok(stats()),
    },
    Scene {
        name: "stats-detail",
        help: "300 connections pipeline stats detail dump of 20,000 prefixes and never read",
        plan: |_| Ok(stats_detail()),
    },
    Scene {
        name: "metadump",
        help: "50 connections ask for a dump of all keys and never read",
        plan: |_| Ok(dump("lru_crawler metadump all\r\n")),
    },
    Scene {
        name: "mgdump",
        help: "The same with mgdump",
        plan: |_| Ok(dump("lru_crawler mgdump all\r\n")),
    },
    Scene {
        name: "watchers",
        help: "20 watchers that never read, with traffic",
        plan: |_| Ok(watchers()),
    },
];

fn multiget(count: usize, request: Vec<u8>) -> Plan {
    let script = Script::new(request);
    Plan::new(vec![Group::new(count, move |_| script.clone())])
}

fn get(count: usize, verb: &str) -> Plan {
    multiget(count, keys_command(verb, 0..ITEMS))
}

fn gat_lines() -> Vec<u8> {
    let starts = (0..ITEMS).step_by(GAT_KEYS as usize);
    let lines = starts.map(|start| keys_command("gat 0", start..start + GAT_KEYS));
    lines.flatten().collect()
}

fn getq_packets() -> Vec<u8> {
    let packets = (0..ITEMS).map(|key| packet(GETQ, b"", format!("k{key}").as_bytes(), b""));
    packets
        .chain([packet(NOOP, b"", b"", b"")])
        .flatten()
        .collect()
}

fn mg_lines() -> Vec<u8> {
    let lines = (0..ITEMS).map(|key| format!("mg k{key} k v\r\n"));
    lines.collect::<String>().into_bytes()
}

fn old_values() -> Plan {
    let script = |index: usize| {
        let keys = (0..SLOW_GETS).map(|n| (index as u32 * 7 + n) % BIG_ITEMS);
        let lines = keys.map(|key| format!("get big{key}\r\n"));
        Script::new(lines.collect::<String>().into_bytes())
    };
    let readers = Group {
        reading: Reading::Slowly,
        ..Group::new(FEW, script)
    };
    Plan {
        warm_up: |client| {
            for key in 0..BIG_ITEMS {
                set(client, &format!("big{key}"), big_size(u64::from(key)))?;
            }
            Ok(())
        },
        extra_load: Some(ExtraLoad::Churn),
        ..Plan::new(vec![readers])
    }
}

fn set(client: &mut Client, key: &str, size: usize) -> Result<(), Failure> {
    let value = "x".repeat(size);
    let reply = client.command(&format!("set {key} 0 0 {size}\r\n{value}"))?;
    match reply.as_str() {
        "STORED" => Ok(()),
        _ => Err(Failure::Server(format!("set of {key}: {reply}"))),
    }
}

fn stats() -> Plan {
    let groups = [
        "",
        " items",
        " slabs",
        " conns",
        " settings",
        " sizes",
        " cachedump 1 0",
        " cachedump 10 0",
    ];
    let lines = groups.map(|group| format!("stats{group}\r\n").into_bytes());
    let packets = ["", "items", "slabs"].map(|key| packet(STAT, b"", key.as_bytes(), b""));
    let requests = lines.into_iter().chain(packets);
    let kinds = requests.map(|request| Script::repeated(&request, STATS_TIMES));
    Plan::new(vec![Group::in_turn(FEW, kinds.collect())])
}

fn stats_detail() -> Plan {
    let script = Script::repeated(b"stats detail dump\r\n", STATS_TIMES);
    Plan {
        warm_up: |client| {
            client.command("stats detail on")?;
            for prefix in 0..PREFIXES {
                client.command(&format!("get prefix-number-{prefix}:key"))?;
            }
            Ok(())
        },
        ..Plan::new(vec![Group::in_turn(FEW, vec![script])])
    }
}

fn dump(request: &str) -> Plan {
    let request: Arc<[u8]> = Arc::from(request.as_bytes());
    Plan {
        // Many items make a dump long.
        fill: (100, 2000),
        ..Plan::new(vec![Group::new(DUMPERS, move |_| {
            Script::new(Arc::clone(&request))
        })])
    }
}

fn watchers() -> Plan {
    let request = "watch fetchers mutations evictions connevents deletions\r\n";
    let script = Script::new(request.as_bytes());
    Plan {
        extra_load: Some(ExtraLoad::Traffic),
        ..Plan::new(vec![Group::in_turn(WATCHERS, vec![script])])
    }
}
