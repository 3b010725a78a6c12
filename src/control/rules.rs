//! `show rules`: the chains in the path of packets as bypath runs them, each rule with what it counted here, beside the kernel's own.
//!
//! Pure: rules in, rows out. A rule that both families come to is one row; it is punted if it is for either. The counter of a
//! base chain's policy, as those of iptables have one, is a row after its rules.

use super::report::Rule;
use crate::packet::Family;
use crate::table::rules::carried::Depends;
use crate::table::rules::expr::Expr;
use crate::table::rules::live::{Point, Rules};
use crate::table::rules::program::{self, ObjectKind};
use crate::table::rules::state::Cell;
use std::collections::{BTreeMap, BTreeSet};

/// The rules that forwarded packets may come to, in the order of their chains, each chain with the counter of its policy behind
/// them; then the named counters that they count in.
pub fn rows(rules: &Rules) -> Vec<Rule> {
    let mut rows = Vec::new();
    let (mut seen, mut objects) = (BTreeSet::new(), BTreeMap::new());
    let hooks = || {
        let both = |point| Family::ALL.map(|family| (family, point, rules.at(family, point)));
        Point::ALL.into_iter().flat_map(both)
    };
    for chain in hooks().flat_map(|(_, _, hook)| hook.chains.iter().copied()) {
        if !seen.insert(chain) {
            continue;
        }
        let meets = || hooks().filter(|(_, _, hook)| hook.chains.contains(&chain));
        let per_packet = meets().any(|(_, point, hook)| !point.is_nat() && hook.depends == Depends::Packet);
        let (this, table) = (&rules.ruleset[chain], &rules.ruleset[rules.ruleset[chain].table]);
        let run = if per_packet { "per_packet" } else { "cached" };
        for rule in &this.rules {
            let why = meets().find_map(|(family, _, _)| rules.why_punted(rule, family));
            let counted = rule.exprs.iter().find_map(|expr| match expr {
                Expr::State(id) => rules.state.cell(*id).counted(),
                _ => None,
            });
            for expr in &rule.exprs {
                if let Expr::Objref(object) = expr {
                    *objects.entry(*object).or_default() |= per_packet;
                }
            }
            rows.push(Rule {
                family: program::family_word(table.family).into(),
                table: table.name.to_string(),
                chain: this.name.to_string(),
                handle: rule.handle,
                object: String::new(),
                run: if why.is_some() { "punted" } else { run }.into(),
                why: why.unwrap_or_default(),
                packets: counted.map(|(packets, _)| packets),
                bytes: counted.map(|(_, bytes)| bytes),
            });
        }
        let counter = this.base.as_ref().and_then(|base| base.counter);
        if let Some((packets, bytes)) = counter.and_then(|id| rules.state.cell(id).counted()) {
            rows.push(Rule {
                family: program::family_word(table.family).into(),
                table: table.name.to_string(),
                chain: this.name.to_string(),
                run: run.into(),
                packets: Some(packets),
                bytes: Some(bytes),
                ..Rule::default()
            });
        }
    }
    rows.extend(objects.into_iter().filter_map(|(object, per_packet)| {
        let object = &rules.ruleset[object];
        let ObjectKind::State(id) = object.kind else {
            return None;
        };
        let Cell::Counter(..) = rules.state.cell(id) else {
            return None;
        };
        let (packets, bytes) = rules.state.cell(id).counted()?;
        let table = &rules.ruleset[object.table];
        Some(Rule {
            family: program::family_word(table.family).into(),
            table: table.name.to_string(),
            object: object.name.to_string(),
            run: if per_packet { "per_packet" } else { "cached" }.into(),
            packets: Some(packets),
            bytes: Some(bytes),
            ..Rule::default()
        })
    }));
    rows
}
