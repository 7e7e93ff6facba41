//! An HTTP client for the admin listener.

use crate::client::{Address, Client};

/// A response.
#[derive(Clone, Debug)]
pub struct HttpReply {
    /// Status code.
    pub status: u16,
    /// Head, from the status line to the empty line.
    pub head: String,
    /// Body.
    pub body: String,
}

/// Returns the address of a URL as the server prints it.
pub fn address_of(url: &str) -> Address {
    if let Some(path) = url.strip_prefix("unix:") {
        return Address::Unix(path.into());
    }
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    Address::Tcp(address.parse().expect("an address with a port"))
}

/// Requests a path on a new connection, and returns the response.
pub fn get(address: &Address, path: &str) -> HttpReply {
    get_with(address, path, "Host: localhost\r\n")
}

/// Requests a path with these header lines.
pub fn get_with(address: &Address, path: &str, headers: &str) -> HttpReply {
    let mut client = Client::connect(address);
    client.send(format!(
        "GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"
    ));
    parse(&client.read_to_close())
}

/// Parses a response whose body ends where the bytes end.
pub fn parse(bytes: &[u8]) -> HttpReply {
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let reply = HttpReply {
        status: status.expect("a status"),
        head: head.to_owned(),
        body: body.to_owned(),
    };
    let length = format!("Content-Length: {}\r\n", reply.body.len());
    assert!(
        reply.head.contains(&length),
        "the length is stated: {}",
        reply.head
    );
    reply
}
