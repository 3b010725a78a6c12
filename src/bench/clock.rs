//! Whether the clock that delays are taken by ran evenly during a trial. CLOCK_MONOTONIC, which both ends stamp by, is steered
//! by NTP, stands still while the machine sleeps, and leaps where a virtual machine was stopped and is resumed; each of these
//! would pass for a delay. It is held against the clock that nobody steers and the one that counts sleep too.

use rustix::time::{ClockId, clock_gettime};

/// Steering may stretch a second by 500 ppm (adjtimex(2)); what is beyond is a leap.
const STEERED: f64 = 0.000_6;
/// Readings of the three in a row.
const TRIES: u32 = 8;
/// What the three readings of an instant may be apart at worst.
const READING_NS: f64 = 20_000_000.0;

/// The clocks at one time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    monotonic: u64,
    raw: u64,
    with_sleep: u64,
}

impl Clocks {
    /// At a time of a test's making, in seconds by CLOCK_MONOTONIC and by the one that nobody steers.
    #[cfg(test)]
    pub fn at(monotonic: u64, raw: u64) -> Self {
        let [monotonic, raw] = [monotonic, raw].map(|seconds| seconds * 1_000_000_000);
        Self {
            monotonic,
            raw,
            with_sleep: monotonic,
        }
    }

    /// Now.
    pub fn now() -> Self {
        let read = |clock| {
            let time = clock_gettime(clock);
            time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
        };
        // Another thread may run between two readings: of several tries the quickest is nearest to one instant.
        let tries = (0..TRIES).map(|_| {
            let clocks = Self {
                monotonic: read(ClockId::Monotonic),
                raw: read(ClockId::MonotonicRaw),
                with_sleep: read(ClockId::Boottime),
            };
            (read(ClockId::Monotonic).saturating_sub(clocks.monotonic), clocks)
        });
        tries
            .min_by_key(|(took, _)| *took)
            .map(|(_, clocks)| clocks)
            .unwrap_or_default()
    }

    /// What is to be said of the clock between then and now; nothing where it ran evenly. What was measured meanwhile does not
    /// count then.
    pub fn judge(&self, now: &Clocks) -> Option<String> {
        let passed = |then: u64, now: u64| now as f64 - then as f64;
        let here = passed(self.monotonic, now.monotonic);
        let raw = passed(self.raw, now.raw);
        let slept = passed(self.with_sleep, now.with_sleep) - here;
        let leap = here - raw;
        if slept > READING_NS {
            return Some(format!(
                "the machine slept for {:.2} s during this trial: its numbers are worth nothing, measure again",
                slept / 1e9
            ));
        }
        (leap.abs() > READING_NS + raw * STEERED).then(|| {
            format!(
                "the clock jumped by {:+.3} s during this trial: its delays are worth nothing, measure again (was a virtual \
                 machine resumed, or the clock set?)",
                leap / 1e9
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn after(monotonic: u64, raw: u64, with_sleep: u64) -> Option<String> {
        let then = Clocks {
            monotonic: 5 * SECOND,
            raw: 4 * SECOND,
            with_sleep: 9 * SECOND,
        };
        then.judge(&Clocks {
            monotonic: then.monotonic + monotonic,
            raw: then.raw + raw,
            with_sleep: then.with_sleep + with_sleep,
        })
    }

    #[test]
    fn a_leap_and_a_sleep_are_said_and_steering_is_not() {
        assert_eq!(after(60 * SECOND, 60 * SECOND, 60 * SECOND), None);
        assert_eq!(
            after(60_030_000_000, 60 * SECOND, 60_030_000_000),
            None,
            "NTP at its limit"
        );
        let leap = after(3 * SECOND, SECOND, 3 * SECOND).unwrap();
        assert!(leap.contains("jumped by +2.000 s"), "{leap}");
        let back = after(SECOND, 2 * SECOND, SECOND).unwrap();
        assert!(back.contains("jumped by -1.000 s"), "{back}");
        let slept = after(SECOND, SECOND, 31 * SECOND).unwrap();
        assert!(slept.contains("slept for 30.00 s"), "{slept}");
    }

    #[test]
    fn this_machine_s_clock_can_be_read() {
        let then = Clocks::now();
        let now = Clocks::now();
        assert!(now.monotonic >= then.monotonic && then.monotonic > 0 && then.raw > 0);
    }
}
