//! Builds the messages of neighbours: ARP (RFC 826) and neighbour discovery (RFC 4861).

use super::packet::{Mac, packet, proto};
use std::net::{Ipv4Addr, Ipv6Addr};

/// An ARP request from `sender` for `target`, broadcast.
pub fn arp_request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp(1, [0xff; 6], (mac, sender), ([0; 6], target))
}

/// "`address` is at `mac`", said to one asker.
pub fn arp_reply(mac: Mac, address: Ipv4Addr, asker: Mac, asker_address: Ipv4Addr) -> Vec<u8> {
    arp(2, asker, (mac, address), (asker, asker_address))
}

fn arp(operation: u8, to: Mac, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(to);
    frame.extend(sender.0);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, operation]);
    frame.extend(sender.0);
    frame.extend(sender.1.octets());
    frame.extend(target.0);
    frame.extend(target.1.octets());
    frame
}

fn neighbor_message(kind: u8, flags: u8, target: Ipv6Addr, option: u8, mac: Mac) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    body.extend(target.octets());
    body.extend([option, 1]);
    body.extend(mac);
    body
}

/// A solicited neighbour advertisement: `address` is at `mac`.
pub fn neighbor_advertisement(mac: Mac, address: Ipv6Addr, asker: Mac, asker_address: Ipv6Addr) -> Vec<u8> {
    let body = neighbor_message(136, 0x60, address, 2, mac);
    let mut answer = packet(address.into(), asker_address.into(), proto::ICMPV6, body, Some(2)).ttl(255);
    answer.dst_mac = asker;
    answer.src_mac = mac;
    answer.build()
}

/// A multicast neighbour solicitation from `sender` for `target`.
pub fn neighbor_solicitation(mac: Mac, sender: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let body = neighbor_message(135, 0, target, 1, mac);
    let last = target.octets();
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(last[13]),
        u16::from(last[14]) << 8 | u16::from(last[15]),
    );
    let mut ask = packet(sender.into(), group.into(), proto::ICMPV6, body, Some(2)).ttl(255);
    ask.dst_mac = [0x33, 0x33, 0xff, last[13], last[14], last[15]];
    ask.src_mac = mac;
    ask.build()
}
