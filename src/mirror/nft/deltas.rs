//! What commits told of elements, so that a set of 100,000 need not be read anew for one.
//!
//! ```text
//!  events of a commit   NEWSETELEM, DELSETELEM ... NEWGEN     each bears the number of its generation
//!  Commits              collects them: a commit of elements alone, or of something else
//!  apply                rules of generation n, commits n+1, n+2, ... -> the same rules with other elements, or: read
//! ```
//!
//! The reading is the truth, this spares it: whatever is not exactly what is expected (another message, a gap, a loss, a set
//! that is not known, an element that is not understood, one that comes and is there or goes and is not) has all read.
//! Everything of a commit is told before its NEWGEN, and commits one after the other (nf_tables_commit, under its mutex); the
//! generation is raised before the first of it is told. So what a loss took is of a generation that whoever asks after
//! hearing of it is told, or of an earlier one; see [`Commits::forget`].
//!
//! Bounds: `ELEMENTS_MAX` elements that were told and not taken in.

use super::names::Names;
use super::{GENMSG_LEN, SUBSYS, fields, sets};
use crate::mirror::nlattr::{Message, get_be32, get_str};
use crate::mirror::nlsock::Heard;
use crate::table::rules::live::Rules;
use crate::table::rules::program::SetId;
use crate::table::rules::set::Change;
use std::collections::HashMap;

/// The most elements that wait; a commit that brings more is read.
const ELEMENTS_MAX: usize = 1 << 16;

const NEWSETELEM: u16 = SUBSYS | 12;
const DELSETELEM: u16 = SUBSYS | 14;
const NEWGEN: u16 = SUBSYS | 15;
/// As DELSETELEM, but of a request that does not mind if there is none.
const DESTROYSETELEM: u16 = SUBSYS | 30;

/// Elements that came to a set, or went.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    generation: u16,
    family: u8,
    table: String,
    set: String,
    /// NFTA_SET_ELEM_LIST_ELEMENTS.
    elements: Vec<u8>,
    comes: bool,
}

/// A commit: nothing but these elements, or something else.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Commit {
    generation: u32,
    told: Option<Vec<Told>>,
}

/// See the file's head.
#[derive(Debug, Default)]
pub struct Commits {
    /// Of the commit that has not come to its end.
    open: Vec<Told>,
    /// ... in which is something else.
    is_other: bool,
    done: Vec<Commit>,
    /// Of all of them.
    elements: usize,
    /// Something was lost.
    lost: bool,
    /// All that had been told was taken in.
    drained: bool,
}

impl Commits {
    /// Takes in a message of NFNLGRP_NFTABLES.
    pub fn take(&mut self, message: &Message) {
        match message.kind {
            NEWSETELEM | DELSETELEM | DESTROYSETELEM if self.elements < ELEMENTS_MAX => match told(message) {
                Some(told) => {
                    self.elements += 1;
                    self.open.push(told);
                }
                None => self.is_other = true,
            },
            NEWGEN => self.end(message.attrs(GENMSG_LEN).find(1).and_then(get_be32)),
            _ => self.is_other = true,
        }
    }

    /// How hearing of them came to its end.
    pub fn heard(&mut self, heard: Heard) {
        self.lost |= heard.lost;
        self.drained = heard.drained;
    }

    /// A commit is complete.
    fn end(&mut self, generation: Option<u32>) {
        let told = std::mem::take(&mut self.open);
        let is_other = std::mem::take(&mut self.is_other);
        let Some(generation) = generation else {
            self.lost = true;
            return;
        };
        // One of nothing is of something that has no event.
        let is_plain = !is_other && !told.is_empty() && told.iter().all(|told| told.generation == generation as u16);
        self.done.push(Commit {
            generation,
            told: is_plain.then_some(told),
        });
    }

    /// All is about to be read, the generation to be asked for: what is told by now is in it. Not so what a loss may still
    /// take, as long as the socket has not been seen empty.
    pub fn forget(&mut self) {
        self.done.clear();
        self.elements = self.open.len();
        self.lost &= !self.drained;
    }

    /// What the complete ones make of `rules`, which are of `generation`, at `now_ns`: those of the last of them, with its
    /// generation; none at all where nothing is new. They are taken in by that.
    ///
    /// # Errors
    /// [`HasToBeRead`]
    pub fn apply(&mut self, rules: &Rules, generation: u32, now_ns: u64) -> Result<Option<(u32, Rules)>, HasToBeRead> {
        if self.lost {
            return Err(HasToBeRead);
        }
        let done = std::mem::take(&mut self.done);
        self.elements = self.open.len();
        let (mut last, mut count) = (generation, 0);
        let mut known = HashMap::new();
        let mut changes: HashMap<SetId, Vec<Change>> = HashMap::new();
        for commit in done.iter().filter(|commit| is_later(commit.generation, generation)) {
            // The kernel leaves out 0.
            if commit.generation != last.wrapping_add(1).max(1) {
                return Err(HasToBeRead);
            }
            (last, count) = (commit.generation, count + 1);
            for told in commit.told.as_ref().ok_or(HasToBeRead)? {
                let name = (told.family, &*told.table, &*told.set);
                let set = *known.entry(name).or_insert_with(|| set_of(rules, name));
                let set = set.ok_or(HasToBeRead)?;
                let of_set = changes.entry(set).or_default();
                told.change(rules, set, now_ns, of_set).ok_or(HasToBeRead)?;
            }
        }
        if count == 0 {
            return Ok(None);
        }
        let other = |(id, changes): (SetId, _)| Some((id, rules.ruleset[id].changed(changes, now_ns)?));
        let changed: Option<Vec<_>> = changes.into_iter().map(other).collect();
        let mut rules = rules.with_sets(last, changed.ok_or(HasToBeRead)?);
        rules.taken.deltas += count;
        Ok(Some((last, rules)))
    }
}

/// Events do not tell what became of the ruleset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HasToBeRead;

/// Whether a generation is a later one; they go round.
pub fn is_later(generation: u32, than: u32) -> bool {
    generation.wrapping_sub(than).cast_signed() > 0
}

fn told(message: &Message) -> Option<Told> {
    let [family, _, high, low] = *message.payload.first_chunk::<GENMSG_LEN>()?;
    let attrs = message.attrs(GENMSG_LEN);
    Some(Told {
        generation: u16::from_be_bytes([high, low]),
        family,
        table: get_str(attrs.find(1)?),
        set: get_str(attrs.find(2)?),
        elements: attrs.find(3)?.to_vec(),
        comes: message.kind == NEWSETELEM,
    })
}

fn set_of(rules: &Rules, (family, table, name): (u8, &str, &str)) -> Option<SetId> {
    let ruleset = &rules.ruleset;
    let is_it = |id: &SetId| {
        let set = &ruleset[*id].spec;
        let of = &ruleset[set.table];
        *set.name == *name && of.family == family && *of.name == *table
    };
    (0..ruleset.sets.len() as u32).map(SetId).find(is_it)
}

impl Told {
    /// Adds its elements to the changes of the set; none if they are not understood.
    fn change(&self, rules: &Rules, set: SetId, now_ns: u64, changes: &mut Vec<Change>) -> Option<()> {
        // What leads to chains and objects is read, so that nobody needs their names.
        let names = Names::default();
        for element in fields::list(&self.elements)? {
            changes.push(Change {
                element: sets::element(&rules.ruleset[set].spec, &names, now_ns, element)?,
                comes: self.comes,
            });
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
