//! Who serves what: (port, queue) pairs dealt out over the workers, how many frames that takes, and how many queues of a port there
//! are frames for.
//!
//! Queue *i* of a multi-queue port goes to worker *i*, so that a worker's queues are the same on every such port and most
//! packets never change workers; single-queue ports (veths) are dealt round-robin.

use crate::packet::{BURST, PORTS_MAX};

/// Sizes of the rings of one queue, in frames; powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// Receive ring, and fill ring of the same size.
    pub rx: u32,
    /// Transmit ring, and completion ring of the same size.
    pub tx: u32,
}

impl Rings {
    /// Rings for `queues` queues in all: 2048 frames each while there are few, less when there are many, since every fill
    /// ring is memory that waits (64 veths of 4096 frames would be 512 MiB).
    pub fn for_queues(queues: usize) -> Self {
        let size = match queues {
            0..=8 => 2048,
            9..=32 => 1024,
            _ => 512,
        };
        Self { rx: size, tx: size }
    }

    /// Rings for a port of a bridge, where there is room for `queues` of these: all receive rings have `BRIDGES_FRAMES` frames
    /// together. The transmit rings are not filled all at once.
    pub fn of_bridges(queues: usize) -> Self {
        let share = BRIDGES_FRAMES / queues.max(1);
        let rx = 1 << share.clamp(64, 2048).ilog2();
        Self {
            rx,
            tx: (2 * rx).clamp(256, 2048),
        }
    }

    /// What to reckon with for a queue: both rings.
    pub fn frames(self) -> usize {
        (self.rx + self.tx) as usize
    }

    /// ... for a queue of a bridge's port: its fill ring, which is always full, and a share of those that are being sent.
    pub fn frames_of_bridges(self) -> usize {
        (self.rx + self.rx / 4) as usize
    }
}

/// Frames to receive into of all ports of bridges together: 32 MiB of 2048 bytes each. Every socket costs the kernel some memory
/// per frame that there is, on any port, so this bounds that too.
const BRIDGES_FRAMES: usize = 16384;

/// For how many queues of bridges' ports to have room, where there are `present` now.
pub fn room_for(present: usize) -> usize {
    (2 * present).next_power_of_two().clamp(64, PORTS_MAX)
}

/// The worker that serves queue `queue` of `queues` of the port that is the `single`-th single-queue port.
pub fn worker_of(queue: u32, queues: u32, single: usize, workers: usize) -> usize {
    if queues > 1 {
        queue as usize % workers
    } else {
        single % workers
    }
}

/// How many of a port's `queues` queues each worker serves, where it is the `single`-th single-queue port.
pub fn dealt(queues: u32, single: usize, workers: usize) -> Vec<usize> {
    let mut of_worker = vec![0; workers];
    (0..queues).for_each(|queue| of_worker[worker_of(queue, queues, single, workers)] += 1);
    of_worker
}

/// The most queues of `wanted` that a port may have, each of which takes `frames` frames, where `left` are those that are left of
/// each worker's slab; 0 where there are none even for one. A queue beyond would get no frames to receive into, and lose what comes.
pub fn queues_that_fit(wanted: u32, single: usize, frames: usize, left: &[usize]) -> u32 {
    let fits = |queues: u32| {
        let taken = dealt(queues, single, left.len());
        taken.iter().zip(left).all(|(queues, left)| queues * frames <= *left)
    };
    (1..=wanted).rev().find(|&queues| fits(queues)).unwrap_or(0)
}

/// How many workers to run when nobody said: as many as the port with the most queues has, but no more than CPUs.
pub fn workers_for(most_queues: u32, cpus: usize) -> usize {
    (most_queues as usize).clamp(1, cpus.max(1))
}

/// Frames of one worker's slab: `in_rings` in the rings of its queues, what may be on the way to the kernel or to other workers, or
/// wait (`in_flight`), and a few bursts in hand.
pub fn slab_frames(in_rings: usize, in_flight: usize) -> u32 {
    (in_rings + in_flight + 8 * BURST).next_multiple_of(64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_of_a_port_spread_and_single_queue_ports_take_turns() {
        let workers: Vec<_> = (0..4).map(|queue| worker_of(queue, 4, 0, 2)).collect();
        assert_eq!(workers, [0, 1, 0, 1]);
        let veths: Vec<_> = (0..4).map(|nth| worker_of(0, 1, nth, 3)).collect();
        assert_eq!(veths, [0, 1, 2, 0]);
    }

    #[test]
    fn workers_follow_the_queues_up_to_the_cpus() {
        assert_eq!(workers_for(1, 8), 1);
        assert_eq!(workers_for(4, 8), 4);
        assert_eq!(workers_for(16, 2), 2);
        assert_eq!(workers_for(0, 0), 1);
    }

    #[test]
    fn a_slab_covers_every_ring_it_serves() {
        let in_rings = 64 * Rings::for_queues(64).frames();
        assert!(slab_frames(in_rings, 3072) as usize >= in_rings + 3072);
        assert!(
            u64::from(slab_frames(in_rings, 3072)) * 2048 < 256 << 20,
            "64 veths stay below 256 MiB"
        );
    }

    #[test]
    fn a_port_gets_no_more_queues_than_its_workers_have_frames_for() {
        assert_eq!(dealt(5, 0, 2), [3, 2], "the first workers get more");
        assert_eq!(queues_that_fit(8, 0, 10, &[40, 40]), 8);
        assert_eq!(queues_that_fit(8, 0, 10, &[40, 39]), 7);
        assert_eq!(queues_that_fit(8, 0, 10, &[40, 9]), 1, "queue 1 is worker 1's");
        assert_eq!(
            queues_that_fit(8, 1, 10, &[0, 10]),
            1,
            "a single queue is that of the port's turn"
        );
        assert_eq!(queues_that_fit(8, 0, 10, &[9, 100]), 0);
    }

    #[test]
    fn ports_of_bridges_share_what_is_there_for_all_of_them() {
        assert_eq!([0, 1, 32, 33, 100, 1000].map(room_for), [64, 64, 64, 128, 256, 256]);
        for (queues, rx) in [(64, 256), (128, 128), (256, 64)] {
            let rings = Rings::of_bridges(queues);
            assert_eq!(rings.rx, rx);
            assert!(rings.tx.is_power_of_two() && queues * rings.frames_of_bridges() <= BRIDGES_FRAMES * 5 / 4);
        }
        assert_eq!(Rings::of_bridges(0), Rings { rx: 2048, tx: 2048 });
    }
}
