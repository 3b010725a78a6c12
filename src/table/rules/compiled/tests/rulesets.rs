//! Random rulesets as nft would emit them, and some that it would not: few values, so that rules match, and conditions,
//! effects and verdicts in any order.

use super::super::super::expr::*;
use super::super::super::interpret::tests::{reg, rule, ruleset as chains_of};
use super::super::super::keys::*;
use super::super::super::program::*;
use super::super::super::set::{Data, DataKind, Element, Kind, Set, SetSpec};
use super::super::super::xt::{self, Target, Tcpmss};
use super::packets::NAMES;
use rand::{RngExt, rngs::ChaCha8Rng};
use std::sync::Arc;

const SETS: u32 = 9;
const STATES: u32 = 8;
/// A register that conditions use.
const R: u32 = 1;

/// `ip saddr` of these bytes, or as many of it.
pub(super) fn saddr(bytes: &[u8]) -> Vec<Expr> {
    vec![
        payload(Base::Network, 12, bytes.len() as u8, R),
        compare(CmpOp::Eq, bytes),
    ]
}

/// `meta nfproto`
pub(super) fn nfproto(number: u8) -> Vec<Expr> {
    vec![meta(MetaKey::Nfproto, R), compare(CmpOp::Eq, &[number])]
}

fn payload(base: Base, offset: u8, len: u8, dest: u32) -> Expr {
    let dest = reg(dest);
    Expr::Payload {
        base,
        offset,
        len,
        dest,
    }
}

fn meta(key: MetaKey, dest: u32) -> Expr {
    Expr::Meta { key, dest: reg(dest) }
}

fn compare(op: CmpOp, data: &[u8]) -> Expr {
    Expr::Cmp {
        source: reg(R),
        op,
        data: data.into(),
    }
}

fn mask(mask: &[u8], xor: &[u8]) -> Expr {
    Expr::Bitwise {
        source: reg(R),
        dest: reg(R),
        len: mask.len() as u8,
        op: BitOp::MaskXor(mask.into(), xor.into()),
    }
}

fn byteorder(len: u8, size: u8) -> Expr {
    let (source, dest) = (reg(R), reg(R));
    Expr::Byteorder {
        source,
        dest,
        len,
        size,
    }
}

fn pick<T: Copy>(random: &mut ChaCha8Rng, from: &[T]) -> T {
    from[random.random_range(0..from.len())]
}

fn bytes(random: &mut ChaCha8Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.random_range(0..3)).collect()
}

fn op(random: &mut ChaCha8Rng) -> CmpOp {
    use CmpOp::*;
    pick(random, &[Eq, Eq, Eq, Eq, Eq, Eq, Neq, Lt, Lte, Gt, Gte])
}

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
        ruleset.chains[2].base = Some(base);
    }
    if let Some(base) = &mut ruleset.chains[0].base {
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

fn lookup(set: u32, into: LookupInto, inverted: bool) -> Expr {
    Expr::Lookup {
        set: SetId(set),
        key: reg(R),
        into,
        inverted,
    }
}

/// A load, and what it is asked.
fn condition(random: &mut ChaCha8Rng) -> Vec<Expr> {
    let in_set = |random: &mut ChaCha8Rng, set| lookup(set, LookupInto::Nothing, random.random_bool(0.3));
    match random.random_range(0..21) {
        0 => nfproto(pick(random, &[NFPROTO_IPV4, NFPROTO_IPV6])),
        1 => vec![meta(MetaKey::L4proto, R), compare(CmpOp::Eq, &[pick(random, &[6, 17])])],
        2..6 => {
            // An address, or the beginning of one.
            let len = pick(random, &[1, 2, 3, 4, 4, 4, 16]);
            let address = bytes(random, len);
            vec![
                payload(Base::Network, pick(random, &[12, 16]), len as u8, R),
                compare(op(random), &address),
            ]
        }
        6 => {
            let address = bytes(random, 4);
            let bits = pick(
                random,
                &[[0xff, 0xff, 0xfe, 0], [0xff, 0xff, 0xff, 0], [0, 1, 0, 3], [0xff; 4]],
            );
            let xor = pick(random, &[[0; 4], [0; 4], [0, 0, 0, 1]]);
            let op = op(random);
            vec![
                payload(Base::Network, 12, 4, R),
                mask(&bits, &xor),
                compare(op, &address),
            ]
        }
        7 | 8 => {
            let port = bytes(random, 2);
            let (load, op) = (payload(Base::Transport, pick(random, &[0, 2]), 2, R), op(random));
            let proto = compare(CmpOp::Eq, &[pick(random, &[6, 6, 17])]);
            vec![meta(MetaKey::L4proto, R), proto, load, compare(op, &port)]
        }
        9 => {
            let load = payload(Base::Transport, pick(random, &[0, 2]), 2, R);
            let range = Expr::Range {
                source: reg(R),
                inverted: random.random_bool(0.3),
                from: bytes(random, 2).into(),
                to: bytes(random, 2).into(),
            };
            vec![load, range]
        }
        10 => {
            let name = format!("{}\0", pick(random, &NAMES));
            let (key, shown) = (
                pick(random, &[MetaKey::Iifname, MetaKey::Oifname]),
                random.random_range(1..=name.len()),
            );
            vec![
                meta(key, R),
                compare(pick(random, &[CmpOp::Eq, CmpOp::Neq]), &name.as_bytes()[..shown]),
            ]
        }
        11 => {
            // A number, compared as one.
            let key = pick(random, &[MetaKey::Mark, MetaKey::Iif, MetaKey::Len, MetaKey::Priority]);
            let turn = byteorder(4, pick(random, &[2, 4, 4, 4]));
            vec![
                meta(key, R),
                turn,
                compare(op(random), &random.random_range(0..4u32).to_be_bytes()),
            ]
        }
        12 => {
            let key = pick(random, &[MetaKey::Mark, MetaKey::Iif, MetaKey::Oif]);
            vec![
                meta(key, R),
                compare(op(random), &random.random_range(0..4u32).to_ne_bytes()),
            ]
        }
        13 => {
            let (key, value) = (pick(random, &[MetaKey::Pkttype, MetaKey::Iiftype]), bytes(random, 1));
            vec![meta(key, R), compare(op(random), &value)]
        }
        14 => {
            let state = ct(CtKey::State, None);
            let bits = random.random_range(1..16u32).to_ne_bytes();
            vec![state, mask(&bits, &[0; 4]), compare(CmpOp::Neq, &[0; 4])]
        }
        15 => {
            let value = random.random_range(0..4u32).to_ne_bytes();
            vec![ct(CtKey::Mark, None), compare(op(random), &value)]
        }
        16 => match random.random_range(0..4) {
            0 => vec![
                ct(CtKey::SrcIp, Some(random.random())),
                compare(op(random), &[0, 0, 0, 1]),
            ],
            1 => {
                let turn = byteorder(8, pick(random, &[2, 4, 8]));
                vec![ct(CtKey::Bytes, None), turn, compare(op(random), &1u64.to_be_bytes())]
            }
            2 => vec![ct(CtKey::Zone, None), compare(op(random), &[0; 2])],
            _ => vec![payload(Base::Link, 0, 6, R), compare(CmpOp::Eq, &[1; 6])],
        },
        17 => match random.random_range(0..4) {
            0 => vec![payload(Base::Transport, 13, 1, R), in_set(random, 0)],
            1 => vec![payload(Base::Transport, 2, 2, R), in_set(random, 1)],
            2 => vec![payload(Base::Network, 12, 4, R), {
                let set = pick(random, &[2, 3, 3, 5, 6]);
                in_set(random, set)
            }],
            // Loaded in the order of the key, or not.
            order => {
                let mut found = vec![payload(Base::Network, 12, 4, 8), payload(Base::Transport, 2, 2, 9)];
                if order == 3 && random.random() {
                    found.reverse();
                }
                found.push(in_set(random, 4));
                found
            }
        },
        18 => vec![Expr::Exthdr {
            options: Options::Tcp,
            kind: 2,
            offset: 0,
            len: 1,
            act: pick(random, &[ExthdrDo::Load(reg(R)), ExthdrDo::Present(reg(R))]),
        }],
        19 => vec![xt(random)],
        // Only whether it is there, into a register that is used again; perhaps another one's load lies over it.
        _ => {
            let mut found = vec![payload(Base::Network, 12, 4, 9), pick_load(random)];
            if random.random_bool(0.3) {
                found.push(payload(Base::Network, 4, 16, R));
            }
            let (source, dest, len) = (reg(9), reg(R), 4);
            let op = BitOp::MaskXor([0xff; 4].into(), [0; 4].into());
            found.push(Expr::Bitwise { source, dest, len, op });
            let value = bytes(random, 4);
            found.push(compare(self::op(random), &value));
            found
        }
    }
}

/// A match of iptables: of the mark, or of ports.
fn xt(random: &mut ChaCha8Rng) -> Expr {
    let mut word = || random.random_range(0..4u32).to_ne_bytes();
    let (name, revision, words) = match word()[0] {
        0 | 1 => ("mark", 1, [word(), word(), [0; 4], [0; 4]]),
        _ => ("tcp", 0, [[0, 0, 1, 2], [0, 0, 2, 2], [0; 4], [0; 4]]),
    };
    let xt = Xt {
        target: false,
        name: name.into(),
        revision,
        info: words.concat().into(),
    };
    xt::decode(&xt, NFPROTO_IPV4).expect("it is carried")
}

fn pick_load(random: &mut ChaCha8Rng) -> Expr {
    match random.random_range(0..3) {
        0 => ct(CtKey::Mark, None),
        1 => meta(MetaKey::Pkttype, R),
        _ => payload(Base::Transport, 20, 16, 3),
    }
}

fn ct(key: CtKey, reply: Option<bool>) -> Expr {
    Expr::Ct {
        key,
        reply,
        dest: reg(R),
    }
}

/// Something that is seen, or that later conditions see.
fn effect(random: &mut ChaCha8Rng) -> Vec<Expr> {
    let word = Expr::Immediate {
        dest: reg(R),
        data: random.random_range(0..4u32).to_ne_bytes().into(),
    };
    match random.random_range(0..16) {
        0 | 1 => vec![
            word,
            Expr::MetaSet {
                key: MetaKey::Mark,
                source: reg(R),
            },
        ],
        2 => vec![
            word,
            Expr::CtSet {
                key: CtKey::Mark,
                reply: None,
                source: reg(R),
            },
        ],
        3 => vec![
            word,
            Expr::PayloadStore {
                base: Base::Network,
                offset: 15,
                len: 1,
                source: reg(R),
                fix: ChecksumFix {
                    own: None,
                    pseudo_header: false,
                },
            },
        ],
        4 => vec![
            word,
            Expr::Exthdr {
                options: Options::Tcp,
                kind: 2,
                offset: 2,
                len: 2,
                act: ExthdrDo::Store(reg(R)),
            },
        ],
        5 if random.random_bool(0.3) => vec![Expr::Notrack],
        6 => vec![Expr::Objref(ObjectId(u32::from(random.random_bool(0.1))))],
        7 => vec![
            Expr::NumgenInc {
                state: StateId(7),
                offset: 0,
                dest: reg(R),
            },
            compare(CmpOp::Eq, &1u32.to_ne_bytes()),
        ],
        8 => vec![
            Expr::NumgenRandom {
                modulus: 3,
                offset: 0,
                dest: reg(R),
            },
            compare(CmpOp::Eq, &1u32.to_ne_bytes()),
        ],
        9 if random.random_bool(0.2) => vec![Expr::Log(Log {
            prefix: "".into(),
            group: None,
        })],
        10 => vec![
            Expr::Fib {
                result: FibResult::Addrtype,
                flags: FibFlags(FibFlags::SADDR),
                dest: reg(R),
            },
            compare(CmpOp::Eq, &1u32.to_ne_bytes()),
        ],
        11 => vec![Expr::Target(Target::Mark {
            mask: random.random_range(0..4),
            mark: random.random_range(0..4),
        })],
        12 => vec![Expr::Target(Target::Tcpmss(Tcpmss::Set(random.random_range(0..600))))],
        _ => vec![Expr::State(StateId(random.random_range(0..7)))],
    }
}
