//! ctnetlink against a real kernel: what is entered must be there as it was meant, and, since a listing proves nothing about
//! NAT, traffic must pass by it, under `ct state invalid drop` with nf_conntrack_tcp_loose=0.

mod lab;

#[path = "ctnetlink/entries.rs"]
mod entries;
#[path = "ctnetlink/events.rs"]
mod events;
#[path = "ctnetlink/nat.rs"]
mod nat;
#[path = "ctnetlink/traffic.rs"]
mod traffic;

use bypath::mirror::ctnetlink::{Ctnetlink, Entry, Own};
use bypath::table::conntrack::Ticks;
use lab::namespace::Namespace;
use std::sync::Arc;

/// A time; none of the tests waits for another.
const NOW: Ticks = 1_000_000;

/// A socket in `namespace`, and the numbers of its own.
fn open(namespace: &Namespace) -> (Ctnetlink, Arc<Own>) {
    let own = Arc::new(Own::default());
    let ctnetlink = namespace.enter(|| Ctnetlink::open(own.clone())).expect("ctnetlink");
    (ctnetlink, own)
}

/// All that the kernel tracks.
fn dump(ctnetlink: &mut Ctnetlink) -> Vec<Entry> {
    let mut entries = Vec::new();
    ctnetlink.dump(None, NOW, |entry| entries.push(entry)).expect("dump");
    entries
}
