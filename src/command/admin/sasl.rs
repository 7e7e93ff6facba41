//! SASL authentication over the binary protocol. The state of each connection
//! is passed in and returned.

use crate::auth::{Attempt, MECHANISMS};
use crate::command::executor::Executor;
use crate::command::output::Output;
use crate::protocol::binary::encode::{Lengths, Status, error, header, plain};
use crate::protocol::binary::packet::{Packet, Verb};

/// Longest name of a mechanism in bytes, as in memcached.
const MECHANISM_MAX_BYTES: usize = 32;

/// Progress of a connection's authentication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaslState {
    /// Not authenticated, or the last attempt failed.
    #[default]
    No,
    /// A mechanism was selected and awaits its message.
    Begun,
    /// Authenticated.
    Done,
}

impl Executor<'_> {
    /// Executes an authentication packet with the value `message` on a server
    /// with SASL. Returns the new state. Every attempt, even listing the
    /// mechanisms, revokes an earlier success.
    pub fn sasl_authenticate(
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
            Attempt::Continue => {
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

    /// Refuses a packet of a client that is not authenticated.
    pub fn refuse_unauthenticated(&self, packet: &Packet<'_>, out: &mut Output) {
        error(&mut out.bytes, packet.echo, Status::Auth);
    }
}
