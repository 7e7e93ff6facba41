//! Commands for operators: settings, statistics, dumps, authentication.

mod cluster;
pub(super) mod control;
pub(super) mod dump;
mod listing;
mod operate;
pub(super) mod reporter;
pub(super) mod sasl;
pub(super) mod stat_sink;
mod stats;
