//! The flags of meta commands (doc/protocol.txt, "Meta commands").

use crate::limits::{KEY_MAX_BYTES, LINE_TOKENS_MAX, META_TOKENS_MAX, OPAQUE_MAX_BYTES};
use crate::protocol::meta::key::decode_key;
use crate::protocol::number::{strict_i32, strict_u32, strict_u64};
use crate::protocol::tokens::tokens;

/// A meta command: its key, and its flags both read and as they were sent,
/// for the answer returns some of them in the order they came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaRequest<'a> {
    /// The key as it stands on the line.
    pub key: &'a [u8],
    /// `b`: the key is base64.
    pub base64: bool,
    /// Bytes of the value of `ms`, without its line end.
    pub value_len: u32,
    /// The flag tokens, blank-separated.
    pub tokens: &'a [u8],
    /// The flags' meaning.
    pub flags: MetaFlags,
}

/// What the flags of one meta command say. Times are as the protocol spells
/// them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaFlags {
    /// `v`: send the value.
    pub value: bool,
    /// `q`: leave the nominal answer out.
    pub quiet: bool,
    /// `u`: leave access time and eviction state alone.
    pub no_bump: bool,
    /// `I`: invalidate; a `ms` with an older CAS value, or a `md`, marks the
    /// item stale.
    pub invalidate: bool,
    /// `x`: remove the value, keep the item.
    pub remove_value: bool,
    /// `M`: the mode's letter; 0 without.
    pub mode: u8,
    /// `N`: create on a miss, with this expiry time.
    pub vivify: Option<i32>,
    /// `T`: new expiry time.
    pub ttl: Option<i32>,
    /// `R`: win the right to recache if less than this is left.
    pub recache: Option<i32>,
    /// `F`: client flags.
    pub client_flags: u32,
    /// `C`: compare with this CAS value.
    pub cas: Option<u64>,
    /// `E`: the item's new CAS value.
    pub new_cas: Option<u64>,
    /// `D`: by how much `ma` counts; 1 without.
    pub delta: Option<u64>,
    /// `J`: the value `ma` creates with `N`; 0 without.
    pub initial: u64,
    /// `O` is over its limit. memcached notices while it writes the answer,
    /// when most of the command is carried out.
    pub opaque_too_long: bool,
    /// The order of the flags that depend on it.
    pub places: Places,
}

/// Where flags stand on the line: larger is later, 0 is absent. Answers and
/// changes are made flag by flag, so that the last of `T` and `N` wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Of `T`.
    pub ttl: u8,
    /// Of `N`.
    pub vivify: u8,
    /// Of `R`.
    pub recache: u8,
    /// Of `O`.
    pub opaque: u8,
}

impl MetaFlags {
    /// `T`, as far as it is carried out: not behind an opaque that ends the
    /// command.
    pub fn ttl_done(&self) -> Option<i32> {
        self.ttl.filter(|_| self.is_reached(self.places.ttl))
    }

    /// The expiry time of an item that this command creates: the last of
    /// `T` and `N` that is carried out, or never.
    pub fn created_ttl(&self) -> i32 {
        let vivify = self.vivify.filter(|_| self.is_reached(self.places.vivify));
        match (self.ttl_done(), vivify) {
            (Some(ttl), Some(_)) if self.places.ttl > self.places.vivify => ttl,
            (ttl, None) => ttl.unwrap_or(0),
            (_, Some(vivify)) => vivify,
        }
    }

    fn is_reached(&self, place: u8) -> bool {
        !self.opaque_too_long || place < self.places.opaque
    }
}

/// Errors that flags can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaError {
    /// A flag begins with what no flag does. memcached stops looking at the
    /// line before it knows anything else of it.
    Garbage,
    /// Any other, in memcached's words.
    Said(&'static str),
}

impl MetaError {
    /// The answer line.
    pub fn text(self) -> &'static str {
        match self {
            Self::Garbage => BAD_FORMAT,
            Self::Said(text) => text,
        }
    }
}

/// The answer to an `O` over its limit.
pub const OPAQUE_TOO_LONG: &str = "CLIENT_ERROR opaque token too long";
const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";
const BAD_TOKEN: &str = "CLIENT_ERROR bad token in command line format";

/// Reads the flags in `line`. `leading` is how many tokens stand before them
/// (the command, the key and, for `ms`, the length).
///
/// # Errors
/// The one that memcached reports: garbage first, then a bad key and too many
/// flags, then the first flag that is no flag or a duplicate, and the last bad
/// argument only if there is none of these.
pub fn parse_flags(
    key: &[u8],
    line: &[u8],
    leading: usize,
) -> Result<(MetaFlags, bool), MetaError> {
    let count = count_flags(line, leading).ok_or(MetaError::Garbage)?;
    if key.len() > KEY_MAX_BYTES {
        return Err(MetaError::Said(BAD_FORMAT));
    }
    let mut parser = FlagParser::default();
    if leading + count > META_TOKENS_MAX {
        return Err(MetaError::Said("CLIENT_ERROR options flags are too long"));
    }
    for (place, token) in (1..).zip(tokens(line)) {
        parser.take(key, token, place).map_err(MetaError::Said)?;
    }
    match parser.error {
        Some(error) => Err(MetaError::Said(error)),
        None => Ok((parser.flags, parser.base64)),
    }
}

/// How many flags are in `line`, up to the last token that is looked at;
/// `None` if one of them does not begin as flags do.
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
    /// A bad argument is reported only if no flag is worse, and the last of
    /// several.
    error: Option<&'static str>,
}

impl FlagParser {
    fn take(&mut self, key: &[u8], token: &[u8], place: u8) -> Result<(), &'static str> {
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
            b'M' => self.flags.mode = argument.first().copied().unwrap_or(b' '),
            b'N' => {
                self.flags.places.vivify = place;
                self.flags.vivify = self.number(strict_i32(argument), BAD_TOKEN);
            }
            b'T' => {
                self.flags.places.ttl = place;
                self.flags.ttl = self.number(strict_i32(argument), BAD_TOKEN);
            }
            b'R' => {
                self.flags.places.recache = place;
                self.flags.recache = self.number(strict_i32(argument), BAD_TOKEN);
            }
            b'C' => self.flags.cas = self.number(strict_u64(argument), BAD_TOKEN),
            b'E' => self.flags.new_cas = self.number(strict_u64(argument), BAD_TOKEN),
            b'F' => {
                // The one fault that leaves an earlier one's name.
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
                self.flags.places.opaque = place;
                self.flags.opaque_too_long = token.len() > OPAQUE_MAX_BYTES;
            }
            // Known, answered from the token list; P and L are for proxies.
            b'P' | b'L' | b'k' | b's' | b't' | b'c' | b'f' | b'l' | b'h' => {}
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
