//! A burst between its queue and the rings. All of it walks where it lies, and is put where its verdicts say afterwards:
//!
//! ```text
//!  burst --look, AHEAD frames--> --walk, the same frames--> verdicts --put, all frames--> line_up | shape | punt | lose
//! ```
//!
//! A frame that is moved while its packet is being written waits for all of these writes. And the heads of frames that lie 2048
//! bytes apart share few places of the nearest cache, sixteen where it has eight ways: so few are looked at ahead.

use super::Worker;
use super::ahead::{AHEAD, look, look_for_stations};
use super::pipeline::{Here, Unobserved, walk, wire};
use super::policing::see_policing;
use super::trace::Tracer;
use crate::packet::{Frame, PortIndex, Verdict};
use crate::port::{Queue, take_stamp};
use crate::stage::prerouting::Tracking;
use crate::stage::routing::Flows;
use crate::stage::rx;
use crate::table::conntrack::ticks;
use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;

/// A frame that has walked, and was not put yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walked {
    verdict: Verdict,
    /// In monotonic nanoseconds, 0 if it is not sampled.
    arrival_ns: u64,
}

impl<Q: Queue> Worker<Q> {
    /// Walks the frames of a burst and puts each where its verdict says.
    #[inline(always)]
    pub(super) fn carry(&mut self, burst: &mut Vec<Frame>, here: Here<'_>) {
        let port = here.port;
        if let Some(peer) = self.peers[usize::from(port.0)] {
            self.walk_all(burst, |frame, _| wire(frame, peer));
        } else if here.snapshot.conntrack.tracked == [false; 2] {
            self.carry_untracked(burst, &here);
        } else {
            self.carry_tracked(burst, here);
        }
        let mut walked = std::mem::take(&mut self.walked);
        for (frame, Walked { verdict, arrival_ns }) in burst.drain(..).zip(walked.drain(..)) {
            self.put(frame, port, arrival_ns, verdict);
        }
        self.walked = walked;
    }

    #[inline(always)]
    fn carry_untracked(&mut self, burst: &mut Vec<Frame>, here: &Here<'_>) {
        if self.tracer.is_some() {
            return self.carry_traced(burst, here);
        }
        look_for_stations(burst, here);
        self.walk_all(burst, |frame, flows| walk(frame, here, flows, &mut Unobserved));
    }

    /// A burst of traffic that may be tracked: some frames are looked at before they walk, so that the table's lines are on their
    /// way into the caches. What a lookup found stays what it is while the guard lives.
    #[inline(always)]
    fn carry_tracked(&mut self, burst: &mut Vec<Frame>, here: Here<'_>) {
        let shared = Arc::clone(&self.shared);
        // It is away only within this function.
        let Some(handle) = self.connections.take() else { return };
        let guard = handle.pin();
        let here = Here {
            tracking: Some(Tracking {
                table: &shared.conntrack,
                by_source: &shared.by_source,
                guard: &guard,
                config: &here.snapshot.conntrack,
                now: ticks(here.now_ns),
            }),
            ..here
        };
        if self.tracer.is_some() {
            self.carry_traced(burst, &here);
        }
        let mut ahead = std::mem::take(&mut self.ahead);
        for frames in burst.chunks_mut(AHEAD) {
            look(frames, &mut ahead, &here);
            let mut ahead = ahead.iter();
            self.walk_all(frames, |frame, flows| match ahead.next() {
                Some(ahead) => ahead.walk_on(frame, &here, flows),
                None => walk(frame, &here, flows, &mut Unobserved),
            });
        }
        self.ahead = ahead;
        drop(guard);
        self.connections = Some(handle);
    }

    #[inline(always)]
    fn walk_all(&mut self, frames: &mut [Frame], mut walk: impl FnMut(&mut Frame, &mut Flows) -> Verdict) {
        for frame in frames {
            let arrival_ns = take_stamp(frame).unwrap_or(0);
            let verdict = walk(frame, &mut self.flows);
            if let Verdict::Punt(_) = verdict {
                self.leaving.push_back(self.flows.aside.leaving.take());
            }
            self.walked.push(Walked { verdict, arrival_ns });
        }
    }

    /// A burst while somebody traces: each frame is put before the next one walks, and its trace says what it found there.
    #[cold]
    fn carry_traced(&mut self, burst: &mut Vec<Frame>, here: &Here<'_>) {
        for mut frame in burst.drain(..) {
            let arrival_ns = take_stamp(&mut frame).unwrap_or(0);
            let verdict = self.traced(&mut frame, here);
            if let Verdict::Punt(_) = verdict {
                self.leaving.push_back(self.flows.aside.leaving.take());
            }
            self.put(frame, here.port, arrival_ns, verdict);
        }
    }

    fn traced(&mut self, frame: &mut Frame, here: &Here<'_>) -> Verdict {
        let port = here.port;
        if self.tracer.as_ref().is_some_and(Tracer::is_over) {
            self.tracer = None;
        }
        let parsed = match rx::parse_any(frame, port) {
            Continue(parsed) => Some(parsed),
            Break(_) => None,
        };
        match self.tracer.take_if(|tracer| tracer.wants(port, parsed.as_ref())) {
            Some(mut tracer) => {
                see_policing(frame, here, &mut tracer);
                let verdict = walk(frame, here, &mut self.flows, &mut tracer);
                if let Verdict::Forward(egress) = verdict {
                    self.see_shaping(egress, frame, &mut tracer);
                }
                self.tracer = tracer.end(port, verdict).then_some(tracer);
                verdict
            }
            None => walk(frame, here, &mut self.flows, &mut Unobserved),
        }
    }

    #[inline(always)]
    fn put(&mut self, frame: Frame, port: PortIndex, arrival_ns: u64, verdict: Verdict) {
        match verdict {
            Verdict::Forward(egress) => self.emit(frame, port, egress, arrival_ns),
            Verdict::Punt(reason) => self.punt(frame, port, reason),
            Verdict::Drop(reason) => self.lose(frame, port, reason),
        }
    }
}
