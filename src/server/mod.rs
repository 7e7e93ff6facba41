//! The server: sockets and threads around one store.
//!
//! - `threads` starts and stops all threads; [`Server`] is its handle.
//! - `listen` and `inherited` provide listening sockets, and `acceptor` accepts
//!   connections from them.
//! - `worker` is the event loop, `connection` serves one connection, and
//!   `transport` has the sockets.
//! - `admin_thread` serves the admin listeners.
//! - `restart` keeps the items from one start to the next.
//! - `watchers` is the log thread, which sends events to watchers.

mod acceptor;
mod admin_thread;
mod conn_events;
mod connection;
mod error;
mod inherited;
mod injection;
mod listen;
mod loopback;
mod mailbox;
mod port_file;
mod restart;
mod secrets;
mod stop;
mod threads;
mod transport;
mod watchers;
mod worker;

pub use crate::server::error::StartError;
pub use crate::server::inherited::Inherited;
#[doc(hidden)]
pub use crate::server::injection::PanicTarget;
pub use crate::server::loopback::Loopback;
pub use crate::server::secrets::Reloader;
pub use crate::server::stop::StopRequest;
pub use crate::server::threads::Server;
