//! "Congestion experienced", RFC 3168, as INET_ECN_set_ce (include/net/inet_ecn.h): what a qdisc does to a packet whose sender
//! wants to be told instead of losing it. Looked for behind VLAN tags; what is not IP, or does not know ECN, is left as it
//! is, and the header checksum of IPv4 follows the change.

use crate::wire::ether::{self, EtherType};
use crate::wire::{ipv4, ipv6, vlan};

/// The two bits of TOS and traffic class.
const MASK: u8 = 0b11;

/// Marks the packet in the frame `bytes`, behind its VLAN tags; whether it says so now. One whose sender does not know ECN, and
/// what is not IP, stays as it is.
pub fn set_congestion(bytes: &mut [u8]) -> bool {
    let Ok(ethernet) = ether::Packet::new_checked(&*bytes) else {
        return false;
    };
    let (mut ethertype, mut at) = (ethernet.ethertype(), ether::HEADER_LEN);
    while ethertype.is_tag() {
        let Some(Ok(tag)) = bytes.get(at..).map(vlan::Packet::new_checked) else {
            return false;
        };
        ethertype = tag.ethertype();
        at += vlan::HEADER_LEN;
    }
    let Some(bytes) = bytes.get_mut(at..) else {
        return false;
    };
    match ethertype {
        EtherType::IPV4 => match ipv4::Packet::new_checked(bytes) {
            Ok(mut packet) if packet.tos() & MASK != 0 => {
                // As IP_ECN_set_ce adds it, so that of the two zeros it is the same one.
                let grows = u32::from(MASK - (packet.tos() & MASK));
                let sum = u32::from(packet.checksum()) + 0xffff - grows;
                packet.set_tos(packet.tos() | MASK);
                if grows > 0 {
                    packet.set_checksum((sum + u32::from(sum >= 0xffff)) as u16);
                }
                true
            }
            _ => false,
        },
        EtherType::IPV6 => match ipv6::Packet::new_checked(bytes) {
            Ok(mut packet) if packet.traffic_class() & MASK != 0 => {
                packet.set_traffic_class(packet.traffic_class() | MASK);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum;

    /// A header of IPv4 with this TOS, in a frame; `ident` moves its checksum.
    fn v4(tos: u8, ident: u16, tagged: bool) -> Vec<u8> {
        let mut frame = vec![2; 12];
        if tagged {
            frame.extend([0x81, 0, 0, 5]);
        }
        frame.extend([8, 0]);
        let at = frame.len();
        frame.extend([0x45, tos, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 1, 0, 2]);
        frame[at + 4..at + 6].copy_from_slice(&ident.to_be_bytes());
        let check = checksum::checksum(&frame[at..]);
        frame[at + 10..at + 12].copy_from_slice(&check.to_be_bytes());
        frame
    }

    #[test]
    fn who_knows_ecn_is_told_and_the_checksum_holds() {
        for (ident, tagged) in (0..=u16::MAX).map(|ident| (ident, ident % 2 == 0)) {
            for (tos, becomes) in [(0xb9, 0xbb), (0xba, 0xbb), (0xbb, 0xbb)] {
                let mut frame = v4(tos, ident, tagged);
                assert!(set_congestion(&mut frame));
                let at = frame.len() - 20;
                assert_eq!(frame[at + 1], becomes);
                assert!(checksum::holds(&frame[at..]));
                assert_ne!(frame[at + 10..at + 12], [0xff; 2], "the kernel's zero is the other one");
            }
        }
    }

    #[test]
    fn who_does_not_know_ecn_is_left_alone() {
        let arp = [&[2; 12][..], &[8, 6], &[0; 28]].concat();
        let short = [&[2; 12][..], &[0x81, 0, 0, 5, 8, 0, 0x45, 3]].concat();
        for frame in [v4(0xb8, 7, false), v4(0, 7, true), arp, short, Vec::new()] {
            let mut marked = frame.clone();
            assert!(!set_congestion(&mut marked));
            assert_eq!(marked, frame);
        }
    }

    #[test]
    fn ipv6_has_it_in_its_traffic_class() {
        let header = |b0, b1| [&[2; 12][..], &[0x86, 0xdd, b0, b1, 0, 0, 0, 0, 59, 64], &[1; 32]].concat();
        let mut frame = header(0x6b, 0xa0);
        assert!(set_congestion(&mut frame));
        assert_eq!(frame, header(0x6b, 0xb0));
        assert!(!set_congestion(&mut header(0x6b, 0x80)));
    }
}
