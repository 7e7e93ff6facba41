//! Parses numbers as memcached does (C's `atoi`): leading white space, a sign,
//! digits; trailing text is ignored. `-m 64MB` therefore works, and the caller
//! reports the ignored text to the operator. Text without a digit is an error,
//! where `atoi` returns zero.

use super::error::CliError;

/// A number, and whether text follows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Read<T> {
    /// The number.
    pub(super) value: T,
    /// Whether text that is not part of the number follows it.
    pub(super) trailing: bool,
}

/// Parses a decimal number. Saturates at the range of 64 bits.
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

/// Parses a number of bytes with an optional suffix k, m or g in either case.
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

/// Parses octal permission bits.
pub(super) fn octal(text: &str) -> Option<u32> {
    let text = text.trim();
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|bits| *bits <= 0o7777)
        .map(|bits| bits & 0o777)
}

/// Parses a decimal fraction.
pub(super) fn fraction(text: &str) -> Option<f64> {
    text.trim()
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite())
}

/// Returns a number that must be positive. `what` is its name in messages.
///
/// # Errors
///
/// `BadValue` if the number is not positive.
pub(super) fn above_zero(number: i64, what: &str) -> Result<usize, CliError> {
    let number = usize::try_from(number).ok().filter(|number| *number > 0);
    number.ok_or_else(|| CliError::bad_value(format!("{what} must be greater than 0")))
}
