//! Waiting and time, as workers need them: ppoll(2) over their queues, an eventfd that wakes a sleeping worker, and the
//! monotonic clock that steer's stamps are taken by (bpf_ktime_get_ns is CLOCK_MONOTONIC too). A sleep is told in nanoseconds, for
//! frames that wait for tokens; it may end early, never for good.

use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Nanoseconds of CLOCK_MONOTONIC.
#[inline]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Wakes a thread that sleeps in [`wait`].
#[derive(Debug)]
pub struct Waker {
    fd: OwnedFd,
}

impl Waker {
    /// A waker of its own eventfd.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            fd: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        })
    }

    /// Ends the current or the next sleep. A full counter (2^64 wakes unread) means that it is awake anyway.
    pub fn wake(&self) {
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    /// Forgets the wakes so far.
    pub fn drain(&self) {
        let _ = rustix::io::read(&self.fd, &mut [0u8; 8]);
    }
}

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Sleeps until one of `fds` is readable or `timeout_ms` have passed. A signal ends it early, which costs nothing but a turn.
pub fn wait(fds: impl IntoIterator<Item = RawFd>, timeout_ms: u32) {
    wait_ns(fds, u64::from(timeout_ms) * 1_000_000);
}

/// The same, in nanoseconds. How late it ends is a matter of the thread's timer slack, see [`wake_on_time`].
pub fn wait_ns(fds: impl IntoIterator<Item = RawFd>, timeout_ns: u64) {
    let mut polled: Vec<libc::pollfd> = fds
        .into_iter()
        .map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let timeout = libc::timespec {
        tv_sec: (timeout_ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (timeout_ns % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: `polled` is a live array of that many pollfd; ppoll writes nothing but their revents, and only reads the timeout,
    // which outlives the call. No mask of signals is given. A closed fd is reported in revents, not an error of memory.
    unsafe {
        libc::ppoll(
            polled.as_mut_ptr(),
            polled.len() as libc::nfds_t,
            &raw const timeout,
            std::ptr::null(),
        )
    };
}

/// Has the calling thread's sleeps end when their time is up, not up to 50 us later (PR_SET_TIMERSLACK): for who waits for tokens.
pub fn wake_on_time() {
    // A kernel that refuses wakes it late, and it catches up.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_before_the_sleep_is_not_lost() {
        let waker = Waker::new().expect("eventfd");
        waker.wake();
        let before = monotonic_ns();
        wait([waker.as_raw_fd()], 5_000);
        assert!(
            monotonic_ns() - before < 4_000_000_000,
            "the wake did not end the sleep"
        );
        waker.drain();
        wait([waker.as_raw_fd()], 1);
    }

    #[test]
    fn a_sleep_takes_as_long_as_it_is_told() {
        let waker = Waker::new().expect("eventfd");
        wake_on_time();
        let before = monotonic_ns();
        wait_ns([waker.as_raw_fd()], 300_000);
        assert!(monotonic_ns() - before >= 300_000, "it ended early");
    }
}
