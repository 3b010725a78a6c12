//! The kernel as configuration: what it says by rtnetlink and in its sysctls, kept current, and built into the immutable
//! [`Snapshot`] that workers look things up in.
//!
//! ```text
//!  rtnetlink events -> link, address, neighbor, nexthop, rule, fibs, bridge, vlans \
//!  dumps (reread)  ->                                                               +-> Mirror -> Snapshot -> workers
//!  /proc/sys/net   -> sysctl, conntrack                                             |
//!  guard, through control: what is left, tracked, filtered, shaped                 /
//!  rtnetlink events of forwarding databases -> fdbs -> Fdb, shared with workers
//! ```
//!
//! Layer 5. The event socket is subscribed before anything is dumped, so that no change falls between; an overrun
//! (ENOBUFS) leads to reading everything again. Small tables (links, addresses, rules, nexthops, neighbours) are read at
//! once; routes in bounded steps while events go on (see `reread`).
//!
//! Never in doubt: what is not understood sets `left` on the route, rule or interface that it touches, and
//! [`Mirror::not_carried`] names it.

mod address;
mod bridge;
mod bridging;
mod conntrack;
pub mod ctnetlink;
mod dumps;
mod exceptions;
mod fdbs;
mod fibs;
pub mod filters;
#[cfg(test)]
mod fixtures;
pub mod guard;
mod interned;
mod link;
mod neighbor;
mod netlink;
mod nexthop;
pub mod nft;
mod nlattr;
mod nlsock;
pub mod oracle;
mod publish;
pub mod refresh;
mod reread;
mod resolve;
mod route;
mod route4;
mod route6;
mod rule;
pub mod stale;
mod state;
mod store;
mod sysctl;
pub mod tc;
mod turns;
mod vlans;

pub use link::LinkInfo;
pub use publish::is_never_forwarded;

use crate::packet::{Family, PortIndex};
use crate::table::Snapshot;
use crate::table::fdb::Fdb;
use crate::table::iface::Left;
use crate::table::police::Policing;
use crate::table::qdisc::Shaping;
use crate::table::rules::live::Rules;
use netlink::{Channel, EVENTS_BYTES, Hears};
use state::State;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use turns::Turns;

/// The most datagrams of events that one [`Mirror::process`] takes; about 5 ms.
pub const EVENTS_MAX: usize = 2048;

/// The device by which frames are punted: no link that forwards.
pub const PUNT_DEVICE: &str = "bypath0";

/// The longest time that reading everything at the start may take: 100 times that of a full Internet table.
const OPEN_MAX: Duration = Duration::from_secs(300);

/// RTNLGRP_* of links, neighbours, and of both families addresses, routes, rules, netconf; of nexthops, and of VLANs of
/// bridges.
const GROUPS: &[u32] = &[1, 3, 5, 7, 8, 9, 11, 19, 24, 25, 32, 33];

/// RTNLGRP_NEIGH, in which forwarding databases are, too.
const FDB_GROUPS: &[u32] = &[3];

/// What can go wrong for good.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// A system call failed.
    #[error("{what}: {error}; does this user have CAP_NET_ADMIN, and the kernel NETLINK_ROUTE?")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// Routes change faster than they can be read.
    #[error("the kernel's routes change faster than they can be read; start again when there is less change")]
    Busy,
    /// Events were lost. Handled inside; nobody outside sees it.
    #[error("netlink overrun")]
    Overrun,
}

impl MirrorError {
    pub(crate) fn io(what: &'static str, error: io::Error) -> Self {
        MirrorError::Io { what, error }
    }

    /// Whether a dump that failed so may succeed a little later: the kernel was short of something.
    fn is_passing(&self) -> bool {
        use libc::{EAGAIN, EBUSY, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM};
        match self {
            MirrorError::Io { error, .. } => matches!(
                error.raw_os_error(),
                Some(EAGAIN | EBUSY | EINTR | EMFILE | ENFILE | ENOBUFS | ENOMEM)
            ),
            MirrorError::Overrun => true,
            MirrorError::Busy => false,
        }
    }

    /// Whether a dump succeeded; not where its failure passes, which is noted. Any other is an error.
    fn passing(result: Result<(), Self>, trouble: &mut Option<String>) -> Result<bool, Self> {
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.is_passing() => {
                *trouble = Some(error.to_string());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// What changed since the last call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// A link, or a sysctl of one.
    pub links: bool,
    /// Routes or rules.
    pub routes: bool,
    /// Neighbours.
    pub neighbors: bool,
    /// Addresses.
    pub addresses: bool,
    /// Forwarding databases of bridges: an entry moved or went, or a table grew.
    pub fdb: bool,
    /// Events were lost, and everything is being read again.
    pub overrun: bool,
    /// There is more to do at once: call again without waiting.
    pub more: bool,
    /// All that the kernel had told when the call began is taken in.
    pub drained: bool,
}

impl Changed {
    /// Whether there is a new snapshot.
    pub fn any(&self) -> bool {
        self.links || self.routes || self.neighbors || self.addresses || self.fdb
    }
}

/// What stands in the path of a link's traffic, by family (indexed by [`Family`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkFindings {
    /// Of packets that arrive there, and of packets that would leave there.
    pub family: [(Left, Left); 2],
    /// Of frames that arrive there as at a port of a bridge, and of those that would leave so.
    pub bridging: (Left, Left),
}

/// What stands in the path, and what of it is carried.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// What leaves traffic of a link, by ifindex.
    pub links: HashMap<u32, LinkFindings>,
    /// Whether the kernel tracks connections, by [`Family`].
    pub tracked: [bool; 2],
    /// The rules at forward that are run.
    pub rules: Arc<Rules>,
    /// How what leaves by a link is shaped, by ifindex; one without an entry is not.
    pub shaping: HashMap<u32, Shaping>,
    /// Of which of them only what waits is, see [`Iface::drains`](crate::table::iface::Iface::drains).
    pub draining: HashSet<u32>,
    /// What polices what arrives by a link, by ifindex; one without an entry has nothing that does.
    pub policing: HashMap<u32, Arc<Policing>>,
}

/// The kernel's configuration of one network namespace.
#[derive(Debug)]
pub struct Mirror {
    events: Channel,
    fdb_events: Channel,
    fdb_drained: bool,
    turns: Turns,
    state: State,
}

impl Mirror {
    /// Reads everything from the network namespace of the calling thread, in which it must stay.
    pub fn open() -> Result<Self, MirrorError> {
        Self::with_buffer(EVENTS_BYTES)
    }

    /// The same with a buffer of `bytes` for events, which tests make tiny.
    pub fn with_buffer(bytes: usize) -> Result<Self, MirrorError> {
        let mut mirror = Self {
            events: Channel::for_events(GROUPS, Hears::AllElse, bytes)?,
            fdb_events: Channel::for_events(FDB_GROUPS, Hears::Fdb, bytes)?,
            fdb_drained: false,
            turns: Turns::default(),
            state: State::new()?,
        };
        let end = Instant::now() + OPEN_MAX;
        while !mirror.state.has_all() {
            if Instant::now() > end {
                return Err(MirrorError::Busy);
            }
            mirror.process()?;
        }
        Ok(mirror)
    }

    /// What poll(2) may wait on for input; then call [`process`](Self::process).
    pub fn fds(&self) -> [RawFd; 2] {
        [self.events.raw_fd(), self.fdb_events.raw_fd()]
    }

    /// Takes in what is pending, a bounded part of it, without waiting. To be called when [`fds`](Self::fds) are readable,
    /// at once again while it says [`Changed::more`], and every 100 ms besides: reading routes anew may have been put off.
    pub fn process(&mut self) -> Result<Changed, MirrorError> {
        let drained = take_events(&mut self.events, &mut self.state, State::event, State::overrun)?;
        match drained {
            true => self.state.read_small()?,
            // Of a port that has just joined a bridge nothing is carried before they are known.
            false => self.state.read_wanted_vlans()?,
        }
        self.fdb_drained = take_events(
            &mut self.fdb_events,
            &mut self.state,
            State::fdb_event,
            State::fdb_overrun,
        )?;
        self.state.step_fdbs(self.fdb_drained)?;
        self.state.settle_policy();
        for family in Family::ALL {
            self.state.reread(family, drained)?;
        }
        let routes_due = self.state.routes.iter().any(|routes| routes.reread.is_due());
        let more = !drained || !self.fdb_drained || routes_due || self.state.fdbs.is_due();
        Ok(Changed {
            more,
            drained: drained && self.fdb_drained,
            ..std::mem::take(&mut self.state.changed)
        })
    }

    /// Reads the sysctls that the kernel does not tell changes of; whether any changed. To be called every 50 to 100 ms.
    pub fn poll_sysctls(&mut self) -> bool {
        self.state.poll_sysctls(|_| true)
    }

    /// The same of the namespace and a part of the ports, which are many: all of them within four calls.
    pub fn poll_some_sysctls(&mut self) -> bool {
        let is_due = self.turns.take(self.state.sysctls.watched().len());
        self.state.poll_sysctls(is_due)
    }

    /// Whether routes and forwarding databases are as the kernel has them, as far as was told: no read of all of them is
    /// going on or due.
    pub fn is_settled(&self) -> bool {
        self.state.routes.iter().all(|routes| routes.reread.is_settled()) && self.state.fdbs.is_settled()
    }

    /// Why the kernel could not tell something lately, if so: what is known may be old until it can. It is asked again.
    pub fn trouble(&self) -> Option<&str> {
        let State { routes, fdbs, .. } = &self.state;
        let of_routes = routes.iter().any(|routes| routes.reread.is_failing());
        let is_failing = self.state.is_failing || fdbs.is_failing() || of_routes;
        self.state.trouble.as_deref().filter(|_| is_failing)
    }

    /// Says that a link is a port of this process, or no more.
    pub fn set_port(&mut self, ifindex: u32, port: Option<PortIndex>) {
        let mut ports = self.state.ports.clone();
        match port {
            Some(port) => ports.insert(ifindex, port),
            None => ports.remove(&ifindex),
        };
        self.set_ports(ports);
    }

    /// Says which links are ports of this process, all of them. The ports' sysctls are read once, and only if something is
    /// new: that takes longer the more ports there are. A link that is gone is watched no more.
    pub fn set_ports(&mut self, ports: impl IntoIterator<Item = (u32, PortIndex)>) {
        let ports = ports.into_iter().collect();
        if ports == self.state.ports {
            return;
        }
        let before = std::mem::replace(&mut self.state.ports, ports);
        for &gone in before.keys().filter(|ifindex| !self.state.ports.contains_key(ifindex)) {
            self.state.sysctls.watch(gone, false);
        }
        for &new in self.state.ports.keys().filter(|ifindex| !before.contains_key(ifindex)) {
            self.state.sysctls.watch(new, true);
        }
        self.state.stale.ifaces = true;
        self.poll_sysctls();
    }

    /// Says what stands in the path, instead of what was said before. All of it is in the next snapshot, or none.
    pub fn set_findings(&mut self, findings: Findings) {
        if self.state.findings != findings {
            self.state.conntrack.watch(findings.tracked.contains(&true));
            self.state.findings = findings;
            self.state.stale.ifaces = true;
        }
    }

    /// Every link.
    pub fn links(&self) -> impl Iterator<Item = &LinkInfo> {
        self.state.world.links.iter().map(|link| &link.info)
    }

    /// The forwarding database of every bridge, with the bridge's name.
    pub fn fdbs(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Fdb>)> {
        let name = |ifindex| Some(&self.state.world.links.get(ifindex)?.info.name);
        self.state
            .fdbs
            .iter()
            .filter_map(move |(ifindex, fdb)| Some((name(ifindex)?, fdb)))
    }

    /// The configuration of this moment. Its generation is that of the last one unless something changed.
    pub fn snapshot(&mut self) -> Snapshot {
        self.state.publish();
        self.state.snapshot.clone()
    }

    /// What is left to the kernel, one line each; at most `max` lines, and one that says how many more there are.
    pub fn not_carried(&self, max: usize) -> Vec<String> {
        self.state.not_carried(max)
    }
}

/// Shows what is pending to `each`, a bounded part of it; whether that was all.
fn take_events(
    events: &mut Channel,
    state: &mut State,
    each: fn(&mut State, netlink::Message<'_>),
    overrun: fn(&mut State),
) -> Result<bool, MirrorError> {
    for _ in 0..EVENTS_MAX {
        match events.events(|message| each(state, message)) {
            Ok(true) => {}
            Ok(false) => return Ok(true),
            Err(MirrorError::Overrun) => overrun(state),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}
