//! The bodies of the fuzz targets: what must hold for any bytes whatever. `fuzz_targets/` calls them from libFuzzer, and
//! `tests/fuzz.rs` includes this file and calls them with seeded random bytes and the files in `seeds/`, so that a plain
//! `cargo test` covers the same ground, if less of it. An assertion here is a property; so is the absence of a panic.

use bypath::packet::{Family, Flags, Parsed, PortIndex};
use bypath::stage::rx;
use bypath::wire::{Malformed, Protocol, arp, checksum, ether, icmp, icmpv6, ipv4, ipv6, sctp, tcp, udp, vlan};
use std::hint::black_box;
use std::ops::ControlFlow;

mod tracker;
pub use tracker::tracker;

/// Every view over `data`, and rx over it as a frame that is for us.
pub fn wire(data: &[u8]) {
    views(data);
    let Some(mac) = data.first_chunk() else { return };
    parse(data, mac);
    // Few random headers have a right checksum: give it one, to come further.
    let mut right = data.to_vec();
    if let Ok(mut ip) = ipv4::Packet::new_checked(&mut right[ether::HEADER_LEN.min(data.len())..]) {
        ip.fill_checksum();
        parse(&right, mac);
    }
}

/// Calls `$get` of the view of `$module`, if the bytes are one, then `$set`, and once more `$get`: no setter may make a
/// view that `new_checked` would refuse.
macro_rules! view {
    ($data:expr, $module:ident, |$view:ident| $get:expr, |$writable:ident| $set:expr) => {{
        let mut copy = $data.to_vec();
        match $module::Packet::new_checked(&copy[..]) {
            Ok($view) => {
                black_box($get);
                if let Ok(mut $writable) = $module::Packet::new_checked(&mut copy[..]) {
                    $set;
                }
                let $view = $module::Packet::new_checked(&copy[..]).expect("a setter broke the view");
                black_box($get);
            }
            Err(Malformed) => {}
        }
    }};
}

fn views(data: &[u8]) {
    let byte = data.first().copied().unwrap_or(0x5a);
    let half = u16::from_be_bytes([byte, !byte]);
    let word = u32::from(half) << 16 | u32::from(!half);
    let mac = [byte; 6];
    view!(
        data,
        ether,
        |p| (p.dst(), p.src(), p.ethertype(), p.is_group(), p.payload().len()),
        |p| {
            p.set_dst(&mac);
            p.set_src(&mac);
            p.set_ethertype(ether::EtherType(half));
            p.payload_mut().fill(byte);
        }
    );
    view!(
        data,
        vlan,
        |p| (
            p.tci(),
            p.priority(),
            p.drop_eligible(),
            p.vid(),
            p.ethertype(),
            p.payload().len()
        ),
        |p| {
            p.set_priority(byte);
            p.set_ethertype(ether::EtherType(half));
            p.payload_mut().fill(byte);
        }
    );
    view!(
        data,
        arp,
        |p| (
            p.operation(),
            p.sender_mac(),
            p.sender_ip(),
            p.target_mac(),
            p.target_ip(),
            p.payload().len()
        ),
        |p| {
            p.set_sender_mac(&mac);
            p.set_sender_ip(word);
            p.set_target_mac(&mac);
            p.set_target_ip(word);
        }
    );
    network(data, byte, word);
    transport(data, byte, half);
}

fn network(data: &[u8], byte: u8, word: u32) {
    view!(
        data,
        ipv4,
        |p| (
            (
                p.header_len(),
                p.tos(),
                p.total_len(),
                p.ident(),
                p.dont_fragment(),
                p.more_fragments()
            ),
            (
                p.fragment_offset(),
                p.is_fragment(),
                p.ttl(),
                p.protocol(),
                p.checksum(),
                p.src(),
                p.dst()
            ),
            (p.options().len() + p.payload().len(), p.verify_checksum()),
        ),
        |p| {
            p.set_tos(byte);
            p.set_ttl(byte);
            p.set_src(word);
            p.set_dst(!word);
            p.fill_checksum();
            assert!(p.verify_checksum());
            p.decrement_ttl();
            assert!(
                p.verify_checksum() || p.ttl() == 0xff,
                "only a TTL that wraps leaves a wrong checksum"
            );
            p.payload_mut().fill(byte);
        }
    );
    view!(
        data,
        ipv6,
        |p| {
            let upper = p.upper();
            assert!(upper.offset >= ipv6::HEADER_LEN && upper.offset <= ipv6::HEADER_LEN + p.payload_len());
            assert!(upper.extensions == (upper.offset > ipv6::HEADER_LEN) || upper.protocol.is_extension());
            (
                (
                    p.traffic_class(),
                    p.flow_label(),
                    p.payload_len(),
                    p.next_header(),
                    p.hop_limit(),
                ),
                (p.src(), p.dst(), p.payload().len(), upper),
            )
        },
        |p| {
            p.set_traffic_class(byte);
            p.set_hop_limit(byte);
            p.decrement_hop_limit();
            p.set_src(u128::from(word) << 77);
            p.set_dst(!u128::from(word));
            p.payload_mut().fill(byte);
        }
    );
}

fn transport(data: &[u8], byte: u8, half: u16) {
    let pseudo = checksum::pseudo_v4(half.into(), 1, byte | 1, data.len() as u16);
    view!(
        data,
        sctp,
        |p| {
            let tags = p.chunks().filter_map(|chunk| chunk.initiate_tag()).count();
            assert!(p.chunks().count() <= data.len() / 4);
            (p.src_port(), p.dst_port(), p.tag(), p.verify_checksum(), tags)
        },
        |p| {
            p.fill_checksum();
            assert!(p.verify_checksum());
        }
    );
    view!(
        data,
        tcp,
        |p| (
            (
                p.src_port(),
                p.dst_port(),
                p.sequence(),
                p.acknowledgement(),
                p.header_len(),
                p.flags(),
                p.window()
            ),
            (
                p.checksum(),
                p.urgent(),
                p.options().len(),
                p.each_option().map(|(_, data)| data.len()).sum::<usize>(),
                p.payload().len(),
                p.verify_checksum(pseudo)
            ),
        ),
        |p| {
            p.set_src_port(half);
            p.set_dst_port(!half);
            p.payload_mut().fill(byte);
            p.fill_checksum(pseudo);
            assert!(p.verify_checksum(pseudo));
        }
    );
    view!(
        data,
        udp,
        |p| (
            p.src_port(),
            p.dst_port(),
            p.total_len(),
            p.checksum(),
            p.payload().len(),
            p.verify_checksum(pseudo)
        ),
        |p| {
            p.set_src_port(half);
            p.set_dst_port(!half);
            p.payload_mut().fill(byte);
            p.fill_checksum(pseudo);
            assert!(p.verify_checksum(pseudo) && p.checksum() != 0);
        }
    );
    view!(
        data,
        icmp,
        |p| (
            (
                p.kind(),
                p.kind().is_error(),
                p.code(),
                p.checksum(),
                p.ident(),
                p.sequence(),
                p.mtu()
            ),
            (p.payload().len(), p.verify_checksum()),
        ),
        |p| {
            p.set_ident(half);
            p.payload_mut().fill(byte);
            p.fill_checksum();
        }
    );
    view!(
        data,
        icmpv6,
        |p| (
            (
                p.kind(),
                p.kind().is_error(),
                p.code(),
                p.checksum(),
                p.ident(),
                p.sequence()
            ),
            (p.mtu(), p.payload().len(), p.verify_checksum(pseudo)),
        ),
        |p| {
            p.set_ident(half);
            p.payload_mut().fill(byte);
            p.fill_checksum(pseudo);
            assert!(p.verify_checksum(pseudo));
        }
    );
}

/// What later stages trust about a parsed packet, and what completing its checksum may touch.
fn parse(frame: &[u8], mac: &[u8; 6]) {
    let ControlFlow::Continue(p) = rx::parse_bytes(frame, PortIndex(1), mac) else {
        return;
    };
    let (l3, l4, end) = (usize::from(p.l3), usize::from(p.l4), usize::from(p.end));
    assert!(l3 == ether::HEADER_LEN && l3 + 20 <= l4 && l4 <= end && end <= frame.len());
    assert_eq!(usize::from(p.l3_len()), end - l3);
    if p.flags.any(Flags::PORTS) {
        assert!(Protocol(p.proto).has_ports() && l4 + 4 <= end);
        assert_eq!(
            [p.sport.to_be_bytes(), p.dport.to_be_bytes()].concat(),
            frame[l4..l4 + 4]
        );
    } else {
        assert_eq!((p.sport, p.dport), (0, 0));
    }
    assert!(p.family == Family::V4 || p.flags.0 & Flags::OPTIONS == 0);
    assert!(p.family == Family::V6 || p.flags.0 & Flags::EXTENSION == 0);
    let mut completed = frame.to_vec();
    if rx::complete_bytes(&mut completed, &p) {
        assert_complete(&completed, frame, &p);
    } else {
        assert_eq!(completed, frame);
    }
}

fn assert_complete(completed: &[u8], frame: &[u8], p: &Parsed) {
    let segment = usize::from(p.l4)..usize::from(p.end);
    let at = segment.start
        + if p.proto == Protocol::TCP.0 {
            tcp::CHECKSUM_AT
        } else {
            udp::CHECKSUM_AT
        };
    assert!(!p.flags.any(Flags::FRAGMENT) && frame[at..at + 2] != [0, 0] && completed[at..at + 2] != [0, 0]);
    assert_eq!(completed[..at], frame[..at]);
    assert_eq!(completed[at + 2..], frame[at + 2..]);
    let pseudo = match p.family {
        Family::V4 => checksum::pseudo_v4(p.src as u32, p.dst as u32, p.proto, segment.len() as u16),
        Family::V6 => checksum::pseudo_v6(p.src, p.dst, p.proto, segment.len() as u32),
    };
    assert_eq!(checksum::fold(pseudo + checksum::sum(&completed[segment])), 0xffff);
}

/// A checksum that is brought after rewritten fields equals the one computed anew.
///
/// `data` is a script: 2 bytes of checksum, then per rewrite a kind, a place and 16 bytes of new value; what is left is the
/// packet.
pub fn checksum(data: &[u8]) {
    const STEP: usize = 18;
    let Some((head, rest)) = data.split_at_checked(2) else {
        return;
    };
    let steps = usize::from(head[0] % 4).min(rest.len() / STEP);
    let (script, packet) = rest.split_at(steps * STEP);
    assert_eq!(checksum::fold(checksum::sum(packet)), slow_fold(packet));
    if packet.len() < 16 || packet.iter().all(|byte| *byte == 0) {
        return; // of a packet of zeros, both zeros are the checksum
    }
    let mut packet = packet.to_vec();
    let before = checksum::checksum(&packet);
    let (mut delta, mut step_by_step) = (checksum::Delta::NONE, before);
    for step in script.chunks_exact(STEP) {
        let at = (usize::from(step[1]) % (packet.len() - 15)) & !1;
        let width = [2, 4, 16][usize::from(step[0] % 3)];
        let number = |bytes: &[u8]| bytes.iter().fold(0u128, |n, byte| n << 8 | u128::from(*byte));
        let (old, new) = (number(&packet[at..at + width]), number(&step[2..2 + width]));
        packet[at..at + width].copy_from_slice(&step[2..2 + width]);
        let this = match width {
            2 => checksum::Delta::NONE.field16(old as u16, new as u16),
            4 => checksum::Delta::NONE.field32(old as u32, new as u32),
            _ => checksum::Delta::NONE.field128(old, new),
        };
        delta = delta.and(this);
        step_by_step = this.apply(step_by_step);
    }
    assert_eq!(delta.apply(before), step_by_step);
    // A packet that became all zeros has 0xffff computed anew; an update never says so.
    assert_eq!(
        checksum::never_zero(step_by_step),
        checksum::never_zero(checksum::checksum(&packet))
    );
    assert_eq!(
        delta.apply_udp(checksum::never_zero(before)),
        checksum::never_zero(step_by_step)
    );
}

fn slow_fold(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |sum, pair| {
        let word = u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u32::from(*byte));
        let sum = u32::from(sum) + word;
        (sum + (sum >> 16)) as u16
    })
}
