//! Marks that rules give to connections: other rules read them, on either side of NAT, in both directions, in later packets;
//! the kernel's copy bears them, and what the kernel sets for packets that it gets comes back.

use crate::flow::{ACK, CLIENT, Flow, PSH, SERVER, SYN, c, s};
use crate::lab::twin::{Setup, Share, Twin};
use crate::nat::{MASQUERADED, start, traffic};
use crate::script::{Step, one, play, wait};
use crate::tcp_open::after_handshake;

fn udp(from: usize, length: usize) -> Step {
    one("udp", from, move |flow: &Flow| flow.udp(from, length))
}

/// Chains at prerouting and forward with these rules, and a fence's way past them.
fn marked(name: &str, prerouting: &str, forward: &str) -> Twin {
    let chain = |hook: &str, rules: &str| {
        format!(
            "chain {hook} {{\n type filter hook {hook} priority mangle; policy accept;\n udp sport 7 udp dport 7 accept\n {rules}\n }}\n"
        )
    };
    let ruleset = format!(
        "table inet fw {{\n {} {} }}",
        chain("prerouting", prerouting),
        chain("forward", forward)
    );
    let mut twin = Twin::start(Setup::tracked(name, 2, &ruleset));
    twin.hand_over();
    twin
}

/// As routers with several ways out have it: the first packet decides, the others bring the mark back.
#[test]
fn saved_and_restored() {
    let mut twin = start(
        "marks_saved",
        "table inet fw {
            chain prerouting {
                type filter hook prerouting priority mangle; policy accept;
                ct mark != 0 meta mark set ct mark counter
                ct state new meta mark 0 tcp dport 1-65535 counter meta mark set 0x10
                ct state new meta mark 0 counter meta mark set 0x20
                ct state new counter ct mark set meta mark
            }
            chain forward {
                type filter hook forward priority filter; policy accept;
                meta mark & 0xff == 0x10 counter accept
                ct mark 0x20 counter accept
                counter
            }
            chain postrouting {
                type filter hook postrouting priority mangle; policy accept;
                ct direction reply ct mark & 0x100 == 0 counter ct mark set ct mark | 0x100
            }
            chain nat {
                type nat hook postrouting priority srcnat; policy accept;
                ct mark set ct mark | 0x200 oifname \"d1\" counter masquerade
            }
        }",
    );
    traffic(&mut twin, "masqueraded", &MASQUERADED, &[true, false]);
    let counted = twin.compare_counters();
    assert!(counted >= 8, "only {counted} counters counted anything");
    twin.finish(Share::AtLeast(0.8));
}

/// A mark that a packet sets is what the next one finds, whoever carries it: lengths set it, and it decides who passes.
#[test]
fn set_by_one_packet_and_read_by_the_next() {
    let mut twin = marked(
        "marks_by_length",
        "meta length 500-599 counter ct mark set 5\n meta length 600-699 counter ct mark set 0\n \
         meta length 700-799 counter ct mark set ct mark ^ 0x3\n ct mark 6 counter ct mark set 7",
        "ct mark 5 counter drop\n ct mark 7 meta length 60-99 counter drop\n ct state invalid counter drop",
    );
    let steps = [20, 520, 20, 30, 620, 20, 720, 21, 720, 22, 520, 720, 33, 40, 620, 20];
    // Short ones both ways, long ones once: what they do twice is undone.
    let both = |length: usize| {
        let back = (length < 100).then(|| udp(SERVER, length));
        [Some(udp(CLIENT, length)), back].into_iter().flatten()
    };
    play(&mut twin, "udp", steps.into_iter().flat_map(both));
    let tcp = vec![
        c(ACK | PSH, 1, 1).data(100).passes(),
        s(ACK | PSH, 1, 101).data(480).lost(),
        s(ACK, 481, 101).lost(),
        c(ACK, 101, 481).lost(),
        c(ACK | PSH, 101, 481).data(580).passes(),
        s(ACK, 481, 681).passes(),
        c(ACK, 681, 481).passes(),
    ];
    play(&mut twin, "tcp", after_handshake(tcp));
    let counted = twin.compare_counters();
    assert!(counted >= 6, "only {counted} counters counted anything");
    twin.finish(Share::AtLeast(0.5));
}

/// Each direction has a mark of its own, so no decision holds for long.
#[test]
fn each_direction_sets_its_own() {
    let mut twin = marked(
        "marks_by_direction",
        "ct direction original counter ct mark set 1\n ct direction reply counter ct mark set 2",
        "ct mark 1 counter\n ct mark 2 counter\n ct mark 3 counter drop\n ct state invalid drop",
    );
    let mut steps: Vec<Step> = Vec::new();
    for _ in 0..4 {
        steps.extend([
            udp(CLIENT, 20),
            udp(CLIENT, 21),
            udp(CLIENT, 22),
            udp(SERVER, 23),
            udp(SERVER, 24),
        ]);
    }
    play(&mut twin, "udp", steps);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.9));
}

/// Packets that the kernel gets (options, long ones that are logged) meet its copy, which has the mark, and may set another.
#[test]
fn across_punts() {
    let mut twin = marked(
        "marks_punted",
        "meta length 500-599 counter ct mark set 5\n meta length 600-699 log prefix \"x\" counter ct mark set 9\n \
         meta length 700-799 log prefix \"y\" ct mark 5 counter drop",
        "ct mark 9 meta length 60-99 counter drop\n ct state invalid counter drop",
    );
    let optioned = |from: usize| {
        one("udp with options", from, move |flow: &Flow| {
            flow.udp(from, 30).with(|packet| packet.options = vec![1, 1, 1, 0])
        })
    };
    let steps = vec![
        udp(CLIENT, 20),
        udp(SERVER, 20),
        udp(CLIENT, 520),
        udp(CLIENT, 720),
        wait(300),
        udp(SERVER, 720),
        udp(CLIENT, 20),
        udp(CLIENT, 620),
        wait(300),
        udp(SERVER, 40),
        udp(SERVER, 10),
        optioned(CLIENT),
        udp(CLIENT, 520),
        optioned(CLIENT),
        wait(300),
        udp(CLIENT, 40),
        udp(CLIENT, 720),
    ];
    play(&mut twin, "udp", steps);
    let tcp = vec![
        c(ACK | PSH, 1, 1).data(480).passes(),
        s(ACK, 1, 481).passes(),
        s(ACK | PSH, 1, 481).data(680).lost(),
        wait(300),
        c(ACK | PSH, 481, 1).data(580).passes(),
        wait(300),
        s(ACK | PSH, 1, 1061).data(680).passes(),
        c(ACK | PSH, 1061, 681).data(30).lost(),
        s(SYN, 900_000, 0).into(),
    ];
    play(&mut twin, "tcp", after_handshake(tcp));
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.3));
}
