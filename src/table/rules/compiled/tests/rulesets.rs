//! Random rulesets as nft would emit them, and some that it would not.
//!
//! Few values, so that rules match; conditions, effects and verdicts in any order; chains that jump to one another, and runs of
//! rules that ask for one key, which an index is made of.

use super::super::super::expr::*;
use super::super::super::interpret::tests::{reg, rule, ruleset as chains_of};
use super::super::super::keys::*;
use super::super::super::program::*;
use super::super::super::set::{Data, DataKind, Element, Kind, Set, SetSpec};
use super::conditions::{R, bytes, condition, effect, lookup, meta, payload, pick};
use rand::{RngExt, rngs::ChaCha8Rng};
use std::sync::Arc;

const SETS: u32 = 9;
const STATES: u32 = 9;

pub(super) fn random(random: &mut ChaCha8Rng) -> Ruleset {
    let chains = random.random_range(1..6);
    let long = random.random_bool(0.3);
    let chain = |(at, random): (u32, &mut ChaCha8Rng)| {
        let rules = random.random_range(0..if long { 60 } else { 12 });
        (0..rules).map(|_| rule(exprs(random, at, chains))).collect::<Vec<_>>()
    };
    let rules = (0..chains).map(|at| chain((at, &mut *random))).collect();
    let mut ruleset = chains_of(rules);
    // A second base chain.
    if chains > 2 {
        let base = BaseChain {
            priority: 5,
            policy_drop: false,
            ..ruleset.chains[0].base.clone().expect("the first is one")
        };
        Arc::make_mut(&mut ruleset.chains)[2].base = Some(base);
    }
    if let Some(base) = &mut Arc::make_mut(&mut ruleset.chains)[0].base {
        base.counter = random.random_bool(0.3).then_some(StateId(3));
    }
    ruleset.states = (0..STATES).map(state).collect();
    ruleset.sets = (0..SETS).map(|number| Arc::new(set(random, number, chains))).collect();
    ruleset.objects = [ObjectKind::State(StateId(1)), ObjectKind::Uncarried(9)]
        .map(|kind| Object {
            table: TableId(0),
            name: "o".into(),
            kind,
        })
        .into();
    ruleset
}

fn state(number: u32) -> Stateful {
    match number {
        4 => Stateful::Quota {
            bytes: 300,
            consumed: 0,
            inverted: false,
        },
        5 => Stateful::Limit(Limit {
            rate: 2,
            per_ns: 1_000_000_000,
            burst: 2,
            of_bytes: false,
            inverted: false,
        }),
        6 => Stateful::Last { ago_ms: None },
        7 => Stateful::Numgen { modulus: 3 },
        8 => Stateful::Choice,
        _ => Stateful::Counter { packets: 0, bytes: 0 },
    }
}

/// A chain that one may enter from `at` without coming back to it.
fn behind(random: &mut ChaCha8Rng, at: u32, chains: u32) -> Option<ChainId> {
    (at + 1 < chains).then(|| ChainId(random.random_range(at + 1..chains)))
}

fn verdict(random: &mut ChaCha8Rng, at: u32, chains: u32) -> Verdict {
    match (random.random_range(0..10), behind(random, at, chains)) {
        (0, _) => Verdict::Drop,
        (1, _) => Verdict::Accept,
        (2, _) => Verdict::Return,
        (3, _) => Verdict::Break,
        (4..8, Some(chain)) => Verdict::Jump(chain),
        (8, Some(chain)) => Verdict::Goto(chain),
        _ => Verdict::Continue,
    }
}

/// 0..3: keys of 1, 2, 4 bytes; 3: intervals of 4; 4: two fields; 5: counts; 6: not known; 7, 8: verdicts, of 1 and 4 bytes.
fn set(random: &mut ChaCha8Rng, number: u32, chains: u32) -> Set {
    let key_len = [1, 2, 4, 4, 8, 4, 4, 1, 4][number as usize];
    let verdicts = number >= 7;
    let spec = SetSpec {
        key_len,
        data: if verdicts { DataKind::Verdict } else { DataKind::Nothing },
        interval: number == 3,
        ..SetSpec::default()
    };
    if number == 6 {
        return Set::opaque(SetSpec {
            opaque: Some("it changes".into()),
            ..spec
        });
    }
    let mut elements = Vec::new();
    for place in 0..random.random_range(0..8) {
        let catch_all = place == 0 && random.random_bool(0.2);
        let kind = match number {
            _ if catch_all => Kind::CatchAll,
            3 if place % 2 == 1 => Kind::IntervalEnd,
            _ => Kind::Key,
        };
        elements.push(Element {
            kind,
            key: if catch_all {
                Box::default()
            } else {
                bytes(random, key_len.into()).into()
            },
            key_end: None,
            data: match verdicts {
                // Any chain may ask it: the last chain is behind all but itself, which then goes on.
                true => Data::Verdict(match verdict(random, chains - 1, chains) {
                    Verdict::Continue if chains > 1 && random.random_bool(0.2) => Verdict::Jump(ChainId(chains - 1)),
                    other => other,
                }),
                false => Data::Nothing,
            },
            expires_ns: random.random_bool(0.2).then_some(2 << 30),
            states: match number {
                5 => [Stateful::Counter { packets: 0, bytes: 0 }].into(),
                _ => Box::default(),
            },
        });
    }
    Set::new(spec, elements).expect("it is well-formed")
}

fn exprs(random: &mut ChaCha8Rng, at: u32, chains: u32) -> Vec<Expr> {
    let mut found = Vec::new();
    for _ in 0..random.random_range(0..4) {
        found.extend(condition(random));
    }
    for _ in 0..pick(random, &[0, 1, 1, 2]) {
        found.extend(effect(random));
        if random.random_bool(0.1) {
            found.extend(condition(random));
        }
    }
    match random.random_range(0..20) {
        0 => found.push(Expr::Reject(Reject::Icmpx(1))),
        1 => found.extend([
            Expr::Immediate {
                dest: reg(2),
                data: [1; 16].into(),
            },
            Expr::Nat(Nat {
                kind: NatKind::Source,
                family: pick(random, &[NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_INET]),
                addresses: Some((reg(2), reg(2))),
                ports: None,
                flags: 0,
            }),
        ]),
        2 if random.random_bool(0.5) => found.push(Expr::uncarried("queue")),
        // The last chain is not asked, since it might be entered from there.
        3..6 if at + 1 < chains => {
            let (load, set) = match random.random_bool(0.5) {
                true => (vec![payload(Base::Transport, 13, 1, R)], 7),
                false => (vec![meta(pick(random, &[MetaKey::Mark, MetaKey::Iif]), R)], 8),
            };
            found.extend(load);
            found.push(lookup(set, LookupInto::Verdict, false));
            found.push(Expr::Verdict(verdict(random, at, chains)));
        }
        6 => {}
        _ => found.push(Expr::Verdict(verdict(random, at, chains))),
    }
    found
}
