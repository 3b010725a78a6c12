//! What a table has seen, counted in stripes, so that workers do not share lines.
//!
//! At rest `inserted = len + ended`.

use crossbeam::utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Handles beyond so many share stripes, which costs time only.
const STRIPES: usize = 16;

/// What was counted since the table was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were inserted.
    pub inserted: u64,
    /// ... and ended, for whatever reason.
    pub ended: u64,
    /// ... because their time was over.
    pub expired: u64,
    /// ... to make room.
    pub early_dropped: u64,
    /// Insertions that were refused because all others were worth more.
    pub full: u64,
    /// ... or because another connection has the tuple.
    pub clashes: u64,
}

/// One of them.
#[derive(Clone, Copy)]
pub enum Count {
    Inserted,
    Ended,
    Expired,
    EarlyDropped,
    Full,
    Clash,
}

/// See the file's head.
#[derive(Default)]
pub struct Striped([CachePadded<[AtomicU64; 6]>; STRIPES]);

impl Striped {
    #[inline]
    pub fn add(&self, stripe: usize, count: Count) {
        self.0[stripe % STRIPES][count as usize].fetch_add(1, Relaxed);
    }

    pub fn sum(&self) -> Counts {
        let of = |count: Count| self.0.iter().map(|stripe| stripe[count as usize].load(Relaxed)).sum();
        Counts {
            inserted: of(Count::Inserted),
            ended: of(Count::Ended),
            expired: of(Count::Expired),
            early_dropped: of(Count::EarlyDropped),
            full: of(Count::Full),
            clashes: of(Count::Clash),
        }
    }
}
