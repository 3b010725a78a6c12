//! The walk of tracked traffic, in memory: what a packet does to its connection, what is left behind, and that the cached
//! walk is the full walk. One side is a client behind d0, the other the far gateway behind d1.

#[path = "box/bridge.rs"]
mod bridge;
#[path = "tracked/bridged.rs"]
mod bridged;
#[path = "tracked/fragments.rs"]
mod fragments;
#[path = "box/mod.rs"]
mod lab;
#[path = "tracked/masquerade.rs"]
mod masquerade;
#[path = "tracked/own.rs"]
mod own;
#[path = "tracked/room.rs"]
mod room;
#[path = "box/rules.rs"]
mod rules;

use bypath::packet::{DropReason, Family, Frame, PortIndex, PuntReason, Verdict};
use bypath::port::MemPool;
use bypath::stage::prerouting::Tracking;
use bypath::stage::prerouting::leaving::Leaving;
use bypath::stage::routing::Flows;
use bypath::table::Snapshot;
use bypath::table::conntrack::table::{AWAITED_TICKS, Handle, Table};
use bypath::table::conntrack::{Config, CtState, Direction, Marks, Record, Status, Ticks, Tuple};
use bypath::table::iface::IfaceIndex;
use bypath::table::nat::BySource;
use bypath::table::rules::expr::{Expr, Verdict as Says};
use bypath::table::rules::live::Rules;
use bypath::table::rules::program::StateId;
use bypath::worker::ahead::{Ahead, look};
use bypath::worker::pipeline::{Here, Observer, Stage, walk};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use rules::stateful;
use std::sync::Arc;

const CLIENT: u128 = 77;
/// The kind of [`ruleset`] that translates.
const NAT: u32 = 5;
/// What `rules::netmap` makes of its IPv4 address: 203.0.113.77.
const TRANSLATED: u128 = 0xcb00_714d;
/// A priority that only rules give.
const RULE_PRIORITY: u32 = 1;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A box that tracks, and one worker's view of it.
struct Tracker {
    snapshot: Snapshot,
    table: Table,
    by_source: BySource,
    handle: Handle,
    flows: Flows,
    frame: Frame,
    now: Ticks,
}

struct Watching;

impl Observer for Watching {
    const ON: bool = true;

    fn see(&mut self, _: Stage, _: impl FnOnce() -> String) {}
}

impl Tracker {
    fn new(rules: Arc<Rules>) -> Self {
        Self::with_room(rules, 1024)
    }

    fn with_room(rules: Arc<Rules>, connections: u32) -> Self {
        let mut snapshot = lab::snapshot(1, lab::FAR);
        for family in Family::ALL {
            let client = lab::net(family, 0).0 | CLIENT;
            snapshot
                .neighbors
                .insert(IfaceIndex(0), family, client, [2, 0, 0, 0, 9, 9]);
        }
        snapshot.rules = rules;
        snapshot.conntrack = Arc::new(Config {
            tracked: [true; 2],
            alone: [true; 2],
            ..Config::default()
        });
        let table = Table::new(connections);
        let handle = table.register();
        Self {
            snapshot,
            table,
            by_source: BySource::new(connections),
            handle,
            flows: Flows::new(0, 4),
            frame: MemPool::new(1, 2048, 256).take(1).remove(0),
            now: 1000,
        }
    }

    /// As a worker walks a burst, of one frame.
    fn walk(&mut self, port: u16, packet: &[u8]) -> Verdict {
        self.with(port, packet, |frame, here, flows| {
            let mut ahead = [Ahead::NOTHING];
            look(std::slice::from_mut(frame), &mut ahead, here);
            ahead[0].walk_on(frame, here, flows)
        })
    }

    /// The full walk, of a packet that is watched.
    fn walk_watched(&mut self, port: u16, packet: &[u8]) -> Verdict {
        self.with(port, packet, |frame, here, flows| {
            walk(frame, here, flows, &mut Watching)
        })
    }

    fn with(
        &mut self,
        port: u16,
        packet: &[u8],
        walk: impl FnOnce(&mut Frame, &Here<'_>, &mut Flows) -> Verdict,
    ) -> Verdict {
        self.frame.fill(packet);
        let guard = self.handle.pin();
        let here = Here {
            tracking: Some(Tracking {
                table: &self.table,
                by_source: &self.by_source,
                guard: &guard,
                config: &self.snapshot.conntrack,
                now: self.now,
            }),
            labels: true,
            ..Here::new(PortIndex(port), &self.snapshot)
        };
        self.flows.aside.leaving = None;
        walk(&mut self.frame, &here, &mut self.flows)
    }

    fn records(&self) -> Vec<Record> {
        let guard = self.handle.pin();
        self.table.iter(&guard).map(|connection| connection.record()).collect()
    }
}

/// A TCP or UDP packet between the client (behind d0) and the gateway, in the direction that `port` tells.
fn packet(family: Family, port: u16, transport: &Transport) -> Vec<u8> {
    use etherparse::PacketBuilder;
    let client = lab::net(family, 0).0 | CLIENT;
    let (src, dst) = match (port, family, transport.seen_as) {
        (0, ..) => (client, lab::gateway(family)),
        (_, Family::V4, Some(translated)) => (lab::gateway(family), translated),
        _ => (lab::gateway(family), client),
    };
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 9, 9], lab::mac(port as u8));
    let ttl = transport.ttl;
    let builder = match family {
        Family::V4 => ethernet.ipv4((src as u32).to_be_bytes(), (dst as u32).to_be_bytes(), ttl),
        Family::V6 => ethernet.ipv6(src.to_be_bytes(), dst.to_be_bytes(), ttl),
    };
    let (near, far) = (transport.port, 80);
    let (sport, dport) = if port == 0 { (near, far) } else { (far, near) };
    let body = vec![0x5a; transport.payload];
    let mut bytes = Vec::new();
    match transport.tcp {
        None => builder.udp(sport, dport).write(&mut bytes, &body),
        Some((flags, seq, ack)) => {
            let mut tcp = builder.tcp(sport, dport, seq, 5000);
            if flags & SYN != 0 {
                tcp = tcp.syn();
            }
            if flags & ACK != 0 {
                tcp = tcp.ack(ack);
            }
            if flags & FIN != 0 {
                tcp = tcp.fin();
            }
            tcp.write(&mut bytes, &body)
        }
    }
    .expect("writing to a vector");
    bytes
}

#[derive(Clone, Copy)]
struct Transport {
    port: u16,
    ttl: u8,
    payload: usize,
    tcp: Option<(u8, u32, u32)>,
    /// Where the gateway sends answers by IPv4, if NAT has changed the client's address.
    seen_as: Option<u128>,
}

const UDP: Transport = Transport {
    port: 5000,
    ttl: 64,
    payload: 18,
    tcp: None,
    seen_as: None,
};

fn tcp(flags: u8, seq: u32, ack: u32) -> Transport {
    Transport {
        tcp: Some((flags, seq, ack)),
        payload: 0,
        ..UDP
    }
}

const OUT: Verdict = Verdict::Forward(PortIndex(1));
const BACK: Verdict = Verdict::Forward(PortIndex(0));
const FILTERED: Verdict = Verdict::Drop(DropReason::Filter);

#[test]
fn an_answer_passes_where_a_beginning_does_not() {
    for family in Family::ALL {
        let mut tracker = Tracker::new(stateful());
        assert_eq!(tracker.walk(1, &packet(family, 1, &UDP)), FILTERED);
        assert!(
            tracker.records().is_empty(),
            "what does not survive leaves nothing behind"
        );
        assert_eq!(tracker.walk(0, &packet(family, 0, &UDP)), OUT);
        assert_eq!(tracker.records()[0].status, Status::CONFIRMED);
        assert_eq!(tracker.walk(1, &packet(family, 1, &UDP)), BACK);
        let record = &tracker.records()[0];
        assert!(record.status.any(Status::SEEN_REPLY) && record.original.sport == 5000);
        // A stream after two seconds: assured.
        tracker.now += 300;
        assert_eq!(tracker.walk(0, &packet(family, 0, &UDP)), OUT);
        assert!(tracker.records()[0].status.any(Status::ASSURED));
    }
}

#[test]
fn a_tcp_connection_opens_and_what_is_out_of_its_window_is_invalid() {
    let mut tracker = Tracker::new(stateful());
    let v4 = |port, transport| packet(Family::V4, port, &transport);
    assert_eq!(
        tracker.walk(1, &v4(1, tcp(SYN | ACK, 900, 101))),
        FILTERED,
        "an answer to nothing"
    );
    assert_eq!(tracker.walk(0, &v4(0, tcp(SYN, 100, 0))), OUT);
    assert_eq!(tracker.walk(1, &v4(1, tcp(SYN | ACK, 900, 101))), BACK);
    assert_eq!(tracker.walk(0, &v4(0, tcp(ACK, 101, 901))), OUT);
    assert!(tracker.records()[0].status.any(Status::ASSURED));
    assert_eq!(
        tracker.walk(0, &v4(0, tcp(ACK, 0x4000_0000, 901))),
        FILTERED,
        "far out of the window"
    );
    assert_eq!(tracker.walk(1, &v4(1, tcp(ACK, 901, 101))), BACK);
}

#[test]
fn what_is_punted_takes_its_connection_along_and_what_would_begin_is_the_kernels() {
    let mut tracker = Tracker::new(Arc::default());
    let dying = Transport { ttl: 1, ..UDP };
    let long = Transport {
        port: 6000,
        payload: 1500,
        ..UDP
    };
    assert_eq!(tracker.walk(0, &packet(Family::V4, 0, &UDP)), OUT);
    let known = tracker.records().remove(0);
    let ttl = Verdict::Punt(PuntReason::TtlExceeded);
    assert_eq!(tracker.walk(0, &packet(Family::V4, 0, &dying)), ttl);
    assert_eq!(
        tracker.flows.aside.leaving,
        Some(Leaving::AsItWas(known)),
        "it is exported first, as it was"
    );
    let marked = |tracker: &Tracker| {
        let records = tracker.records();
        records.iter().filter(|record| record.marks.any(Marks::KERNEL)).count()
    };
    let spent = Transport { port: 7000, ..dying };
    assert_eq!(tracker.walk(0, &packet(Family::V4, 0, &spent)), ttl);
    assert_eq!((&tracker.flows.aside.leaving, marked(&tracker)), (&None, 0));
    let too_long = Verdict::Punt(PuntReason::MtuExceeded);
    assert_eq!(tracker.walk(0, &packet(Family::V4, 0, &long)), too_long);
    assert_eq!((&tracker.flows.aside.leaving, marked(&tracker)), (&None, 1));
    let answer = Transport { payload: 10, ..long };
    let kernels = Verdict::Punt(PuntReason::KernelConnection);
    assert_eq!(
        tracker.walk(1, &packet(Family::V4, 1, &answer)),
        kernels,
        "its answer is the kernel's too"
    );
    // When the kernel said nothing for a while, the connection is nobody's.
    tracker.now += 2000;
    assert_eq!(tracker.walk(1, &packet(Family::V4, 1, &answer)), BACK);
}

#[test]
fn where_the_kernel_forwards_too_it_decides_about_the_middle_of_a_connection() {
    let mut tracker = Tracker::new(Arc::default());
    let middle = packet(Family::V4, 0, &tcp(ACK, 100, 200));
    assert_eq!(tracker.walk(0, &middle), OUT, "picked up");
    let mut tracker = Tracker::new(Arc::default());
    Arc::make_mut(&mut tracker.snapshot.conntrack).alone = [false; 2];
    assert_eq!(tracker.walk(0, &middle), Verdict::Punt(PuntReason::KernelConnection));
    assert_eq!(tracker.walk(0, &packet(Family::V4, 0, &tcp(SYN, 100, 0))), OUT);
}

/// Rulesets of every kind: none, of the flow alone, of ports, that count, that punt, with NAT, and random ones whose number is
/// given.
fn ruleset(kind: u32, number: u32) -> Arc<Rules> {
    let known = || rules::state(CtState::ESTABLISHED.0);
    let few = || rules::sport_below(5010);
    let log = || [few(), vec![Expr::uncarried("log")]].concat();
    let of = |exprs: Vec<Vec<Expr>>| rules::dropping(1 + kind, exprs);
    match kind {
        0 => Arc::default(),
        1 => of(vec![
            rules::rule(few(), false, Says::Accept),
            rules::rule(known(), false, Says::Accept),
        ]),
        2 => of(vec![
            rules::rule(known(), true, Says::Accept),
            rules::rule(few(), true, Says::Accept),
        ]),
        3 => of(vec![
            rules::rule(known(), true, Says::Accept),
            log(),
            rules::rule(vec![], true, Says::Accept),
        ]),
        4 => stateful(),
        NAT => rules::netmap(1 + NAT),
        _ => rules::counting(&mut ChaCha8Rng::seed_from_u64(number.into()), number | 16),
    }
}

/// What both counted, which is the same.
fn both(one: &Tracker, other: &Tracker) -> u64 {
    let of = |tracker: &Tracker| -> Vec<(u64, u64)> {
        let rules = &tracker.snapshot.rules;
        let states = (0..rules.ruleset.states.len() as u32).map(StateId);
        states.filter_map(|id| rules.state.cell(id).counted()).collect()
    };
    let counted = of(one);
    assert_eq!(counted, of(other));
    counted.iter().map(|(packets, _)| packets).sum()
}

/// Random packets of few connections, configurations that change: the decision that a connection caches is what all boxes
/// would decide.
#[test]
fn the_cached_walk_of_a_connection_is_the_full_walk() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let [mut cached, mut full] = [(); 2].map(|()| Tracker::with_room(stateful(), 8192));
    let (mut forwarded, mut dropped, mut punted, mut counted, mut answered, mut labels) = (0, 0, 0, 0, 0, [0; 3]);
    let mut ports = 5000;
    // What is remembered by hash is the same for both, and so is a port that is drawn.
    full.table = cached.table.twin();
    full.handle = full.table.register();
    let nobody = Tuple {
        src: 0,
        dst: 0,
        sport: 0,
        dport: 0,
        proto: 17,
        family: Family::V4,
        zone: 0,
    };
    full.flows.aside.random = cached.flows.aside.random.clone();
    for step in 0..200_000u32 {
        if rng.random_ratio(1, 300) {
            let mtu = rng.random_range(100..1500);
            let up = rng.random_ratio(9, 10);
            let (kind, number) = (rng.random_range(0..10), rng.random());
            // Nobody translates a connection that is there already.
            ports = match kind {
                NAT => 6000 + (step / 300 * 20 % 50_000) as u16,
                _ if rng.random() => 5000,
                _ => ports,
            };
            counted += both(&cached, &full);
            for tracker in [&mut cached, &mut full] {
                tracker.snapshot.generation += 1;
                tracker.snapshot.update_priority = number % 3 > 0;
                let iface = &mut Arc::make_mut(&mut tracker.snapshot.ifaces)[1];
                (iface.mtu, iface.up) = ([mtu; 2], up);
                tracker.snapshot.rules = ruleset(kind, number);
                Arc::make_mut(&mut tracker.snapshot.conntrack).nat = tracker.snapshot.rules.nat;
            }
        }
        let transport = Transport {
            port: ports + rng.random_range(0..20),
            ttl: if rng.random_ratio(1, 20) { 1 } else { 64 },
            payload: rng.random_range(0..200),
            tcp: rng.random::<bool>().then(|| {
                let flags = [SYN, SYN | ACK, ACK, ACK, ACK, ACK];
                let seq = 100 + rng.random_range(0..2000);
                (flags[rng.random_range(0..6)], seq, 100 + rng.random_range(0..2000))
            }),
            seen_as: rng.random_ratio(2, 5).then_some(TRANSLATED),
        };
        let port = rng.random_range(0..2);
        let family = if rng.random() { Family::V4 } else { Family::V6 };
        let mut bytes = packet(family, port, &transport);
        if family == Family::V4 {
            lab::set_tos(&mut bytes, rng.random());
        }
        for tracker in [&mut cached, &mut full] {
            tracker.now = 1000 + step / 10;
        }
        let by_decision = cached.walk(port, &bytes);
        let by_boxes = full.walk_watched(port, &bytes);
        assert_eq!(by_decision, by_boxes, "step {step}");
        assert_eq!(cached.frame.bytes(), full.frame.bytes(), "step {step}");
        if let Verdict::Forward(_) = by_decision {
            let [to_qdisc, other] = [&cached, &full].map(|tracker| (tracker.frame.mark(), tracker.frame.priority()));
            assert_eq!(to_qdisc, other, "step {step}");
            let is = [to_qdisc.0 != 0, to_qdisc.1 == RULE_PRIORITY, to_qdisc.1 > RULE_PRIORITY];
            labels
                .iter_mut()
                .zip(is)
                .for_each(|(count, is)| *count += u32::from(is));
        }
        assert_eq!(cached.flows.aside.leaving, full.flows.aside.leaving, "step {step}");
        // Nothing is awaited, mostly: what the kernel began last, it began long ago.
        if rng.random_ratio(9, 10) {
            for table in [&cached.table, &full.table] {
                table.awaited.begin(table.hash(&nobody), cached.now - AWAITED_TICKS);
            }
        }
        forwarded += u32::from(matches!(by_decision, Verdict::Forward(_)));
        answered += u32::from(by_decision == BACK && family == Family::V4 && transport.seen_as.is_some());
        dropped += u32::from(by_decision == FILTERED);
        punted += u32::from(by_decision == Verdict::Punt(PuntReason::Rule));
    }
    assert!(
        forwarded > 50_000 && dropped > 5_000 && punted > 500 && counted > 10_000 && answered > 500,
        "{forwarded} forwarded, {answered} answers to what was translated, {dropped} dropped, {punted} punted, {counted} counted"
    );
    assert!(labels[0] > 1_000 && labels[1] > 500 && labels[2] > 10_000, "{labels:?}");
    let key = |record: &Record| {
        (
            record.original.family as u8,
            record.original.proto,
            record.original.sport,
        )
    };
    let sorted = |tracker: &Tracker| {
        let mut records = tracker.records();
        records.sort_by_key(key);
        records
    };
    assert_eq!(sorted(&cached), sorted(&full));
}

#[test]
fn directions_are_told_apart() {
    let mut tracker = Tracker::new(Arc::default());
    Arc::make_mut(&mut tracker.snapshot.conntrack).acct = true;
    for (port, times) in [(0, 3), (1, 2)] {
        for _ in 0..times {
            assert!(matches!(
                tracker.walk(port, &packet(Family::V4, port, &UDP)),
                Verdict::Forward(_)
            ));
        }
    }
    let counters = tracker.records()[0].counters;
    assert_eq!(counters[Direction::Original as usize].packets, 3);
    assert_eq!(counters[Direction::Reply as usize].packets, 2);
    assert_eq!(counters[0].bytes, 3 * 46);
}
