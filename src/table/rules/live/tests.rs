//! What is carried, what a decision depends on, and what goes on over a change, on rulesets that are built by hand.

use super::*;
use crate::table::rules::expr::{Base, BitOp, CmpOp, Limit, Register, Reject, Stateful, Verdict, Xt};
use crate::table::rules::keys::{CtKey, MetaKey};
use crate::table::rules::program::{
    BaseChain, Chain, ChainType, NFPROTO_INET, Object, ObjectId, StateId, Table, TableId,
};
use crate::table::rules::xt;

const COUNTER: Stateful = Stateful::Counter { packets: 9, bytes: 99 };
const LIMIT: Stateful = Stateful::Limit(Limit {
    rate: 1,
    per_ns: 1_000_000_000,
    burst: 5,
    of_bytes: false,
    inverted: false,
});

fn first() -> Register {
    Register::of(1).expect("NFT_REG_1")
}

/// A chain at a hook, or none, with a rule of these expressions; its handle is 10 and its place.
fn chain(name: &str, hook: Option<u32>, rules: Vec<Vec<Expr>>) -> Chain {
    let rule = |(n, exprs): (u64, Vec<Expr>)| Rule {
        handle: 10 + n,
        exprs: exprs.into(),
    };
    Chain {
        table: TableId(0),
        name: name.into(),
        base: hook.map(|hook| BaseChain {
            hook,
            priority: 0,
            kind: ChainType::Filter,
            policy_drop: false,
            devices: [].into(),
            counter: None,
            offload: false,
            order: [0; 2],
        }),
        rules: (0..).zip(rules).map(rule).collect(),
    }
}

fn ruleset(generation: u32, states: &[Stateful], chains: Vec<Chain>) -> Ruleset {
    Ruleset {
        generation,
        tables: [Table {
            family: NFPROTO_INET,
            name: "t".into(),
            dormant: false,
        }]
        .into(),
        chains: chains.into(),
        states: states.into(),
        ..Ruleset::default()
    }
}

fn of(family: u8) -> [Expr; 2] {
    [
        Expr::Meta {
            key: MetaKey::Nfproto,
            dest: first(),
        },
        Expr::Cmp {
            source: first(),
            op: CmpOp::Eq,
            data: [family].into(),
        },
    ]
}

fn load(base: Base, offset: u8, len: u8) -> Expr {
    Expr::Payload {
        base,
        offset,
        len,
        dest: first(),
    }
}

fn depends(rules: Vec<Vec<Expr>>) -> [Depends; 2] {
    let rules = Rules::new(ruleset(1, &[COUNTER], vec![chain("f", Some(FORWARD), rules)]), None, 0);
    crate::packet::Family::ALL.map(|family| rules.at(family, Point::Forward).depends)
}

#[test]
fn a_decision_depends_on_what_the_family_looks_at() {
    use Depends::{Flow, FlowWithPorts, Packet};
    let state = Expr::Ct {
        key: CtKey::State,
        reply: None,
        dest: first(),
    };
    let length = Expr::Meta {
        key: MetaKey::Len,
        dest: first(),
    };
    let v4 = |expr: Expr| [&of(NFPROTO_IPV4)[..], &[expr]].concat();
    assert_eq!(
        depends(vec![vec![state.clone(), Expr::Verdict(Verdict::Accept)]]),
        [Flow; 2]
    );
    assert_eq!(depends(vec![v4(load(Base::Network, 12, 8))]), [Flow; 2]);
    assert_eq!(depends(vec![v4(load(Base::Network, 8, 1))]), [Packet, Flow]);
    assert_eq!(depends(vec![vec![load(Base::Network, 8, 32)]]), [Packet, Flow]);
    assert_eq!(depends(vec![vec![load(Base::Transport, 2, 2)]]), [FlowWithPorts; 2]);
    assert_eq!(depends(vec![vec![load(Base::Transport, 2, 4)]]), [Packet; 2]);
    assert_eq!(depends(vec![vec![load(Base::Link, 6, 6)]]), [Packet; 2]);
    assert_eq!(depends(vec![v4(length)]), [Packet, Flow]);
    // It counts, and decides nothing.
    assert_eq!(depends(vec![vec![Expr::State(StateId(0))]]), [Flow; 2]);
    // A packet that reaches it is punted, and nothing is kept.
    assert_eq!(depends(vec![vec![state, Expr::Reject(Reject::TcpReset)]]), [Flow; 2]);
}

/// Flags that only segments with SYN, FIN or RST can have decide of no other segment.
#[test]
fn flags_that_begin_or_end_a_connection_decide_of_no_other_segment() {
    use Depends::{FlowWithFlags, Packet};
    let flags = |mask: u8, op: CmpOp, value: u8| {
        vec![
            Expr::Meta {
                key: MetaKey::L4proto,
                dest: first(),
            },
            Expr::Cmp {
                source: first(),
                op: CmpOp::Eq,
                data: [6].into(),
            },
            load(Base::Transport, 13, 1),
            Expr::Bitwise {
                source: first(),
                dest: first(),
                len: 1,
                op: BitOp::MaskXor([mask].into(), [0].into()),
            },
            Expr::Cmp {
                source: first(),
                op,
                data: [value].into(),
            },
            load(Base::Network, 2, 2),
        ]
    };
    for (mask, op, value, expected) in [
        (0x17, CmpOp::Eq, 0x02, FlowWithFlags),
        (0x06, CmpOp::Eq, 0x02, FlowWithFlags),
        (0x17, CmpOp::Neq, 0x02, Packet),
        (0x3f, CmpOp::Eq, 0, Packet),
        (0x12, CmpOp::Lt, 0x02, Packet),
    ] {
        assert_eq!(
            depends(vec![flags(mask, op, value)]),
            [expected; 2],
            "{mask:x} {op:?} {value:x}"
        );
        // Of those that look at the length only if it is no such segment.
        let alone = flags(mask, op, value)[..5].to_vec();
        let alone_depends = if value == 0x02 && op != CmpOp::Lt {
            FlowWithFlags
        } else {
            Packet
        };
        assert_eq!(depends(vec![alone]), [alone_depends; 2], "{mask:x} {op:?} {value:x}");
        // That byte of anything else than TCP may be anything.
        let of_any = flags(mask, op, value)[2..5].to_vec();
        assert_eq!(depends(vec![of_any]), [Packet; 2], "{mask:x} {op:?} {value:x}");
    }
    // The same as a match of iptables.
    let syn = |inverted: u8| {
        let mut info = vec![0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0x17, 0x02, inverted];
        info.resize(16, 0);
        let xt = Xt {
            target: false,
            name: "tcp".into(),
            revision: 0,
            info: info.into(),
        };
        xt::decode(&xt, NFPROTO_IPV4, |_| StateId(0)).expect("carried")
    };
    assert_eq!(
        depends(vec![vec![syn(0), load(Base::Network, 2, 2)]]),
        [FlowWithFlags; 2]
    );
    assert_eq!(depends(vec![vec![syn(4), load(Base::Network, 2, 2)]]), [Packet; 2]);
    assert_eq!(depends(vec![vec![syn(4)]]), [FlowWithFlags; 2]);
}

#[test]
fn chains_are_found_by_jumps_of_the_family_and_rules_of_the_kernel_named() {
    let jump = |to: u32| Expr::Verdict(Verdict::Jump(ChainId(to)));
    let jump6 = [&of(NFPROTO_IPV6)[..], &[jump(1)]].concat();
    let chains = vec![
        chain("f", Some(FORWARD), vec![jump6]),
        chain("six", None, vec![vec![jump(2)]]),
        chain("log", None, vec![vec![Expr::State(StateId(0)), Expr::uncarried("log")]]),
        chain("input", Some(1), vec![vec![Expr::uncarried("queue")]]),
    ];
    let rules = Rules::new(ruleset(1, &[COUNTER], chains), None, 0);
    assert_eq!(
        &*rules.at(crate::packet::Family::V4, Point::Forward).chains,
        [ChainId(0)]
    );
    assert_eq!(
        &*rules.at(crate::packet::Family::V6, Point::Forward).chains,
        [ChainId(0), ChainId(1), ChainId(2)]
    );
    assert_eq!(rules.punted(Family::V4), []);
    let punted = Punted {
        chain: ChainId(2),
        rule: 0,
        why: "log".into(),
    };
    assert_eq!(rules.punted(Family::V6), [punted]);
}

/// Whether no limit, a rule's or an object's, is the kernel's.
fn runs_limit(chains: Vec<Chain>) -> bool {
    let mut ruleset = ruleset(1, &[LIMIT, COUNTER], chains);
    ruleset.objects = [Object {
        table: TableId(0),
        name: "o".into(),
        kind: ObjectKind::State(StateId(0)),
    }]
    .into();
    Rules::new(ruleset, None, 0)
        .punted(Family::V4)
        .iter()
        .all(|punted| !punted.why.starts_with("limit, "))
}

#[test]
fn a_memory_is_the_kernels() {
    let limit = || vec![Expr::State(StateId(0))];
    let object = || vec![Expr::Objref(ObjectId(0))];
    let count = || vec![Expr::State(StateId(1))];
    let forward = |rules| chain("f", Some(FORWARD), rules);
    let jumps = || vec![Expr::Verdict(Verdict::Jump(ChainId(2)))];
    assert!(runs_limit(vec![forward(vec![count()])]), "there is none");
    assert!(!runs_limit(vec![forward(vec![count(), limit()])]));
    assert!(!runs_limit(vec![forward(vec![object()])]));
    assert!(!runs_limit(vec![
        forward(vec![jumps()]),
        chain("input", Some(1), vec![jumps()]),
        chain("both", None, vec![limit()])
    ]));
}

#[test]
fn counters_count_our_own_and_go_on_over_a_change() {
    let rule = || vec![Expr::State(StateId(0))];
    let before = Rules::new(
        ruleset(1, &[COUNTER], vec![chain("f", Some(FORWARD), vec![rule()])]),
        None,
        0,
    );
    before.state.cell(StateId(0)).run(40, 0);
    let count = |rules: &Rules, id| rules.state.cell(StateId(id)).counted();
    assert_eq!(count(&before, 0), Some((1, 40)));
    // Another rule came before it: its handle is the same, its number is not.
    let mut after = ruleset(
        2,
        &[COUNTER, COUNTER],
        vec![chain("f", Some(FORWARD), vec![rule(), rule()])],
    );
    Arc::make_mut(&mut after.chains)[0].rules[0].handle = 77;
    Arc::make_mut(&mut after.chains)[0].rules[0].exprs = [Expr::State(StateId(0))].into();
    Arc::make_mut(&mut after.chains)[0].rules[1] = Rule {
        handle: 10,
        exprs: [Expr::State(StateId(1))].into(),
    };
    let after = Rules::new(after, Some(&before), 0);
    assert_eq!((count(&after, 0), count(&after, 1)), (Some((0, 0)), Some((1, 40))));
    // A packet that is still on its way by the old ones is not lost.
    before.state.cell(StateId(0)).run(60, 0);
    assert_eq!(count(&after, 1), Some((2, 100)));
    assert!(before != after && before == Rules::new(ruleset(1, &[], vec![]), None, 0));
}

/// Where conntrack or NAT has the same priority, nobody tells who comes first.
#[test]
fn chains_stand_before_between_and_behind_conntrack_and_nat() {
    use Point::*;
    let at = |hook, priority| Point::of(hook, ChainType::Filter, priority);
    let of_prerouting = [-450, -201, -200, -199, -101, -100, -99, 10].map(|priority| at(PREROUTING, priority));
    let (raw, before, behind) = (Some(Raw), Some(Prerouting), Some(BehindDnat));
    assert_eq!(of_prerouting, [raw, raw, None, before, before, None, behind, behind]);
    let of_postrouting = [-300, 99, 100, 101].map(|priority| at(POSTROUTING, priority));
    assert_eq!(
        of_postrouting,
        [Some(Postrouting), Some(Postrouting), None, Some(BehindSnat)]
    );
    assert_eq!((at(FORWARD, -300), at(1, 0)), (Some(Forward), None));
    assert_eq!(Point::of(PREROUTING, ChainType::Nat, -100), Some(Dnat));
    assert_eq!(Point::of(PREROUTING, ChainType::Other, -300), None);
}

/// Chains of family bridge have points of their own, on both sides of br_netfilter's place, and rules of their own that are
/// the kernel's.
#[test]
fn frames_at_a_bridge_meet_the_chains_of_its_family() {
    let base = |name: &str, hook, priority, rule: Vec<Expr>| {
        let mut chain = chain(name, Some(hook), vec![rule]);
        if let Some(base) = &mut chain.base {
            base.priority = priority;
        }
        chain
    };
    let accept = || vec![Expr::Verdict(Verdict::Accept)];
    let ct = Expr::Ct {
        key: CtKey::State,
        reply: None,
        dest: first(),
    };
    let port = Expr::Meta {
        key: MetaKey::BriIifname,
        dest: first(),
    };
    let mut ruleset = ruleset(
        1,
        &[LIMIT],
        vec![
            base("late", 2, 5, accept()),
            base("early", 2, -200, vec![port]),
            base("in", 1, 0, vec![ct]),
            base("limits", 0, 300, vec![Expr::State(StateId(0))]),
            base("out", 4, 300, accept()),
            base("broute", 5, 0, accept()),
        ],
    );
    Arc::make_mut(&mut ruleset.tables)[0].family = 7;
    let rules = Rules::new(ruleset, None, 0);
    assert!(Family::ALL.into_iter().all(|family| rules.sum(family).is_nothing));
    let bridged = &rules.bridged;
    assert!(!bridged.is_nothing() && !bridged.beside_ip);
    let at = |point: BridgePoint| {
        let hook = bridged.at(point);
        let names = hook.bases.iter().map(|id| &*rules.ruleset[*id].name);
        (names.collect::<Vec<_>>(), hook.punts)
    };
    assert_eq!(at(BridgePoint::Prerouting), (vec![], false));
    assert_eq!(at(BridgePoint::BehindPrerouting), (vec!["limits"], true));
    assert_eq!(at(BridgePoint::Input), (vec!["in"], true));
    assert_eq!(at(BridgePoint::Forward), (vec!["early"], false));
    assert_eq!(at(BridgePoint::BehindForward), (vec!["late"], false));
    assert_eq!(at(BridgePoint::Output), (vec![], false));
    assert_eq!(at(BridgePoint::Postrouting), (vec!["out"], false));
    let punted: Vec<_> = bridged
        .punted(&rules.ruleset)
        .into_iter()
        .map(|punted| punted.why)
        .collect();
    assert_eq!(punted, ["limit, which has a memory", "ct"]);
}

/// Nobody tells whether it comes before br_netfilter.
#[test]
fn a_chain_of_a_bridge_at_priority_0_is_beside_the_hooks_of_ip() {
    for (hook, beside) in [(0, true), (1, false), (2, true), (4, false)] {
        let mut ruleset = ruleset(
            1,
            &[],
            vec![chain("c", Some(hook), vec![vec![Expr::Verdict(Verdict::Drop)]])],
        );
        Arc::make_mut(&mut ruleset.tables)[0].family = 7;
        assert_eq!(Rules::new(ruleset, None, 0).bridged.beside_ip, beside);
    }
}
