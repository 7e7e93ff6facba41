//! Flags of meta commands (doc/protocol.txt, "Meta commands").

use crate::limits::{
    KEY_MAX_BYTES, LINE_TOKENS_MAX, META_TOKENS_MAX, OPAQUE_MAX_BYTES, TAG_MAX_BYTES, TAGS_MAX,
};
use crate::protocol::meta::key::decode_key;
use crate::protocol::number::{strict_i32, strict_u32, strict_u64};
use crate::protocol::text::reply::Reply;
use crate::protocol::tokens::tokens;

/// A parsed meta command. The flags are kept both parsed and as sent, because
/// the reply returns some of them in the order of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaRequest<'a> {
    /// The key as sent, maybe in base64.
    pub key: &'a [u8],
    /// Flag `b`: the key is in base64.
    pub base64: bool,
    /// Length of the data block of `ms` in bytes, without CRLF; 0 otherwise.
    pub value_len: u32,
    /// The flag tokens as sent, separated by spaces.
    pub tokens: &'a [u8],
    /// The parsed flags.
    pub flags: MetaFlags,
}

impl<'a> MetaRequest<'a> {
    /// Returns the tags that an `ms` or `ma` gives its item, after
    /// [`check_tags`] has accepted them. For memcached, `P` is a token for
    /// proxies, which it ignores.
    pub fn tags(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        tags_in(self.tokens)
    }
}

/// Returns the tags among flags: the argument of `P`, separated by commas.
fn tags_in(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let list = tokens(line).find_map(|token| token.strip_prefix(b"P"));
    list.into_iter()
        .flat_map(|list| list.split(|byte| *byte == b','))
}

/// Checks the tags among the flags of `ms` or `ma`.
///
/// # Errors
/// The reply: there are too many, or one is empty or too long.
pub fn check_tags(line: &[u8]) -> Result<(), &'static str> {
    let mut count = 0;
    for tag in tags_in(line) {
        count += 1;
        match tag.len() {
            0 => return Err("CLIENT_ERROR empty tag"),
            1..=TAG_MAX_BYTES => {}
            _ => return Err("CLIENT_ERROR tag too long"),
        }
    }
    match count {
        0..=TAGS_MAX => Ok(()),
        _ => Err("CLIENT_ERROR too many tags"),
    }
}

/// Parsed flags of a meta command. Times are as in the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaFlags {
    /// `v`: return the value.
    pub value: bool,
    /// `q`: quiet, suppresses the nominal reply.
    pub quiet: bool,
    /// `u`: do not update the access time or the eviction state.
    pub no_bump: bool,
    /// `I`: invalidate. An `ms` with an older CAS value, or an `md`, marks the
    /// item stale.
    pub invalidate: bool,
    /// `x`: remove the value but keep the item.
    pub remove_value: bool,
    /// `M`: the mode.
    pub mode: MetaMode,
    /// `N`: create the item on a miss, with this exptime.
    pub vivify: Option<i32>,
    /// `T`: new exptime.
    pub ttl: Option<i32>,
    /// `R`: win the right to recache if the remaining TTL is below this, in
    /// seconds.
    pub recache: Option<i32>,
    /// `F`: client flags.
    pub client_flags: u32,
    /// `C`: compare with this CAS value.
    pub cas: Option<u64>,
    /// `E`: new CAS value of the item.
    pub new_cas: Option<u64>,
    /// `D`: delta of `ma`; the default is 1.
    pub delta: Option<u64>,
    /// `J`: initial value of `ma` with `N`; the default is 0.
    pub initial: u64,
    /// `O` is longer than the limit. memcached detects this while it writes the
    /// reply, after most of the command has taken effect.
    pub opaque_too_long: bool,
    /// `P` is there: tags for `ms` and `ma`; see [`MetaRequest::tags`].
    pub tagged: bool,
    /// Positions of the flags whose order matters.
    pub positions: FlagPositions,
}

/// Mode of `ms` or `ma` (flag `M`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetaMode {
    /// The flag is absent: `ms` sets, `ma` increments.
    #[default]
    Absent,
    /// `S`: `ms` stores unconditionally.
    Set,
    /// `E`: `ms` stores only if the key is absent.
    Add,
    /// `A`: `ms` appends.
    Append,
    /// `P`: `ms` prepends.
    Prepend,
    /// `R`: `ms` stores only if the key is present.
    Replace,
    /// `I` or `+`: `ma` adds.
    Increment,
    /// `D` or `-`: `ma` subtracts.
    Decrement,
    /// No letter or another one.
    Unknown,
}

impl MetaMode {
    /// Parses the argument of the flag, of which only the first byte counts.
    pub fn parse(argument: &[u8]) -> Self {
        match argument.first() {
            // For memcached, a zero byte is no mode.
            Some(0) => Self::Absent,
            Some(b'S') => Self::Set,
            Some(b'E') => Self::Add,
            Some(b'A') => Self::Append,
            Some(b'P') => Self::Prepend,
            Some(b'R') => Self::Replace,
            Some(b'I' | b'+') => Self::Increment,
            Some(b'D' | b'-') => Self::Decrement,
            _ => Self::Unknown,
        }
    }

    /// Returns whether `ms` accepts the mode.
    pub fn is_for_set(self) -> bool {
        use MetaMode::{Absent, Add, Append, Prepend, Replace, Set};
        matches!(self, Absent | Set | Add | Append | Prepend | Replace)
    }

    /// Returns whether `ma` accepts the mode.
    pub fn is_for_arithmetic(self) -> bool {
        matches!(self, Self::Absent | Self::Increment | Self::Decrement)
    }

    /// Returns whether `ms` extends the present value.
    pub fn extends(self) -> bool {
        matches!(self, Self::Append | Self::Prepend)
    }
}

/// Positions of flags on the line: higher is later, 0 is absent. memcached
/// applies flags and writes return flags in order, so the last of `T` and `N`
/// wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlagPositions {
    /// Position of `T`.
    pub ttl: u8,
    /// Position of `N`.
    pub vivify: u8,
    /// Position of `R`.
    pub recache: u8,
    /// Position of `O`.
    pub opaque: u8,
}

impl MetaFlags {
    /// Returns the exptime of `T`, unless an opaque over its limit stands
    /// before it and ends the command.
    pub fn effective_ttl(&self) -> Option<i32> {
        self.ttl.filter(|_| self.is_reached(self.positions.ttl))
    }

    /// Returns the exptime of an item that this command creates: the last
    /// effective one of `T` and `N`, or 0 (never).
    pub fn created_ttl(&self) -> i32 {
        let vivify = self
            .vivify
            .filter(|_| self.is_reached(self.positions.vivify));
        match (self.effective_ttl(), vivify) {
            (Some(ttl), Some(_)) if self.positions.ttl > self.positions.vivify => ttl,
            (ttl, None) => ttl.unwrap_or(0),
            (_, Some(vivify)) => vivify,
        }
    }

    fn is_reached(&self, position: u8) -> bool {
        !self.opaque_too_long || position < self.positions.opaque
    }
}

/// Errors of the flags of a meta command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaError {
    /// The first byte of a flag is outside `0-9` and `A-z`. memcached stops
    /// before it reads anything else of the line.
    Garbage,
    /// Any other error, as memcached's reply line.
    Reply(&'static str),
}

impl MetaError {
    /// Returns the reply line without its CRLF.
    pub fn text(self) -> &'static str {
        match self {
            Self::Garbage => BAD_FORMAT,
            Self::Reply(text) => text,
        }
    }
}

const BAD_FORMAT: &str = Reply::BadFormat.text();
const BAD_TOKEN: &str = "CLIENT_ERROR bad token in command line format";

/// Parses the flags in `line`, and whether the key is in base64. `leading` is
/// the number of tokens before the flags: the command, the key and, for `ms`,
/// the length.
///
/// # Errors
/// Returns the error that memcached reports: garbage first, then a bad key and
/// too many flags, then the first invalid or duplicate flag. A bad argument is
/// reported only if there is none of these; the last one wins.
pub fn parse_flags(
    key: &[u8],
    line: &[u8],
    leading: usize,
) -> Result<(MetaFlags, bool), MetaError> {
    let count = count_flags(line, leading).ok_or(MetaError::Garbage)?;
    if key.len() > KEY_MAX_BYTES {
        return Err(MetaError::Reply(BAD_FORMAT));
    }
    let mut parser = FlagParser::default();
    if leading + count > META_TOKENS_MAX {
        return Err(MetaError::Reply("CLIENT_ERROR options flags are too long"));
    }
    for (position, token) in (1..).zip(tokens(line)) {
        parser
            .take(key, token, position)
            .map_err(MetaError::Reply)?;
    }
    match parser.error {
        Some(error) => Err(MetaError::Reply(error)),
        None => Ok((parser.flags, parser.base64)),
    }
}

/// Counts the flags in `line`, up to the limit of parsed tokens. Returns `None`
/// if the first byte of a flag is outside `0-9` and `A-z`.
#[inline]
pub(in crate::protocol) fn count_flags(line: &[u8], leading: usize) -> Option<usize> {
    let mut count = 0;
    for token in tokens(line).take(LINE_TOKENS_MAX - leading) {
        if !matches!(token[0], b'0'..=b'9' | b'A'..=b'z') {
            return None;
        }
        count += 1;
    }
    Some(count)
}

const _: () = assert!(META_TOKENS_MAX < LINE_TOKENS_MAX);

#[derive(Default)]
struct FlagParser {
    flags: MetaFlags,
    base64: bool,
    seen: u128,
    /// The last bad argument. Reported only if no worse error follows.
    error: Option<&'static str>,
}

impl FlagParser {
    fn take(&mut self, key: &[u8], token: &[u8], position: u8) -> Result<(), &'static str> {
        let (flag, argument) = match token {
            [flag, argument @ ..] => (*flag, argument),
            [] => return Ok(()),
        };
        if flag >= 127 || self.seen & (1 << flag) != 0 {
            return Err("CLIENT_ERROR duplicate flag");
        }
        self.seen |= 1 << flag;
        match flag {
            b'b' => {
                self.base64 = true;
                if decode_key(key, &mut [0; KEY_MAX_BYTES]).is_none() {
                    self.error = Some("CLIENT_ERROR error decoding key");
                }
            }
            b'v' => self.flags.value = true,
            b'q' => self.flags.quiet = true,
            b'u' => self.flags.no_bump = true,
            b'I' => self.flags.invalidate = true,
            b'x' => self.flags.remove_value = true,
            b'M' => self.flags.mode = MetaMode::parse(argument),
            b'N' => {
                self.flags.positions.vivify = position;
                self.flags.vivify = self.number(strict_i32(argument), BAD_TOKEN);
            }
            b'T' => {
                self.flags.positions.ttl = position;
                self.flags.ttl = self.number(strict_i32(argument), BAD_TOKEN);
            }
            b'R' => {
                self.flags.positions.recache = position;
                self.flags.recache = self.number(strict_i32(argument), BAD_TOKEN);
            }
            b'C' => self.flags.cas = self.number(strict_u64(argument), BAD_TOKEN),
            b'E' => self.flags.new_cas = self.number(strict_u64(argument), BAD_TOKEN),
            b'F' => {
                // A bad `F` keeps the error of an earlier bad argument, unlike
                // the other flags.
                let error = self.error.unwrap_or(BAD_FORMAT);
                let number = strict_u32(argument);
                self.flags.client_flags = self.number(number, error).unwrap_or(0);
            }
            b'D' => {
                let error = "CLIENT_ERROR invalid numeric delta value";
                self.flags.delta = self.number(strict_u64(argument), error);
            }
            b'J' => {
                let error = "CLIENT_ERROR invalid numeric initial value";
                let number = strict_u64(argument);
                self.flags.initial = self.number(number, error).unwrap_or(0);
            }
            b'O' => {
                self.flags.positions.opaque = position;
                self.flags.opaque_too_long = token.len() > OPAQUE_MAX_BYTES;
            }
            b'P' => self.flags.tagged = true,
            // Accepted here and answered from the token list. L is for proxies.
            b'L' | b'k' | b's' | b't' | b'c' | b'f' | b'l' | b'h' => {}
            _ => return Err("CLIENT_ERROR invalid flag"),
        }
        Ok(())
    }

    fn number<T>(&mut self, number: Option<T>, error: &'static str) -> Option<T> {
        if number.is_none() {
            self.error = Some(error);
        }
        number
    }
}
