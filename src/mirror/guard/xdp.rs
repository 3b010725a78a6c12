//! XDP programs on bridges by which packets of ours pass. (Those of ports are ours.) One that is attached by a bpf_link comes without
//! a word about its link: bridges are asked when there is a new bpf_link, when they say otherwise themselves, and once a second.

use super::super::turns::Lookout;
use super::READ_AFTER;
use super::findings::{Collector, Way};
use super::link::LinkFacts;
use crate::port::bpf_query;
use std::collections::HashMap;

const REMEDY: &str = "BPF programs in the path are not carried; `ip link set DEV xdp off`";

/// Asks for programs.
#[derive(Debug)]
pub(super) struct Xdp {
    lookout: Lookout,
    /// By bridge, whether it had one.
    known: HashMap<u32, bool>,
}

impl Default for Xdp {
    fn default() -> Self {
        Self {
            lookout: Lookout::new(READ_AFTER),
            known: HashMap::new(),
        }
    }
}

impl Xdp {
    /// Says which bridges have programs. What cannot be read counts as there.
    pub(super) fn read(&mut self, found: &mut Collector, links: &[LinkFacts], new_bpf_links: bool) {
        let passed = found.passed();
        let is_passed = |link: &&LinkFacts| !link.is_port && passed.iter().any(|(ifindex, _)| *ifindex == link.ifindex);
        let bridges: Vec<&LinkFacts> = links.iter().filter(is_passed).collect();
        self.known
            .retain(|ifindex, _| bridges.iter().any(|bridge| bridge.ifindex == *ifindex));
        let is_due = self.lookout.is_due(new_bpf_links);
        for bridge in bridges {
            if is_due || self.known.get(&bridge.ifindex) != Some(&bridge.has_xdp) {
                let has_program = bpf_query::has_xdp(bridge.ifindex).unwrap_or(true);
                self.known.insert(bridge.ifindex, has_program);
            }
            if self.known.get(&bridge.ifindex) != Some(&false) {
                let text = format!("an XDP program on {}", bridge.name);
                found.leave_port(bridge.ifindex, Way::Ingress, text, REMEDY);
            }
        }
    }
}
