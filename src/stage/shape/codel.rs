//! The controlled delay of one flow (include/net/codel_impl.h, RFC 8289): when packets have waited longer than a target for a whole
//! interval, one is dropped, then more and more often until they wait less.
//!
//! Times are nanoseconds here, 1,024 of them in the kernel.

use super::frames::Waiting;

/// The state of one flow (struct codel_vars).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Codel {
    /// How many were dropped since it began.
    pub count: u32,
    last_count: u32,
    /// 1 / sqrt(count), in parts of 65,536.
    inverse_root: u16,
    is_dropping: bool,
    first_above_ns: u64,
    drop_next_ns: u64,
    delay_ns: u64,
}

/// What it goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Params {
    pub target_ns: u64,
    pub interval_ns: u64,
    pub ce_threshold_ns: Option<u64>,
    /// Up to so many bytes may wait for any time: one packet of full length.
    pub frame_max: u64,
}

/// Where its packets come from and go to.
pub(super) trait Flow {
    /// The next packet, since when it waits, and how many bytes wait in all flows after it.
    fn next(&mut self) -> Option<(Waiting, u64, u64)>;
    /// Marks a packet instead of dropping it, if both sides know how.
    fn mark(&mut self, frame: Waiting) -> bool;
    /// Marks a packet that waited longer than the threshold for marks.
    fn mark_late(&mut self, frame: Waiting);
    /// Drops it.
    fn lose(&mut self, frame: Waiting);
}

impl Codel {
    /// The next packet of the flow that is not dropped (codel_dequeue).
    pub fn dequeue(&mut self, params: &Params, now_ns: u64, flow: &mut impl Flow) -> Option<Waiting> {
        let frame = self.next_that_stays(params, now_ns, flow)?;
        if params.ce_threshold_ns.is_some_and(|most_ns| self.delay_ns > most_ns) {
            flow.mark_late(frame);
        }
        Some(frame)
    }

    fn next_that_stays(&mut self, params: &Params, now_ns: u64, flow: &mut impl Flow) -> Option<Waiting> {
        let Some((mut frame, mut is_late)) = self.look(params, now_ns, flow) else {
            self.is_dropping = false;
            return None;
        };
        if !self.is_dropping {
            if is_late {
                if !flow.mark(frame) {
                    flow.lose(frame);
                    let next = self.look(params, now_ns, flow);
                    self.begin(params, now_ns);
                    return next.map(|(frame, _)| frame);
                }
                self.begin(params, now_ns);
            }
            return Some(frame);
        }
        self.is_dropping = is_late;
        while self.is_dropping && now_ns >= self.drop_next_ns {
            self.count = self.count.wrapping_add(1);
            self.improve_root();
            if flow.mark(frame) {
                self.drop_next_ns = self.after(self.drop_next_ns, params);
                break;
            }
            flow.lose(frame);
            self.is_dropping = false;
            (frame, is_late) = self.look(params, now_ns, flow)?;
            self.is_dropping = is_late;
            if is_late {
                self.drop_next_ns = self.after(self.drop_next_ns, params);
            }
        }
        Some(frame)
    }

    /// The next packet, and whether it has waited too long for too long (codel_should_drop).
    fn look(&mut self, params: &Params, now_ns: u64, flow: &mut impl Flow) -> Option<(Waiting, bool)> {
        let Some((frame, since_ns, backlog)) = flow.next() else {
            self.first_above_ns = 0;
            return None;
        };
        self.delay_ns = now_ns.saturating_sub(since_ns);
        if self.delay_ns < params.target_ns || backlog <= params.frame_max {
            self.first_above_ns = 0;
            return Some((frame, false));
        }
        if self.first_above_ns == 0 {
            self.first_above_ns = now_ns + params.interval_ns;
            return Some((frame, false));
        }
        Some((frame, now_ns > self.first_above_ns))
    }

    /// Begins to drop; soon after it ended, at the pace that it had then.
    fn begin(&mut self, params: &Params, now_ns: u64) {
        self.is_dropping = true;
        let since_last = self.count.wrapping_sub(self.last_count);
        if since_last > 1 && now_ns.saturating_sub(self.drop_next_ns) < 16 * params.interval_ns {
            self.count = since_last;
            self.improve_root();
        } else {
            (self.count, self.inverse_root) = (1, u16::MAX);
        }
        self.last_count = self.count;
        self.drop_next_ns = self.after(now_ns, params);
    }

    /// One step of Newton's method: y = y * (3 - count * y * y) / 2, as the kernel does it, in parts of 2^32.
    fn improve_root(&mut self) {
        let root = u64::from(self.inverse_root) << 16;
        let square = (root * root) >> 32;
        let rest = (3u64 << 32).wrapping_sub(u64::from(self.count) * square) >> 2;
        self.inverse_root = (rest.wrapping_mul(root) >> 31 >> 16) as u16;
    }

    /// `interval / sqrt(count)` after a time (codel_control_law).
    fn after(&self, at_ns: u64, params: &Params) -> u64 {
        at_ns + ((params.interval_ns * u64::from(self.inverse_root)) >> 16)
    }
}
