//! Rulesets in memory, as a box at forward runs them.
#![allow(dead_code)]

use bypath::table::conntrack::CtState;
use bypath::table::rules::expr::{Base, BitOp, CmpOp, Expr, Nat, NatKind, Register, Stateful, Verdict};
use bypath::table::rules::keys::{CtKey, MetaKey};
use bypath::table::rules::live::{FORWARD, POSTROUTING, PREROUTING, Rules};
use bypath::table::rules::program::{
    BaseChain, Chain, ChainId, ChainType, NFPROTO_INET, NFPROTO_IPV4, Rule, Ruleset, StateId, Table, TableId,
};
use rand::{RngExt, rngs::ChaCha8Rng};
use std::sync::Arc;

fn register() -> Register {
    Register::of(1).expect("NFT_REG_1")
}

fn compare(op: CmpOp, data: &[u8]) -> Expr {
    Expr::Cmp {
        source: register(),
        op,
        data: data.into(),
    }
}

/// `ct state` any of these bits.
pub fn state(mask: u32) -> Vec<Expr> {
    let bits = BitOp::MaskXor(mask.to_ne_bytes().into(), [0; 4].into());
    vec![
        Expr::Ct {
            key: CtKey::State,
            reply: None,
            dest: register(),
        },
        Expr::Bitwise {
            source: register(),
            dest: register(),
            len: 4,
            op: bits,
        },
        compare(CmpOp::Neq, &[0; 4]),
    ]
}

/// `iifname` this.
pub fn iifname(name: &str) -> Vec<Expr> {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    let load = Expr::Meta {
        key: MetaKey::Iifname,
        dest: register(),
    };
    vec![load, compare(CmpOp::Eq, &bytes)]
}

/// A source port below this one.
pub fn sport_below(port: u16) -> Vec<Expr> {
    let load = Expr::Payload {
        base: Base::Transport,
        offset: 0,
        len: 2,
        dest: register(),
    };
    vec![load, compare(CmpOp::Lt, &port.to_be_bytes())]
}

/// `ct mark` this.
fn ct_mark(mark: u32) -> Vec<Expr> {
    let load = Expr::Ct {
        key: CtKey::Mark,
        reply: None,
        dest: register(),
    };
    vec![load, compare(CmpOp::Eq, &mark.to_ne_bytes())]
}

/// `ct mark set` this.
fn ct_mark_set(mark: u32) -> Vec<Expr> {
    let data = mark.to_ne_bytes().into();
    vec![
        Expr::Immediate { dest: register(), data },
        Expr::CtSet {
            key: CtKey::Mark,
            reply: None,
            source: register(),
        },
    ]
}

/// `meta mark set` or `meta priority set` this.
pub fn meta_set(key: MetaKey, value: u32) -> Vec<Expr> {
    let data = value.to_ne_bytes().into();
    vec![
        Expr::Immediate { dest: register(), data },
        Expr::MetaSet {
            key,
            source: register(),
        },
    ]
}

/// `meta mark set ct mark`.
pub fn meta_mark_of_connection() -> Vec<Expr> {
    let (key, dest) = (CtKey::Mark, register());
    let load = Expr::Ct { key, reply: None, dest };
    let key = MetaKey::Mark;
    vec![
        load,
        Expr::MetaSet {
            key,
            source: register(),
        },
    ]
}

/// The conditions, a counter if it is to count, and a verdict.
pub fn rule(conditions: Vec<Expr>, counts: bool, verdict: Verdict) -> Vec<Expr> {
    let counter = counts.then_some(Expr::State(StateId(0)));
    conditions
        .into_iter()
        .chain(counter)
        .chain([Expr::Verdict(verdict)])
        .collect()
}

/// A chain of family inet, at forward if it has a policy (does it drop?).
fn chain(name: &str, policy_drop: Option<bool>, rules: Vec<Vec<Expr>>) -> Chain {
    let rule = |(handle, exprs): (u64, Vec<Expr>)| Rule {
        handle,
        exprs: exprs.into(),
    };
    Chain {
        table: TableId(0),
        name: name.into(),
        base: policy_drop.map(|policy_drop| BaseChain {
            hook: FORWARD,
            priority: 0,
            kind: ChainType::Filter,
            policy_drop,
            devices: [].into(),
            counter: None,
            offload: false,
            order: [0; 2],
        }),
        rules: (1..).zip(rules).map(rule).collect(),
    }
}

fn ruleset(generation: u32, chains: Vec<Chain>, counters: u32) -> Arc<Rules> {
    let ruleset = Ruleset {
        generation,
        tables: [Table {
            family: NFPROTO_INET,
            name: "fw".into(),
            dormant: false,
        }]
        .into(),
        chains: chains.into(),
        states: vec![Stateful::Counter { packets: 0, bytes: 0 }; counters as usize].into(),
        ..Ruleset::default()
    };
    Arc::new(Rules::new(ruleset, None, 0))
}

/// A ruleset of one chain of family inet at forward, which drops what comes to its end. It has one counter.
pub fn dropping(generation: u32, rules: Vec<Vec<Expr>>) -> Arc<Rules> {
    ruleset(generation, vec![chain("forward", Some(true), rules)], 1)
}

/// A ruleset of one chain of family inet, which lets through what comes to its end: at forward, or before routing.
pub fn letting_through(generation: u32, hook: u32, rules: Vec<Vec<Expr>>) -> Arc<Rules> {
    let mut chain = chain("marks", Some(false), rules);
    if let Some(base) = &mut chain.base {
        (base.hook, base.priority) = (hook, -150);
    }
    ruleset(generation, vec![chain], 0)
}

/// A random ruleset that looks only at what is constant in a flow and state, with a counter in nearly every rule: three chains
/// that jump to each other, always onward. All counters are different, but one that many rules share.
pub fn counting(rng: &mut ChaCha8Rng, generation: u32) -> Arc<Rules> {
    const CHAINS: u32 = 3;
    let mut counters = 1;
    let mut chains = Vec::new();
    let before = rng.random_ratio(1, 3);
    for number in 0..CHAINS {
        let rules = (0..rng.random_range(1..6)).map(|_| random_rule(rng, number, CHAINS, &mut counters));
        let rules = rules.collect();
        let policy = (number == 0).then(|| rng.random_ratio(1, 4));
        chains.push(chain(&format!("c{number}"), policy, rules));
    }
    if before {
        // Before conntrack, with a rule that has some packets not tracked.
        let mut rules: Vec<_> = (0..rng.random_range(1..4))
            .map(|_| random_rule(rng, CHAINS, CHAINS, &mut counters))
            .collect();
        rules.push([sport_below(5000 + rng.random_range(0..20)), vec![Expr::Notrack]].concat());
        let mut raw = chain("raw", Some(rng.random_ratio(1, 8)), rules);
        if let Some(base) = &mut raw.base {
            (base.hook, base.priority) = (PREROUTING, -300);
        }
        chains.push(raw);
    }
    ruleset(generation, chains, counters)
}

fn random_rule(rng: &mut ChaCha8Rng, chain: u32, chains: u32, counters: &mut u32) -> Vec<Expr> {
    let mut exprs = match rng.random_range(0..7) {
        0 => state(1 << rng.random_range(0..4)),
        1 => iifname(["d0", "d1"][rng.random_range(0..2)]),
        2 => sport_below(5000 + rng.random_range(0..20)),
        3 => ct_mark(rng.random_range(0..3)),
        _ => Vec::new(),
    };
    for _ in 0..rng.random_range(0..4) {
        let counter = match rng.random_range(0..4) {
            0 => 0,
            _ => {
                *counters += 1;
                *counters - 1
            }
        };
        exprs.push(Expr::State(StateId(counter)));
    }
    if rng.random_ratio(1, 6) {
        exprs.extend(ct_mark_set(rng.random_range(0..3)));
    }
    match rng.random_range(0..10) {
        0 => exprs.extend(meta_set(MetaKey::Mark, rng.random_range(0..3))),
        1 => exprs.extend(meta_set(MetaKey::Priority, rng.random_range(0..3))),
        2 => exprs.extend(meta_mark_of_connection()),
        _ => {}
    }
    exprs.extend(
        match rng.random_range(0..8) {
            0 => Some(Verdict::Accept),
            1 => Some(Verdict::Return),
            2 if rng.random_ratio(1, 3) => Some(Verdict::Drop),
            3..6 if chain + 1 < chains => {
                let to = ChainId(rng.random_range(chain + 1..chains));
                Some(if rng.random_ratio(1, 3) {
                    Verdict::Goto(to)
                } else {
                    Verdict::Jump(to)
                })
            }
            _ => None,
        }
        .map(Expr::Verdict),
    );
    exprs
}

/// Has what leaves by IPv4 come from 203.0.113.0/24, each address from its own (`snat ip prefix`), and looks at states as
/// [`stateful`] does.
pub fn netmap(generation: u32) -> Arc<Rules> {
    let [first, last] = [1, 2].map(|number| Register::of(number).expect("NFT_REG"));
    let load = |dest, address: [u8; 4]| Expr::Immediate {
        dest,
        data: address.into(),
    };
    let translate = Nat {
        kind: NatKind::Source,
        family: NFPROTO_IPV4,
        addresses: Some((first, last)),
        ports: None,
        // NF_NAT_RANGE_NETMAP
        flags: 1 << 6,
    };
    let rule = vec![
        load(first, [203, 0, 113, 0]),
        load(last, [203, 0, 113, 255]),
        Expr::Nat(translate),
    ];
    translating(generation, rule)
}

/// Has what leaves come from an address of the link that it leaves by.
pub fn masquerade(generation: u32) -> Arc<Rules> {
    let translate = Nat {
        kind: NatKind::Masquerade,
        family: NFPROTO_INET,
        addresses: None,
        ports: None,
        flags: 0,
    };
    translating(generation, vec![Expr::Nat(translate)])
}

/// [`stateful`], and this rule for what leaves.
fn translating(generation: u32, rule: Vec<Expr>) -> Arc<Rules> {
    let mut nat = chain("postrouting", Some(false), vec![rule]);
    if let Some(base) = &mut nat.base {
        (base.hook, base.priority, base.kind) = (POSTROUTING, 100, ChainType::Nat);
    }
    ruleset(generation, vec![chain("forward", Some(true), of_states()), nat], 0)
}

/// Drops what is invalid, lets through what is established or comes in by d0, drops the rest.
pub fn stateful() -> Arc<Rules> {
    dropping(1, of_states())
}

fn of_states() -> Vec<Vec<Expr>> {
    vec![
        rule(state(CtState::INVALID.0), false, Verdict::Drop),
        rule(
            state(CtState::ESTABLISHED.0 | CtState::RELATED.0),
            false,
            Verdict::Accept,
        ),
        rule(iifname("d0"), false, Verdict::Accept),
    ]
}
