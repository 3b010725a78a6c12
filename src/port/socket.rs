//! A socket of AF_XDP as the kernel has it: packet memory registered, four rings, bound to one queue of one interface.
//!
//! ```text
//!   Area (memory) --register--> Socket --bind--> (interface, queue)
//!                                  '<--- further sockets of the same memory: bind, sharing
//! ```
//!
//! What it takes to send and receive, and no more: which sockets share memory, and what to do when the kernel says no, is the matter
//! of `bind.rs`. See net/xdp/xsk.c.

use super::ioctl::set_option;
use super::ring::{Consumer, Mapping, Producer};
use libc::{SOL_XDP, xdp_desc, xdp_mmap_offsets, xdp_statistics};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

/// Memory for packets, in frames of equal size.
#[derive(Debug)]
pub struct Area {
    mapping: Mapping,
    frame_size: u32,
}

impl Area {
    /// Maps memory for `frames` frames of `frame_size` bytes, a power of two; in huge pages if asked, and if there are any.
    ///
    /// # Errors
    /// There is not so much memory.
    pub fn map(frames: u32, frame_size: u32, huge_pages: bool) -> io::Result<Self> {
        let len = frames as usize * frame_size as usize;
        // Shared, so that a fork does not part the process from its packets.
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        let mapping = match huge_pages {
            true => Mapping::new(len.next_multiple_of(HUGE_PAGE), flags | libc::MAP_HUGETLB, None)
                .or_else(|_| Mapping::new(len, flags, None)),
            false => Mapping::new(len, flags, None),
        }?;
        Ok(Self { mapping, frame_size })
    }

    /// Where it begins.
    pub fn base(&self) -> NonNull<u8> {
        self.mapping.start
    }
}

/// A huge page of most architectures.
const HUGE_PAGE: usize = 2 << 20;

/// Entries of the four rings, powers of two.
#[derive(Clone, Copy, Debug)]
pub struct RingSizes {
    /// Packets that arrived.
    pub rx: u32,
    /// Packets to send.
    pub tx: u32,
    /// Frames to receive into.
    pub fill: u32,
    /// Frames that were sent.
    pub completion: u32,
}

/// A socket and its four rings; dropped, it is closed.
#[derive(Debug)]
pub struct Socket {
    /// Packets that arrived.
    pub rx: Consumer<xdp_desc>,
    /// Packets to send.
    pub tx: Producer<xdp_desc>,
    /// Frames to receive into, by their addresses in the memory.
    pub fill: Producer<u64>,
    /// Frames that were sent, by their addresses in the memory.
    pub completion: Consumer<u64>,
    /// Others look for it while they bind.
    fd: Arc<OwnedFd>,
}

/// A descriptor of AF_XDP, in the network namespace of the calling thread.
///
/// # Errors
/// No permission, or a kernel without AF_XDP.
pub(super) fn open() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the descriptor is new and nobody else's.
    unsafe {
        match libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) {
            fd if fd < 0 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Registers memory with a socket. The same memory may be registered with several. The kernel keeps `headroom` bytes free
/// before a packet that arrives, beside its own XDP_PACKET_HEADROOM.
///
/// # Errors
/// The limit of locked memory, or sizes that cannot be.
pub(super) fn register(fd: BorrowedFd<'_>, area: &Area, headroom: u32) -> io::Result<()> {
    let request = libc::xdp_umem_reg {
        addr: area.mapping.start.as_ptr().expose_provenance() as u64,
        len: area.mapping.len as u64,
        chunk_size: area.frame_size,
        headroom,
        flags: 0,
        tx_metadata_len: 0,
    };
    set_option(fd.as_raw_fd(), SOL_XDP, libc::XDP_UMEM_REG, &request)
}

impl Socket {
    /// Gives a socket its rings.
    ///
    /// # Errors
    /// A size that is no power of two, or no memory.
    pub fn new(fd: OwnedFd, sizes: &RingSizes) -> io::Result<Self> {
        let raw = fd.as_raw_fd();
        for (option, size) in [
            (libc::XDP_RX_RING, sizes.rx),
            (libc::XDP_TX_RING, sizes.tx),
            (libc::XDP_UMEM_FILL_RING, sizes.fill),
            (libc::XDP_UMEM_COMPLETION_RING, sizes.completion),
        ] {
            set_option(raw, SOL_XDP, option, &size)?;
        }
        let offsets: xdp_mmap_offsets = get_option(raw, libc::XDP_MMAP_OFFSETS)?;
        let (fill, completion) = (libc::XDP_UMEM_PGOFF_FILL_RING, libc::XDP_UMEM_PGOFF_COMPLETION_RING);
        let at = fd.as_fd();
        Ok(Self {
            rx: Consumer::map(at, libc::XDP_PGOFF_RX_RING, &offsets.rx, sizes.rx)?,
            tx: Producer::map(at, libc::XDP_PGOFF_TX_RING, &offsets.tx, sizes.tx)?,
            fill: Producer::map(at, fill as libc::off_t, &offsets.fr, sizes.fill)?,
            completion: Consumer::map(at, completion as libc::off_t, &offsets.cr, sizes.completion)?,
            fd: Arc::new(fd),
        })
    }

    /// A socket with rings, on memory of its own: for a program that has one or two of them.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn with_memory(area: &Area, sizes: &RingSizes) -> io::Result<Self> {
        let fd = open()?;
        register(fd.as_fd(), area, 0)?;
        Self::new(fd, sizes)
    }

    /// Binds it to (an interface, a queue of it). `flags` are XDP_COPY, XDP_ZEROCOPY, XDP_USE_NEED_WAKEUP; with `sibling`, a bound
    /// socket whose memory it shall share, they are that one's. What failed may be tried again.
    ///
    /// # Errors
    /// As the kernel says: EBUSY for a queue that is taken, EBADF for a sibling that is not bound.
    pub fn bind(&self, (ifindex, queue): (u32, u32), flags: u16, sibling: Option<RawFd>) -> io::Result<()> {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: match sibling {
                Some(_) => libc::XDP_SHARED_UMEM,
                None => flags,
            },
            sxdp_ifindex: ifindex,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: sibling.unwrap_or(0) as u32,
        };
        // SAFETY: the kernel reads one address, of this length.
        let result = unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_xdp>() as libc::socklen_t,
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// A way to its descriptor that does not keep it open.
    pub(super) fn as_sibling(&self) -> Weak<OwnedFd> {
        Arc::downgrade(&self.fd)
    }

    /// One call to the kernel to send what is in the transmit ring.
    ///
    /// # Errors
    /// As the kernel says; see `xsk.rs`.
    #[inline]
    pub fn send(&self) -> io::Result<()> {
        // SAFETY: no buffer and no address are given.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                std::ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null(),
                0,
            )
        };
        match sent {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Has the driver look for packets now.
    pub fn poll_driver(&self) {
        // SAFETY: no buffer is given, so none is written.
        unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
    }

    /// What XDP_OPTIONS says: whether it is in zero-copy mode.
    pub fn is_zero_copy(&self) -> bool {
        let options: io::Result<libc::xdp_options> = get_option(self.fd.as_raw_fd(), libc::XDP_OPTIONS);
        options.is_ok_and(|options| options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
    }

    /// The kernel's counters of this socket.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn statistics(&self) -> io::Result<xdp_statistics> {
        get_option(self.fd.as_raw_fd(), libc::XDP_STATISTICS)
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// An option of a socket of AF_XDP: plain words. What an older kernel does not know of it is zero.
fn get_option<T>(fd: RawFd, option: libc::c_int) -> io::Result<T> {
    // SAFETY: only called for structures of the kernel's interface, which are words, for which all zeroes is a value.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: that is how much room the kernel is told of.
    match unsafe { libc::getsockopt(fd, SOL_XDP, option, (&raw mut value).cast(), &raw mut len) } {
        0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}
