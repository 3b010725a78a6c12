//! What rules are told of a frame at a bridge.

use super::*;
use crate::table::bridge::{BridgePort, Vlans};
use crate::table::iface::IfaceIndex;
use crate::table::rules::carried;
use std::sync::Arc;

const DST: Mac = [2, 0, 0, 0, 0, 1];
const SRC: Mac = [2, 0, 0, 0, 0, 2];

/// A datagram of IPv4, with four bytes of padding.
fn datagram() -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 1, 2], 64).udp(1000, 53);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, b"data").expect("a packet");
    bytes.extend([0xee; 4]);
    bytes
}

fn frame(tags: &[u8], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&DST[..], &SRC, tags, &ethertype.to_be_bytes(), payload].concat()
}

/// Bridge 1, which filters VLANs, and its ports 2 and 3.
fn snapshot() -> Snapshot {
    let link = |ifindex: u32, name: &str| Iface {
        ifindex,
        name: name.into(),
        kind: "veth".into(),
        ..Iface::default()
    };
    let mut vlans = Vlans::default();
    vlans.insert(7, true);
    vlans.pvid = 7;
    let port = |ifindex, name| Iface {
        bridge_port: Some(Arc::new(BridgePort {
            bridge: IfaceIndex(0),
            vlans: vlans.clone(),
            ..BridgePort::default()
        })),
        ..link(ifindex, name)
    };
    let bridge = Iface {
        bridge: Some(Arc::new(Bridge {
            vlans: Some(Vlans::default()),
            vlan_protocol: 0x88a8,
            ..Bridge::default()
        })),
        ..link(1, "br0")
    };
    Snapshot {
        ifaces: Arc::new(vec![bridge, port(2, "p0"), port(3, "p1")]),
        ..Snapshot::default()
    }
}

fn asked<T>(bytes: &[u8], tag: impl Fn(&Layers) -> Option<Tag>, ask: impl FnOnce(&mut AtBridge<'_>) -> T) -> T {
    let snapshot = snapshot();
    let layers = Layers::of(bytes).expect("a frame");
    let mut at = AtBridge {
        bytes,
        dst: DST,
        layers: &layers,
        tag: tag(&layers),
        iif: Some(&snapshot.ifaces[1]),
        oif: Some(&snapshot.ifaces[2]),
        pkttype: OTHERHOST,
        aside: &mut Aside::default(),
        snapshot: &snapshot,
    };
    ask(&mut at)
}

fn read(at: &AtBridge<'_>, base: Base, offset: usize, len: usize) -> Option<Vec<u8>> {
    let mut out = vec![0; len];
    (at.payload(base, offset, &mut out) == Answer::Done).then_some(out)
}

#[test]
fn what_is_listed_is_what_is_answered() {
    asked(
        &frame(&[], 0x0800, &datagram()),
        |layers| layers.tag,
        |at| {
            // Asked of the interpreter, not here.
            let own = [MetaKey::Len, MetaKey::Nfproto, MetaKey::L4proto];
            for &key in MetaKey::ALL {
                let known = own.contains(&key) || at.meta(key) != Fact::Unknown;
                assert_eq!(known, carried::META_OF_FRAMES.contains(&key), "{key:?}");
            }
        },
    );
}

#[test]
fn layers_are_found_behind_one_tag() {
    let ip = datagram();
    for tags in [&[][..], &[0x81, 0, 0x20, 5], &[0x88, 0xa8, 0x20, 5]] {
        let bytes = frame(tags, 0x0800, &ip);
        asked(
            &bytes,
            |layers| layers.tag,
            |at| {
                assert_eq!(at.l4proto(), Some(17));
                assert_eq!(at.length() as usize, ip.len(), "with padding, without the tag");
                assert_eq!(read(at, Base::Transport, 2, 2), Some(vec![0, 53]));
                assert_eq!(read(at, Base::Network, ip.len() - 1, 1), Some(vec![0xee]));
                assert_eq!(read(at, Base::Network, ip.len(), 1), None);
                assert_eq!(at.meta(MetaKey::Protocol), Fact::Bytes2([8, 0]));
                for from in 0..bytes.len() {
                    for len in 1..=(bytes.len() - from).min(20) {
                        assert_eq!(
                            read(at, Base::Link, from, len).as_deref(),
                            Some(&bytes[from..from + len])
                        );
                    }
                }
                assert_eq!(read(at, Base::Link, bytes.len() - 1, 2), None);
            },
        );
    }
    let two = frame(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6], 0x0800, &ip);
    asked(
        &two,
        |layers| layers.tag,
        |at| {
            assert_eq!(
                (at.l4proto(), at.meta(MetaKey::Protocol)),
                (None, Fact::Bytes2([0x81, 0]))
            );
            assert_eq!(read(at, Base::Network, 0, 4), Some(vec![0, 6, 8, 0]));
            assert_eq!(at.payload(Base::Link, 18, &mut [0; 2]), Answer::Unknown);
        },
    );
}

/// A packet that is translated to another station of the bridge gets its address on the way.
#[test]
fn the_destination_is_that_of_by_now() {
    asked(
        &frame(&[], 0x0800, &datagram()),
        |_| None,
        |at| {
            at.dst = [2, 0, 0, 0, 0, 9];
            assert_eq!(read(at, Base::Link, 4, 4), Some(vec![0, 9, 2, 0]));
        },
    );
}

/// The bridge takes tags off, or puts them on.
#[test]
fn loads_of_the_link_layer_see_the_tag_that_the_frame_has_by_now() {
    let ip = datagram();
    let (plain, tagged) = (frame(&[], 0x0800, &ip), frame(&[0x81, 0, 0, 9], 0x0800, &ip));
    asked(
        &tagged,
        |_| None,
        |at| {
            assert_eq!(read(at, Base::Link, 0, plain.len()), Some(plain.clone()));
        },
    );
    asked(
        &plain,
        |_| Some([0x81, 0, 0, 9]),
        |at| {
            assert_eq!(read(at, Base::Link, 0, tagged.len()), Some(tagged.clone()));
        },
    );
}

#[test]
fn what_is_no_right_packet_of_ip_has_no_transport() {
    let mut long = datagram();
    long[3] += 5;
    let mut options = datagram();
    options[0] = 0x44;
    for (ethertype, payload, is_known) in [
        (0x0800, &long[..], true),
        (0x0800, &options, true),
        (0x0800, &datagram()[..19], true),
        (0x88b5, &datagram(), true),
        (0x86dd, &[0x60; 39], true),
    ] {
        let bytes = frame(&[], ethertype, payload);
        assert_eq!(Layers::of(&bytes).expect("a frame").is_known, is_known);
        asked(
            &bytes,
            |_| None,
            |at| {
                assert_eq!(at.l4proto(), None);
                assert_eq!(at.payload(Base::Transport, 0, &mut [0]), Answer::Break);
            },
        );
    }
    let mut v6 = vec![0x60, 0, 0, 0, 0, 0, 0, 64];
    v6.resize(60, 0);
    assert!(!Layers::of(&frame(&[], 0x86dd, &v6)).expect("a frame").is_known);
    assert_eq!(Layers::of(&[0; 13]), None);
    assert_eq!(Layers::of(&frame(&[0x81, 0, 0, 1], 0x0800, &[0])), None);
}

#[test]
fn lengths_have_a_protocol_of_their_own() {
    for (payload, protocol) in [([0x42, 0x42, 3], [0, 4]), ([0xff, 0xff, 0], [0, 1])] {
        asked(
            &frame(&[], 3, &payload),
            |_| None,
            |at| {
                assert_eq!(at.meta(MetaKey::Protocol), Fact::Bytes2(protocol));
                assert_eq!(read(at, Base::Link, 12, 2), Some(vec![0, 3]));
            },
        );
        asked(
            &frame(&[0x81, 0, 0, 9], 3, &payload),
            |layers| layers.tag,
            |at| {
                assert_eq!(
                    read(at, Base::Link, 16, 2),
                    Some(protocol.to_vec()),
                    "as the kernel says it"
                );
            },
        );
    }
}

#[test]
fn facts_of_ports_and_their_bridge() {
    asked(
        &frame(&[], 0x88b5, &[0; 46]),
        |_| None,
        |at| {
            assert_eq!(at.meta(MetaKey::BriIifname), Fact::name("br0"));
            assert_eq!(at.meta(MetaKey::BriIifpvid), Fact::U16(7));
            assert_eq!(at.meta(MetaKey::BriIifvproto), Fact::Bytes2([0x88, 0xa8]));
            assert_eq!(
                (at.meta(MetaKey::Iif), at.meta(MetaKey::Oif)),
                (Fact::U32(2), Fact::U32(3))
            );
            assert_eq!(at.meta(MetaKey::Oifname), Fact::name("p1"));
            at.iif = None;
            assert_eq!(
                (at.meta(MetaKey::Iif), at.meta(MetaKey::Iiftype)),
                (Fact::U32(0), Fact::U16(1))
            );
            assert_eq!(at.meta(MetaKey::BriIifname), Fact::name(""));
            assert_eq!(at.meta(MetaKey::BriIifpvid), Fact::Absent);
            assert_eq!(at.set_meta(MetaKey::Mark, 9u32.to_ne_bytes()), Answer::Done);
            assert_eq!(at.meta(MetaKey::Mark), Fact::U32(9));
        },
    );
    for (dst, kind) in [
        ([0xff; 6], BROADCAST),
        ([1, 0x80, 0xc2, 0, 0, 0], MULTICAST),
        (SRC, HOST),
        (DST, HOST),
        ([2; 6], OTHERHOST),
    ] {
        assert_eq!(pkttype(&dst, &SRC, &DST), kind);
    }
}
