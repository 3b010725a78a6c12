//! ICMP errors about a translated connection (nf_nat_icmp_reply_translation, nf_nat_icmpv6_reply_translation).
//!
//! ```text
//!  outer IP | ICMP error | quoted IP | quoted transport header, 8 bytes of it at least
//!  \- 3      \- 2, anew   \- 1, the other side of it, to what the receiver of the error sent
//! ```
//!
//! An error goes the way of the packets that its receiver gets; what it quotes was sent by the receiver, and came by
//! here translated. So the quote's source changes where the error's destination does, and the other way round.
//!
//! A redirect about a connection that is translated is dropped: its receiver would learn of the wrong address.

use super::rewrite::{Place, reach, rewrite};
use super::{SAVED_LEN, Translated, applies, follow};
use crate::packet::{Family, Frame, Parsed};
use crate::table::conntrack::tracker::quoted_transport_v6;
use crate::table::conntrack::{Direction, Status, Tuple};
use crate::table::nat::Manip;
use crate::wire::{Protocol, checksum, icmp, icmpv6, ipv4, ipv6};

const NAT: Status = Status(Status::SRC_NAT.0 | Status::DST_NAT.0);
const DONE: Status = Status(Status::SRC_NAT_DONE.0 | Status::DST_NAT_DONE.0);

/// Translates an ICMP error that is RELATED to a connection with `status` and `tuples`, at the hook of `manip`;
/// `direction` is the side of the connection that gets it.
pub fn icmp_error(
    frame: &mut Frame,
    packet: &mut Parsed,
    status: Status,
    direction: Direction,
    tuples: [&Tuple; 2],
    manip: Manip,
) -> Translated {
    let Some(bytes) = frame.bytes_mut().get_mut(..usize::from(packet.end)) else {
        return Translated::Drop;
    };
    let l4 = usize::from(packet.l4);
    let (header_len, redirect, proto) = match packet.family {
        Family::V4 => (ipv4::HEADER_LEN, icmp::Type::REDIRECT.0, Protocol::ICMP),
        Family::V6 => (ipv6::HEADER_LEN, icmpv6::Type::REDIRECT.0, Protocol::ICMPV6),
    };
    let quote_at = l4 + icmp::HEADER_LEN;
    if bytes.len() < quote_at + header_len {
        return Translated::Drop;
    }
    // Judged once, before anything is changed. Where conntrack judges checksums itself, this finds no other one.
    if manip == Manip::Destination && !is_right(packet, &bytes[l4..]) {
        return Translated::Drop;
    }
    if bytes[l4] == redirect && (status.0 & DONE.0 != DONE.0 || status.any(NAT)) {
        return Translated::Drop;
    }
    if !applies(status, direction, manip) {
        return Translated::Done;
    }
    let other = tuples[direction.opposite() as usize];
    let Some(target) = other.invert() else {
        return Translated::Drop;
    };
    let Some(quote) = quote_of(packet.family, bytes, quote_at) else {
        return Translated::Punt;
    };
    let changed = quote.l4.map_or(quote_at + header_len, |l4| l4 + reach(other.proto));
    if changed.min(bytes.len()) > SAVED_LEN {
        return Translated::Punt;
    }
    if !rewrite(bytes, quote, other, manip.opposite()) {
        return Translated::Drop;
    }
    fill_checksum(packet, &mut bytes[l4..]);
    let own = Place {
        l3: packet.l3.into(),
        l4: Some(l4),
    };
    let target = Tuple {
        proto: proto.0,
        ..target
    };
    if !rewrite(bytes, own, &target, manip) {
        return Translated::Drop;
    }
    follow(packet, &target, manip);
    Translated::Done
}

/// Where the quoted packet's headers are. `None` for an IPv4 header that says it is shorter than it is: the kernel
/// would change the one in the other.
fn quote_of(family: Family, bytes: &[u8], at: usize) -> Option<Place> {
    let quote = bytes.get(at..)?;
    let l4 = match family {
        Family::V4 => {
            let len = usize::from(quote.first()? & 0x0f) * 4;
            Some(at + (len >= ipv4::HEADER_LEN).then_some(len)?)
        }
        Family::V6 => quoted_transport_v6(quote).map(|offset| at + offset),
    };
    Some(Place { l3: at, l4 })
}

fn pseudo(packet: &Parsed, message: &[u8]) -> u64 {
    match packet.family {
        Family::V4 => 0,
        Family::V6 => checksum::pseudo_v6(packet.src, packet.dst, Protocol::ICMPV6.0, message.len() as u32),
    }
}

fn is_right(packet: &Parsed, message: &[u8]) -> bool {
    checksum::fold(pseudo(packet, message) + checksum::sum(message)) == 0xffff
}

fn fill_checksum(packet: &Parsed, message: &mut [u8]) {
    message[2..4].fill(0);
    let check = !checksum::fold(pseudo(packet, message) + checksum::sum(message));
    message[2..4].copy_from_slice(&check.to_be_bytes());
}
