//! Addresses of the box: RTM_NEWADDR and RTM_DELADDR. IPv4 addresses may be no source of a forwarded packet
//! (inet_lookup_ifaddr_rcu); IPv6 has only its local routes for that. A change of an IPv4 address may flush routes silently
//! (fib_sync_down_addr), or bring dead nexthops back (fib_sync_up).
//!
//! A route whose router was an address of the box when the route was made means "on the link" for good (nhc_scope, which no
//! message tells), so addresses that went are remembered, up to [`FORMER_MAX`]. What went before mirror began is not known.
//!
//! Which of a link's addresses the box shows to others depends on their order, which is that of their coming
//! (__inet_insert_ifa: of one scope the primary ones stand as they came; a secondary one that is promoted comes anew).

use super::netlink::{Message, as_addr, as_u32, family, u32_at};
use crate::packet::{Addr, Family};
use crate::table::iface::Source;
use crate::table::snapshot::Addrs;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// The most addresses that are remembered after they went.
const FORMER_MAX: usize = 1 << 16;
const HEADER: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;

/// The addresses of the namespace.
#[derive(Debug, Default)]
pub struct Addresses {
    /// Those of IPv4, each with its link and prefix length.
    v4: BTreeSet<(Addr, u32, u8)>,
    former: BTreeSet<Addr>,
    /// Those that others may see the box by, by link and family.
    sources: BTreeMap<(u32, u8), Vec<Source>>,
}

/// What a message changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressChange {
    /// The IPv4 address that came or went.
    pub v4: Option<Addr>,
    /// What others see the box by.
    pub sources: bool,
}

impl Addresses {
    /// Takes in RTM_NEWADDR or RTM_DELADDR.
    pub fn apply(&mut self, message: Message<'_>) -> AddressChange {
        self.try_apply(message).unwrap_or_default()
    }

    fn try_apply(&mut self, message: Message<'_>) -> Option<AddressChange> {
        let (header, attributes) = message.split(HEADER)?;
        let family = family(header[0])?;
        let (mut address, mut local, mut flags) = (None, None, u32::from(header[2]));
        for (kind, value) in attributes {
            match kind {
                IFA_ADDRESS => address = as_addr(value),
                IFA_LOCAL => local = as_addr(value),
                IFA_FLAGS => flags = as_u32(value),
                _ => {}
            }
        }
        // On a point-to-point link IFA_ADDRESS is the peer's.
        let (_, addr) = local.or(address)?;
        let (_, peer) = address.or(local)?;
        let (prefix_len, scope, ifindex) = (header[1], header[3], u32_at(header, 4)?);
        let source = Source { addr, peer, prefix_len };
        let is_new = message.kind == libc::RTM_NEWADDR;
        let sources = self.source(
            (ifindex, family as u8),
            source,
            is_new && is_source(family, scope, flags),
        );
        let v4 = (family == Family::V4).then(|| self.apply_v4((addr, ifindex, prefix_len), is_new));
        Some(AddressChange {
            v4: v4.flatten(),
            sources,
        })
    }

    fn apply_v4(&mut self, key: (Addr, u32, u8), is_new: bool) -> Option<Addr> {
        let changed = if is_new {
            self.v4.insert(key)
        } else {
            if self.former.len() < FORMER_MAX {
                self.former.insert(key.0);
            }
            self.v4.remove(&key)
        };
        changed.then_some(key.0)
    }

    /// Has `source` among those of a link and family, or not; whether that is new.
    fn source(&mut self, key: (u32, u8), source: Source, wanted: bool) -> bool {
        let sources = self.sources.entry(key).or_default();
        let found = sources.iter().position(|known| *known == source);
        match (found, wanted) {
            (None, true) => sources.push(source),
            (Some(at), false) => drop(sources.remove(at)),
            _ => return false,
        }
        true
    }

    /// Those that others may see the box by on a link.
    pub fn sources(&self, ifindex: u32, family: Family) -> Arc<[Source]> {
        let found = self.sources.get(&(ifindex, family as u8));
        found.map_or_else(Arc::default, |sources| sources.as_slice().into())
    }

    /// The links that have an IPv4 address.
    pub fn links_v4(&self) -> HashSet<u32> {
        self.v4.iter().map(|&(_, ifindex, _)| ifindex).collect()
    }

    /// Whether `addr` is, or was, an IPv4 address of the box.
    pub fn is_or_was_own(&self, addr: Addr) -> bool {
        let every = (addr, 0, 0)..=(addr, u32::MAX, u8::MAX);
        self.former.contains(&addr) || self.v4.range(every).next().is_some()
    }

    /// Has the addresses of `other` from now on; those of IPv4 that differ, and whether those do that others see.
    pub fn become_like(&mut self, other: Addresses) -> (Vec<Addr>, bool) {
        let differ: Vec<Addr> = self
            .v4
            .symmetric_difference(&other.v4)
            .map(|&(addr, _, _)| addr)
            .collect();
        let gone = self.v4.difference(&other.v4).map(|&(addr, _, _)| addr);
        self.former
            .extend(gone.take(FORMER_MAX.saturating_sub(self.former.len())));
        self.v4 = other.v4;
        let sources = self.sources != other.sources;
        self.sources = other.sources;
        (differ, sources)
    }

    /// Every IPv4 address.
    pub fn own_v4(&self) -> Arc<Addrs> {
        Arc::new(self.v4.iter().map(|&(addr, _, _)| addr).collect())
    }
}

/// Whether an address may be a source: of global scope (0), IPv4 primary, IPv6 usable and preferred. IFA_F_SECONDARY is the
/// same bit as IFA_F_TEMPORARY, which the kernel prefers or not by a sysctl.
fn is_source(family: Family, scope: u8, flags: u32) -> bool {
    const SECONDARY: u32 = 0x01;
    const DADFAILED: u32 = 0x08;
    const DEPRECATED: u32 = 0x20;
    const TENTATIVE: u32 = 0x40;
    let unfit = match family {
        Family::V4 => SECONDARY,
        Family::V6 => DADFAILED | DEPRECATED | TENTATIVE,
    };
    scope == 0 && flags & unfit == 0
}
