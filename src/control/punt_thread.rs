//! The punt thread: writes frames that workers punted back into the kernel, one at a time, and finds out which traffic is
//! punted again and again, so that steer leaves it to the kernel at once.
//!
//! A write costs about 3 us, since the kernel's whole walk runs inside it: that is why it is a thread of its own behind a
//! bounded queue. What may be left to the kernel for good is decided by the reason: only reasons that hold for every packet
//! of the same port, source and destination while the configuration stays (no route, local, not a port ...), never those of
//! one packet (TTL, length, options) or of a moment (neighbour, oracle).

use crate::packet::{Addr, Family, Frame, PortIndex, PuntReason};
use crate::stage::prerouting::leaving::Leaving;
use crate::stage::rx;
use crate::worker::{Punted, Shared};
use crossbeam::sync::Parker;
use hashbrown::HashMap;
use std::ops::ControlFlow::Continue;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Where punted frames go. The punt device is one; tests have their own.
pub trait Sink: Send {
    /// Tells the kernel what it must know of a connection before it gets the next frame.
    fn export(&mut self, leaving: Option<&Leaving>);

    /// Undoes what was told for frames that the kernel has had by now; whether there is more to undo, soon.
    fn rest(&mut self) -> bool;

    /// Hands `frame` to the kernel as if it had just arrived on `port`; false if the kernel refused it.
    fn punt(&mut self, port: PortIndex, frame: &[u8]) -> bool;

    /// From now on, while the configuration is of `generation`, steer leaves such packets of `port` to the kernel.
    fn leave(&mut self, generation: u64, port: PortIndex, family: Family, src: Addr, dst: Addr);
}

/// What became of the punted frames.
#[derive(Debug, Default)]
pub struct PuntCounts {
    /// Written, by reason.
    pub written: [AtomicU64; PuntReason::ALL.len()],
    /// Refused by the kernel.
    pub failed: AtomicU64,
    /// Address pairs left to the kernel.
    pub left: AtomicU64,
}

/// Packets of one port, source and destination within one generation and window before they are left to the kernel.
const LEAVE_AFTER: u32 = 32;

/// Address pairs that are counted at a time; when it is full the count starts anew.
const PAIRS_MAX: usize = 4096;

/// The count of repeated punts: who, how often, under which generation.
#[derive(Default)]
struct Repeats {
    generation: u64,
    pairs: HashMap<(PortIndex, Family, Addr, Addr), u32, foldhash::fast::RandomState>,
}

impl Repeats {
    /// Counts one punt; true when it is the one that makes the traffic the kernel's.
    fn count(&mut self, generation: u64, port: PortIndex, family: Family, src: Addr, dst: Addr) -> bool {
        if self.generation != generation || self.pairs.len() >= PAIRS_MAX {
            self.generation = generation;
            self.pairs.clear();
        }
        let times = self.pairs.entry((port, family, src, dst)).or_insert(0);
        *times = times.saturating_add(1);
        *times == LEAVE_AFTER
    }
}

/// Whether the reason holds for every packet between the same addresses.
fn of_the_pair(reason: PuntReason) -> bool {
    use PuntReason::*;
    matches!(
        reason,
        Martian | RpFilter | Local | NoRoute | Unreachable | RouteNotCarried | Redirect | EgressNotPort | LeftEgress
    )
}

/// How long the thread rests where there is something to undo.
const REST: Duration = Duration::from_millis(100);
/// ... and where there is nothing: it is woken.
const IDLE: Duration = Duration::from_secs(1);

/// Writes punted frames until `stop`, and what is still queued then.
pub fn run<Q>(shared: &Shared<Q>, parker: &Parker, mut sink: impl Sink, counts: &Arc<PuntCounts>, stop: &AtomicBool) {
    let mut repeats = Repeats::default();
    loop {
        while let Some(Punted {
            frame,
            port,
            reason,
            leaving,
            generation,
        }) = shared.punts.pop()
        {
            sink.export(leaving.as_ref());
            if sink.punt(port, frame.bytes()) {
                counts.written[reason as usize].fetch_add(1, Ordering::Relaxed);
            } else {
                counts.failed.fetch_add(1, Ordering::Relaxed);
            }
            if of_the_pair(reason) {
                note(shared, (&frame, port, generation), &mut repeats, &mut sink, counts);
            }
            shared.send_home(frame);
        }
        let rests = match sink.rest() {
            true => REST,
            false => IDLE,
        };
        if stop.load(Ordering::Acquire) {
            return;
        }
        parker.park_timeout(rests);
    }
}

fn note<Q>(
    shared: &Shared<Q>,
    (frame, port, generation): (&Frame, PortIndex, u64),
    repeats: &mut Repeats,
    sink: &mut impl Sink,
    counts: &PuntCounts,
) {
    let Continue(packet) = rx::parse_any(frame, port) else {
        return;
    };
    let snapshot = shared.snapshot.load();
    // Between two addresses there may be connections that are ours. And what was punted before a change, and waited, says
    // nothing of what is now.
    if snapshot.conntrack.tracked[packet.family as usize] || snapshot.generation != generation {
        return;
    }
    if repeats.count(generation, port, packet.family, packet.src, packet.dst) {
        sink.leave(generation, port, packet.family, packet.src, packet.dst);
        counts.left.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_left_once_and_anew_after_a_change() {
        let mut repeats = Repeats::default();
        let mut punt = |generation| repeats.count(generation, PortIndex(0), Family::V4, 1, 2);
        let left = (0..3 * LEAVE_AFTER).filter(|_| punt(7)).count();
        assert_eq!(left, 1);
        let left_again = (0..LEAVE_AFTER).filter(|_| punt(8)).count();
        assert_eq!(left_again, 1);
    }

    #[test]
    fn the_count_is_bounded() {
        let mut repeats = Repeats::default();
        for src in 0..3 * PAIRS_MAX as Addr {
            repeats.count(1, PortIndex(0), Family::V6, src, 2);
            assert!(repeats.pairs.len() <= PAIRS_MAX);
        }
    }
}
