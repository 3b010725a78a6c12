//! Both sides of a TCP or UDP packet at once, for the cached walk: one pass, two sums.
//!
//! The bytes are those that [`manip`](super::manip) leaves at the two hooks, whichever of them apply: differences add
//! up, and each way ends with the one zero.

use crate::packet::{Family, Frame, Parsed};
use crate::table::conntrack::Tuple;
use crate::wire::checksum::Delta;
use crate::wire::{Protocol, ipv4, ipv6, tcp, udp};

/// Gives the TCP or UDP packet in `frame`, of which `packet` says what it is like, the addresses and ports of `target`:
/// the inverse of its connection's tuple of the other direction. For connections that are translated; `packet` is not
/// brought after.
#[inline(always)]
pub fn translate(frame: &mut Frame, packet: &Parsed, target: &Tuple) {
    let l3 = usize::from(packet.l3);
    let Some((head, segment)) = frame.bytes_mut().split_at_mut_checked(packet.l4.into()) else {
        return;
    };
    let Some(network) = head.get_mut(l3..) else { return };
    if Protocol(packet.proto) == Protocol::TCP {
        let Some(segment) = segment.first_chunk_mut::<{ tcp::CHECKSUM_AT + 2 }>() else {
            return;
        };
        let Some(addresses) = addresses(network, packet, target) else {
            return;
        };
        let delta = addresses.and(ports(packet, target));
        let check = delta.apply(u16::from_be_bytes([segment[16], segment[17]]));
        segment[16..18].copy_from_slice(&check.to_be_bytes());
        segment[..2].copy_from_slice(&target.sport.to_be_bytes());
        segment[2..4].copy_from_slice(&target.dport.to_be_bytes());
    } else {
        let Some(segment) = segment.first_chunk_mut::<{ udp::HEADER_LEN }>() else {
            return;
        };
        let Some(addresses) = addresses(network, packet, target) else {
            return;
        };
        let delta = addresses.and(ports(packet, target));
        let check = delta.apply_udp(u16::from_be_bytes([segment[6], segment[7]]));
        segment[6..8].copy_from_slice(&check.to_be_bytes());
        segment[..2].copy_from_slice(&target.sport.to_be_bytes());
        segment[2..4].copy_from_slice(&target.dport.to_be_bytes());
    }
}

#[inline(always)]
fn ports(packet: &Parsed, target: &Tuple) -> Delta {
    let joined = |source: u16, destination: u16| u32::from(source) << 16 | u32::from(destination);
    Delta::NONE.field32(joined(packet.sport, packet.dport), joined(target.sport, target.dport))
}

/// Sets the addresses, and says what that makes of a sum. `None`, and nothing done, where the header is cut.
#[inline(always)]
fn addresses(network: &mut [u8], packet: &Parsed, target: &Tuple) -> Option<Delta> {
    match packet.family {
        Family::V4 => {
            let header = network.first_chunk_mut::<{ ipv4::HEADER_LEN }>()?;
            let joined = |source: u128, destination: u128| (source as u64) << 32 | destination as u32 as u64;
            let new = joined(target.src, target.dst);
            let delta = Delta::NONE.field64(joined(packet.src, packet.dst), new);
            let check = delta.apply(u16::from_be_bytes([header[10], header[11]]));
            header[10..12].copy_from_slice(&check.to_be_bytes());
            header[12..20].copy_from_slice(&new.to_be_bytes());
            Some(delta)
        }
        Family::V6 => {
            let header = network.first_chunk_mut::<{ ipv6::HEADER_LEN }>()?;
            header[8..24].copy_from_slice(&target.src.to_be_bytes());
            header[24..40].copy_from_slice(&target.dst.to_be_bytes());
            let delta = Delta::NONE.field128(packet.src, target.src);
            Some(delta.field128(packet.dst, target.dst))
        }
    }
}
