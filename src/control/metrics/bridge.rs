//! Metrics of bridges: how full their forwarding databases are.
//!
//! Two samples for each bridge that has ports of ours.

use super::{escaped, metric};
use crate::control::report::BridgeLink;

/// Appends them.
pub fn bridges(text: &mut String, links: &[BridgeLink]) {
    let bridges = || {
        links
            .iter()
            .filter_map(|link| Some((&link.ifname, link.bridge.as_ref()?)))
    };
    let label = |name: &str| format!("{{bridge=\"{}\"}}", escaped(name));
    let entries = bridges().map(|(name, bridge)| (label(name), bridge.fdb_entries));
    metric(text, "fdb_entries", "gauge", "Addresses that a bridge knows.", entries);
    let refused = bridges().map(|(name, bridge)| (label(name), bridge.fdb_refused));
    let help = "Addresses that a bridge knows and for which there was no room here.";
    metric(text, "fdb_refused_total", "counter", help, refused);
}
