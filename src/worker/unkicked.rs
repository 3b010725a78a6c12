//! Transmit rings that the kernel did not take all of: no memory for the moment, a driver's queue that is full, a port that is
//! down. Nothing sends what is left there but another kick, and without traffic none would come.
//!
//! Such a ring is kicked in the next turn, and then every [`FULL_RING_NS`]; where no frame of any leaves, after twice the time
//! each, up to [`PAUSE_NS_MAX`], so that a port that is down costs nothing. A sleep ends in time for it. Bounded: each place is
//! there once.

use super::shaping::FULL_RING_NS;
use super::turn::Worker;
use crate::port::Queue;

/// The longest pause between two kicks, in nanoseconds.
const PAUSE_NS_MAX: u64 = 100_000_000;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Unkicked {
    /// Places in the worker's `queues`.
    pub(super) places: Vec<u16>,
    /// Frames that were left there last, of all together.
    left: usize,
    /// When to kick again.
    due_ns: u64,
    pause_ns: u64,
}

impl Unkicked {
    /// The kernel left something in the ring of this place.
    #[cold]
    pub(super) fn note(&mut self, place: u16) {
        if !self.places.contains(&place) {
            self.places.push(place);
            (self.left, self.due_ns) = (usize::MAX, 0);
        }
    }

    /// Places changed: each of `count` may have something.
    pub(super) fn look_at_all(&mut self, count: usize) {
        self.places.clear();
        (0..count).for_each(|place| self.note(place as u16));
    }
}

impl<Q: Queue> Worker<Q> {
    /// Kicks what is due.
    #[cold]
    pub(super) fn kick_again(&mut self, now_ns: u64) {
        let Unkicked {
            places,
            left,
            due_ns,
            pause_ns,
        } = &mut self.unkicked;
        if now_ns < *due_ns {
            return;
        }
        let before = std::mem::take(left);
        places.retain(|&place| {
            let of_it = self.queues[usize::from(place)].queue.kick();
            *left += of_it;
            of_it > 0
        });
        *pause_ns = match *left < before {
            true => FULL_RING_NS,
            false => (2 * *pause_ns).clamp(FULL_RING_NS, PAUSE_NS_MAX),
        };
        *due_ns = now_ns + *pause_ns;
    }

    /// When there is something to do again, in monotonic nanoseconds; `None` if nothing waits.
    pub fn due_ns(&self, now_ns: u64) -> Option<u64> {
        let kick = (!self.unkicked.places.is_empty()).then_some(self.unkicked.due_ns);
        self.shaped_due_ns(now_ns).into_iter().chain(kick).min()
    }
}
