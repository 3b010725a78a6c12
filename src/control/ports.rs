//! The ports of this process: opened when their link is there and up, closed when it goes, opened again when it comes back.
//!
//! ```text
//!           link there, up                     link deleted, or another one of that name
//!  waiting ----------------> open: sockets, slots, XDP, queues with their workers ----> waiting
//! ```
//!
//! Opening fills the maps before it attaches and closing detaches before it closes sockets, so that steer never redirects to
//! a queue that nobody serves. All of it runs on the control thread: binding a socket may take tens of milliseconds, during
//! which the other ports go on. Bounded by [`PORTS_MAX`] ports and steer's [`SLOTS_MAX`] queues.

use super::backend::{PortFacts, PortTable};
use super::config::{Attach, RunConfig};
use super::dealing::{Rings, worker_of};
use super::steer::{self, AttachedLink, AttachedMode, Steer, SteerPort};
use super::{Error, report};
use crate::mirror::LinkInfo;
use crate::packet::{Frame, PORTS_MAX, PortIndex};
use crate::port::Promiscuous;
use crate::port::link::Link;
use crate::port::umem::Umem;
use crate::port::xsk::{self, XskQueue};
use crate::port::{Queue, link};
use crate::worker::{Command, QueueReport, Shared};
use crossbeam::channel::bounded;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The most queues that steer has slots for.
pub const SLOTS_MAX: usize = 2048;

/// How long a worker may take to give a queue back.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// In front of what the MTU counts.
const ETHERNET_HEADER_BYTES: u32 = 14;
const TAG_BYTES: u32 = 4;

/// What of a port's traffic may go to the worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carry {
    /// The port's Ethernet address, or its bridge's.
    pub mac: [u8; 6],
    /// IPv4, IPv6.
    pub family: [bool; 2],
    /// IPv4, IPv6 connections are tracked.
    pub tracked: [bool; 2],
    /// NAT is in force for IPv4, IPv6.
    pub nat: [bool; 2],
    /// What is bridged, where it is a bridge's port.
    pub bridging: Option<Bridged>,
    /// The port's MTU in bytes.
    pub mtu: u32,
}

/// What of the frames that a port's bridge forwards may go to the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bridged {
    /// IPv4, IPv6.
    pub family: [bool; 2],
    /// All other types.
    pub other: bool,
}

/// A port that forwards.
struct Open {
    ifindex: u32,
    first_slot: u16,
    workers: Vec<usize>,
    /// Keeps steer on the link.
    attached: AttachedLink,
    /// What steer was told about it last.
    told: Option<SteerPort>,
    /// Keeps a wire's port promiscuous.
    _promiscuous: Option<Promiscuous>,
}

/// A port that the operator named.
struct Port {
    name: String,
    index: PortIndex,
    open: Option<Open>,
    /// Why it does not forward, in words; said once.
    waits: Option<String>,
}

/// All ports. See the module's head.
pub struct Ports {
    ports: Vec<Port>,
    slots: Vec<bool>,
    table: PortTable,
    closed: Arc<Mutex<Vec<QueueReport>>>,
    steer: Arc<Steer>,
    shared: Arc<Shared<XskQueue>>,
    umem: Umem,
    rings: Rings,
    attach: steer::Attach,
    busy_poll: Option<u32>,
    wire: bool,
    generic: Arc<[AtomicBool]>,
}

impl Ports {
    /// The ports that `config` names, none of them open yet.
    pub fn new(config: &RunConfig, steer: Arc<Steer>, shared: Arc<Shared<XskQueue>>, umem: Umem, rings: Rings) -> Self {
        let named = config.ports.iter().take(PORTS_MAX).enumerate();
        let ports: Vec<Port> = named
            .map(|(n, name)| Port {
                name: name.clone(),
                index: PortIndex(n as u16),
                open: None,
                waits: None,
            })
            .collect();
        let facts = |port: &Port| PortFacts {
            index: port.index.0,
            port: report::Port {
                port: port.name.clone(),
                state: "down".into(),
                ..report::Port::default()
            },
        };
        let attach = match config.attach {
            Attach::Auto => steer::Attach::Auto,
            Attach::Native => steer::Attach::Native,
            Attach::Generic => steer::Attach::Generic,
        };
        Self {
            table: Arc::new(Mutex::new(ports.iter().map(facts).collect())),
            ports,
            slots: vec![false; SLOTS_MAX],
            closed: Arc::default(),
            steer,
            shared,
            umem,
            rings,
            attach,
            busy_poll: (config.poll == super::config::Poll::Busy).then_some(64),
            wire: config.wire,
            generic: (0..PORTS_MAX).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// The table that clients read.
    pub fn table(&self) -> PortTable {
        Arc::clone(&self.table)
    }

    /// Final counts of closed queues.
    pub fn closed(&self) -> Arc<Mutex<Vec<QueueReport>>> {
        Arc::clone(&self.closed)
    }

    /// The ifindex of every open port.
    pub fn open(&self) -> impl Iterator<Item = (PortIndex, u32)> + '_ {
        self.ports
            .iter()
            .filter_map(|port| Some((port.index, port.open.as_ref()?.ifindex)))
    }

    /// Which ports are attached in generic mode, by [`PortIndex`]: their punted frames come by steer again.
    pub fn generic(&self) -> Arc<[AtomicBool]> {
        Arc::clone(&self.generic)
    }

    /// The ports that do not forward, with the reason.
    pub fn waiting(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ports
            .iter()
            .filter_map(|port| Some((port.name.as_str(), port.waits.as_deref()?)))
    }

    /// Brings the ports in line with the links that there are. An error of a port that cannot be opened at the start ends
    /// the start; later it is said and the port waits.
    pub fn reconcile<'a>(
        &mut self,
        links: impl Fn(&str) -> Option<&'a LinkInfo>,
        starting: bool,
    ) -> Result<bool, Error> {
        let mut changed = false;
        for n in 0..self.ports.len() {
            let link = links(&self.ports[n].name);
            let gone = |open: &Open| link.is_none_or(|link| link.ifindex != open.ifindex);
            if self.ports[n].open.as_ref().is_some_and(gone) {
                self.close(n, &[]);
                changed = true;
            }
            let waits = match link {
                None => Some("it is gone; it is taken up again when it comes back".to_owned()),
                Some(link) if !link.is_admin_up() => {
                    Some(format!("it is down: `ip link set {} up`", self.ports[n].name))
                }
                Some(link) if self.ports[n].open.is_none() => match self.open_port(n) {
                    Ok(()) => {
                        changed = true;
                        self.waits_for_carrier(n, link)
                    }
                    Err(error) if starting => return Err(error),
                    Err(error) => Some(error.to_string()),
                },
                Some(link) => self.waits_for_carrier(n, link),
            };
            self.set_waits(n, waits);
        }
        Ok(changed)
    }

    fn waits_for_carrier(&self, n: usize, link: &LinkInfo) -> Option<String> {
        (!link.is_up()).then(|| format!("it has no carrier: is the other end of {} up?", self.ports[n].name))
    }

    /// Notes why the port does not forward, and says it when it is news.
    fn set_waits(&mut self, n: usize, waits: Option<String>) {
        let port = &mut self.ports[n];
        if port.waits == waits {
            return;
        }
        match &waits {
            Some(why) => eprintln!("bypath: port {} waits, {why}", port.name),
            None => eprintln!("bypath: port {} forwards", port.name),
        }
        let state = match (&waits, &port.open) {
            (None, _) => "up",
            (Some(_), Some(_)) => "down",
            (Some(_), None) if link::ifindex(&port.name).is_some() => "down",
            (Some(_), None) => "gone",
        };
        port.waits = waits;
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(facts) = table.get_mut(n) {
            facts.port.state = state.into();
        }
    }

    fn open_port(&mut self, n: usize) -> Result<(), Error> {
        let (name, index) = (self.ports[n].name.clone(), self.ports[n].index);
        let unfit = |why: String| Error::PortUnfit {
            port: name.clone(),
            why,
        };
        let link = Link::query(&name).map_err(|e| unfit(e.to_string()))?;
        link.check_ethernet().map_err(|e| unfit(e.to_string()))?;
        link.check_mtu(self.umem.frame_size())
            .map_err(|e| unfit(e.to_string()))?;
        let queues = link.rx_queues.min(link.tx_queues).max(1);
        let first_slot = self.take_slots(queues as usize).ok_or_else(|| {
            unfit(format!(
                "its {queues} queues find no room among {SLOTS_MAX}: use fewer, `ethtool -L {name} combined N`"
            ))
        })?;
        let mut sockets = Vec::new();
        let opened = self.open_queues(&name, queues, &mut sockets).and_then(|()| {
            let promiscuous = if self.wire {
                Some(Promiscuous::on(link.ifindex))
            } else {
                None
            };
            let promiscuous = promiscuous
                .transpose()
                .map_err(|e| unfit(format!("promiscuous mode: {e}")))?;
            let attached = self.bind_slots(n, &link, first_slot, &sockets)?;
            Ok((promiscuous, attached))
        });
        let (promiscuous, attached) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.give_up(link.ifindex, first_slot, queues, sockets);
                return Err(error);
            }
        };
        if let Some(why) = &attached.refused {
            eprintln!("bypath: port {name} runs in generic mode, which is slower: native XDP was refused ({why})");
        }
        let zero_copy = sockets.first().is_some_and(XskQueue::zero_copy);
        let workers: Vec<usize> = (0..queues).map(|queue| self.worker_of(n, queue, queues)).collect();
        self.shared.set_owner(index, workers.first().copied());
        for (queue, (socket, &worker)) in sockets.into_iter().zip(&workers).enumerate() {
            self.shared.tell(worker, Command::Open(index, queue as u32, socket));
        }
        self.describe(n, &link, zero_copy, attached.mode);
        self.generic[usize::from(index.0)].store(attached.mode == AttachedMode::Generic, Ordering::Relaxed);
        self.ports[n].open = Some(Open {
            ifindex: link.ifindex,
            first_slot,
            workers,
            attached,
            told: None,
            _promiscuous: promiscuous,
        });
        Ok(())
    }

    fn worker_of(&self, n: usize, queue: u32, queues: u32) -> usize {
        worker_of(queue, queues, n, self.shared.limits.workers)
    }

    fn open_queues(&self, name: &str, queues: u32, into: &mut Vec<XskQueue>) -> Result<(), Error> {
        let config = xsk::Config {
            rx_size: self.rings.rx,
            tx_size: self.rings.tx,
            fill_frames: self.rings.rx,
            busy_poll: self.busy_poll,
        };
        for queue in 0..queues {
            let socket = XskQueue::open(&self.umem, name, queue, &config);
            into.push(socket.map_err(|e| Error::PortUnfit {
                port: name.to_owned(),
                why: e.to_string(),
            })?);
        }
        Ok(())
    }

    /// Fills steer's maps for the port and attaches, in this order.
    fn bind_slots(&self, n: usize, link: &Link, first: u16, sockets: &[XskQueue]) -> Result<AttachedLink, Error> {
        let unfit = |why: String| Error::PortUnfit {
            port: link.name.clone(),
            why,
        };
        for (queue, socket) in sockets.iter().enumerate() {
            let Some(fd) = socket.fd() else { continue };
            // SAFETY: the socket is open: it is borrowed for longer than the borrowed descriptor is used.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            let worker = self.worker_of(n, queue as u32, sockets.len() as u32);
            self.steer
                .set_slot(first + queue as u16, fd, worker as u16)
                .map_err(|e| unfit(e.to_string()))?;
        }
        self.steer
            .attach(link.ifindex, self.attach)
            .map_err(|e| unfit(e.to_string()))
    }

    fn take_slots(&mut self, queues: usize) -> Option<u16> {
        let first = self
            .slots
            .windows(queues)
            .position(|run| run.iter().all(|taken| !taken))?;
        self.slots[first..first + queues].fill(true);
        Some(first as u16)
    }

    /// Undoes an opening that failed half way.
    fn give_up(&mut self, ifindex: u32, first_slot: u16, queues: u32, sockets: Vec<XskQueue>) {
        self.free_slots(first_slot, queues as usize);
        let _ = self.steer.remove_port(ifindex);
        self.take_back(sockets);
    }

    fn free_slots(&mut self, first: u16, queues: usize) {
        for slot in usize::from(first)..usize::from(first) + queues {
            let _ = self.steer.clear_slot(slot as u16);
            self.slots[slot] = false;
        }
    }

    /// Closes sockets and sends their frames home.
    fn take_back(&self, sockets: Vec<XskQueue>) {
        let mut frames: Vec<Frame> = Vec::new();
        for socket in sockets {
            socket.close(&mut frames);
        }
        frames.into_iter().for_each(|frame| self.shared.send_home(frame));
    }

    /// Closes port `n`. The workers that are `gone` are not waited for; what they hold is lost.
    fn close(&mut self, n: usize, gone: &[usize]) {
        let Some(open) = self.ports[n].open.take() else {
            return;
        };
        let index = self.ports[n].index;
        let _ = self.steer.remove_port(open.ifindex);
        drop(open.attached);
        self.shared.set_owner(index, None);
        let mut sockets = Vec::new();
        let mut asked = open.workers.clone();
        asked.sort_unstable();
        asked.dedup();
        for worker in asked {
            let (reply, given_back) = bounded(SLOTS_MAX);
            self.shared.tell(worker, Command::Close(index, reply));
            let patience = if gone.contains(&worker) {
                Duration::ZERO
            } else {
                GIVE_BACK
            };
            while let Ok(socket) = given_back.recv_timeout(patience) {
                sockets.push(socket);
            }
        }
        let counts = |socket: &XskQueue| QueueReport {
            port: index,
            queue: socket.queue_id(),
            held: socket.held(),
            counters: socket.counters(),
        };
        self.closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(sockets.iter().map(counts));
        self.free_slots(open.first_slot, open.workers.len());
        self.take_back(sockets);
    }

    /// Has steer leave all ports to the kernel; what is in the rings is still carried on.
    pub fn let_go(&mut self) {
        for port in &mut self.ports {
            if let Some(open) = &mut port.open {
                open.told = None;
                let _ = self.steer.remove_port(open.ifindex);
            }
        }
    }

    /// After [`let_go`](Self::let_go) and when the rings are empty: detaches and closes, at the end of the process. `stalled`
    /// workers are not waited for.
    pub fn close_all(&mut self, stalled: &[usize]) {
        (0..self.ports.len()).for_each(|n| self.close(n, stalled));
    }

    /// Tells steer about every open port, where that is news. `carry` says for each what may go to the worker.
    pub fn steer(&mut self, carry: impl Fn(PortIndex) -> Option<Carry>) {
        for port in &mut self.ports {
            let Some(open) = &mut port.open else { continue };
            let Carry {
                mac,
                family: [carry_v4, carry_v6],
                tracked: [track_v4, track_v6],
                nat: [nat_v4, nat_v6],
                bridging,
                mtu,
            } = carry(port.index).unwrap_or_default();
            let Bridged {
                family: [bridge_v4, bridge_v6],
                other: bridge_other,
            } = bridging.unwrap_or_default();
            // What is bridged may have a tag, which the MTU does not count.
            let header_bytes = ETHERNET_HEADER_BYTES + if bridging.is_some() { TAG_BYTES } else { 0 };
            let row = SteerPort {
                mac,
                index: port.index.0,
                first_slot: open.first_slot,
                queues: open.workers.len() as u16,
                carry_v4,
                carry_v6,
                wire: self.wire,
                stamp_all: false,
                generic: open.attached.mode == AttachedMode::Generic,
                track_v4,
                track_v6,
                nat_v4,
                nat_v6,
                bridge: bridging.is_some(),
                bridge_v4,
                bridge_v6,
                bridge_other,
                len_max: u16::try_from(mtu + header_bytes).unwrap_or(u16::MAX),
            };
            if open.told == Some(row) {
                continue;
            }
            match self.steer.set_port(open.ifindex, &row) {
                Ok(()) => open.told = Some(row),
                Err(error) => eprintln!("bypath: port {}: {error}", port.name),
            }
        }
    }

    fn describe(&self, n: usize, link: &Link, zero_copy: bool, mode: AttachedMode) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(facts) = table.get_mut(n) else { return };
        facts.port.state = "up".into();
        facts.port.ifindex = link.ifindex;
        facts.port.driver = link.driver.clone();
        facts.port.mtu = link.mtu;
        facts.port.mode = if zero_copy { "zerocopy" } else { "copy" }.into();
        facts.port.attach = if mode == AttachedMode::Native {
            "native"
        } else {
            "generic"
        }
        .into();
    }
}
