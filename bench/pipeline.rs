//! The walk in memory: nanoseconds per packet for parse, route, rewrite, and allocations per packet (none, or it says so and
//! fails). `walk` is the boxes alone; `turn` is a whole worker between two in-memory ports, with their copies.

mod cpu_time;
#[path = "../tests/box/mod.rs"]
mod lab;

use bypath::packet::{BURST, Family, Frame, PortIndex, Verdict};
use bypath::port::{MemConfig, MemPool, mem_port};
use bypath::stage::routing::Flows;
use bypath::worker::pipeline::{Here, Unobserved, walk};
use bypath::worker::{Limits, Shared, Worker};
use cpu_time::CpuTime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what is allocated, so that "no allocation per packet" is measured and not believed.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: hands every call to the system's allocator unchanged; the count is beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that System asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Frames in use: more than a burst, less than the second-level cache.
const FRAMES: usize = 4 * BURST;

/// One frame's worth of walks before its hop limit runs low.
const WALKS: usize = 250;

fn frames(family: Family, routes: u32) -> (Vec<Frame>, Vec<Vec<u8>>) {
    let dst = |n: usize| {
        if routes == 0 {
            lab::gateway(family)
        } else {
            lab::destination_net(family, n as u32 % routes).0 | 9
        }
    };
    let packets: Vec<_> = (0..FRAMES).map(|n| lab::udp(family, dst(n), 18)).collect();
    let mut frames = MemPool::new(FRAMES as u32, 2048, 256).take_all();
    frames
        .iter_mut()
        .zip(&packets)
        .for_each(|(frame, packet)| frame.fill(packet));
    (frames, packets)
}

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
            let mut flows = Flows::new(1024);
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
                        let before = ALLOCATIONS.load(Ordering::Relaxed);
                        let mut here = Here::new(PortIndex(0), &snapshot);
                        here.by_destination = [known; 2];
                        for _ in 0..WALKS {
                            for frame in &mut frames {
                                let verdict = walk(frame, &here, &mut flows, &mut Unobserved);
                                assert_eq!(black_box(verdict), Verdict::Forward(PortIndex(1)));
                            }
                        }
                        allocated += ALLOCATIONS.load(Ordering::Relaxed) - before;
                    });
                });
                assert_eq!(allocated, 0, "the walk allocated");
            }
        }
    }
    group.finish();
}

fn bench_turn(c: &mut Criterion<CpuTime>) {
    let limits = Limits::new(1, 1024);
    let (shared, _punt, _oracle) = Shared::new(limits, lab::snapshot(1_000, lab::FAR)).expect("eventfd");
    let slab = MemPool::new(1024, 2048, 256).take_all();
    let mut worker = Worker::new(0, Arc::new(shared), slab, &[]);
    let (d0, near) = mem_port(MemConfig { fill: 256, tx: 256 });
    let (d1, far) = mem_port(MemConfig { fill: 256, tx: 256 });
    worker.open(PortIndex(0), 0, d0);
    worker.open(PortIndex(1), 0, d1);
    far.discard_sent();
    let (_, packets) = frames(Family::V4, 1_000);
    let clock = || 1;
    worker.turn(&clock);
    let mut group = c.benchmark_group("turn");
    group.throughput(Throughput::Elements(BURST as u64)).sample_size(20);
    let mut allocated = 0;
    group.bench_function("ipv4/1000", |b| {
        b.iter(|| {
            packets[..BURST].iter().for_each(|packet| assert!(near.push(packet)));
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            assert_eq!(worker.turn(&clock), BURST);
            allocated += ALLOCATIONS.load(Ordering::Relaxed) - before;
        });
    });
    group.finish();
    println!("turn: {allocated} allocations, {} packets sent", far.sent_count());
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = bench_walk, bench_turn
}
criterion_main!(benches);
