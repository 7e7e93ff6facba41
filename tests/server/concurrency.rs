//! Many connections use the same few keys at once. The replies must be
//! consistent with some order of the commands: no torn values, no lost updates,
//! increasing CAS values, and never the value of another key.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use test_support::client::Client;
use test_support::random::Random;
use test_support::server::Server;

const THREADS: usize = 8;
const ROUNDS: usize = 1500;

/// Runs `work` in several threads, each with its own connection, starting
/// together. Returns the results.
fn together<T: Send>(server: &Server, work: impl Fn(usize, &mut Client) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    let mut client = server.client();
                    barrier.wait();
                    work(number, &mut client)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a thread of the test does not panic"))
            .collect()
    })
}

/// Returns a value from which a reader can verify its key and content.
fn value_of(key: usize, random: &mut Random) -> String {
    let length = match random.below(10) {
        0 => 20_000 + random.below(80_000),
        1..=3 => 500 + random.below(3000),
        _ => random.below(60),
    };
    let letter = char::from(b'a' + (random.next_u64() % 26) as u8);
    let body: String = std::iter::repeat_n(letter, length).collect();
    format!("key{key}:{length}:{body}")
}

/// Checks every value in the reply to a `gets`. Returns the CAS value on a hit.
fn check_answer(key: usize, answer: &[u8]) -> Option<u64> {
    if answer == b"END\r\n" {
        return None;
    }
    let text = std::str::from_utf8(answer).expect("values are ASCII");
    let (line, rest) = text.split_once("\r\n").expect("a VALUE line");
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words[..3], ["VALUE", &format!("k{key}"), "0"], "{line}");
    let length: usize = words[3].parse().expect("a length");
    assert_eq!(&rest[length..], "\r\nEND\r\n", "{line}");
    let parts: Vec<&str> = rest[..length].split(':').collect();
    assert_eq!(parts.len(), 3, "{line}");
    assert_eq!(parts[0], format!("key{key}"), "a value of another key");
    assert_eq!(
        parts[1].parse::<usize>().ok(),
        Some(parts[2].len()),
        "a torn value"
    );
    let first = parts[2].bytes().next();
    assert!(
        parts[2].bytes().all(|byte| Some(byte) == first),
        "a torn value"
    );
    Some(words[4].parse().expect("a CAS value"))
}

#[test]
fn values_are_whole_and_belong_to_their_key() {
    const KEYS: usize = 4;
    let server = Server::with(|config| config.threads = 4);
    let hits = together(&server, |number, client| {
        let mut random = Random::new(number as u64);
        let mut last_cas = [0; KEYS];
        let mut hits = 0;
        for _ in 0..ROUNDS {
            let key = random.below(KEYS);
            match random.below(10) {
                0..=3 => {
                    let value = value_of(key, &mut random);
                    client.ask(
                        format!("set k{key} 0 0 {}\r\n{value}\r\n", value.len()),
                        "STORED\r\n",
                    );
                }
                4 => {
                    let answer = client.answer(format!("delete k{key}\r\n"));
                    assert!(answer == b"DELETED\r\n" || answer == b"NOT_FOUND\r\n");
                }
                _ => {
                    let answer = client.answer(format!("gets k{key}\r\n"));
                    if let Some(cas) = check_answer(key, &answer) {
                        assert!(cas >= last_cas[key], "CAS went back on k{key}");
                        last_cas[key] = cas;
                        hits += 1;
                    }
                }
            }
        }
        hits
    });
    // Half of the commands are gets, and there are four sets for each delete.
    let hits: usize = hits.into_iter().sum();
    assert!(hits > THREADS * ROUNDS / 4, "{hits} hits");
}

#[test]
fn no_increment_is_lost() {
    let server = Server::with(|config| config.threads = 4);
    let mut client = server.client();
    client.ask(
        "set text 0 0 1\r\n0\r\nset meta 0 0 1\r\n0\r\n",
        "STORED\r\nSTORED\r\n",
    );
    let seen = together(&server, |_, client| {
        let mut seen = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let answer = client.answer("incr text 1\r\nma meta q\r\n");
            let answer = String::from_utf8(answer).expect("a number");
            seen.push(answer.trim_end().parse::<u64>().expect("a number"));
        }
        assert!(seen.is_sorted_by(|a, b| a < b), "a count went back");
        seen
    });
    let mut all: Vec<u64> = seen.into_iter().flatten().collect();
    all.sort_unstable();
    let total = (THREADS * ROUNDS) as u64;
    assert!(all.into_iter().eq(1..=total), "a count was given twice");
    for key in ["text", "meta"] {
        let length = total.to_string().len();
        client.ask(
            format!("get {key}\r\n"),
            format!("VALUE {key} 0 {length}\r\n{total}\r\nEND\r\n"),
        );
    }
}

#[test]
fn one_cas_of_many_wins() {
    let server = Server::with(|config| config.threads = 4);
    server.client().ask("set k 0 0 1\r\n0\r\n", "STORED\r\n");
    let wins: usize = together(&server, |_, client| {
        let mut wins = 0;
        for _ in 0..ROUNDS / 2 {
            let answer = String::from_utf8(client.answer("gets k\r\n")).expect("ASCII");
            let words: Vec<&str> = answer.split_ascii_whitespace().collect();
            let (cas, value) = (words[4], words[5].parse::<u64>().expect("a number"));
            let next = (value + 1).to_string();
            let cas = format!("cas k 0 0 {} {cas}\r\n{next}\r\n", next.len());
            match client.answer(cas).as_slice() {
                b"STORED\r\n" => wins += 1,
                b"EXISTS\r\n" => {}
                other => panic!("{}", other.escape_ascii()),
            }
        }
        wins
    })
    .into_iter()
    .sum();
    let wins = wins.to_string();
    server.client().ask(
        "get k\r\n",
        format!("VALUE k 0 {}\r\n{wins}\r\nEND\r\n", wins.len()),
    );
}

#[test]
fn no_append_is_lost() {
    const APPENDS: usize = 300;
    let server = Server::with(|config| config.threads = 4);
    server.client().ask("set k 0 0 0\r\n\r\n", "STORED\r\n");
    together(&server, |number, client| {
        for round in 0..APPENDS {
            let verb = if round % 2 == 0 { "append" } else { "prepend" };
            client.ask(format!("{verb} k 0 0 4\r\n<{number:02}>\r\n"), "STORED\r\n");
        }
    });
    let answer = server.client().answer("mg k v\r\n");
    let text = String::from_utf8(answer).expect("values are ASCII");
    assert!(
        text.starts_with(&format!("VA {}\r\n", THREADS * APPENDS * 4)),
        "{text}"
    );
    for number in 0..THREADS {
        let count = text.matches(&format!("<{number:02}>")).count();
        assert_eq!(count, APPENDS, "of thread {number}");
    }
}

#[test]
fn one_add_of_many_wins() {
    let server = Server::with(|config| config.threads = 4);
    let wins = together(&server, |number, client| {
        let adds: Vec<bool> = (0..ROUNDS / 2)
            .map(|round| {
                client.answer(format!("add k{round} 0 0 1\r\n{number}\r\n")) == b"STORED\r\n"
            })
            .collect();
        adds
    });
    for round in 0..ROUNDS / 2 {
        let winners = wins.iter().filter(|thread| thread[round]).count();
        assert_eq!(winners, 1, "k{round}");
    }
}

#[test]
fn one_client_wins_the_right_to_refill() {
    let server = Server::with(|config| config.threads = 4);
    let wins = together(&server, |_, client| {
        let won: Vec<bool> = (0..ROUNDS / 2)
            .map(
                |round| match client.answer(format!("mg k{round} N60\r\n")).as_slice() {
                    b"HD W\r\n" => true,
                    b"HD Z\r\n" => false,
                    other => panic!("{}", other.escape_ascii()),
                },
            )
            .collect();
        won
    });
    for round in 0..ROUNDS / 2 {
        let winners = wins.iter().filter(|thread| thread[round]).count();
        assert_eq!(winners, 1, "k{round}");
    }
}

#[test]
fn a_deleted_item_stays_deleted_under_incr() {
    // An incr that races with a delete must not bring the old item back.
    let server = Server::with(|config| config.threads = 4);
    let done = AtomicBool::new(false);
    let hits = together(&server, |number, client| {
        let mut hits = 0;
        if number == 0 {
            for _ in 0..ROUNDS {
                client.ask("set n 0 0 1\r\n1\r\n", "STORED\r\n");
                client.ask("delete n\r\n", "DELETED\r\n");
                client.ask("get n\r\n", "END\r\n");
            }
            done.store(true, Ordering::Release);
        }
        while !done.load(Ordering::Acquire) {
            hits += usize::from(client.answer("incr n 1\r\n") != b"NOT_FOUND\r\n");
        }
        hits
    });
    assert!(hits.into_iter().sum::<usize>() > 0, "no incr met the item");
}

#[test]
fn a_key_that_everybody_asks_for_is_never_stale() {
    const WRITES: usize = 2000;
    const DEPTH: usize = 40;
    let server = Server::with(|config| config.threads = 4);
    server.client().ask("set hot 0 0 1\r\n0\r\n", "STORED\r\n");
    let answered = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    let gets = together(&server, |number, client| {
        if number == 0 {
            for value in 1..=WRITES {
                let value = value.to_string();
                let set = format!("set hot 0 0 {}\r\n{value}\r\n", value.len());
                client.ask(set, "STORED\r\n");
                answered.fetch_add(1, Ordering::Release);
            }
            done.store(true, Ordering::Release);
            return 0;
        }
        let (mut gets, mut last) = (0, 0);
        while !done.load(Ordering::Acquire) || last < WRITES {
            // The reply must be at least the last number acknowledged before
            // the request. Alternate two requests: identical requests would
            // share a lookup.
            let known = answered.load(Ordering::Acquire);
            client.send("get hot\r\nget none\r\n".repeat(DEPTH));
            for _ in 0..DEPTH {
                assert!(client.line().starts_with("VALUE hot 0 "));
                let value = client.line().trim_end().parse().expect("a number");
                client.expect("END\r\nEND\r\n");
                assert!(
                    value >= known && value >= last,
                    "{value} after {known}, {last}"
                );
                last = value;
            }
            gets += DEPTH;
        }
        gets
    });
    let gets: usize = gets.into_iter().sum();
    let mut client = server.client();
    assert_eq!(client.stat("get_hits"), gets.to_string());
    assert_eq!(client.stat("get_misses"), gets.to_string());
    client.ask("delete hot\r\n", "DELETED\r\n");
    for mut client in (0..THREADS).map(|_| server.client()) {
        client.ask("get hot\r\n", "END\r\n");
    }
}
