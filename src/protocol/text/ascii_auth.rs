//! Authentication of text clients under `-Y` (doc/protocol.txt,
//! "Authentication"): a `set` with any key and the data block `<user>
//! <password>`. Until it succeeds, no other command is accepted.
//!
//! Credentials are borrowed from the input: nothing is stored or logged.

use memchr::memchr;

use crate::limits::{LINE_MAX_BYTES, LOGIN_BLOCK_MAX_BYTES, LOGIN_LINE_MIN_BYTES};
use crate::protocol::number::strict_u32;
use crate::protocol::tokens::tokens;

/// Result of parsing the start of the input of an unauthenticated client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AsciiAuth<'a> {
    /// A well-formed authentication attempt.
    Attempt {
        /// User name.
        user: &'a [u8],
        /// Password: the data block behind the first space.
        password: &'a [u8],
        /// Bytes of the line and the data block.
        used: usize,
    },
    /// A malformed attempt or another command: the reply without its CRLF, and
    /// the bytes to skip.
    Refused(&'static str, usize),
    /// The line or its data block has not arrived completely.
    Incomplete,
    /// The line is too long or too short for an attempt: close the connection.
    Close,
}

const UNAUTHENTICATED: &str = "CLIENT_ERROR unauthenticated";
const TOO_LONG: &str = "CLIENT_ERROR auth token too long";
const BAD_END: &str = "CLIENT_ERROR bad command line termination";
const BAD_FORMAT: &str = "CLIENT_ERROR bad authentication token format";

/// Parses the start of the input of an unauthenticated client.
pub fn parse(input: &[u8]) -> AsciiAuth<'_> {
    let Some(end) = memchr(b'\n', input) else {
        return match input.len() {
            0..=LINE_MAX_BYTES => AsciiAuth::Incomplete,
            _ => AsciiAuth::Close,
        };
    };
    if end < LOGIN_LINE_MIN_BYTES {
        return AsciiAuth::Close;
    }
    let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
    let length = tokens(line).nth(4).and_then(strict_u32);
    // memcached compares only the first three letters.
    let Some(length) = length.filter(|_| line.starts_with(b"set")) else {
        return AsciiAuth::Refused(UNAUTHENTICATED, end + 1);
    };
    let length = length as usize;
    if length > LOGIN_BLOCK_MAX_BYTES {
        return AsciiAuth::Refused(TOO_LONG, end + 1);
    }
    let used = end + 1 + length + 2;
    let Some(block) = input.get(end + 1..used) else {
        return AsciiAuth::Incomplete;
    };
    let Some(token) = block.strip_suffix(b"\r\n") else {
        return AsciiAuth::Refused(BAD_END, used);
    };
    match memchr(b' ', token) {
        None => AsciiAuth::Refused(BAD_FORMAT, used),
        Some(blank) => AsciiAuth::Attempt {
            user: &token[..blank],
            password: &token[blank + 1..],
            used,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{AsciiAuth, BAD_END, BAD_FORMAT, TOO_LONG, UNAUTHENTICATED, parse};
    use crate::limits::{LINE_MAX_BYTES, LOGIN_BLOCK_MAX_BYTES};

    /// Describes the result of parsing in a comparable and printable form.
    fn outcome(input: &[u8]) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match parse(input) {
            AsciiAuth::Attempt {
                user,
                password,
                used,
            } => format!("{}/{} {used}", text(user), text(password)),
            AsciiAuth::Refused(reply, used) => format!("{reply} {used}"),
            AsciiAuth::Incomplete => "incomplete".to_owned(),
            AsciiAuth::Close => "hang up".to_owned(),
        }
    }

    #[test]
    fn attempts_are_read() {
        assert_eq!(outcome(b"set x 0 0 3\r\nu p\r\nget a"), "u/p 18");
        assert_eq!(outcome(b"set x 0 0 3\nu p\r\n"), "u/p 17");
        assert_eq!(outcome(b"set x y z 5 noreply\r\nu p q\r\n"), "u/p q 28");
        assert_eq!(outcome(b"set x 0 0 2\r\nu \r\n"), "u/ 17");
        assert_eq!(outcome(b"set x 0 0 3\r\n\0 \n\r\n"), "\0/\n 18");
    }

    #[test]
    fn whatever_is_missing_is_waited_for() {
        let whole = b"set x 0 0 3\r\nu p\r\n";
        for end in 0..whole.len() {
            assert_eq!(outcome(&whole[..end]), "incomplete", "{end}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for line in [
            "get a",
            "version",
            "set x 0 0",
            "set x 0 0 -1",
            "reset x 0 0 3",
            " set x 0 0 3",
            "       ",
        ] {
            let input = format!("{line}\r\n");
            let expected = format!("{UNAUTHENTICATED} {}", input.len());
            assert_eq!(outcome(input.as_bytes()), expected);
        }
        assert_eq!(outcome(b"set x 0 0 3\r\nu pxx"), format!("{BAD_END} 18"));
        assert_eq!(
            outcome(b"set x 0 0 2\r\nup\r\n"),
            format!("{BAD_FORMAT} 17")
        );
    }

    #[test]
    fn floods_are_cut() {
        for input in ["\n", "\r\n", "   \r\n", "mn\r\n", "quit\r\n"] {
            assert_eq!(outcome(input.as_bytes()), "hang up", "{input:?}");
        }
        assert_eq!(outcome(&[b'x'; LINE_MAX_BYTES + 1]), "hang up");
        let long = format!("set x 0 0 {}\r\n", LOGIN_BLOCK_MAX_BYTES + 1);
        assert_eq!(outcome(long.as_bytes()), format!("{TOO_LONG} 17"));
        assert_eq!(
            outcome(b"set x 0 0 4294967295\r\n"),
            format!("{TOO_LONG} 22")
        );
        assert_eq!(outcome(b"\x80\0\0\0\0"), "incomplete");
    }
}
