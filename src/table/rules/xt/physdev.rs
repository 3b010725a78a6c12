//! `-m physdev`: by which ports of a bridge does a packet of IP come in and leave? As net/netfilter/xt_physdev.c.
//!
//! Only what br_netfilter has shown to the hooks of IP has such ports: what is bridged has both from forward on, what goes up
//! from a bridge and is routed keeps the one that it came in by. Of all others every question is answered by no.

use super::info::Info;
use crate::table::rules::carried::Depends;
use crate::table::rules::packet::Packet;

/// XT_PHYSDEV_OP_*
mod ask {
    pub(super) const IN: u8 = 1 << 0;
    pub(super) const OUT: u8 = 1 << 1;
    pub(super) const BRIDGED: u8 = 1 << 2;
    pub(super) const IS_IN: u8 = 1 << 3;
    pub(super) const IS_OUT: u8 = 1 << 4;
    pub(super) const ALL: u8 = 0x1f;
}

/// What is asked, and which answers are turned round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Physdev {
    input: Name,
    output: Name,
    inverted: u8,
    asked: u8,
}

/// A name, as far as its mask says: up to a `+`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Name {
    bytes: [u8; 16],
    mask: [u8; 16],
}

impl Name {
    fn at(info: &[u8], at: usize) -> Option<Self> {
        Some(Self {
            bytes: *info.get(at..)?.first_chunk()?,
            mask: *info.get(at + 16..)?.first_chunk()?,
        })
    }

    fn is(&self, name: &str) -> bool {
        let other = |at: usize| name.as_bytes().get(at).copied().unwrap_or(0);
        let mut each = self.bytes.iter().zip(self.mask).enumerate();
        each.all(|(at, (byte, mask))| (byte ^ other(at)) & mask == 0)
    }
}

impl Physdev {
    pub(super) fn decode(revision: u32, bytes: &[u8]) -> Option<Self> {
        let info = Info::of(bytes, 66)?;
        let (inverted, asked) = (info.u8(64), info.u8(65));
        (revision == 0 && asked & !ask::ALL == 0).then_some(Self {
            input: Name::at(bytes, 0)?,
            output: Name::at(bytes, 32)?,
            inverted,
            asked,
        })
    }

    pub(super) fn holds(self, packet: &impl Packet) -> bool {
        let Some((input, output)) = packet.physdevs() else {
            return self.asked & !self.inverted == 0;
        };
        let is = |question: u8, answer: bool| self.asked & question == 0 || answer != (self.inverted & question != 0);
        is(ask::BRIDGED, output.is_some())
            && is(ask::IS_IN, true)
            && is(ask::IS_OUT, output.is_some())
            && is(ask::IN, self.input.is(input))
            // Turned round, too, it holds for no packet without such a port.
            && (self.asked & ask::OUT == 0 || output.is_some_and(|output| is(ask::OUT, self.output.is(output))))
    }

    /// By which link the packets of a flow come is constant; by which port of a bridge is not, where they are routed.
    pub(super) fn depends(self) -> Depends {
        match self.asked & ask::IN {
            0 => Depends::Flow,
            _ => Depends::Packet,
        }
    }
}
