//! The pinned loop around [`Worker::turn`]: heartbeat, polling policy, sleep.
//!
//! `adaptive` spins while there is traffic and for a moment after, then sleeps in poll(2) until a frame, a hand-off or a
//! command comes, never longer than 200 ms: steer takes a worker for dead when its heartbeat is 750 ms old. Without a free
//! frame left for its fill rings it looks every millisecond for those that come home. `busy` never sleeps but lets the
//! kernel's busy polling drive the device; `spin` just turns.
//!
//! A worker whose control does not go on has an old configuration: new rules would not be obeyed. It goes on with what it holds,
//! but gives no more heartbeats until control is there again, so that the kernel forwards.
//!
//! Where frames wait for tokens, the sleep ends shortly before these are due, and the rest is spun: a wake-up is late by some
//! microseconds, and by how much nobody knows before.

use super::Worker;
use crate::packet::BURST;
use crate::port::Queue;
use crate::port::wait::{monotonic_ns, wait_ns, wake_on_time};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

/// How a worker waits for traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Spin under traffic, sleep without.
    Adaptive,
    /// Never sleep; the kernel's preferred busy polling serves the device.
    Busy,
    /// Never sleep.
    Spin,
}

/// Turns without a frame before an adaptive worker sleeps: about 20 to 50 us.
const IDLE_TURNS: u32 = 256;

/// The longest sleep.
const SLEEP_NS: u64 = 200_000_000;

/// The longest sleep while frames are away that a fill ring has room for: nobody wakes a worker for those that come home.
const HOME_NS: u64 = 1_000_000;

/// A sleep for tokens ends so long before they are due; a shorter one is not worth it.
const EARLY_NS: u64 = 60_000;

/// A worker that gave no sign of life for so long gets no frames: the kernel forwards until it goes on.
pub const HEARTBEAT_LIMIT: Duration = Duration::from_millis(750);

/// How old the configuration may be. A turn of control takes milliseconds; all routes of the Internet read anew, or a hundred
/// thousand elements of sets, take it tenths of a second, connections that go to the kernel 0.3 s.
pub const CONTROL_LIMIT: Duration = Duration::from_secs(3);

/// Steer may think so a little earlier, for it counts in ticks of the kernel's clock.
const MISSED_NS: u64 = HEARTBEAT_LIMIT.as_nanos() as u64 - 50_000_000;

/// Bursts between two heartbeats under traffic, an empty turn being one: far less than a millisecond, or a turn, where that has more of
/// them.
const HEARTBEAT_BURSTS: u32 = 64;

/// Runs until control says stop. `heartbeat` is where the time of the last turn goes, as `beat` makes it from monotonic
/// nanoseconds.
pub fn run<Q: Queue>(mut worker: Worker<Q>, poll: Poll, heartbeat: &AtomicU64, beat: impl Fn(u64) -> u64) {
    let index = worker.index();
    let shared = worker.shared().clone();
    let mut idle = 0u32;
    let mut bursts = HEARTBEAT_BURSTS;
    let mut beaten_ns = monotonic_ns();
    wake_on_time();
    loop {
        if bursts >= HEARTBEAT_BURSTS || idle > 0 {
            bursts = 0;
            let mut now_ns = monotonic_ns();
            if !shared.is_control_late(now_ns, CONTROL_LIMIT.as_nanos() as u64) {
                if now_ns.saturating_sub(beaten_ns) > MISSED_NS {
                    // Before the heartbeat says that it is there again, and frames come.
                    worker.missed_packets();
                    now_ns = monotonic_ns();
                }
                beaten_ns = now_ns;
                heartbeat.store(beat(now_ns), Ordering::Relaxed);
            }
            shared.alive_ns[index].store(now_ns, Ordering::Relaxed);
            if !worker.obey() {
                return;
            }
        }
        let moved = worker.turn(&monotonic_ns);
        bursts += 1 + (moved / BURST) as u32;
        if moved > 0 {
            idle = 0;
            continue;
        }
        idle = idle.saturating_add(1);
        if poll == Poll::Adaptive && idle >= IDLE_TURNS {
            sleep(&mut worker);
            idle = IDLE_TURNS / 2;
        }
    }
}

/// Sleeps until there is something to do. Whoever pushes to our queues looks at `asleep` behind a fence (see
/// `Shared::rouse`), so between our look at the queues and the sleep nothing is missed.
fn sleep<Q: Queue>(worker: &mut Worker<Q>) {
    let now_ns = monotonic_ns();
    let due_ns = worker
        .due_ns(now_ns)
        .map_or(u64::MAX, |due_ns| due_ns.saturating_sub(now_ns));
    let most_ns = if worker.is_short() { HOME_NS } else { SLEEP_NS };
    let sleep_ns = due_ns.saturating_sub(EARLY_NS).min(most_ns);
    if sleep_ns == 0 {
        return;
    }
    let index = worker.index();
    let shared = worker.shared().clone();
    shared.asleep[index].store(true, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    let nothing = shared.inbox[index].is_empty()
        && shared.orders[index].is_empty()
        && shared.mailbox[index].is_empty()
        && shared.home[index].is_empty()
        && shared.answers[index].is_empty();
    if nothing {
        wait_ns(worker.fds().chain([shared.wakers[index].as_raw_fd()]), sleep_ns);
        worker.slept();
    }
    shared.asleep[index].store(false, Ordering::Relaxed);
    shared.wakers[index].drain();
}
