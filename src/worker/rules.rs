//! The rules at forward as a step of the walk: from what they say to a verdict, and whether that may be kept.
//!
//! Beside the pipeline, which calls it where the walk is drawn.

use super::pipeline::{Here, Observer, Stage};
use crate::packet::{DropReason, Flags, Parsed, PuntReason, Step, Verdict};
use crate::stage::forward::rules::{self, AtForward};
use crate::stage::prerouting::{Of, Tracked, leaving};
use crate::table::conntrack::{Record, ticks};
use crate::table::iface::Iface;
use crate::table::rules::carried::Depends;
use crate::table::rules::expr::Reject;
use crate::table::rules::interpret::{Changes, Outcome, Place};
use crate::table::rules::live::Rules;
use crate::wire::Protocol;
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
        Outcome::Accept => match begins_there(packet, tracked, live) {
            true => {
                changes.take_back(&live.state);
                seen.see(Stage::Forward, || "it begins in the kernel, which tells its age".into());
                Verdict::punt(PuntReason::Rule)
            }
            false => Continue(()),
        },
        Outcome::Drop(at) => {
            seen.see(Stage::Forward, || format!("{} says drop", place(&at)));
            Verdict::drop(DropReason::Filter)
        }
        Outcome::Reject(reject, at) => {
            seen.see(Stage::Forward, || format!("{} is the kernel's", place(&at)));
            if let (Reject::TcpReset, Some(tracked), Some(tracking)) = (reject, tracked, here.tracking.as_ref()) {
                leaving::reset(packet, bytes, tracked, tracking);
            }
            Verdict::punt(PuntReason::Rule)
        }
        Outcome::Nat(_, at) | Outcome::Punt(at) => {
            seen.see(Stage::Forward, || format!("{} is the kernel's", place(&at)));
            Verdict::punt(PuntReason::Rule)
        }
    }
}

/// Whether a connection that begins with the packet must begin in the kernel: see [`Hook::asks_assured`].
///
/// [`Hook::asks_assured`]: crate::table::rules::live::Hook::asks_assured
fn begins_there(packet: &Parsed, tracked: Option<&Tracked<'_>>, rules: &Rules) -> bool {
    let begins = tracked.is_some_and(|tracked| matches!(tracked.of, Of::Unconfirmed));
    begins && packet.proto == Protocol::UDP.0 && rules.forward[packet.family as usize].asks_assured
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
