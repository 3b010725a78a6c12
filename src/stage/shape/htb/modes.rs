//! Who may send: the modes of the classes, the rows and feeds that they stand in by these, the tokens that they follow from, and the
//! events that change them with time. See [`super`] for the picture.
//!
//! Each change goes from a class upwards, at most to the top; a class whose feed was in use already needs nothing changed above it.

use super::Htb;
use super::class::Mode;
use super::feed::NONE;
use crate::stage::shape::Stats;
use crate::table::bucket::{Amount, Bucket};

/// What is paid for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sent {
    /// A frame of so many bytes, which counts.
    Frame(u32),
    /// What the kernel sent, which the kernel counts.
    ByKernel(Amount),
}

impl Htb {
    /// Puts a class that has something to send into the feeds above, or into its row (htb_activate_prios).
    pub(super) fn activate_prios(&mut self, index: u32) {
        let (mut index, mut prios) = (index, self.classes[index as usize].activity);
        loop {
            let class = &self.classes[index as usize];
            let (mode, parent, rank) = (class.mode, class.parent, class.rank);
            if mode == Mode::CanSend {
                return self.add_to_row(index, prios);
            }
            if mode == Mode::CantSend || parent == NONE || prios == 0 {
                return;
            }
            let above = &mut self.classes[parent as usize];
            if let Some(feeds) = &mut above.feeds {
                each(prios, |prio| {
                    // One that is in use is in the feeds above already.
                    if !feeds[prio].is_empty() {
                        prios &= !(1 << prio);
                    }
                    feeds[prio].insert(rank);
                });
            }
            above.activity |= prios;
            index = parent;
        }
    }

    /// Takes a class out of the feeds above, or out of its row; `mode` is still the old one (htb_deactivate_prios).
    fn deactivate_prios(&mut self, index: u32) {
        let (mut index, mut prios) = (index, self.classes[index as usize].activity);
        loop {
            let class = &self.classes[index as usize];
            let (mode, parent, rank) = (class.mode, class.parent, class.rank);
            if mode == Mode::CanSend {
                return self.remove_from_row(index, prios);
            }
            if mode == Mode::CantSend || parent == NONE || prios == 0 {
                return;
            }
            let above = &mut self.classes[parent as usize];
            let mut emptied = 0;
            if let Some(feeds) = &mut above.feeds {
                each(prios, |prio| {
                    feeds[prio].remove_from_feed(rank);
                    if feeds[prio].is_empty() {
                        emptied |= 1 << prio;
                    }
                });
            }
            above.activity &= !emptied;
            (index, prios) = (parent, emptied);
        }
    }

    #[inline]
    fn add_to_row(&mut self, index: u32, prios: u8) {
        let level = &mut self.levels[usize::from(self.classes[index as usize].level)];
        level.filled |= prios;
        each(prios, |prio| level.rows[prio].insert(index));
    }

    #[inline]
    fn remove_from_row(&mut self, index: u32, prios: u8) {
        let level = &mut self.levels[usize::from(self.classes[index as usize].level)];
        each(prios, |prio| {
            level.rows[prio].remove_from_row(index);
            if level.rows[prio].is_empty() {
                level.filled &= !(1 << prio);
            }
        });
    }

    /// Gives a class the mode that its tokens say; whether that is another (htb_change_class_mode).
    #[inline]
    pub(super) fn change_mode(&mut self, index: u32, stats: &mut Stats) -> bool {
        let class = &self.classes[index as usize];
        let mode = class.mode_by_tokens();
        let is_other = mode != class.mode;
        if is_other {
            self.set_mode(index, mode, stats);
        }
        is_other
    }

    fn set_mode(&mut self, index: u32, mode: Mode, stats: &mut Stats) {
        let class = &mut self.classes[index as usize];
        if mode == Mode::CantSend {
            class.stats.overlimits += 1;
            stats.overlimits += 1;
        }
        if class.activity == 0 {
            class.mode = mode;
            return;
        }
        if class.mode != Mode::CantSend {
            self.deactivate_prios(index);
        }
        self.classes[index as usize].mode = mode;
        if mode != Mode::CantSend {
            self.activate_prios(index);
        }
    }

    /// Pays for what a leaf sent by the tokens of the class at `level`, from there up to the top; their ceils are all paid
    /// (htb_charge_class).
    pub(super) fn charge_class(&mut self, leaf: u32, level: u8, sent: Sent, stats: &mut Stats) {
        let (bytes, packets) = match sent {
            Sent::Frame(bytes) => (u64::from(bytes), 1),
            Sent::ByKernel(_) => (0, 0),
        };
        let (mut index, now_ns) = (leaf, self.now_ns);
        while let Some(class) = self.classes.get_mut(index as usize) {
            class.fill(now_ns);
            if class.level < level {
                class.stats.borrowed += packets;
            } else {
                if class.level == level {
                    class.stats.lended += packets;
                }
                pay(&mut class.tokens, sent);
            }
            pay(&mut class.ctokens, sent);
            class.stats.packets += packets;
            class.stats.bytes += bytes;
            let parent = class.parent;
            if self.change_mode(index, stats) {
                let class = &self.classes[index as usize];
                let events = &mut self.levels[usize::from(class.level)].events;
                match class.change_ns(now_ns) {
                    Some(at_ns) => events.insert(index, at_ns),
                    None => events.remove(index),
                }
            }
            index = parent;
        }
    }

    /// Changes the modes whose time has come; when the next one does (htb_do_events).
    pub(super) fn do_events(&mut self, level: usize, stats: &mut Stats) -> u64 {
        while let Some((at_ns, index)) = self.levels[level].events.first() {
            if at_ns > self.now_ns {
                return at_ns;
            }
            self.levels[level].events.remove(index);
            // Only looked at, so that what comes until it is charged again is of a minute at most.
            let class = &mut self.classes[index as usize];
            let kept = (class.tokens, class.ctokens);
            class.fill(self.now_ns);
            self.change_mode(index, stats);
            let class = &mut self.classes[index as usize];
            if let Some(at_ns) = class.change_ns(self.now_ns) {
                self.levels[level].events.insert(index, at_ns);
            }
            (class.tokens, class.ctokens) = kept;
        }
        u64::MAX
    }

    /// Takes a leaf out that has nothing to send any more (htb_deactivate).
    pub(super) fn deactivate(&mut self, index: u32) {
        self.deactivate_prios(index);
        self.classes[index as usize].activity = 0;
        self.active -= 1;
    }
}

#[inline]
fn pay(bucket: &mut Bucket, sent: Sent) {
    match sent {
        Sent::Frame(bytes) => bucket.take(bytes),
        Sent::ByKernel(frames) => bucket.take_many(frames),
    }
}

/// Calls `act` for each bit.
#[inline]
fn each(bits: u8, mut act: impl FnMut(usize)) {
    let mut left = bits;
    while left != 0 {
        act(left.trailing_zeros() as usize);
        left &= left - 1;
    }
}
