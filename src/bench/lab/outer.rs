//! The side of the machine: starts this program once more, as process 1 of namespaces of its own, and makes a report of
//! what it tells.
//!
//! ```text
//!   run ── thread: unshare(network, mount, PID), start, wait for the end        a namespace of the thread alone
//!    │                       │ stdin: the plan, then nothing; at its end the process inside ends
//!    └─ signal, silence ──> kill: with process 1 all others inside are killed
//! ```
//!
//! Whatever happens nothing is left. The process inside is killed at SIGINT and SIGTERM, and when it says nothing for
//! longer than a trial can take; when this process dies the kernel kills it (PR_SET_PDEATHSIG), and it ends when its
//! stdin does. With it the kernel kills all in its PID namespace, and namespaces, links, rules and mounts go with their
//! last process.

use super::event::Event;
use super::plan::{Plan, Test};
use super::subject::{Subject, own_path};
use crate::bench::report::{Provenance, Ratio, Report};
use crate::bench::statistics;
use crate::port::netns;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// The argument by which the program knows that it is inside.
pub const INSIDE: &str = "bench-lab-inside";
/// How often a signal is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// The kernel kills at once; what is in a system call takes a little.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// What goes on, for a person.
#[derive(Debug)]
pub enum Progress<'a> {
    /// What is done now.
    Doing(&'a str),
    /// What came of a trial.
    Entry(&'a crate::bench::report::Entry),
}

/// What the thread tells.
enum Told {
    /// The number of the process inside, as it is outside.
    Started(u32),
    /// A line of it.
    Line(String),
    /// How it ended.
    Ended(ExitStatus),
    /// It could not be started.
    Failed(String),
}

/// Carries out a plan: what was found, and how it ended, an error as one line. What was measured until then is found
/// also where a signal or an error ended it. The report's provenance has the subjects' command lines after this
/// process' own.
pub fn run(plan: &Plan, progress: &mut dyn FnMut(Progress<'_>)) -> (Report, Result<(), String>) {
    let provenance = Provenance::collect(["veth"], "copy");
    let mut report = Report::new(kind(plan), provenance);
    let ended = carry_out(plan, &mut report, progress);
    if let Err(why) = &ended {
        report.notes.push(format!("not the whole run: {why}"));
    }
    conclude(plan, &mut report);
    (report, ended)
}

/// What the report is of: trials of a search are no results there, wherever they were made.
fn kind(plan: &Plan) -> &'static str {
    match plan.test {
        Test::Trials => "lab",
        Test::Rfc2544(_) => "rfc2544",
    }
}

fn carry_out(plan: &Plan, report: &mut Report, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), String> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone())
            .map_err(|error| format!("cannot catch signals, {error}: raise the limit of open files (ulimit -n)"))?;
    }
    let line = serde_json::to_string(plan).map_err(|error| format!("the plan cannot be told, {error}: simplify it"))?;
    let (tell, told) = channel();
    std::thread::spawn(move || start(&line, &tell));
    follow(&told, plan, &interrupted, report, progress)
}

/// Starts the process inside, reads what it tells, and waits for its end, on a thread of its own: of this process'
/// threads only this one leaves the machine's namespaces, and it must live as long as the process inside, which is
/// killed with it.
fn start(line: &str, tell: &Sender<Told>) {
    // Where sending fails nobody listens any more.
    let _ = tell.send(match inside(line, tell) {
        Ok(status) => Told::Ended(status),
        Err(why) => Told::Failed(why),
    });
}

fn inside(line: &str, tell: &Sender<Told>) -> Result<ExitStatus, String> {
    netns::isolate()
        .map_err(|error| format!("cannot make network, mount and PID namespaces, {error}: run it as root"))?;
    let program = own_path()?;
    let start_failed = |error| {
        format!(
            "cannot start {} in the lab, {error}: see whether it may be run",
            program.display()
        )
    };
    let mut child = Command::new(&program)
        .arg(INSIDE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(start_failed)?;
    let _ = tell.send(Told::Started(child.id()));
    // Its stdin stays open as long as this thread lives.
    let mut stdin = child.stdin.take();
    if let Some(stdin) = &mut stdin {
        // One that died has no plan to read, and its end is told below.
        let _ = writeln!(stdin, "{line}");
    }
    let stdout = child.stdout.take();
    for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
        let Ok(line) = line else { break };
        let _ = tell.send(Told::Line(line));
    }
    child.wait().map_err(start_failed)
}

/// Takes what is told until the end.
fn follow(
    told: &Receiver<Told>,
    plan: &Plan,
    interrupted: &AtomicBool,
    report: &mut Report,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), String> {
    let mut pid = None;
    let mut ended: Option<Result<(), String>> = None;
    let mut last = Instant::now();
    loop {
        let give_up = if interrupted.load(Relaxed) {
            // How many trials a search takes is not known before.
            let of = match plan.test {
                Test::Trials => format!(" of {}", plan.trials()),
                Test::Rfc2544(_) => String::new(),
            };
            Some(format!(
                "interrupted after {}{of} trials: start it again for the rest",
                report.entries.len()
            ))
        } else if last.elapsed() > plan.silence_max() {
            Some(format!(
                "the lab said nothing for {} s and was ended: see whether the machine is overloaded or a subject hangs",
                plan.silence_max().as_secs()
            ))
        } else {
            None
        };
        if let Some(why) = give_up {
            kill(pid, told);
            return Err(why);
        }
        let event = match told.recv_timeout(LOOK) {
            Ok(Told::Line(line)) => serde_json::from_str(&line).map_err(|error| format!("{error}: {line}")),
            Ok(Told::Started(id)) => {
                pid = i32::try_from(id).ok().and_then(Pid::from_raw);
                continue;
            }
            Ok(Told::Failed(why)) => return ended.unwrap_or(Err(why)),
            Ok(Told::Ended(status)) => {
                return ended.unwrap_or_else(|| {
                    Err(format!(
                        "the lab ended early, {status}: see whether memory ran out (dmesg), and try once more"
                    ))
                });
            }
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => {
                return ended.unwrap_or_else(|| Err("the lab ended early: try once more".into()));
            }
        };
        last = Instant::now();
        match event {
            Ok(Event::Done) => ended = Some(Ok(())),
            Ok(Event::Failed(why)) => ended = Some(Err(why)),
            Ok(event) => take(event, report, progress),
            // A library that writes to stdout is no reason to end.
            Err(_) => {}
        }
    }
}

/// Ends all that is inside, and waits until it is gone.
fn kill(pid: Option<Pid>, told: &Receiver<Told>) {
    let Some(pid) = pid else { return };
    // One that is gone already was told of, or will be.
    let _ = kill_process(pid, Signal::KILL);
    let since = Instant::now();
    while since.elapsed() < GONE_WITHIN {
        match told.recv_timeout(LOOK) {
            Ok(Told::Ended(_) | Told::Failed(_)) | Err(RecvTimeoutError::Disconnected) => return,
            _ => {}
        }
    }
}

fn take(event: Event, report: &mut Report, progress: &mut dyn FnMut(Progress<'_>)) {
    match event {
        Event::Doing(what) => progress(Progress::Doing(&what)),
        Event::Command(line) => {
            if !report.provenance.commands.contains(&line) {
                report.provenance.commands.push(line);
            }
        }
        Event::Version(name, version) => drop(report.provenance.versions.insert(name, version)),
        Event::OwnError(own) => report.own_error.push(*own),
        Event::Entry(entry) => {
            progress(Progress::Entry(&entry));
            report.entries.push(*entry);
        }
        Event::Rfc2544(result) => report.rfc2544.push(*result),
        Event::Note(note) => {
            if !report.notes.contains(&note) {
                report.notes.push(note);
            }
        }
        Event::Failed(_) | Event::Done => {}
    }
}

/// Adds the ratios.
fn conclude(plan: &Plan, report: &mut Report) {
    let names: Vec<&str> = plan.subjects.iter().map(Subject::name).collect();
    for (of, to) in statistics::pairs(&names) {
        // Trials of a search are no pairs.
        let found = match plan.test {
            Test::Trials => statistics::ratios(&report.entries, of, to),
            Test::Rfc2544(_) => statistics::throughput_ratios(&report.rfc2544, of, to),
        };
        // The process beside it takes what a subject leaves of its core: all of them cost both cores.
        let says = |ratio: &Ratio| !(plan.loaded && ratio.what == "cpu_ns_per_frame");
        report.ratios.extend(found.ratios.into_iter().filter(says));
        report.notes.extend(found.notes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Entry;
    use crate::bench::sink::SinkKind;
    use crate::bench::work::{Kind, Order, Rate, Size};
    use crate::bench::{lab::Case, lab::Test, outcome::Outcome};

    fn plan(subjects: &[&str]) -> Plan {
        Plan {
            cases: vec![Case::Route],
            subjects: subjects.iter().map(|text| Subject::parse(text).unwrap()).collect(),
            sizes: vec![Size::Bytes(64)],
            flows: vec![1],
            kind: Kind::Udp,
            order: Order::RoundRobin,
            new_per_second: 0,
            seed: 1,
            rate: Rate::Unpaced,
            seconds: 1.0,
            rounds: 2,
            cpu: 1,
            source_cpu: 0,
            sink_cpu: 0,
            xsk_source: false,
            sink: SinkKind::Link,
            loaded: false,
            own_error: false,
            test: Test::Trials,
        }
    }

    fn entry(subject: &str, round: u32, received: u64) -> Event {
        let plan = plan(&["kernel"]);
        Event::Entry(Box::new(Entry {
            case: "route".into(),
            subject: subject.into(),
            round,
            work: plan.work(Case::Route, Size::Bytes(64), 1, [2; 6]),
            outcome: Outcome {
                received,
                seconds: 1.0,
                cpu_ns_per_frame: Some(1000.0),
                ..Outcome::default()
            },
        }))
    }

    /// What becomes of these lines.
    fn told(subjects: &[&str], lines: &[Event], interrupted: bool) -> (Result<(), String>, Report) {
        told_of(&plan(subjects), lines, interrupted)
    }

    fn told_of(plan: &Plan, lines: &[Event], interrupted: bool) -> (Result<(), String>, Report) {
        let (tell, told) = channel();
        for event in lines {
            tell.send(Told::Line(serde_json::to_string(event).unwrap())).unwrap();
        }
        drop(tell);
        let mut report = Report::default();
        let flag = AtomicBool::new(interrupted);
        let ended = follow(&told, plan, &flag, &mut report, &mut |_| {});
        conclude(plan, &mut report);
        (ended, report)
    }

    #[test]
    fn what_is_told_is_in_the_report_with_its_ratios() {
        let lines = [
            Event::Command("bypath: bypath run d0 d1".into()),
            entry("kernel", 0, 100),
            entry("bypath", 0, 200),
            entry("x", 0, 50),
            Event::Command("bypath: bypath run d0 d1".into()),
            entry("x", 1, 50),
            entry("bypath", 1, 200),
            entry("kernel", 1, 100),
            Event::Done,
        ];
        let (ended, report) = told(&["kernel", "bypath", "x=x"], &lines, false);
        assert_eq!((ended, report.entries.len()), (Ok(()), 6));
        assert_eq!(report.provenance.commands, ["bypath: bypath run d0 d1"]);
        let found: Vec<(&str, &str, f64)> = report
            .ratios
            .iter()
            .filter(|ratio| ratio.what == "received_pps")
            .map(|ratio| (&*ratio.of, &*ratio.to, ratio.ratio.median))
            .collect();
        assert_eq!(
            found,
            [("bypath", "kernel", 2.0), ("x", "kernel", 0.5), ("bypath", "x", 4.0)]
        );
    }

    #[test]
    fn a_round_that_failed_is_told_of_where_it_leaves_no_ratio() {
        let lines = [
            ("kernel", 0, 100),
            ("bypath", 0, 200),
            ("bypath", 1, 0),
            ("kernel", 1, 100),
        ];
        let mut lines = lines
            .map(|(subject, round, received)| entry(subject, round, received))
            .to_vec();
        lines.push(Event::Done);
        let (_, report) = told(&["kernel", "bypath"], &lines, false);
        assert!(
            !report.ratios.iter().any(|ratio| ratio.what == "received_pps"),
            "{report:?}"
        );
        assert_eq!(
            report.notes,
            ["route, bypath to kernel, udp, size 64, flows 1, received_pps: 1 of 2 rounds without a rate: no ratio"]
        );
    }

    #[test]
    fn the_first_line_of_error_is_the_one() {
        let (ended, report) = told(&["kernel"], &[entry("kernel", 0, 1), Event::Failed("no".into())], false);
        assert_eq!((ended, report.entries.len()), (Err("no".into()), 1));
        let (ended, _) = told(&["kernel"], &[], false);
        assert!(ended.unwrap_err().contains("ended early"));
    }

    #[test]
    fn the_steps_of_a_search_are_no_results_of_the_lab() {
        let mut plan = plan(&["kernel"]);
        assert_eq!(kind(&plan), "lab");
        plan.test = Test::Rfc2544(crate::bench::rfc2544::Plan::default());
        assert_eq!(kind(&plan), "rfc2544");
    }

    #[test]
    fn a_signal_ends_it() {
        let (ended, _) = told(&["kernel"], &[entry("kernel", 0, 1), Event::Done], true);
        assert_eq!(
            ended,
            Err("interrupted after 0 of 2 trials: start it again for the rest".into())
        );
        let mut search = plan(&["kernel"]);
        search.test = Test::Rfc2544(crate::bench::rfc2544::Plan::default());
        let (ended, _) = told_of(&search, &[], true);
        assert_eq!(
            ended,
            Err("interrupted after 0 trials: start it again for the rest".into())
        );
    }

    #[test]
    fn a_loaded_core_leaves_no_ratio_of_cpu_time() {
        let lines = [
            entry("kernel", 0, 100),
            entry("bypath", 0, 200),
            entry("bypath", 1, 200),
            entry("kernel", 1, 100),
            Event::Done,
        ];
        let mut plan = plan(&["kernel", "bypath"]);
        for (loaded, found) in [(false, 2), (true, 1)] {
            plan.loaded = loaded;
            let (_, report) = told_of(&plan, &lines, false);
            assert_eq!(report.ratios.len(), found, "{:?}", report.ratios);
            assert!(report.ratios.iter().any(|ratio| ratio.what == "received_pps"));
        }
    }
}
