//! The server: sockets and threads around one store.
//!
//! - `threads` has [`Server`], which starts, stops and hands over; `running` are
//!   the threads that serve.
//! - `listen` and `inherited` provide listening sockets, and `acceptor` accepts
//!   connections from them.
//! - `worker` is the event loop, `connection` serves one connection, and
//!   `transport` has the sockets.
//! - `admin_thread` serves the admin listeners.
//! - `restart` keeps the items from one start to the next, and `handover` hands
//!   sockets and items to a new process.
//! - `watchers` is the log thread, which sends events to watchers.

mod acceptor;
mod admin_thread;
mod check;
mod conn_events;
mod connection;
mod error;
mod handover;
mod inherited;
mod injection;
mod listen;
mod loopback;
mod mailbox;
mod port_file;
mod restart;
mod running;
mod secrets;
mod stop;
mod threads;
mod transport;
mod watchers;
mod worker;

pub use crate::server::check::check;
pub use crate::server::error::{Place, StartError};
pub use crate::server::handover::Successor;
pub use crate::server::inherited::Inherited;
#[doc(hidden)]
pub use crate::server::injection::PanicTarget;
pub use crate::server::loopback::Loopback;
pub use crate::server::secrets::Reloader;
pub use crate::server::stop::StopRequest;
pub use crate::server::threads::{AfterHandover, Server};
