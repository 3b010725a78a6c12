//! What happens at the edges: a full table, annexes that run out, tuples that are their own inverse, reuse, the log.
//!
//! Plain calls on small tables, one thread: what is bounded, and what happens at the bound.

use super::*;
use crate::table::conntrack::Counter;
use crate::wire::Protocol;

const NOW: Ticks = 100;

fn with(n: u32, status: Status, marks: u16) -> Record {
    Record {
        status,
        marks: Marks(marks),
        ..plain(n, NOW + 100)
    }
}

fn is_there(table: &Table, n: u32, guard: &Guard<'_>) -> bool {
    let tuple = tuple(n);
    table.lookup(&tuple, table.hash(&tuple), NOW, guard).is_some()
}

#[test]
fn a_full_table_drops_the_unreplied_first_and_the_assured_never() {
    const ASSURED: Status = Status(Status::ASSURED.0 | Status::SEEN_REPLY.0);
    let table = Table::new(64);
    let handle = table.register();
    let guard = handle.pin();
    for n in 0..64 {
        let record = match n {
            0..40 => with(n, ASSURED, 0),
            40..50 => with(n, Status::SEEN_REPLY, 0),
            50..60 => with(n, Status(0), 0),
            _ => with(n, ASSURED, Marks::KERNEL),
        };
        assert!(table.insert(&record, NOW, &guard).is_ok());
    }
    let there = |range: std::ops::Range<u32>| range.filter(|&n| is_there(&table, n, &guard)).count();
    let insert = |n| table.insert(&with(n, ASSURED, 0), NOW, &guard).map(drop);
    for n in 100..110 {
        assert_eq!(insert(n), Ok(()));
    }
    assert_eq!((there(50..60), there(40..50), there(60..64)), (0, 10, 4));
    for n in 110..124 {
        assert_eq!(insert(n), Ok(()));
    }
    assert_eq!(there(40..64), 0, "answered ones, and the kernel's, go then");
    // A flood.
    for n in 1000..3000 {
        assert_eq!(insert(n), Err(Refused::Full));
    }
    assert_eq!((there(0..40), there(100..124), table.len()), (40, 24, 64));
    let counts = table.counts();
    assert_eq!((counts.early_dropped, counts.full, counts.inserted), (24, 2000, 88));
}

/// The states by protocol in which an assured connection may go, and such in which it stays. Only TCP and SCTP have any.
#[test]
fn a_full_table_drops_what_is_assured_and_closing_last() {
    const ASSURED: Status = Status(Status::ASSURED.0 | Status::SEEN_REPLY.0);
    let of = |n: u32, proto: Protocol, state: u64| {
        let mut record = with(n, ASSURED, 0);
        (record.original.proto, record.reply.proto) = (proto.0, proto.0);
        record.proto[0] = state;
        record
    };
    let closing = [
        (Protocol::TCP, &[4, 5, 6, 7, 8][..]),
        (Protocol::SCTP, &[5, 6, 7]),
        (Protocol::UDP, &[]),
    ];
    let mut records = Vec::new();
    for (proto, states) in closing {
        for state in 0..10 {
            let record = of(records.len() as u32, proto, state);
            records.push((record, states.contains(&state)));
        }
    }
    let table = Table::new(32);
    let handle = table.register();
    let guard = handle.pin();
    for (record, _) in &records {
        assert!(table.insert(record, NOW, &guard).is_ok());
    }
    let there = |record: &Record| {
        let tuple = &record.original;
        table.lookup(tuple, table.hash(tuple), NOW, &guard).is_some()
    };
    let insert = |n, status| table.insert(&with(n, status, 0), NOW, &guard).map(drop);
    for n in [50, 51] {
        assert_eq!(insert(n, Status(0)), Ok(()));
    }
    for n in 100..102 {
        assert_eq!(insert(n, ASSURED), Ok(()));
    }
    assert!(
        records.iter().all(|(record, _)| there(record)),
        "those that are not assured go first"
    );
    for n in 102..110 {
        assert_eq!(insert(n, ASSURED), Ok(()));
    }
    for (record, closing) in &records {
        assert_ne!(there(record), *closing, "{record:?}");
    }
    assert_eq!(insert(200, ASSURED), Err(Refused::Full));
    assert_eq!((table.counts().early_dropped, table.len()), (10, 32));
}

#[test]
fn what_is_over_gives_way_and_is_not_found() {
    let table = Table::new(4);
    let handle = table.register();
    let guard = handle.pin();
    // Deadlines on both sides of the wrap.
    let now = u32::MAX - 1;
    let insert = |n, deadline, now| table.insert(&plain(n, deadline), now, &guard).map(drop);
    assert_eq!(insert(1, 3, now), Ok(()));
    let tuple = tuple(1);
    let found = |now| table.lookup(&tuple, table.hash(&tuple), now, &guard).is_some();
    assert!(found(2) && !found(3), "over at the very tick");
    assert_eq!(insert(1, 10, 2), Err(Refused::Clash));
    assert_eq!(insert(1, 10, 3), Ok(()));
    assert!(found(4));
    assert_eq!((table.len(), table.counts().expired, table.counts().clashes), (1, 1, 1));
}

#[test]
fn ipv6_with_nat_takes_annexes_until_there_are_none() {
    let table = Table::new(64);
    let handle = table.register();
    let nat = |n: u32| {
        let mut record = plain(3 * n, NOW + 100);
        assert_eq!(record.original.family, Family::V6);
        record.original.dst = u128::MAX / 3 + u128::from(n);
        record.reply.src = 0x2001_0db8 << 96 | u128::from(n);
        record
    };
    for round in 0..3 {
        let guard = handle.pin();
        for n in 0..4 {
            assert!(table.insert(&nat(n), NOW, &guard).is_ok(), "round {round}, {n}");
        }
        assert_eq!(table.insert(&nat(4), NOW, &guard).err(), Some(Refused::NoAnnex));
        assert_eq!(table.len(), 4);
        for n in 0..4 {
            for (tuple, direction) in [(nat(n).original, Direction::Original), (nat(n).reply, Direction::Reply)] {
                let found = table.lookup(&tuple, table.hash(&tuple), NOW, &guard);
                let Some((connection, is)) = found else {
                    panic!("{tuple:?} is not there")
                };
                assert_eq!(
                    (is, connection.tuple(is), connection.record()),
                    (direction, tuple, nat(n))
                );
            }
            let inverse = nat(n).original.invert().unwrap();
            assert!(table.lookup(&inverse, table.hash(&inverse), NOW, &guard).is_none());
        }
        // Without NAT none is needed.
        assert!(table.insert(&plain(300, NOW + 100), NOW, &guard).is_ok());
        for connection in table.iter(&guard) {
            assert!(table.remove(connection, &guard));
        }
        drop(guard);
        settle(&handle);
    }
}

/// So many pins that everything retired is free.
fn settle(handle: &Handle) {
    for _ in 0..1024 {
        drop(handle.pin());
    }
}

#[test]
fn a_tuple_that_is_its_own_inverse_is_found_as_the_kernel_finds_it() {
    let table = Table::new(16);
    let handle = table.register();
    let guard = handle.pin();
    let own = Tuple {
        src: 7,
        dst: 7,
        sport: 9,
        dport: 9,
        ..tuple(1)
    };
    let connection = table.insert(&record(own, own, NOW + 1), NOW, &guard).unwrap();
    let found = table.lookup(&own, table.hash(&own), NOW, &guard);
    assert_eq!(found.map(|(_, direction)| direction), Some(Direction::Reply));
    assert_eq!(
        table.insert(&record(own, own, NOW + 1), NOW, &guard).err(),
        Some(Refused::Clash)
    );
    assert!(table.remove(connection, &guard));
    assert_eq!((table.buckets.all().len(), table.len()), (0, 0));
}

#[test]
fn an_entry_comes_back_clean() {
    let table = Table::new(2);
    let handle = table.register();
    let cycles = if cfg!(miri) { 1_500 } else { 100_000 };
    for n in 0..cycles {
        let guard = handle.pin();
        let fresh = with(n, Status::SEEN_REPLY, 0);
        let connection = table.insert(&fresh, NOW, &guard).expect("all others are free again");
        assert_eq!(connection.record(), fresh);
        let decisions = [Direction::Original, Direction::Reply].map(|direction| connection.decision(direction));
        assert_eq!((decisions, connection.kernel_deadline()), ([0, 0], 0));
        connection.set_decision(Direction::Reply, u64::MAX);
        connection.set_kernel_deadline(5);
        connection.set_mark(n);
        connection.count(Direction::Reply, 60);
        assert_eq!(connection.set_marks(Marks::KERNEL), Marks(0));
        assert_eq!(connection.clear_marks(Marks::KERNEL), Marks(Marks::KERNEL));
        assert_eq!(connection.set_status(Status::ASSURED), Status::SEEN_REPLY);
        let (version, mut proto) = connection.proto();
        proto[6] = u64::from(n);
        assert!(connection.commit(version, &proto) && !connection.commit(version, &proto));
        let counted = Counter { packets: 1, bytes: 60 };
        let all = Record {
            status: Status::SEEN_REPLY | Status::ASSURED,
            mark: n,
            proto,
            counters: [Counter::default(), counted],
            ..fresh
        };
        assert_eq!(connection.record(), all);
        assert!(table.remove(connection, &guard) && !connection.refresh(NOW + 500));
        assert_eq!(connection.record(), all, "as it was, until the guard is gone");
    }
    assert!(table.slab.used() <= slab::entries_of(2));
}

#[test]
fn the_log_has_ends_of_what_was_exported_and_while_watched_of_all() {
    let table = Table::new(1024);
    let handle = table.register();
    let guard = handle.pin();
    let end = |n, marks| {
        let connection = table.insert(&with(n, Status(0), marks), NOW, &guard).unwrap();
        assert!(table.remove(connection, &guard));
    };
    end(1, 0);
    assert_eq!(table.log.pop(), None);
    end(2, Marks::EXPORTED);
    assert_eq!(
        table.log.pop(),
        Some((Event::Destroy, with(2, Status(0), Marks::EXPORTED)))
    );
    table.log.watch(true);
    end(3, 0);
    assert_eq!(table.log.pop(), Some((Event::Destroy, with(3, Status(0), 0))));
    let pushed = if cfg!(miri) { 20 } else { 1000 };
    (0..pushed).for_each(|n| end(10 + n, 0));
    let popped = std::iter::from_fn(|| table.log.pop()).count() as u64;
    assert!(popped > 0);
    assert_eq!(popped + table.log.take_lost(), u64::from(pushed));
}

#[test]
fn handles_move_between_threads_and_outlive_the_table() {
    let table = Table::new(64);
    let handles: Vec<Handle> = (0..3).map(|_| table.register()).collect();
    let handles: Vec<Handle> = std::thread::scope(|scope| {
        let threads: Vec<_> = handles
            .into_iter()
            .zip(0u32..)
            .map(|(handle, thread)| {
                let table = &table;
                scope.spawn(move || {
                    for n in 0..20 {
                        let guard = handle.pin();
                        let connection = table.insert(&plain(100 * thread + n, NOW + 1), NOW, &guard);
                        assert!(table.remove(connection.unwrap(), &guard));
                    }
                    handle
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(table.is_empty());
    // What they retired is freed by them now, into memory that must still be there.
    drop(table);
    handles.iter().for_each(settle);
}
