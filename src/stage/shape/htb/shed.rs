//! Whose frame goes when memory is short: one of the class that has most, so that few that are full do not shut out all others.
//!
//! Looking through a thousand classes for each frame that is too many would be slow. So a class is noted as the longest when it gets a
//! frame and has more than the one noted before, which those that are full do all the time; when the one that is noted has become
//! short by sending, all are looked at. One that has less than half of the mean of those that have any is never chosen.

use super::Htb;
use crate::stage::shape::frames::Waiting;
use crate::stage::shape::queue::Queue;

impl Htb {
    /// A class got a frame.
    #[inline]
    pub(super) fn note_length(&mut self, index: u32) {
        if self.length(index) > self.length(self.longest) {
            self.longest = index;
        }
    }

    /// See [`Queue::longest`]; `waiting` is all that it has.
    pub fn longest(&mut self, waiting: u64) -> usize {
        let index = self.longest_class(waiting);
        let leaf = self
            .classes
            .get_mut(index as usize)
            .and_then(|class| class.leaf.as_mut());
        leaf.map_or(0, Queue::longest).max(self.direct.len())
    }

    /// See [`Queue::shed`].
    pub fn shed(&mut self, waiting: u64, lost: &mut Vec<Waiting>) {
        let index = self.longest_class(waiting);
        if self.direct.len() > self.length(index) {
            return lost.extend(self.direct.pop_back());
        }
        let Some(class) = self.classes.get_mut(index as usize) else {
            return;
        };
        let before = lost.len();
        if let Some(queue) = class.leaf.as_mut().filter(|queue| !queue.is_empty()) {
            queue.shed(lost);
            class.stats.drops += (lost.len() - before) as u64;
            if class.is_empty() {
                self.deactivate(index);
            }
        }
    }

    fn longest_class(&mut self, waiting: u64) -> u32 {
        let in_classes = waiting.saturating_sub(self.direct.len() as u64);
        if 2 * self.length(self.longest) as u64 * u64::from(self.active) < in_classes {
            let all = 0..self.classes.len() as u32;
            self.longest = all.max_by_key(|&index| self.length(index)).unwrap_or(0);
        }
        self.longest
    }

    /// How many frames wait in a class.
    #[inline]
    fn length(&self, index: u32) -> usize {
        let leaf = self.classes.get(index as usize).and_then(|class| class.leaf.as_ref());
        leaf.map_or(0, Queue::len)
    }
}
