//! What the kernel sent is told in lumps: who pays for one, and what is said where the kernel has all.

use crate::htb::{class, htb, root};
use crate::lab::*;
use bypath::stage::shape::Shaper;
use bypath::table::qdisc::{Class, Handle, Kind};
use std::sync::Arc;

const ROOT: u32 = 0x1_0000;
const SLOW: Handle = Handle(ROOT | 0x10);
const LOOK: u64 = SECOND / 20;

/// 1:10 is sure of 1 kB/s, 1:11 of 100 kB/s, and both may have the 12.5 MB/s of 1:1.
fn slow_below_fast() -> Shaper<Probe> {
    let buckets = |class: Class| Class {
        buffer_ns: 1_600_000_000_000 / class.rate.bytes_per_second as i64,
        cbuffer_ns: 1_600_000_000_000 / class.ceil.bytes_per_second as i64,
        ..class
    };
    let classes = [
        class(1, 0, 12_500_000, 12_500_000),
        class(0x10, 1, 1000, 12_500_000),
        class(0x11, 1, 100_000, 12_500_000),
    ];
    shaper(root(htb(0, classes.map(buckets).to_vec())))
}

fn to(minor: u32) -> Probe {
    Probe::to(minor, 1000, ROOT | minor)
}

/// How many frames 1:10 sends by its own rate in three seconds, while it and 1:11 always have some.
fn by_its_own_rate(shaper: &mut Shaper<Probe>) -> u64 {
    let (mut now_ns, mut lost) = (0, Vec::new());
    for minor in [0x10, 0x11] {
        (0..100).for_each(|_| shaper.enqueue(to(minor), 0, &mut lost));
    }
    while now_ns < 3 * SECOND {
        while let Some(probe) = shaper.dequeue(now_ns, &mut lost) {
            shaper.enqueue(probe, now_ns, &mut lost);
        }
        now_ns = shaper.due_ns().expect("frames wait").max(now_ns);
    }
    let slow = shaper.stats().into_iter().find(|(id, _)| *id == SLOW);
    slow.expect("it counts").1.lended
}

/// The kernel took a frame or two from 1:10 and the others from 1:1: so it is here, and 1:10 has its rate again soon.
#[test]
fn a_lump_is_paid_by_who_lent() {
    let mut shaper = slow_below_fast();
    shaper.charge(SLOW, (62_000, 62), 0);
    // It had 1,600 bytes and owes the rest of two frames, of 1,000 bytes.
    assert_eq!(by_its_own_rate(&mut shaper), 3);
}

/// Nobody above could lend: what the class was sure of is its own debt, a second of it and a frame at most.
#[test]
fn what_nobody_lent_is_owed_for_a_second() {
    let mut shaper = slow_below_fast();
    // 1:1 and 1:10 owe some.
    shaper.charge(Handle(ROOT | 0x11), (226_000, 226), 0);
    shaper.charge(SLOW, (2_000, 2), 0);
    shaper.charge(SLOW, (62_000, 62), 0);
    assert_eq!(by_its_own_rate(&mut shaper), 2);
}

/// What is said at each look, where frames of 1,000 bytes wait or not, between two looks so many of them leave, and the kernel sends
/// so many.
fn left_out(waits: u32, own: u32, kernel: u64) -> Vec<bool> {
    let (mut shaper, mut lost) = (shaper(qdisc(ROOT, Kind::Tbf(tbf(100_000_000, SECOND)))), Vec::new());
    (0..waits).for_each(|_| shaper.enqueue(to(0), 0, &mut lost));
    let looks = (1..=5u64).map(|look| {
        let now_ns = look * LOOK;
        (0..own).for_each(|_| assert!(shaper.dequeue(now_ns, &mut lost).is_some()));
        shaper.charge(Handle(ROOT), (kernel * 1000, kernel), now_ns)
    });
    looks.collect()
}

#[test]
fn frames_that_wait_while_the_kernel_has_nearly_all_are_left_out() {
    assert_eq!(left_out(1, 0, 40), [false, false, true, true, true]);
    assert_eq!(left_out(60, 5, 40), [false, false, true, true, true]);
    // An eighth is theirs; none waits; the kernel sends nothing.
    assert_eq!(left_out(60, 6, 40), [false; 5]);
    assert_eq!(left_out(0, 0, 40), [false; 5]);
    assert_eq!(left_out(60, 0, 0), [false; 5]);
}

/// The kernel borrows what nobody wants, by a class that is sure of little: nobody is left out.
#[test]
fn what_is_borrowed_from_who_has_it_leaves_nobody_out() {
    let (mut shaper, mut lost) = (slow_below_fast(), Vec::new());
    let mut sent = 0;
    for look in 1..=40 {
        let now_ns = look * LOOK;
        shaper.enqueue(to(0x10), now_ns, &mut lost);
        assert!(!shaper.charge(SLOW, (62_000, 62), now_ns), "look {look}");
        sent += run(&mut shaper, &[(now_ns, to(0x10))], now_ns + LOOK - 1).len();
    }
    assert!(sent >= 70, "{sent} of 80 frames");
}

/// The kernel borrows what others are sure of and send: more leaves than the class at the top may.
#[test]
fn a_class_at_the_top_that_cannot_keep_its_rate_is_told() {
    let sure = Class {
        ..class(0x11, 1, 1_000_000, 1_000_000)
    };
    let tree = htb(
        0,
        vec![class(1, 0, 1_000_000, 1_000_000), class(0x10, 1, 1000, 1_000_000), sure],
    );
    let (mut shaper, mut lost) = (Shaper::<Probe>::new(Arc::clone(&root(tree)), 0), Vec::new());
    let said = (1..=20u64).find(|look| {
        let now_ns = look * LOOK;
        (0..60).for_each(|_| shaper.enqueue(to(0x11), now_ns, &mut lost));
        run(&mut shaper, &[], now_ns);
        shaper.charge(SLOW, (25_000, 25), now_ns)
    });
    assert!(said.is_some_and(|look| (6..16).contains(&look)), "{said:?}");
}

/// A bucket of 100 s gets what comes in a minute and no more, however long nobody looked (`mbuffer`).
#[test]
fn a_class_gets_tokens_of_a_minute_at_once() {
    let burst = Class {
        buffer_ns: 100 * SECOND as i64,
        cbuffer_ns: 100 * SECOND as i64,
        ..class(0x10, 0, 1000, 1000)
    };
    let (mut shaper, mut lost) = (shaper(root(htb(0, vec![burst]))), Vec::new());
    for (now_ns, frames) in [(0, 101), (90 * SECOND, 60)] {
        (0..200).for_each(|_| shaper.enqueue(to(0x10), now_ns, &mut lost));
        assert_eq!(drain(&mut shaper, now_ns, &mut lost).len(), frames);
        shaper.purge(&mut lost);
    }
}
