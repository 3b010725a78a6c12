//! Reports of nothing that was ever measured: made by rule and a little noise, the same in every run.

use bypath::bench::latency::recorder;
use bypath::bench::outcome::{Latency, Outcome};
use bypath::bench::report::{Entry, OwnError, Provenance, Report, Rfc2544, VERSION};
use bypath::bench::statistics;
use bypath::bench::work::{Flows, Kind, Order, Rate, Size, Work};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::time::Duration;

const ROUNDS: u32 = 7;
/// A name that must never become a tag.
pub const EVIL: &str = "<script>alert(1)</script>";

/// Four subjects, five cases, three sizes, three numbers of flows, seven rounds; one has no 1,518 bytes.
pub fn comparison() -> Report {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let cases = [
        ("wire", 1.05),
        ("route", 0.82),
        ("bridge", 0.61),
        ("nat", 0.44),
        ("nat-1000-rules", 0.028),
    ];
    let mut entries = Vec::new();
    for round in 1..=ROUNDS {
        for (case, kernel) in cases {
            for flows in [1, 1_000, 1_000_000] {
                for size in [Size::Bytes(64), Size::Imix, Size::Bytes(1518)] {
                    for subject in ["kernel", "bypath", "bare", EVIL] {
                        if subject == EVIL && size == Size::Bytes(1518) {
                            continue;
                        }
                        let flows_cost = 1.0 + f64::from(flows).log10() * if subject == "kernel" { 0.05 } else { 0.07 };
                        let size_cost = if size == Size::Bytes(1518) { 1.15 } else { 1.0 };
                        let noise = 1.0 + random.random_range(-0.06..0.06);
                        let top = match subject {
                            "kernel" => kernel,
                            "bypath" => 0.97f64.min(kernel * 8.0),
                            "bare" => 1.0,
                            _ => kernel * 1.03,
                        };
                        let pps = top * 1e6 / flows_cost / size_cost * noise;
                        let outcome = counted(pps, 1.9e6 / pps * 900.0);
                        entries.push(entry(case, subject, round, size, flows, Rate::Unpaced, outcome));
                    }
                }
            }
        }
        for case in ["route", "nat"] {
            for subject in ["kernel", "bypath", EVIL] {
                let slow = if subject == "kernel" { 1.4 } else { 1.0 };
                let outcome = timed(&mut random, 100_000.0, 11_000.0 * slow, 4_000);
                entries.push(entry(
                    case,
                    subject,
                    round,
                    Size::Bytes(64),
                    1_000,
                    Rate::Paced(1e5),
                    outcome,
                ));
            }
        }
    }
    let mut ratios = Vec::new();
    for subject in ["bypath", "bare", EVIL] {
        ratios.extend(statistics::ratios(&entries, subject, "kernel").ratios);
    }
    entries[3]
        .outcome
        .notes
        .push("1.90 Mpps were asked for, 1.71 Mpps were reached".into());
    Report {
        version: VERSION,
        kind: "compare".into(),
        provenance: provenance(),
        own_error: own_error(&mut random),
        entries,
        ratios,
        rfc2544: Vec::new(),
        notes: vec![
            "Both cores are shared by sender, path and receiver: absolute rates are of this machine alone.".into(),
            "The veth driver has no zero-copy: AF_XDP copies each frame once.".into(),
        ],
    }
}

/// RFC 2544 of two subjects.
pub fn rfc2544() -> Report {
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let mut found = Vec::new();
    for (subject, top) in [("kernel", 0.63e6), ("bypath", 0.91e6)] {
        for (size, cost) in [("64", 1.0), ("imix", 1.06), ("1518", 1.2)] {
            let throughput = top / cost;
            let lost = |offered: f64| (1.0 - throughput * 1.01 / offered).max(0.0);
            let search = [1.2e6, 0.6e6, 0.9e6, throughput * 1.03, throughput].map(|pps| (pps, lost(pps)));
            let share = |share: f64, median: f64| (share, delays(&mut ChaCha8Rng::seed_from_u64(9), median, 20_000));
            found.push(Rfc2544 {
                case: "route".into(),
                kind: Some(Kind::Udp),
                flows: 1_000,
                subject: subject.into(),
                round: 0,
                size: size.into(),
                throughput_pps: throughput,
                search: search.into(),
                latency: vec![share(1.0, 60_000.0), share(0.9, 24_000.0), share(0.5, 12_000.0)],
                loss_curve: (1..=12)
                    .map(|n| f64::from(n) * 1e5)
                    .map(|pps| (pps, lost(pps)))
                    .collect(),
                back_to_back: vec![4_096, 3_800, 4_400],
                notes: Vec::new(),
            });
        }
    }
    Report {
        version: VERSION,
        kind: "rfc2544".into(),
        provenance: provenance(),
        own_error: own_error(&mut random),
        rfc2544: found,
        ..Report::default()
    }
}

/// One trial of one subject.
pub fn one_trial() -> Report {
    let mut random = ChaCha8Rng::seed_from_u64(10);
    let outcome = timed(&mut random, 250_000.0, 9_000.0, 900);
    Report {
        version: VERSION,
        kind: "send".into(),
        entries: vec![entry("route", "bypath", 1, Size::Bytes(64), 1, Rate::Unpaced, outcome)],
        ..Report::default()
    }
}

/// Puts `evil` into every text of a report, behind what was there.
pub fn rename(report: &mut Report, evil: &str) {
    let from = &mut report.provenance;
    let texts = [
        &mut from.machine,
        &mut from.kernel,
        &mut from.driver,
        &mut from.mode,
        &mut from.commit,
    ];
    let texts = texts
        .into_iter()
        .chain([&mut report.kind])
        .chain(&mut report.notes)
        .chain(&mut from.commands);
    texts.for_each(|text| text.push_str(evil));
    from.versions = std::mem::take(&mut from.versions)
        .into_iter()
        .map(|(name, version)| (name + evil, version + evil))
        .collect();
    for entry in &mut report.entries {
        [&mut entry.case, &mut entry.subject]
            .into_iter()
            .for_each(|text| text.push_str(evil));
        entry.outcome.notes.iter_mut().for_each(|text| text.push_str(evil));
    }
    for ratio in &mut report.ratios {
        [&mut ratio.case, &mut ratio.of, &mut ratio.to]
            .into_iter()
            .for_each(|text| text.push_str(evil));
    }
    for own in &mut report.own_error {
        own.path.push_str(evil);
    }
}

fn entry(case: &str, subject: &str, round: u32, size: Size, flows: u32, rate: Rate, outcome: Outcome) -> Entry {
    let work = Work {
        kind: Kind::Udp,
        size,
        flows: Flows {
            count: flows,
            order: Order::RoundRobin,
            new_per_second: 0,
        },
        rate,
        duration: Duration::from_secs(5),
        seed: 1,
        src_mac: None,
        dst_mac: [2, 0, 0, 0, 0, 1],
        src: [10, 0, 0, 2].into(),
        dst: [10, 0, 1, 2].into(),
        dsts: 1,
        sport: 1024,
        dport: 9,
    };
    Entry {
        case: case.into(),
        subject: subject.into(),
        round,
        work,
        outcome,
    }
}

fn counted(pps: f64, cpu: f64) -> Outcome {
    let (seconds, offered) = (5.0, 9_500_000);
    let received = (pps * seconds) as u64;
    Outcome {
        offered,
        seconds,
        received,
        lost: offered - received,
        cpu_ns_per_frame: Some(cpu),
        ..Outcome::default()
    }
}

fn timed(random: &mut ChaCha8Rng, pps: f64, median: f64, frames: u64) -> Outcome {
    let received = (pps * 5.0) as u64;
    Outcome {
        wanted_pps: Some(pps),
        offered: received + 3,
        seconds: 5.0,
        received,
        lost: 3,
        latency: Some(delays(random, median, frames)),
        cpu_ns_per_frame: Some(2_150.0),
        ..Outcome::default()
    }
}

/// Around a median, with a long tail to the slow side.
fn delays(random: &mut ChaCha8Rng, median: f64, frames: u64) -> Latency {
    let mut histogram = recorder();
    for _ in 0..frames {
        let u: f64 = random.random_range(1e-6..1.0);
        let body = 0.7 + random.random_range(0.0..0.6);
        let tail = if u < 0.02 { 0.15 / u.powf(0.55) } else { 0.0 };
        histogram.saturating_record((median * (body + tail)) as u64);
    }
    Latency::of(&histogram)
}

fn own_error(random: &mut ChaCha8Rng) -> Vec<OwnError> {
    let own = |path: &str, outcome| OwnError {
        path: path.into(),
        outcome,
    };
    vec![
        own("veth", timed(random, 100_000.0, 2_900.0, 20_000)),
        own("wire", counted(1.42e6, 1_050.0)),
    ]
}

fn provenance() -> Provenance {
    let versions = [
        ("kernel", "6.18.5"),
        ("bypath", "0.1.0 (c97849a)"),
        (EVIL, "1.0 & more"),
    ];
    Provenance {
        started: 1_795_700_000,
        machine: "AMD EPYC 9B14, 2 cores".into(),
        kernel: "6.18.5".into(),
        driver: "veth".into(),
        mode: "copy".into(),
        commit: "c97849a".into(),
        load: 0.07,
        versions: versions.map(|(name, version)| (name.into(), version.into())).into(),
        commands: vec![
            "bypath bench --lab --rounds 7 --seconds 5 --html report.html".into(),
            "bypath run r0 r1 --workers 1 --cpus 1 --poll spin".into(),
            format!("{EVIL} --in r0 --out r1 && echo 'x: ready'"),
        ],
    }
}
