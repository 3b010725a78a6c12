//! From what mirror knows of bridges to the [`Bridge`] and [`BridgePort`] of a snapshot's links, with what of them is left to
//! the kernel. `publish` calls it; see the head of `table::bridge` for what the parts are.
//!
//! A port of a bridge is left for bridging where something stands on it (guard), where it or its bridge is set to something
//! that is not carried (`bridge`), or a VLAN is not just forwarding (`vlans`). As an interface of IP it is always left: IP
//! arrives by the bridge, whose link has families of its own.
//!
//! Where connections are tracked, IP by a bridge some of whose ports are the kernel's is left both ways: replies may come by
//! those. A port that joins, and will be one of ours, does not leave the others' connections: it has [`GRACE`] for that.

use super::link::Link;
use super::state::State;
use crate::packet::Family;
use crate::table::bridge::{Bridge, BridgePort};
use crate::table::iface::Left;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a bridge, all of whose ports were ours, may have another one before that counts.
const GRACE: Duration = Duration::from_secs(1);

/// What is told of a bridge by its ports.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// A port that is up, and not one of ours or left as such.
    pub stranger: Left,
    /// Some port has `neigh_suppress`.
    neigh_suppress: bool,
}

/// Since when bridges that were all ours have ports that are not, by ifindex; `None` while all are.
pub type Since = HashMap<u32, Option<Instant>>;

impl State {
    /// What is told of each bridge by its ports, by the bridge's ifindex.
    pub(super) fn members(&self) -> HashMap<u32, Members> {
        let mut all: HashMap<u32, Members> = HashMap::new();
        for link in self.world.links.iter() {
            let Some(port) = self.bridge_port(link) else { continue };
            let members = all.entry(link.info.master).or_default();
            members.neigh_suppress |= link.bridge_port.as_ref().is_some_and(|conf| conf.neigh_suppress);
            let is_ours = self.ports.contains_key(&link.info.ifindex);
            if link.info.is_admin_up() && !(is_ours && port.left.is_none() && port.left_egress.is_none()) {
                let why = || format!("port {} of the bridge is the kernel's", link.info.name).into();
                members.stranger.get_or_insert_with(why);
            }
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
            let of_vlans = || vlans.and_then(|vlans| vlans.left.clone());
            self.bridge_left(bridge).or_else(of_vlans)
        };
        Some(BridgePort {
            bridge: bridge.index?,
            forwarding: conf.is_forwarding(),
            learning: conf.learning,
            isolated: conf.isolated,
            hairpin: conf.hairpin,
            locked: conf.locked,
            vlans: vlans.cloned().unwrap_or_default().vlans,
            left: ingress.or_else(|| conf.left.clone()).or_else(both),
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
        conf.left.clone().or_else(sysctl).or_else(vlans)
    }

    /// What leaves IP of `family` by the bridge `link`, because of its ports.
    pub(super) fn left_to_members(&self, link: &Link, family: Family, members: &HashMap<u32, Members>) -> Left {
        let ifindex = link.info.ifindex;
        let stranger = members.get(&ifindex)?.stranger.clone()?;
        let is_joining = self
            .incomplete
            .get(&ifindex)
            .copied()
            .flatten()
            .is_some_and(|since| since.elapsed() < GRACE);
        (self.findings.tracked[family as usize] && !is_joining).then_some(stranger)
    }

    /// Notes which bridges have all their ports here, and since when those that had do not.
    pub(super) fn note_members(&mut self, members: &HashMap<u32, Members>) {
        let before = std::mem::take(&mut self.incomplete);
        for (&bridge, of_bridge) in members {
            match (&of_bridge.stranger, before.get(&bridge)) {
                (None, _) => self.incomplete.insert(bridge, None),
                (Some(_), Some(since)) => self.incomplete.insert(bridge, since.or_else(|| Some(Instant::now()))),
                (Some(_), None) => None,
            };
        }
    }

    /// Whether the grace of a bridge has just ended: then its links are to be published anew.
    pub(super) fn poll_members(&mut self) -> bool {
        let ended = |since: &Option<Instant>| since.is_some_and(|since| since.elapsed() >= GRACE);
        let before = self.incomplete.len();
        self.incomplete.retain(|_, since| !ended(since));
        self.incomplete.len() != before
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
