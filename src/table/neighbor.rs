//! The resolved neighbours: who has which address on which link. ARP and ND are the kernel's; an entry is here while the
//! kernel's own is usable (REACHABLE, STALE, DELAY, PROBE, PERMANENT, NOARP), so a miss means "punt, the kernel resolves".
//!
//! ```text
//!  links: by IfaceIndex --> by Family --> hash table: address -> Ethernet address
//! ```
//!
//! One that the kernel has called STALE is used as any other, but whoever does so leaves a mark ([`Neighbors::resolve`]): the kernel
//! asks such a neighbour whether it is still there as soon as it sends by it, and must be told of it here (`mirror::stale`).
//!
//! Bounded by the kernel's own table (`gc_thresh3`). The tables are shared with clones until they are changed; the first
//! change after a clone copies the table of its link and family, and the short list of links. The hash is seeded.

use super::iface::IfaceIndex;
use crate::packet::{Addr, Family};
use hashbrown::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A neighbour.
#[derive(Clone, Debug)]
struct Entry {
    mac: [u8; 6],
    /// Of a STALE one, whether it was used since that was last asked. Shared with clones.
    used: Option<Arc<AtomicBool>>,
}

/// The neighbours on one link, of one family.
type Table = HashMap<Addr, Entry, foldhash::fast::RandomState>;

/// All usable neighbours. Cloning shares the tables.
#[derive(Clone, Debug, Default)]
pub struct Neighbors {
    links: Arc<Vec<[Arc<Table>; 2]>>,
}

impl Neighbors {
    /// The Ethernet address of `addr` on `iface`.
    #[inline]
    pub fn lookup(&self, iface: IfaceIndex, family: Family, addr: Addr) -> Option<&[u8; 6]> {
        self.entry(iface, family, addr).map(|entry| &entry.mac)
    }

    /// The same for somebody who sends by it.
    #[inline]
    pub fn resolve(&self, iface: IfaceIndex, family: Family, addr: Addr) -> Option<&[u8; 6]> {
        let entry = self.entry(iface, family, addr)?;
        if let Some(used) = &entry.used {
            used.store(true, Relaxed);
        }
        Some(&entry.mac)
    }

    #[inline]
    fn entry(&self, iface: IfaceIndex, family: Family, addr: Addr) -> Option<&Entry> {
        self.links.get(usize::from(iface.0))?[family as usize].get(&addr)
    }

    fn table(&mut self, iface: IfaceIndex, family: Family) -> &mut Table {
        let links = Arc::make_mut(&mut self.links);
        let at = usize::from(iface.0);
        if links.len() <= at {
            links.resize_with(at + 1, Default::default);
        }
        Arc::make_mut(&mut links[at][family as usize])
    }

    /// Enters or replaces a neighbour, one that is not STALE.
    pub fn insert(&mut self, iface: IfaceIndex, family: Family, addr: Addr, mac: [u8; 6]) {
        self.table(iface, family).insert(addr, Entry { mac, used: None });
    }

    /// Says that a neighbour is STALE, or is no more; whether it has become so.
    pub fn set_stale(&mut self, iface: IfaceIndex, family: Family, addr: Addr, stale: bool) -> bool {
        match self.entry(iface, family, addr) {
            Some(entry) if entry.used.is_some() != stale => {}
            _ => return false,
        }
        if let Some(entry) = self.table(iface, family).get_mut(&addr) {
            entry.used = stale.then(Arc::default);
        }
        stale
    }

    /// The STALE ones that were used since the last call.
    pub fn take_used(&self) -> Vec<(IfaceIndex, Family, Addr)> {
        let is_used = |entry: &Entry| entry.used.as_ref().is_some_and(|used| used.swap(false, Relaxed));
        let used = self.entries().filter(|(.., entry)| is_used(entry));
        used.map(|(iface, family, addr, _)| (iface, family, addr)).collect()
    }

    /// Removes a neighbour; whether it was there.
    pub fn remove(&mut self, iface: IfaceIndex, family: Family, addr: Addr) -> bool {
        if self.lookup(iface, family, addr).is_none() {
            return false;
        }
        self.table(iface, family).remove(&addr).is_some()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.links.iter().flatten().map(|table| table.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (IfaceIndex, Family, Addr, [u8; 6])> + '_ {
        self.entries()
            .map(|(iface, family, addr, entry)| (iface, family, addr, entry.mac))
    }

    fn entries(&self) -> impl Iterator<Item = (IfaceIndex, Family, Addr, &Entry)> {
        self.links.iter().zip(0..).flat_map(|(link, iface)| {
            Family::ALL.into_iter().flat_map(move |family| {
                let table = link[family as usize].iter();
                table.map(move |(&addr, entry)| (IfaceIndex(iface), family, addr, entry))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_stale_one_that_is_used_is_told_once() {
        let (place, mac) = ((IfaceIndex(1), Family::V6, 7), [2; 6]);
        let (iface, family, addr) = place;
        let mut neighbors = Neighbors::default();
        assert!(!neighbors.set_stale(iface, family, addr, true), "there is none");
        neighbors.insert(iface, family, addr, mac);
        assert_eq!(neighbors.resolve(iface, family, addr), Some(&mac));
        assert_eq!(neighbors.take_used(), []);
        assert!(neighbors.set_stale(iface, family, addr, true));
        let published = neighbors.clone();
        assert_eq!(published.lookup(iface, family, addr), Some(&mac));
        assert_eq!(neighbors.take_used(), [], "nobody sent by it");
        published.resolve(iface, family, addr);
        assert!(!neighbors.set_stale(iface, family, addr, true), "it has been so");
        assert_eq!(neighbors.take_used(), [place]);
        assert_eq!(neighbors.take_used(), []);
        published.resolve(iface, family, addr);
        assert!(!neighbors.set_stale(iface, family, addr, false));
        assert_eq!(neighbors.take_used(), [], "it has answered");
    }

    proptest! {
        #[test]
        fn lookups_are_those_of_a_plain_map(
            changes in prop::collection::vec((any::<bool>(), 0u16..4, 0usize..2, 0u128..8, any::<[u8; 6]>()), 0..100),
        ) {
            let mut neighbors = Neighbors::default();
            let mut plain = BTreeMap::new();
            let mut clones = Vec::new();
            for (insert, iface, family, addr, mac) in changes {
                clones.push((neighbors.clone(), plain.clone()));
                if insert {
                    neighbors.insert(IfaceIndex(iface), Family::ALL[family], addr, mac);
                    plain.insert((iface, family, addr), mac);
                } else {
                    let was = neighbors.remove(IfaceIndex(iface), Family::ALL[family], addr);
                    prop_assert_eq!(was, plain.remove(&(iface, family, addr)).is_some());
                }
            }
            clones.push((neighbors, plain));
            for (neighbors, plain) in clones {
                let all = neighbors.iter().map(|(iface, family, addr, mac)| ((iface.0, family as usize, addr), mac));
                prop_assert_eq!(&all.collect::<BTreeMap<_, _>>(), &plain);
                prop_assert_eq!((neighbors.len(), neighbors.is_empty()), (plain.len(), plain.is_empty()));
                for (iface, family, addr) in (0..4).flat_map(|i| (0..2).flat_map(move |f| (0..8).map(move |a| (i, f, a)))) {
                    let found = neighbors.lookup(IfaceIndex(iface), Family::ALL[family], addr);
                    prop_assert_eq!(found, plain.get(&(iface, family, addr)));
                }
            }
        }
    }
}
