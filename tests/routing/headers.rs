//! Headers: TTLs, options, extension headers, fragments, wrong checksums and lengths, tags, addresses of the link layer.

use crate::lab::packet::{Packet, fix_ipv4_sum, ip, ping, proto, raw, router_mac, tcp, udp, wire_mac};
use crate::lab::plan;
use crate::lab::twin::{Fence, Setup, Share, Twin};

fn twin(name: &str) -> Twin {
    Twin::start(Setup::new(name, 2, plan::config(2)))
}

#[test]
fn ttl_and_hop_limit() {
    let mut twin = twin("ttl_and_hop_limit");
    for ttl in [0, 1, 2, 64, 255] {
        let frames = (0..30u16).flat_map(|at| {
            plan::pairs(0, 1, at).into_iter().flat_map(move |(src, dst)| {
                [
                    udp(src, dst, (at, 9), 50),
                    tcp(src, dst, (at, 9), 2, 0),
                    ping(src, dst, at, 1, 900),
                ]
                .map(|packet| packet.ttl(ttl))
            })
        });
        twin.send(0, frames);
    }
    twin.finish(Share::AtLeast(0.59));
}

#[test]
fn ipv4_options() {
    let mut twin = twin("ipv4_options");
    let lists: &[&[u8]] = &[
        &[1, 1, 1, 1],
        &[0, 0, 0, 0],
        &[1, 1, 1, 0],
        // Record route, with room and full.
        &[7, 7, 4, 0, 0, 0, 0, 0],
        &[7, 7, 8, 10, 9, 9, 9, 0],
        // Timestamp: stamps alone (full, so that no clock is written), and with addresses.
        &[68, 8, 9, 0, 1, 2, 3, 4],
        &[68, 8, 9, 0xf0, 1, 2, 3, 4],
        // Router alert, security, stream id, unknown kinds (copied and not).
        &[148, 4, 0, 0],
        &[130, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[136, 4, 0, 7],
        &[200, 4, 1, 2],
        &[30, 4, 1, 2],
        // Source routes, loose and strict, to go and done.
        &[131, 7, 4, 10, 101, 0, 9, 0],
        &[137, 7, 4, 10, 101, 0, 9, 0],
        &[131, 7, 8, 10, 101, 0, 9, 0],
        // Broken: a length of 0, 1, beyond the end; a pointer too small.
        &[7, 0, 4, 0],
        &[7, 1, 4, 0],
        &[7, 40, 4, 0],
        &[7, 7, 1, 0, 0, 0, 0, 0],
    ];
    for (at, options) in lists.iter().enumerate() {
        let packet = udp(plan::behind4(0, 1), plan::behind4(1, 1), (at as u16, 2), 40);
        let packet = packet.with(|packet| packet.options = options.to_vec());
        let spent = packet.clone().ttl(1);
        twin.send(0, [packet, spent]);
    }
    twin.send(
        0,
        (0..100).map(|at| udp(plan::behind4(0, 1), plan::behind4(1, 1), (at, 2), 40)),
    );
    twin.finish(Share::AtLeast(0.7));
}

/// Extension headers of many kinds, alone and together, whole and broken.
fn extension_lists() -> Vec<Vec<(u8, Vec<u8>)>> {
    let pad6 = vec![0, 0, 1, 4, 0, 0, 0, 0];
    vec![
        vec![(0, pad6.clone())],
        vec![(60, pad6.clone())],
        vec![(0, pad6.clone()), (60, pad6.clone())],
        vec![(0, vec![0, 0, 5, 2, 0, 0, 1, 0])],
        vec![(0, vec![0, 0, 0x0b, 4, 0, 0, 0, 0])],
        vec![(0, vec![0, 0, 0x4b, 4, 0, 0, 0, 0])],
        vec![(0, vec![0, 0, 0x8b, 4, 0, 0, 0, 0])],
        vec![(0, vec![0, 0, 0xcb, 4, 0, 0, 0, 0])],
        vec![(0, vec![0, 9, 1, 4, 0, 0, 0, 0])],
        vec![(0, vec![0, 0, 1, 40, 0, 0, 0, 0])],
        vec![(60, pad6.clone()), (0, pad6.clone())],
        vec![(43, [&[0, 2, 0, 1, 0, 0, 0, 0][..], &[0xfd; 16]].concat())],
        vec![(43, [&[0, 2, 4, 1, 0, 0, 0, 0][..], &[0xfd; 16]].concat())],
        vec![(44, vec![0, 0, 0, 0, 1, 2, 3, 4])],
        vec![(44, vec![0, 0, 0, 1, 1, 2, 3, 4])],
        vec![(44, vec![0, 0, 5, 0xb9, 1, 2, 3, 4])],
        vec![(
            51,
            vec![
                0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
            ],
        )],
        vec![(135, pad6.clone())],
        vec![(253, pad6)],
    ]
}

#[test]
fn ipv6_extension_headers() {
    let mut twin = twin("ipv6_extension_headers");
    let (src, dst) = (plan::behind6(0, 1), plan::behind6(1, 1));
    for (at, list) in extension_lists().into_iter().enumerate() {
        for packet in [
            udp(src, dst, (at as u16, 2), 40),
            tcp(src, dst, (at as u16, 2), 2, 40),
            raw(src, dst, 59, 0),
        ] {
            let packet = packet.with(|packet| packet.extensions = list.clone());
            let (spent, long) = (packet.clone().ttl(1), packet.clone().ip_length(1501));
            twin.send(0, [packet, spent, long]);
        }
    }
    twin.send(0, (0..500).map(|at| udp(src, dst, (at, 2), 40)));
    twin.finish(Share::AtLeast(0.7));
}

/// Rules see another transport header behind extension headers than bypath does (that of AH, for one), or none: they are the
/// kernel's before any rule is asked.
#[test]
fn rules_and_extension_headers() {
    let ruleset = "table ip6 fw {
        chain raw {
            type filter hook prerouting priority raw; policy accept;
            udp dport 3 counter drop
            meta l4proto 135 counter drop
        }
        chain prerouting {
            type filter hook prerouting priority mangle; policy accept;
            tcp dport 2 counter drop
            meta l4proto ah counter accept
            meta l4proto != { tcp, udp, ah, ipv6-icmp } counter drop
        }
        chain forward {
            type filter hook forward priority filter; policy accept;
            udp dport 2 counter
        }
    }";
    let mut twin = Twin::start(Setup {
        fence: Fence::None,
        ..Setup::tracked("rules_and_extension_headers", 2, ruleset)
    });
    let (src, dst) = (plan::behind6(0, 1), plan::behind6(1, 1));
    let mut lists = extension_lists();
    // More than are looked at.
    lists.push(vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0]); 9]);
    for (at, list) in lists.into_iter().enumerate() {
        for port in 2..5 {
            let [udp, tcp] = [
                udp(src, dst, (at as u16, port), 40),
                tcp(src, dst, (at as u16, port), 2, 40),
            ];
            twin.send(
                0,
                [udp, tcp].map(|packet| packet.with(|packet| packet.extensions = list.clone())),
            );
        }
    }
    for port in 2..5 {
        twin.send(0, (0..100).map(|at| udp(src, dst, (at, port), 40)));
        twin.send(0, (0..50).map(|at| tcp(src, dst, (at, port), 2, 40)));
    }
    let counted = twin.compare_counters();
    assert!(counted >= 5, "only {counted} counters counted anything");
    twin.finish(Share::AtLeast(0.5));
}

/// The second fragment begins with bytes that look like the port that is asked for. Whether the kernel takes them for one differs
/// between its versions.
#[test]
fn rules_and_later_fragments() {
    let ruleset = "table inet fw {
        chain prerouting {
            type filter hook prerouting priority mangle; policy accept;
            udp dport 4000 counter drop
            udp sport 4001 udp dport 4002 counter drop
        }
        chain forward {
            type filter hook forward priority filter; policy accept;
            udp sport 1-100 counter
            @th,40,32 0x01020304 counter drop
        }
    }";
    let mut twin = Twin::start(Setup {
        fence: Fence::None,
        ..Setup::tracked("rules_and_later_fragments", 2, ruleset)
    });
    for at in 0..20u16 {
        for (src, dst) in plan::pairs(0, 1, at) {
            for (ports, length) in [((9u16, 4000u16), 1), ((4001, 4002), 4), ((7, 7), 400)] {
                let whole = udp(src, dst, (at + 1, 5), 400 + length).with(|packet| {
                    packet.id = at;
                    packet.body[400..402].copy_from_slice(&ports.0.to_be_bytes());
                    packet.body[402..404].copy_from_slice(&ports.1.to_be_bytes());
                });
                twin.send(0, whole.fragments(400));
            }
            twin.send(0, [udp(src, dst, (at + 1, 5), 40), udp(src, dst, (at + 1, 4000), 40)]);
        }
    }
    let counted = twin.compare_counters();
    assert!(counted >= 2, "only {counted} counters counted anything");
    twin.finish(Share::AtLeast(0.2));
}

#[test]
fn fragments() {
    let mut twin = twin("fragments");
    for at in 0..40u16 {
        for (src, dst) in plan::pairs(0, 1, at) {
            for piece in [8, 64, 1480 - 8] {
                let whole = udp(src, dst, (at, 2), 200 + usize::from(at) * 30).with(|packet| packet.id = at);
                twin.send(0, whole.fragments(piece));
            }
            // Backwards, one twice, one missing.
            let mut parts = tcp(src, dst, (at, 3), 0x18, 900).fragments(256);
            parts.reverse();
            parts.push(parts[0].clone());
            parts.remove(1);
            twin.send(0, parts);
        }
    }
    // Offsets at the end of what is possible, DF on a fragment, the reserved bit.
    let odd = [0x1fff, 0x3fff, 0x2000, 0x6001, 0x8000, 0xa001, 0x0001].map(|fragment| {
        udp(plan::behind4(0, 1), plan::behind4(1, 1), (1, 2), 64).with(|packet| packet.fragment = fragment)
    });
    twin.send(0, odd);
    // Only IPv4's need no extension header; half of all frames are theirs.
    twin.finish(Share::AtLeast(0.45));
}

#[test]
fn ipv4_header_checksums() {
    let mut twin = twin("ipv4_header_checksums");
    let (src, dst) = (plan::behind4(0, 1), plan::behind4(1, 1));
    let wrong = |fault: u16| udp(src, dst, (fault, 2), 20).with(|packet| packet.ip_sum_fault = fault);
    twin.send(0, (0..16).map(|bit| wrong(1 << bit)));
    twin.send(0, (0..16).map(|bit| wrong(1 << bit).ttl(1)));
    // A sum that comes out as 0 or 0xffff: each identification gives another one.
    twin.send(
        0,
        (0..=u16::MAX)
            .step_by(97)
            .map(|id| udp(src, dst, (7, 2), 20).with(|packet| packet.id = id)),
    );
    let mut frame = udp(src, dst, (7, 2), 20).at(0).build();
    for id in 0..=u16::MAX {
        frame[18..20].copy_from_slice(&id.to_be_bytes());
        fix_ipv4_sum(&mut frame);
        let sum = u16::from_be_bytes([frame[24], frame[25]]);
        if matches!(sum, 0 | 1 | 0xfeff | 0xff00 | 0xfefe | 0xfffe | 0xffff) {
            twin.inject(0, std::slice::from_ref(&frame));
        }
    }
    twin.finish(Share::AtLeast(0.9));
}

#[test]
fn lengths_and_versions() {
    let mut twin = twin("lengths_and_versions");
    let faults: [fn(&mut Packet); 20] = [
        |packet| packet.length_fault = 1,
        |packet| packet.length_fault = 1000,
        |packet| packet.length_fault = -1,
        |packet| packet.length_fault = -20,
        |packet| packet.length_fault = -28,
        |packet| packet.length_fault = -60,
        |packet| packet.length_fault = -48,
        |packet| packet.cut = 1,
        |packet| packet.cut = 30,
        |packet| packet.cut = 45,
        |packet| packet.cut = 60,
        |packet| packet.cut = 2000,
        |packet| packet.first_byte = Some(0x44),
        |packet| packet.first_byte = Some(0x46),
        |packet| packet.first_byte = Some(0x4f),
        |packet| packet.first_byte = Some(0x40),
        |packet| packet.first_byte = Some(0x55),
        |packet| packet.first_byte = Some(0x65),
        |packet| packet.first_byte = Some(0x05),
        |packet| packet.first_byte = Some(0x50),
    ];
    for (src, dst) in plan::pairs(0, 1, 1) {
        for fault in faults {
            let packets = [
                udp(src, dst, (1, 2), 40),
                tcp(src, dst, (1, 2), 2, 20),
                ping(src, dst, 1, 1, 0),
            ];
            twin.send(0, packets.map(|packet| packet.with(fault)));
        }
        // Frames cut at every length, and IP packets with less than a layer 4 header.
        twin.send(
            0,
            (0..90).map(|cut| udp(src, dst, (1, 2), 40).with(|packet| packet.cut = cut)),
        );
        let head = if src.is_ipv4() { 20 } else { 40 };
        for protocol in [proto::UDP, proto::TCP, proto::ICMP, proto::ICMPV6, 0, 59, 255] {
            twin.send(
                0,
                (0..24).map(|more| raw(src, dst, protocol, 64).ip_length(head + more)),
            );
        }
        // UDP lengths that contradict the packet's.
        for length in [0u16, 7, 8, 47, 49, 0xffff] {
            let packet = udp(src, dst, (1, 2), 40);
            twin.send(
                0,
                [packet.with(|packet| packet.body[4..6].copy_from_slice(&length.to_be_bytes()))],
            );
        }
    }
    // 0 protocol numbers of IPv6 are extension headers; most of the rest that is not broken can be carried.
    twin.finish(Share::AtLeast(0.3));
}

#[test]
fn vlan_tags() {
    let mut twin = twin("vlan_tags");
    let tags: &[&[(u16, u16)]] = &[
        &[(0x8100, 5)],
        &[(0x8100, 0)],
        &[(0x8100, 0xe000)],
        &[(0x8100, 0x0fff)],
        &[(0x88a8, 5), (0x8100, 6)],
        &[(0x88a8, 0), (0x8100, 0)],
        &[(0x8100, 0), (0x8100, 0)],
        &[(0x9100, 5)],
    ];
    for tags in tags {
        for (src, dst) in plan::pairs(0, 1, 1) {
            let packet = udp(src, dst, (1, 2), 40).with(|packet| packet.tags = tags.to_vec());
            let (padded, cut) = (
                packet.clone().with(|packet| packet.padding = 9),
                packet.clone().with(|packet| packet.cut = 50),
            );
            twin.send(0, [packet, padded, cut]);
        }
    }
    twin.finish(Share::AtLeast(0.0));
}

#[test]
fn link_addresses() {
    let mut twin = twin("link_addresses");
    let group = [0x01, 0, 0x5e, 1, 2, 3];
    let group6 = [0x33, 0x33, 0, 0, 0, 1];
    let stp = [0x01, 0x80, 0xc2, 0, 0, 0];
    for dst_mac in [
        [0xff; 6],
        group,
        group6,
        stp,
        [2, 9, 9, 9, 9, 9],
        router_mac(1),
        wire_mac(0),
        [0; 6],
    ] {
        for (src, dst) in plan::pairs(0, 1, 1) {
            for packet in [udp(src, dst, (1, 2), 40), udp(src, dst, (1, 2), 40).ttl(1)] {
                let frame = packet.at(0).with(|packet| packet.dst_mac = dst_mac).build();
                twin.inject(0, &[frame]);
            }
        }
    }
    // Whatever the source says, it is replaced.
    for src_mac in [[0; 6], [0xff; 6], group, router_mac(0), router_mac(1)] {
        for (src, dst) in plan::pairs(0, 1, 1) {
            let frame = udp(src, dst, (1, 2), 40)
                .at(0)
                .with(|packet| packet.src_mac = src_mac)
                .build();
            twin.inject(0, &[frame]);
        }
    }
    twin.finish(Share::AtLeast(0.2));
}

#[test]
fn other_ethertypes() {
    let mut twin = twin("other_ethertypes");
    for ethertype in [
        0u16, 46, 0x05dc, 0x0600, 0x0806, 0x8035, 0x8847, 0x8863, 0x8864, 0x888e, 0x88cc, 0x88f7, 0xffff,
    ] {
        for length in [14, 15, 20, 34, 60, 200] {
            let mut frame = udp(ip("10.100.0.1"), ip("10.101.0.1"), (1, 2), 200).at(0).build();
            frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
            frame.truncate(length);
            twin.inject(0, &[frame]);
        }
    }
    // IPv4 behind the number of IPv6, and the other way round.
    for (src, dst) in plan::pairs(0, 1, 1) {
        let mut frame = udp(src, dst, (1, 2), 40).at(0).build();
        frame[12..14].copy_from_slice(if src.is_ipv4() { &[0x86, 0xdd] } else { &[0x08, 0x00] });
        twin.inject(0, &[frame]);
    }
    twin.finish(Share::AtLeast(0.0));
}
