//! XDP programs on bridges by which packets of ours pass. (Those of ports are ours.) One that is attached by a bpf_link comes without
//! a word about its link, so bridges are asked by turns, as for tcx programs; at once when there is a new bpf_link.

use super::super::turns::Turns;
use super::findings::{Collector, Way};
use super::link::LinkFacts;
use crate::port::bpf_query;
use std::collections::HashMap;

const REMEDY: &str = "BPF programs in the path are not carried; `ip link set DEV xdp off`";

/// Asks for programs.
#[derive(Debug, Default)]
pub(super) struct Xdp {
    turns: Turns,
    /// By bridge, whether it had one.
    known: HashMap<u32, bool>,
}

impl Xdp {
    /// Says which bridges have programs. What cannot be read counts as there.
    pub(super) fn read(&mut self, found: &mut Collector, links: &[LinkFacts], new_bpf_links: bool) {
        let passed = found.passed();
        let is_passed = |link: &&LinkFacts| !link.is_port && passed.iter().any(|(ifindex, _)| *ifindex == link.ifindex);
        let bridges: Vec<&LinkFacts> = links.iter().filter(is_passed).collect();
        self.known
            .retain(|ifindex, _| bridges.iter().any(|bridge| bridge.ifindex == *ifindex));
        let is_due = self.turns.take(bridges.len());
        for (place, bridge) in bridges.into_iter().enumerate() {
            if new_bpf_links || is_due(place) || !self.known.contains_key(&bridge.ifindex) {
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
