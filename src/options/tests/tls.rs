//! `-Z`, the `ssl_` words, and the prefixes of `-l` that go with them.

use std::path::PathBuf;

use super::{config, error, same, settings, tcp};
use crate::config::{ClientCertificates, KeyFormat, Listener, TlsSettings, TlsVersion};

const FILES: &str = "ssl_chain_cert=/c.pem,ssl_key=/k.pem";

fn encrypted(address: &str, ask: ClientCertificates) -> Listener {
    Listener {
        tls: Some(ask),
        ..tcp(address)
    }
}

fn plain_settings() -> TlsSettings {
    TlsSettings {
        chain: PathBuf::from("/c.pem"),
        key: Some(PathBuf::from("/k.pem")),
        key_format: KeyFormat::Pem,
        ca: None,
        verify_mode: 0,
        min_version: TlsVersion::V12,
        session_cache: false,
        write_buffer: 16 * 1024,
        ciphers: None,
        kernel: false,
    }
}

#[test]
fn the_words_say_how() {
    let listen = ["-l", "127.0.0.1:7"];
    let plain = config(&[&listen[..], &["-Z", "-o", FILES]].concat());
    assert_eq!(plain.tls, Some(plain_settings()));
    assert_eq!(
        plain.listeners,
        [encrypted("127.0.0.1:7", ClientCertificates::Ignore)]
    );
    same(&["-Z", "-o", FILES], &["--enable-ssl", "-o", FILES]);
    let words = format!(
        "{FILES},ssl_ca_cert=/a.pem,ssl_verify_mode=3,ssl_min_version=3,ssl_keyformat=2,\
         ssl_session_cache,ssl_wbuf_size=64,ssl_ciphers=HIGH,ssl_kernel_tls"
    );
    let (full, process) = settings(&[&listen[..], &["-Z", "-o", &words]].concat());
    assert_eq!(
        full.tls,
        Some(TlsSettings {
            key_format: KeyFormat::Der,
            ca: Some(PathBuf::from("/a.pem")),
            verify_mode: 3,
            min_version: TlsVersion::V13,
            session_cache: true,
            write_buffer: 64 * 1024,
            ciphers: Some("HIGH".to_owned()),
            kernel: true,
            ..plain_settings()
        })
    );
    assert_eq!(
        full.listeners,
        [encrypted("127.0.0.1:7", ClientCertificates::Require)]
    );
    assert_eq!(process.notices.len(), 2, "{:?}", process.notices);
}

#[test]
fn without_the_flag_the_words_do_nothing() {
    let (config, process) = settings(&["-o", FILES]);
    assert_eq!(config.tls, None);
    assert!(
        config
            .listeners
            .iter()
            .all(|listener| listener.tls.is_none())
    );
    assert_eq!(process.notices, ["-o ssl_... has no effect without -Z"]);
}

#[test]
fn the_key_may_be_in_the_file_of_the_certificate() {
    let tls = config(&["-Z", "-o", "ssl_chain_cert=/c.pem"]).tls;
    assert_eq!(
        tls,
        Some(TlsSettings {
            key: None,
            ..plain_settings()
        })
    );
}

#[test]
fn each_listener_may_differ() {
    let words = format!("{FILES},ssl_ca_cert=/a.pem,ssl_verify_mode=1");
    let list = "127.0.0.1:1,notls:127.0.0.1:2,btls:127.0.0.1:3,mtls:127.0.0.1:4,unix:/run/x";
    let listeners = config(&["-Z", "-o", &words, "-l", list]).listeners;
    assert_eq!(
        listeners,
        [
            encrypted("127.0.0.1:1", ClientCertificates::Request),
            tcp("127.0.0.1:2"),
            encrypted("127.0.0.1:3", ClientCertificates::Ignore),
            encrypted("127.0.0.1:4", ClientCertificates::Require),
            super::unix("/run/x", 0o700),
        ]
    );
}

#[test]
fn what_cannot_be_is_refused() {
    let cases: &[(&[&str], u8, &str)] = &[
        (&["-Z"], 64, "ssl_chain_cert"),
        (&["-o", "ssl_min_version=0"], 64, "TLS 1.2"),
        (&["-o", "ssl_min_version=1"], 64, "TLS 1.2"),
        (&["-o", "ssl_min_version=4"], 1, "between 0 and 3"),
        (&["-o", "ssl_verify_mode=4"], 1, "between 0 and 3"),
        (&["-o", "ssl_verify_mode=1"], 64, "ssl_ca_cert"),
        (&["-o", "ssl_keyformat=3"], 1, "between 1 and 2"),
        (&["-o", "ssl_wbuf_size=0"], 1, "between 1 and 65536"),
        (&["-o", "ssl_key"], 1, "Missing ssl_key argument"),
        (&["-o", "ssl_nonsense=1"], 1, "ssl_nonsense"),
        (&["-l", "mtls:127.0.0.1"], 71, "ssl_ca_cert"),
    ];
    for (args, code, part) in cases {
        let files: &[&str] = match args {
            ["-Z"] => &[],
            _ => &["-Z", "-o", FILES],
        };
        let error = error(&[files, args].concat());
        assert_eq!(error.exit_code(), *code, "{args:?}: {error}");
        assert!(error.to_string().contains(part), "{args:?}: {error}");
    }
    for prefix in ["btls", "mtls"] {
        let error = error(&["-l", &format!("{prefix}:127.0.0.1")]);
        assert_eq!(error.exit_code(), 71);
        assert!(
            error.to_string().contains("only when SSL is enabled"),
            "{error}"
        );
    }
}
