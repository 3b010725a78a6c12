//! The views against etherparse, which was written by others: what it accepts and reads, they accept and read, and what
//! they write, it reads.

use super::ether::EtherType;
use super::*;
use etherparse as ep;
use proptest::prelude::*;

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..max)
}

/// Whether an IPv4 header's checksum is right, by etherparse's sum over its bytes. (Its `calc_header_checksum` is not
/// asked: the structure forgets the reserved bit, which is part of the sum.)
fn right_by_etherparse(header: &[u8]) -> bool {
    ep::checksum::Sum16BitWords::new().add_slice(header).ones_complement() == 0
}

proptest! {
    #[test]
    fn ether_reads_as_etherparse(b in bytes(40)) {
        match (ether::Packet::new_checked(&b[..]), ep::Ethernet2Header::from_slice(&b)) {
            (Ok(ours), Ok((theirs, rest))) => {
                prop_assert_eq!(ours.dst(), theirs.destination);
                prop_assert_eq!(ours.src(), theirs.source);
                prop_assert_eq!(ours.ethertype().0, theirs.ether_type.0);
                prop_assert_eq!(ours.is_group(), theirs.destination[0] & 1 == 1);
                prop_assert_eq!(ours.payload(), rest);
            }
            (ours, theirs) => prop_assert!(ours.is_err() && theirs.is_err()),
        }
    }

    #[test]
    fn ether_writes_for_etherparse(mut b in prop::collection::vec(any::<u8>(), 14..40), dst: Mac, src: Mac, kind: u16) {
        let rest = b[14..].to_vec();
        let mut ours = ether::Packet::new_checked(&mut b[..]).unwrap();
        ours.set_dst(&dst);
        ours.set_src(&src);
        ours.set_ethertype(EtherType(kind));
        let expected = ep::Ethernet2Header { destination: dst, source: src, ether_type: kind.into() };
        prop_assert_eq!(ep::Ethernet2Header::from_slice(&b).unwrap(), (expected, &rest[..]));
    }

    #[test]
    fn vlan_reads_as_etherparse(b in bytes(20)) {
        match (vlan::Packet::new_checked(&b[..]), ep::SingleVlanHeader::from_slice(&b)) {
            (Ok(ours), Ok((theirs, rest))) => {
                prop_assert_eq!(ours.priority(), theirs.pcp.value());
                prop_assert_eq!(ours.drop_eligible(), theirs.drop_eligible_indicator);
                prop_assert_eq!(ours.vid(), theirs.vlan_id.value());
                prop_assert_eq!(ours.ethertype().0, theirs.ether_type.0);
                prop_assert_eq!(ours.payload(), rest);
            }
            (ours, theirs) => prop_assert!(ours.is_err() && theirs.is_err()),
        }
    }

    #[test]
    fn vlan_writes_for_etherparse(mut b in prop::collection::vec(any::<u8>(), 4..20), pcp in 0u8..8) {
        let (dei, vid) = (b[0] & 0x10 != 0, u16::from_be_bytes([b[0] & 0x0f, b[1]]));
        let mut ours = vlan::Packet::new_checked(&mut b[..]).unwrap();
        ours.set_priority(pcp);
        ours.set_ethertype(EtherType::QINQ);
        let (theirs, _) = ep::SingleVlanHeader::from_slice(&b).unwrap();
        prop_assert_eq!((theirs.vlan_id.value(), theirs.pcp.value()), (vid, pcp));
        prop_assert_eq!((theirs.drop_eligible_indicator, theirs.ether_type.0), (dei, 0x88a8));
    }

    #[test]
    fn arp_reads_as_etherparse(mut b in bytes(40), plain in prop::bool::weighted(0.8)) {
        if plain && b.len() > 6 {
            b[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        }
        let theirs = ep::ArpPacketSlice::from_slice(&b).ok().and_then(|arp| arp.to_packet().try_eth_ipv4().ok());
        match (arp::Packet::new_checked(&b[..]), theirs) {
            (Ok(ours), Some(theirs)) => {
                prop_assert_eq!(ours.operation().0, theirs.operation.0);
                prop_assert_eq!((ours.sender_mac(), ours.target_mac()), (theirs.sender_mac, theirs.target_mac));
                prop_assert_eq!(ours.sender_ip().to_be_bytes(), theirs.sender_ipv4);
                prop_assert_eq!(ours.target_ip().to_be_bytes(), theirs.target_ipv4);
            }
            (ours, theirs) => prop_assert!(ours.is_err() && theirs.is_none()),
        }
    }

    #[test]
    fn ipv4_reads_as_etherparse(mut b in bytes(100), ihl in 3u8..16, total in 0u16..110, v4 in prop::bool::weighted(0.9), right: bool) {
        if v4 && b.len() > 4 {
            b[0] = 0x40 | ihl;
            b[2..4].copy_from_slice(&total.to_be_bytes());
        }
        if right && let Ok(mut ip) = ipv4::Packet::new_checked(&mut b[..]) {
            ip.fill_checksum();
        }
        let theirs = ep::Ipv4Header::from_slice(&b).ok().filter(|(header, _)| {
            (header.header_len()..=b.len()).contains(&usize::from(header.total_len))
        });
        match (ipv4::Packet::new_checked(&b[..]), theirs) {
            (Ok(ours), Some((theirs, _))) => {
                prop_assert_eq!(ours.header_len(), theirs.header_len());
                prop_assert_eq!(ours.tos(), theirs.dscp.value() << 2 | theirs.ecn.value());
                prop_assert_eq!(ours.total_len(), usize::from(theirs.total_len));
                prop_assert_eq!(ours.ident(), theirs.identification);
                prop_assert_eq!(ours.dont_fragment(), theirs.dont_fragment);
                prop_assert_eq!(ours.more_fragments(), theirs.more_fragments);
                prop_assert_eq!(ours.fragment_offset(), usize::from(theirs.fragment_offset.value()) * 8);
                prop_assert_eq!(ours.is_fragment(), theirs.is_fragmenting_payload());
                prop_assert_eq!(ours.ttl(), theirs.time_to_live);
                prop_assert_eq!(ours.protocol().0, theirs.protocol.0);
                prop_assert_eq!(ours.checksum(), theirs.header_checksum);
                prop_assert_eq!(ours.src().to_be_bytes(), theirs.source);
                prop_assert_eq!(ours.dst().to_be_bytes(), theirs.destination);
                prop_assert_eq!(ours.options(), &theirs.options[..]);
                prop_assert_eq!(ours.payload(), &b[theirs.header_len()..theirs.total_len.into()]);
                prop_assert_eq!(ours.verify_checksum(), right_by_etherparse(&b[..theirs.header_len()]));
                prop_assert!(!right || ours.verify_checksum());
            }
            (ours, theirs) => prop_assert!(ours.is_err() && theirs.is_none()),
        }
    }

    #[test]
    fn ipv4_writes_for_etherparse(
        mut b in prop::collection::vec(any::<u8>(), 60..80), ihl in 5u8..16, src: u32, dst: u32, ttl in 1u8.., tos: u8,
    ) {
        b[0] = 0x40 | ihl;
        b[2..4].copy_from_slice(&60u16.to_be_bytes());
        let mut ours = ipv4::Packet::new_checked(&mut b[..]).unwrap();
        ours.set_src(src);
        ours.set_dst(dst);
        ours.set_ttl(ttl);
        ours.set_tos(tos);
        ours.fill_checksum();
        prop_assert!(ours.verify_checksum());
        ours.decrement_ttl();
        prop_assert!(ours.verify_checksum());
        let (theirs, _) = ep::Ipv4Header::from_slice(&b).unwrap();
        prop_assert_eq!((theirs.source, theirs.destination), (src.to_be_bytes(), dst.to_be_bytes()));
        prop_assert_eq!(theirs.time_to_live, ttl - 1);
        prop_assert_eq!(theirs.dscp.value() << 2 | theirs.ecn.value(), tos);
        prop_assert!(right_by_etherparse(&b[..theirs.header_len()]));
    }

    #[test]
    fn ipv6_reads_as_etherparse(mut b in bytes(100), len in 0u16..60, v6 in prop::bool::weighted(0.9)) {
        if v6 && b.len() > 6 {
            b[0] = 0x60 | b[0] & 0x0f;
            b[4..6].copy_from_slice(&len.to_be_bytes());
        }
        let theirs = ep::Ipv6Header::from_slice(&b).ok()
            .filter(|(header, rest)| usize::from(header.payload_length) <= rest.len());
        match (ipv6::Packet::new_checked(&b[..]), theirs) {
            (Ok(ours), Some((theirs, rest))) => {
                prop_assert_eq!(ours.traffic_class(), theirs.traffic_class);
                prop_assert_eq!(ours.flow_label(), theirs.flow_label.value());
                prop_assert_eq!(ours.payload_len(), usize::from(theirs.payload_length));
                prop_assert_eq!(ours.next_header().0, theirs.next_header.0);
                prop_assert_eq!(ours.hop_limit(), theirs.hop_limit);
                prop_assert_eq!(ours.src().to_be_bytes(), theirs.source);
                prop_assert_eq!(ours.dst().to_be_bytes(), theirs.destination);
                prop_assert_eq!(ours.payload(), &rest[..theirs.payload_length.into()]);
            }
            (ours, theirs) => prop_assert!(ours.is_err() && theirs.is_none()),
        }
    }

    #[test]
    fn ipv6_writes_for_etherparse(
        mut b in prop::collection::vec(any::<u8>(), 40..60), src: u128, dst: u128, hops in 1u8.., class: u8,
    ) {
        b[0] = 0x60 | b[0] & 0x0f;
        b[4..6].copy_from_slice(&[0, 0]);
        let label = ipv6::Packet::new_checked(&b[..]).unwrap().flow_label();
        let mut ours = ipv6::Packet::new_checked(&mut b[..]).unwrap();
        ours.set_src(src);
        ours.set_dst(dst);
        ours.set_hop_limit(hops);
        ours.set_traffic_class(class);
        ours.decrement_hop_limit();
        let (theirs, _) = ep::Ipv6Header::from_slice(&b).unwrap();
        prop_assert_eq!((theirs.source, theirs.destination), (src.to_be_bytes(), dst.to_be_bytes()));
        prop_assert_eq!((theirs.hop_limit, theirs.traffic_class), (hops - 1, class));
        prop_assert_eq!(theirs.flow_label.value(), label);
    }

    #[test]
    fn tcp_reads_and_sums_as_etherparse(mut b in bytes(100), offset in 3u8..16, src: [u8; 4], dst: [u8; 4]) {
        if b.len() > 12 {
            b[12] = offset << 4 | b[12] & 0x0f;
        }
        match (tcp::Packet::new_checked(&mut b.clone()[..]), ep::TcpHeader::from_slice(&b)) {
            (Ok(mut ours), Ok((theirs, rest))) => {
                prop_assert_eq!((ours.src_port(), ours.dst_port()), (theirs.source_port, theirs.destination_port));
                prop_assert_eq!(ours.sequence(), theirs.sequence_number);
                prop_assert_eq!(ours.acknowledgement(), theirs.acknowledgment_number);
                prop_assert_eq!(ours.header_len(), theirs.header_len());
                let flags = ours.flags();
                prop_assert_eq!(flags.any(tcp::Flags::FIN), theirs.fin);
                prop_assert_eq!(flags.any(tcp::Flags::SYN), theirs.syn);
                prop_assert_eq!(flags.any(tcp::Flags::RST), theirs.rst);
                prop_assert_eq!(flags.any(tcp::Flags::PSH), theirs.psh);
                prop_assert_eq!(flags.any(tcp::Flags::ACK), theirs.ack);
                prop_assert_eq!(flags.any(tcp::Flags::URG), theirs.urg);
                prop_assert_eq!(flags.any(tcp::Flags::ECE), theirs.ece);
                prop_assert_eq!(flags.any(tcp::Flags::CWR), theirs.cwr);
                prop_assert_eq!((ours.window(), ours.checksum()), (theirs.window_size, theirs.checksum));
                prop_assert_eq!(ours.urgent(), theirs.urgent_pointer);
                prop_assert_eq!(ours.options(), theirs.options.as_slice());
                prop_assert_eq!(ours.payload(), rest);

                ours.set_src_port(1);
                ours.set_dst_port(2);
                let pseudo = checksum::pseudo_v4(u32::from_be_bytes(src), u32::from_be_bytes(dst), 6, b.len() as u16);
                ours.fill_checksum(pseudo);
                prop_assert!(ours.verify_checksum(pseudo));
                let after = ours.into_inner();
                // From the bytes: etherparse's structure forgets the reserved bits, which are part of the sum.
                let sum = ep::checksum::Sum16BitWords::new().add_slice(&after[..16]).add_slice(&after[18..])
                    .add_4bytes(src).add_4bytes(dst).add_2bytes([0, 6]).add_2bytes((b.len() as u16).to_be_bytes());
                let (theirs, _) = ep::TcpHeader::from_slice(after).unwrap();
                prop_assert_eq!((theirs.source_port, theirs.destination_port), (1, 2));
                prop_assert_eq!(theirs.checksum, sum.ones_complement().to_be());
            }
            (ours, theirs) => prop_assert!(ours.is_err() && theirs.is_err()),
        }
    }

    #[test]
    fn udp_reads_and_sums_as_etherparse(mut b in bytes(60), len in 0u16..70, src: [u8; 16], dst: [u8; 16]) {
        if b.len() > 6 {
            b[4..6].copy_from_slice(&len.to_be_bytes());
        }
        let theirs = ep::UdpHeader::from_slice(&b).ok()
            .filter(|(header, _)| (8..=b.len()).contains(&usize::from(header.length)));
        match (udp::Packet::new_checked(&mut b.clone()[..]), theirs) {
            (Ok(mut ours), Some((theirs, rest))) => {
                prop_assert_eq!((ours.src_port(), ours.dst_port()), (theirs.source_port, theirs.destination_port));
                prop_assert_eq!((ours.total_len(), ours.checksum()), (theirs.length.into(), theirs.checksum));
                let data = &rest[..usize::from(theirs.length) - 8];
                prop_assert_eq!(ours.payload(), data);

                ours.set_src_port(1);
                ours.set_dst_port(2);
                let pseudo = checksum::pseudo_v6(u128::from_be_bytes(src), u128::from_be_bytes(dst), 17, len.into());
                ours.fill_checksum(pseudo);
                prop_assert!(ours.verify_checksum(pseudo));
                let expected = ep::UdpHeader { source_port: 1, destination_port: 2, length: len, checksum: 0 }
                    .calc_checksum_ipv6_raw(src, dst, data).unwrap();
                prop_assert_eq!(ours.checksum(), expected);
                ours.set_checksum(0);
                prop_assert!(ours.verify_checksum(pseudo), "no checksum is not a wrong one");
            }
            (ours, theirs) => prop_assert!(ours.is_err() && theirs.is_none()),
        }
    }

    #[test]
    fn icmp_echo_reads_as_etherparse(id: u16, seq: u16, data in bytes(40)) {
        let kind = ep::Icmpv4Type::EchoRequest(ep::IcmpEchoHeader { id, seq });
        let mut b = ep::Icmpv4Header::with_checksum(kind, &data).to_bytes().to_vec();
        b.extend(&data);
        let mut ours = icmp::Packet::new_checked(&mut b[..]).unwrap();
        prop_assert_eq!((ours.kind(), ours.code()), (icmp::Type::ECHO, 0));
        prop_assert_eq!((ours.ident(), ours.sequence(), ours.payload()), (id, seq, &data[..]));
        prop_assert!(ours.verify_checksum());
        let before = ours.checksum();
        ours.set_ident(id ^ 1);
        prop_assert!(!ours.verify_checksum());
        ours.set_checksum(checksum::update16(before, id, id ^ 1));
        prop_assert!(ours.verify_checksum());
        ours.fill_checksum();
        prop_assert!(ours.verify_checksum());
    }

    #[test]
    fn icmpv6_echo_reads_as_etherparse(id: u16, seq: u16, data in bytes(40), src: u128, dst: u128) {
        let kind = ep::Icmpv6Type::EchoReply(ep::IcmpEchoHeader { id, seq });
        let header = ep::Icmpv6Header::with_checksum(kind, src.to_be_bytes(), dst.to_be_bytes(), &data).unwrap();
        let mut b = header.to_bytes().to_vec();
        b.extend(&data);
        let pseudo = checksum::pseudo_v6(src, dst, Protocol::ICMPV6.0, b.len() as u32);
        let mut ours = icmpv6::Packet::new_checked(&mut b[..]).unwrap();
        prop_assert_eq!((ours.kind(), ours.code()), (icmpv6::Type::ECHO_REPLY, 0));
        prop_assert_eq!((ours.ident(), ours.sequence(), ours.payload()), (id, seq, &data[..]));
        prop_assert!(ours.verify_checksum(pseudo));
        ours.set_ident(id ^ 1);
        prop_assert!(!ours.verify_checksum(pseudo));
        ours.fill_checksum(pseudo);
        prop_assert!(ours.verify_checksum(pseudo));
    }

    /// Chains of extension headers whose end the test knows, because it made them.
    #[test]
    fn ipv6_walk_finds_the_upper_layer(
        chain in prop::collection::vec((0usize..4, 0u8..4), 0..=ipv6::EXTENSIONS_MAX), upper in 61u8..,
    ) {
        prop_assume!(!Protocol(upper).is_extension());
        let kinds = [Protocol::HOP_BY_HOP, Protocol::ROUTING, Protocol::AH, Protocol::DEST_OPTIONS];
        let mut body = Vec::new();
        for (i, (kind, units)) in chain.iter().enumerate() {
            let next = chain.get(i + 1).map_or(upper, |(kind, _)| kinds[*kind].0);
            let len = if kinds[*kind] == Protocol::AH { (usize::from(*units) + 2) * 4 } else { (usize::from(*units) + 1) * 8 };
            let from = body.len();
            body.resize(from + len, 0);
            body[from] = next;
            body[from + 1] = *units;
        }
        let first = chain.first().map_or(upper, |(kind, _)| kinds[*kind].0);
        let packet = v6(first, &body);
        let found = ipv6::Packet::new_checked(&packet[..]).unwrap().upper();
        prop_assert_eq!(found.protocol, Protocol(upper));
        prop_assert_eq!(found.offset, 40 + body.len());
        prop_assert_eq!(found.extensions, !chain.is_empty());
        prop_assert_eq!(found.fragment, None);
    }
}

fn v6(next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&(body.len() as u16).to_be_bytes());
    packet[6] = next;
    packet.extend(body);
    packet
}

#[test]
fn ipv6_walk_stops_at_a_later_fragment_and_reads_its_header() {
    // Offset 1480, more to come; the next header looks like one that could be walked.
    let packet = v6(44, &[60, 0, 0x05, 0xc9, 1, 2, 3, 4, 17, 0, 0, 0, 0, 0, 0, 0]);
    let found = ipv6::Packet::new_checked(&packet[..]).unwrap().upper();
    assert_eq!(
        found.fragment,
        Some(ipv6::Fragment {
            offset: 1480,
            more: true,
            ident: 0x0102_0304
        })
    );
    assert_eq!((found.protocol, found.offset), (Protocol::DEST_OPTIONS, 48));
}

#[test]
fn ipv6_walk_stops_where_a_header_is_cut() {
    // 16 bytes announced, 8 there; then a single byte.
    for body in [&[6u8, 1, 0, 0, 0, 0, 0, 0][..], &[6]] {
        let packet = v6(60, body);
        let found = ipv6::Packet::new_checked(&packet[..]).unwrap().upper();
        assert_eq!(
            (found.protocol, found.offset, found.extensions),
            (Protocol::DEST_OPTIONS, 40, true)
        );
    }
}

#[test]
fn ipv6_walk_is_bounded() {
    let body: Vec<u8> = [60, 0, 1, 4, 0, 0, 0, 0].repeat(ipv6::EXTENSIONS_MAX + 3);
    let packet = v6(60, &body);
    let found = ipv6::Packet::new_checked(&packet[..]).unwrap().upper();
    assert_eq!(
        (found.protocol, found.offset),
        (Protocol::DEST_OPTIONS, 40 + 8 * ipv6::EXTENSIONS_MAX)
    );
}

#[test]
fn icmp_errors_are_the_kernels() {
    let errors: Vec<u8> = (0..=255).filter(|kind| icmp::Type(*kind).is_error()).collect();
    assert_eq!(errors, [3, 4, 5, 11, 12]);
    let mtu = icmp::Packet::new_checked(&[3u8, 4, 0, 0, 0, 0, 0x05, 0xdc][..])
        .unwrap()
        .mtu();
    assert_eq!(mtu, 1500);
    let mtu = icmpv6::Packet::new_checked(&[2u8, 0, 0, 0, 0, 1, 0, 0][..])
        .unwrap()
        .mtu();
    assert_eq!(mtu, 65536);
}
