//! Several reports as one: the runs of one subject and of another, which were made one after the other on cards or by tools of the
//! trade (bench/TRADE.md), on one page with their ratios.
//!
//! ```text
//!   kernel.json  bypath.json  bypath-2.json  kernel-2.json      in the order of their names on the command line
//!     round 0      round 0        round 1        round 1        counted for each subject and work
//! ```
//!
//! So the n-th run of a subject is a pair with the n-th of another. Provenance is that of the first; what another has otherwise is
//! said. A lab compares its subjects itself, within rounds of its own, and is not joined.

use super::{Entry, Report};
use crate::bench::statistics::{self, Same};
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
    let mut runs: BTreeMap<String, u32> = BTreeMap::new();
    number_runs(&mut whole.entries, &mut runs);
    for (name, mut other) in others {
        note_differences(&name, &other, &mut whole);
        number_runs(&mut other.entries, &mut runs);
        whole.own_error.append(&mut other.own_error);
        whole.entries.append(&mut other.entries);
        whole.rfc2544.append(&mut other.rfc2544);
        whole.provenance.commands.append(&mut other.provenance.commands);
        other.notes.into_iter().for_each(|note| add(&mut whole.notes, note));
    }
    conclude(&mut whole);
    Ok(whole)
}

/// Of an RFC 2544 run all trials are of one round: how many runs there were of its subject before.
fn number_runs(entries: &mut [Entry], runs: &mut BTreeMap<String, u32>) {
    let before = runs.clone();
    for entry in entries {
        entry.round = before.get(&entry.subject).copied().unwrap_or(0);
        runs.insert(entry.subject.clone(), entry.round + 1);
    }
}

/// Each trial of one work and subject is a round.
fn number_trials(entries: &mut [Entry]) {
    let mut known: Vec<(Same, String, u32)> = Vec::new();
    for entry in entries {
        let same = Same::of(entry);
        let seen = known.iter_mut().find(|(of, by, _)| *of == same && *by == entry.subject);
        match seen {
            Some((_, _, rounds)) => {
                entry.round = *rounds;
                *rounds += 1;
            }
            None => {
                entry.round = 0;
                known.push((same, entry.subject.clone(), 1));
            }
        }
    }
}

fn conclude(whole: &mut Report) {
    let searched = whole.kind == "rfc2544";
    if !searched {
        number_trials(&mut whole.entries);
    }
    let by_trials = whole.entries.iter().map(|entry| entry.subject.clone());
    let by_searches = whole.rfc2544.iter().map(|one| one.subject.clone());
    let mut names: Vec<String> = Vec::new();
    for name in by_trials.chain(by_searches) {
        add(&mut names, name);
    }
    whole.ratios.clear();
    for (of, to) in statistics::pairs(&names.iter().map(String::as_str).collect::<Vec<_>>()) {
        let found = match searched {
            true => statistics::throughput_ratios(&whole.rfc2544, of, to),
            false => statistics::ratios(&whole.entries, of, to),
        };
        whole.ratios.extend(found.ratios);
        found.notes.into_iter().for_each(|note| add(&mut whole.notes, note));
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
