//! What stands in the path of the ports, by mirror's guard: one way to ask, for the running instance and for `bypath check`.
//!
//! The guard judges links and knows no mirror; mirror publishes findings and knows no guard. This stands between: the facts
//! of all links go one way, the findings by link the other. Both are of the calling thread's network namespace.

use crate::mirror::guard::{self, FamilyFinding, Guard, LinkFacts, Unasked};
use crate::mirror::{self, LinkFindings, LinkInfo, Mirror};
use std::collections::HashMap;

/// Looks what stands in the path, the links of `ports` (kernel numbers) being ports of this process, and what of them the kernel
/// gets unasked.
pub fn look(guard: &mut Guard, mirror: &Mirror, ports: &[(u32, Option<Unasked>)]) -> guard::Findings {
    let facts: Vec<LinkFacts> = mirror
        .links()
        .map(|link| facts(link, ports.iter().find(|(ifindex, _)| *ifindex == link.ifindex)))
        .collect();
    guard.read(&facts)
}

/// Has `mirror` publish what was found.
pub fn tell(mirror: &mut Mirror, findings: &guard::Findings) {
    let way = |found: &FamilyFinding| (found.ingress.clone(), found.egress.clone());
    let mut links: HashMap<u32, LinkFindings> = HashMap::new();
    for (&ifindex, found) in &findings.by_iface {
        links.entry(ifindex).or_default().family = found.each_ref().map(way);
    }
    for (&ifindex, found) in &findings.bridging {
        links.entry(ifindex).or_default().bridging = way(found);
    }
    mirror.set_findings(mirror::Findings {
        links,
        tracked: findings.tracked,
        rules: findings.rules.clone(),
        shaping: findings.shaping.clone(),
        draining: findings.draining.clone(),
        policing: findings.policing.clone(),
    });
}

fn facts(link: &LinkInfo, port: Option<&(u32, Option<Unasked>)>) -> LinkFacts {
    let unasked = port.and_then(|(_, unasked)| link.vnet_hdr.then_some(Unasked::Tap).or(*unasked));
    LinkFacts {
        ifindex: link.ifindex,
        name: link.name.clone(),
        kind: (!link.kind.is_empty()).then(|| link.kind.clone()),
        master: (link.master != 0).then_some(link.master),
        link: (link.link != 0).then_some(link.link),
        link_netnsid: link.link_netnsid,
        is_port: port.is_some(),
        takes: link.takes.clone(),
        has_xdp: link.has_xdp,
        unasked,
    }
}
