//! Parses `config get cluster` and `config set cluster`, commands of Amazon
//! ElastiCache that memcached does not have.

use crate::protocol::number::strict_u32;
use crate::protocol::request::{ClusterBlock, Request};
use crate::protocol::tokens::tokens;

/// Parses the arguments of `config`. Returns `None` for a command that nobody
/// has.
pub(super) fn parse_config(rest: &[u8]) -> Option<Request<'_>> {
    let mut words = tokens(rest);
    let (verb, kind) = (words.next()?, words.next()?);
    if kind != b"cluster" {
        return None;
    }
    match (verb, words.next(), words.next(), words.next()) {
        (b"get", None, ..) => Some(Request::ClusterGet),
        (b"set", Some(flags), Some(len), last @ (None | Some(b"noreply")))
            if words.next().is_none() =>
        {
            let numbers = strict_u32(flags).zip(strict_u32(len));
            let block = numbers.map(|(flags, len)| ClusterBlock { flags, len });
            let noreply = last.is_some();
            Some(Request::ClusterSet { block, noreply })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::parse_config;
    use crate::protocol::request::{ClusterBlock, Request};

    #[test]
    fn only_what_elasticache_has_is_recognized() {
        let set = |numbers: Option<(u32, u32)>, noreply| {
            let block = numbers.map(|(flags, len)| ClusterBlock { flags, len });
            Some(Request::ClusterSet { block, noreply })
        };
        for (line, want) in [
            ("get cluster", Some(Request::ClusterGet)),
            (" get  cluster ", Some(Request::ClusterGet)),
            ("get cluster noreply", None),
            ("get", None),
            ("get clusters", None),
            ("delete cluster", None),
            ("", None),
            ("set cluster", None),
            ("set cluster 1", None),
            ("set cluster 7 12", set(Some((7, 12)), false)),
            ("set cluster 7 12 noreply", set(Some((7, 12)), true)),
            ("set cluster 7 12 HTTP/1.1", None),
            ("set cluster 7 12 noreply x", None),
            ("set cluster 7 x", set(None, false)),
            ("set cluster -1 2", set(None, false)),
            ("set cluster 1 4294967296", set(None, false)),
        ] {
            assert_eq!(parse_config(line.as_bytes()), want, "{line:?}");
        }
    }
}
