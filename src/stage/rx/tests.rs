//! rx against etherparse, and every way out of it.

use super::*;
use crate::packet::FrameId;
use crate::wire::icmp;
use etherparse as ep;
use proptest::prelude::*;
use std::ops::ControlFlow::Break;

const MAC: Mac = [2, 0, 0, 0, 0, 1];
const PORT: PortIndex = PortIndex(3);
/// 192.0.2.1, 198.51.100.2
const V4: [[u8; 4]; 2] = [[192, 0, 2, 1], [198, 51, 100, 2]];

fn v6_pair() -> [[u8; 16]; 2] {
    [
        0x2001_0db8_0001_0000_0000_0000_0000_0001u128.to_be_bytes(),
        0x2001_0db8_0002_0000_0000_0000_0000_0002u128.to_be_bytes(),
    ]
}

/// A right frame of one of the four common kinds, made by etherparse, checksums and all.
fn build(v6: bool, tcp: bool, sport: u16, dport: u16, ttl: u8, data: &[u8]) -> Vec<u8> {
    let ether = ep::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], MAC);
    let ip = if v6 {
        ether.ipv6(v6_pair()[0], v6_pair()[1], ttl)
    } else {
        ether.ipv4(V4[0], V4[1], ttl)
    };
    let mut out = Vec::new();
    match tcp {
        true => ip.tcp(sport, dport, 1, 1000).write(&mut out, data).unwrap(),
        false => ip.udp(sport, dport).write(&mut out, data).unwrap(),
    }
    out
}

/// The frame after `change` to its IPv4 header, whose checksum is then made right again.
fn build_v4(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut frame = build(false, true, 1, 2, 64, b"data");
    change(&mut frame[14..]);
    if let Ok(mut ip) = ipv4::Packet::new_checked(&mut frame[14..]) {
        ip.fill_checksum();
    }
    frame
}

/// An IPv6 frame with this next header and payload.
fn build_v6(next: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = [&MAC[..], &[2, 0, 0, 0, 0, 9], &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    frame.extend((body.len() as u16).to_be_bytes());
    frame.extend([next, 64]);
    frame.extend(v6_pair().concat());
    frame.extend(body);
    frame
}

fn parsed(bytes: &[u8]) -> Parsed {
    match parse_bytes(bytes, PORT, &MAC) {
        Continue(parsed) => parsed,
        Break(verdict) => panic!("not parsed: {verdict:?}"),
    }
}

#[track_caller]
fn assert_punted(bytes: &[u8], reason: PuntReason) {
    assert_eq!(parse_bytes(bytes, PORT, &MAC), Break(Verdict::Punt(reason)));
}

#[test]
fn a_frame_that_is_not_for_this_port_is_not_ours() {
    let mut frame = build(false, false, 1, 2, 64, b"");
    for dst in [
        [2, 0, 0, 0, 0, 2],
        [0xff; 6],
        [0x01, 0, 0x5e, 0, 0, 1],
        [0x33, 0x33, 0, 0, 0, 1],
    ] {
        frame[..6].copy_from_slice(&dst);
        assert_punted(&frame, PuntReason::NotOurs);
    }
}

#[test]
fn other_types_and_tags_are_not_ours() {
    let mut frame = build(false, false, 1, 2, 64, b"");
    for kind in [0x0806u16, 0x8100, 0x88a8, 0x8847, 0x0026] {
        frame[12..14].copy_from_slice(&kind.to_be_bytes());
        assert_punted(&frame, PuntReason::NotOurs);
    }
}

#[test]
fn a_frame_shorter_than_its_headers_is_malformed() {
    let frames = [build(false, true, 1, 2, 64, b""), build(true, true, 1, 2, 64, b"")];
    for frame in &frames {
        for len in 0..frame.len() {
            assert_punted(&frame[..len], PuntReason::Malformed);
        }
    }
    assert_punted(&[&frames[0][..], &[0; 65536]].concat(), PuntReason::Malformed);
}

#[test]
fn ipv4_fields_that_contradict_each_other_are_malformed() {
    assert_punted(&build_v4(|ip| ip[0] = 0x55), PuntReason::Malformed); // version
    assert_punted(&build_v4(|ip| ip[0] = 0x65), PuntReason::Malformed);
    assert_punted(&build_v4(|ip| ip[0] = 0x44), PuntReason::Malformed); // header shorter than 20
    assert_punted(&build_v4(|ip| ip[2..4].fill(0)), PuntReason::Malformed); // total length shorter than the header
    assert_punted(&build_v4(|ip| ip[3] += 1), PuntReason::Malformed); // total length beyond the frame
}

#[test]
fn any_flipped_bit_of_an_ipv4_header_is_noticed() {
    let good = build(false, true, 1, 2, 64, b"data");
    for bit in 0..20 * 8 {
        let mut frame = good.clone();
        frame[14 + bit / 8] ^= 1 << (bit % 8);
        match parse_bytes(&frame, PORT, &MAC) {
            Break(Verdict::Punt(PuntReason::Checksum | PuntReason::Malformed)) => {}
            other => panic!("bit {bit}: {other:?}"),
        }
    }
    let mut frame = good;
    frame[14 + 8] ^= 1;
    assert_punted(&frame, PuntReason::Checksum);
}

#[test]
fn ipv4_options_are_flagged_and_behind_them_are_the_ports() {
    let mut header = ep::Ipv4Header::new(8, 64, ep::IpNumber::UDP, V4[0], V4[1]).unwrap();
    header.options = [7, 7, 4, 0, 0, 0, 0, 0].into();
    header.set_payload_len(8).unwrap();
    header.header_checksum = header.calc_header_checksum();
    let mut frame = build(false, false, 1, 2, 64, b"");
    frame.truncate(14);
    frame.extend(header.to_bytes());
    frame.extend([0, 53, 0, 99, 0, 8, 0, 0]);
    let p = parsed(&frame);
    assert_eq!((p.l4, p.sport, p.dport), (42, 53, 99));
    assert_eq!(p.flags.0, Flags::OPTIONS | Flags::PORTS);
    frame[14 + 20] ^= 1; // the checksum covers options too
    assert_punted(&frame, PuntReason::Checksum);
}

#[test]
fn ipv4_fragments_have_ports_only_in_the_first() {
    let p = parsed(&build_v4(|ip| ip[6..8].copy_from_slice(&[0x20, 0])));
    assert_eq!(p.flags.0, Flags::FRAGMENT | Flags::PORTS);
    let p = parsed(&build_v4(|ip| ip[6..8].copy_from_slice(&[0x20, 1])));
    assert_eq!((p.flags.0, p.sport, p.dport), (Flags::FRAGMENT, 0, 0));
    let p = parsed(&build_v4(|ip| ip[6..8].copy_from_slice(&[0x00, 1])));
    assert_eq!(p.flags.0, Flags::FRAGMENT);
}

#[test]
fn ports_are_there_for_the_protocols_that_have_them_and_only_with_their_bytes() {
    for proto in 0..=255 {
        let p = parsed(&build_v4(|ip| ip[9] = proto));
        let expected = matches!(proto, 6 | 17 | 33 | 132 | 136);
        assert_eq!(
            (p.flags.any(Flags::PORTS), p.sport, p.dport),
            (expected, u16::from(expected), 2 * u16::from(expected))
        );
    }
    for len in 0..4 {
        let p = parsed(&build_v4(|ip| ip[3] = 20 + len));
        assert!(!p.flags.any(Flags::PORTS), "{len} bytes");
    }
    assert!(parsed(&build_v4(|ip| ip[3] = 24)).flags.any(Flags::PORTS));
}

#[test]
fn ipv6_fields_that_contradict_each_other_are_malformed() {
    let good = build(true, true, 1, 2, 64, b"data");
    for version in (0..16).filter(|version| *version != 6) {
        let mut frame = good.clone();
        frame[14] = version << 4;
        assert_punted(&frame, PuntReason::Malformed);
    }
    let mut frame = good;
    frame[14 + 5] += 1;
    assert_punted(&frame, PuntReason::Malformed);
}

#[test]
fn ipv6_martians_are_those_of_ip6_rcv_core() {
    let good = build(true, true, 1, 2, 64, b"data");
    let address = |at: usize, value: u128| {
        let mut frame = good.clone();
        frame[at..at + 16].copy_from_slice(&value.to_be_bytes());
        parse_bytes(&frame, PORT, &MAC)
    };
    let (src, dst) = (14 + 8, 14 + 24);
    let martian = Break(Verdict::Punt(PuntReason::Martian));
    for scope in 0..16u128 {
        let group = 0xff << 120 | scope << 112 | 1;
        assert_eq!(address(src, group), martian);
        assert_eq!(address(dst, group) == martian, scope < 2, "scope {scope}");
    }
    assert_eq!(address(src, 1), martian);
    assert_eq!(address(dst, 1), martian);
    for fine in [0, 2, 0xfe80 << 112 | 1, 0xffff_c000_0201] {
        assert!(
            address(src, fine).is_continue() && address(dst, fine).is_continue(),
            "{fine:#x}"
        );
    }
}

#[test]
fn ipv6_without_payload_is_a_header_only_packet_and_a_jumbogram_is_punted() {
    let p = parsed(&[build_v6(6, &[]), vec![0; 6]].concat());
    assert_eq!((p.l4, p.end, p.proto, p.flags.0), (54, 54, 6, 0));
    let mut jumbo = build_v6(0, &[6, 0, 0xc2, 4, 0, 1, 0, 0]);
    jumbo[18..20].fill(0);
    assert_punted(&jumbo, PuntReason::Extension);
}

#[test]
fn ipv6_extensions_are_flagged_and_behind_them_are_the_ports() {
    let udp = [0, 53, 0, 99, 0, 8, 0, 1];
    for next in [0, 43, 60] {
        let p = parsed(&build_v6(next, &[&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp].concat()));
        assert_eq!((p.l4, p.proto, p.sport, p.dport), (62, 17, 53, 99));
        assert_eq!(p.flags.0, Flags::EXTENSION | Flags::PORTS);
    }
    let p = parsed(&build_v6(44, &[&[17, 0, 0, 1, 0, 0, 0, 7][..], &udp].concat()));
    assert_eq!(p.flags.0, Flags::EXTENSION | Flags::FRAGMENT | Flags::PORTS);
    let p = parsed(&build_v6(44, &[&[17, 0, 0, 8, 0, 0, 0, 7][..], &udp].concat()));
    assert_eq!((p.flags.0, p.sport), (Flags::EXTENSION | Flags::FRAGMENT, 0));
    let p = parsed(&build_v6(60, &[17, 9, 0, 0, 0, 0, 0, 0]));
    assert_eq!((p.l4, p.proto, p.flags.0), (54, 60, Flags::EXTENSION));
    let p = parsed(&build_v6(59, &udp)); // "no next header" is no header
    assert_eq!((p.l4, p.flags.0), (54, 0));
}

#[test]
fn the_frame_functions_are_the_byte_functions() {
    let mut bytes = build(true, false, 7, 8, 64, b"hello");
    let p = parsed(&bytes);
    bytes[60..62].copy_from_slice(&partial(&p));
    let mut frame = Frame::new(Box::leak(Box::new([0; 2048])), FrameId(0), 256);
    frame.fill(&bytes);
    assert_eq!(parse(&frame, PORT, &MAC), Continue(p));
    assert!(complete_checksum(&mut frame, &p));
    assert!(complete_bytes(&mut bytes, &p));
    assert_eq!(frame.bytes(), bytes);
}

/// What a sender leaves in the field, by etherparse's sum: the pseudo-header's, not complemented.
fn partial(p: &Parsed) -> [u8; 2] {
    let sum = match p.family {
        Family::V4 => ep::checksum::Sum16BitWords::new()
            .add_4bytes((p.src as u32).to_be_bytes())
            .add_4bytes((p.dst as u32).to_be_bytes()),
        Family::V6 => ep::checksum::Sum16BitWords::new()
            .add_16bytes(p.src.to_be_bytes())
            .add_16bytes(p.dst.to_be_bytes()),
    };
    let sum = sum.add_2bytes([0, p.proto]).add_2bytes((p.end - p.l4).to_be_bytes());
    (!sum.ones_complement()).to_ne_bytes()
}

fn field(p: &Parsed) -> std::ops::Range<usize> {
    let at = usize::from(p.l4) + if p.proto == 6 { 16 } else { 6 };
    at..at + 2
}

#[test]
fn a_completed_checksum_of_zero_is_sent_as_ffff() {
    for (v6, tcp) in [(false, false), (false, true), (true, false), (true, true)] {
        // The checksum of the packet with a zero word of data, put into that word, makes the sum 0xffff.
        let mut frame = build(v6, tcp, 1, 2, 64, &[0, 0]);
        let p = parsed(&frame);
        let word: [u8; 2] = frame[field(&p)].try_into().unwrap();
        frame[usize::from(p.end) - 2..usize::from(p.end)].copy_from_slice(&word);
        frame[field(&p)].copy_from_slice(&partial(&p));
        assert!(complete_bytes(&mut frame, &p));
        assert_eq!(frame[field(&p)], [0xff, 0xff]);
    }
}

#[test]
fn a_udp_checksum_of_none_stays_none() {
    let mut frame = build(false, false, 1, 2, 64, b"data");
    let p = parsed(&frame);
    frame[field(&p)].fill(0);
    let before = frame.clone();
    assert!(!complete_bytes(&mut frame, &p));
    assert_eq!(frame, before);
}

#[test]
fn fragments_and_other_protocols_are_not_completed() {
    for change in [
        |ip: &mut [u8]| ip[6] = 0x20,
        |ip: &mut [u8]| ip[9] = 1,
        |ip: &mut [u8]| ip[9] = 136,
    ] {
        let mut frame = build_v4(change);
        let p = parsed(&frame);
        for at in [6, 16] {
            let at = usize::from(p.l4) + at;
            frame[at..at + 2].copy_from_slice(&partial(&p));
        }
        let before = frame.clone();
        assert!(!complete_bytes(&mut frame, &p));
        assert_eq!(frame, before);
    }
}

#[test]
fn a_segment_without_its_field_is_not_completed() {
    for len in 0..18 {
        let mut frame = build_v4(|ip| ip[3] = 20 + len);
        let p = parsed(&frame);
        frame[usize::from(p.l4) + 16..][..2].copy_from_slice(&partial(&p));
        assert!(!complete_bytes(&mut frame, &p), "{len} bytes of TCP");
    }
}

proptest! {
    /// Right frames, with padding behind them, are parsed to what etherparse reads in them.
    #[test]
    fn right_frames_parse_as_etherparse_reads_them(
        v6: bool, tcp: bool, sport: u16, dport: u16, ttl: u8, data in prop::collection::vec(any::<u8>(), 0..100), pad in 0usize..20,
    ) {
        let mut frame = build(v6, tcp, sport, dport, ttl, &data);
        let end = frame.len();
        frame.resize(end + pad, 0xee);
        let p = parsed(&frame);
        let theirs = ep::SlicedPacket::from_ethernet(&frame).unwrap();
        let (src, dst, tos) = match theirs.net.as_ref().unwrap() {
            ep::NetSlice::Ipv4(ip) => (
                u32::from_be_bytes(ip.header().source()).into(),
                u32::from_be_bytes(ip.header().destination()).into(),
                ip.header().dcp().value() << 2 | ip.header().ecn().value(),
            ),
            ep::NetSlice::Ipv6(ip) => (
                u128::from_be_bytes(ip.header().source()),
                u128::from_be_bytes(ip.header().destination()),
                ip.header().traffic_class(),
            ),
            ep::NetSlice::Arp(_) => unreachable!(),
        };
        prop_assert_eq!((p.src, p.dst, p.tos, p.ttl, p.port), (src, dst, tos, ttl, PORT));
        prop_assert_eq!((p.sport, p.dport, p.proto), (sport, dport, if tcp { 6 } else { 17 }));
        prop_assert_eq!((p.l3, usize::from(p.l4), usize::from(p.end)), (14, if v6 { 54 } else { 34 }, end));
        prop_assert_eq!(usize::from(p.l3_len()), end - 14);
        prop_assert!(p.flags.any(Flags::PORTS) && !p.flags.any(Flags::FRAGMENT | Flags::OPTIONS | Flags::EXTENSION));
    }

    /// Damaged frames: rx takes a header exactly if etherparse does, the checks that it leaves to its user added.
    #[test]
    fn damaged_frames_are_judged_as_etherparse_judges_them(
        v6: bool, hits in prop::collection::vec((14usize..60, any::<u8>()), 0..3), cut in 0usize..30, right: bool,
    ) {
        let mut frame = build(v6, true, 1, 2, 64, b"some data");
        for (at, value) in hits {
            frame[at] = value;
        }
        frame.truncate(frame.len() - cut);
        if right && let Ok(mut ip) = ipv4::Packet::new_checked(&mut frame[14..]) {
            ip.fill_checksum();
        }
        let ip = &frame[14..];
        let good = match v6 {
            false => ep::Ipv4Header::from_slice(ip).is_ok_and(|(header, _)| {
                (header.header_len()..=ip.len()).contains(&header.total_len.into())
                    && ep::checksum::Sum16BitWords::new().add_slice(&ip[..header.header_len()]).ones_complement() == 0
            }),
            true => ep::Ipv6Header::from_slice(ip).is_ok_and(|(header, rest)| {
                let jumbo = header.payload_length == 0 && header.next_header.0 == 0;
                !jumbo && usize::from(header.payload_length) <= rest.len() && header.source[0] != 0xff
                    && (header.destination[0] != 0xff || header.destination[1] & 0xf > 1)
            }),
        };
        prop_assert_eq!(parse_bytes(&frame, PORT, &MAC).is_continue(), good);
    }

    /// A sender's partial checksum becomes the one that etherparse computed, and the padding is left out of it.
    #[test]
    fn partial_checksums_are_completed(
        v6: bool, tcp: bool, sport: u16, dport: u16, data in prop::collection::vec(any::<u8>(), 0..200), pad in 0usize..20,
    ) {
        let mut frame = build(v6, tcp, sport, dport, 64, &data);
        frame.resize(frame.len() + pad, 0xee);
        let p = parsed(&frame);
        if frame[field(&p)] == [0, 0] {
            frame[field(&p)].fill(0xff); // as skb_checksum_help writes it
        }
        let expected = frame.clone();
        frame[field(&p)].copy_from_slice(&partial(&p));
        prop_assert!(complete_bytes(&mut frame, &p));
        prop_assert_eq!(&frame, &expected);
        complete_bytes(&mut frame, &p);
        prop_assert_eq!(&frame, &expected, "a finished checksum keeps its value");
    }
}

#[test]
fn icmp_has_no_ports() {
    let mut frame = Vec::new();
    let ip = ep::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], MAC).ipv4(V4[0], V4[1], 1);
    ip.icmpv4_echo_request(1, 2).write(&mut frame, b"ping").unwrap();
    let p = parsed(&frame);
    assert_eq!((p.proto, p.ttl, p.flags.any(Flags::PORTS)), (1, 1, false));
    let message = icmp::Packet::new_checked(&frame[p.l4.into()..p.end.into()]).unwrap();
    assert!(message.verify_checksum());
}
