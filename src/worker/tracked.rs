//! A worker's part in the table of connections, beside the walk: the end of what is over, and what follows when the kernel
//! forwarded meanwhile.

use super::Worker;
use crate::port::Queue;
use crate::stage::prerouting::leaving::let_go;
use crate::table::conntrack::{TICKS_PER_SECOND, ticks};

/// A round over all connections, which ends those that are over, takes about so long.
const ROUND_TICKS: u32 = 4 * TICKS_PER_SECOND;

/// Turns between two looks whether a piece is due: a clock read in so many.
const SWEEP_TURNS: u64 = 4;

/// The most places that one turn looks at for that: some 20 us.
const SWEEP_MAX: u32 = 2048;

impl<Q: Queue> Worker<Q> {
    /// The kernel forwarded meanwhile: no window is what it was, and it may have ended some.
    #[cold]
    pub(super) fn missed_packets(&mut self) {
        let Some(handle) = &self.connections else { return };
        let mut from = Some(0);
        while let Some(at) = from {
            let guard = handle.pin();
            let table = &self.shared.conntrack;
            from = table.walk(at, SWEEP_MAX, &guard, |connection| let_go(&connection));
        }
    }

    /// Ends connections whose time is over: a piece of the table, as large as the time since the last one asks for.
    #[inline]
    pub(super) fn sweep(&mut self, clock: &impl Fn() -> u64) {
        if self.shared.conntrack.is_empty() || !self.report.turns.is_multiple_of(SWEEP_TURNS) {
            return;
        }
        let now = ticks(clock());
        let since = now.wrapping_sub(self.swept).min(ROUND_TICKS);
        if since == 0 {
            return;
        }
        let piece = u64::from(self.shared.conntrack.capacity()) * u64::from(since) / u64::from(ROUND_TICKS);
        if let Some(handle) = &self.connections {
            self.shared
                .conntrack
                .sweep(now, (piece as u32).min(SWEEP_MAX), &handle.pin());
        }
        self.swept = now;
    }
}
