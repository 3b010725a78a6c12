//! Rules that write into IP headers, and packet priorities: what one rule writes the next reads, routing goes by it, and the
//! far end gets it, checksums to the byte.

use crate::flow::{ACK, CLIENT, Flow, PSH, SERVER, SYN, c, s};
use crate::lab::packet::Packet;
use crate::lab::twin::{Fence, Setup, Share, Twin};
use crate::nat::{MASQUERADED, start, traffic};
use crate::script::{Step, one, play};

fn marked(from: usize, length: usize, tos: u8, ttl: u8) -> Step {
    one("udp", from, move |flow: &Flow| {
        flow.udp(from, length).with(|packet: &mut Packet| {
            packet.tos = tos;
            packet.ttl = ttl;
        })
    })
}

/// Of many kinds: every class, with and without ECN, and hop limits at their ends.
fn packets() -> Vec<Step> {
    let mut steps = Vec::new();
    for (at, tos) in (0..=255u8).step_by(11).enumerate() {
        let ttl = [64, 2, 3, 255, 128][at % 5];
        steps.push(marked([CLIENT, SERVER][at % 2], 10 + at * 20, tos, ttl));
    }
    steps
}

#[test]
fn written_at_each_hook() {
    let ruleset = "table inet fw {
        chain raw {
            type filter hook prerouting priority raw; policy accept;
            meta length 100-199 ip dscp set cs1
            meta length 100-199 ip6 dscp set cs1
            ip dscp cs1 counter
            ip6 dscp cs1 counter
        }
        chain prerouting {
            type filter hook prerouting priority mangle; policy accept;
            meta length 200-299 ip ttl set 40
            meta length 200-299 ip6 hoplimit set 40
            meta priority 0 counter
            meta priority set 1:2
        }
        chain forward {
            type filter hook forward priority filter; policy accept;
            ip ttl 39 counter
            ip6 hoplimit 39 counter
            meta priority 1:2 counter
            meta priority 0:2 counter
            meta priority 0:4 counter
            meta priority 0:6 counter
            meta priority none counter
            udp dport 80 ip dscp set af42
            udp dport 80 ip6 dscp set af42
            meta length 400-499 ip ttl set 200
            meta length 400-499 ip6 hoplimit set 1
            ct state invalid counter drop
        }
        chain postrouting {
            type filter hook postrouting priority mangle; policy accept;
            ip dscp af42 counter
            ip6 dscp af42 counter
            ip ttl 200 counter
            meta l4proto udp ip6 hoplimit 1 counter
            meta length > 300 ip ecn set ect0
            meta length > 300 ip6 ecn set ect0
        }
    }";
    let mut twin = Twin::start(Setup {
        fence: Fence::None,
        ..Setup::tracked("headers_hooks", 2, ruleset)
    });
    twin.hand_over();
    play(&mut twin, "udp", packets());
    let tcp = [
        Step::from(c(SYN, 0, 0).mss()),
        Step::from(s(SYN | ACK, 0, 1).mss()),
        Step::from(c(ACK, 1, 1)),
        Step::from(c(ACK | PSH, 1, 1).data(440)),
        Step::from(s(ACK, 1, 441).data(350)),
    ];
    play(&mut twin, "tcp", tcp);
    let counted = twin.compare_counters();
    assert!(counted >= 13, "only {counted} counters counted anything");
    twin.finish(Share::AtLeast(0.7));
}

/// A class that a rule gives is the one that routing goes by, and NAT is no matter to it.
#[test]
fn with_nat_and_routes() {
    let mut twin = start(
        "headers_nat",
        "table inet fw {
            chain prerouting {
                type filter hook prerouting priority mangle; policy accept;
                iifname \"d0\" udp dport 80 ip dscp set cs2
                iifname \"d0\" udp dport 80 ip6 dscp set cs2
            }
            chain forward {
                type filter hook forward priority mangle; policy accept;
                ct direction reply ip ttl set 64
                ct direction reply ip6 hoplimit set 64
            }
            chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                oifname \"d1\" counter masquerade
            }
        }",
    );
    traffic(&mut twin, "before", &MASQUERADED, &[true, false]);
    twin.change(&[
        "ip rule add tos 0x10 table 100",
        "ip route add unreachable default table 100",
        "ip -6 rule add tos 0x40 table 100",
        "ip -6 route add unreachable default table 100",
    ]);
    traffic_of_a_class(&mut twin);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.5));
}

fn traffic_of_a_class(twin: &mut Twin) {
    let steps = [0x00, 0x10, 0x40, 0x44].map(|tos| marked(CLIENT, 20, tos, 64));
    play(twin, "by class", steps);
}
