//! Binding sockets to queues, all on one UMEM.
//!
//! In libxdp the UMEM itself lives on a socket (its *anchor*): the first socket made on it. Two facts follow, from
//! `xsk_socket__delete` and from the kernel's `xsk_bind`:
//!
//! - the anchor's descriptor is not closed when its socket is deleted, so its queue stays taken;
//! - a further socket can only join while the anchor is bound, and when the anchor's interface goes, it is not.
//!
//! In copy mode the anchor is therefore bound to queue 0 of the loopback device, which is always there and carries nothing
//! of it; then ports come and go freely. In zero-copy mode the anchor must be a queue of a real NIC (it decides the mode of all,
//! `xp_assign_dev_shared`), so it is the first port's; when that is closed its rings are parked, frames and all, until the
//! same queue is opened again.
//!
//! All of it runs on threads of control. EBUSY is retried for a bounded time, which the caller says: the kernel frees a closed socket's queue some
//! 10 ms late (`xp_release_deferred`).

use super::link::{Link, LinkError};
use super::umem::{Mode, Umem};
use std::error::Error as StdError;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::thread::sleep;
use std::time::{Duration, Instant};
use thiserror::Error;
use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::{CompQueue, FillQueue, RxQueue, Socket, TxQueue};

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
        "queue {queue} of {name} is in use by another AF_XDP socket: end the program that holds it (ss --xdp -p names it), or \
         start with another queue"
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
    /// The interface that holds the UMEM is gone.
    #[error("the first zero-copy port of this process has gone, and no port can be added without it: restart")]
    AnchorGone,
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

/// The four rings of a socket; dropped together they close it (unless it is the anchor).
#[derive(Debug)]
pub(super) struct Rings {
    pub(super) tx: TxQueue,
    pub(super) rx: RxQueue,
    pub(super) fill: FillQueue,
    pub(super) completion: CompQueue,
}

impl Rings {
    pub(super) fn fd(&self) -> RawFd {
        self.rx.fd().as_raw_fd()
    }
}

/// A closed anchor, kept until its queue is opened again.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) rings: Rings,
    pub(super) slot: u16,
    pub(super) held: super::Held,
    pub(super) ifindex: u32,
    pub(super) queue: u32,
}

/// What the sockets of one UMEM have in common.
#[derive(Debug, Default)]
pub(super) struct Binding {
    /// Whether all sockets are zero-copy; `None` before the first.
    zero_copy: Option<bool>,
    /// The loopback anchor, in copy mode.
    loopback: Option<Rings>,
    /// The anchor, when it is a port and closed.
    parked: Option<Parked>,
    slots: Vec<bool>,
}

/// A bound socket.
pub(super) struct Bound {
    pub(super) rings: Rings,
    pub(super) slot: u16,
    /// It is a port's, and the UMEM lives on it.
    pub(super) anchor: bool,
    /// What it held when it was parked.
    pub(super) held: super::Held,
}

/// The system's error inside one of xsk-rs'.
pub(super) fn system_error(error: &(dyn StdError + 'static)) -> io::Error {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match source.and_then(io::Error::raw_os_error) {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error.to_string()),
    }
}

/// One try to make a socket.
fn try_socket(umem: &xsk_rs::Umem, config: SocketConfig, name: &str, queue: u32) -> io::Result<Rings> {
    let interface: Interface = name.parse().map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // SAFETY: the double free that this call warns of needs libxdp's own program; `socket_config` always inhibits it.
    let made = unsafe { Socket::new(config, umem, &interface, queue) };
    match made.map_err(|e| system_error(&e))? {
        (tx, rx, Some((fill, completion))) => Ok(Rings {
            tx,
            rx,
            fill,
            completion,
        }),
        // The pair is bound on this UMEM already, and its rings belong to that socket.
        (_, _, None) => Err(io::Error::from_raw_os_error(libc::EBUSY)),
    }
}

/// Makes a socket; while the queue is busy, again and again for a bounded time.
fn socket(umem: &xsk_rs::Umem, config: SocketConfig, name: &str, queue: u32, busy_max: Duration) -> io::Result<Rings> {
    let end = Instant::now() + busy_max;
    loop {
        match try_socket(umem, config, name, queue) {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && Instant::now() < end => sleep(BUSY_PAUSE),
            result => return result,
        }
    }
}

fn socket_config(rx: QueueSize, tx: QueueSize, flags: BindFlags) -> SocketConfig {
    SocketConfig::builder()
        .rx_queue_size(rx)
        .tx_queue_size(tx)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(flags)
        .build()
}

impl Binding {
    /// Binds queue `queue` of `link`, and gives it a slot.
    pub(super) fn bind(
        &mut self,
        umem: &Umem,
        link: &Link,
        queue: u32,
        (rx, tx, busy_max): (QueueSize, QueueSize, Duration),
    ) -> Result<Bound, OpenError> {
        if let Some(parked) = self
            .parked
            .take_if(|parked| parked.ifindex == link.ifindex && parked.queue == queue)
        {
            return Ok(Bound {
                rings: parked.rings,
                slot: parked.slot,
                anchor: true,
                held: parked.held,
            });
        }
        let slot = match self.slots.iter().position(|taken| !taken) {
            Some(slot) => slot,
            None if self.slots.len() < QUEUES_MAX => {
                self.slots.push(false);
                self.slots.len() - 1
            }
            None => return Err(OpenError::TooMany { max: QUEUES_MAX }),
        };
        let (rings, anchor) = self.first_or_further(umem, link, queue, (rx, tx, busy_max))?;
        self.slots[slot] = true;
        Ok(Bound {
            rings,
            slot: slot as u16,
            anchor,
            held: super::Held::default(),
        })
    }

    fn first_or_further(
        &mut self,
        umem: &Umem,
        link: &Link,
        queue: u32,
        (rx, tx, busy_max): (QueueSize, QueueSize, Duration),
    ) -> Result<(Rings, bool), OpenError> {
        let (xsk, mode) = (&umem.shared.xsk, umem.shared.config.mode);
        let wakeup = if umem.shared.config.need_wakeup {
            BindFlags::XDP_USE_NEED_WAKEUP
        } else {
            BindFlags::empty()
        };
        let fail = |source| open_error(source, link, queue);
        if self.zero_copy.is_none() && mode != Mode::Copy {
            let config = socket_config(rx, tx, wakeup | BindFlags::XDP_ZEROCOPY);
            match socket(xsk, config, &link.name, queue, busy_max) {
                Ok(rings) => {
                    self.zero_copy = Some(true);
                    return Ok((rings, true));
                }
                Err(e) if no_zero_copy(&e) && mode == Mode::Auto => {}
                Err(e) if no_zero_copy(&e) => return Err(self.no_zero_copy(link, queue)),
                Err(e) => return Err(fail(e)),
            }
        }
        let config = socket_config(rx, tx, wakeup | BindFlags::XDP_COPY);
        if self.zero_copy.is_none() {
            match try_socket(xsk, config, "lo", 0) {
                Ok(rings) => self.loopback = Some(rings),
                // Another AF_XDP program of this namespace is there first: the port itself becomes the anchor.
                Err(_) => {
                    let rings = socket(xsk, config, &link.name, queue, busy_max).map_err(fail)?;
                    self.zero_copy = Some(false);
                    return Ok((rings, true));
                }
            }
            self.zero_copy = Some(false);
        }
        match socket(xsk, config, &link.name, queue, busy_max) {
            Ok(rings) => Ok((rings, false)),
            Err(e) if e.raw_os_error() == Some(libc::EBADF) => Err(OpenError::AnchorGone),
            Err(e) if self.zero_copy == Some(true) && no_zero_copy(&e) => Err(self.no_zero_copy(link, queue)),
            Err(e) => Err(fail(e)),
        }
    }

    fn no_zero_copy(&self, link: &Link, queue: u32) -> OpenError {
        OpenError::NoZeroCopy {
            name: link.name.clone(),
            driver: link.driver.clone(),
            queue,
        }
    }

    /// Gives a slot back, once no frame's record names it any more.
    pub(super) fn free_slot(&mut self, slot: u16) {
        if let Some(taken) = self.slots.get_mut(usize::from(slot)) {
            *taken = false;
        }
    }

    /// Keeps the anchor's rings.
    pub(super) fn park(&mut self, parked: Parked) {
        self.parked = Some(parked);
    }
}

fn no_zero_copy(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL | ENOTSUPP))
}

fn open_error(source: io::Error, link: &Link, queue: u32) -> OpenError {
    let name = link.name.clone();
    match source.raw_os_error() {
        Some(libc::EBUSY) => OpenError::Busy { name, queue },
        Some(libc::EPERM | libc::EACCES) => OpenError::Permission { name, queue },
        Some(libc::ENODEV) => OpenError::Link(LinkError::Missing { name }),
        _ => OpenError::System { name, queue, source },
    }
}

/// Waits until the kernel has let go of a queue whose zero-copy socket was closed: until then the NIC may still write into
/// its frames. Seen by a copy-mode socket of a small UMEM of its own, which gets the queue only when it is free. `false` if
/// that takes too long.
pub(super) fn wait_until_free(name: &str, queue: u32) -> bool {
    let Some(frames) = std::num::NonZeroU32::new(16) else {
        return false;
    };
    let Ok((umem, _)) = xsk_rs::Umem::new(xsk_rs::config::UmemConfig::default(), frames, false) else {
        return false;
    };
    let Ok(size) = QueueSize::new(64) else { return false };
    let probe = socket(
        &umem,
        socket_config(size, size, BindFlags::XDP_COPY),
        name,
        queue,
        FREE_MAX,
    );
    // An interface that is gone holds nothing.
    matches!(
        probe.as_ref().map_err(io::Error::raw_os_error),
        Ok(_) | Err(Some(libc::ENODEV))
    )
}
