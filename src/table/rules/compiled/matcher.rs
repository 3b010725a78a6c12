//! What a rule asks of a load, as one comparison of numbers: a load of up to 16 bytes is one number, first byte highest.
//!
//! It holds, or it fails as the expressions that it was fused from would break; or what it asks for is not known, and they say
//! where that is.

use super::super::expr::CmpOp;
use super::super::packet::Packet;
use super::super::program::{Ruleset, SetId};
use super::super::set::{Found, KEY_MAX};
use super::load::{BYTES_MAX, LoadId, Loaded, Word, ones};

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Matcher {
    /// Nobody.
    Never,
    /// It is there, whatever it is.
    There(LoadId),
    /// `load & mask == value`
    Equal { load: LoadId, mask: u128, value: u128 },
    /// `load & mask != value`
    Other { load: LoadId, mask: u128, value: u128 },
    /// Between two numbers.
    Within { load: LoadId, within: Box<Within> },
    /// In a set.
    In(Box<Key>),
}

/// `first <= (load & mask) ^ xor <= last`, or not if inverted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Within {
    pub(super) mask: u128,
    pub(super) xor: u128,
    pub(super) first: u128,
    pub(super) last: u128,
    pub(super) inverted: bool,
}

/// A key that is put together from loads, and the set that is asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) parts: Box<[Part]>,
    pub(super) set: SetId,
    pub(super) inverted: bool,
}

/// The bytes of a key from `at` on: `(load & mask) ^ xor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) load: LoadId,
    pub(super) mask: u128,
    pub(super) xor: u128,
    pub(super) at: u8,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matched<T> {
    /// It holds.
    Holds(T),
    /// It does not, or there is nothing to ask about.
    Fails,
    /// It is not known.
    Unknown,
}

impl Matcher {
    /// `(load & mask) ^ xor` compared, as `op` says, with the first `len` bytes of `value`.
    pub(super) fn compare(part: Part, op: CmpOp, value: u128, len: usize) -> Self {
        let Part { load, mask, xor, .. } = part;
        let (mask, xor, value) = (mask & ones(len), xor & ones(len), value & ones(len));
        let (low, high) = match op {
            CmpOp::Eq | CmpOp::Neq => {
                let value = value ^ xor;
                // A bit that is masked away is zero: asked for as one, it never is.
                return match (op, value & !mask) {
                    (CmpOp::Eq, 0) => Matcher::Equal { load, mask, value },
                    (CmpOp::Eq, _) => Matcher::Within {
                        load,
                        within: Within::never(),
                    },
                    (_, 0) => Matcher::Other { load, mask, value },
                    _ => Matcher::There(load),
                };
            }
            CmpOp::Lt => (Some(0), value.checked_sub(1)),
            CmpOp::Lte => (Some(0), Some(value)),
            CmpOp::Gt => (value.checked_add(1), Some(u128::MAX)),
            CmpOp::Gte => (Some(value), Some(u128::MAX)),
        };
        let within = match (low, high) {
            (Some(first), Some(last)) => Box::new(Within {
                mask,
                xor,
                first,
                last,
                inverted: false,
            }),
            _ => Within::never(),
        };
        Matcher::Within { load, within }
    }

    /// Its loads, in the order in which it asks for them.
    pub(super) fn loads(&self) -> impl Iterator<Item = LoadId> {
        let (one, parts): (_, &[Part]) = match self {
            Matcher::Never => (None, &[]),
            Matcher::There(load)
            | Matcher::Equal { load, .. }
            | Matcher::Other { load, .. }
            | Matcher::Within { load, .. } => (Some(*load), &[]),
            Matcher::In(key) => (None, &key.parts),
        };
        one.into_iter().chain(parts.iter().map(|part| part.load))
    }

    /// Calls `change` with each of its loads.
    pub(super) fn renumber(&mut self, change: impl Fn(&mut LoadId)) {
        match self {
            Matcher::Never => {}
            Matcher::There(load)
            | Matcher::Equal { load, .. }
            | Matcher::Other { load, .. }
            | Matcher::Within { load, .. } => change(load),
            Matcher::In(key) => key.renumber(change),
        }
    }

    /// Whether it holds where its one load is `it`.
    #[inline]
    pub(super) fn holds(&self, it: u128) -> bool {
        match self {
            Matcher::There(_) => true,
            Matcher::Equal { mask, value, .. } => it & mask == *value,
            Matcher::Other { mask, value, .. } => it & mask != *value,
            Matcher::Within { within, .. } => within.holds(it),
            Matcher::In(_) | Matcher::Never => false,
        }
    }

    /// Whether a packet is what it asks for.
    #[inline]
    pub(super) fn matches(
        &self,
        loaded: &mut Loaded<'_>,
        ruleset: &Ruleset,
        now_ns: u64,
        packet: &impl Packet,
    ) -> Matched<()> {
        match self {
            Matcher::There(load)
            | Matcher::Equal { load, .. }
            | Matcher::Other { load, .. }
            | Matcher::Within { load, .. } => match loaded.word(*load, packet) {
                Word::Value(value) if self.holds(value) => Matched::Holds(()),
                Word::Value(_) | Word::Break => Matched::Fails,
                Word::Punt => Matched::Unknown,
            },
            Matcher::In(key) => match key.find(loaded, ruleset, now_ns, packet) {
                Matched::Holds(_) => Matched::Holds(()),
                Matched::Fails => Matched::Fails,
                Matched::Unknown => Matched::Unknown,
            },
            Matcher::Never => Matched::Fails,
        }
    }
}

impl Within {
    fn never() -> Box<Self> {
        Box::new(Self {
            mask: 0,
            xor: 0,
            first: 1,
            last: 0,
            inverted: false,
        })
    }

    fn holds(&self, value: u128) -> bool {
        let value = value & self.mask ^ self.xor;
        (self.first <= value && value <= self.last) != self.inverted
    }
}

impl Key {
    /// Calls `change` with each of its loads.
    pub(super) fn renumber(&mut self, change: impl Fn(&mut LoadId)) {
        self.parts.iter_mut().for_each(|part| change(&mut part.load));
    }

    /// The element of a packet, if the lookup goes on.
    pub(super) fn find<'r>(
        &self,
        loaded: &mut Loaded<'_>,
        ruleset: &'r Ruleset,
        now_ns: u64,
        packet: &impl Packet,
    ) -> Matched<Option<Found<'r>>> {
        let set = &ruleset[self.set];
        let len = usize::from(set.spec.key_len);
        let mut bytes = [0; KEY_MAX + BYTES_MAX as usize];
        for part in &self.parts {
            let value = match loaded.word(part.load, packet) {
                Word::Value(value) => (value & part.mask ^ part.xor).to_be_bytes(),
                Word::Break => return Matched::Fails,
                Word::Punt => return Matched::Unknown,
            };
            // Whole, whatever its length: the next one lies over what is too much.
            let at = usize::from(part.at);
            bytes[at..at + value.len()].copy_from_slice(&value);
        }
        match set.holds(&bytes[..len], self.inverted, now_ns) {
            Some(found) => Matched::Holds(found),
            None => Matched::Fails,
        }
    }
}
