//! Chains at forward run from the kernel's bytecode: each kind of rule has its say about packets of every kind, bypath forwards
//! what the rules let pass, and each counter counts in both labs the same.

use crate::flow::{ACK, CLIENT, Flow, SERVER, SYN, c, s};
use crate::lab::twin::{Fence, Setup, Share, Twin};
use crate::script::{Step, one, play, play_for};

/// Flows to several ports of the server.
fn to(port: u16) -> Vec<Flow> {
    let mut flows = Flow::several();
    flows.iter_mut().for_each(|flow| flow.ports[SERVER] = port);
    flows
}

/// Connections to several ports, datagrams of several lengths, echoes, errors, and what is invalid.
pub fn traffic(twin: &mut Twin) {
    for port in [22, 80, 443, 8080] {
        let tcp = [
            Step::from(c(SYN, 0, 0).mss()),
            Step::from(s(SYN | ACK, 0, 1).mss()),
            Step::from(c(ACK, 1, 1)),
            Step::from(c(ACK, 1, 1).data(600)),
            Step::from(s(ACK, 1, 601).data(10)),
            Step::from(c(ACK, 601, 11)),
        ];
        play_for(twin, &format!("tcp to {port}"), &to(port), tcp);
    }
    for port in [53, 123, 5000] {
        let udp = |from: usize, length: usize| one("udp", from, move |flow: &Flow| flow.udp(from, length));
        let error = one("error", SERVER, |flow: &Flow| {
            flow.unreachable(SERVER, &flow.udp(CLIENT, 20))
        });
        play_for(
            twin,
            &format!("udp to {port}"),
            &to(port),
            [
                udp(CLIENT, 20),
                udp(SERVER, 900),
                udp(CLIENT, 300),
                error,
                udp(SERVER, 1),
            ],
        );
    }
    let echo = |from: usize, sequence: u16| one("echo", from, move |flow: &Flow| flow.echo(from, sequence));
    play(
        twin,
        "echo",
        [echo(CLIENT, 1), echo(SERVER, 1), echo(CLIENT, 2), echo(SERVER, 2)],
    );
    play(twin, "invalid", [Step::from(c(0, 1, 1)), Step::from(s(0, 1, 1))]);
}

/// Plays it all under a ruleset, in which at least so many counters count.
fn judge(name: &str, ruleset: &str, least: f64, counters: usize) {
    let mut twin = Twin::start(Setup {
        fence: Fence::None,
        ..Setup::tracked(name, 2, ruleset)
    });
    twin.hand_over();
    traffic(&mut twin);
    let counted = twin.compare_counters();
    assert!(counted >= counters, "{name}: only {counted} counters counted anything");
    twin.finish(Share::AtLeast(least));
}

#[test]
fn ports_addresses_and_counters() {
    judge(
        "forward_ports",
        "table inet fw {
            counter everything { }
            chain forward {
                type filter hook forward priority 0; policy drop;
                counter name everything
                ct state vmap { established : accept, related : accept, invalid : drop }
                tcp dport { 80, 443 } counter accept
                udp dport 53 ip saddr 10.100.0.0/16 counter accept
                ip6 saddr fd00:100::/32 udp dport 100-200 counter accept
                icmp type echo-request counter accept
                icmpv6 type echo-request counter accept
                counter
            }
        }",
        0.3,
        7,
    );
}

/// Without a connection: nothing is tracked.
#[test]
fn without_conntrack() {
    judge(
        "forward_untracked",
        "table inet fw {
            chain forward {
                type filter hook forward priority 0; policy accept;
                tcp dport 22 counter drop
                udp length > 400 counter drop
                meta length 29-60 ip ttl 63 counter
                tcp flags & (syn | ack) == syn counter accept
                ip daddr 10.101.0.0/17 iifname \"d0\" counter
                ip6 hoplimit 63 counter
                ether saddr != 00:00:00:00:00:00 counter
            }
        }",
        0.7,
        6,
    );
}

#[test]
fn sets_maps_and_jumps() {
    judge(
        "forward_sets",
        "table inet fw {
            set ports {
                type inet_service
                flags interval
                elements = { 80, 400-450, 5000-5100 }
            }
            set pairs {
                type ipv4_addr . inet_service
                flags interval
                elements = { 10.100.0.0/16 . 22, 10.101.0.0/16 . 50-60 }
            }
            chain ssh {
                ip saddr . tcp dport @pairs counter return
                ct direction original counter drop
            }
            chain web {
                ct state new counter accept
                ct mark 0 counter
            }
            map verdicts {
                type inet_service : verdict
                elements = { 22 : jump ssh, 80 : goto web, 8080 : drop, 443 : accept }
            }
            chain datagrams {
                th dport != @ports counter return
                meta length > 100 counter accept
                counter
            }
            chain forward {
                type filter hook forward priority 0; policy accept;
                ct state invalid counter drop
                tcp dport vmap @verdicts
                meta l4proto udp counter jump datagrams
                udp sport . udp dport { 0-65535 . 123 } counter drop
                ct status assured counter
                th dport @ports counter
                counter
            }
        }",
        0.6,
        11,
    );
}

/// Only what reaches the rule is the kernel's.
#[test]
fn rules_that_punt() {
    judge(
        "forward_punt",
        "table inet fw {
            chain forward {
                type filter hook forward priority 0; policy accept;
                counter
                ct state established counter accept
                tcp dport 22 counter reject with icmpx type admin-prohibited
                tcp dport 8080 counter log prefix \"x\" counter accept
                udp dport 123 counter reject
                udp dport 5000 limit rate 1/second log
                ct state invalid counter meta mark set 7 counter drop
                counter
            }
        }",
        0.4,
        7,
    );
}

/// A limit that lets pass a few of each kind; what reaches it is punted.
#[test]
fn limits() {
    judge(
        "forward_limit",
        "table inet fw {
            chain forward {
                type filter hook forward priority 0; policy drop;
                ct state established,related counter accept
                tcp dport { 80, 443 } limit rate 1/day burst 5 packets counter accept
                udp dport 53 quota 120 bytes counter accept
                udp dport 123 limit rate over 1/day burst 2 packets counter drop
                meta l4proto icmp counter accept
                counter
            }
        }",
        0.15,
        6,
    );
}

/// A change takes no count away, and no packet sees half of it.
#[test]
fn changes() {
    let rule = |port: u16| format!("udp dport {port} counter accept");
    let mut twin = Twin::start(Setup {
        fence: Fence::None,
        ..Setup::tracked(
            "forward_changes",
            2,
            &format!(
                "table inet fw {{\n chain forward {{\n type filter hook forward priority 0; policy drop;\n {}\n }}\n}}",
                rule(53)
            ),
        )
    });
    let udp = |port: u16| (to(port), one("udp", CLIENT, |flow: &Flow| flow.udp(CLIENT, 20)));
    for round in 0..4u16 {
        for port in [53, 60, 61, 62, 63] {
            let (flows, step) = udp(port);
            play_for(&mut twin, &format!("round {round}"), &flows, [step]);
        }
        twin.compare_counters();
        twin.change(&[&format!("nft insert rule inet fw forward {}", rule(60 + round))]);
    }
    twin.change(&["nft delete table inet fw"]);
    let (flows, step) = udp(70);
    play_for(&mut twin, "free", &flows, [step.passes()]);
    twin.finish(Share::AtLeast(0.3));
}
