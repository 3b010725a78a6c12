//! The kernel's state machines of connections, as pure functions: `(state, packet, now) -> (state, verdict)`. A caller
//! commits what comes out, or asks again if somebody was quicker.
//!
//! ```text
//!  tuple       whose is the packet?        nf_ct_get_tuple
//!  icmp_error  about whose is the error?   nf_conntrack_icmpv4_error, nf_conntrack_icmpv6_error
//!  track       what does it do to it?      nf_conntrack_handle_packet; in_the_middle is its short cut
//!     |- tcp      nf_conntrack_proto_tcp.c      |- icmp     nf_conntrack_proto_icmp.c, _icmpv6.c
//!     |- udp      nf_conntrack_proto_udp.c      |- gre      nf_conntrack_proto_gre.c
//!     |- sctp     nf_conntrack_proto_sctp.c     \- others   nf_conntrack_proto_generic.c
//! ```
//!
//! All as in Linux 6.18. Fragments never come here: only the kernel reassembles. Helpers and their sequence adjustment, SYN
//! proxies and the timeout policies of rules are the kernel's too. Checksums are judged over the packet as it came; partial
//! ones have been completed before. No loop is longer than the packet.

mod gre;
mod icmp;
mod quoted;
pub mod sctp;
pub mod tcp;
#[cfg(test)]
mod testing;
mod udp;

pub use icmp::{IcmpError, error_agrees, icmp_error};
pub use quoted::quoted_transport_v6;

use super::{Config, Direction, ProtoState, Status, Ticks, Tuple};
use crate::packet::{Family, Flags, Parsed};
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

/// What a packet does to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// The new state; `None`: as before.
    pub proto: Option<ProtoState>,
    /// It ends so long from now; `None`: as before, and the packet is not counted (the kernel counts where it refreshes).
    /// That a fixed timeout ([`Status::FIXED_TIMEOUT`]) stays is the caller's to see to.
    pub timeout: Option<Ticks>,
    /// Bits that are set from now on.
    pub set: Status,
    /// It is over at once; the packet is counted.
    pub kill: bool,
}

/// What a tracker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The packet is part of the connection (NF_ACCEPT).
    Valid(Update),
    /// It is not, and passes as INVALID (-NF_ACCEPT), uncounted. What is noted all the same, such as a timeout that shrinks.
    /// Of a connection that would have begun with it nothing is left.
    Invalid(Option<Update>),
    /// The connection was over; look again without it (-NF_REPEAT). If somebody else was quicker to end it, the kernel drops
    /// the packet.
    Reopen,
}

impl Outcome {
    #[inline(always)]
    fn valid(proto: Option<ProtoState>, timeout: Ticks) -> Self {
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
    #[inline(always)]
    fn sums_up(&self, protocol: Protocol, covered: usize) -> bool {
        self.sums_up_as(protocol, self.bytes.len() as u16, covered)
    }

    /// The same with this length in the pseudo-header.
    #[inline(always)]
    fn sums_up_as(&self, protocol: Protocol, len: u16, covered: usize) -> bool {
        let Some(bytes) = self.bytes.get(..covered) else {
            return false;
        };
        let packet = self.packet;
        let pseudo = match packet.family {
            Family::V4 => checksum::pseudo_v4(packet.src as u32, packet.dst as u32, protocol.0, len),
            Family::V6 => checksum::pseudo_v6(packet.src, packet.dst, protocol.0, len.into()),
        };
        checksum::fold(pseudo + checksum::sum(bytes)) == 0xffff
    }
}

/// The tuple of `packet`, whose frame is `frame`; `None` where its header is cut, or cannot be found: the packet is invalid.
#[inline]
pub fn tuple(packet: &Parsed, frame: &[u8], zone: u16) -> Option<Tuple> {
    let protocol = Protocol(packet.proto);
    let (sport, dport) = match protocol {
        Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP => {
            if !packet.flags.any(Flags::PORTS) {
                return None;
            }
            (packet.sport, packet.dport)
        }
        // Where the walk over extension headers comes to no end, the kernel finds no protocol (ipv6_skip_exthdr).
        _ if packet.family == Family::V6 && (protocol.is_extension() || protocol == Protocol::NO_NEXT) => return None,
        _ => keys(protocol, Segment::new(packet, frame).bytes)?,
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

/// What stands in a tuple for ports; see the head of tuple.rs. `bytes` start at the transport header.
fn keys(protocol: Protocol, bytes: &[u8]) -> Option<(u16, u16)> {
    match protocol {
        Protocol::TCP | Protocol::UDP | Protocol::UDPLITE | Protocol::SCTP => {
            let [a, b, c, d] = *bytes.first_chunk()?;
            Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
        }
        Protocol::ICMP | Protocol::ICMPV6 => {
            let [kind, code, _, _, a, b, _, _] = *bytes.first_chunk()?;
            Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([kind, code])))
        }
        Protocol::GRE => gre::keys(bytes),
        _ => Some((0, 0)),
    }
}

/// What `packet` does to the connection that `view` shows, in `direction`.
#[inline(always)]
pub fn track(packet: &Parsed, frame: &[u8], view: &View, direction: Direction, config: &Config, now: Ticks) -> Outcome {
    let segment = Segment::new(packet, frame);
    match (Protocol(packet.proto), packet.family) {
        (Protocol::TCP, _) => tcp::track(&segment, view, direction, config),
        (Protocol::UDP, _) => udp::track(&segment, view, config, now),
        (Protocol::UDPLITE, _) => udp::track_lite(&segment, view, config),
        (Protocol::ICMP, Family::V4) | (Protocol::ICMPV6, Family::V6) => icmp::track(&segment, view, direction, config),
        // One family's ICMP in the other's packets.
        (Protocol::ICMP | Protocol::ICMPV6, _) => Outcome::Invalid(None),
        (Protocol::SCTP, _) => sctp::track(&segment, view, direction, config),
        (Protocol::GRE, _) => gre::track(view, config),
        _ => Outcome::valid(None, config.generic),
    }
}

/// [`track`] for what most packets are, TCP and UDP in the middle of an established connection, without its detours: `None`
/// where it must be asked, and nothing is said.
#[inline(always)]
pub fn in_the_middle(
    packet: &Parsed,
    frame: &[u8],
    view: &View,
    direction: Direction,
    config: &Config,
    now: Ticks,
) -> Option<Update> {
    let segment = Segment::new(packet, frame);
    match Protocol(packet.proto) {
        Protocol::TCP => tcp::in_the_middle(&segment, view, direction, config),
        Protocol::UDP => match udp::track(&segment, view, config, now) {
            Outcome::Valid(update) => Some(update),
            _ => None,
        },
        _ => None,
    }
}

/// How long a connection lives from a packet on that was not looked into, where the protocol has no states; `None` where it has.
pub fn timeout_unseen(proto: u8, status: Status, state: &ProtoState, config: &Config) -> Option<Ticks> {
    match Protocol(proto) {
        Protocol::TCP | Protocol::SCTP => None,
        Protocol::UDP | Protocol::UDPLITE => Some(config.udp[usize::from(status.any(Status::ASSURED))]),
        Protocol::ICMP => Some(config.icmp),
        Protocol::ICMPV6 => Some(config.icmpv6),
        Protocol::GRE => gre::timeout(status, state, config),
        _ => Some(config.generic),
    }
}

/// Whether connections of the protocol have states that packets must fit.
pub fn has_states(proto: u8) -> bool {
    matches!(Protocol(proto), Protocol::TCP | Protocol::SCTP)
}

/// Whether a connection may make room for another though it is assured: it is closing (can_early_drop of struct
/// nf_conntrack_l4proto).
pub fn can_early_drop(proto: u8, state: &ProtoState) -> bool {
    match Protocol(proto) {
        Protocol::TCP => tcp::can_early_drop(state),
        Protocol::SCTP => sctp::can_early_drop(state),
        _ => false,
    }
}

/// Whether all that was seen of a connection is what begins it, where that can be told.
pub fn is_beginning(proto: u8, state: &ProtoState) -> bool {
    match Protocol(proto) {
        Protocol::TCP => tcp::is_beginning(state),
        Protocol::SCTP => sctp::is_beginning(state),
        _ => false,
    }
}

/// What is known of the state of a connection that begins at `now` with a packet for the kernel: the age of a UDP stream.
pub fn begun(proto: u8, now: Ticks) -> ProtoState {
    match Protocol(proto) {
        Protocol::UDP => udp::begun(now),
        _ => [0; 7],
    }
}

/// When a connection of datagrams began, if that is known.
pub fn began(state: &ProtoState) -> Option<Ticks> {
    udp::began(state)
}

/// The state in the words of conntrack-tools, of the protocols that have any.
pub fn state_word(proto: u8, state: &ProtoState) -> Option<&'static str> {
    match Protocol(proto) {
        Protocol::TCP => tcp::WORDS.get(usize::from(tcp::state(state))).copied(),
        Protocol::SCTP => sctp::WORDS.get(usize::from(sctp::state(state))).copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
