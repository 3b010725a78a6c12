//! What would stay in the kernel, and why: the answer of `bypath check`.
//!
//! Mirror has already judged everything while it built the snapshot: a link's family, a rule or a route that cannot be
//! carried bears the reason. This collects the reasons that can touch traffic between the ports. Routes are grouped by
//! reason, since there may be a million with the same one.

use super::describe;
use super::error::Error;
use crate::packet::{Addr, Family};
use crate::table::Snapshot;
use crate::table::fib::{Prefix, Route};
use serde::Serialize;
use std::collections::BTreeMap;

/// Something that stays in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stay {
    /// `inet` or `inet6`.
    pub family: String,
    /// Which traffic: `arriving on d0`, `route 10.0.0.0/8`, ...
    pub traffic: String,
    /// How many more things of the kind share the reason.
    pub more: u64,
    /// Why.
    pub why: String,
}

/// Reads the kernel's configuration and answers what of the traffic between `ports` would stay there. Changes nothing, and
/// needs no running instance.
///
/// # Errors
/// A port that does not exist, or netlink that fails.
pub fn survey(ports: &[String]) -> Result<Vec<Stay>, Error> {
    let _ = ports;
    Err(Error::NotBuilt {
        what: "the survey of the kernel's configuration",
    })
}

/// What stays according to `snapshot`. `routes` are all routes of all its tables.
pub fn stays<'a>(
    snapshot: &Snapshot,
    ports: &[String],
    routes: impl Iterator<Item = (Family, Addr, u8, &'a Route)>,
) -> Vec<Stay> {
    let mut found = Vec::new();
    for iface in snapshot
        .ifaces
        .iter()
        .filter(|iface| ports.iter().any(|port| **port == *iface.name))
    {
        for family in Family::ALL {
            let facts = iface.family(family);
            for (way, left) in [("arriving on", &facts.left), ("leaving by", &facts.left_egress)] {
                found.extend(
                    left.as_deref()
                        .map(|why| stay(family, format!("{way} {}", iface.name), why)),
                );
            }
        }
    }
    for family in Family::ALL {
        for rule in snapshot.fib(family).rules.iter() {
            found.extend(
                rule.left
                    .as_deref()
                    .map(|why| stay(family, format!("ip rule {}", rule.pref), why)),
            );
        }
    }
    found.extend(routes_by_reason(routes));
    found
}

fn routes_by_reason<'a>(routes: impl Iterator<Item = (Family, Addr, u8, &'a Route)>) -> impl Iterator<Item = Stay> {
    let mut reasons: BTreeMap<(u8, &str), Stay> = BTreeMap::new();
    for (family, addr, len, route) in routes {
        let Some(why) = route.left.as_deref() else { continue };
        let traffic = || format!("route {}", describe::prefix(family, Prefix { addr, len }));
        reasons
            .entry((family as u8, why))
            .and_modify(|stay| stay.more += 1)
            .or_insert_with(|| stay(family, traffic(), why));
    }
    reasons.into_values()
}

fn stay(family: Family, traffic: String, why: &str) -> Stay {
    Stay {
        family: describe::family(family).into(),
        traffic,
        more: 0,
        why: why.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::fib::RouteKind;
    use crate::table::iface::{Iface, IfaceFamily};
    use std::sync::Arc;

    fn route(left: Option<&str>) -> Route {
        Route {
            kind: RouteKind::Unicast,
            nexthops: [].into(),
            mtu: 0,
            left: left.map(Arc::from),
        }
    }

    #[test]
    fn reasons_on_ports_are_found_and_those_on_other_links_are_not() {
        let left = IfaceFamily {
            left: Some("nft table inet fw: base chain".into()),
            ..IfaceFamily::default()
        };
        let iface = |name: &str| Iface {
            name: name.into(),
            family: [left.clone(), IfaceFamily::default()],
            ..Iface::default()
        };
        let snapshot = Snapshot {
            ifaces: Arc::new(vec![iface("d0"), iface("eth9")]),
            ..Snapshot::default()
        };
        let found = stays(&snapshot, &["d0".into()], std::iter::empty());
        assert_eq!(
            found,
            [stay(
                Family::V4,
                "arriving on d0".into(),
                "nft table inet fw: base chain"
            )]
        );
    }

    #[test]
    fn routes_are_grouped_by_reason() {
        let (mpls, none) = (route(Some("encapsulation")), route(None));
        let routes = [
            (Family::V4, 0x0a00_0000, 8, &mpls),
            (Family::V4, 0x0b00_0000, 8, &none),
            (Family::V4, 0x0c00_0000, 8, &mpls),
            (Family::V6, 0, 0, &mpls),
        ];
        let found = stays(&Snapshot::default(), &[], routes.into_iter());
        let seen: Vec<_> = found.iter().map(|stay| (stay.traffic.as_str(), stay.more)).collect();
        assert_eq!(seen, [("route 10.0.0.0/8", 1), ("route ::/0", 0)]);
    }
}
