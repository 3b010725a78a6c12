//! Any tree of any kinds, under any treatment: frames that come, that are taken, changes of the tree, frames of the kernel's. Every frame
//! is somewhere, counts agree, nothing spins, and in the end nothing waits for ever. One seed is one run.

use crate::lab::*;
use bypath::stage::shape::{Packet, Shaper};
use bypath::table::qdisc::{Class, Fifo, Fq, FqCodel, Handle, Htb, Kind, Limit, Prio, Qdisc, Rate, Sfq, Tbf};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::sync::Arc;

const ROOT: u32 = 0x1_0000;

fn any_rate(rng: &mut ChaCha8Rng) -> Rate {
    Rate {
        bytes_per_second: [0, 2_000, 10_000, 1_000_000, 1_000_000_000][rng.random_range(0..5)],
        overhead: rng.random_range(0..3) * 10,
        mpu: rng.random_range(0..2) * 64,
        atm: rng.random_bool(0.2),
    }
}

/// A qdisc, with at most `depth` others below it on each way.
fn any_qdisc(rng: &mut ChaCha8Rng, handle: u32, depth: u32) -> Arc<Qdisc> {
    let below = |rng: &mut ChaCha8Rng, n: u32| any_qdisc(rng, handle + 0x10_0000 * (1 + n), depth - 1);
    let limit = rng.random_range(0..12);
    let kind = match if depth == 0 { 0 } else { rng.random_range(0..9) } {
        0 | 1 => Kind::Fifo(Fifo {
            limit: if rng.random_bool(0.5) {
                Limit::Packets(limit)
            } else {
                Limit::Bytes(limit * 700)
            },
            drops_head: rng.random_bool(0.3),
        }),
        2 => Kind::Prio(Prio {
            bands: (0..rng.random_range(1..4)).map(|n| below(rng, n)).collect(),
            priomap: std::array::from_fn(|n| n as u8 % 4),
            by_map: rng.random_bool(0.3),
        }),
        3 => Kind::Tbf(Tbf {
            rate: any_rate(rng),
            buffer_ns: rng.random_range(0..5_000_000),
            peak: rng
                .random_bool(0.3)
                .then(|| (any_rate(rng), rng.random_range(0..100_000))),
            max_size: rng.random_range(500..2000),
            limit: 0,
            child: below(rng, 0),
        }),
        4 => Kind::FqCodel(FqCodel {
            limit,
            memory_limit: rng.random_range(0..100_000),
            flows: rng.random_range(0..20),
            quantum: rng.random_range(0..2000),
            target_ns: 1_000_000,
            interval_ns: 5_000_000,
            ecn: rng.random_bool(0.5),
            ce_threshold_ns: rng.random_bool(0.3).then_some(2_000_000),
            drop_batch: rng.random_range(0..8),
            frame_max: 1514,
        }),
        5 => Kind::Sfq(Sfq {
            limit,
            flows: rng.random_range(0..8),
            divisor: rng.random_range(0..32),
            depth: rng.random_range(0..6),
            quantum: rng.random_range(0..2000),
            drops_head: rng.random_bool(0.5),
            perturb_s: rng.random_range(0..2),
        }),
        6 => Kind::Fq(Fq {
            limit,
            flow_limit: rng.random_range(0..6),
            quantum: rng.random_range(0..2000),
            initial_quantum: rng.random_range(0..4000),
            orphan_mask: [0, 3, u32::MAX][rng.random_range(0..3)],
            refill_delay_ns: rng.random_range(0..5_000_000),
            paces: rng.random_bool(0.8),
            max_rate: rng.random_bool(0.5).then(|| rng.random_range(0..1_000_000)),
            low_rate_threshold: rng.random_range(0..100_000),
            ce_threshold_ns: rng.random_bool(0.3).then_some(2_000_000),
            priomap: std::array::from_fn(|n| n as u8 % 4),
            weights: std::array::from_fn(|_| rng.random_range(0..5000)),
        }),
        _ => Kind::Htb(any_htb(rng, handle, depth)),
    };
    qdisc(handle, kind)
}

fn any_htb(rng: &mut ChaCha8Rng, handle: u32, depth: u32) -> Htb {
    let classes = (1..rng.random_range(1..9u32)).map(|minor| Class {
        id: Handle(handle | minor),
        // Also one that is not there, itself, or one that comes later.
        parent: Handle(handle | rng.random_range(0..minor + 2)),
        generation: 0,
        rate: any_rate(rng),
        ceil: any_rate(rng),
        buffer_ns: rng.random_range(-5..5_000_000),
        cbuffer_ns: rng.random_range(-5..5_000_000),
        prio: rng.random_range(0..9),
        quantum: rng.random_range(0..3000),
        leaf: rng
            .random_bool(0.9)
            .then(|| any_qdisc(rng, handle + 0x1000_0000 + (minor << 16), depth - 1)),
        filters: Vec::new(),
    });
    Htb {
        classes: classes.collect(),
        default: rng.random_range(0..8),
        rate2quantum: 10,
        direct_qlen: rng.random_range(0..5),
    }
}

/// What holds at any time.
fn check(shaper: &Shaper<Probe>, came: usize, went: usize) {
    assert_eq!(shaper.len() + went, came, "frames are lost or doubled");
    assert_eq!(shaper.is_empty(), shaper.due_ns().is_none());
    let (_, root) = shaper.stats()[0];
    assert_eq!(root.backlog_packets as usize, shaper.len());
    assert_eq!(root.backlog_bytes == 0, shaper.is_empty());
}

fn treat(seed: u64) {
    let rng = &mut ChaCha8Rng::seed_from_u64(seed);
    let root = any_qdisc(rng, ROOT, 3);
    let (mut shaper, mut now_ns) = (Shaper::new(root, 0), 0);
    let (mut came, mut sent, mut lost) = (0, 0, Vec::new());
    for _ in 0..rng.random_range(1..200) {
        match rng.random_range(0..42) {
            0 => shaper.change(any_qdisc(rng, ROOT, 3), now_ns, &mut lost),
            1 => {
                let same = shaper.root().clone();
                shaper.change(same, now_ns, &mut lost);
            }
            2 => shaper.purge(&mut lost),
            3..6 => {
                let of = shaper.stats()[rng.random_range(0..shaper.stats().len())].0;
                shaper.charge(of, (rng.random_range(0..5_000), rng.random_range(0..5)), now_ns);
            }
            6..28 => {
                let probe = any_probe(rng, came);
                came += 1;
                shaper.enqueue(probe, now_ns, &mut lost);
            }
            28..34 => sent += usize::from(shaper.dequeue(now_ns, &mut lost).is_some()),
            34..37 => sent += drain(&mut shaper, now_ns, &mut lost).len(),
            37..39 => {
                let (waited, before) = (shaper.len(), lost.len());
                assert_eq!(shaper.longest() == 0, waited == 0);
                shaper.shed(&mut lost);
                assert_eq!(lost.len() == before, waited == 0);
            }
            _ => now_ns = shaper.due_ns().unwrap_or(now_ns).max(now_ns) + rng.random_range(0..2_000_000),
        }
        check(&shaper, came, sent + lost.len());
    }
    // Nothing waits longer than debts last: a minute at most for each class that it passes.
    let end_ns = now_ns + 10_000 * SECOND;
    let mut wakeups = 0;
    while let Some(due_ns) = shaper.due_ns() {
        now_ns = now_ns.max(due_ns);
        sent += drain(&mut shaper, now_ns, &mut lost).len();
        wakeups += 1;
        assert!(
            now_ns < end_ns && wakeups < 20_000,
            "{} frames still wait",
            shaper.len()
        );
    }
    check(&shaper, came, sent + lost.len());
}

/// A frame that may come.
fn any_probe(rng: &mut ChaCha8Rng, number: usize) -> Probe {
    let priority = [0, rng.random_range(0..16), ROOT | rng.random_range(0..9)][rng.random_range(0..3)];
    Probe {
        mark: rng.random_range(0..2),
        bytes: vec![rng.random_range(0..8); 14],
        ..Probe::to(number as u32, rng.random_range(60..1600), priority)
    }
}

/// How many frames passed. One shaper lets frames pass where it can, its twin puts each in and takes it out: nobody can tell.
fn pass(seed: u64) -> usize {
    let rng = &mut ChaCha8Rng::seed_from_u64(seed);
    let root = any_qdisc(rng, ROOT, 3);
    let (mut quick, mut slow, mut now_ns, mut passed) = (Shaper::new(root.clone(), 0), Shaper::new(root, 0), 0, 0);
    let (mut lost, mut other_lost) = (Vec::new(), Vec::new());
    for number in 0..rng.random_range(1..200) {
        let (mut sent, mut other_sent) = (Vec::new(), Vec::new());
        match rng.random_range(0..40) {
            0 => {
                let root = any_qdisc(rng, ROOT, 3);
                quick.change(root.clone(), now_ns, &mut lost);
                slow.change(root, now_ns, &mut other_lost);
            }
            1 => {
                let of = slow.stats()[rng.random_range(0..slow.stats().len())].0;
                let sent = (rng.random_range(0..5_000), rng.random_range(0..5));
                quick.charge(of, sent, now_ns);
                slow.charge(of, sent, now_ns);
            }
            2..28 => {
                let probe = any_probe(rng, number);
                let full_ring = rng.random_bool(0.1);
                slow.enqueue(probe.clone(), now_ns, &mut other_lost);
                if !full_ring && quick.passes(probe.size(), &probe.facts(), now_ns) {
                    passed += 1;
                    sent.push(probe);
                } else {
                    quick.enqueue(probe, now_ns, &mut lost);
                }
                if !full_ring {
                    other_sent = drain(&mut slow, now_ns, &mut other_lost);
                    sent.extend(drain(&mut quick, now_ns, &mut lost));
                }
            }
            _ => {
                now_ns = slow.due_ns().unwrap_or(now_ns).max(now_ns) + rng.random_range(0..2_000_000);
                other_sent = drain(&mut slow, now_ns, &mut other_lost);
                sent = drain(&mut quick, now_ns, &mut lost);
            }
        }
        assert_eq!((sent, &lost), (other_sent, &other_lost));
        assert_eq!(quick.stats(), slow.stats());
        assert_eq!(quick.due_ns().is_none(), slow.due_ns().is_none());
    }
    passed
}

#[test]
fn a_frame_that_passes_does_what_one_does_that_is_put_in() {
    const RUNS: u64 = 10_000;
    let passed: usize = (0..RUNS).map(pass).sum();
    assert!(passed > 5 * RUNS as usize, "only {passed} frames passed in {RUNS} runs");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_nothing_spins_and_all_ends(seed in any::<u64>()) {
        treat(seed);
    }
}
