//! Finding where words end: eight bytes at a time, in safe code. Words are
//! short, so that calling a routine made for long texts would cost more than
//! it saves.

const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGH_BITS: u64 = u64::from_le_bytes([0x80; 8]);

/// Bytes before the first blank; all of them if there is none.
#[inline]
pub(super) fn until_blank(bytes: &[u8]) -> usize {
    find(
        bytes,
        |word| zeros(word ^ (ONES * b' ' as u64)),
        |byte| byte == b' ',
    )
}

/// Bytes before the first blank or control character; all of them if there
/// is none.
#[inline]
pub(super) fn until_blank_or_control(bytes: &[u8]) -> usize {
    const FIRST_OTHER: u64 = b' ' as u64 + 1;
    let below = |word: u64| word.wrapping_sub(ONES * FIRST_OTHER) & !word & HIGH_BITS;
    find(bytes, below, |byte| byte <= b' ')
}

/// Marks the high bit of the lowest byte that is zero, and maybe of higher
/// ones (Mycroft's test).
#[inline]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH_BITS
}

/// The place of the first byte that `wanted` accepts. `marks` sets the high
/// bit of that byte in a little-endian word, and none below it.
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

    use super::{until_blank, until_blank_or_control};

    proptest! {
        #[test]
        fn words_end_where_a_look_at_each_byte_says(
            bytes in prop::collection::vec(prop_oneof![4 => any::<u8>(), 1 => 0x1Eu8..0x23], 0..40)
        ) {
            let place = |wanted: fn(u8) -> bool| {
                let found = bytes.iter().position(|byte| wanted(*byte));
                found.unwrap_or(bytes.len())
            };
            prop_assert_eq!(until_blank(&bytes), place(|byte| byte == b' '));
            prop_assert_eq!(until_blank_or_control(&bytes), place(|byte| byte <= b' '));
        }
    }
}
