//! One reading: dump by dump, each resolved with the names of those before.
//!
//! A base chain's place among others of its priority is that of the kernel's own list of hooks. Where there is none, and
//! among chains of type nat, it is guessed: the kernel puts a new hook before those of the same priority, and lists tables
//! and chains from the oldest on, so the one that is listed last runs first. That is wrong for a chain that was added later to
//! an older table, or hooked anew when its table ceased to be dormant.

use super::super::nlattr::{Attrs, Message, get_be32, get_be64, get_str};
use super::chains;
use super::expr::Decoder;
use super::hooks;
use super::names::Names;
use super::sets::{self, Elements};
use super::stateful;
use super::{GENMSG_LEN, Kind, Nft, NftError, RULES_MAX, SETS_MAX};
use crate::table::rules::expr::{Expr, Stateful};
use crate::table::rules::program::{
    Chain, ChainId, NFPROTO_BRIDGE, NFPROTO_IPV4, NFPROTO_IPV6, Object, ObjectId, ObjectKind, Rule, Ruleset, SetId,
    StateId, Table, TableId,
};
use crate::table::rules::set::{Set, SetSpec};
use std::sync::Arc;

/// NF_INET_PRE_ROUTING to NF_INET_POST_ROUTING.
const HOOKS: u32 = 5;
/// NFT_TABLE_F_DORMANT
const DORMANT: u32 = 1;

/// What has come so far.
#[derive(Debug, Default)]
struct Loading {
    names: Names,
    tables: Vec<Table>,
    chains: Vec<(Chain, Vec<Rule>)>,
    objects: Vec<Object>,
    sets: Vec<SetSpec>,
    states: Vec<Stateful>,
}

/// Reads all of it, of this generation.
pub(super) fn load(nft: &mut Nft, generation: u32, now_ns: u64) -> Result<Ruleset, NftError> {
    let mut loading = Loading::default();
    let all = |request| request;
    nft.dump(Kind::Table, generation, all, 0, |family, m| loading.table(family, m))?;
    nft.dump(Kind::Chain, generation, all, 0, |family, m| loading.chain(family, m))?;
    for (family, nfproto) in [(0, NFPROTO_IPV4), (1, NFPROTO_IPV6), (0, NFPROTO_BRIDGE)] {
        for hook in 0..HOOKS {
            loading.order(family, hooks::chains(&mut nft.sock, nfproto, hook)?);
        }
    }
    nft.dump(Kind::Object, generation, all, 0, |family, m| loading.object(family, m))?;
    nft.dump(Kind::Set, generation, all, 0, |family, m| loading.set(family, m))?;
    let mut rules = 0;
    nft.dump(Kind::Rule, generation, all, 0, |family, m| {
        rules += 1;
        if rules > RULES_MAX {
            return Err(NftError::TooMany(RULES_MAX, "rules"));
        }
        loading.rule(family, m)
    })?;
    loading.mark_dynamic();
    let mut sets = Vec::with_capacity(loading.sets.len());
    for spec in std::mem::take(&mut loading.sets) {
        sets.push(Arc::new(elements(nft, &loading, spec, generation, now_ns)?));
    }
    Ok(loading.finish(generation, sets))
}

fn elements(nft: &mut Nft, loading: &Loading, spec: SetSpec, generation: u32, now_ns: u64) -> Result<Set, NftError> {
    if spec.opaque.is_some() {
        return Ok(Set::opaque(spec));
    }
    let table = &loading.tables[spec.table.0 as usize];
    let name = spec.name.clone();
    let mut found = Elements::new(spec, &loading.names, now_ns);
    let of_set = |request: super::Request| request.attr_str(1, &table.name).attr_str(2, &name);
    nft.dump(Kind::Element, generation, of_set, table.family, |_, m| {
        found.add(m.attrs(GENMSG_LEN).find(3).unwrap_or_default());
        Ok(())
    })?;
    Ok(found.finish())
}

/// The attribute that names something.
fn name(attrs: &Attrs, kind: u16, what: &'static str) -> Result<String, NftError> {
    attrs
        .find(kind)
        .map(get_str)
        .filter(|name| !name.is_empty())
        .ok_or(NftError::Malformed(what))
}

impl Loading {
    fn table(&mut self, family: u8, m: &Message) -> Result<(), NftError> {
        let attrs = m.attrs(GENMSG_LEN);
        let name = name(&attrs, 1, "a table without a name")?;
        let flags = attrs.find(2).and_then(get_be32).unwrap_or(0);
        self.names
            .tables
            .insert((family, name.clone()), TableId(self.tables.len() as u32));
        self.tables.push(Table {
            family,
            name: name.into(),
            dormant: flags & DORMANT != 0,
        });
        Ok(())
    }

    /// The table that a message belongs to.
    fn table_of(&self, family: u8, attrs: &Attrs) -> Result<TableId, NftError> {
        let name = name(attrs, 1, "something without a table")?;
        let table = self.names.tables.get(&(family, name)).copied();
        table.ok_or(NftError::Malformed("something of a table that is not there"))
    }

    fn chain(&mut self, family: u8, m: &Message) -> Result<(), NftError> {
        let attrs = m.attrs(GENMSG_LEN);
        let table = self.table_of(family, &attrs)?;
        let name = name(&attrs, 3, "a chain without a name")?;
        let number = self.chains.len() as u32;
        let base = chains::base(&attrs).filter(|_| !self.tables[table.0 as usize].dormant);
        // What the kernel counted so far is the kernel's.
        let counter =
            (base.is_some() && chains::counts(&attrs)).then(|| self.state(Stateful::Counter { packets: 0, bytes: 0 }));
        self.names.add_chain(table, &name, ChainId(number));
        let chain = Chain {
            table,
            name: name.into(),
            base: base.map(|base| crate::table::rules::program::BaseChain {
                order: [u32::MAX - number; 2],
                counter,
                ..base
            }),
            rules: Box::default(),
        };
        self.chains.push((chain, Vec::new()));
        Ok(())
    }

    /// Takes the kernel's order of a hook's chains, of IPv4 (and of bridges) or IPv6.
    fn order(&mut self, family: usize, listed: Option<Vec<hooks::Named>>) {
        for (place, (table_family, table, chain)) in (0u32..).zip(listed.into_iter().flatten()) {
            let table = self.names.tables.get(&(table_family, table));
            let chain = table.and_then(|&table| self.names.chain(table, &chain));
            if let Some(base) = chain.and_then(|chain| self.chains[chain.0 as usize].0.base.as_mut()) {
                base.order[family] = place;
            }
        }
    }

    fn state(&mut self, state: Stateful) -> StateId {
        self.states.push(state);
        StateId(self.states.len() as u32 - 1)
    }

    fn object(&mut self, family: u8, m: &Message) -> Result<(), NftError> {
        let attrs = m.attrs(GENMSG_LEN);
        let table = self.table_of(family, &attrs)?;
        let name = name(&attrs, 2, "an object without a name")?;
        let number = attrs
            .find(3)
            .and_then(get_be32)
            .ok_or(NftError::Malformed("an object without a kind"))?;
        let kind = match stateful::decode_object(number, attrs.find(4).unwrap_or_default()) {
            Some(state) => ObjectKind::State(self.state(state)),
            None => ObjectKind::Uncarried(number),
        };
        self.names
            .add_object(table, number, &name, ObjectId(self.objects.len() as u32));
        self.objects.push(Object {
            table,
            name: name.into(),
            kind,
        });
        Ok(())
    }

    fn set(&mut self, family: u8, m: &Message) -> Result<(), NftError> {
        if self.sets.len() >= SETS_MAX {
            return Err(NftError::TooMany(SETS_MAX, "sets"));
        }
        let attrs = m.attrs(GENMSG_LEN);
        let table = self.table_of(family, &attrs)?;
        let name = name(&attrs, 2, "a set without a name")?;
        self.names.add_set(table, &name, SetId(self.sets.len() as u32));
        let rest = m.payload.get(GENMSG_LEN..).unwrap_or_default();
        self.sets.push(sets::spec(table, &name, rest));
        Ok(())
    }

    fn rule(&mut self, family: u8, m: &Message) -> Result<(), NftError> {
        let attrs = m.attrs(GENMSG_LEN);
        let table = self.table_of(family, &attrs)?;
        let chain = name(&attrs, 2, "a rule without a chain")?;
        let chain = self
            .names
            .chain(table, &chain)
            .ok_or(NftError::Malformed("a rule of no chain"))?;
        let mut decoder = Decoder {
            names: &self.names,
            sets: &self.sets,
            table,
            family,
            states: &mut self.states,
        };
        let mut exprs = decoder.rule(attrs.find(4).unwrap_or_default());
        // It would narrow the rule to a protocol, beside its expressions. No kernel tells it.
        if attrs.find(5).is_some() {
            exprs = [Expr::uncarried("a protocol of iptables")]
                .into_iter()
                .chain(exprs)
                .collect();
        }
        let handle = attrs.find(3).and_then(get_be64).unwrap_or(0);
        self.chains[chain.0 as usize].1.push(Rule { handle, exprs });
        Ok(())
    }

    fn finish(self, generation: u32, sets: Vec<Arc<Set>>) -> Ruleset {
        let chains = self.chains.into_iter().map(|(chain, rules)| Chain {
            rules: rules.into(),
            ..chain
        });
        Ruleset {
            generation,
            tables: self.tables.into(),
            chains: chains.collect(),
            sets: sets.into(),
            objects: self.objects.into(),
            states: self.states.into(),
        }
    }

    /// Sets that a rule adds to are opaque, though they may not say so.
    fn mark_dynamic(&mut self) {
        let exprs = self
            .chains
            .iter()
            .flat_map(|(_, rules)| rules)
            .flat_map(|rule| &rule.exprs);
        for expr in exprs {
            if let Expr::Dynset(dynset) = expr
                && let Some(spec) = self.sets.get_mut(dynset.set.0 as usize)
            {
                spec.opaque.get_or_insert_with(|| "a set that packets add to".into());
            }
        }
    }
}

#[cfg(test)]
mod tests;
