//! Addresses of the box: RTM_NEWADDR and RTM_DELADDR. IPv4 addresses may be no source of a forwarded packet
//! (inet_lookup_ifaddr_rcu); IPv6 has only its local routes for that. A change of an IPv4 address may flush routes silently
//! (fib_sync_down_addr), or bring dead nexthops back (fib_sync_up).

use super::netlink::{Message, as_addr, family, u32_at};
use crate::packet::{Addr, Family};
use hashbrown::HashSet;
use std::collections::BTreeSet;
use std::sync::Arc;

const HEADER: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// The IPv4 addresses of the namespace, each with its link and prefix length.
#[derive(Debug, Default)]
pub struct Addresses {
    v4: BTreeSet<(Addr, u32, u8)>,
}

/// A set as the snapshot has it.
pub type AddrSet = HashSet<Addr, foldhash::fast::RandomState>;

impl Addresses {
    /// Takes in RTM_NEWADDR or RTM_DELADDR; whether an IPv4 address came or went.
    pub fn apply(&mut self, message: Message<'_>) -> bool {
        let Some((header, attributes)) = message.split(HEADER) else {
            return false;
        };
        if family(header[0]) != Some(Family::V4) {
            return false;
        }
        let (mut address, mut local) = (None, None);
        for (kind, value) in attributes {
            match kind {
                IFA_ADDRESS => address = as_addr(value),
                IFA_LOCAL => local = as_addr(value),
                _ => {}
            }
        }
        // On a point-to-point link IFA_ADDRESS is the peer's.
        let Some((_, addr)) = local.or(address) else {
            return false;
        };
        let key = (addr, u32_at(header, 4).unwrap_or_default(), header[1]);
        if message.kind == libc::RTM_NEWADDR {
            self.v4.insert(key)
        } else {
            self.v4.remove(&key)
        }
    }

    /// Every IPv4 address.
    pub fn own_v4(&self) -> Arc<AddrSet> {
        Arc::new(self.v4.iter().map(|&(addr, _, _)| addr).collect())
    }
}
