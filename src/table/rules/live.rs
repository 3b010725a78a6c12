//! All that the walk needs of a ruleset, whole and of one moment: the rules, what packets change in them, and for each
//! family the chains that it meets at each point of its way.
//!
//! ```text
//!  ruleset + state ---> at(family, point): base chains in the order of their run; what their decision depends on
//!     ^                                   all chains that they reach; which rules of those are the kernel's, and why
//!     '--- cells shared with the ruleset before, by table, chain, handle and position: no count is lost by a change
//!
//!  prerouting   Raw | conntrack -200 | Prerouting | Dnat -100 | BehindDnat
//!  forward      Forward
//!  postrouting  Postrouting | Snat 100 | BehindSnat | confirm
//! ```
//!
//! Chains of type nat run at NAT's own place, whatever their priority; and as long as there is one in a family, at any hook,
//! NAT's hooks see all its connections ([`Rules::nat`]).
//!
//! What frames meet at bridges is in `bridge`.
//!
//! Counters count what bypath carried, beside the kernel's own: what is punted is counted there. Expressions that decide by
//! a memory (limit, quota, last, numgen) belong to one side, and packets that are punted meet them in the kernel: so they are
//! the kernel's, here [uncarried](Expr::Uncarried).
//!
//! As nf_hook_slow of net/netfilter/core.c and nf_nat_inet_fn of nf_nat_core.c for the order; priorities are those of
//! include/uapi/linux/netfilter_ipv4.h, the same in IPv6.

mod bridge;
mod cells;

pub use bridge::{BridgePoint, Bridged};

use super::carried::{self, Depends};
use super::compiled::Program;
use super::expr::Expr;
use super::interpret::{Interpreter, Outcome, Place};
use super::packet::Packet;
use super::program::{
    ChainId, ChainType, NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6, ObjectId, ObjectKind, Rule, Ruleset, SetId,
};
use super::set::{Data, Set};
use super::state::State;
use crate::packet::Family;
use std::collections::HashSet;
use std::sync::Arc;

/// NF_INET_PRE_ROUTING.
pub const PREROUTING: u32 = 0;
/// NF_INET_FORWARD.
pub const FORWARD: u32 = 2;
/// NF_INET_POST_ROUTING.
pub const POSTROUTING: u32 = 4;

/// NF_IP_PRI_CONNTRACK, NF_IP_PRI_NAT_DST, NF_IP_PRI_NAT_SRC.
const PRIORITY_CONNTRACK: i32 = -200;
const PRIORITY_DNAT: i32 = -100;
const PRIORITY_SNAT: i32 = 100;

/// Where on its way a packet meets chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// Nothing is known of its connection, and it may be said to have none.
    Raw,
    /// Its connection is known; before destination NAT.
    Prerouting,
    /// Chains of type nat that decide about the destination, once in a connection.
    Dnat,
    /// Behind destination NAT, before it is routed.
    BehindDnat,
    /// Routed.
    Forward,
    /// About to leave; before source NAT.
    Postrouting,
    /// Chains of type nat that decide about the source, once in a connection.
    Snat,
    /// Behind source NAT, the last.
    BehindSnat,
}

impl Point {
    /// In the order of the walk.
    pub const ALL: [Point; 8] = [
        Point::Raw,
        Point::Prerouting,
        Point::Dnat,
        Point::BehindDnat,
        Point::Forward,
        Point::Postrouting,
        Point::Snat,
        Point::BehindSnat,
    ];

    /// Where packets meet a base chain of a routed family. None: not on their way through the box, or at a priority where
    /// conntrack or NAT is, too, and who comes first is not told.
    pub fn of(hook: u32, kind: ChainType, priority: i32) -> Option<Point> {
        use std::cmp::Ordering::{Equal, Greater, Less};
        match (hook, kind) {
            (PREROUTING, ChainType::Nat) => Some(Point::Dnat),
            (POSTROUTING, ChainType::Nat) => Some(Point::Snat),
            (PREROUTING, ChainType::Filter) if priority < PRIORITY_CONNTRACK => Some(Point::Raw),
            (PREROUTING, ChainType::Filter) if priority == PRIORITY_CONNTRACK => None,
            (PREROUTING, ChainType::Filter) => match priority.cmp(&PRIORITY_DNAT) {
                Less => Some(Point::Prerouting),
                Equal => None,
                Greater => Some(Point::BehindDnat),
            },
            (FORWARD, ChainType::Filter) => Some(Point::Forward),
            (POSTROUTING, ChainType::Filter) => match priority.cmp(&PRIORITY_SNAT) {
                Less => Some(Point::Postrouting),
                Equal => None,
                Greater => Some(Point::BehindSnat),
            },
            _ => None,
        }
    }

    /// Whether chains run here once in a connection.
    pub fn is_nat(self) -> bool {
        matches!(self, Point::Dnat | Point::Snat)
    }
}

/// See the file's head.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The rules.
    pub ruleset: Ruleset,
    /// What packets changed.
    pub state: Arc<State>,
    /// How they were taken over so far.
    pub taken: Taken,
    /// NAT's hooks are there, by [`Family`].
    pub nat: [bool; 2],
    /// What packets meet, by [`Family`] and [`Point`].
    hooks: [[Hook; 8]; 2],
    /// What all of it comes to, by [`Family`].
    sums: [Sum; 2],
    /// The chains as workers run them, by [`Family`]; none where only the interpreter can.
    programs: [Option<Arc<Program>>; 2],
    /// What frames meet at bridges.
    pub bridged: Bridged,
}

/// Readings of one ruleset are equal; the kernel numbers them, but not what tables become without a commit.
impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        let [of_self, of_other] = [self, other].map(|it| (it.ruleset.generation, it.taken.divergences));
        of_self == of_other && self.ruleset.tables == other.ruleset.tables
    }
}

impl Eq for Rules {}

/// How rules were taken over from the kernel since the first of them, in commits and readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Whole readings.
    pub readings: u64,
    /// Commits whose elements were taken from events, without a reading.
    pub deltas: u64,
    /// Readings that found other elements than events had told of.
    pub divergences: u64,
}

/// What all chains that a family meets come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// There is none, and no NAT.
    pub is_nothing: bool,
    /// What a decision depends on that is not made once in a connection.
    pub depends: Depends,
    /// Some of the rules are the kernel's.
    pub punts: bool,
    /// See [`Hook::asks_assured`].
    pub asks_assured: bool,
    /// Packets may be changed: by rules, or by NAT.
    pub rewrites: bool,
    /// Some of the rules answer with a reset, which closes the connection.
    pub resets: bool,
    /// Some of the rules look at marks of connections, or set them.
    pub ct_marks: bool,
}

impl Default for Sum {
    fn default() -> Self {
        Self {
            is_nothing: true,
            depends: Depends::default(),
            punts: false,
            asks_assured: false,
            rewrites: false,
            resets: false,
            ct_marks: false,
        }
    }
}

/// The chains of one point, for one family.
#[derive(Clone, Debug, Default)]
pub struct Hook {
    /// The base chains that may do something, in the order of their run.
    pub bases: Box<[ChainId]>,
    /// All chains that packets may come to, those first.
    pub chains: Box<[ChainId]>,
    /// What the decision depends on.
    pub depends: Depends,
    /// Some of its rules are the kernel's, for some packets at least.
    pub punts: bool,
    /// Some of its rules ask whether a connection is assured. Of UDP that is a matter of age, which the kernel cannot be told:
    /// so its connections begin there.
    pub asks_assured: bool,
    /// Some of its rules change packets.
    rewrites: bool,
    /// Some of its rules answer with a reset, which closes the connection.
    resets: bool,
    /// See [`Sum::ct_marks`].
    ct_marks: bool,
}

/// A rule of a hook that is the kernel's: packets that reach it are punted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Punted {
    /// Its chain.
    pub chain: ChainId,
    /// Its number there.
    pub rule: usize,
    /// What of it is not carried.
    pub why: String,
}

impl Rules {
    /// Those of `ruleset`, which go on where `before` is, at `now_ns`.
    pub fn new(mut ruleset: Ruleset, before: Option<&Rules>, now_ns: u64) -> Self {
        let place = |ruleset: &Ruleset, family, point| {
            let bases = bases(ruleset, number(family), point);
            let chains = carried::reachable(ruleset, &bases, number(family));
            (bases, chains)
        };
        let places = Family::ALL.map(|family| Point::ALL.map(|point| place(&ruleset, family, point)));
        let of_bridges = bridge::places(&ruleset);
        let all = places.iter().flatten().chain(&of_bridges);
        give_memories_away(&mut ruleset, all.flat_map(|(_, chains)| chains));
        let mut state = State::of_our_own(&ruleset, now_ns);
        if let Some(before) = before {
            cells::go_on(&mut state, &ruleset, before);
        }
        let [v4, v6] = places;
        let hooks = [(Family::V4, v4), (Family::V6, v6)].map(|(family, places)| {
            places.map(|(bases, chains)| {
                let chains: Box<[ChainId]> = chains.into();
                let exprs = || exprs(&ruleset, &chains, number(family));
                let rules = || chains.iter().flat_map(|chain| &ruleset[*chain].rules);
                let depends = rules()
                    .map(|rule| carried::depends(&ruleset, rule, number(family)))
                    .max();
                let punts =
                    exprs().any(|expr| carried::kernels(&ruleset, expr).is_some() || carried::may_not_know(expr));
                let asks_assured = rules().any(|rule| carried::asks_assured(carried::reached(rule, number(family))));
                let rewrites = exprs().any(carried::rewrites);
                let resets = exprs().any(carried::resets);
                let ct_marks = exprs().any(carried::has_ct_mark);
                Hook {
                    depends: depends.unwrap_or_default(),
                    punts,
                    asks_assured,
                    rewrites,
                    resets,
                    ct_marks,
                    bases: bases.into(),
                    chains,
                }
            })
        });
        let nat = Family::ALL.map(|family| has_nat(&ruleset, number(family)));
        let sums = Family::ALL.map(|family| sum(&hooks[family as usize], nat[family as usize]));
        let programs = Family::ALL.map(|family| {
            let chains = hooks[family as usize]
                .iter()
                .flat_map(|hook| hook.chains.iter().copied());
            Program::new(&ruleset, chains, number(family)).map(Arc::new)
        });
        Self {
            bridged: Bridged::new(&ruleset, of_bridges),
            ruleset,
            state: Arc::new(state),
            taken: before.map_or_else(Taken::default, |before| before.taken),
            nat,
            hooks,
            sums,
            programs,
        }
    }

    /// The same rules of a later `generation`, of which nothing but the elements of these sets is another. What those lead to
    /// is in no rule's way, see [`Set::changed`]: so all that was made of the rules goes on, and with it what packets changed.
    pub fn with_sets(&self, generation: u32, changed: impl IntoIterator<Item = (SetId, Set)>) -> Self {
        let mut sets = self.ruleset.sets.clone();
        for (id, set) in changed {
            sets[id.0 as usize] = Arc::new(set);
        }
        Self {
            ruleset: Ruleset {
                generation,
                sets,
                ..self.ruleset.clone()
            },
            // What these share is not copied.
            ..self.clone()
        }
    }

    /// What the chains at `point` say of a packet of `family`.
    #[inline]
    pub fn run(
        &self,
        family: Family,
        point: Point,
        interpreter: &mut Interpreter<'_>,
        packet: &mut impl Packet,
    ) -> Outcome {
        let bases = &self.at(family, point).bases;
        match &self.programs[family as usize] {
            Some(program) => program.hook(bases, interpreter, packet),
            None => interpreter.hook(bases, packet),
        }
    }

    /// What packets of `family` meet at `point`.
    #[inline]
    pub fn at(&self, family: Family, point: Point) -> &Hook {
        &self.hooks[family as usize][point as usize]
    }

    /// What all that they meet comes to.
    #[inline]
    pub fn sum(&self, family: Family) -> &Sum {
        &self.sums[family as usize]
    }

    /// All chains that packets of `family` may come to, in the order of the walk.
    pub fn chains(&self, family: Family) -> impl Iterator<Item = ChainId> {
        self.hooks[family as usize]
            .iter()
            .flat_map(|hook| hook.chains.iter().copied())
    }

    /// The rule where a walk ended; none for a policy.
    pub fn rule_of(&self, place: &Place) -> Option<&Rule> {
        self.ruleset[place.chain].rules.get(place.rule? as usize)
    }

    /// The rules that packets of `family` may come to and that are the kernel's.
    pub fn punted(&self, family: Family) -> Vec<Punted> {
        let mut found = Vec::new();
        for chain in self.chains(family) {
            for (rule, exprs) in self.ruleset[chain].rules.iter().enumerate() {
                let why = self.why_punted(exprs, family);
                found.extend(why.map(|why| Punted { chain, rule, why }));
            }
        }
        found
    }

    /// Whether forwarded packets may come to a named object of a kind that is not carried (NFT_OBJECT_*).
    pub fn reach_object(&self, kind: u32) -> bool {
        let is_it = |object: &ObjectId| matches!(self.ruleset[*object].kind, ObjectKind::Uncarried(of) if of == kind);
        let refers = |expr: &Expr| match expr {
            Expr::Objref(object) => is_it(object),
            Expr::ObjrefMap { set, .. } => self.ruleset[*set].data().any(|data| match data {
                Data::Object(object) => is_it(object),
                _ => false,
            }),
            _ => false,
        };
        let chains = Family::ALL.into_iter().flat_map(|family| self.chains(family));
        chains
            .flat_map(|chain| &self.ruleset[chain].rules)
            .any(|rule| rule.exprs.iter().any(refers))
    }

    /// Why packets of `family` that come to the end of `rule` are the kernel's.
    pub fn why_punted(&self, rule: &Rule, family: Family) -> Option<String> {
        carried::reached(rule, number(family))
            .iter()
            .find_map(|expr| carried::kernels(&self.ruleset, expr))
    }
}

/// The kernel's number of a family.
pub fn number(family: Family) -> u8 {
    match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    }
}

/// The base chains at a point, but for those that do nothing.
fn bases(ruleset: &Ruleset, nfproto: u8, point: Point) -> Vec<ChainId> {
    let hook = match point {
        Point::Raw | Point::Prerouting | Point::Dnat | Point::BehindDnat => PREROUTING,
        Point::Forward => FORWARD,
        Point::Postrouting | Point::Snat | Point::BehindSnat => POSTROUTING,
    };
    let is_here = |id: &ChainId| {
        let chain = &ruleset[*id];
        chain.base.as_ref().is_some_and(|base| {
            let does_something = !chain.rules.is_empty() || base.policy_drop || base.counter.is_some();
            does_something && Point::of(base.hook, base.kind, base.priority) == Some(point)
        })
    };
    let mut bases = ruleset.bases(nfproto, hook);
    bases.retain(is_here);
    bases
}

/// Whether a chain of type nat has NAT's hooks put up for a family: one brings all four (nf_nat_register_fn).
fn has_nat(ruleset: &Ruleset, nfproto: u8) -> bool {
    ruleset.chains.iter().any(|chain| {
        let family = ruleset[chain.table].family;
        let is_nat = chain.base.as_ref().is_some_and(|base| base.kind == ChainType::Nat);
        is_nat && (family == nfproto || family == NFPROTO_INET)
    })
}

fn sum(hooks: &[Hook; 8], nat: bool) -> Sum {
    let each = || Point::ALL.into_iter().zip(hooks);
    Sum {
        is_nothing: !nat && hooks.iter().all(|hook| hook.bases.is_empty()),
        depends: each()
            .filter(|(point, _)| !point.is_nat())
            .map(|(_, hook)| hook.depends)
            .max()
            .unwrap_or_default(),
        punts: hooks.iter().any(|hook| hook.punts),
        asks_assured: hooks.iter().any(|hook| hook.asks_assured),
        rewrites: nat || hooks.iter().any(|hook| hook.rewrites),
        resets: hooks.iter().any(|hook| hook.resets),
        ct_marks: hooks.iter().any(|hook| hook.ct_marks),
    }
}

fn exprs<'a>(ruleset: &'a Ruleset, chains: &'a [ChainId], nfproto: u8) -> impl Iterator<Item = &'a Expr> {
    let rules = chains.iter().flat_map(|chain| &ruleset[*chain].rules);
    rules.flat_map(move |rule| carried::reached(rule, nfproto))
}

/// Makes what decides by a memory the kernel's: what is punted, for whatever reason, meets it there.
fn give_memories_away<'a>(ruleset: &mut Ruleset, chains: impl Iterator<Item = &'a ChainId>) {
    let ours: HashSet<ChainId> = chains.copied().collect();
    let away = |expr: &Expr| match carried::memory(ruleset, expr) {
        Some(word) => Expr::uncarried(format!("{word}, which has a memory")),
        None => expr.clone(),
    };
    let given = |rule: &Rule| Rule {
        handle: rule.handle,
        exprs: rule.exprs.iter().map(away).collect(),
    };
    let changed: Vec<(ChainId, Box<[Rule]>)> = ours
        .iter()
        .map(|&chain| (chain, ruleset[chain].rules.iter().map(given).collect()))
        .collect();
    let chains = Arc::make_mut(&mut ruleset.chains);
    for (chain, rules) in changed {
        chains[chain.0 as usize].rules = rules;
    }
}

#[cfg(test)]
mod tests;
