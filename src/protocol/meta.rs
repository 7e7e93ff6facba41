//! The flags of meta commands (doc/protocol.txt, "Meta commands").

use crate::limits::{KEY_MAX_BYTES, META_TOKENS_MAX, OPAQUE_MAX_BYTES};
use crate::protocol::number::{lenient_i32, lenient_u32, lenient_u64};
use crate::protocol::request::tokens;

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
}

/// Errors that flags can have, in memcached's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaError(pub &'static str);

const BAD_FORMAT: MetaError = MetaError("CLIENT_ERROR bad command line format");
const BAD_TOKEN: MetaError = MetaError("CLIENT_ERROR bad token in command line format");

/// Longest base64 spelling of a key whose line is accepted.
const ENCODED_KEY_MAX: usize = KEY_MAX_BYTES;

/// Reads the flags in `line`. `leading` is how many tokens stand before them
/// (the command, the key and, for `ms`, the length).
///
/// # Errors
/// The first that memcached would report.
pub fn parse_flags(
    key: &[u8],
    line: &[u8],
    leading: usize,
) -> Result<(MetaFlags, bool), MetaError> {
    if key.len() > ENCODED_KEY_MAX {
        return Err(BAD_FORMAT);
    }
    if leading + tokens(line).count() > META_TOKENS_MAX {
        return Err(MetaError("CLIENT_ERROR options flags are too long"));
    }
    let mut parser = FlagParser::default();
    for token in tokens(line) {
        parser.take(token)?;
    }
    if parser.base64 && !is_base64(key) {
        parser.error = Some(MetaError("CLIENT_ERROR error decoding key"));
    }
    match parser.error {
        Some(error) => Err(error),
        None => Ok((parser.flags, parser.base64)),
    }
}

/// Decodes a base64 key.
pub fn decode_key<'b>(key: &[u8], buffer: &'b mut [u8; KEY_MAX_BYTES]) -> Option<&'b [u8]> {
    use base64::Engine as _;
    let len = BASE64.decode_slice(key, buffer).ok()?;
    (len > 0).then(|| &buffer[..len])
}

/// Appends the base64 spelling of `key`.
pub fn encode_key(key: &[u8], out: &mut Vec<u8>) {
    use base64::Engine as _;
    let start = out.len();
    out.resize(start + key.len().div_ceil(3) * 4, 0);
    let written = BASE64
        .encode_slice(key, &mut out[start..])
        .expect("four bytes for every three begun are room enough");
    out.truncate(start + written);
}

/// Padding as memcached demands it; unused bits may be set.
const BASE64: base64::engine::GeneralPurpose = base64::engine::GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    base64::engine::GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

fn is_base64(key: &[u8]) -> bool {
    decode_key(key, &mut [0; KEY_MAX_BYTES]).is_some()
}

#[derive(Default)]
struct FlagParser {
    flags: MetaFlags,
    base64: bool,
    seen: u128,
    /// A bad argument is reported only if no worse error follows.
    error: Option<MetaError>,
}

impl FlagParser {
    fn take(&mut self, token: &[u8]) -> Result<(), MetaError> {
        let (flag, argument) = match token {
            [flag, argument @ ..] => (*flag, argument),
            [] => return Ok(()),
        };
        if flag >= 127 || self.seen & (1 << flag) != 0 {
            return Err(MetaError("CLIENT_ERROR duplicate flag"));
        }
        self.seen |= 1 << flag;
        match flag {
            b'b' => self.base64 = true,
            b'v' => self.flags.value = true,
            b'q' => self.flags.quiet = true,
            b'u' => self.flags.no_bump = true,
            b'I' => self.flags.invalidate = true,
            b'x' => self.flags.remove_value = true,
            b'M' => self.flags.mode = argument.first().copied().unwrap_or(b' '),
            b'N' => self.flags.vivify = self.number(lenient_i32(argument), BAD_TOKEN),
            b'T' => self.flags.ttl = self.number(lenient_i32(argument), BAD_TOKEN),
            b'R' => self.flags.recache = self.number(lenient_i32(argument), BAD_TOKEN),
            b'C' => self.flags.cas = self.number(lenient_u64(argument), BAD_TOKEN),
            b'E' => self.flags.new_cas = self.number(lenient_u64(argument), BAD_TOKEN),
            b'F' => {
                let number = lenient_u32(argument);
                self.flags.client_flags = self.number(number, BAD_FORMAT).unwrap_or(0);
            }
            b'D' => {
                let error = MetaError("CLIENT_ERROR invalid numeric delta value");
                self.flags.delta = self.number(lenient_u64(argument), error);
            }
            b'J' => {
                let error = MetaError("CLIENT_ERROR invalid numeric initial value");
                let number = lenient_u64(argument);
                self.flags.initial = self.number(number, error).unwrap_or(0);
            }
            b'O' if token.len() > OPAQUE_MAX_BYTES => {
                self.error = Some(MetaError("CLIENT_ERROR opaque token too long"));
            }
            // Known, answered from the token list; P and L are for proxies.
            b'O' | b'P' | b'L' | b'k' | b's' | b't' | b'c' | b'f' | b'l' | b'h' => {}
            b'0'..=b'9' | b'A'..=b'z' => return Err(MetaError("CLIENT_ERROR invalid flag")),
            _ => return Err(BAD_FORMAT),
        }
        Ok(())
    }

    fn number<T>(&mut self, number: Option<T>, error: MetaError) -> Option<T> {
        if number.is_none() {
            self.error = Some(error);
        }
        number
    }
}
