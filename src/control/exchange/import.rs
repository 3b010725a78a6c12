//! From the kernel's table into ours: what it has at the start, and what events tell.
//!
//! Both come the same way. An entry of the kernel is entered as KERNEL, so that its packets are punted, and as EXPORTED,
//! since the kernel has it. Once it is established, if a record says all of it, it is ADOPTABLE: stage prerouting lets its
//! packets walk, and the first that gets through takes the KERNEL away. Without a handshake (UDP and the like) there is
//! nothing to wait for: such a connection is adoptable from its first packet.

use super::{Exchange, Inner, Local, now};
use crate::mirror::ctnetlink::{Entry, Event, EventKind};
use crate::table::conntrack::table::{Connection, Guard, Handle};
use crate::table::conntrack::{Direction, Marks, Record, Ticks};
use crate::wire::Protocol;
use std::io;
use std::sync::atomic::Ordering::Relaxed;

impl Exchange {
    /// Reads the kernel's whole table.
    pub(super) fn import(&self, inner: &mut Inner) -> io::Result<()> {
        let now = now();
        let local = self.local.load_full();
        let Inner { link, handle, .. } = inner;
        link.dump(None, now, |entry| self.enter(handle, &entry, &local, now))
    }

    /// Takes in one event.
    pub(super) fn take_in(&self, handle: &Handle, event: &Event, now: Ticks) {
        if self.own.contains(event.port) {
            return;
        }
        if event.kind != EventKind::Destroy {
            return self.enter(handle, &event.entry, &self.local.load(), now);
        }
        let guard = handle.pin();
        let tuple = &event.entry.record.original;
        let Some((connection, _)) = self.table.lookup(tuple, self.table.hash(tuple), now, &guard) else {
            return;
        };
        connection.clear_marks(Marks::EXPORTED);
        let by_user = event.port != 0;
        if by_user || connection.marks().any(Marks::KERNEL) {
            self.table.remove(connection, &guard);
        }
        self.counts.deleted_by_user.fetch_add(u64::from(by_user), Relaxed);
    }

    fn enter(&self, handle: &Handle, entry: &Entry, local: &Local, now: Ticks) {
        let record = &entry.record;
        let own = |addr| local.contains(&(record.original.family, addr));
        let translated = record.original.invert() != Some(record.reply);
        if !translated && (own(record.original.src) || own(record.original.dst)) {
            return;
        }
        let adoptable = if is_adoptable(entry) { Marks::ADOPTABLE } else { 0 };
        let marks = Marks::KERNEL | Marks::EXPORTED | adoptable;
        let guard = handle.pin();
        let hash = self.table.hash(&record.original);
        match self.table.lookup(&record.original, hash, now, &guard) {
            Some((connection, Direction::Original)) if connection.tuple(Direction::Reply) == record.reply => {
                renew(&connection, entry, marks);
            }
            // The kernel's is another connection with these tuples: what it decided comes first.
            Some((connection, _)) => {
                connection.clear_marks(Marks::EXPORTED);
                self.table.remove(connection, &guard);
                self.insert(record, marks, now, &guard);
            }
            None => self.insert(record, marks, now, &guard),
        }
    }

    fn insert(&self, record: &Record, marks: u16, now: Ticks, guard: &Guard<'_>) {
        let record = Record {
            marks: Marks(marks),
            ..record.clone()
        };
        match self.table.insert(&record, now, guard) {
            Ok(connection) => {
                connection.set_kernel_deadline(record.deadline);
                self.counts.imported.fetch_add(1, Relaxed);
            }
            Err(_) => drop(self.counts.left_out.fetch_add(1, Relaxed)),
        }
    }
}

/// News of a connection that is in our table. Of one that is ours already only that it is answered, or assured, is news:
/// its fragments, which we do not track, may have made it so.
fn renew(connection: &Connection<'_>, entry: &Entry, marks: u16) {
    let record = &entry.record;
    connection.set_status(record.status);
    connection.set_kernel_deadline(record.deadline);
    if !connection.marks().any(Marks::KERNEL) {
        connection.set_marks(Marks::EXPORTED);
        return;
    }
    connection.refresh(record.deadline);
    if entry.protoinfo.is_some() {
        let (version, _) = connection.proto();
        connection.commit(version, &record.proto);
    }
    if entry.marked {
        connection.set_mark(record.mark);
    }
    connection.set_marks(marks);
}

fn is_adoptable(entry: &Entry) -> bool {
    let proto = Protocol(entry.record.original.proto);
    let has_states = matches!(proto, Protocol::TCP | Protocol::SCTP);
    entry.oddity.is_none() && (!has_states || entry.is_established())
}
