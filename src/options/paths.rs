//! The paths of a daemon (`-d`), whose working directory becomes `/`.

use std::path::{Path, PathBuf};

use crate::config::{Config, Endpoint, Process};

/// Completes all relative paths by the directory at the start.
pub(super) fn complete(config: &mut Config, process: &mut Process, directory: &Path) {
    let given = |path: &&mut PathBuf| !path.as_os_str().is_empty();
    for path in all(config, process).into_iter().filter(given) {
        *path = directory.join(&*path);
    }
}

/// Returns every path of the settings.
fn all<'a>(config: &'a mut Config, process: &'a mut Process) -> Vec<&'a mut PathBuf> {
    let mut paths: Vec<&mut PathBuf> = Vec::new();
    let listeners = config.listeners.iter_mut();
    for listener in listeners.chain(&mut config.admin.listeners) {
        if let Endpoint::Unix { path, .. } = &mut listener.endpoint {
            paths.push(path);
        }
    }
    if let Some(tls) = &mut config.tls {
        paths.push(&mut tls.chain);
        paths.extend(&mut tls.key);
        paths.extend(&mut tls.ca);
    }
    if let Some(sasl) = &mut config.sasl {
        paths.extend(&mut sasl.users);
        paths.extend(&mut sasl.conf);
    }
    let restart = &mut config.restart;
    let others = [
        &mut config.log_file,
        &mut config.auth_file,
        &mut config.cluster_file,
        &mut config.port_file,
        &mut restart.memory_file,
        &mut restart.save_path,
        &mut restart.take_over,
        &mut process.pid_file,
    ];
    paths.extend(others.into_iter().flatten());
    paths
}
