//! Several threads change keys of their own beside a thread that invalidates
//! their prefix and tag. Each thread compares with a model: an item that was
//! stored before an invalidation is not found after it, whatever changed it in
//! between; and nothing else is lost or comes back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustcached::config::Config;
use rustcached::shared::Shared;
use rustcached::store::{Options, Store};
use rustcached::time::Now;

use crate::session::Session;

const WRITERS: usize = 3;
const KEYS: usize = 4;
/// Least number of invalidations, and of items that they take.
const INVALIDATIONS: u64 = 20_000;
const LOSSES: u64 = 1000;
const NOW: Now = Now::from_millis(10_000);

/// A client of the store.
struct Client<'a> {
    store: &'a Store,
    shared: &'a Shared,
    session: Session,
}

impl<'a> Client<'a> {
    fn new(store: &'a Store, shared: &'a Shared) -> Self {
        Self {
            store,
            shared,
            session: Session::new(store),
        }
    }

    fn ask(&mut self, line: &str, block: &str) -> String {
        let session = &mut self.session;
        let answer = session.ask(self.store, self.shared, NOW, line, block.as_bytes());
        String::from_utf8(answer).expect("text")
    }
}

/// Invalidations that have begun, and that have been answered.
#[derive(Default)]
struct Progress {
    begun: AtomicU64,
    answered: AtomicU64,
    is_over: AtomicBool,
    /// Items of the model that were invalidated.
    losses: AtomicU64,
    /// The tag is invalidated, not the prefix.
    is_of_tag: bool,
}

/// An item of the model.
#[derive(Clone, Copy)]
struct Kept {
    number: u64,
    /// Invalidations answered before it was stored.
    answered_before: u64,
    /// Invalidations begun when its storing had been answered. Changes do not
    /// change this.
    begun_after: u64,
}

fn write(mut client: Client<'_>, writer: usize, progress: &Progress) {
    let order = Ordering::SeqCst;
    let mut model: [Option<Kept>; KEYS] = [None; KEYS];
    let mut random = writer as u64 + 1;
    while !progress.is_over.load(order) {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let place = (random >> 33) as usize % KEYS;
        let key = format!("a:{writer}:{place}");
        let before = progress.answered.load(order);
        let Some(kept) = model[place] else {
            let answer = match random >> 60 {
                // The only items without the tag.
                0..4 if !progress.is_of_tag => client.ask(&format!("set {key} 0 0 1"), "0"),
                0..8 => client.ask(&format!("ms {key} 1 Pt"), "0"),
                8..12 => client.ask(&format!("ms {key} 1 Pt E{}", random >> 1), "0"),
                _ => client.ask(&format!("ma {key} N0 Pt"), ""),
            };
            assert!(matches!(&*answer, "STORED\r\n" | "HD\r\n"), "{answer}");
            model[place] = Some(Kept {
                number: 0,
                answered_before: before,
                begun_after: progress.begun.load(order),
            });
            continue;
        };
        let number = kept.number;
        let (is_hit, number) = match random >> 58 & 7 {
            0 | 1 => {
                let answer = client.ask(&format!("incr {key} 1"), "");
                let wanted = format!("{}\r\n", number + 1);
                (is(&answer, &wanted, "NOT_FOUND\r\n"), number + 1)
            }
            2 => {
                let answer = client.ask(&format!("ma {key} E{}", random >> 1), "");
                (is(&answer, "HD\r\n", "NF\r\n"), number + 1)
            }
            3 => {
                // The value stays, in a new item.
                let answer = client.ask(&format!("append {key} 0 0 0"), "");
                (is(&answer, "STORED\r\n", "NOT_STORED\r\n"), number)
            }
            4 => {
                // Without the tag here, the new item would have none.
                let line = format!("ms {key} {} MR Pt", number.to_string().len());
                let answer = client.ask(&line, &number.to_string());
                (is(&answer, "HD\r\n", "NS\r\n"), number)
            }
            5 => {
                let answer = client.ask(&format!("touch {key} 1000"), "");
                (is(&answer, "TOUCHED\r\n", "NOT_FOUND\r\n"), number)
            }
            _ => {
                let answer = client.ask(&format!("get {key}"), "");
                let len = number.to_string().len();
                let wanted = format!("VALUE {key} 0 {len}\r\n{number}\r\nEND\r\n");
                (is(&answer, &wanted, "END\r\n"), number)
            }
        };
        if is_hit {
            assert!(
                before <= kept.begun_after,
                "{key} outlives invalidation {before}, as of {}",
                kept.begun_after
            );
            model[place] = Some(Kept { number, ..kept });
        } else {
            let begun = progress.begun.load(order);
            assert!(
                begun > kept.answered_before,
                "{key} is lost without an invalidation"
            );
            progress.losses.fetch_add(1, order);
            model[place] = None;
        }
    }
}

/// Returns whether a reply is that of a hit; it must otherwise be that of a miss.
fn is(answer: &str, hit: &str, miss: &str) -> bool {
    assert!(answer == hit || answer == miss, "{answer}, not {hit}");
    answer == hit
}

fn check(line: &str, is_of_tag: bool) {
    let shared = Shared::new(Config::default());
    let store = Store::new(Options::from(&shared.config));
    let progress = Progress {
        is_of_tag,
        ..Progress::default()
    };
    let order = Ordering::SeqCst;
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let client = Client::new(&store, &shared);
                let progress = &progress;
                scope.spawn(move || write(client, writer, progress))
            })
            .collect();
        let mut client = Client::new(&store, &shared);
        for number in 1.. {
            if number > INVALIDATIONS && progress.losses.load(order) > LOSSES {
                break;
            }
            // A writer that has failed ends the test.
            if writers.iter().any(thread::ScopedJoinHandle::is_finished) {
                break;
            }
            progress.begun.store(number, order);
            let answer = client.ask(line, "");
            assert_eq!(answer, "INVALIDATED\r\n");
            progress.answered.store(number, order);
            if number % 8 == 0 && store.begin_lap() {
                for shard in 0..store.shard_count() {
                    store.sweep_shard(&mut client.session.local, shard, NOW);
                }
                store.end_lap();
            }
        }
        progress.is_over.store(true, order);
        for writer in writers {
            writer.join().expect("no difference");
        }
    });
}

#[test]
fn nothing_outlives_an_invalidation_of_its_prefix() {
    check("invalidate prefix a:", false);
}

#[test]
fn nothing_outlives_an_invalidation_of_its_tag() {
    check("invalidate tag t", true);
}
