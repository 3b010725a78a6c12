//! Memory is short: who has most loses, counts it, and leaves room for those who have little.

use crate::htb::{class, htb, root};
use crate::lab::*;
use bypath::stage::shape::{Shaper, Stats};
use bypath::table::qdisc::{Handle, Kind, Limit, Prio};

const ROOT: u32 = 0x1_0000;
const IDLE: u32 = 0x40;
const LONGEST: u32 = 0x2f;

fn of(shaper: &Shaper<Probe>, minor: u32) -> Stats {
    let found = shaper.stats().into_iter().find(|(id, _)| *id == Handle(ROOT | minor));
    found.expect("it counts").1
}

/// So many frames for a class.
fn fill(shaper: &mut Shaper<Probe>, minor: u32, frames: u32) {
    let mut lost = Vec::new();
    (0..frames).for_each(|n| shaper.enqueue(Probe::to(n, 100, ROOT | minor), 0, &mut lost));
    assert!(lost.is_empty());
}

/// Thirty-two classes of which each has some more than the one before, and an idle one. The longest may send all at once.
fn full() -> Shaper<Probe> {
    let one = |minor| match minor {
        LONGEST => class(minor, 0, 1_000_000_000, 1_000_000_000),
        _ => class(minor, 0, 1000, 1000),
    };
    let mut shaper = shaper(root(htb(0, (0x10..=LONGEST).chain([IDLE]).map(one).collect())));
    // The longest is not the last that came.
    for minor in (0x10..=LONGEST).rev() {
        fill(&mut shaper, minor, 50 + minor);
    }
    shaper
}

#[test]
fn the_class_that_has_most_loses_and_counts_it() {
    let (mut shaper, mut lost) = (full(), Vec::new());
    for n in 1..=20 {
        fill(&mut shaper, IDLE, 1);
        assert!(shaper.longest() > 50 + 0x10, "{n}: {}", shaper.longest());
        shaper.shed(&mut lost);
        assert_eq!(lost.len(), n);
    }
    let idle = of(&shaper, IDLE);
    assert_eq!((idle.backlog_packets, idle.drops), (20, 0));
    assert!(lost.iter().all(|probe| probe.priority != ROOT | IDLE));
    let dropped: u64 = (0x10..=LONGEST).map(|minor| of(&shaper, minor).drops).sum();
    assert_eq!((dropped, of(&shaper, 0).drops), (20, 20));
}

/// The one that was the longest has sent all that it had: another is found.
#[test]
fn a_class_that_has_little_never_loses() {
    let (mut shaper, mut lost) = (full(), Vec::new());
    assert!(drain(&mut shaper, 0, &mut lost).len() > 50 + LONGEST as usize);
    assert_eq!(of(&shaper, LONGEST).backlog_packets, 0);
    fill(&mut shaper, IDLE, 20);
    (0..500).for_each(|_| shaper.shed(&mut lost));
    assert_eq!((of(&shaper, IDLE).backlog_packets, of(&shaper, IDLE).drops), (20, 0));
    assert_eq!(of(&shaper, 0).drops, 500);
    // Then all are gone, one after the other, and nothing is left to be sent.
    let rest = shaper.len();
    (0..rest).for_each(|_| shaper.shed(&mut lost));
    assert_eq!(
        (lost.len(), shaper.len(), shaper.longest(), shaper.due_ns()),
        (500 + rest, 0, 0, None)
    );
}

/// Below a tbf, which looks at the next frame: the one that it saw may be lost, too.
#[test]
fn the_longest_band_loses() {
    let bands = [0x10, 0x11].map(|handle| fifo_named(handle << 16, Limit::Packets(1000)));
    let (bands, priomap) = (bands.to_vec(), std::array::from_fn(|priority| u8::from(priority == 6)));
    let prio = Kind::Prio(Prio {
        bands,
        priomap,
        by_map: true,
    });
    let mut tbf = tbf(1000, SECOND);
    tbf.child = qdisc(0x2_0000, prio);
    let (mut shaper, mut lost) = (shaper(qdisc(ROOT, Kind::Tbf(tbf))), Vec::new());
    for (number, priority) in (0..40).map(|number| (number, if number % 4 == 0 { 0 } else { 6 })) {
        shaper.enqueue(Probe::to(number, 1000, priority), 0, &mut lost);
    }
    assert_eq!((drain(&mut shaper, 0, &mut lost).len(), shaper.longest()), (1, 30));
    (0..21).for_each(|_| shaper.shed(&mut lost));
    assert!(lost.iter().all(|probe| probe.priority == 6));
    (0..18).for_each(|_| shaper.shed(&mut lost));
    let drops: Vec<u64> = shaper.stats().iter().map(|(_, stats)| stats.drops).collect();
    // tbf, prio, its two classes, and their qdiscs.
    assert_eq!(drops, [39, 39, 9, 9, 30, 30]);
    assert_eq!(shaper.due_ns(), None);
}
