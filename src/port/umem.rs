//! The frame memory that is shared with the kernel: one UMEM per process (and per mode, copy or zero-copy), cut into frames,
//! dealt out to the workers in slabs.
//!
//! ```text
//!   frame   0 .. slab | slab .. 2*slab | ...           worker w owns frames w*slab .. (w+1)*slab
//!           worker 0  |   worker 1     |
//!
//!   one frame:  | 256 bytes for XDP (metadata, the arrival stamp) | packet ........ | frame_size
//! ```
//!
//! The memory stays for the life of the process, on purpose: so a [`Frame`] can be a `&'static mut` that nothing outlives,
//! and moving it costs nothing. All slabs are made at the start; there is no growth, and a worker without free frames lets
//! the NIC drop.
//!
//! **Who holds a frame** is written down per frame, in 16 bits: the user (it exists as a `Frame`), or the fill or transmit
//! side of one queue (it does not). Every transition checks the record and writes it, so that no descriptor, however wrong,
//! makes a second `Frame` of the same buffer, and a queue that is closed gets back exactly what was in its rings. Only the
//! record's present owner writes it, hence relaxed atomics, which cost what a plain byte costs.
//!
//! Kernel memory: each socket costs about 150 bytes per frame of the *whole* UMEM (`xp_create_and_assign_umem`), so with
//! many ports the frame count should stay moderate.

use super::bind::Binding;
use super::link::HEADROOM;
use crate::packet::{Frame, FrameId};
use std::io;
use std::num::NonZeroU32;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use thiserror::Error;
use xsk_rs::FrameDesc;
use xsk_rs::config::{FrameSize, QueueSize};

/// The most frames of one UMEM: 2 GiB of 2048-byte frames.
pub const FRAMES_MAX: u32 = 1 << 20;

/// How packets pass between the NIC and the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Zero-copy when the first port of the UMEM can do it, else copy.
    #[default]
    Auto,
    /// The NIC reads and writes the frames itself.
    ZeroCopy,
    /// The kernel copies: works on every interface.
    Copy,
}

/// What a UMEM is made of. The ring sizes are of every queue on it, since libxdp knows one size per UMEM.
#[derive(Clone, Copy, Debug)]
pub struct UmemConfig {
    /// How many slabs.
    pub workers: u16,
    /// Frames per slab.
    pub frames_per_worker: u32,
    /// Bytes per frame: 2048 or 4096.
    pub frame_size: u32,
    /// Entries of each fill ring, a power of two.
    pub fill_size: u32,
    /// Entries of each completion ring, a power of two, at least the transmit ring's.
    pub completion_size: u32,
    /// Try huge pages first. Without any the UMEM uses ordinary pages.
    pub huge_pages: bool,
    /// Have the driver say when it needs a syscall to go on (XDP_USE_NEED_WAKEUP); off only for drivers that get it wrong.
    pub need_wakeup: bool,
    /// Copy or zero-copy, for all sockets of the UMEM.
    pub mode: Mode,
}

impl Default for UmemConfig {
    fn default() -> Self {
        Self {
            workers: 1,
            frames_per_worker: 8192,
            frame_size: 2048,
            fill_size: 2048,
            completion_size: 2048,
            huge_pages: false,
            need_wakeup: true,
            mode: Mode::Auto,
        }
    }
}

/// Why a UMEM cannot be made.
#[derive(Debug, Error)]
pub enum UmemError {
    /// A value that cannot be.
    #[error("{what} {value} is not possible: {remedy}")]
    Config {
        /// Which value.
        what: &'static str,
        /// The value.
        value: u32,
        /// What is possible.
        remedy: &'static str,
    },
    /// The limit of locked memory is too low.
    #[error(
        "{bytes} bytes of packet memory cannot be locked: give CAP_IPC_LOCK, raise the limit (ulimit -l, LimitMEMLOCK=), or \
         use fewer frames"
    )]
    LockedMemory {
        /// The size of the UMEM.
        bytes: u64,
    },
    /// Not allowed to open an AF_XDP socket.
    #[error("AF_XDP sockets need CAP_NET_RAW: run as root or give the capability")]
    Permission,
    /// The kernel has no AF_XDP.
    #[error("this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)")]
    NoAfXdp,
    /// Anything else.
    #[error("cannot make {bytes} bytes of packet memory: {source}")]
    System {
        /// The size of the UMEM.
        bytes: u64,
        /// What the system said.
        source: io::Error,
    },
}

/// Who holds a frame; see the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder(u16);

impl Holder {
    /// Not yet taken out by its worker.
    const SLAB: Holder = Holder(0);
    /// It exists as a [`Frame`].
    const USER: Holder = Holder(1);

    /// The receive side of the queue in `slot`.
    pub(super) fn fill(slot: u16) -> Self {
        Holder(2 + 2 * slot)
    }

    /// The transmit side of the queue in `slot`.
    pub(super) fn tx(slot: u16) -> Self {
        Holder(3 + 2 * slot)
    }
}

pub(super) struct Shared {
    pub(super) xsk: xsk_rs::Umem,
    pub(super) config: UmemConfig,
    pub(super) binding: Mutex<Binding>,
    /// Where frame 0 begins.
    base: *mut u8,
    /// The descriptor of each frame, with the packet just behind the headroom. A table, since xsk-rs alone makes descriptors.
    descs: Box<[FrameDesc]>,
    holders: Box<[AtomicU16]>,
}

// SAFETY: `base` is what keeps this from being automatic. It points at memory that is never unmapped, and what is made from it
// are frames, each of which has one owner: the records see to that.
unsafe impl Send for Shared {}
// SAFETY: as above; through a shared reference only the record of a frame changes, by its owner, atomically.
unsafe impl Sync for Shared {}

/// The frame memory. A handle: copies mean the same memory.
#[derive(Clone, Copy)]
pub struct Umem {
    pub(super) shared: &'static Shared,
}

impl std::fmt::Debug for Umem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Umem")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

fn check(config: &UmemConfig) -> Result<NonZeroU32, UmemError> {
    let refuse = |what, value, remedy| Err(UmemError::Config { what, value, remedy });
    if ![2048, 4096].contains(&config.frame_size) {
        return refuse("a frame size of", config.frame_size, "use 2048 or 4096");
    }
    for (what, size) in [
        ("a fill ring of", config.fill_size),
        ("a completion ring of", config.completion_size),
    ] {
        if !size.is_power_of_two() || size > 1 << 16 {
            return refuse(what, size, "use a power of two up to 65536");
        }
    }
    let frames = u64::from(config.workers) * u64::from(config.frames_per_worker);
    match u32::try_from(frames).ok().and_then(NonZeroU32::new) {
        Some(frames) if frames.get() <= FRAMES_MAX => Ok(frames),
        _ => refuse(
            "a frame count of",
            frames.min(u64::from(u32::MAX)) as u32,
            "use fewer workers (--workers): 1 to 1048576 frames in all",
        ),
    }
}

impl Umem {
    /// Makes the memory and registers it with the kernel, in the calling thread's network namespace: all queues on it must
    /// be of that namespace.
    ///
    /// # Errors
    /// [`UmemError`] says what to do.
    pub fn create(config: UmemConfig) -> Result<Self, UmemError> {
        let frames = check(&config)?;
        let bytes = u64::from(frames.get()) * u64::from(config.frame_size);
        let sizes = (
            FrameSize::new(config.frame_size),
            QueueSize::new(config.fill_size),
            QueueSize::new(config.completion_size),
        );
        let (Ok(frame_size), Ok(fill_size), Ok(completion_size)) = sizes else {
            return Err(UmemError::Config {
                what: "a size of",
                value: config.frame_size,
                remedy: "use powers of two",
            });
        };
        let xsk_config = xsk_rs::config::UmemConfig::builder()
            .frame_size(frame_size)
            .fill_queue_size(fill_size)
            .comp_queue_size(completion_size)
            .build();
        let xsk_config = xsk_config.map_err(|e| UmemError::System {
            bytes,
            source: io::Error::other(e),
        })?;
        let made = match config.huge_pages {
            true => {
                xsk_rs::Umem::new(xsk_config, frames, true).or_else(|_| xsk_rs::Umem::new(xsk_config, frames, false))
            }
            false => xsk_rs::Umem::new(xsk_config, frames, false),
        };
        let (xsk, descs) = made.map_err(|e| create_error(&e, bytes))?;
        let base = base_of(&xsk, &descs);
        let holders = descs.iter().map(|_| AtomicU16::new(Holder::SLAB.0)).collect();
        let descs = descs.into_boxed_slice();
        let shared = Shared {
            xsk,
            config,
            binding: Mutex::default(),
            base,
            descs,
            holders,
        };
        Ok(Self {
            shared: Box::leak(Box::new(shared)),
        })
    }

    /// All frames of a worker's slab, each with an empty packet behind the headroom. A slab is handed out once: a second call
    /// gives nothing, and so does a worker that there is not.
    pub fn take_slab(&self, worker: u16) -> Vec<Frame> {
        let slab = self.shared.config.frames_per_worker;
        if worker >= self.shared.config.workers {
            return Vec::new();
        }
        let first = u32::from(worker) * slab;
        (first..first + slab)
            .filter_map(|id| self.take_back(id, Holder::SLAB))
            .collect()
    }

    /// The worker whose slab the frame belongs to.
    pub fn home(&self, id: FrameId) -> u16 {
        (id.0 / self.shared.config.frames_per_worker) as u16
    }

    /// How many frames there are in all.
    pub fn frame_count(&self) -> u32 {
        self.shared.descs.len() as u32
    }

    /// Bytes per frame.
    pub fn frame_size(&self) -> u32 {
        self.shared.config.frame_size
    }

    /// The frame that an address in a ring lies in, and where in the frame.
    #[inline]
    pub(super) fn locate(&self, addr: usize) -> (u32, usize) {
        let size = self.shared.config.frame_size;
        ((addr >> size.trailing_zeros()) as u32, addr & (size as usize - 1))
    }

    /// Starts loading the first two cache lines that a reader of the packet at `addr` will want: the stamp before it and its
    /// headers.
    #[inline]
    pub(super) fn prefetch(&self, addr: usize) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let at = self.shared.base.wrapping_add(addr).cast::<i8>();
            // SAFETY: a prefetch never faults, whatever the address.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(at);
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_sub(64));
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = addr;
    }

    /// Makes the frame again that `from` held. `None` if `from` does not hold it, so that no buffer has two owners.
    #[inline]
    pub(super) fn take_back(&self, id: u32, from: Holder) -> Option<Frame> {
        let holder = self.shared.holders.get(id as usize)?;
        if holder.load(Relaxed) != from.0 {
            return None;
        }
        holder.store(Holder::USER.0, Relaxed);
        let size = self.shared.config.frame_size as usize;
        // SAFETY: `id` is below the frame count, so the range is inside the mapping, which is never unmapped. Nobody else has
        // it: the record said that `from` (a slab, or the kernel side of the caller's own queue) held it and says so no more;
        // a `Frame` is unmade before a record says anything but USER.
        let buf = unsafe { std::slice::from_raw_parts_mut(self.shared.base.add(id as usize * size), size) };
        Some(Frame::new(buf, FrameId(id), HEADROOM))
    }

    /// Unmakes a frame: `to` holds it from now on. The descriptor to give to the kernel (its packet length is what the frame
    /// had), or `None` for a frame that is not of this UMEM, which is lost with it.
    #[inline]
    pub(super) fn hand_over(&self, mut frame: Frame, to: Holder) -> Option<FrameDesc> {
        let len = frame.len();
        if len > 0 && frame.head() != HEADROOM {
            move_packet(&mut frame);
        }
        let (buf, id) = frame.into_buffer();
        let (desc, holder) = (
            self.shared.descs.get(id.0 as usize)?,
            self.shared.holders.get(id.0 as usize)?,
        );
        let home = self
            .shared
            .base
            .wrapping_add(id.0 as usize * self.shared.config.frame_size as usize);
        if !ptr::eq(buf.as_ptr(), home) {
            debug_assert!(false, "a frame of another pool in an AF_XDP ring");
            return None;
        }
        debug_assert_eq!(holder.load(Relaxed), Holder::USER.0, "frame {} has two owners", id.0);
        holder.store(to.0, Relaxed);
        let mut desc = *desc;
        if len > 0 {
            // SAFETY: the descriptor is of this UMEM, and the frame's buffer has no other owner: its `Frame` is unmade.
            unsafe { self.shared.xsk.data_mut(&mut desc) }.cursor().set_pos(len);
        }
        Some(desc)
    }

    /// Takes back all frames that either side of the queue in `slot` held.
    pub(super) fn take_back_all(&self, slot: u16, into: &mut Vec<Frame>) -> u32 {
        let before = into.len();
        for id in 0..self.frame_count() {
            let frame = self
                .take_back(id, Holder::fill(slot))
                .or_else(|| self.take_back(id, Holder::tx(slot)));
            into.extend(frame);
        }
        (into.len() - before) as u32
    }
}

/// Moves the packet to where the frame's descriptor has it: xsk-rs cannot say that a packet starts elsewhere. Needed when a
/// stage has moved the start (a VLAN tag pushed or popped). What does not fit behind the headroom is cut; the check of the
/// MTU at the start keeps that from happening.
#[cold]
fn move_packet(frame: &mut Frame) {
    let (from, len) = (usize::from(frame.head()), frame.len());
    frame.set_range(0, usize::from(u16::MAX));
    let len = len.min(frame.len().saturating_sub(usize::from(HEADROOM)));
    frame.bytes_mut().copy_within(from..from + len, usize::from(HEADROOM));
    frame.set_range(usize::from(HEADROOM), len);
}

/// Where frame 0 begins, from the one accessor that xsk-rs has.
fn base_of(xsk: &xsk_rs::Umem, descs: &[FrameDesc]) -> *mut u8 {
    let mut first = descs.first().copied().unwrap_or_default();
    let offset = first.addr();
    // SAFETY: the descriptor is of this UMEM, and nothing uses the memory yet.
    let mut data = unsafe { xsk.data_mut(&mut first) };
    let room = data.cursor().buf_len();
    data.cursor().set_pos(room);
    // The pointer is derived for all of the mapping again: it must not be bound to the slice of frame 0.
    let address = data.contents_mut().as_mut_ptr().expose_provenance() - offset;
    ptr::with_exposed_provenance_mut(address)
}

fn create_error(error: &xsk_rs::umem::UmemCreateError, bytes: u64) -> UmemError {
    let source = super::bind::system_error(error);
    match source.raw_os_error() {
        Some(libc::ENOBUFS) => UmemError::LockedMemory { bytes },
        Some(libc::EPERM | libc::EACCES) => UmemError::Permission,
        Some(libc::EAFNOSUPPORT) => UmemError::NoAfXdp,
        _ => UmemError::System { bytes, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_sizes_are_refused_before_anything_is_made() {
        let refused = |config: UmemConfig| matches!(Umem::create(config), Err(UmemError::Config { .. }));
        let good = UmemConfig::default();
        assert!(refused(UmemConfig {
            frame_size: 1024,
            ..good
        }));
        assert!(refused(UmemConfig {
            fill_size: 1000,
            ..good
        }));
        assert!(refused(UmemConfig {
            completion_size: 1 << 17,
            ..good
        }));
        assert!(refused(UmemConfig { workers: 0, ..good }));
        assert!(refused(UmemConfig {
            workers: 2,
            frames_per_worker: FRAMES_MAX,
            ..good
        }));
        assert!(refused(UmemConfig {
            workers: u16::MAX,
            frames_per_worker: u32::MAX,
            ..good
        }));
    }

    #[test]
    fn a_moved_packet_is_whole() {
        let mut frame = Frame::new(vec![0u8; 2048].leak(), FrameId(0), HEADROOM);
        for head in [252usize, 260, 0] {
            frame.set_range(head, 100);
            frame
                .bytes_mut()
                .iter_mut()
                .enumerate()
                .for_each(|(i, byte)| *byte = i as u8);
            move_packet(&mut frame);
            assert_eq!((frame.head(), frame.len()), (HEADROOM, 100));
            assert!(frame.bytes().iter().enumerate().all(|(i, &byte)| byte == i as u8));
        }
        frame.set_range(0, 2048);
        move_packet(&mut frame);
        assert_eq!(frame.len(), 2048 - 256, "what does not fit is cut");
    }
}
