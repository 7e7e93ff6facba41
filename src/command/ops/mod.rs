//! Operations on items, whichever protocol asks for them. They return typed
//! outcomes, or pass a hit to a function of the caller. Handlers encode both.

pub(super) mod arithmetic;
mod concat;
pub(super) mod delete;
mod expiry;
mod get;
mod instrument;
pub(super) mod meta_get;
pub(super) mod outcome;
pub(super) mod refusal;
pub(super) mod store;
mod touch;
