//! The pipeline on in-memory ports: no kernel, no root. Two workers, each the owner of one port, so that every forwarded
//! frame also crosses the hand-off queue:
//!
//! ```text
//!  push --> d0: worker 0 --inbox--> worker 1: d1 --> sent          punts --> counted here, frames go home
//! ```
//!
//! Ten million fuzzed frames (`BYPATH_FUZZ_FRAMES` for another number, `BYPATH_SEED` for another seed): each ends in exactly
//! one verdict, and at the end every frame of the pool is somewhere, none twice.

#[path = "pipeline/alone.rs"]
mod alone;
#[path = "box/bench.rs"]
mod bench;
#[path = "box/bridge.rs"]
mod bridge;
#[path = "env/mod.rs"]
mod env;
#[path = "box/mod.rs"]
mod lab;
#[path = "pipeline/wire.rs"]
mod wire;

use bench::Bench;
use bypath::packet::{BURST, DropReason, Family, PortIndex, PuntReason, Verdict};
use bypath::port::{Fault, MemConfig, MemPool, MemPort, mem_port};
use bypath::stage::routing::Flows;
use bypath::table::Snapshot;
use bypath::table::conntrack::Config;
use bypath::table::fdb::EntryFlags;
use bypath::table::fib::{Gateway, TABLE_MAIN};
use bypath::table::iface::IfaceIndex;
use bypath::worker::pipeline::{Here, Observer, Stage, Unobserved, walk};
use bypath::worker::{Command, Limits, Poll, Shared, Worker, run};
use env::number;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// A packet that is mostly right, and then perhaps is not.
fn fuzzed(rng: &mut ChaCha8Rng, templates: &[Vec<u8>], packet: &mut Vec<u8>) {
    packet.clear();
    packet.extend_from_slice(&templates[rng.random_range(0..templates.len())]);
    match rng.random_range(0..8) {
        0 => {}
        1 => packet.truncate(rng.random_range(0..=packet.len())),
        2 => packet.resize(packet.len() + rng.random_range(0..64), rng.random()),
        3 => rng.fill(&mut packet[..]),
        _ => {
            for _ in 0..rng.random_range(1..6) {
                let at = rng.random_range(0..packet.len());
                packet[at] = rng.random();
            }
        }
    }
}

fn templates() -> Vec<Vec<u8>> {
    let far = |family| {
        [
            lab::gateway(family),
            lab::destination_net(family, 7).0 | 9,
            lab::own(family),
        ]
    };
    let mut templates: Vec<Vec<u8>> = Family::ALL
        .into_iter()
        .flat_map(|family| far(family).map(|dst| lab::udp(family, dst, 40)))
        .collect();
    templates.push(lab::udp(Family::V4, lab::gateway(Family::V4), 1472));
    templates.push(vec![0xff; 60]);
    templates
}

/// Walks random damage to `templates` from all ports of a box.
fn fuzz(snapshot: Snapshot, templates: &[Vec<u8>], frames: u64) {
    let seed = number("BYPATH_SEED", 1);
    println!("seed {seed}, {frames} frames");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut bench = Bench::new(snapshot, &[]);
    bench.ports.iter().for_each(MemPort::discard_sent);
    let (mut packet, mut pushed) = (Vec::new(), 0);
    while pushed < frames {
        for _ in 0..BURST {
            fuzzed(&mut rng, templates, &mut packet);
            let other = rng.random_bool(0.1);
            let port = if other {
                rng.random_range(1..bench.ports.len())
            } else {
                0
            };
            assert!(bench.ports[port].push(&packet), "the fill ring ran dry");
            pushed += 1;
        }
        bench.turn();
    }
    bench.assert_balanced();
    let (received, forwarded, punted, dropped) = bench.totals();
    let reports = bench.reports();
    let said_by_bridges = |reason: &&DropReason| reason.word().starts_with("bridge_");
    let of_bridges = DropReason::ALL.iter().filter(said_by_bridges);
    let by_bridges = of_bridges.flat_map(|&reason| reports.iter().map(move |report| report.dropped[reason as usize]));
    assert_eq!((received, dropped), (pushed, by_bridges.sum()));
    assert!(
        forwarded > received / 10 && punted > received / 10,
        "{forwarded} forwarded, {punted} punted"
    );
    println!("fuzz {received} received, {forwarded} forwarded, {punted} punted, {dropped} dropped");
    bench.assert_audit();
}

#[test]
fn every_fuzzed_frame_ends_in_one_verdict_and_none_is_lost() {
    let frames = number("BYPATH_FUZZ_FRAMES", 10_000_000);
    fuzz(lab::snapshot(1_000, lab::FAR), &templates(), frames);
}

/// What arrives on a bridge's port: for stations, tagged or not, and for the bridge.
fn bridged_templates() -> Vec<Vec<u8>> {
    let mut templates = templates();
    let heads: [&[u8]; 5] = [
        &[0x12, 0x34],
        &[0x81, 0, 0, 5, 8, 0],
        &[0x81, 0, 0x20, 6, 0x86, 0xdd],
        &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 5, 8, 0],
        &[0, 40],
    ];
    for to in [2, 3] {
        let (dst, src) = (bridge::station(to), bridge::station(0));
        templates.extend(heads.iter().map(|head| bridge::frame(dst, src, head, 46)));
        for family in Family::ALL {
            templates.push(bridge::udp(family, dst, src, 40));
            let mut tagged = bridge::udp(family, dst, src, 40);
            tagged.splice(12..12, [0x81, 0, 0, 5]);
            templates.push(tagged);
        }
    }
    templates
}

#[test]
fn every_fuzzed_frame_on_a_bridge_ends_in_one_verdict_and_none_is_lost() {
    let frames = number("BYPATH_FUZZ_FRAMES", 10_000_000) / 2;
    let mut snapshot = bridge::snapshot(1_000, lab::FAR);
    bridge::port_mut(&mut snapshot, PortIndex(0)).isolated = true;
    bridge::port_mut(&mut snapshot, PortIndex(3)).isolated = true;
    bridge::bridge_mut(&mut snapshot).nf_call = [true, false];
    fuzz(snapshot, &bridged_templates(), frames);
}

#[test]
fn every_fuzzed_frame_on_a_bridge_with_vlans_ends_in_one_verdict_and_none_is_lost() {
    let frames = number("BYPATH_FUZZ_FRAMES", 10_000_000) / 2;
    let mut snapshot = bridge::snapshot(1_000, lab::FAR);
    let vlans = bridge::bridge_mut(&mut snapshot).vlans.insert(Default::default());
    vlans.insert(1, true);
    vlans.pvid = 1;
    for port in bridge::MEMBERS {
        let place = bridge::port_mut(&mut snapshot, port);
        place.vlans.insert(1, port.0 != 2);
        place.vlans.insert(5, port.0 == 3);
        place.vlans.pvid = 1;
        for vid in [1, 5, 6] {
            bridge::learn(&snapshot, bridge::station(port.0 as u8), vid, bridge::link(port), 0);
        }
    }
    bridge::learn(&snapshot, bridge::SENDER, 1, bridge::link(PortIndex(0)), 0);
    bridge::learn(&snapshot, lab::mac(0), 1, bridge::BR0, EntryFlags::LOCAL);
    fuzz(snapshot, &bridged_templates(), frames);
}

/// A burst that is looked at ahead, because what is routed is tracked, is bridged as any other.
#[test]
fn a_tracked_burst_is_bridged_as_any_other() {
    let templates = bridged_templates();
    let [plain, tracked] = [[false; 2], [true; 2]].map(|tracked| {
        let mut snapshot = bridge::snapshot(1_000, lab::FAR);
        snapshot.conntrack = Arc::new(Config {
            tracked,
            alone: [true; 2],
            ..Config::default()
        });
        let mut bench = Bench::new(snapshot, &[]);
        for packet in &templates {
            assert!(bench.ports[0].push(packet));
            bench.turn();
        }
        bench.assert_balanced();
        let sent: Vec<Vec<Vec<u8>>> = bench.ports.iter().map(MemPort::sent).collect();
        let totals = bench.totals();
        bench.assert_audit();
        (sent, totals)
    });
    assert_eq!(plain, tracked);
    assert!(tracked.0[2].len() > 5 && tracked.0[1].len() > 2, "bridged and routed");
}

/// Watches, so that nothing is taken from the cache.
struct Watching;

impl Observer for Watching {
    const ON: bool = true;

    fn see(&mut self, _: Stage, _: impl FnOnce() -> String) {}
}

#[test]
fn the_cached_walk_is_the_full_walk() {
    let seed = number("BYPATH_SEED", 1);
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut pool = MemPool::new(2, 2048, 256);
    let (mut cached, mut full) = (pool.take(1).remove(0), pool.take(1).remove(0));
    let mut flows = Flows::new(0, 64);
    let mut snapshot = lab::snapshot(50, lab::FAR);
    let mut forwarded = 0;
    for _ in 0..200_000 {
        if rng.random_ratio(1, 500) {
            change(&mut rng, &mut snapshot);
        }
        let family = if rng.random() { Family::V4 } else { Family::V6 };
        let dst = match rng.random_range(0..10) {
            0 => lab::own(family),
            1 => lab::gateway(family) + rng.random_range(0..4),
            n => lab::destination_net(family, rng.random_range(0..60)).0 | n,
        };
        let mut packet = lab::udp(family, dst, rng.random_range(0..1400));
        let hops = if family == Family::V4 { 22 } else { 21 };
        if rng.random_ratio(1, 10) {
            packet[hops] = rng.random_range(0..3);
        }
        cached.fill(&packet);
        full.fill(&packet);
        let port = PortIndex(rng.random_range(0..2));
        let here = Here::new(port, &snapshot);
        let by_cache = walk(&mut cached, &here, &mut flows, &mut Unobserved);
        let by_tables = walk(&mut full, &here, &mut Flows::new(0, 4), &mut Watching);
        assert_eq!(
            (by_cache, cached.bytes()),
            (by_tables, full.bytes()),
            "generation {}",
            snapshot.generation
        );
        forwarded += u32::from(matches!(by_cache, Verdict::Forward(_)));
    }
    assert!(forwarded > 20_000, "{forwarded} forwarded");
}

/// Changes something that a way out depends on, and raises the generation as mirror does.
fn change(rng: &mut ChaCha8Rng, snapshot: &mut Snapshot) {
    snapshot.generation += 1;
    let family = if rng.random() { Family::V4 } else { Family::V6 };
    let (net, len) = lab::destination_net(family, rng.random_range(0..60));
    let iface = rng.random_range(0..2);
    match rng.random_range(0..5) {
        1 if rng.random_ratio(1, 4) => drop(snapshot.neighbors.remove(IfaceIndex(1), family, lab::gateway(family))),
        0 | 1 => snapshot.neighbors.insert(
            IfaceIndex(1),
            family,
            lab::gateway(family),
            [2, 0, 0, 0, 2, rng.random()],
        ),
        2 => {
            let main = snapshot.fib[family as usize].table(TABLE_MAIN);
            let route = lab::route(iface, Gateway::Via(family, lab::gateway(family)));
            snapshot.fib[family as usize].tables[main].1.insert(net, len, route);
        }
        3 => {
            let main = snapshot.fib[family as usize].table(TABLE_MAIN);
            snapshot.fib[family as usize].tables[main].1.remove(net, len);
        }
        _ => {
            let iface = &mut Arc::make_mut(&mut snapshot.ifaces)[usize::from(iface)];
            iface.mtu = [rng.random_range(1000..1500); 2];
            iface.up = rng.random_ratio(9, 10);
            iface.family[0].redirects = rng.random();
        }
    }
}

#[test]
fn a_forwarded_packet_has_new_addresses_one_hop_less_and_no_padding() {
    let mut bench = Bench::new(lab::snapshot(1, lab::FAR), &[]);
    for family in Family::ALL {
        let packet = lab::udp(family, lab::gateway(family), 18);
        let mut padded = packet.clone();
        padded.extend_from_slice(&[0xee; 9]);
        assert!(bench.ports[0].push(&padded));
        bench.turn();
        let sent = bench.ports[1].sent();
        let mut wanted = packet.clone();
        wanted[..6].copy_from_slice(&lab::FAR);
        wanted[6..12].copy_from_slice(&lab::mac(1));
        match family {
            Family::V4 => {
                wanted[22] -= 1;
                let check = u16::from_be_bytes([wanted[24], wanted[25]]) + 0x100;
                wanted[24..26].copy_from_slice(&check.to_be_bytes());
            }
            Family::V6 => wanted[21] -= 1,
        }
        assert_eq!(sent, [wanted], "{family:?}");
    }
    bench.assert_balanced();
    bench.assert_audit();
}

#[test]
fn a_ring_that_stays_full_loses_frames_by_name_and_a_ring_that_is_slow_loses_none() {
    for (fault, most) in [
        (Fault::Down, 512),
        (Fault::Slow(40), u64::MAX),
        (Fault::DropEvery(3), u64::MAX),
    ] {
        let mut bench = Bench::new(lab::snapshot(1, lab::FAR), &[]);
        bench.ports[1].set_fault(fault);
        let packet = lab::udp(Family::V4, lab::gateway(Family::V4), 18);
        for _ in 0..20 {
            (0..BURST).for_each(|_| assert!(bench.ports[0].push(&packet)));
            bench.turn();
        }
        bench.assert_balanced();
        let (received, forwarded, _, dropped) = bench.totals();
        let full: u64 = bench
            .reports()
            .iter()
            .map(|report| report.dropped[DropReason::TxRingFull as usize])
            .sum();
        assert_eq!((forwarded, dropped), (received.min(most), full), "{fault:?}");
        bench.ports[1].set_fault(Fault::None);
        bench.assert_audit();
    }
}

#[test]
fn what_a_slow_ring_keeps_leaves_without_further_arrivals() {
    let mut bench = Bench::new(lab::snapshot(1, lab::FAR), &[]);
    bench.ports[1].set_fault(Fault::Slow(7));
    let packet = lab::udp(Family::V4, lab::gateway(Family::V4), 18);
    (0..BURST).for_each(|_| assert!(bench.ports[0].push(&packet)));
    let (mut now_ns, mut turns) = (1_000_000, 0);
    bench.turn_at(now_ns);
    assert!(bench.ports[1].sent_count() < BURST as u64);
    while bench.ports[1].sent_count() < BURST as u64 && turns < 20 {
        // A worker that sleeps wakes up for it.
        let due_ns = bench.workers[1].due_ns(now_ns).expect("something waits");
        assert!(due_ns <= now_ns + 200_000);
        (now_ns, turns) = (now_ns.max(due_ns), turns + 1);
        bench.turn_at(now_ns);
    }
    assert_eq!(bench.ports[1].sent_count(), BURST as u64);
    assert_eq!(bench.workers[1].due_ns(now_ns), None);
    // A port that is down is asked less and less often, until it is up.
    bench.ports[1].set_fault(Fault::Down);
    assert!(bench.ports[0].push(&packet));
    bench.turn_at(now_ns);
    for _ in 0..20 {
        now_ns = bench.workers[1].due_ns(now_ns).expect("something waits").max(now_ns);
        bench.turn_at(now_ns);
    }
    let due_ns = bench.workers[1].due_ns(now_ns).expect("something waits");
    assert_eq!(due_ns, now_ns + 100_000_000);
    bench.ports[1].set_fault(Fault::None);
    bench.turn_at(due_ns);
    assert_eq!(bench.ports[1].sent_count(), BURST as u64 + 1);
    bench.assert_balanced();
    bench.assert_audit();
}

#[test]
fn a_port_that_goes_away_gives_its_frames_back_and_what_was_for_it_is_counted() {
    let mut bench = Bench::new(lab::snapshot(1, lab::FAR), &[]);
    let packet = lab::udp(Family::V4, lab::gateway(Family::V4), 18);
    let (reply, given_back) = crossbeam::channel::bounded(4);
    assert!(bench.shared.tell(1, Command::Close(PortIndex(1), reply)));
    assert!(bench.workers[1].obey());
    let mut frames = Vec::new();
    given_back.try_iter().for_each(|queue| queue.close(&mut frames));
    frames.into_iter().for_each(|frame| bench.shared.send_home(frame));
    (0..BURST).for_each(|_| assert!(bench.ports[0].push(&packet)));
    bench.turn();
    bench.shared.set_owner(PortIndex(1), None);
    (0..BURST).for_each(|_| assert!(bench.ports[0].push(&packet)));
    bench.turn();
    let (received, forwarded, _, dropped) = bench.totals();
    assert_eq!((received, forwarded, dropped), (2 * BURST as u64, 0, 2 * BURST as u64));
    bench.assert_audit();
}

#[test]
fn a_full_mailbox_keeps_no_port_from_going() {
    let mut bench = Bench::new(lab::snapshot(1, lab::FAR), &[]);
    // Nobody reads the answers, as where the worker stalls.
    let (reply, _) = crossbeam::channel::bounded(1);
    let report = || Command::Report {
        latency: false,
        reply: reply.clone(),
    };
    while bench.shared.tell(1, report()) {}
    let (reply, given_back) = crossbeam::channel::bounded(4);
    bench.shared.order(1, Command::Close(PortIndex(1), reply));
    assert!(bench.workers[1].obey());
    let queue = given_back.try_recv().expect("the queue, before all else");
    bench.shared.order(1, Command::Open(PortIndex(1), 0, queue));
    assert!(bench.workers[1].obey());
    let packet = lab::udp(Family::V4, lab::gateway(Family::V4), 18);
    assert!(bench.ports[0].push(&packet));
    bench.turn();
    assert_eq!(bench.ports[1].sent_count(), 1);
    while !bench.shared.mailbox[1].is_empty() {
        assert!(bench.workers[1].obey());
    }
    bench.assert_audit();
}

#[test]
fn a_full_punt_queue_is_a_counted_drop() {
    let mut bench = Bench::new(lab::snapshot(1, lab::FAR), &[]);
    let unroutable = lab::udp(Family::V4, 0xc633_6401, 18);
    for _ in 0..40 {
        (0..BURST).for_each(|_| assert!(bench.ports[0].push(&unroutable)));
        // Nobody takes the punted frames meanwhile.
        bench.workers[0].turn(&|| 1);
    }
    let reports = bench.reports();
    let limits = bench.shared.limits;
    assert_eq!(reports[0].punted[PuntReason::NoRoute as usize], limits.punts as u64);
    assert_eq!(
        reports[0].dropped[DropReason::PuntQueueFull as usize],
        40 * BURST as u64 - limits.punts as u64
    );
    bench.turn();
    bench.assert_balanced();
    bench.assert_audit();
}

/// A worker that sleeps has its fill rings filled by frames that come home, without any other arrival.
#[test]
fn frames_that_come_home_while_a_worker_sleeps_are_received_into_soon() {
    const FRAMES: usize = 8;
    let (shared, _, _) = Shared::new(Limits::new(1, FRAMES as u32), lab::snapshot(1, lab::FAR)).expect("eventfds");
    let shared = Arc::new(shared);
    let slab = MemPool::new(FRAMES as u32, 2048, 256).take_all();
    let mut worker = Worker::new(0, shared.clone(), slab, &[]);
    let (queue, port) = mem_port(MemConfig { fill: 512, tx: 512 });
    worker.open(PortIndex(0), 0, queue);
    let heartbeat = AtomicU64::new(0);
    let unroutable = lab::udp(Family::V4, 0xc633_6401, 18);
    std::thread::scope(|scope| {
        scope.spawn(|| run(worker, Poll::Adaptive, &heartbeat, |now_ns| now_ns));
        let until = |done: &dyn Fn() -> bool| {
            let since = Instant::now();
            while !done() {
                assert!(since.elapsed() < Duration::from_secs(5), "it does not come to that");
                std::thread::yield_now();
            }
            since.elapsed()
        };
        let waits = (0..3).map(|_| {
            until(&|| {
                shared.rouse(0);
                port.push(&unroutable);
                shared.punts.len() == FRAMES
            });
            // It has just fallen asleep, for as long as it may.
            std::thread::sleep(Duration::from_millis(20));
            shared.wakers[0].wake();
            std::thread::sleep(Duration::from_millis(20));
            while let Some(punted) = shared.punts.pop() {
                shared.send_home(punted.frame);
            }
            until(&|| port.push(&unroutable))
        });
        let shortest = waits.min();
        let (reply, last) = crossbeam::channel::bounded(1);
        shared.order(0, Command::Stop(reply));
        drop(last.recv());
        assert!(shortest < Some(Duration::from_millis(100)), "{shortest:?}");
    });
}
