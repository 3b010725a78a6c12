//! Several reports as one: the runs of one subject and of another, which were made one after the other on cards or by tools of the
//! trade (bench/TRADE.md), on one page with their ratios.
//!
//! ```text
//!   kernel.json  bypath.json  bypath-2.json  kernel-2.json      in the order of their names on the command line
//!     round 0      round 0        round 1        round 1        counted for each subject and work
//! ```
//!
//! So the n-th run of a subject, which is the n-th file that has it, is a pair with the n-th of another, whatever came of it: where a
//! run found nothing, that of the other has no partner, and is left out, which is said. Provenance is that of the first; what another
//! has otherwise is said. A lab compares its subjects itself, within rounds of its own, and is not joined.

use super::Report;
use crate::bench::statistics::{self, Same, searched};
use std::collections::BTreeMap;

/// Joins reports of one kind, each with its name for messages; one alone stays as it is.
///
/// # Errors
/// They are not of one kind, or of one that is not joined: one line for the operator.
pub fn joined(reports: Vec<(String, Report)>) -> Result<Report, String> {
    let mut reports = reports.into_iter();
    let (first, mut whole) = reports.next().ok_or("no report is named")?;
    let others: Vec<(String, Report)> = reports.collect();
    if others.is_empty() {
        return Ok(whole);
    }
    if let Some((name, other)) = others.iter().find(|(_, other)| other.kind != whole.kind) {
        let (kind, wanted) = (&other.kind, &whole.kind);
        return Err(format!(
            "{name} is of kind {kind}, and {first} of kind {wanted}: join reports of one kind"
        ));
    }
    if !["send", "rfc2544"].contains(&whole.kind.as_str()) {
        let kind = &whole.kind;
        return Err(format!(
            "{first} is of kind {kind}, which compares by itself: name it alone"
        ));
    }
    let mut rounds = Rounds {
        each: [&whole]
            .into_iter()
            .chain(others.iter().map(|(_, other)| other))
            .map(most_alike)
            .max()
            .unwrap_or(1),
        before: BTreeMap::new(),
    };
    rounds.number(&mut whole);
    for (name, mut other) in others {
        note_differences(&name, &other, &mut whole);
        rounds.number(&mut other);
        whole.own_error.append(&mut other.own_error);
        whole.entries.append(&mut other.entries);
        whole.rfc2544.append(&mut other.rfc2544);
        whole.provenance.commands.append(&mut other.provenance.commands);
        other.notes.into_iter().for_each(|note| add(&mut whole.notes, note));
    }
    conclude(&mut whole);
    Ok(whole)
}

/// The rounds of one report after the other.
struct Rounds {
    /// So many belong to a run: 1, but where one report has a subject do the same work several times.
    each: u32,
    /// How many reports there were of a subject.
    before: BTreeMap<String, u32>,
}

impl Rounds {
    fn number(&mut self, report: &mut Report) {
        let (results, mut trials) = (places_of_results(report), places_of_trials(report));
        if is_searched(report) {
            // They are steps to a result, and no results.
            trials.fill(0);
        }
        let first = |subject: &String| self.before.get(subject).copied().unwrap_or(0) * self.each;
        for (one, place) in report.rfc2544.iter_mut().zip(results) {
            one.round = first(&one.subject) + place;
        }
        for (entry, place) in report.entries.iter_mut().zip(trials) {
            entry.round = first(&entry.subject) + place;
        }
        for subject in subjects(report) {
            *self.before.entry(subject).or_default() += 1;
        }
    }
}

fn is_searched(report: &Report) -> bool {
    report.kind == "rfc2544"
}

/// How often one report has a subject do the same work, at most.
fn most_alike(report: &Report) -> u32 {
    let places = match is_searched(report) {
        true => places_of_results(report),
        false => places_of_trials(report),
    };
    places.into_iter().max().map_or(1, |last| last + 1)
}

/// The place of each trial among those of its subject and work, from 0.
fn places_of_trials(report: &Report) -> Vec<u32> {
    places(report.entries.iter().map(|entry| (&entry.subject, Same::of(entry))))
}

/// The same of what searches found.
fn places_of_results(report: &Report) -> Vec<u32> {
    places(report.rfc2544.iter().map(|one| (&one.subject, searched(one))))
}

fn places<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<u32> {
    let mut before: Vec<(T, u32)> = Vec::new();
    let mut place = |one: T| match before.iter_mut().find(|(known, _)| *known == one) {
        Some((_, last)) => {
            *last += 1;
            *last
        }
        None => {
            before.push((one, 0));
            0
        }
    };
    all.map(&mut place).collect()
}

/// Each subject of a report once.
fn subjects(report: &Report) -> Vec<String> {
    let by_trials = report.entries.iter().map(|entry| &entry.subject);
    let by_searches = report.rfc2544.iter().map(|one| &one.subject);
    let mut names = Vec::new();
    by_trials
        .chain(by_searches)
        .for_each(|name| add(&mut names, name.clone()));
    names
}

fn conclude(whole: &mut Report) {
    let names = subjects(whole);
    if let [name] = &names[..] {
        let note = format!(
            "all runs are of {name}: no ratios; --subject-name (of bench/trex and bench/pktgen: --subject) names who is measured"
        );
        add(&mut whole.notes, note);
    }
    whole.ratios.clear();
    for (of, to) in statistics::pairs(&names.iter().map(String::as_str).collect::<Vec<_>>()) {
        let found = match is_searched(whole) {
            true => statistics::throughput_ratios(&whole.rfc2544, of, to),
            false => statistics::ratios(&whole.entries, of, to),
        };
        whole.ratios.extend(found.ratios);
        let notes = found.notes.into_iter().chain(found.alone);
        notes.for_each(|note| add(&mut whole.notes, note));
    }
}

/// Says what another report has otherwise than the first, and takes its versions.
fn note_differences(name: &str, other: &Report, whole: &mut Report) {
    let (ours, theirs) = (&mut whole.provenance, &other.provenance);
    let both = [
        ("machine", &ours.machine, &theirs.machine),
        ("kernel", &ours.kernel, &theirs.kernel),
        ("driver", &ours.driver, &theirs.driver),
        ("mode", &ours.mode, &theirs.mode),
        ("bypath", &ours.commit, &theirs.commit),
    ];
    let mut notes: Vec<String> = both
        .into_iter()
        .filter(|(_, ours, theirs)| ours != theirs)
        .map(|(what, ours, theirs)| format!("{name}: {what} {theirs}, where the first report has {ours}"))
        .collect();
    for (program, version) in &theirs.versions {
        let known = ours.versions.entry(program.clone()).or_insert_with(|| version.clone());
        if known != version {
            notes.push(format!(
                "{name}: {program} {version}, where the first report has {known}"
            ));
        }
    }
    notes.into_iter().for_each(|note| add(&mut whole.notes, note));
}

fn add(list: &mut Vec<String>, one: String) {
    if !list.contains(&one) {
        list.push(one);
    }
}
