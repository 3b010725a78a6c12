//! htb: which frame leaves when, against the model; and what is promised of it.

use crate::htb_model::Model;
use crate::lab::*;
use bypath::stage::shape::{Shaper, Stats};
use bypath::table::filter::Filter;
use bypath::table::qdisc::{Class, Handle, Htb, Kind, Limit, Qdisc, Tbf};
use proptest::prelude::*;
use std::sync::Arc;

pub const ROOT: u32 = 0x1_0000;

pub fn class(minor: u32, parent: u32, bytes_per_second: u64, ceil: u64) -> Class {
    Class {
        id: Handle(ROOT | minor),
        parent: Handle(ROOT | parent),
        generation: 0,
        rate: rate(bytes_per_second),
        ceil: rate(ceil),
        buffer_ns: 1_000_000,
        cbuffer_ns: 1_000_000,
        prio: 0,
        quantum: 1500,
        leaf: Some(fifo(Limit::Packets(1000))),
        filters: Vec::new(),
    }
}

pub fn htb(default: u32, classes: Vec<Class>) -> Htb {
    Htb {
        default,
        rate2quantum: 10,
        direct_qlen: 1000,
        classes,
    }
}

pub fn root(htb: Htb) -> Arc<Qdisc> {
    qdisc(ROOT, Kind::Htb(htb))
}

/// A tree of one class above `shares`, which may each have all of it.
pub fn sharing(bytes_per_second: u64, shares: &[u64]) -> Htb {
    let mut classes = vec![class(1, 0, bytes_per_second, bytes_per_second)];
    for (n, share) in shares.iter().enumerate() {
        let quantum = (share / 10).clamp(1000, 200_000) as u32;
        classes.push(Class {
            quantum,
            ..class(0x10 + n as u32, 1, *share, bytes_per_second)
        });
    }
    htb(0, classes)
}

fn any_htb() -> impl Strategy<Value = Htb> {
    let rate_of = prop_oneof![Just(8_000u64), Just(125_000), Just(1_000_000), 1_000..2_000_000u64];
    let one = (
        any::<u16>(),
        rate_of,
        1..4u64,
        0..30_000_000i64,
        0..30_000_000i64,
        0..3u8,
        100..4000u32,
        1..6u32,
    );
    (proptest::collection::vec(one, 1..14), 0..20u32, 0..5u32).prop_map(|(classes, default, direct_qlen)| {
        let mut made: Vec<Class> = Vec::new();
        for (n, (above, bytes, times, buffer_ns, cbuffer_ns, prio, quantum, limit)) in classes.into_iter().enumerate() {
            // Numbers go against the order of the list, so that nothing depends on it.
            let minor = 1 + (n as u32 * 7) % 19;
            // Many below the first, so that there are turns to take.
            let parent = if above % 2 == 0 {
                0
            } else {
                usize::from(above / 2) % (n + 1)
            };
            let parent = if parent == n { 0 } else { made[parent].id.minor() };
            let bytes = if n == 0 { 10 * bytes } else { bytes };
            made.push(Class {
                buffer_ns,
                cbuffer_ns,
                prio,
                quantum,
                leaf: Some(fifo(Limit::Packets(limit))),
                ..class(minor, parent, bytes, bytes * times)
            });
        }
        let depth = |minor: u32| {
            let mut at = Some(minor);
            std::iter::from_fn(|| {
                let class = made.iter().find(|class| Some(class.id.minor()) == at)?;
                at = Some(class.parent.minor());
                at
            })
            .count()
        };
        let shallow: Vec<Class> = made
            .iter()
            .filter(|class| depth(class.id.minor()) <= 7)
            .cloned()
            .collect();
        Htb {
            default,
            direct_qlen,
            ..htb(0, shallow)
        }
    })
}

fn any_arrivals() -> impl Strategy<Value = Vec<(u64, Probe)>> {
    // Some come over time, some all at once, so that many classes have something to send for long.
    prop_oneof![
        arrivals(),
        arrivals().prop_map(|arrivals| {
            let at_once = arrivals.into_iter().map(|(_, probe)| (0, probe));
            at_once.collect()
        })
    ]
}

fn arrivals() -> impl Strategy<Value = Vec<(u64, Probe)>> {
    let gap = prop_oneof![20 => Just(0u64), 6 => 0..100_000u64, 3 => 0..10_000_000u64, 1 => 0..400_000_000u64];
    proptest::collection::vec((gap, 40..1600u32, 0..21u32), 1..300).prop_map(|frames| {
        let mut now_ns = 0;
        let arrivals = frames.into_iter().enumerate().map(|(number, (gap, size, minor))| {
            now_ns += gap;
            (now_ns, Probe::to(number as u32, size, ROOT | minor))
        });
        arrivals.collect()
    })
}

/// What left and when, by the model.
fn run_model(model: &mut Model, arrivals: &[(u64, Probe)]) -> Vec<(u64, Probe)> {
    let (mut sent, mut arrivals, mut now_ns) = (Vec::new(), arrivals.iter().peekable(), 0);
    loop {
        while let Some((_, probe)) = arrivals.next_if(|(at_ns, _)| *at_ns <= now_ns) {
            model.enqueue(probe.clone());
        }
        while let Some(probe) = model.dequeue(now_ns) {
            sent.push((now_ns, probe));
        }
        let next = [arrivals.peek().map(|(at_ns, _)| *at_ns), model.due_ns()];
        match next.into_iter().flatten().min() {
            Some(next_ns) => now_ns = next_ns,
            None => return sent,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_leave_as_in_the_model((htb, arrivals) in (any_htb(), any_arrivals())) {
        let mut model = Model::new(ROOT, &htb);
        let expected = run_model(&mut model, &arrivals);
        let mut shaper = shaper(root(htb));
        let sent = run(&mut shaper, &arrivals, u64::MAX);
        let short = |sent: &[(u64, Probe)]| sent.iter().map(|(at_ns, probe)| (*at_ns, probe.number)).collect::<Vec<_>>();
        prop_assert_eq!(short(&sent), short(&expected));
        let stats = shaper.stats();
        let lent: Vec<_> = stats[1..].iter().map(|(id, stats)| (id.0, stats.lended, stats.borrowed)).collect();
        prop_assert_eq!(lent, model.lent());
        prop_assert_eq!(stats[0].1.drops, model.dropped.len() as u64);
        prop_assert_eq!(stats[0].1.packets as usize + model.dropped.len(), arrivals.len());
    }
}

pub fn of(shaper: &Shaper<Probe>, minor: u32) -> Stats {
    let found = shaper.stats().into_iter().find(|(id, _)| *id == Handle(ROOT | minor));
    found.expect("it counts").1
}

/// Keeps the classes `busy` full for `time_ns` from `now_ns` on, and says what each sent; what others have leaves.
pub fn keep_busy(shaper: &mut Shaper<Probe>, busy: &[u32], size: u32, now_ns: &mut u64, time_ns: u64) -> Vec<u64> {
    let before: Vec<u64> = busy.iter().map(|&minor| of(shaper, minor).bytes).collect();
    let (until_ns, mut lost) = (*now_ns + time_ns, Vec::new());
    for &minor in busy {
        for _ in of(shaper, minor).backlog_packets..8 {
            shaper.enqueue(Probe::to(0, size, ROOT | minor), *now_ns, &mut lost);
        }
    }
    while *now_ns < until_ns {
        while let Some(probe) = shaper.dequeue(*now_ns, &mut lost) {
            if busy.contains(&(probe.priority & 0xffff)) {
                shaper.enqueue(probe, *now_ns, &mut lost);
            }
        }
        let due_ns = shaper.due_ns().expect("frames wait");
        assert!(due_ns > *now_ns);
        *now_ns = due_ns;
    }
    assert!(lost.is_empty());
    busy.iter()
        .zip(before)
        .map(|(&minor, before)| of(shaper, minor).bytes - before)
        .collect()
}

pub fn near(is: u64, should_be: u64, thousandths: u64, what: &str) {
    let off = is.abs_diff(should_be);
    assert!(
        off * 1000 <= should_be * thousandths,
        "{what}: {is} instead of {should_be}"
    );
}

#[test]
fn shares_are_kept_when_classes_compete_borrow_and_go_idle() {
    let mut shaper = shaper(root(sharing(1_250_000, &[750_000, 375_000, 125_000])));
    let mut now_ns = 0;
    for (n, share) in keep_busy(&mut shaper, &[0x10, 0x11, 0x12], 1000, &mut now_ns, 10 * SECOND)
        .iter()
        .enumerate()
    {
        near(*share, [7_500_000, 3_750_000, 1_250_000][n], 20, "all compete");
    }
    // The first goes idle: what it leaves is shared by quantum, 3 to 1.
    let shares = keep_busy(&mut shaper, &[0x11, 0x12], 1000, &mut now_ns, 10 * SECOND);
    near(shares[0] + shares[1], 12_500_000, 2, "nothing is left over");
    near(shares[0], 9_375_000, 20, "borrowed by quantum");
    // Alone, it has all.
    let lent = |shaper: &Shaper<Probe>| [of(shaper, 0x12).lended, of(shaper, 0x12).borrowed];
    let before = lent(&shaper);
    let alone = keep_busy(&mut shaper, &[0x12], 1000, &mut now_ns, 10 * SECOND)[0];
    near(alone, 12_500_000, 2, "alone");
    let [lended, borrowed] = lent(&shaper);
    assert!(lended > before[0] && borrowed - before[1] > lended - before[0]);
    let all: u64 = [0x10, 0x11, 0x12].map(|minor| of(&shaper, minor).borrowed).iter().sum();
    assert_eq!(of(&shaper, 1).lended, all);
    // All come back.
    let shares = keep_busy(&mut shaper, &[0x10, 0x11, 0x12], 1000, &mut now_ns, 10 * SECOND);
    for (share, wanted) in shares.into_iter().zip([7_500_000, 3_750_000, 1_250_000]) {
        near(share, wanted, 20, "all compete again");
    }
}

#[test]
fn rates_are_kept_from_slow_to_fast() {
    for (bits, size) in [
        (64_000u64, 100),
        (64_000, 1514),
        (1_000_000, 1514),
        (100_000_000, 300),
        (5_000_000_000, 9000),
    ] {
        let bytes_per_second = bits / 8;
        let mut shaper = shaper(root(htb(0, vec![class(1, 0, bytes_per_second, bytes_per_second)])));
        let mut now_ns = 0;
        keep_busy(&mut shaper, &[1], size, &mut now_ns, 2 * SECOND);
        let start_ns = now_ns;
        let bytes = keep_busy(&mut shaper, &[1], size, &mut now_ns, 10 * SECOND)[0];
        let fair = u128::from(bytes_per_second) * u128::from(now_ns - start_ns) / u128::from(SECOND);
        assert!(
            bytes.abs_diff(fair as u64) <= u64::from(size),
            "{bits} bit/s: {bytes} of {fair}"
        );
    }
}

#[test]
fn lower_priorities_wait_and_none_starves_at_its_own_rate() {
    let mut config = sharing(1_250_000, &[125_000, 125_000]);
    config.classes[2].prio = 1;
    let mut shaper = shaper(root(config));
    let shares = keep_busy(&mut shaper, &[0x10, 0x11], 1000, &mut 0, 10 * SECOND);
    near(shares[0], 11_250_000, 5, "borrows first");
    near(shares[1], 1_250_000, 10, "has its own rate");
}

#[test]
fn a_frame_goes_where_priority_filters_and_default_say() {
    const ROUND: u32 = u32::MAX;
    let to = |minor| Handle(ROOT | minor);
    let filter = Filter::mark;
    let mut classes = vec![
        class(1, 0, 1000, 1000),
        class(0x10, 1, 1000, 1000),
        class(0x11, 1, 1000, 1000),
        class(2, 0, 1000, 1000),
    ];
    classes[0].filters = vec![filter(7, to(0x11)), filter(8, to(1)), filter(9, to(0x99))];
    let filters = vec![
        filter(1, to(0x10)),
        filter(2, to(1)),
        filter(3, to(0)),
        filter(4, to(0x99)),
        filter(7, to(1)),
        filter(8, to(1)),
    ];
    let root = Qdisc {
        filters,
        ..(*root(htb(2, classes))).clone()
    };
    // Priority, mark, and the class that counts it; 0 is the direct queue, and `ROUND` a circle of filters.
    let cases = [
        (ROOT | 0x10, 0, 0x10),
        (ROOT | 0x10, 3, 0x10),
        (ROOT, 1, 0),
        (0, 1, 0x10),
        (0, 2, 2),
        (0, 3, 0),
        (0, 4, 2),
        (0, 7, 0x11),
        (0, 8, ROUND),
        (ROOT | 1, 7, 0x11),
        (ROOT | 1, 1, 2),
        (ROOT | 1, 9, 2),
        (ROOT | 0x77, 1, 0x10),
        (0x2_0010, 0, 2),
        (6, 0, 2),
    ];
    for (priority, mark, minor) in cases {
        let goes = u64::from(minor != ROUND);
        let (mut shaper, mut lost) = (shaper(Arc::new(root.clone())), Vec::new());
        let probe = Probe {
            mark,
            ..Probe::to(0, 100, priority)
        };
        shaper.enqueue(probe, 0, &mut lost);
        let waits: Vec<u32> = [0x10, 0x11, 2]
            .into_iter()
            .filter(|&minor| of(&shaper, minor).backlog_packets == 1)
            .collect();
        let expected: &[u32] = if minor == 0 || minor == ROUND { &[] } else { &[minor] };
        let whole = of(&shaper, 0);
        assert_eq!(
            (waits.as_slice(), whole.special, whole.drops),
            (expected, u64::from(minor == 0), 1 - goes),
            "{priority:x} {mark}"
        );
        assert_eq!(drain(&mut shaper, 0, &mut lost).len() as u64, goes);
        assert_eq!(lost.len() as u64, 1 - goes);
    }
}

#[test]
fn frames_of_no_class_go_first_and_have_their_limit() {
    let config = Htb {
        direct_qlen: 2,
        ..htb(0x99, vec![class(0x10, 0, 1000, 1000)])
    };
    let (mut shaper, mut lost) = (shaper(root(config)), Vec::new());
    shaper.enqueue(Probe::to(0, 100, ROOT | 0x10), 0, &mut lost);
    (1..4).for_each(|n| shaper.enqueue(Probe::new(n, 100), 0, &mut lost));
    assert_eq!(lost, [Probe::new(3, 100)]);
    let order: Vec<u32> = drain(&mut shaper, 0, &mut lost)
        .iter()
        .map(|probe| probe.number)
        .collect();
    assert_eq!(order, [1, 2, 0]);
    let whole = of(&shaper, 0);
    assert_eq!((whole.special, whole.drops, whole.packets), (2, 1, 3));
}

#[test]
fn what_the_kernel_sent_by_a_class_is_paid_by_all_above() {
    let mut shaper = shaper(root(sharing(125_000, &[62_500, 62_500])));
    let mut lost = Vec::new();
    let busy = |n| Probe::to(n, 1000, ROOT | 0x10 | (n % 2));
    shaper.charge(Handle(ROOT | 0x10), (125_000, 125), 0);
    shaper.enqueue(busy(1), 0, &mut lost);
    // The other class has tokens, and its ceil has; so it sends, as it would in the kernel.
    assert_eq!(drain(&mut shaper, 0, &mut lost).len(), 1);
    // The first has paid for one packet by its own rate, the class above for the others: it sends when its ceil is paid for (1 s),
    // with the millisecond that it had.
    // Bytes of no class are nobody's.
    shaper.charge(Handle(ROOT | 0x99), (1 << 40, 1), 0);
    shaper.charge(Handle(ROOT), (1 << 40, 1), 0);
    assert!(lost.is_empty());
    assert_eq!(run(&mut shaper, &[(0, busy(0))], u64::MAX), [(999_000_000, busy(0))]);
    // Over ten seconds both sides together have the rate: half by the kernel, half here.
    let (mut now_ns, mut sent) = (1 << 30, 0);
    let mut shaper = self::shaper(root(sharing(125_000, &[62_500, 62_500])));
    for _ in 0..200 {
        shaper.charge(Handle(ROOT | 0x10), (62_500 / 20, 3), now_ns);
        let until_ns = now_ns + SECOND / 20;
        sent += keep_busy(&mut shaper, &[0x11], 500, &mut now_ns, SECOND / 20)[0];
        now_ns = until_ns;
    }
    near(sent, 625_000, 20, "half");
}

#[test]
fn a_class_that_the_kernel_used_up_is_not_forgotten() {
    let config = htb(0, vec![class(0x10, 0, 1_000, 1_000), class(0x11, 0, 125_000, 125_000)]);
    let (mut shaper, mut lost) = (shaper(root(config)), Vec::new());
    (0..2).for_each(|n| shaper.enqueue(Probe::to(n, 10_000, ROOT | 0x10), 0, &mut lost));
    assert_eq!(drain(&mut shaper, 0, &mut lost).len(), 1);
    assert_eq!(shaper.due_ns(), Some(9_999_000_000), "the other class has no event");
    shaper.charge(Handle(ROOT | 0x11), (1000, 1), 0);
    shaper.enqueue(Probe::to(2, 100, ROOT | 0x11), 0, &mut lost);
    assert_eq!(run(&mut shaper, &[], SECOND)[0].0, 7_000_000);
}

#[test]
fn a_leaf_may_shape_by_itself() {
    let mut config = sharing(1_250_000, &[1_250_000]);
    let inner = Tbf {
        child: fifo(Limit::Packets(10)),
        ..tbf(125_000, 8_000_000)
    };
    config.classes[1].leaf = Some(qdisc(0x10_0000, Kind::Tbf(inner)));
    let (mut shaper, mut lost) = (shaper(root(config)), Vec::new());
    for n in 0..3 {
        shaper.enqueue(Probe::to(n, 1000, ROOT | 0x10), 0, &mut lost);
    }
    assert_eq!(drain(&mut shaper, 0, &mut lost).len(), 1);
    assert_eq!(shaper.due_ns(), Some(8_000_000));
    shaper.charge(Handle(0x10_0000), (1000, 1), 0);
    assert!(drain(&mut shaper, 8_000_000, &mut lost).is_empty());
    assert_eq!(shaper.due_ns(), Some(16_000_000));
    assert_eq!(drain(&mut shaper, 16_000_000, &mut lost).len(), 1);
}
