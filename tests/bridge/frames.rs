//! Frames of every kind through a bridge: groups, the link-local ones among them, ARP and neighbour discovery, tags of VLANs
//! that a plain bridge does not look at, too long and too short ones, and those for the router's own addresses.

use crate::lab::bridge::{plain_frame, unknown_mac};
use crate::lab::neighbor;
use crate::lab::packet::{Mac, SPANNING_TREE, ip, tcp, udp};
use crate::lab::twin::{Share, Twin};
use crate::net::{
    Station, advertisement, arp_reply, at, bridge, bridge_mac, bridge_with, carried, finish, finish_aged, forwards,
    learn, nf_call, one_bridge, port_mac, routed, setup, talk, wait_learned,
};
use std::net::IpAddr;

/// Whole mixes, with hooks of IP called and not.
fn both(name: &str, more: &str, send: impl Fn(&mut Twin), share: f64) {
    both_share(name, more, send, Share::AtLeast(share));
}

fn both_share(name: &str, more: &str, send: impl Fn(&mut Twin), share: Share) {
    for on in [false, true] {
        let mut config = bridge_with(0, &[0, 1, 2], more);
        config.extend(nf_call(on));
        let mut twin = Twin::start(setup(&format!("{name}_{on}"), 3, config));
        learn(&mut twin, &[at(0, 1), at(1, 1), at(2, 1)]);
        send(&mut twin);
        finish(twin, share);
    }
}

fn with_type(from: Station, to: Mac, ethertype: u16, length: usize) -> Vec<u8> {
    let mut frame = plain_frame(to, from.mac(), length);
    frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
    frame
}

/// IEEE's groups that bridges do not forward, but for those that `group_fwd_mask` lets through.
#[test]
fn link_local_groups() {
    for mask in ["", "group_fwd_mask 0x4008", "group_fwd_mask 0xfff8"] {
        let send = |twin: &mut Twin| {
            for last in 0..=0x30 {
                let group = [0x01, 0x80, 0xc2, 0, 0, last];
                twin.inject(0, &[with_type(at(0, 1), group, 0x88cc, 46)]);
                twin.inject(1, &[with_type(at(1, 5), group, 0x888e, 46)]);
            }
        };
        let name = format!("groups_{}", mask.rsplit(' ').next().unwrap_or_default());
        both_share(&name, mask, send, Share::Nothing);
    }
}

fn bpdu(from: Station) -> Vec<u8> {
    let head = [0x42, 0x42, 3, 0, 0, 0, 0, 0];
    let root = [&[0x10, 0][..], &from.mac()].concat();
    let body = [&head[..], &root, &[0; 4], &root, &[0x80, 1, 0, 0, 20, 0, 2, 0, 15, 0]].concat();
    let mut frame = [
        &SPANNING_TREE[..],
        &from.mac(),
        &(body.len() as u16).to_be_bytes(),
        &body,
    ]
    .concat();
    frame.resize(60, 0);
    frame
}

/// Without a spanning tree of its own a bridge floods the messages of others; with one it takes them, and ports change.
#[test]
fn spanning_tree() {
    let mut twin = one_bridge("stp_off", 3);
    twin.inject(0, &[bpdu(at(0, 1))]);
    twin.inject(1, &[bpdu(at(1, 1))]);
    finish(twin, Share::Nothing);

    // From blocking to forwarding takes twice the delay, 4 s here (the least there is with a spanning tree).
    let mut config = bridge_with(0, &[], "stp_state 1");
    config.extend(["ip link set br0 type bridge forward_delay 200 hello_time 100 max_age 600"].map(str::to_owned));
    config.extend((0..3).map(|port| format!("ip link set d{port} master br0")));
    let mut twin = Twin::start(setup("stp_on", 3, config));
    let (one, other) = (at(0, 1), at(1, 1));
    talk(&mut twin, one, other, 10);
    twin.wait(std::time::Duration::from_millis(4800));
    learn(&mut twin, &[one, other]);
    forwards(&mut twin, 90, |twin| talk(twin, one, other, 50));
    // A better bridge behind port 1, then behind port 2 as well: one of both is blocked. Its sender is learned there, until it is
    // heard from behind the other again.
    twin.inject(1, &[bpdu(at(1, 1))]);
    twin.inject(2, &[bpdu(at(1, 1))]);
    twin.wait_in_force();
    twin.inject(2, &carried(at(2, 1), one, 10));
    twin.inject(1, &carried(other, one, 10));
    wait_learned(&twin, [other.mac()]);
    twin.inject(0, &carried(one, other, 30));
    finish_aged(twin, Share::AtLeast(0.4));
}

#[test]
fn broadcast_and_multicast() {
    let send = |twin: &mut Twin| {
        let one = at(0, 1);
        let to = |mac: Mac, dst: &str| {
            let dst = ip(dst);
            let src = if dst.is_ipv4() { one.v4() } else { one.v6() };
            one.sends_to(mac, udp(src, dst, (1000, 5353), 30)).build()
        };
        twin.inject(
            0,
            &[
                to([0xff; 6], "255.255.255.255"),
                to([0xff; 6], "10.9.0.255"),
                to([1, 0, 0x5e, 0, 0, 0xfb], "224.0.0.251"),
                to([1, 0, 0x5e, 1, 2, 3], "239.1.2.3"),
                to([0x33, 0x33, 0, 0, 0, 1], "ff02::1"),
                to([0x33, 0x33, 0, 1, 0, 3], "ff05::1:3"),
                // Groups of IP to one station, and one address of IP to a group.
                to(at(1, 1).mac(), "224.0.0.251"),
                to(at(1, 1).mac(), "255.255.255.255"),
                to([1, 0, 0x5e, 1, 2, 3], "10.9.0.33"),
                plain_frame([0xff; 6], one.mac(), 46),
                plain_frame([3, 0, 0, 0, 0, 7], one.mac(), 46),
            ],
        );
    };
    both("groups_of_ip", "", send, 0.1);
    both("groups_of_ip_snooping", "mcast_snooping 1", send, 0.1);
}

/// Between stations, by broadcast and unicast; learned from, too.
#[test]
fn arp_and_neighbour_discovery() {
    let send = |twin: &mut Twin| {
        let (one, other, third) = (at(0, 1), at(1, 1), at(2, 7));
        let (IpAddr::V4(asker), IpAddr::V4(asked)) = (one.v4(), other.v4()) else {
            unreachable!("both are of IPv4")
        };
        let (IpAddr::V6(asker6), IpAddr::V6(asked6)) = (one.v6(), other.v6()) else {
            unreachable!("both are of IPv6")
        };
        twin.inject(0, &[neighbor::arp_request(one.mac(), asker, asked)]);
        twin.inject(1, &[arp_reply(other, one)]);
        twin.inject(0, &[neighbor::neighbor_solicitation(one.mac(), asker6, asked6)]);
        twin.inject(1, &[advertisement(other, one)]);
        // One who is not known yet announces itself.
        twin.inject(2, &[arp_reply(third, one)]);
        wait_learned(twin, [third.mac()]);
        talk(twin, one, third, 20);
        // Over and over, all of them carried but ARP.
        for _ in 0..10 {
            twin.inject(1, &[advertisement(other, one), arp_reply(other, one)]);
        }
    };
    both("arp_nd", "", send, 0.5);
}

/// Whatever is in a frame, but for what steer always leaves to the kernel.
#[test]
fn other_ethertypes() {
    let send = |twin: &mut Twin| {
        let types = [
            0x0000, 0x002e, 0x05dc, 0x05ff, 0x0600, 0x0800, 0x0806, 0x0842, 0x22f0, 0x8035, 0x8137, 0x86dd, 0x8847,
            0x8848, 0x8863, 0x8864, 0x888e, 0x88b5, 0x88cc, 0x88e5, 0x88f7, 0x8902, 0x8906, 0x9000, 0xffff,
        ];
        for ethertype in types {
            // 0x0800 and 0x86dd with a body that is no packet of theirs.
            let frames: Vec<_> = [46, 47, 300]
                .into_iter()
                .map(|length| with_type(at(0, 1), at(1, 1).mac(), ethertype, length))
                .collect();
            twin.inject(0, &frames);
        }
        talk(twin, at(0, 1), at(1, 1), 30);
    };
    both("ethertypes", "", send, 0.6);
}

/// A bridge without VLANs of its own carries tags as they are; the hooks of IP look behind one where they are told to.
#[test]
fn tags() {
    let send = |twin: &mut Twin| {
        for tags in [
            vec![(0x8100, 5)],
            vec![(0x8100, 0)],
            vec![(0x8100, 0xe005)],
            vec![(0x88a8, 7)],
            vec![(0x88a8, 7), (0x8100, 5)],
            vec![(0x8100, 7), (0x8100, 5)],
            vec![(0x9100, 7)],
        ] {
            for v6 in [false, true] {
                let tagged = |from: Station, to: Station| {
                    from.udp(to, v6, (1, 2))
                        .with(|packet| packet.tags = tags.clone())
                        .build()
                };
                twin.inject(0, &[tagged(at(0, 1), at(1, 1)), tagged(at(0, 1), at(2, 9))]);
                twin.inject(1, &[tagged(at(1, 1), at(0, 1)), tagged(at(1, 8), at(0, 1))]);
            }
        }
        // A tag that ends the frame, or is cut.
        for length in 12..24 {
            let mut frame = at(0, 1)
                .udp(at(1, 1), false, (1, 2))
                .with(|packet| packet.tags = vec![(0x8100, 5)])
                .build();
            frame.truncate(length.max(14));
            twin.inject(0, &[frame]);
        }
    };
    both("tags", "", send, 0.2);
}

fn of_length(from: Station, to: Station, length: usize, v6: bool) -> Vec<u8> {
    from.udp(to, v6, (1, 2)).ip_length(length).df().build()
}

/// A bridge drops what is longer than the way out, without a word; four bytes of a tag do not count.
#[test]
fn too_long() {
    for (mtu, on) in [
        (vec![1500, 1300, 1500], false),
        (vec![1500, 1300, 1500], true),
        (vec![1500, 1500, 1280], false),
    ] {
        let mut config = bridge(0, &[0, 1, 2]);
        config.extend(nf_call(on));
        let mut set = setup(&format!("too_long_{}_{on}", mtu[2]), 3, config);
        set.layout.mtu = mtu;
        let mut twin = Twin::start(set);
        learn(&mut twin, &[at(0, 1), at(1, 1), at(2, 1)]);
        for to in [at(1, 1), at(2, 1), at(1, 7)] {
            for v6 in [false, true] {
                for length in [
                    1270, 1279, 1280, 1281, 1284, 1285, 1299, 1300, 1301, 1304, 1305, 1400, 1499, 1500, 1501, 1504,
                ] {
                    twin.inject(0, &[of_length(at(0, 1), to, length, v6)]);
                }
            }
            for length in [1299, 1300, 1301, 1304, 1305, 1500] {
                let tagged = at(0, 1).udp(to, false, (1, 2)).ip_length(length);
                twin.inject(
                    0,
                    &[
                        with_type(at(0, 1), to.mac(), 0x88b5, length),
                        tagged.with(|packet| packet.tags = vec![(0x8100, 5)]).build(),
                    ],
                );
            }
        }
        // The bridge's MTU is the least of its ports'.
        twin.change(&["ip link set d1 mtu 1400"]);
        for length in [1399, 1400, 1401, 1404, 1405] {
            twin.inject(0, &[of_length(at(0, 1), at(1, 1), length, false)]);
            twin.inject(1, &[of_length(at(1, 1), at(0, 1), length.min(1400), true)]);
        }
        finish(twin, Share::AtLeast(0.25));
    }
}

/// The same without fragments: ones that only the hooks of IP would take together.
#[test]
fn fragments() {
    let send = |twin: &mut Twin| {
        let (one, other) = (at(0, 1), at(1, 1));
        for v6 in [false, true] {
            let parts = one.udp(other, v6, (5, 6)).ip_length(1200).fragments(400);
            let frames: Vec<_> = parts.into_iter().map(|part| part.build()).collect();
            twin.inject(0, &frames);
            twin.inject(0, &frames[1..]);
        }
    };
    both("fragments", "", send, 0.3);
}

/// Frames that end early, each in every length.
#[test]
fn too_short() {
    let send = |twin: &mut Twin| {
        let (one, other) = (at(0, 1), at(1, 1));
        for v6 in [false, true] {
            let whole = one.udp(other, v6, (1, 2)).build();
            let frames: Vec<_> = (14..=whole.len()).map(|length| whole[..length].to_vec()).collect();
            twin.inject(0, &frames);
            let unknown = one
                .sends_to(unknown_mac(77), udp(one.v4(), other.v4(), (1, 2), 9))
                .build();
            twin.inject(0, &[unknown[..14].to_vec(), unknown[..20].to_vec()]);
        }
        let plain = plain_frame(other.mac(), one.mac(), 46);
        twin.inject(0, &(14..60).map(|length| plain[..length].to_vec()).collect::<Vec<_>>());
    };
    both("too_short", "", send, 0.2);
}

/// Headers of IP that are wrong: a bridge carries them, and its hooks of IP do not.
#[test]
fn wrong_headers() {
    let send = |twin: &mut Twin| {
        let (one, other) = (at(0, 1), at(1, 1));
        for v6 in [false, true] {
            let base = || one.udp(other, v6, (1, 2));
            let mut packets = vec![
                base().with(|packet| packet.ip_sum_fault = 1),
                base().with(|packet| packet.sum_fault = 1),
                base().with(|packet| packet.length_fault = 1),
                base().with(|packet| packet.length_fault = -1),
                base().with(|packet| packet.length_fault = -60),
                base().with(|packet| packet.length_fault = 300),
                base().with(|packet| packet.padding = 30),
                base().with(|packet| packet.first_byte = Some(0x55)),
                base().with(|packet| packet.first_byte = Some(0x44)),
                base().with(|packet| packet.first_byte = Some(0x4f)),
                base().ttl(0),
            ];
            if v6 {
                packets.push(base().with(|packet| packet.extensions = vec![(0, vec![0, 0, 1, 4, 0, 0, 0, 0])]));
                packets.push(base().with(|packet| packet.extensions = vec![(0, vec![0, 0, 0xc2, 4, 0, 1, 0, 0])]));
                packets.push(base().with(|packet| packet.extensions = vec![(0, vec![0, 9, 1, 4, 0, 0, 0, 0])]));
                packets.push(base().with(|packet| packet.extensions = vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0])]));
            } else {
                packets.push(base().with(|packet| packet.options = vec![1, 1, 1, 0]));
                packets.push(base().with(|packet| packet.options = vec![7, 7, 4, 0, 0, 0, 0, 0]));
                packets.push(base().with(|packet| packet.options = vec![99, 9, 0, 0]));
                packets.push(base().with(|packet| packet.options = vec![131, 7, 4, 10, 9, 0, 33, 0]));
            }
            for packet in packets {
                twin.inject(0, &[packet.build()]);
            }
            // Addresses that no packet should bear.
            for (src, dst) in match v6 {
                false => [
                    ("127.0.0.1", "10.9.0.33"),
                    ("0.0.0.0", "255.255.255.255"),
                    ("10.9.0.33", "127.0.0.1"),
                ],
                true => [("::1", "fd09::2"), ("::", "ff02::1"), ("fd09::2", "::1")],
            } {
                twin.inject(0, &[one.sends(other, tcp(ip(src), ip(dst), (1, 2), 2, 0)).build()]);
            }
        }
    };
    both("wrong_headers", "", send, 0.3);
}

/// To the bridge's own address, and to those of its ports, which are the bridge's as well.
#[test]
fn to_the_routers_own_addresses() {
    let mut config = bridge(0, &[0, 1, 2]);
    config.extend(routed(0, &[0, 1, 2]));
    let mut twin = Twin::start(setup("own_addresses", 3, config));
    learn(&mut twin, &[at(0, 1), at(1, 1)]);
    for mac in [bridge_mac(0), port_mac(0), port_mac(1), port_mac(2)] {
        let one = at(0, 1);
        for (src, dst) in [(one.v4(), ip("10.9.0.1")), (one.v6(), ip("fd09:0:0:0::1"))] {
            let ping = crate::lab::packet::ping(src, dst, 7, 1, 20);
            twin.inject(0, &[one.sends_to(mac, ping).build()]);
            // Nobody listens, so an error comes back.
            twin.inject(0, &[one.sends_to(mac, udp(src, dst, (9, 9), 20)).build()]);
            // Between stations, but by the router's address: routed back.
            let to = if src.is_ipv4() { at(1, 1).v4() } else { at(1, 1).v6() };
            twin.inject(0, &[one.sends_to(mac, udp(src, to, (9, 9), 20)).build()]);
        }
        twin.inject(0, &[plain_frame(mac, one.mac(), 46)]);
        twin.inject(
            0,
            &[one
                .sends_to(mac, udp(one.v4(), at(1, 1).v4(), (1, 1), 1))
                .with(|p| p.tags = vec![(0x8100, 3)])
                .build()],
        );
    }
    talk(&mut twin, at(0, 1), at(1, 1), 60);
    finish(twin, Share::AtLeast(0.5));
}
