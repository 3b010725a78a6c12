//! The oracle against real forwarding: what RTM_GETROUTE says a flow will do is what the kernel then does with its packets.
//!
//! ```text
//!  p0 --- d0 [kernel, this namespace] d1 --- p1     ECMP over d1, d2, d3 with weights 1, 3, 2
//!                                     d2 --- p2
//!                                     d3 --- p3
//! ```
//! Frames are sent out of p0, so they arrive on d0; the transmit counters of d1 to d3 tell which way they took. Each flow
//! sends several copies, so that a stray frame of the kernel's own decides nothing.

mod netns;

use bypath::mirror::oracle::{IfaceNames, Oracle};
use bypath::packet::{Addr, Family};
use bypath::table::fib::{Gateway, Nexthop};
use bypath::table::iface::IfaceIndex;
use bypath::table::oracle::{Answer, Question};
use netns::{FrameSocket, ifindex, isolated, sh};
use std::time::{Duration, Instant};

const COPIES: u64 = 5;
const FLOWS: u32 = 192;
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0];
const EGRESS: [&str; 3] = ["d1", "d2", "d3"];

/// Places in the snapshot that are the kernel's own numbers.
struct Same;

impl IfaceNames for Same {
    fn ifindex(&self, iface: IfaceIndex) -> Option<u32> {
        Some(iface.0.into())
    }
    fn iface(&self, ifindex: u32) -> Option<IfaceIndex> {
        u16::try_from(ifindex).ok().map(IfaceIndex)
    }
}

fn topology() {
    for n in 0..4 {
        sh(&format!(
            "ip link add d{n} address 02:00:00:00:01:0{n} type veth peer p{n}
             echo 1 > /proc/sys/net/ipv6/conf/p{n}/disable_ipv6
             ip addr add 10.0.{n}.1/24 dev d{n}; ip addr add 2001:db8:{n}::1/64 dev d{n} nodad
             ip link set d{n} up; ip link set p{n} up
             ip neigh add 10.0.{n}.2 lladdr 02:00:00:00:02:0{n} dev d{n}
             ip neigh add 2001:db8:{n}::2 lladdr 02:00:00:00:02:0{n} dev d{n}"
        ));
    }
    sh("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
        echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter; for n in 0 1 2 3; do echo 0 > /proc/sys/net/ipv4/conf/d$n/rp_filter; done
        ip route add 198.18.0.0/15 nexthop via 10.0.1.2 weight 1 nexthop via 10.0.2.2 weight 3 nexthop via 10.0.3.2 weight 2
        ip route add 2001:db8:ff00::/40 nexthop via 2001:db8:1::2 weight 1 nexthop via 2001:db8:2::2 weight 3 \
            nexthop via 2001:db8:3::2 weight 2");
}

fn v4(a: u8, b: u8, c: u8, d: u8) -> Addr {
    u32::from_be_bytes([a, b, c, d]).into()
}

fn v6(text: &str) -> Addr {
    text.parse::<std::net::Ipv6Addr>().expect("an address").into()
}

/// The flow of this number, all of its fields mixed from it.
fn flow(family: Family, n: u32, iif: u32) -> Question {
    let mix = n.wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995;
    let (src, dst, flow_label) = match family {
        Family::V4 => (
            v4(10, 0, 0, 2) + Addr::from(mix >> 25),
            v4(198, 18, 0, 0) + Addr::from(mix & 0xffff),
            0,
        ),
        Family::V6 => {
            let label = if n.is_multiple_of(2) { mix >> 12 } else { 0 };
            (
                v6("2001:db8::2") + Addr::from(mix >> 20),
                v6("2001:db8:ff00::") + Addr::from(mix),
                label,
            )
        }
    };
    let proto = if n.is_multiple_of(3) { 6 } else { 17 };
    let [sport, dport] = [1024 + (mix >> 7) as u16 % 50_000, 1 + (mix >> 3) as u16 % 60_000];
    let tos = (n as u8 % 8) << 5 | (n as u8 & 3);
    Question {
        family,
        src,
        dst,
        iif: IfaceIndex(iif as u16),
        proto,
        tos,
        sport,
        dport,
        flow_label,
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn ipv4(src: Addr, dst: Addr, proto: u8, tos: u8, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, tos, 0, 0, 0, 0, 0, 0, 64, proto, 0, 0];
    ip[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    ip.extend_from_slice(&(src as u32).to_be_bytes());
    ip.extend_from_slice(&(dst as u32).to_be_bytes());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend_from_slice(payload);
    ip
}

/// A frame of the flow, to the router. Transport checksums are none of a router's business.
fn frame(q: &Question) -> Vec<u8> {
    let mut payload = [q.sport.to_be_bytes(), q.dport.to_be_bytes()].concat();
    match q.proto {
        6 => payload.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x10, 0, 0, 0, 0, 0]),
        _ => payload.extend_from_slice(&[0, 8, 0, 0]),
    }
    let ip = match q.family {
        Family::V4 => ipv4(q.src, q.dst, q.proto, q.tos, &payload),
        Family::V6 => {
            let mut ip = (6u32 << 28 | u32::from(q.tos) << 20 | q.flow_label)
                .to_be_bytes()
                .to_vec();
            ip.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            ip.extend_from_slice(&[q.proto, 64]);
            ip.extend_from_slice(&q.src.to_be_bytes());
            ip.extend_from_slice(&q.dst.to_be_bytes());
            [ip, payload].concat()
        }
    };
    ethernet(ROUTER_MAC, if q.family == Family::V4 { 0x0800 } else { 0x86dd }, &ip)
}

fn ethernet(to: [u8; 6], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&to[..], &[2, 0, 0, 0, 2, 0], &ethertype.to_be_bytes(), packet].concat()
}

/// Packets sent so far by d1, d2, d3.
fn sent() -> [u64; 3] {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").expect("dev");
    EGRESS.map(|name| {
        let line = text
            .lines()
            .find_map(|l| l.trim().strip_prefix(name)?.strip_prefix(':'))
            .expect("the link");
        line.split_whitespace()
            .nth(9)
            .and_then(|n| n.parse().ok())
            .expect("a count")
    })
}

/// Sends copies of a flow's frame and says by which of d1 to d3 they left.
fn forward(socket: &FrameSocket, q: &Question) -> usize {
    let before = sent();
    for _ in 0..COPIES {
        socket.send(&frame(q)).expect("send");
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let now = sent();
        if let Some(way) = (0..3).find(|&n| now[n] - before[n] >= COPIES) {
            return way;
        }
        assert!(Instant::now() < deadline, "not forwarded: {q:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn gateway(family: Family, way: usize) -> Gateway {
    let n = way as u8 + 1;
    match family {
        Family::V4 => Gateway::Via(family, v4(10, 0, n, 2)),
        Family::V6 => Gateway::Via(family, v6(&format!("2001:db8:{n}::2"))),
    }
}

#[test]
fn ecmp_is_what_the_kernel_does() {
    isolated("ecmp_is_what_the_kernel_does", || {
        topology();
        let socket = FrameSocket::open(ifindex("p0")).expect("packet socket");
        let iif = ifindex("d0");
        let oif = EGRESS.map(ifindex);
        let mut oracle = Oracle::open().expect("oracle");
        for (family, name) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
            for policy in 0..2 {
                sh(&format!(
                    "echo {policy} > /proc/sys/net/{name}/fib_multipath_hash_policy"
                ));
                let questions: Vec<_> = (0..FLOWS).map(|n| flow(family, n, iif)).collect();
                let answers = oracle.ask(&questions, &Same);
                let mut taken = [0; 3];
                for (q, answer) in questions.iter().zip(answers) {
                    let way = forward(&socket, q);
                    taken[way] += 1;
                    let iface = IfaceIndex(oif[way] as u16);
                    let truth = Answer::Forward(Nexthop {
                        iface,
                        gateway: gateway(family, way),
                    });
                    assert_eq!(answer, truth, "policy {policy}, {q:?}");
                }
                println!("{name}, hash policy {policy}: {FLOWS} flows equal, by way {taken:?}");
                assert!(taken.iter().all(|&n| n > FLOWS / 20), "a way was not used: {taken:?}");
            }
        }
        let questions: Vec<_> = (0..20_000).map(|n| flow(Family::V4, n, iif)).collect();
        let start = Instant::now();
        let answers = oracle.ask(&questions, &Same);
        assert!(answers.iter().all(|a| matches!(a, Answer::Forward(_))));
        println!("{:.0} answers a second", 20_000.0 / start.elapsed().as_secs_f64());
    });
}

#[test]
fn what_is_the_kernels_own() {
    isolated("what_is_the_kernels_own", || {
        topology();
        sh(
            "ip route add blackhole 203.0.113.0/28; ip route add unreachable 203.0.113.16/28
            ip route add 203.0.113.32/28 via inet6 2001:db8:1::2 dev d1
            ip route add 203.0.113.64/28 via 10.0.2.2 mtu 1400
            ip -6 route add 2001:db8:ee::/48 encap seg6 mode encap segs 2001:db8:1::2 dev d1
            ip -6 route add blackhole 2001:db8:ed::/48",
        );
        let iif = ifindex("d0");
        let [d1, d2, _] = EGRESS.map(|name| IfaceIndex(ifindex(name) as u16));
        let mut oracle = Oracle::open().expect("oracle");
        let to = |dst| Question {
            dst,
            ..flow(Family::V4, 1, iif)
        };
        let to6 = |dst: &str| Question {
            dst: v6(dst),
            ..flow(Family::V6, 1, iif)
        };
        let forward = |iface, family, gateway| {
            Answer::Forward(Nexthop {
                iface,
                gateway: Gateway::Via(family, gateway),
            })
        };
        let via_v6 = forward(d1, Family::V6, v6("2001:db8:1::2"));
        let via_d2 = forward(d2, Family::V4, v4(10, 0, 2, 2));
        let onlink = Answer::Forward(Nexthop {
            iface: d2,
            gateway: Gateway::Onlink,
        });
        let cases = [
            ("blackhole", to(v4(203, 0, 113, 1)), Answer::Kernel),
            ("unreachable", to(v4(203, 0, 113, 17)), Answer::Kernel),
            ("no route", to(v4(192, 0, 2, 1)), Answer::Kernel),
            ("local", to(v4(10, 0, 1, 1)), Answer::Kernel),
            ("broadcast", to(v4(10, 0, 1, 255)), Answer::Kernel),
            ("multicast", to(v4(224, 0, 0, 5)), Answer::Kernel),
            ("out by the way it came", to(v4(10, 0, 0, 77)), Answer::Kernel),
            (
                "martian source",
                Question {
                    src: v4(127, 0, 0, 1),
                    ..to(v4(203, 0, 113, 33))
                },
                Answer::Kernel,
            ),
            (
                "own address as source",
                Question {
                    src: v4(10, 0, 1, 1),
                    ..to(v4(203, 0, 113, 33))
                },
                Answer::Kernel,
            ),
            (
                "ICMP, asked as an echo",
                Question {
                    proto: 1,
                    ..to(v4(203, 0, 113, 65))
                },
                via_d2,
            ),
            (
                "a protocol that cannot be asked",
                Question {
                    proto: 50,
                    ..to(v4(198, 18, 0, 1))
                },
                Answer::Kernel,
            ),
            (
                "a link that is gone",
                Question {
                    iif: IfaceIndex(9999),
                    ..to(v4(203, 0, 113, 33))
                },
                Answer::Kernel,
            ),
            ("IPv6 encapsulation", to6("2001:db8:ee::1"), Answer::Kernel),
            ("IPv6 blackhole", to6("2001:db8:ed::1"), Answer::Kernel),
            ("IPv6 local", to6("2001:db8:1::1"), Answer::Kernel),
            ("IPv6 no route", to6("2001:1::1"), Answer::Kernel),
            ("an IPv6 gateway", to(v4(203, 0, 113, 33)), via_v6),
            ("a route with an MTU", to(v4(203, 0, 113, 65)), via_d2),
            ("on the link", to(v4(10, 0, 2, 99)), onlink),
        ];
        let answers = oracle.ask(&cases.map(|c| c.1), &Same);
        for ((what, question, expected), answer) in cases.iter().zip(answers) {
            assert_eq!(answer, *expected, "{what}: {question:?}");
        }
        assert_eq!(oracle.ask(&[], &Same), []);

        // rp_filter strict: the way back to this source is by another link.
        let spoofed = Question {
            src: v4(10, 0, 3, 9),
            ..to(v4(203, 0, 113, 65))
        };
        assert_eq!(oracle.ask(&[spoofed], &Same), [via_d2]);
        sh("echo 1 > /proc/sys/net/ipv4/conf/d0/rp_filter");
        assert_eq!(oracle.ask(&[spoofed], &Same), [Answer::Kernel]);

        // PMTU discovery leaves an exception for one destination.
        let target = v4(203, 0, 113, 66);
        assert_eq!(oracle.ask(&[to(target)], &Same), [via_d2]);
        // About an echo reply of ours: of what the kernel sends, errors about these need no socket (icmp_err).
        let quoted = ipv4(v4(10, 0, 2, 1), target, 1, 0, &[0; 8]);
        let mut icmp = [&[3, 4, 0, 0, 0, 0, 0x04, 0xb0][..], &quoted].concat();
        let sum = checksum(&icmp);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let error = ipv4(v4(10, 0, 2, 2), v4(10, 0, 2, 1), 1, 0, &icmp);
        let socket = FrameSocket::open(ifindex("p2")).expect("packet socket");
        socket
            .send(&ethernet([2, 0, 0, 0, 1, 2], 0x0800, &error))
            .expect("send");
        let deadline = Instant::now() + Duration::from_secs(2);
        while oracle.ask(&[to(target)], &Same) != [Answer::Kernel] {
            assert!(Instant::now() < deadline, "the exception does not show");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(oracle.ask(&[to(target + 1)], &Same), [via_d2]);
    });
}
