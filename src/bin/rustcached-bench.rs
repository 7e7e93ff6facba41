//! The `rustcached-bench` load generator.

fn main() {}
