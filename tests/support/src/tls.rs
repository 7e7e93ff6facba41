//! Certificates for the tests, and TLS clients that verify or present them.
//! Each is issued by a trusted or by an unknown authority.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustcached::config::{KeyFormat, TlsSettings, TlsVersion};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::TempDir;
use crate::client::Address;

/// A certificate chain and its private key, in PEM.
pub struct Identity {
    /// Certificates in PEM, the leaf first.
    pub chain: String,
    /// Private key in PEM.
    pub key: String,
}

/// A certificate authority.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The authority that servers and clients in the tests trust.
    pub fn ours() -> &'static Self {
        static OURS: OnceLock<Authority> = OnceLock::new();
        OURS.get_or_init(Self::create)
    }

    /// Creates an authority that no peer trusts.
    pub fn create() -> Self {
        let mut params = CertificateParams::default();
        // Without a name of its own, OpenSSL would take issued certificates for
        // self-signed.
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            certificate: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Issues a certificate for `localhost`, valid for servers and clients.
    pub fn issue(&self) -> Identity {
        let names = vec!["localhost".to_owned()];
        let params = CertificateParams::new(names).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let issued = params.signed_by(&key, &self.issuer);
        Identity {
            chain: issued.expect("a certificate").pem(),
            key: key.serialize_pem(),
        }
    }

    /// Returns a client configuration that trusts this authority and presents
    /// `identity`, if given.
    pub fn trusting(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        self.trusting_with(identity, rustls::ALL_VERSIONS)
    }

    /// Returns the configuration of [`Authority::trusting`], limited to these
    /// TLS versions.
    pub fn trusting_with(
        &self,
        identity: Option<&Identity>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        roots.add(own.expect("PEM")).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .expect("versions there are")
            .with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::from_pem_slice(identity.chain.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
                builder
                    .with_client_auth_cert(vec![chain.expect("PEM")], key.expect("PEM"))
                    .expect("a key that fits")
            }
        })
    }
}

/// The certificate files of a server.
pub struct Files {
    directory: TempDir,
}

impl Files {
    /// Writes certificate and key issued by the trusted authority, and the
    /// certificate of the authority.
    pub fn create() -> Self {
        static SERVER: OnceLock<Identity> = OnceLock::new();
        let files = Self {
            directory: TempDir::create(),
        };
        files.put(SERVER.get_or_init(|| Authority::ours().issue()));
        let authority = &Authority::ours().certificate;
        fs::write(files.path("ca.pem"), authority).expect("writable");
        files
    }

    /// Replaces certificate and key.
    pub fn put(&self, identity: &Identity) {
        fs::write(self.path("chain.pem"), &identity.chain).expect("writable");
        fs::write(self.path("key.pem"), &identity.key).expect("writable");
    }

    /// Returns the path of the file `name` in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path(name)
    }

    /// Returns the `-o` suboptions that name the files.
    pub fn words(&self) -> String {
        let path = |name| self.path(name).display().to_string();
        format!(
            "ssl_chain_cert={},ssl_key={},ssl_ca_cert={}",
            path("chain.pem"),
            path("key.pem"),
            path("ca.pem")
        )
    }

    /// Returns the server settings that name the files.
    pub fn settings(&self) -> TlsSettings {
        TlsSettings {
            chain: self.path("chain.pem"),
            key: Some(self.path("key.pem")),
            key_format: KeyFormat::Pem,
            ca: Some(self.path("ca.pem")),
            verify_mode: 0,
            min_version: TlsVersion::V12,
            session_cache: false,
            write_buffer: 16 * 1024,
            ciphers: None,
            kernel: false,
        }
    }

    /// Returns a client configuration that trusts the server.
    pub fn trusting(&self) -> Arc<ClientConfig> {
        Authority::ours().trusting(None)
    }

    /// Returns the directory, so that it lives as long as its new owner.
    pub fn into_directory(self) -> TempDir {
        self.directory
    }
}

/// Returns the address of a TCP listener for a TLS client.
pub fn over_tls(address: &Address, config: Arc<ClientConfig>) -> Address {
    Address::Tls(socket_of(address), config)
}

/// Returns the socket address of a TCP or TLS address.
pub fn socket_of(address: &Address) -> SocketAddr {
    match address {
        Address::Tcp(address) | Address::Tls(address, _) => *address,
        Address::Unix(path) => panic!("{} is no TCP address", path.display()),
    }
}
