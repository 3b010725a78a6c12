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
            Some(class) if class == root.handle => format!("htb {} direct", root.handle),
            Some(class) => format!("class {class}"),
            None => format!("htb {}: filters lead in a circle, dropped", root.handle),
        },
        Kind::Prio(prio) => {
            let band = band_of(root, prio, facts) as u32;
            format!("class {}", Handle(root.handle.0 | (band + 1)))
        }
        kind => format!("{} {}", kind.word(), root.handle),
    }
}

/// As htb_classify: the qdisc itself for the direct queue, `None` for what is dropped.
fn class_of(root: &Qdisc, htb: &Htb, facts: &Facts<'_>) -> Option<Handle> {
    let find = |id: Handle| htb.classes.iter().find(|class| class.id == id);
    let default = || {
        let class = find(Handle(root.handle.0 | htb.default)).filter(|class| class.leaf.is_some());
        Some(class.map_or(root.handle, |class| class.id))
    };
    if facts.priority == root.handle.0 {
        return Some(root.handle);
    }
    let mut filters = &root.filters;
    match find(Handle(facts.priority)) {
        Some(class) if class.leaf.is_some() => return Some(class.id),
        Some(class) => filters = &class.filters,
        None => {}
    }
    for _ in 0..=DEPTH_MAX {
        match classify(filters, facts) {
            None => return default(),
            Some(to) if to == root.handle => return Some(root.handle),
            Some(to) => match find(to) {
                Some(class) if class.leaf.is_some() => return Some(class.id),
                Some(class) => filters = &class.filters,
                None => return default(),
            },
        }
    }
    None
}
