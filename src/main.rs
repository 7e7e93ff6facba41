//! The `rustcached` server.

fn main() {}
