//! The operations on items, whichever protocol asks for them.

mod arithmetic;
mod concat;
mod delete;
mod get;
mod instrument;
mod meta;
pub(super) mod outcome;
mod packet;
mod refusal;
mod store;
mod touch;
