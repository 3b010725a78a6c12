//! Routing tables from fixed seeds, for benches: prefixes whose lengths are distributed about as in the Internet's tables, and
//! destinations that lie in them.
#![allow(dead_code)]

use bypath::packet::{Addr, Family};
use bypath::table::fib::{Route, RouteKind};
use std::collections::HashSet;
use std::sync::Arc;

/// What a table gives back.
pub type Value = Arc<Route>;
/// An address and its length.
pub type Prefix = (Addr, u8);

/// Share of prefixes by length, per mille.
pub const BGP_V4: [(u8, u64); 14] = [
    (8, 1),
    (12, 2),
    (14, 2),
    (15, 2),
    (16, 14),
    (17, 8),
    (18, 14),
    (19, 25),
    (20, 45),
    (21, 52),
    (22, 110),
    (23, 100),
    (24, 624),
    (28, 1),
];
/// The same of IPv6.
pub const BGP_V6: [(u8, u64); 10] = [
    (29, 35),
    (32, 130),
    (36, 45),
    (40, 90),
    (42, 20),
    (44, 120),
    (46, 40),
    (47, 40),
    (48, 475),
    (64, 5),
];
/// More even.
pub const EVEN_V4: [(u8, u64); 6] = [(12, 1), (16, 50), (20, 200), (24, 250), (28, 250), (32, 249)];

/// xorshift64*: the seeds are fixed, so are the tables.
pub struct Random(pub u64);

impl Random {
    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    fn len(&mut self, shares: &[(u8, u64)]) -> u8 {
        let mut at = self.next() % shares.iter().map(|share| share.1).sum::<u64>();
        for &(len, share) in shares {
            if at < share {
                return len;
            }
            at -= share;
        }
        unreachable!("the shares sum up")
    }
}

/// Distinct prefixes with lengths by their shares.
pub fn routes_v4(count: usize, shares: &[(u8, u64)]) -> Vec<Prefix> {
    let mut random = Random(1);
    distinct(count, || {
        let len = random.len(shares);
        // 1.0.0.0 to 223.255.255.255
        let addr = (1 << 24) + random.below(223 << 24) as u128;
        (addr >> (32 - len) << (32 - len), len)
    })
}

/// Registries give out /32s from a few blocks; most routes are parts of these.
pub fn routes_v6(count: usize) -> Vec<Prefix> {
    let mut random = Random(2);
    let blocks: Vec<u64> = [
        (0x2001, 1),
        (0x2400, 16),
        (0x2600, 16),
        (0x2800, 8),
        (0x2a00, 20),
        (0x2c0f, 1),
    ]
    .into_iter()
    .flat_map(|(first, count)| first..first + count)
    .collect();
    let given: Vec<u64> = (0..count / 6)
        .map(|_| blocks[random.below(blocks.len())] << 16 | random.next() & 0xfff8)
        .collect();
    distinct(count, || {
        let len = random.len(&BGP_V6);
        let addr = u128::from(given[random.below(given.len())]) << 96 | u128::from(random.next()) << 32;
        (addr >> (128 - len) << (128 - len), len)
    })
}

fn distinct(count: usize, mut prefix: impl FnMut() -> Prefix) -> Vec<Prefix> {
    let mut seen = HashSet::new();
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let new = prefix();
        if seen.insert(new) {
            all.push(new);
        }
    }
    all
}

/// 65,536 addresses in prefixes of the table.
pub fn destinations(family: Family, routes: &[Prefix], skewed: bool) -> Vec<Addr> {
    let mut random = Random(3);
    let busy = routes.len().div_ceil(1000);
    (0..1 << 16)
        .map(|_| {
            let bound = if skewed && random.below(10) > 0 {
                busy
            } else {
                routes.len()
            };
            let (addr, len) = routes[random.below(bound)];
            let host = u128::from(random.next()) << 64 | u128::from(random.next());
            addr | host & u128::MAX.checked_shr(u32::from(128 - family.bits() + len)).unwrap_or(0)
        })
        .collect()
}

/// Sixty-four routes, as a router with that many peers has.
pub fn values() -> Vec<Value> {
    (0..64)
        .map(|mtu| {
            Arc::new(Route {
                kind: RouteKind::Unicast,
                nexthops: Box::default(),
                mtu,
                left: None,
            })
        })
        .collect()
}
