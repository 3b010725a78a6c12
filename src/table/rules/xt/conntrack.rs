//! `-m conntrack`, `-m state`, `-m connmark`, `-j CONNMARK`: what is asked of a connection, and its mark. As
//! net/netfilter/xt_{conntrack,state,connmark}.c.
//!
//! ```text
//!  xt_conntrack_mtinfo1..3   0 origsrc, mask | origdst, mask | replsrc, mask | repldst, mask: 16 bytes each
//!                          128 expires min, max | protocol | 4 ports | asked | inverted | states | statuses | 4 last ports
//! ```
//!
//! Revision 1 has states and statuses of a byte, revision 3 has ranges of ports, in the order of the host. The bits of states
//! are those of nft, but for the three above.

use super::Said;
use super::info::Info;
use crate::table::conntrack::{CtState, Status};
use crate::table::rules::carried::{Depends, is_constant_status};
use crate::table::rules::keys::{CtKey, MetaKey};
use crate::table::rules::packet::{Fact, Packet};

/// XT_CONNTRACK_*: what is asked, and what of it is inverted.
mod asked {
    pub(super) const STATE: u16 = 1 << 0;
    pub(super) const PROTO: u16 = 1 << 1;
    /// Source and destination of the original direction, then of replies: four bits from here on.
    pub(super) const ADDRESSES: u16 = 1 << 2;
    pub(super) const STATUS: u16 = 1 << 6;
    pub(super) const EXPIRES: u16 = 1 << 7;
    /// In the order of addresses: four bits from here on.
    pub(super) const PORTS: u16 = 1 << 8;
    pub(super) const DIRECTION: u16 = 1 << 12;
    /// All of them, and one that says that `-m state` was meant.
    pub(super) const KNOWN: u16 = (1 << 14) - 1;
}

/// XT_CONNTRACK_STATE_*, beside those that nft has.
const STATE_SNAT: u32 = 1 << 6;
const STATE_DNAT: u32 = 1 << 7;
const STATE_UNTRACKED: u32 = 1 << 8;

/// The four tuple sides, in the order of the struct: the key for the address, that for the port, the direction.
const SIDES: [(CtKey, CtKey, bool); 4] = [
    (CtKey::Src, CtKey::ProtoSrc, false),
    (CtKey::Dst, CtKey::ProtoDst, false),
    (CtKey::Src, CtKey::ProtoSrc, true),
    (CtKey::Dst, CtKey::ProtoDst, true),
];

/// `-m conntrack`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Conntrack {
    /// XT_CONNTRACK_*.
    asked: u16,
    inverted: u16,
    states: u16,
    statuses: u16,
    protocol: u16,
    /// Value and mask.
    addresses: [([u8; 16], [u8; 16]); 4],
    /// First and last.
    ports: [(u16, u16); 4],
    /// In seconds.
    expires: (u32, u32),
}

impl Conntrack {
    pub(super) fn decode(revision: u32, info: &[u8]) -> Option<Self> {
        let size = match revision {
            1 => 152,
            2 => 156,
            3 => 164,
            _ => return None,
        };
        let info = Info::of(info, size)?;
        let (states, statuses) = match revision {
            1 => (info.u8(150).into(), info.u8(151).into()),
            _ => info.pair16(150),
        };
        let port = |at: usize| match revision {
            3 => (info.u16(138 + 2 * at), info.u16(154 + 2 * at)),
            _ => (info.be16(138 + 2 * at), info.be16(138 + 2 * at)),
        };
        let asked = info.u16(146);
        (asked & !asked::KNOWN == 0).then_some(Self {
            asked,
            inverted: info.u16(148),
            states,
            statuses,
            protocol: info.u16(136),
            addresses: [0, 32, 64, 96].map(|at| (info.bytes(at), info.bytes(at + 16))),
            ports: [0, 1, 2, 3].map(port),
            expires: (info.u32(128), info.u32(132)),
        })
    }

    fn asks(&self, what: u16) -> bool {
        self.asked & what != 0
    }

    /// Whether it does not ask for `what`, or that holds, inverted or not.
    fn holds_if_asked(&self, what: u16, holds: impl FnOnce() -> Option<bool>) -> Option<bool> {
        if !self.asks(what) {
            return Some(true);
        }
        Some(holds()? != (self.inverted & what != 0))
    }

    pub(super) fn holds(&self, packet: &impl Packet) -> Option<bool> {
        let state = state(packet)?;
        let connection = state & (CtState::INVALID.0 | CtState::UNTRACKED.0) == 0;
        if !self.holds_if_asked(asked::STATE, || {
            Some(u32::from(self.states) & self.bits(state, connection, packet)? != 0)
        })? {
            return Some(false);
        }
        if !connection {
            return Some(self.asks(asked::STATE));
        }
        let is_original = || match packet.ct(CtKey::Direction, None) {
            Fact::U8(direction) => Some(direction == 0),
            _ => None,
        };
        if !self.holds_if_asked(asked::DIRECTION, is_original)? {
            return Some(false);
        }
        for (at, (key, _, reply)) in SIDES.into_iter().enumerate() {
            if !self.holds_if_asked(asked::ADDRESSES << at, || self.has_address(at, key, reply, packet))? {
                return Some(false);
            }
        }
        let has_protocol = || match packet.ct(CtKey::Protocol, None) {
            Fact::U8(protocol) => Some(u16::from(protocol) == self.protocol),
            _ => None,
        };
        if !self.holds_if_asked(asked::PROTO, has_protocol)? {
            return Some(false);
        }
        for (at, (_, key, reply)) in SIDES.into_iter().enumerate() {
            let within = || match packet.ct(key, Some(reply)) {
                Fact::Bytes2(port) => {
                    let (first, last) = self.ports[at];
                    Some((first..=last).contains(&u16::from_be_bytes(port)))
                }
                _ => None,
            };
            if !self.holds_if_asked(asked::PORTS << at, within)? {
                return Some(false);
            }
        }
        let has_status = || Some(u32::from(self.statuses) & status(packet)? != 0);
        if !self.holds_if_asked(asked::STATUS, has_status)? {
            return Some(false);
        }
        self.holds_if_asked(asked::EXPIRES, || match packet.ct(CtKey::Expiration, None) {
            Fact::U32(milliseconds) => {
                let (least, most) = self.expires;
                Some((least..=most).contains(&(milliseconds / 1000)))
            }
            _ => None,
        })
    }

    /// The bits that the packet's state and what NAT did to its connection have in the struct.
    fn bits(&self, state: u32, connection: bool, packet: &impl Packet) -> Option<u32> {
        if state == CtState::UNTRACKED.0 {
            return Some(STATE_UNTRACKED);
        }
        let mut bits = state;
        if connection && u32::from(self.states) & (STATE_SNAT | STATE_DNAT) != 0 {
            let status = status(packet)?;
            for (of, bit) in [(Status::SRC_NAT, STATE_SNAT), (Status::DST_NAT, STATE_DNAT)] {
                if status & u32::from(of.0) != 0 {
                    bits |= bit;
                }
            }
        }
        Some(bits)
    }

    fn has_address(&self, at: usize, key: CtKey, reply: bool, packet: &impl Packet) -> Option<bool> {
        let (value, mask) = &self.addresses[at];
        let is = |address: &[u8]| {
            let bytes = address.iter().zip(value.iter().zip(mask));
            bytes.fold(0, |differs, (is, (wanted, mask))| differs | (is ^ wanted) & mask) == 0
        };
        match packet.ct(key, Some(reply)) {
            Fact::Bytes4(address) => Some(is(&address)),
            Fact::Bytes16(address) => Some(is(&address)),
            _ => None,
        }
    }

    pub(super) fn depends(&self) -> Depends {
        let status = self.asks(asked::STATUS) && !is_constant_status(self.statuses.into());
        match status || self.asks(asked::EXPIRES) {
            true => Depends::Packet,
            false => Depends::Flow,
        }
    }

    /// Whether it asks for ports, which are not known of what has none.
    pub(super) fn asks_ports(&self) -> bool {
        self.asks(0xf * asked::PORTS)
    }

    /// Whether it looks whether the connection is assured.
    pub(super) fn asks_assured(&self) -> bool {
        self.asks(asked::STATUS) && self.statuses & Status::ASSURED.0 != 0
    }
}

/// `-m state`: these of nft's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State(u32);

impl State {
    pub(super) fn decode(revision: u32, info: &[u8]) -> Option<Self> {
        let info = Info::of(info, 4)?;
        (revision == 0).then_some(Self(info.u32(0)))
    }

    pub(super) fn holds(self, packet: &impl Packet) -> Option<bool> {
        Some(state(packet)? & self.0 != 0)
    }
}

/// `-m connmark`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connmark {
    mark: u32,
    mask: u32,
    inverted: bool,
}

impl Connmark {
    pub(super) fn decode(revision: u32, info: &[u8]) -> Option<Self> {
        let info = Info::of(info, 12)?;
        (revision == 1).then_some(Self {
            mark: info.u32(0),
            mask: info.u32(4),
            inverted: info.flag(8)?,
        })
    }

    pub(super) fn holds(self, packet: &impl Packet) -> Option<bool> {
        match packet.ct(CtKey::Mark, None) {
            Fact::U32(mark) => Some((mark & self.mask == self.mark) != self.inverted),
            Fact::Absent => Some(false),
            _ => None,
        }
    }
}

/// What `-j CONNMARK` does with marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum MarkDo {
    /// To the connection, what the struct says.
    Set,
    /// To the connection, that of the packet.
    Save,
    /// To the packet, that of the connection.
    Restore,
}

/// `-j CONNMARK`: bits of one mark become what another one has, shifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnmarkTarget {
    act: MarkDo,
    mark: u32,
    /// Of the connection's mark, of the packet's.
    masks: (u32, u32),
    right: bool,
    bits: u8,
}

impl ConnmarkTarget {
    pub(super) fn decode(revision: u32, info: &[u8]) -> Option<Self> {
        let info = Info::of(info, 15)?;
        let (right, bits, act) = match revision {
            1 => (false, 0, info.u8(12)),
            2 => (info.flag(12)?, info.u8(13), info.u8(14)),
            _ => return None,
        };
        let act = *[MarkDo::Set, MarkDo::Save, MarkDo::Restore].get(usize::from(act))?;
        // Further the kernel's shift is undefined.
        (u32::from(bits) < u32::BITS).then_some(Self {
            act,
            mark: info.u32(0),
            masks: (info.u32(4), info.u32(8)),
            right,
            bits,
        })
    }

    fn shift(self, mark: u32) -> u32 {
        if self.right {
            mark >> self.bits
        } else {
            mark << self.bits
        }
    }

    pub(super) fn says(self, packet: &mut impl Packet) -> Said {
        let of_connection = match packet.ct(CtKey::Mark, None) {
            Fact::U32(mark) => mark,
            Fact::Absent => return Said::On,
            _ => return Said::Unknown,
        };
        let Fact::U32(of_packet) = packet.meta(MetaKey::Mark) else {
            return Said::Unknown;
        };
        let (of_connections, of_packets) = self.masks;
        let mark = match self.act {
            MarkDo::Set => self.shift(of_connection & !of_connections ^ self.mark),
            MarkDo::Save => of_connection & !of_connections ^ self.shift(of_packet & of_packets),
            MarkDo::Restore => {
                let mark = of_packet & !of_packets ^ self.shift(of_connection & of_connections);
                return packet.set_meta(MetaKey::Mark, mark.to_ne_bytes()).into();
            }
        };
        let mut value = [0; 16];
        value[..4].copy_from_slice(&mark.to_ne_bytes());
        packet.set_ct(CtKey::Mark, None, value).into()
    }
}

/// The packet's, as nft numbers it.
fn state(packet: &impl Packet) -> Option<u32> {
    match packet.ct(CtKey::State, None) {
        Fact::U32(state) => Some(state),
        _ => None,
    }
}

fn status(packet: &impl Packet) -> Option<u32> {
    match packet.ct(CtKey::Status, None) {
        Fact::U32(status) => Some(status),
        _ => None,
    }
}
