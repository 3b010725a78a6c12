//! ICMP errors: what comes out quotes what their receiver has sent, as far as it is quoted.
//!
//! A packet is made as its sender sends it and as it looks behind the translation; the error quotes the latter, cut at
//! every length, and must come out with the former in it. Checksums are those of the packets as they were made, not of
//! ours.

use super::*;
use crate::wire::checksum;

/// A connection with NAT of both sides, and what each end calls itself and the other.
struct Flow {
    original: Tuple,
    reply: Tuple,
    status: Status,
}

const ROUTER: Addr = 0x0b01_0101;

fn flow(family: Family, proto: Protocol, source: bool, destination: bool) -> Flow {
    let original = tuple(family, proto, (0x0a00_0002, 5000), (0x0a00_00fe, 80));
    let mut translated = original;
    let mut status = Status(0);
    // What has no ports keeps the bytes that lie there.
    let ports = if proto == Protocol::ESP {
        (5000, 80)
    } else {
        (40000, 8080)
    };
    let other = tuple(family, proto, (0x0c00_0201, ports.0), (0x0c33_6402, ports.1));
    if source {
        (translated.src, translated.sport) = (other.src, other.sport);
        status = status | Status::SRC_NAT;
    }
    if destination {
        (translated.dst, translated.dport) = (other.dst, other.dport);
        status = status | Status::DST_NAT;
    }
    Flow {
        original,
        reply: translated.invert().unwrap(),
        status: status | Status::SRC_NAT_DONE | Status::DST_NAT_DONE,
    }
}

/// An ICMP error from `src` to `dst` that quotes `quote`, and `behind` it.
fn error(family: Family, src: Addr, dst: Addr, kind: u8, quote: &[u8]) -> Vec<u8> {
    let proto = match family {
        Family::V4 => Protocol::ICMP,
        Family::V6 => Protocol::ICMPV6,
    };
    let head = Tuple {
        src,
        dst,
        sport: 0,
        dport: u16::from(kind) << 8 | 1,
        proto: proto.0,
        family,
        zone: 0,
    };
    ethernet(family, &ip_packet(&head, &[&[5, 6][..], quote].concat()))
}

fn unreachable(family: Family) -> u8 {
    match family {
        Family::V4 => 3,
        Family::V6 => 1,
    }
}

/// Sends an error about a packet of `flow` through both hooks, to the side `to`; `len` bytes are quoted.
fn through(flow: &Flow, to: Direction, rest: &[u8], len: usize) -> Option<(Vec<u8>, Vec<u8>, Frame)> {
    // The receiver of the error sent a packet of the other direction than the one that it gets; whoever sends the error
    // saw it translated.
    let (sent, seen) = match to {
        Direction::Reply => (flow.original, flow.reply.invert().unwrap()),
        Direction::Original => (flow.reply, flow.original.invert().unwrap()),
    };
    let (sent, seen) = (ip_packet(&sent, rest), ip_packet(&seen, rest));
    let len = len.min(seen.len());
    let family = flow.original.family;
    let side = match to {
        Direction::Reply => &flow.reply,
        Direction::Original => &flow.original,
    };
    let bytes = error(
        family,
        tuple(family, Protocol::TCP, (ROUTER, 0), (0, 0)).src,
        side.dst,
        unreachable(family),
        &seen[..len],
    );
    let mut frame = frame_of(&bytes);
    let mut packet = parse(&frame);
    for manip in [Manip::Destination, Manip::Source] {
        match icmp_error(
            &mut frame,
            &mut packet,
            flow.status,
            to,
            [&flow.original, &flow.reply],
            manip,
        ) {
            Translated::Done => {}
            Translated::Drop => return None,
            Translated::Punt => panic!("this needs no punt"),
        }
    }
    assert_eq!(packet, parse(&frame), "the fields follow the bytes");
    Some((sent[..len].to_vec(), seen[..len].to_vec(), frame))
}

fn check(flow: &Flow, to: Direction, rest: &[u8], len: usize) {
    let family = flow.original.family;
    let header = header_len(family);
    let proto = Protocol(flow.original.proto);
    let full = len >= ip_packet(&flow.original, rest).len();
    let Some((sent, _, frame)) = through(flow, to, rest, len) else {
        let translated = flow.status.any(Status::SRC_NAT | Status::DST_NAT);
        assert!(
            translated && len < header + 8 && proto != Protocol::ESP,
            "dropped with {len} bytes"
        );
        return;
    };
    let packet = parse(&frame);
    let message = &frame.bytes()[packet.l4.into()..packet.end.into()];
    let mut quoted = message[8..].to_vec();
    let mut sent = sent;
    if proto == Protocol::TCP && len < header + 20 || proto == Protocol::SCTP && !full {
        // No checksum that could follow; that of SCTP is made anew over what is there.
        let at = if proto == Protocol::TCP { 16..18 } else { 8..12 };
        for at in at.map(|at| header + at).filter(|at| *at < len) {
            (quoted[at], sent[at]) = (0, 0);
        }
    }
    assert_eq!(quoted, sent, "{proto:?}, {len} bytes");
    // The error goes to whoever sent that, and is right.
    let other = match to {
        Direction::Reply => flow.original,
        Direction::Original => flow.reply,
    };
    assert_eq!(packet.dst, other.src);
    let pseudo = match family {
        Family::V4 => 0,
        Family::V6 => checksum::pseudo_v6(packet.src, packet.dst, packet.proto, message.len() as u32),
    };
    assert_eq!(checksum::fold(pseudo + checksum::sum(message)), 0xffff);
}

#[test]
fn what_is_quoted_is_what_was_sent() {
    let mut rest = vec![7; 41];
    rest[8] = 0x50;
    for family in Family::ALL {
        for proto in KNOWN {
            for (source, destination) in [(true, false), (false, true), (true, true), (false, false)] {
                let flow = flow(family, proto, source, destination);
                let whole = ip_packet(&flow.original, &rest).len();
                for len in header_len(family)..=whole {
                    // Answers to a ping, and the ping.
                    check(&flow, Direction::Reply, &rest, len);
                    check(&flow, Direction::Original, &rest, len);
                }
            }
        }
    }
}

#[test]
fn the_sender_of_an_error_becomes_the_other_end_only_where_that_is_translated() {
    for (source, destination) in [(true, false), (true, true)] {
        let flow = flow(Family::V4, Protocol::UDP, source, destination);
        let (_, _, frame) = through(&flow, Direction::Reply, &[0, 8, 0, 0], 28).unwrap();
        let expected = if destination { flow.original.dst } else { ROUTER };
        assert_eq!(parse(&frame).src, expected);
    }
}

/// One hook of an error about a connection with source NAT, after `spoil`.
fn one(kind: u8, status: Status, spoil: impl FnOnce(&mut Vec<u8>), manip: Manip) -> (Translated, bool) {
    let flow = flow(Family::V4, Protocol::UDP, true, false);
    let quote = ip_packet(&flow.reply.invert().unwrap(), &[0, 8, 0, 0]);
    let mut bytes = error(Family::V4, ROUTER, flow.reply.dst, kind, &quote);
    spoil(&mut bytes);
    let mut frame = frame_of(&bytes);
    let mut packet = parse(&frame);
    let tuples = [&flow.original, &flow.reply];
    let said = icmp_error(&mut frame, &mut packet, status, Direction::Reply, tuples, manip);
    (said, frame.bytes() == bytes)
}

const DECIDED: Status = Status(Status::SRC_NAT_DONE.0 | Status::DST_NAT_DONE.0);

#[test]
fn a_redirect_passes_only_where_nothing_is_translated() {
    let redirect = |status| one(5, status, |_| {}, Manip::Destination);
    assert_eq!(redirect(DECIDED), (Translated::Done, true));
    assert_eq!(redirect(DECIDED | Status::SRC_NAT), (Translated::Drop, true));
    assert_eq!(redirect(DECIDED | Status::DST_NAT), (Translated::Drop, true));
    assert_eq!(redirect(Status::SRC_NAT_DONE), (Translated::Drop, true));
    let unreachable = |status| one(3, status, |_| {}, Manip::Destination);
    assert_eq!(unreachable(DECIDED | Status::SRC_NAT), (Translated::Done, false));
    assert_eq!(
        unreachable(DECIDED | Status::DST_NAT),
        (Translated::Done, true),
        "not here"
    );
}

#[test]
fn a_wrong_checksum_is_dropped_at_the_first_hook() {
    let wrong = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    for status in [DECIDED, DECIDED | Status::SRC_NAT] {
        assert_eq!(one(3, status, wrong, Manip::Destination), (Translated::Drop, true));
    }
    assert_eq!(one(3, DECIDED, wrong, Manip::Source), (Translated::Done, true));
}

/// Makes the checksum right again.
fn right(bytes: &mut [u8]) {
    bytes[L3 + 22..L3 + 24].fill(0);
    let check = checksum::checksum(&bytes[L3 + 20..]);
    bytes[L3 + 22..L3 + 24].copy_from_slice(&check.to_be_bytes());
}

#[test]
fn a_quote_that_is_cut_or_lies_of_its_length() {
    const QUOTE: usize = L3 + 28;
    let status = DECIDED | Status::SRC_NAT;
    let cut = |len: usize| {
        let spoil = |bytes: &mut Vec<u8>| {
            bytes.truncate(QUOTE + len);
            let total = (bytes.len() - L3) as u16;
            bytes[L3 + 2..L3 + 4].copy_from_slice(&total.to_be_bytes());
            ipv4::Packet::new_checked(&mut bytes[L3..]).unwrap().fill_checksum();
            right(bytes);
        };
        one(3, status, spoil, Manip::Destination)
    };
    assert_eq!(cut(28), (Translated::Done, false));
    assert_eq!(cut(27), (Translated::Drop, true));
    assert_eq!(cut(19), (Translated::Drop, true));
    assert_eq!(cut(0), (Translated::Drop, true));
    let header = |words: u8| {
        let spoil = |bytes: &mut Vec<u8>| {
            bytes[QUOTE] = 0x40 | words;
            right(bytes);
        };
        one(3, status, spoil, Manip::Destination)
    };
    assert_eq!(header(3), (Translated::Punt, true));
    assert_eq!(header(15), (Translated::Drop, true));
}

#[test]
fn what_would_change_more_than_is_saved_is_the_kernels() {
    let flow = flow(Family::V6, Protocol::TCP, true, false);
    let with_options = |units: u8| {
        let mut rest = vec![0; 40];
        rest[8] = 0x50;
        let mut quote = ip_packet(&flow.reply.invert().unwrap(), &rest);
        let len = usize::from(units + 1) * 8;
        let mut options = vec![0; len];
        (options[0], options[1]) = (quote[6], units);
        quote[6] = Protocol::DEST_OPTIONS.0;
        quote[5] += len as u8;
        quote.splice(40..40, options);
        let router = tuple(Family::V6, Protocol::TCP, (ROUTER, 0), (0, 0)).src;
        let bytes = error(Family::V6, router, flow.reply.dst, 1, &quote);
        let mut frame = frame_of(&bytes);
        let mut packet = parse(&frame);
        let tuples = [&flow.original, &flow.reply];
        let said = icmp_error(
            &mut frame,
            &mut packet,
            flow.status,
            Direction::Reply,
            tuples,
            Manip::Destination,
        );
        // 14 + 40 + 8 + 40: then options and the TCP header up to its checksum.
        let ports = frame.bytes()[102 + len..].first_chunk::<4>().copied();
        (said, frame.bytes() == bytes, ports)
    };
    let (said, same, ports) = with_options(7);
    assert_eq!((said, same), (Translated::Done, false));
    assert_eq!(ports, Some([0x13, 0x88, 0, 80]), "behind 64 bytes of options");
    let (said, same, _) = with_options(8);
    assert_eq!((said, same), (Translated::Done, false), "192 bytes in all");
    let (said, same, _) = with_options(9);
    assert_eq!((said, same), (Translated::Punt, true));
}
