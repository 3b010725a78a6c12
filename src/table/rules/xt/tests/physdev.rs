//! `physdev`, of packets that a bridge shows to the hooks of IP, and of all others.

use super::*;

const IN: u8 = 1;
const OUT: u8 = 2;
const BRIDGED: u8 = 4;
const IS_IN: u8 = 8;
const IS_OUT: u8 = 16;

/// The struct for these names, of which a `+` at the end stands for anything.
fn asks(input: &str, output: &str, asked: u8, inverted: u8) -> Vec<u8> {
    let name = |name: &str| {
        let (mut bytes, mut mask) = ([0; 16], [0; 16]);
        let stem = name.trim_end_matches('+');
        bytes[..stem.len()].copy_from_slice(stem.as_bytes());
        let len = if name == stem { stem.len() + 1 } else { stem.len() };
        mask[..len].fill(0xff);
        [bytes, mask].concat()
    };
    info(66, &[(0, &name(input)), (32, &name(output)), (64, &[inverted, asked])])
}

fn answers(info: &[u8]) -> [bool; 3] {
    let of = |physdevs| v4().with(|probe| probe.physdevs = physdevs);
    [None, Some(("p0", None)), Some(("p0", Some("p1")))].map(|physdevs| holds("physdev", 0, info, &of(physdevs)))
}

#[test]
fn routed_from_a_bridge_and_bridged() {
    for (asked, expected) in [
        (BRIDGED, [false, false, true]),
        (IS_IN, [false, true, true]),
        (IS_OUT, [false, false, true]),
        (BRIDGED | IS_IN, [false, false, true]),
    ] {
        assert_eq!(answers(&asks("", "", asked, 0)), expected, "{asked}");
    }
    assert_eq!(answers(&asks("", "", BRIDGED, BRIDGED)), [true, true, false]);
    assert_eq!(answers(&asks("", "", IS_IN, IS_IN)), [true, false, false]);
    assert_eq!(answers(&asks("", "", BRIDGED | IS_IN, BRIDGED)), [false, true, false]);
}

#[test]
fn names_and_beginnings_of_names() {
    for (input, expected) in [
        ("p0", [false, true, true]),
        ("p+", [false, true, true]),
        ("p", [false; 3]),
        ("p1", [false; 3]),
        ("p01", [false; 3]),
    ] {
        assert_eq!(answers(&asks(input, "", IN, 0)), expected, "{input}");
        let others = [true, !expected[1], !expected[2]];
        assert_eq!(answers(&asks(input, "", IN, IN)), others, "! {input}");
    }
    assert_eq!(answers(&asks("", "p1", OUT, 0)), [false, false, true]);
    assert_eq!(answers(&asks("", "p2", OUT, 0)), [false; 3]);
    // What leaves by no port leaves by none that is another one.
    assert_eq!(answers(&asks("", "p2", OUT, OUT)), [true, false, true]);
    assert_eq!(answers(&asks("p0", "p+", IN | OUT | BRIDGED, 0)), [false, false, true]);
}

#[test]
fn what_a_decision_depends_on() {
    let depends = |asked| match a_match("physdev", 0, &asks("p0", "p0", asked, 0), NFPROTO_IPV4) {
        Some(it) => it.depends(),
        None => panic!("it is right"),
    };
    assert_eq!(
        [IN, OUT, BRIDGED, IS_IN].map(depends),
        [Depends::Packet, Depends::Flow, Depends::Flow, Depends::Flow]
    );
    assert_eq!(a_match("physdev", 0, &asks("", "", 0x20, 0), NFPROTO_IPV4), None);
    assert_eq!(a_match("physdev", 1, &asks("", "", IN, 0), NFPROTO_IPV4), None);
}
