//! Neighbours: RTM_NEWNEIGH and RTM_DELNEIGH of IPv4 and IPv6, on Ethernet links. An entry is carried while the kernel
//! itself sends by it (NUD_VALID: PERMANENT, NOARP, REACHABLE, PROBE, STALE, DELAY); proxied entries are answers, not
//! neighbours. Which are STALE is noted: of those the kernel hears no more unless it is told that they are used (`stale`).
//! As net/core/neighbour.c. Bounded by the kernel's own table (gc_thresh3).

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

const NUD_STALE: u16 = 0x04;

/// What a message changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeighborChange {
    /// The table.
    pub any: bool,
    /// Whether the kernel takes this one, by its link's number, for good among several nexthops.
    pub choice: Option<(u32, Family, Addr)>,
}

/// Takes in RTM_NEWNEIGH or RTM_DELNEIGH.
pub fn apply(neighbors: &mut Neighbors, links: &Links, message: Message<'_>) -> NeighborChange {
    take_in(neighbors, links, message).unwrap_or_default()
}

fn take_in(neighbors: &mut Neighbors, links: &Links, message: Message<'_>) -> Option<NeighborChange> {
    let (header, attributes) = message.split(HEADER)?;
    let family = family(header[0])?;
    if header[10] & NTF_PROXY != 0 {
        return None;
    }
    let (mut dst, mut mac) = (None, None);
    for (kind, value) in attributes {
        match kind {
            NDA_DST => dst = as_addr(value),
            NDA_LLADDR => mac = <[u8; 6]>::try_from(value).ok(),
            _ => {}
        }
    }
    let (_, addr) = dst.filter(|&(f, _)| f == family)?;
    if is_multicast(family, addr) {
        return None;
    }
    let link = links.get(u32_at(header, 4)?)?;
    let index = link.index?;
    let state = u16_at(header, 8).unwrap_or_default();
    let usable = message.kind == libc::RTM_NEWNEIGH && state & NUD_VALID != 0 && link.info.is_ethernet();
    let (other, any) = match mac {
        Some(mac) if usable => {
            let is_other = neighbors.lookup(index, family, addr) != Some(&mac);
            if is_other {
                neighbors.insert(index, family, addr, mac);
            }
            // Whoever has the way by it in a cache would leave no mark.
            let is_stale_now = neighbors.set_stale(index, family, addr, state & NUD_STALE != 0);
            (is_other, is_other || is_stale_now)
        }
        // One of which nothing was known may have been good as well: none is.
        _ => (true, neighbors.remove(index, family, addr)),
    };
    Some(NeighborChange {
        any,
        choice: other.then_some((link.info.ifindex, family, addr)),
    })
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
