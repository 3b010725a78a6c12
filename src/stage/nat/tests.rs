//! Rewritten packets against checksums computed anew, and quotes against the packets that they quote.

use super::*;
use crate::packet::{Addr, Family, FrameId, PortIndex};
use crate::stage::rx;
use crate::wire::checksum::{fold, never_zero, pseudo_v4, pseudo_v6, sum};
use crate::wire::{Protocol, ipv4, sctp};
use proptest::prelude::*;
use std::ops::ControlFlow::Continue;

mod errors;

const L3: usize = 14;

pub(super) fn frame_of(bytes: &[u8]) -> Frame {
    let mut frame = Frame::new(Box::leak(vec![0; bytes.len() + 64].into_boxed_slice()), FrameId(7), 32);
    frame.fill(bytes);
    frame
}

pub(super) fn parse(frame: &Frame) -> Parsed {
    match rx::parse_any(frame, PortIndex(0)) {
        Continue(parsed) => parsed,
        end => panic!("{end:?}"),
    }
}

fn header_len(family: Family) -> usize {
    match family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

fn pseudo(tuple: &Tuple, len: usize) -> u64 {
    match tuple.family {
        Family::V4 => pseudo_v4(tuple.src as u32, tuple.dst as u32, tuple.proto, len as u16),
        Family::V6 => pseudo_v6(tuple.src, tuple.dst, tuple.proto, len as u32),
    }
}

/// Where a protocol's checksum lies, of those that have an Internet checksum.
fn check_at(proto: Protocol) -> Option<usize> {
    match proto {
        Protocol::TCP => Some(16),
        Protocol::UDP | Protocol::UDPLITE => Some(6),
        Protocol::ICMP | Protocol::ICMPV6 => Some(2),
        _ => None,
    }
}

/// An IP packet with the addresses and ports of `tuple`, `rest` behind them, and right checksums.
pub(super) fn ip_packet(tuple: &Tuple, rest: &[u8]) -> Vec<u8> {
    let proto = Protocol(tuple.proto);
    let mut segment = match proto {
        Protocol::ICMP | Protocol::ICMPV6 => {
            let mut head = tuple.dport.to_be_bytes().to_vec();
            head.extend([0, 0]);
            head.extend(tuple.sport.to_be_bytes());
            head
        }
        Protocol::GRE => {
            let mut head = vec![0x20, 1, 0x88, 0x0b, 0, 0];
            head.extend(tuple.dport.to_be_bytes());
            head
        }
        _ => [tuple.sport.to_be_bytes(), tuple.dport.to_be_bytes()].concat(),
    };
    segment.extend(rest);
    let len = segment.len();
    if matches!(proto, Protocol::UDP | Protocol::UDPLITE) {
        segment[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    }
    if let Some(at) = check_at(proto) {
        segment[at..at + 2].fill(0);
        let pseudo = if proto == Protocol::ICMP { 0 } else { pseudo(tuple, len) };
        let check = !fold(pseudo + sum(&segment));
        let check = if check_at(proto) == Some(6) {
            never_zero(check)
        } else {
            check
        };
        segment[at..at + 2].copy_from_slice(&check.to_be_bytes());
    }
    if proto == Protocol::SCTP {
        sctp::Packet::new_checked(&mut segment[..]).unwrap().fill_checksum();
    }
    let mut packet = match tuple.family {
        Family::V4 => {
            let mut header = vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, tuple.proto, 0, 0];
            header[2..4].copy_from_slice(&(20 + len as u16).to_be_bytes());
            header.extend((tuple.src as u32).to_be_bytes());
            header.extend((tuple.dst as u32).to_be_bytes());
            let check = !fold(sum(&header));
            header[10..12].copy_from_slice(&check.to_be_bytes());
            header
        }
        Family::V6 => {
            let mut header = vec![0x60, 0, 0, 0, 0, 0, tuple.proto, 64];
            header[4..6].copy_from_slice(&(len as u16).to_be_bytes());
            header.extend(tuple.src.to_be_bytes());
            header.extend(tuple.dst.to_be_bytes());
            header
        }
    };
    packet.extend(segment);
    packet
}

/// The same as a frame.
pub(super) fn ethernet(family: Family, ip: &[u8]) -> Vec<u8> {
    let kind = match family {
        Family::V4 => [0x08, 0x00],
        Family::V6 => [0x86, 0xdd],
    };
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &kind, ip].concat()
}

pub(super) fn tuple(family: Family, proto: Protocol, src: (Addr, u16), dst: (Addr, u16)) -> Tuple {
    let proto = match (family, proto) {
        (Family::V6, Protocol::ICMP) => Protocol::ICMPV6,
        _ => proto,
    };
    let wide = |address: Addr| match family {
        Family::V4 => address & 0xffff_ffff,
        Family::V6 => address | 0x2001_0db8 << 96,
    };
    let dport = match proto {
        Protocol::ICMP => 0x0800,
        Protocol::ICMPV6 => 0x8000,
        _ => dst.1,
    };
    Tuple {
        src: wide(src.0),
        dst: wide(dst.0),
        sport: src.1,
        dport,
        proto: proto.0,
        family,
        zone: 0,
    }
}

/// The packet of `from` with `rest` behind its ports, changed to that of `to` at the hooks of `manips`.
fn changed(
    from: &Tuple,
    to: &Tuple,
    manips: &[Manip],
    rest: &[u8],
    spoil: impl FnOnce(&mut [u8]),
) -> (Vec<u8>, Parsed) {
    let mut bytes = ethernet(from.family, &ip_packet(from, rest));
    spoil(&mut bytes[L3 + header_len(from.family)..]);
    let mut frame = frame_of(&bytes);
    let mut packet = parse(&frame);
    for &side in manips {
        assert!(manip(&mut frame, &mut packet, to, side));
    }
    (frame.bytes().to_vec(), packet)
}

const BOTH: [Manip; 2] = [Manip::Destination, Manip::Source];
const KNOWN: [Protocol; 6] = [
    Protocol::TCP,
    Protocol::UDP,
    Protocol::UDPLITE,
    Protocol::SCTP,
    Protocol::ICMP,
    Protocol::ESP,
];

prop_compose! {
    fn any_pair()(
        v6: bool, proto in prop::sample::select(KNOWN.to_vec()), a: [u128; 4], p: [u16; 4],
    ) -> (Tuple, Tuple) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        // No multicast source, no loopback.
        let a = a.map(|address| address & (u128::MAX >> 33) & !(0xe000_0000) | 0x0100_0000);
        (tuple(family, proto, (a[0], p[0]), (a[1], p[1])), tuple(family, proto, (a[2], p[2]), (a[3], p[3])))
    }
}

proptest! {
    /// A right packet becomes the right packet of the other tuple, whatever its length, in either order of the hooks.
    #[test]
    fn a_right_packet_becomes_a_right_packet(
        (from, mut to) in any_pair(), mut rest in prop::collection::vec(any::<u8>(), 20..120), reversed: bool,
    ) {
        rest[8] = 0x50; // TCP without options
        if matches!(Protocol(to.proto), Protocol::ICMP | Protocol::ICMPV6) {
            to.dport = from.dport;
        }
        let mut manips = BOTH;
        if reversed {
            manips.reverse();
        }
        let (bytes, packet) = changed(&from, &to, &manips, &rest, |_| {});
        let mut expected = to;
        if from.proto == Protocol::ESP.0 {
            // What has no ports keeps its bytes.
            (expected.sport, expected.dport) = (from.sport, from.dport);
        }
        prop_assert_eq!(&bytes[L3..], &ip_packet(&expected, &rest)[..]);
        prop_assert_eq!((packet.src, packet.dst), (to.src, to.dst));
        let again = parse(&frame_of(&bytes));
        prop_assert_eq!(packet, again);
    }

    /// What was wrong stays wrong by as much; no 0xffff is left but for UDP, which leaves no 0.
    #[test]
    fn a_wrong_checksum_stays_wrong_by_as_much(
        (from, to) in any_pair(), mut rest in prop::collection::vec(any::<u8>(), 20..120),
        check: u16, zeros in 0u8..4, one: bool,
    ) {
        rest[8] = 0x50;
        let check = match zeros { 0 => 0, 1 => 0xffff, _ => check };
        let proto = Protocol(from.proto);
        let Some(at) = check_at(proto) else { return Ok(()) };
        let mut before = Vec::new();
        let manips = if one { &BOTH[..1] } else { &BOTH[..] };
        let (bytes, packet) = changed(&from, &to, manips, &rest, |segment| {
            segment[at..at + 2].copy_from_slice(&check.to_be_bytes());
            before = segment.to_vec();
        });
        let after = &bytes[L3 + header_len(from.family)..];
        let left = u16::from_be_bytes([after[at], after[at + 1]]);
        if proto == Protocol::UDP && check == 0 {
            prop_assert_eq!(left, 0);
            return Ok(());
        }
        let to = Tuple { src: packet.src, dst: packet.dst, ..from };
        let of = |tuple: &Tuple, segment: &[u8]| {
            let pseudo = if proto == Protocol::ICMP { 0 } else { pseudo(tuple, segment.len()) };
            // The two zeros are one.
            fold(pseudo + sum(segment)) % 0xffff
        };
        prop_assert_eq!(of(&from, &before), of(&to, after));
        let forbidden = if check_at(proto) == Some(6) { 0 } else { 0xffff };
        let is_untouched = proto == Protocol::ICMP && from.sport == to.sport;
        prop_assert!(left != forbidden || is_untouched);
    }

    /// Both sides at once leave the same bytes as one after the other, or as the one that applies.
    #[test]
    fn translate_is_both_manips(
        (mut from, mut to) in any_pair(), tcp: bool, mut rest in prop::collection::vec(any::<u8>(), 20..120),
        which in 1usize..4, check: Option<u16>, edge in 0u8..5,
    ) {
        rest[8] = 0x50;
        let proto = if tcp { Protocol::TCP } else { Protocol::UDP };
        (from.proto, to.proto) = (proto.0, proto.0);
        if which & 1 == 0 {
            (to.src, to.sport) = (from.src, from.sport);
        }
        if which & 2 == 0 {
            (to.dst, to.dport) = (from.dst, from.dport);
        }
        let manips: Vec<_> = [(2, Manip::Destination), (1, Manip::Source)]
            .into_iter()
            .filter_map(|(bit, manip)| (which & bit != 0).then_some(manip))
            .collect();
        let check = match edge { 0 => Some(0), 1 => Some(0xffff), _ => check };
        let at = if tcp { 16 } else { 6 };
        let mut one_pass = Vec::new();
        let (bytes, _) = changed(&from, &to, &manips, &rest, |segment| {
            if let Some(check) = check {
                segment[at..at + 2].copy_from_slice(&check.to_be_bytes());
            }
            one_pass = segment.to_vec();
        });
        let mut ip = ip_packet(&from, &rest);
        let header = header_len(from.family);
        ip[header..].copy_from_slice(&one_pass);
        let mut frame = frame_of(&ethernet(from.family, &ip));
        let packet = parse(&frame);
        translate(&mut frame, &packet, &to);
        prop_assert_eq!(frame.bytes(), &bytes[..]);
    }

    /// Nothing that is cut anywhere makes it panic, and what is dropped is as it was.
    #[test]
    fn cut_packets_are_dropped_as_they_were(
        (from, to) in any_pair(), rest in prop::collection::vec(any::<u8>(), 20..40), cut in 0usize..80, source: bool,
    ) {
        let side = if source { Manip::Source } else { Manip::Destination };
        let mut frame = frame_of(&ethernet(from.family, &ip_packet(&from, &rest)));
        let mut packet = parse(&frame);
        packet.end = packet.end.saturating_sub(cut as u16);
        let before = (frame.bytes().to_vec(), packet);
        let needed = match Protocol(from.proto) {
            Protocol::ESP => 0,
            _ => 8,
        };
        let is_there = usize::from(packet.end) >= usize::from(packet.l4) + needed;
        prop_assert_eq!(manip(&mut frame, &mut packet, &to, side), is_there);
        if !is_there {
            prop_assert_eq!((frame.bytes().to_vec(), packet), before);
        }
        packet.end = packet.end.saturating_sub(100);
        translate(&mut frame, &packet, &to);
    }
}

#[test]
fn which_side_changes_at_which_hook() {
    use Direction::{Original, Reply};
    for (status, direction, manip, expected) in [
        (Status::SRC_NAT, Original, Manip::Source, true),
        (Status::SRC_NAT, Original, Manip::Destination, false),
        (Status::SRC_NAT, Reply, Manip::Source, false),
        (Status::SRC_NAT, Reply, Manip::Destination, true),
        (Status::DST_NAT, Original, Manip::Source, false),
        (Status::DST_NAT, Original, Manip::Destination, true),
        (Status::DST_NAT, Reply, Manip::Source, true),
        (Status::DST_NAT, Reply, Manip::Destination, false),
        (
            Status::SRC_NAT_DONE | Status::DST_NAT_DONE,
            Original,
            Manip::Source,
            false,
        ),
    ] {
        assert_eq!(
            applies(status, direction, manip),
            expected,
            "{status:?} {direction:?} {manip:?}"
        );
    }
}

#[test]
fn a_udp_checksum_that_comes_out_as_0_is_sent_as_ffff() {
    let from = tuple(Family::V4, Protocol::UDP, (0x0a00_0002, 5000), (0xc633_6402, 53));
    // The port by which the checksum of a right packet comes out as 0: found by trying all.
    let to = (0..=u16::MAX).find_map(|sport| {
        let to = Tuple { sport, ..from };
        let segment = &ip_packet(&to, &[0, 8, 0, 0])[20..];
        (segment[6..8] == [0xff, 0xff]).then_some(to)
    });
    let to = to.expect("some port does");
    let (bytes, _) = changed(&from, &to, &[Manip::Source], &[0, 8, 0, 0], |_| {});
    assert_eq!(bytes[L3 + 26..L3 + 28], [0xff, 0xff]);
    let mut frame = frame_of(&ethernet(Family::V4, &ip_packet(&from, &[0, 8, 0, 0])));
    let packet = parse(&frame);
    translate(&mut frame, &packet, &to);
    assert_eq!(frame.bytes()[L3 + 26..L3 + 28], [0xff, 0xff]);
}

#[test]
fn udplite_has_no_none() {
    let from = tuple(Family::V4, Protocol::UDPLITE, (0x0a00_0002, 5000), (0xc633_6402, 53));
    let to = Tuple { sport: 5001, ..from };
    let (bytes, _) = changed(&from, &to, &[Manip::Source], &[0; 8], |segment| segment[6..8].fill(0));
    assert_ne!(bytes[L3 + 26..L3 + 28], [0, 0]);
}

#[test]
fn a_call_id_of_gre_changes_at_the_destination_only() {
    let from = tuple(Family::V4, Protocol::GRE, (0x0a00_0002, 0), (0xc633_6402, 7));
    let to = Tuple {
        sport: 3,
        dport: 9,
        ..from
    };
    let gre = |side, flags: u8| {
        let mut bytes = ethernet(Family::V4, &ip_packet(&from, &[1, 2, 3, 4]));
        bytes[L3 + 21] = flags;
        let mut frame = frame_of(&bytes);
        let mut packet = parse(&frame);
        let done = manip(&mut frame, &mut packet, &to, side);
        done.then(|| frame.bytes()[L3 + 27])
    };
    assert_eq!(gre(Manip::Source, 1), Some(7));
    assert_eq!(gre(Manip::Destination, 1), Some(9));
    assert_eq!(gre(Manip::Destination, 0), Some(7), "version 0 has none");
    assert_eq!(
        gre(Manip::Destination, 2),
        None,
        "and what has another version is dropped"
    );
    assert_eq!(gre(Manip::Source, 2), Some(7));
}

#[test]
fn identifiers_of_icmp_change_where_there_are_any() {
    for (kind, changes) in [
        (0, true),
        (8, true),
        (13, true),
        (14, true),
        (15, true),
        (17, true),
        (18, true),
        (3, false),
        (40, false),
    ] {
        let from = Tuple {
            dport: kind << 8,
            ..tuple(Family::V4, Protocol::ICMP, (0x0a00_0002, 5000), (0xc633_6402, 0))
        };
        let to = Tuple {
            sport: 6000,
            src: from.src + 1,
            ..from
        };
        let (bytes, _) = changed(&from, &to, &[Manip::Source], &[1; 20], |_| {});
        let expected = if changes { to } else { Tuple { sport: 5000, ..to } };
        assert_eq!(bytes[L3..], ip_packet(&expected, &[1; 20])[..], "type {kind}");
    }
    // Of ICMPv6 only echo has one; the checksum follows the address all the same.
    for (kind, changes) in [(128, true), (129, true), (139, false)] {
        let from = Tuple {
            dport: kind << 8,
            ..tuple(Family::V6, Protocol::ICMP, (2, 5000), (3, 0))
        };
        let to = Tuple {
            sport: 6000,
            src: from.src + 1,
            ..from
        };
        let (bytes, _) = changed(&from, &to, &[Manip::Source], &[1; 20], |_| {});
        let expected = if changes { to } else { Tuple { sport: 5000, ..to } };
        assert_eq!(bytes[L3..], ip_packet(&expected, &[1; 20])[..], "type {kind}");
    }
}

#[test]
fn an_ipv4_header_with_options_has_its_ports_behind_them() {
    let from = tuple(Family::V4, Protocol::UDP, (0x0a00_0002, 5000), (0xc633_6402, 53));
    let to = Tuple {
        sport: 6000,
        src: from.src + 1,
        ..from
    };
    let with_options = |tuple| {
        let mut ip = ip_packet(tuple, &[0, 8, 0, 0]);
        ip.splice(20..20, [1; 8]);
        (ip[0], ip[3]) = (0x47, ip[3] + 8);
        let mut header = ipv4::Packet::new_checked(&mut ip[..]).unwrap();
        header.fill_checksum();
        ip
    };
    let mut frame = frame_of(&ethernet(Family::V4, &with_options(&from)));
    let mut packet = parse(&frame);
    assert!(manip(&mut frame, &mut packet, &to, Manip::Source));
    assert_eq!(frame.bytes()[L3..], with_options(&to)[..]);
}

#[test]
fn a_head_that_was_saved_is_put_back_once() {
    let bytes: Vec<u8> = (0..=255).cycle().take(300).collect();
    let mut saved = Saved::new();
    let mut frame = frame_of(&bytes);
    assert!(!saved.restore(&mut frame));
    saved.save(&frame);
    frame.bytes_mut()[..SAVED_LEN].fill(0);
    saved.save(&frame); // what came first counts
    frame.truncate(200);
    assert!(saved.restore(&mut frame));
    assert_eq!(frame.bytes(), &bytes[..]);
    assert!(!saved.restore(&mut frame));
    // A short one; and one that is on its way.
    let mut frame = frame_of(&bytes[..60]);
    saved.save(&frame);
    frame.bytes_mut().fill(0);
    frame.truncate(54);
    assert!(saved.restore(&mut frame));
    assert_eq!(frame.bytes(), &bytes[..60]);
    saved.save(&frame);
    saved.forget();
    assert!(!saved.restore(&mut frame));
    // Another frame than the one that was saved is left alone.
    saved.save(&frame);
    let mut other = Frame::new(Box::leak(vec![9; 100].into_boxed_slice()), FrameId(8), 0);
    other.fill(&[1; 20]);
    assert!(!saved.restore(&mut other));
    assert_eq!(other.bytes(), &[1; 20]);
}
