//! Operations on items, independent of the protocol. They return typed outcomes,
//! or pass the item to a function of the caller. Handlers encode both.

pub(super) mod arithmetic;
mod concat;
pub(super) mod delete;
mod expiry;
mod get;
pub(super) mod invalidate;
pub(super) mod meta_get;
pub(super) mod outcome;
pub(super) mod refusal;
mod report;
pub(super) mod store;
mod touch;
pub(super) mod ttl;
