//! What the walk decided for a destination: a worker's own cache of the last ways out. Most packets go where one went just
//! before; for them routing, the way out and the neighbour are one load instead of two tries and two hashes.
//!
//! ```text
//!  (family, dst) --hash--> place: generation, family, dst | link, port, MTU, both Ethernet addresses
//! ```
//!
//! An entry holds while the generation is the one it was made in, so any change of configuration ends all of them at once.
//! Only what follows from destination and configuration alone is in it; whoever asks has seen to it that no rule looks at
//! anything else. Bounded: 4096 places of one cache line, one place per destination, the last one stays. Destinations
//! chosen to collide cost the full walk, no more.

use super::iface::IfaceIndex;
use crate::packet::{Addr, Family, PortIndex};
use crate::wire::Mac;

/// 256 KiB: half of a small second-level cache.
const PLACES: usize = 4096;

/// Whether a packet is bridged past the hooks of IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Bridged {
    /// It is routed.
    #[default]
    No,
    /// To the Ethernet address that it came with.
    Same,
    /// To that of its next hop: its destination is translated.
    Redirected,
}

/// A way out, all the way to the Ethernet header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Out {
    /// The link.
    pub iface: IfaceIndex,
    /// The port that it is; of a bridge, the one behind which the next hop is.
    pub port: PortIndex,
    /// The longest IP packet that fits, in bytes: the route's MTU or the link's.
    pub mtu: u32,
    /// The link's Ethernet address.
    pub from: Mac,
    /// The next hop's.
    pub to: Mac,
    /// The VLAN tag that it leaves with, as it lies in the frame; 0 for none.
    pub tag: [u8; 4],
    /// Whether it is bridged, past the hooks of IP, and so loses no hop.
    pub bridged: Bridged,
}

#[derive(Clone, Debug)]
#[repr(align(64))]
struct Place {
    dst: Addr,
    /// 0 for none: snapshots count from 1.
    generation: u64,
    family: Family,
    out: Out,
}

/// See the module's head.
#[derive(Debug)]
pub struct Destinations {
    places: Box<[Place]>,
}

impl Destinations {
    /// Nothing is known.
    pub fn new() -> Self {
        let empty = Place {
            dst: 0,
            generation: 0,
            family: Family::V4,
            out: Out::default(),
        };
        Self {
            places: vec![empty; PLACES].into(),
        }
    }

    /// What was decided for `dst` in `generation`.
    #[inline]
    pub fn get(&self, generation: u64, family: Family, dst: Addr) -> Option<&Out> {
        let place = self.places.get(place(family, dst))?;
        (place.dst == dst && place.generation == generation && place.family == family).then_some(&place.out)
    }

    /// Keeps what was decided for `dst` in `generation`.
    #[inline]
    pub fn insert(&mut self, generation: u64, family: Family, dst: Addr, out: Out) {
        if let Some(place) = self.places.get_mut(place(family, dst)) {
            *place = Place {
                dst,
                generation,
                family,
                out,
            };
        }
    }
}

impl Default for Destinations {
    fn default() -> Self {
        Self::new()
    }
}

/// A folded multiply of the address's halves: cheap, and no pattern of addresses gathers in few places by itself.
#[inline]
fn place(family: Family, dst: Addr) -> usize {
    let high = (dst >> 64) as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let low = dst as u64 ^ 0xd1b5_4a32_d192_ed03 ^ family as u64;
    let product = u128::from(high) * u128::from(low);
    ((product >> 64) as u64 ^ product as u64) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_holds_for_its_generation_family_and_destination_only() {
        let mut cache = Destinations::new();
        let out = Out {
            mtu: 1500,
            ..Out::default()
        };
        cache.insert(7, Family::V4, 0x0a00_0001, out);
        assert_eq!(cache.get(7, Family::V4, 0x0a00_0001), Some(&out));
        assert_eq!(cache.get(8, Family::V4, 0x0a00_0001), None);
        assert_eq!(cache.get(7, Family::V6, 0x0a00_0001), None);
        assert_eq!(cache.get(7, Family::V4, 0x0a00_0002), None);
    }

    #[test]
    fn a_later_destination_takes_the_place() {
        let mut cache = Destinations::new();
        for dst in 0..10 * PLACES as Addr {
            cache.insert(1, Family::V6, dst << 64, Out::default());
            assert!(cache.get(1, Family::V6, dst << 64).is_some());
        }
    }
}
