//! What happened to connections, for who keeps the kernel in step and for who watches: a bounded queue that forgets, and
//! counts what it forgot, when nobody takes from it.

use crate::table::conntrack::Record;
use crossbeam::queue::ArrayQueue;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Events that wait: one for so many connections of the table, within bounds.
const CONNECTIONS_PER_EVENT: u32 = 128;
const EVENTS_MIN: u32 = if cfg!(any(loom, miri)) { 4 } else { 256 };
const EVENTS_MAX: u32 = 8192;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was confirmed.
    New,
    /// Its status, or its protocol's state, changed.
    Update,
    /// It ended.
    Destroy,
}

/// See the file's head.
pub struct Log {
    watched: AtomicBool,
    queue: ArrayQueue<(Event, Record)>,
    lost: AtomicU64,
}

impl Log {
    pub(super) fn new(connections_max: u32) -> Self {
        let events = (connections_max / CONNECTIONS_PER_EVENT).clamp(EVENTS_MIN, EVENTS_MAX);
        Self {
            watched: AtomicBool::new(false),
            queue: ArrayQueue::new(events as usize),
            lost: AtomicU64::new(0),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        // Each place has a stamp beside it, aligned as the record is.
        self.queue.capacity() * (size_of::<(Event, Record)>() + align_of::<Record>())
    }

    /// Whether somebody wants every event, and not only the ends of what was exported.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// Says so.
    pub fn watch(&self, watched: bool) {
        self.watched.store(watched, Ordering::Relaxed);
    }

    /// Adds an event.
    #[cold]
    pub fn push(&self, event: Event, record: Record) {
        if self.queue.push((event, record)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The oldest event.
    pub fn pop(&self) -> Option<(Event, Record)> {
        self.queue.pop()
    }

    /// Whether there is no event, and none was lost since the last call of [`take_lost`](Self::take_lost).
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.lost.load(Ordering::Relaxed) == 0
    }

    /// Events that found no room, since the last call.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}
