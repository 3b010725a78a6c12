//! One big zeroed array: memory that the kernel backs page by page, as it is touched first.
//!
//! A table for ten million connections costs nothing before there are connections, and nothing is allocated later. So that
//! random lookups do not miss the TLB each time, the array starts at a boundary of 2 MiB if it is that big, and asks for
//! transparent huge pages (`madvise`: the default setting of most distributions allows that to those who ask). An aligned
//! `alloc_zeroed` would write the zeros itself and touch everything: so the array is allocated unaligned, which the
//! allocator answers with fresh pages, and a little larger, and is aligned here.
//!
//! Under loom atomics are no plain memory, so the array is a vector there.

#[cfg(loom)]
pub use modelled::Memory;
#[cfg(not(loom))]
pub use real::Memory;

/// Types for which all bytes zero is a value, and that need no drop.
///
/// # Safety
/// The implementor vouches for both.
#[allow(dead_code)] // a bound, and nothing else
pub unsafe trait Zeroed {}

// SAFETY: an integer.
unsafe impl Zeroed for std::sync::atomic::AtomicU32 {}

#[cfg(not(loom))]
mod real {
    use super::Zeroed;
    use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
    use std::ops::Deref;
    use std::ptr::NonNull;

    const HUGE_PAGE: usize = 2 << 20;

    /// See the file's head.
    pub struct Memory<T> {
        first: NonNull<T>,
        len: usize,
        allocated: NonNull<u8>,
        layout: Layout,
    }

    impl<T: Zeroed> Memory<T> {
        /// `len` values of zeros. Aborts where there is no such memory, as all allocation does.
        pub fn zeroed(len: usize) -> Memory<T> {
            let bytes = size_of::<T>().saturating_mul(len.max(1));
            let align = if bytes >= HUGE_PAGE { HUGE_PAGE } else { align_of::<T>() };
            let room = bytes.saturating_add(align);
            let layout = Layout::from_size_align(room, 8).unwrap_or_else(|_| handle_alloc_error(Layout::new::<T>()));
            // SAFETY: the layout's size is not zero.
            let allocated = unsafe { alloc_zeroed(layout) };
            let Some(allocated) = NonNull::new(allocated) else {
                handle_alloc_error(layout)
            };
            let skip = allocated.as_ptr().align_offset(align);
            assert!(skip <= align, "aligning bytes always works");
            // SAFETY: `skip` is at most `align`, by which more was allocated than the array takes.
            let first = unsafe { allocated.add(skip) };
            #[cfg(all(target_os = "linux", not(miri)))]
            if align == HUGE_PAGE {
                // SAFETY: the range lies within this allocation, starts at a page and is a hint only; failure is harmless.
                unsafe { libc::madvise(first.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
            }
            Memory {
                first: first.cast(),
                len,
                allocated,
                layout,
            }
        }
    }

    impl<T> Memory<T> {
        /// What it takes at most.
        pub fn bytes(&self) -> usize {
            size_of::<T>() * self.len
        }
    }

    impl<T> Deref for Memory<T> {
        type Target = [T];

        #[inline(always)]
        fn deref(&self) -> &[T] {
            // SAFETY: `first` is aligned for T (its alignment is a power of two of at most 2 MiB) and `len` values of zeros,
            // which `Zeroed` says are values, lie there until the drop.
            unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
        }
    }

    impl<T> Drop for Memory<T> {
        fn drop(&mut self) {
            // SAFETY: allocated in `zeroed` with this layout; `Zeroed` says that the values need no drop.
            unsafe { dealloc(self.allocated.as_ptr(), self.layout) }
        }
    }

    // SAFETY: it owns its values, as a boxed slice does.
    unsafe impl<T: Send> Send for Memory<T> {}
    // SAFETY: it gives out shared references only, as a boxed slice does.
    unsafe impl<T: Sync> Sync for Memory<T> {}
}

#[cfg(loom)]
mod modelled {
    use std::ops::Deref;

    /// See the file's head.
    pub struct Memory<T>(Vec<T>);

    impl<T: Default> Memory<T> {
        /// `len` values of zeros.
        pub fn zeroed(len: usize) -> Memory<T> {
            Memory((0..len).map(|_| T::default()).collect())
        }
    }

    impl<T> Memory<T> {
        /// What it takes at most.
        pub fn bytes(&self) -> usize {
            size_of::<T>() * self.0.len()
        }
    }

    impl<T> Deref for Memory<T> {
        type Target = [T];

        fn deref(&self) -> &[T] {
            &self.0
        }
    }
}
