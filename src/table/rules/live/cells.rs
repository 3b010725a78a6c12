//! What goes on from one ruleset to the next: the cells of rules, objects and policies that are the same in both, so that no
//! count is lost by a change.
//!
//! A cell is known by table, chain, handle and position, an object's by its name; and what has changed beside its use begins
//! anew. Expressions that are given away to the kernel have none.

use super::super::expr::Expr;
use super::super::program::{ObjectKind, Ruleset, StateId};
use super::super::state::State;
use super::super::stateful::Stateful;
use super::Rules;
use std::collections::HashMap;

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
    Policy {
        family: u8,
        table: &'a str,
        chain: &'a str,
    },
    Object {
        family: u8,
        table: &'a str,
        name: &'a str,
        kind: std::mem::Discriminant<Stateful>,
    },
}

/// Has the cells of `before` go on in `state`, where the expression is the same.
pub(super) fn go_on(state: &mut State, ruleset: &Ruleset, before: &Rules) {
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
                let (Expr::State(id)
                | Expr::NumgenInc { state: id, .. }
                | Expr::NumgenRandom { state: id, .. }
                | Expr::Chance { state: id, .. }) = expr
                else {
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
    let of_policies = ruleset.chains.iter().filter_map(|chain| {
        let table = &ruleset[chain.table];
        let key = CellKey::Policy {
            family: table.family,
            table: &table.name,
            chain: &chain.name,
        };
        Some((key, chain.base.as_ref()?.counter?))
    });
    of_rules.chain(of_objects).chain(of_policies)
}
