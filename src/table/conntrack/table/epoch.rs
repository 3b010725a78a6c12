//! When an ended connection's entry may be used again: when no guard is left that was there before its end.
//!
//! A thread has a [`Handle`] and pins it once per burst; what it finds in the table stays what it is until the [`Guard`] is
//! dropped. crossbeam's epochs do the work. Left alone they collect too seldom for us (every 128 pins, eight bags at most): so
//! a handle counts what it retires and collects at its next pins. A guard that is held for long keeps every ended entry of that
//! time from being used again (the spare ones of slab.rs bound that): walks over the table pin once per piece.
//!
//! Each table has its own collector. What is deferred refers to the slab, and is run at the latest when the collector is
//! dropped, that is with the table or its last handle: both hold the slab, and let go of it after the collector.

use super::slab::Slab;
use std::sync::Arc;

/// A thread's share in the table. It may move to another thread between guards.
pub struct Handle {
    // Before the slab: see the file's head.
    local: imp::Local,
    pub(super) slab: Arc<Slab>,
}

/// While it is there, connections that were found stay what they are.
pub struct Guard<'h> {
    pin: imp::Pin<'h>,
    pub(super) handle: &'h Handle,
}

/// A table's epochs.
pub struct Collector(imp::Collector);

impl Collector {
    /// New ones.
    pub fn new() -> Collector {
        Collector(imp::Collector::new())
    }

    /// One more thread.
    pub fn register(&self, slab: &Arc<Slab>) -> Handle {
        Handle {
            local: self.0.register(),
            slab: Arc::clone(slab),
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
        }
    }
}

impl Guard<'_> {
    /// Frees an entry of this handle's slab as soon as no guard is left that could have seen it.
    pub(super) fn retire(&self, index: u32) {
        self.pin.retire(&self.handle.slab, index);
    }
}

// SAFETY: a handle has no tie to its thread (crossbeam's local record is reached by this handle and its guards only, and
// other threads read nothing of it but atomics); guards borrow it, so there is none while it moves; it is neither Sync nor Clone, so two threads never
// use it at once.
#[cfg(not(loom))]
unsafe impl Send for Handle {}

#[cfg(not(loom))]
mod imp {
    use super::{Arc, Slab};
    use crossbeam::epoch;
    use std::cell::Cell;

    /// From so many retired entries on, a pin collects.
    const RETIRED_MAX: u32 = 32;
    /// What one collection frees at least, if it can: eight bags of 64, but not all are full.
    const COLLECTED: u32 = 256;

    pub struct Collector(epoch::Collector);

    pub struct Local {
        handle: epoch::LocalHandle,
        retired: Cell<u32>,
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
            }
        }
    }

    impl Local {
        #[inline]
        pub fn pin(&self, _slab: &Slab) -> Pin<'_> {
            let guard = self.handle.pin();
            if self.retired.get() >= RETIRED_MAX {
                self.collect(&guard);
            }
            Pin { guard, local: self }
        }

        #[cold]
        fn collect(&self, guard: &epoch::Guard) {
            for _ in 0..self.retired.take().div_ceil(COLLECTED) {
                guard.flush();
            }
        }
    }

    impl Pin<'_> {
        pub fn retire(&self, slab: &Arc<Slab>, index: u32) {
            let slab = Arc::as_ptr(slab);
            self.local.retired.set(self.local.retired.get().saturating_add(1));
            // SAFETY: the slab outlives the collector, see the head of the file; `give` is called once, by who has ended
            // the entry, and after all guards that could have seen it.
            unsafe { self.guard.defer_unchecked(move || (*slab).give(index)) }
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
