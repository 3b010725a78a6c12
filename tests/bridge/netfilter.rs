//! Bridges beside rules: NAT between a bridge and what is routed, hooks of IP that bridged packets meet or do not
//! (`bridge-nf-call-*`), and what stands on the links. Where bypath does not carry a hook, it may forward nothing around it.

use crate::lab::packet::{Packet, ip, tcp, udp};
use crate::lab::plan;
use crate::lab::twin::{Setup, Share, Twin};
use crate::net::{Station, at, bridge, bridge_mac, finish, finish_aged, learn, nf_call, routed, ruleset, setup, talk};

/// Ports 0 and 1 are bridge 0, port 2 is routed.
pub fn start(name: &str, call: bool, more: &[String]) -> Twin {
    let mut lines = bridge(0, &[0, 1]);
    lines.extend(routed(0, &[0, 1]));
    lines.extend(plan::addresses(2));
    lines.extend(plan::neighbours(2));
    lines.extend(plan::routes(2));
    lines.extend(nf_call(call));
    lines.extend(more.iter().cloned());
    let is_tracked = more
        .iter()
        .any(|line| line.contains("ct state") || line.contains("type nat"));
    let mut twin = Twin::start(Setup {
        filters: is_tracked,
        ..setup(&format!("nf_{name}_{call}"), 3, lines)
    });
    learn(&mut twin, &[at(0, 0), at(0, 1), at(1, 0), at(1, 1)]);
    twin
}

pub fn inject(twin: &mut Twin, port: usize, packets: impl IntoIterator<Item = Packet>) {
    let frames: Vec<_> = packets.into_iter().map(Packet::build).collect();
    twin.inject(port, &frames);
}

/// A connection from `from`, by `to_mac`, towards `server`: seen at the far end of `port` as the router sent it, answered
/// there, and gone on with. `src` is the address that the server sees.
struct Talk {
    from: Station,
    to_mac: [u8; 6],
    server: (std::net::IpAddr, u16),
    /// Where it arrives: port, and what it sees as its own address.
    at: (usize, [u8; 6], [u8; 6]),
    own: (std::net::IpAddr, u16),
    seen: std::net::IpAddr,
}

impl Talk {
    fn tcp(&self, twin: &mut Twin, count: u16) {
        for number in 0..count {
            let client = 2000 + number;
            let out = |flags: u8, length: usize| {
                let src = if self.server.0.is_ipv4() {
                    self.from.v4()
                } else {
                    self.from.v6()
                };
                let packet = tcp(src, self.server.0, (client, self.server.1), flags, length);
                self.from.sends_to(self.to_mac, packet)
            };
            let back = |flags: u8, length: usize| {
                let mut packet = tcp(self.own.0, self.seen, (self.own.1, client), flags, length);
                (packet.src_mac, packet.dst_mac) = (self.at.1, self.at.2);
                packet
            };
            let (port, there) = (self.from.port, self.at.0);
            inject(twin, port, [numbered(out(0x02, 0), 100, 0)]);
            inject(twin, there, [numbered(back(0x12, 0), 500, 101)]);
            inject(twin, port, [numbered(out(0x10, 0), 101, 501)]);
            for step in 0..6u32 {
                inject(twin, port, [numbered(out(0x18, 20), 101 + 20 * step, 501 + 20 * step)]);
                inject(
                    twin,
                    there,
                    [numbered(back(0x18, 20), 501 + 20 * step, 121 + 20 * step)],
                );
            }
        }
    }
}

/// With these numbers of TCP.
fn numbered(packet: Packet, seq: u32, ack: u32) -> Packet {
    packet.with(|packet| {
        packet.body[4..8].copy_from_slice(&seq.to_be_bytes());
        packet.body[8..12].copy_from_slice(&ack.to_be_bytes());
    })
}

const MASQUERADE: &str = "table ip t { chain post { type nat hook postrouting priority 100 ; ip saddr 10.9.0.0/24 oifname \"d2\" masquerade ; } }";

fn masqueraded() -> Talk {
    Talk {
        from: at(0, 0),
        to_mac: bridge_mac(0),
        server: (plan::behind4(2, 5), 80),
        at: (2, crate::lab::wire::mac(2), crate::net::port_mac(2)),
        own: (plan::behind4(2, 5), 80),
        seen: ip("10.0.2.1"),
    }
}

/// From a bridge by masquerade out of a routed port; what stays on the bridge meets no hook.
#[test]
fn masquerade_without_nf_call() {
    let mut twin = start("masquerade", false, &[ruleset(MASQUERADE)]);
    masqueraded().tcp(&mut twin, 8);
    talk(&mut twin, at(0, 0), at(1, 0), 100);
    finish(twin, Share::AtLeast(0.6));
}

/// The same where bridged packets meet the hooks: they are tracked, too.
#[test]
fn masquerade_with_nf_call() {
    let mut twin = start("masquerade", true, &[ruleset(MASQUERADE)]);
    masqueraded().tcp(&mut twin, 8);
    bridged().tcp(&mut twin, 8);
    finish(twin, Share::AtLeast(0.8));
}

/// From port to port of the bridge, at Ethernet.
fn bridged() -> Talk {
    Talk {
        from: at(0, 0),
        to_mac: at(1, 0).mac(),
        server: (at(1, 0).v4(), 80),
        at: (1, at(1, 0).mac(), at(0, 0).mac()),
        own: (at(1, 0).v4(), 80),
        seen: at(0, 0).v4(),
    }
}

/// A service address that leads to a station of the same bridge: its answers are translated only if they meet the hooks.
#[test]
fn dnat_to_the_same_bridge() {
    let words = "table ip t { chain pre { type nat hook prerouting priority -100 ; ip daddr 10.96.0.1 tcp dport 80 dnat to 10.9.0.32:8080 ; } }";
    for call in [false, true] {
        let mut twin = start("dnat_same", call, &[ruleset(words)]);
        Talk {
            from: at(0, 0),
            to_mac: bridge_mac(0),
            server: (ip("10.96.0.1"), 80),
            at: (1, at(1, 0).mac(), at(0, 0).mac()),
            own: (at(1, 0).v4(), 8080),
            seen: at(0, 0).v4(),
        }
        .tcp(&mut twin, 6);
        finish(twin, Share::AtLeast(if call { 0.8 } else { 0.3 }));
    }
}

/// A service address that leads out of the bridge, and one of a routed port that leads into it.
#[test]
fn dnat_across() {
    let words = "table ip t { chain pre { type nat hook prerouting priority -100 ; \
                 ip daddr 10.96.0.2 tcp dport 80 dnat to 10.102.0.5:8080 ; \
                 ip daddr 10.0.2.1 tcp dport 81 dnat to 10.9.0.32:8081 ; } }";
    for call in [false, true] {
        let mut twin = start("dnat_across", call, &[ruleset(words)]);
        Talk {
            from: at(0, 0),
            to_mac: bridge_mac(0),
            server: (ip("10.96.0.2"), 80),
            at: (2, crate::lab::wire::mac(2), crate::net::port_mac(2)),
            own: (plan::behind4(2, 5), 8080),
            seen: at(0, 0).v4(),
        }
        .tcp(&mut twin, 6);
        for number in 0..6 {
            let out = tcp(plan::behind4(2, 9), ip("10.0.2.1"), (3000 + number, 81), 2, 0).at(2);
            inject(&mut twin, 2, [numbered(out, 100, 0)]);
            let back = tcp(at(1, 0).v4(), plan::behind4(2, 9), (8081, 3000 + number), 0x12, 0);
            inject(
                &mut twin,
                1,
                [numbered(at(1, 0).sends_to(bridge_mac(0), back), 500, 101)],
            );
        }
        finish(twin, Share::AtLeast(0.8));
    }
}

/// Bridged packets whose destination is translated: to a station elsewhere on the bridge, to one behind the same port, to
/// the router's other side.
#[test]
fn dnat_of_bridged_packets() {
    let words = "table ip t { chain pre { type nat hook prerouting priority -100 ; \
                 ip daddr 10.9.0.32 tcp dport 80 dnat to 10.9.0.33:8080 ; \
                 ip daddr 10.9.0.32 tcp dport 81 dnat to 10.102.0.5:8081 ; \
                 ip daddr 10.9.0.32 tcp dport 82 dnat to 10.9.0.17:8082 ; \
                 ip daddr 10.9.0.32 tcp dport 83 redirect to :83 ; } }";
    let mut twin = start("dnat_bridged", true, &[ruleset(words)]);
    for port in 80..85 {
        for number in 0..3 {
            let packet = tcp(at(0, 0).v4(), at(1, 0).v4(), (4000 + number, port), 2, 0);
            inject(&mut twin, 0, [numbered(at(0, 0).sends(at(1, 0), packet), 100, 0)]);
        }
        std::thread::sleep(std::time::Duration::from_millis(60));
    }
    finish(twin, Share::AtLeast(0.3));
}

/// Rules for what is forwarded: they judge bridged packets exactly where these meet the hooks.
#[test]
fn rules_for_forwarded_packets() {
    let words = "table inet t { chain f { type filter hook forward priority 0 ; \
                 udp dport 9 counter drop ; iifname \"br0\" udp dport 10 counter drop ; iifname \"d0\" udp dport 11 counter drop ; \
                 oifname \"br0\" udp dport 12 counter drop ; } }";
    for call in [false, true] {
        let mut twin = start("forward_rules", call, &[ruleset(words)]);
        for v6 in [false, true] {
            for port in 8..14 {
                inject(
                    &mut twin,
                    0,
                    (0..10).map(|from| at(0, 0).udp(at(1, 0), v6, (from, port))),
                );
                let dst = if v6 { plan::behind6(2, 1) } else { plan::behind4(2, 1) };
                let src = if v6 { at(0, 0).v6() } else { at(0, 0).v4() };
                let up = |from| at(0, 0).sends_to(bridge_mac(0), udp(src, dst, (from, port), 10));
                inject(&mut twin, 0, (0..10).map(up));
            }
        }
        talk(&mut twin, at(0, 0), at(1, 0), 50);
        finish(twin, Share::AtLeast(if call { 0.5 } else { 0.6 }));
    }
}

/// Whatever looks at connections has bridged ones tracked, and finds the invalid among them.
#[test]
fn rules_for_connections() {
    let words = "table inet t { chain f { type filter hook forward priority 0 ; policy drop ; \
                 ct state established,related accept ; ct state invalid drop ; tcp dport 80 ct state new accept ; } }";
    for call in [false, true] {
        let mut twin = start("connections", call, &[ruleset(words)]);
        bridged().tcp(&mut twin, 6);
        // In the middle of nothing, and to a port that is closed.
        for flags in [0x10, 0x12, 0x04, 0x01] {
            let packet = tcp(at(0, 0).v4(), at(1, 0).v4(), (5000, 80), flags, 0);
            inject(&mut twin, 0, [at(0, 0).sends(at(1, 0), packet)]);
        }
        inject(
            &mut twin,
            0,
            [at(0, 0).sends(at(1, 0), tcp(at(0, 0).v4(), at(1, 0).v4(), (5001, 81), 2, 0))],
        );
        inject(
            &mut twin,
            0,
            (0..5).map(|from| at(0, 0).udp(at(1, 0), true, (from, 53))),
        );
        finish(twin, Share::AtLeast(if call { 0.0 } else { 0.6 }));
    }
}

/// Fragments of bridged packets are taken together where connections are tracked, and taken apart again.
#[test]
fn fragments_of_connections() {
    let words = "table inet t { chain f { type filter hook forward priority 0 ; ct state invalid drop ; } }";
    for call in [false, true] {
        let mut twin = start("fragments", call, &[ruleset(words)]);
        for v6 in [false, true] {
            let parts = at(0, 0).udp(at(1, 0), v6, (5, 6)).ip_length(1200).fragments(400);
            inject(&mut twin, 0, parts);
        }
        let share = if call { Share::Nothing } else { Share::AtLeast(0.4) };
        finish(twin, share);
    }
}

/// `physdev`, of iptables-nft: by the ports behind the bridge.
#[test]
fn physdev() {
    let more = ["iptables-nft-restore *filter\n:FORWARD ACCEPT [0:0]\n\
                 -A FORWARD -m physdev --physdev-in d0 --physdev-out d1 -p udp --dport 9 -j DROP\n\
                 -A FORWARD -m physdev --physdev-is-bridged -p udp --dport 10 -j DROP\nCOMMIT"
        .to_owned()];
    for call in [false, true] {
        let mut twin = start("physdev", call, &more);
        for (from, to) in [(at(0, 0), at(1, 0)), (at(1, 0), at(0, 0))] {
            for port in 8..12 {
                inject(
                    &mut twin,
                    from.port,
                    (0..10).map(|number| from.udp(to, false, (number, port))),
                );
            }
        }
        finish(twin, Share::AtLeast(if call { 0.4 } else { 0.8 }));
    }
}

/// The same where the bridge itself has a qdisc: what is bridged is the kernel's then, what goes up and out by a port that is
/// none of a bridge's is not, and came in by its port.
#[test]
fn physdev_of_what_goes_up() {
    let more = [
        "tc qdisc add dev br0 root tbf rate 1gbit burst 100k limit 1m".to_owned(),
        "iptables-nft-restore *filter\n:FORWARD DROP [0:0]\n\
         -A FORWARD -m physdev --physdev-in d1 -p udp --dport 9 -j DROP\n\
         -A FORWARD -m physdev --physdev-in d0 -p udp --dport 10 -j ACCEPT\n\
         -A FORWARD -m physdev --physdev-is-bridged -j ACCEPT\n\
         -A FORWARD -p udp --dport 9 -j ACCEPT\nCOMMIT"
            .to_owned(),
    ];
    let mut twin = start("physdev_up", true, &more);
    for from in [at(0, 0), at(1, 0)] {
        for port in 8..12 {
            let (src, dst) = (from.v4(), plan::behind4(2, 1));
            let packets = (0..10).map(|number| from.sends_to(bridge_mac(0), udp(src, dst, (number, port), 10)));
            inject(&mut twin, from.port, packets);
        }
    }
    finish(twin, Share::AtLeast(0.2));
}

/// Chains on devices and programs of tc, on a port and on the bridge itself.
#[test]
fn what_stands_on_a_link() {
    let cases: [(&str, &[&str], f64); 6] = [
        (
            "netdev_port",
            &[
                "ruleset table netdev t { chain i { type filter hook ingress device \"d0\" priority 0 ; udp dport 9 drop ; } }",
            ],
            0.0,
        ),
        (
            "netdev_bridge",
            &[
                "ruleset table netdev t { chain i { type filter hook ingress device \"br0\" priority 0 ; udp dport 9 drop ; } }",
            ],
            0.3,
        ),
        (
            "tc_port",
            &[
                "tc qdisc add dev d1 clsact",
                "tc filter add dev d1 egress bpf da bytecode \"1,6 0 0 2\"",
            ],
            0.0,
        ),
        (
            "tc_bridge",
            &[
                "tc qdisc add dev br0 clsact",
                "tc filter add dev br0 ingress bpf da bytecode \"1,6 0 0 2\"",
            ],
            0.3,
        ),
        // It sees a copy of every frame then.
        (
            "tc_promiscuous",
            &[
                "ip link set br0 promisc on",
                "tc qdisc add dev br0 clsact",
                "tc filter add dev br0 ingress protocol all prio 1 u32 match u32 0 0 action mirred egress mirror dev d2",
            ],
            0.0,
        ),
        (
            "qdisc_port",
            &["tc qdisc add dev d1 root tbf rate 100mbit burst 100k limit 1m"],
            0.0,
        ),
    ];
    for (name, more, share) in cases {
        let line = |line: &&str| line.strip_prefix("ruleset ").map_or(line.to_string(), ruleset);
        let more: Vec<_> = more.iter().map(line).collect();
        let mut twin = start(name, false, &more);
        talk(&mut twin, at(0, 0), at(1, 0), 40);
        for v6 in [false, true] {
            inject(&mut twin, 0, (0..10).map(|from| at(0, 0).udp(at(1, 0), v6, (from, 9))));
            let (src, dst) = match v6 {
                false => (at(0, 0).v4(), plan::behind4(2, 1)),
                true => (at(0, 0).v6(), plan::behind6(2, 1)),
            };
            inject(
                &mut twin,
                0,
                (0..10).map(|from| at(0, 0).sends_to(bridge_mac(0), udp(src, dst, (from, 9), 10))),
            );
            inject(&mut twin, 2, (0..10).map(|from| udp(dst, src, (9, from), 10).at(2)));
        }
        finish_aged(twin, Share::AtLeast(share));
    }
}
