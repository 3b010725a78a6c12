//! What a report says, as tables of words: the one place that decides what is shown to people, in which order and how
//! numbers are rounded. `table.rs` and `markdown.rs` lay out the same grids.
//!
//! - results: one row for each case, work and subject, the median over its rounds with its interval; but what is lost is
//!   of all rounds together, and the longest delay that of all rounds, or a round that failed would not be seen
//! - ratios: one row for each pair of subjects and what is compared
//! - RFC 2544: throughput, latency, loss, back-to-back
//! - own error: what the measurement itself costs and gets wrong
//!
//! A trial that does not count is in no result and no ratio. Where a search or the measurement itself had none but such, it is shown,
//! and a note says so. A column in which no row has anything (no delays were taken, nothing was reordered) is left out. Trials of an
//! RFC 2544 run are steps of a search and no results: they are in the JSON and in the CSV alone.

use super::units::{frames_per_second, interval, loss, nanoseconds, times};
use super::{Entry, Interval, Report, Rfc2544};
use crate::bench::outcome::{Outcome, losing_rounds, loss_of_all};
use crate::bench::statistics::{self, Same};
use crate::bench::work::{Kind, Rate, Work};

/// One table.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// What it shows.
    pub title: &'static str,
    /// Its columns.
    pub head: Vec<Column>,
    /// As many cells as there are columns.
    pub rows: Vec<Vec<String>>,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Whether its cells are numbers, and stand to the right.
    pub number: bool,
}

impl Grid {
    fn new(title: &'static str, words: &[&'static str], numbers: &[&'static str]) -> Self {
        let mut grid = Grid {
            title,
            head: Vec::new(),
            rows: Vec::new(),
        };
        grid.add_columns(words, false);
        grid.add_columns(numbers, true);
        grid
    }

    fn add_columns(&mut self, names: &[&'static str], number: bool) {
        self.head.extend(names.iter().map(|&name| Column { name, number }));
    }

    /// Leaves out columns of which each cell is empty.
    fn without_empty(mut self) -> Self {
        let kept: Vec<bool> = (0..self.head.len())
            .map(|at| self.rows.iter().any(|row| !row[at].is_empty()))
            .collect();
        let keep = |at: &mut usize| {
            *at += 1;
            kept[*at - 1]
        };
        let mut at = 0;
        self.head.retain(|_| keep(&mut at));
        for row in &mut self.rows {
            let mut at = 0;
            row.retain(|_| keep(&mut at));
        }
        self
    }
}

/// All tables of a report that have a row.
pub fn grids(report: &Report) -> Vec<Grid> {
    let mut grids = Vec::new();
    if report.kind != "rfc2544" {
        grids.push(results(&report.entries));
    }
    grids.push(ratios(report));
    grids.extend([
        throughput(&report.rfc2544),
        latency(&report.rfc2544),
        loss_curve(&report.rfc2544),
        back_to_back(&report.rfc2544),
    ]);
    grids.push(own_error(report));
    grids.retain(|grid| !grid.rows.is_empty());
    grids.into_iter().map(Grid::without_empty).collect()
}

/// The rate that a work asks for, in a word.
fn rate(rate: Rate) -> String {
    match rate {
        Rate::Paced(pps) => frames_per_second(pps),
        Rate::Unpaced => "max".into(),
    }
}

/// Numbers of outcomes, each the median over the rounds; but the loss, the longest delay and the counts are of all rounds.
const MEASURED: [&str; 12] = [
    "offered/s",
    "received/s",
    "loss",
    "p50",
    "p99",
    "p99.9",
    "max",
    "CPU ns/frame",
    "reordered",
    "duplicated",
    "corrupted",
    "foreign",
];

fn measured(outcomes: &[&Outcome]) -> Vec<String> {
    let over = |number: &dyn Fn(&Outcome) -> Option<f64>| -> Option<Interval> {
        statistics::interval(
            &outcomes
                .iter()
                .filter_map(|outcome| number(outcome))
                .collect::<Vec<_>>(),
        )
    };
    let delay = |ns: &dyn Fn(&crate::bench::outcome::Latency) -> u64| {
        over(&|outcome| outcome.latency.as_ref().map(|latency| ns(latency) as f64))
            .map(|i| nanoseconds(i.median))
            .unwrap_or_default()
    };
    let sum = |count: &dyn Fn(&Outcome) -> u64| match outcomes.iter().map(|outcome| count(outcome)).sum::<u64>() {
        0 => String::new(),
        frames => frames.to_string(),
    };
    let text = |number: Option<Interval>, unit: &dyn Fn(f64) -> String| {
        number.map(|number| interval(&number, unit)).unwrap_or_default()
    };
    let lost = (!outcomes.is_empty()).then(|| {
        let share = loss(loss_of_all(outcomes));
        losing_rounds(outcomes).map_or(share.clone(), |rounds| format!("{share} {rounds}"))
    });
    let longest = outcomes
        .iter()
        .filter_map(|o| o.latency.as_ref())
        .map(|l| l.max_ns)
        .max();
    vec![
        over(&|o| Some(o.offered_pps()))
            .map(|i| frames_per_second(i.median))
            .unwrap_or_default(),
        text(over(&|o| Some(o.received_pps())), &frames_per_second),
        lost.unwrap_or_default(),
        delay(&|l| l.p50_ns),
        delay(&|l| l.p99_ns),
        delay(&|l| l.p999_ns),
        longest.map(|ns| nanoseconds(ns as f64)).unwrap_or_default(),
        text(over(&|o| o.cpu_ns_per_frame), &|ns| format!("{ns:.0}")),
        sum(&|o| o.reordered),
        sum(&|o| o.duplicated),
        sum(&|o| o.corrupted),
        sum(&|o| o.foreign),
    ]
}

fn results(entries: &[Entry]) -> Grid {
    let mut grid = Grid::new("Results", &["case", "kind", "size"], &["flows", "rate"]);
    grid.add_columns(&["subject"], false);
    grid.add_columns(&MEASURED, true);
    for (first, outcomes) in groups(entries) {
        let Work {
            kind,
            size,
            flows,
            rate: asked,
            ..
        } = &first.work;
        let mut row = vec![
            first.case.clone(),
            kind.to_string(),
            size.to_string(),
            flows.count.to_string(),
            rate(*asked),
            first.subject.clone(),
        ];
        row.extend(measured(&outcomes));
        grid.rows.push(row);
    }
    grid
}

/// Entries that differ only in their round, in the order of their first; of their outcomes those that count.
pub fn groups(entries: &[Entry]) -> Vec<(&Entry, Vec<&Outcome>)> {
    let mut groups: Vec<(Same, &Entry, Vec<&Outcome>)> = Vec::new();
    for entry in entries {
        let same = Same::of(entry);
        let known = groups
            .iter_mut()
            .find(|(of, first, _)| *of == same && first.subject == entry.subject);
        match known {
            Some((_, _, outcomes)) => outcomes.extend(counting(entry)),
            None => groups.push((same, entry, counting(entry).collect())),
        }
    }
    groups
        .into_iter()
        .map(|(_, first, outcomes)| (first, outcomes))
        .collect()
}

fn counting(entry: &Entry) -> impl Iterator<Item = &Outcome> {
    Some(&entry.outcome).into_iter().filter(|outcome| !outcome.void)
}

fn ratios(report: &Report) -> Grid {
    let mut grid = Grid::new(
        "Ratios",
        &["case", "kind", "size", "of", "to", "what"],
        &["flows", "rate", "ratio [95 %]", "rounds"],
    );
    for ratio in &report.ratios {
        grid.rows.push(vec![
            ratio.case.clone(),
            kind(ratio.kind),
            ratio.size.clone(),
            ratio.of.clone(),
            ratio.to.clone(),
            ratio.what.clone(),
            ratio.flows.to_string(),
            rate(ratio.wanted_pps.map_or(Rate::Unpaced, Rate::Paced)),
            interval(&ratio.ratio, &times),
            ratio.ratio.samples.to_string(),
        ]);
    }
    grid
}

/// The kind of frames; nothing where it was not said.
fn kind(kind: Option<Kind>) -> String {
    kind.map(|kind| kind.to_string()).unwrap_or_default()
}

/// The number of flows; nothing where it was not said.
fn flows(one: &Rfc2544) -> String {
    match one.flows {
        0 => String::new(),
        flows => flows.to_string(),
    }
}

fn throughput(all: &[Rfc2544]) -> Grid {
    let mut grid = Grid::new(
        "Throughput (RFC 2544, 26.1)",
        &["case", "subject", "kind", "size"],
        &["flows", "frames/s", "Mbit/s of frames", "trials"],
    );
    for one in all.iter().filter(|one| !one.search.is_empty()) {
        let mbps = one
            .size
            .parse::<f64>()
            .map(|bytes| one.throughput_pps * bytes * 8.0 / 1e6);
        grid.rows.push(vec![
            one.case.clone(),
            one.subject.clone(),
            kind(one.kind),
            one.size.clone(),
            flows(one),
            match one.throughput_pps > 0.0 {
                true => frames_per_second(one.throughput_pps),
                false => "none without loss".into(),
            },
            mbps.map(|mbps| format!("{mbps:.1}")).unwrap_or_default(),
            one.search.len().to_string(),
        ]);
    }
    grid
}

fn latency(all: &[Rfc2544]) -> Grid {
    let mut grid = Grid::new(
        "Latency (RFC 2544, 26.2)",
        &["case", "subject", "kind", "size"],
        &[
            "flows",
            "of throughput",
            "frames",
            "min",
            "mean",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "p99.99",
            "max",
        ],
    );
    for one in all {
        for (share, delays) in &one.latency {
            let mut row = vec![
                one.case.clone(),
                one.subject.clone(),
                kind(one.kind),
                one.size.clone(),
                flows(one),
                format!("{:.0} %", share * 100.0),
                delays.count.to_string(),
            ];
            let ns = [
                delays.p50_ns,
                delays.p90_ns,
                delays.p99_ns,
                delays.p999_ns,
                delays.p9999_ns,
                delays.max_ns,
            ];
            row.push(nanoseconds(delays.min_ns as f64));
            row.push(nanoseconds(delays.mean_ns));
            row.extend(ns.map(|ns| nanoseconds(ns as f64)));
            grid.rows.push(row);
        }
    }
    grid
}

fn loss_curve(all: &[Rfc2544]) -> Grid {
    let mut grid = Grid::new(
        "Frame loss (RFC 2544, 26.3)",
        &["case", "subject", "kind", "size"],
        &["flows", "offered/s", "loss"],
    );
    for one in all {
        for &(pps, lost) in &one.loss_curve {
            grid.rows.push(vec![
                one.case.clone(),
                one.subject.clone(),
                kind(one.kind),
                one.size.clone(),
                flows(one),
                frames_per_second(pps),
                loss(lost),
            ]);
        }
    }
    grid
}

fn back_to_back(all: &[Rfc2544]) -> Grid {
    let mut grid = Grid::new(
        "Back-to-back (RFC 2544, 26.4)",
        &["case", "subject", "kind", "size"],
        &["flows", "searches", "shortest", "mean", "longest burst"],
    );
    for one in all {
        let bursts = &one.back_to_back;
        let (Some(least), Some(most)) = (bursts.iter().min(), bursts.iter().max()) else {
            continue;
        };
        grid.rows.push(vec![
            one.case.clone(),
            one.subject.clone(),
            kind(one.kind),
            one.size.clone(),
            flows(one),
            bursts.len().to_string(),
            least.to_string(),
            format!("{:.1}", bursts.iter().sum::<u64>() as f64 / bursts.len() as f64),
            most.to_string(),
        ]);
    }
    grid
}

fn own_error(report: &Report) -> Grid {
    let mut grid = Grid::new(
        "The measurement itself, on a path that does nothing",
        &["path"],
        &MEASURED,
    );
    for own in &report.own_error {
        let mut row = vec![own.path.clone()];
        row.extend(measured(&[&own.outcome]));
        grid.rows.push(row);
    }
    grid
}

/// What is to be said beside the tables, each line once: of the whole run, of its results, of single trials.
pub fn notes(report: &Report) -> Vec<String> {
    let mut notes = report.notes.clone();
    let mut add = |note: String| {
        if !notes.contains(&note) {
            notes.push(note);
        }
    };
    for one in &report.rfc2544 {
        for note in &one.notes {
            add(format!("{}, {}, size {}: {note}", one.case, one.subject, one.size));
        }
    }
    // Those of a search's trials are in its result, each kind once.
    for entry in report.entries.iter().filter(|_| report.kind != "rfc2544") {
        for note in &entry.outcome.notes {
            add(format!(
                "{}, {}, size {}: {note}",
                entry.case, entry.subject, entry.work.size
            ));
        }
    }
    for own in &report.own_error {
        for note in &own.outcome.notes {
            add(format!("the measurement itself ({}): {note}", own.path));
        }
    }
    notes
}

/// Where the numbers are from: name and value.
pub fn provenance(report: &Report) -> Vec<(&'static str, String)> {
    let from = &report.provenance;
    let versions: Vec<String> = from
        .versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let mut lines = vec![
        ("machine", from.machine.clone()),
        ("kernel", from.kernel.clone()),
        ("driver", from.driver.clone()),
        ("mode", from.mode.clone()),
        ("bypath", from.commit.clone()),
        ("load before", format!("{:.2}", from.load)),
        ("versions", versions.join(", ")),
    ];
    lines.extend(from.commands.iter().map(|command| ("command", command.clone())));
    lines.retain(|(_, value)| !value.is_empty());
    lines
}
