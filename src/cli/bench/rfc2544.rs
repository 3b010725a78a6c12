//! `bypath bench rfc2544`: the tests of RFC 2544 by two ports. What is tried and concluded is `bench::rfc2544`'s; here are
//! the flags, the lines on stderr while it runs, and the end: a table, the report's files.
//!
//! Ctrl-C ends the run after the trial that is under way; what was measured by then is reported, and said to be a part.

use super::super::args::bench::{Rfc2544, Test};
use super::super::output::{Failure, Outcome};
use super::forms::Files;
use super::progress::{self, Interrupt};
use super::{ports, send, work};
use crate::bench::ends::Ends;
use crate::bench::loopback::{Through, own_error, own_error_through};
use crate::bench::outcome::{self, Trial};
use crate::bench::report::units::{frames_per_second, loss};
use crate::bench::report::{self as result, Entry};
use crate::bench::rfc2544::{self, Plan, Step};
use crate::bench::work::{Rate, Size, Work};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

/// Runs the tests.
pub fn rfc2544(args: Rfc2544) -> Outcome {
    let plan = plan(&args);
    plan.validate().map_err(Failure::Usage)?;
    let (from, to) = ports::places(&args.path)?;
    let ends = ports::ends(&args.path)?;
    let links = (from.link().map_err(Failure::Error)?, to.link().map_err(Failure::Error)?);
    let macs = (
        args.path.src_mac.map(|mac| mac.0),
        args.path.dst_mac.map_or(links.1.mac, |mac| mac.0),
    );
    let base = work::work(&args.work, plan.sizes[0], Rate::Unpaced, macs).map_err(Failure::Error)?;
    let files = Files::open(&args.forms)?;
    let interrupt = Interrupt::catch().map_err(Failure::Error)?;

    let mut report = send::begin("rfc2544", &links);
    let mut pair = ends.open(&from, &to, base.clone()).map_err(Failure::Error)?;
    let (case, subject) = (send::case(&args.path, "path"), send::subject(&args.path, &from, &to));
    let mut measured = Ok(());
    for &size in &plan.sizes {
        if !args.path.no_own_error && !interrupt.came() {
            for through in [Through::Veth, Through::Wire] {
                match own_error_through(through, ends, &Work { size, ..base.clone() }) {
                    Ok(own) => report.own_error.push(own),
                    Err(error) => report.notes.push(format!("the own error is not known: {error}")),
                }
            }
        }
        pair.on_tick(progress::shown(format!("rfc2544, {}", named(size)), &interrupt));
        let mut trial = Interruptible {
            trial: &mut pair,
            interrupt: &interrupt,
        };
        let one = Plan {
            sizes: vec![size],
            ..plan.clone()
        };
        let (base, entries) = (&base, &mut report.entries);
        let (found, ended) = rfc2544::run(&one, &case, &subject, &mut trial, &mut |step| {
            progress::clear();
            tell(&step);
            entries.push(entry(base, &case, &subject, &step));
        });
        progress::clear();
        let paced = found.iter().find_map(delays_pps).filter(|_| ended.is_ok());
        report.rfc2544.extend(found.into_iter().map(|one| result::Rfc2544 {
            kind: Some(base.kind),
            flows: base.flows.count,
            ..one
        }));
        match ended {
            Ok(()) => {
                if let Some(pps) = paced.filter(|_| !args.path.no_own_error && !interrupt.came()) {
                    match own_delays(ends, base, size, pps) {
                        Ok(own) => report.own_error.push(own),
                        Err(error) => report
                            .notes
                            .push(format!("the own error of delays is not known: {error}")),
                    }
                }
            }
            Err(_) if interrupt.came() => {
                report.notes.push(format!(
                    "ended by a signal while frames of {} were sent: what comes from there on is missing",
                    named(size)
                ));
                break;
            }
            Err(error) => {
                report.notes.push(format!("not the whole run: {error}"));
                measured = Err(Failure::Error(error));
                break;
            }
        }
    }
    // What is between the ports gets them back before anything is written.
    drop(pair);
    // An error does not take along what was measured before it.
    if measured.is_ok() || !report.entries.is_empty() {
        send::written(files, &report)?;
    }
    measured.map(|()| ExitCode::SUCCESS)
}

/// The rate of the middle one of the shares at which delays were taken.
fn delays_pps(found: &result::Rfc2544) -> Option<f64> {
    let (share, _) = found.latency.get(found.latency.len().saturating_sub(1) / 2)?;
    Some(share * found.throughput_pps)
}

/// What the measurement itself takes at such a rate: unpaced, as before the search, its delays are those of full queues.
fn own_delays(ends: Ends, base: &Work, size: Size, pps: f64) -> Result<result::OwnError, String> {
    let rate = Rate::Paced(pps);
    let own = own_error(
        ends,
        &Work {
            size,
            rate,
            ..base.clone()
        },
    )?;
    Ok(result::OwnError {
        path: format!("{}, at {}/s", own.path, frames_per_second(pps)),
        ..own
    })
}

/// The flags as a plan.
pub fn plan(args: &Rfc2544) -> Plan {
    let asked = |test| args.tests.contains(&test);
    let shares = || args.shares.iter().map(|percent| percent / 100.0).collect();
    Plan {
        sizes: args.work.size.clone(),
        pps_max: args.max_rate,
        pps_min: args.min_rate,
        // The others go by it.
        throughput: asked(Test::Throughput) || asked(Test::Latency) || asked(Test::BackToBack),
        seconds: args.work.seconds,
        search_seconds: args.search_seconds.unwrap_or(args.work.seconds),
        resolution: args.resolution,
        accepted_loss: args.accepted_loss / 100.0,
        repeats: args.retry,
        latency_shares: if asked(Test::Latency) { shares() } else { Vec::new() },
        loss_step: if asked(Test::Loss) { args.loss_step / 100.0 } else { 0.0 },
        bursts: if asked(Test::BackToBack) { args.repeat } else { 0 },
        ..Plan::default()
    }
}

/// A trial that is refused once a signal came.
struct Interruptible<'a> {
    trial: &'a mut dyn Trial,
    interrupt: &'a Interrupt,
}

impl Interruptible<'_> {
    fn unless_interrupted(&self, outcome: outcome::Outcome) -> Result<outcome::Outcome, String> {
        // A trial that was cut short says nothing of its rate.
        match self.interrupt.came() {
            true => Err("ended by a signal".into()),
            false => Ok(outcome),
        }
    }
}

impl Trial for Interruptible<'_> {
    fn send(&mut self, size: Size, rate: Rate, seconds: f64) -> Result<outcome::Outcome, String> {
        let outcome = self.trial.send(size, rate, seconds)?;
        self.unless_interrupted(outcome)
    }

    fn burst(&mut self, size: Size, frames: u64) -> Result<outcome::Outcome, String> {
        let outcome = self.trial.burst(size, frames)?;
        self.unless_interrupted(outcome)
    }
}

fn entry(base: &Work, case: &str, subject: &str, step: &Step<'_>) -> Entry {
    Entry {
        case: case.to_owned(),
        subject: subject.to_owned(),
        round: 0,
        work: Work {
            size: step.size,
            rate: step.rate,
            duration: Duration::try_from_secs_f64(step.outcome.seconds).unwrap_or_default(),
            ..base.clone()
        },
        outcome: step.outcome.clone(),
    }
}

fn named(size: Size) -> String {
    match size {
        Size::Bytes(bytes) => format!("{bytes} bytes"),
        Size::Imix => "imix".into(),
    }
}

/// A line on stderr for each trial. Who does not read it does not miss it.
fn tell(step: &Step<'_>) {
    let _ = writeln!(std::io::stderr(), "{}", line(step));
}

fn line(step: &Step<'_>) -> String {
    let outcome = step.outcome;
    let offered = match step.test {
        rfc2544::Test::BackToBack => format!("a burst of {}", outcome.offered),
        _ => format!("{}/s offered", frames_per_second(outcome.offered_pps())),
    };
    let delays = outcome.latency.as_ref().filter(|_| step.test == rfc2544::Test::Latency);
    let delays = delays.map(|delays| format!(", p50 {} ns, p99 {} ns", delays.p50_ns, delays.p99_ns));
    format!(
        "bypath: bench: {}, {}: {offered}, lost {} ({}){}",
        named(step.size),
        step.test.name(),
        outcome.lost,
        loss(outcome.loss()),
        delays.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::outcome::Outcome;
    use crate::cli::args::bench::BenchCommand;
    use crate::cli::args::{Args, Command};
    use clap::Parser;

    fn planned(flags: &str) -> Plan {
        let line = format!("bypath bench rfc2544 --port a --port b {flags}");
        let Ok(Args {
            command: Command::Bench(args),
        }) = Args::try_parse_from(line.split_whitespace())
        else {
            panic!("not read: {line}");
        };
        let Some(BenchCommand::Rfc2544(args)) = args.command else {
            panic!("not rfc2544: {line}");
        };
        plan(&args)
    }

    #[test]
    fn flags_are_a_plan_that_can_be_carried_out() {
        let default = planned("");
        assert_eq!(default.validate(), Ok(()));
        assert_eq!(
            (default.seconds, default.search_seconds, default.pps_min),
            (5.0, 5.0, 1000.0)
        );
        assert_eq!(default.latency_shares, [0.1, 0.5, 0.9, 1.0]);
        let exact =
            planned("--seconds 60 --search-seconds 2 --accepted-loss 0.001 --retry 2 --size 64,imix --max-rate 1m");
        assert_eq!((exact.seconds, exact.search_seconds, exact.repeats), (60.0, 2.0, 2));
        assert!((exact.accepted_loss - 1e-5).abs() < 1e-12);
        assert_eq!(
            (exact.sizes, exact.pps_max),
            (vec![Size::Bytes(64), Size::Imix], Some(1e6))
        );
    }

    #[test]
    fn only_what_was_asked_for_is_tested_and_what_it_needs() {
        let loss = planned("--tests loss");
        assert!(!loss.throughput && loss.latency_shares.is_empty() && loss.bursts == 0 && loss.loss_step > 0.0);
        let bursts = planned("--tests back-to-back --repeat 50");
        assert!(bursts.throughput && bursts.bursts == 50 && bursts.loss_step == 0.0);
        assert!([loss, bursts].iter().all(|plan| plan.validate().is_ok()));
        let error = planned("--tests loss --loss-step 0").validate().unwrap_err();
        assert!(error.contains("--loss-step above 0"), "{error}");
    }

    #[test]
    fn delays_of_the_measurement_itself_are_taken_at_the_rate_of_a_share() {
        let found = |shares: &[f64]| result::Rfc2544 {
            throughput_pps: 1e6,
            latency: shares
                .iter()
                .map(|&share| (share, outcome::Latency::default()))
                .collect(),
            ..result::Rfc2544::default()
        };
        assert_eq!(delays_pps(&found(&[0.1, 0.5, 0.9])), Some(5e5));
        assert_eq!(delays_pps(&found(&[0.1, 0.5, 0.9, 1.0])), Some(5e5));
        assert_eq!(delays_pps(&found(&[0.9])), Some(9e5));
        assert_eq!(delays_pps(&found(&[])), None, "nothing was timed");
    }

    #[test]
    fn a_line_says_what_came_of_a_trial() {
        let outcome = Outcome {
            offered: 1_000_000,
            seconds: 2.0,
            received: 999_990,
            lost: 10,
            ..Outcome::default()
        };
        let step = |test| Step {
            test,
            size: Size::Bytes(64),
            rate: Rate::Paced(500_000.0),
            outcome: &outcome,
        };
        assert_eq!(
            line(&step(rfc2544::Test::Throughput)),
            "bypath: bench: 64 bytes, throughput: 500.0k/s offered, lost 10 (10.0 ppm)"
        );
        assert!(line(&step(rfc2544::Test::BackToBack)).contains("back-to-back: a burst of 1000000, lost 10"));
    }
}
