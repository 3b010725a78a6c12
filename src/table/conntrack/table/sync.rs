//! The atomics below the table, and the memory they lie in: the standard library's, or loom's under `--cfg loom`.
//!
//! Everything whose order between threads matters (entries, slots, free lists) is made of what this file names, and so is
//! explored by loom. Mere counts (how many connections there are, statistics, the sweep's cursor) use the standard atomics
//! in both builds: they order nothing, and would only blow up the search.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Asks for the cache line at `place`, to be read soon.
#[inline(always)]
pub fn prefetch<T>(place: &T) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    // SAFETY: a prefetch reads nothing that the program could see, and cannot fault; the address is that of a reference.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    let _ = place;
}

/// Between two looks at something that another thread is about to finish.
#[inline(always)]
pub fn spin() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    std::hint::spin_loop();
}
