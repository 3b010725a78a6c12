//! `bypath bench --port X --port Y`: one work, one trial for each size; first, for each, what the measurement itself gets wrong.

use super::super::args::bench::Bench;
use super::super::output::{self, Failure, Outcome, grouped};
use super::forms::Files;
use super::{ports, progress, work};
use crate::bench::loopback::own_error;
use crate::bench::outcome::{self, Trial};
use crate::bench::place::Place;
use crate::bench::report::{Entry, Provenance, Report};
use crate::port::link::Link;
use std::io::Write;
use std::process::ExitCode;

/// Sends, and says what came of it.
pub fn send(args: Bench) -> Outcome {
    let (from, to) = ports::places(&args.path)?;
    let ends = ports::ends(&args.path)?;
    let links = (from.link().map_err(Failure::Error)?, to.link().map_err(Failure::Error)?);
    let macs = (
        args.path.src_mac.map(|mac| mac.0),
        args.path.dst_mac.map_or(links.1.mac, |mac| mac.0),
    );
    let works = args
        .work
        .size
        .iter()
        .map(|&size| work::work(&args.work, size, args.rate, macs));
    let works = works.collect::<Result<Vec<_>, _>>().map_err(Failure::Error)?;
    let Some(first) = works.first() else {
        return Err(Failure::Usage("--size names no size: see `bypath bench --help`".into()));
    };
    let files = Files::open(&args.forms)?;
    let interrupt = progress::Interrupt::catch().map_err(Failure::Error)?;

    let mut report = begin(&links);
    let mut pair = ends.open(&from, &to, first.clone()).map_err(Failure::Error)?;
    for work in works {
        if interrupt.came() {
            break;
        }
        if !args.path.no_own_error {
            match own_error(ends, &work) {
                Ok(own) => report.own_error.push(own),
                Err(error) => report.notes.push(format!("the own error is not known: {error}")),
            }
        }
        pair.on_tick(progress::shown(format!("{} bytes", work.size), &interrupt));
        let sent = pair.send(work.size, work.rate, work.duration.as_secs_f64());
        progress::clear();
        report.entries.push(Entry {
            case: "send".into(),
            subject: subject(&from, &to),
            round: 0,
            work,
            outcome: sent.map_err(Failure::Error)?,
        });
    }
    // What is between the ports gets them back before anything is written.
    drop(pair);
    if !files.take_stdout() {
        std::io::stdout().lock().write_all(table(&report).as_bytes())?;
    }
    files.write(&report)?;
    Ok(ExitCode::SUCCESS)
}

fn subject(from: &Place, to: &Place) -> String {
    format!("{from} to {to}")
}

/// A report of nothing yet.
fn begin(links: &(Link, Link)) -> Report {
    let both = [&links.0, &links.1];
    let zero_copy = both
        .iter()
        .any(|link| link.xdp.is_some_and(|features| features.zero_copy()));
    let mode = if zero_copy { "zero-copy where granted" } else { "copy" };
    Report::new("send", Provenance::collect(both.map(|link| link.driver.as_str()), mode))
}

/// What came of each trial, and what of it is the measurement's own.
fn table(report: &Report) -> String {
    const HEAD: [&str; 10] = [
        "path",
        "size",
        "offered",
        "pps",
        "received",
        "pps",
        "lost",
        "reordered",
        "dup/corrupt",
        "p50 / p99 / p99.9",
    ];
    let row = |path: &str, size: String, of: &outcome::Outcome| {
        let delays = of.latency.as_ref().map(|delays| {
            [delays.p50_ns, delays.p99_ns, delays.p999_ns]
                .map(output::duration)
                .join(" / ")
        });
        vec![
            path.to_owned(),
            size,
            grouped(of.offered),
            grouped(of.offered_pps() as u64),
            grouped(of.received),
            grouped(of.received_pps() as u64),
            grouped(of.lost),
            grouped(of.reordered),
            format!("{}/{}", grouped(of.duplicated), grouped(of.corrupted)),
            delays.unwrap_or_else(|| "-".into()),
        ]
    };
    let own = report
        .own_error
        .iter()
        .map(|own| row(&format!("own error: {}", own.path), String::new(), &own.outcome));
    let entries = report
        .entries
        .iter()
        .map(|entry| row(&entry.subject, entry.work.size.to_string(), &entry.outcome));
    let rows: Vec<_> = entries.chain(own).collect();
    let mut text = output::table(&HEAD, &rows);
    let said = report
        .entries
        .iter()
        .map(|entry| (entry.work.size.to_string(), &entry.outcome.notes));
    let own = report
        .own_error
        .iter()
        .map(|own| (format!("own error: {}", own.path), &own.outcome.notes));
    for (of, notes) in said.chain(own) {
        notes.iter().for_each(|note| text.push_str(&format!("{of}: {note}\n")));
    }
    report.notes.iter().for_each(|note| text.push_str(&format!("{note}\n")));
    text
}
