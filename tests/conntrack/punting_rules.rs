//! Rules at forward that are the kernel's, and what becomes of the connections whose packets reach them: some packets go by
//! the kernel, the others by bypath, and both tables must say the same after each.

use crate::flow::{ACK, CLIENT, FIN, Flow, PSH, RST, SERVER, SYN, c, s};
use crate::lab::twin::{Setup, Share, Twin};
use crate::script::{Step, one, play, wait};
use crate::tcp_open::{after_handshake, handshake};

/// A chain at forward with these rules, and a fence's way past them.
fn ruled(name: &str, policy: &str, rules: &str) -> Twin {
    let ruleset = format!(
        "table inet fw {{\n chain forward {{\n type filter hook forward priority 0; policy {policy};\n \
         udp sport 7 udp dport 7 accept\n {rules}\n }}\n}}"
    );
    let mut twin = Twin::start(Setup::tracked(name, 2, &ruleset));
    twin.hand_over();
    twin
}

fn udp(from: usize, length: usize) -> Step {
    one("udp", from, move |flow: &Flow| flow.udp(from, length))
}

fn echo(from: usize, sequence: u16) -> Step {
    one("echo", from, move |flow: &Flow| flow.echo(from, sequence))
}

/// The error that the server's side sends about a datagram of the client's.
fn error() -> Step {
    one("error", SERVER, |flow: &Flow| {
        flow.unreachable(SERVER, &flow.udp(CLIENT, 20))
    })
}

/// Data both ways, and the end.
fn data_and_end() -> Vec<Step> {
    vec![
        c(ACK | PSH, 1, 1).data(600).passes(),
        s(ACK, 1, 601).passes(),
        s(ACK | PSH, 1, 601).data(1000).passes(),
        c(ACK, 601, 1001).passes(),
        wait(300),
        c(ACK | PSH, 601, 1001).data(100).passes(),
        s(ACK | PSH, 1001, 701).data(100).passes(),
        c(FIN | ACK, 701, 1101).says("FIN_WAIT ASSURED"),
        s(ACK, 1101, 702).passes(),
        s(FIN | ACK, 1101, 702).says("LAST_ACK ASSURED"),
        c(ACK, 702, 1102).says("TIME_WAIT ASSURED"),
        c(SYN, 900_000, 0).mss().says("SYN_SENT UNREPLIED"),
        s(SYN | ACK, 700_000, 900_001).mss().says("SYN_RECV"),
        c(ACK, 900_001, 700_001).says("ESTABLISHED ASSURED"),
    ]
}

/// Only what begins is logged.
#[test]
fn log_of_beginnings() {
    let mut twin = ruled(
        "punting_log_new",
        "drop",
        "ct state invalid drop\n ct state established,related accept\n iifname \"d0\" log prefix \"x\" accept",
    );
    play(&mut twin, "tcp", after_handshake(data_and_end()));
    play(
        &mut twin,
        "udp",
        [
            udp(CLIENT, 20),
            udp(SERVER, 20),
            udp(CLIENT, 300),
            error(),
            udp(SERVER, 9),
        ],
    );
    play(&mut twin, "echo", [echo(CLIENT, 1), echo(SERVER, 1), echo(CLIENT, 2)]);
    twin.finish(Share::AtLeast(0.3));
}

/// Of connections that are ours, long packets are logged.
#[test]
fn log_in_the_middle() {
    let mut twin = ruled(
        "punting_log_middle",
        "accept",
        "meta length > 500 log prefix \"x\"\n ct state invalid counter drop",
    );
    play(&mut twin, "tcp", after_handshake(data_and_end()));
    let steps = vec![
        c(ACK | PSH, 1, 1).data(600).passes(),
        c(ACK | PSH, 601, 1).data(600).passes(),
        c(ACK | PSH, 400_000_000, 1).data(600).lost(),
        s(ACK, 1, 1201).passes(),
        s(ACK | PSH, 1, 1201).data(1000).passes(),
        s(ACK | PSH, 400_000_000, 1201).data(1000).lost(),
        s(ACK | PSH, 1, 1201).data(1000).passes(),
        c(ACK, 1201, 1001).passes(),
        c(ACK | PSH, 1201, 1001).data(10).says("ESTABLISHED ASSURED"),
    ];
    play(&mut twin, "out of the window", after_handshake(steps));
    play(
        &mut twin,
        "udp",
        [
            udp(CLIENT, 20),
            udp(SERVER, 900),
            udp(CLIENT, 900),
            error(),
            udp(SERVER, 9),
        ],
    );
    twin.finish(Share::AtLeast(0.4));
}

/// SYNs are logged and lost, and the connection goes on all the same: the kernel takes it up without its windows.
#[test]
fn begun_without_a_beginning() {
    let mut twin = ruled(
        "punting_lost_syn",
        "accept",
        "tcp flags & (syn | ack) == syn log prefix \"x\" drop\n ct state invalid counter drop",
    );
    let late = vec![
        c(ACK | PSH, 1, 1).data(600).passes(),
        s(ACK | PSH, 1, 601).data(1000).passes(),
        wait(300),
        c(ACK | PSH, 601, 1001).data(600).passes(),
        s(ACK, 900_000, 1201).into(),
        c(FIN | ACK, 1201, 1001).into(),
        wait(300),
        c(ACK | PSH, 601, 1001).data(600).into(),
        s(ACK | PSH, 200_000, 1202).data(10).into(),
        s(ACK, 1001, 1202).into(),
        c(ACK | PSH, 90_000, 1001).data(600).into(),
    ];
    let mut steps: Vec<Step> = handshake().into_iter().map(Step::from).collect();
    steps.extend(late);
    play(&mut twin, "tcp", steps);
    twin.finish(Share::AtLeast(0.0));
}

/// Each way to say no, to what begins.
#[test]
fn rejects() {
    for (name, how) in [
        ("punting_reject", "reject"),
        ("punting_reject_icmpx", "reject with icmpx admin-prohibited"),
        ("punting_reject_host", "reject with icmpx host-unreachable"),
    ] {
        let rules = format!("ct state established,related accept\n iifname \"d0\" counter {how}\n counter");
        let mut twin = ruled(name, "accept", &rules);
        said_no(&mut twin);
        twin.finish(Share::AtLeast(0.0));
    }
}

fn said_no(twin: &mut Twin) {
    play(
        twin,
        "tcp",
        [
            c(SYN, 0, 0).mss().says("gone"),
            c(SYN, 0, 0).mss().says("gone"),
            s(SYN | ACK, 0, 1).mss().into(),
            c(ACK, 1, 1).into(),
            s(RST, 1, 0).into(),
        ],
    );
    play(
        twin,
        "udp",
        [
            udp(CLIENT, 20),
            udp(CLIENT, 20),
            udp(SERVER, 900),
            udp(CLIENT, 300),
            error(),
            udp(SERVER, 1),
        ],
    );
    play(
        twin,
        "echo",
        [echo(CLIENT, 1), echo(CLIENT, 2), echo(SERVER, 2), echo(CLIENT, 3)],
    );
}

/// A reset for what begins, and for what goes on: the latter closes the connection in both tables.
#[test]
fn resets() {
    let mut twin = ruled(
        "punting_reset_new",
        "accept",
        "ct state established,related accept\n iifname \"d0\" meta l4proto tcp counter reject with tcp reset\n counter",
    );
    said_no(&mut twin);
    twin.finish(Share::AtLeast(0.05));
    let mut twin = ruled(
        "punting_reset_known",
        "accept",
        "tcp flags & (fin | syn | rst | psh | ack) == psh | ack meta length > 500 counter reject with tcp reset\n ct state invalid counter drop",
    );
    let steps = vec![
        c(ACK | PSH, 1, 1).data(100).passes(),
        s(ACK, 1, 101).says("ESTABLISHED ASSURED"),
        c(ACK | PSH, 101, 1).data(600).into(),
        s(ACK, 1, 101).into(),
        c(ACK, 101, 1).into(),
        c(SYN, 70_000, 0).mss().into(),
        s(SYN | ACK, 900, 70_001).mss().into(),
        c(ACK, 70_001, 901).into(),
        c(ACK | PSH, 70_001, 901).data(100).into(),
        s(ACK | PSH, 901, 70_101).data(600).into(),
        c(RST | ACK, 70_101, 901).into(),
    ];
    play(&mut twin, "tcp", after_handshake(steps));
    twin.finish(Share::AtLeast(0.05));
}

/// A reset for what is invalid is nobody's, and so it passes conntrack on its way out: it closes the connection that it fits.
#[test]
fn resets_of_what_is_invalid() {
    let mut twin = ruled(
        "punting_reset_invalid",
        "accept",
        "ct state invalid meta l4proto tcp counter reject with tcp reset\n ct state invalid counter drop",
    );
    let from_server = vec![
        c(ACK | PSH, 1, 1).data(100).passes(),
        s(ACK, 1, 101).passes(),
        s(ACK | PSH, 400_000_000, 101).data(100).says("CLOSE ASSURED"),
        s(ACK | PSH, 1, 101).data(100).into(),
        c(SYN, 900_000, 0).mss().into(),
        s(SYN | ACK, 700_000, 900_001).mss().into(),
        c(ACK, 900_001, 700_001).says("ESTABLISHED ASSURED"),
    ];
    play(&mut twin, "from the server", after_handshake(from_server));
    let from_client = vec![
        s(ACK | PSH, 1, 1).data(100).passes(),
        c(ACK, 1, 101).passes(),
        c(ACK | PSH, 400_000_000, 101).data(100).says("CLOSE ASSURED"),
        s(ACK | PSH, 101, 1).data(10).into(),
    ];
    play(&mut twin, "from the client", after_handshake(from_client));
    // Its numbers fit nothing, or there is no acknowledgement to take one from: the reset is invalid.
    let misfits = vec![
        s(ACK | PSH, 1, 1).data(100).passes(),
        c(ACK, 1, 101).passes(),
        c(ACK | PSH, 400_000_000, 500_000_000).data(100).into(),
        c(0, 400_000_000, 0).into(),
        c(FIN, 400_000_000, 0).into(),
        c(ACK | PSH, 1, 101).data(10).into(),
        s(ACK, 101, 11).into(),
    ];
    play(&mut twin, "misfits", after_handshake(misfits));
    let nothing = vec![Step::from(c(0, 1, 1)), Step::from(c(FIN, 1, 1)), Step::from(s(0, 1, 1))];
    play(&mut twin, "of nothing", nothing);
    twin.finish(Share::AtLeast(0.4));
}

/// A helper that expects nobody but whom the box asks: who is given it is the kernel's for good, the others are not.
#[test]
fn a_helper_of_the_box() {
    let ruleset = "table inet fw {
        ct helper ns {
            type \"netbios-ns\" protocol udp
            l3proto ip
        }
        chain forward {
            type filter hook forward priority 0; policy accept;
            udp sport 7 udp dport 7 accept
            ip daddr 10.101.0.0/16 udp dport 80 udp length 28 ct helper set \"ns\"
            ct state invalid counter drop
        }
    }";
    let mut twin = Twin::start(Setup::tracked("punting_helper", 2, ruleset));
    twin.hand_over();
    let talk = |first: usize| {
        [
            udp(CLIENT, first),
            udp(SERVER, 30),
            udp(CLIENT, 31),
            error(),
            udp(SERVER, 9),
        ]
    };
    play(&mut twin, "with it", talk(20));
    play(&mut twin, "without", talk(21));
    twin.finish(Share::AtLeast(0.6));
}

/// A limit in front of a log in front of a drop, as in many rulesets.
#[test]
fn limited_log() {
    let mut twin = ruled(
        "punting_limited_log",
        "drop",
        "ct state established,related counter accept\n ct state invalid counter drop\n \
         iifname \"d0\" tcp dport 80 counter accept\n iifname \"d0\" udp dport 80 counter accept\n \
         limit rate 1/day burst 5 packets counter log prefix \"x\"\n counter drop",
    );
    play(&mut twin, "tcp", after_handshake(data_and_end()));
    play(
        &mut twin,
        "udp",
        [
            udp(SERVER, 20),
            udp(CLIENT, 20),
            udp(SERVER, 20),
            error(),
            udp(CLIENT, 20),
        ],
    );
    play(&mut twin, "echo", [echo(CLIENT, 1), echo(CLIENT, 2), echo(SERVER, 2)]);
    twin.compare_counters();
    twin.finish(Share::AtLeast(0.5));
}
