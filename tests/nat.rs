//! NAT against the kernel's: the same connections through its rules and through our choice, the same packets through
//! its hooks and through our rewriting.
//!
//! ```text
//!  w0 (clients) ==veth== d0 [ router: the kernel, nft rules of NAT ] d1 ==veth== w1 (servers)
//! ```
//!
//! Each connection is a first packet, an answer, an error from the servers' side that quotes the first packet as it
//! came out, and one from the clients' side that quotes the answer. What the kernel keeps of it is read by ctnetlink;
//! where our choice drew no random number it must be the same. All four packets must come out byte for byte as ours do,
//! given the kernel's tuples. Wrong checksums are among them (nf_conntrack_checksum=0), and checksums of 0 and 0xffff.
//!
//! Needs root, nft and network namespaces. `BYPATH_SEED` and `BYPATH_NAT_CONNECTIONS` choose other ones and more.

mod lab;

#[path = "nat/cases.rs"]
mod cases;
#[path = "nat/packets.rs"]
mod packets;

use bypath::mirror::ctnetlink::{Ctnetlink, Own};
use bypath::packet::{Addr, Family, Frame, FrameId, Parsed, PortIndex};
use bypath::stage::nat::{Translated, applies, icmp_error, manip};
use bypath::stage::rx;
use bypath::table::conntrack::{Direction, Marks, Record, Status, Tuple};
use bypath::table::nat::{Exhausted, Holder, Manip, Range, World, setup};
use bypath::wire::{Protocol, ipv4, ipv6};
use cases::Case;
use lab::env::number;
use lab::packet::wire_mac;
use lab::router::{Lab, Layout};
use lab::sys::wait_readable;
use rand::prelude::*;
use rand::rngs::ChaCha8Rng;
use std::ops::ControlFlow::Continue;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections of a family between two flushes of the kernel's table.
const BATCH: usize = 120;
const NOW: u32 = 1000;
const NAT_BITS: u16 = Status::SRC_NAT.0 | Status::DST_NAT.0 | Status::SRC_NAT_DONE.0 | Status::DST_NAT_DONE.0;

/// The kernel's connections, newest first, as the world of our choice.
#[derive(Default)]
struct Known {
    records: Vec<Record>,
    random: u32,
    drew: bool,
}

impl World for Known {
    fn holder(&self, tuple: &Tuple) -> Option<Holder> {
        let record = self
            .records
            .iter()
            .find(|record| [record.original, record.reply].contains(tuple))?;
        Some(Holder {
            original: record.original,
            reply: record.reply,
            status: record.status,
            proto: record.proto,
        })
    }

    fn mapping<T>(&self, original: &Tuple, mut accept: impl FnMut(&Tuple) -> Option<T>) -> Option<T> {
        let source = |tuple: &Tuple| (tuple.src, tuple.sport, tuple.proto, tuple.family);
        let same =
            |record: &&Record| record.status.any(Status::SRC_NAT) && source(&record.original) == source(original);
        self.records
            .iter()
            .filter(same)
            .find_map(|record| accept(&record.reply))
    }

    fn end(&mut self, _: &Holder) -> bool {
        panic!("no connection of this test is over");
    }

    fn random(&mut self) -> u32 {
        self.drew = true;
        self.random = self.random.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        self.random >> 8
    }
}

/// What our choice makes of a connection.
fn chosen(original: Tuple, case: &Case, known: &mut Known) -> (Record, Result<(), Exhausted>) {
    known.drew = false;
    let mut record = Record {
        original,
        reply: original.invert().expect("a query"),
        status: Status(0),
        marks: Marks(0),
        deadline: 0,
        mark: 0,
        proto: [0; 7],
        counters: Default::default(),
    };
    let takes = !case.ports_only || Protocol(original.proto).has_ports();
    let mut result = Ok(());
    for (manip, rule) in [(Manip::Destination, &case.destination), (Manip::Source, &case.source)] {
        let range = rule
            .filter(|_| takes)
            .unwrap_or_else(|| Range::null_binding(&record, manip));
        result = setup(&mut record, &range, manip, known);
    }
    (record, result)
}

/// The router and what is seen of it.
struct Net {
    lab: Lab,
    ctnetlink: Ctnetlink,
    frame: Frame,
}

impl Net {
    fn new() -> Net {
        let lab = Lab::new(&Layout::ports(2));
        lab.apply(&cases::configuration());
        let own = Arc::new(Own::default());
        let ctnetlink = lab.router.enter(|| Ctnetlink::open(own)).expect("ctnetlink");
        let frame = Frame::new(Box::leak(vec![0; 4096].into_boxed_slice()), FrameId(0), 256);
        Net { lab, ctnetlink, frame }
    }

    /// Sends a frame in at `port`; what comes out at the other one within the time.
    fn send(&mut self, port: usize, frame: &[u8], wait: Duration) -> Option<Vec<u8>> {
        let other = 1 - port;
        self.lab.drain();
        self.lab.wires.iter_mut().for_each(|wire| wire.captured.clear());
        self.lab.wires[port].inject(&[frame.to_vec()]);
        let until = Instant::now() + wait;
        loop {
            self.lab.drain();
            let mut seen = self.lab.wires[other].captured.drain(..);
            if let Some(frame) = seen.find(|frame| frame[..6] == wire_mac(other)) {
                return Some(frame);
            }
            drop(seen);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            wait_readable(&[self.lab.wires[other].fd()], left);
        }
    }

    fn record(&mut self, original: &Tuple) -> Option<Record> {
        let mut found = None;
        self.ctnetlink
            .get(&[*original], NOW, |_, entry| found = entry.map(|entry| entry.record))
            .expect("get");
        found
    }

    /// The IP packet that our hooks make of `bytes`; `None` if they drop it.
    fn ours(&mut self, bytes: &[u8], record: &Record, direction: Direction, is_error: bool) -> Option<Vec<u8>> {
        self.frame.fill(bytes);
        let Continue(mut packet) = rx::parse_any(&self.frame, PortIndex(0)) else {
            panic!("{bytes:02x?} does not parse");
        };
        let tuples = [&record.original, &record.reply];
        for side in [Manip::Destination, Manip::Source] {
            if is_error {
                match icmp_error(&mut self.frame, &mut packet, record.status, direction, tuples, side) {
                    Translated::Done => {}
                    Translated::Drop => return None,
                    Translated::Punt => panic!("a punt"),
                }
            } else if applies(record.status, direction, side) {
                let target = tuples[direction.opposite() as usize].invert().expect("an inverse");
                if !manip(&mut self.frame, &mut packet, &target, side) {
                    return None;
                }
            }
            if side == Manip::Destination {
                hop(&mut self.frame, &packet);
            }
        }
        Some(self.frame.bytes()[14..].to_vec())
    }
}

fn hop(frame: &mut Frame, packet: &Parsed) {
    let bytes = &mut frame.bytes_mut()[packet.l3.into()..];
    match packet.family {
        Family::V4 => ipv4::Packet::new_checked(bytes).expect("IPv4").decrement_ttl(),
        Family::V6 => ipv6::Packet::new_checked(bytes).expect("IPv6").decrement_hop_limit(),
    }
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    drawn: usize,
    exhausted: usize,
    packets: usize,
    errors: usize,
    dropped: usize,
}

const LONG: Duration = Duration::from_secs(2);
const SHORT: Duration = Duration::from_millis(30);

#[test]
fn choices_and_bytes_are_those_of_the_kernel() {
    let mut net = Net::new();
    let mut rng = ChaCha8Rng::seed_from_u64(number("BYPATH_SEED", 1));
    let mut counts = Counts::default();
    while counts.connections < number("BYPATH_NAT_CONNECTIONS", 900) as usize {
        for family in Family::ALL {
            net.ctnetlink.flush(None).expect("flush");
            let mut known = Known {
                random: rng.random(),
                ..Known::default()
            };
            for _ in 0..BATCH {
                connection(&mut net, family, &mut known, &mut rng, &mut counts);
            }
        }
    }
    println!("{counts:?}");
    assert!(
        counts.exhausted > 0 && counts.drawn > 50 && counts.errors > 500 && counts.dropped > 20,
        "{counts:?}"
    );
}

/// One connection, from its first packet to an error about its answer.
fn connection(net: &mut Net, family: Family, known: &mut Known, rng: &mut impl Rng, counts: &mut Counts) {
    let cases = cases::cases(family);
    let case = cases.choose(rng).expect("cases");
    let first = packets::first(family, case.server, rng);
    let original = first.tuple;
    if known.holder(&original).is_some() {
        return; // it would be no first packet
    }
    let (ours, result) = chosen(original, case, known);
    let told = format!("{} {original:?} {:?}", case.name, known.drew);
    let wait = if result.is_ok() { LONG } else { SHORT };
    let Some(seen) = net.send(0, &first.frame, wait) else {
        assert_eq!(result, Err(Exhausted), "{told}: the kernel drops it");
        assert_eq!(net.record(&original), None, "{told}");
        counts.exhausted += 1;
        return;
    };
    assert_eq!(result, Ok(()), "{told}: the kernel finds a tuple");
    let record = net.record(&original).unwrap_or_else(|| panic!("{told}: no entry"));
    assert_eq!(record.original, original);
    compare(&ours, &record, known.drew, &told);
    counts.connections += 1;
    counts.drawn += usize::from(known.drew);
    known.records.insert(0, record.clone());

    let (to_reply, to_original) = (Direction::Reply, Direction::Original);
    let expected = net.ours(&first.frame, &record, Direction::Original, false);
    assert_eq!(Some(&seen[14..]), expected.as_deref(), "{told}: the first packet");
    counts.packets += 1;
    let answer = packets::answer(&record.reply, &first, rng);
    let back = net
        .send(1, &answer, LONG)
        .unwrap_or_else(|| panic!("{told}: no answer"));
    let expected = net.ours(&answer, &record, Direction::Reply, false);
    assert_eq!(Some(&back[14..]), expected.as_deref(), "{told}: the answer");
    counts.packets += 1;

    for (port, seen, direction) in [(1, &seen, to_reply), (0, &back, to_original)] {
        let error = packets::error(port, family, &seen[14..], rng);
        let expected = net.ours(&error, &record, direction, true);
        let wait = if expected.is_some() { LONG } else { SHORT };
        let passed = net.send(port, &error, wait);
        let passed = passed.as_ref().map(|frame| &frame[14..]);
        assert_eq!(
            passed,
            expected.as_deref(),
            "{told}: an error to {direction:?}, {error:02x?}"
        );
        counts.errors += 1;
        counts.dropped += usize::from(expected.is_none());
    }
}

/// Our record and the kernel's: the same, but for the port where random numbers had a part in it.
fn compare(ours: &Record, kernel: &Record, drew: bool, told: &str) {
    let without_ports = |tuple: &Tuple| -> (Addr, Addr) { (tuple.src, tuple.dst) };
    if drew {
        assert_eq!(without_ports(&ours.reply), without_ports(&kernel.reply), "{told}");
        return;
    }
    assert_eq!(ours.reply, kernel.reply, "{told}");
    assert_eq!(ours.status.0 & NAT_BITS, kernel.status.0 & NAT_BITS, "{told}");
}
