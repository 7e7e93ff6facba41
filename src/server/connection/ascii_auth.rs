//! Password authentication of text clients (`-Y`). Until a client has sent a
//! valid password, its connection stays in [`State::Locked`], in which no
//! command is parsed. With `-S` as well, a client that sends packets goes on to
//! the SASL guard instead.

use crate::command;
use crate::protocol::text::ascii_auth::{AsciiAuth, parse};
use crate::protocol::text::encode;
use crate::server::connection::batch::WireProtocol;
use crate::server::connection::context::Context;
use crate::server::connection::log;
use crate::server::connection::outcome::{Served, Turn};
use crate::server::connection::state::{Connection, State};

impl Context {
    /// Handles input of a connection that is not authenticated yet. Returns the
    /// bytes used and how the turn goes on.
    ///
    /// Replies as memcached does with `-Y`: `STORED` to a valid password,
    /// `CLIENT_ERROR authentication failure` to a wrong one.
    pub(in crate::server) fn login(
        &mut self,
        connection: &mut Connection,
        input: &[u8],
    ) -> (usize, Turn) {
        connection.state = State::Locked;
        if self.is_guarded() && connection.wire_protocol(input) == WireProtocol::Binary {
            connection.state = State::Command;
            return (0, Turn::GoOn);
        }
        let (reply, used) = match parse(input) {
            AsciiAuth::Incomplete => return (0, Turn::End(Served::NeedInput)),
            AsciiAuth::Close => return (input.len(), Turn::End(Served::Finished)),
            AsciiAuth::Refused(reply, used) => (reply, used),
            AsciiAuth::Attempt {
                user,
                password,
                used,
            } => {
                let admitted = self.admits(user, password);
                log::login(&self.shared, admitted);
                if admitted {
                    connection.state = State::Command;
                    connection.login = command::SaslState::Done;
                    ("STORED", used)
                } else {
                    ("CLIENT_ERROR authentication failure", used)
                }
            }
        };
        connection.active = self.now.second();
        encode::line(&mut self.out.bytes, reply);
        (used, Turn::GoOn)
    }

    /// Checks a password and counts the attempt.
    fn admits(&self, user: &[u8], password: &[u8]) -> bool {
        let list = self.shared.passwords.as_ref();
        let admitted = list.is_some_and(|list| list.verify(user, password));
        let counters = &self.local.counters;
        counters.auth_cmds.add(1);
        counters.auth_errors.add(u64::from(!admitted));
        admitted
    }
}
