//! Each expression, and the walk through chains, on packets that are a few bytes and facts.

use super::super::expr::*;
use super::super::keys::*;
use super::super::packet::{Answer, Fact, Packet};
use super::super::program::*;
use super::super::set::{self, Data, DataKind, Set, SetSpec};
use super::*;
use std::collections::HashMap;
use std::sync::Arc;

mod exprs;
mod nat;
mod options;

/// A packet: 20 bytes of IP header, then TCP.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) bytes: Vec<u8>,
    pub(super) meta: HashMap<MetaKey, Fact>,
    pub(super) ct: HashMap<(CtKey, Option<bool>), Fact>,
    pub(super) stored: Vec<(Base, usize, Vec<u8>)>,
}

pub(super) fn probe() -> Probe {
    let mut bytes = vec![0x45, 0, 0, 44, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    bytes.extend([
        0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x60, 2, 0, 0, 0, 0, 0, 0, 2, 4, 0x05, 0xb4,
    ]);
    Probe {
        bytes,
        meta: HashMap::from([(MetaKey::Mark, Fact::U32(7)), (MetaKey::Iifname, Fact::name("eth0"))]),
        ct: HashMap::from([((CtKey::State, None), Fact::U32(8))]),
        stored: Vec::new(),
    }
}

impl Packet for Probe {
    fn nfproto(&self) -> u8 {
        NFPROTO_IPV4
    }

    fn length(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn l4proto(&self) -> Option<u8> {
        Some(self.bytes[9])
    }

    fn is_later_fragment(&self) -> bool {
        self.bytes[7] != 0
    }

    fn payload(&self, base: Base, offset: usize, out: &mut [u8]) -> Answer {
        let start = match base {
            Base::Link => return Answer::Unknown,
            Base::Network => offset,
            Base::Transport => offset + 20,
        };
        match self.bytes.get(start..start + out.len()) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => return Answer::Break,
        }
        Answer::Done
    }

    fn meta(&self, key: MetaKey) -> Fact {
        self.meta.get(&key).copied().unwrap_or(Fact::Absent)
    }

    fn ct(&self, key: CtKey, reply: Option<bool>) -> Fact {
        self.ct.get(&(key, reply)).copied().unwrap_or(Fact::Absent)
    }

    fn random(&mut self) -> Option<u32> {
        Some(1 << 31)
    }

    fn set_meta(&mut self, key: MetaKey, value: [u8; 4]) -> Answer {
        self.meta.insert(key, Fact::U32(u32::from_ne_bytes(value)));
        Answer::Done
    }

    fn set_ct(&mut self, key: CtKey, reply: Option<bool>, value: [u8; 16]) -> Answer {
        self.ct.insert((key, reply), Fact::Bytes16(value));
        Answer::Done
    }

    fn store(&mut self, base: Base, offset: usize, bytes: &[u8], _: ChecksumFix) -> Answer {
        self.stored.push((base, offset, bytes.into()));
        Answer::Done
    }

    fn store_tcp(&mut self, offset: usize, bytes: &[u8]) -> Answer {
        self.bytes[20 + offset..][..bytes.len()].copy_from_slice(bytes);
        Answer::Done
    }
}

pub(in super::super) fn reg(number: u32) -> Register {
    Register::of(number).unwrap()
}

pub(in super::super) fn rule(exprs: impl Into<Box<[Expr]>>) -> Rule {
    Rule {
        handle: 0,
        exprs: exprs.into(),
    }
}

/// The first chain is a base chain with policy drop.
pub(in super::super) fn ruleset(chains: Vec<Vec<Rule>>) -> Ruleset {
    let table = Table {
        family: NFPROTO_INET,
        name: "t".into(),
        dormant: false,
    };
    let base = BaseChain {
        hook: 2,
        priority: 0,
        kind: ChainType::Filter,
        policy_drop: true,
        devices: Box::default(),
        counter: None,
        offload: false,
        order: [0; 2],
    };
    let chain = |(place, rules): (usize, Vec<Rule>)| Chain {
        table: TableId(0),
        name: format!("c{place}").into(),
        base: (place == 0).then(|| base.clone()),
        rules: rules.into(),
    };
    Ruleset {
        tables: [table].into(),
        chains: chains.into_iter().enumerate().map(chain).collect(),
        ..Ruleset::default()
    }
}

pub(super) fn run(ruleset: &Ruleset, packet: &mut Probe) -> Outcome {
    let state = State::new(ruleset, 0);
    Interpreter::new(ruleset, &state, 0).chain(ChainId(0), packet)
}

/// Whether a rule of these expressions goes on to its end, where it accepts.
pub(super) fn holds(exprs: &[Expr], packet: &mut Probe) -> bool {
    let all: Vec<_> = exprs.iter().cloned().chain([Expr::Verdict(Verdict::Accept)]).collect();
    match run(&ruleset(vec![vec![rule(all)]]), packet) {
        Outcome::Accept => true,
        Outcome::Drop(Place { rule: None, .. }) => false,
        other => panic!("{other:?}"),
    }
}

fn verdict(verdict: Verdict) -> Rule {
    rule([Expr::Verdict(verdict)])
}

/// Leaves a trace of the walk: the mark becomes ten times itself and `digit`.
fn trace(digit: u32) -> Rule {
    rule([
        Expr::Immediate {
            dest: reg(1),
            data: digit.to_ne_bytes().into(),
        },
        Expr::MetaSet {
            key: MetaKey::Mark,
            source: reg(1),
        },
    ])
}

fn mark(packet: &Probe) -> Fact {
    packet.meta[&MetaKey::Mark]
}

#[test]
fn jumps_come_back_and_gotos_do_not() {
    let (jump, goto) = (Verdict::Jump(ChainId(1)), Verdict::Goto(ChainId(1)));
    for (entry, leave, end) in [
        (jump, Verdict::Continue, Outcome::Accept),
        (jump, Verdict::Return, Outcome::Accept),
        (jump, Verdict::Break, Outcome::Accept),
        (jump, Verdict::Drop, Outcome::Drop(place(ChainId(1), 0, 0))),
        (
            goto,
            Verdict::Continue,
            Outcome::Drop(Place {
                chain: ChainId(0),
                rule: None,
                expr: 0,
            }),
        ),
        (goto, Verdict::Accept, Outcome::Accept),
    ] {
        let chains = vec![vec![verdict(entry), verdict(Verdict::Accept)], vec![verdict(leave)]];
        assert_eq!(run(&ruleset(chains), &mut probe()), end, "{entry:?} {leave:?}");
    }
    // A goto out of a jump returns to where the jump was.
    let chains = vec![
        vec![verdict(jump), trace(5), verdict(Verdict::Accept)],
        vec![verdict(Verdict::Goto(ChainId(2))), verdict(Verdict::Drop)],
        vec![trace(3)],
    ];
    let mut packet = probe();
    assert_eq!(run(&ruleset(chains), &mut packet), Outcome::Accept);
    assert_eq!(mark(&packet), Fact::U32(5));
}

#[test]
fn sixteen_jumps_deep_and_no_further() {
    let deep = |depth: u32| {
        let jump = |n: u32| vec![verdict(Verdict::Jump(ChainId(n + 1)))];
        let chains = (0..depth).map(jump).chain([vec![verdict(Verdict::Accept)]]).collect();
        run(&ruleset(chains), &mut probe())
    };
    assert_eq!(deep(16), Outcome::Accept);
    assert_eq!(deep(17), Outcome::Drop(place(ChainId(16), 0, 0)));
    // A loop without jumps back ends, too.
    let around = ruleset(vec![vec![verdict(Verdict::Goto(ChainId(0)))]]);
    assert!(matches!(run(&around, &mut probe()), Outcome::Punt(_)));
}

#[test]
fn base_chains_run_in_order_until_one_does_not_accept() {
    let mut ruleset = ruleset(vec![
        vec![verdict(Verdict::Accept)],
        vec![trace(4)],
        vec![verdict(Verdict::Drop)],
    ]);
    for (chain, priority) in [(1, -5), (2, 9)] {
        let base = BaseChain {
            priority,
            policy_drop: false,
            ..ruleset.chains[0].base.clone().unwrap()
        };
        Arc::make_mut(&mut ruleset.chains)[chain].base = Some(base);
    }
    let bases = ruleset.bases(NFPROTO_IPV4, 2);
    assert_eq!(bases, [ChainId(1), ChainId(0), ChainId(2)]);
    assert_eq!(ruleset.bases(NFPROTO_IPV6, 2), bases);
    assert!(ruleset.bases(NFPROTO_IPV4, 1).is_empty() && ruleset.bases(7, 2).is_empty());
    let state = State::new(&ruleset, 0);
    let mut packet = probe();
    let outcome = Interpreter::new(&ruleset, &state, 0).hook(&bases, &mut packet);
    assert_eq!(
        (outcome, mark(&packet)),
        (Outcome::Drop(place(ChainId(2), 0, 0)), Fact::U32(4))
    );
}

#[test]
fn a_policy_counts_what_comes_to_the_end() {
    let port_80 = [
        Expr::Payload {
            base: Base::Transport,
            offset: 2,
            len: 2,
            dest: reg(8),
        },
        Expr::Cmp {
            source: reg(8),
            op: CmpOp::Eq,
            data: [0, 80].into(),
        },
        Expr::Verdict(Verdict::Accept),
    ];
    let mut ruleset = ruleset(vec![vec![rule(port_80)]]);
    ruleset.states = [Stateful::Counter { packets: 7, bytes: 7 }].into();
    Arc::make_mut(&mut ruleset.chains)[0].base.as_mut().unwrap().counter = Some(StateId(0));
    let state = State::of_our_own(&ruleset, 0);
    let mut interpreter = Interpreter::new(&ruleset, &state, 0);
    for (port, counted) in [(80, 0), (53, 1), (80, 1), (53, 2)] {
        let mut packet = probe();
        packet.bytes[23] = port;
        interpreter.chain(ChainId(0), &mut packet);
        let packets = state.cell(StateId(0)).counted().map(|(packets, _)| packets);
        assert_eq!(packets, Some(counted));
    }
    interpreter.give_away();
    assert_eq!(state.cell(StateId(0)).counted(), Some((0, 0)));
}

#[test]
fn a_punt_leaves_no_trace_in_counters() {
    let uncarried = Expr::uncarried("queue");
    assert_eq!(Ruleset::default().uncarried(&uncarried), Some("queue"));
    let count = Expr::State(StateId(0));
    let mut ruleset = ruleset(vec![vec![
        rule([count.clone(), count.clone()]),
        rule([count, uncarried]),
    ]]);
    ruleset.states = [Stateful::Counter { packets: 1, bytes: 2 }].into();
    let state = State::new(&ruleset, 0);
    let outcome = Interpreter::new(&ruleset, &state, 0).chain(ChainId(0), &mut probe());
    assert_eq!(outcome, Outcome::Punt(place(ChainId(0), 1, 1)));
    assert_eq!(state.cell(StateId(0)).counted(), Some((1, 2)));
    let first = ruleset.chains[0].rules[..1].into();
    Arc::make_mut(&mut ruleset.chains)[0].rules = first;
    Interpreter::new(&ruleset, &state, 0).chain(ChainId(0), &mut probe());
    assert_eq!(state.cell(StateId(0)).counted(), Some((3, 90)));
}

/// A set of one-byte keys.
pub(super) fn set_of(data: DataKind, elements: Vec<(Option<u8>, Data)>) -> Arc<Set> {
    let spec = SetSpec {
        key_len: 1,
        data,
        ..SetSpec::default()
    };
    let element = |(key, data): (Option<u8>, Data)| set::Element {
        kind: if key.is_some() {
            set::Kind::Key
        } else {
            set::Kind::CatchAll
        },
        key: key.into_iter().collect(),
        key_end: None,
        data,
        expires_ns: None,
        states: [Stateful::Counter { packets: 0, bytes: 0 }].into(),
    };
    Arc::new(Set::new(spec, elements.into_iter().map(element).collect()).unwrap())
}
