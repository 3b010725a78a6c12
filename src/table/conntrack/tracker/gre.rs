//! GRE, as nf_conntrack_proto_gre.c has it: one way and both ways.
//!
//! The tuple of PPTP's GRE (version 1) has its call id for a destination key. The source key is known only from a PPTP
//! helper's expectations, and helpers are the kernel's: it is 0. Other versions have no keys, as if they were any protocol.
//!
//! A connection keeps the timeouts that were in force when it began:
//!
//! ```text
//! word 1 = that of both ways << 32 | that of one way      0: it came from the kernel, and follows the configuration
//! ```

use super::{Outcome, Update, View};
use crate::table::conntrack::{Config, ProtoState, Status, Ticks};

const WORD: usize = 1;
/// RFC 2637, section 4.1: PPP in GRE.
const PROTOCOL_PPP: u16 = 0x880b;

/// The keys of a tuple; `None` for a version 1 that carries no PPP.
pub(super) fn keys(bytes: &[u8]) -> Option<(u16, u16)> {
    match *bytes {
        [_, flags, a, b, _, _, c, d, ..] if flags & 7 == 1 => {
            (u16::from_be_bytes([a, b]) == PROTOCOL_PPP).then(|| (0, u16::from_be_bytes([c, d])))
        }
        _ => Some((0, 0)),
    }
}

/// How long a connection lives from its next packet on.
pub(super) fn timeout(status: Status, &proto: &ProtoState, config: &Config) -> Option<Ticks> {
    let view = View {
        confirmed: true,
        status,
        left: 0,
        proto,
    };
    match track(&view, config) {
        Outcome::Valid(update) => update.timeout,
        _ => None,
    }
}

/// What a GRE packet does.
pub(super) fn track(view: &View, config: &Config) -> Outcome {
    let began = [
        0,
        u64::from(config.gre[1]) << 32 | u64::from(config.gre[0]),
        0,
        0,
        0,
        0,
        0,
    ];
    let proto = (!view.confirmed).then_some(began);
    let [one_way, both_ways] = match proto.unwrap_or(view.proto)[WORD] {
        0 => config.gre,
        word => [word as u32, (word >> 32) as u32],
    };
    if !view.status.any(Status::SEEN_REPLY) {
        return Outcome::valid(proto, one_way);
    }
    let clash = view.status.any(Status::NAT_CLASH);
    Outcome::Valid(Update {
        proto,
        timeout: Some(both_ways),
        set: if clash { Status(0) } else { Status::ASSURED },
        kill: false,
    })
}
