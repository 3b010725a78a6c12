//! The filters of a qdisc: which class is a frame for? As __tcf_classify (net/sched/cls_api.c) asks them, in the order of their
//! preference. Carried are those that look at the frame and its mark alone, and do nothing but say a class; with any other,
//! the guard leaves what would go out by that port to the kernel.
//!
//! ```text
//!  pref 10 protocol ip u32 --none--> pref 20 protocol all fw --none--> pref 30 matchall
//!            \--> class                        \--> class                        \--> class
//! ```
//!
//! A [`Filter`] is all that tc lists under one preference (struct tcf_proto): its kind decides how what is below is searched.
//! What a filter says counts even where no such class is: the qdisc then takes its default, and asks no other filter.
//! Bounded by what the kernel lists; no search allocates, and none is longer than the kernel's.

pub mod flower;
mod index;
mod join;
pub mod u32;
mod view;

pub use join::join;

use super::qdisc::Handle;
use flower::Flower;
use u32::U32;
use view::View;

/// `protocol all` (ETH_P_ALL).
pub const PROTOCOL_ALL: u16 = 3;

/// The filters of one preference.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// The EtherType of the frames that it is asked about, or [`PROTOCOL_ALL`]. Of a frame with a VLAN tag it is the tag's.
    pub protocol: u16,
    /// What it looks at.
    pub what: Match,
}

/// What filters look at, by their kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Match {
    /// At nothing (net/sched/cls_matchall.c).
    All(Handle),
    /// At the mark (net/sched/cls_fw.c).
    Mark(Marks),
    /// At words of the frame (net/sched/cls_u32.c).
    U32(U32),
    /// At fields of the frame (net/sched/cls_flower.c).
    Flower(Flower),
}

/// fw: marks, and the class of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    mask: u32,
    /// By mark, each once.
    classes: Box<[(u32, Handle)]>,
}

/// What filters look at, of one frame.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The frame, from its Ethernet header on.
    pub bytes: &'a [u8],
    /// Its mark.
    pub mark: u32,
    /// Its priority.
    pub priority: u32,
}

impl Filter {
    /// One that matches every frame.
    pub fn all(class: Handle) -> Self {
        Self {
            protocol: PROTOCOL_ALL,
            what: Match::All(class),
        }
    }

    /// One that matches frames of this mark.
    pub fn mark(mark: u32, class: Handle) -> Self {
        Self {
            protocol: PROTOCOL_ALL,
            what: Match::Mark(Marks::new(u32::MAX, vec![(mark, class)])),
        }
    }

    #[inline]
    fn find(&self, view: &View<'_>) -> Option<Handle> {
        if self.protocol != view.protocol && self.protocol != PROTOCOL_ALL {
            return None;
        }
        match &self.what {
            Match::All(class) => Some(*class),
            Match::Mark(marks) => marks.find(view.mark),
            Match::U32(tables) => tables.find(view),
            Match::Flower(rules) => rules.find(view),
        }
    }
}

impl Marks {
    /// All of these, which follow each other; none where their masks differ.
    fn joined(all: &[&Self]) -> Option<Self> {
        let mask = all.first()?.mask;
        let same = all.iter().all(|marks| marks.mask == mask);
        let classes = all.iter().flat_map(|marks| marks.classes.iter().copied());
        same.then(|| Self::new(mask, classes.collect()))
    }

    /// Of these marks, with the mask that all share. The first of a mark counts.
    pub fn new(mask: u32, mut classes: Vec<(u32, Handle)>) -> Self {
        classes.sort_by_key(|&(mark, _)| mark);
        classes.dedup_by_key(|&mut (mark, _)| mark);
        let classes = classes.into();
        Self { mask, classes }
    }

    #[inline]
    fn find(&self, mark: u32) -> Option<Handle> {
        let wanted = mark & self.mask;
        let at = self.classes.binary_search_by_key(&wanted, |&(mark, _)| mark).ok()?;
        self.classes.get(at).map(|&(_, class)| class)
    }
}

/// The class that the first filter that matches says; not always one that is there.
#[inline]
pub fn classify(filters: &[Filter], facts: &Facts<'_>) -> Option<Handle> {
    if filters.is_empty() {
        return None;
    }
    let view = View::new(facts);
    filters.iter().find_map(|filter| filter.find(&view))
}

#[cfg(test)]
mod tests;
