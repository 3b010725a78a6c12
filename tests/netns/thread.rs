//! A test in a network namespace of its own: a thread that has left the others' namespace. Nothing of it outlives the
//! thread, whatever happens. Needs root; without it a test says SKIPPED, and fails where CI is set.

/// Runs `test` in a new network namespace, of which nothing is configured.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    // libtest names the thread of a test after it.
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let inside = std::thread::spawn(move || {
        // SAFETY: only the network namespace of this thread is left, which has nothing to do with memory or descriptors.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            let error = std::io::Error::last_os_error();
            assert!(
                std::env::var_os("CI").is_none(),
                "no network namespace ({error}), and CI is set"
            );
            println!("SKIPPED {name}: no network namespace, which needs root: {error}");
            return;
        }
        test();
    });
    if let Err(panic) = inside.join() {
        std::panic::resume_unwind(panic);
    }
}
