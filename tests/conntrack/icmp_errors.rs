//! ICMP errors: RELATED to the connection of the packet that they quote, or not.

use crate::flow::{ACK, CLIENT, Flow, PSH, SERVER, SYN, c, s};
use crate::lab::packet::Packet;
use crate::lab::plan;
use crate::lab::twin::{Setup, Share, Twin};
use crate::rules::STRICT;
use crate::script::{Step, one, play};
use crate::tcp_open::after_handshake;

fn twin(name: &str) -> Twin {
    Twin::start(Setup::tracked(name, 2, STRICT))
}

/// A UDP connection that both sides use.
fn udp_and(more: Vec<Step>) -> Vec<Step> {
    let mut steps = vec![
        one("client", CLIENT, |flow| flow.udp(CLIENT, 100)).says("UNREPLIED"),
        one("server", SERVER, |flow| flow.udp(SERVER, 100)).says(""),
    ];
    steps.extend(more);
    steps
}

/// An error from behind the server, about the client's packet; `kinds` are type and code of IPv4 and of IPv6.
fn error(text: &str, kinds: [(u8, u8); 2], rest: u32, length: usize) -> Step {
    one(text, SERVER, move |flow| {
        let (kind, code) = kinds[usize::from(!flow.is_ipv4())];
        flow.error(SERVER, kind, code, rest, &flow.udp(CLIENT, 100), length)
    })
}

const PORT: [(u8, u8); 2] = [(3, 3), (1, 4)];
const TOO_BIG: [(u8, u8); 2] = [(3, 4), (2, 0)];
const EXCEEDED: [(u8, u8); 2] = [(11, 0), (3, 0)];
const PARAMETER: [(u8, u8); 2] = [(12, 0), (4, 0)];

#[test]
fn of_every_kind() {
    let mut twin = twin("errors_of_every_kind");
    let steps = vec![
        error("port unreachable", PORT, 0, 1000).passes().says(""),
        error("too big", TOO_BIG, 1280, 1000).passes(),
        error("time exceeded", EXCEEDED, 0, 1000).passes(),
        error("parameter problem", PARAMETER, 0, 1000).passes(),
        error("host unreachable", [(3, 1), (1, 3)], 0, 1000).passes(),
        error("prohibited", [(3, 13), (1, 1)], 0, 1000).passes(),
        error("source quench, or an unknown error", [(4, 0), (100, 0)], 0, 1000),
        error("redirect, or an unknown error", [(5, 1), (101, 0)], 0, 1000),
        error("code 200", [(3, 200), (1, 200)], 0, 1000),
    ];
    play(&mut twin, "of a connection", udp_and(steps));
    let unreplied = [
        one("client", CLIENT, |flow| flow.udp(CLIENT, 100)).says("UNREPLIED"),
        error("port unreachable", PORT, 0, 64).passes().says("UNREPLIED"),
        one("client again", CLIENT, |flow| flow.udp(CLIENT, 100)).says("UNREPLIED"),
    ];
    play(&mut twin, "of an unanswered packet", unreplied);
    play(
        &mut twin,
        "of nothing",
        [error("port unreachable", PORT, 0, 64).lost().says("gone")],
    );
    twin.finish(Share::AtLeast(0.7));
}

/// The side of the error is not that which the packet came from; or it is about the answer.
#[test]
fn of_either_side() {
    let mut twin = twin("errors_of_either_side");
    let steps = vec![
        one("the client refuses the answer", CLIENT, |flow| {
            flow.unreachable(CLIENT, &flow.udp(SERVER, 100))
        })
        .passes(),
        one("the client about its own packet", CLIENT, |flow| {
            flow.unreachable(CLIENT, &flow.udp(CLIENT, 100))
        }),
        one("the server about its own packet", SERVER, |flow| {
            flow.unreachable(SERVER, &flow.udp(SERVER, 100))
        }),
    ];
    play(&mut twin, "udp", udp_and(steps));
    let steps = vec![
        one("to somebody else", SERVER, |flow| {
            flow.unreachable(SERVER, &flow.udp(CLIENT, 100)).with(|packet| {
                packet.dst = plan::pairs(0, 1, 99)[usize::from(!packet.src.is_ipv4())].0;
            })
        }),
        one("from the server itself", SERVER, |flow| {
            flow.unreachable(SERVER, &flow.udp(CLIENT, 100))
                .with(|packet| packet.src = flow.ends[SERVER])
        }),
    ];
    play(&mut twin, "addresses", udp_and(steps));
    twin.finish(Share::AtLeast(0.6));
}

#[test]
fn of_tcp() {
    let mut twin = twin("errors_of_tcp");
    let quoting = |text: &str, from: usize, of: crate::flow::Segment, length: usize| {
        one(text, from, move |flow: &Flow| {
            flow.error(from, if flow.is_ipv4() { 3 } else { 1 }, 1, 0, &flow.tcp(&of), length)
        })
    };
    let steps = vec![
        c(ACK | PSH, 1, 1).data(1000).passes(),
        quoting("all of it", SERVER, c(ACK | PSH, 1, 1).data(1000), 900).passes(),
        quoting("eight bytes of TCP", SERVER, c(ACK | PSH, 1, 1).data(1000), 28),
        quoting(
            "of a number out of the window",
            SERVER,
            c(ACK | PSH, 900_000, 1).data(10),
            60,
        ),
        s(ACK, 1, 1001).says("ESTABLISHED ASSURED"),
        c(ACK | PSH, 1001, 1).data(10).passes(),
    ];
    play(&mut twin, "established", after_handshake(steps));
    let refused = [
        c(SYN, 0, 0).mss().says("SYN_SENT UNREPLIED"),
        quoting("unreachable", SERVER, c(SYN, 0, 0).mss(), 60)
            .passes()
            .says("SYN_SENT UNREPLIED"),
        c(SYN, 0, 0).mss().passes(),
    ];
    play(&mut twin, "of a SYN", refused);
    twin.finish(Share::AtLeast(0.7));
}

#[test]
fn of_queries_and_others() {
    let mut twin = twin("errors_of_queries");
    let echo = [
        one("request", CLIENT, |flow| flow.echo(CLIENT, 1)).says("UNREPLIED"),
        one("unreachable", SERVER, |flow| {
            flow.unreachable(SERVER, &flow.echo(CLIENT, 1))
        })
        .passes(),
        one("answer", SERVER, |flow| flow.echo(SERVER, 1)).says(""),
        one("of the answer", CLIENT, |flow| {
            flow.unreachable(CLIENT, &flow.echo(SERVER, 1))
        }),
        one("of another request", SERVER, |flow| {
            flow.unreachable(SERVER, &flow.query(CLIENT, if flow.is_ipv4() { 13 } else { 139 }, 0, 1))
        }),
        one("of an error", SERVER, |flow| {
            let error = flow.unreachable(SERVER, &flow.echo(CLIENT, 1));
            flow.unreachable(SERVER, &error)
        }),
    ];
    play(&mut twin, "echo", echo);
    for protocol in [47u8, 50, 132, 136] {
        let of = move |flow: &Flow, from: usize| match protocol {
            47 => flow.gre(from, None),
            136 => flow.udplite_judged(from, 30),
            132 => flow.sctp(from, 0, &[crate::sctp::init(1, 5)]),
            _ => flow.other(from, protocol, 30),
        };
        let steps = [
            one("client", CLIENT, move |flow| of(flow, CLIENT)).passes(),
            one("unreachable", SERVER, move |flow| {
                flow.unreachable(SERVER, &of(flow, CLIENT))
            })
            .passes(),
        ];
        play(&mut twin, &format!("protocol {protocol}"), steps);
    }
    twin.finish(Share::AtLeast(0.7));
}

/// What is quoted is cut, is garbage, or is of another tuple.
#[test]
fn garbage_inside() {
    let mut twin = twin("errors_with_garbage");
    for length in [0, 1, 8, 19, 20, 24, 27, 28, 39, 40, 44, 47, 48] {
        let title = format!("{length} bytes quoted");
        play(&mut twin, &title, udp_and(vec![error(&title, PORT, 0, length)]));
    }
    let inner = |text: &str, alter: fn(&mut Packet)| {
        one(text, SERVER, move |flow| {
            flow.unreachable(SERVER, &flow.udp(CLIENT, 100).with(alter))
        })
    };
    let steps = vec![
        inner("another version", |packet| packet.first_byte = Some(0x75)),
        inner("a short header", |packet| {
            packet.first_byte = Some(if packet.src.is_ipv4() { 0x44 } else { 0x60 })
        }),
        inner("a wrong sum of IP", |packet| packet.ip_sum_fault = 5),
        inner("a wrong sum of UDP", |packet| packet.sum_fault = 5),
        inner("another length", |packet| packet.length_fault = 400),
        inner("a spent TTL", |packet| packet.ttl = 0),
        inner("another port", |packet| packet.body[0] ^= 0x80),
        inner("another protocol", |packet| packet.protocol = 136),
        inner("turned round", |packet| {
            std::mem::swap(&mut packet.src, &mut packet.dst)
        }),
        inner("options or extensions", |packet| match packet.src.is_ipv4() {
            true => packet.options = vec![1, 1, 1, 0],
            false => packet.extensions = vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0])],
        }),
        inner("a later fragment", |packet| match packet.src.is_ipv4() {
            true => packet.fragment = 0x0010,
            false => packet.extensions = vec![(44, vec![0, 0, 0, 0x80, 0, 0, 0, 9])],
        }),
        inner("a first fragment", |packet| match packet.src.is_ipv4() {
            true => packet.fragment = 0x2000,
            false => packet.extensions = vec![(44, vec![0, 0, 0, 1, 0, 0, 0, 9])],
        }),
        one("a wrong sum of ICMP", SERVER, |flow| {
            flow.unreachable(SERVER, &flow.udp(CLIENT, 100))
                .with(|packet| packet.sum_fault = 9)
        })
        .lost(),
    ];
    play(&mut twin, "odd", udp_and(steps));
    twin.finish(Share::AtLeast(0.4));
}

/// Errors do not keep a connection alive, and do not answer it.
#[test]
fn do_not_refresh() {
    let setup =
        Setup::tracked("errors_do_not_refresh", 2, STRICT).with(&["sysctl net.netfilter.nf_conntrack_udp_timeout=4"]);
    let mut twin = Twin::start(setup);
    let steps = [
        one("client", CLIENT, |flow| flow.udp(CLIENT, 100)).says("UNREPLIED"),
        crate::script::wait(2500),
        error("port unreachable", PORT, 0, 64).passes(),
        crate::script::wait(2700),
        error("port unreachable", PORT, 0, 64).lost().says("gone"),
    ];
    play(&mut twin, "udp", steps);
    twin.finish(Share::AtLeast(0.6));
}
