//! What a connection may ask on a server that authenticates its clients
//! (`-S`): nothing but how to authenticate, until it has. Lines are for those
//! who have given a password (`-Y`). The ordinary way of a request never comes
//! here.

use crate::command::{After, SaslState};
use crate::protocol::binary::packet::{Packet, Verb};
use crate::protocol::request::Request;
use crate::server::connection::batch::Step;
use crate::server::connection::context::Context;
use crate::server::connection::state::Connection;

/// What becomes of a value that is still to come.
pub(in crate::server) enum Admitted {
    /// It is received.
    Yes,
    /// It is skipped: the request has had its answer.
    Answered,
    /// The connection is closed.
    No,
}

impl Context {
    /// Whether clients must authenticate themselves.
    pub(in crate::server) fn is_guarded(&self) -> bool {
        self.shared.sasl.is_some()
    }

    /// Executes a step of a guarded server's connection.
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
                connection.login = executor.log_in(packet, block, connection.login, out);
                After::Continue
            }
            _ => self.run_step(step),
        }
    }

    /// Whether a guarded connection may go on with this packet; if not, that
    /// is answered.
    pub(in crate::server) fn lets_through(
        &mut self,
        connection: &Connection,
        packet: &Packet<'_>,
    ) -> bool {
        let open = connection.login == SaslState::Done
            || packet.is_for_anybody()
            || packet.is_inconsistent();
        if !open {
            let (executor, out) = self.executor();
            executor.lock_out(packet, out);
        }
        open
    }

    /// Whether a request whose value is still to come may have it. A message
    /// that authenticates is never so long: it counts as one that fails.
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
        // Without any message an attempt may begin; with one NUL it fails.
        let (mut executor, out) = self.executor();
        connection.login = executor.log_in(packet, b"\0", connection.login, out);
        Admitted::Answered
    }
}
