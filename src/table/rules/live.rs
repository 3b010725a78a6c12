//! All that the walk needs of a ruleset, whole and of one moment: the rules, what packets change in them, and for each
//! family the chains that it meets at forward.
//!
//! ```text
//!  ruleset + state ---> forward[family]: base chains in the order of their run; what their decision depends on
//!     ^                                 all chains that they reach; which rules of those are the kernel's, and why
//!     '--- cells shared with the ruleset before, by table, chain, handle and position: no count is lost by a change
//! ```
//!
//! Counters count what bypath carried, beside the kernel's own: what is punted is counted there. Expressions that decide by
//! a memory (limit, quota, last, numgen) belong to one side, and packets that are punted meet them in the kernel: so they are
//! the kernel's, here [uncarried](Expr::Uncarried).
//!
//! As nf_hook_slow of net/netfilter/core.c for the order.

use super::carried::{self, Depends};
use super::expr::Expr;
use super::interpret::Place;
use super::program::{ChainId, NFPROTO_IPV4, NFPROTO_IPV6, ObjectKind, Rule, Ruleset, StateId};
use super::state::State;
use crate::packet::Family;
use std::collections::{HashMap, HashSet};

/// NF_INET_FORWARD.
pub const FORWARD: u32 = 2;

/// See the file's head.
#[derive(Debug, Default)]
pub struct Rules {
    /// The rules.
    pub ruleset: Ruleset,
    /// What packets changed.
    pub state: State,
    /// What packets meet at forward, by [`Family`].
    pub forward: [Hook; 2],
}

/// Readings of one ruleset are equal; the kernel numbers them.
impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.ruleset.generation == other.ruleset.generation
    }
}

impl Eq for Rules {}

/// The chains of one hook, for one family.
#[derive(Clone, Debug, Default)]
pub struct Hook {
    /// The base chains that may do something, in the order of their run.
    pub bases: Box<[ChainId]>,
    /// All chains that packets may come to, those first.
    pub chains: Box<[ChainId]>,
    /// What the decision depends on.
    pub depends: Depends,
    /// Some of its rules are the kernel's.
    pub punts: bool,
    /// Some of its rules ask whether a connection is assured. Of UDP that is a matter of age, which the kernel cannot be told:
    /// so its connections begin there.
    pub asks_assured: bool,
    /// Some of its rules answer with a reset, which closes the connection.
    pub resets: bool,
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

/// What names a cell from one ruleset to the next.
#[derive(Debug, PartialEq, Eq, Hash)]
enum CellKey<'a> {
    Rule {
        family: u8,
        table: &'a str,
        chain: &'a str,
        handle: u64,
        position: usize,
    },
    Object {
        family: u8,
        table: &'a str,
        name: &'a str,
        kind: std::mem::Discriminant<super::stateful::Stateful>,
    },
}

impl Rules {
    /// Those of `ruleset`, which go on where `before` is, at `now_ns`.
    pub fn new(mut ruleset: Ruleset, before: Option<&Rules>, now_ns: u64) -> Self {
        let bases = Family::ALL.map(|family| bases(&ruleset, number(family)));
        let chains = Family::ALL.map(|family| carried::reachable(&ruleset, &bases[family as usize], number(family)));
        give_memories_away(&mut ruleset, &chains);
        let mut state = State::of_our_own(&ruleset, now_ns);
        if let Some(before) = before {
            go_on(&mut state, &ruleset, before);
        }
        let [v4, v6] = bases;
        let forward = [(Family::V4, v4), (Family::V6, v6)].map(|(family, bases)| {
            let chains = &chains[family as usize];
            let exprs = || exprs(&ruleset, chains, number(family));
            Hook {
                depends: exprs()
                    .map(|expr| carried::depends(&ruleset, expr, number(family)))
                    .max()
                    .unwrap_or_default(),
                punts: exprs().any(|expr| carried::kernels(&ruleset, expr).is_some()),
                asks_assured: chains.iter().flat_map(|chain| &ruleset[*chain].rules).any(|rule| {
                    let exprs = carried::reached(rule, number(family));
                    carried::asks_assured(exprs)
                }),
                resets: exprs().any(carried::resets),
                bases: bases.into(),
                chains: chains.as_slice().into(),
            }
        });
        Self {
            ruleset,
            state,
            forward,
        }
    }

    /// The rule where a walk ended; none for a policy.
    pub fn rule_of(&self, place: &Place) -> Option<&Rule> {
        self.ruleset[place.chain].rules.get(place.rule? as usize)
    }

    /// The rules that packets of `family` may come to and that are the kernel's.
    pub fn punted(&self, family: Family) -> Vec<Punted> {
        let mut found = Vec::new();
        for &chain in &self.forward[family as usize].chains {
            for (rule, exprs) in self.ruleset[chain].rules.iter().enumerate() {
                let why = self.why_punted(exprs, family);
                found.extend(why.map(|why| Punted { chain, rule, why }));
            }
        }
        found
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

/// The base chains at forward, but for those that do nothing.
fn bases(ruleset: &Ruleset, nfproto: u8) -> Vec<ChainId> {
    let does_something = |id: &ChainId| {
        let chain = &ruleset[*id];
        !chain.rules.is_empty() || chain.base.as_ref().is_some_and(|base| base.policy_drop)
    };
    let mut bases = ruleset.bases(nfproto, FORWARD);
    bases.retain(does_something);
    bases
}

fn exprs<'a>(ruleset: &'a Ruleset, chains: &'a [ChainId], nfproto: u8) -> impl Iterator<Item = &'a Expr> {
    let rules = chains.iter().flat_map(|chain| &ruleset[*chain].rules);
    rules.flat_map(move |rule| carried::reached(rule, nfproto))
}

/// Makes what decides by a memory the kernel's: what is punted, for whatever reason, meets it there.
fn give_memories_away(ruleset: &mut Ruleset, chains: &[Vec<ChainId>; 2]) {
    let ours: HashSet<ChainId> = chains.iter().flatten().copied().collect();
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
    for (chain, rules) in changed {
        ruleset.chains[chain.0 as usize].rules = rules;
    }
}

/// Has the cells of `before` go on in `state`, where the expression is the same.
fn go_on(state: &mut State, ruleset: &Ruleset, before: &Rules) {
    let old: HashMap<CellKey<'_>, StateId> = cells(&before.ruleset).collect();
    for (key, ours) in cells(ruleset) {
        if let Some(&theirs) = old.get(&key)
            && ruleset[ours].is_same_but_for_use(&before.ruleset[theirs])
        {
            state.share(ours, &before.state, theirs);
        }
    }
}

/// Everything that has a cell of its own, with its name.
fn cells(ruleset: &Ruleset) -> impl Iterator<Item = (CellKey<'_>, StateId)> {
    let of_rules = ruleset.chains.iter().flat_map(|chain| {
        let table = &ruleset[chain.table];
        chain.rules.iter().flat_map(move |rule| {
            rule.exprs.iter().enumerate().filter_map(move |(position, expr)| {
                let (Expr::State(id) | Expr::NumgenInc { state: id, .. }) = expr else {
                    return None;
                };
                let key = CellKey::Rule {
                    family: table.family,
                    table: &table.name,
                    chain: &chain.name,
                    handle: rule.handle,
                    position,
                };
                Some((key, *id))
            })
        })
    });
    let of_objects = ruleset.objects.iter().filter_map(|object| {
        let ObjectKind::State(id) = object.kind else {
            return None;
        };
        let table = &ruleset[object.table];
        let key = CellKey::Object {
            family: table.family,
            table: &table.name,
            name: &object.name,
            kind: std::mem::discriminant(&ruleset[id]),
        };
        Some((key, id))
    });
    of_rules.chain(of_objects)
}

#[cfg(test)]
mod tests;
