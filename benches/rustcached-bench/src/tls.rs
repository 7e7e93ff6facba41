//! TLS of the generator's clients and of the servers that it starts.
//!
//! A client offers one protocol version and one cipher, so that two servers negotiate the same, and
//! verifies the server's certificate. Without a given certificate, the `openssl` program makes one,
//! since the package can create certificates only in its tests.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::failure::Failure;

/// The name in a certificate that the generator makes.
const NAME: &str = "localhost";
/// Number of session tickets that a client keeps.
const TICKETS: usize = 256;

/// A protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Version {
    /// TLS 1.2.
    #[value(name = "1.2")]
    V12,
    /// TLS 1.3.
    #[value(name = "1.3")]
    V13,
}

/// A cipher for the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Cipher {
    /// AES-128-GCM.
    Aes128,
    /// AES-256-GCM.
    Aes256,
    /// ChaCha20-Poly1305.
    Chacha20,
}

/// Options of clients that connect over TLS.
#[derive(Clone, Debug, clap::Args)]
pub struct TlsOptions {
    /// Connect over TLS, and verify the certificate of the server
    #[arg(long, help_heading = "TLS")]
    pub tls: bool,
    /// CA certificates in PEM format that the certificate of the server is verified against
    #[arg(long, value_name = "FILE", requires = "tls", help_heading = "TLS")]
    pub tls_ca: Option<PathBuf>,
    /// Name that the certificate of the server must have
    #[arg(long, value_name = "NAME", default_value = NAME, help_heading = "TLS")]
    pub tls_name: String,
    /// The only protocol version to offer
    #[arg(long, value_enum, default_value_t = Version::V13, help_heading = "TLS")]
    pub tls_version: Version,
    /// The only cipher to offer
    #[arg(long, value_enum, default_value_t = Cipher::Aes256, help_heading = "TLS")]
    pub tls_cipher: Cipher,
}

impl Default for TlsOptions {
    fn default() -> Self {
        TlsOptions {
            tls: false,
            tls_ca: None,
            tls_name: NAME.to_string(),
            tls_version: Version::V13,
            tls_cipher: Cipher::Aes256,
        }
    }
}

impl TlsOptions {
    /// Returns the client that verifies certificates against `ca`. With `resume`, it resumes
    /// sessions; otherwise every handshake is a full one.
    pub fn client(&self, ca: &Path, resume: bool) -> Result<TlsClient, Failure> {
        let version: &SupportedProtocolVersion = match self.tls_version {
            Version::V12 => &rustls::version::TLS12,
            Version::V13 => &rustls::version::TLS13,
        };
        let cipher = match self.tls_cipher {
            Cipher::Aes128 => "AES_128_GCM",
            Cipher::Aes256 => "AES_256_GCM",
            Cipher::Chacha20 => "CHACHA20_POLY1305",
        };
        let mut provider = default_provider();
        let suites = &mut provider.cipher_suites;
        suites.retain(|suite| format!("{:?}", suite.suite()).contains(cipher));
        let wrong = |error: rustls::Error| Failure::Usage(format!("TLS: {error}"));
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .map_err(wrong)?
            .with_root_certificates(read_roots(ca)?)
            .with_no_client_auth();
        config.resumption = match resume {
            true => Resumption::in_memory_sessions(TICKETS),
            false => Resumption::disabled(),
        };
        let name = ServerName::try_from(self.tls_name.clone());
        let name = name
            .map_err(|error| Failure::Usage(format!("--tls-name {:?}: {error}", self.tls_name)))?;
        Ok(TlsClient {
            config: Arc::new(config),
            name,
        })
    }

    /// Returns the client for a server that runs already; `None` without TLS. Fails if there are no
    /// CA certificates to verify its certificate against.
    pub fn client_of_running(&self) -> Result<Option<TlsClient>, Failure> {
        match (self.tls, &self.tls_ca) {
            (false, _) => Ok(None),
            (true, Some(ca)) => self.client(ca, false).map(Some),
            (true, None) => Err(Failure::Usage(
                "--tls needs --tls-ca FILE, to verify the certificate of the server".to_string(),
            )),
        }
    }
}

fn read_roots(path: &Path) -> Result<RootCertStore, Failure> {
    let wrong =
        |what: String| Failure::Usage(format!("CA certificates {}: {what}", path.display()));
    let pem = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| wrong(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(wrong("no certificate in it".to_string())),
        false => Ok(roots),
    }
}

/// Configuration of TLS connections to a server.
#[derive(Clone, Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl PartialEq for TlsClient {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.name == other.name
    }
}

impl Eq for TlsClient {}

impl TlsClient {
    /// Returns the client's side of a new connection.
    pub fn session(&self) -> Result<ClientConnection, rustls::Error> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone())
    }

    /// Returns the first message of a handshake, with its record header.
    pub fn hello(&self) -> Result<Vec<u8>, Failure> {
        let failed = |error: rustls::Error| Failure::Usage(format!("TLS: {error}"));
        let mut bytes = Vec::new();
        let written = self.session().map_err(failed)?.write_tls(&mut bytes);
        written.map_err(Failure::io("making a ClientHello"))?;
        Ok(bytes)
    }
}

/// Returns the negotiated version and cipher suite, such as `TLSv1_3 TLS13_AES_256_GCM_SHA384`.
pub fn negotiated(session: &ClientConnection) -> String {
    let version = session.protocol_version();
    let suite = session.negotiated_cipher_suite();
    match version.zip(suite) {
        Some((version, suite)) => format!("{version:?} {:?}", suite.suite()),
        None => "no TLS session".to_string(),
    }
}

/// A certificate chain and its key, in PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Path of the certificate chain.
    pub chain: PathBuf,
    /// Path of the key.
    pub key: PathBuf,
}

impl Certificate {
    /// Makes a self-signed certificate for `localhost` in a folder.
    pub fn make(folder: &Path) -> Result<Self, Failure> {
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

    /// Returns the value of `-o` that makes a server use it.
    pub fn words(&self) -> String {
        format!(
            "ssl_chain_cert={},ssl_key={}",
            self.chain.display(),
            self.key.display()
        )
    }
}

/// A self-made certificate, whose files are removed when it is dropped.
#[derive(Debug)]
pub struct OwnCertificate {
    folder: PathBuf,
    /// The files.
    pub files: Certificate,
}

impl OwnCertificate {
    /// Makes the certificate in a new folder of the system's temporary folder.
    pub fn make() -> Result<Self, Failure> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rustcached-bench-tls-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).map_err(Failure::io(format!("creating {}", folder.display())))?;
        match Certificate::make(&folder) {
            Ok(files) => Ok(OwnCertificate { folder, files }),
            Err(failure) => {
                let _ = fs::remove_dir_all(&folder);
                Err(failure)
            }
        }
    }
}

impl Drop for OwnCertificate {
    fn drop(&mut self) {
        // It is in the temporary folder, which the system empties.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Options of the servers that the generator starts with TLS.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TlsServerOptions {
    /// TLS of the clients
    #[command(flatten)]
    pub client: TlsOptions,
    /// Certificate chain of both servers in PEM format; --tls-ca must verify it [default: a new
    /// one made by openssl]
    #[arg(
        long,
        value_name = "FILE",
        requires_all = ["tls", "tls_key", "tls_ca"],
        help_heading = "TLS"
    )]
    pub tls_cert: Option<PathBuf>,
    /// Key of the certificate in PEM format
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "TLS")]
    pub tls_key: Option<PathBuf>,
    /// The certificate, once it is needed.
    #[arg(skip)]
    own: std::sync::OnceLock<Arc<OwnCertificate>>,
}

/// TLS of a server to be started, and of its clients.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Files of the server.
    pub certificate: Certificate,
    /// Clients that trust it.
    pub client: TlsClient,
    /// Resume sessions.
    pub resume: bool,
}

impl TlsServerOptions {
    /// Returns whether the servers use TLS.
    pub fn is_on(&self) -> bool {
        self.client.tls
    }

    /// Returns the TLS of servers and clients, which is the same for all; `None` without TLS. With
    /// `resume`, sessions are resumed.
    pub fn prepare(&self, resume: bool) -> Result<Option<ServerTls>, Failure> {
        if !self.client.tls {
            return Ok(None);
        }
        let (certificate, ca) = match (&self.tls_cert, &self.tls_key, &self.client.tls_ca) {
            (Some(chain), Some(key), Some(ca)) => {
                let (chain, key) = (chain.clone(), key.clone());
                (Certificate { chain, key }, ca.clone())
            }
            (None, _, Some(_)) => {
                return Err(Failure::Usage(
                    "--tls-ca needs the certificate that it verifies: --tls-cert and --tls-key"
                        .to_string(),
                ));
            }
            _ => {
                let own = match self.own.get() {
                    Some(own) => own,
                    None => {
                        let made = Arc::new(OwnCertificate::make()?);
                        self.own.get_or_init(|| made)
                    }
                };
                (own.files.clone(), own.files.chain.clone())
            }
        };
        Ok(Some(ServerTls {
            client: self.client.client(&ca, resume)?,
            certificate,
            resume,
        }))
    }
}

impl ServerTls {
    /// Returns the options of the server.
    pub fn flags(&self) -> [String; 3] {
        let mut words = self.certificate.words();
        if self.resume {
            words += ",ssl_session_cache";
        }
        ["-Z".to_string(), "-o".to_string(), words]
    }
}

/// Ends a session in order, as far as the socket takes it.
pub fn close(session: &mut ClientConnection, socket: &mut impl Write) {
    session.send_close_notify();
    // The server may have closed the connection already.
    let _ = session.write_tls(socket);
}

#[cfg(test)]
mod tests {
    use super::{TlsOptions, TlsServerOptions};

    #[test]
    fn options_that_verify_nothing_are_refused() {
        let on = TlsOptions {
            tls: true,
            ..TlsOptions::default()
        };
        let refused = on.client_of_running().unwrap_err().to_string();
        assert!(refused.contains("--tls-ca FILE"), "{refused}");
        let missing = TlsOptions {
            tls_ca: Some("/nonexistent".into()),
            ..on.clone()
        };
        let refused = missing.client_of_running().unwrap_err().to_string();
        assert!(refused.contains("/nonexistent: No such file"), "{refused}");
        let servers = TlsServerOptions {
            client: missing,
            ..TlsServerOptions::default()
        };
        let refused = servers.prepare(false).unwrap_err().to_string();
        assert!(refused.contains("--tls-cert and --tls-key"), "{refused}");
        assert!(
            TlsServerOptions::default()
                .prepare(false)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_name_or_a_file_that_is_none_is_refused() {
        let files = test_support::tls::Files::create();
        let [chain, key] = ["chain.pem", "key.pem"].map(|name| files.path(name));
        let wrong = TlsOptions {
            tls_name: "not a name".to_string(),
            ..TlsOptions::default()
        };
        let refused = wrong.client(&chain, false).unwrap_err().to_string();
        assert!(refused.contains("--tls-name \"not a name\""), "{refused}");
        let refused = TlsOptions::default().client(&key, false).unwrap_err();
        let refused = refused.to_string();
        assert!(refused.contains("no certificate in it"), "{refused}");
    }

    /// Whether a test that needs `openssl` runs. It must where all tests have to.
    fn has_openssl() -> bool {
        let found = std::process::Command::new("openssl")
            .arg("version")
            .output();
        assert!(found.is_ok() || std::env::var_os("CI").is_none(), "openssl");
        found.is_ok()
    }

    #[test]
    fn the_files_of_a_certificate_last_as_long_as_it() {
        if !has_openssl() {
            eprintln!("skipped: openssl is not there");
            return;
        }
        let options = TlsServerOptions {
            client: TlsOptions {
                tls: true,
                ..TlsOptions::default()
            },
            ..TlsServerOptions::default()
        };
        let tls = options.prepare(true).unwrap().unwrap();
        let again = options.prepare(false).unwrap().unwrap();
        assert_eq!(tls.certificate.chain, again.certificate.chain);
        assert!(tls.certificate.chain.exists() && tls.certificate.key.exists());
        assert!(tls.flags()[2].ends_with(",ssl_session_cache"));
        assert!(!again.flags()[2].contains("ssl_session_cache"));
        drop(options);
        assert!(!tls.certificate.chain.exists());
    }
}
