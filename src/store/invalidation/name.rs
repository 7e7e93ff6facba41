//! Names that can be invalidated, and other types of the module's interface.

use crate::limits::TAG_MAX_BYTES;

/// What is invalidated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// A prefix of keys, its delimiter included.
    Prefix(&'a [u8]),
    /// A tag.
    Tag(&'a [u8]),
}

/// What an invalidation does to items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// They are dead.
    Delete,
    /// They are marked stale, as by `md` with flag `I`.
    MarkStale,
}

/// Error: a name that cannot be invalidated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadName {
    /// Items have no CAS values, and so no births (`-C`).
    NoBirths,
    /// The name is empty.
    Empty,
    /// The name is longer than a key, or than [`TAG_MAX_BYTES`].
    TooLong,
    /// A prefix does not end at the delimiter.
    NotDelimited,
    /// A tag contains a comma, which separates tags.
    Comma,
}

/// CAS value of an item, and its place in the order of invalidations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// The CAS value.
    pub cas: u64,
    pub(in crate::store) number: u64,
}

/// State of the invalidations, for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InvalidationState {
    /// Whether items may be left that an invalidation concerns.
    pub is_outstanding: bool,
    /// Number of lengths of outstanding prefixes.
    pub prefix_lengths: usize,
    /// Slots of a table.
    pub slots: usize,
    /// Bytes of both tables, as far as they are allocated.
    pub table_bytes: usize,
}

/// Returns whether these bytes can be a tag, as a list of tags has them.
pub fn is_tag(bytes: &[u8]) -> bool {
    check_tag(bytes).is_ok()
}

/// Checks a tag.
///
/// # Errors
/// The reason why it is none.
pub(super) fn check_tag(bytes: &[u8]) -> Result<(), BadName> {
    match bytes.len() {
        0 => Err(BadName::Empty),
        1..=TAG_MAX_BYTES if bytes.contains(&b',') => Err(BadName::Comma),
        1..=TAG_MAX_BYTES => Ok(()),
        _ => Err(BadName::TooLong),
    }
}
