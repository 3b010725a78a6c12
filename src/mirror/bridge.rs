//! What bridges and their ports are set to: IFLA_INFO_DATA of a bridge's link; of a port's, IFLA_INFO_SLAVE_DATA in plain
//! messages and IFLA_PROTINFO in those of AF_BRIDGE, which are the same attributes. As net/bridge/br_netlink.c.
//!
//! ```text
//!  IFLA_LINKINFO | IFLA_INFO_KIND "bridge" | IFLA_INFO_DATA       | IFLA_BR_*     |     of the bridge
//!                | IFLA_INFO_SLAVE_KIND "bridge" | IFLA_INFO_SLAVE_DATA | IFLA_BRPORT_* | of a port
//! ```
//!
//! Not looked at is what touches only frames that the kernel carries anyway: group addresses, flooded frames, STP, ARP (flood,
//! mcast_flood, bcast_flood, mcast_router, mcast_to_unicast, fastleave, guard, root_block, proxy_arp, group_fwd_mask). What
//! touches others and is not carried leaves the port, or the bridge, and says why; so does what this code does not know.

use super::netlink::{Attributes, as_u32, u16_at, u32_at};
use crate::table::iface::Left;

/// The newest attributes that are known (Linux 6.18).
const IFLA_BRPORT_MAX: u16 = 44;
const IFLA_BR_MAX: u16 = 49;

/// BR_BOOLOPT_NO_LL_LEARN and BR_BOOLOPT_MCAST_VLAN_SNOOPING touch group addresses; BR_BOOLOPT_MDB_OFFLOAD_FAIL_NOTIFICATION
/// nothing.
const HARMLESS_OPTIONS: u32 = 1 << 0 | 1 << 1 | 1 << 3;

/// What a bridge is set to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeConf {
    /// vlan_filtering
    pub vlan_filtering: bool,
    /// vlan_protocol, in host order
    pub vlan_protocol: u16,
    /// ageing_time, in 100ths of a second
    pub ageing_time: u32,
    /// In 100ths of a second; with STP, entries live no longer while the topology changes.
    pub forward_delay: u32,
    /// stp_state: 0 off, 1 the kernel's, 2 a program's
    pub stp: u32,
    /// nf_call_iptables, nf_call_ip6tables
    pub nf_call: [bool; 2],
    /// What leaves all its traffic to the kernel.
    pub left: Left,
}

impl BridgeConf {
    /// Reads the attributes IFLA_BR_*.
    pub fn parse(data: &[u8]) -> Self {
        // A kernel that cannot filter VLANs does not say of which protocol they would be.
        let mut conf = Self {
            vlan_protocol: 0x8100,
            ..Self::default()
        };
        for (kind, value) in Attributes(data) {
            match kind {
                1 => conf.forward_delay = as_u32(value),
                4 => conf.ageing_time = as_u32(value),
                5 => conf.stp = as_u32(value),
                7 => conf.vlan_filtering = is_set(value),
                8 => conf.vlan_protocol = u16_at(value, 0).map_or(0, u16::from_be),
                36 => conf.nf_call[0] = is_set(value),
                37 => conf.nf_call[1] = is_set(value),
                46 => conf.left = conf.left.or_else(|| options(value)),
                // What is refreshed by hand does not count as learned any more.
                49 if is_set(value) => leave(&mut conf.left, "fdb_max_learned is set"),
                _ if kind > IFLA_BR_MAX && is_set(value) => {
                    conf.left
                        .get_or_insert_with(|| format!("bridge option {kind} is not known").into());
                }
                _ => {}
            }
        }
        conf
    }

    /// How long an entry lives that nobody renews, at least, in 100ths of a second.
    pub fn hold_time(&self) -> u32 {
        match self.stp {
            0 => self.ageing_time,
            _ => self.ageing_time.min(self.forward_delay),
        }
    }
}

/// `struct br_boolopt_multi`: values, and which of them are meant.
fn options(value: &[u8]) -> Left {
    let on = u32_at(value, 0)? & u32_at(value, 4)? & !HARMLESS_OPTIONS;
    match on {
        0 => None,
        _ if on & 1 << 2 != 0 => Some("mst_enabled: VLANs have states of their own".into()),
        _ if on & 1 << 4 != 0 => Some("fdb_local_vlan_0 is set".into()),
        _ => Some(format!("bridge options {on:#x} are not known").into()),
    }
}

/// What a port of a bridge is set to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortConf {
    /// BR_STATE_*: 3 is forwarding
    pub state: u8,
    /// learning
    pub learning: bool,
    /// isolated
    pub isolated: bool,
    /// hairpin
    pub hairpin: bool,
    /// locked
    pub locked: bool,
    /// mab
    pub mab: bool,
    /// neigh_suppress, neigh_vlan_suppress: the bridge answers, or does not flood, ARP and ND
    pub neigh_suppress: bool,
    /// What leaves all that arrives to the kernel.
    pub left: Left,
    /// What leaves all that would go out.
    pub left_egress: Left,
}

impl PortConf {
    /// Reads the attributes IFLA_BRPORT_*; `None` where they are not those of a port of the kernel's bridge, which always
    /// tells the state. (A card with a switch in it tells some of them, too.)
    pub fn parse(data: &[u8]) -> Option<Self> {
        let mut conf = Self::default();
        let mut is_port = false;
        for (kind, value) in Attributes(data) {
            match kind {
                1 => {
                    is_port = true;
                    conf.state = value.first().copied()?;
                }
                4 => conf.hairpin = is_set(value),
                8 => conf.learning = is_set(value),
                29 if is_set(value) => {
                    leave(&mut conf.left, "vlan_tunnel is on");
                    leave(&mut conf.left_egress, "vlan_tunnel is on");
                }
                32 | 43 => conf.neigh_suppress |= is_set(value),
                33 => conf.isolated = is_set(value),
                34 if is_set(value) => leave(&mut conf.left_egress, "backup_port is set"),
                39 => conf.locked = is_set(value),
                40 => conf.mab = is_set(value),
                44 if is_set(value) => leave(&mut conf.left_egress, "backup_nhid is set"),
                _ if kind > IFLA_BRPORT_MAX && is_set(value) => {
                    let why: Left = Some(format!("option {kind} of its bridge port is not known").into());
                    conf.left = conf.left.or_else(|| why.clone());
                    conf.left_egress = conf.left_egress.or(why);
                }
                _ => {}
            }
        }
        is_port.then_some(conf)
    }

    /// STP lets frames through.
    pub fn is_forwarding(&self) -> bool {
        const BR_STATE_FORWARDING: u8 = 3;
        self.state == BR_STATE_FORWARDING
    }
}

fn is_set(value: &[u8]) -> bool {
    value.iter().any(|&byte| byte != 0)
}

fn leave(left: &mut Left, why: &str) {
    left.get_or_insert_with(|| why.into());
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::attributes;
    use super::*;

    #[test]
    fn a_port_is_one_that_tells_its_state() {
        assert_eq!(PortConf::parse(&attributes(&[(8, &[1])])), None);
        let conf = PortConf::parse(&attributes(&[
            (1, &[3]),
            (4, &[0]),
            (8, &[1]),
            (33, &[1]),
            (31, &[1, 0]),
            (40, &[1]),
        ]))
        .unwrap();
        assert!(conf.is_forwarding() && conf.learning && conf.isolated && !conf.hairpin && conf.left.is_none());
        assert!(conf.mab && !conf.locked);
    }

    #[test]
    fn what_is_not_carried_or_not_known_leaves() {
        let port = |kind, value: &[u8]| {
            let conf = PortConf::parse(&attributes(&[(1, &[3]), (kind, value)])).unwrap();
            (conf.left.is_some(), conf.left_egress.is_some())
        };
        assert_eq!(port(29, &[1]), (true, true));
        assert_eq!(port(34, &[7, 0, 0, 0]), (false, true));
        assert_eq!(port(45, &[0]), (false, false));
        assert_eq!(port(45, &[0, 1]), (true, true));
        let bridge = |kind, value: &[u8]| BridgeConf::parse(&attributes(&[(kind, value)])).left.is_some();
        assert!(bridge(49, &[5, 0, 0, 0]) && !bridge(48, &[5, 0, 0, 0]));
        assert!(!bridge(50, &[0]) && bridge(50, &[1]));
        let options = |on: u32| [on.to_ne_bytes(), 0x1fu32.to_ne_bytes()].concat();
        assert!(!bridge(46, &options(0b1011)) && bridge(46, &options(0b100)) && bridge(46, &options(0b10000)));
    }

    #[test]
    fn entries_live_shorter_while_stp_changes_the_topology() {
        let mut conf = BridgeConf::parse(&attributes(&[
            (1, &1500u32.to_ne_bytes()),
            (4, &30000u32.to_ne_bytes()),
            (8, &0x88a8u16.to_be_bytes()),
        ]));
        assert_eq!((conf.hold_time(), conf.vlan_protocol), (30000, 0x88a8));
        conf.stp = 1;
        assert_eq!(conf.hold_time(), 1500);
    }
}
