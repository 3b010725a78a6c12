//! The head of a frame: its headers, made once for each size, and the sums over what does not vary.
//!
//! A frame then costs its flow's addresses and ports, its tag, and two additions for the checksums: nothing is summed twice
//! (RFC 1624 by sums that are kept, not by differences).

use super::{Places, Sender, Shape};
use crate::bench::tag::{TAG_LEN, TAG_MIN, fill};
use crate::bench::work::{Kind, Work};
use crate::wire::{Protocol, checksum, ether, icmp, icmpv6, ipv4, ipv6, tcp, udp};
use std::net::IpAddr;

const TTL: u8 = 64;

/// The bytes of headers of a kind of frame.
pub const fn headers(kind: Kind, v6: bool) -> usize {
    let ip = if v6 { ipv6::HEADER_LEN } else { ipv4::HEADER_LEN };
    let upper = match kind {
        Kind::Udp => udp::HEADER_LEN,
        Kind::TcpSyn | Kind::TcpAck => tcp::HEADER_LEN,
        Kind::Icmp => icmp::HEADER_LEN,
    };
    ether::HEADER_LEN + ip + upper
}

/// Where the varying fields of a kind lie.
pub(super) fn places(kind: Kind, v6: bool) -> Places {
    let ip = ether::HEADER_LEN;
    let upper = ip + if v6 { ipv6::HEADER_LEN } else { ipv4::HEADER_LEN };
    let (check, sport, number) = match kind {
        Kind::Udp => (udp::CHECKSUM_AT, 0, 0),
        Kind::TcpSyn | Kind::TcpAck => (tcp::CHECKSUM_AT, 0, 0),
        Kind::Icmp => (2, 4, upper + 6),
    };
    Places {
        ip_check: if v6 { 0 } else { ip + 10 },
        src: ip + if v6 { 20 } else { 12 },
        dst: ip + if v6 { 36 } else { 16 },
        sport: upper + sport,
        check: upper + check,
        number,
        tag: headers(kind, v6),
    }
}

/// What the frames of `len` bytes have in common.
pub(super) fn shape(work: &Work, run: u16, sender: &Sender, v6: bool, len: usize) -> Shape {
    let (at, tag) = (places(work.kind, v6), headers(work.kind, v6));
    let upper_at = ether::HEADER_LEN + if v6 { ipv6::HEADER_LEN } else { ipv4::HEADER_LEN };
    let mut frame = Vec::with_capacity(len);
    frame.extend(work.dst_mac);
    frame.extend(work.src_mac.unwrap_or(sender.mac));
    ip_header(work, len - ether::HEADER_LEN, &mut frame);
    upper_header(work, v6, len - upper_at, &mut frame);
    frame.extend(run.to_be_bytes());
    frame.extend([0; TAG_MIN - 2]);
    let head = frame.clone();
    let flow = len - tag >= TAG_LEN;
    if flow {
        frame.extend([0; TAG_LEN - TAG_MIN]);
    }
    frame.extend((frame.len() - tag..len - tag).map(fill));
    frame[at.src..at.src + 4].fill(0);
    frame[at.dst..at.dst + 4].fill(0);
    let upper = &frame[upper_at..];
    let protocol = protocol(work.kind, v6).0;
    let pseudo = match (v6, work.kind) {
        (false, Kind::Icmp) => 0,
        (false, _) => checksum::pseudo_v4(0, 0, protocol, upper.len() as u16),
        (true, _) => {
            let addresses = &frame[ether::HEADER_LEN + 8..upper_at];
            checksum::sum(addresses) + checksum::pseudo_v6(0, 0, protocol, upper.len() as u32)
        }
    };
    Shape {
        len,
        ip_sum: checksum::fold(checksum::sum(&frame[ether::HEADER_LEN..upper_at])),
        sum: checksum::fold(pseudo + checksum::sum(upper)),
        head,
        flow,
    }
}

fn protocol(kind: Kind, v6: bool) -> Protocol {
    match kind {
        Kind::Udp => Protocol::UDP,
        Kind::TcpSyn | Kind::TcpAck => Protocol::TCP,
        Kind::Icmp if v6 => Protocol::ICMPV6,
        Kind::Icmp => Protocol::ICMP,
    }
}

/// The EtherType and an IP header, without checksum and with the addresses of the work; `len` is that of the packet.
fn ip_header(work: &Work, len: usize, into: &mut Vec<u8>) {
    match (work.src, work.dst) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            into.extend(ether::EtherType::IPV6.0.to_be_bytes());
            into.extend([0x60, 0, 0, 0]);
            into.extend(((len - ipv6::HEADER_LEN) as u16).to_be_bytes());
            into.extend([protocol(work.kind, true).0, TTL]);
            into.extend(src.octets());
            into.extend(dst.octets());
        }
        _ => {
            into.extend(ether::EtherType::IPV4.0.to_be_bytes());
            into.extend([0x45, 0]);
            into.extend((len as u16).to_be_bytes());
            // No identification, and not to be fragmented.
            into.extend([0, 0, 0x40, 0, TTL, protocol(work.kind, false).0, 0, 0]);
            into.extend([0; 8]);
        }
    }
}

/// The header behind it, without checksum and source port; `len` is that of the header and all behind it.
fn upper_header(work: &Work, v6: bool, len: usize, into: &mut Vec<u8>) {
    let dport = work.dport.to_be_bytes();
    match work.kind {
        Kind::Udp => {
            into.extend([0, 0]);
            into.extend(dport);
            into.extend((len as u16).to_be_bytes());
            into.extend([0, 0]);
        }
        Kind::TcpSyn | Kind::TcpAck => {
            let (ack, flags) = match work.kind {
                Kind::TcpSyn => (0u32, tcp::Flags::SYN),
                _ => (1, tcp::Flags::PSH | tcp::Flags::ACK),
            };
            into.extend([0, 0]);
            into.extend(dport);
            // The same sequence in all: to a tracker that judges windows they are repetitions, and in its window.
            into.extend(1u32.to_be_bytes());
            into.extend(ack.to_be_bytes());
            into.extend([(tcp::HEADER_LEN as u8 / 4) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        }
        Kind::Icmp if v6 => into.extend([icmpv6::Type::ECHO.0, 0, 0, 0, 0, 0, 0, 0]),
        Kind::Icmp => into.extend([icmp::Type::ECHO.0, 0, 0, 0, 0, 0, 0, 0]),
    }
}
