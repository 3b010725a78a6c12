//! Which VLANs the ports of bridges take part in, and the bridges themselves: RTM_GETVLAN (linux/if_bridge.h), as
//! net/bridge/br_vlan.c (br_vlan_dump_dev).
//!
//! ```text
//!  br_vlan_msg 8 (family, ifindex) | BRIDGE_VLANDB_ENTRY | INFO: flags 2, vid 2 | RANGE: last vid | STATE | ..
//! ```
//!
//! Read whole whenever the kernel tells of a change of any (RTNLGRP_BRVLAN): that is rare, and the tables are small. Bounded
//! by 4094 VLANs per port. A kernel that cannot filter VLANs has none.

use super::netlink::{Attributes, Message, u16_at, u32_at};
use crate::table::bridge::{Vid, Vlans};
use crate::table::iface::Left;
use std::collections::HashMap;

/// RTM_NEWVLAN
pub const RTM_NEWVLAN: u16 = 112;
/// RTM_DELVLAN
pub const RTM_DELVLAN: u16 = 113;
/// RTM_GETVLAN
pub const RTM_GETVLAN: u16 = 114;

const HEADER: usize = 8;
const ENTRY: u16 = 1;
const INFO: u16 = 1;
const RANGE: u16 = 2;
const STATE: u16 = 3;
const PVID: u16 = 1 << 1;
const UNTAGGED: u16 = 1 << 2;
const BR_STATE_FORWARDING: u8 = 3;
const VID_MAX: Vid = 4094;

/// The VLANs of one link, and what leaves its frames to the kernel because of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfLink {
    /// The VLANs.
    pub vlans: Vlans,
    /// A VLAN that is not just forwarding.
    pub left: Left,
}

/// By ifindex.
pub type ByLink = HashMap<u32, OfLink>;

/// Enters what one message of a dump says.
pub fn apply(all: &mut ByLink, message: Message<'_>) {
    let Some((header, attributes)) = message.split(HEADER) else {
        return;
    };
    let Some(ifindex) = u32_at(header, 4).filter(|_| message.kind == RTM_NEWVLAN) else {
        return;
    };
    let of_link = all.entry(ifindex).or_default();
    for (_, entry) in attributes.filter(|&(kind, _)| kind == ENTRY) {
        of_link.enter(entry);
    }
}

impl OfLink {
    fn enter(&mut self, entry: &[u8]) {
        let (mut flags, mut first, mut last, mut state) = (0, 0, 0, BR_STATE_FORWARDING);
        for (kind, value) in Attributes(entry) {
            match kind {
                INFO => {
                    flags = u16_at(value, 0).unwrap_or_default();
                    first = u16_at(value, 2).unwrap_or_default();
                    last = last.max(first);
                }
                RANGE => last = u16_at(value, 0).unwrap_or_default(),
                STATE => state = value.first().copied().unwrap_or_default(),
                _ => {}
            }
        }
        if !(1..=VID_MAX).contains(&first) {
            return;
        }
        for vid in first..=last.min(VID_MAX) {
            self.vlans.insert(vid, flags & UNTAGGED != 0);
        }
        if flags & PVID != 0 {
            self.vlans.pvid = first;
        }
        if state != BR_STATE_FORWARDING {
            self.left
                .get_or_insert_with(|| format!("VLAN {first} is not in state forwarding").into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::attribute;
    use super::*;

    fn entry(flags: u16, vid: u16, more: &[(u16, &[u8])]) -> Vec<u8> {
        let mut nest = attribute(INFO, &[flags.to_ne_bytes(), vid.to_ne_bytes()].concat());
        for (kind, value) in more {
            nest.extend(attribute(*kind, value));
        }
        attribute(ENTRY, &nest)
    }

    fn read(entries: &[Vec<u8>]) -> OfLink {
        let mut payload = vec![7, 0, 0, 0];
        payload.extend_from_slice(&9u32.to_ne_bytes());
        payload.extend(entries.concat());
        let mut all = ByLink::new();
        let message = Message {
            kind: RTM_NEWVLAN,
            flags: 0,
            payload: &payload,
        };
        apply(&mut all, message);
        all.remove(&9).unwrap()
    }

    #[test]
    fn ranges_pvid_and_tags() {
        let link = read(&[
            entry(PVID | UNTAGGED, 1, &[(STATE, &[3])]),
            entry(0, 10, &[(RANGE, &12u16.to_ne_bytes()), (STATE, &[3])]),
        ]);
        let all: Vec<_> = link.vlans.iter().collect();
        assert_eq!(all, [(1, true), (10, false), (11, false), (12, false)]);
        assert_eq!((link.vlans.pvid, link.left), (1, None));
    }

    #[test]
    fn a_vlan_in_another_state_leaves_the_link() {
        let link = read(&[entry(0, 5, &[(STATE, &[4])])]);
        assert_eq!(link.left.as_deref(), Some("VLAN 5 is not in state forwarding"));
    }

    #[test]
    fn numbers_that_are_none_are_passed_over() {
        let link = read(&[
            entry(0, 0, &[]),
            entry(0, 4095, &[(RANGE, &65535u16.to_ne_bytes())]),
            entry(0, 4094, &[(RANGE, &65535u16.to_ne_bytes())]),
        ]);
        assert_eq!(link.vlans.iter().collect::<Vec<_>>(), [(4094, false)]);
    }
}
