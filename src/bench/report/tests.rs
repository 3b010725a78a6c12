//! Each form of a report, read back as those read it who it is for.

use super::files::{Form, files, is_replaced, save};
use super::*;
use crate::bench::latency::recorder;
use crate::bench::statistics;
use crate::bench::work::{Flows, Kind, Order, Rate, Size};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

fn delays(scale: u64) -> Latency {
    let mut histogram = recorder();
    (1..=10_000).for_each(|n| histogram.saturating_record(n * scale));
    Latency::of(&histogram)
}

fn entry(subject: &str, round: u32, rate: Rate, received: u64) -> Entry {
    let flows = Flows {
        count: 1000,
        order: Order::Zipf { exponent: 1.5 },
        new_per_second: 0,
    };
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Entry {
        case: "route".into(),
        subject: subject.into(),
        round,
        work: Work {
            kind: Kind::TcpSyn,
            size: Size::Bytes(64),
            flows,
            rate,
            duration: Duration::from_secs(2),
            seed: u64::from(round),
            src_mac: None,
            dst_mac: [2; 6],
            src: address,
            dst: address,
            dsts: 1,
            sport: 1024,
            dport: 9,
        },
        outcome: Outcome {
            wanted_pps: None,
            offered: 4_000_000,
            missed: 3,
            seconds: 2.0,
            received,
            lost: 4_000_000 - received,
            latency: Some(delays(u64::from(round) + 1)),
            cpu_ns_per_frame: Some(1234.5),
            ..Outcome::default()
        },
    }
}

/// A report that has some of everything.
fn sample() -> Report {
    let mut report = Report::new("lab", Provenance::collect(["veth"], "copy"));
    for round in 0..6 {
        report.entries.push(entry("kernel", round, Rate::Unpaced, 1_000_000));
        report
            .entries
            .push(entry("bypath", round, Rate::Unpaced, 3_000_000 + u64::from(round)));
    }
    report.entries.push(entry("bypath", 0, Rate::Paced(1e5), 4_000_000));
    report.ratios = statistics::ratios(&report.entries, "bypath", "kernel").ratios;
    report.own_error.push(OwnError {
        path: "veth".into(),
        outcome: report.entries[0].outcome.clone(),
    });
    report.rfc2544.push(Rfc2544 {
        case: "nat".into(),
        subject: "bypath".into(),
        round: 1,
        kind: Some(Kind::Icmp),
        size: "64".into(),
        flows: 1000,
        throughput_pps: 1_234_567.0,
        search: vec![(2e6, 0.25), (1_234_567.0, 0.0)],
        latency: vec![(0.5, delays(7)), (1.0, delays(9))],
        loss_curve: vec![(2e6, 0.25), (1.8e6, 0.000_02), (1.6e6, 0.0)],
        back_to_back: vec![10, 12, 11],
        notes: vec!["said of it".into()],
    });
    report.notes.push("said of all".into());
    report
}

#[test]
fn json_comes_back_as_it_was() {
    let report = sample();
    let text = json::text(&report).unwrap();
    assert_eq!(json::read("r.json", &text).unwrap(), report);
    assert!(text.ends_with("}\n"));
    // One of before frames that were left out were counted.
    let older = json::read("r.json", &text.replace("\"missed\": 3,", "")).unwrap();
    assert_eq!(
        (report.entries[0].outcome.missed, older.entries[0].outcome.missed),
        (3, 0)
    );
    // One of before kinds were told apart.
    let kinds = text.replace("\"kind\": \"icmp\",", "");
    assert_eq!(json::read("r.json", &kinds).unwrap().rfc2544[0].kind, None);
}

#[test]
fn json_of_another_version_or_of_something_else_is_refused_by_name() {
    let newer = json::read("r.json", r#"{"version": 99, "kinds": {}}"#).unwrap_err();
    assert!(
        newer.contains("r.json has version 99 of the report, and this bypath reads 1"),
        "{newer}"
    );
    for other in ["", "[1]", "{}", r#"{"version": 1}"#] {
        let error = json::read("r.json", other).unwrap_err();
        assert!(error.starts_with("r.json is no report of bypath bench"), "{error}");
        assert!(!error.contains('\n'));
    }
}

#[test]
fn csv_has_a_row_for_each_trial_and_each_conclusion_with_nothing_rounded() {
    let mut report = sample();
    report.entries[1].subject = "peer, \"odd\"\nname".into();
    let text = csv::text(&report).unwrap();
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().unwrap().clone();
    let rows: Vec<::csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let get =
        |row: &::csv::StringRecord, name: &str| row[head.iter().position(|column| column == name).unwrap()].to_owned();
    let of = |record: &str| rows.iter().filter(|row| &row[0] == record).collect::<Vec<_>>();
    let counts = [
        "trial",
        "own-error",
        "ratio",
        "throughput",
        "search",
        "latency",
        "loss",
        "burst",
    ]
    .map(|r| of(r).len());
    assert_eq!(counts, [13, 1, report.ratios.len(), 1, 2, 2, 3, 3]);
    assert_eq!(rows.len(), counts.iter().sum::<usize>(), "no other rows");

    let odd = of("trial")[1];
    assert_eq!(get(odd, "subject"), "peer, \"odd\"\nname");
    let names = [
        "kind",
        "size",
        "order",
        "round",
        "wanted_pps",
        "missed",
        "received",
        "received_pps",
        "loss",
        "cpu_ns_per_frame",
    ];
    let cells = [
        "tcp-syn",
        "64",
        "zipf:1.5",
        "0",
        "",
        "3",
        "3000000",
        "1500000.0",
        "0.25",
        "1234.5",
    ];
    assert_eq!(names.map(|name| get(odd, name)), cells);
    assert_eq!(get(of("trial")[12], "wanted_pps"), "100000.0");
    assert_eq!(get(of("throughput")[0], "value"), "1234567.0");
    assert_eq!(
        ["ratio", "throughput"].map(|r| get(of(r)[0], "kind")),
        ["tcp-syn", "icmp"]
    );
    assert_eq!(get(of("loss")[1], "loss"), "0.00002");
    let exact: f64 = get(of("ratio")[0], "low").parse().unwrap();
    assert_eq!(exact, report.ratios[0].ratio.low);
}

#[test]
fn the_table_lines_up_and_leaves_out_what_nothing_was_measured_of() {
    let text = table::text(&sample());
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| *line == "Results").unwrap();
    let [head, kernel, bypath, paced] = [1, 2, 3, 4].map(|n| lines[at + n]);
    for word in ["case", "subject", "received/s", "p99.9", "CPU ns/frame"] {
        assert!(head.contains(word), "{head}");
    }
    assert!(!head.contains("reordered") && !head.contains("foreign"), "{head}");
    assert!(
        kernel.contains("500.0k [500.0k, 500.0k]") && kernel.contains("75.00 %"),
        "{kernel}"
    );
    assert!(
        bypath.contains("1.500M [1.500M, 1.500M]") && bypath.contains("25.00 %"),
        "{bypath}"
    );
    assert!(
        paced.contains("100.0k") && paced.contains("2.000M ") && !paced.contains("2.000M ["),
        "{paced}"
    );
    // Words begin, numbers end in one column.
    let column = |line: &str, cell: &str| line.find(cell).unwrap();
    assert_eq!(column(head, "subject"), column(kernel, "kernel"));
    assert_eq!(column(kernel, "75.00 %") + 7, column(head, "loss") + 4);
    for said in [
        "note: sizes are bytes in memory",
        "note: said of all",
        "note: nat, bypath, size 64: said of it",
        "nat   bypath   icmp  64",
        "1.235M",
        "20.0 ppm",
        "10  11.0",
        "machine ",
    ] {
        assert!(text.contains(said), "{said} in\n{text}");
    }
}

#[test]
fn a_round_that_failed_is_seen_in_what_was_lost_and_in_the_longest_delay() {
    let mut report = sample();
    report
        .entries
        .retain(|entry| entry.subject == "bypath" && entry.work.rate == Rate::Unpaced);
    for entry in &mut report.entries {
        (entry.outcome.received, entry.outcome.lost) = (4_000_000, 0);
    }
    // One of six rounds lost a tenth, and waited a second.
    let failed = &mut report.entries[2].outcome;
    (failed.received, failed.lost) = (3_600_000, 400_000);
    failed.latency.as_mut().unwrap().max_ns = 1_000_000_000;
    let grids = grid::grids(&report);
    let cell = |name: &str| {
        let at = grids[0].head.iter().position(|column| column.name == name).unwrap();
        grids[0].rows[0][at].clone()
    };
    assert_eq!(
        (cell("loss").as_str(), cell("max").as_str()),
        ("1.67 % in 1 of 6 rounds", "1.00 s")
    );
    report.rfc2544.clear();
    let page = html::text(&report);
    let results = page.split("<table class=\"results\">").nth(1).unwrap();
    let results = results.split("</table>").next().unwrap();
    assert!(
        results.contains("lost in 1 of 6 rounds") && results.contains(">1.00 s<"),
        "{results}"
    );
}

#[test]
fn delays_of_the_measurement_itself_are_the_paced_ones_or_said_to_be_none_of_these() {
    let mut report = sample();
    let page = html::text(&report);
    assert!(
        page.contains("the measurement itself (veth, unpaced, so of full queues)"),
        "{page}"
    );
    let mut paced = report.own_error[0].clone();
    (paced.path, paced.outcome.wanted_pps) = ("veth, at 100k/s".into(), Some(1e5));
    report.own_error.push(paced);
    let page = html::text(&report);
    assert!(page.contains("the measurement itself (veth, at 100k/s)"), "{page}");
}

#[test]
fn rounds_with_other_addresses_are_of_one_row() {
    let mut report = sample();
    for (n, entry) in report.entries.iter_mut().enumerate() {
        entry.work.dst_mac[5] = n as u8;
    }
    assert_eq!(grid::groups(&report.entries).len(), 3);
    report.entries[0].work.flows.count = 7;
    assert_eq!(grid::groups(&report.entries).len(), 4);
}

#[test]
fn the_trials_of_a_search_are_no_results() {
    let mut report = sample();
    report.kind = "rfc2544".into();
    report.entries[0].outcome.notes.push("of a step".into());
    for text in [table::text(&report), markdown::text(&report)] {
        assert!(!text.contains("Results") && text.contains("Throughput"), "{text}");
        assert!(!text.contains("of a step"), "{text}");
    }
}

#[test]
fn no_word_of_a_report_becomes_a_mark_or_a_command_of_the_terminal() {
    let mut report = sample();
    let odd = "a|b `c` *d* <script> [x](y)\n\x1b[2J";
    report.entries[0].subject = odd.into();
    report.notes.push(odd.into());
    report.provenance.commands.push("peer ``x`` | y\n".into());
    let shown = table::text(&report);
    assert!(!shown.contains('\x1b') && shown.contains("?[2J"), "{shown}");

    let text = markdown::text(&report);
    assert!(!text.contains('\x1b') && !text.contains("<script>"), "{text}");
    assert!(text.contains(r"a\|b \`c\` \*d\* &lt;script&gt; \[x\](y)"), "{text}");
    assert!(text.contains("- command: ``` peer ``x`` | y  ```"), "{text}");
    // Each row of a table has as many cells as its head.
    let mut cells = None;
    for line in text.lines() {
        let here = line
            .starts_with('|')
            .then(|| line.replace(r"\|", "").matches('|').count());
        assert!(here.is_none() || cells.is_none() || here == cells, "{line}");
        cells = here;
    }
}

/// Reads `.hgrm` as HdrHistogram's plotter does: lines of four words are points, value and 1 / (1 - share).
fn plotted(text: &str) -> Vec<(f64, f64)> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        let numbers = (words.len() == 4 && !line.starts_with('#')).then(|| (words[0].parse(), words[3].parse()));
        match numbers {
            Some((Ok(value), Ok(scale))) => Some((value, scale)),
            _ => None,
        }
    };
    text.lines().map(str::trim).filter_map(line).collect()
}

#[test]
fn percentiles_are_read_by_the_plotter_and_rise_to_the_longest() {
    // 1, 2, ... 10,000 microseconds: the share of each value is known.
    let text = hgrm::text(&delays(1000)).unwrap();
    let points = plotted(&text);
    assert!(points.len() > 40, "{text}");
    assert!(points.windows(2).all(|w| w[0].0 <= w[1].0 && w[0].1 < w[1].1), "{text}");
    for &(value, scale) in &points {
        let share = 1.0 - 1.0 / scale;
        // Three digits of the value, two decimals of the scale.
        let right = (share * 10_000.0).max(1.0);
        assert!(
            (value - right).abs() <= right * 0.002 + 10_000.0 * 0.006 / (scale * scale) + 1.0,
            "{value} for {right}"
        );
    }
    let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
    let words: Vec<&str> = last.split_whitespace().collect();
    assert_eq!((words.len(), words[1], words[2]), (3, "1.000000000000", "10000"));
    assert!(
        text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"),
        "{text}"
    );
    for tail in [
        "#[Mean    =     500",
        "Total count    =        10000]",
        "SubBuckets     =         2048]",
    ] {
        assert!(text.contains(tail), "{tail} in\n{text}");
    }
    assert!(plotted(&hgrm::text(&Latency::of(&recorder())).unwrap()).is_empty());
}

#[test]
fn the_interval_log_gives_back_each_distribution_by_its_tag() {
    let report = sample();
    let text = hgrm::log(&report).unwrap();
    assert!(text.starts_with("#[Logged by bypath bench"), "{text}");
    assert!(text.contains("\n#[Histogram log format version 1.3]\n"), "{text}");
    let mut found = Vec::new();
    let mut starts = 0;
    for event in IntervalLogIterator::new(text.as_bytes()) {
        match event.unwrap() {
            LogEntry::Interval(interval) => {
                let bytes = STANDARD.decode(interval.encoded_histogram()).unwrap();
                let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
                found.push((
                    interval.tag().unwrap().as_str().to_owned(),
                    interval.start_timestamp(),
                    histogram,
                ));
            }
            LogEntry::StartTime(time) | LogEntry::BaseTime(time) => {
                assert_eq!(time.as_secs(), report.provenance.started);
                starts += 1;
            }
        }
    }
    assert_eq!((found.len(), starts), (2 + 13, 2));
    assert_eq!(found[0].0, "rfc2544_nat_bypath_64_1000_50pct");
    assert_eq!(found[0].2, delays(7).histogram().unwrap());
    let (tag, start, histogram) = &found[3];
    assert_eq!((tag.as_str(), start.as_secs()), ("route_bypath_64_1000_max_0", 2));
    assert_eq!(*histogram, delays(1).histogram().unwrap());
}

#[test]
fn a_file_of_percentiles_is_made_for_each_distribution_and_none_twice() {
    let mut report = sample();
    report.entries[2] = report.entries[0].clone();
    report.entries[4].subject = "../../etc/odd name,x".into();
    let all = files(&report, Form::Hgrm, Path::new("/tmp/out/run.hgrm")).unwrap();
    let names: Vec<&str> = all.iter().map(|(path, _)| path.to_str().unwrap()).collect();
    assert_eq!(names.len(), 15);
    assert_eq!(names[2], "/tmp/out/run-route_kernel_64_1000_max_0.hgrm");
    assert_eq!(names[4], "/tmp/out/run-route_kernel_64_1000_max_0_2.hgrm");
    assert_eq!(names[6], "/tmp/out/run-route_..-..-etc-odd-name-x_64_1000_max_2.hgrm");
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len());

    report.rfc2544.clear();
    report.entries.truncate(1);
    let one = files(&report, Form::Hgrm, Path::new("run.txt")).unwrap();
    assert_eq!(one[0].0, Path::new("run.txt"));
    report.entries.clear();
    let error = files(&report, Form::Hgrm, Path::new("run.txt")).unwrap_err();
    assert!(
        error.contains("no delays were taken, run.txt would be empty"),
        "{error}"
    );
}

#[test]
fn what_is_no_file_is_written_into() {
    let error = save(Path::new("/dev/full"), "text").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    assert!(is_replaced(Path::new("/nowhere")) && !is_replaced(Path::new("/dev/full")));
}

#[test]
fn an_empty_report_has_every_form_but_delays() {
    let report = Report::new("send", Provenance::default());
    for form in [Form::Table, Form::Json, Form::Csv, Form::Markdown, Form::Hlog] {
        let made = files(&report, form, Path::new("x")).unwrap();
        assert_eq!(made.len(), 1, "{form:?}");
    }
}
