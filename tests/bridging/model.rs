//! A plain model of the kernel's bridge, and random bridges and frames on which bypath must agree with it: what the kernel
//! would forward is forwarded in that form, or punted where the kernel has to learn or to flood; what it would drop is dropped,
//! or punted. The model takes a frame apart into its tag and the rest, as the kernel does, and puts it together again.

use super::Walks;
use super::bridge::*;
use super::lab;
use bypath::packet::{DropReason, PortIndex, PuntReason, Verdict};
use bypath::table::Snapshot;
use bypath::table::fdb::EntryFlags;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;

#[derive(Clone, Debug)]
struct Port {
    forwarding: bool,
    learning: bool,
    isolated: bool,
    hairpin: bool,
    locked: bool,
    mab: bool,
    pvid: u16,
    /// By VLAN 0 to 3: carried, untagged.
    vlans: [(bool, bool); 4],
    mtu: u32,
}

#[derive(Clone, Debug)]
struct Config {
    filters: bool,
    protocol: u16,
    ages: bool,
    /// All that the kernel knows is known.
    whole: bool,
    ports: [Port; 3],
    /// Station, VLAN, port (3: the bridge), flags.
    entries: Vec<(u8, u16, usize, u8)>,
}

#[derive(Clone, Debug)]
struct Sent {
    by: usize,
    src: u8,
    dst: u8,
    tags: Vec<(u16, u16)>,
    ethertype: u16,
    len: usize,
}

/// What the kernel's bridge does with a frame.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It learns, floods, takes the frame itself: the frame must be punted.
    Kernels,
    Dropped(DropReason),
    Leaves(usize, Vec<u8>),
    /// It leaves in a form that has no room here.
    NoRoom,
}

const LOCAL: u8 = EntryFlags::LOCAL;
const BRIDGE: usize = 3;

fn port() -> impl Strategy<Value = Port> {
    let mostly = |odds| prop::bool::weighted(odds);
    (
        (
            mostly(0.9),
            mostly(0.8),
            mostly(0.3),
            mostly(0.3),
            mostly(0.2),
            mostly(0.3),
        ),
        0u16..4,
        prop::array::uniform4((mostly(0.8), any::<bool>())),
        prop::sample::select(vec![100u32, 1500]),
    )
        .prop_map(
            |((forwarding, learning, isolated, hairpin, locked, mab), pvid, mut vlans, mtu)| {
                vlans[0] = (false, false);
                // A PVID is a VLAN of the port.
                let pvid = if vlans[usize::from(pvid)].0 { pvid } else { 0 };
                Port {
                    forwarding,
                    learning,
                    isolated,
                    hairpin,
                    locked,
                    mab,
                    pvid,
                    vlans,
                    mtu,
                }
            },
        )
}

fn config() -> impl Strategy<Value = Config> {
    let flags = prop::sample::select(vec![
        0,
        0,
        0,
        0,
        LOCAL,
        EntryFlags::STATIC,
        EntryFlags::STICKY,
        EntryFlags::LOCKED,
    ]);
    let entry = (0u8..5, 0u16..4, 0usize..3, flags);
    (
        any::<bool>(),
        prop::sample::select(vec![0x8100u16, 0x88a8]),
        (prop::bool::weighted(0.9), any::<bool>()),
        prop::array::uniform3(port()),
        prop::collection::vec(entry, 4..24),
    )
        .prop_map(|(filters, protocol, (ages, whole), ports, entries)| Config {
            filters,
            protocol,
            ages,
            whole,
            ports,
            entries,
        })
}

fn sent() -> impl Strategy<Value = Sent> {
    let tci = (prop::sample::select(vec![0u16, 0x2000, 0xf000]), 0u16..5).prop_map(|(priority, vid)| priority | vid);
    let tag = (prop::sample::select(vec![0x8100u16, 0x88a8]), tci);
    let tags = prop_oneof![3 => Just(vec![]), 4 => prop::collection::vec(tag, 1..3)];
    let types = prop::sample::select(vec![0x0800u16, 0x86dd, 0x0806, 0x1234, 60]);
    (0usize..3, 0u8..5, 0u8..5, tags, types, 40usize..110).prop_map(|(by, src, dst, tags, ethertype, len)| Sent {
        by,
        src,
        dst,
        tags,
        ethertype,
        len,
    })
}

impl Sent {
    fn frame(&self) -> Vec<u8> {
        let tags = self.tags.iter().flat_map(|&(protocol, tci)| [protocol, tci]);
        let head: Vec<u8> = tags.chain([self.ethertype]).flat_map(u16::to_be_bytes).collect();
        frame(station(self.dst), station(self.src), &head, self.len)
    }
}

impl Config {
    fn snapshot(&self) -> Snapshot {
        let mut snapshot = snapshot(1, lab::FAR);
        let bridge = bridge_mut(&mut snapshot);
        bridge.fdb = Default::default();
        bridge.fdb.set_whole(self.whole);
        bridge.vlan_protocol = self.protocol;
        bridge.vlans = self.filters.then(Default::default);
        bridge.ageing_time = if self.ages { 30_000 } else { 0 };
        for (index, port) in self.ports.iter().enumerate() {
            let place = port_mut(&mut snapshot, MEMBERS[index]);
            (place.forwarding, place.learning) = (port.forwarding, port.learning);
            (place.isolated, place.hairpin) = (port.isolated, port.hairpin);
            (place.locked, place.mab) = (port.locked, port.mab);
            place.vlans.pvid = port.pvid;
            for (vid, (carried, untagged)) in port.vlans.into_iter().enumerate() {
                if carried {
                    place.vlans.insert(vid as u16, untagged);
                }
            }
            iface_mut(&mut snapshot, MEMBERS[index]).mtu = [port.mtu; 2];
        }
        for &(mac, vid, port, flags) in &self.entries {
            let link = if port == BRIDGE { BR0 } else { link(MEMBERS[port]) };
            learn(&snapshot, station(mac), vid, link, flags);
        }
        snapshot
    }

    fn fate(&self, sent: &Sent) -> Fate {
        let (from, frame) = (&self.ports[sent.by], sent.frame());
        let known: HashMap<_, _> = self
            .entries
            .iter()
            .map(|&(mac, vid, port, flags)| ((mac, vid), (port, flags)))
            .collect();
        // Behind the outer tag, which the kernel takes off.
        let behind = sent.tags.get(1).map_or(sent.ethertype, |(protocol, _)| *protocol);
        if !from.forwarding || behind == 0x0806 {
            return Fate::Kernels;
        }
        // The kernel takes the outer tag off when the frame arrives.
        let (mut tag, mut rest) = (sent.tags.first().copied(), frame[12..].to_vec());
        if tag.is_some() {
            rest.drain(..4);
        }
        let mut vid = 0;
        if self.filters {
            if let Some((protocol, tci)) = tag
                && protocol != self.protocol
            {
                rest.splice(0..0, [protocol, tci].into_iter().flat_map(u16::to_be_bytes));
                tag = None;
            }
            let tci = tag.map_or(0, |(_, tci)| tci);
            let tci = if tci & 0xfff == 0 { tci | from.pvid } else { tci };
            vid = tci & 0xfff;
            if vid == 0 || !from.vlans.get(usize::from(vid)).is_some_and(|(carried, _)| *carried) {
                // A device may have taken it before.
                return match sent.tags.first() {
                    Some((_, tci)) if tci & 0xfff != 0 => Fate::Kernels,
                    _ => Fate::Dropped(DropReason::BridgeVlan),
                };
            }
            tag = Some((self.protocol, tci));
        }
        if from.locked || from.learning && self.ages {
            let entry = known.get(&(sent.src, vid));
            let is_renewed = entry.is_some_and(|(_, flags)| flags & EntryFlags::LOCKED != 0);
            let is_let_in = entry.is_some_and(|(port, flags)| {
                let sticks = flags & EntryFlags::STICKY != 0 && !from.locked;
                flags & (LOCAL | EntryFlags::LOCKED) == 0 && (*port == sent.by || sticks)
            });
            if !is_let_in {
                return match from.locked && !from.mab && !is_renewed && self.whole {
                    true => Fate::Dropped(DropReason::BridgeLocked),
                    false => Fate::Kernels,
                };
            }
        }
        let Some(&(port, flags)) = known.get(&(sent.dst, vid)) else {
            return Fate::Kernels;
        };
        if flags & LOCAL != 0 {
            return Fate::Kernels;
        }
        let to = &self.ports[port];
        if port == sent.by && !from.hairpin {
            return Fate::Dropped(DropReason::BridgeSamePort);
        }
        if !to.forwarding {
            return Fate::Dropped(DropReason::BridgeBlocked);
        }
        if self.filters && !to.vlans[usize::from(vid)].0 {
            return Fate::Dropped(DropReason::BridgeVlan);
        }
        if to.isolated && from.isolated {
            return Fate::Dropped(DropReason::BridgeIsolated);
        }
        if 12 + rest.len() > to.mtu as usize + 18 {
            return Fate::Dropped(DropReason::BridgeMtu);
        }
        if self.filters && to.vlans[usize::from(vid)].1 {
            tag = None;
        }
        let tag = tag.into_iter().flat_map(|(protocol, tci)| [protocol, tci]);
        let leaves: Vec<u8> = frame[..12]
            .iter()
            .copied()
            .chain(tag.flat_map(u16::to_be_bytes))
            .chain(rest)
            .collect();
        match leaves.len() > to.mtu as usize + 18 {
            true => Fate::NoRoom,
            false => Fate::Leaves(port, leaves),
        }
    }
}

thread_local! {
    static WALKS: RefCell<Walks> = RefCell::new(Walks::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bridges_do_as_the_model_says(config in config(), frames in prop::collection::vec(sent(), 1..30)) {
        let snapshot = config.snapshot();
        for sent in frames {
            let (verdict, after, _) = WALKS.with_borrow_mut(|walks| {
                walks.walk(&snapshot, MEMBERS[sent.by], &sent.frame())
            });
            let verdict = match (config.fate(&sent), verdict) {
                (Fate::Leaves(port, frame), Verdict::Forward(out)) => {
                    prop_assert_eq!((MEMBERS[port], frame), (out, after), "{:?}", sent);
                    continue;
                }
                (Fate::Kernels, Verdict::Punt(reason)) => {
                    let spurious = [PuntReason::MtuExceeded, PuntReason::EgressNotPort, PuntReason::LeftEgress];
                    prop_assert!(!spurious.contains(&reason), "{:?}: {:?}", sent, reason);
                    Verdict::Punt(reason)
                }
                (Fate::Dropped(wanted), Verdict::Drop(reason)) => {
                    prop_assert_eq!(wanted, reason, "{:?}", sent);
                    verdict
                }
                (Fate::NoRoom, Verdict::Punt(PuntReason::MtuExceeded)) => verdict,
                (fate, verdict) => {
                    prop_assert!(false, "{:?}: {:?}, but {:?}", sent, fate, verdict);
                    verdict
                }
            };
            prop_assert_eq!(after, sent.frame(), "{:?}", verdict);
        }
    }
}

/// The model would be satisfied with nothing but punts if its bridges were all odd.
#[test]
fn most_fates_are_met() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut met = HashMap::<&str, u32>::new();
    for _ in 0..2000 {
        let config = config().new_tree(&mut runner).expect("a bridge").current();
        for _ in 0..10 {
            let sent = sent().new_tree(&mut runner).expect("a frame").current();
            let word = match config.fate(&sent) {
                Fate::Kernels => "punted",
                Fate::Dropped(reason) => reason.word(),
                Fate::Leaves(..) => "forwarded",
                Fate::NoRoom => "no room",
            };
            *met.entry(word).or_default() += 1;
        }
    }
    println!("{met:?}");
    assert!(met["forwarded"] > 500, "{met:?}");
    for word in [
        "punted",
        "bridge_vlan",
        "bridge_locked",
        "bridge_isolated",
        "bridge_blocked",
        "bridge_same_port",
        "bridge_mtu",
        "no room",
    ] {
        assert!(met.get(word).is_some_and(|times| *times > 5), "{word}: {met:?}");
    }
}

#[test]
fn ports_of_the_model_are_those_of_the_box() {
    assert_eq!(MEMBERS, [PortIndex(0), PortIndex(2), PortIndex(3)]);
}
