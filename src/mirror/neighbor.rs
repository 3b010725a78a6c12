//! Neighbours: RTM_NEWNEIGH and RTM_DELNEIGH of IPv4 and IPv6, on Ethernet links. An entry is carried while the kernel
//! itself sends by it (NUD_VALID: PERMANENT, NOARP, REACHABLE, PROBE, STALE, DELAY); proxied entries are answers, not
//! neighbours. As net/core/neighbour.c. Bounded by the kernel's own table (gc_thresh3).

use super::link::Links;
use super::netlink::{Message, as_addr, family, u16_at, u32_at};
use crate::packet::{Addr, Family};
use crate::table::iface::IfaceIndex;
use crate::table::neighbor::Neighbors;

const HEADER: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NTF_PROXY: u8 = 8;
/// PERMANENT, NOARP, REACHABLE, PROBE, STALE, DELAY.
const NUD_VALID: u16 = 0x80 | 0x40 | 0x02 | 0x10 | 0x04 | 0x08;

/// Takes in RTM_NEWNEIGH or RTM_DELNEIGH; whether the table changed.
pub fn apply(neighbors: &mut Neighbors, links: &Links, message: Message<'_>) -> bool {
    let Some((header, attributes)) = message.split(HEADER) else {
        return false;
    };
    let Some(family) = family(header[0]) else { return false };
    if header[10] & NTF_PROXY != 0 {
        return false;
    }
    let (mut dst, mut mac) = (None, None);
    for (kind, value) in attributes {
        match kind {
            NDA_DST => dst = as_addr(value),
            NDA_LLADDR => mac = <[u8; 6]>::try_from(value).ok(),
            _ => {}
        }
    }
    let Some((_, addr)) = dst.filter(|&(f, _)| f == family) else {
        return false;
    };
    if is_multicast(family, addr) {
        return false;
    }
    let Some(link) = links.get(u32_at(header, 4).unwrap_or_default()) else {
        return false;
    };
    let Some(index) = link.index else { return false };
    let state = u16_at(header, 8).unwrap_or_default();
    let usable = message.kind == libc::RTM_NEWNEIGH && state & NUD_VALID != 0 && link.info.is_ethernet();
    match mac {
        Some(mac) if usable => {
            let same = neighbors.lookup(index, family, addr) == Some(&mac);
            if !same {
                neighbors.insert(index, family, addr, mac);
            }
            !same
        }
        _ => neighbors.remove(index, family, addr),
    }
}

/// No packet is forwarded to a group, and the kernel makes such entries without a word.
fn is_multicast(family: Family, addr: Addr) -> bool {
    match family {
        Family::V4 => addr >> 28 == 0xe,
        Family::V6 => addr >> 120 == 0xff,
    }
}

/// Takes out the neighbours of a link that is gone.
pub fn forget(neighbors: &mut Neighbors, gone: IfaceIndex) -> bool {
    let of_link: Vec<_> = neighbors.iter().filter(|entry| entry.0 == gone).collect();
    for &(index, family, addr, _) in &of_link {
        neighbors.remove(index, family, addr);
    }
    !of_link.is_empty()
}
