//! `bypath bench rfc2544`, the whole of it, through a router that forwards a known number of frames per second and drops
//! what is above: nftables' token bucket. So the right answers are known whatever this machine is worth: the throughput is
//! the bucket's rate, a loss is what is above it, the longest burst is what it holds. Tolerances are wide, since trials are
//! short.

use crate::net::{Between, bench, refusal, scratch};
use bypath::bench::report::{Report, json};

/// What the router lets through, frames per second.
const LIMIT_PPS: f64 = 20_000.0;
/// What it lets through at once.
const BURST: u64 = 500;

fn limited(rule: &str) -> Between {
    let net = Between::routed();
    let neighbor = net.mac_of(&net.server, "s0");
    net.between.run(&format!(
        "ip neigh replace 10.2.0.2 lladdr {neighbor} dev d1 nud permanent"
    ));
    net.rules(&format!(
        "table ip bound {{ chain forward {{ type filter hook forward priority 0; policy drop;\n{rule}\n}}; }}\n"
    ));
    net
}

#[test]
fn the_rate_of_a_limit_is_found_and_its_loss_and_its_burst() {
    let net = limited(&format!("limit rate {LIMIT_PPS}/second burst {BURST} packets accept;"));
    let files = ["r.json", "r.csv", "r.hgrm"].map(scratch);
    let [json_file, csv, hgrm] = &files;
    let said = bench(
        &net.client,
        &format!(
            "rfc2544 {} --size 64 --seconds 0.5 --max-rate 80k --resolution 0.02 --accepted-loss 0.1 --retry 2 \
             --shares 50 --loss-step 25 --repeat 2 --json {} --csv {} --hgrm {}",
            net.by_router(),
            json_file.display(),
            csv.display(),
            hgrm.display()
        ),
    );
    let (out, err) = (&said.stdout, &said.stderr);
    assert_eq!(said.code, Some(0), "{out}\n{err}");
    let [json_text, csv_text, hgrm_text] = files.map(|file| {
        let text = std::fs::read_to_string(&file).expect("a file of the report");
        let _ = std::fs::remove_file(&file);
        text
    });
    let report: Report = json::read("r.json", &json_text).unwrap();
    let [result] = &report.rfc2544[..] else {
        panic!("{out}\n{err}");
    };

    // What the bucket holds at the beginning comes on top of the rate: 5 % of half a second.
    let pps = result.throughput_pps;
    assert!(
        pps > 0.0 && pps < 1.15 * LIMIT_PPS,
        "{pps} for {LIMIT_PPS}\n{out}\n{err}"
    );
    // A machine that has no time for the source says so, and shows only the upper bounds.
    let starved = result.notes.iter().any(|note| note.contains("were asked for"));
    if starved {
        println!(
            "SKIPPED what needs the source to reach its rates: this machine is too busy: {:?}",
            result.notes
        );
    } else {
        assert!(pps > 0.7 * LIMIT_PPS, "{pps} for {LIMIT_PPS}\n{out}\n{err}");
        assert_eq!(result.back_to_back.len(), 2, "{out}\n{err}");
    }
    for line in ["64 bytes, throughput: ", "64 bytes, latency: ", "64 bytes, loss: "] {
        assert!(err.contains(line), "{line} in\n{err}");
    }

    // The loss at 80k, 60k, 40k and 20k is what is above the limit.
    assert!(result.loss_curve.len() >= 2, "{:?}\n{out}", result.loss_curve);
    for &(offered, loss) in &result.loss_curve {
        let right = (1.0 - LIMIT_PPS / offered).max(0.0);
        assert!(
            starved || (loss - right).abs() < 0.15,
            "{loss} for {right} at {offered}\n{out}\n{err}"
        );
    }

    let [(share, delays)] = &result.latency[..] else {
        panic!("{:?}\n{out}", result.latency);
    };
    assert_eq!(*share, 0.5);
    assert!(
        delays.count > 0 && delays.min_ns > 0 && delays.min_ns <= delays.p50_ns,
        "{delays:?}"
    );

    // Nothing but the bucket holds frames back; the accepted loss of 0.1 % is less than a frame of these.
    for &frames in &result.back_to_back {
        assert!(
            starved || (BURST * 7 / 10..BURST * 2).contains(&frames),
            "{frames} for {BURST}\n{out}\n{err}"
        );
    }

    // What the measurement itself gets wrong: by a pair alone, and through the least of forwarders.
    let own: Vec<&str> = report.own_error.iter().map(|own| &own.path[..]).collect();
    assert_eq!(own[..2], ["veth, 64", "wire, 64"], "{own:?}\n{err}");

    // All of it in the other forms.
    for part in [
        "Throughput (RFC",
        "Latency (RFC",
        "Frame loss (RFC",
        "The measurement itself",
    ] {
        assert!(out.contains(part), "{part} in\n{out}");
    }
    assert!(csv_text.starts_with("record,case,subject,"), "{csv_text}");
    let trials = csv_text.lines().filter(|row| row.starts_with("trial,path,"));
    assert_eq!(trials.count(), report.entries.len());
    let total = format!("Total count    = {:12}]", delays.count);
    assert!(hgrm_text.contains(&total), "{hgrm_text}");
}

#[test]
fn a_router_that_drops_everything_is_one_line() {
    let net = limited("counter;");
    let words = format!(
        "rfc2544 {} --size 64 --seconds 0.5 --max-rate 10k --no-own-error",
        net.by_router()
    );
    let line = refusal(&net.client, &words, 1);
    assert!(line.contains("received none"), "{line}");
}

#[test]
fn a_plan_that_cannot_be_is_refused_before_anything_is_sent() {
    let net = limited("accept;");
    let words = format!("rfc2544 {} --max-rate 500 --min-rate 1k", net.by_router());
    let line = refusal(&net.client, &words, 2);
    assert!(
        line.contains("the highest rate, 500, is not above the lowest, 1000"),
        "{line}"
    );
}
