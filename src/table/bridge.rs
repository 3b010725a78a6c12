//! Bridges, as far as a frame between their ports asks about them. The kernel's bridge is the only one that learns, floods,
//! snoops and ages; this is what it decided (net/bridge/br_private.h: `net_bridge`, `net_bridge_port`, `net_bridge_vlan`).
//!
//! ```text
//!  Iface of a port ---> BridgePort { bridge, flags, vlans } --- bridge: IfaceIndex ---> Iface of the bridge ---> Bridge { fdb, .. }
//! ```
//!
//! Both lie in the [`Snapshot`](super::Snapshot), immutable; but the entries of an [`Fdb`] come and go between snapshots.
//! Bounded by the ports of the kernel's bridge (1024) and its VLANs (4094).

use super::fdb::Fdb;
use super::iface::{IfaceIndex, Left};
use std::sync::Arc;

/// A VLAN's number, 1 to 4094; 0 where a bridge does not filter VLANs.
pub type Vid = u16;

/// A bridge.
#[derive(Clone, Debug, Default)]
pub struct Bridge {
    /// What it learned, or was told.
    pub fdb: Arc<Fdb>,
    /// Where it filters VLANs (`vlan_filtering 1`), which ones it takes part in itself, as a port of its own.
    pub vlans: Option<Vlans>,
    /// The EtherType of its tags (`vlan_protocol`): 0x8100 or 0x88a8.
    pub vlan_protocol: u16,
    /// Bridged packets of a [`Family`](crate::packet::Family) pass the hooks of IP, too: `bridge-nf-call-iptables`,
    /// `bridge-nf-call-ip6tables`, or the bridge's own `nf_call_iptables`, `nf_call_ip6tables`.
    pub nf_call: [bool; 2],
    /// In 100ths of a second, how long an entry lives that no frame renews; 0: the bridge learns nothing.
    pub ageing_time: u32,
    /// Some port has `neigh_suppress`: the bridge may answer a neighbour solicitation, or keep it from where it is addressed
    /// to, so that unicast ones and advertisements (ICMPv6 135 and 136, no extension header) stay with the kernel.
    pub neigh_suppress: bool,
    /// All its traffic stays with the kernel; so says every port of it.
    pub left: Left,
}

/// A link as a port of a bridge.
#[derive(Clone, Debug, Default)]
pub struct BridgePort {
    /// The bridge.
    pub bridge: IfaceIndex,
    /// STP lets frames through (`state forwarding`).
    pub forwarding: bool,
    /// Sources of arriving frames are learned.
    pub learning: bool,
    /// No frame goes from here to another isolated port.
    pub isolated: bool,
    /// A frame may leave by the port it came in on.
    pub hairpin: bool,
    /// Only frames of known sources get in.
    pub locked: bool,
    /// ... and others are entered, as not let in (`mab`).
    pub mab: bool,
    /// Where the bridge filters VLANs, the port's.
    pub vlans: Vlans,
    /// Frames that arrive here stay with the kernel.
    pub left: Left,
    /// Frames that would leave here stay with the kernel.
    pub left_egress: Left,
}

/// The VLANs of a port, or of a bridge as a port of its own (`net_bridge_vlan_group`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vlans {
    /// The VLAN of untagged frames; 0: they are not let in.
    pub pvid: Vid,
    /// By VLAN, those that may pass.
    member: Bits,
    /// By VLAN, those whose frames leave without a tag.
    untagged: Bits,
}

impl Vlans {
    /// Takes part in `vid`; frames leave `untagged` or with a tag. Numbers beyond 4095 are ignored.
    pub fn insert(&mut self, vid: Vid, untagged: bool) {
        self.member.set(vid, true);
        self.untagged.set(vid, untagged);
    }

    /// Whether frames of `vid` may pass.
    #[inline]
    pub fn contains(&self, vid: Vid) -> bool {
        self.member.get(vid)
    }

    /// Whether frames of `vid` leave without a tag.
    #[inline]
    pub fn is_untagged(&self, vid: Vid) -> bool {
        self.untagged.get(vid)
    }

    /// The first VLAN of both whose frames leave here with a tag and there without.
    pub fn tagged_here(&self, there: &Vlans) -> Option<Vid> {
        let untagged = there.iter().filter(|&(_, untagged)| untagged);
        let mut common = untagged.filter(|&(vid, _)| self.contains(vid) && !self.is_untagged(vid));
        common.next().map(|(vid, _)| vid)
    }

    /// Every VLAN, in order, and whether its frames leave without a tag.
    pub fn iter(&self) -> impl Iterator<Item = (Vid, bool)> + '_ {
        (0..4096)
            .filter(|&vid| self.contains(vid))
            .map(|vid| (vid, self.is_untagged(vid)))
    }
}

/// A bit per VLAN.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bits([u64; 64]);

impl Default for Bits {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl Bits {
    fn set(&mut self, vid: Vid, on: bool) {
        if let Some(word) = self.0.get_mut(usize::from(vid / 64)) {
            *word = *word & !(1 << (vid % 64)) | u64::from(on) << (vid % 64);
        }
    }

    #[inline]
    fn get(&self, vid: Vid) -> bool {
        self.0
            .get(usize::from(vid / 64))
            .is_some_and(|word| word >> (vid % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlans_are_what_was_inserted() {
        let mut vlans = Vlans::default();
        for (vid, untagged) in [(1, true), (64, false), (4094, true), (64, true), (5000, true)] {
            vlans.insert(vid, untagged);
        }
        assert_eq!(vlans.iter().collect::<Vec<_>>(), [(1, true), (64, true), (4094, true)]);
        assert!(!vlans.contains(5000) && !vlans.is_untagged(63));
        let mut trunk = Vlans::default();
        trunk.insert(2, false);
        trunk.insert(64, true);
        assert_eq!(trunk.tagged_here(&vlans), None);
        trunk.insert(64, false);
        assert_eq!((trunk.tagged_here(&vlans), vlans.tagged_here(&trunk)), (Some(64), None));
    }
}
