//! What is masqueraded goes by another uplink all at once: the connection is over, as it is in the kernel, also where the kernel
//! would have the packet. Else it would have forwarded it with the source of the old one.

use super::*;
use bypath::stage::prerouting::leaving::let_go;
use bypath::table::conntrack::table::Event;
use bypath::table::fib::{Gateway, TABLE_MAIN};
use bypath::table::iface::{Iface, Source};

const NO_PORT: Verdict = Verdict::Punt(PuntReason::EgressNotPort);
const UNRESOLVED: Verdict = Verdict::Punt(PuntReason::NeighborUnresolved);
const OVER: Verdict = Verdict::Drop(DropReason::Nat);

fn source(addr: u128) -> Arc<[Source]> {
    let (peer, prefix_len) = (addr, 32);
    [Source { addr, peer, prefix_len }].into()
}

/// A box that masquerades by d1, and another uplink, by which nothing goes yet: a port, or none.
fn tracker(family: Family, other: Option<PortIndex>) -> Tracker {
    let mut tracker = Tracker::new(rules::masquerade(1));
    Arc::make_mut(&mut tracker.snapshot.conntrack).nat = tracker.snapshot.rules.nat;
    let ifaces = Arc::make_mut(&mut tracker.snapshot.ifaces);
    ifaces[1].sources[family as usize] = source(lab::net(family, 1).0 | 1);
    let uplink = Iface {
        ifindex: 9,
        name: "wwan0".into(),
        port: other,
        ..ifaces[1].clone()
    };
    ifaces.push(uplink);
    ifaces[2].sources[family as usize] = source(lab::net(family, 2).0 | 1);
    Arc::make_mut(&mut tracker.snapshot.ports).push(Some(IfaceIndex(2)));
    tracker
}

/// The gateway is reached by that uplink from now on.
fn fail_over(tracker: &mut Tracker, family: Family) {
    let fib = &mut tracker.snapshot.fib[family as usize];
    let main = fib.table(TABLE_MAIN);
    let route = lab::route(2, Gateway::Onlink);
    fib.tables[main].1.insert(lab::gateway(family), family.bits(), route);
    tracker.snapshot.generation += 1;
}

#[test]
fn another_uplink_ends_what_was_masqueraded_whoever_has_it() {
    for (port, then) in [(None, NO_PORT), (Some(PortIndex(2)), UNRESOLVED)] {
        for (family, given) in [(Family::V4, false), (Family::V4, true), (Family::V6, false)] {
            let mut tracker = tracker(family, port);
            let ask = packet(family, 0, &UDP);
            assert_eq!(tracker.walk(0, &ask), OUT);
            let before = tracker.records().remove(0);
            assert_eq!(before.reply.dst, lab::net(family, 1).0 | 1);
            assert!(before.marks.any(Marks::MASQUERADED));
            {
                let guard = tracker.handle.pin();
                for connection in tracker.table.iter(&guard) {
                    connection.set_marks(Marks::EXPORTED);
                    if given {
                        let_go(&connection);
                    }
                }
            }
            fail_over(&mut tracker, family);
            assert_eq!(tracker.walk(0, &ask), OVER);
            assert!(tracker.records().is_empty());
            let (event, ended) = tracker.table.log.pop().expect("its copy is to be deleted");
            assert_eq!((event, ended.original), (Event::Destroy, before.original));
            assert!(ended.marks.any(Marks::EXPORTED) && !ended.marks.any(Marks::KERNEL));
            // What comes next begins anew, in the kernel.
            assert_eq!(tracker.walk(0, &ask), then);
            assert_eq!(tracker.flows.aside.leaving, None);
            assert!(tracker.records()[0].marks.any(Marks::KERNEL));
        }
    }
}

/// Nor does it end by a link that has the address, too.
#[test]
fn an_uplink_with_the_same_address_goes_on() {
    let mut tracker = tracker(Family::V4, None);
    let ask = packet(Family::V4, 0, &UDP);
    assert_eq!(tracker.walk(0, &ask), OUT);
    let ifaces = Arc::make_mut(&mut tracker.snapshot.ifaces);
    ifaces[2].sources = ifaces[1].sources.clone();
    fail_over(&mut tracker, Family::V4);
    assert_eq!(tracker.walk(0, &ask), NO_PORT);
    assert!(matches!(tracker.flows.aside.leaving, Some(Leaving::AsItIs(_))));
}

/// The kernel answers a spent hop limit before it looks where the packet would leave.
#[test]
fn a_spent_hop_limit_ends_nothing() {
    let mut tracker = tracker(Family::V4, Some(PortIndex(2)));
    assert_eq!(tracker.walk(0, &packet(Family::V4, 0, &UDP)), OUT);
    let gateway = lab::gateway(Family::V4);
    let neighbors = &mut tracker.snapshot.neighbors;
    neighbors.insert(IfaceIndex(2), Family::V4, gateway, lab::FAR);
    fail_over(&mut tracker, Family::V4);
    let spent = Transport { ttl: 1, ..UDP };
    let answered = Verdict::Punt(PuntReason::TtlExceeded);
    assert_eq!(tracker.walk(0, &packet(Family::V4, 0, &spent)), answered);
    assert_eq!(tracker.records().len(), 1);
    assert_eq!(tracker.walk(0, &packet(Family::V4, 0, &UDP)), OVER);
}
