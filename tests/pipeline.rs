//! The pipeline on in-memory ports: no kernel, no root. Two workers, each the owner of one port, so that every forwarded
//! frame also crosses the hand-off queue:
//!
//! ```text
//!  push --> d0: worker 0 --inbox--> worker 1: d1 --> sent          punts --> counted here, frames go home
//! ```
//!
//! Ten million fuzzed frames (`BYPATH_FUZZ_FRAMES` for another number, `BYPATH_SEED` for another seed): each ends in exactly
//! one verdict, and at the end every frame of the pool is somewhere, none twice.

#[path = "box/mod.rs"]
mod lab;

use bypath::packet::{BURST, DropReason, Family, Frame, PortIndex, PuntReason, Verdict};
use bypath::port::{Fault, MemConfig, MemPool, MemPort, MemQueue, audit, mem_port};
use bypath::stage::routing::Flows;
use bypath::table::Snapshot;
use bypath::table::fib::{Gateway, TABLE_MAIN};
use bypath::table::iface::IfaceIndex;
use bypath::worker::pipeline::{Here, Observer, Stage, Unobserved, walk};
use bypath::worker::{Command, Limits, Report, Shared, Worker};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::sync::Arc;

/// Frames of one worker's slab.
const SLAB: u32 = 2048;

struct Bench {
    shared: Arc<Shared<MemQueue>>,
    workers: Vec<Worker<MemQueue>>,
    ports: Vec<MemPort>,
    punted: [u64; PuntReason::ALL.len()],
}

impl Bench {
    fn new(snapshot: Snapshot, wires: &[(PortIndex, PortIndex)]) -> Self {
        let limits = Limits::new(2, SLAB);
        let (shared, _, _) = Shared::new(limits, snapshot).expect("eventfds");
        let shared = Arc::new(shared);
        let mut pool = MemPool::new(2 * SLAB, 2048, 256);
        // `take` gives the highest frames first: worker 1's slab, then worker 0's.
        let mut slabs = [pool.take(SLAB as usize), pool.take(SLAB as usize)];
        slabs.reverse();
        let mut bench = Self {
            shared,
            workers: Vec::new(),
            ports: Vec::new(),
            punted: Default::default(),
        };
        for (index, slab) in slabs.into_iter().enumerate() {
            let port = PortIndex(index as u16);
            let mut worker = Worker::new(index, bench.shared.clone(), slab, wires);
            let (queue, end) = mem_port(MemConfig { fill: 512, tx: 512 });
            worker.open(port, 0, queue);
            bench.shared.set_owner(port, Some(index));
            bench.workers.push(worker);
            bench.ports.push(end);
        }
        bench.turn();
        bench
    }

    /// Turns both workers until nothing moves, and takes the punted frames as the punt thread would.
    fn turn(&mut self) {
        loop {
            let moved: usize = self.workers.iter_mut().map(|worker| worker.turn(&|| 1)).sum();
            while let Some(punted) = self.shared.punts.pop() {
                self.punted[punted.reason as usize] += 1;
                self.shared.send_home(punted.frame);
            }
            if moved == 0 {
                return;
            }
        }
    }

    fn reports(&self) -> Vec<Report> {
        self.workers.iter().map(Worker::report).collect()
    }

    /// Received, forwarded, punted, dropped.
    fn totals(&self) -> (u64, u64, u64, u64) {
        let reports = self.reports();
        let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
        let punted: u64 = reports.iter().flat_map(|report| report.punted).sum();
        assert_eq!(
            punted,
            self.punted.iter().sum::<u64>(),
            "every punted frame reached the punt thread"
        );
        let dropped = sum(|report| report.dropped.iter().sum());
        (
            sum(|report| report.received),
            sum(|report| report.forwarded),
            punted,
            dropped,
        )
    }

    fn assert_balanced(&self) {
        let (received, forwarded, punted, dropped) = self.totals();
        assert_eq!(
            received,
            forwarded + punted + dropped,
            "each packet ends in one verdict"
        );
    }

    /// Takes everything apart and looks whether all frames are there.
    fn assert_audit(mut self) {
        self.turn();
        let mut frames: Vec<Frame> = Vec::new();
        for worker in 0..self.workers.len() {
            let (reply, last) = crossbeam::channel::bounded(1);
            assert!(self.shared.tell(worker, Command::Stop(reply)));
            assert!(!self.workers[worker].obey(), "stop ends the loop");
            let (_, queues) = last.recv().expect("the worker's last word");
            queues.into_iter().for_each(|queue| queue.close(&mut frames));
        }
        for worker in std::mem::take(&mut self.workers) {
            frames.extend(worker.into_frames());
        }
        for home in &self.shared.home {
            frames.extend(std::iter::from_fn(|| home.pop()));
        }
        audit(2 * SLAB, &frames).expect("the frame audit");
    }
}

fn env(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(otherwise)
}

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

#[test]
fn every_fuzzed_frame_ends_in_one_verdict_and_none_is_lost() {
    let (frames, seed) = (env("BYPATH_FUZZ_FRAMES", 10_000_000), env("BYPATH_SEED", 1));
    println!("seed {seed}, {frames} frames");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut bench = Bench::new(lab::snapshot(1_000, lab::FAR), &[]);
    bench.ports.iter().for_each(MemPort::discard_sent);
    let (templates, mut packet) = (templates(), Vec::new());
    let mut pushed = 0;
    while pushed < frames {
        for _ in 0..BURST {
            fuzzed(&mut rng, &templates, &mut packet);
            let port = usize::from(rng.random_bool(0.1));
            assert!(bench.ports[port].push(&packet), "the fill ring ran dry");
            pushed += 1;
        }
        bench.turn();
    }
    bench.assert_balanced();
    let (received, forwarded, punted, dropped) = bench.totals();
    assert_eq!((received, dropped), (pushed, 0));
    assert!(
        forwarded > received / 10 && punted > received / 10,
        "{forwarded} forwarded, {punted} punted"
    );
    println!("fuzz {received} received, {forwarded} forwarded, {punted} punted, {dropped} dropped");
    bench.assert_audit();
}

/// Watches, so that nothing is taken from the cache.
struct Watching;

impl Observer for Watching {
    const ON: bool = true;

    fn see(&mut self, _: Stage, _: impl FnOnce() -> String) {}
}

#[test]
fn the_cached_walk_is_the_full_walk() {
    let seed = env("BYPATH_SEED", 1);
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

#[test]
fn a_wire_carries_anything_untouched() {
    let mut bench = Bench::new(lab::snapshot(1, lab::FAR), &[(PortIndex(0), PortIndex(1))]);
    let frames = [
        vec![0xff; 60],
        vec![1; 14],
        lab::udp(Family::V6, lab::own(Family::V6), 1000),
    ];
    for frame in &frames {
        assert!(bench.ports[0].push(frame) && bench.ports[1].push(frame));
    }
    bench.turn();
    assert_eq!(bench.ports[1].sent(), frames);
    assert_eq!(bench.ports[0].sent(), frames);
    bench.assert_audit();
}
