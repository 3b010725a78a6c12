//! All that is known, and how one notification changes it. As the notifiers of net/ipv4/fib_frontend.c (fib_netdev_event,
//! fib_inetaddr_event) have it, a link or an address may change routes without a word: that wants them read anew.
//!
//! Nothing is published here: a change marks parts of the snapshot as stale, and `publish` builds those anew when it is
//! asked to. Every table is bounded by what the kernel holds.

use super::conntrack::Conntrack;
use super::exceptions::Exceptions;
use super::fdbs::Fdbs;
use super::fibs::{Routes, World};
use super::link::{Link, LinkChange};
use super::netlink::{self, Channel, Message};
use super::nexthop::{RTM_DELNEXTHOP, RTM_NEWNEXTHOP};
use super::rule::Rules;
use super::sysctl::{Netconf, RTM_DELNETCONF, RTM_NEWNETCONF, Sysctls};
use super::vlans::{ByLink as Vlans, RTM_DELVLAN, RTM_NEWVLAN};
use super::{Changed, Findings, MirrorError, bridging, neighbor, publish};
use crate::packet::{Addr, Family, PortIndex};
use crate::table::Snapshot;
use crate::table::neighbor::Neighbors;
use std::collections::HashMap;

/// All that is known. Apart from the event socket, so that events can go into it while they are read.
#[derive(Debug)]
pub(super) struct State {
    pub(super) requests: Channel,
    pub(super) world: World,
    pub(super) neighbors: Neighbors,
    pub(super) fdbs: Fdbs,
    pub(super) vlans: Vlans,
    pub(super) strangers: bridging::Strangers,
    pub(super) routes: [Routes; 2],
    pub(super) rules: [Rules; 2],
    pub(super) custom_rules: bool,
    pub(super) sysctls: Sysctls,
    pub(super) conntrack: Conntrack,
    pub(super) exceptions: Exceptions,
    pub(super) ports: HashMap<u32, PortIndex>,
    pub(super) findings: Findings,
    pub(super) wanted: Wanted,
    /// Something small could not be read, and is still wanted.
    pub(super) is_failing: bool,
    /// Why a dump failed last.
    pub(super) trouble: Option<String>,
    pub(super) changed: Changed,
    pub(super) stale: publish::Stale,
    pub(super) snapshot: Snapshot,
}

/// Small things to be read anew at the end of a turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub(super) rules: [bool; 2],
    pub(super) nexthops: bool,
    pub(super) links: bool,
    pub(super) vlans: bool,
    pub(super) all: bool,
}

impl Wanted {
    /// What either of them wants.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            rules: [0, 1].map(|family| self.rules[family] || other.rules[family]),
            nexthops: self.nexthops || other.nexthops,
            links: self.links || other.links,
            vlans: self.vlans || other.vlans,
            all: self.all || other.all,
        }
    }
}

impl State {
    /// Nothing is known yet, and everything wanted.
    pub(super) fn new() -> Result<Self, MirrorError> {
        Ok(State {
            requests: Channel::for_requests()?,
            world: World::default(),
            neighbors: Neighbors::default(),
            fdbs: Fdbs::new()?,
            vlans: Vlans::new(),
            strangers: bridging::Strangers::default(),
            routes: [Routes::new(Family::V4)?, Routes::new(Family::V6)?],
            rules: [Rules::default(), Rules::default()],
            custom_rules: false,
            sysctls: Sysctls::open(),
            conntrack: Conntrack::default(),
            exceptions: Exceptions::open(),
            ports: HashMap::new(),
            findings: Findings::default(),
            wanted: Wanted {
                all: true,
                ..Wanted::default()
            },
            is_failing: false,
            trouble: None,
            changed: Changed::default(),
            stale: publish::Stale::default(),
            snapshot: Snapshot::default(),
        })
    }

    /// Takes in one notification.
    pub(super) fn event(&mut self, message: Message<'_>) {
        match message.kind {
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
                self.routes
                    .iter_mut()
                    .for_each(|routes| routes.event(message, &self.world));
            }
            libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => {
                let changed = neighbor::apply(&mut self.neighbors, &self.world.links, message);
                self.changed.neighbors |= changed.any;
                self.stale.neighbors |= changed.any;
                let is_router = |(link, family, addr)| self.world.nexthops.has_router(link, family, addr);
                self.stale.choice |= changed.choice.is_some_and(is_router);
            }
            libc::RTM_NEWLINK | libc::RTM_DELLINK => {
                let change = self.world.links.apply(message);
                self.link_changed(change);
                let ifindex = netlink::u32_at(message.payload, 4).unwrap_or_default();
                self.fdbs.follow(&self.world.links, ifindex);
            }
            libc::RTM_NEWADDR | libc::RTM_DELADDR => {
                let changed = self.world.addresses.apply(message);
                self.sources_changed(changed.sources);
                changed.v4.into_iter().for_each(|addr| self.address_changed(addr));
            }
            libc::RTM_NEWRULE | libc::RTM_DELRULE => {
                let family = message.payload.first().and_then(|&af| netlink::family(af));
                family
                    .into_iter()
                    .for_each(|family| self.wanted.rules[family as usize] = true);
            }
            RTM_NEWNEXTHOP | RTM_DELNEXTHOP => self.nexthop_event(message),
            RTM_NEWNETCONF | RTM_DELNETCONF => self.netconf_event(message),
            RTM_NEWVLAN | RTM_DELVLAN => self.wanted.vlans = true,
            _ => {}
        }
    }

    /// Takes in one notification about a forwarding database.
    pub(super) fn fdb_event(&mut self, message: Message<'_>) {
        self.fdbs.event(&self.world.links, message);
    }

    pub(super) fn fdb_overrun(&mut self) {
        self.changed.overrun = true;
        self.fdbs.restart();
    }

    /// Goes on with a dump of forwarding databases, if there is one, and says what changed in them; `drained`: the socket of
    /// their events was just seen empty.
    pub(super) fn step_fdbs(&mut self, drained: bool) -> Result<(), MirrorError> {
        if !MirrorError::passing(self.fdbs.step(&self.world.links, drained), &mut self.trouble)? {
            self.fdbs.failed();
        }
        let change = std::mem::take(&mut self.fdbs.change);
        self.stale.ifaces |= change.replaced;
        self.stale.decisions |= change.decided;
        self.changed.fdb |= change.decided || change.replaced;
        Ok(())
    }

    /// Whether everything was read once.
    pub(super) fn has_all(&self) -> bool {
        !self.wanted.all && self.routes.iter().all(|routes| routes.reread.completed() > 0) && self.fdbs.completed() > 0
    }

    pub(super) fn address_changed(&mut self, addr: Addr) {
        self.changed.addresses = true;
        self.stale.addresses = true;
        self.stale.ifaces = true;
        let routes = &mut self.routes[Family::V4 as usize];
        routes.select_of_router(addr, &self.world);
        routes.reread.want();
    }

    /// What others see the box by changed, or not.
    pub(super) fn sources_changed(&mut self, changed: bool) {
        self.changed.addresses |= changed;
        self.stale.ifaces |= changed;
    }

    pub(super) fn link_changed(&mut self, change: LinkChange) {
        self.changed.links |= change.any;
        self.stale.ifaces |= change.any;
        self.stale.rules |= change.named;
        if let Some(ifindex) = change.member {
            self.vlans.remove(&ifindex);
            self.wanted.vlans = true;
        }
        if let Some(gone) = change.gone {
            let changed = neighbor::forget(&mut self.neighbors, gone);
            self.changed.neighbors |= changed;
            self.stale.neighbors |= changed;
        }
        if change.state {
            self.stale.choice = true;
            self.wanted.nexthops = true;
            self.routes.iter_mut().for_each(|routes| routes.reread.want());
        }
        if let Some(ifindex) = change.new {
            self.routes
                .iter_mut()
                .for_each(|routes| routes.link_came(ifindex, &self.world));
        }
    }

    fn nexthop_event(&mut self, message: Message<'_>) {
        let Some(id) = self.world.nexthops.apply(message) else {
            return;
        };
        self.stale.choice = true;
        let ids = self.world.nexthops.touched_by(id);
        for routes in &mut self.routes {
            routes.select_of_nexthops(&ids, &self.world);
            if message.kind == RTM_DELNEXTHOP {
                routes.reread.want();
            }
        }
        self.wanted.nexthops |= message.kind == RTM_DELNEXTHOP;
    }

    fn netconf_event(&mut self, message: Message<'_>) {
        let Some(netconf) = Netconf::parse(message) else { return };
        if let Some(link) = netconf.ifindex.and_then(|ifindex| self.world.links.get_mut(ifindex)) {
            self.wanted.links |= !netconf.apply(link);
        }
        if netconf.is_all {
            self.poll_sysctls(|_| true);
        }
        if netconf.linkdown {
            self.stale.choice = true;
            self.routes.iter_mut().for_each(|routes| routes.reread.want());
        }
        self.changed.links = true;
        self.stale.ifaces = true;
    }

    pub(super) fn overrun(&mut self) {
        self.wanted.all = true;
        self.changed.overrun = true;
        self.routes.iter_mut().for_each(|routes| routes.reread.restart());
    }

    /// Reads sysctls, of links that are watched those at places that are due; whether any changed.
    pub(super) fn poll_sysctls(&mut self, is_due: impl Fn(usize) -> bool) -> bool {
        let choice = self.sysctls.globals.choice();
        let linkdown = (
            self.sysctls.globals.ignore_linkdown,
            self.sysctls.globals.ignore_linkdown6,
        );
        let mut changed = self.sysctls.poll();
        changed |= self.poll_strangers();
        let tracking = self.conntrack.poll();
        self.stale.conntrack |= tracking;
        // A dump that fails is tried again with the next count that differs; events go on meanwhile.
        let exceptions = self.exceptions.poll(&mut self.requests).unwrap_or_default();
        self.stale.routes |= exceptions;
        self.changed.routes |= exceptions;
        let is_ours = |link: &&Link| self.ports.contains_key(&link.info.ifindex) && link.bridge_port.is_some();
        let bridges = self.world.links.iter().filter(is_ours);
        self.sysctls
            .watch_bridges(&bridges.map(|link| link.info.master).collect());
        let watched = self.sysctls.watched().into_iter().enumerate();
        for (_, ifindex) in watched.filter(|(place, _)| is_due(*place)) {
            // IP does not come in by the port of a bridge; one that leaves it is told of, with its sysctls.
            if let Some(link) = self
                .world
                .links
                .get_mut(ifindex)
                .filter(|link| link.bridge_port.is_none())
            {
                changed |= self.sysctls.poll_link(link);
            }
        }
        if linkdown
            != (
                self.sysctls.globals.ignore_linkdown,
                self.sysctls.globals.ignore_linkdown6,
            )
        {
            self.routes.iter_mut().for_each(|routes| routes.reread.want());
        }
        self.stale.choice |= choice != self.sysctls.globals.choice();
        self.stale.ifaces |= changed;
        self.changed.links |= changed;
        if changed {
            self.settle_policy();
        }
        changed | exceptions | tracking
    }

    /// Has routes resolved anew where sysctls or links changed what they mean.
    pub(super) fn settle_policy(&mut self) {
        if !self.stale.ifaces {
            return;
        }
        for family in Family::ALL {
            let policy = self.policy(family);
            self.routes[family as usize].set_policy(policy, &self.world);
        }
    }

    /// Goes on with reading the routes of `family` anew; `drained`: the event socket was just seen empty.
    pub(super) fn reread(&mut self, family: Family, drained: bool) -> Result<(), MirrorError> {
        let routes = &mut self.routes[family as usize];
        routes.lapse(&self.world);
        if drained {
            routes.reread_finish(&self.world);
        }
        if !MirrorError::passing(routes.reread_step(drained), &mut self.trouble)? {
            routes.reread.failed();
        }
        let change = std::mem::take(&mut routes.change);
        self.changed.routes |= change.tables;
        self.stale.routes |= change.tables;
        self.stale.choice |= change.choice;
        if self.routes.iter().all(|routes| routes.reread.is_settled()) {
            self.world.links.release();
        }
        Ok(())
    }
}
