//! htb (net/sched/sch_htb.c): a tree of classes. Each has a rate that it is sure of and a ceil that it never goes above; between both
//! it borrows from the class above, as long as that one is below its own rate or may borrow in turn.
//!
//! ```text
//!  level 7   1:1          row of level 7: who of it may send and has borrowers: 1:1
//!             |--------   feed of 1:1: who of its children borrows: 1:10, 1:20, in turn by quantum
//!  level 0   1:10  1:20   row of level 0: leaves that send by their own rate
//! ```
//!
//! The lowest level sends first, there the lowest priority, there the classes of a row in turn (deficit round robin). Down from a class
//! of a row, the feeds say which leaf it is. A class leaves row and feed when it must not send any more; when it may again stands
//! in the events of its level. So a packet touches the classes from its leaf to the top, whatever the number of others.
//!
//! Classes are sorted by their number, which is the order in which they take turns. `classify` is htb_classify, and so on: the names
//! of the kernel's functions stand at ours. Hysteresis is off; where the kernel's is on, the guard leaves the tree to it. There are no
//! limits on the time that events take, since there is at most one for each class.

mod build;
mod charge;
mod class;
mod events;
mod feed;
mod modes;
mod shed;

use super::Stats;
use super::frames::{Marks, Waiting};
use super::queue::Queue;
use crate::table::filter::{Facts, classify};
use crate::table::qdisc::{self, Handle, Qdisc};
use class::{Class, Mode};
use events::Events;
use feed::{Feed, NONE};
use modes::Sent;
use std::collections::VecDeque;

/// How deep a tree may be (TC_HTB_MAXDEPTH).
const DEPTH: usize = 8;
/// How many priorities there are (TC_HTB_NUMPRIO).
const PRIOS: usize = 8;
/// How often a search for a leaf may step; it cannot come near, as each step down has a feed with something in it.
const STEPS_MAX: usize = 65_535;
/// When to look again if frames wait and no event says when. It cannot happen; it bounds the harm if it does.
const LOOK_AGAIN_NS: u64 = 1_000_000_000;

/// An htb at work.
#[derive(Debug)]
pub(super) struct Htb {
    config: qdisc::Htb,
    handle: Handle,
    classes: Vec<Class>,
    by_minor: Vec<u32>,
    levels: [Level; DEPTH],
    /// What goes past all classes.
    direct: VecDeque<Waiting>,
    /// How many leaves have frames.
    active: u32,
    /// The one that has most of them, as far as it is known; see `shed`.
    longest: u32,
    /// When there may be something to send.
    due_ns: u64,
    now_ns: u64,
}

/// What is of one level (struct htb_level).
#[derive(Debug)]
struct Level {
    /// Who may send by itself and has something to, by priority.
    rows: [Feed; PRIOS],
    /// Which rows are not empty, as bits (`row_mask`).
    filled: u8,
    events: Events,
}

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// To this leaf.
    Leaf(u32),
    /// Past all classes.
    Direct,
    /// Nowhere: filters of inner classes lead in a circle, and it is dropped.
    Nowhere,
}

impl Htb {
    /// htb_enqueue; see [`Queue::enqueue`].
    pub fn enqueue(
        &mut self,
        root: &Qdisc,
        frame: Waiting,
        facts: &Facts<'_>,
        now_ns: u64,
        lost: &mut Vec<Waiting>,
        stats: &mut Stats,
    ) -> bool {
        let index = match self.classify(root, facts) {
            Place::Leaf(index) => index,
            Place::Direct if self.direct.len() < self.config.direct_qlen as usize => {
                self.direct.push_back(frame);
                stats.special += 1;
                self.due_ns = 0;
                return false;
            }
            Place::Direct | Place::Nowhere => {
                lost.push(frame);
                return true;
            }
        };
        let class = &mut self.classes[index as usize];
        let is_refused = match &mut class.leaf {
            Some(queue) => queue.enqueue(frame, facts, now_ns, lost),
            None => false,
        };
        class.stats.drops += u64::from(is_refused);
        let Some(due_ns) = class.leaf.as_ref().and_then(Queue::due_ns) else {
            return is_refused;
        };
        let is_new = class.activity == 0;
        // An active leaf that could send but for its own queue (which shapes too) may have something earlier now.
        if class.mode != Mode::CantSend && (is_new || class.leaf.as_ref().is_some_and(|queue| !queue.is_fifo())) {
            self.due_ns = self.due_ns.min(due_ns);
        }
        if is_new {
            class.activity = 1 << class.prio;
            self.active += 1;
            self.activate_prios(index);
        }
        self.note_length(index);
        is_refused
    }

    /// See [`super::Shaper::passes`]: of a tree in which nothing waits, a leaf that sends by its own rate has the only turn. Events
    /// of higher levels only ever let more be sent, and wait for a dequeue that comes so far, as in the kernel.
    pub fn passes(&mut self, root: &Qdisc, size: u32, facts: &Facts<'_>, now_ns: u64, stats: &mut Stats) -> bool {
        let Place::Leaf(index) = self.classify(root, facts) else {
            return false;
        };
        let class = &mut self.classes[index as usize];
        let leaf = class.leaf.as_mut();
        if class.mode != Mode::CanSend || !leaf.is_some_and(|leaf| leaf.passes(size, facts, now_ns)) {
            return false;
        }
        let deficit = &mut class.deficit[0];
        *deficit = deficit.saturating_sub_unsigned(size);
        if *deficit < 0 {
            *deficit = deficit.saturating_add(class.quantum);
        }
        self.now_ns = now_ns.max(self.now_ns);
        self.do_events(0, stats);
        self.charge_class(index, 0, Sent::Frame(size), stats);
        // There may be events now that nobody waits for.
        self.due_ns = 0;
        true
    }

    /// Where a frame goes (htb_classify).
    #[inline]
    fn classify(&self, root: &Qdisc, facts: &Facts<'_>) -> Place {
        if facts.priority == self.handle.0 {
            return Place::Direct;
        }
        let mut filters = root.filters.as_slice();
        if let Some(index) = self.find(Handle(facts.priority)) {
            let class = &self.classes[index as usize];
            if class.level == 0 {
                return Place::Leaf(index);
            }
            filters = &self.config.classes[class.config].filters;
        }
        // Filters of inner classes lead further down, unless one leads up again.
        for _ in 0..=DEPTH {
            let Some(to) = classify(filters, facts) else {
                return self.default();
            };
            if to == self.handle {
                return Place::Direct;
            }
            let Some(index) = self.find(to) else {
                return self.default();
            };
            let class = &self.classes[index as usize];
            if class.level == 0 {
                return Place::Leaf(index);
            }
            filters = &self.config.classes[class.config].filters;
        }
        Place::Nowhere
    }

    fn default(&self) -> Place {
        let class = self.find(Handle(self.handle.0 | self.config.default));
        let leaf = class.filter(|&index| self.classes[index as usize].level == 0);
        leaf.map_or(Place::Direct, Place::Leaf)
    }

    /// The class of a number (htb_find).
    #[inline]
    fn find(&self, id: Handle) -> Option<u32> {
        if id.of_qdisc() != self.handle {
            return None;
        }
        let index = self.by_minor.get(id.minor() as usize).copied()?;
        (index != NONE).then_some(index)
    }

    /// The row of a level, or the feed of a class.
    #[inline]
    fn turns(&mut self, owner: u32, level: usize, prio: usize) -> Option<&mut Feed> {
        if owner == NONE {
            return Some(&mut self.levels[level].rows[prio]);
        }
        let class = &mut self.classes[owner as usize];
        class.feeds.as_mut().map(|feeds| &mut feeds[prio])
    }

    /// The leaf whose turn it is, from a row down through the feeds. Behind the end of a feed, the turn goes on in the one above
    /// (htb_lookup_leaf).
    fn lookup_leaf(&mut self, level: usize, prio: usize) -> Option<u32> {
        let mut owner = NONE;
        for _ in 0..STEPS_MAX {
            let turns = self.turns(owner, level, prio)?;
            if let Some(member) = turns.current() {
                let index = match owner {
                    NONE => member,
                    _ => self.classes[owner as usize].children[member as usize],
                };
                if self.classes[index as usize].level == 0 {
                    return Some(index);
                }
                owner = index;
                continue;
            }
            turns.rewind();
            if owner == NONE {
                turns.current()?;
            } else {
                let class = &self.classes[owner as usize];
                owner = if class.mode == Mode::CanSend {
                    NONE
                } else {
                    class.parent
                };
                self.turns(owner, level, prio)?.advance();
            }
        }
        None
    }

    /// Takes the turn from a leaf that sent by a level.
    fn next_turn(&mut self, index: u32, level: usize, prio: usize) {
        let owner = if level == 0 {
            NONE
        } else {
            self.classes[index as usize].parent
        };
        if let Some(turns) = self.turns(owner, level, prio) {
            turns.advance();
        }
    }

    /// The next frame of a row that is not empty (htb_dequeue_tree). `waits` gets when a leaf that gave nothing may have something.
    fn dequeue_tree(
        &mut self,
        level: usize,
        prio: usize,
        marks: &mut dyn Marks,
        lost: &mut Vec<Waiting>,
        stats: &mut Stats,
        waits_ns: &mut u64,
    ) -> Option<Waiting> {
        let mut start = None;
        loop {
            let index = self.lookup_leaf(level, prio)?;
            if start == Some(index) {
                return None;
            }
            let class = &mut self.classes[index as usize];
            let sent = class
                .leaf
                .as_mut()
                .and_then(|queue| queue.dequeue(self.now_ns, marks, lost));
            if let Some(frame) = sent {
                let bytes = frame.size;
                let deficit = &mut class.deficit[level];
                *deficit = deficit.saturating_sub_unsigned(bytes);
                if *deficit < 0 {
                    *deficit = deficit.saturating_add(class.quantum);
                    self.next_turn(index, level, prio);
                }
                if self.classes[index as usize].is_empty() {
                    self.deactivate(index);
                }
                self.charge_class(index, level as u8, Sent::Frame(bytes), stats);
                return sent;
            }
            // Its queue dropped what it had, or it shapes by itself and is not due.
            match class.leaf.as_ref().and_then(Queue::due_ns) {
                None => {
                    self.deactivate(index);
                    if self.levels[level].filled & 1 << prio == 0 {
                        return None;
                    }
                }
                Some(due_ns) => {
                    *waits_ns = due_ns.min(*waits_ns);
                    start = start.or(Some(index));
                    self.next_turn(index, level, prio);
                }
            }
        }
    }

    /// htb_dequeue.
    pub fn dequeue(
        &mut self,
        now_ns: u64,
        marks: &mut dyn Marks,
        lost: &mut Vec<Waiting>,
        stats: &mut Stats,
    ) -> Option<Waiting> {
        if let Some(frame) = self.direct.pop_front() {
            return Some(frame);
        }
        self.now_ns = now_ns.max(self.now_ns);
        let mut next_ns = u64::MAX;
        for level in 0..DEPTH {
            next_ns = self.do_events(level, stats).min(next_ns);
            let mut rows = self.levels[level].filled;
            while rows != 0 {
                let prio = rows.trailing_zeros() as usize;
                rows &= rows - 1;
                let frame = self.dequeue_tree(level, prio, marks, lost, stats, &mut next_ns);
                if frame.is_some() {
                    return frame;
                }
            }
        }
        if next_ns == u64::MAX {
            next_ns = self.now_ns.saturating_add(LOOK_AGAIN_NS);
        }
        self.due_ns = next_ns.max(self.now_ns.saturating_add(1));
        None
    }

    pub fn due_ns(&self) -> Option<u64> {
        Some(self.due_ns)
    }

    /// htb_reset: every class may send, and does so once whatever it owes, for tokens stay; turns begin anew.
    pub fn purge(&mut self, lost: &mut Vec<Waiting>) {
        lost.extend(self.direct.drain(..));
        for class in &mut self.classes {
            if let Some(queue) = &mut class.leaf {
                queue.purge(lost);
            }
            if let Some(feeds) = &mut class.feeds {
                feeds.iter_mut().for_each(Feed::clear);
            }
            (class.activity, class.mode) = (0, Mode::CanSend);
        }
        for level in &mut self.levels {
            level.rows.iter_mut().for_each(Feed::clear);
            level.events.clear();
            level.filled = 0;
        }
        (self.active, self.due_ns) = (0, 0);
    }

    /// Those of its classes, and of the qdiscs below.
    pub fn stats(&self, into: &mut Vec<(Handle, Stats)>) {
        for class in &self.classes {
            into.push((class.id, class.stats()));
        }
        for queue in self.classes.iter().filter_map(|class| class.leaf.as_ref()) {
            queue.stats(into);
        }
    }
}
