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

use allocations::allocations;
use bypath::packet::{BURST, Family, Frame, PortIndex, Verdict};
use bypath::port::{MemConfig, MemPool, mem_port};
use bypath::stage::prerouting::Tracking;
use bypath::stage::routing::Flows;
use bypath::table::Snapshot;
use bypath::table::conntrack::table::Table;
use bypath::table::conntrack::{Config, Status};
use bypath::table::fdb::Fdb;
use bypath::table::nat::BySource;
use bypath::worker::ahead::{Ahead, look, look_for_stations};
use bypath::worker::pipeline::{self, Here, Unobserved, walk};
use bypath::worker::{Limits, Shared, Worker};
use cpu_time::CpuTime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// What walks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// UDP that nobody tracks, for comparison.
    Untracked,
    Udp,
    Tcp,
    /// UDP behind a chain that looks at states, and translated.
    Nat,
}

/// The time of the walk alone: the packets of a burst are filled in between. One burst is a few microseconds, so the median
/// of many does not see what else the machine does.
fn tracked(name: &str, flows: usize, kind: Kind) {
    const BURSTS: usize = 200_000;
    let mut snapshot = lab::snapshot(1_000, lab::FAR);
    snapshot.conntrack = Arc::new(Config {
        tracked: [kind != Kind::Untracked; 2],
        alone: [true; 2],
        nat: [kind == Kind::Nat; 2],
        ..Config::default()
    });
    if kind == Kind::Nat {
        snapshot.rules = rules::netmap(1);
    }
    let table = Table::new(flows as u32 * 5 / 4);
    let by_source = BySource::new(flows as u32 * 5 / 4);
    let handle = table.register();
    let [packets, answers] = [false, true].map(|answer| {
        let mut packets: Vec<Vec<u8>> = (0..flows).map(|n| connection(n, kind, answer)).collect();
        packets.shuffle(&mut ChaCha8Rng::seed_from_u64(1));
        packets
    });
    let mut state = Flows::new(0, 4);
    let mut frames = MemPool::new(BURST as u32, 2048, 256).take_all();
    let (mut ahead, mut at) = (vec![Ahead::NOTHING; BURST], 0);
    let mut burst = |packets: &[Vec<u8>], port: u16| {
        for frame in &mut frames {
            frame.fill(&packets[at]);
            at = (at + 1) % flows;
        }
        let before = allocations();
        let start = Instant::now();
        let guard = handle.pin();
        let here = Here {
            tracking: Some(Tracking {
                table: &table,
                by_source: &by_source,
                guard: &guard,
                config: &snapshot.conntrack,
                now: 1000,
            }),
            ..Here::new(PortIndex(port), &snapshot)
        };
        look(&mut frames, &mut ahead, &here);
        for (frame, ahead) in frames.iter_mut().zip(&ahead) {
            let verdict = ahead.walk_on(frame, &here, &mut state);
            assert!(port == 1 || black_box(verdict) == Verdict::Forward(PortIndex(1)));
        }
        let time = start.elapsed();
        (time, allocations() - before)
    };
    // Every connection is begun, answered, assured (UDP is after two seconds), and has its decision.
    for (packets, port) in [(&packets, 0), (&answers, 1), (&packets, 0)] {
        for _ in 0..flows.div_ceil(BURST) {
            burst(packets, port);
        }
    }
    let guard = handle.pin();
    for connection in table.iter(&guard) {
        connection.set_status(Status::ASSURED);
    }
    drop(guard);
    let (mut times, mut allocated) = (Vec::with_capacity(BURSTS), 0);
    for _ in 0..BURSTS {
        let (time, allocations) = burst(&packets, 0);
        times.push(time);
        allocated += allocations;
    }
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
                tracked(&name, flows, kind);
            }
        }
    }
}

/// The address of one of many stations.
fn station(n: u32) -> [u8; 6] {
    let [_, a, b, c] = n.to_be_bytes();
    [2, 0, 0x5e, a, b, c]
}

/// The time of bridge_check and bridging: half of `stations` are behind each of two ports, and frames of one go to any of the
/// other. `wire`: the same frames by the walk of `bypath wire`.
fn bridged(name: &str, stations: u32, wire: bool) {
    const BURSTS: usize = 200_000;
    let mut snapshot = bridge::snapshot(1, lab::FAR);
    bridge::bridge_mut(&mut snapshot).fdb = Arc::new(Fdb::new(stations as usize));
    for n in 0..stations {
        let port = if n % 2 == 0 { PortIndex(0) } else { PortIndex(2) };
        bridge::learn(&snapshot, station(n), 0, bridge::link(port), 0);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let half = |rng: &mut ChaCha8Rng| 2 * rng.random_range(0..stations / 2);
    let packets: Vec<Vec<u8>> = (0..64 * 1024)
        .map(|_| {
            let mut packet = lab::udp(Family::V4, lab::gateway(Family::V4), 18);
            packet[..6].copy_from_slice(&station(half(&mut rng) + 1));
            packet[6..12].copy_from_slice(&station(half(&mut rng)));
            packet
        })
        .collect();
    let mut state = Flows::new(0, 4);
    let mut frames = MemPool::new(BURST as u32, 2048, 256).take_all();
    let (mut times, mut allocated, mut at) = (Vec::with_capacity(BURSTS), 0, 0);
    for now_ns in 0..BURSTS as u64 {
        for frame in &mut frames {
            frame.fill(&packets[at]);
            at = (at + 1) % packets.len();
        }
        let before = allocations();
        let start = Instant::now();
        let here = Here {
            now_ns: now_ns * 5_000,
            ..Here::new(PortIndex(0), &snapshot)
        };
        if wire {
            for frame in &mut frames {
                black_box(pipeline::wire(frame, PortIndex(0), PortIndex(2)));
            }
        } else {
            look_for_stations(&frames, &here);
            for frame in &mut frames {
                let verdict = walk(frame, &here, &mut state, &mut Unobserved);
                assert_eq!(black_box(verdict), Verdict::Forward(PortIndex(2)));
            }
        }
        times.push(start.elapsed());
        allocated += allocations() - before;
    }
    report(name, times, allocated);
}

fn bench_bridged(_: &mut Criterion<CpuTime>) {
    for (stations, many) in [(2, "2"), (100, "100"), (10_000, "10k"), (100_000, "100k")] {
        let name = format!("bridged/{many}");
        if is_wanted(&name) {
            bridged(&name, stations, false);
        }
    }
    if is_wanted("bridged/wire") {
        bridged("bridged/wire", 10_000, true);
    }
}

/// A packet of the `n`-th connection: another source port, and another source address every 50,000. A TCP one is in the
/// middle of it, with a timestamp. `answer`: that of the other side.
fn connection(n: usize, kind: Kind, answer: bool) -> Vec<u8> {
    use etherparse::{PacketBuilder, TcpOptionElement};
    let (sport, host) = (1024 + (n % 50_000) as u16, (n / 50_000) as u8);
    let dst = (lab::gateway(Family::V4) as u32).to_be_bytes();
    let near = match (kind, answer) {
        (Kind::Nat, true) => [203, 0, 113, 10 + host],
        _ => [10, 0, 0, 10 + host],
    };
    let (near, far) = ((near, sport), (dst, 9));
    let [(src, sport), (dst, dport)] = if answer { [far, near] } else { [near, far] };
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 9, 9], lab::mac(answer.into())).ipv4(src, dst, 64);
    let mut bytes = Vec::with_capacity(80);
    let written = if kind != Kind::Tcp {
        builder.udp(sport, dport).write(&mut bytes, &[0x5a; 18])
    } else {
        let (seq, ack) = if answer { (2000, 1000) } else { (1000, 2000) };
        let tcp = builder.tcp(sport, dport, seq, 500).ack(ack);
        let options = [
            TcpOptionElement::Noop,
            TcpOptionElement::Noop,
            TcpOptionElement::Timestamp(1, 2),
        ];
        tcp.options(&options).expect("they fit").write(&mut bytes, &[])
    };
    written.expect("writing to a vector");
    bytes
}

/// A whole worker; `shaped` has d1 a tbf that never binds, for comparison.
fn bench_turn(c: &mut Criterion<CpuTime>) {
    turn(c, "ipv4/1000", lab::snapshot(1_000, lab::FAR));
    let mut snapshot = lab::snapshot(1_000, lab::FAR);
    Arc::make_mut(&mut snapshot.ifaces)[1].shaping = tree::tbf(tree::NEVER_BINDS);
    turn(c, "ipv4/1000/shaped", snapshot);
}

fn turn(c: &mut Criterion<CpuTime>, name: &str, snapshot: Snapshot) {
    let (shared, _punt, _oracle) = Shared::new(Limits::new(1, 1024), snapshot).expect("eventfd");
    let slab = MemPool::new(1024, 2048, 256).take_all();
    (0..2).for_each(|port| shared.set_owner(PortIndex(port), Some(0)));
    let mut worker = Worker::new(0, Arc::new(shared), slab, &[]);
    let (d0, near) = mem_port(MemConfig { fill: 256, tx: 256 });
    let (d1, far) = mem_port(MemConfig { fill: 256, tx: 256 });
    worker.open(PortIndex(0), 0, d0);
    worker.open(PortIndex(1), 0, d1);
    far.discard_sent();
    let (_, packets) = frames(Family::V4, 1_000);
    // A burst in 10 us.
    let now_ns = Cell::new(1);
    let clock = || now_ns.replace(now_ns.get() + 10_000);
    worker.turn(&clock);
    let mut group = c.benchmark_group("turn");
    group.throughput(Throughput::Elements(BURST as u64)).sample_size(20);
    let (mut allocated, mut offered) = (0, 0);
    group.bench_function(name, |b| {
        b.iter(|| {
            offered += BURST as u64;
            packets[..BURST].iter().for_each(|packet| assert!(near.push(packet)));
            let before = allocations();
            assert!(worker.turn(&clock) >= BURST);
            allocated += allocations() - before;
        });
    });
    group.finish();
    println!("turn/{name}: {allocated} allocations, {offered} packets");
    assert_eq!(far.sent_count(), offered, "all are forwarded");
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = bench_walk, bench_tracked, bench_bridged, bench_turn
}
criterion_main!(benches);
