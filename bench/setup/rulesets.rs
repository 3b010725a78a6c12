//! Rulesets for benches, in the form in which nft writes them for a table of family inet, and a packet at their hook.
#![allow(dead_code)]

use super::lab;
use bypath::packet::{Family, Frame, Parsed, PortIndex};
use bypath::port::MemPool;
use bypath::stage::prerouting::{Aside, Of, Tracked};
use bypath::stage::rules::{AtHook, run};
use bypath::stage::rx::parse_bytes;
use bypath::table::Snapshot;
use bypath::table::conntrack::CtState;
use bypath::table::rules::expr::{Base, BitOp, CmpOp, Expr, LookupInto, Register, Stateful, Verdict};
use bypath::table::rules::interpret::{Changes, Interpreter, Outcome};
use bypath::table::rules::keys::{CtKey, MetaKey};
use bypath::table::rules::live::{FORWARD, Point, Rules};
use bypath::table::rules::program::{
    BaseChain, Chain, ChainType, NFPROTO_INET, NFPROTO_IPV4, Rule, Ruleset, SetId, StateId, Table, TableId,
};
use bypath::table::rules::set::{Data, DataKind, Element, Kind, Set, SetSpec};
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

/// One chain of family inet at forward, with these rules.
pub fn ruleset(rules: Vec<Vec<Expr>>) -> Ruleset {
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
pub fn linear(kind: &str, count: u32) -> Ruleset {
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
pub fn router() -> Ruleset {
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

/// A packet of a small box at the hook forward, which accepts it.
pub struct Hook {
    rules: Rules,
    snapshot: Snapshot,
    packet: Parsed,
    frame: Frame,
    tracked: Tracked<'static>,
    aside: Aside,
    changes: Changes,
}

impl Hook {
    /// Of a connection in this state.
    pub fn new(ruleset: Ruleset, state: CtState) -> Self {
        let bytes = lab::udp(Family::V4, lab::gateway(Family::V4), 18);
        let Continue(packet) = parse_bytes(&bytes, PortIndex(0), &lab::mac(0)) else {
            panic!("it is right");
        };
        let mut frame = MemPool::new(1, 2048, 256).take(1).remove(0);
        frame.fill(&bytes);
        let tracked = Tracked {
            state,
            of: Of::Unconfirmed,
            kill: false,
        };
        Self {
            rules: Rules::new(ruleset, None, 0),
            snapshot: lab::snapshot(1, lab::FAR),
            packet,
            frame,
            tracked,
            aside: Aside::default(),
            changes: Changes::default(),
        }
    }

    /// Runs the rules once: compiled, as workers do, or by the interpreter.
    pub fn run(&mut self, compiled: bool) {
        let (rules, changes) = (&self.rules, &mut self.changes);
        let mut at = AtHook {
            point: Point::Forward,
            packet: &mut self.packet,
            frame: &mut self.frame,
            iif: &self.snapshot.ifaces[0],
            oif: Some((&self.snapshot.ifaces[1], 1500)),
            ports: None,
            tracked: Some(&self.tracked),
            aside: &mut self.aside,
            snapshot: &self.snapshot,
            now: 0,
        };
        let outcome = match compiled {
            true => run(at, rules, 0, changes),
            false => {
                let bases = &rules.at(Family::V4, Point::Forward).bases;
                let before = std::mem::take(changes);
                let interpreter = Interpreter::new(&rules.ruleset, &rules.state, 0);
                let mut interpreter = interpreter.going_on_from(before);
                let outcome = interpreter.hook(bases, &mut at);
                *changes = interpreter.into_changes();
                outcome
            }
        };
        assert_eq!(black_box(outcome), Outcome::Accept);
        changes.keep();
    }
}
