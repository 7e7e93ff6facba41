//! Replies of unbounded length, written in steps. Key dumps, `stats cachedump`
//! and `stats sizes` walk the store; `listing.rs` has the lists.
//!
//! A connection takes the next step after its client has read the previous one.
//! The worker serves other connections between steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::command::admin::listing::Listing;
use crate::command::admin::stat_sink::{StatSink, stat};
use crate::command::executor::Executor;
use crate::command::output::Output;
use crate::events::write_uri;
use crate::limits::{CACHEDUMP_MAX_BYTES, ClassId};
use crate::protocol::binary::encode::Echo;
use crate::protocol::meta::key::encode_key;
use crate::protocol::text::encode;
use crate::shared::Shared;
use crate::store::{Item, Store, Walk};
use crate::time::{Expiry, Now, unix_seconds};

/// Width of a bar of the size histogram, in bytes.
const SIZE_STEP: usize = 32;
/// Bars of the size histogram per step.
const BARS_PER_STEP: usize = 1024;

/// A reply that is written in steps, and its progress.
#[derive(Debug)]
pub struct Dump {
    body: Body,
    /// Second of the last step: the client had read everything then.
    pub progress: u32,
}

#[derive(Debug)]
enum Body {
    Items(ItemDump),
    Listing(Listing),
}

/// A dump that walks the store.
#[derive(Debug)]
struct ItemDump {
    walk: Walk,
    /// The walk is complete.
    walked: bool,
    form: Form,
    /// Bit set of the size classes to dump, class 1 in the lowest bit.
    classes: u64,
    /// Prefix of the keys to dump.
    prefix: Box<[u8]>,
    /// Unix time of second 0 of the server's clock.
    origin: u64,
    started: bool,
    /// Reference that counts this dump as in progress (`Crawl::dumps`).
    _running: Option<Arc<()>>,
}

/// Output format of an item.
#[derive(Debug)]
enum Form {
    /// `lru_crawler metadump`
    Metadump,
    /// `lru_crawler mgdump`
    Mgdump,
    /// `stats cachedump`, with the remaining limits.
    Cachedump { items: u64, bytes: usize },
    /// `stats sizes`: items by size, rounded up to [`SIZE_STEP`]. Encoded as
    /// packets if `echo` is given.
    Sizes {
        bars: BTreeMap<usize, u64>,
        echo: Option<Echo>,
    },
}

/// Kind of a crawler dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::command) enum KeyDump {
    Metadump,
    Mgdump,
}

impl Executor<'_> {
    /// Starts a dump of the keys with this prefix in these size classes.
    pub(in crate::command) fn key_dump(
        &self,
        kind: KeyDump,
        classes: u64,
        prefix: &[u8],
    ) -> Box<Dump> {
        let form = match kind {
            KeyDump::Metadump => Form::Metadump,
            KeyDump::Mgdump => Form::Mgdump,
        };
        let running = Arc::clone(&self.shared.runtime.crawl.dumps);
        self.boxed(Body::Items(ItemDump {
            prefix: prefix.into(),
            _running: Some(running),
            ..self.dump(form, classes)
        }))
    }

    /// Starts a list of connections or prefixes.
    pub(in crate::command) fn listing(&self, listing: Listing) -> Box<Dump> {
        self.boxed(Body::Listing(listing))
    }

    fn boxed(&self, body: Body) -> Box<Dump> {
        let progress = self.now.second();
        Box::new(Dump { body, progress })
    }

    /// Starts a dump of the first `items` items of a size class; 0 items stands
    /// for all. Without a class the dump is empty.
    pub(in crate::command) fn cachedump(&self, class: Option<ClassId>, items: u64) -> Box<Dump> {
        let items = if items == 0 { u64::MAX } else { items };
        let bytes = CACHEDUMP_MAX_BYTES;
        let classes = class.map_or(0, |class| 1 << class.index());
        self.boxed(Body::Items(
            self.dump(Form::Cachedump { items, bytes }, classes),
        ))
    }

    /// Starts the size histogram, encoded as packets if `echo` is given.
    pub(in crate::command) fn sizes(&self, echo: Option<Echo>) -> Box<Dump> {
        let bars = BTreeMap::new();
        self.boxed(Body::Items(self.dump(Form::Sizes { bars, echo }, u64::MAX)))
    }

    fn dump(&self, form: Form, classes: u64) -> ItemDump {
        ItemDump {
            walk: Walk::default(),
            walked: false,
            form,
            classes,
            prefix: Box::default(),
            origin: unix_seconds().saturating_sub(u64::from(self.now.second())),
            started: self.shared.config.bare_dumps,
            _running: None,
        }
    }
}

impl Dump {
    /// Returns whether the dump takes time in proportion to the items in the
    /// store.
    pub fn walks_store(&self) -> bool {
        matches!(self.body, Body::Items(_))
    }

    /// Appends the output of the next step. Returns false once the reply is
    /// complete.
    pub fn step(&mut self, store: &Store, shared: &Shared, now: Now, out: &mut Output) -> bool {
        self.progress = now.second();
        match &mut self.body {
            Body::Items(items) => items.step(store, now, &mut out.bytes),
            Body::Listing(listing) => listing.step(shared, now, &mut out.bytes),
        }
    }
}

impl ItemDump {
    fn step(&mut self, store: &Store, now: Now, out: &mut Vec<u8>) -> bool {
        if !self.started {
            self.started = true;
            if matches!(self.form, Form::Metadump | Form::Mgdump) {
                out.extend_from_slice(b"OK\r\n");
            }
        }
        let Self {
            walk,
            form,
            classes,
            prefix,
            origin,
            ..
        } = self;
        let more = !self.walked
            && store.walk(walk, now, |item| {
                let wanted = *classes >> item.class().index() & 1 != 0;
                if wanted && item.key().starts_with(prefix) {
                    form.show(item, *origin, now, out);
                }
            });
        if more && !form.is_full() {
            return true;
        }
        self.walked = true;
        form.end(out)
    }
}

impl Form {
    fn show(&mut self, item: Item<'_>, origin: u64, now: Now, out: &mut Vec<u8>) {
        match self {
            Self::Metadump => write_metadump(item, origin, now, out),
            Self::Mgdump => write_mgdump(item, out),
            Self::Cachedump { items, bytes } => {
                // Spaces and control characters in keys would corrupt the
                // reply.
                let is_word = item.key().iter().all(|byte| *byte > b' ' && *byte != 127);
                if *items > 0 && *bytes > 0 && is_word {
                    let before = out.len();
                    write_cachedump(item, origin, out);
                    *items -= 1;
                    *bytes = bytes.saturating_sub(out.len() - before);
                }
            }
            Self::Sizes { bars, .. } => {
                let size = item.bytes().div_ceil(SIZE_STEP) * SIZE_STEP;
                *bars.entry(size).or_default() += 1;
            }
        }
    }

    fn is_full(&self) -> bool {
        matches!(self, Self::Cachedump { items, bytes } if *items == 0 || *bytes == 0)
    }

    /// Appends the end of the dump, after the walk. Returns true if it needs
    /// another step.
    fn end(&mut self, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Metadump | Self::Cachedump { .. } => out.extend_from_slice(b"END\r\n"),
            Self::Mgdump => out.extend_from_slice(b"EN\r\n"),
            Self::Sizes { bars, echo } => {
                let mut sink = match echo {
                    None => StatSink::text(out),
                    Some(echo) => StatSink::binary(out, *echo),
                };
                for _ in 0..BARS_PER_STEP {
                    let Some((size, items)) = bars.pop_first() else {
                        sink.end();
                        return false;
                    };
                    stat(&mut sink, &size.to_string(), items);
                }
                return true;
            }
        }
        false
    }
}

fn write_metadump(item: Item<'_>, origin: u64, now: Now, out: &mut Vec<u8>) {
    out.extend_from_slice(b"key=");
    write_uri(out, item.key());
    match end_of(item, origin) {
        Some(end) => write_field(out, b" exp=", end),
        None => out.extend_from_slice(b" exp=-1"),
    }
    write_field(out, b" la=", origin + u64::from(item.accessed(now)));
    write_field(out, b" cas=", item.cas());
    let fetched: &[u8] = if item.is_fetched() {
        b" fetch=yes"
    } else {
        b" fetch=no"
    };
    out.extend_from_slice(fetched);
    write_field(out, b" cls=", u64::from(item.class().number()));
    write_field(out, b" size=", item.bytes() as u64);
    write_field(out, b" flags=", u64::from(item.flags()));
    out.push(b'\n');
}

fn write_field(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    encode::number(out, value);
}

fn write_mgdump(item: Item<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"mg ");
    if item.is_key_binary() {
        encode_key(item.key(), out);
        out.extend_from_slice(b" b\r\n");
    } else {
        out.extend_from_slice(item.key());
        out.extend_from_slice(b"\r\n");
    }
}

fn write_cachedump(item: Item<'_>, origin: u64, out: &mut Vec<u8>) {
    use std::io::Write as _;
    out.extend_from_slice(b"ITEM ");
    out.extend_from_slice(item.key());
    let (len, end) = (item.value_len(), end_of(item, origin).unwrap_or(0));
    // Writing to a Vec cannot fail.
    let _ = write!(out, " [{len} b; {end} s]\r\n");
}

/// Returns the Unix time at which an item expires; `None` for never.
fn end_of(item: Item<'_>, origin: u64) -> Option<u64> {
    let expiry = item.expiry();
    (expiry != Expiry::NEVER).then(|| origin + u64::from(expiry.second()))
}
