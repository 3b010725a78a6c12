//! The resolved neighbours: who has which address on which link. ARP and ND are the kernel's; an entry is here while the
//! kernel's own is usable (REACHABLE, STALE, DELAY, PROBE, PERMANENT, NOARP), so a miss means "punt, the kernel resolves".
//!
//! Bounded by the kernel's own table (`gc_thresh3`). A change copies the table of its link: they are small and changes are
//! batched.

use super::iface::IfaceIndex;
use crate::packet::{Addr, Family};
use hashbrown::HashMap;
use std::sync::Arc;

/// A neighbour's key: link, family, address.
type Key = (IfaceIndex, Family, Addr);

/// All usable neighbours. Cloning shares the table.
#[derive(Clone, Debug, Default)]
pub struct Neighbors {
    table: Arc<HashMap<Key, [u8; 6], foldhash::fast::RandomState>>,
}

impl Neighbors {
    /// The Ethernet address of `addr` on `iface`.
    #[inline]
    pub fn lookup(&self, iface: IfaceIndex, family: Family, addr: Addr) -> Option<&[u8; 6]> {
        self.table.get(&(iface, family, addr))
    }

    /// Enters or replaces a neighbour.
    pub fn insert(&mut self, iface: IfaceIndex, family: Family, addr: Addr, mac: [u8; 6]) {
        Arc::make_mut(&mut self.table).insert((iface, family, addr), mac);
    }

    /// Removes a neighbour; whether it was there.
    pub fn remove(&mut self, iface: IfaceIndex, family: Family, addr: Addr) -> bool {
        self.table.contains_key(&(iface, family, addr))
            && Arc::make_mut(&mut self.table).remove(&(iface, family, addr)).is_some()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (IfaceIndex, Family, Addr, [u8; 6])> + '_ {
        self.table
            .iter()
            .map(|(&(iface, family, addr), &mac)| (iface, family, addr, mac))
    }
}
