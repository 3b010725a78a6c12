//! ICMP errors: about whose packet is it? nf_conntrack_inet_error of net/netfilter/nf_conntrack_proto_icmp.c.
//!
//! What it quotes is the packet that somebody has got, so the tuple of an answer to that is looked for.

use super::leaving::is_awaited;
use super::{Of, Tracked, Tracking, ZONE, settled};
use crate::packet::{Parsed, PuntReason, Step, Verdict};
use crate::table::conntrack::tracker::{self, IcmpError};
use crate::table::conntrack::{CtState, Marks};
use std::ops::ControlFlow::Continue;

/// An ICMP error is RELATED to the connection of the packet inside it; `None` for other ICMP.
#[inline(never)]
pub(super) fn icmp_error<'a>(packet: &Parsed, bytes: &[u8], tracking: &Tracking<'a>) -> Step<Option<Tracked<'a>>> {
    let about = match tracker::icmp_error(packet, bytes, tracking.config, ZONE) {
        IcmpError::None => return Continue(None),
        IcmpError::Invalid => return Continue(Some(Tracked::INVALID)),
        IcmpError::Untracked => return Continue(Some(Tracked::UNTRACKED)),
        IcmpError::About(tuple) => tuple,
    };
    let hash = tracking.table.hash(&about);
    let found = settled(tracking, || {
        tracking.table.lookup(&about, hash, tracking.now, tracking.guard)
    });
    let Some((connection, direction)) = found else {
        // Of a connection that the kernel alone knows, it alone can say.
        let alone = tracking.config.alone[packet.family as usize];
        return match alone && !is_awaited(packet.family, tracking) {
            true => Continue(Some(Tracked::INVALID)),
            false => Verdict::punt(PuntReason::KernelConnection),
        };
    };
    let marks = connection.marks();
    if marks.any(Marks::KERNEL) && !marks.any(Marks::ADOPTABLE) {
        return Verdict::punt(PuntReason::KernelConnection);
    }
    if !tracker::error_agrees(packet, &connection.tuple(direction)) {
        return Continue(Some(Tracked::INVALID));
    }
    Continue(Some(Tracked {
        state: CtState::RELATED,
        of: Of::Connection(connection, direction),
        kill: false,
    }))
}
