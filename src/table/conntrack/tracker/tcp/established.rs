//! The segment that most are: of an established connection, with ACK and neither SYN, FIN nor RST, in the windows. What
//! `track` and `window` say of it, on the words as they lie, without unpacking them.
//!
//! ```text
//!  bail out, and let the slow path judge, if
//!    the connection is new, or its state is not ESTABLISHED
//!    the segment has SYN, FIN or RST, or no ACK
//!    a side's window is not known yet
//!    the receiver permits SACK, and there are options other than a timestamp
//!    one of the four inequalities fails
//! ```
//!
//! A word of `state` holds one number of both sides: turned by half for the original direction, the sender's is low and
//! the receiver's high, and turned back it is as it was. A test holds this against the slow path.

use super::super::{Update, View};
use super::state::{flag, number};
use super::track::{Header, timeout_of};
use super::transitions::Index;
use super::window::{ACK_WINDOW_MIN, after, before};
use crate::table::conntrack::config::TCP_UNACK;
use crate::table::conntrack::{Config, Direction, Status};

/// What the segment does; `None` if the slow path must say.
#[inline(always)]
pub(super) fn advance(header: &Header<'_>, view: &View, direction: Direction, config: &Config) -> Option<Update> {
    let [small, ends, max_ends, max_acks, max_wins, last, tail] = view.proto;
    let established = small as u8 & 0x0f == number::ESTABLISHED;
    if !view.confirmed || !established || header.index != Index::Ack {
        return None;
    }
    let turn = match direction {
        Direction::Original => 32,
        Direction::Reply => 0,
    };
    let both = |word: u64| {
        let word = word.rotate_right(turn);
        (word as u32, (word >> 32) as u32)
    };
    let (mut end, other_end) = both(ends);
    let (max_end, mut other_max_end) = both(max_ends);
    let (mut max_ack, other_max_ack) = both(max_acks);
    let (mut max_win, mut other_max_win) = both(max_wins);
    let flags = (tail as u16).rotate_right(turn / 4);
    let (mut own_flags, mut other_flags) = (flags as u8, (flags >> 8) as u8);
    let scale = (tail >> (20 + turn / 8)) as u32 & 0x0f;

    let has_blocks = other_flags & flag::SACK_PERM != 0 && !header.has_no_sack();
    if max_win == 0 || other_max_win == 0 || has_blocks {
        return None;
    }
    let ack_min = other_end.wrapping_sub(max_win.max(ACK_WINDOW_MIN)).wrapping_sub(1);
    let inside = before(header.seq, max_end.wrapping_add(1))
        & before(header.ack, other_end.wrapping_add(1))
        & after(header.end, end.wrapping_sub(other_max_win).wrapping_sub(1))
        & after(header.ack, ack_min);
    if !inside {
        return None;
    }

    let window = u32::from(header.window) << scale;
    max_win = max_win.max(window);
    if after(header.end, end) {
        end = header.end;
        own_flags |= flag::DATA_UNACKNOWLEDGED;
    }
    if own_flags & flag::MAXACK_SET == 0 || after(header.ack, max_ack) {
        max_ack = header.ack;
    }
    own_flags |= flag::MAXACK_SET;
    if after(header.end, max_end) {
        other_max_win = other_max_win.wrapping_add(header.end.wrapping_sub(max_end));
    }
    let edge = header.ack.wrapping_add(window);
    if after(edge, other_max_end.wrapping_sub(1)) {
        other_max_end = edge.wrapping_add(u32::from(window == 0));
    }
    if header.ack == other_end {
        other_flags &= !flag::DATA_UNACKNOWLEDGED;
    }

    // Of what `count_again` compares, the direction and the window lie in the first word, and the end in the last.
    let this = u64::from(header.seq) << 32 | u64::from(header.ack);
    let same_way = direction as u8 == (small >> 4) as u8 & 1;
    let again = same_way && last == this && (tail >> 32) as u32 == header.end && (small >> 24) as u16 == header.window;
    let retrans = if again { (small >> 8) as u8 } else { 0 };
    let retrans = retrans.wrapping_add(again.into());
    let kept = small & 0x00ff_000f; // the state, and the flags of the last SYN
    let small = kept
        | u64::from(direction as u8) << 4
        | u64::from(Index::Ack as u8) << 5
        | u64::from(retrans) << 8
        | u64::from(header.window) << 24;

    let pair = |own: u32, other: u32| (u64::from(other) << 32 | u64::from(own)).rotate_left(turn);
    let flags = (u16::from(other_flags) << 8 | u16::from(own_flags)).rotate_left(turn / 4);
    let tail = u64::from(header.end) << 32 | tail & 0xffff_0000 | u64::from(flags);

    let either = own_flags | other_flags;
    let mut timeout = timeout_of(number::ESTABLISHED, retrans, either, header.window, Index::Ack, config);
    let seen_reply = view.status.any(Status::SEEN_REPLY);
    if !seen_reply {
        timeout = timeout.min(config.tcp[TCP_UNACK]);
    }
    Some(Update {
        proto: Some([
            small,
            pair(end, other_end),
            pair(max_end, other_max_end),
            pair(max_ack, other_max_ack),
            pair(max_win, other_max_win),
            this,
            tail,
        ]),
        timeout: Some(timeout),
        set: if seen_reply { Status::ASSURED } else { Status(0) },
        kill: false,
    })
}
