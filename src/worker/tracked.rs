//! A worker's part in tracking connections: bursts that look ahead, and the end of what is over.
//!
//! A burst is looked at ahead of its walk, see ahead.rs. Everything that a lookup found stays what it is while the burst's
//! guard lives.

use super::Worker;
use super::ahead::look;
use super::pipeline::Here;
use crate::packet::Frame;
use crate::port::{Queue, take_stamp};
use crate::stage::prerouting::Tracking;
use crate::stage::prerouting::leaving::let_go;
use crate::table::conntrack::{TICKS_PER_SECOND, Ticks, ticks};
use std::sync::Arc;

/// A round over all connections, which ends those that are over, takes about so long.
const ROUND_TICKS: u32 = 4 * TICKS_PER_SECOND;

/// Turns between two looks whether a piece is due: a clock read in so many.
const SWEEP_TURNS: u64 = 16;

/// The most places that one turn looks at for that: some 20 us.
const SWEEP_MAX: u32 = 2048;

impl<Q: Queue> Worker<Q> {
    /// A burst of traffic that may be tracked: all frames are looked at first, so that the table's lines are on their way
    /// into the caches while others walk.
    pub(super) fn carry_tracked(&mut self, burst: &mut Vec<Frame>, here: Here<'_>, now: Ticks) {
        let shared = Arc::clone(&self.shared);
        let Some(handle) = self.connections.take() else { return };
        let guard = handle.pin();
        let snapshot = Arc::clone(&self.snapshot);
        let here = Here {
            tracking: Some(Tracking {
                table: &shared.conntrack,
                by_source: &shared.by_source,
                guard: &guard,
                config: &snapshot.conntrack,
                now,
            }),
            ..here
        };
        let mut ahead = std::mem::take(&mut self.ahead);
        look(burst, &mut ahead, &here);
        for (mut frame, ahead) in burst.drain(..).zip(&ahead) {
            let arrival_ns = take_stamp(&mut frame).unwrap_or(0);
            let verdict = match self.tracer {
                None => ahead.walk_on(&mut frame, &here, &mut self.flows),
                Some(_) => self.traced(&mut frame, &here),
            };
            self.put(frame, here.port, arrival_ns, verdict);
        }
        self.ahead = ahead;
        drop(guard);
        self.connections = Some(handle);
    }

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
