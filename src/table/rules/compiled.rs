//! The compiled form of rules, which workers run: all chains that packets of a family may come to, as matchers of numbers.
//!
//! ```text
//!  load     what is loaded from a packet, as a number; a walk loads once     matcher  one question about that
//!  uses     which registers an expression reads and writes                   fuse     a rule: matchers, then expressions
//!  index    which rules of a chain a packet may match: one lookup for many rules that ask for one field
//!  run      the walk
//! ```
//!
//! It says what the interpreter says, down to the place where a packet ends and to the order in which counters are bumped; a
//! property test holds the two against each other. Nothing is decided in two ways: loads, sets, and every expression that is
//! not a load, a mask or a comparison are the interpreter's, which is also asked where a load is not known.
//!
//! One difference is left: the bound of one walk ([`EXPRS_MAX`]) is in expressions there, and here in rules that are asked
//! and expressions behind them, so that this one may come further. A punt is right for both, as the kernel has no bound.
//!
//! Made when a ruleset is read, not by workers; 10,000 rules take some milliseconds.
//!
//! [`EXPRS_MAX`]: super::interpret::EXPRS_MAX

mod fuse;
mod index;
mod load;
mod matcher;
mod run;
#[cfg(test)]
mod tests;
mod uses;

use super::program::{ChainId, Ruleset};
use fuse::{Loads, Rule};
use index::Index;
use load::{Load, LoadId};

/// A lookup is worth about as much as asking so many rules.
const SPARED_MIN: usize = 8;

/// The chains of one family.
#[derive(Debug)]
pub struct Program {
    loads: Box<[Load]>,
    /// By their [`ChainId`]; none where packets of the family never come.
    chains: Box<[Option<Chain>]>,
}

/// A chain, without the rules that packets of the family never match.
#[derive(Debug)]
struct Chain {
    rules: Box<[Rule]>,
    index: Option<Index>,
}

impl Program {
    /// Of these chains for packets of a family (NFPROTO_IPV4 or _IPV6). None where a rule reads registers that it has not
    /// written, which the kernel refuses: then the interpreter knows what is in them.
    pub fn new(ruleset: &Ruleset, chains: impl Iterator<Item = ChainId>, nfproto: u8) -> Option<Self> {
        Self::with(ruleset, chains, nfproto, SPARED_MIN)
    }

    fn with(ruleset: &Ruleset, chains: impl Iterator<Item = ChainId>, nfproto: u8, spared_min: usize) -> Option<Self> {
        let mut found: Vec<Option<Vec<Rule>>> = vec![None; ruleset.chains.len()];
        let mut loads = Loads::default();
        for id in chains {
            let place = found.get_mut(id.0 as usize)?;
            if place.is_none() {
                *place = Some(rules(ruleset, id, nfproto, &mut loads)?);
            }
        }
        // Those that are asked for most come first: they are kept.
        let mut order: Vec<LoadId> = (0..loads.all.len() as LoadId).collect();
        order.sort_by_key(|id| std::cmp::Reverse(loads.all[*id as usize].1));
        let mut numbers = vec![0; order.len()];
        for (number, id) in (0..).zip(&order) {
            numbers[*id as usize] = number;
        }
        let all: Box<[Load]> = order.iter().map(|id| loads.all[*id as usize].0).collect();
        let chain = |mut rules: Vec<Rule>| {
            rules.iter_mut().for_each(|rule| rule.renumber(&numbers));
            Chain {
                index: Index::new(&rules, &all, spared_min),
                rules: rules.into(),
            }
        };
        Some(Self {
            chains: found.into_iter().map(|rules| rules.map(chain)).collect(),
            loads: all,
        })
    }
}

fn rules(ruleset: &Ruleset, chain: ChainId, nfproto: u8, loads: &mut Loads) -> Option<Vec<Rule>> {
    let mut found = Vec::new();
    for (at, rule) in ruleset[chain].rules.iter().enumerate() {
        let fused = fuse::rule(ruleset, rule, at, nfproto, loads);
        if fused.is_some() && !uses::stand_alone(ruleset, &rule.exprs, nfproto) {
            return None;
        }
        found.extend(fused);
    }
    Some(found)
}
