//! UDP, UDP-Lite, GRE, ICMP queries, and protocols that nobody knows.

use crate::flow::{CLIENT, Flow, SERVER};
use crate::lab::packet::Packet;
use crate::lab::twin::{Setup, Share, Twin};
use crate::rules::{OPEN, STRICT};
use crate::script::{Step, one, play, play_for, wait};

fn twin(name: &str) -> Twin {
    Twin::start(Setup::tracked(name, 2, STRICT))
}

/// Two datagrams each way make a stream only when two seconds have passed.
fn stream(make: fn(&Flow, usize, usize) -> Packet) -> Vec<Step> {
    answered(make, None)
}

/// ... but for GRE, which is assured by the first answer.
fn answered(make: fn(&Flow, usize, usize) -> Packet, says: Option<&'static str>) -> Vec<Step> {
    let judged = move |step: Step| match says {
        Some(brief) => step.says(brief),
        None => step,
    };
    let client = move || one("client", CLIENT, move |flow| make(flow, CLIENT, 30));
    let server = move || one("server", SERVER, move |flow| make(flow, SERVER, 60));
    vec![
        client().passes().says("UNREPLIED"),
        client().passes().says("UNREPLIED"),
        server().passes(),
        client().passes(),
        judged(server().passes()),
        wait(2300),
        client().passes(),
        server().passes(),
        client().passes(),
        server().passes(),
    ]
}

#[test]
fn udp() {
    let mut twin = twin("udp");
    play(&mut twin, "stream", stream(|flow, from, length| flow.udp(from, length)));
    let server_first = [
        one("server first", SERVER, |flow| flow.udp(SERVER, 9))
            .lost()
            .says("gone"),
        one("client", CLIENT, |flow| flow.udp(CLIENT, 9)).says("UNREPLIED"),
        one("server", SERVER, |flow| flow.udp(SERVER, 9)).says(""),
    ];
    play(&mut twin, "the server first", server_first);
    let empty = [
        one("client", CLIENT, |flow| flow.udp(CLIENT, 0)).says("UNREPLIED"),
        one("server", SERVER, |flow| flow.udp(SERVER, 0)).says(""),
    ];
    play(&mut twin, "without data", empty);
    twin.finish(Share::AtLeast(0.9));
}

/// Wrong lengths and sums, and no sum at all.
#[test]
fn udp_malformed() {
    let mut twin = twin("udp_malformed");
    let alter = |text: &str, alter: fn(&mut Packet)| one(text, CLIENT, move |flow| flow.udp(CLIENT, 30).with(alter));
    let steps = || {
        [
            alter("wrong sum", |packet| packet.sum_fault = 3),
            alter("length 7", |packet| packet.body[4..6].copy_from_slice(&[0, 7])),
            alter("length 0", |packet| packet.body[4..6].copy_from_slice(&[0, 0])),
            alter("too long", |packet| packet.body[4..6].copy_from_slice(&[0, 200])),
            alter("too short", |packet| packet.body[4..6].copy_from_slice(&[0, 20])),
            alter("cut header", |packet| {
                packet.body.truncate(6);
                packet.sum_at = None;
            }),
            alter("port 0", |packet| packet.body[0..2].fill(0)),
        ]
    };
    play(&mut twin, "of an unknown connection", steps());
    let known = [
        one("client", CLIENT, |flow| flow.udp(CLIENT, 9)).passes(),
        one("server", SERVER, |flow| flow.udp(SERVER, 9)).passes(),
    ];
    play(&mut twin, "of a known one", known.into_iter().chain(steps()));
    let no_sum = one("no sum", CLIENT, |flow| {
        flow.udp(CLIENT, 9).with(|packet| packet.sum_at = None)
    });
    play(&mut twin, "no sum", [no_sum]);
    twin.finish(Share::AtLeast(0.2));
}

#[test]
fn udplite() {
    let mut twin = twin("udplite");
    play(
        &mut twin,
        "stream",
        stream(|flow, from, length| flow.udplite_judged(from, length)),
    );
    let right = one("a right sum", CLIENT, |flow| flow.udplite(CLIENT, 30)).lost();
    play(&mut twin, "right", [right]);
    let alter =
        |text: &str, alter: fn(&mut Packet)| one(text, CLIENT, move |flow| flow.udplite_judged(CLIENT, 30).with(alter));
    let steps = [
        alter("wrong sum", |packet| packet.body[7] ^= 3),
        alter("coverage 4", |packet| packet.body[4..6].copy_from_slice(&[0, 4])),
        alter("coverage beyond the end", |packet| {
            packet.body[4..6].copy_from_slice(&[0, 200])
        }),
        alter("no sum", |packet| packet.body[6..8].fill(0)),
        alter("coverage 8", |packet| packet.body[4..6].copy_from_slice(&[0, 8])),
        alter("short", |packet| packet.body.truncate(7)),
    ];
    play(&mut twin, "malformed", steps);
    twin.change(&["sysctl net.netfilter.nf_conntrack_checksum=0"]);
    play(
        &mut twin,
        "not judged",
        stream(|flow, from, length| flow.udplite(from, length)),
    );
    twin.finish(Share::AtLeast(0.5));
}

#[test]
fn gre() {
    let mut twin = twin("gre");
    play(
        &mut twin,
        "without a key",
        answered(|flow, from, _| flow.gre(from, None), Some("ASSURED")),
    );
    play(
        &mut twin,
        "with a key",
        answered(|flow, from, _| flow.gre(from, Some(0x1234_5678)), Some("ASSURED")),
    );
    let pptp = |call: u16| {
        move |flow: &Flow, from: usize| {
            // Version 1 with a key: payload length and call.
            let key = 20u32 << 16 | u32::from(call);
            flow.gre(from, Some(key))
                .with(|packet| packet.body[1..4].copy_from_slice(&[1, 0x88, 0x0b]))
        }
    };
    for call in [1, 2] {
        let make = pptp(call);
        let steps = [
            one("client", CLIENT, move |flow| make(flow, CLIENT)),
            one("server", SERVER, move |flow| make(flow, SERVER)),
        ];
        play(&mut twin, "PPTP", steps);
    }
    let short = one("short", CLIENT, |flow| flow.other(CLIENT, 47, 2));
    play(&mut twin, "short", [short]);
    let version_7 = one("version 7", CLIENT, |flow| {
        flow.gre(CLIENT, None).with(|packet| packet.body[1] = 7)
    });
    play(&mut twin, "version 7", [version_7]);
    twin.finish(Share::AtLeast(0.6));
}

#[test]
fn others() {
    let mut twin = twin("others");
    for protocol in [50u8, 51, 89, 94, 99, 103, 115, 253] {
        let of = move |from: usize| one("packet", from, move |flow: &Flow| flow.other(from, protocol, 50));
        let steps = [of(CLIENT), of(CLIENT), of(SERVER), of(CLIENT)];
        // An IPv6 authentication header is an extension header.
        let flows: Vec<Flow> = Flow::several()
            .into_iter()
            .filter(|flow| flow.is_ipv4() || protocol != 51)
            .collect();
        play_for(&mut twin, &format!("protocol {protocol}"), &flows, steps);
    }
    twin.finish(Share::AtLeast(0.9));
}

#[test]
fn echo() {
    let mut twin = twin("echo");
    let request = |at: u16| one("request", CLIENT, move |flow| flow.echo(CLIENT, at));
    let answer = |at: u16| one("answer", SERVER, move |flow| flow.echo(SERVER, at));
    let steps = [
        request(1).passes().says("UNREPLIED"),
        answer(1).passes().says(""),
        answer(1).passes(),
        request(2).passes(),
        request(3).passes(),
        answer(3).passes().says(""),
    ];
    play(&mut twin, "in order", steps);
    play(
        &mut twin,
        "an answer first",
        [answer(1).lost().says("gone"), request(1).passes(), answer(2).passes()],
    );
    let back = one("a request of the server", SERVER, |flow| {
        flow.query(SERVER, if flow.is_ipv4() { 8 } else { 128 }, 0, 1)
    });
    play(&mut twin, "the other way", [request(1), answer(1), back]);
    twin.finish(Share::AtLeast(0.75));
}

/// Every ICMP type and two codes, of no connection and behind an echo.
#[test]
fn every_type() {
    for (name, rules) in [("icmp_types_strict", STRICT), ("icmp_types_open", OPEN)] {
        let mut twin = Twin::start(Setup::tracked(name, 2, rules));
        for four in [true, false] {
            let flows = [Flow::new(four), Flow::new(four)];
            twin.send(CLIENT, [flows[1].echo(CLIENT, 1)]);
            twin.send(SERVER, [flows[1].echo(SERVER, 1)]);
            for end in [CLIENT, SERVER] {
                for kind in (0..=255u8).filter(|kind| four || !(130..=137).contains(kind)) {
                    let packets = flows
                        .iter()
                        .flat_map(|flow| [flow.query(end, kind, 0, 7), flow.query(end, kind, 3, 7)]);
                    twin.send(end, packets);
                }
                twin.compare_tables(
                    &format!("all types, from {end}"),
                    crate::lab::conntrack::Free::default(),
                );
            }
        }
        twin.finish(Share::AtLeast(0.015));
    }
}

#[test]
fn timestamps_and_masks() {
    let mut twin = twin("timestamps_and_masks");
    for (query, answer) in [(13u8, 14u8), (15, 16), (17, 18)] {
        let flows: Vec<Flow> = (0..3).map(|_| Flow::new(true)).collect();
        let steps = [
            one("query", CLIENT, move |flow| flow.query(CLIENT, query, 0, 1))
                .passes()
                .says("UNREPLIED"),
            one("answer", SERVER, move |flow| flow.query(SERVER, answer, 0, 1))
                .passes()
                .says(""),
            one("answer of another code", SERVER, move |flow| {
                flow.query(SERVER, answer, 1, 1)
            }),
        ];
        play_for(&mut twin, &format!("type {query}"), &flows, steps);
    }
    let flows: Vec<Flow> = (0..3).map(|_| Flow::new(false)).collect();
    let steps = [
        one("query", CLIENT, |flow| flow.query(CLIENT, 139, 0, 1)),
        one("answer", SERVER, |flow| flow.query(SERVER, 140, 0, 1)),
    ];
    play_for(&mut twin, "node information", &flows, steps);
    twin.finish(Share::AtLeast(0.5));
}

#[test]
fn icmp_checksums() {
    let mut twin = twin("icmp_checksums");
    let steps = [
        one("wrong", CLIENT, |flow| {
            flow.echo(CLIENT, 1).with(|packet| packet.sum_fault = 1)
        })
        .lost()
        .says("gone"),
        one("right", CLIENT, |flow| flow.echo(CLIENT, 1)).says("UNREPLIED"),
        one("wrong answer", SERVER, |flow| {
            flow.echo(SERVER, 1).with(|packet| packet.sum_fault = 1)
        })
        .lost(),
        one("short", SERVER, |flow| {
            flow.echo(SERVER, 1).with(|packet| packet.body.truncate(5))
        })
        .lost(),
        one("answer", SERVER, |flow| flow.echo(SERVER, 1)).says(""),
    ];
    play(&mut twin, "echo", steps);
    twin.finish(Share::AtLeast(0.35));
}
