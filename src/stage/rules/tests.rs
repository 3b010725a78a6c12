//! What rules are told of a packet at forward.

use super::*;
use crate::packet::PortIndex;
use crate::port::MemPool;
use crate::stage::prerouting::{Aside, CtMark};
use crate::stage::{prerouting, rx};
use crate::table::fib::{Action, Fib, Gateway, Nexthop, Route, Rule, TABLE_MAIN};
use crate::table::iface::IfaceIndex;
use crate::table::rules::carried;
use crate::table::rules::expr::FibFlags;
use crate::table::rules::keys::FibResult;
use std::ops::ControlFlow::Continue;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A TCP segment of IPv4 or IPv6, with a trailer of padding behind it.
fn frame(v6: bool) -> Vec<u8> {
    let ethernet = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], MAC);
    let ip = match v6 {
        true => ethernet.ipv6([1; 16], [2; 16], 64),
        false => ethernet.ipv4([10, 0, 0, 1], [10, 0, 1, 2], 64),
    };
    let mut bytes = Vec::new();
    ip.tcp(1000, 443, 7, 1000).write(&mut bytes, b"data").expect("a frame");
    bytes.extend([0xee; 4]);
    bytes
}

fn link(ifindex: u32) -> Iface {
    Iface {
        ifindex,
        name: format!("d{ifindex}").into(),
        group: 7,
        kind: "veth".into(),
        ..Iface::default()
    }
}

/// What `ask` is told of that packet, with a connection that it begins or without.
fn asked<T>(v6: bool, begins: bool, ask: impl FnOnce(&mut AtHook<'_>, &[u8]) -> T) -> T {
    asked_of(&Snapshot::default(), v6, begins, ask)
}

/// The same in a configuration, where the packet comes in by link 0 and leaves by link 1.
fn asked_of<T>(snapshot: &Snapshot, v6: bool, begins: bool, ask: impl FnOnce(&mut AtHook<'_>, &[u8]) -> T) -> T {
    let bytes = frame(v6);
    let mut at_hand = MemPool::new(1, 2048, 256).take(1).remove(0);
    at_hand.fill(&bytes);
    let Continue(mut packet) = rx::parse_bytes(&bytes, PortIndex(0), &MAC) else {
        panic!("it is right");
    };
    let (iif, oif) = (link(3), link(4));
    let mut aside = Aside::default();
    let begun = &mut aside.begun;
    begun.original = prerouting::tuple(&packet, &bytes).expect("a tuple");
    begun.reply = begun.original.invert().expect("an answer");
    begun.mark = 5;
    begun.status = Status::CONFIRMED;
    let tracked = Tracked {
        state: if begins { CtState::NEW } else { CtState::INVALID },
        of: if begins { Of::Unconfirmed } else { Of::Nothing },
        kill: false,
    };
    let mut at = AtHook {
        point: Point::Forward,
        packet: &mut packet,
        frame: &mut at_hand,
        iif: &iif,
        oif: Some((&oif, 1500)),
        ports: None,
        tracked: Some(&tracked),
        aside: &mut aside,
        snapshot,
        now: 0,
    };
    ask(&mut at, &bytes)
}

#[test]
fn the_packet_has_one_hop_less() {
    for v6 in [false, true] {
        asked(v6, true, |at, bytes| {
            let mut sent = bytes[..bytes.len() - 4].to_vec();
            match v6 {
                true => sent[14 + 7] = 63,
                false => crate::wire::ipv4::Packet::new_checked(&mut sent[14..])
                    .expect("IPv4")
                    .decrement_ttl(),
            }
            for (base, from) in [
                (Base::Link, 0),
                (Base::Network, 14),
                (Base::Transport, if v6 { 54 } else { 34 }),
            ] {
                for start in from..sent.len() {
                    for len in 1..=(sent.len() - start).min(20) {
                        let mut out = vec![0; len];
                        assert_eq!(at.payload(base, start - from, &mut out), Answer::Done);
                        assert_eq!(out, sent[start..start + len], "{base:?} {start} {len}");
                    }
                }
                // Padding is no part of the packet.
                assert_eq!(at.payload(base, sent.len() - from, &mut [0]), Answer::Break);
            }
            assert_eq!(at.length() as usize, sent.len() - 14);
        });
    }
}

/// The lists by which rules are told carried from punted are those of what is answered here.
#[test]
fn what_is_listed_is_what_is_answered() {
    // Asked of the interpreter, not here.
    let own = [MetaKey::Len, MetaKey::Nfproto, MetaKey::L4proto];
    asked(false, true, |at, _| {
        for &key in MetaKey::ALL {
            let known = own.contains(&key) || at.meta(key) != Fact::Unknown;
            assert_eq!(known, carried::META.contains(&key), "{key:?}");
        }
        for &key in CtKey::ALL {
            // Of a connection that only begins, nobody knows when it will end.
            let known = key == CtKey::Expiration || at.ct(key, Some(false)) != Fact::Unknown;
            assert_eq!(known, carried::CT.contains(&key), "{key:?}");
        }
    });
}

#[test]
fn facts_of_links_and_connection() {
    asked(false, true, |at, _| {
        assert_eq!(at.meta(MetaKey::Iif), Fact::U32(3));
        assert_eq!(at.meta(MetaKey::Oifname), Fact::name("d4"));
        assert_eq!(at.meta(MetaKey::Protocol), Fact::Bytes2([8, 0]));
        assert_eq!(
            (at.meta(MetaKey::Oifgroup), at.meta(MetaKey::Iifkind)),
            (Fact::U32(7), Fact::name("veth"))
        );
        assert_eq!(at.ct(CtKey::State, None), Fact::U32(8));
        assert_eq!(
            (at.ct(CtKey::Status, None), at.ct(CtKey::Mark, None)),
            (Fact::U32(0), Fact::U32(5))
        );
        assert_eq!(at.ct(CtKey::SrcIp, Some(true)), Fact::Bytes4([10, 0, 1, 2]));
        assert_eq!(at.ct(CtKey::SrcIp6, Some(true)), Fact::Absent);
        assert_eq!(at.ct(CtKey::ProtoDst, Some(false)), Fact::Bytes2([1, 0xbb]));
    });
    asked(true, true, |at, _| {
        assert_eq!(at.ct(CtKey::DstIp6, Some(false)), Fact::Bytes16([2; 16]));
        assert_eq!((at.nfproto(), at.l4proto()), (10, Some(6)));
    });
    asked(false, false, |at, _| {
        assert_eq!(at.ct(CtKey::State, None), Fact::U32(1));
        assert_eq!(at.ct(CtKey::Mark, None), Fact::Absent);
    });
}

#[test]
fn a_mark_is_seen_by_what_comes_behind() {
    asked(false, true, |at, _| {
        assert_eq!(at.set_meta(MetaKey::Mark, 7u32.to_ne_bytes()), Answer::Done);
        assert_eq!(at.meta(MetaKey::Mark), Fact::U32(7));
        assert_eq!(at.set_meta(MetaKey::Priority, 9u32.to_ne_bytes()), Answer::Done);
        assert_eq!(at.meta(MetaKey::Priority), Fact::U32(9));
        assert_eq!(at.set_meta(MetaKey::Nftrace, [0; 4]), Answer::Unknown);
    });
}

#[test]
fn a_mark_of_a_connection_that_begins_is_its_own() {
    asked(false, true, |at, _| {
        let mut value = [0xff; 16];
        value[..4].copy_from_slice(&7u32.to_ne_bytes());
        assert_eq!(at.set_ct(CtKey::Mark, None, value), Answer::Done);
        assert_eq!(at.ct(CtKey::Mark, None), Fact::U32(7));
        assert_eq!((at.aside.begun.mark, at.aside.ct_mark), (7, CtMark::default()));
        assert_eq!(at.set_ct(CtKey::Zone, None, value), Answer::Unknown);
    });
    asked(false, false, |at, _| {
        assert_eq!(at.set_ct(CtKey::Mark, None, [9; 16]), Answer::Done, "nothing is done");
        assert_eq!(at.ct(CtKey::Mark, None), Fact::Absent);
        assert_eq!((at.aside.begun.mark, at.aside.ct_mark), (5, CtMark::default()));
    });
}

/// What is written there leaves a right checksum right.
#[test]
fn tcp_is_written_with_its_checksum() {
    for v6 in [false, true] {
        asked(v6, true, |at, bytes| {
            let holds = |frame: &[u8], packet: &Parsed| {
                let segment = &frame[usize::from(packet.l4)..usize::from(packet.end)];
                let tcp = crate::wire::tcp::Packet::new_checked(segment).expect("TCP");
                let pseudo = match packet.family {
                    Family::V4 => checksum::pseudo_v4(packet.src as u32, packet.dst as u32, 6, segment.len() as u16),
                    Family::V6 => checksum::pseudo_v6(packet.src, packet.dst, 6, segment.len() as u32),
                };
                tcp.verify_checksum(pseudo)
            };
            assert!(holds(bytes, at.packet));
            assert_eq!(at.store_tcp(14, &[0xab, 0xcd]), Answer::Done);
            assert!(holds(at.frame.bytes(), at.packet));
            let l4 = usize::from(at.packet.l4);
            assert_eq!(at.frame.bytes()[l4 + 14..l4 + 16], [0xab, 0xcd]);
            assert_eq!(at.store_tcp(200, &[0; 2]), Answer::Unknown, "beyond what is saved");
        });
    }
}

/// A configuration of the two links in which routes lead to the packet's source by these, and nowhere else.
fn routed(family: Family, kind: RouteKind, links: &[u16], left: bool) -> Snapshot {
    let nexthop = |&at: &u16| Nexthop {
        iface: IfaceIndex(at),
        gateway: Gateway::Onlink,
    };
    let route = Route {
        kind,
        nexthops: links.iter().map(nexthop).collect(),
        mtu: 0,
        left: left.then(|| "a reason".into()),
    };
    let mut fib = Fib::with_default_rules(family);
    let main = fib.table(TABLE_MAIN);
    let (prefix, len) = match family {
        Family::V4 => (0x0a00_0000, 24),
        Family::V6 => (u128::from_be_bytes([1; 16]) >> 64 << 64, 64),
    };
    fib.tables[main].1.insert(prefix, len, route.into());
    let mut snapshot = Snapshot {
        ifaces: vec![link(3), link(4)].into(),
        ..Snapshot::default()
    };
    snapshot.fib[family as usize] = fib;
    snapshot
}

#[test]
fn routes_name_a_link_or_none_or_it_is_not_known() {
    const SADDR: u32 = FibFlags::SADDR;
    const BY_IIF: u32 = FibFlags::SADDR | FibFlags::IIF;
    use RouteKind::{Local, Refused, Unicast};
    let (none, unknown) = (Fact::U32(0), Fact::Unknown);
    for family in Family::ALL {
        let v6 = family == Family::V6;
        let several = |fact: Fact| if v6 { Fact::Unknown } else { fact };
        for (kind, links, left, flags, expected) in [
            (Unicast, &[0][..], false, SADDR, Fact::U32(3)),
            (Unicast, &[1], false, SADDR, Fact::U32(4)),
            (Unicast, &[0], false, BY_IIF, Fact::U32(3)),
            (Unicast, &[1], false, BY_IIF, none),
            (Unicast, &[1, 0], false, SADDR, unknown),
            (Unicast, &[1, 0], false, BY_IIF, several(Fact::U32(3))),
            (Unicast, &[1, 1], false, BY_IIF, several(none)),
            (Unicast, &[0], true, BY_IIF, unknown),
            (Local, &[], false, SADDR, none),
            (Refused, &[], false, BY_IIF, none),
            (Unicast, &[0], false, FibFlags::DADDR, none),
        ] {
            let snapshot = routed(family, kind, links, left);
            asked_of(&snapshot, v6, true, |at, _| {
                at.point = Point::Prerouting;
                let what = format!("{family:?} {kind:?} {links:?} {flags}");
                assert_eq!(at.fib(FibResult::Oif, FibFlags(flags)), expected, "{what}");
                let present = match expected {
                    Fact::U32(number) => Fact::U8((number != 0).into()),
                    other => other,
                };
                let flags = FibFlags(flags | FibFlags::PRESENT);
                assert_eq!(at.fib(FibResult::Oifname, flags), present, "{what}");
            });
        }
    }
}

/// A mark matters where some rule asks for it, and where the packet was going, at forward.
#[test]
fn routes_by_mark_and_by_the_way_out() {
    let mut snapshot = routed(Family::V4, RouteKind::Unicast, &[0], false);
    let ask = |at: &AtHook<'_>, flags: u32| at.fib(FibResult::Oif, FibFlags(FibFlags::SADDR | flags));
    asked_of(&snapshot, false, true, |at, _| {
        at.aside.mark = 7;
        assert_eq!(ask(at, FibFlags::MARK), Fact::U32(3));
    });
    snapshot.rules_by_mark[Family::V4 as usize] = true;
    asked_of(&snapshot, false, true, |at, _| {
        assert_eq!(ask(at, FibFlags::MARK), Fact::U32(3));
        at.aside.mark = 7;
        assert_eq!((ask(at, FibFlags::MARK), ask(at, 0)), (Fact::Unknown, Fact::U32(3)));
    });
    // A rule that selects what came in by the way out.
    let mut rules = snapshot.fib[0].rules.to_vec();
    rules.insert(
        0,
        Rule {
            iif: Some(IfaceIndex(1)),
            action: Action::Refuse,
            ..Rule::lookup(5, 0)
        },
    );
    snapshot.fib[0].rules = rules.into();
    asked_of(&snapshot, false, true, |at, _| {
        assert_eq!((ask(at, FibFlags::IIF), ask(at, 0)), (Fact::U32(0), Fact::U32(3)));
        at.point = Point::Prerouting;
        assert_eq!(ask(at, FibFlags::IIF), Fact::U32(3));
    });
}

#[test]
fn what_has_no_connection_may_be_said_to_be_not_tracked() {
    asked(false, false, |at, _| {
        at.tracked = None;
        assert_eq!(at.ct(CtKey::State, None), Fact::U32(CtState::INVALID.0));
        assert_eq!(at.notrack(), Answer::Done);
        assert_eq!(at.ct(CtKey::State, None), Fact::U32(CtState::UNTRACKED.0));
        assert_eq!(at.ct(CtKey::Direction, None), Fact::Absent);
    });
    asked(false, true, |at, _| {
        assert_eq!(at.notrack(), Answer::Done);
        assert_eq!(at.ct(CtKey::State, None), Fact::U32(CtState::NEW.0), "it is tracked");
    });
}

/// What is written at a hook behind forward is, when the packet is sent, what the kernel would have written after its step.
#[test]
fn headers_are_written_as_the_kernel_sends_them() {
    let own = |own: Option<u8>| ChecksumFix {
        own,
        pseudo_header: false,
    };
    for (v6, offset, bytes, tos, ttl) in [
        (false, 0, &[0x45, 0x88][..], 0x88, 64),
        (false, 8, &[65, 6], 0, 66),
        (true, 0, &[0x68, 0x80], 0x88, 64),
        (true, 7, &[9], 0, 10),
    ] {
        asked(v6, true, |at, bytes_before| {
            let fix = own((!v6).then_some(10));
            assert_eq!(at.store(Base::Network, offset, bytes, fix), Answer::Done);
            let mut read = vec![0; bytes.len()];
            assert_eq!(at.payload(Base::Network, offset, &mut read), Answer::Done);
            assert_eq!(read, bytes, "what is written is read");
            assert_eq!((at.packet.tos, at.packet.ttl), (tos, ttl));
            let mut sent = at.frame.bytes().to_vec();
            if !v6 {
                let mut ip = crate::wire::ipv4::Packet::new_checked(&mut sent[14..]).expect("IPv4");
                ip.decrement_ttl();
                assert!(checksum::holds(&sent[14..34]));
                assert_ne!(sent[24..26], bytes_before[24..26]);
            }
        });
    }
    // Another length, protocol, flow label; an address; a port; a hop more than there are; no checksum, and one too many.
    for (v6, base, offset, bytes, fix) in [
        (false, Base::Network, 0, &[0x46, 0][..], Some(10)),
        (false, Base::Network, 8, &[63, 17], Some(10)),
        (false, Base::Network, 12, &[10, 0], Some(10)),
        (false, Base::Transport, 2, &[0, 80], Some(16)),
        (false, Base::Network, 8, &[255, 6], Some(10)),
        (false, Base::Network, 0, &[0x45, 4], None),
        (true, Base::Network, 0, &[0x60, 0x01], None),
        (true, Base::Network, 7, &[255], None),
        (true, Base::Network, 0, &[0x60, 0x10], Some(10)),
        (true, Base::Network, 6, &[17], None),
    ] {
        asked(v6, true, |at, before| {
            assert_eq!(
                at.store(base, offset, bytes, own(fix)),
                Answer::Unknown,
                "{base:?} {offset} {bytes:?}"
            );
            assert_eq!(at.frame.bytes(), before);
        });
    }
}
