//! The trackers without states, tuples, ICMP errors, and what must hold for any bytes.

use super::testing::{ENDS, Flow, L4, Seen, checksum_of, icmp, packet, udp};
use super::*;
use crate::packet::Addr;
use crate::table::conntrack::Direction::{Original, Reply};
use crate::table::conntrack::TICKS_PER_SECOND;
use Family::{V4, V6};
use proptest::prelude::*;

fn keys_of((parsed, frame): &(Parsed, Vec<u8>)) -> Option<(u16, u16)> {
    tuple(parsed, frame, 7).map(|tuple| {
        assert_eq!((tuple.src, tuple.dst, tuple.zone), (parsed.src, parsed.dst, 7));
        (tuple.sport, tuple.dport)
    })
}

#[test]
fn tuples_have_ports_identifiers_keys_or_nothing() {
    let of = |family, proto, segment: &[u8]| keys_of(&packet(family, proto, Original, segment));
    for proto in [Protocol::TCP, Protocol::UDP, Protocol::UDPLITE, Protocol::SCTP] {
        assert_eq!(of(V4, proto, &[1, 2, 3, 4]), Some((0x0102, 0x0304)));
        assert_eq!(of(V4, proto, &[1, 2, 3]), None, "cut");
    }
    assert_eq!(
        of(V4, Protocol::ICMP, &[8, 0, 9, 9, 1, 2, 0, 1]),
        Some((0x0102, 0x0800))
    );
    assert_eq!(
        of(V6, Protocol::ICMPV6, &[128, 0, 9, 9, 1, 2, 0, 1]),
        Some((0x0102, 0x8000))
    );
    assert_eq!(of(V4, Protocol::ICMP, &[8, 0, 9, 9, 1, 2, 0]), None, "cut");
    // DCCP has ports, and the kernel no tracker for it since 6.17.
    assert_eq!(of(V4, Protocol::DCCP, &[1, 2, 3, 4]), Some((0, 0)));
    assert_eq!(of(V4, Protocol::ESP, &[]), Some((0, 0)));
    assert_eq!(of(V6, Protocol::ESP, &[]), Some((0, 0)));
    assert_eq!(of(V4, Protocol::AH, &[]), Some((0, 0)));
    assert_eq!(of(V6, Protocol::AH, &[]), None, "a cut extension header");
    assert_eq!(of(V6, Protocol::NO_NEXT, &[]), None);
    assert_eq!(of(V4, Protocol::NO_NEXT, &[]), Some((0, 0)));
}

#[test]
fn gre_has_a_key_in_version_1_only() {
    let of = |segment: &[u8]| keys_of(&packet(V4, Protocol::GRE, Original, segment));
    assert_eq!(of(&[0x30, 0x01, 0x88, 0x0b, 0, 4, 0xab, 0xcd]), Some((0, 0xabcd)));
    assert_eq!(of(&[0x30, 0x01, 0x08, 0x00, 0, 4, 0xab, 0xcd]), None, "no PPP");
    assert_eq!(of(&[0x20, 0x00, 0x08, 0x00, 0, 4, 0xab, 0xcd]), Some((0, 0)));
    assert_eq!(of(&[0x30, 0x01, 0x88, 0x0b]), Some((0, 0)), "cut before the call id");
    assert_eq!(of(&[]), Some((0, 0)));
}

#[test]
fn gre_lives_longer_both_ways_and_keeps_its_timeouts() {
    let mut flow = Flow::new();
    let gre = |direction| packet(V4, Protocol::GRE, direction, &[0; 8]);
    flow.take(&gre(Original), Original);
    assert_eq!((flow.left(), flow.assured()), (30, false));
    flow.config.gre = [100, 200];
    flow.take(&gre(Reply), Reply);
    assert_eq!(
        (flow.left(), flow.assured()),
        (30, false),
        "the reply is seen with the next packet"
    );
    flow.take(&gre(Original), Original);
    assert_eq!((flow.left(), flow.assured()), (180, true));
    flow.view.proto = [0; 7]; // as if the kernel had told of it
    flow.take(&gre(Reply), Reply);
    assert_eq!(flow.left(), 2);
}

#[test]
fn other_protocols_have_a_timeout() {
    let mut flow = Flow::new();
    for direction in [Original, Reply, Original] {
        let esp = packet(V6, Protocol::ESP, direction, &[1, 2, 3]);
        assert_eq!(flow.take(&esp, direction), Seen::Valid);
        assert_eq!((flow.left(), flow.assured(), flow.word()), (600, false, ""));
    }
}

#[test]
fn udp_is_a_stream_when_it_is_answered_and_two_seconds_old() {
    for family in Family::ALL {
        let mut flow = Flow::new();
        let datagram = |direction| udp(family, Protocol::UDP, direction, b"data", None);
        let mut send = |direction, after: Ticks| {
            flow.pass(after);
            assert_eq!(flow.take(&datagram(direction), direction), Seen::Valid);
            (flow.left(), flow.assured())
        };
        assert_eq!(send(Original, 0), (30, false));
        assert_eq!(send(Original, 300), (30, false), "one way");
        assert_eq!(send(Reply, 0), (30, false), "the reply itself");
        assert_eq!(send(Original, 0), (120, true), "old enough, and answered");
        // Time counts from the first packet.
        let mut young = Flow::new();
        for direction in [Original, Reply, Original, Reply] {
            young.take(&datagram(direction), direction);
        }
        assert_eq!((young.left(), young.assured()), (30, false));
        young.pass(2 * TICKS_PER_SECOND);
        young.take(&datagram(Original), Original);
        assert_eq!(
            (young.left(), young.assured()),
            (30, false),
            "two seconds, but not more"
        );
        young.pass(1);
        young.take(&datagram(Original), Original);
        assert_eq!((young.left(), young.assured()), (120, true));
    }
}

/// Ticks tell what is past from what is to come for 248 days.
#[test]
fn a_stream_of_udp_stays_one_for_years() {
    const DAYS: Ticks = 24 * 3600 * TICKS_PER_SECOND;
    let datagram = |direction| udp(V4, Protocol::UDP, direction, b"data", None);
    let mut flow = Flow::new();
    for direction in [Original, Reply] {
        flow.take(&datagram(direction), direction);
    }
    for _ in 0..10 {
        flow.pass(100 * DAYS);
        flow.take(&datagram(Original), Original);
        assert_eq!((flow.left(), flow.assured()), (120, true));
    }
}

#[test]
fn udp_of_a_clash_is_never_assured_and_one_from_elsewhere_is_old_enough() {
    let mut flow = Flow::new();
    let datagram = udp(V4, Protocol::UDP, Original, b"", None);
    flow.take(&datagram, Original);
    flow.view.proto = [0; 7];
    flow.view.status = Status::SEEN_REPLY | Status::NAT_CLASH;
    flow.take(&datagram, Original);
    assert_eq!((flow.left(), flow.assured()), (120, false));
}

#[test]
fn udp_with_a_wrong_length_or_checksum_is_invalid() {
    let verdict = |change: &dyn Fn(&mut Parsed, &mut Vec<u8>, &mut Config)| {
        let mut flow = Flow::new();
        let (mut parsed, mut frame) = udp(V4, Protocol::UDP, Original, b"data", None);
        change(&mut parsed, &mut frame, &mut flow.config);
        flow.take(&(parsed, frame), Original)
    };
    assert_eq!(verdict(&|_, _, _| {}), Seen::Valid);
    assert_eq!(verdict(&|_, frame, _| frame[L4 + 8] ^= 1), Seen::Invalid);
    assert_eq!(
        verdict(&|_, frame, config| {
            frame[L4 + 8] ^= 1;
            config.checksum = false;
        }),
        Seen::Valid
    );
    let none = |frame: &mut Vec<u8>| frame[L4 + 6..L4 + 8].fill(0);
    assert_eq!(verdict(&|_, frame, _| none(frame)), Seen::Valid, "no checksum");
    for (len, seen) in [
        (7, Seen::Invalid),
        (8, Seen::Valid),
        (12, Seen::Valid),
        (13, Seen::Invalid),
    ] {
        let wrong = |frame: &mut Vec<u8>| {
            none(frame);
            frame[L4 + 5] = len;
        };
        assert_eq!(verdict(&|_, frame, _| wrong(frame)), seen, "length {len}");
    }
    assert_eq!(
        verdict(&|parsed, _, _| parsed.end = parsed.l4 + 7),
        Seen::Invalid,
        "a cut header"
    );
}

#[test]
fn udp_lite_is_a_stream_at_once_and_its_checksum_covers_what_it_says() {
    let lite = |direction, covered| udp(V4, Protocol::UDPLITE, direction, b"0123456789", Some(covered));
    let mut flow = Flow::new();
    flow.take(&lite(Original, 10), Original);
    flow.take(&lite(Reply, 10), Reply);
    assert_eq!((flow.left(), flow.assured()), (30, false));
    flow.take(&lite(Original, 18), Original);
    assert_eq!((flow.left(), flow.assured()), (120, true));

    let mut seen = |change: &dyn Fn(&mut Vec<u8>)| {
        let (parsed, mut frame) = lite(Original, 10);
        change(&mut frame);
        flow.take(&(parsed, frame), Original)
    };
    assert_eq!(seen(&|frame| frame[L4 + 10] ^= 1), Seen::Valid, "not covered");
    assert_eq!(seen(&|frame| frame[L4 + 9] ^= 1), Seen::Invalid, "covered");
    assert_eq!(seen(&|frame| frame[L4 + 6..L4 + 8].fill(0)), Seen::Invalid, "none");
    assert_eq!(seen(&|frame| frame[L4 + 5] = 7), Seen::Invalid);
    assert_eq!(seen(&|frame| frame[L4 + 5] = 19), Seen::Invalid);
    // A coverage of 0 is all of it.
    let (parsed, mut frame) = lite(Original, 18);
    frame[L4 + 4..L4 + 8].fill(0);
    let sum = checksum_of(&parsed, &frame[L4..parsed.end.into()], Protocol::UDP);
    frame[L4 + 6..L4 + 8].copy_from_slice(&sum);
    assert_eq!(flow.take(&(parsed, frame), Original), Seen::Valid);
}

fn query(family: Family, direction: Direction, kind: u8) -> (Parsed, Vec<u8>) {
    icmp(family, direction, vec![kind, 0, 0, 0, 0x12, 0x34, 0, 1, 9])
}

#[test]
fn icmp_queries_open_and_answers_do_not() {
    for (family, opens) in [(V4, &[8, 13, 15, 17][..]), (V6, &[128, 139][..])] {
        for kind in 0..=255 {
            let mut flow = Flow::new();
            let seen = flow.take(&query(family, Original, kind), Original);
            assert_eq!(seen == Seen::Valid, opens.contains(&kind), "{family:?} type {kind}");
        }
    }
    let mut flow = Flow::new();
    flow.take(&query(V4, Original, 8), Original);
    flow.pass(1000);
    assert_eq!(flow.take(&query(V4, Reply, 0), Reply), Seen::Valid);
    assert_eq!(
        (flow.left(), flow.assured(), flow.has(Status::SEEN_REPLY)),
        (30, false, true)
    );
    // One family's ICMP is nothing in the other's packets.
    for (family, proto, kind) in [(V6, Protocol::ICMP, 8), (V4, Protocol::ICMPV6, 128)] {
        let odd = packet(family, proto, Original, &[kind, 0, 0, 0, 0, 1, 0, 1]);
        assert_eq!(Flow::new().take(&odd, Original), Seen::Invalid);
        assert_eq!(icmp_error(&odd.0, &odd.1, &Config::default(), 0), IcmpError::None);
    }
}

fn error_of((parsed, frame): &(Parsed, Vec<u8>)) -> IcmpError {
    icmp_error(parsed, frame, &Config::default(), 3)
}

/// The start of an IPv4 packet from the client to the server.
fn inner_v4(proto: Protocol, behind: &[u8]) -> Vec<u8> {
    let [client, server] = ENDS[0].map(|end| (end as u32).to_be_bytes());
    [
        &[0x45, 0, 1, 0, 0, 0, 0x40, 0, 64, proto.0, 0, 0],
        &client[..],
        &server,
        behind,
    ]
    .concat()
}

fn inner_v6(next: Protocol, behind: &[u8]) -> Vec<u8> {
    let [client, server] = ENDS[1].map(Addr::to_be_bytes);
    [&[0x60, 0, 0, 0, 1, 0, next.0, 64], &client[..], &server, behind].concat()
}

/// An error that `message` begins, about `inner`, back to the client.
fn error(family: Family, message: [u8; 8], inner: &[u8]) -> (Parsed, Vec<u8>) {
    icmp(family, Reply, [&message[..], inner].concat())
}

/// The client's side of a connection, by which errors about its packets find it.
fn about(family: Family, proto: Protocol, sport: u16, dport: u16) -> IcmpError {
    let [client, server] = ENDS[family as usize];
    IcmpError::About(Tuple {
        src: server,
        dst: client,
        sport,
        dport,
        proto: proto.0,
        family,
        zone: 3,
    })
}

#[test]
fn icmp_errors_are_about_the_packet_inside() {
    let ports = [0x12, 0x34, 0, 80];
    for kind in [3, 4, 5, 11, 12] {
        let error = error(V4, [kind, 1, 0, 0, 0, 0, 0, 0], &inner_v4(Protocol::TCP, &ports));
        assert_eq!(error_of(&error), about(V4, Protocol::TCP, 80, 0x1234), "type {kind}");
        assert!(error_agrees(&error.0, &tuple_of(error_of(&error))));
        let mut other = error.0;
        other.dst += 1;
        assert!(!error_agrees(&other, &tuple_of(error_of(&error))));
    }
    for kind in 0..=127 {
        let error = error(V6, [kind, 0, 0, 0, 0, 0, 5, 0], &inner_v6(Protocol::UDP, &ports));
        assert_eq!(error_of(&error), about(V6, Protocol::UDP, 80, 0x1234), "type {kind}");
    }
    let echo = [8, 0, 0, 0, 0xab, 0xcd, 0, 1];
    let error = error(V4, [11, 0, 0, 0, 0, 0, 0, 0], &inner_v4(Protocol::ICMP, &echo));
    assert_eq!(error_of(&error), about(V4, Protocol::ICMP, 0xabcd, 0));
}

fn tuple_of(error: IcmpError) -> Tuple {
    match error {
        IcmpError::About(tuple) => tuple,
        other => panic!("{other:?}"),
    }
}

#[test]
fn icmp_errors_with_garbage_inside_are_invalid() {
    let of = |inner: &[u8]| error_of(&error(V4, [3, 1, 0, 0, 0, 0, 0, 0], inner));
    let good = inner_v4(Protocol::UDP, &[0, 1, 0, 2]);
    assert_eq!(of(&good), about(V4, Protocol::UDP, 2, 1));
    for cut in 0..good.len() {
        assert_eq!(of(&good[..cut]), IcmpError::Invalid, "cut to {cut}");
    }
    let with = |at: usize, byte: u8| {
        let mut inner = good.clone();
        inner[at] = byte;
        of(&inner)
    };
    assert_eq!(with(0, 0x46), IcmpError::Invalid, "a header that leads beyond the end");
    assert_eq!(
        with(0, 0x15),
        about(V4, Protocol::UDP, 2, 1),
        "nobody looks at the version"
    );
    // A header length of 0: the ports are the header's first bytes.
    assert_eq!(with(0, 0x40), about(V4, Protocol::UDP, 0x0100, 0x4000));
    assert_eq!(with(6, 0x20), about(V4, Protocol::UDP, 2, 1), "the first fragment");
    assert_eq!(with(7, 1), IcmpError::Invalid, "a later fragment");
    // An error about an error, and about an answer's type that nothing asks for.
    for kind in [3, 5, 11] {
        assert_eq!(
            of(&inner_v4(Protocol::ICMP, &[kind, 0, 0, 0, 0, 0, 0, 0])),
            IcmpError::Invalid
        );
    }
    assert_eq!(of(&inner_v4(Protocol::ESP, &[])), about(V4, Protocol::ESP, 0, 0));
}

#[test]
fn icmpv6_errors_follow_extension_headers() {
    let of = |inner: &[u8]| error_of(&error(V6, [1, 0, 0, 0, 0, 0, 0, 0], inner));
    let ports = [0, 1, 0, 2, 0, 0, 0, 0];
    let tcp = Protocol::TCP.0;
    let hop = Protocol::HOP_BY_HOP;
    let [options, fragment, auth] = [Protocol::DEST_OPTIONS, Protocol::FRAGMENT, Protocol::AH].map(|proto| proto.0);
    let chain = [
        &[options, 1][..],
        &[0; 14],
        &[fragment, 0],
        &[0; 6],
        &[auth, 0, 0, 1, 0, 0, 0, 0], // the fragment header: offset 0, more
        &[tcp, 1],
        &[0; 10],
        &ports,
    ]
    .concat();
    assert_eq!(of(&inner_v6(hop, &chain)), about(V6, Protocol::TCP, 2, 1));
    let mut later = chain.clone();
    later[26..28].copy_from_slice(&[0, 8]);
    assert_eq!(of(&inner_v6(hop, &later)), IcmpError::Invalid, "a later fragment");
    for cut in 0..chain.len() - 4 {
        assert_eq!(of(&inner_v6(hop, &chain[..cut])), IcmpError::Invalid, "cut to {cut}");
    }
    // Many of them are no more than many.
    let many = [
        [options, 0, 0, 0, 0, 0, 0, 0].repeat(40),
        vec![tcp, 0, 0, 0, 0, 0, 0, 0],
        ports.to_vec(),
    ]
    .concat();
    assert_eq!(of(&inner_v6(hop, &many)), about(V6, Protocol::TCP, 2, 1));
    assert_eq!(of(&inner_v6(Protocol::NO_NEXT, &ports)), IcmpError::Invalid);
    // A header that leads beyond the end has nothing behind it: enough for a protocol without keys.
    assert_eq!(
        of(&inner_v6(hop, &[Protocol::ESP.0, 9])),
        about(V6, Protocol::ESP, 0, 0)
    );
}

#[test]
fn icmp_is_judged_before_it_is_tracked() {
    let broken = |mut packet: (Parsed, Vec<u8>)| {
        packet.1[L4 + 4] ^= 1;
        packet
    };
    for (family, kind) in [(V4, 8), (V6, 128)] {
        assert_eq!(error_of(&query(family, Original, kind)), IcmpError::None);
        let broken = broken(query(family, Original, kind));
        assert_eq!(error_of(&broken), IcmpError::Invalid, "a wrong checksum");
        let config = Config {
            checksum: false,
            ..Config::default()
        };
        assert_eq!(icmp_error(&broken.0, &broken.1, &config, 0), IcmpError::None);
        let (mut cut, frame) = query(family, Original, kind);
        cut.end = cut.l4 + 7;
        assert_eq!(icmp_error(&cut, &frame, &config, 0), IcmpError::Invalid, "a cut header");
    }
    for kind in 0..=255 {
        let is_error = [3, 4, 5, 11, 12].contains(&kind);
        let seen = error_of(&query(V4, Original, kind));
        assert_eq!(seen == IcmpError::Invalid, kind > 18 || is_error, "type {kind}");
    }
    // An answer of zeros with a checksum of 0: the other zero of one's complement.
    let zeros = packet(V4, Protocol::ICMP, Original, &[0; 8]);
    assert_eq!(error_of(&zeros), IcmpError::None);
}

#[test]
fn discovery_is_untracked_and_a_redirect_is_an_error() {
    for kind in 128..=255 {
        let untracked = (130..=136).contains(&kind) || [143, 151, 152].contains(&kind);
        let seen = error_of(&query(V6, Original, kind));
        assert_eq!(seen == IcmpError::Untracked, untracked, "type {kind}");
    }
    let redirect = |code: u8, option: &[u8]| {
        let inner = inner_v6(Protocol::UDP, &[0, 1, 0, 2]);
        let head = [&[137, code, 0, 0, 0, 0, 0, 0][..], &[0; 32], option, &[0; 6], &inner].concat();
        let (mut parsed, frame) = icmp(V6, Reply, head);
        // The checksum is over the sender's address; one that keeps the sum is as good.
        parsed.ttl = 255;
        (parsed, frame)
    };
    let config = Config {
        checksum: false,
        ..Config::default()
    };
    let of = |(mut parsed, frame): (Parsed, Vec<u8>), src: Addr, ttl: u8| {
        (parsed.src, parsed.ttl) = (src, ttl);
        icmp_error(&parsed, &frame, &config, 3)
    };
    let router = 0xfe80 << 112 | 1;
    assert_eq!(of(redirect(0, &[4, 1]), router, 255), about(V6, Protocol::UDP, 2, 1));
    assert_eq!(of(redirect(0, &[4, 1]), router, 254), IcmpError::Invalid);
    assert_eq!(
        of(redirect(0, &[4, 1]), ENDS[1][1], 255),
        IcmpError::Invalid,
        "from afar"
    );
    assert_eq!(
        of(redirect(0, &[4, 0]), router, 255),
        IcmpError::Invalid,
        "an option without a length"
    );
    assert_eq!(of(redirect(0, &[2, 1]), router, 255), IcmpError::None, "another option");
    assert_eq!(of(redirect(1, &[4, 1]), router, 255), IcmpError::None, "another code");
    let (mut short, frame) = redirect(0, &[4, 1]);
    short.end = short.l4 + 39;
    assert_eq!(of((short, frame.clone()), router, 255), IcmpError::Invalid);
    short.end = short.l4 + 41;
    assert_eq!(of((short, frame), router, 255), IcmpError::Invalid);
}

proptest! {
    /// Whatever the bytes and the state are: no panic, and word 0 keeps to its 40 bits.
    #[test]
    fn any_bytes_on_any_state(
        segment in prop::collection::vec(any::<u8>(), 0..80),
        proto in prop::sample::select(vec![1u8, 6, 17, 47, 50, 58, 132, 136]),
        v6: bool, reply: bool, confirmed: bool, checksum: bool, status: u16, left: u32, now: u32,
        mut words: ProtoState,
    ) {
        words[0] &= (1 << 40) - 1;
        let (family, direction) = (if v6 { V6 } else { V4 }, if reply { Reply } else { Original });
        let (parsed, frame) = packet(family, Protocol(proto), direction, &segment);
        let config = Config { checksum, ..Config::default() };
        let view = View { confirmed, status: Status(status), left, proto: words };
        tuple(&parsed, &frame, 0);
        icmp_error(&parsed, &frame, &config, 0);
        match track(&parsed, &frame, &view, direction, &config, now) {
            Outcome::Valid(update) | Outcome::Invalid(Some(update)) => {
                if let Some(state) = update.proto {
                    prop_assert!(state[0] < 1 << 40);
                    prop_assert!(state_word(proto, &state).is_some() == matches!(proto, 6 | 132));
                }
            }
            Outcome::Invalid(None) | Outcome::Reopen => {}
        }
    }
}
