//! When frames are due. Frame `n` of a pace is due `n` gaps after the first, whatever happened to those before it, so a late
//! frame does not make all that follow late. A burst is what is due and not sent yet: one frame, where the sender keeps up.
//!
//! What is more than [`LATE_MAX_NS`] late is left out and counted: a sender that was held up sends no larger lump than 5 ms
//! of frames, and one that cannot keep up is told so. Plain computation; `now` is an argument.

/// How late a frame may be sent: 5 ms.
pub const LATE_MAX_NS: u64 = 5_000_000;

/// The pace of a run.
#[derive(Clone, Debug)]
pub struct Pace {
    gap_ns: f64,
    start_ns: u64,
    /// Frames that were due and are sent or left out.
    done: u64,
    /// Those left out.
    missed: u64,
}

/// A rate that can be kept: above 0, and finite.
///
/// # Errors
/// One line.
pub fn check_rate(frames_per_second: f64) -> Result<(), String> {
    if frames_per_second.is_finite() && frames_per_second > 0.0 {
        Ok(())
    } else {
        Err(format!(
            "a rate of {frames_per_second} frames per second is not possible: give one above 0, or send unpaced"
        ))
    }
}

impl Pace {
    /// A pace whose first frame is due at `start_ns`.
    ///
    /// # Errors
    /// See [`check_rate`].
    pub fn new(frames_per_second: f64, start_ns: u64) -> Result<Self, String> {
        check_rate(frames_per_second)?;
        Ok(Self {
            gap_ns: 1e9 / frames_per_second,
            start_ns,
            done: 0,
            missed: 0,
        })
    }

    /// Sets when the first frame is due.
    pub fn start(&mut self, start_ns: u64) {
        self.start_ns = start_ns;
    }

    /// How many frames are due at `now_ns`, `max` at most. What is too late is left out here.
    #[inline]
    pub fn due(&mut self, now_ns: u64, max: u64) -> u64 {
        if now_ns < self.start_ns {
            return 0;
        }
        let elapsed = now_ns - self.start_ns;
        let due = self.before(elapsed);
        let late = elapsed.checked_sub(LATE_MAX_NS).map_or(0, |then| self.before(then));
        if late > self.done {
            self.missed += late - self.done;
            self.done = late;
        }
        due.saturating_sub(self.done).min(max)
    }

    /// So many frames were sent.
    #[inline]
    pub fn sent(&mut self, frames: u64) {
        self.done += frames;
    }

    /// When the next frame is due.
    #[inline]
    pub fn next_ns(&self) -> u64 {
        self.start_ns + (self.done as f64 * self.gap_ns) as u64
    }

    /// Frames left out.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Frames that are due in the first `elapsed` nanoseconds, the end included.
    #[inline]
    fn before(&self, elapsed: u64) -> u64 {
        (elapsed as f64 / self.gap_ns) as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn at_a_hundred_thousand_a_second_frames_leave_one_by_one() {
        let mut pace = Pace::new(100_000.0, 1_000).expect("a rate");
        assert_eq!(pace.due(999, 64), 0);
        for n in 0..1_000u64 {
            assert_eq!(pace.next_ns(), 1_000 + n * 10_000);
            assert_eq!(pace.due(pace.next_ns(), 64), 1);
            assert_eq!(pace.due(pace.next_ns() + 9_999, 64), 1);
            pace.sent(1);
            assert_eq!(pace.due(pace.next_ns() - 1, 64), 0);
        }
    }

    #[test]
    fn what_is_a_little_late_is_made_up_and_what_is_very_late_is_left_out() {
        let mut pace = Pace::new(1_000_000.0, 0).expect("a rate");
        assert_eq!(pace.due(2_000_000, u64::MAX), 2_001, "2 ms held up: all are sent");
        pace.sent(2_001);
        assert_eq!(pace.missed(), 0);
        // Held up until 12 ms: those due after 2 ms and up to 7 ms are left out.
        assert_eq!(pace.due(12_000_000, u64::MAX), 5_000);
        assert_eq!(pace.missed(), 5_000);
        assert_eq!(pace.due(12_000_000, 64), 64);
        assert_eq!(pace.missed(), 5_000, "they are left out once");
    }

    #[test]
    fn rates_that_cannot_be() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Pace::new(rate, 0).is_err(), "{rate}");
        }
    }

    proptest! {
        /// However a sender is held up, what it sends and what it leaves out are all that was due, and never more.
        #[test]
        fn sent_and_missed_are_all_that_was_due(
            rate in 1.0f64..20e6,
            steps in prop::collection::vec((0u64..20_000_000, 1u64..5_000), 1..200),
        ) {
            let mut pace = Pace::new(rate, 17).expect("a rate");
            let (mut now, mut sent) = (17, 0);
            for (step, burst) in steps {
                now += step;
                let n = pace.due(now, burst);
                prop_assert!(n <= burst);
                pace.sent(n);
                sent += n;
                let all = ((now - 17) as f64 * rate / 1e9) as u64 + 1;
                prop_assert!(sent + pace.missed() <= all + 1);
                prop_assert!(n == burst || pace.next_ns() + 1 >= now, "{} {}", pace.next_ns(), now);
            }
        }

        /// A sender that looks often enough sends the rate, to the frame.
        #[test]
        fn who_keeps_up_sends_the_rate(rate in 1_000.0f64..5e6) {
            let mut pace = Pace::new(rate, 0).expect("a rate");
            let (mut now, mut sent) = (0u64, 0);
            while now <= 20_000_000 {
                let n = pace.due(now, 32);
                pace.sent(n);
                sent += n;
                now += 1_000;
            }
            prop_assert_eq!(pace.missed(), 0);
            prop_assert!(sent.abs_diff((0.02 * rate) as u64 + 1) <= 1);
        }
    }
}
