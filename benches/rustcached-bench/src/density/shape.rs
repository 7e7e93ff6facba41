//! The shape of an item: the sizes of its key and value.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Key lengths that fit every key number, and that the protocol permits.
const KEY_LENGTHS: RangeInclusive<usize> = 10..=250;

/// The sizes of an item, written `KEY+VALUE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Key length in bytes.
    pub key_length: usize,
    /// Value size in bytes.
    pub value_size: usize,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('+').ok_or("not KEY+VALUE")?;
        let number = |part: &str| part.parse().map_err(|error| format!("{part:?}: {error}"));
        let shape = Shape {
            key_length: number(key)?,
            value_size: number(value)?,
        };
        if !KEY_LENGTHS.contains(&shape.key_length) {
            return Err("a key has 10 to 250 bytes".to_string());
        }
        Ok(shape)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.key_length, self.value_size)
    }
}

#[cfg(test)]
mod tests {
    use super::Shape;

    #[test]
    fn shapes_are_two_numbers() {
        let shape: Shape = "20+32".parse().unwrap();
        assert_eq!((shape.key_length, shape.value_size), (20, 32));
        assert_eq!(shape.to_string(), "20+32");
        for wrong in ["20", "20+", "9+32", "300+32"] {
            assert!(wrong.parse::<Shape>().is_err(), "{wrong}");
        }
    }
}
