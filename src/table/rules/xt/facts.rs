//! `-m mark`, `addrtype`, `pkttype`, `statistic`, and those of which it is known what they say of any forwarded packet:
//! `comment`, `owner`, `policy`. As the kernel's net/netfilter/xt_*.c of these names, and net/ipv6/netfilter/ip6t_*.c:
//! what asks for an extension header holds for no packet without any, and others are not judged here.
//!
//! Of IPv4, the type of an address is that of the local table; of IPv6, `addrtype` puts three kinds of question: what the
//! address looks like, where its route leads to, and whether it is anycast, which is not known here.

use super::info::Info;
use crate::table::rules::expr::{Base, FibFlags};
use crate::table::rules::keys::{FibResult, MetaKey};
use crate::table::rules::packet::{Answer, Fact, Packet};
use crate::table::rules::program::NFPROTO_IPV4;
use crate::wire::Protocol;

/// `-m mark`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    mark: u32,
    mask: u32,
    inverted: bool,
}

impl Mark {
    pub(super) fn decode(revision: u32, info: &[u8]) -> Option<Self> {
        let info = Info::of(info, 12)?;
        (revision == 1).then_some(Self {
            mark: info.u32(0),
            mask: info.u32(4),
            inverted: info.flag(8)?,
        })
    }

    pub(super) fn holds(self, packet: &impl Packet) -> Option<bool> {
        match packet.meta(MetaKey::Mark) {
            Fact::U32(mark) => Some((mark & self.mask == self.mark) != self.inverted),
            _ => None,
        }
    }
}

/// `-m pkttype`: PACKET_HOST and its kind, or any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pkttype(u32, bool);

impl Pkttype {
    pub(super) fn decode(revision: u32, info: &[u8]) -> Option<Self> {
        let info = Info::of(info, 8)?;
        let inverted = Some(info.u32(4)).filter(|inverted| *inverted <= 1)?;
        (revision == 0).then_some(Self(info.u32(0), inverted == 1))
    }

    pub(super) fn holds(self, packet: &impl Packet) -> Option<bool> {
        match packet.meta(MetaKey::Pkttype) {
            Fact::U8(kind) => Some((u32::from(kind) == self.0) != self.1),
            _ => None,
        }
    }
}

/// `-m statistic --mode random`: of 2^31. (By `--mode nth` it counts, and that is a memory.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Chance {
    of_two_to_the_31: u32,
    inverted: bool,
}

impl Chance {
    pub(super) fn decode(revision: u32, info: &[u8]) -> Option<Self> {
        const RANDOM: u16 = 0;
        let info = Info::of(info, 24)?;
        let (mode, flags) = info.pair16(0);
        (revision == 0 && mode == RANDOM && flags <= 1).then_some(Self {
            of_two_to_the_31: info.u32(4),
            inverted: flags == 1,
        })
    }

    /// Whether it may hold, and may not.
    pub fn is_open(self) -> bool {
        (1..1 << 31).contains(&self.of_two_to_the_31)
    }

    /// What it says where `drawn` was drawn.
    pub fn holds(self, drawn: u32) -> bool {
        (drawn & (u32::MAX >> 1) < self.of_two_to_the_31) != self.inverted
    }
}

/// Bits by RTN_* (XT_ADDRTYPE_*).
mod types {
    pub(super) const UNSPEC: u16 = 1 << 0;
    pub(super) const UNICAST: u16 = 1 << 1;
    pub(super) const LOCAL: u16 = 1 << 2;
    pub(super) const MULTICAST: u16 = 1 << 5;
    /// Those that the kernel takes for IPv6, but for anycast and unreachable.
    pub(super) const KNOWN_V6: u16 = UNSPEC | UNICAST | LOCAL | MULTICAST;
}

/// `-m addrtype`: types of the source and of the destination, any if zero; inverted or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Addrtype([(u16, bool); 2]);

impl Addrtype {
    pub(super) fn decode(revision: u32, info: &[u8], nfproto: u8) -> Option<Self> {
        let is_v4 = nfproto == NFPROTO_IPV4;
        let (bits, source, destination) = match revision {
            0 if is_v4 => {
                let info = Info::of(info, 12)?;
                let inverted = |at: usize| Some(info.u32(at)).filter(|is| *is <= 1).map(|is| is == 1);
                (info.pair16(0), inverted(4)?, inverted(8)?)
            }
            1 => {
                let info = Info::of(info, 8)?;
                // The other flags ask whether it is of the link of arrival, or of departure.
                let flags = Some(info.u32(4)).filter(|flags| *flags <= 3)?;
                (info.pair16(0), flags & 1 != 0, flags & 2 != 0)
            }
            _ => return None,
        };
        (is_v4 || (bits.0 | bits.1) & !types::KNOWN_V6 == 0).then_some(Self([(bits.0, source), (bits.1, destination)]))
    }

    pub(super) fn holds(self, packet: &impl Packet) -> Option<bool> {
        for ((bits, inverted), which) in self.0.into_iter().zip([FibFlags::SADDR, FibFlags::DADDR]) {
            if bits != 0 && is_of(bits, which, packet)? == inverted {
                return Some(false);
            }
        }
        Some(true)
    }
}

/// Whether an address is of one of these types; none if its own is not known.
fn is_of(bits: u16, which: u32, packet: &impl Packet) -> Option<bool> {
    let Fact::U32(is) = packet.fib(FibResult::Addrtype, FibFlags(which)) else {
        return None;
    };
    let bit = 1u16.checked_shl(is)?;
    if packet.nfproto() == NFPROTO_IPV4 {
        return Some(bits & bit != 0);
    }
    // Of one that is link-local, unspecified or multicast the type is not known. It is asked for all that is wanted at once.
    if is_mapped(which, packet)? {
        return None;
    }
    Some(match bits {
        _ if bits & (types::UNSPEC | types::MULTICAST) != 0 => false,
        _ if bits & types::LOCAL != 0 => bit == types::LOCAL,
        _ => true,
    })
}

/// Whether it is ::ffff:0:0/96, which the kernel does not take for unicast.
fn is_mapped(which: u32, packet: &impl Packet) -> Option<bool> {
    let at = if which == FibFlags::SADDR { 8 } else { 24 };
    let mut prefix = [0; 12];
    let read = packet.payload(Base::Network, at, &mut prefix) == Answer::Done;
    read.then_some(prefix == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff])
}

/// What it says of any forwarded packet, if that is known: a comment says nothing; no packet has
/// a local socket, and none went through IPsec (where there is any, it is all the kernel's).
pub(super) fn constant(name: &str, revision: u32, info: &[u8]) -> Option<bool> {
    match (name, revision) {
        ("comment", 0) => Info::of(info, 256).map(|_| true),
        ("owner", 1) => {
            let info = Info::of(info, 20)?;
            Some(info.u8(16) == info.u8(17))
        }
        ("policy", 0) => {
            const NONE: u16 = 4;
            let info = Info::of(info, 308)?;
            let flags = Some(info.u16(304)).filter(|flags| flags & !0x0f == 0)?;
            Some(flags & NONE != 0)
        }
        _ => None,
    }
}

/// Whether it is a match on extension headers, of this layout. What of the header it asks does not matter here.
pub(super) fn extension(name: &str, revision: u32, info: &[u8]) -> bool {
    let size = match name {
        "rt" => 280,
        "frag" => 16,
        _ => 40,
    };
    revision == 0 && Info::of(info, size).is_some()
}

/// Whether a packet of IPv6 has the header that is asked for: not if it has none at all, and otherwise it is not known here.
pub(super) fn has_extension(packet: &impl Packet) -> Option<bool> {
    const NEXT_HEADER: usize = 6;
    let mut next = [0];
    let read = packet.payload(Base::Network, NEXT_HEADER, &mut next) == Answer::Done;
    (read && !Protocol(next[0]).is_extension()).then_some(false)
}
