//! The one shape of chain that is carried: from nf_tables bytecode to [`filter::Rule`](Rule).
//!
//! ```text
//!  ct load state => reg          cmp eq|neq reg, value              what a rule may look at
//!  meta load iifname|oifname     bitwise reg = (reg & mask) ^ xor   (of the state only)
//!  meta load iif|oif             lookup reg in anonymous constant set, or verdict map
//!  immediate accept|drop                                            what follows
//! ```
//!
//! Anything else in a rule, and its chain is the kernel's: [`rule`] then says what it was. A mismatch ends a rule, and
//! registers of one rule are not read by the next: a comparison with one that this rule has not loaded is not carried. The
//! state of a packet is one of five bits, so that a set of states is one more mask; a set of names becomes a rule for each.
//! As net/netfilter/nft_ct.c, nft_meta.c, nft_cmp.c, nft_bitwise.c, nft_lookup.c, nft_immediate.c.
//!
//! Bounds: [`RULES_MAX`] rules of a chain, [`BRANCHES_MAX`] that sets make of one rule.

use super::super::nlattr::{Attrs, get_be32, get_str};
use super::expr::{self, CT_DREG, CT_SREG, EXPR_DATA, EXPR_NAME};
use crate::table::conntrack::CtState;
use crate::table::filter::{Condition, FilterVerdict, Name, Rule};

/// The most rules of a chain that is carried: they are run one by one.
pub(super) const RULES_MAX: usize = 1024;
/// The most rules that the sets of one rule may make of it.
const BRANCHES_MAX: usize = 64;
/// The states that a packet may have, one of them at a time.
const STATES: [CtState; 5] = [
    CtState::INVALID,
    CtState::ESTABLISHED,
    CtState::RELATED,
    CtState::NEW,
    CtState::UNTRACKED,
];
const IFNAMSIZ: usize = 16;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
/// What `ct` loads, in nft's words (enum nft_ct_keys).
const CT_KEYS: &str = "state direction status mark secmark expiration helper l3proto saddr daddr protocol \
    proto-src proto-dst label packets bytes avgpkt zone event";
/// What `meta` loads, in nft's words (enum nft_meta_keys); `th dport` and the like come with an l4proto.
const META_KEYS: &str = "length protocol priority mark iif oif iifname oifname iiftype oiftype skuid skgid \
    nftrace rtclassid secmark nfproto l4proto ibrname obrname pkttype cpu iifgroup oifgroup cgroup random";
/// Registers in words of 32 bits.
const WORDS: usize = 16;

/// An anonymous constant set: keys, and the verdict of each where it is a map.
#[derive(Debug)]
pub(super) struct Set(Vec<(Vec<u8>, Option<FilterVerdict>)>);

/// Which end of the way through the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    In,
    Out,
}

/// What lies in a register.
#[derive(Clone, Copy, Debug)]
enum Loaded {
    /// `(state & mask) ^ xor`.
    State {
        mask: u32,
        xor: u32,
    },
    Name(Side),
    Index(Side),
}

/// What must hold, and what follows: a rule in the making.
#[derive(Clone, Debug, Default)]
struct Branch {
    conditions: Vec<Condition>,
    verdict: Option<FilterVerdict>,
}

/// What a rule with these expressions (NFTA_RULE_EXPRESSIONS) means; none for one that decides nothing. `set` finds a set
/// by its name. The error is what is not carried.
pub(super) fn rule<'a>(exprs: &[u8], set: impl Fn(&str) -> Option<&'a Set>) -> Result<Vec<Rule>, String> {
    let mut loaded = [None; WORDS];
    let mut branches = vec![Branch::default()];
    for expr in expr::list(exprs) {
        if branches.iter().any(|branch| branch.verdict.is_some()) {
            return Err("something behind a verdict".into());
        }
        let attrs = Attrs(expr);
        let name = get_str(attrs.find(EXPR_NAME).unwrap_or_default());
        let data = Attrs(attrs.find(EXPR_DATA).unwrap_or_default());
        match name.as_str() {
            "ct" => load_ct(&mut loaded, &data),
            "meta" => load_meta(&mut loaded, &data),
            "bitwise" => bitwise(&mut loaded, &data).ok_or_else(|| name.clone()),
            "cmp" => match cmp(&loaded, &data) {
                Some(condition) => {
                    branches.iter_mut().for_each(|b| b.conditions.push(condition.clone()));
                    Ok(())
                }
                None => Err(name.clone()),
            },
            "lookup" => {
                branches = lookup(&loaded, &data, &branches, &set)?;
                Ok(())
            }
            "immediate" => match immediate(&data) {
                Some(verdict) => {
                    branches.iter_mut().for_each(|b| b.verdict = Some(verdict));
                    Ok(())
                }
                None => Err(immediate_name(&data)),
            },
            _ => Err(named(&name, &data)),
        }?;
    }
    let rule = |branch: Branch| {
        Some(Rule {
            conditions: branch.conditions.into(),
            verdict: branch.verdict?,
        })
    };
    Ok(branches.into_iter().filter_map(rule).collect())
}

/// The sets that a rule looks things up in.
pub(super) fn sets_of(exprs: &[u8]) -> impl Iterator<Item = String> {
    expr::list(exprs).filter_map(|expr| {
        let attrs = Attrs(expr);
        let is_lookup = get_str(attrs.find(EXPR_NAME)?) == "lookup";
        is_lookup.then(|| {
            get_str(
                Attrs(attrs.find(EXPR_DATA).unwrap_or_default())
                    .find(1)
                    .unwrap_or_default(),
            )
        })
    })
}

impl Set {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds an element (`nft_set_elem_attributes`); whether it is of a kind that is carried: a key, perhaps a verdict, no
    /// interval, no time, nothing that counts.
    pub(super) fn add(&mut self, element: &[u8]) -> bool {
        const KEY: u16 = 1;
        const DATA: u16 = 2;
        const USERDATA: u16 = 6;
        let attrs = Attrs(element);
        if attrs.clone().any(|(kind, _)| !matches!(kind, KEY | DATA | USERDATA)) {
            return false;
        }
        let Some(key) = attrs.find(KEY).and_then(|key| Attrs(key).find(DATA_VALUE)) else {
            return false;
        };
        let verdict = match attrs.find(DATA) {
            None => None,
            Some(data) => match verdict(data) {
                None => return false,
                some => some,
            },
        };
        self.0.push((key.to_vec(), verdict));
        true
    }

    fn find(&self, key: &[u8]) -> Option<Option<FilterVerdict>> {
        self.0.iter().find(|(of, _)| of == key).map(|(_, verdict)| *verdict)
    }
}

fn load_ct(loaded: &mut [Option<Loaded>; WORDS], data: &Attrs) -> Result<(), String> {
    const KEY: u16 = 2;
    const STATE: u32 = 0;
    let key = data.find(KEY).and_then(get_be32);
    match data.find(CT_DREG).and_then(register) {
        _ if data.find(CT_SREG).is_some() => Err("ct set".into()),
        Some(at) if key == Some(STATE) => {
            put(loaded, at, Loaded::State { mask: !0, xor: 0 });
            Ok(())
        }
        _ => Err(format!("ct {}", nth(CT_KEYS, key))),
    }
}

fn load_meta(loaded: &mut [Option<Loaded>; WORDS], data: &Attrs) -> Result<(), String> {
    let key = data.find(2).and_then(get_be32);
    let what = match key {
        Some(4) => Loaded::Index(Side::In),
        Some(5) => Loaded::Index(Side::Out),
        Some(6) => Loaded::Name(Side::In),
        Some(7) => Loaded::Name(Side::Out),
        _ => return Err(format!("meta {}", nth(META_KEYS, key))),
    };
    match data.find(1).and_then(register) {
        Some(at) => {
            put(loaded, at, what);
            Ok(())
        }
        None => Err("meta set".into()),
    }
}

fn nth(words: &'static str, key: Option<u32>) -> &'static str {
    let word = key.and_then(|key| words.split(' ').nth(key as usize));
    word.unwrap_or("of an unknown kind")
}

fn bitwise(loaded: &mut [Option<Loaded>; WORDS], data: &Attrs) -> Option<()> {
    let from = data.find(1).and_then(register)?;
    let to = data.find(2).and_then(register)?;
    // NFTA_BITWISE_OP: 0, or none, is mask and xor.
    if data.find(6).and_then(get_be32).unwrap_or(0) != 0 {
        return None;
    }
    let Some(Loaded::State { mask, xor }) = loaded[from] else {
        return None;
    };
    let and = data.find(4).and_then(value).and_then(word)?;
    let flip = data.find(5).and_then(value).and_then(word)?;
    put(
        loaded,
        to,
        Loaded::State {
            mask: mask & and,
            xor: xor & and ^ flip,
        },
    );
    Some(())
}

fn cmp(loaded: &[Option<Loaded>; WORDS], data: &Attrs) -> Option<Condition> {
    let at = data.find(1).and_then(register)?;
    let equal = match data.find(2).and_then(get_be32)? {
        0 => true,
        1 => false,
        _ => return None,
    };
    condition(loaded[at]?, data.find(3).and_then(value)?, equal)
}

/// That what is loaded equals `bytes`, or not.
fn condition(loaded: Loaded, bytes: &[u8], equal: bool) -> Option<Condition> {
    let name = || {
        (1..=IFNAMSIZ).contains(&bytes.len()).then(|| Name {
            bytes: bytes.into(),
            equal,
        })
    };
    Some(match loaded {
        Loaded::State { mask, xor } => Condition::State {
            mask,
            value: word(bytes)? ^ xor,
            equal,
        },
        Loaded::Name(Side::In) => Condition::Iifname(name()?),
        Loaded::Name(Side::Out) => Condition::Oifname(name()?),
        Loaded::Index(Side::In) => Condition::Iif(word(bytes)?, equal),
        Loaded::Index(Side::Out) => Condition::Oif(word(bytes)?, equal),
    })
}

/// The branches that a lookup makes of those before it.
fn lookup<'a>(
    loaded: &[Option<Loaded>; WORDS],
    data: &Attrs,
    branches: &[Branch],
    set: impl Fn(&str) -> Option<&'a Set>,
) -> Result<Vec<Branch>, String> {
    const INVERTED: u32 = 1;
    let name = get_str(data.find(1).unwrap_or_default());
    let refused = || format!("lookup in set {name}");
    let set = set(&name).ok_or_else(refused)?;
    let at = data.find(2).and_then(register).ok_or_else(refused)?;
    let is_map = data.find(3).is_some();
    let inverted = data.find(5).and_then(get_be32).unwrap_or(0) & INVERTED != 0;
    let arms = match loaded[at] {
        Some(Loaded::State { mask, xor }) => arms_by_state(set, mask, xor, is_map, inverted),
        Some(loaded) => arms_by_key(set, loaded, is_map, inverted),
        None => None,
    };
    let arms = arms.ok_or_else(refused)?;
    let mut after = Vec::new();
    for before in branches {
        for arm in &arms {
            let mut branch = before.clone();
            branch.conditions.extend(arm.conditions.iter().cloned());
            branch.verdict = arm.verdict;
            after.push(branch);
        }
        if after.len() > BRANCHES_MAX {
            return Err(refused());
        }
    }
    Ok(after)
}

/// Of a set of states: which of them are in it, by verdict.
fn arms_by_state(set: &Set, mask: u32, xor: u32, is_map: bool, inverted: bool) -> Option<Vec<Branch>> {
    let found = STATES.map(|state| (state, set.find(&(state.0 & mask ^ xor).to_ne_bytes())));
    let arm = |verdict: Option<FilterVerdict>| {
        let is_there = |of: &Option<Option<FilterVerdict>>| match verdict {
            Some(_) => *of == Some(verdict),
            None => of.is_some() != inverted,
        };
        let states = found.iter().filter(|(_, of)| is_there(of));
        Branch {
            conditions: vec![Condition::State {
                mask: states.fold(0, |mask, (state, _)| mask | state.0),
                value: 0,
                equal: false,
            }],
            verdict,
        }
    };
    let verdicts: &[Option<FilterVerdict>] = match (is_map, inverted) {
        (false, _) => &[None],
        (true, false) => &[Some(FilterVerdict::Accept), Some(FilterVerdict::Drop)],
        (true, true) => return None,
    };
    Some(verdicts.iter().map(|verdict| arm(*verdict)).collect())
}

/// Of a set of other things: one by one, all of them where it is inverted.
fn arms_by_key(set: &Set, loaded: Loaded, is_map: bool, inverted: bool) -> Option<Vec<Branch>> {
    let mut arms = Vec::new();
    for (key, verdict) in &set.0 {
        // A name in a set is whole.
        if verdict.is_some() != is_map || matches!(loaded, Loaded::Name(_)) && key.len() != IFNAMSIZ {
            return None;
        }
        arms.push(Branch {
            conditions: vec![condition(loaded, key, !inverted)?],
            verdict: *verdict,
        });
    }
    match (is_map, inverted) {
        (_, false) => Some(arms),
        (false, true) => Some(vec![Branch {
            conditions: arms.into_iter().flat_map(|arm| arm.conditions).collect(),
            verdict: None,
        }]),
        (true, true) => None,
    }
}

fn immediate(data: &Attrs) -> Option<FilterVerdict> {
    // To the verdict register.
    if data.find(1).and_then(get_be32) != Some(0) {
        return None;
    }
    verdict(data.find(2)?)
}

/// Accept or drop, of `nft_data_attributes`.
fn verdict(data: &[u8]) -> Option<FilterVerdict> {
    match Attrs(Attrs(data).find(DATA_VERDICT)?).find(1).and_then(get_be32)? {
        NF_DROP => Some(FilterVerdict::Drop),
        NF_ACCEPT => Some(FilterVerdict::Accept),
        _ => None,
    }
}

/// What an operator knows an immediate verdict by.
fn immediate_name(data: &Attrs) -> String {
    let verdict = data.find(2).and_then(|data| Attrs(data).find(DATA_VERDICT));
    let code = verdict.and_then(|verdict| Attrs(verdict).find(1)).and_then(get_be32);
    match code.map(|code| code as i32) {
        Some(-1) => "continue".into(),
        Some(-3) => "jump".into(),
        Some(-4) => "goto".into(),
        Some(-5) => "return".into(),
        Some(code) if code & 0xff == 3 => "queue".into(),
        _ => "immediate".into(),
    }
}

fn named(name: &str, data: &Attrs) -> String {
    match name {
        "match" | "target" => format!("xt {name} {}", get_str(data.find(1).unwrap_or_default())),
        _ => name.to_owned(),
    }
}

/// The first word of a register, as `nft_parse_register` counts: 1 to 4 are of 16 bytes, from 8 on they are of 4.
fn register(bytes: &[u8]) -> Option<usize> {
    match get_be32(bytes)? as usize {
        wide @ 1..=4 => Some((wide - 1) * 4),
        narrow @ 8..=23 => Some(narrow - 8),
        _ => None,
    }
}

/// Puts something into a register; what it overwrites, in part too, is there no more.
fn put(loaded: &mut [Option<Loaded>; WORDS], at: usize, what: Loaded) {
    let words = |what: &Loaded| if let Loaded::Name(_) = what { IFNAMSIZ / 4 } else { 1 };
    let end = at + words(&what);
    for (start, slot) in loaded.iter_mut().enumerate() {
        if slot.as_ref().is_some_and(|old| start < end && at < start + words(old)) {
            *slot = None;
        }
    }
    loaded[at] = Some(what);
}

/// A value of `nft_data_attributes`.
fn value(data: &[u8]) -> Option<&[u8]> {
    Attrs(data).find(DATA_VALUE)
}

/// Four bytes in host order, as registers hold numbers of the kernel's own.
fn word(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests;
