//! What packets change in a ruleset: counters, quotas, limits, the counters of `numgen`, the time of `last`; and whose
//! a random choice is.
//!
//! Each is a few atomic words, so that all workers share one [`State`] without a lock; they are independent of each other,
//! so every access is relaxed. What is done can be taken back: a packet that turns out to be the kernel's leaves no trace
//! ([`Cell::run`] and [`Cell::undo`]). The time is an argument, in nanoseconds of a clock that does not go back.
//!
//! A limit is one word. The kernel keeps how many nanoseconds' worth of tokens there were and when; here is the moment at
//! which there would have been none: `tokens = now - empty`, at most what the bucket holds. Taking moves it on.
//!
//! ```text
//!   ----|=====tokens=====|now          |=cost=|
//!      empty                            empty' = empty + cost
//! ```
//!
//! As net/netfilter/nft_{counter,quota,limit,last,numgen}.c; quotas as since Linux 6.16, where the last byte still passes.

use super::expr::{Limit, Stateful};
use super::program::{Ruleset, SetId, StateId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Tokens that a limit of packets holds where the rule does not say (NFT_LIMIT_PKT_BURST_DEFAULT).
const PACKETS_BURST: u32 = 5;

/// How long a choice is the kernel's after one of its outcomes was: ten minutes. Then the way may be another.
const CHOOSES_NS: u64 = 600 * 1_000_000_000;

/// All that packets change in one ruleset.
#[derive(Debug, Default)]
pub struct State {
    /// Shared with the rulesets before and after, where they have the same expression: see [`State::share`].
    cells: Box<[Arc<Cell>]>,
    /// By set: what its elements carry.
    elements: Box<[Box<[Cell]>]>,
}

impl State {
    /// As it was when the ruleset was read, at `now_ns`.
    pub fn new(ruleset: &Ruleset, now_ns: u64) -> Self {
        let new = |spec: &Stateful| Cell::new(spec, now_ns);
        let elements = |set: &Arc<super::set::Set>| set.states().iter().map(new).collect();
        Self {
            cells: ruleset.states.iter().map(|spec| Arc::new(new(spec))).collect(),
            elements: ruleset.sets.iter().map(elements).collect(),
        }
    }

    /// The same, but counters begin at 0: they count what is not the kernel's.
    pub fn of_our_own(ruleset: &Ruleset, now_ns: u64) -> Self {
        let own = |spec: &Stateful| match spec {
            Stateful::Counter { .. } => Stateful::Counter { packets: 0, bytes: 0 },
            other => *other,
        };
        Self {
            cells: ruleset
                .states
                .iter()
                .map(|spec| Arc::new(Cell::new(&own(spec), now_ns)))
                .collect(),
            ..Self::new(ruleset, now_ns)
        }
    }

    /// Goes on with the cell `theirs` of another ruleset's state, whose packets may still be on their way.
    pub fn share(&mut self, ours: StateId, other: &State, theirs: StateId) {
        self.cells[ours.0 as usize] = Arc::clone(&other.cells[theirs.0 as usize]);
    }

    /// That of a rule or an object.
    pub fn cell(&self, id: StateId) -> &Cell {
        &self.cells[id.0 as usize]
    }

    /// That of a set's element, by its number among the set's states.
    pub fn of_element(&self, set: SetId, number: u32) -> &Cell {
        &self.elements[set.0 as usize][number as usize]
    }
}

/// The memory of one expression.
#[derive(Debug)]
pub enum Cell {
    /// Packets, bytes.
    Counter(AtomicU64, AtomicU64),
    /// Bytes that are used.
    Quota {
        /// All there are.
        bytes: u64,
        /// Below breaks.
        inverted: bool,
        /// So many are used.
        consumed: AtomicU64,
    },
    /// The moment at which it had nothing.
    Limit(Bucket),
    /// When it ran last; `u64::MAX` for never.
    Last(AtomicU64),
    /// The number that was given last.
    Numgen(u32, AtomicU32),
    /// Until when a choice is the kernel's alone: see [`Cell::is_kernels`].
    Choice(AtomicU64),
    /// What is not carried here.
    Uncarried,
}

/// What running a cell did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// The rule goes on.
    On,
    /// The rule breaks.
    Break,
    /// It is not carried.
    Uncarried,
}

/// How to take back what was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// Nothing was done.
    Nothing,
    /// A packet of so many bytes was counted, or used them.
    Length(u32),
    /// So much was taken from a limit.
    Cost(u64),
    /// It ran at another time before.
    Time(u64),
    /// A number was given.
    Number,
}

/// A limit's bucket.
#[derive(Debug)]
pub struct Bucket {
    empty_ns: AtomicU64,
    max: u64,
    rate: u64,
    per_ns: u64,
    of_bytes: bool,
    inverted: bool,
}

impl Cell {
    /// As it was at `now_ns`.
    pub fn new(spec: &Stateful, now_ns: u64) -> Self {
        match *spec {
            Stateful::Counter { packets, bytes } => Cell::Counter(packets.into(), bytes.into()),
            Stateful::Quota {
                bytes,
                consumed,
                inverted,
            } => Cell::Quota {
                bytes,
                inverted,
                consumed: consumed.into(),
            },
            Stateful::Limit(limit) => Bucket::new(&limit, now_ns).map_or(Cell::Uncarried, Cell::Limit),
            Stateful::Connlimit { .. } => Cell::Uncarried,
            Stateful::Last { ago_ms } => {
                let ago = |ms: u64| now_ns.saturating_sub(ms.saturating_mul(1_000_000));
                Cell::Last(ago_ms.map_or(u64::MAX, ago).into())
            }
            Stateful::Numgen { modulus } => Cell::Numgen(modulus, modulus.saturating_sub(1).into()),
            Stateful::Choice => Cell::Choice(0.into()),
        }
    }

    /// Runs it for a packet of `len` bytes (skb->len). What is uncarried does nothing.
    pub fn run(&self, len: u32, now_ns: u64) -> (Ran, Undo) {
        let unless = |breaks: bool| if breaks { Ran::Break } else { Ran::On };
        match self {
            Cell::Counter(packets, bytes) => {
                packets.fetch_add(1, Relaxed);
                bytes.fetch_add(len.into(), Relaxed);
                (Ran::On, Undo::Length(len))
            }
            Cell::Quota {
                bytes,
                inverted,
                consumed,
            } => {
                let used = consumed.fetch_add(len.into(), Relaxed).saturating_add(len.into());
                (unless((used > *bytes) != *inverted), Undo::Length(len))
            }
            Cell::Limit(bucket) => {
                let cost = bucket.cost(len);
                let taken = bucket.take(cost, now_ns);
                let undo = if taken { Undo::Cost(cost) } else { Undo::Nothing };
                (unless(taken == bucket.inverted), undo)
            }
            Cell::Last(at) => (Ran::On, Undo::Time(at.swap(now_ns, Relaxed))),
            Cell::Numgen(..) | Cell::Choice(_) | Cell::Uncarried => (Ran::Uncarried, Undo::Nothing),
        }
    }

    /// Counts a packet of `len` bytes, if it is a counter: as [`run`](Self::run).
    #[inline(always)]
    pub fn count(&self, len: u32) {
        if let Cell::Counter(packets, bytes) = self {
            packets.fetch_add(1, Relaxed);
            bytes.fetch_add(len.into(), Relaxed);
        }
    }

    /// The next number of `numgen inc`; none if it is something else.
    pub fn number(&self) -> Option<u32> {
        let Cell::Numgen(modulus, last) = self else { return None };
        let next = |last: u32| if last.saturating_add(1) < *modulus { last + 1 } else { 0 };
        // The closure never refuses.
        last.fetch_update(Relaxed, Relaxed, |last| Some(next(last)))
            .ok()
            .map(next)
    }

    /// Whether a choice must be left to the kernel at `now_ns`. Where one of its outcomes ends in a punt the kernel chooses anew,
    /// and an outcome that must be drawn twice is too rare: so the kernel draws alone from then on, for ten minutes.
    pub fn is_kernels(&self, now_ns: u64) -> bool {
        matches!(self, Cell::Choice(until) if now_ns < until.load(Relaxed))
    }

    /// Leaves a choice to the kernel from `now_ns` on: see [`is_kernels`](Self::is_kernels).
    pub fn leave_choice(&self, now_ns: u64) {
        if let Cell::Choice(until) = self {
            until.store(now_ns.saturating_add(CHOOSES_NS), Relaxed);
        }
    }

    /// Takes back what [`run`](Self::run) or [`number`](Self::number) did. Exact unless another packet came between, and
    /// then no further off than the order of the two.
    pub fn undo(&self, undo: Undo) {
        match (self, undo) {
            (Cell::Counter(packets, bytes), Undo::Length(len)) => {
                packets.fetch_sub(1, Relaxed);
                bytes.fetch_sub(len.into(), Relaxed);
            }
            (Cell::Quota { consumed, .. }, Undo::Length(len)) => {
                consumed.fetch_sub(len.into(), Relaxed);
            }
            (Cell::Limit(bucket), Undo::Cost(cost)) => {
                bucket.empty_ns.fetch_sub(cost, Relaxed);
            }
            (Cell::Last(at), Undo::Time(before)) => at.store(before, Relaxed),
            (Cell::Numgen(modulus, last), Undo::Number) => {
                let previous = |last: u32| last.checked_sub(1).unwrap_or(modulus.saturating_sub(1));
                let _ = last.fetch_update(Relaxed, Relaxed, |last| Some(previous(last)));
            }
            _ => {}
        }
    }

    /// Packets and bytes, of a counter.
    pub fn counted(&self) -> Option<(u64, u64)> {
        match self {
            Cell::Counter(packets, bytes) => Some((packets.load(Relaxed), bytes.load(Relaxed))),
            _ => None,
        }
    }

    /// Bytes that are used, of a quota: as the kernel tells it, no more than there are.
    pub fn consumed(&self) -> Option<u64> {
        match self {
            Cell::Quota { bytes, consumed, .. } => Some(consumed.load(Relaxed).min(*bytes)),
            _ => None,
        }
    }
}

impl Bucket {
    /// Full at `now_ns`; none where the kernel would refuse the numbers.
    fn new(limit: &Limit, now_ns: u64) -> Option<Self> {
        let burst = match limit.burst {
            0 if !limit.of_bytes => PACKETS_BURST,
            burst => burst,
        };
        let max = match limit.of_bytes {
            false => limit.per_ns.checked_div(limit.rate)?.checked_mul(burst.into())?,
            true => {
                let with_burst = limit.rate.checked_add(burst.into())?;
                limit.per_ns.checked_mul(with_burst)?.checked_div(limit.rate)?
            }
        };
        Some(Self {
            empty_ns: now_ns.wrapping_sub(max).into(),
            max,
            rate: limit.rate,
            per_ns: limit.per_ns,
            of_bytes: limit.of_bytes,
            inverted: limit.inverted,
        })
    }

    /// What a packet costs. Wraps where the kernel's product does.
    fn cost(&self, len: u32) -> u64 {
        let nanoseconds = if self.of_bytes {
            self.per_ns.wrapping_mul(len.into())
        } else {
            self.per_ns
        };
        nanoseconds / self.rate
    }

    /// Takes `cost` if it is there.
    fn take(&self, cost: u64, now_ns: u64) -> bool {
        let taken = self.empty_ns.fetch_update(Relaxed, Relaxed, |empty| {
            // Another worker's clock may be ahead by a burst: then there is less than nothing.
            let tokens = now_ns
                .wrapping_sub(empty)
                .cast_signed()
                .clamp(0, self.max.cast_signed().max(0));
            let left = tokens.checked_sub_unsigned(cost)?;
            (left >= 0).then(|| now_ns.wrapping_sub(left.cast_unsigned()))
        });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limit(rate: u64, burst: u32, of_bytes: bool, inverted: bool) -> Cell {
        let spec = Limit {
            rate,
            per_ns: SECOND,
            burst,
            of_bytes,
            inverted,
        };
        Cell::new(&Stateful::Limit(spec), 0)
    }

    fn passes(cell: &Cell, len: u32, now_ns: u64) -> bool {
        cell.run(len, now_ns).0 == Ran::On
    }

    #[test]
    fn a_limit_gives_its_burst_and_then_its_rate() {
        let cell = limit(10, 3, false, false);
        let at = |now_ns| passes(&cell, 100, now_ns);
        assert_eq!([at(0), at(0), at(0), at(0)], [true, true, true, false]);
        assert_eq!(
            [at(SECOND / 10 - 1), at(SECOND / 10), at(SECOND / 10)],
            [false, true, false]
        );
        let later = 100 * SECOND;
        assert_eq!([at(later), at(later), at(later), at(later)], [true, true, true, false]);
        let default = limit(10, 0, false, false);
        assert_eq!((0..9).filter(|_| passes(&default, 1, 0)).count(), 5);
    }

    #[test]
    fn over_is_the_other_way_round_and_bytes_count_by_length() {
        let over = limit(10, 3, false, true);
        assert_eq!((0..9).filter(|_| passes(&over, 1, 0)).count(), 6);
        // A second's worth and the burst: 1500 bytes.
        let bytes = limit(1000, 500, true, false);
        let at = |len, now_ns| passes(&bytes, len, now_ns);
        assert_eq!(
            [at(1000, 0), at(501, 0), at(500, 0), at(1, 0)],
            [true, false, true, false]
        );
        assert_eq!([at(2, SECOND / 1000), at(1, SECOND / 1000)], [false, true]);
    }

    /// The kernel's own way of counting, in steps and lengths of any kind.
    #[test]
    fn a_limit_counts_as_the_kernel_does() {
        for (rate, burst, of_bytes) in [(3, 5, false), (1000, 0, true), (7, 1, false), (125_000, 9000, true)] {
            let cell = limit(rate, burst, of_bytes, false);
            let Cell::Limit(bucket) = &cell else { panic!("no limit") };
            let (mut tokens, mut last, mut now, mut seed) = (bucket.max, 0, 0u64, 1u64);
            for step in 0..5000 {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                now += (seed >> 33) % (SECOND / 5);
                let len = (seed >> 20) as u32 % 1500;
                tokens = (tokens + now - last).min(bucket.max);
                last = now;
                let pass = tokens >= bucket.cost(len);
                if pass {
                    tokens -= bucket.cost(len);
                }
                assert_eq!(passes(&cell, len, now), pass, "step {step} of {rate}");
            }
        }
    }

    #[test]
    fn a_limit_that_cannot_be_is_not_carried() {
        for (rate, burst) in [(0, 1), (1, u32::MAX), (u64::MAX, 1)] {
            let spec = Limit {
                rate,
                per_ns: u64::MAX / 2,
                burst,
                of_bytes: true,
                inverted: false,
            };
            assert!(matches!(Cell::new(&Stateful::Limit(spec), 0), Cell::Uncarried));
        }
        let connlimit = Stateful::Connlimit {
            count: 1,
            inverted: false,
        };
        assert_eq!(Cell::new(&connlimit, 0).run(1, 0), (Ran::Uncarried, Undo::Nothing));
    }

    #[test]
    fn a_quota_passes_its_last_byte() {
        for inverted in [false, true] {
            let spec = Stateful::Quota {
                bytes: 100,
                consumed: 40,
                inverted,
            };
            let cell = Cell::new(&spec, 0);
            assert_eq!([passes(&cell, 60, 0), passes(&cell, 1, 0)], [!inverted, inverted]);
            assert_eq!(cell.consumed(), Some(100));
        }
    }

    #[test]
    fn what_is_taken_back_was_never_there() {
        let specs = [
            Stateful::Counter { packets: 3, bytes: 9 },
            Stateful::Quota {
                bytes: 50,
                consumed: 5,
                inverted: false,
            },
            Stateful::Last { ago_ms: Some(1) },
            Stateful::Last { ago_ms: None },
        ];
        let cells = specs
            .iter()
            .map(|spec| Cell::new(spec, SECOND))
            .chain([limit(2, 1, false, false)]);
        for cell in cells {
            let before = format!("{cell:?}");
            let (_, undo) = cell.run(20, SECOND);
            assert_ne!(format!("{cell:?}"), before);
            cell.undo(undo);
            if !matches!(cell, Cell::Limit(_)) {
                assert_eq!(format!("{cell:?}"), before);
            }
            // A limit has forgotten only how long it has been full.
            assert_eq!(cell.run(20, SECOND).0, Ran::On);
        }
    }

    #[test]
    fn numbers_go_round_and_can_be_given_back() {
        let cell = Cell::new(&Stateful::Numgen { modulus: 3 }, 0);
        let next: Vec<_> = (0..4).filter_map(|_| cell.number()).collect();
        assert_eq!(next, [0, 1, 2, 0]);
        cell.undo(Undo::Number);
        cell.undo(Undo::Number);
        assert_eq!(cell.number(), Some(2));
        assert_eq!(Cell::new(&Stateful::Last { ago_ms: None }, 0).number(), None);
    }
}
