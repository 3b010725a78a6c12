//! From our table into the kernel's: behind the traffic, before a punt, and at the end.
//!
//! A copy in the kernel is liberal about windows, and as old as its last refresh. It is refreshed before it expires there,
//! and when ours is to end much sooner than it: so that after `kill -9` the kernel keeps what is alive, and only that.

use super::{Counts, Exchange, Inner, ROUNDS_PER_WALK, now};
use crate::mirror::ctnetlink::{BATCH, Ctnetlink, Entry};
use crate::table::conntrack::table::Connection;
use crate::table::conntrack::{Direction, Marks, Record, Status, TICKS_PER_SECOND, Ticks, Tuple, is_past, tracker};
use crate::wire::Protocol;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// A copy is refreshed when it has less than this left, and ours more.
const REFRESH_TICKS: Ticks = 30 * TICKS_PER_SECOND;

/// ... or when ours ends so much sooner.
const SOONER_TICKS: i32 = 60 * TICKS_PER_SECOND as i32;

/// How long datagrams come one way until the kernel is told.
const LONG_TICKS: i32 = 5 * TICKS_PER_SECOND as i32;

/// Connections that one round walks past at least, and that one guard covers at most.
const PIECE_MIN: u32 = 4096;

/// The pause when the kernel's table is full.
const FULL_PAUSE: Duration = Duration::from_secs(1);

impl Exchange {
    /// A round's part of the walk over our table.
    pub(super) fn write_behind(&self, inner: &mut Inner) {
        let piece = (self.table.capacity() / ROUNDS_PER_WALK).max(PIECE_MIN);
        let mut walked = 0;
        while walked < piece {
            let mut soon = Vec::new();
            let next = self.export_piece(inner, false, |connection, now| {
                self.note_soon(&mut soon, connection, now);
                wants(connection, now, self.udp_ticks.load(Relaxed))
            });
            if !soon.is_empty() {
                self.ask_again(inner, &soon);
            }
            walked += PIECE_MIN;
            inner.cursor = next.unwrap_or(0);
            if next.is_none() || Instant::now() < inner.not_before {
                return;
            }
        }
    }

    /// All that is ours, in their last state: first those that the kernel does not have, or has only as they began, of these
    /// the assured ones; then those whose copies are a little older. Time may be short.
    pub(super) fn export_everything(&self, inner: &mut Inner, within: Duration) {
        let end = Instant::now() + within;
        for (is_old, assured) in [(false, true), (false, false), (true, true), (true, false)] {
            inner.cursor = 0;
            loop {
                let next = self.export_piece(inner, true, |connection, now| {
                    let is_due = match is_old {
                        false => !is_settled(connection) || is_behind(connection, now),
                        true => connection.deadline() != connection.kernel_deadline(),
                    };
                    is_due && connection.status().any(Status::ASSURED) == assured
                });
                let full = Instant::now() < inner.not_before;
                match next {
                    Some(next) if !full && Instant::now() < end => inner.cursor = next,
                    _ => break,
                }
            }
        }
    }

    /// Exports those of a piece of our table that `wanted` names, in their `last` state or not; where to go on. It is shown
    /// the kernel's, too.
    fn export_piece(
        &self,
        inner: &mut Inner,
        last: bool,
        mut wanted: impl FnMut(&Connection<'_>, Ticks) -> bool,
    ) -> Option<u32> {
        let now = now();
        let Inner { link, handle, .. } = inner;
        let guard = handle.pin();
        let mut batch = Vec::with_capacity(BATCH);
        let mut full = false;
        let next = self.table.walk(inner.cursor, PIECE_MIN, &guard, |connection| {
            let marks = connection.marks();
            let ours = (!marks.any(Marks::KERNEL) || marks.is_uncopied()) && !is_past(connection.deadline(), now);
            if wanted(&connection, now) && ours && !full {
                batch.push(connection);
                if batch.len() == BATCH {
                    full = !self.copy(link, &mut batch, last, now);
                }
            }
        });
        full |= !self.copy(link, &mut batch, last, now);
        if full {
            inner.not_before = Instant::now() + FULL_PAUSE;
        }
        next
    }
}

impl Exchange {
    /// Exports them; those whose entry is turned only for good. False if the kernel's table is full.
    fn copy(&self, link: &mut Ctnetlink, batch: &mut Vec<Connection<'_>>, last: bool, now: Ticks) -> bool {
        let _alone = self.copying();
        let is_turned = |connection: &Connection<'_>| connection.marks().any(Marks::TURNED);
        if last {
            let mut tuples = Vec::new();
            for connection in batch.iter().filter(|connection| is_turned(connection)) {
                connection.clear_marks(Marks::EXPORTED | Marks::SETTLED | Marks::TURNED);
                tuples.push(connection.tuple(Direction::Original));
            }
            let _ = link.delete(&tuples, |_, _| {});
        } else {
            batch.retain(|connection| !is_turned(connection));
        }
        let room = export(link, batch, &self.counts, now);
        batch.clear();
        room
    }
}

/// Whether a connection that the kernel should have is not there, or its copy is old. `udp_ticks` is the timeout of a
/// datagram's one way.
fn wants(connection: &Connection<'_>, now: Ticks, udp_ticks: Ticks) -> bool {
    if connection.status().any(Status::ASSURED) {
        return !is_settled(connection) || is_behind(connection, now);
    }
    let marks = connection.marks();
    let has_copy = marks.any(Marks::EXPORTED) && !marks.any(Marks::REMARKED);
    is_long(connection, udp_ticks) && (!has_copy || is_behind(connection, now))
}

/// Whether the kernel has it, as one that is assured.
fn is_settled(connection: &Connection<'_>) -> bool {
    let marks = connection.marks();
    marks.any(Marks::EXPORTED) && marks.any(Marks::SETTLED) && !marks.any(Marks::REMARKED | Marks::TURNED)
}

/// Whether its copy is to be refreshed.
fn is_behind(connection: &Connection<'_>, now: Ticks) -> bool {
    let refresh = match connection.status().any(Status::ASSURED) {
        true => REFRESH_TICKS,
        false => REFRESH_TICKS / 3,
    };
    let (ours, copys) = (connection.deadline(), connection.kernel_deadline());
    let ahead = ours.wrapping_sub(copys) as i32;
    ahead < -SOONER_TICKS || ahead > TICKS_PER_SECOND as i32 && left(copys, now) < refresh
}

/// Whether datagrams, translated and never answered, have come for long: the kernel has it so that a user can end it there, as
/// kube-proxy does with those to an endpoint that is gone. What sends on is never looked up anew otherwise.
fn is_long(connection: &Connection<'_>, udp_ticks: Ticks) -> bool {
    if !connection.status().any(Status::SRC_NAT | Status::DST_NAT)
        || Protocol(connection.tuple(Direction::Original).proto) != Protocol::UDP
    {
        return false;
    }
    let began = tracker::began(&connection.proto().1);
    let last = connection.deadline().wrapping_sub(udp_ticks);
    began.is_some_and(|began| last.wrapping_sub(began) as i32 >= LONG_TICKS)
}

pub(super) fn left(deadline: Ticks, now: Ticks) -> Ticks {
    if is_past(deadline, now) {
        0
    } else {
        deadline.wrapping_sub(now)
    }
}

/// Enters what the kernel does not have, changes what it has; false if its table is full.
pub(super) fn export(link: &mut Ctnetlink, connections: &[Connection<'_>], counts: &Counts, now: Ticks) -> bool {
    let (known, mut unknown): (Vec<_>, Vec<_>) = connections
        .iter()
        .map(|connection| {
            // Before the mark is read: what is set from now on is for the next time.
            connection.clear_marks(Marks::REMARKED);
            (connection, connection.record())
        })
        .partition(|(_, record)| record.marks.any(Marks::EXPORTED));
    let (mut taken, mut gone, mut full) = (Vec::new(), Vec::new(), false);
    // Marked first: when it ends meanwhile, its end is logged, and the copy deleted. One that ended before gets no copy.
    unknown.retain(|(connection, _)| connection.mark_alive(Marks::EXPORTED));
    let records: Vec<Record> = unknown.iter().map(|(_, record)| record.clone()).collect();
    let created = link.create(&records, now, |place, errno| match errno {
        libc::EEXIST => taken.push(place),
        _ => {
            full |= matches!(errno, libc::ENOMEM | libc::ENOSPC | libc::ENFILE);
            gone.push(place);
        }
    });
    full |= created.is_err();
    for &place in &gone {
        unknown[place].0.clear_marks(Marks::EXPORTED);
    }
    replace_others(link, &unknown, &taken, now);
    counts.refused.fetch_add(gone.len() as u64, Relaxed);
    counts
        .exported
        .fetch_add((records.len() - gone.len() - taken.len()) as u64, Relaxed);

    let mut updated: Vec<(&Connection<'_>, Record)> = known;
    updated.extend(taken.iter().map(|&place| unknown[place].clone()));
    let records: Vec<Record> = updated.iter().map(|(_, record)| record.clone()).collect();
    let mut lost = Vec::new();
    let done = link.update(&records, now, |place, _| lost.push(place));
    full |= done.is_err();
    for &place in &lost {
        // It expired there meanwhile: the next round enters it anew.
        updated[place].0.clear_marks(Marks::EXPORTED);
    }
    counts.refreshed.fetch_add((records.len() - lost.len()) as u64, Relaxed);
    for (connection, record) in unknown.iter().chain(&updated) {
        connection.set_kernel_deadline(record.deadline);
        connection.clear_marks(Marks::TOUCHED);
        if record.status.any(Status::ASSURED) {
            connection.set_marks(Marks::SETTLED);
        } else {
            connection.clear_marks(Marks::SETTLED);
        }
    }
    !full
}

/// Of those whose tuples were `taken`: where the kernel's entry has other answers it is of a connection before, and a change would
/// leave it so. It goes, for the one that is.
fn replace_others(link: &mut Ctnetlink, unknown: &[(&Connection<'_>, Record)], taken: &[usize], now: Ticks) {
    let record = |place: usize| &unknown[taken[place]].1;
    let tuples: Vec<Tuple> = (0..taken.len()).map(|place| record(place).original).collect();
    let mut others: Vec<Record> = Vec::new();
    let _ = link.get(&tuples, now, |place, entry| {
        let ours = record(place);
        let is_other = |entry: Entry| entry.record.original == ours.original && entry.record.reply != ours.reply;
        if entry.is_some_and(is_other) {
            others.push(ours.clone());
        }
    });
    let tuples: Vec<Tuple> = others.iter().map(|other| other.original).collect();
    let _ = link.delete(&tuples, |_, _| {});
    let _ = link.create(&others, now, |_, _| {});
}
