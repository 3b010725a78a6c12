//! The filters of a qdisc: which class is a frame for? As tcf_classify (net/sched/cls_api.c) asks them, in the order of their
//! priority. Carried are those that look at the frame and its mark alone, and do nothing but say a class; with any other,
//! the guard leaves what would go out by that port to the kernel.

use super::qdisc::Handle;

/// A filter that is carried.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// The class that a frame is for which it matches.
    pub class: Handle,
    /// What it looks at.
    pub what: Match,
}

/// What a filter looks at.
#[derive(Clone, Debug, PartialEq)]
pub enum Match {
    /// Everything (net/sched/cls_matchall.c).
    All,
    /// The mark, masked, is this (net/sched/cls_fw.c): value, mask.
    Mark(u32, u32),
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

/// The class of the first filter that matches.
#[inline]
pub fn classify(filters: &[Filter], facts: &Facts<'_>) -> Option<Handle> {
    let matches = |filter: &&Filter| match filter.what {
        Match::All => true,
        Match::Mark(value, mask) => facts.mark & mask == value,
    };
    filters.iter().find(matches).map(|filter| filter.class)
}
