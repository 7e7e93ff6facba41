//! Requests and responses of the admin listener: HTTP/1.0 and 1.1, GET and HEAD
//! without a body. The `httparse` crate parses the head of a request.
//!
//! A library with a server of its own (tiny_http was tried) starts a thread per
//! connection, without limit or timeout. Here one thread serves a bounded
//! number of connections, and these few lines are the rest that it needs.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::limits::ADMIN_HEADERS_MAX;

/// Head of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Path, without the query.
    pub path: String,
    /// Query, without the question mark; empty if there is none.
    pub query: String,
    /// Whether only the head of the response is wanted.
    pub is_head: bool,
    /// The header `Host`.
    pub host: Option<String>,
    /// The header `Accept`; empty if there is none.
    pub accept: String,
    /// User and password of the header `Authorization`.
    pub credentials: Option<(Vec<u8>, Vec<u8>)>,
    /// Whether the client keeps the connection.
    pub keep_alive: bool,
}

/// Result of parsing the bytes received so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head is incomplete.
    Partial,
    /// A request, and the number of its bytes.
    Request(Request, usize),
    /// The bytes are no request that this server accepts. The connection is
    /// closed after this response.
    Bad(Response),
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// The header `Content-Type`.
    pub content_type: &'static str,
    /// Additional header lines, each with its CRLF.
    pub headers: String,
    /// Body.
    pub body: Vec<u8>,
}

/// Content type of plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";
/// Content type of JSON.
pub const JSON: &str = "application/json";
/// Content type of the page.
pub const HTML: &str = "text/html; charset=utf-8";

impl Request {
    /// Parses the head of a request.
    pub fn parse(input: &[u8]) -> Parsed {
        let mut headers = [httparse::EMPTY_HEADER; ADMIN_HEADERS_MAX];
        let mut head = httparse::Request::new(&mut headers);
        let len = match head.parse(input) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return Parsed::Partial,
            Err(httparse::Error::TooManyHeaders) => {
                return Parsed::Bad(Response::text(431, "too many headers"));
            }
            Err(error) => return Parsed::Bad(Response::text(400, &error.to_string())),
        };
        let is_head = match head.method {
            Some("GET") => false,
            Some("HEAD") => true,
            _ => {
                let mut response = Response::text(405, "only GET and HEAD are allowed");
                response.header("Allow", "GET, HEAD");
                return Parsed::Bad(response);
            }
        };
        let target = head.path.unwrap_or_default();
        // A client that speaks to a proxy sends the whole address.
        let target = match target.strip_prefix("http://") {
            Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
            None => target,
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Self {
            path: path.to_owned(),
            query: query.to_owned(),
            is_head,
            keep_alive: head.version == Some(1),
            ..Self::default()
        };
        for header in head.headers.iter() {
            let value = String::from_utf8_lossy(header.value).trim().to_owned();
            let has_body = value != "0";
            match &header.name.to_ascii_lowercase()[..] {
                "host" if request.host.is_some() => {
                    return Parsed::Bad(Response::text(400, "more than one Host header"));
                }
                "host" => request.host = Some(value),
                "accept" => request.accept = value,
                "authorization" => request.credentials = credentials(&value),
                "connection" => {
                    let has = |word| {
                        value
                            .split(',')
                            .any(|it| it.trim().eq_ignore_ascii_case(word))
                    };
                    request.keep_alive = has("keep-alive") || request.keep_alive && !has("close");
                }
                "transfer-encoding" => {
                    return Parsed::Bad(Response::text(413, "no body is accepted"));
                }
                "content-length" if has_body => {
                    return Parsed::Bad(Response::text(413, "no body is accepted"));
                }
                _ => {}
            }
        }
        if head.version == Some(1) && request.host.is_none() {
            return Parsed::Bad(Response::text(400, "the Host header is missing"));
        }
        Parsed::Request(request, len)
    }

    /// Returns the value of a number in the query, or `None` if it is missing
    /// or no number.
    pub fn number(&self, name: &str) -> Option<u64> {
        let mut pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(key, _)| *key == name)?;
        value.parse().ok()
    }
}

/// Decodes the header of HTTP's basic authentication (RFC 7617).
fn credentials(value: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, encoded) = value.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let is_basic = scheme.eq_ignore_ascii_case("basic");
    is_basic.then(|| (decoded[..colon].to_vec(), decoded[colon + 1..].to_vec()))
}

impl Response {
    /// Creates a response with status 200.
    pub fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            content_type,
            headers: String::new(),
            body: body.into(),
        }
    }

    /// Creates a response of one line of text.
    pub fn text(status: u16, line: &str) -> Self {
        Self {
            status,
            ..Self::ok(TEXT, format!("{line}\n"))
        }
    }

    /// Adds a header.
    pub fn header(&mut self, name: &str, value: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.headers, "{name}: {value}\r\n");
    }

    /// Appends the response to `out`, without the body if the request was HEAD.
    pub fn write(&self, is_head: bool, keep_alive: bool, out: &mut Vec<u8>) {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n{}\r\n",
            self.status,
            reason(self.status),
            self.content_type,
            self.body.len(),
            self.headers,
        );
        out.extend_from_slice(head.as_bytes());
        if !is_head {
            out.extend_from_slice(&self.body);
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::{Parsed, Request, Response};

    fn request(input: &str) -> Request {
        match Request::parse(input.as_bytes()) {
            Parsed::Request(request, len) if len == input.len() => request,
            other => panic!("{other:?}"),
        }
    }

    fn status(input: &str) -> u16 {
        match Request::parse(input.as_bytes()) {
            Parsed::Bad(response) => response.status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn heads_are_parsed() {
        let got = request(
            "GET /api/history.json?since=12&n=x HTTP/1.1\r\nhost: localhost:1\r\n\
             Authorization: Basic dXNlcjpwYTpzcw==\r\nAccept: text/html\r\n\r\n",
        );
        let expected = Request {
            path: "/api/history.json".to_owned(),
            query: "since=12&n=x".to_owned(),
            is_head: false,
            host: Some("localhost:1".to_owned()),
            accept: "text/html".to_owned(),
            credentials: Some((b"user".to_vec(), b"pa:ss".to_vec())),
            keep_alive: true,
        };
        assert_eq!(got, expected);
        assert_eq!(got.number("since"), Some(12));
        assert_eq!((got.number("n"), got.number("m")), (None, None));
        assert!(!request("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(request("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
        assert!(!request("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").keep_alive);
        assert!(request("HEAD / HTTP/1.0\r\n\r\n").is_head);
        assert_eq!(request("GET http://a/b?c=d HTTP/1.0\r\n\r\n").path, "/b");
        assert_eq!(Request::parse(b"GET / HTTP/1.1\r\nHos"), Parsed::Partial);
    }

    #[test]
    fn bad_heads_are_refused() {
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
        assert_eq!(status("get key\r\n\r\n"), 400);
        assert_eq!(status("POST / HTTP/1.1\r\nHost: a\r\n\r\n"), 405);
        assert_eq!(
            status("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"),
            413
        );
        assert_eq!(
            status("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            413
        );
        let many = "a: b\r\n".repeat(200);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\n{many}\r\n")), 431);
    }

    #[test]
    fn responses_are_written() {
        let mut out = Vec::new();
        let mut response = Response::text(404, "not found");
        response.header("X-A", "b");
        response.write(true, false, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\nContent-Type: text/plain"));
        assert!(text.contains("Content-Length: 10\r\nConnection: close\r\n"));
        assert!(text.ends_with("X-A: b\r\n\r\n"), "{text}");
    }
}
