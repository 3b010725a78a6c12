//! Rules in memory: nanoseconds that a hook's chains take for one packet, compiled as workers run them and by the
//! interpreter, and allocations (none, or it says so and fails). `linear` are so many rules of one kind that the packet does
//! not match, in the form in which nft writes them for a table of family inet; `router` is what a home router has at forward,
//! for the first packet of a connection and for one in its middle. `load` is what 10,000 rules take when they are read.

mod allocations;
mod cpu_time;
#[path = "../tests/box/mod.rs"]
mod lab;

use allocations::allocations;
use bypath::packet::{Family, PortIndex};
use bypath::port::MemPool;
use bypath::stage::prerouting::{Aside, Of, Tracked};
use bypath::stage::rules::{AtHook, run};
use bypath::stage::rx::parse_bytes;
use bypath::table::conntrack::CtState;
use bypath::table::rules::expr::{Base, BitOp, CmpOp, Expr, LookupInto, Register, Stateful, Verdict};
use bypath::table::rules::interpret::{Changes, Interpreter, Outcome};
use bypath::table::rules::keys::{CtKey, MetaKey};
use bypath::table::rules::live::{FORWARD, Point, Rules};
use bypath::table::rules::program::{
    BaseChain, Chain, ChainType, NFPROTO_INET, NFPROTO_IPV4, Rule, Ruleset, SetId, StateId, Table, TableId,
};
use bypath::table::rules::set::{Data, DataKind, Element, Kind, Set, SetSpec};
use cpu_time::CpuTime;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::ops::ControlFlow::Continue;
use std::sync::Arc;

fn register() -> Register {
    Register::of(1).expect("NFT_REG_1")
}

fn equal(load: Expr, data: &[u8]) -> Vec<Expr> {
    let compare = Expr::Cmp {
        source: register(),
        op: CmpOp::Eq,
        data: data.into(),
    };
    vec![load, compare]
}

fn meta(key: MetaKey) -> Expr {
    Expr::Meta { key, dest: register() }
}

fn payload(base: Base, offset: u8, len: u8) -> Expr {
    let dest = register();
    Expr::Payload {
        base,
        offset,
        len,
        dest,
    }
}

/// `ip saddr` (at 12) or `ip daddr` (at 16), with the guard that family inet needs.
fn address(at: u8, addr: u32) -> Vec<Expr> {
    let guard = equal(meta(MetaKey::Nfproto), &[NFPROTO_IPV4]);
    [guard, equal(payload(Base::Network, at, 4), &addr.to_be_bytes())].concat()
}

/// `ip saddr` within a prefix.
fn prefix(addr: u32, len: u32) -> Vec<Expr> {
    let bits = !(u32::MAX >> len);
    let mask = Expr::Bitwise {
        source: register(),
        dest: register(),
        len: 4,
        op: BitOp::MaskXor(bits.to_be_bytes().into(), [0; 4].into()),
    };
    let mut found = address(12, addr & bits);
    found.insert(3, mask);
    found
}

/// `udp dport`
fn dport(port: u16) -> Vec<Expr> {
    let guard = equal(meta(MetaKey::L4proto), &[17]);
    [guard, equal(payload(Base::Transport, 2, 2), &port.to_be_bytes())].concat()
}

fn name(key: MetaKey, name: &str) -> Vec<Expr> {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    equal(meta(key), &bytes)
}

fn lookup(load: Expr, set: u32, into: LookupInto) -> Vec<Expr> {
    let ask = Expr::Lookup {
        set: SetId(set),
        key: register(),
        into,
        inverted: false,
    };
    vec![load, ask]
}

/// Set 0: `{ established : accept, related : accept, invalid : drop }`. Set 1: some ports.
fn sets() -> Box<[Arc<Set>]> {
    let set = |key_len, data, elements: Vec<(Vec<u8>, Data)>| {
        let spec = SetSpec {
            key_len,
            data,
            ..SetSpec::default()
        };
        let element = |(key, data): (Vec<u8>, Data)| Element {
            kind: Kind::Key,
            key: key.into(),
            key_end: None,
            data,
            expires_ns: None,
            states: Box::default(),
        };
        Arc::new(Set::new(spec, elements.into_iter().map(element).collect()).expect("a set"))
    };
    let verdicts = [(2u32, Verdict::Accept), (4, Verdict::Accept), (1, Verdict::Drop)];
    let verdicts = verdicts.map(|(state, verdict)| (state.to_ne_bytes().to_vec(), Data::Verdict(verdict)));
    let ports = [22u16, 80, 443, 8080].map(|port| (port.to_be_bytes().to_vec(), Data::Nothing));
    [
        set(4, DataKind::Verdict, verdicts.into()),
        set(2, DataKind::Nothing, ports.into()),
    ]
    .into()
}

fn ruleset(rules: Vec<Vec<Expr>>) -> Ruleset {
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
            policy_drop: false,
            devices: [].into(),
            counter: None,
            offload: false,
            order: [0; 2],
        }),
        rules: (1..).zip(rules).map(rule).collect(),
    };
    Ruleset {
        generation: 1,
        tables: [Table {
            family: NFPROTO_INET,
            name: "fw".into(),
            dormant: false,
        }]
        .into(),
        chains: [chain].into(),
        sets: sets(),
        states: [Stateful::Counter { packets: 0, bytes: 0 }].into(),
        ..Ruleset::default()
    }
}

/// A hundred or more rules that ask for what no packet has, each its own.
fn linear(kind: &str, count: u32) -> Ruleset {
    let condition = |n: u32| match (kind, n % 2) {
        ("saddr", _) | ("both", 0) => address(12, 0xc000_0000 + n * 7),
        ("both", _) => address(16, 0xc000_0000 + n * 7),
        ("prefixes", _) => prefix(0xc000_0000 + (n << 12), 17 + n % 15),
        ("iif-saddr", _) => [name(MetaKey::Iifname, "d0"), address(12, 0xc000_0000 + n * 7)].concat(),
        ("dport", _) => dport(7000 + (n % 50_000) as u16),
        // Nothing that one lookup could tell.
        _ => equal(
            payload(Base::Network, (n % 16) as u8, 2),
            &(n as u16 | 0x8080).to_be_bytes(),
        ),
    };
    let rule = |n| [condition(n), vec![Expr::Verdict(Verdict::Drop)]].concat();
    ruleset((0..count).map(rule).collect())
}

/// Forwarding of a home router, in ten rules: the packet matches the last but one.
fn router() -> Ruleset {
    let accept = || vec![Expr::Verdict(Verdict::Accept)];
    let count = || vec![Expr::State(StateId(0))];
    let ct = |key| Expr::Ct {
        key,
        reply: None,
        dest: register(),
    };
    let ports = || {
        let guard = equal(meta(MetaKey::L4proto), &[6]);
        [guard, lookup(payload(Base::Transport, 2, 2), 1, LookupInto::Nothing)].concat()
    };
    let dnat = || {
        let mask = Expr::Bitwise {
            source: register(),
            dest: register(),
            len: 4,
            op: BitOp::MaskXor(32u32.to_ne_bytes().into(), [0; 4].into()),
        };
        let compare = Expr::Cmp {
            source: register(),
            op: CmpOp::Neq,
            data: [0; 4].into(),
        };
        vec![ct(CtKey::Status), mask, compare]
    };
    let to = |addr: u32| [name(MetaKey::Iifname, "d1"), address(16, addr)].concat();
    ruleset(vec![
        lookup(ct(CtKey::State), 0, LookupInto::Verdict),
        [dnat(), accept()].concat(),
        [to(0x0a00_0005), ports(), count(), accept()].concat(),
        [to(0x0a00_0006), dport(51820), count(), accept()].concat(),
        [name(MetaKey::Iifname, "guest"), name(MetaKey::Oifname, "d1"), accept()].concat(),
        [
            name(MetaKey::Iifname, "d0"),
            dport(53),
            vec![Expr::Verdict(Verdict::Drop)],
        ]
        .concat(),
        [prefix(0xc0a8_6300, 24), vec![Expr::Verdict(Verdict::Drop)]].concat(),
        [name(MetaKey::Iifname, "d0"), name(MetaKey::Oifname, "d0"), accept()].concat(),
        [
            name(MetaKey::Iifname, "d0"),
            name(MetaKey::Oifname, "d1"),
            count(),
            accept(),
        ]
        .concat(),
        [count(), vec![Expr::Verdict(Verdict::Drop)]].concat(),
    ])
}

fn bench(c: &mut Criterion<CpuTime>, name: &str, id: &str, ruleset: Ruleset, state: CtState) {
    let rules = Rules::new(ruleset, None, 0);
    let snapshot = lab::snapshot(1, lab::FAR);
    let bytes = lab::udp(Family::V4, lab::gateway(Family::V4), 18);
    let Continue(mut packet) = parse_bytes(&bytes, PortIndex(0), &lab::mac(0)) else {
        panic!("it is right");
    };
    let mut frame = MemPool::new(1, 2048, 256).take(1).remove(0);
    frame.fill(&bytes);
    let tracked = Tracked {
        state,
        of: Of::Unconfirmed,
        kill: false,
    };
    let (mut aside, mut changes) = (Aside::default(), Changes::default());
    let mut group = c.benchmark_group(name);
    group.sample_size(20);
    for compiled in [true, false] {
        let mut allocated = 0;
        let mut once = || {
            let mut at = AtHook {
                point: Point::Forward,
                packet: &mut packet,
                frame: &mut frame,
                iif: &snapshot.ifaces[0],
                oif: Some((&snapshot.ifaces[1], 1500)),
                ports: None,
                tracked: Some(&tracked),
                aside: &mut aside,
                snapshot: &snapshot,
                now: 0,
            };
            let outcome = match compiled {
                true => run(at, &rules, 0, &mut changes),
                false => {
                    let bases = &rules.at(Family::V4, Point::Forward).bases;
                    let before = std::mem::take(&mut changes);
                    let interpreter = Interpreter::new(&rules.ruleset, &rules.state, 0);
                    let mut interpreter = interpreter.going_on_from(before);
                    let outcome = interpreter.hook(bases, &mut at);
                    changes = interpreter.into_changes();
                    outcome
                }
            };
            assert_eq!(black_box(outcome), Outcome::Accept);
            changes.keep();
        };
        once();
        let by = if compiled { "compiled" } else { "interpreted" };
        group.bench_function(BenchmarkId::new(by, id), |b| {
            let before = allocations();
            b.iter(&mut once);
            allocated += allocations() - before;
        });
        assert_eq!(allocated, 0, "rules allocated");
    }
    group.finish();
}

fn bench_linear(c: &mut Criterion<CpuTime>) {
    for kind in ["saddr", "both", "prefixes", "iif-saddr", "dport", "unlike"] {
        for count in [10, 100, 1_000, 10_000] {
            if count == 1_000 || kind == "saddr" {
                let id = format!("{kind}/{count}");
                bench(c, "linear", &id, linear(kind, count), CtState::NEW);
            }
        }
    }
}

fn bench_router(c: &mut Criterion<CpuTime>) {
    bench(c, "router", "first", router(), CtState::NEW);
    bench(c, "router", "established", router(), CtState::ESTABLISHED);
    bench(
        c,
        "router",
        "accept",
        ruleset(vec![vec![Expr::Verdict(Verdict::Accept)]]),
        CtState::NEW,
    );
}

fn bench_load(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("load");
    group.sample_size(10);
    for kind in ["saddr", "prefixes", "iif-saddr", "unlike"] {
        let ruleset = linear(kind, 10_000);
        group.bench_function(BenchmarkId::new(kind, 10_000), |b| {
            b.iter(|| Rules::new(ruleset.clone(), None, 0));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = bench_linear, bench_router, bench_load
}
criterion_main!(benches);
