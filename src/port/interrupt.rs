//! Ends a system call of another thread: by SIGURG, which does nothing by itself, and without SA_RESTART, so the call returns
//! EINTR. A signal that comes before the call is lost: send it again until the thread has noticed.

use std::sync::Once;

extern "C" fn wake(_: libc::c_int) {}

/// From now on [`interrupt`] ends system calls of this process.
pub fn allow_interrupts() {
    static ONCE: Once = Once::new();
    // SAFETY: plain data; the handler does nothing.
    ONCE.call_once(|| unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = wake as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigaction(libc::SIGURG, &action, std::ptr::null_mut());
    });
}

/// Interrupts a thread of this process, named by its number (gettid(2)); one that is gone is left alone.
pub fn interrupt(thread: i32) {
    // SAFETY: numbers alone; a thread that is gone is ESRCH.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGURG) };
}
