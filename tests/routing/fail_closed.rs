//! One scenario for each kind of thing that could stand in the path of a forwarded packet and is not carried. The output is
//! the kernel's, and bypath has forwarded nothing by itself. When one of them comes to be carried, its scenario moves on.

use crate::lab;
use crate::lab::packet::{Packet, ip, tcp, udp};
use crate::lab::plan;
use crate::lab::twin::{Setup, Share, Twin};

/// A twin with this configuration behind the plan's, after one change that both routers see while bypath runs or before.
fn judge(name: &str, more: &[&str], send: impl Fn(&mut Twin), share: Share) {
    let mut twin = Twin::start(Setup::new(name, 3, plan::config_with(3, more)));
    send(&mut twin);
    twin.finish(share);
}

/// The same configuration arrives while bypath is forwarding: nothing more may be forwarded after it.
fn judge_live(name: &str, more: &[&str], send: impl Fn(&mut Twin)) {
    let mut twin = Twin::start(Setup::new(&format!("{name}_live"), 3, plan::config(3)));
    send(&mut twin);
    twin.change(more);
    let before = twin.bypath().map(|bypath| bypath.totals_at_rest().forwarded);
    send(&mut twin);
    let after = twin.bypath().map(|bypath| bypath.totals_at_rest().forwarded);
    assert_eq!(before, after, "{name}: forwarded after the change");
    twin.finish(Share::AtLeast(0.4));
}

/// Both: from the start, and live.
fn closed(name: &str, more: &[&str], send: impl Fn(&mut Twin)) {
    judge(name, more, &send, Share::Nothing);
    judge_live(name, more, &send);
}

fn from_0_to(to: usize, families: &[usize]) -> Vec<Packet> {
    let each = |at: u16| {
        let pairs = plan::pairs(0, to, at);
        families
            .iter()
            .map(move |family| pairs[*family])
            .flat_map(move |(src, dst)| {
                [
                    udp(src, dst, (1000, 7), 30),
                    udp(src, dst, (1000, 9), 30),
                    tcp(src, dst, (at, 80), 2, 0),
                ]
            })
    };
    (0..30).flat_map(each).collect()
}

const BOTH: &[usize] = &[0, 1];
const IPV4: &[usize] = &[0];
const IPV6: &[usize] = &[1];

/// At conntrack's own priority, where it is not told who comes first.
#[test]
fn nft_chain_beside_conntrack() {
    let more = [
        "nft add table inet t",
        "nft add chain inet t f { type filter hook prerouting priority -200 ; }",
        "nft add rule inet t f udp dport 9 drop",
    ];
    closed("nft_beside_conntrack", &more, |twin| twin.send(0, from_0_to(1, BOTH)));
}

/// At NAT's own priority, where it is not told who comes first.
#[test]
fn nft_chains_beside_nat() {
    for (family, hook, priority) in [("ip", "prerouting", -100), ("ip6", "postrouting", 100)] {
        let chain =
            format!("nft add chain {family} t c {{ type filter hook {hook} priority {priority} ; policy drop ; }}");
        let table = format!("nft add table {family} t");
        let rule = format!("nft add rule {family} t c udp dport 9 accept");
        judge(
            &format!("nft_{hook}_{family}"),
            &[&table, &chain, &rule],
            |twin| twin.send(0, from_0_to(1, if family == "ip" { IPV4 } else { IPV6 })),
            Share::Nothing,
        );
    }
}

#[test]
fn nft_netdev_chains() {
    let more = [
        "nft add table netdev t",
        "nft add chain netdev t i { type filter hook ingress device d0 priority 0 ; }",
        "nft add rule netdev t i udp dport 9 drop",
    ];
    judge(
        "nft_ingress",
        &more,
        |twin| twin.send(0, from_0_to(1, BOTH)),
        Share::Nothing,
    );
    let more = [
        "nft add table netdev t",
        "nft add chain netdev t e { type filter hook egress device d1 priority 0 ; }",
        "nft add rule netdev t e udp dport 9 drop",
    ];
    judge(
        "nft_egress",
        &more,
        |twin| twin.send(0, from_0_to(1, BOTH)),
        Share::Nothing,
    );
}

/// A rule in input alone does more to connections than to look: the kernel then tracks everything, transit too.
#[test]
fn nft_conntrack_in_input_alone() {
    let more = [
        "nft add table inet t",
        "nft add chain inet t i { type filter hook input priority 0 ; }",
        "nft add rule inet t i ct state new ct event set new",
    ];
    closed("nft_conntrack_in_input", &more, |twin| twin.send(0, from_0_to(1, BOTH)));
}

#[test]
fn legacy_iptables() {
    let more = ["iptables-legacy -A FORWARD -p udp --dport 9 -j DROP"];
    closed("legacy_iptables", &more, |twin| twin.send(0, from_0_to(1, IPV4)));
    let more = ["ip6tables-legacy -A FORWARD -p udp --dport 9 -j DROP"];
    judge(
        "legacy_ip6tables",
        &more,
        |twin| twin.send(0, from_0_to(1, IPV6)),
        Share::Nothing,
    );
}

/// A bridge is carried, and IP by it; but not what stands on the bridge.
#[test]
fn filter_on_a_bridge() {
    let more = [
        "ip link add br0 type bridge",
        "ip link set br0 address 02:00:00:00:00:10",
        "ip link set d0 master br0",
        "ip link set br0 up",
        "ip addr flush dev d0",
        "ip addr add 10.0.0.1/24 dev br0",
        "ip addr add fd00::1/64 dev br0 nodad",
        "ip neigh replace 10.0.0.2 lladdr 02:00:00:01:00:00 dev br0 nud permanent",
        "ip neigh replace fd00::2 lladdr 02:00:00:01:00:00 dev br0 nud permanent",
        "ip route replace 10.100.0.0/16 via 10.0.0.2",
        "ip route replace fd00:100::/32 via fd00::2",
        "tc qdisc add dev br0 clsact",
        "tc filter add dev br0 egress u32 match u32 0 0 classid 1:1",
    ];
    closed("filter_on_a_bridge", &more, |twin| {
        twin.send(0, from_0_to(1, BOTH));
        for (src, dst) in plan::pairs(1, 0, 5) {
            twin.send(1, (0..20).map(|at| udp(src, dst, (at, 2), 20)));
        }
    });
}

#[test]
fn xfrm_policy() {
    let more = ["ip xfrm policy add dir fwd src 10.100.0.0/16 dst 10.101.0.0/28 action block"];
    judge(
        "xfrm_policy",
        &more,
        |twin| twin.send(0, from_0_to(1, IPV4)),
        Share::Nothing,
    );
    let more = ["ip xfrm policy add dir out src fd00:100::/32 dst fd00:101::/124 action block"];
    judge(
        "xfrm_policy_ipv6",
        &more,
        |twin| twin.send(0, from_0_to(1, IPV6)),
        Share::Nothing,
    );
}

#[test]
fn encapsulating_route() {
    let more = [
        "ip route add 10.50.0.0/16 encap seg6 mode encap segs fd00:102::7 dev d2",
        "ip route add fd00:50::/32 encap seg6 mode encap segs fd00:102::7 dev d2",
        "ip route add fd00:51::/32 encap seg6 mode inline segs fd00:102::7 dev d2",
        "ip sr tunsrc set fd00:0:0:2::1",
    ];
    judge(
        "encapsulating_route",
        &more,
        |twin| {
            for (src, dst) in [
                (plan::behind4(0, 1), "10.50.0.1"),
                (plan::behind6(0, 1), "fd00:50::1"),
                (plan::behind6(0, 1), "fd00:51::1"),
            ] {
                twin.send(0, (0..40).map(|at| udp(src, ip(dst), (at, 2), 30)));
            }
        },
        Share::Nothing,
    );
}

/// A classic BPF program that drops UDP over IPv4 (byte 9 of the IP header is 17) and passes the rest.
const DROP_UDP: &str = "bpf da bytecode \"5,48 0 0 9,21 0 1 17,6 0 0 2,6 0 0 4294967295,6 0 0 0\"";

#[test]
fn tc_programs() {
    for (name, hook, device) in [("tc_ingress", "ingress", "d0"), ("tc_egress", "egress", "d1")] {
        let qdisc = format!("tc qdisc add dev {device} clsact");
        let filter = format!("tc filter add dev {device} {hook} protocol ip {DROP_UDP}");
        closed(name, &[&qdisc, &filter], |twin| twin.send(0, from_0_to(1, BOTH)));
    }
}

/// Those that are not carried; tests/twin_shape.rs has those that are.
#[test]
fn shaping_qdiscs() {
    for (name, kind, qdisc) in [
        (
            "stab",
            "tbf",
            "stab overhead 24 linklayer atm tsize 512 mtu 2048 tbf rate 1gbit burst 1m latency 500ms",
        ),
        ("netem", "netem", "netem loss 0%"),
        ("cake", "cake", "cake bandwidth 1gbit"),
    ] {
        if !lab::router::kernel_has_qdisc(kind) {
            continue;
        }
        let line = format!("tc qdisc add dev d1 root {qdisc}");
        closed(name, &[&line], |twin| twin.send(0, from_0_to(1, BOTH)));
    }
}

/// What stands beside the path leaves the path alone.
#[test]
fn other_paths_are_carried() {
    let more = [
        "tc qdisc add dev d2 root tbf rate 1gbit burst 1m latency 500ms",
        "tc qdisc add dev d2 clsact",
        &format!("tc filter add dev d2 ingress protocol ip {DROP_UDP}"),
        "ip route add 10.50.0.0/16 encap seg6 mode encap segs fd00:102::7 dev d2",
    ];
    judge(
        "other_paths_are_carried",
        &more,
        |twin| twin.send(0, from_0_to(1, BOTH)),
        Share::AtLeast(0.95),
    );
    let more = ["ip6tables-legacy -A FORWARD -p udp --dport 9 -j DROP"];
    judge(
        "ipv4_beside_ip6tables",
        &more,
        |twin| twin.send(0, from_0_to(1, IPV4)),
        Share::AtLeast(0.95),
    );
}
