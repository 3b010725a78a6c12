//! Makes a tree from its configuration, and another one of the first when `tc` changed it.
//!
//! A change makes a new tree, into which what stays is carried over: what a class owes or has, in nanoseconds, its frames, its turn
//! and its counts; modes and events follow from those, as they do in the kernel, where a changed rate leaves nanoseconds alone. A
//! class that got children loses its frames; one that lost them begins with full buckets (htb_change_class, htb_parent_to_leaf).

use super::class::Class;
use super::events::Events;
use super::feed::{Feed, NONE};
use super::{DEPTH, Htb, Level, PRIOS};
use crate::stage::shape::Stats;
use crate::stage::shape::frames::Waiting;
use crate::table::qdisc::{self, Handle, Qdisc};
use std::collections::VecDeque;

impl Htb {
    /// Without frames, with full buckets.
    pub fn new(root: &Qdisc, config: &qdisc::Htb, now_ns: u64) -> Self {
        let mut order: Vec<usize> = (0..config.classes.len()).collect();
        order.sort_by_key(|&at| config.classes[at].id);
        order.dedup_by_key(|&mut at| config.classes[at].id);
        let mut classes: Vec<Class> = order
            .iter()
            .map(|&at| Class::new(&config.classes[at], at, now_ns))
            .collect();
        let mut by_minor = vec![NONE; classes.last().map_or(0, |class| class.id.minor() as usize + 1)];
        for (index, class) in classes.iter().enumerate() {
            if let Some(place) = by_minor.get_mut(class.id.minor() as usize) {
                *place = index as u32;
            }
        }
        join(&mut classes, config);
        for class in &mut classes {
            class.furnish(&config.classes[class.config], config.direct_qlen, now_ns);
        }
        let count = classes.len();
        Self {
            config: config.clone(),
            handle: root.handle,
            classes,
            by_minor,
            levels: std::array::from_fn(|_| Level {
                rows: std::array::from_fn(|_| Feed::new(count)),
                filled: 0,
                events: Events::new(count),
            }),
            direct: VecDeque::new(),
            active: 0,
            longest: 0,
            due_ns: 0,
            now_ns,
        }
    }

    /// Goes on by another configuration of the same qdisc.
    pub fn change(&mut self, root: &Qdisc, config: &qdisc::Htb, now_ns: u64, lost: &mut Vec<Waiting>) {
        let now_ns = now_ns.max(self.now_ns);
        let mut old = std::mem::replace(self, Self::new(root, config, now_ns));
        self.direct = std::mem::take(&mut old.direct);
        for index in 0..old.classes.len() {
            let id = old.classes[index].id;
            let above = parent_of(&old, &old.classes[index]);
            let generation = old.config.classes[old.classes[index].config].generation;
            let is_same = |&at: &u32| {
                let class = &self.classes[at as usize];
                parent_of(self, class) == above && config.classes[class.config].generation == generation
            };
            let kept = self.find(id).filter(is_same);
            let class = &mut old.classes[index];
            match kept {
                Some(at) => {
                    let config = &config.classes[self.classes[at as usize].config];
                    carry(class, &mut self.classes[at as usize], config, now_ns, lost);
                }
                None => {
                    if let Some(mut queue) = class.leaf.take() {
                        queue.purge(lost);
                    }
                }
            }
        }
        self.resume(now_ns);
        self.resume_turns(&old);
    }

    /// Modes, events, rows and feeds, as they follow from tokens and frames.
    fn resume(&mut self, now_ns: u64) {
        for (class, index) in self.classes.iter_mut().zip(0..) {
            class.fill(now_ns);
            class.mode = class.mode_by_tokens();
            if let Some(at_ns) = class.change_ns(now_ns) {
                self.levels[usize::from(class.level)].events.insert(index, at_ns);
            }
        }
        for index in 0..self.classes.len() {
            let class = &mut self.classes[index];
            if !class.is_empty() {
                if class.activity == 0 {
                    class.activity = 1 << class.prio;
                }
                self.active += 1;
                self.activate_prios(index as u32);
            }
        }
    }

    /// Whose turn it is, in each row and feed.
    fn resume_turns(&mut self, old: &Self) {
        for (level, prio) in (0..DEPTH).flat_map(|level| (0..PRIOS).map(move |prio| (level, prio))) {
            if let Some(turn) = old.classes.get(old.levels[level].rows[prio].turn() as usize) {
                let next = self.classes.iter().position(|class| class.id >= turn.id);
                self.levels[level].rows[prio].resume(next.map_or(NONE, |index| index as u32));
            }
        }
        for index in 0..self.classes.len() {
            let was = old.find(self.classes[index].id).map(|at| &old.classes[at as usize]);
            let Some((was, turns)) = was.and_then(|was| Some((was, was.feeds.as_ref()?))) else {
                continue;
            };
            let Some(mut feeds) = self.classes[index].feeds.take() else {
                continue;
            };
            for (feed, old_feed) in feeds.iter_mut().zip(turns.iter()) {
                if let Some(&turn) = was.children.get(old_feed.turn() as usize) {
                    let turn = old.classes[turn as usize].id;
                    let mut children = self.classes[index].children.iter();
                    let next = children.position(|&child| self.classes[child as usize].id >= turn);
                    feed.resume(next.map_or(NONE, |rank| rank as u32));
                }
            }
            self.classes[index].feeds = Some(feeds);
        }
    }
}

/// Tells classes who is above and below, and their levels. A parent that does not stand before its child is none.
fn join(classes: &mut [Class], config: &qdisc::Htb) {
    let find = |classes: &[Class], id: Handle| classes.binary_search_by_key(&id, |class| class.id).ok();
    for index in 0..classes.len() {
        let at = classes[index].config;
        let parent = find(classes, config.classes[at].parent).filter(|&parent| classes[parent].config < at);
        if let Some(parent) = parent {
            classes[index].parent = parent as u32;
            classes[index].rank = classes[parent].children.len() as u32;
            classes[parent].children.push(index as u32);
        }
    }
    let mut top_down: Vec<usize> = (0..classes.len()).collect();
    top_down.sort_by_key(|&index| classes[index].config);
    for index in top_down {
        if !classes[index].children.is_empty() {
            let above = classes
                .get(classes[index].parent as usize)
                .map_or(DEPTH as u8, |class| class.level);
            classes[index].level = above.saturating_sub(1).max(1);
        }
    }
}

/// The number of the class above.
fn parent_of(htb: &Htb, class: &Class) -> Option<Handle> {
    htb.classes.get(class.parent as usize).map(|class| class.id)
}

/// What stays of a class.
fn carry(old: &mut Class, new: &mut Class, config: &qdisc::Class, now_ns: u64, lost: &mut Vec<Waiting>) {
    new.stats = Stats { ..old.stats };
    let became_leaf = old.leaf.is_none() && new.leaf.is_some();
    if !became_leaf {
        let ns = |ns: i64| u64::try_from(ns).unwrap_or(0);
        (new.tokens, new.ctokens) = (old.tokens, old.ctokens);
        new.tokens.set(config.rate, ns(config.buffer_ns), now_ns);
        new.ctokens.set(config.ceil, ns(config.cbuffer_ns), now_ns);
        new.deficit = old.deficit;
    }
    let Some(mut queue) = old.leaf.take() else {
        return;
    };
    match &mut new.leaf {
        Some(leaf) => {
            queue.change(&leaf.config().clone(), now_ns, lost);
            // Another priority is that of the frames that find the class empty (htb_change_class sets `prio`, not `prio_activity`).
            new.activity = if queue.is_empty() { 0 } else { old.activity };
            *leaf = queue;
        }
        None => queue.purge(lost),
    }
}
