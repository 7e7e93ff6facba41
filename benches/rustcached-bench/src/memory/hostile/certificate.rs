//! The certificate of a server under test, and TLS clients that trust it.
//!
//! The `openssl` program creates the certificate, since the package can create certificates only in
//! its tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::failure::Failure;

const NAME: &str = "localhost";

/// A self-signed certificate for `localhost` and its key, in PEM files.
#[derive(Debug)]
pub(super) struct Certificate {
    /// Path of the certificate.
    pub(super) chain: PathBuf,
    /// Path of the key.
    pub(super) key: PathBuf,
}

impl Certificate {
    /// Creates both files in a folder.
    pub(super) fn make(folder: &Path) -> Result<Self, Failure> {
        let certificate = Certificate {
            chain: folder.join("chain.pem"),
            key: folder.join("key.pem"),
        };
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
            .args(["ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(&certificate.key)
            .arg("-out")
            .arg(&certificate.chain)
            .stdin(Stdio::null())
            .output()
            .map_err(Failure::io("running openssl"))?;
        if output.status.success() {
            return Ok(certificate);
        }
        let why = String::from_utf8_lossy(&output.stderr).trim().to_string();
        Err(Failure::Usage(format!("openssl: {why}")))
    }

    /// Returns a client configuration that trusts only this certificate.
    pub(super) fn trusting(&self) -> Result<Arc<ClientConfig>, Failure> {
        let pem = fs::read(&self.chain).map_err(Failure::io("reading the certificate"))?;
        let bad = |what: String| Failure::Usage(format!("the certificate: {what}"));
        let own = CertificateDer::from_pem_slice(&pem).map_err(|error| bad(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        roots.add(own).map_err(|error| bad(error.to_string()))?;
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| bad(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

/// Returns the client's side of a new TLS connection.
pub(super) fn client(config: &Arc<ClientConfig>) -> Result<ClientConnection, Failure> {
    let name = ServerName::try_from(NAME).expect("a valid name");
    let made = ClientConnection::new(Arc::clone(config), name);
    made.map_err(|error| Failure::Usage(format!("TLS: {error}")))
}

/// Returns the first message of a handshake, with its record header.
pub(super) fn client_hello(config: &Arc<ClientConfig>) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let written = client(config)?.write_tls(&mut bytes);
    written.map_err(Failure::io("making a ClientHello"))?;
    Ok(bytes)
}
