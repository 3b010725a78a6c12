//! A worker's part in policing: the burst of a port that has policers at its ingress goes by these before it walks, in order,
//! with the tokens of the burst's time. A burst of another port is asked once whether it has any.
//!
//! What exceeds is lost here, `policed`. What a later box punts meets the kernel's policer next, and has paid for that
//! ([`Worker::police_punted`]). A frame that is watched tells whose tokens it took.

use super::observer::{Observer, Stage};
use super::pipeline::Here;
use super::turn::Worker;
use crate::packet::{DropReason, Frame, PortIndex, Verdict};
use crate::port::{Queue, take_stamp};
use crate::stage::{ingress, rx};
use crate::table::police::Policing;
use std::ops::ControlFlow::{Break, Continue};

impl<Q: Queue> Worker<Q> {
    /// Takes what exceeds out of a burst.
    #[inline(never)]
    pub(super) fn police(&mut self, burst: &mut Vec<Frame>, here: &Here<'_>, policing: &Policing) {
        let exceeds = |frame: &mut Frame| ingress::police(frame.bytes(), policing, here.now_ns).is_break();
        for mut frame in burst.extract_if(.., exceeds) {
            if self.tracer.is_some() {
                self.see_policed(&mut frame, here);
            }
            // The next packet in this buffer may come without one.
            take_stamp(&mut frame);
            self.lose(frame, here.port, DropReason::Policed);
        }
    }

    /// A frame of this port is the kernel's.
    pub(super) fn police_punted(&self, frame: &Frame, port: PortIndex) {
        let iface = self.snapshot.port(port).map(|(_, iface)| iface);
        if let Some(policing) = iface.and_then(|iface| iface.policing.as_deref()) {
            ingress::punted(frame.bytes(), policing);
        }
    }

    #[cold]
    fn see_policed(&mut self, frame: &mut Frame, here: &Here<'_>) {
        let parsed = match rx::parse_any(frame, here.port) {
            Continue(parsed) => Some(parsed),
            Break(_) => None,
        };
        let wants = self.tracer.take_if(|tracer| tracer.wants(here.port, parsed.as_ref()));
        if let Some(mut tracer) = wants {
            see_policing(frame, here, &mut tracer);
            let goes_on = tracer.end(here.port, Verdict::Drop(DropReason::Policed));
            self.tracer = goes_on.then_some(tracer);
        }
    }
}

/// Tells who watches which policer a frame met.
pub(super) fn see_policing(frame: &Frame, here: &Here<'_>, seen: &mut impl Observer) {
    if let Some(policing) = here.policing {
        seen.see(Stage::Ingress, || ingress::place(frame.bytes(), policing));
    }
}
