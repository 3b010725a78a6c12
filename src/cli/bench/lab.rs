//! `bypath bench --lab` and `bypath bench rfc2544 --lab`: the flags as a plan, what goes on as lines on stderr, and the
//! report, also of a run that did not come to its end.
//!
//! Nothing is measured here: `bench::lab` does that, in namespaces of its own.

use super::super::args::bench::{Bench, Forms, Lab, Path, Rfc2544, Source, WorkArgs};
use super::super::output::{Failure, Outcome, grouped};
use super::forms::Files;
use crate::bench::lab::{self, Case, Plan, Progress, Subject, Test};
use crate::bench::report::Entry;
use crate::bench::rfc2544;
use crate::bench::sink::SinkKind;
use crate::bench::work::Rate;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// Who is measured where nobody is named.
const SUBJECTS: [&str; 3] = ["kernel", "bypath", "wire"];
/// What the lab's addresses are cannot be said otherwise: the router knows them.
const NOT_HERE: &str = "is the lab's own to choose: leave it out, or name two ports with --port";

/// The flags that make a plan.
struct Asked<'a> {
    path: &'a Path,
    work: &'a WorkArgs,
    lab: &'a Lab,
    rate: Rate,
}

/// Compares subjects, trial by trial.
pub fn lab(args: &Bench) -> Outcome {
    let asked = Asked {
        path: &args.path,
        work: &args.work,
        lab: &args.lab,
        rate: args.rate,
    };
    run(&asked, Test::Trials, &args.forms)
}

/// The tests of RFC 2544 on each subject.
pub fn rfc2544(args: &Rfc2544, plan: rfc2544::Plan) -> Outcome {
    let asked = Asked {
        path: &args.path,
        work: &args.work,
        lab: &args.lab,
        rate: Rate::Unpaced,
    };
    run(&asked, Test::Rfc2544(plan), &args.forms)
}

/// Carries it out, and writes what was found.
fn run(asked: &Asked<'_>, test: Test, forms: &Forms) -> Outcome {
    let plan = plan(asked, test).map_err(Failure::Usage)?;
    plan.validate(&allowed()).map_err(Failure::Error)?;
    let files = Files::open(forms)?;
    let mut stderr = Stderr {
        terminal: io::stderr().is_terminal(),
        done: 0,
        of: (plan.test == Test::Trials).then(|| plan.trials()),
    };
    if let Some(trials) = stderr.of {
        let minutes = (plan.seconds_expected() / 60.0).ceil();
        stderr.line(&format!("{trials} trials, about {minutes} minutes"));
    }
    let (report, ended) = lab::run(&plan, &mut |progress| stderr.show(&progress));
    if !report.entries.is_empty() || !report.rfc2544.is_empty() {
        super::send::written(files, &report)?;
    }
    ended.map_err(Failure::Error)?;
    Ok(ExitCode::SUCCESS)
}

/// What was asked for; an error is one of usage.
fn plan(asked: &Asked<'_>, test: Test) -> Result<Plan, String> {
    let Asked { path, work, lab, rate } = asked;
    let usage = |error: String| format!("{error}: see `bypath bench --help`");
    for (given, flag) in [
        (work.src.is_some(), "--src"),
        (work.dst.is_some(), "--dst"),
        (work.ipv6, "--ipv6"),
        (work.dsts != 1, "--dsts"),
        (work.sport.is_some(), "--sport"),
        (work.dport.is_some(), "--dport"),
        (path.src_mac.is_some(), "--src-mac"),
        (path.dst_mac.is_some(), "--dst-mac"),
    ] {
        if given {
            return Err(usage(format!("{flag} {NOT_HERE}")));
        }
    }
    let subjects: Vec<&str> = match &lab.subjects[..] {
        [] => SUBJECTS.to_vec(),
        named => named.iter().map(String::as_str).collect(),
    };
    let cases = lab.cases.iter().map(|word| word.parse::<Case>());
    let [source_cpu, sink_cpu, cpu] = cpus(path)?;
    // Paced trials are for delays, unpaced ones for the most that comes out; those of RFC 2544 are for both.
    let (xsk_source, sink) = match (&test, rate) {
        (Test::Rfc2544(_), _) => (false, SinkKind::Xsk),
        (Test::Trials, Rate::Paced(_)) => (true, SinkKind::Xsk),
        (Test::Trials, Rate::Unpaced) => (false, SinkKind::Link),
    };
    Ok(Plan {
        cases: cases.collect::<Result<_, _>>().map_err(usage)?,
        subjects: subjects
            .into_iter()
            .map(Subject::parse)
            .collect::<Result<_, _>>()
            .map_err(usage)?,
        sizes: work.size.clone(),
        flows: work.flows.clone(),
        kind: work.kind.into(),
        order: work.order,
        new_per_second: work.new_flows,
        seed: work.seed,
        rate: *rate,
        seconds: work.seconds,
        rounds: lab.rounds,
        cpu,
        source_cpu,
        sink_cpu,
        xsk_source: path.source.map_or(xsk_source, |source| source == Source::Xsk),
        sink: path.sink.map_or(sink, SinkKind::from),
        loaded: lab.loaded,
        own_error: !path.no_own_error,
        test,
    })
}

fn allowed() -> Vec<usize> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    ids.iter().map(|id| id.id).collect()
}

/// Of the sender, the receiver and the forwarder: those that are named, then those that are left, for the forwarder
/// first.
fn cpus(path: &Path) -> Result<[usize; 3], String> {
    let allowed = allowed();
    let named = path.cpus.as_ref().map(|cpus| cpus.0.as_slice()).unwrap_or_default();
    if named.len() > 3 {
        return Err("--cpus names more than three CPUs: those of the sender, the receiver and the forwarder".into());
    }
    Ok(chosen(named, &allowed))
}

fn chosen(named: &[usize], allowed: &[usize]) -> [usize; 3] {
    let free = |taken: &[usize]| allowed.iter().copied().find(|cpu| !taken.contains(cpu));
    let source = named.first().copied().or_else(|| free(&[])).unwrap_or(0);
    let sink = named.get(1).copied();
    // Only where there is no third one it shares the receiver's.
    let forward = named
        .get(2)
        .copied()
        .or_else(|| free(&[source, sink.unwrap_or(source)]));
    let forward = forward.or_else(|| free(&[source])).unwrap_or(source);
    let sink = sink.or_else(|| free(&[source, forward])).unwrap_or(source);
    [source, sink, forward]
}

/// What a person sees meanwhile.
struct Stderr {
    terminal: bool,
    done: usize,
    of: Option<usize>,
}

impl Stderr {
    fn show(&mut self, progress: &Progress<'_>) {
        match progress {
            Progress::Doing(what) if self.terminal => {
                // Who does not read it does not miss it.
                let _ = write!(io::stderr(), "\r\x1b[K{what}");
            }
            Progress::Doing(_) => {}
            Progress::Entry(entry) => {
                self.done += 1;
                // How many trials a search takes is not known before.
                let of = self.of.map_or(String::new(), |of| format!("/{of}"));
                self.line(&format!("{}{of} {}", self.done, about(entry)));
            }
        }
    }

    fn line(&self, line: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(io::stderr(), "{clear}{line}");
    }
}

fn about(entry: &Entry) -> String {
    let delays = entry.outcome.latency.as_ref();
    let delays = delays.map(|delays| {
        format!(
            ", p50 {} ns, p99.9 {} ns",
            grouped(delays.p50_ns),
            grouped(delays.p999_ns)
        )
    });
    format!(
        "{}, size {}, {} flows, round {}: {} {} frames/s{}",
        entry.case,
        entry.work.size,
        entry.work.flows.count,
        entry.round + 1,
        entry.subject,
        grouped(entry.outcome.received_pps() as u64),
        delays.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Args, Command};
    use clap::Parser;

    fn planned(flags: &str) -> Result<Plan, String> {
        let line = format!("bypath bench --lab {flags}");
        let args = Args::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        let Command::Bench(args) = args.command else {
            return Err("not bench".into());
        };
        let asked = Asked {
            path: &args.path,
            work: &args.work,
            lab: &args.lab,
            rate: args.rate,
        };
        plan(&asked, Test::Trials)
    }

    #[test]
    fn flags_make_a_plan() {
        let found = planned("--cases route,nat-tbf --size 64,imix --flows 1,1000 --cpus 4,5,6 --subject bare").unwrap();
        assert_eq!(found.cases, [Case::Route, Case::NatTbf]);
        assert_eq!((found.source_cpu, found.sink_cpu, found.cpu), (4, 5, 6));
        assert_eq!(found.flows, [1, 1000]);
        assert_eq!(found.subjects, [Subject::Bare]);
        assert!(!found.xsk_source && found.sink == SinkKind::Link);
        assert_eq!(planned("").unwrap().subjects.len(), SUBJECTS.len());
    }

    #[test]
    fn a_rate_asks_for_delays() {
        let found = planned("--rate 100k").unwrap();
        assert!(found.xsk_source && found.sink == SinkKind::Xsk);
        let found = planned("--rate 100k --source live --sink count").unwrap();
        assert!(!found.xsk_source && found.sink == SinkKind::Count);
    }

    #[test]
    fn what_the_lab_has_is_not_asked_for() {
        for flags in [
            "--dst 10.0.0.1",
            "-6",
            "--dst-mac 02:00:00:00:00:01",
            "--dsts 2",
            "--sport 1024",
            "--dport 53",
        ] {
            assert!(planned(flags).unwrap_err().contains("the lab's own"), "{flags}");
        }
        assert!(planned("--cases sale").unwrap_err().contains("no case is called"));
        assert!(planned("--subject vpp").unwrap_err().contains("no subject is called"));
        assert!(planned("--cpus 0-3").unwrap_err().contains("more than three"));
    }

    #[test]
    fn who_forwards_has_a_core_of_its_own_where_there_is_one() {
        // Those that are named, those that are there, and of them the sender's, the receiver's and the forwarder's.
        let cases: [(&[usize], &[usize], [usize; 3]); 8] = [
            (&[], &[0, 1, 2, 3], [0, 2, 1]),
            (&[], &[0, 1], [0, 0, 1]),
            (&[1], &[0, 1, 2], [1, 2, 0]),
            (&[0, 1], &[0, 1, 2, 3], [0, 1, 2]),
            (&[2, 0], &[0, 1, 2, 3], [2, 0, 1]),
            (&[0, 1], &[0, 1], [0, 1, 1]),
            (&[0, 0], &[0, 1], [0, 0, 1]),
            (&[3, 2, 1], &[0, 1, 2, 3], [3, 2, 1]),
        ];
        for (named, allowed, right) in cases {
            assert_eq!(chosen(named, allowed), right, "{named:?} of {allowed:?}");
        }
    }
}
