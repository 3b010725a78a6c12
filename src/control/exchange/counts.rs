//! What became of connections, counted: the table's own counts and those of the exchange, in one answer for metrics.

use crate::control::report::{ByReason, Conntrack};
use crate::table::conntrack::table::Table;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the exchange did so far.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections of the kernel that came into our table.
    pub imported: AtomicU64,
    /// ... that found no room in it.
    pub left_out: AtomicU64,
    /// Connections of ours that gave way to one of the kernel's with a tuple of theirs.
    pub displaced: AtomicU64,
    /// Connections of ours that were entered in the kernel's table.
    pub exported: AtomicU64,
    /// ... whose copy there was brought up to date.
    pub refreshed: AtomicU64,
    /// ... that the kernel refused: its table is full.
    pub refused: AtomicU64,
    /// Copies that were deleted, because ours ended.
    pub deleted: AtomicU64,
    /// Connections of ours that a user deleted in the kernel.
    pub deleted_by_user: AtomicU64,
    /// Events of the kernel were lost, and everything was read again.
    pub overruns: AtomicU64,
    /// What happened to connections of ours and found no room in the log: their copies go when they expire.
    pub log_full: AtomicU64,
}

impl Counts {
    /// These, and what `table` counted.
    pub fn report(&self, table: &Table) -> Conntrack {
        let of_table = table.counts();
        let events = [
            ("inserted", of_table.inserted),
            ("ended", of_table.ended),
            ("expired", of_table.expired),
            ("early_dropped", of_table.early_dropped),
            ("full", of_table.full),
            ("clash", of_table.clashes),
            ("imported", self.imported.load(Relaxed)),
            ("left_out", self.left_out.load(Relaxed)),
            ("displaced", self.displaced.load(Relaxed)),
            ("exported", self.exported.load(Relaxed)),
            ("refreshed", self.refreshed.load(Relaxed)),
            ("refused", self.refused.load(Relaxed)),
            ("deleted", self.deleted.load(Relaxed)),
            ("deleted_by_user", self.deleted_by_user.load(Relaxed)),
            ("overrun", self.overruns.load(Relaxed)),
            ("log_full", self.log_full.load(Relaxed)),
        ];
        Conntrack {
            connections: table.len().into(),
            connections_max: table.capacity().into(),
            events: ByReason::from(events.map(|(word, count)| (word.to_owned(), count))),
        }
    }
}
