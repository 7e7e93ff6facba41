//! Measures what sharing a cache line between two threads costs on this
//! machine: `cargo bench --bench cache_lines`. docs/performance.md uses the
//! figures to estimate machines with more cores.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crossbeam::utils::CachePadded;

/// Operations per round.
const TIMES: u64 = 1 << 20;
const ROUNDS: usize = 9;

/// A line that two threads write in turn: half a round trip.
fn hand_over() -> f64 {
    let turn = CachePadded::new(AtomicU64::new(0));
    let pass = |mine: u64| {
        for number in 0..TIMES {
            while turn.load(Ordering::Acquire) != 2 * number + mine {
                std::hint::spin_loop();
            }
            turn.store(2 * number + mine + 1, Ordering::Release);
        }
    };
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| pass(1));
        pass(0);
    });
    begun.elapsed().as_nanos() as f64 / (2 * TIMES) as f64
}

/// Atomic additions by `threads` threads, to one counter or to one each, per
/// addition of a thread. Between two additions, a thread does other work of
/// `between` dependent multiplications.
fn additions(threads: usize, shared: bool, between: u32) -> f64 {
    let counters: Vec<CachePadded<AtomicU64>> =
        (0..threads).map(|_| CachePadded::default()).collect();
    let start = Barrier::new(threads);
    let add = |own: usize| {
        let counter = &counters[if shared { 0 } else { own }];
        let mut work = own as u64 + 1;
        start.wait();
        let begun = Instant::now();
        for _ in 0..TIMES {
            for _ in 0..between {
                work = std::hint::black_box(work.wrapping_mul(6_364_136_223_846_793_005));
            }
            counter.fetch_add(1, Ordering::Relaxed);
        }
        begun.elapsed().as_nanos() as f64 / TIMES as f64
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|own| scope.spawn(move || add(own)))
            .collect();
        let first = add(0);
        let sum: f64 = others
            .into_iter()
            .map(|other| other.join().expect("it ends"))
            .sum();
        (first + sum) / threads as f64
    })
}

fn median(mut measure: impl FnMut() -> f64) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| measure()).collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn main() {
    // `cargo bench` passes options that this bench does not have.
    println!("medians of {ROUNDS} rounds, ns");
    println!(
        "a line handed over between two threads  {:7.1}",
        median(hand_over)
    );
    println!(
        "work between two additions, one thread, two threads with a counter each, with one counter:"
    );
    for between in [0, 20, 100, 400] {
        println!(
            "{between:5}  {:7.1}  {:7.1}  {:7.1}",
            median(|| additions(1, true, between)),
            median(|| additions(2, false, between)),
            median(|| additions(2, true, between)),
        );
    }
}
