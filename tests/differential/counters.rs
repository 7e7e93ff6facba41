//! Compares how a case changes the counters of two servers.

use test_support::client::Client;

/// Counters of classic and meta text commands that both servers must count
/// alike.
///
/// `get_flushed` is left out: memcached removes at once the items stored in the
/// second of a `flush_all`. `get_expired` is left out: without its maintainer,
/// memcached removes the oldest item of a class, if it has expired, whenever it
/// stores another.
pub(crate) const TEXT: [&str; 19] = [
    "cmd_get",
    "cmd_set",
    "cmd_flush",
    "cmd_touch",
    "cmd_meta",
    "get_hits",
    "get_misses",
    "delete_misses",
    "delete_hits",
    "incr_misses",
    "incr_hits",
    "decr_misses",
    "decr_hits",
    "cas_misses",
    "cas_hits",
    "cas_badval",
    "touch_hits",
    "touch_misses",
    "store_too_large",
];

/// Values of some counters at a point in time.
pub(crate) struct Counters(Vec<(&'static str, u64)>);

impl Counters {
    /// Reads the counters `names` from `stats`.
    pub(crate) fn read(client: &mut Client, names: &[&'static str]) -> Self {
        let answer = client.answer("stats\r\n");
        let text = String::from_utf8_lossy(&answer);
        let value_of = |wanted: &str| {
            let mut words = text.lines().map(|line| line.split(' '));
            words.find_map(|mut words| {
                let matches = words.next() == Some("STAT") && words.next() == Some(wanted);
                matches.then(|| words.next()?.parse().ok()).flatten()
            })
        };
        Self(
            names
                .iter()
                .map(|name| (*name, value_of(name).unwrap_or_else(|| panic!("no {name}"))))
                .collect(),
        )
    }

    /// Returns a description of the counters that two servers changed
    /// differently, `None` if they agree.
    pub(crate) fn difference(before: &[Self; 2], after: &[Self; 2]) -> Option<String> {
        let counted = |server: usize| {
            let pairs = before[server].0.iter().zip(&after[server].0);
            pairs.map(|((name, before), (_, after))| (*name, after - before))
        };
        let differing: Vec<String> = counted(0)
            .zip(counted(1))
            .filter(|(first, second)| first != second)
            .map(|((name, first), (_, second))| {
                format!("  {name}: first {first}, second {second}\n")
            })
            .collect();
        (!differing.is_empty()).then(|| differing.concat())
    }
}
