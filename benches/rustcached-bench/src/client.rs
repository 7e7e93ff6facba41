//! Blocking client for loading keys, reading statistics and replaying traces.
//!
//! Writes and reads at the same time, so a long pipeline cannot deadlock. Not used where the cost
//! of the generator matters: `worker` serves those loads.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use memchr::memmem;
use mio::{Events, Interest, Poll, Token};

use super::address::{Address, Stream};
use super::failure::Failure;
use super::replies::{ReplyHandler, ReplyReader};
use super::wire::Expected;

/// Time without a received byte after which an exchange fails.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// Initial size of the read buffer in bytes.
const BUFFER: usize = 256 * 1024;

/// A connection with at most a single exchange in progress.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    filled: usize,
    whole_values: bool,
}

impl Client {
    /// Connects. With `whole_values`, exchanges pass the values of hits to
    /// [`ReplyHandler::on_value`].
    pub fn connect(address: &Address, whole_values: bool) -> Result<Self, Failure> {
        let connecting = Failure::io(format!("connecting to {address}"));
        let mut stream = Stream::connect(address).map_err(connecting)?;
        let poll = Poll::new().map_err(Failure::io("making a poll"))?;
        poll.registry()
            .register(
                &mut stream,
                Token(0),
                Interest::READABLE | Interest::WRITABLE,
            )
            .map_err(Failure::io("registering a connection"))?;
        Ok(Client {
            stream,
            poll,
            events: Events::with_capacity(4),
            buffer: vec![0; BUFFER],
            filled: 0,
            whole_values,
        })
    }

    /// Sends `request` and reads the replies to all of `expected`.
    pub fn exchange<A: ReplyHandler>(
        &mut self,
        request: &[u8],
        expected: &[Expected],
        handler: &mut A,
    ) -> Result<(), Failure> {
        let mut reader = ReplyReader::new(self.whole_values);
        self.transfer(request, |data| {
            let parsed = reader.feed(data, expected, handler);
            let parsed = parsed.map_err(|invalid_reply| Failure::Server(invalid_reply.0))?;
            Ok((parsed.used, parsed.finished))
        })
    }

    /// Sends a command line and returns the first line of the reply.
    pub fn command(&mut self, line: &str) -> Result<String, Failure> {
        let mut reply = String::new();
        self.transfer(format!("{line}\r\n").as_bytes(), |data| {
            let Some(end) = memmem::find(data, b"\r\n") else {
                return Ok((0, false));
            };
            reply = String::from_utf8_lossy(&data[..end]).into_owned();
            Ok((end + 2, true))
        })?;
        Ok(reply)
    }

    /// Sends `stats` and returns the names and values.
    pub fn stats(&mut self) -> Result<Vec<(String, String)>, Failure> {
        let mut text = String::new();
        self.transfer(b"stats\r\n", |data| {
            if !data.ends_with(b"END\r\n") && !data.ends_with(b"ERROR\r\n") {
                return Ok((0, false));
            }
            text = String::from_utf8_lossy(data).into_owned();
            Ok((data.len(), true))
        })?;
        let pair = |line: &str| {
            let (name, value) = line.strip_prefix("STAT ")?.split_once(' ')?;
            Some((name.to_string(), value.to_string()))
        };
        Ok(text.lines().filter_map(pair).collect())
    }

    /// Returns a number from `stats`, 0 if the server does not report the name.
    pub fn stat(&mut self, name: &str) -> Result<u64, Failure> {
        let stats = self.stats()?;
        let value = stats.into_iter().find(|(own, _)| own == name);
        Ok(value.and_then(|(_, value)| value.parse().ok()).unwrap_or(0))
    }

    /// Writes all of `request` and reads until `take` reports the end of the reply. `take` receives
    /// the unconsumed bytes and returns the number of bytes consumed.
    fn transfer(
        &mut self,
        request: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(usize, bool), Failure>,
    ) -> Result<(), Failure> {
        let mut unsent = request;
        loop {
            let before = unsent.len();
            self.write(&mut unsent)?;
            let mut idle = unsent.len() == before;
            if idle || !unsent.is_empty() || self.filled > 0 {
                idle &= !self.read()?;
                let (used, finished) = take(&self.buffer[..self.filled])?;
                self.buffer.copy_within(used..self.filled, 0);
                self.filled -= used;
                if finished && unsent.is_empty() {
                    return Ok(());
                }
            }
            if idle {
                self.wait()?;
            }
        }
    }

    fn write(&mut self, unsent: &mut &[u8]) -> Result<(), Failure> {
        while !unsent.is_empty() {
            match self.stream.write(unsent) {
                Ok(written) => *unsent = &unsent[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::io("writing to the server")(error)),
            }
        }
        Ok(())
    }

    /// Reads once. Returns whether any bytes arrived.
    fn read(&mut self) -> Result<bool, Failure> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.filled * 2, 0);
        }
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => Err(Failure::Server("closed the connection".to_string())),
            Ok(n) => {
                self.filled += n;
                Ok(true)
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                Ok(false)
            }
            Err(error) => Err(Failure::io("reading from the server")(error)),
        }
    }

    fn wait(&mut self) -> Result<(), Failure> {
        match self.poll.poll(&mut self.events, Some(REPLY_TIMEOUT)) {
            Ok(()) if self.events.is_empty() => Err(Failure::Server(format!(
                "no reply for {} seconds",
                REPLY_TIMEOUT.as_secs()
            ))),
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(Failure::io("waiting for the server")(error)),
        }
    }
}
