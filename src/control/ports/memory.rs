//! How much packet memory is left for a port that is about to be opened, and who serves it.
//!
//! Each worker has a slab of frames, of one size for all, which is fixed at the start (`plan.rs`). A socket whose worker has no
//! frames left would never get one to receive into, and lose all that comes there without a word. So a port gets only as many
//! queues as there are frames for; frames on the others pass steer and are the kernel's.
//!
//! ```text
//!   frames of a slab for rings = named ports: what was planned for each, or has by now, if that is more
//!                              + ports of bridges: what is theirs for sure, or they have by now, if that is more
//!                              + what is left
//! ```
//!
//! So each named port finds at any time what was planned for it, and ports of bridges what is theirs, whatever others came with.

use super::Ports;
use crate::control::dealing::{Rings, dealt};
use crate::control::steer::SLOTS_MAX;

/// What a port may have.
pub struct Share {
    /// Lengths of the rings of each queue.
    pub rings: Rings,
    /// Frames to reckon with for each queue.
    pub frames: usize,
    /// Frames that are left of each worker's slab.
    pub left: Vec<usize>,
    /// The most queues, whatever is left.
    pub queues_max: u32,
    /// Who serves it, should it have one queue.
    pub single: usize,
}

impl Ports {
    /// The share of port `n`, which is not open.
    pub(super) fn share(&self, n: usize) -> Share {
        let left = self.frames_left(n);
        let (rings, frames, queues_max) = match self.ports[n].member {
            Some(_) => {
                // One of those that are left is its own.
                let queues = (self.room.queues + 1).saturating_sub(self.queues_of_bridges());
                (self.room.of_bridges, self.room.of_bridges.frames_of_bridges(), queues)
            }
            None => (self.room.named, self.room.named.frames(), SLOTS_MAX),
        };
        Share {
            rings,
            frames,
            queues_max: queues_max as u32,
            single: self.single_worker(n, frames, &left),
            left,
        }
    }

    /// Frames that are left of each worker's slab for the rings of port `n`.
    fn frames_left(&self, n: usize) -> Vec<usize> {
        let workers = self.shared.limits.workers;
        let (mut named, mut of_bridges) = (vec![0; workers], vec![0; workers]);
        for (other, port) in self.ports.iter().enumerate().filter(|(other, _)| *other != n) {
            let mut has = vec![0; workers];
            let open = port.open.iter().flat_map(|open| &open.workers);
            open.for_each(|&worker| has[worker] += 1);
            match port.member {
                Some(_) => add(&mut of_bridges, &has, self.room.of_bridges.frames_of_bridges()),
                None => {
                    let planned = self.room.planned.get(other).copied().unwrap_or(1);
                    let planned = dealt(planned, other, workers);
                    has.iter_mut()
                        .zip(planned)
                        .for_each(|(has, planned)| *has = planned.max(*has));
                    add(&mut named, &has, self.room.named.frames());
                }
            }
        }
        let sure = match self.ports[n].member {
            Some(_) => 0,
            None => self.room.frames_of_bridges,
        };
        let taken = named
            .iter()
            .zip(of_bridges)
            .map(|(named, of_bridges)| named + of_bridges.max(sure));
        taken.map(|taken| self.room.frames.saturating_sub(taken)).collect()
    }

    /// Who serves the only queue of port `n`. Named ports take turns; ports of bridges come and go: of the workers that have frames
    /// left the one that serves the fewest queues gets the next.
    fn single_worker(&self, n: usize, frames: usize, left: &[usize]) -> usize {
        let turn = n % left.len();
        if self.ports[n].member.is_none() && left[turn] >= frames {
            return turn;
        }
        let mut queues = vec![0; left.len()];
        let open = self.ports.iter().filter_map(|port| port.open.as_ref());
        open.flat_map(|open| &open.workers)
            .for_each(|&worker| queues[worker] += 1);
        let able = (0..left.len()).filter(|&worker| left[worker] >= frames);
        able.min_by_key(|&worker| queues[worker]).unwrap_or(turn)
    }
}

/// Adds the frames of so many queues of each worker.
fn add(taken: &mut [usize], queues: &[usize], frames: usize) {
    taken
        .iter_mut()
        .zip(queues)
        .for_each(|(taken, queues)| *taken += queues * frames);
}
