//! Listening sockets: `-p`, `-l`, `-s` and `-a`.

use super::{config, tcp, unix, wildcards};
use crate::config::{Endpoint, Listener, ProtocolMode};

/// memcached starts with these options too, and listens on nothing.
#[test]
fn there_may_be_no_listener() {
    for options in [
        &["-p", "0"][..],
        &["-p", "0", "-U", "0"],
        &["-p", "0", "-l", "127.0.0.1:5"],
        &["-l", ""],
    ] {
        let config = config(options);
        assert!(config.listeners.is_empty(), "{options:?}");
        assert!(config.udp.is_empty(), "{options:?}");
    }
}

#[test]
fn unix_socket_turns_tcp_off_unless_asked_for() {
    let socket = unix("/run/x", 0o700);
    assert_eq!(
        config(&["-s", "/run/x"]).listeners,
        std::slice::from_ref(&socket)
    );
    assert_eq!(
        config(&["-s /run/x"]).listeners,
        std::slice::from_ref(&socket)
    );
    assert_eq!(
        config(&["-p", "0", "-s", "/run/x"]).listeners,
        std::slice::from_ref(&socket)
    );
    assert_eq!(
        config(&["-s", "/run/x", "-a", "0666"]).listeners,
        [unix("/run/x", 0o666)]
    );
    assert_eq!(
        config(&["-s", "/run/x", "-l", "127.0.0.1"]).listeners,
        [tcp("127.0.0.1:11211"), socket.clone()]
    );
    let mut both = wildcards(5);
    both.push(socket);
    assert_eq!(config(&["-s", "/run/x", "-p", "5"]).listeners, both);
}

#[test]
fn listen_entries_are_understood() {
    let ascii = |address| Listener {
        protocol: ProtocolMode::Ascii,
        ..tcp(address)
    };
    let proxied = |listener| Listener {
        proxy: true,
        ..listener
    };
    let cases: Vec<(&str, Vec<Listener>)> = vec![
        ("127.0.0.1", vec![tcp("127.0.0.1:7")]),
        ("127.0.0.1:99", vec![tcp("127.0.0.1:99")]),
        ("127.0.0.1:-1", vec![tcp("127.0.0.1:0")]),
        ("[::1]:99", vec![tcp("[::1]:99")]),
        ("[::1]", vec![tcp("[::1]:7")]),
        ("::1", vec![tcp("[::1]:7")]),
        ("*", wildcards(7)),
        ("*:8", wildcards(8)),
        ("0.0.0.0", vec![tcp("0.0.0.0:7")]),
        (
            "127.0.0.1,127.0.0.2:8",
            vec![tcp("127.0.0.1:7"), tcp("127.0.0.2:8")],
        ),
        (
            " 127.0.0.1 ; ::1 ,",
            vec![tcp("127.0.0.1:7"), tcp("[::1]:7")],
        ),
        ("127.0.0.1,127.0.0.1:7", vec![tcp("127.0.0.1:7")]),
        ("notls:127.0.0.1:9", vec![tcp("127.0.0.1:9")]),
        ("proxy:127.0.0.1:9", vec![proxied(tcp("127.0.0.1:9"))]),
        ("proxy:127.0.0.1", vec![proxied(tcp("127.0.0.1:7"))]),
        ("proxy:[::1]:9", vec![proxied(tcp("[::1]:9"))]),
        ("proxy:*:8", wildcards(8).into_iter().map(proxied).collect()),
        (
            "tag_a:proxy:notls:unix:/x",
            vec![proxied(unix("/x", 0o700))],
        ),
        (
            "proxy:proto[ascii]:127.0.0.1:9,127.0.0.1:8",
            vec![proxied(ascii("127.0.0.1:9")), tcp("127.0.0.1:8")],
        ),
        ("tag[abc]:127.0.0.1:9", vec![tcp("127.0.0.1:9")]),
        ("tag_abc:127.0.0.1:9", vec![tcp("127.0.0.1:9")]),
        ("proto[ascii]:127.0.0.1:9", vec![ascii("127.0.0.1:9")]),
        ("proto[negotiating]:127.0.0.1", vec![tcp("127.0.0.1:7")]),
        ("proto[auto]:[::1]:9", vec![tcp("[::1]:9")]),
        (
            "notls:proto[ascii]:tag[b]:127.0.0.1:9",
            vec![ascii("127.0.0.1:9")],
        ),
        ("tag[b]:proto[ascii]:*:9", {
            wildcards(9)
                .into_iter()
                .map(|listener| Listener {
                    protocol: ProtocolMode::Ascii,
                    ..listener
                })
                .collect()
        }),
    ];
    for (entry, listeners) in cases {
        assert_eq!(
            config(&["-p", "7", "-l", entry]).listeners,
            listeners,
            "{entry}"
        );
    }
    assert_eq!(
        config(&["-l", "127.0.0.1", "-l", "127.0.0.2", "-l127.0.0.1"]).listeners,
        [tcp("127.0.0.1:11211"), tcp("127.0.0.2:11211")]
    );
}

#[test]
fn ways_to_authenticate_decide_what_is_spoken() {
    let spoken = |args: &[&str]| config(&[&["-p", "7"], args].concat()).listeners[0].protocol;
    assert_eq!(spoken(&["-S"]), ProtocolMode::Binary);
    assert_eq!(spoken(&["-Y", "/x"]), ProtocolMode::Ascii);
    assert_eq!(spoken(&["-Y", "/x", "-B", "auto"]), ProtocolMode::Ascii);
    let both = ["-S", "-Y", "/x"];
    assert_eq!(spoken(&both), ProtocolMode::Auto);
    for (protocol, mode) in [
        ("auto", ProtocolMode::Auto),
        ("ascii", ProtocolMode::Ascii),
        ("binary", ProtocolMode::Binary),
    ] {
        assert_eq!(spoken(&[&both[..], &["-B", protocol]].concat()), mode);
        let listener = format!("proto[{protocol}]:127.0.0.1");
        assert_eq!(spoken(&[&both[..], &["-l", &listener]].concat()), mode);
    }
}

#[test]
fn names_are_resolved_and_v4_is_what_must_work() {
    let listeners = config(&["-l", "localhost:5"]).listeners;
    assert!(!listeners.is_empty());
    let any_v4 = listeners.contains(&tcp("127.0.0.1:5"));
    for listener in listeners {
        match listener.endpoint {
            Endpoint::Tcp(address) => {
                assert!(address.ip().is_loopback());
                assert_eq!(listener.optional, any_v4 && address.is_ipv6());
            }
            Endpoint::Unix { .. } => panic!("a name is no unix socket"),
        }
    }
}
