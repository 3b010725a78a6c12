//! Hooks at a bridge: chains of family bridge meet all frames, those of IP what br_netfilter shows them; a rule that is not carried
//! punts, and then nothing was counted.

use super::Walks;
use super::bridge::*;
use super::lab;
use bypath::packet::{DropReason, Family, PortIndex, PuntReason, Verdict};
use bypath::table::Snapshot;
use bypath::table::rules::expr::{Base, CmpOp, Expr, Register, Stateful, Verdict as Says};
use bypath::table::rules::live::Rules;
use bypath::table::rules::program::{BaseChain, Chain, ChainType, Rule, Ruleset, StateId, Table, TableId};
use std::sync::Arc;

const P0: PortIndex = PortIndex(0);
const P2: PortIndex = PortIndex(2);
const BRIDGE: u8 = 7;
const INET: u8 = 1;
const FILTER: i32 = -200;
/// What is counted for each walk: the watched one, and the other.
const WALKS: u64 = 2;

/// A chain of a family at a hook: counts in cell 0, then a rule.
fn rules(family: u8, hook: u32, priority: i32, decides: Vec<Expr>) -> Arc<Rules> {
    let rule = |(handle, exprs): (u64, Vec<Expr>)| Rule {
        handle,
        exprs: exprs.into(),
    };
    let chain = Chain {
        table: TableId(0),
        name: "c".into(),
        base: Some(BaseChain {
            hook,
            priority,
            kind: ChainType::Filter,
            policy_drop: false,
            devices: [].into(),
            counter: None,
            offload: false,
            order: [0; 2],
        }),
        rules: (1..).zip([vec![Expr::State(StateId(0))], decides]).map(rule).collect(),
    };
    let table = Table {
        family,
        name: "t".into(),
        dormant: false,
    };
    let ruleset = Ruleset {
        generation: 1,
        tables: [table].into(),
        chains: [chain].into(),
        states: [Stateful::Counter { packets: 0, bytes: 0 }].into(),
        ..Ruleset::default()
    };
    Arc::new(Rules::new(ruleset, None, 0))
}

/// `ether saddr` this, and what then.
fn saddr(mac: [u8; 6], then: Expr) -> Vec<Expr> {
    let register = Register::of(1).expect("NFT_REG_1");
    let load = Expr::Payload {
        base: Base::Link,
        offset: 6,
        len: 6,
        dest: register,
    };
    let compare = Expr::Cmp {
        source: register,
        op: CmpOp::Eq,
        data: mac.into(),
    };
    vec![load, compare, then]
}

fn with(rules: Arc<Rules>) -> Snapshot {
    Snapshot {
        rules,
        ..snapshot(1, lab::FAR)
    }
}

fn counted(snapshot: &Snapshot) -> u64 {
    snapshot
        .rules
        .state
        .cell(StateId(0))
        .counted()
        .map_or(0, |(packets, _)| packets)
}

fn drops() -> Expr {
    Expr::Verdict(Says::Drop)
}

#[test]
fn chains_of_family_bridge_meet_every_frame() {
    let drop = Verdict::Drop(DropReason::Filter);
    for (hook, priority) in [(0, -300), (0, 300), (2, FILTER), (2, 5), (4, 300)] {
        let snapshot = with(rules(BRIDGE, hook, priority, saddr(station(3), drops())));
        let mut walks = Walks::new();
        for bytes in [
            frame(station(2), station(0), &[0x12, 0x34], 46),
            udp(Family::V4, station(2), station(0), 40),
        ] {
            assert_eq!(walks.out(&snapshot, P0, &bytes), (P2, bytes), "untouched");
        }
        assert_eq!(counted(&snapshot), 2 * WALKS);
        let from_3 = frame(station(2), station(3), &[0x12, 0x34], 46);
        assert_eq!(walks.verdict(&snapshot, PortIndex(3), &from_3), drop, "hook {hook}");
        assert_eq!(counted(&snapshot), 3 * WALKS, "what is dropped is counted");
    }
}

#[test]
fn what_is_not_carried_punts_and_counts_nothing() {
    for hook in [0, 2, 4] {
        let snapshot = with(rules(BRIDGE, hook, FILTER, saddr(station(0), Expr::uncarried("log"))));
        let mut walks = Walks::new();
        let bytes = frame(station(2), station(0), &[0x12, 0x34], 46);
        assert_eq!(walks.verdict(&snapshot, P0, &bytes), Verdict::Punt(PuntReason::Rule));
        assert_eq!(counted(&snapshot), 0, "hook {hook}");
        let other = frame(station(2), station(3), &[0x12, 0x34], 46);
        assert_eq!(walks.out(&snapshot, PortIndex(3), &other).0, P2);
    }
}

/// Who is not known is the kernel's before any chain is met; so is what is flooded, behind those at prerouting.
#[test]
fn what_the_kernel_bridges_it_counts() {
    let snapshot = with(rules(BRIDGE, 0, FILTER, vec![]));
    let mut walks = Walks::new();
    for (dst, src, reason) in [
        (station(2), station(9), PuntReason::BridgeSource),
        (station(9), station(0), PuntReason::BridgeUnknown),
    ] {
        let bytes = frame(dst, src, &[0x12, 0x34], 46);
        assert_eq!(walks.verdict(&snapshot, P0, &bytes), Verdict::Punt(reason));
        assert_eq!(counted(&snapshot), 0);
    }
}

/// A frame that goes up passes input, and what was counted is taken back should IP give it to the kernel.
#[test]
fn what_goes_up_passes_input() {
    let snapshot = with(rules(BRIDGE, 1, FILTER, vec![]));
    let mut walks = Walks::new();
    let up = lab::udp(Family::V4, lab::gateway(Family::V4), 18);
    assert_eq!(walks.out(&snapshot, P0, &up).0, PortIndex(1));
    assert_eq!(counted(&snapshot), WALKS);
    let own = lab::udp(Family::V4, lab::own(Family::V4), 18);
    assert_eq!(walks.verdict(&snapshot, P0, &own), Verdict::Punt(PuntReason::Local));
    assert_eq!(counted(&snapshot), WALKS, "taken back");
}

/// What is routed out by the bridge would meet them with its new head.
#[test]
fn what_comes_down_is_the_kernels_where_a_chain_stands() {
    for (hook, verdict) in [(2, None), (3, Some(PuntReason::Rule)), (4, Some(PuntReason::Rule))] {
        let snapshot = with(rules(BRIDGE, hook, FILTER, vec![]));
        let mut walks = Walks::new();
        let mut down = lab::udp(Family::V4, host(Family::V4, 2), 18);
        down[..6].copy_from_slice(&lab::mac(1));
        match verdict {
            None => assert_eq!(walks.out(&snapshot, PortIndex(1), &down).0, P2),
            Some(reason) => assert_eq!(walks.verdict(&snapshot, PortIndex(1), &down), Verdict::Punt(reason)),
        }
    }
}

/// With bridge-nf-call, packets of IP meet IP's chains from the bridge to the bridge, lose their padding and nothing else.
#[test]
fn the_hooks_of_ip_see_what_is_bridged() {
    for (hook, priority) in [(0, -300), (0, 0), (2, 0), (4, 0)] {
        let mut snapshot = with(rules(INET, hook, priority, vec![]));
        let mut walks = Walks::new();
        for (call, times) in [(false, 0), (true, 2 * WALKS)] {
            bridge_mut(&mut snapshot).nf_call = [call; 2];
            snapshot.generation += 1;
            for family in Family::ALL {
                let packet = udp(family, station(2), station(0), 40);
                let padded = [&packet[..], &[0xee; 9]].concat();
                let left = if call { &packet } else { &padded };
                assert_eq!(walks.out(&snapshot, P0, &padded), (P2, left.clone()));
            }
            let other = frame(station(2), station(0), &[0x12, 0x34], 46);
            assert_eq!(walks.out(&snapshot, P0, &other).0, P2);
            assert_eq!(counted(&snapshot), times, "hook {hook}, {call}");
        }
        let longer = udp(Family::V4, station(2), station(0), 1473);
        assert_eq!(
            walks.verdict(&snapshot, P0, &longer),
            Verdict::Punt(PuntReason::MtuExceeded)
        );
        assert_eq!(counted(&snapshot), 2 * WALKS, "taken back");
    }
}

/// Beside a chain of family bridge at their own priority nobody knows which comes first.
#[test]
fn a_chain_beside_the_hooks_of_ip_leaves_what_they_see() {
    let mut snapshot = with(rules(BRIDGE, 2, 0, vec![]));
    let packet = udp(Family::V4, station(2), station(0), 40);
    let mut walks = Walks::new();
    assert_eq!(walks.out(&snapshot, P0, &packet).0, P2);
    bridge_mut(&mut snapshot).nf_call = [true; 2];
    snapshot.generation += 1;
    let kernel = Verdict::Punt(PuntReason::BridgeNetfilter);
    assert_eq!(walks.verdict(&snapshot, P0, &packet), kernel);
}

/// From where VLANs are looked at, the kernel takes a tag of another protocol than the bridge's for a part of what is in the frame.
#[test]
fn a_tag_of_another_protocol_is_the_kernels_where_a_chain_stands_behind_vlans() {
    for (hook, is_behind) in [(0, false), (1, true), (2, true), (4, true)] {
        let mut snapshot = with(rules(BRIDGE, hook, FILTER, vec![]));
        let mut walks = Walks::new();
        let other = frame(station(2), station(0), &[0x88, 0xa8, 0, 1, 0x12, 0x34], 46);
        assert_eq!(walks.out(&snapshot, P0, &other).0, P2, "no VLANs are looked at");
        filter_vlans(&mut snapshot);
        let own = frame(station(2), station(0), &[0x81, 0, 0, 1, 0x12, 0x34], 46);
        assert_eq!(walks.out(&snapshot, P0, &own).0, P2);
        let before = counted(&snapshot);
        match is_behind {
            true => {
                let verdict = walks.verdict(&snapshot, P0, &other);
                assert_eq!(verdict, Verdict::Punt(PuntReason::Rule), "hook {hook}");
                assert_eq!(counted(&snapshot), before);
            }
            false => assert_eq!(walks.out(&snapshot, P0, &other).0, P2),
        }
    }
}
