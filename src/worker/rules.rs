//! The rules at forward as a step of the walk: from what they say to a verdict, and whether that may be kept.
//!
//! Beside the pipeline, which calls it where the walk is drawn.

use super::pipeline::{Here, Observer, Stage};
use crate::packet::{DropReason, Flags, Parsed, PuntReason, Step, Verdict};
use crate::stage::forward::rules::{self, AtForward};
use crate::stage::prerouting::Tracked;
use crate::table::conntrack::{Record, ticks};
use crate::table::iface::Iface;
use crate::table::rules::carried::Depends;
use crate::table::rules::interpret::{Changes, Outcome, Place};
use crate::table::rules::live::Rules;
use std::ops::ControlFlow::Continue;

/// A packet with its connection, as rules ask about it: in the table, or begun with it.
pub(super) type Who<'a> = (&'a Parsed, &'a [u8], Option<&'a Tracked<'a>>, &'a Record);

/// What the rules at forward say. Out of line: it is large, and most packets of a connection do not come here.
#[inline(never)]
pub(super) fn obey<O: Observer>(
    (packet, bytes, tracked, begun): Who<'_>,
    links: [&Iface; 2],
    here: &Here<'_>,
    changes: &mut Changes,
    seen: &mut O,
) -> Step<()> {
    let at = AtForward {
        packet,
        bytes,
        links,
        tracked,
        begun,
        now: ticks(here.now_ns),
    };
    let live = &here.snapshot.rules;
    let place = |place: &Place| match live.rule_of(place) {
        Some(rule) => format!("{}, rule handle {}", live.ruleset.describe(place.chain), rule.handle),
        None => live.ruleset.describe(place.chain),
    };
    match rules::run(at, live, here.now_ns, changes) {
        Outcome::Accept => Continue(()),
        Outcome::Drop(at) => {
            seen.see(Stage::Forward, || format!("{} says drop", place(&at)));
            Verdict::drop(DropReason::Filter)
        }
        Outcome::Reject(_, at) | Outcome::Nat(_, at) | Outcome::Punt(at) => {
            seen.see(Stage::Forward, || format!("{} is the kernel's", place(&at)));
            Verdict::punt(PuntReason::Rule)
        }
    }
}

/// Whether what the rules said holds for all packets of the connection, its direction and state.
#[inline]
pub(super) fn may_keep(packet: &Parsed, rules: &Rules) -> bool {
    match rules.forward[packet.family as usize].depends {
        Depends::Flow => true,
        Depends::FlowWithPorts => packet.flags.any(Flags::PORTS),
        Depends::Packet => false,
    }
}
