//! `bypath bench --port X --port Y`: one work, one trial for each size; first, for each, what the measurement itself gets wrong.
//! Ctrl-C ends the trial that runs and those that would follow; a trial that fails ends the run, with one line. What was measured
//! by then is reported in both cases.

use super::super::args::bench::{Bench, Path};
use super::super::output::{Failure, Outcome};
use super::forms::Files;
use super::{ports, progress, work};
use crate::bench::loopback::{Through, own_error_through};
use crate::bench::outcome::Trial;
use crate::bench::place::Place;
use crate::bench::report::{Entry, Provenance, Report, table};
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

    let mut report = begin("send", &links);
    let mut pair = ends.open(&from, &to, first.clone()).map_err(Failure::Error)?;
    let mut failed = None;
    for work in works {
        if interrupt.came() || failed.is_some() {
            break;
        }
        if !args.path.no_own_error {
            for through in [Through::Veth, Through::Wire] {
                match own_error_through(through, ends, &work) {
                    Ok(own) => report.own_error.push(own),
                    Err(error) => report.notes.push(format!("the own error is not known: {error}")),
                }
            }
        }
        pair.on_tick(progress::shown(format!("{} bytes", work.size), &interrupt));
        let sent = pair.send(work.size, work.rate, work.duration.as_secs_f64());
        progress::clear();
        match sent {
            Ok(outcome) => report.entries.push(Entry {
                case: case(&args.path, "send"),
                subject: subject(&args.path, &from, &to),
                round: 0,
                work,
                outcome,
            }),
            Err(error) => failed = Some(Failure::Error(error)),
        }
    }
    // What is between the ports gets them back before anything is written.
    drop(pair);
    if !report.entries.is_empty() || failed.is_none() {
        written(files, &report)?;
    }
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// The table, and the report's files.
pub(super) fn written(files: Files, report: &Report) -> Result<(), Failure> {
    if !files.take_stdout() {
        std::io::stdout().lock().write_all(table::text(report).as_bytes())?;
    }
    files.write(report)
}

/// Who is measured, as it was called, or by its ports.
pub(super) fn subject(path: &Path, from: &Place, to: &Place) -> String {
    path.subject_name.clone().unwrap_or_else(|| format!("{from} to {to}"))
}

/// What it does, as it was called.
pub(super) fn case(path: &Path, otherwise: &str) -> String {
    path.case_name.clone().unwrap_or_else(|| otherwise.to_owned())
}

/// A report of nothing yet.
pub(super) fn begin(kind: &str, links: &(Link, Link)) -> Report {
    let both = [&links.0, &links.1];
    let zero_copy = both
        .iter()
        .any(|link| link.xdp.is_some_and(|features| features.zero_copy()));
    let mode = if zero_copy { "zero-copy where granted" } else { "copy" };
    Report::new(kind, Provenance::collect(both.map(|link| link.driver.as_str()), mode))
}
