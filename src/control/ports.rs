//! The ports of this process: opened when their link is there and up, closed when it goes, opened again when it comes back.
//!
//! ```text
//!           link there, up                     link deleted, or another one of that name; a bridge's port left it
//!  waiting ----------------> open: sockets, slots, XDP, queues with their workers ----> waiting, or no port any more
//! ```
//!
//! A port is named on the command line, and then it is one for good; or it belongs to a bridge that is named there, and then it
//! is one as long as it does (see `roster.rs`). Opening fills the maps before it attaches (`opening.rs`) and closing detaches
//! before it closes sockets (`closing.rs`), so that steer never redirects to a queue that nobody serves. Binding a socket may
//! take some milliseconds, during which the other ports go on; what takes longer is done elsewhere or tried again later.
//! Bounded by [`PORTS_MAX`] ports, steer's slots, and the memory that was planned at the start
//! (`plan.rs`, `memory.rs`): the ports that a bridge has beyond, and the queues that a port has beyond, stay with the kernel.

mod bridges;
mod closing;
mod memory;
mod opening;
mod steering;
mod unasked;

use super::backend::{PATIENCE, PortFacts, PortTable};
use super::config::{Attach, RunConfig};
use super::plan::Room;
use super::roster::{Numbers, Roster};
use super::steer::{self, AttachedLink, AttachedMode, Steer, SteerPort};
use super::{Error, report};
use crate::mirror::LinkInfo;
use crate::packet::{PORTS_MAX, PortIndex};
use crate::port::Promiscuous;
use crate::port::link::{self, Link};
use crate::port::umem::Umem;
use crate::port::xsk::XskQueue;
use crate::worker::{Command, QueueReport, Shared};
use crossbeam::channel::bounded;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use steering::{Bridged, Carry};

use closing::{Closed, Closer, Closings};
use opening::{Opener, Slots};
use unasked::Watched;

/// After how long a busy link is tried again, and for how long nothing is said of it; one that is busy for longer does not suit.
pub(super) const BUSY_PAUSE: Duration = Duration::from_millis(5);
const BUSY_QUIET: Duration = Duration::from_secs(1);

/// After how long a link that did not suit is tried again, unless something about it changes.
const UNFIT_PAUSE: Duration = Duration::from_secs(10);

/// After how long of opening ports the rest has to wait, so that the loop looks after everything else in between.
const OPENING: Duration = Duration::from_millis(100);

/// After how long a number is looked for again, where there was none.
const NUMBER_PAUSE: Duration = Duration::from_millis(100);

/// A port that forwards.
struct Open {
    ifindex: u32,
    first_slot: u16,
    workers: Vec<usize>,
    /// Keeps steer on the link.
    attached: AttachedLink,
    /// It is a TAP, which may deliver segments that its guest has merged.
    is_tap: bool,
    /// What the kernel gets of it unasked.
    watched: Watched,
    /// What steer was told about it last.
    told: Option<SteerPort>,
    /// Keeps a wire's port promiscuous.
    promiscuous: Option<Promiscuous>,
    /// Until when a start waits for its carrier.
    carrier_by: Instant,
}

/// The last try to open a port, which failed.
struct Tried {
    link: LinkInfo,
    at: Instant,
    /// Since when it is busy, if it is.
    busy_since: Option<Instant>,
}

impl Tried {
    /// Whether it may be busy for a moment only.
    fn is_brief(&self) -> bool {
        self.busy_since
            .is_some_and(|since| self.at.saturating_duration_since(since) < BUSY_QUIET)
    }

    /// After how long to try again.
    fn pause(&self) -> Duration {
        if self.is_brief() { BUSY_PAUSE } else { UNFIT_PAUSE }
    }
}

/// A port that the operator named, or one of a bridge that the operator named.
struct Port {
    name: String,
    index: PortIndex,
    /// The bridge it is a port for, and its link.
    member: Option<(String, u32)>,
    open: Option<Open>,
    /// Why it does not forward, in words; said once.
    waits: Option<String>,
    tried: Option<Tried>,
    /// It does not suit, and stays with the kernel.
    stays: bool,
    /// Its link is set down, or there is none: it cannot be opened.
    down: bool,
}

/// All ports. See the module's head.
pub struct Ports {
    roster: Roster,
    numbers: Numbers,
    ports: Vec<Port>,
    slots: Slots,
    opener: Opener,
    closings: Closings,
    room: Room,
    /// When there is more to do: ports that have to wait for their turn, or for a number.
    again: Option<Instant>,
    /// The port whose queues were counted last.
    looked: usize,
    /// What was said of bridges and of ports that found no room, by name.
    said: BTreeMap<String, String>,
    table: PortTable,
    closed: Arc<Mutex<Vec<QueueReport>>>,
    steer: Arc<Steer>,
    shared: Arc<Shared<XskQueue>>,
    wire: bool,
    generic: Arc<[AtomicBool]>,
}

impl Ports {
    /// The ports of `roster`, none of them open yet.
    ///
    /// # Errors
    /// There can be no thread to close them.
    pub fn new(
        config: &RunConfig,
        roster: Roster,
        room: Room,
        steer: Arc<Steer>,
        shared: Arc<Shared<XskQueue>>,
        umem: Umem,
    ) -> Result<Self, Error> {
        let attach = match config.attach {
            Attach::Auto => steer::Attach::Auto,
            Attach::Native => steer::Attach::Native,
            Attach::Generic => steer::Attach::Generic,
        };
        let closed: Arc<Mutex<Vec<QueueReport>>> = Arc::default();
        let closings = Closings::start(Closer {
            steer: steer.clone(),
            shared: shared.clone(),
            counts: closed.clone(),
        })?;
        let mut ports = Self {
            numbers: Numbers::default(),
            ports: Vec::new(),
            slots: Slots::new(),
            opener: Opener {
                steer: steer.clone(),
                shared: shared.clone(),
                umem,
                attach,
                busy_poll: (config.poll == super::config::Poll::Busy).then_some(64),
                wire: config.wire,
            },
            closings,
            room,
            again: None,
            looked: 0,
            said: BTreeMap::new(),
            table: PortTable::default(),
            closed,
            steer,
            shared,
            wire: config.wire,
            generic: (0..PORTS_MAX).map(|_| AtomicBool::new(false)).collect(),
            roster: Roster::default(),
        };
        for name in &roster.ports {
            ports.add(name, None, Instant::now());
        }
        ports.roster = roster;
        Ok(ports)
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

    /// Whether the thread that closes ports has died.
    pub fn closer_is_gone(&self) -> bool {
        self.closings.is_gone()
    }

    /// Whether every port is open, and forwards or has been without a carrier for a while: should it get one, it forwards at once.
    /// Of the ports of bridges those that stay with the kernel do not count, nor those that are down: nobody named them, and
    /// nobody may ever set them up.
    pub fn all_open(&self) -> bool {
        let is_open = |port: &Port| match &port.open {
            Some(open) => port.waits.is_none() || open.carrier_by <= Instant::now(),
            None => port.stays || (port.member.is_some() && port.down),
        };
        self.ports.iter().all(is_open)
    }

    /// When [`reconcile`](Self::reconcile) has something to do though no link changed.
    pub fn retry_at(&self) -> Option<Instant> {
        let tried = self.ports.iter().filter_map(|port| port.tried.as_ref());
        let retry = tried.map(|tried| tried.at + tried.pause()).min();
        let others = [self.closings.look_at(), self.again];
        others.into_iter().flatten().chain(retry).min()
    }

    /// Brings the ports in line with the links that there are. An error of a named port that cannot be opened at the start
    /// ends the start; later it is said and the port waits.
    pub fn reconcile(&mut self, links: &[LinkInfo], starting: bool) -> Result<bool, Error> {
        for Closed { slots, .. } in self.closings.ended() {
            self.slots.free(slots);
        }
        let now = Instant::now();
        self.again = None;
        let mut changed = self.follow_bridges(links, now, starting);
        for n in 0..self.ports.len() {
            let link = self.link_of(n, links);
            if self.ports[n].open.as_ref().is_some_and(|open| !self.suits(open, link)) {
                self.close(n, &[]);
                changed = true;
            }
            self.ports[n].down = link.is_none_or(|link| !link.is_admin_up());
            if self.ports[n].down {
                self.ports[n].tried = None;
            }
            let waits = match link {
                None => Some("it is gone; it is taken up again when it comes back".to_owned()),
                Some(link) if !link.is_admin_up() => {
                    Some(format!("it is down: `ip link set {} up`", self.ports[n].name))
                }
                Some(link) if self.ports[n].open.is_none() => {
                    if !self.is_due(n, link, now) {
                        continue;
                    }
                    if !starting && now.elapsed() >= OPENING {
                        self.again = Some(now);
                        continue;
                    }
                    match self.open_port(n, link, starting) {
                        Ok(()) => {
                            changed = true;
                            self.waits_for_carrier(n, link)
                        }
                        Err(why) => match self.not_opened(n, link, now, starting, why)? {
                            Some(why) => Some(why),
                            None => continue,
                        },
                    }
                }
                Some(link) => self.waits_for_carrier(n, link),
            };
            self.set_waits(n, waits);
        }
        Ok(changed)
    }

    /// Whether [`reconcile`](Self::reconcile) will close a port whose link is up and goes on forwarding: it has another name or no
    /// bridge of ours, or an MTU that does not fit.
    pub fn gives_back(&self, links: &[LinkInfo]) -> bool {
        let members = self.roster.members(links);
        let gives_back = |n: usize| {
            let port = &self.ports[n];
            let Some(open) = &port.open else { return false };
            let is_up = links.iter().any(|link| link.ifindex == open.ifindex && link.is_up());
            let is_port = port.member.is_none() || members.iter().any(|member| member.link.ifindex == open.ifindex);
            is_up && !(is_port && self.suits(open, self.link_of(n, links)))
        };
        (0..self.ports.len()).any(gives_back)
    }

    /// Whether an open port goes on on what is its link now. What does not fit a frame would be lost.
    fn suits(&self, open: &Open, link: Option<&LinkInfo>) -> bool {
        link.is_some_and(|link| link.ifindex == open.ifindex && link.mtu <= self.opener.mtu_max())
    }

    fn link_of<'a>(&self, n: usize, links: &'a [LinkInfo]) -> Option<&'a LinkInfo> {
        let port = &self.ports[n];
        match port.member {
            Some((_, ifindex)) => links.iter().find(|link| link.ifindex == ifindex),
            None => links.iter().find(|link| *link.name == *port.name),
        }
    }

    /// Adds a port that is not open yet, if there is a number for it.
    fn add(&mut self, name: &str, member: Option<(String, u32)>, now: Instant) -> bool {
        let Some(taken) = self.numbers.take(name, now) else {
            return false;
        };
        let index = taken.index;
        if taken.of_another {
            self.forget(index);
        }
        let facts = PortFacts {
            index: index.0,
            port: report::Port {
                port: name.to_owned(),
                bridge: member.as_ref().map(|(bridge, _)| bridge.clone()),
                state: "down".into(),
                ..report::Port::default()
            },
        };
        self.table.lock().unwrap_or_else(PoisonError::into_inner).push(facts);
        self.ports.push(Port {
            name: name.to_owned(),
            index,
            member,
            open: None,
            waits: None,
            tried: None,
            stays: false,
            down: false,
        });
        true
    }

    /// Forgets what was counted of the port that had this number before.
    fn forget(&mut self, index: PortIndex) {
        let _ = self.steer.clear_stats(index.0);
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.retain(|count| count.port != index);
        for worker in 0..self.shared.limits.workers {
            self.shared.order(worker, Command::Forget(index));
        }
    }

    fn remove(&mut self, n: usize, now: Instant) {
        self.close(n, &[]);
        let port = self.ports.remove(n);
        self.numbers.free(port.index, now);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|facts| facts.index != port.index.0);
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
            Some(why) if port.stays => say!("bypath: port {} stays with the kernel, {why}", port.name),
            Some(why) => say!("bypath: port {} waits, {why}", port.name),
            None => say!("bypath: port {} forwards", port.name),
        }
        let state = match (&waits, &port.open) {
            (None, _) => "up",
            (Some(_), Some(_)) => "down",
            (Some(_), None) if link::ifindex(&port.name).is_some() => "down",
            (Some(_), None) => "gone",
        };
        port.waits = waits;
        let index = port.index;
        self.in_table(index, |facts| facts.state = state.into());
    }

    /// Waits until every worker has taken in what it was told before, and done a turn; for a stalled one a bounded time.
    pub fn settle(&self) {
        let told: Vec<_> = (0..self.shared.limits.workers)
            .filter_map(|worker| {
                let (reply, answer) = bounded(1);
                self.shared.tell(worker, Command::Answer(reply)).then_some(answer)
            })
            .collect();
        let deadline = Instant::now() + PATIENCE;
        for answer in told {
            let _ = answer.recv_deadline(deadline);
        }
    }

    fn describe(&self, index: PortIndex, link: &Link, zero_copy: bool, mode: AttachedMode) {
        let (mode, attach) = (
            if zero_copy { "zerocopy" } else { "copy" },
            match mode {
                AttachedMode::Native => "native",
                AttachedMode::Generic => "generic",
            },
        );
        self.in_table(index, |facts| {
            facts.state = "up".into();
            facts.ifindex = link.ifindex;
            facts.driver = link.driver.clone();
            facts.mtu = link.mtu;
            facts.mode = mode.into();
            facts.attach = attach.into();
        });
    }

    /// Changes what clients read of a port.
    fn in_table(&self, index: PortIndex, change: impl FnOnce(&mut report::Port)) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(facts) = table.iter_mut().find(|facts| facts.index == index.0) {
            change(&mut facts.port);
        }
    }
}
