//! Packets of one tuple at once: from one side as a burst, from both sides before either was seen.
//!
//! Which side began is then a matter of chance in each lab (`Free::direction`); that there is one connection, its state and
//! that no packet is lost, is not.

use crate::flow::{CLIENT, Flow, SERVER, SYN, c, s};
use crate::lab::conntrack::Free;
use crate::lab::packet::Packet;
use crate::lab::twin::{Setup, Share, Twin};
use crate::rules::{NOT_INVALID, OPEN, STRICT};

const ANY_DIRECTION: Free = Free {
    direction: true,
    handed_over: false,
};

/// Two workers and two queues, so that packets of one tuple meet.
fn setup(name: &str, ruleset: &str) -> Setup {
    let mut setup = Setup::tracked(name, 2, ruleset);
    setup.arguments = vec!["--workers".into(), "2".into()];
    setup
}

fn flows(count: u16) -> Vec<Flow> {
    (0..count).map(|at| Flow::new(at % 2 == 0)).collect()
}

/// A resolver asks for A and AAAA from one socket, within a microsecond.
#[test]
fn datagrams_of_one_socket() {
    let mut twin = Twin::start(setup("clash", STRICT));
    for flow in flows(100) {
        twin.send(CLIENT, (0..4).map(|at| flow.udp(CLIENT, 20 + at)));
        twin.send(SERVER, (0..4).map(|at| flow.udp(SERVER, 40 + at)));
    }
    twin.compare_tables("after all", Free::default());
    twin.finish(Share::AtLeast(0.99));
}

/// Both sides send first.
#[test]
fn datagrams_from_both_sides() {
    let mut twin = Twin::start(setup("reverse_clash", NOT_INVALID));
    let flows = flows(200);
    for round in 0..3 {
        for some in flows.chunks(24) {
            let from =
                |end: usize| -> Vec<Vec<u8>> { some.iter().map(|flow| flow.udp(end, 10 + round).build()).collect() };
            twin.inject_at_once([&from(CLIENT), &from(SERVER)]);
        }
        twin.settle();
        twin.compare_tables(&format!("after round {round}"), ANY_DIRECTION);
    }
    twin.finish(Share::AtLeast(0.9));
}

#[test]
fn queries_and_others_from_both_sides() {
    let mut twin = Twin::start(setup("reverse_clash_others", OPEN));
    for some in flows(96).chunks(24) {
        let from = |end: usize| -> Vec<Vec<u8>> {
            let packets = some.iter().flat_map(|flow| {
                [
                    flow.gre(end, None),
                    flow.other(end, 99, 40),
                    flow.udplite_judged(end, 20),
                ]
            });
            packets.map(Packet::build).collect()
        };
        let (client, server) = (from(CLIENT), from(SERVER));
        for (client, server) in client.chunks(24).zip(server.chunks(24)) {
            twin.inject_at_once([client, server]);
        }
    }
    twin.settle();
    twin.compare_tables("after all", ANY_DIRECTION);
    twin.finish(Share::AtLeast(0.9));
}

/// Simultaneous open, truly at once.
#[test]
fn syns_from_both_sides() {
    let mut twin = Twin::start(setup("reverse_clash_syn", NOT_INVALID));
    for some in flows(96).chunks(24) {
        let from = |segment: crate::flow::Segment| -> Vec<Vec<u8>> {
            some.iter().map(|flow| flow.tcp(&segment).build()).collect()
        };
        twin.inject_at_once([&from(c(SYN, 0, 0).mss()), &from(s(SYN, 0, 0).mss())]);
    }
    twin.settle();
    twin.compare_tables("after all", ANY_DIRECTION);
    twin.finish(Share::AtLeast(0.9));
}
