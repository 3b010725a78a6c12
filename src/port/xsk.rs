//! The AF_XDP queue: one socket on one (port, queue), its four rings, and the syscalls that keep them moving.
//!
//! ```text
//!            fill ring         rx ring                 tx ring          completion ring
//!   refill ---> ||| --> kernel --> ||| ---> receive    transmit --> ||| --kick--> kernel --> ||| --> complete
//!               '---- held.fill ----'                               '------- held.tx ---------'
//! ```
//!
//! Facts of the kernel (net/xdp/xsk.c) that shape it:
//! - In copy mode a transmit is work of the caller: `sendto` sends what is in the ring, at most 32 frames a call unless
//!   XDP_MAX_TX_SKB_BUDGET (6.17) raises that, so [`Queue::kick`] calls until the ring is empty or nothing moves.
//! - EAGAIN: more to send, or the send buffer is full. EBUSY: the device dropped this frame, the ring went on. ENETDOWN: the
//!   port is down, frames stay. ENXIO: the port is gone.
//! - A descriptor that the kernel finds invalid is skipped and never completed, so none may be made: a frame too short to be
//!   sent is kept and counted.
//! - No multi-buffer: a packet that comes in pieces all the same (a zero-copy driver with larger packets) is dropped.
//!
//! What bounds it: at most `fill_frames` frames to receive into, at most a transmit ring of frames to send.

use super::bind::{Bound, OpenError, Parked, Rings, wait_until_free};
use super::ioctl::set_option;
use super::link::Link;
use super::umem::{Holder, Umem};
use super::{Held, Queue, QueueCounters};
use crate::packet::{BURST, Frame};
use std::io;
use std::os::fd::RawFd;
use std::sync::PoisonError;
use std::time::Duration;
use xsk_rs::FrameDesc;
use xsk_rs::config::QueueSize;

const SO_BUSY_POLL: libc::c_int = 46;
const SO_PREFER_BUSY_POLL: libc::c_int = 69;
const SO_BUSY_POLL_BUDGET: libc::c_int = 70;
const SOL_XDP: libc::c_int = 283;
const XDP_OPTIONS: libc::c_int = 8;
const XDP_OPTIONS_ZEROCOPY: u32 = 1;
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// What a socket buffer of a full-size frame costs the send buffer, rounded up.
const SKB_BYTES: u32 = 4096;
/// How long one busy poll may take, in microseconds; one round of the driver's poll is what happens in fact.
const BUSY_POLL_US: libc::c_int = 20;
/// An Ethernet header: what is shorter cannot be sent.
const LEN_MIN: usize = 14;

/// How a queue is opened.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Entries of the receive ring, a power of two.
    pub rx_size: u32,
    /// Entries of the transmit ring, a power of two, at most the UMEM's completion ring.
    pub tx_size: u32,
    /// Frames to receive into: those in the fill ring and in the receive ring together; at most the UMEM's fill ring.
    pub fill_frames: u32,
    /// Preferred busy polling: packets per poll of the driver. It wants `napi_defer_hard_irqs` and `gro_flush_timeout` set on
    /// the interface. Zero-copy sockets get plain busy polling: with preferred polling transmits did not leave on igb and
    /// virtio_net.
    pub busy_poll: Option<u32>,
    /// How long a queue that is in use is tried again.
    pub busy_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rx_size: 2048,
            tx_size: 2048,
            fill_frames: 2048,
            busy_poll: None,
            busy_max: Duration::from_secs(1),
        }
    }
}

/// One (port, queue) pair by AF_XDP. Close it with [`XskQueue::close`]: a queue that is merely dropped keeps its frames.
#[derive(Debug)]
#[must_use = "a queue that is dropped instead of closed keeps the frames in its rings"]
pub struct XskQueue {
    umem: Umem,
    rings: Rings,
    link: Link,
    queue_id: u32,
    tx_size: u32,
    fill_frames: u32,
    zero_copy: bool,
    busy_poll: bool,
    anchor: bool,
    slot: u16,
    held: Held,
    counters: QueueCounters,
    faults: u64,
    in_pieces: bool,
    /// Frames that came back by another way than a ring that hands them out; the next to be filled in.
    spare: Vec<Frame>,
    descs: Box<[FrameDesc; BURST]>,
}

impl XskQueue {
    /// Opens queue `queue_id` of the interface `name`, in the calling thread's network namespace. Blocks while the queue is busy,
    /// up to `busy_max`: for the control thread. The interface needs an XDP program that redirects to [`Queue::fd`], and the
    /// fill ring is empty yet.
    ///
    /// # Errors
    /// The interface does not suit (no Ethernet, MTU, no such queue), or the kernel refused; the error names the remedy.
    pub fn open(umem: &Umem, name: &str, queue_id: u32, config: &Config) -> Result<Self, OpenError> {
        let link = Link::query(name)?;
        link.check_ethernet()?;
        link.check_mtu(umem.frame_size())?;
        link.check_queue(queue_id)?;
        let limits = umem.shared.config;
        let ring = |what, size: u32, max: u32| match QueueSize::new(size) {
            Ok(checked) if size <= max => Ok(checked),
            _ => Err(OpenError::Ring { what, size, max }),
        };
        let sizes = (
            ring("receive", config.rx_size, 1 << 16)?,
            ring("transmit", config.tx_size, limits.completion_size)?,
        );
        if config.fill_frames > limits.fill_size {
            return Err(OpenError::Ring {
                what: "fill",
                size: config.fill_frames,
                max: limits.fill_size,
            });
        }
        let binding = &umem.shared.binding;
        let bound = binding.lock().unwrap_or_else(PoisonError::into_inner).bind(
            umem,
            &link,
            queue_id,
            (sizes.0, sizes.1, config.busy_max),
        )?;
        Ok(Self::new(*umem, bound, link, queue_id, config))
    }

    fn new(umem: Umem, bound: Bound, link: Link, queue_id: u32, config: &Config) -> Self {
        let fd = bound.rings.fd();
        let zero_copy = is_zero_copy(fd);
        // Both are a matter of speed: what the kernel refuses or does not know yet is done without.
        let _ = set_option(fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &config.tx_size);
        raise_send_buffer(fd, config.tx_size.saturating_mul(SKB_BYTES));
        let busy_poll = config
            .busy_poll
            .is_some_and(|budget| set_busy_poll(fd, budget, !zero_copy).is_ok());
        Self {
            umem,
            rings: bound.rings,
            link,
            queue_id,
            tx_size: config.tx_size,
            fill_frames: config.fill_frames,
            zero_copy,
            busy_poll,
            anchor: bound.anchor,
            slot: bound.slot,
            held: bound.held,
            counters: QueueCounters::default(),
            faults: 0,
            in_pieces: false,
            spare: Vec::with_capacity(config.fill_frames.max(config.tx_size) as usize),
            descs: Box::new([FrameDesc::default(); BURST]),
        }
    }

    /// Whether the socket is in zero-copy mode, as the kernel says (XDP_OPTIONS).
    pub fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Whether busy polling was asked for and granted.
    pub fn busy_poll(&self) -> bool {
        self.busy_poll
    }

    /// What was known about the interface when the queue was opened.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The queue's number on its interface.
    pub fn queue_id(&self) -> u32 {
        self.queue_id
    }

    /// Descriptors that named a frame which this queue did not hold, and frames of another pool: 0, or there is a bug.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// Has the driver look for packets now: needed in zero-copy mode when it asks for it, and it is the poll of busy polling.
    pub fn wake_rx(&mut self) {
        // SAFETY: no buffer is given, so none is written.
        unsafe {
            libc::recvfrom(
                self.fd_raw(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
    }

    /// Closes the socket and gives back every frame that was in its rings; packets in them are lost. Blocks for some
    /// milliseconds: for the control thread, and after the XDP program has stopped redirecting to it.
    ///
    /// The number of frames that stay with the kernel: 0, unless this is the queue that the UMEM lives on (see `bind.rs`), which
    /// keeps them until it is opened again, or a NIC that does not let go of its queue.
    pub fn close(mut self, into: &mut Vec<Frame>) -> u32 {
        into.append(&mut self.spare);
        let binding = &self.umem.shared.binding;
        let kept = self.held.fill + self.held.tx;
        if self.anchor && !self.gone() {
            let ifindex = self.link.ifindex;
            let parked = Parked {
                rings: self.rings,
                slot: self.slot,
                held: self.held,
                ifindex,
                queue: self.queue_id,
            };
            binding.lock().unwrap_or_else(PoisonError::into_inner).park(parked);
            return kept;
        }
        // Closing waits for the kernel's receive path (`xsk_unbind_dev`), and what it sends in copy mode is a copy.
        drop(self.rings);
        if self.zero_copy && !wait_until_free(&self.link.name, self.queue_id) {
            return kept;
        }
        let got = self.umem.take_back_all(self.slot, into);
        debug_assert!(got == kept || self.faults > 0, "{got} frames came back of {kept}");
        binding
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .free_slot(self.slot);
        0
    }

    /// Whether the interface is gone, so that the kernel has unbound the socket.
    fn gone(&self) -> bool {
        self.send() == Err(libc::ENXIO)
    }

    fn fd_raw(&self) -> RawFd {
        self.rings.fd()
    }

    /// One call to the kernel to send; its errno.
    fn send(&self) -> Result<(), i32> {
        // SAFETY: no buffer and no address are given.
        let sent = unsafe {
            libc::sendto(
                self.fd_raw(),
                std::ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null(),
                0,
            )
        };
        if sent >= 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error().raw_os_error().unwrap_or(0))
        }
    }

    /// Frames in the transmit ring that the kernel has not taken yet.
    fn unsent(&mut self) -> u32 {
        self.tx_size - self.rings.tx.nb_free_exact()
    }

    /// Drops a piece of a packet that is larger than a frame.
    fn drop_piece(&mut self, frame: Frame, more: bool) {
        if !self.in_pieces {
            self.counters.rx_oversize += 1;
        }
        self.in_pieces = more;
        self.spare.push(frame);
    }
}

impl Queue for XskQueue {
    fn receive(&mut self, into: &mut Vec<Frame>, max: usize) -> usize {
        let mut got = 0;
        if self.busy_poll && self.rings.rx.nb_avail(1) == 0 {
            self.wake_rx();
        }
        while got < max {
            let want = BURST.min(max - got);
            // SAFETY: the descriptors are written, and only with what the kernel put into this socket's ring.
            let n = unsafe { self.rings.rx.consume(&mut self.descs[..want]) };
            for desc in &self.descs[..n] {
                self.umem.prefetch(desc.addr());
            }
            for i in 0..n {
                let desc = self.descs[i];
                let (id, start) = self.umem.locate(desc.addr());
                let Some(mut frame) = self.umem.take_back(id, Holder::fill(self.slot)) else {
                    self.faults += 1;
                    continue;
                };
                self.held.fill -= 1;
                if desc.has_more_frames() || self.in_pieces {
                    self.drop_piece(frame, desc.has_more_frames());
                    continue;
                }
                let len = desc.lengths().data();
                frame.set_range(start, len);
                self.counters.rx += 1;
                self.counters.rx_bytes += len as u64;
                into.push(frame);
                got += 1;
            }
            if n < want {
                break;
            }
        }
        got
    }

    fn room(&self) -> usize {
        // The completion ring is as long, and what the kernel finds full there it does not send.
        self.tx_size.saturating_sub(self.held.tx) as usize
    }

    fn transmit(&mut self, frames: &mut Vec<Frame>) -> usize {
        let room = self.rings.tx.nb_free(frames.len().min(self.tx_size as usize) as u32) as usize;
        let n = room.min(frames.len());
        let mut ready = 0;
        for frame in frames.drain(..n) {
            let len = frame.len();
            if len < LEN_MIN {
                self.counters.xsk_invalid += 1;
                self.spare.push(frame);
                continue;
            }
            let Some(desc) = self.umem.hand_over(frame, Holder::tx(self.slot)) else {
                self.faults += 1;
                continue;
            };
            self.descs[ready] = desc;
            ready += 1;
            self.held.tx += 1;
            self.counters.tx += 1;
            self.counters.tx_bytes += len as u64;
            if ready == BURST {
                // SAFETY: the frames are of this UMEM, and handed over: nobody has them as a `Frame`. The ring has room.
                unsafe { self.rings.tx.produce(&self.descs[..ready]) };
                ready = 0;
            }
        }
        // SAFETY: as above.
        unsafe { self.rings.tx.produce(&self.descs[..ready]) };
        n
    }

    fn kick(&mut self) -> usize {
        let mut unsent = self.unsent();
        // In copy mode the flag means nothing: only this call sends. A zero-copy driver that is awake needs no call.
        let says_so = self.umem.shared.config.need_wakeup && !self.busy_poll;
        if self.zero_copy && says_so && !self.rings.tx.needs_wakeup() {
            return 0;
        }
        while unsent > 0 {
            self.counters.kicks += 1;
            let sent = self.send();
            match sent {
                Ok(()) => {}
                Err(libc::EAGAIN) => self.counters.kick_again += 1,
                Err(libc::EBUSY) => self.counters.kick_busy += 1,
                Err(libc::ENOBUFS) => self.counters.kick_nobufs += 1,
                Err(libc::ENETDOWN | libc::ENXIO) => self.counters.kick_down += 1,
                Err(_) => self.counters.kick_other += 1,
            }
            let before = std::mem::replace(&mut unsent, self.unsent());
            // A zero-copy driver that took the call goes on by itself.
            if self.zero_copy && sent.is_ok() {
                return 0;
            }
            // No progress: the completion ring or the send buffer is full, or the port is down.
            if unsent >= before || self.zero_copy {
                break;
            }
        }
        unsent as usize
    }

    fn complete(&mut self, into: &mut Vec<Frame>) -> usize {
        let mut got = 0;
        loop {
            // SAFETY: the descriptors are written, and only with what the kernel put into this socket's ring.
            let n = unsafe { self.rings.completion.consume(&mut self.descs[..]) };
            for desc in &self.descs[..n] {
                let (id, _) = self.umem.locate(desc.addr());
                match self.umem.take_back(id, Holder::tx(self.slot)) {
                    Some(frame) => {
                        into.push(frame);
                        self.held.tx -= 1;
                        got += 1;
                    }
                    None => self.faults += 1,
                }
            }
            if n < BURST {
                return got;
            }
        }
    }

    fn refill(&mut self, free: &mut Vec<Frame>) -> usize {
        let want = self
            .fill_frames
            .saturating_sub(self.held.fill)
            .min(self.rings.fill.nb_free(self.fill_frames)) as usize;
        let mut taken = 0;
        let mut ready = 0;
        for _ in 0..want {
            let Some(mut frame) = self.spare.pop().or_else(|| free.pop().inspect(|_| taken += 1)) else {
                break;
            };
            frame.set_range(usize::from(super::link::HEADROOM), 0);
            let Some(desc) = self.umem.hand_over(frame, Holder::fill(self.slot)) else {
                self.faults += 1;
                continue;
            };
            self.descs[ready] = desc;
            ready += 1;
            self.held.fill += 1;
            if ready == BURST {
                // SAFETY: the frames are of this UMEM, and handed over: nobody has them as a `Frame`. The ring has room.
                unsafe { self.rings.fill.produce(&self.descs[..ready]) };
                ready = 0;
            }
        }
        // SAFETY: as above.
        unsafe { self.rings.fill.produce(&self.descs[..ready]) };
        if self.zero_copy && want > 0 && self.rings.fill.needs_wakeup() {
            self.wake_rx();
        }
        taken
    }

    fn fd(&self) -> Option<RawFd> {
        Some(self.fd_raw())
    }

    fn held(&self) -> Held {
        Held {
            fill: self.held.fill + self.spare.len() as u32,
            ..self.held
        }
    }

    fn counters(&self) -> QueueCounters {
        let mut counters = self.counters;
        if let Ok(kernel) = self.rings.rx.fd().xdp_statistics() {
            // Copying, the kernel counts a frame that found no buffer in both (__xsk_rcv, xp_alloc).
            let without_buffer = if self.zero_copy {
                0
            } else {
                kernel.rx_fill_ring_empty_descs()
            };
            counters.xsk_rx_dropped = kernel.rx_dropped().saturating_sub(without_buffer);
            counters.xsk_rx_ring_full = kernel.rx_ring_full();
            counters.xsk_fill_empty = kernel.rx_fill_ring_empty_descs();
            counters.xsk_invalid += kernel.rx_invalid_descs() + kernel.tx_invalid_descs();
        }
        counters
    }
}

/// What XDP_OPTIONS says.
fn is_zero_copy(fd: RawFd) -> bool {
    let (mut options, mut len) = (0u32, size_of::<u32>() as libc::socklen_t);
    let into = (&raw mut options).cast();
    // SAFETY: `struct xdp_options` is one 32-bit word, and that is how much room the kernel is told of.
    let result = unsafe { libc::getsockopt(fd, SOL_XDP, XDP_OPTIONS, into, &raw mut len) };
    result == 0 && options & XDP_OPTIONS_ZEROCOPY != 0
}

/// Raises the send buffer, past net.core.wmem_max where the process may.
fn raise_send_buffer(fd: RawFd, bytes: u32) {
    if set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes).is_err() {
        let _ = set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &bytes);
    }
}

fn set_busy_poll(fd: RawFd, budget: u32, prefer: bool) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, &libc::c_int::from(prefer))?;
    set_option(fd, libc::SOL_SOCKET, SO_BUSY_POLL, &BUSY_POLL_US)?;
    set_option(fd, libc::SOL_SOCKET, SO_BUSY_POLL_BUDGET, &budget)
}
