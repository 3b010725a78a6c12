//! What would stay in the kernel, and why: the answer of `bypath check`.
//!
//! ```text
//!  guard's notes        what stands in the path of a family, of bridging or of a port (nft, tc, xfrm, masters ...)
//!  the ports' links     what mirror itself leaves there (a sysctl, an option of a bridge that is not carried)
//!  rules, routes        those that bear a reason; routes grouped by it, since there may be a million with the same
//! ```
//!
//! The same mirror and guard judge as in a running instance, on the ports' names alone (a bridge stands for those it has now): nothing is opened, so it works beside
//! one, without one, and without the AF_XDP parts. Nothing is changed. A port that forwards nothing of a family has nothing
//! of it to leave.

use super::config::RunConfig;
use super::error::Error;
use super::roster::Roster;
use super::{describe, obstacles};
use crate::mirror::guard::{Findings, Guard, Note, Scope, Unasked};
use crate::mirror::{LinkInfo, Mirror, is_never_forwarded};
use crate::packet::{Addr, Family, PORTS_MAX, PortIndex};
use crate::port::link::{Link, ifindex};
use crate::table::Snapshot;
use crate::table::fib::{Prefix, Route};
use crate::table::iface::{Iface, Left};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Display;

/// Why IPv6 routes with several nexthops stay by some hash policies.
const UNASKED: &str = "several nexthops, and net.ipv6.fib_multipath_hash_policy is 2 or 3";

/// What of the configuration stays in the kernel, and what is remarkable without staying.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// What stays; none where all is carried.
    pub stays: Vec<Stay>,
    /// What an operator might expect to stay and does not: a filter chain, tracking.
    pub carried: Vec<Stay>,
}

/// Something that stays in the kernel, or that does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stay {
    /// `inet`, `inet6`, or `both`.
    pub family: String,
    /// Which traffic: `all`, `port d0`, `arriving on d0`, `route 10.0.0.0/8`, ...
    pub traffic: String,
    /// How many more things of the kind share the reason.
    pub more: u64,
    /// Why.
    pub why: String,
    /// What follows, or would change that; empty where nothing is to be said.
    pub remedy: String,
}

/// Reads the kernel's configuration and answers what of the traffic between `ports` would stay there. Changes nothing, and
/// needs no running instance.
///
/// # Errors
/// A port that does not exist, or netlink that fails.
pub fn survey(ports: &[String]) -> Result<Survey, Error> {
    let failed = |error: &dyn Display| Error::Other(error.to_string());
    for port in ports {
        ifindex(port).ok_or_else(|| Error::PortMissing { port: port.clone() })?;
        let fit = Link::query(port).and_then(|link| link.check_ethernet());
        fit.map_err(|error| Error::PortUnfit {
            port: port.clone(),
            why: error.to_string(),
        })?;
    }
    let mut mirror = Mirror::open().map_err(|error| failed(&error))?;
    let links: Vec<LinkInfo> = mirror.links().cloned().collect();
    let indexes = indexes(ports, &links);
    let mut guard = Guard::open().map_err(|error| failed(&error))?;
    for (n, &index) in indexes.iter().enumerate() {
        mirror.set_port(index, Some(PortIndex(n as u16)));
    }
    let findings = obstacles::look(&mut guard, &mirror, &unasked(&indexes, &links));
    obstacles::tell(&mut mirror, &findings);
    // Links and routes may have taken in the sysctls of the ports only now.
    mirror.process().map_err(|error| failed(&error))?;
    Ok(Survey {
        stays: stays(&mirror.snapshot(), &findings),
        carried: findings.notes.iter().filter(|note| !note.leaves).map(noted).collect(),
    })
}

/// What of each port the kernel would get unasked, as far as that is known before it is one.
fn unasked(ports: &[u32], links: &[LinkInfo]) -> Vec<(u32, Option<Unasked>)> {
    let of = |&ifindex: &u32| {
        let link = links.iter().find(|link| link.ifindex == ifindex);
        let link = link.and_then(|link| Link::query(&link.name).ok());
        let queues = link.map(|link| (link.rx_queues, link.tx_queues));
        let few = queues.filter(|(rx, tx)| tx < rx);
        (ifindex, few.map(|(rx, sockets)| Unasked::Queues { rx, sockets }))
    };
    ports.iter().map(of).collect()
}

/// The links that `ports` stand for: themselves, or where they are bridges their ports.
fn indexes(ports: &[String], links: &[LinkInfo]) -> Vec<u32> {
    let config = RunConfig {
        ports: ports.to_vec(),
        ..RunConfig::default()
    };
    let roster = Roster::new(&config, links);
    let named = roster.ports.iter().filter_map(|port| ifindex(port));
    let members = roster.members(links);
    named
        .chain(members.iter().map(|member| member.link.ifindex))
        .take(PORTS_MAX)
        .collect()
}

/// What stays according to `snapshot`, whose ports are those that were asked about, and to what guard found there.
pub fn stays(snapshot: &Snapshot, findings: &Findings) -> Vec<Stay> {
    let mut found: Vec<Stay> = findings.notes.iter().filter(|note| note.leaves).map(noted).collect();
    let ports: Vec<&Iface> = snapshot
        .ports
        .iter()
        .flatten()
        .filter_map(|&index| snapshot.iface(index))
        .collect();
    found.extend(bridging(&ports, findings));
    let links = forwarding_links(snapshot, &ports);
    for family in Family::ALL {
        if !links.iter().any(|link| link.family(family).forwarding) {
            continue;
        }
        found.extend(on_links(family, &links, findings));
        for rule in snapshot.fib(family).rules.iter() {
            let traffic = format!("ip rule {}", rule.pref);
            found.extend(rule.left.as_deref().map(|why| stay(family, traffic, why)));
        }
        let tables = snapshot.fib(family).tables.iter();
        let routes = tables.flat_map(|(_, table)| table.iter());
        let routes = routes.filter(|(addr, _, _)| !is_never_forwarded(family, *addr));
        found.extend(routes_by_reason(
            family,
            snapshot.multipath_policy[family as usize],
            routes.map(|(addr, len, route)| (addr, len, &**route)),
        ));
    }
    found
}

fn noted(note: &Note) -> Stay {
    let (family, traffic) = match &note.scope {
        Scope::Box => ("both", "all".to_owned()),
        Scope::Family(family) => (describe::family(*family), "all".to_owned()),
        Scope::Port(port) => ("both", format!("port {port}")),
        Scope::Bridging => ("both", "bridging".to_owned()),
    };
    Stay {
        family: family.into(),
        traffic,
        more: 0,
        why: note.text.to_string(),
        remedy: note.remedy.to_string(),
    }
}

/// The links by which IP comes and goes: ports, and in place of a bridge's ports the bridge.
fn forwarding_links<'a>(snapshot: &'a Snapshot, ports: &[&'a Iface]) -> Vec<&'a Iface> {
    let mut links: Vec<&Iface> = Vec::new();
    for port in ports {
        let bridge = port.bridge_port.as_ref().map(|of| snapshot.iface(of.bridge));
        let link = bridge.flatten().unwrap_or(port);
        if !links.iter().any(|other| std::ptr::eq(*other, link)) {
            links.push(link);
        }
    }
    links
}

/// What is left on the links for reasons that guard has not named already.
fn on_links(family: Family, links: &[&Iface], findings: &Findings) -> Vec<Stay> {
    let mut found = Vec::new();
    for link in links {
        let facts = link.family(family);
        for (way, why) in unnamed(&facts.left, &facts.left_egress, findings) {
            found.push(stay(family, format!("{way} {}", link.name), why));
        }
    }
    found
}

/// What of bridging is left on the ports, for reasons that guard has not named already.
fn bridging(ports: &[&Iface], findings: &Findings) -> Vec<Stay> {
    let mut found = Vec::new();
    for port in ports {
        let Some(of_bridge) = &port.bridge_port else { continue };
        for (way, why) in unnamed(&of_bridge.left, &of_bridge.left_egress, findings) {
            found.push(Stay {
                family: "both".into(),
                traffic: format!("bridging, {way} {}", port.name),
                more: 0,
                why: why.into(),
                remedy: String::new(),
            });
        }
    }
    found
}

/// Why something is left, by direction, where guard has not named it already.
fn unnamed<'a>(left: &'a Left, left_egress: &'a Left, findings: &Findings) -> Vec<(&'static str, &'a str)> {
    let ways = [("arriving on", left), ("leaving by", left_egress)];
    let reasons = ways.into_iter().filter_map(|(way, left)| Some((way, left.as_deref()?)));
    reasons
        .filter(|(_, why)| !findings.notes.iter().any(|note| *note.text == **why))
        .collect()
}

fn routes_by_reason<'a>(family: Family, policy: u8, routes: impl Iterator<Item = (Addr, u8, &'a Route)>) -> Vec<Stay> {
    // See `stage::routing`: no question can be asked about what the kernel hashes then.
    let unasked = |route: &Route| (family == Family::V6 && policy >= 2 && route.nexthops.len() > 1).then_some(UNASKED);
    let mut reasons: BTreeMap<&str, Stay> = BTreeMap::new();
    for (addr, len, route) in routes {
        let Some(why) = route.left.as_deref().or_else(|| unasked(route)) else {
            continue;
        };
        let traffic = || format!("route {}", Prefix { addr, len }.show(family));
        reasons
            .entry(why)
            .and_modify(|stay| stay.more += 1)
            .or_insert_with(|| stay(family, traffic(), why));
    }
    reasons.into_values().collect()
}

fn stay(family: Family, traffic: String, why: &str) -> Stay {
    Stay {
        family: describe::family(family).into(),
        traffic,
        more: 0,
        why: why.into(),
        remedy: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::bridge::BridgePort;
    use crate::table::fib::RouteKind;
    use crate::table::iface::{IfaceFamily, IfaceIndex};
    use std::sync::Arc;

    fn route(left: Option<&str>) -> Route {
        Route {
            kind: RouteKind::Unicast,
            nexthops: [].into(),
            mtu: 0,
            left: left.map(Arc::from),
        }
    }

    fn note(scope: Scope, text: &str, leaves: bool) -> Note {
        Note {
            scope,
            text: text.into(),
            remedy: "remove it".into(),
            leaves,
        }
    }

    /// d0, a port that forwards IPv4 and leaves what arrives for `why`; eth9, which is none.
    fn snapshot(why: &str) -> Snapshot {
        let left = IfaceFamily {
            forwarding: true,
            left: Some(why.into()),
            ..IfaceFamily::default()
        };
        let iface = |name: &str| Iface {
            name: name.into(),
            family: [left.clone(), IfaceFamily::default()],
            ..Iface::default()
        };
        Snapshot {
            ifaces: Arc::new(vec![iface("d0"), iface("eth9")]),
            ports: Arc::new(vec![Some(IfaceIndex(0))]),
            ..Snapshot::default()
        }
    }

    #[test]
    fn reasons_on_ports_are_found_and_those_on_other_links_are_not() {
        let found = stays(&snapshot("proxy_arp"), &Findings::default());
        assert_eq!(found, [stay(Family::V4, "arriving on d0".into(), "proxy_arp")]);
    }

    #[test]
    fn a_bridge_stands_for_its_ports_and_their_bridging_is_named() {
        let mut snapshot = snapshot("proxy_arp");
        let port = BridgePort {
            bridge: IfaceIndex(1),
            left_egress: Some("backup_port is set".into()),
            ..BridgePort::default()
        };
        Arc::make_mut(&mut snapshot.ifaces)[0].bridge_port = Some(Arc::new(port));
        let seen: Vec<_> = stays(&snapshot, &Findings::default())
            .into_iter()
            .map(|stay| (stay.family, stay.traffic, stay.why))
            .collect();
        let row = |family: &str, traffic: &str, why: &str| (family.to_string(), traffic.to_string(), why.to_string());
        assert_eq!(
            seen,
            [
                row("both", "bridging, leaving by d0", "backup_port is set"),
                row("inet", "arriving on eth9", "proxy_arp")
            ]
        );
    }

    #[test]
    fn what_guard_found_is_said_once_and_remarks_are_no_reason() {
        let findings = Findings {
            notes: vec![
                note(Scope::Family(Family::V4), "nft table inet fw: base chain", true),
                note(Scope::Box, "counters only", false),
            ],
            ..Findings::default()
        };
        let found = stays(&snapshot("nft table inet fw: base chain"), &findings);
        let seen: Vec<_> = found
            .iter()
            .map(|stay| (stay.family.as_str(), stay.traffic.as_str(), stay.remedy.as_str()))
            .collect();
        assert_eq!(seen, [("inet", "all", "remove it")]);
    }

    #[test]
    fn routes_are_grouped_by_reason() {
        let (mpls, none) = (route(Some("encapsulation")), route(None));
        let routes = [
            (0x0a00_0000, 8, &mpls),
            (0x0b00_0000, 8, &none),
            (0x0c00_0000, 8, &mpls),
        ];
        let found = routes_by_reason(Family::V4, 3, routes.into_iter());
        let seen: Vec<_> = found.iter().map(|stay| (stay.traffic.as_str(), stay.more)).collect();
        assert_eq!(seen, [("route 10.0.0.0/8", 1)]);
    }
}
