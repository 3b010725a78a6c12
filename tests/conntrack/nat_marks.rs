//! Rules beside NAT as routers and nodes have them: marks that one chain sets and another asks for, the type of an address,
//! what NAT did to a connection, and segment sizes that are cut to what fits.

use crate::flow::{ACK, CLIENT, Flow, SERVER, SYN, c, s};
use crate::lab::twin::Share;
use crate::nat::{BOTH, MASQUERADED, PLAIN, flows, start, traffic};
use crate::script::{Step, one, play_for};

/// As kube-proxy has it: a map of services leads to chains, a mark has the answer come back through the box.
#[test]
fn services_and_marks() {
    let mut twin = start(
        "nat_services",
        "table inet kube {
            map services {
                type inet_proto . inet_service : verdict
                elements = { tcp . 8080 : goto service, udp . 8080 : goto service }
            }
            chain service {
                meta mark set meta mark or 0x4000
                meta l4proto { tcp, udp } counter dnat ip to 10.101.0.7:80
            }
            chain prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                fib daddr type local meta l4proto . th dport vmap @services
            }
            chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                meta mark & 0x4000 == 0 return
                meta mark set meta mark xor 0x4000
                counter masquerade
            }
            chain forward {
                type filter hook forward priority filter; policy drop;
                ct state established,related counter accept
                meta mark & 0x4000 == 0x4000 accept
                ct status dnat counter drop
                accept
            }
        }",
    );
    traffic(&mut twin, "service", &BOTH, &[true]);
    traffic(&mut twin, "plain", &PLAIN, &[true, false]);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.75));
}

/// The size of segments is cut where connections begin, in both directions.
#[test]
fn segment_sizes() {
    for (name, statement, mtu) in [
        ("mtu", "set rt mtu", 1400),
        ("fixed", "set 1200", 1500),
        ("larger", "set 9000", 1500),
    ] {
        let ruleset = format!(
            "table inet fw {{
                chain forward {{
                    type filter hook forward priority mangle; policy accept;
                    tcp flags syn counter tcp option maxseg size {statement}
                    ct state invalid counter drop
                }}
                chain postrouting {{
                    type nat hook postrouting priority srcnat; policy accept;
                    oifname \"d1\" masquerade
                }}
            }}"
        );
        let mut twin = start(&format!("nat_segments_{name}"), &ruleset);
        twin.change(&[&format!("ip link set d1 mtu {mtu}")]);
        let steps = [
            Step::from(c(SYN, 0, 0).mss()),
            Step::from(s(SYN | ACK, 0, 1).mss()),
            Step::from(c(ACK, 1, 1)),
            Step::from(c(ACK, 1, 1).data(600)),
            Step::from(s(ACK, 1, 601).data(11)),
            Step::from(c(ACK, 601, 12).mss()),
        ];
        play_for(&mut twin, "tcp", &flows(&MASQUERADED, &[true, false]), steps);
        let steps = [
            Step::from(c(SYN, 0, 0).option(&[1]).mss()),
            Step::from(c(SYN, 0, 0).option(&[2, 4, 0, 100])),
            Step::from(c(SYN, 0, 0)),
        ];
        play_for(&mut twin, "odd", &flows(&MASQUERADED, &[true, false]), steps);
        let udp = |from: usize| one("udp", from, move |flow: &Flow| flow.udp(from, 20));
        play_for(
            &mut twin,
            "udp",
            &flows(&MASQUERADED, &[true, false]),
            [udp(CLIENT), udp(SERVER)],
        );
        twin.compare_counters();
        twin.finish(Share::AtLeast(0.7));
    }
}
