//! The bound of the resident memory of a server.

const MIB: u64 = 1 << 20;
/// Maximum resident memory: a percentage of the memory limit plus a number of bytes.
const PERCENT: u64 = 110;
const EXTRA: u64 = 24 * MIB;

/// Returns the maximum resident memory in bytes for a memory limit in bytes.
pub fn bound(limit_bytes: u64) -> u64 {
    limit_bytes * PERCENT / 100 + EXTRA
}

#[cfg(test)]
mod tests {
    use super::{MIB, bound};

    #[test]
    fn the_bound_is_above_the_limit() {
        assert_eq!(bound(100 * MIB), 134 * MIB);
    }
}
