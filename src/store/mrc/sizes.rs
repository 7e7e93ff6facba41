//! The sizes of memory that are simulated.

/// Number of sizes.
pub const SIZES: usize = 8;

/// The sizes, as multiples of the memory limit.
pub const FACTORS: [f64; SIZES] = [0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0];
