//! Which rules of a chain a packet may match, found by what many of them ask for: one lookup for a thousand rules.
//!
//! ```text
//!  rules   0 saddr A   1 saddr B   2 dport 22   3 saddr A   4 saddr 10.0.0.0/8   5 counter
//!  axes    saddr: 0 1 3 4      a packet from A may match 0 3 4, one from C in 10/8 only 4
//!  always  2 5                 asked of every packet
//!  walk    the lowest of all lists that is not behind: in the order of the rules, none that may match left out
//! ```
//!
//! A rule stands on an axis if one of its matchers asks whether a load is a number or lies between two. It may be left out
//! where that does not hold, since it has done nothing by then; but what it asks before could be unknown, and then it punts:
//! so, where anything of that ([`Axis::before`]) is not known, all rules of the axis are asked.
//!
//! Loads of a header field with fewer bytes (a prefix of whole bytes) are on the axis of the longest.
//!
//! Bounds: [`AXES_MAX`] axes for a chain, [`BEFORE_MAX`] loads before; a rule that would be in more than [`SPREAD_MAX`] lists
//! is asked always, so that lists are at most that many times as long as the chain.

use super::super::packet::Packet;
use super::fuse::Rule;
use super::load::{Load, LoadId, Loaded, Source, Word};
use super::matcher::Matcher;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// The most axes of a chain.
pub(super) const AXES_MAX: usize = 4;
const BEFORE_MAX: usize = 8;
const SPREAD_MAX: usize = 64;
/// Behind all rules.
pub(super) const END: u32 = u32::MAX;
/// How many of a rule's matchers are looked at.
const MATCHERS_MAX: usize = 6;

/// A number and those that go with it.
type Span = (u128, u128);

/// See the file's head. Rules are numbered by their place in the compiled chain.
#[derive(Debug)]
pub(super) struct Index {
    axes: Box<[Axis]>,
    always: Box<[u32]>,
}

#[derive(Debug)]
struct Axis {
    load: LoadId,
    before: Box<[LoadId]>,
    /// Some of its rules ask for fewer bytes.
    shorter: bool,
    /// All of its rules.
    rules: Box<[u32]>,
    find: Find,
    lists: Box<[u32]>,
}

#[derive(Debug)]
enum Find {
    /// All ask for numbers under one mask.
    Exact {
        mask: u128,
        lists: HashMap<u128, Range<u32>, foldhash::fast::RandomState>,
    },
    /// Where each list begins to hold, from 0 on.
    Spans {
        starts: Box<[u128]>,
        lists: Box<[Range<u32>]>,
    },
}

/// Loads that are one field: whatever its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Field {
    Payload(super::super::expr::Base, u8),
    Load(LoadId),
}

/// A rule's way onto an axis.
struct Way {
    rule: u32,
    load: LoadId,
    span: Span,
    before: Vec<LoadId>,
}

impl Index {
    /// Of a chain's rules; none if it spares fewer than `spared_min` of them. `loads` by their number.
    pub(super) fn new(rules: &[Rule], loads: &[Load], spared_min: usize) -> Option<Self> {
        let mut left: Vec<bool> = vec![true; rules.len()];
        let mut ways: HashMap<Field, Vec<Way>> = HashMap::new();
        for (place, rule) in (0u32..).zip(rules) {
            each_way(place, rule, loads, |field, way| {
                ways.entry(field).or_default().push(way)
            });
        }
        let mut axes = Vec::new();
        while axes.len() < AXES_MAX {
            ways.values_mut()
                .for_each(|ways| ways.retain(|way| left[way.rule as usize]));
            // Of those that spare as much, the one whose field is asked first: a choice that does not depend on hashing.
            let best = ways
                .iter()
                .map(|(field, ways)| {
                    (
                        spared(ways),
                        std::cmp::Reverse(ways.first().map(|way| way.load)),
                        *field,
                    )
                })
                .max_by_key(|(spared, first, _)| (*spared, *first));
            let Some((_, _, field)) = best.filter(|(spared, ..)| *spared >= spared_min.max(1)) else {
                break;
            };
            let axis = ways.remove(&field).and_then(|ways| Axis::new(ways, loads));
            let Some(axis) = axis else { continue };
            axis.rules.iter().for_each(|rule| left[*rule as usize] = false);
            axes.push(axis);
        }
        let always = (0u32..)
            .zip(left)
            .filter_map(|(rule, left)| left.then_some(rule))
            .collect();
        (!axes.is_empty()).then(|| Self {
            axes: axes.into(),
            always,
        })
    }
}

/// How many rules a packet is spared: all but those that ask for one and the same.
fn spared(ways: &[Way]) -> usize {
    let distinct: HashSet<Span> = ways.iter().map(|way| way.span).collect();
    ways.len() - ways.len().div_ceil(distinct.len().max(1))
}

fn each_way(place: u32, rule: &Rule, loads: &[Load], mut each: impl FnMut(Field, Way)) {
    let mut before = Vec::new();
    let mut seen = Vec::new();
    for matcher in rule.matchers.iter().take(MATCHERS_MAX) {
        if before.len() > BEFORE_MAX {
            break;
        }
        if let Some((load, span)) = span(matcher) {
            let field = match loads[load as usize] {
                Load {
                    source: Source::Payload { base, offset, .. },
                    turned: None,
                } => Field::Payload(base, offset),
                _ => Field::Load(load),
            };
            // Twice the same field: the first will do.
            if !seen.contains(&field) {
                seen.push(field);
                let before = before.clone();
                each(
                    field,
                    Way {
                        rule: place,
                        load,
                        span,
                        before,
                    },
                );
            }
        }
        before.extend(matcher.loads().filter(|load| !loads[*load as usize].source.is_known()));
    }
}

/// The numbers that a matcher asks for, if they are next to each other.
fn span(matcher: &Matcher) -> Option<(LoadId, Span)> {
    let is_prefix = |mask: u128| mask.leading_ones() + mask.trailing_zeros() >= 128;
    match matcher {
        Matcher::Equal { load, mask, value } if is_prefix(*mask) && *mask != 0 => {
            Some((*load, (*value, value | !mask)))
        }
        Matcher::Within { load, within }
            if is_prefix(within.mask) && within.mask != 0 && within.xor == 0 && !within.inverted =>
        {
            Some((*load, (within.first, within.last | !within.mask)))
        }
        _ => None,
    }
}

impl Axis {
    /// Of rules that ask for one field; none if none is left of them.
    fn new(mut ways: Vec<Way>, loads: &[Load]) -> Option<Self> {
        let len = |load: LoadId| match loads[load as usize].source {
            Source::Payload { len, .. } => len,
            _ => 0,
        };
        let load = ways.iter().map(|way| way.load).max_by_key(|load| len(*load))?;
        let mut before: Vec<LoadId> = Vec::new();
        ways.retain(|way| {
            let mut with = before.clone();
            for other in way.before.iter().chain([&way.load]) {
                if *other != load && !with.contains(other) {
                    with.push(*other);
                }
            }
            let fits = with.len() <= BEFORE_MAX;
            if fits {
                before = with;
            }
            fits
        });
        let (find, lists) = match exact(&ways) {
            Some(found) => found,
            None => spans(&mut ways),
        };
        (!ways.is_empty()).then(|| Self {
            shorter: ways.iter().any(|way| way.load != load),
            load,
            before: before.into(),
            rules: ways.iter().map(|way| way.rule).collect(),
            find,
            lists,
        })
    }

    /// Which of its rules the packet may match, in their order.
    fn candidates(&self, loaded: &mut Loaded<'_>, packet: &impl Packet) -> &[u32] {
        if self.before.iter().any(|load| loaded.word(*load, packet) == Word::Punt) {
            return &self.rules;
        }
        let value = match loaded.word(self.load, packet) {
            Word::Value(value) => value,
            // What fewer bytes ask for may be there.
            Word::Break if !self.shorter => return &[],
            Word::Break | Word::Punt => return &self.rules,
        };
        let list = match &self.find {
            Find::Exact { mask, lists } => lists.get(&(value & mask)),
            Find::Spans { starts, lists } => {
                let behind = starts.partition_point(|start| *start <= value);
                behind.checked_sub(1).and_then(|at| lists.get(at))
            }
        };
        let list = list.map(|list| &self.lists[list.start as usize..list.end as usize]);
        list.unwrap_or_default()
    }
}

/// One hash, if all ask for numbers under one mask.
fn exact(ways: &[Way]) -> Option<(Find, Box<[u32]>)> {
    let mask = |(first, last): Span| !(first ^ last);
    let one = mask(ways.first()?.span);
    let is_prefix = one.leading_ones() + one.trailing_zeros() >= 128 && one != 0;
    if !is_prefix || ways.iter().any(|way| mask(way.span) != one || way.span.0 & !one != 0) {
        return None;
    }
    let mut by_value: HashMap<u128, Vec<u32>> = HashMap::new();
    for way in ways {
        by_value.entry(way.span.0).or_default().push(way.rule);
    }
    let mut flat = Vec::with_capacity(ways.len());
    let lists = by_value
        .into_iter()
        .map(|(value, rules)| (value, append(&mut flat, rules)))
        .collect();
    Some((Find::Exact { mask: one, lists }, flat.into()))
}

/// Lists of what holds between any two bounds. Takes rules out that hold between too many.
fn spans(ways: &mut Vec<Way>) -> (Find, Box<[u32]>) {
    let mut starts: Vec<u128> = std::iter::once(0)
        .chain(
            ways.iter()
                .flat_map(|way| [Some(way.span.0), way.span.1.checked_add(1)])
                .flatten(),
        )
        .collect();
    starts.sort_unstable();
    starts.dedup();
    let places = |(first, last): Span| {
        let place = |value: u128| starts.partition_point(|start| *start <= value) - 1;
        if first <= last {
            place(first)..place(last) + 1
        } else {
            0..0
        }
    };
    ways.retain(|way| places(way.span).len() <= SPREAD_MAX);
    let mut lists: Vec<Vec<u32>> = vec![Vec::new(); starts.len()];
    for way in ways.iter() {
        lists[places(way.span)].iter_mut().for_each(|list| list.push(way.rule));
    }
    let mut flat = Vec::new();
    let lists = lists.into_iter().map(|rules| append(&mut flat, rules)).collect();
    let starts = starts.into();
    (Find::Spans { starts, lists }, flat.into())
}

fn append(flat: &mut Vec<u32>, rules: Vec<u32>) -> Range<u32> {
    let start = flat.len() as u32;
    flat.extend(rules);
    start..flat.len() as u32
}

/// Where a walk is in the lists of a chain: what is left of each, of those that were asked for.
#[derive(Debug, Default)]
pub(super) struct Cursors<'a> {
    always: Option<&'a [u32]>,
    axes: [Option<&'a [u32]>; AXES_MAX],
}

impl<'a> Cursors<'a> {
    /// The first rule from `at` on that the packet may match, or [`END`].
    pub(super) fn next(&mut self, index: &'a Index, at: u32, loaded: &mut Loaded<'_>, packet: &impl Packet) -> u32 {
        let mut next = first(self.always.get_or_insert(&index.always), at);
        let mut unasked = [END; AXES_MAX];
        for ((axis, list), first_of) in index.axes.iter().zip(&mut self.axes).zip(&mut unasked) {
            match list {
                Some(list) => next = next.min(first(list, at)),
                None => *first_of = first(&mut &*axis.rules, at),
            }
        }
        // An axis is asked about the packet when one of its rules would be next, so that those behind a verdict never are.
        loop {
            let nearest = unasked.iter().copied().enumerate().min_by_key(|(_, rule)| *rule);
            let Some((place, _)) = nearest.filter(|(_, rule)| *rule < next) else {
                return next;
            };
            unasked[place] = END;
            let mut list = index.axes[place].candidates(loaded, packet);
            next = next.min(first(&mut list, at));
            self.axes[place] = Some(list);
        }
    }
}

/// The first of a list that is not before `at`, or [`END`]; those before are taken off.
#[inline]
fn first(list: &mut &[u32], at: u32) -> u32 {
    // One or none in a straight walk, many behind a return.
    if list.get(1).is_some_and(|second| *second < at) {
        *list = &list[list.partition_point(|rule| *rule < at)..];
    } else if list.first().is_some_and(|first| *first < at) {
        *list = &list[1..];
    }
    list.first().copied().unwrap_or(END)
}
