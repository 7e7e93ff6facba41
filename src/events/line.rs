//! Event lines that watchers receive, in memcached's format (logger.c).

use std::io::Write as _;
use std::net::SocketAddr;

use crate::events::{Event, EventKind, ItemSize};
use crate::limits::{ClassId, KEY_MAX_BYTES};

const MICROS: u64 = 1_000_000;

/// Appends the line of an event, its newline included.
pub fn write_line(out: &mut Vec<u8>, event: &Event) {
    let (seconds, micros) = (event.unix_us / MICROS, event.unix_us % MICROS);
    // Writing to a Vec cannot fail.
    let _ = write!(out, "ts={seconds}.{micros:06} gid={} type=", event.gid);
    match &event.kind {
        EventKind::Fetched {
            key,
            status,
            found,
            connection,
        } => {
            write_key(out, "item_get", key);
            let status = status.name();
            let (class, value_len) = class_and_len(found);
            let _ = write!(
                out,
                " status={status} clsid={class} cfd={connection} size={value_len}"
            );
        }
        EventKind::Stored {
            key,
            status,
            command,
            ttl,
            new,
            connection,
        } => {
            write_key(out, "item_store", key);
            let status = status.name();
            let (class, value_len) = class_and_len(new);
            let _ = write!(
                out,
                " status={status} cmd={command} ttl={ttl} clsid={class} cfd={connection} \
                 size={value_len}"
            );
        }
        EventKind::Deleted { key, command, old } => {
            write_key(out, "deleted", key);
            let (class, value_len) = class_and_len(old);
            let _ = write!(out, " cmd={command} clsid={class} size={value_len}");
        }
        EventKind::Evicted {
            key,
            fetched,
            ttl,
            idle,
            old,
        } => {
            write_key(out, "eviction", key);
            let (class, value_len) = class_and_len(old);
            let fetched = if *fetched { "yes" } else { "no" };
            let ttl = ttl.map_or(-1, i64::from);
            let _ = write!(
                out,
                " fetch={fetched} ttl={ttl} la={idle} clsid={class} size={value_len}"
            );
        }
        EventKind::Invalidated {
            name,
            kind,
            command,
            stale,
            connection,
        } => {
            write_key(out, "invalidate", name);
            let stale = if *stale { "yes" } else { "no" };
            let _ = write!(
                out,
                " kind={kind} cmd={command} stale={stale} cfd={connection}"
            );
        }
        EventKind::Opened { peer, connection } => {
            out.extend_from_slice(b"conn_new");
            write_peer(out, *peer);
            let _ = write!(out, " cfd={connection}");
        }
        EventKind::Closed {
            peer,
            connection,
            reason,
        } => {
            out.extend_from_slice(b"conn_close");
            write_peer(out, *peer);
            let _ = write!(out, " reason={reason} cfd={connection}");
        }
        EventKind::Slow {
            command,
            key,
            total_us,
            waiting_us,
            executing_us,
            sending_us,
            bytes,
            connection,
        } => {
            write_key(out, "slow", key);
            let _ = write!(
                out,
                " cmd={command} total_us={total_us} waiting_us={waiting_us} \
                 executing_us={executing_us} sending_us={sending_us} bytes={bytes} cfd={connection}"
            );
        }
    }
    out.push(b'\n');
}

/// Appends bytes in memcached's key encoding: letters, digits and `-._~` as
/// they are, other bytes as `%XX`.
pub fn write_uri(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte);
            }
            _ => {
                out.push(b'%');
                for digit in [byte >> 4, byte & 15] {
                    out.push(b"0123456789ABCDEF"[usize::from(digit)]);
                }
            }
        }
    }
}

/// Returns a key in memcached's key encoding, as [`write_uri`] writes it. Of a key
/// that is too long, only the first [`KEY_MAX_BYTES`] bytes are used.
pub fn escape_key(key: &[u8]) -> String {
    let mut escaped = Vec::new();
    write_uri(&mut escaped, &key[..key.len().min(KEY_MAX_BYTES)]);
    escaped.into_iter().map(char::from).collect()
}

fn write_key(out: &mut Vec<u8>, kind: &str, key: &[u8]) {
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b" key=");
    write_uri(out, key);
}

fn write_peer(out: &mut Vec<u8>, peer: Option<SocketAddr>) {
    let _ = match peer {
        Some(peer) => write!(
            out,
            " rip={} rport={} transport=tcp",
            peer.ip(),
            peer.port()
        ),
        None => write!(out, " rip=unix rport=0 transport=local"),
    };
}

/// Returns the number of the class, 0 for none, and the length of the value.
fn class_and_len(item: &ItemSize) -> (u8, u32) {
    (item.class.map_or(0, ClassId::number), item.value_len)
}

#[cfg(test)]
mod tests {
    use super::{escape_key, write_line, write_uri};
    use crate::events::{Event, EventKind, ItemSize, LookupStatus, StoreStatus};
    use crate::limits::{ClassId, KEY_MAX_BYTES};

    fn line(kind: EventKind) -> String {
        let event = Event {
            gid: 7,
            unix_us: 12_000_034,
            kind,
        };
        let mut out = Vec::new();
        write_line(&mut out, &event);
        let out = String::from_utf8(out).unwrap();
        out.strip_prefix("ts=12.000034 gid=7 ").unwrap().to_owned()
    }

    const FIGURES: ItemSize = ItemSize {
        class: Some(ClassId::from_index(2)),
        value_len: 5,
    };

    #[test]
    fn lines_are_those_of_memcached() {
        let key = || b"a b/\xff-._~".as_slice().into();
        let peer = Some("127.0.0.1:80".parse().unwrap());
        let got = [
            line(EventKind::Fetched {
                key: key(),
                status: LookupStatus::Found,
                found: FIGURES,
                connection: 9,
            }),
            line(EventKind::Stored {
                key: key(),
                status: StoreStatus::NotStored,
                command: "add",
                ttl: 0,
                new: FIGURES,
                connection: 9,
            }),
            line(EventKind::Deleted {
                key: key(),
                command: "md",
                old: FIGURES,
            }),
            line(EventKind::Evicted {
                key: key(),
                fetched: false,
                ttl: None,
                idle: 4,
                old: FIGURES,
            }),
            line(EventKind::Invalidated {
                name: key(),
                kind: "tag",
                command: "md",
                stale: true,
                connection: 9,
            }),
            line(EventKind::Opened {
                peer,
                connection: 9,
            }),
            line(EventKind::Closed {
                peer: None,
                connection: 9,
                reason: "normal",
            }),
        ];
        let want = [
            "type=item_get key=a%20b%2F%FF-._~ status=found clsid=3 cfd=9 size=5\n",
            "type=item_store key=a%20b%2F%FF-._~ status=not_stored cmd=add ttl=0 clsid=3 cfd=9 size=5\n",
            "type=deleted key=a%20b%2F%FF-._~ cmd=md clsid=3 size=5\n",
            "type=eviction key=a%20b%2F%FF-._~ fetch=no ttl=-1 la=4 clsid=3 size=5\n",
            "type=invalidate key=a%20b%2F%FF-._~ kind=tag cmd=md stale=yes cfd=9\n",
            "type=conn_new rip=127.0.0.1 rport=80 transport=tcp cfd=9\n",
            "type=conn_close rip=unix rport=0 transport=local reason=normal cfd=9\n",
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn keys_are_escaped_as_in_event_lines() {
        let bytes: Vec<u8> = (0..=255).collect();
        for part in bytes.chunks(128) {
            let mut line = Vec::new();
            write_uri(&mut line, part);
            assert_eq!(escape_key(part).as_bytes(), line);
        }
        assert_eq!(escape_key(b"a b/\xff-._~"), "a%20b%2F%FF-._~");
    }

    #[test]
    fn a_long_key_is_cut_before_it_is_escaped() {
        assert_eq!(escape_key(&[b'k'; 300]), "k".repeat(KEY_MAX_BYTES));
        assert_eq!(escape_key(&[0; 300]), "%00".repeat(KEY_MAX_BYTES));
    }
}
