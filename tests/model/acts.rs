//! The random commands of a case.

use proptest::prelude::{Just, Strategy, any, prop_oneof};

use crate::KEYS;

/// Storage commands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verb {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    /// `cas`, with the key's CAS value (true) or a wrong value (false).
    Cas(bool),
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    Store {
        verb: Verb,
        key: usize,
        flags: u32,
        ttl: i32,
        len: usize,
        seed: u8,
    },
    Number {
        key: usize,
        number: u64,
        width: usize,
    },
    Count {
        key: usize,
        delta: u64,
        decrement: bool,
    },
    Get(usize),
    GetAndTouch(usize, i32),
    Touch(usize, i32),
    Delete(usize),
    Invalidate(usize),
    /// Invalidates a prefix or a tag: those of a key are its number modulo 3.
    InvalidateName {
        is_tag: bool,
        group: usize,
        stale: bool,
    },
    /// A sweep of all shards that ends invalidations.
    Lap,
    Flush,
    Advance(u64),
    Sweep,
}

/// Generates the commands of a case.
pub(crate) fn acts() -> impl Strategy<Value = Vec<Act>> {
    let key = 0..KEYS;
    let ttl = prop_oneof![6 => Just(0), 2 => 1..100, 1 => Just(-1)];
    let len = prop_oneof![
        4 => 0usize..40,
        3 => 0usize..2000,
        2 => 0usize..40_000,
        2 => 0usize..200_000,
    ];
    let verb = prop_oneof![
        5 => Just(Verb::Set),
        1 => Just(Verb::Add),
        1 => Just(Verb::Replace),
        2 => Just(Verb::Append),
        2 => Just(Verb::Prepend),
        2 => any::<bool>().prop_map(Verb::Cas),
    ];
    let flags = prop_oneof![Just(0), any::<u32>()];
    let store = (verb, key.clone(), flags, ttl.clone(), len, any::<u8>()).prop_map(
        |(verb, key, flags, ttl, len, seed)| Act::Store {
            verb,
            key,
            flags,
            ttl,
            len,
            seed,
        },
    );
    let number = (
        key.clone(),
        prop_oneof![0u64..2000, any::<u64>()],
        0usize..22,
    )
        .prop_map(|(key, number, width)| Act::Number { key, number, width });
    let count = (
        key.clone(),
        prop_oneof![0u64..2000, any::<u64>()],
        any::<bool>(),
    )
        .prop_map(|(key, delta, decrement)| Act::Count {
            key,
            delta,
            decrement,
        });
    let act = prop_oneof![
        12 => store,
        2 => number,
        4 => count,
        6 => key.clone().prop_map(Act::Get),
        2 => (key.clone(), ttl.clone()).prop_map(|(key, ttl)| Act::GetAndTouch(key, ttl)),
        2 => (key.clone(), ttl).prop_map(|(key, ttl)| Act::Touch(key, ttl)),
        2 => key.clone().prop_map(Act::Delete),
        1 => key.prop_map(Act::Invalidate),
        2 => (any::<bool>(), 0..3usize, any::<bool>()).prop_map(|(is_tag, group, stale)| {
            Act::InvalidateName {
                is_tag,
                group,
                stale,
            }
        }),
        1 => Just(Act::Lap),
        1 => Just(Act::Flush),
        2 => (1u64..60_000).prop_map(Act::Advance),
        1 => Just(Act::Sweep),
    ];
    proptest::collection::vec(act, 1..120)
}
