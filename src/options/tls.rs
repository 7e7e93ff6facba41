//! Validates `-Z` and the `ssl_` words of `-o`.

use std::path::PathBuf;

use super::error::CliError;
use crate::config::{ClientCertificates, KeyFormat, TlsSettings, TlsVersion};

/// Default maximum of encrypted output that a connection buffers, in bytes.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// `ssl_min_version` counts from TLS 1.0.
const VERSION_1_2: i64 = 2;
const VERSION_1_3: i64 = 3;
/// Value of `ssl_keyformat` for DER.
const KEY_FORMAT_DER: i64 = 2;

/// The raw arguments that concern TLS.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RawTlsArgs {
    /// `-Z`.
    pub(super) on: bool,
    /// Path of the certificate chain (`ssl_chain_cert`).
    pub(super) chain: Option<PathBuf>,
    /// Path of the private key (`ssl_key`).
    pub(super) key: Option<PathBuf>,
    /// Number of the key format (`ssl_keyformat`).
    pub(super) key_format: Option<i64>,
    /// Requirement for client certificates, a number (`ssl_verify_mode`).
    pub(super) verify_mode: Option<i64>,
    /// Path of the CA certificates for client certificates (`ssl_ca_cert`).
    pub(super) ca: Option<PathBuf>,
    /// Cipher suites (`ssl_ciphers`); without effect.
    pub(super) ciphers: Option<String>,
    /// Maximum of encrypted output that a connection buffers, in KiB.
    pub(super) write_buffer_kib: Option<i64>,
    /// `ssl_session_cache`.
    pub(super) session_cache: bool,
    /// `ssl_kernel_tls`; without effect.
    pub(super) kernel: bool,
    /// Lowest TLS version, counted from TLS 1.0 (`ssl_min_version`).
    pub(super) min_version: Option<i64>,
}

impl RawTlsArgs {
    /// Returns the TLS settings, `None` if TLS is off.
    ///
    /// # Errors
    ///
    /// A required file is missing, or a value is not supported.
    pub(super) fn settings(&self) -> Result<Option<TlsSettings>, CliError> {
        if !self.on {
            return Ok(None);
        }
        let wrong = |text: &str| Err(CliError::limit(text));
        let Some(chain) = self.chain.clone() else {
            return wrong("-Z needs a certificate: -o ssl_chain_cert=<file>,ssl_key=<file>");
        };
        if self.ask() != ClientCertificates::Ignore && self.ca.is_none() {
            return wrong("ssl_verify_mode needs -o ssl_ca_cert=<file> to verify with");
        }
        let min_version = match self.min_version {
            None | Some(VERSION_1_2) => TlsVersion::V12,
            Some(VERSION_1_3) => TlsVersion::V13,
            Some(_) => return wrong("ssl_min_version must be 2 (TLS 1.2) or 3 (TLS 1.3)"),
        };
        let write_buffer = self
            .write_buffer_kib
            .and_then(|kib| usize::try_from(kib).ok());
        Ok(Some(TlsSettings {
            chain,
            key: self.key.clone(),
            key_format: match self.key_format {
                Some(KEY_FORMAT_DER) => KeyFormat::Der,
                _ => KeyFormat::Pem,
            },
            ca: self.ca.clone(),
            verify_mode: u8::try_from(self.verify_mode.unwrap_or(0)).unwrap_or(0),
            min_version,
            session_cache: self.session_cache,
            write_buffer: write_buffer.map_or(WRITE_BUFFER_BYTES, |kib| kib * 1024),
            ciphers: self.ciphers.clone(),
            kernel: self.kernel,
        }))
    }

    /// Returns the default requirement of TLS listeners for client certificates
    /// (`-o ssl_verify_mode`).
    pub(super) fn ask(&self) -> ClientCertificates {
        match self.verify_mode {
            None | Some(0) => ClientCertificates::Ignore,
            Some(1) => ClientCertificates::Request,
            Some(_) => ClientCertificates::Require,
        }
    }

    /// Returns notices about options that have no effect.
    pub(super) fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if !self.on && *self != Self::default() {
            notices.push("-o ssl_... has no effect without -Z".to_owned());
        }
        if self.ciphers.is_some() {
            notices.push(
                "-o ssl_ciphers has no effect: there are only the suites of TLS 1.3 and those \
                 of 1.2 with forward secrecy and authenticated encryption"
                    .to_owned(),
            );
        }
        if self.kernel {
            notices.push("-o ssl_kernel_tls has no effect".to_owned());
        }
        notices
    }
}
