//! tcx programs, which bpf(2) attaches to a link without any qdisc (since Linux 6.6), and without a word: they are asked for.
//!
//! Two questions for each link by which packets pass, by turns ([`Turns`]): with more than 16 links a program is found within
//! four looks. One that is attached by a new bpf_link, as libbpf does, is found at once, for links have rising numbers.
//! What cannot be read counts as there.

use super::super::turns::Turns;
use super::findings::{Collector, Way};
use crate::port::bpf_query;
use std::collections::HashMap;
use std::sync::Arc;

const REMEDY: &str = "BPF programs in the path are not carried; detach them (`bpftool net`)";

/// What was found when a link was last asked about.
type Left = Vec<(Way, Arc<str>)>;

/// Asks for programs.
#[derive(Debug, Default)]
pub(super) struct Tcx {
    turns: Turns,
    /// By link, with the name that it had.
    known: HashMap<u32, (Arc<str>, Left)>,
}

impl Tcx {
    /// Says which links have programs.
    pub(super) fn read(&mut self, found: &mut Collector, new_bpf_links: bool) {
        let passed = found.passed();
        let is_passed = |ifindex: u32, name: &str| passed.iter().any(|link| link.0 == ifindex && *link.1 == *name);
        self.known.retain(|&ifindex, (name, _)| is_passed(ifindex, name));
        let is_due = self.turns.take(passed.len());
        for (place, (ifindex, name)) in passed.iter().enumerate() {
            if new_bpf_links || is_due(place) || !self.known.contains_key(ifindex) {
                self.known.insert(*ifindex, (name.clone(), ask(*ifindex, name)));
            }
            let left = self.known.get(ifindex).into_iter().flat_map(|known| &known.1);
            left.for_each(|(way, text)| found.leave_port(*ifindex, *way, text.to_string(), REMEDY));
        }
    }
}

fn ask(ifindex: u32, name: &str) -> Left {
    let mut left = Left::new();
    for (egress, way, word) in [(false, Way::Ingress, "ingress"), (true, Way::Egress, "egress")] {
        let text = match bpf_query::tcx_programs(ifindex, egress) {
            Ok(0) => continue,
            Ok(count) => format!("tcx {word} programs on {name}: {count}"),
            Err(e) => format!("tcx {word} programs of {name} cannot be read: {e}"),
        };
        left.push((way, text.into()));
    }
    left
}
