//! Windows: what is in them and what is not, scaling, SACK, retransmissions, malformed headers.

use crate::flow::{ACK, PSH, SYN, URG, c, s};
use crate::lab::twin::{Setup, Share, Twin};
use crate::rules::{OPEN, STRICT};
use crate::script::{Step, play};
use crate::tcp_open::after_handshake;

/// A handshake without scaling, with these windows.
fn unscaled(client: u16, server: u16, more: Vec<Step>) -> Vec<Step> {
    let mut steps = vec![
        c(SYN, 0, 0).mss().window(client).passes(),
        s(SYN | ACK, 0, 1).mss().window(server).passes(),
        c(ACK, 1, 1).window(client).says("ESTABLISHED ASSURED"),
    ];
    steps.extend(more);
    steps
}

#[test]
fn data_out_of_it() {
    let mut twin = Twin::start(Setup::tracked("data_out_of_window", 2, STRICT));
    let beyond = unscaled(
        2000,
        2000,
        vec![
            c(ACK | PSH, 1, 1).data(1000).window(2000).passes(),
            Step::from(c(ACK | PSH, 2001, 1).data(10).window(2000)),
            Step::from(c(ACK | PSH, 2002, 1).data(10).window(2000)),
            c(ACK | PSH, 5001, 1).data(10).window(2000).lost(),
            c(ACK | PSH, 1001, 1).data(1000).window(2000).passes(),
            s(ACK, 1, 2001).window(2000).passes(),
            c(ACK | PSH, 2001, 1).data(1400).window(2000).passes(),
            s(ACK | PSH, 9001, 2001).data(10).window(2000).lost(),
            s(ACK, 1, 3401).window(2000).says("ESTABLISHED ASSURED"),
        ],
    );
    play(&mut twin, "beyond", beyond);
    let before = unscaled(
        8000,
        8000,
        vec![
            c(ACK | PSH, 1, 1).data(1000).window(8000).passes(),
            s(ACK, 1, 1001).window(8000).passes(),
            c(ACK | PSH, 1, 1).data(1000).window(8000).passes(),
            s(ACK, 1, 1001).window(8000).passes(),
            Step::from(c(ACK | PSH, 0u32.wrapping_sub(6000), 1).data(10).window(8000)),
            c(ACK | PSH, 0u32.wrapping_sub(20_000), 1)
                .data(10)
                .window(8000)
                .passes(),
        ],
    );
    play(&mut twin, "before", before);
    twin.finish(Share::AtLeast(0.75));
}

#[test]
fn acknowledgements_out_of_it() {
    let mut twin = Twin::start(Setup::tracked("acks_out_of_window", 2, STRICT));
    let steps = unscaled(
        8000,
        8000,
        vec![
            c(ACK | PSH, 1, 1).data(1000).window(8000).passes(),
            s(ACK, 1, 1002).window(8000).lost(),
            s(ACK, 1, 90_001).window(8000).lost(),
            s(ACK, 1, 1001).window(8000).passes(),
            s(ACK, 1, 501).window(8000).passes(),
            Step::from(s(ACK, 1, 0u32.wrapping_sub(60_000)).window(8000)),
            s(ACK, 1, 0u32.wrapping_sub(70_000)).window(8000).passes(),
            s(ACK | PSH, 1, 1001).data(10).window(8000).passes(),
            c(ACK, 1001, 11).window(8000).says("ESTABLISHED ASSURED"),
        ],
    );
    play(&mut twin, "of nothing seen, and of long ago", steps);
    twin.finish(Share::AtLeast(0.6));
}

#[test]
fn closed_window_and_probes() {
    let mut twin = Twin::start(Setup::tracked("closed_window", 2, STRICT));
    let steps = unscaled(
        2000,
        2000,
        vec![
            c(ACK | PSH, 1, 1).data(1400).window(2000).passes(),
            c(ACK | PSH, 1401, 1).data(600).window(2000).passes(),
            s(ACK, 1, 2001).window(0).passes(),
            Step::from(c(ACK, 2000, 1).window(2000)),
            Step::from(c(ACK | PSH, 2001, 1).data(1).window(2000)),
            Step::from(c(ACK | PSH, 2001, 1).data(500).window(2000)),
            s(ACK, 1, 2001).window(0).passes(),
            s(ACK, 1, 2001).window(2000).passes(),
            c(ACK | PSH, 2001, 1).data(1400).window(2000).passes(),
        ],
    );
    play(&mut twin, "of the server", steps);
    let never = unscaled(
        0,
        0,
        vec![
            Step::from(c(ACK | PSH, 1, 1).data(1).window(0)),
            Step::from(s(ACK | PSH, 1, 1).data(1).window(0)),
        ],
    );
    play(&mut twin, "from the start", never);
    twin.finish(Share::AtLeast(0.8));
}

#[test]
fn scaling() {
    let mut twin = Twin::start(Setup::tracked("window_scaling", 2, STRICT));
    for (title, client, server) in [
        ("both", Some(2), Some(5)),
        ("the client alone", Some(7), None),
        ("the server alone", None, Some(7)),
        ("the most", Some(14), Some(14)),
        ("more than the most", Some(15), Some(255)),
        ("none", Some(0), Some(0)),
    ] {
        let scaled = |segment: crate::flow::Segment, shift: Option<u8>| match shift {
            Some(shift) => segment.mss().scale(shift).window(1000),
            None => segment.mss().window(1000),
        };
        let mut steps = vec![
            scaled(c(SYN, 0, 0), client).passes(),
            scaled(s(SYN | ACK, 0, 1), server).passes(),
            c(ACK, 1, 1).window(1000).says("ESTABLISHED ASSURED"),
            s(ACK, 1, 1).window(1000).passes(),
        ];
        for ahead in [900, 1900, 3900, 31_000, 33_000, 127_000, 900_000, 17_000_000] {
            steps.push(Step::from(c(ACK | PSH, 1 + ahead, 1).data(50).window(1000)));
            steps.push(Step::from(s(ACK | PSH, 1 + ahead, 1).data(50).window(1000)));
        }
        play(&mut twin, title, steps);
    }
    twin.finish(Share::AtLeast(0.5));
}

/// Each retransmission of one hole moves the right edge; a peer that has lost an ACK sends all again.
#[test]
fn a_long_flight_sent_again() {
    let mut twin = Twin::start(Setup::tracked("long_flight", 2, STRICT));
    let mut steps = Vec::new();
    for at in 0..20 {
        steps.push(c(ACK | PSH, 1 + 1400 * at, 1).data(1400).window(257).passes());
        steps.push(s(ACK, 1, 1401 + 1400 * at).window(65535).passes());
    }
    steps.push(c(ACK | PSH, 1, 1).data(1400).window(257).passes());
    steps.push(s(ACK, 1, 28_001).window(65535).passes());
    let opened = vec![
        c(SYN, 0, 0).mss().window(32_792).passes(),
        s(SYN | ACK, 0, 1).mss().passes(),
        c(ACK, 1, 1).window(65_535).passes(),
    ];
    play(&mut twin, "all again", opened.into_iter().chain(steps));
    twin.finish(Share::AtLeast(0.95));
}

#[test]
fn selective_acknowledgements() {
    let mut twin = Twin::start(Setup::tracked("sack", 2, STRICT));
    for (title, permitted) in [("permitted", true), ("not permitted", false)] {
        let open = |segment: crate::flow::Segment| {
            if permitted {
                segment.mss().sack_permitted()
            } else {
                segment.mss()
            }
        };
        let steps = vec![
            open(c(SYN, 0, 0)).passes(),
            open(s(SYN | ACK, 0, 1)).passes(),
            c(ACK, 1, 1).says("ESTABLISHED ASSURED"),
            c(ACK | PSH, 1, 1).data(1000).passes(),
            c(ACK | PSH, 1001, 1).data(1000).passes(),
            c(ACK | PSH, 2001, 1).data(1000).passes(),
            Step::from(s(ACK, 1, 1).sack(&[(1001, 3001)])),
            Step::from(s(ACK, 1, 1).sack(&[(2001, 3001), (1001, 1501)])),
            Step::from(s(ACK, 1, 1).sack(&[(1001, 90_001)])),
            Step::from(s(ACK, 1, 1).sack(&[(1001, 1501), (1601, 1701), (2001, 3001)])),
            c(ACK | PSH, 1, 1).data(1000).passes(),
            s(ACK, 1, 3001).stamp(5).sack(&[(1, 1001)]).passes(),
            s(ACK, 1, 3001).stamp(5).passes(),
        ];
        play(&mut twin, title, steps);
    }
    twin.finish(Share::AtLeast(0.85));
}

/// Option bytes that lie: lengths of 0 and 1, beyond the header, of the wrong size, and bytes behind the end.
#[test]
fn malformed_options() {
    let mut twin = Twin::start(Setup::tracked("malformed_options", 2, STRICT));
    let all: [(&str, &[u8]); 9] = [
        ("length 0", &[3, 0, 7, 1]),
        ("length 1", &[3, 1, 7, 1]),
        ("beyond the header", &[1, 1, 3, 40]),
        ("cut off", &[1, 1, 1, 3]),
        ("scaling of 4 bytes", &[3, 4, 7, 7]),
        ("an early end", &[0, 3, 3, 9]),
        ("unknown, then scaling", &[200, 5, 1, 2, 3, 3, 3, 6]),
        ("SACK of no block", &[5, 2, 1, 1]),
        ("SACK of half a block", &[5, 6, 0, 0, 0, 1, 1, 1]),
    ];
    for (title, options) in all {
        let steps = vec![
            Step::from(c(SYN, 0, 0).mss().option(options)),
            Step::from(s(SYN | ACK, 0, 1).mss().scale(3).option(options)),
            Step::from(c(ACK, 1, 1).option(options)),
            Step::from(c(ACK | PSH, 1, 1).data(100).option(options)),
            Step::from(s(ACK, 1, 101).option(options).window(100)),
            Step::from(c(ACK | PSH, 5001, 1).data(100).option(options)),
        ];
        play(&mut twin, title, steps);
    }
    twin.finish(Share::AtLeast(0.7));
}

/// Header lengths that lie, of the first packet and of a known connection's.
#[test]
fn malformed_headers() {
    let mut twin = Twin::start(Setup::tracked("malformed_headers", 2, STRICT));
    let lie = |offset: u8| move |packet: &mut crate::lab::packet::Packet| packet.body[12] = offset << 4;
    for offset in [0, 4, 6, 15] {
        let title = format!("data offset {offset}");
        play(
            &mut twin,
            &title,
            [c(SYN, 0, 0).with(&title, lie(offset)).lost().says("gone")],
        );
        let known = vec![c(ACK, 1, 1).with(&title, lie(offset)).lost(), c(ACK, 1, 1).passes()];
        play(&mut twin, &title, after_handshake(known));
    }
    for length in [0, 3, 4, 8, 13, 19] {
        let title = format!("{length} bytes of header");
        let cut = move |packet: &mut crate::lab::packet::Packet| {
            packet.body.truncate(length);
            packet.sum_at = None;
        };
        play(&mut twin, &title, [c(SYN, 0, 0).with(&title, cut).lost()]);
        play(
            &mut twin,
            &title,
            after_handshake(vec![c(ACK, 1, 1).with(&title, cut).lost()]),
        );
    }
    twin.finish(Share::AtLeast(0.5));
}

/// All combinations of flags, as a first packet and of a known connection.
#[test]
fn every_combination_of_flags() {
    for (name, rules) in [("flags_strict", STRICT), ("flags_open", OPEN)] {
        let mut twin = Twin::start(Setup::tracked(name, 2, rules));
        for flags in 0..=255u8 {
            if flags & 0xc0 != 0 && flags & 0x3f != SYN {
                continue;
            }
            let flow = [crate::flow::Flow::new(flags % 2 == 0)];
            let title = format!("flags {flags:#x} first");
            crate::script::play_for(&mut twin, &title, &flow, [c(flags, 0, 1)]);
        }
        for flags in 0..64u8 {
            let title = format!("flags {flags:#x} of a known connection");
            let flow = [crate::flow::Flow::new(flags % 2 == 0)];
            let steps = after_handshake(vec![Step::from(c(flags, 1, 1)), Step::from(s(flags | URG, 1, 1))]);
            crate::script::play_for(&mut twin, &title, &flow, steps);
        }
        twin.finish(Share::AtLeast(0.5));
    }
}
