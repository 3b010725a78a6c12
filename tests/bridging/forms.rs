//! The form in which a bridged frame leaves: untouched, but for its VLAN tag and for partial checksums; and what the trace says.

use super::Walks;
use super::bridge::*;
use super::lab;
use bypath::packet::{Family, PortIndex, PuntReason, Verdict};
use bypath::table::Snapshot;
use bypath::table::fdb::EntryFlags;
use bypath::worker::pipeline::Stage;

const P0: PortIndex = PortIndex(0);
const P2: PortIndex = PortIndex(2);

/// A bridge that filters VLANs of `protocol`: on port 0 the untagged one is 10, 20 and 30 are tagged; on port 2, 10 leaves with
/// a tag, 20 without, 30 with one. Stations 0 and 2 are known in all.
fn filtering(protocol: u16) -> Snapshot {
    let mut snapshot = snapshot(1, lab::FAR);
    let bridge = bridge_mut(&mut snapshot);
    (bridge.vlans, bridge.vlan_protocol) = (Some(Default::default()), protocol);
    let (from, to) = (
        [(10, true), (20, false), (30, false)],
        [(10, false), (20, true), (30, false)],
    );
    for (port, vlans) in [(P0, from), (P2, to)] {
        for (vid, untagged) in vlans {
            port_mut(&mut snapshot, port).vlans.insert(vid, untagged);
        }
    }
    port_mut(&mut snapshot, P0).vlans.pvid = 10;
    port_mut(&mut snapshot, P2).vlans.pvid = 20;
    for vid in [10, 20, 30] {
        learn(&snapshot, station(0), vid, link(P0), 0);
        learn(&snapshot, station(2), vid, link(P2), 0);
    }
    snapshot
}

fn tag(protocol: u16, tci: u16) -> Vec<u8> {
    [protocol.to_be_bytes(), tci.to_be_bytes()].concat()
}

/// How a frame of `head` from station 0 to station 2 leaves.
fn leaves(snapshot: &Snapshot, head: &[u8]) -> Vec<u8> {
    let (port, frame) = Walks::new().out(snapshot, P0, &frame(station(2), station(0), head, 50));
    assert_eq!(port, P2);
    let (payload, plain) = (&frame[frame.len() - 50..], (0..50).collect::<Vec<u8>>());
    assert_eq!(payload, plain);
    assert_eq!(frame[..12], [station(2), station(0)].concat());
    frame[12..frame.len() - 50].to_vec()
}

#[test]
fn tags_go_in_and_out_as_the_egress_port_says() {
    for (protocol, other) in [(0x8100, 0x88a8), (0x88a8, 0x8100)] {
        let snapshot = filtering(protocol);
        let leaves = |parts: &[&[u8]]| leaves(&snapshot, &parts.concat());
        let (t, ip) = (|tci| tag(protocol, tci), &[8, 0][..]);
        // Untagged: VLAN 10, which leaves with a tag.
        assert_eq!(leaves(&[ip]), [&t(10), ip].concat());
        // A priority alone likewise, and keeps it.
        assert_eq!(leaves(&[&t(0x6000), ip]), [&t(0x600a), ip].concat());
        assert_eq!(leaves(&[&t(0xb00a), ip]), [&t(0xb00a), ip].concat(), "as it came");
        // VLAN 20 leaves without.
        assert_eq!(leaves(&[&t(0x2014), ip]), ip);
        assert_eq!(leaves(&[&t(30), ip]), [&t(30), ip].concat());
        // A tag of another protocol is the frame's own, and so is the second one.
        assert_eq!(
            leaves(&[&tag(other, 20), ip]),
            [&t(10), &tag(other, 20)[..], ip].concat()
        );
        assert_eq!(leaves(&[&t(20), &tag(other, 7), ip]), [&tag(other, 7), ip].concat());
        assert_eq!(leaves(&[&t(20), &t(20), ip]), [&t(20), ip].concat());
    }
}

#[test]
fn a_bridge_that_does_not_filter_leaves_tags_alone() {
    let snapshot = snapshot(1, lab::FAR);
    for head in [
        tag(0x8100, 0x2014),
        tag(0x88a8, 0),
        [tag(0x88a8, 5), tag(0x8100, 6)].concat(),
    ] {
        let head = [&head[..], &[8, 0]].concat();
        assert_eq!(leaves(&snapshot, &head), head);
    }
}

#[test]
fn a_frame_that_gets_its_tag_here_must_fit_with_it() {
    let mut snapshot = filtering(0x8100);
    iface_mut(&mut snapshot, P2).mtu = [1000; 2];
    let verdict = |len| Walks::new().verdict(&snapshot, P0, &frame(station(2), station(0), &[8, 0], len));
    assert_eq!(verdict(1000), Verdict::Forward(P2));
    assert_eq!(verdict(1001), Verdict::Punt(PuntReason::MtuExceeded));
    // One that loses it leaves it out of the count.
    let tagged = |len| frame(station(2), station(0), &[0x81, 0, 0, 20, 8, 0], len);
    assert!(matches!(
        Walks::new().verdict(&snapshot, P0, &tagged(1004)),
        Verdict::Forward(_)
    ));
    assert!(matches!(
        Walks::new().verdict(&snapshot, P0, &tagged(1005)),
        Verdict::Drop(_)
    ));
}

/// The checksum field of a UDP packet, whose IP header starts at `l3`.
fn checksum_at(family: Family, l3: usize) -> usize {
    l3 + if family == Family::V4 { 26 } else { 46 }
}

/// A sender on this machine leaves the sum of the pseudo-header there.
fn make_partial(packet: &mut [u8], family: Family, l3: usize) {
    let (addresses, len) = match family {
        Family::V4 => (l3 + 12..l3 + 20, packet.len() - l3 - 20),
        Family::V6 => (l3 + 8..l3 + 40, packet.len() - l3 - 40),
    };
    let words = packet[addresses]
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let mut sum: u32 = words.sum::<u32>() + 17 + len as u32;
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let at = checksum_at(family, l3);
    packet[at..at + 2].copy_from_slice(&(sum as u16).to_be_bytes());
}

#[test]
fn partial_checksums_are_completed_behind_tags_too_and_before_a_punt() {
    let snapshot = snapshot(1, lab::FAR);
    let tags = [vec![], tag(0x8100, 5), [tag(0x88a8, 5), tag(0x8100, 6)].concat()];
    for (family, tags) in Family::ALL
        .into_iter()
        .flat_map(|f| tags.iter().map(move |tags| (f, tags)))
    {
        let mut whole = udp(family, station(2), station(0), 31);
        whole.splice(12..12, tags.iter().copied());
        let mut partial = whole.clone();
        make_partial(&mut partial, family, 14 + tags.len());
        assert_ne!(partial, whole);
        assert_eq!(
            Walks::new().out(&snapshot, P0, &partial),
            (P2, whole.clone()),
            "{tags:02x?}"
        );
        // The kernel would take the one that is punted for whole.
        for mac in [&mut partial, &mut whole] {
            mac[6..12].copy_from_slice(&station(9));
        }
        let (verdict, after, _) = Walks::new().walk(&snapshot, P0, &partial);
        assert_eq!((verdict, after), (Verdict::Punt(PuntReason::BridgeSource), whole));
    }
}

#[test]
fn frames_that_are_no_sound_packets_leave_as_they_came() {
    let snapshot = snapshot(1, lab::FAR);
    for family in Family::ALL {
        let mut packet = udp(family, station(2), station(0), 20);
        make_partial(&mut packet, family, 14);
        for edit in [
            |packet: &mut Vec<u8>, _| packet.truncate(packet.len() - 1),
            |packet: &mut Vec<u8>, _| packet[14] = 0x95,
            |packet: &mut Vec<u8>, _| packet.truncate(30),
            |packet: &mut Vec<u8>, _| packet[20] = 44,
        ] as [fn(&mut Vec<u8>, Family); 4]
        {
            let mut packet = packet.clone();
            edit(&mut packet, family);
            assert_eq!(Walks::new().out(&snapshot, P0, &packet), (P2, packet.clone()));
        }
    }
}

#[test]
fn the_trace_says_what_came_and_where_it_goes() {
    let snapshot = filtering(0x8100);
    let (.., lines) = Walks::new().walk(&snapshot, P0, &frame(station(2), station(0), &[8, 0], 46));
    let words = lines.iter().map(|(stage, line)| format!("{} {line}", stage.word()));
    assert_eq!(
        words.collect::<Vec<_>>(),
        [
            "rx in by v0, 02:00:00:00:07:00 > 02:00:00:00:07:02, ethertype 0x0800, length 60",
            "bridge_check port of br0, vlan 10, from 02:00:00:00:07:00",
            "bridging fdb 02:00:00:00:07:02 dev v2, tagged 10",
        ]
    );
    let plain = super::bridge::snapshot(1, lab::FAR);
    learn(&plain, lab::mac(0), 0, BR0, EntryFlags::LOCAL);
    let (.., lines) = Walks::new().walk(&plain, P0, &lab::udp(Family::V4, lab::gateway(Family::V4), 18));
    let stages: Vec<Stage> = lines.iter().map(|(stage, _)| *stage).collect();
    assert_eq!(
        stages[..4],
        [Stage::Rx, Stage::BridgeCheck, Stage::Bridging, Stage::Rx],
        "{lines:?}"
    );
    assert_eq!(lines[2].1, "fdb 02:00:00:00:00:00 dev br0 permanent: up");
    assert!(lines[3].1.starts_with("in by br0, 10.0.0.77.5000 > "), "{lines:?}");
}
