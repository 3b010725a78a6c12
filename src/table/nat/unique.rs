//! The choice of a tuple (get_unique_tuple and what it calls, net/netfilter/nf_nat_core.c).
//!
//! ```text
//!  1  source only: the tuple as it is, if in range and free; else where its source is mapped already
//!  2  an address of the range: the only one, or by a hash of source and destination, so that it is always the same one
//!  3  the port as it is, if in range and free
//!  4  ports of the range in turn, from a random one on (destination: from the first): 128, then 64, 32, 16 and 8
//! ```
//!
//! `random` skips 1 and 3. Without a range a source port stays in its class: below 512, below 1024, above. A
//! destination port stays as it is without one.
//!
//! The hash of 2 is not a free choice: it has no secret, and servers are to see a client come from one address always.
//! It is computed to the bit of the kernel on a little-endian machine. The random numbers of 4 are one.
//!
//! The last 32 tries of each round of 4 may end a TCP connection that is over but for its TIME_WAIT, as a server would
//! take a new SYN for its reuse.

use super::range::{Range, flag, has_port};
use super::{Holder, Manip, World};
use crate::packet::{Addr, Family};
use crate::table::conntrack::tracker::tcp::{self, Tcp};
use crate::table::conntrack::{ProtoState, Record, Status, Tuple};
use crate::table::rules::hash::{jhash, scale};
use crate::wire::Protocol;

/// The tries of the first round, and the fewest after which there is another one.
const TRIES_MAX: u32 = 128;
const TRIES_MIN: u32 = 16;
/// So many tries before its end a round begins to end connections.
const TRIES_HARDER: u32 = TRIES_MAX / 4;

/// TCP_CONNTRACK_TIME_WAIT and TCP_CONNTRACK_SYN_SENT.
const TIME_WAIT: u8 = 7;
const SYN_SENT: u8 = 1;

const NAT: Status = Status(Status::SRC_NAT.0 | Status::DST_NAT.0 | Status::SEQ_ADJUST.0);

/// What was chosen.
pub(super) struct Choice {
    /// What packets of the original direction become, as far as it is decided.
    pub tuple: Tuple,
    /// Another connection has it.
    pub taken: bool,
}

/// Chooses for `record`, whose packets look like `current` so far.
pub(super) fn choose(record: &Record, current: &Tuple, range: &Range, manip: Manip, world: &mut impl World) -> Choice {
    let choice = |tuple, taken| Choice { tuple, taken };
    let random = range.has(flag::RANDOM_ALL);
    if manip == Manip::Source && !random {
        if range.has_source(current) {
            if !is_used_untranslated(record, current, world) {
                return choice(*current, false);
            }
        } else if let Some(tuple) = mapped(current, range, world)
            && !is_used(record, &tuple, world)
        {
            return choice(tuple, false);
        }
    }

    let mut tuple = *current;
    if let Some(addresses) = range.addresses {
        let chosen = one_of(addresses, &tuple, range, manip);
        match manip {
            Manip::Source => tuple.src = chosen,
            Manip::Destination => tuple.dst = chosen,
        }
    }

    let stays = match range.ports {
        _ if random => false,
        Some(ports) => !range.has(flag::PROTO_OFFSET) && has_port(ports, &tuple, manip),
        None => true,
    };
    if stays {
        // Where there is but one port the kernel does not look. Of a source it would find out later.
        let is_only = range.ports.is_some_and(|(first, last)| first == last);
        let looks = !is_only || manip == Manip::Source;
        let taken = looks && is_used(record, &tuple, world);
        if !taken || is_only {
            return choice(tuple, taken);
        }
    }
    let taken = !find_port(record, &mut tuple, range, manip, world);
    choice(tuple, taken)
}

/// Where a source goes already, if that is in range (find_appropriate_src).
fn mapped(current: &Tuple, range: &Range, world: &impl World) -> Option<Tuple> {
    world.mapping(current, |reply| {
        let translated = reply.invert()?;
        let tuple = Tuple {
            src: translated.src,
            sport: translated.sport,
            ..*current
        };
        range.has_source(&tuple).then_some(tuple)
    })
}

/// An address of the range (find_best_ips_proto).
fn one_of((first, last): (Addr, Addr), tuple: &Tuple, range: &Range, manip: Manip) -> Addr {
    if first == last {
        return first;
    }
    let words = match tuple.family {
        Family::V4 => 1,
        Family::V6 => 4,
    };
    // Word 0 is the first on the wire.
    let word = |address: Addr, at: u32| (address >> (32 * (words - 1 - at))) as u32;
    // A word as it lies in the kernel's memory.
    let raw = |host: u32| u32::from_le_bytes(host.to_be_bytes());
    let persistent = range.has(flag::PERSISTENT);
    let mut source = [0; 16];
    match tuple.family {
        Family::V4 => source[..4].copy_from_slice(&(tuple.src as u32).to_be_bytes()),
        Family::V6 => source = tuple.src.to_be_bytes(),
    }
    let seed = match persistent {
        true => 0,
        false => raw(tuple.dst as u32) ^ u32::from(tuple.zone),
    };
    let mut hash = jhash(&source, seed);
    let mut chosen: Addr = 0;
    let mut below_last = false;
    for at in 0..words {
        let (start, count) = match below_last {
            false => (
                word(first, at),
                word(last, at).wrapping_sub(word(first, at)).wrapping_add(1),
            ),
            true => (0, u32::MAX),
        };
        let part = start.wrapping_add(scale(hash, count));
        chosen = chosen << 32 | Addr::from(part);
        below_last |= part != word(last, at);
        if !persistent {
            hash ^= match manip {
                Manip::Source => raw(word(tuple.dst, at)),
                // The kernel writes the choice where it reads the destination.
                Manip::Destination => raw(part),
            };
        }
    }
    chosen
}

/// Tries ports; whether one is free (nf_nat_l4proto_unique_tuple).
fn find_port(record: &Record, tuple: &mut Tuple, range: &Range, manip: Manip, world: &mut impl World) -> bool {
    let is_icmp = match Protocol(tuple.proto) {
        Protocol::ICMP | Protocol::ICMPV6 => true,
        Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP => false,
        _ => return !is_used(record, tuple, world),
    };
    // Its identifier is the same in both directions.
    let at_source = is_icmp || manip == Manip::Source;
    let port = if at_source { tuple.sport } else { tuple.dport };
    let (first, count) = match (range.ports, is_icmp) {
        (None, true) => (0, 1 << 16),
        (None, false) if manip == Manip::Destination => return !is_used(record, tuple, world),
        (None, false) => class_of(port),
        (Some((first, last)), true) => (first, u32::from(last).wrapping_sub(first.into()).wrapping_add(1)),
        (Some((first, last)), false) => (first.min(last), u32::from(first.abs_diff(last)) + 1),
    };
    let mut offset = if range.has(flag::PROTO_OFFSET) {
        port.wrapping_sub(range.base)
    } else if range.has(flag::RANDOM_ALL) || manip == Manip::Source {
        world.random() as u16
    } else {
        0
    };
    let mut tries = count.min(TRIES_MAX);
    loop {
        for left in (1..=tries).rev() {
            let port = (u32::from(first) + u32::from(offset) % count) as u16;
            match at_source {
                true => tuple.sport = port,
                false => tuple.dport = port,
            }
            if !is_used_harder(record, tuple, left, world) {
                return true;
            }
            offset = offset.wrapping_add(1);
        }
        if tries >= count || tries < TRIES_MIN {
            return false;
        }
        tries /= 2;
        offset = world.random() as u16;
    }
}

/// The first port of those that a source port may become, and how many there are.
fn class_of(port: u16) -> (u16, u32) {
    match port {
        0..512 => (1, 511),
        512..1024 => (600, 424),
        _ => (1024, 64512),
    }
}

/// The connection that stands in the way of `tuple` becoming `record`'s (nf_nat_used_tuple). One with the same original
/// tuple does not: it is the same flow, which another worker has begun too.
fn in_the_way(record: &Record, tuple: &Tuple, world: &impl World) -> Option<Holder> {
    let holder = world.holder(&tuple.invert()?)?;
    (holder.original != record.original).then_some(holder)
}

fn is_used(record: &Record, tuple: &Tuple, world: &impl World) -> bool {
    in_the_way(record, tuple, world).is_some()
}

/// The same for a tuple that nothing has changed (nf_nat_used_tuple_new): one in the way may be what another worker
/// made of an answer, at the same time. Then this one is no answer's: it is refused later, and looks again.
fn is_used_untranslated(record: &Record, tuple: &Tuple, world: &impl World) -> bool {
    let Some(holder) = in_the_way(record, tuple, world) else {
        return false;
    };
    let is_mirrored = holder.original == record.reply && holder.reply == record.original;
    let allows_clash = matches!(Protocol(tuple.proto), Protocol::UDP | Protocol::UDPLITE | Protocol::GRE);
    let translated = record.status.any(NAT) || holder.status.any(NAT);
    !(allows_clash && is_mirrored && !translated)
}

/// The same with `tries_left`: the last ones may end the connection that stands in the way (nf_nat_used_tuple_harder).
fn is_used_harder(record: &Record, tuple: &Tuple, tries_left: u32, world: &mut impl World) -> bool {
    let may_end = tries_left <= TRIES_HARDER && tuple.proto == Protocol::TCP.0 && tcp::state(&record.proto) == SYN_SENT;
    if !may_end {
        return is_used(record, tuple, world);
    }
    let Some(reply) = tuple.invert() else {
        return true;
    };
    let Some(holder) = world.holder(&reply) else {
        return false;
    };
    let may_go = holder.reply == reply
        && is_over(&holder.proto)
        && holder.status.any(Status::SRC_NAT)
        && !holder.status.any(Status::FIXED_TIMEOUT | Status::DYING);
    !(may_go && has_advanced(&holder, record) && world.end(&holder))
}

/// Whether a TCP connection is over but for what may come late.
pub(super) fn is_over(proto: &ProtoState) -> bool {
    tcp::state(proto) >= TIME_WAIT
}

/// Whether the sequence numbers of `new` lie behind those of `old`, so that late answers to that are no answers to
/// this.
fn has_advanced(old: &Holder, new: &Record) -> bool {
    let end = |state| Tcp::unpack(state).sides[0].end;
    end(&new.proto).wrapping_sub(end(&old.proto)) as i32 > 0
}
