//! Reader for recorded request streams, `.kvt.zst` files.
//!
//! A file is zstd-compressed and contains, all little-endian: `KVTRACE1`, the number of keys and of
//! requests, the recorded rate in requests per second, 4 unused bytes and a name of 40 bytes; then
//! three columns with a value per key (sizes, TTLs, key lengths); then the requests. This module
//! only decodes and validates; `replay` interprets the requests.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

use super::failure::Failure;

const MAGIC: &[u8; 8] = b"KVTRACE1";
const HEADER: usize = 64;
const NAME: usize = 40;
const KEY_BITS: u32 = 30;
/// Maximum window of the zstd frames: traces use up to 2 GiB.
const WINDOW_LOG_MAX: u32 = 31;

/// The operation of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Get, followed by a set on a miss.
    Get,
    /// Set.
    Set,
    /// Delete.
    Delete,
}

/// A request of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The operation.
    pub operation: Operation,
    /// Number of the key.
    pub key: u32,
}

/// A trace in memory.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Name stored in the trace.
    pub name: String,
    /// Recorded rate in requests per second, 0 if unknown.
    pub requests_per_second: u32,
    sizes: Vec<u32>,
    ttls: Vec<u32>,
    key_lengths: Vec<u8>,
    requests: Vec<u32>,
}

impl Trace {
    /// Reads a compressed trace from a file.
    pub fn open(path: &Path) -> Result<Trace, Failure> {
        let reading = || Failure::io(format!("reading trace {}", path.display()));
        let file = File::open(path).map_err(reading())?;
        let decode = |file| {
            let mut decoder = zstd::Decoder::with_buffer(BufReader::new(file))?;
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Trace::read(decoder)
        };
        decode(file).map_err(reading())
    }

    /// Reads an uncompressed trace. Fails with [`ErrorKind::InvalidData`] if the data is not a
    /// trace.
    pub fn read(mut source: impl Read) -> io::Result<Trace> {
        let mut header = [0u8; HEADER];
        source.read_exact(&mut header)?;
        if &header[..MAGIC.len()] != MAGIC {
            return Err(invalid("not a trace"));
        }
        let word = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (keys, count) = (word(8) as usize, word(12) as usize);
        let name = &header[HEADER - NAME..];
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        let sizes = read_words(&mut source, keys)?;
        let ttls = read_words(&mut source, keys)?;
        let key_lengths = read_bytes(&mut source, keys)?;
        let requests = read_words(&mut source, count)?;
        if source.read(&mut [0u8; 1])? != 0 {
            return Err(invalid("more data than the trace's header says"));
        }
        let trace = Trace {
            name: String::from_utf8_lossy(name).into_owned(),
            requests_per_second: word(16),
            sizes,
            ttls,
            key_lengths,
            requests,
        };
        let known = |&word: &u32| (word & key_mask()) < keys as u32 && word >> KEY_BITS < 3;
        if !trace.requests.iter().all(known) {
            return Err(invalid(
                "a request for a key or operation that is not there",
            ));
        }
        Ok(trace)
    }

    /// Returns the number of keys.
    pub fn keys(&self) -> u32 {
        self.sizes.len() as u32
    }

    /// Returns the number of requests.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Returns whether there are no requests.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Returns the value size of a key in bytes.
    pub fn size(&self, key: u32) -> usize {
        self.sizes[key as usize] as usize
    }

    /// Returns the TTL of a key in seconds, 0 for none.
    pub fn ttl(&self, key: u32) -> u32 {
        self.ttls[key as usize]
    }

    /// Returns the length of a key in bytes.
    pub fn key_length(&self, key: u32) -> usize {
        usize::from(self.key_lengths[key as usize])
    }

    /// Returns the size of the largest value in bytes.
    pub fn largest(&self) -> usize {
        self.sizes.iter().copied().max().unwrap_or(0) as usize
    }

    /// Returns the requests in recorded order.
    pub fn requests(&self) -> impl Iterator<Item = Request> + '_ {
        self.requests.iter().map(|&word| Request {
            operation: match word >> KEY_BITS {
                0 => Operation::Get,
                1 => Operation::Set,
                _ => Operation::Delete,
            },
            key: word & key_mask(),
        })
    }
}

const fn key_mask() -> u32 {
    (1 << KEY_BITS) - 1
}

fn read_bytes(source: &mut impl Read, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.by_ref().take(count as u64).read_to_end(&mut bytes)?;
    if bytes.len() < count {
        return Err(io::Error::from(ErrorKind::UnexpectedEof));
    }
    Ok(bytes)
}

fn read_words(source: &mut impl Read, count: usize) -> io::Result<Vec<u32>> {
    let bytes = read_bytes(source, 4 * count)?;
    let word = |four: &[u8]| u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    Ok(bytes.chunks_exact(4).map(word).collect())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Operation, Request, Trace};

    /// Encodes a trace from (size, TTL, key length) per key and (operation, key) per request.
    pub(crate) fn encode(keys: &[(u32, u32, u8)], requests: &[(u32, u32)]) -> Vec<u8> {
        let mut bytes = b"KVTRACE1".to_vec();
        for word in [keys.len() as u32, requests.len() as u32, 1000, 0] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(b"tiny");
        bytes.resize(64, 0);
        keys.iter()
            .for_each(|key| bytes.extend_from_slice(&key.0.to_le_bytes()));
        keys.iter()
            .for_each(|key| bytes.extend_from_slice(&key.1.to_le_bytes()));
        keys.iter().for_each(|key| bytes.push(key.2));
        for (operation, key) in requests {
            bytes.extend_from_slice(&(operation << 30 | key).to_le_bytes());
        }
        bytes
    }

    #[test]
    fn a_trace_is_read_back_as_it_was_written() {
        let bytes = encode(&[(10, 0, 24), (500, 60, 30)], &[(0, 1), (1, 0), (2, 1)]);
        let trace = Trace::read(bytes.as_slice()).unwrap();
        assert_eq!(
            (trace.name.as_str(), trace.requests_per_second),
            ("tiny", 1000)
        );
        assert_eq!((trace.keys(), trace.len(), trace.largest()), (2, 3, 500));
        assert_eq!(
            (trace.size(1), trace.ttl(1), trace.key_length(1)),
            (500, 60, 30)
        );
        let requests: Vec<Request> = trace.requests().collect();
        let request = |operation, key| Request { operation, key };
        let wanted = [
            request(Operation::Get, 1),
            request(Operation::Set, 0),
            request(Operation::Delete, 1),
        ];
        assert_eq!(requests, wanted);
    }

    #[test]
    fn a_compressed_file_is_read() {
        let bytes = encode(&[(10, 0, 24)], &[(0, 0)]);
        let name = format!("rustcached-trace-{}.kvt.zst", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, zstd::encode_all(bytes.as_slice(), 3).unwrap()).unwrap();
        let trace = Trace::open(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(trace.unwrap().len(), 1);
    }

    #[test]
    fn damaged_traces_are_refused() {
        let good = encode(&[(10, 0, 24)], &[(0, 0)]);
        for end in 0..good.len() {
            assert!(Trace::read(&good[..end]).is_err(), "cut at {end}");
        }
        let mut longer = good.clone();
        longer.push(0);
        assert!(Trace::read(longer.as_slice()).is_err());
        let mut other = good;
        other[0] = b'X';
        assert!(Trace::read(other.as_slice()).is_err());
        assert!(Trace::read(encode(&[(10, 0, 24)], &[(0, 1)]).as_slice()).is_err());
        assert!(Trace::read(encode(&[(10, 0, 24)], &[(3, 0)]).as_slice()).is_err());
    }
}
