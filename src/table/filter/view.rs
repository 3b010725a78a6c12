//! A frame as the kernel's filters see it: with its outermost VLAN tag beside it, not in it (skb->vlan_tci), so that the
//! network header follows the EtherType behind the tag, and the protocol is that of the tag (skb_protocol).
//!
//! Offsets are the kernel's, from the beginning of the Ethernet header, so 14 is the network header, tagged or not. Where the
//! frame ends there is nothing to read, as for skb_header_pointer.

use super::Facts;
use super::flower::Fields;
use std::cell::OnceCell;

/// The network header's offset.
pub(super) const NETWORK: i32 = 14;
const MACS: usize = 12;
const TAG_LEN: usize = 4;
/// EtherTypes begin here (ETH_P_802_3_MIN).
const LENGTHS_END: u16 = 0x600;
/// ETH_P_802_3, ETH_P_802_2.
const NOVELL: u16 = 1;
const LLC: u16 = 4;
const VLAN: u16 = 0x8100;
const VLAN_OUTER: u16 = 0x88a8;

/// See the file's head.
#[derive(Debug)]
pub(super) struct View<'a> {
    bytes: &'a [u8],
    /// Bytes of a tag behind the addresses.
    tag: usize,
    pub(super) protocol: u16,
    pub(super) mark: u32,
    /// What flower looks at; taken apart by the first that asks.
    pub(super) dissected: OnceCell<Fields>,
}

impl<'a> View<'a> {
    #[inline]
    pub(super) fn new(facts: &Facts<'a>) -> Self {
        let bytes = facts.bytes;
        let kind = bytes.get(MACS..MACS + 2).and_then(|kind| kind.first_chunk());
        let protocol = match kind.map_or(0, |kind| u16::from_be_bytes(*kind)) {
            // A length: IEEE 802.3, told by its first bytes from what Novell made of it (eth_type_trans).
            ..LENGTHS_END if bytes.get(MACS + 2..MACS + 4) == Some(&[0xff; 2]) => NOVELL,
            ..LENGTHS_END => LLC,
            kind => kind,
        };
        Self {
            bytes,
            tag: if matches!(protocol, VLAN | VLAN_OUTER) {
                TAG_LEN
            } else {
                0
            },
            protocol,
            mark: facts.mark,
            dissected: OnceCell::new(),
        }
    }

    /// Its length without the tag.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.tag)
    }

    /// `N` bytes, of which the first may lie before the frame: those are 0.
    #[inline]
    pub(super) fn read<const N: usize>(&self, offset: i32) -> Option<[u8; N]> {
        match usize::try_from(offset) {
            Ok(offset) if self.tag == 0 || offset >= MACS => {
                self.bytes.get(offset + self.tag..)?.first_chunk().copied()
            }
            _ => self.gather(offset),
        }
    }

    #[cold]
    fn gather<const N: usize>(&self, offset: i32) -> Option<[u8; N]> {
        let mut read = [0; N];
        for (at, byte) in (offset..).zip(&mut read) {
            let at = match usize::try_from(at) {
                Ok(at) if at < MACS => at,
                Ok(at) => at + self.tag,
                Err(_) => continue,
            };
            *byte = *self.bytes.get(at)?;
        }
        Some(read)
    }
}
