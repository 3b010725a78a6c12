//! Which flow the next frame is of: a function of its number alone (and of the seed), so that both sources and a receiver
//! come to the same without a word between them.
//!
//! ```text
//!   sequence --slot--> 0 .. count-1 --flow--> the flow's number, larger with each time that the slot was given to a new one
//! ```
//!
//! Round robin is the rest of a division. Random is a hash of the number, so it is uniform over all flows however many there
//! are. Zipf is a table of samples, walked in turn: at most 4,194,304 of them, so that of ten million flows about a tenth are
//! met, the frequent ones as often as the law says; the table repeats after some seconds.
//!
//! New flows replace the oldest: there are `count` slots, and after every `1 / new_per_second` the next slot in turn gets a
//! flow that was never seen, `count` higher than its last. In a Zipf order the new ones are as likely frequent as rare.

use super::work::{Flows, Order};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand_distr::{Distribution, Zipf};

/// Bounds of the table's length.
const TABLE_MIN: usize = 1 << 16;
const TABLE_MAX: usize = 1 << 22;
/// What is larger makes all frames of one flow.
const EXPONENT_MAX: f64 = 10.0;

/// How a slot is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// One after the other.
    RoundRobin,
    /// By a hash with this seed.
    Random(u64),
    /// By a table, whose length is a power of two.
    Table(Vec<u32>),
}

/// The order of the flows of a work.
#[derive(Clone, Debug)]
pub struct Picker {
    /// How a slot is found.
    pub pick: Pick,
    /// What it was made for, with the seed.
    made_for: (Flows, u64),
}

/// How many flows have gone by, in a form that is quick to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// All slots have been given anew so many times, times their number.
    base: u32,
    /// And the slots below this one once more.
    at: u32,
}

impl Picker {
    /// The order that `flows` asks for. A Zipf table takes up to a second to make: ask [`Picker::suits`] first.
    ///
    /// # Errors
    /// One line: an exponent that cannot be.
    pub fn new(flows: &Flows, seed: u64) -> Result<Self, String> {
        let pick = match flows.order {
            Order::RoundRobin => Pick::RoundRobin,
            Order::Random => Pick::Random(seed),
            Order::Zipf { exponent } => Pick::Table(zipf(flows.count, exponent, seed)?),
        };
        Ok(Self {
            pick,
            made_for: (*flows, seed),
        })
    }

    /// Whether it is the order of these flows already.
    pub fn suits(&self, flows: &Flows, seed: u64) -> bool {
        self.made_for == (*flows, seed)
    }

    /// How many slots there are: the flows at a time.
    pub fn count(&self) -> u32 {
        self.made_for.0.count.max(1)
    }

    /// The slot of the frame with this number.
    #[inline]
    pub fn slot(&self, sequence: u64) -> u32 {
        match &self.pick {
            Pick::RoundRobin => (sequence % u64::from(self.count())) as u32,
            Pick::Random(seed) => (((hash(sequence, *seed) >> 32) * u64::from(self.count())) >> 32) as u32,
            Pick::Table(table) => table[sequence as usize & (table.len() - 1)],
        }
    }

    /// How many flows have gone by so long after the first frame.
    pub fn gone(&self, elapsed_ns: u64) -> Gone {
        match self.made_for.0.new_per_second {
            0 => Gone::default(),
            new => self.after(elapsed_ns / 1_000 * u64::from(new) / 1_000_000),
        }
    }

    /// The state after so many flows have gone by.
    fn after(&self, gone: u64) -> Gone {
        let count = u64::from(self.count());
        Gone {
            base: (gone / count * count) as u32,
            at: (gone % count) as u32,
        }
    }

    /// The flow that has a slot.
    #[inline]
    pub fn flow(&self, slot: u32, gone: Gone) -> u32 {
        let more = if slot < gone.at { self.count() } else { 0 };
        slot.wrapping_add(gone.base).wrapping_add(more)
    }
}

/// A 64-bit mix whose every output bit depends on every input bit, by two rounds of multiply and shift; the upper half is
/// used. bpf/source.bpf.c does the same.
#[inline]
fn hash(sequence: u64, seed: u64) -> u64 {
    let mut x = sequence ^ seed;
    x = (x ^ x >> 32).wrapping_mul(HASH_1);
    x = (x ^ x >> 29).wrapping_mul(HASH_2);
    x ^ x >> 32
}

/// Odd, with about as many ones as zeroes.
const HASH_1: u64 = 0xd6e8_feb8_6659_fd93;
/// Another.
const HASH_2: u64 = 0x9e37_79b9_7f4a_7c15;

fn zipf(count: u32, exponent: f64, seed: u64) -> Result<Vec<u32>, String> {
    if !(0.0..=EXPONENT_MAX).contains(&exponent) {
        return Err(format!(
            "a Zipf exponent of {exponent} is not possible: 0 to {EXPONENT_MAX} is"
        ));
    }
    let law = Zipf::new(f64::from(count.max(1)), exponent).map_err(|e| format!("no Zipf order: {e}"))?;
    let len = (count as usize * 16).next_power_of_two().clamp(TABLE_MIN, TABLE_MAX);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let slots = law.sample_iter(&mut random);
    Ok(slots
        .take(len)
        .map(|rank| (rank as u32).clamp(1, count.max(1)) - 1)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn picker(count: u32, order: Order, new_per_second: u32) -> Picker {
        let flows = Flows {
            count,
            order,
            new_per_second,
        };
        Picker::new(&flows, 7).expect("an order")
    }

    #[test]
    fn round_robin_takes_each_flow_in_turn() {
        let picker = picker(3, Order::RoundRobin, 0);
        let slots: Vec<u32> = (0..7).map(|n| picker.slot(n)).collect();
        assert_eq!(slots, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn random_takes_each_flow_about_as_often_and_is_not_in_order() {
        let picker = picker(100, Order::Random, 0);
        let mut counts = [0u32; 100];
        let mut steps = 0;
        for n in 0..100_000 {
            counts[picker.slot(n) as usize] += 1;
            steps += u32::from(picker.slot(n + 1) == picker.slot(n) + 1);
        }
        // A thousand each; the standard deviation is 31.5.
        assert!(counts.iter().all(|count| (842..1158).contains(count)), "{counts:?}");
        assert!(steps < 1_200, "{steps} of 100000 follow each other");
        // Chi-square over 99 degrees of freedom: above 160 once in 10,000 seeds, below 50 as rarely.
        let chi: f64 = counts.iter().map(|&n| (f64::from(n) - 1e3).powi(2) / 1e3).sum();
        assert!((50.0..160.0).contains(&chi), "{chi}");
    }

    #[test]
    fn random_meets_nearly_all_of_ten_million_flows() {
        let picker = picker(10_000_000, Order::Random, 0);
        let mut seen = vec![0u64; 10_000_000 / 64];
        for n in 0..30_000_000 {
            let slot = picker.slot(n) as usize;
            seen[slot / 64] |= 1 << (slot % 64);
        }
        let seen: u32 = seen.iter().map(|word| word.count_ones()).sum();
        // Of uniform draws, three for each, 1 - e^-3 are met: 9,502,129.
        assert!((9_490_000..9_515_000).contains(&seen), "{seen}");
    }

    #[test]
    fn zipf_follows_its_law() {
        for (exponent, count) in [(1.0, 1_000u32), (0.8, 1_000), (1.2, 100)] {
            let picker = picker(count, Order::Zipf { exponent }, 0);
            let whole: f64 = (1..=count).map(|n| f64::from(n).powf(-exponent)).sum();
            let draws = 1u64 << 16;
            let mut counts = vec![0u32; count as usize];
            (0..draws).for_each(|n| counts[picker.slot(n) as usize] += 1);
            for rank in [1u32, 2, 3, 10, 50] {
                let expected = draws as f64 * f64::from(rank).powf(-exponent) / whole;
                let found = f64::from(counts[rank as usize - 1]);
                let off = (found - expected).abs() / expected.sqrt();
                assert!(off < 5.0, "s {exponent} rank {rank}: {found} of {expected}");
            }
        }
    }

    #[test]
    fn what_no_zipf_order_can_be_is_said() {
        for exponent in [-0.1, f64::NAN, f64::INFINITY, 11.0] {
            let flows = Flows {
                count: 5,
                order: Order::Zipf { exponent },
                new_per_second: 0,
            };
            let error = Picker::new(&flows, 1).expect_err("it cannot be");
            assert!(error.contains("exponent"), "{error}");
        }
    }

    #[test]
    fn new_flows_take_the_place_of_the_oldest_at_their_rate() {
        let picker = picker(4, Order::RoundRobin, 1_000);
        let at = |ns| {
            (0..4)
                .map(|slot| picker.flow(slot, picker.gone(ns)))
                .collect::<Vec<_>>()
        };
        assert_eq!(at(0), [0, 1, 2, 3]);
        assert_eq!(at(999_999), [0, 1, 2, 3]);
        assert_eq!(at(1_000_000), [4, 1, 2, 3]);
        assert_eq!(at(3_500_000), [4, 5, 6, 3]);
        assert_eq!(at(4_000_000), [4, 5, 6, 7]);
        assert_eq!(at(5_000_000), [8, 5, 6, 7]);
    }

    proptest! {
        #[test]
        fn a_slot_is_one_of_them(count in 1u32..=10_000_000, sequence: u64, seed: u64) {
            for order in [Order::RoundRobin, Order::Random] {
                let flows = Flows { count, order, new_per_second: 0 };
                let picker = Picker::new(&flows, seed).expect("an order");
                prop_assert!(picker.slot(sequence) < count);
                prop_assert_eq!(picker.slot(sequence), picker.clone().slot(sequence));
            }
        }

        #[test]
        fn the_flows_at_any_time_are_the_youngest(count in 1u32..200, gone in 0u64..10_000) {
            let picker = picker(count, Order::RoundRobin, 1);
            let state = picker.after(gone);
            let mut flows: Vec<u32> = (0..count).map(|slot| picker.flow(slot, state)).collect();
            flows.sort_unstable();
            prop_assert_eq!(flows, (gone as u32..gone as u32 + count).collect::<Vec<_>>());
        }
    }
}
