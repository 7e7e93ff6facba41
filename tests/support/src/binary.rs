//! Binary protocol client: builds request packets, valid or malformed, and
//! parses reply packets.

use std::fmt;

use crate::client::{Address, Client, show};

/// Opcodes of requests and replies.
pub mod opcode {
    pub const GET: u8 = 0x00;
    pub const SET: u8 = 0x01;
    pub const ADD: u8 = 0x02;
    pub const REPLACE: u8 = 0x03;
    pub const DELETE: u8 = 0x04;
    pub const INCREMENT: u8 = 0x05;
    pub const DECREMENT: u8 = 0x06;
    pub const QUIT: u8 = 0x07;
    pub const FLUSH: u8 = 0x08;
    pub const GETQ: u8 = 0x09;
    pub const NOOP: u8 = 0x0a;
    pub const VERSION: u8 = 0x0b;
    pub const GETK: u8 = 0x0c;
    pub const GETKQ: u8 = 0x0d;
    pub const APPEND: u8 = 0x0e;
    pub const PREPEND: u8 = 0x0f;
    pub const STAT: u8 = 0x10;
    pub const SETQ: u8 = 0x11;
    pub const ADDQ: u8 = 0x12;
    pub const REPLACEQ: u8 = 0x13;
    pub const DELETEQ: u8 = 0x14;
    pub const INCREMENTQ: u8 = 0x15;
    pub const DECREMENTQ: u8 = 0x16;
    pub const QUITQ: u8 = 0x17;
    pub const FLUSHQ: u8 = 0x18;
    pub const APPENDQ: u8 = 0x19;
    pub const PREPENDQ: u8 = 0x1a;
    pub const VERBOSITY: u8 = 0x1b;
    pub const TOUCH: u8 = 0x1c;
    pub const GAT: u8 = 0x1d;
    pub const GATQ: u8 = 0x1e;
    pub const SASL_LIST: u8 = 0x20;
    pub const SASL_AUTH: u8 = 0x21;
    pub const SASL_STEP: u8 = 0x22;
    pub const GATK: u8 = 0x23;
    pub const GATKQ: u8 = 0x24;
}

/// Status codes of replies.
pub mod status {
    pub const OK: u16 = 0x00;
    pub const NOT_FOUND: u16 = 0x01;
    pub const EXISTS: u16 = 0x02;
    pub const TOO_LARGE: u16 = 0x03;
    pub const INVALID: u16 = 0x04;
    pub const NOT_STORED: u16 = 0x05;
    pub const NON_NUMERIC: u16 = 0x06;
    pub const AUTH: u16 = 0x20;
    pub const AUTH_CONTINUE: u16 = 0x21;
    pub const UNKNOWN: u16 = 0x81;
}

/// Length of a packet header in bytes.
pub const HEADER_BYTES: usize = 24;

/// A request packet. Its header contains the true lengths unless overridden.
#[derive(Clone, Default)]
pub struct Frame {
    opcode: u8,
    key: Vec<u8>,
    extras: Vec<u8>,
    value: Vec<u8>,
    cas: u64,
    opaque: u32,
    key_len: Option<u16>,
    extras_len: Option<u8>,
    body_len: Option<u32>,
}

impl Frame {
    /// Creates a packet with an empty body.
    pub fn new(opcode: u8) -> Self {
        Self {
            opcode,
            ..Self::default()
        }
    }

    /// A storage request: `set`, `add`, `replace` or their quiet forms.
    pub fn store(opcode: u8, key: &str, value: impl AsRef<[u8]>) -> Self {
        Self::new(opcode).key(key).extras([0; 8]).value(value)
    }

    /// An arithmetic request: `increment`, `decrement` or their quiet forms.
    pub fn count(opcode: u8, key: &str, delta: u64, initial: u64, exptime: u32) -> Self {
        let mut extras = delta.to_be_bytes().to_vec();
        extras.extend_from_slice(&initial.to_be_bytes());
        extras.extend_from_slice(&exptime.to_be_bytes());
        Self::new(opcode).key(key).extras(extras)
    }

    /// Sets the key.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = key.as_ref().to_vec();
        self
    }

    /// Sets the extras, raw bytes in network byte order.
    pub fn extras(mut self, extras: impl AsRef<[u8]>) -> Self {
        self.extras = extras.as_ref().to_vec();
        self
    }

    /// Sets the value.
    pub fn value(mut self, value: impl AsRef<[u8]>) -> Self {
        self.value = value.as_ref().to_vec();
        self
    }

    /// Sets the CAS value, 0 for none.
    pub fn cas(mut self, cas: u64) -> Self {
        self.cas = cas;
        self
    }

    /// Sets the opaque, which the reply repeats.
    pub fn opaque(mut self, opaque: u32) -> Self {
        self.opaque = opaque;
        self
    }

    /// Overrides the key length in the header.
    pub fn key_len(mut self, len: u16) -> Self {
        self.key_len = Some(len);
        self
    }

    /// Overrides the extras length in the header.
    pub fn extras_len(mut self, len: u8) -> Self {
        self.extras_len = Some(len);
        self
    }

    /// Overrides the total body length in the header.
    pub fn body_len(mut self, len: u32) -> Self {
        self.body_len = Some(len);
        self
    }

    /// Returns the encoded packet.
    pub fn bytes(&self) -> Vec<u8> {
        let body = self.extras.len() + self.key.len() + self.value.len();
        let key_len = self.key_len.unwrap_or(self.key.len() as u16);
        let mut bytes = vec![0x80, self.opcode];
        bytes.extend_from_slice(&key_len.to_be_bytes());
        bytes.push(self.extras_len.unwrap_or(self.extras.len() as u8));
        bytes.extend_from_slice(&[0; 3]);
        bytes.extend_from_slice(&self.body_len.unwrap_or(body as u32).to_be_bytes());
        bytes.extend_from_slice(&self.opaque.to_be_bytes());
        bytes.extend_from_slice(&self.cas.to_be_bytes());
        for part in [&self.extras, &self.key, &self.value] {
            bytes.extend_from_slice(part);
        }
        bytes
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(&self.bytes()))
    }
}

/// A reply packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Opcode of the request.
    pub opcode: u8,
    /// Status code, see [`status`].
    pub status: u16,
    /// Opaque of the request.
    pub opaque: u32,
    /// CAS value, 0 for none.
    pub cas: u64,
    /// Extras, for instance the client flags of a get.
    pub extras: Vec<u8>,
    /// Key, if the command returns it.
    pub key: Vec<u8>,
    /// Value, or the text of an error.
    pub value: Vec<u8>,
}

impl Reply {
    /// Parses a complete reply.
    pub fn parse(bytes: &[u8]) -> Self {
        let u16_at = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from(u16_at(at)) << 16 | u32::from(u16_at(at + 2));
        assert_eq!(bytes[0], 0x81, "the magic of an answer");
        assert_eq!(bytes[5], 0, "the data type");
        let (extras, body) = bytes[HEADER_BYTES..].split_at(usize::from(bytes[4]));
        let (key, value) = body.split_at(usize::from(u16_at(2)));
        Self {
            opcode: bytes[1],
            status: u16_at(6),
            opaque: word(12),
            cas: u64::from(word(16)) << 32 | u64::from(word(20)),
            extras: extras.to_vec(),
            key: key.to_vec(),
            value: value.to_vec(),
        }
    }

    /// Returns the length in bytes of the whole reply, read from its header.
    pub fn len_of(header: &[u8]) -> usize {
        let body = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        HEADER_BYTES + body as usize
    }

    /// Returns the value as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.value).expect("the value is text")
    }
}

/// A client of the binary protocol.
pub struct BinaryClient(pub Client);

impl BinaryClient {
    /// Connects. Panics if that fails.
    pub fn connect(address: &Address) -> Self {
        Self(Client::connect(address))
    }

    /// Sends a packet without waiting for a reply.
    pub fn send(&mut self, frame: &Frame) {
        self.0.send(frame.bytes());
    }

    /// Reads the next reply. Returns `None` if the server closes the
    /// connection.
    pub fn reply(&mut self) -> Option<Reply> {
        let header = self.0.peek_exactly(HEADER_BYTES)?;
        let len = Reply::len_of(&header);
        let whole = self.0.peek_exactly(len)?;
        self.0.skip(len);
        Some(Reply::parse(&whole))
    }

    /// Sends a packet and returns its reply.
    pub fn ask(&mut self, frame: &Frame) -> Reply {
        self.send(frame);
        let reply = self.reply().unwrap_or_else(|| panic!("closed: {frame:?}"));
        assert_eq!((reply.opcode, reply.opaque), (frame.opcode, frame.opaque));
        reply
    }

    /// Sends a packet and expects an error reply with this status and text.
    pub fn refused(&mut self, frame: &Frame, status: u16, text: &str) {
        let reply = self.ask(frame);
        assert_eq!((reply.status, reply.text()), (status, text), "{frame:?}");
        assert_eq!((reply.cas, reply.extras.len(), reply.key.len()), (0, 0, 0));
    }

    /// Sends a packet and expects a success without a body. Returns the CAS
    /// value.
    pub fn done(&mut self, frame: &Frame) -> u64 {
        let reply = self.ask(frame);
        let body = (reply.extras.len(), reply.key.len(), reply.text());
        assert_eq!((reply.status, body), (status::OK, (0, 0, "")), "{frame:?}");
        reply.cas
    }

    /// Sends a packet and expects no reply.
    pub fn silent(&mut self, frame: &Frame) {
        self.send(frame);
        self.in_step();
    }

    /// Sends `noop` and expects its reply next: checks that the stream is in
    /// step.
    pub fn in_step(&mut self) {
        self.done(&Frame::new(opcode::NOOP).opaque(0x0123_4567));
    }

    /// Sends a packet and expects an error reply, then the end of the
    /// connection.
    pub fn closed_with(&mut self, frame: &Frame, status: u16, text: &str) {
        self.refused(frame, status, text);
        self.0.expect_closed("");
    }

    /// Gets a key. Returns its client flags and value, `None` on a miss.
    pub fn get(&mut self, key: &str) -> Option<(u32, Vec<u8>)> {
        let reply = self.ask(&Frame::new(opcode::GET).key(key));
        (reply.status == status::OK).then(|| {
            let flags = reply.extras[..].try_into().expect("flags are four bytes");
            (u32::from_be_bytes(flags), reply.value)
        })
    }

    /// Returns the names and values of a statistics group, in order.
    pub fn stats(&mut self, group: &str) -> Vec<(String, String)> {
        self.send(&Frame::new(opcode::STAT).key(group));
        let mut figures = Vec::new();
        loop {
            let reply = self.reply().expect("statistics have an end");
            assert_eq!((reply.opcode, reply.status), (opcode::STAT, status::OK));
            if reply.key.is_empty() && reply.value.is_empty() {
                return figures;
            }
            let name = String::from_utf8_lossy(&reply.key).into_owned();
            figures.push((name, reply.text().to_owned()));
        }
    }

    /// Returns a value of the general statistics.
    pub fn stat(&mut self, name: &str) -> String {
        let figures = self.stats("");
        let figure = figures.into_iter().find(|(known, _)| known == name);
        figure.unwrap_or_else(|| panic!("no {name}")).1
    }
}
