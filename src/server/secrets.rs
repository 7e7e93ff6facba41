//! Secrets: TLS certificates, text passwords and SASL users; and the list of servers
//! for clients. All are read at the start. Certificates, text passwords and the list
//! are also read on request, with those settings that can change.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::auth::{LoadError, PasswordFormat, Passwords, Sasl};
use crate::cluster::Cluster;
use crate::config::{Config, SaslFiles};
use crate::server::error::StartError;
use crate::server::restart::limit_prefixes;
use crate::shared::Shared;
use crate::store::Store;
use crate::sync::Ordering;
use crate::time::Clock;
use crate::tls::Tls;

/// Handle that reloads settings, certificates, passwords and the log file of a
/// running server.
pub struct Reloader {
    /// State of the threads, which holds the secrets.
    shared: Arc<Shared>,
    store: CurrentStore,
    /// The settings as last read.
    config: Config,
}

/// The store of a running server. A take-over that fails replaces it.
#[derive(Clone, Default)]
pub(super) struct CurrentStore(Arc<Mutex<Weak<Store>>>);

impl CurrentStore {
    fn get(&self) -> Option<Arc<Store>> {
        let store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        store.upgrade()
    }

    /// Replaces the store.
    pub(super) fn set(&self, store: &Arc<Store>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(store);
    }
}

impl Reloader {
    pub(super) fn new(shared: &Arc<Shared>, store: CurrentStore) -> Self {
        Self {
            shared: Arc::clone(shared),
            store,
            config: shared.config.clone(),
        }
    }

    /// Applies settings that were read anew: the memory limit, limits of prefixes
    /// and the verbosity, if they differ from those read before. Names the other ones
    /// that differ in a log line.
    pub fn apply(&mut self, mut config: Config) {
        let log = &self.shared.log;
        if config.max_memory != self.config.max_memory
            && let Some(store) = self.store.get()
        {
            store.set_memory_limit(config.max_memory);
            let mebibytes = config.max_memory >> 20;
            log.put(format_args!("the memory limit is {mebibytes} MiB now"));
        }
        if config.prefix_limits != self.config.prefix_limits
            && let Some(store) = self.store.get()
            && limit_prefixes(&self.shared, &store, &config.prefix_limits)
        {
            let count = config.prefix_limits.len();
            log.put(format_args!("{count} prefixes have a limit now"));
        }
        if config.verbosity != self.config.verbosity {
            let verbosity = &self.shared.runtime.verbosity;
            verbosity.store(config.verbosity, Ordering::Relaxed);
            log.put(format_args!("the verbosity is {} now", config.verbosity));
        }
        let at_start = &self.shared.config;
        if at_start.listeners.is_empty() && config.handed_over.alone {
            // Inherited sockets have replaced the usual ones.
            config.listeners.clear();
        }
        let fixed = at_start.fixed_differences(&config);
        if !fixed.is_empty() {
            let names = fixed.join(", ");
            log.put(format_args!("changed after a restart only: {names}"));
        }
        self.config = config;
    }

    /// Reads the TLS certificates, the password file and the cluster file again, and
    /// opens the log file anew. A file with an error changes nothing; the error is
    /// logged at any verbosity.
    pub fn reload(&self) {
        if self.shared.config.log_file.is_some() {
            self.shared.log.request_reopen();
            self.shared
                .log
                .put(format_args!("the log file was opened anew"));
        }
        let tls = self.shared.tls.as_ref().map(|tls| tls.reload());
        let passwords = self.shared.passwords.as_ref();
        let passwords = passwords.map(|passwords| passwords.reload());
        let cluster = self.shared.cluster.as_ref();
        let cluster = cluster.map_or(Ok(None), |cluster| cluster.reload());
        if let Ok(Some(replaced)) = &cluster {
            self.shared.log.put(format_args!("{replaced}"));
        }
        let errors = [
            cluster.err().map(|error| error.to_string()),
            tls.and_then(Result::err).map(|error| error.to_string()),
            passwords
                .and_then(Result::err)
                .map(|error| error.to_string()),
        ];
        for error in errors.into_iter().flatten() {
            self.shared
                .log
                .put(format_args!("nothing changed: {error}"));
        }
    }
}

/// Secrets as read at the start.
pub(super) struct Secrets {
    tls: Option<Tls>,
    /// Passwords of text clients (`-Y`).
    passwords: Option<Passwords>,
    /// Users of SASL (`-S`), and the error of their file if it cannot be used.
    sasl: Option<(Sasl, Option<LoadError>)>,
    /// The list of servers for clients, which is no secret.
    cluster: Option<Cluster>,
}

impl Secrets {
    /// Reads all secrets that the configuration names.
    ///
    /// # Errors
    /// The certificates, the password file or the cluster file cannot be used.
    pub(super) fn load(config: &Config) -> Result<Self, StartError> {
        let tls = config.tls.as_ref().map(Tls::load);
        let path = config.auth_file.as_deref();
        let passwords = path.map(|path| Passwords::load(path, PasswordFormat::AuthFile));
        let cluster = config.cluster_file.as_deref().map(Cluster::load);
        Ok(Self {
            tls: tls.transpose().map_err(StartError::Tls)?,
            passwords: passwords.transpose().map_err(StartError::Passwords)?,
            sasl: config.sasl.as_ref().map(load_sasl),
            cluster: cluster.transpose().map_err(StartError::Cluster)?,
        })
    }

    /// Creates the shared state of the threads with these secrets. Logs a
    /// warning if no SASL user can authenticate.
    pub(super) fn shared_with(self, config: Config, clock: Clock) -> Shared {
        let mut shared = Shared::with_clock(config, clock);
        shared.tls = self.tls.map(Arc::new);
        shared.passwords = self.passwords;
        shared.cluster = self.cluster;
        if let Some((sasl, error)) = self.sasl {
            if let Some(error) = error {
                shared.log.put(format_args!(
                    "SASL: {error}; nobody can log in until it is good"
                ));
            } else if !sasl.has_users() {
                shared.log.put(format_args!(
                    "SASL has no users, so nobody can authenticate; see MEMCACHED_SASL_PWDB"
                ));
            }
            shared.sasl = Some(sasl);
        }
        shared
    }
}

/// Reads the users of SASL. As in memcached, the server starts without a usable
/// file, and refuses all attempts until there is one.
fn load_sasl(files: &SaslFiles) -> (Sasl, Option<LoadError>) {
    Sasl::load(files.users.as_deref(), files.conf.as_deref())
}
