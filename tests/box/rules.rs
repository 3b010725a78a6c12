//! Rulesets in memory, as a box at forward runs them.

use bypath::table::conntrack::CtState;
use bypath::table::rules::expr::{Base, BitOp, CmpOp, Expr, Register, Stateful, Verdict};
use bypath::table::rules::keys::{CtKey, MetaKey};
use bypath::table::rules::live::{FORWARD, Rules};
use bypath::table::rules::program::{
    BaseChain, Chain, ChainType, NFPROTO_INET, Rule, Ruleset, StateId, Table, TableId,
};
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

/// The conditions, a counter if it is to count, and a verdict.
pub fn rule(conditions: Vec<Expr>, counts: bool, verdict: Verdict) -> Vec<Expr> {
    let counter = counts.then_some(Expr::State(StateId(0)));
    conditions
        .into_iter()
        .chain(counter)
        .chain([Expr::Verdict(verdict)])
        .collect()
}

/// A ruleset of one chain of family inet at forward, which drops what comes to its end. It has one counter.
pub fn dropping(generation: u32, rules: Vec<Vec<Expr>>) -> Arc<Rules> {
    let rule = |(handle, exprs): (u64, Vec<Expr>)| Rule {
        handle,
        exprs: exprs.into(),
    };
    let chain = Chain {
        table: TableId(0),
        name: "forward".into(),
        base: Some(BaseChain {
            hook: FORWARD,
            priority: 0,
            kind: ChainType::Filter,
            policy_drop: true,
            devices: [].into(),
            counts: false,
            offload: false,
            order: [0; 2],
        }),
        rules: (1..).zip(rules).map(rule).collect(),
    };
    let ruleset = Ruleset {
        generation,
        tables: [Table {
            family: NFPROTO_INET,
            name: "fw".into(),
            dormant: false,
        }]
        .into(),
        chains: [chain].into(),
        states: [Stateful::Counter { packets: 0, bytes: 0 }].into(),
        ..Ruleset::default()
    };
    Arc::new(Rules::new(ruleset, None, 0))
}

/// Drops what is invalid, lets through what is established or comes in by d0, drops the rest.
pub fn stateful() -> Arc<Rules> {
    let rules = vec![
        rule(state(CtState::INVALID.0), false, Verdict::Drop),
        rule(
            state(CtState::ESTABLISHED.0 | CtState::RELATED.0),
            false,
            Verdict::Accept,
        ),
        rule(iifname("d0"), false, Verdict::Accept),
    ];
    dropping(1, rules)
}
