//! Single connections into the kernel's table, each before a packet of it is punted, by the punt thread.
//!
//! What the stages say of the packet ([`Leaving`]) becomes an entry under which the kernel does with it what it would have done
//! had it seen all that came before: the connection's state of before it; or, for a packet that is no part of its connection,
//! the connection turned round and in no state at all, in which every answer of TCP is invalid (tcp_conntracks: sNO). Such an
//! entry stands only until the kernel has had the packet, then there is none, and the next export makes it anew.
//!
//! An entry cannot lose status bits by a change, so where it would have to it is deleted and made anew.

use super::export::{export, left};
use super::import::closed_there;
use super::{Exchange, now};
use crate::mirror::ctnetlink::Ctnetlink;
use crate::stage::prerouting::leaving::Leaving;
use crate::table::conntrack::table::{Connection, Guard, Handle};
use crate::table::conntrack::tracker::tcp;
use crate::table::conntrack::{Marks, Record, Status, TICKS_PER_SECOND, Ticks, Tuple};
use crate::wire::Protocol;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// A copy that is used now must live at least so long.
const FRESH_TICKS: Ticks = 5 * TICKS_PER_SECOND;

/// What the entry of an invalid packet lives, should nobody delete it.
const INVALID_TICKS: Ticks = 5 * TICKS_PER_SECOND;

/// When the kernel has had what was written, even if it put it off.
const HAD_AFTER: Duration = Duration::from_millis(30);

/// Entries of invalid packets at one time. One more, and the oldest is deleted first, though the kernel may not have had its
/// packet: that one is then judged as a beginning.
const TURNED_MAX: usize = 256;

/// An entry under which a packet is invalid.
struct Turned {
    original: Tuple,
    packet: Tuple,
    since: Instant,
}

/// See the file's head.
pub struct Exporter {
    link: Ctnetlink,
    handle: Handle,
    exchange: Arc<Exchange>,
    turned: Vec<Turned>,
    /// The connection of the last packet, if a rule may close it by a reset.
    resettable: Option<Tuple>,
}

impl Exchange {
    /// An exporter for another thread, which must be of this network namespace.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn exporter(self: &Arc<Self>) -> io::Result<Exporter> {
        Ok(Exporter {
            link: Ctnetlink::open(Arc::clone(&self.own))?,
            handle: self.table.register(),
            exchange: Arc::clone(self),
            turned: Vec::new(),
            resettable: None,
        })
    }
}

impl Exporter {
    /// Returns when the kernel knows what it must, or refused it; and has no copy of what has ended, which would still judge.
    pub fn export(&mut self, leaving: Option<&Leaving>) {
        let now = now();
        self.resettable = None;
        self.exchange.delete_ended(&mut self.link, &self.handle);
        let Some(leaving) = leaving else { return };
        let exchange = Arc::clone(&self.exchange);
        let _alone = exchange.copying();
        match leaving {
            Leaving::AsItIs(original) => self.as_it_is(original, now),
            Leaving::AsItWas(record) => self.as_it_was(record, now),
            Leaving::Over(original) => {
                self.take_turned(original);
                let _ = self.link.delete(&[*original], |_, _| {});
            }
            Leaving::Invalid { packet, original } => self.invalid(packet, original, now),
        }
    }

    /// The kernel has had the packet: asks whether a rule there has closed its connection. Where the kernel has put the packet
    /// off, an event tells.
    pub fn punted(&mut self) {
        let Some(original) = self.resettable.take() else { return };
        let now = now();
        let guard: Guard<'_> = self.handle.pin();
        if let Some(connection) = find(&self.exchange, &original, now, &guard) {
            let _ = self.link.get(&[original], now, |_, entry| {
                if let Some(entry) = entry {
                    closed_there(&connection, &entry);
                }
            });
        }
    }

    /// Deletes the entries of invalid packets that the kernel has had by now, and those that are too many; whether there are more.
    pub fn rest(&mut self) -> bool {
        if self.turned.is_empty() {
            return false;
        }
        let exchange = Arc::clone(&self.exchange);
        let _alone = exchange.copying();
        self.turn_old_back();
        !self.turned.is_empty()
    }

    fn turn_old_back(&mut self) {
        while self.turned.len() >= TURNED_MAX
            && let Some(oldest) = self.turned.iter().min_by_key(|turned| turned.since)
        {
            let original = oldest.original;
            self.turn_back(&original);
        }
        let old = |turned: &Turned| turned.since.elapsed() >= HAD_AFTER;
        while let Some(at) = self.turned.iter().position(old) {
            let original = self.turned[at].original;
            self.turn_back(&original);
        }
    }

    fn as_it_is(&mut self, original: &Tuple, now: Ticks) {
        self.turn_back(original);
        let table = &self.exchange.table;
        let guard: Guard<'_> = self.handle.pin();
        let Some((connection, _)) = table.lookup(original, table.hash(original), now, &guard) else {
            return;
        };
        let marks = connection.marks();
        // A copy that is not settled may be older than an answer, or a handshake that went on; and one of GRE has no timeouts
        // that could be told, and is over with its first packet (gre_timeouts of nf_conntrack_proto_gre.c).
        let settled =
            marks.any(Marks::SETTLED) && !marks.any(Marks::REMARKED) && Protocol(original.proto) != Protocol::GRE;
        let fresh = settled && marks.any(Marks::EXPORTED) && left(connection.kernel_deadline(), now) > FRESH_TICKS;
        if marks.any(Marks::KERNEL) && !marks.is_uncopied() {
            return;
        }
        if fresh {
            connection.set_marks(Marks::TOUCHED); // the packet comes now
            return;
        }
        export(&mut self.link, &[connection], &self.exchange.counts, now);
        if marks.any(Marks::EXPORTED) && !connection.marks().any(Marks::EXPORTED) {
            // The copy was gone already, or is of a connection before with the same tuples, and has bits that cannot be taken away.
            let _ = self.link.delete(&[*original], |_, _| {});
            export(&mut self.link, &[connection], &self.exchange.counts, now);
        }
        connection.set_marks(Marks::TOUCHED);
        // It may have ended meanwhile, and its copy been deleted before it was made.
        if table.lookup(original, table.hash(original), now, &guard).is_none() {
            let _ = self.link.delete(&[*original], |_, _| {});
        }
    }

    fn as_it_was(&mut self, record: &Record, now: Ticks) {
        self.turn_back(&record.original);
        let Self {
            link, handle, exchange, ..
        } = self;
        let guard: Guard<'_> = handle.pin();
        let found = find(exchange, &record.original, now, &guard);
        if found.is_some_and(|connection| connection.marks().any(Marks::KERNEL)) {
            return;
        }
        // If it has just ended, by this packet or another, the kernel ends it by the same. A copy that remembers of what kind
        // its last packet was would judge by that, where ours has seen others since.
        let remembers = match Protocol(record.original.proto) {
            Protocol::TCP => tcp::is_closing(&record.proto),
            protocol => protocol == Protocol::SCTP,
        };
        let copied = found.is_some_and(|connection| {
            let had = connection.marks().any(Marks::EXPORTED);
            connection.mark_alive(Marks::EXPORTED) && had
        });
        let records = std::slice::from_ref(record);
        let mut refused = !copied || remembers;
        if !refused {
            let done = link.update(records, now, |_, _| refused = true);
            refused |= done.is_err();
        }
        if refused {
            let mut failed = 0;
            let _ = link.delete(&[record.original], |_, _| {});
            let _ = link.create(records, now, |_, _| failed = 1);
            exchange.counts.refused.fetch_add(failed, Relaxed);
            exchange.counts.exported.fetch_add(1 - failed, Relaxed);
        } else {
            exchange.counts.refreshed.fetch_add(1, Relaxed);
        }
        if let Some(connection) = found {
            if connection.marks().any(Marks::RESETTABLE) {
                // Of one that was closing it could not be told.
                if remembers {
                    connection.clear_marks(Marks::RESETTABLE);
                } else {
                    self.resettable = Some(record.original);
                }
            }
            connection.set_kernel_deadline(record.deadline);
            connection.set_marks(Marks::TOUCHED);
            // It is as old as the packet: the next one needs it anew.
            connection.clear_marks(Marks::SETTLED);
            // It has the mark, too, unless that is just being changed.
            connection.clear_marks(Marks::REMARKED);
            if connection.mark() != record.mark {
                connection.set_marks(Marks::REMARKED);
            }
            if record.status.any(Status::ASSURED) {
                connection.set_marks(Marks::SETTLED);
            }
        }
    }

    fn invalid(&mut self, packet: &Tuple, original: &Tuple, now: Ticks) {
        self.take_turned(original);
        // While punts come without a pause nobody else calls it.
        if self.turned.len() >= TURNED_MAX {
            self.turn_old_back();
        }
        let guard: Guard<'_> = self.handle.pin();
        let found = find(&self.exchange, original, now, &guard);
        let Some(connection) = found.filter(|connection| !connection.marks().any(Marks::KERNEL)) else {
            return;
        };
        let Some(turned) = packet.invert() else { return };
        let record = Record {
            original: turned,
            reply: *packet,
            status: Status::CONFIRMED,
            marks: Marks(0),
            deadline: now.wrapping_add(INVALID_TICKS),
            mark: 0,
            proto: [0; 7],
            counters: Default::default(),
        };
        // For the walk it is a copy like others, until it is gone; and should ours end, it ends with it.
        connection.set_kernel_deadline(connection.deadline());
        connection.set_marks(Marks::EXPORTED | Marks::SETTLED | Marks::TURNED);
        let _ = self.link.delete(&[*original], |_, _| {});
        let _ = self.link.create(&[record], now, |_, _| {});
        self.turned.push(Turned {
            original: *original,
            packet: *packet,
            since: Instant::now(),
        });
    }

    /// Deletes the entry of an invalid packet of this connection, if there is one.
    fn turn_back(&mut self, original: &Tuple) {
        if !self.take_turned(original) {
            return;
        }
        let guard: Guard<'_> = self.handle.pin();
        let found = find(&self.exchange, original, now(), &guard);
        // At the end the exchange's thread makes a copy instead of it.
        if found.is_none_or(|connection| connection.marks().any(Marks::TURNED)) {
            let _ = self.link.delete(&[*original], |_, _| {});
            if let Some(connection) = found {
                connection.clear_marks(Marks::EXPORTED | Marks::SETTLED | Marks::TURNED);
            }
        }
    }

    /// The same, and no more. The entry has the packet's tuples, which those of the connection need not be: not both, if it
    /// is translated.
    fn take_turned(&mut self, original: &Tuple) -> bool {
        let Some(at) = self.turned.iter().position(|turned| turned.original == *original) else {
            return false;
        };
        let turned = self.turned.swap_remove(at);
        let _ = self.link.delete(&[turned.packet], |_, _| {});
        true
    }
}

/// The connection with this original tuple.
fn find<'g>(exchange: &'g Exchange, original: &Tuple, now: Ticks, guard: &'g Guard<'g>) -> Option<Connection<'g>> {
    let table = &exchange.table;
    let (connection, _) = table.lookup(original, table.hash(original), now, guard)?;
    Some(connection)
}
