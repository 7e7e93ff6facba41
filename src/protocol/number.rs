//! Numbers as memcached reads them. Two dialects live side by side in it:
//! the C library's (`safe_strtol` and friends in util.c: a sign, then digits,
//! then white space or the end) and the strict one of its tokenizer (digits
//! alone). Which command uses which is part of the contract.

/// A signed 32-bit number in the C library's dialect.
pub fn lenient_i32(token: &[u8]) -> Option<i32> {
    let (negative, magnitude) = lenient(token)?;
    let magnitude = i64::try_from(magnitude).ok()?;
    i32::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// An unsigned 64-bit number in the C library's dialect. Negative numbers
/// are refused, except a negative zero.
pub fn lenient_u64(token: &[u8]) -> Option<u64> {
    match lenient(token)? {
        (true, magnitude) if magnitude != 0 => None,
        (_, magnitude) => Some(magnitude),
    }
}

/// Client flags: 32 bits, out of range refused.
pub fn lenient_u32(token: &[u8]) -> Option<u32> {
    u32::try_from(lenient_u64(token)?).ok()
}

/// A signed 32-bit number: an optional minus, then digits and nothing else.
pub fn strict_i32(token: &[u8]) -> Option<i32> {
    let (negative, digits) = match token {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, token),
    };
    if token.len() > 11 {
        return None;
    }
    let magnitude = i64::try_from(strict_u64(digits)?).ok()?;
    i32::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// An unsigned 32-bit number: digits and nothing else.
pub fn strict_u32(token: &[u8]) -> Option<u32> {
    u32::try_from(strict_u64(token)?).ok()
}

/// An unsigned 64-bit number: digits and nothing else.
pub fn strict_u64(digits: &[u8]) -> Option<u64> {
    match scan(digits)? {
        (magnitude, b"") => Some(magnitude),
        _ => None,
    }
}

/// Sign and magnitude; what follows the digits must be white space.
fn lenient(token: &[u8]) -> Option<(bool, u64)> {
    let start = token.iter().position(|byte| !is_space(*byte))?;
    let (negative, digits) = match &token[start..] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (magnitude, rest) = scan(digits)?;
    match rest.first() {
        Some(byte) if !is_space(*byte) => None,
        _ => Some((negative, magnitude)),
    }
}

/// The number that the leading digits spell, and the rest; `None` if there
/// are none or they exceed 64 bits.
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

/// White space as the C library has it.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0B | 0x0C | b'\r')
}

/// The value of an item as `incr` reads it: the C library's dialect, where a
/// NUL ends the text as well.
pub fn item_value(bytes: &[u8]) -> Option<u64> {
    let text = bytes.split(|byte| *byte == 0).next()?;
    lenient_u64(text)
}

#[cfg(test)]
mod tests {
    use super::{item_value, lenient_i32, lenient_u32, lenient_u64, strict_i32, strict_u32};

    #[test]
    fn the_c_dialect() {
        assert_eq!(lenient_i32(b"12"), Some(12));
        assert_eq!(lenient_i32(b"-12"), Some(-12));
        assert_eq!(lenient_i32(b"+7"), Some(7));
        assert_eq!(lenient_i32(b"\t7\t"), Some(7));
        assert_eq!(lenient_i32(b"2147483648"), None);
        assert_eq!(lenient_i32(b"-2147483648"), Some(i32::MIN));
        for bad in [
            &b""[..],
            b"-",
            b"+",
            b"x",
            b"1x",
            b"0x1",
            b"--1",
            b"99999999999999999999",
        ] {
            assert_eq!(lenient_i32(bad), None, "{bad:?}");
        }
        assert_eq!(lenient_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(lenient_u64(b"18446744073709551616"), None);
        assert_eq!(lenient_u64(b"-1"), None);
        assert_eq!(lenient_u32(b"4294967295"), Some(u32::MAX));
        assert_eq!(lenient_u32(b"4294967296"), None);
    }

    #[test]
    fn the_strict_dialect() {
        assert_eq!(strict_i32(b"-5"), Some(-5));
        assert_eq!(strict_u32(b"4294967295"), Some(u32::MAX));
        for bad in [&b"+5"[..], b"", b"-", b"5 ", b"4294967296", b"000000000001"] {
            assert_eq!(strict_i32(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn item_values() {
        assert_eq!(item_value(b"9 "), Some(9));
        assert_eq!(item_value(b"5\0junk"), Some(5));
        assert_eq!(item_value(b"5junk"), None);
        assert_eq!(item_value(b""), None);
    }
}
