//! Numbers as memcached parses them, in two dialects. Which command uses which
//! dialect is part of the protocol.
//!
//! - Lenient, as the C library's `strtol`: white space, a sign, digits, then
//!   white space, NUL or the end of the line. Used for client flags and exptime
//!   of storage commands, and for the values that `incr` changes.
//! - Strict, as memcached's tokenizer: digits alone, of limited length. Used
//!   for everything else.

/// Longest token of a strict 32-bit number, in bytes.
const STRICT_32_MAX_BYTES: usize = 11;
/// Longest token of a strict 64-bit number, in bytes.
const STRICT_64_MAX_BYTES: usize = 22;

/// Parses the exptime of a storage command: the low 32 bits of a lenient signed
/// 64-bit number. `line` begins before the number; anything after it is
/// ignored.
///
/// 4294967295 is therefore -1 and expires at once, as does 4102444800.
pub fn parse_exptime(line: &[u8]) -> Option<i32> {
    let (negative, magnitude) = lenient(line)?;
    let number = match i64::try_from(magnitude) {
        Ok(number) if negative => -number,
        Ok(number) => number,
        Err(_) if negative && magnitude == i64::MIN.unsigned_abs() => i64::MIN,
        Err(_) => return None,
    };
    Some(number as i32)
}

/// Parses the client flags of a storage command: the low 32 bits of a lenient
/// unsigned 64-bit number. A minus negates modulo 2^64; the number is then
/// refused only if its highest bit is set.
pub fn parse_client_flags(line: &[u8]) -> Option<u32> {
    match lenient(line)? {
        (false, magnitude) => Some(magnitude as u32),
        (true, magnitude) => {
            let number = magnitude.wrapping_neg();
            (number as i64 >= 0).then_some(number as u32)
        }
    }
}

/// Parses a lenient unsigned 64-bit number. Refuses negative numbers except
/// negative zero.
pub fn lenient_u64(token: &[u8]) -> Option<u64> {
    match lenient(token)? {
        (true, magnitude) if magnitude != 0 => None,
        (_, magnitude) => Some(magnitude),
    }
}

/// Parses a strict signed 32-bit number: an optional minus, then digits only. A
/// lone minus is zero.
pub fn strict_i32(token: &[u8]) -> Option<i32> {
    if token.len() > STRICT_32_MAX_BYTES {
        return None;
    }
    let (negative, digits) = match token {
        b"-" => return Some(0),
        [b'-', rest @ ..] => (true, rest),
        _ => (false, token),
    };
    let magnitude = i64::try_from(digits_u64(digits)?).ok()?;
    i32::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// Parses a strict unsigned 32-bit number: digits only.
pub fn strict_u32(token: &[u8]) -> Option<u32> {
    if token.len() > STRICT_32_MAX_BYTES {
        return None;
    }
    u32::try_from(digits_u64(token)?).ok()
}

/// Parses a strict unsigned 64-bit number: digits only.
pub fn strict_u64(token: &[u8]) -> Option<u64> {
    if token.len() > STRICT_64_MAX_BYTES {
        return None;
    }
    digits_u64(token)
}

fn digits_u64(digits: &[u8]) -> Option<u64> {
    match scan(digits)? {
        (magnitude, b"") => Some(magnitude),
        _ => None,
    }
}

/// Parses sign and magnitude. White space or NUL must follow the digits, if
/// anything does.
fn lenient(token: &[u8]) -> Option<(bool, u64)> {
    let start = token.iter().position(|byte| !is_space(*byte))?;
    let (negative, digits) = match &token[start..] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (magnitude, rest) = scan(digits)?;
    match rest.first() {
        Some(byte) if !is_space(*byte) && *byte != 0 => None,
        _ => Some((negative, magnitude)),
    }
}

/// Parses the leading digits and returns the rest; `None` if there are no
/// digits or they exceed 64 bits.
fn scan(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut magnitude: u64 = 0;
    let mut used = 0;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit))?;
        used += 1;
    }
    (used > 0).then(|| (magnitude, &bytes[used..]))
}

/// White space of the C library.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0B | 0x0C | b'\r')
}

/// Parses the value of an item for `incr` and `decr`: a lenient number, where
/// NUL also ends the text.
pub fn parse_item_value(bytes: &[u8]) -> Option<u64> {
    let text = bytes.split(|byte| *byte == 0).next()?;
    lenient_u64(text)
}

#[cfg(test)]
mod tests {
    use super::{
        lenient_u64, parse_client_flags, parse_exptime, parse_item_value, strict_i32, strict_u32,
        strict_u64,
    };

    #[test]
    fn expiry_times_wrap_at_32_bits() {
        for (text, want) in [
            ("12", 12),
            ("-12", -12),
            ("+7", 7),
            ("\t7\t", 7),
            ("  7 x", 7),
            ("7\0x", 7),
            ("2147483648", i32::MIN),
            ("4102444800", -192_522_496),
            ("4294967295", -1),
            ("4294967296", 0),
            ("-2147483649", i32::MAX),
            ("9223372036854775807", -1),
            ("-9223372036854775808", 0),
        ] {
            assert_eq!(parse_exptime(text.as_bytes()), Some(want), "{text:?}");
        }
        for bad in [
            "",
            "-",
            "+",
            "x",
            "1x",
            "0x1",
            "--1",
            "- 1",
            "9223372036854775808",
            "-9223372036854775809",
        ] {
            assert_eq!(parse_exptime(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn client_flags_wrap_at_32_bits() {
        for (text, want) in [
            ("4294967295", u32::MAX),
            ("4294967296", 0),
            ("4294967301", 5),
            ("18446744073709551615", u32::MAX),
            ("-18446744073709551615", 1),
            ("-0", 0),
        ] {
            assert_eq!(parse_client_flags(text.as_bytes()), Some(want), "{text:?}");
        }
        for bad in ["-1", "-9223372036854775808", "18446744073709551616", "x"] {
            assert_eq!(parse_client_flags(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn values_have_64_bits() {
        assert_eq!(lenient_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(lenient_u64(b"18446744073709551616"), None);
        assert_eq!(lenient_u64(b"-1"), None);
        assert_eq!(lenient_u64(b"-9223372036854775809"), None);
    }

    #[test]
    fn the_strict_dialect() {
        assert_eq!(strict_i32(b"-5"), Some(-5));
        assert_eq!(strict_i32(b"-2147483648"), Some(i32::MIN));
        assert_eq!(strict_i32(b"-"), Some(0));
        assert_eq!(strict_u32(b"4294967295"), Some(u32::MAX));
        assert_eq!(strict_u64(b"0018446744073709551615"), Some(u64::MAX));
        for bad in [&b"+5"[..], b"", b"5 ", b"4294967296", b"000000000001"] {
            assert_eq!(strict_i32(bad), None, "{bad:?}");
            assert_eq!(strict_u32(bad), None, "{bad:?}");
        }
        for bad in [
            &b"-"[..],
            b"+1",
            b"18446744073709551616",
            b"00018446744073709551615",
        ] {
            assert_eq!(strict_u64(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn item_values() {
        assert_eq!(parse_item_value(b"9 "), Some(9));
        assert_eq!(parse_item_value(b"5\0junk"), Some(5));
        assert_eq!(parse_item_value(b"5junk"), None);
        assert_eq!(parse_item_value(b""), None);
    }
}
