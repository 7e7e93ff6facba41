//! Handlers of requests, one file per protocol: arguments to an operation, its
//! outcome to a reply.

mod binary;
mod meta;
mod text;
mod value;
