//! Runs scripts of (send, expect) steps against a server, over each transport:
//! step by step, pipelined in one write, and a byte at a time. The reply bytes
//! must be the same in each.
//!
//! An expectation may contain placeholders. `<name>` matches a number: the
//! first occurrence binds it, later occurrences must match the same number. In
//! a request, `<name>` is replaced by that number. `<a|b>` matches either text,
//! `<*>` matches the rest of the line.

use std::collections::HashMap;

use crate::client::{Address, Client, show};
use crate::datagram::{Datagrams, REQUEST_MAX_BYTES};
use crate::server::Server;

/// A step: the request and the complete expected reply.
pub type Step<'a> = (&'a str, &'a str);

/// Runs a script against fresh servers, over every transport and in every way
/// of delivery that the script permits.
pub fn check(steps: &[Step<'_>]) {
    run(&Server::start().address(), steps);
    let sends_bindings = steps.iter().any(|(send, _)| send.contains('<'));
    if !sends_bindings {
        run_pipelined(&Server::start().address(), steps);
    }
    run_bytewise(&Server::start().address(), steps);
    run(&Server::start_unix().address(), steps);
    run(&Server::start_tls().address(), steps);
    run_bytewise(&Server::start_tls().address(), steps);
    if steps.iter().all(suits_datagrams) {
        run_datagrams(steps);
    }
}

/// Returns whether a step fits datagrams. The request must be complete, and
/// request and reply must be short.
fn suits_datagrams((send, want): &Step<'_>) -> bool {
    const ANSWER_MAX_BYTES: usize = 16 << 10;
    send.len() < REQUEST_MAX_BYTES && want.len() < ANSWER_MAX_BYTES
}

/// Runs a script step by step on a single connection.
pub fn run(address: &Address, steps: &[Step<'_>]) {
    run_with(address, steps, |client, bytes| client.send(bytes));
}

fn run_bytewise(address: &Address, steps: &[Step<'_>]) {
    run_with(address, steps, |client, bytes| client.send_bytewise(bytes));
}

fn run_with(address: &Address, steps: &[Step<'_>], deliver: impl Fn(&mut Client, &[u8])) {
    let mut client = Client::connect(address);
    let mut bindings = Bindings::default();
    let mut differences = String::new();
    for (number, (send, want)) in steps.iter().enumerate() {
        let mut bytes = bindings.fill_in(send).into_bytes();
        bytes.extend_from_slice(b"mn\r\n");
        deliver(&mut client, &bytes);
        let got = client.read_answer();
        if !bindings.matches(want.as_bytes(), &got) {
            differences.push_str(&format!(
                "step {number}\n  sent {}\nwanted {}\n   got {}\n",
                show(&bytes[..bytes.len() - 4]),
                show(want.as_bytes()),
                show(&got)
            ));
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}

/// Runs a script step by step over UDP.
fn run_datagrams(steps: &[Step<'_>]) {
    const END: &[u8] = b"MN\r\n";
    let (_server, address) = Server::start_udp();
    let mut client = Datagrams::connect(address);
    let mut bindings = Bindings::default();
    for (send, want) in steps {
        let send = format!("{}mn\r\n", bindings.fill_in(send));
        let answer = client.ask(send.as_bytes());
        let got = answer.strip_suffix(END);
        if !got.is_some_and(|got| bindings.matches(want.as_bytes(), got)) {
            let (send, want, got) = (send.as_bytes(), want.as_bytes(), &answer[..]);
            panic!(
                "udp: {}\nwanted {}\n   got {}",
                show(send),
                show(want),
                show(got)
            );
        }
    }
}

/// Sends the whole script in a single write and compares the whole reply.
fn run_pipelined(address: &Address, steps: &[Step<'_>]) {
    let mut client = Client::connect(address);
    let send: String = steps.iter().map(|(send, _)| *send).collect();
    let want: String = steps.iter().map(|(_, want)| *want).collect();
    let got = client.answer(&send);
    if !Bindings::default().matches(want.as_bytes(), &got) {
        panic!(
            "pipelined {}\nwanted {}\n   got {}",
            show(send.as_bytes()),
            show(want.as_bytes()),
            show(&got)
        );
    }
}

/// The numbers bound to placeholders.
#[derive(Default)]
struct Bindings(HashMap<String, String>);

impl Bindings {
    /// Replaces every bound `<name>` by its number.
    fn fill_in(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("<{name}>"), value)
        })
    }

    /// Compares a reply with a pattern and binds new names.
    fn matches(&mut self, pattern: &[u8], got: &[u8]) -> bool {
        let Some(open) = pattern.iter().position(|byte| *byte == b'<') else {
            return pattern == got;
        };
        let Some(length) = pattern[open..].iter().position(|byte| *byte == b'>') else {
            return pattern == got;
        };
        let Some(rest) = got.strip_prefix(&pattern[..open]) else {
            return false;
        };
        let name = String::from_utf8_lossy(&pattern[open + 1..open + length]).into_owned();
        let after = &pattern[open + length + 1..];
        let candidates = self.candidates(&name, rest);
        for taken in candidates {
            if self.matches(after, &rest[taken.len()..]) {
                if !name.contains('|') && name != "*" {
                    self.0.insert(name, taken);
                }
                return true;
            }
        }
        false
    }

    /// Returns the texts that a placeholder may match at the start of `rest`.
    fn candidates(&self, name: &str, rest: &[u8]) -> Vec<String> {
        if name.contains('|') {
            return name
                .split('|')
                .filter(|choice| rest.starts_with(choice.as_bytes()))
                .map(str::to_owned)
                .collect();
        }
        if let Some(bound) = self.0.get(name) {
            let found = rest.starts_with(bound.as_bytes());
            return found.then(|| bound.clone()).into_iter().collect();
        }
        let ends = |byte: &u8| {
            if name == "*" {
                *byte == b'\r'
            } else {
                !byte.is_ascii_digit()
            }
        };
        let end = rest.iter().position(ends).unwrap_or(rest.len());
        let taken = String::from_utf8_lossy(&rest[..end]).into_owned();
        if taken.is_empty() {
            Vec::new()
        } else {
            vec![taken]
        }
    }
}
