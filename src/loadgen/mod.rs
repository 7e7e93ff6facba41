//! The load generator behind `rustcached-bench`.
