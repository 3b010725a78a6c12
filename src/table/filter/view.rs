//! A frame as the kernel's filters see it: with its outermost VLAN tag beside it, not in it (skb->vlan_tci), so that the
//! network header follows the EtherType behind the tag, and the protocol is that of the tag (skb_protocol).
//!
//! Offsets are the kernel's, from the beginning of the Ethernet header, so 14 is the network header, tagged or not. Where the
//! frame ends there is nothing to read, as for skb_header_pointer.

use super::Facts;

/// The network header's offset.
pub(super) const NETWORK: i32 = 14;
const MACS: usize = 12;
const TAG_LEN: usize = 4;
const VLAN: u16 = 0x8100;
const VLAN_OUTER: u16 = 0x88a8;

/// See the file's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    bytes: &'a [u8],
    /// Bytes of a tag behind the addresses.
    tag: usize,
    pub(super) protocol: u16,
    pub(super) mark: u32,
}

impl<'a> View<'a> {
    #[inline]
    pub(super) fn new(facts: &Facts<'a>) -> Self {
        let bytes = facts.bytes;
        let kind = bytes.get(MACS..MACS + 2).and_then(|kind| kind.first_chunk());
        let protocol = kind.map_or(0, |kind| u16::from_be_bytes(*kind));
        Self {
            bytes,
            tag: if matches!(protocol, VLAN | VLAN_OUTER) {
                TAG_LEN
            } else {
                0
            },
            protocol,
            mark: facts.mark,
        }
    }

    /// Its length without the tag.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.tag)
    }

    /// `N` bytes.
    #[inline]
    pub(super) fn read<const N: usize>(&self, offset: i32) -> Option<[u8; N]> {
        let offset = usize::try_from(offset).ok()?;
        if self.tag == 0 || offset >= MACS {
            return self.bytes.get(offset + self.tag..)?.first_chunk().copied();
        }
        let mut read = [0; N];
        for (at, byte) in (offset..).zip(&mut read) {
            *byte = *self.bytes.get(if at < MACS { at } else { at + self.tag })?;
        }
        Some(read)
    }
}
