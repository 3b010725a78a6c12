//! A run and who looks on: the frames are sent by a thread of its own, on its core; the caller's thread sleeps, tells of the
//! progress, and ends the run when its time is up.
//!
//! ```text
//!   caller:  watch ── progress(first) ── sleeps ── progress(offered) ── ... ── progress(last) ── stop = 1, SIGURG ─┐
//!   sender:     '── first_ns ── offered += n ──────────────────────────────────────────────────────────────────────┴── done
//! ```
//!
//! The last progress is told when the sending ends, not when the sender is done with it: the kernel waits at the end of a live run
//! (a grace period of RCU), and a ring is emptied.
//!
//! The sender may be inside one system call for the whole run (live frames), which an interruption ends. One that comes too early,
//! before that call, is lost, so it is sent again until the sender is done.

use crate::port::interrupt::{allow_interrupts, interrupt};
use crate::port::wait::monotonic_ns;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

const PROGRESS_NS: u64 = 100_000_000;
/// How often it is looked whether the first frame has been sent, which is told of at once.
const START_NS: u64 = 1_000_000;
const AGAIN_NS: u64 = 5_000_000;

/// What sender and watcher have in common.
pub(super) struct Shared<'a> {
    /// Frames offered so far.
    pub(super) offered: &'a AtomicU64,
    /// When the first was sent; 0 before.
    pub(super) first_ns: &'a AtomicU64,
    /// Not 0: the sender is to end.
    pub(super) stop: &'a AtomicU64,
}

/// When a run ends without being told to by `progress`.
#[derive(Clone, Copy)]
pub(super) struct End {
    /// So long after the first frame.
    pub(super) after: Option<Duration>,
    /// After so many frames.
    pub(super) frames: Option<u64>,
}

/// Runs `send` on a thread of its own, on core `cpu`, until it is done by itself, or `end` or `progress` ends it.
///
/// # Errors
/// What `send` says; or one line, if the thread broke down.
pub(super) fn watch<R: Send>(
    shared: &Shared<'_>,
    cpu: Option<usize>,
    end: End,
    progress: &mut dyn FnMut(u64) -> bool,
    send: impl FnOnce() -> Result<R, String> + Send,
) -> Result<R, String> {
    allow_interrupts();
    let thread = AtomicI32::new(0);
    let (done, is_done) = channel::<()>();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            // Dropped when the thread ends, however that is.
            let _done = done;
            if let Some(id) = cpu {
                core_affinity::set_for_current(core_affinity::CoreId { id });
            }
            thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Relaxed);
            send()
        });
        let (mut told_ns, mut begun, mut ended) = (monotonic_ns(), false, false);
        loop {
            let now = monotonic_ns();
            let sleep_ns = next_look(shared, end, now, told_ns + PROGRESS_NS);
            match is_done.recv_timeout(Duration::from_nanos(sleep_ns)) {
                Err(RecvTimeoutError::Timeout) => {}
                _ => break,
            }
            let now = monotonic_ns();
            let mut over = is_over(shared, end, now);
            let first = !begun && shared.offered.load(Relaxed) > 0;
            if !ended && (first || over || now >= told_ns + PROGRESS_NS) {
                (told_ns, begun) = (now, begun || first);
                over |= !progress(shared.offered.load(Relaxed));
                ended = over;
            }
            if over {
                shared.stop.store(1, Relaxed);
            }
            if shared.stop.load(Relaxed) != 0 {
                interrupt(thread.load(Relaxed));
            }
        }
        if !ended {
            // It ended by itself.
            progress(shared.offered.load(Relaxed));
        }
        sender
            .join()
            .unwrap_or_else(|_| Err("the sending thread broke down".to_owned()))
    })
}

fn is_over(shared: &Shared<'_>, end: End, now: u64) -> bool {
    let first = shared.first_ns.load(Relaxed);
    let timed = end
        .after
        .is_some_and(|after| first > 0 && now >= first.saturating_add(after.as_nanos() as u64));
    timed || end.frames.is_some_and(|frames| shared.offered.load(Relaxed) >= frames)
}

/// How long to sleep: to the next progress, or to when the run may be over.
fn next_look(shared: &Shared<'_>, end: End, now: u64, progress: u64) -> u64 {
    let first = shared.first_ns.load(Relaxed);
    let offered = shared.offered.load(Relaxed);
    let mut look = progress;
    if shared.stop.load(Relaxed) != 0 {
        look = now + AGAIN_NS;
    } else if first == 0 || offered == 0 {
        look = now + START_NS;
    } else if let Some(after) = end.after {
        look = look.min(first.saturating_add(after.as_nanos() as u64));
    } else if let Some(frames) = end.frames {
        // When it will be, if it goes on as it went.
        let left = frames.saturating_sub(offered) as f64;
        let guess = (now - first.min(now)) as f64 / offered.max(1) as f64 * left;
        look = look.min(now + (guess as u64).max(START_NS / 10));
    }
    look.saturating_sub(now).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[derive(Default)]
    struct State {
        offered: AtomicU64,
        first_ns: AtomicU64,
        stop: AtomicU64,
    }

    impl State {
        fn shared(&self) -> Shared<'_> {
            Shared {
                offered: &self.offered,
                first_ns: &self.first_ns,
                stop: &self.stop,
            }
        }

        /// A sender inside one long system call, as the live one is.
        fn sleep(&self) -> Result<i32, String> {
            self.first_ns.store(monotonic_ns(), Relaxed);
            let hour = rustix::thread::Timespec {
                tv_sec: 3600,
                tv_nsec: 0,
            };
            while self.stop.load(Relaxed) == 0 {
                let _interrupted = rustix::thread::nanosleep(&hour);
            }
            Ok(7)
        }
    }

    const NEVER: End = End {
        after: None,
        frames: None,
    };

    #[test]
    fn its_time_ends_a_sender_inside_a_system_call() {
        let state = State::default();
        let end = End {
            after: Some(Duration::from_millis(30)),
            frames: None,
        };
        let got = watch(&state.shared(), None, end, &mut |_| true, || state.sleep());
        assert_eq!(got, Ok(7));
        assert!(monotonic_ns() - state.first_ns.load(Relaxed) >= 30_000_000);
    }

    #[test]
    fn so_do_the_number_of_frames_and_the_caller() {
        let state = State::default();
        state.offered.store(10, Relaxed);
        let end = End {
            after: None,
            frames: Some(10),
        };
        assert_eq!(
            watch(&state.shared(), None, end, &mut |_| true, || state.sleep()),
            Ok(7)
        );
        let state = State::default();
        state.offered.store(3, Relaxed);
        let mut told = Vec::new();
        let mut progress = |offered| {
            told.push(offered);
            told.len() < 2
        };
        assert_eq!(
            watch(&state.shared(), None, NEVER, &mut progress, || state.sleep()),
            Ok(7)
        );
        assert_eq!(told[..2], [3, 3]);
    }

    #[test]
    fn the_first_frame_is_told_of_before_a_tenth_of_a_second_is_over() {
        let state = State::default();
        let end = End {
            after: Some(Duration::from_millis(30)),
            frames: None,
        };
        let mut told = Vec::new();
        let mut progress = |offered| {
            told.push(offered);
            true
        };
        let send = || {
            state.offered.store(1, Relaxed);
            state.sleep()
        };
        assert_eq!(watch(&state.shared(), None, end, &mut progress, send), Ok(7));
        assert_eq!(told.first(), Some(&1));
    }

    #[test]
    fn the_last_progress_is_told_when_the_sending_ends_and_once() {
        const GRACE: Duration = Duration::from_millis(300);
        let state = State::default();
        let end = End {
            after: Some(Duration::from_millis(30)),
            frames: None,
        };
        let mut told = Vec::new();
        let mut progress = |_| {
            told.push(monotonic_ns());
            true
        };
        let send = || {
            state.offered.store(1, Relaxed);
            state.sleep()?;
            std::thread::sleep(GRACE);
            Ok(monotonic_ns())
        };
        let done_ns = watch(&state.shared(), None, end, &mut progress, send).unwrap();
        let last_ns = *told.last().unwrap();
        assert!(last_ns - state.first_ns.load(Relaxed) >= 30_000_000);
        assert!(last_ns < done_ns - GRACE.as_nanos() as u64, "{last_ns} of {done_ns}");
        // One that ends by itself is told of at its end.
        let (state, mut told) = (State::default(), Vec::new());
        let send = || {
            state.offered.store(5, Relaxed);
            Ok(())
        };
        let mut progress = |offered| {
            told.push(offered);
            true
        };
        assert_eq!(watch(&state.shared(), None, NEVER, &mut progress, send), Ok(()));
        assert_eq!(told.last(), Some(&5));
    }

    #[test]
    fn an_error_and_a_breakdown_of_the_sender_come_back() {
        let state = State::default();
        let shared = state.shared();
        let failed: Result<(), _> = watch(&shared, None, NEVER, &mut |_| true, || Err("no frames".to_owned()));
        assert_eq!(failed, Err("no frames".to_owned()));
        let broke: Result<(), _> = watch(&shared, None, NEVER, &mut |_| true, || panic!("on purpose"));
        assert!(broke.is_err());
    }
}
