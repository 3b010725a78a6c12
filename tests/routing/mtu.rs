//! Packets around the MTU of the way out: exact, one more, with "don't fragment" and without; per link, per route, and by
//! what the router has learnt (PMTU exceptions).

use crate::lab::packet::{Packet, ip, ping, tcp, udp};
use crate::lab::plan;
use crate::lab::router::Layout;
use crate::lab::twin::{Setup, Share, Twin};
use std::net::IpAddr;

/// Packets of these IP lengths, in every protocol, with DF and without.
fn sizes(src: IpAddr, dst: IpAddr, lengths: &[usize]) -> Vec<Packet> {
    let each = |&length: &usize| {
        let whole = [
            udp(src, dst, (length as u16, 2), 8),
            tcp(src, dst, (length as u16, 2), 0x10, 0),
        ];
        let both = whole.into_iter().chain([ping(src, dst, 1, length as u16, 0)]);
        both.flat_map(move |packet| [packet.clone().ip_length(length), packet.ip_length(length).df()])
    };
    lengths.iter().flat_map(each).collect()
}

fn narrow(name: &str, mtu: &[u32], more: &[&str]) -> Twin {
    let mut setup = Setup::new(name, mtu.len(), plan::config_with(mtu.len(), more));
    setup.layout = Layout {
        mtu: mtu.to_vec(),
        ..Layout::ports(mtu.len())
    };
    Twin::start(setup)
}

#[test]
fn of_the_link() {
    let mut twin = narrow("mtu_of_the_link", &[1500, 1400], &[]);
    let around = [60, 1280, 1281, 1398, 1399, 1400, 1401, 1402, 1499, 1500];
    for host in 0..10 {
        for (src, dst) in plan::pairs(0, 1, host) {
            twin.send(0, sizes(src, dst, &around));
        }
        for (src, dst) in plan::pairs(1, 0, host) {
            twin.send(1, sizes(src, dst, &around[..6]));
        }
    }
    twin.finish(Share::AtLeast(0.7));
}

/// A frame may be 4 bytes (a VLAN tag) longer than the port's MTU says; the router judges it by the way out.
#[test]
fn longer_than_the_way_in() {
    let mut twin = narrow("longer_than_the_way_in", &[1500, 1500], &[]);
    for (src, dst) in plan::pairs(0, 1, 1) {
        twin.send(0, sizes(src, dst, &[1499, 1500, 1501, 1502, 1503, 1504, 1505, 1600]));
    }
    twin.finish(Share::AtLeast(0.2));
}

#[test]
fn fragments_that_must_be_cut_again() {
    let mut twin = narrow("fragments_cut_again", &[1500, 1300], &[]);
    for at in 0..20u16 {
        let whole = udp(plan::behind4(0, at), plan::behind4(1, at), (at, 2), 4000).with(|packet| packet.id = at);
        twin.send(0, whole.fragments(1480));
    }
    twin.finish(Share::AtLeast(0.2));
}

#[test]
fn of_the_route() {
    let more = [
        "ip route add 10.50.0.0/16 via 10.0.1.3 mtu 1300",
        "ip route add 10.51.0.0/16 via 10.0.1.3 mtu lock 1300",
        "ip route add 10.52.0.0/16 via 10.0.1.3 mtu 9000",
        "ip route add fd00:50::/32 via fd00:0:0:1::3 mtu 1300",
        "ip route add fd00:52::/32 via fd00:0:0:1::3 mtu 9000",
    ];
    let mut twin = narrow("mtu_of_the_route", &[1500, 1500], &more);
    let around = [60, 1299, 1300, 1301, 1302, 1499, 1500];
    for dst in ["10.50.0.1", "10.51.0.1", "10.52.0.1"] {
        twin.send(0, sizes(plan::behind4(0, 1), ip(dst), &around));
    }
    for dst in ["fd00:50::1", "fd00:52::1"] {
        twin.send(0, sizes(plan::behind6(0, 1), ip(dst), &around));
    }
    twin.finish(Share::AtLeast(0.3));
}

/// Another host tells the router, about an echo reply of the router's own, that the path is narrow. IPv6 holds transit to
/// that; IPv4 only where ip_forward_use_pmtu says so.
fn learn(name: &str, more: &[&str], least: f64) {
    let mut twin = narrow(name, &[1500, 1500], more);
    for (own, far) in [
        (plan::own(1)[0], plan::behind4(1, 77)),
        (plan::own(1)[1], plan::behind6(1, 77)),
    ] {
        twin.send(1, [ping(far, own, 1, 1, 1200)]);
        let reply = ping(own, far, 1, 1, 1200).with(|packet| packet.body[0] = if own.is_ipv4() { 0 } else { 129 });
        let mut quoted = reply.build().split_off(14);
        quoted.truncate(600);
        let mut body = if own.is_ipv4() {
            vec![3, 4, 0, 0, 0, 0, 5, 20]
        } else {
            vec![2, 0, 0, 0, 0, 0, 5, 20]
        };
        body.extend(quoted);
        let told = ping(far, own, 0, 0, 0).with(|packet| packet.body = body);
        twin.send(1, [told]);
        twin.wait_in_force();
        let src = if own.is_ipv4() {
            plan::behind4(0, 1)
        } else {
            plan::behind6(0, 1)
        };
        twin.send(0, sizes(src, far, &[60, 1299, 1300, 1301, 1400, 1500]));
        let beside = if own.is_ipv4() {
            plan::behind4(1, 78)
        } else {
            plan::behind6(1, 78)
        };
        twin.send(0, sizes(src, beside, &[60, 1299, 1300, 1301, 1400, 1500]));
    }
    twin.finish(Share::AtLeast(least));
}

#[test]
fn learnt() {
    learn("pmtu_learnt", &[], 0.4);
}

#[test]
fn learnt_and_used_by_ipv4() {
    learn("pmtu_learnt_ipv4", &["sysctl net.ipv4.ip_forward_use_pmtu=1"], 0.2);
}

/// UDP with options or extension headers is measured with them.
#[test]
fn options_count() {
    let mut twin = narrow("mtu_options_count", &[1500, 1400], &[]);
    let with = |length: usize| {
        let packet = udp(plan::behind4(0, 1), plan::behind4(1, 1), (1, 2), 0);
        packet
            .with(|packet| packet.options = vec![1, 1, 1, 0])
            .ip_length(length)
    };
    twin.send(0, [1396, 1400, 1401, 1404, 1405].map(with));
    twin.send(0, [1396, 1400, 1401, 1404, 1405].map(|length| with(length).df()));
    let with = |length: usize| {
        let packet = udp(plan::behind6(0, 1), plan::behind6(1, 1), (1, 2), 0);
        packet
            .with(|packet| packet.extensions = vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0])])
            .ip_length(length)
    };
    twin.send(0, [1396, 1400, 1401, 1404, 1408].map(with));
    twin.finish(Share::AtLeast(0.0));
}
