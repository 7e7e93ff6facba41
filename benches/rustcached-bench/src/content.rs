//! Keys and values that can be verified without storing them.
//!
//! A key is encoded from its number. A value is determined by its key's number and its size. All
//! values are cut from the same pattern, so building or checking a value costs a copy or a
//! comparison.

use std::str::FromStr;

use super::random::{Random, mix};

/// Length of the pattern beyond the longest value. Values start at different offsets within it.
const PATTERN_SLACK: usize = 4096;
/// Bytes of the hexadecimal number at the start of every value that is long enough.
const HEADER: usize = 16;

/// A range of value sizes in bytes, both bounds included; written `N` or `MIN-MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRange {
    /// Smallest size in bytes.
    pub min: usize,
    /// Largest size in bytes.
    pub max: usize,
}

impl SizeRange {
    /// Returns a range with a single size.
    pub const fn fixed(size: usize) -> Self {
        SizeRange {
            min: size,
            max: size,
        }
    }

    /// Returns the size of a key's value. It depends only on the key's number.
    pub fn of(&self, key: u32) -> usize {
        let span = (self.max - self.min + 1) as u64;
        self.min + (mix(u64::from(key) ^ 0x5153) % span) as usize
    }
}

impl FromStr for SizeRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        let number = |part: &str| part.parse().map_err(|error| format!("{part:?}: {error}"));
        let range = SizeRange {
            min: number(min)?,
            max: number(max)?,
        };
        if range.min > range.max {
            return Err(format!("{text}: the smaller size comes first"));
        }
        Ok(range)
    }
}

/// The format of keys: a prefix, zeros and the number, padded to a given length.
#[derive(Clone, Debug)]
pub struct KeyNames {
    prefix: Vec<u8>,
}

impl KeyNames {
    /// Creates keys that begin with `prefix`.
    pub fn new(prefix: &str) -> Self {
        KeyNames {
            prefix: prefix.as_bytes().to_vec(),
        }
    }

    /// Returns the shortest key length, in bytes, that fits the prefix and every number below
    /// `count`.
    pub fn shortest(&self, count: u32) -> usize {
        self.prefix.len() + itoa::Buffer::new().format(count.saturating_sub(1)).len()
    }

    /// Appends the key of `number`, padded to `length` bytes, longer if it does not fit.
    pub fn push(&self, out: &mut Vec<u8>, number: u32, length: usize) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number).as_bytes();
        let zeros = length.saturating_sub(self.prefix.len() + digits.len());
        out.extend_from_slice(&self.prefix);
        out.resize(out.len() + zeros, b'0');
        out.extend_from_slice(digits);
    }

    /// Returns the number of a key written by [`KeyNames::push`], `None` for other keys.
    pub fn number(&self, key: &[u8]) -> Option<u32> {
        let digits = key.strip_prefix(self.prefix.as_slice())?;
        digits.iter().try_fold(0u32, |number, &digit| {
            let digit = char::from(digit).to_digit(10)?;
            number.checked_mul(10)?.checked_add(digit)
        })
    }
}

/// The pattern from which all values are cut.
#[derive(Clone, Debug)]
pub struct Values {
    pattern: Vec<u8>,
}

impl Values {
    /// Creates a pattern for values of up to `largest` bytes.
    pub fn new(largest: usize) -> Self {
        let mut random = Random::new(0x7061_7474_6572_6e21);
        let length = largest + PATTERN_SLACK;
        let pattern = (0..length).map(|_| b'a' + random.below(26) as u8).collect();
        Values { pattern }
    }

    /// Appends the value of `key` in `size` bytes.
    pub fn push(&self, out: &mut Vec<u8>, key: u32, size: usize) {
        let header = header(key);
        let head = size.min(HEADER);
        out.extend_from_slice(&header[..head]);
        out.extend_from_slice(self.tail(key, size - head));
    }

    /// Returns whether `value` is the complete value of `key` in `size` bytes.
    pub fn matches(&self, key: u32, size: usize, value: &[u8]) -> bool {
        let head = size.min(HEADER);
        value.len() == size
            && value[..head] == header(key)[..head]
            && &value[head..] == self.tail(key, size - head)
    }

    fn tail(&self, key: u32, length: usize) -> &[u8] {
        let start = (mix(u64::from(key)) % (PATTERN_SLACK as u64)) as usize;
        &self.pattern[start..start + length]
    }
}

fn header(key: u32) -> [u8; HEADER] {
    let mut number = mix(u64::from(key));
    std::array::from_fn(|_| {
        let digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
        digit
    })
}

#[cfg(test)]
mod tests {
    use super::{KeyNames, SizeRange, Values};

    #[test]
    fn keys_have_their_length_and_give_back_their_number() {
        let names = KeyNames::new("k:");
        let mut key = Vec::new();
        names.push(&mut key, 1234, 20);
        assert_eq!(key, b"k:000000000000001234");
        assert_eq!(names.number(&key), Some(1234));
        assert_eq!(names.number(b"k:12x"), None);
        assert_eq!(names.number(b"other"), None);
        assert_eq!(names.shortest(1000), 5);
    }

    #[test]
    fn a_value_is_told_from_every_other() {
        let values = Values::new(1000);
        for size in [0, 1, 8, 16, 17, 1000] {
            let mut value = Vec::new();
            values.push(&mut value, 77, size);
            assert_eq!(value.len(), size);
            assert!(values.matches(77, size, &value));
            if size >= 8 {
                assert!(!values.matches(78, size, &value));
                assert!(!values.matches(77, size - 1, &value));
                value[size - 1] ^= 1;
                assert!(!values.matches(77, size, &value));
            }
        }
    }

    #[test]
    fn sizes_cover_the_range_and_belong_to_the_key() {
        let range: SizeRange = "10-13".parse().unwrap();
        let mut seen = [false; 4];
        for key in 0..200 {
            assert_eq!(range.of(key), range.of(key));
            seen[range.of(key) - 10] = true;
        }
        assert_eq!(seen, [true; 4]);
        assert_eq!("32".parse::<SizeRange>(), Ok(SizeRange::fixed(32)));
        assert!("9-3".parse::<SizeRange>().is_err());
    }
}
