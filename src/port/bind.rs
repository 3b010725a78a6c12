//! Binding sockets to queues, all on the memory of one UMEM.
//!
//! A socket brings the memory along (XDP_UMEM_REG), or shares what a bound one has (XDP_SHARED_UMEM). Sharing saves the
//! kernel pinning the memory again, but forces the sibling's mode on the new socket. So sockets share with one of their own
//! mode, copy or zero-copy, and the first of a mode registers the memory anew: it is the same memory, so a frame still goes
//! from any port to any other, whatever their modes. No socket is needed by the others for longer than they take to bind:
//! ports come and go in any order.
//!
//! All of it runs on threads of control. EBUSY is retried for a bounded time, which the caller says: the kernel frees a closed
//! socket's queue some 10 ms late (`xp_release_deferred`).

use super::link::{Link, LinkError, STAMP_ROOM};
use super::netdev::XdpFeatures;
use super::socket::{self, Area, RingSizes, Socket};
use super::umem::{Mode, Umem};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Weak;
use std::thread::sleep;
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long the kernel may take to let go of a queue in zero-copy mode.
const FREE_MAX: Duration = Duration::from_secs(1);
const BUSY_PAUSE: Duration = Duration::from_micros(500);
/// ENOTSUPP: of the kernel's own, but drivers let it out.
const ENOTSUPP: i32 = 524;

/// Why a queue cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The interface does not suit.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A ring size that cannot be.
    #[error("a {what} ring of {size} entries is not possible: use a power of two up to {max}")]
    Ring {
        /// Which ring.
        what: &'static str,
        /// Its size in entries.
        size: u32,
        /// The largest that suits the UMEM.
        max: u32,
    },
    /// The queue is taken.
    #[error(
        "queue {queue} of {name} is in use by another AF_XDP socket: end the program that holds it (ss --xdp -p names it)"
    )]
    Busy {
        /// The interface.
        name: String,
        /// The queue.
        queue: u32,
    },
    /// Zero-copy was asked for and the driver has none.
    #[error("{name} (driver {driver}) cannot do zero-copy on queue {queue}: use --mode copy or auto")]
    NoZeroCopy {
        /// The interface.
        name: String,
        /// Its driver.
        driver: String,
        /// The queue.
        queue: u32,
    },
    /// The limit of locked memory is too low.
    #[error(
        "packet memory cannot be locked for queue {queue} of {name}: give CAP_IPC_LOCK, or raise the limit (ulimit -l, \
         LimitMEMLOCK=)"
    )]
    LockedMemory {
        /// The interface.
        name: String,
        /// The queue.
        queue: u32,
    },
    /// Not allowed.
    #[error("opening queue {queue} of {name} needs CAP_NET_RAW and CAP_NET_ADMIN")]
    Permission {
        /// The interface.
        name: String,
        /// The queue.
        queue: u32,
    },
    /// Too many queues.
    #[error("more than {max} queues in one process")]
    TooMany {
        /// How many there may be.
        max: usize,
    },
    /// Anything else.
    #[error("cannot open queue {queue} of {name}: {source}")]
    System {
        /// The interface.
        name: String,
        /// The queue.
        queue: u32,
        /// What the system said.
        source: io::Error,
    },
}

/// The most queues of one UMEM.
pub const QUEUES_MAX: usize = 4096;

/// What the sockets of one UMEM have in common.
#[derive(Debug)]
pub(super) struct Binding {
    /// A socket that has the memory, for the first queue that copies.
    first: Option<OwnedFd>,
    /// Drivers that were asked for zero-copy and have none. Of most it is known before (XDP features, kernel 6.3).
    without_zero_copy: Vec<String>,
    /// Sockets that were bound.
    siblings: Vec<Sibling>,
    slots: Vec<bool>,
}

#[derive(Debug)]
struct Sibling {
    fd: Weak<OwnedFd>,
    zero_copy: bool,
}

/// How a queue is to be bound.
pub(super) struct Request<'a> {
    pub(super) link: &'a Link,
    pub(super) queue: u32,
    pub(super) sizes: RingSizes,
    pub(super) busy_max: Duration,
}

impl Request<'_> {
    /// Tries until the queue is free, for a bounded time.
    fn insist<T>(&self, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let end = Instant::now() + self.busy_max;
        loop {
            match attempt() {
                Err(e) if is_passing(&e) && Instant::now() < end => sleep(BUSY_PAUSE),
                result => return result,
            }
        }
    }
}

impl Binding {
    /// Of a UMEM whose memory this is.
    pub(super) fn new(area: &Area) -> io::Result<Self> {
        let first = socket::open()?;
        socket::register(first.as_fd(), area, headroom(false))?;
        Ok(Self {
            first: Some(first),
            without_zero_copy: Vec::new(),
            siblings: Vec::new(),
            slots: Vec::new(),
        })
    }

    /// Binds a queue, and gives it a slot.
    pub(super) fn bind(&mut self, umem: &Umem, request: &Request<'_>) -> Result<(Socket, u16), OpenError> {
        let slot = match self.slots.iter().position(|taken| !taken) {
            Some(slot) => slot,
            None if self.slots.len() < QUEUES_MAX => {
                self.slots.push(false);
                self.slots.len() - 1
            }
            None => return Err(OpenError::TooMany { max: QUEUES_MAX }),
        };
        let socket = self.by_mode(umem, request)?;
        self.slots[slot] = true;
        Ok((socket, slot as u16))
    }

    fn by_mode(&mut self, umem: &Umem, request: &Request<'_>) -> Result<Socket, OpenError> {
        let (link, queue) = (request.link, request.queue);
        let fail = |source| open_error(source, link, queue);
        let has_zero_copy =
            link.xdp.is_none_or(XdpFeatures::zero_copy) && !self.without_zero_copy.contains(&link.driver);
        match umem.shared.config.mode {
            Mode::Copy => {}
            Mode::Auto if !has_zero_copy => {}
            mode => match self.join(umem, request, true) {
                Ok(socket) => return Ok(socket),
                Err(e) if no_zero_copy(&e) && mode == Mode::Auto => self.without_zero_copy.push(link.driver.clone()),
                Err(e) if no_zero_copy(&e) => {
                    return Err(OpenError::NoZeroCopy {
                        name: link.name.clone(),
                        driver: link.driver.clone(),
                        queue,
                    });
                }
                Err(e) => return Err(fail(e)),
            },
        }
        self.join(umem, request, false).map_err(fail)
    }

    /// A socket on the queue, sharing with one of its mode if there is one.
    fn join(&mut self, umem: &Umem, request: &Request<'_>, zero_copy: bool) -> io::Result<Socket> {
        self.siblings.retain(|sibling| sibling.fd.strong_count() > 0);
        let place = (request.link.ifindex, request.queue);
        for sibling in self.siblings.iter().filter(|sibling| sibling.zero_copy == zero_copy) {
            let Some(fd) = sibling.fd.upgrade() else { continue };
            let socket = Socket::new(socket::open()?, &request.sizes)?;
            match request.insist(|| socket.bind(place, 0, Some(fd.as_raw_fd()))) {
                // Its interface has gone.
                Err(e) if e.raw_os_error() == Some(libc::EBADF) => {}
                result => return result.map(|()| self.known(socket, zero_copy)),
            }
        }
        let fd = match self.first.take().filter(|_| !zero_copy) {
            Some(first) => first,
            None => {
                let fd = socket::open()?;
                // What a socket had locked that was just closed is counted for a moment longer.
                request.insist(|| socket::register(fd.as_fd(), &umem.shared.area, headroom(zero_copy)))?;
                fd
            }
        };
        let mode = match zero_copy {
            true => libc::XDP_ZEROCOPY,
            false => libc::XDP_COPY,
        };
        let wakeup = match umem.shared.config.need_wakeup {
            true => libc::XDP_USE_NEED_WAKEUP,
            false => 0,
        };
        let socket = Socket::new(fd, &request.sizes)?;
        request.insist(|| socket.bind(place, mode | wakeup, None))?;
        Ok(self.known(socket, zero_copy))
    }

    fn known(&mut self, socket: Socket, zero_copy: bool) -> Socket {
        let fd = socket.as_sibling();
        self.siblings.push(Sibling { fd, zero_copy });
        socket
    }

    /// Gives a slot back, once no frame's record names it any more.
    pub(super) fn free_slot(&mut self, slot: u16) {
        if let Some(taken) = self.slots.get_mut(usize::from(slot)) {
            *taken = false;
        }
    }
}

/// Room for the arrival stamp before a packet, so that it lies in the cache line of the headers. Zero-copy has none:
/// drivers (ice, i40e) have the card write buffers of a multiple of 128 bytes, rounded up.
fn headroom(zero_copy: bool) -> u32 {
    match zero_copy {
        true => 0,
        false => STAMP_ROOM.into(),
    }
}

/// What may go by itself: a queue, or locked memory, that was just given back.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOBUFS))
}

fn no_zero_copy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL | ENOTSUPP))
}

fn open_error(source: io::Error, link: &Link, queue: u32) -> OpenError {
    let name = link.name.clone();
    match source.raw_os_error() {
        Some(libc::EBUSY) => OpenError::Busy { name, queue },
        Some(libc::ENOBUFS) => OpenError::LockedMemory { name, queue },
        Some(libc::EPERM | libc::EACCES) => OpenError::Permission { name, queue },
        Some(libc::ENODEV) => OpenError::Link(LinkError::Missing { name }),
        _ => OpenError::System { name, queue, source },
    }
}

/// Waits until the kernel has let go of a queue whose zero-copy socket was closed: until then the NIC may still write into
/// its frames. Seen by a copy-mode socket with a little memory of its own, which gets the queue only when it is free. `false` if
/// that takes too long.
pub(super) fn wait_until_free(link: &Link, queue: u32) -> bool {
    const FRAMES: u32 = 64;
    let sizes = RingSizes {
        rx: FRAMES,
        tx: FRAMES,
        fill: FRAMES,
        completion: FRAMES,
    };
    let request = Request {
        link,
        queue,
        sizes,
        busy_max: FREE_MAX,
    };
    let Ok(area) = Area::map(FRAMES, 2048, false) else {
        return false;
    };
    let Ok(probe) = Socket::with_memory(&area, &sizes) else {
        return false;
    };
    let bound = request.insist(|| probe.bind((link.ifindex, queue), libc::XDP_COPY, None));
    // An interface that is gone holds nothing.
    matches!(
        bound.as_ref().map_err(io::Error::raw_os_error),
        Ok(()) | Err(Some(libc::ENODEV))
    )
}
