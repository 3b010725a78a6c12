//! The seeded hash of a tuple.
//!
//! Each step is a "folded multiplication": two words, each mixed with a secret one, are multiplied to 128 bits, and both
//! halves of the product are joined. Four such steps at most for IPv6, two for IPv4: about 3 ns. The secrets come from the
//! operating system's random numbers once per table (by way of the standard library's `RandomState`), so nobody outside can choose tuples
//! that collide. The kernel's conntrack does the same with siphash and `nf_conntrack_hash_rnd`.

use crate::packet::Family;
use crate::table::conntrack::Tuple;

/// The hash of a tuple, by one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TupleHash(pub(super) u64);

impl TupleHash {
    /// All of it, for tables of others.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// The secret words.
#[derive(Clone, Copy)]
pub(super) struct Seed([u64; 4]);

impl Seed {
    /// From the operating system.
    #[cfg(not(loom))]
    pub fn random() -> Seed {
        use std::hash::{BuildHasher, RandomState};
        let state = RandomState::new();
        Seed([0u64, 1, 2, 3].map(|n| state.hash_one(n)))
    }

    /// Loom wants to see the same at each try.
    #[cfg(loom)]
    pub fn random() -> Seed {
        Seed::fixed(1)
    }

    /// The same every time.
    #[cfg(any(test, loom))]
    pub fn fixed(seed: u64) -> Seed {
        let mut word = seed;
        Seed([0u64; 4].map(|_| {
            word = fold(word ^ 0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93).wrapping_add(0x2545_f491_4f6c_dd1d);
            word
        }))
    }

    /// See the file's head.
    #[inline(always)]
    pub fn hash(&self, tuple: &Tuple) -> TupleHash {
        let Seed([a, b, c, d]) = *self;
        let ports = u64::from(tuple.sport) << 48
            | u64::from(tuple.dport) << 32
            | u64::from(tuple.zone) << 16
            | u64::from(tuple.proto) << 8
            | tuple.family as u64;
        let addresses = match tuple.family {
            Family::V4 => (tuple.src as u64) << 32 | tuple.dst as u64 & 0xffff_ffff,
            Family::V6 => {
                let src = fold((tuple.src >> 64) as u64 ^ a, tuple.src as u64 ^ b);
                src.rotate_left(23) ^ fold((tuple.dst >> 64) as u64 ^ c, tuple.dst as u64 ^ src ^ d)
            }
        };
        let first = fold(addresses ^ a, ports ^ b);
        TupleHash(fold(first ^ c, addresses.rotate_left(32) ^ d))
    }
}

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Near tuples spread over buckets and fingerprints as random numbers would: chi-squared within five sigma.
    #[test]
    fn near_tuples_spread_evenly() {
        let seed = Seed::fixed(7);
        for family in Family::ALL {
            let mut top = [0u32; 256];
            let mut low = [0u32; 256];
            let count = if cfg!(miri) { 512 } else { 1 << 16 };
            for n in 0..count {
                let tuple = Tuple {
                    src: 0x0a00_0000 + (n & 0xff),
                    dst: 0x0a01_0000,
                    sport: 1024 + (n >> 8) as u16,
                    dport: 443,
                    proto: 6,
                    family,
                    zone: 0,
                };
                let TupleHash(hash) = seed.hash(&tuple);
                top[(hash >> 56) as usize] += 1;
                low[(hash & 0xff) as usize] += 1;
            }
            for counts in [top, low] {
                let mean = count as f64 / 256.0;
                let chi: f64 = counts.iter().map(|&n| (f64::from(n) - mean).powi(2) / mean).sum();
                assert!((chi - 255.0).abs() < 5.0 * (2.0f64 * 255.0).sqrt(), "{family:?}: {chi}");
            }
        }
    }
}
