//! The rings that a socket of AF_XDP shares with the kernel: single producer, single consumer, a power of two of entries.
//!
//! ```text
//!   Producer (fill, transmit)                                  Consumer (receive, completion)
//!     room -> push ... push -> submit --> kernel    kernel --> arrived -> at ... at -> release
//! ```
//!
//! Each side publishes its own index and reads the other's (include/uapi/linux/if_xdp.h, net/xdp/xsk_queue.h). Both indices
//! lie in memory that the other core writes, so each side keeps a copy of its own, and reads the other's only when what it
//! saw last does not do. Indices run freely; an entry's place is the index without its high bits, so that no value of them,
//! whatever the kernel may write there, leads out of the ring.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// Where the parts of a ring lie in its mapping, as XDP_MMAP_OFFSETS says.
pub type Offsets = libc::xdp_ring_offset;

/// Memory mapped by mmap(2), unmapped when dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) start: NonNull<u8>,
    pub(super) len: usize,
}

// SAFETY: it is memory and its length; who may touch which part is the matter of what is built on it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes; of `fd` from `offset`, else of nothing.
    pub(super) fn new(len: usize, flags: libc::c_int, fd: Option<(BorrowedFd<'_>, libc::off_t)>) -> io::Result<Self> {
        let (fd, offset) = fd.map_or((-1, 0), |(fd, offset)| (fd.as_raw_fd(), offset));
        // SAFETY: the kernel chooses a place where nothing else lies.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                fd,
                offset,
            )
        };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { start, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length, and nobody has it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// What both kinds of rings are: the mapping, and our view of the two indices.
#[derive(Debug)]
struct Ring<T> {
    _mapping: Mapping,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    mask: u32,
    /// Where we are.
    ours: u32,
    /// Where the kernel was when we last looked.
    kernels: u32,
}

// SAFETY: the pointers lead into the mapping, which is this ring's own; of the two sides the other one is the kernel.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T: Copy> Ring<T> {
    fn map(fd: BorrowedFd<'_>, page_offset: libc::off_t, offsets: &Offsets, size: u32) -> io::Result<Self> {
        let len = offsets.desc as usize + size as usize * size_of::<T>();
        let mapping = Mapping::new(len, libc::MAP_SHARED | libc::MAP_POPULATE, Some((fd, page_offset)))?;
        // SAFETY: the kernel says where in the mapping they lie, and it is as long as it says.
        let at = |offset: u64| unsafe { mapping.start.add(offset as usize) };
        Ok(Self {
            producer: at(offsets.producer).cast(),
            consumer: at(offsets.consumer).cast(),
            flags: at(offsets.flags).cast(),
            entries: at(offsets.desc).cast(),
            mask: size - 1,
            ours: 0,
            kernels: 0,
            _mapping: mapping,
        })
    }

    #[inline(always)]
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: it lies in the mapping, aligned as the kernel lays it out, and is only ever read and written atomically.
        unsafe { self.producer.as_ref() }
    }

    #[inline(always)]
    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }
    }

    fn needs_wakeup(&self) -> bool {
        // SAFETY: as above.
        let flags = unsafe { self.flags.as_ref() }.load(Relaxed);
        flags & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// The entry of an index, which is ours: between our index and the kernel's.
    #[inline(always)]
    fn entry(&self, index: u32) -> NonNull<T> {
        // SAFETY: the mask keeps it inside.
        unsafe { self.entries.add((index & self.mask) as usize) }
    }
}

/// A ring that we fill: buffers to receive into, packets to send.
#[derive(Debug)]
pub struct Producer<T>(Ring<T>);

impl<T: Copy> Producer<T> {
    pub(super) fn map(fd: BorrowedFd<'_>, page_offset: libc::off_t, offsets: &Offsets, size: u32) -> io::Result<Self> {
        Ring::map(fd, page_offset, offsets, size).map(Self)
    }

    /// Room for so many entries, up to `wanted`. The kernel's index is read only when what is known of it does not do.
    #[inline]
    pub fn room(&mut self, wanted: u32) -> u32 {
        let ring = &mut self.0;
        let size = ring.mask + 1;
        let free = |kernels: u32| size.saturating_sub(ring.ours.wrapping_sub(kernels));
        let mut room = free(ring.kernels);
        if room < wanted {
            ring.kernels = ring.consumer().load(Acquire);
            room = size.saturating_sub(ring.ours.wrapping_sub(ring.kernels));
        }
        room.min(wanted)
    }

    /// Writes one entry. The kernel sees it at the next [`submit`](Self::submit). Without room, which is the caller's to ask
    /// for, it takes the place of another.
    ///
    /// # Safety
    /// The entry names memory of the UMEM that nobody but the kernel uses until it gives it back.
    #[inline(always)]
    pub unsafe fn push(&mut self, entry: T) {
        // SAFETY: inside the ring, and not the kernel's to read before it is submitted.
        unsafe { self.0.entry(self.0.ours).write(entry) };
        self.0.ours = self.0.ours.wrapping_add(1);
    }

    /// Has the kernel see what was pushed.
    #[inline(always)]
    pub fn submit(&mut self) {
        self.0.producer().store(self.0.ours, Release);
    }

    /// How many of the submitted entries the kernel has not taken yet.
    #[inline]
    pub fn untaken(&mut self) -> u32 {
        self.0.kernels = self.0.consumer().load(Acquire);
        self.0.ours.wrapping_sub(self.0.kernels)
    }

    /// Whether the kernel asks for a system call to go on.
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        self.0.needs_wakeup()
    }
}

/// A ring that the kernel fills: packets that arrived, buffers that were sent.
#[derive(Debug)]
pub struct Consumer<T>(Ring<T>);

impl<T: Copy> Consumer<T> {
    pub(super) fn map(fd: BorrowedFd<'_>, page_offset: libc::off_t, offsets: &Offsets, size: u32) -> io::Result<Self> {
        Ring::map(fd, page_offset, offsets, size).map(Self)
    }

    /// How many entries there are, up to `wanted`. The kernel's index is read only when all that it had put there was taken.
    #[inline]
    pub fn arrived(&mut self, wanted: u32) -> u32 {
        let ring = &mut self.0;
        if ring.kernels == ring.ours {
            ring.kernels = ring.producer().load(Acquire);
        }
        let there = ring.kernels.wrapping_sub(ring.ours);
        there.min(wanted).min(ring.mask + 1)
    }

    /// The `i`th entry of those that [`arrived`](Self::arrived) counted.
    #[inline(always)]
    pub fn at(&self, i: u32) -> T {
        // SAFETY: inside the ring, and any bits are a value of the plain integers that entries are made of.
        unsafe { self.0.entry(self.0.ours.wrapping_add(i)).read() }
    }

    /// Gives the places of the first `n` entries back.
    #[inline(always)]
    pub fn release(&mut self, n: u32) {
        self.0.ours = self.0.ours.wrapping_add(n);
        self.0.consumer().store(self.0.ours, Release);
    }
}
