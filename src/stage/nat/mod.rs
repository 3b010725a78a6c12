//! NAT of packets: addresses, ports and checksums become what `table::nat` decided for their connection. As
//! net/netfilter/nf_nat_proto.c of Linux 6.18, checksums to the byte.
//!
//! ```text
//!  a packet of direction d          target = inverse of the connection's tuple of the other direction
//!     prerouting    applies(Destination)?  ->  manip: destination = target's
//!     postrouting   applies(Source)?       ->  manip: source = target's
//!     in the cached walk                   ->  translate: both at once, TCP and UDP only
//!  an ICMP error about a connection -> icmp_error, at the same places: what it quotes, then its own addresses
//! ```
//!
//! Checksums follow by difference (RFC 1624): what was wrong stays wrong by as much, and 0xffff, the other zero, is
//! never left. Three are made anew: SCTP's, of an ICMP error whose quote changed, and those that a sender left to the
//! hardware, which rx has completed. A UDP checksum of 0 stays 0.
//!
//! It is no box of the walk: prerouting and postrouting call it. It changes the frame long before it is certain that
//! the packet leaves here. So the frame's head is saved before ([`Saved`]), and put back when the packet turns out to
//! be the kernel's. What would change more of a frame than is saved is the kernel's at once.

mod icmp;
mod rewrite;
mod saved;
#[cfg(test)]
mod tests;
mod translate;

pub use icmp::icmp_error;
pub use saved::{SAVED_LEN, Saved};
pub use translate::translate;

use crate::packet::{Flags, Frame, Parsed};
use crate::table::conntrack::{Direction, Status, Tuple};
use crate::table::nat::Manip;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Translated {
    /// It is translated, or needs no translation here.
    Done,
    /// The kernel drops it.
    Drop,
    /// It is the kernel's; nothing of it was changed.
    Punt,
}

/// Whether a packet of `direction` changes at the hook of `manip` (nf_nat_packet): answers change the other way round.
#[inline]
pub fn applies(status: Status, direction: Direction, manip: Manip) -> bool {
    let bit = match direction {
        Direction::Original => manip.bit(),
        Direction::Reply => manip.opposite().bit(),
    };
    status.any(bit)
}

/// Changes one side of a packet, in `frame` and in `packet`, to that of `target`: the inverse of its connection's tuple
/// of the other direction (nf_nat_manip_pkt). False: the kernel drops it, and the frame is as it was.
///
/// Not for fragments, and not for IPv6 extension headers.
pub fn manip(frame: &mut Frame, packet: &mut Parsed, target: &Tuple, manip: Manip) -> bool {
    let Some(bytes) = frame.bytes_mut().get_mut(..usize::from(packet.end)) else {
        return false;
    };
    let place = rewrite::Place {
        l3: packet.l3.into(),
        l4: Some(packet.l4.into()),
    };
    if !rewrite::rewrite(bytes, place, target, manip) {
        return false;
    }
    follow(packet, target, manip);
    true
}

/// Brings the fields of `packet` after its bytes.
fn follow(packet: &mut Parsed, target: &Tuple, manip: Manip) {
    let has_ports = packet.flags.any(Flags::PORTS) && packet.proto == target.proto;
    match manip {
        Manip::Source => {
            packet.src = target.src;
            if has_ports {
                packet.sport = target.sport;
            }
        }
        Manip::Destination => {
            packet.dst = target.dst;
            if has_ports {
                packet.dport = target.dport;
            }
        }
    }
}
