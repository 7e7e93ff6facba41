//! The report: sketches of all workers merged.

use std::cmp::Reverse;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::limits::{HOT_KEYS_MAX, KEY_MAX_BYTES};
use crate::stats::hot_keys::sampler::HotKeys;
use crate::stats::hot_keys::sketch::{SLOTS, WINDOW_MS, Window, first_window};
use crate::time::Now;

/// The most requested keys of the last 10 to 20 seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HotReport {
    /// Seconds that the report covers.
    pub seconds: f64,
    /// Requests per second, of all keys.
    pub requests_per_second: f64,
    /// The most requested keys, in descending order of their requests.
    pub keys: Vec<HotKey>,
}

/// Estimates for one key.
#[derive(Clone, Debug, PartialEq)]
pub struct HotKey {
    /// Bytes of the key.
    pub key: Box<[u8]>,
    /// Share of all requests, from 0 to 1.
    pub share: f64,
    /// Reads and writes per second.
    pub requests_per_second: f64,
    /// Reads per second, hits and misses.
    pub reads_per_second: f64,
    /// Writes per second.
    pub writes_per_second: f64,
    /// Bytes of values sent and stored per second.
    pub bytes_per_second: f64,
    /// Error bound of the requests per second: two standard deviations of the
    /// sampling, and the requests that the sketches may have missed.
    pub error_per_second: f64,
}

/// Keys that are examined for each key of the report. Of two keys with similar
/// counts, a sketch may have stored only one.
const CANDIDATES: usize = 4;

/// Counts of one key, summed over workers and windows.
#[derive(Debug, Default)]
struct Sum {
    hash: u64,
    key: ArrayVec<u8, KEY_MAX_BYTES>,
    reads: u64,
    writes: u64,
    bytes: u64,
    /// Requests, at most, that were counted for other keys.
    missed: u64,
    /// Variance of the requests due to sampling.
    variance: f64,
}

/// Merges the sketches of all workers into a report of up to `most` keys, at
/// most [`HOT_KEYS_MAX`].
///
/// Reads each sketch twice: for the keys that may be in the report, then for the
/// counts of these keys. Each takes some 20 µs, in which the worker postpones
/// samples.
pub fn merge_hot_keys(all: &[Arc<HotKeys>], now: Now, most: usize) -> HotReport {
    let most = most.min(HOT_KEYS_MAX);
    let mut sums = candidates(all, now, most * CANDIDATES);
    let mut since_ms = now.millis();
    let (mut requests, mut sampled) = (0, 0);
    for keys in all {
        keys.read(|sketch| {
            since_ms = since_ms.min(sketch.since_ms);
            for window in sketch.windows(now) {
                requests += window.requests;
                sampled += window.sampled;
                sums.iter_mut().for_each(|sum| sum.add(window));
            }
        });
    }
    sums.retain(|sum| !sum.key.is_empty() && sum.requests() > 0);
    sums.sort_unstable_by(|a, b| (b.requests(), &a.key).cmp(&(a.requests(), &b.key)));
    sums.truncate(most);

    let start_ms = since_ms.max(first_window(now) * WINDOW_MS);
    let covered_ms = now.millis().saturating_sub(start_ms).max(1);
    let seconds = covered_ms as f64 / 1000.0;
    let requests_per_second = requests as f64 / seconds;
    // One counted request, as a share of all.
    let share = 1.0 / (sampled as f64).max(1.0);
    let keys = sums
        .iter()
        .map(|sum| sum.estimate(share, requests_per_second));
    HotReport {
        seconds,
        requests_per_second,
        keys: keys.collect(),
    }
}

/// Returns empty sums for the stored keys with the highest counts, at most
/// `most`.
fn candidates(all: &[Arc<HotKeys>], now: Now, most: usize) -> Vec<Sum> {
    let mut stored: Vec<(u64, u32)> = Vec::new();
    for keys in all {
        // Allocated before the lock is taken.
        stored.reserve(2 * SLOTS);
        keys.read(|sketch| {
            sketch
                .windows(now)
                .for_each(|window| stored.extend(window.stored()))
        });
    }
    stored.sort_unstable();
    let by_hash = stored.chunk_by(|(a, _), (b, _)| a == b);
    let mut counts: Vec<(u64, u64)> = by_hash
        .map(|same| {
            let requests = same.iter().map(|(_, requests)| u64::from(*requests));
            (requests.sum(), same[0].0)
        })
        .collect();
    counts.sort_unstable_by_key(|count| Reverse(*count));
    counts.truncate(most);
    let sum = |(_, hash)| Sum {
        hash,
        ..Sum::default()
    };
    counts.into_iter().map(sum).collect()
}

impl Sum {
    fn requests(&self) -> u64 {
        self.reads + self.writes
    }

    fn add(&mut self, window: &Window) {
        let (counts, key) = window.counts(self.hash);
        if let Some(key) = key.filter(|_| self.key.is_empty()) {
            self.key = key.iter().copied().collect();
        }
        self.reads += u64::from(counts.reads);
        self.writes += u64::from(counts.writes);
        self.bytes = self.bytes.saturating_add(counts.bytes);
        self.missed += u64::from(counts.error);
        let weight = f64::from(window.weight_max.max(1));
        self.variance += f64::from(counts.requests()) * (weight - 1.0);
    }

    /// Scales the counts by `share`, and to rates by the rate of all requests.
    fn estimate(&self, share: f64, requests_per_second: f64) -> HotKey {
        let rate = |count: f64| count * share * requests_per_second;
        HotKey {
            key: self.key.as_slice().into(),
            share: self.requests() as f64 * share,
            requests_per_second: rate(self.requests() as f64),
            reads_per_second: rate(self.reads as f64),
            writes_per_second: rate(self.writes as f64),
            bytes_per_second: rate(self.bytes as f64),
            error_per_second: rate(self.missed as f64 + 2.0 * self.variance.sqrt()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use rustcached_bench::random::{Random, Zipf, mix};

    use super::{HotKey, HotReport, merge_hot_keys};
    use crate::limits::HOT_KEYS_MAX;
    use crate::stats::hot_keys::sampler::{HotKeys, HotSampler};
    use crate::stats::hot_keys::sketch::{KeyAccess, WINDOW_MS};
    use crate::time::Now;

    const START_MS: u64 = 3 * WINDOW_MS;

    /// The sketches and the samplers of some workers.
    struct Workers {
        keys: Vec<Arc<HotKeys>>,
        samplers: Vec<HotSampler>,
    }

    fn after(ms: u64) -> Now {
        Now::from_millis(START_MS + ms)
    }

    impl Workers {
        fn new(number: usize) -> Self {
            let keys: Vec<Arc<HotKeys>> = (0..number).map(|_| Arc::default()).collect();
            keys.iter().for_each(|keys| keys.turn_on(after(0)));
            let with_seeds = keys.iter().zip(1..);
            let samplers = with_seeds.map(|(keys, seed)| HotSampler::new(Arc::clone(keys), seed));
            Self {
                samplers: samplers.collect(),
                keys,
            }
        }

        fn request(&mut self, worker: usize, ms: u64, key: &str, access: KeyAccess, bytes: u64) {
            let sampler = &mut self.samplers[worker];
            assert!(sampler.begin_batch(after(ms)));
            let hash = key
                .bytes()
                .fold(7, |hash, byte| mix(hash ^ u64::from(byte)));
            sampler.record(hash, key.as_bytes(), access, bytes);
        }

        fn report(&self, ms: u64, most: usize) -> HotReport {
            merge_hot_keys(&self.keys, after(ms), most)
        }
    }

    fn names(report: &HotReport) -> Vec<&str> {
        let keys = report.keys.iter();
        keys.map(|key| std::str::from_utf8(&key.key).unwrap())
            .collect()
    }

    #[test]
    fn the_hottest_keys_of_a_zipf_load_are_found_with_their_shares() {
        const KEYS: u64 = 1_000_000;
        const THETA: f64 = 0.99;
        const PER_SECOND: u64 = 100_000;
        const MS: u64 = 20_000;
        const BATCH_MS: u64 = 10;
        const TOP: u64 = 20;
        let zipf = Zipf::new(KEYS, THETA);
        let total: f64 = (1..=KEYS).map(|rank| (rank as f64).powf(-THETA)).sum();
        let mut random = Random::new(1);
        let mut workers = Workers::new(4);
        for ms in (0..MS).step_by(BATCH_MS as usize) {
            for sampler in &mut workers.samplers {
                assert!(sampler.begin_batch(after(ms)));
                for _ in 0..PER_SECOND * BATCH_MS / 1000 {
                    let rank = zipf.draw(&mut random);
                    sampler.record(mix(rank), &rank.to_le_bytes(), KeyAccess::Read, 1);
                }
            }
        }
        let report = workers.report(MS - 1, TOP as usize);
        let wanted = 4.0 * PER_SECOND as f64;
        assert!((report.requests_per_second / wanted - 1.0).abs() < 0.001);

        let (mut found, mut within_bound) = (0, 0);
        for key in &report.keys {
            let rank = u64::from_le_bytes(key.key.as_ref().try_into().unwrap());
            let share = (rank as f64).powf(-THETA) / total;
            let error = key.share / share - 1.0;
            assert!(error.abs() < 0.1, "rank {rank}: {error}");
            let error = (key.requests_per_second - share * wanted).abs();
            within_bound += u64::from(error < key.error_per_second);
            found += u64::from(rank <= TOP);
        }
        assert!(found * 100 >= 95 * TOP, "{found} of {TOP} found");
        assert!(within_bound * 100 >= 90 * TOP, "{within_bound} of {TOP}");
    }

    #[test]
    fn rates_are_sums_over_workers_and_both_windows() {
        let mut workers = Workers::new(2);
        for ms in (0..16_000).step_by(10) {
            workers.request(0, ms, "a", KeyAccess::Read, 100);
            workers.request(1, ms, "a", KeyAccess::Write, 50);
            workers.request(1, ms, "b", KeyAccess::Write, 0);
        }
        let report = workers.report(16_000, 10);
        let key = |key: &[u8], share, rates: [f64; 4]| HotKey {
            key: key.into(),
            share,
            requests_per_second: rates[0],
            reads_per_second: rates[1],
            writes_per_second: rates[2],
            bytes_per_second: rates[3],
            error_per_second: 0.0,
        };
        assert_eq!((report.seconds, report.requests_per_second), (16.0, 300.0));
        let round = |number: f64| (number * 1e6).round() / 1e6;
        let keys = report.keys.iter().map(|of| {
            let rates = [
                of.requests_per_second,
                of.reads_per_second,
                of.writes_per_second,
                of.bytes_per_second,
            ];
            let exact = of.error_per_second == 0.0;
            assert!(exact, "{of:?}");
            key(&of.key, round(of.share), rates.map(round))
        });
        let want = [
            key(b"a", 0.666_667, [200.0, 100.0, 100.0, 15_000.0]),
            key(b"b", 0.333_333, [100.0, 0.0, 100.0, 0.0]),
        ];
        assert_eq!(keys.collect::<Vec<_>>(), want);
    }

    #[test]
    fn a_key_fades_within_two_windows() {
        let mut workers = Workers::new(2);
        for ms in 0..100 {
            workers.request(0, ms, "old", KeyAccess::Read, 1);
        }
        workers.request(1, 12_000, "new", KeyAccess::Read, 1);
        assert_eq!(names(&workers.report(19_999, 10)), ["old", "new"]);
        let report = workers.report(20_000, 10);
        assert_eq!((names(&report), report.seconds), (vec!["new"], 10.0));
        let report = workers.report(30_000, 10);
        assert_eq!((report.keys, report.requests_per_second), (vec![], 0.0));
    }

    #[test]
    fn a_report_is_limited() {
        let mut workers = Workers::new(1);
        for number in 0..HOT_KEYS_MAX + 10 {
            for ms in 0..=number as u64 {
                workers.request(0, ms, &number.to_string(), KeyAccess::Read, 1);
            }
        }
        assert_eq!(names(&workers.report(500, 2)), ["109", "108"]);
        assert_eq!(workers.report(500, usize::MAX).keys.len(), HOT_KEYS_MAX);
        assert_eq!(workers.report(500, 0).keys, []);
    }

    #[test]
    fn workers_that_are_off_do_not_count() {
        let mut workers = Workers::new(2);
        workers.request(0, 0, "a", KeyAccess::Read, 1);
        workers.request(1, 0, "b", KeyAccess::Read, 1);
        workers.keys[1].turn_off();
        assert_eq!(names(&workers.report(10, 10)), ["a"]);
        workers.keys[0].turn_off();
        let report = workers.report(10, 10);
        assert_eq!((report.keys, report.requests_per_second), (vec![], 0.0));
    }

    #[test]
    fn the_share_of_a_hot_key_is_exact_among_many_cold_ones() {
        let mut workers = Workers::new(1);
        for number in 0..20_000 {
            let cold = format!("cold {number}");
            workers.request(0, 0, &cold, KeyAccess::Read, 1);
            if number % 4 == 0 {
                workers.request(0, 0, "hot", KeyAccess::Write, 1);
            }
        }
        let hot = &workers.report(1_000, 1).keys[0];
        assert_eq!(hot.key.as_ref(), b"hot");
        assert!((hot.share - 0.2).abs() < 1e-9, "{}", hot.share);
    }

    #[test]
    fn reports_are_consistent_while_a_worker_counts() {
        const REQUESTS: u64 = 300_000;
        let mut workers = Workers::new(1);
        let keys = workers.keys.clone();
        let sampler = &mut workers.samplers[0];
        assert!(sampler.begin_batch(after(0)));
        let count = |sampler: &mut HotSampler, requests| {
            for number in 0..requests {
                let hash = mix(number % 3);
                sampler.record(hash, &hash.to_le_bytes(), KeyAccess::Read, 1);
            }
        };
        thread::scope(|scope| {
            let counting = scope.spawn(|| count(sampler, REQUESTS));
            let mut last = 0.0;
            while !counting.is_finished() {
                let report = merge_hot_keys(&keys, after(1_000), 10);
                let shares: f64 = report.keys.iter().map(|key| key.share).sum();
                assert!(shares < 1.0 + 1e-9, "{shares}");
                for key in &report.keys {
                    let hash = u64::from_le_bytes(key.key.as_ref().try_into().unwrap());
                    assert!((0..3).any(|number| mix(number) == hash));
                }
                assert!(report.requests_per_second >= last);
                last = report.requests_per_second;
            }
        });
        // Without a reader, one of the next 63 requests is sampled.
        count(&mut workers.samplers[0], 63);
        let requests = workers.report(1_000, 3).requests_per_second;
        let counted = REQUESTS as f64..=(REQUESTS + 63) as f64;
        assert!(counted.contains(&requests), "{requests}");
    }
}
