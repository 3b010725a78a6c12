//! tbf against what defines a token bucket (the head of net/sched/sch_tbf.c): frames `i` to `k` that leave at `t` are together
//! no longer than `burst + rate * (t[k] - t[i])`, for each `i` and `k`; and each leaves as soon as this and its arrival allow.

use crate::htb;
use crate::lab::*;
use bypath::stage::shape::{Packet, Shaper};
use bypath::table::qdisc::{Handle, Kind, Limit, Qdisc, Rate, Tbf};
use proptest::prelude::*;
use std::sync::Arc;

/// When frames leave, by that definition alone. Costs and sizes in bytes * 10^9.
fn model(tbf: &Tbf, arrivals: &[(u64, Probe)]) -> Vec<u64> {
    let cost = |rate: &Rate, size: u32| {
        let framed = (i128::from(size) + i128::from(rate.overhead)).max(rate.mpu.into());
        let cells = if rate.atm { (framed + 47) / 48 * 53 } else { framed };
        cells * 1_000_000_000
    };
    let buckets: Vec<(Rate, i128)> = std::iter::once((tbf.rate, tbf.buffer_ns))
        .chain(tbf.peak)
        .map(|(rate, ns)| {
            let burst = i128::from(ns) * i128::from(rate.bytes_per_second);
            (rate, burst.max(cost(&rate, tbf.max_size)))
        })
        .collect();
    let mut left: Vec<u64> = Vec::new();
    for (k, (arrival, _)) in arrivals.iter().enumerate() {
        let mut at = left.last().copied().unwrap_or(0).max(*arrival);
        for (rate, burst) in &buckets {
            let mut sum = 0;
            for i in (0..=k).rev() {
                sum += cost(rate, arrivals[i].1.size);
                let per_ns = i128::from(rate.bytes_per_second);
                let wait = (sum - burst + per_ns - 1).div_euclid(per_ns);
                let from = if i == k { at } else { left[i] };
                if i < k && wait > 0 {
                    at = at.max(from + wait as u64);
                }
            }
        }
        left.push(at);
    }
    left
}

fn any_rate(least: u64) -> impl Strategy<Value = Rate> {
    let bytes = prop_oneof![least..100_000u64, 100_000..10_000_000u64, 10_000_000..2_000_000_000u64];
    (bytes, 0..40u16, 0..200u16, any::<bool>()).prop_map(|(bytes_per_second, overhead, mpu, atm)| Rate {
        bytes_per_second,
        overhead,
        mpu,
        atm,
    })
}

fn any_tbf() -> impl Strategy<Value = Tbf> {
    (
        any_rate(8_000),
        1..100_000_000u64,
        proptest::option::of((2..20u64, 1..100_000u64)),
        64..9000u32,
    )
        .prop_map(|(rate, buffer_ns, peak, max_size)| Tbf {
            rate,
            buffer_ns,
            peak: peak.map(|(times, ns)| {
                let bytes_per_second = rate.bytes_per_second * times;
                (
                    Rate {
                        bytes_per_second,
                        ..rate
                    },
                    ns,
                )
            }),
            max_size,
            limit: 1 << 30,
            child: fifo(Limit::Bytes(1 << 30)),
        })
}

fn any_arrivals(max_size: u32) -> impl Strategy<Value = Vec<(u64, Probe)>> {
    let gap = prop_oneof![3 => Just(0u64), 2 => 0..100_000u64, 1 => 0..1_000_000_000u64];
    proptest::collection::vec((gap, 1..=max_size), 1..60).prop_map(|gaps| {
        let mut now_ns = 0;
        let arrivals = gaps.into_iter().enumerate().map(|(number, (gap, size))| {
            now_ns += gap;
            (now_ns, Probe::new(number as u32, size))
        });
        arrivals.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_leave_as_soon_as_the_bound_allows(
        (tbf, arrivals) in any_tbf().prop_flat_map(|tbf| {
            let arrivals = any_arrivals(tbf.max_size);
            (Just(tbf), arrivals)
        })
    ) {
        let sent = run(&mut shaper(qdisc(0x1_0000, Kind::Tbf(tbf.clone()))), &arrivals, u64::MAX);
        let times: Vec<u64> = sent.iter().map(|(at_ns, _)| *at_ns).collect();
        prop_assert_eq!(times, model(&tbf, &arrivals));
        let order: Vec<u32> = sent.iter().map(|(_, probe)| probe.number).collect();
        prop_assert_eq!(order, (0..arrivals.len() as u32).collect::<Vec<_>>());
    }
}

/// Bytes that leave within 10 s when there is always something to send.
fn saturated(tbf: Tbf, size: u32) -> u64 {
    let mut shaper = shaper(qdisc(0x1_0000, Kind::Tbf(tbf)));
    let (mut now_ns, mut bytes, mut lost) = (0, 0, Vec::new());
    while now_ns <= 10 * SECOND {
        while shaper.len() < 64 {
            shaper.enqueue(Probe::new(0, size), now_ns, &mut lost);
        }
        while let Some(probe) = shaper.dequeue(now_ns, &mut lost) {
            bytes += u64::from(probe.size);
            shaper.enqueue(probe, now_ns, &mut lost);
        }
        now_ns = shaper.due_ns().expect("frames wait");
    }
    assert!(lost.is_empty());
    bytes
}

#[test]
fn rates_are_kept_to_the_frame() {
    for (bits, buffer_ns) in [
        (64_000u64, 200_000_000),
        (1_000_000, 20_000_000),
        (100_000_000, 1_000_000),
    ] {
        for size in [64u32, 1514] {
            let (bytes_per_second, burst) = (bits / 8, bits / 8 * buffer_ns / SECOND);
            let bytes = saturated(tbf(bytes_per_second, buffer_ns), size);
            let most = burst + 10 * bytes_per_second;
            assert!(
                bytes <= most && bytes + u64::from(size) > most,
                "{bits} bit/s by {size}: {bytes} of {most}"
            );
        }
    }
    // 5 Gbit/s in small frames are many.
    let bytes = saturated(tbf(625_000_000, 64_000), 1514);
    let most = 40_000 + 6_250_000_000;
    assert!(bytes <= most && bytes + 1514 > most, "{bytes} of {most}");
}

#[test]
fn a_frame_longer_than_the_burst_is_dropped() {
    let mut shaper = shaper(qdisc(0x1_0000, Kind::Tbf(tbf(125_000, 8_000_000))));
    let mut lost = Vec::new();
    shaper.enqueue(Probe::new(1, 1001), 0, &mut lost);
    shaper.enqueue(Probe::new(2, 1000), 0, &mut lost);
    assert_eq!(lost, [Probe::new(1, 1001)]);
    assert_eq!(drain(&mut shaper, 0, &mut lost), [Probe::new(2, 1000)]);
    let (_, stats) = shaper.stats()[0];
    assert_eq!(
        (stats.drops, stats.packets, stats.bytes, stats.overlimits),
        (1, 1, 1000, 0)
    );
}

#[test]
fn the_queue_has_its_limit_in_bytes() {
    let config = Tbf {
        limit: 3000,
        child: fifo(Limit::Bytes(3000)),
        ..tbf(125_000, 8_000_000)
    };
    let mut shaper = shaper(qdisc(0x1_0000, Kind::Tbf(config)));
    let mut lost = Vec::new();
    for number in 0..5 {
        shaper.enqueue(Probe::new(number, 1000), 0, &mut lost);
    }
    assert_eq!(lost.iter().map(|probe| probe.number).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(drain(&mut shaper, 0, &mut lost).len(), 1);
    let (handle, stats) = shaper.stats()[0];
    assert_eq!(handle, Handle(0x1_0000));
    assert_eq!((stats.drops, stats.overlimits), (2, 1));
    assert_eq!((stats.backlog_packets, stats.backlog_bytes), (2, 2000));
    assert_eq!(shaper.due_ns(), Some(8_000_000));
    // Whoever asks too early gets nothing, and it is no further overlimit.
    assert_eq!(shaper.dequeue(7_999_999, &mut lost), None);
    assert_eq!(shaper.stats()[0].1.overlimits, 1);
    assert_eq!(drain(&mut shaper, 8_000_000, &mut lost).len(), 1);
}

fn changed(from: Arc<Qdisc>, to: Arc<Qdisc>) -> (Shaper<Probe>, Vec<Probe>) {
    let (mut shaper, mut lost) = (shaper(from), Vec::new());
    for number in 0..4 {
        shaper.enqueue(Probe::new(number, 1000), 0, &mut lost);
    }
    assert_eq!(drain(&mut shaper, 0, &mut lost).len(), 1);
    shaper.change(to, 1_000_000, &mut lost);
    (shaper, lost)
}

#[test]
fn a_change_of_the_rate_keeps_frames_and_fills_the_bucket() {
    let root = |bytes, ns| qdisc(0x1_0000, Kind::Tbf(tbf(bytes, ns)));
    let (mut shaper, mut lost) = changed(root(125_000, 8_000_000), root(1_250_000, 800_000));
    assert!(lost.is_empty());
    assert_eq!(drain(&mut shaper, 1_000_000, &mut lost).len(), 1);
    assert_eq!(shaper.due_ns(), Some(1_800_000));
    // The same once more changes nothing: no second burst.
    shaper.change(root(1_250_000, 800_000), 1_100_000, &mut lost);
    assert!(drain(&mut shaper, 1_100_000, &mut lost).is_empty());
    assert_eq!((shaper.due_ns(), shaper.len()), (Some(1_800_000), 2));
}

#[test]
fn frames_too_long_for_smaller_buckets_do_not_block_it() {
    let root = |bytes, ns| qdisc(0x1_0000, Kind::Tbf(tbf(bytes, ns)));
    let (mut shaper, mut lost) = changed(root(125_000, 8_000_000), root(125_000, 4_000_000));
    assert!(lost.is_empty());
    assert!(drain(&mut shaper, 1_000_000, &mut lost).is_empty());
    assert_eq!((lost.len(), shaper.len(), shaper.due_ns()), (3, 0, None));
}

#[test]
fn another_kind_or_handle_drops_all() {
    let from = || qdisc(0x1_0000, Kind::Tbf(tbf(125_000, 8_000_000)));
    let others = [
        qdisc(0x2_0000, Kind::Tbf(tbf(125_000, 8_000_000))),
        fifo_named(0x1_0000, Limit::Packets(10)),
    ];
    for to in others {
        let (shaper, lost) = changed(from(), to.clone());
        assert_eq!((lost.len(), shaper.len(), shaper.due_ns()), (3, 0, None));
        assert_eq!(shaper.root(), &to);
    }
}

#[test]
fn what_the_kernel_sent_is_paid_for() {
    let mut shaper = shaper(qdisc(0x1_0000, Kind::Tbf(tbf(125_000, 8_000_000))));
    let mut lost = Vec::new();
    shaper.enqueue(Probe::new(1, 1000), 0, &mut lost);
    shaper.charge(Handle(0x1_0000), (2000, 2), 0);
    shaper.charge(Handle(0x2_0000), (99_999, 9), 0);
    assert!(drain(&mut shaper, 0, &mut lost).is_empty());
    assert_eq!(shaper.due_ns(), Some(16_000_000));
    assert_eq!(drain(&mut shaper, 16_000_000, &mut lost).len(), 1);
    // Debt has an end: a minute.
    shaper.charge(Handle(0x1_0000), (u64::MAX, 1), 16_000_000);
    shaper.enqueue(Probe::new(2, 1000), 16_000_000, &mut lost);
    assert!(drain(&mut shaper, 16_000_000, &mut lost).is_empty());
    assert_eq!(shaper.due_ns(), Some(60 * SECOND + 24_000_000));
}

#[test]
fn what_the_kernel_sent_is_paid_with_what_is_around_each_packet() {
    let around = |overhead, mpu, atm| Rate {
        overhead,
        mpu,
        atm,
        ..rate(125_000)
    };
    // Ten packets of 60 bytes.
    for (rate, bytes) in [
        (around(0, 0, false), 600),
        (around(38, 0, false), 980),
        (around(4, 84, false), 840),
        (around(0, 0, true), 1060),
    ] {
        let mut config = tbf(125_000, 8_000_000);
        config.rate = rate;
        let (mut shaper, mut lost) = (shaper(qdisc(0x1_0000, Kind::Tbf(config))), Vec::new());
        shaper.charge(Handle(0x1_0000), (600, 10), 0);
        // The longest frame costs all that the bucket holds: it waits for what the kernel took.
        shaper.enqueue(Probe::new(1, 1000), 0, &mut lost);
        assert!(drain(&mut shaper, 0, &mut lost).is_empty());
        assert_eq!(shaper.due_ns(), Some(bytes * 8000));
    }
}

#[test]
fn classes_of_htb_pay_for_what_is_around_each_packet_too() {
    // Ten packets of 60 bytes; a byte lasts a millisecond, and the bucket holds one.
    for (overhead, mpu, wait_ms) in [(0, 0, 599), (40, 0, 999), (0, 84, 839)] {
        let mut leaf = htb::class(0x10, 0, 1000, 1000);
        for rate in [&mut leaf.rate, &mut leaf.ceil] {
            (rate.overhead, rate.mpu) = (overhead, mpu);
        }
        let (mut shaper, mut lost) = (shaper(htb::root(htb::htb(0x10, vec![leaf]))), Vec::new());
        shaper.charge(Handle(0x1_0010), (600, 10), 0);
        shaper.enqueue(Probe::new(0, 60), 0, &mut lost);
        assert!(drain(&mut shaper, 0, &mut lost).is_empty());
        assert_eq!(shaper.due_ns(), Some(wait_ms * 1_000_000));
    }
}

/// As if each frame were longer, or shorter, in buckets, limits and counters.
#[test]
fn a_root_may_have_each_frame_count_more_or_less() {
    for (overhead, counts) in [(24, 1024), (-14, 986), (-2000, 1)] {
        let root = Qdisc {
            overhead,
            ..(*qdisc(0x1_0000, Kind::Tbf(tbf(128_000, 8_000_000)))).clone()
        };
        let (mut shaper, mut lost) = (shaper(Arc::new(root)), Vec::new());
        // The bucket holds 1024.
        assert!(shaper.passes(1000, &Probe::new(0, 1000).facts(), 0));
        shaper.enqueue(Probe::new(1, 1000), 0, &mut lost);
        assert_eq!(shaper.stats()[0].1.backlog_bytes, counts);
        shaper.enqueue(Probe::new(2, 1000), 0, &mut lost);
        let sent = run(&mut shaper, &[], SECOND);
        let last_ns = (3 * counts).saturating_sub(1024) * 1_000_000_000 / 128_000;
        assert!(sent[1].0.abs_diff(last_ns) <= 1, "{overhead}: {sent:?}");
        assert_eq!(shaper.stats()[0].1.bytes, 3 * counts);
    }
    let longer = Qdisc {
        overhead: 25,
        ..(*qdisc(0x1_0000, Kind::Tbf(tbf(128_000, 8_000_000)))).clone()
    };
    let (mut shaper, mut lost) = (shaper(Arc::new(longer)), Vec::new());
    shaper.enqueue(Probe::new(0, 1000), 0, &mut lost);
    assert_eq!(lost.len(), 1, "longer than the burst");
}

#[test]
fn all_frames_come_back() {
    let (mut shaper, mut lost) = (shaper(qdisc(0x1_0000, Kind::Tbf(tbf(125_000, 8_000_000)))), Vec::new());
    for number in 0..9 {
        shaper.enqueue(Probe::new(number, 100), 0, &mut lost);
    }
    shaper.purge(&mut lost);
    assert_eq!((lost.len(), shaper.len(), shaper.due_ns()), (9, 0, None));
    assert_eq!(shaper.stats()[0].1.drops, 0);
}

/// A link goes down, and comes back.
#[test]
fn buckets_are_full_after_a_reset() {
    let (mut shaper, mut lost) = (shaper(qdisc(0x1_0000, Kind::Tbf(tbf(125_000, 8_000_000)))), Vec::new());
    let frame = Probe::new(0, 1000);
    assert!(shaper.passes(1000, &frame.facts(), 0) && !shaper.passes(1000, &frame.facts(), 1_000_000));
    shaper.purge(&mut lost);
    assert!(shaper.passes(1000, &frame.facts(), 1_000_000));
}

#[test]
fn a_rate_of_zero_is_a_byte_in_a_nanosecond() {
    let config = Tbf {
        max_size: 2000,
        ..tbf(0, 2000)
    };
    let mut shaper = shaper(qdisc(0x1_0000, Kind::Tbf(config)));
    let mut lost = Vec::new();
    (0..3).for_each(|n| shaper.enqueue(Probe::new(n, 1500), 0, &mut lost));
    assert_eq!(drain(&mut shaper, 0, &mut lost).len(), 1);
    assert_eq!(shaper.due_ns(), Some(1000));
}

/// tbf_change fills the buckets whatever it is about; a change of the child is none of it.
#[test]
fn another_limit_fills_the_bucket_and_another_child_does_not() {
    let waits_ns = |change: fn(&mut Tbf)| {
        let (config, mut lost) = (tbf(1_000_000, 10_000_000), Vec::new());
        let mut shaper = shaper(qdisc(0x1_0000, Kind::Tbf(config.clone())));
        (0..12).for_each(|n| shaper.enqueue(Probe::new(n, 1000), 0, &mut lost));
        assert_eq!(drain(&mut shaper, 0, &mut lost).len(), 10);
        let mut other = config;
        change(&mut other);
        shaper.change(qdisc(0x1_0000, Kind::Tbf(other)), 0, &mut lost);
        let sent = drain(&mut shaper, 0, &mut lost).len();
        assert!(lost.is_empty());
        (sent, shaper.due_ns())
    };
    assert_eq!(waits_ns(|tbf| tbf.limit = 50_000), (2, None));
    assert_eq!(
        waits_ns(|tbf| tbf.child = fifo(Limit::Bytes(50_000))),
        (0, Some(1_000_000))
    );
}
