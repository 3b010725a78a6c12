//! UDP and UDP-Lite: one way, both ways, a stream. nf_conntrack_proto_udp.c.
//!
//! A connection that still sends two seconds after its first packet, and was answered, is a stream: it lives longer, and is
//! assured. Word 1 of the state holds when that will be, plus a bit that it is known. UDP-Lite has no such age: one that was
//! answered is a stream.

use super::{Outcome, Segment, Update, View};
use crate::packet::Family;
use crate::table::conntrack::{Config, ProtoState, Status, TICKS_PER_SECOND, Ticks};
use crate::wire::Protocol;
use crate::wire::udp::HEADER_LEN;

const STREAM_TICKS: Ticks = 2 * TICKS_PER_SECOND;
const KNOWN: u64 = 1 << 32;

/// What a UDP packet does.
#[inline(always)]
pub fn track(segment: &Segment<'_>, view: &View, config: &Config, now: Ticks) -> Outcome {
    let bytes = segment.bytes;
    let &[_, _, _, _, len1, len2, check1, check2, ..] = bytes else {
        return Outcome::Invalid(None);
    };
    let len = usize::from(u16::from_be_bytes([len1, len2]));
    if len > bytes.len() || len < HEADER_LEN {
        return Outcome::Invalid(None);
    }
    // None is given: IPv4 allows it, and conntrack takes it of IPv6 too.
    if check1 | check2 != 0 && config.checksum && !segment.sums_up(Protocol::UDP, bytes.len()) {
        return Outcome::Invalid(None);
    }
    if !view.confirmed {
        return Outcome::valid(Some(begun(now)), config.udp[0]);
    }
    // One that came from elsewhere (imported) has no such moment: it is old enough. So is one that is assured, as it has been
    // since then: of the moment itself ticks tell for 248 days that it is past.
    let moment = view.proto[1];
    let is_known = moment & KNOWN != 0 && !view.status.any(Status::ASSURED);
    let is_old = !is_known || now.wrapping_sub(moment as u32).cast_signed() > 0;
    advance(view, is_old && view.status.any(Status::SEEN_REPLY), config)
}

/// The state of a connection whose first packet came at `now`, whoever tracks it.
pub fn begun(now: Ticks) -> ProtoState {
    [0, KNOWN | u64::from(now.wrapping_add(STREAM_TICKS)), 0, 0, 0, 0, 0]
}

/// When a connection in `state` began, if that is known.
pub fn began(state: &ProtoState) -> Option<Ticks> {
    (state[1] & KNOWN != 0).then(|| (state[1] as u32).wrapping_sub(STREAM_TICKS))
}

/// What a UDP-Lite packet does: its length field says how much the checksum covers, and there must be one. The kernel sums
/// UDP's number up in the pseudo-header, and so does this.
pub fn track_lite(segment: &Segment<'_>, view: &View, config: &Config) -> Outcome {
    let bytes = segment.bytes;
    let &[_, _, _, _, len1, len2, check1, check2, ..] = bytes else {
        return Outcome::Invalid(None);
    };
    let covered = match usize::from(u16::from_be_bytes([len1, len2])) {
        0 => bytes.len(),
        covered => covered,
    };
    if covered < HEADER_LEN || covered > bytes.len() || check1 | check2 == 0 {
        return Outcome::Invalid(None);
    }
    // nf_ip_checksum_partial has protocol and length change places in the pseudo-header, where one byte holds the protocol.
    let len = match segment.packet.family {
        Family::V4 => bytes.len() as u16 & 0xff,
        Family::V6 => bytes.len() as u16,
    };
    if config.checksum && !segment.sums_up_as(Protocol::UDP, len, covered) {
        return Outcome::Invalid(None);
    }
    advance(view, view.status.any(Status::SEEN_REPLY), config)
}

#[inline(always)]
fn advance(view: &View, is_stream: bool, config: &Config) -> Outcome {
    let [one_way, stream] = config.udp;
    if !is_stream {
        return Outcome::valid(None, one_way);
    }
    let clash = view.status.any(Status::NAT_CLASH);
    Outcome::Valid(Update {
        proto: None,
        timeout: Some(stream),
        set: if clash { Status(0) } else { Status::ASSURED },
        kill: false,
    })
}
