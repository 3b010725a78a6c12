//! A port in plain memory: what a test or a bench puts a worker on when there is no kernel and no root.
//!
//! ```text
//!   MemPort (the test)                     MemQueue (the worker)
//!     push(bytes) ---- takes a frame from fill, copies ----> receive
//!     sent()      <--- copies at kick, frame to completion -- transmit, kick, complete
//! ```
//!
//! The rings behave as those of AF_XDP: bounded; a packet that finds no frame in the fill ring is lost and counted; what is
//! transmitted leaves only at a kick; what was sent comes back by `complete`, and not before it is asked for. [`Fault`] makes
//! the transmit side misbehave as the kernel does (port down, 32 frames per call, frames dropped by the driver).
//!
//! The two ends share a mutex, taken once per burst: simple, and good enough for a bench of the walk.

use super::{Held, Queue, QueueCounters, put_stamp};
use crate::packet::{Frame, FrameId};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A frame pool in ordinary memory, kept (leaked) for the life of the process like the AF_XDP one.
#[derive(Debug)]
pub struct MemPool {
    frames: Vec<Frame>,
    count: u32,
}

impl MemPool {
    /// `count` frames of `size` bytes, whose packets start at `headroom`.
    ///
    /// # Panics
    /// If the headroom lies beyond the frame.
    pub fn new(count: u32, size: usize, headroom: u16) -> Self {
        let memory = vec![0u8; count as usize * size].leak();
        let buffers = memory.chunks_exact_mut(size).enumerate();
        let frames = buffers
            .map(|(id, buf)| Frame::new(buf, FrameId(id as u32), headroom))
            .collect();
        Self { frames, count }
    }

    /// How many frames the pool was made with, for [`super::audit()`].
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Takes up to `n` frames out; each frame is handed out once.
    pub fn take(&mut self, n: usize) -> Vec<Frame> {
        self.frames.split_off(self.frames.len().saturating_sub(n))
    }

    /// Takes out all frames that are left.
    pub fn take_all(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.frames)
    }
}

/// How the transmit side misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// It does not.
    #[default]
    None,
    /// ENETDOWN: nothing leaves, the frames stay in the ring.
    Down,
    /// A kick sends at most so many frames, then gives up (EAGAIN without progress).
    Slow(usize),
    /// EBUSY: every n-th frame is completed, but dropped.
    DropEvery(u64),
}

/// Sizes of the rings, in frames.
#[derive(Clone, Copy, Debug)]
pub struct MemConfig {
    /// Frames in the fill and receive rings together, at most.
    pub fill: usize,
    /// Frames in the transmit ring, at most.
    pub tx: usize,
}

impl Default for MemConfig {
    fn default() -> Self {
        Self { fill: 256, tx: 256 }
    }
}

#[derive(Debug, Default)]
struct Rings {
    fill: Vec<Frame>,
    rx: VecDeque<Frame>,
    tx: VecDeque<Frame>,
    completion: Vec<Frame>,
    sent: Vec<Vec<u8>>,
    sent_count: u64,
    discard: bool,
    fault: Fault,
    counters: QueueCounters,
}

/// The worker's end of a port in memory.
#[derive(Debug)]
pub struct MemQueue {
    rings: Arc<Mutex<Rings>>,
    config: MemConfig,
    /// Frames that were given to the transmit ring and not taken back.
    sending: usize,
}

/// The test's end of a port in memory. May be cloned, and used from another thread.
#[derive(Clone, Debug)]
pub struct MemPort {
    rings: Arc<Mutex<Rings>>,
}

/// A port in memory: both of its ends. Its rings start empty; the worker fills them with [`Queue::refill`].
pub fn mem_port(config: MemConfig) -> (MemQueue, MemPort) {
    let rings = Rings {
        fill: Vec::with_capacity(config.fill),
        rx: VecDeque::with_capacity(config.fill),
        tx: VecDeque::with_capacity(config.tx),
        completion: Vec::with_capacity(config.tx),
        ..Rings::default()
    };
    let rings = Arc::new(Mutex::new(rings));
    (
        MemQueue {
            rings: Arc::clone(&rings),
            config,
            sending: 0,
        },
        MemPort { rings },
    )
}

fn lock(rings: &Mutex<Rings>) -> MutexGuard<'_, Rings> {
    rings.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemPort {
    /// A packet arrives. `false` when it was lost: no frame in the fill ring, or the packet does not fit a frame.
    pub fn push(&self, packet: &[u8]) -> bool {
        self.arrive(packet, None)
    }

    /// A packet arrives with an arrival stamp, in nanoseconds, as `steer.bpf.c` writes it.
    pub fn push_stamped(&self, packet: &[u8], time_ns: u64) -> bool {
        self.arrive(packet, Some(time_ns))
    }

    fn arrive(&self, packet: &[u8], time_ns: Option<u64>) -> bool {
        let mut rings = lock(&self.rings);
        let Some(mut frame) = rings.fill.pop() else {
            rings.counters.xsk_fill_empty += 1;
            return false;
        };
        frame.fill(packet);
        if frame.len() < packet.len() {
            rings.fill.push(frame);
            rings.counters.xsk_rx_dropped += 1;
            return false;
        }
        if let Some(time_ns) = time_ns {
            put_stamp(&mut frame, time_ns);
        }
        rings.rx.push_back(frame);
        true
    }

    /// Copies of the packets that left, in order; each is given out once.
    pub fn sent(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut lock(&self.rings).sent)
    }

    /// How many packets left since the port was made.
    pub fn sent_count(&self) -> u64 {
        lock(&self.rings).sent_count
    }

    /// Only count what leaves, without a copy: for benches.
    pub fn discard_sent(&self) {
        lock(&self.rings).discard = true;
    }

    /// Makes the transmit side misbehave from now on.
    pub fn set_fault(&self, fault: Fault) {
        lock(&self.rings).fault = fault;
    }
}

impl Queue for MemQueue {
    fn receive(&mut self, into: &mut Vec<Frame>, max: usize) -> usize {
        let rings = &mut *lock(&self.rings);
        let n = max.min(rings.rx.len());
        for frame in rings.rx.drain(..n) {
            rings.counters.rx += 1;
            rings.counters.rx_bytes += frame.len() as u64;
            into.push(frame);
        }
        n
    }

    fn room(&self) -> usize {
        self.config.tx.saturating_sub(self.sending)
    }

    fn transmit(&mut self, frames: &mut Vec<Frame>) -> usize {
        let room = self.room();
        let rings = &mut *lock(&self.rings);
        let n = room.min(frames.len());
        for frame in frames.drain(..n) {
            rings.counters.tx += 1;
            rings.counters.tx_bytes += frame.len() as u64;
            rings.tx.push_back(frame);
        }
        self.sending += n;
        n
    }

    fn kick(&mut self) -> usize {
        let rings = &mut *lock(&self.rings);
        if rings.tx.is_empty() {
            return 0;
        }
        rings.counters.kicks += 1;
        let mut left = match rings.fault {
            Fault::Down => {
                rings.counters.kick_down += 1;
                return rings.tx.len();
            }
            Fault::Slow(n) => n,
            Fault::None | Fault::DropEvery(_) => usize::MAX,
        };
        while left > 0
            && let Some(frame) = rings.tx.pop_front()
        {
            left -= 1;
            rings.sent_count += 1;
            if matches!(rings.fault, Fault::DropEvery(n) if n > 0 && rings.sent_count.is_multiple_of(n)) {
                rings.counters.kick_busy += 1;
            } else if !rings.discard {
                rings.sent.push(frame.bytes().to_vec());
            }
            rings.completion.push(frame);
        }
        if !rings.tx.is_empty() {
            rings.counters.kick_again += 1;
        }
        rings.tx.len()
    }

    fn complete(&mut self, into: &mut Vec<Frame>) -> usize {
        let rings = &mut *lock(&self.rings);
        let n = rings.completion.len();
        into.append(&mut rings.completion);
        self.sending -= n;
        n
    }

    fn refill(&mut self, free: &mut Vec<Frame>) -> usize {
        let rings = &mut *lock(&self.rings);
        let room = self.config.fill.saturating_sub(rings.fill.len() + rings.rx.len());
        let n = room.min(free.len());
        rings.fill.extend(free.drain(free.len() - n..));
        n
    }

    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn held(&self) -> Held {
        let rings = lock(&self.rings);
        Held {
            fill: (rings.fill.len() + rings.rx.len()) as u32,
            tx: (rings.tx.len() + rings.completion.len()) as u32,
        }
    }

    fn counters(&self) -> QueueCounters {
        lock(&self.rings).counters
    }
}

impl MemQueue {
    /// Closes the port: every frame that was in its rings goes to `into`.
    pub fn close(self, into: &mut Vec<Frame>) {
        let rings = &mut *lock(&self.rings);
        into.append(&mut rings.fill);
        into.extend(rings.rx.drain(..));
        into.extend(rings.tx.drain(..));
        into.append(&mut rings.completion);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{audit, take_stamp};

    fn port(fill: usize, tx: usize) -> (MemPool, Vec<Frame>, MemQueue, MemPort) {
        let mut pool = MemPool::new(16, 256, 64);
        let free = pool.take_all();
        let (queue, port) = mem_port(MemConfig { fill, tx });
        (pool, free, queue, port)
    }

    #[test]
    fn a_packet_walks_through_and_every_frame_comes_home() {
        let (pool, mut free, mut queue, port) = port(8, 8);
        assert_eq!(queue.refill(&mut free), 8);
        assert!(port.push(b"one"));
        assert!(port.push_stamped(b"two", 7));
        let mut burst = Vec::new();
        assert_eq!(queue.receive(&mut burst, 64), 2);
        assert_eq!(burst[0].bytes(), b"one");
        assert_eq!(take_stamp(&mut burst[1]), Some(7));
        assert_eq!(queue.transmit(&mut burst), 2);
        assert_eq!(queue.held(), Held { fill: 6, tx: 2 });
        assert_eq!(queue.complete(&mut free), 0, "nothing is complete before the kick");
        queue.kick();
        assert_eq!(port.sent(), [b"one".to_vec(), b"two".to_vec()]);
        assert_eq!(queue.complete(&mut free), 2);
        queue.close(&mut free);
        assert_eq!(audit(pool.count(), &free), Ok(()));
    }

    #[test]
    fn without_a_frame_a_packet_is_lost_and_counted() {
        let (_, mut free, mut queue, port) = port(1, 8);
        assert!(!port.push(b"early"));
        queue.refill(&mut free);
        assert!(!port.push(&[0; 193]), "193 bytes behind 64 of headroom do not fit 256");
        assert!(port.push(&[0; 192]));
        assert!(!port.push(b"late"));
        assert_eq!(
            (queue.counters().xsk_fill_empty, queue.counters().xsk_rx_dropped),
            (2, 1)
        );
    }

    #[test]
    fn a_full_transmit_ring_leaves_the_rest_in_order() {
        let (_, mut free, mut queue, _port) = port(8, 3);
        for (i, frame) in free.iter_mut().enumerate() {
            frame.fill(&[i as u8]);
        }
        assert_eq!(queue.transmit(&mut free), 3);
        assert_eq!(free.len(), 13);
        assert_eq!(free[0].bytes(), [3]);
    }

    #[test]
    fn faults_hold_frames_but_lose_none() {
        let (pool, mut free, mut queue, port) = port(4, 8);
        free.iter_mut().for_each(|frame| frame.fill(b"x"));
        port.set_fault(Fault::Down);
        assert_eq!(queue.transmit(&mut free), 8);
        queue.kick();
        assert_eq!(
            (queue.held().tx, queue.counters().kick_down, port.sent_count()),
            (8, 1, 0)
        );
        port.set_fault(Fault::Slow(2));
        queue.kick();
        assert_eq!((port.sent_count(), queue.counters().kick_again), (2, 1));
        port.set_fault(Fault::DropEvery(3));
        queue.kick();
        assert_eq!((port.sent().len(), queue.counters().kick_busy), (6, 2));
        queue.complete(&mut free);
        queue.refill(&mut free);
        queue.close(&mut free);
        assert_eq!(audit(pool.count(), &free), Ok(()));
    }
}
