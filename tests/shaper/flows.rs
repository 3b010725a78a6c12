//! prio, fq_codel and sfq: who goes first, who waits how long, who is dropped when all is full.

use crate::lab::*;
use bypath::stage::shape::{Shaper, Stats};
use bypath::table::filter::Filter;
use bypath::table::qdisc::{Class, Fifo, FqCodel, Handle, Htb, Kind, Limit, Prio, Qdisc, Sfq, Tbf};
use std::sync::Arc;

const ROOT: u32 = 0x1_0000;

fn fq_codel() -> FqCodel {
    FqCodel {
        limit: 10_240,
        memory_limit: 32 << 20,
        flows: 1024,
        quantum: 1514,
        target_ns: 5_000_000,
        interval_ns: 100_000_000,
        ecn: true,
        ce_threshold_ns: None,
        drop_batch: 64,
        frame_max: 1514,
    }
}

fn sfq() -> Sfq {
    Sfq {
        limit: 127,
        flows: 128,
        divisor: 1024,
        depth: 127,
        quantum: 1514,
        drops_head: false,
        perturb_s: 0,
    }
}

fn first(shaper: &Shaper<Probe>) -> Stats {
    shaper.stats()[0].1
}

/// A frame whose priority names flow `flow`.
fn of_flow(number: u32, size: u32, flow: u32) -> Probe {
    Probe::to(number, size, ROOT | (flow + 1))
}

fn numbers(probes: &[Probe]) -> Vec<u32> {
    probes.iter().map(|probe| probe.number).collect()
}

/// A tbf of 1 Mbit/s with `child` below, and frames of 1000 bytes that come at `bytes_per_second` to flow 0 for `seconds`. Says how
/// many left and how long the last waited.
fn overload(
    child: Arc<Qdisc>,
    bytes_per_second: u64,
    seconds: u64,
    is_capable: bool,
) -> (Shaper<Probe>, Vec<Probe>, u64) {
    let config = Tbf {
        child,
        ..tbf(125_000, 16_000_000)
    };
    let mut shaper = shaper(qdisc(0x2_0000, Kind::Tbf(config)));
    let (mut lost, mut waited_ns) = (Vec::new(), 0);
    let gap_ns = 1000 * SECOND / bytes_per_second;
    let mut came = Vec::new();
    for number in 0..(seconds * SECOND / gap_ns) as u32 {
        let now_ns = u64::from(number) * gap_ns;
        came.push(now_ns);
        let probe = Probe {
            mark: is_capable.into(),
            ..of_flow(number, 1000, 0)
        };
        shaper.enqueue(probe, now_ns, &mut lost);
        while let Some(probe) = shaper.dequeue(now_ns, &mut lost) {
            waited_ns = now_ns - came[probe.number as usize];
        }
    }
    (shaper, lost, waited_ns)
}

#[test]
fn codel_drops_ever_more_often_until_frames_wait_less() {
    let child = qdisc(ROOT, Kind::FqCodel(fq_codel()));
    let (shaper, lost, waited_ns) = overload(child, 150_000, 60, false);
    // A fifth too much comes, 30 frames a second: in the end that many are dropped, and the queue is short.
    assert!(waited_ns < 300_000_000, "the last waited {waited_ns} ns");
    assert!((1000..1800).contains(&lost.len()), "{} dropped", lost.len());
    let [outer, inner] = [&shaper.stats()[0], &shaper.stats()[1]].map(|(_, stats)| *stats);
    assert_eq!((outer.drops, inner.drops), (lost.len() as u64, lost.len() as u64));
    assert_eq!(inner.special, 0);
    // Not overloaded, nothing is dropped.
    let child = qdisc(ROOT, Kind::FqCodel(fq_codel()));
    let (_, lost, waited_ns) = overload(child, 120_000, 60, false);
    assert!(lost.is_empty() && waited_ns < 20_000_000);
}

/// A flow whose frames left at once has no turn any more, and a whole quantum when it comes again: three frames and one on credit.
#[test]
fn a_flow_that_was_emptied_begins_anew() {
    let patient = FqCodel {
        target_ns: 100 * SECOND,
        ..fq_codel()
    };
    let config = Tbf {
        child: qdisc(ROOT, Kind::FqCodel(patient)),
        ..tbf(1000, 1_200_000_000)
    };
    let mut shaper = shaper(qdisc(0x2_0000, Kind::Tbf(config)));
    let (mut lost, mut left) = (Vec::new(), Vec::new());
    for (number, flow) in [0, 0, 0, 0, 0, 0, 0, 0, 1, 1].into_iter().enumerate() {
        shaper.enqueue(of_flow(number as u32, 500, flow), 0, &mut lost);
        left.extend(std::iter::from_fn(|| shaper.dequeue(0, &mut lost)));
    }
    assert_eq!(numbers(&left), [0, 1]);
    for at_s in 1..10 {
        left.extend(std::iter::from_fn(|| shaper.dequeue(at_s * SECOND, &mut lost)));
    }
    assert_eq!(numbers(&left), [0, 1, 2, 3, 4, 5, 8, 9, 6, 7]);
}

#[test]
fn codel_marks_who_knows_ecn() {
    let child = qdisc(ROOT, Kind::FqCodel(fq_codel()));
    let (shaper, lost, _) = overload(child, 150_000, 10, true);
    assert!(lost.is_empty());
    assert!(shaper.stats()[1].1.special > 10);
    let without = FqCodel {
        ecn: false,
        ..fq_codel()
    };
    let (shaper, lost, _) = overload(qdisc(ROOT, Kind::FqCodel(without)), 150_000, 10, true);
    assert!(!lost.is_empty());
    assert_eq!(shaper.stats()[1].1.special, 0);
    let all_late = FqCodel {
        ecn: false,
        ce_threshold_ns: Some(1_000_000),
        ..fq_codel()
    };
    let (shaper, ..) = overload(qdisc(ROOT, Kind::FqCodel(all_late)), 150_000, 10, true);
    assert!(shaper.stats()[1].1.special > 1000);
}

#[test]
fn new_flows_go_before_old_ones_and_old_ones_in_turn() {
    let mut shaper = shaper(qdisc(ROOT, Kind::FqCodel(fq_codel())));
    let mut lost = Vec::new();
    for number in 0..4 {
        shaper.enqueue(of_flow(number, 1514, 0), 0, &mut lost);
        shaper.enqueue(of_flow(10 + number, 1514, 1), 0, &mut lost);
    }
    let mut sent: Vec<Probe> = (0..4).filter_map(|_| shaper.dequeue(0, &mut lost)).collect();
    shaper.enqueue(of_flow(20, 100, 2), 0, &mut lost);
    sent.extend(drain(&mut shaper, 0, &mut lost));
    assert_eq!(numbers(&sent), [0, 10, 1, 11, 20, 2, 12, 3, 13]);
    assert!(lost.is_empty());
}

#[test]
fn when_it_is_full_half_of_the_longest_flow_goes() {
    let config = FqCodel {
        limit: 100,
        ..fq_codel()
    };
    let mut shaper = shaper(qdisc(ROOT, Kind::FqCodel(config.clone())));
    let mut lost = Vec::new();
    (0..10).for_each(|number| shaper.enqueue(of_flow(number, 1000, 1), 0, &mut lost));
    (10..101).for_each(|number| shaper.enqueue(of_flow(number, 1000, 0), 0, &mut lost));
    assert_eq!(numbers(&lost), (10..56).collect::<Vec<_>>());
    assert_eq!((shaper.len(), first(&shaper).drops), (55, 46));
    // A smaller limit holds at once; another number of flows is another qdisc.
    let mut lost = Vec::new();
    let smaller = FqCodel {
        limit: 50,
        ..config.clone()
    };
    shaper.change(qdisc(ROOT, Kind::FqCodel(smaller)), 0, &mut lost);
    assert!(shaper.len() <= 50 && shaper.len() + lost.len() == 55);
    let other = FqCodel { flows: 16, ..config };
    shaper.change(qdisc(ROOT, Kind::FqCodel(other)), 0, &mut lost);
    assert_eq!((shaper.len(), lost.len()), (0, 55));
}

#[test]
fn a_filter_that_names_no_flow_drops() {
    let by_mark = Filter::mark(1, Handle(ROOT | 5));
    for kind in [Kind::FqCodel(fq_codel()), Kind::Sfq(sfq())] {
        let root = Qdisc {
            filters: vec![by_mark.clone()],
            ..(*qdisc(ROOT, kind)).clone()
        };
        let (mut shaper, mut lost) = (shaper(Arc::new(root)), Vec::new());
        let marked = Probe {
            mark: 1,
            ..Probe::new(1, 100)
        };
        shaper.enqueue(marked, 0, &mut lost);
        shaper.enqueue(Probe::new(2, 100), 0, &mut lost);
        assert_eq!((numbers(&lost), shaper.len()), (vec![2], 1));
    }
}

#[test]
fn sfq_takes_flows_in_turn_and_drops_from_the_longest() {
    let config = Sfq { limit: 6, ..sfq() };
    let mut shaper = shaper(qdisc(ROOT, Kind::Sfq(config)));
    let mut lost = Vec::new();
    (0..5).for_each(|number| shaper.enqueue(of_flow(number, 1514, 0), 0, &mut lost));
    (10..13).for_each(|number| shaper.enqueue(of_flow(number, 1514, 1), 0, &mut lost));
    assert_eq!(numbers(&lost), [4, 3]);
    assert_eq!(numbers(&drain(&mut shaper, 0, &mut lost)), [0, 10, 1, 11, 2, 12]);
    assert_eq!(first(&shaper).drops, 2);
}

#[test]
fn sfq_bounds_flows_and_their_depth() {
    let config = Sfq {
        flows: 2,
        depth: 3,
        ..sfq()
    };
    let mut shaper = shaper(qdisc(ROOT, Kind::Sfq(config.clone())));
    let mut lost = Vec::new();
    for flow in 0..3 {
        (0..4).for_each(|number| shaper.enqueue(of_flow(10 * flow + number, 100, flow), 0, &mut lost));
    }
    assert_eq!(numbers(&lost), [3, 13, 20, 21, 22, 23]);
    assert_eq!(drain(&mut shaper, 0, &mut lost).len(), 6);
    let head = Sfq {
        drops_head: true,
        ..config
    };
    let mut shaper = self::shaper(qdisc(ROOT, Kind::Sfq(head)));
    let mut lost = Vec::new();
    (0..5).for_each(|number| shaper.enqueue(of_flow(number, 100, 0), 0, &mut lost));
    assert_eq!(numbers(&lost), [0, 1]);
    assert_eq!(numbers(&drain(&mut shaper, 0, &mut lost)), [2, 3, 4]);
}

#[test]
fn sfq_hashes_anew_without_loss() {
    let config = Sfq { perturb_s: 10, ..sfq() };
    let mut shaper = shaper(qdisc(ROOT, Kind::Sfq(config)));
    let mut lost = Vec::new();
    for number in 0..60 {
        let probe = Probe {
            bytes: vec![number as u8 % 6; 20],
            ..Probe::new(number, 100)
        };
        shaper.enqueue(probe, u64::from(number) * SECOND, &mut lost);
    }
    let sent = drain(&mut shaper, 60 * SECOND, &mut lost);
    assert_eq!((sent.len(), lost.len()), (60, 0));
    // Frames of one flow stay in order.
    for flow in 0..6 {
        let of_flow: Vec<u32> = sent
            .iter()
            .filter(|probe| probe.number % 6 == flow)
            .map(|probe| probe.number)
            .collect();
        assert!(of_flow.is_sorted(), "{of_flow:?}");
    }
}

/// Where two flows meet by a new hash, and are too long together, those are dropped that come to it last, not the oldest.
#[test]
fn sfq_that_hashes_anew_drops_what_finds_no_room() {
    let config = Sfq {
        divisor: 2,
        depth: 3,
        drops_head: true,
        perturb_s: 1,
        ..sfq()
    };
    let mut met = 0;
    for (flow, seconds) in (0..16u8).flat_map(|flow| (1..8u64).map(move |seconds| (flow, seconds))) {
        let probe = |number, flow| Probe {
            bytes: vec![flow; 20],
            ..Probe::new(number, 100)
        };
        let (mut shaper, mut lost) = (shaper(qdisc(ROOT, Kind::Sfq(config.clone()))), Vec::new());
        (0..3).for_each(|number| shaper.enqueue(probe(number, 99), 0, &mut lost));
        (3..5).for_each(|number| shaper.enqueue(probe(number, flow), 0, &mut lost));
        if !lost.is_empty() {
            continue;
        }
        shaper.enqueue(probe(5, 99), seconds * SECOND, &mut lost);
        // The one that comes has the oldest dropped, as ever.
        match numbers(&lost)[..] {
            [3, 4, 0] => met += 1,
            ref lost => assert_eq!(lost, [0]),
        }
    }
    assert!(met > 10, "two flows met {met} times");
}

fn prio(bands: usize) -> Prio {
    Prio {
        bands: (0..bands)
            .map(|n| fifo_named(0x10_0000 * (n as u32 + 1), Limit::Packets(3)))
            .collect(),
        priomap: [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1],
        by_map: false,
    }
}

#[test]
fn the_first_band_goes_first() {
    let mut shaper = shaper(qdisc(ROOT, Kind::Prio(prio(3))));
    let mut lost = Vec::new();
    // By the map: bands 1, 2, 0, 1 (of 4 bits); by name: 0, 2; a band that is not there goes by priority 0.
    for (number, priority) in [0, 2, 6, 16 + 4, ROOT | 1, ROOT | 3, ROOT | 9, 0x5_0001]
        .into_iter()
        .enumerate()
    {
        shaper.enqueue(Probe::to(number as u32, 100, priority), 0, &mut lost);
    }
    assert_eq!(numbers(&lost), [7], "the map's band 1 is full");
    assert_eq!(numbers(&drain(&mut shaper, 0, &mut lost)), [2, 4, 0, 3, 6, 1, 5]);
    let handles: Vec<String> = shaper.stats().iter().map(|(handle, _)| handle.to_string()).collect();
    assert_eq!(handles, ["1:", "1:1", "10:", "1:2", "20:", "1:3", "30:"]);
}

#[test]
fn bands_come_and_go() {
    let mut shaper = shaper(qdisc(ROOT, Kind::Prio(prio(3))));
    let mut lost = Vec::new();
    (1..4).for_each(|band| shaper.enqueue(Probe::to(band, 100, ROOT | band), 0, &mut lost));
    shaper.change(qdisc(ROOT, Kind::Prio(prio(2))), 0, &mut lost);
    assert_eq!((numbers(&lost), first(&shaper).drops), (vec![3], 1));
    shaper.change(qdisc(ROOT, Kind::Prio(prio(3))), 0, &mut lost);
    assert_eq!(numbers(&drain(&mut shaper, 0, &mut lost)), [1, 2]);
}

#[test]
fn a_fifo_may_drop_the_oldest() {
    let config = Fifo {
        limit: Limit::Packets(2),
        drops_head: true,
    };
    let mut shaper = shaper(qdisc(ROOT, Kind::Fifo(config)));
    let mut lost = Vec::new();
    (0..4).for_each(|number| shaper.enqueue(Probe::new(number, 100), 0, &mut lost));
    assert_eq!(numbers(&lost), [0, 1]);
    assert_eq!(numbers(&drain(&mut shaper, 0, &mut lost)), [2, 3]);
}

/// A short frame of a better band does not wait for what the long one before it would cost.
#[test]
fn a_shorter_frame_that_goes_first_is_not_late() {
    let config = Tbf {
        child: qdisc(0x10_0000, Kind::Prio(prio(3))),
        ..tbf(1000, 600_000_000)
    };
    let mut shaper = shaper(qdisc(0x2_0000, Kind::Tbf(config)));
    let arrivals = [
        (0, Probe::to(0, 500, 0)),
        (0, Probe::to(1, 500, 0)),
        (100_000_000, Probe::to(2, 100, 6)),
    ];
    let sent = run(&mut shaper, &arrivals, SECOND);
    let times: Vec<_> = sent
        .iter()
        .map(|(at_ns, probe)| (at_ns / 1_000_000, probe.number))
        .collect();
    assert_eq!(times, [(0, 0), (100, 2), (500, 1)]);
}

/// pfifo_fast looks at four bits of the priority, even where they name a class.
#[test]
fn the_map_alone_chooses_in_pfifo_fast() {
    let config = Prio {
        by_map: true,
        ..prio(3)
    };
    let mut shaper = shaper(qdisc(ROOT, Kind::Prio(config)));
    let mut lost = Vec::new();
    for (number, priority) in [ROOT | 3, ROOT | 6, 0x5_0000].into_iter().enumerate() {
        shaper.enqueue(Probe::to(number as u32, 100, priority), 0, &mut lost);
    }
    assert_eq!(numbers(&drain(&mut shaper, 0, &mut lost)), [1, 2, 0]);
}

/// A frame that a tbf has looked at still counts for the limit of the queue below it.
#[test]
fn a_frame_that_was_peeked_counts_for_the_limit() {
    for kind in [
        Kind::FqCodel(FqCodel { limit: 3, ..fq_codel() }),
        Kind::Sfq(Sfq { limit: 3, ..sfq() }),
    ] {
        let child = qdisc(ROOT, kind);
        let mut shaper = shaper(qdisc(
            0x2_0000,
            Kind::Tbf(Tbf {
                child,
                ..tbf(1000, 400_000_000)
            }),
        ));
        let mut lost = Vec::new();
        for number in 0..4 {
            shaper.enqueue(of_flow(number, 300, number), 0, &mut lost);
            let left = shaper.dequeue(0, &mut lost);
            assert_eq!(left.is_some(), number == 0);
        }
        assert!(lost.is_empty() && shaper.len() == 3);
        shaper.enqueue(of_flow(4, 300, 0), 0, &mut lost);
        assert_eq!((lost.len(), shaper.len()), (1, 3));
    }
}

/// A class counts the frames that lost something of their own flow, however much; what a longer flow loses for another is not counted.
#[test]
fn a_class_counts_the_frames_that_were_refused() {
    const HTB: u32 = 0x2_0000;
    for (kind, all) in [
        (Kind::FqCodel(FqCodel { limit: 8, ..fq_codel() }), 7),
        (Kind::Sfq(Sfq { limit: 8, ..sfq() }), 6),
    ] {
        let class = Class {
            id: Handle(HTB | 1),
            parent: Handle(HTB),
            generation: 0,
            rate: rate(1000),
            ceil: rate(1000),
            buffer_ns: 1_000_000,
            cbuffer_ns: 1_000_000,
            prio: 0,
            quantum: 1500,
            leaf: Some(qdisc(ROOT, kind)),
            filters: Vec::new(),
        };
        let htb = Htb {
            default: 1,
            rate2quantum: 10,
            direct_qlen: 1000,
            classes: vec![class],
        };
        let mut shaper = shaper(qdisc(HTB, Kind::Htb(htb)));
        let mut lost = Vec::new();
        for (number, flow) in [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2].into_iter().enumerate() {
            shaper.enqueue(of_flow(number as u32, 500, flow), 0, &mut lost);
        }
        let stats = shaper.stats();
        let drops = |handle| stats.iter().find(|(at, _)| at.0 == handle).unwrap().1.drops;
        assert_eq!([HTB, ROOT, HTB | 1].map(drops), [all, all, 1]);
        assert_eq!(lost.len() as u64, all);
    }
}
