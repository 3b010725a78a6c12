//! What a receiver that looks at every frame keeps of a trial: which numbers came, in which order per flow, how late, and what
//! was damaged.
//!
//! ```text
//!   numbers   ... 3 4 5 6 7 8 9 ...      next = the highest that came, and one
//!                 [ window   ) next      one bit each: a number that comes again is a duplicate
//!   flows     the highest number of each flow, and one: a lower one that comes later is reordered
//! ```
//!
//! A frame counts once: as received (its number is new), duplicated (it came before) or corrupted (whose number is not believed,
//! and so stays lost). Reordered frames are received too. What comes [`WINDOW`] numbers late is taken for new, since nobody
//! knows any more, and is counted as `late` for a note.
//!
//! Memory: 512 KiB for the window, 8 bytes a flow (2^20 to 2^24 of them, beyond which flows share; what is not touched costs
//! nothing), 220 KiB of histogram. No allocation while frames come.

use super::latency;
use super::outcome::Latency;
use super::tag::{Seen, Tag};
use hdrhistogram::Histogram;

/// So many numbers are remembered: two seconds at 2 million frames per second.
pub const WINDOW: u64 = 1 << 22;
const WORD: u64 = u64::BITS as u64;
const FLOWS_MAX: usize = 1 << 24;
/// Where the tag has no flow, hashes stand for flows; of fewer slots than this, many flows would share one.
const SLOTS_MIN: usize = 1 << 20;
/// Delays from here on are of frames that seem to have come before they were sent: the time in a tag has 32 bits, which is
/// 4.29 s, and clocks of one machine differ by less than the last 50 ms of that.
const BEFORE_NS: u32 = u32::MAX - 50_000_000;

/// What came so far.
#[derive(Clone, Debug)]
pub struct Record {
    next: u64,
    seen: Box<[u64]>,
    flows: Box<[u64]>,
    delays: Histogram<u64>,
    /// Frames whose number is new.
    pub received: u64,
    /// ... of a flow of which a higher number had come.
    pub reordered: u64,
    /// Frames whose number had come.
    pub duplicated: u64,
    /// Frames whose bytes are not what was sent.
    pub corrupted: u64,
    /// Frames that are not of this trial, though they looked like it to the XDP program.
    pub foreign: u64,
    /// Received frames that came so late that a duplicate would not have been known.
    pub late: u64,
    /// Frames that seem to have come before they were sent.
    pub early: u64,
}

impl Record {
    /// For a trial of so many flows.
    pub fn new(flows: u32) -> Self {
        let flows = (flows as usize).next_power_of_two().clamp(SLOTS_MIN, FLOWS_MAX);
        Self {
            next: 0,
            seen: vec![0; (WINDOW / WORD) as usize].into(),
            flows: vec![0; flows].into(),
            delays: latency::recorder(),
            received: 0,
            reordered: 0,
            duplicated: 0,
            corrupted: 0,
            foreign: 0,
            late: 0,
            early: 0,
        }
    }

    /// Frames looked at.
    pub fn looked_at(&self) -> u64 {
        self.received + self.duplicated + self.corrupted + self.foreign
    }

    /// Takes in what was seen of one frame. `flow` stands for its flow where its tag had no room to say.
    #[inline]
    pub fn take(&mut self, seen: Seen, arrival_ns: u64, flow: impl FnOnce() -> u32) {
        match seen {
            Seen::Foreign => self.foreign += 1,
            Seen::Corrupted(_) => self.corrupted += 1,
            Seen::Intact(tag) => {
                let number = tag.sequence_near(self.next);
                if self.note(number) {
                    self.received += 1;
                    self.order(tag.flow.unwrap_or_else(flow), number);
                    self.time(&tag, arrival_ns);
                } else {
                    self.duplicated += 1;
                }
            }
        }
    }

    /// Whether the number is new.
    fn note(&mut self, number: u64) -> bool {
        if number >= self.next {
            self.advance(number);
        } else if self.next - number > WINDOW {
            self.late += 1;
            return true;
        }
        let (word, bit) = place(number);
        let known = self.seen[word] >> bit & 1 == 1;
        self.seen[word] |= 1 << bit;
        !known
    }

    /// Moves the window so that it ends with `number`: what enters it is not seen yet.
    fn advance(&mut self, number: u64) {
        let steps = number - self.next + 1;
        if steps >= WINDOW {
            self.seen.fill(0);
        } else {
            let mut at = self.next;
            while at <= number {
                let (word, bit) = place(at);
                let bits = (number + 1 - at).min(WORD - u64::from(bit));
                let mask = u64::MAX >> (WORD - bits) << bit;
                self.seen[word] &= !mask;
                at += bits;
            }
        }
        self.next = number + 1;
    }

    fn order(&mut self, flow: u32, number: u64) {
        let last = &mut self.flows[flow as usize & (self.flows.len() - 1)];
        if *last > number {
            self.reordered += 1;
        } else {
            *last = number + 1;
        }
    }

    fn time(&mut self, tag: &Tag, arrival_ns: u64) {
        match tag.delay_ns(arrival_ns) {
            Some(delay) if delay >= BEFORE_NS => self.early += 1,
            Some(delay) => self.delays.saturating_record(u64::from(delay.max(1))),
            None => {}
        }
    }

    /// The delays; `None` where no frame told when it was sent.
    pub fn latency(&self) -> Option<Latency> {
        (!self.delays.is_empty()).then(|| Latency::of(&self.delays))
    }
}

/// Where the bit of a number is.
fn place(number: u64) -> (usize, u32) {
    let at = number % WINDOW;
    ((at / WORD) as usize, (at % WORD) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    fn tag(number: u64, flow: u32, time_ns: u64) -> Seen {
        Seen::Intact(Tag {
            run: 1,
            sequence: number as u32,
            time: super::super::tag::time_field(time_ns),
            flow: Some(flow),
        })
    }

    fn taken(numbers: impl IntoIterator<Item = (u64, u32)>) -> Record {
        let mut record = Record::new(8);
        for (number, flow) in numbers {
            record.take(tag(number, flow, 1000), 2500, || unreachable!("the tag has the flow"));
        }
        record
    }

    #[test]
    fn each_number_counts_once() {
        let record = taken([0, 1, 2, 2, 4, 3, 1, 5].map(|number| (number, 0)));
        assert_eq!((record.received, record.duplicated, record.reordered), (6, 2, 1));
        assert_eq!(record.looked_at(), 8);
        let latency = record.latency().unwrap();
        assert_eq!((latency.count, latency.min_ns), (6, 1500));
    }

    #[test]
    fn order_is_that_of_a_flow() {
        let record = taken([(1, 1), (0, 0), (3, 1), (2, 0), (5, 1), (4, 1)]);
        assert_eq!(
            record.reordered, 1,
            "0 and 2 are of another flow than 1 and 3; 4 is of that of 5"
        );
        assert_eq!(record.received, 6);
    }

    #[test]
    fn a_gap_as_long_as_the_window_forgets_what_was_before() {
        let record = taken([0, WINDOW, WINDOW, 1, 0].map(|number| (number, 0)));
        assert_eq!((record.received, record.duplicated, record.late), (4, 1, 1));
        let record = taken([0, 5, 3 * WINDOW + 5, 3 * WINDOW + 4, 2 * WINDOW + 6, 5].map(|number| (number, 0)));
        assert_eq!((record.received, record.duplicated, record.late), (6, 0, 1));
    }

    #[test]
    fn corrupted_and_foreign_frames_have_no_number() {
        let mut record = taken([(0, 0)]);
        let Seen::Intact(tag) = tag(1_000_000, 0, 7) else {
            return;
        };
        record.take(Seen::Corrupted(tag), 9, || 0);
        record.take(Seen::Foreign, 9, || 0);
        record.take(Seen::Intact(Tag { sequence: 1, ..tag }), 9, || 0);
        assert_eq!(
            (record.received, record.corrupted, record.foreign, record.late),
            (2, 1, 1, 0)
        );
        assert_eq!(record.next, 2, "a number that nobody believes moved the window");
    }

    #[test]
    fn a_frame_from_the_future_is_no_delay() {
        let mut record = Record::new(1);
        record.take(tag(0, 0, 5000), 4000, || 0);
        record.take(tag(1, 0, 5000), 5000, || 0);
        assert_eq!((record.early, record.received), (1, 2));
        assert_eq!(record.latency().unwrap().count, 1);
        let mut untimed = Record::new(1);
        let Seen::Intact(of) = tag(0, 0, 1) else { return };
        untimed.take(Seen::Intact(Tag { time: 0, ..of }), 4000, || 0);
        assert_eq!(untimed.latency(), None);
    }

    #[test]
    fn a_delay_of_four_seconds_is_one() {
        let mut record = Record::new(1);
        let sent_ns = 7_000_000_000;
        for (number, delay_ns) in [(0, 3_300_000_000), (1, 4_200_000_000)] {
            record.take(tag(number, 0, sent_ns), sent_ns + delay_ns, || 0);
        }
        record.take(tag(2, 0, sent_ns), sent_ns - 1_000_000, || 0);
        assert_eq!((record.early, record.received), (1, 3));
        let latency = record.latency().unwrap();
        assert_eq!((latency.count, latency.max_ns / 10_000_000), (2, 420));
    }

    #[test]
    fn few_flows_without_numbers_are_not_taken_for_each_other() {
        let mut record = Record::new(2);
        let Seen::Intact(of) = tag(0, 0, 1) else { return };
        // Two hashes that differ in one bit, whichever of those that are looked at.
        for bit in 1..20 {
            let base = bit * 10;
            for (number, flow) in [(base + 1, 1), (base, 1 | 1 << bit)] {
                let short = Tag {
                    sequence: number,
                    flow: None,
                    ..of
                };
                record.take(Seen::Intact(short), 10, || flow);
            }
        }
        assert_eq!((record.received, record.reordered), (38, 0));
    }

    #[test]
    fn a_flow_without_a_number_is_told_by_its_addresses() {
        let mut record = Record::new(4);
        let Seen::Intact(of) = tag(0, 0, 1) else { return };
        for (number, flow) in [(1, 1), (0, 2), (2, 1)] {
            let short = Tag {
                sequence: number,
                flow: None,
                ..of
            };
            record.take(Seen::Intact(short), 10, || flow);
        }
        assert_eq!((record.received, record.reordered), (3, 0));
    }

    proptest! {
        /// Against a model with sets, by steps that jump about within the window and beyond it.
        #[test]
        fn as_a_model_with_sets_has_it(steps in prop::collection::vec((-70i64..90, 0u32..3, any::<bool>()), 1..400)) {
            let mut record = Record::new(4);
            let (mut known, mut last) = (HashSet::new(), HashMap::new());
            let (mut received, mut duplicated, mut reordered) = (0, 0, 0);
            let mut at = 0u64;
            for (step, flow, far) in steps {
                at = at.saturating_add_signed(if far && step > 85 { step * 10_000 } else { step });
                record.take(tag(at, flow, 1), 9, || 0);
                if known.insert(at) {
                    received += 1;
                    let highest = last.entry(flow).or_insert(at);
                    if *highest > at { reordered += 1 } else { *highest = at }
                } else {
                    duplicated += 1;
                }
            }
            prop_assert_eq!((record.received, record.duplicated, record.reordered), (received, duplicated, reordered));
            prop_assert_eq!(record.late, 0);
        }
    }
}
