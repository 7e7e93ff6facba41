//! Limits on the memory of key prefixes (`--prefix-limit`).

use std::fmt;

const MIB: usize = 1 << 20;

/// Memory that the items of a prefix may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryShare {
    /// A percentage of the memory limit (`-m`), 1 to 100.
    Percent(u8),
    /// A number of bytes.
    Bytes(usize),
}

/// The limit of one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixLimit {
    /// First bytes of the keys.
    pub prefix: Box<[u8]>,
    /// What their items may take.
    pub share: MemoryShare,
}

impl MemoryShare {
    /// Parses a percentage such as `25%`, or a number of MiB.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (digits, is_percent) = match text.strip_suffix('%') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number: usize = digits.parse().ok().filter(|number| *number > 0)?;
        match is_percent {
            true if number <= 100 => Some(Self::Percent(number as u8)),
            true => None,
            false => number.checked_mul(MIB).map(Self::Bytes),
        }
    }

    /// Returns the bytes that it is of a memory limit in bytes.
    pub fn bytes(self, memory_limit: usize) -> usize {
        match self {
            Self::Percent(percent) => memory_limit / 100 * usize::from(percent),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl fmt::Display for MemoryShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) => write!(f, "{}", bytes / MIB),
        }
    }
}

impl PrefixLimit {
    /// Parses one or more limits, separated by commas. A comma within a prefix
    /// does not separate: no limit ends before it.
    pub fn parse_list(text: &str) -> Option<Vec<Self>> {
        let (mut limits, mut start) = (Vec::new(), 0);
        let ends = text.match_indices(',').map(|(end, _)| end);
        for end in ends.chain([text.len()]) {
            if let Some(limit) = Self::parse(text[start..end].trim_start()) {
                limits.push(limit);
                start = end + 1;
            }
        }
        (start > text.len()).then_some(limits)
    }

    /// Parses a prefix, `=` and a share.
    pub fn parse(text: &str) -> Option<Self> {
        let (prefix, share) = text.rsplit_once('=')?;
        Some(Self {
            prefix: prefix.as_bytes().into(),
            share: MemoryShare::parse(share.as_bytes())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{MIB, MemoryShare, PrefixLimit};

    #[test]
    fn shares() {
        for (text, share) in [
            ("1%", MemoryShare::Percent(1)),
            ("100%", MemoryShare::Percent(100)),
            ("64", MemoryShare::Bytes(64 * MIB)),
        ] {
            assert_eq!(MemoryShare::parse(text.as_bytes()), Some(share));
            assert_eq!(share.to_string(), text);
        }
        for text in [
            "",
            "%",
            "0",
            "0%",
            "101%",
            "300%",
            "-1",
            "+1",
            "1.5%",
            "64m",
            "1%%",
            " 1",
            "\u{e9}",
            "99999999999999999999",
            "18446744073709551615",
        ] {
            assert_eq!(MemoryShare::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(MemoryShare::Percent(25).bytes(1000), 250);
        assert_eq!(MemoryShare::Bytes(7).bytes(1000), 7);
    }

    #[test]
    fn the_last_equals_sign_separates() {
        let limit = PrefixLimit::parse("a=b:=25%").expect("a limit");
        assert_eq!(&*limit.prefix, b"a=b:");
        assert_eq!(limit.share, MemoryShare::Percent(25));
        let list = PrefixLimit::parse_list("user:=25%, a,b:=3,page:=1%").expect("limits");
        let prefixes: Vec<&[u8]> = list.iter().map(|limit| &*limit.prefix).collect();
        assert_eq!(prefixes, [&b"user:"[..], b"a,b:", b"page:"]);
        assert_eq!(list[1].share, MemoryShare::Bytes(3 * MIB));
        for text in ["", ",", "user:=1%,", "user:=1%,page:", "user:,page:=0"] {
            assert_eq!(PrefixLimit::parse_list(text), None, "{text}");
        }
        assert_eq!(PrefixLimit::parse("user:"), None);
        assert_eq!(PrefixLimit::parse("user:="), None);
    }
}
