//! Authentication over the binary protocol. A connection's login is given in
//! and the new one handed back; this keeps nothing.

use crate::auth::{Attempt, MECHANISMS};
use crate::command::executor::Executor;
use crate::command::output::Output;
use crate::protocol::binary::encode::{Lengths, Status, error, header, plain};
use crate::protocol::binary::packet::{Packet, Verb};

/// Longest name of a mechanism in bytes, as in memcached.
const MECHANISM_MAX_BYTES: usize = 32;

/// How far a connection has got with authenticating itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaslState {
    /// Nowhere, or it has failed.
    #[default]
    No,
    /// A mechanism waits for its message.
    Begun,
    /// It may do everything.
    Done,
}

impl Executor<'_> {
    /// Answers a packet about authentication, `message` being its value, on a
    /// server that authenticates. Every attempt, even asking how, undoes an
    /// earlier success.
    pub fn log_in(
        &mut self,
        packet: &Packet<'_>,
        message: &[u8],
        login: SaslState,
        out: &mut Output,
    ) -> SaslState {
        let bytes = &mut out.bytes;
        let Some(sasl) = &self.shared.sasl else {
            error(bytes, packet.echo, Status::Unknown);
            return login;
        };
        if packet.verb == Verb::SaslList {
            plain(bytes, packet.echo, 0, MECHANISMS.as_bytes());
            return SaslState::No;
        }
        if packet.key.len() > MECHANISM_MAX_BYTES {
            error(bytes, packet.echo, Status::Invalid);
            return login;
        }
        let attempt = match (packet.verb, login) {
            (Verb::SaslAuth, _) => sasl.start(packet.key, message),
            (Verb::SaslStep, SaslState::Begun) => sasl.step(message),
            _ => Attempt::Refused,
        };
        match attempt {
            Attempt::Begun => {
                let head = header(packet.echo, Status::AuthContinue, Lengths::default(), 0);
                bytes.extend_from_slice(&head);
                SaslState::Begun
            }
            Attempt::Accepted => {
                self.local.counters.auth_cmds.add(1);
                plain(bytes, packet.echo, 0, b"Authenticated");
                SaslState::Done
            }
            Attempt::Refused => {
                self.local.counters.auth_cmds.add(1);
                self.local.counters.auth_errors.add(1);
                error(bytes, packet.echo, Status::Auth);
                SaslState::No
            }
        }
    }

    /// Answers a packet that needs authentication first.
    pub fn lock_out(&self, packet: &Packet<'_>, out: &mut Output) {
        error(&mut out.bytes, packet.echo, Status::Auth);
    }
}
