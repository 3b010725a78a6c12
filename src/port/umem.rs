//! The frame memory that is shared with the kernel: one UMEM per process (and per mode, copy or zero-copy), cut into frames,
//! dealt out to the workers in slabs.
//!
//! ```text
//!   frame   0 .. slab | slab .. 2*slab | ...           worker w owns frames w*slab .. (w+1)*slab
//!           worker 0  |   worker 1     |
//!
//!   one frame:  | 256 bytes for XDP | the arrival stamp (copy) | packet ........ | frame_size
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
use super::socket::Area;
use crate::packet::{Frame, FrameId};
use std::io;
use std::num::NonZeroU32;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use thiserror::Error;

/// The most frames of one UMEM: 2 GiB of 2048-byte frames.
pub const FRAMES_MAX: u32 = 1 << 20;

/// How packets pass between the NIC and the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Zero-copy on the ports that can do it, copy on the others.
    #[default]
    Auto,
    /// The NIC reads and writes the frames itself.
    ZeroCopy,
    /// The kernel copies: works on every interface.
    Copy,
}

/// What a UMEM is made of. The ring sizes are of every queue on it.
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
    /// Copy or zero-copy, for all queues of the UMEM, or for each as its port can.
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
    pub(super) area: Area,
    pub(super) config: UmemConfig,
    pub(super) binding: Mutex<Binding>,
    /// Where frame 0 begins.
    base: *mut u8,
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
        let area = Area::map(frames.get(), config.frame_size, config.huge_pages)
            .map_err(|source| UmemError::System { bytes, source })?;
        let binding = Binding::new(&area).map_err(|source| create_error(source, bytes))?;
        let shared = Shared {
            base: area.base().as_ptr(),
            area,
            config,
            binding: Mutex::new(binding),
            holders: (0..frames.get()).map(|_| AtomicU16::new(Holder::SLAB.0)).collect(),
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
        self.shared.holders.len() as u32
    }

    /// Bytes per frame.
    pub fn frame_size(&self) -> u32 {
        self.shared.config.frame_size
    }

    /// The frame that an address in a ring lies in, and where in the frame.
    #[inline]
    pub(super) fn locate(&self, addr: u64) -> (u32, usize) {
        let size = self.shared.config.frame_size;
        (
            (addr >> size.trailing_zeros()) as u32,
            addr as usize & (size as usize - 1),
        )
    }

    /// Starts loading the first two cache lines that a reader of the packet at `addr` will want: the stamp before it with the
    /// first 48 bytes of headers, which will be written, and what follows.
    #[inline]
    pub(super) fn prefetch(&self, addr: u64) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let at = self.shared.base.wrapping_add(addr as usize).cast::<i8>();
            // SAFETY: a prefetch never faults, whatever the address. Processors of this architecture that lack this one take it for
            // nothing to do.
            unsafe {
                std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(48));
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

    /// Unmakes a frame: `to` holds it from now on. The address of its packet, or `None` for a frame that is not of this UMEM,
    /// which is lost with it.
    #[inline]
    pub(super) fn hand_over(&self, frame: Frame, to: Holder) -> Option<u64> {
        let head = u64::from(frame.head());
        let (buf, FrameId(id)) = frame.into_buffer();
        let offset = u64::from(id) << self.shared.config.frame_size.trailing_zeros();
        let holder = self.shared.holders.get(id as usize)?;
        if !ptr::eq(buf.as_ptr(), self.shared.base.wrapping_add(offset as usize)) {
            debug_assert!(false, "a frame of another pool in an AF_XDP ring");
            return None;
        }
        debug_assert_eq!(holder.load(Relaxed), Holder::USER.0, "frame {id} has two owners");
        holder.store(to.0, Relaxed);
        Some(offset + head)
    }

    /// Takes back all frames that `from` holds; how many.
    pub(super) fn take_back_all(&self, from: Holder, into: &mut Vec<Frame>) -> u32 {
        let before = into.len();
        into.extend((0..self.frame_count()).filter_map(|id| self.take_back(id, from)));
        (into.len() - before) as u32
    }
}

fn create_error(source: io::Error, bytes: u64) -> UmemError {
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
}
