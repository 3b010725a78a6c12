//! What walks in benches: frames by routes, bursts of tracked packets, frames between stations of a bridge, a whole worker.
//! A bench is given what runs burst after burst (`each`), or a thing that it runs itself; it measures as it likes.
#![allow(dead_code)]

use super::{bridge, lab, rules};
use bypath::packet::{BURST, Family, Frame, PortIndex, Verdict};
use bypath::port::{MemConfig, MemPool, MemPort, MemQueue, mem_port};
use bypath::stage::prerouting::Tracking;
use bypath::stage::routing::Flows;
use bypath::table::Snapshot;
use bypath::table::conntrack::table::Table;
use bypath::table::conntrack::{Config, Status};
use bypath::table::fdb::Fdb;
use bypath::table::nat::BySource;
use bypath::worker::ahead::{AHEAD, Ahead, look, look_for_stations};
use bypath::worker::pipeline::{self, Here, Unobserved, walk};
use bypath::worker::{Limits, Shared, Worker};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;

/// Frames in use: more than a burst, less than the second-level cache.
pub const FRAMES: usize = 4 * BURST;

/// Packets by all of the routes (none: to the gateway), and frames that hold them.
pub fn frames(family: Family, routes: u32) -> (Vec<Frame>, Vec<Vec<u8>>) {
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

/// What walks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UDP that nobody tracks, for comparison.
    Untracked,
    /// UDP.
    Udp,
    /// TCP, in the middle of a connection.
    Tcp,
    /// UDP behind a chain that looks at states, and translated.
    Nat,
}

/// Which packets of connections.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The first one of each; there are as many bursts as connections fill, at most.
    First,
    /// Those behind the answer, again and again.
    Established,
}

/// Packets of connections, in random order, in bursts as a worker takes them: `each` is given what walks and runs it once.
/// What is filled in between, and for established ones how they came to be, is not in it.
pub fn tracked(flows: usize, kind: Kind, phase: Phase, bursts: usize, each: &mut dyn FnMut(&mut dyn FnMut())) {
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
    let (mut ahead, mut at) = (vec![Ahead::NOTHING; AHEAD], 0);
    let mut burst = |packets: &[Vec<u8>], port: u16, each: &mut dyn FnMut(&mut dyn FnMut())| {
        for frame in &mut frames {
            frame.fill(&packets[at]);
            at = (at + 1) % flows;
        }
        each(&mut || {
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
            for frames in frames.chunks_mut(AHEAD) {
                look(frames, &mut ahead, &here);
                for (frame, ahead) in frames.iter_mut().zip(&ahead) {
                    let verdict = ahead.walk_on(frame, &here, &mut state);
                    assert!(port == 1 || black_box(verdict) == Verdict::Forward(PortIndex(1)));
                }
            }
        });
    };
    if phase == Phase::First {
        assert!(bursts * BURST <= flows, "each connection begins once");
        (0..bursts).for_each(|_| burst(&packets, 0, each));
        return;
    }
    // Every connection is begun, answered, assured (UDP is after two seconds), and has its decision.
    for (packets, port) in [(&packets, 0), (&answers, 1), (&packets, 0)] {
        for _ in 0..flows.div_ceil(BURST) {
            burst(packets, port, &mut |run| run());
        }
    }
    let guard = handle.pin();
    for connection in table.iter(&guard) {
        connection.set_status(Status::ASSURED);
    }
    drop(guard);
    for _ in 0..bursts {
        burst(&packets, 0, each);
    }
}

/// The address of one of many stations.
pub fn station(n: u32) -> [u8; 6] {
    let [_, a, b, c] = n.to_be_bytes();
    [2, 0, 0x5e, a, b, c]
}

/// Frames through bridge_check and bridging: half of `stations` are behind each of two ports, and frames of one go to any of
/// the other. `wire`: the same frames by the walk of `bypath wire`. `each` as in [`tracked`].
pub fn bridged(stations: u32, wire: bool, bursts: usize, each: &mut dyn FnMut(&mut dyn FnMut())) {
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
    let mut at = 0;
    for now_ns in 0..bursts as u64 {
        for frame in &mut frames {
            frame.fill(&packets[at]);
            at = (at + 1) % packets.len();
        }
        let here = Here {
            now_ns: now_ns * 5_000,
            ..Here::new(PortIndex(0), &snapshot)
        };
        each(&mut || {
            if wire {
                for frame in &mut frames {
                    black_box(pipeline::wire(frame, PortIndex(2)));
                }
            } else {
                look_for_stations(&frames, &here);
                for frame in &mut frames {
                    let verdict = walk(frame, &here, &mut state, &mut Unobserved);
                    assert_eq!(black_box(verdict), Verdict::Forward(PortIndex(2)));
                }
            }
        });
    }
}

/// A packet of the `n`-th connection: another source port, and another source address every 50,000. A TCP one is in the
/// middle of it, with a timestamp. `answer`: that of the other side.
pub fn connection(n: usize, kind: Kind, answer: bool) -> Vec<u8> {
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

/// A whole worker between two in-memory ports.
pub struct Turn {
    worker: Worker<MemQueue>,
    near: MemPort,
    far: MemPort,
    packets: Vec<Vec<u8>>,
    now_ns: Cell<u64>,
    /// Packets that it was given.
    pub offered: u64,
}

impl Turn {
    /// One that has its rings filled.
    pub fn new(snapshot: Snapshot) -> Self {
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
        let mut turn = Self {
            worker,
            near,
            far,
            packets,
            now_ns: Cell::new(1),
            offered: 0,
        };
        turn.turn();
        turn
    }

    /// A burst arrives.
    pub fn offer(&mut self) {
        self.offered += BURST as u64;
        let packets = &self.packets[..BURST];
        packets.iter().for_each(|packet| assert!(self.near.push(packet)));
    }

    /// The worker takes it.
    pub fn run(&mut self) {
        assert!(self.turn() >= BURST);
    }

    /// One turn; a burst in 10 us.
    fn turn(&mut self) -> usize {
        let now_ns = &self.now_ns;
        self.worker.turn(&|| now_ns.replace(now_ns.get() + 10_000))
    }

    /// Fails where any was lost.
    pub fn assert_all_forwarded(&self) {
        assert_eq!(self.far.sent_count(), self.offered, "all are forwarded");
    }
}
