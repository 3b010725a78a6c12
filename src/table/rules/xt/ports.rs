//! `-m tcp`, `-m udp`, `-m multiport`, `-m icmp`, `-m icmp6`: what is asked of a transport header. As
//! net/netfilter/xt_tcpudp.c and xt_multiport.c.
//!
//! They look neither at the protocol, which the rule has asked for before, nor into a fragment but the first; where the header
//! is not there whole they have the packet dropped (`hotdrop`), and `-m tcp` also has a fragment that begins within the header.

use super::Said;
use super::info::Info;
use crate::table::rules::carried::Depends;
use crate::table::rules::expr::Base;
use crate::table::rules::packet::{Answer, Packet};
use crate::table::rules::program::NFPROTO_IPV4;

const TCP_LEN: usize = 20;
const TCP_LEN_MAX: usize = 60;
const UDP_LEN: usize = 8;
const ICMP_LEN: usize = 8;
/// SYN, RST and FIN.
const EDGES: u8 = 0x07;

/// First and last port, or all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Range {
    first: u16,
    last: u16,
    inverted: bool,
}

impl Range {
    fn of((first, last): (u16, u16), inverted: bool) -> Self {
        Self { first, last, inverted }
    }

    fn has(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port) != self.inverted
    }

    fn is_any(self) -> bool {
        (self.first, self.last, self.inverted) == (0, u16::MAX, false)
    }
}

/// `-m tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tcp {
    source: Range,
    destination: Range,
    /// An option that must be there, or must not; 0 is none.
    option: (u8, bool),
    /// Mask, value, inverted.
    flags: (u8, u8, bool),
}

impl Tcp {
    pub(super) fn decode(revision: u32, info: &[u8]) -> Option<Self> {
        let info = Info::of(info, 12)?;
        let inverted = info.u8(11);
        (revision == 0 && inverted & !0x0f == 0).then_some(Self {
            source: Range::of(info.pair16(0), inverted & 1 != 0),
            destination: Range::of(info.pair16(4), inverted & 2 != 0),
            flags: (info.u8(9), info.u8(10), inverted & 4 != 0),
            option: (info.u8(8), inverted & 8 != 0),
        })
    }

    pub(super) fn says(&self, packet: &impl Packet) -> Said {
        if is_second_fragment(packet) {
            return Said::Drop;
        }
        let header: [u8; TCP_LEN] = match header(packet) {
            Ok(header) => header,
            Err(said) => return said,
        };
        let [source, destination] = ports(&header);
        if !self.source.has(source) || !self.destination.has(destination) || !self.has_flags(header[13]) {
            return Said::Break;
        }
        match self.option {
            (0, _) => Said::On,
            (option, inverted) => match options(packet, &header) {
                Ok((options, len)) => Said::of(has_option(&options[..len], option) != inverted),
                Err(said) => said,
            },
        }
    }

    fn has_flags(&self, flags: u8) -> bool {
        let (mask, value, inverted) = self.flags;
        (flags & mask == value) != inverted
    }

    pub(super) fn depends(&self) -> Depends {
        let (mask, value, _) = self.flags;
        let flags = match (mask, value) {
            (0, _) => Depends::Flow,
            // Of a segment without any of the three it is known what comes of it, whatever else it has.
            _ if mask & !EDGES == 0 || value & EDGES != 0 || value & !mask != 0 => Depends::FlowWithFlags,
            _ => Depends::Packet,
        };
        let ports = match self.source.is_any() && self.destination.is_any() {
            true => Depends::Flow,
            false => Depends::FlowWithPorts,
        };
        match self.option {
            (0, _) => flags.max(ports),
            _ => Depends::Packet,
        }
    }

    /// Whether it never holds for a segment without SYN, RST and FIN, where [`depends`](Self::depends) says that these decide.
    pub(super) fn is_of_edges(&self) -> bool {
        self.depends() == Depends::FlowWithFlags && !self.has_flags(0)
    }
}

/// `-m udp`, and `-m udplite`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Udp {
    source: Range,
    destination: Range,
}

impl Udp {
    pub(super) fn decode(revision: u32, info: &[u8]) -> Option<Self> {
        let info = Info::of(info, 10)?;
        let inverted = info.u8(8);
        (revision == 0 && inverted & !0x03 == 0).then_some(Self {
            source: Range::of(info.pair16(0), inverted & 1 != 0),
            destination: Range::of(info.pair16(4), inverted & 2 != 0),
        })
    }

    pub(super) fn says(&self, packet: &impl Packet) -> Said {
        match header::<UDP_LEN>(packet) {
            Ok(header) => {
                let [source, destination] = ports(&header);
                Said::of(self.source.has(source) && self.destination.has(destination))
            }
            Err(said) => said,
        }
    }
}

/// Which port is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Side {
    Source,
    Destination,
    Either,
}

/// `-m multiport`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Multiport {
    side: Side,
    /// First and last.
    ranges: Box<[(u16, u16)]>,
    inverted: bool,
}

impl Multiport {
    pub(super) fn decode(revision: u32, info: &[u8]) -> Option<Self> {
        const PORTS_MAX: u8 = 15;
        let info = Info::of(info, 48)?;
        let side = match (revision, info.u8(0)) {
            (1, 0) => Side::Source,
            (1, 1) => Side::Destination,
            (1, 2) => Side::Either,
            _ => return None,
        };
        let count = usize::from(Some(info.u8(1)).filter(|count| *count <= PORTS_MAX)?);
        let port = |at: usize| info.u16(2 + 2 * at);
        let (mut ranges, mut at) = (Vec::new(), 0);
        while at < count {
            // A mark says that it is a first one; the last one is behind it.
            let is_range = info.u8(32 + at) != 0;
            let last = at + usize::from(is_range);
            (last < count).then_some(())?;
            ranges.push((port(at), port(last)));
            at = last + 1;
        }
        Some(Self {
            side,
            ranges: ranges.into(),
            inverted: info.flag(47)?,
        })
    }

    pub(super) fn says(&self, packet: &impl Packet) -> Said {
        let header: [u8; 4] = match header(packet) {
            Ok(header) => header,
            Err(said) => return said,
        };
        let [source, destination] = ports(&header);
        let has = |port: u16| self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&port));
        let found = match self.side {
            Side::Source => has(source),
            Side::Destination => has(destination),
            Side::Either => has(source) || has(destination),
        };
        Said::of(found != self.inverted)
    }
}

/// `-m icmp` and `-m icmp6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Icmp {
    /// None is any.
    kind: Option<u8>,
    /// First and last.
    codes: (u8, u8),
    inverted: bool,
}

impl Icmp {
    pub(super) fn decode(revision: u32, info: &[u8], nfproto: u8) -> Option<Self> {
        const ANY: u8 = 0xff;
        let info = Info::of(info, 4)?;
        let kind = info.u8(0);
        (revision == 0).then_some(Self {
            // In IPv6 it is a type like others.
            kind: (nfproto != NFPROTO_IPV4 || kind != ANY).then_some(kind),
            codes: (info.u8(1), info.u8(2)),
            inverted: info.flag(3)?,
        })
    }

    pub(super) fn says(&self, packet: &impl Packet) -> Said {
        let header: [u8; ICMP_LEN] = match header(packet) {
            Ok(header) => header,
            Err(said) => return said,
        };
        let (first, last) = self.codes;
        let is = |kind: u8| kind == header[0] && (first..=last).contains(&header[1]);
        Said::of(self.kind.is_none_or(is) != self.inverted)
    }
}

/// The first bytes of the transport header; what is to be said where they are not there.
pub(super) fn header<const N: usize>(packet: &impl Packet) -> Result<[u8; N], Said> {
    let mut header = [0; N];
    if packet.is_later_fragment() {
        return Err(Said::Break);
    }
    match packet.payload(Base::Transport, 0, &mut header) {
        Answer::Done => Ok(header),
        Answer::Break => Err(Said::Drop),
        Answer::Unknown => Err(Said::Unknown),
    }
}

/// The options behind a TCP header, and their length. Without all of them the packet is lost.
pub(super) fn options(
    packet: &impl Packet,
    header: &[u8; TCP_LEN],
) -> Result<([u8; TCP_LEN_MAX - TCP_LEN], usize), Said> {
    let mut options = [0; TCP_LEN_MAX - TCP_LEN];
    let Some(len) = (usize::from(header[12] >> 4) * 4).checked_sub(TCP_LEN) else {
        return Err(Said::Drop);
    };
    if len == 0 {
        return Ok((options, 0));
    }
    match packet.payload(Base::Transport, TCP_LEN, &mut options[..len]) {
        Answer::Done => Ok((options, len)),
        Answer::Break => Err(Said::Drop),
        Answer::Unknown => Err(Said::Unknown),
    }
}

/// Where the options begin, one after the other: one without a length is of one byte.
pub(super) fn starts(options: &[u8]) -> impl Iterator<Item = usize> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (start, kind) = (at, *options.get(at)?);
        at += match (kind, options.get(at + 1)) {
            (2.., Some(&len)) if len > 0 => usize::from(len),
            _ => 1,
        };
        Some(start)
    })
}

fn has_option(options: &[u8], option: u8) -> bool {
    starts(options).any(|at| options[at] == option)
}

/// Source and destination.
fn ports(header: &[u8]) -> [u16; 2] {
    [0, 2].map(|at| match header.get(at..at + 2) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    })
}

/// Whether it is a fragment that begins with the ninth byte of the transport header.
fn is_second_fragment(packet: &impl Packet) -> bool {
    let mut fragment = [0; 2];
    packet.is_later_fragment()
        && packet.nfproto() == NFPROTO_IPV4
        && packet.payload(Base::Network, 6, &mut fragment) == Answer::Done
        && u16::from_be_bytes(fragment) & 0x1fff == 1
}
