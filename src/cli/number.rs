//! Numbers as memcached reads them (C's `atoi`): blanks before, a sign,
//! digits, and whatever follows is passed over. That last habit is kept
//! because `-m 64MB` starts everywhere, but the caller hears of it and tells
//! the operator. Text without any digit is refused, where `atoi` takes zero.

/// A number and whether text followed it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Read<T> {
    /// The number.
    pub(super) value: T,
    /// Something that does not belong to the number stood behind it.
    pub(super) trailing: bool,
}

/// A decimal number; one too large for 64 bits becomes the largest.
pub(super) fn integer(text: &str) -> Option<Read<i64>> {
    let text = text.trim();
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = digits
        .bytes()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if digits.is_empty() {
        return None;
    }
    let size = digits.parse::<i64>().unwrap_or(i64::MAX);
    Some(Read {
        value: if negative { -size } else { size },
        trailing: !rest.is_empty(),
    })
}

/// A number of bytes with an optional suffix k, m or g in either case.
pub(super) fn size(text: &str) -> Option<Read<i64>> {
    let text = text.trim();
    let shift = match text.bytes().last()?.to_ascii_lowercase() {
        b'k' => 10,
        b'm' => 20,
        b'g' => 30,
        _ => return integer(text),
    };
    let number = integer(&text[..text.len() - 1])?;
    Some(Read {
        value: number.value.saturating_mul(1 << shift),
        ..number
    })
}

/// Permission bits, octal.
pub(super) fn octal(text: &str) -> Option<u32> {
    let text = text.trim();
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|bits| *bits <= 0o7777)
        .map(|bits| bits & 0o777)
}

/// A decimal fraction.
pub(super) fn fraction(text: &str) -> Option<f64> {
    text.trim()
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite())
}
