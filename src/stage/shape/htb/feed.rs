//! Sets of classes that take turns: the rows of a level and the feeds of an inner class (struct htb_prio of sch_htb.c).
//!
//! The kernel keeps each in a tree sorted by the number of the class. Here members are numbers from 0 on, in the order of their
//! classes, and the set is bits: joining and leaving is one bit, and the next member is found word by word, with a bit in a second row
//! for each word that is not empty. Nothing is allocated but when the tree is made.

/// No member.
pub(super) const NONE: u32 = u32::MAX;

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub(super) struct Feed {
    words: Vec<u64>,
    summary: Vec<u64>,
    count: u32,
    /// Whose turn it is (`ptr`).
    at: u32,
    /// Whose turn it was when that one left; the next above takes it over (`last_ptr_id`).
    last: u32,
}

impl Feed {
    /// Empty, for members below `members`.
    pub fn new(members: usize) -> Self {
        let words = members.div_ceil(64);
        Self {
            words: vec![0; words],
            summary: vec![0; words.div_ceil(64)],
            count: 0,
            at: NONE,
            last: NONE,
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes all out; nobody has or had the turn.
    pub fn clear(&mut self) {
        self.words.fill(0);
        self.summary.fill(0);
        (self.count, self.at, self.last) = (0, NONE, NONE);
    }

    #[inline]
    pub fn insert(&mut self, member: u32) {
        let (word, bit) = (member as usize / 64, 1 << (member % 64));
        if self.words[word] & bit == 0 {
            self.words[word] |= bit;
            self.summary[word / 64] |= 1 << (word % 64);
            self.count += 1;
        }
    }

    /// Takes it out of a row; if it had the turn, the next has.
    #[inline]
    pub fn remove_from_row(&mut self, member: u32) {
        if self.at == member {
            self.advance();
        }
        self.remove(member);
    }

    /// Takes it out of a feed; if it had the turn, it is remembered who that was.
    #[inline]
    pub fn remove_from_feed(&mut self, member: u32) {
        if self.at == member {
            (self.at, self.last) = (NONE, member);
        }
        self.remove(member);
    }

    #[inline]
    fn remove(&mut self, member: u32) {
        let (word, bit) = (member as usize / 64, 1 << (member % 64));
        if self.words[word] & bit != 0 {
            self.words[word] &= !bit;
            if self.words[word] == 0 {
                self.summary[word / 64] &= !(1 << (word % 64));
            }
            self.count -= 1;
        }
    }

    /// Gives the turn to the next above; behind the last, nobody has it.
    #[inline]
    pub fn advance(&mut self) {
        if self.at != NONE {
            self.at = self.next(self.at + 1);
        }
    }

    /// Whose turn it is; `None` behind the last.
    #[inline]
    pub fn current(&mut self) -> Option<u32> {
        if self.at == NONE && self.last != NONE {
            self.at = self.next(self.last);
        }
        self.last = NONE;
        (self.at != NONE).then_some(self.at)
    }

    /// Gives the turn to the first.
    #[inline]
    pub fn rewind(&mut self) {
        self.at = self.next(0);
    }

    /// Whose turn it is or was, for a tree that takes over.
    pub fn turn(&self) -> u32 {
        if self.at == NONE { self.last } else { self.at }
    }

    /// Gives the turn to `member`, or to the next above when it is not in.
    pub fn resume(&mut self, member: u32) {
        (self.at, self.last) = (NONE, member);
    }

    /// The first member that is not below `from`.
    #[inline]
    fn next(&self, from: u32) -> u32 {
        let word = from as usize / 64;
        let Some(&bits) = self.words.get(word) else {
            return NONE;
        };
        let bits = bits & (u64::MAX << (from % 64));
        if bits != 0 {
            return (word * 64) as u32 + bits.trailing_zeros();
        }
        let mut above = word + 1;
        while let Some(&filled) = self.summary.get(above / 64) {
            let filled = filled & (u64::MAX << (above % 64));
            if filled != 0 {
                let word = above / 64 * 64 + filled.trailing_zeros() as usize;
                return (word * 64) as u32 + self.words[word].trailing_zeros();
            }
            above = (above / 64 + 1) * 64;
        }
        NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_by_number_and_begin_anew() {
        let mut feed = Feed::new(70_000);
        let members = [5, 63, 64, 4096, 69_999];
        members.into_iter().for_each(|member| feed.insert(member));
        for _ in 0..2 {
            assert_eq!(feed.current(), None);
            feed.rewind();
            for member in members {
                assert_eq!(feed.current(), Some(member));
                feed.advance();
            }
        }
    }

    #[test]
    fn who_leaves_hands_the_turn_on() {
        let mut feed = Feed::new(10);
        [1, 3, 5].into_iter().for_each(|member| feed.insert(member));
        feed.rewind();
        feed.advance();
        feed.remove_from_row(3);
        assert_eq!(feed.current(), Some(5));
        feed.remove_from_feed(5);
        feed.insert(6);
        assert_eq!((feed.current(), feed.is_empty()), (Some(6), false));
        feed.remove_from_feed(6);
        assert_eq!(feed.current(), None);
        feed.remove_from_row(1);
        assert!(feed.is_empty());
    }
}
