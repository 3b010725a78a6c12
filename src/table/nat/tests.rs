//! Choices against a world in a hash map, and what the table tells against the table itself.

use super::*;
use crate::packet::{Addr, Family};
use crate::table::conntrack::tracker::tcp::{Side, Tcp};
use crate::table::conntrack::{Direction, Marks};
use crate::table::rules::expr::NatKind;
use crate::table::rules::interpret::NatRequest;
use crate::wire::Protocol;
use std::cell::Cell;
use std::collections::HashMap;

mod choices;
mod table;

const CLIENT: Addr = 0x0a00_0002;
const SERVER: Addr = 0xc633_6402;
const GATE: Addr = 0xc000_0201;

/// Connections by their tuples.
#[derive(Default)]
struct Town {
    holders: HashMap<Tuple, Holder>,
    /// All are taken but these, if there is anything here.
    free: Option<Vec<Tuple>>,
    random: u32,
    looks: Cell<u32>,
}

impl Town {
    fn add(&mut self, record: &Record) {
        let holder = Holder {
            original: record.original,
            reply: record.reply,
            status: record.status,
            proto: record.proto,
        };
        for tuple in [record.original, record.reply] {
            self.holders.insert(tuple, holder);
        }
    }
}

impl World for Town {
    fn holder(&self, tuple: &Tuple) -> Option<Holder> {
        self.looks.set(self.looks.get() + 1);
        let somebody = Holder {
            original: Tuple {
                src: 1,
                dst: 2,
                ..*tuple
            },
            reply: *tuple,
            status: Status(0),
            proto: [0; 7],
        };
        match &self.free {
            Some(free) => (!free.contains(tuple)).then_some(somebody),
            None => self.holders.get(tuple).copied(),
        }
    }

    fn mapping<T>(&self, original: &Tuple, mut accept: impl FnMut(&Tuple) -> Option<T>) -> Option<T> {
        let same = |holder: &&Holder| {
            let other = holder.original;
            holder.status.any(Status::SRC_NAT)
                && (other.src, other.sport, other.proto) == (original.src, original.sport, original.proto)
        };
        self.holders
            .values()
            .filter(same)
            .find_map(|holder| accept(&holder.reply))
    }

    fn end(&mut self, holder: &Holder) -> bool {
        self.holders.remove(&holder.original);
        self.holders.remove(&holder.reply).is_some()
    }

    fn random(&mut self) -> u32 {
        self.random = self.random.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        self.random >> 8
    }
}

fn tuple(proto: Protocol, src: (Addr, u16), dst: (Addr, u16)) -> Tuple {
    Tuple {
        src: src.0,
        dst: dst.0,
        sport: src.1,
        dport: dst.1,
        proto: proto.0,
        family: Family::V4,
        zone: 0,
    }
}

fn begun(original: Tuple) -> Record {
    Record {
        original,
        reply: original.invert().unwrap(),
        status: Status::CONFIRMED,
        marks: Marks(0),
        deadline: 0,
        mark: 0,
        proto: [0; 7],
        counters: Default::default(),
    }
}

fn udp(sport: u16, dst: Addr) -> Record {
    begun(tuple(Protocol::UDP, (CLIENT, sport), (dst, 53)))
}

fn to(address: Addr) -> Range {
    Range {
        addresses: Some((address, address)),
        ..Range::default()
    }
}

/// Where packets of the original direction come from and go to.
fn ends(record: &Record) -> [(Addr, u16); 2] {
    let translated = record.reply.invert().unwrap();
    [(translated.src, translated.sport), (translated.dst, translated.dport)]
}

fn set_up(record: &mut Record, range: &Range, manip: Manip, town: &mut Town) -> bool {
    let before = *record.reply.invert().as_ref().unwrap();
    let fits = setup(record, range, manip, town).is_ok();
    assert!(record.status.any(manip.done()));
    let changed = record.reply.invert().unwrap() != before;
    assert_eq!(record.status.any(manip.bit()), changed);
    if fits {
        town.add(record);
    }
    fits
}

#[test]
fn without_a_rule_nothing_changes() {
    let mut town = Town::default();
    for proto in [
        Protocol::TCP,
        Protocol::UDP,
        Protocol::ICMP,
        Protocol::ESP,
        Protocol::GRE,
    ] {
        let dport = if proto == Protocol::ICMP { 0x0800 } else { 9 };
        let mut record = begun(tuple(proto, (CLIENT, 7), (SERVER, dport)));
        let reply = record.reply;
        for manip in [Manip::Destination, Manip::Source] {
            let range = Range::null_binding(&record, manip);
            assert_eq!(setup(&mut record, &range, manip, &mut town), Ok(()));
        }
        assert_eq!(record.reply, reply);
        assert!(!record.status.any(Status::SRC_NAT | Status::DST_NAT));
        assert!(record.status.any(Status::SRC_NAT_DONE) && record.status.any(Status::DST_NAT_DONE));
    }
}

#[test]
fn a_source_port_stays_where_it_is_free_and_in_its_class_where_not() {
    let mut town = Town::default();
    for (sport, class) in [
        (300, 1..=511),
        (511, 1..=511),
        (600, 600..=1023),
        (512, 600..=1023),
        (5000, 1024..=65535),
    ] {
        let mut first = udp(sport, SERVER);
        assert!(set_up(&mut first, &to(GATE), Manip::Source, &mut town));
        assert_eq!(ends(&first), [(GATE, sport), (SERVER, 53)]);
        for client in 0..20 {
            let mut next = begun(tuple(Protocol::UDP, (CLIENT + 1 + client, sport), (SERVER, 53)));
            assert!(set_up(&mut next, &to(GATE), Manip::Source, &mut town));
            let [(address, port), _] = ends(&next);
            assert_eq!(address, GATE);
            assert!(port != sport && class.contains(&port), "{sport} became {port}");
        }
    }
}

#[test]
fn a_source_that_is_mapped_goes_the_same_way_to_other_destinations() {
    let mut town = Town::default();
    let mut first = begun(tuple(Protocol::UDP, (CLIENT + 1, 5000), (SERVER, 53)));
    assert!(set_up(&mut first, &to(GATE), Manip::Source, &mut town));
    let mut moved = udp(5000, SERVER);
    assert!(set_up(&mut moved, &to(GATE), Manip::Source, &mut town));
    let [source, _] = ends(&moved);
    assert_ne!(source, (GATE, 5000));
    for server in 1..50 {
        let mut next = udp(5000, SERVER + server);
        assert!(set_up(&mut next, &to(GATE), Manip::Source, &mut town));
        assert_eq!(ends(&next), [source, (SERVER + server, 53)]);
    }
    // But not to another address than the range has, and not with `random`.
    let mut other = udp(5000, SERVER + 60);
    assert!(set_up(&mut other, &to(GATE + 1), Manip::Source, &mut town));
    assert_eq!(ends(&other)[0], (GATE + 1, 5000));
    let random = Range {
        flags: flag::RANDOM,
        ..to(GATE)
    };
    let moved_again = (100..120).any(|server| {
        let mut other = udp(5000, SERVER + server);
        assert!(set_up(&mut other, &random, Manip::Source, &mut town));
        ends(&other)[0] != source
    });
    assert!(moved_again);
}

#[test]
fn a_destination_takes_the_first_free_port_of_its_range() {
    let mut town = Town::default();
    let range = Range {
        ports: Some((8000, 8003)),
        ..to(SERVER)
    };
    // Two clients behind one address and port are told apart by nothing but the port of the server.
    for expected in 8000..=8003 {
        let mut record = begun(tuple(Protocol::TCP, (CLIENT, 5000), (GATE + Addr::from(expected), 80)));
        assert!(set_up(&mut record, &range, Manip::Destination, &mut town));
        assert_eq!(ends(&record)[1], (SERVER, expected));
    }
    // One that is there already stays, if it is free.
    let mut record = begun(tuple(Protocol::TCP, (CLIENT, 5001), (GATE, 8002)));
    assert!(set_up(&mut record, &range, Manip::Destination, &mut town));
    assert_eq!(ends(&record)[1], (SERVER, 8002));
}

#[test]
fn a_clash_of_destinations_is_the_sources_to_solve() {
    let mut town = Town::default();
    let range = Range {
        ports: Some((80, 80)),
        ..to(SERVER)
    };
    let mut seen = Vec::new();
    for virtual_address in [GATE, GATE + 1, GATE + 2] {
        let mut record = begun(tuple(Protocol::TCP, (CLIENT, 5000), (virtual_address, 80)));
        let looks = town.looks.get();
        setup(&mut record, &range, Manip::Destination, &mut town).unwrap();
        assert_eq!(town.looks.get(), looks, "one port that it has already: nobody looks");
        assert_eq!(ends(&record)[1], (SERVER, 80));
        let own = Range::null_binding(&record, Manip::Source);
        assert!(set_up(&mut record, &own, Manip::Source, &mut town));
        let [source, destination] = ends(&record);
        assert_eq!((source.0, destination), (CLIENT, (SERVER, 80)));
        assert!(!seen.contains(&source.1));
        seen.push(source.1);
    }
    assert_eq!(seen[0], 5000);
}

#[test]
fn identifiers_of_icmp_are_its_ports() {
    let mut town = Town::default();
    let ping = |client: Addr| begun(tuple(Protocol::ICMP, (CLIENT + client, 77), (SERVER, 0x0800)));
    let mut seen = Vec::new();
    for client in 0..30 {
        let mut record = ping(client);
        assert!(set_up(&mut record, &to(GATE), Manip::Source, &mut town));
        let translated = record.reply.invert().unwrap();
        assert_eq!((translated.src, translated.dport), (GATE, 0x0800));
        assert!(!seen.contains(&translated.sport));
        seen.push(translated.sport);
    }
    assert_eq!(seen[0], 77);
    // In a range of its own, by either manip.
    for manip in [Manip::Source, Manip::Destination] {
        let range = Range {
            ports: Some((1000, 1009)),
            ..Range::default()
        };
        let mut record = ping(100);
        assert!(set_up(&mut record, &range, manip, &mut town));
        assert!((1000..=1009).contains(&record.reply.sport));
    }
}

#[test]
fn what_has_no_ports_is_told_apart_by_addresses_only() {
    for proto in [Protocol::ESP, Protocol::GRE, Protocol::DCCP] {
        let mut town = Town::default();
        let mut first = begun(tuple(proto, (CLIENT, 0), (SERVER, 0)));
        assert!(set_up(&mut first, &to(GATE), Manip::Source, &mut town));
        assert_eq!(ends(&first)[0], (GATE, 0));
        let mut second = begun(tuple(proto, (CLIENT + 1, 0), (SERVER, 0)));
        assert!(!set_up(&mut second, &to(GATE), Manip::Source, &mut town));
    }
}

#[test]
fn exhaustion_ends_after_a_bounded_number_of_tries() {
    let mut town = Town {
        free: Some(Vec::new()),
        ..Town::default()
    };
    for (range, most) in [
        (to(GATE), 128 + 64 + 32 + 16 + 8 + 3),
        (
            Range {
                ports: Some((40000, 40099)),
                ..to(GATE)
            },
            100 + 3,
        ),
        (
            Range {
                ports: Some((40000, 40000)),
                ..to(GATE)
            },
            1 + 3,
        ),
    ] {
        town.looks.set(0);
        let mut record = udp(5000, SERVER);
        assert_eq!(setup(&mut record, &range, Manip::Source, &mut town), Err(Exhausted));
        assert!(town.looks.get() <= most, "{} looks", town.looks.get());
        assert_eq!(ends(&record)[0].0, GATE, "as the kernel leaves it");
        // A destination never fails.
        let mut record = udp(5000, SERVER);
        assert_eq!(setup(&mut record, &range, Manip::Destination, &mut town), Ok(()));
    }
}

#[test]
fn the_one_free_port_of_a_small_range_is_found() {
    for port in 40000..40100 {
        let mut town = Town {
            free: Some(vec![tuple(Protocol::UDP, (SERVER, 53), (GATE, port))]),
            random: u32::from(port),
            ..Town::default()
        };
        let range = Range {
            ports: Some((40000, 40099)),
            ..to(GATE)
        };
        let mut record = udp(5000, SERVER);
        assert_eq!(setup(&mut record, &range, Manip::Source, &mut town), Ok(()));
        assert_eq!(ends(&record)[0], (GATE, port));
    }
}

/// A TCP state with this number, whose original side sent up to `end`.
fn tcp_state(state: u8, end: u32) -> ProtoState {
    let side = Side { end, ..Side::default() };
    Tcp {
        state,
        sides: [side, Side::default()],
        ..Tcp::default()
    }
    .pack()
}

#[test]
fn a_tcp_connection_that_is_over_makes_room_for_a_syn() {
    let range = Range {
        ports: Some((40000, 40000)),
        ..to(GATE)
    };
    let old = |state, end, status: Status| {
        let mut old = begun(tuple(Protocol::TCP, (CLIENT + 1, 5000), (SERVER, 80)));
        old.proto = tcp_state(state, end);
        let mut town = Town::default();
        assert!(set_up(&mut old, &range, Manip::Source, &mut town));
        old.status = old.status | status;
        town.add(&old);
        town
    };
    let new = |town: &mut Town, state| {
        let mut new = begun(tuple(Protocol::TCP, (CLIENT, 6000), (SERVER, 80)));
        new.proto = tcp_state(state, 1000);
        set_up(&mut new, &range, Manip::Source, town)
    };
    assert!(new(&mut old(7, 999, Status(0)), 1), "TIME_WAIT");
    assert!(new(&mut old(8, 0xffff_f000, Status(0)), 1), "CLOSE, and numbers wrap");
    assert!(!new(&mut old(3, 999, Status(0)), 1), "ESTABLISHED");
    assert!(!new(&mut old(7, 1000, Status(0)), 1), "numbers that have not advanced");
    assert!(!new(&mut old(7, 999, Status::FIXED_TIMEOUT), 1));
    assert!(!new(&mut old(7, 999, Status(0)), 3), "not for what is no SYN");
}

#[test]
fn one_flow_on_two_workers_is_not_in_its_own_way() {
    let mut town = Town::default();
    let mut first = udp(5000, SERVER);
    assert!(set_up(&mut first, &to(GATE), Manip::Source, &mut town));
    let mut twin = udp(5000, SERVER);
    assert!(set_up(&mut twin, &to(GATE), Manip::Source, &mut town));
    assert_eq!(twin.reply, first.reply);
    // An answer that began one of its own, untranslated: UDP only.
    for (proto, same) in [(Protocol::UDP, true), (Protocol::TCP, false)] {
        let mut town = Town::default();
        let there = begun(tuple(proto, (CLIENT, 5000), (SERVER, 5001)));
        town.add(&there);
        let mut answer = begun(there.reply);
        let own = Range::null_binding(&answer, Manip::Source);
        setup(&mut answer, &own, Manip::Source, &mut town).unwrap();
        assert_eq!(answer.reply == there.original, same, "{proto:?}");
    }
}

#[test]
fn requests_of_rules() {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&[192, 0, 2, 1]);
    let request = |kind| NatRequest {
        base: 0,
        kind,
        addresses: Some((bytes, bytes)),
        ports: Some((1, 2)),
        flags: flag::RANDOM,
    };
    let expected = Range {
        ports: Some((1, 2)),
        flags: flag::RANDOM,
        ..to(GATE)
    };
    for (kind, manip) in [
        (NatKind::Source, Manip::Source),
        (NatKind::Destination, Manip::Destination),
    ] {
        assert_eq!(Range::of(&request(kind), Family::V4, None), Some((expected, manip)));
    }
    for (kind, manip) in [
        (NatKind::Masquerade, Manip::Source),
        (NatKind::Redirect, Manip::Destination),
    ] {
        assert_eq!(Range::of(&request(kind), Family::V4, None), None, "no address: dropped");
        assert_eq!(
            Range::of(&request(kind), Family::V4, Some(GATE)),
            Some((expected, manip))
        );
    }
    let (range, _) = Range::of(&request(NatKind::Source), Family::V6, None).unwrap();
    assert_eq!(range.addresses, Some((GATE << 96, GATE << 96)));
}
