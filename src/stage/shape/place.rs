//! Where a frame waits, in words, for a trace: as the qdiscs find it, from their configuration alone. It asks the same filters, but
//! counts nothing and needs no frame to wait.

use super::prio::band_of;
use crate::table::filter::{Facts, classify};
use crate::table::qdisc::{Handle, Htb, Kind, Qdisc};

/// How many classes deep filters may lead.
const DEPTH_MAX: usize = 8;

/// The class of a frame, `class 1:10`; or the qdisc where it has none, `tbf 1:`.
pub fn place(root: &Qdisc, facts: &Facts<'_>) -> String {
    match &root.kind {
        Kind::Htb(htb) => match class_of(root, htb, facts) {
            Some(class) => format!("class {class}"),
            None => format!("htb {} direct", root.handle),
        },
        Kind::Prio(prio) => {
            let band = band_of(root, prio, facts) as u32;
            format!("class {}", Handle(root.handle.0 | (band + 1)))
        }
        kind => format!("{} {}", kind.word(), root.handle),
    }
}

/// As htb_classify: `None` for the direct queue.
fn class_of(root: &Qdisc, htb: &Htb, facts: &Facts<'_>) -> Option<Handle> {
    let find = |id: Handle| htb.classes.iter().find(|class| class.id == id);
    if facts.priority == root.handle.0 {
        return None;
    }
    let mut filters = &root.filters;
    match find(Handle(facts.priority)) {
        Some(class) if class.leaf.is_some() => return Some(class.id),
        Some(class) => filters = &class.filters,
        None => {}
    }
    for _ in 0..DEPTH_MAX {
        let Some(to) = classify(filters, facts) else { break };
        if to == root.handle {
            return None;
        }
        match find(to) {
            Some(class) if class.leaf.is_some() => return Some(class.id),
            Some(class) => filters = &class.filters,
            None => break,
        }
    }
    let default = find(Handle(root.handle.0 | htb.default))?;
    default.leaf.is_some().then_some(default.id)
}
