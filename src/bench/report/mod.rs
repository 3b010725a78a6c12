//! All that a run of `bypath bench` found: where the numbers are from, each trial's outcome, and what is concluded. It
//! is written as JSON and read back, and every other form (table, CSV, Markdown, HTML) is made of it and of nothing
//! else.
//!
//! ```text
//!   Report ── grid ──> table, markdown       for people: the same tables, rounded by units
//!          ── json, csv                      for programs: nothing is rounded
//!          ── hgrm                           delays for HdrHistogram's tools
//!          ── html                           for people, with charts: one page
//!                   all by files: text and path of each form
//!   Report, Report ... ── join ──> Report     runs that were made one after the other
//! ```

pub mod csv;
pub mod files;
pub mod grid;
pub mod hgrm;
pub mod html;
pub mod join;
pub mod json;
pub mod markdown;
pub mod table;
pub mod units;

use super::outcome::{Latency, Outcome};
use super::work::{Kind, Work};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The form of the JSON; raised when a member changes its meaning.
pub const VERSION: u32 = 1;

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// What was run: `send`, `rfc2544`, `lab` or `compare`.
    pub kind: String,
    /// Where the numbers are from.
    pub provenance: Provenance,
    /// What the measurement itself costs and gets wrong.
    pub own_error: Vec<OwnError>,
    /// Every trial, in the order they were made.
    pub entries: Vec<Entry>,
    /// What is concluded from paired rounds.
    pub ratios: Vec<Ratio>,
    /// RFC 2544, one for each case, subject and size.
    pub rfc2544: Vec<Rfc2544>,
    /// What a reader must know, one line each.
    pub notes: Vec<String>,
}

impl Report {
    /// An empty one of this form, which says what its sizes are, and in which ways it is not RFC 2544's.
    pub fn new(kind: &str, provenance: Provenance) -> Self {
        let searched = (kind == "rfc2544").then_some(units::RFC2544);
        Report {
            version: VERSION,
            kind: kind.to_owned(),
            provenance,
            notes: [Some(units::SIZES), searched]
                .into_iter()
                .flatten()
                .map(str::to_owned)
                .collect(),
            ..Report::default()
        }
    }
}

/// Where the numbers are from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// When it began: seconds since 1970, UTC.
    pub started: u64,
    /// The processor's name and the number of cores.
    pub machine: String,
    /// `uname -r`.
    pub kernel: String,
    /// The ports' driver, such as `veth` or `ice`.
    pub driver: String,
    /// How AF_XDP moves frames: `copy` or `zero-copy`.
    pub mode: String,
    /// bypath's version, and the commit it was built of, where that is known.
    pub commit: String,
    /// The load of the machine when it began: the first of /proc/loadavg.
    pub load: f64,
    /// Versions of all that was measured, by name.
    pub versions: BTreeMap<String, String>,
    /// The command lines: this one first, then those of the subjects.
    pub commands: Vec<String>,
}

/// One trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What the path does: `wire`, `route`, `route-1m`, `bridge`, `nat`, `nat-1000-rules`, `nat-tbf`.
    pub case: String,
    /// Who does it: `kernel`, `bypath`, `wire`, `bare`, or a peer's name.
    pub subject: String,
    /// The round; entries of one round are a pair.
    pub round: u32,
    /// What was sent.
    pub work: Work,
    /// What came of it.
    pub outcome: Outcome,
}

/// A median with its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The median.
    pub median: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Of so many samples.
    pub samples: u32,
}

/// One subject against another: the ratio within each round, over the rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The case.
    pub case: String,
    /// What the frames were; nothing in a report that does not say so.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// The size: `64`, `imix`, `1518`.
    pub size: String,
    /// The number of flows.
    pub flows: u32,
    /// Frames per second that were asked for; nothing where the source went as fast as it could.
    #[serde(default)]
    pub wanted_pps: Option<f64>,
    /// The one above the line.
    pub of: String,
    /// The one below it.
    pub to: String,
    /// What is divided: `received_pps`, `p50_ns`, `p99_ns`, `p999_ns`, `cpu_ns_per_frame`, `throughput_pps`.
    pub what: String,
    /// The ratio. A round of a rate of 0 above the line is 0, below it [`crate::bench::statistics::UNBOUNDED`].
    pub ratio: Interval,
}

/// What the measurement itself costs and gets wrong: the same work by a path on which nothing happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnError {
    /// The path: `veth` (sender and receiver on one pair) or `wire`.
    pub path: String,
    /// What came of it there.
    pub outcome: Outcome,
}

/// RFC 2544 for one case, subject and size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rfc2544 {
    /// What the path does, as [`Entry::case`].
    pub case: String,
    /// Who was measured.
    pub subject: String,
    /// The round; results of one round are a pair.
    #[serde(default)]
    pub round: u32,
    /// What the frames were (of connections, what opens one); nothing in a report that does not say so.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// The size: `64`, `imix`, `1518`; `connection` of connections.
    pub size: String,
    /// The number of flows.
    #[serde(default)]
    pub flows: u32,
    /// Section 26.1: the highest rate without loss (or with no more than the accepted), frames per second.
    pub throughput_pps: f64,
    /// The trials of that search: offered rate, loss (0 to 1).
    pub search: Vec<(f64, f64)>,
    /// Section 26.2: delays at shares of the throughput (0 to 1).
    pub latency: Vec<(f64, Latency)>,
    /// Section 26.3: the loss (0 to 1) at each offered rate, frames per second.
    pub loss_curve: Vec<(f64, f64)>,
    /// Section 26.4: frames of the longest burst without loss, of each trial.
    pub back_to_back: Vec<u64>,
    /// What is to be said of it.
    pub notes: Vec<String>,
}

#[cfg(test)]
mod tests;
