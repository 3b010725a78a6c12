//! The tag: what tells one frame of a trial from all others, at the front of its payload (behind UDP, TCP or the header of an
//! echo request), where no forwarder writes. All fields are big-endian.
//!
//! ```text
//!   | run u16 | sequence u32 | time u32 | flow u32 | fill ...
//!   0         2              6          10         14
//! ```
//!
//! Ten bytes are in every frame, since a TCP segment of 64 bytes has no more; the flow follows where there is room. The time
//! is the low half of CLOCK_MONOTONIC in nanoseconds, 0 where none was taken: delays up to 4.2 s can be told. The sequence
//! number is the low half too; a receiver that knows about which number is next knows them all ([`Tag::sequence_near`]).
//! What follows is [`fill`], a function of its place alone, so that a changed byte is seen even where someone has computed the
//! checksum anew.

use crate::wire::{Protocol, checksum, ether, icmp, icmpv6, ipv4, ipv6, tcp, udp, vlan};

/// Bytes of the tag without the flow.
pub const TAG_MIN: usize = 10;
/// Bytes of the tag with the flow.
pub const TAG_LEN: usize = 14;

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Which trial it is of.
    pub run: u16,
    /// Its number in that trial, the low 32 bits.
    pub sequence: u32,
    /// When it was sent, the low 32 bits of nanoseconds of CLOCK_MONOTONIC; 0: not known.
    pub time: u32,
    /// Its flow; where there was no room for it, `None`.
    pub flow: Option<u32>,
}

impl Tag {
    /// Reads a tag from the front of a payload.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let word = |at: usize| {
            let bytes = payload.get(at..)?.first_chunk()?;
            Some(u32::from_be_bytes(*bytes))
        };
        Some(Self {
            run: u16::from_be_bytes(*payload.first_chunk()?),
            sequence: word(2)?,
            time: word(6)?,
            flow: word(10),
        })
    }

    /// The whole sequence number: the one nearest to `expected` with these low bits.
    pub fn sequence_near(&self, expected: u64) -> u64 {
        let ahead = self.sequence.wrapping_sub(expected as u32) as i32;
        match expected.checked_add_signed(i64::from(ahead)) {
            Some(sequence) => sequence,
            None => u64::from(self.sequence),
        }
    }

    /// The delay of a frame that arrived at `arrival_ns`, in nanoseconds; `None` where the send time is not known. A frame that
    /// seems to have come before it was sent has a delay of nearly 2^32.
    pub fn delay_ns(&self, arrival_ns: u64) -> Option<u32> {
        (self.time != 0).then(|| (arrival_ns as u32).wrapping_sub(self.time))
    }
}

/// A time as it stands in a tag: never 0.
pub fn time_field(now_ns: u64) -> u32 {
    (now_ns as u32).max(1)
}

/// The byte of a payload at `at`, behind the tag.
pub const fn fill(at: usize) -> u8 {
    (at as u8).wrapping_mul(0x9d) ^ 0x5a
}

/// What a receiver finds out about one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// No frame of this trial.
    Foreign,
    /// A frame of this trial by its tag, but a byte of it is wrong: a checksum does not hold, or the fill is another.
    Corrupted(Tag),
    /// As it was sent, but for what a router or NAT may change.
    Intact(Tag),
}

/// Judges a frame that arrived, from its Ethernet header on, VLAN tags and all. `run` is the trial's. A frame with a broken
/// length or a broken run is foreign: nothing tells it from one.
pub fn judge(frame: &[u8], run: u16) -> Seen {
    let Some((payload, whole)) = payload(frame) else {
        return Seen::Foreign;
    };
    match Tag::read(payload) {
        Some(tag) if tag.run == run => {
            let fills = |(at, &byte): (usize, &u8)| byte == fill(at);
            if whole && payload.iter().enumerate().skip(TAG_LEN).all(fills) {
                Seen::Intact(tag)
            } else {
                Seen::Corrupted(tag)
            }
        }
        _ => Seen::Foreign,
    }
}

/// The payload of a frame, and whether the checksums before it hold.
fn payload(frame: &[u8]) -> Option<(&[u8], bool)> {
    let (ether_type, packet) = behind_tags(frame)?;
    match ether_type {
        ether::EtherType::IPV4 => {
            let ip = ipv4::Packet::new_checked(packet).ok()?;
            if ip.is_fragment() {
                return None;
            }
            let upper = packet.get(ip.header_len()..ip.total_len())?;
            let pseudo = checksum::pseudo_v4(ip.src(), ip.dst(), ip.protocol().0, upper.len() as u16);
            let (payload, whole) = segment(upper, ip.protocol(), pseudo)?;
            Some((payload, whole && ip.verify_checksum()))
        }
        ether::EtherType::IPV6 => {
            let ip = ipv6::Packet::new_checked(packet).ok()?;
            let upper = packet.get(ipv6::HEADER_LEN..)?.get(..ip.payload_len())?;
            let pseudo = checksum::pseudo_v6(ip.src(), ip.dst(), ip.next_header().0, upper.len() as u32);
            segment(upper, ip.next_header(), pseudo)
        }
        _ => None,
    }
}

/// What the Ethernet header and up to two VLAN tags announce.
fn behind_tags(frame: &[u8]) -> Option<(ether::EtherType, &[u8])> {
    let header = ether::Packet::new_checked(frame).ok()?;
    let mut found = (header.ethertype(), frame.get(ether::HEADER_LEN..)?);
    for _ in 0..2 {
        if !found.0.is_tag() {
            break;
        }
        let tag = vlan::Packet::new_checked(found.1).ok()?;
        found = (tag.ethertype(), found.1.get(vlan::HEADER_LEN..)?);
    }
    Some(found)
}

/// The payload of a transport header, and whether the checksum holds. `pseudo` is the sum of the pseudo-header.
fn segment(upper: &[u8], protocol: Protocol, pseudo: u64) -> Option<(&[u8], bool)> {
    let holds = checksum::fold(pseudo + checksum::sum(upper)) == 0xffff;
    match protocol {
        Protocol::UDP => {
            let udp = udp::Packet::new_checked(upper).ok()?;
            // In IPv4 no checksum is a checksum that holds; a source of this bench never leaves it out.
            let holds = udp.checksum() != 0 && udp.verify_checksum(pseudo);
            Some((upper.get(udp::HEADER_LEN..udp.total_len())?, holds))
        }
        Protocol::TCP => {
            let tcp = tcp::Packet::new_checked(upper).ok()?;
            Some((upper.get(tcp.header_len()..)?, holds))
        }
        Protocol::ICMP => {
            let icmp = icmp::Packet::new_checked(upper).ok()?;
            (icmp.kind() == icmp::Type::ECHO).then_some(())?;
            Some((upper.get(icmp::HEADER_LEN..)?, icmp.verify_checksum()))
        }
        Protocol::ICMPV6 => {
            let icmp = icmpv6::Packet::new_checked(upper).ok()?;
            (icmp.kind() == icmpv6::Type::ECHO).then_some(())?;
            Some((upper.get(icmpv6::HEADER_LEN..)?, holds))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_told_from_its_low_half() {
        let near = |sequence, expected| {
            let tag = Tag {
                run: 0,
                sequence,
                time: 0,
                flow: None,
            };
            tag.sequence_near(expected)
        };
        assert_eq!(near(5, 3), 5);
        assert_eq!(near(1, 3), 1);
        assert_eq!(near(0, 0xffff_ffff), 0x1_0000_0000, "the next one after the wrap");
        assert_eq!(
            near(0xffff_fff0, 0x1_0000_0004),
            0xffff_fff0,
            "a late one from before it"
        );
        assert_eq!(near(0xffff_ffff, 0), 0xffff_ffff, "there is none before 0");
        assert_eq!(near(7, 0x5_0000_0000), 0x5_0000_0007);
    }

    #[test]
    fn a_delay_is_told_over_the_wrap_and_only_where_it_is_known() {
        let tag = |time| Tag {
            run: 0,
            sequence: 0,
            time,
            flow: None,
        };
        assert_eq!(tag(0xffff_ffff).delay_ns(0x7_0000_0009), Some(10));
        assert_eq!(tag(0).delay_ns(100), None);
        assert_eq!(
            tag(time_field(0x3_0000_0000)).delay_ns(0x3_0000_0005),
            Some(4),
            "0 is sent as 1"
        );
    }

    #[test]
    fn a_tag_is_as_long_as_the_payload_allows() {
        let payload = [0, 9, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 7];
        let tag = Tag {
            run: 9,
            sequence: 5,
            time: 6,
            flow: Some(7),
        };
        assert_eq!(Tag::read(&payload), Some(tag));
        assert_eq!(Tag::read(&payload[..TAG_MIN]), Some(Tag { flow: None, ..tag }));
        assert_eq!(Tag::read(&payload[..TAG_MIN - 1]), None);
    }
}
