//! Expressions one by one, each in a rule of its own that accepts where it goes on and falls to the policy, drop, where it
//! breaks. What an expression leaves in a register is seen by a comparison behind it; what it sets in the packet, by the
//! packet afterwards.

use super::*;

fn load(base: Base, offset: u8, len: u8) -> Expr {
    Expr::Payload {
        base,
        offset,
        len,
        dest: reg(1),
    }
}

fn eq(data: &[u8]) -> Expr {
    Expr::Cmp {
        source: reg(1),
        op: CmpOp::Eq,
        data: data.into(),
    }
}

fn immediate(data: &[u8]) -> Expr {
    Expr::Immediate {
        dest: reg(1),
        data: data.into(),
    }
}

/// That expressions leave these bytes in the first register, which held ones before.
fn leaves(exprs: &[Expr], data: &[u8]) -> bool {
    let all: Vec<_> = [immediate(&[0xff; 16])]
        .iter()
        .chain(exprs)
        .cloned()
        .chain([eq(data)])
        .collect();
    holds(&all, &mut probe())
}

#[test]
fn registers_overlap_as_the_kernels_do() {
    assert_eq!((reg(1), reg(4).start(), reg(23).start()), (reg(8), 64, 76));
    assert_eq!([0, 5, 7, 24].map(Register::of), [None; 4]);
    assert!(reg(4).holds(16) && !reg(4).holds(17) && !reg(1).holds(0) && reg(23).holds(4) && !reg(23).holds(5));
}

#[test]
fn payload_breaks_where_the_packet_ends_and_pads_with_zeroes() {
    assert!(leaves(&[load(Base::Network, 12, 4)], &[10, 0, 0, 1, 0xff]));
    assert!(leaves(&[load(Base::Transport, 2, 2)], &[0, 80, 0, 0, 0xff]));
    assert!(!holds(&[load(Base::Transport, 22, 4)], &mut probe()));
    let link = ruleset(vec![vec![rule([load(Base::Link, 0, 6)])]]);
    assert!(
        matches!(run(&link, &mut probe()), Outcome::Punt(_)),
        "this probe has no link header"
    );
}

/// Kernels differ about short loads, so these are the kernel's.
#[test]
fn a_later_fragment_has_no_transport_header() {
    let mut packet = probe();
    packet.bytes[7] = 1;
    for (offset, len) in [(0, 2), (2, 2), (4, 4), (13, 1)] {
        let one = ruleset(vec![vec![rule([load(Base::Transport, offset, len)])]]);
        assert!(matches!(run(&one, &mut packet), Outcome::Punt(_)), "{len} at {offset}");
    }
    let holds = |offset, len, packet: &mut Probe| holds(&[load(Base::Transport, offset, len)], packet);
    assert!(
        [(1, 2), (0, 8), (0, 3), (2, 4)]
            .iter()
            .all(|&(offset, len)| !holds(offset, len, &mut packet))
    );
    let present = Expr::Exthdr {
        options: Options::Tcp,
        kind: 2,
        offset: 2,
        len: 2,
        act: ExthdrDo::Load(reg(1)),
    };
    assert!(!super::holds(&[present], &mut packet));
}

#[test]
fn facts_of_each_width() {
    let meta = |key| Expr::Meta { key, dest: reg(1) };
    assert!(leaves(&[meta(MetaKey::Nfproto)], &[2, 0, 0, 0, 0xff]));
    assert!(leaves(&[meta(MetaKey::L4proto)], &[6, 0, 0, 0, 0xff]));
    assert!(leaves(&[meta(MetaKey::Len)], &44u32.to_ne_bytes()));
    assert!(leaves(&[meta(MetaKey::Iifname)], b"eth0\0\0\0\0\0\0\0\0\0\0\0\0"));
    assert!(!holds(&[meta(MetaKey::Iifgroup)], &mut probe()), "absent breaks");
    let ct = |key, reply| Expr::Ct {
        key,
        reply,
        dest: reg(1),
    };
    assert!(leaves(&[ct(CtKey::State, None)], &8u32.to_ne_bytes()));
    assert!(!holds(&[ct(CtKey::Mark, None)], &mut probe()));
    let rt = Expr::Rt {
        key: RtKey::Tcpmss,
        dest: reg(1),
    };
    assert!(
        matches!(run(&ruleset(vec![vec![rule([rt])]]), &mut probe()), Outcome::Punt(_)),
        "unknown is the kernel's"
    );
}

#[test]
fn what_is_set_is_seen() {
    let mut packet = probe();
    let set = [
        immediate(&9u32.to_ne_bytes()),
        Expr::MetaSet {
            key: MetaKey::Mark,
            source: reg(1),
        },
        Expr::CtSet {
            key: CtKey::Mark,
            reply: None,
            source: reg(1),
        },
        Expr::PayloadStore {
            base: Base::Network,
            offset: 8,
            len: 1,
            source: reg(1),
            fix: ChecksumFix {
                own: Some(10),
                pseudo_header: false,
            },
        },
        Expr::Meta {
            key: MetaKey::Mark,
            dest: reg(2),
        },
        Expr::Cmp {
            source: reg(2),
            op: CmpOp::Eq,
            data: 9u32.to_ne_bytes().into(),
        },
    ];
    assert!(holds(&set, &mut packet));
    assert_eq!(packet.stored, [(Base::Network, 8, vec![9u32.to_ne_bytes()[0]])]);
    assert!(matches!(packet.ct[&(CtKey::Mark, None)], Fact::Bytes16(value) if value[..4] == 9u32.to_ne_bytes()));
}

#[test]
fn comparisons_are_of_bytes() {
    let cmp = |op, data: &[u8]| {
        let source = reg(1);
        holds(
            &[
                immediate(&[1, 200]),
                Expr::Cmp {
                    source,
                    op,
                    data: data.into(),
                },
            ],
            &mut probe(),
        )
    };
    for (data, smaller, equal) in [([1, 199], true, false), ([1, 200], false, true), ([2, 0], false, false)] {
        assert_eq!([cmp(CmpOp::Eq, &data), cmp(CmpOp::Neq, &data)], [equal, !equal]);
        assert_eq!(
            [cmp(CmpOp::Gt, &data), cmp(CmpOp::Gte, &data)],
            [smaller, smaller || equal]
        );
        assert_eq!(
            [cmp(CmpOp::Lt, &data), cmp(CmpOp::Lte, &data)],
            [!smaller && !equal, !smaller]
        );
    }
    let range = |inverted, value: u8| {
        let (source, from, to) = (reg(1), [5].into(), [9].into());
        holds(
            &[
                immediate(&[value]),
                Expr::Range {
                    source,
                    inverted,
                    from,
                    to,
                },
            ],
            &mut probe(),
        )
    };
    assert_eq!(
        [4, 5, 9, 10].map(|value| range(false, value)),
        [false, true, true, false]
    );
    assert_eq!(
        [4, 5, 9, 10].map(|value| range(true, value)),
        [true, false, false, true]
    );
}

#[test]
fn bits() {
    let bitwise = |len, op| Expr::Bitwise {
        source: reg(1),
        dest: reg(1),
        len,
        op,
    };
    let data = |bytes: &[u8]| Operand::Data(bytes.into());
    let start = immediate(&[0b1100, 0b1010, 0xff, 0xff, 0xff]);
    let does = |op, left: &[u8]| leaves(&[start.clone(), bitwise(2, op)], left);
    assert!(does(
        BitOp::MaskXor([0b0110, 0xff].into(), [1, 0].into()),
        &[0b0101, 0b1010, 0, 0, 0xff]
    ));
    assert!(does(BitOp::And(data(&[0b0110, 1])), &[0b0100, 0, 0, 0]));
    assert!(does(BitOp::Or(data(&[0b0110, 1])), &[0b1110, 0b1011, 0xff, 0xff]));
    assert!(does(BitOp::Xor(data(&[0b0110, 1])), &[0b1010, 0b1011, 0xff, 0xff]));
    let other = Expr::Immediate {
        dest: reg(2),
        data: [1, 2, 0, 0].into(),
    };
    assert!(leaves(
        &[start.clone(), other, bitwise(2, BitOp::And(Operand::Register(reg(2))))],
        &[0, 2, 0, 0]
    ));
}

#[test]
fn shifts_carry_from_word_to_word() {
    let words = |words: [u32; 2]| words.map(u32::to_ne_bytes).concat();
    let shift = |op| {
        [
            immediate(&words([0x8000_0001, 0x8000_0003])),
            Expr::Bitwise {
                source: reg(1),
                dest: reg(1),
                len: 8,
                op,
            },
        ]
    };
    assert!(leaves(&shift(BitOp::Left(4)), &words([0x18, 0x30])));
    assert!(leaves(&shift(BitOp::Right(4)), &words([0x0800_0000, 0x1800_0000])));
}

#[test]
fn byteorder_turns_and_leaves_the_rest() {
    let turn = |size, len| {
        let (source, dest) = (reg(1), reg(1));
        [
            immediate(&[1, 2, 3, 4, 5, 6, 7, 8]),
            Expr::Byteorder {
                source,
                dest,
                len,
                size,
            },
        ]
    };
    if cfg!(target_endian = "little") {
        assert!(leaves(&turn(2, 2), &[2, 1, 3, 4, 5]));
        assert!(leaves(&turn(2, 4), &[2, 1, 4, 3, 5]));
        assert!(leaves(&turn(4, 8), &[4, 3, 2, 1, 8, 7, 6, 5]));
        assert!(leaves(&turn(8, 8), &[8, 7, 6, 5, 4, 3, 2, 1]));
    }
}

fn lookup(set: Arc<Set>, value: u8, into: LookupInto, inverted: bool) -> (Outcome, State, Probe) {
    let exprs = [
        immediate(&[value]),
        Expr::Lookup {
            set: SetId(0),
            key: reg(1),
            into,
            inverted,
        },
        Expr::MetaSet {
            key: MetaKey::Mark,
            source: reg(1),
        },
        Expr::Verdict(Verdict::Accept),
    ];
    let mut ruleset = ruleset(vec![vec![rule(exprs)], vec![]]);
    ruleset.sets = [set].into();
    let state = State::new(&ruleset, 0);
    let mut packet = probe();
    let outcome = Interpreter::new(&ruleset, &state, 0).chain(ChainId(0), &mut packet);
    (outcome, state, packet)
}

#[test]
fn lookups_in_sets_maps_and_verdict_maps() {
    let is_in = |set, value, inverted| lookup(set, value, LookupInto::Nothing, inverted).0 == Outcome::Accept;
    let plain = || set_of(DataKind::Nothing, vec![(Some(3), Data::Nothing)]);
    assert_eq!([is_in(plain(), 3, false), is_in(plain(), 4, false)], [true, false]);
    assert_eq!([is_in(plain(), 3, true), is_in(plain(), 4, true)], [false, true]);
    let all = || set_of(DataKind::Nothing, vec![(Some(3), Data::Nothing), (None, Data::Nothing)]);
    assert!(
        is_in(all(), 4, false) && is_in(all(), 3, true) && is_in(all(), 4, true),
        "as nft_lookup_eval does"
    );
    let map = set_of(
        DataKind::Value(4),
        vec![(Some(3), Data::Value(77u32.to_ne_bytes().into()))],
    );
    let (outcome, state, packet) = lookup(map, 3, LookupInto::Register(reg(1)), false);
    assert_eq!((outcome, packet.meta[&MetaKey::Mark]), (Outcome::Accept, Fact::U32(77)));
    assert_eq!(state.of_element(SetId(0), 0).counted(), Some((1, 44)), "elements count");
    let verdicts = || {
        let to = |key, verdict| (key, Data::Verdict(verdict));
        set_of(
            DataKind::Verdict,
            vec![
                to(Some(1), Verdict::Drop),
                to(Some(2), Verdict::Jump(ChainId(1))),
                to(Some(3), Verdict::Continue),
                to(None, Verdict::Return),
            ],
        )
    };
    let says = |value| lookup(verdicts(), value, LookupInto::Verdict, false).0;
    let policy = Outcome::Drop(Place {
        chain: ChainId(0),
        rule: None,
        expr: 0,
    });
    assert_eq!([says(1), says(2)], [Outcome::Drop(place(ChainId(0), 0, 1)), policy]);
    assert_eq!([says(3), says(9)], [Outcome::Accept, policy]);
}

#[test]
fn objects_by_name_and_by_map() {
    let map = set_of(
        DataKind::Object(2),
        vec![
            (Some(3), Data::Object(ObjectId(0))),
            (Some(4), Data::Object(ObjectId(1))),
        ],
    );
    let object = |kind| Object {
        table: TableId(0),
        name: "o".into(),
        kind,
    };
    let says = |expr: Expr, value: u8| {
        let exprs = [immediate(&[value]), expr, Expr::Verdict(Verdict::Accept)];
        let mut ruleset = ruleset(vec![vec![rule(exprs)]]);
        ruleset.sets = [map.clone()].into();
        ruleset.states = [Stateful::Quota {
            bytes: 43,
            consumed: 0,
            inverted: true,
        }]
        .into();
        ruleset.objects = [object(ObjectKind::State(StateId(0))), object(ObjectKind::Uncarried(3))].into();
        let state = State::new(&ruleset, 0);
        let outcome = Interpreter::new(&ruleset, &state, 0).chain(ChainId(0), &mut probe());
        (outcome, state.cell(StateId(0)).consumed())
    };
    let by_map = || Expr::ObjrefMap {
        set: SetId(0),
        key: reg(1),
    };
    assert_eq!(says(Expr::Objref(ObjectId(0)), 0), (Outcome::Accept, Some(43)));
    assert_eq!(says(by_map(), 3), (Outcome::Accept, Some(43)));
    assert!(matches!(says(by_map(), 4), (Outcome::Punt(_), Some(0))));
    assert!(matches!(says(by_map(), 5), (Outcome::Drop(_), Some(0))));
}

#[test]
fn numbers_and_hashes() {
    let mut ruleset = ruleset(vec![vec![rule([
        Expr::NumgenInc {
            state: StateId(0),
            offset: 5,
            dest: reg(1),
        },
        Expr::MetaSet {
            key: MetaKey::Mark,
            source: reg(1),
        },
        Expr::Verdict(Verdict::Accept),
    ])]]);
    ruleset.states = [Stateful::Numgen { modulus: 2 }].into();
    let state = State::new(&ruleset, 0);
    for expected in [5, 6, 5] {
        let mut packet = probe();
        Interpreter::new(&ruleset, &state, 0).chain(ChainId(0), &mut packet);
        assert_eq!(packet.meta[&MetaKey::Mark], Fact::U32(expected));
    }
    let jhash = |seed| Expr::Jhash {
        source: reg(1),
        len: 4,
        seed,
        modulus: 1 << 16,
        offset: 1,
        dest: reg(1),
    };
    let hash = super::super::super::hash::jhash(&[10, 0, 0, 1], 42);
    assert!(leaves(
        &[load(Base::Network, 12, 4), jhash(Some(42))],
        &((hash >> 16) + 1).to_ne_bytes()
    ));
    assert!(ruleset.uncarried(&jhash(None)).is_some() && ruleset.uncarried(&jhash(Some(1))).is_none());
}

#[test]
fn what_ends_a_chain_with_an_action() {
    let reject = ruleset(vec![vec![rule([Expr::Reject(Reject::Icmpx(1))])]]);
    assert_eq!(
        run(&reject, &mut probe()),
        Outcome::Reject(Reject::Icmpx(1), place(ChainId(0), 0, 0))
    );
    let log = Expr::Log(Log {
        prefix: "x".into(),
        group: None,
    });
    for expr in [log, Expr::Notrack, Expr::Verdict(Verdict::Uncarried(3))] {
        assert!(matches!(
            run(&ruleset(vec![vec![rule([expr])]]), &mut probe()),
            Outcome::Punt(_)
        ));
    }
}

/// Where an outcome is the kernel's it chooses anew: then it alone chooses, or that outcome would have to be drawn twice.
#[test]
fn a_choice_is_made_once() {
    const MINUTE_NS: u64 = 60_000_000_000;
    let of = |modulus| Expr::NumgenRandom {
        state: StateId(0),
        modulus,
        offset: 100,
        dest: reg(1),
    };
    let of_all = |behind| ruleset(vec![vec![rule([of(10), eq(&105u32.to_ne_bytes()), behind])]]);
    let mut punted = of_all(Expr::uncarried("log"));
    punted.states = [Stateful::Choice].into();
    let state = State::new(&punted, 0);
    let ends = |now_ns| match Interpreter::new(&punted, &state, now_ns).chain(ChainId(0), &mut probe()) {
        Outcome::Punt(place) => place.expr,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        [0, 1, 9 * MINUTE_NS, 11 * MINUTE_NS, 12 * MINUTE_NS].map(ends),
        [2, 0, 0, 2, 0]
    );

    // Of one outcome there is no choice: kube-proxy has that for services of one endpoint.
    let mut one = ruleset(vec![vec![rule([
        of(1),
        eq(&100u32.to_ne_bytes()),
        Expr::uncarried("log"),
    ])]]);
    one.states = [Stateful::Choice].into();
    let state = State::new(&one, 0);
    for now_ns in [0, 1] {
        let outcome = Interpreter::new(&one, &state, now_ns).chain(ChainId(0), &mut probe());
        assert!(matches!(outcome, Outcome::Punt(Place { expr: 2, .. })), "{outcome:?}");
    }

    let mut accepted = of_all(Expr::Verdict(Verdict::Accept));
    accepted.states = [Stateful::Choice].into();
    let state = State::new(&accepted, 0);
    let changes = || {
        let mut interpreter = Interpreter::new(&accepted, &state, 0);
        assert_eq!(interpreter.chain(ChainId(0), &mut probe()), Outcome::Accept);
        interpreter.into_changes()
    };
    let is_kernels = || state.cell(StateId(0)).is_kernels(0);
    changes().keep();
    changes().take_back(&state);
    assert!(!is_kernels(), "it comes by once more");
    changes().give_away(&state, 0);
    assert!(is_kernels());
}
