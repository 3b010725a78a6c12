//! Opening a port: its sockets, steer's slots for them, its workers, and steer on its link, in this order, so that steer never
//! redirects to a queue that nobody serves. What fails half way is undone.
//!
//! Workers come before steer because a zero-copy driver takes its receive buffers from the fill ring when XDP is attached, and
//! only then: igb with separate interrupts for receive and transmit (two queues of eight) polls a ring that got none never again
//! (`igb_xsk_wakeup` wakes the transmit side).
//!
//! A link that was a port until a moment ago is busy for some 10 ms (its socket's queue, its XDP program): at the start that is
//! waited for, later it is an answer of its own, so that the control loop can try again and look after the others meanwhile.

use super::memory::Share;
use super::unasked::Watched;
use super::{Open, Ports, Tried};
use crate::control::Error;
use crate::control::dealing::{Rings, queues_that_fit, worker_of};
use crate::control::steer::{self, Attach, AttachError, AttachedLink, AttachedMode, SLOTS_MAX, Steer};
use crate::mirror::LinkInfo;
use crate::packet::Frame;
use crate::port::link::{Link, mtu_max, receive_queues};
use crate::port::umem::Umem;
use crate::port::xsk::{self, XskQueue};
use crate::port::{OpenError, Promiscuous, Queue};
use crate::worker::{Command, Shared};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a queue that is in use is tried again at the start: by an instance before this one, which has just ended.
const BUSY_AT_START: Duration = Duration::from_secs(1);

/// How long a start waits for a carrier that was there: some cards lose it for about four seconds when XDP is attached.
const CARRIER_AGAIN: Duration = Duration::from_secs(10);

/// ... and for one that was not: the kernel tells of it up to a second late.
const CARRIER_FIRST: Duration = Duration::from_secs(2);

/// What opening needs.
pub struct Opener {
    /// Has the slots, and is attached.
    pub steer: Arc<Steer>,
    /// Where frames go home.
    pub shared: Arc<Shared<XskQueue>>,
    /// The frames.
    pub umem: Umem,
    /// Where XDP runs.
    pub attach: steer::Attach,
    /// Packets per busy poll, if any.
    pub busy_poll: Option<u32>,
    /// Ports of a wire take frames of every address.
    pub wire: bool,
}

/// A port whose sockets are open; nothing comes to them yet.
pub struct Opened {
    /// What is known of its link.
    pub link: Link,
    /// Its sockets by queue.
    pub sockets: Vec<XskQueue>,
    /// Keeps a wire's port promiscuous.
    pub promiscuous: Option<Promiscuous>,
    /// The first slot.
    pub first_slot: u16,
}

/// Why a port was not opened.
#[derive(Debug)]
pub enum NotOpened {
    /// Somebody has its queue, or an XDP program on it: perhaps this process until a moment ago.
    Busy(Error),
    /// It does not suit.
    Unfit(Error),
}

impl From<NotOpened> for Error {
    fn from(why: NotOpened) -> Self {
        match why {
            NotOpened::Busy(error) | NotOpened::Unfit(error) => error,
        }
    }
}

/// Steer's slots, one per queue.
#[derive(Debug)]
pub struct Slots(Vec<bool>);

impl Slots {
    /// All free.
    pub fn new() -> Self {
        Self(vec![false; SLOTS_MAX])
    }

    fn take(&mut self, queues: usize) -> Option<u16> {
        let mut runs = self.0.windows(queues);
        let first = runs.position(|run| run.iter().all(|taken| !taken))?;
        self.0[first..first + queues].fill(true);
        Some(first as u16)
    }

    /// Frees `queues` slots from `first` on, which steer knows nothing of any more.
    pub fn free(&mut self, (first, queues): (u16, usize)) {
        self.0[usize::from(first)..usize::from(first) + queues].fill(false);
    }
}

impl Opener {
    /// The largest MTU of a port.
    pub fn mtu_max(&self) -> u32 {
        mtu_max(self.umem.frame_size())
    }

    /// Opens the sockets of a link, of as many of its queues as `share` has room for, and gives them slots. Frames on other queues
    /// pass to the kernel.
    ///
    /// # Errors
    /// The link is busy, or does not suit; nothing is left of the try.
    pub fn open(&self, of: &LinkInfo, share: &Share, slots: &mut Slots, starting: bool) -> Result<Opened, NotOpened> {
        let name = &*of.name;
        let unfit = |why: String| NotOpened::Unfit(port_unfit(name, why));
        let link = Link::query(name).map_err(|e| unfit(e.to_string()))?;
        if link.ifindex != of.ifindex {
            // The mirror will tell.
            return Err(NotOpened::Busy(port_unfit(
                name,
                "another link has taken its name".into(),
            )));
        }
        link.check_ethernet().map_err(|e| unfit(e.to_string()))?;
        link.check_mtu(self.umem.frame_size())
            .map_err(|e| unfit(e.to_string()))?;
        let wanted = link.queue_pairs().min(share.queues_max.max(1));
        let queues = queues_that_fit(wanted, share.single, share.frames, &share.left);
        if queues == 0 {
            return Err(unfit(
                "no packet memory is left for it: that is sized at the start; start again to have more".into(),
            ));
        }
        let first_slot = slots.take(queues as usize).ok_or_else(|| {
            unfit(format!(
                "its {queues} queues find no room among {SLOTS_MAX}: use fewer, `ethtool -L {name} combined N`"
            ))
        })?;
        let mut sockets = Vec::new();
        let opened = self
            .open_queues(name, (queues, share.rings), starting, &mut sockets)
            .and_then(|()| {
                let promiscuous = self.wire.then(|| Promiscuous::on(link.ifindex)).transpose();
                let promiscuous = promiscuous.map_err(|e| unfit(format!("promiscuous mode: {e}")))?;
                self.set_slots(&link, first_slot, &sockets, share.single)?;
                Ok(promiscuous)
            });
        match opened {
            Ok(promiscuous) => Ok(Opened {
                link,
                sockets,
                promiscuous,
                first_slot,
            }),
            Err(error) => {
                self.give_up(link.ifindex, (first_slot, queues as usize), sockets);
                slots.free((first_slot, queues as usize));
                Err(error)
            }
        }
    }

    fn open_queues(
        &self,
        name: &str,
        (queues, rings): (u32, Rings),
        starting: bool,
        into: &mut Vec<XskQueue>,
    ) -> Result<(), NotOpened> {
        let config = xsk::Config {
            rx_size: rings.rx,
            tx_size: rings.tx,
            fill_frames: rings.rx,
            busy_poll: self.busy_poll,
            busy_max: if starting { BUSY_AT_START } else { Duration::ZERO },
        };
        for queue in 0..queues {
            let socket = XskQueue::open(&self.umem, name, queue, &config);
            into.push(socket.map_err(|error| {
                let unfit = port_unfit(name, error.to_string());
                match error {
                    OpenError::Busy { .. } => NotOpened::Busy(unfit),
                    _ => NotOpened::Unfit(unfit),
                }
            })?);
        }
        Ok(())
    }

    fn set_slots(&self, link: &Link, first: u16, sockets: &[XskQueue], single: usize) -> Result<(), NotOpened> {
        for (queue, socket) in sockets.iter().enumerate() {
            let Some(fd) = socket.fd() else { continue };
            // SAFETY: the socket is open: it is borrowed for longer than the borrowed descriptor is used.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            let worker = worker_of(queue as u32, sockets.len() as u32, single, self.shared.limits.workers);
            self.steer
                .set_slot(first + queue as u16, fd, worker as u16)
                .map_err(|e| NotOpened::Unfit(port_unfit(&link.name, e.to_string())))?;
        }
        Ok(())
    }

    /// Puts steer on a link whose slots are filled.
    fn attach(&self, link: &Link) -> Result<AttachedLink, NotOpened> {
        // What a member of a bond gets is the member's for a native program, which the bond hands on to it.
        let is_bond = self.attach == Attach::Auto && link.kind == "bond";
        let how = if is_bond { Attach::Generic } else { self.attach };
        let attached = self.steer.attach(link.ifindex, how).map(|mut attached| {
            attached.refused = is_bond
                .then(|| io::Error::other("a bond's members would run it"))
                .or(attached.refused);
            attached
        });
        attached.map_err(|error| {
            let unfit = port_unfit(&link.name, error.to_string());
            match error {
                AttachError::Busy { .. } => NotOpened::Busy(unfit),
                _ => NotOpened::Unfit(unfit),
            }
        })
    }

    /// Undoes an opening that failed half way.
    fn give_up(&self, ifindex: u32, (first, queues): (u16, usize), sockets: Vec<XskQueue>) {
        for slot in usize::from(first)..usize::from(first) + queues {
            let _ = self.steer.clear_slot(slot as u16);
        }
        let _ = self.steer.remove_port(ifindex);
        take_back(sockets, &self.shared);
    }
}

impl Ports {
    /// Whether it is time to open the port, or to try again.
    pub(super) fn is_due(&self, n: usize, link: &LinkInfo, now: Instant) -> bool {
        if self.closings.is_pending(link.ifindex) {
            return false;
        }
        let Some(tried) = &self.ports[n].tried else { return true };
        tried.link != *link || now.saturating_duration_since(tried.at) >= tried.pause()
    }

    /// What follows from a port that could not be opened: the words to say, or nothing while it may only be busy for a moment.
    pub(super) fn not_opened(
        &mut self,
        n: usize,
        link: &LinkInfo,
        now: Instant,
        starting: bool,
        why: NotOpened,
    ) -> Result<Option<String>, Error> {
        let port = &mut self.ports[n];
        let is_busy = matches!(why, NotOpened::Busy(_));
        if starting && port.member.is_none() {
            return Err(why.into());
        }
        let since = port.tried.as_ref().and_then(|tried| tried.busy_since).unwrap_or(now);
        let tried = port.tried.insert(Tried {
            link: link.clone(),
            at: now,
            busy_since: is_busy.then_some(since),
        });
        let quiet = tried.is_brief() && !starting;
        port.stays = port.member.is_some() && !tried.is_brief();
        // The line names the port already.
        Ok((!quiet).then(|| match Error::from(why) {
            Error::PortUnfit { why, .. } => why,
            error => error.to_string(),
        }))
    }

    pub(super) fn open_port(&mut self, n: usize, link: &LinkInfo, starting: bool) -> Result<(), NotOpened> {
        let index = self.ports[n].index;
        let share = self.share(n);
        let opened = self.opener.open(link, &share, &mut self.slots, starting)?;
        let Opened {
            link: facts,
            sockets,
            promiscuous,
            first_slot,
        } = opened;
        let zero_copy = sockets.first().is_some_and(XskQueue::zero_copy);
        let queues = sockets.len() as u32;
        let workers = (0..queues).map(|queue| worker_of(queue, queues, share.single, self.shared.limits.workers));
        let workers: Vec<usize> = workers.collect();
        self.shared.set_owner(index, workers.first().copied());
        for (queue, (socket, &worker)) in sockets.into_iter().zip(&workers).enumerate() {
            self.shared.order(worker, Command::Open(index, queue as u32, socket));
        }
        // The fill rings are full then.
        self.settle();
        let attached = match self.opener.attach(&facts) {
            Ok(attached) => attached,
            Err(why) => {
                self.hand_to_closings(index, facts.ifindex, first_slot, &workers, (None, promiscuous), &[]);
                return Err(why);
            }
        };
        if zero_copy && attached.mode == AttachedMode::Generic {
            let native = attached
                .refused
                .as_ref()
                .map_or_else(String::new, |why| format!(" ({why})"));
            let why = format!(
                "native XDP is refused{native}, and zero-copy needs it: lower its MTU, turn off LRO, or use `--mode copy`"
            );
            self.hand_to_closings(
                index,
                facts.ifindex,
                first_slot,
                &workers,
                (Some(attached), promiscuous),
                &[],
            );
            return Err(NotOpened::Unfit(port_unfit(&link.name, why)));
        }
        if let Some(why) = &attached.refused {
            let remedy = match why.raw_os_error() {
                Some(libc::EOPNOTSUPP) | None => "",
                Some(_) => "; a lower MTU, or LRO turned off, may mend that",
            };
            say!(
                "bypath: port {} runs in generic mode, which is slower: native XDP was refused ({why}){remedy}",
                link.name
            );
        }
        // Some drivers take more into use for XDP.
        let rx_queues = receive_queues(&link.name, facts.ifindex).unwrap_or(queues);
        if queues < facts.queue_pairs() {
            say!(
                "bypath: {} of the {rx_queues} queues of port {} stay with the kernel, and where connections are tracked all of it: \
                 there is packet memory for {queues}, which was sized at the start; start again to have more",
                rx_queues.saturating_sub(queues),
                link.name
            );
        } else if rx_queues > queues {
            say_of_queues_without_socket(&facts, rx_queues, queues);
        }
        self.describe(index, &facts, zero_copy, attached.mode);
        let port = &mut self.ports[n];
        (port.tried, port.stays) = (None, false);
        port.open = Some(Open {
            ifindex: facts.ifindex,
            first_slot,
            workers,
            attached,
            is_tap: facts.driver == "tun",
            watched: Watched::new(rx_queues, index, &self.steer),
            told: None,
            promiscuous,
            carrier_by: Instant::now() + if link.is_up() { CARRIER_AGAIN } else { CARRIER_FIRST },
        });
        Ok(())
    }
}

/// virtio_net takes more queues into use for XDP, where there are as many spare ones as CPUs, and spreads what it receives over
/// all of them.
fn say_of_queues_without_socket(link: &Link, rx: u32, sockets: u32) {
    let name = &link.name;
    let fewer = match link.queues_max {
        0 => format!("rx {sockets}"),
        max => format!("combined {max}"),
    };
    say!(
        "bypath: port {name} receives on {rx} queues and has sockets on {sockets}: what comes on the others stays with the \
         kernel, and where connections are tracked all of the port; before the start, `ethtool -L {name} {fewer}`"
    );
}

/// Closes sockets and sends their frames home.
pub fn take_back(sockets: Vec<XskQueue>, shared: &Shared<XskQueue>) {
    let mut frames: Vec<Frame> = Vec::new();
    for socket in sockets {
        socket.close(&mut frames);
    }
    frames.into_iter().for_each(|frame| shared.send_home(frame));
}

fn port_unfit(name: &str, why: String) -> Error {
    Error::PortUnfit {
        port: name.to_owned(),
        why,
    }
}
