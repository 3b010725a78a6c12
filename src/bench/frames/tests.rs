//! Every frame parses (by etherparse, which is not ours), its checksums are right, and it says what was asked for; and a
//! receiver sees what a router or NAT may change as intact, and any other byte as corrupted.

use super::*;
use crate::bench::tag::{Seen, Tag, judge};
use crate::bench::work::{Flows, Order, Rate};
use etherparse::{IcmpEchoHeader, Icmpv4Type, Icmpv6Type, NetHeaders, PacketHeaders, TransportHeader};
use proptest::prelude::*;
use std::time::Duration;

const SENDER: Sender = Sender {
    mac: [2, 0, 0, 0, 0, 1],
    mtu: 1500,
};
const RUN: u16 = 0xb4b1;

fn work(kind: Kind, v6: bool, size: Size) -> Work {
    let (src, dst) = match v6 {
        false => ("10.1.0.2", "10.64.255.250"),
        true => ("fd00:1::2", "fd00:2::fff0"),
    };
    Work {
        kind,
        size,
        flows: Flows {
            count: 10_000_000,
            order: Order::RoundRobin,
            new_per_second: 0,
        },
        rate: Rate::Unpaced,
        duration: Duration::from_secs(1),
        seed: 1,
        src_mac: None,
        dst_mac: [2, 0, 0, 0, 0, 2],
        src: src.parse().expect("an address"),
        dst: dst.parse().expect("an address"),
        dsts: 1_000,
        sport: 1_024,
        dport: 9,
    }
}

fn frames(kind: Kind, v6: bool, size: Size) -> Frames {
    Frames::new(&work(kind, v6, size), RUN, &SENDER).expect("frames")
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Udp),
        Just(Kind::TcpSyn),
        Just(Kind::TcpAck),
        Just(Kind::Icmp)
    ]
}

fn sizes() -> impl Strategy<Value = Size> {
    prop_oneof![4 => (64u16..=1514).prop_map(Size::Bytes), 1 => Just(Size::Imix)]
}

fn fields() -> impl Strategy<Value = Fields> {
    (any::<u64>(), 0u32..20_000_000, any::<u32>()).prop_map(|(sequence, flow, time)| Fields { sequence, flow, time })
}

/// Addresses that etherparse read, low 32 bits, and whether the header's own checksum is right.
fn addresses(net: &NetHeaders) -> (u32, u32, bool) {
    let low = |bytes: [u8; 16]| u128::from_be_bytes(bytes) as u32;
    match net {
        NetHeaders::Ipv4(ip, _) => (
            u32::from_be_bytes(ip.source),
            u32::from_be_bytes(ip.destination),
            ip.header_checksum == ip.calc_header_checksum() && ip.time_to_live == 64 && ip.dont_fragment,
        ),
        NetHeaders::Ipv6(ip, _) => (low(ip.source), low(ip.destination), ip.hop_limit == 64),
        NetHeaders::Arp(_) => unreachable!("no source makes ARP"),
    }
}

/// Source port (or identifier), destination port (or the number of an echo request), and whether the checksum is right.
fn transport(net: &NetHeaders, transport: &TransportHeader, payload: &[u8]) -> (u16, u16, bool) {
    match (net, transport) {
        (NetHeaders::Ipv4(ip, _), TransportHeader::Udp(udp)) => {
            let check = udp.calc_checksum_ipv4(ip, payload).expect("a length");
            (udp.source_port, udp.destination_port, udp.checksum == check)
        }
        (NetHeaders::Ipv6(ip, _), TransportHeader::Udp(udp)) => {
            let check = udp.calc_checksum_ipv6(ip, payload).expect("a length");
            (udp.source_port, udp.destination_port, udp.checksum == check)
        }
        (NetHeaders::Ipv4(ip, _), TransportHeader::Tcp(tcp)) => {
            let check = tcp.calc_checksum_ipv4(ip, payload).expect("a length");
            (tcp.source_port, tcp.destination_port, same(tcp.checksum, check))
        }
        (NetHeaders::Ipv6(ip, _), TransportHeader::Tcp(tcp)) => {
            let check = tcp.calc_checksum_ipv6(ip, payload).expect("a length");
            (tcp.source_port, tcp.destination_port, same(tcp.checksum, check))
        }
        (NetHeaders::Ipv4(..), TransportHeader::Icmpv4(icmp)) => {
            let Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq }) = icmp.icmp_type else {
                panic!("{icmp:?}");
            };
            let check = icmp.icmp_type.calc_checksum(payload);
            (id, seq, same(icmp.checksum, check))
        }
        (NetHeaders::Ipv6(ip, _), TransportHeader::Icmpv6(icmp)) => {
            let Icmpv6Type::EchoRequest(IcmpEchoHeader { id, seq }) = icmp.icmp_type else {
                panic!("{icmp:?}");
            };
            let check = icmp.icmp_type.calc_checksum(ip.source, ip.destination, payload);
            (id, seq, same(icmp.checksum, check.expect("a length")))
        }
        other => panic!("{other:?}"),
    }
}

/// One's complement has two zeroes, and only UDP cares which.
fn same(a: u16, b: u16) -> bool {
    a == b || (a | b == 0xffff && a & b == 0)
}

proptest! {
    #[test]
    fn every_frame_is_right(kind in kinds(), v6: bool, size in sizes(), fields in fields()) {
        let frames = frames(kind, v6, size);
        let frame = frames.make(&fields);
        let shape = frames.shape(fields.sequence);
        prop_assert_eq!(frame.len(), shape.len);
        let parsed = PacketHeaders::from_ethernet_slice(&frame).expect("it parses");
        let net = parsed.net.expect("an IP header");
        let upper = parsed.transport.expect("a transport header");
        let payload = parsed.payload.slice();
        prop_assert_eq!(payload.len(), frame.len() - headers(kind, v6), "no padding");

        let (src, dst, ip_right) = addresses(&net);
        let (sport, dport, right) = transport(&net, &upper, payload);
        prop_assert!(ip_right && right, "{:?} {:?}", net, upper);
        prop_assert_eq!((src, dst, sport), frames.tuples.of(fields.flow));
        prop_assert_eq!(dport, if kind == Kind::Icmp { fields.sequence as u16 } else { 9 });
        if let TransportHeader::Tcp(tcp) = upper {
            prop_assert_eq!((tcp.syn, tcp.ack), (kind == Kind::TcpSyn, kind == Kind::TcpAck));
        }

        let tag = Tag {
            run: RUN,
            sequence: fields.sequence as u32,
            time: fields.time,
            flow: (payload.len() >= 14).then_some(fields.flow),
        };
        prop_assert_eq!(Tag::read(payload), Some(tag));
        prop_assert_eq!(judge(&frame, RUN), Seen::Intact(tag));
        prop_assert_eq!(judge(&frame, RUN + 1), Seen::Foreign);
    }

    /// A frame of UMEM is written again and again, and never blanked.
    #[test]
    fn a_frame_written_over_another_is_as_a_new_one(
        kind in kinds(), v6: bool, size in sizes(), all in prop::collection::vec(fields(), 1..20),
    ) {
        let frames = frames(kind, v6, size);
        let mut frame = frames.blank();
        for fields in all {
            let shape = frames.shape(fields.sequence);
            frames.write(shape, &fields, &mut frame);
            prop_assert_eq!(&frame[..shape.len], &frames.make(&fields)[..]);
            // A short frame leaves no trace in the fill of a long one, but where its flow stands.
            let (blank, behind) = (frames.blank(), frames.places.tag + 14..);
            prop_assert_eq!(frame.get(behind.clone()), blank.get(behind));
        }
    }

    #[test]
    fn any_changed_byte_behind_the_addresses_is_seen(
        kind in kinds(), v6: bool, size in 64u16..300, fields in fields(), at: prop::sample::Index, to in 1u8..,
    ) {
        let mut frame = frames(kind, v6, Size::Bytes(size)).make(&fields);
        let at = 14 + at.index(frame.len() - 14);
        frame[at] ^= to;
        prop_assert!(!matches!(judge(&frame, RUN), Seen::Intact(_)) || free(&frame, v6, at), "byte {}", at);
    }
}

/// What no checksum covers in IPv6: class, flow label, hop limit.
fn free(frame: &[u8], v6: bool, at: usize) -> bool {
    v6 && (at == 21 || (14..18).contains(&at) && frame[14] >> 4 == 6)
}

#[test]
fn flows_differ_in_their_tuples_and_lie_where_they_should() {
    let tuples = frames(Kind::Udp, false, Size::Bytes(64)).tuples;
    let first = u32::from_be_bytes([10, 1, 0, 2]);
    let dst = u32::from_be_bytes([10, 64, 255, 250]);
    assert_eq!(tuples.of(0), (first, dst, 1_024));
    assert_eq!(tuples.of(7), (first, dst + 7, 1_031));
    assert_eq!(tuples.of(64_511), (first, dst + 511, 65_535));
    assert_eq!(tuples.of(64_512), (first + 1, dst + 512, 1_024));
    assert_eq!(tuples.of(9_999_999).0, first + 155, "ten million need 156 addresses");
    let mut seen = std::collections::HashSet::new();
    assert!((0..1_000_000).all(|flow| seen.insert(tuples.of(flow))));
}

#[test]
fn imix_is_seven_four_and_one() {
    let frames = frames(Kind::Udp, false, Size::Imix);
    let mut counts = std::collections::BTreeMap::new();
    (0..12_000).for_each(|n| *counts.entry(frames.shape(n).len).or_insert(0) += 1);
    assert_eq!(
        counts.into_iter().collect::<Vec<_>>(),
        [(64, 7_000), (594, 4_000), (1_514, 1_000)]
    );
    assert!(
        frames.notes[0].contains("1518 bytes are 1514 in memory"),
        "{:?}",
        frames.notes
    );
}

#[test]
fn a_size_without_room_for_the_tag_is_raised_and_said() {
    for (kind, v6, least) in [
        (Kind::Udp, false, 64),
        (Kind::TcpSyn, false, 64),
        (Kind::Icmp, true, 72),
        (Kind::Udp, true, 72),
        (Kind::TcpAck, true, 84),
    ] {
        let frames = frames(kind, v6, Size::Bytes(64));
        assert_eq!((frames.len_max(), smallest(kind, v6)), (least, least));
        assert_eq!(frames.notes.len(), usize::from(least > 64), "{:?}", frames.notes);
        assert!(frames.shapes[0].head.len() <= HEAD_MAX);
    }
}

#[test]
fn what_does_not_fit_the_port_is_refused_with_the_command_that_helps() {
    let jumbo = work(Kind::Udp, false, Size::Bytes(1_518));
    let sized = |mtu| Frames::new(&jumbo, RUN, &Sender { mtu, ..SENDER }).map(|frames| frames.len_max());
    assert_eq!(sized(9_000), Ok(1_518));
    assert_eq!(sized(1_504), Ok(1_518));
    assert_eq!(sized(1_500), Ok(1_514));
    let error = sized(1_400).expect_err("too long");
    assert!(error.contains("mtu 1504") && error.contains("1414 at most"), "{error}");
}

#[test]
fn a_work_that_cannot_be_is_refused_in_one_line() {
    let refused = |change: fn(&mut Work)| {
        let mut work = work(Kind::Udp, false, Size::Bytes(64));
        change(&mut work);
        Frames::new(&work, RUN, &SENDER).expect_err("it cannot be")
    };
    let family = refused(|work| work.src = "::1".parse().expect("an address"));
    assert!(family.contains("family"), "{family}");
    let flows = refused(|work| work.flows.count = 10_000_001);
    assert!(flows.contains("10000000"), "{flows}");
    assert!(refused(|work| work.flows.count = 0).contains("0 flows"));
    assert!(refused(|work| work.dsts = 0).contains("destination"));
}

/// What a router and a NAT do to a frame leaves it intact: TTL, addresses, ports, each with its checksum.
#[test]
fn a_frame_behind_a_nat_is_intact() {
    let mut frame = frames(Kind::Udp, false, Size::Bytes(100)).make(&Fields {
        sequence: 5,
        flow: 77,
        time: 9,
    });
    frame[22] -= 1;
    frame[26..30].copy_from_slice(&[192, 0, 2, 1]);
    frame[34..36].copy_from_slice(&[0xab, 0xcd]);
    assert!(
        matches!(judge(&frame, RUN), Seen::Corrupted(_)),
        "the checksums are old"
    );
    let mut ip = crate::wire::ipv4::Packet::new_checked(&mut frame[14..]).expect("IPv4");
    ip.fill_checksum();
    let pseudo = checksum::pseudo_v4(ip.src(), ip.dst(), 17, 66);
    let mut udp = crate::wire::udp::Packet::new_checked(&mut frame[34..]).expect("UDP");
    let len = udp.total_len();
    assert_eq!(len, 66);
    udp.fill_checksum(pseudo);
    assert!(matches!(judge(&frame, RUN), Seen::Intact(Tag { flow: Some(77), .. })));
    // A NAT that computes the checksum over a payload that was broken before makes it right again, but not the fill.
    frame[90] ^= 1;
    let mut udp = crate::wire::udp::Packet::new_checked(&mut frame[34..]).expect("UDP");
    udp.fill_checksum(pseudo);
    assert!(matches!(judge(&frame, RUN), Seen::Corrupted(_)));
}
