//! `bypath bench --lab`: a short run has all that was asked for, and whatever ends it (its end, Ctrl-C, `kill -9`, a
//! subject that fails) nothing stays: no process, no interface, no mount.
//!
//! Processes of a run are known by a mark in their environment, which all that they start inherit. Trials are short,
//! and no rate is asserted but that frames come through. Needs root, two CPUs, and ip, nft, ethtool, conntrack.

mod lab;

use bypath::bench::lab::Case;
use bypath::bench::report::{Entry, Report};
use lab::bypath::BINARY;
use lab::namespace::Namespace;
use lab::sys;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

const MARK: &str = "BYPATH_BENCH_LAB_TEST";
/// The kernel kills at once; this is for a machine that has other work.
const GONE_WITHIN: Duration = Duration::from_secs(20);
/// One trial of one size, as short as can be.
const SHORT: [&str; 8] = ["--seconds", "0.2", "--rounds", "1", "--size", "64", "--flows", "10"];

/// A place to run it in, and what is there before.
struct Place {
    namespace: Namespace,
    mark: String,
    links: String,
    mounts: String,
}

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let namespace = Namespace::new();
        Self {
            mark: format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed)),
            links: namespace.run("ip -o link"),
            mounts: mounts(),
            namespace,
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .arg("bench")
            .args(words)
            .arg("--lab")
            .env(MARK, &self.mark)
            .stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, words: &[&str]) -> Child {
        self.namespace.spawn(&mut self.command(words)).expect("start bypath")
    }

    /// To its end.
    fn run(&self, words: &[&str]) -> Output {
        self.start(words).wait_with_output().expect("wait for bypath")
    }

    /// The report of a run that must succeed.
    fn report(&self, words: &[&str]) -> Report {
        let output = self.run(&[words, &["--json", "-"]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Panics unless all is as it was before.
    fn assert_nothing_left(&self) {
        let until = Instant::now() + GONE_WITHIN;
        loop {
            let left = processes(&self.mark);
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < until, "processes were left: {left:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(self.namespace.run("ip -o link"), self.links, "interfaces were left");
        assert_eq!(mounts(), self.mounts, "mounts were left");
    }
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mounts").expect("/proc")
}

/// The command lines of all processes that bear a mark.
fn processes(mark: &str) -> Vec<String> {
    let wanted = format!("{MARK}={mark}");
    let numbers = std::fs::read_dir("/proc").expect("/proc").flatten();
    numbers
        .filter(|entry| {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            environment
                .split(|&byte| byte == 0)
                .any(|word| word == wanted.as_bytes())
        })
        .map(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ")
        })
        .collect()
}

/// The one line of error of a run that must fail.
fn error_of(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("bypath: error: "))
        .collect();
    let [line] = lines[..] else {
        panic!("not one line of error: {said}");
    };
    println!("{line}");
    line.to_owned()
}

fn entry<'a>(report: &'a Report, case: &str, subject: &str) -> &'a Entry {
    let found = report
        .entries
        .iter()
        .find(|entry| entry.case == case && entry.subject == subject);
    found.unwrap_or_else(|| panic!("no trial of {subject} in {case}: {:?}", report.entries))
}

#[test]
fn a_short_run_has_every_entry_and_leaves_nothing() {
    let place = Place::new();
    let words = ["--cases", "route,nat", "--subject", "kernel", "--subject", "bypath"];
    let report = place.report(&[&words[..], &SHORT].concat());
    place.assert_nothing_left();
    assert_eq!(report.entries.len(), 4, "{:?}", report.entries);
    for case in ["route", "nat"] {
        for subject in ["kernel", "bypath"] {
            let outcome = &entry(&report, case, subject).outcome;
            assert!(outcome.received > 0, "{case} {subject}: {outcome:?}");
            assert_eq!(outcome.offered, outcome.received + outcome.lost, "{outcome:?}");
        }
        let notes = &entry(&report, case, "bypath").outcome.notes;
        let own = notes.iter().find(|note| note.starts_with("bypath forwarded "));
        let own = own.unwrap_or_else(|| panic!("not said how much bypath forwarded itself: {notes:?}"));
        assert!(!own.contains("measures the kernel"), "{case}: {own}");
        let ratio = |what: &str| {
            report
                .ratios
                .iter()
                .any(|ratio| ratio.case == case && ratio.what == what)
        };
        assert!(
            ratio("received_pps") && ratio("cpu_ns_per_frame"),
            "{:?}",
            report.ratios
        );
    }
    assert_eq!(report.kind, "lab");
    assert_eq!(report.own_error.len(), 2, "{:?}", report.notes);
    let commands: BTreeSet<&str> = report.provenance.commands.iter().map(String::as_str).collect();
    assert!(
        commands.iter().any(|line| line.contains("run d0 d1 --workers 1")),
        "{commands:?}"
    );
}

#[test]
fn every_case_can_be_measured() {
    let place = Place::new();
    let words = [
        "--cases",
        "wire,bridge,nat-1000-rules,nat-tbf,route-1m",
        "--no-own-error",
    ];
    let subjects = ["--subject", "kernel-rps", "--subject", "bypath"];
    let report = place.report(&[&words[..], &subjects, &SHORT].concat());
    place.assert_nothing_left();
    // The kernel has no wire.
    assert_eq!(report.entries.len(), 9, "{:?}", report.entries);
    for entry in &report.entries {
        let (case, subject, outcome) = (&entry.case, &entry.subject, &entry.outcome);
        assert!(outcome.received > 0, "{case} {subject}: {outcome:?}");
        let warning = outcome.notes.iter().find(|note| note.contains("measures the kernel"));
        assert_eq!(warning, None, "{case} {subject}");
    }
}

#[test]
fn a_rate_gives_delays_with_a_second_process_on_the_core() {
    let place = Place::new();
    let words = [
        "--cases",
        "route",
        "--rate",
        "20k",
        "--loaded",
        "--subject",
        "kernel",
        "--subject",
        "bypath",
    ];
    let report = place.report(&[&words[..], &SHORT].concat());
    place.assert_nothing_left();
    for subject in ["kernel", "bypath"] {
        let outcome = &entry(&report, "route", subject).outcome;
        let latency = outcome.latency.as_ref();
        assert!(
            latency.is_some_and(|latency| latency.count > 0),
            "{subject}: {outcome:?}"
        );
    }
    assert!(
        report.ratios.iter().any(|ratio| ratio.what == "p999_ns"),
        "{:?}",
        report.ratios
    );
    assert!(
        report.notes.iter().any(|note| note.contains("loaded CPU")),
        "{:?}",
        report.notes
    );
}

#[test]
fn rfc2544_finds_rates_and_delays_of_each_subject() {
    let place = Place::new();
    let folder = std::env::temp_dir().join(&place.mark);
    std::fs::create_dir_all(&folder).expect("a folder for what is written");
    let (html, log) = (folder.join("report.html"), folder.join("delays.hlog"));
    let words = [
        "rfc2544",
        "--cases",
        "route",
        "--tests",
        "throughput,latency",
        "--shares",
        "50",
        "--seconds",
        "0.2",
        "--resolution",
        "0.5",
        "--accepted-loss",
        "50",
        "--rounds",
        "1",
        "--subject",
        "kernel",
        "--subject",
        "bypath",
        "--html",
        html.to_str().expect("a path"),
        "--hlog",
        log.to_str().expect("a path"),
    ];
    let report = place.report(&words);
    place.assert_nothing_left();
    assert_eq!(report.kind, "rfc2544");
    let subjects: Vec<&str> = report.rfc2544.iter().map(|found| found.subject.as_str()).collect();
    assert_eq!(subjects, ["kernel", "bypath"]);
    for found in &report.rfc2544 {
        assert!(found.throughput_pps > 0.0 && !found.search.is_empty(), "{found:?}");
        let [(share, delays)] = &found.latency[..] else {
            panic!("not one share: {found:?}");
        };
        assert!(*share == 0.5 && delays.count > 0, "{found:?}");
    }
    let page = std::fs::read_to_string(&html).expect("the page");
    assert!(page.contains("bypath") && page.contains("</html>"), "not a whole page");
    let delays = std::fs::read_to_string(&log).expect("the log of delays");
    let of_subject = |subject: &&str| {
        delays
            .lines()
            .any(|line| !line.starts_with('#') && line.contains(subject))
    };
    assert!(["kernel", "bypath"].iter().all(of_subject), "{delays:.500}");
    std::fs::remove_dir_all(&folder).expect("take the folder away");
}

#[test]
fn a_peer_is_a_command_and_one_that_does_nothing_is_told_on() {
    let place = Place::new();
    let peer = format!("mine@route=exec {BINARY} run {{a}} {{b}} --workers 1 --cpus {{cpu}} # {{case}} {{server_mac}}");
    let lazy = "lazy@route=echo lazy: ready; sleep 60";
    let words = [
        "--cases",
        "route,bridge",
        "--no-own-error",
        "--subject",
        "kernel",
        "--subject",
        &peer,
        "--subject",
        lazy,
    ];
    let report = place.report(&[&words[..], &SHORT].concat());
    place.assert_nothing_left();
    assert_eq!(report.entries.len(), 4, "{:?}", report.entries);
    let told = |subject: &str| {
        let outcome = &entry(&report, "route", subject).outcome;
        assert!(outcome.received > 0, "{outcome:?}");
        outcome
            .notes
            .iter()
            .any(|note| note.contains("measures the kernel too"))
    };
    assert!(told("lazy") && !told("mine") && !told("kernel"));
}

#[test]
fn a_subject_that_fails_is_one_line() {
    let place = Place::new();
    for (command, says) in [
        (
            "echo no such port >&2; exit 3",
            "exit status: 3, it said last \"no such port\"",
        ),
        ("/no/such/program {a} {b}", "ended early"),
        ("echo dying: ready; exit 4", "subject dying"),
    ] {
        let subject = format!("dying={command}");
        let words = ["--cases", "route", "--no-own-error", "--subject", &subject];
        let error = error_of(&place.run(&[&words[..], &SHORT].concat()));
        assert!(error.contains("dying") && error.contains(says), "{error}");
        place.assert_nothing_left();
    }
}

/// Starts a long run, waits for its first trial, has `end` do something to it, and what it said then.
fn ended_by(place: &Place, json: &str, end: impl FnOnce(u32)) -> Output {
    let words = [
        "--cases",
        "route",
        "--subject",
        "bypath",
        "--no-own-error",
        "--rounds",
        "1000",
        "--seconds",
        "0.2",
        "--json",
        json,
    ];
    let mut child = place.start(&words);
    let mut stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut said = String::new();
    while !said.lines().any(|line| line.starts_with("1/")) {
        assert!(
            matches!(stderr.read_line(&mut said), Ok(1..)),
            "it ended before its first trial: {said}"
        );
    }
    assert!(
        processes(&place.mark).len() > 1,
        "the look for processes does not even see a running lab"
    );
    end(child.id());
    let since = Instant::now();
    while matches!(stderr.read_line(&mut said), Ok(1..)) {}
    let status = child.wait().expect("wait for bypath");
    assert!(since.elapsed() < GONE_WITHIN, "it took {:?} to end", since.elapsed());
    Output {
        status,
        stdout: Vec::new(),
        stderr: said.into_bytes(),
    }
}

#[test]
fn ctrl_c_leaves_a_report_and_nothing_else() {
    let place = Place::new();
    let json = std::env::temp_dir().join(format!("bypath-bench-lab-{}.json", place.mark));
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let output = ended_by(&place, &json.to_string_lossy(), |pid| {
            sys::signal(pid, signal).expect("signal")
        });
        place.assert_nothing_left();
        let error = error_of(&output);
        assert!(error.contains("interrupted after"), "{error}");
        let text = std::fs::read_to_string(&json).expect("the report of what was measured");
        let report: Report = serde_json::from_str(&text).expect("a report");
        assert!(!report.entries.is_empty());
        assert!(
            report.notes.iter().any(|note| note.contains("not the whole run")),
            "{:?}",
            report.notes
        );
        std::fs::remove_file(&json).expect("remove the report");
    }
}

#[test]
fn kill_9_leaves_nothing() {
    let place = Place::new();
    let output = ended_by(&place, "-", |pid| sys::signal(pid, libc::SIGKILL).expect("signal"));
    assert!(!output.status.success());
    place.assert_nothing_left();
}

#[test]
fn every_peer_of_compare_says_what_it_can_do() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/compare.d");
    let mut peers = 0;
    for entry in std::fs::read_dir(folder).expect("bench/compare.d").flatten() {
        if entry.path().extension().is_some() {
            continue;
        }
        let output = Command::new(entry.path())
            .arg("cases")
            .output()
            .expect("run a peer's file");
        let said = String::from_utf8_lossy(&output.stdout);
        let cases: Result<Vec<Case>, String> = said.trim().split(',').map(str::parse).collect();
        assert!(
            cases.is_ok_and(|cases| !cases.is_empty()),
            "{:?} said {said}",
            entry.path()
        );
        // A peer that is not there says why, in one line; one that is there, its version.
        let output = Command::new(entry.path())
            .arg("installed")
            .output()
            .expect("run a peer's file");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim().lines().count(), 1, "{:?} said {said}", entry.path());
        peers += 1;
    }
    assert!(peers >= 6, "{peers} peers");
}
