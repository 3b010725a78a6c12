//! What kind of packet is it, to a connection: one that opens, one in the middle?
//!
//! Only TCP and SCTP tell. As tcp_new of nf_conntrack_proto_tcp.c and sctp_new of nf_conntrack_proto_sctp.c.

use crate::packet::Parsed;
use crate::wire::Protocol;
use crate::wire::sctp::{self, ChunkType};

/// Whether the packet is of a protocol that opens connections, and does not open one: TCP without a SYN or with an ACK, SCTP
/// whose first chunk is no INIT.
pub(super) fn is_midway(packet: &Parsed, bytes: &[u8]) -> bool {
    match Protocol(packet.proto) {
        Protocol::TCP => tcp_flags(packet, bytes) & 0x12 != 0x02,
        Protocol::SCTP => first_chunk(packet, bytes) != ChunkType::INIT,
        _ => false,
    }
}

/// Whether the kernel may begin a connection with the packet, of a protocol with states, in the one that it is of.
pub(super) fn opens(packet: &Parsed, bytes: &[u8]) -> bool {
    let heartbeat = packet.proto == Protocol::SCTP.0 && first_chunk(packet, bytes) == ChunkType::HEARTBEAT;
    heartbeat || !is_midway(packet, bytes)
}

fn tcp_flags(packet: &Parsed, bytes: &[u8]) -> u8 {
    bytes.get(usize::from(packet.l4) + 13).copied().unwrap_or(0)
}

fn first_chunk(packet: &Parsed, bytes: &[u8]) -> ChunkType {
    let at = usize::from(packet.l4) + sctp::HEADER_LEN;
    ChunkType(bytes.get(at).copied().unwrap_or(0))
}

/// Whether an SCTP packet has nothing in its checksum's place. A sender on this machine leaves the CRC to the hardware so,
/// and the frame does not tell; the kernel knows.
pub(super) fn sctp_without_crc(packet: &Parsed, bytes: &[u8]) -> bool {
    let segment = bytes.get(packet.l4.into()..packet.end.into()).unwrap_or_default();
    sctp::Packet::new_checked(segment).is_ok_and(|sctp| sctp.checksum() == 0)
}
