//! Which flow is a frame of? A number made of its addresses, protocol and ports (what skb_get_hash looks at), for fq_codel, sfq and fq. The
//! kernel's own number has a random seed, so that this one is as good as any.
//!
//! A frame that is no IP packet, or too short for one, is of the flow of its Ethernet header. Fragments have no ports, so that all of
//! a packet are of one flow.

use crate::table::filter::{Facts, classify};
use crate::table::qdisc::{Handle, Qdisc};
use std::hash::BuildHasher;

/// VLAN tags that are skipped.
const TAGS_MAX: usize = 2;

/// How a frame gets to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Its priority or a filter names it.
    Flow(u32),
    /// By its hash.
    Hash,
    /// There are filters, and none names one: it is dropped.
    Lost,
}

impl Choice {
    /// Among so many flows (fq_codel_classify, sfq_classify).
    #[inline]
    pub fn of(root: &Qdisc, facts: &Facts<'_>, flows: u32) -> Self {
        let named = |class: Handle| class.minor().checked_sub(1).filter(|&flow| flow < flows);
        let priority = Handle(facts.priority);
        if priority.of_qdisc() == root.handle
            && let Some(flow) = named(priority)
        {
            return Self::Flow(flow);
        }
        if root.filters.is_empty() {
            return Self::Hash;
        }
        classify(&root.filters, facts)
            .and_then(named)
            .map_or(Self::Lost, Self::Flow)
    }
}

/// A hash as a number below `most`.
#[inline]
pub(super) fn scale(hash: u32, most: u32) -> u32 {
    ((u64::from(hash) * u64::from(most)) >> 32) as u32
}

/// Another hash of the same flow.
pub(super) fn rehash(hash: u32, seed: u64) -> u32 {
    let hasher = foldhash::fast::FixedState::with_seed(seed);
    (hasher.hash_one(hash) >> 32) as u32
}

/// A number for the flow of a frame.
pub(super) fn flow_hash(frame: &[u8], seed: u64) -> u32 {
    let hasher = foldhash::fast::FixedState::with_seed(seed);
    let hash = match key(frame) {
        Some((addresses, rest)) => hasher.hash_one((addresses, rest)),
        None => hasher.hash_one(frame.get(..14)),
    };
    (hash >> 32) as u32
}

/// Both addresses, and protocol and ports. No ports where the packet is a fragment.
fn key(frame: &[u8]) -> Option<(&[u8], [u8; 5])> {
    let word = |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let mut l3 = 14;
    for _ in 0..TAGS_MAX {
        if matches!(word(frame, l3 - 2)?, 0x8100 | 0x88a8) {
            l3 += 4;
        }
    }
    let packet = frame.get(l3..)?;
    let (addresses, protocol, l4) = match word(frame, l3 - 2)? {
        0x0800 => {
            let is_fragment = word(packet, 6)? & 0x3fff != 0;
            let l4 = (!is_fragment).then_some(usize::from(packet.first()? & 15) * 4);
            (packet.get(12..20)?, *packet.get(9)?, l4)
        }
        0x86dd => (packet.get(8..40)?, *packet.get(6)?, Some(40)),
        _ => return None,
    };
    let has_ports = matches!(protocol, 6 | 17 | 33 | 132 | 136);
    let ports = l4
        .filter(|_| has_ports)
        .and_then(|l4| packet.get(l4..l4 + 4))
        .unwrap_or(&[0; 4]);
    Some((addresses, [protocol, ports[0], ports[1], ports[2], ports[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(tags: usize, last: u8, port: u8, fragment: u8) -> Vec<u8> {
        let mut frame = vec![2; 12];
        (0..tags).for_each(|_| frame.extend([0x81, 0, 0, 5]));
        frame.extend([
            8, 0, 0x45, 0, 0, 32, 0, 1, fragment, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, last,
        ]);
        frame.extend([0, port, 0, 9, 0, 12, 0, 0]);
        frame
    }

    #[test]
    fn flows_differ_by_addresses_and_ports() {
        let hash = |frame: Vec<u8>| flow_hash(&frame, 7);
        assert_eq!(hash(udp(0, 1, 1, 0)), hash(udp(0, 1, 1, 0)));
        assert_eq!(hash(udp(0, 1, 1, 0)), hash(udp(2, 1, 1, 0)));
        assert_ne!(hash(udp(0, 1, 1, 0)), hash(udp(0, 2, 1, 0)));
        assert_ne!(hash(udp(0, 1, 1, 0)), hash(udp(0, 1, 2, 0)));
        assert_eq!(
            hash(udp(0, 1, 1, 0x20)),
            hash(udp(0, 1, 2, 0x20)),
            "fragments have no ports"
        );
        assert_ne!(flow_hash(&udp(0, 1, 1, 0), 7), flow_hash(&udp(0, 1, 1, 0), 8));
    }

    #[test]
    fn short_frames_have_a_hash_too() {
        let whole = udp(1, 1, 1, 0);
        (0..whole.len()).for_each(|len| _ = flow_hash(&whole[..len], 7));
    }
}
