//! Header of the PROXY protocol, versions 1 and 2 (HAProxy's
//! doc/proxy-protocol.txt). It comes before all other bytes of a connection and
//! has the address of the client for which a proxy has connected.

use std::net::SocketAddr;

use proxy_header::{ParseConfig, ProxyHeader};

use crate::limits::{PROXY_HEADER_MAX_BYTES, PROXY_V1_MAX_BYTES};

/// Begin of a header of version 1, a text line.
const V1: &[u8] = b"PROXY ";
/// Begin of a header of version 2.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before the addresses: signature, version and command, family,
/// and the number of bytes that follow.
const V2_FIXED_BYTES: usize = 16;
/// Version 2 with the command LOCAL: the proxy has connected for itself.
const LOCAL: u8 = 0x20;

/// Result of parsing the start of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A header.
    Header {
        /// Its length in bytes.
        len: usize,
        /// Address of the client. `None` if the header has none: the peer is the
        /// client.
        client: Option<SocketAddr>,
    },
    /// The end of the header has not arrived.
    Incomplete,
    /// This is no header, and why.
    Invalid(&'static str),
}

/// Parses the start of a connection.
pub fn parse(input: &[u8]) -> Parsed {
    if input.starts_with(V2) {
        parse_v2(input)
    } else if input.starts_with(V1) {
        parse_v1(input)
    } else if V2.starts_with(input) || V1.starts_with(input) {
        Parsed::Incomplete
    } else {
        Parsed::Invalid("there is none")
    }
}

fn parse_v1(input: &[u8]) -> Parsed {
    let longest = &input[..input.len().min(PROXY_V1_MAX_BYTES)];
    match memchr::memchr(b'\n', longest) {
        Some(end) => decode(&input[..=end]),
        None if longest.len() < PROXY_V1_MAX_BYTES => Parsed::Incomplete,
        None => Parsed::Invalid("it is too long"),
    }
}

fn parse_v2(input: &[u8]) -> Parsed {
    let Some(&[command, _, high, low]) = input.get(V2.len()..V2_FIXED_BYTES) else {
        return Parsed::Incomplete;
    };
    let len = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if len > PROXY_HEADER_MAX_BYTES {
        return Parsed::Invalid("it is too long");
    }
    match input.get(..len) {
        None => Parsed::Incomplete,
        // The rest has no meaning then, whatever the family is.
        Some(_) if command == LOCAL => Parsed::Header { len, client: None },
        Some(header) => decode(header),
    }
}

/// Decodes a header that has arrived completely.
fn decode(header: &[u8]) -> Parsed {
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    match ProxyHeader::parse(header, config) {
        Ok((decoded, len)) if len == header.len() => {
            let client = decoded.proxied_address().map(|address| address.source);
            let client = client.filter(|client| client.port() != 0);
            Parsed::Header { len, client }
        }
        _ => Parsed::Invalid("it is malformed"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Parsed, V1, V2, V2_FIXED_BYTES, parse};
    use crate::limits::{PROXY_HEADER_MAX_BYTES, PROXY_V1_MAX_BYTES};
    use proptest::prelude::{Just, any, prop, prop_assert, prop_oneof, proptest};

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = (rest.len() as u16).to_be_bytes();
        [V2, &[command, family], &len, rest].concat()
    }

    /// Checks a header alone, followed by other bytes, and each part of it.
    fn check(header: &[u8], client: Option<&str>) {
        let want = Parsed::Header {
            len: header.len(),
            client: client.map(|address| address.parse().expect("an address")),
        };
        let text = header.escape_ascii();
        assert_eq!(parse(header), want, "{text}");
        assert_eq!(parse(&[header, b"get a\r\n"].concat()), want, "{text}");
        for len in 0..header.len() {
            assert_eq!(parse(&header[..len]), Parsed::Incomplete, "{text} {len}");
        }
    }

    const V4: &[u8] = &[192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x2b, 0xcb];

    #[test]
    fn both_versions_have_the_client_s_address() {
        let four = Some("192.0.2.7:12345");
        check(b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 11211\r\n", four);
        let line = b"PROXY TCP6 2001:db8::7 ::1 12345 11211\r\n";
        check(line, Some("[2001:db8::7]:12345"));
        check(&v2(0x21, 0x11, V4), four);
        // Further fields are skipped.
        let fields = [V4, &[3, 0, 4, 1, 2, 3, 4, 0xee, 0, 1, 9]].concat();
        check(&v2(0x21, 0x11, &fields), four);
        let mut six = [0; 36];
        (six[0], six[15], six[32]) = (0xfd, 7, 0x10);
        check(&v2(0x21, 0x21, &six), Some("[fd00::7]:4096"));
    }

    #[test]
    fn a_header_without_an_address_leaves_that_of_the_peer() {
        check(b"PROXY UNKNOWN\r\n", None);
        let line = b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n";
        check(line, None);
        check(&v2(0x20, 0x00, &[]), None);
        check(&v2(0x20, 0x11, V4), None);
        // A family that is ignored with LOCAL.
        check(&v2(0x20, 0x77, b"any"), None);
        check(&v2(0x21, 0x00, &[]), None);
        check(&v2(0x21, 0x31, &[b'u'; 216]), None);
        // Nobody has port 0.
        check(b"PROXY TCP4 192.0.2.7 10.0.0.1 0 11211\r\n", None);
    }

    #[test]
    fn what_is_no_header_is_refused_at_once() {
        for input in [
            &b"get a\r\n"[..],
            b"\x80",
            b"\x16\x03\x01",
            b"\r\n\r\nx",
            b"PROXY\r\n",
            b"PROXY \r\n",
            b"PROXY TCP4\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 12345\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 65536\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 11211\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 11211 \r\n",
            b"PROXY TCP4 ::1 ::1 12345 11211\r\n",
            b"PROXY TCP6 192.0.2.7 10.0.0.1 12345 11211\r\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.1 12345 11211\r\n",
            b"PROXY tcp4 192.0.2.7 10.0.0.1 12345 11211\r\n",
        ] {
            let parsed = parse(input);
            let text = input.escape_ascii();
            assert!(matches!(parsed, Parsed::Invalid(_)), "{text}: {parsed:?}");
        }
        for header in [
            v2(0x11, 0x11, V4),
            v2(0x22, 0x11, V4),
            v2(0x21, 0x41, V4),
            v2(0x21, 0x13, V4),
            v2(0x21, 0x11, &V4[1..]),
            v2(0x21, 0x21, V4),
            v2(0x21, 0x31, V4),
        ] {
            let malformed = Parsed::Invalid("it is malformed");
            assert_eq!(parse(&header), malformed, "{}", header.escape_ascii());
        }
    }

    #[test]
    fn headers_are_bounded() {
        let line = |len: usize| {
            let mut line = b"PROXY UNKNOWN ".to_vec();
            line.resize(len - 2, b'x');
            [&line[..], b"\r\n"].concat()
        };
        check(&line(PROXY_V1_MAX_BYTES), None);
        let long = line(PROXY_V1_MAX_BYTES + 1);
        let too_long = Parsed::Invalid("it is too long");
        assert_eq!(parse(&long), too_long);
        assert_eq!(parse(&long[..PROXY_V1_MAX_BYTES]), too_long);
        let most = PROXY_HEADER_MAX_BYTES - V2_FIXED_BYTES;
        for command in [0x20, 0x21] {
            check(&v2(command, 0, &vec![0; most]), None);
            let long = v2(command, 0, &vec![0; most + 1]);
            assert_eq!(parse(&long[..V2_FIXED_BYTES]), too_long);
        }
    }

    proptest! {
        /// More input never changes what was found, and any input is parsed.
        #[test]
        fn any_bytes_are_parsed(
            begin in prop_oneof![Just(V1), Just(V2), Just(&b"PROXY TCP4 1.2.3.4 "[..]), Just(&b""[..])],
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let input = [begin, &rest].concat();
            let whole = parse(&input);
            if let Parsed::Header { len, .. } = whole {
                prop_assert!(len <= input.len() && len <= PROXY_HEADER_MAX_BYTES);
            }
            for len in 0..input.len() {
                let part = parse(&input[..len]);
                prop_assert!(part == Parsed::Incomplete || part == whole);
            }
        }
    }
}
