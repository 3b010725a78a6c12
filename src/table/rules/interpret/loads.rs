//! What loads read, for whoever runs rules: the interpreter puts it into registers, the compiled form compares it at once.

use super::super::expr::Base;
use super::super::keys::MetaKey;
use super::super::packet::{Answer, Fact, Packet};

/// Whether the kernel loads it by the short way (nft_payload_select_ops). Up to Linux 7.0 that does not look whether the packet is a
/// later fragment, and takes its payload for a transport header; who can tell which kernel has it mended?
fn is_fast(offset: u8, len: usize) -> bool {
    matches!(len, 1 | 2 | 4) && usize::from(offset).is_multiple_of(len)
}

/// Bytes of the packet, all of `out` (nft_payload_eval).
pub(in super::super) fn payload(packet: &impl Packet, base: Base, offset: u8, out: &mut [u8]) -> Answer {
    if base == Base::Transport && packet.is_later_fragment() {
        return match is_fast(offset, out.len()) {
            true => Answer::Unknown,
            false => Answer::Break,
        };
    }
    packet.payload(base, usize::from(offset), out)
}

/// A fact of the packet (nft_meta_get_eval).
pub(in super::super) fn meta(packet: &impl Packet, key: MetaKey) -> Fact {
    match key {
        MetaKey::Len => Fact::U32(packet.length()),
        MetaKey::Nfproto => Fact::U8(packet.nfproto()),
        MetaKey::L4proto => packet.l4proto().map_or(Fact::Absent, Fact::U8),
        other => packet.meta(other),
    }
}

/// Turns each `size` bytes around; those that are left over stay. Yields how many are not.
pub(in super::super) fn turn_around(bytes: &mut [u8], size: u8) -> usize {
    let size = usize::from(size.max(1));
    let whole = bytes.len() - bytes.len() % size;
    if cfg!(target_endian = "little") {
        bytes[..whole].chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
    whole
}
