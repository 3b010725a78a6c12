//! The walk in memory: nanoseconds per packet for parse, route, rewrite, and allocations per packet (none, or it says so and
//! fails). `walk` is the boxes alone; `tracked` is the same for packets of established connections, in random order and in
//! bursts as a worker takes them, `nat` of such whose source is translated; `bridged` are frames between stations of a bridge, in
//! random order, beside the same ones on a wire; `turn` is a whole worker between two in-memory ports, with their
//! copies, and the same with a qdisc at the second one that never binds.

mod allocations;
#[path = "../tests/box/bridge.rs"]
mod bridge;
mod cpu_time;
#[path = "../tests/box/mod.rs"]
mod lab;
#[path = "../tests/box/rules.rs"]
mod rules;
#[allow(dead_code)]
#[path = "../tests/shaping/tree.rs"]
mod tree;
#[path = "setup/walks.rs"]
mod walks;

use allocations::allocations;
use bypath::packet::{BURST, Family, PortIndex, Verdict};
use bypath::stage::routing::Flows;
use bypath::table::Snapshot;
use bypath::worker::pipeline::{Here, Unobserved, walk};
use cpu_time::CpuTime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use walks::{FRAMES, Kind, Phase, frames};

/// One frame's worth of walks before its hop limit runs low.
const WALKS: usize = 250;

fn bench_walk(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("walk");
    group
        .throughput(Throughput::Elements((FRAMES * WALKS) as u64))
        .sample_size(20);
    for (family, name) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
        for routes in [1, 1_000, 1_000_000] {
            if family == Family::V6 && routes > 200_000 {
                continue;
            }
            // The gateway answers with the address of d0, so that a rewritten frame may walk again.
            let snapshot = lab::snapshot(routes, lab::mac(0));
            let (mut frames, packets) = frames(family, routes);
            let mut flows = Flows::new(0, 1024);
            // `known`: the worker has seen the destinations in this generation. `new`: it has not, everything is looked up.
            for known in [true, false] {
                let mut allocated = 0;
                let group_name = format!("{name}/{routes}/{}", if known { "known" } else { "new" });
                group.bench_function(group_name, |b| {
                    b.iter(|| {
                        frames
                            .iter_mut()
                            .zip(&packets)
                            .for_each(|(frame, packet)| frame.fill(packet));
                        let before = allocations();
                        let mut here = Here::new(PortIndex(0), &snapshot);
                        here.by_destination = [known; 2];
                        for _ in 0..WALKS {
                            for frame in &mut frames {
                                let verdict = walk(frame, &here, &mut flows, &mut Unobserved);
                                assert_eq!(black_box(verdict), Verdict::Forward(PortIndex(1)));
                            }
                        }
                        allocated += allocations() - before;
                    });
                });
                assert_eq!(allocated, 0, "the walk allocated");
            }
        }
    }
    group.finish();
}

/// The time of the walk alone: the packets of a burst are filled in between. One burst is a few microseconds, so the median
/// of many does not see what else the machine does.
fn timed(name: &str, bursts: impl FnOnce(usize, &mut dyn FnMut(&mut dyn FnMut()))) {
    const BURSTS: usize = 200_000;
    let (mut times, mut allocated) = (Vec::with_capacity(BURSTS), 0);
    bursts(BURSTS, &mut |burst| {
        let (before, start) = (allocations(), Instant::now());
        burst();
        times.push(start.elapsed());
        allocated += allocations() - before;
    });
    report(name, times, allocated);
}

/// Says what a packet of a burst took.
fn report(name: &str, mut times: Vec<Duration>, allocated: u64) {
    times.sort_unstable();
    let each = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e9 / BURST as f64;
    println!(
        "{name}: {:.1} ns a packet (median of {} bursts; 10 of 100 below {:.1}, 90 below {:.1}), {allocated} allocations",
        each(50),
        times.len(),
        each(10),
        each(90)
    );
    assert_eq!(allocated, 0, "the walk allocated");
}

/// Whether the command line asks for it.
fn is_wanted(name: &str) -> bool {
    let filters: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    filters.iter().all(|filter| name.contains(filter.as_str()))
}

fn bench_tracked(_: &mut Criterion<CpuTime>) {
    for (flows, many) in [(1_000, "1k"), (1_000_000, "1M")] {
        for (kind, word) in [
            (Kind::Untracked, "none"),
            (Kind::Udp, "udp"),
            (Kind::Tcp, "tcp"),
            (Kind::Nat, "nat"),
        ] {
            let name = format!("tracked/{word}/{many}");
            if is_wanted(&name) {
                timed(&name, |bursts, each| {
                    walks::tracked(flows, kind, Phase::Established, bursts, each)
                });
            }
        }
    }
}

fn bench_bridged(_: &mut Criterion<CpuTime>) {
    for (stations, many) in [(2, "2"), (100, "100"), (10_000, "10k"), (100_000, "100k")] {
        let name = format!("bridged/{many}");
        if is_wanted(&name) {
            timed(&name, |bursts, each| walks::bridged(stations, false, bursts, each));
        }
    }
    if is_wanted("bridged/wire") {
        timed("bridged/wire", |bursts, each| {
            walks::bridged(10_000, true, bursts, each)
        });
    }
}

/// A whole worker; `shaped` has d1 a tbf that never binds, for comparison.
fn bench_turn(c: &mut Criterion<CpuTime>) {
    turn(c, "ipv4/1000", lab::snapshot(1_000, lab::FAR));
    let mut snapshot = lab::snapshot(1_000, lab::FAR);
    Arc::make_mut(&mut snapshot.ifaces)[1].shaping = tree::tbf(tree::NEVER_BINDS);
    turn(c, "ipv4/1000/shaped", snapshot);
}

fn turn(c: &mut Criterion<CpuTime>, name: &str, snapshot: Snapshot) {
    let mut turn = walks::Turn::new(snapshot);
    let mut group = c.benchmark_group("turn");
    group.throughput(Throughput::Elements(BURST as u64)).sample_size(20);
    let mut allocated = 0;
    group.bench_function(name, |b| {
        b.iter(|| {
            turn.offer();
            let before = allocations();
            turn.run();
            allocated += allocations() - before;
        });
    });
    group.finish();
    println!("turn/{name}: {allocated} allocations, {} packets", turn.offered);
    turn.assert_all_forwarded();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = bench_walk, bench_tracked, bench_bridged, bench_turn
}
criterion_main!(benches);
