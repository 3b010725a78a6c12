//! SCTP: handshake, data, shutdown, verification tags, heartbeats, malformed chunks.

use crate::flow::{CLIENT, Flow, SERVER};
use crate::lab::twin::{Setup, Share, Twin};
use crate::rules::STRICT;
use crate::script::{Step, one, play};

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// The tag that the client chose, which the server's packets bear, and the other way round.
const CLIENTS: u32 = 0x1111_1111;
const SERVERS: u32 = 0x2222_2222;

/// A chunk with a body of zeros.
pub fn chunk(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let length = 4 + body.len() as u16;
    let mut chunk = vec![kind, flags];
    chunk.extend(length.to_be_bytes());
    chunk.extend(body);
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

/// An INIT or INIT-ACK that brings this tag.
pub fn init(kind: u8, tag: u32) -> Vec<u8> {
    let mut body = tag.to_be_bytes().to_vec();
    body.extend([0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1]);
    chunk(kind, 0, &body)
}

fn data() -> Vec<u8> {
    chunk(0, 3, &[0; 40])
}

fn from(end: usize, text: &str, vtag: u32, chunks: Vec<Vec<u8>>) -> Step {
    one(text, end, move |flow: &Flow| flow.sctp(end, vtag, &chunks))
}

fn c(text: &str, vtag: u32, chunks: Vec<Vec<u8>>) -> Step {
    from(CLIENT, text, vtag, chunks)
}

fn s(text: &str, vtag: u32, chunks: Vec<Vec<u8>>) -> Step {
    from(SERVER, text, vtag, chunks)
}

fn association(more: Vec<Step>) -> Vec<Step> {
    let mut steps = vec![
        c("INIT", 0, vec![init(INIT, CLIENTS)])
            .passes()
            .says("CLOSED UNREPLIED"),
        s("INIT ACK", CLIENTS, vec![init(INIT_ACK, SERVERS)])
            .passes()
            .says("COOKIE_WAIT"),
        c("COOKIE ECHO", SERVERS, vec![chunk(COOKIE_ECHO, 0, &[9; 32])])
            .passes()
            .says("COOKIE_ECHOED"),
        s("COOKIE ACK", CLIENTS, vec![chunk(COOKIE_ACK, 0, &[])])
            .passes()
            .says("ESTABLISHED ASSURED"),
    ];
    steps.extend(more);
    steps
}

fn twin(name: &str) -> Twin {
    Twin::start(Setup::tracked(name, 2, STRICT))
}

#[test]
fn handshake_data_and_shutdown() {
    let mut twin = twin("sctp");
    let steps = vec![
        c("DATA", SERVERS, vec![data()]).passes(),
        s("SACK and DATA", CLIENTS, vec![chunk(SACK, 0, &[0; 12]), data()]).passes(),
        c("HEARTBEAT", SERVERS, vec![chunk(HEARTBEAT, 0, &[1; 8])]).passes(),
        s("HEARTBEAT ACK", CLIENTS, vec![chunk(HEARTBEAT_ACK, 0, &[1; 8])]).passes(),
        c("SHUTDOWN", SERVERS, vec![chunk(SHUTDOWN, 0, &[0; 4])]).says("SHUTDOWN_SENT ASSURED"),
        s("SHUTDOWN ACK", CLIENTS, vec![chunk(SHUTDOWN_ACK, 0, &[])]).says("SHUTDOWN_ACK_SENT ASSURED"),
        c("SHUTDOWN COMPLETE", SERVERS, vec![chunk(SHUTDOWN_COMPLETE, 0, &[])]).says("CLOSED ASSURED"),
        c("INIT again", 0, vec![init(INIT, 0x3333_3333)]),
        s("INIT ACK", 0x3333_3333, vec![init(INIT_ACK, 0x4444_4444)]),
    ];
    play(&mut twin, "by the client", association(steps));
    let steps = vec![
        s("SHUTDOWN", CLIENTS, vec![chunk(SHUTDOWN, 0, &[0; 4])]).says("SHUTDOWN_RECD ASSURED"),
        c("SHUTDOWN ACK", SERVERS, vec![chunk(SHUTDOWN_ACK, 0, &[])]).passes(),
        s("SHUTDOWN COMPLETE", CLIENTS, vec![chunk(SHUTDOWN_COMPLETE, 0, &[])]).passes(),
    ];
    play(&mut twin, "by the server", association(steps));
    twin.finish(Share::AtLeast(0.9));
}

#[test]
fn wrong_tags() {
    let mut twin = twin("sctp_tags");
    let steps = vec![
        c("DATA of no tag", 0, vec![data()]),
        c("DATA of the other tag", CLIENTS, vec![data()]),
        s("DATA of a wrong tag", 77, vec![data()]),
        s("ABORT of a wrong tag", 77, vec![chunk(ABORT, 0, &[])]),
        c("SHUTDOWN of a wrong tag", 77, vec![chunk(SHUTDOWN, 0, &[0; 4])]),
        c(
            "SHUTDOWN COMPLETE of a wrong tag",
            77,
            vec![chunk(SHUTDOWN_COMPLETE, 0, &[])],
        ),
        c("INIT with a tag", 77, vec![init(INIT, 5)]),
        c("HEARTBEAT of a wrong tag", 77, vec![chunk(HEARTBEAT, 0, &[1; 8])]),
        s(
            "HEARTBEAT ACK of a wrong tag",
            78,
            vec![chunk(HEARTBEAT_ACK, 0, &[1; 8])],
        ),
        c("DATA", SERVERS, vec![data()]),
        c("ABORT with T", CLIENTS, vec![chunk(ABORT, 1, &[])]),
    ];
    play(&mut twin, "established", association(steps));
    let steps = vec![
        c("INIT", 0, vec![init(INIT, CLIENTS)]),
        s("INIT ACK of a wrong tag", 77, vec![init(INIT_ACK, SERVERS)]),
        s("INIT ACK", CLIENTS, vec![init(INIT_ACK, SERVERS)]),
        c("COOKIE ECHO of a wrong tag", 77, vec![chunk(COOKIE_ECHO, 0, &[9; 32])]),
        c("COOKIE ECHO", SERVERS, vec![chunk(COOKIE_ECHO, 0, &[9; 32])]),
        s("COOKIE ACK", CLIENTS, vec![chunk(COOKIE_ACK, 0, &[])]),
    ];
    play(&mut twin, "in the handshake", steps);
    twin.finish(Share::AtLeast(0.45));
}

#[test]
fn first_packets() {
    let mut twin = twin("sctp_first");
    let all: Vec<(&str, u32, Vec<Vec<u8>>)> = vec![
        ("DATA", SERVERS, vec![data()]),
        ("HEARTBEAT", SERVERS, vec![chunk(HEARTBEAT, 0, &[1; 8])]),
        ("ABORT", SERVERS, vec![chunk(ABORT, 0, &[])]),
        ("INIT with a tag", 9, vec![init(INIT, CLIENTS)]),
        ("SHUTDOWN ACK", SERVERS, vec![chunk(SHUTDOWN_ACK, 0, &[])]),
        ("SHUTDOWN COMPLETE", SERVERS, vec![chunk(SHUTDOWN_COMPLETE, 0, &[])]),
        ("COOKIE ACK", SERVERS, vec![chunk(COOKIE_ACK, 0, &[])]),
        ("COOKIE ECHO", SERVERS, vec![chunk(COOKIE_ECHO, 0, &[9; 8])]),
        ("ERROR", SERVERS, vec![chunk(ERROR, 0, &[])]),
        ("an unknown chunk", SERVERS, vec![chunk(200, 0, &[])]),
        ("no chunk", SERVERS, Vec::new()),
        ("INIT and DATA", 0, vec![init(INIT, CLIENTS), data()]),
        ("a chunk of length 0", 0, vec![vec![1, 0, 0, 0]]),
        ("a cut INIT", 0, vec![vec![1, 0, 0, 20, 1, 1]]),
    ];
    for (title, vtag, chunks) in all {
        let answer = s("an answer", CLIENTS, vec![chunk(HEARTBEAT_ACK, 0, &[1; 8])]);
        let again = c("again", vtag, chunks.clone());
        play(&mut twin, title, [c(title, vtag, chunks), answer, again]);
    }
    twin.finish(Share::AtLeast(0.1));
}

#[test]
fn heartbeat_of_another_path() {
    let mut twin = twin("sctp_heartbeat");
    let steps = [
        c("HEARTBEAT", SERVERS, vec![chunk(HEARTBEAT, 0, &[1; 8])]).says("HEARTBEAT_SENT UNREPLIED"),
        s("HEARTBEAT ACK", CLIENTS, vec![chunk(HEARTBEAT_ACK, 0, &[1; 8])]).says("ESTABLISHED ASSURED"),
        c("DATA", SERVERS, vec![data()]).passes(),
        s("DATA", CLIENTS, vec![data()]).passes(),
    ];
    play(&mut twin, "answered", steps);
    twin.finish(Share::AtLeast(0.95));
}

/// Both sides begin an association with each other, and one of the two wins.
#[test]
fn collision() {
    let mut twin = twin("sctp_collision");
    let steps = [
        c("INIT", 0, vec![init(INIT, CLIENTS)]),
        s("INIT", 0, vec![init(INIT, SERVERS)]),
        c("INIT ACK", SERVERS, vec![init(INIT_ACK, CLIENTS)]),
        s("COOKIE ECHO", CLIENTS, vec![chunk(COOKIE_ECHO, 0, &[9; 32])]),
        c("COOKIE ACK", SERVERS, vec![chunk(COOKIE_ACK, 0, &[])]),
        s("INIT ACK, late", CLIENTS, vec![init(INIT_ACK, SERVERS)]),
        c("COOKIE ECHO", SERVERS, vec![chunk(COOKIE_ECHO, 0, &[9; 32])]),
        s("COOKIE ACK", CLIENTS, vec![chunk(COOKIE_ACK, 0, &[])]),
        c("DATA", SERVERS, vec![data()]),
        s("DATA", CLIENTS, vec![data()]),
    ];
    play(&mut twin, "at once", steps);
    twin.finish(Share::AtLeast(0.8));
}

/// The sum of SCTP is a CRC.
#[test]
fn checksums() {
    for (name, value) in [("sctp_checksums_judged", 1), ("sctp_checksums_not_judged", 0)] {
        let line = format!("sysctl net.netfilter.nf_conntrack_checksum={value}");
        let mut twin = Twin::start(Setup::tracked(name, 2, STRICT).with(&[&line]));
        let wrong = |text: &'static str, vtag: u32, chunks: Vec<Vec<u8>>| {
            one(text, CLIENT, move |flow: &Flow| {
                flow.sctp(CLIENT, vtag, &chunks).with(|packet| packet.body[9] ^= 1)
            })
        };
        let first = [
            wrong("INIT of a wrong sum", 0, vec![init(INIT, CLIENTS)]),
            c("INIT", 0, vec![init(INIT, CLIENTS)]),
        ];
        play(&mut twin, "first", first);
        play(
            &mut twin,
            "known",
            association(vec![wrong("DATA of a wrong sum", SERVERS, vec![data()])]),
        );
        twin.finish(Share::AtLeast(0.6));
    }
}

/// What is seen first is the answer to a heartbeat, of an association that is older than the router.
#[test]
fn begun_by_a_heartbeat_ack() {
    let mut twin = twin("sctp_heartbeat_ack");
    let steps = vec![
        c("HEARTBEAT ACK", SERVERS, vec![chunk(HEARTBEAT_ACK, 0, &[1; 8])]).passes(),
        c("HEARTBEAT", SERVERS, vec![chunk(HEARTBEAT, 0, &[1; 8])]).passes(),
        s("HEARTBEAT ACK", CLIENTS, vec![chunk(HEARTBEAT_ACK, 0, &[1; 8])]).passes(),
        s("SHUTDOWN", CLIENTS, vec![chunk(SHUTDOWN, 0, &[0; 4])]),
        c("DATA", SERVERS, vec![data()]),
    ];
    play(&mut twin, "asked by the client", steps);
    let steps = vec![
        c("HEARTBEAT ACK", SERVERS, vec![chunk(HEARTBEAT_ACK, 0, &[1; 8])]).passes(),
        s("HEARTBEAT", CLIENTS, vec![chunk(HEARTBEAT, 0, &[1; 8])]).passes(),
        c("SACK and DATA", SERVERS, vec![chunk(SACK, 0, &[0; 12]), data()]),
        s("SHUTDOWN", CLIENTS, vec![chunk(SHUTDOWN, 0, &[0; 4])]).passes(),
    ];
    play(&mut twin, "asked by the server", steps);
    twin.finish(Share::AtLeast(0.45));
}
