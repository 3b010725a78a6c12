//! The walk of tracked traffic, [`AHEAD`] frames of a burst at a time. Each frame is looked at three times, so that what the
//! connection table has of it is on its way into the caches while others are looked at:
//!
//! ```text
//!  look     all of them: parse, hash, ask for the line of slots; and then again all: ask for the entry
//!  walk_on  all of them: the cached walk, or all boxes
//! ```
//!
//! What a look found lies in a worker's own places, one per frame, and is written where it will be read: returned
//! through the stack it would be written in small pieces and soon read back in large ones, which the processor waits for.

use super::bridge_hooks;
use super::bridged::bridged;
use super::pipeline::{Here, Unobserved, arrive, tracked, transmit, untracked, verdict};
use crate::packet::{Family, Flags, Frame, Parsed, PortIndex, PuntReason, Verdict};
use crate::stage::bridging;
use crate::stage::flow;
use crate::stage::prerouting;
use crate::stage::routing::Flows;
use crate::table::conntrack::table::Probe;
use std::ops::ControlFlow::{Break, Continue};

/// So many frames are looked at before the first of them walks.
pub const AHEAD: usize = 8;

/// The two looks at frames, which are no more than `ahead` has places for.
#[inline]
pub fn look(burst: &mut [Frame], ahead: &mut [Ahead], here: &Here<'_>) {
    let pairs = burst.iter_mut().zip(ahead.iter_mut());
    pairs.for_each(|(frame, ahead)| ahead.look(frame, here));
    ahead.iter_mut().take(burst.len()).for_each(|ahead| ahead.aim(here));
}

/// The look at a burst of which nothing is tracked: on a port of a bridge, what its forwarding database has of the stations is
/// asked for.
#[inline]
pub fn look_for_stations(burst: &[Frame], here: &Here<'_>) {
    if let Some(member) = &here.member {
        bridging::prefetch_all(burst, member);
    }
}

/// What is known of a frame before it walks.
#[derive(Clone, Debug)]
pub struct Ahead {
    /// It got no further than rx.
    ended: Option<Verdict>,
    packet: Parsed,
    /// Where its connection is, if its family is tracked and it has one.
    probe: Option<Probe>,
}

impl Ahead {
    /// Nothing yet.
    pub const NOTHING: Self = Ahead {
        ended: Some(Verdict::Punt(PuntReason::Malformed)),
        packet: Parsed {
            src: 0,
            dst: 0,
            port: PortIndex(0),
            l3: 0,
            l4: 0,
            end: 0,
            sport: 0,
            dport: 0,
            proto: 0,
            ttl: 0,
            tos: 0,
            flags: Flags(0),
            family: Family::V4,
        },
        probe: None,
    };

    /// The first look.
    #[inline(always)]
    pub fn look(&mut self, frame: &mut Frame, here: &Here<'_>) {
        if let Some(member) = &here.member {
            bridging::prefetch(frame.bytes(), member);
        }
        // What a bridge forwards is not for its own address, and gets no further; unless the hooks of IP will see it.
        let arrived = match &here.member {
            Some(member) if !member.is_plain => bridge_hooks::arrive(frame, here),
            _ => arrive(frame, here, &mut Unobserved),
        };
        let packet = match arrived {
            Continue((packet, _)) => packet,
            Break(verdict) => {
                (self.ended, self.probe) = (Some(verdict), None);
                return;
            }
        };
        self.ended = None;
        self.probe = here
            .tracking(packet.family)
            .and_then(|tracking| prerouting::probe(&packet, frame.bytes(), tracking.table));
        self.packet = packet;
    }

    /// The second look, when the line of slots has come.
    #[inline(always)]
    pub fn aim(&mut self, here: &Here<'_>) {
        if let (Some(probe), Some(tracking)) = (&mut self.probe, &here.tracking) {
            tracking.table.aim(probe);
            // TCP and UDP, of which the tuple needs no look at the frame.
            if probe.is_lost()
                && let Some(reply) = prerouting::tuple(&self.packet, &[]).and_then(|tuple| tuple.invert())
            {
                tracking.table.prefetch(&reply);
            }
        }
    }

    /// The walk of the frame that was looked at: as [`walk`](super::pipeline::walk).
    #[inline(always)]
    pub fn walk_on(&self, frame: &mut Frame, here: &Here<'_>, flows: &mut Flows) -> Verdict {
        if let Some(member) = &here.member {
            if !member.is_plain {
                let ahead = self.ended.is_none().then_some((&self.packet, self.probe.as_ref()));
                return verdict(bridge_hooks::walk(frame, ahead, member, here, flows, &mut Unobserved));
            }
            if let Break(verdict) = bridged(frame, member, here, &mut Unobserved) {
                return bridge_hooks::left(frame, verdict, here, flows);
            }
        }
        if let Some(verdict) = self.ended {
            return verdict;
        }
        let packet = &self.packet;
        let Some(link) = here.link else {
            return Verdict::Punt(PuntReason::LeftIngress);
        };
        let Some(tracking) = here.tracking(packet.family) else {
            return verdict(untracked(frame, packet, link, here, flows, &mut Unobserved));
        };
        let (iif, iface) = link;
        if let Some(probe) = &self.probe
            && iface.family(packet.family).left.is_none()
            && let Some(way) = flow::cached(
                packet,
                frame,
                probe,
                |way| way.iif == iif,
                here.snapshot,
                tracking,
                &flows.ways,
            )
        {
            way.trail.count(&here.snapshot.rules.state, packet.l3_len().into());
            let out = (&way.out, &way.meta);
            return verdict(transmit(frame, packet, out, here, &mut Unobserved));
        }
        verdict(tracked(
            frame,
            packet,
            self.probe.as_ref(),
            here,
            flows,
            &mut Unobserved,
        ))
    }
}
