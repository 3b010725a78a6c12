//! Fragments: where connections are tracked the kernel reassembles, so all of them are its own, of known connections and of
//! unknown ones; and what follows them is not.

use crate::flow::{ACK, CLIENT, Flow, PSH, SERVER, c, s};
use crate::lab::packet::Packet;
use crate::lab::twin::{Setup, Share, Twin};
use crate::rules::STRICT;
use crate::script::{Step, one, play, send};
use crate::tcp_open::after_handshake;

fn twin(name: &str) -> Twin {
    Twin::start(Setup::tracked(name, 2, STRICT))
}

/// The fragments of a datagram of 2000 bytes; each datagram has its own identification.
fn pieces(flow: &Flow, from: usize, id: u16) -> Vec<Packet> {
    flow.udp(from, 2000)
        .with(|packet| packet.id = id)
        .fragments(800)
        .into_iter()
        .map(|piece| {
            piece.with(|piece| {
                if let Some((_, bytes)) = piece.extensions.last_mut() {
                    bytes[6..8].copy_from_slice(&id.to_be_bytes());
                }
            })
        })
        .collect()
}

fn plain(from: usize) -> Step {
    one("whole", from, move |flow| flow.udp(from, 50))
}

/// Fragments with the order or the number of them changed.
fn altered(text: &str, from: usize, id: u16, alter: fn(Vec<Packet>) -> Vec<Packet>) -> Step {
    send(text, from, move |flow| alter(pieces(flow, from, id)))
}

#[test]
fn of_a_known_connection() {
    let mut twin = twin("fragments_known");
    let steps = [
        plain(CLIENT),
        plain(SERVER).says(""),
        altered("in order", CLIENT, 1, |all| all),
        plain(CLIENT).passes(),
        altered("in order", SERVER, 2, |all| all),
        plain(SERVER).passes(),
        altered("backwards", CLIENT, 3, |all| all.into_iter().rev().collect()),
        plain(CLIENT).passes(),
        plain(SERVER).passes().says(""),
    ];
    play(&mut twin, "udp", steps);
    twin.hand_over();
    let segments = vec![
        send("a segment in fragments", CLIENT, |flow| {
            flow.tcp(&c(ACK | PSH, 1, 1).data(1200))
                .with(|packet| packet.id = 9)
                .fragments(400)
        }),
        s(ACK, 1, 1201).passes(),
        c(ACK | PSH, 1201, 1).data(100).passes(),
        s(ACK, 1, 1301).passes().says("ESTABLISHED ASSURED"),
        c(ACK | PSH, 1301, 1).data(100).passes(),
    ];
    play(&mut twin, "tcp", after_handshake(segments));
    let echo = [
        one("request", CLIENT, |flow| flow.echo(CLIENT, 1)).passes(),
        send("a request in fragments", CLIENT, |flow| {
            flow.echo(CLIENT, 2)
                .with(|packet| packet.body.extend([7; 1500]))
                .fragments(800)
        }),
        one("answer", SERVER, |flow| flow.echo(SERVER, 2)).passes(),
    ];
    play(&mut twin, "echo", echo);
    twin.finish(Share::AtLeast(0.35));
}

#[test]
fn of_an_unknown_connection() {
    let mut twin = twin("fragments_unknown");
    let steps = [
        altered("in order", CLIENT, 1, |all| all).says("UNREPLIED"),
        plain(SERVER).passes().says(""),
        plain(CLIENT).passes(),
        plain(SERVER).passes(),
    ];
    play(&mut twin, "allowed", steps);
    let steps = [
        altered("in order", SERVER, 1, |all| all).lost().says("gone"),
        plain(SERVER).lost(),
    ];
    play(&mut twin, "not allowed", steps);
    twin.finish(Share::AtLeast(0.0));
}

#[test]
fn incomplete_overlapping_and_doubled() {
    let mut twin = twin("fragments_odd");
    let all = |known: bool| {
        let mut steps = Vec::new();
        if known {
            steps.extend([plain(CLIENT), plain(SERVER)]);
        }
        steps.extend([
            altered("without the first", CLIENT, 1, |all| all[1..].to_vec()).lost(),
            altered("without the last", CLIENT, 2, |all| all[..2].to_vec()).lost(),
            altered("without the middle", CLIENT, 3, |all| {
                vec![all[0].clone(), all[2].clone()]
            })
            .lost(),
            altered("one twice", CLIENT, 4, |all| {
                vec![all[0].clone(), all[0].clone(), all[1].clone(), all[2].clone()]
            }),
            altered("overlapping", CLIENT, 5, |all| {
                let longer = all[0].clone().with(|piece| piece.body.extend([9; 16]));
                vec![longer, all[1].clone(), all[2].clone()]
            }),
            altered("a tiny first", CLIENT, 6, |all| {
                let tiny = all[0].clone().with(|piece| piece.body.truncate(8));
                vec![tiny, all[1].clone(), all[2].clone()]
            }),
            altered("beyond the longest", CLIENT, 7, |all| {
                let far = all[2].clone().with(|piece| match piece.extensions.last_mut() {
                    Some((_, bytes)) => bytes[2..4].copy_from_slice(&[0xff, 0xf8]),
                    None => piece.fragment = 0x1fff,
                });
                vec![all[0].clone(), far]
            }),
            plain(CLIENT).passes(),
        ]);
        steps
    };
    play(&mut twin, "known", all(true));
    play(&mut twin, "unknown", all(false));
    twin.finish(Share::AtLeast(0.05));
}

/// An IPv6 fragment header of a whole packet.
#[test]
fn atomic() {
    let mut twin = twin("fragments_atomic");
    let flows = [Flow::new(false), Flow::new(false)];
    let atomic = |from: usize| {
        one("atomic", from, move |flow: &Flow| {
            flow.udp(from, 30)
                .with(|packet| packet.extensions = vec![(44, vec![0, 0, 0, 0, 0, 0, 0, 1])])
        })
    };
    let steps = [
        atomic(CLIENT),
        plain(SERVER),
        atomic(CLIENT),
        atomic(SERVER),
        plain(CLIENT),
    ];
    crate::script::play_for(&mut twin, "atomic", &flows, steps);
    twin.finish(Share::AtLeast(0.0));
}
