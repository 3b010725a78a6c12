//! Where frames lie while they wait. Queues pass around [`Waiting`], which is small and copied, and a frame itself is moved twice:
//! in here, and out. (Moved through each queue on its way, it would cost more than all that the queues do.)
//!
//! The slots are as many as frames ever waited at once, which the limits of the qdiscs bound; a free one is used again at once.

use super::Packet;

/// A frame that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// Where it lies.
    pub slot: u32,
    /// What it counts, in bytes.
    pub size: u32,
}

/// What a queue may do with frames that wait.
pub(super) trait Marks {
    /// See [`Packet::mark_congestion`].
    fn mark_congestion(&mut self, frame: Waiting) -> bool;
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Frames<P> {
    slots: Vec<Option<P>>,
    free: Vec<u32>,
}

impl<P: Packet> Frames<P> {
    pub fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    #[inline]
    pub fn insert(&mut self, packet: P, size: u32) -> Waiting {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(packet);
                slot
            }
            None => {
                self.slots.push(Some(packet));
                self.slots.len() as u32 - 1
            }
        };
        Waiting { slot, size }
    }

    #[inline]
    pub fn get(&self, frame: Waiting) -> Option<&P> {
        self.slots[frame.slot as usize].as_ref()
    }

    #[inline]
    pub fn take(&mut self, frame: Waiting) -> Option<P> {
        self.free.push(frame.slot);
        self.slots[frame.slot as usize].take()
    }
}

impl<P: Packet> Marks for Frames<P> {
    fn mark_congestion(&mut self, frame: Waiting) -> bool {
        let packet = self.slots[frame.slot as usize].as_mut();
        packet.is_some_and(P::mark_congestion)
    }
}
