//! Arguments of `watch`: kinds of events and, beyond memcached, `prefix=` and
//! `sample=`.

use crate::limits::KEY_MAX_BYTES;

/// A set of event kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(pub(super) u16);

impl Kinds {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// Lookups of keys.
    pub const FETCHERS: Self = Self(1);
    /// Storage commands.
    pub const MUTATIONS: Self = Self(1 << 1);
    /// Evictions.
    pub const EVICTIONS: Self = Self(1 << 2);
    /// Connections opened and closed.
    pub const CONNECTIONS: Self = Self(1 << 3);
    /// Deletions.
    pub const DELETIONS: Self = Self(1 << 4);
    /// Kinds of memcached that clients may request but that never occur here.
    const SILENT: Self = Self(1 << 5);
    /// Slow commands.
    pub const SLOW: Self = Self(1 << 6);
    /// Counting by key prefix (`stats detail`). Not an event; the bit shares
    /// the set so that one check covers watchers and counting.
    pub const DETAIL: Self = Self(1 << 15);

    /// Returns whether the set is empty.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether the sets intersect.
    #[inline]
    pub fn any_of(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the union of the sets.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the kinds of this set that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Parses a kind. As in memcached, a word may be abbreviated; an ambiguous
    /// one means the first match in this list.
    fn parse(word: &[u8]) -> Option<Self> {
        [
            ("rawcmds", Self::SILENT),
            ("evictions", Self::EVICTIONS),
            ("fetchers", Self::FETCHERS),
            ("mutations", Self::MUTATIONS),
            ("sysevents", Self::SILENT),
            ("connevents", Self::CONNECTIONS),
            ("proxyreqs", Self::SILENT),
            ("proxyevents", Self::SILENT),
            ("proxyuser", Self::SILENT),
            ("deletions", Self::DELETIONS),
            // Not in memcached.
            ("slow", Self::SLOW),
        ]
        .into_iter()
        .find_map(|(name, kinds)| name.as_bytes().starts_with(word).then_some(kinds))
    }
}

/// Events that a watcher receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Kinds of events.
    pub kinds: Kinds,
    /// Prefix of the keys; empty for all keys.
    pub prefix: Box<[u8]>,
    /// Sampling: one of this many matching events is sent.
    pub sample: u32,
}

impl Filter {
    /// Parses the arguments of `watch`. Without a kind, selects
    /// [`Kinds::FETCHERS`]. Returns `None` if an argument is invalid.
    pub fn parse<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut filter = Self {
            kinds: Kinds::NONE,
            prefix: Box::default(),
            sample: 1,
        };
        for word in words {
            if let Some(prefix) = word.strip_prefix(b"prefix=") {
                filter.prefix = prefix.get(..prefix.len().min(KEY_MAX_BYTES))?.into();
            } else if let Some(sample) = word.strip_prefix(b"sample=") {
                let sample = std::str::from_utf8(sample).ok()?.parse().ok()?;
                filter.sample = (sample > 0).then_some(sample)?;
            } else {
                filter.kinds = filter.kinds.with(Kinds::parse(word)?);
            }
        }
        if filter.kinds.is_empty() {
            filter.kinds = Kinds::FETCHERS;
        }
        Some(filter)
    }

    /// Returns whether an event of this kind and key matches, before sampling.
    /// An event without a key matches any prefix.
    pub fn accepts(&self, kind: Kinds, key: Option<&[u8]>) -> bool {
        self.kinds.any_of(kind) && key.is_none_or(|key| key.starts_with(&self.prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, Kinds};

    fn parse(line: &str) -> Option<Filter> {
        Filter::parse(line.split_ascii_whitespace().map(str::as_bytes))
    }

    #[test]
    fn words_add_up_and_may_be_cut_short() {
        let kinds = |line| parse(line).map(|filter| filter.kinds);
        assert_eq!(kinds(""), Some(Kinds::FETCHERS));
        let both = Kinds::MUTATIONS.with(Kinds::EVICTIONS);
        assert_eq!(kinds("mutations evict"), Some(both));
        assert_eq!(kinds("deletions d"), Some(Kinds::DELETIONS));
        assert_eq!(kinds("proxyuser"), Some(Kinds::SILENT));
        assert_eq!(kinds("fetchers nonsense"), None);
        assert_eq!(kinds("fetcherss"), None);
    }

    #[test]
    fn prefixes_and_rates() {
        let filter = parse("fetchers prefix=user: sample=10").unwrap();
        assert_eq!(filter.sample, 10);
        assert!(filter.accepts(Kinds::FETCHERS, Some(b"user:1")));
        assert!(!filter.accepts(Kinds::FETCHERS, Some(b"page:1")));
        assert!(!filter.accepts(Kinds::MUTATIONS, Some(b"user:1")));
        assert_eq!(parse("sample=0"), None);
        assert_eq!(parse("sample=x"), None);
        assert_eq!(parse("prefix=a").unwrap().kinds, Kinds::FETCHERS);
    }
}
