//! When an ended connection's entry may be used again: when no guard is left that was there before its end.
//!
//! A thread has a [`Handle`] and pins it once per burst; what it finds in the table stays what it is until the [`Guard`] is
//! dropped. crossbeam's epochs do the work. Left alone they collect too seldom for us (every 128 pins, eight bags at most,
//! and never a bag that is not full): so a handle counts what it retires and collects at some of its next pins. A guard that
//! is held for long, or whose thread is preempted, keeps every ended entry of that time from being used again (the spare
//! ones of slab.rs bound that): walks over the table pin once per piece.
//!
//! Each table has its own collector. What is deferred refers to the slab, and is run at the latest when the collector is
//! dropped, that is with the table or its last handle: both hold the slab, and let go of it after the collector.

use super::slab::Slab;
use std::cell::Cell;
use std::sync::Arc;

/// A thread's share in the table. It may move to another thread between guards.
pub struct Handle {
    // Before the slab: see the file's head.
    local: imp::Local,
    pub(super) slab: Arc<Slab>,
    /// Where it counts.
    pub(super) stripe: usize,
}

/// While it is there, connections that were found stay what they are.
pub struct Guard<'h> {
    pin: imp::Pin<'h>,
    pub(super) handle: &'h Handle,
    /// See moves.rs.
    pub(super) moved: Cell<u32>,
}

/// A table's epochs.
pub struct Collector(imp::Collector);

impl Collector {
    /// New ones.
    pub fn new() -> Collector {
        Collector(imp::Collector::new())
    }

    /// One more thread.
    pub fn register(&self, slab: &Arc<Slab>, stripe: usize) -> Handle {
        Handle {
            local: self.0.register(),
            slab: Arc::clone(slab),
            stripe,
        }
    }
}

impl Handle {
    /// Once per burst; see the file's head.
    #[inline]
    pub fn pin(&self) -> Guard<'_> {
        Guard {
            pin: self.local.pin(&self.slab),
            handle: self,
            moved: Cell::new(self.slab.moved()),
        }
    }
}

impl Guard<'_> {
    /// Frees an entry of this handle's slab as soon as no guard is left that could have seen it.
    pub(super) fn retire(&self, index: u32) {
        self.pin.retire(&self.handle.slab, index);
    }

    /// There is no entry left: the next pin collects, whatever this handle itself has retired.
    pub(super) fn starved(&self) {
        self.pin.starved();
    }
}

// SAFETY: a handle has no tie to its thread (crossbeam's local record is reached by this handle and its guards only, and
// other threads read nothing of it but atomics); guards borrow it, so there is none while it moves; it is neither Sync nor
// Clone, so two threads never use it at once.
#[cfg(not(loom))]
unsafe impl Send for Handle {}

#[cfg(not(loom))]
mod imp {
    use super::{Arc, Slab};
    use crossbeam::epoch;
    use std::cell::Cell;

    /// From so many retired entries on, a pin collects ...
    const RETIRED_MAX: u32 = 32;
    /// ... and after so many pins where there are fewer.
    const PINS_MAX: u32 = 32;
    /// What one collection frees at least, if it can: eight bags of 64, but not all are full.
    const COLLECTED: u32 = 256;
    /// What is retired in one epoch is free two later: so many collections, the first of which hands it over.
    const COLLECTIONS: u32 = 4;

    pub struct Collector(epoch::Collector);

    pub struct Local {
        handle: epoch::LocalHandle,
        /// Since the last collection.
        retired: Cell<u32>,
        pins: Cell<u32>,
        /// Collections that are to come, even if nothing more is retired.
        due: Cell<u32>,
    }

    pub struct Pin<'h> {
        guard: epoch::Guard,
        local: &'h Local,
    }

    impl Collector {
        pub fn new() -> Collector {
            Collector(epoch::Collector::new())
        }

        pub fn register(&self) -> Local {
            Local {
                handle: self.0.register(),
                retired: Cell::new(0),
                pins: Cell::new(0),
                due: Cell::new(0),
            }
        }
    }

    impl Local {
        #[inline]
        pub fn pin(&self, _slab: &Slab) -> Pin<'_> {
            let guard = self.handle.pin();
            if self.due.get() > 0 {
                self.collect_at_times(&guard);
            }
            Pin { guard, local: self }
        }

        fn collect_at_times(&self, guard: &epoch::Guard) {
            self.pins.set(self.pins.get() + 1);
            if self.retired.get() >= RETIRED_MAX || self.pins.get() >= PINS_MAX {
                self.collect(guard);
            }
        }

        #[cold]
        fn collect(&self, guard: &epoch::Guard) {
            self.pins.set(0);
            self.due.set(self.due.get() - 1);
            for _ in 0..self.retired.take().div_ceil(COLLECTED).max(1) {
                guard.flush();
            }
        }
    }

    impl Pin<'_> {
        pub fn retire(&self, slab: &Arc<Slab>, index: u32) {
            let slab = Arc::as_ptr(slab);
            self.local.retired.set(self.local.retired.get().saturating_add(1));
            self.local.due.set(COLLECTIONS);
            // SAFETY: the slab outlives the collector, see the head of the file; `give` is called once, by who has ended
            // the entry, and after all guards that could have seen it.
            unsafe { self.guard.defer_unchecked(move || (*slab).give(index)) }
        }

        pub fn starved(&self) {
            self.local.due.set(COLLECTIONS);
            self.local.pins.set(PINS_MAX);
        }
    }
}

/// Epochs for loom: what is retired is freed when nobody is pinned.
#[cfg(loom)]
mod imp {
    use super::{Arc, Slab};
    use loom::sync::Mutex;

    #[derive(Default)]
    struct State {
        pinned: usize,
        retired: Vec<u32>,
    }

    pub struct Collector(Arc<Mutex<State>>);

    pub struct Local(Arc<Mutex<State>>);

    pub struct Pin<'h> {
        local: &'h Local,
        slab: Arc<Slab>,
    }

    impl Collector {
        pub fn new() -> Collector {
            Collector(Arc::new(Mutex::new(State::default())))
        }

        pub fn register(&self) -> Local {
            Local(Arc::clone(&self.0))
        }
    }

    impl Local {
        pub fn pin(&self, slab: &Arc<Slab>) -> Pin<'_> {
            self.0.lock().unwrap().pinned += 1;
            Pin {
                local: self,
                slab: Arc::clone(slab),
            }
        }
    }

    impl Pin<'_> {
        pub fn retire(&self, _slab: &Arc<Slab>, index: u32) {
            self.local.0.lock().unwrap().retired.push(index);
        }

        pub fn starved(&self) {}
    }

    impl Drop for Pin<'_> {
        fn drop(&mut self) {
            let mut state = self.local.0.lock().unwrap();
            state.pinned -= 1;
            if state.pinned == 0 {
                for index in state.retired.drain(..) {
                    self.slab.give(index);
                }
            }
        }
    }
}
