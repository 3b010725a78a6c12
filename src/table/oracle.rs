//! What the kernel said it would do with a flow, where only it can say: the choice among several nexthops.
//!
//! ECMP cannot be recomputed (the kernel's hash secret is hidden), so a worker asks: the question goes to control over a
//! bounded queue, the packet is punted meanwhile, and the answer comes back into the worker's own [`Answers`]. An answer
//! holds while the route it was asked for is still the very one that the lookup finds, and the generation of links and
//! hash policy is the same.
//!
//! [`Answers`] is a fixed array, four places to a set, allocated once; a set's four fingerprints are looked at before any
//! of its places:
//!
//! ```text
//!  hash of the question --> set: 4 fingerprints, used bits, hand --> place: question, route, generation, answer
//! ```
//!
//! A full set gives up a place whose answer no longer holds or, by the clock's rule, one not used since the hand last
//! passed it. The hash is seeded, so that no sender can aim at a set. What falls out is asked again: that costs a punt.
//!
//! A place holds the route it was made for, and not only its address, which a later route could get. So the last reference
//! to a route, one small object, may go with the answer to it.

use super::fib::{Nexthop, Route};
use super::iface::IfaceIndex;
use crate::packet::{Addr, Family};
use foldhash::quality::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

/// A flow, as the kernel is asked about it (RTM_GETROUTE with iif, addresses, protocol and ports).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// IPv4 or IPv6.
    pub family: Family,
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// The link of arrival.
    pub iif: IfaceIndex,
    /// IP protocol.
    pub proto: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// Source port, 0 if none.
    pub sport: u16,
    /// Destination port, 0 if none.
    pub dport: u16,
    /// IPv6 flow label: the kernel's hash takes it in unless it hashes ports (`fib_multipath_hash_policy` 1). 0 for IPv4,
    /// and where it does not matter.
    pub flow_label: u32,
}

/// What the kernel answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It forwards by this way out.
    Forward(Nexthop),
    /// Anything else: the packets are the kernel's.
    Kernel,
}

/// A question on its way to the oracle, or its answer on the way back.
#[derive(Debug)]
pub struct Asked {
    /// Who asks.
    pub worker: usize,
    /// The flow.
    pub question: Question,
    /// The route that made it a question: the answer holds while lookups find this one.
    pub route: Arc<Route>,
    /// The epoch it was asked in.
    pub epoch: u64,
    /// What the kernel said.
    pub answer: Option<Answer>,
}

/// The places of a set.
const WAYS: usize = 4;

/// One worker's answers. See the file's head.
#[derive(Debug)]
pub struct Answers {
    sets: Box<[Set]>,
    places: Box<[Option<Place>]>,
    seed: RandomState,
}

/// What is known about the places of a set without looking at them.
#[derive(Clone, Copy, Debug, Default)]
struct Set {
    /// Bits of the question's hash, by place.
    fingerprints: [u16; WAYS],
    /// One bit by place: looked up since the hand last passed it.
    used: u8,
    /// The place that is tried first when one must go.
    hand: u8,
}

/// A question and what was answered.
#[derive(Debug)]
struct Place {
    question: Question,
    /// The route that was found when the question was asked.
    route: Arc<Route>,
    /// The generation of links and hash policy at that time.
    generation: u64,
    answer: Answer,
}

impl Answers {
    /// Room for `places` answers, rounded up to a power of two and at least one set; about 130 bytes each.
    pub fn new(places: usize) -> Self {
        let sets = places.div_ceil(WAYS).next_power_of_two();
        Answers {
            sets: vec![Set::default(); sets].into(),
            places: (0..sets * WAYS).map(|_| None).collect(),
            seed: RandomState::default(),
        }
    }

    /// The answer to `question`, if it was made for this very `route` and in this `generation`.
    #[inline]
    pub fn get(&mut self, question: &Question, route: &Arc<Route>, generation: u64) -> Option<Answer> {
        let (at, fingerprint) = self.place(question);
        let set = self.sets.get_mut(at)?;
        for way in 0..WAYS {
            if set.fingerprints[way] != fingerprint {
                continue;
            }
            let Some(Some(place)) = self.places.get(at * WAYS + way) else {
                continue;
            };
            if place.question == *question {
                set.used |= 1 << way;
                return place.holds(route, generation).then_some(place.answer);
            }
        }
        None
    }

    /// Enters what was answered to `question`, asked for `route` in `generation`.
    pub fn insert(&mut self, question: Question, route: Arc<Route>, generation: u64, answer: Answer) {
        let (at, fingerprint) = self.place(&question);
        let way = self.room(at, &question, generation);
        let (Some(set), Some(place)) = (self.sets.get_mut(at), self.places.get_mut(at * WAYS + way)) else {
            return;
        };
        set.fingerprints[way] = fingerprint;
        // Used is what was asked for again: a flow of one packet does not push others out.
        set.used &= !(1 << way);
        *place = Some(Place {
            question,
            route,
            generation,
            answer,
        });
    }

    /// How many answers there are, those that no longer hold included.
    pub fn len(&self) -> usize {
        self.places.iter().flatten().count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many answers there is room for.
    pub fn capacity(&self) -> usize {
        self.places.len()
    }

    /// The place in set `at` for an answer to `question`: its own, an empty one, one of another generation, or the first
    /// from the hand on that was not used; the hand takes the marks of the others away as it passes.
    fn room(&mut self, at: usize, question: &Question, generation: u64) -> usize {
        let (Some(set), Some(places)) = (self.sets.get_mut(at), self.places.get(at * WAYS..(at + 1) * WAYS)) else {
            return 0;
        };
        let find = |wanted: &dyn Fn(&Option<Place>) -> bool| places.iter().position(wanted);
        find(&|place| place.as_ref().is_some_and(|place| place.question == *question))
            .or_else(|| find(&Option::is_none))
            .or_else(|| find(&|place| place.as_ref().is_some_and(|place| place.generation != generation)))
            .unwrap_or_else(|| {
                let used = |set: &Set| set.used >> set.hand & 1 != 0;
                while used(set) {
                    set.used &= !(1 << set.hand);
                    set.hand = (set.hand + 1) % WAYS as u8;
                }
                let way = usize::from(set.hand);
                set.hand = (set.hand + 1) % WAYS as u8;
                way
            })
    }

    /// The set and the fingerprint of a question.
    #[inline]
    fn place(&self, question: &Question) -> (usize, u16) {
        let hash = self.seed.hash_one(question);
        (hash as usize & (self.sets.len() - 1), (hash >> 48) as u16)
    }
}

impl Place {
    #[inline]
    fn holds(&self, route: &Arc<Route>, generation: u64) -> bool {
        self.generation == generation && Arc::ptr_eq(&self.route, route)
    }
}

#[cfg(test)]
mod tests;
