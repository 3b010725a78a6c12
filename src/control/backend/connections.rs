//! The connection table as clients see it: listed, and deleted from, in pieces.
//!
//! While a table is looked at, what is deleted from it cannot be reclaimed, and a table without free entries takes no new
//! connection. A reader may be slow (`| less`): so the rows of a piece are made first, and written when nothing is held.
//! Bounded by [`PIECE`] rows.

use super::Running;
use crate::control::connections::{ConnectionFilter, ConnectionRow};
use crate::port::wait::monotonic_ns;
use crate::table::conntrack::table::{Connection, Guard};
use crate::table::conntrack::{Marks, is_past, ticks};
use std::ops::ControlFlow;

/// Entries that are looked at between two moments in which deleted ones can be reclaimed.
const PIECE: u32 = 512;

impl<Q: Send + 'static> Running<Q> {
    /// Makes a piece of all connections, from an entry on, and hands it over when nothing is held; until that breaks.
    fn pieces<T>(
        &self,
        mut make: impl FnMut(Connection<'_>, &Guard<'_>) -> Option<T>,
        mut hand_over: impl FnMut(T) -> ControlFlow<()>,
    ) {
        let table = &self.shared.conntrack;
        let handle = table.register();
        let (mut from, mut piece) = (0, Vec::with_capacity(PIECE as usize));
        loop {
            let next = {
                let guard = handle.pin();
                table.walk(from, PIECE, &guard, |connection| piece.extend(make(connection, &guard)))
            };
            if piece.drain(..).try_for_each(&mut hand_over).is_break() {
                return;
            }
            let Some(next) = next else { return };
            from = next;
        }
    }

    pub(super) fn list_connections(
        &self,
        filter: &ConnectionFilter,
        each: &mut dyn FnMut(ConnectionRow) -> ControlFlow<()>,
    ) {
        let acct = self.shared.snapshot.load().conntrack.acct;
        self.pieces(
            |connection, _| {
                let (record, now) = (connection.record(), ticks(monotonic_ns()));
                let is_wanted = !is_past(record.deadline, now) && filter.holds(&record);
                is_wanted.then(|| ConnectionRow::new(&record, now, acct))
            },
            each,
        );
    }

    pub(super) fn delete_all(&self, filter: &ConnectionFilter) -> u64 {
        let now = ticks(monotonic_ns());
        let mut deleted = 0;
        self.pieces(
            |connection, guard| {
                let record = connection.record();
                if !is_past(record.deadline, now) && filter.holds(&record) {
                    // What the kernel has of it goes too: the exchange deletes there what was exported.
                    if record.marks.any(Marks::KERNEL) {
                        connection.set_marks(Marks::EXPORTED);
                        connection.clear_marks(Marks::KERNEL);
                    }
                    deleted += u64::from(self.shared.conntrack.remove(connection, guard));
                }
                None::<()>
            },
            |()| ControlFlow::Continue(()),
        );
        deleted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Family;
    use crate::port::MemQueue;
    use crate::table::Snapshot;
    use crate::table::conntrack::{Record, Status, Tuple};
    use crate::worker::{Limits, Shared};
    use std::sync::{Arc, Mutex};

    fn running(connections: u32) -> Running<MemQueue> {
        let limits = Limits {
            connections,
            ..Limits::new(1, 64)
        };
        let (shared, _, _) = Shared::new(limits, Snapshot::default()).unwrap();
        Running {
            shared: Arc::new(shared),
            ports: Arc::default(),
            punts: Arc::default(),
            steer: Box::new(|_| Default::default()),
            cpus: Vec::new(),
            closed: Arc::default(),
            last: Mutex::default(),
            subscribers: Arc::default(),
            exchanged: Arc::default(),
        }
    }

    fn record(n: u16) -> Record {
        let original = Tuple {
            src: 0x0a00_0001,
            dst: 0x0b00_0001,
            sport: n,
            dport: 80,
            proto: 6,
            family: Family::V4,
            zone: 0,
        };
        let reply = Tuple {
            src: original.dst,
            dst: original.src,
            sport: 80,
            dport: n,
            ..original
        };
        Record {
            original,
            reply,
            status: Status::CONFIRMED,
            marks: Marks(0),
            deadline: ticks(monotonic_ns()).wrapping_add(100_000),
            mark: 0,
            proto: [0; 7],
            counters: Default::default(),
        }
    }

    #[test]
    fn while_a_reader_is_slow_entries_are_reclaimed() {
        let running = running(64);
        let table = &running.shared.conntrack;
        let handle = table.register();
        for n in 0..10 {
            let guard = handle.pin();
            table
                .insert(&record(n), ticks(monotonic_ns()), &guard)
                .map(drop)
                .unwrap();
        }
        let mut rows = 0;
        running.list_connections(&ConnectionFilter::default(), &mut |_| {
            rows += 1;
            for n in 0..500 {
                let guard = handle.pin();
                let connection = table.insert(&record(1000 + n), ticks(monotonic_ns()), &guard);
                assert!(table.remove(connection.expect("a free entry"), &guard), "row {rows}");
            }
            ControlFlow::Continue(())
        });
        assert_eq!(rows, 10);
        assert_eq!(running.delete_all(&ConnectionFilter::default()), 10);
    }
}
