//! Seeded random numbers and the Zipf distribution.
//!
//! Never reads the system's entropy, so a run can be repeated.

/// SplitMix64: 8 bytes of state, good enough to draw keys, and fast enough to draw millions.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Creates a generator whose sequence depends only on `seed`.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// Returns the next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Returns a number in `0..bound`; `bound` must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Returns a number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Hashes a number (the finalizer of SplitMix64).
pub fn mix(number: u64) -> u64 {
    let mut z = number;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Zipf distribution: ranks `1..=count` with probability proportional to `rank^-theta`.
///
/// Uses rejection-inversion (Hörmann and Derflinger, 1996): constant time and memory for any count,
/// and exact for every theta above 0. The common approximation without a table supports only theta
/// below 1. The crate `rand_distr` would bring a second version of `getrandom`.
#[derive(Clone, Debug)]
pub struct Zipf {
    theta: f64,
    count: f64,
    area_low: f64,
    area_high: f64,
    shortcut: f64,
}

impl Zipf {
    /// Creates a distribution over `count` ranks, at least 1; `theta` must be above 0.
    pub fn new(count: u64, theta: f64) -> Self {
        let mut zipf = Zipf {
            theta,
            count: count as f64,
            area_low: 0.0,
            area_high: 0.0,
            shortcut: 0.0,
        };
        zipf.area_low = zipf.area(1.5) - 1.0;
        zipf.area_high = zipf.area(zipf.count + 0.5);
        zipf.shortcut = 2.0 - zipf.area_inverse(zipf.area(2.5) - zipf.height(2.0));
        zipf
    }

    /// Draws a rank; 1 is the most popular.
    pub fn draw(&self, random: &mut Random) -> u64 {
        loop {
            let area = self.area_high + random.unit() * (self.area_low - self.area_high);
            let x = self.area_inverse(area);
            let rank = (x + 0.5).floor().clamp(1.0, self.count);
            if rank - x <= self.shortcut || area >= self.area(rank + 0.5) - self.height(rank) {
                return rank as u64;
            }
        }
    }

    fn height(&self, x: f64) -> f64 {
        (-self.theta * x.ln()).exp()
    }

    /// The integral of `height` up to `x`, without the constant.
    fn area(&self, x: f64) -> f64 {
        let log = x.ln();
        exp_m1_over((1.0 - self.theta) * log) * log
    }

    fn area_inverse(&self, area: f64) -> f64 {
        let t = (area * (1.0 - self.theta)).max(-1.0);
        (ln_1p_over(t) * area).exp()
    }
}

/// `(e^x - 1) / x`, accurate near 0, the case of theta near 1.
fn exp_m1_over(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.exp_m1() / x
    } else {
        1.0 + x / 2.0
    }
}

/// `ln(1 + x) / x`, accurate near 0.
fn ln_1p_over(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.ln_1p() / x
    } else {
        1.0 - x / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::{Random, Zipf};

    #[test]
    fn a_seed_repeats_its_sequence() {
        let (mut a, mut b) = (Random::new(7), Random::new(7));
        assert!((0..100).all(|_| a.next_u64() == b.next_u64()));
        assert_ne!(Random::new(8).next_u64(), Random::new(7).next_u64());
    }

    #[test]
    fn bounded_numbers_stay_below_and_reach_every_value() {
        let mut random = Random::new(1);
        let mut seen = [0u32; 10];
        for _ in 0..10_000 {
            seen[random.below(10) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (800..1200).contains(&n)), "{seen:?}");
    }

    #[test]
    fn zipf_draws_each_rank_as_often_as_its_probability() {
        for theta in [0.6, 0.99, 1.0, 1.3] {
            let count = 1000u64;
            let zipf = Zipf::new(count, theta);
            let total: f64 = (1..=count).map(|r| (r as f64).powf(-theta)).sum();
            let mut random = Random::new(42);
            let draws = 400_000;
            let mut seen = vec![0u32; count as usize + 1];
            for _ in 0..draws {
                seen[zipf.draw(&mut random) as usize] += 1;
            }
            assert_eq!(seen[0], 0);
            for rank in [1u64, 2, 3, 10] {
                let wanted = (rank as f64).powf(-theta) / total * f64::from(draws);
                let got = f64::from(seen[rank as usize]);
                assert!(
                    (got - wanted).abs() < 6.0 * wanted.sqrt(),
                    "theta {theta} rank {rank}: {got} draws, {wanted} expected"
                );
            }
        }
    }
}
