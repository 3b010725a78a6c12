//! Addresses of the box: RTM_NEWADDR and RTM_DELADDR. IPv4 addresses may be no source of a forwarded packet
//! (inet_lookup_ifaddr_rcu); IPv6 has only its local routes for that. A change of an IPv4 address may flush routes silently
//! (fib_sync_down_addr), or bring dead nexthops back (fib_sync_up).
//!
//! A route whose router was an address of the box when the route was made means "on the link" for good (nhc_scope, which no
//! message tells), so addresses that went are remembered, up to [`FORMER_MAX`]. What went before mirror began is not known.

use super::netlink::{Message, as_addr, family, u32_at};
use crate::packet::{Addr, Family};
use crate::table::snapshot::Addrs;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most addresses that are remembered after they went.
const FORMER_MAX: usize = 1 << 16;
const HEADER: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// The IPv4 addresses of the namespace, each with its link and prefix length.
#[derive(Debug, Default)]
pub struct Addresses {
    v4: BTreeSet<(Addr, u32, u8)>,
    former: BTreeSet<Addr>,
}

impl Addresses {
    /// Takes in RTM_NEWADDR or RTM_DELADDR; the IPv4 address that came or went.
    pub fn apply(&mut self, message: Message<'_>) -> Option<Addr> {
        let (header, attributes) = message.split(HEADER)?;
        family(header[0]).filter(|&family| family == Family::V4)?;
        let (mut address, mut local) = (None, None);
        for (kind, value) in attributes {
            match kind {
                IFA_ADDRESS => address = as_addr(value),
                IFA_LOCAL => local = as_addr(value),
                _ => {}
            }
        }
        // On a point-to-point link IFA_ADDRESS is the peer's.
        let (_, addr) = local.or(address)?;
        let key = (addr, u32_at(header, 4)?, header[1]);
        let changed = if message.kind == libc::RTM_NEWADDR {
            self.v4.insert(key)
        } else {
            if self.former.len() < FORMER_MAX {
                self.former.insert(addr);
            }
            self.v4.remove(&key)
        };
        changed.then_some(addr)
    }

    /// Whether `addr` is, or was, an IPv4 address of the box.
    pub fn is_or_was_own(&self, addr: Addr) -> bool {
        let every = (addr, 0, 0)..=(addr, u32::MAX, u8::MAX);
        self.former.contains(&addr) || self.v4.range(every).next().is_some()
    }

    /// Has the addresses of `other` from now on; those that differ.
    pub fn become_like(&mut self, other: Addresses) -> Vec<Addr> {
        let differ: Vec<Addr> = self
            .v4
            .symmetric_difference(&other.v4)
            .map(|&(addr, _, _)| addr)
            .collect();
        let gone = self.v4.difference(&other.v4).map(|&(addr, _, _)| addr);
        self.former
            .extend(gone.take(FORMER_MAX.saturating_sub(self.former.len())));
        self.v4 = other.v4;
        differ
    }

    /// Every IPv4 address.
    pub fn own_v4(&self) -> Arc<Addrs> {
        Arc::new(self.v4.iter().map(|&(addr, _, _)| addr).collect())
    }
}
