//! The resolved neighbours: who has which address on which link. ARP and ND are the kernel's; an entry is here while the
//! kernel's own is usable (REACHABLE, STALE, DELAY, PROBE, PERMANENT, NOARP), so a miss means "punt, the kernel resolves".
//!
//! ```text
//!  links: by IfaceIndex --> by Family --> hash table: address -> Ethernet address
//! ```
//!
//! Bounded by the kernel's own table (`gc_thresh3`). The tables are shared with clones until they are changed; the first
//! change after a clone copies the table of its link and family, and the short list of links. The hash is seeded.

use super::iface::IfaceIndex;
use crate::packet::{Addr, Family};
use hashbrown::HashMap;
use std::sync::Arc;

/// The neighbours on one link, of one family.
type Table = HashMap<Addr, [u8; 6], foldhash::fast::RandomState>;

/// All usable neighbours. Cloning shares the tables.
#[derive(Clone, Debug, Default)]
pub struct Neighbors {
    links: Arc<Vec<[Arc<Table>; 2]>>,
}

impl Neighbors {
    /// The Ethernet address of `addr` on `iface`.
    #[inline]
    pub fn lookup(&self, iface: IfaceIndex, family: Family, addr: Addr) -> Option<&[u8; 6]> {
        self.links.get(usize::from(iface.0))?[family as usize].get(&addr)
    }

    /// Enters or replaces a neighbour.
    pub fn insert(&mut self, iface: IfaceIndex, family: Family, addr: Addr, mac: [u8; 6]) {
        let links = Arc::make_mut(&mut self.links);
        let at = usize::from(iface.0);
        if links.len() <= at {
            links.resize_with(at + 1, Default::default);
        }
        Arc::make_mut(&mut links[at][family as usize]).insert(addr, mac);
    }

    /// Removes a neighbour; whether it was there.
    pub fn remove(&mut self, iface: IfaceIndex, family: Family, addr: Addr) -> bool {
        if self.lookup(iface, family, addr).is_none() {
            return false;
        }
        let links = Arc::make_mut(&mut self.links);
        Arc::make_mut(&mut links[usize::from(iface.0)][family as usize])
            .remove(&addr)
            .is_some()
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
        self.links.iter().zip(0..).flat_map(|(link, iface)| {
            Family::ALL.into_iter().flat_map(move |family| {
                link[family as usize]
                    .iter()
                    .map(move |(&addr, &mac)| (IfaceIndex(iface), family, addr, mac))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

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
