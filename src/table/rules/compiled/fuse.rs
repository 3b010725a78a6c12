//! A rule as what it asks first, fused, and the rest.
//!
//! ```text
//!  [ meta l4proto | cmp 6 | payload 2b @th+2 | cmp 22 | counter | accept ]
//!    '------ Equal ------' '------ Equal ----------'    '---- from here on the interpreter
//! ```
//!
//! Registers are followed through loads, masks and byteorders, as long as each is a load with some of its bits ([`Part`]). The
//! first expression that is anything else ends that. What follows is the interpreter's; if it reads what was loaded, it begins
//! there, and loads again. What is the same for a whole family (`meta nfproto`) is decided here.

use super::super::expr::{BitOp, CmpOp, Expr, LookupInto, Register, Verdict, WORDS};
use super::super::keys::MetaKey;
use super::super::program::{self, Ruleset, SetId};
use super::super::set::KEY_MAX;
use super::load::{Load, LoadId, Source, number, ones, turn};
use super::matcher::{Key, Matcher, Part, Within};
use super::uses::{self, stand_alone};
use std::collections::HashMap;

/// A rule that somebody may match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Its number in its chain.
    pub(super) number: u32,
    /// All of these must hold.
    pub(super) matchers: Box<[Matcher]>,
    /// Then a verdict map is asked, which is its expression of this number.
    pub(super) map: Option<Box<(u32, Key)>>,
    /// Then the interpreter runs from here on.
    pub(super) rest: u32,
    /// Unless all that is left is a verdict.
    pub(super) verdict: Option<Verdict>,
    /// What was loaded before it may not be so afterwards.
    pub(super) sets: bool,
}

/// All loads of a family's rules, each with how often it is asked for.
#[derive(Debug, Default)]
pub(super) struct Loads {
    numbers: HashMap<Load, LoadId>,
    pub(super) all: Vec<(Load, u32)>,
}

impl Rule {
    /// Has its loads other numbers.
    pub(super) fn renumber(&mut self, numbers: &[LoadId]) {
        let change = |load: &mut LoadId| *load = numbers[*load as usize];
        self.matchers.iter_mut().for_each(|matcher| matcher.renumber(change));
        if let Some(map) = &mut self.map {
            map.1.renumber(change);
        }
    }
}

impl Loads {
    fn of(&mut self, load: Load) -> LoadId {
        let id = *self.numbers.entry(load).or_insert_with(|| {
            self.all.push((load, 0));
            self.all.len() as LoadId - 1
        });
        self.all[id as usize].1 += 1;
        id
    }

    fn source(&self, load: LoadId) -> Source {
        self.all[load as usize].0.source
    }
}

/// What is known to be in a register and behind it: bits of a load.
#[derive(Clone, Copy, Debug)]
struct Known {
    load: Load,
    mask: u128,
    xor: u128,
    width: usize,
}

/// What an expression comes to.
enum Fused {
    /// It is in the matchers, or in what is known.
    Done,
    /// Nobody gets beyond it.
    Dead,
    /// It is a verdict map.
    Map(Key),
    /// It is something else.
    Other,
}

struct Fuse<'a> {
    ruleset: &'a Ruleset,
    nfproto: u8,
    loads: &'a mut Loads,
    known: [Option<Known>; WORDS],
    matchers: Vec<Matcher>,
}

/// A rule for packets of a family; none if none of them matches it, whatever else they are.
pub(super) fn rule(ruleset: &Ruleset, rule: &program::Rule, at: usize, nfproto: u8, loads: &mut Loads) -> Option<Rule> {
    let mut fuse = Fuse {
        ruleset,
        nfproto,
        loads,
        known: [None; WORDS],
        matchers: Vec::new(),
    };
    let (mut rest, mut map) = (0, None);
    for expr in &rule.exprs {
        match fuse.expr(expr) {
            Fused::Done => {}
            Fused::Dead if fuse.matchers.is_empty() => return None,
            Fused::Dead => fuse.matchers.push(Matcher::Never),
            Fused::Map(key) => map = Some(Box::new((rest as u32, key))),
            Fused::Other => break,
        }
        rest += 1;
        if map.is_some() || fuse.matchers.last() == Some(&Matcher::Never) {
            break;
        }
    }
    // What is run must stand alone: nothing at all does.
    let first = (0..=rest)
        .rev()
        .find(|&from| stand_alone(ruleset, &rule.exprs[from..], nfproto));
    if first != Some(rest) {
        map = None;
    }
    let rest = first.unwrap_or(0);
    Some(Rule {
        number: at as u32,
        matchers: fuse.matchers.into(),
        map,
        rest: rest as u32,
        verdict: match rule.exprs[rest..] {
            [Expr::Verdict(verdict)] => Some(verdict),
            _ => None,
        },
        sets: rule.exprs.iter().any(uses::sets),
    })
}

impl Fuse<'_> {
    fn expr(&mut self, expr: &Expr) -> Fused {
        if let Some((source, dest)) = Source::of(expr) {
            return self.load(source, dest);
        }
        match expr {
            Expr::Bitwise {
                source,
                dest,
                len,
                op: BitOp::MaskXor(mask, xor),
            } => {
                let len = usize::from(*len).next_multiple_of(4);
                let Some(known) = self.known(*source, len) else {
                    return Fused::Other;
                };
                let (mask, xor) = (number(mask) & ones(len), number(xor) & ones(len));
                self.put(
                    *dest,
                    Known {
                        mask: known.mask & mask,
                        xor: known.xor & mask ^ xor,
                        width: len,
                        ..known
                    },
                )
            }
            Expr::Byteorder {
                source,
                dest,
                len,
                size,
            } => self.byteorder(*source, *dest, *len, *size),
            Expr::Cmp { source, op, data } => match self.known(*source, data.len()) {
                Some(known) => self.compare(known, *op, data),
                None => Fused::Other,
            },
            Expr::Range {
                source,
                inverted,
                from,
                to,
            } => match self.known(*source, from.len()) {
                Some(known) if from.len() == to.len() => {
                    let within = Within {
                        mask: known.mask & ones(from.len()),
                        xor: known.xor & ones(from.len()),
                        first: number(from),
                        last: number(to),
                        inverted: *inverted,
                    };
                    let load = self.loads.of(known.load);
                    let within = Box::new(within);
                    self.ask(Matcher::Within { load, within });
                    Fused::Done
                }
                _ => Fused::Other,
            },
            Expr::Lookup {
                set,
                key,
                into,
                inverted,
            } => self.lookup(*set, *key, *into, *inverted),
            _ => Fused::Other,
        }
    }

    fn load(&mut self, source: Source, dest: Register) -> Fused {
        let load = Load { source, turned: None };
        if !source.is_certain() && !self.matchers.iter().any(|it| self.asks(it, source)) {
            let id = self.loads.of(load);
            self.matchers.push(Matcher::There(id));
        }
        let width = source.width(self.nfproto);
        let known = Known {
            load,
            mask: source.loaded(self.nfproto),
            xor: 0,
            width,
        };
        self.put(dest, known)
    }

    /// Whether a matcher that holds says that there is such a thing.
    fn asks(&self, matcher: &Matcher, source: Source) -> bool {
        matcher.loads().any(|load| self.loads.source(load) == source)
    }

    fn known(&self, register: Register, len: usize) -> Option<Known> {
        let known = self.known[register.start() / 4]?;
        (len > 0 && len <= known.width).then_some(known)
    }

    fn put(&mut self, dest: Register, known: Known) -> Fused {
        let start = dest.start() / 4;
        let end = start + known.width / 4;
        if end > WORDS {
            return Fused::Other;
        }
        // Whatever it covers a part of is known no more.
        for (at, other) in self.known.iter_mut().enumerate() {
            if other.is_some_and(|other| at < end && start < at + other.width / 4) {
                *other = None;
            }
        }
        self.known[start] = Some(known);
        Fused::Done
    }

    /// Turning around what was masked is masking, turned, what was turned around.
    fn byteorder(&mut self, source: Register, dest: Register, len: u8, size: u8) -> Fused {
        let whole = len - len % size.max(1);
        match self.known(source, usize::from(len)) {
            Some(known) if known.load.turned.is_none() && usize::from(whole).is_multiple_of(4) && whole > 0 => {
                let turned = Known {
                    load: Load {
                        turned: Some((whole, size)),
                        ..known.load
                    },
                    mask: turn(known.mask, whole, size),
                    xor: turn(known.xor, whole, size),
                    width: usize::from(whole),
                };
                self.put(dest, turned)
            }
            _ => Fused::Other,
        }
    }

    fn compare(&mut self, known: Known, op: CmpOp, data: &[u8]) -> Fused {
        let part = Part {
            load: 0,
            mask: known.mask,
            xor: known.xor,
            at: 0,
        };
        let matcher = |load| Matcher::compare(Part { load, ..part }, op, number(data), data.len());
        if known.load.source == Source::Meta(MetaKey::Nfproto) && known.load.turned.is_none() {
            return match matcher(0).holds(number(&[self.nfproto])) {
                true => Fused::Done,
                false => Fused::Dead,
            };
        }
        let matcher = matcher(self.loads.of(known.load));
        self.ask(matcher);
        Fused::Done
    }

    /// Adds a question.
    fn ask(&mut self, matcher: Matcher) {
        self.is_asked_for(matcher.loads());
        self.matchers.push(matcher);
    }

    /// That something is there is no question any more where what follows asks what it is.
    fn is_asked_for(&mut self, loads: impl Iterator<Item = LoadId>) {
        let sources: Vec<_> = loads.map(|load| self.loads.source(load)).collect();
        let last = self.matchers.len().saturating_sub(sources.len());
        let is_there = |(there, source): (&Matcher, &Source)| match there {
            Matcher::There(load) => self.loads.source(*load) == *source,
            _ => false,
        };
        if self.matchers.len() >= sources.len() && self.matchers[last..].iter().zip(&sources).all(is_there) {
            self.matchers.truncate(last);
        }
    }

    fn lookup(&mut self, set: SetId, key: Register, into: LookupInto, inverted: bool) -> Fused {
        let asked = &self.ruleset[set];
        if asked.spec.opaque.is_some() || !asked.states().is_empty() || matches!(into, LookupInto::Register(_)) {
            return Fused::Other;
        }
        let len = usize::from(asked.spec.key_len);
        let Some(parts) = self.parts(key, len).filter(|_| (1..=KEY_MAX).contains(&len)) else {
            return Fused::Other;
        };
        let key = Key { parts, set, inverted };
        match into {
            LookupInto::Verdict => {
                self.is_asked_for(key.parts.iter().map(|part| part.load));
                Fused::Map(key)
            }
            _ => {
                self.ask(Matcher::In(Box::new(key)));
                Fused::Done
            }
        }
    }

    /// The loads that fill `len` bytes from a register on.
    fn parts(&mut self, from: Register, len: usize) -> Option<Box<[Part]>> {
        let mut parts = Vec::new();
        let mut at = 0;
        while at < len {
            let known = (*self.known.get(from.start() / 4 + at / 4)?)?;
            let load = self.loads.of(known.load);
            parts.push(Part {
                load,
                mask: known.mask,
                xor: known.xor,
                at: at as u8,
            });
            at += known.width.min(len - at);
        }
        Some(parts.into())
    }
}
