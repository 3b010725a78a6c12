//! fq: who may go at once, whose turn it is, in which band, and when a flow that is paced may go on.

use crate::lab::*;
use bypath::stage::shape::Shaper;
use bypath::table::qdisc::{Fq, Handle, Kind, Qdisc, Tbf};
use std::sync::Arc;

const FQ: u32 = 0x1_0000;

fn fq() -> Fq {
    Fq {
        limit: 10_000,
        flow_limit: 100,
        quantum: 3028,
        initial_quantum: 15_140,
        orphan_mask: u32::MAX,
        refill_delay_ns: 40_000_000,
        paces: true,
        max_rate: None,
        low_rate_threshold: 68_750,
        ce_threshold_ns: None,
        priomap: [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1],
        weights: [9 << 16, 3 << 16, 1 << 16],
    }
}

/// Of a flow, of which there are 256, and a priority.
fn probe(number: u32, size: u32, flow: u8, priority: u32) -> Probe {
    Probe {
        bytes: vec![flow; 20],
        ..Probe::to(number, size, priority)
    }
}

fn alone(config: Fq) -> Shaper<Probe> {
    shaper(qdisc(FQ, Kind::Fq(config)))
}

/// Below a tbf of so many bytes per second, which lets one frame of 500 bytes pass at once.
fn behind(config: Fq, bytes_per_second: u64) -> Arc<Qdisc> {
    let tbf = Tbf {
        child: qdisc(FQ, Kind::Fq(config)),
        ..tbf(bytes_per_second, 600 * SECOND / bytes_per_second)
    };
    qdisc(0x2_0000, Kind::Tbf(tbf))
}

fn numbers<'a>(probes: impl IntoIterator<Item = &'a Probe>) -> Vec<u32> {
    probes.into_iter().map(|probe| probe.number).collect()
}

#[test]
fn what_finds_it_empty_passes_unless_flows_are_paced() {
    let facts_of = probe(0, 500, 1, 0);
    let passes = |config: Fq| alone(config).passes(500, &bypath::stage::shape::Packet::facts(&facts_of), 0);
    assert!(passes(fq()));
    assert!(!passes(Fq { limit: 0, ..fq() }));
    assert!(!passes(Fq {
        max_rate: Some(1000),
        ..fq()
    }));
}

/// Eight frames that nobody has a turn before are not told apart; then flows take turns of two frames.
#[test]
fn a_few_go_first_and_then_flows_in_turn() {
    let config = Fq {
        quantum: 1000,
        initial_quantum: 1000,
        ..fq()
    };
    let mut shaper = shaper(behind(config, 1000));
    let arrivals: Vec<_> = (0..20)
        .map(|number| (0, probe(number, 500, (number / 17) as u8, 0)))
        .collect();
    let sent = run(&mut shaper, &arrivals, 60 * SECOND);
    let order = numbers(sent.iter().map(|(_, probe)| probe));
    assert_eq!(order[..8], [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(order[8..], [8, 9, 17, 18, 10, 11, 19, 12, 13, 14, 15, 16]);
}

#[test]
fn bands_and_flows_are_bounded() {
    let config = Fq {
        limit: 6,
        flow_limit: 4,
        max_rate: Some(1000),
        ..fq()
    };
    let (mut shaper, mut lost) = (alone(config.clone()), Vec::new());
    (0..5).for_each(|number| shaper.enqueue(probe(number, 500, 1, 0), 0, &mut lost));
    assert_eq!(numbers(&lost), [4], "the flow is full");
    (10..13).for_each(|number| shaper.enqueue(probe(number, 500, 2, 0), 0, &mut lost));
    assert_eq!(numbers(&lost), [4, 12], "the band is full");
    (20..23).for_each(|number| shaper.enqueue(probe(number, 500, 2, 6), 0, &mut lost));
    assert_eq!(numbers(&lost), [4, 12, 22], "a flow is of two bands");
    assert_eq!((shaper.len(), shaper.stats()[0].1.drops), (8, 3));
    let lower = Fq { limit: 3, ..config };
    shaper.change(qdisc(FQ, Kind::Fq(lower)), 0, &mut lost);
    // What must wait for its time cannot be taken out.
    assert_eq!((shaper.len(), lost.len()), (6, 5));
    assert_eq!(run(&mut shaper, &[], 60 * SECOND).len(), 6);
}

/// The weight of a band is what it sends in its turn.
#[test]
fn bands_share_by_weight() {
    let mut shaper = shaper(behind(fq(), 1_000_000));
    let (mut lost, mut bytes, mut number) = (Vec::new(), [0; 3], 0);
    for now_us in 0..10_000_000u64 {
        if now_us.is_multiple_of(250) {
            for (flow, priority) in [(1, 6), (2, 0), (3, 2)] {
                shaper.enqueue(probe(number, 500, flow, priority), now_us * 1000, &mut lost);
                number += 1;
            }
        }
        while let Some(probe) = shaper.dequeue(now_us * 1000, &mut lost) {
            bytes[usize::from(probe.bytes[0]) - 1] += probe.size;
        }
    }
    let all: u32 = bytes.iter().sum();
    assert!(all > 9_900_000, "{all}");
    for (share, part) in bytes
        .map(|bytes| f64::from(bytes) / f64::from(all))
        .iter()
        .zip([9, 3, 1])
    {
        let wanted = f64::from(part) / 13.0;
        assert!((share - wanted).abs() < 0.04, "{bytes:?}");
    }
}

/// Each flow by itself, packet by packet or turn by turn.
#[test]
fn flows_are_paced() {
    for low_rate_threshold in [68_750, 0] {
        let config = Fq {
            max_rate: Some(10_000),
            low_rate_threshold,
            quantum: 1000,
            initial_quantum: 1000,
            flow_limit: 1000,
            ..fq()
        };
        let arrivals: Vec<_> = (0..400)
            .map(|number| (0, probe(number, 500, (number % 2) as u8, 0)))
            .collect();
        let sent = run(&mut alone(config.clone()), &arrivals, 60 * SECOND);
        assert_eq!(sent.len(), 400);
        for flow in 0..2 {
            let of_flow: Vec<_> = sent.iter().filter(|(_, probe)| probe.bytes[0] == flow).collect();
            let at_once = of_flow.iter().take_while(|(at_ns, _)| *at_ns == 0).count();
            assert_eq!(at_once, if low_rate_threshold > 0 { 1 } else { 2 });
            assert!(of_flow.iter().is_sorted_by_key(|(_, probe)| probe.number));
            // 200 frames of 500 bytes at 10,000 bytes per second, but for the first ones.
            let last_ns = of_flow.last().map_or(0, |(at_ns, _)| *at_ns);
            assert!((9_900_000_000..=10_000_000_000).contains(&last_ns), "{last_ns}");
        }
        // Without pacing the rate is only a word.
        let config = Fq { paces: false, ..config };
        assert_eq!(run(&mut alone(config), &arrivals, 0).len(), 400);
    }
}

/// A flow that was emptied while another waits for its time begins anew after `refill_delay`.
#[test]
fn a_flow_that_was_emptied_begins_anew() {
    let config = Fq {
        quantum: 1000,
        initial_quantum: 1000,
        max_rate: Some(1000),
        low_rate_threshold: 0,
        ..fq()
    };
    let half = SECOND / 2;
    let arrivals = [
        (0, probe(0, 1000, 1, 0)),
        (0, probe(1, 1000, 1, 0)),
        (0, probe(2, 600, 2, 0)),
        (half, probe(3, 600, 2, 0)),
        (half, probe(4, 600, 2, 0)),
    ];
    let sent = run(&mut alone(config), &arrivals, 60 * SECOND);
    let times: Vec<_> = sent
        .iter()
        .map(|(at_ns, probe)| (at_ns / 1_000_000, probe.number))
        .collect();
    assert_eq!(times, [(0, 0), (0, 2), (500, 3), (500, 4), (1000, 1)]);
}

/// A frame that waited longer than `ce_threshold` is marked where its sender knows ECN, and counted in any case.
#[test]
fn what_waited_long_is_marked() {
    let config = Fq {
        ce_threshold_ns: Some(4 * SECOND),
        ..fq()
    };
    let mut shaper = shaper(behind(config, 1000));
    let arrivals: Vec<_> = (0..20).map(|number| (0, probe(number, 500, 1, 0))).collect();
    assert_eq!(run(&mut shaper, &arrivals, 60 * SECOND).len(), 20);
    let stats = shaper.stats();
    let of_fq = stats.iter().find(|(handle, _)| *handle == Handle(FQ)).unwrap().1;
    // The tenth leaves after 4.4 s, and then the next is looked at. (Those of the fast queue are never marked.)
    assert_eq!(of_fq.special, 10);
}

/// More flows than it keeps apart for long: each frame leaves, those of a flow in order.
#[test]
fn empty_flows_are_forgotten() {
    let config = Fq {
        max_rate: Some(1_000_000),
        ..fq()
    };
    let mut arrivals = Vec::new();
    for number in 0..12_000u32 {
        let mut probe = probe(number, 500, 0, 0);
        probe.bytes[..4].copy_from_slice(&(number % 4000).to_be_bytes());
        arrivals.push((u64::from(number / 4000) * 5 * SECOND, probe));
    }
    let sent = run(&mut alone(config), &arrivals, 60 * SECOND);
    assert_eq!(sent.len(), arrivals.len());
}
