//! The kernel's jiffies64, computed from CLOCK_MONOTONIC.
//!
//! steer judges a worker's heartbeat in jiffies, which cost it one load; a worker knows only the clock that it reads once
//! per burst. The kernel advances jiffies64 by one every TICK_NSEC of CLOCK_MONOTONIC (`tick_do_update_jiffies64`, also
//! after an idle CPU slept through ticks), so two numbers tell it all: the tick's length, which is the resolution of
//! CLOCK_MONOTONIC_COARSE, and one pair of both clocks, from a test run of `bpf/jiffies.bpf.c`:
//!
//! ```text
//!  clock  --t0----------t1------------------------->
//!  jiffies    ^ j, read by the program in between     now = j + (t - t0) / tick, off by one at most
//! ```

use super::bpf::{BpfError, Mapped, capture_log, jiffies as program, test_run_xdp};
use libbpf_rs::MapHandle;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A virtual machine whose host is busy may lose the CPU that keeps the time, and jiffies lag for some ticks: try again.
const ATTEMPTS: u32 = 20;

/// How CLOCK_MONOTONIC and jiffies64 hang together on this machine, since boot. Plain data: copy it into each worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jiffies {
    /// Nanoseconds per jiffy.
    pub tick_ns: u64,
    /// jiffies64 at `base_ns`.
    pub base_jiffies: u64,
    /// CLOCK_MONOTONIC at `base_jiffies`, in nanoseconds.
    pub base_ns: u64,
}

impl Jiffies {
    /// jiffies64 at a CLOCK_MONOTONIC time in nanoseconds; exact to one jiffy. Times before the calibration count as its.
    #[inline]
    pub fn now_from_ns(&self, monotonic_ns: u64) -> u64 {
        let passed = monotonic_ns.saturating_sub(self.base_ns) / self.tick_ns;
        self.base_jiffies.wrapping_add(passed)
    }

    /// How many jiffies `duration` takes, rounded up.
    pub fn count(&self, duration: Duration) -> u64 {
        (duration.as_nanos() as u64).div_ceil(self.tick_ns)
    }

    /// Ticks per second, CONFIG_HZ.
    pub fn hz(&self) -> u64 {
        (1_000_000_000 + self.tick_ns / 2) / self.tick_ns
    }

    /// Measures it, in a few ticks of sleep (20 ms at 250 Hz).
    ///
    /// # Errors
    /// Missing capabilities, and [`BpfError::Calibration`] where the second reading contradicts the first.
    pub fn calibrate() -> Result<Self, BpfError> {
        capture_log();
        let mut storage = MaybeUninit::uninit();
        let load = |e| BpfError::load("jiffies", e);
        let skel = program::JiffiesSkelBuilder::default()
            .open(&mut storage)
            .map_err(load)?
            .load()
            .map_err(load)?;
        let bss = MapHandle::try_from(&skel.maps.bss).map_err(load)?;
        let now = Mapped::new(&bss, 1)?;
        let read = || -> Result<Reading, BpfError> {
            let before_ns = clock_ns(libc::CLOCK_MONOTONIC)?;
            test_run_xdp(skel.progs.jiffies.as_fd(), &[0; 64], 1, 0).map_err(|source| BpfError::System {
                what: "running the BPF program jiffies",
                source,
            })?;
            let after_ns = clock_ns(libc::CLOCK_MONOTONIC)?;
            Ok(Reading {
                before_ns,
                jiffies: now[0].load(Ordering::Relaxed),
                after_ns,
            })
        };

        let tick_ns = tick_ns()?;
        let mut attempt = 0;
        loop {
            let mut best = read()?;
            for _ in 0..7 {
                let next = read()?;
                if next.after_ns - next.before_ns < best.after_ns - best.before_ns {
                    best = next;
                }
            }
            let jiffies = Self {
                tick_ns,
                base_jiffies: best.jiffies,
                base_ns: best.before_ns,
            };
            std::thread::sleep(Duration::from_nanos(5 * tick_ns));
            attempt += 1;
            match jiffies.confirm(&read()?) {
                Err(_) if attempt < ATTEMPTS => {}
                result => return result.map(|()| jiffies),
            }
        }
    }

    /// Whether a later reading lies where it should.
    fn confirm(&self, later: &Reading) -> Result<(), BpfError> {
        let expected = self.now_from_ns(later.before_ns) - 1..=self.now_from_ns(later.after_ns) + 1;
        if expected.contains(&later.jiffies) {
            return Ok(());
        }
        Err(BpfError::Calibration {
            detail: format!("expected {expected:?}, got {}", later.jiffies),
        })
    }
}

/// jiffies64, read at some time between two readings of CLOCK_MONOTONIC.
struct Reading {
    before_ns: u64,
    jiffies: u64,
    after_ns: u64,
}

/// A clock's time in nanoseconds.
fn clock_ns(clock: libc::clockid_t) -> Result<u64, BpfError> {
    // SAFETY: all zeros is a valid timespec.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one timespec.
    match unsafe { libc::clock_gettime(clock, &mut time) } {
        0 => Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64),
        _ => Err(BpfError::system("reading the clock")),
    }
}

/// TICK_NSEC: `posix_get_coarse_res` answers KTIME_LOW_RES, which is just that.
fn tick_ns() -> Result<u64, BpfError> {
    // SAFETY: all zeros is a valid timespec.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one timespec.
    match unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut time) } {
        0 if time.tv_sec == 0 && time.tv_nsec > 0 => Ok(time.tv_nsec as u64),
        0 => Err(BpfError::Calibration {
            detail: format!("a tick of {} s", time.tv_sec),
        }),
        _ => Err(BpfError::system("reading the clock's resolution")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_250_HZ: Jiffies = Jiffies {
        tick_ns: 4_000_000,
        base_jiffies: 1000,
        base_ns: 50_000_000,
    };

    #[test]
    fn counts_whole_ticks_from_the_base() {
        assert_eq!(AT_250_HZ.now_from_ns(50_000_000), 1000);
        assert_eq!(AT_250_HZ.now_from_ns(53_999_999), 1000);
        assert_eq!(AT_250_HZ.now_from_ns(54_000_000), 1001);
        assert_eq!(AT_250_HZ.now_from_ns(0), 1000);
        assert_eq!(AT_250_HZ.count(Duration::from_millis(750)), 188);
        assert_eq!(AT_250_HZ.hz(), 250);
        assert_eq!(
            Jiffies {
                tick_ns: 3_333_333,
                ..AT_250_HZ
            }
            .hz(),
            300
        );
    }

    #[test]
    fn a_clock_that_runs_otherwise_is_refused() {
        let reading = |jiffies| Reading {
            before_ns: 90_000_000,
            jiffies,
            after_ns: 90_100_000,
        };
        for fitting in [1009, 1010, 1011] {
            AT_250_HZ.confirm(&reading(fitting)).unwrap();
        }
        for off in [1000, 1008, 1012, 1040] {
            AT_250_HZ.confirm(&reading(off)).unwrap_err();
        }
    }
}
