//! What the guard found, in the form that the snapshot and `bypath check` want.
//!
//! What is carried of it: `tracked`, by family, and the `rules` of its chains. And what is not, in two views of the same:
//! `by_iface` says for a link, family and direction whether it is left and by what (the first thing found wins: one reason
//! suffices for a packet), and `bridging` says it of what a port of a bridge bridges; `notes` names everything, for an
//! operator. The links are ports, and bridges that have ports of ours, by which IP passes: what stands on a bridge leaves IP
//! there, and not what is bridged. Bounded: [`NOTES_MAX`] notes,
//! a last one then counts the rest; the maps have an entry per link at most.

use super::link::LinkFacts;
use crate::packet::Family;
use crate::table::police::Policing;
use crate::table::qdisc::Shaping;
use crate::table::rules::live::Rules;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// The most notes of one reading.
const NOTES_MAX: usize = 256;

/// What follows from tracking.
const TRACKED: &str = "carried: connections are tracked as the kernel would";
/// What follows from a chain that is carried.
const CARRIED: &str = "carried: its rules are run in the fast path";
/// What follows from a qdisc that is carried.
const SHAPED: &str = "carried: what leaves by this port is shaped in the fast path";

/// What follows from policers that are carried.
const POLICED: &str = "carried: what arrives by this port is policed in the fast path";

/// ... from filters at ingress that do nothing.
const NOT_POLICED: &str = "carried: it does nothing to what arrives by this port";

/// What holds for one family on one port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyFinding {
    /// Why packets that arrive here stay with the kernel; `None` if none need to.
    pub ingress: Option<Arc<str>>,
    /// Why packets that would leave here stay with the kernel.
    pub egress: Option<Arc<str>>,
}

impl FamilyFinding {
    fn leave(&mut self, way: Way, text: &Arc<str>) {
        if way != Way::Egress {
            self.ingress.get_or_insert_with(|| text.clone());
        }
        if way != Way::Ingress {
            self.egress.get_or_insert_with(|| text.clone());
        }
    }
}

/// What a note is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of the box's forwarding.
    Box,
    /// One family, on every port.
    Family(Family),
    /// One port, or one bridge, by its name.
    Port(Arc<str>),
    /// What goes from port to port of a bridge, of any bridge.
    Bridging,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Box => f.write_str("IPv4 and IPv6"),
            Scope::Family(family) => f.write_str(name(*family)),
            Scope::Port(port) => f.write_str(port),
            Scope::Bridging => f.write_str("bridging"),
        }
    }
}

/// One thing found, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it touches.
    pub scope: Scope,
    /// What it is and where.
    pub text: Arc<str>,
    /// What follows from it, and what would change that.
    pub remedy: Arc<str>,
    /// Whether traffic stays with the kernel because of it.
    pub leaves: bool,
}

/// All that was found. Two readings of the same configuration are equal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// What is left, by ifindex and [`Family`]. A port without an entry carries everything.
    pub by_iface: HashMap<u32, [FamilyFinding; 2]>,
    /// What of bridging is left, by the ifindex of a bridge port: all its frames, those of IP on their way up or out too.
    pub bridging: HashMap<u32, FamilyFinding>,
    /// Everything, for `bypath check`.
    pub notes: Vec<Note>,
    /// Whether the kernel tracks connections, by [`Family`]; also where the family is left.
    pub tracked: [bool; 2],
    /// The rules to be run.
    pub rules: Arc<Rules>,
    /// How what leaves by a port is shaped, by ifindex, where workers do it.
    pub shaping: HashMap<u32, Shaping>,
    /// The ports among those at which only what waits is shaped: what would leave is the kernel's for now.
    pub draining: HashSet<u32>,
    /// What polices what arrives by a port, by ifindex, where workers do it.
    pub policing: HashMap<u32, Arc<Policing>>,
}

impl Findings {
    /// Whether any traffic stays with the kernel.
    pub fn leaves(&self) -> bool {
        self.notes.iter().any(|n| n.leaves)
    }

    /// What holds for a family on a port, if anything.
    pub fn on(&self, ifindex: u32, family: Family) -> Option<&FamilyFinding> {
        self.by_iface.get(&ifindex).map(|both| &both[family as usize])
    }
}

/// A direction of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// What arrives.
    Ingress,
    /// What would leave.
    Egress,
    /// Either.
    Both,
}

/// Gathers findings during one reading.
#[derive(Debug)]
pub(super) struct Collector {
    /// Ports, and bridges that have some.
    passed: Vec<(u32, Arc<str>)>,
    ports: Vec<u32>,
    bridge_ports: Vec<u32>,
    findings: Findings,
    unlisted: usize,
    /// What is carried, or what of it is not, in words; and whether it is that.
    carried: Vec<(Vec<Family>, String, &'static str, bool)>,
    /// The same of bridging.
    bridged: Vec<(String, &'static str, bool)>,
}

impl Collector {
    pub(super) fn new(links: &[LinkFacts]) -> Self {
        let is_bridge = |ifindex: u32| {
            let mut all = links.iter();
            all.any(|link| link.ifindex == ifindex && link.is_bridge())
        };
        let members = links.iter().filter(|link| link.is_port);
        let members = members.filter_map(|link| Some((link.ifindex, link.master.filter(|&master| is_bridge(master))?)));
        let (bridge_ports, bridges): (Vec<u32>, Vec<u32>) = members.unzip();
        let passed = links
            .iter()
            .filter(|link| link.is_port || bridges.contains(&link.ifindex))
            .map(|link| (link.ifindex, link.name.clone()))
            .collect();
        Self {
            passed,
            ports: links
                .iter()
                .filter(|link| link.is_port)
                .map(|link| link.ifindex)
                .collect(),
            bridge_ports,
            findings: Findings::default(),
            unlisted: 0,
            carried: Vec::new(),
            bridged: Vec::new(),
        }
    }

    /// The links by which packets of ours pass, ports and bridges of ports: number and name.
    pub(super) fn passed(&self) -> Vec<(u32, Arc<str>)> {
        self.passed.clone()
    }

    /// Leaves families on every port, both ways.
    pub(super) fn leave_families(&mut self, families: &[Family], text: String, remedy: &str) {
        let Some(scope) = scope(families) else { return };
        let text: Arc<str> = text.into();
        for (ifindex, _) in self.passed() {
            self.mark(ifindex, families, Way::Both, &text);
        }
        self.note(scope, text, remedy, true);
    }

    /// Leaves one link: both families, and what it bridges as a port of a bridge.
    pub(super) fn leave_port(&mut self, ifindex: u32, way: Way, text: String, remedy: &str) {
        let Some((_, name)) = self.passed.iter().find(|p| p.0 == ifindex) else {
            return;
        };
        let scope = Scope::Port(name.clone());
        let text: Arc<str> = text.into();
        self.mark(ifindex, &Family::ALL, way, &text);
        if self.bridge_ports.contains(&ifindex) {
            self.findings.bridging.entry(ifindex).or_default().leave(way, &text);
        }
        self.note(scope, text, remedy, true);
    }

    /// Leaves families of IP that passes `by` a link, both ways, for what is so of a port: itself, or one of the bridge's.
    pub(super) fn leave_tracked(&mut self, (port, by): (u32, u32), families: &[Family], text: String, remedy: &str) {
        let Some((_, name)) = self.passed.iter().find(|p| p.0 == port) else {
            return;
        };
        let scope = Scope::Port(name.clone());
        let text: Arc<str> = text.into();
        self.mark(by, families, Way::Both, &text);
        self.note(scope, text, remedy, true);
    }

    /// Has what leaves by a port shaped.
    pub(super) fn shape(&mut self, ifindex: u32, text: String, shaping: Shaping) {
        let Some((_, name)) = self.passed.iter().find(|p| p.0 == ifindex) else {
            return;
        };
        let scope = Scope::Port(name.clone());
        self.findings.shaping.insert(ifindex, shaping);
        self.note(scope, text.into(), SHAPED, false);
    }

    /// Has what waits at a port, which is left, shaped until it has left.
    pub(super) fn drain(&mut self, ifindex: u32, shaping: Shaping) {
        self.findings.shaping.insert(ifindex, shaping);
        self.findings.draining.insert(ifindex);
    }

    /// Has what arrives by a port policed.
    pub(super) fn police(&mut self, ifindex: u32, text: String, policing: Arc<Policing>) {
        let Some((_, name)) = self.passed.iter().find(|p| p.0 == ifindex) else {
            return;
        };
        let scope = Scope::Port(name.clone());
        let polices = !policing.policers.is_empty();
        if polices {
            self.findings.policing.insert(ifindex, policing);
        }
        self.note(scope, text.into(), if polices { POLICED } else { NOT_POLICED }, false);
    }

    /// Whether a link is a port of this process itself: frames of ours leave by it.
    pub(super) fn is_port(&self, ifindex: u32) -> bool {
        self.ports.contains(&ifindex)
    }

    /// Whether a port is one of a bridge.
    pub(super) fn has_bridge_ports(&self) -> bool {
        !self.bridge_ports.is_empty()
    }

    /// Leaves bridging on every port of every bridge, both ways.
    pub(super) fn leave_bridging(&mut self, text: String, remedy: &str) {
        if self.bridge_ports.is_empty() {
            return;
        }
        let text: Arc<str> = text.into();
        for ifindex in &self.bridge_ports {
            self.findings
                .bridging
                .entry(*ifindex)
                .or_default()
                .leave(Way::Both, &text);
        }
        self.note(Scope::Bridging, text, remedy, true);
    }

    /// Families whose connections the kernel tracks, and why; nothing for what is said elsewhere.
    pub(super) fn track(&mut self, families: &[Family], text: String) {
        for family in families {
            self.findings.tracked[*family as usize] = true;
        }
        if !text.is_empty() {
            self.carried.push((families.to_vec(), text, TRACKED, false));
        }
    }

    /// A base chain that is carried.
    pub(super) fn carry(&mut self, families: &[Family], text: &str) {
        self.carried.push((families.to_vec(), text.to_owned(), CARRIED, false));
    }

    /// Of what is carried, something that leaves the packets which reach it.
    pub(super) fn punt_in_part(&mut self, families: &[Family], text: String, remedy: &'static str) {
        self.carried.push((families.to_vec(), text, remedy, true));
    }

    /// A base chain of family bridge that is carried.
    pub(super) fn carry_bridged(&mut self, text: &str) {
        self.bridged.push((text.to_owned(), CARRIED, false));
    }

    /// Of what is carried of bridging, something that leaves the frames which reach it.
    pub(super) fn punt_bridged_in_part(&mut self, text: String, remedy: &'static str) {
        self.bridged.push((text, remedy, true));
    }

    /// The rules that are run.
    pub(super) fn run(&mut self, rules: &Arc<Rules>) {
        self.findings.rules = Arc::clone(rules);
    }

    /// Whether NAT of a family is run, as far as is known.
    pub(super) fn runs_nat(&self, family: Family) -> bool {
        self.findings.rules.nat[family as usize]
    }

    /// Whether a family is tracked, as far as is known.
    pub(super) fn is_tracked(&self, family: Family) -> bool {
        self.findings.tracked[family as usize]
    }

    /// Says something that leaves nothing.
    pub(super) fn remark(&mut self, text: String, remedy: &str) {
        self.note(Scope::Box, text.into(), remedy, false);
    }

    /// Whether a family is left on every port already, both ways.
    pub(super) fn is_left(&self, family: Family) -> bool {
        self.passed.iter().all(|(ifindex, _)| {
            self.findings
                .on(*ifindex, family)
                .is_some_and(|f| f.ingress.is_some() && f.egress.is_some())
        })
    }

    pub(super) fn finish(mut self) -> Findings {
        self.say_carried();
        // What is the kernel's as it arrives is policed there alone: all of it, what is bridged as well.
        let Findings {
            by_iface,
            bridging,
            policing,
            ..
        } = &mut self.findings;
        let bridges = &self.bridge_ports;
        let is_left = |ifindex: &u32| {
            let both = by_iface.get(ifindex);
            let is_bridged =
                bridges.contains(ifindex) && bridging.get(ifindex).is_none_or(|found| found.ingress.is_none());
            !is_bridged && both.is_some_and(|both| both.iter().all(|family| family.ingress.is_some()))
        };
        policing.retain(|ifindex, _| !is_left(ifindex));
        if self.unlisted > 0 {
            let text = format!("{} more findings are not listed", self.unlisted).into();
            self.findings.notes.push(Note {
                scope: Scope::Box,
                text,
                remedy: "".into(),
                leaves: true,
            });
        }
        self.findings
    }

    /// Names what is carried, for the families that are not left altogether.
    fn say_carried(&mut self) {
        for (families, text, remedy, leaves) in std::mem::take(&mut self.carried) {
            let kept: Vec<Family> = families.into_iter().filter(|family| !self.is_left(*family)).collect();
            if let Some(scope) = scope(&kept) {
                self.note(scope, text.into(), remedy, leaves);
            }
        }
        let bridged = std::mem::take(&mut self.bridged);
        let is_left = self.bridge_ports.len() == self.findings.bridging.len();
        for (text, remedy, leaves) in bridged.into_iter().filter(|_| !is_left) {
            self.note(Scope::Bridging, text.into(), remedy, leaves);
        }
    }

    fn mark(&mut self, ifindex: u32, families: &[Family], way: Way, text: &Arc<str>) {
        let entry = self.findings.by_iface.entry(ifindex).or_default();
        for family in families {
            entry[*family as usize].leave(way, text);
        }
    }

    fn note(&mut self, scope: Scope, text: Arc<str>, remedy: &str, leaves: bool) {
        if self.findings.notes.len() == NOTES_MAX {
            self.unlisted += 1;
            return;
        }
        self.findings.notes.push(Note {
            scope,
            text,
            remedy: remedy.into(),
            leaves,
        });
    }
}

fn scope(families: &[Family]) -> Option<Scope> {
    match families {
        [] => None,
        [one] => Some(Scope::Family(*one)),
        _ => Some(Scope::Box),
    }
}

/// The family's name for an operator.
pub(super) fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// The names of families for an operator.
pub(super) fn names(families: &[Family]) -> String {
    families.iter().map(|f| name(*f)).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::super::LinkFacts;
    use super::*;
    use crate::table::police::{Act, Police, Policer};
    use crate::table::qdisc::Handle;

    /// What a port of a bridge bridges is carried though IP is not, and policed as long as it is.
    #[test]
    fn a_port_is_policed_as_long_as_anything_of_it_is_carried() {
        let link = |ifindex, kind: &str, master| LinkFacts {
            ifindex,
            name: ifindex.to_string().into(),
            kind: Some(kind.into()),
            master,
            is_port: kind != "bridge",
            ..LinkFacts::default()
        };
        let links = [link(1, "veth", None), link(2, "veth", Some(3)), link(3, "bridge", None)];
        let policing = Arc::new(Policing {
            kind: "ingress".into(),
            handle: Handle(0xffff_0000),
            filters: Vec::new(),
            policers: vec![Arc::new(Policer::new(Police {
                index: 1,
                limit: None,
                burst_ns: 0,
                peak: None,
                mtu: 2040,
                conforming: Act::Pass,
                exceeding: Act::Drop,
            }))],
        });
        let policed = |leave: fn(&mut Collector)| {
            let mut found = Collector::new(&links);
            for port in [1, 2] {
                found.police(port, String::new(), policing.clone());
            }
            leave(&mut found);
            let mut policed: Vec<u32> = found.finish().policing.into_keys().collect();
            policed.sort_unstable();
            policed
        };
        assert_eq!(policed(|_| {}), [1, 2]);
        assert_eq!(
            policed(|found| found.leave_families(&[Family::V4], String::new(), "")),
            [1, 2]
        );
        assert_eq!(
            policed(|found| found.leave_families(&Family::ALL, String::new(), "")),
            [2]
        );
        assert_eq!(
            policed(|found| found.leave_port(2, Way::Ingress, String::new(), "")),
            [1]
        );
        assert_eq!(
            policed(|found| found.leave_port(2, Way::Egress, String::new(), "")),
            [1, 2]
        );
    }
}
