//! Hostile scenes in which clients stop in the middle of a handshake, a record or a login, and a
//! scene over UDP.

use std::fs;
use std::sync::Arc;

use crate::failure::Failure;
use crate::memory::hostile::plan::{ExtraLoad, Group, ITEMS, Plan, Resources, Scene, Security};
use crate::memory::hostile::script::{Script, keys_command, packet, packet_head};
use crate::tls::{Certificate, TlsClient, TlsOptions};

const FEW: usize = 300;
const MANY: usize = 1000;
const RECORD_BYTES: usize = 16 * 1024;
/// Number of parts of a handshake message that never ends.
const ENDLESS_RECORDS: u64 = 16;
const SASL_MECHANISMS: u8 = 0x20;
const SASL_AUTH: u8 = 0x21;
const SASL_STEP: u8 = 0x22;
const LOGIN_BYTES: usize = 1_000_000;
/// A user, in the format of both password files.
const USERS: &str = "bench:secret\n";
const LOGIN: &str = "set login 0 0 12\r\nbench secret";

/// All scenes of this family.
pub(super) const SCENES: [Scene; 6] = [
    Scene {
        name: "tls-handshakes",
        help: "1,000 connections stop in the TLS handshake (needs openssl)",
        plan: |resources| {
            let (plan, config) = tls(resources)?;
            let group = half_handshakes(&config)?;
            Ok(Plan {
                groups: vec![group],
                ..plan
            })
        },
    },
    Scene {
        name: "tls-records",
        help: "1,000 connections stop in the first TLS record after the handshake",
        plan: |resources| {
            let (plan, config) = tls(resources)?;
            let group = Group {
                security: Security::RawAfterHandshake(config),
                ..Group::new(MANY, |_| {
                    Script::new(record(0x17, 3, RECORD_BYTES, &[9; 16_000]))
                })
            };
            Ok(Plan {
                groups: vec![group],
                ..plan
            })
        },
    },
    Scene {
        name: "tls-get",
        help: "300 connections get 1,000 keys of 10 KB each over TLS and never read",
        plan: |resources| {
            let (plan, config) = tls(resources)?;
            let group = Group {
                security: Security::Records(config),
                ..Group::new(FEW, |_| Script::new(keys_command("get", 0..ITEMS)))
            };
            Ok(Plan {
                groups: vec![group],
                ..plan
            })
        },
    },
    Scene {
        name: "passwords",
        help: "1,000 connections stop in the login of -Y",
        plan: |resources| passwords(resources, half_logins()),
    },
    Scene {
        name: "sasl",
        help: "1,000 connections stop in a SASL packet (-Y alone for memcached)",
        plan: |resources| passwords(resources, half_sasl()),
    },
    Scene {
        name: "udp",
        help: "200,000 datagrams: garbage, and requests with long replies",
        plan: |resources| {
            let port = resources.second.port().to_string();
            Ok(Plan {
                flags: vec!["-U".to_string(), port],
                extra_load: Some(ExtraLoad::Datagrams),
                ..Plan::new(Vec::new())
            })
        },
    },
];

/// Returns a plan with TLS at the second address and plain text at the first.
fn tls(resources: &Resources) -> Result<(Plan, TlsClient), Failure> {
    let certificate = Certificate::make(&resources.folder)?;
    let files = certificate.words();
    let listener = resources.second.to_string();
    let plan = Plan {
        flags: ["-Z", "-o", &files, "-l", &listener]
            .map(String::from)
            .to_vec(),
        listen: "notls:127.0.0.1",
        attack_second: true,
        ..Plan::new(Vec::new())
    };
    let client = TlsOptions::default().client(&certificate.chain, false)?;
    Ok((plan, client))
}

/// Returns a TLS record with the content `bytes`. Its header announces `announced` bytes.
fn record(kind: u8, minor: u8, announced: usize, bytes: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 3, minor];
    record.extend_from_slice(&(announced as u16).to_be_bytes());
    record.extend_from_slice(bytes);
    record
}

fn half_handshakes(client: &TlsClient) -> Result<Group, Failure> {
    let hello = client.hello()?;
    // A ClientHello of 16 MiB, spread over many records.
    let mut begin = vec![1, 0xff, 0xff, 0xff];
    begin.resize(RECORD_BYTES, 0);
    let body: Arc<[u8]> = record(0x16, 1, RECORD_BYTES, &[0; RECORD_BYTES]).into();
    let endless = Script::new(record(0x16, 1, RECORD_BYTES, &begin))
        .then(&body, body.len() as u64 * ENDLESS_RECORDS);
    let kinds = vec![
        Script::new(&hello[..3]),
        Script::new(&hello[..hello.len() / 2]),
        Script::new(&hello[..hello.len() - 1]),
        Script::new(hello),
        Script::new(record(0x16, 1, RECORD_BYTES, &[1; 16_000])),
        endless,
    ];
    Ok(Group::in_turn(MANY, kinds))
}

/// Returns a plan with a user for text clients and, on the server under test, for SASL too.
fn passwords(resources: &Resources, groups: Vec<Group>) -> Result<Plan, Failure> {
    let file = resources.folder.join("users");
    let writing = Failure::io(format!("writing {}", file.display()));
    fs::write(&file, USERS).map_err(writing)?;
    let file = file.display().to_string();
    Ok(Plan {
        flags: vec!["-Y".to_string(), file.clone()],
        ours_flags: vec!["-S".to_string()],
        environment: vec![("MEMCACHED_SASL_PWDB".to_string(), file)],
        login: LOGIN,
        ..Plan::new(groups)
    })
}

fn half_logins() -> Vec<Group> {
    let body: Arc<[u8]> = Arc::from(vec![b'x'; RECORD_BYTES]);
    let long = format!("set login 0 0 {LOGIN_BYTES}\r\n").into_bytes();
    let longest = b"set login 0 0 2147483646\r\nbench ".to_vec();
    let kinds = vec![
        Script::new(*b"set login 0 0 12\r\nbench sec"),
        Script::new(*b"set login 0 0 12"),
        Script::new(long).then(&body, LOGIN_BYTES as u64 - 1),
        Script::new(longest).then(&body, LOGIN_BYTES as u64),
        Script::new(Vec::new()).then(&body, LOGIN_BYTES as u64),
    ];
    vec![Group::in_turn(MANY, kinds)]
}

fn half_sasl() -> Vec<Group> {
    let body: Arc<[u8]> = Arc::from(vec![b'x'; RECORD_BYTES]);
    let whole = packet(SASL_AUTH, b"", b"PLAIN", b"\0bench\0wrong");
    let long = |opcode| packet_head(opcode, b"", b"PLAIN", LOGIN_BYTES);
    let kinds = vec![
        Script::new(&whole[..10]),
        Script::new(&whole[..whole.len() - 1]),
        Script::new(&packet(SASL_MECHANISMS, b"", b"", b"")[..20]),
        Script::new(long(SASL_AUTH)).then(&body, LOGIN_BYTES as u64 - 1),
        Script::new(long(SASL_STEP)).then(&body, LOGIN_BYTES as u64 - 1),
    ];
    vec![Group::in_turn(MANY, kinds)]
}
