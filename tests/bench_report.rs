//! `bypath bench report`: what it does with files, as an operator meets it. Needs no root and no interface.
//!
//! A full disk is a limit on the length of files (`ulimit -f`), which a write meets in the middle as it meets the end of a disk: the
//! signal is ignored, so that it is an error of write(2).

use bypath::bench::outcome::{Latency, Outcome};
use bypath::bench::report::{Entry, Report};
use bypath::bench::work::{Flows, Kind, Order, Rate, Size, Work};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_bypath");

/// A folder for one test, empty.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-report-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn work() -> Work {
    Work {
        kind: Kind::Udp,
        size: Size::Bytes(64),
        flows: Flows {
            count: 1,
            order: Order::RoundRobin,
            new_per_second: 0,
        },
        rate: Rate::Unpaced,
        duration: Duration::from_secs(1),
        seed: 1,
        src_mac: None,
        dst_mac: [2, 0, 0, 0, 0, 9],
        src: [10, 0, 0, 1].into(),
        dst: [10, 0, 0, 2].into(),
        dsts: 1,
        sport: 1024,
        dport: 9,
    }
}

/// A trial of which so many frames came through in a second, with delays.
fn entry(subject: &str, round: u32, received: u64) -> Entry {
    let mut histogram = bypath::bench::latency::recorder();
    histogram.saturating_record_n(5000, received);
    Entry {
        case: "route".into(),
        subject: subject.into(),
        round,
        work: work(),
        outcome: Outcome {
            offered: 1_000_000,
            seconds: 1.0,
            received,
            lost: 1_000_000 - received,
            latency: Some(Latency::of(&histogram)),
            ..Outcome::default()
        },
    }
}

/// A report of these trials, in a file.
fn kept(folder: &Path, name: &str, entries: Vec<Entry>) -> PathBuf {
    let mut report = Report::new("send", Default::default());
    report.entries = entries;
    let path = folder.join(name);
    fs::write(&path, serde_json::to_string(&report).expect("a report")).expect("room");
    path
}

/// A shell's line in a folder; `$0` is bypath.
fn shell(folder: &Path, line: &str) -> Output {
    let mut command = Command::new("sh");
    command
        .args(["-c", line, BINARY])
        .current_dir(folder)
        .stdin(Stdio::null());
    command.output().expect("sh")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_full_disk_leaves_what_was_there_and_nothing_beside_it() {
    let folder = folder("full");
    kept(&folder, "run.json", vec![entry("bypath", 1, 900_000)]);
    let all = ["old.json", "old.csv", "old.md", "old.html", "old.hlog", "old.hgrm"];
    for name in all {
        fs::write(folder.join(name), "of the run before").expect("room");
    }
    let output = shell(
        &folder,
        "trap '' XFSZ; ulimit -f 0; \"$0\" bench report run.json --csv new.csv --html new.html 2>/dev/null; \
         \"$0\" bench report run.json --json old.json --csv old.csv --markdown old.md --html old.html --hlog old.hlog \
         --hgrm old.hgrm",
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("bypath: error: cannot write the report old.json, File too large"),
        "{said}"
    );
    for name in all {
        let text = fs::read_to_string(folder.join(name)).expect("still there");
        assert_eq!(text, "of the run before", "{name}");
    }
    assert_eq!(names(&folder).len(), all.len() + 1, "{:?}", names(&folder));
}

#[test]
fn what_takes_the_place_of_a_file_has_its_mode_and_the_link_to_it_stays() {
    let folder = folder("place");
    kept(&folder, "run.json", vec![entry("bypath", 1, 900_000)]);
    fs::write(folder.join("real.csv"), "longer than what comes, or not".repeat(10_000)).expect("room");
    fs::set_permissions(folder.join("real.csv"), PermissionsExt::from_mode(0o640)).expect("chmod");
    std::os::unix::fs::symlink("real.csv", folder.join("link.csv")).expect("a link");
    let output = shell(&folder, "\"$0\" bench report run.json --csv link.csv");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(names(&folder), ["link.csv", "real.csv", "run.json"]);
    let link = folder.join("link.csv").symlink_metadata().expect("a link");
    let real = folder.join("real.csv").metadata().expect("a file");
    assert!(link.is_symlink() && real.permissions().mode() & 0o777 == 0o640);
    let text = fs::read_to_string(folder.join("real.csv")).expect("a file");
    assert!(text.contains("bypath") && !text.contains("longer"), "{text}");
}

#[test]
fn no_file_but_the_report_is_touched_and_one_with_no_room_beside_it_is_written_into() {
    let folder = folder("beside");
    kept(&folder, "run.json", vec![entry("bypath", 1, 900_000)]);
    let long = format!("{}.csv", "n".repeat(250));
    for name in ["out.csv", "out.csv.part", ".out.csv.part", &long] {
        fs::write(folder.join(name), "of the user").expect("room");
    }
    let output = shell(
        &folder,
        &format!("\"$0\" bench report run.json --csv out.csv && \"$0\" bench report run.json --csv {long}"),
    );
    assert!(output.status.success(), "{output:?}");
    let text = |name: &str| fs::read_to_string(folder.join(name)).expect("a file");
    assert!(text("out.csv").contains("bypath") && text(&long).contains("bypath"));
    assert_eq!(["out.csv.part", ".out.csv.part"].map(text), ["of the user"; 2]);
    assert_eq!(names(&folder).len(), 5, "{:?}", names(&folder));
}

/// In a user namespace that knows root alone: another user's file is there what it is outside for whoever is not root.
#[test]
fn a_file_whose_owner_cannot_be_given_to_another_is_written_into() {
    let folder = folder("owner");
    kept(&folder, "run.json", vec![entry("bypath", 1, 900_000)]);
    let path = folder.join("theirs.csv");
    fs::write(&path, "of the run before").expect("room");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("chmod");
    let inside = |line: &str| {
        shell(
            &folder,
            &format!("unshare --user --map-root-user sh -c '{line}' \"$0\""),
        )
    };
    if std::os::unix::fs::chown(&path, Some(12345), Some(12345)).is_err() || !inside("true").status.success() {
        println!("SKIPPED a file of somebody else: needs root, and unshare with user namespaces");
        return;
    }
    let before = path.metadata().expect("a file");
    let output = inside("exec \"$0\" bench report run.json --csv theirs.csv");
    assert!(output.status.success(), "{output:?}");
    let after = path.metadata().expect("a file");
    assert_eq!((after.uid(), after.gid(), after.ino()), (12345, 12345, before.ino()));
    assert!(fs::read_to_string(&path).expect("a file").contains("bypath"));
    assert_eq!(names(&folder), ["run.json", "theirs.csv"]);
}

fn joined(folder: &Path, files: &str) -> Report {
    let output = shell(folder, &format!("\"$0\" bench report {files} --json -"));
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("a report")
}

#[test]
fn runs_of_two_subjects_become_one_report_with_their_ratios() {
    let folder = folder("join");
    // As bench/TRADE.md has it: once each, and once more each in the reverse order. The machine is half as fast the second time.
    kept(&folder, "kernel.json", vec![entry("kernel", 1, 400_000)]);
    kept(&folder, "bypath.json", vec![entry("bypath", 1, 800_000)]);
    kept(&folder, "bypath-2.json", vec![entry("bypath", 1, 400_000)]);
    kept(&folder, "kernel-2.json", vec![entry("kernel", 1, 200_000)]);
    let report = joined(&folder, "kernel.json bypath.json bypath-2.json kernel-2.json");
    let rounds: Vec<_> = report
        .entries
        .iter()
        .map(|entry| (&entry.subject[..], entry.round))
        .collect();
    assert_eq!(rounds, [("kernel", 0), ("bypath", 0), ("bypath", 1), ("kernel", 1)]);
    let [ratio] = &report.ratios[..] else {
        panic!("{:?}", report.ratios)
    };
    assert_eq!(
        (&ratio.of[..], &ratio.to[..], &ratio.what[..]),
        ("bypath", "kernel", "received_pps")
    );
    assert_eq!((ratio.ratio.median, ratio.ratio.samples), (2.0, 2));
    // One alone stays as it is.
    assert_eq!(joined(&folder, "kernel.json").entries, [entry("kernel", 1, 400_000)]);
    // What was not called by a name is one subject, and that is said.
    let report = joined(&folder, "kernel.json kernel-2.json");
    assert!(report.ratios.is_empty(), "{:?}", report.ratios);
    let said = report
        .notes
        .iter()
        .filter(|note| note.starts_with("all runs are of kernel: no ratios; --subject-name"));
    assert_eq!(said.count(), 1, "{:?}", report.notes);
}

/// A report of searches: of what was sent, and how many frames a second.
fn searched(folder: &Path, name: &str, subject: &str, found: &[(Kind, &str, f64)]) {
    let mut report = Report::new("rfc2544", Default::default());
    report.entries = vec![entry(subject, 0, 400_000)];
    report.rfc2544 = found
        .iter()
        .map(|&(kind, size, throughput_pps)| bypath::bench::report::Rfc2544 {
            subject: subject.into(),
            kind: Some(kind),
            size: size.into(),
            throughput_pps,
            search: vec![(throughput_pps, 0.0)],
            ..Default::default()
        })
        .collect();
    fs::write(folder.join(name), serde_json::to_string(&report).expect("a report")).expect("room");
}

/// The median of each ratio by kind and size, and of how many runs it is.
fn medians(report: &Report) -> Vec<(Option<Kind>, &str, f64, u32)> {
    let ratios = report.ratios.iter();
    ratios
        .map(|ratio| (ratio.kind, &ratio.size[..], ratio.ratio.median, ratio.ratio.samples))
        .collect()
}

#[test]
fn runs_are_paired_by_their_place_whatever_they_found() {
    let folder = folder("places");
    // The first run of the kernel ended in the search of its second size: the second is no partner for bypath's first.
    searched(&folder, "1.json", "kernel", &[(Kind::Udp, "64", 1e6)]);
    searched(
        &folder,
        "2.json",
        "bypath",
        &[(Kind::Udp, "64", 3e6), (Kind::Udp, "128", 3e6)],
    );
    searched(
        &folder,
        "3.json",
        "bypath",
        &[(Kind::Udp, "64", 6e6), (Kind::Udp, "128", 2e6)],
    );
    searched(
        &folder,
        "4.json",
        "kernel",
        &[(Kind::Udp, "64", 2e6), (Kind::Udp, "128", 1e6)],
    );
    let report = joined(&folder, "1.json 2.json 3.json 4.json");
    assert_eq!(
        medians(&report),
        [(Some(Kind::Udp), "64", 3.0, 2), (Some(Kind::Udp), "128", 2.0, 1)]
    );
    let note = ", bypath to kernel, udp, size 128, flows 0: 1 run of bypath left out: kernel has none beside";
    assert!(report.notes.iter().any(|said| said == note), "{:?}", report.notes);
    // One that has the same work twice has two rounds, and so has each other.
    searched(
        &folder,
        "5.json",
        "kernel",
        &[(Kind::Udp, "64", 1e6), (Kind::Udp, "64", 2e6)],
    );
    searched(&folder, "6.json", "bypath", &[(Kind::Udp, "64", 5e6)]);
    searched(
        &folder,
        "7.json",
        "bypath",
        &[(Kind::Udp, "64", 8e6), (Kind::Udp, "64", 8e6)],
    );
    let report = joined(&folder, "5.json 6.json 7.json 4.json");
    let rounds: Vec<u32> = report.rfc2544.iter().map(|one| one.round).collect();
    assert_eq!(rounds, [0, 1, 0, 2, 3, 2, 2]);
    assert_eq!(medians(&report), [(Some(Kind::Udp), "64", 4.5, 2)]);
}

#[test]
fn runs_of_trials_are_paired_by_their_place_too() {
    let folder = folder("trials");
    let sized = |subject: &str, size, received| {
        let mut entry = entry(subject, 1, received);
        entry.work.size = Size::Bytes(size);
        entry
    };
    // The first run of the kernel was ended after its first size.
    kept(&folder, "1.json", vec![sized("kernel", 64, 100_000)]);
    kept(
        &folder,
        "2.json",
        vec![sized("bypath", 64, 300_000), sized("bypath", 128, 900_000)],
    );
    kept(
        &folder,
        "3.json",
        vec![sized("bypath", 64, 300_000), sized("bypath", 128, 200_000)],
    );
    kept(
        &folder,
        "4.json",
        vec![sized("kernel", 64, 100_000), sized("kernel", 128, 100_000)],
    );
    let report = joined(&folder, "1.json 2.json 3.json 4.json");
    assert_eq!(
        medians(&report),
        [(Some(Kind::Udp), "64", 3.0, 2), (Some(Kind::Udp), "128", 2.0, 1)]
    );
    let note = "route, bypath to kernel, udp, size 128, flows 1: 1 run of bypath left out: kernel has none beside";
    assert!(report.notes.iter().any(|said| said == note), "{:?}", report.notes);
}

#[test]
fn throughputs_of_other_kinds_of_frames_are_no_pair() {
    let folder = folder("kinds");
    searched(&folder, "tcp.json", "kernel", &[(Kind::TcpSyn, "connection", 1e5)]);
    searched(&folder, "udp.json", "bypath", &[(Kind::Udp, "connection", 9e5)]);
    let report = joined(&folder, "tcp.json udp.json");
    assert!(report.ratios.is_empty(), "{:?}", report.ratios);
    let left_out = report
        .notes
        .iter()
        .filter(|note| note.contains("1 run of") && note.contains("left out"));
    assert_eq!(left_out.count(), 2, "{:?}", report.notes);
    searched(&folder, "tcp-2.json", "bypath", &[(Kind::TcpSyn, "connection", 3e5)]);
    let report = joined(&folder, "tcp.json tcp-2.json");
    assert_eq!(medians(&report), [(Some(Kind::TcpSyn), "connection", 3.0, 1)]);
    let output = shell(&folder, "\"$0\" bench report tcp.json udp.json");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("tcp-syn  connection"), "{table}");
}

#[test]
fn searches_are_compared_run_by_run_and_what_differs_is_said() {
    let folder = folder("searches");
    for (name, subject, pps, kernel) in [
        ("1.json", "kernel", 1e6, "6.18"),
        ("2.json", "bypath", 3e6, "6.18"),
        ("3.json", "bypath", 1.5e6, "7.3"),
        ("4.json", "kernel", 0.5e6, "6.18"),
    ] {
        let mut report = Report::new("rfc2544", Default::default());
        report.provenance.kernel = kernel.into();
        report.provenance.commands = vec![format!("run {name}")];
        report.entries = vec![entry(subject, 0, 400_000), entry(subject, 0, 800_000)];
        report.rfc2544.push(bypath::bench::report::Rfc2544 {
            subject: subject.into(),
            size: "64".into(),
            throughput_pps: pps,
            ..Default::default()
        });
        fs::write(folder.join(name), serde_json::to_string(&report).expect("a report")).expect("room");
    }
    let report = joined(&folder, "1.json 2.json 3.json 4.json");
    let [ratio] = &report.ratios[..] else {
        panic!("{:?}", report.ratios)
    };
    assert_eq!(
        (&ratio.what[..], ratio.ratio.median, ratio.ratio.samples),
        ("throughput_pps", 3.0, 2)
    );
    let rounds: Vec<u32> = report.entries.iter().map(|entry| entry.round).collect();
    assert_eq!(rounds, [0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(report.provenance.commands.len(), 4);
    let note = "3.json: kernel 7.3, where the first report has 6.18".to_owned();
    assert!(report.notes.contains(&note), "{:?}", report.notes);
    // What is no pair is refused by one line.
    kept(&folder, "send.json", vec![entry("kernel", 1, 400_000)]);
    let output = shell(&folder, "\"$0\" bench report 1.json send.json");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(
        said,
        "bypath: error: send.json is of kind send, and 1.json of kind rfc2544: join reports of one kind\n"
    );
}

#[test]
fn pipes_and_standard_output_are_written_into() {
    let folder = folder("pipes");
    kept(&folder, "run.json", vec![entry("bypath", 1, 900_000)]);
    let right = fs::read_to_string(folder.join("run.json")).expect("a file");
    let right: Report = serde_json::from_str(&right).expect("a report");
    for line in [
        "\"$0\" bench report run.json --json /dev/stdout | sed -n '/^{/,$p'",
        "\"$0\" bench report run.json --json /dev/fd/3 3>&1 >/dev/null | cat",
        "\"$0\" bench report run.json --json /dev/stdout >out; cat out",
        "mkfifo pipe; \"$0\" bench report run.json --json pipe >/dev/null & cat pipe; wait",
        "\"$0\" bench report run.json --json -",
    ] {
        let output = shell(&folder, line);
        let found: Result<Report, _> = serde_json::from_slice(&output.stdout);
        assert_eq!(found.ok().as_ref(), Some(&right), "{line}: {output:?}");
    }
}
