//! Waiting and time, as workers need them: poll(2) over their queues, an eventfd that wakes a sleeping worker, and the
//! monotonic clock that steer's stamps are taken by (bpf_ktime_get_ns is CLOCK_MONOTONIC too).

use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{ClockId, clock_gettime};
use std::io;
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
    let mut polled: Vec<libc::pollfd> = fds
        .into_iter()
        .map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let timeout = timeout_ms.min(i32::MAX as u32) as i32;
    // SAFETY: `polled` is a live array of that many pollfd; poll writes nothing but their revents. A closed fd is reported
    // in revents, not an error of memory.
    unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) };
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
}
