//! The interval is tried on samples of which the median is known.

use super::super::outcome::Latency;
use super::super::work::{Order, Work};
use super::*;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const RUNS: u32 = 20_000;

/// In how many of [`RUNS`] runs of `n` samples the interval has `truth` in it, as a share.
fn coverage(n: usize, truth: f64, sample: impl Fn(&mut ChaCha8Rng) -> f64) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(n as u64);
    let held = (0..RUNS).filter(|_| {
        let values: Vec<f64> = (0..n).map(|_| sample(&mut rng)).collect();
        let found = interval(&values).unwrap();
        assert!(found.low <= found.median && found.median <= found.high);
        found.low <= truth && truth <= found.high
    });
    f64::from(held.count() as u32) / f64::from(RUNS)
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    // Irwin and Hall: twelve evens are a normal, near enough.
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}

#[test]
fn few_samples_that_vary_by_factors_hold_the_median_in_95_of_100_runs() {
    for n in 2..ENOUGH {
        let share = coverage(n, 1.7, |rng| 1.7 * (0.2 * normal(rng)).exp());
        assert!((0.94..0.96).contains(&share), "{share} of {n} samples");
    }
}

#[test]
fn many_samples_hold_the_median_in_95_of_100_runs_however_skewed_they_are() {
    for n in [6, 7, 9, 11, 20, 51] {
        let skewed = coverage(n, 2f64.ln(), |rng| -(1.0 - rng.random::<f64>()).ln());
        let with_outliers = coverage(n, 0.5, |rng| match rng.random::<f64>() {
            far if far > 0.8 => far * 1e6,
            near => near,
        });
        for share in [skewed, with_outliers] {
            assert!((0.945..0.995).contains(&share), "{share} of {n} samples");
        }
    }
}

#[test]
fn ranks_are_those_of_the_tables_of_the_sign_test() {
    // Of n samples the k-th and the k-th from the end; from the published tables for 95 %.
    for (n, k) in [
        (6, 1),
        (8, 1),
        (9, 2),
        (11, 2),
        (12, 3),
        (15, 4),
        (20, 6),
        (25, 8),
        (100, 40),
    ] {
        assert_eq!(sign_test_rank(n), k, "{n} samples");
    }
    assert!(sign_test_rank(5000) > 2400 && sign_test_rank(5000) < 2440);
}

#[test]
fn one_sample_has_no_interval_and_none_no_median() {
    let one = interval(&[3.0]).unwrap();
    assert_eq!((one.low, one.median, one.high, one.samples), (3.0, 3.0, 3.0, 1));
    assert_eq!(interval(&[]), None);
    assert_eq!(median(&[f64::NAN, f64::INFINITY]), None);
}

#[test]
fn the_median_is_the_middle_or_between_both_middles() {
    assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median(&[9.0, 1.0, 2.0, f64::NAN, 4.0]), Some(3.0));
}

#[test]
fn samples_that_are_zero_or_wildly_apart_still_give_numbers() {
    for values in [&[0.0, 1.0][..], &[-1.0, 0.0, 4.0], &[1e-300, 1e300], &[2.0, 2.0, 2.0]] {
        let found = interval(values).unwrap();
        assert!(found.low.is_finite() && found.high.is_finite(), "{values:?}: {found:?}");
    }
}

fn entry(subject: &str, round: u32, rate: Rate, received: u64, p99_ns: u64) -> Entry {
    let flows = Flows {
        count: 1000,
        order: Order::RoundRobin,
        new_per_second: 0,
    };
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Entry {
        case: "route".into(),
        subject: subject.into(),
        round,
        work: Work {
            kind: Kind::Udp,
            size: Size::Bytes(64),
            flows,
            rate,
            duration: Duration::from_secs(1),
            seed: 1,
            src_mac: None,
            dst_mac: [2; 6],
            src: address,
            dst: address,
            dsts: 1,
            sport: 1024,
            dport: 9,
        },
        outcome: Outcome {
            offered: 4_000_000,
            seconds: 1.0,
            received,
            lost: 4_000_000 - received,
            latency: Some(Latency {
                count: received,
                p99_ns,
                ..Latency::default()
            }),
            ..Outcome::default()
        },
    }
}

#[test]
fn a_disturbance_that_meets_both_of_a_round_cancels() {
    // Each round half as fast as the one before; the second subject always 1.5 times the first, give or take.
    let mut entries = Vec::new();
    for round in 0..7u32 {
        let kernel = 1_000_000 >> round;
        let noise = [1.49, 1.51, 1.5, 1.5, 1.48, 1.52, 1.5][round as usize];
        entries.push(entry("kernel", round, Rate::Unpaced, kernel, 0));
        entries.push(entry("bypath", round, Rate::Unpaced, (kernel as f64 * noise) as u64, 0));
    }
    // A round that only one was measured in, and a third subject, count for nothing.
    entries.push(entry("bypath", 7, Rate::Unpaced, 4_000_000, 0));
    entries.push(entry("wire", 0, Rate::Unpaced, 4_000_000, 0));
    let found = ratios(&entries, "bypath", "kernel");
    assert_eq!(
        found.alone,
        ["route, bypath to kernel, udp, size 64, flows 1000: 1 run of bypath left out: kernel has none beside"]
    );
    let found = found.ratios;
    let [ratio] = &found[..] else { panic!("{found:?}") };
    assert_eq!((ratio.what.as_str(), ratio.wanted_pps), ("received_pps", None));
    assert_eq!(ratio.kind, Some(Kind::Udp));
    assert_eq!(
        (ratio.case.as_str(), ratio.size.as_str(), ratio.flows),
        ("route", "64", 1000)
    );
    assert_eq!((ratio.of.as_str(), ratio.to.as_str()), ("bypath", "kernel"));
    assert_eq!(ratio.ratio.samples, 7);
    assert!((ratio.ratio.median - 1.5).abs() < 0.001, "{ratio:?}");
    assert!(ratio.ratio.low > 1.47 && ratio.ratio.high < 1.53, "{ratio:?}");
}

#[test]
fn a_round_of_which_a_trial_does_not_count_is_left_out_and_that_is_said() {
    let mut entries = Vec::new();
    for round in 0..6 {
        entries.push(entry("kernel", round, Rate::Unpaced, 1_000_000, 0));
        entries.push(entry("bypath", round, Rate::Unpaced, 2_000_000, 0));
    }
    let count = |entries: &[Entry]| {
        let found = ratios(entries, "bypath", "kernel");
        let [ratio] = &found.ratios[..] else {
            panic!("{found:?}")
        };
        assert_eq!(ratio.ratio.median, 2.0);
        (ratio.ratio.samples, found.notes.join("; "))
    };
    assert_eq!(count(&entries), (6, String::new()));
    for (at, received) in [(4, 17), (9, 4_000_000)] {
        (entries[at].outcome.void, entries[at].outcome.received) = (true, received);
    }
    let (samples, notes) = count(&entries);
    assert_eq!(samples, 4);
    assert_eq!(
        notes,
        "route, bypath to kernel, udp, size 64, flows 1000: 2 rounds left out, of which a trial does not count (its clock)"
    );
}

#[test]
fn rates_are_not_mixed_and_only_paced_trials_compare_delays_and_unpaced_ones_cpu_time() {
    let mut entries = Vec::new();
    let cpu = |mut entry: Entry, ns| {
        entry.outcome.cpu_ns_per_frame = Some(ns);
        entry
    };
    for round in 0..6 {
        for (rate, kernel_ns, bypath_ns) in [(Rate::Paced(1e5), 10_000, 5_000), (Rate::Paced(1e6), 10_000, 20_000)] {
            // Two cores that spin, at ten times the rate a tenth for each frame: that is no number of theirs.
            entries.push(cpu(entry("kernel", round, rate, 1000, kernel_ns), 5_000.0));
            entries.push(cpu(entry("bypath", round, rate, 1000, bypath_ns), 20_000.0));
        }
        entries.push(cpu(entry("kernel", round, Rate::Unpaced, 1000, 1), 1_000.0));
        entries.push(cpu(entry("bypath", round, Rate::Unpaced, 2000, 1), 1_500.0));
    }
    let found: Vec<(String, Option<f64>, f64)> = ratios(&entries, "bypath", "kernel")
        .ratios
        .into_iter()
        .map(|ratio| (ratio.what, ratio.wanted_pps, ratio.ratio.median))
        .collect();
    // The 50th and 99.9th percentiles are 0 in these entries: nothing to divide by.
    let right = [
        ("p99_ns", Some(1e5), 0.5),
        ("p99_ns", Some(1e6), 2.0),
        ("received_pps", None, 2.0),
        ("cpu_ns_per_frame", None, 1.5),
    ];
    assert_eq!(found, right.map(|(what, pps, ratio)| (what.to_owned(), pps, ratio)));
}

#[test]
fn throughputs_are_compared_like_with_like() {
    let one = |subject: &str, round, flows, pps| Rfc2544 {
        case: "nat".into(),
        subject: subject.into(),
        round,
        kind: Some(Kind::Udp),
        size: "64".into(),
        flows,
        throughput_pps: pps,
        ..Rfc2544::default()
    };
    let results = [
        one("kernel", 0, 1, 1e6),
        one("bypath", 0, 1, 2e6),
        // The second search of bypath found nothing.
        one("kernel", 1, 1, 7e6),
        one("kernel", 2, 1, 2e6),
        one("bypath", 2, 1, 4e6),
        one("kernel", 0, 1000, 1e6),
        one("bypath", 0, 1000, 0.0),
        one("bypath", 0, 7, 1.0),
        // Another kind of frames is another work.
        Rfc2544 {
            kind: Some(Kind::TcpSyn),
            ..one("bypath", 1, 1, 1e6)
        },
    ];
    let found = throughput_ratios(&results, "bypath", "kernel");
    // The one without a throughput is no ratio, and not forgotten.
    assert_eq!(
        found.notes,
        ["nat, bypath to kernel, udp, size 64, flows 1000, throughput_pps: 1 of 1 rounds without a rate: no ratio"]
    );
    assert_eq!(
        found.alone,
        [
            "nat, bypath to kernel, udp, size 64, flows 1: 1 run of kernel left out: bypath has none beside",
            "nat, bypath to kernel, udp, size 64, flows 7: 1 run of bypath left out: kernel has none beside",
            "nat, bypath to kernel, tcp-syn, size 64, flows 1: 1 run of bypath left out: kernel has none beside",
        ]
    );
    let [ratio] = &found.ratios[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (ratio.what.as_str(), ratio.flows, ratio.ratio.samples),
        ("throughput_pps", 1, 2)
    );
    assert!((ratio.ratio.median - 2.0).abs() < 1e-9, "{ratio:?}");
}

#[test]
fn rounds_that_failed_count_in_the_ranks_and_leave_no_ratio_of_few() {
    let measured = |rounds: &[(u64, u64)]| {
        let numbered = (0u32..).zip(rounds);
        let both = |(round, &(of, to)): (u32, &(u64, u64))| {
            [("bypath", of), ("kernel", to)].map(|(who, received)| entry(who, round, Rate::Unpaced, received, 0))
        };
        let found = ratios(&numbered.flat_map(both).collect::<Vec<_>>(), "bypath", "kernel");
        let of_rates = found.ratios.iter().find(|ratio| ratio.what == "received_pps");
        (of_rates.map(|ratio| ratio.ratio), found.notes)
    };
    const FINE: (u64, u64) = (2_000_000, 1_000_000);
    let (fine, notes) = measured(&[FINE; 7]);
    assert_eq!(
        (fine.map(|f| (f.low, f.median, f.high)), notes.len()),
        (Some((2.0, 2.0, 2.0)), 0)
    );

    // Four of seven rounds failed: so has the median.
    let (ratio, notes) = measured(&[FINE, (0, 1), FINE, (0, 1), (0, 1), FINE, (0, 1)]);
    let ratio = ratio.unwrap();
    assert_eq!((ratio.low, ratio.median, ratio.high, ratio.samples), (0.0, 0.0, 2.0, 7));
    assert!(
        notes.len() == 1 && notes[0].contains("4 of 7 rounds without a rate"),
        "{notes:?}"
    );

    // The other one failed; in one round both did. No number is one that JSON has not.
    let (ratio, notes) = measured(&[FINE, (1, 0), (1, 0), (1, 0), (1, 0), (0, 0), FINE]);
    let ratio = ratio.unwrap();
    assert_eq!(
        (ratio.low, ratio.median, ratio.high, ratio.samples),
        (2.0, UNBOUNDED, UNBOUNDED, 6)
    );
    assert!(notes[0].contains("5 of 7 rounds"), "{notes:?}");
    let json = serde_json::to_string(&ratio).unwrap();
    assert_eq!(serde_json::from_str::<Interval>(&json).unwrap(), ratio, "{json}");

    let (ratio, notes) = measured(&[FINE, FINE, (0, 1), FINE]);
    assert_eq!(ratio, None);
    assert!(
        notes[0].ends_with("1 of 4 rounds without a rate: no ratio"),
        "{notes:?}"
    );
}
