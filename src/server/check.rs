//! The check of a configuration (`--check-config`): what a start would read, and where
//! the server would write. Changes nothing.

use std::path::Path;

use crate::config::{Config, Endpoint};
use crate::files::{could_create, could_write};
use crate::server::error::StartError;
use crate::server::secrets::Secrets;

/// Reads the certificates and passwords that the settings name, as a start does, and
/// checks whether the other files could be written. Call it as the user that the
/// server would run as.
///
/// # Errors
/// The server could not start with these settings, or could not keep its items.
pub fn check(config: &Config) -> Result<(), StartError> {
    Secrets::load(config)?;
    for listener in config.listeners.iter().chain(&config.admin.listeners) {
        if let Endpoint::Unix { path, .. } = &listener.endpoint {
            could_create(path).map_err(|error| StartError::unix(path, error))?;
        }
    }
    let restart = &config.restart;
    if let Some(path) = &restart.take_over {
        could_create(path).map_err(|error| StartError::take_over_file(path, &error))?;
    }
    if let Some(path) = &config.log_file {
        could_write(path).map_err(|error| StartError::LogFile(path.clone(), error))?;
    }
    if let Some(path) = &config.port_file {
        could_create(path).map_err(|error| StartError::PortFile(path.clone(), error))?;
    }
    let item_file = |path: &Path, error| StartError::ItemFile(path.to_owned(), error);
    if let Some(path) = &restart.memory_file {
        could_write(path).map_err(|error| item_file(path, error))?;
    }
    if let Some(path) = &restart.save_path {
        // A save writes another file and renames it.
        could_create(path).map_err(|error| item_file(path, error))?;
    }
    Ok(())
}
