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

use super::bind::{Binding, OpenError, Request, wait_until_free};
use super::ioctl::set_option;
use super::link::Link;
use super::socket::{RingSizes, Socket};
use super::umem::{Holder, Umem};
use super::{Held, Queue, QueueCounters};
use crate::packet::Frame;
use libc::{SOL_XDP, XDP_PKT_CONTD, xdp_desc};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

const SO_BUSY_POLL: libc::c_int = 46;
const SO_PREFER_BUSY_POLL: libc::c_int = 69;
const SO_BUSY_POLL_BUDGET: libc::c_int = 70;
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// What a socket buffer of a full-size frame costs the send buffer, rounded up.
const SKB_BYTES: u32 = 4096;
/// How long one busy poll may take, in microseconds; one round of the driver's poll is what happens in fact.
const BUSY_POLL_US: libc::c_int = 20;
/// An Ethernet header: what is shorter cannot be sent.
const LEN_MIN: usize = 14;
/// How long a driver may take to send what it was given, at a close.
const SENT_MAX: Duration = Duration::from_millis(500);
const SENT_PAUSE: Duration = Duration::from_micros(200);

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
    socket: Socket,
    link: Link,
    queue_id: u32,
    tx_size: u32,
    fill_frames: u32,
    zero_copy: bool,
    busy_poll: bool,
    slot: u16,
    held: Held,
    counters: QueueCounters,
    faults: u64,
    in_pieces: bool,
    /// Frames that came back by another way than a ring that hands them out; the next to be filled in.
    spare: Vec<Frame>,
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
        let check = |what, size: u32, max: u32| match size.is_power_of_two() && size <= max {
            true => Ok(()),
            false => Err(OpenError::Ring { what, size, max }),
        };
        check("receive", config.rx_size, 1 << 16)?;
        check("transmit", config.tx_size, limits.completion_size)?;
        if config.fill_frames > limits.fill_size {
            return Err(OpenError::Ring {
                what: "fill",
                size: config.fill_frames,
                max: limits.fill_size,
            });
        }
        let request = Request {
            link: &link,
            queue: queue_id,
            sizes: RingSizes {
                rx: config.rx_size,
                tx: config.tx_size,
                fill: limits.fill_size,
                completion: limits.completion_size,
            },
            busy_max: config.busy_max,
        };
        let (socket, slot) = binding_of(*umem).bind(umem, &request)?;
        Ok(Self::new(*umem, (socket, slot), link, queue_id, config))
    }

    fn new(umem: Umem, (socket, slot): (Socket, u16), link: Link, queue_id: u32, config: &Config) -> Self {
        let (fd, zero_copy) = (socket.as_raw_fd(), socket.is_zero_copy());
        // Both are a matter of speed: what the kernel refuses or does not know yet is done without.
        let _ = set_option(fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &config.tx_size);
        raise_send_buffer(fd, config.tx_size.saturating_mul(SKB_BYTES));
        let busy_poll = config
            .busy_poll
            .is_some_and(|budget| set_busy_poll(fd, budget, !zero_copy).is_ok());
        Self {
            umem,
            socket,
            link,
            queue_id,
            tx_size: config.tx_size,
            fill_frames: config.fill_frames,
            zero_copy,
            busy_poll,
            slot,
            held: Held::default(),
            counters: QueueCounters::default(),
            faults: 0,
            in_pieces: false,
            spare: Vec::with_capacity(config.fill_frames.max(config.tx_size) as usize),
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
        self.socket.poll_driver();
    }

    /// Closes the socket and gives back every frame that was in its rings; packets in them are lost. Blocks for some
    /// milliseconds: for the control thread, and after the XDP program has stopped redirecting to it.
    ///
    /// The number of frames that stay with the kernel: 0, or those of a NIC that does not let go of its queue.
    pub fn close(mut self, into: &mut Vec<Frame>) -> u32 {
        into.append(&mut self.spare);
        let all_sent = self.zero_copy || !sends_in_place(&self.link) || self.wait_until_sent(into);
        // No other socket is about to share with this one, which would keep it open.
        let binding = binding_of(self.umem);
        // Closing waits for the kernel's receive path (`xsk_unbind_dev`), and what it sends in copy mode is a copy.
        drop(self.socket);
        drop(binding);
        if self.zero_copy && !wait_until_free(&self.link, self.queue_id) {
            return self.held.fill + self.held.tx;
        }
        let mut got = self.umem.take_back_all(Holder::fill(self.slot), into);
        if !all_sent {
            return self.held.tx;
        }
        got += self.umem.take_back_all(Holder::tx(self.slot), into);
        let held = self.held.fill + self.held.tx;
        debug_assert!(got == held || self.faults > 0, "{got} frames came back of {held}");
        binding_of(self.umem).free_slot(self.slot);
        0
    }

    /// Waits until what the driver took for sending has come back; whether it has. Of what is not sent since the port is down
    /// the driver has nothing.
    fn wait_until_sent(&mut self, into: &mut Vec<Frame>) -> bool {
        let end = Instant::now() + SENT_MAX;
        loop {
            let down_before = self.counters.kick_down;
            let left = self.kick();
            self.complete(into);
            let is_down = self.counters.kick_down > down_before;
            if self.held.tx == 0 || is_down && self.held.tx as usize <= left {
                return true;
            }
            if Instant::now() > end {
                return false;
            }
            sleep(SENT_PAUSE);
        }
    }

    fn fd_raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Takes a frame back that a ring of this queue names by its address, and where in the frame that is.
    #[inline(always)]
    fn take_back(&mut self, addr: u64, from: Holder) -> Option<(Frame, usize)> {
        let (id, start) = self.umem.locate(addr);
        let Some(frame) = self.umem.take_back(id, from) else {
            self.faults += 1;
            return None;
        };
        Some((frame, start))
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
        let max = max.min(u32::MAX as usize) as u32;
        if self.busy_poll && self.socket.rx.arrived(1) == 0 {
            self.wake_rx();
        }
        let n = self.socket.rx.arrived(max);
        for i in 0..n {
            self.umem.prefetch(self.socket.rx.at(i).addr);
        }
        let (before, mut bytes) = (into.len(), 0);
        into.reserve(n as usize);
        for i in 0..n {
            let desc = self.socket.rx.at(i);
            let Some((mut frame, start)) = self.take_back(desc.addr, Holder::fill(self.slot)) else {
                continue;
            };
            self.held.fill -= 1;
            let more = desc.options & XDP_PKT_CONTD != 0;
            if more || self.in_pieces {
                self.drop_piece(frame, more);
                continue;
            }
            frame.set_range(start, desc.len as usize);
            bytes += u64::from(desc.len);
            into.push(frame);
        }
        self.socket.rx.release(n);
        let got = into.len() - before;
        self.counters.rx += got as u64;
        self.counters.rx_bytes += bytes;
        got
    }

    fn room(&self) -> usize {
        // The completion ring is as long, and what the kernel finds full there it does not send.
        self.tx_size.saturating_sub(self.held.tx) as usize
    }

    fn transmit(&mut self, frames: &mut Vec<Frame>) -> usize {
        let n = self.socket.tx.room(frames.len().min(self.tx_size as usize) as u32) as usize;
        let (mut sent, mut bytes) = (0, 0);
        for frame in frames.drain(..n) {
            let len = frame.len();
            if len < LEN_MIN {
                self.counters.xsk_invalid += 1;
                self.spare.push(frame);
                continue;
            }
            let Some(addr) = self.umem.hand_over(frame, Holder::tx(self.slot)) else {
                self.faults += 1;
                continue;
            };
            let desc = xdp_desc {
                addr,
                len: len as u32,
                options: 0,
            };
            // SAFETY: the frame is of this UMEM, and handed over: nobody has it as a `Frame`.
            unsafe { self.socket.tx.push(desc) };
            sent += 1;
            bytes += len as u64;
        }
        self.socket.tx.submit();
        self.held.tx += sent;
        self.counters.tx += u64::from(sent);
        self.counters.tx_bytes += bytes;
        n
    }

    fn kick(&mut self) -> usize {
        let mut unsent = self.socket.tx.untaken();
        // In copy mode the flag means nothing: only this call sends. A zero-copy driver that is awake needs no call.
        let says_so = self.umem.shared.config.need_wakeup && !self.busy_poll;
        if self.zero_copy && says_so && !self.socket.tx.needs_wakeup() {
            return 0;
        }
        while unsent > 0 {
            self.counters.kicks += 1;
            let sent = self.socket.send().map_err(|e| e.raw_os_error().unwrap_or(0));
            match sent {
                Ok(()) => {}
                Err(libc::EAGAIN) => self.counters.kick_again += 1,
                Err(libc::EBUSY) => self.counters.kick_busy += 1,
                Err(libc::ENOBUFS) => self.counters.kick_nobufs += 1,
                Err(libc::ENETDOWN | libc::ENXIO) => self.counters.kick_down += 1,
                Err(_) => self.counters.kick_other += 1,
            }
            let before = std::mem::replace(&mut unsent, self.socket.tx.untaken());
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
        let n = self.socket.completion.arrived(u32::MAX);
        let before = into.len();
        for i in 0..n {
            let addr = self.socket.completion.at(i);
            into.extend(self.take_back(addr, Holder::tx(self.slot)).map(|(frame, _)| frame));
        }
        self.socket.completion.release(n);
        let got = into.len() - before;
        self.held.tx -= got as u32;
        got
    }

    fn refill(&mut self, free: &mut Vec<Frame>) -> usize {
        // What is held is all that the ring may have: there is room.
        let want = self.fill_frames.saturating_sub(self.held.fill);
        let (mut taken, mut filled) = (0, 0);
        for _ in 0..want {
            let Some(mut frame) = self.spare.pop().or_else(|| free.pop().inspect(|_| taken += 1)) else {
                break;
            };
            frame.set_range(0, 0);
            let Some(addr) = self.umem.hand_over(frame, Holder::fill(self.slot)) else {
                self.faults += 1;
                continue;
            };
            // SAFETY: the frame is of this UMEM, and handed over: nobody has it as a `Frame`.
            unsafe { self.socket.fill.push(addr) };
            filled += 1;
        }
        if filled > 0 {
            self.held.fill += filled;
            self.socket.fill.submit();
        }
        if self.zero_copy && want > 0 && self.socket.fill.needs_wakeup() {
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
        if let Ok(kernel) = self.socket.statistics() {
            // Copying, the kernel counts a frame that found no buffer in both (__xsk_rcv, xp_alloc).
            let without_buffer = match self.zero_copy {
                true => 0,
                false => kernel.rx_fill_ring_empty_descs,
            };
            counters.xsk_rx_dropped = kernel.rx_dropped.saturating_sub(without_buffer);
            counters.xsk_rx_ring_full = kernel.rx_ring_full;
            counters.xsk_fill_empty = kernel.rx_fill_ring_empty_descs;
            counters.xsk_invalid += kernel.rx_invalid_descs + kernel.tx_invalid_descs;
        }
        counters
    }
}

fn binding_of(umem: Umem) -> MutexGuard<'static, Binding> {
    umem.shared.binding.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the driver sends from where the packet lies even where the socket copies (IFF_TX_SKB_NO_LINEAR,
/// `xsk_build_skb_zerocopy`).
fn sends_in_place(link: &Link) -> bool {
    link.driver == "virtio_net"
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
