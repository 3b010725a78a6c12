//! From what mirror knows to the [`Snapshot`](crate::table::Snapshot): only the parts that changed are built anew, the others
//! are shared with the snapshot before. What sysctls mean together (`all` and the link's own) is decided here, as the macros of
//! include/linux/inetdevice.h and the code of net/ipv6/ip6_output.c have it.

use super::PUNT_DEVICE;
use super::bridging::{Members, member_of};
use super::link::Link;
use super::resolve::Policy;
use super::state::State;
use crate::packet::{Addr, Family};
use crate::table::conntrack;
use crate::table::fib::{Fib, Prefix, Route, table_name};
use crate::table::iface::{Iface, IfaceFamily, Left, RpFilter};
use std::collections::HashMap;
use std::sync::Arc;

/// The longest IPv4 packet (IP_MAX_MTU).
const IP_MAX_MTU: u32 = 0xffff;

/// Parts of the snapshot that are older than what is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stale {
    pub ifaces: bool,
    pub routes: bool,
    pub rules: bool,
    pub neighbors: bool,
    pub addresses: bool,
    pub choice: bool,
    pub conntrack: bool,
    /// Something that shared tables say, not the snapshot itself.
    pub decisions: bool,
}

impl Stale {
    fn any(&self) -> bool {
        let tables = self.ifaces || self.routes || self.rules || self.neighbors || self.addresses;
        tables || self.choice || self.conntrack || self.decisions
    }
}

impl State {
    /// Brings the snapshot up to date.
    pub(super) fn publish(&mut self) {
        let stale = std::mem::take(&mut self.stale);
        if !stale.any() {
            return;
        }
        self.snapshot.generation += 1;
        self.snapshot.multipath_epoch += u64::from(stale.choice);
        let globals = self.sysctls.globals;
        self.snapshot.multipath_policy = [globals.hash_policy as u8, globals.hash_policy6 as u8];
        self.snapshot.update_priority = globals.update_priority != 0;
        if stale.ifaces {
            self.publish_ifaces();
            self.fdbs.published();
            self.snapshot.rules = Arc::clone(&self.findings.rules);
        }
        if stale.ifaces || stale.conntrack {
            self.publish_conntrack();
        }
        self.snapshot.exceptions_v6 = Arc::clone(&self.exceptions.addrs);
        self.snapshot.rules_by_mark = Family::ALL.map(|family| self.rules[family as usize].ask_for_marks());
        if stale.rules || stale.routes {
            for family in Family::ALL {
                self.snapshot.fib[family as usize] = self.fib(family, stale.rules);
            }
        }
        if stale.neighbors {
            self.snapshot.neighbors = self.neighbors.clone();
        }
        if stale.addresses {
            self.snapshot.own_v4 = self.world.addresses.own_v4();
        }
        self.snapshot.full_source_check |= self.custom_rules || self.routes[Family::V4 as usize].full_source_check;
    }

    fn fib(&mut self, family: Family, new_rules: bool) -> Fib {
        let routes = &mut self.routes[family as usize];
        let rules = if new_rules {
            Arc::new(self.rules[family as usize].compile(&self.world.links, |number| routes.table(number)))
        } else {
            Arc::clone(&self.snapshot.fib[family as usize].rules)
        };
        Fib {
            family,
            rules,
            tables: routes.tables.clone(),
            loopback: self.world.links.index(1),
        }
    }

    fn publish_ifaces(&mut self) {
        let mut ifaces = vec![Iface::default(); self.world.links.places];
        let mut ports = Vec::new();
        self.note_strangers();
        let (members, addressed) = (self.members(), self.world.addresses.links_v4());
        for link in self.world.links.iter() {
            let Some(index) = link.index else { continue };
            let Some(iface) = ifaces.get_mut(usize::from(index.0)) else {
                continue;
            };
            let port = self.ports.get(&link.info.ifindex).copied();
            if let Some(port) = port {
                let at = usize::from(port.0);
                ports.resize(ports.len().max(at + 1), None);
                ports[at] = Some(index);
            }
            *iface = Iface {
                ifindex: link.info.ifindex,
                name: Arc::clone(&link.info.name),
                group: link.info.group,
                kind: link.info.kind.as_str().into(),
                mac: link.info.mac,
                mtu: [
                    link.info.mtu.min(IP_MAX_MTU),
                    // A bridge whose MTU follows its ports' tells of it before IPv6 knows.
                    link.conf6.map_or(0, |conf| conf.mtu.min(link.info.mtu)),
                ],
                up: link.info.is_up(),
                port,
                bridge_port: self.bridge_port(link).map(Arc::new),
                policing: self.findings.policing.get(&link.info.ifindex).cloned(),
                shaping: self
                    .findings
                    .shaping
                    .get(&link.info.ifindex)
                    .cloned()
                    .unwrap_or_default(),
                drains: self.findings.draining.contains(&link.info.ifindex),
                bridge: self.bridge(link, &members).map(Arc::new),
                family: [
                    self.family4(link, &members, addressed.contains(&link.info.ifindex)),
                    self.family6(link, &members),
                ],
                sources: Family::ALL.map(|family| self.world.addresses.sources(link.info.ifindex, family)),
            };
        }
        self.snapshot.ifaces = Arc::new(ifaces);
        self.snapshot.ports = Arc::new(ports);
    }

    /// How connections are tracked; the one at hand is kept if nothing changed.
    fn publish_conntrack(&mut self) {
        let tracked = self.findings.tracked;
        let alone = Family::ALL.map(|family| tracked[family as usize] && self.is_alone(family));
        let nat = Family::ALL.map(|family| tracked[family as usize] && self.findings.rules.nat[family as usize]);
        let config = conntrack::Config {
            tracked,
            nat,
            alone,
            ..self.conntrack.config.clone()
        };
        if *self.snapshot.conntrack != config {
            self.snapshot.conntrack = Arc::new(config);
        }
    }

    /// Whether every link that forwards `family` is a port, or a bridge of ports, and none is left: links without carrier
    /// count, for it may come back before that is heard of.
    fn is_alone(&self, family: Family) -> bool {
        let members = self.members();
        self.world.links.iter().all(|link| {
            let info = &link.info;
            let is_other = info.flags & libc::IFF_LOOPBACK as u32 != 0 || *info.name == *PUNT_DEVICE;
            if is_other || !info.is_admin_up() {
                return true;
            }
            let iface = link.index.and_then(|index| self.snapshot.iface(index));
            iface.is_some_and(|iface| {
                let here = iface.family(family);
                let is_ours = iface.port.is_some() || self.is_whole(link, &members);
                // What arrives by the port of a bridge arrives by the bridge, which is looked at itself.
                !here.forwarding || iface.bridge_port.is_some() || is_ours && here.left.is_none()
            })
        })
    }

    fn family4(&self, link: &Link, members: &HashMap<u32, Members>, has_address: bool) -> IfaceFamily {
        let Some(conf) = link.conf4 else {
            return self.without_family(link, Family::V4, members);
        };
        let all = &self.sysctls.globals;
        let rp_filter = match all.rp_filter.max(conf.rp_filter) {
            0 => RpFilter::Off,
            // Without an address of its own a link is as strict where it is to be loose (__fib_validate_source, no_addr).
            2.. if has_address => RpFilter::Loose,
            _ => RpFilter::Strict,
        };
        let (left, left_egress) = self.left(link, Family::V4, members);
        let left_egress = self.left_to_replies(Family::V4, &left, left_egress);
        IfaceFamily {
            forwarding: conf.forwarding,
            rp_filter,
            accept_local: all.accept_local != 0 || conf.accept_local,
            redirects: all.send_redirects != 0 || conf.send_redirects,
            left,
            left_egress,
        }
    }

    fn family6(&self, link: &Link, members: &HashMap<u32, Members>) -> IfaceFamily {
        let Some(conf) = link.conf6 else {
            return self.without_family(link, Family::V6, members);
        };
        let all = &self.sysctls.globals;
        let (left, left_egress) = self.left(link, Family::V6, members);
        // ip6_forward asks pneigh only by the switch of `all`.
        let left = left.or_else(|| (all.proxy_ndp != 0).then(|| "proxy_ndp".into()));
        let left_egress = self.left_to_replies(Family::V6, &left, left_egress);
        IfaceFamily {
            forwarding: (all.forwarding6 != 0 || conf.force_forwarding) && !conf.disable_ipv6,
            rp_filter: RpFilter::Off,
            accept_local: false,
            redirects: true,
            left,
            left_egress,
        }
    }

    fn without_family(&self, link: &Link, family: Family, members: &HashMap<u32, Members>) -> IfaceFamily {
        let (left, left_egress) = self.left(link, family, members);
        let left_egress = left_egress.or_else(|| Some("the family is off on this link".into()));
        IfaceFamily {
            left,
            left_egress,
            ..IfaceFamily::default()
        }
    }

    /// Where connections are tracked, nothing may leave by a link whose arriving packets are the kernel's: it would meet the
    /// replies of a connection that it does not know.
    fn left_to_replies(&self, family: Family, left: &Left, left_egress: Left) -> Left {
        let replies = |why: &Arc<str>| format!("replies would be the kernel's: {why}").into();
        match left {
            Some(why) if self.findings.tracked[family as usize] => left_egress.or_else(|| Some(replies(why))),
            _ => left_egress,
        }
    }

    /// What stands in the path of `link`.
    fn left(&self, link: &Link, family: Family, members: &HashMap<u32, Members>) -> (Left, Left) {
        let found = self
            .findings
            .links
            .get(&link.info.ifindex)
            .map(|found| &found.family[family as usize]);
        let (ingress, egress) = found.cloned().unwrap_or_default();
        let member = || self.world.links.get(link.info.master).map(member_of);
        let other = || member().or_else(|| self.left_to_members(link, family, members));
        (ingress.or_else(other), egress.or_else(other))
    }

    /// What sysctls mean for the routes of `family`.
    pub(super) fn policy(&self, family: Family) -> Policy {
        let all = &self.sysctls.globals;
        let redirected = self.world.links.iter().filter(|link| match family {
            Family::V4 => link.conf4.is_some_and(|conf| {
                let (all, own) = (all.accept_redirects != 0, conf.accept_redirects);
                if conf.forwarding { all && own } else { all || own }
            }),
            Family::V6 => link.conf6.is_some_and(|conf| conf.accept_redirects && !conf.forwarding),
        });
        let forwards = |link: &Link| match family {
            Family::V4 => self
                .world
                .links
                .iter()
                .any(|link| link.conf4.is_some_and(|conf| conf.forwarding)),
            Family::V6 => all.forwarding6 != 0 || link.conf6.is_some_and(|conf| conf.force_forwarding),
        };
        let forced = self
            .world
            .links
            .iter()
            .any(|link| link.conf6.is_some_and(|conf| conf.force_forwarding));
        Policy {
            use_pmtu: family == Family::V4 && all.use_pmtu != 0,
            use_neigh: family == Family::V4 && all.use_neigh != 0,
            reachability: family == Family::V6 && all.forwarding6 == 0 && forced,
            redirected: redirected
                .filter(|link| forwards(link))
                .map(|link| link.info.ifindex)
                .collect(),
        }
    }

    pub(super) fn not_carried(&self, max: usize) -> Vec<String> {
        let mut lines = Vec::new();
        let mut more = 0usize;
        let mut add = |line: String| if lines.len() < max { lines.push(line) } else { more += 1 };
        for family in Family::ALL {
            let word = ["IPv4", "IPv6"][family as usize];
            for rule in self.snapshot.fib[family as usize].rules.iter() {
                if let Some(why) = &rule.left {
                    add(format!("{word} {why}"));
                }
            }
            for (number, table) in &self.routes[family as usize].tables {
                for (addr, len, route) in table.iter().filter(|(addr, _, _)| !is_never_forwarded(family, *addr)) {
                    if let Route { left: Some(why), .. } = &**route {
                        let prefix = Prefix { addr, len }.show(family);
                        add(format!("{word} route {prefix} table {}: {why}", table_name(*number)));
                    }
                }
            }
        }
        if more > 0 {
            lines.push(format!("... and {more} more"));
        }
        lines
    }
}

/// Link-local and multicast: no packet to them is forwarded, so that it does not matter what their routes are.
pub fn is_never_forwarded(family: Family, addr: Addr) -> bool {
    family == Family::V6 && (addr >> 118 == 0x3fa || addr >> 120 == 0xff)
}
