//! What comes to an address of the box while NAT is in force: the worker looks among its connections first, then it is the
//! kernel's, and known as such.

use super::*;
use bypath::table::conntrack::Tuple;
use bypath::table::conntrack::table::{AWAITED_TICKS, Refused};

/// A box whose connections may be translated.
fn tracker() -> Tracker {
    let mut tracker = Tracker::new(Arc::default());
    Arc::make_mut(&mut tracker.snapshot.conntrack).nat = [true; 2];
    tracker
}

const LOCAL: Verdict = Verdict::Punt(PuntReason::Local);
const UNRESOLVED: Verdict = Verdict::Punt(PuntReason::NeighborUnresolved);
const KERNELS: Verdict = Verdict::Punt(PuntReason::KernelConnection);

/// From the client (port 5000) to the box (port 22), by TCP.
fn to_the_box(family: Family, flags: u8) -> Vec<u8> {
    to(lab::own(family), family, flags)
}

/// A neighbour on d1 that is not resolved: what is for it begins in the kernel.
fn unresolved(family: Family) -> u128 {
    lab::net(family, 1).0 | 99
}

fn to(dst: u128, family: Family, flags: u8) -> Vec<u8> {
    use etherparse::PacketBuilder;
    let src = lab::net(family, 0).0 | CLIENT;
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 9, 9], lab::mac(0));
    let builder = match family {
        Family::V4 => ethernet.ipv4((src as u32).to_be_bytes(), (dst as u32).to_be_bytes(), 64),
        Family::V6 => ethernet.ipv6(src.to_be_bytes(), dst.to_be_bytes(), 64),
    };
    let mut tcp = builder.tcp(5000, 22, 1, 5000);
    if flags & SYN != 0 {
        tcp = tcp.syn();
    }
    if flags & ACK != 0 {
        tcp = tcp.ack(1);
    }
    let mut bytes = Vec::new();
    tcp.write(&mut bytes, &[]).expect("writing to a vector");
    bytes
}

#[test]
fn what_begins_at_the_box_is_the_kernels() {
    for family in Family::ALL {
        for begins in [to_the_box(family, SYN), lab::udp(family, lab::own(family), 18)] {
            let mut tracker = tracker();
            assert_eq!(tracker.walk(0, &begins), LOCAL);
            assert_eq!(tracker.flows.aside.leaving, None, "the kernel needs to know nothing");
            let [record] = &tracker.records()[..] else {
                panic!("one connection")
            };
            assert!(record.marks.any(Marks::KERNEL) && !record.marks.any(Marks::ADOPTABLE));
            assert_eq!(tracker.walk(0, &begins), KERNELS);
            assert_eq!(tracker.walk_watched(0, &begins), KERNELS);
            assert_eq!(tracker.records().len(), 1);
        }
    }
}

/// What is in no table of a box that alone forwards is known to be invalid, but for a while after the kernel has begun a
/// connection that it may translate: then the packet may be its answer.
#[test]
fn what_may_be_an_answer_from_behind_the_kernels_nat_is_the_kernels() {
    for (nat, expected) in [(true, KERNELS), (false, FILTERED)] {
        for family in Family::ALL {
            let mut tracker = Tracker::new(stateful());
            let config = Arc::make_mut(&mut tracker.snapshot.conntrack);
            (config.nat, config.tcp_loose) = ([nat; 2], false);
            let answer = packet(family, 1, &tcp(SYN | ACK, 1, 1));
            assert_eq!(tracker.walk(1, &answer), FILTERED, "NAT {nat}");
            // The box answers its own connections itself.
            assert_eq!(tracker.walk(0, &to_the_box(family, SYN)), LOCAL);
            assert_eq!(tracker.walk(1, &answer), FILTERED, "NAT {nat}");
            let begins = to(unresolved(family), family, SYN);
            assert_eq!(tracker.walk(0, &begins), UNRESOLVED);
            assert_eq!(tracker.walk(1, &answer), expected, "NAT {nat}");
            let no_answer = packet(family, 1, &tcp(ACK, 1, 1));
            assert_eq!(
                tracker.walk(1, &no_answer),
                expected,
                "it may be behind that; NAT {nat}"
            );
            tracker.now += AWAITED_TICKS - 1;
            assert_eq!(tracker.walk(1, &answer), expected, "NAT {nat}");
            tracker.now += 1;
            assert_eq!(tracker.walk(1, &answer), FILTERED, "NAT {nat}");
            // What came before may have been dropped there: the same packet again may be what begins it.
            assert_eq!(tracker.walk(0, &begins), KERNELS, "it is known");
            assert_eq!(tracker.walk(1, &answer), expected, "NAT {nat}");
        }
    }
}

/// Datagrams do not tell what they are. Only those to whom the kernel has just begun something for.
#[test]
fn a_datagram_that_may_be_an_answer_from_behind_the_kernels_nat_is_the_kernels() {
    for (nat, expected) in [(true, KERNELS), (false, BACK)] {
        for family in Family::ALL {
            let mut tracker = Tracker::new(Arc::default());
            Arc::make_mut(&mut tracker.snapshot.conntrack).nat = [nat; 2];
            assert_eq!(tracker.walk(0, &lab::udp(family, unresolved(family), 18)), UNRESOLVED);
            // From another than who was asked, as it is behind a service's address.
            let answer = packet(family, 1, &UDP);
            let other = packet(family, 1, &Transport { port: 5001, ..UDP });
            assert_eq!(tracker.walk(1, &answer), expected, "NAT {nat}");
            assert_eq!(tracker.walk(1, &other), BACK, "to another");
            assert_eq!(tracker.flows.aside.leaving, None);
            tracker.now += AWAITED_TICKS;
            assert_eq!(tracker.walk(1, &answer), BACK, "NAT {nat}");
        }
    }
}

/// As import enters them: an answer is the kernel's at once, and no port is given away that would have it mistaken.
#[test]
fn the_tuples_of_the_boxs_own_are_taken() {
    for family in Family::ALL {
        let mut tracker = tracker();
        let asks = Tuple {
            src: lab::own(family),
            dst: lab::net(family, 0).0 | CLIENT,
            sport: 6000,
            dport: 5000,
            proto: 17,
            family,
            zone: 0,
        };
        let own = Record {
            original: asks,
            reply: asks.invert().expect("a query"),
            status: Status::CONFIRMED,
            marks: Marks(Marks::KERNEL | Marks::EXPORTED),
            deadline: tracker.now + 3000,
            mark: 0,
            proto: [0; 7],
            counters: Default::default(),
        };
        let guard = tracker.handle.pin();
        tracker.table.insert(&own, tracker.now, &guard).expect("insert");
        // A client behind the other port, masqueraded, with the same port.
        let behind = Tuple {
            src: lab::gateway(family),
            ..asks
        };
        let client = Record {
            original: behind,
            marks: Marks(0),
            ..own.clone()
        };
        let refused = tracker.table.insert(&client, tracker.now, &guard).map(|_| ());
        assert_eq!(refused, Err(Refused::Clash));
        drop(guard);
        assert_eq!(tracker.walk(0, &lab::udp(family, lab::own(family), 18)), KERNELS);
        assert_eq!(tracker.records().len(), 1);
    }
}
