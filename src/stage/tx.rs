//! tx: every decision is made, now the frame changes: new Ethernet addresses, one hop less, and the padding behind the IP
//! packet goes, as the kernel trims it (pskb_trim_rcsum in ip_rcv_core). From here the frame goes to the egress port's ring.

use crate::packet::{Family, Frame, Parsed};
use crate::wire::ether::ADDRESSES;
use crate::wire::ipv4;
use crate::wire::ipv6;

/// Rewrites `frame` for its next hop.
#[inline]
pub fn rewrite(frame: &mut Frame, packet: &Parsed, from: &[u8; 6], to: &[u8; 6]) {
    frame.truncate(usize::from(packet.end));
    let bytes = frame.bytes_mut();
    if let Some(addresses) = bytes.first_chunk_mut::<ADDRESSES>() {
        addresses[..6].copy_from_slice(to);
        addresses[6..].copy_from_slice(from);
    }
    let l3 = usize::from(packet.l3);
    match (packet.family, bytes.get_mut(l3..)) {
        (Family::V4, Some(header)) => ipv4::decrease_ttl(header),
        (Family::V6, Some(header)) => ipv6::decrease_hop_limit(header),
        (_, None) => {}
    }
}
