//! TLS without sockets: certificates and keys from files become the configuration
//! of new sessions. A reload replaces it as a whole; existing connections keep
//! theirs. Counts the results of handshakes. The server creates sessions here;
//! commands reload and report.

use std::fmt;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoClientAuth, NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
};

use crate::config::{ClientCertificates, KeyFormat, TlsSettings, TlsVersion};
use crate::files;
use crate::sync::{AtomicU64, Ordering};

/// Capacity of the session cache for clients without tickets.
const SESSIONS_MAX: usize = 4096;

/// Error of loading certificates. `Display` writes one line that begins like
/// memcached's.
#[derive(Debug)]
pub struct TlsError {
    what: &'static str,
    path: Option<PathBuf>,
    reason: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: ", self.what)?;
        if let Some(path) = &self.path {
            write!(out, "{} : ", path.display())?;
        }
        out.write_str(&self.reason)
    }
}

impl std::error::Error for TlsError {}

/// Counters of handshake and session results.
#[derive(Debug, Default)]
pub struct TlsCounters {
    /// Handshakes that failed or timed out.
    pub handshake_errors: AtomicU64,
    /// Connections that violated the protocol after the handshake.
    pub protocol_errors: AtomicU64,
    /// Full handshakes.
    pub new_sessions: AtomicU64,
}

/// Certificates, keys and counters; shared by all threads.
#[derive(Debug)]
pub struct Tls {
    settings: TlsSettings,
    loaded: RwLock<Loaded>,
    /// Counters of handshake and session results.
    pub counters: TlsCounters,
}

/// Configurations made from one reading of the files, one per requirement of
/// client certificates. They share no sessions: a session that began without a
/// certificate must not be resumed where one is required.
#[derive(Debug)]
struct Loaded {
    ignore: Arc<ServerConfig>,
    /// Configurations that request and that require a certificate; `None` without
    /// CA certificates.
    request: Option<(Arc<ServerConfig>, Arc<ServerConfig>)>,
    at: Instant,
}

impl Tls {
    /// Loads certificates and key.
    ///
    /// # Errors
    /// A file cannot be read or contains no usable certificate or key.
    pub fn load(settings: &TlsSettings) -> Result<Self, TlsError> {
        Ok(Self {
            loaded: RwLock::new(Loaded::read(settings)?),
            settings: settings.clone(),
            counters: TlsCounters::default(),
        })
    }

    /// Loads certificates and key again, for new connections. Changes nothing
    /// unless all of them are valid.
    ///
    /// # Errors
    /// A file cannot be read or contains no usable certificate or key.
    pub fn reload(&self) -> Result<(), TlsError> {
        let loaded = Loaded::read(&self.settings)?;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// Creates a session for a new connection.
    ///
    /// # Errors
    /// There are no CA certificates for client certificates. The command line
    /// excludes that.
    pub fn session(&self, ask: ClientCertificates) -> Result<ServerConnection, rustls::Error> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let config = match (ask, &loaded.request) {
            (ClientCertificates::Ignore, _) => Ok(&loaded.ignore),
            (ClientCertificates::Request, Some((request, _))) => Ok(request),
            (ClientCertificates::Require, Some((_, require))) => Ok(require),
            (_, None) => Err(rustls::Error::General("no authorities".to_owned())),
        };
        let mut session = ServerConnection::new(Arc::clone(config?))?;
        session.set_buffer_limit(Some(self.settings.write_buffer));
        Ok(session)
    }

    /// Returns the configured bytes of encrypted output that a connection buffers.
    pub fn write_buffer(&self) -> usize {
        self.settings.write_buffer
    }

    /// Returns the seconds since the certificates were loaded.
    pub fn age(&self) -> u64 {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        loaded.at.elapsed().as_secs()
    }

    /// Counts a completed handshake.
    pub fn count_session(&self, kind: Option<HandshakeKind>) {
        if kind != Some(HandshakeKind::Resumed) {
            self.counters.new_sessions.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Resets the counters (`stats reset`).
    pub fn reset(&self) {
        let counters = &self.counters;
        for counter in [
            &counters.handshake_errors,
            &counters.protocol_errors,
            &counters.new_sessions,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

impl Loaded {
    fn read(settings: &TlsSettings) -> Result<Self, TlsError> {
        let builder = ConfigBuilder {
            settings,
            provider: Arc::new(default_provider()),
            chain: load_chain(&settings.chain)?,
            key: load_key(settings)?,
        };
        let ignore = builder.build(Arc::new(NoClientAuth))?;
        let request = match &settings.ca {
            None => None,
            Some(path) => {
                let request = build_verifier(path, &builder.provider, false)?;
                let require = build_verifier(path, &builder.provider, true)?;
                Some((builder.build(request)?, builder.build(require)?))
            }
        };
        Ok(Self {
            ignore,
            request,
            at: Instant::now(),
        })
    }
}

/// Settings that the configurations of one reading share.
struct ConfigBuilder<'a> {
    settings: &'a TlsSettings,
    provider: Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl ConfigBuilder<'_> {
    fn build(&self, verifier: Arc<dyn ClientCertVerifier>) -> Result<Arc<ServerConfig>, TlsError> {
        let versions: &[&SupportedProtocolVersion] = match self.settings.min_version {
            TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::V13 => &[&rustls::version::TLS13],
        };
        let wrong = |error: rustls::Error| TlsError {
            what: "Error validating the certificate",
            path: None,
            reason: error.to_string(),
        };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(versions)
            .map_err(wrong)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(wrong)?;
        if self.settings.session_cache {
            config.ticketer = Ticketer::new().map_err(wrong)?;
            config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        } else {
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
        Ok(Arc::new(config))
    }
}

fn load_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    load_certificates("Error loading the certificate chain", path)
}

/// Reads all certificates of a file; at least one is required.
fn load_certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError {
        what,
        path: Some(path.to_owned()),
        reason,
    };
    let file = files::open(path)
        .map_err(|error| wrong(format!("{error}{}", files::remedy(path, &error))))?;
    let found: Vec<_> = CertificateDer::pem_reader_iter(BufReader::new(file))
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() {
        return Err(wrong("no certificate in it".to_owned()));
    }
    Ok(found)
}

fn load_key(settings: &TlsSettings) -> Result<PrivateKeyDer<'static>, TlsError> {
    let path = settings.key.as_ref().unwrap_or(&settings.chain);
    let wrong = |reason: String| TlsError {
        what: "Error loading the key",
        path: Some(path.clone()),
        reason,
    };
    let mut file = files::open(path)
        .map_err(|error| wrong(format!("{error}{}", files::remedy(path, &error))))?;
    match settings.key_format {
        KeyFormat::Pem => PrivateKeyDer::from_pem_reader(BufReader::new(file))
            .map_err(|error| wrong(error.to_string())),
        KeyFormat::Der => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)
                .map_err(|error| wrong(error.to_string()))?;
            PrivateKeyDer::try_from(bytes).map_err(|error| wrong(error.to_owned()))
        }
    }
}

/// Builds a verifier of client certificates from a file of CA certificates.
fn build_verifier(
    path: &Path,
    provider: &Arc<CryptoProvider>,
    require: bool,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    const WHAT: &str = "Error loading the CA certificate";
    let wrong = |reason: String| TlsError {
        what: WHAT,
        path: Some(path.to_owned()),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for certificate in load_certificates(WHAT, path)? {
        let added = roots.add(certificate);
        added.map_err(|error| wrong(error.to_string()))?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match require {
        true => builder,
        false => builder.allow_unauthenticated(),
    };
    builder
        .build()
        .map(|verifier| verifier as _)
        .map_err(|error| wrong(error.to_string()))
}
