//! Where a burst arrived: what its walk asks the configuration about the port, looked up once for all its packets.
//! Nothing of it outlives the burst: the next one may walk by another snapshot. What is tracked, the time, and whether frames are
//! labelled for qdiscs is the worker's to fill in.

use crate::packet::{Family, PortIndex};
use crate::stage::bridge_check::{self, Hooks, Member};
use crate::stage::bridging::Last;
use crate::stage::prerouting::Tracking;
use crate::stage::rules::Ports;
use crate::table::Snapshot;
use crate::table::iface::{Iface, IfaceIndex};
use crate::table::police::Policing;
use std::cell::Cell;

/// Where a burst arrived, looked up once for all of it.
#[derive(Clone)]
pub struct Here<'a> {
    /// The port of arrival.
    pub port: PortIndex,
    /// The configuration that the burst walks by.
    pub snapshot: &'a Snapshot,
    /// The link by which IP sees the packets arrive, unless it just went away: the port, or the bridge that it is a port of.
    pub link: Option<(IfaceIndex, &'a Iface)>,
    /// The port as a bridge's, if it is one.
    pub member: Option<Member<'a>>,
    /// Whether routing looks at nothing but the destination, by family.
    pub by_destination: [bool; 2],
    /// Whether routing looks at nothing that differs between packets of one connection, by family.
    pub by_connection: [bool; 2],
    /// The connections, if any family is tracked.
    pub tracking: Option<Tracking<'a>>,
    /// What polices what arrives by the port, if anything.
    pub policing: Option<&'a Policing>,
    /// Some port is shaped: frames tell its qdisc what is known of them.
    pub labels: bool,
    /// The burst's time, in monotonic nanoseconds.
    pub now_ns: u64,
    /// What was decided last of a bridged frame.
    pub last: Cell<Option<Last>>,
}

impl<'a> Here<'a> {
    /// `port` as it is in `snapshot`; nothing is tracked, frames are not labelled, and no time has passed.
    pub fn new(port: PortIndex, snapshot: &'a Snapshot) -> Self {
        let (link, member) = bridge_check::arrival(snapshot, port);
        Self {
            port,
            snapshot,
            link,
            member,
            by_destination: Family::ALL.map(|family| snapshot.fib(family).is_by_destination()),
            by_connection: Family::ALL.map(|family| !snapshot.fib(family).looks_at_tos()),
            tracking: None,
            policing: snapshot.port(port).and_then(|(_, iface)| iface.policing.as_deref()),
            labels: false,
            now_ns: 0,
            last: Cell::new(None),
        }
    }

    /// Whether what is bridged here of `family` meets the hooks of IP in the kernel. That may bridge what is routed out by the
    /// bridge that it came in by, and answers do not come up.
    #[inline]
    pub(super) fn is_hooked(&self, family: Family) -> bool {
        let hooks = |member: &Member<'_>| member.hooks[family as usize] == Hooks::Kernel;
        self.member.as_ref().is_some_and(hooks)
    }

    /// The port of a bridge with the hooks of IP for `family`, by which its packets came in.
    #[inline]
    pub(super) fn hooked(&self, family: Family) -> Option<&Member<'a>> {
        self.member
            .as_ref()
            .filter(|member| member.hooks[family as usize] == Hooks::Ip)
    }

    /// The port of a bridge by which its packets came in, as rules ask about it: of those that go up, too, where what is bridged is
    /// the kernel's.
    pub(super) fn ports(&self, family: Family) -> Option<Ports<'a>> {
        let member = self.member.as_ref();
        let called = member.filter(|member| member.hooks[family as usize] != Hooks::Off);
        called.map(|member| Ports {
            input: member.link.1,
            output: None,
            is_redirected: false,
        })
    }

    /// The connections, if `family` is tracked.
    #[inline]
    pub(super) fn tracking(&self, family: Family) -> Option<&Tracking<'a>> {
        self.tracking
            .as_ref()
            .filter(|tracking| tracking.config.tracked[family as usize])
    }
}
