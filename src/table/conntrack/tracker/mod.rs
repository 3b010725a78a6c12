//! The kernel's state machines of connections, as pure functions: `(state, packet, now) -> (state, verdict)`. A caller
//! commits what comes out, or asks again if somebody was quicker.
//!
//! ```text
//!  tuple       whose is the packet?        nf_ct_get_tuple
//!  icmp_error  about whose is the error?   nf_conntrack_icmpv4_error, nf_conntrack_icmpv6_error
//!  track       what does it do to it?      nf_conntrack_handle_packet
//!     |- tcp      nf_conntrack_proto_tcp.c      |- icmp     nf_conntrack_proto_icmp.c, _icmpv6.c
//!     |- udp      nf_conntrack_proto_udp.c      |- gre      nf_conntrack_proto_gre.c
//!     \- others   nf_conntrack_proto_generic.c
//! ```
//!
//! Fragments never come here: only the kernel reassembles. Nor does SCTP, whose states are the kernel's (see [`is_carried`]).

mod icmp;
pub mod tcp;
mod udp;

pub use icmp::{IcmpError, error_agrees, icmp_error};

use super::{Config, Direction, ProtoState, Status, Ticks, Tuple};
use crate::packet::{Family, Parsed};
use crate::wire::{Protocol, checksum};

/// What a tracker knows of a connection.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// It is in the table; otherwise it begins with the packet.
    pub confirmed: bool,
    /// Its status before the packet.
    pub status: Status,
    /// When it would end, counted from now.
    pub left: Ticks,
    /// Its protocol's state.
    pub proto: ProtoState,
}

/// What a valid packet does to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// The new state.
    pub proto: ProtoState,
    /// It ends so long from now; `None`: as before.
    pub timeout: Option<Ticks>,
    /// Bits that are set from now on.
    pub set: Status,
    /// It is over at once.
    pub kill: bool,
}

/// What a tracker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The packet is part of the connection (NF_ACCEPT).
    Valid(Update),
    /// It is not, and passes as INVALID (-NF_ACCEPT). What is noted all the same: state, and a timeout that shrinks.
    Invalid(Option<(ProtoState, Option<Ticks>)>),
    /// The connection was over; look again without it (-NF_REPEAT).
    Reopen,
}

impl Outcome {
    fn valid(proto: ProtoState, timeout: Ticks) -> Self {
        Outcome::Valid(Update {
            proto,
            timeout: Some(timeout),
            set: Status(0),
            kill: false,
        })
    }
}

/// A packet in the middle of its trackers.
#[derive(Clone, Copy)]
pub(in crate::table::conntrack) struct Segment<'a> {
    packet: &'a Parsed,
    /// From the transport header to the end of the IP packet.
    bytes: &'a [u8],
}

impl<'a> Segment<'a> {
    fn new(packet: &'a Parsed, frame: &'a [u8]) -> Self {
        let range = usize::from(packet.l4)..usize::from(packet.end);
        Self {
            packet,
            bytes: frame.get(range).unwrap_or_default(),
        }
    }

    /// Whether the first `covered` bytes, with the pseudo-header of `protocol`, sum up as a right checksum makes them.
    #[inline]
    fn sums_up(&self, protocol: Protocol, covered: usize) -> bool {
        let Some(bytes) = self.bytes.get(..covered) else {
            return false;
        };
        let (packet, len) = (self.packet, self.bytes.len() as u16);
        let pseudo = match packet.family {
            Family::V4 => checksum::pseudo_v4(packet.src as u32, packet.dst as u32, protocol.0, len),
            Family::V6 => checksum::pseudo_v6(packet.src, packet.dst, protocol.0, len.into()),
        };
        checksum::fold(pseudo + checksum::sum(bytes)) == 0xffff
    }
}

/// The tuple of `packet`, whose frame is `frame`; `None` where its header is cut: the packet is invalid.
#[inline]
pub fn tuple(packet: &Parsed, frame: &[u8], zone: u16) -> Option<Tuple> {
    let protocol = Protocol(packet.proto);
    let (sport, dport) = match protocol {
        // Of these the kernel reads eight bytes at this place, or none at all.
        Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP if has(packet, 8) => {
            (packet.sport, packet.dport)
        }
        Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP => return None,
        _ => elements(packet, Segment::new(packet, frame).bytes)?,
    };
    Some(Tuple {
        src: packet.src,
        dst: packet.dst,
        sport,
        dport,
        proto: packet.proto,
        family: packet.family,
        zone,
    })
}

#[inline]
fn has(packet: &Parsed, bytes: u16) -> bool {
    packet.end - packet.l4 >= bytes
}

/// The parts of a tuple that are no ports.
fn elements(packet: &Parsed, bytes: &[u8]) -> Option<(u16, u16)> {
    let be16 = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    match (Protocol(packet.proto), packet.family) {
        (Protocol::ICMP, Family::V4) | (Protocol::ICMPV6, Family::V6) => {
            bytes.get(..8)?;
            Some((be16(4)?, be16(0)?))
        }
        // Version 1 is PPTP, whose call id stands where others have a key; of the other direction's an expectation tells.
        (Protocol::GRE, _) if be16(0)? & 7 == 1 => Some((0, be16(6)?)),
        _ => Some((0, 0)),
    }
}

/// Whether there is a tracker for the protocol here. Connections of others are the kernel's.
#[inline]
pub fn is_carried(proto: u8) -> bool {
    Protocol(proto) != Protocol::SCTP
}

/// What `packet` does to the connection that `view` shows, in `direction`.
#[inline]
pub fn track(packet: &Parsed, frame: &[u8], view: &View, direction: Direction, config: &Config, now: Ticks) -> Outcome {
    let segment = Segment::new(packet, frame);
    match (Protocol(packet.proto), packet.family) {
        (Protocol::TCP, _) => tcp::track(&segment, view, direction, config),
        (Protocol::UDP, _) => udp::track(&segment, view, config, now),
        (Protocol::UDPLITE, _) => udp::track_lite(&segment, view, config),
        (Protocol::ICMP, Family::V4) | (Protocol::ICMPV6, Family::V6) => icmp::track(&segment, view, config),
        (Protocol::GRE, _) => gre(view, config),
        _ => Outcome::valid(view.proto, config.generic),
    }
}

/// GRE knows one way and both ways (nf_conntrack_gre_packet).
fn gre(view: &View, config: &Config) -> Outcome {
    if !view.status.any(Status::SEEN_REPLY) {
        return Outcome::valid(view.proto, config.gre[0]);
    }
    Outcome::Valid(Update {
        proto: view.proto,
        timeout: Some(config.gre[1]),
        set: Status::ASSURED,
        kill: false,
    })
}

/// The state in the words of conntrack-tools, of the protocols that have any.
pub fn state_word(proto: u8, state: &ProtoState) -> Option<&'static str> {
    match Protocol(proto) {
        Protocol::TCP => tcp::WORDS.get(usize::from(tcp::state(state))).copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
