//! UDP and UDP-Lite: one way, both ways, a stream. nf_conntrack_proto_udp.c.
//!
//! A connection that still sends two seconds after its first packet, and was answered, is a stream: it lives longer, and is
//! assured. Word 1 of the state holds when that will be, plus a bit that it is known. UDP-Lite waits for no such moment: its
//! first packet after an answer makes the stream.

use super::{Outcome, Segment, Update, View};
use crate::table::conntrack::{Config, ProtoState, Status, TICKS_PER_SECOND, Ticks, is_past};
use crate::wire::Protocol;
use crate::wire::udp::HEADER_LEN;

const STREAM_TICKS: Ticks = 2 * TICKS_PER_SECOND;
const KNOWN: u64 = 1 << 32;

/// What a UDP packet does.
#[inline]
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
    advance(view, config, now)
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
    if config.checksum && !segment.sums_up(Protocol::UDP, covered) {
        return Outcome::Invalid(None);
    }
    let [one_way, stream] = config.udp;
    if !view.confirmed || !view.status.any(Status::SEEN_REPLY) {
        return Outcome::valid(view.proto, one_way);
    }
    answered(view, stream)
}

#[inline]
fn advance(view: &View, config: &Config, now: Ticks) -> Outcome {
    let [one_way, stream] = config.udp;
    if !view.confirmed {
        let proto: ProtoState = [0, KNOWN | u64::from(now.wrapping_add(STREAM_TICKS)), 0, 0, 0, 0, 0];
        return Outcome::valid(proto, one_way);
    }
    if !view.status.any(Status::SEEN_REPLY) {
        return Outcome::valid(view.proto, one_way);
    }
    // One that came from elsewhere (imported) has no such moment: it is a stream.
    let is_stream = view.proto[1] & KNOWN == 0 || is_past(view.proto[1] as u32, now);
    if !is_stream {
        return Outcome::valid(view.proto, one_way);
    }
    answered(view, stream)
}

fn answered(view: &View, stream: Ticks) -> Outcome {
    let clash = view.status.any(Status::NAT_CLASH);
    Outcome::Valid(Update {
        proto: view.proto,
        timeout: Some(stream),
        set: if clash { Status(0) } else { Status::ASSURED },
        kill: false,
    })
}
