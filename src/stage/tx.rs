//! tx: every decision is made, now the frame changes: new Ethernet addresses, one hop less, and the padding behind the IP
//! packet goes, as the kernel trims it (pskb_trim_rcsum in ip_rcv_core). From here the frame goes to the egress port's ring.

use crate::packet::{Family, Frame, Parsed};
use crate::table::destination::{Bridged, Out};
use crate::wire::{ether, ipv4, ipv6};

/// Rewrites `frame` for its next hop. The lengths were checked when it was parsed, so no view can refuse it.
#[inline(always)]
pub fn rewrite(frame: &mut Frame, packet: &Parsed, out: &Out) {
    frame.truncate(usize::from(packet.end));
    let Ok(mut ethernet) = ether::Packet::new_checked(frame.bytes_mut()) else {
        return;
    };
    ethernet.set_dst(&out.to);
    ethernet.set_src(&out.from);
    match packet.family {
        _ if out.bridged != Bridged::No => {}
        Family::V4 => {
            if let Ok(mut ip) = ipv4::Packet::new_checked(ethernet.payload_mut()) {
                ip.decrement_ttl();
            }
        }
        Family::V6 => {
            if let Ok(mut ip) = ipv6::Packet::new_checked(ethernet.payload_mut()) {
                ip.decrement_hop_limit();
            }
        }
    }
    if out.tag != [0; 4] {
        // There is headroom in every pool.
        frame.push_tag(out.tag);
    }
}
