//! Fast path of the text parser: the frequent commands on one key in the form
//! that client libraries send, with single spaces and no control characters,
//! parsed in one pass.
//!
//! Any other form is left to the general parser in `parse.rs`. Both parsers give
//! the same result for these lines.

use crate::limits::{KEY_MAX_BYTES, OPAQUE_MAX_BYTES};
use crate::protocol::meta::request::{MetaFlags, MetaRequest};
use crate::protocol::request::{GetLine, Request, StoreLine};
use crate::protocol::scan::until_space_or_control;
use crate::protocol::verb::{ArithmeticVerb, StoreVerb};

/// Numbers of up to this many digits fit every field.
const DIGITS_MAX: usize = 9;

/// Parses a plain line at the start of `input` and returns the request and the
/// length of the line. `None` means that the general parser must decide.
#[inline]
pub(super) fn parse_plain(input: &[u8]) -> Option<(Request<'_>, usize)> {
    let (verb, rest) = input.split_first_chunk::<4>()?;
    let mut words = Words { rest };
    let request = match verb {
        b"get " => words.get(false)?,
        b"set " => Request::Store(words.store(StoreVerb::Set)?),
        b"add " => Request::Store(words.store(StoreVerb::Add)?),
        b"gets" => {
            words.take(b" ")?;
            words.get(true)?
        }
        b"incr" => words.arithmetic(ArithmeticVerb::Increment)?,
        b"decr" => words.arithmetic(ArithmeticVerb::Decrement)?,
        [b'm', b'g', b' ', _] => {
            words.rest = &input[3..];
            Request::MetaGet(words.meta_get()?)
        }
        _ => return None,
    };
    Some((request, input.len() - words.rest.len()))
}

struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    #[inline]
    fn key(&mut self) -> Option<&'a [u8]> {
        let key = self.word();
        (1..=KEY_MAX_BYTES).contains(&key.len()).then_some(key)
    }

    #[inline]
    fn word(&mut self) -> &'a [u8] {
        let (word, rest) = self.rest.split_at(until_space_or_control(self.rest));
        self.rest = rest;
        word
    }

    #[inline]
    fn get(&mut self, cas: bool) -> Option<Request<'a>> {
        let keys = self.key()?;
        self.take(b"\r\n")?;
        Some(Request::Get(GetLine {
            keys,
            single: true,
            cas,
            touch: None,
        }))
    }

    #[inline]
    fn arithmetic(&mut self, verb: ArithmeticVerb) -> Option<Request<'a>> {
        self.take(b" ")?;
        let key = self.key()?;
        let delta = self.number()?.into();
        let noreply = self.end()?;
        Some(Request::Arithmetic {
            verb,
            key,
            delta,
            noreply,
        })
    }

    /// Parses the rest of an `mg` whose flags have no arguments but `O`.
    #[inline]
    fn meta_get(&mut self) -> Option<MetaRequest<'a>> {
        let key = self.key()?;
        let line = self.rest;
        let mut flags = MetaFlags::default();
        // One bit per letter.
        let mut seen = 0_u32;
        let mut position = 0;
        while let [b' ', letter, rest @ ..] = self.rest {
            self.rest = rest;
            position += 1;
            match letter {
                b'v' => flags.value = true,
                b'q' => flags.quiet = true,
                b'u' => flags.no_bump = true,
                b'k' | b's' | b't' | b'c' | b'f' | b'l' | b'h' => {}
                b'O' => {
                    let argument = self.word();
                    flags.positions.opaque = position;
                    flags.opaque_too_long = argument.len() + 1 > OPAQUE_MAX_BYTES;
                }
                _ => return None,
            }
            let bit = 1 << (letter % 32);
            if seen & bit != 0 {
                return None;
            }
            seen |= bit;
        }
        let tokens = &line[..line.len() - self.rest.len()];
        self.take(b"\r\n")?;
        Some(MetaRequest {
            key,
            base64: false,
            value_len: 0,
            tokens,
            flags,
        })
    }

    #[inline]
    fn store(&mut self, verb: StoreVerb) -> Option<StoreLine<'a>> {
        let key = self.key()?;
        let [flags, exptime, value_len] = [self.number()?, self.number()?, self.number()?];
        let noreply = self.end()?;
        Some(StoreLine {
            verb,
            key,
            flags,
            exptime: exptime as i32,
            value_len,
            cas: None,
            noreply,
        })
    }

    /// Parses the end of the line and returns whether `noreply` precedes it.
    #[inline]
    fn end(&mut self) -> Option<bool> {
        let noreply = self.take(b"\r\n").is_none();
        if noreply {
            self.take(b" noreply\r\n")?;
        }
        Some(noreply)
    }

    /// Parses a space and a number of at most [`DIGITS_MAX`] digits.
    #[inline]
    fn number(&mut self) -> Option<u32> {
        self.take(b" ")?;
        let (mut number, mut digits) = (0, 0);
        while let [byte @ b'0'..=b'9', rest @ ..] = self.rest {
            if digits == DIGITS_MAX {
                return None;
            }
            number = 10 * number + u32::from(byte - b'0');
            digits += 1;
            self.rest = rest;
        }
        (digits > 0).then_some(number)
    }

    #[inline]
    fn take(&mut self, expected: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }
}

const _: () = assert!(10_i64.pow(DIGITS_MAX as u32) <= i32::MAX as i64);

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, prop, prop_assert_eq, prop_oneof, proptest};

    use super::parse_plain;
    use crate::protocol::text::parse::{Parsed, parse_any};

    /// Lines that are plain, or almost.
    fn line() -> impl Strategy<Value = Vec<u8>> {
        let verb = prop::sample::select(vec![
            "get", "set", "add", "gets", "incr", "decr", "mg", "mgs", "get\t", "", "GET",
        ]);
        let word = prop_oneof![
            "[a-z]{1,12}",
            "[0-9]{1,11}",
            "[a-z\t\r\u{0}\u{e9}]{0,4}",
            "k{245,255}",
            Just("noreply".to_string()),
            "[vqukstcflhObTNRMEIx]",
            "O[a-z0-9]{28,34}",
            Just("-1".to_string()),
            Just("00".to_string()),
        ];
        let blank = prop::sample::select(vec![" ", " ", " ", "  ", "\t"]);
        let words = prop::collection::vec((blank, word), 0..6);
        let end = prop::sample::select(vec!["\r\n", "\r\n", "\n", " \r\n", "\r", "\r\nget a\r\n"]);
        (verb, words, end).prop_map(|(verb, words, end)| {
            let words = words.iter().map(|(blank, word)| format!("{blank}{word}"));
            format!("{verb}{}{end}", words.collect::<String>()).into_bytes()
        })
    }

    proptest! {
        #[test]
        fn the_short_way_reads_what_the_long_one_does(line in line()) {
            if let Some((request, used)) = parse_plain(&line) {
                prop_assert_eq!(parse_any(&line), Parsed::Request(request, used));
            }
        }
    }

    #[test]
    fn the_lines_of_client_libraries_are_plain() {
        for line in [
            "get key\r\n",
            "set key 0 0 5\r\n",
            "add k 32 3600 1 noreply\r\n",
            "gets key\r\n",
            "incr key 1\r\n",
            "decr key 999999999 noreply\r\n",
            "mg key\r\n",
            "mg key v\r\n",
            "mg key s v O123 q\r\n",
        ] {
            let (_, used) = parse_plain(line.as_bytes()).expect(line);
            assert_eq!(used, line.len());
        }
        for other in [
            "get a b\r\n",
            "get key\n",
            "get key \r\n",
            "set key 0 -1 5\r\n",
            "get k",
            "mg key v v\r\n",
            "mg key v T30\r\n",
            "mg key  v\r\n",
            "mg key v\n",
            "mg key b v\r\n",
            "incr key -1\r\n",
            "incr key 1234567890\r\n",
        ] {
            assert!(parse_plain(other.as_bytes()).is_none(), "{other:?}");
        }
    }
}
