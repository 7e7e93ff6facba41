//! What a `watch` line asks for: kinds of events and, beyond memcached,
//! `prefix=` and `sample=`.

use crate::limits::KEY_MAX_BYTES;

/// Kinds of events, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(pub(super) u16);

impl Kinds {
    /// No kind.
    pub const NONE: Self = Self(0);
    /// Keys that are asked for.
    pub const FETCHERS: Self = Self(1);
    /// Values that are stored.
    pub const MUTATIONS: Self = Self(1 << 1);
    /// Items removed for lack of memory.
    pub const EVICTIONS: Self = Self(1 << 2);
    /// Connections opened and closed.
    pub const CONNECTIONS: Self = Self(1 << 3);
    /// Items that are deleted.
    pub const DELETIONS: Self = Self(1 << 4);
    /// What nothing here ever tells of, but a client may ask for.
    const SILENT: Self = Self(1 << 5);
    /// Counts by key prefix (`stats detail`): no event, but what is watched
    /// and what is counted are looked at together.
    pub const DETAIL: Self = Self(1 << 15);

    /// No kind at all.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the sets have a kind in common.
    #[inline]
    pub fn any_of(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The kinds of both sets.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The kinds of this set but not of the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What a word means, which may be cut short, as in memcached; an
    /// ambiguous one means the first of these.
    fn of_word(word: &[u8]) -> Option<Self> {
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
        ]
        .into_iter()
        .find_map(|(name, kinds)| name.as_bytes().starts_with(word).then_some(kinds))
    }
}

/// Which events a watcher wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Events of these kinds,
    pub kinds: Kinds,
    /// about keys that begin so,
    pub prefix: Box<[u8]>,
    /// one in so many.
    pub sample: u32,
}

impl Filter {
    /// Reads the words behind `watch`; `None` if there is one that means
    /// nothing.
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
                filter.kinds = filter.kinds.with(Kinds::of_word(word)?);
            }
        }
        if filter.kinds.is_empty() {
            filter.kinds = Kinds::FETCHERS;
        }
        Some(filter)
    }

    /// Whether an event of this kind about this key is wanted, but for the
    /// sampling. What is about no key passes any prefix.
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
