//! What rules write into a packet: TCP options; of the IP header TOS, traffic class and hop limit.
//!
//! ```text
//!  IPv4   bytes 0,1  version, length | TOS        8,9  hop limit | protocol         10,11 checksum
//!  IPv6   bytes 0,1  version, class, label        7    hop limit
//! ```
//!
//! Only what no connection and no NAT looks at: a store that would change another bit, or anything elsewhere, makes the packet
//! the kernel's. Whoever runs rules has saved the frame's head. What routing looks at is brought after ([`Parsed`]).
//!
//! From forward on the kernel's header has one hop less than the frame, and its checksum is of that. So a hop limit is
//! written with one more, and such a checksum that the last step, at tx, ends in the kernel's. As nft_payload_set_eval of
//! net/netfilter/nft_payload.c, inet_proto_csum_replace2.

use super::AtHook;
use crate::packet::{Family, Parsed};
use crate::stage::nat;
use crate::table::rules::expr::{Base, ChecksumFix};
use crate::table::rules::packet::Answer;
use crate::wire::checksum;

/// Where the checksum lies in a TCP header, in bytes.
const TCP_CHECKSUM_AT: usize = 16;
/// And in one of IPv4.
const IPV4_CHECKSUM_AT: usize = 10;
/// Bytes of an IP header that are written at most, from its beginning.
const WRITTEN_MAX: usize = 10;

/// The bits that may change, by family, of the first bytes of the header.
const MAY_CHANGE: [[u8; WRITTEN_MAX]; 2] = [
    [0, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0],
    [0x0f, 0xf0, 0, 0, 0, 0, 0, 0xff, 0, 0],
];

impl AtHook<'_> {
    /// See [`Packet::store`](crate::table::rules::packet::Packet::store).
    pub(super) fn write(&mut self, base: Base, offset: usize, bytes: &[u8], fix: ChecksumFix) -> Answer {
        let family = self.packet.family;
        let is_checked = fix.own == Some(IPV4_CHECKSUM_AT as u8);
        let fits = match family {
            // The kernel sums what begins at an odd place as if it were an even one.
            Family::V4 => is_checked && offset.is_multiple_of(2) && bytes.len().is_multiple_of(2),
            Family::V6 => fix.own.is_none(),
        };
        if base != Base::Network || fix.pseudo_header || !fits || offset + bytes.len() > WRITTEN_MAX {
            return Answer::Unknown;
        }
        // As the kernel has it by now.
        let mut header = [0; 20];
        let len = if is_checked { 12 } else { WRITTEN_MAX };
        if self.read(Base::Network, 0, &mut header[..len]) != Answer::Done {
            return Answer::Unknown;
        }
        let place = offset..offset + bytes.len();
        let old = &header[place.clone()];
        let allowed = &MAY_CHANGE[family as usize][place.clone()];
        let changes = old.iter().zip(bytes).zip(allowed);
        if changes.into_iter().any(|((old, new), may)| (old ^ new) & !may != 0) {
            return Answer::Unknown;
        }
        let stepped = self.oif.is_some() && !self.is_bridged();
        if is_checked {
            let word = |at: usize, bytes: &[u8]| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            let sum = (0..bytes.len())
                .step_by(2)
                .fold(word(IPV4_CHECKSUM_AT, &header), |sum, at| {
                    checksum::update16(sum, word(at, old), word(at, bytes))
                });
            let sum = checksum::never_zero(sum);
            let Some(sum) = (if stepped { before_ttl_step(sum) } else { Some(sum) }) else {
                return Answer::Unknown;
            };
            header[IPV4_CHECKSUM_AT..IPV4_CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
        }
        header[place].copy_from_slice(bytes);
        let hops = match family {
            Family::V4 => 8,
            Family::V6 => 7,
        };
        if stepped {
            let Some(more) = header[hops].checked_add(1) else {
                return Answer::Unknown;
            };
            header[hops] = more;
        }
        let l3 = usize::from(self.packet.l3);
        let Some(written) = self.frame.bytes_mut().get_mut(l3..l3 + len) else {
            return Answer::Unknown;
        };
        written.copy_from_slice(&header[..len]);
        follow(self.packet, &header, hops);
        Answer::Done
    }

    /// See [`Packet::store_tcp`](crate::table::rules::packet::Packet::store_tcp).
    pub(super) fn write_tcp(&mut self, offset: usize, bytes: &[u8]) -> Answer {
        let l4 = usize::from(self.packet.l4);
        let start = l4 + offset;
        let end = start + bytes.len();
        if end > nat::SAVED_LEN {
            return Answer::Unknown;
        }
        let Some(segment) = self.frame.bytes_mut().get_mut(l4..end.max(l4 + TCP_CHECKSUM_AT + 2)) else {
            return Answer::Break;
        };
        let Some(&[high, low]) = segment.get(TCP_CHECKSUM_AT..TCP_CHECKSUM_AT + 2) else {
            return Answer::Break;
        };
        let range = offset..offset + bytes.len();
        let words = segment[range.clone()].chunks_exact(2).zip(bytes.chunks_exact(2));
        let word = |pair: &[u8]| u16::from_be_bytes([pair[0], pair[1]]);
        let sum = words.fold(u16::from_be_bytes([high, low]), |sum, (old, new)| {
            checksum::update16(sum, word(old), word(new))
        });
        segment[range].copy_from_slice(bytes);
        segment[TCP_CHECKSUM_AT..TCP_CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
        Answer::Done
    }
}

/// Brings the fields of `packet` after its header.
fn follow(packet: &mut Parsed, header: &[u8], hops: usize) {
    packet.ttl = header[hops];
    packet.tos = match packet.family {
        Family::V4 => header[1],
        Family::V6 => header[0] << 4 | header[1] >> 4,
    };
}

/// The checksum that a step of the hop limit leads to `sum` from, if there is one.
fn before_ttl_step(sum: u16) -> Option<u16> {
    let candidates = [sum.wrapping_sub(0x0100), sum.wrapping_sub(0x0101)];
    candidates
        .into_iter()
        .find(|&before| checksum::after_ttl_step(before) == sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No step ends in 0xffff.
    #[test]
    fn a_step_can_be_undone() {
        for sum in 0..=u16::MAX {
            let before = before_ttl_step(sum).map(checksum::after_ttl_step);
            assert_eq!(before, (sum != 0xffff).then_some(sum));
        }
    }
}
