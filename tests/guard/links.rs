//! Masters, devices on devices, and bridges whose ports are ours: what stands on a port, and what on the bridge.

use super::*;

const BRIDGED: &[&str] = &["4", "6", "bridging"];

#[test]
#[rustfmt::skip]
fn masters_and_uppers() {
    isolated("links_on_links::masters_and_uppers", || check(&[
        Case {
            add: "ip link add br0 type bridge; ip link set d0 master br0",
            remove: "ip link del br0",
            ports: &[], families: &[], ways: &[], says: "", event: false,
        },
        Case {
            add: "ip link add m0 link d1 type macvlan mode bridge",
            remove: "ip link del m0",
            ports: &["d1"], families: V46, ways: &["in"], says: "macvlan m0 sits on the port", event: false,
        },
    ]));
}

/// What stands on the port of a bridge leaves its bridging, too; what stands on the bridge leaves IP by it.
#[test]
#[rustfmt::skip]
fn ports_of_bridges_and_bridges() {
    isolated("links_on_links::ports_of_bridges_and_bridges", || {
        sh("ip link add br0 type bridge; ip link set br0 up; ip link add br1 type bridge");
        ports();
        sh("ip link set d0 master br0; ip link set p1 master br1");
        check_there(&[
            tc!("tc qdisc add dev d0 root stab overhead 20 linklayer atm tbf rate 1mbit burst 10k latency 10ms",
                "tc qdisc del dev d0 root", &["d0"], BRIDGED, &["out"], "qdisc tbf"),
            tc!("tc qdisc add dev d0 clsact; tc filter add dev d0 ingress bpf bytecode '1,6 0 0 0'", "tc qdisc del dev d0 clsact",
                &["d0"], BRIDGED, &["in"], "qdisc clsact"),
            tc!("tc qdisc add dev br0 clsact", "tc qdisc del dev br0 clsact", &["br0"], V46, &["in"], "qdisc clsact"),
            tc!("tc qdisc add dev br0 root tbf rate 1mbit burst 10k latency 10ms", "tc qdisc del dev br0 root",
                &["br0"], V46, &["out"], "on br0"),
            tc!("tc qdisc add dev br1 root tbf rate 1mbit burst 10k latency 10ms", "tc qdisc del dev br1 root",
                &[], &[], &[], ""),
            Case {
                add: "ip link add m0 link br0 type macvlan mode bridge",
                remove: "ip link del m0",
                ports: &["br0"], families: V46, ways: &["in"], says: "macvlan m0 sits on the port", event: false,
            },
            Case {
                add: "nft add table netdev t; nft 'add chain netdev t c { type filter hook ingress device br0 priority 0; }'; \
                      nft add rule netdev t c counter",
                remove: "nft delete table netdev t",
                ports: &["br0"], families: V46, ways: &["in"], says: "nft table netdev t, chain c", event: true,
            },
            Case {
                add: "nft add table ip t; nft 'add chain ip t c { type filter hook prerouting priority -200; }'; \
                      nft add rule ip t c counter",
                remove: "nft delete table ip t",
                ports: &["br0", "d0", "d1"], families: V4, ways: BOTH_WAYS, says: "nft table ip t, chain c", event: true,
            },
        ])
    });
}
