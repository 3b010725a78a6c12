//! Matches one by one: what each says of packets for which it holds and of others, and of the same inverted.
//!
//! The structs are written here as iptables writes them; those of other lengths and revisions are in `tests.rs`.

use super::*;
use crate::table::conntrack::{CtState, Status};

/// From 10.0.0.1 port 1000 to 10.9.9.9 port 8080, which is 10.0.1.2 port 80.
fn tracked() -> Probe {
    use CtKey::{Dst, ProtoDst, ProtoSrc, Src};
    v4().with(|packet| {
        let tuple = [
            (Src, false, [10, 0, 0, 1]),
            (Dst, false, [10, 9, 9, 9]),
            (Src, true, [10, 0, 1, 2]),
            (Dst, true, [10, 0, 0, 1]),
        ];
        let ports = [
            (ProtoSrc, false, 1000u16),
            (ProtoDst, false, 8080),
            (ProtoSrc, true, 80),
            (ProtoDst, true, 1000),
        ];
        packet.ct = HashMap::from([
            ((CtKey::State, None), Fact::U32(CtState::NEW.0)),
            ((CtKey::Status, None), Fact::U32(u32::from(Status::DST_NAT.0))),
            ((CtKey::Direction, None), Fact::U8(0)),
            ((CtKey::Protocol, None), Fact::U8(6)),
            ((CtKey::Expiration, None), Fact::U32(59_999)),
            ((CtKey::Mark, None), Fact::U32(0x21)),
        ]);
        packet
            .ct
            .extend(tuple.map(|(key, reply, address)| ((key, Some(reply)), Fact::Bytes4(address))));
        packet
            .ct
            .extend(ports.map(|(key, reply, port)| ((key, Some(reply)), Fact::Bytes2(port.to_be_bytes()))));
    })
}

/// Of revision 3: what is asked, what of it is inverted, and more.
fn conntrack3(asked: u16, inverted: u16, more: &[(usize, &[u8])]) -> Vec<u8> {
    let flags = words(&[asked, inverted]);
    let mut parts = vec![(146, &flags[..])];
    parts.extend(more);
    info(164, &parts)
}

fn in_state(state: CtState) -> Probe {
    tracked().with_ct((CtKey::State, None), Fact::U32(state.0))
}

#[test]
fn conntrack_states() {
    let states = |mask: u16, inverted: u16| conntrack3(1, inverted, &[(150, &words(&[mask]))]);
    let says = |mask, inverted, packet: &Probe| holds("conntrack", 3, &states(mask, inverted), packet);
    let untracked = Probe {
        ct: HashMap::from([((CtKey::State, None), Fact::U32(CtState::UNTRACKED.0))]),
        ..v4()
    };
    let invalid = Probe {
        ct: HashMap::from([((CtKey::State, None), Fact::U32(CtState::INVALID.0))]),
        ..v4()
    };
    // Established or related; new; invalid; untracked; snat; dnat.
    let expected = [
        (in_state(CtState::NEW), [false, true, false, false, false, true]),
        (in_state(CtState::ESTABLISHED), [true, false, false, false, false, true]),
        (in_state(CtState::RELATED), [true, false, false, false, false, true]),
        (invalid, [false, false, true, false, false, false]),
        (untracked, [false, false, false, true, false, false]),
    ];
    for (packet, holds) in expected {
        let masks = [6, 8, 1, 1 << 8, 1 << 6, 1 << 7];
        assert_eq!(masks.map(|mask| says(mask, 0, &packet)), holds, "{packet:?}");
        assert_eq!(masks.map(|mask| !says(mask, 1, &packet)), holds, "inverted, {packet:?}");
    }
    // Without a connection, nothing else holds; and if a state is asked for that holds, nothing else is looked at.
    let other = conntrack3(2, 2, &[(136, &words(&[17]))]);
    let both = conntrack3(3, 0, &[(136, &words(&[17])), (150, &words(&[1]))]);
    let invalid = v4().with_ct((CtKey::State, None), Fact::U32(1));
    assert!(!holds("conntrack", 3, &other, &invalid) && holds("conntrack", 3, &both, &invalid));
    assert!(holds("conntrack", 3, &other, &tracked()));
    // In revision 1 they are bytes.
    let first = info(152, &[(146, &words(&[1, 0])), (150, &[8, 0])]);
    assert!(holds("conntrack", 1, &first, &in_state(CtState::NEW)));
    assert!(!holds("conntrack", 1, &first, &in_state(CtState::RELATED)));
    let unknown = v4().with_ct((CtKey::State, None), Fact::Unknown);
    assert_eq!(super::says("conntrack", 3, &states(8, 0), &unknown), Said::Unknown);
    assert_eq!(
        a_match("conntrack", 3, &conntrack3(1 << 14, 0, &[]), 2),
        None,
        "a flag that is new"
    );
}

#[test]
fn conntrack_tuples() {
    let mask = [255, 255, 0, 0];
    let sides = [(4, 0, [10, 0]), (8, 32, [10, 9]), (16, 64, [10, 0]), (32, 96, [10, 0])];
    for (flag, at, [first, second]) in sides {
        for (value, matches) in [([first, second, 0, 0], true), ([first, 77, 0, 0], false)] {
            for inverted in [0, flag] {
                let asked = conntrack3(flag, inverted, &[(at, &value), (at + 16, &mask)]);
                assert_eq!(
                    holds("conntrack", 3, &asked, &tracked()),
                    matches != (inverted != 0),
                    "{flag} {value:?}"
                );
            }
        }
    }
    for (at, port) in [1000, 8080, 80, 1000].into_iter().enumerate() {
        let flag = 1 << (8 + at);
        for (first, last, matches) in [
            (port, port, true),
            (port - 9, port + 9, true),
            (port + 1, port + 2, false),
        ] {
            let asked = conntrack3(
                flag,
                0,
                &[(138 + 2 * at, &words(&[first])), (154 + 2 * at, &words(&[last]))],
            );
            assert_eq!(
                holds("conntrack", 3, &asked, &tracked()),
                matches,
                "{at} {first}-{last}"
            );
        }
        // One port, in network order.
        let parts: [(usize, &[u8]); 2] = [(138 + 2 * at, &port.to_be_bytes()), (146, &words(&[flag, 0]))];
        assert!(holds("conntrack", 2, &info(156, &parts), &tracked()));
        assert!(holds("conntrack", 1, &info(152, &parts), &tracked()));
    }
    let no_ports = tracked().with_ct((CtKey::ProtoSrc, Some(false)), Fact::Unknown);
    assert_eq!(
        says("conntrack", 3, &conntrack3(1 << 8, 0, &[]), &no_ports),
        Said::Unknown
    );
    let of_v6 = Probe {
        v6: true,
        ct: HashMap::from([
            ((CtKey::State, None), Fact::U32(8)),
            ((CtKey::Dst, Some(false)), Fact::Bytes16([9; 16])),
        ]),
        ..v6()
    };
    let asked = |last: u8| conntrack3(8, 0, &[(32, &[9; 15]), (47, &[last]), (48, &[255; 16])]);
    assert!(holds("conntrack", 3, &asked(9), &of_v6) && !holds("conntrack", 3, &asked(8), &of_v6));
}

#[test]
fn conntrack_direction_protocol_status_and_time() {
    let reply = tracked().with_ct((CtKey::Direction, None), Fact::U8(1));
    for inverted in [0, 1 << 12] {
        let asked = conntrack3(1 << 12, inverted, &[]);
        assert_eq!(holds("conntrack", 3, &asked, &tracked()), inverted == 0);
        assert_eq!(holds("conntrack", 3, &asked, &reply), inverted != 0);
    }
    let protocol = |number: u16| conntrack3(2, 0, &[(136, &words(&[number]))]);
    assert!(holds("conntrack", 3, &protocol(6), &tracked()) && !holds("conntrack", 3, &protocol(17), &tracked()));
    let status = |bits: u16, inverted: u16| conntrack3(1 << 6, inverted << 6, &[(152, &words(&[bits]))]);
    assert!(holds("conntrack", 3, &status(Status::DST_NAT.0 | 1, 0), &tracked()));
    assert!(!holds("conntrack", 3, &status(Status::ASSURED.0, 0), &tracked()));
    assert!(holds("conntrack", 3, &status(Status::ASSURED.0, 1), &tracked()));
    let time = |least: u32, most: u32| conntrack3(1 << 7, 0, &[(128, &longs(&[least, most]))]);
    assert!(holds("conntrack", 3, &time(59, 59), &tracked()) && !holds("conntrack", 3, &time(60, 90), &tracked()));
    let depends = |info: &[u8]| {
        let it = a_match("conntrack", 3, info, 2).expect("carried");
        (it.depends(), it.asks_assured())
    };
    assert_eq!(depends(&protocol(6)), (Depends::Flow, false));
    assert_eq!(depends(&status(Status::DST_NAT.0, 0)), (Depends::Flow, false));
    assert_eq!(depends(&status(Status::ASSURED.0, 0)), (Depends::Packet, true));
    assert_eq!(depends(&time(1, 2)), (Depends::Packet, false));
}

#[test]
fn state_and_marks() {
    assert!(holds("state", 0, &info(4, &[(0, &longs(&[8 | 2]))]), &tracked()));
    assert!(!holds("state", 0, &info(4, &[(0, &longs(&[4]))]), &tracked()));
    let untracked = v4().with_ct((CtKey::State, None), Fact::U32(64));
    assert!(holds("state", 0, &info(4, &[(0, &longs(&[64]))]), &untracked));
    let mark = |mark: u32, mask: u32, inverted: u8| info(12, &[(0, &longs(&[mark, mask])), (8, &[inverted])]);
    for (name, value, missing) in [("mark", 7, Said::Unknown), ("connmark", 0x21, Said::Break)] {
        assert!(holds(name, 1, &mark(value, u32::MAX, 0), &tracked()));
        assert!(holds(name, 1, &mark(1, 1, 0), &tracked()) && !holds(name, 1, &mark(1, 1, 1), &tracked()));
        assert!(!holds(name, 1, &mark(8, 8, 0), &tracked()));
        let nothing = tracked().with(|packet| {
            packet.ct.clear();
            packet.meta.clear();
        });
        assert_eq!(says(name, 1, &mark(0, 0, 0), &nothing), missing);
        assert_eq!(a_match(name, 1, &mark(0, 0, 2), 2), None);
    }
}

/// Ports from and to, of source and destination; option, mask, value, inversions.
fn tcp(ports: [u16; 4], rest: [u8; 4]) -> Vec<u8> {
    info(12, &[(0, &words(&ports)), (8, &rest)])
}

const ANY: [u16; 4] = [0, 65535, 0, 65535];

#[test]
fn tcp_ports_flags_and_options() {
    let says = |ports, rest| holds("tcp", 0, &tcp(ports, rest), &v4());
    for (ports, matches) in [
        (ANY, true),
        ([1000, 1000, 80, 80], true),
        ([1000, 1000, 81, 90], false),
        ([0, 999, 80, 80], false),
    ] {
        assert_eq!(says(ports, [0; 4]), matches, "{ports:?}");
    }
    assert!(!says([1000, 1000, 0, 65535], [0, 0, 0, 1]) && says([0, 65535, 81, 81], [0, 0, 0, 2]));
    // SYN alone of four; all but that.
    assert!(says(ANY, [0, 0x17, 2, 0]) && !says(ANY, [0, 0x17, 2, 4]) && !says(ANY, [0, 0x12, 0x12, 0]));
    assert!(says(ANY, [2, 0, 0, 0]) && !says(ANY, [2, 0, 0, 8]) && !says(ANY, [3, 0, 0, 0]) && says(ANY, [3, 0, 0, 8]));
    assert_eq!(a_match("tcp", 0, &tcp(ANY, [0, 0, 0, 16]), 2), None);
    let depends = |rest| {
        let it = a_match("tcp", 0, &tcp(ANY, rest), 2).expect("carried");
        (it.depends(), it.is_of_edges())
    };
    use Depends::{Flow, FlowWithFlags, FlowWithPorts, Packet};
    assert_eq!(depends([0; 4]), (Flow, false));
    assert_eq!(depends([0, 0x17, 2, 0]), (FlowWithFlags, true));
    assert_eq!(depends([0, 0x17, 2, 4]), (FlowWithFlags, false));
    assert_eq!(depends([0, 0x06, 0, 0]), (FlowWithFlags, false));
    assert_eq!(depends([0, 0x3f, 0, 0]), (Packet, false));
    assert_eq!(depends([2, 0, 0, 0]), (Packet, false));
    let ports = a_match("tcp", 0, &tcp([0, 65535, 1, 2], [0; 4]), 2).expect("carried");
    assert_eq!(ports.depends(), FlowWithPorts);
}

#[test]
fn what_is_cut_is_dropped_and_later_fragments_pass_by() {
    let any_udp = info(10, &[(0, &words(&ANY))]);
    let any_port = info(48, &[(0, &[1, 2]), (2, &words(&[0, 65535])), (32, &[1])]);
    let any_icmp = info(4, &[(0, &[0xff, 0, 0xff])]);
    let any_mss = info(6, &[(0, &words(&[0, 65535]))]);
    let of_option = tcp(ANY, [3, 0, 0, 8]);
    for (name, revision, info, len) in [
        ("tcp", 0, &tcp(ANY, [0; 4]), 20),
        ("tcp", 0, &of_option, 24),
        ("udp", 0, &any_udp, 8),
        ("multiport", 1, &any_port, 4),
        ("icmp", 0, &any_icmp, 8),
        ("tcpmss", 0, &any_mss, 24),
    ] {
        let cut = |len: usize| v4().with(|packet| packet.bytes.truncate(20 + len));
        assert_eq!(says(name, revision, info, &cut(len)), Said::On, "{name} of {len} bytes");
        assert_eq!(
            says(name, revision, info, &cut(len - 1)),
            Said::Drop,
            "{name} of {} bytes",
            len - 1
        );
        let fragment = |offset: u8| v4().with(|packet| packet.bytes[7] = offset);
        let passes_by = if name == "tcpmss" { Said::Unknown } else { Said::Break };
        assert_eq!(says(name, revision, info, &fragment(2)), passes_by, "{name}");
        let second = if name == "tcp" { Said::Drop } else { passes_by };
        assert_eq!(says(name, revision, info, &fragment(1)), second, "{name}");
    }
    let short = v4().with(|packet| packet.bytes[32] = 0x40);
    assert_eq!(says("tcp", 0, &of_option, &short), Said::Drop, "a header of 16 bytes");
    assert_eq!(
        says("tcp", 0, &tcp(ANY, [0; 4]), &short),
        Said::On,
        "nobody looks at that"
    );
    // An option whose length leads beyond the end, or is none.
    let odd = v4().with(|packet| packet.bytes[40..44].copy_from_slice(&[8, 0, 5, 90]));
    assert!(holds("tcp", 0, &tcp(ANY, [5, 0, 0, 0]), &odd) && !holds("tcp", 0, &tcp(ANY, [90, 0, 0, 0]), &odd));
}

#[test]
fn udp_multiport_and_icmp() {
    let udp = |ports: [u16; 4], inverted: u8| info(10, &[(0, &words(&ports)), (8, &[inverted])]);
    assert!(holds("udp", 0, &udp([1000, 1000, 80, 90], 0), &v4()));
    assert!(!holds("udp", 0, &udp([1000, 1000, 80, 90], 2), &v4()));
    assert!(holds("udp", 0, &udp([1, 2, 80, 90], 1), &v6()));
    assert_eq!(a_match("udp", 0, &udp(ANY, 4), 2), None);
    // 22, 79-81, 443: 2 is a beginning.
    let ports = |side: u8, inverted: u8| {
        info(
            48,
            &[
                (0, &[side, 4]),
                (2, &words(&[22, 79, 81, 443])),
                (32, &[0, 1, 0, 0]),
                (47, &[inverted]),
            ],
        )
    };
    let says = |side, inverted| holds("multiport", 1, &ports(side, inverted), &v4());
    assert!(!says(0, 0) && says(1, 0) && says(2, 0) && says(0, 1) && !says(1, 1) && !says(2, 1));
    let broken = |at: usize, byte: u8| {
        let mut info = ports(1, 0);
        info[at] = byte;
        a_match("multiport", 1, &info, 2)
    };
    assert!(broken(35, 1).is_none() && broken(1, 16).is_none() && broken(0, 3).is_none() && broken(47, 2).is_none());
    assert!(broken(36, 1).is_some(), "behind the last one");
    let icmp = |kind: u8, first: u8, last: u8, inverted: u8| info(4, &[(0, &[kind, first, last, inverted])]);
    let echo = v4().with(|packet| packet.bytes[20..22].copy_from_slice(&[3, 4]));
    for (info, matches) in [
        (icmp(3, 0, 255, 0), true),
        (icmp(3, 4, 4, 0), true),
        (icmp(3, 5, 9, 0), false),
        (icmp(8, 0, 255, 0), false),
        (icmp(8, 0, 255, 1), true),
        (icmp(0xff, 0, 255, 0), true),
        (icmp(0xff, 0, 255, 1), false),
    ] {
        assert_eq!(holds("icmp", 0, &info, &echo), matches, "{info:?}");
    }
    assert!(
        !holds("icmp6", 0, &icmp(0xff, 0, 255, 0), &v6()),
        "255 is a type of IPv6"
    );
    assert_eq!(
        (
            a_match("icmp", 0, &icmp(1, 0, 0, 0), 10),
            a_match("icmp6", 0, &icmp(1, 0, 0, 0), 2)
        ),
        (None, None)
    );
}

/// Each kind of header is asked for, and whatever of it: a packet without any is none of them.
#[test]
fn extension_headers() {
    for (name, size) in [("rt", 280), ("frag", 16), ("hbh", 40), ("dst", 40)] {
        for bytes in [vec![0; size], vec![0xff; size]] {
            assert!(!holds(name, 0, &bytes, &v6()), "{name}");
            for next in [0, 43, 44, 51, 60] {
                let packet = v6().with(|packet| packet.bytes[6] = next);
                let it = a_match(name, 0, &bytes, NFPROTO_IPV6).expect("carried");
                assert_eq!(it.says(&mut packet.clone()), Said::Unknown, "{name} of {next}");
            }
        }
        assert_eq!(a_match(name, 0, &vec![0; size], NFPROTO_IPV4), None);
    }
}

#[test]
fn headers() {
    let length = |least: u16, most: u16, inverted: u8| info(6, &[(0, &words(&[least, most])), (4, &[inverted])]);
    assert!(holds("length", 0, &length(44, 44, 0), &v4()) && !holds("length", 0, &length(44, 44, 1), &v4()));
    assert!(!holds("length", 0, &length(45, 99, 0), &v4()) && holds("length", 0, &length(64, 64, 0), &v6()));
    let hops = |mode: u8, than: u8| info(2, &[(0, &[mode, than])]);
    for (name, packet) in [("ttl", v4()), ("hl", v6())] {
        let expected = [
            (0, 64, true),
            (0, 63, false),
            (1, 63, true),
            (1, 64, false),
            (2, 65, true),
            (2, 64, false),
        ];
        for (mode, than, matches) in expected.into_iter().chain([(3, 63, true), (3, 64, false)]) {
            assert_eq!(
                holds(name, 0, &hops(mode, than), &packet),
                matches,
                "{name} {mode} {than}"
            );
        }
        assert_eq!(a_match(name, 0, &hops(4, 1), packet.nfproto()), None);
    }
    for packet in [v4(), v6()] {
        // 0xb8 is EF.
        assert!(holds("dscp", 0, &info(2, &[(0, &[46, 0])]), &packet), "{packet:?}");
        assert!(!holds("dscp", 0, &info(2, &[(0, &[46, 1])]), &packet));
        assert!(holds("tos", 1, &info(3, &[(0, &[0xf0, 0xb0, 0])]), &packet));
        assert!(holds("tos", 1, &info(3, &[(0, &[0xff, 0xb0, 1])]), &packet));
    }
    assert_eq!(a_match("dscp", 0, &info(2, &[(0, &[64, 0])]), 2), None);
    let range = |flags: u8| {
        let (first, last) = ([10, 0, 1, 0], [10, 0, 1, 9]);
        info(
            68,
            &[
                (0, &[10, 0, 0, 1]),
                (16, &[10, 0, 0, 1]),
                (32, &first),
                (48, &last),
                (64, &[flags]),
            ],
        )
    };
    let says = |flags| holds("iprange", 1, &range(flags), &v4());
    assert!(says(1) && says(2) && says(3) && says(0) && !says(0x11) && !says(0x22) && !says(0x13));
    assert_eq!(a_match("iprange", 1, &range(4), 2), None);
    let of_v6 = info(68, &[(0, &[0x20; 16]), (16, &[0x20; 16]), (64, &[1])]);
    assert!(
        holds("iprange", 1, &of_v6, &v6()) && a_match("iprange", 1, &of_v6, 10).unwrap().depends() == Depends::Flow
    );
    let mss = |least: u16, most: u16, inverted: u8| info(6, &[(0, &words(&[least, most])), (4, &[inverted])]);
    assert!(holds("tcpmss", 0, &mss(1460, 1460, 0), &v4()) && !holds("tcpmss", 0, &mss(1, 1459, 0), &v4()));
    let none = v4().with(|packet| packet.bytes[32] = 0x50);
    assert!(!holds("tcpmss", 0, &mss(0, 65535, 0), &none) && holds("tcpmss", 0, &mss(0, 65535, 1), &none));
}

#[test]
fn types_of_addresses() {
    let (source, destination) = (FibFlags::SADDR, FibFlags::DADDR);
    let typed = |packet: Probe, from: u32, to: u32| {
        packet.with(|packet| {
            packet
                .types
                .extend([(source, Fact::U32(from)), (destination, Fact::U32(to))])
        })
    };
    let first = |source: u16, destination: u16, flags: u32| {
        info(8, &[(0, &words(&[source, destination])), (4, &longs(&[flags]))])
    };
    // From unicast to local.
    let packet = typed(v4(), 1, 2);
    for (source, destination, flags, matches) in [
        (0, 4, 0, true),
        (2, 0, 0, true),
        (2, 4, 0, true),
        (4, 4, 0, false),
        (4, 4, 1, true),
        (0, 4, 2, false),
        (0, 0x28, 0, false),
        (0, 0x28, 2, true),
        (0, 0, 3, true),
    ] {
        let info = first(source, destination, flags);
        assert_eq!(
            holds("addrtype", 1, &info, &packet),
            matches,
            "{source} {destination} {flags}"
        );
        let old = super::info(
            12,
            &[
                (0, &words(&[source, destination])),
                (4, &longs(&[flags & 1, flags >> 1])),
            ],
        );
        assert_eq!(
            holds("addrtype", 0, &old, &packet),
            matches,
            "{source} {destination} {flags}"
        );
    }
    assert_eq!(says("addrtype", 1, &first(0, 4, 0), &v4()), Said::Unknown);
    assert_eq!(
        a_match("addrtype", 1, &first(0, 4, 4), 2),
        None,
        "of the link of arrival"
    );
    assert_eq!(a_match("addrtype", 1, &first(0, 4, 8), 2), None);
    // IPv6: what it looks like and where it leads to.
    let packet = typed(v6(), 1, 2);
    for (bits, matches) in [
        (4, true),
        (2, true),
        (6, true),
        (0x20, false),
        (1, false),
        (0x24, false),
    ] {
        assert_eq!(holds("addrtype", 1, &first(0, bits, 0), &packet), matches, "{bits}");
    }
    assert!(!holds("addrtype", 1, &first(4, 0, 0), &packet) && holds("addrtype", 1, &first(2, 0, 0), &packet));
    for bits in [0x10, 0x80, 8] {
        assert_eq!(a_match("addrtype", 1, &first(0, bits, 0), 10), None, "{bits}");
    }
    let mapped = packet.with(|packet| {
        packet.bytes[24..34].fill(0);
        packet.bytes[34..36].fill(0xff);
    });
    assert_eq!(says("addrtype", 1, &first(0, 2, 0), &mapped), Said::Unknown);
}

#[test]
fn what_is_the_same_for_all() {
    let host = v4().with_meta(MetaKey::Pkttype, Fact::U8(0));
    let pkttype = |kind: u32, inverted: u32| info(8, &[(0, &longs(&[kind, inverted]))]);
    assert!(holds("pkttype", 0, &pkttype(0, 0), &host) && !holds("pkttype", 0, &pkttype(1, 0), &host));
    assert!(holds("pkttype", 0, &pkttype(2, 1), &host));
    assert!(holds("comment", 0, &info(256, &[(0, b"said")]), &v4()));
    let owner = |asked: u8, inverted: u8| holds("owner", 1, &info(20, &[(16, &[asked, inverted])]), &v4());
    assert!(!owner(1, 0) && owner(1, 1) && !owner(3, 1));
    let policy = |flags: u16| holds("policy", 0, &info(308, &[(304, &words(&[flags]))]), &v4());
    assert!(policy(1 | 4) && !policy(1) && policy(2 | 4) && !policy(2));
}
