//! Searches for the end of a token, eight bytes at a time, in safe code. Tokens
//! are short: calling a routine made for long inputs (memchr) would cost more
//! than it saves.

const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGH_BITS: u64 = u64::from_le_bytes([0x80; 8]);

/// Returns the number of bytes before the first space, or the length of
/// `bytes`.
#[inline]
pub(super) fn until_space(bytes: &[u8]) -> usize {
    find(
        bytes,
        |word| zeros(word ^ (ONES * b' ' as u64)),
        |byte| byte == b' ',
    )
}

/// Returns the number of bytes before the first space or control character, or
/// the length of `bytes`. DEL is not included.
#[inline]
pub(super) fn until_space_or_control(bytes: &[u8]) -> usize {
    const FIRST_OTHER: u64 = b' ' as u64 + 1;
    let below = |word: u64| word.wrapping_sub(ONES * FIRST_OTHER) & !word & HIGH_BITS;
    find(bytes, below, |byte| byte <= b' ')
}

/// Sets the high bit of the lowest zero byte (Mycroft's test). High bits of
/// higher bytes may be set wrongly.
#[inline]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH_BITS
}

/// Returns the position of the first byte that `wanted` accepts. `marks` must
/// set the high bit of that byte in a little-endian word, and no lower bit.
#[inline]
fn find(bytes: &[u8], marks: impl Fn(u64) -> u64, wanted: impl Fn(u8) -> bool) -> usize {
    let (words, rest) = bytes.as_chunks();
    for (index, word) in words.iter().enumerate() {
        let marked = marks(u64::from_le_bytes(*word));
        if marked != 0 {
            return 8 * index + marked.trailing_zeros() as usize / 8;
        }
    }
    let start = bytes.len() - rest.len();
    let found = rest.iter().position(|byte| wanted(*byte));
    start + found.unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, prop_oneof, proptest};

    use super::{until_space, until_space_or_control};

    proptest! {
        #[test]
        fn words_end_where_a_look_at_each_byte_says(
            bytes in prop::collection::vec(prop_oneof![4 => any::<u8>(), 1 => 0x1Eu8..0x23], 0..40)
        ) {
            let place = |wanted: fn(u8) -> bool| {
                let found = bytes.iter().position(|byte| wanted(*byte));
                found.unwrap_or(bytes.len())
            };
            prop_assert_eq!(until_space(&bytes), place(|byte| byte == b' '));
            prop_assert_eq!(until_space_or_control(&bytes), place(|byte| byte <= b' '));
        }
    }
}
