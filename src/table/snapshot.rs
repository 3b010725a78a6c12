//! The whole configuration of one moment, immutable. Mirror builds it, control publishes it, a worker picks it up between
//! bursts; the one before is freed by control, never by a worker.
//!
//! Connections are not in it: they are what traffic made, and live in `conntrack::table`.

use super::conntrack;
use super::fib::Fib;
use super::iface::{Iface, IfaceIndex};
use super::neighbor::Neighbors;
use super::rules::live::Rules;
use crate::packet::{Addr, Family, PortIndex};
use hashbrown::HashSet;
use std::sync::Arc;

/// A set of addresses of one family.
pub type Addrs = HashSet<Addr, foldhash::fast::RandomState>;

/// All tables that come from configuration. Cloning one shares every large part.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Raised by every change; what was decided under an older one is decided anew.
    pub generation: u64,
    /// Every link, by [`IfaceIndex`]. A place whose link is gone has `ifindex` 0 and is down.
    pub ifaces: Arc<Vec<Iface>>,
    /// The link that a port is, by [`PortIndex`].
    pub ports: Arc<Vec<Option<IfaceIndex>>>,
    /// Routing, by [`Family`].
    pub fib: [Fib; 2],
    /// The resolved neighbours.
    pub neighbors: Neighbors,
    /// The box's own IPv4 addresses: no forwarded packet may bear one as its source.
    pub own_v4: Arc<Addrs>,
    /// IPv6 destinations with an exception (a path MTU, a redirect) that only the kernel knows.
    pub exceptions_v6: Arc<Addrs>,
    /// Source validation must look routes up even where `rp_filter` is off: the box has local routes that are not its
    /// addresses, or rules of its own (the kernel's `fib_has_custom_local_routes`, `fib4_has_custom_rules`).
    pub full_source_check: bool,
    /// Some `ip rule` of a [`Family`] asks for a mark: packets that have one are the kernel's to route.
    pub rules_by_mark: [bool; 2],
    /// `ip_forward_update_priority`: a forwarded packet of IPv4 gets the priority of its TOS.
    pub update_priority: bool,
    /// `fib_multipath_hash_policy` by [`Family`]: what of a packet the kernel hashes to choose among nexthops.
    pub multipath_policy: [u8; 2],
    /// Raised when anything but a route changes what the kernel would choose (a link, the hash policy, a rule): answers
    /// of an older epoch are asked for anew.
    pub multipath_epoch: u64,
    /// How connections are tracked, and whether.
    pub conntrack: Arc<conntrack::Config>,
    /// The rules at the forward hook, with what packets change in them.
    pub rules: Arc<Rules>,
}

impl Default for Snapshot {
    /// Nothing is there, and nothing is routed.
    fn default() -> Self {
        Snapshot {
            generation: 0,
            ifaces: Arc::default(),
            ports: Arc::default(),
            fib: Family::ALL.map(Fib::new),
            neighbors: Neighbors::default(),
            own_v4: Arc::default(),
            exceptions_v6: Arc::default(),
            full_source_check: false,
            rules_by_mark: [false; 2],
            update_priority: true,
            multipath_policy: [0; 2],
            multipath_epoch: 0,
            conntrack: Arc::default(),
            rules: Arc::default(),
        }
    }
}

impl Snapshot {
    /// Routing for `family`.
    #[inline]
    pub fn fib(&self, family: Family) -> &Fib {
        &self.fib[family as usize]
    }

    /// The link at `index`, which a route or neighbour named.
    #[inline]
    pub fn iface(&self, index: IfaceIndex) -> Option<&Iface> {
        self.ifaces.get(usize::from(index.0))
    }

    /// The link that `port` is.
    #[inline]
    pub fn port(&self, port: PortIndex) -> Option<(IfaceIndex, &Iface)> {
        let index = (*self.ports.get(usize::from(port.0))?)?;
        Some((index, self.iface(index)?))
    }
}
