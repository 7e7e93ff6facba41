//! SASL guard: restricts connections on a server that authenticates its clients
//! (`-S`).
//!
//! Until a connection has authenticated, it may only send packets that are open
//! to anybody, such as the SASL commands. Text lines are accepted only after a
//! password (`-Y`). Without `-S`, only [`Context::is_guarded`] is called.

use crate::command::{After, SaslState};
use crate::protocol::binary::packet::{Packet, Verb};
use crate::protocol::request::Request;
use crate::server::connection::batch::Step;
use crate::server::connection::context::Context;
use crate::server::connection::state::Connection;

/// Decision about a request whose data block has not arrived yet.
pub(in crate::server) enum Admitted {
    /// Receive the block.
    Yes,
    /// Skip the block: the request has had its reply.
    Answered,
    /// Close the connection.
    No,
}

impl Context {
    /// Returns whether clients must authenticate with SASL.
    pub(in crate::server) fn is_guarded(&self) -> bool {
        self.shared.sasl.is_some()
    }

    /// Executes a step on a server with `-S`, or refuses it and closes the
    /// connection.
    pub(in crate::server) fn run_guarded(
        &mut self,
        connection: &mut Connection,
        step: &Step<'_>,
    ) -> After {
        let Step::Execute {
            request: Request::Packet(packet),
            block,
            ..
        } = step
        else {
            return match connection.login {
                SaslState::Done => self.run_step(step),
                SaslState::No | SaslState::Begun => After::Close,
            };
        };
        if !self.lets_through(connection, packet) {
            return After::Close;
        }
        match packet.verb {
            Verb::SaslList | Verb::SaslAuth | Verb::SaslStep => {
                let (mut executor, out) = self.executor();
                connection.login = executor.sasl_authenticate(packet, block, connection.login, out);
                After::Continue
            }
            _ => self.run_step(step),
        }
    }

    /// Returns whether a connection may execute this packet. If not, the error
    /// reply is written.
    pub(in crate::server) fn lets_through(
        &mut self,
        connection: &Connection,
        packet: &Packet<'_>,
    ) -> bool {
        let open = connection.login == SaslState::Done
            || packet.is_allowed_before_auth()
            || packet.is_inconsistent();
        if !open {
            let (executor, out) = self.executor();
            executor.refuse_unauthenticated(packet, out);
        }
        open
    }

    /// Decides whether a storage request may receive its data block. SASL
    /// messages are never that long: a longer one counts as a failed attempt.
    pub(in crate::server) fn admit_value(
        &mut self,
        connection: &mut Connection,
        request: &Request<'_>,
    ) -> Admitted {
        let Request::Packet(packet) = request else {
            return match connection.login {
                SaslState::Done => Admitted::Yes,
                SaslState::No | SaslState::Begun => Admitted::No,
            };
        };
        if !self.lets_through(connection, packet) {
            return Admitted::No;
        }
        if !matches!(packet.verb, Verb::SaslAuth | Verb::SaslStep) {
            return Admitted::Yes;
        }
        // An empty message would begin an attempt. A single NUL makes it fail.
        let (mut executor, out) = self.executor();
        connection.login = executor.sasl_authenticate(packet, b"\0", connection.login, out);
        Admitted::Answered
    }
}
