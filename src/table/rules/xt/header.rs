//! `-m length`, `ttl`, `hl`, `dscp`, `tos`, `iprange`, `tcpmss`, `mac`: what is asked of other headers.
//!
//! As net/netfilter/xt_{length,hl,dscp,iprange,tcpmss,mac}.c; `ttl` and `tos` are in xt_hl.c and xt_dscp.c. A struct of another
//! size or revision than the kernel's is not carried.

use super::Said;
use super::info::Info;
use super::ports;
use crate::table::rules::carried::Depends;
use crate::table::rules::expr::Base;
use crate::table::rules::packet::{Answer, Packet};
use crate::table::rules::program::NFPROTO_IPV4;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    field: Field,
    inverted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Field {
    /// Of the packet, header included: first and last.
    Length(u16, u16),
    /// `ttl` or `hl`, as the mode has it: equal, less, or more than that. (Not equal is inverted.)
    Hops(std::cmp::Ordering, u8),
    /// Mask and value of TOS or traffic class.
    Dsfield(u8, u8),
    /// First and last of source, of destination; inverted or not.
    Addresses([Option<(Span, bool)>; 2]),
    /// Of the option, first and last.
    Mss(u16, u16),
    /// Ethernet source.
    Mac([u8; 6]),
}

type Span = ([u8; 16], [u8; 16]);

impl Header {
    pub(super) fn decode(name: &str, revision: u32, info: &[u8], nfproto: u8) -> Option<Self> {
        let is_v4 = nfproto == NFPROTO_IPV4;
        match (name, revision) {
            ("length", 0) => {
                let info = Info::of(info, 6)?;
                Self::new(Field::Length(info.u16(0), info.u16(2)), info.flag(4)?)
            }
            ("ttl", 0) if is_v4 => Self::hops(info),
            ("hl", 0) if !is_v4 => Self::hops(info),
            ("dscp", 0) => {
                const BITS: u8 = 6;
                let info = Info::of(info, 2)?;
                let dscp = Some(info.u8(0)).filter(|dscp| dscp >> BITS == 0)?;
                Self::new(Field::Dsfield(0xfc, dscp << 2), info.u8(1) != 0)
            }
            ("tos", 1) => {
                let info = Info::of(info, 3)?;
                Self::new(Field::Dsfield(info.u8(0), info.u8(1)), info.u8(2) != 0)
            }
            ("iprange", 1) => Self::addresses(info),
            ("tcpmss", 0) => {
                let info = Info::of(info, 6)?;
                Self::new(Field::Mss(info.u16(0), info.u16(2)), info.flag(4)?)
            }
            ("mac", 0) => {
                let info = Info::of(info, 12)?;
                let inverted = Some(info.u32(8)).filter(|inverted| *inverted <= 1)?;
                Self::new(Field::Mac(info.bytes(0)), inverted == 1)
            }
            _ => None,
        }
    }

    fn new(field: Field, inverted: bool) -> Option<Self> {
        Some(Self { field, inverted })
    }

    fn hops(info: &[u8]) -> Option<Self> {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let info = Info::of(info, 2)?;
        let (order, inverted) = match info.u8(0) {
            0 => (Equal, false),
            1 => (Equal, true),
            2 => (Less, false),
            3 => (Greater, false),
            _ => return None,
        };
        Self::new(Field::Hops(order, info.u8(1)), inverted)
    }

    fn addresses(info: &[u8]) -> Option<Self> {
        let info = Info::of(info, 68)?;
        let flags = Some(info.u8(64)).filter(|flags| flags & !0x33 == 0)?;
        let side = |bit: u8, at: usize| {
            let span = (info.bytes(at), info.bytes(at + 16));
            (flags & bit != 0).then_some((span, flags & bit << 4 != 0))
        };
        Self::new(Field::Addresses([side(1, 0), side(2, 32)]), false)
    }

    pub(super) fn says(&self, packet: &impl Packet) -> Said {
        let is_v4 = packet.nfproto() == NFPROTO_IPV4;
        let said = |holds: bool| Said::of(holds != self.inverted);
        match &self.field {
            Field::Length(least, most) => said((u32::from(*least)..=u32::from(*most)).contains(&packet.length())),
            Field::Hops(order, than) => match load(packet, Base::Network, if is_v4 { 8 } else { 7 }) {
                Ok([hops]) => said(hops.cmp(than) == *order),
                Err(other) => other,
            },
            Field::Dsfield(mask, value) => match load(packet, Base::Network, 0) {
                Ok([first, second]) => {
                    let dsfield = if is_v4 { second } else { first << 4 | second >> 4 };
                    said(dsfield & mask == *value)
                }
                Err(other) => other,
            },
            Field::Addresses(sides) => addresses(sides, packet, is_v4),
            Field::Mss(least, most) => match mss(packet) {
                Ok(found) => said(found.is_some_and(|mss| (*least..=*most).contains(&mss))),
                Err(other) => other,
            },
            Field::Mac(source) => match load(packet, Base::Link, 6) {
                Ok(is) => said(is == *source),
                Err(other) => other,
            },
        }
    }

    pub(super) fn depends(&self) -> Depends {
        match self.field {
            Field::Addresses(_) => Depends::Flow,
            _ => Depends::Packet,
        }
    }
}

fn load<const N: usize>(packet: &impl Packet, base: Base, offset: usize) -> Result<[u8; N], Said> {
    let mut bytes = [0; N];
    match packet.payload(base, offset, &mut bytes) {
        Answer::Done => Ok(bytes),
        Answer::Break => Err(Said::Break),
        Answer::Unknown => Err(Said::Unknown),
    }
}

fn addresses(sides: &[Option<(Span, bool)>; 2], packet: &impl Packet, is_v4: bool) -> Said {
    let (start, len) = if is_v4 { (12, 4) } else { (8, 16) };
    for (side, at) in sides.iter().zip([start, start + len]) {
        let Some(((first, last), inverted)) = side else {
            continue;
        };
        let mut address = [0; 16];
        match packet.payload(Base::Network, at, &mut address[..len]) {
            Answer::Done => {}
            Answer::Break => return Said::Break,
            Answer::Unknown => return Said::Unknown,
        }
        let address = &address[..len];
        if (&first[..len] <= address && address <= &last[..len]) == *inverted {
            return Said::Break;
        }
    }
    Said::On
}

/// That of a segment's option, if it has a whole one.
fn mss(packet: &impl Packet) -> Result<Option<u16>, Said> {
    const KIND: u8 = 2;
    const LEN: u8 = 4;
    if packet.is_later_fragment() {
        // The kernel takes its payload for a header.
        return Err(Said::Unknown);
    }
    let header = ports::header(packet)?;
    let (options, len) = ports::options(packet, &header)?;
    let options = &options[..len];
    let found = ports::starts(options).find_map(|at| match options.get(at..at + usize::from(LEN)) {
        Some(&[KIND, LEN, high, low]) => Some(u16::from_be_bytes([high, low])),
        _ => None,
    });
    Ok(found)
}
