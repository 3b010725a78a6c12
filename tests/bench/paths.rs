//! Paths that lose nothing: every frame is counted once, whatever it is and whoever makes it, behind a router and NAT too.

use crate::lab::namespace::Namespace;
use crate::net::{Between, bench, outcome, plain, report, scratch};
use bypath::bench::outcome::Outcome;
use bypath::bench::report::{Entry, Report};

/// Nothing was lost, repeated, reordered or damaged; the delays are those of all frames. How many were sent of those that were
/// asked for is the machine's.
fn assert_whole(of: &Outcome, asked: u64) {
    assert!(
        of.offered > 0 && of.offered <= asked + asked / 20,
        "{asked} were asked for: {of:?}"
    );
    assert_eq!(
        (of.lost, of.duplicated, of.corrupted, of.reordered),
        (0, 0, 0, 0),
        "{of:?}"
    );
    assert_eq!(of.received, of.offered);
    let latency = of.latency.as_ref().expect("each frame tells when it was sent");
    assert_eq!(latency.count, of.received, "{of:?}");
    assert!(latency.min_ns > 0 && latency.min_ns <= latency.p50_ns && latency.p50_ns <= latency.max_ns);
}

#[test]
fn a_plain_pair_loses_nothing_by_either_source() {
    let here = plain();
    for source in ["live", "xsk"] {
        let of = outcome(
            &here,
            &format!("--port x0 --port y0 --source {source} --rate 10k --seconds 1 --flows 100"),
        );
        assert_whole(&of, 10_000);
        assert_eq!((of.foreign, of.wanted_pps), (0, Some(10_000.0)));
        assert!(of.cpu_ns_per_frame.is_some_and(|ns| ns > 0.0));
    }
}

#[test]
fn every_kind_size_and_family_is_known_again() {
    let here = plain();
    let mut kinds = Vec::new();
    for kind in ["udp", "tcp-syn", "tcp-ack", "icmp"] {
        kinds.extend([format!("--kind {kind}"), format!("--kind {kind} -6 --size 128")]);
    }
    kinds.extend([
        "--size imix --order random --flows 1000".into(),
        "--size 1514 --order zipf --flows 50".into(),
    ]);
    for flags in kinds {
        let of = outcome(&here, &format!("--port x0 --port y0 --rate 5k --seconds 0.4 {flags}"));
        assert_whole(&of, 2000);
    }
}

#[test]
fn a_sink_that_counts_sees_the_same_frames() {
    let here = plain();
    let of = outcome(&here, "--port x0 --port y0 --rate 10k --seconds 1 --sink count");
    assert_eq!((of.received, of.lost, of.duplicated), (of.offered, 0, 0));
    assert!(of.offered > 0 && of.latency.is_none(), "{of:?}");
}

#[test]
fn a_router_is_passed_with_its_neighbours_unresolved_and_its_hop_taken() {
    let net = Between::routed();
    let of = outcome(
        &net.client,
        &format!("{} --rate 2k --seconds 1 --flows 10", net.by_router()),
    );
    // The first frames wait for the server's address; the queue for them is long enough.
    assert_whole(&of, 2000);
}

#[test]
fn nat_is_passed() {
    let net = Between::routed();
    net.rules(
        "table ip nat {\n\
           chain pre { type nat hook prerouting priority dstnat\n ip daddr 10.9.0.1 dnat to 10.2.0.2\n }\n\
           chain post { type nat hook postrouting priority srcnat\n oifname \"d1\" masquerade\n }\n}\n",
    );
    for kind in ["udp", "icmp"] {
        let flags = net.by_router().replace("--dst 10.2.0.2", "--dst 10.9.0.1");
        let of = outcome(
            &net.client,
            &format!("{flags} --kind {kind} --rate 2k --seconds 1 --flows 20"),
        );
        assert_whole(&of, 2000);
    }
    let masqueraded = net.between.run("cat /proc/net/stat/nf_conntrack");
    assert!(!masqueraded.is_empty(), "nothing was tracked");
}

#[test]
fn a_report_has_the_own_error_and_comes_in_its_forms() {
    let here = plain();
    let json = scratch("report.json");
    let said = bench(
        &here,
        &format!(
            "--port x0 --port y0 --rate 5k --seconds 0.5 --size 64,256 --subject-name kernel --case-name nat --json {}",
            json.display()
        ),
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let text = std::fs::read_to_string(&json).expect("the report was written");
    let _ = std::fs::remove_file(&json);
    let report: Report = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (report.kind.as_str(), report.entries.len(), report.own_error.len()),
        ("send", 2, 4)
    );
    let named = |entry: &Entry| (&entry.subject[..], &entry.case[..]) == ("kernel", "nat");
    assert!(report.entries.iter().all(named), "{:?}", report.entries);
    // Nothing but what a size is.
    assert_eq!(report.notes, [bypath::bench::report::units::SIZES]);
    let paths: Vec<&str> = report.own_error.iter().map(|own| own.path.as_str()).collect();
    assert_eq!(paths, ["veth, 64", "wire, 64", "veth, 256", "wire, 256"]);
    for own in &report.own_error {
        assert_whole(&own.outcome, 2500);
    }
    assert!(report.provenance.driver.contains("veth") && report.provenance.commands[0].contains("bench"));
    assert!(
        said.stdout.contains("veth"),
        "a table without the own error: {}",
        said.stdout
    );
    let left = here.run("ip -o link");
    assert!(!left.contains("bypath") && !left.contains("xdp"), "{left}");
}

#[test]
fn progress_is_a_line_a_second_where_nobody_watches() {
    let here = plain();
    let said = bench(&here, "--port x0 --port y0 --rate 1k --seconds 2.5 --no-own-error");
    let lines: Vec<&str> = said.stderr.lines().filter(|line| line.contains("of 2.5 s: ")).collect();
    assert_eq!(lines.len(), 2, "{}", said.stderr);
    assert!(!said.stderr.contains('\r'), "{}", said.stderr);
}

#[test]
fn ctrl_c_ends_a_trial_and_what_was_measured_is_reported() {
    let here = plain();
    let words = "--port x0 --port y0 --rate 1k --seconds 600 --no-own-error --json -";
    let mut command = std::process::Command::new("timeout");
    command.args([
        "--preserve-status",
        "-s",
        "INT",
        "2",
        crate::lab::bypath::BINARY,
        "bench",
    ]);
    command.args(words.split(' '));
    let output = here.enter(|| command.output().expect("timeout"));
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: Report = serde_json::from_slice(&output.stdout).expect("JSON");
    let of = &report.entries[0].outcome;
    assert!(of.offered > 0 && of.lost == 0, "{of:?}");
    assert!(
        of.notes
            .iter()
            .any(|note| note.starts_with("this trial was ended after ")),
        "{of:?}"
    );
}

#[test]
fn the_lines_of_a_namespace_by_name_and_process_are_one() {
    let here = plain();
    let by_path: fn(&Namespace) -> String = |here| format!("--port {}:x0 --port y0", here.path());
    let all = report(
        &here,
        &format!("{} --rate 1k --seconds 0.3 --no-own-error", by_path(&here)),
    );
    assert_eq!(all.entries[0].outcome.lost, 0);
}
