//! What rules ask and do, at random: the pieces of [`rulesets`](super::rulesets).
//!
//! Of every kind of expression there is one that the compiled form fuses, and one that it has to leave to the interpreter.
//! Values are few, so that they meet those of [`packets`](super::packets).

use super::super::super::expr::*;
use super::super::super::interpret::tests::reg;
use super::super::super::keys::*;
use super::super::super::program::*;
use super::super::super::xt::{self, Target, Tcpmss};
use super::packets::NAMES;
use rand::{RngExt, rngs::ChaCha8Rng};

/// The register that conditions use.
pub(super) const R: u32 = 1;

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

pub(super) fn payload(base: Base, offset: u8, len: u8, dest: u32) -> Expr {
    let dest = reg(dest);
    Expr::Payload {
        base,
        offset,
        len,
        dest,
    }
}

pub(super) fn meta(key: MetaKey, dest: u32) -> Expr {
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

pub(super) fn pick<T: Copy>(random: &mut ChaCha8Rng, from: &[T]) -> T {
    from[random.random_range(0..from.len())]
}

pub(super) fn bytes(random: &mut ChaCha8Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.random_range(0..3)).collect()
}

fn op(random: &mut ChaCha8Rng) -> CmpOp {
    use CmpOp::*;
    pick(random, &[Eq, Eq, Eq, Eq, Eq, Eq, Neq, Lt, Lte, Gt, Gte])
}

pub(super) fn lookup(set: u32, into: LookupInto, inverted: bool) -> Expr {
    Expr::Lookup {
        set: SetId(set),
        key: reg(R),
        into,
        inverted,
    }
}

/// A load, and what it is asked.
pub(super) fn condition(random: &mut ChaCha8Rng) -> Vec<Expr> {
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
    xt::decode(&xt, NFPROTO_IPV4, |_| StateId(8)).expect("it is carried")
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
pub(super) fn effect(random: &mut ChaCha8Rng) -> Vec<Expr> {
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
                state: StateId(8),
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
