//! Choices over the real table, and the hash of sources.
//!
//! What fills a bucket is made by one source alone, whose ports are forced by ranges of one: so the order in a bucket
//! is known, whatever the hash.

use super::*;
use crate::table::conntrack::table::{Handle, Table};

const NOW: u32 = 1000;

struct Place {
    table: Table,
    sources: BySource,
    random: Random,
}

impl Place {
    fn new() -> Place {
        Place {
            table: Table::new(1000),
            sources: BySource::new(1000),
            random: Random::default(),
        }
    }

    /// Sets a connection up and inserts it.
    fn begin(&mut self, handle: &Handle, mut record: Record, range: &Range, timeout: u32) -> Record {
        let guard = handle.pin();
        record.deadline = NOW + timeout;
        let mut world = Live {
            table: &self.table,
            by_source: &self.sources,
            guard: &guard,
            now: NOW,
            random: &mut self.random,
        };
        setup(&mut record, range, Manip::Source, &mut world).unwrap();
        let connection = self.table.insert(&record, NOW, &guard).unwrap();
        self.sources.insert(&connection, &self.table, NOW, &guard);
        record
    }

    fn mappings(&self, handle: &Handle, original: &Tuple) -> Vec<u16> {
        let guard = handle.pin();
        let mut found = Vec::new();
        let all = self.sources.find(original, &self.table, NOW, &guard, |reply| {
            found.push(reply.dport);
            None::<()>
        });
        assert!(all.is_none());
        found
    }
}

#[test]
fn the_table_says_what_is_taken_and_where_sources_went() {
    let mut place = Place::new();
    let handle = place.table.register();
    let other = begun(tuple(Protocol::UDP, (CLIENT + 1, 5000), (SERVER, 53)));
    place.begin(&handle, other, &to(GATE), 100);
    let moved = place.begin(&handle, udp(5000, SERVER), &to(GATE), 100);
    let [source, _] = ends(&moved);
    assert_ne!(source, (GATE, 5000));
    let next = place.begin(&handle, udp(5000, SERVER + 1), &to(GATE), 100);
    assert_eq!(ends(&next)[0], source);
    // A mapping ends with its connections.
    let guard = handle.pin();
    for record in [&moved, &next] {
        let hash = place.table.hash(&record.reply);
        let (connection, direction) = place.table.lookup(&record.reply, hash, NOW, &guard).unwrap();
        assert_eq!(direction, Direction::Reply);
        assert!(place.table.remove(connection, &guard));
    }
    drop(guard);
    let next = place.begin(&handle, udp(5000, SERVER + 2), &to(GATE), 100);
    assert_eq!(ends(&next)[0], (GATE, 5000));
}

#[test]
fn what_is_not_translated_is_not_kept() {
    let mut place = Place::new();
    let handle = place.table.register();
    let record = udp(5000, SERVER);
    let own = Range::null_binding(&record, Manip::Source);
    place.begin(&handle, record.clone(), &own, 100);
    assert!(place.mappings(&handle, &record.original).is_empty());
}

#[test]
fn a_full_bucket_keeps_the_newest_and_loses_what_is_repeated_first() {
    let mut place = Place::new();
    let handle = place.table.register();
    // One source, mapped to as many ports as the bucket has places, and to one more.
    let fixed = |port| Range {
        ports: Some((port, port)),
        ..to(GATE)
    };
    let original = udp(5000, SERVER).original;
    for n in 0..8 {
        place.begin(&handle, udp(5000, SERVER + Addr::from(n)), &fixed(100 + n), 100);
    }
    assert_eq!(
        place.mappings(&handle, &original),
        [107, 106, 105, 104, 103, 102, 101, 100]
    );
    place.begin(&handle, udp(5000, SERVER + 20), &fixed(108), 100);
    assert_eq!(
        place.mappings(&handle, &original),
        [108, 107, 106, 105, 104, 103, 102, 101]
    );
    // A mapping that is there comes to the front, and costs no other one its place.
    place.begin(&handle, udp(5000, SERVER + 21), &fixed(103), 100);
    assert_eq!(
        place.mappings(&handle, &original),
        [103, 108, 107, 106, 105, 104, 102, 101]
    );
}

#[test]
fn places_of_connections_that_are_over_are_taken_first() {
    let mut place = Place::new();
    let handle = place.table.register();
    let fixed = |port| Range {
        ports: Some((port, port)),
        ..to(GATE)
    };
    let original = udp(5000, SERVER).original;
    for n in 0..8 {
        place.begin(&handle, udp(5000, SERVER + Addr::from(n)), &fixed(100 + n), 100);
    }
    let guard = handle.pin();
    let reply = tuple(Protocol::UDP, (SERVER + 5, 53), (GATE, 105));
    let (connection, _) = place
        .table
        .lookup(&reply, place.table.hash(&reply), NOW, &guard)
        .unwrap();
    place.table.remove(connection, &guard);
    drop(guard);
    place.begin(&handle, udp(5000, SERVER + 20), &fixed(108), 100);
    assert_eq!(
        place.mappings(&handle, &original),
        [108, 107, 106, 104, 103, 102, 101, 100]
    );
}

#[test]
fn threads_may_fill_one_bucket_at_once() {
    let table = Table::new(1000);
    let sources = BySource::new(1);
    std::thread::scope(|scope| {
        for thread in 0..4u16 {
            let (table, sources) = (&table, &sources);
            scope.spawn(move || {
                let handle = table.register();
                for n in 0..50u16 {
                    let guard = handle.pin();
                    let mut record = udp(thread, SERVER + Addr::from(n));
                    record.deadline = NOW + 100;
                    record.reply.dst = GATE;
                    record.status = record.status | Status::SRC_NAT;
                    let connection = table.insert(&record, NOW, &guard).unwrap();
                    sources.insert(&connection, table, NOW, &guard);
                    sources.find(&record.original, table, NOW, &guard, |reply| {
                        assert_eq!(reply.dport, thread);
                        None::<()>
                    });
                }
            });
        }
    });
    assert_eq!(sources.bytes(), 32);
}

/// What is over gives its port away, unless it is the kernel's own, which has the port there, too; or is another one by now.
#[test]
fn a_closed_connection_gives_its_port_away_if_it_is_ours() {
    let port = Range {
        ports: Some((40000, 40000)),
        ..to(GATE)
    };
    for (marks, gives) in [
        (0, true),
        (Marks::EXPORTED, true),
        (Marks::KERNEL | Marks::EXPORTED, false),
        (Marks::KERNEL | Marks::ADOPTABLE, false),
    ] {
        let mut place = Place::new();
        let handle = place.table.register();
        let mut old = begun(tuple(Protocol::TCP, (CLIENT + 1, 5000), (SERVER, 80)));
        (old.proto, old.marks) = (tcp_state(7, 999), Marks(marks));
        let old = place.begin(&handle, old, &port, 100);
        let mut new = begun(tuple(Protocol::TCP, (CLIENT, 6000), (SERVER, 80)));
        new.proto = tcp_state(1, 1000);
        let guard = handle.pin();
        let mut world = Live {
            table: &place.table,
            by_source: &place.sources,
            guard: &guard,
            now: NOW,
            random: &mut place.random,
        };
        assert_eq!(
            setup(&mut new, &port, Manip::Source, &mut world).is_ok(),
            gives,
            "{marks:#x}"
        );
        let hash = place.table.hash(&old.original);
        let found = place.table.lookup(&old.original, hash, NOW, &guard);
        assert_eq!(found.is_none(), gives, "{marks:#x}");
    }
}

/// Another worker has given the port away since this one looked.
#[test]
fn what_has_the_port_of_a_closed_connection_by_now_is_not_ended() {
    let mut place = Place::new();
    let handle = place.table.register();
    let mut over = begun(tuple(Protocol::TCP, (CLIENT + 1, 5000), (SERVER, 80)));
    over.proto = tcp_state(7, 999);
    let over = place.begin(&handle, over, &to(GATE), 100);
    let guard = handle.pin();
    let mut world = Live {
        table: &place.table,
        by_source: &place.sources,
        guard: &guard,
        now: NOW,
        random: &mut place.random,
    };
    let holder = world.holder(&over.reply).unwrap();
    let mut next = Record {
        original: tuple(Protocol::TCP, (CLIENT, 6000), (SERVER, 80)),
        ..over.clone()
    };
    let (found, _) = place
        .table
        .lookup(&over.reply, place.table.hash(&over.reply), NOW, &guard)
        .unwrap();
    assert!(place.table.remove(found, &guard) && place.table.insert(&next, NOW, &guard).is_ok());
    assert!(!world.end(&holder), "of another client");
    // The same client's, which has opened it anew.
    next.original = over.original;
    next.proto = tcp_state(1, 5000);
    let (found, _) = place
        .table
        .lookup(&over.reply, place.table.hash(&over.reply), NOW, &guard)
        .unwrap();
    assert!(place.table.remove(found, &guard) && place.table.insert(&next, NOW, &guard).is_ok());
    assert!(!world.end(&holder), "no more over");
    assert_eq!(place.table.len(), 1);
}
