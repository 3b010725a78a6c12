//! Where frames arrive: a sink judges the frames of one trial after the other at one port.
//!
//! ```text
//!   NIC ──> bpf/sink.bpf.c ──┬── count: counted per CPU, dropped
//!           is it ours?      └── xsk: counted, stamped with its arrival ──> AF_XDP ring ──> tag::judge ──> Record
//! ```
//!
//! Whatever passes the XDP program has arrived, also where the ring behind it was full: what the receiver itself cannot look at
//! is no loss of what is measured, and is said.

#[cfg(feature = "xdp")]
mod count;
#[cfg(feature = "xdp")]
mod link;
#[cfg(feature = "xdp")]
mod program;
#[cfg(feature = "xdp")]
mod xsk;

use super::outcome::Outcome;
use super::record::{Record, WINDOW};
use super::source::Sent;
use super::work::Rate;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A port that receives. It stays on the thread that opened it.
pub trait Sink {
    /// From now on frames of trial `run`, of so many flows, are looked for; what was found before is forgotten.
    ///
    /// # Errors
    /// One line for the operator: the kernel refuses, the port is gone.
    fn begin(&mut self, run: u16, flows: u32) -> Result<(), String>;

    /// Takes what is there to be taken; how many frames. Does not block.
    fn turn(&mut self) -> usize;

    /// How long it may be left alone when there was nothing to be taken.
    fn pause(&self) -> Duration;

    /// Frames of this trial that have arrived so far.
    ///
    /// # Errors
    /// As [`Sink::begin`].
    fn arrived(&mut self) -> Result<u64, String>;

    /// What was found since [`Sink::begin`].
    ///
    /// # Errors
    /// As [`Sink::begin`].
    fn end(&mut self) -> Result<Found, String>;
}

/// Which sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SinkKind {
    /// Counts and drops in the XDP program: loss is all that it sees.
    Count,
    /// Reads the link's own counter, and drops at ingress, without XDP: for links that bear nothing else.
    Link,
    /// Looks at every frame.
    #[default]
    Xsk,
}

impl SinkKind {
    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            SinkKind::Count => "count",
            SinkKind::Link => "link",
            SinkKind::Xsk => "xsk",
        }
    }
}

/// What a sink found of one trial.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Frames of the trial that arrived.
    pub arrived: u64,
    /// Frames that were not of it.
    pub foreign: u64,
    /// What the looked-at ones were; nothing of a sink that only counts.
    pub record: Option<Record>,
    /// What is to be said of it, one line each.
    pub notes: Vec<String>,
}

impl Found {
    /// What came of a trial of which `sent` was sent at `rate`.
    pub fn outcome(self, sent: Sent, rate: Rate) -> Outcome {
        let mut notes = sent.notes;
        notes.extend(self.notes);
        let mut outcome = Outcome {
            wanted_pps: match rate {
                Rate::Paced(pps) => Some(pps),
                Rate::Unpaced => None,
            },
            offered: sent.offered,
            refused: sent.refused,
            missed: sent.missed,
            seconds: sent.last_ns.saturating_sub(sent.first_ns) as f64 / 1e9,
            foreign: self.foreign,
            ..Outcome::default()
        };
        match &self.record {
            Some(record) => {
                let unseen = self.arrived.saturating_sub(record.looked_at());
                outcome.received = record.received + unseen;
                outcome.reordered = record.reordered;
                outcome.duplicated = record.duplicated;
                outcome.corrupted = record.corrupted;
                outcome.foreign += record.foreign;
                outcome.latency = record.latency();
                notes.extend(about(record, unseen));
            }
            None => outcome.received = self.arrived,
        }
        // Without numbers a frame too many is all that is seen of a duplicate.
        let surplus = outcome.received.saturating_sub(sent.offered);
        if surplus > 0 {
            outcome.received -= surplus;
            outcome.duplicated += surplus;
        }
        outcome.lost = sent.offered - outcome.received;
        outcome.notes = notes;
        outcome
    }
}

/// What is to be said of a record.
fn about(record: &Record, unseen: u64) -> impl Iterator<Item = String> {
    let said = [
        (
            unseen,
            "frames arrived that the receiver had no time to look at: they are received, but their delay, order and bytes \
             are not known (a lower rate, another CPU, or --sink count)",
        ),
        (
            record.early,
            "frames seem to have come before they were sent: the clocks of the two ends differ, or one jumped",
        ),
    ];
    let late = (record.late > 0).then(|| {
        format!(
            "{} frames came over {WINDOW} numbers late: a duplicate among them is not known",
            record.late
        )
    });
    let said = said.into_iter().filter(|(count, _)| *count > 0);
    said.map(|(count, what)| format!("{count} {what}")).chain(late)
}

/// Opens a sink on the interface `name` of the calling thread's network namespace. Trials will have the numbers from `first`
/// on.
///
/// # Errors
/// One line for the operator.
#[cfg(feature = "xdp")]
pub fn open(kind: SinkKind, name: &str, first: u16) -> Result<Box<dyn Sink>, String> {
    match kind {
        SinkKind::Count => Ok(Box::new(count::Count::open(name, first)?)),
        SinkKind::Link => Ok(Box::new(link::Counter::open(name)?)),
        SinkKind::Xsk => Ok(Box::new(xsk::Xsk::open(name, first)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tag::{Seen, Tag};
    use super::*;

    fn sent(offered: u64) -> Sent {
        Sent {
            offered,
            first_ns: 1_000_000_000,
            last_ns: 3_000_000_000,
            missed: 7,
            notes: vec!["of the source".into()],
            ..Sent::default()
        }
    }

    fn record(numbers: &[u32]) -> Record {
        let mut record = Record::new(1);
        for &sequence in numbers {
            let tag = Tag {
                run: 1,
                sequence,
                time: 1,
                flow: Some(0),
            };
            record.take(Seen::Intact(tag), 1001, || 0);
        }
        record
    }

    #[test]
    fn what_was_offered_is_received_or_lost() {
        let found = Found {
            arrived: 5,
            foreign: 2,
            record: Some(record(&[0, 1, 3, 3, 2])),
            notes: vec!["of the sink".into()],
        };
        let outcome = found.outcome(sent(6), Rate::Paced(3.0));
        assert_eq!((outcome.offered, outcome.received, outcome.lost), (6, 4, 2));
        assert_eq!((outcome.duplicated, outcome.reordered, outcome.foreign), (1, 1, 2));
        assert_eq!((outcome.wanted_pps, outcome.seconds), (Some(3.0), 2.0));
        assert_eq!(outcome.missed, 7, "they are not of those offered");
        assert_eq!(outcome.notes, ["of the source", "of the sink"]);
        assert_eq!(outcome.latency.unwrap().p50_ns, 1000);
    }

    #[test]
    fn what_the_receiver_could_not_look_at_is_not_lost_and_is_said() {
        let found = Found {
            arrived: 10,
            record: Some(record(&[0, 1, 2])),
            ..Found::default()
        };
        let outcome = found.outcome(sent(12), Rate::Unpaced);
        assert_eq!((outcome.received, outcome.lost), (10, 2));
        assert!(outcome.notes[1].starts_with("7 frames arrived that the receiver had no time"));
    }

    #[test]
    fn a_frame_too_many_is_a_duplicate_even_where_only_counted() {
        let found = Found {
            arrived: 11,
            ..Found::default()
        };
        let outcome = found.outcome(sent(10), Rate::Unpaced);
        assert_eq!((outcome.received, outcome.duplicated, outcome.lost), (10, 1, 0));
        assert_eq!((outcome.latency, outcome.wanted_pps), (None, None));
    }
}
