//! A rule has the kernel answer a packet with a reset (`reject with tcp reset`): what that does to the packet's connection, so
//! that both tables say the same. nf_send_reset of net/ipv4/netfilter/nf_reject_ipv4.c and of its IPv6 counterpart.
//!
//! ```text
//!  of a connection -----> closed at once (nf_ct_set_closing), and the reset is its own: not tracked again
//!  invalid -------------> the reset belongs to nobody. It passes the kernel's own tracking on its way out, like any packet that
//!                         the box sends, and is a reset of the connection that its addresses and ports are of, if it fits
//!  a reset, or corrupt -> no answer
//! ```
//!
//! The second case is computed here (`answer`) and advances our connection as if the packet had come by: the kernel's own has
//! been laid aside meanwhile (see [`Leaving::Invalid`](super::leaving::Leaving)).

use super::{COMMITS_MAX, Of, Tracked, Tracking, advance, probe};
use crate::packet::{Family, Flags, Parsed};
use crate::table::conntrack::table::Connection;
use crate::table::conntrack::{CtState, Marks, Ticks, tracker};
use crate::wire::{Protocol, checksum};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// Bytes of a TCP header without options.
const TCP_LEN: usize = 20;
/// Bytes of the largest reset: behind an IPv6 header.
const RESET_MAX: usize = 40 + TCP_LEN;

/// Whether the packet is a TCP segment that a rule can answer with a reset: there is none for a reset.
fn can_be_reset(packet: &Parsed, bytes: &[u8]) -> bool {
    let flags = bytes.get(usize::from(packet.l4) + 13).copied().unwrap_or(RST);
    packet.proto == Protocol::TCP.0 && flags & RST == 0
}

/// Notes whether the kernel may close the connection of a packet that was punted: some rule there `resets`, though perhaps not
/// for this one.
#[inline]
pub fn note_reset(packet: &Parsed, bytes: &[u8], tracked: &Tracked<'_>, resets: bool) {
    let Of::Connection(connection, _) = &tracked.of else {
        return;
    };
    if resets && can_be_reset(packet, bytes) && tracked.state != CtState::RELATED {
        connection.set_marks(Marks::RESETTABLE);
    } else if connection.marks().any(Marks::RESETTABLE) {
        connection.clear_marks(Marks::RESETTABLE);
    }
}

/// A rule has the kernel answer the packet with a reset: see the file's head.
#[cold]
pub fn reset(packet: &Parsed, bytes: &[u8], tracked: &Tracked<'_>, tracking: &Tracking<'_>) {
    if !can_be_reset(packet, bytes) {
        return;
    }
    match &tracked.of {
        Of::Connection(connection, _) if tracked.state != CtState::RELATED => {
            let timeout = tracking.config.tcp[usize::from(tracker::tcp::number::CLOSE)];
            close(connection, tracking.now.wrapping_add(timeout));
        }
        Of::Nothing if tracked.state == CtState::INVALID => pass(packet, bytes, tracking),
        _ => {}
    }
}

/// Closes a connection as a reset by a rule does (nf_conntrack_tcp_set_closing); it ends at `deadline`.
pub fn close(connection: &Connection<'_>, deadline: Ticks) {
    for _ in 0..COMMITS_MAX {
        let (version, proto) = connection.proto();
        if connection.commit(version, &tracker::tcp::closed(&proto)) {
            break;
        }
    }
    connection.refresh(deadline);
}

/// The reset that answers an invalid packet, as the tracking of what the box sends sees it.
#[cold]
fn pass(packet: &Parsed, bytes: &[u8], tracking: &Tracking<'_>) {
    let Some((reset, bytes)) = answer(packet, bytes) else {
        return;
    };
    let found = probe(&reset, &bytes, tracking.table)
        .and_then(|probe| tracking.table.find(&probe, tracking.now, tracking.guard));
    if let Some((connection, direction)) = found
        && !connection.marks().any(Marks::KERNEL)
    {
        // Whether it fits matters to the connection alone.
        let _ = advance(&reset, &bytes, &connection, direction, tracking);
    }
}

/// The reset for a TCP segment, if there is one.
fn answer(packet: &Parsed, bytes: &[u8]) -> Option<(Parsed, [u8; RESET_MAX])> {
    let segment = bytes.get(packet.l4.into()..packet.end.into())?;
    let header: &[u8; TCP_LEN] = segment.first_chunk()?;
    if !sums_up(packet, segment) {
        return None;
    }
    let flags = header[13];
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (seq, ack, flags) = match flags & ACK {
        0 => {
            let options_end = usize::from(header[12] >> 4) * 4;
            let taken = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
            let length = (segment.len() as u32).wrapping_sub(options_end as u32);
            (0, word(4).wrapping_add(taken).wrapping_add(length), RST | ACK)
        }
        _ => (word(8), 0, RST),
    };
    let l4 = match packet.family {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    let reset = Parsed {
        src: packet.dst,
        dst: packet.src,
        sport: packet.dport,
        dport: packet.sport,
        l3: 0,
        l4: l4 as u16,
        end: (l4 + TCP_LEN) as u16,
        flags: Flags(Flags::PORTS),
        ..*packet
    };
    let mut out = [0; RESET_MAX];
    let tcp = &mut out[l4..l4 + TCP_LEN];
    tcp[..2].copy_from_slice(&reset.sport.to_be_bytes());
    tcp[2..4].copy_from_slice(&reset.dport.to_be_bytes());
    tcp[4..8].copy_from_slice(&seq.to_be_bytes());
    tcp[8..12].copy_from_slice(&ack.to_be_bytes());
    tcp[12] = ((TCP_LEN / 4) << 4) as u8;
    tcp[13] = flags;
    let sum = !checksum::fold(pseudo(&reset) + checksum::sum(tcp));
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    Some((reset, out))
}

fn sums_up(packet: &Parsed, segment: &[u8]) -> bool {
    checksum::fold(pseudo(packet) + checksum::sum(segment)) == 0xffff
}

fn pseudo(packet: &Parsed) -> u64 {
    let len = packet.end - packet.l4;
    match packet.family {
        Family::V4 => checksum::pseudo_v4(packet.src as u32, packet.dst as u32, Protocol::TCP.0, len),
        Family::V6 => checksum::pseudo_v6(packet.src, packet.dst, Protocol::TCP.0, len.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::PortIndex;

    /// A segment of `length` bytes of data with these numbers, and a right checksum.
    fn segment(family: Family, flags: u8, (seq, ack): (u32, u32), length: usize) -> (Parsed, Vec<u8>) {
        let l4 = 40;
        let mut bytes = vec![0; l4 + TCP_LEN + length];
        let packet = Parsed {
            src: 0x0a00_0001,
            dst: 0x0a00_0002,
            port: PortIndex(0),
            l3: 0,
            l4: l4 as u16,
            end: bytes.len() as u16,
            sport: 1234,
            dport: 80,
            proto: Protocol::TCP.0,
            ttl: 64,
            tos: 0,
            flags: Flags(Flags::PORTS),
            family,
        };
        let tcp = &mut bytes[l4..];
        tcp[..4].copy_from_slice(&[0x04, 0xd2, 0, 80]);
        tcp[4..8].copy_from_slice(&seq.to_be_bytes());
        tcp[8..12].copy_from_slice(&ack.to_be_bytes());
        tcp[12..14].copy_from_slice(&[0x50, flags]);
        let sum = !checksum::fold(pseudo(&packet) + checksum::sum(tcp));
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        (packet, bytes)
    }

    #[test]
    fn a_reset_takes_its_numbers_from_what_it_answers() {
        for family in Family::ALL {
            for (flags, numbers, length, wanted) in [
                (ACK, (70, 9), 5, (9, 0, RST)),
                (SYN, (70, 0), 0, (0, 71, RST | ACK)),
                (SYN | FIN, (70, 0), 3, (0, 75, RST | ACK)),
                (0, (u32::MAX, 0), 3, (0, 2, RST | ACK)),
            ] {
                let (packet, bytes) = segment(family, flags, numbers, length);
                let (reset, bytes) = answer(&packet, &bytes).expect("an answer");
                assert_eq!((reset.src, reset.sport), (packet.dst, packet.dport));
                assert_eq!((reset.dst, reset.dport), (packet.src, packet.sport));
                let tcp = &bytes[reset.l4.into()..reset.end.into()];
                let word = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().expect("four bytes"));
                assert_eq!((word(4), word(8), tcp[13]), wanted, "{flags:#x}");
                assert!(sums_up(&reset, tcp));
                assert_eq!(reset.l3_len(), if family == Family::V4 { 40 } else { 60 });
            }
        }
    }

    #[test]
    fn what_is_corrupt_or_cut_has_none() {
        let (packet, mut bytes) = segment(Family::V4, ACK, (70, 9), 5);
        bytes[50] ^= 1;
        assert!(answer(&packet, &bytes).is_none());
        let (mut packet, bytes) = segment(Family::V4, ACK, (70, 9), 0);
        packet.end -= 1;
        assert!(answer(&packet, &bytes).is_none());
    }
}
