//! Chains at prerouting before conntrack: packets that they drop never reach their connection, those that they have not
//! tracked have none; and connections are no matter there.

use crate::flow::{ACK, CLIENT, Flow, PSH, SERVER, SYN, c, s};
use crate::lab::twin::{Fence, Setup, Share, Twin};
use crate::nat::{MASQUERADED, start, traffic};
use crate::script::{Step, one, play, play_for};
use crate::tcp_open::after_handshake;

/// Past all rules of a chain go the fences.
const FENCES: &str = "udp sport 7 udp dport 7 accept\n";

fn twin(name: &str, raw: &str, forward: &str) -> Twin {
    let ruleset = format!(
        "table inet fw {{
            chain raw {{\n type filter hook prerouting priority raw; policy accept;\n {FENCES} {raw}\n }}
            chain forward {{\n type filter hook forward priority filter; policy accept;\n {FENCES} {forward}\n }}
        }}"
    );
    let mut twin = Twin::start(Setup::tracked(name, 2, &ruleset));
    twin.hand_over();
    twin
}

fn udp(from: usize, length: usize) -> Step {
    one("udp", from, move |flow: &Flow| flow.udp(from, length))
}

fn error(from: usize) -> Step {
    one("error", from, move |flow: &Flow| flow.unreachable_udp(from, 20))
}

fn echo(from: usize, sequence: u16) -> Step {
    one("echo", from, move |flow: &Flow| flow.echo(from, sequence))
}

fn datagrams() -> Vec<Step> {
    vec![
        udp(CLIENT, 20),
        udp(SERVER, 33),
        udp(CLIENT, 900),
        error(SERVER),
        error(CLIENT),
        udp(SERVER, 0),
        udp(CLIENT, 1400),
    ]
}

/// To several ports of the server.
fn to(port: u16) -> Vec<Flow> {
    let mut flows = Flow::several();
    flows.iter_mut().for_each(|flow| flow.ports[SERVER] = port);
    flows
}

/// DNS is not tracked, in whole or from one side; and connections that were there before.
#[test]
fn not_tracked() {
    let mut twin = twin(
        "raw_notrack",
        "ct state invalid counter\n ct state new,established,untracked counter drop\n ct mark 0 counter drop\n \
         udp dport 53 counter notrack\n udp sport 53 counter notrack ct state untracked counter\n \
         udp dport 54 counter notrack\n meta l4proto { icmp, icmpv6 } counter notrack",
        "ct state untracked counter accept\n ct state invalid counter drop\n ct state established,new counter",
    );
    for port in [53, 54, 55] {
        play_for(&mut twin, &format!("udp to {port}"), &to(port), datagrams());
    }
    play(&mut twin, "echo", [echo(CLIENT, 1), echo(SERVER, 1), echo(CLIENT, 2)]);
    play(
        &mut twin,
        "tcp",
        after_handshake(vec![c(ACK | PSH, 1, 1).data(100).passes(), s(ACK, 1, 101).passes()]),
    );
    let counted = twin.compare_counters();
    assert!(counted >= 7, "only {counted} counters counted anything");
    twin.finish(Share::AtLeast(0.7));
}

/// What is lost there has not been seen by the connection: its windows and its time stay.
#[test]
fn dropped() {
    let mut twin = twin(
        "raw_dropped",
        "meta length > 500 counter drop\n tcp flags & (fin | syn) == fin | syn counter drop\n \
         ip saddr 10.101.0.0/16 udp dport != 10000-60000 counter drop",
        "ct state invalid counter drop",
    );
    let tcp = vec![
        c(ACK | PSH, 1, 1).data(480).lost(),
        s(ACK, 1, 481).lost(),
        c(ACK | PSH, 1, 1).data(100).passes(),
        s(ACK, 1, 101).passes(),
        c(SYN | 1, 900_000, 0).lost(),
        s(ACK | PSH, 1, 101).data(10).says("ESTABLISHED ASSURED"),
    ];
    play(&mut twin, "tcp", after_handshake(tcp));
    play(
        &mut twin,
        "udp",
        [
            udp(CLIENT, 600).says("gone"),
            udp(CLIENT, 20),
            udp(SERVER, 600).lost(),
            udp(SERVER, 10),
            udp(CLIENT, 600).lost(),
        ],
    );
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.4));
}

/// As Docker has it: nobody reaches a container past its published ports.
#[test]
fn direct_routing_with_nat() {
    let mut twin = start(
        "raw_docker",
        "table ip raw {
            chain PREROUTING {
                type filter hook prerouting priority raw; policy accept;
                ip daddr 10.101.0.7 iifname != \"d1\" counter drop
                ip daddr 127.0.0.0/8 counter drop
            }
        }
        table inet nat {
            chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                oifname \"d1\" counter masquerade
            }
            chain forward {
                type filter hook forward priority filter; policy accept;
                ct state invalid counter drop
            }
        }",
    );
    traffic(&mut twin, "masqueraded", &MASQUERADED, &[true, false]);
    let mut flow = Flow::new(true);
    flow.ends[SERVER] = "10.101.0.7".parse().expect("an address");
    let [first, second] = [1, 2].map(|length| udp(CLIENT, length).lost());
    play_for(&mut twin, "direct", &[flow], [first, second]);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.8));
}

/// A family that is not tracked has such chains, too: marks from there hold, and other chains follow.
#[test]
fn without_conntrack() {
    let ruleset = "table inet fw {
        chain raw {
            type filter hook prerouting priority -310; policy accept;
            meta length 500-599 counter meta mark set 7
            meta length > 1000 counter drop
            udp sport 80 counter notrack
        }
        chain forward {
            type filter hook forward priority filter; policy accept;
            meta mark 7 counter drop
            counter
        }
    }";
    let mut twin = Twin::start(Setup {
        fence: Fence::None,
        ..Setup::tracked("raw_untracked", 2, ruleset)
    });
    let lengths = [20, 520, 30, 1100, 900, 40];
    let steps = lengths.map(|length| [udp(CLIENT, length), udp(SERVER, length)]);
    play(&mut twin, "udp", steps.into_iter().flatten());
    let counted = twin.compare_counters();
    assert!(counted >= 5, "only {counted} counters counted anything");
    twin.finish(Share::AtLeast(0.6));
}

/// What is not carried there leaves its family.
#[test]
fn not_carried() {
    let mut twin = twin("raw_log", "meta length > 500 log prefix \"x\"", "ct state invalid drop");
    play(&mut twin, "udp", datagrams());
    twin.finish(Share::Nothing);
}
