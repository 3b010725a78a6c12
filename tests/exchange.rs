//! The exchange of connections against a real kernel's table: what one side has, the other gets, and what a user deletes on
//! either side is gone on both.

mod lab;

#[path = "exchange/nat.rs"]
mod nat;

use bypath::control::exchange::Exchange;
use bypath::mirror::ctnetlink::{Ctnetlink, Entry, Own, Protoinfo};
use bypath::packet::Family;
use bypath::port::wait::monotonic_ns;
use bypath::stage::prerouting::leaving::Leaving;
use bypath::table::Snapshot;
use bypath::table::conntrack::table::Table;
use bypath::table::conntrack::{Marks, Record, Status, TICKS_PER_SECOND, Ticks, Tuple, ticks, tracker};
use bypath::wire::Protocol;
use lab::namespace::Namespace;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

fn now() -> Ticks {
    ticks(monotonic_ns())
}

/// A namespace that tracks, our table, the exchange at work between them, and a user's look at the kernel's side.
struct Box {
    namespace: Namespace,
    table: Arc<Table>,
    exchange: Arc<Exchange>,
    user: Ctnetlink,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Box {
    /// The kernel has `before` when tracking begins.
    fn new(before: &[Record]) -> Self {
        let mut set = Self::idle(before);
        set.start();
        set
    }

    /// The same, with nobody who keeps the tables in step yet.
    fn idle(before: &[Record]) -> Self {
        Self::made(before, false)
    }

    /// With a chain of NAT or without, with nobody who keeps the tables in step yet.
    fn made(before: &[Record], nat: bool) -> Self {
        let namespace = Namespace::new();
        let rules = "table inet t { chain c { type filter hook forward priority 0; ct state invalid drop; }; }";
        namespace.run_with("nft -f -", rules);
        if nat {
            let rules = "table inet n { chain c { type nat hook postrouting priority 100; }; }";
            namespace.run_with("nft -f -", rules);
        }
        let mut user = namespace
            .enter(|| Ctnetlink::open(Arc::new(Own::default())))
            .expect("ctnetlink");
        user.create(before, now(), |place, errno| panic!("{place}: {errno}"))
            .expect("create");
        let table = Arc::new(Table::new(1 << 17));
        let exchange = Exchange::new(table.clone(), Arc::default(), Arc::default()).expect("exchange");
        let exchange = Arc::new(exchange);
        exchange.set_local([(Family::V4, LOCAL)].into_iter().collect());
        let set = Box {
            namespace,
            table,
            exchange,
            user,
            thread: None,
        };
        set.follow(nat);
        set
    }

    /// A snapshot comes into force in which both families are tracked, and translated or not.
    fn follow(&self, nat: bool) {
        let mut snapshot = Snapshot::default();
        let conntrack = Arc::make_mut(&mut snapshot.conntrack);
        (conntrack.tracked, conntrack.nat) = ([true; 2], [nat; 2]);
        self.namespace
            .enter(|| self.exchange.follow(&snapshot))
            .expect("follow");
    }

    fn start(&mut self) {
        let (runs, inside) = (self.exchange.clone(), self.namespace.share());
        self.thread = Some(std::thread::spawn(move || {
            inside.join_thread();
            runs.run();
        }));
    }

    fn insert(&self, record: &Record) {
        let handle = self.table.register();
        self.table.insert(record, now(), &handle.pin()).expect("insert");
    }

    /// Datagrams from these ports that were not answered.
    fn insert_young(&self, ports: std::ops::Range<u16>, to: u16) {
        for port in ports {
            let mut young = record(Protocol::UDP, port, to, 600);
            young.status = Status::CONFIRMED;
            self.insert(&young);
        }
    }

    /// All of ours end in so many seconds.
    fn prolong(&self, seconds: u32) {
        let (handle, end) = (self.table.register(), now().wrapping_add(seconds * TICKS_PER_SECOND));
        let mut from = Some(0);
        while let Some(at) = from {
            from = self.table.walk(at, 4096, &handle.pin(), |connection| {
                assert!(connection.refresh(end));
            });
        }
    }

    /// Of ours: its record.
    fn ours(&self, tuple: &Tuple) -> Option<Record> {
        let handle = self.table.register();
        let guard = handle.pin();
        let found = self.table.lookup(tuple, self.table.hash(tuple), now(), &guard);
        found.map(|(connection, _)| connection.record())
    }

    fn remove(&self, tuple: &Tuple) {
        let handle = self.table.register();
        let guard = handle.pin();
        let (connection, _) = self
            .table
            .lookup(tuple, self.table.hash(tuple), now(), &guard)
            .expect("it is there");
        assert!(self.table.remove(connection, &guard));
    }

    /// Of the kernel.
    fn kernels(&mut self, tuple: &Tuple) -> Option<Entry> {
        let mut found = None;
        self.user.get(&[*tuple], now(), |_, entry| found = entry).expect("get");
        found
    }

    fn count(&mut self) -> usize {
        let mut count = 0;
        self.user.dump(None, now(), |_| count += 1).expect("dump");
        count
    }
}

impl Drop for Box {
    fn drop(&mut self) {
        self.exchange.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const LOCAL: u128 = 0x0a00_00fe;

fn record(proto: Protocol, sport: u16, dport: u16, seconds: u32) -> Record {
    let original = Tuple {
        src: 0x0a00_0001,
        dst: 0x0a00_0102,
        sport,
        dport,
        proto: proto.0,
        family: Family::V4,
        zone: 0,
    };
    let state = (proto == Protocol::TCP).then_some(Protoinfo::Tcp {
        state: 3,
        wscale: [7, 7],
        flags: [3, 3],
    });
    Record {
        original,
        reply: original.invert().expect("a query"),
        status: Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED,
        marks: Marks::default(),
        deadline: now().wrapping_add(seconds * TICKS_PER_SECOND),
        mark: 0,
        proto: state.map_or_else(Default::default, Protoinfo::to_state),
        counters: Default::default(),
    }
}

/// Waits for it, at most so long; whether it came.
fn within(seconds: f64, mut it: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    loop {
        if it() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_the_kernel_has_at_the_start_is_ours_to_take_over() {
    let tcp = record(Protocol::TCP, 1, 80, 100);
    let mut opening = record(Protocol::TCP, 2, 80, 100);
    opening.status = Status::CONFIRMED;
    opening.proto = Protoinfo::to_state(Protoinfo::Tcp {
        state: 1,
        wscale: [7, 0],
        flags: [3, 0],
    });
    let mut own = record(Protocol::UDP, 3, 53, 100);
    own.original.src = LOCAL;
    own.reply.dst = LOCAL;
    let udp = Record {
        mark: 7,
        ..record(Protocol::UDP, 4, 53, 100)
    };
    let set = Box::new(&[tcp.clone(), opening.clone(), own.clone(), udp.clone()]);
    let marks = |tuple: &Tuple| set.ours(tuple).map(|record| record.marks);
    let has = |record: &Record, bits| marks(&record.original).is_some_and(|marks| marks.any(bits));
    assert!(has(&tcp, Marks::KERNEL) && has(&tcp, Marks::ADOPTABLE) && has(&tcp, Marks::EXPORTED));
    assert!(has(&opening, Marks::KERNEL) && !has(&opening, Marks::ADOPTABLE));
    assert!(has(&udp, Marks::ADOPTABLE));
    assert_eq!(set.ours(&udp.original).map(|record| record.mark), Some(7));
    assert_eq!(marks(&own.original), None, "the box's own never passes");
}

#[test]
fn assured_connections_reach_the_kernel_and_leave_it_with_ours() {
    let mut set = Box::new(&[]);
    let tcp = record(Protocol::TCP, 1, 80, 5);
    let mut young = record(Protocol::UDP, 2, 53, 30);
    young.status = Status::CONFIRMED;
    set.insert(&tcp);
    set.insert(&young);
    assert!(within(2.0, || set.kernels(&tcp.original).is_some()), "not within 2 s");
    assert!(set.kernels(&young.original).is_none(), "it is not assured");

    // It goes on here, and its copy must not expire before.
    let handle = set.table.register();
    {
        let guard = handle.pin();
        let hash = set.table.hash(&tcp.original);
        let (connection, _) = set.table.lookup(&tcp.original, hash, now(), &guard).expect("ours");
        assert!(connection.refresh(now() + 100 * TICKS_PER_SECOND));
    }
    let later = |entry: Entry| entry.record.deadline.wrapping_sub(now()) as i32 > 50 * TICKS_PER_SECOND as i32;
    assert!(within(2.0, || set.kernels(&tcp.original).is_some_and(later)));
    set.remove(&tcp.original);
    assert!(within(2.0, || set.kernels(&tcp.original).is_none()));
}

#[test]
fn what_the_kernel_alone_has_outlives_our_knowledge_of_it() {
    let mut set = Box::new(&[record(Protocol::UDP, 1, 53, 100)]);
    let tuple = record(Protocol::UDP, 1, 53, 100).original;
    assert!(set.ours(&tuple).is_some());
    set.remove(&tuple);
    std::thread::sleep(Duration::from_millis(500));
    assert!(set.kernels(&tuple).is_some(), "the kernel's own was deleted");
}

#[test]
fn a_tuple_that_begins_anew_keeps_its_copy() {
    let mut set = Box::new(&[]);
    let mut exporter = set.namespace.enter(|| set.exchange.exporter()).expect("exporter");
    let tcp = record(Protocol::TCP, 1, 80, 100);
    set.insert(&tcp);
    exporter.export(Some(&Leaving::AsItIs(tcp.original)));
    assert!(set.kernels(&tcp.original).is_some(), "it returns when the kernel knows");
    for _ in 0..5 {
        set.remove(&tcp.original);
        set.insert(&tcp);
        exporter.export(Some(&Leaving::AsItIs(tcp.original)));
        std::thread::sleep(Duration::from_millis(250));
        assert!(set.kernels(&tcp.original).is_some());
    }
}

/// However fast they come, and though nobody rests in between.
#[test]
fn entries_of_invalid_packets_are_few_and_soon_gone() {
    const CONNECTIONS: u16 = 1000;
    let mut set = Box::idle(&[]);
    let mut exporter = set.namespace.enter(|| set.exchange.exporter()).expect("exporter");
    for port in 1..=CONNECTIONS {
        let tcp = record(Protocol::TCP, port, 80, 100);
        set.insert(&tcp);
        exporter.export(Some(&Leaving::Invalid {
            packet: tcp.original,
            original: tcp.original,
        }));
        let known = set.kernels(&tcp.reply);
        assert!(
            known.is_some_and(|entry| entry.record.original == tcp.reply),
            "turned round"
        );
    }
    let count = set.count();
    assert!((1..=256).contains(&count), "{count} entries");
    std::thread::sleep(Duration::from_millis(40));
    exporter.rest();
    assert_eq!(set.count(), 0);
}

#[test]
fn a_handshake_that_went_on_is_told_again_before_a_punt() {
    let mut set = Box::new(&[]);
    let mut exporter = set.namespace.enter(|| set.exchange.exporter()).expect("exporter");
    let mut tcp = record(Protocol::TCP, 1, 80, 100);
    let state = |state| {
        Protoinfo::to_state(Protoinfo::Tcp {
            state,
            wscale: [7, 7],
            flags: [3, 3],
        })
    };
    (tcp.status, tcp.proto) = (Status::CONFIRMED, state(1));
    set.insert(&tcp);
    exporter.export(Some(&Leaving::AsItIs(tcp.original)));
    let kernels = |set: &mut Box| match set.kernels(&tcp.original).and_then(|entry| entry.protoinfo) {
        Some(Protoinfo::Tcp { state, .. }) => state,
        other => panic!("{other:?}"),
    };
    assert_eq!(kernels(&mut set), 1);
    let handle = set.table.register();
    {
        let guard = handle.pin();
        let hash = set.table.hash(&tcp.original);
        let (connection, _) = set.table.lookup(&tcp.original, hash, now(), &guard).expect("ours");
        let (version, _) = connection.proto();
        assert!(connection.commit(version, &state(3)));
        connection.set_status(Status::SEEN_REPLY | Status::ASSURED);
    }
    exporter.export(Some(&Leaving::AsItIs(tcp.original)));
    assert_eq!(kernels(&mut set), 3);
}

#[test]
fn a_user_deletes_on_either_side() {
    let mut set = Box::new(&[record(Protocol::UDP, 1, 53, 100)]);
    let (one, two) = (record(Protocol::TCP, 2, 80, 100), record(Protocol::TCP, 3, 80, 100));
    set.insert(&one);
    set.insert(&two);
    assert!(within(2.0, || set.count() == 3));
    set.namespace.run("conntrack -D -p tcp --orig-port-src 2");
    assert!(within(2.0, || set.ours(&one.original).is_none()));
    assert!(set.ours(&two.original).is_some());
    set.namespace.run("conntrack -F");
    assert!(within(2.0, || set.table.is_empty()));
    // And it stays so.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!((set.count(), set.table.len()), (0, 0));
}

#[test]
fn a_mark_that_a_user_sets_in_the_kernel_is_ours_too() {
    let mut set = Box::new(&[]);
    let tcp = record(Protocol::TCP, 2, 80, 100);
    set.insert(&tcp);
    assert!(within(2.0, || set.count() == 1));
    let marked = Record { mark: 9, ..tcp.clone() };
    set.user
        .update(&[marked], now(), |_, errno| panic!("refused: {errno}"))
        .expect("update");
    assert!(within(2.0, || set
        .ours(&tcp.original)
        .is_some_and(|record| record.mark == 9)));
}

/// Whether a connection ends in so many seconds, here and in the kernel.
fn ends_in(set: &mut Box, record: &Record, seconds: u32) -> bool {
    let about = |deadline: Ticks| {
        let left = deadline.wrapping_sub(now()) as i32;
        (left - (seconds * TICKS_PER_SECOND) as i32).abs() < 5 * TICKS_PER_SECOND as i32
    };
    let kernels = set.kernels(&record.original).map(|entry| entry.record.deadline);
    let ours = set.ours(&record.original).map(|ours| ours.deadline);
    ours.is_some_and(about) && kernels.is_some_and(about)
}

#[test]
fn a_timeout_that_a_user_sets_in_the_kernel_is_ours_too() {
    let mut set = Box::new(&[]);
    let (tcp, udp) = (record(Protocol::TCP, 2, 80, 400), record(Protocol::UDP, 3, 53, 100));
    set.insert(&tcp);
    set.insert(&udp);
    assert!(within(2.0, || set.count() == 2));
    set.namespace
        .run("conntrack -U -p tcp -s 10.0.0.1 --orig-port-src 2 -t 60");
    set.namespace
        .run("conntrack -U -p udp -s 10.0.0.1 --orig-port-src 3 -t 900");
    assert!(within(2.0, || ends_in(&mut set, &tcp, 60) && ends_in(&mut set, &udp, 900)));
    // And it stays so.
    std::thread::sleep(Duration::from_millis(1500));
    assert!(ends_in(&mut set, &tcp, 58) && ends_in(&mut set, &udp, 898));
}

/// The event about another change says when the copy ends, too, which is older than ours.
#[test]
fn what_else_a_user_changes_is_no_timeout() {
    // One that was the kernel's is taken over: its packets there have refreshed it, of which no event told.
    let adopted = record(Protocol::TCP, 6, 80, 100);
    let mut set = Box::new(std::slice::from_ref(&adopted));
    let mut exporter = set.namespace.enter(|| set.exchange.exporter()).expect("exporter");
    let mut all: Vec<Record> = (2..6).map(|port| record(Protocol::TCP, port, 80, 100)).collect();
    all.iter().for_each(|tcp| set.insert(tcp));
    assert!(within(2.0, || set.count() == 5));
    all.push(adopted);
    set.namespace
        .run("conntrack -U -p tcp -s 10.0.0.1 --orig-port-src 6 -t 200");
    // Packets of the second were punted; what the kernel made of their copy's end is its own.
    exporter.export(Some(&Leaving::AsItIs(all[1].original)));
    set.namespace
        .run("conntrack -U -p tcp -s 10.0.0.1 --orig-port-src 3 -t 1000");
    let later = now().wrapping_add(500 * TICKS_PER_SECOND);
    let handle = set.table.register();
    for tcp in &all {
        let guard = handle.pin();
        let hash = set.table.hash(&tcp.original);
        let (connection, _) = set.table.lookup(&tcp.original, hash, now(), &guard).expect("ours");
        connection.clear_marks(Marks::KERNEL | Marks::ADOPTABLE);
        assert!(connection.refresh(later));
    }
    set.namespace.run("conntrack -U -p tcp -s 10.0.0.1 -m 9");
    let marked = |set: &Box| {
        all.iter()
            .all(|tcp| set.ours(&tcp.original).is_some_and(|ours| ours.mark == 9))
    };
    assert!(within(2.0, || marked(&set)));
    std::thread::sleep(Duration::from_millis(300));
    let ends: Vec<_> = all
        .iter()
        .map(|tcp| set.ours(&tcp.original).map(|ours| ours.deadline))
        .collect();
    assert_eq!(ends, [Some(later); 5]);
}

/// More deletions than the events that wait find room for.
#[test]
fn deletions_that_no_event_told_of_are_honoured() {
    let mut set = Box::idle(&[record(Protocol::UDP, 999, 53, 600)]);
    for place in 0..60_000u32 {
        let ports = (1000 + (place % 30_000) as u16, 53 + (place / 30_000) as u16);
        set.insert(&record(Protocol::UDP, ports.0, ports.1, 600));
    }
    set.exchange.export_all(Duration::from_secs(20));
    assert_eq!(set.count(), 60_001);
    set.namespace.run("conntrack -F");
    let kept = record(Protocol::UDP, 1000, 53, 600);
    set.user
        .create(std::slice::from_ref(&kept), now(), |_, errno| {
            panic!("refused: {errno}")
        })
        .expect("create");
    set.start();
    assert!(
        within(20.0, || set.table.len() <= 1),
        "{} are left, {:?}",
        set.table.len(),
        set.exchange.counts
    );
    assert!(set.exchange.counts.overruns.load(Relaxed) > 0, "no event was lost");
    assert!(set.ours(&kept.original).is_some());
    assert_eq!(set.count(), 1);
}

#[test]
fn everything_is_exported_at_the_end() {
    let mut set = Box::new(&[]);
    set.insert_young(1000..3000, 53);
    assert_eq!(set.count(), 0);
    set.exchange.export_all(Duration::from_secs(5));
    assert_eq!(set.count(), 2000);
}

/// Many of which the kernel knows older copies, and few that it does not know: these come first, for time is short at the end,
/// and here it suffices for half of the many.
#[test]
fn what_the_kernel_does_not_know_is_exported_first() {
    const KNOWN: u32 = 100_000;
    let mut set = Box::idle(&[]);
    for place in 0..KNOWN {
        let ports = (1000 + (place % 50_000) as u16, 53 + (place / 50_000) as u16);
        set.insert(&record(Protocol::UDP, ports.0, ports.1, 600));
    }
    set.exchange.export_all(Duration::from_secs(20));
    set.prolong(700);
    let began = Instant::now();
    set.exchange.export_all(Duration::from_secs(20));
    let all_known = began.elapsed();
    set.prolong(800);
    set.insert_young(1000..1100, 90);
    set.exchange.export_all(all_known / 2);
    assert_eq!(set.count(), KNOWN as usize + 100);
}
