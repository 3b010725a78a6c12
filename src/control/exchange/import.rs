//! From the kernel's table into ours: what it has at the start, and what events tell.
//!
//! Both come the same way. An entry of the kernel is entered as KERNEL, so that its packets are punted, and as EXPORTED,
//! since the kernel has it. Once it is established, if a record says all of it, it is ADOPTABLE: stage prerouting lets its
//! packets walk, and the first that gets through takes the KERNEL away. Without a handshake (UDP and the like) there is
//! nothing to wait for: such a connection is adoptable from its first packet. One that is translated is, like others, where
//! NAT is in force; the box's own never are (own.rs).
//!
//! A connection whose first packet we punted is in our table before the kernel tells of it, if it does: a rule there may drop
//! that packet, and another one begin it. And it may still tell of an entry with the same tuples that is over. So:
//!
//! ```text
//!  KERNEL, not EXPORTED  -- new: it began as we think? --yes--> KERNEL | EXPORTED, followed as before
//!                        |                             \-no---> the kernel's for good (KEPT): its windows are not known here;
//!                        |                                      but where only its translated SYN-ACK came too soon for us
//!                        \- update, destroy: of one before -> nothing
//! ```

use super::own::{Ends, Local, ends, is_translated};
use super::{Exchange, Inner, now};
use crate::mirror::ctnetlink::{Entry, Event, EventKind};
use crate::stage::prerouting::leaving::{KERNEL_TICKS, keep_there};
use crate::stage::prerouting::reset::close;
use crate::table::conntrack::table::{Connection, Guard, Handle, Refused};
use crate::table::conntrack::tracker::{self, tcp};
use crate::table::conntrack::{Direction, Marks, ProtoState, Record, Status, TICKS_PER_SECOND, Ticks, Tuple};
use crate::wire::Protocol;
use std::collections::HashSet;
use std::io;
use std::sync::atomic::Ordering::Relaxed;

/// An entry whose end was still so far away did not expire; and one that ends so much sooner or later than we left it has been
/// changed: the kernel tells seconds.
const EARLY_TICKS: i32 = 2 * TICKS_PER_SECOND as i32;

/// Connections that one guard covers.
const PIECE: u32 = 4096;

impl Exchange {
    /// Reads the kernel's whole table.
    pub(super) fn import(&self, inner: &mut Inner) -> io::Result<()> {
        let now = now();
        let local = self.local.load_full();
        let Inner { link, handle, .. } = inner;
        link.dump(None, now, |entry| self.enter(handle, &entry, Told::Dump, &local, now))
    }

    /// Reads the kernel's whole table again, for what events did not tell: what is there is taken in, and what was there and
    /// is no more has ended. A dump may miss what moves meanwhile, so that is asked for once more by name. Events are taken in
    /// between, for connections that begin are waited for; what they have told the end of is not what the dump says, which
    /// was read before.
    pub(super) fn reconcile(&self, inner: &mut Inner, changed: &mut Vec<Tuple>) -> io::Result<()> {
        let now = now();
        let local = self.local.load_full();
        let Inner {
            link,
            handle,
            events,
            lost,
            ..
        } = inner;
        let (mut there, mut ended) = (HashSet::new(), HashSet::new());
        let mut shown = 0;
        link.dump(None, now, |entry| {
            shown += 1;
            if shown % PIECE == 0 {
                self.take_in_events(events, handle, lost, |event| {
                    self.note_changed(event, changed);
                    let original = event.entry.record.original;
                    match event.kind {
                        EventKind::New => drop(ended.remove(&original)),
                        EventKind::Update => {}
                        EventKind::Destroy => drop(ended.insert(original)),
                    }
                });
            }
            if ended.contains(&entry.record.original) {
                return;
            }
            there.insert(entry.record.original);
            self.enter(handle, &entry, Told::Dump, &local, now);
        })?;
        let mut missing = Vec::new();
        let mut from = Some(0);
        while let Some(at) = from {
            let guard = handle.pin();
            from = self.table.walk(at, PIECE, &guard, |connection| {
                let original = connection.tuple(Direction::Original);
                let marks = connection.marks();
                if marks.any(Marks::EXPORTED) && !marks.any(Marks::TURNED) && !there.contains(&original) {
                    missing.push(original);
                }
            });
        }
        link.get(&missing, now, |place, entry| {
            if entry.is_none() {
                self.lost(handle, &missing[place], now);
            }
        })
    }

    /// The kernel has no entry for `original`, and should. If its time was not over, a user has deleted it.
    pub(super) fn lost(&self, handle: &Handle, original: &Tuple, now: Ticks) {
        let guard = handle.pin();
        let Some((connection, _)) = self.table.lookup(original, self.table.hash(original), now, &guard) else {
            return;
        };
        if connection.marks().any(Marks::TURNED) {
            return;
        }
        let marks = connection.clear_marks(Marks::EXPORTED);
        let copys = connection.kernel_deadline();
        let early = copys != 0 && copys.wrapping_sub(now) as i32 > EARLY_TICKS;
        if !marks.any(Marks::EXPORTED) || !marks.any(Marks::KERNEL) && !early {
            return;
        }
        self.table.remove(connection, &guard);
        self.counts.deleted_by_user.fetch_add(u64::from(early), Relaxed);
    }

    /// Takes in one event.
    pub(super) fn take_in(&self, handle: &Handle, event: &Event, now: Ticks) {
        if self.own.contains(event.port) {
            return;
        }
        match event.kind {
            EventKind::New => return self.enter(handle, &event.entry, Told::New, &self.local.load(), now),
            EventKind::Update => {
                let told = if is_users(event) { Told::Change } else { Told::Update };
                return self.enter(handle, &event.entry, told, &self.local.load(), now);
            }
            EventKind::Destroy => {}
        }
        let guard = handle.pin();
        let tuple = &event.entry.record.original;
        let Some((connection, _)) = self.table.lookup(tuple, self.table.hash(tuple), now, &guard) else {
            return;
        };
        let by_user = is_users(event);
        // Of ours the punt thread may have made the copy anew since: then that goes with it.
        let marks = connection.marks();
        let is_anew = by_user && marks.any(Marks::TOUCHED) && !marks.any(Marks::KERNEL);
        let marks = if is_anew {
            marks
        } else {
            connection.clear_marks(Marks::EXPORTED)
        };
        let kernels = marks.any(Marks::KERNEL);
        if kernels && !marks.any(Marks::EXPORTED) {
            return;
        }
        let is_others = || ends(&connection.record(), &self.local.load()) == Ends::Others;
        if kernels && marks.any(Marks::KEPT) && !by_user && is_others() {
            // What comes next of it may have opened it anew there, and we could not tell: it stays known for a while. One of
            // the box's own does not: its tuple is free for NAT at once.
            connection.refresh(now.wrapping_add(KERNEL_TICKS));
        } else if by_user || kernels {
            self.table.remove(connection, &guard);
        }
        self.counts.deleted_by_user.fetch_add(u64::from(by_user), Relaxed);
    }

    /// A user has changed the kernel's copies of these, as `conntrack -U` does. An event says when the copy ends, whoever set
    /// that, and ours may have been brought up to date since; so the kernel is asked. What is not as we left it is the user's,
    /// and ours ends then, too, unless another packet comes; if the kernel has had packets since, nobody knows whose it is.
    pub(super) fn ask_changed(&self, inner: &mut Inner, changed: &[Tuple]) {
        if changed.is_empty() {
            return;
        }
        let now = now();
        let Inner { link, handle, .. } = inner;
        let _alone = self.copying();
        let _ = link.get(changed, now, |_, entry| {
            if let Some(entry) = entry {
                self.end_when_told(handle, &entry.record, now);
            }
        });
    }

    fn end_when_told(&self, handle: &Handle, copy: &Record, now: Ticks) {
        let guard = handle.pin();
        let found = self
            .table
            .lookup(&copy.original, self.table.hash(&copy.original), now, &guard);
        let Some((connection, Direction::Original)) = found else {
            return;
        };
        let (marks, copys) = (connection.marks(), connection.kernel_deadline());
        let known =
            marks.any(Marks::EXPORTED) && !marks.any(Marks::KERNEL | Marks::TURNED | Marks::TOUCHED) && copys != 0;
        let off = (copy.deadline.wrapping_sub(copys) as i32).abs();
        if known && off > EARLY_TICKS && connection.tuple(Direction::Reply) == copy.reply {
            connection.set_kernel_deadline(copy.deadline);
            connection.refresh(copy.deadline);
        }
    }

    /// Takes in an entry as it is in the kernel now.
    pub(super) fn enter(&self, handle: &Handle, entry: &Entry, told: Told, local: &Local, now: Ticks) {
        let mut record = entry.record.clone();
        if told == Told::New && !tracker::has_states(record.original.proto) {
            record.proto = tracker::begun(record.original.proto, now);
        }
        let record = &record;
        let nat = self.translates(record.original.family);
        let adoptable = match ends(record, local) {
            Ends::Others => is_adoptable(entry, nat),
            Ends::Box if nat => false,
            // No packet of it, nor any other with its tuples, passes us.
            Ends::Box | Ends::Loopback => return,
        };
        let adoptable = if adoptable { Marks::ADOPTABLE } else { 0 };
        // What is TCP's there has windows that its packets here leave behind, until it is brought up to date: liberal.
        let settled = if record.status.any(Status::ASSURED) && record.original.proto != Protocol::TCP.0 {
            Marks::SETTLED
        } else {
            0
        };
        // Its packets refresh it there, without an event.
        let marks = Marks::KERNEL | Marks::EXPORTED | Marks::TOUCHED | adoptable | settled;
        let guard = handle.pin();
        let hash = self.table.hash(&record.original);
        match self.table.lookup(&record.original, hash, now, &guard) {
            Some((connection, Direction::Original)) if connection.tuple(Direction::Reply) == record.reply => {
                let known = connection.marks();
                if !known.any(Marks::KERNEL) || known.any(Marks::EXPORTED) {
                    return renew(&connection, entry, marks, told);
                }
                match told {
                    Told::Update | Told::Change => {}
                    Told::New if began_so(&connection, record) => renew(&connection, entry, marks, told),
                    _ => self.insert(record, kept(record, marks), Some(connection), now, &guard),
                }
            }
            // The kernel's is another connection with these tuples, or NAT has changed one that it began: what it decided
            // comes first.
            Some((connection, direction)) => {
                let (_, proto) = connection.proto();
                let followed = direction == Direction::Original && is_followed(&connection, &proto, record);
                let overtaken = direction == Direction::Original && is_overtaken(&connection, &proto, record);
                self.displace(&connection);
                if followed {
                    let record = Record {
                        proto,
                        ..record.clone()
                    };
                    return self.insert(&record, marks | Marks::FOLLOWED, Some(connection), now, &guard);
                }
                let marks = if overtaken { marks } else { kept(record, marks) };
                self.insert(record, marks, Some(connection), now, &guard);
            }
            None => self.insert(record, marks, None, now, &guard),
        }
    }

    /// A connection is about to end for one of the kernel's.
    fn displace(&self, connection: &Connection<'_>) {
        let marks = connection.clear_marks(Marks::EXPORTED);
        self.counts
            .displaced
            .fetch_add(u64::from(!marks.any(Marks::KERNEL)), Relaxed);
    }

    /// Enters one of the kernel's, in the place of an old one if there is one. Its answers may bear a tuple of ours, which NAT
    /// has just given to another.
    fn insert(&self, record: &Record, marks: u16, old: Option<Connection<'_>>, now: Ticks, guard: &Guard<'_>) {
        let record = Record {
            marks: Marks(marks),
            ..record.clone()
        };
        let mut inserted = match old {
            Some(old) => self.table.replace(old, &record, now, guard),
            None => self.table.insert(&record, now, guard),
        };
        // Or a packet that came meanwhile has begun it.
        for tuple in [&record.reply, &record.original] {
            if inserted.as_ref().is_err_and(|refused| *refused == Refused::Clash) {
                inserted = match self.table.lookup(tuple, self.table.hash(tuple), now, guard) {
                    Some((other, _)) => {
                        self.displace(&other);
                        self.table.replace(other, &record, now, guard)
                    }
                    None => self.table.insert(&record, now, guard),
                };
            }
        }
        if inserted.as_ref().is_err_and(|refused| *refused == Refused::NoAnnex) {
            inserted = self.insert_halved(&record, now, guard);
        }
        match inserted {
            Ok(connection) => {
                connection.set_kernel_deadline(record.deadline);
                self.counts.imported.fetch_add(1, Relaxed);
            }
            Err(_) => drop(self.counts.left_out.fetch_add(1, Relaxed)),
        }
    }

    /// One that is translated and for whose answers there is no room: that its packets are the kernel's is known all the same.
    fn insert_halved<'g>(
        &'g self,
        record: &Record,
        now: Ticks,
        guard: &'g Guard<'_>,
    ) -> Result<Connection<'g>, Refused> {
        let record = Record {
            reply: record.original.invert().ok_or(Refused::NoAnnex)?,
            marks: Marks(record.marks.0 & !Marks::ADOPTABLE),
            ..record.clone()
        };
        self.table.insert(&record, now, guard)
    }
}

/// Who says that the kernel has an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It has: since when is not known.
    Dump,
    /// An event: it has got it just now.
    New,
    /// An event: it has changed.
    Update,
    /// An event: a user has changed it.
    Change,
}

/// Whether somebody else than the kernel has caused it, by a socket.
pub(super) fn is_users(event: &Event) -> bool {
    event.port != 0
}

/// The marks of an entry that began otherwise than we saw it.
fn kept(record: &Record, marks: u16) -> u16 {
    match tracker::has_states(record.original.proto) {
        true => marks & !Marks::ADOPTABLE | Marks::KEPT,
        false => marks,
    }
}

/// Whether the entry that the kernel has just got began with the packet that we followed it from. Without windows it is all the
/// same which one it was: it began just now.
fn began_so(connection: &Connection<'_>, record: &Record) -> bool {
    if !tracker::has_states(record.original.proto) {
        let (version, _) = connection.proto();
        connection.commit(version, &record.proto);
        return true;
    }
    connection.marks().any(Marks::FOLLOWED) && tracker::is_beginning(record.original.proto, &record.proto)
}

/// News of a connection that is in our table. Of one that is ours already only that it is answered is news: its fragments,
/// which we do not track, may have done that. (Where a connection can be opened anew the news may be of the one before.)
fn renew(connection: &Connection<'_>, entry: &Entry, marks: u16, told: Told) {
    let record = &entry.record;
    // What makes the copy of ours assured, the kernel sees otherwise than we do: it does not know when it began.
    let ours = !connection.marks().any(Marks::KERNEL);
    let news = match ours {
        false => Status(u16::MAX),
        true if tracker::has_states(record.original.proto) => Status(0),
        true => Status::SEEN_REPLY,
    };
    connection.set_status(Status(record.status.0 & news.0));
    // Of what a user has changed of ours the kernel is asked anew.
    if !(ours && told == Told::Change) {
        connection.set_kernel_deadline(record.deadline);
    }
    // Another one is a user's, or that of a rule for a packet that was punted; unless the kernel does not know ours yet.
    let unknown_there = ours && connection.marks().any(Marks::REMARKED);
    if entry.marked && !unknown_there {
        connection.set_mark(record.mark);
    }
    if ours {
        let touched = if told == Told::Update { Marks::TOUCHED } else { 0 };
        connection.set_marks(Marks::EXPORTED | touched);
        closed_there(connection, entry);
        return;
    }
    connection.refresh(record.deadline);
    if entry.protoinfo.is_some() {
        let (version, proto) = connection.proto();
        if !is_followed(connection, &proto, record) {
            let overtaken = is_overtaken(connection, &proto, record);
            connection.commit(version, &record.proto);
            if overtaken {
                connection.clear_marks(Marks::FOLLOWED);
            } else if connection.marks().any(Marks::FOLLOWED) {
                keep_there(connection);
            }
        }
    }
    let kept = connection.marks().any(Marks::KEPT);
    connection.set_marks(if kept { marks & !Marks::ADOPTABLE } else { marks });
}

/// Closes a connection of ours that a rule in the kernel has closed by a reset: by what else the copy could be closed, a reset,
/// that was not what was punted last.
pub(super) fn closed_there(connection: &Connection<'_>, entry: &Entry) {
    let is_closed = entry.record.original.proto == Protocol::TCP.0
        && entry.protoinfo.is_some()
        && tcp::state(&entry.record.proto) == tcp::number::CLOSE;
    if is_closed && connection.marks().any(Marks::RESETTABLE) && !connection.marks().any(Marks::TURNED) {
        connection.clear_marks(Marks::RESETTABLE);
        if !tcp::is_closing(&connection.proto().1) {
            close(connection, entry.record.deadline);
        }
    }
}

/// Whether a connection is followed here, and `proto` as far as the kernel's `record`. Events come late, never early: if it is
/// not, it is not what the kernel has seen. Of TCP: a rule there may have closed it.
fn is_followed(connection: &Connection<'_>, proto: &ProtoState, record: &Record) -> bool {
    let is_behind = record.original.proto == Protocol::TCP.0 && tcp::state(proto) < tcp::state(&record.proto);
    connection.marks().any(Marks::FOLLOWED) && !is_behind
}

/// Whether a connection is no longer followed for the answer to its SYN alone, which came before the event that tells what tuple
/// it bears. What else there is to know of it the kernel tells, as of one that began before we did.
fn is_overtaken(connection: &Connection<'_>, proto: &ProtoState, record: &Record) -> bool {
    record.original.proto == Protocol::TCP.0
        && connection.marks().any(Marks::FOLLOWED)
        && tcp::state(proto) == tcp::number::SYN_SENT
        && [tcp::number::SYN_RECV, tcp::number::ESTABLISHED].contains(&tcp::state(&record.proto))
        && is_translated(&record.original, &record.reply)
}

fn is_adoptable(entry: &Entry, nat: bool) -> bool {
    let Record { original, reply, .. } = &entry.record;
    let has_states = tracker::has_states(original.proto);
    entry.oddity.is_none()
        && (nat || !is_translated(original, reply))
        && (!has_states || entry.is_established() && entry.protoinfo.is_some())
}
