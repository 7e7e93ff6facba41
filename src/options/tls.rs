//! TLS settings under construction: `-Z` and the `ssl_` words of `-o`.

use std::path::PathBuf;

use super::error::CliError;
use crate::config::{ClientCertificates, TlsSettings, TlsVersion};

/// `ssl_min_version` counts from TLS 1.0.
const VERSION_1_2: i64 = 2;
const VERSION_1_3: i64 = 3;

/// TLS settings under construction.
#[derive(Default)]
pub(super) struct TlsDraft {
    /// `-Z`.
    pub(super) on: bool,
    /// Path of the certificate chain (`ssl_chain_cert`).
    pub(super) chain: Option<PathBuf>,
    /// Lowest TLS version, counted from TLS 1.0 (`ssl_min_version`). Judged only
    /// if TLS is on.
    pub(super) min_version: Option<i64>,
    /// The other words; `None` if none of them was given.
    words: Option<TlsSettings>,
}

impl TlsDraft {
    /// Returns the settings that the other words change.
    pub(super) fn words(&mut self) -> &mut TlsSettings {
        self.words.get_or_insert_default()
    }

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
        if self.ask() != ClientCertificates::Ignore && !self.can_verify() {
            return wrong("ssl_verify_mode needs -o ssl_ca_cert=<file> to verify with");
        }
        let min_version = match self.min_version {
            None | Some(VERSION_1_2) => TlsVersion::V12,
            Some(VERSION_1_3) => TlsVersion::V13,
            Some(_) => return wrong("ssl_min_version must be 2 (TLS 1.2) or 3 (TLS 1.3)"),
        };
        Ok(Some(TlsSettings {
            chain,
            min_version,
            ..self.words.clone().unwrap_or_default()
        }))
    }

    /// Returns the default requirement of TLS listeners for client certificates
    /// (`-o ssl_verify_mode`).
    pub(super) fn ask(&self) -> ClientCertificates {
        match self.words.as_ref().map_or(0, |words| words.verify_mode) {
            0 => ClientCertificates::Ignore,
            1 => ClientCertificates::Request,
            _ => ClientCertificates::Require,
        }
    }

    /// Returns whether there are CA certificates for client certificates.
    pub(super) fn can_verify(&self) -> bool {
        self.words.as_ref().is_some_and(|words| words.ca.is_some())
    }

    /// Returns notices about options that have no effect.
    pub(super) fn notices(&self) -> Vec<String> {
        let given = self.words.is_some() || self.chain.is_some() || self.min_version.is_some();
        let words = self.words.as_ref();
        let notices = [
            (given && !self.on, "-o ssl_... has no effect without -Z"),
            (
                words.is_some_and(|words| words.ciphers.is_some()),
                "-o ssl_ciphers has no effect: there are only the suites of TLS 1.3 and those \
                 of 1.2 with forward secrecy and authenticated encryption",
            ),
            (
                words.is_some_and(|words| words.kernel),
                "-o ssl_kernel_tls has no effect",
            ),
        ];
        let notices = notices.into_iter().filter(|(holds, _)| *holds);
        notices.map(|(_, text)| text.to_owned()).collect()
    }
}
