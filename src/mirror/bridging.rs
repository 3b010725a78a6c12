//! From what mirror knows of bridges to the [`Bridge`] and [`BridgePort`] of a snapshot's links, with what of them is left to
//! the kernel. `publish` calls it; see the head of `table::bridge` for what the parts are.
//!
//! A port of a bridge is left for bridging where something stands on it (guard), where it or its bridge is set to something
//! that is not carried (`bridge`), a VLAN is not just forwarding (`vlans`), or a card takes tags off before they are seen. As an interface of IP it is always left: IP
//! arrives by the bridge, whose link has families of its own.
//!
//! Where connections are tracked, IP by a bridge some of whose ports are the kernel's is left both ways: replies may come by
//! those. So it is where a port has a tag on what is the bridge's own without one. A port that joins, and will be one of ours, does not leave the others' connections: it has [`GRACE`] for that. Until
//! then the bridge is like a router that has another link: what the kernel began is known by its events.

use super::link::Link;
use super::state::State;
use crate::packet::Family;
use crate::table::bridge::{Bridge, BridgePort};
use crate::table::iface::Left;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a port that joins a bridge may take to be one of ours.
const GRACE: Duration = Duration::from_secs(1);

/// What is told of a bridge by its ports.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// A port that is up, and not one of ours or left as such.
    stranger: Left,
    /// One that is not just joining.
    settled_stranger: Left,
    /// Some port has `neigh_suppress`.
    neigh_suppress: bool,
}

/// Ports of bridges that are not ours.
#[derive(Clone, Debug, Default)]
pub struct Strangers {
    /// The bridges that have been seen.
    bridges: HashSet<u32>,
    /// By ifindex, those that are there: since when, if they have joined a bridge that had been seen before.
    ports: HashMap<u32, Option<Instant>>,
}

impl State {
    /// Notes which ports of bridges are not ours, and since when.
    pub(super) fn note_strangers(&mut self) {
        let before = std::mem::take(&mut self.strangers);
        for link in self.world.links.iter().filter(|link| link.bridge_port.is_some()) {
            let (ifindex, bridge) = (link.info.ifindex, link.info.master);
            self.strangers.bridges.insert(bridge);
            if self.ports.contains_key(&ifindex) || !link.info.is_admin_up() {
                continue;
            }
            let new = || before.bridges.contains(&bridge).then(Instant::now);
            let since = before.ports.get(&ifindex).copied().unwrap_or_else(new);
            self.strangers.ports.insert(ifindex, since);
        }
    }

    /// Whether somebody's grace has just ended: then links are to be published anew.
    pub(super) fn poll_strangers(&mut self) -> bool {
        let mut ended = false;
        for since in self.strangers.ports.values_mut() {
            if since.is_some_and(|since| since.elapsed() >= GRACE) {
                *since = None;
                ended = true;
            }
        }
        ended
    }

    /// What is told of each bridge by its ports, by the bridge's ifindex.
    pub(super) fn members(&self) -> HashMap<u32, Members> {
        let mut all: HashMap<u32, Members> = HashMap::new();
        for link in self.world.links.iter() {
            let Some(port) = self.bridge_port(link) else { continue };
            let members = all.entry(link.info.master).or_default();
            members.neigh_suppress |= link.bridge_port.as_ref().is_some_and(|conf| conf.neigh_suppress);
            let is_ours = self.ports.contains_key(&link.info.ifindex);
            if !link.info.is_admin_up() || is_ours && port.left.is_none() && port.left_egress.is_none() {
                continue;
            }
            let why: Arc<str> = format!("port {} of the bridge is the kernel's", link.info.name).into();
            let is_joining = self
                .strangers
                .ports
                .get(&link.info.ifindex)
                .is_some_and(Option::is_some);
            if !is_joining {
                members.settled_stranger.get_or_insert_with(|| why.clone());
            }
            members.stranger.get_or_insert(why);
        }
        all
    }

    /// The bridge that `link` is.
    pub(super) fn bridge(&self, link: &Link, members: &HashMap<u32, Members>) -> Option<Bridge> {
        let conf = link.bridge.as_ref()?;
        let globals = &self.sysctls.globals;
        let sysctls = [globals.nf_call_iptables, globals.nf_call_ip6tables];
        let members = members.get(&link.info.ifindex);
        let vlans = || self.vlans.get(&link.info.ifindex).cloned().unwrap_or_default().vlans;
        Some(Bridge {
            fdb: self.fdbs.get(link.info.ifindex).cloned().unwrap_or_default(),
            vlans: conf.vlan_filtering.then(vlans),
            vlan_protocol: conf.vlan_protocol,
            nf_call: Family::ALL.map(|family| conf.nf_call[family as usize] || sysctls[family as usize] != 0),
            ageing_time: conf.ageing_time,
            neigh_suppress: members.is_some_and(|members| members.neigh_suppress),
            left: self.bridge_left(link),
        })
    }

    /// What `link` is as a port of a bridge.
    pub(super) fn bridge_port(&self, link: &Link) -> Option<BridgePort> {
        let conf = link.bridge_port.as_ref()?;
        let bridge = self.world.links.get(link.info.master)?;
        let filters = bridge.bridge.as_ref()?.vlan_filtering;
        let vlans = self.vlans.get(&link.info.ifindex).filter(|_| filters);
        let found = self.findings.links.get(&link.info.ifindex);
        let (ingress, egress) = found.map(|found| found.bridging.clone()).unwrap_or_default();
        let both = || {
            let of_vlans = || match vlans {
                Some(vlans) => vlans.left.clone(),
                // One that has none at all is told, too.
                None => filters.then(|| "its VLANs are not known yet".into()),
            };
            self.bridge_left(bridge).or_else(of_vlans)
        };
        let strips_tags = || {
            let why = || format!("VLAN tags are taken off: `ethtool -K {} rxvlan off`", link.info.name);
            link.strips_tags.then(|| why().into())
        };
        Some(BridgePort {
            bridge: bridge.index?,
            forwarding: conf.is_forwarding(),
            learning: conf.learning,
            isolated: conf.isolated,
            hairpin: conf.hairpin,
            locked: conf.locked,
            mab: conf.mab,
            vlans: vlans.cloned().unwrap_or_default().vlans,
            left: ingress.or_else(|| conf.left.clone()).or_else(strips_tags).or_else(both),
            left_egress: egress.or_else(|| conf.left_egress.clone()).or_else(both),
        })
    }

    /// Why all traffic of a bridge is left.
    fn bridge_left(&self, bridge: &Link) -> Left {
        let conf = bridge.bridge.as_ref()?;
        let globals = &self.sysctls.globals;
        let calls = conf.nf_call != [false; 2] || globals.nf_call_iptables != 0 || globals.nf_call_ip6tables != 0;
        let sysctls = [
            (globals.nf_filter_vlan, "net.bridge.bridge-nf-filter-vlan-tagged is set"),
            (
                globals.nf_filter_pppoe,
                "net.bridge.bridge-nf-filter-pppoe-tagged is set",
            ),
        ];
        let sysctl = || {
            sysctls
                .iter()
                .find(|(value, _)| calls && *value != 0)
                .map(|found| found.1.into())
        };
        let vlans = || {
            let vlans = self.vlans.get(&bridge.info.ifindex).filter(|_| conf.vlan_filtering);
            vlans.and_then(|vlans| vlans.left.clone())
        };
        // It gets a copy of every frame then (br_handle_frame_finish), which somebody looks at.
        let promiscuous = || {
            let found = self.findings.links.get(&bridge.info.ifindex);
            let stands = found.is_some_and(|found| found.family.iter().any(|(ingress, _)| ingress.is_some()));
            (bridge.info.promiscuous && stands).then(|| "it is promiscuous, and something stands on it".into())
        };
        conf.left.clone().or_else(sysctl).or_else(vlans).or_else(promiscuous)
    }

    /// What leaves IP of `family` by the bridge `link`, because of its ports.
    pub(super) fn left_to_members(&self, link: &Link, family: Family, members: &HashMap<u32, Members>) -> Left {
        if !self.findings.tracked[family as usize] {
            return None;
        }
        let members = members.get(&link.info.ifindex)?;
        members.settled_stranger.clone().or_else(|| self.trunk(link))
    }

    /// A port by which IP by the bridge comes and goes with a tag: what comes so steer gives to the kernel.
    fn trunk(&self, bridge: &Link) -> Left {
        let filters = bridge.bridge.as_ref()?.vlan_filtering;
        let up = self.vlans.get(&bridge.info.ifindex).filter(|_| filters)?;
        let mut ports = self
            .world
            .links
            .iter()
            .filter(|link| link.info.master == bridge.info.ifindex && link.info.is_admin_up());
        ports.find_map(|port| {
            let vid = self.vlans.get(&port.info.ifindex)?.vlans.tagged_here(&up.vlans)?;
            let (port, bridge) = (&port.info.name, &bridge.info.name);
            Some(format!("port {port} has a tag on VLAN {vid}, which is {bridge}'s without one").into())
        })
    }

    /// Whether all of a bridge, as far as it is up, is ours, and none of it left.
    pub(super) fn is_whole(&self, bridge: &Link, members: &HashMap<u32, Members>) -> bool {
        let members = members.get(&bridge.info.ifindex);
        self.bridge_left(bridge).is_none() && members.is_some_and(|members| members.stranger.is_none())
    }
}

/// Why a port of a bridge is left as an interface of IP: what arrives there arrives by the bridge.
pub(super) fn member_of(master: &Link) -> Arc<str> {
    format!("member of {}", master.info.name).into()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{bridge, message, port};
    use super::super::vlans::OfLink;
    use super::*;
    use crate::packet::PortIndex;

    const PORT: u32 = 3;

    fn told(state: &mut State, link: &[u8]) {
        state.event(message(libc::RTM_NEWLINK, link));
    }

    fn left(state: &State) -> [Left; 2] {
        let port = state.bridge_port(state.world.links.get(PORT).unwrap()).unwrap();
        [port.left, port.left_egress]
    }

    #[test]
    fn a_port_whose_vlans_are_not_known_is_left_while_its_bridge_filters_them() {
        let mut state = State::new().unwrap();
        told(&mut state, &bridge(9, false));
        told(&mut state, &bridge(10, true));
        told(&mut state, &port(PORT, 9));
        assert!(state.wanted.vlans);
        assert_eq!(left(&state), [None, None]);
        told(&mut state, &bridge(9, true));
        let unknown: Left = Some("its VLANs are not known yet".into());
        assert_eq!(left(&state), [unknown.clone(), unknown.clone()]);
        // It may have none.
        state.vlans.insert(PORT, OfLink::default());
        assert_eq!(left(&state), [None, None]);
        // Those of another bridge are others.
        told(&mut state, &port(PORT, 10));
        assert_eq!(left(&state), [unknown.clone(), unknown]);
    }

    #[test]
    fn ip_by_a_bridge_with_a_trunk_for_its_own_vlan_is_left_where_connections_are_tracked() {
        let mut state = State::new().unwrap();
        told(&mut state, &bridge(9, true));
        told(&mut state, &port(PORT, 9));
        let of = |vlans: &[(u16, bool)]| {
            let mut of = OfLink::default();
            vlans.iter().for_each(|&(vid, untagged)| of.vlans.insert(vid, untagged));
            of
        };
        state.vlans.insert(9, of(&[(10, true), (20, false)]));
        state.ports.insert(PORT, PortIndex(0));
        let left = |state: &State| {
            let bridge = state.world.links.get(9).unwrap();
            state.left_to_members(bridge, Family::V4, &state.members())
        };
        for tracked in [false, true] {
            state.findings.tracked = [tracked, false];
            state.vlans.insert(PORT, of(&[(10, true), (20, false), (30, false)]));
            assert_eq!(left(&state), None, "tracked {tracked}");
            state.vlans.insert(PORT, of(&[(10, false)]));
            assert_eq!(left(&state).is_some(), tracked);
        }
    }
}
