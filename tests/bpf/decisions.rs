//! The table of frames, and the decision that each must meet on a port that carries both families and has a live worker.

use crate::frames::*;
use crate::lab::MAC;
use bypath::control::steer::{Decision, LocalKind};
use std::net::IpAddr;

pub const SRC: [u8; 4] = [10, 0, 1, 2];
pub const DST: [u8; 4] = [10, 0, 2, 2];
pub const LOCAL: [u8; 4] = [10, 0, 1, 1];
pub const NET_BROADCAST: [u8; 4] = [10, 0, 1, 255];

pub fn own(address: impl Into<IpAddr>) -> (IpAddr, LocalKind) {
    (address.into(), LocalKind::Unicast)
}

pub fn broadcast(address: impl Into<IpAddr>) -> (IpAddr, LocalKind) {
    (address.into(), LocalKind::Broadcast)
}

pub fn transit() -> Vec<u8> {
    v4(|_| ())
}

fn v4(edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    ethernet(MAC, 0x0800, &ipv4(SRC, DST, 17, &udp(22), edit))
}

pub fn v4_addresses(src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
    ethernet(MAC, 0x0800, &ipv4(src, dst, 17, &udp(22), |_| ()))
}

pub fn v6_of(next: u8, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    ethernet(MAC, 0x86dd, &ipv6(v6(1, 2), v6(2, 2), next, &udp(22), edit))
}

pub fn v6_addresses(src: [u8; 16], dst: [u8; 16]) -> Vec<u8> {
    ethernet(MAC, 0x86dd, &ipv6(src, dst, 17, &udp(22), |_| ()))
}

fn v6_ending(first: &[u8], last: &[u8]) -> [u8; 16] {
    let mut address = [0; 16];
    address[..first.len()].copy_from_slice(first);
    address[16 - last.len()..].copy_from_slice(last);
    address
}

fn set_total(packet: &mut [u8], len: u16) {
    packet[2..4].copy_from_slice(&len.to_be_bytes());
}

/// Frames that need nothing but what `Lab::new` set up.
pub fn table() -> Vec<(&'static str, Vec<u8>, Decision)> {
    use Decision::*;
    let cut = |mut frame: Vec<u8>, len: usize| {
        frame.truncate(len);
        frame
    };
    let padded = |mut frame: Vec<u8>, by: usize| {
        frame.resize(frame.len() + by, 0);
        frame
    };
    let host = [10, 0, 2, 2];
    let mut rows = vec![
        ("udp over ipv4", transit(), Redirect),
        (
            "tcp over ipv4",
            ethernet(MAC, 0x0800, &ipv4(SRC, DST, 6, &[0; 20], |_| ())),
            Redirect,
        ),
        (
            "unknown protocol",
            ethernet(MAC, 0x0800, &ipv4(SRC, DST, 253, &[], |_| ())),
            Redirect,
        ),
        ("padding behind ipv4", padded(transit(), 18), Redirect),
        ("first fragment", v4(|p| p[6] = 0x20), Redirect),
        ("later fragment", v4(|p| p[7] = 0x10), Redirect),
        ("ttl 2", v4(|p| p[8] = 2), Redirect),
        ("ttl 1", v4(|p| p[8] = 1), Ttl),
        ("ttl 0", v4(|p| p[8] = 0), Ttl),
        ("ethernet header only", cut(transit(), 14), Truncated),
        ("half an ipv4 header", cut(transit(), 30), Truncated),
        ("19 bytes of ipv4", cut(transit(), 33), Truncated),
        ("ipv4 one byte short", cut(transit(), transit().len() - 1), Truncated),
        ("ipv4 length beyond the frame", v4(|p| set_total(p, 1500)), Truncated),
        ("ipv4 length 65535", v4(|p| set_total(p, 65535)), Truncated),
        ("ipv4 length below its header", v4(|p| set_total(p, 19)), Malformed),
        ("ipv4 length 0", v4(|p| set_total(p, 0)), Malformed),
        ("version 6 in ipv4", v4(|p| p[0] = 0x65), Malformed),
        ("version 0 in ipv4", v4(|p| p[0] = 0x05), Malformed),
        ("ihl 4", v4(|p| p[0] = 0x44), Malformed),
        ("options", v4(|p| p[0] = 0x46), Options),
        ("options up to the end", v4(|p| p[0] = 0x4c), Options),
        ("ihl beyond the length", v4(|p| (p[0], p[3]) = (0x4f, 50)), Malformed),
        ("local", v4_addresses(SRC, LOCAL), Local),
        ("subnet broadcast", v4_addresses(SRC, NET_BROADCAST), Local),
        ("other host", v4_addresses(SRC, host), Redirect),
        ("to broadcast", v4_addresses(SRC, [255; 4]), Martian),
        ("to class e", v4_addresses(SRC, [240, 0, 0, 1]), Redirect),
        ("to multicast at our mac", v4_addresses(SRC, [224, 0, 0, 5]), Martian),
        (
            "to the last multicast",
            v4_addresses(SRC, [239, 255, 255, 255]),
            Martian,
        ),
        ("to loopback", v4_addresses(SRC, [127, 0, 0, 1]), Martian),
        ("to net zero", v4_addresses(SRC, [0, 1, 2, 3]), Martian),
        ("from broadcast", v4_addresses([255; 4], host), Martian),
        ("from multicast", v4_addresses([224, 0, 0, 1], host), Martian),
        ("from loopback", v4_addresses([127, 1, 2, 3], host), Martian),
        ("from zero", v4_addresses([0; 4], host), Martian),
        ("from 128.0.0.1", v4_addresses([128, 0, 0, 1], host), Redirect),
        (
            "broadcast mac",
            ethernet(BROADCAST, 0x0800, &ipv4(SRC, DST, 17, &udp(4), |_| ())),
            Group,
        ),
        (
            "multicast mac",
            ethernet([1, 0, 0x5e, 0, 0, 5], 0x0800, &[0; 40]),
            Group,
        ),
        ("stp", ethernet([1, 0x80, 0xc2, 0, 0, 0], 39, &[0; 50]), Group),
        (
            "foreign mac",
            ethernet([2, 0, 0, 0, 0, 2], 0x0800, &ipv4(SRC, DST, 17, &udp(4), |_| ())),
            ForeignMac,
        ),
        (
            "mac that differs in the first byte",
            ethernet([6, 0, 0, 0, 0, 1], 0x0800, &[0; 40]),
            ForeignMac,
        ),
        (
            "mac that differs in the middle",
            ethernet([2, 0, 1, 0, 0, 1], 0x0800, &[0; 40]),
            ForeignMac,
        ),
        ("802.1q", ethernet(MAC, 0x8100, &[0, 5, 8, 0, 0x45, 0, 0, 20]), Vlan),
        ("802.1ad", ethernet(MAC, 0x88a8, &[0; 40]), Vlan),
        ("arp", ethernet(MAC, 0x0806, &[0; 28]), NotIp),
        ("mpls", ethernet(MAC, 0x8847, &[0; 28]), NotIp),
        ("llc", ethernet(MAC, 40, &[0; 40]), NotIp),
        ("udp over ipv6", v6_of(17, |_| ()), Redirect),
        ("esp over ipv6", v6_of(50, |_| ()), Redirect),
        ("no next header", v6_of(59, |_| ()), Redirect),
        ("padding behind ipv6", padded(v6_of(17, |_| ()), 6), Redirect),
        ("hop limit 1", v6_of(17, |p| p[7] = 1), Ttl),
        ("hop limit 2", v6_of(17, |p| p[7] = 2), Redirect),
        ("39 bytes of ipv6", cut(v6_of(17, |_| ()), 53), Truncated),
        ("ipv6 one byte short", cut(v6_of(17, |_| ()), 83), Truncated),
        ("ipv6 length beyond the frame", v6_of(17, |p| p[4] = 0xff), Truncated),
        ("version 4 in ipv6", v6_of(17, |p| p[0] = 0x45), Malformed),
        ("ipv6 local", v6_addresses(v6(1, 2), v6(1, 1)), Local),
        (
            "ipv6 to loopback",
            v6_addresses(v6(1, 2), v6_ending(&[], &[1])),
            Martian,
        ),
        ("ipv6 to unspecified", v6_addresses(v6(1, 2), [0; 16]), Martian),
        ("ipv6 to ::2", v6_addresses(v6(1, 2), v6_ending(&[], &[2])), Redirect),
        (
            "ipv6 to multicast",
            v6_addresses(v6(1, 2), v6_ending(&[0xff, 2], &[1])),
            Martian,
        ),
        (
            "ipv6 to link-local",
            v6_addresses(v6(1, 2), v6_ending(&[0xfe, 0x80], &[1])),
            Martian,
        ),
        (
            "ipv6 to the last link-local",
            v6_addresses(v6(1, 2), v6_ending(&[0xfe, 0xbf], &[1])),
            Martian,
        ),
        (
            "ipv6 to fec0::1",
            v6_addresses(v6(1, 2), v6_ending(&[0xfe, 0xc0], &[1])),
            Redirect,
        ),
        (
            "ipv6 to ::ffff:10.0.2.2",
            v6_addresses(v6(1, 2), v6_ending(&[], &[0xff, 0xff, 10, 0, 2, 2])),
            Redirect,
        ),
        (
            "ipv6 from ::ffff:10.0.2.2",
            v6_addresses(v6_ending(&[], &[0xff, 0xff, 10, 0, 2, 2]), v6(2, 2)),
            Martian,
        ),
        (
            "ipv6 from loopback",
            v6_addresses(v6_ending(&[], &[1]), v6(2, 2)),
            Martian,
        ),
        ("ipv6 from unspecified", v6_addresses([0; 16], v6(2, 2)), Martian),
        (
            "ipv6 from multicast",
            v6_addresses(v6_ending(&[0xff, 2], &[1]), v6(2, 2)),
            Martian,
        ),
        (
            "ipv6 from link-local",
            v6_addresses(v6_ending(&[0xfe, 0x80], &[1]), v6(2, 2)),
            Martian,
        ),
    ];
    for next in [0, 43, 44, 51, 60, 135, 139, 140] {
        rows.push(("ipv6 extension header", v6_of(next, |_| ()), Extension));
    }
    rows
}
